//! Taking an answer up again where its connection broke: the same attempt, the same vouchers, one receipt; no token is sent or paid twice.
//!
//! A [`Resume`] names the attempt and how many tokens of it the client has. It is signed by who signed the attempt's lane, as a
//! [`Recall`](super::recall::Recall) is: a stranger learns as much as of an attempt that never was. The newest stream has the answer: a client
//! may notice a break before its node does, so an answer still tied to another stream goes over too, and that stream is reset.
//!
//! What a node keeps meanwhile is decided by [`Shelf`]: answers with a voucher alone, whose connection fell silent or failed (a reset or a close is a
//! farewell), each for [`Bounds::wait`], so many in all and so many of one payer. No voucher comes for an answer that nobody holds, so the engine goes no
//! further than it might already: `payment::VOUCHER_TOKENS` behind the last voucher and `payment::AHEAD_TOKENS` more.
//!
//! Going and coming wins no time: between two vouchers an answer is kept for [`Bounds::wait`] and taken up [`RETURNS_MAX`] times in all ([`Returns`]), and
//! the times in which a voucher is due and in which what was said is to be read run on where they stood. So who pays no more is left after 10 s of
//! waiting, 10 s of slow reading, 30 s of absence and eight times what one may take to read what is sent again.
//!
//! Size: 58 bytes and a signature there. One answer kept takes 4 bytes a token and, of the at most 64 tokens that are not vouched for, what is told
//! with them (21 of 8 bytes each): 16 KB and 11 KB at most, 430 KB for [`KEPT_MAX`]; beside that its place in the engine, whose pages give way to
//! others. Of those whose time ran out the ids are remembered, 34 bytes each.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use types::{
    encoding::{Contract, DecodeError, Document, Reader, Writer},
    id::{Address, Hash32},
    time::Time,
};

/// Most answers kept at once.
pub const KEPT_MAX: usize = 16;
/// Most of one payer.
pub const KEPT_OF_PAYER_MAX: usize = 4;
/// How long one is kept: a client notices a break within a second, and a line is often back within half a minute.
pub const KEPT_WAIT: Duration = Duration::from_secs(30);
/// Times an answer is taken up between two vouchers: each has up to `payment::VOUCHER_TOKENS` tokens sent again.
pub const RETURNS_MAX: u32 = 8;
/// Answers remembered whose time ran out; beyond, the oldest is forgotten and counts as ended.
pub const EXPIRED_MAX: usize = 1_024;

/// Takes an attempt up again. No contract reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Who is asked.
    pub node: Address,
    /// The request.
    pub request: Hash32,
    /// The attempt's number in it.
    pub attempt: u16,
    /// Tokens of this attempt that the client has: the number of the first one it wants.
    pub index: u32,
}

impl Document for Resume {
    const NAME: &'static str = "Resume";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.node).hash(self.request).u16(self.attempt).u32(self.index).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let resume = Self { node: r.address("node")?, request: r.hash("request")?, attempt: r.u16("attempt")?, index: r.u32("index")? };
        r.finish().map(|()| resume)
    }
}

/// An answer: request and attempt.
pub type Id = (Hash32, u16);

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Answers in all; each keeps its place in the engine, so a node takes less than it answers at once.
    pub most: usize,
    /// Answers of one payer.
    pub of_payer: usize,
    /// How long each.
    pub wait: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { most: KEPT_MAX, of_payer: KEPT_OF_PAYER_MAX, wait: KEPT_WAIT }
    }
}

impl Bounds {
    /// For a node that gives `answers` at once: half of them may be kept for clients that are gone, [`KEPT_MAX`] at most.
    #[must_use]
    pub fn of(answers: usize) -> Self {
        Self { most: (answers / 2).min(KEPT_MAX), ..Self::default() }
    }
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// Too many are.
    #[error("{0} answers are kept for clients that are gone, no more fit")]
    Full(usize),
    /// Too many of this payer are.
    #[error("{0} answers are kept for this payer, no more fit")]
    OfPayer(usize),
    /// The node stops.
    #[error("the node stops")]
    Stopping,
}

