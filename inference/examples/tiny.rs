//! Writes the tiny model of seed 1 and a rank 1 adapter for it, the end-to-end tests' fixtures:
//!
//! `cargo run -p inference --example tiny -- tests/fixtures`
//!
//! or the tiny models of all families, which `tests/fixtures/models/make.py` reads:
//!
//! `cargo run -p inference --example tiny -- FOLDER families`

use std::path::PathBuf;

use anyhow::{Context, Result};
use inference::{
    gguf::GgufFile,
    tiny::{self, families::Tiny},
};

/// Seed of the committed model.
const SEED: u64 = 1;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("the first argument is the folder to write into")?);
    if std::env::args().nth(2).as_deref() == Some("families") {
        for tiny in Tiny::ALL {
            std::fs::write(folder.join(format!("{tiny}.gguf")), tiny.bytes(2, Tiny::SEED))?;
        }
        return Ok(());
    }
    let model = folder.join("tiny.gguf");
    tiny::write_model(&model, SEED)?;
    let hash = GgufFile::open(&model)?.hash()?;
    tiny::write_adapter(&folder.join("tiny-adapter"), Some(hash), 1, SEED)?;
    println!("{}  {}", hex::encode(hash), model.display());
    Ok(())
}
