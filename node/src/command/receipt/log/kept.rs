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
        let read_back = paths.map(|path| Checkpoint::open(&std::fs::read(path).unwrap(), node).unwrap());
        assert_eq!(read_back, [before.clone(), now]);
        assert_eq!(read(&data, node).unwrap(), Some(before), "what was seen before stands");
    }
}
