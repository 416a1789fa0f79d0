//! What verdicts that are not accepted yet take of a contributor's limits.
//!
//! A signed verdict cannot be taken back: until its commitment expires it may be carried to the chain. So a gate that compared limits with accepted
//! contributions alone would sign for any number of contributions, each of them within the limits, that are then accepted together. Instead each verdict
//! *reserves* its rows and bytes before it is signed. A reservation ends with the verdict's worth: when the contribution is accepted for good, when its commitment has expired, or
//! when the same text is accepted for good under an earlier commitment, since from then on the registry takes it under a still earlier one only ([`Reserved::is_beaten`]); a contribution
//! that is refused reserves nothing, and a later refusal frees nothing: the verdict is out. The same text of the same contributor can be accepted once in a
//! Datanet, so its later verdict takes the place of its earlier one.
//!
//! *Against* a shorter time where the verdict is not used, and against the contributor's word that it will not be: neither takes back what is signed. Whoever says so, waits for the release,
//! has as much signed again and then carries both to the chain would have twice its limits. What a contributor does not finish is its own limit: the same command goes on with the same text under the same
//! reservation, and other rows of its files fit into what is left, or wait for the thirty days of the commitment that it made itself.
//!
//! Pure: who keeps reservations on a disk writes one before it signs, and brings all of them back when it starts. At most [`RESERVATIONS_MAX`] of some 250
//! bytes; only Datanets with limits have any.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::id::{Address, AssetId, Hash32};

use super::{GatePolicy, Place, Refusal, Report, Usage, gate::beyond_limits};

/// Most reservations of a gate: 4 MiB in memory, as many small files on its disk. Each stands for a commitment that somebody has paid for.
pub const RESERVATIONS_MAX: usize = 1 << 14;

/// One verdict's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserved {
    /// The Datanet.
    pub datanet: AssetId,
    /// Whose limits.
    pub contributor: Address,
    /// The contribution's text.
    pub text_root: Hash32,
    /// Its documents.
    pub rows: u64,
    /// Bytes of its text.
    pub bytes: u64,
    /// Second of the chain's clock after which its commitment is worth nothing.
    pub until: u64,
    /// Block and ordinal of its commitment, of several the earliest; nothing if that was not noted when it was kept.
    #[serde(default)]
    pub committed: Option<(u64, u32)>,
}

/// What a reservation stands under: a text of a contributor in a Datanet.
pub type Key = (AssetId, Address, Hash32);

impl Reserved {
    /// What a report reserves that lets a contribution in.
    pub fn of(datanet: AssetId, report: &Report, committed: Place, until: u64) -> Self {
        let Report { contributor, text_root, text_bytes: bytes, .. } = *report;
        let committed = Some((committed.block, committed.ordinal));
        Self { datanet, contributor, text_root, rows: report.documents.into(), bytes, until, committed }
    }

    /// Whether no verdict on this text is worth anything once the text stands accepted under a commitment at this block and ordinal: the registry takes a text that it has from who committed to it
    /// earlier, and from nobody else.
    pub fn is_beaten(&self, accepted: (u64, u32)) -> bool {
        self.committed.is_some_and(|committed| accepted < committed)
    }

    /// What it stands under.
    pub const fn key(&self) -> Key {
        (self.datanet, self.contributor, self.text_root)
    }
}

/// Those of one gate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservations(BTreeMap<Key, Reserved>);

/// Why nothing is reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// Beyond the contributor's limits; the refusals say by how much.
    #[error("the contribution is beyond the limits of one contributor")]
    Beyond(Vec<Refusal>),
    /// Too many verdicts are not accepted yet.
    #[error("{RESERVATIONS_MAX} verdicts of this gate are not accepted yet: try again when some are, or have expired")]
    Full,
}

