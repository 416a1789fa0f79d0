//! Whole copies of contributions on this disk (`shards/`): how many bytes they may take, and whether they may lie here at all.
//!
//! A node keeps copies of what it gates or indexes, as a cache: what was accepted can be fetched again from its holders, so the copies used longest ago make room for a new one.
//! What a contributor's own command in this folder has not finished stays: the fragments of an accepted contribution may lie nowhere yet, and a sealed one is not made again from its files.
//! A person's copies are what that person asked for: a command deletes none and says what is full. Neither fills the disk beyond the reserve that fragments leave too.
//! A node that stands outside a Datanet's countries keeps no copy of it; a person is told ([`super::placing::may_keep`]).
//!
//! Counting reads the folder: a thousand copies some milliseconds, before a fetch of megabytes.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use chain_bridge::registry::State;
use serde::Deserialize;
use storage::{proto::placement::Region, store::available_bytes};
use types::{
    id::{AssetId, Hash32},
    manifest::AssetKind,
};

use super::placing;
use crate::{
    config::Keeping,
    data::{DataDir, read_bounded},
};

/// Largest record of a contribution under way.
const UNFINISHED_BYTES_MAX: u64 = 4 << 10;

/// What may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    most_bytes: u64,
    disk_reserve_bytes: u64,
    region: Option<Region>,
    is_node: bool,
}

/// A copy that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    text_root: Hash32,
    bytes: u64,
    /// When it was used last, in nanoseconds since 1970.
    used: u128,
}

/// What a record of a contribution under way says of its text: the root of its rows, and the one that is committed to.
#[derive(Debug, Deserialize)]
struct Unfinished {
    text_root: Hash32,
    #[serde(default)]
    registered: Option<Hash32>,
}

/// No room for a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("whole copies of contributions take {held} bytes and {need} are needed, at most {most} are kept ([keeping] copies_bytes){}", if *.is_node { "" } else { ": raise it, or delete what you do not need from the folder `shards`" })]
pub struct NoRoom {
    held: u64,
    need: u64,
    most: u64,
    is_node: bool,
}

impl Copies {
    /// Those of a running node.
    pub const fn of_node(keeping: &Keeping) -> Self {
        Self { is_node: true, ..Self::of_command(keeping) }
    }

    /// Those of whoever runs a command.
    pub const fn of_command(keeping: &Keeping) -> Self {
        let Keeping { copies_bytes, region, store, .. } = keeping;
        Self { most_bytes: *copies_bytes, disk_reserve_bytes: store.disk_reserve_bytes, region: *region, is_node: false }
    }

    /// Refuses the texts of a Datanet that may not be kept where a node stands; a person decides.
    ///
    /// # Errors
    /// Where they may be kept, or that the card does not say.
    pub fn may_keep(&self, state: &State, datanet: AssetId) -> anyhow::Result<()> {
        match placing::may_keep(state, datanet, self.region)?.filter(|_| self.is_node) {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }

    /// Texts whose copies may be deleted: those of contributions that were accepted and are not erased. None of a person's.
    pub(super) fn may_go(&self, state: &State) -> BTreeSet<Hash32> {
        let datanets = state.assets().filter(|asset| self.is_node && asset.kind == AssetKind::Datanet);
        datanets.flat_map(|asset| state.live_contributions(asset.id)).map(|accepted| accepted.text_root).collect()
    }

    /// Deletes copies until `need` more bytes fit: of those that may go, the ones that were used longest ago. Blocks.
    ///
    /// # Errors
    /// [`NoRoom`], that the disk is full, or what it says.
    pub(super) fn make_room(&self, data: &DataDir, may_go: &BTreeSet<Hash32>, need: u64) -> anyhow::Result<()> {
        let folder = data.shards();
        let held = held(&folder).with_context(|| format!("{}", folder.display()))?;
        let mut gone = self.plan(held.clone(), need, |text_root| may_go.contains(&text_root))?;
        if !gone.is_empty() {
            let unfinished = unfinished(data)?;
            gone = self.plan(held, need, |text_root| may_go.contains(&text_root) && !unfinished.contains(&text_root))?;
        }
        for text_root in gone {
            let path = data.shard(text_root);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(|| format!("{}", path.display())),
                _ => tracing::info!(%text_root, "a copy that can be fetched again made room for another one"),
            }
        }
        let available = available_bytes(data.path()).with_context(|| format!("{}", data.path().display()))?;
        let reserve = self.disk_reserve_bytes;
        if need > available.saturating_sub(reserve) {
            bail!(
                "the disk has {available} bytes left, of which {reserve} are kept for everything else, and a copy needs {need}: make room, or lower [keeping.store] disk_reserve_bytes"
            );
        }
        Ok(())
    }

