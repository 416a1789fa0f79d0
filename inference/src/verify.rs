//! Re-execution of another node's answer.
//!
//! Prompt and claimed tokens are computed in one pass, as a prompt is: every position's logits follow from the tokens before it, whatever this engine
//! would have chosen there. In the profile `exact` a token passes if it is this engine's own choice; since all machines have the same bits, an honest
//! answer passes whole and the first token that differs is named. In `fast`, where they have not, [`resemble`] compares the answer's [`fingerprint`]s
//! instead, and a token passes that is near the choice.
//!
//! [`check`] gives the [`Digests`] of an exact one beside that, which an honest prover's must equal.
//!
//! Cost: a prefill of prompt and answer with the head at every position of the answer. A check takes its rows beside paying jobs, as a payer of its own.
//! It never looks into pages that others computed, so it finds what it is meant to find. [`sampled`] is cheaper by as much as it looks at less: some
//! chunks, drawn when it is too late to prepare for them, from pages that the answering node is bound to.

mod digest;
pub mod fingerprint;
pub mod sampled;

use types::fingerprint::Fingerprint;

use crate::Finish;
use crate::engine::{EngineError, EngineHandle};
use crate::proto::residency::AdapterId;
use crate::sampler::{Judgement, Options, TOLERANCE};

use fingerprint::Compared;

pub(crate) use digest::Trace;
pub use digest::{Digests, Hidden, position_digest, root};

/// How far below this engine's choice a claimed token may be in the profile `fast`, in logits: enough for rounding to turn a choice between two likely
/// tokens, far from enough for one out of nowhere. Measured on SmolLM2 (`tests/agreement.rs`): the choices of `exact` and `fast`, whose numbers differ by more
/// than those of two machines in `fast`, are 0.594 below each other's best at most (1,500 positions, of which 70 are turned), and of 725 tokens out of nowhere
/// 13 are near. What passes so, fingerprints still see.
pub const NEAR: f32 = 1.0;

/// When a claimed token passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is this engine's choice.
    Equal,
    /// It is at most [`NEAR`] below it.
    Near,
}

impl Rule {
    /// By how much logits of an honest node may differ, where that is asked.
    pub(crate) fn tolerance(self) -> f32 {
        match self {
            Self::Equal => TOLERANCE,
            Self::Near => NEAR,
        }
    }
}

/// What another node says it produced.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Tokens of the prompt, with the template around it.
    pub prompt: Vec<u32>,
    /// Tokens of the answer that came before this attempt; taken as given.
    pub continued: Vec<u32>,
    /// Tokens to check.
    pub tokens: Vec<u32>,
    /// Adapters with their scales, in the order of their application; all must be loaded.
    pub adapters: Vec<(AdapterId, f32)>,
    /// How tokens were chosen.
    pub options: Options,
    /// Seed of the choices.
    pub seed: [u8; 32],
    /// With [`Finish::Stop`] an end token must follow the last token, or a stop string end with it. [`Finish::Length`] and none are not checked here:
    /// the caller compares counts.
    pub finish: Option<Finish>,
}

impl Claim {
    /// Tokens to compute: prompt, continuation, and of the claim all whose logits somebody asks for. A token that cannot stand in an answer
    /// (`is_possible`) is judged but not computed, nor is what follows it.
    pub(crate) fn sequence(&self, is_possible: impl Fn(u32) -> bool) -> Vec<u32> {
        let possible = self.tokens.iter().take_while(|token| is_possible(**token)).count();
        // What follows the last token is asked for only if the answer is said to end there.
        let last = usize::from(possible == self.tokens.len() && self.finish != Some(Finish::Stop));
        let fed = &self.tokens[..possible.saturating_sub(last)];
        self.prompt.iter().chain(&self.continued).chain(fed).copied().collect()
    }
}

/// What a replay found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replay {
    /// Positions that passed.
    pub checked: u32,
    /// The first that did not; the replay ends there.
    pub mismatch: Option<Mismatch>,
}

/// A replay with the digests of what was computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What it found.
    pub replay: Replay,
    /// Up to the first mismatch, that choice of this engine's included; what was computed ahead of it is not told apart in the pages.
    pub digests: Digests,
}

/// A position that does not follow from the request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mismatch {
    /// Position in the answer, counted from its very first token (the continued ones included).
    pub position: u32,
    /// What this engine chooses.
    pub expected: u32,
    /// What was claimed.
    pub got: u32,
    /// How far the claim is below the choice, in logits; infinite if it could not be chosen at all.
    pub margin: f32,
}

