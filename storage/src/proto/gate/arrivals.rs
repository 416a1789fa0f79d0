//! Shards on their way to a gate: who may send, how fast it must, who goes when there is no room.
//!
//! Looking at a contribution takes a slot of which a gate has few, so a slot is taken only when a shard is whole: until then it waits here, and whoever sends
//! slowly holds up nobody. A contributor has [`CONTRIBUTOR_PLACES`]; what it begins beyond that takes the place of what it began first and is not whole, so whoever
//! begins anew need not wait for streams of before. What is whole is sent away by nobody: it was paid for with its way here. By the time `t` after its beginning a
//! shard must have `(t - `[`GRACE`]`) * `[`BYTES_PER_S_MIN`] bytes, so one of 16 MiB is here, or turned away, after 4.5 minutes, one of 64 MiB after 17. There are
//! [`PLACES_MAX`] places and room for [`BYTES_MAX`]; a newcomer that finds none takes the place of the slowest that has been here for longer than [`GRACE`] and is
//! not whole, a contributor's second shard before anybody's only one; who has a place already gets none of anybody's only one. So to keep an honest contributor out, whoever would has
//! to send faster than it, through as many accounts as there are places, each with a commitment.
//!
//! Pure: the clock is the caller's, `now` counts from anywhere.

use std::{collections::BTreeMap, time::Duration};

use types::id::Address;

use crate::erasure::OBJECT_BYTES_MAX;

/// Shards under way or waiting for their turn.
pub const PLACES_MAX: usize = 32;
/// Of one contributor's: one is whole and waits for its turn while the next one comes. With one place the second would send the first away; a third would only wait,
/// since a contributor shows no shard before all but the one ahead of it are accepted.
pub const CONTRIBUTOR_PLACES: usize = 2;
/// Bytes announced of all of them: on the disk of the gate, not in its memory.
pub const BYTES_MAX: u64 = 1 << 30;
/// A shard may be so slow: a line of half a megabit.
pub const BYTES_PER_S_MIN: u64 = 64 << 10;
/// A shard may begin so late, and pause so long.
pub const GRACE: Duration = Duration::from_secs(15);

const _: () = assert!(BYTES_MAX >= OBJECT_BYTES_MAX as u64 * 2, "two shards of the largest size have room beside each other");

/// Names a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug, Clone, Copy)]
struct Arrival {
    contributor: Address,
    announced: u64,
    got: u64,
    since: Duration,
}

/// What is on its way.
#[derive(Debug, Default)]
pub struct Arrivals {
    places: BTreeMap<Ticket, Arrival>,
    next: u64,
}

/// Why a shard is not taken, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArrivalError {
    /// Everything waits for its turn, or has just begun.
    #[error("{waiting} contributions are on their way to this gate, and none of them can be asked to leave: try again in a minute")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// What this contributor sent waits for its turn.
    #[error("{CONTRIBUTOR_PLACES} whole shards of this contributor wait for their turn at this gate: try again in a minute")]
    Waiting,
    /// Slower than [`BYTES_PER_S_MIN`].
    #[error("the shard arrives too slowly: {got} of {announced} bytes in {} s, at least {} kB a second are asked for: try again", after.as_secs(), BYTES_PER_S_MIN >> 10)]
    Slow {
        /// Bytes that came.
        got: u64,
        /// Bytes announced.
        announced: u64,
        /// Since its beginning.
        after: Duration,
    },
    /// Another one took its place.
    #[error("others waited, and this shard was the slowest, or its contributor has begun anew: try again in a minute")]
    SentAway,
    /// More bytes than announced.
    #[error("{got} bytes of shard came, {announced} were announced")]
    TooLong {
        /// Bytes that came.
        got: u64,
        /// Bytes announced.
        announced: u64,
    },
}

impl Arrival {
    const fn is_whole(&self) -> bool {
        self.got == self.announced
    }

    /// When it is too slow unless more has come.
    fn due(&self) -> Duration {
        self.since.saturating_add(GRACE).saturating_add(Duration::from_millis(self.got.saturating_mul(1_000) / BYTES_PER_S_MIN))
    }

