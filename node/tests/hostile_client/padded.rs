//! Answers in cells: every frame has one size, whatever the words, also when the answer is taken up, left, or refused.

use inference::proto::{
    message::{FromClient, FromNode, NODE_FRAME_MAX, RefusalCode, encode},
    padding::{CELL_BYTES, REPLY_CELLS_MIN, ROUND_CELLS, Unpacker},
    payment::Terms,
};
use node::{
    ask::{Candidate, Event as Asked, Question},
    evidence,
};
use tokio::time::timeout;
use types::{amount::WEI_PER_OPEN, encoding::Document as _, key::Signed};

use super::world::{Cable, TOKENS, Talk, WAIT, World};

/// A stream whose node sends cells.
struct Cells {
    talk: Talk,
    unpacker: Unpacker,
    /// Cells that came.
    count: u32,
}

impl Cells {
    /// From here on.
    async fn on(mut talk: Talk) -> Self {
        talk.send(&FromClient::Padded).await;
        Self { talk, unpacker: Unpacker::default(), count: 0 }
    }

    /// The next message, out of frames of one size.
    async fn recv(&mut self) -> FromNode {
        loop {
            if let Some(message) = self.unpacker.next(NODE_FRAME_MAX).unwrap() {
                return FromNode::decode(&message).unwrap();
            }
            let frame = timeout(WAIT, self.talk.0.recv(NODE_FRAME_MAX)).await.unwrap().unwrap().expect("the stream ended");
            assert_eq!(frame.len(), CELL_BYTES, "cell {}", self.count + 1);
            self.unpacker.push(&frame).unwrap();
            self.count += 1;
        }
    }

    /// What follows up to the end of the stream is cells without a word; how many came in all.
    async fn rest(mut self) -> u32 {
        while let Some(frame) = timeout(WAIT, self.talk.0.recv(NODE_FRAME_MAX)).await.unwrap().unwrap() {
            assert_eq!(frame, vec![0; CELL_BYTES]);
            self.count += 1;
        }
        self.count
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_frame_of_an_answer_that_is_taken_up_half_way_has_one_size_and_their_number_is_round() {
    let world = World::start().await;
    let (whole, _) = world.honest(&world.lane(WEI_PER_OPEN, 9)).await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let begin = world.begin(quote, lane.clone());
    let mut cells = Cells::on(talk).await;
    cells.talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
    let FromNode::Begun { tokens_in, base } = cells.recv().await else { panic!("no beginning") };
    let (request, quote) = (begin.request.document.id(), &begin.quote.document);
    let terms = Terms { request, quote: quote.hash(), lane: lane.document.id(), base, tokens_in, ..whole.terms.clone() };
    let mut tokens = Vec::new();
    // As far as the third token, of which the first is promised; then by another stream.
    while tokens.len() < 3 {
        let FromNode::Token { id, .. } = cells.recv().await else { panic!("no token") };
        tokens.push(id);
        if tokens.len() == 1 {
            cells.talk.send(&world.sign(terms.voucher(&tokens).unwrap())).await;
        }
    }
    let mut cells = Cells::on(world.talk().await).await;
    cells.talk.send(&world.resume(&world.client, request, tokens.len())).await;
    assert_eq!(cells.recv().await, FromNode::Resumed { vouched: 1 });
    loop {
        match cells.recv().await {
            FromNode::Token { index, id, .. } => {
                assert_eq!(usize::try_from(index).unwrap(), tokens.len());
                tokens.push(id);
            }
            FromNode::Finished { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(tokens, whole.tokens);
    let said = cells.count;
    assert_eq!(said % ROUND_CELLS, 0, "the end is said at the end of a round");
    let last = terms.voucher(&tokens).unwrap();
    cells.talk.send(&world.sign(last)).await;
    let FromNode::Receipt(delivered) = cells.recv().await else { panic!("no receipt") };
    let voucher = Signed::new(&world.client, &world.domains, last);
    let kept = evidence::assemble(&world.domains, &begin, &voucher, *delivered, &tokens).unwrap();
    attribution::bundle::verify(&kept).unwrap();
    let reply = cells.rest().await - said;
    assert!(reply.is_power_of_two() && reply >= REPLY_CELLS_MIN, "{reply} cells for the receipt");
    assert_eq!(world.charged(&lane), (2, last.cumulative));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_and_a_word_on_an_attempt_come_in_cells_too_and_a_stream_is_padded_once() {
    let world = World::start().await;
    let (answer, _) = world.honest(&world.lane(WEI_PER_OPEN, 1)).await;
    let mut cells = Cells::on(world.talk().await).await;
    cells.talk.send(&world.resume(&world.client, answer.terms.request, 0)).await;
    let FromNode::Refused(refusal) = cells.recv().await else { panic!("no refusal") };
    assert_eq!(refusal.code, RefusalCode::Ended);
    assert_eq!(cells.rest().await, REPLY_CELLS_MIN);
    let mut cells = Cells::on(world.talk().await).await;
    cells.talk.send(&FromClient::Padded).await;
    let FromNode::Refused(refusal) = cells.recv().await else { panic!("no refusal") };
    assert_eq!(refusal.code, RefusalCode::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_padded_answer_that_its_client_leaves_is_billed_as_far_as_it_was_promised() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut talk = world.talk().await;
    let quote = talk.quote(&world.manifest).await;
    let begin = world.begin(quote, lane.clone());
    let mut cells = Cells::on(talk).await;
    cells.talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
    let FromNode::Begun { tokens_in, base } = cells.recv().await else { panic!("no beginning") };
    let FromNode::Token { id, .. } = cells.recv().await else { panic!("no token") };
    let quote = &begin.quote.document;
    let terms = Terms {
        lane: lane.document.id(),
        request: begin.request.document.id(),
        attempt: 0,
        quote: quote.hash(),
        continued: vec![],
        tokens_in,
        base,
        rate_in: quote.rate_in,
        rate_out: quote.rate_out,
        protocol_fee: quote.protocol_fee,
    };
    let voucher = terms.voucher(&[id]).unwrap();
    cells.talk.0.send(&encode(&world.sign(voucher))).await.unwrap();
    let FromNode::Token { index: 1, .. } = cells.recv().await else { panic!("no second token") };
    cells.talk.0.reset(p2p::stream::code::CANCELLED);
    world.receipts(1).await;
    assert_eq!(world.charged(&lane), (1, voucher.cumulative));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_crates_own_client_gets_the_same_answer_padded_also_over_a_line_that_is_cut() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let asker = world.asker(folder.path());
    let plain = asker.ask(&world.question(&asker), std::slice::from_ref(&world.front), &mut |_| {}).await.unwrap();
    let cable = Cable::to(world.front.addr).await;
    let candidates = [Candidate { addr: cable.addr, ..world.front.clone() }];
    let question = Question { is_padded: true, ..world.question(&asker) };
    let mut is_cut = false;
    let mut hear = |event: Asked<'_>| match event {
        Asked::Token(_, 4, _) if !is_cut => {
            is_cut = true;
            cable.cut(true, true);
        }
        Asked::TakingUp(..) => cable.cut(false, false),
        _ => {}
    };
    let padded = asker.ask(&question, &candidates, &mut hear).await.unwrap();
    assert_eq!((&padded.text, &padded.tokens), (&plain.text, &plain.tokens));
    assert!(padded.resumed >= 1, "a slow machine may break a line that nobody cut");
    let of = |answered: &node::ask::Answered| (answered.bundle.receipt.document.tokens_out, answered.bundle.receipt.document.fee);
    assert_eq!((of(&padded), of(&padded).0), (of(&plain), TOKENS));
}
