//! The layout of a Hugging Face dataset repository: `README.md`, whose front matter is YAML with the card, and `data/*.parquet`.
//!
//! Of YAML so much is read as such cards use: keys at the left margin with a scalar, a list in brackets, or a list of lines that begin with a dash; below
//! `configs` the paths of the first one, and the names of the others. `private: true` and `private: false` are ours: members alone may read it, or everybody ([`privacy`]). Anything else is passed over, never guessed at. Licences are Hugging Face's names (SPDX in lower case); what it
//! has no name for stands as `other` with `license_name`.

use super::{
    Card, Licence,
    croissant::{DescribeError, Described, DescribedFile, beside, licence_of, slug},
    read::Columns,
};

/// Longest README that is read.
pub const README_BYTES_MAX: u64 = 1 << 20;

/// Names that are neither SPDX's nor unknown.
const LICENCES: [(&str, &str); 4] = [("odbl", "ODbL-1.0"), ("pddl", "PDDL-1.0"), ("zlib", "Zlib"), ("unlicense", "Unlicense")];
const SIZES: [(u64, &str); 7] = [
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
];

/// The README of a dataset of `documents` documents in `data/*.parquet`.
pub fn readme(card: &Card, documents: u64) -> String {
    let list = |key: &str, values: &[String]| {
        let lines: String = values.iter().map(|value| format!("- {}\n", quoted(value))).collect();
        if values.is_empty() { String::new() } else { format!("{key}:\n{lines}") }
    };
    let licence = card.licence().as_str();
    let licence = match spdx::license_id(licence) {
        Some(_) => format!("license: {}\n", licence.to_ascii_lowercase()),
        None => format!("license: other\nlicense_name: {}\n", quoted(licence)),
    };
    let size = SIZES.iter().find(|(below, _)| documents < *below).map_or("1B<n<10B", |(_, name)| name);
    format!(
        "---\npretty_name: {name}\n{licence}{private}{languages}{tags}size_categories:\n- {size}\ntask_categories:\n- text-generation\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.parquet\n---\n\n# {name}\n\n{description}\n",
        name = card.name(),
        // Said of open ones too, so that an export from which it was lost is known to have lost it.
        private = format_args!("private: {}\n", card.is_private()),
        languages = list("language", card.languages()),
        tags = list("tags", card.tags()),
        description = card.description(),
    )
}

/// A scalar that no YAML reader takes for anything but a string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}

