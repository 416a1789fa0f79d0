//! Sockets are bound and let go, links and buffers read from the kernel, and the network is joined for a moment, by QUIC and by TCP apart: a firewall that
//! lets only one of them through looks healthy to who tries both.
//!
//! QUIC's first packets are 1,200 bytes and may not be divided on the way, so an answer also says that packets of 1,228 bytes get through.

use std::{
    io::ErrorKind,
    net::{TcpListener, UdpSocket},
    path::Path,
    time::Duration,
};

use p2p::overlay::{Multiaddr, Overlay, OverlayConfig};
use tokio::time::{interval, timeout};

use super::World;
use crate::{
    config::Config,
    data::read_text,
    doctor::facts::{BindFault, Network, Socket},
    peers,
};

/// Between two looks at who has answered.
const LOOK: Duration = Duration::from_millis(20);
/// Longest number of the kernel that is read.
const NUMBER_BYTES_MAX: u64 = 64;
/// Most links that are told of.
const LINKS_MAX: usize = 64;

pub(super) async fn look(world: &World, config: &Config, is_running: bool) -> Network {
    let told = config.bootstrap.iter().filter_map(|text| text.parse::<Multiaddr>().ok());
    let known: Vec<Multiaddr> = told.chain(peers::remembered(&world.context.data)).collect();
    let (quic, tcp): (Vec<_>, Vec<_>) = known.iter().cloned().partition(|address| address.to_string().contains("/udp/"));
    let patience = world.patience.peers;
    let (by_udp, by_tcp) = tokio::join!(reached(quic, patience), reached(tcp, patience));
    Network {
        binds: if is_running { Vec::new() } else { sockets(config).into_iter().map(|socket| (socket, bind(socket))).collect() },
        bootstrap: known.iter().map(ToString::to_string).collect(),
        by_udp,
        by_tcp,
        links: links(&world.root),
        buffer_bytes: number(&world.root.join("proc/sys/net/core/rmem_max")),
    }
}

/// What a node with this configuration binds.
pub(crate) fn sockets(config: &Config) -> Vec<Socket> {
    let socket = |key, is_udp, at| Socket { key, is_udp, at };
    let mut sockets = vec![
        socket("overlay", true, config.overlay),
        socket("overlay", false, config.overlay),
        socket("clients", true, config.clients),
        socket("bulk", true, config.bulk),
    ];
    sockets.extend(config.log.map(|at| socket("log", false, at)));
    sockets.extend(config.admin.map(|at| socket("admin", false, at)));
    sockets
}

fn bind(socket: Socket) -> Result<(), BindFault> {
    let bound = if socket.is_udp { UdpSocket::bind(socket.at).map(drop) } else { TcpListener::bind(socket.at).map(drop) };
    bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => BindFault::Taken,
        ErrorKind::AddrNotAvailable => BindFault::Foreign,
        _ => BindFault::Other(error.to_string()),
    })
}

/// Whether one of some addresses answers: as a client of a moment, which hears and says nothing.
async fn reached(addresses: Vec<Multiaddr>, patience: Duration) -> Option<Result<bool, String>> {
    if addresses.is_empty() {
        return None;
    }
    let config = OverlayConfig { gossip: false, ..OverlayConfig::light(addresses) };
    let (overlay, mut events) = match Overlay::start(config).await {
        Ok(started) => started,
        Err(error) => return Some(Err(error.to_string())),
    };
    let reader = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let answer = async {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            match overlay.peers().await {
                Ok(peers) if peers.is_empty() => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let answer = timeout(patience, answer).await.unwrap_or(Ok(false));
    overlay.shutdown().await;
    reader.abort();
    Some(answer)
}

/// Links that are up, without loopback, each with its largest packet.
fn links(root: &Path) -> Vec<(String, u64)> {
    let Ok(entries) = std::fs::read_dir(root.join("sys/class/net")) else { return Vec::new() };
    let mut links: Vec<(String, u64)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let (name, path) = (entry.file_name().into_string().ok()?, entry.path());
            let is_up = read_text(&path.join("operstate"), NUMBER_BYTES_MAX).ok()?.trim() == "up";
            (name != "lo" && is_up).then(|| number(&path.join("mtu")).map(|mtu| (name, mtu))).flatten()
        })
        .take(LINKS_MAX)
        .collect();
    links.sort();
    links
}

fn number(path: &Path) -> Option<u64> {
    read_text(path, NUMBER_BYTES_MAX).ok()?.trim().parse().ok()
}
