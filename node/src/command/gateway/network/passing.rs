//! Tokens on their way from a node to a reader, no faster than they are taken.

use std::collections::VecDeque;

use futures::future::{BoxFuture, FutureExt as _};
use inference::proto::message::Told;
use tokio::sync::mpsc;

use crate::{
    api::source::{Event, Logprob, Logprobs},
    ask::{Event as Heard, Listener},
};

/// Passes tokens on, no faster than they are taken.
pub(super) struct Passing<'t> {
    to: &'t mpsc::Sender<Event>,
    /// The last token, and behind it what was held back as the beginning of a stop string.
    waiting: VecDeque<Event>,
}

impl<'t> Passing<'t> {
    /// After what was answered before, in another process.
    pub(super) fn new(to: &'t mpsc::Sender<Event>, before: Vec<u8>) -> Self {
        let waiting = (!before.is_empty()).then_some(Event::Token { bytes: before, logprobs: None });
        Self { to, waiting: waiting.into_iter().collect() }
    }
}

impl Listener for Passing<'_> {
    fn hear(&mut self, event: Heard<'_>) {
        match event {
            Heard::Token(bytes, _, told) => self.waiting.push_back(Event::Token { bytes: bytes.to_vec(), logprobs: logprobs(told) }),
            // A reader sees no more of these than a pause.
            Heard::Waiting(candidate, why) => tracing::info!(node = %candidate.node, why, "waiting for a busy node"),
            Heard::TakingUp(candidate, tokens, why) => tracing::info!(node = %candidate.node, tokens, why, "taking the answer up"),
            _ => {}
        }
    }

    fn ready(&mut self) -> BoxFuture<'_, ()> {
        async {
            // A reader that is gone ends the question elsewhere. What waits is let go only when there is room for it.
            while !self.waiting.is_empty()
                && let Ok(room) = self.to.reserve().await
                && let Some(event) = self.waiting.pop_front()
            {
                room.send(event);
            }
        }
        .boxed()
    }
}

/// What a node tells of a token as the gateway shows it.
fn logprobs(told: &[Told]) -> Option<Box<Logprobs>> {
    let one = |told: &Told| Logprob { bytes: told.bytes.clone(), nats: f64::from(told.ln_ppm) / 1_000_000.0 };
    let (chosen, likeliest) = told.split_first()?;
    Some(Box::new(Logprobs { chosen: one(chosen), likeliest: likeliest.iter().map(one).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_waits_for_its_reader_and_is_not_lost_meanwhile() {
        let (to, mut events) = mpsc::channel(1);
        let mut passing = Passing::new(&to, Vec::new());
        passing.hear(Heard::Token(b"a", 1, &[]));
        passing.ready().await;
        let told = [Told { bytes: b"b".to_vec(), ln_ppm: -250_000 }, Told { bytes: b"z".to_vec(), ln_ppm: -1 }];
        passing.hear(Heard::Token(b"b", 2, &told));
        assert!(passing.ready().now_or_never().is_none(), "the node would be asked for more than the reader takes");
        // What was held back is let go behind the last token, without another.
        passing.hear(Heard::Token(b"c", 2, &[]));
        let token = |text: &str, logprobs| Some(Event::Token { bytes: text.as_bytes().to_vec(), logprobs });
        let one = |text: &str, nats| Logprob { bytes: text.as_bytes().to_vec(), nats };
        let logprobs = Some(Box::new(Logprobs { chosen: one("b", -0.25), likeliest: vec![one("z", -0.000_001)] }));
        assert_eq!(events.recv().await, token("a", None));
        let ((), heard) = tokio::join!(passing.ready(), async { [events.recv().await, events.recv().await] });
        assert_eq!(heard, [token("b", logprobs), token("c", None)]);
        passing.ready().await;
        assert!(events.try_recv().is_err(), "nothing is said twice");
        drop(events);
        passing.hear(Heard::Token(b"d", 3, &[]));
        passing.ready().await;
    }
}
