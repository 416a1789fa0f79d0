// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CheckBoard, ICheckers, IWindows} from "../src/CheckBoard.sol";
import {Sig} from "../src/Sig.sol";
import {Trees} from "../src/Trees.sol";
import {L1BlockDev} from "../src/dev/L1BlockDev.sol";
import {Suite} from "./Suite.sol";

/// @notice When a beacon is announced and stored, and what of checkers counts when.
contract CheckBoardTest is Suite {
    CheckBoard private board;
    uint64 private epoch;
    uint64 private opened;

    function setUp() public override {
        super.setUp();
        board = new CheckBoard(ICheckers(address(stakes)), IWindows(address(settlement)));
        vm.etch(board.L1_BLOCK(), address(new L1BlockDev()).code);
        origin(100, keccak256("100"));
        epoch = settlement.submissionEpoch();
        bytes memory body = abi.encodePacked(node, epoch, Trees.sumRoot(0, 0, 0), uint64(0), uint128(0));
        settlement.submitNodeRoot(body, signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body));
        opened = uint64(block.timestamp);
    }

    // ------------------------------------------------------------------ the beacon

    function test_a_beacon_is_the_hash_of_an_l1_block_six_after_the_epoch_took_no_more_roots() public {
        after_(W1 / 3);
        yes("no more roots", !settlement.accepting());
        board.announceBeacon(epoch);
        eq("origin", 100, board.beaconOf(epoch).origin);
        origin(106, keccak256("106"));
        board.storeBeacon(epoch);
        bytes32 expected = keccak256(abi.encodePacked("tributary/check-beacon/v1", epoch, keccak256("106")));
        eq("beacon", expected, board.beaconOf(epoch).stored);
    }

    function test_no_beacon_is_announced_while_roots_are_accepted_nor_of_an_epoch_that_is_not_open() public {
        after_(W1 / 3 - 1);
        yes("roots", settlement.accepting());
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.TooEarly.selector, opened + W1 / 3, block.timestamp));
        board.announceBeacon(epoch);
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.UnknownEpoch.selector, epoch + 1));
        board.announceBeacon(epoch + 1);
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.UnknownEpoch.selector, 0));
        board.announceBeacon(0);
    }

    function test_a_beacon_is_announced_once_and_stored_once() public {
        stored();
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.AlreadyAnnounced.selector, epoch, 100));
        board.announceBeacon(epoch);
        bytes32 beacon = board.beaconOf(epoch).stored;
        origin(120, keccak256("120"));
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.AlreadyStored.selector, epoch, beacon));
        board.storeBeacon(epoch);
    }

    function test_a_block_that_may_have_been_known_gives_no_beacon() public {
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.NotAnnounced.selector, epoch));
        board.storeBeacon(epoch);
        after_(W1 / 3);
        board.announceBeacon(epoch);
        origin(105, keccak256("105"));
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.OriginTooEarly.selector, 106, 105));
        board.storeBeacon(epoch);
    }

    function test_a_chain_that_stands_on_no_l1_has_no_beacon() public {
        after_(W1 / 3);
        vm.etch(board.L1_BLOCK(), "");
        vm.expectRevert(CheckBoard.NoL1Block.selector);
        board.announceBeacon(epoch);
    }

    // ------------------------------------------------------------------ checks

    function test_a_checker_seals_its_checks_then_shows_them() public {
        stored();
        commit(node, "sealed", 3);
        after_(2 * W1 / 3);
        vm.prank(node);
        board.revealChecks(epoch, keccak256("shown"));
        CheckBoard.Checks memory own = board.checksOf(epoch, node);
        eq("sealed", keccak256("sealed"), own.committed);
        eq("shown", keccak256("shown"), own.revealed);
        eq("count", 3, own.count);
        eq("nobody else's", bytes32(0), board.checksOf(epoch, other).committed);
    }

    function test_checks_are_sealed_once_after_the_beacon_in_time_and_by_bonded_nodes() public {
        refusedCommit(node, keccak256("sealed"), 3, abi.encodeWithSelector(CheckBoard.NoBeacon.selector, epoch));
        stored();
        refusedCommit(node, 0, 3, abi.encodeWithSelector(CheckBoard.ZeroHash.selector, "root"));
        refusedCommit(node, keccak256("sealed"), 0, abi.encodeWithSelector(CheckBoard.NoChecks.selector));
        refusedCommit(client, keccak256("sealed"), 3, abi.encodeWithSelector(CheckBoard.NotBonded.selector, client));
        commit(node, "sealed", 3);
        refusedCommit(node, keccak256("other"), 3, abi.encodeWithSelector(CheckBoard.AlreadyCommitted.selector, epoch, node));
        after_(2 * W1 / 3);
        bytes memory late = abi.encodeWithSelector(CheckBoard.TooLate.selector, opened + 2 * W1 / 3, block.timestamp);
        refusedCommit(other, keccak256("sealed"), 3, late);
    }

    function test_what_was_sealed_is_shown_once_when_nobody_can_seal_any_more_and_within_w1() public {
        stored();
        refusedReveal(node, abi.encodeWithSelector(CheckBoard.NotCommitted.selector, epoch, node));
        commit(node, "sealed", 3);
        commit(other, "sealed", 1);
        refusedReveal(node, abi.encodeWithSelector(CheckBoard.TooEarly.selector, opened + 2 * W1 / 3, block.timestamp));
        after_(2 * W1 / 3);
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.ZeroHash.selector, "root"));
        board.revealChecks(epoch, 0);
        vm.prank(node);
        board.revealChecks(epoch, keccak256("shown"));
        refusedReveal(node, abi.encodeWithSelector(CheckBoard.AlreadyRevealed.selector, epoch, node));
        after_(W1);
        refusedReveal(other, abi.encodeWithSelector(CheckBoard.TooLate.selector, opened + W1, block.timestamp));
    }

    function testFuzz_no_moment_lets_a_checker_seal_what_it_could_have_seen(uint64 time) public {
        stored();
        commit(other, "sealed", 1);
        time = uint64(W1 / 3 + time % W1);
        after_(time);
        vm.prank(other);
        (bool isShown,) = address(board).call(abi.encodeCall(CheckBoard.revealChecks, (epoch, keccak256("shown"))));
        vm.prank(node);
        (bool isSealed,) = address(board).call(abi.encodeCall(CheckBoard.commitChecks, (epoch, keccak256("copied"), 1)));
        yes("not both", !(isShown && isSealed));
        yes("in time", isShown == (time >= 2 * W1 / 3 && time < W1));
        yes("sealed in time", isSealed == (time < 2 * W1 / 3));
    }

    function test_a_board_stands_over_stake_and_settlement() public {
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.ZeroAddress.selector, "stakeManager"));
        new CheckBoard(ICheckers(address(0)), IWindows(address(settlement)));
        vm.expectRevert(abi.encodeWithSelector(CheckBoard.ZeroAddress.selector, "settlement"));
        new CheckBoard(ICheckers(address(stakes)), IWindows(address(0)));
    }

    // ------------------------------------------------------------------ helpers

    function after_(uint64 time) private {
        vm.warp(opened + time);
    }

    function stored() private {
        after_(W1 / 3);
        board.announceBeacon(epoch);
        origin(106, keccak256("106"));
        board.storeBeacon(epoch);
    }

    function commit(address checker, string memory root, uint64 count) private {
        vm.prank(checker);
        board.commitChecks(epoch, keccak256(bytes(root)), count);
    }

    function refusedCommit(address checker, bytes32 root, uint64 count, bytes memory reason) private {
        vm.prank(checker);
        vm.expectRevert(reason);
        board.commitChecks(epoch, root, count);
    }

    function refusedReveal(address checker, bytes memory reason) private {
        vm.prank(checker);
        vm.expectRevert(reason);
        board.revealChecks(epoch, keccak256("shown"));
    }

    /// @dev The L1 block that this chain stands on.
    function origin(uint64 number, bytes32 hash) private {
        bytes memory fees = abi.encodePacked(uint32(1), uint32(1), uint64(0), uint64(block.timestamp), number, uint256(1), uint256(1));
        bytes memory call = abi.encodePacked(L1BlockDev.setL1BlockValuesIsthmus.selector, fees, hash, bytes32(0), uint32(0), uint64(0));
        address target = board.L1_BLOCK();
        vm.prank(L1BlockDev(target).DEPOSITOR_ACCOUNT());
        (bool done,) = target.call(call);
        yes("L1 block", done);
    }
}
