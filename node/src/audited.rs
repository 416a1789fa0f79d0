//! Audits that a node passed, in its data folder: what `tributary claim --rent` shows to the chain.
//!
//! One file for each epoch in `audits/`, `<epoch>.json`, written whole by whoever serves audits once two verdicts are there: the holdings that were audited, in the order of
//! their tree, and every verdict that came. Which two of them count is decided here, against the draw. 5,000 fragments are about 1 MB.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use types::{
    audit::{AuditVerdict, HeldFragment, Verdict},
    id::Address,
    key::{Domains, Signed},
};

use crate::data::{read_bounded, write_atomic};

/// Largest file read: 60,000 fragments.
const FILE_MAX: u64 = 16 << 20;
/// Most epochs read, the latest first: no claim reaches further back.
const EPOCHS_MAX: usize = 91;
/// Most verdicts in a file: three auditors, and what else came.
const VERDICTS_MAX: usize = 64;

/// One epoch's audit of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audited {
    /// The epoch.
    pub epoch: u64,
    /// What the node held, in the order of the tree.
    pub holdings: Vec<HeldFragment>,
    /// Verdicts about it.
    pub verdicts: Vec<Signed<AuditVerdict>>,
}

impl Audited {
    /// Two verdicts `passed` of one walk, each by another of the drawn auditors and signed by it; nothing if there are none.
    pub fn passed(&self, node: Address, drawn: &[Address], domains: &Domains) -> Option<[Signed<AuditVerdict>; 2]> {
        let counts = |seen: &&Signed<AuditVerdict>| {
            let AuditVerdict { auditor, node: about, epoch, verdict, .. } = seen.document;
            let is_about = (about, epoch, verdict) == (node, self.epoch, Verdict::Passed);
            is_about && drawn.contains(&auditor) && seen.verify(domains, auditor).is_ok()
        };
        let seen: Vec<_> = self.verdicts.iter().take(VERDICTS_MAX).filter(counts).collect();
        let walk = |seen: &Signed<AuditVerdict>| (seen.document.holdings, seen.document.nonce);
        seen.iter().enumerate().find_map(|(number, first)| {
            let other = |second: &&&Signed<AuditVerdict>| walk(second) == walk(first) && second.document.auditor != first.document.auditor;
            seen[number + 1..].iter().find(other).map(|second| [(*first).clone(), (*second).clone()])
        })
    }

    /// Writes the epoch's file, whole or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_atomic(&folder.join(format!("{}.json", self.epoch)), &text, 0o600)
    }
}

/// The audits of the last epochs in a folder, by epoch; none if there is no folder.
///
/// # Errors
/// The file that cannot be read, or is none of these.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Audited>> {
    let mut epochs = epochs(folder).with_context(|| format!("{}: expected a folder of audits", folder.display()))?;
    epochs.sort_unstable();
    let latest = epochs.len().saturating_sub(EPOCHS_MAX);
    let mut audits = Vec::new();
    for epoch in &epochs[latest..] {
        let path = folder.join(format!("{epoch}.json"));
        let bytes = read_bounded(&path, FILE_MAX)?;
        let audited: Audited = serde_json::from_slice(&bytes).with_context(|| format!("{}: expected an audit", path.display()))?;
        anyhow::ensure!(audited.epoch == *epoch, "{}: it is the audit of epoch {}, not of its name's", path.display(), audited.epoch);
        audits.push(audited);
    }
    Ok(audits)
}

/// Removes the files of epochs that are too old to be claimed, those of more than the latest 91.
///
/// # Errors
/// The disk's.
pub fn prune(folder: &Path) -> io::Result<()> {
    let mut epochs = epochs(folder)?;
    epochs.sort_unstable();
    let surplus = epochs.len().saturating_sub(EPOCHS_MAX);
    epochs[..surplus].iter().try_for_each(|epoch| remove(folder, *epoch))
}

