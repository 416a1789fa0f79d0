use super::super::TrainConfig;
use super::super::params::{AdamW, Trained};
use super::*;
use crate::model::Cache;
use crate::tiny;

struct Bench {
    model: Model,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny::write_model(&path, 5).unwrap();
        Self { model: Model::load(&path, None).unwrap().0, _folder: folder }
    }
}

/// Two sequences that share their first three tokens, counted from the fourth on.
const SEQUENCES: [&[u32]; 2] = [&[1, 40, 41, 90, 91, 92, 93], &[1, 40, 41, 120, 77]];

fn batch(graph: &Graph, shared: usize) -> Batch {
    let width = graph.config().hidden;
    let trunks = SEQUENCES.map(|tokens| {
        let count = tokens.len() - 1;
        let hidden = rows(graph.embed(&tokens[..count]).unwrap(), count).unwrap();
        let alone = Batch { hidden, shared: 0, lengths: vec![count], targets: Vec::new() };
        read(&graph.frozen(&alone).unwrap(), <[f32]>::to_vec).unwrap()
    });
    let mut hidden = trunks[0][..shared * width].to_vec();
    let (mut lengths, mut targets) = (Vec::new(), Vec::new());
    let mut start = shared;
    for (tokens, trunk) in SEQUENCES.iter().zip(&trunks) {
        hidden.extend_from_slice(&trunk[shared * width..]);
        for at in 4..tokens.len() {
            targets.push((start + at - 1 - shared, tokens[at]));
        }
        lengths.push(tokens.len() - 1 - shared);
        start += tokens.len() - 1 - shared;
    }
    Batch { hidden: rows(hidden, start).unwrap(), shared, lengths, targets }
}

/// Random matrices, B included, so that every gradient is far from zero.
fn theta(layout: &Layout) -> Vec<f32> {
    let mut theta = layout.initial(3);
    let mut state = 17;
    for entry in &layout.entries {
        for slot in &mut theta[entry.b.clone()] {
            state = crate::sampler::split_mix(state);
            *slot = f32::from(u8::try_from(state & 255).unwrap()) / 1_000.0 - 0.128;
        }
    }
    theta
}

fn with<R>(first: usize, f: impl FnOnce(&Graph, &Layout) -> R) -> R {
    with_arithmetic(Arithmetic::F32, first, f)
}

fn with_arithmetic<R>(arithmetic: Arithmetic, first: usize, f: impl FnOnce(&Graph, &Layout) -> R) -> R {
    let bench = Bench::new();
    let graph = Graph::new(&bench.model, first, 64, arithmetic).unwrap();
    let config = TrainConfig { rank: 4, ..TrainConfig::default() };
    let layout = Layout::new(&config, bench.model.config(), first);
    f(&graph, &layout)
}

fn matrices<'a>(layout: &'a Layout, trained: &'a [Trained]) -> Matrices<'a> {
    Matrices { layout, trained, scale: 2.0 }
}

fn gradient(graph: &Graph, batch: &Batch, matrices: &Matrices) -> (f64, Vec<f32>) {
    let mut gradient = vec![0f32; matrices.layout.len];
    let loss = graph.gradient(batch, matrices, batch.targets.len(), &mut gradient).unwrap();
    (loss, gradient)
}

fn loss(graph: &Graph, layout: &Layout, batch: &Batch, theta: &[f32]) -> f64 {
    let trained = layout.matrices(theta);
    graph.loss(batch, Some(&matrices(layout, &trained))).unwrap() / batch.targets.len() as f64
}

#[test]
fn the_loss_is_the_one_of_the_serving_graph() {
    with(1, |graph, _| {
        let batch = batch(graph, 3);
        let mut expected = 0.0;
        for tokens in SEQUENCES {
            for at in 4..tokens.len() {
                let mut cache = Cache::new(graph.config());
                let logits = graph.model.forward(&tokens[..at], &mut cache, None).unwrap();
                let largest = logits.iter().copied().fold(f32::MIN, f32::max);
                let total: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
                expected += total.ln() + f64::from(largest - logits[tokens[at] as usize]);
            }
        }
        let got = graph.loss(&batch, None).unwrap();
        assert!((got / expected - 1.0).abs() < 1e-5, "{got} {expected}");
    });
}

#[test]
fn sharing_the_common_rows_changes_neither_loss_nor_gradient() {
    with(0, |graph, layout| {
        let trained = layout.matrices(&theta(layout));
        let matrices = matrices(layout, &trained);
        let (loss, shared) = gradient(graph, &batch(graph, 3), &matrices);
        let (alone, expected) = gradient(graph, &batch(graph, 0), &matrices);
        assert!((loss / alone - 1.0).abs() < 1e-5);
        let largest = expected.iter().fold(0f32, |m, g| m.max(g.abs()));
        for (got, expected) in shared.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-4 * largest, "{got} {expected}");
        }
    });
}

/// Along the gradient of one matrix the loss must change by the gradient's squared length: central differences, for every
/// matrix of every linear layer, with frozen layers below and without.
#[test]
fn gradients_agree_with_differences_of_the_loss() {
    for first in [0, 1] {
        with(first, |graph, layout| {
            let batch = batch(graph, 3);
            let theta = theta(layout);
            let trained = layout.matrices(&theta);
            let (_, gradient) = gradient(graph, &batch, &matrices(layout, &trained));
            for entry in &layout.entries {
                for range in [&entry.a, &entry.b] {
                    let length: f64 = gradient[range.clone()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                    let step = 0.02;
                    #[expect(clippy::cast_possible_truncation, reason = "rounded to f32")]
                    let moved = |sign: f64| {
                        let mut theta = theta.clone();
                        for at in range.clone() {
                            theta[at] += (sign * step * f64::from(gradient[at]) / length) as f32;
                        }
                        loss(graph, layout, &batch, &theta)
                    };
                    let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
                    assert!(
                        (slope / length - 1.0).abs() < 0.02,
                        "layer {} {:?}: slope {slope}, gradient {length}",
                        entry.layer,
                        entry.site,
                    );
                }
            }
        });
    }
}

#[test]
fn whole_numbers_give_nearly_the_loss_and_the_gradient_of_f32() {
    for first in [0, 1] {
        let both = [Arithmetic::F32, Arithmetic::I16].map(|arithmetic| {
            with_arithmetic(arithmetic, first, |graph, layout| {
                let trained = layout.matrices(&theta(layout));
                gradient(graph, &batch(graph, 3), &matrices(layout, &trained))
            })
        });
        let [(expected_loss, expected), (loss, got)] = both;
        assert!((loss / expected_loss - 1.0).abs() < 1e-3, "{loss} {expected_loss}");
        let length = |values: &mut dyn Iterator<Item = f32>| values.map(|g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        let apart = length(&mut got.iter().zip(&expected).map(|(a, b)| a - b));
        assert!(apart < 5e-3 * length(&mut expected.iter().copied()), "{apart}");
    }
}

#[test]
fn a_few_steps_learn_two_sequences() {
    with(0, |graph, layout| {
        let batch = batch(graph, 3);
        let mut theta = layout.initial(1);
        let mut optimizer = AdamW::new(layout.len);
        let before = loss(graph, layout, &batch, &theta);
        for _ in 0..60 {
            let trained = layout.matrices(&theta);
            let (_, gradient) = gradient(graph, &batch, &matrices(layout, &trained));
            optimizer.step(&mut theta, &gradient, 0.01, 0.0, 1.0);
        }
        let after = loss(graph, layout, &batch, &theta);
        assert!(after < 0.1 && before > 2.0, "{before} to {after}");
    });
}
