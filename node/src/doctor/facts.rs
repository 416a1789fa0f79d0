//! What was found, as plain data: numbers, names and the words of whoever refused. No secret is ever put here.
//!
//! `None` is what was not looked at because what it rests on is not there; a finding about that says why.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use chain_bridge::{chain::Heads, deploy::Deployment, registry::state::Operator};
use types::{
    amount::Amount,
    id::{Address, BlobId, NodeId},
};

use crate::config::Config;

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The data folder and the files in it.
    pub files: Files,
    /// The machine.
    pub system: System,
    /// The model and its adapters; nothing without a configuration.
    pub model: Option<Models>,
    /// Sockets, links and peers; nothing without a configuration.
    pub network: Option<Network>,
    /// The chain; nothing without a configuration.
    pub chain: Option<ChainFacts>,
}

/// The data folder and the files in it.
#[derive(Debug, Clone)]
pub struct Files {
    /// The folder.
    pub folder: PathBuf,
    /// Its mode bits.
    pub folder_mode: Result<u32, String>,
    /// Who holds it.
    pub holder: Holder,
    /// The configuration's text, read into its fields.
    pub config: Result<Config, Unread>,
    /// What its values are refused for.
    pub config_refusal: Option<String>,
    /// Key files that others may read, with their modes.
    pub open_keys: Vec<(PathBuf, u32)>,
    /// The node's key, by what it is known as.
    pub seed: Result<NodeId, String>,
    /// The wallet.
    pub wallet: Wallet,
    /// The file of the deployment.
    pub registry: PathBuf,
    /// What it says.
    pub deployment: Result<Box<Deployment>, String>,
    /// How many nodes are refused.
    pub refused: Result<usize, String>,
    /// How many addresses are remembered.
    pub remembered: Result<usize, String>,
}

/// Why a configuration is not read.
#[derive(Debug, Clone)]
pub struct Unread {
    /// The reason, on one line.
    pub why: String,
    /// The known key nearest to an unknown one.
    pub nearest: Option<String>,
    /// There is no file at all.
    pub is_missing: bool,
}

/// Who holds the folder.
#[derive(Debug, Clone)]
pub enum Holder {
    /// The lock cannot be opened.
    Unopened(String),
    /// Nobody; a node that did not end well may have left its addresses.
    Nobody {
        /// The process of the node that left them.
        left_by: Option<u32>,
    },
    /// A command: there is no running node's file of addresses.
    Command,
    /// A node that answers, in this version, with so many peers.
    Node {
        /// Its version.
        version: String,
        /// Its peers.
        peers: u32,
    },
    /// A node that does not.
    Silent(String),
}

impl Holder {
    /// Whether a node runs, which has sockets, memory and files of its own then.
    pub const fn is_node(&self) -> bool {
        matches!(self, Self::Node { .. } | Self::Silent(_))
    }
}

/// The settlement key.
#[derive(Debug, Clone)]
pub enum Wallet {
    /// Opened with the password.
    Opened(Address),
    /// Sound, and not opened: no password was given.
    Closed,
    /// Another password.
    Password,
    /// No wallet, or a damaged one.
    Wrong(String),
}

/// The machine.
#[derive(Debug, Clone)]
pub struct System {
    /// Files that a process may hold open; nothing if the kernel does not tell.
    pub open_files: Option<u64>,
    /// Bytes of memory that can be had.
    pub memory_bytes: Option<u64>,
    /// Whether the processor has AVX2, FMA and F16C; nothing where that means nothing.
    pub is_quick: Option<bool>,
    /// The GPU.
    pub gpu: Gpu,
    /// Bytes that the file system of the store has left.
    pub disk_free: Result<u64, String>,
    /// Median time in which 4 KiB were on the disk for sure, and how much it may be.
    pub sync: Result<(Duration, Duration), String>,
}

