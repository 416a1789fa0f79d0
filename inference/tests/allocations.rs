//! Steps allocate nothing, counted by the allocator, on the device alone and with the whole engine around it, whether or not answers gather what fingerprints
//! are made of. One test, because the count is the process's.
#![allow(clippy::unwrap_used, missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use inference::Sampling;
use inference::adapter::Packed8;
use inference::backend::cpu::{Cpu, CpuConfig};
use inference::backend::{Backend, Profile};
use inference::engine::{EngineConfig, EngineHandle, Generation, Start, Step as Engine};
use inference::model::packed::PackedModel;
use inference::step::{Segment, Slot, Span, Step};
use inference::tiny::{self, families::Tiny};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn no_step_allocates() {
    no_step_of_the_device();
    no_step_of_the_engine();
}

/// Tokens of each answer that are counted: with the prompt and those before they stay within a page, so that none gets its name.
const COUNTED: u32 = 19;

/// Eight answers side by side, some sampled, some with adapters, some with fingerprints; each token is planned, computed, chosen, remembered and delivered.
fn no_step_of_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny::write_model(&path, 1).unwrap();
    let config = EngineConfig { adapters_dir: Some(folder.path().join("packed")), ..EngineConfig::new(path) };
    let engine = EngineHandle::start(config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let count = runtime.block_on(async {
        let mut generations = Vec::new();
        for at in 0..8u8 {
            let dir = folder.path().join(format!("adapter-{at}"));
            tiny::write_adapter(&dir, None, 8, at.into()).unwrap();
            let adapter = engine.load_adapter(&dir).await.unwrap().hash;
            let prompt = (0..14).map(|token| token * 17 + u32::from(at)).collect();
            let sampling = Sampling { temperature_milli: 500 * u32::from(at % 2), top_k: 0, top_p_ppm: 0 };
            let start = Start { fingerprints: at % 4 < 2, ..Start::new(prompt, sampling, [at; 32], 100) };
            let start = if at < 4 { start.with_adapter(adapter) } else { start };
            generations.push(engine.begin(start).await.unwrap());
        }
        // What ends early goes on elsewhere: only those that last are counted.
        pull(&mut generations, COUNTED + 1).await;
        // Room for what fingerprints need is made when tokens are allowed. It doubles here, and holds those that are counted.
        pull(&mut generations, 1).await;
        assert!(generations.len() >= 5, "{} answers are long enough", generations.len());
        let is_remembered = |generation: &Generation| generation.activations().is_some();
        assert!(generations.iter().any(is_remembered) && !generations.iter().all(is_remembered));
        let before = COUNT.load(SeqCst);
        pull(&mut generations, COUNTED).await;
        let count = COUNT.load(SeqCst) - before;
        assert!(generations.len() >= 4, "{} answers were counted", generations.len());
        count
    });
    assert_eq!(count, 0, "allocations of {COUNTED} tokens of several answers");
}

/// Has each answer go on by so many tokens, all at once; those that end are dropped.
async fn pull(generations: &mut Vec<Generation>, tokens: u32) {
    generations.iter_mut().for_each(|generation| generation.credit(tokens));
    for at in (0..generations.len()).rev() {
        for _ in 0..tokens {
            if let Engine::End(_) = generations[at].next().await.unwrap() {
                drop(generations.swap_remove(at));
                break;
            }
        }
    }
}

fn no_step_of_the_device() {
    let folder = tempfile::tempdir().unwrap();
    for tiny in [Tiny::Smollm2, Tiny::Llama3, Tiny::Qwen2] {
        let path = folder.path().join("tiny.gguf");
        std::fs::write(&path, tiny.bytes(2, Tiny::SEED)).unwrap();
        let model = Arc::new(PackedModel::load(&path, None, Profile::Exact).unwrap().0);
        let config = CpuConfig { threads: NonZeroUsize::new(3).unwrap(), pages: 8, ..CpuConfig::default() };
        let mut cpu = Cpu::new(model, &config).unwrap();
        let dir = folder.path().join(format!("adapter-{tiny}"));
        tiny::write_adapter(&dir, None, 16, 3).unwrap();
        let packed = Packed8::read(&dir, cpu.info()).unwrap();
        cpu.attach(Slot(0), &Arc::new(packed)).unwrap();
        let mut out = cpu.outputs();
        let tokens: Vec<u32> = (0..256).map(|at| at * 7 % 300).collect();
        let positions: Vec<u32> = (0..128).chain(0..128).collect();
        let all: Vec<u32> = (0..256).collect();
        let span = |first_row, rows, first_page| Span { first_row, rows, first_page, pages: 2 };
        let halves = [span(0, 128, 0), span(128, 128, 2)];
        let segments = [Segment { slot: 0, first: 0, rows: 128, scale: 1.0 }];
        let page_table = [0, 1, 2, 3];
        let large = Step {
            tokens: &tokens,
            positions: &positions,
            spans: &halves,
            page_table: &page_table,
            segments: &segments,
            segment_rows: &all[128..],
            wanted: &all,
        };
        let small = Step {
            tokens: &[5, 6],
            positions: &[127, 127],
            spans: &[span(0, 1, 0), span(1, 1, 2)],
            segments: &[Segment { slot: 0, first: 0, rows: 1, scale: 1.0 }],
            segment_rows: &[1],
            wanted: &[0, 1],
            ..large
        };
        // Before it each thread has met itself, for which the standard library allocates once.
        for _ in 0..20 {
            cpu.forward(&small, &mut out).unwrap();
        }
        let before = COUNT.load(SeqCst);
        for step in [&large, &small, &large, &small, &small] {
            cpu.forward(step, &mut out).unwrap();
        }
        assert_eq!(COUNT.load(SeqCst) - before, 0, "allocations of five steps of {tiny}");
    }
}
