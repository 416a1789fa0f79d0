//! What the board of checks says (`CheckBoard`, ARCHITECTURE P11): an epoch's beacon, who could be drawn by it, what checkers sealed and showed.
//!
//! Checkers are drawn by stake. Which stake must be the same for everybody who looks, and nobody may move it once the beacon can be known: so the operators
//! are noted as they stand when the beacon is announced, six L1 blocks or more before it exists. 40 bytes an operator and 130 a checker; with a thousand of each
//! 170 kB an epoch, of which [`BOARDS_MAX`] are kept: three epochs are open at once at most, and what came of a check is looked up for some days.

use std::{collections::BTreeMap, sync::Arc};

use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use super::{State, event::Event, state::Epoch};

/// Epochs whose boards are kept: ten days of epochs eight hours long. The oldest are forgotten first.
pub const BOARDS_MAX: usize = 32;

/// What a checker said of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The root that it sealed.
    pub sealed: Hash32,
    /// Checks under it.
    pub count: u64,
    /// The root that it showed; none yet.
    pub shown: Option<Hash32>,
}

/// An epoch's board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// The L1 block that the beacon was announced at.
    pub origin: u64,
    /// The beacon; none until it is stored.
    pub beacon: Option<Hash32>,
    /// Accounts with stake when it was announced, ascending: who can be drawn.
    pub operators: Arc<Vec<(Address, Amount)>>,
    /// What checkers said.
    pub checks: BTreeMap<Address, Said>,
}

/// The boards of the latest epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Boards(BTreeMap<u64, Board>);

impl Boards {
    /// Applies an event of the board. What concerns an epoch that was forgotten is passed over: anybody may announce one of long ago.
    pub(super) fn apply(&mut self, event: &Event, operators: impl FnOnce() -> Vec<(Address, Amount)>) {
        match event {
            Event::BeaconAnnounced { epoch, origin } => {
                let operators = Arc::new(operators());
                self.0.insert(*epoch, Board { origin: *origin, beacon: None, operators, checks: BTreeMap::new() });
                while self.0.len() > BOARDS_MAX {
                    self.0.pop_first();
                }
            }
            Event::BeaconStored { epoch, beacon } => {
                if let Some(board) = self.0.get_mut(epoch) {
                    board.beacon = Some(*beacon);
                }
            }
            Event::ChecksCommitted { epoch, checker, root, count } => {
                if let Some(board) = self.0.get_mut(epoch) {
                    board.checks.insert(*checker, Said { sealed: *root, count: *count, shown: None });
                }
            }
            Event::ChecksRevealed { epoch, checker, root } => {
                if let Some(said) = self.0.get_mut(epoch).and_then(|board| board.checks.get_mut(checker)) {
                    said.shown = Some(*root);
                }
            }
            _ => {}
        }
    }
}

impl State {
    /// An epoch's board; nothing if its beacon was not announced, or it is forgotten.
    pub fn board(&self, epoch: u64) -> Option<&Board> {
        self.boards.0.get(&epoch)
    }

    /// All boards that are kept, by epoch.
    pub fn boards(&self) -> impl DoubleEndedIterator<Item = (u64, &Board)> {
        self.boards.0.iter().map(|(epoch, board)| (*epoch, board))
    }
}

impl Epoch {
    /// Until when checks of this epoch are sealed, in seconds since 1970: from then on they are shown, until payouts may be posted.
    pub const fn sealed_until(&self) -> u64 {
        // The chain cuts a third of W1 to whole seconds, and takes it twice.
        self.opened_at.saturating_add(2 * self.accepts_until.saturating_sub(self.opened_at))
    }
}

#[cfg(test)]
mod tests {
    use types::{id::NodeId, time::BlockRef};

    use super::*;
    use crate::registry::Logged;

    fn at(block: u64, event: Event) -> Logged {
        Logged { block: BlockRef { number: block, hash: Hash32::ZERO }, log: 0, transaction: Hash32::ZERO, time: block, event }
    }

    fn node(account: u8, stake: u128) -> Event {
        let account = Address([account; 20]);
        Event::NodeRegistered { account, node: NodeId([1; 32]), incarnation: 1, payout: account, stake: Amount(stake) }
    }

    #[test]
    fn who_can_be_drawn_is_who_had_stake_when_the_beacon_was_announced() {
        let mut state = State::default();
        let events = [
            node(2, 5),
            node(1, 7),
            node(3, 0),
            Event::BeaconAnnounced { epoch: 4, origin: 9 },
            node(3, 100),
            Event::BeaconStored { epoch: 4, beacon: Hash32([6; 32]) },
            Event::ChecksCommitted { epoch: 4, checker: Address([1; 20]), root: Hash32([7; 32]), count: 3 },
            Event::ChecksRevealed { epoch: 4, checker: Address([1; 20]), root: Hash32([8; 32]) },
        ];
        for (block, event) in (1..).zip(events) {
            state.apply(&at(block, event)).unwrap();
        }
        let said = Said { sealed: Hash32([7; 32]), count: 3, shown: Some(Hash32([8; 32])) };
        let expected = Board {
            origin: 9,
            beacon: Some(Hash32([6; 32])),
            operators: Arc::new(vec![(Address([1; 20]), Amount(7)), (Address([2; 20]), Amount(5))]),
            checks: [(Address([1; 20]), said)].into(),
        };
        assert_eq!(state.board(4), Some(&expected));
    }

    #[test]
    fn boards_are_bounded_and_an_announcement_of_long_ago_costs_no_other() {
        let mut state = State::default();
        let kept = u64::try_from(BOARDS_MAX).unwrap();
        for epoch in 10..=10 + kept {
            state.apply(&at(epoch, Event::BeaconAnnounced { epoch, origin: 1 })).unwrap();
        }
        assert_eq!((state.boards().count(), state.board(10), state.board(11).is_some()), (BOARDS_MAX, None, true));
        state.apply(&at(99, Event::BeaconAnnounced { epoch: 1, origin: 1 })).unwrap();
        state.apply(&at(99, Event::BeaconStored { epoch: 1, beacon: Hash32([6; 32]) })).unwrap();
        assert_eq!((state.boards().count(), state.board(1), state.board(11).is_some()), (BOARDS_MAX, None, true));
    }
}
