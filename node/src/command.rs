//! The command line: one file per command, `--help` that teaches, `--json` everywhere.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use chain_bridge::chain::error::ChainError;
use types::{id::Hash32, merkle::keccak};

use crate::{
    data::DataDir,
    explain::Consent,
    output::{Output, show_wei},
};

pub mod adapter;
mod agent;
pub mod ask;
pub mod attribution;
pub mod audit;
mod certain;
pub mod chain;
pub mod claim;
mod context;
pub mod datanet;
pub mod demo;
pub mod doctor;
pub mod drain;
pub mod epoch;
pub mod gateway;
pub mod index;
pub mod init;
mod marks;
pub mod model;
pub mod publish;
pub mod receipt;
pub mod refund;
pub mod registry;
pub mod run;
mod sent;
pub mod settle;
pub mod stake;
pub mod status;
pub mod storage;
pub(crate) mod talk;
pub mod train;
pub mod wallet;

pub use context::Context;

/// Heading of the options that every command takes.
const EVERYWHERE: &str = "Everywhere";

/// What to do first, by who does it.
const FIRST_STEPS: &str = "First steps:
  tributary init                                  a key, a wallet and a configuration in the data folder

to ask
  tributary wallet deposit \"1 OPEN\"              answers are paid from it, token by token
  tributary ask --with NAME \"What is gout?\"      the answer, its sources, its price, its receipt
  tributary receipt verify RECEIPT.json           checks the receipt offline

to serve
  tributary model pull model.gguf                 checks a model file and keeps it
  tributary stake add \"20 OPEN\"                  binds the wallet to the node
  tributary doctor                                whether machine, folder and chain let it serve and earn
  tributary run                                   joins the network; tributary status says what it serves
  tributary drain                                 stops it: answers under way are finished first
  tributary claim                                 takes what the answers earned

to be paid for text
  tributary datanet list                          what there is; datanet create makes a new one
  tributary datanet contribute NAME texts.jsonl

to make a model that knows it
  tributary datanet fetch NAME                    its text, from the nodes that keep it
  tributary train --datanet 2@1 --base model.gguf --out adapter
  tributary adapter publish adapter --name NAME --base 1@1 --datanet 2@1

tributary demo shows all of it at once, on a chain of its own. Exit codes: 0 done, 1 refused or failed, 2 a command line that says nothing.";

/// A peer-to-peer network that answers questions with language models and pays the people whose data the answers drew on.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = FIRST_STEPS)]
pub struct Cli {
    /// Folder that holds this node's or client's keys, configuration and data.
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "TRIBUTARY_DATA", value_name = "DIR", default_value_os_t = default_data_dir())]
    pub data_dir: PathBuf,
    /// Contract addresses of the deployment [default: registry.json in the data folder].
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "TRIBUTARY_REGISTRY", value_name = "FILE")]
    pub registry: Option<PathBuf>,
    /// JSON-RPC endpoint of the chain [default: from the configuration].
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "TRIBUTARY_RPC", value_name = "URL")]
    pub rpc: Option<String>,
    /// File that holds the wallet's password; otherwise TRIBUTARY_PASSWORD, otherwise you are asked.
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "TRIBUTARY_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// Sign each transaction without asking.
    #[arg(long, short = 'y', global = true, help_heading = EVERYWHERE)]
    pub yes: bool,
    /// Show what would be signed, with its cost, and sign nothing.
    #[arg(long, global = true, help_heading = EVERYWHERE, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Send once more what an earlier run of the same command has sent, which was stopped before it told you.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub again: bool,
    /// Show amounts in wei rather than OPEN.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub wei: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

fn default_data_dir() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from(".tributary"), |home| PathBuf::from(home).join(".tributary"))
}

/// The commands.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "each command's arguments carry its words")]
pub enum Command {
    Init(init::Args),
    Doctor(doctor::Args),
    Run(run::Args),
    Drain(drain::Args),
    Ask(ask::Args),
    Gateway(gateway::Args),
    Model(model::Args),
    Adapter(adapter::Args),
    Agent(agent::Args),
    Settle(settle::Args),
    Datanet(datanet::Args),
    Stake(stake::Args),
    Status(status::Args),
    Storage(storage::Args),
    Wallet(wallet::Args),
    Claim(claim::Args),
    Refund(refund::Args),
    Epoch(epoch::Args),
    Registry(registry::Args),
    Chain(chain::Args),
    Receipt(receipt::Args),
    Attribution(attribution::Args),
    Index(index::Args),
    Audit(audit::Args),
    Train(train::Args),
    Demo(demo::Args),
}

/// A command that has printed its result, which says no: with `--json` nothing is printed after it, the exit code is 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// Parses the command line, runs the command, and turns an error into one plain line and exit code 1 (2 for a wrong command line).
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let output = Output::new(cli.json).with_consent(Consent::of(cli.yes, cli.dry_run)).for_command(fingerprint(&cli.command), cli.again);
    if cli.wei {
        show_wei();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&output, &anyhow::Error::new(error)),
    };
    let done = runtime.block_on(async {
        let done = execute(cli, output.clone()).await;
        output.note_told().await;
        done
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match done.or_else(|error| dry(&output, error)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&output, &error),
    }
}

/// What tells a command line from others: its words, without how it is printed and agreed to.
fn fingerprint(command: &Command) -> Hash32 {
    keccak(&[b"tributary/command/v1".as_slice(), format!("{command:?}").as_bytes()])
}

