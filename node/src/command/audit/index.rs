//! A posted index root held against the texts that the registry names: equal, or refuted by what receipts under it show, or by its indexer's own files.

mod files;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use attribution::{
    index::Index,
    proof::index::{Contribution, Difference, Held, Part, Pieces, Posted, Texts, Whole, find_index, first_difference},
};
use chain_bridge::{
    fraud::calldata::Proof,
    registry::{State, state::IndexRoot},
};
use serde::Serialize;
use types::{
    id::{Address, AssetId, AssetVersion, Hash32},
    proof::{IndexClaim, SegmentFlaw},
};

use self::files::Files;
use super::prove::{Slash, slash};
use crate::{
    command::{Context, ask::resolve, index as build, receipt, sent::Transaction, talk::joining},
    output::{money, table},
    service::index::plan::Plan,
};

/// Claims that are listed; one refutes.
const CLAIMS_MAX: usize = 64;
/// Receipts that are read: some megabytes of leaves.
const RECEIPTS_MAX: usize = 4_096;

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    version: AssetVersion,
    indexer: Address,
    /// As posted.
    root: Hash32,
    /// As the texts give it.
    rebuilt: Hash32,
    is_equal: bool,
    /// Receipts under the posted root that were read.
    receipts: usize,
    /// Files of an index with the posted root that were read.
    files: Vec<PathBuf>,
    /// Where what these show first differs from the rebuilt index.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<String>,
    /// What they show wrong.
    faults: Vec<Fault>,
    /// The block in which the root was refuted, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    refuted_in_block: Option<u64>,
    /// Whether the chain's contract would take the proof: only after --dry-run.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_provable: Option<bool>,
    transactions: Vec<Transaction>,
    gas: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slash: Option<Slash>,
}

#[derive(Debug, Serialize)]
struct Fault {
    /// Its name in P7.
    fault: &'static str,
    mode: u8,
    what: &'static str,
}

/// Compares a posted root with the rebuilt index and, if it is wrong and receipts or index files of `from` show how, refutes it; only says so if `is_dry`.
pub(super) async fn run(context: &Context, name: &str, from: &[PathBuf], is_dry: bool, bootstrap: Vec<String>) -> anyhow::Result<()> {
    let config = joining(context, bootstrap)?;
    // Who only compares needs no wallet.
    let reader = context.chain_reader().await?;
    let state = reader.state().await?;
    let version = resolve(&state, name)?;
    let root =
        *state.index(version).with_context(|| format!("no index root was posted for version {version}: there is nothing to compare"))?;
    let declared = state.version(version).with_context(|| format!("version {version} is not published"))?.datanets.clone();
    let index = build::fetched_over(context, &config, &state, &declared).await?;
    let mut printed = Printed {
        version,
        indexer: root.indexer,
        root: root.root,
        rebuilt: index.root(),
        is_equal: index.root() == root.root,
        receipts: 0,
        files: Vec::new(),
        difference: None,
        faults: Vec::new(),
        refuted_in_block: state.refuted(version).map(|refuted| refuted.block),
        is_provable: None,
        transactions: Vec::new(),
        gas: 0,
        slash: None,
    };
    if !printed.is_equal {
        let plans = build::plans(&state, &declared)?;
        let (folders, receipts): (Vec<_>, Vec<_>) = from.iter().cloned().partition(|path| files::are_in(path, &plans));
        let pieces = pieces(&receipts, root.root, &mut printed.receipts)?;
        let posted = posted(&state, &root, &declared);
        let (mut claims, difference, read) =
            tokio::task::spawn_blocking(move || looked(&index, &posted, &pieces, &folders, &plans)).await??;
        (printed.difference, printed.files) = (difference.map(described), read);
        // A row of nobody's contribution needs transactions of its own before.
        claims.sort_by_key(|claim| is_invented(claim).is_some());
        claims.truncate(CLAIMS_MAX);
        printed.faults = claims.iter().map(|claim| Fault { fault: claim.fault(), mode: claim.mode(), what: claim.what() }).collect();
        if let Some(claim) = claims.first().filter(|_| printed.refuted_in_block.is_none()) {
            let proof = Proof::index(version, claim);
            if !is_dry {
                refute(context, claim, &proof, &mut printed).await?;
            } else if is_invented(claim).is_none() {
                reader.client.dry_run(root.indexer, &proof).await?;
                printed.is_provable = Some(true);
            }
        }
    }
    context.output.result(&printed, || describe(&printed))
}

