//! Group `engine`: tokens a second of SmolLM2-135M on two threads, alone, many at once and with an adapter each; adapters brought in, answers dropped and checked, training; what the gateway adds to a token.
//!
//! A program of `inference`, and one of `node` for the gateway, measure and print rows beside the machine's limits of that same run. A peer runs in the same command, between two runs of ours (ours,
//! peer, ours, peer, ours): llama.cpp, if [`peers::VARIABLE`] names a folder with its programs; nothing of others is built here. Then everything once
//! more while a thread of this command takes a core from both; those rows end in `.busy` and have no reach of their own.
//!
//! Of figures that name no profile ours is the best of `exact` and `fast`, and of cancelling the worst; the row says which.

mod peers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{Row, median};
use crate::fetch::{self, What};
use crate::shell::{cargo, command, execute, read, target};
use crate::toolchain;
use peers::LlamaCpp;

const COMMAND: &str = "cargo xtask bench engine";
/// Threads of ours and of the peer.
const THREADS: &str = "2";
/// What rows of the second pass end in.
const BUSY: &str = ".busy";

/// Every figure of the group: what it is to reach, and whether that is the least.
const FIGURES: [(&str, f64, bool); 21] = [
    ("engine.mixed8_tok_s", 500.0, true),
    ("engine.mixed8_loss", 7.0, false),
    ("engine.batch8_tok_s", 800.0, true),
    ("engine.batch16_tok_s", 1_400.0, true),
    ("engine.batch32_tok_s", 2_200.0, true),
    ("engine.mixed256_loss", 12.0, false),
    ("engine.stream_tok_s", STREAM_TOK_S, true),
    ("engine.stream_bandwidth", 85.0, true),
    ("engine.exact_stream_bandwidth", 80.0, true),
    ("engine.exact_stream_tok_s", 240.0, true),
    ("engine.prefill512_tok_s", 5_000.0, true),
    ("engine.exact_prefill512_tok_s", 2_800.0, true),
    ("engine.busy_ratio", 45.0, true),
    ("engine.hot_load_ms", 20.0, false),
    ("engine.cancel_ms", 50.0, false),
    ("engine.check_ratio", 6.0, false),
    ("engine.check_sampled_ratio", 2.0, false),
    ("engine.train_tok_cpu_s", TRAIN_TOK_CPU_S, true),
    ("engine.train_f32_tok_cpu_s", TRAIN_F32_TOK_CPU_S, true),
    ("engine.gateway_p50_us", 50.0, false),
    ("engine.gateway_p99_us", 1_000.0, false),
];
/// What one stream is to reach where llama.cpp is not there to be ahead of: what it gave on the machine that the reach was set on.
const STREAM_TOK_S: f64 = 277.0;
/// What PyTorch's peft 0.21.2 takes in a second of processor time: the same model in f32, rank 16 on every linear layer, steps of 2 x 256 tokens, one thread.
const PEFT_TOK_CPU_S: f64 = 140.0;
/// What training is to take at least.
const TRAIN_TOK_CPU_S: f64 = PEFT_TOK_CPU_S;
/// And all in f32, which is kept for comparison: what it gave on the busy machine that this was set on.
const TRAIN_F32_TOK_CPU_S: f64 = 50.0;

/// Figures that one run of our program gives, and who else is asked for them.
struct Part {
    name: &'static str,
    runs: fn(&str, &Inputs) -> Command,
    peer: Option<PeerRun>,
    /// Of our figures, those that the peer has too.
    peers_figures: &'static [&'static str],
    /// Whether it is measured beside a neighbour too: `busy` is with one already.
    is_repeated: bool,
}

