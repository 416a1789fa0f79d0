//! The chain's roll of auditors: being on it, its epochs and their beacons.
//!
//! A node whose configuration says `keeping.audit_roll` leaves the contract's deposit once and is on the roll from the next epoch on. When the chain opens an epoch, who is on its
//! roll commits at once to what it holds; a few blocks later somebody announces the block that draws, and after that block somebody stores its hash. Any one
//! call does for all: places take turns by epoch, and each waits for those before it. Audits by that draw are what `tributary claim --rent` is paid on; they
//! are held beside those of the network's own epochs, from which alone a node's standing follows, since every node that stores has those.
//!
//! An epoch costs a node one read per 64 places of the roll, two per block until the beacon is there, and one node two calls of 60,000 gas. A node that was restarted takes the open epoch up:
//! what it committed to, what it heard and said, and the nonces are on its disk. A beacon whose block the chain has forgotten is announced anew.

use std::sync::Arc;

use chain_bridge::chain::error::ChainError;
use storage::proto::audit::roll_subnet;
use tokio::sync::mpsc;
use types::{audit::Seat, id::Hash32};

use super::Auditing;

/// Blocks in which everybody commits before a beacon is announced; its own block comes 16 later.
const COMMIT_BLOCKS: u64 = 4;
/// Blocks that a place waits for the one before it.
const TURN_BLOCKS: u64 = 4;
/// Blocks after which the chain forgets a hash.
const HASH_BLOCKS: u64 = 256;
/// Places that take a turn at all: the others' would come when the hash is forgotten.
const TURNS_MAX: u64 = HASH_BLOCKS / TURN_BLOCKS / 2;
/// Blocks between two looks whether this node is on the coming roll.
const ENLIST_BLOCKS: u64 = 8;
/// The same after a transaction that failed.
const RETRY_BLOCKS: u64 = 128;
/// That this node was put on the roll: its operator is asked for one deposit.
const ENLISTED: &str = "audit-roll";

/// What follows from the chain.
#[derive(Debug)]
pub(super) enum Event {
    /// An epoch whose roll names this node has opened.
    Opened(u64),
    /// The same, and this node committed in it before it was restarted.
    Resumed(u64),
    /// Its auditors are drawn; `is_resumed` if this node was restarted since it committed.
    Drawn { epoch: u64, beacon: Hash32, roll: Vec<Seat>, is_resumed: bool },
}

/// What others ask of it.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// In words, for the operator.
    pub(super) words: String,
    /// The epoch.
    pub(super) epoch: u64,
    /// The block that was announced for it; 0 for none.
    pub(super) announced: u64,
}

#[derive(Debug, Default)]
struct Roll {
    /// Nothing before the first look.
    epoch: Option<u64>,
    /// The block at which this node saw it open.
    opened: u64,
    seats: Vec<Seat>,
    /// This node's place, while it waits for the beacon.
    place: Option<u64>,
    /// Whether this node had committed before it was started.
    is_resumed: bool,
    /// Whether there is nothing to do any more to be on the roll.
    is_enlisted: bool,
    /// The block from which on that is looked at again.
    enlist_from: u64,
    /// The block from which on a transaction is sent again.
    send_from: u64,
}

/// Follows the chain until it ends.
pub(super) async fn follow(auditing: Arc<Auditing>, events: mpsc::Sender<Event>) {
    let (mut snapshots, mut roll) = (auditing.keeping.snapshots.clone(), Roll::default());
    while snapshots.changed().await.is_ok() {
        let tip = snapshots.borrow_and_update().tip.number;
        if auditing.keeping.audit_roll
            && let Err(error) = roll.enlist(&auditing, tip).await
        {
            roll.enlist_from = tip + RETRY_BLOCKS;
            tracing::warn!(error = format!("{error:#}"), "this node is not on the chain's roll of auditors: no rent is paid to it");
        }
        match roll.step(&auditing, tip).await {
            Ok(None) => {}
            Ok(Some(event)) => drop(events.send(event).await),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the chain's roll of auditors cannot be followed: it is looked at again")
            }
        }
    }
}