/// What pieces, and folders of index files with the posted root, show wrong; where they first differ from what is right; the files that were read. Blocks.
fn looked(
    honest: &Index,
    posted: &Posted,
    pieces: &Pieces,
    folders: &[PathBuf],
    plans: &[Plan],
) -> anyhow::Result<(Vec<IndexClaim>, Option<Difference>, Vec<PathBuf>)> {
    let texts = Texts::and_segments_of(honest);
    let (mut claims, mut difference) = shown_by(pieces, honest, posted, &texts);
    let mut read = Vec::new();
    for folder in folders {
        let Files { index, paths } = files::opened(folder, plans, honest, posted.root)?;
        let (found, first) = shown_by(&Whole(&index), honest, posted, &texts);
        claims.extend(found);
        // Whoever has all of it sees where it begins.
        difference = first.or(difference);
        read.extend(paths);
    }
    Ok((claims, difference, read))
}

fn shown_by(held: &impl Held, honest: &Index, posted: &Posted, texts: &Texts<'_>) -> (Vec<IndexClaim>, Option<Difference>) {
    (find_index(held, posted, texts, CLAIMS_MAX), first_difference(held, honest))
}

/// The Datanet in which every contribution must be entered before a claim is taken, if it is one about a row of none.
fn is_invented(claim: &IndexClaim) -> Option<AssetId> {
    match claim {
        IndexClaim::Segment { source, flaw: SegmentFlaw::Invented(_) } => {
            let asset = source.datanet.leaf.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))?;
            Some(AssetId(asset))
        }
        _ => None,
    }
}

/// What the chain says of what must stand under a root.
fn posted(state: &State, root: &IndexRoot, declared: &[AssetVersion]) -> Posted {
    let known = |datanet: AssetId| {
        let mut accepted: Vec<_> = state.contributions(datanet).collect();
        accepted.sort_by_key(|accepted| accepted.number);
        let known = accepted.into_iter().map(|accepted| Contribution {
            contributor: accepted.contributor,
            text_root: accepted.text_root,
            block: accepted.priority.block,
            ordinal: accepted.priority.ordinal,
            erased: state.erasure(datanet, accepted.number).map(|erasure| erasure.place.0),
        });
        (datanet, known.collect())
    };
    Posted {
        root: root.root,
        declared: declared.to_vec(),
        published: declared.iter().filter_map(|version| Some((*version, state.version(*version)?.published.0))).collect(),
        contributions: declared.iter().map(|version| known(version.asset)).collect(),
    }
}

/// What the receipts of files and folders show of the index under a root; those under another are passed over.
fn pieces(from: &[PathBuf], root: Hash32, receipts: &mut usize) -> anyhow::Result<Pieces> {
    let mut pieces = Pieces::default();
    for path in from {
        for file in files(path)? {
            // A folder may hold other files beside receipts.
            let bundle = match receipt::read(&file) {
                Ok(bundle) => bundle,
                Err(_) if path.is_dir() => continue,
                Err(error) => return Err(error),
            };
            *receipts += usize::from(pieces.add(&bundle, root));
            ensure!(
                *receipts <= RECEIPTS_MAX,
                "more than {RECEIPTS_MAX} receipts under the root: name fewer, one that pays wrongly is enough"
            );
        }
    }
    Ok(pieces)
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

async fn refute(context: &Context, claim: &IndexClaim, proof: &Proof, printed: &mut Printed) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    context.output.note(&format!("{}: {}; committing to the proof, then sending it in a later block", claim.fault(), claim.what()));
    if let Some(datanet) = is_invented(claim) {
        let entered = chain.client.enter_contributions(datanet).await?;
        printed.transactions.extend(entered.iter().map(|sent| Transaction::new("enter contributions", sent)));
    }
    let slashed = chain.client.prove(printed.indexer, proof).await?;
    printed.transactions.extend([Transaction::new("commit to the proof", &slashed.commit), Transaction::new(proof.what, &slashed.prove)]);
    printed.gas = printed.transactions.iter().map(|row| row.gas).sum();
    printed.refuted_in_block = Some(slashed.prove.block.number);
    printed.slash = Some(slash(&slashed));
    Ok(())
}

