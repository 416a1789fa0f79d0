//! Nodes that check one another's answers in an epoch of a real chain: each with its own books, index, board and connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use attribution::{
    bundle::{Bundle, verify_full},
    check::{Outcome, Stacked},
};
use chain_bridge::{
    client::checks::ORIGIN_BLOCKS,
    devnet::{Devnet, DevnetConfig, Role as Key},
    registry::State,
};
use node::{
    config::Checks,
    service::{
        checking::{
            Checking,
            draws::BoardDraws,
            kept::{Kept, Row},
        },
        index::store::Indexes,
        inference::{Offer, Offers},
        settlement::Settling,
    },
};
use p2p::proto::ads::SignedAd;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use types::{
    amount::Amount,
    encoding::Document as _,
    id::NodeId,
    key::{Account, Signed},
    quote::Class,
    receipt::{Finding, Receipt, token_ids_hash},
};

use super::{
    sealed::keep,
    watched::{connected, index, made, post},
    world::{Operator, WAIT, anvil, payer, until},
};

/// A third of W1: long enough for a beacon, some fetches and a seal, however busy the machine is. What remains of it is skipped.
const THIRD_S: u64 = 240;
const UNBONDING_S: u64 = 36_000;
/// Every receipt is drawn, and so often that everybody else is drawn for it.
const RULE: Checks = Checks { enabled: true, rate: u32::MAX, checkers: 32, eligible_min: 1 };

/// An answer whose counts and fee are those of its tokens.
async fn counted(node: &Operator, payer: &Account, nonce: u64, class: Class, change: impl FnOnce(&mut Receipt)) -> Bundle {
    let mut bundle = made(node, payer, nonce, class, |_| {}).await;
    let (mut quote, mut voucher, mut receipt) = (bundle.quote.document, bundle.voucher.document, bundle.receipt.document.clone());
    bundle.token_ids = vec![1, 2, 3];
    // 10,000 wei for three tokens.
    quote.rate_out = Amount(3_333_334);
    (receipt.tokens_out, voucher.tokens_out) = (3, 3);
    (receipt.token_ids, voucher.token_ids) = (token_ids_hash(&bundle.token_ids), token_ids_hash(&bundle.token_ids));
    (receipt.quote, voucher.quote) = (quote.hash(), quote.hash());
    change(&mut receipt);
    bundle.quote = Signed::new(&node.account, &bundle.domains, quote);
    bundle.voucher = Signed::new(payer, &bundle.domains, voucher);
    bundle.receipt = Signed::new(&node.account, &bundle.domains, receipt);
    bundle
}

/// Moves the chain's clock to a time.
async fn skip_to(node: &Operator, time: u64) {
    let now = node.client().latest().await.unwrap().timestamp;
    let _: Value =
        node.client().rpc().request("anvil_mine", json!(["0x1", format!("{:#x}", time.saturating_sub(now).max(1))])).await.unwrap();
}

/// Has a node check by what it answers under.
fn check(node: &mut Operator, settling: &Arc<Settling>, bundles: &[Bundle]) -> PathBuf {
    let offer = |bundle: &Bundle| Offer {
        manifest: bundle.manifest.clone(),
        index: Arc::new(index()),
        adapter: None,
        indexes: Arc::new(Indexes::in_memory()),
    };
    let offers: Offers = bundles.iter().map(|bundle| (bundle.manifest.root(), Arc::new(offer(bundle)))).collect();
    let folder = node.store().with_file_name("checks");
    let checking = Checking {
        settling: Arc::clone(settling),
        offers: Arc::new(RwLock::new(offers)),
        engine: None,
        folder: folder.clone(),
        config: RULE,
    };
    node.tasks.spawn(checking.run());
    folder
}

