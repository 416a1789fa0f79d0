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

/// Keeps two heads that no log can both have: both are signed, and together convict the log. Where they lie, the earlier one first.
pub(super) fn keep_fork(data: &DataDir, node: NodeId, before: &Checkpoint, now: &Checkpoint) -> anyhow::Result<[PathBuf; 2]> {
    let keep = |checkpoint: &Checkpoint| {
        let root = hex::encode(&checkpoint.head.root.0[..4]);
        let path = data.logs().join(format!("{node}.fork-{}-{root}.checkpoint", checkpoint.head.size));
        let written = write_atomic(&path, checkpoint.note.to_string().as_bytes(), 0o644);
        written.with_context(|| format!("{}: cannot be written", path.display())).map(|()| path)
    };
    Ok([keep(before)?, keep(now)?])
}

#[cfg(test)]
mod tests {
    use attribution::log::{
        Head, LogHash,
        checkpoint::sign,
        note::{Role, Signer},
    };

    use super::*;

    #[test]
    fn both_heads_of_a_fork_are_kept_and_each_is_the_nodes_own_word() {
        let folder = tempfile::tempdir().unwrap();
        let (data, signer) = (DataDir::new(folder.path()), Signer::new(Role::Log, &[7; 32]));
        let node = signer.key().node();
        let [before, now] = [1, 2].map(|root| sign(&signer, Head { size: 9, root: LogHash([root; 32]) }));
        keep(&data, node, &before).unwrap();
        let paths = keep_fork(&data, node, &before, &now).unwrap();
        let read_back = paths.map(|path| Checkpoint::open(&fs::read(path).unwrap(), node).unwrap());
        assert_eq!(read_back, [before.clone(), now]);
        assert_eq!(read(&data, node).unwrap(), Some(before), "what was seen before stands");
    }

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
