//! Which tokens a request has seen, and what that does to their logits.

use super::{Options, TokenSet};

/// Tokens of the prompt and of the answer so far, for penalties: 8 bytes for each distinct one.
///
/// What another node answered before a resumption belongs to the answer: whoever resumes pushes it too, or chooses otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By token, ascending.
    seen: Vec<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    token: u32,
    /// How often it is in the answer; 0 if in the prompt alone.
    answered: u32,
}

impl Counts {
    /// Of a prompt, with the template around it, before its answer.
    #[must_use]
    pub fn new(prompt: &[u32]) -> Self {
        let mut tokens = prompt.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        Self { seen: tokens.into_iter().map(|token| Seen { token, answered: 0 }).collect() }
    }

    /// Counts a token of the answer.
    pub fn push(&mut self, token: u32) {
        match self.seen.binary_search_by_key(&token, |seen| seen.token) {
            Ok(at) => self.seen[at].answered = self.seen[at].answered.saturating_add(1),
            Err(at) => self.seen.insert(at, Seen { token, answered: 1 }),
        }
    }

    /// How often a token is in the answer; none if it is neither there nor in the prompt.
    #[must_use]
    pub fn of(&self, token: u32) -> Option<u32> {
        self.seen.binary_search_by_key(&token, |seen| seen.token).ok().map(|at| self.seen[at].answered)
    }
}

/// Writes into `out` the logits as they are after bias, penalties and mask, in this order; each step in double precision, rounded to
/// `f32`. What is not finite becomes minus infinity: never chosen.
pub(super) fn adjust(logits: &[f32], options: &Options, seen: &Counts, allowed: Option<&TokenSet>, out: &mut Vec<f32>) {
    out.clear();
    out.extend(logits.iter().map(|&logit| if logit.is_finite() { logit } else { f32::NEG_INFINITY }));
    for &(token, milli) in &options.bias {
        change(out, token, |logit| logit + f64::from(milli) / 1_000.0);
    }
    if options.has_penalties() {
        let repeat = f64::from(options.repeat_milli);
        for &Seen { token, answered } in &seen.seen {
            change(out, token, |logit| if logit < 0.0 { logit * repeat / 1_000.0 } else { logit * 1_000.0 / repeat });
            if answered > 0 {
                let milli = i64::from(answered) * i64::from(options.frequency_milli) + i64::from(options.presence_milli);
                #[expect(clippy::cast_precision_loss, reason = "less than 2^53 for all that `check` accepts")]
                change(out, token, |logit| logit - milli as f64 / 1_000.0);
            }
        }
    }
    if let Some(allowed) = allowed {
        allowed.mask(out);
    }
}

/// Changes a token's logit, if the vocabulary has the token and the logit is finite.
fn change(logits: &mut [f32], token: u32, by: impl Fn(f64) -> f64) {
    let Some(logit) = usize::try_from(token).ok().and_then(|index| logits.get_mut(index)).filter(|logit| logit.is_finite()) else {
        return;
    };
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    let changed = by(f64::from(*logit)) as f32;
    *logit = changed.clamp(f32::MIN, f32::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: &Options, seen: &Counts, expected: [f32; 4]) {
        let mut out = Vec::new();
        adjust(&[2.0, -2.0, 1.0, 0.0], options, seen, None, &mut out);
        assert_eq!(out, expected);
    }

    fn seen() -> Counts {
        let mut counts = Counts::new(&[0, 1, 0]);
        [2, 2, 1].into_iter().for_each(|token| counts.push(token));
        counts
    }

    #[test]
    fn a_prompt_and_an_answer_are_counted_apart() {
        let counts = seen();
        assert_eq!([0, 1, 2, 3].map(|token| counts.of(token)), [Some(0), Some(1), Some(2), None]);
    }

    #[test]
    fn repetition_counts_the_prompt_and_makes_every_logit_smaller() {
        check(&Options { repeat_milli: 2_000, ..Options::default() }, &seen(), [1.0, -4.0, 0.5, 0.0]);
    }

    #[test]
    fn presence_and_frequency_count_the_answer_alone() {
        check(&Options { presence_milli: 500, ..Options::default() }, &seen(), [2.0, -2.5, 0.5, 0.0]);
        check(&Options { frequency_milli: 250, ..Options::default() }, &seen(), [2.0, -2.25, 0.5, 0.0]);
    }

    #[test]
    fn bias_comes_before_penalties() {
        let options = Options { bias: vec![(1, 3_000), (3, -500), (9, 1)], repeat_milli: 2_000, ..Options::default() };
        check(&options, &seen(), [1.0, 0.5, 0.5, -0.5]);
    }
}
