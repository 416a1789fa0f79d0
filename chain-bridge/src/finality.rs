//! Where we are on the chain: a ring of block hashes from the last finalized block to the tip.
//!
//! Goal: books that equal a fresh replay after any reorganisation. A block is known by its hash, never by its number alone; a new block must
//! name our tip as its parent, otherwise tips are taken back until it does. A finalized block that changes is not handled but reported:
//! it means a broken chain or a wrong endpoint, and money was counted by it.
//!
//! 40 bytes a block: the longest ring is 2.6 MB, a day and a half of two-second blocks.

use std::collections::VecDeque;

use serde::Serialize;
use types::time::BlockRef;

use crate::chain::Header;

/// Most blocks between finalized and tip. An OP chain finalizes within half an hour and must within twelve (21,600 blocks of two seconds).
pub const RING_MAX: usize = 65_536;

/// A final block that is another one now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// As it was counted by.
    pub was: BlockRef,
    /// As the chain has it now.
    pub now: BlockRef,
}

/// Why a block does not continue what we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FinalityError {
    /// The block does not follow our tip: take the tip back and try again.
    #[error("block {} does not follow block {} {}: the chain was reorganised", next.number, tip.number, tip.hash)]
    Fork {
        /// Our tip.
        tip: BlockRef,
        /// The block offered.
        next: BlockRef,
    },
    /// A block is missing in between.
    #[error("block {got} was offered where block {expected} comes next")]
    Gap {
        /// Next number.
        expected: u64,
        /// Number offered.
        got: u64,
    },
    /// What was final is no longer so.
    #[error("finalized block {} was {} and is now {}: the endpoint serves another chain; stop and compare it with a second one", was.number, was.hash, now.hash)]
    FinalizedChanged {
        /// As we counted by it.
        was: BlockRef,
        /// As the chain has it now.
        now: BlockRef,
    },
    /// The ring is full.
    #[error("no block was finalized in {RING_MAX} blocks: the chain's derivation has stopped")]
    NotFinalizing,
}

impl FinalityError {
    /// What is there in place of a block that was final; nothing for every other error.
    pub const fn changed(&self) -> Option<Changed> {
        match self {
            Self::FinalizedChanged { was, now } => Some(Changed { was: *was, now: *now }),
            _ => None,
        }
    }

    /// Whether going on could count money twice: nothing may be served or settled until a person looked.
    pub const fn must_halt(&self) -> bool {
        matches!(self, Self::FinalizedChanged { .. } | Self::NotFinalizing)
    }
}

/// The blocks followed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    finalized: BlockRef,
    /// Blocks above `finalized`, ascending.
    ring: VecDeque<BlockRef>,
}

impl Cursor {
    /// Starts after `origin`, which is taken as final.
    pub const fn new(origin: BlockRef) -> Self {
        Self { finalized: origin, ring: VecDeque::new() }
    }

    /// The last block followed.
    pub fn tip(&self) -> BlockRef {
        self.ring.back().copied().unwrap_or(self.finalized)
    }

    /// The last block known to be final.
    pub const fn finalized(&self) -> BlockRef {
        self.finalized
    }

    /// Blocks that could still be taken back.
    pub fn open(&self) -> usize {
        self.ring.len()
    }

    /// The followed block of a number, if it is at or above the finalized one.
    pub fn at(&self, number: u64) -> Option<BlockRef> {
        let place = number.checked_sub(self.finalized.number)?;
        let Some(place) = place.checked_sub(1) else { return Some(self.finalized) };
        self.ring.get(usize::try_from(place).ok()?).copied()
    }

    /// Follows the next block.
    ///
    /// # Errors
    /// [`FinalityError::Fork`] if it does not build on the tip, [`FinalityError::Gap`], [`FinalityError::NotFinalizing`].
    pub fn push(&mut self, next: &Header) -> Result<(), FinalityError> {
        let tip = self.tip();
        let expected = tip.number.saturating_add(1);
        if next.block.number != expected {
            return Err(FinalityError::Gap { expected, got: next.block.number });
        }
        if next.parent != tip.hash {
            return Err(FinalityError::Fork { tip, next: next.block });
        }
        if self.ring.len() >= RING_MAX {
            return Err(FinalityError::NotFinalizing);
        }
        self.ring.push_back(next.block);
        Ok(())
    }

    /// Takes the tip back and returns it; `now` is what the chain has at that number.
    ///
    /// # Errors
    /// [`FinalityError::FinalizedChanged`] if nothing but the finalized block is left.
    pub fn pop(&mut self, now: BlockRef) -> Result<BlockRef, FinalityError> {
        self.ring.pop_back().ok_or(FinalityError::FinalizedChanged { was: self.finalized, now })
    }

