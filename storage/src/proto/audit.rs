//! Audits: once per epoch (a day) each node shows that it still has what it is paid to hold.
//!
//! Goals: 1 % of a node's bytes lost is noticed within 30 days with 99.5 %; one lying auditor of three can neither fail nor pass a node; a node that
//! fetches its fragments from afar when asked is caught from a stated round trip on; offline, late, failed and unknown are kept apart. Non-goals: proving
//! that copies are independent (a node and its source in one building pass), payment (`AuditRent`), signatures.
//!
//! Flow. 1. The node signs [`types::audit::AuditCommit`] over its [`Holdings`]. 2. The epoch's beacon is drawn; it names three [`auditors`] of the chain's roll, the first opens.
//! 3. Each measures its round trip; the opener sends a fresh nonce to the node and to both witnesses. 4. The node walks: range 1 by the seed, each further one by the
//! bytes of the one before ([`Chain`]), so that 20 reads cannot be made at once, and answers all three with ranges and siblings ([`Answer`]). 5. Each
//! auditor checks every range against the fragment's root in its manifest, looks at its clock ([`Audit`]) and signs an [`AuditVerdict`]. 6. Two equal verdicts are the
//! epoch's outcome ([`settle`]); outcomes make the node's [`Standing`].
//!
//! *Silence.* A node that commits to nothing, or to a list that leaves out a living object, would be asked for nothing. Auditors whose own records name it a holder ask it for its
//! commitment, and judge one that shows none as one that does not answer: late if it answers pings, else offline ([`Audit::without_list`]). *Unknown* is left for what
//! is the auditor's own trouble: its line, its books, the chain it asks, an opener that said nothing.
//!
//! *Chance.* Each range misses a share s of lost ranges with 1 - s, so d epochs notice it with 1 - (1 - s)^(20 d): for 1 % 18 % a day and 99.76 %
//! in 30 ([`noticed`]). An opener that colludes can choose a nonce whose walk avoids what is lost; colluders who open a share c of the days leave
//! (1 - c) d of them: 99.5 % stand up to c = 12 %.
//!
//! *Time.* [`auditor::Pace::deadline`] is round trip + 20 reads at twice the measured honest pace + the answer over the slowest line. By production's pace, whose floor is
//! [`auditor::READ_LEAST`], a node that fetches is caught from a round trip of 37 ms to its source on whatever tricks it plays, and of 12 ms if it does not hold
//! back pings; [`auditor::Pace::reach`] has the table, and `tributary storage status` this node's own figures.
//!
//! *Cost* per node and day: 20 reads of 16 KiB, 333 KB to each of three auditors; on chain two verdicts and a row of 55 bytes for each fragment whose rent is
//! claimed (ARCHITECTURE, P8). 1,000 nodes audit each other with 1 GB a day, 12 kB/s over all of them.
//!
//! Filecoin's PDP asks five leaves of 32 bytes a day (77.9 % in 30 days); Walrus and Autonomi read in sequence under a deadline, as here.

pub mod answer;
pub mod auditor;
pub mod chain;
pub mod message;
pub mod standing;

use std::collections::BTreeMap;

pub use types::audit::{AUDITORS, Seat, auditors};
use types::{
    audit::{AuditVerdict, Verdict},
    id::{Address, Hash32},
};

pub use self::{
    answer::{Answer, Fault, Tops},
    auditor::{Audit, Pace, Reach},
    chain::{Chain, Holding, Holdings, Seed},
    standing::Standing,
};
use super::placement::{Site, Subnet};

/// Ranges per node and epoch.
pub const RANGES: u8 = 20;
/// Bytes of a range: one read of a disk that turns costs its seek, whatever smaller piece is asked for; 16 leaves of a fragment's tree.
pub const RANGE_BYTES: u64 = 16 << 10;

/// A site's subnet as the roll of auditors has it: a /24 behind 24 zero bits, a /48, 0 for none.
pub fn roll_subnet(site: &Site) -> u64 {
    match site.subnet {
        None => 0,
        Some(Subnet::V4([a, b, c])) => u64::from_be_bytes([0, 0, 0, 0, 0, a, b, c]),
        Some(Subnet::V6([a, b, c, d, e, f])) => u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
    }
}

