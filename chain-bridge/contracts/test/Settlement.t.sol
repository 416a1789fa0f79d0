// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {ITreasury, Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {Fixture} from "./Fixture.sol";

/// @notice A payee that refuses money with a reason.
contract Refuser {
    receive() external payable {
        revert("no thanks");
    }

    function claim(Settlement settlement, uint128 cumulative, uint64 index, uint64 count, bytes calldata siblings) external {
        settlement.claim(0, cumulative, bytes32(0), index, count, siblings);
    }
}

contract SettlementTest is Fixture {
    bytes32 private constant ROOT = keccak256("receipts");
    address private constant PAYEE = address(0x5AFE);
    ITreasury private constant STREAM = ITreasury(address(0x57E4));

    // ------------------------------------------------------------------ phase 1

    function test_the_first_root_opens_an_epoch_and_others_join_it() public {
        eq("to submit", 1, settlement.submissionEpoch());
        submit(NODE_KEY, 1);
        yes("accepting", settlement.accepting());
        eq("current", 1, settlement.currentEpoch());
        vm.warp(block.timestamp + W1 / 3 - 1);
        submit(OTHER_KEY, 1);
        eq("nodes", 2, settlement.epochs(1).nodes);
        eq("root", keccak256(abi.encodePacked(rootBody(node, 1, ROOT), uint64(block.number))), settlement.nodeRootOf(1, node));
    }

    function test_a_node_submits_one_root_per_epoch() public {
        submit(NODE_KEY, 1);
        submitRefused(NODE_KEY, 1, abi.encodeWithSelector(Settlement.AlreadySubmitted.selector, 1, node));
    }

    function test_a_root_names_the_open_epoch() public {
        submitRefused(NODE_KEY, 2, abi.encodeWithSelector(Settlement.WrongEpoch.selector, 1, 2));
        submitRefused(NODE_KEY, 0, abi.encodeWithSelector(Settlement.WrongEpoch.selector, 1, 0));
        submit(NODE_KEY, 1);
        submitRefused(OTHER_KEY, 2, abi.encodeWithSelector(Settlement.WrongEpoch.selector, 1, 2));
        vm.warp(block.timestamp + W1 / 3);
        yes("closed", !settlement.accepting());
        submitRefused(OTHER_KEY, 1, abi.encodeWithSelector(Settlement.WrongEpoch.selector, 2, 1));
        uint256 opened = settlement.epochs(1).openedAt;
        submitRefused(
            OTHER_KEY, 2, abi.encodeWithSelector(Settlement.EpochTooSoon.selector, opened + EPOCH_MIN, block.timestamp)
        );
        vm.warp(opened + EPOCH_MIN);
        submit(OTHER_KEY, 2);
        eq("current", 2, settlement.currentEpoch());
    }

    function test_a_root_has_at_most_65536_receipts() public {
        uint64 most = settlement.RECEIPTS_MAX();
        eq("2^16", 65_536, most);
        for (uint256 k = 0; k < 2; ++k) {
            uint64 count = k == 0 ? most + 1 : type(uint64).max;
            bytes memory more = abi.encodePacked(node, uint64(1), ROOT, count, uint128(0));
            bytes memory signature = signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, more);
            vm.expectRevert(abi.encodeWithSelector(Settlement.TooManyReceipts.selector, most, count));
            settlement.submitNodeRoot(more, signature);
        }
        eq("nothing was opened", 0, settlement.currentEpoch());
        bytes memory body = abi.encodePacked(node, uint64(1), ROOT, most, uint128(0));
        settlement.submitNodeRoot(body, signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body));
        yes("at the bound", settlement.nodeRootOf(1, node) != 0);
    }

    function test_only_bonded_nodes_submit_and_only_what_they_signed() public {
        uint256 strangerKey = 0x57;
        submitRefused(strangerKey, 1, abi.encodeWithSelector(Settlement.NotBonded.selector, vm.addr(strangerKey)));
        bytes memory body = rootBody(node, 1, ROOT);
        bytes memory signature = signed(OTHER_KEY, address(settlement), Sig.NODE_ROOT, body);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NodeRootSignature.selector, node, other));
        settlement.submitNodeRoot(body, signature);
        body = rootBody(node, 1, 0);
        signature = signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body);
        vm.expectRevert(Settlement.ZeroRoot.selector);
        settlement.submitNodeRoot(body, signature);
        body = abi.encodePacked(rootBody(node, 1, ROOT), hex"00");
        vm.expectRevert(abi.encodeWithSelector(Codec.WrongLength.selector, "NodeRoot", 84, 85));
        settlement.submitNodeRoot(body, signature);
    }

    // ------------------------------------------------------------------ phase 2

    function test_a_payout_waits_for_its_window_and_order() public {
        fund(10 ether);
        postRefused(1, 0, ROOT, 1, abi.encodeWithSelector(Settlement.UnknownEpoch.selector, 1));
        postRefused(0, 0, ROOT, 1, abi.encodeWithSelector(Settlement.UnknownEpoch.selector, 0));
        submit(NODE_KEY, 1);
        uint256 opened = block.timestamp;
        vm.warp(opened + EPOCH_MIN);
        submit(NODE_KEY, 2);
        postRefused(2, 0, ROOT, 1, abi.encodeWithSelector(Settlement.PayoutOutOfOrder.selector, 1, 2));
        vm.warp(opened + W1 - 1);
        postRefused(
            1, 0, ROOT, 1, abi.encodeWithSelector(Settlement.PayoutTooSoon.selector, opened + W1, opened + W1 - 1)
        );
        vm.warp(opened + W1);
        post(1, 0, ROOT, 1 ether);
        postRefused(1, 0, ROOT, 1, abi.encodeWithSelector(Settlement.PayoutOutOfOrder.selector, 2, 1));
        uint256 posted = block.timestamp;
        vm.warp(posted + W2 - 1);
        eq("not yet final", 0, settlement.lastFinal());
        vm.warp(opened + EPOCH_MIN + W1);
        eq("final", 1, settlement.lastFinal());
        post(2, ROOT, keccak256("second"), 2 ether);
        eq("the one before is final", 1, settlement.lastFinal());
    }

    function test_a_payout_builds_on_a_final_one() public {
        fund(10 ether);
        submit(NODE_KEY, 1);
        uint256 opened = block.timestamp;
        vm.warp(opened + EPOCH_MIN);
        submit(NODE_KEY, 2);
        vm.warp(opened + EPOCH_MIN + W1);
        post(1, 0, ROOT, 3 ether);
        postRefused(
            2, ROOT, ROOT, 3 ether, abi.encodeWithSelector(Settlement.PreviousNotFinal.selector, 1, block.timestamp + W2)
        );
        vm.warp(block.timestamp + W2);
        postRefused(
            2, bytes32(0), ROOT, 3 ether, abi.encodeWithSelector(Settlement.WrongPreviousRoot.selector, ROOT, bytes32(0))
        );
        postRefused(2, ROOT, 0, 3 ether, abi.encodeWithSelector(Settlement.ZeroRoot.selector));
        postRefused(2, ROOT, ROOT, 2 ether, abi.encodeWithSelector(Settlement.TotalFell.selector, 3 ether, 2 ether));
        postRefused(
            2, ROOT, ROOT, 11 ether, abi.encodeWithSelector(Settlement.TotalAboveReceived.selector, 10 ether, 11 ether)
        );
        post(2, ROOT, keccak256("second"), 10 ether);
    }

    function test_only_a_bonded_account_posts() public {
        submit(NODE_KEY, 1);
        vm.warp(block.timestamp + W1);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotBonded.selector, client));
        settlement.postPayout(1, 0, ROOT, 0);
    }

    // ------------------------------------------------------------------ claims

    function test_every_account_of_the_vectors_claims_its_cumulative_amount_once() public {
        uint128 total = uint128(number(".payout.total"));
        finalise(total, word(".payout.root"), total);
        uint64 count = uint64(number(".payout.count"));
        uint256 paid = 0;
        for (uint64 i = 0; i < count; ++i) {
            string memory key = each(".payout.claims", i, "");
            address payee = account(string.concat(key, ".account"));
            uint128 cumulative = uint128(number(string.concat(key, ".cumulative")));
            uint128 previous = uint128(number(string.concat(key, ".previous")));
            bytes32 parts = word(string.concat(key, ".partsRoot"));
            bytes memory siblings = sumSiblings(key);
            uint256 before = payee.balance;
            vm.prank(payee);
            settlement.claim(previous, cumulative, parts, i, count, siblings);
            eq("paid", before + cumulative, payee.balance);
            eq("claimed", cumulative, settlement.claimed(payee));
            paid += cumulative;
            vm.prank(payee);
            vm.expectRevert(abi.encodeWithSelector(Settlement.NothingToClaim.selector, cumulative, cumulative));
            settlement.claim(previous, cumulative, parts, i, count, siblings);
        }
        eq("to the wei", total, paid);
        eq("left", 0, address(settlement).balance);
    }

    function test_a_claim_needs_a_final_payout() public {
        (bytes32 root,, bytes memory siblings) = pair(client, 1 ether, other, 2 ether);
        vm.prank(client);
        vm.expectRevert(Settlement.NoFinalPayout.selector);
        settlement.claim(0, 1 ether, 0, 0, 2, siblings);
        fund(3 ether);
        submit(NODE_KEY, 1);
        vm.warp(block.timestamp + W1);
        post(1, 0, root, 3 ether);
        vm.warp(block.timestamp + W2 - 1);
        vm.prank(client);
        vm.expectRevert(Settlement.NoFinalPayout.selector);
        settlement.claim(0, 1 ether, 0, 0, 2, siblings);
        vm.warp(block.timestamp + 1);
        vm.prank(client);
        settlement.claim(0, 1 ether, 0, 0, 2, siblings);
        eq("claimed", 1 ether, settlement.totalClaimed());
    }

    function test_a_claim_with_another_amount_account_or_sum_is_refused() public {
        (bytes32 root,, bytes memory siblings) = pair(client, 1 ether, other, 2 ether);
        finalise(3 ether, root, 3 ether);
        claimRefused(client, 2 ether, 0, siblings, Settlement.WrongClaimRoot.selector);
        claimRefused(other, 1 ether, 0, siblings, Settlement.WrongClaimRoot.selector);
        claimRefused(client, 1 ether, 1, siblings, Settlement.WrongClaimRoot.selector);
        siblings = abi.encodePacked(leafOf(other, 2 ether), uint128(1 ether));
        claimRefused(client, 1 ether, 0, siblings, Settlement.WrongClaimRoot.selector);
    }

    function test_a_tree_whose_total_is_not_the_posted_one_pays_nobody() public {
        (bytes32 root,, bytes memory siblings) = pair(client, 1 ether, other, 2 ether);
        finalise(10 ether, root, 2 ether);
        claimRefused(client, 1 ether, 0, siblings, Settlement.WrongTreeTotal.selector);
    }

    function test_a_wrong_second_tree_cannot_pay_more_than_its_total() public {
        (bytes32 root,, bytes memory siblings) = pair(client, 1 ether, other, 2 ether);
        finalise(10 ether, root, 3 ether);
        vm.prank(client);
        settlement.claim(0, 1 ether, 0, 0, 2, siblings);
        // The second tree forgets what the client was paid and gives all of it to others.
        bytes32 second;
        (second,, siblings) = pair(node, 1 ether, other, 2 ether);
        vm.warp(block.timestamp + EPOCH_MIN);
        submit(NODE_KEY, 2);
        vm.warp(block.timestamp + W1);
        post(2, root, second, 3 ether);
        vm.warp(block.timestamp + W2);
        vm.prank(node);
        settlement.claim(0, 1 ether, 0, 0, 2, siblings);
        (,, siblings) = pairOfSecond(node, 1 ether, other, 2 ether);
        vm.prank(other);
        vm.expectRevert(abi.encodeWithSelector(Settlement.ClaimsAboveTotal.selector, 3 ether, 4 ether));
        settlement.claim(0, 2 ether, 0, 1, 2, siblings);
    }

    function test_a_later_claim_pays_the_increment_and_only_once() public {
        (bytes32 root,, bytes memory siblings) = pair(client, 2 ether, other, 2 ether);
        finalise(10 ether, root, 4 ether);
        uint256 before = client.balance;
        vm.prank(client);
        settlement.claim(0, 2 ether, 0, 0, 2, siblings);
        bytes32 second;
        (second,, siblings) = pair(client, 5 ether, other, 4 ether);
        vm.warp(block.timestamp + EPOCH_MIN);
        submit(NODE_KEY, 2);
        vm.warp(block.timestamp + W1);
        post(2, root, second, 9 ether);
        vm.warp(block.timestamp + W2);
        vm.prank(client);
        settlement.claim(0, 5 ether, 0, 0, 2, siblings);
        eq("paid in all", before + 5 ether, client.balance);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NothingToClaim.selector, 5 ether, 5 ether));
        settlement.claim(0, 5 ether, 0, 0, 2, siblings);
    }

    function test_a_payee_that_refuses_sees_its_own_reason_and_keeps_its_claim() public {
        Refuser refuser = new Refuser();
        (bytes32 root,, bytes memory siblings) = pair(address(refuser), 1 ether, other, 2 ether);
        finalise(3 ether, root, 3 ether);
        vm.expectRevert(bytes("no thanks"));
        refuser.claim(settlement, 1 ether, 0, 2, siblings);
        eq("unclaimed", 0, settlement.claimed(address(refuser)));
    }

    function test_receiving_counts_every_wei() public {
        fund(1 ether);
        fund(2 ether);
        eq("received", 3 ether, settlement.totalReceived());
        uint256 tooMuch = uint256(type(uint128).max);
        vm.deal(address(this), tooMuch);
        vm.expectRevert(abi.encodeWithSelector(Settlement.AmountTooLarge.selector, tooMuch + 3 ether));
        settlement.receiveCollected{value: tooMuch}();
    }

    function test_constructor_refuses_zero_addresses() public {
        vm.expectRevert(abi.encodeWithSelector(Settlement.ZeroAddress.selector, "stakeManager"));
        new Settlement(W1, W2, EPOCH_MIN, FALLBACK, POSTER_BOND, StakeManager(payable(address(0))), protocol, PAYEE, PAYEE, STREAM);
        vm.expectRevert(abi.encodeWithSelector(Settlement.ZeroAddress.selector, "protocol"));
        new Settlement(W1, W2, EPOCH_MIN, FALLBACK, POSTER_BOND, stakes, address(0), PAYEE, PAYEE, STREAM);
        vm.expectRevert(abi.encodeWithSelector(Settlement.ZeroAddress.selector, "insurance"));
        new Settlement(W1, W2, EPOCH_MIN, FALLBACK, POSTER_BOND, stakes, protocol, address(0), PAYEE, STREAM);
        vm.expectRevert(abi.encodeWithSelector(Settlement.ZeroAddress.selector, "stakers"));
        new Settlement(W1, W2, EPOCH_MIN, FALLBACK, POSTER_BOND, stakes, protocol, PAYEE, address(0), STREAM);
        vm.expectRevert(abi.encodeWithSelector(Settlement.ZeroAddress.selector, "datanetTreasury"));
        new Settlement(W1, W2, EPOCH_MIN, FALLBACK, POSTER_BOND, stakes, protocol, PAYEE, PAYEE, ITreasury(address(0)));
        vm.expectRevert(abi.encodeWithSelector(Settlement.WindowTooShort.selector, 3, 2));
        new Settlement(2, W2, EPOCH_MIN, FALLBACK, POSTER_BOND, stakes, protocol, PAYEE, PAYEE, STREAM);
        vm.expectRevert(Settlement.ZeroBond.selector);
        new Settlement(W1, W2, EPOCH_MIN, FALLBACK, 0, stakes, protocol, PAYEE, PAYEE, STREAM);
        vm.expectRevert(abi.encodeWithSelector(Settlement.UnbondingTooShort.selector, UNBONDING, UNBONDING));
        new Settlement(UNBONDING - W2, W2, EPOCH_MIN, FALLBACK, POSTER_BOND, stakes, protocol, PAYEE, PAYEE, STREAM);
    }

    /// @notice Whatever two amounts a tree holds, both claims together are its total, or the tree cannot be posted.
    function testFuzz_claims_of_a_tree_are_its_total(uint128 first, uint128 second, uint64 more) public {
        first = uint128(1 + first % 1e30);
        second = uint128(1 + second % 1e30);
        (bytes32 root, uint128 total, bytes memory siblings) = pair(client, first, other, second);
        finalise(uint256(total) + more, root, total);
        uint256 before = client.balance + other.balance;
        vm.prank(client);
        settlement.claim(0, first, 0, 0, 2, siblings);
        (,, siblings) = pairOfSecond(client, first, other, second);
        vm.prank(other);
        settlement.claim(0, second, 0, 1, 2, siblings);
        eq("paid", before + total, client.balance + other.balance);
        eq("left", more, address(settlement).balance);
    }

    // ------------------------------------------------------------------ helpers

    function rootBody(address from, uint64 epoch, bytes32 root) private pure returns (bytes memory) {
        return abi.encodePacked(from, epoch, root, uint64(1), uint128(1 ether));
    }

    function submit(uint256 key, uint64 epoch) private {
        bytes memory body = rootBody(vm.addr(key), epoch, ROOT);
        settlement.submitNodeRoot(body, signed(key, address(settlement), Sig.NODE_ROOT, body));
    }

    function submitRefused(uint256 key, uint64 epoch, bytes memory reason) private {
        bytes memory body = rootBody(vm.addr(key), epoch, ROOT);
        bytes memory signature = signed(key, address(settlement), Sig.NODE_ROOT, body);
        vm.expectRevert(reason);
        settlement.submitNodeRoot(body, signature);
    }

    function post(uint64 epoch, bytes32 previous, bytes32 root, uint128 total) private {
        vm.prank(other);
        settlement.postPayout(epoch, previous, root, total);
    }

    function postRefused(uint64 epoch, bytes32 previous, bytes32 root, uint128 total, bytes memory reason) private {
        vm.prank(other);
        vm.expectRevert(reason);
        settlement.postPayout(epoch, previous, root, total);
    }

    function fund(uint256 amount) private {
        vm.deal(address(this), amount);
        settlement.receiveCollected{value: amount}();
    }

    function finalise(uint256 received, bytes32 root, uint128 total) private {
        fund(received);
        submit(NODE_KEY, 1);
        vm.warp(block.timestamp + W1);
        post(1, 0, root, total);
        vm.warp(block.timestamp + W2);
    }

    function leafOf(address payee, uint128 cumulative) private pure returns (bytes32) {
        return Trees.leaf(abi.encodePacked(payee, uint128(0), cumulative, bytes32(0)));
    }

    /// @dev A tree of two accounts, and the first one's siblings.
    function pair(address a, uint128 x, address b, uint128 y)
        private
        pure
        returns (bytes32 root, uint128 total, bytes memory siblings)
    {
        total = x + y;
        root = Trees.sumRoot(2, total, Trees.sumNode(leafOf(a, x), x, leafOf(b, y), y));
        siblings = abi.encodePacked(leafOf(b, y), y);
    }

    function pairOfSecond(address a, uint128 x, address b, uint128 y)
        private
        pure
        returns (bytes32 root, uint128 total, bytes memory siblings)
    {
        (root, total, siblings) = pair(a, x, b, y);
        siblings = abi.encodePacked(leafOf(a, x), x);
    }

    function claimRefused(address payee, uint128 cumulative, uint64 index, bytes memory siblings, bytes4 selector)
        private
    {
        vm.prank(payee);
        try settlement.claim(0, cumulative, 0, index, 2, siblings) {
            revert("expected a refusal");
        } catch (bytes memory reason) {
            eq("error", bytes32(selector), bytes32(bytes4(reason)));
        }
    }
}
