//! What a node holds, by its records: the list it commits to, and how each fragment of it is opened range by range.

use std::collections::BTreeMap;

use anyhow::Context as _;
use storage::{
    proto::{
        audit::{Holding, Holdings, RANGE_BYTES, Tops, answer::Shown},
        placement::Assignment,
    },
    store::{Item, StoreError},
};
use types::encoding::{DecodeError, Reader, Writer};
use types::id::{Address, BlobId};

use crate::service::keeping::{Keeping, Notice};

/// Digests of each fragment's ranges, by object and fragment: read once in a fragment's life, so that a range is opened without hashing all others.
const TOPS: &str = "audit-tops";
/// Records read in one step.
const SCAN: usize = 256;
/// Bytes of one entry on the disk.
const ENTRY_BYTES: usize = 70;

/// What a node committed to in an epoch.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) holdings: Holdings,
}

/// Every object of which this node's records name itself for a fragment, with who holds it. Of one that it gave on nobody tells it anything more, and so its record, which stays in the table, says nothing
/// of the others: who is named there may have given its own on since, and honestly lists it no longer.
pub(super) fn assignments(keeping: &Keeping) -> anyhow::Result<BTreeMap<BlobId, Assignment>> {
    let (mut all, mut from) = (BTreeMap::new(), BlobId::ZERO);
    loop {
        let records = keeping.records(from, SCAN)?;
        for record in &records {
            // Nor does anybody hold what is void.
            if keeping.is_void(record.object())? {
                continue;
            }
            // The record of an object that the chain does not know any more, or that was erased on request, says nothing.
            let Ok(registered) = keeping.registered(record.object()) else { continue };
            match registered.assignment(record) {
                Ok(assignment) => drop(all.insert(record.object(), assignment)),
                Err(error) => {
                    tracing::error!(object = %record.object(), error = format!("{error:#}"), "a record says of nobody that it holds the object: it is passed over")
                }
            }
        }
        match records.last() {
            Some(last) if records.len() == SCAN => from = super::super::repair::next(last.object()),
            _ => return Ok(told(all, keeping.me())),
        }
    }
}

/// Those of which `me` is told what moves: as a holder.
fn told(mut all: BTreeMap<BlobId, Assignment>, me: Address) -> BTreeMap<BlobId, Assignment> {
    all.retain(|_, assignment| assignment.held_by(me).is_some());
    all
}

impl Own {
    /// For the disk: object, fragment u8, fragments u8, bytes u32, root, for each.
    pub(super) fn encode(&self) -> Vec<u8> {
        let put =
            |w: Writer, entry: &Holding| w.blob(entry.object).u8(entry.fragment).u8(entry.fragments).u32(entry.bytes).hash(entry.root);
        Writer::new().each(self.holdings.entries(), put).finish()
    }

    /// Reads that again.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (mut r, mut entries) = (Reader::new(bytes), Vec::with_capacity(bytes.len() / ENTRY_BYTES));
        while r.left() > 0 {
            entries.push(Holding {
                object: r.blob("object")?,
                fragment: r.u8("fragment")?,
                fragments: r.u8("fragments")?,
                bytes: r.u32("bytes")?,
                root: r.hash("root")?,
            });
        }
        Ok(Self { holdings: Holdings::new(entries) })
    }

    /// What the records of this node name it for and its disk has, as far as it knows: what it signs for can cost it its stake. A fragment that is gone or marked as rotten is
    /// left out, which admits a loss to whoever knows of it, and given to repair; one whose manifest lies about its keccak root is left out too, since no bytes answer for that.
    pub(super) async fn list(keeping: &Keeping) -> anyhow::Result<Self> {
        let (own, damaged) = Self::look(keeping).await?;
        for (object, fragment) in damaged {
            damage(keeping, object, fragment)?;
        }
        Ok(own)
    }

    /// Reads each fragment that was never read here, once in its life, so that the next list is a look at the index: that one is made while nothing may move.
    pub(super) async fn read_new(keeping: &Keeping) -> anyhow::Result<()> {
        Self::look(keeping).await.map(drop)
    }

    /// What lies here as it should, and what does not.
    async fn look(keeping: &Keeping) -> anyhow::Result<(Self, Vec<(BlobId, u8)>)> {
        let me = keeping.me();
        let held = assignments(keeping)?.into_iter().filter_map(|(object, assignment)| Some((object, assignment.held_by(me)?)));
        let held: Vec<_> = held.collect();
        let store = keeping.store.clone();
        let listed = tokio::task::spawn_blocking(move || listed(&store, &held));
        let (holdings, damaged) = listed.await??;
        Ok((Self { holdings }, damaged))
    }
}

