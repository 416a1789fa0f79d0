// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {Ledger} from "./Ledger.sol";
import {Pack} from "./Pack.sol";

/// @notice Somebody with money who asks nodes and posters for what they hold.
abstract contract Asking is Ledger {
    uint256 internal constant SEED = (100 << 16) | (5 << 8) | 7;
    address internal constant ASKER = address(0xA5);
    Share[] internal none;

    ReceiptChallenge internal desk;

    function setUp() public virtual override {
        super.setUp();
        desk = ReceiptChallenge(challenges);
        vm.deal(ASKER, 1_000 ether);
    }

    /// @notice A root of `count` honest receipts of the first node, submitted.
    function submitted(uint64 count) internal returns (Root memory) {
        Answer[] memory answers = new Answer[](count);
        for (uint64 i = 0; i < count; ++i) answers[i] = honest(NODE_KEY, i, SEED + i);
        return submit(NODE_KEY, answers);
    }

    /// @notice The honest payout of two receipts, posted.
    function pending() internal returns (Tree memory tree) {
        Root[] memory roots = new Root[](1);
        roots[0] = submitted(2);
        for (uint256 i = 0; i < 2; ++i) collect(roots[0].answers[i]);
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        tree = build(empty, roots, none);
        post(tree);
    }

    function idOf(Root memory root, uint64 first, uint64 count) internal pure returns (bytes32) {
        return keccak256(abi.encode("F8", root.epoch, root.node, first, count));
    }

    function ask(Root memory root, uint256 first, uint256 count) internal {
        vm.prank(ASKER);
        desk.challengeReceipts{value: count * CHALLENGE_BOND}(root.body, blockOf(root), uint64(first), uint64(count));
    }

    /// @dev The receipt at `index`, with quote and manifest as told, as an answer carries it.
    function partly(Root memory root, uint256 index, bytes memory quote, bytes memory manifest) internal view returns (bytes memory) {
        Answer memory a = root.answers[index];
        bytes memory head = abi.encodePacked(Pack.blob(receiptBody(a)), Pack.blob(receiptSig(a)));
        return abi.encodePacked(head, Pack.blob(quote), Pack.blob(manifest), siblings(root, index));
    }

    function one_(Root memory root, uint256 index) internal view returns (bytes memory) {
        return partly(root, index, quoteBody(root.answers[index]), manifestBody(root.answers[index]));
    }

    /// @dev Shows `more` receipts from the one at `from` on as an answer to the stretch of `count` from `first` on.
    function show(Root memory root, uint256 first, uint256 count, uint256 from, uint256 more, bytes4 selector) internal {
        bytes memory evidence = evidenceOf(root, first, count, from, more);
        if (selector == 0) desk.showReceipts(evidence);
        else refusedAnswer(evidence, selector);
    }

    function evidenceOf(Root memory root, uint256 first, uint256 count, uint256 from, uint256 more) internal view returns (bytes memory evidence) {
        evidence = abi.encodePacked(root.shown, uint64(first), uint64(count));
        // What nobody asked for begins at `first`.
        if (count != 0) evidence = abi.encodePacked(evidence, uint64(from));
        for (uint256 i = 0; i < more; ++i) evidence = abi.encodePacked(evidence, one_(root, from + i));
    }

    function refusedAnswer(bytes memory evidence, bytes4 selector) internal {
        (bool done, bytes memory reason) = address(desk).call(abi.encodeCall(ReceiptChallenge.showReceipts, (evidence)));
        yes("refused", !done);
        eq("error", bytes32(selector), bytes32(bytes4(reason)));
    }
}
