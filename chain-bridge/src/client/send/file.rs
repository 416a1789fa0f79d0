//! The outbox in its file: written before anything leaves, held by one process at a time.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use types::id::{Address, Hash32};

use super::{POLL, Sender};
use crate::{chain::error::ChainError, deploy::replace, outbox::Outbox};

/// Longest wait for another process that holds the outbox file: two inclusions.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest outbox file read: its bounds times the largest calldata in use, with room.
const OUTBOX_FILE_MAX: u64 = 64 << 20;

/// The outbox in its file, bound to the chain and account that its nonces mean something for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Hash of block 0: a development chain started anew has another one.
    pub(super) genesis: Hash32,
    pub(super) account: Address,
    pub(super) outbox: Outbox,
    #[serde(skip)]
    pub(super) path: Option<PathBuf>,
    /// Held while the file is this process's.
    #[serde(skip)]
    pub(super) lock: Option<fs::File>,
}

impl Kept {
    pub(super) fn save(&self) -> Result<(), ChainError> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec(self).expect("plain data serialises");
        replace(path, &text).map_err(|error| ChainError::OutboxFile { path: path.display().to_string(), why: error.to_string() })
    }
}

impl Sender {
    /// Remembers in `path` from now on, taking over what it holds. Where nothing is kept yet, nothing is written before something is to be sent.
    ///
    /// # Errors
    /// [`ChainError::OutboxFile`].
    pub async fn keep_in(&self, path: &Path) -> Result<(), ChainError> {
        let genesis = self.rpc.header(0).await?.map_or(Hash32::ZERO, |header| header.block.hash);
        let mut kept = self.kept.lock().await;
        (kept.genesis, kept.path) = (genesis, Some(path.to_owned()));
        match fs::metadata(path) {
            Ok(_) => self.open(&mut kept).await,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ChainError::OutboxFile { path: path.display().to_string(), why: error.to_string() }),
        }
    }

    /// Makes the outbox file this process's until it ends, and takes over what it holds; waits for another process that has it.
    pub(super) async fn open(&self, kept: &mut Kept) -> Result<(), ChainError> {
        let Some(path) = kept.path.clone().filter(|_| kept.lock.is_none()) else { return Ok(()) };
        let failed = |why: String| ChainError::OutboxFile { path: path.display().to_string(), why };
        let lock = fs::File::create(path.with_extension("lock")).map_err(|error| failed(error.to_string()))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        while let Err(error) = lock.try_lock() {
            if Instant::now() >= deadline {
                return Err(failed(format!("another process has held it for {} s ({error}): wait for it to end", LOCK_TIMEOUT.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
        match fs::metadata(&path) {
            Ok(found) if found.len() > OUTBOX_FILE_MAX => {
                return Err(failed(format!("{} bytes are more than an outbox takes", found.len())));
            }
            Ok(_) => {
                let text = fs::read(&path).map_err(|error| failed(error.to_string()))?;
                let found: Kept = serde_json::from_slice(&text).map_err(|error| failed(format!("not an outbox: {error}")))?;
                let genesis = kept.genesis;
                if (found.genesis, found.account) != (genesis, self.address()) {
                    let why = format!(
                        "it is of account {} on the chain with genesis {}, this is {} on {genesis}",
                        found.account,
                        found.genesis,
                        self.address()
                    );
                    return Err(failed(format!("{why}: move the file away")));
                }
                kept.outbox = found.outbox;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        kept.lock = Some(lock);
        Ok(())
    }
}