    /// Which copies go.
    fn plan(&self, mut held: Vec<Held>, need: u64, may_go: impl Fn(Hash32) -> bool) -> Result<Vec<Hash32>, NoRoom> {
        let mut left: u64 = held.iter().map(|copy| copy.bytes).sum();
        held.sort_by_key(|copy| (copy.used, copy.text_root));
        let mut gone = Vec::new();
        let all = left;
        for copy in held.into_iter().filter(|copy| may_go(copy.text_root)) {
            if left.saturating_add(need) <= self.most_bytes {
                break;
            }
            left = left.saturating_sub(copy.bytes);
            gone.push(copy.text_root);
        }
        if left.saturating_add(need) > self.most_bytes {
            return Err(NoRoom { held: all, need, most: self.most_bytes, is_node: self.is_node });
        }
        Ok(gone)
    }
}

/// Copies in the folder; none if there is no folder.
fn held(folder: &Path) -> io::Result<Vec<Held>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut held = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let text_root =
            name.to_str().and_then(|name| hex::decode(name.strip_suffix(".shard")?).ok()).and_then(|bytes| bytes.try_into().ok());
        let Some(text_root) = text_root.map(Hash32) else { continue };
        let file = match entry.metadata() {
            // It was deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let used = file.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        held.push(Held { text_root, bytes: file.len(), used });
    }
    Ok(held)
}