/// What is on the board of an epoch.
fn is_board(state: &State, epoch: u64, is_it: impl Fn(&chain_bridge::registry::check::Board) -> bool) -> bool {
    state.board(epoch).is_some_and(is_it)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_drawn_check_one_another_agree_on_what_is_right_and_prove_what_is_false() {
    let mut config = DevnetConfig::new(anvil());
    (config.deploy.w1_s, config.deploy.unbonding_s, config.deploy.honour_s) = (3 * THIRD_S, UNBONDING_S, UNBONDING_S);
    let devnet = Devnet::start(config).await.unwrap();
    let parameters = attribution::parameters::Parameters::builtin(1).unwrap();
    connected(&devnet, Key::Governor.account()).await.approve_parameters(1, &parameters.encode()).await.unwrap();
    let mut answering = Operator::new(&devnet, 1, false, &[]).await;
    let mut second = Operator::new(&devnet, 3, false, &[&answering]).await;
    let mut third = Operator::new(&devnet, 4, false, &[&answering, &second]).await;
    let payer = payer(&devnet, 2).await;

    // One answers truly and falsely, and shows what is open, and to who was drawn what is checked, but for one; another answers truly.
    let liar = answering.address();
    let honest = counted(&answering, &payer, 1, Class::Open, |_| {}).await;
    let closed = counted(&answering, &payer, 2, Class::Checked, |_| {}).await;
    let lost = counted(&answering, &payer, 5, Class::Checked, |_| {}).await;
    let misdirected = counted(&answering, &payer, 3, Class::Open, |receipt| receipt.spans[0].payee = liar).await;
    let other = counted(&second, &payer, 4, Class::Open, |_| {}).await;
    verify_full(&honest, &index()).unwrap();
    let mut own = vec![honest.clone(), closed, misdirected.clone()];
    for bundle in &own {
        keep(&answering, bundle, None);
    }
    // Who shows nobody what was checked: its text is lost.
    answering.books.keep_closed(&lost, &lost.lane, &lost.voucher, None).unwrap();
    own.push(lost.clone());
    keep(&second, &other, None);

    let mut folders = BTreeMap::new();
    let all = [&own[..], std::slice::from_ref(&other)].concat();
    for node in [&mut answering, &mut second, &mut third] {
        node.draws = Arc::new(BoardDraws { snapshots: node.chained.snapshots(), rule: RULE.rule(), node: node.address() });
        let settling = node.settling(false, false);
        node.serve(&settling).await;
        folders.insert(node.address(), check(node, &settling, &all));
    }
    let stake = |state: &State| state.operator(liar).unwrap().active;
    for node in [&answering, &second, &third] {
        // Each has to know where the others answer.
        let others = [&answering, &second, &third].map(|other| other.seed.node_id());
        let knows = |node: NodeId, ads: &[Arc<SignedAd>]| ads.iter().any(|signed| signed.ad().node == node);
        let own = node.seed.node_id();
        node.overlay.wait_ads(|ads| others.iter().all(|other| *other == own || knows(*other, ads)), WAIT).await.unwrap();
    }
    let before = answering.state().await;
    let staked = stake(&before);
    let epoch = post(&answering, &own).await;
    assert_eq!(post(&second, std::slice::from_ref(&other)).await, epoch);
    let times = until("the epoch is open", async || third.state().await.epoch(epoch).cloned()).await;
    skip_to(&third, times.accepts_until).await;

    // The L1 goes on when the beacon is announced.
    let announced = async || {
        let state = third.state().await;
        is_board(&state, epoch, |_| true).then_some(())
    };
    until("somebody announces the beacon", announced).await;
    devnet.advance_l1(ORIGIN_BLOCKS).await.unwrap();
    let checkers = [liar, second.address(), third.address()];
    let sealed = async || {
        let state = third.state().await;
        is_board(&state, epoch, |board| checkers.iter().all(|who| board.checks.contains_key(who))).then_some(())
    };
    until("all seal what they found", sealed).await;
    skip_to(&third, times.sealed_until()).await;
    let shown = async || {
        let state = third.state().await;
        is_board(&state, epoch, |board| board.checks.values().all(|said| said.shown.is_some())).then_some(state)
    };
    let state = until("everybody shows it", shown).await;
    let board = state.board(epoch).unwrap();

    let mut seen = Vec::new();
    for (who, said) in &board.checks {
        let kept = Kept::read(&folders[who], epoch).unwrap().unwrap();
        let stacked = Stacked::new(kept.sealed.clone().unwrap());
        assert_eq!((said.sealed, said.shown, said.count), (stacked.sealed(), Some(stacked.shown()), stacked.checks().len() as u64));
        for place in 0..said.count {
            stacked.open(place).unwrap().verify(said.sealed, stacked.shown(), said.count).unwrap();
        }
        assert!(kept.checks.iter().all(|row| row.node != *who), "nobody checks itself: {kept:#?}");
        seen.push((*who, kept));
    }
    let mut traces = Vec::new();
    for (who, kept) in &seen {
        for row in kept.checks.iter().filter(|row| row.receipt != misdirected.receipt.document.hash()) {
            let is_lost = row.receipt == lost.receipt.document.hash();
            match &row.outcome {
                Some(Outcome::Judged { finding: Finding::Agrees, trace, .. }) if !is_lost => traces.push((row.receipt, *trace)),
                Some(Outcome::Withheld) if is_lost => {}
                outcome => panic!("{who}: {outcome:?}: {row:#?}"),
            }
            assert_eq!(row.proved, Vec::<String>::new());
        }
    }
    // Digests of the same receipt by different checkers have nothing in common.
    let distinct: BTreeSet<_> = traces.iter().map(|(_, trace)| *trace).collect();
    assert_eq!(distinct.len(), traces.len());

    // Whoever came first proved it.
    let of_false: Vec<&Row> = seen.iter().filter(|(who, _)| *who != liar).flat_map(|(_, kept)| kept.checks.iter()).collect();
    let found: Vec<&Row> = of_false.into_iter().filter(|row| row.receipt == misdirected.receipt.document.hash()).collect();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|row| matches!(row.outcome, Some(Outcome::Judged { finding: Finding::Attribution, .. }))), "{found:#?}");
    assert!(found.iter().any(|row| row.proved.iter().any(|proved| proved.starts_with("F9"))), "{found:#?}");
    assert!(stake(&state) < staked, "it cost the node stake");
    devnet.stop().await;
}
