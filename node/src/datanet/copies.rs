//! Whole copies of contributions on this disk (`shards/`): how many bytes they may take, and whether they may lie here at all.
//!
//! A node keeps copies of what it gates or indexes, as a cache: what can be fetched again from its holders may go, so the copies used longest ago make room for a new one.
//! The books alone do not say that: a block may be taken back, an object may be void, or what is left of it too little. So a copy goes only if final books have every contribution of its
//! text, and if the object's holders, asked now, show as many fragments as repair leaves alone ([`Elsewhere`]). Copies of which that is not so stay, are not asked about again for
//! an hour, and if nothing else makes room, there is none.
//! What a contributor's own command in this folder has not finished stays as well: the fragments of an accepted contribution may lie nowhere yet, and a sealed one is not made again from its files.
//! A person's copies are what that person asked for: a command deletes none and says what is full. Neither fills the disk beyond the reserve that fragments leave too.
//! A node that stands outside a Datanet's countries keeps no copy of it; a person is told ([`super::placing::may_keep`]).
//!
//! Counting reads the folder: a thousand copies some milliseconds, before a fetch of megabytes.

mod elsewhere;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use chain_bridge::registry::State;
use serde::Deserialize;
use storage::{proto::placement::Region, store::available_bytes};
use types::{
    id::{AssetId, BlobId, Hash32},
    manifest::AssetKind,
};

pub use self::elsewhere::Elsewhere;
use super::placing;
use crate::{
    config::Keeping,
    data::{DataDir, read_bounded},
};

/// Copies that are asked about for one new one. 16: a shard of 64 MiB takes the place of that many of 4 MiB, and what is scarce is passed over next time.
const ASKED_MAX: usize = 16;
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

/// Objects of texts that final books have, by text.
pub(super) type Settled = BTreeMap<Hash32, BTreeSet<BlobId>>;

/// Room that is being made: which copies are asked about, the one used longest ago first, and which go.
#[derive(Debug)]
pub(super) struct Making {
    copies: Copies,
    held: u64,
    need: u64,
    left: u64,
    waiting: VecDeque<Held>,
    gone: Vec<Hash32>,
    asked: usize,
    scarce: usize,
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
#[error("whole copies of contributions take {held} bytes and {need} are needed, at most {most} are kept ([keeping] copies_bytes){}{}", if *.scarce > 0 { format!("; {scarce} that would make room stay, since their holders do not show enough fragments now") } else { String::new() }, if *.is_node { "" } else { ": raise it, or delete what you do not need from the folder `shards`" })]
pub struct NoRoom {
    held: u64,
    need: u64,
    most: u64,
    /// Copies that would have made room and are not known to lie elsewhere.
    scarce: usize,
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

    /// Texts that final books have in every contribution that the latest ones have of them, not erased in either, each with its objects. None of a person's.
    pub(super) fn settled(&self, finalized: &State, latest: &State) -> Settled {
        let live = |state: &State| -> BTreeSet<(Hash32, BlobId)> {
            let datanets = state.assets().filter(|asset| self.is_node && asset.kind == AssetKind::Datanet);
            let accepted = datanets.flat_map(|asset| state.live_contributions(asset.id));
            accepted.map(|accepted| (accepted.text_root, accepted.object)).collect()
        };
        let (finalized, latest) = (live(finalized), live(latest));
        let open: BTreeSet<Hash32> = latest.symmetric_difference(&finalized).map(|(text_root, _)| *text_root).collect();
        let mut settled = Settled::new();
        for (text_root, object) in finalized.into_iter().filter(|(text_root, _)| !open.contains(text_root)) {
            settled.entry(text_root).or_default().insert(object);
        }
        settled
    }

    /// Bytes of the copies that are here, and whether `need` more fit beside them. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn fits(&self, data: &DataDir, need: u64) -> anyhow::Result<bool> {
        let folder = data.shards();
        let held: u64 = held(&folder).with_context(|| format!("{}", folder.display()))?.iter().map(|copy| copy.bytes).sum();
        Ok(held.saturating_add(need) <= self.most_bytes)
    }

    /// Begins to make room for `need` more bytes, at the cost of those copies that may go. Blocks.
    ///
    /// # Errors
    /// [`NoRoom`] if there is none whatever goes; what the disk says.
    pub(super) fn begin(&self, data: &DataDir, need: u64, may_go: impl Fn(Hash32) -> bool) -> anyhow::Result<Making> {
        let folder = data.shards();
        let held = held(&folder).with_context(|| format!("{}", folder.display()))?;
        // Only if something has to go, what may not is looked for.
        let is_full = held.iter().map(|copy| copy.bytes).sum::<u64>().saturating_add(need) > self.most_bytes;
        let unfinished = if is_full { unfinished(data)? } else { BTreeSet::new() };
        Ok(Making::new(*self, held, need, |text_root| may_go(text_root) && !unfinished.contains(&text_root))?)
    }

