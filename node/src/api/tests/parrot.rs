//! A source that repeats the last message, a word a token. Some first words make it behave: `fail`, `vanish`, `hang`, `endless`, `flood`, `gate`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{mpsc, watch};
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use crate::api::{
    Kind, Refusal,
    adapters::Load,
    models,
    source::{
        Answers, Ask, Attributed, EVENTS_MAX, Embedded, Event, Extra, Finished, Listed, Logprob, Logprobs, Reason, Settled, Signed, Usage,
    },
};

/// Bytes of a token of `flood`.
pub(super) const FLOOD_BYTES: usize = 1_000;

#[derive(Debug)]
pub(super) struct Parrot {
    carries: Vec<Extra>,
    adapters: Mutex<BTreeMap<String, Listed>>,
    counts: watch::Sender<Counts>,
    gate: watch::Sender<bool>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    begun: usize,
    emitted: usize,
    cancelled: usize,
    /// Cancelled answers that a test has waited for.
    seen: usize,
}

impl Default for Parrot {
    fn default() -> Self {
        Self { carries: Extra::ALL.to_vec(), adapters: Mutex::default(), counts: watch::Sender::default(), gate: watch::Sender::default() }
    }
}

impl Parrot {
    /// One that is told these options alone.
    pub(super) fn carrying(carries: &[Extra]) -> Self {
        Self { carries: carries.to_vec(), ..Self::default() }
    }

    pub(super) fn begun(&self) -> usize {
        self.counts.borrow().begun
    }

    pub(super) fn emitted(&self) -> usize {
        self.counts.borrow().emitted
    }

    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    pub(super) async fn until_begun(&self, count: usize) {
        self.counts.subscribe().wait_for(|counts| counts.begun >= count).await.unwrap();
    }

    pub(super) async fn until_emitted(&self, count: usize) {
        self.counts.subscribe().wait_for(|counts| counts.emitted >= count).await.unwrap();
    }

