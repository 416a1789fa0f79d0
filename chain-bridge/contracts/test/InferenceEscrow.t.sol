// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICollectedSink, InferenceEscrow, IStakeDesk} from "../src/InferenceEscrow.sol";
import {Sig} from "../src/Sig.sol";
import {Suite} from "./Suite.sol";
import {Vm} from "./Vm.sol";

contract InferenceEscrowTest is Suite {
    uint128 private constant CAP = 10 ether;
    uint256 private constant SESSION_KEY = 0x5E55;
    address private session = vm.addr(SESSION_KEY);

    function setUp() public override {
        super.setUp();
        vm.prank(client);
        escrow.deposit{value: 20 ether}();
    }

    function test_a_collect_moves_the_increment_into_settlement_only() public {
        uint256 nodeBefore = node.balance;
        collect(item(1, 3 ether));
        eq("settlement", 3 ether, address(settlement).balance);
        eq("received", 3 ether, settlement.totalReceived());
        collect(item(1, 5 ether));
        eq("settlement", 5 ether, address(settlement).balance);
        eq("collected", 5 ether, escrow.collectedOf(keccak256(lane(1, CAP, 2_000))));
        eq("free", 15 ether, escrow.freeBalance(client));
        eq("node", nodeBefore, node.balance);
    }

    function test_a_lanes_body_is_told_at_its_first_collect_that_takes_anything_and_never_again() public {
        bytes32 opened = keccak256("LaneOpened(bytes32,bytes)");
        eq("first", 1, countOf(opened, item(1, 3 ether)));
        eq("next", 0, countOf(opened, item(1, 4 ether)));
        vm.prank(client);
        escrow.requestWithdraw(16 ether);
        vm.warp(block.timestamp + THAW);
        vm.prank(client);
        escrow.withdraw();
        eq("nothing was there", 0, countOf(opened, item(2, 1 ether)));
        vm.prank(client);
        escrow.deposit{value: 1 ether}();
        eq("now it was", 1, countOf(opened, item(2, 1 ether)));
    }

    /// @dev Events of one kind in a collect; one that opens a lane tells its body.
    function countOf(bytes32 topic, InferenceEscrow.Item memory one) private returns (uint256 count) {
        vm.recordLogs();
        collect(one);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != topic) continue;
            eq("lane", keccak256(one.lane), logs[i].topics[1]);
            eq("body", keccak256(abi.encode(one.lane)), keccak256(logs[i].data));
            ++count;
        }
    }

    function test_a_voucher_collects_once() public {
        collect(item(1, 3 ether));
        refused(
            item(1, 3 ether),
            abi.encodeWithSelector(InferenceEscrow.VoucherNotAboveCollected.selector, 0, 3 ether, 3 ether)
        );
        refused(
            item(1, 2 ether),
            abi.encodeWithSelector(InferenceEscrow.VoucherNotAboveCollected.selector, 0, 3 ether, 2 ether)
        );
    }

    function test_a_bad_item_reverts_the_batch_and_names_its_index() public {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](3);
        items[0] = item(1, 1 ether);
        items[1] = item(2, 1 ether);
        items[2] = item(3, CAP + 1);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.VoucherAboveLaneCap.selector, 2, CAP, CAP + 1));
        escrow.collectMany(items);
        eq("nothing moved", 0, address(settlement).balance);
        items[2] = item(3, CAP);
        escrow.collectMany(items);
        eq("all moved", CAP + 2 ether, address(settlement).balance);
        vm.expectRevert(InferenceEscrow.NoItems.selector);
        escrow.collectMany(new InferenceEscrow.Item[](0));
    }

    function test_a_lane_ends_at_its_block() public {
        vm.roll(2_000);
        collect(item(1, 1 ether));
        vm.roll(2_001);
        refused(item(1, 2 ether), abi.encodeWithSelector(InferenceEscrow.LaneExpired.selector, 0, 2_000, 2_001));
    }

    function test_a_voucher_counts_on_its_own_lane_only() public {
        InferenceEscrow.Item memory bad = item(1, 1 ether);
        bytes memory otherLane = lane(2, CAP, 2_000);
        bad.voucher = voucher(otherLane, 1 ether);
        bad.voucherSig = signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, bad.voucher);
        refused(
            bad,
            abi.encodeWithSelector(InferenceEscrow.VoucherForOtherLane.selector, 0, keccak256(bad.lane), keccak256(otherLane))
        );
    }

    function test_documents_of_another_length_are_refused() public {
        InferenceEscrow.Item memory bad = item(1, 1 ether);
        bad.lane = abi.encodePacked(bad.lane, hex"00");
        refused(bad, abi.encodeWithSelector(InferenceEscrow.ItemLength.selector, 0, "Lane", 72, 73));
        bad = item(1, 1 ether);
        bad.voucher = abi.encodePacked(bad.voucher, hex"00");
        refused(bad, abi.encodeWithSelector(InferenceEscrow.ItemLength.selector, 0, "Voucher", 174, 175));
    }

    function test_only_the_payer_signs() public {
        InferenceEscrow.Item memory bad = item(1, 1 ether);
        bad.laneSig = signed(NODE_KEY, address(escrow), Sig.LANE, bad.lane);
        refused(bad, abi.encodeWithSelector(InferenceEscrow.LaneSignature.selector, 0, client, node));
        bad = item(1, 1 ether);
        bad.voucherSig = signed(NODE_KEY, address(escrow), Sig.VOUCHER, bad.voucher);
        refused(bad, abi.encodeWithSelector(InferenceEscrow.VoucherSignature.selector, 0, client, node));
        bad.voucherSig = hex"00";
        refused(bad, abi.encodeWithSelector(InferenceEscrow.VoucherSignature.selector, 0, client, address(0)));
    }

    function test_an_invalid_signature_is_not_that_of_the_zero_account() public {
        InferenceEscrow.Item memory bad = item(1, 1 ether);
        bad.lane = abi.encodePacked(address(0), node, CAP, uint64(2_000), uint64(1));
        bad.voucher = voucher(bad.lane, 1 ether);
        bad.laneSig = hex"";
        bad.voucherSig = hex"";
        refused(bad, abi.encodeWithSelector(InferenceEscrow.LaneSignature.selector, 0, address(0), address(0)));
    }

    function test_signatures_do_not_carry_to_another_chain_or_contract() public {
        InferenceEscrow.Item memory good = item(1, 1 ether);
        InferenceEscrow elsewhere = new InferenceEscrow(ICollectedSink(address(settlement)), IStakeDesk(address(stakes)), THAW, HONOUR);
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = good;
        vm.expectRevert();
        elsewhere.collectMany(items);
        vm.chainId(777);
        vm.expectRevert();
        escrow.collectMany(items);
    }

    function test_a_short_deposit_is_collected_as_far_as_it_reaches_and_the_rest_later() public {
        address poor = vm.addr(0x9009);
        vm.deal(poor, 10 ether);
        vm.prank(poor);
        escrow.deposit{value: 1 ether}();
        InferenceEscrow.Item memory owed = itemOf(0x9009, 0x9009, 0x9009, 1, 3 ether);
        collect(owed);
        eq("what was there", 1 ether, settlement.totalReceived());
        eq("collected", 1 ether, escrow.collectedOf(keccak256(owed.lane)));
        collect(owed);
        eq("nothing more", 1 ether, settlement.totalReceived());
        escrow.depositFor{value: 5 ether}(poor);
        collect(owed);
        eq("the rest", 3 ether, settlement.totalReceived());
        eq("left", 3 ether, escrow.freeBalance(poor));
    }

    function test_a_client_leaves_after_the_thaw_with_what_collecting_left() public {
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.NothingThawing.selector, client));
        escrow.withdraw();
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.NotEnoughFree.selector, 20 ether, 21 ether));
        escrow.requestWithdraw(21 ether);
        escrow.requestWithdraw(18 ether);
        vm.stopPrank();
        eq("free", 2 ether, escrow.freeBalance(client));
        collect(item(1, 5 ether));
        eq("thawing money is still collected", 15 ether, escrow.accountOf(client).thawing);
        uint64 until = uint64(block.timestamp) + THAW;
        vm.warp(until - 1);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.StillThawing.selector, until, until - 1));
        escrow.withdraw();
        vm.warp(until);
        uint256 before = client.balance;
        vm.prank(client);
        escrow.withdraw();
        eq("paid", before + 15 ether, client.balance);
        eq("balance", 0, escrow.accountOf(client).balance);
    }

    function test_a_request_to_withdraw_can_be_taken_back() public {
        vm.startPrank(client);
        escrow.requestWithdraw(18 ether);
        escrow.requestWithdraw(0);
        vm.warp(block.timestamp + THAW);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.NothingThawing.selector, client));
        escrow.withdraw();
        vm.stopPrank();
    }

    function test_deposits_are_refused_that_mean_nothing() public {
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.ZeroAmount.selector, "deposit"));
        escrow.deposit();
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.ZeroAddress.selector, "payer"));
        escrow.depositFor{value: 1}(address(0));
        uint256 tooMuch = uint256(type(uint128).max) + 1;
        vm.deal(address(this), tooMuch);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.AmountTooLarge.selector, tooMuch));
        escrow.depositFor{value: tooMuch}(address(1));
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.ZeroAddress.selector, "settlement"));
        new InferenceEscrow(ICollectedSink(address(0)), IStakeDesk(address(stakes)), THAW, HONOUR);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.ZeroAddress.selector, "stakeManager"));
        new InferenceEscrow(ICollectedSink(address(settlement)), IStakeDesk(address(0)), THAW, HONOUR);
        // A note must not take stake out sooner than unbonding does.
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.HonourTooShort.selector, UNBONDING, UNBONDING - 1));
        new InferenceEscrow(ICollectedSink(address(settlement)), IStakeDesk(address(stakes)), THAW, UNBONDING - 1);
        new InferenceEscrow(ICollectedSink(address(settlement)), IStakeDesk(address(stakes)), THAW, UNBONDING);
    }

    function test_a_session_key_signs_within_its_cap_and_until_its_block() public {
        InferenceEscrow.Item memory bySession = itemOf(CLIENT_KEY, SESSION_KEY, SESSION_KEY, 1, 2 ether);
        refused(bySession, abi.encodeWithSelector(InferenceEscrow.LaneSignature.selector, 0, client, session));
        vm.prank(client);
        escrow.setSigner(session, 3 ether, 1_500);
        collect(bySession);
        eq("spent", 2 ether, escrow.sessionOf(client, session).spent);
        InferenceEscrow.Item memory more = itemOf(CLIENT_KEY, SESSION_KEY, SESSION_KEY, 2, 2 ether);
        refused(more, abi.encodeWithSelector(InferenceEscrow.SignerSpent.selector, 0, session, 1 ether, 2 ether));
        vm.prank(client);
        escrow.setSigner(session, 4 ether, 1_500);
        eq("a session that grows keeps what it spent", 2 ether, escrow.sessionOf(client, session).spent);
        collect(more);
        eq("all of it", 4 ether, escrow.sessionOf(client, session).spent);
        vm.roll(1_501);
        refused(
            itemOf(CLIENT_KEY, CLIENT_KEY, SESSION_KEY, 2, 3 ether),
            abi.encodeWithSelector(InferenceEscrow.VoucherSignature.selector, 0, client, session)
        );
        vm.prank(client);
        escrow.setSigner(session, 1 ether, 1_600);
        eq("a new session starts at zero", 0, escrow.sessionOf(client, session).spent);
        collect(itemOf(CLIENT_KEY, CLIENT_KEY, SESSION_KEY, 2, 3 ether));
        refused(
            itemOf(CLIENT_KEY, SESSION_KEY, CLIENT_KEY, 3, 1),
            abi.encodeWithSelector(InferenceEscrow.SignerSpent.selector, 0, session, 0, 1)
        );
    }

    function test_a_lane_signed_by_a_session_key_counts_against_its_cap() public {
        vm.prank(client);
        escrow.setSigner(session, 1 ether, 1_500);
        refused(
            itemOf(CLIENT_KEY, SESSION_KEY, CLIENT_KEY, 1, 2 ether),
            abi.encodeWithSelector(InferenceEscrow.SignerSpent.selector, 0, session, 1 ether, 2 ether)
        );
    }

    function test_a_live_session_only_grows_and_is_revoked_with_notice() public {
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.UnknownSigner.selector, client, session));
        escrow.revokeSigner(session);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.ZeroAddress.selector, "signer"));
        escrow.setSigner(address(0), 1, 1);
        escrow.setSigner(session, 3 ether, 1_500);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.SignerMayOnlyGrow.selector, 3 ether, 1_500));
        escrow.setSigner(session, 2 ether, 1_500);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.SignerMayOnlyGrow.selector, 3 ether, 1_500));
        escrow.setSigner(session, 3 ether, 1_499);
        escrow.revokeSigner(session);
        uint64 revokedAt = escrow.sessionOf(client, session).revokedAt;
        vm.warp(block.timestamp + 1);
        escrow.revokeSigner(session);
        eq("a second call does not delay it", revokedAt, escrow.sessionOf(client, session).revokedAt);
        vm.stopPrank();
        collect(itemOf(CLIENT_KEY, SESSION_KEY, SESSION_KEY, 1, 1 ether));
        vm.warp(revokedAt);
        refused(
            itemOf(CLIENT_KEY, SESSION_KEY, SESSION_KEY, 1, 2 ether),
            abi.encodeWithSelector(InferenceEscrow.LaneSignature.selector, 0, client, session)
        );
    }

    function testFuzz_vouchers_in_any_order_collect_the_largest_once(uint64[8] calldata amounts) public {
        vm.prank(client);
        escrow.deposit{value: 200 ether}();
        uint256 largest = 0;
        for (uint256 i = 0; i < amounts.length; ++i) {
            uint256 amount = 1 + amounts[i] % CAP;
            if (amount > largest) {
                collect(item(1, uint128(amount)));
                largest = amount;
            } else {
                refused(
                    item(1, uint128(amount)),
                    abi.encodeWithSelector(InferenceEscrow.VoucherNotAboveCollected.selector, 0, largest, amount)
                );
            }
        }
        eq("settlement", largest, address(settlement).balance);
        eq("escrow", 220 ether - largest, address(escrow).balance);
        eq("account", 220 ether - largest, escrow.accountOf(client).balance);
    }

    // ------------------------------------------------------------------ documents

    function lane(uint64 nonce, uint128 cap, uint64 expiryBlock) private view returns (bytes memory) {
        return abi.encodePacked(client, node, cap, expiryBlock, nonce);
    }

    function voucher(bytes memory lane_, uint128 cumulative) private pure returns (bytes memory) {
        return abi.encodePacked(keccak256(lane_), new bytes(110), uint128(0), cumulative);
    }

    function item(uint64 nonce, uint128 cumulative) private view returns (InferenceEscrow.Item memory) {
        return itemOf(CLIENT_KEY, CLIENT_KEY, CLIENT_KEY, nonce, cumulative);
    }

    function itemOf(uint256 payerKey, uint256 laneKey, uint256 voucherKey, uint64 nonce, uint128 cumulative)
        private
        view
        returns (InferenceEscrow.Item memory made)
    {
        made.lane = abi.encodePacked(vm.addr(payerKey), node, CAP, uint64(2_000), nonce);
        made.voucher = voucher(made.lane, cumulative);
        made.laneSig = signed(laneKey, address(escrow), Sig.LANE, made.lane);
        made.voucherSig = signed(voucherKey, address(escrow), Sig.VOUCHER, made.voucher);
    }

    function collect(InferenceEscrow.Item memory one) private {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = one;
        escrow.collectMany(items);
    }

    function refused(InferenceEscrow.Item memory one, bytes memory reason) private {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = one;
        vm.expectRevert(reason);
        escrow.collectMany(items);
    }
}
