//! Reorganisations of a real chain: after each the books equal a fresh replay of the chain's own events, and in the end every transaction that a
//! reorganisation took out has happened once.
//!
//! Blocks are mined on demand beside the chain's own second, so twenty rounds take some twenty seconds.

use std::{collections::BTreeMap, future::Future, time::Duration};

use chain_bridge::{
    chain::{Chain as _, error::ChainError, rpc::Rpc},
    client::{ChainClient, assets::NewVersion, settle::EpochState},
    follow::{Follower, Snapshot},
    registry::{Event, Logged, State},
};
use serde_json::{Value, json};
use types::{
    amount::Amount,
    id::{Address, AssetId, BlobId, Hash32, NodeId},
    key::Signed,
    manifest::AssetKind,
    merkle::{SumOpening, sum_root},
    operator::{NodeRoot, receipt_leaf},
    payout::{PartLeaf, PayoutLeaf, parts_root, payout_tree},
    receipt::token_ids_hash,
    split::{Part, SplitTable},
    voucher::{Lane, Voucher},
};

use super::harness::{World, bond, open};

const ROUNDS: u8 = 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// What each of the payees may claim.
const SHARE: Amount = Amount(1_000);
/// Deposits of the rounds, above all others, so that each is told from the rest by its amount.
const ROUND_DEPOSIT: u128 = 1_000_000_000;

/// A generator of small numbers; its seed stands in every failure's name by being fixed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

async fn mine(rpc: &Rpc, blocks: u64) {
    let _: Value = rpc.request("anvil_mine", json!([format!("0x{blocks:x}")])).await.unwrap();
}

/// Mines while `work` waits for blocks.
async fn with_blocks<T>(rpc: &Rpc, work: impl Future<Output = T>) -> T {
    let mut work = Box::pin(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(120)) => mine(rpc, 1).await,
        }
    }
}

/// All events up to the latest block.
async fn events_of(client: &ChainClient) -> Vec<Logged> {
    let latest = client.latest().await.unwrap().block.number;
    client.events(0, latest).await.unwrap()
}

fn replay(events: &[Logged]) -> State {
    let mut state = State::default();
    events.iter().for_each(|event| state.apply(event).unwrap());
    state
}

