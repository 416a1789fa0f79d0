//! Logs of private Datanets in the data folder: the owner's own, and copies that members fetched.
//!
//! A file is the owner's node id and a [`Book`]. It holds the data keys wrapped for members' node keys, so whoever has the node key of this folder and is a
//! member opens them, and nobody else. Commands and the running node write the owner's file beside each other, one at a time under a lock of the file system.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use anyhow::{Context as _, bail, ensure};
use p2p::identity::NodeSeed;
use storage::{
    datanet::{Place, private, shard::Shard},
    erasure::OBJECT_BYTES_MAX,
    seal::{
        book::{Author, BOOK_BYTES_MAX, Book},
        key::DataKey,
        segment::{self, Header},
    },
};
use types::id::{AssetId, Hash32, NodeId};
use zeroize::Zeroizing;

use crate::data::{DataDir, read_bounded, write_atomic};

/// Bytes of the owner's id before the book.
const OWNER_BYTES: usize = 32;
/// Largest file of a node's seed.
const SEED_BYTES_MAX: u64 = 4 << 10;
/// What every sealed segment begins with.
const SEALED: &[u8] = b"TRIBSEAL";

/// Whether a shard's bytes are a sealed segment.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(SEALED)
}

/// Whether the shard of a contribution is here, sealed, and this folder has no key for it: not being able to open it then says nothing of its bytes.
pub fn is_closed(data: &DataDir, datanet: AssetId, text_root: Hash32) -> bool {
    let header = read_bounded(&data.shard(text_root), OBJECT_BYTES_MAX as u64).ok().and_then(|bytes| Header::decode(&bytes).ok());
    let Some(header) = header else { return false };
    let keys = read(data, datanet).ok().flatten().zip(member(data).ok()).map(|(book, member)| book.keys(&member));
    keys.is_none_or(|keys| !keys.contains_key(&header.epoch))
}

/// A node's identity as an author of entries.
pub fn author(seed: &NodeSeed) -> Author {
    Author::of_seed(seed.expose())
}

/// The log of a private Datanet as this folder has it; nothing if it has none.
///
/// # Errors
/// That the file is unreadable or damaged.
pub fn read(data: &DataDir, datanet: AssetId) -> anyhow::Result<Option<Book>> {
    let path = data.seal_log(datanet);
    if !data.has(&path)? {
        return Ok(None);
    }
    let bytes = read_bounded(&path, (OWNER_BYTES + BOOK_BYTES_MAX) as u64).with_context(|| format!("{}", path.display()))?;
    let damaged = || format!("{}: damaged", path.display());
    let (owner, book) = bytes.split_first_chunk::<OWNER_BYTES>().with_context(damaged)?;
    Ok(Some(Book::decode(datanet, NodeId(*owner), book).with_context(damaged)?))
}

/// Logs as they were last read: replaying a long one costs a signature check per entry, which nobody may cause by asking.
#[derive(Debug, Default)]
pub struct Cache(Mutex<BTreeMap<AssetId, Cached>>);

#[derive(Debug)]
struct Cached {
    changed: SystemTime,
    bytes: u64,
    book: Arc<Book>,
}

impl Cache {
    /// As [`read`], from memory as long as the file is the same. An entry makes the file longer, so its length tells changes within one tick of the clock.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&self, data: &DataDir, datanet: AssetId) -> anyhow::Result<Option<Arc<Book>>> {
        let path = data.seal_log(datanet);
        if !data.has(&path)? {
            return Ok(None);
        }
        let found = std::fs::metadata(&path).with_context(|| format!("{}", path.display()))?;
        let (changed, bytes) = (found.modified()?, found.len());
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = held.get(&datanet).filter(|cached| (cached.changed, cached.bytes) == (changed, bytes)) {
            return Ok(Some(Arc::clone(&cached.book)));
        }
        let Some(book) = read(data, datanet)?.map(Arc::new) else { return Ok(None) };
        held.insert(datanet, Cached { changed, bytes, book: Arc::clone(&book) });
        Ok(Some(book))
    }
}

/// Keeps a log.
///
/// # Errors
/// What the disk says.
pub fn keep(data: &DataDir, book: &Book) -> anyhow::Result<()> {
    let path = data.seal_log(book.log().head().datanet);
    let bytes = [book.log().owner().0.as_slice(), &book.encode()].concat();
    write_atomic(&path, &bytes, 0o600).with_context(|| format!("{}", path.display()))
}

