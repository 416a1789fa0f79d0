//! The commands that take back what was put in, ask for what is owed and change what is owned, each run to its success: balances on the chain before and
//! after differ by what the command says and by the fees it prints, to the wei.
//!
//! One chain for all of them, which makes a block for every transaction and whose clock is moved on rather than waited for.

use chain_bridge::{client::ChainClient, wallet};
use harness::{cluster::text, files, process::PASSWORD};
use serde_json::{Value, json};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::{Address, BlobId, Hash32, NodeId},
    key::{Account, Signed},
    operator::NodeRoot,
    payout::{PartLeaf, PayoutLeaf, parts_tree, payout_tree},
    receipt::token_ids_hash,
    split::Part,
    voucher::{Lane, Voucher},
};

use super::{Place, wei};

const OPEN: u128 = WEI_PER_OPEN;
/// What a node collects, and what of it a payout gives the account that claims.
const COLLECTED: Amount = Amount(10_001);
const SHARE: Amount = Amount(3_334);

impl Place {
    /// A command that must succeed and change the account's balance by `change` wei, apart from the fees that it prints.
    async fn pays(&self, arguments: &[&str], change: i128) -> Value {
        let (before, printed) = (self.balance().await, self.run(arguments).await);
        let rows = printed["transactions"].as_array().filter(|rows| !rows.is_empty());
        let rows = rows.unwrap_or_else(|| panic!("{arguments:?} names no transaction: {printed}"));
        let fees: u128 = rows.iter().map(|row| wei(&row["cost_wei"])).sum();
        let expected = before.checked_add_signed(change).and_then(|sum| sum.checked_sub(fees)).expect("a balance");
        assert_eq!(self.balance().await, expected, "{arguments:?} costs {fees} wei in fees and {change} besides: {printed}");
        printed
    }

    async fn held(&self, contract: Address) -> u128 {
        self.reader.balance(contract).await.expect("the chain answers").0
    }

    async fn ask_chain(&self, method: &'static str, parameters: Value) {
        let _answer: Value = self.devnet.rpc().request(method, parameters).await.unwrap_or_else(|error| panic!("{method}: {error}"));
    }

    /// Moves the chain's clock on.
    async fn later(&self, seconds: u64) {
        self.ask_chain("evm_increaseTime", json!([seconds])).await;
        self.ask_chain("anvil_mine", json!(["0x1"])).await;
    }

