//! Messages that no peer has taken yet: gossip refuses to publish while nobody subscribes, so they are tried again.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use types::time::Time;

use super::{OverlayError, PUBLISH_LIMIT};

/// Messages waiting for a peer at once: 4 MiB of the largest.
const PENDING_MAX: usize = 64;

/// A message somebody waits for.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) data: Vec<u8>,
    pub(super) reply: oneshot::Sender<Result<(), OverlayError>>,
}

/// What one try said.
#[derive(Debug)]
pub(super) enum Outcome {
    Sent,
    NobodyYet,
    Refused(OverlayError),
}

#[derive(Debug, Default)]
pub(super) struct Pending(VecDeque<(Time, Publication)>);

impl Pending {
    /// Tries at once; keeps the message when nobody takes it yet.
    pub(super) fn add(&mut self, now: Time, publication: Publication, publish: impl FnOnce(&str, &[u8]) -> Outcome) {
        match publish(&publication.topic, &publication.data) {
            Outcome::NobodyYet if self.0.len() < PENDING_MAX => self.0.push_back((now.after(PUBLISH_LIMIT), publication)),
            Outcome::NobodyYet => answer(publication, Err(OverlayError::Full { what: "queue of unsent messages", max: PENDING_MAX })),
            Outcome::Sent => answer(publication, Ok(())),
            Outcome::Refused(error) => answer(publication, Err(error)),
        }
    }

    /// Tries everything again, in order; gives up what is overdue or no longer waited for.
    pub(super) fn retry(&mut self, now: Time, mut publish: impl FnMut(&str, &[u8]) -> Outcome) {
        for _ in 0..self.0.len() {
            let Some((until, publication)) = self.0.pop_front() else { return };
            if publication.reply.is_closed() {
                continue;
            }
            match publish(&publication.topic, &publication.data) {
                Outcome::Sent => answer(publication, Ok(())),
                Outcome::Refused(error) => answer(publication, Err(error)),
                Outcome::NobodyYet if until <= now => {
                    let topic = publication.topic.clone();
                    answer(publication, Err(OverlayError::NoPeers { topic }));
                }
                Outcome::NobodyYet => self.0.push_back((until, publication)),
            }
        }
    }
}

fn answer(publication: Publication, result: Result<(), OverlayError>) {
    // Whoever asked may have stopped waiting; the message is out or not all the same.
    let _unheard = publication.reply.send(result);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication() -> (Publication, oneshot::Receiver<Result<(), OverlayError>>) {
        let (reply, answer) = oneshot::channel();
        (Publication { topic: "t".into(), data: vec![1], reply }, answer)
    }

    #[test]
    fn a_message_waits_for_its_first_peer() {
        let mut pending = Pending::default();
        let (message, mut answer) = publication();
        pending.add(Time(0), message, |_, _| Outcome::NobodyYet);
        pending.retry(Time(1), |_, _| Outcome::NobodyYet);
        assert!(answer.try_recv().is_err());
        pending.retry(Time(2), |_, _| Outcome::Sent);
        assert!(answer.try_recv().unwrap().is_ok());
    }

    #[test]
    fn a_message_nobody_takes_is_given_up_by_name() {
        let mut pending = Pending::default();
        let (message, mut answer) = publication();
        pending.add(Time(0), message, |_, _| Outcome::NobodyYet);
        pending.retry(Time(0).after(PUBLISH_LIMIT), |_, _| Outcome::NobodyYet);
        assert!(matches!(answer.try_recv().unwrap(), Err(OverlayError::NoPeers { .. })));
        assert!(pending.0.is_empty());
    }

    #[test]
    fn the_queue_is_bounded_and_a_full_one_answers() {
        let mut pending = Pending::default();
        let mut waiting = Vec::new();
        for _ in 0..PENDING_MAX {
            let (message, answer) = publication();
            pending.add(Time(0), message, |_, _| Outcome::NobodyYet);
            waiting.push(answer);
        }
        let (message, mut answer) = publication();
        pending.add(Time(0), message, |_, _| Outcome::NobodyYet);
        assert!(matches!(answer.try_recv().unwrap(), Err(OverlayError::Full { .. })));
        drop(waiting);
        pending.retry(Time(0), |_, _| Outcome::NobodyYet);
        assert!(pending.0.is_empty(), "those nobody waits for are forgotten");
    }
}
