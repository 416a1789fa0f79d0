// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PayoutTrees} from "../src/PayoutTrees.sol";
import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {Trees} from "../src/Trees.sol";
import {Pack} from "./Pack.sol";
import {PayoutWorld} from "./PayoutWorld.sol";

/// @notice F7 over two epochs, two nodes, three receipts: the honest tree stands against every mode, each wrong one falls to its own.
contract PayoutVerifierTest is PayoutWorld {
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

    function postRoot(bytes[] memory all, uint128[] memory amounts) private {
        (bytes32 root, uint128 total) = Pack.sumRoot(all, amounts);
        postAs(root, total);
    }

    function postAs(bytes32 root, uint128 total) private {
        bytes32 previous = settlement.finalPayout().root;
        vm.prank(other);
        settlement.postPayout(2, previous, root, total);
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

}
