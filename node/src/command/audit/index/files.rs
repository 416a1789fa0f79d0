//! Another's index files as the evidence that they are: mapped, hashed whole, and believed of nothing but the root that they lead to.
//!
//! A folder is laid out as `attribution` of a data folder: `<Datanet>/S*.seg`, `<Datanet>/R*.rows`; of a version that declares one Datanet the files may lie in the folder
//! itself. It may hold segments of other versions. Which file stands at which place of the index is told by the contributions in it: the same as the registry has there, or, where
//! a liar left one out or changed its place, some of these. Work: BLAKE3 and keccak over every file used, some twenty seconds a gigabyte. Memory: a page of each.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use attribution::{
    disk::open_segment,
    index::{Index, Segment},
};
use types::id::Hash32;

use crate::service::index::{
    plan::{Plan, Planned},
    store::assembled,
};

/// Files looked at in one folder: versions share most of theirs.
const FILES_MAX: usize = 4_096;
/// Files named in a refusal.
const NAMED_MAX: usize = 8;
const ENDING: &str = "seg";

/// Block and ordinal of contributions.
type Orders = Vec<(u64, u32)>;

/// An index of another, and the files that it is.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) index: Index,
    pub(super) paths: Vec<PathBuf>,
}

/// Whether a folder holds segments, for the Datanets of these plans or itself.
pub(super) fn are_in(folder: &Path, plans: &[Plan]) -> bool {
    let has = |folder: &Path| segments(folder).is_ok_and(|files| !files.is_empty());
    folder.is_dir() && (has(folder) || plans.iter().any(|plan| has(&folder.join(plan.version.asset.to_string()))))
}

