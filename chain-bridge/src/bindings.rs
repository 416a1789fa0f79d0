//! Types of the contract suite, generated from the committed artifacts, and their creation code.
//!
//! The artifacts (`contracts/artifacts`) equal a fresh compile, which the gate checks; so a changed contract changes these types or breaks the build.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::use_self, clippy::or_fun_call, reason = "generated code")]

mod stake_manager {
    alloy::sol!(
        #[sol(all_derives)]
        StakeManager,
        "contracts/artifacts/StakeManager.json"
    );
}
mod insurance_pool {
    alloy::sol!(
        #[sol(all_derives)]
        InsurancePool,
        "contracts/artifacts/InsurancePool.json"
    );
}
mod rewards_vault {
    alloy::sol!(
        #[sol(all_derives)]
        RewardsVault,
        "contracts/artifacts/RewardsVault.json"
    );
}
mod settlement {
    alloy::sol!(
        #[sol(all_derives)]
        Settlement,
        "contracts/artifacts/Settlement.json"
    );
}
mod inference_escrow {
    alloy::sol!(
        #[sol(all_derives)]
        InferenceEscrow,
        "contracts/artifacts/InferenceEscrow.json"
    );
}
mod asset_registry {
    alloy::sol!(
        #[sol(all_derives)]
        AssetRegistry,
        "contracts/artifacts/AssetRegistry.json"
    );
}
mod datanet_rent {
    alloy::sol!(
        #[sol(all_derives)]
        DatanetRent,
        "contracts/artifacts/DatanetRent.json"
    );
}
mod fraud_verifier {
    alloy::sol!(
        #[sol(all_derives)]
        FraudVerifier,
        "contracts/artifacts/FraudVerifier.json"
    );
}
mod billing_verifier {
    alloy::sol!(
        #[sol(all_derives)]
        BillingVerifier,
        "contracts/artifacts/BillingVerifier.json"
    );
}
mod receipt_challenge {
    alloy::sol!(
        #[sol(all_derives)]
        ReceiptChallenge,
        "contracts/artifacts/ReceiptChallenge.json"
    );
}
mod audit_rent {
    alloy::sol!(
        #[sol(all_derives)]
        AuditRent,
        "contracts/artifacts/AuditRent.json"
    );
}
mod audit_case {
    alloy::sol!(
        #[sol(all_derives)]
        AuditCase,
        "contracts/artifacts/AuditCase.json"
    );
}
mod check_board {
    alloy::sol!(
        #[sol(all_derives)]
        CheckBoard,
        "contracts/artifacts/CheckBoard.json"
    );
}
mod datanet_treasury {
    alloy::sol!(
        #[sol(all_derives)]
        DatanetTreasury,
        "contracts/artifacts/DatanetTreasury.json"
    );
}
mod erasures {
    alloy::sol!(
        #[sol(all_derives)]
        Erasures,
        "contracts/artifacts/Erasures.json"
    );
}
mod span_verifier {
    alloy::sol!(
        #[sol(all_derives)]
        SpanVerifier,
        "contracts/artifacts/SpanVerifier.json"
    );
}
mod answer_verifier {
    alloy::sol!(
        #[sol(all_derives)]
        AnswerVerifier,
        "contracts/artifacts/AnswerVerifier.json"
    );
}
mod mask_verifier {
    alloy::sol!(
        #[sol(all_derives)]
        MaskVerifier,
        "contracts/artifacts/MaskVerifier.json"
    );
}
mod index_verifier {
    alloy::sol!(
        #[sol(all_derives)]
        IndexVerifier,
        "contracts/artifacts/IndexVerifier.json"
    );
}
mod word_ranges {
    alloy::sol!(
        #[sol(all_derives)]
        WordRanges,
        "contracts/artifacts/WordRanges.json"
    );
}
mod payout_verifier {
    alloy::sol!(
        #[sol(all_derives)]
        PayoutVerifier,
        "contracts/artifacts/PayoutVerifier.json"
    );
}
mod l1_block {
    alloy::sol!(
        #[sol(all_derives)]
        L1BlockDev,
        "contracts/artifacts/L1BlockDev.json"
    );
}

