//! Clients that are cut off in the middle of an answer, and lanes that a node takes no longer: what became of an attempt is said to who signed its
//! lane, always the same, and the client's books follow it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use attribution::bundle::{self, Bundle};
use chain_bridge::{
    follow::Snapshot,
    registry::{Event, Logged, State},
};
use inference::proto::{
    message::{Delivered, FromClient, FromNode, RefusalCode, Turn},
    recall::Recall,
    spending::{Caps, Refused},
};
use node::{
    ask::{Asker, Candidate, Event as Asked, Question},
    purse::{LaneTerms, Purse},
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Hash32,
    key::{Account, Signed},
    options::Options,
    quote::Class,
    receipt::Reason,
    time::BlockRef,
    voucher::Lane,
};

use super::world::{TOKENS, WAIT, World, account};

impl World {
    /// What the node says of an attempt to who signs as `by`.
    async fn recalled(&self, by: &Account, request: Hash32, attempt: u16) -> FromNode {
        let mut talk = self.talk().await;
        let asked = Recall { node: self.node, request, attempt };
        talk.send(&FromClient::Recall(Box::new(Signed::new(by, &self.domains, asked)))).await;
        talk.recv().await
    }

    /// The same once the attempt has ended.
    async fn word(&self, request: Hash32) -> FromNode {
        let deadline = Instant::now() + WAIT;
        loop {
            match self.recalled(&self.client, request, 0).await {
                FromNode::Refused(refusal) if refusal.code == RefusalCode::Busy && Instant::now() < deadline => {}
                word => return word,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// This crate's own client, with books in `folder`.
    pub(super) fn asker(&self, folder: &std::path::Path) -> Asker {
        Asker {
            payer: self.client.address(),
            signer: Account::from_bytes(&self.client.to_bytes()).unwrap(),
            caps: Caps::default(),
            domains: self.domains,
            purse: Purse::open(folder).unwrap(),
            quic: Client::bind(([127, 0, 0, 1], 0).into(), &NodeSeed::generate(), Limits::default()).unwrap(),
            lanes: LaneTerms { cap: Amount(WEI_PER_OPEN), expiry: 10_000, now: 100 },
            receipts: folder.join("receipts"),
            failures: folder.join("failures"),
        }
    }

    pub(super) fn question(&self, asker: &Asker) -> Question {
        Question {
            nonce: asker.purse.next_nonce().unwrap(),
            turns: vec![Turn { role: 2, content: "What is gout?".into() }],
            manifest: self.manifest.clone(),
            profile: self.answering.profile(),
            class: Class::Open,
            options: Options::default(),
            tokens_max: TOKENS,
            spending_limit: Amount(WEI_PER_OPEN / 10),
            rates_max: (Amount(WEI_PER_OPEN), Amount(WEI_PER_OPEN)),
            is_padded: false,
        }
    }

    /// What the client's books count.
    fn counted(&self, asker: &Asker) -> Amount {
        asker.purse.spending(&self.domains, |books| Ok::<_, Refused>(books.of_key(self.client.address())?)).unwrap()
    }

    /// Has the chain say that so much was collected on a lane.
    fn collect(&self, lane: &Lane, amount: Amount) {
        let mut state = State::default();
        let events = [
            Event::Deposited { payer: lane.payer, amount },
            Event::LaneOpened { lane: *lane },
            Event::Collected { lane: lane.id(), payer: lane.payer, node: lane.node, amount, cumulative: amount },
        ];
        for (number, event) in (1..).zip(events) {
            let block = BlockRef { number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        let tip = self.chain.borrow().tip;
        self.chain.send_replace(Arc::new(Snapshot { tip, latest: Arc::new(state), ..Snapshot::default() }));
    }
}

fn unbilled(word: FromNode) -> Delivered {
    let FromNode::Receipt(delivered) = word else { panic!("no receipt but {word:?}") };
    assert_eq!((delivered.receipt.fee, delivered.receipt.tokens_out, delivered.receipt.reason), (Amount::ZERO, 0, Reason::EngineFailure));
    *delivered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_off_after_a_voucher_gets_its_receipt_as_often_as_it_asks_and_nobody_else_does() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.first_token(lane.clone()).await;
    let request = answer.begin.request.document.id();
    let FromNode::Refused(busy) = world.recalled(&world.client, request, 0).await else { panic!("a word on what is under way") };
    assert_eq!(busy.code, RefusalCode::Busy);
    let due = answer.due();
    answer.talk.send(&world.sign(due)).await;
    // The node has the voucher: it goes on.
    answer.token().await;
    drop(answer);
    let mut words = BTreeSet::new();
    for _ in 0..3 {
        let FromNode::Kept { bundle: text } = world.word(request).await else { panic!("no bundle") };
        let kept = Bundle::from_json(text.as_bytes()).unwrap();
        bundle::verify(&kept).unwrap();
        assert_eq!((kept.receipt.document.cumulative_after, kept.receipt.document.request), (due.cumulative, request));
        words.insert(text);
    }
    assert_eq!((words.len(), world.charged(&lane)), (1, (1, due.cumulative)));
    for (by, request, attempt) in [(account(3), request, 0), (account(2), request, 1), (account(2), Hash32([7; 32]), 0)] {
        let FromNode::Refused(refusal) = world.recalled(&by, request, attempt).await else { panic!("a stranger's answer") };
        assert_eq!(refusal.code, RefusalCode::Unknown);
    }
    let mut talk = world.talk().await;
    let asked = Recall { node: account(9).address(), request, attempt: 0 };
    talk.send(&FromClient::Recall(Box::new(Signed::new(&world.client, &world.domains, asked)))).await;
    talk.refusal(RefusalCode::Invalid, "is asked, this is").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_promised_nothing_gets_the_nodes_signed_word_and_the_attempt_is_never_billed_afterwards() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let answer = world.first_token(lane.clone()).await;
    let (begin, request) = (answer.begin.clone(), answer.begin.request.document.id());
    drop(answer);
    let word = unbilled(world.word(request).await);
    assert_eq!((word.receipt.request, word.receipt.lane, word.receipt.client), (request, lane.document.id(), world.client.address()));
    let signed = Signed { document: word.receipt.clone(), signature: word.signature };
    signed.verify(&world.domains, world.node).unwrap();
    assert_eq!(unbilled(world.word(request).await), word, "two different words would convict the node");
    let mut talk = world.talk().await;
    talk.send(&FromClient::Begin(Box::new(begin))).await;
    loop {
        match talk.recv().await {
            FromNode::Begun { .. } => {}
            FromNode::Refused(refusal) => break assert_eq!(refusal.code, RefusalCode::Duplicate),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.charged(&lane), (0, Amount::ZERO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_that_is_killed_in_an_attempt_counts_what_its_receipt_charges_once_the_node_is_asked() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let asker = Arc::new(world.asker(folder.path()));
    let question = world.question(&asker);
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let (killed, candidates) = (Arc::clone(&asker), [world.front.clone()]);
    let asking = tokio::spawn(async move {
        let mut on_event = |event: Asked<'_>| {
            if let Asked::Token(_, count, _) = event
                && count > 1
            {
                // As far as the first voucher, which is for the first token; then it hangs until it is killed.
                told.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(300));
            }
        };
        killed.ask(&question, &candidates, &mut on_event).await.map(drop)
    });
    heard.recv().await.unwrap();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let deadline = Instant::now() + WAIT;
    let recalled = loop {
        let recalled = asker.recall(None).await.unwrap();
        assert_eq!(recalled.len(), 1, "{recalled:?}");
        if recalled[0].charged_wei.is_some() {
            break recalled[0].clone();
        }
        assert_eq!(world.counted(&asker), recalled[0].promised_wei, "counted until the node's word is there");
        assert!(recalled[0].describe().contains("stay counted as spent until block 10000"), "{}", recalled[0].describe());
        assert!(Instant::now() < deadline, "{recalled:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let fee = recalled.charged_wei.unwrap();
    assert!(fee > Amount::ZERO && fee <= recalled.promised_wei);
    assert_eq!(world.counted(&asker), fee);
    assert_eq!(asker.recall(None).await.unwrap(), [], "it is known");
    // The lane goes on where the receipt left it.
    let answered = asker.ask(&world.question(&asker), std::slice::from_ref(&world.front), &mut |_| {}).await.unwrap();
    assert_eq!(answered.bundle.voucher.document.base, fee);
    assert_eq!(world.counted(&asker), fee.plus(answered.bundle.receipt.document.fee).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_node_says_what_became_of_an_attempt_it_stays_counted_and_the_node_is_left_alone_for_a_while() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let asker = Arc::new(world.asker(folder.path()));
    let (killed, question) = (Arc::clone(&asker), world.question(&asker));
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let candidates = [world.front.clone()];
    let asking = tokio::spawn(async move {
        let mut on_event = |event: Asked<'_>| {
            if let Asked::Token(_, 2, _) = event {
                told.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(300));
            }
        };
        killed.ask(&question, &candidates, &mut on_event).await.map(drop)
    });
    heard.recv().await.unwrap();
    asking.abort();
    drop(asking.await);
    // Where it was, nobody listens any more.
    let lefts = asker.purse.lefts(&world.domains).unwrap();
    let (left, promise) = lefts[0].clone();
    let nowhere = node::purse::Left { addr: ([127, 0, 0, 1], 1).into(), ..left };
    asker.purse.leave(&world.domains, &nowhere).unwrap();
    let recalled = asker.recall(None).await.unwrap();
    assert_eq!((recalled.len(), recalled[0].charged_wei), (1, None));
    assert_eq!(world.counted(&asker), promise.sum);
    assert_eq!(asker.recall(None).await.unwrap(), [], "not at every command");
    assert_eq!(asker.recall(Some(nowhere.request)).await.unwrap().len(), 1, "its own request asks all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_the_chain_has_collected_further_is_changed_for_another_at_once_and_nothing_is_charged_twice() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let asker = world.asker(folder.path());
    let candidates: [Candidate; 1] = [world.front.clone()];
    let ask = async || asker.ask(&world.question(&asker), &candidates, &mut |_| {}).await.unwrap();
    let first = ask().await;
    let (lane, fee) = (first.bundle.lane.clone(), first.bundle.receipt.document.fee);
    world.collect(&lane.document, fee.plus(Amount(1)).unwrap());
    // The refusal has a code of its own. A request of another number than the client's.
    world.nonce.fetch_add(1_000, Ordering::Relaxed);
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    talk.send(&FromClient::Begin(Box::new(world.begin(quote, lane.clone())))).await;
    talk.refusal(RefusalCode::Lane, "use another lane").await;
    let started = Instant::now();
    let second = ask().await;
    assert!(started.elapsed() < Duration::from_secs(10), "it waited for a lane that is never free again");
    assert_ne!(second.bundle.lane.document.id(), lane.document.id());
    assert_eq!((second.abandoned.len(), second.attempts.len(), second.bundle.receipt.document.attempt), (0, 1, 0));
    assert_eq!(world.books.counts().unwrap().0, 2);
    assert_eq!(world.counted(&asker), fee.plus(second.bundle.receipt.document.fee).unwrap());
    let third = ask().await;
    assert_eq!(third.bundle.lane, second.bundle.lane, "the lane that took its place is kept to");
}
