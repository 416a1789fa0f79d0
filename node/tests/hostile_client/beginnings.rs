//! What is refused before a token: beginnings that are forged, billed already, frozen, or could never be paid.

use std::sync::Arc;

use chain_bridge::{
    follow::Snapshot,
    registry::{Event, Logged, State},
};
use inference::proto::message::{Begin, FromClient, RefusalCode};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::Signed,
    manifest::AssetKind,
    quote::{Class, Profile, Quote},
    request::Request,
    split::SplitTable,
    time::BlockRef,
    voucher::Lane,
};

use super::world::{TOKENS, World, account};

/// The books of a chain on which version 1 of asset 1 was published in block 3 and frozen in block 4.
fn frozen_version(owner: Address) -> State {
    let (asset, version) = (AssetId(1), AssetVersion { asset: AssetId(1), version: 1 });
    let published = Event::Published {
        version,
        content: BlobId([7; 32]),
        parents: vec![],
        split: SplitTable { node: 4_000, base: 2_500, data: 3_000, stakers: 500, ..SplitTable::default() },
        datanets: vec![],
        licence: Hash32::ZERO,
        parent_share_min: 0,
    };
    let registered = Event::Registered { asset, kind: AssetKind::Base, owner, uri: "tributary:base:tiny".into() };
    let mut state = State::default();
    for (number, event) in (1..).zip([Event::Transferred { asset, to: owner }, registered, published, Event::Frozen { version }]) {
        let block = BlockRef { number, hash: Hash32::ZERO };
        state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
    }
    state
}

