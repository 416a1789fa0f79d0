//! What is fixed before the first step: widths, room, and into how many tasks each part of a step is cut. None of it changes a bit.
//!
//! Room for [`ROWS_MAX`](crate::step::ROWS_MAX) rows of SmolLM2-135M: 6 MB of activations, 4 MB of ranks, and scores of 98 kB a thread.

use crate::backend::cpu::kernel::{FEW_ROWS_MAX, MANY_ROWS, scores_len};
use crate::backend::cpu::recoded::Weights;
use crate::backend::cpu::share::PARTS_MAX;
use crate::numeric::{BLOCK_KEYS, RANK_MAX};
use crate::step::ADAPTERS_OF_ROW_MAX;

use super::{Config, ModelError};

/// Bytes of weights of a task of few rows: 2 us of memory, some dozen claims; a thread that is put aside holds no more than that back.
const TASK_BYTES: usize = 64 << 10;
/// Rows that a task of row work has at least: norm and codes of eight take as long as waking a thread.
const ROW_TASK: usize = 8;
/// Tasks that rows are cut into at most.
const ROW_TASKS: usize = 32;
/// Rows of a segment that are shrunk in one task.
pub(crate) const SHRINK_ROWS: usize = 32;

/// Widths and room.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Rows of a step at most.
    pub rows: usize,
    /// Places in segments of a step at most.
    pub segment_rows: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the queries.
    pub q_width: usize,
    /// Width of the keys.
    pub kv_width: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Key heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Query heads that share a key head.
    pub sharing: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Widest input of a product.
    pub columns: usize,
    /// What scores are multiplied by.
    pub factor: f32,
    /// Added to mean squares.
    pub epsilon: f32,
    /// Elements of a thread's scores.
    pub scores: usize,
}

impl Plan {
    /// The plan of a model, for steps of `rows` rows and a cache of `pages` pages.
    ///
    /// # Errors
    /// [`ModelError::Config`] if heads are of a width that kernels are not written for.
    pub fn new(config: &Config, rows: usize, pages: usize) -> Result<Self, ModelError> {
        let wrong = |key: &str, value: usize, expected| ModelError::Config { key: key.to_owned(), value: value.to_string(), expected };
        if !config.head_dim.is_multiple_of(16) {
            return Err(wrong("head_dim", config.head_dim, "a multiple of 16"));
        }
        if config.kv_heads > PARTS_MAX {
            return Err(wrong("kv_heads", config.kv_heads, "at most 4,096 key heads"));
        }
        let sharing = config.heads / config.kv_heads;
        let dim = u32::try_from(config.head_dim).expect("a width of the checked configuration");
        #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
        let factor = (1.0 / f64::from(dim).sqrt()) as f32;
        Ok(Self {
            rows,
            segment_rows: rows * ADAPTERS_OF_ROW_MAX,
            hidden: config.hidden,
            q_width: config.q_width(),
            kv_width: config.kv_width(),
            feed_forward: config.feed_forward,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            sharing,
            vocabulary: config.vocabulary,
            columns: config.hidden.max(config.q_width()).max(config.feed_forward),
            factor,
            epsilon: config.epsilon(),
            scores: scores_len(sharing, config.context.min(pages * BLOCK_KEYS)),
        })
    }

    /// Elements of all ranks of one site.
    pub(crate) fn ranks(&self) -> usize {
        self.segment_rows * RANK_MAX
    }

    /// Panels of a task: by bytes for few rows; the more rows, the fewer, because each takes longer.
    pub(crate) fn panels_each(weights: &Weights, rows: usize) -> usize {
        let (few, least) = ((TASK_BYTES / weights.panel_bytes()).max(1), weights.panels().div_ceil(PARTS_MAX / 4));
        match weights {
            Weights::Recoded(_) if rows <= FEW_ROWS_MAX => few.max(least),
            // Three panels are worked on beside each other; one at least.
            Weights::Recoded(_) => (few / rows.div_ceil(32)).max(least).next_multiple_of(3),
            Weights::Grouped(_) if rows >= MANY_ROWS => (few / rows.div_ceil(16)).max(least).next_multiple_of(3),
            Weights::Grouped(_) => (few / rows.div_ceil(4)).max(1).max(least),
        }
    }

    /// Rows of a task of row work.
    pub(crate) fn rows_each(rows: usize) -> usize {
        rows.div_ceil(ROW_TASKS).max(ROW_TASK)
    }

    /// Rows of a task of attention: each may take long, so fewer.
    pub(crate) fn attention_rows(&self, rows: usize) -> usize {
        rows.div_ceil(ROW_TASKS.min(PARTS_MAX / self.kv_heads).max(1))
    }
}
