//! Ten thousand requests that cannot be computed, among good ones: each ends alone, and nothing of it stays.
//!
//! One test, because what is held is counted for the process.
#![allow(clippy::unwrap_used, missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, Ordering::SeqCst};

use inference::engine::{EngineConfig, EngineError, EngineHandle, Start, Step};
use inference::model::ModelError;
use inference::proto::residency::AdapterId;
use inference::verify::{Claim, replay};
use inference::{Sampling, tiny};
use types::id::Address;

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap()
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(signed(layout.size()), SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(signed(layout.size()), SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests in all; a fifth of them before what is held is looked at for the first time.
const POISON: u32 = 10_000;
/// Callers that send them, and callers with good requests.
const POISONERS: u32 = 4;
const GOOD: u8 = 4;
/// Bytes that may stay beyond those before: what a prefix kept since takes, and room that queues have grown to.
const SLACK: isize = 256 << 10;

const WARM: Sampling = Sampling { temperature_milli: 900, top_k: 0, top_p_ppm: 0 };

fn prompt(salt: u32) -> Vec<u32> {
    (0..40).map(|at| (at * 29 + salt * 13) % 250 + 3).collect()
}

fn good(who: u8) -> Start {
    Start { payer: Address([who; 20]), tenant: [who; 32], ..Start::new(prompt(who.into()), WARM, [who; 32], 12) }
}

async fn answer(engine: &EngineHandle, start: Start) -> Result<Vec<u32>, EngineError> {
    let mut generation = engine.begin(start).await?;
    generation.credit(12);
    let mut tokens = Vec::new();
    while let Step::Token { token, .. } = generation.next().await? {
        tokens.push(token);
    }
    Ok(tokens)
}

/// One request that has to fail, or is given up; says whether its numbers were at fault in a step.
async fn poison(engine: &EngineHandle, adapter: AdapterId, number: u32) -> bool {
    let start = Start { payer: Address([0xff; 20]), ..Start::new(prompt(number), WARM, [0xff; 32], 12) };
    let scaled = |scale: f32| vec![(adapter, scale)];
    match number % 8 {
        0 => matches!(
            answer(engine, Start { prompt: vec![5, 300], ..start }).await,
            Err(EngineError::Model(ModelError::UnknownToken { .. }))
        )
        .then_some(false),
        1 => matches!(answer(engine, Start { continued: vec![u32::MAX], ..start }).await, Err(EngineError::Model(_))).then_some(false),
        2 => matches!(answer(engine, Start { prompt: vec![5; 9_000], ..start }).await, Err(EngineError::ContextExceeded { .. }))
            .then_some(false),
        3 => matches!(answer(engine, Start { adapters: scaled(f32::INFINITY), ..start }).await, Err(EngineError::Invalid(_)))
            .then_some(false),
        4 => matches!(answer(engine, start.with_adapter([9; 32])).await, Err(EngineError::UnknownAdapter(_))).then_some(false),
        5 => {
            // Given up, sometimes before the engine has heard of it.
            let mut generation = engine.begin(start).await.unwrap();
            generation.credit(number % 3);
            Some(false)
        }
        6 => {
            let failed = answer(engine, Start { adapters: scaled(1e30), ..start }).await;
            matches!(failed, Err(EngineError::Model(ModelError::NotFinite { .. }))).then_some(true)
        }
        _ => {
            let claim = Claim {
                prompt: start.prompt,
                continued: vec![],
                tokens: prompt(1),
                adapters: scaled(-1e30),
                options: WARM.into(),
                seed: [1; 32],
                finish: None,
            };
            matches!(replay(engine, claim).await, Err(EngineError::Model(ModelError::NotFinite { .. }))).then_some(true)
        }
    }
    .unwrap_or_else(|| panic!("poison {number} ended otherwise"))
}

/// Sends poison up to number `to` while good requests are answered over and over; how many of either.
async fn round(engine: &EngineHandle, adapter: AdapterId, next: &Arc<AtomicU32>, to: u32, expected: &Arc<Vec<Vec<u32>>>) -> (u32, u32) {
    let is_over = Arc::new(AtomicBool::new(false));
    let answering = (0..GOOD).map(|who| {
        let (engine, is_over, expected) = (engine.clone(), Arc::clone(&is_over), Arc::clone(expected));
        tokio::spawn(async move {
            let mut count = 0;
            while !is_over.load(SeqCst) {
                assert_eq!(answer(&engine, good(who)).await.unwrap(), expected[usize::from(who)], "answer {count} of {who}");
                count += 1;
            }
            count
        })
    });
    let answering: Vec<_> = answering.collect();
    let poisoning = (0..POISONERS).map(|_| {
        let (engine, next) = (engine.clone(), Arc::clone(next));
        tokio::spawn(async move {
            let mut in_steps = 0;
            loop {
                let number = next.fetch_add(1, SeqCst);
                if number >= to {
                    next.fetch_sub(1, SeqCst);
                    return in_steps;
                }
                in_steps += u32::from(poison(&engine, adapter, number).await);
            }
        })
    });
    let (mut in_steps, mut good) = (0, 0);
    for task in poisoning.collect::<Vec<_>>() {
        in_steps += task.await.unwrap();
    }
    is_over.store(true, SeqCst);
    for task in answering {
        good += task.await.unwrap();
    }
    (in_steps, good)
}

#[tokio::test]
async fn ten_thousand_poison_requests_fail_no_good_one_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny::write_model(&path, 1).unwrap();
    let engine = EngineHandle::start(EngineConfig {
        cached_tokens_max: 2_048,
        adapters_dir: Some(folder.path().join("packed")),
        ..EngineConfig::new(path)
    })
    .unwrap();
    let dir = folder.path().join("adapter");
    tiny::write_adapter(&dir, None, 8, 1).unwrap();
    let adapter = AdapterId(engine.load_adapter(&dir).await.unwrap().hash);
    let mut expected = Vec::new();
    for who in 0..GOOD {
        expected.push(answer(&engine, good(who)).await.unwrap());
    }
    let (next, expected) = (Arc::new(AtomicU32::new(0)), Arc::new(expected));
    let first = round(&engine, adapter, &next, POISON / 5, &expected).await;
    let before = LIVE.load(SeqCst);
    let second = round(&engine, adapter, &next, POISON, &expected).await;
    let stats = engine.stats().await.unwrap();
    let grown = LIVE.load(SeqCst) - before;
    println!("{} poison requests failed in steps, {} good ones answered, {grown} bytes stay", first.0 + second.0, first.1 + second.1);
    assert_eq!(first.0 + second.0, POISON / 4, "a quarter gets into steps");
    assert!(first.1 + second.1 > 100, "{} good answers", first.1 + second.1);
    assert_eq!((stats.generations, stats.replays, stats.running, stats.waiting), (0, 0, 0, 0));
    assert_eq!(stats.pages, stats.pages_available);
    assert!(grown < SLACK, "{grown} bytes stay of {} requests", POISON * 4 / 5);
}
