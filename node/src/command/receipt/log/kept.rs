//! The heads that this machine has seen of others' logs: the newest one of each, and the two of a fork.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use attribution::log::{checkpoint::Checkpoint, note::NOTE_BYTES_MAX};
use types::id::NodeId;

use crate::data::{DataDir, read_bounded, write_atomic};

fn path(data: &DataDir, node: NodeId) -> PathBuf {
    data.logs().join(format!("{node}.checkpoint"))
}

/// One command at a time follows a log: two that went on from one head could each see another fork, and keep but one of them.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Takes the turn to follow a node's log, from what is read of it to what is kept.
pub(super) fn turn(data: &DataDir, node: NodeId) -> anyhow::Result<Turn> {
    data.create()?;
    let path = data.logs().join(format!("{node}.turn"));
    let named = || format!("{}: cannot be written", path.display());
    fs::create_dir_all(data.logs()).with_context(named)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).with_context(named)?;
    match file.try_lock() {
        Ok(()) => Ok(Turn(file)),
        Err(TryLockError::WouldBlock) => {
            bail!("another command follows the log of node {node} with this data folder: run this one when it has ended")
        }
        Err(TryLockError::Error(error)) => Err(anyhow::Error::new(error).context(named())),
    }
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
    write_atomic(&path, checkpoint.note.to_string().as_bytes(), 0o644).with_context(|| format!("{}: cannot be written", path.display()))
}

/// Keeps a head that forks from the one of before, beside it: both are signed, and together convict the log. Where it lies.
pub(super) fn keep_fork(data: &DataDir, node: NodeId, checkpoint: &Checkpoint) -> anyhow::Result<PathBuf> {
    let root = hex::encode(&checkpoint.head.root.0[..4]);
    let path = data.logs().join(format!("{node}.fork-{}-{root}.checkpoint", checkpoint.head.size));
    write_atomic(&path, checkpoint.note.to_string().as_bytes(), 0o644).with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_followed_by_one_command_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let (data, one, other) = (DataDir::new(place.path().join("data")), NodeId([1; 32]), NodeId([2; 32]));
        let first = turn(&data, one).unwrap();
        let refused = turn(&data, one).unwrap_err().to_string();
        assert!(refused.contains("another command follows"), "{refused}");
        turn(&data, other).unwrap();
        drop(first);
        turn(&data, one).unwrap();
        assert_eq!(read(&data, one).unwrap(), None, "nothing was seen yet");
    }
}
