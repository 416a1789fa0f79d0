//! Runs a language model, whole, with adapters; trains adapters; checks another node's result.
//!
//! It owns model files ([`gguf`]), the graph ([`model`]), adapters ([`adapter`]), sampling ([`sampler`]), the
//! engine's thread ([`engine`]), re-execution ([`verify`]) and training ([`train`]). It never knows a peer, a
//! price, a data source or a chain: it turns tokens into tokens.
//!
//! Features: `engine` (default) brings everything that computes or touches files, with candle on the CPU. Without it
//! only plain data, the sampler and the wire messages remain, for simulations.
//!
//! Budget for SmolLM2-135M: 538 MB of f32 weights, read once per token, so decoding is bound by memory bandwidth
//! (28 GB/s gives at most 52 tokens per second); 270 MFLOP per token of prefill; 46 kB of keys and values per
//! token kept; an adapter of rank 16 on all linear layers adds 20 MB and 3.6 % of the arithmetic.
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

#[cfg(feature = "engine")]
pub mod adapter;
#[cfg(feature = "engine")]
pub mod backend;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod gguf;
#[cfg(feature = "engine")]
pub mod model;
pub mod proto;
pub mod sampler;
#[cfg(feature = "engine")]
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

#[cfg(feature = "engine")]
pub use model::ModelInfo;
