//! How the answer's tokens are to be chosen, from the command line.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use types::options::{GRAMMAR_BYTES_MAX, GRAMMAR_ENGINE, Grammar, GrammarKind, Options};

use crate::data::read_bounded;

/// What a request says of sampling.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct Choosing {
    /// Temperature in thousandths; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0)]
    temperature: u32,
    /// Choose among so many of the likeliest tokens; 0 takes all.
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Choose among the likeliest tokens that have so many millionths of probability together; 0 takes all.
    #[arg(long, default_value_t = 0)]
    top_p: u32,
    /// Choose among tokens at least so many millionths as likely as the likeliest; 0 takes all.
    #[arg(long, default_value_t = 0)]
    min_p: u32,
    /// Penalty, in thousandths, for tokens that question or answer have already; 1000 is none, 1100 a usual one.
    #[arg(long, default_value_t = 1_000)]
    repeat_penalty: u32,
    /// Text that ends the answer and is no part of it; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// File with a JSON schema: the answer is JSON that it describes.
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
}

impl Choosing {
    /// The options to sign; no model can be asked for what is refused here.
    pub(super) fn options(&self) -> anyhow::Result<Options> {
        let schema = self.json_schema.as_ref().map(|path| -> anyhow::Result<Grammar> {
            let bytes = read_bounded(path, GRAMMAR_BYTES_MAX as u64).with_context(|| path.display().to_string())?;
            let source = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
            Ok(Grammar { engine: GRAMMAR_ENGINE, kind: GrammarKind::Schema, source })
        });
        let options = Options {
            temperature_milli: self.temperature,
            top_k: self.top_k,
            top_p_ppm: self.top_p,
            min_p_ppm: self.min_p,
            repeat_milli: self.repeat_penalty,
            stop: self.stop.clone(),
            grammar: schema.transpose()?,
            ..Options::default()
        }
        .sorted();
        options.check(usize::MAX)?;
        Ok(options)
    }
}

/// What of it decides an answer, by flag, for who asks again under one key; what is not asked for is not named.
pub(super) fn said(options: &Options) -> [(&'static str, Option<String>); 4] {
    let some = |number: u32| (number > 0).then(|| number.to_string());
    [
        ("--temperature", Some(options.temperature_milli.to_string())),
        ("--top-k", some(options.top_k)),
        ("--top-p", some(options.top_p_ppm)),
        ("options", (!options.is_plain()).then(|| options.digest().to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_read_from_its_file_and_stop_strings_are_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schema.json");
        std::fs::write(&path, "{\"type\": \"boolean\"}").unwrap();
        let stop = vec!["b".to_owned(), "a".to_owned(), "b".to_owned()];
        let asked = Choosing { temperature: 700, repeat_penalty: 1_100, stop, json_schema: Some(path.clone()), ..Choosing::default() };
        let options = asked.options().unwrap();
        assert_eq!((&options.stop[..], options.temperature_milli), (&["a".to_owned(), "b".to_owned()][..], 700));
        assert_eq!(options.grammar, Some(Grammar::new(GrammarKind::Schema, "{\"type\": \"boolean\"}")));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(format!("{:#}", asked.options().unwrap_err()).contains("not UTF-8"));
        let missing = Choosing { repeat_penalty: 1_000, json_schema: Some(folder.path().join("none")), ..Choosing::default() };
        assert!(missing.options().is_err());
    }

    #[test]
    fn what_no_model_can_follow_is_refused_before_anything_is_sent() {
        let refused = |asked: Choosing| asked.options().unwrap_err().to_string();
        assert!(refused(Choosing { repeat_penalty: 1, ..Choosing::default() }).contains("repeat_milli is 1"));
        assert!(refused(Choosing { repeat_penalty: 1_000, top_p: 1_000_001, ..Choosing::default() }).contains("top_p_ppm is 1000001"));
        assert!(refused(Choosing { repeat_penalty: 1_000, stop: vec![String::new()], ..Choosing::default() }).contains("a string of stop"));
    }

    #[test]
    fn a_question_without_options_says_what_it_said_before_there_were_any() {
        let plain = Options { temperature_milli: 5, ..Options::default() };
        let named: Vec<_> = said(&plain).into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        assert_eq!(named, [("--temperature", "5".to_owned())]);
        let stopped = Options { stop: vec!["x".into()], ..plain };
        assert_eq!(said(&stopped)[3], ("options", Some(stopped.digest().to_string())));
    }
}
