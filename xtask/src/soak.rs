//! Campaigns: tests of the gate, run for longer. What the gate tries a thousand times, a campaign tries a hundred times as often.
//!
//! A campaign is a test's name and a variable that says how many cases it tries; it fails as the test fails, naming the first case at odds.

use std::env;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::shell::{cargo, execute};
use crate::{contracts, oracle};

/// One campaign.
struct Campaign {
    name: &'static str,
    /// What it asks.
    about: &'static str,
    /// What cargo is to test: a binary, or the libraries.
    target: &'static [&'static str],
    /// Tests whose names hold this.
    filter: &'static str,
    /// Says how many cases, and the count.
    cases: (&'static str, &'static str),
    /// The tests do not read how many: they are run so often, each time with cases drawn anew.
    is_repeated: bool,
}

/// Not a test: the index before infini-gram and a naive searcher.
const ORACLE: &str = "oracle";

const CAMPAIGNS: [Campaign; 8] = [
    Campaign {
        name: "differential",
        about: "Rust and the contracts agree byte for byte",
        target: &["--test", "evm"],
        filter: "differential",
        cases: ("TRIBUTARY_DIFFERENTIAL", "100000"),
        is_repeated: false,
    },
    Campaign {
        name: "durability",
        about: "operators come and go for four months, and repair is as often and as deep as the closed form says",
        target: &["--lib"],
        filter: "a_thousand_operators_come_and_go",
        cases: ("TRIBUTARY_CHURN_OPERATORS", "3000"),
        is_repeated: false,
    },
    Campaign {
        name: "equality",
        about: "every path of the processor gives the bits of plain loops, in any batch, order and mix of adapters",
        target: &["--test", "equality"],
        filter: "every_path_has_the_bits",
        cases: ("TRIBUTARY_EQUALITY", "1000000"),
        is_repeated: false,
    },
    Campaign {
        name: "failures",
        about: "whatever fails charges nothing, by the chain's own balances",
        target: &["--test", "e2e"],
        filter: "failures::",
        cases: ("TRIBUTARY_FAILURES", "10000"),
        is_repeated: false,
    },
    Campaign {
        name: "flood",
        about: "false ads and records of holders cost a bounded table, and no read",
        target: &["--test", "datanet"],
        filter: "a_datanet_lives_on_five_nodes",
        cases: ("TRIBUTARY_FALSE_RECORDS", "100000"),
        is_repeated: false,
    },
    Campaign {
        name: "partitions",
        about: "a live network falls apart and heals, readers, holders and coordinators are killed, again and again",
        target: &["--test", "e2e"],
        filter: "faults::",
        cases: ("TRIBUTARY_FAULT_ROUNDS", "20"),
        is_repeated: false,
    },
    Campaign {
        name: "properties",
        about: "what holds for the cases that the gate draws, the same ones each time, holds for others",
        target: &["--lib"],
        filter: "",
        cases: ("TRIBUTARY_PROPERTY_ROUNDS", "20"),
        is_repeated: true,
    },
    Campaign {
        name: "store",
        about: "traces drawn by a seed, on a disk that loses power, fills up, or fails to sync at any write, keep what was acknowledged",
        target: &["--lib"],
        filter: "store::faults",
        cases: ("TRIBUTARY_STORE_TRACES", "1000"),
        is_repeated: false,
    },
];

/// Runs the campaigns that are named; all of them without a name.
///
/// # Errors
/// If one fails, or none is called so.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let is_chosen = |campaign: &&Campaign| names.is_empty() || names.iter().any(|name| name == campaign.name);
    let known = CAMPAIGNS.map(|campaign| campaign.name).join(", ");
    ensure!(
        names.iter().all(|name| name == ORACLE || CAMPAIGNS.iter().any(|campaign| campaign.name == name)),
        "no campaign is called {names:?}; there are: {known}, {ORACLE}"
    );
    if names.is_empty() || names.iter().any(|name| name == ORACLE) {
        let start = Instant::now();
        oracle::compare(oracle::CAMPAIGN)?;
        println!("{ORACLE}: infini-gram and a naive searcher say what the index says, {:.1} s", start.elapsed().as_secs_f64());
    }
    if names.iter().all(|name| name == ORACLE) && !names.is_empty() {
        return Ok(());
    }
    // Some run nodes as processes.
    crate::demo::build()?;
    for campaign in CAMPAIGNS.iter().filter(is_chosen) {
        let start = Instant::now();
        let (variable, usual) = campaign.cases;
        // Whoever asks for another count has asked for it.
        let count = env::var(variable).unwrap_or_else(|_| usual.to_owned());
        let mut command = cargo();
        // With the features of the whole workspace, as the gate builds it.
        command.args(["test", "--workspace"]).args(campaign.target).args([campaign.filter, "--", "--nocapture"]);
        command.env("TRIBUTARY_ANVIL", contracts::anvil()).env(variable, &count);
        let rounds =
            if campaign.is_repeated { count.parse().with_context(|| format!("{variable} is {count:?}, not a number"))? } else { 1_u32 };
        for _ in 0..rounds {
            execute(&mut command)?;
        }
        println!(
            "{}: {}, {count} {} ({variable}), {:.1} s",
            campaign.name,
            campaign.about,
            if campaign.is_repeated { "rounds" } else { "cases" },
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
