// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {AuditCase, ICaseStakes} from "../src/AuditCase.sol";
import {Erasures} from "../src/Erasures.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {CaseWorld} from "./CaseWorld.sol";
import {Vm} from "./Vm.sol";

/// @notice Refuses money until it is told to take it; what it is paid for, it asks to be paid again.
contract Refuser {
    AuditCase private immutable cases;
    bool public takes;

    constructor(AuditCase cases_) {
        cases = cases_;
    }

    function open(AuditCase.Question calldata question) external {
        cases.open{value: cases.bond()}(question);
    }

    function take() external {
        takes = true;
    }

    receive() external payable {
        require(takes, "refused");
        try cases.withdrawOwed(payable(address(this))) {} catch {}
    }
}

contract AuditCaseTest is CaseWorld {
    event CaseOpened(
        bytes32 indexed id,
        address indexed node,
        address indexed opener,
        bytes32 object,
        bytes32 root,
        uint8 fragment,
        uint8 fragments,
        uint32 size,
        uint32 part,
        uint64 datanet,
        uint32 contribution,
        uint64 signedAt,
        uint64 deadline
    );

    function stakeOf(address who) private view returns (uint256) {
        return stakes.stakeOf(who);
    }

    // ------------------------------------------------------------------ answered

    function test_a_node_that_shows_the_bytes_ends_the_case_and_loses_nothing() public {
        Signed memory said = says(NODE_KEY, 5);
        vm.recordLogs();
        bytes32 id = open(said, 3, 17);
        vm.snapshotGasLastCall("gas", "slash case, open");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq("one event", 1, logs.length);
        eq("event", CaseOpened.selector, logs[0].topics[0]);
        eq("id", id, logs[0].topics[1]);
        eq("of", uint160(node), uint256(logs[0].topics[2]));
        eq("by", uint160(ASKER), uint256(logs[0].topics[3]));
        bytes memory expected = abi.encode(
            object(3), rootOf(3), uint8(3), uint8(48), sizeOf(3), uint32(17), NET, uint32(3), said.signedAt, uint64(block.timestamp) + CASE_ANSWER
        );
        eq("data", keccak256(expected), keccak256(logs[0].data));
        eq("named by what is asked", id, cases.idOf(askedOf(NODE_KEY, 3, 17)));
        answer(node, NODE_KEY, 3, 17);
        vm.snapshotGasLastCall("gas", "slash case, answer");
        AuditCase.Case memory kept = cases.caseOf(id);
        eq("ended", block.number, kept.endedAt);
        eq("opener", ASKER, kept.opener);
        eq("gas is free here: all is the opener's again", CASE_BOND, cases.owed(ASKER));
        cases.withdrawOwed(payable(ASKER));
        eq("back", 1_000 ether, ASKER.balance);
        eq("nothing kept", 0, address(cases).balance);
        eq("stake", 100 ether, stakeOf(node));
        // Answered is answered.
        vm.warp(block.timestamp + CASE_ANSWER);
        AuditCase.Asked memory asked = askedOf(NODE_KEY, 3, 17);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.NoCase.selector, id));
        cases.close(asked);
    }

    function test_every_leaf_of_fragments_of_all_sizes_can_be_asked_for_and_shown() public {
        for (uint256 number = 0; number < OBJECTS; ++number) {
            for (uint32 part = 0; part < parts(number); part += parts(number) > 8 ? 13 : 1) {
                open(says(NODE_KEY, OBJECTS), number, part);
                answer(other, NODE_KEY, number, part);
                later(1);
            }
            AuditCase.Question memory beyond = question(says(NODE_KEY, OBJECTS), number, parts(number));
            openRefused(abi.encodeWithSelector(Trees.IndexBeyondLeaves.selector, parts(number), parts(number)), beyond);
        }
    }

    function test_who_answers_for_a_node_that_is_away_saves_it_even_late() public {
        open(says(NODE_KEY, 2), 0, 4);
        vm.warp(block.timestamp + CASE_ANSWER + 1 days);
        answer(client, NODE_KEY, 0, 4);
        eq("stake", 100 ether, stakeOf(node));
        eq("the opener's", CASE_BOND, cases.owed(ASKER));
    }

    function test_other_bytes_are_no_answer() public {
        open(says(NODE_KEY, 5), 3, 17);
        AuditCase.Asked memory asked = askedOf(NODE_KEY, 3, 17);
        (bytes memory data, bytes32[] memory siblings) = (cut(3, 17), siblingsOf(digests(3), 17));
        data[1_023] ^= 0x01;
        vm.expectPartialRevert(AuditCase.WrongRoot.selector);
        cases.answer(asked, data, siblings);
        data[1_023] ^= 0x01;
        siblings[5] ^= bytes32(uint256(1));
        vm.expectPartialRevert(AuditCase.WrongRoot.selector);
        cases.answer(asked, data, siblings);
        siblings = siblingsOf(digests(3), 16);
        vm.expectPartialRevert(AuditCase.WrongRoot.selector);
        cases.answer(asked, data, siblings);
        vm.expectRevert(abi.encodeWithSelector(Trees.WrongDepth.selector, 6, 0));
        cases.answer(asked, data, new bytes32[](0));
        bytes memory less = new bytes(1_023);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.BodyLength.selector, "part", 1_024, 1_023));
        cases.answer(asked, less, siblings);
        // Nor are the right bytes of what nobody asked for.
        asked.part = 16;
        bytes memory beside = cut(3, 16);
        vm.expectPartialRevert(AuditCase.NoCase.selector);
        cases.answer(asked, beside, siblings);
    }

    function test_the_last_leaf_has_what_is_left_and_no_more() public {
        open(says(NODE_KEY, 5), 4, 2);
        AuditCase.Asked memory asked = askedOf(NODE_KEY, 4, 2);
        bytes32[] memory siblings = siblingsOf(digests(4), 2);
        bytes memory two = new bytes(2);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.BodyLength.selector, "part", 1, 2));
        cases.answer(asked, two, siblings);
        answer(node, NODE_KEY, 4, 2);
    }

    // ------------------------------------------------------------------ silence

    function test_silence_costs_a_tenth_of_which_the_opener_gets_less_than_half() public {
        bytes32 id = open(says(NODE_KEY, 5), 3, 17);
        AuditCase.Asked memory asked = askedOf(NODE_KEY, 3, 17);
        uint64 deadline = cases.caseOf(id).deadline;
        vm.warp(deadline - 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.StillOpen.selector, deadline, deadline - 1));
        cases.close(asked);
        vm.warp(deadline);
        vm.roll(block.number + 9);
        cases.close(asked);
        vm.snapshotGasLastCall("gas", "slash case, close with a slash");
        eq("a tenth", 90 ether, stakeOf(node));
        eq("convicted", block.number, cases.convictedAt(node));
        eq("the bond is back", 1_000 ether, ASKER.balance);
        eq("nothing kept", 0, address(cases).balance);
        bytes32 fault = keccak256(abi.encode("S1", node, cases.caseOf(id).signedAt));
        yes("slashed by its own fault", stakes.isSlashed(fault));
        vm.warp(block.timestamp + SLASH_DELAY);
        StakeManager.Slash memory queued = StakeManager.Slash({
            faultHash: fault,
            account: node,
            amount: 10 ether,
            victim: address(0),
            victimAmount: 0,
            lane: 0,
            reporter: ASKER,
            releaseAt: uint64(block.timestamp)
        });
        uint256 burned = stakes.BURN().balance;
        stakes.release(queued, "");
        eq("the reporter's", 1_000 ether + 4.5 ether, ASKER.balance);
        yes("burned", stakes.BURN().balance >= burned + 1 ether);
    }

    /// @notice A lost disk: many cases of several commitments, one fault; the other cases end and take nothing.
    function test_one_loss_is_one_fault_whatever_was_signed_before() public {
        Signed memory early = says(NODE_KEY, 5);
        later(50);
        Signed memory late = says(NODE_KEY, 4);
        open(early, 3, 1);
        open(early, 3, 2);
        open(late, 2, 0);
        later(100_000);
        vm.warp(block.timestamp + CASE_ANSWER);
        cases.close(askedOf(NODE_KEY, 3, 2));
        eq("a tenth", 90 ether, stakeOf(node));
        cases.close(askedOf(NODE_KEY, 3, 1));
        cases.close(askedOf(NODE_KEY, 2, 0));
        eq("no more", 90 ether, stakeOf(node));
        eq("bonds", 1_000 ether, ASKER.balance);
        bytes memory why = abi.encodeWithSelector(AuditCase.ConvictedSince.selector, late.signedAt, cases.convictedAt(node));
        openRefused(why, question(late, 1, 0));
    }

    function test_who_signs_again_for_what_it_lost_pays_twice_as_much() public {
        Signed memory said = says(NODE_KEY, 5);
        uint256[4] memory left = [uint256(90 ether), 72 ether, 43.2 ether, 8.64 ether];
        for (uint256 i = 0; i < 4; ++i) {
            open(said, 3, 17);
            later(129_600);
            cases.close(askedOf(NODE_KEY, 3, 17));
            eq("left", left[i], stakeOf(node));
            // Not by what it signed in the block of its conviction.
            said = says(NODE_KEY, 5);
            openRefused(abi.encodeWithSelector(AuditCase.ConvictedSince.selector, said.signedAt, said.signedAt), question(said, 3, 17));
            later(1);
            said = says(NODE_KEY, 5);
        }
    }

    function test_a_node_without_stake_is_not_asked() public {
        uint256 key = 0x5747;
        openRefused(abi.encodeWithSelector(AuditCase.NothingAtStake.selector, vm.addr(key)), question(says(key, 5), 0, 0));
    }

    /// @notice Stake that unbonds from the block of the commitment on is there when the case of the last possible block is closed.
    function test_stake_does_not_leave_before_a_case_ends() public {
        Signed memory said = says(NODE_KEY, 5);
        vm.prank(node);
        stakes.unbond(100 ether);
        later(CASE_AGE_BLOCKS);
        open(said, 3, 0);
        vm.warp(block.timestamp + CASE_ANSWER);
        vm.prank(node);
        vm.expectPartialRevert(StakeManager.StillUnbonding.selector);
        stakes.withdraw();
        cases.close(askedOf(NODE_KEY, 3, 0));
        eq("of what unbonds", 90 ether, stakes.slashableOf(node));
    }

    function test_who_opens_a_case_against_itself_loses_the_burned_and_insured_part() public {
        AuditCase.Question memory asked = question(says(OTHER_KEY, 5), 0, 0);
        vm.deal(other, CASE_BOND);
        vm.prank(other);
        cases.open{value: CASE_BOND}(asked);
        vm.warp(block.timestamp + CASE_ANSWER);
        cases.close(askedOf(OTHER_KEY, 0, 0));
        StakeManager.Division memory parts_ = stakes.divide(5 ether, 0);
        eq("a tenth of fifty is gone", 45 ether, stakeOf(other));
        yes("of which less than half comes back", 2 * uint256(parts_.toReporter) < 5 ether);
    }

    // ------------------------------------------------------------------ what can be asked for

    function test_a_commitment_is_its_nodes_and_of_an_age_that_counts() public {
        Signed memory said = says(NODE_KEY, 5);
        AuditCase.Question memory asked = question(said, 0, 0);
        asked.signature = signed(OTHER_KEY, address(settlement), AUDIT_COMMIT, asked.commit);
        openRefused(abi.encodeWithSelector(AuditCase.CommitSignature.selector, node, other), asked);
        asked.signature = signed(NODE_KEY, address(escrow), AUDIT_COMMIT, asked.commit);
        vm.expectPartialRevert(AuditCase.CommitSignature.selector);
        vm.prank(ASKER);
        cases.open{value: CASE_BOND}(asked);
        said.signedAt += 1;
        openRefused(abi.encodeWithSelector(AuditCase.SignedLater.selector, said.signedAt, block.number), question(said, 0, 0));
        said.signedAt -= 1;
        later(CASE_AGE_BLOCKS);
        uint256 clean = vm.snapshotState();
        open(said, 0, 0);
        vm.revertToState(clean);
        later(1);
        openRefused(abi.encodeWithSelector(AuditCase.TooOld.selector, said.signedAt, block.number), question(said, 0, 0));
    }

    function test_lengths_bonds_and_openings_are_checked() public {
        Signed memory said = says(NODE_KEY, 5);
        AuditCase.Question memory asked = question(said, 2, 0);
        asked.commit = bytes.concat(asked.commit, hex"00");
        openRefused(abi.encodeWithSelector(AuditCase.BodyLength.selector, "commitment", 76, 77), asked);
        asked = question(said, 2, 0);
        asked.leaf = bytes.concat(asked.leaf, hex"00");
        openRefused(abi.encodeWithSelector(AuditCase.BodyLength.selector, "leaf", 70, 71), asked);
        asked = question(said, 2, 0);
        asked.index = 3;
        vm.expectPartialRevert(AuditCase.WrongRoot.selector);
        vm.prank(ASKER);
        cases.open{value: CASE_BOND}(asked);
        asked.index = 5;
        openRefused(abi.encodeWithSelector(Trees.IndexBeyondLeaves.selector, 5, 5), asked);
        asked = question(said, 2, 0);
        asked.count = type(uint64).max;
        openRefused(abi.encodeWithSelector(Trees.IndexBeyondLeaves.selector, 2, type(uint64).max), asked);
        asked = question(said, 2, 0);
        asked.siblings = new bytes32[](2);
        openRefused(abi.encodeWithSelector(Trees.WrongDepth.selector, 3, 2), asked);
        asked = question(said, 2, 0);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.WrongBond.selector, CASE_BOND, CASE_BOND - 1));
        vm.prank(ASKER);
        cases.open{value: CASE_BOND - 1}(asked);
        // A fragment that another node signed for.
        asked.leaf = leafOf(3);
        asked.contribution = 3;
        vm.expectPartialRevert(AuditCase.WrongRoot.selector);
        vm.prank(ASKER);
        cases.open{value: CASE_BOND}(asked);
    }

    function test_a_leaf_is_asked_for_once_at_a_time_and_then_by_a_later_commitment() public {
        Signed memory said = says(NODE_KEY, 5);
        bytes32 id = open(said, 3, 17);
        openRefused(abi.encodeWithSelector(AuditCase.KnownCase.selector, id, 0), question(said, 3, 17));
        later(5);
        Signed memory next = says(NODE_KEY, 5);
        openRefused(abi.encodeWithSelector(AuditCase.KnownCase.selector, id, 0), question(next, 3, 17));
        // The leaf beside it is another question, of the same commitment and of others.
        open(said, 3, 18);
        open(next, 3, 19);
        later(5);
        answer(node, NODE_KEY, 3, 17);
        uint64 ended = uint64(block.number);
        openRefused(abi.encodeWithSelector(AuditCase.KnownCase.selector, id, ended), question(next, 3, 17));
        next = says(NODE_KEY, 5);
        openRefused(abi.encodeWithSelector(AuditCase.KnownCase.selector, id, ended), question(next, 3, 17));
        later(1);
        open(says(NODE_KEY, 5), 3, 17);
    }

    // ------------------------------------------------------------------ erased, accepted anew

    function test_what_was_erased_is_not_asked_for_and_ends_without_a_slash() public {
        Signed memory said = says(NODE_KEY, 5);
        open(said, 3, 17);
        vm.prank(author);
        erasures.erase(NET, 3, keccak256("why"));
        openRefused(abi.encodeWithSelector(AuditCase.ErasedOnRequest.selector, NET, 3), question(said, 3, 18));
        cases.close(askedOf(NODE_KEY, 3, 17));
        vm.snapshotGasLastCall("gas", "slash case, close without a slash");
        eq("the bond is back", 1_000 ether, ASKER.balance);
        eq("stake", 100 ether, stakeOf(node));
        eq("not convicted", 0, cases.convictedAt(node));
    }

    /// @notice Whoever has an erased object accepted again, in a Datanet of its own, cannot ask for it those who dropped it when it was erased.
    function test_an_object_accepted_anew_is_asked_for_by_later_commitments_alone() public {
        Signed memory said = says(NODE_KEY, 5);
        later(10);
        vm.prank(author);
        erasures.erase(NET, 3, keccak256("why"));
        vm.prank(other);
        uint64 beside = registry.register(3, "beside");
        contribute(beside, OTHER_KEY, 0, object(3));
        uint64 acceptedAt = uint64(block.timestamp);
        AuditCase.Question memory asked = question(said, 3, 17);
        (asked.datanet, asked.contribution) = (beside, 0);
        openRefused(abi.encodeWithSelector(AuditCase.NotAcceptedThen.selector, acceptedAt, block.timestamp - 10 * BLOCK_SECONDS), asked);
        later(30_000);
        openRefused(abi.encodeWithSelector(AuditCase.NotAcceptedThen.selector, acceptedAt, block.timestamp - 30_010 * BLOCK_SECONDS), asked);
        asked = question(says(NODE_KEY, 5), 3, 17);
        (asked.datanet, asked.contribution) = (beside, 0);
        vm.prank(ASKER);
        cases.open{value: CASE_BOND}(asked);
    }

    function test_the_contribution_named_is_of_the_fragments_object() public {
        AuditCase.Question memory asked = question(says(NODE_KEY, 5), 3, 17);
        asked.contribution = 2;
        openRefused(abi.encodeWithSelector(AuditCase.OtherObject.selector, object(2), object(3)), asked);
        asked.contribution = 99;
        vm.expectRevert();
        vm.prank(ASKER);
        cases.open{value: CASE_BOND}(asked);
    }

    /// @notice A friend's contribution of the same object, opened first and erased at the end, shields nothing: it is a case of its own.
    function test_a_friends_contribution_that_is_erased_ends_its_own_case_alone() public {
        vm.prank(other);
        uint64 beside = registry.register(3, "beside");
        contribute(beside, OTHER_KEY, 0, object(3));
        later(1);
        Signed memory said = says(NODE_KEY, 5);
        AuditCase.Question memory friends = question(said, 3, 17);
        (friends.datanet, friends.contribution) = (beside, 0);
        vm.prank(ASKER);
        cases.open{value: CASE_BOND}(friends);
        open(said, 3, 17);
        vm.prank(other);
        erasures.erase(beside, 0, keccak256("why"));
        AuditCase.Asked memory asked = askedOf(NODE_KEY, 3, 17);
        (asked.datanet, asked.contribution) = (beside, 0);
        cases.close(asked);
        eq("not by that one", 100 ether, stakeOf(node));
        vm.warp(block.timestamp + CASE_ANSWER);
        cases.close(askedOf(NODE_KEY, 3, 17));
        eq("by the other", 90 ether, stakeOf(node));
    }

    // ------------------------------------------------------------------ money

    function test_an_opener_that_refuses_its_bond_is_credited_and_paid_once() public {
        Refuser refuser = new Refuser(cases);
        vm.deal(address(refuser), CASE_BOND);
        refuser.open(question(says(NODE_KEY, 5), 0, 0));
        vm.warp(block.timestamp + CASE_ANSWER);
        cases.close(askedOf(NODE_KEY, 0, 0));
        eq("slashed all the same", 90 ether, stakeOf(node));
        eq("kept for it", CASE_BOND, cases.owed(address(refuser)));
        refuser.take();
        cases.withdrawOwed(payable(address(refuser)));
        eq("once", CASE_BOND, address(refuser).balance);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.NothingOwed.selector, address(refuser)));
        cases.withdrawOwed(payable(address(refuser)));
    }

    function test_peers_and_values_are_checked() public {
        ICaseStakes port = ICaseStakes(address(stakes));
        address books = address(settlement);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.ZeroAddress.selector, "stakeManager"));
        new AuditCase(ICaseStakes(address(0)), books, registry, erasures, 1, 1, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.ZeroAddress.selector, "settlement"));
        new AuditCase(port, address(0), registry, erasures, 1, 1, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.ZeroAddress.selector, "registry"));
        new AuditCase(port, books, AssetRegistry(address(0)), erasures, 1, 1, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.ZeroAddress.selector, "erasures"));
        new AuditCase(port, books, registry, Erasures(address(0)), 1, 1, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.ZeroValue.selector, "bond"));
        new AuditCase(port, books, registry, erasures, 0, 1, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.ZeroValue.selector, "answerSeconds"));
        new AuditCase(port, books, registry, erasures, 1, 0, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.ZeroValue.selector, "ageBlocks"));
        new AuditCase(port, books, registry, erasures, 1, 1, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.ZeroValue.selector, "blockSeconds"));
        new AuditCase(port, books, registry, erasures, 1, 1, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.StakeLeavesBefore.selector, UNBONDING, UNBONDING));
        new AuditCase(port, books, registry, erasures, 1, UNBONDING - 1, 1, 1);
        new AuditCase(port, books, registry, erasures, 1, UNBONDING - 2, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AuditCase.StakeLeavesBefore.selector, UNBONDING, UNBONDING));
        new AuditCase(port, books, registry, erasures, 1, UNBONDING - 12, 2, 6);
    }

    // ------------------------------------------------------------------ fuzz

    function testFuzz_bytes_and_path_end_a_case_and_nothing_else_does(uint256 number, uint32 part, uint256 flip, bool ofData) public {
        number %= OBJECTS;
        part %= parts(number);
        open(says(NODE_KEY, OBJECTS), number, part);
        AuditCase.Asked memory asked = askedOf(NODE_KEY, number, part);
        (bytes memory data, bytes32[] memory siblings) = (cut(number, part), siblingsOf(digests(number), part));
        if (ofData || siblings.length == 0) data[flip % data.length] ^= bytes1(uint8(1 + (flip >> 16) % 255));
        else siblings[flip % siblings.length] ^= bytes32(1 + (flip >> 16) % type(uint128).max);
        vm.expectPartialRevert(AuditCase.WrongRoot.selector);
        cases.answer(asked, data, siblings);
        answer(client, NODE_KEY, number, part);
        eq("stake", 100 ether, stakeOf(node));
    }

    function testFuzz_no_commitment_that_was_not_signed_opens_a_case(uint256 place, uint8 change) public {
        vm.assume(change != 0);
        AuditCase.Question memory asked = question(says(NODE_KEY, OBJECTS), 3, 17);
        asked.commit[place % asked.commit.length] ^= bytes1(change);
        vm.expectRevert();
        vm.prank(ASKER);
        cases.open{value: CASE_BOND}(asked);
    }
}
