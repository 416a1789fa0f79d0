// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {Ledger} from "./Ledger.sol";

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
}
