// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {PayoutProofs} from "./PayoutProofs.sol";

/// @notice A receipt that bills nothing is shown without its quote and manifest, which nobody may have: whatever a payout gives for it falls all the same.
contract PayoutUnbilledTest is PayoutProofs {
    uint256 private constant SEED = (200 << 48) | (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;

    function test_a_part_of_a_receipt_that_bills_nothing_falls_though_nobody_knows_its_quote() public {
        Answer memory a = unbilled();
        // Collected as far as it says: what it says is nothing.
        (a.receipt.fee, a.receipt.cumulativeAfter) = (0, 0);
        falls(a);
    }

    function test_one_that_says_it_bills_something_falls_too() public {
        Answer memory a = unbilled();
        collect(honest(NODE_KEY, 1, SEED));
        falls(a);
    }

    /// @dev No part of it is missing either.
    function test_a_tree_without_parts_for_it_stands() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collect(a);
        a.receipt.reason = 16;
        Root memory root = submit(NODE_KEY, one(a));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        post(build(empty, new Root[](0), new Share[](0)));
        holds(PayoutVerifier.Mode.Missing, abi.encodePacked(root.shown, uint64(0), uint32(1), placed(root, 0)));
    }

    function unbilled() private view returns (Answer memory a) {
        a = honest(NODE_KEY, 1, SEED);
        a.receipt.reason = 16;
        (a.receipt.quoteHash, a.receipt.manifestRoot) = (keccak256("nobody knows"), keccak256("nor this"));
    }

    /// @dev All that others paid, as the node's part of `a`.
    function falls(Answer memory a) private {
        Root memory root = submit(NODE_KEY, one(a));
        vm.deal(address(this), 5 ether);
        settlement.receiveCollected{value: 5 ether}();
        vm.warp(block.timestamp + W1);
        Share[] memory stolen = new Share[](1);
        stolen[0] = Share(author, abi.encodePacked(node, uint64(0), uint32(1), uint128(5 ether)), 5 ether);
        Tree memory empty;
        Tree memory tree = build(empty, new Root[](0), stolen);
        post(tree);
        bytes memory part = abi.encodePacked(leafAt(tree, 0), partAt(tree, 0, 0));
        wrong(PayoutVerifier.Mode.Part, abi.encodePacked(part, root.shown, placed(root, 0)));
    }
}