    /// Deletes the copies that are to go, and looks whether the disk has room then. Blocks.
    ///
    /// # Errors
    /// That one of them is needed meanwhile, that the disk is full, or what it says.
    pub(super) fn finish(&self, data: &DataDir, gone: &[Hash32], need: u64) -> anyhow::Result<()> {
        if !gone.is_empty() {
            let unfinished = unfinished(data)?;
            if let Some(needed) = gone.iter().find(|text_root| unfinished.contains(text_root)) {
                bail!("the copy of text {needed}, which was to make room, is needed by a command that has begun meanwhile: try again");
            }
        }
        for text_root in gone {
            let path = data.shard(*text_root);
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
}

impl Making {
    fn new(copies: Copies, mut held: Vec<Held>, need: u64, may_go: impl Fn(Hash32) -> bool) -> Result<Self, NoRoom> {
        let all: u64 = held.iter().map(|copy| copy.bytes).sum();
        held.sort_by_key(|copy| (copy.used, copy.text_root));
        let waiting: VecDeque<Held> = held.into_iter().filter(|copy| may_go(copy.text_root)).collect();
        let least = all.saturating_sub(waiting.iter().map(|copy| copy.bytes).sum());
        let making = Self { copies, held: all, need, left: all, waiting, gone: Vec::new(), asked: 0, scarce: 0 };
        if least.saturating_add(need) > copies.most_bytes {
            return Err(making.no_room());
        }
        Ok(making)
    }

    /// The copy to be asked about next; nothing if there is room, or none of those that are left is asked about.
    pub(super) fn next(&self) -> Option<Hash32> {
        let is_open = self.left.saturating_add(self.need) > self.copies.most_bytes && self.asked < ASKED_MAX;
        self.waiting.front().filter(|_| is_open).map(|copy| copy.text_root)
    }

    /// Takes in whether the copy that was asked about can be had elsewhere.
    pub(super) fn answer(&mut self, is_elsewhere: bool) {
        let Some(copy) = self.waiting.pop_front() else { return };
        self.asked += 1;
        if is_elsewhere {
            self.left = self.left.saturating_sub(copy.bytes);
            self.gone.push(copy.text_root);
        } else {
            self.scarce += 1;
        }
    }

    /// The copies that go.
    ///
    /// # Errors
    /// [`NoRoom`] if that does not suffice; then none goes.
    pub(super) fn end(self) -> Result<Vec<Hash32>, NoRoom> {
        if self.left.saturating_add(self.need) > self.copies.most_bytes {
            return Err(self.no_room());
        }
        Ok(self.gone)
    }

    const fn no_room(&self) -> NoRoom {
        let Self { copies: Copies { most_bytes, is_node, .. }, held, need, scarce, .. } = self;
        NoRoom { held: *held, need: *need, most: *most_bytes, scarce: *scarce, is_node: *is_node }
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

    use chain_bridge::registry::{Event, Logged};
    use types::{id::Address, time::BlockRef};

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

    /// What goes for `need` bytes, if these may go and these are shown elsewhere.
    fn choose(need: u64, may_go: impl Fn(Hash32) -> bool, is_elsewhere: impl Fn(Hash32) -> bool) -> Result<Vec<Hash32>, NoRoom> {
        let mut making = Making::new(copies(100, true), some(), need, may_go)?;
        while let Some(text_root) = making.next() {
            making.answer(is_elsewhere(text_root));
        }
        making.end()
    }

    #[test]
    fn copies_used_longest_ago_make_room_and_what_nobody_else_has_stays() {
        let plan = |need, may_go: fn(Hash32) -> bool| choose(need, may_go, |_| true);
        assert_eq!(plan(10, |_| true), Ok(vec![]));
        assert_eq!(plan(11, |_| true), Ok(vec![root(2)]));
        assert_eq!(plan(41, |_| true), Ok(vec![root(2), root(3)]));
        assert_eq!(plan(41, |text_root| text_root != root(2)), Ok(vec![root(3), root(1)]));
        assert_eq!(plan(100, |_| true), Ok(vec![root(2), root(3), root(1)]));
        let error = plan(101, |_| true).unwrap_err();
        assert_eq!((error.held, error.need, error.most), (90, 101, 100));
    }

    #[test]
    fn a_copy_whose_holders_show_too_little_stays_and_the_next_one_goes() {
        assert_eq!(choose(11, |_| true, |text_root| text_root != root(2)), Ok(vec![root(3)]));
        let error = choose(41, |_| true, |text_root| text_root == root(3)).unwrap_err();
        assert_eq!(error.scarce, 2);
        assert!(error.to_string().contains("2 that would make room stay, since their holders do not show enough"), "{error}");
        assert_eq!(choose(10, |_| true, |_| panic!("there is room: nobody is asked")), Ok(vec![]));
        let impossible = choose(41, |text_root| text_root == root(2), |_| panic!("nobody is asked in vain"));
        assert_eq!(impossible.unwrap_err().scarce, 0);
        let many: Vec<_> = (0..100).map(|byte| Held { text_root: root(byte), bytes: 1, used: byte.into() }).collect();
        let mut making = Making::new(copies(100, true), many, 50, |_| true).unwrap();
        let asked = std::iter::from_fn(|| making.next().inspect(|_| making.answer(false))).count();
        assert_eq!((asked, making.end().unwrap_err().scarce), (ASKED_MAX, ASKED_MAX), "so many are asked about and no more");
    }

    /// Books with these contributions of Datanet 4: text and object, in order of acceptance.
    fn state(accepted: &[(u8, u8)]) -> State {
        let (owner, uri) = (Address([9; 20]), r#"{"name":"a","description":"","licence":"MIT","languages":[],"tags":[]}"#.to_owned());
        let mut events = vec![
            Event::Transferred { asset: AssetId(4), to: owner },
            Event::Registered { asset: AssetId(4), kind: AssetKind::Datanet, owner, uri },
        ];
        events.extend((0..).zip(accepted).map(|(number, (text, object))| Event::Accepted {
            datanet: AssetId(4),
            number,
            contributor: Address([u8::try_from(number).unwrap(); 20]),
            text_root: root(*text),
            text_bytes: 30,
            documents: 3,
            block: 7,
            ordinal: u32::try_from(number).unwrap(),
            licence: Hash32::ZERO,
            object: BlobId([*object; 32]),
            report: Hash32::ZERO,
        }));
        let mut state = State::default();
        for (log, event) in (0..).zip(events) {
            let block = BlockRef { number: 8, hash: Hash32::ZERO };
            state.apply(&Logged { block, log, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    #[test]
    fn a_text_is_settled_once_final_books_have_all_that_the_latest_have_of_it() {
        let settled = |finalized: &[(u8, u8)], latest: &[(u8, u8)]| copies(100, true).settled(&state(finalized), &state(latest));
        let both = [(1, 11), (2, 12)];
        let one = Settled::from([(root(1), BTreeSet::from([BlobId([11; 32])]))]);
        assert_eq!(settled(&[], &both), Settled::new(), "the block that accepted them may be taken back");
        assert_eq!(settled(&both[..1], &both), one);
        assert_eq!(settled(&both, &both[..1]), one, "what the latest books do not have is not settled either");
        // The same text again, as another object, whose fragments may lie nowhere yet.
        assert_eq!(settled(&both[..1], &[(1, 11), (1, 13)]), Settled::new());
        let objects = settled(&[(1, 11), (1, 13)], &[(1, 11), (1, 13)]);
        assert_eq!(objects[&root(1)].len(), 2, "it goes when both can be had");
        assert_eq!(copies(100, false).settled(&state(&both), &state(&both)), Settled::new(), "a command deletes nothing");
    }

    /// Makes room where everything that may go is shown elsewhere.
    fn make_room(copies: &Copies, data: &DataDir, may_go: &BTreeSet<Hash32>, need: u64) -> anyhow::Result<()> {
        let mut making = copies.begin(data, need, |text_root| may_go.contains(&text_root))?;
        while making.next().is_some() {
            making.answer(true);
        }
        copies.finish(data, &making.end()?, need)
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
        let none = BTreeSet::new();
        let error = make_room(&copies(100, false), &data, &none, 30).unwrap_err().to_string();
        assert!(error.contains("take 80 bytes and 30 are needed, at most 100") && error.contains("delete what you do not need"), "{error}");
        assert!(make_room(&copies(100, false), &data, &none, 20).is_ok());
        let error = make_room(&copies(100, true), &data, &none, 30).unwrap_err().to_string();
        assert!(error.contains("copies_bytes"), "nothing of it is registered, so nobody else has it: {error}");
        let full = Copies { disk_reserve_bytes: u64::MAX, ..copies(u64::MAX, true) };
        let error = make_room(&full, &data, &none, 1).unwrap_err().to_string();
        assert!(error.contains("are kept for everything else"), "{error}");
        assert_eq!(held(&data.shards()).unwrap().len(), 2);
        make_room(&copies(100, true), &data, &BTreeSet::from([root(2)]), 30).unwrap();
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
        let meanwhile = copies(100, true).finish(&data, &[root(1)], 30).unwrap_err().to_string();
        assert!(meanwhile.contains("begun meanwhile") && data.shard(root(1)).exists(), "{meanwhile}");
        make_room(&copies(100, true), &data, &all, 30).unwrap();
        assert!(data.shard(root(1)).exists() && !data.shard(root(2)).exists(), "the one used last has gone in its place");
        let error = make_room(&copies(100, true), &data, &all, 70).unwrap_err().to_string();
        assert!(error.contains("take 40 bytes and 70 are needed"), "{error}");
        fs::write(&record, "{").unwrap();
        let error = make_room(&copies(100, true), &data, &all, 70).unwrap_err().to_string();
        assert!(error.contains("4-09.json") && data.shard(root(1)).exists(), "{error}");
        // Nothing has to go: nobody looks.
        make_room(&copies(100, true), &data, &all, 60).unwrap();
        fs::remove_file(&record).unwrap();
        make_room(&copies(100, true), &data, &all, 70).unwrap();
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
