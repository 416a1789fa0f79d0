//! Rent from end to end: five nodes enlist with the chain's roll of auditors, keep a Datanet whose rent is prepaid, audit one another by the chain's beacon, and one is paid for
//! an epoch that it passed. One node is killed between its commitment and the beacon, another after its audit: both go on where they stood.

use std::time::{Duration, Instant};

use chain_bridge::client::rent::Charge;
use harness::{Cluster, Setup, chain, cluster::text, files};
use node::audited::Audited;
use serde_json::Value;
use types::{
    amount::Amount,
    audit::auditors,
    id::{Address, AssetId},
    key::Signed,
    merkle::sum_root,
    operator::NodeRoot,
};

const NODES: usize = 5;
const DATANET: AssetId = AssetId(1);
/// What the contract asks of each node.
const DEPOSIT: u128 = 10_000_000_000_000_000;
/// Longest wait for the audits of an epoch: four blocks to commit, sixteen to the beacon, some for turns, and the audits.
const WAIT: Duration = Duration::from_secs(100);
const LOOK: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_paid_rent_once_for_an_epoch_whose_audit_it_passed() {
    let _alone = harness::alone().await;
    let setup = Setup { nodes: NODES, ..Setup::default() };
    let mut cluster = Cluster::start_on(chain::devnet(), setup, |config| config.keeping.audit_roll = true).await;
    cluster.run(&cluster.nodes[0], &["datanet", "create", "tides", "--licence", "CC0-1.0"]).await;
    let file = files::jsonl(&cluster.path("tides.jsonl"), &files::documents("tide", 200));
    let printed = cluster.run(&cluster.nodes[1], &["datanet", "contribute", "tides", text(&file)]).await;
    assert_eq!(printed["holders"].as_array().map(Vec::len), Some(NODES), "{printed}");
    cluster.run(&cluster.nodes[0], &["datanet", "rent", "tides", "--prepay", "10 OPEN"]).await;

    wait("everyone on the roll", async || cluster.chain.audit_roll(1).await.expect("the chain answers").len() == NODES).await;
    let audits = cluster.chain.deployment().audits;
    assert_eq!(cluster.chain.balance(audits).await.expect("the chain answers"), Amount(NODES as u128 * DEPOSIT));
    cluster.say("five nodes have left their deposits with the roll");
    open_epoch(&cluster, 1).await;
    cluster.chain.accrue_rent(DATANET).await.expect("anybody may charge");
    tokio::time::sleep(Duration::from_secs(6)).await;
    open_epoch(&cluster, 2).await;
    killed_before_the_beacon(&mut cluster, 4).await;
    let path = cluster.nodes[2].folder.join("audits/2.json");
    wait("a passed audit of epoch 2", async || path.is_file()).await;
    killed_after_its_audit(&mut cluster, 2, &path).await;
    let claimant = &cluster.nodes[2];
    it_was_audited_by_the_chains_draw(&cluster, claimant.account, &path).await;
    let status = cluster.run(claimant, &["storage", "status"]).await;
    assert!(status["roll"].as_str().is_some_and(|roll| roll.ends_with("epoch 2, whose auditors are drawn")), "{status}");
    cluster.say("a node has passed its audit of epoch 2");
    open_epoch(&cluster, 3).await;
    // Else the claim does, and what that costs is not in what it prints.
    cluster.chain.accrue_rent(DATANET).await.expect("anybody may charge");
    rent_is_claimed_once(&cluster, 2).await;
    assert!(!path.exists(), "what was paid is not kept");
    cluster.stop().await;
}

/// A node that has committed is killed; it answers for the list that it committed to, and its audit is passed too.
async fn killed_before_the_beacon(cluster: &mut Cluster, number: usize) {
    wait("a commitment to epoch 2", async || {
        let status = cluster.run(&cluster.nodes[number], &["storage", "status"]).await;
        let roll = status["roll"].as_str().unwrap_or_default();
        roll.starts_with("place") && roll.ends_with("epoch 2, whose auditors are to be drawn")
    })
    .await;
    cluster.nodes[number].kill().await;
    cluster.start_node(number).await;
    let path = cluster.nodes[number].folder.join("audits/2.json");
    wait("a passed audit of who was killed", async || path.is_file()).await;
    cluster.say("who was killed after it had committed has passed its audit");
}

