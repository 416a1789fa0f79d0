//! What the profiles lose against f32, on a trained model and fixed texts. Three corpora of some 10,000 tokens each are what
//! `examples/perplexity.rs` reads; these few hundred tokens are here so that a worse rule does not pass the gate. 29 s on a busy machine.
#![allow(clippy::unwrap_used, missing_docs)]

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use inference::backend::cpu::{Cpu, CpuConfig};
use inference::backend::{Backend, Profile};
use inference::model::packed::PackedModel;
use inference::model::{Cache, Model, PREFILL_CHUNK};
use inference::quality::Comparison;
use inference::step::{Span, Step};

const TEXTS: [&str; 3] = [
    "Gout is a form of inflammatory arthritis characterised by recurrent attacks of a red, tender, hot and swollen joint, caused by \
     deposition of monosodium urate crystals. Pain typically comes on rapidly, reaching maximal intensity in less than twelve hours. The \
     joint at the base of the big toe is affected in about half of cases. It may also result in tophi, kidney stones, or kidney damage. \
     Hyperuricemia is the underlying metabolic abnormality; it reflects reduced renal excretion of urate, a diet rich in purines, or both.",
    "The with statement is used to wrap the execution of a block with methods defined by a context manager. This allows common \
     try...except...finally usage patterns to be encapsulated for convenient reuse.\n\n    with open(path) as file:\n        for line in \
     file:\n            print(line.rstrip())\n\nIf an exception was raised from the suite, and the return value from the __exit__() method \
     was false, the exception is reraised. If the return value was true, the exception is suppressed, and execution continues.",
    "The product constructs all or part of an SQL command using externally-influenced input from an upstream component, but it does not \
     neutralize or incorrectly neutralizes special elements that could modify the intended SQL command when it is sent to a downstream \
     component. Without sufficient removal or quoting of SQL syntax in user-controllable inputs, the generated SQL query can cause those \
     inputs to be interpreted as SQL instead of ordinary user data. Use prepared statements, parameterized queries, or stored procedures.",
];

#[test]
fn smollm2_in_the_profiles_exact_and_fast_is_near_itself_in_f32() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/model/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run `cargo xtask fetch`", path.display());
    let (graph, text) = Model::load(&path, None).unwrap();
    let of_texts = TEXTS.map(|content| {
        let mut tokens = text.tokenizer.encode_plain(content).unwrap();
        tokens.truncate(PREFILL_CHUNK);
        let expected = graph.forward_all(&tokens, &mut Cache::new(graph.config()), None).unwrap();
        (tokens, expected)
    });
    for near in [EXACT, FAST] {
        let config = CpuConfig { threads: NonZeroUsize::new(2).unwrap(), pages: 2, rows: PREFILL_CHUNK, ..CpuConfig::default() };
        let mut cpu = Cpu::new(Arc::new(PackedModel::load(&path, None, near.profile).unwrap().0), &config).unwrap();
        assert_eq!(cpu.profile(), near.profile);
        let (mut out, vocabulary, mut all) = (cpu.outputs(), graph.config().vocabulary, Comparison::default());
        for (tokens, expected) in &of_texts {
            let rows = u32::try_from(tokens.len()).unwrap();
            let every: Vec<u32> = (0..rows).collect();
            let step = Step {
                tokens,
                positions: &every,
                spans: &[Span { first_row: 0, rows, first_page: 0, pages: 2 }],
                page_table: &[0, 1],
                segments: &[],
                segment_rows: &[],
                wanted: &every,
            };
            cpu.forward(&step, &mut out).unwrap();
            assert_eq!(out.failed, [0u32; 0]);
            let mut one = Comparison::default();
            let logits = expected.chunks_exact(vocabulary).zip(out.logits.chunks_exact(vocabulary));
            logits.zip(&tokens[1..]).for_each(|((expected, got), next)| one.add(expected, got, *next));
            let (positions, divergence) = (one.positions(), one.divergence());
            println!("{}: {positions} positions: {divergence:?} nats, {:?} %, {:.3} agree", near.profile, one.percent(), one.agreement());
            assert!(divergence.0 < near.each, "{}, {positions} positions: {divergence:?} nats", near.profile);
            all.merge(&one);
        }
        let (divergence, agreement) = (all.divergence(), all.agreement());
        println!("{}, all: {divergence:?} nats, {:?} %, {agreement:.3} agree", near.profile, all.percent());
        assert!(all.positions() >= 300, "{} positions", all.positions());
        assert!(divergence.0 < near.all && agreement >= near.agreement, "{}: {divergence:?} nats, {agreement} agree", near.profile);
    }
}

/// How near a profile is to f32.
struct Near {
    profile: Profile,
    /// Mean divergence over all three texts, in nats.
    all: f64,
    /// The same of each.
    each: f64,
    /// Share of positions with the same likeliest token.
    agreement: f64,
}

/// Measured: 0.0028 nats, of each text 0.0039, 0.0021 and 0.0025; 0.954 agree. Codes by the largest magnitude and not the range, simulated in f32, gave
/// 0.0048 on 1,533 other tokens.
const EXACT: Near = Near { profile: Profile::Exact, all: 0.0037, each: 0.005, agreement: 0.93 };
/// Measured: 0.0118 nats, of each text 0.0138, 0.0109 and 0.0106; 0.909 agree. Of the exact profile's rules two differ: one scale for an output's weights, and
/// groups of activations three to four times as wide; which of them costs how much was not measured.
const FAST: Near = Near { profile: Profile::Fast, all: 0.015, each: 0.018, agreement: 0.88 };
