//! Medians of prefill and decode speed, one JSON line:
//!
//! `cargo run -p inference --example speed -- MODEL.gguf [PROMPT] [TOKENS] [RUNS] [ADAPTER_DIR]`

use anyhow::{Context, Result};
use inference::engine::{EngineConfig, EngineHandle, Speed};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u32| -> Result<u32> {
        arguments.get(index).map_or(Ok(default), |text| text.parse()).with_context(|| format!("argument {index} is a number"))
    };
    let engine = EngineHandle::start(EngineConfig::new(arguments.first().context("the first argument is a GGUF file")?))?;
    let adapter = match arguments.get(4) {
        Some(dir) => Some(engine.load_adapter(dir.as_ref()).await?.hash),
        None => None,
    };
    let (prompt, tokens, runs) = (number(1, 512)?, number(2, 64)?, number(3, 5)?);
    let mut speeds = Vec::new();
    for _ in 0..runs.max(1) {
        speeds.push(engine.measure(prompt, tokens, adapter).await?);
    }
    let row = serde_json::json!({
        "prompt": prompt,
        "decoded": speeds[0].decoded,
        "runs": runs,
        "prefill_per_s": median(&speeds, Speed::prefill_per_s),
        "decode_per_s": median(&speeds, Speed::decode_per_s),
        "first_token_ms": median(&speeds, |speed| speed.first_token.as_secs_f64() * 1e3),
        "adapter": adapter.is_some(),
    });
    println!("{row}");
    Ok(())
}

fn median(speeds: &[Speed], value: impl Fn(&Speed) -> f64) -> f64 {
    let mut values: Vec<f64> = speeds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