/// A node is killed after its audit, and what was written of it is lost: the verdicts are on its disk, or are asked for.
async fn killed_after_its_audit(cluster: &mut Cluster, number: usize, path: &std::path::Path) {
    cluster.nodes[number].kill().await;
    std::fs::remove_file(path).expect("it was there");
    cluster.start_node(number).await;
    wait("the audit of before the restart", async || path.is_file()).await;
    cluster.say("who was killed after its audit still has what it is paid for");
}

/// Two verdicts on the disk are by auditors whom the contract's beacon draws from the contract's roll.
async fn it_was_audited_by_the_chains_draw(cluster: &Cluster, node: Address, path: &std::path::Path) {
    let audited: Audited = serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("an audit");
    let roll = cluster.chain.audit_roll(2).await.expect("the chain answers");
    let (beacon, announced) = cluster.chain.audit_beacon(2).await.expect("the chain answers");
    let place = roll.iter().position(|seat| seat.node == node).expect("it is on the roll");
    let drawn = auditors(beacon.expect("it was stored"), place, &roll);
    assert_eq!((drawn.len(), announced > 0, audited.holdings.len()), (3, true, 1), "one fragment of one object");
    assert!(audited.passed(node, &drawn, &cluster.chain.domains()).is_some(), "two of {drawn:?}: {:?}", audited.verdicts);
}

/// Epoch 2 pays the node a fifth of its charge, off the rent contract's balance, and nothing a second time.
async fn rent_is_claimed_once(cluster: &Cluster, number: usize) {
    let (claimant, rent) = (&cluster.nodes[number], cluster.chain.deployment().rent);
    let balance = async |account| cluster.chain.balance(account).await.expect("the chain answers").0;
    let before = (balance(claimant.account).await, balance(rent).await);
    let printed = cluster.run(claimant, &["claim", "--rent"]).await;
    let (claimed, cost) = (wei(&printed["claimed_wei"]), cost(&printed));
    let after = (balance(claimant.account).await, balance(rent).await);
    assert!(claimed > 0, "{printed}");
    assert_eq!(before.1 - after.1, claimed, "the rent contract paid that");
    assert_eq!(after.0 + cost, before.0 + claimed, "the node was paid that, less what its transactions cost: {printed}");
    let Charge { from, until, charged, .. } =
        cluster.chain.rent_charge(DATANET, 2).await.expect("the chain answers").expect("epoch 2 was charged").1;
    let epochs: u64 = printed["epochs"].as_array().expect("a list").iter().filter(|row| row["state"] == "claimed").count() as u64;
    let share = charged.0 / u128::from(until - from) / NODES as u128;
    assert!(claimed >= share && claimed <= share * u128::from(epochs) + u128::from(epochs), "a fifth of {charged:?} each: {printed}");
    let again = cluster.run(claimant, &["claim", "--rent"]).await;
    assert_eq!((wei(&again["claimed_wei"]), balance(rent).await), (0, after.1), "{again}");
    cluster.say(&format!("{claimed} wei of rent were paid, and nothing a second time"));
}

/// Opens an epoch by an empty root of the first node.
async fn open_epoch(cluster: &Cluster, epoch: u64) {
    let key = cluster.nodes[0].key();
    let (receipts, fees) = sum_root(vec![]).expect("nothing sums");
    let root = NodeRoot { node: key.address(), epoch, receipts, count: 0, fees };
    let signed = Signed::new(&key, &cluster.chain.domains(), root);
    cluster.chain.submit_node_root(&signed).await.expect("the root is taken");
    cluster.say(&format!("epoch {epoch} has opened"));
}

fn wei(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no amount in wei"))
}

fn cost(printed: &Value) -> u128 {
    printed["transactions"].as_array().expect("a list").iter().map(|row| wei(&row["cost_wei"])).sum()
}

/// Waits until something is so.
///
/// # Panics
/// After [`WAIT`].
async fn wait(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what} did not come about within {} s", WAIT.as_secs());
        tokio::time::sleep(LOOK).await;
    }
}
