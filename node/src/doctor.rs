//! `tributary doctor`: whether this machine, this folder and this chain let a node serve and earn, each answer with its fix.
//!
//! Operators of every peer network complain of the same: it cannot bootstrap, or it runs and earns nothing, and nobody says why. So everything that a node
//! leans on is tried before it is leant on, by the same calls: sockets are bound, the chain is asked, files are read and hashed, bytes are synced.
//!
//! Three parts. [`probe`] looks and tells what it found ([`facts`]), [`judge`] turns facts into one finding per [`Check`] and does nothing else, and
//! [`rehearse`] spoils a good host once per check and counts whether the finding names it. What cannot be looked at, because something else is in the way, is
//! [`Level::Unknown`] and no alarm: the first cause is named and not its shadows.
//!
//! Cost: some forty requests to the chain, two connections to the network, eighty kilobytes written, and the model file read once (1 GB/s where it is in
//! memory, so files beyond [`probe::HASH_BYTES_MAX`] are left out unless all is asked for). Nothing is signed, and nothing is kept.

pub mod date;
pub mod facts;
pub mod judge;
pub mod probe;
pub mod rehearse;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use serde::Serialize;

use crate::command::Context;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The data folder is there and nobody else writes into it.
    DataFolder,
    /// The folder can be held by one process.
    DataLock,
    /// The node that holds the folder answers, or none does.
    NodeAlive,
    /// `tributary.toml` reads, and every key in it is known.
    ConfigFile,
    /// Its values can work.
    ConfigValues,
    /// Keys can be read by their owner alone.
    KeyModes,
    /// The node's key is one.
    NodeSeed,
    /// The wallet is one, and opens with the password if one was given.
    Wallet,
    /// `registry.json` reads.
    RegistryFile,
    /// The file of refused nodes reads.
    RefusedFile,
    /// The remembered addresses read.
    PeersFile,
    /// Open files allowed.
    OpenFiles,
    /// Memory for the model.
    Memory,
    /// The processor has what the quick kernels need.
    Processor,
    /// A GPU, if there is one, answers.
    Gpu,
    /// Room on the disk.
    DiskFree,
    /// The disk takes what is written, soon.
    DiskWrite,
    /// The model file is one.
    ModelFile,
    /// It is the one that it is called.
    ModelHash,
    /// Adapters are whole.
    Adapters,
    /// No two services share a port.
    PortsDistinct,
    /// Ports are free.
    PortsFree,
    /// Addresses to listen on are this machine's.
    AddressesOwn,
    /// Others can reach what this node tells them of itself.
    Reachable,
    /// Somebody of the network answers.
    Bootstrap,
    /// UDP gets out and back.
    Udp,
    /// Links carry QUIC's packets.
    Mtu,
    /// The kernel's buffers for UDP.
    UdpBuffers,
    /// The chain's endpoint answers.
    Rpc,
    /// This machine's clock.
    Clock,
    /// It is the deployment's chain.
    ChainId,
    /// Contracts stand where the file says.
    Contracts,
    /// They are this program's.
    ContractCode,
    /// The endpoint knows safe and final blocks.
    Heads,
    /// Blocks come.
    HeadAge,
    /// Fast enough for receipts to be paid.
    Pace,
    /// What was final still is.
    FinalBlock,
    /// Events can be read.
    Logs,
    /// From the deployment's beginning.
    History,
    /// The account is bound to this node.
    Binding,
    /// It has the stake that nodes need.
    Stake,
    /// It can pay for transactions.
    Gas,
}

impl Check {
    /// All of them, in the order in which they are told: what others rest on first.
    pub const ALL: [Self; 42] = [
        Self::DataFolder,
        Self::DataLock,
        Self::NodeAlive,
        Self::ConfigFile,
        Self::ConfigValues,
        Self::KeyModes,
        Self::NodeSeed,
        Self::Wallet,
        Self::RegistryFile,
        Self::RefusedFile,
        Self::PeersFile,
        Self::OpenFiles,
        Self::Memory,
        Self::Processor,
        Self::Gpu,
        Self::DiskFree,
        Self::DiskWrite,
        Self::ModelFile,
        Self::ModelHash,
        Self::Adapters,
        Self::PortsDistinct,
        Self::PortsFree,
        Self::AddressesOwn,
        Self::Reachable,
        Self::Bootstrap,
        Self::Udp,
        Self::Mtu,
        Self::UdpBuffers,
        Self::Rpc,
        Self::Clock,
        Self::ChainId,
        Self::Contracts,
        Self::ContractCode,
        Self::Heads,
        Self::HeadAge,
        Self::Pace,
        Self::FinalBlock,
        Self::Logs,
        Self::History,
        Self::Binding,
        Self::Stake,
        Self::Gas,
    ];
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it must be.
    Good,
    /// The node runs, and earns less than it could or may.
    Warn,
    /// The node does not run, or does not earn.
    Bad,
    /// It could not be looked at, which another finding explains.
    Unknown,
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub check: Check,
    /// How it came out.
    pub level: Level,
    /// What was found, with its numbers. Never a secret.
    pub said: String,
    /// What to do about it: a line that begins with a verb. With [`Level::Warn`] and [`Level::Bad`] there is always one.
    pub fix: Option<String>,
}

impl Finding {
    /// Whether it asks for something to be done.
    pub fn is_alarm(&self) -> bool {
        matches!(self.level, Level::Warn | Level::Bad)
    }
}

/// How long what may hang is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// One question to the chain, or to the running node.
    pub answer: Duration,
    /// The first connection to the network.
    pub peers: Duration,
    /// A program that tells of the GPU.
    pub tool: Duration,
    /// Median time in which the disk must have 4 KiB for sure.
    pub sync: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // A disk of spinning plates syncs in 30 ms; at 100 ms each receipt's record takes a tenth of a second.
        let (seconds, sync) = (Duration::from_secs(5), Duration::from_millis(100));
        Self { answer: seconds, peers: seconds, tool: seconds, sync }
    }
}

/// Where is looked: a rehearsal looks at a world of its own.
#[derive(Debug, Clone)]
pub struct World {
    /// Data folder, deployment file, endpoint, password.
    pub context: Context,
    /// In place of `/` for what the kernel tells in `proc`, `sys` and `dev`.
    pub root: PathBuf,
    /// The program that tells of the GPU.
    pub gpu_tool: OsString,
    /// How long is waited.
    pub patience: Patience,
    /// Hash every file however large, and compare the code of every contract.
    pub is_full: bool,
}

impl World {
    /// This machine.
    pub fn here(context: Context, is_full: bool) -> Self {
        Self { context, root: "/".into(), gpu_tool: "nvidia-smi".into(), patience: Patience::default(), is_full }
    }
}

/// Looks at everything and judges it: a finding for each of [`Check::ALL`], in its order.
pub async fn examine(world: &World) -> Vec<Finding> {
    judge::judge(&probe::look(world).await)
}
