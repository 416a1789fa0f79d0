// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {AuditRent} from "../src/AuditRent.sol";
import {AuditRoll, IBonds, IClock} from "../src/AuditRoll.sol";
import {DatanetRent} from "../src/DatanetRent.sol";
import {Trees} from "../src/Trees.sol";
import {AuditWorld} from "./AuditWorld.sol";

/// @notice Refuses money, or spends all gas it is given.
contract Unpayable {
    receive() external payable {
        while (true) {}
    }
}

contract AuditRentTest is AuditWorld {
    address private unpayable = address(new Unpayable());

    /// @dev Two contributions of 1 and 3 GiB, paid 4 OPEN an epoch; an epoch with a beacon, and its end.
    function ready() private returns (uint64 epoch) {
        shelf.add(NET, object(NET, 0), GIB);
        shelf.add(NET, object(NET, 1), 3 * GIB);
        rent.prepay{value: 1_000 ether}(NET);
        epoch = nextEpoch();
        rent.accrue(NET);
        nextEpoch();
        rent.accrue(NET);
    }

    function test_a_node_that_passed_is_paid_its_part_of_the_epochs_rent() public {
        uint64 epoch = ready();
        // Period 0 is of the epoch before the first beacon.
        Held[] memory held = new Held[](3);
        held[0] = Held(NET, 0, 1, 2, 5, true);
        held[1] = Held(NET, 1, 1, 0, 5, true);
        held[2] = Held(NET, 1, 1, 47, 48, false);
        audits.claim(whole(0, epoch, held));
        eq("a fifth of 1 and of 3", 0.8 ether, payoutOf(0).balance);
        eq("left of the charge", 3.2 ether, rent.periodOf(NET, 1).charged - rent.periodOf(NET, 1).paid);
        (uint48 bits, uint8 total) = audits.paidOf(NET, 0, epoch);
        eq("marked", 4, bits);
        eq("of", 5, total);
        (bits,) = audits.paidOf(NET, 0, epoch + 1);
        eq("in no other epoch", 0, bits);
    }

    function test_a_fragment_is_paid_once_per_epoch_whoever_holds_it() public {
        uint64 epoch = ready();
        AuditRent.Audit[] memory claims = whole(0, epoch, fragmentsOf(0, 1, 2, 5));
        audits.claim(claims);
        vm.expectRevert(AuditRent.NothingDue.selector);
        audits.claim(claims);
        claims = whole(1, epoch, fragmentsOf(0, 1, 1, 5));
        vm.expectRevert(AuditRent.NothingDue.selector);
        audits.claim(claims);
        // The third is passed over by nobody: it was not paid.
        audits.claim(whole(1, epoch, fragmentsOf(0, 1, 3, 5)));
        eq("first", 0.4 ether, payoutOf(0).balance);
        eq("second, for the third", 0.2 ether, payoutOf(1).balance);
        nextEpoch();
        rent.accrue(NET);
        audits.claim(whole(0, epoch + 1, fragmentsOf(0, 2, 2, 5)));
        eq("the next epoch anew", 0.8 ether, payoutOf(0).balance);
        vm.expectRevert(AuditRent.NothingDue.selector);
        audits.claim(new AuditRent.Audit[](0));
    }

    function test_many_nodes_and_epochs_in_one_call() public {
        uint64 epoch = ready();
        nextEpoch();
        rent.accrue(NET);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](3);
        claims[0] = whole(0, epoch, fragmentsOf(1, 1, 1, 5))[0];
        claims[1] = whole(0, epoch + 1, fragmentsOf(1, 2, 1, 5))[0];
        Held[] memory held = new Held[](2);
        held[0] = Held(NET, 1, 1, 4, 5, true);
        held[1] = Held(NET, 0, 1, 4, 5, true);
        claims[2] = whole(3, epoch, held)[0];
        audits.claim(claims);
        eq("two epochs", 1.2 ether, payoutOf(0).balance);
        eq("two contributions", 0.8 ether, payoutOf(3).balance);
    }

    function test_who_is_ahead_with_a_part_makes_no_batch_fail() public {
        uint64 epoch = ready();
        Held[] memory held = fragmentsOf(0, 1, 8, 48);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](2);
        for (uint64 part = 0; part < 2; ++part) claims[part] = claimOf(0, epoch, held, part, 2);
        AuditRent.Audit[] memory ahead = new AuditRent.Audit[](1);
        ahead[0] = claims[0];
        audits.claim(ahead);
        audits.claim(claims);
        eq("all", 8 * (1 ether / uint256(48)), payoutOf(0).balance);
    }

    function test_holdings_are_claimed_part_by_part() public {
        uint64 epoch = ready();
        Held[] memory held = fragmentsOf(0, 1, 13, 48);
        held[5].pays = false;
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](4);
        for (uint64 part = 0; part < 4; ++part) claims[part] = claimOf(2, epoch, held, part, 2);
        audits.claim(claims);
        eq("twelve of 48", 12 * (1 ether / uint256(48)), payoutOf(2).balance);
        AuditRent.Audit[] memory single = new AuditRent.Audit[](1);
        held[5].pays = true;
        single[0] = claimOf(2, epoch, held, 5, 0);
        audits.claim(single);
        eq("the thirteenth alone", 13 * (1 ether / uint256(48)), payoutOf(2).balance);
        single[0] = claimOf(2, epoch, held, 3, 2);
        single[0].part = 4;
        vm.expectRevert(abi.encodeWithSelector(AuditRent.PartBeyondLeaves.selector, 4, 13));
        audits.claim(single);
        single[0] = claimOf(2, epoch, held, 0, 0);
        single[0].siblings = new bytes32[](5);
        vm.expectRevert(abi.encodeWithSelector(Trees.WrongDepth.selector, 4, 5));
        audits.claim(single);
        single[0].count = 513;
        single[0].siblings = new bytes32[](1);
        vm.expectRevert(abi.encodeWithSelector(AuditRent.TooManyLevels.selector, 8, 9));
        audits.claim(single);
        single[0].count = 14;
        single[0].siblings = new bytes32[](4);
        vm.expectPartialRevert(AuditRent.WrongHoldings.selector);
        audits.claim(single);
    }

    function test_a_payee_that_burns_its_gas_is_credited_and_blocks_nobody() public {
        uint64 epoch = ready();
        vm.prank(nodeAt(0));
        stakes.stake(keccak256("again"), 2, unpayable);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](2);
        claims[0] = whole(0, epoch, fragmentsOf(0, 1, 1, 5))[0];
        claims[1] = whole(1, epoch, fragmentsOf(1, 1, 1, 5))[0];
        audits.claim(claims);
        eq("kept for it", 0.2 ether, rent.owed(unpayable));
        eq("the other", 0.6 ether, payoutOf(1).balance);
    }

    // ------------------------------------------------------------------ verdicts

    function refused(AuditRent.Audit memory audit, bytes memory reason) private {
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](1);
        claims[0] = audit;
        vm.expectRevert(reason);
        audits.claim(claims);
    }

    function test_two_drawn_auditors_must_have_signed_the_same_walk_as_passed() public {
        uint64 epoch = ready();
        Held[] memory held = fragmentsOf(0, 1, 2, 5);
        bytes32 holdings = holdingsOf(held);
        address who = nodeAt(0);
        address[3] memory drawn = audits.auditorsOf(epoch, who, 0);
        AuditRent.Audit memory honest = whole(0, epoch, held)[0];

        AuditRent.Audit memory audit = whole(0, epoch, held)[0];
        audit.firstSignature = attest(drawn[1], audit.first);
        refused(audit, abi.encodeWithSelector(AuditRent.VerdictSignature.selector, drawn[0], drawn[1]));
        audit = whole(0, epoch, held)[0];
        audit.secondSignature = hex"00";
        refused(audit, abi.encodeWithSelector(AuditRent.VerdictSignature.selector, drawn[1], address(0)));
        (audit.second, audit.secondSignature) = (honest.first, honest.firstSignature);
        refused(audit, abi.encodeWithSelector(AuditRent.OneAuditor.selector, drawn[0]));
        for (uint8 code = 1; code < 6; ++code) {
            audit.first = verdict(drawn[0], who, epoch, holdings, code);
            audit.second = verdict(drawn[1], who, epoch, holdings, code);
            (audit.firstSignature, audit.secondSignature) = (attest(drawn[0], audit.first), attest(drawn[1], audit.second));
            refused(audit, abi.encodeWithSelector(AuditRent.NotPassed.selector, code));
        }
        audit.first = honest.first;
        refused(audit, abi.encodeWithSelector(AuditRent.VerdictsDiffer.selector));
        audit.second = verdict(drawn[1], who, epoch, keccak256("other"), 0);
        refused(audit, abi.encodeWithSelector(AuditRent.VerdictsDiffer.selector));
        audit.second = bytes.concat(honest.second, hex"00");
        refused(audit, abi.encodeWithSelector(AuditRent.VerdictLength.selector, 154, 155));
        audit.first = bytes.concat(honest.first, hex"00");
        refused(audit, abi.encodeWithSelector(AuditRent.VerdictLength.selector, 154, 155));
        // The third counts as much as the first two.
        audit = honest;
        audit.first = verdict(drawn[2], who, epoch, holdings, 0);
        audit.firstSignature = attest(drawn[2], audit.first);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](1);
        claims[0] = audit;
        audits.claim(claims);
        eq("paid", 0.4 ether, payoutOf(0).balance);
    }

    function test_nobody_who_was_not_drawn_counts_and_nobody_for_itself() public {
        uint64 epoch = ready();
        Held[] memory held = fragmentsOf(0, 1, 2, 5);
        bytes32 holdings = holdingsOf(held);
        address who = nodeAt(0);
        address[3] memory drawn = audits.auditorsOf(epoch, who, 0);
        uint256 others = 0;
        for (uint256 i = 0; i < NODES; ++i) {
            address auditor = nodeAt(i);
            if (auditor == drawn[0] || auditor == drawn[1] || auditor == drawn[2]) continue;
            ++others;
            AuditRent.Audit memory audit = whole(0, epoch, held)[0];
            audit.second = verdict(auditor, who, epoch, holdings, 0);
            audit.secondSignature = attest(auditor, audit.second);
            refused(audit, abi.encodeWithSelector(AuditRent.NotDrawn.selector, auditor));
            if (auditor == drawn[1]) continue;
            audit.first = audit.second;
            audit.firstSignature = audit.secondSignature;
            audit.second = verdict(drawn[1], who, epoch, holdings, 0);
            audit.secondSignature = attest(drawn[1], audit.second);
            refused(audit, abi.encodeWithSelector(AuditRent.NotDrawn.selector, auditor));
        }
        eq("the node itself among them", NODES - 3, others);
        // Zero fills the places of auditors that a small roll lacks.
        AuditRent.Audit memory nobody = whole(0, epoch, held)[0];
        nobody.second = verdict(address(0), who, epoch, holdings, 0);
        refused(nobody, abi.encodeWithSelector(AuditRent.NotDrawn.selector, address(0)));
    }

    function test_verdicts_count_for_their_node_epoch_chain_and_contract_alone() public {
        uint64 epoch = ready();
        nextEpoch();
        rent.accrue(NET);
        AuditRent.Audit memory audit = whole(0, epoch, fragmentsOf(0, 1, 2, 5))[0];
        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](1);
        claims[0] = audit;
        vm.expectPartialRevert(AuditRent.VerdictSignature.selector);
        audits.claim(claims);
        vm.chainId(chain);
        claims[0].place = 1;
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.NotOnRoll.selector, epoch, 1, nodeAt(0)));
        audits.claim(claims);
        claims[0].place = uint32(NODES);
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.NotOnRoll.selector, epoch, NODES, nodeAt(0)));
        audits.claim(claims);
        claims[0].place = 0;
        // The same rows by the charge of another epoch.
        claims[0].rows = whole(0, epoch, fragmentsOf(0, 2, 2, 5))[0].rows;
        vm.expectRevert(abi.encodeWithSelector(AuditRent.EpochNotCharged.selector, epoch, epoch + 1, epoch + 2));
        audits.claim(claims);
        // Words changed to another epoch: nobody signed that.
        for (uint256 i = 0; i < 2; ++i) claims[0].first[47] = claims[0].second[47] = bytes1(uint8(epoch + 1));
        vm.expectRevert();
        audits.claim(claims);
        // An epoch without a beacon has no auditors.
        for (uint256 i = 0; i < 2; ++i) claims[0].first[47] = claims[0].second[47] = bytes1(uint8(5));
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.NoBeacon.selector, 5));
        audits.claim(claims);
    }

    // ------------------------------------------------------------------ rows

    function test_rows_that_are_wrong_are_refused_by_name() public {
        uint64 epoch = ready();
        shelf.add(NET, object(NET, 2), GIB);
        Held[] memory held = fragmentsOf(0, 1, 2, 5);
        held[1] = Held(NET, 2, 1, 0, 5, true);
        refused(whole(0, epoch, held)[0], abi.encodeWithSelector(AuditRent.NotCharged.selector, 2, 2));
        held[1] = Held(NET, 1, 7, 0, 5, true);
        refused(whole(0, epoch, held)[0], abi.encodeWithSelector(DatanetRent.UnknownPeriod.selector, NET, 7));
        held[1] = Held(NET, 1, 0, 0, 5, true);
        refused(whole(0, epoch, held)[0], abi.encodeWithSelector(AuditRent.EpochNotCharged.selector, epoch, epoch - 1, epoch));
        held[1] = Held(NET, 1, 1, 5, 5, true);
        refused(whole(0, epoch, held)[0], abi.encodeWithSelector(AuditRent.FragmentBeyond.selector, 5, 5));
        held[1] = Held(NET, 1, 1, 5, 49, true);
        refused(whole(0, epoch, held)[0], abi.encodeWithSelector(AuditRent.FragmentBeyond.selector, 5, 49));
        held[1] = Held(NET, 0, 1, 5, 48, true);
        refused(whole(0, epoch, held)[0], abi.encodeWithSelector(AuditRent.OtherFragments.selector, 5, 48));
        held = fragmentsOf(0, 1, 2, 5);
        AuditRent.Audit memory audit = whole(0, epoch, held)[0];
        audit.rows = bytes.concat(audit.rows, hex"00");
        refused(audit, abi.encodeWithSelector(AuditRent.RowBytes.selector, 110, 111));
        audit.rows = rowOf(held[0]);
        refused(audit, abi.encodeWithSelector(AuditRent.RowBytes.selector, 56, 55));
        audit.rows = bytes.concat(rowOf(held[0]), hex"01aa");
        refused(audit, abi.encodeWithSelector(AuditRent.RowBytes.selector, 110, 57));
        audit.rows = bytes.concat(rowOf(held[0]), hex"02");
        refused(audit, abi.encodeWithSelector(AuditRent.UnknownRow.selector, 2));
        // Another contribution's object lies under other bytes.
        held[0].contribution = 1;
        audit.rows = bytes.concat(rowOf(held[0]), rowOf(held[1]));
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](1);
        claims[0] = audit;
        vm.expectPartialRevert(AuditRent.WrongHoldings.selector);
        audits.claim(claims);
        eq("nothing was paid", 0, rent.periodOf(NET, 1).paid);
    }

    function test_an_object_of_two_contributions_is_paid_by_each_out_of_its_own_datanet() public {
        shelf.add(2, object(NET, 0), GIB);
        rent.prepay{value: 100 ether}(2);
        uint64 epoch = ready();
        // The other Datanet was charged once, for both epochs.
        rent.accrue(2);
        Held[] memory held = fragmentsOf(0, 1, 1, 5);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](2);
        claims[0] = whole(0, epoch, held)[0];
        claims[1] = whole(0, epoch, held)[0];
        claims[1].rows = abi.encodePacked(uint8(1), uint64(2), uint32(0), uint32(0), uint8(0), uint8(5), uint32(4_096), fragmentRoot(held[0]));
        audits.claim(claims);
        eq("from both", 0.4 ether, payoutOf(0).balance);
        eq("the first", 0.2 ether, rent.periodOf(NET, 1).paid);
        eq("the second", 0.2 ether, rent.periodOf(2, 0).paid);
    }

    // ------------------------------------------------------------------ sums

    function testFuzz_shares_never_exceed_what_was_charged(
        uint40[3] calldata sizes,
        uint8[3] calldata totals,
        uint96 price,
        uint64 prepaid,
        uint8 epochs
    ) public {
        uint64 first = charged(sizes, price, prepaid, 1 + epochs % 3);
        if (first == 0) return;
        uint256 sum = 0;
        for (uint64 epoch = first; epoch < clock.currentEpoch(); ++epoch) {
            for (uint32 c = 0; c < 3; ++c) sum += claimAll(epoch, c, uint64(sizes[c]) + 1, 1 + totals[c] % 48);
        }
        DatanetRent.Period memory charge = rent.periodOf(NET, uint32(rent.periodCount(NET) - 1));
        uint256 paid = 0;
        for (uint256 i = 0; i < NODES; ++i) paid += payoutOf(i).balance;
        eq("what all fragments come to", sum, paid);
        yes("at most the charge", paid <= charge.charged);
        eq("books", paid, charge.paid);
        eq("held", uint256(prepaid) + 1 - paid, address(rent).balance);
    }

    /// @dev Three contributions, charged for `count` epochs with beacons by the last period: the first of them, or zero if nothing was charged.
    function charged(uint40[3] calldata sizes, uint96 price, uint64 prepaid, uint256 count) private returns (uint64 first) {
        for (uint32 c = 0; c < 3; ++c) shelf.add(NET, object(NET, c), uint64(sizes[c]) + 1);
        vm.startPrank(governor);
        rent.setPrice(1);
        rent.setPrice(price);
        vm.stopPrank();
        vm.warp(block.timestamp + RENT_DELAY);
        rent.prepay{value: uint256(prepaid) + 1}(NET);
        clock.next(1);
        rent.accrue(NET);
        first = clock.currentEpoch() + 1;
        for (uint256 e = 0; e < count; ++e) nextEpoch();
        clock.next(1);
        rent.accrue(NET);
        uint256 periods = rent.periodCount(NET);
        if (periods == 0 || rent.periodOf(NET, periods - 1).until != clock.currentEpoch()) return 0;
    }

    /// @dev All fragments of a contribution are claimed for an epoch by the last charge; what they come to.
    function claimAll(uint64 epoch, uint32 contribution, uint64 size, uint8 fragments) private returns (uint256) {
        uint32 period = uint32(rent.periodCount(NET) - 1);
        try audits.claim(whole(epoch % NODES, epoch, fragmentsOf(contribution, period, fragments, fragments))) {}
        catch (bytes memory reason) {
            eq("only where nothing is due", bytes32(AuditRent.NothingDue.selector), bytes32(bytes4(reason)));
        }
        return uint256(fragments) * audits.shareOf(rent.periodOf(NET, period), size, fragments);
    }

    /// @dev A change of any byte of a claim pays nobody else, and nothing more.
    function testFuzz_a_claim_of_which_a_byte_was_changed_pays_nothing(uint8 what, uint16 where, uint8 change) public {
        uint64 epoch = ready();
        AuditRent.Audit[] memory claims = whole(0, epoch, fragmentsOf(0, 1, 3, 5));
        bytes[5] memory parts =
            [claims[0].first, claims[0].firstSignature, claims[0].second, claims[0].secondSignature, claims[0].rows];
        bytes memory part = parts[what % 5];
        part[where % part.length] ^= bytes1(change == 0 ? 1 : change);
        vm.expectRevert();
        audits.claim(claims);
        eq("nothing was paid", 0, rent.periodOf(NET, 1).paid);
    }

    function test_nothing_is_deployed_without_what_it_asks() public {
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.ZeroAddress.selector, "stakeManager"));
        new AuditRent(IBonds(address(0)), IClock(address(clock)), rent, AssetRegistry(address(shelf)));
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.ZeroAddress.selector, "settlement"));
        new AuditRent(IBonds(address(stakes)), IClock(address(0)), rent, AssetRegistry(address(shelf)));
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.ZeroAddress.selector, "rent"));
        new AuditRent(IBonds(address(stakes)), IClock(address(clock)), DatanetRent(address(0)), AssetRegistry(address(shelf)));
        vm.expectRevert(abi.encodeWithSelector(AuditRoll.ZeroAddress.selector, "registry"));
        new AuditRent(IBonds(address(stakes)), IClock(address(clock)), rent, AssetRegistry(address(0)));
    }

    // ------------------------------------------------------------------ gas

    /// @dev 64 fragments of 64 contributions, of two Datanets, and one alone, of 65 holdings.
    function test_gas_of_claims() public {
        for (uint32 c = 0; c < 64; ++c) shelf.add(1 + c / 32, object(1 + c / 32, c % 32), GIB / 16);
        rent.prepay{value: 1_000 ether}(1);
        rent.prepay{value: 1_000 ether}(2);
        clock.next(1);
        rent.accrue(1);
        rent.accrue(2);
        uint64 epoch = nextEpoch();
        // Of four epochs that share a word, the first two.
        while (epoch % 4 != 0) {
            rent.accrue(1);
            rent.accrue(2);
            epoch = nextEpoch();
        }
        nextEpoch();
        clock.next(1);
        uint32 before = uint32(rent.periodCount(1));
        rent.accrue(1);
        rent.accrue(2);
        Held[] memory held = new Held[](65);
        for (uint8 c = 0; c < 64; ++c) held[c] = Held(1 + c / 32, c % 32, before, c % 48, 48, true);
        held[64] = Held(1, 0, before, 47, 48, true);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](1);
        claims[0] = claimOf(0, epoch, held, 64, 0);
        audits.claim(claims);
        yes("one", vm.snapshotGasLastCall("gas", "claim rent of 1 fragment") <= 320_000);
        claims[0] = claimOf(0, epoch, held, 0, 6);
        audits.claim(claims);
        yes("64", vm.snapshotGasLastCall("gas", "claim rent of 64 fragments, first") <= 64 * 56_000);
        claims[0] = claimOf(0, epoch + 1, held, 0, 6);
        audits.claim(claims);
        yes("64 more", vm.snapshotGasLastCall("gas", "claim rent of 64 fragments, next epoch") <= 64 * 40_000);
    }
}
