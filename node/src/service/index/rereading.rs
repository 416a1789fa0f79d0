//! Segments that are answered from, read whole again in turn: what a file's time of change does not tell of ([`attribution::disk::Stamp`]), such as a disk that rots, is found
//! by reading alone.
//!
//! One segment a turn, [`EVERY`]: a second of one processor and of a disk's reading for a gigabyte, so less than a thousandth of a machine, and a Datanet of two dozen segments has been
//! read anew within a day. What is in memory is read there, which is what answers come from; a page that was given up comes from the disk. Until a damaged page is met here, or by a
//! span that does not open, an answer may lack a match that lay in it, and its receipt be convicted of that (F2).

use std::{sync::Arc, time::Duration};

use attribution::index::{Index, SegmentId};
use tokio::{
    sync::RwLock,
    time::{MissedTickBehavior, interval_at},
};

use super::store::Indexes;
use crate::service::inference::Offers;

/// From one segment to the next.
const EVERY: Duration = Duration::from_secs(3_600);

/// Reads one segment after the other, for as long as it is awaited.
pub(super) async fn run(offers: Arc<RwLock<Offers>>, indexes: Arc<Indexes>) {
    let mut turns = interval_at(tokio::time::Instant::now() + EVERY, EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        turns.tick().await;
        let served: Vec<Arc<Index>> = offers.read().await.values().map(|offer| Arc::clone(&offer.index)).collect();
        let Some((index, id)) = next(&served, last) else { continue };
        last = Some(id);
        let indexes = Arc::clone(&indexes);
        if let Err(error) = tokio::task::spawn_blocking(move || read(&index, id, &indexes)).await {
            tracing::warn!(%error, "reading a segment again ended early");
        }
    }
}

/// The segment whose turn comes after `last`, with an index that holds it: in the order of identifiers, and from the first again.
pub(super) fn next(served: &[Arc<Index>], last: Option<SegmentId>) -> Option<(Arc<Index>, SegmentId)> {
    let held = || {
        let of = |index: &Arc<Index>| {
            let ids: Vec<_> = index.datanets().iter().flat_map(|datanet| datanet.segments()).map(|segment| segment.id()).collect();
            let index = Arc::clone(index);
            ids.into_iter().map(move |id| (Arc::clone(&index), id))
        };
        served.iter().flat_map(of)
    };
    let later = held().filter(|(_, id)| last.is_none_or(|last| *id > last)).min_by_key(|(_, id)| *id);
    later.or_else(|| held().min_by_key(|(_, id)| *id))
}

/// Reads a segment whole; one that is damaged is answered from no more. Blocks.
pub(super) fn read(index: &Index, id: SegmentId, indexes: &Indexes) {
    let segments = index.datanets().iter().flat_map(|datanet| datanet.segments());
    for error in segments.filter(|segment| segment.id() == id).filter_map(|segment| segment.verify().err()) {
        tracing::warn!(segment = %id, %error, "a segment that is answered from was read again, and is damaged");
        indexes.suspect(id);
    }
}
