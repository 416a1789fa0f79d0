//! Whom the receipts of a folder would have paid if their answers were attributed under other parameters, as far as their transcripts are at hand.
//!
//! An export holds receipts and no texts: question and answer lie with those who asked, and what they drew on in the Datanets. So what is done anew are the
//! receipts whose bundle is at hand and whose index can be built; all others stand as they were paid. Refunds are left out on both sides, and a span that
//! was voided counts again: what it would have been worth under other parameters no contract has said.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use attribution::{
    bundle::Bundle,
    epoch::{Division, divide, one_by_one},
    index::Index,
    message::ReceiptItem,
    parameters::{Parameters, WordTable},
    prompt::prompt_bytes,
    span::attribute,
    transcript,
};
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
};

use super::{Chain, read_manifests, read_receipts};
use crate::{
    command::{
        Context,
        epoch::folder::{Content, EpochFiles, Folder},
        index::indexes,
        receipt::{self, texts},
    },
    data::read_bounded,
    facts::{ChainFacts, accounts},
    output::{counted, money, table},
};

/// Largest file of parameters read: a table of 16,384 words takes half a megabyte.
const SET_BYTES_MAX: u64 = 16 << 20;
/// Most bundles looked at.
const BUNDLES_MAX: usize = 100_000;

/// What is to be done anew, and from what.
#[derive(Debug, Clone)]
pub(in crate::command::audit) struct Asked {
    /// Id of the parameters.
    pub(in crate::command::audit) id: u32,
    /// Their file, if they are not built in.
    pub(in crate::command::audit) parameters: Option<PathBuf>,
    /// Folder of the receipts' bundles.
    pub(in crate::command::audit) bundles: Option<PathBuf>,
    /// Folder of the texts, as `receipt texts` writes it.
    pub(in crate::command::audit) texts: Option<PathBuf>,
}

/// A set of parameters in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    id: u32,
    m: u8,
    theta: u32,
    /// Weight of a word without a row, in 1/256 bit.
    unknown: u32,
    /// Words with their weights in 1/256 bit, ascending; those of set 1 if it is left out.
    words: Option<Vec<(String, u32)>>,
}

/// What came out.
#[derive(Debug, Serialize)]
pub(super) struct Reattributed {
    /// Id of the parameters.
    parameters: u32,
    /// What the chain would have as their hash.
    parameters_hash: Hash32,
    /// Receipts in the epochs.
    receipts: u64,
    /// Of these, the ones attributed anew.
    reattributed: u64,
    /// Of these, the ones whose spans, masks or weight differ.
    changed: u64,
    /// Receipts whose bundle is at hand and holds another question, answer or manifest than they commit to: left as they were paid.
    unlike: u64,
    accounts: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    account: Address,
    paid_wei: Amount,
    would_be_wei: Amount,
    /// With its sign.
    difference_wei: String,
}

/// Divides the receipts of `epochs` as they are, and once more as they would be.
pub(super) async fn run(
    context: &Context,
    (folder, content, chain): (&Folder, &Content, &Chain),
    epochs: &[&EpochFiles],
    asked: &Asked,
) -> anyhow::Result<Reattributed> {
    let set;
    let parameters = match &asked.parameters {
        Some(path) => {
            set = read_set(path, asked.id)?;
            &set
        }
        None => Parameters::builtin(asked.id).with_context(|| {
            format!("parameters {} are not built in, 1 is: give their file by --parameters, for example {{\"id\": {}, \"m\": 5, \"theta\": 8192, \"unknown\": 6000}}", asked.id, asked.id)
        })?,
    };
    let bundles = read_bundles(&asked.bundles.clone().unwrap_or_else(|| context.data.receipts()))?;
    let (manifests, facts) = (read_manifests(folder, content)?, ChainFacts(&chain.state));
    let mut found = Reattributed {
        parameters: parameters.id,
        parameters_hash: parameters.hash(),
        receipts: 0,
        reattributed: 0,
        changed: 0,
        unlike: 0,
        accounts: Vec::new(),
    };
    let (mut indexes, mut sums) = (BTreeMap::new(), BTreeMap::new());
    for files in epochs {
        let mut receipts = read_receipts(folder, files, &manifests)?;
        let shares = |receipts: &BTreeMap<Address, Vec<ReceiptItem>>| {
            divide(&facts, &accounts(&chain.deployment), files.epoch, receipts, &[], &mut BTreeMap::new(), &one_by_one)
        };
        let before = shares(&receipts);
        add(&mut sums, &before, |(paid, _)| paid)?;
        for (node, items) in &mut receipts {
            for (item, place) in items.iter_mut().zip(0_u64..) {
                found.receipts += 1;
                let is_paid = !before.unpaid.iter().any(|unpaid| unpaid.node == *node && unpaid.receipt == place);
                let hash = item.receipt.document.hash();
                let Some(path) = bundles.get(&hash).filter(|_| is_paid) else { continue };
                let Some(bundle) = own(path, hash)? else {
                    found.unlike += 1;
                    continue;
                };
                let index = index(context, &mut indexes, &bundle, asked.texts.as_deref()).await?;
                found.changed += u64::from(redo(item, &bundle, index, parameters).with_context(|| format!("receipt {hash}"))?);
                found.reattributed += 1;
            }
        }
        add(&mut sums, &shares(&receipts), |(_, would_be)| would_be)?;
    }
    ensure!(
        found.reattributed > 0,
        "none of the {} receipts has its bundle at hand ({} have one with another text), and an export holds no texts: name a folder with bundles by --bundles",
        found.receipts,
        found.unlike
    );
    found.accounts = sums.into_iter().map(|(account, (paid, would_be))| row(account, paid, would_be)).collect();
    Ok(found)
}

