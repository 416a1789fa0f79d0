//! Clients whose connection breaks in the middle of an answer and who take it up again, and those who ask for what is not theirs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use attribution::bundle::{self, Bundle};
use chain_bridge::follow::Snapshot;
use inference::proto::{
    draft::Draft,
    message::{FromClient, FromNode, RefusalCode},
    recall::Recall,
    resume::{Bounds, RETURNS_MAX, Resume},
};
use node::ask::{Answered, Asker, Candidate, Event as Asked, Question};
use p2p::stream::{StreamError, code};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Hash32,
    key::Signed,
    options::Options,
    receipt::Reason,
    time::BlockRef,
};

use super::world::{Answer, Cable, TOKENS, WAIT, World, account};

/// Tokens of an answer that no node sends to its end before a second voucher has come.
const LONG: u32 = 100;

impl World {
    /// An answer over that cable of which the first token is paid and so many more have come.
    async fn paid_first(&self, cable: &Cable, lane: u64, more: usize) -> Answer {
        let talk = self.talk_by(cable).await;
        let mut answer = self.first_token_over(talk, self.lane(WEI_PER_OPEN, lane), None).await;
        answer.talk.send(&self.sign(answer.due())).await;
        for _ in 0..more {
            answer.token().await;
        }
        answer
    }

