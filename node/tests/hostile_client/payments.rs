//! What is paid: vouchers that are false, replayed or missing, session keys, deposits that several answers share.

use std::time::{Duration, Instant};

use attribution::bundle;
use chain_bridge::lanes::SessionRight;
use inference::proto::message::{Begin, FromClient, FromNode, RefusalCode, encode};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Hash32,
    key::Signed,
    receipt::Reason,
    voucher::{Lane, Voucher},
};

use super::world::{Answer, TOKENS, WAIT, World, account};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_client_is_served_and_its_lane_goes_on_where_it_stood() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let (_, first) = world.honest(&lane).await;
    world.receipts(1).await;
    assert_eq!(world.charged(&lane), (1, first.cumulative));
    let (answer, second) = world.honest(&lane).await;
    world.receipts(2).await;
    assert_eq!((answer.terms.base, second.base), (first.cumulative, first.cumulative));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_voucher_that_is_not_what_is_due_is_refused_by_field_and_charges_nothing() {
    type Forge = fn(&mut Voucher);
    let forged: [(&str, Forge); 9] = [
        ("above the lane's cap", |voucher| voucher.cumulative = Amount(WEI_PER_OPEN + 1)),
        ("cumulative", |voucher| voucher.cumulative.0 -= 1),
        ("lane", |voucher| voucher.lane = Hash32([8; 32])),
        ("request", |voucher| voucher.request = Hash32([8; 32])),
        ("quote", |voucher| voucher.quote = Hash32([8; 32])),
        ("token", |voucher| voucher.token_ids = Hash32([8; 32])),
        ("input tokens", |voucher| voucher.tokens_in -= 1),
        ("covers 9 tokens", |voucher| voucher.tokens_out = 9),
        ("covers 0 tokens", |voucher| voucher.tokens_out = 0),
    ];
    let world = World::start().await;
    for (number, (words, forge)) in (1..).zip(forged) {
        let lane = world.lane(WEI_PER_OPEN, number);
        let mut answer = world.first_token(lane.clone()).await;
        let mut voucher = answer.due();
        forge(&mut voucher);
        answer.talk.send(&world.sign(voucher)).await;
        answer.talk.refusal(RefusalCode::Voucher, words).await;
        assert_eq!(world.charged(&lane), (0, Amount::ZERO), "{words}");
    }
    let lane = world.lane(WEI_PER_OPEN, 99);
    let mut answer = world.first_token(lane.clone()).await;
    let stranger = Signed::new(&account(3), &world.domains, answer.due());
    answer.talk.send(&FromClient::Voucher(Box::new(stranger))).await;
    answer.talk.refusal(RefusalCode::Voucher, &world.client.address().to_string()).await;
    assert_eq!(world.charged(&lane), (0, Amount::ZERO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_key_pays_while_the_escrow_lets_it_and_as_far_as_its_cap_reaches() {
    let world = World::start().await;
    let (payer, session) = (world.client.address(), account(7));
    let lane = |nonce| {
        let lane = Lane { payer, node: world.node, cap: Amount(WEI_PER_OPEN), expiry: 10_000, nonce };
        Signed::new(&session, &world.domains, lane)
    };
    let refused = async |nonce, words: &str| {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        let begin = Begin { session: Some(session.address()), ..world.begin(quote, lane(nonce)) };
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        talk.refusal(RefusalCode::Voucher, words).await;
    };
    let allow = |right| world.deposit.lock().unwrap().sessions.insert((payer, session.address()), right);
    refused(1, "lets no session key").await;
    let right = SessionRight { cap: Amount(WEI_PER_OPEN), spent: Amount::ZERO, expiry: 10_000, revoked_at: None };
    allow(SessionRight { revoked_at: Some(u64::MAX), ..right });
    refused(2, "is revoked").await;
    allow(SessionRight { expiry: 900, ..right });
    refused(3, "ends at block 900").await;
    allow(SessionRight { spent: right.cap, ..right });
    refused(4, "is good for 0 OPEN").await;
    allow(right);

    // The payer's own signature is not what this answer was begun with.
    let mut answer = world.first_token_by(lane(5), Some(session.address())).await;
    answer.talk.send(&world.sign(answer.due())).await;
    answer.talk.refusal(RefusalCode::Voucher, &session.address().to_string()).await;
    assert_eq!(world.charged(&lane(5)), (0, Amount::ZERO));

    let mut answer = world.first_token_by(lane(6), Some(session.address())).await;
    let promised = answer.due();
    answer.talk.send(&FromClient::Voucher(Box::new(Signed::new(&session, &world.domains, promised)))).await;
    answer.token().await;
    answer.talk.0.reset(p2p::stream::code::CANCELLED);
    world.receipts(1).await;
    assert_eq!(world.charged(&lane(6)), (1, promised.cumulative));
    let kept = world.books.receipts(&[0]).unwrap();
    assert_eq!(kept[0].session, Some(session.address()));
    bundle::verify(&kept[0]).unwrap();
    // What it owes and the chain has not collected counts against its cap, and against no other key's.
    allow(SessionRight { cap: Amount(promised.cumulative.0 + 1), ..right });
    refused(7, "is good for 0.000000000000000001 OPEN").await;
    world.honest(&world.lane(WEI_PER_OPEN, 8)).await;
    // A lane that a session signed is nobody else's: without the session named, the payer's signature is due.
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    talk.send(&FromClient::Begin(Box::new(world.begin(quote, lane(6))))).await;
    talk.refusal(RefusalCode::Voucher, "the Lane is signed by").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_before_a_forged_frame_is_receipted() {
    let world = World::start().await;
    let forged: [fn(&World, &Answer) -> Vec<u8>; 3] = [
        |world, answer| encode(&world.sign(Voucher { cumulative: Amount(1), ..answer.due() })),
        |_, _| vec![0xff; 40],
        |_, answer| encode(&FromClient::Begin(Box::new(answer.begin.clone()))),
    ];
    for (number, forge) in (1..).zip(forged) {
        let lane = world.lane(WEI_PER_OPEN, number);
        let mut answer = world.first_token(lane.clone()).await;
        let promised = answer.due();
        answer.talk.send(&world.sign(promised)).await;
        answer.token().await;
        let frame = forge(&world, &answer);
        answer.talk.0.send(&frame).await.unwrap();
        world.receipts(number).await;
        assert_eq!(world.charged(&lane), (number, promised.cumulative), "the first token was promised, the others were not");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_before_a_reset_is_receipted() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.first_token(lane.clone()).await;
    let promised = answer.due();
    answer.talk.send(&world.sign(promised)).await;
    answer.token().await;
    answer.talk.0.reset(p2p::stream::code::CANCELLED);
    world.receipts(1).await;
    assert_eq!(world.charged(&lane), (1, promised.cumulative));
    let kept = world.books.receipts(&[0]).unwrap();
    assert_eq!((kept[0].receipt.document.reason, kept[0].receipt.document.tokens_out), (Reason::Cancelled, 1));
    bundle::verify(&kept[0]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_vouchers_and_requests_pay_for_nothing_and_get_nothing() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let (first, last) = world.honest(&lane).await;
    world.receipts(1).await;
    // A voucher of an earlier answer on the same lane.
    let mut answer = world.first_token(lane.clone()).await;
    let old = first.terms.voucher(&first.tokens[..1]).unwrap();
    answer.talk.send(&world.sign(old)).await;
    answer.talk.refusal(RefusalCode::Voucher, "request").await;
    // The same voucher twice in one answer.
    let other = world.lane(WEI_PER_OPEN, 2);
    let mut answer = world.first_token(other.clone()).await;
    let due = answer.due();
    answer.talk.send(&world.sign(due)).await;
    answer.token().await;
    answer.talk.send(&world.sign(due)).await;
    answer.talk.refusal(RefusalCode::Voucher, "covers 1 tokens").await;
    world.receipts(2).await;
    // A request that was answered, sent again in a stream of its own.
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let again = Begin { quote, ..first.begin.clone() };
    talk.send(&FromClient::Begin(Box::new(again))).await;
    talk.refusal(RefusalCode::Duplicate, "was billed here").await;
    assert_eq!(world.charged(&lane), (2, last.cumulative), "neither replay moved the lane");
    assert_eq!(world.charged(&other).1, due.cumulative);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_deposit_backs_answers_at_once_only_as_far_as_it_reaches() {
    let world = World::start().await;
    let first = world.first_token(world.lane(WEI_PER_OPEN, 1)).await;
    let most = first.terms.due(TOKENS).unwrap();
    world.deposit.lock().unwrap().deposit = Amount(2 * most.0);
    let _second = world.first_token(world.lane(WEI_PER_OPEN, 2)).await;
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let begin = world.begin(quote, world.lane(WEI_PER_OPEN, 3));
    talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
    talk.refusal(RefusalCode::Voucher, "beside its other answers here").await;
    // What an answer no longer needs is free again, less what it was receipted for.
    let mut first = first;
    first.talk.0.reset(p2p::stream::code::CANCELLED);
    let deadline = Instant::now() + WAIT;
    loop {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        talk.send(&FromClient::Begin(Box::new(world.begin(quote, world.lane(WEI_PER_OPEN, 3))))).await;
        if matches!(talk.recv().await, FromNode::Begun { .. }) {
            return;
        }
        assert!(Instant::now() < deadline, "the first answer's share of the deposit never came free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_first_tokens_and_pays_none_is_let_wait_and_others_are_served() {
    let world = World::start().await;
    let mut taken = 0_u64;
    loop {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        talk.send(&FromClient::Begin(Box::new(world.begin(quote, world.lane(WEI_PER_OPEN, 1_000 + taken))))).await;
        match talk.recv().await {
            FromNode::Begun { .. } => {
                assert!(matches!(talk.recv().await, FromNode::Token { .. }));
                talk.0.reset(p2p::stream::code::CANCELLED);
            }
            FromNode::Refused(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Busy, "{refusal:?}");
                if refusal.message.contains("without paying") {
                    break;
                }
                // The engine is still letting go of earlier ones.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => panic!("{other:?}"),
        }
        taken += 1;
        assert!(taken < 2_000, "prompts and first tokens were given away without bound");
    }
    assert!(taken > 1);
    assert_eq!(world.books.counts().unwrap().0, 0);
}
