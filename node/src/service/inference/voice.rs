//! What a client hears: frames as they come, or cells of one size at a steady rhythm ([`padding`](inference::proto::padding)).
//!
//! Cells wait for nothing but the client's own window. Behind them wait [`WAITING_MAX`] bytes and what one token added, or, where an answer is taken up, the at most
//! `VOUCHER_TOKENS` tokens that are sent again (1.6 KB, with twenty logarithms each 25 KB): more tokens are pulled when cells have taken those.
//!
//! A client that does not read, or a byte now and then, holds its stream for a time that what it is owed decides: [`SEND_WAIT`] for all that is said of an answer
//! between two vouchers ([`Patience`]), and for the whole of a reply [`reply_wait`].

use std::time::Duration;

use inference::proto::{
    message::{FromNode, encode},
    padding::{CELL_BYTES, Packer, RHYTHM, ROUND_CELLS, WAITING_MAX},
};
use p2p::stream::{FrameReceiver, FrameSender};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::{Broken, SEND_WAIT};

/// Bytes a second that a client must take of a reply in cells: no more than the rhythm asks of its line.
const REPLY_RATE: u64 = 10_000;
/// Longest time for one reply, however long it is.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a reply of so many cells may take: 12 s for one of 64, as most are.
fn reply_wait(cells: u32) -> Duration {
    (SEND_WAIT + Duration::from_secs((u64::from(cells) * CELL_BYTES as u64).div_ceil(REPLY_RATE))).min(REPLY_WAIT_MAX)
}

/// How long a client may take to read what it has not paid for: 10 s for all of it, where each frame had as long it could hold 64 tokens for ten minutes by reading
/// one of them every nine seconds. Who reads as fast as the slowest line in use (64 tokens with all that can be told of them are 25 KB) has time to spare.
#[derive(Debug, Default)]
pub(super) struct Patience {
    waited: Duration,
}

impl Patience {
    /// It has paid, or owes nothing.
    pub(super) const fn renew(&mut self) {
        self.waited = Duration::ZERO;
    }

    /// Says something for as long as is left.
    pub(super) async fn hear<T>(&mut self, saying: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
        let began = Instant::now();
        let said = timeout(SEND_WAIT.saturating_sub(self.waited), saying).await;
        self.waited = self.waited.saturating_add(began.elapsed());
        said.map_err(|_| Broken::Deaf)?
    }
}

/// A client's stream, as the service holds it.
pub(super) struct Line {
    pub(super) voice: Voice,
    pub(super) receiver: FrameReceiver,
}

/// The sending direction.
pub(super) struct Voice {
    sender: FrameSender,
    padding: Option<Padding>,
}

struct Padding {
    packer: Packer,
    beats: Interval,
}

impl Voice {
    /// Frames as they come.
    pub(super) const fn new(sender: FrameSender) -> Self {
        Self { sender, padding: None }
    }

    /// Cells from here on.
    pub(super) fn pad(&mut self) {
        self.padding.get_or_insert_with(|| {
            let mut beats = interval(RHYTHM);
            // After a client that was slow the rhythm goes on; nothing is made up for.
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Padding { packer: Packer::default(), beats }
        });
    }

    /// Whether cells are sent.
    pub(super) const fn is_padded(&self) -> bool {
        self.padding.is_some()
    }

    /// Says a part of an answer: at once, or with the next beats.
    pub(super) async fn say(&mut self, message: &FromNode) -> Result<(), Broken> {
        let frame = encode(message);
        match &mut self.padding {
            None => send(&mut self.sender, &frame).await,
            Some(padding) => {
                padding.packer.push(&frame);
                Ok(())
            }
        }
    }

    /// Says the one thing that is said, with all that waits: what comes alone has no rhythm.
    pub(super) async fn reply(&mut self, message: &FromNode) -> Result<(), Broken> {
        self.say(message).await?;
        let Some(padding) = &mut self.padding else { return Ok(()) };
        let cells = padding.packer.reply_cells();
        let replying = async {
            for _ in 0..cells {
                send(&mut self.sender, &padding.packer.cell()).await?;
            }
            Ok(())
        };
        timeout(reply_wait(cells), replying).await.map_err(|_| Broken::Deaf)?
    }

