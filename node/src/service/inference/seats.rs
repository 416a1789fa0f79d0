//! Answers under way, by whom they may be taken up: a seat each, at which the client's next stream knocks.
//!
//! The task that answers keeps everything it has while its client is gone, and waits at its seat; the stream that takes the answer up is handed to it.
//! So one task, one place in the engine and one held lane go with an answer however often its connection breaks. What is kept, and how
//! long, is decided by [`Shelf`].

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use inference::proto::{
    message::{Refusal, RefusalCode},
    payment::Serving,
    resume::{Bounds, Id, Shelf},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use types::{
    id::{Address, Hash32},
    time::Time,
};

use super::voice::Line;

/// What comes to a seat.
pub(super) enum Knock {
    /// A stream that wants the answer from a token on; told where to go, or why not.
    Resume { index: u32, reply: oneshot::Sender<Result<oneshot::Sender<Line>, Refusal>> },
    /// The client will not come back: it asks for the receipt, or anew.
    Dismiss,
}

/// The stream with which an answer goes on.
pub(super) struct Arrival {
    pub(super) line: Line,
    /// Tokens that its client has.
    pub(super) index: u32,
}

/// All seats.
#[derive(Debug)]
pub struct Seats {
    table: Mutex<Table>,
    started: Instant,
}

#[derive(Debug)]
struct Table {
    taken: BTreeMap<Id, Taken>,
    shelf: Shelf,
}

#[derive(Debug)]
struct Taken {
    signer: Address,
    lane: Hash32,
    knocks: mpsc::Sender<Knock>,
}

impl Seats {
    /// Nobody answers yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { table: Mutex::new(Table { taken: BTreeMap::new(), shelf: Shelf::new(bounds) }), started: Instant::now() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change is one step that does not panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers kept for clients that are gone.
    pub fn kept(&self) -> usize {
        self.table().shelf.len()
    }

    /// Keeps none any longer: those that are kept end now.
    pub fn close(&self) {
        let mut table = self.table();
        table.shelf.close();
        for (id, taken) in &table.taken {
            if table.shelf.is_kept(*id) {
                drop(taken.knocks.try_send(Knock::Dismiss));
            }
        }
    }

    /// A seat that nobody knows of yet.
    pub(super) fn seat(&self) -> Seat<'_> {
        // One who knocks is answered before the next may.
        let (to, knocks) = mpsc::channel(1);
        Seat { seats: self, id: None, payer: Address::default(), to, knocks }
    }

    /// Where to knock for an answer under way.
    pub(super) fn find(&self, id: Id) -> Option<mpsc::Sender<Knock>> {
        self.table().taken.get(&id).map(|taken| taken.knocks.clone())
    }

    /// Whether an answer was kept until its time ran out.
    pub(super) fn is_expired(&self, id: Id) -> bool {
        self.table().shelf.is_expired(id)
    }

    /// Ends what is kept for `signer` of this request, or on this lane; true if that was so and it has ended.
    pub(super) async fn dismiss(&self, signer: Address, request: Hash32, lane: Option<Hash32>, wait: Duration) -> bool {
        let ending: Vec<mpsc::Sender<Knock>> = {
            let table = self.table();
            let is_meant = |(id, taken): &(&Id, &Taken)| {
                taken.signer == signer && (id.0 == request || Some(taken.lane) == lane) && table.shelf.is_kept(**id)
            };
            table.taken.iter().filter(is_meant).map(|(_, taken)| taken.knocks.clone()).collect()
        };
        let has_any = !ending.is_empty();
        let all = async {
            for knocks in ending {
                drop(knocks.try_send(Knock::Dismiss));
                // Its task lets go of lane and request first.
                knocks.closed().await;
            }
        };
        tokio::time::timeout(wait, all).await.is_ok() && has_any
    }
}

/// The seat of one answer; gone when dropped.
#[derive(Debug)]
pub(super) struct Seat<'s> {
    seats: &'s Seats,
    id: Option<Id>,
    payer: Address,
    to: mpsc::Sender<Knock>,
    knocks: mpsc::Receiver<Knock>,
}

impl Seat<'_> {
    /// Makes the answer known to who signs for it. Its request is held: no other answer has this id.
    pub(super) fn take(&mut self, id: Id, payer: Address, signer: Address, lane: Hash32) {
        (self.id, self.payer) = (Some(id), payer);
        self.seats.table().taken.insert(id, Taken { signer, lane, knocks: self.to.clone() });
    }

    /// The next that knocks. May be dropped half-way.
    pub(super) async fn knock(&mut self) -> Knock {
        match self.knocks.recv().await {
            Some(knock) => knock,
            // Its own sender lives as long as it does.
            None => std::future::pending().await,
        }
    }

    /// Lets a stream in if it asks for what `serving` can give; one that cannot be let in is told why.
    pub(super) async fn admit(&self, knock: Knock, serving: &Serving) -> Option<Arrival> {
        let Knock::Resume { index, reply } = knock else { return None };
        if let Err(error) = serving.behind(index) {
            drop(reply.send(Err(Refusal { code: RefusalCode::Index, message: error.to_string() })));
            return None;
        }
        let (to, line) = oneshot::channel();
        reply.send(Ok(to)).ok()?;
        // Sent at once by a task of this process, or dropped by it.
        line.await.ok().map(|line| Arrival { line, index })
    }

    /// Waits for the client to come back, as long as its answer is kept.
    pub(super) async fn wait(&mut self, serving: &Serving) -> Option<Arrival> {
        let id = self.id?;
        let now = Time::default().after(self.seats.started.elapsed());
        let kept = self.seats.table().shelf.keep(id, self.payer, now);
        let until = kept.inspect_err(|why| tracing::info!(request = %id.0, %why, "an answer is not kept for its client")).ok()?;
        tracing::info!(request = %id.0, tokens = serving.tokens().len(), "the connection broke: the answer is kept for its client");
        let time = sleep(until.since(now));
        tokio::pin!(time);
        loop {
            tokio::select! {
                biased;
                knock = self.knock() => {
                    let is_dismissed = matches!(knock, Knock::Dismiss);
                    let arrival = self.admit(knock, serving).await;
                    if is_dismissed || arrival.is_some() {
                        self.seats.table().shelf.take(id);
                        return arrival;
                    }
                }
                () = &mut time => {
                    self.seats.table().shelf.expire(id);
                    return None;
                }
            }
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut table = self.seats.table();
            table.taken.remove(&id);
            table.shelf.take(id);
        }
    }
}
