// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {L1BlockDev} from "../src/dev/L1BlockDev.sol";
import {Suite} from "./Suite.sol";

contract L1BlockDevTest is Suite {
    L1BlockDev private l1 = new L1BlockDev();

    function packed() private pure returns (bytes memory) {
        return abi.encodePacked(
            bytes4(0x098999be),
            uint32(0x11111111),
            uint32(0x22222222),
            uint64(0x3333333333333333),
            uint64(0x4444444444444444),
            uint64(0x5555555555555555),
            uint256(6),
            uint256(7),
            bytes32(uint256(8)),
            bytes32(uint256(9)),
            uint32(0xaaaaaaaa),
            uint64(0xbbbbbbbbbbbbbbbb)
        );
    }

    function test_the_selector_is_the_specifications() public pure {
        eq("selector", bytes32(bytes4(0x098999be)), bytes32(L1BlockDev.setL1BlockValuesIsthmus.selector));
    }

    function test_packed_attributes_land_in_the_slots_that_clients_read() public {
        vm.prank(l1.DEPOSITOR_ACCOUNT());
        (bool done,) = address(l1).call(packed());
        yes("accepted", done);
        eq("number", 0x5555555555555555, l1.number());
        eq("timestamp", 0x4444444444444444, l1.timestamp());
        eq("basefee", 6, l1.basefee());
        eq("hash", bytes32(uint256(8)), l1.hash());
        eq("sequence number", 0x3333333333333333, l1.sequenceNumber());
        eq("blob base fee", 7, l1.blobBaseFee());
        eq("slot 0", uint256(0x4444444444444444) << 64 | 0x5555555555555555, uint256(vm.load(address(l1), 0)));
        eq("slot 1", 6, uint256(vm.load(address(l1), bytes32(uint256(1)))));
        eq("slot 2", 8, uint256(vm.load(address(l1), bytes32(uint256(2)))));
        eq(
            "slot 3",
            uint256(0x11111111) << 96 | uint256(0x22222222) << 64 | 0x3333333333333333,
            uint256(vm.load(address(l1), bytes32(uint256(3))))
        );
        eq("slot 4", 9, uint256(vm.load(address(l1), bytes32(uint256(4)))));
        eq("slot 7", 7, uint256(vm.load(address(l1), bytes32(uint256(7)))));
        eq(
            "slot 8",
            uint256(0xaaaaaaaa) << 64 | 0xbbbbbbbbbbbbbbbb,
            uint256(vm.load(address(l1), bytes32(uint256(8))))
        );
    }

    function test_others_and_other_lengths_are_refused() public {
        vm.expectRevert(abi.encodeWithSelector(L1BlockDev.NotDepositor.selector, l1.DEPOSITOR_ACCOUNT(), address(this)));
        l1.setL1BlockValuesIsthmus();
        vm.prank(l1.DEPOSITOR_ACCOUNT());
        vm.expectRevert(abi.encodeWithSelector(L1BlockDev.WrongCalldata.selector, 176, 4));
        l1.setL1BlockValuesIsthmus();
    }
}
