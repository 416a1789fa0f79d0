//! `tributary storage`: what the operator's own node holds for others, and how that stands.

mod check;

use clap::{Args as ClapArgs, Subcommand};

use super::Context;

/// See to the fragments that this node keeps for Datanets.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Check(args) => check::run(context, args).await,
    }
}
