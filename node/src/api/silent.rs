//! Connections that ask nothing now, in the order in which they give way: where there is no room, the one that has been silent longest is closed for
//! the next. Who opens hundreds and says nothing keeps nobody out; who has asked is let go only while nothing of it is under way.
//!
//! Size: about 100 bytes a connection.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

/// The silent ones, the longest silent first.
#[derive(Debug, Default)]
pub(super) struct Silent {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

/// One connection, silent from its beginning.
#[derive(Debug)]
pub(super) struct Voice {
    silent: Arc<Silent>,
    state: Mutex<State>,
    cut: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// Requests under way: one behind the other, but the next head may come before the last body is let go.
    asking: usize,
    /// Its place among the silent.
    place: Option<u64>,
}

/// A request under way; dropped, its connection is silent again unless it has another.
#[derive(Debug)]
pub(super) struct Asking(Arc<Voice>);

impl Silent {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change is one step that does not panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, closed when `cut` is cancelled.
    pub(super) fn voice(self: &Arc<Self>, cut: CancellationToken) -> Arc<Voice> {
        let place = self.enter(cut.clone());
        Arc::new(Voice { silent: Arc::clone(self), state: Mutex::new(State { asking: 0, place: Some(place) }), cut })
    }

    fn enter(&self, cut: CancellationToken) -> u64 {
        let mut table = self.table();
        let place = table.next;
        table.next += 1;
        table.waiting.insert(place, cut);
        place
    }

    /// Closes the one that has been silent longest; false if all have something under way.
    pub(super) fn let_go(&self) -> bool {
        let longest = self.table().waiting.pop_first();
        longest.map(|(_, cut)| cut.cancel()).is_some()
    }
}

impl Voice {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come.
    pub(super) fn asks(self: &Arc<Self>) -> Asking {
        let mut state = self.state();
        state.asking += 1;
        if let Some(place) = state.place.take() {
            self.silent.table().waiting.remove(&place);
        }
        Asking(Arc::clone(self))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.asking -= 1;
        if state.asking == 0 {
            state.place = Some(self.0.silent.enter(self.0.cut.clone()));
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        if let Some(place) = self.state().place.take() {
            self.silent.table().waiting.remove(&place);
        }
    }
}

/// The body of an answer: its request is under way until it is sent or given up.
#[derive(Debug)]
pub(super) struct Spoken {
    body: Body,
    _asking: Asking,
}

impl Spoken {
    pub(super) const fn new(body: Body, asking: Asking) -> Self {
        Self { body, _asking: asking }
    }
}

impl HttpBody for Spoken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_gives_way_and_nobody_who_has_something_under_way() {
        let silent = Arc::new(Silent::default());
        let cuts: Vec<CancellationToken> = (0..3).map(|_| CancellationToken::new()).collect();
        let voices: Vec<Arc<Voice>> = cuts.iter().map(|cut| silent.voice(cut.clone())).collect();
        let asking = voices[0].asks();
        assert!(silent.let_go());
        let is_cut = || cuts.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        assert_eq!(is_cut(), [false, true, false]);
        // The first has been answered, and is silent for a shorter time than the last.
        let next = voices[0].asks();
        drop(asking);
        assert_eq!(silent.table().waiting.len(), 1, "its next request is under way");
        drop(next);
        assert!(silent.let_go());
        assert_eq!(is_cut(), [false, true, true]);
        assert!(silent.let_go());
        assert!(!silent.let_go());
        drop(voices);
        assert_eq!(silent.table().waiting.len(), 0);
    }

    #[test]
    fn a_connection_that_ends_is_not_remembered() {
        let silent = Arc::new(Silent::default());
        drop(silent.voice(CancellationToken::new()));
        assert!(silent.table().waiting.is_empty());
    }
}