    /// What an account of this key sends through.
    async fn client(&self, account: Account) -> ChainClient {
        ChainClient::connect(self.devnet.url(), self.devnet.deployment().clone(), Some(account)).await.expect("the chain answers")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_about_money_changes_balances_by_what_it_says() {
    let place = Place::new().await;
    place.ask_chain("evm_setAutomine", json!([true])).await;
    rent_is_prepaid_and_taken_back(&place).await;
    a_deposit_thaws_and_is_taken(&place).await;
    stake_leaves_after_its_wait(&place).await;
    let node = Account::from_bytes(&[77; 32]).expect("a key");
    place.devnet.fund(&[(node.address(), Amount(100 * OPEN))]).await.expect("the faucet pays");
    let node = place.client(node).await;
    let lane = a_lane_is_collected(&place, &node).await;
    what_contracts_keep_is_taken(&place, &node).await;
    a_lanes_rest_is_asked_back(&place, &lane).await;
    versions_cost_their_fees(&place).await;
}

async fn rent_is_prepaid_and_taken_back(place: &Place) {
    let rent = place.devnet.deployment().rent;
    let made = place.run(&["datanet", "create", "meadow", "--licence", "CC0-1.0"]).await;
    assert_eq!(made["asset"], 1, "{made}");
    let shown = place.run(&["datanet", "rent", "meadow"]).await;
    assert_eq!((wei(&shown["prepaid_wei"]), wei(&shown["price_wei"]), shown.get("transaction")), (0, OPEN, None), "{shown}");
    let paid = place.pays(&["datanet", "rent", "meadow", "--prepay", "2 OPEN"], -2 * OPEN.cast_signed()).await;
    assert_eq!((wei(&paid["prepaid_wei"]), place.held(rent).await), (2 * OPEN, 2 * OPEN), "{paid}");
    let asked = place.pays(&["datanet", "rent", "1", "--ask-back", "0.5 OPEN"], 0).await;
    assert_eq!((wei(&asked["leaving_wei"]), wei(&asked["prepaid_wei"])), (OPEN / 2, 2 * OPEN), "{asked}");
    place.refused(&["datanet", "rent", "1", "--take-back"], &["0.5 OPEN can be taken from"]).await;
    place.later(place.devnet.deployment().config.rent_delay_s + 1).await;
    let taken = place.pays(&["datanet", "rent", "1", "--take-back"], (OPEN / 2).cast_signed()).await;
    assert_eq!((wei(&taken["prepaid_wei"]), wei(&taken["leaving_wei"]), &taken["leaves_at"]), (3 * OPEN / 2, 0, &0.into()), "{taken}");
    assert_eq!(place.held(rent).await, 3 * OPEN / 2);
    // Nobody audited this node.
    let claimed = place.run(&["claim", "--rent"]).await;
    assert_eq!((wei(&claimed["claimed_wei"]), claimed["epochs"].as_array().map(Vec::len)), (0, Some(0)), "{claimed}");
}

async fn a_deposit_thaws_and_is_taken(place: &Place) {
    let escrow = place.devnet.deployment().escrow;
    place.pays(&["wallet", "deposit", "3 OPEN"], -3 * OPEN.cast_signed()).await;
    let asked = place.pays(&["wallet", "withdraw", "1 OPEN"], 0).await;
    let held = &asked["escrow"];
    assert_eq!((wei(&held["thawing_wei"]), wei(&held["free_wei"]), wei(&held["balance_wei"])), (OPEN, 2 * OPEN, 3 * OPEN), "{asked}");
    place.refused(&["wallet", "withdraw"], &["1 OPEN can be taken from"]).await;
    place.later(place.devnet.deployment().config.thaw_s + 1).await;
    let taken = place.pays(&["wallet", "withdraw"], OPEN.cast_signed()).await;
    assert_eq!((wei(&taken["escrow"]["balance_wei"]), wei(&taken["escrow"]["thawing_wei"])), (2 * OPEN, 0), "{taken}");
    assert_eq!((place.held(escrow).await, wei(&taken["balance_wei"])), (2 * OPEN, place.balance().await));
}

async fn stake_leaves_after_its_wait(place: &Place) {
    let stake = place.devnet.deployment().stake;
    place.pays(&["stake", "add", "30 OPEN"], -30 * OPEN.cast_signed()).await;
    let left = place.pays(&["stake", "leave", "poster"], 0).await;
    assert_eq!((&left["roles"], wei(&left["least_wei"])), (&json!(["node", "indexer"]), 11 * OPEN), "{left}");
    place.refused(&["stake", "leave", "poster"], &["only those can be given up"]).await;
    place.pays(&["stake", "unbond", "8 OPEN"], 0).await;
    place.refused(&["stake", "withdraw"], &["8 OPEN can be withdrawn from"]).await;
    place.later(place.devnet.deployment().config.unbonding_s + 1).await;
    let taken = place.pays(&["stake", "withdraw"], 8 * OPEN.cast_signed()).await;
    assert_eq!((wei(&taken["active_wei"]), wei(&taken["unbonding_wei"]), place.held(stake).await), (22 * OPEN, 0, 22 * OPEN), "{taken}");
}

/// A node with 20 OPEN at stake collects on a lane of the account.
async fn a_lane_is_collected(place: &Place, node: &ChainClient) -> Lane {
    let own = node.address().expect("an account");
    node.stake(NodeId([9; 32]), 1, own, Amount(20 * OPEN)).await.expect("it stakes");
    let payer = wallet::load(&place.folder.join("wallet.json"), PASSWORD).expect("the wallet opens");
    let expiry = node.latest().await.expect("a block").block.number + 40;
    let lane = Lane { payer: place.account, node: own, cap: Amount(OPEN), expiry, nonce: 1 };
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
        cumulative: COLLECTED,
    };
    let domains = node.domains();
    let item = (Signed::new(&payer, &domains, lane), Signed::new(&payer, &domains, voucher));
    assert_eq!(node.collect_many(&[item]).await.expect("it is collected").0, COLLECTED);
    let shown = place.run(&["wallet", "show"]).await;
    assert_eq!(wei(&shown["escrow"]["balance_wei"]), 2 * OPEN - COLLECTED.0, "{shown}");
    let listed = place.run(&["wallet", "lanes"]).await;
    let row = &listed["lanes"][0];
    let (id, from) = (lane.id().to_string(), expiry + place.devnet.deployment().config.max_age_blocks + 1);
    assert_eq!((&row["lane"], &row["node"], &row["refund"]), (&id.as_str().into(), &own.to_string().into(), &"open".into()), "{listed}");
    assert_eq!(
        (wei(&row["collected_wei"]), wei(&row["cap_wei"]), &row["refund_from_block"]),
        (COLLECTED.0, OPEN, &from.into()),
        "{listed}"
    );
    lane
}

/// The account posts a payout against a bond and cannot take its part when somebody has it paid: then it takes part, bond and the stakers' share.
async fn what_contracts_keep_is_taken(place: &Place, node: &ChainClient) {
    let none = place.run(&["claim", "--kept"]).await;
    assert_eq!(none["taken"], json!([]), "{none}");
    let config = &place.devnet.deployment().config;
    let own = node.address().expect("an account");
    let epoch = node.submission_epoch().await.expect("an epoch");
    let root = NodeRoot { node: own, epoch, receipts: Hash32([9; 32]), count: 1, fees: COLLECTED };
    node.submit_node_root(&Signed::new(node.account("sign").expect("a key"), &node.domains(), root)).await.expect("the root is taken");
    let mut leaves: Vec<PayoutLeaf> = [(place.account, SHARE), (own, Amount(COLLECTED.0 - SHARE.0))]
        .map(|(account, amount)| {
            let parts = parts_tree(&[PartLeaf::new(own, 0, Part::Node, amount)]).expect("parts");
            PayoutLeaf { account, previous: Amount::ZERO, cumulative: amount, parts: parts.root() }
        })
        .into();
    leaves.sort_by_key(|leaf| leaf.account);
    let tree = payout_tree(&leaves).expect("a tree");
    let poster = place.client(wallet::load(&place.folder.join("wallet.json"), PASSWORD).expect("the wallet opens")).await;
    place.later(config.w1_s + config.fallback_s + 1).await;
    poster.post_payout(epoch, Hash32::ZERO, tree.root(), tree.total()).await.expect("the payout is taken");
    place.later(config.w2_s + 1).await;

    // An account with code that takes no money: what it is paid is kept for it.
    place.ask_chain("anvil_setCode", json!([place.account, "0x60006000fd"])).await;
    let claims: Vec<_> = (0..).zip(&leaves).map(|(number, leaf)| (*leaf, tree.open(number).expect("its opening"))).collect();
    assert_eq!(node.claim_many(&claims).await.expect("both are claimed").0, COLLECTED);
    place.ask_chain("anvil_setCode", json!([place.account, "0x"])).await;
    place.devnet.fund(&[(place.devnet.deployment().rewards, Amount(OPEN))]).await.expect("the vault takes money");
    // The account stakes 22 of 42 OPEN; the vault counts in 2^-64 wei per wei of stake.
    let earned = ((22 * OPEN) * ((OPEN << 64) / (42 * OPEN))) >> 64;
    let sum = SHARE.0 + config.poster_bond.0 + earned;
    let printed = place.pays(&["claim", "--kept"], sum.cast_signed()).await;
    let rows: Vec<(&str, u128)> = printed["taken"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row["by"].as_str().expect("a name"), wei(&row["amount_wei"])))
        .collect();
    let expected = [("settlement", SHARE.0), ("settlement, a poster's bond", config.poster_bond.0), ("stakers' vault", earned)];
    assert_eq!(rows, expected, "{printed}");
    let again = place.run(&["claim", "--kept"]).await;
    assert_eq!(again["taken"], json!([]), "it is taken once: {again}");
}

