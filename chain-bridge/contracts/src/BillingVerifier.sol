// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "./AssetRegistry.sol";
import {Codec} from "./Codec.sol";
import {FaultBase} from "./FaultBase.sol";
import {ISettlement, IStakes} from "./Ports.sol";
import {ReceiptRules} from "./ReceiptRules.sol";

/// @title Faults of a node against what it billed by: F4, F5, F6
/// @notice A billed receipt must agree with the quote and the manifest whose hashes it holds, and they with the registry; the rules are
/// `ReceiptRules`. One transaction, no judge.
contract BillingVerifier is FaultBase {
    uint256 private constant NODE_AT = 54;

    /// @notice What is published, frozen, posted, and when.
    AssetRegistry public immutable registry;
    /// @notice Blocks for which a frozen version may still be named: how long the news travels.
    uint64 public immutable graceBlocks;

    event RuleBroken(bytes32 indexed receiptHash, address indexed node, ReceiptRules.Rule rule, address reporter);

    error RuleHolds(ReceiptRules.Rule rule);
    error NotAReceipt(uint256 length);

    /// @param graceBlocks_ See `graceBlocks`.
    constructor(IStakes stakeManager_, ISettlement settlement_, AssetRegistry registry_, uint64 graceBlocks_)
        FaultBase(stakeManager_, settlement_)
    {
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        registry = registry_;
        graceBlocks = graceBlocks_;
    }

    /// @notice F4, F5, F6: a billed receipt breaks a rule. It is void, its node slashed.
    /// @param quote Body of the quote that the receipt names; empty if the rule needs none.
    /// @param manifest Body of the manifest that the receipt names; empty if the rule needs none.
    function proveBroken(
        ReceiptRules.Rule rule,
        bytes calldata receipt,
        bytes calldata signature,
        bytes calldata quote,
        bytes calldata manifest
    ) external committed {
        if (receipt.length < NODE_AT + 20) revert NotAReceipt(receipt.length);
        address node = address(bytes20(receipt[NODE_AT:NODE_AT + 20]));
        bytes32 receiptHash = requireSigned(node, receipt, signature);
        if (!isBroken(rule, receipt, quote, manifest)) revert RuleHolds(rule);
        emit RuleBroken(receiptHash, node, rule, msg.sender);
        (bytes32 lane, uint128 fee) = receipt.length < Codec.FEE_END
            ? (bytes32(0), 0)
            : (bytes32(receipt[NODE_AT + 20:NODE_AT + 52]), uint128(bytes16(receipt[Codec.FEE_END - 16:Codec.FEE_END])));
        voidAndSlash(node, address(bytes20(receipt[NODE_AT - 20:NODE_AT])), lane, fee, receiptHash);
    }

    /// @notice Which rules a receipt breaks, as far as what is opened shows it: bit n is rule n. What anybody can ask before proving.
    function brokenRules(bytes calldata receipt, bytes calldata quote, bytes calldata manifest) external view returns (uint256 rules) {
        if (isBroken(ReceiptRules.Rule.Form, receipt, quote, manifest)) rules = 1;
        (bool shaped,,) = Codec.receiptShape(receipt);
        if (!shaped) return rules;
        ReceiptRules.Case memory c = ReceiptRules.open(receipt, quote, manifest);
        for (uint256 i = 1; i <= uint256(type(ReceiptRules.Rule).max); ++i) {
            if (ReceiptRules.isBroken(ReceiptRules.Rule(i), receipt, c, registry, graceBlocks)) rules |= 1 << i;
        }
    }

    function isBroken(ReceiptRules.Rule rule, bytes calldata receipt, bytes calldata quote, bytes calldata manifest)
        private
        view
        returns (bool)
    {
        if (rule == ReceiptRules.Rule.Form) return !Codec.isWellFormed(receipt);
        ReceiptRules.Case memory c = ReceiptRules.open(receipt, quote, manifest);
        return ReceiptRules.isBroken(rule, receipt, c, registry, graceBlocks);
    }
}
