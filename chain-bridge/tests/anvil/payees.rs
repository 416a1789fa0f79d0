//! Payees that refuse money or burn gas, and roots of another epoch: nobody else waits for them, and nothing is lost.

use std::time::Duration;

use chain_bridge::registry::event::Custody;
use serde_json::{Value, json};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    key::Signed,
    merkle::sum_root,
    operator::{NodeRoot, receipt_leaf},
    payout::{PartLeaf, PayoutLeaf, parts_tree, payout_tree},
    receipt::token_ids_hash,
    split::Part,
    voucher::{Lane, Voucher},
};

use super::harness::{World, bond, open};

const WAIT: Duration = Duration::from_secs(40);
/// Three accounts earn a third each.
const SHARE: Amount = Amount(3_000);

#[tokio::test]
async fn a_payee_that_reverts_or_burns_gas_is_credited_and_blocks_nobody() {
    let world = World::start().await;
    let clients = world.clients(2).await;
    let (payer, node) = (&clients[0], &clients[1]);
    let (own, domains) = (node.address().unwrap(), node.domains());
    bond(node, 7).await;
    payer.deposit(open(1)).await.unwrap();
    let lane = Lane { payer: payer.address().unwrap(), node: own, cap: open(1), expiry: 100_000, nonce: 1 };
    let voucher = Voucher {
        lane: lane.id(),
        request: Hash32([1; 32]),
        attempt: 0,
        quote: Hash32([2; 32]),
        first_token: 0,
        tokens_in: 10,
        tokens_out: 3,
        token_ids: token_ids_hash(&[1, 2, 3]),
        base: Amount::ZERO,
        cumulative: Amount(3 * SHARE.0),
    };
    let account = payer.account("sign").unwrap();
    node.collect_many(&[(Signed::new(account, &domains, lane), Signed::new(account, &domains, voucher))]).await.unwrap();

    // A root of another epoch is refused in words and costs nothing.
    let epoch = node.submission_epoch().await.unwrap();
    let (receipts, fees) = sum_root(vec![receipt_leaf(Hash32([9; 32]), Amount(3 * SHARE.0))]).unwrap();
    let root = |epoch| NodeRoot { node: own, epoch, receipts, count: 1, fees };
    let signed = |epoch| Signed::new(node.account("sign").unwrap(), &domains, root(epoch));
    let before = node.balance(own).await.unwrap();
    let error = node.submit_node_root(&signed(epoch + 1)).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("WrongEpoch"), "{error}");
    assert!(error.to_string().contains("sign the root for the epoch that is open now"), "{error}");
    assert_eq!(node.balance(own).await.unwrap(), before);
    node.submit_node_root(&signed(epoch)).await.unwrap();

    // One reverts, one runs in a circle until its gas is gone, one takes its money.
    let (refuses, burns, takes) = (Address([0x51; 20]), Address([0x52; 20]), Address([0x53; 20]));
    for (payee, code) in [(refuses, "0x60006000fd"), (burns, "0x5b600056")] {
        let _: Value = node.rpc().request("anvil_setCode", json!([payee, code])).await.unwrap();
    }
    let leaves: Vec<PayoutLeaf> = (0..)
        .zip([refuses, burns, takes])
        .map(|(span, account)| {
            let parts = parts_tree(&[PartLeaf::new(own, 0, Part::Span(span), SHARE)]).unwrap();
            PayoutLeaf { account, previous: Amount::ZERO, cumulative: SHARE, parts: parts.root() }
        })
        .collect();
    let tree = payout_tree(&leaves).unwrap();
    node.wait_for_time(node.epoch(epoch).await.unwrap().payout_from, WAIT).await.unwrap();
    node.post_payout(epoch, Hash32::ZERO, tree.root(), tree.total()).await.unwrap();
    node.wait_for_time(node.epoch(epoch).await.unwrap().final_at, WAIT).await.unwrap();

    let claims: Vec<_> = (0..).zip(&leaves).map(|(place, leaf)| (*leaf, tree.open(place).unwrap())).collect();
    // One that is refused would refuse the batch: it is told before.
    let mut changed = claims[2].clone();
    changed.0.cumulative.0 += 1;
    let (payable, refused) = payer.payable([&claims[..], &[changed]].concat()).await.unwrap();
    assert_eq!(payable, claims);
    assert!(matches!(refused.as_slice(), [(account, why)] if *account == takes && why.contains("wrong claim root")), "{refused:?}");
    let (amount, _) = payer.claim_many(&claims).await.unwrap();
    assert_eq!(amount, tree.total(), "paid or kept");
    let mut kept = Amount::ZERO;
    for (payee, expected) in [(refuses, Amount::ZERO), (burns, Amount::ZERO), (takes, SHARE)] {
        assert_eq!(node.balance(payee).await.unwrap(), expected, "{payee}");
        let owed = node.kept_by(Custody::Settlement, payee).await.unwrap();
        assert_eq!(owed.plus(expected).unwrap(), SHARE, "{payee}");
        kept = kept.plus(owed).unwrap();
    }
    let settlement = node.deployment().settlement;
    assert_eq!(node.balance(settlement).await.unwrap(), kept, "nothing is lost");
    let (again, _) = payer.claim_many(&claims[..1]).await.map_or((Amount::ZERO, None), |(amount, sent)| (amount, Some(sent)));
    assert_eq!(again, Amount::ZERO, "what is kept is not paid twice");
    // Once the payee takes money, it is fetched.
    let _: Value = node.rpc().request("anvil_setCode", json!([refuses, "0x"])).await.unwrap();
    node.take_kept(Custody::Settlement, refuses).await.unwrap();
    assert_eq!((node.balance(refuses).await.unwrap(), node.kept_by(Custody::Settlement, refuses).await.unwrap()), (SHARE, Amount::ZERO));
}