/// A GPU.
#[derive(Debug, Clone)]
pub enum Gpu {
    /// The kernel knows none.
    None,
    /// The driver's version and memory, as its program tells.
    Driver(String),
    /// The kernel knows one, its program fails.
    Failing(String),
}

/// The model and its adapters.
#[derive(Debug, Clone)]
pub struct Models {
    /// The model; nothing for a node that only stores.
    pub model: Option<Model>,
    /// Adapters in the folder.
    pub adapters: Result<Vec<Adapter>, String>,
}

/// An adapter: the hash that it is named by, and why it is not that one.
pub type Adapter = (BlobId, Result<(), String>);

/// A model file.
#[derive(Debug, Clone)]
pub struct Model {
    /// Where.
    pub path: PathBuf,
    /// Its length in bytes, if it reads as a model.
    pub bytes: Result<u64, String>,
    /// The hash that its name says.
    pub named: Option<BlobId>,
    /// The hash that it has; nothing if it is too large to be read without being asked to.
    pub hash: Option<Result<BlobId, String>>,
}

/// Sockets, links and peers.
#[derive(Debug, Clone)]
pub struct Network {
    /// What was bound, and how that went; nothing is bound while the node runs.
    pub binds: Vec<(Socket, Result<(), BindFault>)>,
    /// Addresses to join through, of the configuration and remembered.
    pub bootstrap: Vec<String>,
    /// Whether one of them answers by QUIC; nothing if none is to be reached so.
    pub by_udp: Option<Result<bool, String>>,
    /// Whether one of them answers by TCP.
    pub by_tcp: Option<Result<bool, String>>,
    /// Links that are up, with the bytes that a packet may have; loopback left out.
    pub links: Vec<(String, u64)>,
    /// Most bytes that a socket may ask the kernel to keep for it.
    pub buffer_bytes: Option<u64>,
}

/// A socket of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// The key in the configuration.
    pub key: &'static str,
    /// UDP, otherwise TCP.
    pub is_udp: bool,
    /// Where.
    pub at: SocketAddr,
}

/// Why a socket is not bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindFault {
    /// Another process has it.
    Taken,
    /// The address is not this machine's.
    Foreign,
    /// Something else.
    Other(String),
}

/// The chain.
#[derive(Debug, Clone)]
pub struct ChainFacts {
    /// The endpoint.
    pub url: String,
    /// The chain's id and the time that the answer took.
    pub id: Result<(u64, Duration), String>,
    /// Seconds by which this clock is before the endpoint's; less than 0 if it is behind. Nothing if the endpoint does not tell.
    pub ahead_s: Option<i64>,
    /// This machine's seconds since 1970 before the heads were asked for.
    pub asked_at: u64,
    /// What rests on the deployment; nothing without one, or on another chain, or if nobody answers.
    pub suite: Option<Suite>,
}

/// What the chain says of the deployment and the account.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Contracts without code.
    pub missing: Result<Vec<String>, String>,
    /// Whether the code of those that money goes to is this program's; nothing if some are missing.
    pub code: Option<Result<(), String>>,
    /// The heads.
    pub heads: Result<Heads, String>,
    /// What the pace of blocks is refused for.
    pub pace: Option<String>,
    /// A final block that changed, in words; nothing if none did.
    pub alarm: Result<Option<String>, String>,
    /// Whether events of late blocks can be read.
    pub logs: Result<(), String>,
    /// Whether the deployment's first block is known.
    pub history: Result<bool, String>,
    /// Least stake of a node, by the deployment.
    pub stake_min: Amount,
    /// Seconds between two blocks, at most, by the deployment.
    pub block_s: u64,
    /// The account; nothing if no wallet was opened and no node told it.
    pub account: Option<Standing>,
}

/// How an account stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Which.
    pub account: Address,
    /// What it is registered as.
    pub operator: Result<Option<Operator>, String>,
    /// Whether it holds the least stake.
    pub is_bonded: Result<bool, String>,
    /// What it has to pay with.
    pub balance: Result<Amount, String>,
}