/// Checks a claim. Its adapters must be loaded. Dropping the future stops the replay.
///
/// # Errors
/// [`EngineError`] if the claim cannot be run at all: unknown adapter, too long, no prompt, engine busy.
pub async fn replay(engine: &EngineHandle, claim: Claim) -> Result<Replay, EngineError> {
    Ok(engine.replay(claim, false).await?.replay)
}

/// The same, with digests: some percent slower.
///
/// # Errors
/// As [`replay`].
pub async fn check(engine: &EngineHandle, claim: Claim) -> Result<Checked, EngineError> {
    engine.replay(claim, true).await
}

/// What a replay of a `fast` answer found.
#[derive(Debug, Clone, PartialEq)]
pub struct Resemblance {
    /// Of the tokens: the first that is far from this engine's choice, if one is.
    pub replay: Replay,
    /// Of the fingerprints, as far as tokens were computed.
    pub compared: Compared,
}

/// Checks a claim by its fingerprints, one for each [`types::fingerprint::POSITIONS`] tokens. Its adapters must be loaded. Dropping the future stops it.
///
/// # Errors
/// As [`replay`].
pub async fn resemble(engine: &EngineHandle, claim: Claim, fingerprints: &[Fingerprint]) -> Result<Resemblance, EngineError> {
    let (replay, own) = engine.recompute(claim).await?;
    Ok(Resemblance { replay, compared: fingerprint::compare_all(fingerprints, &own) })
}

/// Where a replay stands. Pure: it is told judgements and decides when it is over.
#[derive(Debug)]
pub(crate) struct Progress {
    rule: Rule,
    tokens: Vec<u32>,
    stop: bool,
    /// What is claimed after a stop string.
    after: Option<Mismatch>,
    checked: u32,
    result: Option<Replay>,
}

impl Progress {
    /// Of these tokens; `after` is what does not follow them, if it is known beforehand.
    pub(crate) fn new(rule: Rule, tokens: Vec<u32>, finish: Option<Finish>, after: Option<Mismatch>) -> Self {
        let stop = finish == Some(Finish::Stop);
        let empty = tokens.is_empty() && !stop;
        let result = empty.then_some(Replay { checked: 0, mismatch: after });
        Self { rule, tokens, stop, after, checked: 0, result }
    }

    /// The result, once there is one.
    pub(crate) fn complete(&self) -> Option<Replay> {
        self.result
    }

    /// When a token passes.
    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// Positions judged and passed.
    pub(crate) fn checked(&self) -> u32 {
        self.checked
    }

    /// The token claimed next, if one is.
    pub(crate) fn claimed(&self) -> Option<u32> {
        usize::try_from(self.checked).ok().and_then(|index| self.tokens.get(index)).copied()
    }

    /// Takes the judgement of the next position. `position` is its number in the answer.
    pub(crate) fn judge(&mut self, position: u32, eos: &[u32], judge: impl Fn(u32) -> Judgement) {
        let Some(token) = self.claimed() else { return self.judge_stop(position, eos, judge) };
        let mut judgement = judge(token);
        if eos.contains(&token) {
            // An end token is never part of an answer.
            judgement.margin = f32::INFINITY;
            judgement.passes = false;
        } else {
            judgement.passes = judgement.best == token || self.is_near(&judgement);
        }
        self.take(position, token, judgement, true);
    }

    fn judge_stop(&mut self, position: u32, eos: &[u32], judge: impl Fn(u32) -> Judgement) {
        let closest = eos.iter().map(|&token| (token, judge(token))).min_by(|a, b| a.1.margin.total_cmp(&b.1.margin));
        match closest {
            Some((token, judgement)) => {
                let passes = eos.contains(&judgement.best) || self.is_near(&judgement);
                self.take(position, token, Judgement { passes, ..judgement }, false);
            }
            // A model without end tokens never stops.
            None => self.take(position, u32::MAX, Judgement { margin: f32::INFINITY, passes: false, ..judge(u32::MAX) }, false),
        }
    }

    fn is_near(&self, judgement: &Judgement) -> bool {
        self.rule == Rule::Near && judgement.passes
    }

