//! `tributary storage repair`: the running node looks now for what is lost, instead of at its next turn.

use anyhow::bail;
use clap::Args as ClapArgs;
use serde::Serialize;
use types::id::BlobId;

use super::{Answer, Ask, Context, ObjectRow, ask, report};
use crate::service::keeping::report::Stands;

/// Make the running node look now for lost fragments: it asks the other holders of its objects what they have, mends what is due and its turn, and reads its whole store for rot.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Patience and budget are those of the configuration ([keeping.repair]): a holder that is merely silent keeps its fragments for some hours. The store is read at [keeping] scrub_bytes_per_s; what has rotted is computed anew from other holders. A fragment that\nwas thought lost and that its holder has is read whole, and counts as held again. Objects of which fragments lie here and nothing says who holds\nthe others (after storage check --salvage) are asked of other nodes.\n\nExamples:\n  tributary storage repair\n  tributary storage repair 8f0c...e1\n\nNext: tributary storage status shows what came of it."
)]
pub(super) struct Args {
    /// Ask the other holders of this object first, and tell of it alone once they were asked.
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
    /// Those with a fragment that is lost: below its floor or not, which nobody mends before it falls below.
    damaged: Vec<BlobId>,
    /// Objects of which fragments lie here and nothing says who holds the others: other nodes are asked.
    unrecorded: u64,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    if ask(context, Ask::Repair(args.object)).await? != Answer::Looking {
        bail!("the node answered something else");
    }
    let report = report(context, args.object).await?;
    let of = |is: fn(&ObjectRow) -> bool| report.objects.iter().filter(|row| is(row)).map(|row| row.object).collect::<Vec<_>>();
    let has_lost = |row: &ObjectRow| row.fragments.iter().any(|fragment| fragment.stands == Stands::Lost);
    let printed = Printed {
        objects: report.objects.len(),
        due: of(|row| row.is_due),
        mending: of(|row| row.is_mending),
        damaged: of(has_lost),
        unrecorded: report.upkeep.unrecorded,
    };
    context.output.result(&printed, || describe(&printed))
}

fn describe(printed: &Printed) -> String {
    let Printed { objects, due, mending, damaged, unrecorded } = printed;
    let mut text = format!(
        "the node looks at {objects} objects: {} have lost a fragment, {} are due, it mends {} now",
        damaged.len(),
        due.len(),
        mending.len()
    );
    if *unrecorded > 0 {
        text.push_str(&format!(
            "\n{unrecorded} more have fragments here and no record of who holds the others: other nodes are asked for it"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_here_without_a_record_is_told_beside_what_is_looked_at() {
        let object = BlobId([1; 32]);
        let printed = Printed { objects: 2, due: vec![], mending: vec![], damaged: vec![object], unrecorded: 7 };
        let text = describe(&printed);
        assert!(text.contains("2 objects: 1 have lost a fragment, 0 are due"), "{text}");
        assert!(text.contains("7 more have fragments here"), "{text}");
        assert!(!describe(&Printed { unrecorded: 0, ..printed }).contains("more have fragments"));
    }
}
