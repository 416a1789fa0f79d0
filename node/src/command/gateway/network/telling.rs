//! What a client is told: an answer with its receipt and sources, or why there is none.

use std::time::Duration;

use anyhow::Context as _;
use inference::proto::{draft::Cause, once::OnceError, spending::Refused};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use types::{amount::Amount, encoding::Document as _, receipt::Reason as Ended};

use crate::{
    api::{
        Kind, Refusal,
        source::{Attributed, Event, Finished, Reason, Settled, Signed, Usage},
    },
    ask::{Answered, Unanswered},
    command::ask::{NoneFits, sources},
    notice::{Failed, Notice},
    words,
};

/// When to come back if nobody offers what is asked for.
const NO_NODE_RETRY: Duration = Duration::from_secs(5);
/// And if who offers it has no room, or is not there at this moment: it was waited for already.
const NOT_NOW_RETRY: Duration = Duration::from_secs(5);
/// Whatever a node says, nobody is sent away for longer: others may come.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// An answer as it is kept under an idempotency key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) reason: Reason,
    pub(super) usage: Usage,
    pub(super) settled: Option<Settled>,
}

/// Nobody offers it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no registered node offers this model now")]
pub(super) struct NoNode;

/// A part of it was answered by an earlier process.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this was answered under the same key before, and how likely its tokens were is not kept: ask without logprobs under another key")]
pub(super) struct NotTold;

pub(super) fn finished(answered: &Answered) -> anyhow::Result<Finished> {
    let (receipt, bundle) = (&answered.bundle.receipt.document, &answered.bundle);
    // A grammar that costs too much or ends nowhere cuts an answer off as the limit does: whoever reads it must not take it for whole.
    let reason = if answered.reason == Ended::Stop { Reason::Stop } else { Reason::Length };
    // What earlier attempts delivered is read again by the last one: it is the answer's, not the question's.
    let tokens_in = receipt.tokens_in.saturating_sub(receipt.first_token);
    let usage = Usage { tokens_in, tokens_out: u32::try_from(answered.tokens.len())? };
    let signed = Signed {
        hash: receipt.hash(),
        request: receipt.request,
        attempt: receipt.attempt,
        node: receipt.node,
        manifest: receipt.manifest,
        fee_wei: receipt.fee,
        at_most_wei: Amount::sum(answered.attempts.iter().map(|attempt| attempt.charged_at_most_wei))?,
    };
    let attribution = sources(bundle)?.into_iter().map(|source| Attributed {
        quote: source.quote,
        contributor: source.contributor,
        datanet: source.datanet.to_string(),
        weight: source.weight,
        amount_wei: source.wei,
    });
    Ok(Finished { reason, usage, settled: Some(Settled { receipt: signed, attribution: attribution.collect() }) })
}

/// What was said by a model that ended before its first token: nothing, and for nothing, by its node's signed word. To OpenAI's clients that is an answer.
pub(super) fn empty(unanswered: &Unanswered) -> Option<Finished> {
    let Notice { tokens: 0, signed, .. } = &unanswered.notice else { return None };
    let receipt = &signed.iter().find(|signed| signed.document.reason == Ended::Empty)?.document;
    let usage = Usage { tokens_in: receipt.tokens_in, tokens_out: 0 };
    Some(Finished { reason: Reason::Stop, usage, settled: None })
}

/// Gives what was answered before; nothing is asked or paid.
pub(super) async fn again(text: &str, to: &mpsc::Sender<Event>) -> anyhow::Result<Finished> {
    let Given { text, reason, usage, settled } =
        serde_json::from_str(text).context("the answer kept under this idempotency key is damaged")?;
    drop(to.send(Event::Token { bytes: text.into_bytes(), logprobs: None }).await);
    Ok(Finished { reason, usage, settled })
}

