//! How much one key may do: requests and tokens a minute, answers at once. Pure: `now` goes in, a yes with what is left or a typed no comes out.
//!
//! Tokens are taken before an answer begins, as many as it may have, and what it did not use is given back when it ends: a client cannot promise little
//! and take much. A bucket fills evenly and holds a minute's worth.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::time::Time;

use super::errors::{Kind, Refusal};

/// Microseconds of the time that rates are counted by.
const MINUTE_US: u64 = 60_000_000;
/// When a key whose answers are all under way should ask again: most answers take seconds.
const RUNNING_RETRY: Duration = Duration::from_secs(2);

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a minute.
    pub requests_per_minute: u32,
    /// Tokens a minute, read and said together.
    pub tokens_per_minute: u32,
    /// Answers at once.
    pub running_max: u32,
}

impl Default for Limits {
    /// One person with several programs: an answer a second, ten minutes of reading a minute, and as many at once as a browser opens connections twice.
    fn default() -> Self {
        Self { requests_per_minute: 60, tokens_per_minute: 100_000, running_max: 16 }
    }
}

/// What is left, for the headers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What the key may do.
    pub limits: Limits,
    /// Requests left now.
    pub requests: u32,
    /// Tokens left now.
    pub tokens: u32,
    /// Until all requests are there again.
    pub requests_reset: Duration,
    /// Until all tokens are.
    pub tokens_reset: Duration,
}

/// The meter of one key.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    requests: Bucket,
    tokens: Bucket,
    running: u32,
}

/// Something that fills evenly up to a minute's worth. Counted in parts of one, so that nothing is lost between two looks.
#[derive(Debug)]
struct Bucket {
    per_minute: u32,
    /// In parts of which [`MINUTE_US`] make one.
    parts: u64,
    since: Time,
}

impl Bucket {
    fn full(per_minute: u32, now: Time) -> Self {
        Self { per_minute, parts: u64::from(per_minute) * MINUTE_US, since: now }
    }

    fn fill(&mut self, now: Time) {
        let passed = u64::try_from(now.since(self.since).as_micros()).unwrap_or(u64::MAX);
        let more = passed.saturating_mul(self.per_minute.into());
        self.parts = self.parts.saturating_add(more).min(u64::from(self.per_minute) * MINUTE_US);
        self.since = self.since.max(now);
    }

    /// Takes `count`, or says how long until they are there.
    fn take(&mut self, count: u32) -> Result<(), Duration> {
        let needed = u64::from(count) * MINUTE_US;
        match self.parts.checked_sub(needed) {
            Some(left) => {
                self.parts = left;
                Ok(())
            }
            None => Err(self.until(needed)),
        }
    }

    fn give_back(&mut self, count: u32) {
        self.parts = self.parts.saturating_add(u64::from(count) * MINUTE_US).min(u64::from(self.per_minute) * MINUTE_US);
    }

    /// Takes what was used already, or all there is.
    fn debit(&mut self, count: u32) {
        self.parts = self.parts.saturating_sub(u64::from(count) * MINUTE_US);
    }

    fn left(&self) -> u32 {
        u32::try_from(self.parts / MINUTE_US).unwrap_or(u32::MAX)
    }

    fn until(&self, parts: u64) -> Duration {
        Duration::from_micros(parts.saturating_sub(self.parts).div_ceil(u64::from(self.per_minute).max(1)))
    }

    fn until_full(&self) -> Duration {
        self.until(u64::from(self.per_minute) * MINUTE_US)
    }
}

impl Meter {
    /// One that nothing was taken from.
    pub fn new(limits: Limits, now: Time) -> Self {
        let (requests, tokens) = (Bucket::full(limits.requests_per_minute, now), Bucket::full(limits.tokens_per_minute, now));
        Self { limits, requests, tokens, running: 0 }
    }

    /// Counts a request, whatever it asks and however it ends.
    ///
    /// # Errors
    /// A [`Refusal`] with when to come back.
    pub fn request(&mut self, now: Time) -> Result<(), Refusal> {
        self.requests.fill(now);
        let limit = self.limits.requests_per_minute;
        self.requests.take(1).map_err(|wait| limited("requests", format!("{limit} requests a minute are allowed for this key"), wait))
    }

    /// Takes `tokens` for an answer that begins; [`Meter::end`] follows.
    ///
    /// # Errors
    /// As [`Meter::request`]; more tokens than a minute has never come.
    pub fn begin(&mut self, now: Time, tokens: u32) -> Result<(), Refusal> {
        let Limits { tokens_per_minute, running_max, .. } = self.limits;
        if tokens > tokens_per_minute {
            let message = format!(
                "prompt and max_tokens come to about {tokens} tokens, {tokens_per_minute} a minute are allowed for this key: ask for fewer, or raise its limit with `tributary gateway key add`"
            );
            return Err(Refusal::field("max_tokens", "tokens_exceed_limit", message));
        }
        if self.running >= running_max {
            let message = format!("{running_max} answers at once are allowed for this key");
            return Err(limited("answers", message, RUNNING_RETRY));
        }
        self.tokens.fill(now);
        self.tokens
            .take(tokens)
            .map_err(|wait| limited("tokens", format!("{tokens_per_minute} tokens a minute are allowed for this key"), wait))?;
        self.running += 1;
        Ok(())
    }