/// The index of a folder's files, if it has the posted root; `honest` is the one that the texts give. Blocks.
///
/// # Errors
/// The file that is damaged, or whose leaves do not lead to its own root; the files that together do not lead to the posted one.
pub(super) fn opened(folder: &Path, plans: &[Plan], honest: &Index, posted: Hash32) -> anyhow::Result<Files> {
    let (mut datanets, mut paths, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (number, plan) in plans.iter().enumerate() {
        let own = folder.join(plan.version.asset.to_string());
        let at = if own.is_dir() || plans.len() > 1 { own } else { folder.to_owned() };
        let chosen = chosen(&at, plan)?;
        let right: BTreeSet<_> = honest
            .datanets()
            .get(number)
            .into_iter()
            .flat_map(|datanet| datanet.segments())
            .map(|of| (of.id(), of.leaf(0).array))
            .collect();
        let mut found = Vec::with_capacity(chosen.len());
        for (path, segment) in chosen {
            segment.verify().and_then(|()| segment.verify_trees()).with_context(|| path.display().to_string())?;
            if !right.contains(&(segment.id(), segment.leaf(0).array)) {
                others.push(path.clone());
            }
            paths.push(path);
            found.push(segment);
        }
        datanets.push(Arc::new(assembled(&at, plan.version, found).with_context(|| at.display().to_string())?));
    }
    let index = Index::new(datanets)?;
    if index.root() != posted {
        let named = if others.is_empty() { &paths } else { &others };
        let names: Vec<String> = named.iter().take(NAMED_MAX).map(|path| path.display().to_string()).collect();
        bail!(
            "the index files in {} hash to {}, posted is {posted}: nothing is proven from them. {}: {}{}. Take the files from who posted the root",
            folder.display(),
            index.root(),
            if others.is_empty() { "Each is as the texts give it" } else { "Other than the texts give them are" },
            names.join(", "),
            if named.len() > NAMED_MAX { " and more" } else { "" }
        );
    }
    Ok(Files { index, paths })
}

/// The segments of a folder, by name.
fn segments(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) && path.is_file() {
            ensure!(files.len() < FILES_MAX, "{} holds more than {FILES_MAX} segments: keep those of one version", folder.display());
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The file for each place of a plan, as far as there is one.
fn chosen(folder: &Path, plan: &Plan) -> anyhow::Result<Vec<(PathBuf, Segment)>> {
    if plan.segments.is_empty() {
        return Ok(Vec::new());
    }
    let mut there = Vec::new();
    for path in segments(folder)? {
        // The path is said by the error.
        let segment = open_segment(&path, None)?;
        there.push((orders(&segment), path, Some(segment)));
    }
    let planned: Vec<Orders> = plan.segments.iter().map(wanted).collect();
    let mut found = Vec::new();
    for wanted in &planned {
        let same = |orders: &Orders| orders == wanted;
        let shares = |orders: &Orders| !planned.contains(orders) && orders.iter().any(|order| wanted.contains(order));
        let of = |is: &dyn Fn(&Orders) -> bool| (0..there.len()).filter(|at| is(&there[*at].0)).collect::<Vec<_>>();
        let mut places = of(&same);
        if places.is_empty() {
            places = of(&shares);
        }
        if let [one, other, ..] = places[..] {
            bail!(
                "{} and {} hold the same contributions of Datanet {}: leave the one that the indexer serves",
                there[one].1.display(),
                there[other].1.display(),
                plan.version
            );
        }
        // One that was chosen for an earlier place stands there.
        found.extend(places.first().and_then(|at| Some((there[*at].1.clone(), there[*at].2.take()?))));
    }
    ensure!(
        !found.is_empty(),
        "{} holds no segment of Datanet {}: as in the folder `attribution` of its indexer, it must have {}",
        folder.display(),
        plan.version,
        plan.segments[0].id.file_name()
    );
    Ok(found)
}

/// Contributions of a segment, in its order.
fn orders(segment: &Segment) -> Orders {
    let mut orders: Orders = segment.documents().iter().map(|row| (row.priority.block, row.priority.ordinal)).collect();
    orders.dedup();
    orders
}

/// Those that the registry has at a place.
fn wanted(planned: &Planned) -> Orders {
    planned.pieces.iter().map(|piece| (piece.accepted.priority.block, piece.accepted.priority.ordinal)).collect()
}

#[cfg(test)]
mod tests {
    use attribution::{
        disk::write_segment,
        index::{DatanetIndex, Segment, Source},
    };
    use chain_bridge::registry::state::Accepted;
    use types::{
        contribution::Priority,
        id::{Address, AssetId, AssetVersion, BlobId},
        text::text_root,
    };

    use super::*;

    const VERSION: AssetVersion = AssetVersion { asset: AssetId(3), version: 1 };
    const TEXTS: [&str; 2] = ["The left ear hears nothing after the fever\0", "The right ear hears what the left one does not\0"];

    fn accepted(number: u64) -> Accepted {
        let text = TEXTS[usize::try_from(number).unwrap()].as_bytes();
        Accepted {
            datanet: VERSION.asset,
            number,
            contributor: Address([1; 20]),
            text_root: text_root(text),
            text_bytes: text.len() as u64,
            documents: 1,
            priority: Priority { block: 10 + number, ordinal: 0, document: 0 },
            licence: Hash32::ZERO,
            object: BlobId::ZERO,
            report: Hash32::ZERO,
            accepted: (20 + number, 0),
        }
    }

    fn segment(payee: u8, numbers: &[u64]) -> Segment {
        let source = |number: &u64| {
            let accepted = accepted(*number);
            let text = TEXTS[usize::try_from(*number).unwrap()].as_bytes();
            Source { contributor: Address([payee; 20]), block: accepted.priority.block, ordinal: 0, text_root: accepted.text_root, text }
        };
        Segment::build(&numbers.iter().map(source).collect::<Vec<_>>(), 0).unwrap()
    }

    fn index(segment: Segment) -> Index {
        Index::new(vec![Arc::new(DatanetIndex::new(VERSION, vec![segment]).unwrap())]).unwrap()
    }

    fn plan() -> Plan {
        Plan::new(VERSION, [accepted(0), accepted(1)], [])
    }

    #[test]
    fn a_folder_of_the_indexers_files_is_its_index_and_one_that_leads_elsewhere_is_refused_by_name() {
        let (outer, plans) = (tempfile::tempdir().unwrap(), [plan()]);
        let (honest, lying) = (index(segment(1, &[0, 1])), index(segment(0xee, &[0, 1])));
        let folder = outer.path().join("3");
        assert!(!are_in(outer.path(), &plans));
        let file = write_segment(&folder, &segment(0xee, &[0, 1])).unwrap();
        // Of another version: what it holds is at no place of this one.
        write_segment(&folder, &segment(1, &[])).unwrap();
        for at in [outer.path(), &folder] {
            assert!(are_in(at, &plans));
            let files = opened(at, &plans, &honest, lying.root()).unwrap();
            assert_eq!((files.index.root(), files.paths), (lying.root(), vec![file.clone()]));
        }
        let refused = |says: &[&str]| {
            let error = format!("{:#}", opened(outer.path(), &plans, &honest, honest.root()).unwrap_err());
            assert!(says.iter().all(|words| error.contains(words)), "{error}");
        };
        let name = file.file_name().unwrap().to_str().unwrap();
        refused(&["nothing is proven from them", "Other than the texts give", name, &lying.root().to_string()]);
        let right = write_segment(&folder, &segment(1, &[0, 1])).unwrap();
        refused(&[name, right.file_name().unwrap().to_str().unwrap(), "leave the one that the indexer serves"]);
        fs::remove_file(&right).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
        fs::write(&file, &bytes).unwrap();
        refused(&[name, "array tree", "damaged"]);
        fs::write(&file, &bytes[..at]).unwrap();
        refused(&[name, "cut off"]);
        fs::write(&file, "words").unwrap();
        refused(&[name]);
        fs::remove_file(&file).unwrap();
        refused(&["holds no segment of Datanet 3@1", "attribution"]);
    }

    #[test]
    fn a_contribution_that_was_left_out_does_not_hide_the_file() {
        let (outer, plans) = (tempfile::tempdir().unwrap(), [plan()]);
        let file = write_segment(outer.path(), &segment(1, &[1])).unwrap();
        let files = opened(outer.path(), &plans, &index(segment(1, &[0, 1])), index(segment(1, &[1])).root()).unwrap();
        assert_eq!(files.paths, [file]);
    }
}
