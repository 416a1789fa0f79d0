// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title EIP-712 signatures over documents (Protocol P1)
/// @notice Every document is typed `<Document>(bytes body)` under the domain `Tributary`, version `1`. The verifying contract is an
/// argument, because one contract checks documents that are addressed to another (a receipt names Settlement, FraudVerifier reads it).
library Sig {
    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant NAME_HASH = keccak256("Tributary");
    bytes32 internal constant VERSION_HASH = keccak256("1");

    bytes32 internal constant LANE = keccak256("Lane(bytes body)");
    bytes32 internal constant VOUCHER = keccak256("Voucher(bytes body)");
    bytes32 internal constant CREDIT_NOTE = keccak256("CreditNote(bytes body)");
    bytes32 internal constant QUOTE = keccak256("Quote(bytes body)");
    bytes32 internal constant REQUEST = keccak256("Request(bytes body)");
    bytes32 internal constant RECEIPT = keccak256("Receipt(bytes body)");
    bytes32 internal constant NODE_ROOT = keccak256("NodeRoot(bytes body)");
    bytes32 internal constant CONTRIBUTION = keccak256("Contribution(bytes body)");
    bytes32 internal constant GATE_REPORT = keccak256("GateReport(bytes body)");

    /// @notice Domain separator of `verifying` on this chain.
    function domain(address verifying) internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, NAME_HASH, VERSION_HASH, block.chainid, verifying));
    }

    /// @notice What the signer of a document signs.
    /// @param typehash Hash of `<Document>(bytes body)`.
    /// @param bodyHash keccak of the document's body.
    function digest(bytes32 separator, bytes32 typehash, bytes32 bodyHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator, keccak256(abi.encode(typehash, bodyHash))));
    }

    /// @notice The account that signed, or zero: 65 bytes r, s, v with v 27 or 28 and s in the lower half are the only accepted form.
    function signer(bytes32 digest_, bytes calldata signature) internal pure returns (address) {
        (address recovered, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest_, signature);
        return failure == ECDSA.RecoverError.NoError ? recovered : address(0);
    }
}