/// Asks a peer for its values by figure.
type PeerRun = fn(&LlamaCpp, &Inputs) -> Result<Vec<(&'static str, f64)>>;

const PARTS: [Part; 11] = [
    Part {
        name: "stream",
        runs: engine,
        peer: Some(LlamaCpp::stream),
        peers_figures: &["engine.stream_tok_s", "engine.exact_stream_tok_s"],
        is_repeated: true,
    },
    Part {
        name: "prefill",
        runs: engine,
        peer: Some(LlamaCpp::prefill),
        peers_figures: &["engine.prefill512_tok_s", "engine.exact_prefill512_tok_s"],
        is_repeated: true,
    },
    Part {
        name: "batch",
        runs: engine,
        peer: Some(LlamaCpp::batch),
        peers_figures: &["engine.batch8_tok_s", "engine.batch16_tok_s", "engine.batch32_tok_s"],
        is_repeated: true,
    },
    Part { name: "mixed", runs: engine, peer: Some(LlamaCpp::mixed), peers_figures: &["engine.mixed8_tok_s"], is_repeated: true },
    Part { name: "many", runs: engine, peer: None, peers_figures: &[], is_repeated: true },
    Part { name: "busy", runs: engine, peer: None, peers_figures: &[], is_repeated: false },
    Part { name: "hot-load", runs: engine, peer: None, peers_figures: &[], is_repeated: true },
    Part { name: "cancel", runs: engine, peer: None, peers_figures: &[], is_repeated: true },
    Part { name: "check", runs: engine, peer: None, peers_figures: &[], is_repeated: true },
    Part { name: "train", runs: engine, peer: None, peers_figures: &[], is_repeated: false },
    Part { name: "gateway", runs: gateway, peer: None, peers_figures: &[], is_repeated: true },
];

/// What programs are run on, and how often.
struct Inputs {
    program: PathBuf,
    model: PathBuf,
    /// Where our program leaves the adapters of `mixed`.
    adapters: PathBuf,
    /// How often a peer runs between runs of ours.
    turns: usize,
    /// How often a peer's benchmark repeats what it measures in a run.
    repetitions: usize,
}

/// What our program prints.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Printed {
    figure: String,
    ours: f64,
    unit: String,
    n: usize,
    note: String,
}

/// Measures the group; what could not be measured is said in `missing`.
///
/// # Errors
/// If the model cannot be fetched or our program not be built.
pub(super) fn measure(missing: &mut Vec<String>) -> Result<Vec<Row>> {
    toolchain::check()?;
    fetch::run(What::Model)?;
    execute(cargo().args(["build", "--release", "--package", "inference", "--example", "bench"]))?;
    let (program, adapters) = (target().join("release/examples/bench"), target().join("bench/engine-adapters"));
    let mut inputs = Inputs { program, model: fetch::model(), adapters, turns: 2, repetitions: 9 };
    let peer = match LlamaCpp::found() {
        Ok(peer) => peer,
        Err(error) => {
            missing.push(format!("llama.cpp: {error:#}"));
            None
        }
    };
    let mut rows = pass(&inputs, peer.as_ref(), false, missing);
    reach(&mut rows, missing);
    // Threads that spin at barriers fall to a hundredth beside a neighbour: with as many repetitions this pass would take an hour.
    (inputs.turns, inputs.repetitions) = (1, 3);
    let neighbour = Neighbour::start();
    rows.extend(pass(&inputs, peer.as_ref(), true, missing));
    drop(neighbour);
    Ok(rows)
}

/// Every part once, or those that are repeated beside a neighbour.
fn pass(inputs: &Inputs, peer: Option<&LlamaCpp>, is_busy: bool, missing: &mut Vec<String>) -> Vec<Row> {
    let mut rows = Vec::new();
    let suffix = if is_busy { BUSY } else { "" };
    for part in PARTS.iter().filter(|part| part.is_repeated || !is_busy) {
        println!("\n== {}{}", part.name, if is_busy { ", beside a busy neighbour" } else { "" });
        match turns(part, inputs, peer, missing) {
            Ok(found) => rows.extend(found.into_iter().map(|row| Row { figure: row.figure.clone() + suffix, ..row })),
            Err(error) => missing.push(format!("{}{suffix}: {error:#}", part.name)),
        }
    }
    let place = |row: &Row| FIGURES.iter().position(|(figure, ..)| *figure == row.figure.trim_end_matches(BUSY)).unwrap_or(FIGURES.len());
    rows.sort_by_key(place);
    rows
}

