//! An adapter in eight bits, packed for the kernels: what a device keeps of it.
//!
//! A row of `A` and a row of `B` have a scale each (`largest / 127`), so an adapter of rank 16 on all linear layers of SmolLM2-135M takes
//! 5 MB instead of 20. Ranks are filled up with zeros to a multiple of sixteen, which changes no bit of a sum of integers; so one of rank
//! 1 takes as much.
//!
//! Packing reads each matrix once from the file's bytes, 64 kB of values at a time, on two threads; one of them first hashes what was not hashed as it was
//! read.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::cpu::kernel;
use crate::backend::cpu::pack::{PANEL, PackedRows};
use crate::model::{ModelInfo, Site};
use crate::numeric::{CodesMut, RowCodes};

use super::matched::{Matched, Matrix, matched};
use super::{AdapterError, AdapterFiles, AdapterInfo};

/// Values that are quantised at once: 64 kB of them stay in a core's cache.
const VALUES_AT_ONCE: usize = 16_384;

/// The matrices of one linear layer.
#[derive(Debug)]
pub struct PackedPair {
    /// `[rank, in]`.
    pub a: PackedRows,
    /// `[out, rank filled up]`, the adapter's scale in its scales.
    pub b: PackedRows,
}

/// An adapter that fits a model.
#[derive(Debug)]
pub struct Packed8 {
    pairs: Vec<[Option<PackedPair>; 7]>,
    info: AdapterInfo,
}

impl Packed8 {
    /// Reads an adapter's folder or file and packs it.
    ///
    /// # Errors
    /// Any [`AdapterError`].
    pub fn read(path: &Path, model: &ModelInfo) -> Result<Self, AdapterError> {
        Self::new(&AdapterFiles::read(path)?, model)
    }

    /// Matches an adapter's files with a model and packs them.
    ///
    /// # Errors
    /// Any [`AdapterError`] of matching; [`AdapterError::NotFinite`] if a matrix has numbers beyond what the profile computes with.
    pub fn new(files: &AdapterFiles, model: &ModelInfo) -> Result<Self, AdapterError> {
        let matched = matched(files, model)?;
        if let Some(wide) = matched.iter().find(|pair| !pair.a.columns.is_multiple_of(PANEL)) {
            let feature = format!("{} inputs of {}", wide.a.columns, wide.site.module());
            return Err(AdapterError::Unsupported { feature, fix: "use a base whose widths are multiples of 16" });
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, PackedPair)>, (usize, AdapterError)> {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(found) = matched.get(at) else { return Ok(done) };
                done.push((at, PackedPair::new(found).map_err(|error| (at, error))?));
            }
        };
        let (hash, here, there) = std::thread::scope(|scope| {
            let helper = scope.spawn(|| (files.hash(), work()));
            let here = work();
            let (hash, there) = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (hash, here, there)
        });
        // Of two bad matrices the first is named, whoever found it.
        let done = match (here, there) {
            (Ok(here), Ok(there)) => here.into_iter().chain(there),
            (Err((_, error)), Ok(_)) | (Ok(_), Err((_, error))) => return Err(error),
            (Err(one), Err(other)) => return Err(if one.0 < other.0 { one.1 } else { other.1 }),
        };
        let mut pairs: Vec<_> = std::iter::repeat_with(|| [const { None }; 7]).take(model.config.layers).collect();
        let mut rank = 0;
        for (at, pair) in done {
            let found = &matched[at];
            rank = rank.max(found.rank);
            pairs[found.layer][found.site as usize] = Some(pair);
        }
        let info = AdapterInfo { hash, rank, name: files.name.clone(), bytes: 0, is_base_recorded: files.base_hash().is_some() };
        Ok(Self::from_pairs(pairs, info))
    }

    /// The adapter of these matrices; `info` gets their bytes.
    pub(super) fn from_pairs(pairs: Vec<[Option<PackedPair>; 7]>, info: AdapterInfo) -> Self {
        let mut packed = Self { pairs, info };
        packed.info.bytes = packed.bytes() as u64;
        packed
    }

    #[cfg(test)]
    pub(super) fn into_pairs(self) -> Vec<[Option<PackedPair>; 7]> {
        self.pairs
    }

    /// What others may know of it.
    #[must_use]
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// The matrices of a linear layer, if it has any.
    #[must_use]
    pub fn pair(&self, layer: usize, site: Site) -> Option<&PackedPair> {
        self.pairs.get(layer)?[site as usize].as_ref()
    }

    /// Layers of the model it was matched with.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.pairs.len()
    }

    /// Bytes that a step reads for it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pairs.iter().flatten().flatten().map(|pair| pair.a.bytes() + pair.b.bytes()).sum()
    }
}

impl PackedPair {
    fn new(found: &Matched<'_>) -> Result<Self, AdapterError> {
        Ok(Self { a: pack(&found.a, found.a.columns)?, b: pack(&found.b, found.rank.next_multiple_of(PANEL))? })
    }
}

/// A matrix whose rows are filled up to `columns`.
fn pack(matrix: &Matrix<'_>, columns: usize) -> Result<PackedRows, AdapterError> {
    // The kernel of this machine: the bits are those of `numeric::quantise`, without its call of a library's rounding for each value.
    let kernels = kernel::select(None);
    let mut packed = PackedRows::zeroed(matrix.rows, columns);
    let at_once = (VALUES_AT_ONCE / columns).clamp(1, matrix.rows);
    let (mut values, mut codes) = (vec![0f32; at_once * columns], vec![0i8; at_once * columns]);
    let (mut scales, mut sums, mut offsets) = (vec![0f32; at_once], vec![0i32; at_once], vec![0f32; at_once]);
    for first in (0..matrix.rows).step_by(at_once) {
        let count = at_once.min(matrix.rows - first);
        let end = count * columns;
        matrix.rows(first, columns, &mut values[..end]);
        let numbers = (&mut scales[..count], &mut sums[..count], &mut offsets[..count]);
        let mut place = CodesMut { codes: &mut codes[..end], scales: numbers.0, sums: numbers.1, offsets: numbers.2 };
        if !(kernels.quantise)(&values[..end], columns, &mut place) {
            return Err(matrix.not_finite());
        }
        packed.put(first, &RowCodes { codes: &codes[..end], scales: &scales[..count] });
    }
    Ok(packed)
}
