//! What one client saw of the nodes it asked: first-token times, failures, and whom it leaves alone for a while.
//!
//! A node that fails is left alone for [`BAN_MIN`], twice as long for each further failure in a row, [`BAN_MAX`] at most; a whole answer clears its name.
//! Being left alone means to be asked after all others, not never: where there is nobody else, a dead node costs no more than a refusal.
//! A failure weighs on the node's score beyond that, and half as much every [`ERROR_HALF_LIFE`]. A node that is full (`Refused`) has not failed: it weighs,
//! and is not left alone.
//!
//! [`NODES_MAX`] nodes of about 150 bytes with their place in the map are 0.6 MB; of more, the one not heard of for longest is forgotten, which one look
//! at all of them finds: 10 µs, once for each node that is new.

use std::{collections::BTreeMap, time::Duration};

use types::{id::NodeId, time::Time};

use crate::proto::draft::Cause;

/// Most nodes remembered.
pub const NODES_MAX: usize = 4_096;
/// How long a node that failed once is left alone.
pub const BAN_MIN: Duration = Duration::from_secs(15);
/// And one that never does otherwise.
pub const BAN_MAX: Duration = Duration::from_secs(600);
/// How long until a failure weighs half as much.
pub const ERROR_HALF_LIFE: Duration = Duration::from_secs(30);
/// A measure older than this says little of now: load comes and goes within minutes.
pub const STALE_AFTER: Duration = Duration::from_secs(120);
/// Weight of one failure, and of a refusal for want of room, in thousandths.
const FAILED_MILLI: u64 = 1_000;
const REFUSED_MILLI: u64 = 250;
/// Most that failures weigh together: sixteen.
const ERRORS_MAX_MILLI: u64 = 16_000;

/// What one client saw.
#[derive(Debug, Default)]
pub struct Memory {
    nodes: BTreeMap<NodeId, Seen>,
}

/// What it saw of one node.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Moving average of first-token times, and when it last moved.
    ttft: Option<(u32, Time)>,
    errors_milli: u64,
    errors_at: Time,
    /// Failures since the last whole answer.
    in_row: u32,
    banned_until: Time,
    heard_at: Time,
}

impl Memory {
    /// A first token came after that wait. The average moves by a quarter of the difference: four answers outweigh what was before them.
    pub fn on_first_token(&mut self, node: NodeId, waited: Duration, now: Time) {
        let ms = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX);
        let seen = self.seen(node, now);
        let average = seen.ttft.map_or(ms, |(old, _)| old - old / 4 + ms / 4);
        seen.ttft = Some((average, now));
    }

    /// A whole answer came with its receipt.
    pub fn on_answer(&mut self, node: NodeId, now: Time) {
        let seen = self.seen(node, now);
        (seen.in_row, seen.banned_until) = (0, Time(0));
    }

    /// An attempt there came to nothing. What is the question's or the payer's fault says nothing of the node.
    pub fn on_fault(&mut self, node: NodeId, cause: Cause, now: Time) {
        let is_failure = match cause {
            Cause::TooLong | Cause::Invalid | Cause::Unpaid | Cause::Empty | Cause::Interrupted => return,
            Cause::Refused => false,
            // An offer that is not as the ad was counts as a failure: who lures with a price is not asked for it again and again.
            Cause::Unreachable
            | Cause::Broken
            | Cause::Silent
            | Cause::Unfit
            | Cause::Misbehaved
            | Cause::NoReceipt
            | Cause::EngineFailure => true,
        };
        let seen = self.seen(node, now);
        let weight = if is_failure { FAILED_MILLI } else { REFUSED_MILLI };
        seen.errors_milli = (seen.errors_now(now) + weight).min(ERRORS_MAX_MILLI);
        seen.errors_at = now;
        if is_failure {
            let ban = BAN_MIN.saturating_mul(1 << seen.in_row.min(16)).min(BAN_MAX);
            seen.in_row = seen.in_row.saturating_add(1);
            seen.banned_until = now.after(ban);
        }
    }

    /// First-token time of a node, milliseconds, if one was measured.
    pub fn ttft_ms(&self, node: NodeId) -> Option<u32> {
        self.nodes.get(&node)?.ttft.map(|(ms, _)| ms)
    }

    /// Whether a node's measure is missing, or so old that it is worth a new one.
    pub fn is_stale(&self, node: NodeId, now: Time) -> bool {
        let measured = self.nodes.get(&node).and_then(|seen| seen.ttft);
        measured.is_none_or(|(_, at)| now.since(at) > STALE_AFTER)
    }

    /// Whether a node is left alone now.
    pub fn is_banned(&self, node: NodeId, now: Time) -> bool {
        self.nodes.get(&node).is_some_and(|seen| seen.banned_until > now)
    }

    /// What a node's failures weigh now, in thousandths of a fresh one.
    pub fn errors_milli(&self, node: NodeId, now: Time) -> u64 {
        self.nodes.get(&node).map_or(0, |seen| seen.errors_now(now))
    }

    /// Whether nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn seen(&mut self, node: NodeId, now: Time) -> &mut Seen {
        if self.nodes.len() >= NODES_MAX
            && !self.nodes.contains_key(&node)
            && let Some(oldest) = self.nodes.iter().min_by_key(|(_, seen)| seen.heard_at).map(|(node, _)| *node)
        {
            self.nodes.remove(&oldest);
        }
        let seen = self.nodes.entry(node).or_default();
        seen.heard_at = now;
        seen
    }
}

impl Seen {
    /// Halved for each whole half-life, and within one in a straight line between the halves: at most 6 % above the curve.
    fn errors_now(&self, now: Time) -> u64 {
        let half_us = u64::try_from(ERROR_HALF_LIFE.as_micros()).expect("half a minute fits");
        let age_us = now.0.saturating_sub(self.errors_at.0);
        let halved = self.errors_milli.checked_shr(u32::try_from(age_us / half_us).unwrap_or(u32::MAX)).unwrap_or(0);
        halved - halved * (age_us % half_us) / (2 * half_us)
    }
}
