//! The command line: one file per command, `--help` that teaches, `--json` everywhere.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{data::DataDir, output::Output};

pub mod adapter;
pub mod ask;
pub mod audit;
pub mod claim;
mod context;
pub mod datanet;
pub mod demo;
mod index;
pub mod init;
pub mod model;
pub mod publish;
pub mod receipt;
pub mod run;
mod sent;
pub mod settle;
pub mod stake;
pub mod status;
mod talk;
pub mod train;
pub mod wallet;

pub use context::Context;

/// A peer-to-peer network that answers questions with language models and pays the people whose data the answers drew on.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "First steps:\n  tributary init              a key, a wallet and a configuration in the data folder\n  tributary run               join the network and serve\n  tributary ask \"What is …?\"  ask, pay per token, keep the receipt\n  tributary receipt verify F  check a receipt offline"
)]
pub struct Cli {
    /// Folder that holds this node's or client's keys, configuration and data.
    #[arg(long, global = true, env = "TRIBUTARY_DATA", value_name = "DIR", default_value_os_t = default_data_dir())]
    pub data_dir: PathBuf,
    /// Contract addresses of the deployment [default: registry.json in the data folder].
    #[arg(long, global = true, env = "TRIBUTARY_REGISTRY", value_name = "FILE")]
    pub registry: Option<PathBuf>,
    /// JSON-RPC endpoint of the chain [default: from the configuration].
    #[arg(long, global = true, env = "TRIBUTARY_RPC", value_name = "URL")]
    pub rpc: Option<String>,
    /// File that holds the wallet's password; otherwise TRIBUTARY_PASSWORD, otherwise you are asked.
    #[arg(long, global = true, env = "TRIBUTARY_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,
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
    Run(run::Args),
    Ask(ask::Args),
    Model(model::Args),
    Adapter(adapter::Args),
    Settle(settle::Args),
    Datanet(datanet::Args),
    Stake(stake::Args),
    Status(status::Args),
    Wallet(wallet::Args),
    Claim(claim::Args),
    Receipt(receipt::Args),
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
    let cli = Cli::parse();
    let output = Output { is_json: cli.json };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(output, &anyhow::Error::new(error)),
    };
    let done = runtime.block_on(execute(cli, output));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(output, &error),
    }
}

fn fail(output: Output, error: &anyhow::Error) -> ExitCode {
    if output.is_json && error.is::<Failed>() {
        return ExitCode::FAILURE;
    }
    if output.is_json {
        println!("{}", serde_json::json!({ "error": format!("{error:#}") }));
    } else {
        eprintln!("error: {error:#}");
    }
    ExitCode::FAILURE
}

async fn execute(cli: Cli, output: Output) -> anyhow::Result<()> {
    let context = Context::new(DataDir::new(cli.data_dir), cli.registry, cli.rpc, cli.password_file, output);
    match cli.command {
        Command::Init(args) => init::run(&context, args),
        Command::Run(args) => run::run(&context, args).await,
        Command::Ask(args) => ask::run(&context, args).await,
        Command::Model(args) => model::run(&context, args).await,
        Command::Adapter(args) => adapter::run(&context, args).await,
        Command::Settle(args) => settle::run(&context, args).await,
        Command::Datanet(args) => datanet::run(&context, args).await,
        Command::Stake(args) => stake::run(&context, args).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Wallet(args) => wallet::run(&context, args).await,
        Command::Claim(args) => claim::run(&context, args).await,
        Command::Receipt(args) => receipt::run(&context, args).await,
        Command::Audit(args) => audit::run(&context, args).await,
        Command::Train(args) => train::run(&context, args).await,
        Command::Demo(args) => demo::run(args).await,
    }
}
