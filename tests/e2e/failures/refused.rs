//! Requests that no node may take: each is refused by name before anything is computed for it.

use std::time::Duration;

use harness::wire::{Heard, Payer, Talk};
use inference::proto::message::{Begin, CLIENT_FRAME_MAX, FromClient, FromNode, RefusalCode, Turn, encode};
use types::{amount::Amount, encoding::Document as _, key::Signed, quote::Quote};

use super::scene::{Class, Door, NOWHERE, Scene, TOKENS, is_refused, mixed, says};

const BYTES: Class = Class::new("bytes that are no message", 900);
const ORDER: Class = Class::new("messages out of order", 500);
const UNREGISTERED: Class = Class::new("a version that nobody registered", 700);
const STALE: Class = Class::new("a quote that has expired", 500);
const QUOTE: Class = Class::new("a quote of another node, or altered", 500);
const REQUEST: Class = Class::new("a request altered or forged", 800);
const CAP: Class = Class::new("a lane whose cap is too small", 500);
const LANE: Class = Class::new("a lane of another payer or node, forged, or ending", 700);
const NO_DEPOSIT: Class = Class::new("no deposit", 300).with_deposit(Amount::ZERO);
const SMALL_DEPOSIT: Class = Class::new("a deposit below the first token", 300).with_deposit(Amount(1_000));
const NO_TOKENS: Class = Class::new("an empty answer: no token asked for", 400);
const NONE_LEFT: Class = Class::new("an empty answer: continued to its limit", 200);
const OVERFLOW: Class = Class::new("a prompt beyond the context", 200);

/// What is injected here.
pub(super) const CLASSES: [&Class; 13] =
    [&BYTES, &ORDER, &UNREGISTERED, &STALE, &QUOTE, &REQUEST, &CAP, &LANE, &NO_DEPOSIT, &SMALL_DEPOSIT, &NO_TOKENS, &NONE_LEFT, &OVERFLOW];

/// Blocks that a node's offer stands, and one more.
const QUOTE_BLOCKS: u64 = 121;

