//! What operators run into, one fault for each check at least, each done to the host and to nothing else.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::{PermissionsExt as _, symlink},
    time::Duration,
};

use anyhow::Context as _;
use types::id::{Address, NodeId};

use super::{
    chain::Lies,
    host::{Host, rot},
};
use crate::{data::write_atomic, doctor::Check, running::Addresses};

/// How long a fault is waited for that shows by silence alone.
const SILENCE: Duration = Duration::from_millis(500);
/// The same where something else must answer meanwhile.
const ONE_SIDED_SILENCE: Duration = Duration::from_secs(8);

/// A fault.
#[derive(Debug)]
pub struct Fault {
    /// Who must name it.
    pub check: Check,
    /// What is wrong.
    pub words: &'static str,
    /// Who else may say something, because it is spoilt by it too.
    pub consequences: &'static [Check],
    /// Does it.
    pub inject: fn(&mut Host) -> anyhow::Result<()>,
}

const fn fault(check: Check, words: &'static str, inject: fn(&mut Host) -> anyhow::Result<()>) -> Fault {
    Fault { check, words, consequences: &[], inject }
}

fn mode(path: &std::path::Path, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| format!("{}", path.display()))
}

fn lie(host: &Host, lies: Lies) -> anyhow::Result<()> {
    host.chain.lie(lies);
    Ok(())
}

