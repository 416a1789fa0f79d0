//! A node that is killed while it answers, started again, cut off from the chain, put on a full disk, and filled to its bound.
//!
//! A node that dies signs no receipt, so it cannot collect, whatever it was promised; what it had noted on its disk it refuses afterwards.

use std::time::{Duration, Instant};

use futures::future::join_all;
use harness::{
    Party,
    relay::Relay,
    wire::{Heard, Payer, Talk, bills_nothing},
};
use inference::proto::message::{Begin, FromClient, FromNode, Refusal, RefusalCode};
use types::receipt::Receipt;

use super::{
    left::{is_duplicate, paid_between_failures},
    scene::{Class, Door, Scene, says, tried},
};

const FULL: Class = Class::new("the node is filled to its bound", 200);
const KILLED_FIRST: Class = Class::new("the node is killed before the first token", 200);
const KILLED_UNPAID: Class = Class::new("the node is killed before a voucher", 200);
const KILLED_PAID: Class = Class::new("the node is killed behind a voucher", 200);
const AFTER: Class = Class::new("a request of before the kill, after the start", 700);
const CUT_OFF: Class = Class::new("the chain cannot be asked", 200);
const NO_DISK: Class = Class::new("the node's disk is full", 200);

/// What is injected here.
pub(super) const CLASSES: [&Class; 7] = [&FULL, &KILLED_FIRST, &KILLED_UNPAID, &KILLED_PAID, &AFTER, &CUT_OFF, &NO_DISK];

/// Requests of each kind that one kill meets.
const MET: usize = 2;
/// Tokens of a request that fills the node: more than the model's context leaves.
const LONG: u32 = 4_096;
/// Answers that are begun at once to fill the engine: more than it accepts.
const FILLING: usize = super::ANSWERS_MAX + 8;
/// How long they are counted on: half of what the node waits for a voucher.
const FILLED: Duration = Duration::from_secs(5);
/// Times that the node may be found with room after all: a connection broke, and with it went what filled it.
const AGAIN_MAX: usize = 20;
/// Longest from a fault to the node's saying so.
const FAULT_WAIT: Duration = Duration::from_secs(60);

/// Every class of this file, one after another, on the third node, and before the kills one answer that is paid; the node runs in order when it is
/// given back.
pub(super) async fn everything(scene: &Scene<'_>, mut victim: Party) -> (Party, Receipt) {
    full(scene).await;
    let paid = paid_between_failures(scene, &scene.third).await;
    killed(scene, &mut victim).await;
    cut_off(scene, &mut victim).await;
    no_disk(scene, &mut victim).await;
    victim.start(&scene.cluster.tributary).await;
    scene.third.moved(&victim);
    scene.third.serves(&scene.manifest).await;
    (victim, paid)
}

/// So many failures at the third node, one after another.
async fn run(scene: &Scene<'_>, class: &Class, inject: impl AsyncFn() -> Result<(), String>) {
    let (count, started, mut again) = (scene.count(class), Instant::now(), 0);
    for number in 0..count {
        again += tried(class, number, &inject).await;
    }
    scene.note(class, count, started, again);
}

/// An honest beginning; what the node says to it.
async fn asked(scene: &Scene<'_>, door: &Door, payer: &Payer) -> Result<(Talk, FromNode), String> {
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    talk.send(&FromClient::Begin(Box::new(scene.begin(door, payer, &quote)))).await;
    match talk.hear().await {
        Heard::Said(said) => Ok((talk, said)),
        other => Err(format!("no word on a request but {other:?}")),
    }
}

