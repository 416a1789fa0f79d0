//! An answer in cells: what a node sends looks the same on the wire whatever the tokens are.
//!
//! A client that says `Padded` ahead of its beginning gets every frame behind it as bytes of one stream of messages, cut into cells of [`CELL_BYTES`].
//! From the beginning until the end is said one cell leaves every [`RHYTHM`], full or empty. `Finished` leaves in a cell whose number, counted
//! from 1, is a multiple of [`ROUND_CELLS`]. The receipt, like any single reply, follows at once in a number of cells that is a power of two, at
//! least [`REPLY_CELLS_MIN`].
//!
//! Hidden from who sees the packets: the length of each token, when it was made, how many came at once, what was told with it, which of them were sent
//! again after a break, where the receipt's spans lie. Not hidden: that a question was asked, of whom and how long (what the client sends is not
//! padded), and when the first token, each 64th and the last came, because vouchers leave then; the answer's duration, up to 16 cells (0.4 s); the receipt's length
//! up to a factor of two above 16 kB, and so roughly the answer's length; that a reader or a line is slow, for then cells wait; that a connection broke and
//! the answer was taken up, or what became of it asked for (the word on it comes in cells like a receipt). QUIC's acknowledgements and
//! keep-alives stand beside the cells and depend on neither words nor tokens.
//!
//! Cost: 258 bytes every 25 ms, 10.3 kB a second, where tokens take 0.8 kB at 50 a second; 16.5 kB at least for the receipt, of 10 kB as a rule. A 256-token
//! answer at 50 a second: 70 kB in place of 15. A line that carries less than 12 kB a second is too slow for it: what it does not carry waits in QUIC's window
//! until the voucher comes too late, and the answer ends with what was paid. A cell holds 15 tokens, so 600 a second pass; with
//! twenty logarithms each, about 40. A token waits 12.5 ms on the average.
//!
//! A cell: bytes used (u16, at most [`CELL_BYTES`] − 2), those bytes, zeros. The stream of messages: length (u32) and message, one after another.

use std::{collections::VecDeque, time::Duration};

/// Bytes of a cell; with the frame's length and QUIC's own they fit one packet of 300.
pub const CELL_BYTES: usize = 256;
/// Time between two cells.
pub const RHYTHM: Duration = Duration::from_millis(25);
/// The end of an answer is said in a cell whose number is a multiple of this.
pub const ROUND_CELLS: u32 = 16;
/// Fewest cells of a receipt or another single reply.
pub const REPLY_CELLS_MIN: u32 = 64;
/// Bytes of messages that wait for cells before a node pulls no more tokens. The token that reaches it, and those that are sent again where an answer is taken up,
/// may go beyond.
pub const WAITING_MAX: usize = 4 * USED_MAX;

const LENGTH_BYTES: usize = 2;
const HEADER_BYTES: usize = 4;
const USED_MAX: usize = CELL_BYTES - LENGTH_BYTES;

/// Why bytes are not cells of messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaddingError {
    /// Not a cell's length.
    #[error("a frame of {0} bytes came where cells of {CELL_BYTES} were due")]
    Length(usize),
    /// It claims more than it holds.
    #[error("a cell says that {0} of its bytes are used, {USED_MAX} can be")]
    Used(usize),
    /// What fills it up says something.
    #[error("the rest of a cell is not zeros")]
    Filler,
    /// A message is too long.
    #[error("a message of {got} bytes is announced in cells, at most {max} are taken")]
    TooLong {
        /// Announced.
        got: u32,
        /// The reader's limit.
        max: usize,
    },
}

/// Makes cells of messages.
#[derive(Debug, Default)]
pub struct Packer {
    waiting: VecDeque<u8>,
    cells: u32,
}

impl Packer {
    /// Puts a message behind what waits. Messages are shorter than 4 GiB.
    pub fn push(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        self.waiting.extend(length.to_be_bytes());
        self.waiting.extend(message);
    }

    /// Bytes that no cell has taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Cells that what waits fills.
    #[must_use]
    pub fn waiting_cells(&self) -> u32 {
        u32::try_from(self.waiting.len().div_ceil(USED_MAX)).unwrap_or(u32::MAX)
    }

    /// Cells made.
    #[must_use]
    pub const fn cells(&self) -> u32 {
        self.cells
    }

    /// The next cell, as full as can be.
    pub fn cell(&mut self) -> [u8; CELL_BYTES] {
        let mut cell = [0; CELL_BYTES];
        let used = self.waiting.len().min(USED_MAX);
        cell[..LENGTH_BYTES].copy_from_slice(&u16::try_from(used).unwrap_or(u16::MAX).to_be_bytes());
        for (place, byte) in cell[LENGTH_BYTES..].iter_mut().zip(self.waiting.drain(..used)) {
            *place = byte;
        }
        self.cells = self.cells.wrapping_add(1);
        cell
    }

    /// Whether a message of `len` bytes would end in the next cell and that cell closes a round.
    #[must_use]
    pub fn closes_round(&self, len: usize) -> bool {
        self.cells % ROUND_CELLS == ROUND_CELLS - 1 && self.waiting.len() + HEADER_BYTES + len <= USED_MAX
    }

    /// Cells in which all that waits is sent as a single reply.
    #[must_use]
    pub fn reply_cells(&self) -> u32 {
        let needed = self.waiting_cells();
        needed.max(REPLY_CELLS_MIN).checked_next_power_of_two().unwrap_or(needed)
    }
}

/// Gives messages back.
#[derive(Debug, Default)]
pub struct Unpacker {
    arrived: VecDeque<u8>,
}

