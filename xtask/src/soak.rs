//! Campaigns: tests of the gate, run for longer. What the gate tries a thousand times, a campaign tries a hundred times as often.
//!
//! A campaign is a test's name and a variable that says how many cases it tries; it fails as the test fails, naming the first case at odds. One is a
//! benchmark that holds ratios of its own rows to a least, one a program that holds hard texts to multiples of ordinary text: what is timed is no part of
//! the gate. One has no test there: fuzzing by coverage, whose findings become tests.

use std::env;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::fetch::{self, What};
use crate::shell::{cache, cargo, command, execute, target};
use crate::{contracts, fuzz, oracle};

/// One campaign.
struct Campaign {
    name: &'static str,
    /// What it asks.
    about: &'static str,
    runs: Runs,
    /// Says how many cases, and the count.
    cases: (&'static str, &'static str),
    /// The program does not read how many: it is run so often, each time with cases drawn anew or measured anew.
    is_repeated: bool,
}

/// What a campaign is made of.
enum Runs {
    /// Tests of a binary, or of the libraries, whose names hold a word.
    Tests(&'static [&'static str], &'static str),
    /// Words for cargo.
    Program(&'static [&'static str]),
    /// An example of the crate `tests`, which runs nodes as processes.
    Example(&'static str),
    /// The attribution index before other searchers.
    Oracle,
    /// Decoders before libFuzzer.
    Fuzz,
    /// Indexes of texts that are hard to sort, at size.
    Hard,
}

use Runs::{Example, Fuzz, Hard, Oracle, Program, Tests};

const CAMPAIGNS: [Campaign; 13] = [
    Campaign {
        name: "differential",
        about: "Rust and the contracts agree byte for byte",
        runs: Tests(&["--test", "evm"], "differential"),
        cases: ("TRIBUTARY_DIFFERENTIAL", "100000"),
        is_repeated: false,
    },
    Campaign {
        name: "durability",
        about: "operators come and go for four months, and repair is as often and as deep as the closed form says",
        runs: Tests(&["--lib"], "a_thousand_operators_come_and_go"),
        cases: ("TRIBUTARY_CHURN_OPERATORS", "3000"),
        is_repeated: false,
    },
    Campaign {
        name: "equality",
        about: "every path of the processor gives the bits of plain loops, in any batch, order and mix of adapters",
        runs: Tests(&["--test", "equality"], "every_path_has_the_bits"),
        cases: ("TRIBUTARY_EQUALITY", "1000000"),
        is_repeated: false,
    },
    Campaign {
        name: "failures",
        about: "whatever fails charges nothing, by the chain's own balances",
        runs: Tests(&["--test", "e2e"], "failures::"),
        cases: ("TRIBUTARY_FAILURES", "10000"),
        is_repeated: false,
    },
    Campaign {
        name: "flood",
        about: "false ads and records of holders cost a bounded table, and no read",
        runs: Tests(&["--test", "datanet"], "a_datanet_lives_on_five_nodes"),
        cases: ("TRIBUTARY_FALSE_RECORDS", "100000"),
        is_repeated: false,
    },
    Campaign {
        name: "fuzz",
        about: "what decodes the bytes of a stranger neither panics nor takes memory out of proportion, each target for so long",
        runs: Fuzz,
        cases: ("TRIBUTARY_FUZZ_SECONDS", "180"),
        is_repeated: false,
    },
    Campaign {
        name: "kernels",
        about: "every path of the processor is four times as quick as plain loops in products of exact and attention, and as quick as it was in the rest, by processor time",
        // Built as the gate builds it: kernels are optimised there.
        runs: Program(&["bench", "--workspace", "--profile", "dev", "--bench", "kernels", "--", "--check"]),
        cases: ("TRIBUTARY_KERNEL_ROUNDS", "1"),
        is_repeated: true,
    },
    Campaign {
        name: "kills",
        about: "a node that is killed at any token of an answer costs its client a second and no token",
        runs: Example("failover"),
        cases: ("TRIBUTARY_KILLS", "1000"),
        is_repeated: false,
    },
    Campaign {
        name: "oracle",
        about: "infini-gram and a naive searcher say what the index says, of each sequence ten queries or more",
        runs: Oracle,
        cases: ("TRIBUTARY_ORACLE_SEQUENCES", "30000"),
        is_repeated: false,
    },
    Campaign {
        name: "partitions",
        about: "a live network falls apart and heals, readers, holders and coordinators are killed, again and again",
        runs: Tests(&["--test", "e2e"], "faults::"),
        cases: ("TRIBUTARY_FAULT_ROUNDS", "20"),
        is_repeated: false,
    },
    Campaign {
        name: "pathological",
        about: "texts that are hard to sort are indexed within the memory given, and built and asked within a stated multiple of ordinary text",
        runs: Hard,
        cases: ("TRIBUTARY_PATHOLOGICAL_MB", "100"),
        is_repeated: false,
    },
    Campaign {
        name: "properties",
        about: "what holds for the cases that the gate draws, the same ones each time, holds for others",
        runs: Tests(
            &["--lib", "--test", "adapter", "--test", "disk", "--test", "doctor", "--test", "properties", "--test", "span_reference"],
            "",
        ),
        cases: ("TRIBUTARY_PROPERTY_ROUNDS", "20"),
        is_repeated: true,
    },
    Campaign {
        name: "store",
        about: "traces drawn by a seed, on a disk that loses power, fills up, or fails to sync at any write, keep what was acknowledged",
        runs: Tests(&["--lib"], "store::faults"),
        cases: ("TRIBUTARY_STORE_TRACES", "1000"),
        is_repeated: false,
    },
];

