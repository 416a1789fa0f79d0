//! `tributary attribution report`: coverage, false positives, agreement with OLMoTrace's rules and times, each with its counts.
//!
//! A corpus is divided: what is indexed, and a control that the model never saw. Answers are attributed to both; what is found in the control was not
//! learned there. Which text a model never saw is the word of whoever measures: documents held back from its training, or written after it.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use attribution::{
    index::Index,
    measure::{NOT_A_CAUSE, Tally, Times, WordCounts},
    parameters::Parameters,
    ratio::Ratio,
    span::attribute,
};
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::datanet::{Document, read::Columns};

use super::answers::{self, Answer, Model};
use crate::{
    command::{Context, index::local},
    corpus::Corpus,
    datanet::resolve,
    output::{counted, table},
    service::index::PARAMETERS,
    words,
};

/// Most prompts of a corpus.
const PROMPTS_MAX: u32 = 10_000;

/// Measure coverage, false positives, agreement with OLMoTrace's rules, and times, over one corpus or many.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A corpus is a file or a folder (.jsonl, .csv, .tsv, .parquet, .md, .txt, .obo, .xml), or a Datanet whose contributions are here. Answers are given, or\nmade by a model from prompts cut out of each corpus; they are attributed to the corpus, and to a control that the model never saw.\n\nExamples:\n  tributary attribution report texts/ --answers R.json\n  tributary attribution report medical --model model.gguf --adapter medical-adapter/ --seen trained.txt\n  tributary attribution report .cache/text/hp.obo .cache/text/icd10cm.xml .cache/text/cwe-1003.csv .cache/text/topics.txt \\\n      --text-column Description --title-column Name --model .cache/model/SmolLM2-135M-Instruct.Q4_1.gguf\n\nThe last line that is printed belongs into the card of the model version."
)]
pub(super) struct Args {
    /// Files, folders, or Datanets by name or number.
    #[arg(required = true)]
    corpora: Vec<String>,
    /// Answers to measure: receipts (.json), rows of question and answer (.jsonl), or plain texts.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "model")]
    answers: Vec<PathBuf>,
    /// Base model that answers prompts cut out of each corpus: a GGUF file.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Folder of an adapter on it.
    #[arg(long, value_name = "DIR", requires = "model")]
    adapter: Option<PathBuf>,
    /// Prompts of each corpus.
    #[arg(long, default_value_t = 20, requires = "model", value_parser = clap::value_parser!(u32).range(1..=i64::from(PROMPTS_MAX)))]
    prompts: u32,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 64, requires = "model", value_parser = clap::value_parser!(u32).range(1..=2_048))]
    tokens: u32,
    /// File or folder that the model never saw: the control of all corpora [default: documents held back].
    #[arg(long, value_name = "PATH", conflicts_with_all = ["seen", "hold_back"])]
    control: Option<PathBuf>,
    /// Ids of the documents that the model was trained on, one a line: where a corpus has some, they are indexed and asked about, its others are the control.
    #[arg(long, value_name = "FILE")]
    seen: Option<PathBuf>,
    /// Documents of each corpus that are held back as its control, in percent, drawn by their hashes.
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=99))]
    hold_back: u8,
    /// Times that each answer is attributed, for the clock.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    times: u16,
    /// Column of a table that holds the texts.
    #[arg(long, value_name = "NAME", default_value = "text")]
    text_column: String,
    /// Column that holds the titles.
    #[arg(long, value_name = "NAME", default_value = "title")]
    title_column: String,
    /// Column that holds the ids.
    #[arg(long, value_name = "NAME", default_value = "id")]
    id_column: String,
}

/// How much text was searched.
#[derive(Debug, Clone, Default, Serialize)]
struct Searched {
    /// What it is, in words.
    what: String,
    documents: u64,
    bytes: u64,
}

