//! `tributary audit`: proving a node wrong on the chain, having an answer executed again by another node, and slash cases against nodes that lost what they hold.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use types::id::{Address, NodeId};

use super::Context;

mod case;
pub mod check;
pub mod index;
pub mod prove;
pub mod replay;

/// Audits of other people's receipts.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Whoever holds a receipt's bundle can audit it: the texts are public, and the chain pays the reporter of a proven fault.\n\nExamples:\n  tributary audit prove R.json --dry-run       search for false, misdirected and omitted spans, send nothing\n  tributary audit prove R.json                 prove what is found: the node's stake falls\n  tributary audit prove FOLDER                 prove what an exported folder shows\n  tributary audit prove FOLDER --request R.json  hold your request against what its node posted for it\n  tributary audit check R.json --local         have your own node execute the answer again\n  tributary audit check R.json --node NODE_ID  have another node do it\n  tributary audit replay FOLDER                rebuild every payout of an exported folder\n  tributary audit index NAME --from R.json     compare a posted index root with the texts; refute a wrong one\n  tributary audit case open EVIDENCE           ask a node on the chain for bytes that it did not show its auditors"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Search a receipt, or an exported folder, for faults; prove them to the chain.
    #[command(
        after_help = "Rebuilds the index from the public Datanets (fetched from their holders where missing) and compares each span with it. A proof takes\ntwo transactions: a commitment to its hash, then, from the next block on, the proof, so that nobody can copy it."
    )]
    Prove {
        /// The receipt's file, or a folder that `tributary epoch export` wrote.
        file: PathBuf,
        /// With a folder: a receipt of yours whose signed request is held against what the node posted for it (F6). A challenge with a bond; the same
        /// command settles it when the node did not show another request in time.
        #[arg(long, value_name = "RECEIPT")]
        request: Vec<PathBuf>,
        /// Overlay address to join through [default: from the configuration].
        #[arg(long, value_name = "MULTIADDR")]
        bootstrap: Vec<String>,
    },
    /// Have a node execute the answer again, compare, and sign what it found.
    Check {
        /// The receipt's file.
        file: PathBuf,
        /// Which node.
        #[arg(long, value_name = "NODE_ID", conflicts_with = "local", required_unless_present = "local")]
        node: Option<NodeId>,
        /// This data folder's running node.
        #[arg(long)]
        local: bool,
        /// Overlay address to join through [default: from the configuration].
        #[arg(long, value_name = "MULTIADDR")]
        bootstrap: Vec<String>,
    },
    /// Rebuild the index of a version, compare it with the posted root, and refute a root that is wrong.
    #[command(
        disable_version_flag = true,
        after_help = "Texts that are not here are fetched from their holders. Equal roots say that the index is right. Of a wrong root, receipts under it (--from) show leaves;\nwhat they show wrong is proven in two transactions, as by `audit prove`: its indexer is slashed, and nobody answers under it any more. Leaves that nobody\nshows prove nothing: nodes rebuild an index before they answer, and serve no version whose root is another."
    )]
    Index {
        /// The base, adapter or agent: a name, a number or ASSET@VERSION.
        version: String,
        /// A receipt's file under the posted root, or a folder of such; may be given several times.
        #[arg(long, value_name = "PATH")]
        from: Vec<PathBuf>,
        /// Overlay address to join through [default: from the configuration].
        #[arg(long, value_name = "MULTIADDR")]
        bootstrap: Vec<String>,
    },
    /// Slash cases: what a node committed to and did not show its auditors is asked for on the chain; silence costs it stake.
    Case {
        #[command(subcommand)]
        action: case::Action,
    },
    /// Rebuild every payout from a folder that `tributary epoch export` wrote.
    #[command(
        after_help = "Needs no node, no wallet and no network: the folder holds receipts, quotes, manifests and the chain's events. Receipts are\nsigned by their nodes and trees follow from them; the events are the word of who exported them, which the folder carries signed: --by ADDRESS\nsays whose word is taken, and with --rpc URL they are compared with the chain's. Fails with the first record at odds.\nEach tree stands on the one before: every epoch up to --to is rebuilt, those from --from on are shown. --reattribute searches the answers whose bundles are at\nhand once more under other parameters, and shows who would have been paid how much more or less.\n\nExamples:\n  tributary audit replay FOLDER --from 3 --to 5\n  tributary audit replay FOLDER --reattribute 1                             what was paid, from a new search: nothing may differ\n  tributary audit replay FOLDER --reattribute 2 --parameters set.json --bundles RECEIPTS --texts TEXTS"
    )]
    Replay {
        /// The folder.
        folder: PathBuf,
        /// Who must have signed the export: the chain's events in it are then this account's word.
        #[arg(long, value_name = "ADDRESS")]
        by: Option<Address>,
        /// First epoch to show [default: the folder's first].
        #[arg(long, value_name = "EPOCH")]
        from: Option<u64>,
        /// Last epoch to rebuild [default: the folder's last].
        #[arg(long, value_name = "EPOCH")]
        to: Option<u64>,
        /// Attribute the answers once more under the parameters of this id, and show what they would have paid.
        #[arg(long, value_name = "ID")]
        reattribute: Option<u32>,
        /// File of these parameters, if they are not built in: JSON with id, m, theta, unknown and words (those of set 1 if left out).
        #[arg(long, value_name = "FILE", requires = "reattribute")]
        parameters: Option<PathBuf>,
        /// Folder with the receipts' bundles [default: those of the data folder].
        #[arg(long, value_name = "FOLDER", requires = "reattribute")]
        bundles: Option<PathBuf>,
        /// Folder with the texts, written by `receipt texts` [default: the data folder's shards, in the order that the chain says].
        #[arg(long, value_name = "FOLDER", requires = "reattribute")]
        texts: Option<PathBuf>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Prove { file, request, bootstrap } => prove::run(context, &file, &request, context.is_dry(), bootstrap).await,
        Action::Check { file, node, local: _, bootstrap } => check::run(context, &file, node, bootstrap).await,
        Action::Index { version, from, bootstrap } => index::run(context, &version, &from, context.is_dry(), bootstrap).await,
        Action::Case { action } => case::run(context, action).await,
        Action::Replay { folder, by, from, to, reattribute, parameters, bundles, texts } => {
            let reattribute = reattribute.map(|id| replay::reattribute::Asked { id, parameters, bundles, texts });
            replay::run(context, &folder, replay::Asked { by, from, to, reattribute }).await
        }
    }
}
