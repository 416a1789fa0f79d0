// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {NodeTrees} from "../src/NodeTrees.sol";
import {Openings} from "../src/Openings.sol";
import {PayoutTrees} from "../src/PayoutTrees.sol";
import {Trees} from "../src/Trees.sol";
import {Fixture} from "./Fixture.sol";
import {Libraries} from "./Libraries.sol";

/// @notice The contracts' trees and shares are those of the independent script.
contract VectorTreesTest is Fixture {
    Libraries private lib;

    function setUp() public override {
        super.setUp();
        lib = new Libraries();
    }

    // ------------------------------------------------------------------ a node's receipts

    function test_receipts_open_at_their_places_under_the_node_root_with_their_fees() public {
        bytes memory root = documentBody("NodeRoot");
        Codec.NodeRoot memory given = lib.nodeRoot(root);
        string memory tree = ".answer.receipts";
        eq("root", word(string.concat(tree, ".root")), given.receiptsRoot);
        eq("total", number(string.concat(tree, ".total")), given.feeSum);
        for (uint64 n = 0; n < given.count; ++n) {
            string memory row = each(string.concat(tree, ".leaves"), n, "");
            bytes32 hash = bytes32(blob(string.concat(row, ".leaf")));
            uint128 fee = uint128(number(string.concat(row, ".amount")));
            bytes memory up = sumSiblings(each(string.concat(tree, ".openings"), n, ""));
            lib.requireReceiptAt(root, n, hash, fee, up);
            vm.expectPartialRevert(NodeTrees.NotInTree.selector);
            lib.requireReceiptAt(root, n, hash, fee + 1, up);
            vm.expectPartialRevert(Openings.TrailingBytes.selector);
            lib.requireReceiptAt(root, n, hash, fee, bytes.concat(up, hex"00"));
        }
        vm.expectPartialRevert(Trees.IndexBeyondLeaves.selector);
        lib.requireReceiptAt(root, given.count, 0, 0, "");
        yes("all leaves", !has(each(string.concat(tree, ".leaves"), given.count, "")));
    }

    /// @dev The tree's leaves are the receipts among the vectors, with the fee that stands in their bodies.
    function test_the_leaves_of_the_receipts_tree_are_receipts_and_their_fees() public view {
        uint256 found = 0;
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            if (!same(text(each(".documents", i, ".name")), "Receipt")) continue;
            bytes memory body = blob(each(".documents", i, ".body"));
            string memory row = each(".answer.receipts.leaves", found++, "");
            eq("hash", bytes32(blob(string.concat(row, ".leaf"))), keccak256(body));
            eq("fee", number(string.concat(row, ".amount")), lib.feeOf(body));
        }
        eq("receipts", 2, found);
    }

    function testFuzz_the_fee_of_any_body_is_what_stands_at_its_place(bytes calldata body) public view {
        uint256 fee = 0;
        if (body.length >= 388) for (uint256 i = 372; i < 388; ++i) fee = (fee << 8) | uint8(body[i]);
        eq("fee", fee, lib.feeOf(body));
        eq("of a long one", 7, lib.feeOf(abi.encodePacked(new bytes(372), uint128(7), body)));
    }

    // ------------------------------------------------------------------ payout trees

    function test_refunds_are_parts_of_116_bytes_behind_their_nodes_other_parts() public view {
        uint256 refunds = 0;
        for (uint256 i = 0; has(each(".payout.claims", i, "")); ++i) {
            string memory claim = each(".payout.claims", i, "");
            bytes32 root = word(string.concat(claim, ".partsRoot"));
            bytes32 key = 0;
            bytes32 lane = 0;
            uint256 count = 0;
            while (has(each(string.concat(claim, ".parts"), count, ""))) ++count;
            for (uint256 n = 0; n < count; ++n) {
                string memory row = each(string.concat(claim, ".parts"), n, "");
                bytes memory leaf = blob(string.concat(row, ".leaf"));
                yes("a part", lib.isPart(leaf) && !lib.isPart(abi.encodePacked(leaf, uint8(0))));
                PayoutTrees.Part memory got = lib.payoutPart(root, partEvidence(claim, count, n));
                eq("amount", number(string.concat(row, ".amount")), got.amount);
                yes("ascending", n == 0 || PayoutTrees.isBefore(key, lane, got.key, got.lane));
                (key, lane) = (got.key, got.lane);
                yes("116 bytes", PayoutTrees.isRefund(key) == (leaf.length == 116));
                if (leaf.length == 116) refunds += checkRefund(got);
            }
        }
        eq("refunds", 4, refunds);
    }

    /// @dev One of the vectors' refunds has this lane, node, amount and witness.
    function checkRefund(PayoutTrees.Part memory got) private view returns (uint256) {
        for (uint256 i = 0; has(each(".payout.refunds", i, "")); ++i) {
            string memory row = each(".payout.refunds", i, "");
            if (word(string.concat(row, ".lane")) != got.lane) continue;
            (address node,,) = PayoutTrees.fieldsOf(got.key);
            eq("node", account(string.concat(row, ".node")), node);
            eq("amount", number(string.concat(row, ".amount")), got.amount);
            eq("witness", account(string.concat(row, ".witness.node")), got.witnessNode);
            eq("its epoch", number(string.concat(row, ".witness.epoch")), got.witnessEpoch);
            eq("its index", number(string.concat(row, ".witness.index")), got.witnessIndex);
            return 1;
        }
        return 0;
    }

    /// @dev Part `n` of `count` with its sum opening, as evidence; the vectors' parts trees are small enough to be built here.
    function partEvidence(string memory claim, uint256 count, uint256 n) private view returns (bytes memory packed) {
        bytes memory leaf = blob(each(string.concat(claim, ".parts"), n, ".leaf"));
        packed = abi.encodePacked(uint32(leaf.length), leaf, uint64(count), uint64(n));
        uint256 width = 1;
        while (width < count) width *= 2;
        bytes32[] memory digests = new bytes32[](width);
        uint128[] memory sums = new uint128[](width);
        for (uint256 i = 0; i < count; ++i) {
            digests[i] = Trees.leaf(blob(each(string.concat(claim, ".parts"), i, ".leaf")));
            sums[i] = uint128(number(each(string.concat(claim, ".parts"), i, ".amount")));
        }
        for (; width > 1; width /= 2) {
            packed = abi.encodePacked(packed, digests[n ^ 1], sums[n ^ 1]);
            for (uint256 i = 0; i < width; i += 2) {
                digests[i / 2] = Trees.sumNode(digests[i], sums[i], digests[i + 1], sums[i + 1]);
                sums[i / 2] = sums[i] + sums[i + 1];
            }
            n /= 2;
        }
    }

    // ------------------------------------------------------------------ shares

    function test_sequential_remainders() public view {
        uint256 i = 0;
        for (; has(each(".money.sequentialRemainders", i, "")); ++i) {
            string memory key = each(".money.sequentialRemainders", i, "");
            uint256[] memory wide = vm.parseJsonUintArray(json, string.concat(key, ".weights"));
            uint256[] memory expected = vm.parseJsonUintArray(json, string.concat(key, ".shares"));
            uint64[] memory weights = new uint64[](wide.length);
            for (uint256 n = 0; n < wide.length; ++n) weights[n] = uint64(wide[n]);
            uint256[] memory got = lib.sequential(number(string.concat(key, ".total")), weights);
            for (uint256 n = 0; n < wide.length; ++n) eq("share", expected[n], got[n]);
        }
        eq("cases", 7, i);
    }

    function test_fees() public view {
        uint256 i = 0;
        for (; has(each(".money.fees", i, "")); ++i) {
            string memory key = each(".money.fees", i, "");
            Codec.Quote memory terms;
            terms.rateIn = uint128(number(string.concat(key, ".rateIn")));
            terms.rateOut = uint128(number(string.concat(key, ".rateOut")));
            terms.protocolFee = uint128(number(string.concat(key, ".protocolFee")));
            bytes memory counts =
                abi.encodePacked(uint32(number(string.concat(key, ".tokensIn"))), uint32(0), uint32(number(string.concat(key, ".tokensOut"))));
            bytes memory body = bytes.concat(new bytes(328), counts, new bytes(94));
            eq("fee", number(string.concat(key, ".fee")), lib.feeBy(body, terms));
        }
        eq("cases", 5, i);
    }

    // In thirds, because every look into the file costs gas.
    function test_every_part_of_the_first_divisions() public view {
        for (uint256 i = 0; i < 4; ++i) checkParts(each(".money.shares", i, ""));
    }

    function test_every_part_of_the_next_divisions() public view {
        for (uint256 i = 4; i < 8; ++i) checkParts(each(".money.shares", i, ""));
    }

    function test_every_part_of_the_last_divisions() public view {
        uint256 i = 8;
        for (; has(each(".money.shares", i, "")); ++i) checkParts(each(".money.shares", i, ""));
        eq("cases", 12, i);
    }

    function checkParts(string memory key) private view {
        Codec.Manifest memory m;
        uint256[] memory rows = vm.parseJsonUintArray(json, string.concat(key, ".split"));
        for (uint256 r = 0; r < 6; ++r) m.split[r] = uint16(rows[r]);
        rows = vm.parseJsonUintArray(json, string.concat(key, ".treasuryWeights"));
        m.datanets = new Codec.ManifestDatanet[](rows.length);
        for (uint256 n = 0; n < rows.length; ++n) m.datanets[n].weight = uint64(rows[n]);
        rows = vm.parseJsonUintArray(json, string.concat(key, ".spanWeights"));
        bytes memory spans;
        for (uint256 n = 0; n < rows.length; ++n) spans = bytes.concat(spans, new bytes(12), bytes4(uint32(rows[n])), new bytes(24));
        bytes memory body = abi.encodePacked(
            new bytes(106),
            type(uint128).max,
            new bytes(250),
            uint128(number(string.concat(key, ".fee"))),
            uint8(0),
            uint64(number(string.concat(key, ".totalWeight"))),
            new bytes(33),
            uint16(rows.length),
            spans,
            uint16(0)
        );
        uint128 protocolFee = uint128(number(string.concat(key, ".protocolFee")));
        // All codes there are, and some that are not, in order.
        uint256 found = 0;
        for (uint32 code = 0; code < 24; ++code) {
            uint32 real = code < 8 ? code : code < 16 ? 256 + code - 8 : 65_536 + code - 16;
            (bool divides, uint256 amount) = lib.part(body, protocolFee, m, real);
            yes("divides", divides);
            if (amount == 0) continue;
            // The vectors leave zeros out and ascend by code.
            string memory row = each(string.concat(key, ".parts"), found++, "");
            eq("code", number(string.concat(row, ".code")), real);
            eq("amount", number(string.concat(row, ".amount")), amount);
        }
        yes("no part is left", !has(each(string.concat(key, ".parts"), found, "")));
    }

    // ------------------------------------------------------------------ trees

    // In two, as above: the last tree has more leaves than all others.
    function test_small_trees_and_their_openings() public view {
        small(".trees", checkTree);
    }

    function test_the_largest_tree_and_its_openings() public view {
        largest(".trees", checkTree);
    }

    function test_small_sum_trees_and_their_openings() public view {
        small(".sumTrees", checkSumTree);
    }

    function test_the_largest_sum_tree_and_its_openings() public view {
        largest(".sumTrees", checkSumTree);
    }

    function small(string memory trees, function(string memory) view returns (uint256) check) private view {
        uint256 opened = 0;
        for (uint256 i = 0; i < 6; ++i) opened += check(each(trees, i, ""));
        eq("openings", 19, opened);
    }

    function largest(string memory trees, function(string memory) view returns (uint256) check) private view {
        eq("openings", 33, check(each(trees, 6, "")));
        yes("it is the last one", !has(each(trees, 7, "")));
    }

    function checkTree(string memory tree) private view returns (uint256 count) {
        bytes32 root = word(string.concat(tree, ".root"));
        count = number(string.concat(tree, ".count"));
        uint256 length = number(string.concat(tree, ".length"));
        eq("head", root, Trees.root(uint64(count), uint64(length), word(string.concat(tree, ".top"))));
        for (uint256 n = 0; n < count; ++n) {
            bytes memory leaf = blob(each(string.concat(tree, ".leaves"), n, ""));
            eq("opening", root, lib.openedRoot(leaf, opening(each(string.concat(tree, ".openings"), n, ""))));
        }
    }

    function checkSumTree(string memory tree) private view returns (uint256 count) {
        bytes32 root = word(string.concat(tree, ".root"));
        uint256 total = number(string.concat(tree, ".total"));
        count = number(string.concat(tree, ".count"));
        eq("head", root, Trees.sumRoot(uint64(count), uint128(total), word(string.concat(tree, ".top"))));
        for (uint256 n = 0; n < count; ++n) {
            string memory row = each(string.concat(tree, ".leaves"), n, "");
            bytes memory siblings = sumSiblings(each(string.concat(tree, ".openings"), n, ""));
            (bytes32 got, uint128 sum) = lib.sumRootOf(
                blob(string.concat(row, ".leaf")), uint128(number(string.concat(row, ".amount"))), uint64(n), uint64(count), siblings
            );
            eq("root", root, got);
            eq("total", total, sum);
        }
    }

    function test_openings_that_cannot_be_are_refused() public {
        Trees.Opening memory place = opening(".trees[4].openings[2]");
        bytes memory leaf = blob(".trees[4].leaves[2]");
        bytes32 root = word(".trees[4].root");
        eq("five leaves", 5, place.count);
        place.index = 5;
        vm.expectRevert(abi.encodeWithSelector(Trees.IndexBeyondLeaves.selector, 5, 5));
        lib.openedRoot(leaf, place);
        place.index = 2;
        place.siblings = new bytes32[](2);
        vm.expectRevert(abi.encodeWithSelector(Trees.WrongDepth.selector, 3, 2));
        lib.openedRoot(leaf, place);
        place = opening(".trees[4].openings[2]");
        place.count = 6;
        yes("another count is another root", lib.openedRoot(leaf, place) != root);
        place.count = 5;
        place.length += 1;
        yes("another length is another root", lib.openedRoot(leaf, place) != root);
        place.length -= 1;
        place.index = 3;
        yes("another place is another root", lib.openedRoot(leaf, place) != root);
        bytes memory full = abi.encodePacked(bytes32(0), type(uint128).max);
        vm.expectRevert(abi.encodeWithSelector(Trees.SumTooLarge.selector, uint256(type(uint128).max) + 1));
        lib.sumRootOf(leaf, 1, 0, 2, full);
        vm.expectRevert(abi.encodeWithSelector(Trees.SiblingBytes.selector, 47));
        lib.sumRootOf(leaf, 1, 0, 2, new bytes(47));
    }
}