    fn take(&mut self, position: u32, got: u32, judgement: Judgement, is_token: bool) {
        if !judgement.passes {
            let Judgement { best, margin, .. } = judgement;
            let mismatch = Mismatch { position, expected: best, got, margin };
            self.result = Some(Replay { checked: self.checked, mismatch: Some(mismatch) });
            return;
        }
        self.checked += u32::from(is_token);
        let all = usize::try_from(self.checked).is_ok_and(|checked| checked >= self.tokens.len());
        if !is_token || (all && !self.stop) {
            self.result = Some(Replay { checked: self.checked, mismatch: self.after });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(tokens: &[u32], finish: Option<Finish>) -> Claim {
        let (prompt, continued) = (vec![1, 2], vec![3]);
        Claim { prompt, continued, tokens: tokens.to_vec(), adapters: vec![], options: Options::default(), seed: [0; 32], finish }
    }

    #[test]
    fn only_tokens_whose_successors_are_judged_are_computed() {
        let possible = |token: u32| token < 100;
        for (tokens, finish, expected) in [
            (&[4, 5][..], None, &[1, 2, 3, 4][..]),
            (&[4, 5], Some(Finish::Length), &[1, 2, 3, 4]),
            (&[4, 5], Some(Finish::Stop), &[1, 2, 3, 4, 5]),
            (&[], None, &[1, 2, 3]),
            (&[4, 100, 6], None, &[1, 2, 3, 4]),
            (&[100], Some(Finish::Stop), &[1, 2, 3]),
        ] {
            assert_eq!(claim(tokens, finish).sequence(possible), expected, "{tokens:?} {finish:?}");
        }
    }

    #[test]
    fn near_is_not_equal() {
        let judge = |best| move |_| Judgement { best, margin: 1e-9, passes: true };
        let mut progress = Progress::new(Rule::Equal, vec![4, 5], None, None);
        progress.judge(0, &[2], judge(4));
        assert_eq!((progress.complete(), progress.checked()), (None, 1));
        progress.judge(1, &[2], judge(6));
        let mismatch = progress.complete().unwrap().mismatch.unwrap();
        assert_eq!((mismatch.position, mismatch.expected, mismatch.got), (1, 6, 5));
    }

    #[test]
    fn where_machines_differ_a_token_near_the_choice_passes_and_an_end_token_inside_an_answer_never() {
        let judge = |passes| move |_| Judgement { best: 6, margin: 0.4, passes };
        let mut progress = Progress::new(Rule::Near, vec![4, 5], Some(Finish::Stop), None);
        progress.judge(0, &[2], judge(true));
        assert_eq!((progress.complete(), progress.checked()), (None, 1));
        progress.judge(1, &[2], judge(false));
        assert_eq!(progress.complete().unwrap().mismatch.unwrap().position, 1);
        let mut end = Progress::new(Rule::Near, vec![2], None, None);
        end.judge(0, &[2], judge(true));
        assert!(end.complete().unwrap().mismatch.is_some());
        let mut stop = Progress::new(Rule::Near, vec![], Some(Finish::Stop), None);
        stop.judge(0, &[2], judge(true));
        assert_eq!(stop.complete(), Some(Replay { checked: 0, mismatch: None }));
    }

    #[test]
    fn what_is_claimed_after_a_stop_string_does_not_pass_however_it_was_chosen() {
        let after = Mismatch { position: 2, expected: 2, got: 9, margin: f32::INFINITY };
        let mut progress = Progress::new(Rule::Equal, vec![4, 5], None, Some(after));
        for (position, token) in [(0, 4), (1, 5)] {
            assert_eq!(progress.complete(), None);
            progress.judge(position, &[2], |_| Judgement { best: token, margin: 0.0, passes: true });
        }
        assert_eq!(progress.complete(), Some(Replay { checked: 2, mismatch: Some(after) }));
    }

    #[test]
    fn any_end_token_ends_and_none_but_one_does() {
        for (best, passes) in [(2, true), (3, true), (7, false)] {
            let mut progress = Progress::new(Rule::Equal, vec![], Some(Finish::Stop), None);
            progress.judge(0, &[2, 3], |token| Judgement { best, margin: f32::from(u8::try_from(token).unwrap()), passes: token == best });
            assert_eq!(progress.complete().unwrap().mismatch.is_none(), passes, "{best}");
        }
        let mut progress = Progress::new(Rule::Equal, vec![2], None, None);
        progress.judge(0, &[2, 3], |_| Judgement { best: 2, margin: 0.0, passes: true });
        assert!(progress.complete().unwrap().mismatch.is_some(), "an end token inside an answer");
    }
}
