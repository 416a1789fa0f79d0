//! The waiting room of a gate: shards on their way in and whole ones whose turn has not come, each in a file of its own.
//!
//! Who may be here, how fast a shard must come and who leaves for whom is [`Arrivals`]' to say. Memory: a piece (256 KiB) a stream. Disk: 1 GiB at most, removed as
//! soon as a shard's turn has come, its sender is gone or the gate is opened again.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex as Blocking, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use p2p::stream::FrameReceiver;
use storage::proto::gate::{
    PIECE_BYTES,
    arrivals::{ArrivalError, Arrivals, Ticket},
};
use tokio::{
    fs::File,
    io::AsyncWriteExt as _,
    sync::Notify,
    time::{Instant, timeout_at},
};
use types::id::Address;

use super::{Turned, away};
use crate::data::read_bounded;

/// The room.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    since: Instant,
    held: Blocking<Held>,
}

#[derive(Debug, Default)]
struct Held {
    arrivals: Arrivals,
    /// Told when its shard has to leave.
    leavers: BTreeMap<Ticket, Arc<Notify>>,
}

/// A place in it. Dropping it frees the place and removes the file.
#[derive(Debug)]
pub(super) struct Arrival<'r> {
    room: &'r Room,
    ticket: Ticket,
    leave: Arc<Notify>,
    path: PathBuf,
    bytes: u64,
}

impl From<ArrivalError> for Turned {
    fn from(error: ArrivalError) -> Self {
        away(error.to_string())
    }
}

impl Room {
    /// An empty room; what a killed node left in its folder is removed.
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        }
        Ok(Self { folder, since: Instant::now(), held: Blocking::default() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// A place for a shard of `bytes`.
    pub(super) fn enter(&self, contributor: Address, bytes: u64) -> Result<Arrival<'_>, ArrivalError> {
        let mut held = self.held();
        let (ticket, leaving) = held.arrivals.enter(self.now(), contributor, bytes)?;
        for leaver in leaving {
            if let Some(leave) = held.leavers.remove(&leaver) {
                leave.notify_one();
            }
        }
        let leave = Arc::new(Notify::new());
        held.leavers.insert(ticket, Arc::clone(&leave));
        let name = format!("{}-{}.shard", hex::encode(contributor.0), held.arrivals.begun());
        Ok(Arrival { room: self, ticket, leave, path: self.folder.join(name), bytes })
    }
}