/// A line of the report.
#[derive(Debug, Clone, Serialize)]
struct Row {
    corpus: String,
    indexed: Searched,
    control: Searched,
    coverage: Ratio,
    false_positives: Ratio,
    /// Words that both mark, of those that this rule or OLMoTrace's does.
    olmotrace_overlap: Ratio,
    found: Tally,
    found_in_control: Tally,
    /// Spans of an answer over the indexed text.
    times: Option<Times>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// What answered; nothing if the answers were given.
    model: Option<String>,
    parameters: u32,
    rows: Vec<Row>,
    total: Row,
    /// What every figure stands under.
    note: &'static str,
    /// The line for the model version's card.
    card: String,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let given = answers::of_files(&args.answers)?;
    let seen = args.seen.as_deref().map(answers::ids).transpose()?;
    let control = args.control.as_deref().map(|path| Corpus::read(path, &args.columns())).transpose()?;
    let control = control.map(|corpus| Ok::<_, anyhow::Error>((corpus.index()?, searched("given", &corpus)))).transpose()?;
    let mut corpora = Vec::with_capacity(args.corpora.len());
    for word in &args.corpora {
        corpora.push(corpus(context, word, &args.columns(), control.is_some()).await?);
    }
    let model = match &args.model {
        Some(path) => Some(Model::load(path, args.adapter.as_deref()).await?),
        None => None,
    };
    let (mut rows, mut times) = (Vec::new(), Vec::new());
    for (corpus, committed) in corpora {
        let is_seen = |document: &Document| document.id().is_some_and(|id| seen.as_ref().is_some_and(|seen| seen.contains(id)));
        let has_seen = corpus.documents().any(is_seen);
        let (indexed, rest) = match &control {
            Some(_) => (corpus, Corpus::default()),
            None if has_seen => corpus.split(is_seen),
            None => corpus.split(|document| !is_held_back(document, args.hold_back)),
        };
        ensure!(
            indexed.documents().next().is_some() && (control.is_some() || rest.documents().next().is_some()),
            "{}: nothing is left to {} of its documents: give text that the model never saw with --control",
            indexed.name,
            if indexed.parts.is_empty() { "index" } else { "hold back" },
        );
        let index = match committed {
            Some(index) => index,
            None => {
                context.output.note(&format!("indexing {}", indexed.name));
                indexed.index()?
            }
        };
        let held_back;
        let (beside, control) = match &control {
            Some((index, searched)) => (index, searched.clone()),
            None => {
                held_back = rest.index()?;
                (&held_back, searched(if has_seen { "not trained on" } else { "held back" }, &rest))
            }
        };
        let made = match &model {
            Some(model) => model.answer(context, questions(&indexed, args.prompts), args.tokens).await?,
            None => Vec::new(),
        };
        let all = || given.iter().chain(&made);
        let (found, took) = measured(&index, all(), args.times)?;
        let (found_in_control, _) = measured(beside, all(), 1)?;
        rows.push(Row {
            corpus: indexed.name.clone(),
            indexed: searched(if has_seen { "trained on" } else { "indexed" }, &indexed),
            control,
            coverage: found.coverage(),
            false_positives: found_in_control.coverage(),
            olmotrace_overlap: found.olmotrace.overlap(),
            found,
            found_in_control,
            times: Times::of(took.clone()),
        });
        times.extend(took);
    }
    let total = total(&rows, times);
    let model = model.map(|model| model.name);
    let card = card(model.as_deref(), &rows, &total);
    let report = Report { model, parameters: PARAMETERS, rows, total, note: NOT_A_CAUSE, card };
    context.output.result(&report, || describe(&report))
}

impl Args {
    fn columns(&self) -> Columns {
        // Files that are no tables have none: a column that is missing is only refused for the text.
        Columns { text: self.text_column.clone(), title: self.title_column.clone(), id: self.id_column.clone(), ..Columns::default() }
    }
}

/// A corpus by a path, else by a Datanet's name or number; of a Datanet that is indexed whole the index in the data folder.
async fn corpus(context: &Context, word: &str, columns: &Columns, is_whole: bool) -> anyhow::Result<(Corpus, Option<Index>)> {
    let path = Path::new(word);
    if path.exists() {
        return Ok((Corpus::read(path, columns)?, None));
    }
    let state =
        context.chain_reader().await.with_context(|| format!("{word:?} is no file, so it is looked for on the chain"))?.state().await?;
    let (asset, card) = resolve(&state, word).with_context(|| format!("there is no file {word:?} either"))?;
    let version = state.newest(asset.id).with_context(|| format!("Datanet {word:?} has no published version: its owner publishes one"))?;
    let corpus = Corpus::of_version(&context.data, &state, version, card.name().as_str())?;
    let index = if is_whole { Some(local(context, &state, &[version]).await?) } else { None };
    Ok((corpus, index))
}

fn searched(what: &str, corpus: &Corpus) -> Searched {
    let (documents, bytes) = corpus.size();
    Searched { what: what.to_owned(), documents, bytes }
}

/// Whether a document is in the control: by its hash, so that nobody picks, and the same text always falls to one side.
fn is_held_back(document: &Document, percent: u8) -> bool {
    let [a, b, c, d, ..] = document.digest().0;
    u64::from(u32::from_be_bytes([a, b, c, d])) * 100 < u64::from(percent) << 32
}