    /// Waits until one more answer was cancelled.
    pub(super) async fn until_cancelled(&self) {
        self.counts.subscribe().wait_for(|counts| counts.cancelled > counts.seen).await.unwrap();
        self.counts.send_modify(|counts| (counts.seen, counts.emitted) = (counts.seen + 1, counts.emitted));
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

fn base() -> Listed {
    Listed { id: "parrot".into(), parent: None, root: "1@1".into(), owned_by: "tests".into(), created_s: 1, content: None }
}

fn failed() -> Event {
    Event::Failed(Refusal::new(Kind::Failed, "no_answer", "no node answered").last())
}

fn token(word: &str, ask: &Ask) -> Event {
    let one = |text: &str, nats| Logprob { bytes: text.as_bytes().to_vec(), nats };
    let told = || Logprobs { chosen: one(word, -0.25), likeliest: vec![one(word, -0.25), one("other", -1.5), one("third", -3.0)] };
    Event::Token { bytes: word.as_bytes().to_vec(), logprobs: ask.choosing.told.map(|_| Box::new(told())) }
}

fn finished(reason: Reason, usage: Usage, first: &str) -> Event {
    let receipt = Signed {
        hash: Hash32([1; 32]),
        request: Hash32([2; 32]),
        attempt: 0,
        node: Address([3; 20]),
        manifest: Hash32([4; 32]),
        fee_wei: Amount(5),
        at_most_wei: Amount(5),
    };
    let source =
        Attributed { quote: first.to_owned(), contributor: Address([6; 20]), datanet: "2@1".into(), weight: 7, amount_wei: Amount(1) };
    Event::Finished(Box::new(Finished { reason, usage, settled: Some(Settled { receipt, attribution: vec![source] }) }))
}

/// Says an answer; false once nobody listens any more.
async fn talk(parrot: &Parrot, ask: &Ask, to: &mpsc::Sender<Event>) -> bool {
    let said = &ask.messages.last().unwrap().content;
    let is_loud = ask.model != "parrot";
    let words: Vec<String> = said.split_whitespace().map(|word| if is_loud { word.to_uppercase() } else { word.to_owned() }).collect();
    let say = async |event: Event| {
        let is_token = matches!(event, Event::Token { .. });
        let is_heard = to.send(event).await.is_ok();
        parrot.count(|counts| counts.emitted += usize::from(is_token && is_heard));
        is_heard
    };
    match said.as_str() {
        "fail at once" => return say(failed()).await,
        "fail long" => {
            let long = Refusal::new(Kind::Invalid, "context_length_exceeded", "no node answered: ab: the prompt has 9,000 tokens");
            return say(Event::Failed(long)).await;
        }
        "fail later" => return say(token("fail ", ask)).await && say(failed()).await,
        "vanish later" => return say(token("vanish ", ask)).await,
        "hang" => {
            to.closed().await;
            return false;
        }
        "endless" => {
            // The tests stop it long before the last one; a yield lets the reader's loss be seen.
            while say(token("again ", ask)).await {
                tokio::task::yield_now().await;
            }
            return false;
        }
        "flood" => {
            let long = "w".repeat(FLOOD_BYTES);
            for _ in 0..ask.tokens_max {
                if !say(token(&long, ask)).await {
                    return false;
                }
            }
        }
        _ => {}
    }
    if words[0] == "gate" {
        parrot.gate.subscribe().wait_for(|is_open| *is_open).await.unwrap();
    }
    let most = usize::try_from(ask.tokens_max).unwrap();
    let stop = words.iter().position(|word| ask.choosing.options.stop.contains(word)).unwrap_or(words.len());
    let count = stop.min(most);
    for word in &words[..count] {
        if !say(token(&format!("{word} "), ask)).await {
            return false;
        }
    }
    let reason = if stop > most { Reason::Length } else { Reason::Stop };
    let usage = Usage { tokens_in: u32::try_from(words.len()).unwrap(), tokens_out: u32::try_from(count).unwrap() };
    say(finished(reason, usage, &words[0])).await
}

impl Answers for Arc<Parrot> {
    async fn models(&self) -> Result<Vec<Listed>, Refusal> {
        Ok([base()].into_iter().chain(self.adapters.lock().unwrap().values().cloned()).collect())
    }

    fn carries(&self) -> &[Extra] {
        &self.carries
    }

    async fn begin(&self, ask: Ask) -> Result<mpsc::Receiver<Event>, Refusal> {
        let all = self.models().await?;
        if !all.iter().any(|listed| listed.id == ask.model) {
            return Err(models::unknown(&ask.model, &all));
        }
        let (to, events) = mpsc::channel(EVENTS_MAX);
        let parrot = Self::clone(self);
        parrot.count(|counts| counts.begun += 1);
        tokio::spawn(async move {
            let is_heard = talk(&parrot, &ask, &to).await;
            parrot.count(|counts| counts.cancelled += usize::from(!is_heard));
        });
        Ok(events)
    }

    async fn embed(&self, _: usize, model: &str, texts: Vec<String>) -> Result<Embedded, Refusal> {
        let all = self.models().await?;
        if model != "parrot" {
            return Err(models::unknown(model, &all));
        }
        #[expect(clippy::cast_precision_loss, reason = "texts of tests are short")]
        let vector = |text: &String| vec![text.len() as f32, f32::from(text.as_bytes()[0])];
        Ok(Embedded { vectors: texts.iter().map(vector).collect(), tokens: u32::try_from(texts.len()).unwrap() })
    }

    async fn load(&self, load: Load) -> Result<Listed, Refusal> {
        let listed = Listed {
            id: format!("parrot:{}", load.name),
            parent: Some("parrot".into()),
            root: load.path,
            content: Some(Hash32([9; 32])),
            ..base()
        };
        self.adapters.lock().unwrap().insert(load.name, listed.clone());
        Ok(listed)
    }

    async fn unload(&self, name: &str) -> Result<(), Refusal> {
        let gone = self.adapters.lock().unwrap().remove(name);
        gone.map(|_| ())
            .ok_or_else(|| Refusal::field("lora_name", "adapter_not_found", format!("no adapter is called {name}")))
            .map_err(|no| Refusal { kind: Kind::Missing, ..no })
    }
}
