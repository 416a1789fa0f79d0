//! What is left of a run that broke off: the commitment's salt, the accepted shard, and how the same command finds them again.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chain_bridge::registry::{State, state::Accepted};
use serde::{Deserialize, Serialize};
use storage::{
    datanet::shard,
    erasure::{self, Encoded, Profile},
};
use types::{
    contribution::commitment,
    id::{Address, AssetId, Hash32},
};

use super::Rows;
use crate::data::{DataDir, read_bounded};

/// Largest record of a contribution under way.
const PENDING_BYTES_MAX: u64 = 4 << 10;

/// A commitment whose contribution is not finished.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    pub(super) datanet: AssetId,
    pub(super) text_root: Hash32,
    pub(super) salt: Hash32,
    /// Text root of the shard as it was cut from its files: another one if the gate refused rows.
    pub(super) file_root: Hash32,
    /// Salt of the text's leaves, if the Datanet is private.
    #[serde(default)]
    pub(super) text_salt: Option<Hash32>,
    /// The root that is committed to: the salted one, if the Datanet is private.
    #[serde(default)]
    pub(super) registered: Option<Hash32>,
}

/// The wallet's own accepted contribution of this shard: of all its rows, or of those an earlier run was left with.
pub(super) fn unfinished<'s>(
    data: &DataDir,
    state: &'s State,
    datanet: AssetId,
    me: Address,
    file_root: Hash32,
) -> anyhow::Result<Option<&'s Accepted>> {
    let mut roots = vec![file_root];
    let folder = pending_folder(data);
    if folder.exists() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                roots.extend(
                    Some(read_pending(&path)?)
                        .filter(|pending| pending.datanet == datanet && pending.file_root == file_root)
                        .map(|pending| pending.registered.unwrap_or(pending.text_root)),
                );
            }
        }
    }
    let mine = |root: &Hash32| state.contributions(datanet).find(|accepted| accepted.text_root == *root && accepted.contributor == me);
    Ok(roots.iter().find_map(mine))
}

pub(super) fn read_pending(path: &Path) -> anyhow::Result<Pending> {
    let bytes = read_bounded(path, PENDING_BYTES_MAX)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: damaged; remove it to commit anew", path.display()))
}

/// Where the commitment of an earlier run to this text stands, if there was one.
pub(super) fn committed_before(
    data: &DataDir,
    state: &State,
    (datanet, me): (AssetId, Address),
    (plain, registered): (Hash32, Hash32),
) -> anyhow::Result<Option<(u64, u32)>> {
    let path = pending_path(data, datanet, plain);
    if !path.exists() {
        return Ok(None);
    }
    Ok(state.commitment(commitment(read_pending(&path)?.salt, registered, me), me))
}

/// The fragments of an accepted contribution: its shard as kept when it was accepted, or as the file gives it, in the code it was cut by.
pub(super) fn same_object(data: &DataDir, accepted: &Accepted, rows: &Rows) -> anyhow::Result<Encoded> {
    let path = data.shard(accepted.text_root);
    let kept = if path.exists() { Some(read_bounded(&path, erasure::OBJECT_BYTES_MAX as u64)?) } else { None };
    // Another version may have compressed it otherwise, or not at all.
    let (fresh, plain) = (shard::encode(&rows.documents)?, shard::encode_plain(&rows.documents)?);
    for bytes in kept.iter().chain([&fresh, &plain]) {
        for (least, total) in [(3, 5), (4, 12), (10, 30), (16, 48)] {
            let encoded = erasure::encode(bytes, accepted.text_root, Profile::new(least, total)?)?;
            if encoded.manifest.id() == accepted.object {
                return Ok(encoded);
            }
        }
    }
    bail!(
        "the file has the accepted texts but other titles or ids, and the accepted shard is not in {}: use the file that was contributed",
        data.path().display()
    )
}

fn pending_folder(data: &DataDir) -> PathBuf {
    data.path().join("pending")
}

pub(super) fn pending_path(data: &DataDir, datanet: AssetId, root: Hash32) -> PathBuf {
    pending_folder(data).join(format!("{datanet}-{}.json", hex::encode(root.0)))
}

/// The record has served; one that stays only makes a later run look at an old commitment first.
pub(super) fn forget(data: &DataDir, datanet: AssetId, root: Hash32) {
    let path: &Path = &pending_path(data, datanet, root);
    if path.exists()
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(path = %path.display(), %error, "a finished record is left");
    }
}
