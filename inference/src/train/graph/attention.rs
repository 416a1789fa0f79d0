//! Attention of one span and the way back through it, on plain arrays. Queries come [`QUERIES`] at a time with the keys that the last of them sees, so that of
//! the half that the causal mask hides little is multiplied.

use super::super::dense::{Factor, Product, turned};
use super::super::kernels::{causal_softmax, softmax_back};
use super::Span;

/// Queries computed at a time.
const QUERIES: usize = 32;

/// Sizes of a span's attention.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) span: Span,
    pub(super) kv_heads: usize,
    /// Query heads that share a head of keys.
    pub(super) group: usize,
    pub(super) head_dim: usize,
}

/// Rotated queries and keys, values and probabilities of a span.
pub(super) struct SavedSpan {
    /// `[kv_heads, group x len, head_dim]`, scaled.
    pub(super) q: Vec<f32>,
    /// `[kv_heads, total, head_dim]`.
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// `[kv_heads, group x len, total]`; 0 behind what a row sees.
    p: Vec<f32>,
}

/// Queries of one head that follow one another.
struct Queries {
    kv_head: usize,
    /// The first of the head's rows, counted over its group.
    first: usize,
    count: usize,
    /// Keys that the first of them sees; each one after it sees one more.
    seen: usize,
}

impl Shape {
    fn total(self) -> usize {
        self.span.shared + self.span.len
    }

    fn rows(self) -> usize {
        self.group * self.span.len
    }

    fn queries(self) -> impl Iterator<Item = Queries> {
        let Span { shared, len, .. } = self.span;
        let starts = (0..self.kv_heads).flat_map(move |kv_head| (0..self.group).map(move |member| (kv_head, member)));
        starts.flat_map(move |(kv_head, member)| {
            (0..len).step_by(QUERIES).map(move |start| Queries {
                kv_head,
                first: member * len + start,
                count: (len - start).min(QUERIES),
                seen: shared + start + 1,
            })
        })
    }

    /// Keys or values of a head.
    fn head(self, values: &[f32], kv_head: usize) -> &[f32] {
        &values[kv_head * self.total() * self.head_dim..][..self.total() * self.head_dim]
    }
}

impl Queries {
    /// Keys that the last of them sees.
    fn keys(&self) -> usize {
        self.seen + self.count - 1
    }

    /// Where these rows are in arrays with rows of `width`.
    fn range(&self, shape: Shape, width: usize) -> std::ops::Range<usize> {
        let start = (self.kv_head * shape.rows() + self.first) * width;
        start..start + self.count * width
    }
}

/// Attention of a span: what the way back needs, and `[kv_heads, group x len, head_dim]`.
pub(super) fn forward(shape: Shape, q: Vec<f32>, k: Vec<f32>, v: Vec<f32>) -> (SavedSpan, Vec<f32>) {
    let Shape { head_dim, kv_heads, .. } = shape;
    let total = shape.total();
    let keys: Vec<Vec<f32>> = (0..kv_heads).map(|kv_head| turned(shape.head(&k, kv_head), head_dim)).collect();
    let mut p = vec![0f32; kv_heads * shape.rows() * total];
    let mut mixed = vec![0f32; q.len()];
    for queries in shape.queries() {
        let (count, seen) = (queries.count, queries.keys());
        let p = &mut p[queries.range(shape, total)];
        let q = Factor::rows(&q[queries.range(shape, head_dim)], head_dim);
        Product { rows: count, sums: head_dim, width: seen, a: q, b: &keys[queries.kv_head], b_step: total }.add_to(p, total);
        causal_softmax(p, queries.seen, total);
        let v = shape.head(&v, queries.kv_head);
        Product { rows: count, sums: seen, width: head_dim, a: Factor::rows(p, total), b: v, b_step: head_dim }
            .add_to(&mut mixed[queries.range(shape, head_dim)], head_dim);
    }
    (SavedSpan { q, k, v, p }, mixed)
}

/// Gradients of queries (scaled ones), keys and values from `d: [kv_heads, group x len, head_dim]`, in the shapes of [`SavedSpan`].
pub(super) fn back(shape: Shape, saved: &SavedSpan, d: &[f32]) -> [Vec<f32>; 3] {
    let Shape { head_dim, kv_heads, .. } = shape;
    let total = shape.total();
    let values: Vec<Vec<f32>> = (0..kv_heads).map(|kv_head| turned(shape.head(&saved.v, kv_head), head_dim)).collect();
    let (mut d_q, mut d_k, mut d_v) = (vec![0f32; saved.q.len()], vec![0f32; saved.k.len()], vec![0f32; saved.v.len()]);
    let mut d_scores = Vec::new();
    for queries in shape.queries() {
        let (count, seen) = (queries.count, queries.keys());
        let (p, q, d) =
            (&saved.p[queries.range(shape, total)], &saved.q[queries.range(shape, head_dim)], &d[queries.range(shape, head_dim)]);
        let of_head = queries.kv_head * total * head_dim..(queries.kv_head + 1) * total * head_dim;
        let to_keys = |a: &[f32], b: &[f32], out: &mut [f32]| {
            Product { rows: seen, sums: count, width: head_dim, a: Factor::columns(a, total), b, b_step: head_dim }.add_to(out, head_dim);
        };
        to_keys(p, d, &mut d_v[of_head.clone()]);
        d_scores.clear();
        d_scores.resize(count * total, 0.0);
        Product { rows: count, sums: head_dim, width: seen, a: Factor::rows(d, head_dim), b: &values[queries.kv_head], b_step: total }
            .add_to(&mut d_scores, total);
        softmax_back(&mut d_scores, p, total);
        to_keys(&d_scores, q, &mut d_k[of_head.clone()]);
        let k = &saved.k[of_head];
        Product { rows: count, sums: seen, width: head_dim, a: Factor::rows(&d_scores, total), b: k, b_step: head_dim }
            .add_to(&mut d_q[queries.range(shape, head_dim)], head_dim);
    }
    [d_q, d_k, d_v]
}
