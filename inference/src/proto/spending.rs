//! What a client has promised and may still promise: per request, per day, per key.
//!
//! A request counts with all it may cost from before it is sent until it has ended; then with what was promised in it and not taken back by a receipt.
//! So no order of promises, receipts and crashes brings the sum above a cap: whatever is lost on the way leaves the higher figure. A process that
//! dies leaves its request counted in full for its day, which errs to the client's side.
//!
//! Size: about 200 bytes per request under way, 90 per key; the file that keeps it has some kilobytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    id::{Address, Hash32},
};

/// Most requests counted by themselves; beyond, the oldest is counted in full for good.
pub const OPEN_MAX: usize = 1_024;
/// Most keys whose sums are kept.
pub const KEYS_MAX: usize = 4_096;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// The UTC day, counted from 1970, of a time in seconds since then.
pub const fn day_of(seconds: u64) -> u64 {
    seconds / DAY_S
}

/// Caps in wei; nothing is no cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Most that one request may cost.
    pub per_request: Option<Amount>,
    /// Most that the requests begun in one UTC day may cost together.
    pub per_day: Option<Amount>,
    /// Most that one key's promises may sum to, ever.
    pub per_key: Option<Amount>,
}

/// A request under way, or left behind by a process that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    key: Address,
    day: u64,
    /// What had been counted for it before: it was ended and is gone on with.
    before: Amount,
    /// What it may still come to cost.
    most: Amount,
}

/// The books of a client's spending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spending {
    /// The day counted. It never goes back, so a clock set back frees nothing.
    day: u64,
    /// Of requests begun on that day and ended.
    spent: Amount,
    /// Of ended requests, by key.
    keys: BTreeMap<Address, Amount>,
    open: BTreeMap<Hash32, Open>,
}

/// Why a request is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One request.
    #[error(
        "the answer may cost {asked} wei, the cap per request is {cap} wei: ask with --max-fee \"{cap}\" or less, or raise `per_request` under [spending] in tributary.toml"
    )]
    Request {
        /// What it may cost.
        asked: Amount,
        /// The cap.
        cap: Amount,
    },
    /// One day.
    #[error(
        "{counted} wei are spent or promised today (UTC), the answer may cost {asked} more, the cap per day is {cap} wei: ask with a smaller --max-fee, wait until midnight UTC, or raise `per_day` under [spending] in tributary.toml"
    )]
    Day {
        /// Counted so far.
        counted: Amount,
        /// What it may cost.
        asked: Amount,
        /// The cap.
        cap: Amount,
    },
    /// One key.
    #[error(
        "the key {key} has spent or promised {counted} wei, the answer may cost {asked} more, its cap is {cap} wei: ask with a smaller --max-fee, use another session, or raise the cap (`tributary wallet session add`, `per_key` under [spending] in tributary.toml)"
    )]
    Key {
        /// The key.
        key: Address,
        /// Counted so far.
        counted: Amount,
        /// What it may cost.
        asked: Amount,
        /// The cap.
        cap: Amount,
    },
    /// Too many keys.
    #[error("{KEYS_MAX} keys have signed promises here already, at most that many are counted: use one of them, or another data folder")]
    Keys,
    /// A sum does not fit.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

