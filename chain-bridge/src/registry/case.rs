//! Slash cases that are open, and who was convicted last in which block. About 250 bytes a case while it is open; a conviction stays, 28 bytes a node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::id::{Address, BlobId, Hash32};

use super::{
    State,
    event::{Event, Logged},
};
use crate::case::Asked;

/// A case that nobody answered or closed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCase {
    /// The contract's name for it.
    pub id: Hash32,
    /// What is asked for, and of whom.
    pub asked: Asked,
    /// Who asks, and is the reporter if nobody answers.
    pub opener: Address,
    /// The fragment's object.
    pub object: BlobId,
    /// Which fragment of it.
    pub fragment: u8,
    /// Its fragments.
    pub fragments: u8,
    /// Block in which the node signed for it.
    pub signed_at: u64,
    /// From when it may be closed, in seconds since 1970 by the sequencer; an answer counts until it is.
    pub deadline: u64,
    /// Block and log index of its opening.
    pub opened: (u64, u32),
}

/// How a case may be closed, as `AuditCase.close` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Not yet: its node may answer until the deadline.
    NotYet,
    /// Its deadline has passed: the node is slashed.
    Convicts,
    /// At any time, and it takes nothing: its contribution was erased, or its node was convicted since it signed.
    TakesNothing,
}

impl Closing {
    /// Whether the chain lets it be closed.
    pub const fn is_allowed(self) -> bool {
        !matches!(self, Self::NotYet)
    }
}

/// The books of cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cases {
    open: BTreeMap<Hash32, OpenCase>,
    convicted: BTreeMap<Address, u64>,
}

impl Cases {
    /// Applies an event of cases; nothing if it ends a case that was never opened.
    pub(super) fn apply(&mut self, logged: &Logged) -> Option<()> {
        let block = logged.block.number;
        match logged.event {
            Event::CaseOpened { id, opener, asked, object, fragment, fragments, signed_at, deadline } => {
                let opened = (block, logged.log);
                self.open.insert(id, OpenCase { id, asked, opener, object, fragment, fragments, signed_at, deadline, opened });
            }
            Event::CaseAnswered { id, .. } => {
                self.open.remove(&id)?;
            }
            Event::CaseClosed { id, node, is_convicted } => {
                self.open.remove(&id)?;
                if is_convicted {
                    self.convicted.insert(node, block);
                }
            }
            _ => {}
        }
        Some(())
    }
}

impl State {
    /// Open slash cases.
    pub fn cases(&self) -> impl Iterator<Item = &OpenCase> {
        self.cases.open.values()
    }

    /// An open slash case.
    pub fn case(&self, id: Hash32) -> Option<&OpenCase> {
        self.cases.open.get(&id)
    }

    /// Open slash cases against a node.
    pub fn cases_of(&self, node: Address) -> impl Iterator<Item = &OpenCase> {
        self.cases().filter(move |case| case.asked.node == node)
    }

    /// How a case may be closed at a time, in seconds since 1970 by the sequencer.
    pub fn closing(&self, case: &OpenCase, time: u64) -> Closing {
        let Asked { node, datanet, contribution, .. } = case.asked;
        let is_convicted = self.convicted_at(node).is_some_and(|convicted| convicted >= case.signed_at);
        if is_convicted || self.erasure(datanet, u64::from(contribution)).is_some() {
            return Closing::TakesNothing;
        }
        if time < case.deadline { Closing::NotYet } else { Closing::Convicts }
    }

    /// The block in which a node was last convicted: what it signed up to there convicts it no more.
    pub fn convicted_at(&self, node: Address) -> Option<u64> {
        self.cases.convicted.get(&node).copied()
    }
}

#[cfg(test)]
mod tests {
    use types::{id::AssetId, time::BlockRef};

    use super::*;
    use crate::registry::ViewError;