/// The outcome of an epoch from the verdicts that came: what two of the three drawn auditors say of the same holdings and nonce, else unknown. Late and
/// offline are said of a node whatever it was sent: one auditor may have been shown a list and another none. If all three say in different ways that the node did not show what it
/// holds, it was late: else one that is silent to the first, answers the second with rubbish and is offline to the third would be unknown every day.
/// Verdicts by others, of another node or epoch, and second ones of the same auditor do not count; signatures were checked before.
pub fn settle(node: Address, epoch: u64, auditors: &[Address], verdicts: &[AuditVerdict]) -> Verdict {
    let mut first = BTreeMap::<_, &AuditVerdict>::new();
    let counts = |seen: &&AuditVerdict| seen.node == node && seen.epoch == epoch && auditors.contains(&seen.auditor);
    for seen in verdicts.iter().filter(counts) {
        first.entry(seen.auditor).or_insert(seen);
    }
    let mut said = BTreeMap::<_, usize>::new();
    for seen in first.values() {
        // Who was offline was sent nothing, or nobody knows what arrived; who was late may have shown one auditor a list and another none.
        let is_silence = matches!(seen.verdict, Verdict::Offline | Verdict::Late);
        let of = if is_silence { (Hash32::ZERO, Hash32::ZERO) } else { (seen.holdings, seen.nonce) };
        *said.entry((seen.verdict, of)).or_default() += 1;
    }
    let agreed = said.into_iter().find(|(_, count)| 2 * count > AUDITORS);
    let is_shown_to_nobody =
        first.len() == AUDITORS && first.values().all(|seen| matches!(seen.verdict, Verdict::Offline | Verdict::Late | Verdict::Failed));
    match agreed {
        Some(((verdict, _), _)) => verdict,
        None if is_shown_to_nobody => Verdict::Late,
        None => Verdict::Unknown,
    }
}

/// Chance that a lost share of a node's ranges is noticed in so many epochs of honest openers.
pub fn noticed(lost: f64, epochs: u32) -> f64 {
    1.0 - (1.0 - lost).powf(f64::from(RANGES) * f64::from(epochs))
}

#[cfg(test)]
mod tests {
    use types::merkle::keccak;

    use super::*;

    #[test]
    fn one_percent_lost_is_noticed_in_thirty_days() {
        assert!((noticed(0.01, 1) - 0.182_093).abs() < 1e-6);
        assert!((noticed(0.01, 30) - 0.997_595).abs() < 1e-6 && noticed(0.01, 30) >= 0.995);
        // Openers that collude on 12 % of the days.
        assert!(noticed(0.01, 27) >= 0.995 && noticed(0.01, 26) < 0.995);
    }

    #[test]
    fn walks_notice_a_lost_percent_as_often_as_the_closed_form_says() {
        // A node of 500 fragments that lost five of them, 1 % of its ranges: 1,500 runs of 30 days.
        let of = |index: u32| Holding {
            object: types::id::BlobId::of(&index.to_be_bytes()),
            fragment: 0,
            fragments: 5,
            bytes: 1 << 20,
            root: Hash32::ZERO,
        };
        let holdings = Holdings::new((0..500).map(of));
        let lost: Vec<_> = (0..5).map(|index| of(index * 97).object).collect();
        let (mut days_noticed, mut months_noticed) = (0_u32, 0_u32);
        for month in 0..1_500_u64 {
            let mut is_noticed = false;
            for day in 0..30 {
                let nonce = keccak(&[&month.to_be_bytes(), &[day]]);
                let seed = Seed { beacon: Hash32([1; 32]), node: Address([2; 20]), epoch: day.into(), holdings: Hash32::ZERO, nonce };
                let mut chain = Chain::new(&seed, holdings.ranges());
                while let Some(place) = chain.next() {
                    let (holding, range) = holdings.at(place).unwrap();
                    if lost.contains(&holding.object) {
                        (is_noticed, days_noticed) = (true, days_noticed + 1);
                        break;
                    }
                    // The bytes stand for themselves: only their hash goes on.
                    chain.take(&[holding.object.0.as_slice(), &range.to_be_bytes()].concat());
                }
            }
            months_noticed += u32::from(is_noticed);
        }
        let (day, month) = (f64::from(days_noticed) / 45_000.0, f64::from(months_noticed) / 1_500.0);
        let near = |got: f64, expected: f64, tries: f64| (got - expected).abs() <= 4.0 * (expected * (1.0 - expected) / tries).sqrt();
        assert!(near(day, noticed(0.01, 1), 45_000.0), "{day}");
        assert!(near(month, noticed(0.01, 30), 1_500.0) && month >= 0.99, "{month}");
    }

