use std::{collections::BTreeMap, time::Duration};

use chain_bridge::follow::Follower;
use types::{
    amount::Amount,
    id::{Address, Hash32},
    key::Signed,
    merkle::sum_root,
    operator::{NodeRoot, receipt_leaf},
    payout::{PartLeaf, PayoutLeaf, parts_tree, payout_tree},
    receipt::token_ids_hash,
    split::{Part, SplitTable, parts},
    voucher::{Lane, Voucher},
};

use super::harness::{World, bond, open};

const WAIT: Duration = Duration::from_secs(40);

/// One fee of 10,001 wei, divided by a table whose rows round.
const FEE: Amount = Amount(10_001);

#[tokio::test]
async fn vouchers_become_payouts_that_sum_to_the_wei() {
    let world = World::start().await;
    let clients = world.clients(4).await;
    let (payer, node, contributor, owner) = (&clients[0], &clients[1], &clients[2], &clients[3]);
    let domains = payer.domains();
    let of = |client: &chain_bridge::client::ChainClient| client.address().unwrap();
    let follower = Follower::start(node.clone(), world.devnet.deployment().block, Duration::from_millis(100));
    bond(node, 7).await;
    payer.deposit(open(1)).await.unwrap();

    // A lane and its last voucher.
    let lane = Lane { payer: of(payer), node: of(node), cap: open(1), expiry: 100_000, nonce: 1 };
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
        cumulative: FEE,
    };
    let account = payer.account("sign").unwrap();
    let (lane, voucher) = (Signed::new(account, &domains, lane), Signed::new(account, &domains, voucher));
    let (collected, _) = node.collect_many(&[(lane.clone(), voucher.clone())]).await.unwrap();
    assert_eq!(collected, FEE);
    assert_eq!(node.lane_collected(lane.document.id()).await.unwrap(), FEE);
    let error = node.collect_many(&[(lane.clone(), voucher.clone())]).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("VoucherNotAboveCollected"), "{error}");
    let above = Voucher { cumulative: open(2), ..voucher.document };
    let error = node.collect_many(&[(lane.clone(), Signed::new(account, &domains, above))]).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("VoucherAboveLaneCap"), "{error}");
    let forged = Signed { document: Voucher { cumulative: Amount(FEE.0 + 1), ..voucher.document }, signature: voucher.signature };
    let error = node.collect_many(&[(lane, forged)]).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("VoucherSignature"), "{error}");

    // The node's root.
    let epoch = node.submission_epoch().await.unwrap();
    assert_eq!(epoch, 1);
    let receipts = sum_root(vec![receipt_leaf(Hash32([9; 32]), FEE)]).unwrap().0;
    let root = NodeRoot { node: of(node), epoch, receipts, count: 1, fees: FEE };
    let root = Signed::new(node.account("sign").unwrap(), &domains, root);
    // Anybody may carry it.
    let submitted = owner.submit_node_root(&root).await.unwrap();
    let slot = node.node_root_of(epoch, of(node)).await.unwrap();
    assert_eq!(slot, Some(root.document.slot(submitted.block.number)));

    // The payout tree: every wei of the fee in one part.
    let deployment = world.devnet.deployment();
    let config = &deployment.config;
    let table = SplitTable { node: 4_000, base: 1_500, adapter: 500, data: 3_000, stakers: 1_000, ..SplitTable::default() };
    let mut by_account: BTreeMap<Address, Vec<PartLeaf>> = BTreeMap::new();
    for (part, amount) in parts(FEE, Amount(7), &table, &[333], 1_000, &[1]).unwrap() {
        let account = match part {
            Part::Protocol => config.protocol,
            Part::Node => of(node),
            Part::Stakers => deployment.rewards,
            Part::Insurance => deployment.insurance,
            Part::Span(_) => of(contributor),
            Part::Treasury(_) => Address([0x33; 20]),
            _ => of(owner),
        };
        if amount > Amount::ZERO {
            by_account.entry(account).or_default().push(PartLeaf::new(of(node), 0, part, amount));
        }
    }
    let leaves: Vec<PayoutLeaf> = by_account
        .iter()
        .map(|(account, parts)| {
            let tree = parts_tree(parts).unwrap();
            PayoutLeaf { account: *account, previous: Amount::ZERO, cumulative: tree.total(), parts: tree.root() }
        })
        .collect();
    let tree = payout_tree(&leaves).unwrap();
    assert_eq!(tree.total(), FEE);

    let error = node.post_payout(epoch, Hash32::ZERO, tree.root(), tree.total()).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("PayoutTooSoon"), "{error}");
    node.wait_for_time(node.epoch(epoch).await.unwrap().payout_from, WAIT).await.unwrap();
    let error = node.post_payout(epoch, Hash32::ZERO, tree.root(), Amount(FEE.0 + 1)).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("TotalAboveReceived"), "{error}");
    node.post_payout(epoch, Hash32::ZERO, tree.root(), tree.total()).await.unwrap();
    let place = |account: Address| leaves.iter().position(|leaf| leaf.account == account).unwrap();
    let opening = |account: Address| tree.open(place(account) as u64).unwrap();
    let error = node.claim(&leaves[place(of(node))], &opening(of(node))).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("NoFinalPayout"), "{error}");
    node.wait_for_time(node.epoch(epoch).await.unwrap().final_at, WAIT).await.unwrap();
    assert_eq!(node.last_final().await.unwrap(), epoch);

    // Claims.
    let mut claimed = Amount::ZERO;
    for client in [node, contributor, owner] {
        let (leaf, opening) = (&leaves[place(of(client))], opening(of(client)));
        let before = client.balance(of(client)).await.unwrap();
        let (amount, sent) = client.claim(leaf, &opening).await.unwrap();
        assert_eq!(amount, leaf.cumulative);
        let gas = Amount(sent.gas_price * u128::from(sent.gas_used));
        assert!(
            client.balance(of(client)).await.unwrap().plus(gas).unwrap() < before.plus(amount).unwrap(),
            "the L1 fee is paid by the claimant"
        );
        claimed = claimed.plus(amount).unwrap();
        let error = client.claim(leaf, &opening).await.unwrap_err();
        assert_eq!(error.contract_error(), Some("NothingToClaim"), "{error}");
    }
    let error = contributor.claim(&leaves[place(of(node))], &opening(of(node))).await.unwrap_err();
    assert!(error.to_string().contains("claim with the payee's key"), "{error}");
    // The rest is carried by somebody else: the stakers' vault divides its share, a treasury without a key must not be in the batch.
    let treasury = Address([0x33; 20]);
    let carried: Vec<_> = [config.protocol, deployment.rewards, of(node)].map(|account| (leaves[place(account)], opening(account))).into();
    let share = leaves[place(deployment.rewards)].cumulative;
    let (relayed, _) = owner.claim_many(&carried).await.unwrap();
    assert_eq!(
        relayed,
        leaves[place(config.protocol)].cumulative.plus(share).unwrap(),
        "the node's own is claimed already and passed over"
    );
    let earned = owner.rewards_of(of(node)).await.unwrap();
    // The vault counts in 2^-64 wei per staked wei: what a division leaves, below stake / 2^64, is carried into the next.
    assert!(earned <= share && share.0 - earned.0 <= (open(100).0 >> 64) + 1, "the only staker earns {earned} of {share}");
    assert_eq!(node.claim_rewards().await.unwrap().0, earned);
    claimed = claimed.plus(relayed).unwrap();
    let unclaimed = leaves[place(treasury)].cumulative;
    assert_eq!(claimed.plus(unclaimed).unwrap(), FEE);
    assert_eq!(node.settled_totals().await.unwrap(), (FEE, claimed));
    assert_eq!(node.balance(deployment.settlement).await.unwrap(), unclaimed);

    let seen = follower.wait_for(WAIT, |snapshot| snapshot.latest.claimed(of(owner)) > Amount::ZERO).await.unwrap();
    let books = &seen.latest;
    assert_eq!((books.collected(), books.lane_collected(voucher.document.lane)), (FEE, FEE));
    assert_eq!(books.free(of(payer)), Amount(open(1).0 - FEE.0));
    let (last, payout) = books.final_payout(seen.heads.unwrap().timestamp).unwrap();
    assert_eq!((last, payout.root, payout.total), (epoch, tree.root(), FEE));
    assert_eq!(books.epoch(epoch).unwrap().roots[&of(node)].fees, FEE);
    follower.stop().await;
}