/// Questions about the documents whose hashes are smallest.
fn questions(corpus: &Corpus, at_most: u32) -> Vec<String> {
    let mut documents: Vec<_> = corpus.documents().map(|document| (document.digest(), document)).collect();
    // From the other end than what is held back: the hash's last bytes say nothing of its first.
    documents.sort_by_key(|(digest, _)| digest.0.iter().rev().copied().collect::<Vec<_>>());
    documents.dedup_by_key(|(digest, _)| *digest);
    let most = usize::try_from(at_most).unwrap_or(usize::MAX);
    documents.into_iter().take(most).map(|(_, document)| answers::question(document)).collect()
}

/// What is found in answers, and how long each search of one took, in nanoseconds.
fn measured<'a>(index: &Index, answers: impl Iterator<Item = &'a Answer>, times: u16) -> anyhow::Result<(Tally, Vec<u64>)> {
    let parameters = Parameters::builtin(PARAMETERS).context("this build carries no attribution parameters")?;
    let counts = WordCounts::of(index);
    let (mut tally, mut took) = (Tally::default(), Vec::new());
    // The word table's weights are computed when they are first asked for.
    parameters.weight("the");
    for answer in answers {
        let mut found = None;
        for _ in 0..times {
            let start = Instant::now();
            let attributed = attribute(index, parameters, &answer.prompt, &answer.text).with_context(|| answer.name.clone())?;
            took.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
            found = Some(attributed);
        }
        let found = found.context("each answer is searched at least once")?;
        tally.add(&Tally::of(index, &counts, &answer.text, &found));
    }
    Ok((tally, took))
}

fn total(rows: &[Row], times: Vec<u64>) -> Row {
    let (mut found, mut found_in_control) = (Tally::default(), Tally::default());
    let (mut indexed, mut control) = (Searched::default(), Searched::default());
    for row in rows {
        found.add(&row.found);
        found_in_control.add(&row.found_in_control);
        for (sum, one) in [(&mut indexed, &row.indexed), (&mut control, &row.control)] {
            sum.documents += one.documents;
            sum.bytes += one.bytes;
        }
    }
    Row {
        corpus: "all".to_owned(),
        indexed,
        control,
        coverage: found.coverage(),
        false_positives: found_in_control.coverage(),
        olmotrace_overlap: found.olmotrace.overlap(),
        found,
        found_in_control,
        times: Times::of(times),
    }
}

/// Milliseconds with three decimals.
fn milliseconds(nanoseconds: u64) -> String {
    let microseconds = nanoseconds.div_ceil(1_000);
    format!("{}.{:03} ms", microseconds / 1_000, microseconds % 1_000)
}

fn size(searched: &Searched) -> String {
    format!("{} of {} bytes", counted(usize::try_from(searched.documents).unwrap_or(usize::MAX), "document"), searched.bytes)
}

