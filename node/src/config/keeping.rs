//! How a node that stores keeps what it holds: where it stands, how long an epoch is, when what is lost is mended.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use storage::{
    proto::{placement::Region, repair},
    store,
};

use super::ConfigError;

/// Fewest blocks of an epoch: commitments need its first quarter, and their answers the rest.
const EPOCH_BLOCKS_MIN: u64 = 8;
/// Longest round of the scrub: what rotted within a year is noticed within the next.
const SCRUB_DAYS_MAX: u32 = 366;
/// Least size of a segment.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Slowest repair: the largest piece, 128 MiB, in two hours.
const REPAIR_BYTES_PER_S_MIN: u64 = 16 << 10;
/// Least that repair may take at once.
const REPAIR_BURST_BYTES_MIN: u64 = 64 << 10;
/// Fewest bytes for pages of the index: 64 of them.
const CACHE_BYTES_MIN: usize = 256 << 10;

/// `[keeping]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keeping {
    /// Country in which this node keeps bytes, as two capital letters. Without one it is given no object that must stay in some countries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// An address in whose network (/24 or /48) this node counts in place of its own. Only on a development chain, whose nodes share one machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<IpAddr>,
    /// Blocks of an epoch of repair and audits, the same on every node of a chain.
    pub epoch_blocks: u64,
    /// Whether the node is to be on the chain's roll of auditors, by which rent is paid: it leaves 0.01 OPEN there, once, and now and then pays for the two calls that an epoch's
    /// draw takes.
    pub audit_roll: bool,
    /// Whether the node puts nodes that fail its audits until their standing is a slash case before the chain by itself, where silence costs them stake: each case has a bond attached, which an
    /// answer takes a part of. At most four at a time; `tributary audit case open` does the same by hand.
    pub open_cases: bool,
    /// Days within which every byte that is kept is read and hashed once, to find rot before somebody needs what has rotted.
    pub scrub_days: u32,
    /// Bytes per second that are read for that at most; 0: none, and rot is found by audits and readers alone.
    pub scrub_bytes_per_s: u64,
    /// Bytes per second that are copied at most to free the room of what was released; 0: nothing is freed.
    pub collect_bytes_per_s: u64,
    /// Bytes that must be free, of the store's capacity and of the disk beyond its reserve, for the node to take new fragments; it stops when a quarter of them is left. 0: it takes whatever fits, and stops for a while after one that did not.
    pub room_bytes: u64,
    /// Bytes of whole copies of contributions, of Datanets that it gates or indexes or that its owner reads. One that would exceed them is kept in the place of others whose
    /// holders show enough of them; if there are none, it is refused.
    pub copies_bytes: u64,
    /// When and how fast what is lost is mended.
    pub repair: Repair,
    /// Room on the disk.
    pub store: store::Config,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            region: None,
            network: None,
            // A day of the OP Stack's two-second blocks.
            epoch_blocks: 43_200,
            audit_roll: false,
            open_cases: false,
            // Half of the thirty days in which a lost fragment is to be noticed.
            scrub_days: 14,
            // Four terabytes in a round, and little beside what a disk gives.
            scrub_bytes_per_s: 5 << 20,
            // A segment of 256 MiB, half of it dead, in eight seconds.
            collect_bytes_per_s: 16 << 20,
            // Six of the largest fragments; a quarter is one and its manifest, with room to spare.
            room_bytes: 128 << 20,
            // As much as fragments may take.
            copies_bytes: 64 << 30,
            repair: Repair::default(),
            store: store::Config::default(),
        }
    }
}

/// `[keeping.repair]`: the patience and the budget of [`repair::Config`], in seconds and bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repair {
    /// Silence of a holder after which its fragments count as lost.
    pub lost_after_s: u64,
    /// The same while most of the network is silent.
    pub lost_anyway_after_s: u64,
    /// How long a backup waits for the coordinator before it.
    pub takeover_after_s: u64,
    /// Longest piece of work.
    pub work_timeout_s: u64,
    /// Wait after work that failed.
    pub retry_after_s: u64,
    /// Time between two looks at all objects.
    pub look_every_s: u64,
    /// Bytes per second that repair may read and write.
    pub bytes_per_s: u64,
    /// Bytes it may take at once after a pause.
    pub burst_bytes: u64,
    /// Pieces of work under way.
    pub at_once: usize,
}

impl Default for Repair {
    fn default() -> Self {
        let config = repair::Config::default();
        Self {
            lost_after_s: config.lost_after.as_secs(),
            lost_anyway_after_s: config.lost_anyway_after.as_secs(),
            takeover_after_s: config.takeover_after.as_secs(),
            work_timeout_s: config.work_timeout.as_secs(),
            retry_after_s: config.retry_after.as_secs(),
            look_every_s: config.look_every.as_secs(),
            bytes_per_s: config.bytes_per_s,
            burst_bytes: config.burst_bytes,
            at_once: config.at_once,
        }
    }
}

impl Repair {
    /// The same for the core.
    pub const fn config(&self) -> repair::Config {
        repair::Config {
            lost_after: Duration::from_secs(self.lost_after_s),
            lost_anyway_after: Duration::from_secs(self.lost_anyway_after_s),
            takeover_after: Duration::from_secs(self.takeover_after_s),
            work_timeout: Duration::from_secs(self.work_timeout_s),
            retry_after: Duration::from_secs(self.retry_after_s),
            look_every: Duration::from_secs(self.look_every_s),
            bytes_per_s: self.bytes_per_s,
            burst_bytes: self.burst_bytes,
            at_once: self.at_once,
        }
    }
}

