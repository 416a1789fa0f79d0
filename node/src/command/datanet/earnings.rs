//! `tributary datanet earnings`: where rows went, and what they earned.
//!
//! From the chain: the versions that hold a contribution, the adapters and agents that declare them, its share of the treasury. From receipts on this
//! machine: the answers whose words were found in it, and what each paid for them; a span's place in the Datanet names the contribution, because a
//! version's text is that of its contributions in priority order. Receipts of other clients are not here, so the sum is a lower bound; what an account
//! earned in all is `claim`'s to say.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use attribution::bundle::{Bundle, Verified, verify};
use chain_bridge::{
    client::treasury::StreamShare,
    registry::{State, state::Accepted},
};
use clap::Args as ClapArgs;
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, Hash32},
    split::Part,
};

use super::{
    Context,
    show::{VersionRow, versions},
};
use crate::{
    data::read_bounded,
    datanet::resolve,
    output::{money, table},
};

/// Most receipts read.
const RECEIPTS_MAX: usize = 10_000;
/// Largest receipt read.
const RECEIPT_BYTES_MAX: u64 = 32 << 20;

/// Show where rows went and what they earned.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Versions, adapters and treasury shares are on the chain. Answers are those whose receipts are in this folder or in --receipts, each verified; those of\nother clients are not counted, so the earnings shown are at least what was earned.\n\nExamples:\n  tributary datanet earnings medical\n  tributary datanet earnings medical --contributor 0x… --receipts ../receipts\n\nNext: tributary claim takes what answers paid, tributary datanet treasury medical --claim the treasury's share."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Only this contributor's.
    #[arg(long, value_name = "ADDRESS")]
    contributor: Option<Address>,
    /// Folder of receipts [default: those of this data folder].
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
}

/// An answer that drew on a contribution.
#[derive(Debug, Clone, Serialize)]
struct Answer {
    receipt: Hash32,
    spans: u32,
    paid_wei: Amount,
}

/// A contribution and what became of it.
#[derive(Debug, Serialize)]
struct Row {
    contribution: u64,
    contributor: Address,
    documents: u32,
    versions: Vec<String>,
    /// Adapters and agents that declare one of these versions.
    used_by: Vec<String>,
    treasury: StreamShare,
    answers: Vec<Answer>,
    /// What these answers paid for its words.
    answers_wei: Amount,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    asset: u64,
    name: String,
    /// Receipts read.
    receipts: usize,
    /// Receipts that do not verify, with the reason; they count for nothing.
    passed_over: Vec<String>,
    contributions: Vec<Row>,
}

/// Every contribution's text begins at a multiple of so many bytes in the Datanet's (P5).
const ALIGNMENT: u64 = 64;

/// The contribution in which byte `position` of a version's text lies. Contributions stand in priority order, one after another.
fn holder<'s>(mut contributions: impl Iterator<Item = &'s Accepted>, position: u64) -> Option<&'s Accepted> {
    let mut start: u64 = 0;
    contributions.find(|accepted| {
        let own = start..start.saturating_add(accepted.text_bytes);
        start = own.end.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        own.contains(&position)
    })
}

/// What one answer paid for each contribution of a Datanet, by number: spans and wei.
fn paid(state: &State, datanet: AssetId, bundle: &Bundle, verified: &Verified) -> anyhow::Result<Vec<(u64, u32, Amount)>> {
    let mut found: Vec<(u64, u32, Amount)> = Vec::new();
    for (part, wei) in &verified.parts {
        let Part::Span(number) = part else { continue };
        let span = bundle.receipt.document.spans.get(usize::from(*number)).context("a part of a span that is not there")?;
        let version = bundle.manifest.datanets.get(usize::from(span.datanet)).map(|declared| declared.version);
        let Some(version) = version.filter(|version: &AssetVersion| version.asset == datanet) else { continue };
        let Some(accepted) = holder(state.contributions_of(version), span.position) else { continue };
        match found.iter_mut().find(|(contribution, ..)| *contribution == accepted.number) {
            Some((_, spans, sum)) => (*spans, *sum) = (*spans + 1, sum.plus(*wei)?),
            None => found.push((accepted.number, 1, *wei)),
        }
    }
    Ok(found)
}

/// Receipts that verify.
type Receipts = Vec<(Bundle, Verified)>;

