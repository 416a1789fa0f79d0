//! Files of indexes that nothing needs any more, and those that nobody may keep: which they are is what the books say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use chain_bridge::registry::State;
use types::{
    id::{AssetId, AssetVersion},
    manifest::AssetKind,
};

use super::{
    plan::Plan,
    store::{DAMAGED, StoreError, TURN},
};
use crate::data::DataDir;

/// What a build that was broken off left.
pub(super) const UNFINISHED: [&str; 2] = ["building.part", "building.journal"];

/// Deletes, below a folder of indexes, what no version in use names; how many files. Blocks.
///
/// # Errors
/// [`StoreError::File`].
pub(super) fn prune(root: &Path, state: &State) -> Result<usize, StoreError> {
    let mut wanted: BTreeMap<AssetId, BTreeSet<String>> = BTreeMap::new();
    for plan in in_use(state).into_iter().filter_map(|version| Plan::of(state, version).ok()) {
        wanted.entry(plan.version.asset).or_default().extend(plan.files());
    }
    let mut pruned = 0;
    for (folder, datanet) in datanets(root)? {
        pruned += prune_folder(&folder, &wanted.remove(&datanet).unwrap_or_default())?;
    }
    Ok(pruned)
}

/// Deletes what is kept of the index of every Datanet of which something was erased, but for segments that a version in use names, in which nothing
/// erased stands: no text that is to be gone stays in a file. Blocks.
///
/// # Errors
/// [`StoreError::File`].
pub fn forget(data: &DataDir, finalized: &State) -> Result<usize, StoreError> {
    let hit: BTreeSet<AssetId> = finalized.erasures().map(|erasure| erasure.datanet).collect();
    let mut forgotten = 0;
    for (folder, datanet) in datanets(&data.attribution())?.into_iter().filter(|(_, datanet)| hit.contains(datanet)) {
        let used = in_use(finalized).into_iter().filter(|version| version.asset == datanet);
        let wanted = used.filter_map(|version| Plan::of(finalized, version).ok()).flat_map(|plan| plan.files().collect::<Vec<_>>());
        forgotten += prune_folder(&folder, &wanted.collect())?;
        forget_unfinished(&folder)?;
    }
    Ok(forgotten)
}

/// Deletes what a build left that was broken off. One under way is left alone: its node deletes what it makes if no version needs it.
fn forget_unfinished(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(TURN);
    let Ok(file) = OpenOptions::new().write(true).open(&path) else { return Ok(()) };
    if file.try_lock().is_ok() {
        for name in UNFINISHED {
            remove(&folder.join(name))?;
        }
    }
    Ok(())
}

/// The folders of Datanets.
fn datanets(root: &Path) -> Result<Vec<(PathBuf, AssetId)>, StoreError> {
    let named = |name: &str| Some(AssetId(name.parse().ok()?));
    let listed = listed(root)?.into_iter().filter_map(|name| Some((root.join(&name), named(&name)?)));
    Ok(listed.collect())
}

pub(super) fn listed(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::File { path: folder.to_owned(), error };
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    let names = listed.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Deletes segments and near copies that are not wanted, those set aside too.
fn prune_folder(folder: &Path, wanted: &BTreeSet<String>) -> Result<usize, StoreError> {
    let is_ours = |name: &str| name.ends_with(".seg") || name.ends_with(".rows");
    let mut pruned = 0;
    for name in listed(folder)? {
        let of = name.strip_suffix(DAMAGED).and_then(|name| name.strip_suffix('.')).unwrap_or(&name);
        if is_ours(of) && !wanted.contains(of) {
            remove(&folder.join(&name))?;
            pruned += 1;
        }
    }
    Ok(pruned)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::File { path: path.to_owned(), error }),
        _ => Ok(()),
    }
}

/// Versions of Datanets that something is answered under, or that a search is made in: those that a version declares which is not frozen, and each
/// Datanet's newest.
fn in_use(state: &State) -> BTreeSet<AssetVersion> {
    let declared =
        state.versions().filter(|(_, published)| published.frozen.is_none()).flat_map(|(_, published)| published.datanets.clone());
    let datanets = state.assets().filter(|asset| asset.kind == AssetKind::Datanet);
    declared.chain(datanets.filter_map(|asset| state.newest(asset.id))).collect()
}
