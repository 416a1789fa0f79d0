//! What the chain says, as views derived from its events: assets and versions, contributions in priority order, operators, escrow, epochs.
//!
//! Pure. [`State`] applies events in order; [`View`] holds the state at the finalized block and the events since, so a reorganisation drops the
//! events of replaced blocks and replays the rest on the finalized state: the books equal a fresh replay by construction. Events are keyed by
//! (block hash, log index). About 400 bytes an asset version, 250 a contribution; a rollback costs one copy of the state and the open events
//! (8 blocks on the devnet, about 900 on a chain that finalizes in half an hour).

pub mod case;
pub mod check;
pub mod erasure;
pub mod event;
pub mod manifest;
pub mod money;
mod object;
pub mod state;

use std::{collections::VecDeque, sync::Arc};

pub use case::{Closing, OpenCase};
pub use erasure::Erasure;
pub use event::{Event, Logged};
pub use state::State;
use types::time::BlockRef;

/// Why an event cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The event speaks of something no earlier event made.
    #[error("block {block}, log {log}: {what} is unknown: events before it are missing (was the deployment block right?)")]
    Unknown {
        /// Block number.
        block: u64,
        /// Log index.
        log: u32,
        /// What is unknown.
        what: String,
    },
    /// Events out of order.
    #[error("block {got} was applied after block {after}")]
    Order {
        /// The block applied last.
        after: u64,
        /// The block offered.
        got: u64,
    },
    /// A rollback past what is final.
    #[error("block {number} is not above the finalized block {finalized}")]
    Final {
        /// Asked for.
        number: u64,
        /// Finalized.
        finalized: u64,
    },
}

/// One block's events that are not final yet.
#[derive(Debug, Clone)]
struct Open {
    block: BlockRef,
    events: Vec<Logged>,
}

/// The state at the finalized block and at the tip.
#[derive(Debug, Clone, Default)]
pub struct View {
    finalized: Arc<State>,
    tail: VecDeque<Open>,
    latest: Arc<State>,
}

impl View {
    /// A view of nothing, before the deployment block.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state at the tip.
    pub fn latest(&self) -> Arc<State> {
        Arc::clone(&self.latest)
    }

    /// The state at the finalized block.
    pub fn finalized(&self) -> Arc<State> {
        Arc::clone(&self.finalized)
    }

    /// Applies one block's events, in log order; returns whether anything changed. A block that was applied already changes nothing.
    ///
    /// # Errors
    /// [`ViewError`]; the view is unchanged.
    pub fn apply(&mut self, block: BlockRef, events: Vec<Logged>) -> Result<bool, ViewError> {
        if let Some(last) = self.tail.back() {
            if last.block == block {
                return Ok(false);
            }
            if last.block.number >= block.number {
                return Err(ViewError::Order { after: last.block.number, got: block.number });
            }
        }
        if events.is_empty() {
            return Ok(false);
        }
        self.latest = Arc::new(replay((*self.latest).clone(), &events)?);
        self.tail.push_back(Open { block, events });
        Ok(true)
    }

    /// Applies events of final blocks straight to the finalized state: the way to catch up after a start.
    ///
    /// # Errors
    /// [`ViewError`]; the view is unchanged.
    pub fn apply_final(&mut self, events: &[Logged]) -> Result<(), ViewError> {
        if let Some(open) = self.tail.front() {
            return Err(ViewError::Order { after: open.block.number, got: events.first().map_or(0, |first| first.block.number) });
        }
        if !events.is_empty() {
            self.finalized = Arc::new(replay((*self.finalized).clone(), events)?);
            self.latest = Arc::clone(&self.finalized);
        }
        Ok(())
    }

    /// Takes back every block above `number`; returns whether anything changed.
    ///
    /// # Errors
    /// [`ViewError`] if a replay fails, which no sequence of applied blocks makes possible.
    pub fn rollback(&mut self, number: u64) -> Result<bool, ViewError> {
        let before = self.tail.len();
        while self.tail.back().is_some_and(|open| open.block.number > number) {
            self.tail.pop_back();
        }
        if self.tail.len() == before {
            return Ok(false);
        }
        let state = self.tail.iter().try_fold((*self.finalized).clone(), |state, open| replay(state, &open.events))?;
        self.latest = Arc::new(state);
        Ok(true)
    }

    /// Takes everything up to block `number` as final.
    ///
    /// # Errors
    /// [`ViewError`] if a replay fails, which no sequence of applied blocks makes possible.
    pub fn finalize(&mut self, number: u64) -> Result<bool, ViewError> {
        let mut state = None;
        while let Some(open) = self.tail.front().filter(|open| open.block.number <= number) {
            let base = state.take().unwrap_or_else(|| (*self.finalized).clone());
            state = Some(replay(base, &open.events)?);
            self.tail.pop_front();
        }
        let changed = state.is_some();
        if let Some(state) = state {
            self.finalized = Arc::new(state);
        }
        if self.tail.is_empty() {
            self.latest = Arc::clone(&self.finalized);
        }
        Ok(changed)
    }
}

fn replay(mut state: State, events: &[Logged]) -> Result<State, ViewError> {
    events.iter().try_for_each(|event| state.apply(event))?;
    Ok(state)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests;
