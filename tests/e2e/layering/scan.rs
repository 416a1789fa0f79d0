//! Finds forbidden paths in Rust source without compiling it.
//!
//! Comments, strings and items behind `#[cfg(test)]` or a shell feature are blanked first; what is left becomes a list of
//! paths (`use` trees are unfolded, so `use std::{fs, io}` is seen as `std::fs`), and each path is compared with [`FORBIDDEN`].
//! Not a parser: a macro that assembles a path from pieces is not seen.

use std::fmt;

/// Paths a pure module must not name: sockets, files, clocks, threads, the process, ambient randomness, unordered tables.
///
/// A module that must not be named stands with its root and alone, because a `use` shortens it. `std::net` is about sockets: see
/// [`PLAIN_DATA`] for the part of it that is only data.
const FORBIDDEN: &[&[&str]] = &[
    &["tokio"],
    &["rayon"],
    &["std", "net"],
    &["std", "fs"],
    &["std", "env"],
    &["process", "Command"],
    &["process", "exit"],
    &["process", "abort"],
    &["process", "id"],
    &["std", "thread"],
    &["std", "os"],
    &["fs", "read"],
    &["fs", "write"],
    &["File", "open"],
    &["File", "create"],
    &["OpenOptions"],
    &["stdin"],
    &["stdout"],
    &["stderr"],
    &["Instant"],
    &["SystemTime"],
    &["thread", "spawn"],
    &["thread", "scope"],
    &["thread", "sleep"],
    &["thread_local"],
    &["thread_rng"],
    &["rand", "rng"],
    &["rand", "random"],
    &["getrandom"],
    &["OsRng"],
    &["RandomState"],
    &["HashMap"],
    &["HashSet"],
];

/// Runs of words and marks that give a forbidden thing another name, or bring in a file that was not looked at.
const ELSEWHERE: &[&[&str]] = &[
    &["std", "as"],
    &["core", "as"],
    &["std", "::", "*"],
    &["std", "::", "{", "self", "as"],
    &["extern", "crate"],
    &["#", "[", "path", "="],
    &["include", "!"],
];

/// Address types: numbers with a text form, no socket behind them.
const PLAIN_DATA: &[&str] = &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6", "AddrParseError"];

/// Features that switch a shell on; items behind them are not part of the pure core.
const SHELL_FEATURES: &[&str] = &["net", "disk", "kernels", "model", "engine", "cuda", "rpc"];