/// Why an answer is not given to another stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Nothing of it is paid.
    #[error("nothing of this answer is paid: it is not taken up, and ends when its first voucher is overdue")]
    Unpaid,
    /// It goes from stream to stream instead of being paid.
    #[error("this answer was taken up {RETURNS_MAX} times since its last voucher: it is not taken up again before the next one")]
    TooOften,
}

/// How often a client has come back since it last paid, and how long it was gone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Returns {
    vouched: usize,
    count: u32,
    gone: Duration,
}

impl Returns {
    /// So many tokens are vouched for now: a voucher makes good what went before it.
    pub fn paid(&mut self, vouched: usize) {
        if vouched > self.vouched {
            *self = Self { vouched, ..Self::default() };
        }
    }

    /// Whether the answer may be taken up now.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub const fn check(&self) -> Result<(), NotTaken> {
        match (self.vouched, self.count) {
            (0, _) => Err(NotTaken::Unpaid),
            (_, RETURNS_MAX..) => Err(NotTaken::TooOften),
            _ => Ok(()),
        }
    }

    /// It was taken up.
    pub const fn returned(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// It was kept for so long.
    pub const fn was_gone(&mut self, time: Duration) {
        self.gone = self.gone.saturating_add(time);
    }

    /// For how long of `wait` it is kept still.
    #[must_use]
    pub const fn left(&self, wait: Duration) -> Duration {
        wait.saturating_sub(self.gone)
    }
}

/// Answers kept for clients whose connection broke.
#[derive(Debug)]
pub struct Shelf {
    bounds: Bounds,
    kept: BTreeMap<Id, Address>,
    expired: VecDeque<Id>,
    is_closed: bool,
}

