//! `tributary epoch`: what happened in an epoch, and its public record in a folder.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Subcommand};
use types::id::Address;

use super::Context;

pub mod events;
pub mod export;
pub mod folder;
pub mod lines;
pub mod show;
pub mod signed;

/// Settlement periods: roots, payouts, and their public record.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Nodes post the roots of their receipts in epochs; a payout tree over all of them follows, and is final after its window.\n\nExamples:\n  tributary epoch show                  the newest epoch\n  tributary epoch show 3 --account 0x…  what an account was given in epoch 3, and may claim\n  tributary epoch export 3 --out F      everything that payouts 1 to 3 follow from, for `tributary audit replay F`"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show an epoch: its roots by node, its payout, and what an account may claim.
    Show {
        /// Its number [default: the newest].
        epoch: Option<u64>,
        /// Whose claim to show.
        #[arg(long, value_name = "ADDRESS")]
        account: Option<Address>,
        /// Overlay address to join through [default: from the configuration].
        #[arg(long, value_name = "MULTIADDR")]
        bootstrap: Vec<String>,
    },
    /// Write what the payouts of all epochs up to one follow from into a folder.
    #[command(
        after_help = "The receipts come from the nodes that posted them, the events from the chain; both are checked, and the trees rebuilt, before the\nfolder gets its index, which this wallet signs: who trusts it needs no endpoint to replay the folder. A folder that holds earlier epochs is continued: what it has is not fetched again.\nNodes that answer slowly cannot hold it up for longer than --within: the epochs that are whole by then are an export of their own, which is continued too.\nA payout that is not the one its receipts give is exported by the lines that its poster shows or left in calldata, which is read back from the posting\nif nobody shows them; `tributary audit replay` names the first difference."
    )]
    Export {
        /// The last epoch; its payout must have been posted.
        epoch: u64,
        /// The folder.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// Do not vouch for the events with this wallet's signature.
        #[arg(long)]
        unsigned: bool,
        /// Give up after so many seconds; what is whole by then is kept, and the same command goes on from there.
        #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
        within: u64,
        /// Overlay address to join through [default: from the configuration].
        #[arg(long, value_name = "MULTIADDR")]
        bootstrap: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Show { epoch, account, bootstrap } => show::run(context, epoch, account, bootstrap).await,
        Action::Export { epoch, out, unsigned, within, bootstrap } => {
            export::run(context, epoch, &out, unsigned, Duration::from_secs(within), bootstrap).await
        }
    }
}
