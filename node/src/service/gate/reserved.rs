//! Reservations of verdicts on disk: a gate that is restarted knows what it has signed for. What is reserved, and until when: `storage::datanet::reserve`.
//!
//! One file of mode 0600 each, written before the verdict is signed and removed when it is over. A file that cannot be read stops the gate from being opened: what
//! it reserved would else be free.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chain_bridge::registry::State;
use storage::datanet::{
    GatePolicy, Report, Usage,
    reserve::{Key, Reservations, ReserveError, Reserved},
};
use tokio::sync::Mutex;
use types::id::{Address, AssetId, Hash32};

use crate::data::{read_bounded, write_atomic};

/// Largest file of one.
const FILE_BYTES_MAX: u64 = 1 << 10;

/// Those of a gate, and their folder.
#[derive(Debug)]
pub(super) struct Reserving {
    folder: PathBuf,
    held: Mutex<Reservations>,
}

/// What the chain says of them.
pub(super) struct Seen<'s> {
    /// By the latest block.
    pub(super) latest: &'s State,
    /// By the finalized one.
    pub(super) finalized: &'s State,
    /// Second of the finalized one.
    pub(super) now: u64,
}

impl Reserving {
    /// Those in a folder, which is made when there is one.
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        let mut held = Vec::new();
        if folder.exists() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "json") {
                    held.push(read(&path).with_context(|| {
                        format!(
                            "{}: a verdict's reservation is damaged; remove it if what its contributor may still bring is free",
                            path.display()
                        )
                    })?);
                }
            }
        }
        Ok(Self { folder, held: Mutex::new(Reservations::kept(held)) })
    }

    fn path(&self, (datanet, contributor, text_root): Key) -> PathBuf {
        self.folder.join(format!("{datanet}-{}-{}.json", hex::encode(contributor.0), hex::encode(text_root.0)))
    }

    /// Reserves what `wanted` takes, on disk when this returns; the refusals if that is beyond the limits.
    pub(super) async fn take(&self, policy: &GatePolicy, wanted: Reserved, seen: &Seen<'_>) -> anyhow::Result<Result<(), ReserveError>> {
        let mut held = self.held.lock().await;
        for key in held.over(seen.now, |one| is_settled(seen.finalized, one) || is_beaten(seen.finalized, one)) {
            let path = self.path(key);
            std::fs::remove_file(&path).with_context(|| format!("{}", path.display()))?;
            held.release(&key);
        }
        let has = usage(seen.latest, wanted.datanet, wanted.contributor);
        let fits = match held.fits(policy, has, &wanted, |one| is_settled(seen.latest, one)) {
            Ok(fits) => fits,
            Err(error) => return Ok(Err(error)),
        };
        let path = self.path(fits.key());
        write_atomic(&path, &serde_json::to_vec(&fits)?, 0o600).with_context(|| format!("{}", path.display()))?;
        held.enter(fits);
        Ok(Ok(()))
    }
}

fn read(path: &Path) -> anyhow::Result<Reserved> {
    Ok(serde_json::from_slice(&read_bounded(path, FILE_BYTES_MAX)?)?)
}

/// What a contributor has accepted in a Datanet.
fn usage(state: &State, datanet: AssetId, contributor: Address) -> Usage {
    let own = state.live_contributions(datanet).filter(|accepted| accepted.contributor == contributor);
    own.fold(Usage::default(), |sum, accepted| Usage {
        rows: sum.rows.saturating_add(accepted.documents.into()),
        bytes: sum.bytes.saturating_add(accepted.text_bytes),
    })
}

/// Whether a text is accepted for its contributor.
fn is_settled(state: &State, one: &Reserved) -> bool {
    let is_it = |text_root: Hash32, contributor: Address| (text_root, contributor) == (one.text_root, one.contributor);
    state.contributions(one.datanet).any(|accepted| is_it(accepted.text_root, accepted.contributor))
}

/// Whether a text is accepted under an earlier commitment, so that no verdict on it can be used any more.
fn is_beaten(state: &State, one: &Reserved) -> bool {
    let of_text = state.contributions(one.datanet).filter(|accepted| accepted.text_root == one.text_root);
    of_text.map(|accepted| (accepted.priority.block, accepted.priority.ordinal)).any(|place| one.is_beaten(place))
}