impl Unpacker {
    /// Takes a frame in; what it holds of memory is what arrived and was not taken out.
    ///
    /// # Errors
    /// [`PaddingError`]; nothing is taken then.
    pub fn push(&mut self, frame: &[u8]) -> Result<(), PaddingError> {
        let ([high, low, rest @ ..], CELL_BYTES) = (frame, frame.len()) else { return Err(PaddingError::Length(frame.len())) };
        let used = usize::from(u16::from_be_bytes([*high, *low]));
        let (bytes, filler) = rest.split_at_checked(used).ok_or(PaddingError::Used(used))?;
        if filler.iter().any(|byte| *byte != 0) {
            return Err(PaddingError::Filler);
        }
        self.arrived.extend(bytes);
        Ok(())
    }

    /// The next whole message of at most `max` bytes; nothing while cells of it are missing.
    ///
    /// # Errors
    /// [`PaddingError::TooLong`], as soon as its length is there.
    pub fn next(&mut self, max: usize) -> Result<Option<Vec<u8>>, PaddingError> {
        let mut header = [0; HEADER_BYTES];
        if self.arrived.len() < HEADER_BYTES {
            return Ok(None);
        }
        for (place, byte) in header.iter_mut().zip(&self.arrived) {
            *place = *byte;
        }
        let got = u32::from_be_bytes(header);
        let length = usize::try_from(got).ok().filter(|length| *length <= max).ok_or(PaddingError::TooLong { got, max })?;
        if self.arrived.len() - HEADER_BYTES < length {
            return Ok(None);
        }
        self.arrived.drain(..HEADER_BYTES);
        let message = self.arrived.drain(..length).collect();
        if self.arrived.is_empty() {
            // A receipt's memory is not held for the next answer.
            self.arrived.shrink_to(CELL_BYTES);
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cell_is_its_used_length_the_bytes_and_zeros() {
        let mut packer = Packer::default();
        assert_eq!(packer.cell(), [0; CELL_BYTES], "an empty one leaves too");
        packer.push(b"abc");
        let cell = packer.cell();
        assert_eq!(cell[..9], [0, 7, 0, 0, 0, 3, b'a', b'b', b'c']);
        assert!(cell[9..].iter().all(|byte| *byte == 0));
        assert_eq!((packer.waiting(), packer.cells()), (0, 2));
    }

    #[test]
    fn what_is_no_cell_is_refused_by_name_and_nothing_is_taken_of_it() {
        let mut unpacker = Unpacker::default();
        assert_eq!(unpacker.push(&[0; 255]), Err(PaddingError::Length(255)));
        assert_eq!(unpacker.push(&[]), Err(PaddingError::Length(0)));
        let mut cell = [0; CELL_BYTES];
        cell[255] = 1;
        assert_eq!(unpacker.push(&cell), Err(PaddingError::Filler));
        cell[..2].copy_from_slice(&[0, 255]);
        assert_eq!(unpacker.push(&cell), Err(PaddingError::Used(255)));
        assert_eq!(unpacker.next(10), Ok(None));
        let mut packer = Packer::default();
        packer.push(&[7; 11]);
        unpacker.push(&packer.cell()).unwrap();
        assert_eq!(unpacker.next(10), Err(PaddingError::TooLong { got: 11, max: 10 }));
        assert_eq!(unpacker.next(11), Ok(Some(vec![7; 11])));
    }

    #[test]
    fn replies_below_sixteen_kilobytes_look_alike_and_longer_ones_up_to_a_factor_of_two() {
        let cells = |bytes: usize| {
            let mut packer = Packer::default();
            packer.push(&vec![1; bytes]);
            packer.reply_cells()
        };
        assert_eq!([0, 100, 10_000, 64 * 254 - 4].map(cells), [64; 4]);
        assert_eq!([64 * 254 - 3, 20_000, 128 * 254 - 4].map(cells), [128; 3]);
        assert_eq!(cells(128 * 254 - 3), 256);
    }

    #[test]
    fn the_end_of_an_answer_waits_for_the_last_cell_of_a_round_with_room_for_it() {
        let mut packer = Packer::default();
        for _ in 0..15 {
            assert!(!packer.closes_round(3));
            packer.cell();
        }
        assert!(packer.closes_round(3));
        packer.push(&[1; 248]);
        assert!(!packer.closes_round(3), "it would end in the cell behind");
    }

    proptest! {
        #[test]
        fn messages_come_back_whole_and_in_order_from_cells_of_one_size(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..900), 0_u8..4), 0..20),
        ) {
            let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
            let mut got = Vec::new();
            let take = |packer: &mut Packer, unpacker: &mut Unpacker, got: &mut Vec<Vec<u8>>| {
                unpacker.push(&packer.cell()).unwrap();
                while let Some(message) = unpacker.next(1_000).unwrap() {
                    got.push(message);
                }
            };
            for (message, cells) in &messages {
                packer.push(message);
                for _ in 0..*cells {
                    take(&mut packer, &mut unpacker, &mut got);
                }
            }
            while packer.waiting() > 0 {
                take(&mut packer, &mut unpacker, &mut got);
            }
            prop_assert_eq!(got, messages.into_iter().map(|(message, _)| message).collect::<Vec<_>>());
        }

        #[test]
        fn bytes_of_a_stranger_never_panic_nor_are_held_beyond_what_arrived(
            frames in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            max in 0_usize..400,
        ) {
            let (mut unpacker, mut arrived) = (Unpacker::default(), 0);
            for (is_shaped, mut frame) in frames {
                if is_shaped {
                    frame.resize(CELL_BYTES, 0);
                    frame[..2].copy_from_slice(&254_u16.to_be_bytes());
                }
                arrived += frame.len();
                let _taken = unpacker.push(&frame);
                while let Ok(Some(message)) = unpacker.next(max) {
                    prop_assert!(message.len() <= max);
                }
                prop_assert!(unpacker.arrived.len() <= arrived);
            }
        }
    }
}
