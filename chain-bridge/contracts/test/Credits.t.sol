// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {Suite} from "./Suite.sol";

/// @notice Credit notes: paid by their node, or out of its stake.
contract CreditsTest is Suite {
    uint128 private constant CAP = 50 ether;
    uint256 private constant SESSION_KEY = 0x5E55;
    address private session = vm.addr(SESSION_KEY);
    bytes private lane;
    bytes32 private laneId;

    function setUp() public override {
        super.setUp();
        lane = abi.encodePacked(client, node, CAP, uint64(2_000), uint64(1));
        laneId = keccak256(lane);
        vm.prank(client);
        escrow.deposit{value: 40 ether}();
        collect(10 ether, 10);
    }

    function test_an_unpaid_note_is_paid_out_of_stake() public {
        claimed(10, 10 ether, 4 ether);
        InferenceEscrow.CreditClaim memory claim = escrow.creditOf(laneId, request(10));
        eq("amount", 4 ether, claim.amount);
        eq("open", uint8(InferenceEscrow.CreditState.Open), uint8(claim.state));
        uint64 from = claim.settleFrom;
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.CreditWindow.selector, from, block.timestamp));
        escrow.settleCredit(lane, request(10));
        vm.warp(from);
        uint128 before = escrow.accountOf(client).balance;
        escrow.settleCredit(lane, request(10));
        eq("deposit", before + 4 ether, escrow.accountOf(client).balance);
        eq("stake", 96 ether, stakes.slashableOf(node));
        eq("escrow holds it", uint256(before) + 4 ether, address(escrow).balance);
        notOpen(10);
        bytes memory note = noteOf(10, 10 ether, 1 ether);
        refusedClaim(client, note, NODE_KEY, abi.encodeWithSelector(InferenceEscrow.CreditKnown.selector, laneId, request(10)));
    }

    function test_a_node_pays_a_claim_into_the_deposit_and_keeps_its_stake() public {
        claimed(10, 10 ether, 4 ether);
        uint128 before = escrow.accountOf(client).balance;
        vm.deal(node, 4 ether);
        vm.prank(node);
        escrow.payCredit{value: 4 ether}(lane, request(10));
        eq("deposit", before + 4 ether, escrow.accountOf(client).balance);
        eq("escrow holds it", uint256(before) + 4 ether, address(escrow).balance);
        eq("node", 0, node.balance);
        eq("ended", uint8(InferenceEscrow.CreditState.Ended), uint8(escrow.creditOf(laneId, request(10)).state));
        eq("nothing is left", 0, escrow.creditOf(laneId, request(10)).amount);
        eq("it counts against what the lane brought in", 4 ether, escrow.creditedOf(laneId));
        eq("and what was collected stays collected", 10 ether, escrow.collectedOf(laneId));
        vm.warp(block.timestamp + HONOUR);
        notOpen(10);
        eq("stake", 100 ether, stakes.slashableOf(node));
        refusedPayment(10, 4 ether, abi.encodeWithSelector(InferenceEscrow.CreditNotOpen.selector, laneId, request(10)));
        bytes memory note = noteOf(10, 10 ether, 1 ether);
        refusedClaim(client, note, NODE_KEY, abi.encodeWithSelector(InferenceEscrow.CreditKnown.selector, laneId, request(10)));
    }

    function test_anybody_pays_a_claim_exactly_and_at_any_time_while_it_is_open() public {
        refusedPayment(10, 4 ether, abi.encodeWithSelector(InferenceEscrow.CreditNotOpen.selector, laneId, request(10)));
        claimed(10, 10 ether, 4 ether);
        refusedPayment(10, 0, abi.encodeWithSelector(InferenceEscrow.CreditValue.selector, 4 ether, 0));
        refusedPayment(10, 4 ether - 1, abi.encodeWithSelector(InferenceEscrow.CreditValue.selector, 4 ether, 4 ether - 1));
        refusedPayment(10, 4 ether + 1, abi.encodeWithSelector(InferenceEscrow.CreditValue.selector, 4 ether, 4 ether + 1));
        vm.warp(block.timestamp + 2 * HONOUR);
        vm.deal(other, 4 ether);
        vm.prank(other);
        escrow.payCredit{value: 4 ether}(lane, request(10));
        eq("ended", uint8(InferenceEscrow.CreditState.Ended), uint8(escrow.creditOf(laneId, request(10)).state));
        eq("stake", 100 ether, stakes.slashableOf(node));
    }

    function test_notes_that_mean_nothing_are_refused() public {
        bytes memory note = noteOf(10, 10 ether, 4 ether);
        refusedClaim(other, note, NODE_KEY, abi.encodeWithSelector(InferenceEscrow.OnlyPayer.selector, client, other));
        refusedClaim(client, note, OTHER_KEY, abi.encodeWithSelector(InferenceEscrow.CreditSignature.selector, node, other));
        refusedClaim(
            client,
            noteOf(10, 10 ether, 0),
            NODE_KEY,
            abi.encodeWithSelector(InferenceEscrow.CreditAmount.selector, 10 ether, 0)
        );
        refusedClaim(
            client,
            noteOf(10, 10 ether, 10 ether + 1),
            NODE_KEY,
            abi.encodeWithSelector(InferenceEscrow.CreditAmount.selector, 10 ether, 10 ether + 1)
        );
        refusedClaim(
            client,
            noteOf(10, 11 ether, 1 ether),
            NODE_KEY,
            abi.encodeWithSelector(InferenceEscrow.CreditNotCollected.selector, 10 ether, 11 ether)
        );
        bytes memory elsewhere = abi.encodePacked(bytes32(uint256(7)), request(10), uint128(1), uint128(1), uint64(3_000));
        refusedClaim(
            client, elsewhere, NODE_KEY, abi.encodeWithSelector(InferenceEscrow.CreditForOtherLane.selector, laneId, bytes32(uint256(7)))
        );
        refusedClaim(
            client,
            abi.encodePacked(note, hex"00"),
            NODE_KEY,
            abi.encodeWithSelector(Codec.WrongLength.selector, "CreditNote", 104, 105)
        );
        vm.roll(3_001);
        refusedClaim(client, note, NODE_KEY, abi.encodeWithSelector(InferenceEscrow.CreditExpired.selector, 3_000, 3_001));
    }

    function test_the_zero_account_signs_no_note() public {
        bytes memory nobody = abi.encodePacked(client, address(0), CAP, uint64(2_000), uint64(1));
        bytes memory note = abi.encodePacked(keccak256(nobody), request(10), uint128(1), uint128(1), uint64(3_000));
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.CreditSignature.selector, address(0), address(0)));
        escrow.claimCredit(nobody, note, hex"");
    }

    function test_notes_do_not_carry_to_another_chain() public {
        bytes memory note = noteOf(10, 10 ether, 4 ether);
        bytes memory signature = signed(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        vm.chainId(777);
        vm.prank(client);
        vm.expectRevert();
        escrow.claimCredit(lane, note, signature);
    }

    function test_the_notes_of_a_lane_are_worth_what_it_brought_in() public {
        claimed(10, 10 ether, 6 ether);
        refusedClaim(
            client,
            noteOf(9, 5 ether, 5 ether),
            NODE_KEY,
            abi.encodeWithSelector(InferenceEscrow.CreditAboveCollected.selector, 10 ether, 11 ether)
        );
        claimed(9, 5 ether, 4 ether);
        eq("credited", 10 ether, escrow.creditedOf(laneId));
    }

    /// @dev The client is the node's own: what it pays comes back to it, so that a note costs it nothing but stake.
    function test_a_node_that_pays_itself_cannot_bring_stake_out_of_reach_by_notes() public {
        collect(40 ether, 11);
        // Ten ether of fees are open against all of its stake; then it claims the note.
        submitted(1, 10 ether);
        claimed(11, 40 ether, 40 ether);
        eq("pledged", 40 ether, stakes.pledgedOf(node));
        uint256 claimedAt = block.timestamp;
        final_(1);
        // All the while the note is open, the pledged stake lets no fee be open against it, to the last second.
        vm.warp(claimedAt + HONOUR - 1);
        refusedRoot(2, 6 ether + 1, 6 ether);
        submitted(2, 6 ether);
        vm.expectPartialRevert(InferenceEscrow.CreditWindow.selector);
        escrow.settleCredit(lane, request(11));
        vm.warp(claimedAt + HONOUR);
        escrow.settleCredit(lane, request(11));
        eq("what is left covers what is open tenfold", 60 ether, stakes.slashableOf(node));
        eq("open", 6 ether, settlement.openFeesOf(node));
        eq("nothing is pledged any more", 0, stakes.pledgedOf(node));
        // The first root's fees were open against the 40 as well: its last fault could be proven before they left.
        yes("proven in time", claimedAt + W1 + W2 < claimedAt + HONOUR);
        // Whoever also unbonds waits as long for the rest.
        vm.prank(node);
        stakes.unbond(50 ether);
        uint256 unbondedAt = block.timestamp;
        vm.warp(unbondedAt + EPOCH_MIN);
        refusedRoot(3, 1, 1 ether);
        vm.warp(unbondedAt + UNBONDING - 1);
        vm.prank(node);
        vm.expectPartialRevert(StakeManager.StillUnbonding.selector);
        stakes.withdraw();
    }

    /// @dev It unbonds all before it gives the note, so that its stake would be free as soon as the note is due.
    function test_a_node_that_unbonds_before_it_gives_a_note_pays_it_all_the_same() public {
        vm.prank(node);
        stakes.unbond(100 ether);
        claimed(10, 10 ether, 4 ether);
        claimed(9, 5 ether, 5 ether);
        vm.warp(block.timestamp + UNBONDING);
        uint256 before = node.balance;
        vm.prank(node);
        stakes.withdraw();
        eq("all but what notes will take", before + 91 ether, node.balance);
        eq("stays", 9 ether, stakes.slashableOf(node));
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.StillPledged.selector, 9 ether));
        stakes.withdraw();
        // One is paid by hand, and frees as much; the other by what stayed.
        vm.deal(node, 4 ether);
        vm.startPrank(node);
        escrow.payCredit{value: 4 ether}(lane, request(10));
        stakes.withdraw();
        vm.stopPrank();
        eq("freed", 4 ether, node.balance);
        vm.warp(block.timestamp + HONOUR);
        uint256 deposit = escrow.accountOf(client).balance;
        escrow.settleCredit(lane, request(9));
        eq("the client's", deposit + 5 ether, escrow.accountOf(client).balance);
        eq("nothing is left", 0, stakes.slashableOf(node) + stakes.pledgedOf(node));
        vm.prank(node);
        vm.expectPartialRevert(StakeManager.NothingUnbonding.selector);
        stakes.withdraw();
    }

    /// @dev Active stake covers notes first: what unbonds beyond them leaves as it always did.
    function test_stake_that_no_note_needs_leaves_in_time() public {
        claimed(10, 10 ether, 4 ether);
        vm.prank(node);
        stakes.unbond(90 ether);
        vm.warp(block.timestamp + UNBONDING);
        uint256 before = node.balance;
        vm.prank(node);
        stakes.withdraw();
        eq("all of it", before + 90 ether, node.balance);
    }

    function test_a_paid_note_frees_the_stake_that_it_pledged() public {
        claimed(10, 10 ether, 4 ether);
        claimed(9, 5 ether, 5 ether);
        eq("both", 9 ether, stakes.pledgedOf(node));
        (, uint128 bond_) = stakes.bondOf(node);
        eq("bond", 91 ether, bond_);
        vm.deal(node, 4 ether);
        vm.prank(node);
        escrow.payCredit{value: 4 ether}(lane, request(10));
        eq("the other", 5 ether, stakes.pledgedOf(node));
        vm.warp(block.timestamp + HONOUR);
        escrow.settleCredit(lane, request(9));
        eq("none", 0, stakes.pledgedOf(node));
        (, bond_) = stakes.bondOf(node);
        eq("the stake paid", 95 ether, bond_);
    }

    function test_what_the_stake_does_not_reach_stays_pledged() public {
        claimed(10, 10 ether, 10 ether);
        vm.prank(address(verifier));
        stakes.slash(node, 48 ether, client, 0, 0, other, keccak256("fault"));
        (, uint128 bond_) = stakes.bondOf(node);
        eq("more is pledged than there is", 0, bond_);
        vm.warp(block.timestamp + HONOUR);
        escrow.settleCredit(lane, request(10));
        eq("left", 6 ether, stakes.pledgedOf(node));
        vm.deal(node, 26 ether);
        vm.prank(node);
        stakes.increase{value: 20 ether}();
        (, bond_) = stakes.bondOf(node);
        eq("new stake is pledged first", 14 ether, bond_);
        vm.prank(node);
        escrow.payCredit{value: 6 ether}(lane, request(10));
        (, bond_) = stakes.bondOf(node);
        eq("until the note is paid", 20 ether, bond_);
    }

    function test_a_claim_that_is_given_up_counts_as_given_back_no_more() public {
        // What the stake reaches stays given back.
        outOfReach();
        dropped(10);
        eq("given back", 4 ether, escrow.creditedOf(laneId));
        eq("charged", 6 ether, escrow.chargedOf(laneId, lane, node, client));
        eq("nothing is pledged", 0, stakes.pledgedOf(node));
        eq("nothing is left", 0, escrow.creditOf(laneId, request(10)).amount);
        eq("given up", uint8(InferenceEscrow.CreditState.GivenUp), uint8(escrow.creditOf(laneId, request(10)).state));
        notOpen(10);
        refusedPayment(10, 0, abi.encodeWithSelector(InferenceEscrow.CreditNotOpen.selector, laneId, request(10)));
        refusedDrop(client, 10, abi.encodeWithSelector(InferenceEscrow.CreditNotOpen.selector, laneId, request(10)));
        // Its note is used up; there is room for another.
        bytes memory note = noteOf(10, 10 ether, 1 ether);
        refusedClaim(client, note, NODE_KEY, abi.encodeWithSelector(InferenceEscrow.CreditKnown.selector, laneId, request(10)));
        claimed(9, 6 ether, 6 ether);
        eq("all", 10 ether, escrow.creditedOf(laneId));
    }

    function test_only_the_payer_gives_up_a_claim_and_only_an_open_one() public {
        refusedDrop(client, 10, abi.encodeWithSelector(InferenceEscrow.CreditNotOpen.selector, laneId, request(10)));
        claimed(10, 10 ether, 4 ether);
        refusedDrop(node, 10, abi.encodeWithSelector(InferenceEscrow.OnlyPayer.selector, client, node));
        bytes memory elsewhere = abi.encodePacked(client, node, CAP, uint64(2_000), uint64(2));
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.CreditNotOpen.selector, keccak256(elsewhere), request(10)));
        escrow.dropCredit(elsewhere, request(10));
        vm.deal(node, 4 ether);
        vm.prank(node);
        escrow.payCredit{value: 4 ether}(lane, request(10));
        refusedDrop(client, 10, abi.encodeWithSelector(InferenceEscrow.CreditNotOpen.selector, laneId, request(10)));
        eq("paid stays given back", 4 ether, escrow.creditedOf(laneId));
    }

    /// @notice Whatever is claimed, reached by stake and given up: what was paid counts, no more and no less, and no other note loses its pledge.
    function testFuzz_what_is_given_up_is_what_was_not_paid(uint128 first, uint128 second, uint128 fault) public {
        (first, second) = (1 + first % 6 ether, 1 + second % 4 ether);
        claimed(10, 10 ether, first);
        claimed(9, 6 ether, second);
        vm.prank(address(verifier));
        stakes.slash(node, fault % 60 ether, client, 0, 0, other, keccak256("fault"));
        uint128 stake = stakes.slashableOf(node);
        vm.warp(block.timestamp + HONOUR);
        uint128 before = escrow.accountOf(client).balance;
        if (stake > 0) escrow.settleCredit(lane, request(10));
        uint128 paid = escrow.accountOf(client).balance - before;
        eq("as far as stake reaches", stake < first ? stake : first, paid);
        if (paid < first) dropped(10);
        eq("given back", paid + second, escrow.creditedOf(laneId));
        eq("pledged", second, stakes.pledgedOf(node));
        dropped(9);
        eq("what was paid", paid, escrow.creditedOf(laneId));
        eq("nothing", 0, stakes.pledgedOf(node));
        eq("the rest may be repaid", 10 ether - paid, escrow.chargedOf(laneId, lane, node, client));
        eq("no wei moved", uint256(before) + paid, address(escrow).balance);
    }

    function test_what_the_stake_does_not_reach_stays_open() public {
        outOfReach();
        eq("left", 6 ether, escrow.creditOf(laneId, request(10)).amount);
        refusedPayment(10, 10 ether, abi.encodeWithSelector(InferenceEscrow.CreditValue.selector, 6 ether, 10 ether));
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.NothingToDebit.selector, node));
        escrow.settleCredit(lane, request(10));
        vm.deal(node, 20 ether);
        vm.prank(node);
        stakes.increase{value: 20 ether}();
        escrow.settleCredit(lane, request(10));
        eq("paid in all", 40 ether, escrow.accountOf(client).balance);
        notOpen(10);
    }

    function test_a_lane_needs_its_signature_for_the_first_collect_only() public {
        bytes memory voucher = voucherOf(11, 10 ether, 12 ether);
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = InferenceEscrow.Item(lane, "", voucher, signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, voucher));
        escrow.collectMany(items);
        eq("collected", 12 ether, escrow.collectedOf(laneId));
        items[0].lane = abi.encodePacked(client, node, CAP, uint64(2_000), uint64(2));
        items[0].voucher = abi.encodePacked(keccak256(items[0].lane), new bytes(110), uint128(0), uint128(1 ether));
        items[0].voucherSig = signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, items[0].voucher);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.LaneSignature.selector, 0, client, address(0)));
        escrow.collectMany(items);
    }

    function test_a_lane_of_a_session_key_goes_on_counting_against_it() public {
        vm.prank(client);
        escrow.setSigner(session, 3 ether, 1_500);
        bytes memory own = abi.encodePacked(client, node, CAP, uint64(2_000), uint64(3));
        collectOn(own, SESSION_KEY, 2 ether);
        eq("spent", 2 ether, escrow.sessionOf(client, session).spent);
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = itemOn(own, 0, 4 ether);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.SignerSpent.selector, 0, session, 1 ether, 2 ether));
        escrow.collectMany(items);
        items[0] = itemOn(own, 0, 3 ether);
        escrow.collectMany(items);
        vm.roll(1_501);
        items[0] = itemOn(own, 0, 5 ether);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.LaneSignature.selector, 0, client, session));
        escrow.collectMany(items);
        // The payer itself may confirm the lane.
        collectOn(own, CLIENT_KEY, 5 ether);
        items[0] = itemOn(own, 0, 6 ether);
        escrow.collectMany(items);
        eq("collected", 6 ether, escrow.collectedOf(keccak256(own)));
    }

    // ------------------------------------------------------------------ helpers

    function request(uint64 nonce) private view returns (bytes32) {
        return keccak256(abi.encodePacked(client, nonce));
    }

    function rootOf(uint64 epoch, uint128 fees) private view returns (bytes memory body, bytes memory signature) {
        body = abi.encodePacked(node, epoch, keccak256("root"), uint64(1), fees);
        signature = signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body);
    }

    function submitted(uint64 epoch, uint128 fees) private {
        (bytes memory body, bytes memory signature) = rootOf(epoch, fees);
        settlement.submitNodeRoot(body, signature);
    }

    function refusedRoot(uint64 epoch, uint128 fees, uint256 most) private {
        (bytes memory body, bytes memory signature) = rootOf(epoch, fees);
        uint256 open = settlement.openFeesOf(node) + fees;
        vm.expectRevert(abi.encodeWithSelector(Settlement.FeesAboveStake.selector, most, open));
        settlement.submitNodeRoot(body, signature);
    }

    /// @dev Posts the payout of `epoch`, which pays nobody, and waits until it is final.
    function final_(uint64 epoch) private {
        vm.warp(block.timestamp + W1);
        vm.prank(other);
        settlement.postPayout(epoch, 0, Trees.sumRoot(0, 0, 0), 0);
        vm.warp(block.timestamp + W2);
        eq("nothing is open", 0, settlement.openFeesOf(node));
    }

    function voucherOf(uint64 nonce, uint128 base, uint128 cumulative) private view returns (bytes memory) {
        return abi.encodePacked(laneId, request(nonce), new bytes(78), base, cumulative);
    }

    function noteOf(uint64 nonce, uint128 cumulative, uint128 amount) private view returns (bytes memory) {
        return abi.encodePacked(laneId, request(nonce), cumulative, amount, uint64(3_000));
    }

    function collect(uint128 cumulative, uint64 nonce) private {
        bytes memory voucher = voucherOf(nonce, 0, cumulative);
        collectOne(lane, voucher);
    }

    function itemOn(bytes memory own, uint256 laneKey, uint128 cumulative) private view returns (InferenceEscrow.Item memory made) {
        made.lane = own;
        if (laneKey != 0) made.laneSig = signed(laneKey, address(escrow), Sig.LANE, own);
        made.voucher = abi.encodePacked(keccak256(own), new bytes(110), uint128(0), cumulative);
        made.voucherSig = signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, made.voucher);
    }

    function collectOn(bytes memory own, uint256 laneKey, uint128 cumulative) private {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = itemOn(own, laneKey, cumulative);
        escrow.collectMany(items);
    }

    function claimed(uint64 nonce, uint128 cumulative, uint128 amount) private {
        bytes memory note = noteOf(nonce, cumulative, amount);
        bytes memory signature = signed(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        vm.prank(client);
        escrow.claimCredit(lane, note, signature);
    }

    function refusedClaim(address from, bytes memory note, uint256 key, bytes memory reason) private {
        bytes memory signature = signed(key, address(escrow), Sig.CREDIT_NOTE, note);
        vm.prank(from);
        vm.expectRevert(reason);
        escrow.claimCredit(lane, note, signature);
    }

    function refusedPayment(uint64 nonce, uint256 value, bytes memory reason) private {
        vm.deal(other, value);
        vm.prank(other);
        vm.expectRevert(reason);
        escrow.payCredit{value: value}(lane, request(nonce));
    }

    /// @dev A claim of all that the lane collected, of which stake reached 4 ether.
    function outOfReach() private {
        claimed(10, 10 ether, 10 ether);
        vm.prank(address(verifier));
        stakes.slash(node, 48 ether, client, 0, 0, other, keccak256("fault"));
        eq("stake", 4 ether, stakes.slashableOf(node));
        vm.warp(block.timestamp + HONOUR);
        escrow.settleCredit(lane, request(10));
    }

    function dropped(uint64 nonce) private {
        vm.prank(client);
        escrow.dropCredit(lane, request(nonce));
    }

    function refusedDrop(address from, uint64 nonce, bytes memory reason) private {
        vm.prank(from);
        vm.expectRevert(reason);
        escrow.dropCredit(lane, request(nonce));
    }

    function notOpen(uint64 nonce) private {
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.CreditNotOpen.selector, laneId, request(nonce)));
        escrow.settleCredit(lane, request(nonce));
    }
}
