//! A transaction as commands print it.

use std::fmt;

use chain_bridge::client::send::Sent;
use serde::Serialize;
use types::{amount::Amount, id::Hash32};

use crate::output::money;

/// What one transaction did and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transaction {
    /// What it did, in words.
    pub what: String,
    /// Its hash.
    pub transaction: Hash32,
    /// The block that holds it.
    pub block: u64,
    /// Gas used.
    pub gas: u64,
    /// Paid for gas and for L1 data, wei.
    pub cost_wei: Amount,
    /// Whether the fee for L1 data is known, and so in the cost: not of a transaction that an earlier run sent, where the chain's receipts do not name it.
    pub is_l1_fee_known: bool,
}

impl Transaction {
    /// A transaction that is in a block.
    pub fn new(what: impl Into<String>, sent: &Sent) -> Self {
        let execution = sent.gas_price.saturating_mul(u128::from(sent.gas_used));
        let cost_wei = Amount(execution.saturating_add(sent.l1_fee.unwrap_or_default().0));
        Self {
            what: what.into(),
            transaction: sent.transaction,
            block: sent.block.number,
            gas: sent.gas_used,
            cost_wei,
            is_l1_fee_known: sent.l1_fee.is_some(),
        }
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let without = if self.is_l1_fee_known { "" } else { " without the L1 data fee, which the chain's receipt does not name" };
        let Self { what, transaction, block, gas, .. } = self;
        write!(f, "{what}: transaction {transaction} in block {block}, {gas} gas ({}{without})", money(self.cost_wei))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_prints_what_it_did_and_what_it_cost() {
        let row = Transaction {
            what: "deposit".into(),
            transaction: Hash32([1; 32]),
            block: 7,
            gas: 45_000,
            cost_wei: Amount(1_500_000_000_000_000_000),
            is_l1_fee_known: true,
        };
        let expected = format!("deposit: transaction {} in block 7, 45000 gas (1.5 OPEN)", Hash32([1; 32]));
        assert_eq!(row.to_string(), expected);
        assert_eq!(serde_json::to_value(&row).unwrap()["cost_wei"], "1500000000000000000");
        let resumed = Transaction { is_l1_fee_known: false, ..row };
        assert!(resumed.to_string().ends_with("(1.5 OPEN without the L1 data fee, which the chain's receipt does not name)"), "{resumed}");
    }
}
