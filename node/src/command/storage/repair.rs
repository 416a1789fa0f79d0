//! `tributary storage repair`: the running node looks now for what is lost, instead of at its next turn.

use anyhow::bail;
use clap::Args as ClapArgs;
use serde::Serialize;
use types::id::BlobId;

use super::{Answer, Ask, Context, ObjectRow, ask, report};

/// Make the running node look now for lost fragments: it asks the other holders of its objects what they have, mends what is due and its turn, and reads its whole store for rot.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Patience and budget are those of the configuration ([keeping.repair]): a holder that is merely silent keeps its fragments for some hours. The store is read at [keeping] scrub_bytes_per_s; what has rotted is computed anew from other holders.\n\nExample:\n  tributary storage repair\n\nNext: tributary storage status shows what came of it."
)]
pub(super) struct Args {
    /// Only tell of this object.
    object: Option<BlobId>,
}

#[derive(Debug, Serialize)]
struct Printed {
    /// Objects that this node watches, or the one asked for.
    objects: usize,
    /// Those below their floor and not whole since.
    due: Vec<BlobId>,
    /// Those that this node mends now.
    mending: Vec<BlobId>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    if ask(context, Ask::Repair).await? != Answer::Looking {
        bail!("the node answered something else");
    }
    let report = report(context, args.object).await?;
    let of = |is: fn(&ObjectRow) -> bool| report.objects.iter().filter(|row| is(row)).map(|row| row.object).collect::<Vec<_>>();
    let printed = Printed { objects: report.objects.len(), due: of(|row| row.is_due), mending: of(|row| row.is_mending) };
    context.output.result(&printed, || {
        format!("the node looks at {} objects: {} are due, it mends {} now", printed.objects, printed.due.len(), printed.mending.len())
    })
}
