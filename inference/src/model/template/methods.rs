//! Methods that templates written for Python call on texts and objects, with Python's meaning.
//!
//! None makes a text longer than its receiver; [`growth`](super::growth) weighs the list that `split` makes.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Value};

/// Most pieces of one `split`: what a conversation of a million bytes may have is far above what templates cut out of one.
const PIECES_MAX: usize = 65_536;

/// Makes the methods known to an environment, and `trim` mean what Python's `strip` does.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(|_, value, method, arguments| call(value, method, arguments));
    environment.add_filter("trim", |text: String, chars: Option<String>| strip(&text, chars.as_deref(), true, true).to_owned());
}

fn call(value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => on_text(text, method, arguments),
        None if value.kind() == ValueKind::Map && method == "get" => {
            let (key, otherwise): (&Value, Option<Value>) = from_args(arguments)?;
            let found = value.get_item(key).ok().filter(|found| !found.is_undefined());
            Ok(found.or(otherwise).unwrap_or_else(|| Value::from(())))
        }
        None => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn on_text(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (left, right) = match method {
        "strip" => (true, true),
        "lstrip" => (true, false),
        "rstrip" => (false, true),
        "startswith" | "endswith" => {
            let (piece,): (&str,) = from_args(arguments)?;
            return Ok(Value::from(if method == "startswith" { text.starts_with(piece) } else { text.ends_with(piece) }));
        }
        "split" => {
            let (separator, most): (Option<&str>, Option<usize>) = from_args(arguments)?;
            return split(text, separator, most);
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    let (chars,): (Option<&str>,) = from_args(arguments)?;
    Ok(Value::from(strip(text, chars, left, right)))
}

fn split(text: &str, separator: Option<&str>, most: Option<usize>) -> Result<Value, Error> {
    let limit = most.map_or(PIECES_MAX + 1, |most| most.saturating_add(1).min(PIECES_MAX + 1));
    let pieces: Vec<Value> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "split with an empty separator")),
        Some(separator) => text.splitn(limit, separator).map(Value::from).collect(),
        None if most.is_some() => return Err(Error::new(ErrorKind::InvalidOperation, "split by white space with a limit")),
        None => text.split(is_space).filter(|piece| !piece.is_empty()).take(limit).map(Value::from).collect(),
    };
    if pieces.len() > PIECES_MAX {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("split into more than {PIECES_MAX} pieces")));
    }
    Ok(Value::from(pieces))
}

/// Removes `chars`, or white space, from the ends that are asked for.
fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// What Python takes for white space: Unicode's, and four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        add(&mut environment);
        environment.render_str(source, minijinja::context! { t => "\u{1c} <a>x</a>y\n", m => minijinja::context! { k => 1 } })
    }

    #[test]
    fn methods_mean_what_python_says() {
        for (source, expected) in [
            ("{{ t.strip() }}|", "<a>x</a>y|"),
            ("{{ t.rstrip('\n').split('</a>')[-1] }}", "y"),
            ("{{ t.split('</a>')[0].split('<a>')[-1] }}", "x"),
            ("{{ 'a,b,c'.split(',', 1) | length }}", "2"),
            ("{{ ' a  b '.split() | join('+') }}", "a+b"),
            ("{{ 'xxa'.lstrip('x') }}{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith('ab') }}", "aTrueFalse"),
            ("{{ m.get('k') }}{{ m.get('l') }}{{ m.get('l', 2) }}", "1None2"),
            ("{{ t | trim }}|", "<a>x</a>y|"),
        ] {
            assert_eq!(render(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn what_python_has_not_or_what_has_no_bound_fails() {
        for source in
            ["{{ 'a'.split('') }}", "{{ 'a'.center(1000000000) }}", "{{ 'a'.zfill(9) }}", "{{ m.pop('k') }}", "{{ 'a'.strip(1, 2) }}"]
        {
            assert!(render(source).is_err(), "{source}");
        }
        let many = format!("{{{{ '{}'.split(',') }}}}", ",".repeat(PIECES_MAX + 1));
        assert!(render(&many).unwrap_err().to_string().contains("pieces"));
    }
}
