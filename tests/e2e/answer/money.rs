//! What is collected is paid or stands as unclaimed, to the wei: the receipts are divided here anew, apart from the code under test.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chain_bridge::{deploy::Deployment, devnet::Role};
use futures::future::join_all;
use harness::{Cluster, Party, cluster::text};
use node::chain::Chained;
use serde_json::Value;
use types::{
    amount::Amount,
    id::Address,
    manifest::{AssetKind, Manifest},
    receipt::Receipt,
};

use super::{QUESTIONS, receipt, tamper};

/// Longest for roots, payout and its window: two epochs of W1 15 s and W2 5 s, should some node miss the first one's five seconds.
const SETTLED_WAIT: Duration = Duration::from_secs(120);

/// The client that vanished comes back and pays for what it gets.
pub(super) async fn a_later_answer_of_the_client_that_vanished(cluster: &Cluster) -> PathBuf {
    let answer = cluster.run(cluster.person("vanishing"), &["ask", "--with", "echo", "--tokens", "32", QUESTIONS[0]]).await;
    assert_ne!(answer["fee_wei"], "0");
    receipt(&answer)
}

/// Settles, waits for the payout, claims for everybody who has a key, and compares every sum with the chain.
pub(super) async fn every_wei_is_paid_out(cluster: &Cluster, receipts: &[PathBuf]) {
    let author = cluster.person("author").account;
    let due = due(receipts, author, cluster.devnet.deployment());
    let fees: u128 = due.values().sum();
    let deposits_before = deposits(cluster).await;
    settle(cluster).await;
    let collected = final_payout(cluster).await;
    let settlement = cluster.devnet.deployment().settlement;
    let balance = async |account: Address| cluster.chain.balance(account).await.expect("the chain answers").0;
    assert_eq!(collected, fees, "collected is the sum of the receipts' fees");
    assert_eq!(balance(settlement).await, fees, "the settlement contract holds what was collected");
    assert_eq!(deposits_before - deposits(cluster).await, fees, "the clients' deposits fell by that");

    let roles = join_all([("protocol", Role::Protocol)].map(|(name, role)| with_key(cluster, name, role))).await;
    let claimants: Vec<&Party> = cluster.nodes.iter().chain([cluster.person("author")]).collect();
    let payees: Vec<&Party> = claimants.iter().copied().chain(&roles).collect();
    let claims = claimants.iter().map(async |party| {
        let (before, printed) = (balance(party.account).await, cluster.run(party, &["claim"]).await);
        let paid = wei(&printed["claimed_wei"]);
        assert_eq!(paid, due.get(&party.account).copied().unwrap_or_default(), "{}: {printed}", party.name);
        let cost = if printed["transaction"].is_null() { 0 } else { wei(&printed["transaction"]["cost_wei"]) };
        // The OP Stack also charges for L1 data, which this chain's receipts do not state; a claim is about 500 bytes.
        let rest = before + paid - cost - balance(party.account).await;
        assert!(rest <= L1_FEE_MAX, "{} has what it claimed, less {rest} wei: {printed}", party.name);
        paid
    });
    let mut paid: u128 = join_all(claims).await.into_iter().sum();
    // The protocol's part is carried by somebody who gets nothing of it.
    for role in &roles {
        let before = balance(role.account).await;
        let relayed = cluster.run(cluster.person("client"), &["claim", "--for", &role.account.to_string()]).await;
        let brought = wei(&relayed["accounts"][0]["claimed_wei"]);
        assert_eq!(brought, due.get(&role.account).copied().unwrap_or_default(), "{}: {relayed}", role.name);
        assert_eq!(balance(role.account).await - before, brought, "{relayed}");
        paid += brought;
    }
    let (treasury, brought) = a_treasury_is_divided(cluster, &receipts[2], &due).await;
    paid += brought;
    assert_eq!(balance(settlement).await, fees - paid, "what is left is what nobody claimed");
    let is_left = |account: Address| account != treasury && payees.iter().all(|party| party.account != account);
    let unclaimed: u128 = due.iter().filter(|(account, _)| is_left(**account)).map(|(_, amount)| amount).sum();
    assert_eq!(fees - paid, unclaimed, "only what has no key is left: the stakers' vault, the insurance pool");
    let again = cluster.run(cluster.person("author"), &["claim"]).await;
    assert_eq!(again["claimed_wei"], "0", "a second claim pays nothing: {again}");
    cluster.say(&format!("{fees} wei collected, {paid} paid, {unclaimed} unclaimed: exactly"));
}

