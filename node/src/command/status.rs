//! `tributary status`: what the operator's own running node is doing, and what the chain says of its account.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{client::ChainClient, time};
use clap::Args as ClapArgs;
use inference::proto::message::{FromClient, FromNode, Status, Watched};
use p2p::identity::NodeSeed;
use serde::Serialize;
use types::{amount::Amount, id::Address};

use super::{Context, audit::rounds::newest, talk::ask_node};
use crate::{
    chain::alarm_of,
    finalized::{Alarm, LastFinal},
    running::Addresses,
};

/// How long the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show what the running node of this data folder is doing.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The node must be running with this data folder. Lines under \"waiting\" say why something it was set up for is not served yet.\n\nExamples:\n  tributary status\n  tributary status --json | jq .providers"
)]
pub struct Args {}

/// What is printed: the node's own words, then the chain's.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    status: Status,
    account: Address,
    addresses: Addresses,
    /// What the chain says of the account; nothing if it cannot be asked.
    chain: Option<OnChain>,
    /// Why the chain could not be asked.
    chain_error: Option<String>,
    /// The latest round of checks that this node took part in; nothing if there was none.
    checks: Option<Checks>,
    /// Why that round could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks_error: Option<String>,
    /// A final block that changed: nothing of money is done until a person has looked.
    alarm: Option<Alarm>,
}

/// What came of the receipts that the node was drawn to check in an epoch.
#[derive(Debug, Serialize)]
struct Checks {
    epoch: u64,
    drawn: usize,
    agreed: usize,
    found: usize,
    withheld: usize,
}

#[derive(Debug, Serialize)]
struct OnChain {
    block: u64,
    /// Up to here blocks are replaced only if the L1 is.
    safe_block: u64,
    /// Up to here blocks are never replaced.
    final_block: u64,
    balance_wei: Amount,
    stake_wei: Amount,
    is_bonded: bool,
    /// Last epoch that opened; 0 before the first.
    epoch: u64,
    /// Last epoch whose payout is final; 0 before the first.
    final_epoch: u64,
}

