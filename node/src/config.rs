//! One configuration for the process: `tributary.toml` in the data folder, unknown keys refused, validated once at start.

pub mod attribution;
pub mod checks;
pub mod computed;
pub mod keeping;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use p2p::{
    overlay::{Multiaddr, is_dialable},
    proto::ads::ADAPTERS_MAX,
};
use serde::{Deserialize, Serialize};
use types::amount::Amount;

pub use self::{attribution::Attribution, checks::Checks, computed::Computed, keeping::Keeping};
use crate::{data::read_text, service::receipt_log::witnesses::WITNESSES_MAX, witnessing::Witness};

/// Largest configuration file read; one with every key set holds about a kilobyte.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Everything a node can be told. Every address is loopback unless the operator says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the overlay (libp2p) listens: the port serves QUIC and TCP. Port 0 takes a free one.
    pub overlay: SocketAddr,
    /// Where clients connect (QUIC).
    pub clients: SocketAddr,
    /// Where other nodes fetch blobs and fragments (iroh).
    pub bulk: SocketAddr,
    /// Where the receipt log is read and other logs' heads are cosigned (HTTP); nowhere if the line is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<SocketAddr>,
    /// Where /metrics, /healthz and /readyz are read (HTTP, on this machine alone); nowhere if the line is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// Witnesses that this node has cosign the head of its log, each NODE_ID@http://ADDRESS: what they say is served with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_witnesses: Vec<Witness>,
    /// Overlay addresses of nodes to join through, as multiaddresses. One is enough.
    pub bootstrap: Vec<String>,
    /// JSON-RPC endpoint of the chain.
    pub rpc: String,
    /// Base model file; empty on a node that only stores.
    pub model: Option<PathBuf>,
    /// The numeric rules it answers under: "exact" or "fast".
    pub profile: Computed,
    /// Answers in flight at once, which share the engine's room for keys and values: what finds none of it waits, or gives way and is computed again.
    pub answers_max: usize,
    /// Wei per 1,000 input tokens.
    pub rate_in: Amount,
    /// Wei per 1,000 output tokens.
    pub rate_out: Amount,
    /// Keep fragments for Datanets.
    pub storage: bool,
    /// Bytes a second that this node sends of its fragments to all peers together, half of it to one; 0 sets no limit.
    pub serve_bytes_per_s: u64,
    /// Build and post index roots of new versions (needs stake).
    pub indexer: bool,
    /// Build and post payout roots (needs stake).
    pub poster: bool,
    /// Rebuild every payout that others post and prove wrong ones to the chain, which pays who does. A poster does so anyway; another node fetches
    /// every node's receipts for it.
    pub watch_payouts: bool,
    /// Published adapters of this node's base that it fetches from other nodes and serves, at most, those in its folder included; 0 fetches none.
    pub adapters_max: usize,
    /// Seconds between collecting vouchers and posting receipts; 0 posts only when asked.
    pub settle_every_s: u64,
    /// Most wei of work done for one client and not vouched for; left out, four full contexts of prompt at this node's own rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub willing_to_lose: Option<Amount>,
    /// What this client's own questions may cost.
    pub spending: Spending,
    /// What this node does for others when it settles.
    pub settlement: Settlement,
    /// How it keeps fragments, if it does.
    pub keeping: Keeping,
    /// What building indexes may take.
    pub attribution: Attribution,
    /// Whether it checks other nodes' answers when it is drawn, and by which rule.
    pub checks: Checks,
}

/// What a node does for others, at its own expense, when it settles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settlement {
    /// Whether a final payout that this node posted is claimed for the stakers' vault, the insurance pool and the protocol, once per epoch; not on a
    /// node that settles only when asked.
    pub relay: bool,
    /// Where the lines of a payout are put before this node posts its root: "local" or "calldata". For a poster.
    pub availability: Availability,
}

impl Default for Settlement {
    fn default() -> Self {
        Self { relay: true, availability: Availability::Local }
    }
}

/// Where a poster puts the lines of a payout, so that others can check it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// In its data folder, from which it serves them: costs nothing. While it does not answer they can be asked for on the chain alone.
    Local,
    /// There, and in transactions to itself: about 36 bytes a part at 40 gas each, and the L1's fee for them. Whoever reads the chain has them without this
    /// node.
    Calldata,
}