    /// Says that nothing of the answer follows, at the end of a round.
    pub(super) async fn end(&mut self, message: &FromNode) -> Result<(), Broken> {
        let frame = encode(message);
        let wait = SEND_WAIT + 4 * (self.backlog() + RHYTHM * ROUND_CELLS);
        let Some(padding) = &mut self.padding else { return send(&mut self.sender, &frame).await };
        let ending = async {
            while !padding.packer.closes_round(frame.len()) {
                padding.beats.tick().await;
                send(&mut self.sender, &padding.packer.cell()).await?;
            }
            padding.beats.tick().await;
            padding.packer.push(&frame);
            send(&mut self.sender, &padding.packer.cell()).await
        };
        // What waits goes first, then the round to its end: four times that at the rhythm, beside what a client may take to make room.
        timeout(wait, ending).await.map_err(|_| Broken::Deaf)?
    }

    /// The next beat, where there is a rhythm; it is to be followed by [`Voice::cell`]. May be dropped half-way.
    pub(super) async fn beat(&mut self) {
        match &mut self.padding {
            Some(padding) => drop(padding.beats.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Sends a cell, full or empty.
    pub(super) async fn cell(&mut self) -> Result<(), Broken> {
        match &mut self.padding {
            Some(padding) => send(&mut self.sender, &padding.packer.cell()).await,
            None => Ok(()),
        }
    }

    /// Whether as much waits for cells as may.
    pub(super) fn is_full(&self) -> bool {
        self.padding.as_ref().is_some_and(|padding| padding.packer.waiting() >= WAITING_MAX)
    }

    /// How long what waits takes to leave at the rhythm: nothing where there is none.
    pub(super) fn backlog(&self) -> Duration {
        self.padding.as_ref().map_or(Duration::ZERO, |padding| RHYTHM * padding.packer.waiting_cells())
    }

    /// Ends the stream, and waits so long until the client has it all or is gone.
    pub(super) async fn finish(mut self, wait: Duration) {
        let ending = async {
            self.sender.finish().await?;
            self.sender.closed().await
        };
        drop(timeout(wait, ending).await);
    }

    /// Gives the stream up.
    pub(super) fn reset(mut self, code: u64) {
        self.sender.reset(code);
    }
}

async fn send(sender: &mut FrameSender, frame: &[u8]) -> Result<(), Broken> {
    Ok(timeout(SEND_WAIT, sender.send(frame)).await.map_err(|_| Broken::Deaf)??)
}

#[cfg(test)]
mod tests {
    use inference::proto::{
        message::NODE_FRAME_MAX,
        padding::{CELL_BYTES, REPLY_CELLS_MIN, Unpacker},
    };
    use p2p::memory;
    use types::receipt::Reason;

    use super::*;

    fn token(index: u32, bytes: usize) -> FromNode {
        FromNode::Token { index, id: 7, bytes: vec![b'a'; bytes], told: vec![] }
    }

    /// What an answer of tokens of these lengths looks like: its frames' lengths up to its end and of its reply, and the messages in them.
    async fn wire(lengths: &[usize]) -> (Vec<usize>, Vec<FromNode>) {
        let (near, mut far) = memory::pair();
        let (sender, _receiver) = near.split();
        let mut voice = Voice::new(sender);
        voice.pad();
        for (index, bytes) in (0..).zip(lengths) {
            voice.say(&token(index, *bytes)).await.unwrap();
            while voice.is_full() {
                voice.beat().await;
                voice.cell().await.unwrap();
            }
        }
        voice.end(&FromNode::Finished { reason: Reason::Stop }).await.unwrap();
        voice.reply(&FromNode::Kept { bundle: "b".repeat(lengths.len()) }).await.unwrap();
        voice.sender.finish().await.unwrap();
        let (mut frames, mut messages, mut unpacker) = (Vec::new(), Vec::new(), Unpacker::default());
        while let Some(frame) = far.recv(CELL_BYTES).await.unwrap() {
            frames.push(frame.len());
            unpacker.push(&frame).unwrap();
            while let Some(message) = unpacker.next(NODE_FRAME_MAX).unwrap() {
                messages.push(FromNode::decode(&message).unwrap());
            }
        }
        (frames, messages)
    }

    #[tokio::test(start_paused = true)]
    async fn two_answers_of_different_words_are_the_same_on_the_wire() {
        let (short, said) = wire(&[1, 2, 1]).await;
        let (long, also) = wire(&[12, 1, 30, 4, 5]).await;
        let reply = usize::try_from(REPLY_CELLS_MIN).unwrap();
        assert_eq!(short, [CELL_BYTES; 16].into_iter().chain(std::iter::repeat_n(CELL_BYTES, reply)).collect::<Vec<_>>());
        assert_eq!(short, long);
        assert_eq!((said.len(), also.len()), (5, 7));
        assert!(said.iter().zip((0..).zip([1, 2, 1])).all(|(got, (index, bytes))| *got == token(index, bytes)));
        assert_eq!(said[3], FromNode::Finished { reason: Reason::Stop });
        // More than a round holds takes another whole one.
        assert_eq!(wire(&[300; 20]).await.0.len(), 2 * 16 + reply);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_reads_nothing_or_little_holds_no_reply_beyond_its_time() {
        // 512 KB in cells, of which a window holds half.
        let long = FromNode::Kept { bundle: "b".repeat(300_000) };
        for is_read in [false, true] {
            let (near, far) = memory::pair();
            let (sender, _receiver) = near.split();
            let mut voice = Voice::new(sender);
            voice.pad();
            let reader = tokio::spawn(async move {
                let (_sender, mut receiver) = far.split();
                // A frame each time, no more.
                while is_read && receiver.recv_raw(&mut [0; CELL_BYTES + 2]).await.is_ok() {
                    tokio::time::sleep(SEND_WAIT - Duration::from_secs(1)).await;
                }
                std::future::pending::<()>().await;
            });
            let began = Instant::now();
            assert!(matches!(voice.reply(&long).await, Err(Broken::Deaf)));
            let took = began.elapsed();
            let most = if is_read { REPLY_WAIT_MAX } else { SEND_WAIT };
            assert!(took <= most + Duration::from_secs(1), "{took:?}");
            // Nor is its end waited for beyond that of any other.
            let began = Instant::now();
            voice.finish(SEND_WAIT).await;
            assert!(began.elapsed() <= SEND_WAIT + Duration::from_secs(1));
            reader.abort();
        }
        assert_eq!((reply_wait(REPLY_CELLS_MIN).as_secs(), reply_wait(u32::MAX)), (12, REPLY_WAIT_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_drips_holds_all_that_is_unpaid_no_longer_than_one_that_reads_nothing() {
        for is_padded in [false, true] {
            let (near, far) = memory::pair();
            let (sender, _receiver) = near.split();
            let mut voice = Voice::new(sender);
            if is_padded {
                voice.pad();
            }
            let reader = tokio::spawn(async move {
                let (_sender, mut receiver) = far.split();
                // Some of each frame, in time for each.
                while receiver.recv_raw(&mut [0; 8_000]).await.is_ok() {
                    tokio::time::sleep(SEND_WAIT - Duration::from_secs(1)).await;
                }
            });
            let mut patience = Patience::default();
            let talking = async {
                // 512 KB, of which a window holds half.
                for index in 0..64 {
                    patience.hear(voice.say(&token(index, 8_000))).await?;
                    while voice.is_full() {
                        voice.beat().await;
                        patience.hear(voice.cell()).await?;
                    }
                }
                Ok(())
            };
            assert!(matches!(talking.await, Err(Broken::Deaf)));
            assert!((SEND_WAIT..SEND_WAIT + Duration::from_millis(100)).contains(&patience.waited), "{:?}", patience.waited);
            // Who has no time left is still told what its window has room for, and nothing that it has to make room for.
            assert!(patience.hear(std::future::ready(Ok(()))).await.is_ok());
            assert!(matches!(patience.hear(std::future::pending::<Result<(), Broken>>()).await, Err(Broken::Deaf)));
            patience.renew();
            let began = Instant::now();
            assert!(matches!(patience.hear(std::future::pending::<Result<(), Broken>>()).await, Err(Broken::Deaf)));
            assert!(began.elapsed() >= SEND_WAIT);
            reader.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_waits_the_end_of_an_answer_has_time_to_be_said() {
        let (near, mut far) = memory::pair();
        let (sender, _receiver) = near.split();
        let mut voice = Voice::new(sender);
        voice.pad();
        // 64 tokens with all that can be told of them, as one who takes an answer up may have them sent again: 20 s of cells.
        for index in 0..64 {
            voice.say(&token(index, 3_000)).await.unwrap();
        }
        let backlog = voice.backlog();
        assert!(backlog > SEND_WAIT, "{backlog:?}");
        voice.end(&FromNode::Finished { reason: Reason::Stop }).await.unwrap();
        assert_eq!(voice.backlog(), Duration::ZERO);
        assert_eq!(far.recv(CELL_BYTES).await.unwrap().map(|cell| cell.len()), Some(CELL_BYTES));
    }

    #[tokio::test(start_paused = true)]
    async fn without_padding_a_frame_is_what_was_said_and_there_is_no_rhythm() {
        use futures::FutureExt as _;

        let (near, mut far) = memory::pair();
        let (sender, _receiver) = near.split();
        let mut voice = Voice::new(sender);
        voice.say(&token(0, 3)).await.unwrap();
        assert!(voice.beat().now_or_never().is_none() && !voice.is_full());
        assert_eq!(far.recv(CELL_BYTES).await.unwrap(), Some(encode(&token(0, 3))));
    }
}
