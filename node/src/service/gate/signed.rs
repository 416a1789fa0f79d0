//! Reports of verdicts that let a contribution in and that the chain has not taken yet. What it has taken lies in `reports`, whose growth an owner pays for by what it accepts; what is here anybody could
//! make grow with commitments alone, 53,000 gas for a report of 150 KB.
//!
//! One file of mode 0600 each. A report moves to `reports` when a final block has its contribution, and goes when its commitment is void. A contributor has [`CONTRIBUTOR_BYTES_MAX`]: at that it is asked to finish what
//! it has begun, since a verdict whose report is gone could be brought on the chain and explained to nobody. All have [`BYTES_MAX`]; beyond, the oldest of whoever holds most makes room for who holds less.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use chain_bridge::registry::State;
use storage::datanet::Report;
use tokio::sync::Mutex;
use types::id::{Address, AssetId, Hash32};

use super::{REPORT_BYTES_MAX, queue::EXPIRY_BLOCKS};
use crate::data::{DataDir, read_bounded, write_atomic};

/// Most bytes of one contributor: eight of the largest reports, 4,096 of those of clean rows.
const CONTRIBUTOR_BYTES_MAX: u64 = 16 << 20;
/// Most bytes of all.
const BYTES_MAX: u64 = 256 << 20;
/// What the smallest file takes of a disk.
const FILE_BYTES_MIN: u64 = 4 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Block of the commitment.
    block: u64,
    datanet: AssetId,
    contributor: Address,
    digest: Hash32,
    bytes: u64,
}

/// Those of a gate.
#[derive(Debug)]
pub struct Verdicts {
    data: DataDir,
    held: Mutex<Vec<Entry>>,
}

/// A contributor has as much as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "reports of {bytes} bytes on your contributions that this gate let in and that are not on the chain yet are kept here, at most {CONTRIBUTOR_BYTES_MAX} are: finish those contributions, or let their commitments \
     expire, before you bring others"
)]
pub(super) struct UnfinishedError {
    bytes: u64,
}

impl Entry {
    fn name(&self) -> String {
        format!("{}-{}-{}-{}.json", self.datanet, hex::encode(self.contributor.0), hex::encode(self.digest.0), self.block)
    }

    fn named(name: &str, len: u64) -> Option<Self> {
        let mut parts = name.strip_suffix(".json")?.splitn(4, '-');
        let (datanet, contributor, digest, block) =
            (parts.next()?.parse().ok()?, parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        let contributor = Address(hex::decode(contributor).ok()?.try_into().ok()?);
        let digest = Hash32(hex::decode(digest).ok()?.try_into().ok()?);
        Some(Self { block, datanet: AssetId(datanet), contributor, digest, bytes: len.max(FILE_BYTES_MIN) })
    }
}

/// What goes so that `new`, which is not among `held`, may be kept; nothing goes of whoever holds less than its contributor will.
fn admit(held: &[Entry], new: &Entry, of_one: u64, of_all: u64) -> Result<Vec<Entry>, UnfinishedError> {
    let sum = |held: &[Entry]| held.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.bytes));
    let own: Vec<Entry> = held.iter().copied().filter(|entry| entry.contributor == new.contributor).collect();
    if sum(&own).saturating_add(new.bytes) > of_one {
        return Err(UnfinishedError { bytes: sum(&own) });
    }
    let (mut left, mut leaving) = (held.to_vec(), Vec::new());
    left.push(*new);
    while sum(&left) > of_all {
        let mut by_contributor = BTreeMap::<Address, Vec<Entry>>::new();
        let others = left.iter().filter(|entry| *entry != new);
        others.for_each(|entry| by_contributor.entry(entry.contributor).or_default().push(*entry));
        let most = by_contributor.into_values().max_by_key(|held| sum(held)).unwrap_or_default();
        let Some(oldest) = most.into_iter().min() else { break };
        left.retain(|entry| *entry != oldest);
        leaving.push(oldest);
    }
    Ok(leaving)
}