/// Changes the owner's log of a Datanet, which begins with the first change. Nothing is kept if `change` fails.
///
/// # Errors
/// What `change` returns; that the log is another node's.
pub fn change<T>(
    data: &DataDir,
    owner: NodeId,
    datanet: AssetId,
    change: impl FnOnce(&mut Book) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let _alone = Alone::take(&data.seal_log(datanet).with_extension("lock"))?;
    let mut book = read(data, datanet)?.unwrap_or_else(|| Book::new(datanet, owner));
    ensure!(
        book.log().owner() == owner,
        "the log of Datanet {datanet} here is of node {}, this folder's node is {owner}: change it where its owner's node runs",
        book.log().owner()
    );
    let before = book.entries().len();
    let changed = change(&mut book)?;
    if book.entries().len() > before {
        keep(data, &book)?;
    }
    Ok(changed)
}

/// The key under which contributions are sealed at a block: a new one if somebody has the last one who no longer may.
///
/// # Errors
/// As [`change`].
pub fn sealing_key(data: &DataDir, owner: &Author, datanet: AssetId, block: u64) -> anyhow::Result<DataKey> {
    change(data, owner.id(), datanet, |book| {
        let block = block.max(book.log().block());
        match book.log().sealing_epoch(block) {
            Ok(epoch) => book.keys(owner).remove(&epoch).with_context(|| format!("the key of epoch {epoch} does not open for its owner")),
            Err(reason) => {
                tracing::info!(%datanet, %reason, "a new key for what is sealed from now on");
                Ok(book.rekey(owner, block, &fresh()?)?)
            }
        }
    })
}

/// 32 random bytes of the system.
///
/// # Errors
/// That it has none.
pub fn fresh() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).context("no randomness from the system")?;
    Ok(bytes)
}

/// Opens a sealed contribution with the keys of this folder's node: its shard, under the salt of its text.
///
/// # Errors
/// That this node may not read it, with who can let it; that the bytes are not the registered contribution.
pub fn open(data: &DataDir, datanet: AssetId, place: Place, text_root: Hash32, sealed: &[u8]) -> anyhow::Result<Shard> {
    let (header, member) = (Header::decode(sealed)?, member(data)?);
    let Some(book) = read(data, datanet)? else {
        bail!(
            "Datanet {datanet} is private and its log is not here: run `tributary datanet fetch {datanet}`, once its owner has let node {} read it",
            member.id()
        )
    };
    open_with(&book, &member, datanet, place, text_root, sealed, header.epoch)
}

/// The identity of this folder's node.
///
/// # Errors
/// That there is none.
pub fn member(data: &DataDir) -> anyhow::Result<Author> {
    let path = data.seed();
    let text =
        read_bounded(&path, SEED_BYTES_MAX).with_context(|| format!("{}: a private Datanet opens for a member's node", path.display()))?;
    let (text, mut seed) = (Zeroizing::new(text), Zeroizing::new([0; 32]));
    hex::decode_to_slice(text.trim_ascii(), &mut *seed).with_context(|| format!("{}: must hold 64 hex digits", path.display()))?;
    Ok(Author::of_seed(&seed))
}

fn open_with(
    book: &Book,
    member: &Author,
    datanet: AssetId,
    place: Place,
    text_root: Hash32,
    sealed: &[u8],
    epoch: u32,
) -> anyhow::Result<Shard> {
    let key = book.keys(member).remove(&epoch).with_context(|| {
        format!(
            "Datanet {datanet} is private, and no key of epoch {epoch} was given to node {}: the owner, whose node is {}, can let it read with `tributary datanet grant {datanet} {} --purpose read --until BLOCK`",
            member.id(),
            book.log().owner(),
            member.id()
        )
    })?;
    let plain = Zeroizing::new(segment::open(&key, private::name(datanet, place)?, sealed)?);
    Ok(private::unpack(text_root, &plain)?)
}