/// As many answers as the engine accepts are begun, each as long as the context; the others are sent away.
async fn full(scene: &Scene<'_>) {
    let payer = scene.payer(&FULL);
    // A connection has fewer streams than the engine accepts answers.
    let doors = [scene.third.another(), scene.third.another()];
    let hold = async |door: &Door| {
        let mut talk = door.talk().await?;
        let quote = talk.quote(scene.manifest.root(), LONG).await?;
        let begin = scene.begin(&scene.third, payer, &quote);
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        match talk.hear().await {
            Heard::Said(FromNode::Begun { .. }) => Ok(Some(talk)),
            Heard::Said(FromNode::Refused(Refusal { code: RefusalCode::Busy, .. })) => Ok(None),
            other => Err(format!("{other:?}")),
        }
    };
    let count = scene.count(&FULL);
    let (mut left, started, mut again) = (count, Instant::now(), 0);
    while left > 0 {
        // The node gives each of them up after ten seconds without a voucher: then they begin anew.
        let holding: Vec<Result<Option<Talk>, String>> = join_all(doors.iter().cycle().take(FILLING).map(&hold)).await;
        let filled = Instant::now();
        while left > 0 && filled.elapsed() < FILLED {
            if let Err(why) = unpaid(scene, &FULL, "the engine is busy").await {
                again += 1;
                assert!(again < AGAIN_MAX, "{}: {why}", FULL.name);
                break;
            }
            left -= 1;
        }
        drop(holding);
    }
    scene.note(&FULL, count, started, again);
}

/// A request that the kill met, and how far it had come.
struct Met {
    talk: Talk,
    begin: Begin,
    had_a_token: bool,
}

async fn killed(scene: &Scene<'_>, victim: &mut Party) {
    let (wanted, started) = (scene.count(&KILLED_PAID), Instant::now());
    let (mut met_each, mut kills, mut after, mut again) = (0, 0, 0, 0);
    while met_each < wanted || after < scene.count(&AFTER) {
        let met = kill(scene, victim).await;
        (met_each, kills) = (met_each + MET, kills + 1);
        victim.start(&scene.cluster.tributary).await;
        scene.third.moved(victim);
        scene.third.serves(&scene.manifest).await;
        for (number, met) in met.iter().enumerate() {
            again += tried(&AFTER, number, async || after_the_start(&scene.third, met).await).await;
            after += 1;
        }
        // The class has a payer too, who asks the node that has just come back.
        again += tried(&AFTER, kills, async || is_served(scene, &AFTER).await).await;
        after += 1;
    }
    for class in [&KILLED_FIRST, &KILLED_UNPAID, &KILLED_PAID] {
        scene.note(class, met_each, started, 0);
    }
    scene.note(&AFTER, after, started, again);
    scene.cluster.say(&format!("the third node was killed {kills} times and started again"));
}

