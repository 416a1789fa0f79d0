//! Clients that leave, fall silent, lie in their vouchers or send a request twice, and answers that have no token: nothing was promised, so nothing is
//! charged. And, for comparison, one answer at each node that is paid.

use std::time::{Duration, Instant};

use futures::future::join_all;
use harness::{
    files,
    wire::{self, Heard, Payer, Talk},
};
use inference::{
    Sampling,
    engine::{EngineConfig, EngineHandle},
    proto::message::{Begin, FromClient, FromNode, RefusalCode},
    sampler, tiny,
};
use types::{
    amount::Amount,
    id::Hash32,
    receipt::{Reason, Receipt},
    request::SamplingRule,
    voucher::Voucher,
};

use super::scene::{Class, Door, Scene, WORDS, is_refused, mixed, says, tried};

const IMPATIENT: Class = Class::new("the client gives up before the first token", 600);
const LEAVING: Class = Class::new("the client leaves at any step before a voucher", 600);
const SILENT: Class = Class::new("the client says nothing for ten seconds", 160);
const FALSE_VOUCHER: Class = Class::new("a false first voucher", 400);
const NO_VOUCHER: Class = Class::new("something else where a voucher is due", 250);
const EMPTY: Class = Class::new("an empty answer: the model ends at once", 300);
const AGAIN: Class = Class::new("a request sent again to the same node", 400);
const ELSEWHERE: Class = Class::new("a request sent to another node as well", 200);
const AT_ONCE: Class = Class::new("a request sent four times at once", 120);
const REPLAYED: Class = Class::new("a stranger replays somebody's request", 200);
/// Not a failure.
pub(super) const PAID: Class = Class::new("paid on purpose, failing before and after", 3);

/// What is injected here.
pub(super) const CLASSES: [&Class; 11] =
    [&IMPATIENT, &LEAVING, &SILENT, &FALSE_VOUCHER, &NO_VOUCHER, &EMPTY, &AGAIN, &ELSEWHERE, &AT_ONCE, &REPLAYED, &PAID];

/// Silent clients at one node at once: below what one connection may have open.
const SILENT_TOGETHER: usize = 24;
/// Requests signed for one that the model ends at once: one in 300 does.
const SIGNED_MAX: usize = 10_000;
/// How long a node may need to notice that a client has left.
const NOTICED: Duration = Duration::from_secs(60);

/// Every class of this file but the silent clients, which take their time beside the others.
pub(super) async fn everything(scene: &Scene<'_>) {
    scene.run(&IMPATIENT, async |door, payer, number| impatient(scene, door, payer, number).await).await;
    scene.run(&LEAVING, async |door, payer, number| leaving(scene, door, payer, number).await).await;
    scene.run(&FALSE_VOUCHER, async |door, payer, number| false_voucher(scene, door, payer, number).await).await;
    scene.run(&NO_VOUCHER, async |door, payer, number| no_voucher(scene, door, payer, number).await).await;
    let ends = ends();
    scene.run(&EMPTY, async |door, payer, _| empty(scene, door, payer, &ends).await).await;
    scene.run(&AGAIN, async |door, payer, _| again(scene, door, payer).await).await;
    scene.run(&ELSEWHERE, async |door, payer, number| elsewhere(scene, door, payer, number).await).await;
    scene.run(&AT_ONCE, async |door, payer, _| at_once(scene, door, payer).await).await;
    scene.run(&REPLAYED, async |door, payer, number| replayed(scene, door, payer, number).await).await;
}

/// Resets the stream some time after the request was sent, whatever has come by then.
async fn impatient(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    talk.send(&FromClient::Begin(Box::new(scene.begin(door, payer, &quote)))).await;
    tokio::time::sleep(Duration::from_micros(mixed(&IMPATIENT, number, "patience") % 4_000)).await;
    talk.reset();
    Ok(())
}

/// Leaves after a step and in a way that follow from the number.
async fn leaving(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    // A connection that is closed takes all of its streams with it.
    let own = door.another();
    let is_closing = number % 7 == 6;
    let door = if is_closing { &own } else { door };
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let begin = scene.begin(door, payer, &quote);
    match mixed(&LEAVING, number, "step") % 3 {
        0 => {}
        1 => drop(talk.begun(&begin).await?),
        _ => drop(first_token(&mut talk, &begin).await?),
    }
    match number % 7 {
        0 | 1 => {
            talk.finish().await;
            talk.end().await
        }
        6 => {
            door.connection().await?.close(p2p::stream::code::DROPPED);
            Ok(())
        }
        _ => {
            talk.reset();
            Ok(())
        }
    }
}

async fn first_token(talk: &mut Talk, begin: &Begin) -> Result<wire::Answer, String> {
    let mut answer = talk.begun(begin).await?;
    answer.token(talk).await?;
    Ok(answer)
}