/// An error as a client is told of it. What may have cost something is not tried again by a program.
pub(super) fn failed(error: &anyhow::Error) -> Refusal {
    // Of several nodes each has a line, which is none in JSON.
    let said = format!("{error:#}").lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let said = words::line(&said).into_owned();
    let is = |found: bool, refusal: Refusal| found.then_some(refusal);
    let cause = |kind, code| Refusal::new(kind, code, said.clone());
    let known = is(error.is::<NoNode>(), cause(Kind::Busy, "no_node").after(NO_NODE_RETRY))
        // Prices and nodes come and go: what the operator allows may be offered in a moment.
        .or_else(|| is(error.is::<NoneFits>(), cause(Kind::Busy, "no_node").after(NO_NODE_RETRY)))
        .or_else(|| is(error.downcast_ref::<Refused>().is_some(), cause(Kind::Limited, "insufficient_quota").last()))
        .or_else(|| is(error.is::<NotTold>(), cause(Kind::Failed, "logprobs_not_kept").last()))
        .or_else(|| is(matches!(error.downcast_ref(), Some(OnceError::Differs(_))), cause(Kind::Differs, "idempotency_key_reused")))
        .or_else(|| is(error.downcast_ref::<OnceError>().is_some(), cause(Kind::Busy, "idempotency_keys_full").last()))
        .or_else(|| error.downcast_ref().and_then(askers).map(|fault| fault.told(said.clone())))
        .or_else(|| {
            let not_now = error.downcast_ref().filter(|unanswered| is_not_now(unanswered))?;
            Some(cause(Kind::Busy, "nodes_busy").after(not_now.retry.unwrap_or(NOT_NOW_RETRY).min(RETRY_MAX)))
        })
        .or_else(|| is(error.downcast_ref::<Unanswered>().is_some(), cause(Kind::Failed, "no_answer").last()));
    known.unwrap_or_else(|| {
        tracing::warn!(error = %said, "a question was not answered");
        cause(Kind::Failed, "no_answer").last()
    })
}

/// Whether every node that was asked said no or was not there, and none was promised anything: the same again costs nothing that was not said.
fn is_not_now(unanswered: &Unanswered) -> bool {
    let Notice { failed, charged_wei, .. } = &unanswered.notice;
    let is_free = |one: &Failed| one.charged_at_most_wei == Amount::ZERO && matches!(one.cause, Cause::Refused | Cause::Unreachable);
    *charged_wei == Amount::ZERO && !failed.is_empty() && failed.iter().all(is_free)
}

/// What keeps every node from answering, and is none of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It does not fit the context.
    Long,
    /// The question is wrong.
    Wrong,
    /// The payer does not cover it.
    Unpaid,
}

impl Fault {
    /// In OpenAI's words. An account that is empty is told as a share that is used up: asking again brings nothing before somebody pays.
    fn told(self, said: String) -> Refusal {
        match self {
            Self::Long => Refusal::new(Kind::Invalid, "context_length_exceeded", said),
            Self::Wrong => Refusal::new(Kind::Invalid, "invalid_value", said),
            Self::Unpaid => Refusal::new(Kind::Limited, "insufficient_quota", said).last(),
        }
    }
}

/// What is wrong with a question or its payer, if every node that was asked says so and none was promised anything.
fn askers(unanswered: &Unanswered) -> Option<Fault> {
    let fault = |one: &Failed| match one.cause {
        _ if one.charged_at_most_wei != Amount::ZERO => None,
        Cause::TooLong => Some(Fault::Long),
        Cause::Invalid => Some(Fault::Wrong),
        Cause::Unpaid => Some(Fault::Unpaid),
        _ => None,
    };
    let faults = unanswered.notice.failed.iter().map(fault).collect::<Option<Vec<_>>>()?;
    // Who was not paid has not read the question; a shorter one may pass all the others.
    [Fault::Unpaid, Fault::Long, Fault::Wrong].into_iter().find(|fault| faults.contains(fault))
}

#[cfg(test)]
mod tests {
    use futures::future::FutureExt as _;

    use types::id::{Address, Hash32};

    use super::*;
    use crate::api::source::EVENTS_MAX;