pub use answer_verifier::AnswerVerifier;
pub use asset_registry::AssetRegistry;
pub use audit_case::AuditCase;
pub use audit_rent::AuditRent;
pub use billing_verifier::BillingVerifier;
pub use check_board::CheckBoard;
pub use datanet_rent::DatanetRent;
pub use datanet_treasury::DatanetTreasury;
pub use erasures::Erasures;
pub use fraud_verifier::FraudVerifier;
pub use index_verifier::IndexVerifier;
pub use inference_escrow::InferenceEscrow;
pub use insurance_pool::InsurancePool;
pub use l1_block::L1BlockDev;
pub use mask_verifier::MaskVerifier;
pub use payout_verifier::PayoutVerifier;
pub use receipt_challenge::ReceiptChallenge;
pub use rewards_vault::RewardsVault;
pub use settlement::Settlement;
pub use span_verifier::SpanVerifier;
pub use stake_manager::StakeManager;
pub use word_ranges::WordRanges;

/// The artifacts' text: ABI, creation code, hash of the sources.
pub const ARTIFACTS: [(&str, &str); 22] = [
    ("StakeManager", include_str!("../contracts/artifacts/StakeManager.json")),
    ("InsurancePool", include_str!("../contracts/artifacts/InsurancePool.json")),
    ("RewardsVault", include_str!("../contracts/artifacts/RewardsVault.json")),
    ("Settlement", include_str!("../contracts/artifacts/Settlement.json")),
    ("InferenceEscrow", include_str!("../contracts/artifacts/InferenceEscrow.json")),
    ("AssetRegistry", include_str!("../contracts/artifacts/AssetRegistry.json")),
    ("DatanetRent", include_str!("../contracts/artifacts/DatanetRent.json")),
    ("FraudVerifier", include_str!("../contracts/artifacts/FraudVerifier.json")),
    ("BillingVerifier", include_str!("../contracts/artifacts/BillingVerifier.json")),
    ("ReceiptChallenge", include_str!("../contracts/artifacts/ReceiptChallenge.json")),
    ("PayoutVerifier", include_str!("../contracts/artifacts/PayoutVerifier.json")),
    ("DatanetTreasury", include_str!("../contracts/artifacts/DatanetTreasury.json")),
    ("AuditRent", include_str!("../contracts/artifacts/AuditRent.json")),
    ("Erasures", include_str!("../contracts/artifacts/Erasures.json")),
    ("AuditCase", include_str!("../contracts/artifacts/AuditCase.json")),
    ("WordRanges", include_str!("../contracts/artifacts/WordRanges.json")),
    ("SpanVerifier", include_str!("../contracts/artifacts/SpanVerifier.json")),
    ("AnswerVerifier", include_str!("../contracts/artifacts/AnswerVerifier.json")),
    ("MaskVerifier", include_str!("../contracts/artifacts/MaskVerifier.json")),
    ("IndexVerifier", include_str!("../contracts/artifacts/IndexVerifier.json")),
    ("CheckBoard", include_str!("../contracts/artifacts/CheckBoard.json")),
    ("L1BlockDev", include_str!("../contracts/artifacts/L1BlockDev.json")),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy::sol_types::{SolCall, SolEvent};
    use serde::Deserialize;
    use types::merkle::keccak;

    use super::*;

    #[derive(Deserialize)]
    struct Artifact {
        abi: Vec<Item>,
        bytecode: String,
    }

    #[derive(Deserialize)]
    struct Item {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        inputs: Vec<Input>,
    }

    #[derive(Deserialize)]
    struct Input {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        components: Vec<Input>,
    }

    fn kind(input: &Input) -> String {
        match input.kind.strip_prefix("tuple") {
            Some(array) => format!("({}){array}", input.components.iter().map(kind).collect::<Vec<_>>().join(",")),
            None => input.kind.clone(),
        }
    }

    /// keccak of each function's and event's signature, spelled out from the committed ABI.
    fn digests(contract: &str, wanted: &str) -> BTreeMap<String, [u8; 32]> {
        let (_, text) = ARTIFACTS.iter().find(|(name, _)| *name == contract).unwrap();
        let items = serde_json::from_str::<Artifact>(text).unwrap().abi.into_iter().filter(|item| item.kind == wanted);
        let signature = |item: &Item| format!("{}({})", item.name, item.inputs.iter().map(kind).collect::<Vec<_>>().join(","));
        items.map(|item| (item.name.clone(), keccak(&[signature(&item).as_bytes()]).0)).collect()
    }

    #[test]
    fn selectors_are_those_of_the_committed_abi() {
        let check = |contract: &str, name: &str, selector: [u8; 4]| {
            assert_eq!(digests(contract, "function")[name][..4], selector, "{contract}.{name}")
        };
        check("FraudVerifier", "proveFalseSpan", FraudVerifier::proveFalseSpanCall::SELECTOR);
        check("FraudVerifier", "commitProof", FraudVerifier::commitProofCall::SELECTOR);
        check("InferenceEscrow", "collectMany", InferenceEscrow::collectManyCall::SELECTOR);
        check("AssetRegistry", "publish", AssetRegistry::publishCall::SELECTOR);
        check("AssetRegistry", "accept", AssetRegistry::acceptCall::SELECTOR);
        check("Settlement", "submitNodeRoot", Settlement::submitNodeRootCall::SELECTOR);
        check("Settlement", "postPayout", Settlement::postPayoutCall::SELECTOR);
        check("Settlement", "claim", Settlement::claimCall::SELECTOR);
        check("StakeManager", "stake", StakeManager::stakeCall::SELECTOR);
        check("Settlement", "claimMany", Settlement::claimManyCall::SELECTOR);
        check("StakeManager", "release", StakeManager::releaseCall::SELECTOR);
        check("StakeManager", "setVerifiers", StakeManager::setVerifiersCall::SELECTOR);
        check("InferenceEscrow", "claimCredit", InferenceEscrow::claimCreditCall::SELECTOR);
        check("FraudVerifier", "proveEquivocation", FraudVerifier::proveEquivocationCall::SELECTOR);
        check("BillingVerifier", "proveBroken", BillingVerifier::proveBrokenCall::SELECTOR);
        check("PayoutVerifier", "provePayout", PayoutVerifier::provePayoutCall::SELECTOR);
        check("ReceiptChallenge", "showReceipts", ReceiptChallenge::showReceiptsCall::SELECTOR);
        check("DatanetRent", "prepay", DatanetRent::prepayCall::SELECTOR);
        check("DatanetRent", "giveBack", DatanetRent::giveBackCall::SELECTOR);
        check("AuditRent", "claim", AuditRent::claimCall::SELECTOR);
        check("AuditRent", "enlist", AuditRent::enlistCall::SELECTOR);
        check("Erasures", "erase", Erasures::eraseCall::SELECTOR);
        check("AuditCase", "open", AuditCase::openCall::SELECTOR);
        check("AuditCase", "answer", AuditCase::answerCall::SELECTOR);
        check("AuditCase", "close", AuditCase::closeCall::SELECTOR);
        check("SpanVerifier", "proveOmission", SpanVerifier::proveOmissionCall::SELECTOR);
        check("SpanVerifier", "provePayee", SpanVerifier::provePayeeCall::SELECTOR);
        check("SpanVerifier", "slashPayee", SpanVerifier::slashPayeeCall::SELECTOR);
        check("SpanVerifier", "commitProof", FraudVerifier::commitProofCall::SELECTOR);
        check("AnswerVerifier", "proveIneligible", AnswerVerifier::proveIneligibleCall::SELECTOR);
        check("AnswerVerifier", "slashIneligible", AnswerVerifier::slashIneligibleCall::SELECTOR);
        check("AnswerVerifier", "proveWeight", AnswerVerifier::proveWeightCall::SELECTOR);
        check("MaskVerifier", "proveMask", MaskVerifier::proveMaskCall::SELECTOR);
        check("IndexVerifier", "proveIndex", IndexVerifier::proveIndexCall::SELECTOR);
        check("IndexVerifier", "enter", IndexVerifier::enterCall::SELECTOR);
        check("AnswerVerifier", "commitProof", FraudVerifier::commitProofCall::SELECTOR);
        check("MaskVerifier", "commitProof", FraudVerifier::commitProofCall::SELECTOR);
        check("IndexVerifier", "commitProof", FraudVerifier::commitProofCall::SELECTOR);
        check("L1BlockDev", "setL1BlockValuesIsthmus", L1BlockDev::setL1BlockValuesIsthmusCall::SELECTOR);
    }

    #[test]
    fn event_topics_are_those_of_the_committed_abi() {
        let check = |contract: &str, name: &str, topic: [u8; 32]| assert_eq!(digests(contract, "event")[name], topic, "{contract}.{name}");
        check("AssetRegistry", "Published", AssetRegistry::Published::SIGNATURE_HASH.0);
        check("AssetRegistry", "ContributionAccepted", AssetRegistry::ContributionAccepted::SIGNATURE_HASH.0);
        check("InferenceEscrow", "Collected", InferenceEscrow::Collected::SIGNATURE_HASH.0);
        check("Settlement", "PayoutPosted", Settlement::PayoutPosted::SIGNATURE_HASH.0);
        check("Settlement", "PayoutOverturned", Settlement::PayoutOverturned::SIGNATURE_HASH.0);
        check("StakeManager", "Slashed", StakeManager::Slashed::SIGNATURE_HASH.0);
        check("StakeManager", "SlashReleased", StakeManager::SlashReleased::SIGNATURE_HASH.0);
        check("PayoutVerifier", "RefundRequested", PayoutVerifier::RefundRequested::SIGNATURE_HASH.0);
        check("AuditRent", "RentClaimed", AuditRent::RentClaimed::SIGNATURE_HASH.0);
        check("Erasures", "Erased", Erasures::Erased::SIGNATURE_HASH.0);
        check("SpanVerifier", "OmissionProven", SpanVerifier::OmissionProven::SIGNATURE_HASH.0);
        check("SpanVerifier", "PayeeRefuted", SpanVerifier::PayeeRefuted::SIGNATURE_HASH.0);
        check("AnswerVerifier", "SpanRefuted", AnswerVerifier::SpanRefuted::SIGNATURE_HASH.0);
        check("AnswerVerifier", "WeightRefuted", AnswerVerifier::WeightRefuted::SIGNATURE_HASH.0);
        check("MaskVerifier", "MaskRefuted", MaskVerifier::MaskRefuted::SIGNATURE_HASH.0);
        check("IndexVerifier", "IndexRefuted", IndexVerifier::IndexRefuted::SIGNATURE_HASH.0);
        check("AuditCase", "CaseOpened", AuditCase::CaseOpened::SIGNATURE_HASH.0);
    }

    #[test]
    fn creation_code_is_that_of_the_artifacts() {
        let code = |contract: &str| {
            let (_, text) = ARTIFACTS.iter().find(|(name, _)| *name == contract).unwrap();
            hex::decode(serde_json::from_str::<Artifact>(text).unwrap().bytecode.trim_start_matches("0x")).unwrap()
        };
        assert_eq!(code("StakeManager"), StakeManager::BYTECODE);
        assert_eq!(code("InsurancePool"), InsurancePool::BYTECODE);
        assert_eq!(code("RewardsVault"), RewardsVault::BYTECODE);
        assert_eq!(code("Settlement"), Settlement::BYTECODE);
        assert_eq!(code("InferenceEscrow"), InferenceEscrow::BYTECODE);
        assert_eq!(code("AssetRegistry"), AssetRegistry::BYTECODE);
        assert_eq!(code("DatanetRent"), DatanetRent::BYTECODE);
        assert_eq!(code("FraudVerifier"), FraudVerifier::BYTECODE);
        assert_eq!(code("BillingVerifier"), BillingVerifier::BYTECODE);
        assert_eq!(code("ReceiptChallenge"), ReceiptChallenge::BYTECODE);
        assert_eq!(code("PayoutVerifier"), PayoutVerifier::BYTECODE);
        assert_eq!(code("DatanetTreasury"), DatanetTreasury::BYTECODE);
        assert_eq!(code("AuditRent"), AuditRent::BYTECODE);
        assert_eq!(code("Erasures"), Erasures::BYTECODE);
        assert_eq!(code("AuditCase"), AuditCase::BYTECODE);
        assert_eq!(code("WordRanges"), WordRanges::BYTECODE);
        assert_eq!(code("SpanVerifier"), SpanVerifier::BYTECODE);
        assert_eq!(code("AnswerVerifier"), AnswerVerifier::BYTECODE);
        assert_eq!(code("MaskVerifier"), MaskVerifier::BYTECODE);
        assert_eq!(code("IndexVerifier"), IndexVerifier::BYTECODE);
        assert_eq!(code("L1BlockDev"), L1BlockDev::BYTECODE);
    }
}