    /// Bytes a second on the mean.
    fn rate(&self, now: Duration) -> u64 {
        let millis = now.saturating_sub(self.since).as_millis().max(1);
        u64::try_from(u128::from(self.got) * 1_000 / millis).unwrap_or(u64::MAX)
    }
}

impl Arrivals {
    /// A place for a shard of `bytes`; who has to leave for it.
    ///
    /// # Errors
    /// [`ArrivalError::Full`] or [`ArrivalError::Waiting`]; nobody leaves then.
    pub fn enter(&mut self, now: Duration, contributor: Address, bytes: u64) -> Result<(Ticket, Vec<Ticket>), ArrivalError> {
        let mut leaving = Vec::new();
        if self.count(contributor, &leaving) >= CONTRIBUTOR_PLACES {
            leaving.push(self.begun_first(contributor, &leaving).ok_or(ArrivalError::Waiting)?);
        }
        while !self.has_room(bytes, &leaving) {
            let leaver = self.slowest(now, contributor, &leaving).or_else(|| self.begun_first(contributor, &leaving));
            leaving.push(leaver.ok_or(ArrivalError::Full { waiting: self.places.len() })?);
        }
        leaving.iter().for_each(|ticket| self.leave(*ticket));
        let ticket = Ticket(self.next);
        self.next += 1;
        self.places.insert(ticket, Arrival { contributor, announced: bytes, got: 0, since: now });
        Ok((ticket, leaving))
    }