/// Both contributions enter the treasury of their Datanet, anybody brings it what the payout owes it, and each is paid its share by bytes. Returns the
/// treasury's account in the payout, and what it was owed.
async fn a_treasury_is_divided(cluster: &Cluster, receipt: &Path, due: &BTreeMap<Address, u128>) -> (Address, u128) {
    let manifest: Manifest = serde_json::from_value(tamper::read(receipt)["manifest"].clone()).expect("a manifest");
    let treasury = manifest.datanets[0].treasury;
    let owed = due.get(&treasury).copied().expect("words that nobody brought pay the treasury");
    let contributors = [&cluster.nodes[2], &cluster.nodes[3]];
    let show = async |party: &Party, more: &[&str]| cluster.run(party, &[&["datanet", "treasury", "surveys"], more].concat()).await;
    for party in contributors {
        let entered = show(party, &["--enter"]).await;
        assert_eq!((&entered["contributions"][0]["has_entered"], &entered["paid_wei"]), (&true.into(), &"0".into()), "{entered}");
        let again = show(party, &["--enter"]).await;
        assert_eq!(again["transactions"], Value::Array(vec![]), "it enters once: {again}");
    }
    let holder = cluster.devnet.deployment().treasury;
    let balance = async |account: Address| cluster.chain.balance(account).await.expect("the chain answers").0;
    assert_eq!(balance(holder).await, 0, "it was not relayed before");
    let claim = ["claim", "--for", &treasury.to_string()];
    let relayed = cluster.run(cluster.person("client"), &claim).await;
    assert_eq!((wei(&relayed["accounts"][0]["claimed_wei"]), balance(holder).await), (owed, owed), "{relayed}");

    // Who entered first opens it: some seconds later what came in is divided, by whole wei a byte.
    let deadline = Instant::now() + SETTLED_WAIT;
    let opened = loop {
        let shown = show(contributors[0], &[]).await;
        if wei(&shown["contributions"][0]["earned_wei"]) > 0 {
            break shown;
        }
        assert!(Instant::now() < deadline, "the treasury does not open: {shown}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let bytes = async |party: &Party| show(party, &[]).await["contributions"][0]["text_bytes"].as_u64().map(u128::from).expect("bytes");
    let each = [bytes(contributors[0]).await, bytes(contributors[1]).await];
    let a_byte = owed / (each[0] + each[1]);
    assert_eq!(opened["treasury"]["text_bytes"].as_u64().map(u128::from), Some(each[0] + each[1]), "{opened}");
    // One claims for itself, the other one is paid by somebody who gets nothing of it.
    let own = show(contributors[0], &["--claim"]).await;
    assert_eq!(wei(&own["paid_wei"]), each[0] * a_byte, "{own}");
    let other = contributors[1].account;
    let before = balance(other).await;
    let paid = show(cluster.person("client"), &["--of", &other.to_string(), "--claim"]).await;
    assert_eq!((wei(&paid["paid_wei"]), balance(other).await - before), (each[1] * a_byte, each[1] * a_byte), "{paid}");
    assert_eq!(balance(holder).await, owed % (each[0] + each[1]), "what does not divide waits for the next time");
    let again = show(contributors[0], &["--claim"]).await;
    assert_eq!((&again["paid_wei"], &again["transactions"]), (&"0".into(), &Value::Array(vec![])), "it is paid once: {again}");
    let error = cluster.refused(cluster.person("client"), &["datanet", "treasury", "surveys", "--claim"]).await;
    assert!(error.contains("has no accepted contribution of"), "{error}");
    (treasury, owed)
}

/// Most wei of L1 data and operator fee for one claim: ten times what one costs at the devnet's L1 prices.
const L1_FEE_MAX: u128 = 5_000_000_000_000;

fn wei(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number of wei"))
}

/// What the escrow holds for both clients.
async fn deposits(cluster: &Cluster) -> u128 {
    let both = join_all(["client", "vanishing"].map(|name| cluster.run(cluster.person(name), &["wallet", "show"]))).await;
    both.iter().map(|shown| wei(&shown["escrow"]["balance_wei"])).sum()
}

/// A folder whose wallet holds the key of one of the devnet's roles.
async fn with_key(cluster: &Cluster, name: &str, role: Role) -> Party {
    let file = cluster.path(&format!("{name}.key"));
    std::fs::write(&file, hex::encode(*role.account().to_bytes())).expect("a key is written");
    cluster.join(name, &["--key-file", text(&file)]).await
}

/// Asks every node to settle until none has a receipt left; outside the seconds in which roots are taken it refuses, and is asked again.
pub(crate) async fn settle(cluster: &Cluster) {
    let deadline = Instant::now() + SETTLED_WAIT;
    join_all(cluster.nodes.iter().map(async |node| {
        let mut last = String::new();
        while Instant::now() < deadline {
            if cluster.run(node, &["status"]).await["receipts_unposted"] == 0 {
                return;
            }
            last = cluster.outcome(node, &["settle"]).await.to_string();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{} has receipts that are not posted; the last try: {last}", node.name)
    }))
    .await;
    cluster.say("every receipt is posted");
}

/// Waits until every epoch has a payout and the last one is final; returns what was collected so far.
pub(crate) async fn final_payout(cluster: &Cluster) -> u128 {
    let chain = Chained::open(cluster.devnet.url(), cluster.devnet.deployment().clone(), None).await.expect("the chain answers");
    let deadline = Instant::now() + SETTLED_WAIT;
    loop {
        let state = chain.state().await.expect("the books follow the chain");
        let now = chain.head().await.expect("the chain answers").timestamp;
        let epochs: Vec<_> = state.epochs().collect();
        if !epochs.is_empty() && epochs.iter().all(|(_, epoch)| epoch.payout.is_some_and(|payout| payout.final_at <= now)) {
            return state.collected().0;
        }
        assert!(Instant::now() < deadline, "no final payout: {epochs:?} at {now}; the poster says:\n{}", cluster.nodes[0].log_text());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What each account is owed for these receipts, by the protocol's chapter on shares.
fn due(receipts: &[PathBuf], author: Address, deployment: &Deployment) -> BTreeMap<Address, u128> {
    let mut due = BTreeMap::new();
    for path in receipts {
        for (account, amount) in shares(path, author, deployment) {
            *due.entry(account).or_default() += amount;
        }
    }
    due.retain(|_, amount| *amount > 0);
    due
}

/// The shares of one receipt; `author` owns the base and the adapters.
fn shares(path: &Path, author: Address, deployment: &Deployment) -> Vec<(Address, u128)> {
    let bundle = tamper::read(path);
    let receipt: Receipt = serde_json::from_value(bundle["receipt"]["document"].clone()).expect("a receipt");
    let manifest: Manifest = serde_json::from_value(bundle["manifest"].clone()).expect("a manifest");
    let protocol: Amount = serde_json::from_value(bundle["quote"]["document"]["protocol_fee"].clone()).expect("the protocol's constant");
    let account = |role: Role| role.account().address();
    let owner = |kind| manifest.assets.iter().any(|asset| asset.kind == kind).then_some(author);
    let payees = [Some(receipt.node), None, owner(AssetKind::Base), owner(AssetKind::Adapter), None, Some(deployment.rewards)];
    let rows = manifest.split.rows();
    let divided = sequential(receipt.fee.0 - protocol.0, &rows.map(u128::from));
    let mut out = vec![(account(Role::Protocol), protocol.0)];
    for (payee, amount) in payees.into_iter().zip(&divided) {
        match payee {
            Some(payee) => out.push((payee, *amount)),
            None => assert!(*amount == 0 || *amount == divided[4], "only the data row has payees of its own"),
        }
    }
    let (pot, total) = (divided[4], u128::from(receipt.weight_total));
    let mut left = pot;
    for span in &receipt.spans {
        let share = pot * u128::from(span.weight) / total;
        left -= share;
        out.push((span.payee, share));
    }
    let weights: Vec<u128> = manifest.datanets.iter().map(|datanet| u128::from(datanet.weight)).collect();
    if total == 0 || weights.iter().sum::<u128>() == 0 {
        out.push((deployment.insurance, left));
    } else {
        out.extend(manifest.datanets.iter().map(|datanet| datanet.treasury).zip(sequential(left, &weights)));
    }
    assert_eq!(out.iter().map(|(_, amount)| amount).sum::<u128>(), receipt.fee.0, "the parts sum to the fee");
    out
}

/// x = left * w / weight left, one after another.
fn sequential(total: u128, weights: &[u128]) -> Vec<u128> {
    let (mut left, mut weight_left) = (total, weights.iter().sum::<u128>());
    let share = |weight: &u128| {
        let share = if *weight == 0 { 0 } else { left * weight / weight_left };
        left -= share;
        weight_left -= weight;
        share
    };
    weights.iter().map(share).collect()
}
