//! The engine's figures on SmolLM2-135M, each beside what the machine can do in the same run, as JSON rows for `cargo xtask bench engine`:
//!
//! `cargo run --release -p inference --example bench -- MODEL.gguf [--threads 2] [--rounds 9] [--adapters FOLDER] [PART...]`
//!
//! Parts: `stream`, `batch`, `prefill`, `mixed`, `many`, `busy`, `hot-load`, `cancel`, `check`, `train`; all by default. Each figure is the median of its rounds. Into the folder go
//! the adapters of `mixed`, for a peer that is to serve the same.
//!
//! Figures that name no profile are measured in `exact` and in `fast`, and the best counts (of cancelling the worst); each says which it is. Losses of 256 adapters, a neighbour and
//! loading are of `exact`.
//!
//! What bounds them. In `exact` a step reads 96 MB of codes and scales once, however many rows it has: at 28 GB/s from memory one stream has at most 294 tokens a second.
//! In `fast` it reads 138 MB, so one stream has 203.
//! A token takes 106 million products in the layers and 28 in the head, so with 100 billion a second 746 tokens of many streams, and 943 of a prompt, whose
//! head is computed once; the bytes stop being the limit where rows times these products take longer than one reading. Keys and values are 12.2 kB for each
//! token before (50 MB a step for 32 rows with 128 each), counted in no limit here. An adapter of rank 16 adds 5.5 MB to what a step reads and 3.6 % to the
//! products of its rows: eight leave 72 % of the rate with one and 32 leave 37 % where bytes are the limit, and nearly all of it where products are.
//! A token of training takes 269 million products of frozen weights (each layer twice, the head twice) and, at 256 tokens with rank 16, about 28 million others.

mod cancelled;
mod device;
mod figures;
mod limits;
mod sampled;
mod served;
mod training;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use inference::ModelInfo;
use inference::backend::Profile;
use inference::model::packed::PackedModel;
use inference::tiny::adapters::gguf_adapter_bytes_of;

use device::Devices;
use figures::Found;
use limits::Limits;

/// Profiles that are measured. Of the figures that name none, the best counts.
pub(crate) const PROFILES: [Profile; 2] = [Profile::Exact, Profile::Fast];
/// Rank of the adapters beside each other.
const RANK: usize = 16;
/// Every part, in the order in which they are measured.
const PARTS: [Part; 10] =
    [Part::Stream, Part::Batch, Part::Prefill, Part::Mixed, Part::Many, Part::Busy, Part::HotLoad, Part::Cancel, Part::Check, Part::Train];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Stream,
    Batch,
    Prefill,
    Mixed,
    Many,
    Busy,
    HotLoad,
    Cancel,
    Check,
    Train,
}

/// What to measure, and how often.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    model: PathBuf,
    threads: NonZeroUsize,
    rounds: usize,
    /// Where adapters are written; none for a folder that is gone afterwards.
    folder: Option<PathBuf>,
    parts: Vec<Part>,
}

fn main() -> Result<()> {
    let mut settings = settings(std::env::args().skip(1))?;
    let temporary = tempfile::tempdir()?;
    settings.folder.get_or_insert_with(|| temporary.path().to_owned());
    let before = Limits::measure(settings.threads);
    let found = measure(&settings)?;
    let limits = before.or(Limits::measure(settings.threads));
    for found in found {
        println!("{}", serde_json::to_string(&found.row(&limits)?)?);
    }
    Ok(())
}

fn measure(settings: &Settings) -> Result<Vec<Found>> {
    let load = |profile| Ok::<_, anyhow::Error>(Arc::new(PackedModel::load(&settings.model, None, profile)?.0));
    let models = [load(PROFILES[0])?, load(PROFILES[1])?];
    let mut devices = Devices::new(&models, settings.threads)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut found = Vec::new();
    for part in &settings.parts {
        found.extend(match part {
            Part::Stream => devices.stream(settings),
            Part::Batch => devices.batch(settings),
            Part::Prefill => devices.prompt(settings),
            Part::Mixed => devices.mixed(settings),
            Part::Many => devices.exact().many(settings),
            Part::Busy => devices.exact().busy(settings),
            Part::HotLoad => runtime.block_on(served::hot_load(settings)),
            Part::Cancel => runtime.block_on(cancelled::drops(settings)),
            Part::Check => runtime.block_on(served::checked(settings, &models)),
            Part::Train => training::steps(settings),
        }?);
        if *part == Part::Mixed {
            found.extend(runtime.block_on(served::mixed(settings))?);
        }
    }
    Ok(found)
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings> {
    let two = NonZeroUsize::MIN.saturating_add(1);
    let mut settings = Settings { model: PathBuf::new(), threads: two, rounds: 9, folder: None, parts: Vec::new() };
    settings.model = arguments.next().context("the first argument is a GGUF file")?.into();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--threads" => settings.threads = value()?.parse().context("--threads is a number from 1 on")?,
            "--rounds" => settings.rounds = value()?.parse::<NonZeroUsize>().context("--rounds is a number from 1 on")?.get(),
            "--adapters" => settings.folder = Some(value()?.into()),
            part => settings.parts.push(Part::named(part)?),
        }
    }
    if settings.parts.is_empty() {
        settings.parts = PARTS.to_vec();
    }
    Ok(settings)
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Batch => "batch",
            Self::Prefill => "prefill",
            Self::Mixed => "mixed",
            Self::Many => "many",
            Self::Busy => "busy",
            Self::HotLoad => "hot-load",
            Self::Cancel => "cancel",
            Self::Check => "check",
            Self::Train => "train",
        }
    }

    fn named(name: &str) -> Result<Self> {
        match PARTS.into_iter().find(|part| part.name() == name) {
            Some(part) => Ok(part),
            None => bail!("no part is called {name:?}; there are: {}", PARTS.map(Self::name).join(", ")),
        }
    }
}

impl Settings {
    /// Adapters of random numbers in the folder, made if they are not there.
    fn adapters(&self, model: &ModelInfo, count: u32) -> Result<Vec<PathBuf>> {
        let folder = self.folder.as_deref().context("there is a folder for adapters")?;
        std::fs::create_dir_all(folder)?;
        let write = |number| {
            let path = served::adapter_path(folder, number);
            std::fs::write(&path, adapter_bytes(model, u64::from(number)))?;
            Ok(path)
        };
        (0..count).map(write).collect()
    }
}

/// An adapter of a seed on all linear layers, as a GGUF file.
fn adapter_bytes(model: &ModelInfo, seed: u64) -> Vec<u8> {
    let config = &model.config;
    gguf_adapter_bytes_of(Some(model.hash), (RANK, seed), (config.layers, config.head_dim), |site| site.shape(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings> {
        settings(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_a_part_all_are_measured_by_two_threads() {
        let all = read("m.gguf").unwrap();
        assert_eq!((all.parts.len(), all.threads.get(), all.rounds, all.folder), (10, 2, 9, None));
        let some = read("m.gguf check --threads 4 --rounds 3 --adapters here hot-load").unwrap();
        assert_eq!((some.parts, some.threads.get(), some.rounds), (vec![Part::Check, Part::HotLoad], 4, 3));
        assert_eq!(some.folder, Some("here".into()));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for text in ["", "m.gguf --rounds 0", "m.gguf --threads 0", "m.gguf --rounds", "m.gguf fast"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read("m.gguf fast").unwrap_err().to_string().contains("hot-load"));
    }

    #[test]
    fn parts_are_found_by_their_names() {
        for part in PARTS {
            assert_eq!(Part::named(part.name()).unwrap(), part);
        }
    }
}
