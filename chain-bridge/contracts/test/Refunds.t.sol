// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BillingVerifier} from "../src/BillingVerifier.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {ReceiptRules} from "../src/ReceiptRules.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Transcript} from "./Transcript.sol";

/// @notice What a slash gives back to its victim: what the victim was charged, and no stake under another name.
contract RefundsTest is Transcript {
    uint256 private constant SEED = (1 << 24) | (100 << 16) | (5 << 8) | 7;

    function testFuzz_an_honest_victim_is_repaid_in_full(uint256 seed, bool early) public {
        Answer memory a = overcharged(1, seed >> 1);
        if (!early) collect(a);
        StakeManager.Slash memory slash = convicted(a);
        // A client that is charged after the proof is repaid as well.
        if (early) collect(a);
        uint256 before = client.balance;
        release(slash, laneBody(a));
        eq("repaid", before + a.receipt.fee, client.balance);
        eq("counted", a.receipt.fee, escrow.refundedOf(a.receipt.lane));
    }

    function test_every_receipt_of_a_lane_is_repaid_and_no_more_than_the_lane_collected() public {
        Answer[3] memory answers;
        StakeManager.Slash[3] memory slashes;
        for (uint64 i = 0; i < 3; ++i) {
            answers[i] = overcharged(i, SEED);
            answers[i].receipt.lane = keccak256(laneBody(answers[0]));
        }
        uint128 fee = answers[0].receipt.fee;
        collectUpTo(answers[0], 2 * fee + 5);
        for (uint256 i = 0; i < 3; ++i) slashes[i] = convicted(answers[i]);
        uint256 before = client.balance;
        release(slashes[0], laneBody(answers[0]));
        release(slashes[1], laneBody(answers[0]));
        eq("two in full", before + 2 * fee, client.balance);
        release(slashes[2], laneBody(answers[0]));
        eq("five wei are left for the third", before + 2 * fee + 5, client.balance);
        eq("counted", 2 * fee + 5, escrow.refundedOf(answers[0].receipt.lane));
    }

    function test_a_node_that_faults_its_own_unpaid_receipt_gets_the_reporters_half_and_nothing_else() public {
        Answer memory a = overcharged(1, SEED);
        a.receipt.client = author;
        a.receipt.fee = 40 ether;
        a.receipt.cumulativeAfter = 40 ether;
        StakeManager.Slash memory slash = convicted(a);
        eq("twice the fee", 80 ether, slash.amount);
        uint256 before = author.balance;
        release(slash, "");
        eq("the friend", before, author.balance);
        eq("the reporter", 36 ether, REPORTER.balance);
        eq("burned and insured", 44 ether, stakes.BURN().balance + address(pool).balance);
    }

    function test_a_lane_of_somebody_else_repays_neither_a_friend_nor_another_node() public {
        Answer memory honestOne = overcharged(1, SEED);
        collect(honestOne);
        bytes memory lane = laneBody(honestOne);
        Answer memory a = overcharged(2, SEED);
        a.receipt.lane = keccak256(lane);
        a.receipt.client = author;
        uint256 before = author.balance;
        release(convicted(a), lane);
        eq("a friend that did not pay", before, author.balance);
        // Another node's receipt that names the lane.
        Answer memory b = overcharged(3, SEED);
        (b.key, b.receipt.node) = (OTHER_KEY, other);
        b.receipt.lane = keccak256(lane);
        before = client.balance;
        release(convicted(b), lane);
        eq("not charged by that node", before, client.balance);
        eq("the lane's own refund is untouched", 0, escrow.refundedOf(keccak256(lane)));
        release(convicted(honestOne), lane);
        eq("and paid in full", before + honestOne.receipt.fee, client.balance);
    }

    function test_a_slash_waits_for_the_lane_that_was_collected() public {
        Answer memory a = overcharged(1, SEED);
        collect(a);
        StakeManager.Slash memory slash = convicted(a);
        vm.warp(slash.releaseAt);
        bytes memory wrong = laneBody(overcharged(2, SEED));
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.LaneBody.selector, a.receipt.lane, keccak256("")));
        stakes.release(slash, "");
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.LaneBody.selector, a.receipt.lane, keccak256(wrong)));
        stakes.release(slash, wrong);
        bytes32 lane = slash.lane;
        slash.lane = 0;
        vm.expectPartialRevert(StakeManager.UnknownSlash.selector);
        stakes.release(slash, "");
        slash.lane = lane;
        stakes.release(slash, laneBody(a));
        eq("once", a.receipt.fee, escrow.refundedOf(lane));
        vm.expectPartialRevert(StakeManager.UnknownSlash.selector);
        stakes.release(slash, laneBody(a));
    }

    function test_credit_notes_and_slashes_share_what_a_lane_collected() public {
        Answer memory a = overcharged(1, SEED);
        uint128 fee = a.receipt.fee;
        collectUpTo(a, 2 * fee);
        claimCredit(a, 2 * fee, fee + 3, "");
        StakeManager.Slash memory slash = convicted(a);
        uint256 before = client.balance;
        release(slash, laneBody(a));
        eq("what the note left", before + fee - 3, client.balance);
        collectUpTo(a, 2 * fee + 10);
        bytes memory reason = abi.encodeWithSelector(InferenceEscrow.CreditAboveCollected.selector, 2 * fee + 10, 2 * fee + 11);
        Answer memory later = overcharged(2, SEED);
        later.receipt.lane = a.receipt.lane;
        later.request.nonce = a.request.nonce;
        claimCredit(later, 2 * fee + 10, 11, reason);
        claimCredit(later, 2 * fee + 10, 10, "");
        eq("all of it", 2 * fee + 10, escrow.creditedOf(a.receipt.lane) + escrow.refundedOf(a.receipt.lane));
    }

    function test_only_stake_counts_refunds() public {
        Answer memory a = overcharged(1, SEED);
        collect(a);
        bytes memory lane = laneBody(a);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.OnlyStakeManager.selector, address(stakes), address(this)));
        escrow.countRefund(keccak256(lane), 1);
        uint128 charged = escrow.chargedOf(keccak256(lane), lane, node, client);
        eq("charged", a.receipt.cumulativeAfter, charged);
        vm.startPrank(address(stakes));
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.CreditAboveCollected.selector, charged, charged + 1));
        escrow.countRefund(keccak256(lane), charged + 1);
        escrow.countRefund(keccak256(lane), charged);
        vm.stopPrank();
        eq("no more", 0, escrow.chargedOf(keccak256(lane), lane, node, client));
    }

    function test_only_what_a_slash_reached_counts_as_given_back() public {
        vm.prank(node);
        stakes.unbond(90 ether);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(node);
        stakes.withdraw();
        Answer memory a = overcharged(1, SEED);
        (a.receipt.fee, a.receipt.cumulativeAfter) = (9.9 ether, 9.9 ether);
        collectUpTo(a, 9.9 ether);
        StakeManager.Slash memory slash = convicted(a);
        eq("all it had", 10 ether, slash.amount);
        uint256 before = client.balance;
        release(slash, laneBody(a));
        eq("nine tenths of it", before + 9 ether, client.balance);
        eq("counted", 9 ether, escrow.refundedOf(a.receipt.lane));
        eq("left for the refund", 0.9 ether, escrow.chargedOf(a.receipt.lane, laneBody(a), node, client));
    }

    // ------------------------------------------------------------------ helpers

    /// @dev An answer whose fee is a wei above its quote.
    function overcharged(uint64 nonce, uint256 seed) private view returns (Answer memory a) {
        a = honest(NODE_KEY, nonce, seed);
        a.receipt.fee += 1;
    }

    function convicted(Answer memory a) private returns (StakeManager.Slash memory slash) {
        uint128 before = stakes.slashableOf(a.receipt.node);
        ReceiptRules.Rule rule = ReceiptRules.Rule.Fee;
        proven(address(billing), abi.encodeCall(BillingVerifier.proveBroken, (rule, receiptBody(a), receiptSig(a), quoteBody(a), "")));
        slash.faultHash = keccak256(receiptBody(a));
        slash.account = a.receipt.node;
        slash.amount = before - stakes.slashableOf(a.receipt.node);
        slash.victim = a.receipt.client;
        slash.victimAmount = a.receipt.fee;
        slash.lane = a.receipt.lane;
        slash.reporter = REPORTER;
        slash.releaseAt = uint64(block.timestamp) + SLASH_DELAY;
    }

    function release(StakeManager.Slash memory slash, bytes memory lane) private {
        if (block.timestamp < slash.releaseAt) vm.warp(slash.releaseAt);
        stakes.release(slash, lane);
    }

    function claimCredit(Answer memory a, uint128 cumulative, uint128 amount, bytes memory reason) private {
        bytes memory lane = laneBody(a);
        bytes memory note = abi.encodePacked(a.receipt.lane, a.receipt.requestId, cumulative, amount, uint64(3_000));
        bytes memory signature = signed(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        vm.prank(client);
        if (reason.length != 0) vm.expectRevert(reason);
        escrow.claimCredit(lane, note, signature);
    }
}