    fn at(block: u64, event: Event) -> Logged {
        Logged { block: BlockRef { number: block, hash: Hash32::ZERO }, log: 3, transaction: Hash32::ZERO, time: block, event }
    }

    fn opened(node: u8, part: u32) -> (Hash32, Event) {
        let node = Address([node; 20]);
        let asked = Asked { node, datanet: AssetId(1), contribution: 2, root: Hash32([5; 32]), bytes: 9_000, part };
        let (opener, object) = (Address([9; 20]), BlobId([4; 32]));
        let event = Event::CaseOpened { id: asked.id(), opener, asked, object, fragment: 1, fragments: 5, signed_at: 7, deadline: 99 };
        (asked.id(), event)
    }

    #[test]
    fn a_case_is_open_until_it_is_answered_or_closed_and_a_conviction_stays() {
        let mut state = State::default();
        let node = Address([1; 20]);
        let [(first, one), (second, two), (third, three)] = [opened(1, 0), opened(1, 1), opened(2, 0)];
        for event in [one.clone(), two, three] {
            state.apply(&at(10, event)).unwrap();
        }
        assert_eq!((state.cases().count(), state.cases_of(node).count()), (3, 2));
        let case = state.case(first).unwrap();
        assert_eq!((case.asked.id(), case.opened, case.signed_at, case.deadline), (first, (10, 3), 7, 99));
        state.apply(&at(11, Event::CaseAnswered { id: first, by: node })).unwrap();
        state.apply(&at(12, Event::CaseClosed { id: third, node: Address([2; 20]), is_convicted: false })).unwrap();
        assert_eq!((state.cases().count(), state.convicted_at(node), state.convicted_at(Address([2; 20]))), (1, None, None));
        state.apply(&at(13, Event::CaseClosed { id: second, node, is_convicted: true })).unwrap();
        assert_eq!((state.cases().count(), state.convicted_at(node)), (0, Some(13)));
        // Asked again.
        state.apply(&at(14, one)).unwrap();
        assert_eq!(state.cases_of(node).count(), 1);
    }

    #[test]
    fn a_case_is_closed_from_its_deadline_on_or_at_any_time_if_it_takes_nothing() {
        let mut state = State::default();
        let (node, (first, one), (second, two)) = (Address([1; 20]), opened(1, 0), opened(1, 1));
        state.apply(&at(10, one)).unwrap();
        state.apply(&at(10, two)).unwrap();
        let closing = |state: &State, id, time| state.closing(state.case(id).unwrap(), time);
        assert_eq!([98, 99, 100].map(|time| closing(&state, second, time)), [Closing::NotYet, Closing::Convicts, Closing::Convicts]);
        assert!(!closing(&state, second, 98).is_allowed() && closing(&state, second, 99).is_allowed());
        // Both were signed for in block 7, and the node falls for the first in block 12.
        state.apply(&at(12, Event::CaseClosed { id: first, node, is_convicted: true })).unwrap();
        assert_eq!([0, 98, 100].map(|time| closing(&state, second, time)), [Closing::TakesNothing; 3]);
        assert!(closing(&state, second, 0).is_allowed());
        let later = OpenCase { signed_at: 13, ..*state.case(second).unwrap() };
        assert_eq!(state.closing(&later, 98), Closing::NotYet, "it signed again since");
        let then = OpenCase { signed_at: 12, ..later };
        assert_eq!(state.closing(&then, 98), Closing::TakesNothing, "in the block of the conviction");
    }

    #[test]
    fn the_end_of_a_case_that_nobody_opened_is_refused() {
        let mut state = State::default();
        for event in [
            Event::CaseAnswered { id: Hash32::ZERO, by: Address::ZERO },
            Event::CaseClosed { id: Hash32::ZERO, node: Address::ZERO, is_convicted: true },
        ] {
            assert!(matches!(state.apply(&at(1, event)), Err(ViewError::Unknown { block: 1, log: 3, .. })));
        }
        assert_eq!(state, State::default());
    }
}
