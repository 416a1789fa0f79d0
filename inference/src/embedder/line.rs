//! The bounded line of requests before the encoder: first come, first served, and no asker has more than a quarter of its places.
//!
//! Whoever has gone has no place: such requests are taken out when another comes, and when their turn does. At the gateway's megabyte of texts each, a
//! line of sixteen is 16 MB.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{EmbedError, Embeddings};

/// Texts that wait, and who waits for them.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) asker: usize,
    pub(super) texts: Vec<String>,
    pub(super) reply: oneshot::Sender<Result<Embeddings, EmbedError>>,
}

/// The line. [`Line::close`] ends it.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    changed: Condvar,
    max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Request>,
    is_closed: bool,
}

impl Line {
    /// An empty one of `max` places.
    pub(super) fn new(max: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), max }
    }

    /// Puts a request behind the others.
    ///
    /// # Errors
    /// [`EmbedError::Busy`] if the line is full, [`EmbedError::BusyOwn`] if the asker's share of it is, [`EmbedError::Stopped`] once it is closed.
    pub(super) fn push(&self, request: Request) -> Result<(), EmbedError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(EmbedError::Stopped);
        }
        state.waiting.retain(|waiting| !waiting.reply.is_closed());
        if state.waiting.len() >= self.max {
            return Err(EmbedError::Busy { waiting: state.waiting.len() });
        }
        let own = state.waiting.iter().filter(|waiting| waiting.asker == request.asker).count();
        if own >= self.max.div_ceil(4) {
            return Err(EmbedError::BusyOwn { waiting: own });
        }
        state.waiting.push_back(request);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next request that somebody waits for. Blocks until there is one; none once the line is closed.
    pub(super) fn next(&self) -> Option<Request> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            match state.waiting.pop_front() {
                Some(request) if request.reply.is_closed() => {}
                Some(request) => return Some(request),
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Lets nobody in any more, and everybody who waits go.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<Embeddings, EmbedError>>;

    fn push(line: &Line, asker: usize, text: &str) -> Result<Answer, EmbedError> {
        let (reply, answer) = oneshot::channel();
        line.push(Request { asker, texts: vec![text.to_owned()], reply }).map(|()| answer)
    }

    #[test]
    fn a_full_line_takes_the_next_request_once_somebody_has_gone() {
        let line = Line::new(8);
        let mut all: Vec<Answer> = (0..8).map(|asker| push(&line, asker, "old").unwrap()).collect();
        assert!(matches!(push(&line, 9, "new").unwrap_err(), EmbedError::Busy { waiting: 8 }));
        drop(all.remove(3));
        let kept = push(&line, 9, "new").unwrap();
        assert!(matches!(push(&line, 10, "newer").unwrap_err(), EmbedError::Busy { waiting: 8 }));
        drop(all);
        let newer = push(&line, 10, "newer").unwrap();
        assert_eq!([line.next(), line.next()].map(|request| request.unwrap().texts), [["new"], ["newer"]]);
        drop((kept, newer));
    }

    #[test]
    fn one_asker_has_a_quarter_of_the_places_and_others_have_the_rest() {
        let line = Line::new(8);
        let own: Vec<Answer> = (0..2).map(|_| push(&line, 1, "own").unwrap()).collect();
        assert!(matches!(push(&line, 1, "own").unwrap_err(), EmbedError::BusyOwn { waiting: 2 }));
        let other = push(&line, 2, "other").unwrap();
        drop(own);
        let again = push(&line, 1, "again").unwrap();
        assert_eq!([line.next(), line.next()].map(|request| request.unwrap().texts), [["other"], ["again"]]);
        drop((other, again));
    }

    #[test]
    fn a_line_that_is_closed_lets_everybody_go_and_nobody_in() {
        let line = Line::new(8);
        let mut answer = push(&line, 1, "a").unwrap();
        line.close();
        assert!(answer.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert!(line.next().is_none());
        assert!(matches!(push(&line, 1, "a").unwrap_err(), EmbedError::Stopped));
    }
}
