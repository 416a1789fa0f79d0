//! One piece of work: k fragments are read and hashed, the lost ones computed, each given to its holder.
//!
//! Sources are asked k at a time, this node's own first; one that fails is replaced by the next. A holder that answers and has not what it should
//! is named as damaged. A fragment that stays with its holder is put there; one that moves is handed over, which counts once the new holder has signed and this
//! node has written that down.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use storage::{
    erasure::{self, ObjectManifest, Proof, VerifiedFragment},
    proto::{
        fetch::StreamEnd,
        keeping::{Ask, HandedOver, Record, Reply as Word, message::Take},
        message::{Refusal, Reply, Request},
        repair::{Method, Work},
    },
    store::StoreError,
};
use tokio::{task::JoinSet, time::timeout};
use types::{
    id::{Address, BlobId},
    key::verify,
    placement::Handover,
};

use crate::{
    datanet::{
        exchange,
        keeping::ask,
        placing::{Storer, Storers},
    },
    service::keeping::Keeping,
};

/// Longest wait for a fragment to come or to be taken: the largest at 3 Mbit/s.
const CARRY_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a manifest, which has 3 kB: an auditor waits for some of them at once.
const LOCATE_LIMIT: Duration = Duration::from_secs(4);

/// How a piece of work ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) object: BlobId,
    /// Fragments that stand with their holders.
    pub(super) stored: BTreeSet<u8>,
    /// Fragments whose holders answer and do not have them.
    pub(super) damaged: BTreeSet<u8>,
    /// Operators that had no room for theirs.
    pub(super) full: BTreeSet<Address>,
}

/// Carries one piece of work out in an epoch. May be dropped half-way: what has not been acknowledged is done again.
pub(super) async fn rebuild(keeping: &Arc<Keeping>, work: Work, epoch: u64) -> Done {
    let object = work.object;
    let (mut damaged, mut full) = (BTreeSet::new(), BTreeSet::new());
    let stored = match try_rebuild(keeping, work, epoch, &mut damaged, &mut full).await {
        Ok(stored) => stored,
        Err(error) => {
            tracing::warn!(%object, error = format!("{error:#}"), "an object is not mended yet");
            BTreeSet::new()
        }
    };
    Done { object, stored, damaged, full }
}

async fn try_rebuild(
    keeping: &Arc<Keeping>,
    work: Work,
    epoch: u64,
    damaged: &mut BTreeSet<u8>,
    full: &mut BTreeSet<Address>,
) -> anyhow::Result<BTreeSet<u8>> {
    let Work { object, method, sources, mut targets } = work;
    let storers = keeping.storers().await?;
    let manifest = manifest(keeping, object, &sources, &storers).await?;
    let mut stored = BTreeSet::new();
    // What lies here whole lacked its manifest alone: one read of this disk in place of k of others.
    if let Some(place) = targets.iter().position(|(_, to)| *to == keeping.me()) {
        let (index, me) = targets[place];
        if let Ok(fragment) = read(keeping, &manifest, index, me, None).await
            && give(keeping, &manifest, index, (me, None), fragment, epoch).await.is_ok()
        {
            targets.remove(place);
            stored.insert(index);
        }
    }
    if targets.is_empty() {
        return Ok(stored);
    }
    let fragments = gather(keeping, &manifest, &sources, &storers, damaged).await?;
    let wanted: Vec<u8> = targets.iter().map(|(fragment, _)| *fragment).collect();
    let (known, bytes) = (manifest.clone(), tokio::task::spawn_blocking(move || compute(&manifest, &fragments, method, &wanted)));
    let rebuilt = match bytes.await?? {
        Computed::Fragments(rebuilt) => rebuilt,
        Computed::Lie(proof) => {
            keeping.void_everywhere(*proof).await?;
            bail!("its manifest is a lie, and the object is void");
        }
    };
    let mut carried = JoinSet::new();
    for ((fragment, to), bytes) in targets.into_iter().zip(rebuilt) {
        let (keeping, manifest, storer) = (Arc::clone(keeping), known.clone(), storers.get(&to).copied());
        carried.spawn(async move { (fragment, to, give(&keeping, &manifest, fragment, (to, storer), bytes, epoch).await) });
    }
    for (fragment, to, given) in carried.join_all().await {
        match given {
            Ok(()) => drop(stored.insert(fragment)),
            Err(error) if error.is::<NoRoom>() => {
                tracing::info!(%object, fragment, %to, %error, "a rebuilt fragment found no room: its holder is left alone for a while");
                full.insert(to);
            }
            Err(error) => tracing::info!(%object, fragment, %to, error = format!("{error:#}"), "a rebuilt fragment was not taken"),
        }
    }
    Ok(stored)
}