async fn a_lanes_rest_is_asked_back(place: &Place, lane: &Lane) {
    let (id, escrow) = (lane.id().to_string(), place.devnet.deployment().escrow);
    place.refused(&["wallet", "refund", &id], &["nodes may still post receipts of it: ask from block"]).await;
    let blocks = 41 + place.devnet.deployment().config.max_age_blocks;
    place.ask_chain("anvil_mine", json!([format!("{blocks:#x}")])).await;
    let listed = place.run(&["wallet", "lanes"]).await;
    assert_eq!(listed["lanes"][0]["refund"], "may be asked for", "{listed}");
    let held = place.held(escrow).await;
    let asked = place.pays(&["wallet", "refund", &id], 0).await;
    assert_eq!((&asked["lane"], &asked["epoch"], place.held(escrow).await), (&id.as_str().into(), &2.into(), held), "{asked}");
    let listed = place.run(&["wallet", "lanes"]).await;
    assert_eq!((&listed["lanes"][0]["refund"], &listed["lanes"][0]["epoch"]), (&"asked for".into(), &2.into()), "{listed}");
    place.refused(&["wallet", "refund", &id], &["its refund was asked for and stands in the payout of epoch 2"]).await;
}

async fn versions_cost_their_fees(place: &Place) {
    let (model, content) = (files::tiny_model(), "0b".repeat(32));
    let split = ["--split", "node=4500,base=2500,data=2500,stakers=500"];
    place.pays(&["model", "publish", text(&model), "--name", "tiny"], 0).await;
    let next = place.pays(&[&["registry", "publish", "tiny", "--content", &content][..], &split].concat(), 0).await;
    assert_eq!((&next["version"], &next["content"]), (&"2@2".into(), &BlobId([0x0b; 32]).to_string().into()), "{next}");
    let shown = place.run(&["registry", "show", "tiny"]).await;
    assert_eq!((&shown["owner"], &shown["current"]), (&place.account.to_string().into(), &2.into()), "{shown}");
    let split = &shown["versions"][1]["split"];
    assert_eq!((&split["node"], &split["data"]), (&4500.into(), &2500.into()), "{shown}");
    let moved = place.pays(&["registry", "redirect", "tiny", "--to", "1"], 0).await;
    assert_eq!((&moved["current"], &moved["versions"][1]["superseded_by"]), (&1.into(), &1.into()), "{moved}");
    place.pays(&["registry", "publish", "tiny", "--content", &"0c".repeat(32)], 0).await;
    let back = place.pays(&["registry", "rollback", "tiny"], 0).await;
    assert_eq!((&back["current"], &back["versions"][2]["status"]), (&1.into(), &"superseded".into()), "{back}");
    let frozen = place.pays(&["registry", "freeze", "tiny@1"], 0).await;
    assert_eq!((&frozen["current"], &frozen["versions"][0]["status"]), (&Value::Null, &"frozen".into()), "{frozen}");
}