/// Addresses where somebody has a socket and says nothing.
fn silence(host: &mut Host) -> anyhow::Result<[String; 2]> {
    let (udp, tcp) = (UdpSocket::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let (quic_port, tcp_port) = (udp.local_addr()?.port(), tcp.local_addr()?.port());
    host.held.push(Box::new((udp, tcp)));
    Ok([format!("/ip4/127.0.0.1/udp/{quic_port}/quic-v1"), format!("/ip4/127.0.0.1/tcp/{tcp_port}")])
}

/// The file of addresses that a node which was killed, or hangs, has left.
fn leave_addresses(host: &Host, clients: std::net::SocketAddr) -> anyhow::Result<()> {
    let node = host.world.context.seed()?.node_id();
    let addresses = Addresses { pid: 1, node, account: Address([5; 20]), overlay: vec![], clients, bulk: clients, log: None, admin: None };
    Ok(write_atomic(&Addresses::path(host.data()), &serde_json::to_vec(&addresses)?, 0o644)?)
}

/// All of them.
pub static FAULTS: [Fault; 52] = [
    fault(Check::DataFolder, "others may write into the data folder", |host| mode(host.data().path(), 0o777)),
    fault(Check::DataLock, "a folder lies where the lock should", |host| Ok(fs::create_dir(host.data().path().join("lock"))?)),
    fault(Check::NodeAlive, "the last node was killed", |host| leave_addresses(host, ([127, 0, 0, 1], 9).into())),
    fault(Check::NodeAlive, "the running node hangs", |host| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        leave_addresses(host, socket.local_addr()?)?;
        let lock = host.data().lock()?;
        host.held.push(Box::new((socket, lock)));
        Ok(())
    }),
    fault(Check::ConfigFile, "a key is misspelt", |host| {
        host.lines = "answer_max = 4\n".to_owned();
        Ok(())
    }),
    fault(Check::ConfigFile, "the configuration is cut", |host| {
        host.lines = "rate_in = \"".to_owned();
        Ok(())
    }),
    fault(Check::ConfigValues, "a value cannot work", |host| {
        host.config.answers_max = 0;
        Ok(())
    }),
    fault(Check::KeyModes, "others may read the node's key", |host| mode(&host.data().seed(), 0o644)),
    fault(Check::KeyModes, "others may read the wallet", |host| mode(&host.data().wallet(), 0o640)),
    fault(Check::NodeSeed, "the node's key is cut", |host| host.damage(&host.data().seed(), b"ab12")),
    fault(Check::Wallet, "the wallet is damaged", |host| host.damage(&host.data().wallet(), b"{\"crypto\":{}}")),
    fault(Check::Wallet, "another password is given", |host| {
        let other = host.data().path().join("other-password");
        host.damage(&other, b"not it")?;
        host.world.context = host.world.context.with_password_file(other);
        Ok(())
    }),
    fault(Check::RegistryFile, "registry.json is cut", |host| host.damage(&host.data().registry(), b"{\"chain_id\": 4")),
    fault(Check::RefusedFile, "the file of refused nodes names none", |host| host.damage(&host.data().refused(), b"# whom\nnobody\n")),
    fault(Check::PeersFile, "the remembered addresses are damaged", |host| host.damage(&host.data().path().join("peers.json"), b"[\"/ip4")),
    fault(Check::OpenFiles, "1,024 open files are allowed", |host| {
        host.kernel("proc/self/limits", "Max open files            1024                 524288               files\n")
    }),
    fault(Check::Memory, "there is no memory left", |host| host.kernel("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 20480 kB\n")),
    fault(Check::Processor, "the processor is an old one", |host| {
        host.kernel("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2 ssse3\n")
    }),
    fault(Check::Gpu, "the GPU's driver fails", |host| {
        host.kernel("dev/nvidia0", "")?;
        host.gpu_tool("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver'\nexit 9\n")
    }),
    fault(Check::Gpu, "the GPU's program hangs", |host| {
        host.kernel("dev/nvidia0", "")?;
        host.world.patience.tool = SILENCE;
        host.gpu_tool("#!/bin/sh\nexec sleep 600\n")
    }),
    fault(Check::DiskFree, "the disk has less than is reserved", |host| {
        host.config.keeping.store.disk_reserve_bytes = 1 << 62;
        Ok(())
    }),
    // Nobody, not even root, makes a file there.
    fault(Check::DiskWrite, "the store lies where nothing can be written", |host| Ok(symlink("/proc/self", host.data().store())?)),
    fault(Check::ModelFile, "the model file is cut", |host| {
        let path = host.config.model.clone().context("a model")?;
        let half = fs::metadata(&path)?.len() / 2;
        Ok(fs::OpenOptions::new().write(true).open(path)?.set_len(half)?)
    }),
    fault(Check::ModelFile, "the model file is gone", |host| Ok(fs::remove_file(host.config.model.clone().context("a model")?)?)),
    fault(Check::ModelHash, "a byte of the model has changed", |host| rot(&host.config.model.clone().context("a model")?)),
    fault(Check::Adapters, "a byte of an adapter has changed", |host| {
        let adapter = fs::read_dir(host.data().adapters())?.next().context("an adapter")??.path();
        rot(&adapter.join(inference::adapter::WEIGHTS_FILE))
    }),
    Fault {
        // The port may be taken by others between here and there.
        consequences: &[Check::PortsFree],
        ..fault(Check::PortsDistinct, "two services have one port", |host| {
            let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
            host.config.clients.set_port(port);
            host.config.bulk.set_port(port);
            Ok(())
        })
    },
    fault(Check::PortsFree, "another program has the clients' port", |host| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        host.config.clients = socket.local_addr()?;
        host.held.push(Box::new(socket));
        Ok(())
    }),
    fault(Check::PortsFree, "another program has the log's port", |host| {
        let socket = TcpListener::bind("127.0.0.1:0")?;
        host.config.log = Some(socket.local_addr()?);
        host.held.push(Box::new(socket));
        Ok(())
    }),
    fault(Check::AddressesOwn, "an address is the router's", |host| {
        host.config.clients = ([203, 0, 113, 9], 0).into();
        Ok(())
    }),
    fault(Check::Reachable, "others are told no address", |host| {
        host.config.clients = ([0, 0, 0, 0], 0).into();
        Ok(())
    }),
    fault(Check::Reachable, "the network is elsewhere and others are told loopback", |host| {
        host.config.bootstrap.push("/ip4/203.0.113.5/udp/7401/quic-v1".to_owned());
        Ok(())
    }),
    fault(Check::Bootstrap, "nobody answers", |host| {
        host.config.bootstrap = silence(host)?.to_vec();
        host.world.patience.peers = SILENCE;
        Ok(())
    }),
    fault(Check::Bootstrap, "nobody to join through is named", |host| {
        host.config.bootstrap.clear();
        Ok(())
    }),
    fault(Check::Udp, "a firewall lets TCP through and not UDP", |host| {
        let [quic, _] = silence(host)?;
        host.config.bootstrap.retain(|address| address.contains("/tcp/"));
        host.config.bootstrap.push(quic);
        host.world.patience.peers = ONE_SIDED_SILENCE;
        Ok(())
    }),
    fault(Check::Mtu, "a tunnel carries too little", |host| {
        host.kernel("sys/class/net/wg0/operstate", "up\n")?;
        host.kernel("sys/class/net/wg0/mtu", "1200\n")
    }),
    fault(Check::UdpBuffers, "the kernel's buffers are small", |host| host.kernel("proc/sys/net/core/rmem_max", "4096\n")),
    fault(Check::Rpc, "the endpoint hangs", |host| {
        host.world.patience.answer = SILENCE;
        lie(host, Lies { hangs: true, ..Lies::default() })
    }),
    fault(Check::Clock, "the clock is five minutes behind", |host| lie(host, Lies { clock_s: 300, ..Lies::default() })),
    fault(Check::Clock, "the clock is five minutes ahead", |host| lie(host, Lies { clock_s: -300, ..Lies::default() })),
    fault(Check::ChainId, "the endpoint is of another chain", |host| lie(host, Lies { chain_id: Some(1), ..Lies::default() })),
    fault(Check::Contracts, "a contract is not there", |host| {
        lie(host, Lies { without: Some(host.chain.deployment().escrow), ..Lies::default() })
    }),
    fault(Check::ContractCode, "the escrow is somebody else's", |host| {
        lie(host, Lies { other: Some(host.chain.deployment().escrow), ..Lies::default() })
    }),
    fault(Check::Heads, "the endpoint knows no safe block", |host| lie(host, Lies { is_unsafe: true, ..Lies::default() })),
    fault(Check::HeadAge, "the chain has stopped", |host| lie(host, Lies { age_s: 600, ..Lies::default() })),
    fault(Check::Pace, "blocks come too fast for the deployment", |host| lie(host, Lies { is_hasty: true, ..Lies::default() })),
    fault(Check::FinalBlock, "a final block has changed", |host| lie(host, Lies { is_reorganised: true, ..Lies::default() })),
    fault(Check::Logs, "the endpoint gives no events", |host| lie(host, Lies { is_mute: true, ..Lies::default() })),
    fault(Check::History, "the endpoint has forgotten old blocks", |host| lie(host, Lies { is_pruned: true, ..Lies::default() })),
    fault(Check::Binding, "the account is bound to another node", |host| {
        lie(host, Lies { node: Some(NodeId([9; 32])), ..Lies::default() })
    }),
    fault(Check::Stake, "the stake is too small", |host| lie(host, Lies { is_unbonded: true, ..Lies::default() })),
    fault(Check::Gas, "the account is empty", |host| lie(host, Lies { is_poor: true, ..Lies::default() })),
];
