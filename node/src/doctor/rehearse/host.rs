//! A host that nothing is wrong with.

use std::{
    any::Any,
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use chain_bridge::deploy::{DeployConfig, plan};
use inference::{adapter::AdapterFiles, tiny};
use p2p::{
    identity::NodeSeed,
    overlay::{Overlay, OverlayConfig, OverlayHandle},
};
use types::{
    id::{Address, BlobId},
    key::Account,
};

use super::chain::PlayedChain;
use crate::{
    command::Context,
    config::Config,
    data::{DataDir, write_atomic},
    doctor::{Patience, World},
    finalized::LastFinal,
    output::Output,
};

/// The wallet's password.
const PASSWORD: &str = "only for the rehearsal";
/// Longest waits of a host that is slow and whole: a fault that is waited for sets its own.
const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(60),
    peers: Duration::from_secs(60),
    tool: Duration::from_secs(60),
    sync: Duration::from_secs(3_600),
};
/// Chain of the played deployment.
const CHAIN_ID: u64 = 4_242;
/// Block before its first contract.
const FIRST_BLOCK: u64 = 5;

/// What this machine's kernel would tell, file by file.
const KERNEL: [(&str, &str); 6] = [
    ("proc/meminfo", "MemTotal:       67108864 kB\nMemAvailable:   50331648 kB\n"),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units\nMax open files            65536                524288               files\n",
    ),
    ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2 avx2 fma f16c\n"),
    ("proc/sys/net/core/rmem_max", "212992\n"),
    ("sys/class/net/eth0/operstate", "up\n"),
    ("sys/class/net/eth0/mtu", "1500\n"),
];

/// A node of the network, which hosts join through.
#[derive(Debug)]
pub struct Peer {
    overlay: OverlayHandle,
    events: tokio::task::JoinHandle<()>,
}

impl Peer {
    /// Starts it, on loopback.
    ///
    /// # Errors
    /// If no socket can be had.
    pub async fn start() -> anyhow::Result<Self> {
        let (overlay, mut events) = Overlay::start(OverlayConfig::loopback(NodeSeed::generate(), Vec::new())).await?;
        let events = tokio::spawn(async move { while events.recv().await.is_some() {} });
        Ok(Self { overlay, events })
    }

    /// Where it is reached, by QUIC and by TCP.
    pub fn addresses(&self) -> Vec<String> {
        self.overlay.listen_addrs().iter().map(ToString::to_string).collect()
    }

    /// Ends it.
    pub async fn stop(self) {
        self.overlay.shutdown().await;
        self.events.abort();
    }
}

/// A folder that goes with its host.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut random = [0; 8];
        getrandom::fill(&mut random).context("no randomness from the system")?;
        let name = format!("tributary-rehearsal-{}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed), hex::encode(random));
        let path = std::env::temp_dir().join(name);
        // Fails where something stands: nobody else's folder is taken, and none is removed.
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a folder of the rehearsal is left");
        }
    }
}

/// A host.
#[derive(Debug)]
pub struct Host {
    /// How it is looked at.
    pub world: World,
    /// What goes into its configuration.
    pub config: Config,
    /// Lines that go before it.
    pub lines: String,
    /// Its chain.
    pub chain: PlayedChain,
    /// Sockets and locks that others hold, as long as it is looked at.
    pub held: Vec<Box<dyn Any + Send>>,
    folder: Temporary,
}

