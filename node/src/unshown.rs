//! Evidence of a failed audit that a slash case can be opened with: the node's commitment, a fragment that it lists, and the range of it that the node did not show.
//!
//! Auditors keep it as `unshown` in the files of their folder `evidence`, `audit-<epoch>-<node>.json` and `audit-rent-<epoch>-<node>.json`. Nothing here convicts by itself: the chain asks the
//! node for a leaf of that range again, and only silence does.

use std::{fs, io, path::Path};

use anyhow::{Context as _, ensure};
use chain_bridge::{
    case::{PART_BYTES, Question, parts_of},
    registry::State,
};
use serde::{Deserialize, Serialize};
use storage::proto::audit::RANGE_BYTES;
use types::{
    audit::{AuditCommit, HeldFragment},
    id::{Address, AssetId},
    key::Signed,
    merkle::Opening,
};

use crate::data::read_bounded;

/// Largest file read: an answer of 20 ranges in hex, and what is beside it.
pub(crate) const FILE_MAX: u64 = 2 << 20;
/// Most files looked at in a folder.
const FILES_MAX: usize = 1_024;

/// What a node signed for and did not show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unshown {
    /// What it committed to.
    pub commit: Signed<AuditCommit>,
    /// The fragment.
    pub held: HeldFragment,
    /// Its way to the root of holdings in the commitment.
    pub opening: Opening,
    /// Which range of 16 KiB of it.
    pub range: u32,
}

/// A file of evidence, as far as a case needs it.
#[derive(Debug, Deserialize)]
struct Evidence {
    #[serde(default)]
    unshown: Option<Unshown>,
}

impl Unshown {
    /// The evidence in a file.
    ///
    /// # Errors
    /// The file, if it cannot be read or holds none.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = || path.display().to_string();
        let bytes = read_bounded(path, FILE_MAX).with_context(shown)?;
        let evidence: Evidence =
            serde_json::from_slice(&bytes).with_context(|| format!("{}: expected evidence of a failed audit", shown()))?;
        evidence.unshown.with_context(|| {
            format!(
                "{}: this audit does not tell which bytes the node lacks, so there is nothing to ask for: its answer was none at all",
                shown()
            )
        })
    }

    /// The leaves of 1 KiB of the fragment that make up the range.
    pub fn parts(&self) -> std::ops::Range<u32> {
        let of_range = u32::try_from(RANGE_BYTES / PART_BYTES as u64).expect("a range has few leaves");
        let all = parts_of(self.held.bytes);
        let first = self.range.saturating_mul(of_range).min(all);
        first..first.saturating_add(of_range).min(all)
    }

    /// The question to put: for leaf `part` of the fragment, or one of the range by `draw`; by a living contribution that names the object.
    ///
    /// # Errors
    /// That no contribution names it any more, or that the fragment has no such leaf.
    pub fn question(&self, state: &State, part: Option<u32>, draw: u32) -> anyhow::Result<Question> {
        let HeldFragment { object, fragment, bytes, .. } = self.held;
        let named = self.named(state);
        let contribution = named.with_context(|| {
            format!("no contribution names object {object} any more: what was erased on request is asked for by nobody")
        })?;
        let parts = self.parts();
        let part = match part {
            Some(part) => part,
            None => {
                ensure!(!parts.is_empty(), "fragment {fragment} of object {object} has {bytes} bytes, and no range {}", self.range);
                parts.start + draw % (parts.end - parts.start)
            }
        };
        let most = parts_of(bytes);
        ensure!(part < most, "fragment {fragment} of object {object} has leaves 0 to {}, {part} is none of them", most.saturating_sub(1));
        let (commit, held, opening) = (self.commit.clone(), self.held, self.opening.clone());
        Ok(Question { commit, held, opening, contribution, part })
    }

    /// The first living contribution that names the object.
    fn named(&self, state: &State) -> Option<(AssetId, u32)> {
        let mut assets = state.assets();
        assets.find_map(|asset| {
            let accepted = state.live_contributions(asset.id).find(|accepted| accepted.object == self.held.object)?;
            Some((asset.id, u32::try_from(accepted.number).ok()?))
        })
    }
}

