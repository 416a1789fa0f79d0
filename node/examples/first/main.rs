//! The figures of group `first` that need the insides of a node; one JSON row a line on standard output.
//!
//! `cargo xtask bench first` runs it. By hand, once `cargo build --workspace --bin tributary --example first` is done:
//! `RAYON_NUM_THREADS=2 target/debug/examples/first --model FILE --data DIR --anvil FILE --receipts DIR`
//!
//! What is compared runs in turns, so that whatever else the machine does falls on both sides; each figure is a median.

mod attribution_time;
mod network;
mod receipts;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use inference::engine::{EngineConfig, EngineHandle};
use serde::Serialize;

/// Where things are.
#[derive(Debug, Parser)]
struct Arguments {
    /// Base model file (GGUF).
    #[arg(long)]
    model: PathBuf,
    /// Folder with contributions and questions, as `cargo xtask fetch text` prepares it.
    #[arg(long)]
    data: PathBuf,
    /// The program anvil.
    #[arg(long)]
    anvil: PathBuf,
    /// Folder with the bundles of real answers.
    #[arg(long)]
    receipts: PathBuf,
    /// Pairs of answers; the least for a median worth printing is 11.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(11..))]
    pairs: u16,
}

/// A measured figure in milliseconds.
#[derive(Debug, Serialize)]
struct Row {
    figure: &'static str,
    ours: f64,
    unit: &'static str,
    n: usize,
    /// What the figure includes.
    note: String,
}

/// Prints a row.
fn row(figure: &'static str, ours: f64, n: usize, note: String) -> Result<()> {
    println!("{}", serde_json::to_string(&Row { figure, ours, unit: "ms", n, note })?);
    Ok(())
}

/// The middle value, or the mean of the two in the middle. `values` is not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let engine = EngineHandle::start(EngineConfig::new(&arguments.model))?;
    receipts::measure(&arguments.receipts)?;
    let manifest = network::measure(&engine, &arguments).await?;
    attribution_time::measure(&engine, &arguments.data, manifest)
}
