//! Questions asked of the whole network, answered by many nodes in one thread from one seed.
//!
//! Scenarios drive the production cores, never copies of them, and put what they measure beside what the protocol's formulas say. Same seed
//! and same arguments: same output, byte for byte. Floating point is for estimates only; nothing here is signed or paid.

pub mod random;
pub mod scenario;