/// Reads a README. `folder`, the repository's name, stands in for a `pretty_name`.
///
/// # Errors
/// [`DescribeError`] if it has no front matter, or names files elsewhere.
pub fn read(text: &str, folder: &str) -> Result<Described, DescribeError> {
    let bad = |problem: &str| DescribeError::Format { format: "Hugging Face", problem: problem.into() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let front = text.strip_prefix("---\n").ok_or_else(|| bad("README.md does not begin with front matter (---)"))?;
    let (front, body) = match front.find("\n---\n") {
        Some(end) => (&front[..=end], &front[end + 5..]),
        None => (front.strip_suffix("\n---").ok_or_else(|| bad("the front matter of README.md does not end (---)"))?, ""),
    };
    let one = |key: &str| values(front, key).into_iter().next();
    let name = one("pretty_name").unwrap_or_else(|| folder.to_owned());
    let (paths, others) = configs(front);
    let files = paths.into_iter().map(|path| Ok(DescribedFile { path: beside(&path)?, bytes: None, sha256: None }));
    let files = files.collect::<Result<Vec<_>, DescribeError>>()?;
    let languages = values(front, "language").into_iter().filter(|language| language.len() <= 35).collect();
    Ok(Described {
        description: description(body, &name),
        name,
        licence: licence(front),
        languages,
        tags: values(front, "tags"),
        files,
        columns: Columns::default(),
        is_private: privacy(&text)?,
        others: others.into_iter().map(|name| format!("configuration {name}")).collect(),
    })
}

fn licence(front: &str) -> Option<Licence> {
    let named = |name: &str| {
        let known = LICENCES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
        let known = known.and_then(|known| known.parse().ok());
        let listed = || spdx::identifiers::LICENSES.iter().any(|known| known.name.eq_ignore_ascii_case(name));
        known.or_else(|| if listed() { licence_of(name) } else { format!("LicenseRef-{}", slug(name)).parse().ok() })
    };
    match &values(front, "license")[..] {
        [] => None,
        [one] if ["other", "unknown"].contains(&one.as_str()) => {
            let name = values(front, "license_name").into_iter().next()?;
            // What is no expression is somebody's own licence.
            name.parse().ok().filter(|_| name.contains(|letter: char| letter.is_ascii_uppercase())).or_else(|| named(&name))
        }
        all => {
            let all: Option<Vec<String>> = all.iter().map(|name| named(name).map(|licence: Licence| licence.to_string())).collect();
            all?.join(" AND ").parse().ok()
        }
    }
}

/// The text below the front matter, without a heading that only repeats the name.
fn description(body: &str, name: &str) -> String {
    let body = body.trim();
    let body = body.strip_prefix(&format!("# {name}")).filter(|rest| rest.is_empty() || rest.starts_with('\n')).unwrap_or(body).trim();
    let end = body.floor_char_boundary(super::DESCRIPTION_BYTES_MAX.min(body.len()));
    body[..end].trim_end().to_owned()
}

/// Every way in which YAML 1.1 writes a boolean, of which 1.2 has the first three of each.
const TRUE: [&str; 11] = ["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"];
const FALSE: [&str; 11] = ["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"];
const PRIVATE: &str = "private";

/// Who may read what a README describes: `private`, at the left margin of its front matter, as YAML writes booleans; nothing where no such key stands.
///
/// A private Datanet would be open to everybody if the word were passed over, so it is looked for wherever it may be meant for a key: quoted, indented, between braces, with a tag, in other letters.
/// What is not one clear line is refused. A README without front matter states nothing.
///
/// # Errors
/// [`DescribeError::Privacy`] with the line.
pub fn privacy(text: &str) -> Result<Option<bool>, DescribeError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace(['\r', '\u{85}', '\u{2028}', '\u{2029}'], "\n");
    let mut lines = (1..).zip(text.lines()).skip_while(|(_, line)| line.trim().is_empty());
    if lines.next().is_none_or(|(_, line)| line.trim_end() != "---") {
        return Ok(None);
    }
    let front: Vec<(usize, &str)> = lines.take_while(|(_, line)| *line != "---").collect();
    let unclear = |(number, line): (usize, &str)| DescribeError::Privacy {
        place: format!("line {number} of README.md"),
        got: line.chars().take(100).collect(),
        fix: "private: true (members alone) or private: false (everybody), once, at the left margin of the front matter",
    };
    let (mut stated, mut elsewhere, mut has_braces) = (None, None, false);
    for (at, &(number, line)) in front.iter().enumerate() {
        match key_of(line, has_braces) {
            Key::Margin(value) => {
                let goes_on = front[at + 1..].iter().map(|(_, next)| *next).find(|next| !next.trim().is_empty());
                let goes_on = goes_on.is_some_and(|next| next.starts_with([' ', '\t']) && !next.trim_start().starts_with('#'));
                let is = boolean(value).filter(|_| stated.is_none() && !goes_on).ok_or_else(|| unclear((number, line)))?;
                stated = Some(is);
            }
            Key::Elsewhere => elsewhere = elsewhere.or(Some((number, line))),
            Key::None => {}
        }
        has_braces |= line.contains('{');
    }
    match (stated, elsewhere) {
        // What stands further in is of something else, once it is said at the margin.
        (Some(is), _) => Ok(Some(is)),
        (None, Some(line)) => Err(unclear(line)),
        (None, None) => Ok(None),
    }
}

/// Where a line has the key `private`.
enum Key<'l> {
    /// At the left margin, with what stands behind its colon.
    Margin(&'l str),
    /// Where it may be one for all that is known.
    Elsewhere,
    None,
}

fn key_of(line: &str, has_braces: bool) -> Key<'_> {
    // A quoted key may be written in escapes: which one it is then, nobody looks up.
    let begins = line.trim_start_matches([' ', '\t', '-', '?', '{', ',']);
    if begins.starts_with('"') && begins.split(':').next().is_some_and(|key| key.contains('\\')) {
        return Key::Elsewhere;
    }
    let is_letter = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-');
    // Of the same length, so that places in it are places in the line.
    let folded = line.to_ascii_lowercase();
    let mut found = Key::None;
    for (at, _) in folded.match_indices(PRIVATE) {
        let (before, after) = (&line[..at], &line[at + PRIVATE.len()..]);
        if before.ends_with(|letter: char| is_letter(letter) && letter != '-') || after.starts_with(is_letter) {
            continue;
        }
        let quote = before.chars().next_back().filter(|letter| matches!(letter, '"' | '\''));
        let (before, after) = match quote {
            Some(quote) => match after.strip_prefix(quote) {
                Some(after) => (&before[..before.len() - 1], after),
                None => continue,
            },
            None => (before, after),
        };
        let value = after.trim_start().strip_prefix(':');
        match value {
            Some(value) if before.is_empty() => return Key::Margin(value),
            _ if before.trim_start().starts_with('?') => found = Key::Elsewhere,
            Some(_) if may_lead_a_key(before, has_braces) => found = Key::Elsewhere,
            _ => {}
        }
    }
    found
}

