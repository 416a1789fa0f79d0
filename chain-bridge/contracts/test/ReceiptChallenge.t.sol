// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FaultBase} from "../src/FaultBase.sol";
import {ISessions, ISettlement, IStakes} from "../src/Ports.sol";
import {PayoutTrees} from "../src/PayoutTrees.sol";
import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {ITreasury, Settlement} from "../src/Settlement.sol";
import {Asking} from "./Asking.sol";
import {Pack} from "./Pack.sol";

/// @notice A challenger that takes no money until it is told to.
contract Coy {
    bool public accepts;

    function accept() external {
        accepts = true;
    }

    function ask(ReceiptChallenge desk, uint64 index, uint256 bond) external {
        desk.challengeLeaf{value: bond}(index);
    }

    receive() external payable {
        require(accepts, "not now");
    }
}

/// @notice Payout trees nobody can open, and what becomes of bonds: who answers is paid for it, who does not is slashed.
contract ReceiptChallengeTest is Asking {
    // ------------------------------------------------------------------ payout trees

    function test_a_poster_that_opens_its_tree_is_not_slashed_and_earns_nothing() public {
        Tree memory tree = pending();
        askLeaf(0);
        askLeaf(99);
        uint256 before = other.balance;
        desk.showLeaf(0, leafAt(tree, 0));
        bytes memory last = leafAt(tree, tree.accounts.length - 1);
        bytes memory first = leafAt(tree, 0);
        vm.expectPartialRevert(ReceiptChallenge.OtherLeaf.selector);
        desk.showLeaf(99, first);
        desk.showLeaf(99, last);
        vm.prank(ASKER);
        desk.challengePart{value: CHALLENGE_BOND}(leafAt(tree, 1), 0);
        bytes memory part = abi.encodePacked(leafAt(tree, 1), partAt(tree, 1, 0));
        desk.showPart(0, part);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.showPart(0, part);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.showLeaf(0, first);
        eq("bonds", 3 * CHALLENGE_BOND, desk.owed(ASKER));
        eq("none of them the poster's", before, other.balance);
        vm.warp(block.timestamp + W2);
        eq("final", 1, settlement.lastFinal());
    }

    function test_a_poster_that_does_not_is_slashed_and_the_epoch_may_be_posted_again() public {
        Root memory root = submitted(2);
        for (uint256 i = 0; i < 2; ++i) collect(root.answers[i]);
        vm.warp(block.timestamp + W1);
        vm.prank(other);
        settlement.postPayout(1, 0, keccak256("no tree at all"), 1);
        askLeaf(0);
        askLeaf(1);
        vm.warp(block.timestamp + PAYOUT_ANSWER_SECONDS);
        desk.settleLeaf(0);
        eq("taken back", 0, settlement.pendingPayout().epoch);
        yes("slashed", stakes.slashableOf(other) < 50 ether);
        // The second challenge lost its object: its bond comes back to whoever asked, and to nobody else.
        uint64 postedAt = uint64(block.timestamp - PAYOUT_ANSWER_SECONDS);
        bytes32 id = keccak256(abi.encode("leaf", uint64(1), keccak256("no tree at all"), postedAt, uint64(1)));
        vm.warp(block.timestamp + PAYOUT_ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NotYours.selector);
        desk.reclaim(id);
        vm.prank(ASKER);
        desk.reclaim(id);
        eq("bonds", 1_000 ether, ASKER.balance);
        Tree memory empty;
        Root[] memory roots = new Root[](1);
        roots[0] = root;
        post(build(empty, roots, none));
    }

    function test_a_tree_without_leaves_and_a_leaf_without_parts_can_be_shown() public {
        Answer memory failed = honest(NODE_KEY, 1, SEED);
        failed.receipt.reason = 16;
        failed.receipt.fee = 0;
        submit(NODE_KEY, one(failed));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        Tree memory tree = build(empty, new Root[](0), none);
        post(tree);
        askLeaf(0);
        bytes memory head = Pack.sumHead(leaves(tree), tree.cumulative);
        desk.showLeaf(0, head);
        vm.warp(block.timestamp + W2);
        eq("final", 1, settlement.lastFinal());

        tree = pending();
        vm.warp(block.timestamp + W2);
        submit(NODE_KEY, one(failed));
        vm.warp(block.timestamp + W1);
        tree = build(tree, new Root[](0), none);
        post(tree);
        vm.prank(ASKER);
        desk.challengePart{value: CHALLENGE_BOND}(leafAt(tree, 0), 0);
        desk.showPart(0, abi.encodePacked(leafAt(tree, 0), Pack.sumHead(tree.parts[0], tree.amounts[0])));
        vm.warp(block.timestamp + W2);
        eq("final", 3, settlement.lastFinal());
    }

    function test_a_parts_tree_of_no_parts_and_some_money_cannot_be_shown() public {
        Root memory root = submitted(2);
        for (uint256 i = 0; i < 2; ++i) collect(root.answers[i]);
        vm.warp(block.timestamp + W1);
        // One line whose money hides behind a root of no parts.
        uint128 money = 77;
        bytes memory head = abi.encodePacked(uint64(0), money, keccak256("nothing"));
        bytes[] memory lines = new bytes[](1);
        lines[0] = abi.encodePacked(ASKER, uint128(0), money, keccak256(abi.encodePacked(bytes1(0x03), head)));
        uint128[] memory amounts = new uint128[](1);
        amounts[0] = money;
        (bytes32 payout, uint128 total) = Pack.sumRoot(lines, amounts);
        vm.prank(other);
        settlement.postPayout(1, 0, payout, total);
        bytes memory leaf = abi.encodePacked(lines[0], Pack.sumOpen(lines, amounts, 0));
        vm.prank(ASKER);
        desk.challengePart{value: CHALLENGE_BOND}(leaf, 0);
        vm.expectRevert(PayoutTrees.NotAbsent.selector);
        desk.showPart(0, abi.encodePacked(leaf, head));
        vm.warp(block.timestamp + PAYOUT_ANSWER_SECONDS);
        desk.settlePart(0, 0);
        eq("taken back", 0, settlement.pendingPayout().epoch);
    }

    function test_nothing_can_be_asked_of_a_payout_that_is_not_pending() public {
        vm.prank(ASKER);
        vm.expectRevert(ReceiptChallenge.NothingPending.selector);
        desk.challengeLeaf{value: CHALLENGE_BOND}(0);
        vm.expectRevert(ReceiptChallenge.NothingPending.selector);
        desk.settleLeaf(0);
    }

    function test_a_bond_comes_back_late_enough_and_to_who_takes_it() public {
        pending();
        Coy coy = new Coy();
        vm.deal(address(coy), CHALLENGE_BOND);
        coy.ask(desk, 0, CHALLENGE_BOND);
        ISettlement.Payout memory posted = ISettlement(address(settlement)).pendingPayout();
        bytes32 id = keccak256(abi.encode("leaf", posted.epoch, posted.root, posted.postedAt, uint64(0)));
        ReceiptChallenge.Challenge memory open = desk.challengeOf(id);
        eq("challenger", address(coy), open.challenger);
        eq("deadline", block.timestamp + PAYOUT_ANSWER_SECONDS, open.deadline);
        vm.warp(open.deadline + PAYOUT_ANSWER_SECONDS - 1);
        vm.expectPartialRevert(ReceiptChallenge.StillOpen.selector);
        vm.prank(address(coy));
        desk.reclaim(id);
        vm.expectPartialRevert(ReceiptChallenge.NothingOwed.selector);
        desk.withdrawOwed(address(coy));
        vm.warp(block.timestamp + 1);
        vm.prank(address(coy));
        desk.reclaim(id);
        eq("kept for it", CHALLENGE_BOND, desk.owed(address(coy)));
        eq("not taken yet", CHALLENGE_BOND, address(desk).balance);
        desk.withdrawOwed(address(coy));
        eq("kept again", CHALLENGE_BOND, desk.owed(address(coy)));
        coy.accept();
        desk.withdrawOwed(address(coy));
        eq("taken", CHALLENGE_BOND, address(coy).balance);
        eq("nothing owed", 0, desk.owed(address(coy)));
    }

    function test_there_is_time_to_answer_and_an_escrow_to_ask() public {
        IStakes port = IStakes(address(stakes));
        ISettlement books = ISettlement(address(settlement));
        vm.expectRevert(ReceiptChallenge.ZeroAnswerTime.selector);
        new ReceiptChallenge(port, books, ISessions(address(escrow)), CHALLENGE_BOND, 0, PAYOUT_ANSWER_SECONDS);
        vm.expectRevert(ReceiptChallenge.ZeroAnswerTime.selector);
        new ReceiptChallenge(port, books, ISessions(address(escrow)), CHALLENGE_BOND, ANSWER_SECONDS, 0);
        vm.expectRevert(abi.encodeWithSelector(FaultBase.ZeroAddress.selector, "escrow"));
        new ReceiptChallenge(port, books, ISessions(address(0)), CHALLENGE_BOND, ANSWER_SECONDS, PAYOUT_ANSWER_SECONDS);
    }

    function test_36_answers_one_after_the_other_fit_the_w2_of_a_network() public {
        // An hour and more: the answers and the time of one more.
        deployed(37 * 98, 98, false);
        deployed(37 * 98 - 1, 98, true);
        deployed(3_600, 97, false);
        deployed(3_600, 98, true);
        // A chain for development asks fewer.
        deployed(3_599, 98, false);
    }

    function deployed(uint64 w2, uint64 answer, bool isRefused) private {
        IStakes port = IStakes(address(stakes));
        ITreasury treasury = ITreasury(address(treasuries));
        Settlement to =
            new Settlement(W1, w2, EPOCH_MIN, FALLBACK, POSTER_BOND, stakes, protocol, address(pool), address(vault), treasury);
        if (isRefused) vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.AnswersBeyondWindow.selector, 37 * answer, w2));
        new ReceiptChallenge(port, ISettlement(address(to)), ISessions(address(escrow)), CHALLENGE_BOND, ANSWER_SECONDS, answer);
    }

    function test_parts_that_are_withheld_cost_the_poster_its_stake() public {
        Tree memory tree = pending();
        vm.prank(ASKER);
        desk.challengePart{value: CHALLENGE_BOND}(leafAt(tree, 1), 0);
        vm.warp(block.timestamp + PAYOUT_ANSWER_SECONDS);
        desk.settlePart(1, 0);
        eq("taken back", 0, settlement.pendingPayout().epoch);
    }

    /// @dev A poster that leaves each question open as long as it may is asked as many as W2 has times for answers, less one: the tree of the example
    /// deployment can be searched to its last part.
    function test_a_poster_is_asked_as_often_as_w2_has_times_to_answer() public {
        Tree memory tree = pending();
        uint64 finalAt = uint64(block.timestamp) + W2;
        uint256 asked = 0;
        for (uint64 i = 0; block.timestamp + 2 * PAYOUT_ANSWER_SECONDS <= finalAt; ++i) {
            askLeaf(i);
            vm.warp(block.timestamp + PAYOUT_ANSWER_SECONDS - 1);
            uint256 last = tree.accounts.length - 1;
            desk.showLeaf(i, leafAt(tree, i < last ? i : last));
            vm.warp(block.timestamp + 1);
            ++asked;
        }
        eq("questions", W2 / PAYOUT_ANSWER_SECONDS - 1, asked);
        vm.prank(ASKER);
        vm.expectPartialRevert(ReceiptChallenge.TooLate.selector);
        desk.challengeLeaf{value: CHALLENGE_BOND}(99);
    }

    // ------------------------------------------------------------------ helpers

    function askLeaf(uint64 index) private {
        vm.prank(ASKER);
        desk.challengeLeaf{value: CHALLENGE_BOND}(index);
    }
}
