//! Whom to ask, from the command line, and what this process saw of those it asked.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args as ClapArgs, ValueEnum};
use inference::proto::{
    draft::Cause,
    router::{Asked, Memory, Mode, Preference, Provider, Route, choose},
};
use storage::proto::placement::Region;
use types::{
    amount::Amount,
    id::{Address, NodeId},
    quote::Profile,
    time::Time,
};

/// Input tokens that fees are compared for: the question is not counted in tokens before a node does it.
const TOKENS_IN: u32 = 100;

/// Which nodes may answer, and which is asked first.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct Routing {
    /// What is to be little: the fee (economic), the time to the first token (fast), or both alike (balanced).
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    route: Routed,
    /// Ask only nodes that say they stand in that country, for example DE; may be given several times.
    #[arg(long, value_name = "COUNTRY")]
    region: Vec<Region>,
    /// Ask only nodes whose account has that much at stake.
    #[arg(long, value_name = "AMOUNT", default_value = "0")]
    min_stake: Amount,
}

/// A mode by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Routed {
    /// The cheapest first, to the wei.
    #[default]
    Economic,
    /// Twice the time weighs as much as twice the fee.
    Balanced,
    /// The quickest to its first token first, whatever it costs within the highest rates.
    Fast,
}

impl Routing {
    /// With the highest rates, which are flags of their own.
    pub(crate) fn preference(&self, rates_max: (Amount, Amount)) -> Preference {
        let mode = match self.route {
            Routed::Economic => Mode::Economic,
            Routed::Balanced => Mode::Balanced,
            Routed::Fast => Mode::Fast,
        };
        Preference { mode, rates_max, stake_min: self.min_stake, regions: self.region.iter().map(|region| region.letters()).collect() }
    }
}

/// What is asked for, as far as it decides whom to ask.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Numeric rules.
    pub profile: Profile,
    /// Most output tokens.
    pub tokens: u32,
    /// Who asks.
    pub client: Address,
}

/// What this process saw of nodes, on its own clock: a gateway lives long and learns, a command asks once and goes by the nodes' words.
#[derive(Debug)]
pub struct Experience {
    memory: Mutex<Memory>,
    since: Instant,
    /// The number of the next choice.
    next: AtomicU64,
}

impl Experience {
    /// None yet; choices are counted from `first`.
    pub fn new(first: u64) -> Self {
        Self { memory: Mutex::default(), since: Instant::now(), next: AtomicU64::new(first) }
    }

    /// The order in which to ask.
    pub(crate) fn choose(&self, providers: Vec<Provider>, wanted: Wanted, preference: &Preference) -> Route {
        let Wanted { profile, tokens, client } = wanted;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let asked = Asked { profile, tokens_in: TOKENS_IN, tokens_out: tokens, client, number };
        self.with(|memory, now| choose(providers, &asked, preference, memory, now))
    }

    /// A first token came after that wait.
    pub(crate) fn first_token(&self, node: NodeId, waited: Duration) {
        self.with(|memory, now| memory.on_first_token(node, waited, now));
    }

    /// A whole answer came.
    pub(crate) fn answered(&self, node: NodeId) {
        self.with(|memory, now| memory.on_answer(node, now));
    }

    /// An attempt came to nothing.
    pub(crate) fn failed(&self, node: NodeId, cause: Cause) {
        self.with(|memory, now| memory.on_fault(node, cause, now));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Memory, Time) -> T) -> T {
        // A step that panicked left an average or a count behind, no broken invariant.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut memory, Time(0).after(self.since.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        routing: Routing,
    }

    #[test]
    fn the_flags_make_a_preference_and_none_of_them_the_cheapest_first_anywhere() {
        let rates = (Amount(1), Amount(2));
        let read = |words: &[&str]| Line::try_parse_from([&["ask"], words].concat()).map(|line| line.routing.preference(rates));
        assert_eq!(read(&[]).unwrap(), Preference { rates_max: rates, ..Preference::default() });
        let asked = read(&["--route", "fast", "--region", "DE", "--region", "FR", "--min-stake", "5 OPEN"]).unwrap();
        assert_eq!((asked.mode, asked.regions), (Mode::Fast, vec![*b"DE", *b"FR"]));
        assert_eq!(asked.stake_min, "5 OPEN".parse().unwrap());
        for mode in [Mode::Economic, Mode::Balanced, Mode::Fast] {
            assert_eq!(read(&["--route", mode.name()]).unwrap().mode, mode);
        }
        assert!(read(&["--region", "de"]).unwrap_err().to_string().contains("is no region"));
    }
}
