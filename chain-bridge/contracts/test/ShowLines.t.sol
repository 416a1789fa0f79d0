// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Openings} from "../src/Openings.sol";
import {PayoutTrees} from "../src/PayoutTrees.sol";
import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {Trees} from "../src/Trees.sol";
import {Asking} from "./Asking.sol";
import {Pack} from "./Pack.sol";

/// @notice A poster that is flooded with questions answers many of them in one transaction, and earns by none.
/// @dev Calls are no transactions of their own here, in which gas would be free: what a transaction takes before it begins is added.
/// forge-config: default.isolate = false
contract ShowLinesTest is Asking {
    uint256 private constant FEE = 1 gwei;
    address private constant SECOND = address(0xA6);
    /// @dev As in `MeteredTest`: what dividing bonds takes and is not counted, of which there are as many as challengers.
    uint256 private constant UNCOUNTED = 60_000;

    function setUp() public override {
        super.setUp();
        vm.deal(SECOND, 1_000 ether);
    }

    function test_leaves_and_parts_are_answered_at_once_and_what_is_not_open_is_passed_over() public {
        Tree memory tree = pending();
        uint256 last = tree.accounts.length - 1;
        askLeaf(ASKER, 0);
        askLeaf(SECOND, 99);
        askPart(ASKER, tree, 1, 0);
        askPart(ASKER, tree, 1, 99);
        // Somebody is ahead with one, and one was never asked for.
        desk.showLeaf(0, leafAt(tree, 0));
        bytes memory answers = abi.encodePacked(
            uint32(5), leafAnswer(tree, 0, 0), partAnswer(tree, 1, 0, 0), leafAnswer(tree, 99, last), leafAnswer(tree, 77, last)
        );
        uint256 parts = tree.parts[1].length;
        answers = abi.encodePacked(answers, partAnswer(tree, 1, 99, parts - 1));
        uint256 before = desk.owed(ASKER);
        vm.recordLogs();
        desk.showLines(answers);
        uint256 shown = vm.getRecordedLogs().length;
        // Three answers; what is left of the bonds of two who asked, in three runs.
        eq("logs", 6, shown);
        eq("both parts", before + 2 * CHALLENGE_BOND, desk.owed(ASKER));
        eq("the leaf", CHALLENGE_BOND, desk.owed(SECOND));
        // All are closed now: nothing happens, and nothing is settled.
        desk.showLines(answers);
        eq("once", before + 2 * CHALLENGE_BOND, desk.owed(ASKER));
        vm.warp(block.timestamp + PAYOUT_ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.settleLeaf(99);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.settlePart(1, 99);
        vm.warp(block.timestamp + W2);
        eq("final", 1, settlement.lastFinal());
    }

    function test_an_answer_that_comes_too_late_is_passed_over_and_the_payout_taken_back() public {
        Tree memory tree = pending();
        askLeaf(ASKER, 0);
        vm.warp(block.timestamp + PAYOUT_ANSWER_SECONDS);
        askLeaf(ASKER, 1);
        desk.showLines(abi.encodePacked(uint32(2), leafAnswer(tree, 0, 0), leafAnswer(tree, 1, 1)));
        eq("the second alone", CHALLENGE_BOND, desk.owed(ASKER));
        desk.settleLeaf(0);
        eq("taken back", 0, settlement.pendingPayout().epoch);
        bytes memory none_ = abi.encodePacked(uint32(0));
        vm.expectRevert(ReceiptChallenge.NothingPending.selector);
        desk.showLines(none_);
    }

    function test_what_answers_nothing_is_refused_with_all_beside_it() public {
        Tree memory tree = pending();
        askLeaf(ASKER, 0);
        bytes memory good = leafAnswer(tree, 0, 0);
        refused(abi.encodePacked(uint32(2), good, leafAnswer(tree, 1, 0)), ReceiptChallenge.OtherLeaf.selector);
        bytes memory bad = leafAt(tree, 1);
        bad[0] ^= 0x01;
        refused(abi.encodePacked(uint32(2), good, uint8(0), uint64(1), Pack.blob(bad)), PayoutTrees.NotInPayout.selector);
        // A leaf is no answer to a question for a part, nor a part to one for a leaf.
        refused(abi.encodePacked(uint32(1), uint8(1), uint64(0), Pack.blob(leafAt(tree, 0))), Openings.Truncated.selector);
        bytes memory part = abi.encodePacked(leafAt(tree, 0), partAt(tree, 0, 0));
        refused(abi.encodePacked(uint32(1), uint8(0), uint64(0), Pack.blob(part)), Openings.TrailingBytes.selector);
        refused(abi.encodePacked(uint32(2), good), Openings.Truncated.selector);
        refused(abi.encodePacked(uint32(1), good, uint8(0)), Openings.TrailingBytes.selector);
        eq("still open", 0, desk.owed(ASKER));
        desk.showLines(abi.encodePacked(uint32(1), good));
        eq("answered", CHALLENGE_BOND, desk.owed(ASKER));
    }

    /// @notice Nothing that takes money is reached through it, and it takes none: no value is counted twice.
    function test_no_value_comes_with_answers_and_no_question_can_be_among_them() public {
        Tree memory tree = pending();
        askLeaf(ASKER, 0);
        bytes memory call = abi.encodeCall(ReceiptChallenge.showLines, (abi.encodePacked(uint32(1), leafAnswer(tree, 0, 0))));
        vm.prank(ASKER);
        (bool done,) = address(desk).call{value: CHALLENGE_BOND}(call);
        yes("no value", !done);
        bytes memory question = abi.encodeCall(ReceiptChallenge.challengeLeaf, (1));
        vm.prank(ASKER);
        (done,) = address(desk).call(abi.encodeCall(ReceiptChallenge.showLines, (question)));
        yes("no question", !done);
        eq("the bond", CHALLENGE_BOND, address(desk).balance);
    }

    /// @notice Base and bytes of the transaction are counted once, whatever the number of answers, by price and share.
    function test_who_answers_many_at_once_is_given_no_more_than_half_of_what_it_paid() public {
        Tree memory tree = pending();
        uint64 count = 40;
        bytes memory answers = abi.encodePacked(uint32(count));
        for (uint64 i = 0; i < count; ++i) {
            askLeaf(i % 4 == 3 ? SECOND : ASKER, i);
            uint256 last = tree.accounts.length - 1;
            answers = abi.encodePacked(answers, leafAnswer(tree, i, i < last ? i : last));
        }
        bytes memory call = abi.encodeCall(ReceiptChallenge.showLines, (answers));
        vm.fee(FEE);
        uint256 before = node.balance;
        vm.prank(node, node);
        (bool done,) = address(desk).call(call);
        yes("answered", done);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        uint256 gas = 21_000 + 4 * call.length + 12 * nonzero(call) + used;
        uint256 given = node.balance - before;
        yes("no more than half of what it paid", 2 * given <= gas * FEE);
        yes("and nearly that", 2 * given + (UNCOUNTED + 5_000 * count) * FEE >= gas * FEE);
        eq("the rest went back", count * CHALLENGE_BOND - given, desk.owed(ASKER) + desk.owed(SECOND));
        eq("and each bore the same", desk.owed(ASKER), 3 * desk.owed(SECOND));
        eq("no wei is left over", address(desk).balance, desk.owed(ASKER) + desk.owed(SECOND));
    }

    function test_the_bonds_are_the_most_that_answers_are_given() public {
        Tree memory tree = pending();
        askLeaf(ASKER, 0);
        askLeaf(SECOND, 1);
        // What was answered before adds nothing.
        askLeaf(ASKER, 99);
        uint256 last = tree.accounts.length - 1;
        desk.showLeaf(99, leafAt(tree, last));
        uint256 owed = desk.owed(ASKER);
        vm.fee(1e6 gwei);
        uint256 before = node.balance;
        vm.prank(node, node);
        desk.showLines(abi.encodePacked(uint32(3), leafAnswer(tree, 99, last), leafAnswer(tree, 0, 0), leafAnswer(tree, 1, 1)));
        eq("two bonds", before + 2 * CHALLENGE_BOND, node.balance);
        eq("nothing left of one", owed, desk.owed(ASKER));
        eq("nor of the other", 0, desk.owed(SECOND));
    }

    // ------------------------------------------------------------------ helpers

    function refused(bytes memory answers, bytes4 selector) private {
        (bool done, bytes memory reason) = address(desk).call(abi.encodeCall(ReceiptChallenge.showLines, (answers)));
        yes("refused", !done);
        eq("error", bytes32(selector), bytes32(bytes4(reason)));
    }

    function leafAnswer(Tree memory tree, uint64 asked, uint256 place) private pure returns (bytes memory) {
        return abi.encodePacked(uint8(0), asked, Pack.blob(leafAt(tree, place)));
    }

    function partAnswer(Tree memory tree, uint256 leaf, uint64 asked, uint256 place) private pure returns (bytes memory) {
        return abi.encodePacked(uint8(1), asked, Pack.blob(abi.encodePacked(leafAt(tree, leaf), partAt(tree, leaf, place))));
    }

    function askLeaf(address asker, uint64 index) private {
        vm.prank(asker);
        desk.challengeLeaf{value: CHALLENGE_BOND}(index);
    }

    function askPart(address asker, Tree memory tree, uint256 leaf, uint64 index) private {
        vm.prank(asker);
        desk.challengePart{value: CHALLENGE_BOND}(leafAt(tree, leaf), index);
    }

    function nonzero(bytes memory call) private pure returns (uint256 count) {
        for (uint256 i = 0; i < call.length; ++i) if (call[i] != 0) ++count;
    }
}

/// @notice Climbs, for who has no calldata.
contract Climber {
    function rootOf(bytes calldata content, uint128 amount, uint64 index, uint64 count, bytes calldata siblings) external pure returns (bytes32, uint128) {
        bytes32 digest = keccak256(abi.encodePacked(bytes1(0x00), content));
        (bytes32 top, uint128 total) = Trees.sumTop(digest, amount, index, siblings);
        return (Trees.sumRoot(count, total, top), total);
    }
}

/// @notice What 200 questions cost who asks them, and who answers them in as many transactions as carry them.
contract ShowLinesGasTest is Asking {
    uint256 private constant QUESTIONS = 200;
    /// @dev Evidence that one transaction carries.
    uint256 private constant EVIDENCE_BYTES_MAX = 120 << 10;

    function test_200_answers_in_a_tree_of_2_to_the_10_cost_less_than_asking() public {
        flooded(10, 1);
    }

    function test_200_answers_in_a_tree_of_2_to_the_16_cost_less_than_asking() public {
        flooded(16, 2);
    }

    function flooded(uint256 depth, uint256 transactions) private {
        bytes memory evidence = posted(depth);
        uint256 asked = 0;
        for (uint64 i = 0; i < QUESTIONS; ++i) {
            vm.prank(ASKER);
            desk.challengeLeaf{value: CHALLENGE_BOND}((uint64(1) << 32) + i);
            // A contract asks many in one transaction.
            asked += vm.lastCallGas().gasTotalUsed - 21_000;
        }
        uint256 each = EVIDENCE_BYTES_MAX / (13 + evidence.length);
        uint256 answered = 0;
        uint256 sent = 0;
        for (uint64 next = 0; next < QUESTIONS; ++sent) {
            uint64 count = uint64(QUESTIONS - next < each ? QUESTIONS - next : each);
            bytes[] memory all = new bytes[](count);
            for (uint64 i = 0; i < count; ++i) all[i] = abi.encodePacked(uint8(0), (uint64(1) << 32) + next + i, Pack.blob(evidence));
            bytes memory answers = abi.encodePacked(uint32(count), flat(all));
            desk.showLines(answers);
            uint256 gas = vm.lastCallGas().gasTotalUsed;
            yes("within a transaction", gas < 10_000_000);
            answered += gas;
            next += count;
        }
        eq("transactions", transactions, sent);
        eq("every bond", QUESTIONS * CHALLENGE_BOND, desk.owed(ASKER));
        vm.snapshotValue("gas", string.concat("F7, question for a leaf, one of 200, depth ", depth == 10 ? "10" : "16"), asked / QUESTIONS);
        vm.snapshotValue("gas", string.concat("F7, answer with a leaf, one of 200, depth ", depth == 10 ? "10" : "16"), answered / QUESTIONS);
        // Half of the answers comes out of the bonds.
        yes("who asks pays more", asked + answered / 2 > answered - answered / 2);
        yes("even where no bond is left", asked > answered / 2);
    }

    /// @dev A payout of 2^depth lines, of which only the last is known, with what opens that.
    function posted(uint256 depth) private returns (bytes memory) {
        Root memory root = submitted(2);
        for (uint256 i = 0; i < 2; ++i) collect(root.answers[i]);
        vm.warp(block.timestamp + W1);
        uint64 count = uint64(1) << uint64(depth);
        bytes memory siblings;
        for (uint256 i = 0; i < depth; ++i) siblings = abi.encodePacked(siblings, keccak256(abi.encode("sibling", i)), uint128(0));
        bytes memory line = abi.encodePacked(ASKER, uint128(0), uint128(1), keccak256("parts"));
        (bytes32 top, uint128 total) = new Climber().rootOf(line, 1, count - 1, count, siblings);
        vm.prank(other);
        settlement.postPayout(1, 0, top, total);
        return abi.encodePacked(line, count, count - 1, siblings);
    }

    function flat(bytes[] memory all) private pure returns (bytes memory out) {
        for (uint256 i = 0; i < all.length; ++i) out = bytes.concat(out, all[i]);
    }
}