impl Roll {
    /// Puts this node on the roll, once.
    async fn enlist(&mut self, auditing: &Auditing, tip: u64) -> anyhow::Result<()> {
        let (keeping, me) = (&auditing.keeping, auditing.keeping.me());
        let is_staked = keeping.state().operator(me).is_some_and(|operator| operator.active.0 > 0);
        if self.is_enlisted || tip < self.enlist_from || !is_staked {
            return Ok(());
        }
        self.enlist_from = tip + ENLIST_BLOCKS;
        let Some(storer) = keeping.storers().await?.get(&me).copied() else { return Ok(()) };
        let coming = keeping.chain.current_epoch().await? + 1;
        let is_listed = keeping.chain.audit_roll(coming).await?.iter().any(|seat| seat.node == me);
        let records = keeping.store.records();
        if !is_listed && records.get(ENLISTED, &me.0)?.is_some() {
            tracing::warn!(
                "this node was on the chain's roll of auditors and left it, or was struck off: the deposit is not paid a second time; start the node once with keeping.audit_roll = false, then again"
            );
        } else if !is_listed {
            tracing::info!(
                "keeping.audit_roll is set: 0.01 OPEN is left with the chain's roll of auditors, which gives it back to who resigns; from the next epoch on this node is audited for rent"
            );
            match keeping.chain.enlist(roll_subnet(&storer.site)).await {
                Err(error) if error.contract_error() != Some("AlreadyEnlisted") => return Err(error.into()),
                _ => records.put(ENLISTED, &me.0, &coming.to_be_bytes())?,
            }
        }
        self.is_enlisted = true;
        Ok(())
    }