/// Whether a key may follow: nothing stands before it but blanks, dashes, tags and anchors, or a brace or comma of a mapping.
fn may_lead_a_key(before: &str, has_braces: bool) -> bool {
    let before = before.trim();
    before.ends_with('{')
        || (before.ends_with(',') && (has_braces || before.contains('{')))
        || before.split_whitespace().all(|word| word.starts_with(['!', '&', '-', '?', '{', ',']))
}

/// A boolean as YAML writes it, quoted or not, with a comment behind it or none.
fn boolean(value: &str) -> Option<bool> {
    // A colon without a blank behind it is none, but behind a quoted key.
    let value = value.strip_prefix([' ', '\t'])?.trim();
    let (word, rest) = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split_once(quote)?,
        _ => value.split_at(value.find([' ', '\t']).unwrap_or(value.len())),
    };
    let is_whole = rest.is_empty() || (rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('#'));
    match word.trim() {
        word if is_whole && TRUE.contains(&word) => Some(true),
        word if is_whole && FALSE.contains(&word) => Some(false),
        _ => None,
    }
}

/// The lines that belong to a key at the left margin, its own first.
fn block<'f>(front: &'f str, key: &str) -> Vec<&'f str> {
    let is_key = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let mut lines = front.lines().skip_while(|line| !is_key(line));
    let Some(first) = lines.next() else { return Vec::new() };
    let is_inside = |line: &&str| line.starts_with([' ', '-', '\t']) || line.trim().is_empty();
    std::iter::once(&first[key.len() + 1..]).chain(lines.take_while(is_inside)).collect()
}

/// The scalars of a key: one, or a list of them.
fn values(front: &str, key: &str) -> Vec<String> {
    let block = block(front, key);
    let Some((first, lines)) = block.split_first() else { return Vec::new() };
    let first = uncommented(first);
    match first.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(list) => list.split(',').filter_map(scalar).collect(),
        None if first.is_empty() => lines
            .iter()
            .filter_map(|line| line.trim_start().strip_prefix("- "))
            .filter(|item| !item.contains(": "))
            .filter_map(scalar)
            .collect(),
        None => scalar(first).into_iter().collect(),
    }
}

fn uncommented(text: &str) -> &str {
    let text = text.trim();
    if text.starts_with(['"', '\'']) { text } else { text.split(" #").next().unwrap_or_default().trim_end() }
}

/// A plain or quoted scalar; nothing of null, blocks and references.
fn scalar(text: &str) -> Option<String> {
    let text = uncommented(text);
    let value = match text.as_bytes() {
        [b'"', .., b'"'] => serde_json::from_str(text).ok()?,
        [b'\'', .., b'\''] => text[1..text.len() - 1].replace("''", "'"),
        [b'|' | b'>' | b'&' | b'*' | b'!' | b'{' | b'[' | b'"' | b'\'', ..] => return None,
        _ if text == "null" || text == "~" => return None,
        _ => text.to_owned(),
    };
    Some(value).filter(|value| !value.is_empty())
}

/// Paths of the first configuration's data files, and the names of the other configurations.
fn configs(front: &str) -> (Vec<String>, Vec<String>) {
    let block = block(front, "configs");
    let (mut paths, mut others) = (Vec::new(), Vec::new());
    let (mut configs, mut is_list) = (0, false);
    for line in block.iter().skip(1) {
        let item = line.trim_start().trim_start_matches("- ").trim_start();
        let name = item.strip_prefix("config_name:");
        configs += u32::from(name.is_some());
        if configs > 1 {
            others.extend(name.map(|name| scalar(name).unwrap_or_else(|| "without a name".to_owned())));
            continue;
        }
        if let Some(folder) = item.strip_prefix("data_dir:").and_then(scalar) {
            paths.push(format!("{}/**", folder.trim_end_matches('/')));
            continue;
        }
        let value = item.strip_prefix("path:").or_else(|| item.strip_prefix("data_files:")).map(uncommented);
        match value {
            Some("") => is_list = true,
            Some(value) => {
                is_list = false;
                let list = value.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
                paths.extend(
                    list.map_or_else(|| scalar(value).into_iter().collect::<Vec<_>>(), |list| list.split(',').filter_map(scalar).collect()),
                );
            }
            None if is_list && line.trim_start().starts_with("- ") && !item.contains(": ") => paths.extend(scalar(item)),
            None => is_list &= item.contains(':'),
        }
    }
    (paths, others)
}