/// Caps on what a client promises, each in force where it is set: an answer that could exceed one is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spending {
    /// Most that one answer may cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_request: Option<Amount>,
    /// Most that the answers asked for in one UTC day may cost together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day: Option<Amount>,
    /// Most that one signing key, the wallet's or a session's, may ever promise; a session has a cap of its own besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_key: Option<Amount>,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            overlay: loopback(7_401),
            clients: loopback(7_402),
            bulk: loopback(7_403),
            log: Some(loopback(7_404)),
            admin: Some(loopback(7_405)),
            log_witnesses: Vec::new(),
            bootstrap: Vec::new(),
            rpc: "http://127.0.0.1:8545".to_owned(),
            model: None,
            // What any checker can hold it to.
            profile: Computed::Exact,
            // They go on in one pass over the weights, and share 32,768 tokens of keys and values (400 MB with SmolLM2-135M) however many there are: 1,024
            // each. Half of 64 leaves checks and readers who come back their places.
            answers_max: 32,
            rate_in: Amount(2_000_000_000_000_000),
            rate_out: Amount(6_000_000_000_000_000),
            storage: true,
            // A line of 1 Gbit/s: below it a queue forms here, where peers share it fairly, and not in the line's buffers.
            serve_bytes_per_s: 125_000_000,
            indexer: false,
            poster: false,
            // The receipts of all nodes pass through who does.
            watch_payouts: false,
            // Rank 16 over this base is 20 MB: a third of a gigabyte of disk at most.
            adapters_max: 16,
            // The registry voids receipts that name a block more than 256 behind the posting one.
            settle_every_s: 60,
            // By the context of the model: a fixed sum is a part of one question on one node and a thousand on another.
            willing_to_lose: None,
            // The deposit and --max-fee bound a client that sets none.
            spending: Spending::default(),
            settlement: Settlement::default(),
            keeping: Keeping::default(),
            attribution: Attribution::default(),
            checks: Checks::default(),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}: it must be a text file of yours, such as `tributary init` writes")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not valid.
    #[error("{path}: {source}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why, with the key.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot work.
    #[error("{key}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and the fix.
        why: String,
    },
}

