// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AuditRoll} from "../src/AuditRoll.sol";
import {AuditWorld} from "./AuditWorld.sol";

/// @notice A node that is a contract, and refuses its deposit until it is told to take it.
contract Stubborn {
    bool private takes;

    function take() external {
        takes = true;
    }

    function act(address to, uint256 value, bytes calldata data) external {
        (bool done,) = to.call{value: value}(data);
        require(done, "refused");
    }

    receive() external payable {
        require(takes, "not yet");
    }
}

contract AuditRollTest is AuditWorld {
    uint256 private constant DEPOSIT = 0.01 ether;

    function test_the_roll_of_an_epoch_is_what_it_was_when_the_epoch_opened() public {
        uint64 epoch = clock.currentEpoch();
        eq("not in this epoch", 0, audits.sizeAt(epoch));
        eq("from the next on", NODES, audits.sizeAt(epoch + 1));
        clock.next(1);
        vm.prank(nodeAt(2));
        audits.resign();
        enlist(NODES, 7);
        eq("still", NODES, audits.sizeAt(epoch + 1));
        eq("then", NODES, audits.sizeAt(epoch + 2));
        (address sitting,) = audits.seatAt(epoch + 1, 2);
        eq("its seat of now", nodeAt(2), sitting);
        (sitting,) = audits.seatAt(epoch + 2, 2);
        eq("who sat last has it then", nodeAt(NODES - 1), sitting);
        uint48 subnet;
        (sitting, subnet) = audits.seatAt(epoch + 2, NODES - 1);
        eq("the new one", nodeAt(NODES), sitting);
        eq("and its subnet", 7, subnet);
        (sitting,) = audits.seatAt(epoch + 2, NODES);
        eq("nobody", address(0), sitting);
        eq("place", 2, audits.placeOf(nodeAt(NODES - 1)));
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.NotEnlisted.selector, nodeAt(2)));
        audits.placeOf(nodeAt(2));
        eq("its deposit is back", 50 ether, nodeAt(2).balance);
    }

    function test_only_bonded_nodes_enlist_once_and_against_the_deposit() public {
        vm.prank(nodeAt(0));
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.AlreadyEnlisted.selector, nodeAt(0)));
        audits.enlist{value: DEPOSIT}(0);
        vm.deal(client, 1 ether);
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.NotBonded.selector, client));
        audits.enlist{value: DEPOSIT}(0);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.WrongDeposit.selector, DEPOSIT, 1));
        audits.enlist{value: 1}(0);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.NotEnlisted.selector, client));
        audits.resign();
        vm.stopPrank();
    }

    function test_who_is_no_longer_bonded_is_struck_off_and_its_deposit_pays_who_did_it() public {
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.StillBonded.selector, nodeAt(3)));
        audits.strike(nodeAt(3));
        vm.prank(nodeAt(3));
        stakes.unbond(45 ether);
        uint256 before = client.balance;
        vm.prank(client);
        audits.strike(nodeAt(3));
        eq("the deposit", before + DEPOSIT, client.balance);
        eq("one less", NODES - 1, audits.sizeAt(clock.currentEpoch() + 1));
        eq("held", (NODES - 1) * DEPOSIT, address(audits).balance);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.NotEnlisted.selector, nodeAt(3)));
        audits.strike(nodeAt(3));
        for (uint256 i = 0; i < NODES; ++i) {
            if (i == 3) continue;
            vm.prank(nodeAt(i));
            audits.resign();
        }
        eq("nobody is left", 0, audits.sizeAt(clock.currentEpoch() + 1));
        eq("nothing is left", 0, address(audits).balance);
    }

    function test_a_deposit_that_is_refused_waits() public {
        Stubborn node = new Stubborn();
        vm.deal(address(node), 100 ether);
        node.act(address(stakes), 20 ether, abi.encodeCall(stakes.stake, (keccak256("stubborn"), 1, client)));
        node.act(address(audits), DEPOSIT, abi.encodeCall(audits.enlist, (0)));
        node.act(address(audits), 0, abi.encodeCall(audits.resign, ()));
        eq("kept for it", DEPOSIT, audits.owed(address(node)));
        node.take();
        audits.withdrawOwed(payable(address(node)));
        eq("taken", 80 ether, address(node).balance);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.NothingOwed.selector, address(node)));
        audits.withdrawOwed(payable(address(node)));
    }

    function test_a_beacon_is_of_a_block_to_come_and_is_stored_once() public {
        uint64 epoch = clock.currentEpoch();
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.BeaconNotReady.selector, epoch, 0, block.number));
        audits.storeBeacon(epoch);
        uint64 announced = uint64(block.number) + audits.BEACON_BLOCKS();
        audits.announceBeacon();
        eq("to come", announced, audits.beaconBlockOf(epoch));
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.BeaconUnderWay.selector, epoch, announced));
        audits.announceBeacon();
        vm.roll(announced);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.BeaconNotReady.selector, epoch, announced, announced));
        audits.storeBeacon(epoch);
        // Nobody stored it in time: the chain has forgotten the hash.
        vm.roll(announced + 256);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.BeaconUnderWay.selector, epoch, announced));
        audits.announceBeacon();
        vm.roll(announced + 257);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.BeaconForgotten.selector, epoch, announced));
        audits.storeBeacon(epoch);
        audits.announceBeacon();
        announced = audits.beaconBlockOf(epoch);
        vm.roll(announced + 1);
        audits.storeBeacon(epoch);
        eq("of the block's hash", keccak256(abi.encodePacked("tributary/audit-beacon/v1", epoch, blockhash(announced))), audits.beaconOf(epoch));
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.BeaconUnderWay.selector, epoch, announced));
        audits.storeBeacon(epoch);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.BeaconUnderWay.selector, epoch, announced));
        audits.announceBeacon();
        // A later epoch's call can no longer announce this one's.
        clock.next(1);
        audits.announceBeacon();
        yes("its own", audits.beaconBlockOf(epoch + 1) != 0);
    }

    function test_a_small_roll_has_fewer_auditors() public {
        for (uint256 i = 2; i < NODES; ++i) {
            vm.prank(nodeAt(i));
            audits.resign();
        }
        uint64 epoch = nextEpoch();
        address[3] memory drawn = audits.auditorsOf(epoch, nodeAt(0), 0);
        eq("the other one", nodeAt(1), drawn[0]);
        eq("and nobody", address(0), drawn[1]);
        eq("and nobody", address(0), drawn[2]);
    }

    function testFuzz_auditors_are_three_others_on_the_roll_and_never_neighbours(uint8[12] calldata subnets, uint8 epochs) public {
        for (uint256 i = 0; i < 12; ++i) enlist(NODES + i, subnets[i] % 4);
        uint64 epoch = 0;
        for (uint256 i = 0; i <= epochs % 4; ++i) epoch = nextEpoch();
        for (uint256 i = 0; i < NODES + 12; ++i) {
            address[3] memory drawn = audits.auditorsOf(epoch, nodeAt(i), i);
            (, uint48 own) = audits.seatAt(epoch, i);
            for (uint256 k = 0; k < 3; ++k) {
                yes("three are found", drawn[k] != address(0));
                yes("not itself", drawn[k] != nodeAt(i));
                yes("not twice", drawn[k] != drawn[(k + 1) % 3]);
                (, uint48 net) = audits.seatAt(epoch, audits.placeOf(drawn[k]));
                yes("no neighbour", own == 0 || own != net);
            }
        }
    }

    /// @dev Of 8 nodes each audits any other as often: 3 in 7, here of 64 epochs 27.4 with a standard deviation of 4.
    function test_everybody_is_drawn_alike() public {
        uint256[NODES] memory times;
        for (uint256 i = 0; i < 64; ++i) {
            address[3] memory drawn = audits.auditorsOf(nextEpoch(), nodeAt(0), 0);
            for (uint256 k = 0; k < 3; ++k) ++times[audits.placeOf(drawn[k])];
        }
        eq("never itself", 0, times[0]);
        for (uint256 i = 1; i < NODES; ++i) yes("alike", times[i] >= 12 && times[i] <= 43);
    }
}
