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
    resume::{Bounds, Id, Returns, Shelf},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant as Tick, sleep},
};
use tokio_util::sync::CancellationToken;
use types::{
    id::{Address, Hash32},
    time::Time,
};

use super::voice::Line;

/// A stream that wants the answer from a token on; told where to go, or why not.
pub(super) struct Knock {
    pub(super) index: u32,
    pub(super) reply: oneshot::Sender<Result<oneshot::Sender<Line>, Refusal>>,
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
    /// Beside the knocks, which may have no room: the client will not come back, since it asks for the receipt, or anew; or the node stops.
    dismissed: CancellationToken,
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
                taken.dismissed.cancel();
            }
        }
    }

    /// Whether the node is leaving.
    pub fn is_closed(&self) -> bool {
        self.table().shelf.is_closed()
    }

    /// A seat that nobody knows of yet.
    pub(super) fn seat(&self) -> Seat<'_> {
        // One who knocks is answered before the next may.
        let (to, knocks) = mpsc::channel(1);
        let dismissed = CancellationToken::new();
        Seat { seats: self, id: None, payer: Address::default(), to, knocks, dismissed, returns: Returns::default() }
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
        let ending: Vec<(mpsc::Sender<Knock>, CancellationToken)> = {
            let table = self.table();
            let is_meant = |(id, taken): &(&Id, &Taken)| {
                taken.signer == signer && (id.0 == request || Some(taken.lane) == lane) && table.shelf.is_kept(**id)
            };
            table.taken.iter().filter(is_meant).map(|(_, taken)| (taken.knocks.clone(), taken.dismissed.clone())).collect()
        };
        let has_any = !ending.is_empty();
        let all = async {
            for (_, dismissed) in &ending {
                dismissed.cancel();
            }
            for (knocks, _) in ending {
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
    dismissed: CancellationToken,
    returns: Returns,
}

impl Seat<'_> {
    /// Makes the answer known to who signs for it. Its request is held: no other answer has this id.
    pub(super) fn take(&mut self, id: Id, payer: Address, signer: Address, lane: Hash32) {
        (self.id, self.payer) = (Some(id), payer);
        self.seats.table().taken.insert(id, Taken { signer, lane, knocks: self.to.clone(), dismissed: self.dismissed.clone() });
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
    pub(super) async fn admit(&mut self, Knock { index, reply }: Knock, serving: &Serving) -> Option<Arrival> {
        self.returns.paid(serving.vouched().len());
        let may = serving.behind(index).map_err(|error| (RefusalCode::Index, error.to_string()));
        if let Err((code, message)) = may.and_then(|_| self.returns.check().map_err(|error| (RefusalCode::Busy, error.to_string()))) {
            drop(reply.send(Err(Refusal::new(code, message))));
            return None;
        }
        let (to, line) = oneshot::channel();
        reply.send(Ok(to)).ok()?;
        // Sent at once by a task of this process, or dropped by it.
        let line = line.await.ok()?;
        self.returns.returned();
        Some(Arrival { line, index })
    }

    /// Waits for the client to come back, as long as its answer is kept.
    pub(super) async fn wait(&mut self, serving: &Serving) -> Option<Arrival> {
        let id = self.id?;
        self.returns.paid(serving.vouched().len());
        if let Err(why) = self.returns.check() {
            tracing::info!(request = %id.0, %why, "an answer is not kept for its client");
            return None;
        }
        let now = Time::default().after(self.seats.started.elapsed());
        let kept = self.seats.table().shelf.keep(id, self.payer, now);
        let until = kept.inspect_err(|why| tracing::info!(request = %id.0, %why, "an answer is not kept for its client")).ok()?;
        tracing::info!(request = %id.0, tokens = serving.tokens().len(), "the connection broke: the answer is kept for its client");
        let (gone, dismissed) = (Tick::now(), self.dismissed.clone());
        let time = sleep(self.returns.left(until.since(now)));
        tokio::pin!(time);
        loop {
            tokio::select! {
                biased;
                () = dismissed.cancelled() => {
                    self.seats.table().shelf.take(id);
                    return None;
                }
                knock = self.knock() => {
                    if let Some(arrival) = self.admit(knock, serving).await {
                        self.seats.table().shelf.take(id);
                        self.returns.was_gone(gone.elapsed());
                        return Some(arrival);
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use inference::proto::payment::Terms;
    use types::{amount::Amount, quote::PROTOCOL_FEE};

    use super::*;

    /// An answer of which one token is paid.
    fn serving() -> Serving {
        let terms = Terms {
            lane: Hash32([1; 32]),
            request: Hash32([2; 32]),
            attempt: 0,
            quote: Hash32([3; 32]),
            continued: vec![],
            tokens_in: 10,
            base: Amount::ZERO,
            rate_in: Amount(1_000),
            rate_out: Amount(1_000),
            protocol_fee: PROTOCOL_FEE,
        };
        let mut serving = Serving::new(terms.clone(), 10, Amount(u128::MAX / 2_000)).unwrap();
        serving.token(7);
        serving.voucher(&terms.voucher(&[7]).unwrap()).unwrap();
        serving
    }

    #[tokio::test]
    async fn a_node_that_stops_ends_what_is_kept_also_while_two_streams_knock_for_it() {
        let (seats, serving, id) = (Seats::new(Bounds::default()), serving(), (Hash32([2; 32]), 0));
        let mut seat = seats.seat();
        seat.take(id, Address([4; 20]), Address([4; 20]), Hash32([1; 32]));
        let knocks = seats.find(id).unwrap();
        let mut waiting = Box::pin(seat.wait(&serving));
        assert!((&mut waiting).now_or_never().is_none());
        let knock = || {
            let (reply, told) = oneshot::channel();
            knocks.try_send(Knock { index: 1, reply }).map(|()| told).ok()
        };
        // The first is let in, and its stream awaited; behind it there is room for one, and for no word more.
        let mut first = knock().unwrap();
        assert!((&mut waiting).now_or_never().is_none());
        let second = knock().unwrap();
        assert!(knock().is_none());
        seats.close();
        drop(first.try_recv().unwrap().unwrap());
        assert!(waiting.await.is_none());
        drop(second);
        assert_eq!(seats.kept(), 0);
    }
}
