//! Repair's times and budget.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::COORDINATORS;

/// How patient and how generous repair is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Away this long counts as lost. 4 h: longer than an update or a restart, short against the 12 h in which a loss should be mended.
    pub lost_after: Duration,
    /// Away this long counts as lost even if most of the network seems away. 72 h: an outage of a carrier or a cloud region is over by then.
    pub lost_anyway_after: Duration,
    /// A backup waits this long for the one before it. 10 min: several times [`Config::work_timeout`]'s announcements.
    pub takeover_after: Duration,
    /// One piece of work that takes longer is given up. 1 h: 128 MiB at 300 kbit/s.
    pub work_timeout: Duration,
    /// Wait after work that failed in part, or for want of room. 5 min. Who stored nothing else waits until each backup could have begun.
    pub retry_after: Duration,
    /// Time between two looks at all objects. 60 s, small against all of the above.
    pub look_every: Duration,
    /// Bytes per second that repair may read and write. 8 MiB/s: half of a 134 Mbit/s link.
    pub bytes_per_s: u64,
    /// Bytes it may take at once after a pause. 256 MiB: two of the largest pieces.
    pub burst_bytes: u64,
    /// Pieces of work under way. 2: one reads while the other writes; each holds an object and its fragments, up to 256 MiB.
    pub at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            lost_after: minutes(4 * 60),
            lost_anyway_after: minutes(72 * 60),
            takeover_after: minutes(10),
            work_timeout: minutes(60),
            retry_after: minutes(5),
            look_every: minutes(1),
            bytes_per_s: 8 << 20,
            burst_bytes: 256 << 20,
            at_once: 2,
        }
    }
}

impl Config {
    /// Rest after work that did not store all. Who stored nothing in its turn leaves it to the backups: a line or disk that is too slow fails the next
    /// time as well, and while it announces its attempts nobody else begins, for the rest of the epoch. The backups begin one after the other, each
    /// [`Config::takeover_after`] later than the one before it: the rest lasts until the last of them has had its turn.
    pub(super) fn rest(&self, is_in_vain: bool) -> Duration {
        let turns = 1 + (1..u32::try_from(COORDINATORS).expect("coordinators are few")).sum::<u32>();
        if is_in_vain { self.takeover_after * turns } else { self.retry_after }
    }
}