/// What ordinary text is made of.
const SOURCES: [&str; 4] = ["hp.obo", "icd10cm.xml", "cwe-1003.csv", "topics.txt"];

/// Builds and asks an index of so many megabytes of each text that is hard to sort.
fn hard(megabytes: u32) -> Result<()> {
    let sources = SOURCES.map(|name| cache("text").join(name));
    if !sources.iter().all(|source| source.is_file()) {
        fetch::run(What::Text)?;
    }
    // As the gate builds it, where the index is optimised.
    execute(cargo().args(["build", "--workspace", "--example", "attribution_bench"]))?;
    let mut program = command(target().join("debug/examples/attribution_bench"));
    program.arg("hard").arg(target().join("soak/pathological")).arg(megabytes.to_string());
    execute(program.args(sources))
}

/// Runs the campaigns that are named, all of them without a name; fuzzing takes `seconds` for each target, if they are given.
///
/// # Errors
/// If one fails, or none is called so.
pub(crate) fn run(names: &[String], seconds: Option<u32>) -> Result<()> {
    let is_chosen = |campaign: &&Campaign| names.is_empty() || names.iter().any(|name| name == campaign.name);
    let known = CAMPAIGNS.map(|campaign| campaign.name).join(", ");
    ensure!(
        names.iter().all(|name| CAMPAIGNS.iter().any(|campaign| campaign.name == name)),
        "no campaign is called {names:?}; there are: {known}"
    );
    let is_tests = |campaign: &Campaign| matches!(campaign.runs, Tests(..));
    if CAMPAIGNS.iter().filter(is_chosen).any(is_tests) {
        // Some run nodes as processes.
        crate::demo::build()?;
    }
    for campaign in CAMPAIGNS.iter().filter(is_chosen) {
        let start = Instant::now();
        let (variable, usual) = campaign.cases;
        // Whoever asks for another count has asked for it.
        let given = seconds.filter(|_| matches!(campaign.runs, Fuzz)).map(|seconds| seconds.to_string());
        let count = given.or_else(|| env::var(variable).ok()).unwrap_or_else(|| usual.to_owned());
        let number = || count.parse().with_context(|| format!("{variable} is {count:?}, not a number"));
        match campaign.runs {
            // With the features of the whole workspace, as the gate builds it.
            Tests(target, filter) => {
                let words = [&["test", "--workspace"], target, &[filter, "--", "--nocapture"]].concat();
                for _ in 0..if campaign.is_repeated { number()? } else { 1 } {
                    execute(cargo().args(&words).env("TRIBUTARY_ANVIL", contracts::anvil()).env(variable, &count))?;
                }
            }
            Program(words) => {
                for _ in 0..number()? {
                    execute(cargo().args(words))?;
                }
            }
            Example(name) => {
                execute(cargo().args(["build", "--workspace", "--bin", "tributary", "--example", name]))?;
                let example = target().join("debug/examples").join(name);
                execute(std::process::Command::new(example).env("TRIBUTARY_ANVIL", contracts::anvil()).env(variable, &count))?;
            }
            Oracle => oracle::compare(number()?)?,
            Fuzz => fuzz::run(number()?)?,
            Hard => hard(number()?)?,
        }
        println!(
            "{}: {}, {count} {} ({variable}), {:.1} s",
            campaign.name,
            campaign.about,
            match campaign.runs {
                _ if campaign.is_repeated => "rounds",
                Fuzz => "seconds",
                Hard => "MB",
                Tests(..) | Program(_) | Example(_) | Oracle => "cases",
            },
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Binaries of tests that draw cases, of every crate.
    fn drawing(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for member in fs::read_dir(root).unwrap() {
            let Ok(files) = fs::read_dir(member.unwrap().path().join("tests")) else { continue };
            for file in files {
                let path = file.unwrap().path();
                let is_drawing =
                    path.extension().is_some_and(|ending| ending == "rs") && fs::read_to_string(&path).unwrap().contains("proptest! {");
                found.extend(path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_drawing).map(str::to_owned));
            }
        }
        found
    }

    #[test]
    fn whatever_the_gate_draws_the_same_each_time_the_campaign_of_properties_draws_anew() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let Some(Campaign { runs: Tests(target, _), .. }) = CAMPAIGNS.iter().find(|campaign| campaign.name == "properties") else {
            panic!("there is no such campaign");
        };
        let drawing = drawing(root);
        assert!(drawing.iter().any(|name| name == "properties"), "{drawing:?}");
        for name in drawing {
            assert!(target.contains(&name.as_str()), "--test {name} is not run");
        }
    }
}