    fn seen(auditor: u8, verdict: Verdict) -> AuditVerdict {
        AuditVerdict {
            auditor: Address([auditor; 20]),
            node: Address([9; 20]),
            epoch: 3,
            holdings: Hash32([1; 32]),
            nonce: Hash32([2; 32]),
            verdict,
            right: 0,
            digest: Hash32::ZERO,
            round_trip_us: 1,
            elapsed_us: 1,
        }
    }

    #[test]
    fn two_of_three_decide_and_one_alone_nothing() {
        use Verdict::{Failed, Late, Offline, Passed, Unknown};
        let drawn = [1, 2, 3].map(|byte| Address([byte; 20]));
        let outcome = |verdicts: &[AuditVerdict]| settle(Address([9; 20]), 3, &drawn, verdicts);
        for honest in Verdict::ALL {
            for lie in Verdict::ALL {
                assert_eq!(outcome(&[seen(1, honest), seen(2, lie), seen(3, honest)]), honest, "{lie:?} against {honest:?}");
                assert_eq!(outcome(&[seen(2, lie)]), Unknown);
            }
        }
        assert_eq!(outcome(&[seen(1, Passed), seen(2, Failed), seen(3, Late)]), Unknown);
        assert_eq!(outcome(&[seen(1, Failed), seen(1, Failed), seen(1, Failed)]), Unknown, "one auditor has one voice");
        assert_eq!(outcome(&[seen(1, Failed), seen(4, Failed), seen(5, Failed)]), Unknown, "others have none");
        let stranger = AuditVerdict { node: Address([8; 20]), ..seen(2, Failed) };
        let yesterday = AuditVerdict { epoch: 2, ..seen(3, Failed) };
        assert_eq!(outcome(&[seen(1, Failed), stranger, yesterday]), Unknown);
        let other_walk = AuditVerdict { nonce: Hash32([7; 32]), ..seen(2, Failed) };
        assert_eq!(outcome(&[seen(1, Failed), other_walk]), Unknown, "they saw different walks");
        let unsent = AuditVerdict { nonce: Hash32::ZERO, ..seen(2, Offline) };
        assert_eq!(outcome(&[seen(1, Offline), unsent]), Offline);
    }

    #[test]
    fn silence_is_silence_whatever_each_auditor_was_shown() {
        use Verdict::{Failed, Late, Offline, Passed, Unknown};
        let drawn = [1, 2, 3].map(|byte| Address([byte; 20]));
        let outcome = |verdicts: &[AuditVerdict]| settle(Address([9; 20]), 3, &drawn, verdicts);
        let unlisted = AuditVerdict { holdings: Hash32::ZERO, nonce: Hash32::ZERO, ..seen(2, Late) };
        assert_eq!(outcome(&[seen(1, Late), unlisted]), Late, "one was shown a list that it was not shown the bytes of");
        assert_eq!(outcome(&[seen(1, Late), unlisted, seen(3, Passed)]), Late);
        // As many faces as there are auditors.
        assert_eq!(outcome(&[seen(1, Failed), seen(2, Late), seen(3, Offline)]), Late);
        let other_walk = AuditVerdict { nonce: Hash32([7; 32]), ..seen(2, Failed) };
        assert_eq!(outcome(&[seen(1, Failed), other_walk, seen(3, Offline)]), Late, "a failure is that of one walk");
        // Where one passed it, or knows nothing, two must say the same; and two alone must.
        for third in [Passed, Unknown] {
            assert_eq!(outcome(&[seen(1, Failed), seen(2, Late), seen(3, third)]), Unknown);
        }
        assert_eq!(outcome(&[seen(1, Failed), seen(2, Offline)]), Unknown);
    }

    #[test]
    fn a_subnet_on_the_roll_is_its_own_and_none_is_zero() {
        let of = |subnet| roll_subnet(&Site { subnet, region: None });
        assert_eq!(
            [of(None), of(Some(Subnet::V4([10, 1, 2]))), of(Some(Subnet::V6([0x20, 1, 2, 3, 4, 5])))],
            [0, 0x0a_0102, 0x2001_0203_0405]
        );
    }
}

#[cfg(test)]
mod vectors;
