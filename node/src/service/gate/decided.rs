//! What reviewers have rejected, without its text: enough to tell its contributor why, whenever it asks, and to know the text when it is brought again. What has its single rows known lies beside it ([`again`]).
//!
//! Apart from what waits, so that nothing that waits, and nobody who brings much, has a decision forgotten: [`CONTRIBUTOR_MAX`] of a contributor, its oldest first, and [`ALL_MAX`] in all, the oldest of
//! whoever has most first. One file of mode 0600 each, some 2 KiB, with no text of the contribution but what its report shows masked; 30 days, as long as a commitment counts.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use storage::datanet::review::{Case, Rejection, ReviewAct};
use types::{
    id::{Address, AssetId, Hash32},
    key::Signed,
};

use super::{again, shares::Key};
use crate::data::{read_bounded, write_atomic};

/// Most of one contributor.
const CONTRIBUTOR_MAX: usize = 64;
/// Most of all: 8 MiB.
const ALL_MAX: usize = 4096;
/// Largest file: a reason of a kilobyte, the first finding, signatures.
const BYTES_MAX: u64 = 64 << 10;
/// How its files end.
pub(super) const SUFFIX: &str = "decided";

/// A contribution that was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decided {
    pub(super) datanet: AssetId,
    pub(super) commitment: Hash32,
    pub(super) contributor: Address,
    pub(super) text_root: Hash32,
    pub(super) since: u64,
    pub(super) documents: u32,
    pub(super) text_bytes: u64,
    pub(super) findings: u32,
    /// The first of them, as the report words it.
    pub(super) first: String,
    /// Digest of the report.
    pub(super) report: Hash32,
    /// Who had approved it before.
    pub(super) approvals: Vec<Signed<ReviewAct>>,
    pub(super) rejection: Rejection,
}

/// How many findings a case has, and the first.
pub(super) fn findings(case: &Case) -> (u32, String) {
    let report = &case.report;
    let first = report.refusals.first().map_or_else(String::new, |first| {
        let place = if first.row == 0 { String::new() } else { format!("row {}: ", first.row) };
        format!("{place}{}: {}", first.rule.label(), first.detail)
    });
    (u32::try_from(report.refusals.len() + report.notes.len()).unwrap_or(u32::MAX), first)
}

impl Decided {
    /// What is kept of a case, if it was rejected.
    pub(super) fn of(case: &Case) -> Option<Self> {
        let (rejection, report, (findings, first)) = (case.rejection.clone()?, &case.report, findings(case));
        Some(Self {
            datanet: case.datanet,
            commitment: case.commitment,
            contributor: report.contributor,
            text_root: report.text_root,
            since: case.since,
            documents: report.documents,
            text_bytes: report.text_bytes,
            findings,
            first,
            report: report.digest(),
            approvals: case.approvals.clone(),
            rejection,
        })
    }

    pub(super) const fn key(&self) -> Key {
        (self.datanet, self.commitment)
    }

    /// What its contributor is told.
    pub(super) fn words(&self) -> String {
        let reason = if self.rejection.reason.is_empty() { "no reason" } else { self.rejection.reason.as_str() };
        format!("reviewer {} rejected it: {reason}", self.rejection.by)
    }

    fn path(folder: &Path, (datanet, commitment): Key, kind: &str) -> PathBuf {
        folder.join(format!("{datanet}-{}.{kind}", hex::encode(commitment.0)))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        Ok(serde_json::from_slice(&read_bounded(path, BYTES_MAX)?)?)
    }
}

/// Those of a gate.
#[derive(Debug, Default)]
pub(super) struct Decisions(BTreeMap<Key, Decided>);

impl Decisions {
    /// Takes in what a file holds.
    pub(super) fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        let decided = Decided::read(path)?;
        self.0.insert(decided.key(), decided);
        Ok(())
    }

    pub(super) fn get(&self, key: Key) -> Option<&Decided> {
        self.0.get(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Decided> {
        self.0.values()
    }

    /// Keeps one, on disk when this returns; what is beyond the bounds goes.
    pub(super) fn keep(&mut self, folder: &Path, decided: Decided) -> anyhow::Result<()> {
        let path = Decided::path(folder, decided.key(), SUFFIX);
        write_atomic(&path, &serde_json::to_vec(&decided)?, 0o600).with_context(|| format!("{}", path.display()))?;
        self.0.insert(decided.key(), decided);
        while let Some(over) = over(self.iter().map(|one| (one.key(), one.contributor, one.since)), CONTRIBUTOR_MAX, ALL_MAX) {
            self.remove(folder, over);
        }
        Ok(())
    }

    /// Drops those for which `is_over`.
    pub(super) fn prune(&mut self, folder: &Path, is_over: impl Fn(&Decided) -> bool) {
        let over: Vec<Key> = self.iter().filter(|one| is_over(one)).map(Decided::key).collect();
        over.into_iter().for_each(|key| self.remove(folder, key));
    }

    fn remove(&mut self, folder: &Path, key: Key) {
        self.0.remove(&key);
        remove(&Decided::path(folder, key, SUFFIX));
        remove(&Decided::path(folder, key, again::SUFFIX));
    }

    /// Has at most so many bytes of the rows of what was rejected known; the decisions stay.
    pub(super) fn bound_rows(&self, folder: &Path, most: u64) -> anyhow::Result<()> {
        let mut all = Vec::new();
        for one in self.iter() {
            let path = Decided::path(folder, one.key(), again::SUFFIX);
            match std::fs::metadata(&path) {
                Ok(facts) => all.push((one.key(), one.contributor, one.since, facts.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
            }
        }
        while let Some(gone) = again::over(&all, most) {
            remove(&Decided::path(folder, gone, again::SUFFIX));
            all.retain(|(key, ..)| *key != gone);
        }
        Ok(())
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a decision, or its rows, are left on the disk");
        }
        _ => {}
    }
}

/// The next to go: the oldest of a contributor that has more than its share, else of the one that has most if all are too many.
fn over(all: impl Iterator<Item = (Key, Address, u64)>, of_one: usize, of_all: usize) -> Option<Key> {
    let mut by_contributor = BTreeMap::<Address, Vec<(u64, Key)>>::new();
    all.for_each(|(key, contributor, since)| by_contributor.entry(contributor).or_default().push((since, key)));
    let sum: usize = by_contributor.values().map(Vec::len).sum();
    let most = by_contributor.into_values().max_by_key(Vec::len)?;
    (most.len() > of_one || sum > of_all).then(|| most.into_iter().min().map(|(_, key)| key)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_decision_of_who_has_most_is_forgotten_first_and_others_keep_theirs() {
        let key = |number: u8| (AssetId(4), Hash32([number; 32]));
        let one = |number: u8, contributor: u8| (key(number), Address([contributor; 20]), u64::from(number));
        let all = [one(1, 7), one(5, 8), one(3, 8), one(4, 8)];
        assert_eq!(over(all.into_iter(), 3, 4), None);
        assert_eq!(over(all.into_iter(), 2, 4), Some(key(3)), "a share of two");
        assert_eq!(over(all.into_iter(), 9, 3), Some(key(3)), "room for three");
        assert_eq!(over([one(1, 7), one(2, 8)].into_iter(), 9, 1).map(|(net, _)| net), Some(AssetId(4)));
    }
}