/// Offers of both nodes that the chain has gone past.
pub(super) async fn stale_quotes(scene: &Scene<'_>) -> [Signed<Quote>; 2] {
    let stale = [scene.doors[0].offer(&scene.manifest).await, scene.doors[1].offer(&scene.manifest).await];
    let rpc = scene.cluster.devnet.rpc();
    let _mined: serde_json::Value =
        rpc.request("anvil_mine", serde_json::json!([format!("{QUOTE_BLOCKS:#x}")])).await.expect("blocks are mined");
    // The third node as well: an offer under the block that it knew before would end too soon.
    let last = stale.iter().map(|quote| quote.document.expiry).max().expect("two");
    for door in scene.doors.iter().chain([&scene.third]) {
        while door.offer(&scene.manifest).await.document.block.number <= last {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    stale
}

/// Every class of this file.
pub(super) async fn everything(scene: &Scene<'_>, stale: &[Signed<Quote>; 2]) {
    scene.run(&BYTES, async |door, payer, number| bytes(scene, door, payer, number).await).await;
    scene.run(&ORDER, async |door, payer, number| order(scene, door, payer, number).await).await;
    scene.run(&UNREGISTERED, async |door, payer, number| unregistered(scene, door, payer, number).await).await;
    scene
        .run(&STALE, async |door, payer, number| {
            let begin = scene.begin(door, payer, &stale[number % 2]);
            is_refused(&mut door.talk().await?, &begin, RefusalCode::Quote, "has expired").await
        })
        .await;
    scene.run(&QUOTE, async |door, payer, number| quote(scene, door, payer, number).await).await;
    scene.run(&REQUEST, async |door, payer, number| bent(scene, door, payer, &REQUESTS[number % REQUESTS.len()]).await).await;
    scene.run(&CAP, async |door, payer, number| cap(scene, door, payer, number).await).await;
    scene.run(&LANE, async |door, payer, number| bent(scene, door, payer, &LANES[number % LANES.len()]).await).await;
    for class in [&NO_DEPOSIT, &SMALL_DEPOSIT] {
        scene
            .run(class, async |door, payer, _| bent(scene, door, payer, &(RefusalCode::Voucher, "deposit OPEN first", |_, _| {})).await)
            .await;
    }
    scene.run(&NO_TOKENS, async |door, payer, _| bent(scene, door, payer, &NOTHING_ASKED).await).await;
    scene.run(&NONE_LEFT, async |door, payer, _| bent(scene, door, payer, &NOTHING_LEFT).await).await;
    scene.run(&OVERFLOW, async |door, payer, _| too_long(scene, door, payer).await).await;
}

/// The refusal that must come, and what is wrong with an otherwise honest beginning.
type Bent = (RefusalCode, &'static str, fn(&Payer, &mut Begin));

async fn bent(scene: &Scene<'_>, door: &Door, payer: &Payer, (code, words, bend): &Bent) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let mut begin = scene.begin(door, payer, &quote);
    bend(payer, &mut begin);
    is_refused(&mut talk, &begin, *code, words).await
}

fn sign_again(payer: &Payer, begin: &mut Begin) {
    begin.request = payer.sign(begin.request.document);
}

const REQUESTS: [Bent; 8] = [
    (RefusalCode::Invalid, "sign", |_, begin| begin.request.signature.0[7] ^= 1),
    (RefusalCode::Invalid, "sign", |_, begin| begin.request.document.nonce += 1),
    (RefusalCode::Invalid, "prompt sent is not the one", |_, begin| begin.prompt_salt = NOWHERE),
    (RefusalCode::Invalid, "prompt sent is not the one", |_, begin| begin.turns[0].content.push('!')),
    (RefusalCode::Invalid, "role 9 is unknown", |_, begin| begin.turns.push(Turn { role: 9, content: "Hi".into() })),
    (RefusalCode::Invalid, "manifest sent is not the one", |_, begin| begin.manifest.parameters += 1),
    (RefusalCode::Quote, "output rate", |payer, begin| {
        begin.request.document.rate_out_max = Amount(5);
        sign_again(payer, begin);
    }),
    (RefusalCode::Voucher, "spending limit", |payer, begin| {
        begin.request.document.spending_limit = Amount(5);
        sign_again(payer, begin);
    }),
];

const LANES: [Bent; 5] = [
    (RefusalCode::Voucher, "lane", |payer, begin| {
        begin.lane.document.payer.0[0] ^= 1;
        begin.lane = payer.sign(begin.lane.document);
    }),
    (RefusalCode::Voucher, "lane", |payer, begin| {
        begin.lane.document.node = payer.address();
        begin.lane = payer.sign(begin.lane.document);
    }),
    (RefusalCode::Voucher, "lane", |payer, begin| {
        begin.lane.document.expiry = begin.quote.document.block.number;
        begin.lane = payer.sign(begin.lane.document);
    }),
    (RefusalCode::Voucher, "sign", |_, begin| begin.lane.document.cap.0 += 1),
    (RefusalCode::Voucher, "sign", |_, begin| begin.lane.signature.0[40] ^= 1),
];

const NOTHING_ASKED: Bent = (RefusalCode::Invalid, "no output token is left", |payer, begin| {
    begin.request.document.tokens_max = 0;
    sign_again(payer, begin);
});

const NOTHING_LEFT: Bent = (RefusalCode::Invalid, "no output token is left", |_, begin| {
    begin.attempt = 1;
    begin.continued = vec![40; usize::try_from(TOKENS).expect("few")];
});

/// Frames that decode to nothing, and beginnings with one bit of them changed: refused, broken off, or answered as something else that was never
/// signed for; in no case is there a receipt.
async fn bytes(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let chance = |field: &str| mixed(&BYTES, number, field);
    let below = |field: &str, bound: usize| usize::try_from(chance(field) % u64::try_from(bound).expect("small")).expect("below the bound");
    let honest = async || {
        let (talk, quote) = door.quoted(&scene.manifest).await?;
        Ok::<_, String>((talk, encode(&FromClient::Begin(Box::new(scene.begin(door, payer, &quote))))))
    };
    match number % 4 {
        0 => {
            let frame: Vec<u8> = (0..below("length", 600)).map(|place| chance(&place.to_string()).to_be_bytes()[0]).collect();
            let mut talk = door.talk().await?;
            talk.send_bytes(frame).await;
            without_receipt(&mut talk).await
        }
        1 => {
            let (mut talk, mut frame) = honest().await?;
            frame.truncate(below("length", frame.len()));
            talk.send_bytes(frame).await;
            says(&talk.refusal().await?, RefusalCode::Invalid, "client message")
        }
        2 => {
            let (mut talk, mut frame) = honest().await?;
            let place = below("place", frame.len());
            frame[place] ^= 1 << below("bit", 8);
            talk.send_bytes(frame).await;
            without_receipt(&mut talk).await
        }
        _ => {
            let mut talk = door.talk().await?;
            talk.quote(scene.manifest.root(), TOKENS).await?;
            // The node stops reading at the length; what follows finds nobody.
            talk.send_bytes(vec![0; CLIENT_FRAME_MAX + 1]).await;
            without_receipt(&mut talk).await
        }
    }
}

/// Reads until the node has ended the stream, or a token shows that it took what came for a beginning; then this side leaves.
async fn without_receipt(talk: &mut Talk) -> Result<(), String> {
    loop {
        match talk.hear().await {
            Heard::Said(FromNode::Receipt(delivered)) => return Err(format!("a receipt came: {delivered:?}")),
            Heard::Said(FromNode::Token { .. } | FromNode::Status(_)) => {
                talk.reset();
                return Ok(());
            }
            Heard::Said(_) => {}
            Heard::Ended | Heard::Broke(_) => return Ok(()),
            Heard::Nothing => return Err("the stream did not end".into()),
        }
    }
}

async fn order(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    match number % 3 {
        0 => {
            let voucher = types::voucher::Voucher {
                lane: NOWHERE,
                request: NOWHERE,
                attempt: 0,
                quote: quote.document.hash(),
                first_token: 0,
                tokens_in: 1,
                tokens_out: 1,
                token_ids: NOWHERE,
                base: Amount::ZERO,
                cumulative: Amount(1_000_000),
            };
            talk.send(&FromClient::Voucher(Box::new(payer.sign(voucher)))).await;
            says(&talk.refusal().await?, RefusalCode::Invalid, "before the answer began")
        }
        1 => {
            talk.send(&FromClient::Status).await;
            says(&talk.refusal().await?, RefusalCode::Invalid, "a stream of their own")
        }
        _ => {
            for _ in 0..8 {
                if talk.quote(scene.manifest.root(), TOKENS).await.is_err_and(|why| why.contains("quotes were made")) {
                    return Ok(());
                }
            }
            Err("eight quotes were made on one stream".into())
        }
    }
}

async fn unregistered(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let mut manifest = scene.manifest.clone();
    manifest.assets[0].version.version = 2 + u32::try_from(number % 1_000).expect("small");
    if number.is_multiple_of(2) {
        let quoted = door.talk().await?.quote(manifest.root(), TOKENS).await;
        return match quoted {
            Err(why) if why.contains("does not serve manifest") => Ok(()),
            other => Err(format!("{other:?}")),
        };
    }
    // A client that asks under an offer for something else.
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let mut begin = scene.begin(door, payer, &quote);
    begin.request.document.manifest = manifest.root();
    begin.manifest = manifest;
    sign_again(payer, &mut begin);
    is_refused(&mut talk, &begin, RefusalCode::NotServed, "does not serve").await
}

async fn quote(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let (mut talk, own) = door.quoted(&scene.manifest).await?;
    let quote = match number % 4 {
        0 => {
            let other = &scene.doors[(number + 1) % 2];
            other.quoted(&scene.manifest).await?.1
        }
        1 => Signed { document: Quote { rate_out: Amount(1), ..own.document }, ..own },
        2 => Signed { document: Quote { expiry: own.document.expiry + 100_000, ..own.document }, ..own },
        _ => payer.sign(Quote { protocol_fee: Amount::ZERO, ..own.document }),
    };
    let begin = scene.begin(door, payer, &quote);
    is_refused(&mut talk, &begin, RefusalCode::Quote, "").await
}

async fn cap(scene: &Scene<'_>, door: &Door, payer: &Payer, number: usize) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let mut begin = scene.begin(door, payer, &quote);
    // From nothing to one wei less than the protocol's constant.
    let most = quote.document.protocol_fee.0;
    begin.lane.document.cap = Amount(u128::from(mixed(&CAP, number, "cap")) % most);
    begin.lane = payer.sign(begin.lane.document);
    is_refused(&mut talk, &begin, RefusalCode::Voucher, "the lane leave").await
}

async fn too_long(scene: &Scene<'_>, door: &Door, payer: &Payer) -> Result<(), String> {
    let words = "How long is this prompt? ".repeat(60);
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let begin = payer.begin(&quote, payer.request(&quote.document, &words), payer.lane(door.account), &scene.manifest, &words);
    is_refused(&mut talk, &begin, RefusalCode::TooLong, "at most 512").await
}
