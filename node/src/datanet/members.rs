//! Whom the owner of a Datanet lets contribute: a list in the folder of the node that is its gate.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use types::id::{Address, AssetId};

use crate::data::{DataDir, read_bounded, write_atomic};

/// Most listed contributors of a Datanet.
pub const LISTED_MAX: usize = 10_000;
/// Largest list: 45 bytes an account.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// The listed contributors; nobody if there is no list.
///
/// # Errors
/// That the list cannot be read: nobody is let in by mistake.
pub fn contributors(data: &DataDir, datanet: AssetId) -> anyhow::Result<BTreeSet<Address>> {
    let path = data.contributors(datanet);
    if !data.has(&path)? {
        return Ok(BTreeSet::new());
    }
    let bytes = read_bounded(&path, LIST_BYTES_MAX).with_context(|| format!("{}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: must be a list of accounts", path.display()))
}

/// Lists a contributor, or no longer; returns whether that changed anything.
///
/// # Errors
/// That the list is full or cannot be written.
pub fn set_contributor(data: &DataDir, datanet: AssetId, contributor: Address, is_listed: bool) -> anyhow::Result<bool> {
    let mut all = contributors(data, datanet)?;
    let is_changed = if is_listed { all.insert(contributor) } else { all.remove(&contributor) };
    ensure!(all.len() <= LISTED_MAX, "{LISTED_MAX} contributors are listed already: remove one first");
    if is_changed {
        let path = data.contributors(datanet);
        write_atomic(&path, &serde_json::to_vec(&all)?, 0o600).with_context(|| format!("{}", path.display()))?;
    }
    Ok(is_changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_and_a_damaged_one_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let (data, net, anna) = (DataDir::new(folder.path()), AssetId(3), Address([7; 20]));
        assert!(contributors(&data, net).unwrap().is_empty());
        assert!(set_contributor(&data, net, anna, true).unwrap());
        assert!(!set_contributor(&data, net, anna, true).unwrap());
        assert!(contributors(&data, net).unwrap().contains(&anna) && contributors(&data, AssetId(4)).unwrap().is_empty());
        assert!(set_contributor(&data, net, anna, false).unwrap());
        assert!(contributors(&data, net).unwrap().is_empty());
        std::fs::write(data.contributors(net), b"[1").unwrap();
        assert!(contributors(&data, net).is_err());
    }
}
