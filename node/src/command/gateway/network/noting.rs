//! What answers tell of their nodes, noted as they pass: who is asked next goes by it.

use std::time::Instant;

use futures::future::BoxFuture;
use types::id::NodeId;

use crate::{
    ask::{Event, Listener},
    command::ask::Experience,
};

/// Passes on all it hears.
pub(super) struct Noting<'n, L> {
    experience: &'n Experience,
    to: &'n mut L,
    /// The node that is at it, since when, and whether a token of it came.
    asked: Option<(NodeId, Instant, bool)>,
}

impl<'n, L: Listener> Noting<'n, L> {
    pub(super) const fn new(experience: &'n Experience, to: &'n mut L) -> Self {
        Self { experience, to, asked: None }
    }

    /// Nothing comes any more.
    pub(super) fn ended(self, is_answered: bool) {
        if let Some((node, ..)) = self.asked.filter(|_| is_answered) {
            self.experience.answered(node);
        }
    }
}

impl<L: Listener> Listener for Noting<'_, L> {
    fn hear(&mut self, event: Event<'_>) {
        match &event {
            Event::Asking(candidate) => self.asked = Some((candidate.node, Instant::now(), false)),
            Event::Token(..) => {
                if let Some((node, since, is_heard @ false)) = &mut self.asked {
                    *is_heard = true;
                    self.experience.first_token(*node, since.elapsed());
                }
            }
            Event::Abandoned(abandoned, cause) => {
                self.experience.failed(abandoned.node, *cause);
                self.asked = None;
            }
            _ => {}
        }
        self.to.hear(event);
    }

    fn ready(&mut self) -> BoxFuture<'_, ()> {
        self.to.ready()
    }
}

#[cfg(test)]
mod tests {
    use inference::proto::{
        draft::Cause,
        router::{Holds, Preference, Provider},
    };
    use types::{amount::Amount, id::Address, quote::Profile};

    use super::*;
    use crate::{
        ask::{Abandoned, Candidate},
        command::ask::Wanted,
    };

    fn provider(node: u8, rate_out: u128) -> Provider {
        Provider {
            node: NodeId([node; 32]),
            account: Address([node; 20]),
            holds: Holds::All,
            profile: Some(Profile::Exact),
            stake: Amount(1),
            region: None,
            rate_in: Amount::ZERO,
            rate_out: Amount(rate_out),
            queue: 0,
            ttft_ms: None,
            tokens_per_s: None,
        }
    }

    fn first(experience: &Experience) -> u8 {
        let wanted = Wanted { profile: Profile::Exact, tokens: 1_000, client: Address([9; 20]) };
        experience.choose(vec![provider(1, 1_000), provider(2, 2_000)], wanted, &Preference::default()).order[0].0[0]
    }

    #[test]
    fn a_node_that_failed_is_asked_last_by_the_next_question_and_first_again_when_it_has_answered() {
        let experience = Experience::new(0);
        assert_eq!(first(&experience), 1, "the cheaper");
        let mut heard = 0;
        let mut listener = |_: Event<'_>| heard += 1;
        let mut noting = Noting::new(&experience, &mut listener);
        let candidate = Candidate { node: NodeId([1; 32]), account: Address([1; 20]), addr: "127.0.0.1:1".parse().unwrap() };
        let abandoned = Abandoned { node: candidate.node, tokens: 0, reason: "gone".into(), gap_ms: None };
        noting.hear(Event::Asking(&candidate));
        noting.hear(Event::Abandoned(&abandoned, Cause::Unreachable));
        noting.ended(false);
        assert_eq!(first(&experience), 2);
        let mut noting = Noting::new(&experience, &mut listener);
        noting.hear(Event::Asking(&candidate));
        noting.hear(Event::Token(b"a", 1, &[]));
        noting.hear(Event::Token(b"b", 2, &[]));
        noting.ended(true);
        assert_eq!((first(&experience), heard), (1, 5), "all is passed on");
    }
}