/// Of what a node is to hold, what it may sign for and what is damaged. One item that cannot be read keeps nobody from signing for the others.
fn listed(store: &storage::store::Store, held: &[(BlobId, u8)]) -> anyhow::Result<(Holdings, Vec<(BlobId, u8)>)> {
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    for &(object, fragment) in held {
        let manifest = match store.manifest(object) {
            Ok(Some(manifest)) => manifest,
            Ok(None) | Err(StoreError::Corrupt(_) | StoreError::Manifest(_)) => {
                damaged.push((object, fragment));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Ok(holding) = holding(&manifest, fragment) else {
            tracing::error!(%object, fragment, "a record names a fragment that the object has not: it is not signed for");
            continue;
        };
        match lies_here(store, &holding)? {
            Lies::Sound => entries.push(holding),
            Lies::Damaged => damaged.push((object, fragment)),
            Lies::UnderFalseRoot => {
                tracing::error!(%object, fragment, "a manifest names another keccak root than the fragment's: it is not signed for")
            }
        }
    }
    Ok((Holdings::new(entries), damaged))
}

/// How a fragment lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    /// As far as is known it is what was stored, and its bytes lead to the root that the manifest names.
    Sound,
    /// It is gone, or has rotted.
    Damaged,
    /// Its bytes are what was stored, and the manifest names a root that no bytes lead to: its author has lied.
    UnderFalseRoot,
}

/// How a fragment lies here. It is read once in its life, for its digests.
fn lies_here(store: &storage::store::Store, holding: &Holding) -> anyhow::Result<Lies> {
    let Holding { object, fragment, .. } = *holding;
    if !store.sound_fragments_of(object)?.contains(&fragment) {
        return Ok(Lies::Damaged);
    }
    if kept_tops(store, object, fragment)?.is_some_and(|tops| tops.leads_to(holding)) {
        return Ok(Lies::Sound);
    }
    match store.get_fragment(object, fragment) {
        Ok(Some(bytes)) => {
            let tops = Tops::of(&bytes);
            let is_true = tops.leads_to(holding);
            if is_true {
                keep_tops(store, object, fragment, &tops)?;
            }
            Ok(if is_true { Lies::Sound } else { Lies::UnderFalseRoot })
        }
        Ok(None) | Err(StoreError::Corrupt(_)) => Ok(Lies::Damaged),
        Err(error) => Err(error.into()),
    }
}

/// Marks a fragment that lies here and is not what it was, and gives it to repair; one that is gone, or whose manifest was marked by who read it, is given to repair alone.
pub(super) fn damage(keeping: &Keeping, object: BlobId, fragment: u8) -> anyhow::Result<()> {
    let is_marked = keeping.store.is_rotten(Item::Blob(object))?;
    if !is_marked && keeping.store.fragments_of(object)?.contains(&fragment) {
        return Ok(keeping.rotten(Item::Fragment { object, index: fragment })?);
    }
    keeping.notice(Notice::Damaged { object, fragment });
    Ok(())
}

/// What a manifest says of a fragment.
pub(super) fn holding(manifest: &storage::erasure::ObjectManifest, fragment: u8) -> anyhow::Result<Holding> {
    let root = manifest.fragments().get(usize::from(fragment)).context("the object has no such fragment")?.keccak;
    let (fragments, bytes) = (manifest.profile().total(), u32::try_from(manifest.fragment_len())?);
    Ok(Holding { object: manifest.id(), fragment, fragments, bytes, root })
}

fn tops_key(object: BlobId, fragment: u8) -> Vec<u8> {
    [object.0.as_slice(), &[fragment]].concat()
}

/// Forgets the digests of an object's fragments.
pub(in crate::service) fn forget_object(store: &storage::store::Store, object: BlobId) -> anyhow::Result<()> {
    for (key, _) in store.records().scan(TOPS, &object.0, usize::from(u8::MAX) + 1)? {
        if key.starts_with(&object.0) {
            store.records().remove(TOPS, &key)?;
        }
    }
    Ok(())
}

fn kept_tops(store: &storage::store::Store, object: BlobId, fragment: u8) -> anyhow::Result<Option<Tops>> {
    let kept = store.records().get(TOPS, &tops_key(object, fragment))?;
    Ok(kept.and_then(|kept| Tops::from_bytes(&kept)))
}

fn keep_tops(store: &storage::store::Store, object: BlobId, fragment: u8, tops: &Tops) -> anyhow::Result<()> {
    Ok(store.records().put(TOPS, &tops_key(object, fragment), &tops.to_bytes())?)
}

/// Forgets the digests of a fragment that was released.
pub(super) fn forget_tops(store: &storage::store::Store, object: BlobId, fragment: u8) -> anyhow::Result<()> {
    store.records().remove(TOPS, &tops_key(object, fragment))?;
    Ok(())
}

/// Opens one range of a fragment that lies here; nothing if its bytes are gone or not what they were. Blocks on the disk, which reads the range alone
/// if the digests of all ranges are kept.
pub(super) fn open(store: &storage::store::Store, holding: &Holding, place: u32) -> Option<Shown> {
    let kept = store.records().get(TOPS, &tops_key(holding.object, holding.fragment)).ok().flatten();
    let tops = kept.and_then(|kept| Tops::from_bytes(&kept));
    let is_of = |shown: &Shown| shown.is_of(holding, place);
    tops.and_then(|tops| open_range(store, holding, place, &tops)).filter(is_of).or_else(|| open_whole(store, holding, place))
}

fn open_range(store: &storage::store::Store, holding: &Holding, place: u32, tops: &Tops) -> Option<Shown> {
    let at = u64::from(place) * RANGE_BYTES;
    let bytes = store.peek_fragment(holding.object, holding.fragment, at, holding.range_len(place)).ok()??;
    Some(Shown { bytes, siblings: tops.siblings(place)? })
}

/// With digests made anew: none are kept, or the range does not fit them, and the whole fragment tells whether that is the disk's doing.
fn open_whole(store: &storage::store::Store, holding: &Holding, place: u32) -> Option<Shown> {
    let bytes = match store.get_fragment(holding.object, holding.fragment) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::error!(%error, "a fragment cannot be shown to its auditors");
            return None;
        }
    };
    let tops = Tops::of(&bytes);
    let start = usize::try_from(u64::from(place) * RANGE_BYTES).ok()?;
    let range = bytes.get(start..start.checked_add(holding.range_len(place))?)?.to_vec();
    Some(Shown { bytes: range, siblings: tops.siblings(place)? })
}