impl Reservations {
    /// Those that were kept, of whatever number.
    pub fn kept(all: impl IntoIterator<Item = Reserved>) -> Self {
        Self(all.into_iter().map(|one| (one.key(), one)).collect())
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Reserved> {
        self.0.values()
    }

    /// What a contributor has reserved in a Datanet, but for what is `counted` elsewhere, among what is accepted.
    pub fn usage(&self, datanet: AssetId, contributor: Address, counted: impl Fn(&Reserved) -> bool) -> Usage {
        let own = (datanet, contributor, Hash32::ZERO)..=(datanet, contributor, Hash32([0xff; 32]));
        let open = self.0.range(own).map(|(_, one)| one).filter(|one| !counted(one));
        open.fold(Usage::default(), |sum, one| Usage {
            rows: sum.rows.saturating_add(one.rows),
            bytes: sum.bytes.saturating_add(one.bytes),
        })
    }

    /// Whether `wanted` fits beside what its contributor `has` accepted and others of its verdicts hold; what is returned is to be kept, then [`entered`](Self::enter).
    ///
    /// # Errors
    /// [`ReserveError`].
    pub fn fits(
        &self,
        policy: &GatePolicy,
        has: Usage,
        wanted: &Reserved,
        counted: impl Fn(&Reserved) -> bool,
    ) -> Result<Reserved, ReserveError> {
        let key = wanted.key();
        let reserved = self.usage(wanted.datanet, wanted.contributor, |one| one.key() == key || counted(one));
        let beyond = beyond_limits(policy, wanted.contributor, has, reserved, Usage { rows: wanted.rows, bytes: wanted.bytes });
        if !beyond.is_empty() {
            return Err(ReserveError::Beyond(beyond));
        }
        let before = self.0.get(&key);
        if before.is_none() && self.0.len() >= RESERVATIONS_MAX {
            return Err(ReserveError::Full);
        }
        // Either verdict may still be carried to the chain.
        let until = before.map_or(wanted.until, |before| before.until.max(wanted.until));
        // Nothing is less than any place: what is not known is not beaten.
        let committed = before.map_or(wanted.committed, |before| before.committed.min(wanted.committed));
        Ok(Reserved { until, committed, ..*wanted })
    }

    /// Enters what [`fits`](Self::fits) returned.
    pub fn enter(&mut self, reserved: Reserved) {
        self.0.insert(reserved.key(), reserved);
    }

    /// What need not be reserved any more: what is settled for good, or expired by the second `now` of a final block.
    pub fn over(&self, now: u64, is_settled: impl Fn(&Reserved) -> bool) -> Vec<Key> {
        self.iter().filter(|one| one.until < now || is_settled(one)).map(Reserved::key).collect()
    }

    /// Takes one out.
    pub fn release(&mut self, key: &Key) {
        self.0.remove(key);
    }
}

impl Report {
    /// The report of a contribution that would be let in, but is beyond limits.
    #[must_use]
    pub fn beyond(mut self, refusals: Vec<Refusal>) -> Self {
        self.accepted = false;
        self.refusals.splice(0..0, refusals);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NET: AssetId = AssetId(4);
    const ANNA: Address = Address([1; 20]);

    fn reserved(text: u8, rows: u64) -> Reserved {
        Reserved {
            datanet: NET,
            contributor: ANNA,
            text_root: Hash32([text; 32]),
            rows,
            bytes: rows * 10,
            until: 1_000,
            committed: Some((7, 2)),
        }
    }

    fn limits(rows: Option<u64>, bytes: Option<u64>) -> GatePolicy {
        GatePolicy { contributor_rows_max: rows, contributor_bytes_max: bytes, ..GatePolicy::default() }
    }

    fn take(all: &mut Reservations, policy: &GatePolicy, has: Usage, wanted: Reserved) -> Result<(), ReserveError> {
        all.fits(policy, has, &wanted, |_| false).map(|fits| all.enter(fits))
    }

    #[test]
    fn verdicts_that_are_not_accepted_yet_count_and_say_so() {
        let (mut all, policy, has) = (Reservations::default(), limits(Some(10), None), Usage { rows: 3, bytes: 30 });
        take(&mut all, &policy, has, reserved(1, 4)).unwrap();
        take(&mut all, &policy, has, reserved(2, 3)).unwrap();
        let Err(ReserveError::Beyond(refusals)) = take(&mut all, &policy, has, reserved(3, 1)) else { panic!("the limit is reached") };
        assert!(refusals[0].detail.contains("has 3 rows here, the gate's verdicts on contributions that are not accepted yet hold 7"));
        assert!(refusals[0].fix.contains("bring at most 0 rows; finish those contributions"), "{refusals:?}");
        // The same text again is the same verdict, and another contributor or Datanet has its own.
        take(&mut all, &policy, has, reserved(2, 3)).unwrap();
        take(&mut all, &policy, Usage::default(), Reserved { contributor: Address([2; 20]), ..reserved(3, 10) }).unwrap();
        take(&mut all, &policy, Usage::default(), Reserved { datanet: AssetId(5), ..reserved(3, 10) }).unwrap();
        all.release(&reserved(1, 4).key());
        take(&mut all, &policy, has, reserved(3, 4)).unwrap();
        let bytes = take(&mut Reservations::default(), &limits(None, Some(99)), Usage::default(), reserved(1, 10));
        assert!(matches!(bytes, Err(ReserveError::Beyond(refusals)) if refusals[0].detail.contains("bytes of text")));
    }

    #[test]
    fn a_reservation_ends_with_its_commitment_or_once_it_is_settled() {
        let mut all = Reservations::kept([reserved(1, 4), reserved(2, 3), Reserved { until: 2_000, ..reserved(3, 2) }]);
        assert_eq!(all.over(1_000, |_| false), []);
        assert_eq!(all.over(1_000, |one| one.rows == 3), [reserved(2, 3).key()]);
        assert_eq!(all.over(1_001, |_| false), [reserved(1, 4).key(), reserved(2, 3).key()]);
        // A second verdict on a text holds as long as either commitment does.
        take(&mut all, &limits(None, None), Usage::default(), Reserved { until: 500, ..reserved(3, 2) }).unwrap();
        assert_eq!(all.over(1_999, |one| one.rows > 2).len(), 2);
        // What is accepted already is counted there.
        assert_eq!(all.usage(NET, ANNA, |one| one.rows == 4).rows, 5);
    }

    #[test]
    fn a_verdict_is_worth_nothing_once_its_text_is_there_under_an_earlier_commitment() {
        let one = reserved(1, 4);
        assert!(one.is_beaten((7, 1)) && one.is_beaten((6, 9)));
        assert!(!one.is_beaten((7, 2)), "its own");
        assert!(!one.is_beaten((7, 3)) && !one.is_beaten((8, 0)), "who committed later keeps nobody out");
        // Of two commitments either may be carried to the chain, and the earlier one is beaten last.
        let (mut all, policy) = (Reservations::kept([one]), limits(None, None));
        let held = |all: &Reservations| all.iter().next().copied().unwrap().committed;
        for (committed, least) in [(Some((9, 0)), Some((7, 2))), (Some((5, 0)), Some((5, 0))), (None, None), (Some((5, 0)), None)] {
            take(&mut all, &policy, Usage::default(), Reserved { committed, ..one }).unwrap();
            assert_eq!(held(&all), least);
        }
        assert!(!all.iter().next().unwrap().is_beaten((0, 0)), "when it was committed to is not known");
        let before = r#"{"datanet":4,"contributor":"0x0101010101010101010101010101010101010101","text_root":"0x0101010101010101010101010101010101010101010101010101010101010101","rows":4,"bytes":40,"until":1000}"#;
        let read: Reserved = serde_json::from_str(before).unwrap();
        assert_eq!(read, Reserved { committed: None, ..one }, "a reservation of before still counts");
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        let one = |number: usize| {
            let mut text_root = Hash32::ZERO;
            text_root.0[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
            Reserved { text_root, ..reserved(0, 1) }
        };
        let mut all = Reservations::kept((0..RESERVATIONS_MAX).map(one));
        let policy = limits(None, Some(u64::MAX));
        assert_eq!(take(&mut all, &policy, Usage::default(), one(RESERVATIONS_MAX)), Err(ReserveError::Full));
        take(&mut all, &policy, Usage::default(), one(7)).expect("what is there may be signed for again");
    }

    proptest! {
        #[test]
        fn whatever_is_asked_in_whatever_order_what_can_be_accepted_together_is_within_the_limits(
            asked in proptest::collection::vec((any::<u8>(), 1_u64..6, any::<bool>()), 1..60),
            rows_max in 1_u64..30,
        ) {
            let (mut all, policy, mut accepted) = (Reservations::default(), limits(Some(rows_max), None), BTreeMap::new());
            for (text, rows, is_accepted) in asked {
                let has = Usage { rows: accepted.values().sum(), bytes: 0 };
                let wanted = reserved(text, rows);
                if accepted.contains_key(&wanted.key()) {
                    continue;
                }
                if take(&mut all, &policy, has, wanted).is_ok() && is_accepted {
                    accepted.insert(wanted.key(), rows);
                    all.release(&wanted.key());
                }
                // Every verdict that is out could be accepted now.
                let together = accepted.values().sum::<u64>() + all.usage(NET, ANNA, |_| false).rows;
                prop_assert!(together <= rows_max, "{together} of {rows_max}");
            }
        }
    }
}
