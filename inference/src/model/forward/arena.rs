//! What a step works on, made once for the largest step there can be.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::backend::cpu::arena::Values;
use crate::backend::cpu::share::Parts;
use crate::model::Site;
use crate::model::plan::Plan;
use crate::numeric::{CodeRows, CodesMut, Zero};
use crate::step::Span;

/// What a step works on: made once.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(super) hidden: Values<f32>,
    pub(super) q: Values<f32>,
    pub(super) k: Values<f32>,
    pub(super) v: Values<f32>,
    /// By key head, then row: each task of attention writes a run of its own.
    pub(super) attended: Values<f32>,
    pub(super) gate: Values<f32>,
    pub(super) up: Values<f32>,
    /// What is added to `hidden`.
    pub(super) sum: Values<f32>,
    pub(super) codes: Codes,
    pub(super) cosines: Values<f32>,
    pub(super) sines: Values<f32>,
    pub(super) ranks: Ranks,
    pub(super) rows: Rows,
    pub(super) scratch: Vec<Mutex<Scratch>>,
}

/// Of each row: its sequence, and whether it failed.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) spans: Vec<Span>,
    pub(super) failed: Vec<AtomicBool>,
}

/// Codes of rows of any width up to the widest.
#[derive(Debug)]
pub(super) struct Codes {
    pub(super) codes: Values<i8>,
    pub(super) scales: Values<f32>,
    pub(super) zeros: Vec<Zero>,
    pub(super) sums: Values<i32>,
    pub(super) offsets: Values<f32>,
}

/// The ranks of segments: of up to three sites that share an input, one after another.
#[derive(Debug)]
pub(super) struct Ranks {
    pub(super) values: Values<f32>,
    pub(super) codes: Codes,
    pub(super) items: Vec<Item>,
    /// Of each item, its places in `values` and the codes, and in the numbers of rows.
    pub(super) wide: Vec<Range<usize>>,
    pub(super) narrow: Vec<Range<usize>>,
}

/// Some rows of a segment at one site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) site: Site,
    pub(super) segment: usize,
    pub(super) first: usize,
    pub(super) rows: usize,
}

/// What one thread works on.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) row: Values<f32>,
    pub(super) normed: Values<f32>,
    pub(super) head: Codes,
    pub(super) value: Codes,
    pub(super) scores: Values<f32>,
}

impl Codes {
    pub(super) fn new(values: usize, groups: usize) -> Self {
        Self {
            codes: Values::zeroed(values),
            scales: Values::zeroed(groups),
            zeros: vec![Zero::default(); groups],
            sums: Values::zeroed(groups),
            offsets: Values::zeroed(groups),
        }
    }

    pub(super) fn rows(&self, rows: usize, columns: usize, group: usize) -> CodeRows<'_> {
        let groups = rows * (columns / group);
        CodeRows {
            rows,
            columns,
            group,
            codes: &self.codes[..rows * columns],
            scales: &self.scales[..groups],
            zeros: &self.zeros[..groups],
            sums: &self.sums[..groups],
            offsets: &self.offsets[..groups],
        }
    }

    pub(super) fn place(&mut self, values: usize, group: usize) -> CodesMut<'_> {
        let groups = values / group;
        CodesMut {
            codes: &mut self.codes[..values],
            scales: &mut self.scales[..groups],
            sums: &mut self.sums[..groups],
            offsets: &mut self.offsets[..groups],
        }
    }
}

