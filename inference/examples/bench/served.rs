//! Answers of a running engine: many with an adapter each, an adapter from its files to its first token, an answer checked.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use inference::adapter::store::AdapterStore;
use inference::adapter::{AdapterFiles, Packed8};
use inference::backend::Profile;
use inference::engine::{EngineConfig, EngineHandle, Start, Step};
use inference::model::packed::PackedModel;
use inference::proto::residency::{Action, AdapterId, Budget, Event};
use inference::sampler::Options;
use inference::tiny::adapters::write_adapter_of;
use inference::verify::{Checked, Claim, check};
use inference::{Finish, ModelInfo};

use crate::figures::{Found, best, median};
use crate::sampled::{Checker, Sampled};
use crate::{PROFILES, Settings};

/// Requests at a time, each with another adapter; of `prompt` and `answer` tokens, as `llama-server` is asked for.
const REQUESTS: u32 = 8;
const REQUEST_PROMPT: u32 = 32;
const REQUEST_ANSWER: u32 = 64;
/// Adapters of random numbers are multiplied by this, so that text stays text: it changes no time.
const SCALE: f32 = 1.0 / 256.0;
/// Tokens of the prompt before the first token with a new adapter.
const FIRST_PROMPT: u32 = 8;
/// Rank of the adapters whose loading is timed.
const RANK: usize = 16;
/// Tokens of the answer that is checked, and of its prompt.
const CHECKED: u32 = 512;
const CHECKED_PROMPT: u32 = 64;
/// Takes the end token out of the choice: answers have all their tokens.
const BARRED: i32 = -100_000;

/// An engine with a folder for adapters, or without.
pub(crate) fn start(settings: &Settings, profile: Profile, adapters_dir: Option<PathBuf>) -> Result<EngineHandle> {
    // Without guesses: a token is then a step, as in the rows beside it.
    let config =
        EngineConfig { profile, threads: Some(settings.threads), guesses: false, adapters_dir, ..EngineConfig::new(&settings.model) };
    Ok(EngineHandle::start(config)?)
}

/// Greedy answers of all their tokens.
pub(crate) fn options(engine: &EngineHandle) -> Options {
    let mut bias: Vec<(u32, i32)> = engine.eos().iter().map(|token| (*token, BARRED)).collect();
    bias.sort_unstable();
    Options { bias, ..Options::default() }
}

/// Tokens of a prompt, others for every `seed`, so that no round finds pages of another.
pub(crate) fn prompt(engine: &EngineHandle, tokens: u32, seed: u32) -> Result<Vec<u32>> {
    let vocabulary = u32::try_from(engine.info().config.vocabulary)?;
    Ok((0..tokens).map(|at| (at * 7_919 + seed % 4_096 * 104_729 + 1_000) % vocabulary).collect())
}

/// Pulls an answer to its end; how long its first token took, and its tokens.
async fn answer(engine: &EngineHandle, start: Start) -> Result<(Duration, Vec<u32>)> {
    let max = start.max_tokens;
    let begun = Instant::now();
    let mut generation = engine.begin(start).await?;
    generation.credit(max);
    let (mut first, mut tokens) = (None, Vec::new());
    while let Step::Token { token, .. } = generation.next().await? {
        first.get_or_insert_with(|| begun.elapsed());
        tokens.push(token);
    }
    ensure!(tokens.len() == usize::try_from(max)?, "an answer ended after {} of {max} tokens", tokens.len());
    Ok((first.context("an answer without a token")?, tokens))
}

/// Eight requests at a time with eight adapters, beside eight with one: generated tokens over the time from the first request to the last token.
pub(crate) async fn mixed(settings: &Settings) -> Result<Vec<Found>> {
    let (mut rates, mut with_one): ([Vec<f64>; PROFILES.len()], Vec<f64>) = Default::default();
    for (profile, rates) in PROFILES.into_iter().zip(&mut rates) {
        let (different, same) = mixed_in(settings, profile).await?;
        *rates = different;
        with_one.push(median(&same));
    }
    let (at, why) = best(&rates, true);
    let note = format!(
        "{why}; {REQUESTS} requests through the engine, prompts of {REQUEST_PROMPT} and answers of {REQUEST_ANSWER} tokens, prompts within the time; {:.0} tok/s with one adapter for all",
        with_one[at]
    );
    Ok(vec![Found::plain("mixed8_tok_s", "tok/s", std::mem::take(&mut rates[at]), note)])
}

/// Rates with different adapters, and with one.
async fn mixed_in(settings: &Settings, profile: Profile) -> Result<(Vec<f64>, Vec<f64>)> {
    let packed = tempfile::tempdir()?;
    let engine = start(settings, profile, Some(packed.path().to_path_buf()))?;
    let mut hashes = Vec::new();
    for path in settings.adapters(engine.info(), REQUESTS)? {
        hashes.push(engine.load_adapter(&path).await?.hash);
    }
    let (mut different, mut same) = (Vec::new(), Vec::new());
    // The first round brings the adapters in.
    for round in 0..=u32::try_from(settings.rounds)? {
        let one = together(&engine, &vec![hashes[0]; hashes.len()], 2 * round).await?;
        let each = together(&engine, &hashes, 2 * round + 1).await?;
        if round > 0 {
            same.push(one);
            different.push(each);
        }
    }
    Ok((different, same))
}