    #[test]
    fn an_error_says_whether_a_program_may_try_again() {
        let no_node = failed(&anyhow::Error::from(NoNode));
        assert_eq!((no_node.kind, no_node.is_final, no_node.retry_after), (Kind::Busy, false, Some(NO_NODE_RETRY)));
        let spent = failed(&anyhow::Error::from(Refused::Request { asked: Amount(2), cap: Amount(1) }).context("asking"));
        assert_eq!((spent.code, spent.is_final), ("insufficient_quota", true), "{spent}");
        let differs = failed(&OnceError::Differs("tokens was 1, is 2".into()).into());
        assert_eq!((differs.kind, differs.code), (Kind::Differs, "idempotency_key_reused"));
        let other = failed(&anyhow::anyhow!("the \u{1b}[2Jlane is damaged"));
        assert_eq!((other.kind, other.is_final), (Kind::Failed, true));
        assert!(!other.message.contains('\u{1b}'), "a peer's words obey no terminal: {other}");
    }

    #[test]
    fn an_answer_kept_under_a_key_comes_back_from_its_text() {
        let given = Given { text: "a".into(), reason: Reason::Length, usage: Usage { tokens_in: 1, tokens_out: 2 }, settled: None };
        let text = serde_json::to_string(&given).unwrap();
        let (to, mut events) = mpsc::channel(EVENTS_MAX);
        let finished = again(&text, &to).now_or_never().unwrap().unwrap();
        assert_eq!((finished.reason, finished.usage.tokens_out), (Reason::Length, 2));
        assert_eq!(events.try_recv().unwrap(), Event::Token { bytes: b"a".to_vec(), logprobs: None });
    }

    #[test]
    fn what_every_node_calls_wrong_or_unpaid_is_the_askers_and_costs_nothing() {
        let told = |causes: &[Cause], promised| {
            let failed = causes.iter().map(|cause| Failed {
                node: Address([1; 20]),
                attempt: 0,
                cause: *cause,
                words: cause.words().into(),
                why: "no".into(),
                tokens: 0,
                charged_at_most_wei: Amount(promised),
                is_signed: false,
                next: None,
            });
            let notice = Notice {
                request: Hash32::ZERO,
                at_s: 0,
                is_answered: false,
                tokens: 0,
                charged_wei: Amount::ZERO,
                promised_wei: Amount(promised),
                failed: failed.collect(),
                signed: vec![],
            };
            let why = "no node answered:\n  ab: no".to_owned();
            let retry = Some(Duration::from_millis(1_200));
            let refusal = failed_of(Unanswered { why, text: String::new(), is_whole: false, notice, kept: None, retry });
            assert_eq!(refusal.message, "no node answered: ab: no", "a line of its own is none in JSON");
            assert_eq!(refusal.retry_after, (refusal.code == "nodes_busy").then_some(Duration::from_millis(1_200)), "what the node said");
            (refusal.kind, refusal.code, refusal.is_final)
        };
        assert_eq!(told(&[Cause::TooLong, Cause::Invalid], 0), (Kind::Invalid, "context_length_exceeded", false));
        assert_eq!(told(&[Cause::Invalid], 0), (Kind::Invalid, "invalid_value", false));
        assert_eq!(told(&[Cause::Invalid, Cause::Broken], 0), (Kind::Failed, "no_answer", true), "another node might have answered");
        assert_eq!(told(&[Cause::Invalid], 1), (Kind::Failed, "no_answer", true), "something may be charged");
        assert_eq!(told(&[], 0), (Kind::Failed, "no_answer", true), "nobody was asked");
        let busy = (Kind::Busy, "nodes_busy", false);
        assert_eq!(told(&[Cause::Refused, Cause::Unreachable], 0), busy, "nobody had room: a program may ask again");
        assert_eq!(told(&[Cause::Refused], 1), (Kind::Failed, "no_answer", true), "something may be charged");
        assert_eq!(told(&[Cause::Refused, Cause::Silent], 0), (Kind::Failed, "no_answer", true), "one may be at it still");
        let unpaid = (Kind::Limited, "insufficient_quota", true);
        assert_eq!(told(&[Cause::Unpaid], 0), unpaid, "the payer's, and no bad gateway");
        assert_eq!(told(&[Cause::TooLong, Cause::Unpaid], 0), unpaid);
        assert_eq!(told(&[Cause::Unpaid, Cause::Silent], 0), (Kind::Failed, "no_answer", true), "another node might have been content");
        assert_eq!(told(&[Cause::Unpaid], 1), (Kind::Failed, "no_answer", true), "something may be charged");
    }

    fn failed_of(unanswered: Unanswered) -> Refusal {
        failed(&unanswered.into())
    }
}