    /// Takes a followed block as final; nothing happens for one that is older or not followed yet.
    ///
    /// # Errors
    /// [`FinalityError::FinalizedChanged`] if we followed another block of that number.
    pub fn finalize(&mut self, block: BlockRef) -> Result<(), FinalityError> {
        let Some(was) = self.at(block.number) else { return Ok(()) };
        if was != block {
            return Err(FinalityError::FinalizedChanged { was, now: block });
        }
        while self.ring.front().is_some_and(|front| front.number <= block.number) {
            self.ring.pop_front();
        }
        self.finalized = block;
        Ok(())
    }

    /// Skips to a final block without following those between; allowed while nothing is open.
    ///
    /// # Errors
    /// [`FinalityError::Gap`] if blocks are open or `block` lies behind.
    pub fn skip_to(&mut self, block: BlockRef) -> Result<(), FinalityError> {
        if !self.ring.is_empty() || block.number < self.finalized.number {
            return Err(FinalityError::Gap { expected: self.tip().number.saturating_add(1), got: block.number });
        }
        self.finalized = block;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::id::Hash32;

    use super::*;

    fn block(number: u64, branch: u8) -> BlockRef {
        let mut hash = [branch; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        BlockRef { number, hash: Hash32(hash) }
    }

    fn header(number: u64, branch: u8, parent: u8) -> Header {
        Header { block: block(number, branch), parent: block(number - 1, parent).hash, timestamp: number }
    }

    #[test]
    fn a_block_on_another_parent_is_a_fork_until_the_common_one_is_reached() {
        let mut cursor = Cursor::new(block(10, 0));
        for number in 11..=14 {
            cursor.push(&header(number, 0, 0)).unwrap();
        }
        assert!(matches!(cursor.push(&header(15, 1, 1)), Err(FinalityError::Fork { .. })));
        assert_eq!(cursor.pop(block(14, 1)), Ok(block(14, 0)));
        assert_eq!(cursor.pop(block(13, 1)), Ok(block(13, 0)));
        assert_eq!(cursor.push(&header(13, 1, 0)), Ok(()));
        assert_eq!(cursor.tip(), block(13, 1));
    }

    #[test]
    fn a_changed_finalized_block_halts() {
        let mut cursor = Cursor::new(block(10, 0));
        cursor.push(&header(11, 0, 0)).unwrap();
        let changed = cursor.finalize(block(11, 9)).unwrap_err();
        assert!(changed.must_halt());
        assert!(changed.to_string().contains("finalized block 11"));
        cursor.finalize(block(11, 0)).unwrap();
        assert!(cursor.pop(block(11, 9)).unwrap_err().must_halt());
    }

    #[test]
    fn a_missing_block_is_a_gap() {
        assert_eq!(Cursor::new(block(1, 0)).push(&header(3, 0, 0)), Err(FinalityError::Gap { expected: 2, got: 3 }));
    }

    #[test]
    fn a_chain_that_does_not_finalize_halts() {
        let mut cursor = Cursor::new(block(0, 0));
        for number in 1..=RING_MAX as u64 {
            cursor.push(&header(number, 0, 0)).unwrap();
        }
        let full = cursor.push(&header(RING_MAX as u64 + 1, 0, 0)).unwrap_err();
        assert_eq!(full, FinalityError::NotFinalizing);
        assert!(full.must_halt());
        cursor.finalize(block(1, 0)).unwrap();
        assert_eq!(cursor.push(&header(RING_MAX as u64 + 1, 0, 0)), Ok(()));
    }

    #[test]
    fn only_an_empty_ring_skips_and_only_forwards() {
        let mut cursor = Cursor::new(block(10, 0));
        assert_eq!(cursor.skip_to(block(9, 0)), Err(FinalityError::Gap { expected: 11, got: 9 }));
        assert_eq!(cursor.skip_to(block(10, 0)), Ok(()));
        assert_eq!(cursor.skip_to(block(20, 0)), Ok(()));
        cursor.push(&header(21, 0, 0)).unwrap();
        assert_eq!(cursor.skip_to(block(30, 0)), Err(FinalityError::Gap { expected: 22, got: 30 }));
        assert_eq!((cursor.finalized(), cursor.tip()), (block(20, 0), block(21, 0)));
    }

    proptest! {
        #[test]
        fn the_ring_holds_exactly_the_blocks_above_the_finalized_one(pushes in 1..60_u64, finalize in 0..60_u64) {
            let mut cursor = Cursor::new(block(0, 0));
            for number in 1..=pushes {
                cursor.push(&header(number, 0, 0)).unwrap();
            }
            cursor.finalize(block(finalize, 0)).unwrap();
            let expected = if finalize <= pushes { finalize } else { 0 };
            prop_assert_eq!(cursor.finalized(), block(expected, 0));
            prop_assert_eq!(cursor.open() as u64, pushes - expected);
            for number in expected..=pushes {
                prop_assert_eq!(cursor.at(number), Some(block(number, 0)));
            }
            prop_assert_eq!(cursor.at(pushes + 1), None);
        }
    }
}
