//! Sockets, links and peers.

use std::net::IpAddr;

use super::{Verdict, bad, good, unconfigured, unknown, warn};
use crate::{
    config::Config,
    doctor::{
        facts::{BindFault, Facts, Network, Socket},
        probe::sockets,
    },
};

/// Least packet of a link: IPv6 demands it, and QUIC's first packets fill most of it.
const MTU_MIN: u64 = 1_280;
/// The kernel's own default: less was set by somebody.
const BUFFER_BYTES_MIN: u64 = 212_992;

fn config(facts: &Facts) -> Option<&Config> {
    facts.files.config.as_ref().ok()
}

fn named(socket: &Socket) -> String {
    format!("{} = {} ({})", socket.key, socket.at, if socket.is_udp { "UDP" } else { "TCP" })
}

/// Whether both cannot be bound at once.
fn clash(one: &Socket, other: &Socket) -> bool {
    let same_place = one.at.ip() == other.at.ip() || one.at.ip().is_unspecified() || other.at.ip().is_unspecified();
    one.is_udp == other.is_udp && one.at.port() == other.at.port() && one.at.port() != 0 && same_place
}

pub(super) fn distinct(facts: &Facts) -> Verdict {
    let Some(config) = config(facts) else { return unconfigured() };
    let sockets = sockets(config);
    for (at, one) in sockets.iter().enumerate() {
        if let Some(other) = sockets[at + 1..].iter().find(|other| clash(one, other)) {
            return bad(
                format!("{} and {} cannot be bound both", named(one), named(other)),
                format!("give {} a port of its own in tributary.toml", other.key),
            );
        }
    }
    good("no two services share one")
}

fn faults(network: &Network, is_wanted: impl Fn(&BindFault) -> bool) -> Vec<String> {
    let wanted = network.binds.iter().filter_map(|(socket, bound)| {
        let fault = bound.as_ref().err().filter(|fault| is_wanted(fault))?;
        Some(if let BindFault::Other(why) = fault { format!("{}: {why}", named(socket)) } else { named(socket) })
    });
    wanted.collect()
}

pub(super) fn free(facts: &Facts) -> Verdict {
    let Some(network) = &facts.network else { return unconfigured() };
    if facts.files.holder.is_node() {
        return good("the running node has them");
    }
    let taken = faults(network, |fault| !matches!(fault, BindFault::Foreign));
    if taken.is_empty() {
        return good("all can be bound");
    }
    bad(
        format!("cannot be bound: {}", taken.join(", ")),
        "stop what uses them (ss -lptun names it), or choose other ports in tributary.toml",
    )
}

