//! What is left of a run that broke off: the commitment's salt, the accepted shard, and how the same command finds them again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use chain_bridge::registry::{State, state::Accepted};
use serde::{Deserialize, Serialize};
use storage::{
    datanet::{Document, shard},
    erasure::{self, Encoded, Profile},
};
use types::id::{Address, AssetId, Hash32};

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

/// The wallet's own shards that the chain has accepted, or that were committed to: read once for all shards of a command.
pub(super) struct Unfinished<'s> {
    /// By text root.
    accepted: BTreeMap<Hash32, &'s Accepted>,
    /// By the text root of the shard as it was cut: the plain root of a record, and the root it was committed to under.
    records: BTreeMap<Hash32, Vec<(Hash32, Hash32)>>,
}

impl<'s> Unfinished<'s> {
    /// Those of a Datanet.
    pub(super) fn read(data: &DataDir, state: &'s State, datanet: AssetId, me: Address) -> anyhow::Result<Self> {
        let mut accepted = BTreeMap::new();
        for mine in state.contributions(datanet).filter(|accepted| accepted.contributor == me) {
            // Of one text several may be there: the first counts.
            accepted.entry(mine.text_root).or_insert(mine);
        }
        let mut records: BTreeMap<Hash32, Vec<_>> = BTreeMap::new();
        let folder = data.pending();
        if folder.exists() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
                let path = entry?.path();
                // One of another Datanet is read with that one: damaged, it stands in nobody else's way.
                if is_of(&path, datanet) {
                    let pending = read_pending(&path)?;
                    if pending.datanet == datanet {
                        let roots = (pending.text_root, pending.registered.unwrap_or(pending.text_root));
                        records.entry(pending.file_root).or_default().push(roots);
                    }
                }
            }
        }
        Ok(Self { accepted, records })
    }

    /// The accepted contribution of a shard: of all its rows, or of those an earlier run was left with.
    pub(super) fn of(&self, file_root: Hash32) -> Option<&'s Accepted> {
        let records = self.records.get(&file_root).into_iter().flatten().map(|(_, registered)| registered);
        std::iter::once(&file_root).chain(records).find_map(|root| self.accepted.get(root).copied())
    }

    /// The records of a shard, by plain root.
    pub(super) fn records(&self, file_root: Hash32) -> Vec<Hash32> {
        self.records.get(&file_root).into_iter().flatten().map(|(plain, _)| *plain).collect()
    }
}

/// Whether a record is of a Datanet, by the name that [`pending_path`] gives it.
fn is_of(path: &Path, datanet: AssetId) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
    name.and_then(|name| name.strip_prefix(&format!("{datanet}-"))).is_some()
}

pub(super) fn read_pending(path: &Path) -> anyhow::Result<Pending> {
    let bytes = read_bounded(path, PENDING_BYTES_MAX)?;
    serde_json::from_slice(&bytes).with_context(|| {
        format!("{}: damaged; it keeps the salt of a commitment: put back a copy, or remove it to commit anew", path.display())
    })
}

/// The fragments of an accepted contribution: its shard as kept when it was accepted, or as `file` gives it, in the code it was cut by. Blocks.
pub(super) fn same_object(
    data: &DataDir,
    accepted: &Accepted,
    file: impl FnOnce() -> anyhow::Result<Vec<Document>>,
) -> anyhow::Result<Encoded> {
    let path = data.shard(accepted.text_root);
    if path.exists()
        && let Some(encoded) = in_some_code(&read_bounded(&path, erasure::OBJECT_BYTES_MAX as u64)?, accepted)?
    {
        return Ok(encoded);
    }
    // Another version may have compressed it otherwise, or not at all.
    let documents = file()?;
    for encode in [shard::encode, shard::encode_plain] {
        if let Some(encoded) = in_some_code(&encode(&documents)?, accepted)? {
            return Ok(encoded);
        }
    }
    bail!(
        "the file has the accepted texts but other titles or ids, and the accepted shard is not in {}: use the file that was contributed",
        data.path().display()
    )
}

fn in_some_code(bytes: &[u8], accepted: &Accepted) -> anyhow::Result<Option<Encoded>> {
    for profile in Profile::all() {
        let encoded = erasure::encode(bytes, accepted.text_root, profile)?;
        if encoded.manifest.id() == accepted.object {
            return Ok(Some(encoded));
        }
    }
    Ok(None)
}

pub(super) fn pending_path(data: &DataDir, datanet: AssetId, root: Hash32) -> PathBuf {
    data.pending().join(format!("{datanet}-{}.json", hex::encode(root.0)))
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