impl Config {
    /// Reads and validates the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path, CONFIG_BYTES_MAX).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self =
            toml::from_str(&text).map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        config.validate().map(|()| config)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.answers_max == 0 || self.answers_max > 64 {
            return Err(ConfigError::Value { key: "answers_max", why: format!("{} is outside 1 to 64", self.answers_max) });
        }
        if self.log_witnesses.len() > WITNESSES_MAX {
            return Err(ConfigError::Value {
                key: "log_witnesses",
                why: format!("{} are named, at most {WITNESSES_MAX} are asked", self.log_witnesses.len()),
            });
        }
        if let Some(at) = self.admin.filter(|at| !at.ip().is_loopback()) {
            let why = format!(
                "{at} can be reached from other machines, and what is told there needs no key: use 127.0.0.1 and put a proxy before it"
            );
            return Err(ConfigError::Value { key: "admin", why });
        }
        if self.adapters_max > ADAPTERS_MAX {
            return Err(ConfigError::Value {
                key: "adapters_max",
                why: format!("{}, at most {ADAPTERS_MAX} fit a node's ad", self.adapters_max),
            });
        }
        if !self.rpc.starts_with("http://") && !self.rpc.starts_with("https://") {
            return Err(ConfigError::Value {
                key: "rpc",
                why: format!("{:?} is no http address: give the chain's JSON-RPC endpoint", self.rpc),
            });
        }
        if self.settlement.availability == Availability::Calldata && !self.poster {
            let why = "\"calldata\" is for a node that posts payouts: set poster = true, or availability = \"local\"".to_owned();
            return Err(ConfigError::Value { key: "settlement.availability", why });
        }
        self.keeping.validate()?;
        self.attribution.validate()?;
        self.checks.validate()?;
        if self.bootstrap.len() > 32 {
            return Err(ConfigError::Value { key: "bootstrap", why: format!("{} addresses, at most 32 are used", self.bootstrap.len()) });
        }
        if let Some(text) = self.bootstrap.iter().find(|text| !text.parse().is_ok_and(|address: Multiaddr| is_dialable(&address))) {
            return Err(ConfigError::Value {
                key: "bootstrap",
                why: format!(
                    "{text:?} is no multiaddress of an IP address with QUIC or TCP: write for example /ip4/203.0.113.5/udp/7401/quic-v1, as `tributary run` prints it"
                ),
            });
        }
        Ok(())
    }

    /// The file's text.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_survives_its_own_file() {
        let config = Config::default();
        assert_eq!(toml::from_str::<Config>(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn a_cut_or_changed_file_is_read_or_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tributary.toml");
        let whole = Config { bootstrap: vec!["/ip4/127.0.0.1/tcp/1".into()], ..Config::default() }.to_toml().unwrap();
        let mut refused = 0;
        for at in 0..whole.len() {
            for byte in [None, Some(b'"'), Some(0), Some(0xff), Some(b'[')] {
                let mut bytes = whole.clone().into_bytes();
                match byte {
                    None => bytes.truncate(at),
                    Some(byte) => bytes[at] = byte,
                }
                std::fs::write(&path, &bytes).unwrap();
                if let Err(error) = Config::load(&path) {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
        assert!(refused > whole.len(), "{refused} of {} changes were refused", 5 * whole.len());
        std::fs::write(&path, vec![b'#'; usize::try_from(CONFIG_BYTES_MAX).unwrap() + 1]).unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("more than 1048576 bytes"));
    }

    #[test]
    fn caps_are_amounts_under_spending() {
        let text = "[spending]\nper_request = \"0.02 OPEN\"\nper_day = \"1 OPEN\"";
        let config = toml::from_str::<Config>(text).unwrap();
        let caps = Spending { per_request: Some("0.02 OPEN".parse().unwrap()), per_day: Some("1 OPEN".parse().unwrap()), per_key: None };
        assert_eq!(config.spending, caps);
        assert_eq!(toml::from_str::<Config>(&config.to_toml().unwrap()).unwrap(), config);
        assert!(toml::from_str::<Config>("[spending]\nper_week = \"1\"").unwrap_err().to_string().contains("per_week"));
    }

    #[test]
    fn claiming_for_others_is_on_until_it_is_turned_off() {
        assert!(toml::from_str::<Config>("").unwrap().settlement.relay);
        assert!(!toml::from_str::<Config>("[settlement]\nrelay = false").unwrap().settlement.relay);
        assert!(toml::from_str::<Config>("[settlement]\nrelays = false").unwrap_err().to_string().contains("relays"));
    }

    #[test]
    fn lines_go_into_calldata_only_if_a_poster_says_so() {
        let config = |text: &str| toml::from_str::<Config>(text);
        assert_eq!(config("").unwrap().settlement.availability, Availability::Local);
        let posting = config("poster = true\n[settlement]\navailability = \"calldata\"").unwrap();
        assert_eq!(posting.settlement.availability, Availability::Calldata);
        posting.validate().unwrap();
        assert_eq!(config(&posting.to_toml().unwrap()).unwrap(), posting);
        let refused = Config { poster: false, ..posting }.validate().unwrap_err().to_string();
        assert!(refused.starts_with("settlement.availability:") && refused.contains("poster = true"), "{refused}");
        let unknown = config("[settlement]\navailability = \"blob\"").unwrap_err().to_string();
        assert!(unknown.contains("local") && unknown.contains("calldata"), "{unknown}");
    }

    #[test]
    fn metrics_are_told_to_this_machine_alone_and_nowhere_if_the_file_says_nothing() {
        assert_eq!(toml::from_str::<Config>("").unwrap().admin, None, "a file of before opens no port");
        let at = |text: &str| toml::from_str::<Config>(&format!("admin = {text:?}")).unwrap();
        assert!(at("127.0.0.1:9").validate().is_ok() && at("[::1]:9").validate().is_ok());
        for open in ["0.0.0.0:7405", "203.0.113.5:7405", "[::]:7405"] {
            let why = at(open).validate().unwrap_err().to_string();
            assert!(why.starts_with("admin: ") && why.contains(open) && why.contains("127.0.0.1"), "{why}");
        }
    }

    #[test]
    fn the_log_is_served_where_the_file_says_and_nowhere_if_it_says_nothing() {
        assert_eq!(toml::from_str::<Config>("").unwrap().log, None, "a file of before opens no port");
        let config = toml::from_str::<Config>("log = \"127.0.0.1:9\"").unwrap();
        assert_eq!(config.log.map(|at| at.port()), Some(9));
        assert_eq!(toml::from_str::<Config>(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = toml::from_str::<Config>("ratein = \"5\"").unwrap_err().to_string();
        assert!(error.contains("ratein"), "{error}");
    }

    #[test]
    fn values_that_cannot_work_name_their_key() {
        let bad = Config { rpc: "ftp://x".into(), ..Config::default() };
        assert!(bad.validate().unwrap_err().to_string().starts_with("rpc:"));
        assert!(Config { adapters_max: 257, ..Config::default() }.validate().is_err());
        assert!(Config { answers_max: 0, ..Config::default() }.validate().is_err());
        let bad = Config { bootstrap: vec!["/ip4/127.0.0.1/tcp/1".into(), "127.0.0.1:1".into()], ..Config::default() };
        assert!(bad.validate().unwrap_err().to_string().starts_with("bootstrap: \"127.0.0.1:1\" is no multiaddress"));
        assert!(Config { bootstrap: vec!["/dns4/example.org/tcp/1".into()], ..Config::default() }.validate().is_err());
    }
}