/// Clients that take the first token and then neither pay nor leave: the node ends the answer by itself.
pub(super) async fn silent(scene: &Scene<'_>) {
    let (count, started) = (scene.count(&SILENT), Instant::now());
    let payer = scene.payer(&SILENT);
    let doors: Vec<Door> = scene.doors.iter().map(Door::another).collect();
    let numbers: Vec<usize> = (0..count).collect();
    let mut again = 0;
    for together in numbers.chunks(SILENT_TOGETHER * doors.len()) {
        let quiet = together.iter().map(|number| {
            let door = &doors[number % doors.len()];
            async move { tried(&SILENT, *number, async || waits(scene, door, payer).await).await }
        });
        again += join_all(quiet).await.into_iter().sum::<usize>();
    }
    scene.note(&SILENT, count, started, again);
}

async fn waits(scene: &Scene<'_>, door: &Door, payer: &Payer) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    first_token(&mut talk, &scene.begin(door, payer, &quote)).await?;
    match talk.hear().await {
        Heard::Ended => Ok(()),
        other => Err(format!("the node did not end the answer: {other:?}")),
    }
}

type Forge = fn(&mut Voucher);

/// Every field of a voucher, each false in its own way, and the word under which it is refused.
const FORGED: [(&str, Forge); 12] = [
    ("lane", |voucher| voucher.lane = Hash32([8; 32])),
    ("request", |voucher| voucher.request = Hash32([8; 32])),
    ("attempt", |voucher| voucher.attempt += 1),
    ("quote", |voucher| voucher.quote = Hash32([8; 32])),
    ("first token", |voucher| voucher.first_token += 1),
    ("input tokens", |voucher| voucher.tokens_in -= 1),
    ("covers 9 tokens", |voucher| voucher.tokens_out = 9),
    ("covers 0 tokens", |voucher| voucher.tokens_out = 0),
    ("token-id hash", |voucher| voucher.token_ids = Hash32([8; 32])),
    ("base", |voucher| voucher.base.0 += 1),
    ("cumulative", |voucher| voucher.cumulative.0 += 1),
    ("above the lane's cap", |voucher| voucher.cumulative = Amount(u128::MAX)),
];

async fn false_voucher(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let answer = first_token(&mut talk, &scene.begin(door, payer, &quote)).await?;
    let mut voucher = answer.due();
    match FORGED.get(number % (FORGED.len() + 1)) {
        Some((words, forge)) => {
            forge(&mut voucher);
            answer.pay(&mut talk, payer, voucher).await;
            says(&talk.refusal().await?, RefusalCode::Voucher, words)
        }
        // What is due, by a hand that does not pay.
        None => {
            answer.pay(&mut talk, scene.payer(&REPLAYED), voucher).await;
            says(&talk.refusal().await?, RefusalCode::Voucher, "sign")
        }
    }
}

async fn no_voucher(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let begin = scene.begin(door, payer, &quote);
    first_token(&mut talk, &begin).await?;
    match number % 4 {
        0 => talk.send_bytes(vec![0xff; 40]).await,
        1 => talk.send_bytes(vec![]).await,
        2 => talk.send(&FromClient::Begin(Box::new(begin))).await,
        _ => talk.send(&FromClient::Status).await,
    };
    says(&talk.refusal().await?, RefusalCode::Invalid, "")
}

/// Tokens that end an answer.
fn ends() -> Vec<u32> {
    EngineHandle::start(EngineConfig::new(files::tiny_model())).expect("the committed model").eos().to_vec()
}

/// So hot that chance alone decides, and chance follows from the request's signature: the client signs until the first token is the end of text.
const HOT: SamplingRule = SamplingRule { temperature_milli: 10_000_000, top_k: 0, top_p_ppm: 0 };

async fn empty(scene: &Scene<'_>, door: &Door, payer: &Payer, ends: &[u32]) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let ends_at_once = |begin: &Begin| {
        let sampling = Sampling { temperature_milli: HOT.temperature_milli, top_k: 0, top_p_ppm: 0 };
        let first =
            sampler::choose(&[0.0; tiny::VOCABULARY], &sampling.into(), &sampler::Counts::default(), None, &begin.request.seed().0, 0);
        first.is_some_and(|first| ends.contains(&first.token))
    };
    let signed = (0..SIGNED_MAX).find_map(|_| {
        let mut begin = scene.begin(door, payer, &quote);
        begin.request.document.sampling = HOT;
        begin.request = payer.sign(begin.request.document);
        Some(begin).filter(ends_at_once)
    });
    let begin = signed.ok_or("chance never ends an answer")?;
    let mut answer = talk.begun(&begin).await?;
    let reason = answer.rest(&mut talk).await?;
    if !answer.tokens.is_empty() {
        return Err(format!("{} tokens came, then {reason:?}", answer.tokens.len()));
    }
    // That it costs nothing is signed by the node.
    match talk.hear().await {
        Heard::Said(FromNode::Receipt(delivered)) if wire::bills_nothing(&delivered) && delivered.receipt.reason == Reason::Empty => Ok(()),
        other => Err(format!("an answer without a token went on with {other:?}")),
    }
}