/// Removes an epoch's file, if there is one.
///
/// # Errors
/// The disk's.
pub fn remove(folder: &Path, epoch: u64) -> io::Result<()> {
    match fs::remove_file(folder.join(format!("{epoch}.json"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Epochs with a file, in no order; none if there is no folder.
fn epochs(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut epochs = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        // Beside them may lie what a write left that was cut off.
        epochs.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(epochs)
}

#[cfg(test)]
mod tests {
    use types::{
        id::{BlobId, Hash32},
        key::Account,
    };

    use super::*;

    fn domains() -> Domains {
        let at = Address([9; 20]);
        Domains { chain_id: 1, escrow: at, registry: at, settlement: at, stake: at }
    }

    fn account(byte: u8) -> Account {
        Account::from_bytes(&[byte; 32]).unwrap()
    }

    fn seen(by: u8, verdict: Verdict, nonce: u8) -> Signed<AuditVerdict> {
        let document = AuditVerdict {
            auditor: account(by).address(),
            node: Address([7; 20]),
            epoch: 5,
            holdings: Hash32([1; 32]),
            nonce: Hash32([nonce; 32]),
            verdict,
            right: 20,
            digest: Hash32([2; 32]),
            round_trip_us: 1,
            elapsed_us: 2,
        };
        Signed::new(&account(by), &domains(), document)
    }

    fn audited(verdicts: Vec<Signed<AuditVerdict>>) -> Audited {
        let held = HeldFragment { object: BlobId([3; 32]), fragment: 1, fragments: 5, bytes: 9, root: Hash32([4; 32]) };
        Audited { epoch: 5, holdings: vec![held], verdicts }
    }

    #[test]
    fn two_drawn_auditors_of_one_walk_count_and_nobody_else() {
        use Verdict::{Late, Passed};
        let drawn = [1, 2, 3].map(|byte| account(byte).address());
        let found = |verdicts: Vec<Signed<AuditVerdict>>| {
            let two = audited(verdicts).passed(Address([7; 20]), &drawn, &domains());
            two.map(|two| two.map(|seen| drawn.iter().position(|auditor| *auditor == seen.document.auditor).unwrap() + 1))
        };
        assert_eq!(found(vec![seen(1, Passed, 0), seen(3, Passed, 0)]), Some([1, 3]));
        assert_eq!(found(vec![seen(1, Passed, 9), seen(2, Late, 0), seen(3, Passed, 0), seen(2, Passed, 0)]), Some([3, 2]));
        assert_eq!(found(vec![seen(1, Passed, 0), seen(1, Passed, 0)]), None, "one voice");
        assert_eq!(found(vec![seen(1, Passed, 0), seen(4, Passed, 0)]), None, "not drawn");
        assert_eq!(found(vec![seen(1, Passed, 0), seen(2, Passed, 1)]), None, "another walk");
        let forged = Signed { signature: seen(1, Passed, 0).signature, ..seen(2, Passed, 0) };
        assert_eq!(found(vec![seen(1, Passed, 0), forged]), None, "not signed");
        let two = audited(vec![seen(1, Passed, 0), seen(2, Passed, 0)]);
        assert_eq!(two.passed(Address([8; 20]), &drawn, &domains()), None, "another node");
        assert_eq!(Audited { epoch: 6, ..two }.passed(Address([7; 20]), &drawn, &domains()), None, "another epoch");
    }

    #[test]
    fn what_was_written_is_read_by_epoch_and_what_is_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audits");
        assert_eq!(read(&path).unwrap(), vec![]);
        for epoch in [12, 5, 7] {
            Audited { epoch, ..audited(vec![seen(1, Verdict::Passed, 0)]) }.write(&path).unwrap();
        }
        fs::write(path.join("7.json.123.new"), b"half").unwrap();
        let epochs: Vec<_> = read(&path).unwrap().iter().map(|audited| audited.epoch).collect();
        assert_eq!(epochs, [5, 7, 12]);
        for epoch in 100..100 + 89 {
            fs::write(path.join(format!("{epoch}.json")), b"").unwrap();
        }
        prune(&path).unwrap();
        assert_eq!((path.join("5.json").exists(), path.join("7.json").exists()), (false, true), "the oldest of 92");
        (100..100 + 90).for_each(|epoch| remove(&path, epoch).unwrap());
        Audited { epoch: 5, ..audited(vec![]) }.write(&path).unwrap();
        fs::copy(path.join("5.json"), path.join("6.json")).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("epoch 5"));
        fs::write(path.join("6.json"), b"{}").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("6.json: expected an audit"));
    }
}