impl Spending {
    /// Counts a request that may come to cost `limit` in all, `before` of which was counted when it ended earlier; refused if a cap would be
    /// exceeded, and then nothing changes. One that is counted already stays as it is.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn begin(&mut self, caps: Caps, request: Hash32, key: Address, limit: Amount, before: Amount, day: u64) -> Result<(), Refused> {
        self.turn_to(day);
        if self.open.contains_key(&request) {
            return Ok(());
        }
        let asked = limit.minus(before).unwrap_or_default();
        if let Some(cap) = caps.per_request.filter(|cap| limit > *cap) {
            return Err(Refused::Request { asked: limit, cap });
        }
        let counted = self.today()?;
        let sum = counted.plus(asked)?;
        if let Some(cap) = caps.per_day.filter(|cap| sum > *cap) {
            return Err(Refused::Day { counted, asked, cap });
        }
        let counted = self.of_key(key)?;
        let sum = counted.plus(asked)?;
        if let Some(cap) = caps.per_key.filter(|cap| sum > *cap) {
            return Err(Refused::Key { key, counted, asked, cap });
        }
        if !self.keys.contains_key(&key) {
            if self.keys.len() >= KEYS_MAX {
                return Err(Refused::Keys);
            }
            self.keys.insert(key, Amount::ZERO);
        }
        if self.open.len() >= OPEN_MAX
            && let Some(oldest) = self.open.iter().min_by_key(|(_, open)| open.day).map(|(request, _)| *request)
        {
            self.close(oldest, None);
        }
        self.open.insert(request, Open { key, day: self.day, before, most: asked });
        Ok(())
    }

    /// A request has ended, and `total` wei were promised in it in all and not taken back by a receipt.
    pub fn end(&mut self, request: Hash32, total: Amount) {
        self.close(request, Some(total));
    }

    /// What requests begun on the day counted cost or may cost.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn today(&self) -> Result<Amount, AmountError> {
        let open = self.open.values().filter(|open| open.day == self.day);
        Amount::sum(open.map(|open| open.most).chain([self.spent]))
    }

    /// What a key's requests cost or may cost.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn of_key(&self, key: Address) -> Result<Amount, AmountError> {
        let open = self.open.values().filter(|open| open.key == key);
        Amount::sum(open.map(|open| open.most).chain(self.keys.get(&key).copied()))
    }

    /// Begins a later day; what is left of two days ago was left by a process that died and stays counted in full for its key.
    pub fn turn_to(&mut self, day: u64) {
        if day <= self.day {
            return;
        }
        (self.day, self.spent) = (day, Amount::ZERO);
        let old: Vec<Hash32> = self.open.iter().filter(|(_, open)| open.day + 1 < day).map(|(request, _)| *request).collect();
        for request in old {
            self.close(request, None);
        }
    }

    fn close(&mut self, request: Hash32, total: Option<Amount>) {
        let Some(open) = self.open.remove(&request) else { return };
        let charged = total.map_or(open.most, |total| Amount(total.0.saturating_sub(open.before.0)).min(open.most));
        if open.day == self.day {
            self.spent = Amount(self.spent.0.saturating_add(charged.0));
        }
        let of_key = self.keys.entry(open.key).or_default();
        *of_key = Amount(of_key.0.saturating_add(charged.0));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Address = Address([7; 20]);

    fn id(number: u8) -> Hash32 {
        Hash32([number; 32])
    }

    fn caps(request: u128, day: u128, key: u128) -> Caps {
        Caps { per_request: Some(Amount(request)), per_day: Some(Amount(day)), per_key: Some(Amount(key)) }
    }

    fn begin(books: &mut Spending, caps: Caps, request: u8, most: u128, day: u64) -> Result<(), Refused> {
        books.begin(caps, id(request), KEY, Amount(most), Amount::ZERO, day)
    }

    #[test]
    fn each_cap_refuses_with_what_was_counted_and_the_way_to_change_it() {
        let caps = caps(50, 90, 130);
        let mut books = Spending::default();
        assert!(begin(&mut books, caps, 1, 51, 3).unwrap_err().to_string().contains("`per_request`"));
        begin(&mut books, caps, 1, 50, 3).unwrap();
        let refused = begin(&mut books, caps, 2, 41, 3).unwrap_err();
        assert_eq!(refused, Refused::Day { counted: Amount(50), asked: Amount(41), cap: Amount(90) });
        assert!(refused.to_string().contains("50 wei") && refused.to_string().contains("`per_day`"), "{refused}");
        begin(&mut books, caps, 2, 40, 3).unwrap();
        let refused = begin(&mut books, caps, 3, 41, 4).unwrap_err();
        assert_eq!(refused, Refused::Key { key: KEY, counted: Amount(90), asked: Amount(41), cap: Amount(130) });
        begin(&mut books, caps, 3, 40, 4).unwrap();
    }

    #[test]
    fn a_receipt_lowers_what_a_promise_counted() {
        let caps = caps(50, 50, 1_000);
        let mut books = Spending::default();
        begin(&mut books, caps, 1, 50, 3).unwrap();
        assert!(begin(&mut books, caps, 2, 1, 3).is_err());
        books.end(id(1), Amount(12));
        assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(12)), Ok(Amount(12))));
        begin(&mut books, caps, 2, 38, 3).unwrap();
        assert!(begin(&mut books, caps, 3, 1, 3).is_err());
    }

    #[test]
    fn a_request_that_is_gone_on_with_counts_once() {
        let caps = caps(50, 100, 1_000);
        let mut books = Spending::default();
        begin(&mut books, caps, 1, 50, 3).unwrap();
        // Its process died: the same request again changes nothing.
        begin(&mut books, caps, 1, 50, 3).unwrap();
        assert_eq!(books.today(), Ok(Amount(50)));
        books.end(id(1), Amount(20));
        books.begin(caps, id(1), KEY, Amount(50), Amount(20), 3).unwrap();
        assert_eq!(books.today(), Ok(Amount(50)));
        books.end(id(1), Amount(33));
        assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(33)), Ok(Amount(33))));
    }

    #[test]
    fn a_clock_set_back_frees_nothing_and_a_new_day_does() {
        let caps = caps(50, 50, 1_000);
        let mut books = Spending::default();
        begin(&mut books, caps, 1, 50, 3).unwrap();
        assert!(begin(&mut books, caps, 2, 50, 2).is_err());
        begin(&mut books, caps, 2, 50, 4).unwrap();
        books.end(id(1), Amount(30));
        assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(50)), Ok(Amount(80))));
        books.turn_to(9);
        books.end(id(2), Amount::ZERO);
        assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount::ZERO), Ok(Amount(80))), "left for days: counted in full for its key");
    }

    #[test]
    fn requests_left_behind_are_bounded_and_stay_counted() {
        let caps = Caps::default();
        let mut books = Spending::default();
        for number in 0..u16::try_from(OPEN_MAX + 10).unwrap() {
            let mut request = [0; 32];
            request[..2].copy_from_slice(&number.to_be_bytes());
            books.begin(caps, Hash32(request), KEY, Amount(1), Amount::ZERO, 1).unwrap();
        }
        assert_eq!(books.open.len(), OPEN_MAX);
        assert_eq!((books.today(), books.of_key(KEY)), (Ok(Amount(1_034)), Ok(Amount(1_034))));
    }

    #[derive(Debug, Clone)]
    enum Op {
        /// Request, key, limit.
        Begin(u8, u8, u128),
        /// A request ends with a share, in 1/255, of what it might have cost.
        End(u8, u8),
        /// Its process dies: nothing is told to the books.
        Crash(u8),
        /// The clock moves, also back.
        Clock(u64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            (0..12_u8, 0..3_u8, 0..60_u128).prop_map(|(request, key, most)| Op::Begin(request, key, most)),
            (0..12_u8, any::<u8>()).prop_map(|(request, share)| Op::End(request, share)),
            (0..12_u8).prop_map(Op::Crash),
            (0..5_u64).prop_map(Op::Clock),
        ];
        proptest::collection::vec(op, 0..120)
    }

    proptest! {
        /// The truth is kept beside the books: what each request cost, or may cost while it runs, by the day and key it was begun under.
        #[test]
        fn no_interleaving_of_promises_receipts_and_crashes_exceeds_a_cap(ops in ops(), per_day in 0..200_u128, per_key in 0..300_u128) {
            let caps = caps(40, per_day, per_key);
            let mut books = Spending::default();
            let mut clock = 0;
            // By serial number of the request: day, key, and what it costs at most.
            let mut truth: Vec<(u64, u8, u128)> = Vec::new();
            let mut live: BTreeMap<u8, usize> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Begin(slot, key, most) => {
                        if live.contains_key(&slot) {
                            continue;
                        }
                        let mut request = [0; 32];
                        request[..8].copy_from_slice(&truth.len().to_be_bytes());
                        let allowed = books.begin(caps, Hash32(request), Address([key; 20]), Amount(most), Amount::ZERO, clock).is_ok();
                        if allowed {
                            prop_assert!(most <= 40);
                            live.insert(slot, truth.len());
                            truth.push((books.day, key, most));
                        } else {
                            truth.push((u64::MAX, u8::MAX, 0));
                        }
                    }
                    Op::End(slot, share) => {
                        if let Some(number) = live.remove(&slot) {
                            let cost = truth[number].2 * u128::from(share) / 255;
                            truth[number].2 = cost;
                            let mut request = [0; 32];
                            request[..8].copy_from_slice(&number.to_be_bytes());
                            books.end(Hash32(request), Amount(cost));
                        }
                    }
                    Op::Crash(slot) => {
                        live.remove(&slot);
                    }
                    Op::Clock(day) => clock = day,
                }
                // Whatever was written comes back: each step may be the last of its process.
                let text = serde_json::to_string(&books).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Spending>(&text).unwrap(), &books);
                for day in 0..5 {
                    let sum: u128 = truth.iter().filter(|(of, ..)| *of == day).map(|(_, _, cost)| cost).sum();
                    prop_assert!(sum <= per_day, "day {} costs {}", day, sum);
                    if day == books.day {
                        prop_assert_eq!(books.today(), Ok(Amount(sum)));
                    }
                }
                for key in 0..3 {
                    let sum: u128 = truth.iter().filter(|(_, of, _)| *of == key).map(|(_, _, cost)| cost).sum();
                    prop_assert!(sum <= per_key, "key {} costs {}", key, sum);
                    prop_assert!(books.of_key(Address([key; 20])).unwrap() >= Amount(sum));
                }
            }
        }
    }
}
