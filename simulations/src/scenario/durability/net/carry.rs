//! How long a piece of repair's work takes over lines of different speed, and what of it comes to nothing: as the node's shell does it.
//!
//! The fragments that suffice are read at a time, the worker's own first; whoever takes longer than [`CARRY_LIMIT_MS`] is given up and the next source asked. Then all
//! that was computed is given to its holders at once, under the same limit. A stream gets an equal part of the worker's line, or the other's if that is slower.
//! So a source that is 100 times slower than others sends its fragment in 50 s, late and not failed; a worker whose line is 10 times slower gets sixteen streams
//! of 52 kB/s, none of which ends in time, and mends nothing.

use std::collections::BTreeSet;
use std::{cmp::Reverse, collections::BinaryHeap};

use storage::proto::repair::Work;
use types::id::Address;

use super::super::count;

/// Bytes of each fragment of the object that a small one stands for: 64 MiB at 16 of 48.
pub const FRAGMENT_BYTES: u64 = 4 << 20;
/// Bytes per second of a plain operator's line and disk: what repair's budget takes of half of a good line.
pub const LINE_BYTES_PER_S: u64 = 8 << 20;
/// The node's limit for a fragment to come or to be taken.
const CARRY_LIMIT_MS: u64 = 60_000;

/// What work comes to, if nobody goes away meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carried {
    /// From the first question to the last answer.
    pub took_ms: u64,
    /// Sources that send in time, in the order in which their fragments come.
    pub read: Vec<(u8, Address)>,
    /// Fragments that are taken in time.
    pub given: BTreeSet<u8>,
}

/// Carries out `work` of `me`, where `rate` gives an operator's bytes per second: zero for one that is gone.
pub(super) fn carried(data: usize, me: Address, work: &Work, rate: impl Fn(Address) -> u64) -> Carried {
    let (mut free, mut came): (BinaryHeap<_>, Vec<_>) = ((0..data).map(|_| Reverse(0)).collect(), Vec::new());
    let share = rate(me) / count(data);
    let mut gave_up = 0;
    for (fragment, holder) in &work.sources {
        let Some(Reverse(start)) = free.pop() else { break };
        let took = if *holder == me { Some(0) } else { took_ms(share.min(rate(*holder))) };
        let end = start + took.unwrap_or(CARRY_LIMIT_MS);
        match took {
            // Its place stays taken: nobody else need be asked for what has come.
            Some(_) => came.push((end, *fragment, *holder)),
            None => {
                gave_up = gave_up.max(end);
                free.push(Reverse(end));
            }
        }
    }
    came.sort_unstable();
    let read_ms = came.get(data - 1).map(|(end, ..)| *end);
    let read = came.iter().map(|(_, fragment, holder)| (*fragment, *holder)).collect();
    let Some(read_ms) = read_ms else { return Carried { took_ms: gave_up, read, given: BTreeSet::new() } };
    let share = rate(me) / count(work.targets.len()).max(1);
    let mut given = (BTreeSet::new(), 0);
    for (fragment, to) in &work.targets {
        let took = if *to == me { Some(0) } else { took_ms(share.min(rate(*to))) };
        given.1 = given.1.max(took.unwrap_or(CARRY_LIMIT_MS));
        given.0.extend(took.map(|_| *fragment));
    }
    Carried { took_ms: read_ms + given.1, read, given: given.0 }
}

/// A fragment at so many bytes per second; nothing: not within the limit.
fn took_ms(rate: u64) -> Option<u64> {
    (FRAGMENT_BYTES * 1_000).checked_div(rate).filter(|took| *took <= CARRY_LIMIT_MS)
}

#[cfg(test)]
mod tests {
    use storage::proto::repair::Method;
    use types::id::BlobId;

    use super::*;

    fn operator(number: u8) -> Address {
        Address([number; 20])
    }

    /// Operator 0 mends; its own fragment is 0, it reads those of 1 to 30 and gives two to 40 and 41.
    fn work() -> Work {
        let sources = (0..31).map(|number| (number, operator(number))).collect();
        Work { object: BlobId::ZERO, method: Method::Decode, sources, targets: vec![(46, operator(40)), (47, operator(41))] }
    }

    fn carry(times: impl Fn(u8) -> u64) -> Carried {
        carried(16, operator(0), &work(), |operator| LINE_BYTES_PER_S.checked_div(times(operator.0[0])).unwrap_or(0))
    }

    #[test]
    fn a_slow_source_is_late_and_not_failed_and_one_that_is_gone_is_replaced_by_the_next() {
        let plain = carry(|_| 1);
        assert_eq!(
            (plain.took_ms, plain.read.len(), plain.given.len()),
            (8_000 + 1_000, 16, 2),
            "sixteen share the worker's line, two the way back"
        );
        let slow = carry(|number| if number == 3 { 100 } else { 1 });
        assert_eq!((slow.took_ms, slow.read.len()), (50_000 + 1_000, 16));
        assert_eq!(slow.read.last(), Some(&(3, operator(3))), "it comes last, and comes");
        let gone = carry(|number| if number == 3 { 0 } else { 1 });
        assert!(gone.took_ms == 60_000 + 8_000 + 1_000 && gone.read.contains(&(16, operator(16))), "{gone:?}");
    }

    #[test]
    fn a_worker_on_a_slow_line_mends_nothing_and_a_slow_target_takes_its_fragment() {
        let worker = carry(|number| if number == 0 { 10 } else { 1 });
        assert!(worker.given.is_empty() && worker.read == [(0, operator(0))] && worker.took_ms >= 60_000, "{worker:?}");
        let target = carry(|number| if number == 40 { 100 } else { 1 });
        assert_eq!((target.took_ms, target.given.len()), (8_000 + 50_000, 2));
        let gone = carry(|number| u64::from(number != 40));
        assert_eq!((gone.took_ms, gone.given), (8_000 + 60_000, BTreeSet::from([47])));
    }
}