fn described(difference: Difference) -> String {
    let Difference { datanet, segment, leaf } = difference;
    let Some(segment) = segment else { return format!("the leaf of Datanet number {datanet}") };
    match leaf {
        None => format!("the leaf of segment {segment} of Datanet number {datanet}"),
        Some((part, number)) => {
            let part = match part {
                Part::Text => "text leaf",
                Part::Documents => "row",
                Part::Array => "array leaf",
            };
            format!("{part} {number} of segment {segment} of Datanet number {datanet}")
        }
    }
}

fn describe(printed: &Printed) -> String {
    if printed.is_equal {
        return format!("the index root of version {} is right: the texts give {} as well", printed.version, printed.rebuilt);
    }
    let mut text = format!(
        "the index root of version {} is wrong: indexer {} posted {}, the texts give {}",
        printed.version, printed.indexer, printed.root, printed.rebuilt
    );
    if let Some(difference) = &printed.difference {
        text.push_str(&format!("\nfirst difference that is shown: {difference}"));
    }
    if printed.faults.is_empty() {
        let why = match printed.receipts + printed.files.len() {
            0 => "no receipt under it is given, nor its indexer's files (--from): of leaves that nobody shows nothing can be proven",
            _ => "what is given shows nothing wrong of it, or nothing that convicts anybody",
        };
        text.push_str(&format!("\n{why}. No node that rebuilds the index serves the version; its owner publishes a next one"));
    } else {
        let rows: Vec<Vec<String>> =
            printed.faults.iter().map(|fault| vec![fault.fault.to_owned(), fault.mode.to_string(), fault.what.to_owned()]).collect();
        text.push_str(&format!("\n{}", table(&["fault", "mode", "why"], &rows)));
    }
    for row in &printed.transactions {
        text.push_str(&format!("\n{row}"));
    }
    if let Some(block) = printed.refuted_in_block {
        text.push_str(&format!("\nrefuted in block {block}: nobody answers under it any more"));
    }
    if let Some(slash) = &printed.slash {
        text.push_str(&format!("\nits indexer's stake {} -> {}", money(slash.stake_before), money(slash.stake_after)));
        if slash.stake_before == slash.stake_after {
            text.push_str(": it had none left that could be taken; the root is refuted all the same");
        }
    }
    if printed.is_provable == Some(true) {
        text.push_str("\nthe chain would take the proof; nothing was sent");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(is_equal: bool) -> Printed {
        Printed {
            version: AssetVersion { asset: AssetId(4), version: 1 },
            indexer: Address([1; 20]),
            root: Hash32([2; 32]),
            rebuilt: Hash32([if is_equal { 2 } else { 3 }; 32]),
            is_equal,
            receipts: 0,
            files: Vec::new(),
            difference: None,
            faults: Vec::new(),
            refuted_in_block: None,
            is_provable: None,
            transactions: Vec::new(),
            gas: 0,
            slash: None,
        }
    }

    #[test]
    fn a_root_is_said_to_be_right_or_wrong_and_what_is_missing_to_prove_it() {
        assert!(describe(&printed(true)).contains("4@1 is right"));
        let unshown = describe(&printed(false));
        assert!(unshown.contains("is wrong") && unshown.contains("of leaves that nobody shows nothing can be proven"), "{unshown}");
        let looked = describe(&Printed { receipts: 3, ..printed(false) });
        assert!(looked.contains("shows nothing wrong of it"), "{looked}");
        let fault = Fault { fault: "X5", mode: 6, what: "a row is not its contribution's" };
        let found = describe(&Printed { receipts: 3, faults: vec![fault], refuted_in_block: Some(9), ..printed(false) });
        assert!(found.contains("a row is not its contribution's") && found.contains("refuted in block 9"), "{found}");
    }

    #[test]
    fn the_first_difference_is_named_as_far_down_as_leaves_are_shown() {
        let at = |segment, leaf| described(Difference { datanet: 1, segment, leaf });
        assert_eq!(at(None, None), "the leaf of Datanet number 1");
        assert_eq!(at(Some(2), None), "the leaf of segment 2 of Datanet number 1");
        assert_eq!(at(Some(2), Some((Part::Documents, 7))), "row 7 of segment 2 of Datanet number 1");
    }
}