    /// What this crate's own client gets of a node behind `cable`, and of how many tokens it is told how likely they were; `on_event` may pull the cable.
    pub(super) async fn ask_by(
        &self,
        asker: &Asker,
        cable: &Cable,
        options: Options,
        mut on_event: impl FnMut(&Asked<'_>) + Send,
    ) -> (Answered, usize) {
        let question = Question { options, tokens_max: LONG, ..self.question(asker) };
        let candidates = [Candidate { addr: cable.addr, ..self.front.clone() }];
        let mut told = 0;
        let mut hear = |event: Asked<'_>| {
            if let Asked::Token(_, _, all) = &event {
                told += all.len();
            }
            on_event(&event);
        };
        let answered = asker.ask(&question, &candidates, &mut hear).await.unwrap();
        (answered, told)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_connection_breaks_takes_the_answer_up_where_it_stood_and_pays_for_it_once() {
    let world = World::start().await;
    let whole = world.honest(&world.lane(WEI_PER_OPEN, 9)).await.0.tokens;
    let cable = Cable::to(world.bare.addr).await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.paid_first(&cable, 1, 4).await;
    cable.cut(true, true);
    world.kept(1).await;
    assert_eq!(world.charged(&lane), (1, Amount::ZERO), "nothing of it is billed yet");
    let talk = world.talk().await;
    assert_eq!(world.take_up(&mut answer, talk).await, 1);
    // The first one it gets is the sixth, and none comes twice.
    answer.token().await;
    assert_eq!((answer.tokens.len(), world.answering.seats.kept()), (6, 0));
    let last = world.end(&mut answer).await;
    assert_eq!(answer.tokens, whole, "its tokens are those of an answer that was never broken");
    world.receipts(2).await;
    assert_eq!(world.charged(&lane), (2, last.cumulative));
    assert_eq!(last.cumulative, answer.terms.due(u32::try_from(whole.len()).unwrap()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_stream_has_the_answer_and_the_one_before_is_reset() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.first_token(lane.clone()).await;
    answer.talk.send(&world.sign(answer.due())).await;
    answer.token().await;
    for _ in 0..3 {
        let mut before = std::mem::replace(&mut answer.talk, world.talk().await);
        let talk = world.talk().await;
        assert_eq!(world.take_up(&mut answer, talk).await, 1);
        let ended = loop {
            match tokio::time::timeout(WAIT, before.0.recv(1 << 20)).await.unwrap() {
                // Sent before the other stream was there.
                Ok(Some(_)) => {}
                ended => break ended,
            }
        };
        assert_eq!(ended, Err(StreamError::Reset { code: code::CANCELLED }));
    }
    let last = world.end(&mut answer).await;
    world.receipts(1).await;
    assert_eq!(world.charged(&lane), (1, last.cumulative));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_streams_that_take_an_answer_up_at_once_leave_one_answer_paid_once() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.first_token(lane.clone()).await;
    answer.talk.send(&world.sign(answer.due())).await;
    answer.token().await;
    let request = answer.terms.request;
    let mut talks = [world.talk().await, world.talk().await];
    for talk in &mut talks {
        talk.send(&world.resume(&world.client, request, 2)).await;
    }
    let mut ended = 0;
    for mut talk in talks {
        answer.tokens.truncate(2);
        // The one that has it brings it to its end; the other is told, or reset, at whatever token that happens.
        while let Ok(Ok(Some(frame))) = tokio::time::timeout(WAIT, talk.0.recv(8 << 20)).await {
            match FromNode::decode(&frame).unwrap() {
                FromNode::Resumed { vouched } => assert_eq!(vouched, 1),
                FromNode::Token { index, id, .. } => {
                    assert_eq!(usize::try_from(index).unwrap(), answer.tokens.len());
                    answer.tokens.push(id);
                }
                FromNode::Finished { .. } => {
                    // The stream may have been left for the other one, and then reads no more.
                    let voucher = inference::proto::message::encode(&world.sign(answer.due()));
                    drop(talk.0.send(&voucher).await);
                }
                FromNode::Receipt(delivered) => {
                    ended += 1;
                    assert_eq!(delivered.receipt.tokens_out, TOKENS);
                }
                FromNode::Refused(refusal) => assert!(matches!(refusal.code, RefusalCode::Busy | RefusalCode::Ended | RefusalCode::Index)),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(ended, 1);
    assert_eq!(world.charged(&lane), (1, answer.terms.due(TOKENS).unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_or_not_the_clients_is_refused_by_name_and_disturbs_no_answer() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.first_token(lane.clone()).await;
    answer.talk.send(&world.sign(answer.due())).await;
    answer.token().await;
    let request = answer.terms.request;
    let (client, stranger) = (&world.client, &account(3));
    let elsewhere = Resume { node: account(9).address(), request, attempt: 0, index: 2 };
    let later = Resume { node: world.node, request, attempt: 1, index: 2 };
    let signed = |resume| FromClient::Resume(Box::new(Signed::new(client, &world.domains, resume)));
    for (asked, code, words) in [
        (world.resume(client, request, 1_000), RefusalCode::Index, "token 1000 is asked for where"),
        (world.resume(client, request, 0), RefusalCode::Index, "are received and paid for"),
        (world.resume(stranger, request, 2), RefusalCode::Unknown, "was begun here by who asks"),
        (world.resume(client, Hash32([7; 32]), 2), RefusalCode::Unknown, "was begun here by who asks"),
        (signed(later), RefusalCode::Unknown, "no attempt 1"),
        (signed(elsewhere), RefusalCode::Invalid, "is asked, this is"),
    ] {
        let mut talk = world.talk().await;
        talk.send(&asked).await;
        talk.refusal(code, words).await;
    }
    let last = world.end(&mut answer).await;
    world.receipts(1).await;
    assert_eq!(world.charged(&lane), (1, last.cumulative));
    let mut talk = world.talk().await;
    talk.send(&world.resume(client, request, answer.tokens.len())).await;
    talk.refusal(RefusalCode::Ended, "ask what became of it").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_time_ran_out_is_billed_as_far_as_it_was_promised_and_says_so() {
    let world = World::start_with(Bounds { wait: Duration::ZERO, ..Bounds::default() }).await;
    let cable = Cable::to(world.bare.addr).await;
    let answer = world.paid_first(&cable, 1, 2).await;
    let (request, due) = (answer.terms.request, answer.terms.due(1).unwrap());
    cable.cut(true, true);
    world.receipts(1).await;
    let deadline = Instant::now() + WAIT;
    let refusal = loop {
        let mut talk = world.talk().await;
        talk.send(&world.resume(&world.client, request, 3)).await;
        let FromNode::Refused(refusal) = talk.recv().await else { panic!("it is taken up") };
        // Its task may still be on its way out.
        if refusal.code != RefusalCode::Ended || Instant::now() > deadline {
            break refusal;
        }
    };
    assert_eq!(refusal.code, RefusalCode::Expired);
    assert!(refusal.message.contains("the time ran out: ask what became of it"), "{refusal}");
    let mut talk = world.talk().await;
    let asked = Recall { node: world.node, request, attempt: 0 };
    talk.send(&FromClient::Recall(Box::new(Signed::new(&world.client, &world.domains, asked)))).await;
    let FromNode::Kept { bundle } = talk.recv().await else { panic!("no bundle") };
    let kept = Bundle::from_json(bundle.as_bytes()).unwrap();
    bundle::verify(&kept).unwrap();
    assert_eq!((kept.receipt.document.fee, kept.receipt.document.reason), (due, Reason::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_gets_no_more_answers_kept_than_its_bound_and_what_it_has_not_paid_for_is_not_kept() {
    let world = World::start_with(Bounds { of_payer: 1, ..Bounds::default() }).await;
    let cable = Cable::to(world.bare.addr).await;
    let unpaid = world.first_token_over(world.talk_by(&cable).await, world.lane(WEI_PER_OPEN, 1), None).await;
    let answers = [world.paid_first(&cable, 2, 1).await, world.paid_first(&cable, 3, 1).await];
    cable.cut(true, true);
    world.kept(1).await;
    // Of the two that were paid for, one is billed now; the third has ended without a word.
    world.receipts(1).await;
    let deadline = Instant::now() + WAIT;
    while world.books.hold_request(unpaid.terms.request).is_none() {
        assert!(Instant::now() < deadline, "what nobody paid for is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut codes = Vec::new();
    for answer in [&unpaid, &answers[0], &answers[1]] {
        let mut talk = world.talk().await;
        talk.send(&world.resume(&world.client, answer.terms.request, answer.tokens.len())).await;
        codes.push(match talk.recv().await {
            FromNode::Resumed { .. } => None,
            FromNode::Refused(refusal) => Some(refusal.code),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(codes[0], Some(RefusalCode::Ended));
    assert!(codes[1..] == [None, Some(RefusalCode::Ended)] || codes[1..] == [Some(RefusalCode::Ended), None], "{codes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_the_receipt_gets_it_at_once_and_the_answer_is_kept_no_longer() {
    let world = World::start().await;
    let cable = Cable::to(world.bare.addr).await;
    let answer = world.paid_first(&cable, 1, 1).await;
    let (request, due) = (answer.terms.request, answer.terms.due(1).unwrap());
    cable.cut(true, true);
    world.kept(1).await;
    let mut talk = world.talk().await;
    let asked = Recall { node: world.node, request, attempt: 0 };
    talk.send(&FromClient::Recall(Box::new(Signed::new(&world.client, &world.domains, asked)))).await;
    let FromNode::Kept { bundle } = talk.recv().await else { panic!("no bundle") };
    assert_eq!(Bundle::from_json(bundle.as_bytes()).unwrap().receipt.document.fee, due);
    assert_eq!(world.answering.seats.kept(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_begins_anew_ends_what_is_kept_for_it_on_that_lane() {
    let world = World::start().await;
    let (cable, lane) = (Cable::to(world.bare.addr).await, world.lane(WEI_PER_OPEN, 1));
    let before = world.paid_first(&cable, 1, 1).await;
    let due = before.terms.due(1).unwrap();
    cable.cut(true, true);
    world.kept(1).await;
    let deadline = Instant::now() + WAIT;
    let base = loop {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        talk.send(&FromClient::Begin(Box::new(world.begin(quote, lane.clone())))).await;
        match talk.recv().await {
            FromNode::Begun { base, .. } => break base,
            // Its receipt may take a slow machine longer than it is waited for.
            FromNode::Refused(refusal) if refusal.code == RefusalCode::Busy && Instant::now() < deadline => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((base, world.charged(&lane), world.answering.seats.kept()), (due, (1, due), 0));
    let mut talk = world.talk().await;
    talk.send(&world.resume(&world.client, before.terms.request, before.tokens.len())).await;
    talk.refusal(RefusalCode::Ended, "ask what became of it").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_goes_from_stream_to_stream_a_few_times_for_each_voucher_and_not_at_all_before_the_first() {
    let world = World::start().await;
    let mut answer = world.first_token(world.lane(WEI_PER_OPEN, 1)).await;
    let request = answer.terms.request;
    let mut talk = world.talk().await;
    talk.send(&world.resume(&world.client, request, 1)).await;
    talk.refusal(RefusalCode::Busy, "nothing of this answer is paid").await;
    answer.talk.send(&world.sign(answer.due())).await;
    answer.token().await;
    for _ in 0..RETURNS_MAX {
        let talk = world.talk().await;
        assert_eq!(world.take_up(&mut answer, talk).await, 1);
    }
    let mut talk = world.talk().await;
    talk.send(&world.resume(&world.client, request, 2)).await;
    talk.refusal(RefusalCode::Busy, "before the next one").await;
    // Whoever has it brings it to its end.
    world.end(&mut answer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_an_answer_up_again_and_again_and_never_pays_is_left_after_one_wait() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.first_token(lane.clone()).await;
    answer.talk.send(&world.sign(answer.due())).await;
    let due = answer.terms.due(1).unwrap();
    answer.rest_of_it().await;
    // Each time, more than a third of the wait has passed; a slow machine makes it fewer times.
    let mut returned = 0;
    let refusal = loop {
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        let mut talk = world.talk().await;
        talk.send(&world.resume(&world.client, answer.terms.request, answer.tokens.len())).await;
        match talk.recv().await {
            FromNode::Resumed { .. } => answer.talk = talk,
            FromNode::Refused(refusal) => break refusal,
            other => panic!("{other:?}"),
        }
        returned += 1;
        assert!(returned <= 3, "it is served on and on");
    };
    assert!(matches!(refusal.code, RefusalCode::Ended), "{refusal}");
    world.receipts(1).await;
    assert_eq!(world.charged(&lane), (1, due), "what was promised is billed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_lane_can_hardly_be_collected_any_more_ends_where_it_would_be_taken_up() {
    let world = World::start().await;
    let lane = world.lane(WEI_PER_OPEN, 1);
    let mut answer = world.first_token(lane.clone()).await;
    answer.talk.send(&world.sign(answer.due())).await;
    answer.token().await;
    let tip = BlockRef { number: lane.document.expiry - 10, hash: Hash32([8; 32]) };
    world.chain.send(Arc::new(Snapshot { tip, ..Snapshot::default() })).unwrap();
    let mut talk = world.talk().await;
    talk.send(&world.resume(&world.client, answer.terms.request, 2)).await;
    talk.refusal(RefusalCode::Ended, "the lane expires at block").await;
    assert_eq!(world.charged(&lane), (1, answer.terms.due(1).unwrap()), "what was promised is billed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_crates_own_client_takes_up_by_itself_what_a_cut_line_interrupts_with_all_that_is_told_of_each_token() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let (asker, cable) = (world.asker(folder.path()), Cable::to(world.front.addr).await);
    let options = Options { logprobs: 3, ..Options::default() };
    let (whole, all_told) = world.ask_by(&asker, &cable, options.clone(), |_| {}).await;
    assert_eq!(all_told, 4 * whole.tokens.len());
    for at in [2, 66] {
        let mut broke_at = None;
        let (answered, told) = world
            .ask_by(&asker, &cable, options.clone(), |event| match event {
                Asked::Token(_, count, _) if *count == at && broke_at.is_none() => cable.cut(true, true),
                Asked::TakingUp(_, tokens, _) => {
                    broke_at = Some(*tokens);
                    cable.cut(false, false);
                }
                _ => {}
            })
            .await;
        assert!(broke_at.is_some_and(|tokens| tokens >= at), "{broke_at:?}");
        assert!(answered.resumed >= 1, "a slow machine may break a line that nobody cut");
        assert_eq!((&answered.tokens, &answered.text, told), (&whole.tokens, &whole.text, all_told));
        assert_eq!(answered.bundle.receipt.document.fee, whole.bundle.receipt.document.fee, "nothing is paid twice");
        assert_eq!(answered.bundle.receipt.document.tokens_out, LONG);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_is_lost_on_its_way_is_asked_for_and_the_answer_stands() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let cable = Arc::new(Cable::to(world.front.addr).await);
    let asker = world.asker(folder.path());
    let question = world.question(&asker);
    let candidates = [Candidate { addr: cable.addr, ..world.front.clone() }];
    let mut promised = Vec::new();
    let line = Arc::clone(&cable);
    let mut keep = |draft: &Draft| {
        let sum = draft.cost().unwrap();
        if sum > Amount::ZERO && promised.last() != Some(&sum) {
            promised.push(sum);
            if promised.len() == 2 {
                // The voucher for the rest goes out, and nothing comes back for it.
                line.cut(false, true);
            }
        }
        Ok(())
    };
    let mut hear = |event: Asked<'_>| {
        if let Asked::TakingUp(..) = event {
            cable.cut(false, false);
        }
    };
    let draft = asker.sign(&question).unwrap();
    let answered = asker.go_on(&question, draft, &[], &candidates, &mut keep, &mut hear).await.unwrap();
    assert_eq!(answered.bundle.voucher.document.cumulative, *promised.last().unwrap());
    bundle::verify(&answered.bundle).unwrap();
    assert_eq!(world.books.counts().unwrap().0, 1);
    assert!(answered.kept.exists());
    // The lane goes on behind it.
    let second = asker.ask(&world.question(&asker), &candidates, &mut |_| {}).await.unwrap();
    assert_eq!(second.bundle.lane, answered.bundle.lane);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_kept_no_longer_goes_on_in_another_attempt_behind_the_tokens_received() {
    let world = World::start_with(Bounds { wait: Duration::ZERO, ..Bounds::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let (asker, cable) = (world.asker(folder.path()), Arc::new(Cable::to(world.front.addr).await));
    let (whole, _) = world.ask_by(&asker, &cable, Options::default(), |_| {}).await;
    let (books, line) = (Arc::clone(&world.books), Arc::clone(&cable));
    let mut is_cut = false;
    let (answered, _) = world
        .ask_by(&asker, &cable, Options::default(), |event| match event {
            Asked::Token(_, 3, _) if !is_cut => {
                is_cut = true;
                line.cut(true, true);
            }
            Asked::TakingUp(..) => {
                let (books, line) = (Arc::clone(&books), Arc::clone(&line));
                tokio::spawn(async move {
                    while books.counts().unwrap().0 < 2 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    line.cut(false, false);
                });
            }
            _ => {}
        })
        .await;
    assert!(answered.attempts.len() >= 2);
    assert!(answered.abandoned[0].reason.contains("does not take the answer up"), "{:?}", answered.abandoned);
    assert_eq!(answered.text, whole.text);
}