impl Arrival<'_> {
    /// Reads the pieces of the shard to its end, as slowly as is allowed.
    pub(super) async fn receive(&self, receiver: &mut FrameReceiver) -> Result<(), Turned> {
        tokio::fs::create_dir_all(&self.room.folder).await.with_context(|| format!("{}", self.room.folder.display()))?;
        let mut file = File::create(&self.path).await.with_context(|| format!("{}", self.path.display()))?;
        let mut got = 0_u64;
        while !self.came(0)? {
            let due = self.room.since + self.room.held().arrivals.due(self.ticket)?;
            let next = tokio::select! {
                next = timeout_at(due, receiver.recv(PIECE_BYTES)) => next,
                () = self.leave.notified() => return Err(ArrivalError::SentAway.into()),
            };
            let Ok(piece) = next else {
                // The clock of the room says what it was too slow by.
                self.came(0)?;
                continue;
            };
            let piece = piece?.ok_or_else(|| away(format!("the shard ended after {got} of {} bytes", self.bytes)))?;
            got = got.saturating_add(piece.len() as u64);
            self.came(piece.len() as u64)?;
            file.write_all(&piece).await.with_context(|| format!("{}", self.path.display()))?;
        }
        Ok(file.flush().await.with_context(|| format!("{}", self.path.display()))?)
    }

    fn came(&self, bytes: u64) -> Result<bool, ArrivalError> {
        self.room.held().arrivals.came(self.room.now(), self.ticket, bytes)
    }

    /// The whole shard. Its place is free then.
    pub(super) async fn take(self) -> anyhow::Result<Vec<u8>> {
        let (path, bytes) = (self.path.clone(), self.bytes);
        let read = move || read_bounded(&path, bytes).with_context(|| format!("{}", path.display()));
        let shard = tokio::task::spawn_blocking(read).await??;
        anyhow::ensure!(shard.len() as u64 == self.bytes, "{} bytes of a shard of {} are on the disk", shard.len(), self.bytes);
        Ok(shard)
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut held = self.room.held();
        held.arrivals.leave(self.ticket);
        held.leavers.remove(&self.ticket);
        drop(held);
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a shard that has left is still on the disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p::{memory, stream::FrameSender};
    use storage::proto::gate::arrivals::{BYTES_PER_S_MIN, GRACE};
    use tokio::{sync::Semaphore, time::sleep};

    use super::*;

    const BYTES: u64 = 4 << 20;

    fn stream() -> (FrameSender, FrameReceiver) {
        let (near, far) = memory::pair();
        let ((sender, _), (_, receiver)) = (near.split(), far.split());
        (sender, receiver)
    }

    fn contributor(number: u8) -> Address {
        Address([number; 20])
    }

    /// As a gate does: a slot is taken when the shard is whole.
    async fn served(room: &Room, slots: &Semaphore, number: u8, mut receiver: FrameReceiver) -> Result<usize, String> {
        let arrival = room.enter(contributor(number), BYTES).map_err(|error| error.to_string())?;
        arrival.receive(&mut receiver).await.map_err(|turned| turned.to_string())?;
        let _slot = slots.acquire().await.map_err(|error| error.to_string())?;
        Ok(arrival.take().await.map_err(|error| format!("{error:#}"))?.len())
    }

    #[tokio::test(start_paused = true)]
    async fn two_who_send_a_byte_at_a_time_hold_up_nobody_and_are_turned_away() {
        let outer = tempfile::tempdir().unwrap();
        let (room, slots) = (Room::open(outer.path().join("arriving")).unwrap(), Semaphore::new(2));
        let ((mut slow_a, a), (mut slow_b, b), (mut honest, c)) = (stream(), stream(), stream());
        let trickle = async {
            // Until their streams are ended.
            while slow_a.send(&[0]).await.is_ok() && slow_b.send(&[0]).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let brings = async {
            sleep(Duration::from_secs(2)).await;
            for _ in 0..BYTES / (256 << 10) {
                honest.send(&[7; 256 << 10]).await.unwrap();
            }
            let sent = Instant::now();
            (sent, honest)
        };
        let slow = async {
            let outcomes = tokio::join!(served(&room, &slots, 1, a), served(&room, &slots, 2, b));
            (outcomes, Instant::now())
        };
        let quick = async { (served(&room, &slots, 3, c).await, Instant::now()) };
        let begun = Instant::now();
        let ((), (_, _honest), ((first, second), slow_end), (done, quick_end)) = tokio::join!(trickle, brings, slow, quick);
        assert_eq!(done, Ok(usize::try_from(BYTES).unwrap()));
        assert!(quick_end - begun < Duration::from_secs(5), "the honest one waited {:?}", quick_end - begun);
        for outcome in [first, second] {
            assert!(outcome.clone().unwrap_err().contains("arrives too slowly"), "{outcome:?}");
        }
        assert!((GRACE..GRACE * 2).contains(&(slow_end - begun)), "{:?}", slow_end - begun);
        assert_eq!(room.held().arrivals.held(), (0, 0));
        assert_eq!(std::fs::read_dir(outer.path().join("arriving")).unwrap().count(), 0, "what has left is off the disk");
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_as_slowly_as_is_allowed_is_let_in() {
        let outer = tempfile::tempdir().unwrap();
        let (room, slots) = (Room::open(outer.path().join("arriving")).unwrap(), Semaphore::new(1));
        let (mut sender, receiver) = stream();
        let send = async {
            for _ in 0..BYTES / BYTES_PER_S_MIN {
                sleep(Duration::from_secs(1)).await;
                sender.send(&vec![1; usize::try_from(BYTES_PER_S_MIN).unwrap()]).await.unwrap();
            }
            sender
        };
        let (done, _sender) = tokio::join!(served(&room, &slots, 1, receiver), send);
        assert_eq!(done, Ok(usize::try_from(BYTES).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_anew_has_its_place_and_the_first_stream_ends() {
        let outer = tempfile::tempdir().unwrap();
        let room = Room::open(outer.path().join("arriving")).unwrap();
        let slots = Semaphore::new(1);
        let ((_quiet, a), (mut sender, b)) = (stream(), stream());
        let anew = async {
            sleep(Duration::from_secs(3)).await;
            served(&room, &slots, 1, b).await
        };
        let send = async {
            for _ in 0..BYTES / (256 << 10) {
                sender.send(&[7; 256 << 10]).await.unwrap();
            }
            sender
        };
        let (first, second, _sender) = tokio::join!(served(&room, &slots, 1, a), anew, send);
        assert!(first.clone().unwrap_err().contains("begun anew"), "{first:?}");
        assert_eq!(second, Ok(usize::try_from(BYTES).unwrap()));
    }
}