    /// An answer has ended: what it did not use of `taken` is given back, what it used beyond that is taken too.
    pub fn end(&mut self, now: Time, taken: u32, used: u32) {
        self.tokens.fill(now);
        self.tokens.give_back(taken.saturating_sub(used));
        self.tokens.debit(used.saturating_sub(taken));
        self.running = self.running.saturating_sub(1);
    }

    /// Answers under way.
    pub const fn running(&self) -> u32 {
        self.running
    }

    /// What is left now.
    pub fn standing(&mut self, now: Time) -> Standing {
        self.requests.fill(now);
        self.tokens.fill(now);
        Standing {
            limits: self.limits,
            requests: self.requests.left(),
            tokens: self.tokens.left(),
            requests_reset: self.requests.until_full(),
            tokens_reset: self.tokens.until_full(),
        }
    }
}

fn limited(what: &'static str, allowed: String, wait: Duration) -> Refusal {
    let wait = wait.max(Duration::from_millis(1));
    let message = format!("{allowed}: ask again in {:.1} s", wait.as_secs_f64());
    Refusal { param: Some(what.to_owned()), ..Refusal::new(Kind::Limited, "rate_limit_exceeded", message) }.after(wait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { requests_per_minute: 3, tokens_per_minute: 600, running_max: 2 };

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn a_minutes_requests_pass_at_once_then_one_per_share_of_a_minute() {
        let mut meter = Meter::new(LIMITS, at(0));
        let passed: Vec<u64> = (0..100).filter(|now| meter.request(at(*now)).is_ok()).collect();
        assert_eq!(passed, [0, 1, 2, 20, 40, 60, 80]);
        let refusal = meter.request(at(99)).unwrap_err();
        assert_eq!((refusal.kind, refusal.retry_after), (Kind::Limited, Some(Duration::from_secs(1))));
        assert!(meter.request(at(100)).is_ok(), "it passes when it was told to come back");
    }

    #[test]
    fn tokens_are_taken_ahead_and_what_was_not_used_comes_back() {
        let mut meter = Meter::new(LIMITS, at(0));
        meter.begin(at(0), 500).unwrap();
        assert_eq!(meter.standing(at(0)).tokens, 100);
        let refusal = meter.begin(at(0), 200).unwrap_err();
        assert_eq!((refusal.param.as_deref(), refusal.retry_after), (Some("tokens"), Some(Duration::from_secs(10))));
        meter.end(at(0), 500, 50);
        meter.begin(at(0), 200).unwrap();
        let Standing { tokens, tokens_reset, .. } = meter.standing(at(0));
        assert_eq!(tokens, 350);
        assert_eq!((tokens_reset, meter.standing(at(25)).tokens), (Duration::from_secs(25), 600));
    }

    #[test]
    fn what_was_used_beyond_what_was_taken_is_taken_too() {
        let mut meter = Meter::new(LIMITS, at(0));
        meter.begin(at(0), 100).unwrap();
        meter.end(at(0), 100, 250);
        assert_eq!(meter.standing(at(0)).tokens, 350);
        meter.begin(at(0), 1).unwrap();
        meter.end(at(0), 1, u32::MAX);
        assert_eq!((meter.standing(at(0)).tokens, meter.standing(at(10)).tokens), (0, 100));
    }

    #[test]
    fn as_many_answers_at_once_as_are_allowed() {
        let mut meter = Meter::new(Limits { requests_per_minute: 100, ..LIMITS }, at(0));
        assert!(meter.begin(at(0), 1).is_ok() && meter.begin(at(0), 1).is_ok());
        assert!(meter.begin(at(0), 1).unwrap_err().message.contains("2 answers at once"));
        meter.end(at(0), 1, 1);
        assert!(meter.begin(at(0), 1).is_ok());
    }

    #[test]
    fn what_can_never_pass_is_no_matter_of_waiting() {
        let refusal = Meter::new(LIMITS, at(0)).begin(at(0), 601).unwrap_err();
        assert_eq!((refusal.kind, refusal.retry_after), (Kind::Invalid, None));
    }

    proptest! {
        /// However requests come, no window of a minute passes more than two minutes' worth (a full bucket and what fills meanwhile).
        #[test]
        fn a_minute_never_passes_more_than_is_allowed(steps in proptest::collection::vec((0u64..30, 1u32..400), 1..80)) {
            let mut meter = Meter::new(Limits { running_max: u32::MAX, ..LIMITS }, at(0));
            let (mut now, mut taken) = (0, Vec::new());
            for (wait, tokens) in steps {
                now += wait;
                if meter.request(at(now)).is_ok() && meter.begin(at(now), tokens).is_ok() {
                    taken.push((now, tokens));
                }
            }
            for (start, _) in &taken {
                let window = taken.iter().filter(|(at, _)| (*start..start + 60).contains(at));
                let (requests, tokens) = window.fold((0, 0), |(requests, sum), (_, tokens)| (requests + 1, sum + tokens));
                prop_assert!(requests <= 2 * LIMITS.requests_per_minute && tokens <= 2 * LIMITS.tokens_per_minute);
            }
        }

        /// Giving back never makes more than a full bucket, and a clock that stands still or goes back gives nothing.
        #[test]
        fn nothing_comes_from_nothing(unused in 0u32..u32::MAX, back in 0u64..100) {
            let mut meter = Meter::new(LIMITS, at(100));
            meter.begin(at(100), 600).unwrap();
            prop_assert!(meter.begin(at(100 - back), 1).is_err());
            meter.end(at(100), unused, 0);
            prop_assert!(meter.tokens.left() <= LIMITS.tokens_per_minute);
        }
    }
}
