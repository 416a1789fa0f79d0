// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FraudVerifier} from "../src/FraudVerifier.sol";
import {Ledger} from "./Ledger.sol";

/// @notice What is called here of a contract compiled for size: importing it would compile everything here so.
interface IPayouts {
    error PayoutHolds(uint8 mode);

    function provePayout(uint8 mode, bytes calldata evidence) external;
}

/// @notice A lane's money is one line of wei, and no wei of it is charged twice (F3): parts never exceed what their lane collected.
contract ConservationTest is Ledger {
    uint256 private constant SEED = (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;
    uint256 private constant ANSWERS = 5;
    /// @dev Mode of PayoutVerifier: a receipt's part is missing.
    uint8 private constant MISSING = 9;
    Root[] private noRoots;

    function test_one_wei_charged_twice_voids_both_receipts() public {
        (Answer memory a, Answer memory b) = two();
        b.receipt.cumulativeAfter = a.receipt.cumulativeAfter + b.receipt.fee - 1;
        proven(address(verifier), pair(a, b));
        yes("first", settlement.isVoid(keccak256(receiptBody(a))));
        yes("second", settlement.isVoid(keccak256(receiptBody(b))));
        eq("stake", 90 ether, stakes.stakeOf(node));
        yes("for the dearer one", stakes.slashOf(keccak256(receiptBody(b))) != 0);
        yes("only", stakes.slashOf(keccak256(receiptBody(a))) == 0);
    }

    function test_ten_receipts_for_the_same_wei_are_all_void() public {
        Answer[] memory answers = new Answer[](10);
        for (uint64 i = 0; i < 10; ++i) {
            answers[i] = honest(NODE_KEY, i, SEED);
            answers[i].receipt.lane = keccak256(laneBody(answers[0]));
        }
        for (uint256 i = 0; i < 9; ++i) proven(address(verifier), pair(answers[i], answers[i + 1]));
        for (uint256 i = 0; i < 10; ++i) yes("void", settlement.isVoid(keccak256(receiptBody(answers[i]))));
        eq("the fifth has cost all", 0, stakes.slashableOf(node));
    }

    function testFuzz_stretches_are_refuted_exactly_where_they_share_a_wei(uint64 endA, uint64 feeA, uint64 endB, uint64 feeB) public {
        (Answer memory a, Answer memory b) = two();
        (a.receipt.cumulativeAfter, a.receipt.fee) = (endA % 4_096, feeA % 2_048);
        (b.receipt.cumulativeAfter, b.receipt.fee) = (endB % 4_096, feeB % 2_048);
        int256 from = max(int128(a.receipt.cumulativeAfter) - int128(a.receipt.fee), int128(b.receipt.cumulativeAfter) - int128(b.receipt.fee));
        bool shared = from < int128(a.receipt.cumulativeAfter) && from < int128(b.receipt.cumulativeAfter);
        if (shared) proven(address(verifier), pair(a, b));
        else refused(address(verifier), pair(a, b), FraudVerifier.NoContradiction.selector);
        (a.receipt.cumulativeAfter, a.receipt.fee) = (type(uint128).max, type(uint128).max);
        (b.receipt.cumulativeAfter, b.receipt.fee) = (type(uint128).max, 1);
        proven(address(verifier), pair(b, a));
    }

    function test_neighbours_free_answers_failures_other_lanes_and_other_nodes_share_nothing() public {
        (Answer memory a, Answer memory b) = two();
        b.receipt.cumulativeAfter = a.receipt.cumulativeAfter + b.receipt.fee;
        innocent(a, b);
        (a, b) = two();
        (a.receipt.fee, a.receipt.reason) = (0, 17);
        innocent(a, b);
        a.receipt.reason = 0;
        innocent(a, b);
        (a, b) = two();
        a.receipt.reason = 16;
        innocent(a, b);
        (a, b) = two();
        a.receipt.lane = keccak256("another lane");
        innocent(a, b);
        (a, b) = two();
        b = honest(OTHER_KEY, 2, SEED);
        b.receipt.lane = a.receipt.lane;
        innocent(a, b);
        innocent(a, a);
        eq("stake", 100 ether, stakes.stakeOf(node));
    }

    /// @notice Whatever receipts a node and its client sign on a lane: once every pair that shares a wei is reported, the parts that are left
    /// sum to what the lane collected at most, and the payout contract finds none missing.
    function testFuzz_parts_never_exceed_what_their_lane_collected(uint256 seed, uint96 reach) public {
        (Answer[] memory answers, uint128 sum) = lined(seed);
        uint128 collected = 1 + uint128(reach % (2 * uint256(sum)));
        collectUpTo(answers[0], collected);
        Root memory root = submit(NODE_KEY, answers);
        for (uint256 i = 0; i < ANSWERS; ++i) {
            for (uint256 j = i + 1; j < ANSWERS; ++j) prove(address(verifier), pair(answers[i], answers[j]));
        }
        (Share[] memory shares, uint256 parts) = due(answers, collected);
        yes("parts are covered by what was collected", parts <= collected);
        vm.warp(block.timestamp + W1);
        if (shares.length == 0) return;
        Tree memory last;
        post(build(last, noRoots, shares));
        for (uint256 i = 0; i < ANSWERS; ++i) {
            if (isDue(answers[i], collected)) continue;
            bytes memory evidence = abi.encodePacked(root.shown, uint64(i), uint32(1), opened(root, i));
            refused(payouts, abi.encodeCall(IPayouts.provePayout, (MISSING, evidence)), IPayouts.PayoutHolds.selector);
        }
    }

    // ------------------------------------------------------------------ helpers

    /// @dev Answers on one lane. Half of them follow the one before, as an honest node's do; the others stand anywhere.
    function lined(uint256 seed) private view returns (Answer[] memory answers, uint128 sum) {
        answers = new Answer[](ANSWERS);
        for (uint64 i = 0; i < ANSWERS; ++i) {
            answers[i] = honest(NODE_KEY, i, uint256(keccak256(abi.encode(seed, i))) >> 1);
            answers[i].receipt.lane = keccak256(laneBody(answers[0]));
            sum += answers[i].receipt.fee;
        }
        uint128 end = 0;
        for (uint256 i = 0; i < ANSWERS; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, "place", i)));
            if (random & 1 == 0) end = uint128((random >> 1) % sum);
            end += answers[i].receipt.fee;
            answers[i].receipt.cumulativeAfter = end;
        }
    }

    /// @dev Two answers to two requests, charged on one lane.
    function two() private view returns (Answer memory a, Answer memory b) {
        a = honest(NODE_KEY, 1, SEED);
        b = honest(NODE_KEY, 2, SEED + (1 << 8));
        b.receipt.lane = a.receipt.lane;
    }

    function innocent(Answer memory a, Answer memory b) private {
        refused(address(verifier), pair(a, b), FraudVerifier.NoContradiction.selector);
        refused(address(verifier), pair(b, a), FraudVerifier.NoContradiction.selector);
    }

    function isDue(Answer memory a, uint128 collected) private view returns (bool) {
        return a.receipt.cumulativeAfter <= collected && !settlement.isVoid(keccak256(receiptBody(a)));
    }

    function due(Answer[] memory answers, uint128 collected) private view returns (Share[] memory all, uint256 sum) {
        all = new Share[](32 * answers.length);
        uint256 n = 0;
        for (uint256 i = 0; i < answers.length; ++i) {
            if (!isDue(answers[i], collected)) continue;
            Share[] memory shares = sharesOf(answers[i], uint64(i));
            for (uint256 j = 0; j < shares.length; ++j) {
                all[n++] = shares[j];
                sum += shares[j].amount;
            }
        }
        assembly ("memory-safe") {
            mstore(all, n)
        }
    }

    function pair(Answer memory a, Answer memory b) private view returns (bytes memory) {
        return abi.encodeCall(FraudVerifier.proveEquivocation, (receiptBody(a), receiptSig(a), receiptBody(b), receiptSig(b)));
    }

    function max(int256 a, int256 b) private pure returns (int256) {
        return a > b ? a : b;
    }
}
