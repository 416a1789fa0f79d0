//! The heads that this machine has seen of others' logs: the newest one of each, and the two of a fork.

use std::path::PathBuf;

use anyhow::Context as _;
use attribution::log::{checkpoint::Checkpoint, note::NOTE_BYTES_MAX};
use types::id::NodeId;

use crate::data::{DataDir, read_bounded, write_atomic};

fn path(data: &DataDir, node: NodeId) -> PathBuf {
    data.logs().join(format!("{node}.checkpoint"))
}

/// The head seen last of a node's log; nothing if none was.
pub(super) fn read(data: &DataDir, node: NodeId) -> anyhow::Result<Option<Checkpoint>> {
    let path = path(data, node);
    if !data.has(&path)? {
        return Ok(None);
    }
    let bytes = read_bounded(&path, NOTE_BYTES_MAX as u64).with_context(|| format!("{}: cannot be read", path.display()))?;
    let damaged =
        || format!("{}: it is no head that this node signed: remove it to begin anew, which forgets what was seen", path.display());
    Checkpoint::open(&bytes, node).with_context(damaged).map(Some)
}

/// Keeps a head that goes on from the one of before.
pub(super) fn keep(data: &DataDir, node: NodeId, checkpoint: &Checkpoint) -> anyhow::Result<()> {
    let path = path(data, node);
    data.create()?;
    write_atomic(&path, checkpoint.note.to_string().as_bytes(), 0o644).with_context(|| format!("{}: cannot be written", path.display()))
}

/// Keeps a head that forks from the one of before, beside it: both are signed, and together convict the log. Where it lies.
pub(super) fn keep_fork(data: &DataDir, node: NodeId, checkpoint: &Checkpoint) -> anyhow::Result<PathBuf> {
    let root = hex::encode(&checkpoint.head.root.0[..4]);
    let path = data.logs().join(format!("{node}.fork-{}-{root}.checkpoint", checkpoint.head.size));
    write_atomic(&path, checkpoint.note.to_string().as_bytes(), 0o644).with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(path)
}