fn row(account: Address, paid: Amount, would_be: Amount) -> Row {
    let sign = if would_be >= paid { "" } else { "-" };
    Row { account, paid_wei: paid, would_be_wei: would_be, difference_wei: format!("{sign}{}", would_be.0.abs_diff(paid.0)) }
}

type Sums = BTreeMap<Address, (Amount, Amount)>;

fn add(sums: &mut Sums, division: &Division, side: impl Fn(&mut (Amount, Amount)) -> &mut Amount) -> anyhow::Result<()> {
    for (account, parts) in &division.parts {
        let sum = side(sums.entry(*account).or_default());
        *sum = Amount::sum(parts.iter().map(|part| part.amount).chain([*sum]))?;
    }
    Ok(())
}

/// Puts what the search finds under `parameters` into the receipt; whether it differs.
fn redo(item: &mut ReceiptItem, bundle: &Bundle, index: &Index, parameters: &Parameters) -> anyhow::Result<bool> {
    let found = attribute(index, parameters, &prompt_bytes(&bundle.messages), &bundle.answer)?;
    let receipt = &mut item.receipt.document;
    let is_changed = (&receipt.spans, &receipt.masks, receipt.weight_total) != (&found.spans, &found.masks, found.weight_total);
    (receipt.spans, receipt.masks, receipt.weight_total) = (found.spans, found.masks, found.weight_total);
    Ok(is_changed)
}

/// The index that a receipt was attributed with, built once.
async fn index<'i>(
    context: &Context,
    built: &'i mut BTreeMap<Hash32, Index>,
    bundle: &Bundle,
    texts: Option<&Path>,
) -> anyhow::Result<&'i Index> {
    let root = bundle.receipt.document.index;
    let place = match built.entry(root) {
        Entry::Occupied(found) => return Ok(found.into_mut()),
        Entry::Vacant(place) => place,
    };
    let index = match texts {
        Some(texts) => texts::from_folder(&indexes(context)?, texts, &bundle.manifest)?,
        None => {
            let index = texts::from_data(context, &bundle.manifest).await;
            index.context("--texts FOLDER is taken in place of the data folder and the chain")?
        }
    };
    ensure!(
        index.root() == root,
        "the texts at hand give the index root {}, the receipt was attributed with {root}: they are other texts",
        index.root()
    );
    Ok(place.insert(index))
}

fn read_set(path: &Path, id: u32) -> anyhow::Result<Parameters> {
    let bytes = read_bounded(path, SET_BYTES_MAX).with_context(|| format!("{}: cannot be read", path.display()))?;
    let set: Set = serde_json::from_slice(&bytes).with_context(|| format!("{}: no set of parameters", path.display()))?;
    ensure!(set.id == id, "{}: it is set {}, --reattribute names {id}", path.display(), set.id);
    let first = Parameters::builtin(1).context("set 1 is built in")?;
    let table = match set.words {
        Some(words) => WordTable::new(words.into_iter().map(|(word, weight)| (word.into(), weight)).collect()),
        None => Ok(first.table().clone()),
    };
    Ok(Parameters::new(set.id, set.m, set.theta, set.unknown, table.with_context(|| path.display().to_string())?))
}

/// The bundle in a file, if it is of this receipt and its texts lead there: whoever made the folder could have put any beside it.
fn own(path: &Path, receipt: Hash32) -> anyhow::Result<Option<Bundle>> {
    let bundle = receipt::read(path)?;
    let is_own = bundle.receipt.document.hash() == receipt && transcript::check(&bundle).is_ok();
    Ok(is_own.then_some(bundle))
}

