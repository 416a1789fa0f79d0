//! Reports of contributions that were refused, for who brought them: by their contributor's signature the gate lists them, by its digest it shows one.
//!
//! One file each, newest [`REPORTS_MAX`] and [`BYTES_MAX`] of them; the oldest goes first. A report says what was found, masked, and holds no text of a private Datanet.

use std::{collections::VecDeque, path::PathBuf, time::SystemTime};

use anyhow::Context as _;
use storage::datanet::Report;
use tokio::sync::Mutex;
use types::id::{Address, AssetId, Hash32};

use super::REPORT_BYTES_MAX;
use crate::data::{read_bounded, write_atomic};

/// Most reports kept.
const REPORTS_MAX: usize = 4096;
/// Most bytes of them.
const BYTES_MAX: u64 = 256 << 20;
/// Most named to one contributor.
pub(super) const LISTED_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    datanet: AssetId,
    contributor: Address,
    digest: Hash32,
    bytes: u64,
}

/// Those of a gate, oldest first.
#[derive(Debug)]
pub(super) struct Refusals {
    folder: PathBuf,
    held: Mutex<VecDeque<Entry>>,
}

impl Entry {
    fn name(&self) -> String {
        format!("{}-{}-{}.json", self.datanet, hex::encode(self.contributor.0), hex::encode(self.digest.0))
    }

    fn named(name: &str, bytes: u64) -> Option<Self> {
        let mut parts = name.strip_suffix(".json")?.splitn(3, '-');
        let (datanet, contributor, digest) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let contributor = Address(hex::decode(contributor).ok()?.try_into().ok()?);
        let digest = Hash32(hex::decode(digest).ok()?.try_into().ok()?);
        Some(Self { datanet: AssetId(datanet), contributor, digest, bytes })
    }
}

impl Refusals {
    /// Those in a folder, which is made when there is one.
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        let mut found: Vec<(SystemTime, Entry)> = Vec::new();
        if folder.exists() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
                let entry = entry?;
                let facts = entry.metadata().with_context(|| format!("{}", entry.path().display()))?;
                let named = entry.file_name().to_str().and_then(|name| Entry::named(name, facts.len()));
                found.extend(named.map(|named| (facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), named)));
            }
        }
        found.sort_by_key(|(written, entry)| (*written, entry.digest));
        Ok(Self { folder, held: Mutex::new(found.into_iter().map(|(_, entry)| entry).collect()) })
    }

    /// Keeps a report.
    pub(super) async fn keep(&self, datanet: AssetId, report: &Report) -> anyhow::Result<()> {
        let json = report.to_json();
        let entry = Entry { datanet, contributor: report.contributor, digest: report.digest(), bytes: json.len() as u64 };
        let mut held = self.held.lock().await;
        held.retain(|known| (known.datanet, known.digest) != (datanet, entry.digest));
        let path = self.folder.join(entry.name());
        write_atomic(&path, json.as_bytes(), 0o600).with_context(|| format!("{}", path.display()))?;
        held.push_back(entry);
        let sum = |held: &VecDeque<Entry>| held.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.bytes));
        while held.len() > REPORTS_MAX || sum(&held) > BYTES_MAX {
            let Some(oldest) = held.pop_front() else { break };
            let path = self.folder.join(oldest.name());
            std::fs::remove_file(&path).with_context(|| format!("{}", path.display()))?;
        }
        Ok(())
    }

    /// Digests of a contributor's, newest first.
    pub(super) async fn of(&self, datanet: AssetId, contributor: Address) -> Vec<Hash32> {
        let held = self.held.lock().await;
        let own = held.iter().rev().filter(|entry| (entry.datanet, entry.contributor) == (datanet, contributor));
        own.take(LISTED_MAX).map(|entry| entry.digest).collect()
    }

    /// The report with a digest, if it is one of these.
    pub(super) async fn read(&self, digest: Hash32) -> anyhow::Result<Option<Vec<u8>>> {
        let held = self.held.lock().await;
        let Some(entry) = held.iter().find(|entry| entry.digest == digest) else { return Ok(None) };
        let path = self.folder.join(entry.name());
        Ok(Some(read_bounded(&path, REPORT_BYTES_MAX).with_context(|| format!("{}", path.display()))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u32) -> Report {
        Report {
            accepted: false,
            contributor: Address([1; 20]),
            text_root: Hash32::ZERO,
            text_bytes: 3,
            documents: number,
            refusals: vec![],
            unlisted: 0,
            notes: vec![],
            notes_unlisted: 0,
            approvals: vec![],
        }
    }

    #[tokio::test]
    async fn a_contributor_finds_its_refused_reports_after_a_restart_and_the_oldest_go_first() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("refusals");
        let (net, anna) = (AssetId(4), Address([1; 20]));
        let refusals = Refusals::open(folder.clone()).unwrap();
        for number in [1, 2, 1] {
            refusals.keep(net, &report(number)).await.unwrap();
        }
        let digests = [report(1).digest(), report(2).digest()];
        assert_eq!(refusals.of(net, anna).await, digests);
        let again = Refusals::open(folder.clone()).unwrap();
        assert_eq!(again.of(net, anna).await.len(), 2);
        assert_eq!(again.read(digests[1]).await.unwrap().unwrap(), report(2).to_json().into_bytes());
        assert_eq!(again.read(Hash32::ZERO).await.unwrap(), None);
        assert!(again.of(AssetId(5), anna).await.is_empty() && again.of(net, Address([2; 20])).await.is_empty());
        for number in 0..u32::try_from(REPORTS_MAX).unwrap() {
            again.keep(net, &report(10 + number)).await.unwrap();
        }
        assert_eq!(again.of(net, anna).await.len(), LISTED_MAX);
        assert_eq!(again.read(digests[1]).await.unwrap(), None, "the oldest have gone");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), REPORTS_MAX);
    }
}