/// Objects that this node holds too and of which its records name `node` as a holder, with its fragment.
pub(super) fn known_of(keeping: &Keeping, node: Address) -> anyhow::Result<BTreeMap<BlobId, u8>> {
    let all = assignments(keeping)?;
    Ok(all.into_iter().filter_map(|(object, assignment)| Some((object, assignment.held_by(node)?))).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use storage::{
        erasure::{Encoded, Profile, encode},
        proto::placement::{Move, Rules},
        store::{Config, Store},
    };
    use types::id::Hash32;

    use super::*;

    fn kept(folder: &Path, object: &Encoded) -> Store {
        let store = Store::open(folder, Config::default()).unwrap();
        let fragment = object.manifest.verify(1, object.fragments[1].clone()).unwrap();
        store.put_fragment(&object.manifest, &fragment).unwrap();
        store
    }

    #[test]
    fn a_list_on_the_disk_is_the_list_that_was_committed_to() {
        let entry = |number: u8| Holding {
            object: BlobId([number; 32]),
            fragment: number,
            fragments: 48,
            bytes: 7 + u32::from(number),
            root: Hash32([9; 32]),
        };
        let own = Own { holdings: Holdings::new((0..3).map(entry)) };
        let bytes = own.encode();
        assert_eq!(bytes.len(), 3 * ENTRY_BYTES);
        assert_eq!(Own::decode(&bytes).unwrap().holdings, own.holdings);
        assert!(Own::decode(&bytes[1..]).is_err());
    }

    #[test]
    fn who_gave_its_own_fragment_on_names_nobody_for_the_others() {
        let (object, account) = (BlobId([7; 32]), |number| Address([number; 20]));
        let holders: Vec<Address> = (1..=5).map(account).collect();
        let mut known = Assignment::of_record(Hash32::ZERO, object, Profile::DEVNET, Rules::default(), &holders);
        let all = |known: &Assignment| BTreeMap::from([(object, known.clone())]);
        assert_eq!(told(all(&known), account(1))[&object].held_by(account(2)), Some(1));
        assert!(known.apply(Move { object, fragment: 0, generation: 1, to: account(6) }));
        assert!(told(all(&known), account(1)).is_empty(), "what became of fragment 1 since is not heard by who held 0");
        assert_eq!(told(all(&known), account(6))[&object].held_by(account(2)), Some(1));
    }

    #[test]
    fn only_what_lies_here_undamaged_and_opens_to_its_root_is_signed_for() {
        let object = encode(&[7; 50_000], Hash32::ZERO, Profile::DEVNET).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (store, id) = (kept(folder.path(), &object), object.manifest.id());
        let (own, other) = (holding(&object.manifest, 1).unwrap(), holding(&object.manifest, 0).unwrap());
        let lies = |held: &Holding| lies_here(&store, held).unwrap();
        assert_eq!((lies(&own), kept_tops(&store, id, 1).unwrap().is_some()), (Lies::Sound, true));
        assert_eq!((lies(&other), kept_tops(&store, id, 0).unwrap()), (Lies::Damaged, None), "another's");
        let made_up = Holding { root: Hash32([1; 32]), ..own };
        assert_eq!(lies(&made_up), Lies::UnderFalseRoot);
        keep_tops(&store, id, 1, &Tops::of(&[0])).unwrap();
        assert_eq!(lies(&own), Lies::Sound, "digests that are not the fragment's are made anew");
        store.mark_rotten(Item::Fragment { object: id, index: 1 }).unwrap();
        assert_eq!(lies(&own), Lies::Damaged, "though its digests are kept");
        store.recheck(None, 8).unwrap();
        assert_eq!(lies(&own), Lies::Sound, "it was whole after all");
        store.release_object(id).unwrap();
        assert_eq!(lies(&own), Lies::Damaged);
    }

    #[test]
    fn a_damaged_manifest_or_a_lost_segment_costs_the_fragments_in_it_and_the_others_are_signed_for() {
        let folder = tempfile::tempdir().unwrap();
        let config = || Config { segment_bytes: 64 << 10, ..Config::default() };
        let objects: Vec<Encoded> = (1..8).map(|byte| encode(&[byte; 50_000], Hash32::ZERO, Profile::DEVNET).unwrap()).collect();
        let store = Store::open(folder.path(), config()).unwrap();
        for object in &objects {
            store.put_fragment(&object.manifest, &object.manifest.verify(1, object.fragments[1].clone()).unwrap()).unwrap();
        }
        let held: Vec<(BlobId, u8)> = objects.iter().map(|object| (object.manifest.id(), 1)).collect();
        let of = |objects: &[Encoded]| Holdings::new(objects.iter().map(|object| holding(&object.manifest, 1).unwrap()));
        assert_eq!(listed(&store, &held).unwrap(), (of(&objects), vec![]));
        drop(store);
        // Behind the segment's head and the record's stands the first manifest.
        let segment = folder.path().join("00000001.seg");
        let mut disk = fs::read(&segment).unwrap();
        disk[150] ^= 1;
        fs::write(&segment, disk).unwrap();
        let store = Store::open(folder.path(), config()).unwrap();
        assert_eq!(listed(&store, &held).unwrap(), (of(&objects[1..]), vec![held[0]]));
        assert_eq!(store.rotten(9).unwrap(), [Item::Blob(held[0].0)], "marked by who came by, so that status and repair know");
        drop(store);
        fs::remove_file(folder.path().join("00000002.seg")).unwrap();
        let store = Store::open(folder.path(), config()).unwrap();
        let (left, damaged) = listed(&store, &held).unwrap();
        let lost = usize::try_from(store.recovery().lost_items).unwrap() / 2;
        assert!(lost > 0 && left.entries().len() == 6 - lost && damaged.len() == 1 + lost, "{lost} of {left:?}");
    }

    #[test]
    fn with_its_digests_kept_a_range_is_opened_alone_and_without_them_by_the_whole_fragment() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * 100_000).collect();
        let object = encode(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (id, holding) = (object.manifest.id(), holding(&object.manifest, 1).unwrap());
        let store = kept(folder.path(), &object);
        let opened = |store: &Store| -> Vec<u32> { (0..7).filter(|place| open(store, &holding, *place).is_some()).collect() };
        let whole: Vec<_> = (0..7).map(|place| open(&store, &holding, place).unwrap()).collect();
        keep_tops(&store, id, 1, &Tops::of(&object.fragments[1])).unwrap();
        for (place, whole) in (0..7).zip(&whole) {
            assert!(open(&store, &holding, place).as_ref() == Some(whole) && whole.is_of(&holding, place));
        }
        assert_eq!(open(&store, &holding, 7), None);
        drop(store);
        // The fragment is the last record of the only segment.
        let segment = folder.path().join("00000001.seg");
        let mut disk = fs::read(&segment).unwrap();
        let at = disk.len() - object.fragments[1].len() + 2 * 16_384 + 5;
        disk[at] ^= 1;
        fs::write(&segment, disk).unwrap();
        let store = Store::open(folder.path(), Config::default()).unwrap();
        assert_eq!(opened(&store), [0, 1, 3, 4, 5, 6], "the damaged range alone is not shown");
        keep_tops(&store, id, 1, &Tops::of(&[0])).unwrap();
        assert_eq!(opened(&store), [] as [u32; 0], "the whole fragment is damaged");
    }
}
