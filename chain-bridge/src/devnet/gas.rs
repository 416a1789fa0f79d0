//! What every function has cost on a devnet, read from its blocks: all senders, nothing left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use super::{Devnet, l1};
use crate::{
    bindings::{AnswerVerifier, AssetRegistry, FraudVerifier, InferenceEscrow, MaskVerifier, Settlement, SpanVerifier, StakeManager},
    chain::error::ChainError,
};

/// What one function has cost so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FunctionGas {
    /// Transactions.
    pub count: u64,
    /// Least gas of one.
    pub least: u64,
    /// Most gas of one.
    pub most: u64,
    /// Gas of all.
    pub total: u64,
    /// Wei paid for it. The fee for L1 data comes on top; anvil charges it and does not name it in receipts.
    pub l2_wei: Amount,
}

#[derive(Deserialize)]
struct Block {
    transactions: Vec<Sent>,
}

#[derive(Deserialize)]
struct Sent {
    hash: Hash32,
    to: Option<Address>,
    input: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Charged {
    transaction_hash: Hash32,
    gas_used: String,
    effective_gas_price: Option<String>,
}

impl Devnet {
    /// Gas by `Contract.function` over all blocks so far; deposits of the L1 are left out, they pay nothing.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn gas(&self) -> Result<BTreeMap<String, FunctionGas>, ChainError> {
        let head = self.rpc.latest().await?.block.number;
        let mut rows = BTreeMap::new();
        for number in 0..=head {
            let at = format!("0x{number:x}");
            let block: Block = self.rpc.request("eth_getBlockByNumber", json!([at, true])).await?;
            if block.transactions.is_empty() {
                continue;
            }
            let charged: Vec<Charged> = self.rpc.request("eth_getBlockReceipts", json!([at])).await?;
            for sent in block.transactions.iter().filter(|sent| sent.to != Some(l1::L1_BLOCK)) {
                let charged = charged.iter().find(|charged| charged.transaction_hash == sent.hash);
                let charged = charged.ok_or_else(|| unreadable(format!("block {number} has no receipt of {}", sent.hash)))?;
                add(rows.entry(self.name(sent)).or_default(), charged)?;
            }
        }
        Ok(rows)
    }

    fn name(&self, sent: &Sent) -> String {
        let Some(to) = sent.to else { return "deployment".to_owned() };
        let Some((contract, _)) = self.deployment.contracts().into_iter().find(|(_, address)| *address == to) else {
            return "transfer".to_owned();
        };
        let function = selector(&sent.input).and_then(|selector| function(contract, selector)).unwrap_or("unknown");
        format!("{contract}.{function}")
    }
}

fn function(contract: &str, selector: [u8; 4]) -> Option<&'static str> {
    match contract {
        "AnswerVerifier" => AnswerVerifier::AnswerVerifierCalls::name_by_selector(selector),
        "AssetRegistry" => AssetRegistry::AssetRegistryCalls::name_by_selector(selector),
        "FraudVerifier" => FraudVerifier::FraudVerifierCalls::name_by_selector(selector),
        "InferenceEscrow" => InferenceEscrow::InferenceEscrowCalls::name_by_selector(selector),
        "MaskVerifier" => MaskVerifier::MaskVerifierCalls::name_by_selector(selector),
        "Settlement" => Settlement::SettlementCalls::name_by_selector(selector),
        "SpanVerifier" => SpanVerifier::SpanVerifierCalls::name_by_selector(selector),
        "StakeManager" => StakeManager::StakeManagerCalls::name_by_selector(selector),
        _ => None,
    }
}

fn selector(input: &str) -> Option<[u8; 4]> {
    let mut selector = [0; 4];
    hex::decode_to_slice(input.get(2..10)?, &mut selector).ok()?;
    Some(selector)
}

fn add(row: &mut FunctionGas, charged: &Charged) -> Result<(), ChainError> {
    let gas = u64::try_from(number(&charged.gas_used)?).map_err(|error| unreadable(error.to_string()))?;
    let price = charged.effective_gas_price.as_deref().map_or(Ok(0), number)?;
    row.least = if row.count == 0 { gas } else { row.least.min(gas) };
    row.most = row.most.max(gas);
    row.count = row.count.saturating_add(1);
    row.total = row.total.saturating_add(gas);
    row.l2_wei = Amount(row.l2_wei.0.saturating_add(price.saturating_mul(u128::from(gas))));
    Ok(())
}

fn number(text: &str) -> Result<u128, ChainError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u128::from_str_radix(digits, 16).map_err(|error| unreadable(format!("{text:?}: {error}")))
}

fn unreadable(why: String) -> ChainError {
    ChainError::Unreadable { what: "eth_getBlockReceipts", why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_least_most_and_what_was_paid() {
        let charged = |gas: &str| Charged { transaction_hash: Hash32::ZERO, gas_used: gas.into(), effective_gas_price: Some("0x2".into()) };
        let mut row = FunctionGas::default();
        add(&mut row, &charged("0x10")).unwrap();
        add(&mut row, &charged("0x8")).unwrap();
        let expected = FunctionGas { count: 2, least: 8, most: 16, total: 24, l2_wei: Amount(48) };
        assert_eq!(row, expected);
        assert!(add(&mut row, &charged("ten")).is_err());
    }

    #[test]
    fn functions_are_named_by_their_selectors() {
        let input = format!("0x{}00", hex::encode(<AssetRegistry::publishCall as alloy::sol_types::SolCall>::SELECTOR));
        assert_eq!(selector(&input).and_then(|selector| function("AssetRegistry", selector)), Some("publish"));
        assert_eq!(selector("0x"), None);
        assert_eq!(function("AssetRegistry", [0; 4]), None);
    }
}
