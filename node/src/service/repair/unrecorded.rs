//! Fragments of which this node does not know who holds the others: after a salvage that could read no records, or where the record never came. Nobody mends such an object from here, it is shown to no auditor, and `storage status`
//! would not list it. So the index is walked at the start, then every ten minutes and when the operator asks, and the record of each such object is had from its other holders.
//!
//! Who they are is not known without the record: those that the rule draws now are asked first, then others that store, [`ASKED_MAX`] at most. What they tell is checked like any first record. Where the rule gives
//! others by now, since operators came and went since the placement, it is taken if most of the holders that it names tell the same one ([`is_vouched`]): each of them checked it when it was spread, this node holds the very fragment it is named for, and the
//! contributor has signed it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, future::join_all, stream};
use storage::{
    proto::{keeping::Record, placement},
    store::Item,
};
use tokio::time::timeout;
use types::{
    id::{Address, BlobId},
    placement::Placement,
};

use crate::{
    datanet::{
        keeping::{Registered, look},
        placing::{self, Storer, Storers},
    },
    service::{keeping::Keeping, upkeep::View},
};

/// Items read from the index in one step.
const SCAN: usize = 4_096;
/// Objects without a record that one walk notes: 2 MiB of names. The next walk finds the rest.
const NOTED_MAX: usize = 1 << 16;
/// Objects asked about between two walks.
const SOUGHT_MAX: usize = 1_024;
/// Objects asked about at once: with [`ASKED_AT_ONCE`] 64 questions of a kilobyte are under way.
const AT_ONCE: usize = 4;
/// Nodes asked at once about one object.
const ASKED_AT_ONCE: usize = 16;
/// Nodes asked about one object: twice the holders of the longest code. Who holds it is among the first, or has moved to where a later walk may find it.
const ASKED_MAX: usize = 96;
/// The next walk while something is left that has no record: others are heard some seconds after the start.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Longest wait, also while nothing is left.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(600);

/// Seeks records until dropped, which may be at any moment.
pub(crate) async fn seek_records(keeping: Arc<Keeping>, view: Arc<View>) {
    // What was being spread when the last walk was made: its record may come by itself.
    let (mut expected, mut after, mut wait) = (BTreeSet::new(), BlobId::ZERO, AGAIN_AFTER);
    let mut is_first = true;
    loop {
        match walk(&keeping).await {
            Ok(Found { mut objects, expected: waiting }) => {
                // At the start nobody is spreading anything: a record that is awaited then was missed.
                objects.retain(|object| is_first || !waiting.contains(object) || expected.contains(object));
                view.note_unrecorded(objects.len() as u64);
                let had = seek(&keeping, &objects, &mut after).await;
                if had > 0 {
                    tracing::info!(objects = had, "it is known again who holds objects of which fragments lie here");
                }
                let left = objects.len() - had;
                view.note_unrecorded(left as u64);
                wait = match (left, had) {
                    (0, _) => AGAIN_AFTER_MAX,
                    (_, 0) => (wait * 2).min(AGAIN_AFTER_MAX),
                    _ => AGAIN_AFTER,
                };
                (expected, is_first) = (waiting, false);
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "it is not known which fragments lie here without a record of their holders");
                wait = AGAIN_AFTER_MAX;
            }
        }
        // An operator who asks need not wait.
        if timeout(wait, view.seek_asked()).await.is_ok() {
            (wait, is_first) = (AGAIN_AFTER, true);
        }
    }
}

/// Objects of which a fragment lies here and no record does.
struct Found {
    objects: Vec<BlobId>,
    /// Those of them whose record may be on its way.
    expected: BTreeSet<BlobId>,
}

async fn walk(keeping: &Arc<Keeping>) -> anyhow::Result<Found> {
    let keeping = Arc::clone(keeping);
    tokio::task::spawn_blocking(move || walk_now(&keeping)).await?
}

/// Blocks: a look at the index, and one at the table for each object.
fn walk_now(keeping: &Keeping) -> anyhow::Result<Found> {
    let state = keeping.state();
    let (mut found, mut last) = (Found { objects: Vec::new(), expected: BTreeSet::new() }, None);
    // Blobs stand before all fragments.
    let mut after = Some(Item::Fragment { object: BlobId::ZERO, index: 0 });
    loop {
        let items = keeping.store.items(after, SCAN)?;
        for item in &items {
            let Item::Fragment { object, .. } = *item else { continue };
            if last.replace(object) == Some(object) || found.objects.len() >= NOTED_MAX {
                continue;
            }
            // One whose record is damaged is told of where records are read.
            let is_recorded = !matches!(keeping.record(object), Ok(None));
            if is_recorded || keeping.is_void(object)? || placing::registered(&state, object).is_none() {
                continue;
            }
            if keeping.is_expected(object)? {
                found.expected.insert(object);
            }
            found.objects.push(object);
        }
        match items.last() {
            Some(last) if items.len() == SCAN => after = Some(*last),
            _ => return Ok(found),
        }
    }
}