/// Most stars of a pattern: each may cost as many tries as the path has letters.
const STARS_MAX: usize = 5;

/// Whether `path` is one that `pattern` means: `*` stands for letters of one part, `**` for any. More than five stars match nothing.
pub fn is_match(pattern: &str, path: &str) -> bool {
    pattern.matches('*').count() <= STARS_MAX && matches(pattern, path)
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => {
            let Some(rest) = path.strip_prefix(before) else { return false };
            let (is_deep, after) = after.strip_prefix('*').map_or((false, after), |after| (true, after.strip_prefix('/').unwrap_or(after)));
            let end = if is_deep { rest.len() } else { rest.find('/').unwrap_or(rest.len()) };
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).take_while(|at| *at <= end);
            ends.into_iter().any(|at| matches(after, &rest[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn card(licence: &str) -> Card {
        let (languages, tags) = (vec!["en".into(), "zh-Hant".into()], vec!["sea".into()]);
        Card::new("tides".parse().unwrap(), "Of the *sea*:\n\n- ebb\n- flow".into(), licence.parse().unwrap(), languages, tags).unwrap()
    }

    #[test]
    fn a_card_goes_out_and_comes_back() {
        for licence in ["CC-BY-4.0", "Apache-2.0", "MIT OR Apache-2.0", "LicenseRef-HPO", "GPL-2.0-only WITH Classpath-exception-2.0"] {
            let text = readme(&card(licence), 12_345);
            let read = read(&text, "folder").unwrap();
            assert_eq!(read.card(None, None).unwrap(), card(licence), "{text}");
            assert_eq!(read.files[0].path, "data/*.parquet");
            assert!(text.contains("- 10K<n<100K\n"), "{text}");
        }
        let private = card("CC-BY-4.0").with_privacy(true);
        assert_eq!(
            read(&readme(&private, 7), "folder").unwrap().card(None, None).unwrap(),
            private,
            "it stays private without our manifest"
        );
        assert!(readme(&card("CC-BY-4.0"), 0).contains("\nlicense: cc-by-4.0\n"));
        assert!(readme(&card("MIT OR Apache-2.0"), 0).contains("\nlicense: other\nlicense_name: \"MIT OR Apache-2.0\"\n"));
    }

    fn stated(front: &str) -> Result<Option<bool>, String> {
        let text = format!("---\nlicense: mit\n{front}\ntags: []\n---\nprivate: true\n");
        let found = privacy(&text).map_err(|error| error.to_string());
        let read = read(&text, "x").map(|described| described.is_private).map_err(|error| error.to_string());
        assert_eq!(found, read, "{front}");
        found
    }

    #[test]
    fn every_spelling_of_a_boolean_says_who_may_read() {
        for (words, is) in [(TRUE, true), (FALSE, false)] {
            for word in words {
                for line in [
                    format!("private: {word}"),
                    format!("private:   {word}  # so"),
                    format!("private:\t{word}"),
                    format!("private : {word}"),
                    format!("private: \"{word}\""),
                    format!("private: '{word}' # so"),
                    format!("\"private\": {word}"),
                    format!("'private': {word}"),
                    format!("Private: {word}"),
                    format!("private: {word}\n\n# more"),
                    format!("private: {word}\nextra:\n  private: 7"),
                ] {
                    assert_eq!(stated(&line), Ok(Some(is)), "{line}");
                    assert_eq!(stated(&line.replace('\n', "\r\n")), Ok(Some(is)), "{line}");
                }
            }
        }
        for (text, is) in [
            ("\u{feff}---\nprivate: yes\n---\n", Some(true)),
            ("---\rlicense: mit\rprivate: yes\r---\r", Some(true)),
            ("\n\n---\nprivate: yes\n---\n", Some(true)),
            ("---\nprivate: yes", Some(true)),
            ("# Words\nprivate: yes\n", None),
            ("", None),
        ] {
            assert_eq!(privacy(text).map_err(|error| error.to_string()), Ok(is), "{text:?}");
        }
    }

    #[test]
    fn who_may_read_is_refused_with_its_line_where_it_is_not_clear() {
        for line in [
            "private:",
            "private: ~",
            "private: null",
            "private: 1",
            "private: maybe",
            "private: tRue",
            "private: !!bool yes",
            "private: &a yes",
            "private: [yes]",
            "private:yes",
            "private: yes no",
            "private: \"yes",
            "private: no#t",
            "private: no\n  t at all",
            "private:\n  yes",
            "private: no\nprivate: yes",
            "private: yes\n\"private\": yes",
            "  private: yes",
            "access:\n  private: yes",
            "access: {private: yes}",
            "access: {a: b, private: yes}",
            "access: {a: b,\n  private: yes}",
            "{private: yes}",
            "? private\n: yes",
            "!!str private: yes",
            "&a private: yes",
            "- private: yes",
            "\"\\x70rivate\": yes",
        ] {
            let error = stated(line).unwrap_err();
            assert!(error.contains("of README.md says") && error.contains("private: true (members alone)"), "{line}: {error}");
        }
        assert!(stated("a: b\nprivate: maybe").unwrap_err().contains("line 4 of README.md says \"private: maybe\""));
        for line in [
            "a: b",
            "is_private: yes",
            "private-eye: yes",
            "a: private",
            "description: 'private: no'",
            "# private: yes",
            "tags:\n- private",
            "a: not private: b",
        ] {
            assert_eq!(stated(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn cards_of_others_are_understood() {
        let text = "---\r\nlicense: [apache-2.0, odbl]  # two\r\nlanguage: 'de'\ntags: [a b, \"C\"]\nannotations_creators:\n- found\nconfigs:\n- config_name: en\n  data_files:\n  - split: train\n    path:\n    - en/train-*.parquet\n    - en/more.parquet\n  - split: test\n    path: \"en/test.csv\"\n- config_name: de\n  data_files: de.csv\ndataset_info:\n  features:\n  - name: text\n---\nWords.";
        let read = read(text, "My-Repo").unwrap();
        let card = read.card(None, None).unwrap();
        assert_eq!((card.name().as_str(), card.licence().as_str()), ("my-repo", "Apache-2.0 AND ODbL-1.0"));
        assert_eq!((card.languages(), card.tags(), card.description()), (&["de".into()][..], &["a-b".into(), "c".into()][..], "Words."));
        let paths: Vec<_> = read.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["en/train-*.parquet", "en/more.parquet", "en/test.csv"]);
        assert_eq!(read.others, ["configuration de"]);
        let folder = super::read("---\nconfigs:\n- config_name: a\n  data_dir: rows/\n---\n", "x").unwrap();
        assert_eq!(folder.files[0].path, "rows/**");
        let licence = |lines: &str| super::read(&format!("---\n{lines}\n---\n"), "x").unwrap().licence.map(|licence| licence.to_string());
        assert_eq!(licence("license: other\nlicense_name: my own terms"), Some("LicenseRef-my-own-terms".into()));
        assert_eq!(licence("license: openrail"), Some("LicenseRef-openrail".into()));
        assert_eq!((licence("license: other"), licence("tags: []")), (None, None));
        assert!(super::read("# No front matter", "x").is_err() && super::read("---\nlicense: mit\n", "x").is_err());
        assert!(super::read("---\nconfigs:\n- config_name: a\n  data_files: ../up.csv\n---\n", "x").is_err());
    }

    #[test]
    fn patterns_stay_within_their_part_unless_they_say_so() {
        for (pattern, path, is) in [
            ("data/*.parquet", "data/a.parquet", true),
            ("data/*.parquet", "data/b/a.parquet", false),
            ("data/**", "data/b/a.parquet", true),
            ("**/*.csv", "b/c/a.csv", true),
            ("**/*.csv", "a.csv", true),
            ("train-*-of-*.parquet", "train-0-of-2.parquet", true),
            ("a.csv", "b.csv", false),
        ] {
            assert_eq!(is_match(pattern, path), is, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "(---\n)?([a-z_]{0,8}:? ?[\\[\\]\"'#,*-]{0,3} ?\\PC{0,6}\n| *- \\PC{0,9}\n|configs:\n){0,9}(---\n)?") {
            let _ = read(&text, "x");
        }

        #[test]
        fn a_word_of_privacy_in_any_company_never_panics(text in "---\n([ \"'{}?,!:#\\u{e9}\\u{130}-]{0,4}[Pp]rivate[ \"'}:,\\\\]{0,4}(yes|\\PC{0,4})\n){0,4}(---\n)?") {
            let _ = privacy(&text);
        }
    }
}
