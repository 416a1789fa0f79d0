//! Whether what a node has a whole copy of can be had elsewhere: its holders are asked what they have of it now, and what they show is counted
//! ([`Tally`], with the reasons for how many are enough).
//!
//! Whose word counts: operators with stake whose ads are heard, and whom a record names that stands by final books. The record is the contributor's, so who writes one that names accomplices
//! loses its own contribution and nobody else's. Of a void object holders show nothing, and this node's own store may know it as well. What cannot be found out counts as
//! not to be had: the copy stays. So does a fragment of this node's own, which lies on the same disk: nobody hears his own ad.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use p2p::{bulk::BulkEndpoint, overlay::OverlayHandle};
use storage::{
    proto::keeping::{Record, tally::Tally},
    store::Store,
};
use tokio::time::{Instant, timeout_at};
use types::id::{Address, BlobId};

use super::{Making, Settled};
use crate::{
    chain::Snapshots,
    datanet::{
        keeping::{Registered, look},
        placing::{self, Storer},
        seeds::Seeds,
    },
};

/// Time in which holders are asked about the copies that one new copy may replace. 60 s: a round of questions takes a fraction of a second, and ten where somebody is silent.
const ASKING_LIMIT: Duration = Duration::from_secs(60);
/// How long an object that is not shown enough is not asked about again. 1 h: repair brings back within hours what falls below its floor.
const SCARCE_FOR: Duration = Duration::from_secs(3_600);
/// Most objects that are remembered as scarce: 40 bytes each. What is forgotten is asked about again.
const SCARCE_MAX: usize = 4_096;

/// What a node asks others by before it gives a copy up.
#[derive(Debug)]
pub struct Elsewhere {
    /// Who stores.
    pub overlay: OverlayHandle,
    /// To ask them.
    pub bulk: Arc<BulkEndpoint>,
    /// The books.
    pub snapshots: Snapshots,
    /// Seeds of the epochs in which fragments moved.
    pub seeds: Seeds,
    /// The chain.
    pub chain_id: u64,
    /// What is known to be void.
    pub store: Store,
    /// Objects that were not shown enough, each until when.
    pub scarce: Mutex<BTreeMap<BlobId, Instant>>,
}

impl Elsewhere {
    /// Finds out what may go of what is `settled`, the copy used longest ago first, until there is room, or time is up. May be dropped half-way.
    pub(in crate::datanet) async fn choose(&self, making: &mut Making, settled: &Settled) {
        let until = Instant::now() + ASKING_LIMIT;
        while let Some(text_root) = making.next() {
            let mut is_elsewhere = Instant::now() < until;
            for object in settled.get(&text_root).into_iter().flatten() {
                is_elsewhere = is_elsewhere && self.is_there(*object, until).await;
            }
            making.answer(is_elsewhere && settled.contains_key(&text_root));
        }
    }

    /// Whether an object is known to be scarce, from a question of the last hour.
    pub(in crate::datanet) fn is_scarce(&self, object: BlobId) -> bool {
        let now = Instant::now();
        self.scarce.lock().unwrap_or_else(PoisonError::into_inner).get(&object).is_some_and(|until| *until > now)
    }

    async fn is_there(&self, object: BlobId, until: Instant) -> bool {
        match timeout_at(until, self.is_shown(object)).await {
            Ok(Ok(true)) => return true,
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::info!(%object, error = format!("{error:#}"), "a whole copy stays: who else has it is not known"),
            Err(_) => tracing::info!(%object, "a whole copy stays: its holders did not say in time what they have"),
        }
        let now = Instant::now();
        let mut scarce = self.scarce.lock().unwrap_or_else(PoisonError::into_inner);
        scarce.retain(|_, until| *until > now);
        if scarce.len() < SCARCE_MAX {
            scarce.insert(object, now + SCARCE_FOR);
        }
        false
    }

    /// Whether enough fragments of an object are shown.
    async fn is_shown(&self, object: BlobId) -> anyhow::Result<bool> {
        ensure!(!self.store.is_void(object)?, "object {object} is void");
        let finalized = Arc::clone(&self.snapshots.borrow().finalized);
        let registered = Registered::find(&finalized, object)?.with_context(|| format!("object {object} is not settled"))?;
        let ads = self.overlay.ads().await?;
        let storers = placing::storers(&finalized, ads.iter().map(|signed| signed.ad()), self.chain_id);
        let mut heard: Vec<(Address, Storer)> = storers.iter().map(|(account, storer)| (*account, *storer)).collect();
        // Another order for each object, so that nobody is everybody's first.
        heard.sort_by_key(|(_, storer)| BlobId::of(&[object.0, storer.node.0].concat()));
        let (mut tally, mut record) = (Tally::new(heard.into_iter().map(|(account, _)| account)), None::<Record>);
        loop {
            let assignment = record.as_ref().map(|record| registered.assignment(record)).transpose()?;
            let asked: Vec<(Address, Storer)> =
                tally.ask(assignment.as_ref()).into_iter().filter_map(|account| Some((account, *storers.get(&account)?))).collect();
            if asked.is_empty() {
                let assignment = assignment.with_context(|| format!("no operator shows who holds object {object}"))?;
                let is_enough = tally.is_enough(&assignment);
                let (shown, fragments) = (tally.shown(&assignment), assignment.profile().total());
                tracing::debug!(%object, shown, fragments, is_enough, "holders were asked what they have");
                return Ok(is_enough);
            }
            let words = asked.iter().map(|(_, storer)| look(&self.bulk, storer.node, storer.addr, object));
            for ((account, _), word) in asked.iter().zip(futures::future::join_all(words).await) {
                // Silence shows nothing.
                let Ok(word) = word else { continue };
                tally.answered(*account, word.indices);
                let Some(told) = word.record else { continue };
                if let Err(error) = registered.check(&self.seeds, &told, record.as_ref()).await {
                    tracing::debug!(%object, %account, error = format!("{error:#}"), "an operator has a record that does not stand");
                    continue;
                }
                match &mut record {
                    None => record = Some(told),
                    // Of two placements that one contributor signed the first that came counts.
                    Some(known) => drop(known.merge(&told)),
                }
            }
        }
    }
}
