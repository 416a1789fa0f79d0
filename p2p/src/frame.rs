//! Length-prefixed frames: a varint (LEB128) length, then that many bytes.
//!
//! Pure: bytes come in, frames go out; `stream` moves the bytes. The reader names the longest frame it will take for each
//! read, so a header is refused before its body is waited for.
//!
//! Back of the envelope: a token frame of 40 bytes costs 1 byte of header; a 64 KiB frame costs 3. The decoder holds at most
//! what has arrived: a peer that declares 16 MiB and sends 10 bytes costs 10 bytes.

/// Longest frame this crate ever sends or accepts, in bytes: 16 MiB. A fragment range or a manifest fits; whatever is longer
/// is sent as several frames.
pub const FRAME_LEN_MAX: usize = 16 << 20;

/// Longest header in bytes: five groups of seven bits hold every `u32`.
pub const HEADER_LEN_MAX: usize = 5;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The declared length is above what the reader takes.
    #[error("frame of {got} bytes, at most {max} allowed here")]
    TooLong {
        /// Declared length in bytes.
        got: u64,
        /// The reader's limit in bytes.
        max: usize,
    },
    /// The length is longer than five bytes, above `u32`, or not written in its shortest form.
    #[error("frame header is not a shortest varint of at most 32 bits")]
    BadHeader,
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame: {have} bytes arrived of {want}")]
    Truncated {
        /// Bytes that arrived, header included.
        have: usize,
        /// Bytes the frame needs, as far as the header tells.
        want: usize,
    },
}

/// Appends `body` as one frame to `out`.
///
/// # Errors
/// [`FrameError::TooLong`] above [`FRAME_LEN_MAX`]; `out` is unchanged.
pub fn encode(body: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let too_long = FrameError::TooLong { got: body.len() as u64, max: FRAME_LEN_MAX };
    if body.len() > FRAME_LEN_MAX {
        return Err(too_long);
    }
    let mut rest = u32::try_from(body.len()).map_err(|_| too_long)?;
    out.reserve(HEADER_LEN_MAX + body.len());
    loop {
        let group = u8::try_from(rest & 0x7f).expect("seven bits fit a byte");
        rest >>= 7;
        if rest == 0 {
            out.push(group);
            break;
        }
        out.push(group | 0x80);
    }
    out.extend_from_slice(body);
    Ok(())
}

/// Takes bytes as they arrive and gives back whole frames.
///
/// Holds what was pushed and not yet taken, nothing more. After an error the stream has lost its place: every later call
/// returns the same error.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were already given out.
    taken: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// An empty decoder, at the start of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes in the order in which they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame of at most `max` bytes, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] as soon as the header shows it, [`FrameError::BadHeader`].
    pub fn take(&mut self, max: usize) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.try_take(max) {
            Err(error) => {
                self.buffer = Vec::new();
                self.taken = 0;
                self.failed = Some(error.clone());
                Err(error)
            }
            done => done,
        }
    }

    fn try_take(&mut self, max: usize) -> Result<Option<Vec<u8>>, FrameError> {
        let waiting = &self.buffer[self.taken..];
        let Some((length, header)) = parse_header(waiting)? else { return Ok(None) };
        let max = max.min(FRAME_LEN_MAX);
        let length = match usize::try_from(length) {
            Ok(length) if length <= max => length,
            _ => return Err(FrameError::TooLong { got: u64::from(length), max }),
        };
        let Some(body) = waiting.get(header..header + length) else { return Ok(None) };
        let body = body.to_vec();
        self.taken += header + length;
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
        }
        Ok(Some(body))
    }

    /// Moves bytes that were pushed and belong to no frame to the beginning of `out`, and says how many. For streams that go on without frames.
    pub fn take_raw(&mut self, out: &mut [u8]) -> usize {
        let count = self.held_bytes().min(out.len());
        out[..count].copy_from_slice(&self.buffer[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.buffer.len() {
            (self.buffer, self.taken) = (Vec::new(), 0);
        }
        count
    }

    /// Says that no more bytes will come.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when a frame is unfinished.
    pub fn end(&self) -> Result<(), FrameError> {
        let waiting = &self.buffer[self.taken..];
        if waiting.is_empty() {
            return Ok(());
        }
        let want = match parse_header(waiting)? {
            Some((length, header)) => header + usize::try_from(length).unwrap_or(usize::MAX - HEADER_LEN_MAX),
            None => waiting.len() + 1,
        };
        Err(FrameError::Truncated { have: waiting.len(), want })
    }

    /// Bytes held: arrived and not yet given out.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.buffer.len() - self.taken
    }

    /// Bytes of memory behind the decoder, for tests of its bound.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.buffer.capacity()
    }
}