impl Host {
    /// A host that nothing is wrong with, on a network of this peer.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub async fn good(peer: &Peer) -> anyhow::Result<Self> {
        let folder = Temporary::new()?;
        let (root, data) = (folder.0.join("root"), DataDir::new(folder.0.join("data")));
        for (path, text) in KERNEL {
            write(&root.join(path), text)?;
        }
        data.create()?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).context("no randomness from the system")?;
        let seed = NodeSeed::new(secret);
        write_atomic(&data.seed(), hex::encode(secret).as_bytes(), 0o600)?;
        let account = Account::from_bytes(&[7; 32]).context("a constant key")?;
        chain_bridge::wallet::keep(&data.wallet(), PASSWORD, &account)?;
        let password = folder.0.join("password");
        write_atomic(&password, PASSWORD.as_bytes(), 0o600)?;
        let terms = DeployConfig::standard(Address([1; 20]), Address([2; 20]));
        let chain = PlayedChain::begin(plan(CHAIN_ID, FIRST_BLOCK, Address([3; 20]), 0, terms), seed.node_id()).await?;
        chain.deployment().write(&data.registry())?;
        LastFinal::of(&data, chain.deployment()).replace(PlayedChain::final_block())?;
        let model = keep_model(&data)?;
        keep_adapter(&data)?;
        let config = configured(&chain, peer, model);
        let context = Context::new(data, None, None, Some(password), Output::new(true));
        let world = World { context, root, gpu_tool: folder.0.join("nvidia-smi").into(), patience: PATIENCE, is_full: true };
        Ok(Self { world, config, lines: String::new(), chain, held: Vec::new(), folder })
    }

    /// Writes the configuration as it is now.
    ///
    /// # Errors
    /// What the file system says.
    pub fn configure(&self) -> anyhow::Result<()> {
        let text = self.lines.clone() + &self.config.to_toml()?;
        Ok(write_atomic(&self.data().config(), text.as_bytes(), 0o644)?)
    }

    /// Its data folder.
    pub fn data(&self) -> &DataDir {
        &self.world.context.data
    }

    /// Words that no finding may have in it: keys and passwords.
    ///
    /// # Errors
    /// What the file system says.
    pub fn secrets(&self) -> anyhow::Result<Vec<String>> {
        let seed = fs::read_to_string(self.data().seed())?;
        let wallet: serde_json::Value = serde_json::from_slice(&fs::read(self.data().wallet())?)?;
        let sealed = wallet["crypto"]["ciphertext"].as_str().context("a wallet without a key")?.to_owned();
        Ok(vec![PASSWORD.to_owned(), seed, sealed, hex::encode([7; 32])])
    }

    /// Says another thing in the kernel's name.
    ///
    /// # Errors
    /// What the file system says.
    pub fn kernel(&self, path: &str, text: &str) -> anyhow::Result<()> {
        write(&self.world.root.join(path), text)
    }

    /// Puts a program that tells of the GPU where it is looked for.
    ///
    /// # Errors
    /// What the file system says.
    pub fn gpu_tool(&self, script: &str) -> anyhow::Result<()> {
        let path = self.folder.0.join("nvidia-smi");
        write(&path, script)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    }

    /// Writes a damaged file, for its owner alone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn damage(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(write_atomic(path, bytes, 0o600)?)
    }
}

/// Changes the last byte of a file.
///
/// # Errors
/// What the file system says.
pub(super) fn rot(path: &Path) -> anyhow::Result<()> {
    let mut bytes = fs::read(path)?;
    let last = bytes.last_mut().context("an empty file")?;
    *last ^= 1;
    Ok(fs::write(path, bytes)?)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().context("a path with a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, text).with_context(|| format!("{}", path.display()))
}

fn keep_model(data: &DataDir) -> anyhow::Result<PathBuf> {
    let bytes = tiny::model_bytes(1);
    let path = data.model(BlobId::of(&bytes));
    fs::create_dir_all(data.models())?;
    fs::write(&path, bytes)?;
    Ok(path)
}

fn keep_adapter(data: &DataDir) -> anyhow::Result<()> {
    let fresh = data.path().join("adapter.new");
    fs::create_dir_all(data.adapters())?;
    fs::create_dir_all(&fresh)?;
    tiny::write_adapter(&fresh, None, 2, 1)?;
    let files = AdapterFiles::read(&fresh)?;
    let place = data.adapter(BlobId(files.hash()));
    ensure!(!place.exists(), "two adapters of one hash");
    Ok(fs::rename(fresh, place)?)
}

/// Loopback and free ports; no demands on the disk of whoever rehearses.
fn configured(chain: &PlayedChain, peer: &Peer, model: PathBuf) -> Config {
    let mut config = Config { rpc: chain.url(), bootstrap: peer.addresses(), model: Some(model), ..Config::default() };
    for address in [&mut config.overlay, &mut config.clients, &mut config.bulk].into_iter().chain(&mut config.log).chain(&mut config.admin)
    {
        address.set_port(0);
    }
    config.keeping.store.disk_reserve_bytes = 0;
    config.keeping.room_bytes = 0;
    config
}
