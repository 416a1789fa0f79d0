//! The last finalized block that this folder knows, on disk: what was final stays so, also over a restart, or nobody's money is moved.
//!
//! Written by the node and by commands as the finalized block advances; a block of 32 bytes and a number, at most every few seconds. Whoever opens the
//! chain looks for that block first. A chain that has another one there is not the one that was counted by: an endpoint of another chain, or a
//! chain whose finality broke. [`Alarm`] says so; a person acknowledges by `tributary chain accept-finalized`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use chain_bridge::{deploy::Deployment, finality::Changed};
use serde::{Deserialize, Serialize};
use types::{id::Address, time::BlockRef};

use crate::data::{DataDir, read_bounded, write_atomic};

/// Largest file read: one holds 200 bytes.
const BYTES_MAX: u64 = 4 << 10;

/// A final block that is another one now, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error(
    "ALARM: finalized block {} was {} and is now {} at {url}: the chain changed what was final. Nothing is sent, served for pay, settled, posted or \
     challenged until a person has looked. Ask a second endpoint for block {}: where it still has the old hash, use that endpoint (--rpc, or rpc in \
     tributary.toml) and restart the node. If the new chain is the right one, stop the node, run `tributary chain accept-finalized {}`, and start \
     it again: its books are then rebuilt from the start",
    changed.was.number, changed.was.hash, changed.now.hash, changed.was.number, changed.now.hash
)]
pub struct Alarm {
    /// What was final, and what is there now.
    #[serde(flatten)]
    pub changed: Changed,
    /// The endpoint that says so.
    pub url: String,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    chain_id: u64,
    settlement: Address,
    block: BlockRef,
}

/// The last finalized block of one deployment, as a data folder knows it.
#[derive(Debug, Clone)]
pub struct LastFinal {
    path: PathBuf,
    chain_id: u64,
    settlement: Address,
}

impl LastFinal {
    /// Of a deployment; one folder may know several.
    pub fn of(data: &DataDir, deployment: &Deployment) -> Self {
        let (chain_id, settlement) = (deployment.chain_id, deployment.settlement);
        Self { path: data.path().join(format!("finalized-{chain_id}-{settlement}.json")), chain_id, settlement }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The block; nothing if none is known yet.
    ///
    /// # Errors
    /// A file that cannot be read, or is of another deployment: it is never taken for a missing one.
    pub fn read(&self) -> anyhow::Result<Option<BlockRef>> {
        let named = || {
            format!(
                "{}: what was final is not known any more; restore the file, or move it away if the chain is right",
                self.path.display()
            )
        };
        if !self.path.try_exists().with_context(named)? {
            return Ok(None);
        }
        let kept: Kept = serde_json::from_slice(&read_bounded(&self.path, BYTES_MAX).with_context(named)?).with_context(named)?;
        anyhow::ensure!(
            (kept.chain_id, kept.settlement) == (self.chain_id, self.settlement),
            "{} is of chain {} with Settlement at {}",
            self.path.display(),
            kept.chain_id,
            kept.settlement
        );
        Ok(Some(kept.block))
    }

    /// Keeps a finalized block if it is later than the one known. A folder that does not exist is not made for it.
    ///
    /// # Errors
    /// As [`LastFinal::read`]; a full disk.
    pub fn advance(&self, block: BlockRef) -> anyhow::Result<()> {
        let is_there = self.path.parent().is_some_and(Path::is_dir);
        if is_there && self.read()?.is_none_or(|known| known.number < block.number) {
            self.replace(block)?;
        }
        Ok(())
    }

    /// Keeps a block whatever was known.
    ///
    /// # Errors
    /// What the file system says.
    pub fn replace(&self, block: BlockRef) -> anyhow::Result<()> {
        let kept = Kept { chain_id: self.chain_id, settlement: self.settlement, block };
        let text = serde_json::to_vec_pretty(&kept)?;
        write_atomic(&self.path, &text, 0o600).with_context(|| format!("{}: the finalized block cannot be kept", self.path.display()))
    }
}

/// Moves what was sent on a chain that is no more out of the way: on another one it could be wrong. Returns where the files are now.
///
/// # Errors
/// What the file system says.
pub fn set_outboxes_aside(data: &DataDir, was: BlockRef) -> anyhow::Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for path in [data.outbox(true), data.outbox(false)] {
        if data.has(&path)? {
            let to = path.with_extension(format!("json.before-{}-{}", was.number, &was.hash.to_string()[..10]));
            fs::rename(&path, &to).with_context(|| format!("{}: cannot be moved to {}", path.display(), to.display()))?;
            aside.push(to);
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use chain_bridge::{deploy, devnet::DevnetConfig};
    use types::id::Hash32;

    use super::*;

    fn block(number: u64, byte: u8) -> BlockRef {
        BlockRef { number, hash: Hash32([byte; 32]) }
    }

    fn deployment() -> Deployment {
        deploy::plan(31_337, 0, Address([1; 20]), 0, DevnetConfig::new("anvil".into()).deploy)
    }

    #[test]
    fn only_a_later_block_replaces_the_one_known_and_no_folder_is_made_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let kept = LastFinal::of(&DataDir::new(folder.path()), &deployment());
        assert_eq!(kept.read().unwrap(), None);
        for (offered, expected) in
            [(block(5, 1), block(5, 1)), (block(4, 2), block(5, 1)), (block(5, 3), block(5, 1)), (block(6, 4), block(6, 4))]
        {
            kept.advance(offered).unwrap();
            assert_eq!(kept.read().unwrap(), Some(expected));
        }
        kept.replace(block(2, 9)).unwrap();
        assert_eq!(kept.read().unwrap(), Some(block(2, 9)));
        let nowhere = LastFinal::of(&DataDir::new(folder.path().join("nowhere")), &deployment());
        nowhere.advance(block(1, 1)).unwrap();
        assert!(!folder.path().join("nowhere").exists());
    }

    #[test]
    fn a_damaged_file_is_no_missing_one() {
        let folder = tempfile::tempdir().unwrap();
        let kept = LastFinal::of(&DataDir::new(folder.path()), &deployment());
        for text in [
            "",
            "{}",
            "{\"chain_id\":1,\"settlement\":\"0x0101010101010101010101010101010101010101\",\"block\":{\"number\":1,\"hash\":\"0x00\"}}",
        ] {
            fs::write(kept.path(), text).unwrap();
            assert!(format!("{:#}", kept.read().unwrap_err()).contains("finalized-31337-"), "{text}");
            assert!(kept.advance(block(9, 9)).is_err(), "and is not written over: {text}");
        }
    }

    #[test]
    fn the_alarm_says_what_was_what_is_and_what_to_do() {
        let alarm = Alarm { changed: Changed { was: block(7, 1), now: block(7, 2) }, url: "http://x".into() };
        let text = alarm.to_string();
        for words in
            [format!("finalized block 7 was {}", Hash32([1; 32])), format!("accept-finalized {}", Hash32([2; 32])), "http://x".into()]
        {
            assert!(text.contains(&words), "{text}");
        }
    }
}