/// Runs the command.
pub async fn run(context: &Context, _: Args) -> anyhow::Result<()> {
    let node = context.seed()?.node_id();
    let addresses = Addresses::read(&context.data)?;
    ensure!(addresses.node == node, "run.json is of node {}, the folder's key is of node {node}: restart the node", addresses.node);
    let stale = || {
        format!(
            "the node of this folder does not answer at {}: it was not stopped properly; start it with `tributary run`",
            addresses.clients
        )
    };
    let FromNode::Status(status) =
        ask_node(addresses.clients, node, &NodeSeed::generate(), &FromClient::Status, PATIENCE).await.with_context(stale)?
    else {
        bail!("the node answered something else than its status: it is of another version");
    };
    let (chain, alarm, chain_error) = match on_chain(context, addresses.account).await {
        Ok((chain, alarm)) => (Some(chain), alarm, None),
        Err(error) => (None, None, Some(format!("{error:#}"))),
    };
    // One file that is damaged hides nothing else of what is said here.
    let (last, checks_error) = match newest(context) {
        Ok(last) => (last, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let checks = last.map(|of| Checks { epoch: of.epoch, drawn: of.own, agreed: of.agreed, found: of.found, withheld: of.withheld });
    let printed = Printed { status, account: addresses.account, addresses, chain, chain_error, checks, checks_error, alarm };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    context.output.result(&printed, || describe(&printed, now))
}

async fn on_chain(context: &Context, account: Address) -> anyhow::Result<(OnChain, Option<Alarm>)> {
    let deployment = context.deployment()?;
    let kept = LastFinal::of(&context.data, &deployment);
    let client = ChainClient::connect(&context.config()?.rpc, deployment, None).await?;
    let alarm = alarm_of(&client, &kept).await?;
    let heads = client.heads().await?;
    let chain = OnChain {
        block: heads.latest.number,
        safe_block: heads.safe.number,
        final_block: heads.finalized.number,
        balance_wei: client.balance(account).await?,
        stake_wei: client.stake_of(account).await?,
        is_bonded: client.is_bonded(account).await?,
        epoch: client.current_epoch().await?,
        final_epoch: client.last_final().await?,
    };
    Ok((chain, alarm))
}

/// What the node watches, a line each.
fn watching(status: &Status, now: u64) -> Vec<String> {
    if !status.watches {
        return vec!["watching  nothing: watch_payouts = true in tributary.toml has this node check what others post".to_owned()];
    }
    if status.watching.is_empty() {
        return vec!["watching  no epoch has receipts or a payout of others now".to_owned()];
    }
    let line = |one: &Watched| {
        let whose = if one.of == Address::ZERO { String::new() } else { format!(" of {}", one.of) };
        let waits = one.waits_for.as_ref().map(|whom| format!("; waits for {whom}")).unwrap_or_default();
        let until = one.until.map(|until| format!(", until {}", time::when(until, now))).unwrap_or_default();
        format!("watching  epoch {}, {}{whose}: {}{waits}{until}", one.epoch, one.what, one.found)
    };
    status.watching.iter().map(line).collect()
}

fn describe(printed: &Printed, now: u64) -> String {
    let status = &printed.status;
    let mut lines: Vec<String> = printed.alarm.iter().map(|alarm| format!("{alarm}\n")).collect();
    lines.extend([
        format!("node      {} (version {}, up {})", status.node, status.version, duration(status.uptime_us)),
        format!("account   {}", printed.account),
        format!("network   {} peers connected, {} providers known", status.peers, status.providers),
        format!("serving   {} manifests, {} answers under way", status.manifests.len(), status.running),
    ]);
    lines.extend(status.manifests.iter().map(|manifest| format!("          {manifest}")));
    lines.extend(status.waiting.iter().map(|why| format!("waiting   {why}")));
    lines.push(format!("receipts  {} signed, {} not posted yet", status.receipts, status.receipts_unposted));
    lines.extend(watching(status, now));
    lines.extend(printed.checks.iter().map(|Checks { epoch, drawn, agreed, found, withheld }| {
        format!("checks    epoch {epoch}: drawn for {drawn}, {agreed} agree, {found} do not, {withheld} withheld: tributary audit rounds")
    }));
    lines.extend(printed.checks_error.iter().map(|error| format!("checks    {error}")));
    lines.push(format!("memory    {} MB", status.memory_bytes / 1_000_000));
    lines.push(format!("clients   {}", printed.addresses.clients));
    lines.extend(printed.addresses.overlay.iter().map(|at| format!("overlay   {at}")));
    match (&printed.chain, &printed.chain_error) {
        (Some(chain), _) => {
            lines.push(format!("balance   {}", crate::output::money(chain.balance_wei)));
            lines.push(format!("stake     {}{}", crate::output::money(chain.stake_wei), if chain.is_bonded { "" } else { ", not bonded" }));
            lines.push(format!("chain     block {}, safe {}, final {}", chain.block, chain.safe_block, chain.final_block));
            lines.push(format!("epochs    {} open, payout of {} past its challenges", chain.epoch, chain.final_epoch));
        }
        (None, Some(error)) => lines.push(format!("chain     {error}")),
        (None, None) => {}
    }
    lines.join("\n")
}

/// Hours, minutes and seconds.
fn duration(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {seconds} s"),
        _ => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use types::id::{Hash32, NodeId};

    use super::*;

    fn printed(chain_error: Option<&str>) -> Printed {
        let node = NodeId([3; 32]);
        let status = Status {
            node,
            version: "0.1.0".into(),
            uptime_us: 61_500_000,
            peers: 4,
            providers: 5,
            running: 1,
            manifests: vec![Hash32([1; 32])],
            waiting: vec!["version 3@1: its index root is not on the chain yet".into()],
            receipts: 7,
            receipts_unposted: 2,
            memory_bytes: 650_000_000,
            watches: true,
            watching: vec![],
        };
        let account = Address([2; 20]);
        let at = "127.0.0.1:9".parse().unwrap();
        let addresses = Addresses {
            pid: 1,
            node,
            account,
            overlay: vec!["/ip4/127.0.0.1/tcp/1".into()],
            clients: at,
            bulk: at,
            log: None,
            admin: None,
        };
        let chain_error = chain_error.map(str::to_owned);
        Printed { status, account, addresses, chain: None, chain_error, checks: None, checks_error: None, alarm: None }
    }

    #[test]
    fn the_nodes_own_words_stand_at_the_top_of_the_document() {
        let value = serde_json::to_value(printed(None)).unwrap();
        assert_eq!((value["providers"].as_u64(), value["manifests"].as_array().map(Vec::len)), (Some(5), Some(1)));
        assert_eq!(value["account"], Address([2; 20]).to_string());
    }

    #[test]
    fn what_is_awaited_and_a_silent_chain_are_shown() {
        let text = describe(&printed(Some("the chain at http://x does not answer")), 0);
        assert!(text.contains("waiting   version 3@1") && text.contains("does not answer") && text.contains("up 1 min 1 s"), "{text}");
    }

    #[test]
    fn what_is_watched_is_told_with_whom_it_waits_for_and_until_when() {
        let mut printed = printed(None);
        assert!(describe(&printed, 0).contains("watching  no epoch has receipts"));
        printed.status.watching = vec![Watched {
            epoch: 3,
            what: "payout".into(),
            of: Address([4; 20]),
            root: Hash32([5; 32]),
            found: "wrong: 2 questions about it were asked on the chain".into(),
            waits_for: Some("its poster".into()),
            until: Some(10_800),
        }];
        let text = describe(&printed, 0);
        let expected = "asked on the chain; waits for its poster, until 1970-01-01 03:00:00 UTC (in 3 h)";
        assert!(text.contains("watching  epoch 3, payout of 0x0404") && text.contains(expected), "{text}");
        printed.status.watches = false;
        assert!(describe(&printed, 0).contains("watching  nothing: watch_payouts = true"));
    }

    #[test]
    fn durations_are_short() {
        assert_eq!([0, 59_999_999, 3_600_000_000].map(duration), ["0 s", "59 s", "1 h 0 min"]);
    }
}
