//! What a contribution will cost, said before anything is paid.

use serde::Serialize;
use storage::erasure::Profile;
use types::amount::Amount;

use super::journal::Cut;
use crate::output::{counted, money};

/// Gas of a commitment: "commit to a contribution" of `chain-bridge/contracts/snapshots/gas.json`, rounded up.
const COMMIT_GAS: u64 = 70_000;
/// Gas of an acceptance: "accept a contribution" there, rounded up.
const ACCEPT_GAS: u64 = 260_000;
/// Manifest of an object: 79 bytes and 64 for each fragment. Every holder keeps it.
const MANIFEST_BYTES: u64 = 79;
const GIB: u128 = 1 << 30;

/// The estimate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Estimate {
    /// Contributions to be made, one for each shard.
    pub(super) contributions: usize,
    documents: u64,
    text_bytes: u64,
    /// Of the shards, compressed.
    shard_bytes: u64,
    /// Fragments that suffice, of how many.
    profile: String,
    /// What all holders keep together.
    stored_bytes: u64,
    transactions: usize,
    gas: u64,
    gas_price_wei: Amount,
    /// Gas at that price; on a rollup its fee for L1 data comes on top.
    fees_wei: Amount,
    rent_epochs: u64,
    rent_price_wei: Amount,
    /// For those epochs, paid by whoever prepays; contributing sends none of it.
    rent_wei: Amount,
}

impl Estimate {
    /// For `cuts` under `profile`, gas at `gas_price` wei, rent at `rent_price` wei per GiB and epoch.
    pub(super) fn of(cuts: &[&Cut], profile: Profile, gas_price: u128, rent_price: Amount, rent_epochs: u64) -> Self {
        let sum = |part: fn(&Cut) -> u64| cuts.iter().copied().map(part).sum::<u64>();
        let (least, total) = (u64::from(profile.data()), u64::from(profile.total()));
        let stored = |cut: &Cut| total * (cut.shard_bytes.div_ceil(least) + MANIFEST_BYTES + 64 * total);
        let text_bytes = sum(|cut| cut.text_bytes);
        let gas = (COMMIT_GAS + ACCEPT_GAS) * cuts.len() as u64;
        let rent = rent_price.0.saturating_mul(u128::from(text_bytes)).saturating_mul(u128::from(rent_epochs)).div_ceil(GIB);
        Self {
            contributions: cuts.len(),
            documents: sum(|cut| cut.documents.into()),
            text_bytes,
            shard_bytes: sum(|cut| cut.shard_bytes),
            profile: format!("{least}/{total}"),
            stored_bytes: cuts.iter().copied().map(stored).sum(),
            transactions: 2 * cuts.len(),
            gas,
            gas_price_wei: Amount(gas_price),
            fees_wei: Amount(gas_price.saturating_mul(u128::from(gas))),
            rent_epochs,
            rent_price_wei: rent_price,
            rent_wei: Amount(rent),
        }
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let Self { contributions, documents, text_bytes, shard_bytes, profile, stored_bytes, transactions, gas, rent_epochs, .. } = self;
        format!(
            "to contribute  {}, {}, {text_bytes} bytes of text, {shard_bytes} compressed\n\
             to keep        {stored_bytes} bytes over all holders, code {profile}\n\
             transactions   {transactions}, about {gas} gas, {} (and the fee for L1 data, where the chain has one)\n\
             rent           {} for {rent_epochs} epochs at {} per GiB and epoch; nothing of it is sent now",
            counted(*contributions, "shard"),
            counted(usize::try_from(*documents).unwrap_or(usize::MAX), "document"),
            money(self.fees_wei),
            money(self.rent_wei),
            money(self.rent_price_wei),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cut::Spot, *};

    #[test]
    fn an_estimate_adds_up() {
        let spot = Spot { file: 0, row: 1 };
        let cut = Cut {
            number: 0,
            end: spot,
            stretches: vec![(spot, 1)],
            text_root: types::id::Hash32::ZERO,
            documents: 10,
            text_bytes: 1 << 29,
            shard_bytes: 3_000,
            dropped: vec![],
            redacted: vec![],
            derived: None,
            is_close: false,
            waits: false,
        };
        let estimate = Estimate::of(&[&cut, &cut], Profile::DEVNET, 10, Amount(7), 3);
        assert_eq!((estimate.transactions, estimate.gas, estimate.fees_wei), (4, 660_000, Amount(6_600_000)));
        assert_eq!(estimate.stored_bytes, 2 * 5 * (1_000 + 79 + 64 * 5));
        assert_eq!(estimate.rent_wei, Amount(21));
        assert!(Estimate::of(&[&cut], Profile::DEVNET, 10, Amount(7), 3).describe().contains(" 1 shard, 10 documents, "));
        assert!(estimate.describe().contains("2 shards, 20 documents, 1073741824 bytes"), "{}", estimate.describe());
    }
}