impl Keeping {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let value = |key, why| Err(ConfigError::Value { key, why });
        if self.epoch_blocks < EPOCH_BLOCKS_MIN {
            return value("keeping.epoch_blocks", format!("{} blocks, at least {EPOCH_BLOCKS_MIN} hold an audit", self.epoch_blocks));
        }
        if self.scrub_days == 0 || self.scrub_days > SCRUB_DAYS_MAX {
            return value(
                "keeping.scrub_days",
                format!("{} is outside 1 to {SCRUB_DAYS_MAX}; scrub_bytes_per_s = 0 turns it off", self.scrub_days),
            );
        }
        if let Some(region) = self.region.filter(|region| !region.is_country()) {
            return value("keeping.region", format!("{region} are the letters of no country (ISO 3166-1): write them as in DE or US"));
        }
        let store::Config { capacity_bytes, segment_bytes, cache_bytes, .. } = self.store;
        if cache_bytes < CACHE_BYTES_MIN {
            return value(
                "keeping.store.cache_bytes",
                format!("{cache_bytes} bytes hold too few pages of the index, at least {CACHE_BYTES_MIN}"),
            );
        }
        if segment_bytes < SEGMENT_BYTES_MIN || segment_bytes > capacity_bytes / 8 {
            let why = format!("{segment_bytes} is outside {SEGMENT_BYTES_MIN} to an eighth of capacity_bytes, {}", capacity_bytes / 8);
            return value("keeping.store.segment_bytes", why);
        }
        let Repair { lost_after_s, lost_anyway_after_s, look_every_s, work_timeout_s, at_once, bytes_per_s, burst_bytes, .. } = self.repair;
        if lost_after_s > lost_anyway_after_s {
            let why = format!("{lost_after_s} s are longer than lost_anyway_after_s, {lost_anyway_after_s} s");
            return value("keeping.repair.lost_after_s", why);
        }
        if lost_after_s == 0 {
            return value(
                "keeping.repair.lost_after_s",
                "0 s: every holder that misses one ad would lose its fragments; the default is 14400".to_owned(),
            );
        }
        if bytes_per_s < REPAIR_BYTES_PER_S_MIN {
            let why = format!(
                "{bytes_per_s} bytes a second mend nothing in time, at least {REPAIR_BYTES_PER_S_MIN}; storage = false keeps a node out of repair"
            );
            return value("keeping.repair.bytes_per_s", why);
        }
        if burst_bytes < REPAIR_BURST_BYTES_MIN {
            return value(
                "keeping.repair.burst_bytes",
                format!("{burst_bytes} bytes hold no piece of work, at least {REPAIR_BURST_BYTES_MIN}"),
            );
        }
        if look_every_s == 0 || work_timeout_s == 0 {
            return value("keeping.repair", "look_every_s and work_timeout_s must be at least 1".to_owned());
        }
        if at_once == 0 || at_once > 16 {
            return value("keeping.repair.at_once", format!("{at_once} is outside 1 to 16, each of which holds up to 256 MiB"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_core_and_survive_a_file() {
        let keeping = Keeping::default();
        assert_eq!(keeping.repair.config(), repair::Config::default());
        let stated = Keeping { region: Some("DE".parse().unwrap()), network: Some("10.0.3.1".parse().unwrap()), ..keeping };
        let text = toml::to_string_pretty(&stated).unwrap();
        assert_eq!(toml::from_str::<Keeping>(&text).unwrap(), stated, "{text}");
        assert!(toml::from_str::<Keeping>("region = \"de\"").unwrap_err().to_string().contains("is no region"));
        assert!(toml::from_str::<Keeping>("[repair]\nlost_after = 4").unwrap_err().to_string().contains("lost_after"));
    }

    #[test]
    fn values_that_cannot_work_name_their_key() {
        let refused = |change: fn(&mut Keeping)| {
            let mut keeping = Keeping::default();
            change(&mut keeping);
            keeping.validate().unwrap_err().to_string()
        };
        assert!(refused(|keeping| keeping.epoch_blocks = 7).starts_with("keeping.epoch_blocks: 7 blocks"));
        assert!(refused(|keeping| keeping.scrub_days = 0).starts_with("keeping.scrub_days: 0 is outside 1 to 366"));
        assert!(refused(|keeping| keeping.region = "XX".parse().ok()).starts_with("keeping.region: XX are the letters of no country"));
        assert!(refused(|keeping| keeping.store.segment_bytes = 1 << 40).starts_with("keeping.store.segment_bytes:"));
        assert!(refused(|keeping| keeping.repair.lost_after_s = u64::MAX).starts_with("keeping.repair.lost_after_s:"));
        assert!(refused(|keeping| keeping.repair.look_every_s = 0).starts_with("keeping.repair:"));
        assert!(refused(|keeping| keeping.repair.at_once = 17).starts_with("keeping.repair.at_once:"));
        assert!(refused(|keeping| keeping.repair.lost_after_s = 0).starts_with("keeping.repair.lost_after_s: 0 s"));
        assert!(refused(|keeping| keeping.repair.bytes_per_s = 0).starts_with("keeping.repair.bytes_per_s: 0 bytes"));
        assert!(refused(|keeping| keeping.repair.burst_bytes = 1).starts_with("keeping.repair.burst_bytes: 1 bytes"));
        assert!(refused(|keeping| keeping.store.cache_bytes = 1).starts_with("keeping.store.cache_bytes: 1 bytes"));
        Keeping::default().validate().unwrap();
    }
}
