//! Runs a language model, whole, with adapters; trains adapters; checks another node's result.
//!
//! It owns model files ([`gguf`], [`model::files`]), the graph of the Llama and Qwen families ([`model`]), adapters ([`adapter`]), sampling ([`sampler`]), grammars
//! ([`constraint`]), the engine's thread ([`engine`]), re-execution ([`verify`]), training ([`train`]) and sentence encoders, which turn texts into
//! vectors ([`embedder`]). It never knows a peer, a price, a data source or a chain: it turns tokens into tokens.
//!
//! [`numeric`] defines the bits of the profile `exact`, [`step`] what a backend computes at once, `backend::cpu::Cpu` computes it: rows
//! of many sequences and adapters, with these bits on every machine. [`proto::scheduler`] decides what the next step is, the engine carries it
//! out. The graph in f32 (`model::Model`) serves nobody: training stands on it, and tests measure the profile by it.
//!
//! Features: `engine` (default) brings everything that computes or touches files, with candle on the CPU; `model` what takes tokens to logits, models and
//! adapters from their files, and nothing that knows text: Rust alone, so that it is built for a processor without its C compiler; `kernels`
//! alone the kernels, threads and packed weights. Without any only plain data, the numbers' definition, the sampler and the
//! wire messages remain, for simulations.
//!
//! Budget for SmolLM2-135M: 96 MB of codes, read once a step whatever the number of rows, so decoding one answer is bound by memory bandwidth
//! (28 GB/s gives at most 294 tokens per second) and of many by products of bytes; 106 M of them a token, and 28 M where logits are wanted; 12.2 kB
//! of keys and values per token kept; an adapter of rank 16 on all linear layers adds 5 MB and 3.6 % of the arithmetic. Training keeps 538 MB of f32, and up to as much of
//! codes.
//!
//! ```no_run
//! # #[cfg(feature = "engine")]
//! # async fn answer() -> Result<(), Box<dyn std::error::Error>> {
//! use inference::engine::{EngineConfig, EngineHandle, Start, Step};
//! use inference::{Message, Role, Sampling};
//!
//! let engine = EngineHandle::start(EngineConfig::new("model.gguf"))?;
//! let prompt = engine.prompt_tokens(&[Message { role: Role::User, content: "What is gout?".into() }])?;
//! let start = Start::new(prompt, Sampling::GREEDY, [7; 32], 64);
//! let mut generation = engine.begin(start).await?;
//! while let Step::Token { token, .. } = generation.next().await? {
//!     print!("{}", String::from_utf8_lossy(&engine.decode(&[token])));
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "model")]
pub mod adapter;
#[cfg(feature = "kernels")]
pub mod backend;
#[cfg(feature = "engine")]
pub mod constraint;
#[cfg(feature = "engine")]
pub mod embedder;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "model")]
pub mod gguf;
#[cfg(feature = "model")]
pub mod model;
pub mod numeric;
pub mod proto;
pub mod quality;
pub mod sampler;
pub mod step;
#[cfg(feature = "model")]
pub mod tiny;
#[cfg(feature = "engine")]
pub mod train;
pub mod transcript;
#[cfg(feature = "engine")]
mod vector;
#[cfg(feature = "engine")]
pub mod verify;

pub use sampler::Sampling;
pub use transcript::{Finish, Message, Role, Transcript};

#[cfg(feature = "model")]
pub use model::ModelInfo;