/// Tokens a second of as many requests as adapters.
async fn together(engine: &EngineHandle, adapters: &[[u8; 32]], seed: u32) -> Result<f64> {
    let mut starts = Vec::new();
    for (at, adapter) in (0..).zip(adapters) {
        let prompt = prompt(engine, REQUEST_PROMPT, seed * REQUESTS + at)?;
        let adapters = vec![(AdapterId(*adapter), SCALE)];
        starts.push(Start { adapters, ..Start::new(prompt, options(engine), [0; 32], REQUEST_ANSWER) });
    }
    let begun = Instant::now();
    let tasks: Vec<_> = starts
        .into_iter()
        .map(|start| {
            let engine = engine.clone();
            tokio::spawn(async move { answer(&engine, start).await })
        })
        .collect();
    let mut tokens = 0;
    for task in tasks {
        tokens += task.await??.1.len();
    }
    Ok(tokens as f64 / begun.elapsed().as_secs_f64())
}

/// An adapter in PEFT's files, until the first token of an answer with it.
pub(crate) async fn hot_load(settings: &Settings) -> Result<Vec<Found>> {
    let folder = tempfile::tempdir()?;
    let engine = start(settings, Profile::Exact, Some(folder.path().join("packed")))?;
    let (mut whole, mut loads, mut firsts, mut bases) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut parts: [Vec<f64>; 3] = Default::default();
    let mut shelf = Shelf::open(&folder.path().join("store"), engine.info())?;
    let mut bytes = 0;
    for round in 0..=u32::try_from(settings.rounds)? {
        let path = folder.path().join(round.to_string());
        write(&path, engine.info(), u64::from(round))?;
        let base = Start::new(prompt(&engine, FIRST_PROMPT, 2 * round)?, options(&engine), [0; 32], 1);
        let (base, _) = answer(&engine, base).await?;
        let prompt = prompt(&engine, FIRST_PROMPT, 2 * round + 1)?;
        let begun = Instant::now();
        let hash = engine.load_adapter(&path).await?.hash;
        let loaded = begun.elapsed();
        let start = Start { adapters: vec![(AdapterId(hash), SCALE)], ..Start::new(prompt, options(&engine), [0; 32], 1) };
        let (first, _) = answer(&engine, start).await?;
        let all = begun.elapsed();
        ensure!(engine.unload_adapter(hash).await?, "it was loaded");
        if round > 0 {
            for (values, time) in [(&mut whole, all), (&mut loads, loaded), (&mut firsts, first), (&mut bases, base)] {
                values.push(ms(time));
            }
            bytes = taken_apart(&path, engine.info(), &mut parts)?;
            shelf.time(&path)?;
        }
        std::fs::remove_dir_all(&path)?;
    }
    let [read, hash, pack] = parts.map(|values| median(&values));
    let note = format!(
        "PEFT files in the page cache, rank {RANK} on all linear layers; {:.1} until it is loaded, then {:.1} for the first token behind a prompt of {FIRST_PROMPT} ({:.1} without an adapter); alone: {read:.1} to read, {hash:.1} to hash, {pack:.1} to match and pack to {:.1} MB; a store takes {:.1} to have it durable, for which no request waits, and {:.1} to load what it has on disk",
        median(&loads),
        median(&firsts),
        median(&bases),
        bytes as f64 / 1e6,
        median(&shelf.imports),
        median(&shelf.loads)
    );
    Ok(vec![Found::plain("hot_load_ms", "ms", whole, note)])
}

/// Times reading, hashing and packing one after the other; packed bytes.
fn taken_apart(path: &Path, model: &ModelInfo, parts: &mut [Vec<f64>; 3]) -> Result<usize> {
    let begun = Instant::now();
    let files = AdapterFiles::read(path)?;
    parts[0].push(ms(begun.elapsed()));
    let begun = Instant::now();
    std::hint::black_box(files.hash());
    parts[1].push(ms(begun.elapsed()));
    let begun = Instant::now();
    let packed = Packed8::new(&files, model)?;
    parts[2].push(ms(begun.elapsed()));
    Ok(packed.bytes())
}

/// A store of adapters, and what it takes to keep one and to load it again.
struct Shelf {
    store: AdapterStore,
    woken: Receiver<()>,
    imports: Vec<f64>,
    loads: Vec<f64>,
}

impl Shelf {
    fn open(folder: &Path, model: &ModelInfo) -> Result<Self> {
        let (wake, woken) = channel();
        let wake = Mutex::new(wake);
        let wake = move || {
            // Nobody waits once the measurement is over.
            let _ = wake.lock().map(|wake| wake.send(()));
        };
        let (store, _) = AdapterStore::open(folder, model.clone(), Budget::default(), None, wake)?;
        Ok(Self { store, woken, imports: Vec::new(), loads: Vec::new() })
    }

