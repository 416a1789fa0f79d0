//! The contracts' own libraries behind functions, asked in this process.

use alloy::sol_types::SolCall;
use chain_bridge::chain::Call;
use types::{amount::Amount, id::Address};

use crate::harness::{Evm, account};

alloy::sol! {
    #![sol(all_derives)]
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::use_self, clippy::or_fun_call, reason = "generated code")]
    interface Probe {
        struct Lane { address payer; address node; uint128 cap; uint64 expiryBlock; uint64 nonce; }
        struct Voucher { bytes32 lane; bytes32 request; uint128 base; uint128 cumulative; }
        struct CreditNote { bytes32 lane; bytes32 request; uint128 cumulative; uint128 amount; uint64 expiryBlock; }
        struct NodeRoot { address node; uint64 epoch; bytes32 receiptsRoot; uint64 count; uint128 feeSum; }
        struct Contribution {
            uint64 datanet; address contributor; bytes32 textRoot; uint64 textBytes; uint32 documents; bytes32 salt; bytes32 licenceHash;
            bytes32 objectHash;
        }
        struct Quote {
            address node; bytes32 manifestRoot; uint8 profile; uint8 class; uint128 rateIn; uint128 rateOut; uint128 protocolFee;
            uint32 maxTokens; uint64 blockNumber; bytes32 blockHash; uint64 expiryBlock;
        }
        struct Request {
            address client; uint64 nonce; bytes32 manifestRoot; uint128 maxRateIn; uint128 maxRateOut; uint8 profile; uint8 class;
            bytes32 promptRoot; uint32 maxTokens; uint128 spendingLimit;
        }
        struct ManifestAsset { uint8 kind; uint64 asset; uint32 version; bytes32 contentHash; }
        struct ManifestDatanet { uint64 asset; uint32 version; address treasury; uint64 weight; }
        struct Manifest {
            ManifestAsset[] assets; uint16[6] split; bytes32 indexRoot; uint32 parameterId; ManifestDatanet[] datanets;
        }
        struct Span { uint32 start; uint16 length; uint8 datanet; uint40 position; uint32 weight; address payee; }
        struct Opened { bytes32 root; uint64 count; uint64 length; }
        struct Summed { bytes32 root; uint64 count; uint64 index; uint128 total; bool fill; }
        struct Leaf { address account; uint128 previous; uint128 cumulative; bytes32 partsRoot; uint64 index; uint64 count; }
        struct Part {
            bytes32 key; uint128 amount; bytes32 lane; address witnessNode; uint64 witnessEpoch; uint64 witnessIndex; uint64 index; uint64 count;
        }

        function laneDigest(address verifying, bytes body) external view returns (bytes32);
        function voucherDigest(address verifying, bytes body) external view returns (bytes32);
        function creditNoteDigest(address verifying, bytes body) external view returns (bytes32);
        function quoteDigest(address verifying, bytes body) external view returns (bytes32);
        function requestDigest(address verifying, bytes body) external view returns (bytes32);
        function receiptDigest(address verifying, bytes body) external view returns (bytes32);
        function nodeRootDigest(address verifying, bytes body) external view returns (bytes32);
        function contributionDigest(address verifying, bytes body) external view returns (bytes32);
        function gateReportDigest(address verifying, bytes body) external view returns (bytes32);
        function signer(bytes32 digest_, bytes signature) external pure returns (address);
        function lane(bytes body) external pure returns (Lane memory);
        function voucher(bytes body) external pure returns (Voucher memory);
        function creditNote(bytes body) external pure returns (CreditNote memory);
        function nodeRoot(bytes body) external pure returns (NodeRoot memory);
        function contribution(bytes body) external pure returns (Contribution memory);
        function quote(bytes body) external pure returns (bool known, Quote memory fields);
        function request(bytes body) external pure returns (Request memory);
        // A struct of 27 words, none of them of changing length.
        function receipt(bytes body) external pure returns (bytes32[27] memory);
        function feeOf(bytes body) external pure returns (uint128);
        function isWellFormed(bytes body) external pure returns (bool);
        function receiptAsset(bytes body, uint256 number) external pure returns (uint64 asset, uint32 version);
        function span(bytes body, uint256 number) external pure returns (Span memory);
        function manifest(bytes body) external pure returns (bool known, Manifest memory fields);
        function isBillable(uint8 reason) external pure returns (bool);
        function requestId(address client, uint64 nonce) external pure returns (bytes32);
        function treasuryOf(uint64 datanet) external pure returns (address);
        function treeRoot(uint64 count, uint64 length, bytes32 top) external pure returns (bytes32);
        function treeDepth(uint64 count) external pure returns (uint256 ofClaims, uint256 ofProofs);
        function packedOpening(bytes content, uint256 index, bytes evidence) external pure returns (Opened memory);
        function requireReceiptAt(bytes nodeRootBody, uint64 index, bytes32 receiptHash, uint128 fee_, bytes evidence) external pure;
        function sumRoot(uint64 count, uint128 total, bytes32 top) external pure returns (bytes32);
        function sumRootOf(bytes content, uint128 amount, uint64 index, uint64 count, bytes siblings)
            external pure returns (bytes32 root, uint128 total);
        function packedSumOpening(bytes content, uint128 amount, bytes evidence) external pure returns (Summed memory);
        function fee(bytes receiptBody, bytes quoteBody) external pure returns (bool known, uint256 amount);
        function parts(bytes receiptBody, bytes quoteBody, bytes manifestBody, uint32[] codes)
            external pure returns (bool divides, uint256[] memory amounts);
        function roleShare(uint256 total, uint16[6] rows, uint256 row) external pure returns (uint256);
        function sequential(uint256 total, uint64[] weights) external pure returns (uint256[] memory);
        function spanWeights(bytes body) external pure returns (uint256);
        function payoutLeaf(bytes32 root, bytes evidence) external pure returns (Leaf memory);
        function payoutPart(bytes32 root, bytes evidence) external pure returns (Part memory);
        function requireAbsent(bytes32 root, address account, bytes evidence) external pure;
        function requireNoPart(bytes32 root, bytes32 key, bytes32 lane_, bytes evidence) external pure;
        function isPart(bytes content) external pure returns (bool);
        function isBefore(bytes32 key, bytes32 lane_, bytes32 otherKey, bytes32 otherLane) external pure returns (bool);
        function keyOf(address node, uint64 index, uint32 code) external pure returns (bytes32);
        function fieldsOf(bytes32 key) external pure returns (address node, uint64 index, uint32 code);
    }
}

/// The probe, asked.
pub(crate) struct Asked {
    evm: Evm,
    probe: Address,
}

impl Asked {
    pub(crate) fn new() -> Self {
        let mut evm = Evm::new();
        let artifact: serde_json::Value = serde_json::from_str(include_str!("../../../contracts/artifacts/Probe.json")).unwrap();
        let code = artifact["bytecode"].as_str().unwrap().trim_start_matches("0x");
        let probe = evm.create(hex::decode(code).unwrap());
        Self { evm, probe }
    }

    pub(crate) fn ask<C: SolCall>(&mut self, call: &C) -> Option<C::Return> {
        let call = Call { to: Some(self.probe), data: call.abi_encode(), value: Amount::ZERO };
        let done = self.evm.look(account(9).address(), call).ok()?;
        Some(C::abi_decode_returns(&done.output).expect("the probe's own answer"))
    }
}
