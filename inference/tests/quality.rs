//! What the profile `exact` loses against f32, on a trained model and fixed texts. Three corpora of some 10,000 tokens each are what
//! `examples/perplexity.rs` reads; these few hundred tokens are here so that a worse rule does not pass the gate. 5 s of processor.
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
fn smollm2_in_the_exact_profile_is_near_itself_in_f32() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/model/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run `cargo xtask fetch`", path.display());
    let (graph, text) = Model::load(&path, None).unwrap();
    let config = CpuConfig { threads: NonZeroUsize::new(2).unwrap(), pages: 2, rows: PREFILL_CHUNK, ..CpuConfig::default() };
    let mut cpu = Cpu::new(Arc::new(PackedModel::load(&path, None, Profile::Exact).unwrap().0), &config).unwrap();
    let (mut out, vocabulary, mut all) = (cpu.outputs(), graph.config().vocabulary, Comparison::default());
    for content in TEXTS {
        let mut tokens = text.tokenizer.encode_plain(content).unwrap();
        tokens.truncate(PREFILL_CHUNK);
        let expected = graph.forward_all(&tokens, &mut Cache::new(graph.config()), None).unwrap();
        let rows = u32::try_from(tokens.len()).unwrap();
        let every: Vec<u32> = (0..rows).collect();
        let step = Step {
            tokens: &tokens,
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
        println!("{} positions: {:?} nats, {:?} %, {:.3} agree", one.positions(), one.divergence(), one.percent(), one.agreement());
        assert!(one.divergence().0 < NEAR_EACH, "{content:.20}: {:?} nats", one.divergence());
        all.merge(&one);
    }
    println!("all: {:?} nats, {:?} %, {:.3} agree", all.divergence(), all.percent(), all.agreement());
    assert!(all.positions() >= 300, "{} positions", all.positions());
    assert!(all.divergence().0 < NEAR && all.agreement() >= AGREEMENT, "{:?} nats, {} agree", all.divergence(), all.agreement());
}

/// Mean divergence from f32 over all three texts, in nats. Measured: 0.0028. Codes by the largest magnitude and not the range, simulated in
/// f32, gave 0.0048 on 1,533 other tokens.
const NEAR: f64 = 0.0037;
/// The same of each. Measured: 0.0039, 0.0021, 0.0025.
const NEAR_EACH: f64 = 0.005;
/// Share of positions with the same likeliest token. Measured: 0.954.
const AGREEMENT: f64 = 0.93;
