//! Answers one question and reports tokens per second:
//!
//! `cargo run -p inference --example generate -- MODEL.gguf "What is gout?" [MAX_TOKENS] [ADAPTER_DIR]`

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use inference::engine::{EngineConfig, EngineHandle, Start, Step};
use inference::{Message, Role, Sampling};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().context("the first argument is a GGUF file")?;
    let question = arguments.next().context("the second argument is a question")?;
    let max_tokens = arguments.next().map_or(Ok(64), |text| text.parse()).context("the third argument is a number")?;
    let begun = Instant::now();
    let packed = tempfile::tempdir()?;
    let adapters_dir = Some(packed.path().to_path_buf());
    let engine = EngineHandle::start(EngineConfig { adapters_dir, ..EngineConfig::new(&model) })?;
    eprintln!("loaded {} in {:.2?}, BLAKE3 {}", engine.info().name, begun.elapsed(), hex::encode(engine.info().hash));
    let adapter = match arguments.next() {
        Some(dir) => Some(engine.load_adapter(dir.as_ref()).await?.hash),
        None => None,
    };
    let prompt = engine.prompt_tokens(&[Message { role: Role::User, content: question }])?;
    let prompt_len = prompt.len();
    let start = Start::new(prompt, Sampling::GREEDY, [0; 32], max_tokens);
    let mut generation = engine.begin(adapter.into_iter().fold(start, Start::with_adapter)).await?;
    generation.credit(max_tokens);
    let begun = Instant::now();
    let mut first = None;
    let mut count = 0u32;
    let finish = loop {
        match generation.next().await? {
            Step::Token { token, .. } => {
                first.get_or_insert_with(|| begun.elapsed());
                count += 1;
                std::io::stdout().write_all(&engine.decode(&[token]))?;
                std::io::stdout().flush()?;
            }
            Step::End(finish) => break finish,
        }
    };
    let first = first.unwrap_or_default();
    let decode = begun.elapsed() - first;
    println!();
    eprintln!(
        "{finish:?}: prompt of {prompt_len} in {first:.2?}, {count} tokens, {:.1} tokens/s after the first",
        f64::from(count.saturating_sub(1)) / decode.as_secs_f64(),
    );
    Ok(())
}
