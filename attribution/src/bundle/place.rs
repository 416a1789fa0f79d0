//! Which field of a JSON file an error speaks of: serde names line and column only.

/// Most characters of a key that are repeated in an error.
const KEY_CHARS_MAX: usize = 60;

/// Where in an object or a list the reader stands.
enum Step {
    Key(String),
    Item(usize),
}

/// The field that `error` speaks of, with a colon behind it; empty where that is the file as a whole.
pub(super) fn of(json: &[u8], error: &serde_json::Error) -> String {
    let before = lines_before(json, error.line());
    let mut read = json.get(..before.saturating_add(error.column())).unwrap_or(json);
    // The end of an object or a list is read before a fault inside it is told.
    if let [rest @ .., b'}' | b']'] = read {
        read = rest;
    }
    let mut steps = steps(read);
    if error.to_string().starts_with("missing field") {
        steps.pop();
    }
    let path = render(&steps);
    if path.is_empty() { path } else { format!("{path}: ") }
}

/// Bytes before line `line`, counted from 1.
fn lines_before(json: &[u8], line: usize) -> usize {
    json.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum()
}

/// What is open at the end of `read`: JSON as far as its reader took it, hence no deeper than that goes.
fn steps(read: &[u8]) -> Vec<Step> {
    let mut open = Vec::new();
    let (mut at, mut is_key) = (0, false);
    while let Some(byte) = read.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let length = string_length(&read[at..]);
                if is_key && let Some(Step::Key(key)) = open.last_mut() {
                    *key = String::from_utf8_lossy(&read[at..at + length]).chars().take(KEY_CHARS_MAX).collect();
                }
                at += length + 1;
            }
            b'{' => {
                open.push(Step::Key(String::new()));
                is_key = true;
            }
            b'[' => open.push(Step::Item(0)),
            b'}' | b']' => {
                open.pop();
                is_key = false;
            }
            b':' => is_key = false,
            b',' => match open.last_mut() {
                Some(Step::Item(number)) => *number += 1,
                Some(Step::Key(_)) => is_key = true,
                None => {}
            },
            _ => {}
        }
    }
    open
}

/// Bytes up to the quotation mark that ends a string.
fn string_length(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    end.unwrap_or(text.len())
}

fn render(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(key) if path.is_empty() || key.is_empty() => path.push_str(key),
            Step::Key(key) => path.extend([".", key]),
            Step::Item(number) => path.push_str(&format!("[{number}]")),
        }
    }
    path
}
