//! One step through the graph, in the profile of its weights: rows of many sequences at once, nothing allocated.
//!
//! A layer is: norm and codes of every row; q, k and v; keys and values into their pages; attention; codes; o; the sum, norm and codes;
//! gate and up, gated where they are computed; codes; down; the sum. Every product of a site is one pass over its weights for all rows,
//! with bias and adapters added to each run of outputs while it is in the cache. Each part is cut into tasks that write apart; how many
//! there are, and who runs them, changes no bit, because each output is computed from start to end in one task.
//!
//! Of SmolLM2-135M a decoding step has 5 such parts a layer, 151 in all, and reads each weight once.

mod arena;

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::adapter::{Packed8, PackedPair};
use crate::backend::cpu::cache::{KvCache, Seen};
use crate::backend::cpu::kernel::{Kernels, RankRows};
use crate::backend::cpu::pack::PANEL;
use crate::backend::cpu::pool::Pool;
use crate::backend::cpu::recoded::Weights;
use crate::backend::cpu::share::{Cuts, OutTile, Parts, Tiles};
use crate::backend::{Counters, Outputs};
use crate::numeric::{BLOCK_KEYS, CodeRows, CodesMut, Queries, RANK_MAX, rope_angle};
use crate::step::{Segment, Span, Step};

use arena::{CodeParts, Codes, Item, Ranks, Rows, Scratch, free_scratch};

use super::Site;
use super::packed::{PackedLayer, PackedModel};
use super::plan::{Plan, SHRINK_ROWS};

pub(crate) use arena::Arena;

/// One step on one device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) model: &'a PackedModel,
    pub(crate) plan: &'a Plan,
    pub(crate) kernels: &'static Kernels,
    pub(crate) pool: &'a Pool,
    pub(crate) slots: &'a [Option<Arc<Packed8>>],
    pub(crate) step: &'a Step<'a>,
}

/// A product: weights, what is added, and where adapters' ranks are.
#[derive(Debug, Clone, Copy)]
struct Linear<'a> {
    site: Site,
    /// Which of the sites that share the input.
    at: usize,
    layer: usize,
    weights: &'a Weights,
    bias: Option<&'a [f32]>,
}