impl Shelf {
    /// An empty one.
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, kept: BTreeMap::new(), expired: VecDeque::new(), is_closed: false }
    }

    /// Keeps an answer from `now` on: until when.
    ///
    /// # Errors
    /// [`NotKept`]: it ends as if its client had left.
    pub fn keep(&mut self, id: Id, payer: Address, now: Time) -> Result<Time, NotKept> {
        if self.is_closed {
            return Err(NotKept::Stopping);
        }
        let others = || self.kept.iter().filter(|(other, _)| **other != id);
        if others().count() >= self.bounds.most {
            return Err(NotKept::Full(self.bounds.most));
        }
        if others().filter(|(_, of)| **of == payer).count() >= self.bounds.of_payer {
            return Err(NotKept::OfPayer(self.bounds.of_payer));
        }
        self.kept.insert(id, payer);
        Ok(now.after(self.bounds.wait))
    }

    /// It is kept no longer: it goes on, or ends.
    pub fn take(&mut self, id: Id) {
        self.kept.remove(&id);
    }

    /// Its time ran out.
    pub fn expire(&mut self, id: Id) {
        if self.kept.remove(&id).is_some() {
            if self.expired.len() >= EXPIRED_MAX {
                self.expired.pop_front();
            }
            self.expired.push_back(id);
        }
    }

    /// Whether it is kept now.
    #[must_use]
    pub fn is_kept(&self, id: Id) -> bool {
        self.kept.contains_key(&id)
    }

    /// Whether its time ran out, as far as that is remembered.
    #[must_use]
    pub fn is_expired(&self, id: Id) -> bool {
        self.expired.contains(&id)
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Nothing is kept from here on.
    pub const fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing is kept any longer.
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_has_the_bytes_that_the_protocol_names() {
        let resume = Resume { node: Address([0xaa; 20]), request: Hash32([0xbb; 32]), attempt: 0x0102, index: 0x0304_0506 };
        let body = resume.encode();
        assert_eq!(hex::encode(&body), format!("{}{}010203040506", "aa".repeat(20), "bb".repeat(32)));
        assert_eq!(Resume::decode(&body), Ok(resume));
        assert!(Resume::decode(&body[1..]).is_err());
        assert!(Resume::decode(&[&body[..], &[0]].concat()).is_err());
    }

    #[test]
    fn going_and_coming_is_bounded_between_two_vouchers_in_number_and_in_time() {
        let (mut returns, wait) = (Returns::default(), Duration::from_secs(30));
        assert_eq!(returns.check(), Err(NotTaken::Unpaid));
        for vouched in [1, 65] {
            returns.paid(vouched);
            for _ in 0..RETURNS_MAX {
                assert_eq!(returns.check(), Ok(()));
                returns.was_gone(Duration::from_secs(3));
                returns.returned();
                // The voucher that it had is none that is new.
                returns.paid(vouched);
            }
            assert_eq!((returns.check(), returns.left(wait)), (Err(NotTaken::TooOften), Duration::from_secs(6)));
        }
        returns.was_gone(Duration::MAX);
        assert_eq!(returns.left(wait), Duration::ZERO);
    }

    fn id(number: u16) -> Id {
        (Hash32([7; 32]), number)
    }

    #[test]
    fn an_answer_whose_time_ran_out_is_told_from_one_that_ended_as_long_as_it_is_remembered() {
        let mut shelf = Shelf::new(Bounds { most: 1, of_payer: 1, wait: Duration::from_secs(30) });
        assert_eq!(shelf.keep(id(0), Address([1; 20]), Time(5)), Ok(Time(30_000_005)));
        shelf.expire(id(0));
        shelf.keep(id(1), Address([1; 20]), Time(6)).unwrap();
        shelf.take(id(1));
        shelf.expire(id(1));
        assert_eq!((shelf.is_expired(id(0)), shelf.is_expired(id(1)), shelf.len()), (true, false, 0));
        for number in 2..u16::try_from(EXPIRED_MAX).unwrap() + 2 {
            shelf.keep(id(number), Address([1; 20]), Time(7)).unwrap();
            shelf.expire(id(number));
        }
        assert!(!shelf.is_expired(id(0)) && shelf.is_expired(id(2)));
        assert_eq!(shelf.expired.len(), EXPIRED_MAX);
    }

    #[test]
    fn a_node_that_stops_or_answers_one_at_a_time_keeps_nothing_for_who_is_gone() {
        let mut shelf = Shelf::new(Bounds::default());
        shelf.close();
        assert_eq!(shelf.keep(id(0), Address([1; 20]), Time(0)), Err(NotKept::Stopping));
        assert_eq!((Bounds::of(1).most, Bounds::of(4).most, Bounds::of(64).most), (0, 2, KEPT_MAX));
        assert_eq!(Shelf::new(Bounds::of(1)).keep(id(0), Address([1; 20]), Time(0)), Err(NotKept::Full(0)));
    }

    proptest! {
        #[test]
        fn no_order_of_breaks_and_returns_keeps_more_than_its_bounds(
            steps in prop::collection::vec((0_u8..3, 0_u16..12, 0_u8..3), 0..200),
            most in 0_usize..6,
            of_payer in 1_usize..4,
        ) {
            let mut shelf = Shelf::new(Bounds { most, of_payer, wait: Duration::from_secs(1) });
            for (step, number, payer) in steps {
                // An answer has one payer.
                let payer = Address([(payer + u8::try_from(number).unwrap()) % 3; 20]);
                let was_kept = shelf.is_kept(id(number));
                match step {
                    0 if !was_kept => {
                        let of_this = shelf.kept.values().filter(|of| **of == payer).count();
                        let has_room = shelf.len() < most && of_this < of_payer;
                        prop_assert_eq!(shelf.keep(id(number), payer, Time(0)).is_ok(), has_room);
                    }
                    1 => shelf.take(id(number)),
                    _ => shelf.expire(id(number)),
                }
                prop_assert!(shelf.len() <= most && shelf.expired.len() <= EXPIRED_MAX);
                for payer in 0..3 {
                    prop_assert!(shelf.kept.values().filter(|of| **of == Address([payer; 20])).count() <= of_payer);
                }
            }
        }
    }
}
