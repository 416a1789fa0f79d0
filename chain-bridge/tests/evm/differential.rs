//! Rust and Solidity, byte for byte and refusal for refusal, over random cases: `Probe` is the contracts' own libraries behind functions.
//!
//! Boundaries come often (0, 1, the most there is). Cases of a group: [`GATE`], or `TRIBUTARY_DIFFERENTIAL` divided among the groups; the first case
//! at odds is named by its seed.

mod documents;
mod payouts;
mod probe;
pub(crate) mod random;
mod rules;
mod shares;
mod trees;

use types::{
    id::{Address, Hash32},
    key::Domains,
};

use self::{probe::Asked, random::Rng};
use super::harness::CHAIN;

/// Cases of each group in the gate.
const GATE: usize = 2_000;
/// Groups of functions, one test each.
const GROUPS: usize = 10;
/// Where the verifying contract of a random digest stands.
const VERIFYING: Address = Address([0x56; 20]);

fn cases() -> usize {
    let asked = std::env::var("TRIBUTARY_DIFFERENTIAL").ok().and_then(|count| count.parse::<usize>().ok());
    asked.map_or(GATE, |count| count.div_ceil(GROUPS))
}

/// Runs a group against the probe.
fn run(group: u64, check: impl Fn(&mut Asked, &mut Rng)) {
    run_with(group, Asked::new(), check);
}

/// Runs a group: each case from a seed of its own, which a failure names.
fn run_with<W>(group: u64, mut world: W, check: impl Fn(&mut W, &mut Rng)) {
    for number in 0..cases() as u64 {
        let seed = group << 48 | number;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut world, &mut Rng(seed))));
        assert!(done.is_ok(), "group {group}, case {number}");
    }
}

fn domains() -> Domains {
    Domains { chain_id: CHAIN, escrow: VERIFYING, registry: VERIFYING, settlement: VERIFYING, stake: VERIFYING }
}

fn h(hash: Hash32) -> alloy::primitives::B256 {
    hash.0.into()
}
