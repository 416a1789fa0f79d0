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
        self.enter_at(self.now(), contributor, bytes)
    }

    fn enter_at(&self, now: Duration, contributor: Address, bytes: u64) -> Result<Arrival<'_>, ArrivalError> {
        let mut held = self.held();
        let (ticket, leaving) = held.arrivals.enter(now, contributor, bytes)?;
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
    use p2p::{
        memory,
        stream::{FrameSender, FrameStream},
    };
    use storage::proto::gate::arrivals::GRACE;
    use tokio::sync::Semaphore;

    use super::*;

    const BYTES: u64 = 1 << 20;

    fn contributor(number: u8) -> Address {
        Address([number; 20])
    }

    /// A room that has been open for a minute.
    fn room(outer: &tempfile::TempDir) -> Room {
        let since = Instant::now().checked_sub(Duration::from_secs(60)).expect("the machine has run for a minute");
        Room { since, ..Room::open(outer.path().join("arriving")).unwrap() }
    }

    /// As a gate does: a slot is taken when the shard is whole.
    async fn served(arrival: Arrival<'_>, slots: &Semaphore, stream: FrameStream) -> Result<usize, String> {
        let (_sender, mut receiver) = stream.split();
        arrival.receive(&mut receiver).await.map_err(|turned| turned.to_string())?;
        let _slot = slots.acquire().await.map_err(|error| error.to_string())?;
        Ok(arrival.take().await.map_err(|error| format!("{error:#}"))?.len())
    }

    async fn send_whole(stream: FrameStream) -> FrameSender {
        let (mut sender, _receiver) = stream.split();
        for _ in 0..BYTES / (256 << 10) {
            sender.send(&[7; 256 << 10]).await.unwrap();
        }
        sender
    }

    #[tokio::test]
    async fn two_who_send_a_byte_and_no_more_hold_up_nobody() {
        let outer = tempfile::tempdir().unwrap();
        let (room, slots) = (room(&outer), Semaphore::new(2));
        let mut slow = Vec::new();
        let mut open = Vec::new();
        for number in [1, 2] {
            let (mut near, far) = memory::pair();
            near.send(&[0]).await.unwrap();
            open.push(near);
            slow.push(served(room.enter(contributor(number), BYTES).unwrap(), &slots, far));
        }
        let (near, far) = memory::pair();
        let honest = async { tokio::join!(served(room.enter(contributor(3), BYTES).unwrap(), &slots, far), send_whole(near)).0 };
        let mut slow = slow.into_iter();
        let (first, second) = (slow.next().unwrap(), slow.next().unwrap());
        tokio::select! {
            done = honest => assert_eq!(done, Ok(usize::try_from(BYTES).unwrap())),
            turned = first => panic!("the first slow one ended before the honest one: {turned:?}"),
            turned = second => panic!("the second slow one ended before the honest one: {turned:?}"),
        }
        // What was on its way has left with its streams.
        assert_eq!(room.held().arrivals.held(), (0, 0));
        assert_eq!(std::fs::read_dir(outer.path().join("arriving")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_how_much_came_and_its_place_is_free() {
        let outer = tempfile::tempdir().unwrap();
        let (room, slots) = (room(&outer), Semaphore::new(1));
        let (mut near, far) = memory::pair();
        near.send(&[0; 3]).await.unwrap();
        let begun = room.now() - GRACE - Duration::from_secs(1);
        let late = served(room.enter_at(begun, contributor(1), BYTES).unwrap(), &slots, far).await;
        assert!(
            late.as_ref().is_err_and(|late| late.contains("arrives too slowly") && late.contains("of 1048576 bytes in 16 s")),
            "{late:?}"
        );
        assert_eq!(room.held().arrivals.held(), (0, 0));
    }

    #[tokio::test]
    async fn who_begins_a_third_shard_has_the_place_of_its_first_whose_stream_ends_and_the_second_goes_on() {
        let outer = tempfile::tempdir().unwrap();
        let (room, slots) = (room(&outer), Semaphore::new(1));
        let ((_quiet, a), (near, b), (anew, c)) = (memory::pair(), memory::pair(), memory::pair());
        let first = room.enter(contributor(1), BYTES).unwrap();
        let second = room.enter(contributor(1), BYTES).unwrap();
        let third = async {
            let third = room.enter(contributor(1), BYTES).unwrap();
            tokio::join!(served(third, &slots, c), send_whole(anew)).0
        };
        let second = async { tokio::join!(served(second, &slots, b), send_whole(near)).0 };
        let (first, second, third) = tokio::join!(served(first, &slots, a), second, third);
        assert!(first.as_ref().is_err_and(|error| error.contains("begun anew")), "{first:?}");
        let whole = Ok(usize::try_from(BYTES).unwrap());
        assert_eq!((second, third), (whole.clone(), whole));
    }

    #[tokio::test]
    async fn a_second_shard_of_a_contributor_comes_while_the_first_waits_for_its_turn_and_a_third_is_told_to() {
        let outer = tempfile::tempdir().unwrap();
        let room = room(&outer);
        let (first, second) = (room.enter(contributor(1), BYTES).unwrap(), room.enter(contributor(1), BYTES).unwrap());
        for arrival in [&first, &second] {
            let (near, far) = memory::pair();
            let (_sender, mut receiver) = far.split();
            let (received, _sent) = tokio::join!(arrival.receive(&mut receiver), send_whole(near));
            received.unwrap();
        }
        let error = room.enter(contributor(1), BYTES).unwrap_err().to_string();
        assert!(error.contains("2 whole shards of this contributor wait"), "{error}");
        assert_eq!(first.take().await.unwrap().len() as u64, BYTES, "its turn has come");
        let third = room.enter(contributor(1), BYTES).unwrap();
        assert_eq!(second.take().await.unwrap().len() as u64, BYTES, "nobody sent it away");
        drop(third);
        assert_eq!(room.held().arrivals.held(), (0, 0));
    }

    #[tokio::test]
    async fn more_bytes_than_announced_and_an_early_end_are_refused_in_words() {
        let outer = tempfile::tempdir().unwrap();
        let (room, slots) = (room(&outer), Semaphore::new(1));
        let (mut near, far) = memory::pair();
        near.send(&[0; 9]).await.unwrap();
        let long = served(room.enter(contributor(1), 5).unwrap(), &slots, far).await;
        assert_eq!(long, Err("9 bytes of shard came, 5 were announced".to_owned()));
        let (mut near, far) = memory::pair();
        near.send(&[0; 2]).await.unwrap();
        near.finish().await.unwrap();
        let short = served(room.enter(contributor(1), 5).unwrap(), &slots, far).await;
        assert_eq!(short, Err("the shard ended after 2 of 5 bytes".to_owned()));
    }
}
