//! Fragments that are another's: who was away while its fragment moved still has it on its disk, and so has who was to hold another one before a full holder was
//! replaced in the draw. It is released once the holder that the object's record names, which has signed for it or took that record down with the fragment on its disk, has
//! sent a range of it that nobody could choose beforehand and that is what the manifest names. Until then two copies are better than a word. What a living
//! commitment of this node lists stays as long as the chain may ask for it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use p2p::bulk::BulkEndpoint;
use storage::{
    erasure::ObjectManifest,
    proto::{fetch::StreamEnd, keeping::Record, range::Run},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use types::id::{Address, BlobId};

use crate::{
    datanet::{
        exchange::{Wanted, read_range},
        placing::Storer,
    },
    service::{auditing, keeping::Keeping, repair::next},
};

/// Records read from the table in one step.
const SCAN: usize = 256;
/// Fragments released in one look: each costs its new holder one read of 16 KiB.
const RELEASED_MAX: u64 = 1 << 10;
/// Longest wait for a range.
const RANGE_LIMIT: Duration = Duration::from_secs(20);

/// Looks at every record; returns how many fragments were released.
pub(super) async fn release_all(keeping: &Keeping) -> u64 {
    let (mut from, mut released) = (BlobId::ZERO, 0);
    let bound = match auditing::bound(keeping) {
        Ok(bound) => bound,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "what this node is bound to show is not known: nothing is released");
            return 0;
        }
    };
    loop {
        let records = match keeping.records(from, SCAN) {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the records of holders cannot be read");
                return released;
            }
        };
        for record in &records {
            let object = record.object();
            match release_of(keeping, record, &bound).await {
                Ok(count) => released += count,
                Err(error) => tracing::debug!(%object, error = format!("{error:#}"), "what was handed on is kept for now"),
            }
        }
        match records.last() {
            Some(last) if records.len() == SCAN && released < RELEASED_MAX => from = next(last.object()),
            _ => return released,
        }
    }
}

/// Releases this node's fragments of an object that others have taken over.
async fn release_of(keeping: &Keeping, record: &Record, bound: &BTreeSet<(BlobId, u8)>) -> anyhow::Result<u64> {
    let (object, store) = (record.object(), &keeping.store);
    let mut here = store.fragments_of(object)?;
    here.retain(|index| !bound.contains(&(object, *index)));
    if here.is_empty() {
        return Ok(0);
    }
    let assignment = keeping.registered(object)?.assignment(record)?;
    let moved = here.into_iter().filter_map(|index| Some((index, taken_over(record, index, assignment.holder(index)?, keeping.me())?)));
    let (moved, mut released): (Vec<(u8, Address)>, u64) = (moved.collect(), 0);
    if moved.is_empty() {
        return Ok(0);
    }
    let (manifest, storers) = (store.manifest(object)?.context("its manifest is gone")?, keeping.storers().await?);
    for (index, to) in moved {
        let Some(storer) = storers.get(&to) else { continue };
        if let Err(end) = proves(&keeping.bulk, &manifest, index, storer).await {
            tracing::debug!(%object, fragment = index, %to, end, "the holder of a fragment does not show it: it is kept here too");
            continue;
        }
        if auditing::let_go(&keeping.turn, store, (object, index), || may_go(keeping, object, index)).await? {
            tracing::info!(%object, fragment = index, %to, "a fragment that was handed on is released here");
            released += 1;
        }
    }
    Ok(released)
}

/// Whether a fragment is another's still, and not bound: it may have become this node's while the other was asked, and a look may last for hours, in which this node commits again.
fn may_go(keeping: &Keeping, object: BlobId, index: u8) -> anyhow::Result<bool> {
    let now = keeping.record(object)?.context("its record is gone")?;
    let is_own = keeping.registered(object)?.assignment(&now)?.holder(index) == Some(keeping.me());
    Ok(!is_own && !auditing::bound(keeping)?.contains(&(object, index)))
}

/// The holder of a fragment, if it is another than `me` and has it by its own word: it was placed there, or has signed for it.
fn taken_over(record: &Record, index: u8, holder: Address, me: Address) -> Option<Address> {
    let was_placed = record.placement().holders.get(usize::from(index)) == Some(&holder);
    let has_signed = || record.handovers().any(|moved| (moved.handover.fragment, moved.handover.to) == (index, holder));
    (holder != me && (was_placed || has_signed())).then_some(holder)
}

/// Whether a node sends one group of a fragment, drawn now; else what came of it.
async fn proves(bulk: &BulkEndpoint, manifest: &ObjectManifest, index: u8, storer: &Storer) -> Result<(), String> {
    let mut draw = [0; 4];
    getrandom::fill(&mut draw).map_err(|error| error.to_string())?;
    let first = u32::from_be_bytes(draw) % Run::all(manifest.fragment_len()).count.max(1);
    let wanted = Wanted { stream: 0, node: storer.node, addr: storer.addr, index, run: Run { first, count: 1 } };
    // One group is one block: nobody waits for room.
    let (sender, _blocks) = mpsc::channel(2);
    let cancel = CancellationToken::new();
    match timeout(RANGE_LIMIT, read_range(bulk, manifest, &wanted, &sender, &cancel)).await {
        Ok(StreamEnd::Whole) => Ok(()),
        Ok(end) => Err(format!("{end:?}")),
        Err(_) => Err(format!("nothing within {} s", RANGE_LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use storage::proto::keeping::HandedOver;
    use types::{
        key::{Signed, Signed65},
        placement::{Handover, Placement},
    };

    use super::*;

    #[test]
    fn a_fragment_is_let_go_only_for_a_holder_that_has_signed_for_it() {
        let account = |byte| Address([byte; 20]);
        let object = BlobId([7; 32]);
        let placement = Placement { contributor: account(9), object, block: 1, data: 3, holders: (1..6).map(account).collect() };
        let mut record = Record::new(Signed { document: placement, signature: Signed65([0; 65]) });
        let (by, to) = (account(1), account(6));
        let handover = Handover { by, epoch: 1, object, fragment: 2, generation: 1, to };
        assert_eq!(taken_over(&record, 2, to, account(3)), None, "nobody has");
        record.add(HandedOver { handover, by: Signed65([1; 65]), to: Signed65([2; 65]) }).unwrap();
        assert_eq!(taken_over(&record, 2, to, account(3)), Some(to));
        assert_eq!(taken_over(&record, 2, to, to), None, "the new holder keeps it");
        assert_eq!((taken_over(&record, 1, to, account(2)), taken_over(&record, 2, account(4), account(3))), (None, None));
        assert_eq!(taken_over(&record, 1, account(2), account(3)), Some(account(2)), "it was placed there when another had no room");
    }
}
