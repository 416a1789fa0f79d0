// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FraudVerifier} from "../src/FraudVerifier.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {PayoutTrees} from "../src/PayoutTrees.sol";
import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {Sig} from "../src/Sig.sol";
import {Trees} from "../src/Trees.sol";
import {Pack} from "./Pack.sol";
import {PayoutProofs} from "./PayoutProofs.sol";

/// @notice F7 over two epochs, two nodes, three receipts: the honest tree stands against every mode, each wrong one falls to its own.
contract PayoutVerifierTest is PayoutProofs {
    Share[] private none;
    uint256 private constant SEED = (200 << 48) | (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;

    /// @dev Epoch 1 final with a tree of one receipt; epoch 2 due, with two receipts of `node` and one of `other`.
    function world(uint256 seed) private returns (Tree memory last, Root[] memory roots) {
        seed >>= 1;
        roots = new Root[](1);
        Answer memory first = honest(NODE_KEY, 1, seed);
        collect(first);
        roots[0] = submit(NODE_KEY, one(first));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        last = build(empty, roots, none);
        post(last);
        vm.warp(block.timestamp + W2);

        roots = new Root[](2);
        Answer[] memory answers = new Answer[](2);
        for (uint64 i = 0; i < 2; ++i) {
            answers[i] = honest(NODE_KEY, 2 + i, seed + i);
            collect(answers[i]);
        }
        roots[0] = submit(NODE_KEY, answers);
        answers[1] = honest(OTHER_KEY, 4, seed / 3);
        collect(answers[1]);
        roots[1] = submit(OTHER_KEY, one(answers[1]));
        roots[0].answers = new Answer[](2);
        for (uint64 i = 0; i < 2; ++i) roots[0].answers[i] = honest(NODE_KEY, 2 + i, seed + i);
        vm.warp(block.timestamp + W1);
    }

    // ------------------------------------------------------------------ honest

    /// forge-config: default.fuzz.runs = 24
    function testFuzz_an_honest_tree_stands_against_every_mode(uint256 seed) public {
        (Tree memory last, Root[] memory roots) = world(seed);
        Tree memory tree = build(last, roots, none);
        post(tree);
        for (uint256 i = 0; i < tree.accounts.length; ++i) {
            holds(PayoutVerifier.Mode.LeafForm, leafForm(tree, i, tree.cumulative[i]));
            holds(PayoutVerifier.Mode.Sum, abi.encodePacked(leafAt(tree, i), Pack.sumHead(tree.parts[i], tree.amounts[i])));
            holds(PayoutVerifier.Mode.Previous, previousOf(last, tree, i));
            if (i > 0) holds(PayoutVerifier.Mode.LeafOrder, abi.encodePacked(leafAt(tree, i - 1), leafAt(tree, i)));
            for (uint256 j = 0; j < tree.parts[i].length; ++j) {
                holds(PayoutVerifier.Mode.PartForm, partForm(tree, i, j));
                holds(PayoutVerifier.Mode.Part, partProof(tree, roots, i, j));
            }
        }
        holds(PayoutVerifier.Mode.Head, Pack.sumHead(leaves(tree), tree.cumulative));
        eq("still pending", 2, settlement.pendingPayout().epoch);
    }

    function test_nothing_present_can_be_shown_missing() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        post(tree);
        uint256 i = indexOf(tree, node);
        // Neighbours that are not side by side, and a first and a last that are not.
        bytes memory around = abi.encodePacked(uint8(3), partAt(tree, i, 0), partAt(tree, i, 0));
        refusedF7(PayoutVerifier.Mode.Missing, missing(roots[0], 0, 1, abi.encodePacked(uint8(1), leafAt(tree, i), around)), PayoutTrees.NotAbsent.selector);
        around = abi.encodePacked(uint8(2), partAt(tree, i, 1));
        refusedF7(PayoutVerifier.Mode.Missing, missing(roots[0], 0, 1, abi.encodePacked(uint8(1), leafAt(tree, i), around)), PayoutTrees.NotAbsent.selector);
        around = abi.encodePacked(uint8(1), leafAt(tree, i - 1));
        refusedF7(PayoutVerifier.Mode.Missing, missing(roots[0], 0, 1, abi.encodePacked(uint8(0), around)), PayoutTrees.NotAbsent.selector);
        around = abi.encodePacked(uint8(3), leafAt(tree, i - 1), leafAt(tree, i));
        refusedF7(PayoutVerifier.Mode.Missing, missing(roots[0], 0, 1, abi.encodePacked(uint8(0), around)), PayoutTrees.NotAbsent.selector);
        around = abi.encodePacked(uint8(7), leafAt(tree, i - 1), leafAt(tree, i + 1));
        refusedF7(PayoutVerifier.Mode.Missing, missing(roots[0], 0, 1, abi.encodePacked(uint8(0), around)), PayoutTrees.NotAbsent.selector);
        // The leaf of somebody else.
        refusedF7(
            PayoutVerifier.Mode.Missing,
            missing(roots[0], 0, 1, abi.encodePacked(uint8(1), leafAt(tree, i - 1), noPart(tree, i - 1, new bytes(48)))),
            PayoutVerifier.AnotherAccount.selector
        );
        refusedF7(
            PayoutVerifier.Mode.Dropped,
            abi.encodePacked(leafAt(last, 0), uint8(3), leafAt(tree, 0), leafAt(tree, 2)),
            PayoutTrees.NotAbsent.selector
        );
        // A part that no receipt has.
        uint32[5] memory codes = [uint32(2), 6, 7, 258, 1 << 24];
        for (uint256 k = 0; k < 5; ++k) holds(PayoutVerifier.Mode.Missing, missing(roots[0], 0, codes[k], ""));
    }

    function test_openings_of_other_trees_and_epochs_are_refused() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        post(tree);
        refusedF7(
            PayoutVerifier.Mode.Sum,
            abi.encodePacked(leafAt(last, 0), Pack.sumHead(last.parts[0], last.amounts[0])),
            PayoutTrees.NotInPayout.selector
        );
        uint256 i = indexOf(tree, node);
        refusedF7(
            PayoutVerifier.Mode.Part, abi.encodePacked(leafAt(tree, i), partAt(tree, i - 1, 0)), PayoutTrees.NotInParts.selector
        );
        // Another head, another part tree, a trailing byte, too short.
        holds(PayoutVerifier.Mode.Sum, abi.encodePacked(leafAt(tree, i), Pack.sumHead(tree.parts[0], tree.amounts[0])));
        bytes memory leaf = leafAt(tree, i);
        leaf[90] ^= 0x01;
        (bool done,) = prove(payouts, call(PayoutVerifier.Mode.Sum, abi.encodePacked(leaf, Pack.sumHead(tree.parts[i], tree.amounts[i]))));
        yes("refused", !done);
        // Leaves beyond the count: a filler has no bytes that hash to it, and an index beyond the count is refused.
        bytes[] memory all = leaves(tree);
        bytes memory beyond = abi.encodePacked(Pack.blob(all[0]), tree.cumulative[0], Pack.sumOpen(all, tree.cumulative, 0));
        for (uint256 k = 0; k < 8; ++k) beyond[4 + 84 + 16 + 8 + k] = 0xff;
        refusedF7(PayoutVerifier.Mode.LeafForm, beyond, Trees.IndexBeyondLeaves.selector);
    }

    // ------------------------------------------------------------------ the tree itself

    function test_a_sum_that_does_not_follow_from_the_parts_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        tree.cumulative[0] += 1;
        post(tree);
        wrong(PayoutVerifier.Mode.Sum, abi.encodePacked(leafAt(tree, 0), Pack.sumHead(tree.parts[0], tree.amounts[0])));
    }

    function test_another_previous_amount_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        uint256 i = indexOf(tree, node);
        tree.previous[i] += 5;
        tree.cumulative[i] += 5;
        post(tree);
        wrong(PayoutVerifier.Mode.Previous, previousOf(last, tree, i));
    }

    function test_a_previous_amount_of_a_new_account_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        uint256 i = indexOf(tree, other);
        tree.previous[i] += 5;
        tree.cumulative[i] += 5;
        post(tree);
        wrong(PayoutVerifier.Mode.Previous, previousOf(last, tree, i));
    }

    function test_a_dropped_account_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        // It earned nothing new: an account of the first epoch alone.
        uint256 i = indexOf(tree, last.accounts[0]);
        dropLeaf(tree, i);
        tree.cumulative[0] += 10 ether / 1e9;
        post(tree);
        wrong(PayoutVerifier.Mode.Dropped, abi.encodePacked(leafAt(last, 0), noLeaf(tree, last.accounts[0])));
    }

    function test_leaves_out_of_order_and_doubled_are_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        tree.accounts[1] = tree.accounts[0];
        post(tree);
        wrong(PayoutVerifier.Mode.LeafOrder, abi.encodePacked(leafAt(tree, 0), leafAt(tree, 1)));
    }

    function test_a_leaf_whose_amount_is_not_its_cumulative_one_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        bytes[] memory all = leaves(tree);
        uint128[] memory amounts = tree.cumulative;
        amounts[2] += 9;
        postRoot(all, amounts);
        wrong(PayoutVerifier.Mode.LeafForm, abi.encodePacked(Pack.blob(all[2]), amounts[2], Pack.sumOpen(all, amounts, 2)));
    }

    function test_something_beyond_the_leaves_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        // One leaf more than the head counts.
        bytes[] memory all = new bytes[](tree.accounts.length + 1);
        uint128[] memory amounts = new uint128[](all.length);
        bytes[] memory honestLeaves = leaves(tree);
        for (uint256 k = 0; k < honestLeaves.length; ++k) (all[k], amounts[k]) = (honestLeaves[k], tree.cumulative[k]);
        (all[honestLeaves.length], amounts[honestLeaves.length]) = ("hidden", 77);
        bytes memory head = Pack.sumHead(all, amounts);
        bytes32 top = bytes32(slice(head, 24, 32));
        uint128 total = uint128(slice(head, 8, 16));
        yes("the same depth", honestLeaves.length & (honestLeaves.length - 1) != 0);
        postAs(Trees.sumRoot(uint64(honestLeaves.length), total, top), total);
        uint256 i = honestLeaves.length - 1;
        bytes memory opening = Pack.sumOpen(all, amounts, i);
        // The count that the root binds is the smaller one.
        opening[7] = bytes1(uint8(honestLeaves.length));
        wrong(PayoutVerifier.Mode.LeafForm, abi.encodePacked(Pack.blob(all[i]), amounts[i], opening));
    }

    function test_a_total_that_the_root_does_not_bind_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        (bytes32 root, uint128 total) = Pack.sumRoot(leaves(tree), tree.cumulative);
        postAs(root, total + 1);
        wrong(PayoutVerifier.Mode.Head, Pack.sumHead(leaves(tree), tree.cumulative));
    }

    // ------------------------------------------------------------------ parts

    /// forge-config: default.fuzz.runs = 32
    function testFuzz_a_part_that_is_a_wei_off_is_refuted(uint256 seed, uint256 which) public {
        (Tree memory last, Root[] memory roots) = world(seed);
        Tree memory tree = build(last, roots, none);
        uint256 i = which % tree.accounts.length;
        while (tree.parts[i].length == 0) i = (i + 1) % tree.accounts.length;
        uint256 j = (which >> 128) % tree.parts[i].length;
        tree.amounts[i][j] += 1;
        tree.cumulative[i] += 1;
        bytes memory content = tree.parts[i][j];
        for (uint256 k = 0; k < 16; ++k) content[32 + k] = bytes1(uint8(tree.amounts[i][j] >> (8 * (15 - k))));
        post(tree);
        wrong(PayoutVerifier.Mode.Part, partProof(tree, roots, i, j));
    }

    /// forge-config: default.fuzz.runs = 32
    function testFuzz_a_missing_part_is_refuted(uint256 seed, uint256 which) public {
        (Tree memory last, Root[] memory roots) = world(seed);
        Tree memory tree = build(last, roots, none);
        uint256 i = which % tree.accounts.length;
        while (tree.parts[i].length == 0) i = (i + 1) % tree.accounts.length;
        uint256 j = (which >> 128) % tree.parts[i].length;
        bytes memory content = tree.parts[i][j];
        without(tree, i, j);
        post(tree);
        bytes memory absence = abi.encodePacked(uint8(1), leafAt(tree, i), noPart(tree, i, content));
        Root memory root = address(uint160(slice(content, 0, 20))) == node ? roots[0] : roots[1];
        wrong(PayoutVerifier.Mode.Missing, missing(root, slice(content, 20, 8), uint32(slice(content, 28, 4)), absence));
    }

    function test_a_node_root_left_out_altogether_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Root[] memory some = new Root[](1);
        some[0] = roots[0];
        Tree memory tree = build(last, some, none);
        post(tree);
        bytes memory absence = abi.encodePacked(uint8(0), noLeaf(tree, other));
        wrong(PayoutVerifier.Mode.Missing, missing(roots[1], 0, 1, absence));
    }

    function test_a_part_of_another_account_is_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        // The adapter's owner and the base's change places.
        (uint256 i, uint256 k) = (indexOf(tree, author), indexOf(tree, reviewer));
        (tree.parts[i], tree.parts[k]) = (tree.parts[k], tree.parts[i]);
        (tree.amounts[i], tree.amounts[k]) = (tree.amounts[k], tree.amounts[i]);
        tree.cumulative[i] = tree.previous[i];
        tree.cumulative[k] = tree.previous[k];
        for (uint256 j = 0; j < tree.amounts[i].length; ++j) tree.cumulative[i] += tree.amounts[i][j];
        for (uint256 j = 0; j < tree.amounts[k].length; ++j) tree.cumulative[k] += tree.amounts[k][j];
        post(tree);
        wrong(PayoutVerifier.Mode.Part, partProof(tree, roots, i, 0));
    }

    function test_parts_of_no_receipt_are_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Share[] memory extra = new Share[](3);
        // A node without a root, an index beyond the count, a code that does not exist.
        extra[0] = Share(client, abi.encodePacked(address(1), uint64(0), uint32(1), uint128(5)), 5);
        extra[1] = Share(client, abi.encodePacked(node, uint64(2), uint32(1), uint128(5)), 5);
        extra[2] = Share(client, abi.encodePacked(node, uint64(0), uint32(9), uint128(5)), 5);
        Tree memory tree = build(last, roots, extra);
        uint256 i = indexOf(tree, client);
        bytes memory head = abi.encodePacked(leafAt(tree, i), partAt(tree, i, 0));
        uint256 start = snapshot(tree);
        wrong(PayoutVerifier.Mode.Part, head);
        vm.revertToState(start);
        for (uint256 j = 1; j < 3; ++j) {
            bytes memory content = tree.parts[i][j];
            bytes memory proof = abi.encodePacked(leafAt(tree, i), partAt(tree, i, j), roots[0].shown);
            if (slice(content, 20, 8) < 2) proof = abi.encodePacked(proof, opened(roots[0], 0));
            wrong(PayoutVerifier.Mode.Part, proof);
            vm.revertToState(start);
        }
    }

    function test_parts_out_of_order_doubled_or_malformed_are_refuted() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory tree = build(last, roots, none);
        uint256 i = indexOf(tree, node);
        (tree.parts[i][0], tree.parts[i][1]) = (tree.parts[i][1], tree.parts[i][0]);
        (tree.amounts[i][0], tree.amounts[i][1]) = (tree.amounts[i][1], tree.amounts[i][0]);
        uint256 clean = vm.snapshotState();
        post(tree);
        wrong(PayoutVerifier.Mode.PartOrder, abi.encodePacked(leafAt(tree, i), partAt(tree, i, 0), partAt(tree, i, 1)));
        vm.revertToState(clean);

        tree = build(last, roots, none);
        tree.parts[i][1] = tree.parts[i][0];
        tree.cumulative[i] = tree.cumulative[i] - tree.amounts[i][1] + tree.amounts[i][0];
        tree.amounts[i][1] = tree.amounts[i][0];
        post(tree);
        wrong(PayoutVerifier.Mode.PartOrder, abi.encodePacked(leafAt(tree, i), partAt(tree, i, 0), partAt(tree, i, 1)));
        vm.revertToState(clean);

        tree = build(last, roots, none);
        tree.parts[i][0] = abi.encodePacked(tree.parts[i][0], hex"00");
        post(tree);
        wrong(PayoutVerifier.Mode.PartForm, partForm(tree, i, 0));
        vm.revertToState(clean);

        tree = build(last, roots, none);
        tree.amounts[i][0] += 1;
        tree.cumulative[i] += 1;
        post(tree);
        wrong(PayoutVerifier.Mode.PartForm, partForm(tree, i, 0));
    }

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

    function test_a_lane_that_goes_on_collecting_hides_no_missing_part() public {
        Root[] memory roots = new Root[](1);
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collect(a);
        roots[0] = submit(NODE_KEY, one(a));
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
        Root[] memory roots = new Root[](1);
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collect(a);
        roots[0] = submit(NODE_KEY, one(a));
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
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = InferenceEscrow.Item(
            lane,
            signed(CLIENT_KEY, address(escrow), Sig.LANE, lane),
            voucher,
            signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, voucher)
        );
        escrow.collectMany(items);
        (bool known,) = escrow.collectedBy(keccak256(lane), 1);
        yes("not known", !known);
        (known,) = escrow.collectedBy(a.receipt.lane, 1);
        yes("another lane", known);
        eq("collected", huge, escrow.collectedOf(keccak256(lane)));
    }

    // ------------------------------------------------------------------ effects

    function test_a_wrong_payout_is_taken_back_posted_again_and_its_poster_slashed_once() public {
        (Tree memory last, Root[] memory roots) = world(SEED);
        Tree memory right = build(last, roots, none);
        Tree memory tree = build(last, roots, none);
        tree.cumulative[0] += 1;
        post(tree);
        uint256 before = stakes.slashableOf(other);
        bytes memory evidence = abi.encodePacked(leafAt(tree, 0), Pack.sumHead(tree.parts[0], tree.amounts[0]));
        wrong(PayoutVerifier.Mode.Sum, evidence);
        eq("nothing pending", 0, settlement.pendingPayout().epoch);
        yes("slashed", stakes.slashableOf(other) < before);
        refusedF7(PayoutVerifier.Mode.Sum, evidence, PayoutVerifier.NothingPending.selector);
        // The same wrong root within the same second is taken back too.
        before = stakes.slashableOf(other);
        post(tree);
        wrong(PayoutVerifier.Mode.Sum, evidence);
        eq("once per posting", before, stakes.slashableOf(other));
        post(right);
        vm.warp(block.timestamp + W2);
        eq("final", 2, settlement.lastFinal());
    }

    // ------------------------------------------------------------------ helpers

    function snapshot(Tree memory tree) private returns (uint256 id) {
        post(tree);
        id = vm.snapshotState();
    }

    function postRoot(bytes[] memory all, uint128[] memory amounts) private {
        (bytes32 root, uint128 total) = Pack.sumRoot(all, amounts);
        postAs(root, total);
    }

    function postAs(bytes32 root, uint128 total) private {
        bytes32 previous = settlement.finalPayout().root;
        vm.prank(other);
        settlement.postPayout(2, previous, root, total);
    }

    function postFirst(bytes[] memory all, uint128[] memory amounts) private {
        (bytes32 root, uint128 total) = Pack.sumRoot(all, amounts);
        vm.prank(other);
        settlement.postPayout(1, 0, root, total);
    }

    function leafForm(Tree memory tree, uint256 i, uint128 amount) private pure returns (bytes memory) {
        bytes[] memory all = leaves(tree);
        return abi.encodePacked(Pack.blob(all[i]), amount, Pack.sumOpen(all, tree.cumulative, i));
    }

    function previousOf(Tree memory last, Tree memory tree, uint256 i) private pure returns (bytes memory) {
        for (uint256 k = 0; k < last.accounts.length; ++k) {
            if (last.accounts[k] == tree.accounts[i]) return abi.encodePacked(leafAt(tree, i), uint8(1), leafAt(last, k));
        }
        return abi.encodePacked(leafAt(tree, i), uint8(0), noLeaf(last, tree.accounts[i]));
    }

    function partProof(Tree memory tree, Root[] memory roots, uint256 i, uint256 j) private view returns (bytes memory) {
        bytes memory content = tree.parts[i][j];
        Root memory root = address(uint160(slice(content, 0, 20))) == node ? roots[0] : roots[roots.length - 1];
        return abi.encodePacked(leafAt(tree, i), partAt(tree, i, j), root.shown, opened(root, slice(content, 20, 8)));
    }

    /// @dev What is read of a receipt that has no parts at all.
    function shortPart(Tree memory tree, Root memory root, uint256 i, uint256 j) private pure returns (bytes memory) {
        uint256 index = slice(tree.parts[i][j], 20, 8);
        return abi.encodePacked(leafAt(tree, i), partAt(tree, i, j), root.shown, placed(root, index));
    }

    function shortMissing(Root memory root, uint256 index, uint32 code) private pure returns (bytes memory) {
        return abi.encodePacked(root.shown, uint64(index), code, placed(root, index));
    }

    function missing(Root memory root, uint256 index, uint32 code, bytes memory absence) private pure returns (bytes memory) {
        return abi.encodePacked(root.shown, uint64(index), code, opened(root, index), absence);
    }
}
