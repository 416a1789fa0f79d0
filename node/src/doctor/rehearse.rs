//! A good host, spoilt in one way after the other, to see that each fault is named and nothing whole is called broken.
//!
//! The world is changed and never a fact: a port is really taken, a file really cut, the endpoint really lies. So what is tried is everything between the socket
//! or the file and the words. Each host lies in a temporary folder of its own, with a chain that is played on loopback ([`chain`]), a real peer of the overlay, a
//! tiny model, and what its kernel would tell in files. Nothing leaves the machine.

pub mod chain;
mod faults;
mod host;

use std::fmt;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

pub use self::{
    faults::{FAULTS, Fault},
    host::{Host, Peer},
};
use super::{Finding, examine};

/// Looks at a host that nothing is wrong with.
const CLEAN_HOSTS: usize = 4;
/// Hosts at once: most of a trial waits for others.
const AT_ONCE: usize = 8;

/// What came of it.
#[derive(Debug)]
pub struct Rehearsal {
    /// Clean hosts first, then the faults in their order.
    pub trials: Vec<Trial>,
}

/// One host.
#[derive(Debug)]
pub struct Trial {
    /// What was wrong with it.
    pub fault: &'static str,
    /// Whether its check said so; a clean host has nothing to find.
    pub is_found: bool,
    /// What was called wrong and is not.
    pub unexpected: Vec<Finding>,
}

/// A figure, in the form that the benchmarks read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub figure: &'static str,
    /// How much.
    pub ours: f64,
    /// Of what.
    pub unit: &'static str,
    /// Over how many hosts.
    pub n: usize,
    /// What it includes.
    pub note: &'static str,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Rehearsal {
    /// Faults named, in percent, and false alarms.
    pub fn rows(&self) -> Vec<Row> {
        let faults = self.trials.len().saturating_sub(CLEAN_HOSTS);
        let found = self.trials[CLEAN_HOSTS..].iter().filter(|trial| trial.is_found).count();
        let alarms = self.trials.iter().map(|trial| trial.unexpected.len()).sum::<usize>();
        // Counts of some dozens: exact as floats.
        let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        vec![
            Row {
                figure: "network.doctor_found",
                ours: 100.0 * count(found) / count(faults.max(1)),
                unit: "%",
                n: faults,
                note: "injected faults that their own check names",
            },
            Row {
                figure: "network.doctor_false_alarms",
                ours: count(alarms),
                unit: "findings",
                n: self.trials.len(),
                note: "on clean hosts, and beside the injected fault",
            },
        ]
    }

    /// Whether every fault was named and nothing else.
    pub fn is_perfect(&self) -> bool {
        self.trials.iter().all(|trial| trial.is_found && trial.unexpected.is_empty())
    }
}

/// Tries clean hosts and every fault.
///
/// # Errors
/// If a host cannot be set up: no room in the temporary folder, no sockets.
pub async fn rehearse() -> anyhow::Result<Rehearsal> {
    let peer = Peer::start().await?;
    let clean = (0..CLEAN_HOSTS).map(|_| None);
    let trials = clean.chain(FAULTS.iter().map(Some)).map(|fault| tried(&peer, fault));
    let trials = stream::iter(trials).buffered(AT_ONCE).try_collect().await;
    peer.stop().await;
    Ok(Rehearsal { trials: trials? })
}

/// Sets up a host, spoils it, looks.
async fn tried(peer: &Peer, fault: Option<&'static Fault>) -> anyhow::Result<Trial> {
    let mut host = Host::good(peer).await?;
    if let Some(fault) = fault {
        (fault.inject)(&mut host)?;
    }
    host.configure()?;
    let findings = examine(&host.world).await;
    let alarms = || findings.iter().filter(|finding| finding.is_alarm());
    let is_meant =
        |finding: &Finding| fault.is_some_and(|fault| finding.check == fault.check || fault.consequences.contains(&finding.check));
    Ok(Trial {
        fault: fault.map_or("nothing", |fault| fault.words),
        is_found: fault.is_none_or(|fault| alarms().any(|finding| finding.check == fault.check)),
        unexpected: alarms().filter(|finding| !is_meant(finding)).cloned().collect(),
    })
}