/// Ours alone, or ours and the peer in turn.
fn turns(part: &Part, inputs: &Inputs, peer: Option<&LlamaCpp>, missing: &mut Vec<String>) -> Result<Vec<Row>> {
    let mut ours = vec![run(part, inputs)?];
    let mut theirs = Vec::new();
    if let (Some(peer), Some(ask)) = (peer, part.peer) {
        for _ in 0..inputs.turns {
            match ask(peer, inputs) {
                Ok(values) => theirs.push(values),
                Err(error) => {
                    missing.push(format!("{} of llama.cpp: {error:#}", part.name));
                    break;
                }
            }
            ours.push(run(part, inputs)?);
        }
    }
    let mut rows = middle(&ours)?;
    for row in rows.iter_mut().filter(|row| part.peers_figures.contains(&row.figure.as_str())) {
        beside(row, &theirs);
    }
    Ok(rows)
}

/// Our program once.
fn run(part: &Part, inputs: &Inputs) -> Result<Vec<Printed>> {
    parse(&read(&mut (part.runs)(part.name, inputs))?)
}

/// The engine alone.
fn engine(part: &str, inputs: &Inputs) -> Command {
    let mut program = command(&inputs.program);
    program.arg(&inputs.model).args(["--threads", THREADS]).arg("--adapters").arg(&inputs.adapters).arg(part);
    program
}

/// The HTTP gateway before a source that keeps a pace. With the features of the whole workspace, as it is built for the other group: the largest crate is compiled once.
fn gateway(_: &str, _: &Inputs) -> Command {
    let mut program = cargo();
    program.args(["bench", "--workspace", "--bench", "gateway"]);
    program
}

fn parse(text: &str) -> Result<Vec<Printed>> {
    let rows = text.lines().filter(|line| line.starts_with('{'));
    let rows: Vec<Printed> =
        rows.map(|line| serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))).collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "it printed no rows");
    Ok(rows)
}

/// Of several runs the median of each figure, with the note of the run that is nearest to it; rounds of all count.
fn middle(runs: &[Vec<Printed>]) -> Result<Vec<Row>> {
    let first = runs.first().context("our program ran")?;
    first
        .iter()
        .map(|row| {
            let same: Vec<&Printed> = runs.iter().flatten().filter(|other| other.figure == row.figure).collect();
            ensure!(same.len() == runs.len(), "{} was measured in {} of {} runs", row.figure, same.len(), runs.len());
            let ours = median(same.iter().map(|row| row.ours).collect());
            let near = same.iter().min_by(|a, b| (a.ours - ours).abs().total_cmp(&(b.ours - ours).abs())).context("one at least")?;
            let mut measured = Row::measured(&row.figure, &row.unit, ours, same.iter().map(|row| row.n).sum(), COMMAND);
            measured.note = Some(near.note.clone());
            Ok(measured)
        })
        .collect()
}

/// Puts the peer's median beside ours, or says that it was not run.
fn beside(row: &mut Row, theirs: &[Vec<(&'static str, f64)>]) {
    let of = |figure: &str| -> Vec<f64> { theirs.iter().flatten().filter(|(name, _)| *name == figure).map(|(_, value)| *value).collect() };
    let values = of(&row.figure);
    if values.is_empty() {
        row.peer = Some("not run".to_owned());
        let note = row.note.take().unwrap_or_default();
        row.note = Some(format!("{note}; llama.cpp was not run: {} names the folder of its programs", peers::VARIABLE));
    } else {
        (row.peer, row.peer_value) = (Some("llama.cpp".to_owned()), Some(median(values)));
    }
}

/// What every figure is to reach; those that are not there are missing.
fn reach(rows: &mut [Row], missing: &mut Vec<String>) {
    for (figure, reach, is_least) in FIGURES {
        match rows.iter_mut().find(|row| row.figure == figure) {
            Some(row) => (row.limit, row.is_least) = (Some(limit(row, reach)), is_least),
            None => missing.push(format!("{figure} was not measured")),
        }
    }
}

/// One stream is to be ahead of llama.cpp as it ran beside it.
fn limit(row: &Row, reach: f64) -> f64 {
    row.peer_value.filter(|_| row.figure == "engine.stream_tok_s").unwrap_or(reach)
}

/// A thread that computes until it is dropped.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut number = 1u64;
            while !stopped.load(Ordering::Relaxed) {
                number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a neighbour only multiplies");
        }
    }
}

