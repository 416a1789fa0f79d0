//! What a backend computes at once: rows of many sequences as plain arrays.
//!
//! A row is one token of one sequence. Rows of a sequence are adjacent and their positions rise, so prefill, decoding and
//! checking are the same step with other counts. The engine owns the arrays and fills them anew for each step; nothing is
//! allocated, and a GPU can take them in one copy.

/// Tokens of a page of keys and values; the same blocks of absolute positions that attention quantises by
/// ([`crate::numeric::BLOCK_KEYS`]).
pub const PAGE_TOKENS: u32 = 64;

/// Rows of one step: what a backend allocates for, and the longest that a cancelled answer keeps it busy. Whoever plans
/// steps may choose fewer.
pub const ROWS_MAX: usize = 256;

/// A page of keys and values, by its number in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page(pub u32);

/// A place for an adapter on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// One sequence of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Span {
    /// Its first row.
    pub first_row: u32,
    /// How many rows, at least one.
    pub rows: u32,
    /// Where its pages start in [`Step::page_table`].
    pub first_page: u32,
    /// How many pages: enough for its last position.
    pub pages: u32,
}

/// Rows that one adapter is applied to.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Segment {
    /// Where the adapter is: a [`Slot`].
    pub slot: u32,
    /// Where its rows start in [`Step::segment_rows`].
    pub first: u32,
    /// How many.
    pub rows: u32,
    /// What the requests multiply the adapter by.
    pub scale: f32,
}

/// One step. Rows are counted from 0; `tokens` and `positions` have one element each.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Token of each row.
    pub tokens: &'a [u32],
    /// Absolute position of each row.
    pub positions: &'a [u32],
    /// The sequences; together they cover every row once, in order.
    pub spans: &'a [Span],
    /// Pages of the sequences, each run in order of positions.
    pub page_table: &'a [u32],
    /// Ordered by (how many adapters a row has had before, slot): a row adds its adapters in its request's order, in
    /// whatever slots they lie. So a row stands at most once in a segment.
    pub segments: &'a [Segment],
    /// Rows of the segments.
    pub segment_rows: &'a [u32],
    /// Rows whose logits are asked for, rising.
    pub wanted: &'a [u32],
}

/// Adapters that a request may have at once, and so how often a row may stand in segments.
pub const ADAPTERS_OF_ROW_MAX: usize = 4;

/// What a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimits {
    /// Rows of a step.
    pub rows: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Positions of a sequence.
    pub context: u32,
    /// Pages of the cache.
    pub pages: u32,
    /// Slots for adapters.
    pub slots: u32,
}

/// Why a step is refused. All are mistakes of whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// No row, or more than there is room for.
    #[error("{got} rows in a step, expected 1 to {max}")]
    Rows {
        /// Rows of the step.
        got: usize,
        /// The most.
        max: usize,
    },
    /// The arrays of rows differ in length, or the sequences do not cover every row once and in order.
    #[error("the sequences do not cover the rows: at row {row}")]
    Spans {
        /// Where it goes wrong.
        row: u32,
    },
    /// A row's position is not the one after the row before it, or beyond the context or the sequence's pages.
    #[error("row {row} is at position {position}, which does not follow or has no page")]
    Position {
        /// The row.
        row: u32,
        /// Its position.
        position: u32,
    },
    /// A page that the cache does not have.
    #[error("page {page} is not one of {pages}")]
    Page {
        /// The page.
        page: u32,
        /// Pages of the cache.
        pages: u32,
    },
    /// A token outside the vocabulary.
    #[error("row {row} has token {token}, the vocabulary has {vocabulary}")]
    Token {
        /// The row.
        row: u32,
        /// Its token.
        token: u32,
        /// Tokens in the vocabulary.
        vocabulary: u32,
    },
    /// A segment out of its array, not behind the one before, with a row that does not exist or a scale that is not finite.
    #[error("segment {segment} is not one of this step's rows")]
    Segment {
        /// Which segment.
        segment: usize,
    },
    /// A segment names a slot without an adapter.
    #[error("slot {slot} has no adapter")]
    Slot {
        /// The slot.
        slot: u32,
    },
    /// Rows wanted do not rise, or do not exist.
    #[error("wanted row {row} does not exist, or does not come after the one before")]
    Wanted {
        /// The row.
        row: u32,
    },
}

impl Step<'_> {
    /// Checks everything that arrays say of each other and of the device; after it they are read without looking again.
    ///
    /// # Errors
    /// Any [`StepError`] but [`StepError::Slot`] of an empty slot, which the device knows.
    pub fn check(&self, limits: &StepLimits) -> Result<(), StepError> {
        let rows = self.tokens.len();
        if rows == 0 || rows > limits.rows {
            return Err(StepError::Rows { got: rows, max: limits.rows });
        }
        if self.positions.len() != rows {
            return Err(StepError::Spans { row: count(self.positions.len()) });
        }
        if let Some((row, token)) = self.tokens.iter().enumerate().find(|(_, token)| **token >= limits.vocabulary) {
            return Err(StepError::Token { row: count(row), token: *token, vocabulary: limits.vocabulary });
        }
        self.check_spans(limits)?;
        self.check_segments(limits)?;
        let mut next = 0;
        for row in self.wanted {
            if *row < next || *row >= count(rows) {
                return Err(StepError::Wanted { row: *row });
            }
            next = row + 1;
        }
        Ok(())
    }

    fn check_spans(&self, limits: &StepLimits) -> Result<(), StepError> {
        let mut next = 0u32;
        for span in self.spans {
            let end = span.first_row.checked_add(span.rows).filter(|end| index(*end) <= self.tokens.len());
            let Some(end) = end.filter(|_| span.first_row == next && span.rows > 0) else { return Err(StepError::Spans { row: next }) };
            let Some(pages) = self.page_table.get(index(span.first_page)..).and_then(|table| table.get(..index(span.pages))) else {
                return Err(StepError::Spans { row: next });
            };
            if let Some(page) = pages.iter().find(|page| **page >= limits.pages) {
                return Err(StepError::Page { page: *page, pages: limits.pages });
            }
            let first = self.positions[index(next)];
            for (at, row) in (next..end).enumerate() {
                let position = self.positions[index(row)];
                let follows = first.checked_add(count(at)) == Some(position);
                if !(follows && position < limits.context && position / PAGE_TOKENS < span.pages) {
                    return Err(StepError::Position { row, position });
                }
            }
            next = end;
        }
        if index(next) == self.tokens.len() { Ok(()) } else { Err(StepError::Spans { row: next }) }
    }

    fn check_segments(&self, limits: &StepLimits) -> Result<(), StepError> {
        let mut next = 0u32;
        for (at, segment) in self.segments.iter().enumerate() {
            let error = StepError::Segment { segment: at };
            if segment.slot >= limits.slots {
                return Err(StepError::Slot { slot: segment.slot });
            }
            let end = segment.first.checked_add(segment.rows).ok_or(error)?;
            let rows = self.segment_rows.get(index(segment.first)..index(end)).ok_or(error)?;
            let rises = rows.windows(2).all(|pair| pair[0] < pair[1]);
            let exist = rows.iter().all(|row| index(*row) < self.tokens.len());
            if !(segment.first == next && segment.rows > 0 && rises && exist && segment.scale.is_finite()) {
                return Err(error);
            }
            next = end;
        }
        if self.segment_rows.len() > limits.rows * ADAPTERS_OF_ROW_MAX || index(next) != self.segment_rows.len() {
            return Err(StepError::Segment { segment: self.segments.len() });
        }
        Ok(())
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
