// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AuditRent} from "../src/AuditRent.sol";
import {IBonds, IClock} from "../src/AuditRoll.sol";
import {DatanetRent, IDatanets, IEpochs} from "../src/DatanetRent.sol";
import {Sig} from "../src/Sig.sol";
import {Trees} from "../src/Trees.sol";
import {AuditWorld, Clock} from "./AuditWorld.sol";

/// @notice Rent on the contracts as they are deployed together: the registry's contributions, Settlement's epochs, StakeManager's bonds.
contract AuditSuiteTest is AuditWorld {
    function setUp() public override {
        super.setUp();
        // Helpers sign for, and count the epochs of, the real one.
        clock = Clock(address(settlement));
        rent = new DatanetRent(IDatanets(address(registry)), IEpochs(address(settlement)), governor, RENT_DELAY, RENT_PRICE);
        audits = new AuditRent(IBonds(address(stakes)), IClock(address(settlement)), rent, registry);
        rent.setAuditor(address(audits));
        for (uint256 i = 0; i < NODES; ++i) {
            vm.prank(nodeAt(i));
            audits.enlist{value: 0.01 ether}(0);
        }
        vm.prank(author);
        eq("the Datanet", NET, registry.register(3, "net"));
    }

    /// @dev Contributed by the Datanet's owner, who reviews it too.
    function contribute(uint32 number, uint64 textBytes) private {
        bytes32 root = textRootOf(textBytes, keccak256(abi.encode("top", number)));
        bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", bytes32("salt"), root, author));
        vm.prank(author);
        registry.commit(commitment);
        bytes memory body =
            abi.encodePacked(NET, author, root, textBytes, uint32(1), bytes32("salt"), keccak256("licence"), object(NET, number));
        bytes memory report = abi.encodePacked(NET, root, commitment, keccak256("report"), object(NET, number), uint8(1));
        registry.accept(
            body,
            signed(AUTHOR_KEY, address(registry), Sig.CONTRIBUTION, body),
            report,
            signed(AUTHOR_KEY, address(registry), Sig.GATE_REPORT, report),
            keccak256(abi.encode("top", number))
        );
    }

    /// @dev A root of no receipts opens the next epoch.
    function open() private returns (uint64 epoch) {
        vm.warp(block.timestamp + W1);
        epoch = settlement.submissionEpoch();
        bytes memory body = abi.encodePacked(node, epoch, Trees.sumRoot(0, 0, 0), uint64(0), uint128(0));
        settlement.submitNodeRoot(body, signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body));
        audits.announceBeacon();
        vm.roll(block.number + audits.BEACON_BLOCKS() + 1);
        audits.storeBeacon(epoch);
        rent.accrue(NET);
    }

    function test_the_suite_pays_what_the_registry_and_settlement_say() public {
        contribute(0, GIB);
        contribute(1, 3 * GIB);
        open();
        rent.prepay{value: 100 ether}(NET);
        uint64 epoch = open();
        contribute(2, 4 * GIB);
        open();
        uint32 charge = uint32(rent.periodCount(NET) - 1);
        DatanetRent.Period memory period = rent.periodOf(NET, charge);
        eq("the epoch's charge", epoch, period.from);
        eq("four GiB", 4 ether, period.charged);
        eq("of what was there", 2, period.contributions);
        Held[] memory held = new Held[](3);
        held[0] = Held(NET, 0, charge, 7, 12, true);
        held[1] = Held(NET, 1, charge, 7, 48, true);
        held[2] = Held(NET, 2, charge, 7, 48, false);
        audits.claim(whole(4, epoch, held));
        eq("a twelfth of 1 and a 48th of 3", uint256(1 ether) / 12 + uint256(3 ether) / 48, payoutOf(4).balance);
        held[2].pays = true;
        AuditRent.Audit[] memory claims = whole(4, epoch, held);
        vm.expectRevert(abi.encodeWithSelector(AuditRent.NotCharged.selector, 2, 2));
        audits.claim(claims);
    }
}