/// A dry run that came to its end at a transaction has done what it was asked.
fn dry(output: &Output, error: anyhow::Error) -> anyhow::Result<()> {
    if output.consent != Consent::Refused || !is_not_sent(&error) {
        return Err(error);
    }
    output.result(&serde_json::json!({ "is_dry_run": true }), || "nothing was sent (--dry-run)".to_owned())
}

/// Whether an error says that consent to a transaction was not given.
pub(crate) fn is_not_sent(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ChainError::NotSent { .. })))
}

fn fail(output: &Output, error: &anyhow::Error) -> ExitCode {
    if !(output.is_json && error.is::<Failed>()) {
        output.error(&told(error));
    }
    ExitCode::FAILURE
}

/// An error and its causes; a cause that an earlier sentence has quoted is not said again.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// A command line that says nothing that can be done; a program that asked for JSON is told in JSON.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_json = std::env::args_os().any(|argument| argument == "--json");
    if !(error.use_stderr() && is_json) {
        error.exit();
    }
    let text = error.render().to_string();
    Output::new(is_json).error(text.trim().trim_start_matches("error: "));
    ExitCode::from(2)
}

async fn execute(cli: Cli, output: Output) -> anyhow::Result<()> {
    // Whole, so that a path that is printed means the same wherever it is pasted.
    let folder = std::path::absolute(&cli.data_dir).with_context(|| format!("--data-dir {:?}", cli.data_dir))?;
    let context = Context::new(DataDir::new(folder), cli.registry, cli.rpc, cli.password_file, output);
    if context.is_dry()
        && let Some(why) = undry(&cli.command)
    {
        anyhow::bail!("--dry-run: {why}; nothing was done");
    }
    match cli.command {
        Command::Init(args) => init::run(&context, args),
        Command::Doctor(args) => doctor::run(&context, args).await,
        Command::Run(args) => run::run(&context, args).await,
        Command::Drain(args) => drain::run(&context, args).await,
        Command::Ask(args) => ask::run(&context, args).await,
        Command::Gateway(args) => gateway::run(&context, args).await,
        Command::Model(args) => model::run(&context, args).await,
        Command::Adapter(args) => adapter::run(&context, args).await,
        Command::Agent(args) => agent::run(&context, args).await,
        Command::Settle(args) => settle::run(&context, args).await,
        Command::Datanet(args) => datanet::run(&context, args).await,
        Command::Stake(args) => stake::run(&context, args).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Storage(args) => storage::run(&context, args).await,
        Command::Wallet(args) => wallet::run(&context, args).await,
        Command::Claim(args) => claim::run(&context, args).await,
        Command::Refund(args) => refund::run(&context, args).await,
        Command::Epoch(args) => epoch::run(&context, args).await,
        Command::Registry(args) => registry::run(&context, args).await,
        Command::Chain(args) => chain::run(&context, args).await,
        Command::Receipt(args) => receipt::run(&context, args).await,
        Command::Attribution(args) => attribution::run(&context, args).await,
        Command::Index(args) => index::run(&context, args).await,
        Command::Audit(args) => audit::run(&context, args).await,
        Command::Train(args) => train::run(&context, args).await,
        Command::Demo(args) => demo::run(args).await,
    }
}

/// Why a command can promise or pay without a transaction of its own that could be left out.
const fn undry(command: &Command) -> Option<&'static str> {
    match command {
        Command::Ask(_) => Some("an answer is paid by vouchers as it comes: --max-fee bounds what it may cost"),
        Command::Gateway(_) => Some("its answers are paid by vouchers as they come: --max-fee bounds what each may cost"),
        Command::Settle(_) => Some("the running node settles, by its own transactions"),
        Command::Refund(_) => Some("a credit note is signed without a transaction, and stands"),
        Command::Drain(_) => Some("nothing is signed by it: the node stops"),
        Command::Run(_) => Some("a node signs as its clients ask it to"),
        Command::Demo(_) => Some("the demonstration signs on a chain of its own"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_says_what_it_does_and_what_to_run_next() {
        Cli::command().debug_assert();
        let root = Cli::command();
        let mut open: Vec<(&clap::Command, bool)> = root.get_subcommands().map(|command| (command, false)).collect();
        while let Some((command, is_taught)) = open.pop() {
            // A family of commands may teach at its head.
            let is_taught = is_taught || command.get_after_help().is_some() || command.get_after_long_help().is_some();
            assert!(command.get_about().is_some(), "{} does not say what it does", command.get_name());
            assert!(is_taught || command.has_subcommands(), "{} does not say how it is used", command.get_name());
            open.extend(command.get_subcommands().map(|inner| (inner, is_taught)));
        }
    }

    #[test]
    fn a_command_is_the_same_however_it_is_printed_and_another_with_another_amount() {
        let of = |line: &str| fingerprint(&Cli::try_parse_from(line.split(' ')).unwrap().command);
        let deposit = of("tributary wallet deposit 5");
        assert_eq!(deposit, of("tributary --json wallet deposit 5 --yes --again --wei"));
        assert_eq!(deposit, of("tributary wallet deposit 0.000000000000000005OPEN"));
        assert_ne!(deposit, of("tributary wallet deposit 6"));
        assert_ne!(deposit, of("tributary stake add 5"));
    }

    #[test]
    fn a_cause_that_was_quoted_is_not_said_twice() {
        let cause = std::io::Error::other("the disk is full");
        let error = crate::data::DataError::Io { path: "a".into(), source: cause };
        let text = told(&anyhow::Error::new(error).context("keeping a receipt"));
        assert_eq!(text, "keeping a receipt: a: the disk is full: check that the folder exists and belongs to you");
        assert_eq!(told(&anyhow::anyhow!("why").context("what")), "what: why");
    }
}
