// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FraudVerifier} from "../src/FraudVerifier.sol";
import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {PayoutWorld} from "./PayoutWorld.sol";

/// @notice Receipts without parts, and spans whose part is another's: void, not collected, or of an answer that bills nothing, whose quote and manifest
/// nobody may have.
contract PayoutUnpaidTest is PayoutWorld {
    function test_a_receipt_void_before_w1_ended_has_no_parts_and_one_void_later_keeps_them() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        bytes32 hash = keccak256(receiptBody(roots[1].answers[0]));
        Tree memory tree = build(last, roots, none);
        uint256 i = indexOf(tree, other);
        uint256 clean = vm.snapshotState();
        // Void when W1 has ended: the poster's tree was right and stays right.
        vm.prank(address(verifier));
        settlement.markVoid(hash);
        post(tree);
        holds(PayoutVerifier.Mode.Part, partProof(tree, roots, i, 0));
        vm.revertToState(clean);
        // Void a second earlier: its parts are wrong, and their absence is right.
        vm.warp(block.timestamp - 1);
        vm.prank(address(verifier));
        settlement.markVoid(hash);
        vm.warp(block.timestamp + 1);
        clean = vm.snapshotState();
        post(tree);
        wrong(PayoutVerifier.Mode.Part, shortPart(tree, roots[1], i, 0));
        vm.revertToState(clean);
        Root[] memory some = new Root[](1);
        some[0] = roots[0];
        tree = build(last, some, none);
        post(tree);
        holds(PayoutVerifier.Mode.Missing, shortMissing(roots[1], 0, 1));
    }

    /// @dev The second span of one receipt is longer than a span may be: a fault that needs nothing opened.
    function test_the_part_of_a_span_proven_false_before_w1_ended_is_the_insurance_pools() public {
        Root[] memory roots = new Root[](1);
        roots[0] = withFalseSpan();
        bytes memory receipt = receiptBody(roots[0].answers[0]);
        bytes32 id = keccak256(abi.encodePacked(keccak256(receipt), uint16(1)));
        bytes memory fault =
            abi.encodeCall(FraudVerifier.proveFalseSpan, (receipt, receiptSig(roots[0].answers[0]), 1, FraudVerifier.Mode.Length, ""));
        uint256 dueAt = block.timestamp + W1;
        uint256 clean = vm.snapshotState();
        Tree memory empty;
        for (uint256 late = 0; late < 2; ++late) {
            // In the last second of W1, or in the first one after.
            vm.warp(dueAt - 1 + late);
            proven(address(verifier), fault);
            eq("void since", block.timestamp, settlement.voidedAt(id));
            vm.warp(dueAt);
            isFalseSpan[id] = late == 0;
            Tree memory right = build(empty, roots, none);
            isFalseSpan[id] = late != 0;
            Tree memory other_ = build(empty, roots, none);
            stands(right, roots);
            falls(right, other_, roots, late == 0);
            vm.revertToState(clean);
        }
    }

    /// @dev Everything in the tree, and it is all there.
    function stands(Tree memory tree, Root[] memory roots) private {
        uint256 clean = vm.snapshotState();
        post(tree);
        for (uint256 i = 0; i < tree.accounts.length; ++i) {
            for (uint256 j = 0; j < tree.parts[i].length; ++j) holds(PayoutVerifier.Mode.Part, partProof(tree, roots, i, j));
        }
        vm.revertToState(clean);
    }

    /// @dev The part of span 1 is with the wrong one: there it is wrong, and at the right one's it is missing.
    function falls(Tree memory right, Tree memory tree, Root[] memory roots, bool isVoid) private {
        address pays = isVoid ? SPAN_PAYEE : address(pool);
        address due = isVoid ? address(pool) : SPAN_PAYEE;
        bytes memory content = abi.encodePacked(node, uint64(0), uint32(65_537));
        uint256 clean = vm.snapshotState();
        post(tree);
        uint256 i = indexOf(tree, pays);
        isWrong(PayoutVerifier.Mode.Part, partProof(tree, roots, i, partIndex(tree, i, content)));
        wrong(PayoutVerifier.Mode.Missing, missing(roots[0], 0, 65_537, noPartOf(tree, due, abi.encodePacked(content, uint128(1)))));
        vm.revertToState(clean);
        // The amount is the same.
        uint256 k = indexOf(right, due);
        eq("amount", tree.amounts[i][partIndex(tree, i, content)], right.amounts[k][partIndex(right, k, content)]);
    }

    address private constant SPAN_PAYEE = address(0x5BA9);

    function withFalseSpan() private returns (Root memory) {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        bytes memory spans;
        for (uint256 i = 0; i < 3; ++i) {
            uint16 length = i == 1 ? 257 : 60;
            address payee = i == 1 ? SPAN_PAYEE : address(uint160(0xABC0 + i));
            spans = abi.encodePacked(spans, uint32(100 * i), length, uint8(0), uint40(i), uint32(500), payee, uint32(0));
        }
        a.spans = spans;
        collect(a);
        return submit(NODE_KEY, one(a));
    }

    function partIndex(Tree memory tree, uint256 i, bytes memory key) private pure returns (uint256 j) {
        while (keccak256(abi.encodePacked(bytes32(tree.parts[i][j]))) != keccak256(key)) ++j;
    }

    function test_a_receipt_that_its_lane_has_not_covered_has_no_parts() public {
        Root[] memory roots = new Root[](1);
        Answer memory unpaid = honest(NODE_KEY, 1, SEED);
        roots[0] = submit(NODE_KEY, one(unpaid));
        vm.warp(block.timestamp + W1);
        vm.deal(address(this), 1 ether);
        settlement.receiveCollected{value: 1 ether}();
        Tree memory empty;
        Tree memory tree = build(empty, roots, none);
        uint256 clean = vm.snapshotState();
        post(tree);
        wrong(PayoutVerifier.Mode.Part, shortPart(tree, roots[0], indexOf(tree, node), 0));
        vm.revertToState(clean);
        // Covered only after W1 ended: a tree without it stands.
        vm.warp(block.timestamp + 1);
        collect(unpaid);
        bytes[] memory nothing = new bytes[](0);
        clean = vm.snapshotState();
        postFirst(nothing, new uint128[](0));
        holds(PayoutVerifier.Mode.Missing, shortMissing(roots[0], 0, 1));
        // And one with it does not.
        vm.revertToState(clean);
        post(tree);
        wrong(PayoutVerifier.Mode.Part, shortPart(tree, roots[0], indexOf(tree, node), 0));
    }

    /// @dev A receipt that its lane has covered, in a root of its own.
    function covered() private returns (Answer memory a, Root[] memory roots) {
        a = honest(NODE_KEY, 1, SEED);
        collect(a);
        roots = new Root[](1);
        roots[0] = submit(NODE_KEY, one(a));
    }

    function test_a_lane_that_goes_on_collecting_hides_no_missing_part() public {
        (Answer memory a, Root[] memory roots) = covered();
        vm.warp(block.timestamp + W1);
        collectMore(a, 5);
        vm.warp(block.timestamp + 1);
        collectMore(a, 9);
        (bool known, uint128 amount) = escrow.collectedBy(a.receipt.lane, 1);
        yes("known", known);
        eq("when W1 ended", a.receipt.cumulativeAfter, amount);
        Tree memory empty;
        Tree memory tree = build(empty, roots, none);
        uint256 clean = vm.snapshotState();
        postFirst(new bytes[](0), new uint128[](0));
        wrong(PayoutVerifier.Mode.Missing, missing(roots[0], 0, 1, abi.encodePacked(uint8(0), noLeaf(empty, node))));
        vm.revertToState(clean);
        post(tree);
        holds(PayoutVerifier.Mode.Part, partProof(tree, roots, indexOf(tree, node), 0));
    }

    function test_what_a_lane_had_collected_is_forgotten_once_it_collects_after_a_later_window() public {
        (Answer memory a, Root[] memory roots) = covered();
        vm.warp(block.timestamp + EPOCH_MIN);
        submit(OTHER_KEY, new Answer[](0));
        vm.warp(block.timestamp + W1 - 1);
        eq("due", 1, settlement.lastDue());
        collectMore(a, 5);
        vm.warp(block.timestamp + 1);
        eq("due", 2, settlement.lastDue());
        (bool known, uint128 amount) = escrow.collectedBy(a.receipt.lane, 1);
        yes("known", known && amount == a.receipt.cumulativeAfter);
        (known, amount) = escrow.collectedBy(a.receipt.lane, 2);
        yes("of the later one too", known && amount == a.receipt.cumulativeAfter + 5);
        collectMore(a, 6);
        (known,) = escrow.collectedBy(a.receipt.lane, 1);
        yes("forgotten", !known);
        (known, amount) = escrow.collectedBy(a.receipt.lane, 2);
        yes("the later one is not", known && amount == a.receipt.cumulativeAfter + 5);
        // In doubt a tree stands, with the parts and without.
        Tree memory empty;
        Tree memory tree = build(empty, roots, none);
        uint256 clean = vm.snapshotState();
        post(tree);
        holds(PayoutVerifier.Mode.Part, partProof(tree, roots, indexOf(tree, node), 0));
        vm.revertToState(clean);
        postFirst(new bytes[](0), new uint128[](0));
        holds(PayoutVerifier.Mode.Missing, shortMissing(roots[0], 0, 1));
    }

    function test_more_than_the_books_hold_is_not_known() public {
        uint128 huge = uint128(type(uint80).max) + 1;
        submit(NODE_KEY, new Answer[](0));
        vm.warp(block.timestamp + W1);
        vm.deal(client, huge);
        vm.prank(client);
        escrow.deposit{value: huge}();
        Answer memory a = honest(NODE_KEY, 1, SEED);
        bytes memory lane = abi.encodePacked(client, node, huge, uint64(1_200), uint64(1));
        bytes memory voucher = abi.encodePacked(keccak256(lane), new bytes(110), uint128(0), huge);
        collectOne(lane, voucher);
        (bool known,) = escrow.collectedBy(keccak256(lane), 1);
        yes("not known", !known);
        (known,) = escrow.collectedBy(a.receipt.lane, 1);
        yes("another lane", known);
        eq("collected", huge, escrow.collectedOf(keccak256(lane)));
    }

    // ------------------------------------------------------------------ what bills nothing

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