/// One fragment of an object, whatever became of it here: from this node's disk, from whoever holds it now, or computed from others. One that is this node's own by the object's record is put back
/// on its disk, if there is room.
///
/// # Errors
/// That too few others show theirs, or what the disk says.
pub(in crate::service) async fn recover(keeping: &Arc<Keeping>, object: BlobId, index: u8) -> anyhow::Result<Vec<u8>> {
    let (store, me) = (keeping.store.clone(), keeping.me());
    match tokio::task::spawn_blocking(move || store.get_fragment(object, index)).await? {
        Ok(Some(bytes)) => return Ok(bytes),
        Ok(None) | Err(StoreError::Corrupt(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let record = keeping.record(object)?.context("nobody is known to hold the object")?;
    let assignment = keeping.registered(object)?.assignment(&record)?;
    let (storers, holders): (_, Vec<_>) = (keeping.storers().await?, assignment.holders().collect());
    let manifest = manifest(keeping, object, &holders, &storers).await?;
    let others: Vec<_> = holders.iter().copied().filter(|(fragment, holder)| *holder != me && *fragment != index).collect();
    let now = holders.iter().copied().find(|(fragment, holder)| *fragment == index && *holder != me);
    let found = match now {
        Some((_, holder)) => read(keeping, &manifest, index, holder, storers.get(&holder).copied()).await.ok(),
        None => None,
    };
    let fragment = match found {
        Some(fragment) => fragment,
        None => {
            let fragments = gather(keeping, &manifest, &others, &storers, &mut BTreeSet::new()).await?;
            let known = manifest.clone();
            tokio::task::spawn_blocking(move || erasure::rebuild(&known, &fragments, index)).await??
        }
    };
    if assignment.held_by(me) == Some(index) {
        let (store, kept) = (keeping.store.clone(), fragment.clone());
        let put = tokio::task::spawn_blocking(move || store.put_fragment(&manifest, &kept)).await?;
        match put.map_err(|error| (error.no_room(), error)) {
            Ok(()) => {}
            // It is shown all the same.
            Err((Some((_, need)), _)) => keeping.no_room(need),
            Err((None, error)) => return Err(error.into()),
        }
    }
    Ok(fragment.into_bytes())
}

/// The object's manifest: this node's, or that of a holder.
async fn manifest(keeping: &Keeping, object: BlobId, sources: &[(u8, Address)], storers: &Storers) -> anyhow::Result<ObjectManifest> {
    match keeping.store.manifest(object) {
        Ok(Some(own)) => return Ok(own),
        // Stored anew with the fragment.
        Ok(None) | Err(StoreError::Corrupt(_)) => {}
        Err(error) => return Err(error.into()),
    }
    located(keeping, object, sources.iter().filter_map(|(_, holder)| storers.get(holder).copied()).collect()).await
}

/// The manifest of an object of which this node holds a fragment: from its disk, or if it is damaged there from another holder, and put back.
///
/// # Errors
/// That no other holder gives it, or what the disk says.
pub(in crate::service) async fn manifest_of(keeping: &Keeping, object: BlobId) -> anyhow::Result<ObjectManifest> {
    let store = keeping.store.clone();
    match tokio::task::spawn_blocking(move || store.manifest(object)).await? {
        Ok(own) => return own.context("the manifest of a fragment is gone"),
        Err(StoreError::Corrupt(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let others = keeping.others(object).await?;
    let manifest = located(keeping, object, others.into_iter().map(|(_, storer)| storer).collect()).await?;
    let (store, bytes) = (keeping.store.clone(), manifest.encode());
    // It is shown all the same if there is no room for it; its mark stays then.
    if let Err(error) = tokio::task::spawn_blocking(move || store.put(&bytes)).await? {
        tracing::warn!(%object, %error, "a manifest that was damaged here is not put back");
    }
    Ok(manifest)
}

/// The manifest as the first of some holders gives it.
async fn located(keeping: &Keeping, object: BlobId, holders: Vec<Storer>) -> anyhow::Result<ObjectManifest> {
    for storer in holders {
        let asked = exchange::ask(&keeping.bulk, storer.node, storer.addr, &Request::Locate { object }, LOCATE_LIMIT).await;
        if let Ok(Reply::Located { manifest, .. }) = asked
            && let Ok(manifest) = ObjectManifest::decode_as(object, &manifest)
        {
            return Ok(manifest);
        }
    }
    bail!("no holder gives the manifest of object {object}")
}

/// As many verified fragments as the code needs.
async fn gather(
    keeping: &Arc<Keeping>,
    manifest: &ObjectManifest,
    sources: &[(u8, Address)],
    storers: &Storers,
    damaged: &mut BTreeSet<u8>,
) -> anyhow::Result<Vec<VerifiedFragment>> {
    let (needed, object) = (usize::from(manifest.profile().data()), manifest.id());
    let shared = Arc::new(manifest.clone());
    let mut waiting: VecDeque<_> = sources.iter().copied().collect();
    let mut asked = JoinSet::new();
    let mut found = BTreeMap::new();
    loop {
        while found.len() + asked.len() < needed
            && let Some((fragment, holder)) = waiting.pop_front()
        {
            let (keeping, storer) = (Arc::clone(keeping), storers.get(&holder).copied());
            let manifest = Arc::clone(&shared);
            asked.spawn(async move { (fragment, read(&keeping, &manifest, fragment, holder, storer).await) });
        }
        let Some(answer) = asked.join_next().await else {
            bail!("{} intact fragments of object {object} were read, {needed} are needed", found.len());
        };
        // A task that panicked has said so; the next source takes its place.
        let Ok((fragment, read)) = answer else { continue };
        match read {
            Ok(good) => drop(found.insert(fragment, good)),
            Err(Unread::Away(error)) => {
                tracing::info!(%object, fragment, error = format!("{error:#}"), "a fragment cannot be read now");
            }
            Err(Unread::Lost(why)) => {
                tracing::warn!(%object, fragment, why, "a holder does not have its fragment");
                damaged.insert(fragment);
            }
        }
        if found.len() >= needed {
            return Ok(found.into_values().collect());
        }
    }
}

impl From<Unread> for anyhow::Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Away(error) => error,
            Unread::Lost(why) => Self::msg(why),
        }
    }
}

/// Why a fragment was not read.
pub(super) enum Unread {
    /// Its holder does not answer, or may do so later.
    Away(anyhow::Error),
    /// Its holder says that it has not got it, or sends something else.
    Lost(String),
}

/// A whole fragment from its holder, or from this disk; each byte is checked against the manifest.
///
/// # Errors
/// [`Unread`].
pub(super) async fn read(
    keeping: &Keeping,
    manifest: &ObjectManifest,
    index: u8,
    holder: Address,
    storer: Option<Storer>,
) -> Result<VerifiedFragment, Unread> {
    let object = manifest.id();
    if holder == keeping.me() {
        let store = keeping.store.clone();
        return match tokio::task::spawn_blocking(move || store.get_fragment(object, index)).await {
            Ok(Ok(Some(bytes))) => manifest.verify(index, bytes).map_err(|error| Unread::Lost(error.to_string())),
            Ok(Ok(None)) => Err(Unread::Lost("it is not here".to_owned())),
            Ok(Err(StoreError::Corrupt(corrupt))) => Err(Unread::Lost(corrupt.to_string())),
            Ok(Err(error)) => Err(Unread::Away(error.into())),
            Err(error) => Err(Unread::Away(error.into())),
        };
    }
    let storer = storer.with_context(|| format!("{holder} is not heard")).map_err(Unread::Away)?;
    let end = match timeout(CARRY_LIMIT, exchange::read_fragment(&keeping.bulk, storer.node, storer.addr, manifest, index)).await {
        Ok(Ok(good)) => return Ok(good),
        Ok(Err(end)) => end,
        Err(_) => return Err(Unread::Away(anyhow::anyhow!("{holder} took more than {} s", CARRY_LIMIT.as_secs()))),
    };
    Err(match end {
        StreamEnd::Wrong(wrong) => Unread::Lost(wrong.to_string()),
        StreamEnd::Refused(refusal @ (Refusal::NotHolder { .. } | Refusal::Unknown { .. } | Refusal::Corrupt { .. })) => {
            Unread::Lost(refusal.to_string())
        }
        StreamEnd::Refused(refusal) => Unread::Away(refusal.into()),
        StreamEnd::OffTopic => Unread::Away(anyhow::anyhow!("{holder} answered another question")),
        StreamEnd::Lost | StreamEnd::Whole => Unread::Away(anyhow::anyhow!("{holder} broke off")),
    })
}

/// What the fragments that were read give.
#[derive(Debug)]
enum Computed {
    /// The lost fragments, in the order in which they were asked for, each hashed against the manifest.
    Fragments(Vec<VerifiedFragment>),
    /// Something else than the manifest says.
    Lie(Box<Proof>),
}

fn compute(manifest: &ObjectManifest, fragments: &[VerifiedFragment], method: Method, wanted: &[u8]) -> anyhow::Result<Computed> {
    match computed(manifest, fragments, method, wanted) {
        Ok(rebuilt) => Ok(Computed::Fragments(rebuilt)),
        // Each of them is what the manifest names: if it is not a lie, what failed is not the bytes' doing.
        Err(error) => Proof::find(manifest, fragments)?.map(|proof| Computed::Lie(Box::new(proof))).ok_or(error),
    }
}

fn computed(
    manifest: &ObjectManifest,
    fragments: &[VerifiedFragment],
    method: Method,
    wanted: &[u8],
) -> anyhow::Result<Vec<VerifiedFragment>> {
    match method {
        Method::Single => wanted.iter().map(|index| erasure::rebuild(manifest, fragments, *index).map_err(anyhow::Error::from)).collect(),
        Method::Decode => {
            let bytes = erasure::reconstruct(manifest, fragments)?;
            let encoded = erasure::encode(&bytes, manifest.text_root(), manifest.profile())?;
            ensure!(encoded.manifest.id() == manifest.id(), "its fragments make another object: whoever encoded it has lied");
            let mut all = encoded.fragments;
            let mut take = |index: u8| -> anyhow::Result<VerifiedFragment> {
                let bytes = all.get_mut(usize::from(index)).map(std::mem::take).context("the object has no such fragment")?;
                Ok(manifest.verify(index, bytes)?)
            };
            wanted.iter().map(|index| take(*index)).collect()
        }
    }
}

/// A holder has no room.
#[derive(Debug, thiserror::Error)]
#[error("{free} bytes are free there, {need} are needed")]
struct NoRoom {
    free: u64,
    need: u64,
}

/// Gives a rebuilt fragment to its holder: back where it was, or on to a new one.
async fn give(
    keeping: &Keeping,
    manifest: &ObjectManifest,
    index: u8,
    (to, storer): (Address, Option<Storer>),
    fragment: VerifiedFragment,
    epoch: u64,
) -> anyhow::Result<()> {
    let object = manifest.id();
    if to == keeping.me() {
        let (store, manifest) = (keeping.store.clone(), manifest.clone());
        let put = tokio::task::spawn_blocking(move || store.put_fragment(&manifest, &fragment)).await?;
        return put.map_err(|error| match error.no_room() {
            Some((free, need)) => {
                keeping.no_room(need);
                NoRoom { free, need }.into()
            }
            None => error.into(),
        });
    }
    let storer = storer.with_context(|| format!("{to} is not heard"))?;
    let record = keeping.record(object)?.context("the object's record is gone")?;
    let assignment = keeping.registered(object)?.assignment(&record)?;
    if assignment.holder(index) == Some(to) {
        let holders = assignment.holders().map(|(_, holder)| holder).collect();
        let request = Request::Put { manifest: manifest.encode(), index, fragment: fragment.into_bytes(), holders };
        return match exchange::ask(&keeping.bulk, storer.node, storer.addr, &request, CARRY_LIMIT).await? {
            Reply::Stored { object: of, index: at } if (of, at) == (object, index) => Ok(()),
            Reply::Refused(Refusal::Full { free, need }) => Err(NoRoom { free, need }.into()),
            Reply::Refused(refusal) => Err(refusal.into()),
            _ => bail!("it answered another question"),
        };
    }
    let generation = assignment.generation(index).context("the object has no such fragment")?.saturating_add(1);
    let handover = Handover { by: keeping.me(), epoch, object, fragment: index, generation, to };
    hand_over(keeping, &record, manifest, storer, handover, fragment).await
}

async fn hand_over(
    keeping: &Keeping,
    record: &Record,
    manifest: &ObjectManifest,
    storer: Storer,
    handover: Handover,
    fragment: VerifiedFragment,
) -> anyhow::Result<()> {
    let domains = keeping.chain.domains();
    let by = keeping.account.sign(&domains, &handover);
    let take = Take { record: record.encode(), handover, by, manifest: manifest.encode(), fragment: fragment.into_bytes() };
    match ask(&keeping.bulk, storer.node, storer.addr, &Ask::Take(Box::new(take)), CARRY_LIMIT).await? {
        Word::Taken(signature) => {
            verify(&domains, &handover, &signature, handover.to)?;
            keeping.handed_over(HandedOver { handover, by, to: signature }).await?;
            Ok(())
        }
        Word::Refused(reason) => bail!("{}", crate::words::line(&reason)),
        Word::Full { free, need } => Err(NoRoom { free, need }.into()),
        Word::Heard | Word::Record { .. } | Word::Suspended(_) => bail!("it answered another question"),
    }
}

#[cfg(test)]
mod tests {
    use storage::erasure::{Encoded, Lie, Profile, encode};
    use types::id::Hash32;

    use super::*;

    fn object() -> Encoded {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * 10_000 - 7).collect();
        encode(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap()
    }

    fn read(manifest: &ObjectManifest, object: &Encoded, indices: [u8; 3]) -> Vec<VerifiedFragment> {
        indices.map(|index| manifest.verify(index, object.fragments[usize::from(index)].clone()).unwrap()).to_vec()
    }

    #[test]
    fn repair_gives_what_was_lost_by_either_method() {
        let object = object();
        let fragments = read(&object.manifest, &object, [0, 2, 4]);
        for (method, wanted) in [(Method::Single, vec![1]), (Method::Decode, vec![1, 3])] {
            let Computed::Fragments(rebuilt) = compute(&object.manifest, &fragments, method, &wanted).unwrap() else { panic!("no lie") };
            let came: Vec<_> = rebuilt.iter().map(|fragment| (fragment.index(), fragment.bytes().to_vec())).collect();
            let expected: Vec<_> = wanted.iter().map(|index| (*index, object.fragments[usize::from(*index)].clone())).collect();
            assert!(came == expected, "{method:?}");
        }
        assert!(compute(&object.manifest, &fragments[..2], Method::Decode, &[1]).is_err(), "too few are no lie");
    }

    #[test]
    fn repair_proves_a_manifest_whose_fragments_are_no_object() {
        let honest = object();
        let mut bytes = honest.manifest.encode();
        // The keccak root and the BLAKE3 of fragment 3 are another one's.
        let (at, other) = (bytes.len() - 2 * 64, bytes.len() - 64);
        bytes.copy_within(other.., at);
        let lying = ObjectManifest::decode(&bytes).unwrap();
        let fragments = read(&lying, &honest, [0, 1, 2]);
        for (method, wanted) in [(Method::Single, vec![3]), (Method::Decode, vec![3, 4])] {
            let Computed::Lie(proof) = compute(&lying, &fragments, method, &wanted).unwrap() else { panic!("{method:?} saw no lie") };
            assert_eq!(proof.check().unwrap().lie(), Lie::Fragment(3));
        }
    }
}