/// One forbidden path and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Counted from 1.
    pub(super) line: usize,
    /// The path as the scanner understood it.
    pub(super) path: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}` is not allowed in a pure module", self.line, self.path)
    }
}

/// What `text` names that a pure module must not name.
pub(super) fn forbidden(text: &str) -> Vec<Finding> {
    let code = Source::read(text).code;
    let tokens = tokens(&code);
    let paths =
        paths(&tokens).into_iter().filter(|(_, path)| is_forbidden(path)).map(|(line, path)| Finding { line, path: path.join("::") });
    let mut found: Vec<_> = elsewhere(&tokens).chain(paths).collect();
    found.sort_by_key(|finding| finding.line);
    found
}

/// Where the code gives a root another name or reads a file by its path.
fn elsewhere(tokens: &[(usize, String)]) -> impl Iterator<Item = Finding> {
    let is_mark = |token: &str| token.chars().all(|c| !c.is_alphanumeric() && c != '=' && c != '*' && c != '!');
    tokens.iter().enumerate().filter_map(move |(at, (line, _))| {
        let here = tokens[at..].iter().map(|(_, token)| token.as_str());
        let pattern = ELSEWHERE.iter().find(|pattern| here.clone().take(pattern.len()).eq(pattern.iter().copied()))?;
        let words: Vec<_> = pattern.iter().copied().filter(|token| !is_mark(token)).collect();
        Some(Finding { line: *line, path: words.join(" ") })
    })
}

/// Names of the child modules (`mod name;`) that exist only for tests or behind a shell feature.
pub(super) fn gated_modules(text: &str) -> Vec<String> {
    let source = Source::read(text);
    source
        .gated
        .iter()
        .filter_map(|item| {
            let words: Vec<_> = tokens(item).into_iter().map(|(_, token)| token).collect();
            let at = words.iter().position(|word| word == "mod")?;
            (words.get(at + 2).map(String::as_str) == Some(";")).then(|| words[at + 1].clone())
        })
        .collect()
}

fn is_forbidden(path: &[String]) -> bool {
    FORBIDDEN.iter().any(|pattern| {
        path.windows(pattern.len()).enumerate().any(|(at, window)| {
            let data_only = *pattern == ["std", "net"] && path.get(at + 2).is_some_and(|next| PLAIN_DATA.contains(&next.as_str()));
            window.iter().map(String::as_str).eq(pattern.iter().copied()) && !data_only
        })
    })
}

/// A file after blanking; every byte keeps its place, so line numbers stay true.
struct Source {
    code: String,
    /// The items that were blanked because of their `cfg`.
    gated: Vec<String>,
}

impl Source {
    fn read(text: &str) -> Self {
        let (commentless, code) = blank(text);
        let mut code = code;
        let mut gated = Vec::new();
        let mut from = 0;
        while let Some(start) = code[from..].find("#[cfg(").map(|at| at + from) {
            let open = start + "#[cfg".len();
            let Some(close) = matching(&code, open) else { break };
            from = close + 1;
            if excludes(&commentless[open + 1..close]) {
                let end = item_end(&code, close + 2);
                gated.push(code[close + 2..end].to_owned());
                code.replace_range(start..end, &hollow(&code[start..end]));
                from = end;
            }
        }
        Self { code, gated }
    }
}

/// Whether a `cfg` predicate leaves the item out of the pure core.
fn excludes(predicate: &str) -> bool {
    let bare: String = predicate.split_whitespace().collect();
    let bare = bare.trim_end_matches(',');
    let parts = bare.strip_prefix("all(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(bare);
    parts.split(',').any(|part| part == "test" || SHELL_FEATURES.iter().any(|feature| part == format!("feature=\"{feature}\"")))
}

/// Index of the bracket that closes the one at `open`.
fn matching(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where what follows a `cfg` attribute ends.
fn item_end(code: &str, from: usize) -> usize {
    let keyword = keyword(&code[from..]);
    let ends_at_brace = matches!(
        keyword,
        "mod" | "fn" | "impl" | "struct" | "enum" | "trait" | "async" | "unsafe" | "extern" | "union" | "macro_rules" | "{"
    );
    let ends_at_semicolon = matches!(keyword, "use" | "let" | "const" | "static" | "type");
    let mut at = from;
    while let Some(byte) = code.as_bytes().get(at) {
        match byte {
            b'{' if ends_at_brace => return matching(code, at).map_or(code.len(), |close| close + 1),
            b'(' | b'[' | b'{' => at = matching(code, at).unwrap_or(code.len()),
            b';' => return at + 1,
            // A field, an argument or a match arm.
            b',' if !ends_at_brace && !ends_at_semicolon => return at + 1,
            b'}' | b')' | b']' => return at,
            _ => {}
        }
        at += 1;
    }
    code.len()
}

/// The first word (or mark) behind attributes and visibility.
fn keyword(item: &str) -> &str {
    let mut rest = item.trim_start();
    loop {
        let skipped = if rest.starts_with("#[") {
            matching(rest, 1).map_or(rest.len(), |close| close + 1)
        } else if rest.starts_with("pub(") {
            matching(rest, 3).map_or(rest.len(), |close| close + 1)
        } else if rest.starts_with("pub ") {
            "pub ".len()
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            return &rest[..end.max(rest.len().min(1))];
        };
        rest = rest[skipped..].trim_start();
    }
}

/// `text` without comments, and the same also without the contents of strings and character literals.
fn blank(text: &str) -> (String, String) {
    let (mut commentless, mut code) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, is_comment, is_literal) = match literal(rest, text.len() - rest.len(), text) {
            Some(length) => (length, false, true),
            None if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), true, false),
            None if rest.starts_with("/*") => (block_comment(rest), true, false),
            None => (first.len_utf8(), false, false),
        };
        let piece = &rest[..length];
        let blanked = hollow(piece);
        commentless.push_str(if is_comment { &blanked } else { piece });
        code.push_str(if is_comment || is_literal { &blanked } else { piece });
        rest = &rest[length..];
    }
    (commentless, code)
}

/// As many bytes of nothing, with the line breaks kept.
fn hollow(piece: &str) -> String {
    piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..(at + 2).min(rest.len())] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length of the string or character literal at the front of `rest`, which stands at `at` in `text`.
fn literal(rest: &str, at: usize, text: &str) -> Option<usize> {
    let after_word = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if !after_word {
        let prefix = ["br", "cr", "r"]
            .into_iter()
            .find(|prefix| rest.strip_prefix(prefix).is_some_and(|raw| raw.trim_start_matches('#').starts_with('"')));
        if let Some(prefix) = prefix {
            let hashes = rest[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
            let body = prefix.len() + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            return Some(rest[body..].find(&end).map_or(rest.len(), |found| body + found + end.len()));
        }
    }
    if rest.starts_with('"') {
        return Some(closing(rest, '"'));
    }
    let body = rest.strip_prefix('\'')?;
    let second = body.chars().next()?;
    let is_char = second == '\\' || body[second.len_utf8()..].starts_with('\'');
    is_char.then(|| closing(rest, '\''))
}

/// Length up to and with the unescaped `quote` that closes the literal.
fn closing(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + quote.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

/// Words and single marks (`::` is one), each with its line.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let (mut line, mut out) = (1, Vec::<(usize, String)>::new());
    let mut chars = code.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let mut end = start + c.len_utf8();
        if c == '\n' {
            line += 1;
        } else if c.is_alphanumeric() || c == '_' {
            while let Some((at, next)) = chars.next_if(|(_, next)| next.is_alphanumeric() || *next == '_') {
                end = at + next.len_utf8();
            }
            out.push((line, code[start..end].to_owned()));
        } else if !c.is_whitespace() {
            if c == ':' && chars.next_if(|(_, next)| *next == ':').is_some() {
                end += 1;
            }
            out.push((line, code[start..end].to_owned()));
        }
    }
    out
}

/// Every path, braces of `use` trees unfolded.
fn paths(tokens: &[(usize, String)]) -> Vec<(usize, Vec<String>)> {
    let is_word = |token: &str| token.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let mut out = Vec::new();
    let mut prefixes: Vec<Vec<String>> = Vec::new();
    let mut current: Vec<String> = Vec::new();
    let mut in_use = false;
    let mut line = 0;
    for (at, (here, token)) in tokens.iter().enumerate() {
        let joined = at > 0 && tokens[at - 1].1 == "::";
        if is_word(token) {
            if !joined && !current.is_empty() {
                out.push((line, std::mem::replace(&mut current, prefixes.last().cloned().unwrap_or_default())));
            }
            if current.is_empty() {
                current = prefixes.last().cloned().unwrap_or_default();
            }
            in_use |= token == "use" && prefixes.is_empty();
            current.push(token.clone());
            line = *here;
        } else if token == "{" && in_use {
            prefixes.push(std::mem::take(&mut current));
        } else if token != "::" {
            if !current.is_empty() {
                out.push((line, std::mem::take(&mut current)));
            }
            match token.as_str() {
                "}" if in_use => drop(prefixes.pop()),
                ";" => (in_use, prefixes) = (false, Vec::new()),
                _ => {}
            }
        }
    }
    out.extend((!current.is_empty()).then_some((line, current)));
    out
}
