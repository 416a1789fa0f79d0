//! The line between one caller and the owner: permission and hanging up go one way, tokens and the end the other.
//!
//! A token costs a lock that nobody holds for long and a wake of the caller; nothing is allocated, because whoever gives credit makes room for
//! as many tokens.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::Finish;
use crate::proto::scheduler::JobId;
use crate::verify::fingerprint::Largest;
use crate::verify::{Digests, Hidden};

use super::bell::Bell;
use super::{EngineError, Step};

/// What stands for a job that was not accepted yet; numbers of jobs begin at 1.
const NONE: u64 = 0;

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    job: AtomicU64,
    /// Tokens the caller allows and the owner has not heard of.
    credit: AtomicU32,
    /// Rows that the device computed for it.
    computed: AtomicU32,
    is_cancelled: AtomicBool,
    /// Whether it stands among those that the owner is to look at.
    is_rung: AtomicBool,
    mailbox: Mutex<Mailbox>,
    /// What fingerprints need of each token, if they are asked for.
    largest: Option<Shared>,
}

/// What fingerprints need, kept by the owner and looked at by the caller, also when the job is over.
pub(super) type Shared = Arc<Mutex<Largest>>;

#[derive(Debug)]
struct Mailbox {
    tokens: VecDeque<u32>,
    /// With each of them, if the caller asked for logarithms; else empty.
    told: VecDeque<Told>,
    /// Number of the first token in the box.
    index: u32,
    end: Option<End>,
    waker: Option<Waker>,
}

/// Tokens with the logarithms of their probabilities ([`crate::sampler::Choice::logprobs`]).
pub(super) type Told = Box<[(u32, i32)]>;

/// How a generation ended, and what it leaves if it was asked to.
pub(super) type End = Result<(Finish, Option<Digests>), EngineError>;

/// What the caller takes out.
pub(super) enum Taken {
    Token(Step, Option<Told>),
    End(End),
}

impl Line {
    /// For a job whose next token has the number `index`.
    pub(super) fn new(index: u32, largest: Option<Shared>) -> Arc<Self> {
        Arc::new(Self {
            job: AtomicU64::new(NONE),
            credit: AtomicU32::new(0),
            computed: AtomicU32::new(0),
            is_cancelled: AtomicBool::new(false),
            is_rung: AtomicBool::new(false),
            mailbox: Mutex::new(Mailbox { tokens: VecDeque::new(), told: VecDeque::new(), index, end: None, waker: None }),
            largest,
        })
    }

    /// The job, once it is accepted.
    pub(super) fn job(&self) -> Option<JobId> {
        Some(self.job.load(Ordering::Acquire)).filter(|job| *job != NONE).map(JobId)
    }

    pub(super) fn accepted(&self, job: JobId) {
        self.job.store(job.0, Ordering::Release);
    }

    /// Allows `tokens` more.
    pub(super) fn grant(&self, tokens: u32) {
        let room = usize::try_from(tokens.min(super::AHEAD_MAX)).unwrap_or(0);
        self.mailbox().tokens.reserve(room);
        if let Some(mut largest) = self.largest() {
            largest.reserve(room);
        }
        let add = |credit: u32| Some(credit.saturating_add(tokens));
        // The function never refuses.
        let _ = self.credit.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
    }

    /// Takes in what the head read where a token was chosen.
    pub(super) fn read(&self, hidden: Hidden<'_>) {
        if let Some(mut largest) = self.largest() {
            largest.push_hidden(hidden);
        }
    }

    fn largest(&self) -> Option<MutexGuard<'_, Largest>> {
        self.largest.as_ref().map(|largest| largest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts `rows` more as computed; the owner alone does.
    pub(super) fn count(&self, rows: u32) {
        self.computed.store(self.computed().saturating_add(rows), Ordering::Relaxed);
    }

    pub(super) fn computed(&self) -> u32 {
        self.computed.load(Ordering::Relaxed)
    }

    pub(super) fn take_credit(&self) -> u32 {
        self.credit.swap(0, Ordering::AcqRel)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Marks the line as rung; true if it was already.
    pub(super) fn mark(&self) -> bool {
        self.is_rung.swap(true, Ordering::AcqRel)
    }

    pub(super) fn unmark(&self) {
        self.is_rung.store(false, Ordering::Release);
    }

    /// Puts tokens in, with what is told of each or of none, and wakes the caller.
    pub(super) fn send(&self, tokens: &[u32], told: impl Iterator<Item = Told>) {
        let mut mailbox = self.mailbox();
        mailbox.tokens.extend(tokens);
        mailbox.told.extend(told);
        Self::wake(mailbox);
    }

    /// Says that nothing follows. The first word counts.
    pub(super) fn end(&self, end: End) {
        let mut mailbox = self.mailbox();
        mailbox.end.get_or_insert(end);
        Self::wake(mailbox);
    }

    fn wake(mut mailbox: MutexGuard<'_, Mailbox>) {
        let waker = mailbox.waker.take();
        drop(mailbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the next thing out, or leaves a waker.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Taken> {
        let mut mailbox = self.mailbox();
        if let Some(token) = mailbox.tokens.pop_front() {
            let index = mailbox.index;
            mailbox.index += 1;
            return Poll::Ready(Taken::Token(Step::Token { token, index }, mailbox.told.pop_front()));
        }
        if let Some(end) = mailbox.end.take() {
            return Poll::Ready(Taken::End(end));
        }
        mailbox.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller's end of a line; dropping it, wherever it is, gives the job up.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) line: Arc<Line>,
    pub(super) bell: Arc<Bell>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.line.is_cancelled.store(true, Ordering::Release);
        self.bell.ring(&self.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(line: &Line) -> Poll<Taken> {
        line.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn tokens_come_in_order_with_their_numbers_and_then_the_end() {
        let line = Line::new(5, None);
        assert!(poll(&line).is_pending());
        let told = |token| Box::from([(token, -3)]);
        line.send(&[7, 8], [told(7), told(8)].into_iter());
        line.send(&[9], [told(9)].into_iter());
        line.end(Ok((Finish::Length, None)));
        line.end(Err(EngineError::Stopped));
        for (index, token) in (5..).zip([7, 8, 9]) {
            assert!(
                matches!(poll(&line), Poll::Ready(Taken::Token(step, Some(of))) if step == Step::Token { token, index } && of == told(token))
            );
        }
        assert!(matches!(poll(&line), Poll::Ready(Taken::End(Ok((Finish::Length, None))))), "the first word counts");
    }

    #[test]
    fn credit_adds_up_and_is_taken_once() {
        let line = Line::new(0, None);
        line.grant(3);
        line.grant(u32::MAX);
        assert_eq!((line.take_credit(), line.take_credit()), (u32::MAX, 0));
        assert_eq!(line.job(), None);
        line.accepted(JobId(9));
        assert_eq!(line.job(), Some(JobId(9)));
    }
}
