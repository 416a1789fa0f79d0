//! A node that leaves: no answer is begun, the network is told, those under way are finished.
//!
//! [`PATIENCE`] and the stop behind it stay below the half minute that an operator waits who restarts a machine. What is not finished by then is broken off:
//! the client has a receipt for what it vouched for and goes on elsewhere from the token that it has.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::front::Front;
use crate::{
    data::{DataDir, read_bounded, write_atomic},
    output::counted,
};

/// How long answers under way may take.
const PATIENCE: Duration = Duration::from_secs(25);
/// Largest file read.
const BYTES_MAX: u64 = 4 << 10;

/// What came of the answers that were under way when a node was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drained {
    /// The process.
    pub pid: u32,
    /// Answered to their end.
    pub finished: u32,
    /// Not; their clients go on elsewhere.
    pub broken_off: u32,
}

impl Drained {
    /// Kept for `tributary drain`, which waits for it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, data: &DataDir) -> anyhow::Result<()> {
        let path = data.last_stop();
        write_atomic(&path, &serde_json::to_vec_pretty(self)?, 0o644).with_context(|| format!("{}", path.display()))
    }

    /// What the process `pid` kept; nothing if it ended otherwise.
    ///
    /// # Errors
    /// What the file system says of a file that is there.
    pub fn of(data: &DataDir, pid: u32) -> anyhow::Result<Option<Self>> {
        let path = data.last_stop();
        if !data.has(&path)? {
            return Ok(None);
        }
        let bytes = read_bounded(&path, BYTES_MAX).with_context(|| format!("{}", path.display()))?;
        // A damaged one is of no process that was asked to stop.
        Ok(serde_json::from_slice(&bytes).ok().filter(|drained: &Self| drained.pid == pid))
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = |count: u32| counted(count.try_into().unwrap_or(usize::MAX), "answer");
        match (self.finished, self.broken_off) {
            (0, 0) => f.write_str("stopped; no answer was under way"),
            (finished, 0) => write!(f, "stopped; {} finished first", answers(finished)),
            (finished, broken_off) => {
                write!(f, "stopped; {} finished first, {} broken off: clients go on elsewhere", answers(finished), answers(broken_off))
            }
        }
    }
}

/// Waits for the answers under way, for [`PATIENCE`] at most.
pub(super) async fn drain(front: &Front, begun: u32) -> Drained {
    front.leave();
    let mut running = front.running.subscribe();
    // What is left is told of in what follows.
    drop(timeout(PATIENCE, running.wait_for(|count| *count == 0)).await);
    drained(front, begun)
}

/// What has come of `begun` answers by now.
pub(super) fn drained(front: &Front, begun: u32) -> Drained {
    let broken_off = *front.running.borrow();
    Drained { pid: std::process::id(), finished: begun.saturating_sub(broken_off), broken_off }
}