/// Brings requests as far as each class says, kills the node, and sees every stream of them end without a receipt.
async fn kill(scene: &Scene<'_>, victim: &mut Party) -> Vec<Met> {
    let mut unsent = Vec::new();
    for _ in 0..MET {
        unsent.push(under_way(scene, &KILLED_FIRST, Far::Quoted).await);
    }
    let mut met = Vec::new();
    for _ in 0..MET {
        met.push(under_way(scene, &KILLED_UNPAID, Far::Token).await);
    }
    // Last, and the kill at once: if the connection broke in between, the node would rightly bill what was promised.
    for _ in 0..MET {
        met.push(under_way(scene, &KILLED_PAID, Far::Paid).await);
    }
    for met in &mut unsent {
        met.talk.send(&FromClient::Begin(Box::new(met.begin.clone()))).await;
    }
    victim.kill().await;
    met.extend(unsent);
    for met in &mut met {
        met.talk.end().await.unwrap_or_else(|why| panic!("a killed node's stream: {why}"));
    }
    met
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Far {
    /// An offer was made, the request is signed and not sent.
    Quoted,
    /// A token has come.
    Token,
    /// It was paid, and the node has taken that.
    Paid,
}

async fn under_way(scene: &Scene<'_>, class: &Class, far: Far) -> Met {
    let mut last = String::new();
    for _ in 0..AGAIN_MAX {
        match brought(scene, class, far).await {
            Ok(met) => return met,
            Err(why) => last = why,
        }
    }
    panic!("{}: {last}", class.name)
}

async fn brought(scene: &Scene<'_>, class: &Class, far: Far) -> Result<Met, String> {
    let (door, payer) = (&scene.third, scene.payer(class));
    let (mut talk, quote) = door.quoted(&scene.manifest).await?;
    let begin = scene.begin(door, payer, &quote);
    if far != Far::Quoted {
        let mut answer = talk.begun(&begin).await?;
        answer.token(&mut talk).await?;
        if far == Far::Paid {
            answer.pay(&mut talk, payer, answer.due()).await;
            // The next token shows that the voucher has arrived; the last one is never paid, so there is no receipt yet.
            answer.token(&mut talk).await?;
        }
    }
    Ok(Met { talk, begin, had_a_token: far != Far::Quoted })
}

/// What a token left for is refused for ever; a request that died earlier may be answered, and is left again.
async fn after_the_start(door: &Door, met: &Met) -> Result<(), String> {
    if met.had_a_token {
        return is_duplicate(door, &met.begin).await;
    }
    let mut talk = door.talk().await?;
    talk.send(&FromClient::Begin(Box::new(met.begin.clone()))).await;
    match talk.hear().await {
        Heard::Said(FromNode::Begun { .. }) => talk.reset(),
        Heard::Said(FromNode::Refused(refusal)) => says(&refusal, RefusalCode::Duplicate, "")?,
        other => return Err(format!("{other:?}")),
    }
    Ok(())
}

/// Behind a relay that is cut: what the node last read may serve for a moment; from then on it takes nobody's word for a deposit.
async fn cut_off(scene: &Scene<'_>, victim: &mut Party) {
    let relay = Relay::to(scene.cluster.devnet.url()).await;
    let registry = scene.cluster.path("registry.json");
    victim.stop().await;
    victim.start(&scene.cluster.tributary.on(&registry, relay.url())).await;
    scene.third.moved(victim);
    scene.third.serves(&scene.manifest).await;
    relay.cut();
    let words = "the chain cannot be asked";
    until(async || unpaid(scene, &CUT_OFF, words).await).await;
    run(scene, &CUT_OFF, async || unpaid(scene, &CUT_OFF, words).await).await;
    relay.mend();
    until(async || is_served(scene, &CUT_OFF).await).await;
    victim.stop().await;
}

/// Waits until something is so.
async fn until(is_so: impl AsyncFn() -> Result<(), String>) {
    let started = Instant::now();
    while let Err(why) = is_so().await {
        assert!(started.elapsed() < FAULT_WAIT, "{why}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A request of the class is refused with these words; one that is answered is left before anything is promised.
async fn unpaid(scene: &Scene<'_>, class: &Class, words: &str) -> Result<(), String> {
    let (mut talk, said) = asked(scene, &scene.third, scene.payer(class)).await?;
    talk.reset();
    match said {
        FromNode::Refused(refusal) if refusal.message.contains(words) => Ok(()),
        other => Err(format!("not refused with {words:?} but {other:?}")),
    }
}

async fn is_served(scene: &Scene<'_>, class: &Class) -> Result<(), String> {
    let (mut talk, said) = asked(scene, &scene.third, scene.payer(class)).await?;
    talk.reset();
    match said {
        FromNode::Begun { .. } => Ok(()),
        other => Err(format!("not served: {other:?}")),
    }
}

/// Nothing can be written: the request cannot be noted, so no token leaves.
async fn no_disk(scene: &Scene<'_>, victim: &mut Party) {
    victim.start_for_full_disk(&scene.cluster.tributary).await;
    scene.third.moved(victim);
    scene.third.serves(&scene.manifest).await;
    until(async || is_served(scene, &NO_DISK).await).await;
    victim.fill_disk().await;
    run(scene, &NO_DISK, async || starved(scene).await).await;
    victim.kill().await;
}

async fn starved(scene: &Scene<'_>) -> Result<(), String> {
    let (mut talk, said) = asked(scene, &scene.third, scene.payer(&NO_DISK)).await?;
    let refusal = match said {
        FromNode::Refused(refusal) => refusal,
        FromNode::Begun { .. } => match talk.hear().await {
            Heard::Said(FromNode::Refused(refusal)) => refusal,
            Heard::Said(FromNode::Receipt(delivered)) if bills_nothing(&delivered) => talk.refusal().await?,
            other => return Err(format!("on a full disk came {other:?}")),
        },
        other => return Err(format!("on a full disk came {other:?}")),
    };
    says(&refusal, RefusalCode::Internal, "the node failed")
}