/// The declared length and the header's own length, or `None` when the header is not complete.
fn parse_header(bytes: &[u8]) -> Result<Option<(u32, usize)>, FrameError> {
    let mut length = 0u64;
    for (place, byte) in bytes.iter().take(HEADER_LEN_MAX).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let is_padded = *byte == 0 && place > 0;
            return match u32::try_from(length) {
                Ok(length) if !is_padded => Ok(Some((length, place + 1))),
                _ => Err(FrameError::BadHeader),
            };
        }
    }
    if bytes.len() >= HEADER_LEN_MAX { Err(FrameError::BadHeader) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(body, &mut out).unwrap();
        out
    }

    #[test]
    fn a_frame_is_its_length_then_its_bytes() {
        assert_eq!(frame(b""), [0]);
        assert_eq!(frame(b"abc"), [3, b'a', b'b', b'c']);
        assert_eq!(frame(&[7; 300])[..3], [0xac, 0x02, 7]);
    }

    #[test]
    fn an_oversized_frame_is_refused_at_its_header_without_allocation() {
        let mut decoder = Decoder::new();
        decoder.push(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(decoder.take(64 << 10), Err(FrameError::TooLong { got: u64::from(u32::MAX), max: 64 << 10 }));
        assert_eq!(decoder.capacity_bytes(), 0);
        decoder.push(&[1, 2, 3]);
        assert!(decoder.take(64 << 10).is_err(), "a stream that lost its place stays refused");
        assert_eq!(decoder.capacity_bytes(), 0);
    }

    #[test]
    fn a_frame_as_long_as_the_reader_takes_is_taken_and_a_byte_more_is_not() {
        let mut decoder = Decoder::new();
        decoder.push(&frame(b"abc"));
        assert_eq!(decoder.take(3), Ok(Some(b"abc".to_vec())));
        decoder.push(&frame(b"abcd"));
        assert_eq!(decoder.take(3), Err(FrameError::TooLong { got: 4, max: 3 }));
    }

    #[test]
    fn a_large_declared_frame_costs_only_what_arrived() {
        let mut decoder = Decoder::new();
        decoder.push(&[0x80, 0x80, 0x80, 0x04]); // 8 MiB
        decoder.push(&[9; 10]);
        assert_eq!(decoder.take(FRAME_LEN_MAX), Ok(None));
        assert!(decoder.capacity_bytes() <= 64, "{} bytes held for 14 that arrived", decoder.capacity_bytes());
        assert_eq!(decoder.end(), Err(FrameError::Truncated { have: 14, want: 4 + (8 << 20) }));
    }

    #[test]
    fn a_padded_or_too_long_header_is_refused() {
        for bytes in [&[0x80, 0x00][..], &[0x80; 5], &[0xff, 0xff, 0xff, 0xff, 0x1f]] {
            let mut decoder = Decoder::new();
            decoder.push(bytes);
            assert_eq!(decoder.take(FRAME_LEN_MAX), Err(FrameError::BadHeader), "{bytes:?}");
        }
    }

    #[test]
    fn a_body_above_the_crate_limit_is_not_sent() {
        let mut out = vec![1];
        assert!(matches!(encode(&vec![0; FRAME_LEN_MAX + 1], &mut out), Err(FrameError::TooLong { .. })));
        assert_eq!(out, [1]);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_the_stream(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..8),
            cut in 1usize..50,
        ) {
            let wire: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
            let mut decoder = Decoder::new();
            let mut got = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(body) = decoder.take(400).unwrap() {
                    got.push(body);
                }
            }
            prop_assert_eq!(got, bodies);
            prop_assert_eq!(decoder.end(), Ok(()));
        }

        #[test]
        fn arbitrary_bytes_never_panic_nor_outgrow_what_arrived(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..12),
            max in 0usize..100,
        ) {
            let mut decoder = Decoder::new();
            let mut arrived = 0;
            for piece in pieces {
                decoder.push(&piece);
                arrived += piece.len();
                while let Ok(Some(body)) = decoder.take(max) {
                    prop_assert!(body.len() <= max);
                }
                prop_assert!(decoder.held_bytes() <= arrived);
            }
            let _ended = decoder.end();
        }
    }
}