/// The adapters that our program has left for a peer.
fn adapters(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(figure: &str, ours: f64, note: &str) -> Printed {
        Printed { figure: figure.into(), ours, unit: "tok/s".into(), n: 9, note: note.into() }
    }

    #[test]
    fn rows_are_read_and_nonsense_is_refused() {
        let text = "loading\n{\"figure\":\"engine.busy_ratio\",\"ours\":61.5,\"unit\":\"%\",\"n\":9,\"note\":\"one stream\"}\n";
        let rows = parse(text).unwrap();
        assert_eq!(rows, [Printed { unit: "%".into(), ..printed("engine.busy_ratio", 61.5, "one stream") }]);
        for bad in
            ["", "loading", "{\"figure\":\"engine.x\"}", "{\"figure\":\"engine.x\",\"ours\":null,\"unit\":\"\",\"n\":1,\"note\":\"\"}"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_three_runs_the_middle_one_counts_with_its_note() {
        let runs =
            [("slow", 90.0), ("middle", 100.0), ("quick", 130.0)].map(|(note, ours)| vec![printed("engine.stream_tok_s", ours, note)]);
        let rows = middle(&runs).unwrap();
        assert_eq!((rows[0].ours, rows[0].n, rows[0].note.as_deref()), (Some(100.0), 27, Some("middle")));
        let torn = [runs[0].clone(), vec![printed("engine.batch8_tok_s", 1.0, "")]];
        assert!(middle(&torn).is_err(), "a run without the figure");
        assert!(middle(&[]).is_err());
    }

    #[test]
    fn a_peer_that_did_not_run_is_named_so() {
        let mut row = middle(&[vec![printed("engine.batch8_tok_s", 800.0, "x")]]).unwrap().remove(0);
        beside(&mut row, &[]);
        assert_eq!((row.peer.as_deref(), row.peer_value), (Some("not run"), None));
        assert!(row.note.as_deref().unwrap().contains(peers::VARIABLE));
        beside(&mut row, &[vec![("engine.batch8_tok_s", 300.0), ("engine.batch16_tok_s", 1.0)], vec![("engine.batch8_tok_s", 310.0)]]);
        assert_eq!((row.peer.as_deref(), row.peer_value), (Some("llama.cpp"), Some(305.0)));
    }

    #[test]
    fn one_stream_is_held_against_the_peer_of_the_same_run() {
        let row = |figure: &str, peer_value| Row { peer_value, ..Row::measured(figure, "tok/s", 280.0, 1, "x") };
        assert_eq!(limit(&row("engine.stream_tok_s", Some(290.0)), 277.0), 290.0);
        assert_eq!(limit(&row("engine.stream_tok_s", None), 277.0), 277.0);
        assert_eq!(limit(&row("engine.batch8_tok_s", Some(900.0)), 800.0), 800.0);
    }

    #[test]
    fn a_figure_that_nobody_measured_is_missing() {
        let mut missing = Vec::new();
        let mut rows = middle(&[vec![printed("engine.check_ratio", 5.0, "x"), printed("engine.batch8_tok_s", 799.0, "x")]]).unwrap();
        reach(&mut rows, &mut missing);
        assert_eq!(missing.len(), FIGURES.len() - 2);
        assert!(missing.iter().any(|line| line == "engine.check_sampled_ratio was not measured"));
        assert_eq!((rows[0].limit, rows[0].is_over(), rows[1].is_over()), (Some(6.0), false, true));
    }

    #[test]
    fn what_a_peer_gives_stands_beside_figures_of_the_group() {
        for figure in PARTS.iter().flat_map(|part| part.peers_figures) {
            assert!(FIGURES.iter().any(|(name, ..)| name == figure), "{figure}");
        }
    }
}
