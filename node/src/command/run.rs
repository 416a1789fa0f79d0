//! `tributary run`: the node itself, until it is told to stop.

use clap::Args as ClapArgs;
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use crate::{config::Computed, running::Node};

/// Join the network and serve until interrupted.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Reads tributary.toml in the data folder. Prints where the node is reached once it listens; with --json as one document.\nInterrupt or terminate it to stop, as `tributary drain` does: it tells the network it is leaving, begins no answer, ends those under way within 25 s and\nkeeps every receipt. A second signal ends it at once; clients go on elsewhere and pay for what they have.\nWith poster = true it posts payouts; then, or with watch_payouts = true, it rebuilds those of others and proves wrong ones to the chain.\nThe lines of a payout it posts lie in the data folder; availability = \"calldata\" under [settlement] puts them on the chain too, at 40 gas a byte,\nso that others can check the payout while this node does not answer.\n\nExample:\n  TRIBUTARY_LOG=info tributary run --password-file password.txt\n\nBefore: tributary init, and tributary stake add, without which nobody asks this node. Next, in another terminal: tributary status\nsays what is served and what is waited for; the overlay address printed is what others give as --bootstrap."
)]
pub struct Args {
    /// Numeric rules to answer under [default: from the configuration, exact there if nothing is said]: exact gives the same bits on every machine, so any
    /// checker can hold this node to each token; fast is whatever is quickest here, and receipts commit to fingerprints of activations. Clients ask for one of
    /// them, and are refused under the other.
    #[arg(long, value_enum, value_name = "PROFILE")]
    profile: Option<Computed>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut config = context.config()?;
    config.profile = args.profile.unwrap_or(config.profile);
    let mut node = Node::start(context, config).await?;
    let at = node.addresses.clone();
    context.output.result(&at, || {
        format!(
            "node     {}\naccount  {}\nclients  {}\nbulk     {}\nlog      {}\nmetrics  {}\noverlay  {}\n\nserving; interrupt to stop",
            at.node,
            at.account,
            at.clients,
            at.bulk,
            at.log.map_or_else(|| "not served".to_owned(), |at| format!("http://{at}")),
            at.admin.map_or_else(|| "not served".to_owned(), |at| format!("http://{at}/metrics")),
            at.overlay.join("\n         ")
        )
    })?;
    let fault = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        why = node.failed() => Some(why),
    };
    if let Some(why) = fault {
        node.stop().await;
        anyhow::bail!(why);
    }
    let begun = node.begun();
    let drained = tokio::select! {
        drained = node.drain() => drained,
        _ = interrupt.recv() => node.drained(begun),
        _ = terminate.recv() => node.drained(begun),
    };
    context.output.note(&drained.to_string());
    // Before the folder is let go of, for who waits for that; a full disk does not keep the node from stopping in order.
    let kept = drained.keep(&context.data);
    node.stop().await;
    kept
}
