//! A poster that somebody floods with questions about its honest tree keeps its stake.

use std::collections::BTreeMap;

use attribution::epoch::{Payout, one_by_one};
use chain_bridge::fraud::{calldata::Step, challenge::asked_leaf};
use futures::future::join_all;
use node::evidence::search::shown_tree;
use types::amount::Amount;

use super::{
    payouts::honest_parts,
    world::{Operator, devnet_answering, payer, until},
};

const QUESTIONS: u64 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poster_answers_64_questions_in_a_handful_of_transactions_and_keeps_its_stake() {
    let devnet = devnet_answering(6, 180, 60).await;
    let mut poster = Operator::new(&devnet, 3, true, &[]).await;
    let flooder = Operator::new(&devnet, 1, false, &[]).await;
    let payer = payer(&devnet, 2).await;
    for nonce in 1..4 {
        poster.keep_receipt(&payer, nonce, Amount(10_001)).await;
    }
    let settling = poster.settling(true, false);
    poster.serve(&settling).await;
    let running = poster.tasks.spawn(settling.clone().run(1));
    let posted = until("the payout", async || poster.state().await.epoch(1).and_then(|epoch| epoch.payout)).await;
    let tree = Payout::over(&BTreeMap::new(), honest_parts(&poster).await, &one_by_one).unwrap();
    assert_eq!((tree.root(), posted.poster), (posted.root, poster.address()));
    let shown = shown_tree(&tree).unwrap();

    // It looks away while it is asked; two of three questions name places beyond the tree.
    running.abort();
    let stake = poster.client().slashable_of(poster.address()).await.unwrap();
    let step = |number: u64| match number % 2 {
        0 => Step::ask_leaf(number),
        _ => Step::ask_part(asked_leaf(&shown, 0).unwrap(), number),
    };
    let steps: Vec<Step> = (0..QUESTIONS).map(step).collect();
    let asked = join_all(steps.iter().map(|step| flooder.client().challenge(step))).await;
    asked.into_iter().for_each(|asked| drop(asked.unwrap()));
    assert_eq!(flooder.state().await.open_challenges().count() as u64, QUESTIONS);

    let before = poster.client().rpc().nonce(poster.address(), false).await.unwrap();
    poster.tasks.spawn(settling.run(0));
    let answered = async || (poster.state().await.open_challenges().count() == 0).then_some(());
    until("every question is answered", answered).await;
    let transactions = poster.client().rpc().nonce(poster.address(), false).await.unwrap() - before;
    assert!((1..=4).contains(&transactions), "{transactions} transactions for {QUESTIONS} questions");
    let state = poster.state().await;
    assert_eq!(state.challenges().count() as u64, QUESTIONS);
    assert_eq!(state.epoch(1).unwrap().payout.map(|payout| payout.root), Some(posted.root), "the payout stands");
    assert_eq!(poster.client().slashable_of(poster.address()).await.unwrap(), stake);
    devnet.stop().await;
}
