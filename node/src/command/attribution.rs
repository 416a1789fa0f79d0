//! `tributary attribution`: what verbatim attribution finds, measured, so that a model's card can say it.

mod answers;
mod report;

use clap::{Args as ClapArgs, Subcommand};

use super::Context;

/// Attribution: measure what it finds, and what it finds where there is nothing to find.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measure coverage, false positives, agreement with OLMoTrace's rules, and times, over one corpus or many.
    Report(Box<report::Args>),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Report(args) => report::run(context, *args).await,
    }
}