/// The files of bundles in a folder, by their receipts' hashes; files that are none are passed over. They are read again when they are needed: a folder may
/// hold more of them than memory.
fn read_bundles(folder: &Path) -> anyhow::Result<BTreeMap<Hash32, PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("{}: cannot be read; --bundles names the folder with the receipts' files", folder.display()))?;
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(bundle) = receipt::read(&path)
        {
            found.insert(bundle.receipt.document.hash(), path);
            ensure!(found.len() <= BUNDLES_MAX, "{} holds more than {BUNDLES_MAX} bundles: name a folder with fewer", folder.display());
        }
    }
    Ok(found)
}

pub(super) fn describe(found: &Reattributed) -> String {
    let mut text = format!(
        "under parameters {} ({}): {} of {} receipts attributed anew, {} of them otherwise than they were paid\n",
        found.parameters, found.parameters_hash, found.reattributed, found.receipts, found.changed
    );
    let cells = |row: &Row| {
        let difference = row.difference_wei.strip_prefix('-').map_or(("+", row.difference_wei.as_str()), |rest| ("-", rest));
        let amount = difference.1.parse().map_or_else(|_| difference.1.to_owned(), |wei| money(Amount(wei)));
        vec![row.account.to_string(), money(row.paid_wei), money(row.would_be_wei), format!("{}{amount}", difference.0)]
    };
    text.push_str(&table(&["account", "shares", "would be", "difference"], &found.accounts.iter().map(cells).collect::<Vec<_>>()));
    if found.unlike > 0 {
        text.push_str(&format!(
            "\n{} with a bundle of another text stand as they were paid",
            counted(usize::try_from(found.unlike).unwrap_or(usize::MAX), "receipt")
        ));
    }
    text.push_str("\nVerbatim matches are not causes. Receipts whose bundle is not at hand stand as they were paid.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_in_a_file_is_read_whole_or_refused_by_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_set(&path, 2)
        };
        let first = Parameters::builtin(1).unwrap();
        let set = read(r#"{"id": 2, "m": 3, "theta": 100, "unknown": 50}"#).unwrap();
        assert_eq!((set.m, set.theta, set.unknown, set.table_root()), (3, 100, 50, first.table_root()), "without words they are set 1's");
        let set = read(r#"{"id": 2, "m": 3, "theta": 100, "unknown": 50, "words": [["a", 1], ["b", 2]]}"#).unwrap();
        assert_eq!((set.weight("a"), set.weight("c")), (1, 50));
        for (text, says) in [
            ("{}", "missing field"),
            (r#"{"id": 3, "m": 3, "theta": 100, "unknown": 50}"#, "it is set 3, --reattribute names 2"),
            (r#"{"id": 2, "m": 3, "theta": 100, "unknown": 50, "more": 1}"#, "unknown field `more`"),
            (r#"{"id": 2, "m": 3, "theta": 100, "unknown": 50, "words": [["b", 1], ["a", 2]]}"#, "sort the rows"),
            (r#"{"id": 2, "m": 300, "theta": 100, "unknown": 50}"#, "300"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains("set.json") && error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_bundle_with_another_text_is_not_its_receipts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        let whole = include_str!("../../../../../tests/fixtures/bundles/honest-two-datanets.json");
        let bundle = Bundle::from_json(whole.as_bytes()).unwrap();
        let hash = bundle.receipt.document.hash();
        let mut changed = bundle.clone();
        changed.answer.push_str(" And more.");
        let mut asked = bundle.clone();
        asked.messages.truncate(1);
        for (bundle, is_own) in [(&bundle, true), (&changed, false), (&asked, asked == bundle)] {
            fs::write(&path, bundle.to_json()).unwrap();
            assert_eq!(read_bundles(folder.path()).unwrap().get(&hash), Some(&path));
            assert_eq!(own(&path, hash).unwrap().is_some(), is_own);
        }
        fs::write(&path, bundle.to_json()).unwrap();
        assert_eq!(own(&path, Hash32::ZERO).unwrap(), None, "the file was replaced meanwhile");
    }

    #[test]
    fn a_difference_has_its_sign() {
        let of = |paid, would_be| row(Address::ZERO, Amount(paid), Amount(would_be)).difference_wei;
        assert_eq!((of(5, 3).as_str(), of(3, 5).as_str(), of(3, 3).as_str()), ("-2", "2", "0"));
    }
}