    async fn step(&mut self, auditing: &Auditing, tip: u64) -> anyhow::Result<Option<Event>> {
        let (chain, me) = (&auditing.keeping.chain, auditing.keeping.me());
        let epoch = auditing.keeping.state().current_epoch().map_or(0, |(epoch, _)| epoch);
        if self.epoch != Some(epoch) {
            let seats = if epoch == 0 { Vec::new() } else { chain.audit_roll(epoch).await? };
            let (beacon, announced) = if epoch == 0 { (None, 0) } else { chain.audit_beacon(epoch).await? };
            let place = seats.iter().position(|seat| seat.node == me);
            let is_resumed = auditing.has_committed(epoch)?;
            (self.epoch, self.opened, self.seats, self.is_resumed) = (Some(epoch), tip, seats, is_resumed);
            let size = self.seats.len();
            let announced = if is_forgotten(announced, tip) && beacon.is_none() { 0 } else { announced };
            let is_late = announced != 0 && announced <= tip && !is_resumed;
            self.place = place.filter(|_| !is_late).map(u64::try_from).transpose()?;
            auditing.view(
                epoch,
                announced,
                match place {
                    _ if epoch == 0 => {
                        "no epoch of the chain has opened: audits are drawn among those that commit, and earn no rent".to_owned()
                    }
                    None => {
                        format!("not on the roll of the chain's epoch {epoch}: audits are drawn among those that commit, and earn no rent")
                    }
                    Some(_) if is_late => format!(
                        "on the roll of the chain's epoch {epoch}, which drew before this node had committed: no rent of it is earned"
                    ),
                    Some(place) => {
                        format!("place {place} of {size} on the roll of the chain's epoch {epoch}, whose auditors are to be drawn")
                    }
                },
            );
            return Ok(self.place.map(|_| if is_resumed { Event::Resumed(epoch) } else { Event::Opened(epoch) }));
        }
        let Some(place) = self.place else { return Ok(None) };
        let (beacon, announced) = chain.audit_beacon(epoch).await?;
        if let Some(beacon) = beacon {
            self.place = None;
            auditing.view(
                epoch,
                announced,
                format!("place {place} of {} on the roll of the chain's epoch {epoch}, whose auditors are drawn", self.seats.len()),
            );
            return Ok(Some(Event::Drawn { epoch, beacon, roll: self.seats.clone(), is_resumed: self.is_resumed }));
        }
        // A block that the chain has forgotten draws nothing: as if none had been announced.
        auditing.announced(epoch, if is_forgotten(announced, tip) { 0 } else { announced });
        let Some(due) = due(tip, self.opened, announced, turn(epoch, place, self.seats.len())) else { return Ok(None) };
        if tip < self.send_from || !auditing.keeping.audit_roll {
            return Ok(None);
        }
        self.send_from = tip + TURN_BLOCKS;
        let sent = match due {
            Due::Announce => chain.announce_beacon().await,
            Due::Store => chain.store_beacon(epoch).await,
        };
        match sent {
            Ok(_) => tracing::info!(epoch, ?due, "a beacon of audits is under way"),
            // Somebody else was faster, or this node's books are ahead of the chain it asks.
            Err(ChainError::Reverted { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }
}

/// What a beacon waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// That its block is named.
    Announce,
    /// That its block's hash is stored.
    Store,
}

/// Whether nobody stored the announced block's hash while the chain knew it: then another is announced.
const fn is_forgotten(announced: u64, tip: u64) -> bool {
    announced != 0 && tip > announced + HASH_BLOCKS
}

/// What is this node's to do at block `tip`, `turn` places having come before it; `announced` is 0 if no block was.
fn due(tip: u64, opened: u64, announced: u64, turn: u64) -> Option<Due> {
    let (due, since) = match announced {
        0 => (Due::Announce, opened + COMMIT_BLOCKS),
        _ if is_forgotten(announced, tip) => (Due::Announce, announced + HASH_BLOCKS + 1),
        _ => (Due::Store, announced + 1),
    };
    // A place whose turn comes too late takes part in announcing anew, when nobody else has stored.
    let turn = if is_forgotten(announced, tip) { turn % TURNS_MAX } else { turn };
    (turn < TURNS_MAX && tip >= since + turn * TURN_BLOCKS).then_some(due)
}

/// How many come before a place in an epoch.
fn turn(epoch: u64, place: u64, size: usize) -> u64 {
    let size = u64::try_from(size).unwrap_or(u64::MAX).max(1);
    (place % size + size - epoch % size) % size
}

/// Forgets that this node was put on the roll: its operator has said in between that it need not be.
pub(super) fn forget(auditing: &Auditing) -> anyhow::Result<()> {
    auditing.keeping.store.records().remove(ENLISTED, &auditing.keeping.me().0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_beacon_is_announced_then_stored_and_announced_anew_once_the_chain_has_forgotten_its_block() {
        let dues = |announced, turn| -> Vec<_> {
            [103, 104, 116, 117, 121, 372, 373, 376, 377].map(|tip| due(tip, 100, announced, turn)).to_vec()
        };
        let (announce, store) = (Some(Due::Announce), Some(Due::Store));
        assert_eq!(dues(0, 0)[..2], [None, announce]);
        assert_eq!(dues(116, 0), [None, None, None, store, store, store, announce, announce, announce]);
        assert_eq!(dues(116, 1), [None, None, None, None, store, store, None, None, announce], "each waits for who comes before");
        assert_eq!(
            dues(116, TURNS_MAX)[3..],
            [None, None, None, announce, announce, announce],
            "those whose turn never comes announce anew"
        );
        assert!(!is_forgotten(0, u64::MAX) && !is_forgotten(116, 372) && is_forgotten(116, 373));
    }

    #[test]
    fn places_take_turns_by_epoch() {
        for epoch in [0, 1, 7, u64::MAX] {
            let turns: BTreeSet<u64> = (0..5).map(|place| turn(epoch, place, 5)).collect();
            assert_eq!(turns, (0..5).collect());
        }
        assert_eq!([turn(0, 0, 5), turn(1, 1, 5), turn(7, 2, 5)], [0; 3]);
        assert_eq!(turn(3, 0, 0), 0, "nobody is on it");
    }
}