/// The same request and attempt, once more: refused as soon as the node has noticed that the first try is over, and never answered.
pub(super) async fn is_duplicate(door: &Door, begin: &Begin) -> Result<(), String> {
    let deadline = Instant::now() + NOTICED;
    loop {
        let mut talk = door.talk().await?;
        talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
        match talk.hear().await {
            Heard::Said(FromNode::Refused(refusal)) if refusal.code == RefusalCode::Duplicate => return Ok(()),
            // The lane is held while the first try ends.
            Heard::Said(FromNode::Refused(refusal)) if refusal.code == RefusalCode::Busy && Instant::now() < deadline => {}
            // The note is looked up while the prompt is read: a beginning may be announced, a token never comes.
            Heard::Said(FromNode::Begun { .. }) => return says(&refused_at_once(&mut talk).await?, RefusalCode::Duplicate, "begun before"),
            other => return Err(format!("a request was taken twice: {other:?}")),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn refused_at_once(talk: &mut Talk) -> Result<inference::proto::message::Refusal, String> {
    match talk.hear().await {
        Heard::Said(FromNode::Refused(refusal)) => Ok(refusal),
        other => Err(format!("no refusal but {other:?}")),
    }
}

async fn again(scene: &Scene<'_>, door: &Door, payer: &Payer) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let begin = scene.begin(door, payer, &quote);
    first_token(&mut talk, &begin).await?;
    talk.reset();
    is_duplicate(door, &begin).await
}

/// A request names no node, so another one may answer it; whoever leaves both owes neither, and the first one takes it no second time.
async fn elsewhere(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let begin = scene.begin(door, payer, &quote);
    first_token(&mut talk, &begin).await?;
    let other = &scene.doors[(number + 1) % 2];
    let (mut second, quote) = other.quoted(&scene.manifest).await?;
    let moved = Begin { quote, lane: payer.sign(payer.lane(other.account)), ..begin.clone() };
    first_token(&mut second, &moved).await?;
    talk.reset();
    second.reset();
    is_duplicate(door, &begin).await?;
    is_duplicate(other, &moved).await
}

/// One of four equal beginnings is answered, the others are refused.
async fn at_once(scene: &Scene<'_>, door: &Door, payer: &Payer) -> Result<(), String> {
    let (talk, quote) = door.quoted(&scene.manifest).await?;
    let begin = scene.begin(door, payer, &quote);
    let mut talks = vec![talk];
    for _ in 1..4 {
        talks.push(door.talk().await?);
    }
    for talk in &mut talks {
        talk.send(&FromClient::Begin(Box::new(begin.clone()))).await;
    }
    let mut tokens = 0;
    for talk in &mut talks {
        tokens += usize::from(answered(talk).await?);
    }
    talks.iter_mut().for_each(Talk::reset);
    if tokens == 1 { Ok(()) } else { Err(format!("{tokens} of four equal requests were answered")) }
}

/// Whether a token comes; else the refusal of a request that is being answered already.
async fn answered(talk: &mut Talk) -> Result<bool, String> {
    loop {
        match talk.hear().await {
            Heard::Said(FromNode::Begun { .. }) => {}
            Heard::Said(FromNode::Token { .. }) => return Ok(true),
            Heard::Said(FromNode::Refused(refusal)) if matches!(refusal.code, RefusalCode::Duplicate | RefusalCode::Busy) => {
                return Ok(false);
            }
            other => return Err(format!("neither a token nor a refusal but {other:?}")),
        }
    }
}

/// Somebody who saw a request pass: with a lane of its own it is refused, with the payer's own it gets a token that it cannot pay for.
async fn replayed(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let stranger = scene.payer(&AGAIN);
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let seen = scene.begin(door, payer, &quote);
    if number.is_multiple_of(2) {
        let begin = Begin { lane: stranger.sign(stranger.lane(door.account)), ..seen };
        return is_refused(&mut talk, &begin, RefusalCode::Voucher, "lane").await;
    }
    let answer = first_token(&mut talk, &seen).await?;
    answer.pay(&mut talk, stranger, answer.due()).await;
    says(&talk.refusal().await?, RefusalCode::Voucher, "sign")
}

/// At each of the two nodes one answer that is paid to its end, between two that are not.
pub(super) async fn paid_on_purpose(scene: &Scene<'_>) -> Vec<Receipt> {
    let started = Instant::now();
    let mut receipts = Vec::new();
    for door in &scene.doors {
        receipts.push(paid_between_failures(scene, door).await);
    }
    // The third one is paid before its node is killed.
    scene.note(&PAID, receipts.len() + 1, started, 0);
    receipts
}

/// One answer that is paid, with a failure of the same payer before and after it.
pub(super) async fn paid_between_failures(scene: &Scene<'_>, door: &Door) -> Receipt {
    let payer = scene.payer(&PAID);
    tried(&PAID, 0, async || leaving(scene, door, payer, 2).await).await;
    let quote = door.offer(&scene.manifest).await;
    let begin = payer.begin(&quote, payer.request(&quote.document, WORDS), payer.lane(door.account), &scene.manifest, WORDS);
    let delivered = wire::paid(&door.connection().await.expect("a connection"), payer, &begin).await;
    let delivered = delivered.unwrap_or_else(|why| panic!("an answer that is paid to its end: {why}"));
    tried(&PAID, 1, async || again(scene, door, payer).await).await;
    delivered.receipt
}