/// The follower's books at the chain's latest block are those of the chain's events read anew, and so are the finalized ones.
async fn check_books(client: &ChainClient, follower: &Follower, round: u8) {
    let latest = client.latest().await.unwrap().block;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let seen = loop {
        let seen = follower.snapshot();
        assert!(!seen.is_halted && tokio::time::Instant::now() < deadline, "round {round}: the follower is behind: {seen:?}");
        // A snapshot of before may stand at a block of this height that was replaced.
        if seen.is_current() && seen.tip.number >= latest.number && client.block(seen.tip.number).await.unwrap() == Some(seen.tip) {
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let events = client.events(0, seen.tip.number).await.unwrap();
    assert!(*seen.latest == replay(&events), "round {round}: the books at block {} are not the chain's", seen.tip.number);
    let finalized = seen.heads.unwrap().finalized.number;
    let events: Vec<Logged> = events.into_iter().filter(|event| event.block.number <= finalized).collect();
    assert!(*seen.finalized == replay(&events), "round {round}: the books at the finalized block {finalized} are not the chain's");
}

/// The sums of the follower's books are what the contracts say of themselves: the decoder and the books could agree on a wrong replay, these do not
/// know of either.
async fn check_sums(parties: &Parties, follower: &Follower, round: u8) {
    let client = &parties.payer;
    let all = [&parties.payer, &parties.node, &parties.owner, &parties.relay].map(|party| party.address().unwrap());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (books, views) = loop {
        let seen = follower.snapshot();
        let before = client.latest().await.unwrap().block;
        let views = Views::read(parties, &all, &seen.latest).await;
        // Read in several calls: only those count between which the chain stood where the books stand.
        if seen.is_current() && seen.tip == before && client.latest().await.unwrap().block == before {
            break (seen, views);
        }
        assert!(tokio::time::Instant::now() < deadline, "round {round}: the chain does not stand still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let state = &books.latest;
    let deposits: Vec<Amount> = all.iter().map(|account| state.escrow(*account).balance).collect();
    assert_eq!(views.deposits, deposits, "round {round}: deposits");
    assert_eq!(views.escrowed, Amount::sum(deposits).unwrap(), "round {round}: what the escrow holds");
    let stakes: Vec<Amount> = all.iter().map(|account| state.operator(*account).map_or(Amount::ZERO, |known| known.active)).collect();
    assert_eq!(views.stakes, stakes, "round {round}: stakes");
    let claimed = Amount::sum(parties.claims.iter().map(|(leaf, _)| state.claimed(leaf.account))).unwrap();
    assert_eq!(views.settled, (state.collected(), claimed), "round {round}: received and claimed");
    assert_eq!(views.lane, state.lane_collected(parties.lane.document.id()), "round {round}: collected on the lane");
    assert_eq!(views.current_epoch, state.current_epoch().map_or(0, |(number, _)| number), "round {round}: the epoch that is open");
    for (number, epoch) in state.epochs() {
        let view = views.epochs[&number];
        assert_eq!((view.opened_at, view.payout_from), (epoch.opened_at, epoch.payout_from), "round {round}: epoch {number}");
        assert_eq!(view.nodes, epoch.roots.len() as u64, "round {round}: roots of epoch {number}");
        let payout = epoch.payout.map(|payout| (payout.root, payout.total, payout.final_at)).unwrap_or_default();
        assert_eq!((view.root, view.total, view.final_at), payout, "round {round}: payout of epoch {number}");
    }
}

/// What the contracts say.
struct Views {
    deposits: Vec<Amount>,
    escrowed: Amount,
    stakes: Vec<Amount>,
    /// Received and claimed.
    settled: (Amount, Amount),
    lane: Amount,
    current_epoch: u64,
    epochs: BTreeMap<u64, EpochState>,
}

impl Views {
    async fn read(parties: &Parties, all: &[Address], books: &State) -> Self {
        let client = &parties.payer;
        let (mut deposits, mut stakes, mut epochs) = (Vec::new(), Vec::new(), BTreeMap::new());
        for account in all {
            deposits.push(client.escrow_of(*account).await.unwrap().balance);
            stakes.push(client.stake_of(*account).await.unwrap());
        }
        for (number, _) in books.epochs() {
            epochs.insert(number, client.epoch(number).await.unwrap());
        }
        Self {
            deposits,
            escrowed: client.balance(client.deployment().escrow).await.unwrap(),
            stakes,
            settled: client.settled_totals().await.unwrap(),
            lane: client.lane_collected(parties.lane.document.id()).await.unwrap(),
            current_epoch: client.current_epoch().await.unwrap(),
            epochs,
        }
    }
}

/// A refusal by a contract is an outcome too: what a reorganisation took out may come too late. Everything else fails the test.
async fn may_be_refused<T>(what: &str, client: &ChainClient, work: impl Future<Output = Result<T, ChainError>>) {
    match work.await {
        Ok(_) | Err(ChainError::Reverted { .. }) => {}
        Err(error) => {
            let (own, rpc) = (client.address().unwrap(), client.rpc());
            let counts = (rpc.nonce(own, false).await.unwrap(), rpc.nonce(own, true).await.unwrap());
            panic!("{what}: {error}; the chain counts {} transactions of {own}, {} with those that wait", counts.0, counts.1);
        }
    }
}

fn version(content: u8) -> NewVersion {
    let split = SplitTable::default();
    NewVersion { content: BlobId([content; 32]), parents: vec![], split, datanets: vec![], licence: Hash32([3; 32]), parent_share_min: 0 }
}

/// What happens in the rounds, and by whom.
struct Parties {
    payer: ChainClient,
    node: ChainClient,
    owner: ChainClient,
    relay: ChainClient,
    asset: AssetId,
    lane: Signed<Lane>,
    claims: Vec<(PayoutLeaf, SumOpening)>,
}

impl Parties {
    /// A bonded node, a deposit, a registered asset, and a final payout that nobody has claimed of yet.
    async fn new(world: &World) -> Self {
        let [payer, node, owner, relay]: [ChainClient; 4] = world.clients(4).await.try_into().unwrap();
        let (domains, config) = (payer.domains(), world.devnet.deployment().config.clone());
        bond(&node, 7).await;
        payer.deposit(open(1)).await.unwrap();
        let (asset, _) = owner.register_asset(AssetKind::Datanet, "card").await.unwrap();
        let lane = Lane { payer: payer.address().unwrap(), node: node.address().unwrap(), cap: open(1), expiry: 1 << 40, nonce: 1 };
        let lane = Signed::new(payer.account("sign").unwrap(), &domains, lane);
        let total = Amount(SHARE.0 * u128::from(ROUNDS));
        node.collect_many(&[(lane.clone(), voucher(&payer, &lane, total))]).await.unwrap();

        let epoch = node.submission_epoch().await.unwrap();
        node.submit_node_root(&node_root(&node, epoch, total)).await.unwrap();
        let payees: BTreeMap<Address, PartLeaf> = (0..ROUNDS)
            .map(|place| (Address([0x40 + place; 20]), PartLeaf::new(node.address().unwrap(), place.into(), Part::Node, SHARE)))
            .collect();
        let leaf = |(account, part): (&Address, &PartLeaf)| {
            let (parts, cumulative) = parts_root(std::slice::from_ref(part)).unwrap();
            PayoutLeaf { account: *account, previous: Amount::ZERO, cumulative, parts }
        };
        let leaves: Vec<PayoutLeaf> = payees.iter().map(leaf).collect();
        let tree = payout_tree(&leaves).unwrap();
        let pass = |seconds: u64| async move {
            mine(world.devnet.rpc(), 1).await;
            let now = world.devnet.rpc().latest().await.unwrap().timestamp;
            with_blocks(world.devnet.rpc(), async {
                world.client(World::account(9)).await.wait_for_time(now + seconds, PATIENCE).await.unwrap()
            })
            .await;
        };
        pass(config.w1_s).await;
        node.post_payout(epoch, Hash32::ZERO, tree.root(), tree.total()).await.unwrap();
        pass(config.w2_s).await;
        let claims = (0..).zip(leaves).map(|(place, leaf)| (leaf, tree.open(place).unwrap())).collect();
        Self { payer, node, owner, relay, asset, lane, claims }
    }

    /// Transactions of five kinds in the next few blocks.
    async fn act(&self, round: u8, numbers: &mut Numbers) {
        let deposit = async { self.payer.deposit(Amount(ROUND_DEPOSIT + u128::from(round))).await.unwrap() };
        let which = numbers.below(3);
        let by_node = async {
            match which {
                0 => {
                    let stands = self.node.lane_collected(self.lane.document.id()).await.unwrap();
                    let voucher = voucher(&self.payer, &self.lane, Amount(stands.0 + 7));
                    may_be_refused("collect", &self.node, self.node.collect_many(&[(self.lane.clone(), voucher)])).await
                }
                1 => {
                    let epoch = self.node.submission_epoch().await.unwrap();
                    may_be_refused("node root", &self.node, self.node.submit_node_root(&node_root(&self.node, epoch, Amount(9)))).await
                }
                _ => {
                    let own = self.node.address().unwrap();
                    may_be_refused("stake", &self.node, self.node.stake(NodeId([7; 32]), 2 + u64::from(round), own, open(1))).await
                }
            }
        };
        let publish = async { may_be_refused("publish", &self.owner, self.owner.publish(self.asset, &version(round + 1))).await };
        let claim = async { may_be_refused("claim", &self.relay, self.relay.claim_many(&self.claims[usize::from(round)..][..1])).await };
        tokio::join!(deposit, by_node, publish, claim);
    }
}

fn voucher(payer: &ChainClient, lane: &Signed<Lane>, cumulative: Amount) -> Signed<Voucher> {
    let document = Voucher {
        lane: lane.document.id(),
        request: Hash32([1; 32]),
        attempt: 0,
        quote: Hash32([2; 32]),
        first_token: 0,
        tokens_in: 10,
        tokens_out: 3,
        token_ids: token_ids_hash(&[1, 2, 3]),
        base: Amount::ZERO,
        cumulative,
    };
    Signed::new(payer.account("sign").unwrap(), &payer.domains(), document)
}

fn node_root(node: &ChainClient, epoch: u64, fees: Amount) -> Signed<NodeRoot> {
    let receipts = sum_root(vec![receipt_leaf(Hash32([9; 32]), fees)]).unwrap().0;
    let root = NodeRoot { node: node.address().unwrap(), epoch, receipts, count: 1, fees };
    Signed::new(node.account("sign").unwrap(), &node.domains(), root)
}

/// Replaces the last `depth` blocks by empty ones.
async fn reorganise(rpc: &Rpc, depth: u64) {
    let _: Value = rpc.request("anvil_reorg", json!([depth, []])).await.unwrap();
}

#[tokio::test]
async fn after_each_of_twenty_reorganisations_the_books_are_the_chains_and_in_the_end_everything_happened_once() {
    let world = World::start().await;
    let rpc = world.devnet.rpc();
    let parties = with_blocks(rpc, Parties::new(&world)).await;
    // What the rounds build on is final: they take back only what they did.
    mine(rpc, 16).await;
    let client = &parties.payer;
    let follower = Follower::start(client.clone(), world.devnet.deployment().block, Duration::from_millis(50));
    let mut numbers = Numbers(20);
    let mut taken_out = 0;
    for round in 0..ROUNDS {
        with_blocks(rpc, parties.act(round, &mut numbers)).await;
        let before = events_of(client).await.len();
        check_books(client, &follower, round).await;
        check_sums(&parties, &follower, round).await;
        let heads = client.heads().await.unwrap();
        // Never the finalized block itself.
        let depth = 1 + numbers.below(heads.latest.number - heads.finalized.number);
        reorganise(rpc, depth).await;
        mine(rpc, 1 + numbers.below(3)).await;
        check_books(client, &follower, round).await;
        check_sums(&parties, &follower, round).await;
        let after = events_of(client).await.len();
        taken_out += usize::from(after < before);
    }
    assert!(taken_out > 5, "only {taken_out} reorganisations took something out: they test nothing");

    // What was taken out is sent again when its account sends the next time; twelve blocks later it counts as done.
    for _ in 0..6 {
        mine(rpc, 13).await;
        let all = [&parties.payer, &parties.node, &parties.owner, &parties.relay].map(|client| client.deposit(Amount(1)));
        for done in with_blocks(rpc, futures(all)).await {
            done.unwrap();
        }
    }
    check_books(client, &follower, ROUNDS).await;
    check_sums(&parties, &follower, ROUNDS).await;
    let events = events_of(client).await;
    let mut deposits: Vec<u128> = events
        .iter()
        .filter_map(|logged| match &logged.event {
            Event::Deposited { amount, .. } if (ROUND_DEPOSIT..2 * ROUND_DEPOSIT).contains(&amount.0) => Some(amount.0 - ROUND_DEPOSIT),
            _ => None,
        })
        .collect();
    deposits.sort_unstable();
    assert_eq!(deposits, (0..u128::from(ROUNDS)).collect::<Vec<_>>(), "every deposit once, none twice and none lost");
    let mut contents: Vec<u8> = events
        .iter()
        .filter_map(|logged| match &logged.event {
            Event::Published { content, .. } => Some(content.0[0]),
            _ => None,
        })
        .collect();
    contents.sort_unstable();
    assert_eq!(contents, (1..=ROUNDS).collect::<Vec<_>>(), "every version once");
    let books = &follower.snapshot().latest;
    assert!(parties.claims.iter().all(|(leaf, _)| books.claimed(leaf.account) == SHARE), "every claim once");
    follower.stop().await;
}

/// Four transactions at once.
async fn futures<F: Future>([a, b, c, d]: [F; 4]) -> [F::Output; 4] {
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    [a, b, c, d]
}

#[tokio::test]
async fn a_chain_that_replaces_its_finalized_block_stops_the_follower_for_good() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let follower = Follower::start(client.clone(), world.devnet.deployment().block, Duration::from_millis(50));
    client.deposit(open(3)).await.unwrap();
    mine(world.devnet.rpc(), 16).await;
    let payer = client.address().unwrap();
    follower.wait_for(PATIENCE, |seen| seen.is_current() && seen.finalized.free(payer) == open(3)).await.unwrap();
    let heads = client.heads().await.unwrap();
    reorganise(world.devnet.rpc(), heads.latest.number - heads.finalized.number + 3).await;
    let stopped = follower.wait_for(PATIENCE, |seen: &Snapshot| seen.is_halted).await.expect("it stops");
    let problem = stopped.problem.as_deref().unwrap();
    assert!(problem.contains("finalized block") && problem.contains("another chain"), "{problem}");
    assert_eq!(stopped.finalized.free(payer), open(3), "the books it counted by stay for whoever looks");
    mine(world.devnet.rpc(), 3).await;
    assert_eq!(follower.snapshot().tip, stopped.tip, "nothing is followed any more");
}
