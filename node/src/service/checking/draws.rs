//! Who was drawn for a receipt, by the books alone: what a node asks before it shows a transcript to somebody who says that it was.

use attribution::check::{Draw, DrawRule, draw};
use chain_bridge::registry::State;
use types::id::{Address, Hash32};

use super::stakes;
use crate::{
    chain::Snapshots,
    service::settlement::sealed::{Draws, NotDrawable},
};

/// Draws of one node's receipts, by the latest books.
#[derive(Debug)]
pub struct BoardDraws {
    /// The chain's books as they change.
    pub snapshots: Snapshots,
    /// The rule of the draw.
    pub rule: DrawRule,
    /// Who answered.
    pub node: Address,
}

impl Draws for BoardDraws {
    fn is_drawn(&self, epoch: u64, receipt: Hash32, account: Address) -> Result<bool, NotDrawable> {
        let state = std::sync::Arc::clone(&self.snapshots.borrow().latest);
        // Of stakes that no draw can be made by nobody is drawn; the chain holds none.
        let drawn = is_drawn(&state, self.rule, epoch, (self.node, receipt), account).ok().flatten();
        drawn.ok_or(NotDrawable::NoBeacon(epoch))
    }
}

/// Whether `account` is one of those who check `receipt`, which `node` answered and put under its root of `epoch`; nothing while the epoch has no beacon.
///
/// # Errors
/// Stakes that no draw can be made by.
pub fn is_drawn(
    state: &State,
    rule: DrawRule,
    epoch: u64,
    (node, receipt): (Address, Hash32),
    account: Address,
) -> anyhow::Result<Option<bool>> {
    let board = state.board(epoch);
    let Some(beacon) = board.and_then(|board| board.beacon) else { return Ok(None) };
    let drawn = draw(beacon, epoch, receipt, rule, &stakes(state, board)?, node);
    Ok(Some(matches!(drawn, Draw::Checkers(checkers) if checkers.contains(&account))))
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::{amount::Amount, id::NodeId, time::BlockRef};

    use super::*;

    #[test]
    fn who_is_drawn_is_known_once_the_beacon_is_stored_and_is_never_the_answering_node() {
        let account = |byte: u8| Address([byte; 20]);
        let mut events: Vec<Event> = (1..=4)
            .map(|byte| Event::NodeRegistered {
                account: account(byte),
                node: NodeId([byte; 32]),
                incarnation: 1,
                payout: account(byte),
                stake: Amount(100),
            })
            .collect();
        events.push(Event::BeaconAnnounced { epoch: 7, origin: 1 });
        let mut state = State::default();
        let apply = |state: &mut State, number: u64, event: Event| {
            let block = BlockRef { number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: number, event }).unwrap();
        };
        for (number, event) in (1..).zip(events) {
            apply(&mut state, number, event);
        }
        let rule = DrawRule { rate: u32::MAX, checkers: 1, eligible_min: 1 };
        let of = (account(1), Hash32([9; 32]));
        let asked = |state: &State, who| is_drawn(state, rule, 7, of, who).unwrap();
        assert_eq!(asked(&state, account(2)), None);
        apply(&mut state, 99, Event::BeaconStored { epoch: 7, beacon: Hash32([5; 32]) });
        let drawn: Vec<u8> = (1..=5).filter(|byte| asked(&state, account(*byte)) == Some(true)).collect();
        assert!(drawn.len() == 1 && (2..=4).contains(&drawn[0]), "{drawn:?}");
    }
}
