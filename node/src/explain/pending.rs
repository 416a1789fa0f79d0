//! A transaction that is waited for, said while it is: a line that changes at a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chain_bridge::client::approval::Waiting;
use indicatif::{ProgressBar, ProgressStyle};
use types::amount::Amount;

use crate::{
    output::{money, say},
    when::ago,
    words,
};

/// What is included sooner is not spoken of where lines stay.
const PLAIN_AFTER: Duration = Duration::from_secs(3);
/// Least time between two plain lines about one transaction.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// What is shown now.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bar: Option<ProgressBar>,
    /// The transaction's nonce, when it was first waited for, and when a line was last written.
    plain: Option<(u64, Instant, Option<Instant>)>,
}

impl Pending {
    /// Shows what is waited for, at `now` (seconds since 1970).
    pub(super) fn show(&self, waiting: &Waiting, now: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What the chain said is in it.
        let text = words::line(&line(waiting, now)).into_owned();
        if std::io::stderr().is_terminal() {
            state.bar.get_or_insert_with(spinner).set_message(text);
        } else if state.is_time_for_a_line(waiting.nonce) {
            say(&text);
        }
    }

    /// Nothing is waited for.
    pub(super) fn clear(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        state.plain = None;
    }
}

impl State {
    fn is_time_for_a_line(&mut self, nonce: u64) -> bool {
        let (_, since, last) = match self.plain {
            Some(known) if known.0 == nonce => known,
            _ => (nonce, Instant::now(), None),
        };
        let is_time = last.map_or_else(|| since.elapsed() >= PLAIN_AFTER, |last| last.elapsed() >= PLAIN_EVERY);
        self.plain = Some((nonce, since, if is_time { Some(Instant::now()) } else { last }));
        is_time
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What is waited for, in words.
fn line(waiting: &Waiting, now: u64) -> String {
    let Waiting { what, nonce, fees, gas, bumps, .. } = waiting;
    let most = Amount(fees.most.saturating_mul(u128::from(*gas)));
    let mut text = format!("waiting for {what}: nonce {nonce}");
    if let Some(transaction) = waiting.transaction {
        text.push_str(&format!(", transaction {transaction}"));
    }
    if waiting.since > 0 {
        text.push_str(&format!(", begun {}", ago(waiting.since, now)));
    }
    text.push_str(&format!(", offers {} per gas, {} at most", money(Amount(fees.most)), money(most)));
    if waiting.next_nonce < *nonce {
        let next = waiting.next_nonce;
        text.push_str(&format!("; the chain waits for nonce {next} of this account first, which another transaction has"));
    }
    if *bumps > 0 {
        text.push_str(&format!(", its fee was raised {bumps} times"));
    }
    if let Some(refusal) = &waiting.refusal {
        text.push_str(&format!("; the chain said to its last copy: {refusal}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use chain_bridge::outbox::Fees;

    use super::*;

    fn waiting() -> Waiting {
        Waiting {
            what: "deposit".into(),
            transaction: None,
            nonce: 5,
            next_nonce: 5,
            since: 100,
            gas: 50_000,
            fees: Fees { most: 2_000_000_000, tip: 1 },
            bumps: 2,
            refusal: Some("replacement transaction underpriced".into()),
        }
    }

    #[test]
    fn what_is_waited_for_is_named_with_nonce_time_and_fee() {
        let text = line(&waiting(), 112);
        let expected = "waiting for deposit: nonce 5, begun 12 s ago, offers 0.000000002 OPEN per gas, 0.0001 OPEN at most, its fee was raised 2 times; \
                        the chain said to its last copy: replacement transaction underpriced";
        assert_eq!(text, expected);
        let behind = line(&Waiting { next_nonce: 4, ..waiting() }, 112);
        assert!(behind.contains("the chain waits for nonce 4 of this account first"), "{behind}");
    }

    #[test]
    fn a_line_comes_late_and_seldom() {
        let mut state = State::default();
        assert!(!state.is_time_for_a_line(5), "it may be included at once");
        let past = Instant::now().checked_sub(PLAIN_AFTER).unwrap();
        state.plain = Some((5, past, None));
        assert!(state.is_time_for_a_line(5) && !state.is_time_for_a_line(5));
        assert!(!state.is_time_for_a_line(6), "another one has its own time");
    }
}
