//! What was charged, as the chain has it: every payer's deposit, what the settlement received, what every node was paid.

use std::collections::BTreeMap;

use futures::future::join_all;
use harness::Cluster;
use types::{amount::Amount, id::Address, manifest::Manifest, quote::PROTOCOL_FEE, receipt::Receipt};

use super::{
    adapters, left,
    scene::{Ended, Scene},
};
use crate::answer::money;

/// The chain before the first failure.
#[derive(Debug)]
pub(super) struct Before {
    deposits: BTreeMap<&'static str, (Address, Amount)>,
    balances: BTreeMap<&'static str, Amount>,
    manifest: Manifest,
}

/// What each payer is charged, by class.
pub(super) type Charged = BTreeMap<&'static str, u128>;

/// Reads every payer's deposit and balance; nothing was ever collected.
pub(super) async fn read(scene: &Scene<'_>) -> Before {
    let payers = scene.payers().iter().map(|(class, payer)| (*class, payer.address()));
    let (mut deposits, mut balances) = (BTreeMap::new(), BTreeMap::new());
    for (class, payer) in payers {
        deposits.insert(class, (payer, deposit(scene.cluster, payer).await));
        balances.insert(class, scene.cluster.chain.balance(payer).await.expect("the chain answers"));
    }
    let (received, claimed) = scene.cluster.chain.settled_totals().await.expect("the chain answers");
    assert_eq!((received, claimed), (Amount::ZERO, Amount::ZERO), "nothing was collected before");
    Before { deposits, balances, manifest: scene.manifest.clone() }
}

async fn deposit(cluster: &Cluster, payer: Address) -> Amount {
    cluster.chain.escrow_of(payer).await.expect("the chain answers").balance
}

/// Has every node collect and post, waits for the payout, has every node claim, and compares all of it with what was paid on purpose.
pub(super) async fn settled(cluster: &Cluster, paid: &[Receipt], before: &Before) -> Charged {
    let signed = join_all(cluster.nodes.iter().map(async |node| cluster.run(node, &["status"]).await["receipts"].as_u64())).await;
    let signed: u64 = signed.into_iter().map(|count| count.expect("a count")).sum();
    assert_eq!(signed, paid.len() as u64, "a receipt was signed for each answer that was paid, and for nothing else");
    money::settle(cluster).await;
    let fees: u128 = paid.iter().map(|receipt| receipt.fee.0).sum();
    assert_eq!(money::final_payout(cluster).await, fees, "collected is what was paid on purpose");

    let mut charged = Charged::new();
    for (class, (payer, deposited)) in &before.deposits {
        charged.insert(class, deposited.0 - deposit(cluster, *payer).await.0);
        if !sends(class) {
            let balance = cluster.chain.balance(*payer).await.expect("the chain answers");
            assert_eq!(balance, before.balances[class], "{class}: its payer sent nothing");
        }
    }
    for (class, charged) in &charged {
        let due = if *class == left::PAID.name { fees } else { 0 };
        assert_eq!(*charged, due, "{class}");
    }
    let (received, claimed) = cluster.chain.settled_totals().await.expect("the chain answers");
    assert_eq!((received.0, claimed), (fees, Amount::ZERO), "the settlement has received that and paid nothing yet");
    let settlement = cluster.devnet.deployment().settlement;
    assert_eq!(cluster.chain.balance(settlement).await.expect("the chain answers").0, fees, "and holds it");

    for node in &cluster.nodes {
        let earned: u128 = paid.iter().filter(|receipt| receipt.node == node.account).map(|receipt| share(receipt, &before.manifest)).sum();
        let printed = cluster.run(node, &["claim"]).await;
        assert_eq!(printed["claimed_wei"], earned.to_string(), "{} earned what its one paid answer gives: {printed}", node.name);
    }
    cluster.say(&format!("{fees} wei were collected for {} answers paid on purpose, and nothing else", paid.len()));
    charged
}

/// Whether a class's payer also publishes and freezes, and so spends on transactions.
fn sends(class: &str) -> bool {
    adapters::CLASSES.iter().any(|sender| sender.name == class)
}

/// The node's part of a fee: the first of its division.
fn share(receipt: &Receipt, manifest: &Manifest) -> u128 {
    (receipt.fee.0 - PROTOCOL_FEE.0) * u128::from(manifest.split.node) / 10_000
}

/// What was injected, how long it took, what it cost its payer.
pub(super) fn table(ended: &Ended, charged: &Charged) {
    println!("\n{:<52} {:>7} {:>9} {:>7} {:>20}", "class", "count", "seconds", "again", "charged wei");
    for row in &ended.rows {
        println!("{:<52} {:>7} {:>9.1} {:>7} {:>20}", row.class, row.count, row.took.as_secs_f64(), row.again, charged[row.class]);
    }
    let wei: u128 = charged.iter().filter(|(class, _)| **class != left::PAID.name).map(|(_, wei)| wei).sum();
    println!("{:<52} {:>7} {:>9} {:>7} {:>20}", "all failures", ended.failures(), "", "", wei);
    println!("(kinds that one kill meets share its seconds; two nodes, and the third, fail beside each other)\n");
}