impl Arena {
    pub(crate) fn new(plan: &Plan, threads: usize) -> Self {
        let rows = plan.rows;
        let values = |width: usize| Values::zeroed(rows * width);
        let shared = plan.sharing * plan.head_dim;
        // Rows are rounded up to whole tasks, of which no more are added than there are rows in one.
        let padded = rows + plan.attention_rows(rows);
        let scratch = || Scratch {
            row: Values::zeroed(plan.columns.max(shared)),
            normed: Values::zeroed(plan.columns.max(shared)),
            head: Codes::new(shared, plan.sharing),
            value: Codes::new(plan.head_dim, 1),
            scores: Values::zeroed(plan.scores),
        };
        let items = 3 * plan.segment_rows;
        Self {
            hidden: values(plan.hidden),
            q: values(plan.q_width),
            k: values(plan.kv_width),
            v: values(plan.kv_width),
            attended: Values::zeroed(padded * plan.q_width),
            gate: values(plan.feed_forward),
            up: values(plan.feed_forward),
            sum: values(plan.hidden),
            codes: Codes::new(rows * plan.columns, rows * plan.columns.div_ceil(32)),
            cosines: values(plan.head_dim / 2),
            sines: values(plan.head_dim / 2),
            ranks: Ranks {
                values: Values::zeroed(3 * plan.ranks()),
                codes: Codes::new(3 * plan.ranks(), items),
                items: Vec::with_capacity(items),
                wide: Vec::with_capacity(items),
                narrow: Vec::with_capacity(items),
            },
            rows: Rows { spans: Vec::with_capacity(rows), failed: (0..rows).map(|_| AtomicBool::new(false)).collect() },
            scratch: (0..threads).map(|_| Mutex::new(scratch())).collect(),
        }
    }
}

impl Rows {
    pub(super) fn fail(&self, row: usize) {
        self.failed[row].store(true, Ordering::Relaxed);
    }

    pub(super) fn has_failed(&self, row: usize) -> bool {
        self.failed[row].load(Ordering::Relaxed)
    }
}

/// A free scratch. No more tasks run at a time than there are threads: only one that others overtook while it looked waits for the first.
pub(super) fn free_scratch(all: &[Mutex<Scratch>]) -> MutexGuard<'_, Scratch> {
    let free = all.iter().find_map(|one| match one.try_lock() {
        Ok(free) => Some(free),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    });
    free.unwrap_or_else(|| all[0].lock().unwrap_or_else(PoisonError::into_inner))
}

/// Codes of runs of rows, each of which one task takes: a claim is a word that all threads write, so not of every row.
pub(super) struct CodeParts<'a> {
    columns: usize,
    groups: usize,
    codes: Parts<'a, i8>,
    scales: Parts<'a, f32>,
    zeros: Parts<'a, Zero>,
    sums: Parts<'a, i32>,
    offsets: Parts<'a, f32>,
}

impl<'a> CodeParts<'a> {
    /// Of `rows` rows, runs of `each`; the last may be shorter.
    pub(super) fn new(codes: &'a mut Codes, (rows, each): (usize, usize), columns: usize, group: usize) -> Self {
        let groups = columns / group;
        let (values, count) = (rows * columns, rows * groups);
        Self {
            columns,
            groups,
            codes: Parts::new(&mut codes.codes[..values], each * columns),
            scales: Parts::new(&mut codes.scales[..count], each * groups),
            zeros: Parts::new(&mut codes.zeros[..count], each * groups),
            sums: Parts::new(&mut codes.sums[..count], each * groups),
            offsets: Parts::new(&mut codes.offsets[..count], each * groups),
        }
    }

    /// How many runs there are.
    pub(super) fn count(&self) -> usize {
        self.codes.count()
    }

    /// Places of the rows of a run, and of their zeros.
    pub(super) fn take(&self, run: usize) -> impl Iterator<Item = (CodesMut<'_>, &mut [Zero])> {
        let numbers = self.scales.take(run).chunks_exact_mut(self.groups).zip(self.zeros.take(run).chunks_exact_mut(self.groups));
        let sums = self.sums.take(run).chunks_exact_mut(self.groups).zip(self.offsets.take(run).chunks_exact_mut(self.groups));
        let rows = self.codes.take(run).chunks_exact_mut(self.columns).zip(numbers).zip(sums);
        rows.map(|((codes, (scales, zeros)), (sums, offsets))| (CodesMut { codes, scales, sums, offsets }, zeros))
    }
}
