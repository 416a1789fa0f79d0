//! Developer commands: `cargo xtask <command>`.
//!
//! `test` is the gate, `fetch` brings model and text, `demo` runs the main job, `soak` tries for longer, `bench` prints figures, `audit` asks about
//! licences, advisories and spelling. Nothing here links a crate of the workspace: it builds, fetches and drives the built binary.
//! Whatever is downloaded or derived lies under `.cache/`, whatever is built under `target/`; both are ignored by git.

mod arm;
mod audit;
mod bench;
mod contracts;
mod demo;
mod fetch;
mod fuzz;
mod oracle;
mod python;
mod shell;
mod soak;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of Tributary.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The gate: contracts, vectors, format, build, lints, tests, docs, one end-to-end run.
    Test {
        /// Only the steps whose name holds one of these words, for instance `clippy`; the whole gate without any.
        steps: Vec<String>,
    },
    /// Download what the demo and the tests read, pinned by sha256, into .cache/.
    Fetch {
        /// What to fetch.
        #[arg(value_enum, default_value = "all")]
        what: fetch::What,
    },
    /// Fetch, build and run the main job: five nodes, a chain, real questions.
    Demo {
        /// Handed to `tributary demo`, for instance --exit.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Tests of the gate, run for longer: all campaigns, or those that are named, for instance `differential`.
    Soak {
        /// Names.
        names: Vec<String>,
        /// Of the campaign `fuzz`: seconds for each of its targets (180).
        #[arg(long, value_name = "N")]
        seconds: Option<u32>,
    },
    /// Print measured figures beside their limits.
    Bench(bench::Options),
    /// Licences and advisories of dependencies, npm advisories, spelling. Compiles its tools the first time.
    Audit(audit::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Test { steps } => test::run(&steps),
        Command::Fetch { what } => fetch::run(what),
        Command::Demo { arguments } => demo::run(&arguments),
        Command::Soak { names, seconds } => soak::run(&names, seconds),
        Command::Bench(options) => bench::run(&options),
        Command::Audit(options) => audit::run(&options),
    };
    // The chain of causes on one line; a backtrace of ours says nothing about a program we started.
    done.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