    fn time(&mut self, adapter: &Path) -> Result<()> {
        let begun = Instant::now();
        let id = AdapterId(self.store.insert(adapter)?.hash);
        self.imports.push(ms(begun.elapsed()));
        // The first load takes what the import has packed, the second reads the store's file.
        self.load(id)?;
        self.store.act(Action::Unload(id));
        let begun = Instant::now();
        self.load(id)?;
        self.loads.push(ms(begun.elapsed()));
        self.store.act(Action::Unload(id));
        Ok(())
    }

    fn load(&self, id: AdapterId) -> Result<()> {
        self.store.act(Action::Load(id));
        loop {
            match self.store.notice() {
                Some((_, Event::Loaded)) => return self.store.packed(id).map(drop).context("what is loaded is there"),
                Some((_, Event::Gone | Event::Failed)) => bail!("not loaded: {:?}", self.store.reason(id)),
                Some(_) => {}
                None => self.woken.recv_timeout(Duration::from_secs(10)).context("the store does not answer")?,
            }
        }
    }
}

fn write(path: &Path, model: &ModelInfo, seed: u64) -> Result<()> {
    Ok(write_adapter_of(path, Some(model.hash), (RANK, seed), model.config.layers, |site| site.shape(&model.config))?)
}

/// Checking an answer over generating it, both alone in the engine; then a chunk of it, drawn. In the profile in which it takes the least.
pub(crate) async fn checked(settings: &Settings, models: &[Arc<PackedModel>; PROFILES.len()]) -> Result<Vec<Found>> {
    let all = [checked_in(settings, &models[0]).await?, checked_in(settings, &models[1]).await?];
    let of = |figure: &'static str, ratios: fn(&Checks) -> (&Vec<f64>, &str)| {
        let (at, why) = best(&[ratios(&all[0]).0.clone(), ratios(&all[1]).0.clone()], false);
        let (ratios, note) = ratios(&all[at]);
        Found::plain(figure, "%", ratios.clone(), note).because(&why)
    };
    let whole = of("check_ratio", |checks| (&checks.whole, &checks.note));
    Ok(vec![whole, of("check_sampled_ratio", |checks| (&checks.sampled, &checks.note_of_chunk))])
}

/// Ratios in percent, and what to say of them.
struct Checks {
    whole: Vec<f64>,
    note: String,
    sampled: Vec<f64>,
    note_of_chunk: String,
}

async fn checked_in(settings: &Settings, model: &Arc<PackedModel>) -> Result<Checks> {
    let engine = start(settings, model.profile(), None)?;
    let mut checker = Checker::new(model, settings.threads)?;
    let (mut ratios, mut made, mut checked) = (Vec::new(), Vec::new(), Vec::new());
    let (mut sampled_ratios, mut sampled, mut last) = (Vec::new(), Vec::new(), None);
    // Each takes seconds.
    for round in 0..u32::try_from(settings.rounds.div_ceil(3))? {
        let (prompt, options, seed) = (prompt(&engine, CHECKED_PROMPT, round)?, options(&engine), [0; 32]);
        let begun = Instant::now();
        let (_, tokens) = answer(&engine, Start::new(prompt.clone(), options.clone(), seed, CHECKED)).await?;
        let generated = begun.elapsed();
        let (continued, adapters, finish) = (Vec::new(), Vec::new(), Some(Finish::Length));
        let claim = Claim { prompt, continued, tokens, adapters, options, seed, finish };
        let begun = Instant::now();
        let Checked { replay: found, digests } = check(&engine, claim.clone()).await?;
        let time = begun.elapsed();
        if found.checked != CHECKED || found.mismatch.is_some() {
            bail!("the engine's own answer does not pass: {found:?}");
        }
        ratios.push(100.0 * time.as_secs_f64() / generated.as_secs_f64());
        made.push(ms(generated));
        checked.push(ms(time));
        let drawn = checker.time(&claim, &digests, engine.eos())?;
        sampled_ratios.push(100.0 * drawn.ms / ms(generated));
        sampled.push(drawn.ms);
        last = Some(drawn);
    }
    let Sampled { carried_mb, chunks, .. } = last.context("a round at least")?;
    let note = format!(
        "every position, with digests: {:.0} ms for {CHECKED} tokens behind a prompt of {CHECKED_PROMPT}, generated in {:.0} ms without guesses",
        median(&checked),
        median(&made)
    );
    let note_of_chunk = format!(
        "one chunk of the {chunks} with choices, with all that is before it from the node's pages, mean of all draws: {:.1} ms, {carried_mb:.1} MB of pages to carry besides; a single false one of them is found with probability 1/{chunks} however long the prompt is, an answer that is false throughout always, false keys of the prompt alone by a second draw",
        median(&sampled)
    );
    Ok(Checks { whole: ratios, note, sampled: sampled_ratios, note_of_chunk })
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Where the adapters of requests lie.
pub(crate) fn adapter_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("random-{number}.gguf"))
}
