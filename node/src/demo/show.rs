//! What the demonstration prints: numbered steps with seconds, tables, answers with the paid words marked; plain lines outside a terminal.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

use crate::output::table;

/// Columns that text is wrapped to.
const WIDTH: usize = 100;
/// Marks around words that somebody is paid for.
const MARKS: (char, char) = ('«', '»');
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PAID: &str = "\x1b[1;36m";
const PLAIN: &str = "\x1b[0m";

/// The display and its clock.
#[derive(Debug)]
pub struct Show {
    started: Instant,
    is_styled: bool,
    of: usize,
    number: usize,
    current: Option<(&'static str, Instant)>,
    seconds: BTreeMap<&'static str, f64>,
}

impl Show {
    /// A display of `of` steps, starting now.
    pub fn new(of: usize) -> Self {
        let is_styled = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { started: Instant::now(), is_styled, of, number: 0, current: None, seconds: BTreeMap::new() }
    }

    /// Begins a step: `key` names it in the summary, `title` on the screen.
    pub fn step(&mut self, key: &'static str, title: &str) {
        self.end_step();
        self.number += 1;
        self.current = Some((key, Instant::now()));
        let (number, of, at) = (self.number, self.of, self.elapsed());
        if self.is_styled {
            put(&format!("\n{BOLD}{number:>2}/{of}  {title}{PLAIN}  {DIM}{at:.1} s{PLAIN}"));
        } else {
            put(&format!("\n[{at:6.1} s] {number}/{of} {title}"));
        }
    }

    /// Ends the step under way; its seconds are kept.
    pub fn end_step(&mut self) {
        if let Some((key, since)) = self.current.take() {
            *self.seconds.entry(key).or_default() += since.elapsed().as_secs_f64();
        }
    }

    /// A line of the current step.
    pub fn line(&self, text: &str) {
        put(&format!("       {text}"));
    }

    /// A table of the current step.
    pub fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        for line in table(header, rows).lines() {
            self.line(line);
        }
    }

    /// A question, its answer with the paid words marked, and a line for each source.
    pub fn answer(&self, question: &str, about: &str, marked: &str, sources: &[String]) {
        put("");
        self.line(&format!("Q  {question}"));
        for (first, line) in std::iter::once(true).chain(std::iter::repeat(false)).zip(self.styled(&wrap(marked, WIDTH))) {
            self.line(&format!("{}  {line}", if first { "A" } else { " " }));
        }
        for line in sources.iter().map(String::as_str).chain([about]) {
            self.line(&if self.is_styled { format!("   {DIM}{line}{PLAIN}") } else { format!("   {line}") });
        }
    }

    /// Colours what stands between the marks, also across lines.
    fn styled(&self, lines: &[String]) -> Vec<String> {
        if !self.is_styled {
            return lines.to_vec();
        }
        let mut is_paid = false;
        let colour = |line: &String| {
            let mut out = if is_paid { PAID.to_owned() } else { String::new() };
            for letter in line.chars() {
                match letter {
                    letter if letter == MARKS.0 => {
                        is_paid = true;
                        out.push_str(PAID);
                        out.push(letter);
                    }
                    letter if letter == MARKS.1 => {
                        is_paid = false;
                        out.push(letter);
                        out.push_str(PLAIN);
                    }
                    letter => out.push(letter),
                }
            }
            if is_paid {
                out.push_str(PLAIN);
            }
            out
        };
        lines.iter().map(colour).collect()
    }

    /// Seconds since the start.
    pub fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Seconds of each step that has ended.
    pub const fn seconds(&self) -> &BTreeMap<&'static str, f64> {
        &self.seconds
    }
}

/// Marks byte ranges of `text`, numbered from 1; ranges do not overlap and end at characters.
pub fn marked(text: &str, spans: &[(usize, usize)]) -> String {
    let mut ordered: Vec<(usize, (usize, usize))> = spans.iter().copied().enumerate().collect();
    ordered.sort_by_key(|(_, (start, _))| *start);
    let (mut out, mut at) = (String::new(), 0);
    for (number, (start, length)) in ordered {
        let end = start.saturating_add(length);
        let (Some(before), Some(paid)) = (text.get(at..start), text.get(start..end)) else { continue };
        out.push_str(&format!("{before}{}{paid}{}[{}]", MARKS.0, MARKS.1, number + 1));
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// Breaks text at blanks into lines of at most `width` characters; a longer word stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// Prints a line; a reader that has gone away has seen enough.
fn put(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paid_words_are_marked_in_their_places_and_numbered_as_given() {
        assert_eq!(marked("a gout, an ataxia", &[(11, 6), (2, 4)]), "a «gout»[2], an «ataxia»[1]");
        assert_eq!(marked("ü", &[(1, 1), (0, 9)]), "ü");
    }

    #[test]
    fn colours_go_on_over_a_line_break_and_never_leak() {
        let show = Show { is_styled: true, ..Show::new(1) };
        let lines = show.styled(&["x «a".into(), "b» y".into()]);
        assert_eq!(lines, [format!("x {PAID}«a{PLAIN}"), format!("{PAID}b»{PLAIN} y")]);
    }

    #[test]
    fn text_is_wrapped_at_blanks() {
        assert_eq!(wrap("aa bb cc\ndddddd e", 5), ["aa bb", "cc", "dddddd", "e"]);
    }

    #[test]
    fn seconds_are_kept_by_step() {
        let mut show = Show::new(2);
        show.step("one", "first");
        show.step("two", "second");
        assert_eq!(show.seconds().keys().copied().collect::<Vec<_>>(), ["one"]);
        show.end_step();
        assert_eq!(show.seconds().len(), 2);
    }
}