/// Verified receipts of a folder; those that are none are told.
fn receipts(folder: &Path, is_named: bool) -> anyhow::Result<(Receipts, Vec<String>)> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    if !is_named && !folder.exists() {
        return Ok((good, bad));
    }
    let shown = || format!("{}", folder.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(shown)? {
        let path = entry.with_context(shown)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
        ensure!(paths.len() <= RECEIPTS_MAX, "{} holds more than {RECEIPTS_MAX} receipts: name a folder with fewer", folder.display());
    }
    paths.sort();
    for path in paths {
        let read = || -> anyhow::Result<(Bundle, Verified)> {
            let bundle = Bundle::from_json(&read_bounded(&path, RECEIPT_BYTES_MAX)?)?;
            let verified = verify(&bundle)?;
            Ok((bundle, verified))
        };
        match read() {
            Ok(one) => good.push(one),
            Err(error) => bad.push(format!("{}: {error:#}", path.display())),
        }
    }
    Ok((good, bad))
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let folder = args.receipts.clone().unwrap_or_else(|| context.data.receipts());
    let is_named = args.receipts.is_some();
    let (bundles, passed_over) = tokio::task::spawn_blocking(move || receipts(&folder, is_named)).await??;
    let versions = versions(&state, asset.id);
    let mut rows = Vec::new();
    for accepted in state.contributions(asset.id).filter(|accepted| args.contributor.is_none_or(|only| only == accepted.contributor)) {
        rows.push(row(&state, &versions, accepted, chain.client.treasury_share(asset.id, accepted.number).await?));
    }
    if let Some(contributor) = args.contributor {
        ensure!(!rows.is_empty(), "Datanet {} has no accepted contribution of {contributor}", asset.id);
    }
    let (domains, mut seen) = (chain.client.domains(), std::collections::BTreeSet::new());
    // A copy of a receipt, or one of another deployment, is no second answer.
    for (bundle, verified) in bundles.iter().filter(|(bundle, verified)| bundle.domains == domains && seen.insert(verified.receipt)) {
        for (contribution, spans, wei) in paid(&state, asset.id, bundle, verified)? {
            if let Some(row) = rows.iter_mut().find(|row| row.contribution == contribution) {
                row.answers.push(Answer { receipt: verified.receipt, spans, paid_wei: wei });
                row.answers_wei = row.answers_wei.plus(wei)?;
            }
        }
    }
    let printed = Printed { asset: asset.id.0, name: card.name().to_string(), receipts: bundles.len(), passed_over, contributions: rows };
    context.output.result(&printed, || describe(&printed))
}

fn row(state: &State, versions: &[VersionRow], accepted: &Accepted, treasury: StreamShare) -> Row {
    let holds = |row: &&VersionRow| {
        let version = state.versions().map(|(version, _)| version).find(|version| version.to_string() == row.version);
        version.is_some_and(|version| state.contributions_of(version).any(|held| held.number == accepted.number))
    };
    let held: Vec<&VersionRow> = versions.iter().filter(holds).collect();
    let mut used_by: Vec<String> = held.iter().flat_map(|row| row.used_by.clone()).collect();
    used_by.sort();
    used_by.dedup();
    Row {
        contribution: accepted.number,
        contributor: accepted.contributor,
        documents: accepted.documents,
        versions: held.iter().map(|row| row.version.clone()).collect(),
        used_by,
        treasury,
        answers: Vec::new(),
        answers_wei: Amount::ZERO,
    }
}

fn describe(printed: &Printed) -> String {
    let list = |all: &[String]| if all.is_empty() { "-".to_owned() } else { all.join(", ") };
    let line = |row: &Row| {
        let treasury = if row.treasury.has_entered { money(row.treasury.earned) } else { "not entered".to_owned() };
        vec![
            row.contribution.to_string(),
            row.documents.to_string(),
            list(&row.versions),
            list(&row.used_by),
            row.answers.len().to_string(),
            money(row.answers_wei),
            treasury,
            row.contributor.to_string(),
        ]
    };
    let mut text = format!("Datanet {} ({}), by {} receipts here\n\n", printed.asset, printed.name, printed.receipts);
    let header = ["contribution", "documents", "in versions", "used by", "answers", "they paid", "treasury, to claim", "contributor"];
    text.push_str(&table(&header, &printed.contributions.iter().map(line).collect::<Vec<_>>()));
    for reason in &printed.passed_over {
        text.push_str(&format!("\npassed over: {reason}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use types::{contribution::Priority, id::BlobId};

    use super::*;

    #[test]
    fn a_place_in_the_text_belongs_to_the_contribution_that_lies_there() {
        let accepted = |number, text_bytes| Accepted {
            datanet: AssetId(1),
            number,
            contributor: Address::ZERO,
            text_root: Hash32::ZERO,
            text_bytes,
            documents: 1,
            priority: Priority::default(),
            licence: Hash32::ZERO,
            object: BlobId::ZERO,
            report: Hash32::ZERO,
            accepted: (0, 0),
        };
        let all = [accepted(4, 70), accepted(2, 64), accepted(9, 1)];
        let of = |position| holder(all.iter(), position).map(|accepted| accepted.number);
        assert_eq!([of(0), of(69), of(70), of(128), of(191), of(192), of(193)], [Some(4), Some(4), None, Some(2), Some(2), Some(9), None]);
    }

    #[test]
    fn a_file_that_is_no_receipt_is_told_and_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), b"{}").unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"x").unwrap();
        let (good, bad) = receipts(folder.path(), true).unwrap();
        assert_eq!((good.len(), bad.len()), (0, 1));
        assert!(bad[0].contains("a.json"), "{bad:?}");
        assert!(receipts(&folder.path().join("none"), true).is_err(), "a folder that was named must be there");
        assert!(receipts(&folder.path().join("none"), false).unwrap().0.is_empty());
    }
}