impl Pass<'_> {
    /// The whole step. It was checked.
    pub(crate) fn run(&self, cache: &mut KvCache, arena: &mut Arena, counters: &mut Counters, out: &mut Outputs) {
        counters.steps += 1;
        counters.rows += self.rows() as u64;
        self.begin(arena);
        for (index, layer) in self.model.layers.iter().enumerate() {
            self.attention(index, layer, cache, arena, counters);
            self.feed_forward(index, layer, arena, counters);
        }
        self.end(arena, counters, out);
    }

    fn rows(&self) -> usize {
        self.step.tokens.len()
    }

    /// Embeddings, angles, and which sequence each row is of.
    fn begin(&self, arena: &mut Arena) {
        let Arena { hidden, sum, cosines, sines, rows, .. } = arena;
        rows.spans.clear();
        for span in self.step.spans {
            rows.spans.extend(std::iter::repeat_n(*span, index_of(span.rows)));
        }
        rows.failed.iter().for_each(|failed| failed.store(false, Ordering::Relaxed));
        let (width, half, count) = (self.plan.hidden, self.plan.head_dim / 2, self.rows());
        sum[..count * width].fill(0.0);
        let hidden = Parts::new(&mut hidden[..count * width], width);
        let (cosines, sines) = (Parts::new(&mut cosines[..count * half], half), Parts::new(&mut sines[..count * half], half));
        self.each_row(&|row| {
            self.model.embed(index_of(self.step.tokens[row]), hidden.take(row));
            let angles = cosines.take(row).iter_mut().zip(sines.take(row));
            for ((cos, sin), frequency) in angles.zip(&self.model.frequencies) {
                (*cos, *sin) = rope_angle(self.step.positions[row], *frequency);
            }
        });
    }

    fn attention(&self, index: usize, layer: &PackedLayer, cache: &mut KvCache, arena: &mut Arena, counters: &mut Counters) {
        let sites = [Site::Q, Site::K, Site::V];
        self.enter(&layer.attention_norm, layer.linear(Site::Q).group(), arena);
        self.shrink(index, &sites, layer.linear(Site::Q).group(), arena, counters);
        let count = self.rows();
        {
            let Arena { q, k, v, codes, ranks, .. } = &mut *arena;
            let linears = [0, 1, 2].map(|at| Linear::new(layer, index, sites[at], at));
            let codes = codes.rows(count, self.plan.hidden, linears[0].weights.group());
            let (q_width, kv_width) = (self.plan.q_width, self.plan.kv_width);
            let tiles = [
                self.tiles(&linears[0], &mut q[..count * q_width]),
                self.tiles(&linears[1], &mut k[..count * kv_width]),
                self.tiles(&linears[2], &mut v[..count * kv_width]),
            ];
            self.count(counters, &sites);
            self.pool.run(tiles.iter().map(Tiles::count).sum(), &|task| {
                let mut at = (0, task);
                while at.1 >= tiles[at.0].count() {
                    at = (at.0 + 1, at.1 - tiles[at.0].count());
                }
                self.linear(&linears[at.0], &codes, ranks, &mut tiles[at.0].take(at.1));
            });
        }
        self.write(index, layer, cache, arena);
        self.attend(index, layer, cache, arena);
        self.gather(layer.linear(Site::O).group(), arena);
        self.output(index, layer, Site::O, arena, counters);
    }

    fn feed_forward(&self, index: usize, layer: &PackedLayer, arena: &mut Arena, counters: &mut Counters) {
        let sites = [Site::Gate, Site::Up];
        let group = layer.linear(Site::Gate).group();
        self.enter(&layer.feed_forward_norm, group, arena);
        self.shrink(index, &sites, group, arena, counters);
        let (count, width) = (self.rows(), self.plan.feed_forward);
        {
            let Arena { gate, up, codes, ranks, .. } = &mut *arena;
            let linears = [0, 1].map(|at| Linear::new(layer, index, sites[at], at));
            let codes = codes.rows(count, self.plan.hidden, group);
            // Both are cut alike, so that a task has the same outputs of both.
            let each = PANEL * Plan::panels_each(linears[0].weights, 2 * count);
            let (gate, up) =
                (Tiles::new(&mut gate[..count * width], count, width, each), Tiles::new(&mut up[..count * width], count, width, each));
            self.count(counters, &sites);
            self.pool.run(gate.count(), &|task| {
                let (mut gate, mut up) = (gate.take(task), up.take(task));
                self.linear(&linears[0], &codes, ranks, &mut gate);
                self.linear(&linears[1], &codes, ranks, &mut up);
                (0..count).for_each(|row| (self.kernels.gated)(gate.row(row), up.row(row)));
            });
        }
        let Arena { gate, codes, rows, scratch, .. } = &mut *arena;
        let gate = &gate[..count * width];
        self.quantise(codes, width, layer.linear(Site::Down).group(), rows, scratch, &|row, out| {
            out.copy_from_slice(&gate[row * width..][..width]);
            true
        });
        self.output(index, layer, Site::Down, arena, counters);
    }

    /// The last norm and the head, of the rows wanted.
    fn end(&self, arena: &mut Arena, counters: &mut Counters, out: &mut Outputs) {
        let (width, wanted, head) = (self.plan.hidden, self.step.wanted, &self.model.head);
        let (group, vocabulary) = (head.group(), self.plan.vocabulary);
        out.logits.resize(wanted.len() * vocabulary, 0.0);
        out.hidden.resize(wanted.len() * width, 0);
        out.hidden_scales.resize(wanted.len() * (width / group), 0.0);
        out.hidden_zeros.resize(wanted.len() * (width / group), 0);
        if !wanted.is_empty() {
            let Arena { hidden, sum, codes, rows, scratch, .. } = &mut *arena;
            let (hidden, sum) = (&hidden[..], &sum[..]);
            let each = Plan::rows_each(wanted.len());
            let parts = CodeParts::new(codes, (wanted.len(), each), width, group);
            self.pool.run(parts.count(), &|task| {
                let mut free = free_scratch(scratch);
                let Scratch { row: total, normed, .. } = &mut *free;
                let (total, normed) = (&mut total[..width], &mut normed[..width]);
                for (row, (mut place, zeros)) in wanted[task * each..].iter().map(|row| index_of(*row)).zip(parts.take(task)) {
                    add(&hidden[row * width..][..width], &sum[row * width..][..width], total);
                    let is_fine = (self.kernels.norm)(total, &self.model.norm, self.plan.epsilon, normed);
                    if !(is_fine & (self.kernels.quantise_range)(normed, group, &mut place, zeros)) {
                        rows.fail(row);
                    }
                }
            });
            let codes = codes.rows(wanted.len(), width, group);
            out.hidden.copy_from_slice(codes.codes);
            out.hidden_scales.copy_from_slice(codes.scales);
            out.hidden_zeros.iter_mut().zip(codes.zeros).for_each(|(out, zero)| *out = zero.zero());
            let each = PANEL * Plan::panels_each(head, wanted.len());
            let tiles = Tiles::new(&mut out.logits, wanted.len(), vocabulary, each);
            counters.products[HEAD] += 1;
            self.pool.run(tiles.count(), &|task| {
                let mut tile = tiles.take(task);
                self.kernels.multiply(head, panels(&tile), &codes, &mut tile);
            });
        }
        self.report(&arena.rows, out);
    }

    /// Names failed rows, and those behind them in their sequences, which saw their keys.
    fn report(&self, rows: &Rows, out: &mut Outputs) {
        out.failed.clear();
        for span in self.step.spans {
            let first = (span.first_row..span.first_row + span.rows).find(|row| rows.has_failed(index_of(*row)));
            out.failed.extend(first.into_iter().flat_map(|first| first..span.first_row + span.rows));
        }
        for (at, row) in self.step.wanted.iter().enumerate() {
            if out.failed.binary_search(row).is_ok() {
                out.logits[at * self.plan.vocabulary..][..self.plan.vocabulary].fill(f32::NAN);
            }
        }
    }

    /// `hidden += sum`, norm, codes.
    fn enter(&self, weight: &[f32], group: usize, arena: &mut Arena) {
        let Arena { hidden, sum, codes, rows, scratch, .. } = arena;
        let (width, count) = (self.plan.hidden, self.rows());
        let hidden = Parts::new(&mut hidden[..count * width], width);
        self.quantise(codes, width, group, rows, scratch, &|row, out| {
            let hidden = hidden.take(row);
            hidden.iter_mut().zip(&sum[row * width..][..width]).for_each(|(hidden, sum)| *hidden += sum);
            (self.kernels.norm)(hidden, weight, self.plan.epsilon, out)
        });
    }

    /// Codes of what attention gives, from the runs of its heads.
    fn gather(&self, group: usize, arena: &mut Arena) {
        let Arena { attended, codes, rows, scratch, .. } = arena;
        let shared = self.plan.sharing * self.plan.head_dim;
        let padded = self.padded();
        self.quantise(codes, self.plan.q_width, group, rows, scratch, &|row, out| {
            for (head, out) in out.chunks_exact_mut(shared).enumerate() {
                out.copy_from_slice(&attended[(head * padded + row) * shared..][..shared]);
            }
            true
        });
    }

    /// Fills a row for each task with `fill` (false: the row fails), and quantises it.
    fn quantise(
        &self,
        codes: &mut Codes,
        width: usize,
        group: usize,
        rows: &Rows,
        scratch: &[Mutex<Scratch>],
        fill: &(dyn Fn(usize, &mut [f32]) -> bool + Sync),
    ) {
        let each = Plan::rows_each(self.rows());
        let parts = CodeParts::new(codes, (self.rows(), each), width, group);
        self.pool.run(parts.count(), &|task| {
            let mut free = free_scratch(scratch);
            let values = &mut free.row[..width];
            for (row, (mut place, zeros)) in (task * each..).zip(parts.take(task)) {
                let is_fine = fill(row, values);
                if !(is_fine & (self.kernels.quantise_range)(values, group, &mut place, zeros)) {
                    rows.fail(row);
                }
            }
        });
    }

    /// A product whose outputs are added to the stream: o and down.
    fn output(&self, index: usize, layer: &PackedLayer, site: Site, arena: &mut Arena, counters: &mut Counters) {
        let linear = Linear::new(layer, index, site, 0);
        self.shrink(index, &[site], linear.weights.group(), arena, counters);
        let Arena { sum, codes, ranks, .. } = arena;
        let codes = codes.rows(self.rows(), linear.weights.columns(), linear.weights.group());
        let tiles = self.tiles(&linear, &mut sum[..self.rows() * self.plan.hidden]);
        self.count(counters, &[site]);
        self.pool.run(tiles.count(), &|task| self.linear(&linear, &codes, ranks, &mut tiles.take(task)));
    }

    /// Some outputs of a product, whole: base, bias, adapters in the order of segments.
    fn linear(&self, linear: &Linear<'_>, codes: &CodeRows<'_>, ranks: &Ranks, tile: &mut OutTile<'_>) {
        let panels = panels(tile);
        self.kernels.multiply(linear.weights, panels.clone(), codes, tile);
        if let Some(bias) = linear.bias {
            let bias = &bias[tile.columns()];
            for row in 0..codes.rows {
                tile.row(row).iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        }
        for segment in self.step.segments {
            let Some(pair) = self.pair(segment, linear.layer, linear.site) else { continue };
            let rows = self.places(segment, linear.at);
            let (first, wide) = (rows.start * RANK_MAX, rows.len() * pair.b.columns());
            let of_rows = RankRows {
                codes: &ranks.codes.codes[first..first + wide],
                scales: &ranks.codes.scales[rows.clone()],
                sums: &ranks.codes.sums[rows],
                request: segment.scale,
            };
            self.kernels.expansion(&pair.b, panels.clone(), &of_rows, self.which(segment), tile);
        }
    }

    /// The ranks of every segment, for sites that share the codes that stand in the arena.
    fn shrink(&self, layer: usize, sites: &[Site], group: usize, arena: &mut Arena, counters: &mut Counters) {
        if self.step.segments.is_empty() {
            return;
        }
        let Arena { codes, ranks, rows, .. } = arena;
        let Ranks { values, codes: rank_codes, items, wide, narrow } = ranks;
        items.clear();
        wide.clear();
        narrow.clear();
        for (at, site) in sites.iter().enumerate() {
            for (number, segment) in self.step.segments.iter().enumerate() {
                let Some(pair) = self.pair(segment, layer, *site) else { continue };
                counters.adapters[*site as usize] += 1;
                let (places, columns) = (self.places(segment, at), pair.b.columns());
                for first in (0..places.len()).step_by(SHRINK_ROWS) {
                    let count = SHRINK_ROWS.min(places.len() - first);
                    let from = places.start * RANK_MAX + first * columns;
                    items.push(Item { site: *site, segment: number, first, rows: count });
                    wide.push(from..from + count * columns);
                    narrow.push(places.start + first..places.start + first + count);
                }
            }
        }
        let Some(first) = items.first() else { return };
        let columns = self.model.layers[layer].linear(first.site).columns();
        let codes = codes.rows(self.rows(), columns, group);
        let values = Cuts::new(values, wide);
        let (out, scales) = (Cuts::new(&mut rank_codes.codes, wide), Cuts::new(&mut rank_codes.scales, narrow));
        let (sums, offsets) = (Cuts::new(&mut rank_codes.sums, narrow), Cuts::new(&mut rank_codes.offsets, narrow));
        self.pool.run(items.len(), &|task| {
            let item = items[task];
            let segment = &self.step.segments[item.segment];
            let Some(pair) = self.pair(segment, layer, item.site) else { return };
            let which = &self.which(segment)[item.first..][..item.rows];
            let values = values.take(task);
            (self.kernels.shrink)(&pair.a, &codes, which, values);
            let columns = pair.b.columns();
            let numbers = scales.take(task).iter_mut().zip(sums.take(task)).zip(offsets.take(task));
            let each = values.chunks_exact(columns).zip(out.take(task).chunks_exact_mut(columns)).zip(numbers);
            for (((values, codes), ((scale, sum), offset)), row) in each.zip(which) {
                let one = std::slice::from_mut;
                let mut place = CodesMut { codes, scales: one(scale), sums: std::slice::from_mut(sum), offsets: one(offset) };
                if !(self.kernels.quantise)(values, columns, &mut place) {
                    rows.fail(index_of(*row));
                }
            }
        });
    }

    /// Keys and values of the step's rows into their pages: a task for each key head.
    fn write(&self, index: usize, layer: &PackedLayer, cache: &mut KvCache, arena: &mut Arena) {
        let Arena { k, v, cosines, sines, rows, scratch, .. } = arena;
        let (dim, width) = (self.plan.head_dim, self.plan.kv_width);
        let norm = layer.extras.head_norms.as_ref().map(|[_, k]| k.as_slice());
        let regions = cache.layer_mut(index);
        let task = |head: usize| {
            let (mut region, mut free) = (regions.take(head), free_scratch(scratch));
            let Scratch { row: heads, normed, head: key, value, .. } = &mut *free;
            for row in 0..self.rows() {
                let at = row * width + head * dim;
                heads[..dim].copy_from_slice(&k[at..at + dim]);
                let mut is_fine = self.turn(&mut heads[..dim], &mut normed[..dim], norm, self.angles(row, cosines, sines));
                is_fine &= (self.kernels.quantise)(&heads[..dim], dim, &mut key.place(dim, dim));
                is_fine &= (self.kernels.quantise)(&v[at..at + dim], dim, &mut value.place(dim, dim));
                if !is_fine {
                    rows.fail(row);
                }
                let (page, slot) = self.page(&rows.spans[row], row);
                region.write(page, slot, (&key.codes[..dim], key.scales[0]), (&value.codes[..dim], value.scales[0]));
            }
        };
        // Of few rows this takes a microsecond.
        if self.rows() <= 2 { (0..self.plan.kv_heads).for_each(task) } else { self.pool.run(self.plan.kv_heads, &task) }
    }

    /// Attention of all rows: a task for some rows and a key head.
    fn attend(&self, index: usize, layer: &PackedLayer, cache: &KvCache, arena: &mut Arena) {
        let Arena { q, attended, cosines, sines, rows, scratch, .. } = arena;
        let Plan { head_dim: dim, sharing, kv_heads, q_width, .. } = *self.plan;
        let (shared, padded, each) = (sharing * dim, self.padded(), self.plan.attention_rows(self.rows()));
        let norm = layer.extras.head_norms.as_ref().map(|[q, _]| q.as_slice());
        let runs = padded / each;
        let parts = Parts::new(&mut attended[..kv_heads * padded * shared], each * shared);
        self.pool.run(kv_heads * runs, &|task| {
            // Later rows see more keys: they begin first, so that the last task is a short one.
            let (head, run) = (task % kv_heads, runs - 1 - task / kv_heads);
            let (out, mut free) = (parts.take(head * runs + run), free_scratch(scratch));
            let Scratch { row: heads, normed, head: query, scores, .. } = &mut *free;
            let (heads, normed) = (&mut heads[..shared], &mut normed[..shared]);
            for (row, out) in (run * each..self.rows().min((run + 1) * each)).zip(out.chunks_exact_mut(shared)) {
                heads.copy_from_slice(&q[row * q_width + head * shared..][..shared]);
                let mut is_fine = self.turn(heads, normed, norm, self.angles(row, cosines, sines));
                is_fine &= (self.kernels.quantise)(heads, dim, &mut query.place(shared, dim));
                if !is_fine {
                    rows.fail(row);
                }
                let queries = Queries { codes: &query.codes, scales: &query.scales, sums: &query.sums, factor: self.plan.factor };
                let span = &rows.spans[row];
                let pages = &self.step.page_table[index_of(span.first_page)..][..index_of(span.pages)];
                let keys = index_of(self.step.positions[row]) + 1;
                let seen = Seen { region: cache.region(index, head), pages, keys };
                self.kernels.attention(&queries, &seen, scores, out);
            }
        });
    }

    /// Norms heads, where the family does, and rotates them; false if the row fails.
    fn turn(&self, heads: &mut [f32], normed: &mut [f32], norm: Option<&[f32]>, (cosines, sines): (&[f32], &[f32])) -> bool {
        let dim = self.plan.head_dim;
        let mut is_fine = true;
        if let Some(weight) = norm {
            for (head, out) in heads.chunks_exact(dim).zip(normed.chunks_exact_mut(dim)) {
                is_fine &= (self.kernels.norm)(head, weight, self.plan.epsilon, out);
            }
            heads.copy_from_slice(normed);
        }
        (self.kernels.rotate)(heads, dim, cosines, sines);
        is_fine
    }

    fn angles<'a>(&self, row: usize, cosines: &'a [f32], sines: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        let half = self.plan.head_dim / 2;
        (&cosines[row * half..][..half], &sines[row * half..][..half])
    }

    /// Page and place in it of a row's own position.
    fn page(&self, span: &Span, row: usize) -> (u32, usize) {
        let position = index_of(self.step.positions[row]);
        (self.step.page_table[index_of(span.first_page) + position / BLOCK_KEYS], position % BLOCK_KEYS)
    }

    /// Rows in whole tasks of attention.
    fn padded(&self) -> usize {
        self.rows().next_multiple_of(self.plan.attention_rows(self.rows()))
    }

    fn tiles<'a>(&self, linear: &Linear<'_>, out: &'a mut [f32]) -> Tiles<'a> {
        let (rows, weights) = (self.rows(), linear.weights);
        Tiles::new(out, rows, weights.outputs(), PANEL * Plan::panels_each(weights, rows))
    }

    fn pair(&self, segment: &Segment, layer: usize, site: Site) -> Option<&PackedPair> {
        self.slots[index_of(segment.slot)].as_ref().and_then(|adapter| adapter.pair(layer, site))
    }

    /// Places of a segment among all ranks, at the site that is `at` of those that share an input.
    fn places(&self, segment: &Segment, at: usize) -> Range<usize> {
        let first = at * self.plan.segment_rows + index_of(segment.first);
        first..first + index_of(segment.rows)
    }

    fn which(&self, segment: &Segment) -> &[u32] {
        &self.step.segment_rows[index_of(segment.first)..][..index_of(segment.rows)]
    }

    fn count(&self, counters: &mut Counters, sites: &[Site]) {
        sites.iter().for_each(|site| counters.products[*site as usize] += 1);
    }

    /// `f` of every row, several in a task.
    fn each_row(&self, f: &(dyn Fn(usize) + Sync)) {
        let count = self.rows();
        let each = Plan::rows_each(count);
        self.pool.run(count.div_ceil(each), &|task| (task * each..count.min((task + 1) * each)).for_each(f));
    }
}

impl<'a> Linear<'a> {
    fn new(layer: &'a PackedLayer, index: usize, site: Site, at: usize) -> Self {
        Self { site, at, layer: index, weights: layer.linear(site), bias: layer.bias(site) }
    }
}

/// Place of the head behind the sites, in [`Counters::products`].
const HEAD: usize = 7;

/// Panels of a tile; tiles are cut at panels.
fn panels(tile: &OutTile<'_>) -> Range<usize> {
    let columns = tile.columns();
    columns.start / PANEL..columns.end.div_ceil(PANEL)
}

fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a + b);
}

fn index_of(number: u32) -> usize {
    usize::try_from(number).expect("an index of a checked step")
}