    fn staying<'a>(&'a self, leaving: &'a [Ticket]) -> impl Iterator<Item = (Ticket, &'a Arrival)> {
        self.places.iter().filter(|(ticket, _)| !leaving.contains(ticket)).map(|(ticket, held)| (*ticket, held))
    }

    fn count(&self, contributor: Address, leaving: &[Ticket]) -> usize {
        self.staying(leaving).filter(|(_, held)| held.contributor == contributor).count()
    }

    /// Of a contributor's own that is not whole, what it began first.
    fn begun_first(&self, contributor: Address, leaving: &[Ticket]) -> Option<Ticket> {
        self.staying(leaving).find(|(_, held)| held.contributor == contributor && !held.is_whole()).map(|(ticket, _)| ticket)
    }

    /// Of what others send, who leaves for a shard of `contributor`: second shards first, then, if it has no place yet, anybody's only one; the slowest of them.
    fn slowest(&self, now: Duration, contributor: Address, leaving: &[Ticket]) -> Option<Ticket> {
        let is_newcomer = self.count(contributor, leaving) == 0;
        let may_leave = |held: &Arrival| held.contributor != contributor && !held.is_whole() && now.saturating_sub(held.since) > GRACE;
        let ranked = self.staying(leaving).filter(|(_, held)| may_leave(held)).map(|(ticket, held)| {
            let is_only = self.count(held.contributor, leaving) == 1;
            (is_only, held.rate(now), ticket)
        });
        ranked.filter(|(is_only, ..)| is_newcomer || !is_only).min().map(|(.., ticket)| ticket)
    }

    fn has_room(&self, bytes: u64, leaving: &[Ticket]) -> bool {
        let (count, sum) =
            self.staying(leaving).fold((0, bytes), |(count, sum), (_, held)| (count + 1, sum.saturating_add(held.announced)));
        count < PLACES_MAX && sum <= BYTES_MAX
    }

    /// When a shard is too slow unless more of it has come.
    ///
    /// # Errors
    /// That it had to leave.
    pub fn due(&self, ticket: Ticket) -> Result<Duration, ArrivalError> {
        self.places.get(&ticket).map(Arrival::due).ok_or(ArrivalError::SentAway)
    }

    /// So many bytes more have come; whether the shard is whole.
    ///
    /// # Errors
    /// [`ArrivalError`]; its place is free then.
    pub fn came(&mut self, now: Duration, ticket: Ticket, bytes: u64) -> Result<bool, ArrivalError> {
        let held = self.places.get_mut(&ticket).ok_or(ArrivalError::SentAway)?;
        let is_late = now > held.due();
        held.got = held.got.saturating_add(bytes);
        let Arrival { got, announced, since, .. } = *held;
        let outcome = match () {
            () if got > announced => Err(ArrivalError::TooLong { got, announced }),
            () if is_late => Err(ArrivalError::Slow { got, announced, after: now.saturating_sub(since) }),
            () => Ok(got == announced),
        };
        if outcome.is_err() {
            self.leave(ticket);
        }
        outcome
    }

    /// Frees a place.
    pub fn leave(&mut self, ticket: Ticket) {
        self.places.remove(&ticket);
    }

    /// Shards that were ever let in: a new number after each.
    pub const fn begun(&self) -> u64 {
        self.next
    }

    /// Shards here, and bytes announced of them.
    pub fn held(&self) -> (usize, u64) {
        (self.places.len(), self.places.values().fold(0, |sum: u64, held| sum.saturating_add(held.announced)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn contributor(number: usize) -> Address {
        Address([u8::try_from(number).unwrap(); 20])
    }

    #[test]
    fn a_shard_that_comes_slower_than_it_must_is_turned_away_and_its_place_is_free() {
        let mut arrivals = Arrivals::default();
        let (slow, _) = arrivals.enter(at(100), contributor(1), 1 << 20).unwrap();
        assert_eq!(arrivals.due(slow), Ok(at(115)));
        assert_eq!(arrivals.came(at(114), slow, BYTES_PER_S_MIN), Ok(false));
        assert_eq!(arrivals.due(slow), Ok(at(116)), "a second more for a second's bytes");
        let late = ArrivalError::Slow { got: BYTES_PER_S_MIN, announced: 1 << 20, after: at(17) };
        assert_eq!(arrivals.came(at(117), slow, 0), Err(late));
        assert!(late.to_string().contains("65536 of 1048576 bytes in 17 s, at least 64 kB"), "{late}");
        assert_eq!((arrivals.held(), arrivals.came(at(117), slow, 1)), ((0, 0), Err(ArrivalError::SentAway)));
        let (long, _) = arrivals.enter(at(0), contributor(1), 5).unwrap();
        assert_eq!(arrivals.came(at(1), long, 6), Err(ArrivalError::TooLong { got: 6, announced: 5 }));
    }

    #[test]
    fn a_contributor_has_two_places_and_what_it_begins_beyond_takes_that_of_its_first_that_is_not_whole() {
        let mut arrivals = Arrivals::default();
        let (first, _) = arrivals.enter(at(0), contributor(1), 10).unwrap();
        let (second, leaving) = arrivals.enter(at(1), contributor(1), 10).unwrap();
        assert_eq!((leaving, arrivals.held()), (vec![], (2, 20)), "one waits while the next one comes");
        assert_eq!(arrivals.came(at(2), first, 10), Ok(true));
        let (third, leaving) = arrivals.enter(at(3), contributor(1), 10).unwrap();
        assert_eq!((leaving, arrivals.held()), (vec![second], (2, 20)), "the first is whole");
        assert_eq!(arrivals.came(at(4), third, 10), Ok(true));
        assert_eq!(arrivals.enter(at(100), contributor(1), 10), Err(ArrivalError::Waiting));
        assert_eq!((arrivals.due(first).is_ok(), arrivals.due(third).is_ok(), arrivals.held()), (true, true, (2, 20)));
        arrivals.leave(first);
        let (anew, _) = arrivals.enter(at(100), contributor(1), 10).unwrap();
        assert!(arrivals.due(anew).is_ok(), "its turn has come, and the next one may");
    }

    #[test]
    fn when_there_is_no_room_second_shards_leave_before_anybodys_only_one() {
        let mut arrivals = Arrivals::default();
        let mut tickets = Vec::new();
        for number in 0..PLACES_MAX - 1 {
            let (ticket, _) = arrivals.enter(at(0), contributor(number), 1 << 20).unwrap();
            arrivals.came(at(10), ticket, 1_000).unwrap();
            tickets.push(ticket);
        }
        let (second, leaving) = arrivals.enter(at(0), contributor(7), 1 << 20).unwrap();
        assert!(leaving.is_empty());
        arrivals.came(at(10), second, 500_000).unwrap();
        let full = Err(ArrivalError::Full { waiting: PLACES_MAX });
        assert_eq!(arrivals.enter(at(10), contributor(200), 1), full, "all have just begun");
        let (newcomer, leaving) = arrivals.enter(at(16), contributor(200), 1 << 20).unwrap();
        assert_eq!(leaving, [tickets[7]], "the slower of the two, however fast the other is");
        let (_, leaving) = arrivals.enter(at(16), contributor(200), 1 << 20).unwrap();
        assert_eq!(leaving, [newcomer], "who has a place gets nobody's only one, but may begin anew");
        let (other, leaving) = arrivals.enter(at(16), contributor(201), 1 << 20).unwrap();
        assert_eq!((leaving, arrivals.held().0), (vec![tickets[0]], PLACES_MAX), "a newcomer does");
        arrivals.came(at(17), other, 1 << 20).unwrap();
        assert_eq!(arrivals.enter(at(17), contributor(201), 1), full, "its own is whole");
    }

    #[test]
    fn when_there_is_no_room_the_slowest_leaves_and_nobody_who_is_whole_or_has_just_begun() {
        let mut arrivals = Arrivals::default();
        let tickets: Vec<Ticket> = (0..PLACES_MAX).map(|number| arrivals.enter(at(0), contributor(number), 1 << 20).unwrap().0).collect();
        assert_eq!(arrivals.enter(at(10), contributor(200), 1), Err(ArrivalError::Full { waiting: PLACES_MAX }));
        for (number, ticket) in tickets.iter().enumerate() {
            let bytes = if number == 3 { 1 } else { u64::try_from(number).unwrap() * 1_000 + 2_000 };
            arrivals.came(at(10), *ticket, bytes).unwrap();
        }
        arrivals.came(at(11), tickets[3], (1 << 20) - 1).unwrap();
        let (_, leaving) = arrivals.enter(at(16), contributor(200), 1).unwrap();
        assert_eq!(leaving, [tickets[0]], "the third is whole, the first is the slowest");
        assert_eq!(arrivals.due(tickets[0]), Err(ArrivalError::SentAway));
        let (_, leaving) = arrivals.enter(at(16), contributor(201), BYTES_MAX - (29 << 20)).unwrap();
        assert_eq!(leaving.len(), 3, "as many as its bytes ask for");
    }

    proptest! {
        #[test]
        fn places_and_bytes_stay_within_their_bounds_and_a_steady_sender_is_never_too_slow(
            steps in proptest::collection::vec((0_u8..60, 1_u64..OBJECT_BYTES_MAX as u64, 0_u64..4), 1..200),
        ) {
            let (mut arrivals, mut now) = (Arrivals::default(), at(0));
            let mut whole = Vec::new();
            for (who, bytes, wait) in steps {
                now += at(wait);
                let who = Address([who % 30; 20]);
                if let Ok((ticket, leaving)) = arrivals.enter(now, who, bytes) {
                    prop_assert!(!leaving.iter().any(|ticket| whole.contains(ticket)), "what is whole was sent away");
                    if bytes % 3 == 0 {
                        prop_assert_eq!(arrivals.came(now, ticket, bytes), Ok(true));
                        whole.push(ticket);
                    }
                }
                prop_assert!(arrivals.count(who, &[]) <= CONTRIBUTOR_PLACES);
                let (count, announced) = arrivals.held();
                prop_assert!(count <= PLACES_MAX && announced <= BYTES_MAX, "{count} places, {announced} bytes");
                if whole.len() > PLACES_MAX / 2 {
                    arrivals.leave(whole.remove(0));
                }
            }
            let mut alone = Arrivals::default();
            let (ticket, _) = alone.enter(at(0), contributor(1), 1 << 20).unwrap();
            for second in 1..=16 {
                prop_assert_eq!(alone.came(at(second), ticket, BYTES_PER_S_MIN), Ok(second == 16));
            }
        }
    }
}