/// A lock of the file system, held until dropped.
#[derive(Debug)]
struct Alone(#[expect(dead_code, reason = "the open file is the lock")] std::fs::File);

impl Alone {
    fn take(path: &Path) -> anyhow::Result<Self> {
        let shown = || format!("{}", path.display());
        std::fs::create_dir_all(path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)).with_context(shown)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).with_context(shown)?;
        file.lock().with_context(shown)?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use storage::{
        datanet::{Document, contribution_text, shard},
        seal::{
            log::{Purpose, Purposes},
            segment::SegmentKey,
        },
    };

    use super::*;

    const NET: AssetId = AssetId(7);
    const PLACE: Place = Place { block: 9, ordinal: 1 };

    fn folder(seed: u8) -> (tempfile::TempDir, DataDir, Author) {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        std::fs::write(data.seed(), hex::encode([seed; 32])).unwrap();
        (folder, data, Author::of_seed(&[seed; 32]))
    }

    fn sealed(key: &DataKey, text: &str) -> (Hash32, Vec<u8>) {
        let rows = [Document::new(None, None, text.as_bytes()).unwrap()];
        let salt = Hash32([4; 32]);
        let root = private::root(contribution_text(&rows).as_bytes(), Some(salt));
        let key = SegmentKey::of(key, private::name(NET, PLACE).unwrap()).unwrap();
        (root, key.seal(&private::pack(salt, &shard::encode(&rows).unwrap())).unwrap())
    }

    #[test]
    fn a_member_opens_what_was_sealed_while_it_was_one_and_a_stranger_is_told_who_can_grant() {
        let ((_a, owner_data, owner), (_b, data, member), (_c, poor, stranger)) = (folder(1), folder(2), folder(3));
        change(&owner_data, owner.id(), NET, |book| {
            book.rekey(&owner, 5, &fresh()?)?;
            Ok(book.grant(&owner, 5, member.id(), Purposes::of(&[Purpose::Read]), 50)?)
        })
        .unwrap();
        let (cache, length) = (Cache::default(), |cache: &Cache| cache.read(&owner_data, NET).unwrap().unwrap().entries().len());
        assert_eq!((length(&cache), length(&cache)), (2, 2));
        let (root, first) = sealed(&sealing_key(&owner_data, &owner, NET, 6).unwrap(), "the first text");
        assert!(is_sealed(&first));
        let share = |data: &DataDir| keep(data, &read(&owner_data, NET).unwrap().unwrap()).unwrap();
        share(&data);
        share(&poor);
        let shard = open(&data, NET, PLACE, root, &first).unwrap();
        assert_eq!(shard.documents()[0].text(), "the first text");
        let error = open(&poor, NET, PLACE, root, &first).unwrap_err().to_string();
        assert!(error.contains(&owner.id().to_string()) && error.contains(&stranger.id().to_string()), "{error}");

        change(&owner_data, owner.id(), NET, |book| Ok(book.revoke(&owner, 8, member.id())?)).unwrap();
        let (root, second) = sealed(&sealing_key(&owner_data, &owner, NET, 8).unwrap(), "the second text");
        assert_eq!(length(&cache), 4, "the cache follows the file");
        assert!(cache.read(&owner_data, AssetId(8)).unwrap().is_none());
        share(&data);
        assert!(open(&data, NET, PLACE, root, &second).unwrap_err().to_string().contains("no key of epoch 1"));
        assert!(open(&owner_data, NET, PLACE, root, &second).is_ok());
    }

    #[test]
    fn an_expired_grant_has_a_new_key_made_and_only_the_owner_changes_the_log() {
        let ((_a, data, owner), (_b, _, member)) = (folder(1), folder(2));
        let first = sealing_key(&data, &owner, NET, 5).unwrap();
        change(&data, owner.id(), NET, |book| Ok(book.grant(&owner, 6, member.id(), Purposes::of(&[Purpose::Train]), 10)?)).unwrap();
        assert_eq!((first.epoch(), sealing_key(&data, &owner, NET, 10).unwrap().epoch()), (0, 0));
        assert_eq!(sealing_key(&data, &owner, NET, 11).unwrap().epoch(), 1);
        assert_eq!(sealing_key(&data, &owner, NET, 3).unwrap().epoch(), 1, "an older view of the chain changes nothing");
        assert!(change(&data, member.id(), NET, |_| Ok(())).unwrap_err().to_string().contains("change it where its owner's node runs"));
    }
}
