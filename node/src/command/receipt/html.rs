//! A receipt as one web page: no scripts, nothing fetched, every text escaped.

use types::receipt::Span;

use super::show::{Cited, Shown, pieces};
use crate::output::money;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Receipt</title>
<style>
body { font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff; }
.answer { white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: #ffe9a8; padding: 0 .1em; }
mark:target, li:target { outline: 2px solid #b8860b; }
sup a { text-decoration: none; }
li, td { overflow-wrap: anywhere; }
blockquote { margin: .2rem 0; padding-left: .8rem; border-left: 3px solid #e0c060; }
table { border-collapse: collapse; }
td, th { padding: .1rem 1rem .1rem 0; text-align: left; }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
footer { margin-top: 2rem; color: #666; font-size: .85rem; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { body { color: #e8e8e8; background: #181818; } mark { background: #5c4a00; color: inherit; } a { color: #9ecbff; } footer { color: #999; } }
</style>
</head>
<body>
"#;

/// The page of a receipt; `spans` are the receipt's, in its order.
pub fn page(shown: &Shown, spans: &[Span]) -> String {
    let mut page = String::from(HEAD);
    page.push_str(&format!("<h1>{}</h1>\n<p class=\"answer\">", escape(&shown.question)));
    for piece in pieces(&shown.answer, spans) {
        let text = escape(piece.text);
        match piece.source {
            Some(number) => {
                page.push_str(&format!("<mark id=\"span-{number}\">{text}</mark><sup><a href=\"#source-{number}\">[{number}]</a></sup>"))
            }
            None => page.push_str(&text),
        }
    }
    page.push_str("</p>\n");
    sources(&mut page, shown);
    page.push_str(&format!(
        "<h2>Who is paid</h2>\n<p>{} for {} tokens</p>\n<table>\n<tr><th>for</th><th>amount</th></tr>\n",
        money(shown.fee_wei),
        shown.tokens
    ));
    for row in &shown.parts {
        page.push_str(&format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(&row.role), money(row.wei)));
    }
    let assets: Vec<String> = shown.assets.iter().map(ToString::to_string).collect();
    page.push_str(&format!(
        "</table>\n<footer>receipt {}<br>answered by {}<br>asked by {}<br>assets {}</footer>\n</body>\n</html>\n",
        shown.receipt,
        shown.node,
        shown.client,
        assets.join(", ")
    ));
    page
}

fn sources(page: &mut String, shown: &Shown) {
    page.push_str("<h2>Sources</h2>\n");
    if shown.sources.is_empty() {
        page.push_str("<p>No run of words stands in the declared Datanets: their treasuries take the data share.</p>\n");
        return;
    }
    page.push_str("<ol>\n");
    for (number, Cited { source, around, note }) in (1..).zip(&shown.sources) {
        page.push_str(&format!(
            "<li id=\"source-{number}\"><blockquote>{}<mark>{}</mark>{}</blockquote><em>{note}</em>: {}; contributed by {} to Datanet {}, weight {}/256 bit, earns {} <a href=\"#span-{number}\">back</a></li>\n",
            escape(&around.before),
            escape(&source.quote),
            escape(&around.after),
            escape(&around.to_string()),
            source.contributor,
            source.datanet,
            source.weight,
            money(source.wei)
        ));
    }
    page.push_str("</ol>\n");
}

/// Text as HTML: what could begin or end a tag, an entity or an attribute is written as an entity.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use types::{
        amount::Amount,
        id::{Address, AssetId, AssetVersion, Hash32},
        receipt::Reason,
    };

    use super::*;
    use crate::command::{
        ask::Source,
        receipt::{
            around::Around,
            show::{PartRow, VERBATIM},
        },
    };

    fn shown(question: &str, answer: &str, quote: &str) -> Shown {
        let version = AssetVersion { asset: AssetId(3), version: 1 };
        Shown {
            question: question.into(),
            answer: answer.into(),
            marked: answer.into(),
            sources: vec![Cited {
                source: Source { quote: quote.into(), contributor: Address([1; 20]), datanet: version, weight: 9, wei: Amount(77) },
                around: Around { before: format!("before {quote} "), after: format!(" after {quote}"), ..Around::default() },
                note: VERBATIM,
            }],
            parts: vec![PartRow { role: "node".into(), wei: Amount(3) }],
            fee_wei: Amount(80),
            node: Address([2; 20]),
            client: Address([3; 20]),
            assets: vec![version],
            tokens: 5,
            reason: Reason::Stop,
            receipt: Hash32([4; 32]),
            html: None,
        }
    }

    #[test]
    fn spans_are_highlighted_and_linked_to_their_source() {
        let span = Span { start: 2, length: 4, datanet: 0, position: 0, weight: 9, payee: Address([1; 20]) };
        let page = page(&shown("Q?", "a gout b", "gout"), &[span]);
        assert!(
            page.contains("<p class=\"answer\">a <mark id=\"span-1\">gout</mark><sup><a href=\"#source-1\">[1]</a></sup> b</p>"),
            "{page}"
        );
        assert!(page.contains("<li id=\"source-1\"><blockquote>before gout <mark>gout</mark> after gout</blockquote><em>verbatim match, not a cause</em>: ") && page.contains("earns 0.000000000000000077 OPEN <a"));
        // Amounts are those of every other command: OPEN, unless `--wei` asks for wei.
        assert!(
            page.contains("<p>0.00000000000000008 OPEN for 5 tokens</p>") && !page.contains(" wei ") && !page.contains(" wei<"),
            "{page}"
        );
    }

    #[test]
    fn no_text_of_a_stranger_becomes_markup() {
        let evil = "<script>alert('x')</script><img src=\"y\" onerror=z>&amp;";
        let span = Span { start: 0, length: 8, datanet: 0, position: 0, weight: 9, payee: Address([1; 20]) };
        let page = page(&shown(evil, evil, evil), &[span]);
        let body = page.split("<body>").nth(1).unwrap();
        assert!(!body.contains("<script") && !body.contains("<img") && !page.contains("javascript:"), "{body}");
        assert!(body.contains("&lt;script&gt;</mark>"), "{body}");
        assert!(page.contains("default-src 'none'") && !page.contains("<script"));
    }

    #[test]
    fn escaping_writes_each_sign_as_its_entity() {
        assert_eq!(escape("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
        assert_eq!(escape("ü\n plain"), "ü\n plain");
    }
}