fn card(model: Option<&str>, rows: &[Row], total: &Row) -> String {
    let names: Vec<&str> = rows.iter().map(|row| row.corpus.as_str()).collect();
    let times = total.times.map_or_else(String::new, |times| {
        format!("; spans of an answer in {} (median) and {} (p99)", milliseconds(times.median_ns), milliseconds(times.p99_ns))
    });
    format!(
        "Verbatim attribution of {} by {} over {} ({}), parameters {PARAMETERS}: coverage {} of words; over text that it never saw ({}) {}; agreement with OLMoTrace's \
         rules {} of marked words{times}. {}.",
        counted(usize::try_from(total.found.answers).unwrap_or(usize::MAX), "answer"),
        model.unwrap_or("models that the answers name"),
        names.join(", "),
        size(&total.indexed),
        total.coverage,
        size(&total.control),
        total.false_positives,
        total.olmotrace_overlap,
        capital(NOT_A_CAUSE)
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn describe(report: &Report) -> String {
    let mut rows: Vec<&Row> = report.rows.iter().collect();
    if rows.len() > 1 {
        rows.push(&report.total);
    }
    let line = |row: &&Row| {
        let Row { corpus, indexed, control, coverage, false_positives, olmotrace_overlap, found, times, .. } = *row;
        vec![
            corpus.clone(),
            format!("{} docs, {} kB", indexed.documents, indexed.bytes / 1_000),
            format!("{} docs, {} kB", control.documents, control.bytes / 1_000),
            found.answers.to_string(),
            coverage.to_string(),
            false_positives.to_string(),
            found.masked().to_string(),
            olmotrace_overlap.to_string(),
            format!("{} of {}", found.olmotrace.equal_spans, found.spans),
            times.map_or_else(|| "-".to_owned(), |times| milliseconds(times.median_ns)),
            times.map_or_else(|| "-".to_owned(), |times| milliseconds(times.p99_ns)),
        ]
    };
    let header = [
        "corpus",
        "indexed",
        "control",
        "answers",
        "coverage",
        "false positives",
        "in the prompt",
        "as OLMoTrace",
        "equal spans",
        "median",
        "p99",
    ];
    let mut text = table(&header, &rows.iter().map(line).collect::<Vec<_>>());
    if let Some(model) = &report.model {
        text = format!("answers by {model}\n\n{text}");
    }
    text.push_str(
        "\n\ncoverage: words in paid spans, of all words of the answers\nfalse positives: the same over the control, which the model never saw by the word of who measured\n\
         in the prompt: words that the prompt held already, which are not paid\nas OLMoTrace: words that both rules mark, of those that either does, masks left out; equal spans of the paid ones\n\
         median, p99: attribution of one answer\n\n",
    );
    text.push_str(&format!(
        "{}: no figure here says that an answer was made from what it matches\n\nfor the model's card:\n{}",
        report.note, report.card
    ));
    words::lines(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn documents(count: usize) -> Vec<Document> {
        (0..count).map(|number| Document::new(None, None, format!("Document number {number}.").as_bytes()).unwrap()).collect()
    }

    #[test]
    fn what_is_held_back_is_near_the_share_that_was_asked_for_and_always_the_same() {
        let documents = documents(4_000);
        for (percent, low, high) in [(1, 20, 65), (50, 1_850, 2_150), (99, 3_930, 3_980)] {
            let held = documents.iter().filter(|document| is_held_back(document, percent)).count();
            assert!((low..=high).contains(&held), "{percent} %: {held}");
        }
        let document = &documents[7];
        assert!((1..99).all(|percent| !is_held_back(document, percent) || is_held_back(document, percent + 1)));
    }

    #[test]
    fn every_figure_stands_beside_its_counts_and_the_words_that_it_is_no_cause() {
        let text = "Bilateral sensorineural hearing impairment of congenital onset affecting speech.";
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), text).unwrap();
        let corpus = Corpus::read(folder.path(), &Columns::default()).unwrap();
        let answers = [
            Answer { name: "one".into(), prompt: Vec::new(), text: text.to_owned() },
            Answer { name: "two".into(), prompt: Vec::new(), text: "Quite other words.".to_owned() },
        ];
        let (found, took) = measured(&corpus.index().unwrap(), answers.iter(), 3).unwrap();
        assert_eq!((found.answers, found.answers_with_spans, found.coverage(), took.len()), (2, 1, Ratio::new(9, 12), 6));
        let row = Row {
            corpus: "a".into(),
            indexed: searched("indexed", &corpus),
            control: Searched::default(),
            coverage: found.coverage(),
            false_positives: Ratio::new(0, 12),
            olmotrace_overlap: found.olmotrace.overlap(),
            found,
            found_in_control: Tally { answers: 2, words: 12, ..Tally::default() },
            times: Times::of(vec![1_500, 2_000_000]),
        };
        let rows = vec![row.clone(), row];
        let total = total(&rows, vec![1_500, 2_000_000]);
        let card = card(Some("m"), &rows, &total);
        let report = Report { model: Some("m".into()), parameters: 1, rows, total, note: NOT_A_CAUSE, card };
        let shown = describe(&report);
        for says in [
            "75.00 % (9 of 12)",
            "0.00 % (0 of 12)",
            "75.00 % (18 of 24)",
            "0.002 ms",
            "2.000 ms",
            "a verbatim match is not a cause",
            "A verbatim match is not a cause.",
        ] {
            assert!(shown.contains(says), "{says}: {shown}");
        }
    }

    #[test]
    fn an_answer_too_long_to_be_attributed_is_named() {
        let index = Index::new(vec![]).unwrap();
        let long = Answer { name: "r.json".into(), prompt: Vec::new(), text: "a ".repeat(40_000) };
        let error = format!("{:#}", measured(&index, [long].iter(), 1).unwrap_err());
        assert!(error.contains("r.json") && error.contains("80000 bytes"), "{error}");
    }

    #[test]
    fn a_command_line_without_answers_or_of_two_controls_is_refused() {
        let refused = |line: &str| crate::command::Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
        assert!(refused("tributary attribution report a").contains("--answers"));
        assert!(refused("tributary attribution report --model m").contains("CORPORA"));
        assert!(refused("tributary attribution report a --answers b --control c --seen d").contains("cannot be used with"));
        assert!(refused("tributary attribution report a --answers b --hold-back 100").contains("1..=99"));
        assert!(refused("tributary attribution report a --answers b --adapter c").contains("--model"));
    }
}