/// Asks about the next objects after the one that was asked about last, then from the first; returns how many records were had.
async fn seek(keeping: &Arc<Keeping>, objects: &[BlobId], after: &mut BlobId) -> usize {
    let from = objects.partition_point(|object| *object <= *after);
    let turn: Vec<BlobId> = objects[from..].iter().chain(&objects[..from]).copied().take(SOUGHT_MAX).collect();
    *after = turn.last().copied().unwrap_or(BlobId::ZERO);
    let asked = turn.into_iter().map(|object| async move {
        match seek_one(keeping, object).await {
            Ok(()) => 1,
            Err(error) => {
                tracing::debug!(%object, error = format!("{error:#}"), "who holds an object of which a fragment lies here is not known yet");
                0
            }
        }
    });
    stream::iter(asked).buffer_unordered(AT_ONCE).fold(0, |sum, had| std::future::ready(sum + had)).await
}

/// Has the record of one object from others that store.
async fn seek_one(keeping: &Arc<Keeping>, object: BlobId) -> anyhow::Result<()> {
    let (registered, storers) = (keeping.registered(object)?, keeping.storers().await?);
    let mut why = None;
    for some in candidates(keeping, &registered, &storers).chunks(ASKED_AT_ONCE) {
        let words = join_all(some.iter().map(|storer| look(&keeping.bulk, storer.node, storer.addr, object))).await;
        for record in words.into_iter().filter_map(|word| word.ok()?.record) {
            match take(keeping, &record, &storers).await {
                Ok(()) => return Ok(()),
                Err(error) => why = Some(error),
            }
        }
    }
    Err(why.unwrap_or_else(|| anyhow::anyhow!("nobody who is heard has a record of it")))
}

/// Who may know: those that the rule draws now, then others.
fn candidates(keeping: &Keeping, registered: &Registered, storers: &Storers) -> Vec<Storer> {
    let object = registered.accepted.object;
    // Without a manifest the code is not known, nor who is drawn for it.
    let profile = keeping.store.manifest(object).ok().flatten().map(|manifest| manifest.profile());
    let drawn = profile.and_then(|profile| {
        let rules = placement::Rules::of(profile, registered.rules.regions.clone());
        placement::place(registered.seed, object, profile, &placing::sites(storers), &rules).ok()
    });
    let mut seen = BTreeSet::from([keeping.me()]);
    let all = drawn.into_iter().flatten().chain(storers.keys().copied()).filter(|account| seen.insert(*account));
    all.filter_map(|account| storers.get(&account).copied()).take(ASKED_MAX).collect()
}

/// Takes a record that somebody told, by the rule or by the words of the other holders that it names.
async fn take(keeping: &Keeping, told: &Record, storers: &Storers) -> anyhow::Result<()> {
    let Err(error) = keeping.take_in(told).await else { return Ok(()) };
    let object = told.object();
    let named = told.placement().holders.iter().filter_map(|holder| Some((*holder, *storers.get(holder)?)));
    let asks = named.filter(|(holder, _)| *holder != keeping.me()).map(|(holder, storer)| async move {
        let word = look(&keeping.bulk, storer.node, storer.addr, object).await.ok()?;
        Some((holder, word.record?))
    });
    let words: BTreeMap<Address, Record> = join_all(asks).await.into_iter().flatten().collect();
    if !is_vouched(told.placement(), keeping.me(), words.iter().map(|(holder, record)| (*holder, record.placement()))) {
        bail!("{error:#}, and fewer than half of the other holders that it names tell the same");
    }
    keeping.take_back(told).await.context("most of its holders tell it").map(drop)
}

/// Whether more than half of the other holders that a placement names tell the same one, silent ones counted against it.
fn is_vouched<'a>(told: &Placement, me: Address, words: impl IntoIterator<Item = (Address, &'a Placement)>) -> bool {
    let others: BTreeSet<Address> = told.holders.iter().copied().filter(|holder| *holder != me).collect();
    let agreeing: BTreeSet<Address> =
        words.into_iter().filter(|(holder, word)| others.contains(holder) && *word == told).map(|(holder, _)| holder).collect();
    agreeing.len() * 2 > others.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_lost_is_believed_when_most_of_its_other_holders_tell_the_same() {
        let account = |byte| Address([byte; 20]);
        let placed =
            Placement { contributor: account(9), object: BlobId([7; 32]), block: 1, data: 3, holders: (1..6).map(account).collect() };
        let other = Placement { block: 2, ..placed.clone() };
        let vouched =
            |words: &[(u8, &Placement)]| is_vouched(&placed, account(1), words.iter().map(|(byte, word)| (account(*byte), *word)));
        assert!(vouched(&[(2, &placed), (3, &placed), (4, &placed)]));
        assert!(!vouched(&[(2, &placed), (3, &placed)]), "two of four, the others are silent");
        assert!(!vouched(&[(2, &placed), (2, &placed), (2, &placed)]), "one of them, however often");
        assert!(!vouched(&[(2, &placed), (3, &placed), (4, &other)]), "one has another");
        assert!(!vouched(&[(1, &placed), (6, &placed), (7, &placed), (8, &placed)]), "who asks, and strangers");
        assert!(!vouched(&[]));
    }
}