pub(super) fn own(facts: &Facts) -> Verdict {
    let Some(network) = &facts.network else { return unconfigured() };
    if facts.files.holder.is_node() {
        return good("the running node has them");
    }
    let foreign = faults(network, |fault| matches!(fault, BindFault::Foreign));
    if foreign.is_empty() {
        return good("all are this machine's");
    }
    bad(
        format!("no link of this machine has the address of {}", foreign.join(", ")),
        "write an address that `ip addr` shows; behind a router that is not the router's own",
    )
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64,
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The address in a multiaddress that was read as one before.
fn ip_of(multiaddress: &str) -> Option<IpAddr> {
    multiaddress.split('/').nth(2)?.parse().ok()
}

pub(super) fn reachable(facts: &Facts) -> Verdict {
    let (Some(config), Some(network)) = (config(facts), &facts.network) else { return unconfigured() };
    let told = [("overlay", config.overlay), ("clients", config.clients), ("bulk", config.bulk)];
    // A node tells others the addresses that it is bound to.
    if let Some((key, at)) = told.iter().find(|(_, at)| at.ip().is_unspecified()) {
        return bad(
            format!("{key} = {at}: others would be told to connect to {}", at.ip()),
            format!("write the address by which others reach this machine for {key}"),
        );
    }
    let is_far = network.bootstrap.iter().filter_map(|text| ip_of(text)).any(|ip| !ip.is_loopback() && !is_private(ip));
    if !is_far {
        return good("no node beyond this machine or its network is named to join through");
    }
    if let Some((key, at)) = told.iter().find(|(_, at)| at.ip().is_loopback()) {
        return warn(
            format!("{key} = {at}: the network is elsewhere, and nobody there reaches this address, so nothing is earned"),
            format!("write this machine's public address for {key}"),
        );
    }
    if let Some((key, at)) = told.iter().find(|(_, at)| is_private(at.ip())) {
        return warn(
            format!("{key} = {at} is behind a router (NAT), and there is no relay in this version: nobody outside reaches it"),
            "run the node where it has a public address",
        );
    }
    good("public addresses")
}

/// How the two ways to somebody went: by QUIC and by TCP.
fn answers(network: &Network) -> (Option<bool>, Option<bool>) {
    let answered = |tried: &Option<Result<bool, String>>| tried.as_ref().map(|tried| *tried == Ok(true));
    (answered(&network.by_udp), answered(&network.by_tcp))
}

pub(super) fn bootstrap(facts: &Facts) -> Verdict {
    let Some(network) = &facts.network else { return unconfigured() };
    let known = network.bootstrap.len();
    match answers(network) {
        (None, None) => warn(
            "no node to join through is known",
            "put the address of a running node into `bootstrap` of tributary.toml, as its `tributary run` prints it; the first node of a network has none",
        ),
        (Some(true), _) | (_, Some(true)) => good(format!("answers; {known} addresses are known")),
        _ => {
            let why = [&network.by_udp, &network.by_tcp].into_iter().flatten().find_map(|tried| tried.as_ref().err());
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            bad(
                format!("none of {known} addresses answers{why}: {}", network.bootstrap.join(", ")),
                "ask the operators of these nodes whether they run, add another address to `bootstrap`, and let UDP and TCP out of the firewall",
            )
        }
    }
}

pub(super) fn udp(facts: &Facts) -> Verdict {
    let Some(network) = &facts.network else { return unconfigured() };
    match answers(network) {
        (None, _) => unknown("no node to join through is known by a QUIC address"),
        (Some(true), _) => good("gets out and back, in packets of 1,228 bytes"),
        (Some(false), Some(true)) => bad(
            "the network answers by TCP and not by UDP: clients and other nodes, who speak QUIC, do not get through",
            "let UDP out and its answers in, at this machine's firewall and at the router's",
        ),
        (Some(false), _) => unknown("nobody answers in any way"),
    }
}

pub(super) fn mtu(facts: &Facts) -> Verdict {
    let Some(network) = &facts.network else { return unconfigured() };
    let narrow: Vec<String> =
        network.links.iter().filter(|(_, mtu)| *mtu < MTU_MIN).map(|(name, mtu)| format!("{name} carries {mtu} bytes")).collect();
    if !narrow.is_empty() {
        return bad(
            format!("{}, QUIC needs {MTU_MIN}", narrow.join(", ")),
            format!("run ip link set dev NAME mtu {MTU_MIN}, or raise it where the tunnel is made"),
        );
    }
    match network.links.iter().min_by_key(|(_, mtu)| mtu) {
        None => unknown("no link is up beside loopback"),
        Some((name, mtu)) => good(format!("{mtu} bytes on {name}, the narrowest link")),
    }
}

pub(super) fn buffers(facts: &Facts) -> Verdict {
    let Some(network) = &facts.network else { return unconfigured() };
    match network.buffer_bytes {
        None => unknown("the kernel does not say"),
        Some(bytes) if bytes < BUFFER_BYTES_MIN => warn(
            format!("net.core.rmem_max is {bytes}: bursts of packets are dropped, and answers stall"),
            "run sysctl -w net.core.rmem_max=7500000, and keep it in /etc/sysctl.d",
        ),
        Some(bytes) => good(format!("{bytes} bytes a socket")),
    }
}