/// The offers are rebuilt when every Datanet of every version is there, which may take minutes: until then the freeze alone must count, or the node
/// would bill what is void and be slashed for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_version_is_refused_while_it_is_still_offered() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let latest = Arc::new(frozen_version(world.client.address()));
    world.chain.send_replace(Arc::new(Snapshot { tip: quote.document.block, latest, ..Snapshot::default() }));
    let begin = world.begin(quote, lane.clone());
    talk.send(&FromClient::Begin(Box::new(begin))).await;
    talk.refusal(RefusalCode::NotServed, "version 1@1 was frozen in block 4").await;
    let mut talk = world.talk().await;
    let ask = FromClient::QuoteAsk { manifest: world.manifest.root(), profile: Profile::Exact, class: Class::Open, tokens_max: TOKENS };
    talk.send(&ask).await;
    talk.refusal(RefusalCode::NotServed, "frozen in block 4").await;
    assert_eq!(world.charged(&lane), (0, Amount::ZERO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beginnings_that_are_not_meant_for_this_node_are_refused_before_a_token() {
    type Forge = fn(&World, &mut Begin);
    let forged: [(RefusalCode, &str, Forge); 8] = [
        (RefusalCode::Voucher, "the lane is from", |world, begin| {
            let lane = Lane { node: Address([5; 20]), ..begin.lane.document };
            begin.lane = Signed::new(&world.client, &world.domains, lane);
        }),
        (RefusalCode::Voucher, "the lane is from", |world, begin| {
            let lane = Lane { payer: account(3).address(), ..begin.lane.document };
            begin.lane = Signed::new(&account(3), &world.domains, lane);
        }),
        (RefusalCode::Voucher, "expires at block 999", |world, begin| {
            // One block less than an answer and its collect may take.
            begin.lane = Signed::new(&world.client, &world.domains, Lane { expiry: 999, ..begin.lane.document });
        }),
        (RefusalCode::Voucher, "Lane", |world, begin| {
            begin.lane.signature = Signed::new(&account(3), &world.domains, begin.lane.document).signature
        }),
        (RefusalCode::Quote, "Quote", |world, begin| {
            let quote = Quote { node: account(3).address(), ..begin.quote.document };
            begin.quote = Signed::new(&account(3), &world.domains, quote);
        }),
        (RefusalCode::Quote, "Quote", |_, begin| begin.quote.document.rate_out = Amount(1)),
        (RefusalCode::Invalid, "Request", |_, begin| begin.request.document.spending_limit = Amount(u128::MAX)),
        (RefusalCode::Invalid, "commits to", |_, begin| begin.turns[0].content.push('!')),
    ];
    let world = World::start().await;
    for (number, (code, words, forge)) in (1..).zip(forged) {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        let lane = world.lane(WEI_PER_OPEN, number);
        let mut begin = world.begin(quote, lane.clone());
        forge(&world, &mut begin);
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        talk.refusal(code, words).await;
        assert_eq!(world.charged(&lane), (0, Amount::ZERO), "{words}");
    }
    // A lane that pays one answer pays no second one meanwhile.
    let lane = world.lane(WEI_PER_OPEN, 50);
    let first = world.first_token(lane.clone()).await;
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let begin = world.begin(quote, lane);
    talk.send(&FromClient::Begin(Box::new(begin))).await;
    talk.refusal(RefusalCode::Busy, "has not ended here yet").await;
    // A voucher without an answer, and bytes that are no frame.
    let mut talk = world.talk().await;
    let voucher = first.due();
    talk.send(&world.sign(voucher)).await;
    talk.refusal(RefusalCode::Invalid, "before the answer began").await;
    let mut talk = world.talk().await;
    talk.0.send(&[0xff; 9]).await.unwrap();
    talk.refusal(RefusalCode::Invalid, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_attempt_over_tokens_already_billed_would_convict_the_node_and_is_refused() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let (first, last) = world.honest(&lane).await;
    world.receipts(1).await;
    for (attempt, continued) in [(1, vec![]), (2, first.tokens[..first.tokens.len() - 1].to_vec())] {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        talk.send(&FromClient::Begin(Box::new(Begin { quote, attempt, continued, ..first.begin.clone() }))).await;
        talk.refusal(RefusalCode::Duplicate, "was billed here up to token").await;
    }
    assert_eq!(world.charged(&lane), (1, last.cumulative));
    // The same request on two lanes at once: one of them would be the overlap.
    let mut answer = world.first_token(world.lane(WEI_PER_OPEN, 2)).await;
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let again = Begin { quote, attempt: 1, lane: world.lane(WEI_PER_OPEN, 3), ..answer.begin.clone() };
    talk.send(&FromClient::Begin(Box::new(again))).await;
    talk.refusal(RefusalCode::Busy, "an earlier try at request").await;
    answer.talk.0.reset(p2p::stream::code::CANCELLED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beginnings_that_could_never_be_paid_are_refused_before_a_prompt_is_read() {
    type Forge = fn(&World, &mut Begin);
    let forged: [(RefusalCode, &str, Forge); 4] = [
        (RefusalCode::Invalid, "no output token is left", |world, begin| {
            begin.request = Signed::new(&world.client, &world.domains, Request { tokens_max: 0, ..begin.request.document });
        }),
        (RefusalCode::Voucher, "raise the limit", |world, begin| {
            begin.request = Signed::new(&world.client, &world.domains, Request { spending_limit: Amount(1), ..begin.request.document });
        }),
        (RefusalCode::Invalid, "no output token is left", |_, begin| begin.continued = vec![1; 24]),
        (RefusalCode::Invalid, "token 4294967295 is outside the vocabulary of 300", |_, begin| begin.continued = vec![u32::MAX; 3]),
    ];
    let world = World::start().await;
    for (number, (code, words, forge)) in (1..).zip(forged) {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        let mut begin = world.begin(quote, world.lane(WEI_PER_OPEN, number));
        forge(&world, &mut begin);
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        talk.refusal(code, words).await;
    }
    assert_eq!(world.books.counts().unwrap().0, 0, "nothing is kept of them");
    world.honest(&world.lane(WEI_PER_OPEN, 21)).await;
    // Quotes are made on one stream only so often.
    let mut talk = world.talk().await;
    for _ in 0..4 {
        talk.quote(&world.manifest).await;
    }
    let ask = FromClient::QuoteAsk { manifest: world.manifest.root(), profile: Profile::Exact, class: Class::Open, tokens_max: 1 };
    talk.send(&ask).await;
    talk.refusal(RefusalCode::Invalid, "quotes were made on this stream").await;
}