impl Verdicts {
    /// Those in the data folder.
    pub(super) fn open(data: DataDir) -> anyhow::Result<Self> {
        let (folder, mut held) = (data.signed(), Vec::new());
        if folder.exists() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
                let entry = entry?;
                let facts = entry.metadata().with_context(|| format!("{}", entry.path().display()))?;
                held.extend(entry.file_name().to_str().and_then(|name| Entry::named(name, facts.len())));
            }
        }
        Ok(Self { data, held: Mutex::new(held) })
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.data.signed().join(entry.name())
    }

    /// Keeps the report of a verdict that is about to be signed, on a commitment in `block`.
    pub(super) async fn keep(&self, datanet: AssetId, block: u64, report: &Report) -> anyhow::Result<Result<(), UnfinishedError>> {
        let (json, digest, contributor) = (report.to_json(), report.digest(), report.contributor);
        let entry = Entry { block, datanet, contributor, digest, bytes: (json.len() as u64).max(FILE_BYTES_MIN) };
        let mut held = self.held.lock().await;
        if held.contains(&entry) {
            return Ok(Ok(()));
        }
        let leaving = match admit(&held, &entry, CONTRIBUTOR_BYTES_MAX, BYTES_MAX) {
            Ok(leaving) => leaving,
            Err(error) => return Ok(Err(error)),
        };
        for gone in leaving {
            remove(&self.path(&gone))?;
            held.retain(|entry| *entry != gone);
        }
        let path = self.path(&entry);
        write_atomic(&path, json.as_bytes(), 0o600).with_context(|| format!("{}", path.display()))?;
        held.push(entry);
        Ok(Ok(()))
    }

    /// The report with a digest, if it is one of these.
    pub(super) async fn read(&self, digest: Hash32) -> anyhow::Result<Option<Vec<u8>>> {
        let held = self.held.lock().await;
        let Some(entry) = held.iter().find(|entry| entry.digest == digest) else { return Ok(None) };
        let path = self.path(entry);
        Ok(Some(read_bounded(&path, REPORT_BYTES_MAX).with_context(|| format!("{}", path.display()))?))
    }

    /// Hands over to `reports` what the chain has taken for good, and drops what it cannot take any more at block `tip`.
    pub(in crate::service) async fn prune(&self, finalized: &State, tip: u64) -> anyhow::Result<()> {
        let mut held = self.held.lock().await;
        let datanets: BTreeSet<AssetId> = held.iter().map(|entry| entry.datanet).collect();
        let taken: BTreeSet<Hash32> =
            datanets.into_iter().flat_map(|datanet| finalized.contributions(datanet)).map(|accepted| accepted.report).collect();
        for entry in held.clone() {
            let path = self.path(&entry);
            if taken.contains(&entry.digest) {
                let to = self.data.report(entry.digest);
                if let Some(parent) = to.parent() {
                    std::fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
                }
                match std::fs::rename(&path, &to) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(error).with_context(|| format!("{}", path.display()))?
                    }
                    _ => {}
                }
            } else if entry.block.saturating_add(EXPIRY_BLOCKS) < tip {
                remove(&path)?;
            } else {
                continue;
            }
            held.retain(|kept| *kept != entry);
        }
        Ok(())
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("{}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::{id::BlobId, time::BlockRef};

    use super::*;

    const NET: AssetId = AssetId(4);

    fn report(contributor: u8, documents: u32) -> Report {
        Report {
            accepted: true,
            contributor: Address([contributor; 20]),
            text_root: Hash32([7; 32]),
            text_bytes: 3,
            documents,
            refusals: vec![],
            unlisted: 0,
            notes: vec![],
            notes_unlisted: 0,
            approvals: vec![],
        }
    }

    /// The chain once it has a contribution with this report.
    fn state(report: Option<Hash32>) -> State {
        let mut state = State::default();
        if let Some(report) = report {
            let event = Event::Accepted {
                datanet: NET,
                number: 0,
                contributor: Address([1; 20]),
                text_root: Hash32([7; 32]),
                text_bytes: 3,
                documents: 1,
                block: 7,
                ordinal: 0,
                licence: Hash32::ZERO,
                object: BlobId([7; 32]),
                report,
            };
            let block = BlockRef { number: 8, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    #[tokio::test]
    async fn a_report_moves_when_the_chain_has_its_contribution_and_goes_when_its_commitment_is_void_also_after_a_restart() {
        let outer = tempfile::tempdir().unwrap();
        let data = DataDir::new(outer.path());
        let verdicts = Verdicts::open(data.clone()).unwrap();
        let (used, unused) = (report(1, 1), report(1, 2));
        for report in [&used, &unused, &used] {
            verdicts.keep(NET, 7, report).await.unwrap().unwrap();
        }
        assert_eq!(std::fs::read_dir(data.signed()).unwrap().count(), 2);
        let verdicts = Verdicts::open(data.clone()).unwrap();
        verdicts.prune(&state(None), 7 + EXPIRY_BLOCKS).await.unwrap();
        assert_eq!(verdicts.read(unused.digest()).await.unwrap().unwrap(), unused.to_json().into_bytes(), "its commitment still counts");
        verdicts.prune(&state(Some(used.digest())), 8).await.unwrap();
        assert_eq!(std::fs::read(data.report(used.digest())).unwrap(), used.to_json().into_bytes());
        assert_eq!(verdicts.read(used.digest()).await.unwrap(), None);
        verdicts.prune(&state(Some(used.digest())), 8 + EXPIRY_BLOCKS).await.unwrap();
        assert_eq!((verdicts.read(unused.digest()).await.unwrap(), std::fs::read_dir(data.signed()).unwrap().count()), (None, 0));
        assert!(data.report(used.digest()).exists());
    }

    #[test]
    fn a_contributor_is_stopped_at_its_budget_and_who_holds_most_makes_room_for_the_others() {
        let entry = |contributor: u8, number: u8, bytes: u64| Entry {
            block: number.into(),
            datanet: NET,
            contributor: Address([contributor; 20]),
            digest: Hash32([number; 32]),
            bytes,
        };
        let held = [entry(1, 1, 40), entry(1, 2, 40), entry(2, 3, 40)];
        assert_eq!(admit(&held, &entry(1, 9, 21), 100, 1000), Err(UnfinishedError { bytes: 80 }));
        assert_eq!(admit(&held, &entry(1, 9, 20), 100, 1000), Ok(vec![]));
        assert_eq!(admit(&held, &entry(3, 9, 60), 100, 150), Ok(vec![held[0]]), "the oldest of who holds most");
        assert_eq!(admit(&held, &entry(3, 9, 70), 100, 70), Ok(vec![held[0], held[2], held[1]]), "never what is to be kept");
    }
}