/// Texts that commands in this folder have committed to and not brought to their holders yet, by the record that each of them keeps until then.
fn unfinished(data: &DataDir) -> anyhow::Result<BTreeSet<Hash32>> {
    let folder = data.pending();
    let mut roots = BTreeSet::new();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(roots),
        entries => entries.with_context(|| format!("{}", folder.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = match read_bounded(&path, UNFINISHED_BYTES_MAX) {
            // Its command has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.with_context(|| format!("{}", path.display()))?,
        };
        let record: Unfinished = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: damaged, so it is not known whose copy has to stay", path.display()))?;
        roots.extend([Some(record.text_root), record.registered].into_iter().flatten());
    }
    Ok(roots)
}

/// Notes that a copy was used. One whose time cannot be changed only goes sooner.
pub(super) fn used(path: &Path) {
    let touched = fs::File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "when a copy was used is not noted");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn root(byte: u8) -> Hash32 {
        Hash32([byte; 32])
    }

    fn copies(most_bytes: u64, is_node: bool) -> Copies {
        Copies { most_bytes, disk_reserve_bytes: 0, region: None, is_node }
    }

    fn some() -> Vec<Held> {
        [(1, 40, 7), (2, 30, 3), (3, 20, 5)].map(|(byte, bytes, used)| Held { text_root: root(byte), bytes, used }).to_vec()
    }

    #[test]
    fn copies_used_longest_ago_make_room_and_what_nobody_else_has_stays() {
        let plan = |need, may_go: fn(Hash32) -> bool| copies(100, true).plan(some(), need, may_go);
        assert_eq!(plan(10, |_| true), Ok(vec![]));
        assert_eq!(plan(11, |_| true), Ok(vec![root(2)]));
        assert_eq!(plan(41, |_| true), Ok(vec![root(2), root(3)]));
        assert_eq!(plan(41, |text_root| text_root != root(2)), Ok(vec![root(3), root(1)]));
        assert_eq!(plan(100, |_| true), Ok(vec![root(2), root(3), root(1)]));
        let error = plan(101, |_| true).unwrap_err();
        assert_eq!((error.held, error.need, error.most), (90, 101, 100));
    }

    #[test]
    fn a_command_deletes_nothing_and_says_what_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        fs::create_dir(data.shards()).unwrap();
        fs::write(data.shards().join("note.txt"), [0; 500]).unwrap();
        for byte in [1, 2] {
            fs::write(data.shard(root(byte)), [byte; 40]).unwrap();
        }
        let none = copies(100, false).may_go(&State::default());
        let error = copies(100, false).make_room(&data, &none, 30).unwrap_err().to_string();
        assert!(error.contains("take 80 bytes and 30 are needed, at most 100") && error.contains("delete what you do not need"), "{error}");
        assert!(copies(100, false).make_room(&data, &none, 20).is_ok());
        let error = copies(100, true).make_room(&data, &none, 30).unwrap_err().to_string();
        assert!(error.contains("copies_bytes"), "nothing of it is registered, so nobody else has it: {error}");
        let full = Copies { disk_reserve_bytes: u64::MAX, ..copies(u64::MAX, true) };
        let error = full.make_room(&data, &none, 1).unwrap_err().to_string();
        assert!(error.contains("are kept for everything else"), "{error}");
        assert_eq!(held(&data.shards()).unwrap().len(), 2);
        copies(100, true).make_room(&data, &BTreeSet::from([root(2)]), 30).unwrap();
        assert!(data.shard(root(1)).exists() && !data.shard(root(2)).exists() && data.shards().join("note.txt").exists());
    }

    #[test]
    fn what_was_accepted_and_is_not_with_its_holders_yet_stays_however_long_ago_it_was_used() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        fs::create_dir(data.shards()).unwrap();
        for byte in [1, 2] {
            fs::write(data.shard(root(byte)), [byte; 40]).unwrap();
            let file = fs::File::options().append(true).open(data.shard(root(byte))).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(byte.into())).unwrap();
        }
        let all = BTreeSet::from([root(1), root(2)]);
        fs::create_dir(data.pending()).unwrap();
        let record = data.pending().join("4-09.json");
        let under_way = serde_json::json!({ "datanet": 4, "text_root": root(9), "salt": root(8), "registered": root(1) });
        fs::write(&record, under_way.to_string()).unwrap();
        copies(100, true).make_room(&data, &all, 30).unwrap();
        assert!(data.shard(root(1)).exists() && !data.shard(root(2)).exists(), "the one used last has gone in its place");
        let error = copies(100, true).make_room(&data, &all, 70).unwrap_err().to_string();
        assert!(error.contains("take 40 bytes and 70 are needed"), "{error}");
        fs::write(&record, "{").unwrap();
        let error = copies(100, true).make_room(&data, &all, 70).unwrap_err().to_string();
        assert!(error.contains("4-09.json") && data.shard(root(1)).exists(), "{error}");
        // Nothing has to go: nobody looks.
        copies(100, true).make_room(&data, &all, 60).unwrap();
        fs::remove_file(&record).unwrap();
        copies(100, true).make_room(&data, &all, 70).unwrap();
        assert!(!data.shard(root(1)).exists(), "it lies where it belongs");
    }

    #[test]
    fn a_copy_that_is_read_counts_as_used() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        fs::create_dir(data.shards()).unwrap();
        for byte in [1, 2] {
            fs::write(data.shard(root(byte)), [byte]).unwrap();
            let file = fs::File::options().append(true).open(data.shard(root(byte))).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(byte.into())).unwrap();
        }
        used(&data.shard(root(1)));
        let mut found = held(&data.shards()).unwrap();
        found.sort_by_key(|copy| copy.used);
        assert_eq!(found.iter().map(|copy| copy.text_root).collect::<Vec<_>>(), [root(2), root(1)]);
        used(&data.shard(root(9)));
        assert!(held(&folder.path().join("nowhere")).unwrap().is_empty());
    }
}
