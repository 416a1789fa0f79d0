//! Types of the contract suite, generated from the committed artifacts, and their creation code.
//!
//! The artifacts (`contracts/artifacts`) equal a fresh compile, which the gate checks; so a changed contract changes these types or breaks the build.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::use_self, clippy::or_fun_call, reason = "generated code")]

mod stake_manager {
    alloy::sol!(#[sol(all_derives)] StakeManager, "contracts/artifacts/StakeManager.json");
}
mod settlement {
    alloy::sol!(#[sol(all_derives)] Settlement, "contracts/artifacts/Settlement.json");
}
mod inference_escrow {
    alloy::sol!(#[sol(all_derives)] InferenceEscrow, "contracts/artifacts/InferenceEscrow.json");
}
mod asset_registry {
    alloy::sol!(#[sol(all_derives)] AssetRegistry, "contracts/artifacts/AssetRegistry.json");
}
mod fraud_verifier {
    alloy::sol!(#[sol(all_derives)] FraudVerifier, "contracts/artifacts/FraudVerifier.json");
}
mod l1_block {
    alloy::sol!(#[sol(all_derives)] L1BlockDev, "contracts/artifacts/L1BlockDev.json");
}

pub use asset_registry::AssetRegistry;
pub use fraud_verifier::{FraudVerifier, Trees as FraudTrees};
pub use inference_escrow::InferenceEscrow;
pub use l1_block::L1BlockDev;
pub use settlement::{Settlement, Trees as SettlementTrees};
pub use stake_manager::StakeManager;

/// The artifacts' text: ABI, creation code, hash of the sources.
pub const ARTIFACTS: [(&str, &str); 6] = [
    ("StakeManager", include_str!("../contracts/artifacts/StakeManager.json")),
    ("Settlement", include_str!("../contracts/artifacts/Settlement.json")),
    ("InferenceEscrow", include_str!("../contracts/artifacts/InferenceEscrow.json")),
    ("AssetRegistry", include_str!("../contracts/artifacts/AssetRegistry.json")),
    ("FraudVerifier", include_str!("../contracts/artifacts/FraudVerifier.json")),
    ("L1BlockDev", include_str!("../contracts/artifacts/L1BlockDev.json")),
];
