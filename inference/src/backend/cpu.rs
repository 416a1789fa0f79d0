//! The CPU: kernels and packed weights of the profiles `exact` and `fast`, and a pool of threads.
//!
//! | module | what |
//! |---|---|
//! | [`kernel`] | one table of functions for each instruction set, all with the bits of [`crate::numeric`] |
//! | [`pack`] | weights of a file in the order in which kernels read them |
//! | [`recoded`] | the same of the profile `fast`: 8 bits with one scale for each output |
//! | [`cache`] | keys and values in pages of 64 tokens, likewise |
//! | [`share`] | one output written by many threads, each its own part |
//! | [`pool`] | threads that wake within microseconds and never wait for one that was put aside |
//! | [`arena`] | memory on large pages |
//! | [`exact`] | the device: [`exact::Cpu`] computes steps in the profile of its model |

pub mod arena;
pub mod cache;
#[cfg(feature = "model")]
pub mod exact;
pub mod kernel;
pub mod pack;
pub mod pool;
pub mod recoded;
pub mod share;

#[cfg(feature = "model")]
pub use exact::{Cpu, CpuConfig};