/// The latest evidence against a node in a folder, by the block of its commitment; nothing if there is none. Files that hold no such evidence are passed over.
///
/// # Errors
/// The folder's.
pub fn latest_of(folder: &Path, node: Address) -> anyhow::Result<Option<Unshown>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    let (end, mut latest) = (format!("-{node}.json"), None::<Unshown>);
    for entry in entries.take(FILES_MAX) {
        let path = entry?.path();
        let is_of = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("audit-") && name.ends_with(&end));
        let Ok(found) = (if is_of { Unshown::read(&path) } else { continue }) else { continue };
        let is_about = found.commit.document.node == node;
        if is_about && latest.as_ref().is_none_or(|known| known.commit.document.block < found.commit.document.block) {
            latest = Some(found);
        }
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use types::{
        id::{BlobId, Hash32},
        key::Signed65,
        merkle::Tree,
    };

    use super::*;

    fn unshown(node: u8, block: u64, bytes: u32, range: u32) -> Unshown {
        let held = HeldFragment { object: BlobId([3; 32]), fragment: 1, fragments: 5, bytes, root: Hash32([4; 32]) };
        let tree = Tree::over([held.leaf().as_slice()]);
        let document = AuditCommit { node: Address([node; 20]), epoch: 1, holdings: tree.root(), ranges: 9, block };
        let opening = Opening { leaves: 1, byte_length: 70, index: 0, siblings: vec![] };
        Unshown { commit: Signed { document, signature: Signed65([1; 65]) }, held, opening, range }
    }

    fn write(folder: &Path, name: &str, unshown: Option<&Unshown>) {
        let text = serde_json::json!({ "fault": "words", "unshown": unshown });
        fs::write(folder.join(name), text.to_string()).unwrap();
    }

    #[test]
    fn a_range_is_sixteen_leaves_and_the_last_one_what_is_left() {
        let parts = |bytes, range| unshown(1, 1, bytes, range).parts();
        assert_eq!((parts(40_000, 0), parts(40_000, 2), parts(40_000, 3)), (0..16, 32..40, 40..40));
        assert_eq!((parts(1, 0), parts(16 << 10, 0), parts(u32::MAX, u32::MAX).is_empty()), (0..1, 0..16, true));
    }

    #[test]
    fn the_latest_evidence_against_a_node_counts_and_what_is_none_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (path, node) = (folder.path(), Address([1; 20]));
        assert_eq!(latest_of(&path.join("none"), node).unwrap(), None);
        for (epoch, block) in [(3, 30), (5, 50), (4, 40)] {
            write(path, &format!("audit-{epoch}-{node}.json"), Some(&unshown(1, block, 9, 0)));
        }
        write(path, &format!("audit-9-{node}.json"), None);
        write(path, &format!("audit-8-{node}.json"), Some(&unshown(2, 80, 9, 0)));
        write(path, &format!("slash-{node}.json"), Some(&unshown(1, 90, 9, 0)));
        fs::write(path.join(format!("audit-7-{node}.json")), b"{").unwrap();
        assert_eq!(latest_of(path, node).unwrap().unwrap().commit.document.block, 50);
        assert_eq!(latest_of(path, Address([2; 20])).unwrap(), None, "a file's name alone is nothing");
        let error = Unshown::read(&path.join(format!("audit-9-{node}.json"))).unwrap_err().to_string();
        assert!(error.contains("nothing to ask for"), "{error}");
        let error = Unshown::read(&path.join(format!("audit-7-{node}.json"))).unwrap_err().to_string();
        assert!(error.contains("expected evidence of a failed audit"), "{error}");
    }

    #[test]
    fn nothing_is_asked_for_that_no_contribution_names() {
        let error = unshown(1, 1, 40_000, 0).question(&State::default(), None, 0).unwrap_err().to_string();
        assert!(error.contains("no contribution names object"), "{error}");
    }
}
