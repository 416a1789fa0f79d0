//! Whatever fails charges nothing: requests broken in every way, clients that leave, nodes that are killed, a chain that cannot be asked, a disk that is
//! full, against real node processes and the real escrow. Every class of failure has a payer of its own, whose deposit is read from the chain before
//! the first failure and after the nodes have collected, posted and been paid.
//!
//! That the measure sees a charge is part of the test: among the failures each node gives one answer that is paid on purpose, to a payer that also
//! fails before and behind it, and exactly these fees are missing.
//!
//! The gate injects some 150 failures; `TRIBUTARY_FAILURES` names another number, and `cargo xtask soak failures` injects 10,000. A refusal costs about
//! a millisecond, a first token about ten, a client's time-out ten seconds (many at once), a killed node some three seconds.

mod adapters;
mod left;
mod money;
mod process;
mod refused;
mod scene;

use std::time::Instant;

use harness::{Cluster, Setup, chain, files};
use scene::Scene;
use types::amount::{Amount, WEI_PER_OPEN};

/// Failures injected where nobody names a number.
const IN_THE_GATE: usize = 150;
/// Fewest of each class, however small the campaign.
const LEAST: usize = 3;
/// Nodes: two take every failure of requests, the third is killed, cut off and starved.
const NODES: usize = 3;
/// Answers in flight on one node: those of silent clients stand for ten seconds.
const ANSWERS_MAX: usize = 64;
/// Seconds of the windows: roots are taken for a third of the first.
const WINDOWS_S: (u64, u64) = (12, 3);

/// How many failures of each class a campaign has.
#[derive(Debug, Clone, Copy)]
struct Plan {
    total: usize,
}

impl Plan {
    fn from_environment() -> Self {
        let named = std::env::var("TRIBUTARY_FAILURES").ok();
        let total = named.map_or(IN_THE_GATE, |text| text.parse().expect("TRIBUTARY_FAILURES is a number"));
        Self { total }
    }

    /// A class that has `share` of ten thousand.
    fn of(self, share: usize) -> usize {
        (share * self.total).div_ceil(10_000).max(LEAST)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_every_kind_charge_nothing_and_what_was_paid_for_is_exactly_what_is_missing() {
    let _alone = harness::alone().await;
    let (plan, started) = (Plan::from_environment(), Instant::now());
    let setup = Setup { nodes: NODES, model: Some(files::tiny_model()), people: vec!["author"] };
    // A client's losses here are its own doing a thousand times over; how a node protects itself from that is another test.
    let configured = |config: &mut node::config::Config| {
        (config.answers_max, config.willing_to_lose) = (ANSWERS_MAX, Some(Amount(1_000_000 * WEI_PER_OPEN)));
    };
    let mut cluster = Cluster::start_on(chain::devnet_of(WINDOWS_S.0, WINDOWS_S.1), setup, configured).await;
    let victim = cluster.nodes.pop().expect("three nodes");
    let scene = Scene::set(&cluster, &victim, plan).await;
    let before = money::read(&scene).await;

    // Before all else: it moves the chain past every offer that is open.
    let stale = refused::stale_quotes(&scene).await;
    let requests = async {
        refused::everything(&scene, &stale).await;
        left::everything(&scene).await;
        adapters::everything(&scene).await;
    };
    let processes = process::everything(&scene, victim);
    let (paid, silent) = (left::paid_on_purpose(&scene), left::silent(&scene));
    let ((), mut paid, (), (victim, third)) = tokio::join!(requests, paid, silent, processes);

    paid.push(third);
    let ended = scene.ended();
    cluster.nodes.push(victim);
    let charged = money::settled(&cluster, &paid, &before).await;
    money::table(&ended, &charged);
    let injected = ended.failures();
    assert!(injected >= plan.total, "{injected} failures were injected, {} were asked for", plan.total);
    cluster.say(&format!("{injected} failures charged nothing, after {:.0} s", started.elapsed().as_secs_f64()));
    drop(cluster.stop().await);
}
