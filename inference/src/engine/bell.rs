//! How callers reach the owner: a bounded queue of commands, and lines to look at.
//!
//! A line stands here at most once however often it rings, so a token needs no place in the queue, and hanging up always gets through. The owner
//! takes everything at once. Who rings wakes it only if it waits for that. Notices of the store wait there; here is only that there are some.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::line::Line;
use super::owner::Command;

/// Lines there is room for from the start.
const LINES: usize = 256;

/// The way in.
#[derive(Debug)]
pub(super) struct Bell {
    commands_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    heard: Heard,
    /// While the owner waits: for how many lines; a command always wakes it.
    waits_for: Option<usize>,
    /// Whether the store has notices that the owner has not looked for.
    has_notices: bool,
    is_closed: bool,
}

/// What the owner takes.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) commands: VecDeque<Command>,
    pub(super) lines: Vec<Arc<Line>>,
}

/// How long the owner waits for something to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    No,
    For(Duration),
    Forever,
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// So many wait already.
    Full(usize),
    /// The owner is gone.
    Closed,
}

impl Heard {
    pub(super) fn new(commands_max: usize) -> Self {
        Self { commands: VecDeque::with_capacity(commands_max), lines: Vec::with_capacity(LINES) }
    }
}

impl Bell {
    pub(super) fn new(commands_max: usize) -> Self {
        let state = State { heard: Heard::new(commands_max), waits_for: None, has_notices: false, is_closed: false };
        Self { commands_max, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Queues a command.
    pub(super) fn offer(&self, command: Command) -> Result<(), NotTaken> {
        let mut state = self.state();
        if state.is_closed {
            return Err(NotTaken::Closed);
        }
        let queued = state.heard.commands.len();
        if queued >= self.commands_max {
            return Err(NotTaken::Full(queued));
        }
        state.heard.commands.push_back(command);
        self.wake(&state);
        Ok(())
    }

    /// Has the owner look for notices of its store.
    pub(super) fn notify(&self) {
        let mut state = self.state();
        state.has_notices = true;
        self.wake(&state);
    }

    fn wake(&self, state: &State) {
        if state.waits_for.is_some() {
            self.changed.notify_one();
        }
    }

    /// Has the owner look at a line.
    pub(super) fn ring(&self, line: &Arc<Line>) {
        if line.mark() {
            return;
        }
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        state.heard.lines.push(Arc::clone(line));
        if state.waits_for.is_some_and(|lines| state.heard.lines.len() >= lines) {
            self.changed.notify_one();
        }
    }

    /// Nothing more is taken in; the owner ends. Returns what nobody will look at.
    pub(super) fn close(&self) -> Heard {
        let mut state = self.state();
        state.is_closed = true;
        self.changed.notify_one();
        std::mem::replace(&mut state.heard, Heard::new(0))
    }

    /// Waits until there is a command or a notice, or `lines` lines rang, but no longer than `patience`; then hands over all there is. False once
    /// the bell is closed. `heard` must be empty; the two sides swap their rooms.
    pub(super) fn hear(&self, patience: Patience, lines: usize, heard: &mut Heard) -> bool {
        let until = match patience {
            Patience::For(wait) => Some(Instant::now() + wait),
            Patience::No | Patience::Forever => None,
        };
        let mut state = self.state();
        let is_quiet = |state: &State| state.heard.commands.is_empty() && !state.has_notices && state.heard.lines.len() < lines;
        while patience != Patience::No && !state.is_closed && is_quiet(&state) {
            state.waits_for = Some(lines);
            state = match until {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        (state.waits_for, state.has_notices) = (None, false);
        std::mem::swap(&mut state.heard, heard);
        !state.is_closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::line::Ticket;

    fn command() -> Command {
        Command::Stats { reply: oneshot::channel().0 }
    }

    #[test]
    fn commands_beyond_the_bound_are_refused_and_lines_never() {
        let (bell, mut heard) = (Arc::new(Bell::new(2)), Heard::new(2));
        assert_eq!((bell.offer(command()), bell.offer(command()), bell.offer(command())), (Ok(()), Ok(()), Err(NotTaken::Full(2))));
        let lines: Vec<_> = (0..300).map(|_| Line::new(0, None)).collect();
        for line in lines.iter().chain(&lines) {
            bell.ring(line);
        }
        assert!(bell.hear(Patience::Forever, 1_000, &mut heard), "a command is enough");
        assert_eq!((heard.commands.len(), heard.lines.len()), (2, 300), "each line once");
        heard.commands.clear();
        heard.lines.drain(..).for_each(|line| line.unmark());
        bell.ring(&lines[7]);
        assert!(bell.hear(Patience::No, 0, &mut heard) && heard.lines.len() == 1, "and again when it was looked at");
        assert_eq!(bell.offer(command()), Ok(()), "there is room again");
    }

    #[test]
    fn who_waits_for_several_lines_hears_them_together_or_when_time_is_up() {
        let (bell, mut heard) = (Arc::new(Bell::new(1)), Heard::new(1));
        let lines: Vec<_> = (0..3).map(|_| Line::new(0, None)).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| lines.iter().for_each(|line| bell.ring(line)));
            assert!(bell.hear(Patience::Forever, 3, &mut heard));
        });
        assert_eq!(heard.lines.len(), 3);
        heard.lines.drain(..).for_each(|line| line.unmark());
        bell.ring(&lines[0]);
        let begun = Instant::now();
        assert!(bell.hear(Patience::For(Duration::from_millis(20)), 2, &mut heard));
        assert!(begun.elapsed() >= Duration::from_millis(20) && heard.lines.len() == 1);
    }

    #[test]
    fn a_notice_wakes_whoever_waits_once() {
        let (bell, mut heard) = (Arc::new(Bell::new(1)), Heard::new(1));
        std::thread::scope(|scope| {
            scope.spawn(|| bell.notify());
            assert!(bell.hear(Patience::Forever, 1, &mut heard));
        });
        let begun = Instant::now();
        assert!(bell.hear(Patience::For(Duration::from_millis(20)), 1, &mut heard));
        assert!(begun.elapsed() >= Duration::from_millis(20) && heard.commands.is_empty() && heard.lines.is_empty());
    }

    #[test]
    fn a_closed_bell_takes_nothing_and_wakes_the_owner() {
        let (bell, mut heard) = (Arc::new(Bell::new(1)), Heard::new(1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Heard before or after it is closed, by the waiting one or by nobody.
                let _ = bell.offer(command());
                drop(bell.close());
            });
            while bell.hear(Patience::Forever, 1, &mut heard) {
                heard.commands.clear();
            }
            heard.commands.clear();
        });
        assert_eq!(bell.offer(command()), Err(NotTaken::Closed));
        bell.notify();
        drop(Ticket { line: Line::new(0, None), bell: Arc::clone(&bell) });
        assert!(!bell.hear(Patience::Forever, 1, &mut heard));
        assert!(heard.commands.is_empty() && heard.lines.is_empty());
    }
}