/// Whether a report reserves anything: it lets a contribution in and its Datanet has limits.
pub(super) const fn is_needed(policy: &GatePolicy, report: &Report) -> bool {
    report.accepted && (policy.contributor_rows_max.is_some() || policy.contributor_bytes_max.is_some())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chain_bridge::registry::{Event, Logged};
    use types::{id::BlobId, time::BlockRef};

    use super::*;

    const NET: AssetId = AssetId(4);
    const ANNA: Address = Address([1; 20]);

    fn policy() -> GatePolicy {
        GatePolicy { contributor_rows_max: Some(10), ..GatePolicy::default() }
    }

    fn reserved(text: u8) -> Reserved {
        Reserved {
            datanet: NET,
            contributor: ANNA,
            text_root: Hash32([text; 32]),
            rows: 3,
            bytes: 30,
            until: 100,
            committed: Some((7, text.into())),
        }
    }

    /// The chain once these texts are accepted.
    fn state(texts: &[u8]) -> State {
        state_of(texts, ANNA, 7)
    }

    /// The same, for whom and committed to in which block.
    fn state_of(texts: &[u8], contributor: Address, committed: u64) -> State {
        let mut state = State::default();
        for (number, text) in (0..).zip(texts) {
            let event = Event::Accepted {
                datanet: NET,
                number,
                contributor,
                text_root: Hash32([*text; 32]),
                text_bytes: 30,
                documents: 3,
                block: committed,
                ordinal: u32::from(*text),
                licence: Hash32::ZERO,
                object: BlobId([*text; 32]),
                report: Hash32::ZERO,
            };
            let block = BlockRef { number: 8, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: u32::from(*text), transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    async fn take(verdicts: &Reserving, text: u8, (latest, finalized): (&[u8], &[u8]), now: u64) -> bool {
        let (latest, finalized) = (state(latest), state(finalized));
        verdicts.take(&policy(), reserved(text), &Seen { latest: &latest, finalized: &finalized, now }).await.unwrap().is_ok()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_verdicts_asked_for_at_once_those_within_the_limits_are_signed_also_after_a_restart() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("reserved");
        let verdicts = Arc::new(Reserving::open(folder.clone()).unwrap());
        let asked = (1..=40).map(|text| {
            let verdicts = Arc::clone(&verdicts);
            tokio::spawn(async move { take(&verdicts, text, (&[], &[]), 50).await })
        });
        let mut signed = Vec::new();
        for (text, asked) in (1..).zip(asked.collect::<Vec<_>>()) {
            if asked.await.unwrap() {
                signed.push(text);
            }
        }
        assert_eq!(signed.len(), 3, "three verdicts of three rows are within ten");
        drop(verdicts);
        let again = Reserving::open(folder.clone()).unwrap();
        assert!(!take(&again, 99, (&[], &[]), 50).await, "what was signed before the restart still holds");
        assert!(take(&again, signed[0], (&[], &[]), 50).await, "the same text again takes no more");
        // Accepted but not final: counted once, and still there if the chain takes it back.
        assert!(!take(&again, 99, (&signed[..1], &[]), 50).await);
        assert!(!take(&again, 99, (&[], &[]), 50).await);
        // Accepted for good: counted among what is accepted, and gone from the disk.
        assert!(!take(&again, 99, (&signed[..1], &signed[..1]), 50).await);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
        // Expired: room for another, beside what is accepted.
        assert!(take(&again, 99, (&signed[..1], &signed[..1]), 101).await);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_an_earlier_commitment_keeps_out_for_good_is_reserved_no_more() {
        let outer = tempfile::tempdir().unwrap();
        let verdicts = Reserving::open(outer.path().join("reserved")).unwrap();
        for text in 1..=3 {
            assert!(take(&verdicts, text, (&[], &[]), 50).await);
        }
        let ben = Address([2; 20]);
        let take_after = |by_ben: State, is_final: bool| {
            let verdicts = &verdicts;
            async move {
                let none = State::default();
                let seen = Seen { latest: &by_ben, finalized: if is_final { &by_ben } else { &none }, now: 50 };
                verdicts.take(&policy(), reserved(4), &seen).await.unwrap().is_ok()
            }
        };
        assert!(!take_after(state_of(&[1], ben, 8), true).await, "Ben committed later: Anna's verdict takes the text over");
        assert!(!take_after(state_of(&[1], ben, 6), false).await, "the chain may take that back");
        assert!(take_after(state_of(&[1], ben, 6), true).await, "Ben was first, and Anna's verdict is worth nothing");
    }

    #[tokio::test]
    async fn a_damaged_reservation_is_named_and_not_passed_over() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("4-00.json"), b"{").unwrap();
        let error = format!("{:#}", Reserving::open(outer.path().to_owned()).unwrap_err());
        assert!(error.contains("4-00.json") && error.contains("damaged"), "{error}");
    }
}
