//! What an engine asks of the device that computes.

pub mod cpu;

#[cfg(feature = "model")]
use std::sync::Arc;

#[cfg(feature = "model")]
use crate::adapter::{AdapterError, Packed8};
#[cfg(feature = "model")]
use crate::model::ModelInfo;
#[cfg(feature = "model")]
use crate::step::{Page, Slot, Step, StepError};

/// A device with a loaded model, pages of keys and values, and slots for adapters. It knows no sequence: a [`Step`] says what to compute,
/// and whoever makes steps owns the pages.
#[cfg(feature = "model")]
pub trait Backend: Send + Sync + 'static {
    /// The rules of its numbers.
    fn profile(&self) -> Profile;

    /// The loaded model.
    fn info(&self) -> &ModelInfo;

    /// Room for the results of steps, so that none allocates.
    fn outputs(&self) -> Outputs;

    /// Computes a step: writes keys and values of its rows, and `out`.
    ///
    /// A row whose numbers leave the profile's range is named in [`Outputs::failed`], with the rows behind it in its sequence; the other
    /// rows are as they would be without it.
    ///
    /// # Errors
    /// Any [`StepError`]: the step does not fit this device, and nothing was computed.
    fn forward(&mut self, step: &Step<'_>, out: &mut Outputs) -> Result<(), StepError>;

    /// Puts an adapter in a slot, in place of what was there.
    ///
    /// # Errors
    /// [`AdapterError::Unsupported`] if there is no such slot, or the adapter was matched with another shape of model.
    fn attach(&mut self, slot: Slot, adapter: &Arc<Packed8>) -> Result<(), AdapterError>;

    /// Empties a slot.
    fn detach(&mut self, slot: Slot);

    /// BLAKE3 of the codes and scales of the first `tokens` tokens of a page: by layer, then by head, then by token the key's codes, the
    /// value's codes, the key's scale and the value's (little endian).
    fn page_digest(&self, page: Page, tokens: u32) -> [u8; 32];

    /// Appends the bytes that [`page_digest`](Self::page_digest) is the hash of: what another device can take in with [`write_page`](Self::write_page).
    fn read_page(&self, page: Page, tokens: u32, out: &mut Vec<u8>);

    /// Writes the first `tokens` tokens of a page from such bytes, whoever they came from.
    ///
    /// # Errors
    /// [`PageError`]: these are not the bytes of so many tokens of this model, or there is no such page; nothing was written.
    fn write_page(&mut self, page: Page, tokens: u32, bytes: &[u8]) -> Result<(), PageError>;

    /// Copies a page: the fork of a sequence whose last page is not full.
    fn copy_page(&mut self, from: Page, to: Page);

    /// What was computed so far.
    fn counters(&self) -> Counters;

    /// Runs `task` for 0 to `count - 1` on the threads that stand idle between steps: work of the host on results, as choosing tokens.
    fn spread(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// The rules by which numbers are computed. Answers are checked under the profile they were made in; this crate computes in [`Profile::Exact`], the
/// bits of [`crate::numeric`], equal on every machine.
#[cfg(feature = "model")]
pub use types::quote::Profile;

/// Why bytes are not written into a page.
#[cfg(feature = "model")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Not the bytes of so many tokens.
    #[error("{got} bytes of keys and values, expected {expected}")]
    Length {
        /// Bytes that came.
        got: usize,
        /// Bytes of as many tokens.
        expected: usize,
    },
    /// A code or a scale that no device of this profile writes.
    #[error("keys and values hold a code or a scale that is not of the profile, in the token at byte {at}")]
    Numbers {
        /// Where the token starts.
        at: usize,
    },
    /// No page of the cache, or more tokens than a page has.
    #[error("there is no place for {tokens} tokens in page {page}")]
    Place {
        /// The page.
        page: u32,
        /// Tokens for it.
        tokens: u32,
    },
}

/// What a step gives. Room is made once ([`Backend::outputs`]).
#[cfg(feature = "model")]
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outputs {
    /// `[wanted, vocabulary]`; of a failed row not-a-numbers.
    pub logits: Vec<f32>,
    /// `[wanted, hidden]`: codes of the last norm, what the head reads. Of these, their scales and their zeros a digest of a position is
    /// made.
    pub hidden: Vec<i8>,
    /// `[wanted, groups]`.
    pub hidden_scales: Vec<f32>,
    /// `[wanted, groups]`: what is added to each code of a group.
    pub hidden_zeros: Vec<i32>,
    /// Rows that failed, rising.
    pub failed: Vec<u32>,
}

/// Counts of a backend since it was made.
#[cfg(feature = "model")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Steps.
    pub steps: u64,
    /// Rows of them.
    pub rows: u64,
    /// Base products by [`Site`](crate::model::Site), the head last: one for each layer and step, however many rows and adapters.
    pub products: [u64; 8],
    /// Segments that an adapter was added for, by site.
    pub adapters: [u64; 7],
}
