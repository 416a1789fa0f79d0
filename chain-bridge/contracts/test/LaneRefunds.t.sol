// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BillingVerifier} from "../src/BillingVerifier.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {ReceiptRules} from "../src/ReceiptRules.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {PayoutProofs} from "./PayoutProofs.sol";

/// @notice What a lane's payer gets back, by slashes, notes and the refund together: each wei once, and no honest tree ever falls for it.
contract LaneRefundsTest is PayoutProofs {
    uint256 private constant SEED = (200 << 48) | (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;
    uint128 private constant BASE = 1 gwei;
    bytes1 private constant HIGHER = 0x00;
    bytes1 private constant WITNESS = 0x01;
    /// @dev The state before the tree that is pending.
    uint256 private clean;

    // ------------------------------------------------------------------ once, in whichever order

    function test_a_void_receipt_that_a_slash_repaid_is_not_refunded_again() public {
        Answer memory a = overcharged(1);
        collect(a);
        Root memory root = submit(NODE_KEY, one(a));
        StakeManager.Slash memory slash = convicted(a);
        Tree memory last = firstEpoch();
        vm.warp(slash.releaseAt);
        uint256 before = client.balance;
        stakes.release(slash, laneBody(a));
        eq("repaid", before + a.receipt.fee, client.balance);
        ask(a);
        eq("known", a.receipt.fee, desk().refundOf(a.receipt.lane).givenBack);
        nextEpoch();
        // What the lane collected below the receipt's stretch is left; the void receipt itself does not bound it.
        uint128 left = BASE - 1;
        refunded(last, a, left + 1, noWitness(), "", true);
        refunded(last, a, left, witness(root, 0), abi.encodePacked(WITNESS, root.shown, placed(root, 0)), true);
        refunded(last, a, left, noWitness(), hex"02", false);
        finalTree(refunded(last, a, left, noWitness(), higher(root), false), left);
    }

    function test_a_void_receipt_that_was_refunded_is_not_repaid_by_its_slash() public {
        Answer memory a = overcharged(1);
        collect(a);
        submit(NODE_KEY, one(a));
        StakeManager.Slash memory slash = convicted(a);
        Tree memory last = firstEpoch();
        ask(a);
        yes("closed", escrow.isClosed(a.receipt.lane));
        nextEpoch();
        Tree memory tree = refunded(last, a, a.receipt.cumulativeAfter, noWitness(), hex"02", false);
        finalTree(tree, a.receipt.cumulativeAfter);
        vm.warp(slash.releaseAt);
        uint256 before = client.balance;
        // The lane's body is needed no more: nothing can be given back on it.
        stakes.release(slash, "");
        eq("not twice", before, client.balance);
        eq("counted", 0, escrow.refundedOf(a.receipt.lane));
    }

    function test_what_notes_gave_back_is_not_refunded_and_no_note_is_claimed_after_the_request() public {
        (Answer memory a, Root memory root, Tree memory last) = noted();
        ask(a);
        claimCredit(honest(NODE_KEY, 1, SEED), 1, InferenceEscrow.LaneClosed.selector);
        nextEpoch();
        bounded(last, a, root, 30);
        // The claim that stood is paid all the same.
        vm.deal(address(this), 70);
        escrow.payCredit{value: 70}(laneBody(a), a.receipt.requestId);
    }

    function test_a_note_that_nobody_pays_is_given_up_for_the_refund() public {
        (Answer memory a, Root memory root, Tree memory last) = noted();
        vm.prank(client);
        escrow.dropCredit(laneBody(a), a.receipt.requestId);
        ask(a);
        nextEpoch();
        // All that the lane collected beyond its receipt.
        bounded(last, a, root, 100);
        vm.deal(address(this), 70);
        bytes memory lane = laneBody(a);
        vm.expectPartialRevert(InferenceEscrow.CreditNotOpen.selector);
        escrow.payCredit{value: 70}(lane, a.receipt.requestId);
    }

    function test_no_claim_is_given_up_after_the_refund_was_asked_for() public {
        (Answer memory a,,) = noted();
        ask(a);
        bytes memory lane = laneBody(a);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.LaneClosed.selector, a.receipt.lane));
        escrow.dropCredit(lane, a.receipt.requestId);
    }

    // ------------------------------------------------------------------ which receipts bound it

    function test_a_receipt_whose_money_came_late_bounds_the_refund_of_an_honest_tree() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        Root memory root = submit(NODE_KEY, one(a));
        vm.warp(block.timestamp + W1);
        collectMore(a, 55);
        Tree memory last = firstEpoch();
        ask(a);
        nextEpoch();
        bounded(last, a, root, 55);
    }

    function test_another_nodes_receipt_on_the_lane_bounds_the_refund_until_it_is_void() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collectMore(a, 55);
        Answer memory foreign = honest(OTHER_KEY, 2, SEED);
        (foreign.receipt.lane, foreign.receipt.cumulativeAfter) = (a.receipt.lane, a.receipt.cumulativeAfter);
        Root memory root = submit(OTHER_KEY, one(foreign));
        Tree memory last = firstEpochOf(root);
        ask(a);
        nextEpoch();
        bounded(last, a, root, 55);
    }

    // ------------------------------------------------------------------ who may ask

    function test_only_the_payer_closes_its_lane() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collect(a);
        bytes memory lane = laneBody(a);
        vm.roll(1_200 + MAX_AGE_BLOCKS + 1);
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(PayoutVerifier.OnlyPayer.selector, client, node));
        desk().requestRefund(lane, "");
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.OnlyVerifier.selector, node));
        escrow.closeLane(keccak256(lane));
        yes("open", !escrow.isClosed(keccak256(lane)));
    }

    function test_a_lane_of_which_nothing_is_left_has_no_refund_to_ask_for() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        vm.roll(1_200 + MAX_AGE_BLOCKS + 1);
        askRefused(a);
        vm.roll(1);
        collect(a);
        // All but a wei is given back: that wei is left to ask for.
        claimCredit(a, a.receipt.cumulativeAfter - 1, bytes4(0));
        uint256 before = vm.snapshotState();
        ask(honest(NODE_KEY, 1, SEED), 1);
        vm.revertToState(before);
        Answer memory again = honest(NODE_KEY, 1, SEED);
        again.receipt.requestId = keccak256("another");
        claimCredit(again, 1, bytes4(0));
        vm.roll(1_200 + MAX_AGE_BLOCKS + 1);
        askRefused(a);
        yes("and nothing is closed", !escrow.isClosed(a.receipt.lane));
        eq("nor due", 0, desk().refundOf(a.receipt.lane).epoch);
    }

    // ------------------------------------------------------------------ helpers

    /// @dev A lane that collected 100 beyond its receipt and has an open note of 70, and the final tree of its epoch.
    function noted() private returns (Answer memory a, Root memory root, Tree memory last) {
        a = honest(NODE_KEY, 1, SEED);
        collectMore(a, 100);
        root = submit(NODE_KEY, one(a));
        claimCredit(a, 70, bytes4(0));
        last = firstEpochOf(root);
    }

    function askRefused(Answer memory a) private {
        bytes memory lane = laneBody(a);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.NothingLeft.selector, keccak256(lane)));
        desk().requestRefund(lane, "");
    }

    function roots_(Root memory root) private pure returns (Root[] memory roots) {
        roots = new Root[](1);
        roots[0] = root;
    }

    function overcharged(uint64 nonce) private view returns (Answer memory a) {
        a = honest(NODE_KEY, nonce, SEED);
        a.receipt.fee += 1;
    }

    function convicted(Answer memory a) private returns (StakeManager.Slash memory slash) {
        uint128 before = stakes.slashableOf(a.receipt.node);
        ReceiptRules.Rule rule = ReceiptRules.Rule.Fee;
        proven(address(billing), abi.encodeCall(BillingVerifier.proveBroken, (rule, receiptBody(a), receiptSig(a), quoteBody(a), "")));
        slash = StakeManager.Slash({
            faultHash: keccak256(receiptBody(a)),
            account: a.receipt.node,
            amount: before - stakes.slashableOf(a.receipt.node),
            victim: a.receipt.client,
            victimAmount: a.receipt.fee,
            lane: a.receipt.lane,
            reporter: REPORTER,
            releaseAt: uint64(block.timestamp) + SLASH_DELAY
        });
    }

    function claimCredit(Answer memory a, uint128 amount, bytes4 refusal) private {
        bytes memory lane = laneBody(a);
        bytes32 request = refusal == 0 ? a.receipt.requestId : keccak256("another");
        bytes memory note = abi.encodePacked(a.receipt.lane, request, a.receipt.cumulativeAfter, amount, uint64(3_000));
        bytes memory signature = signed(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        vm.prank(client);
        if (refusal != 0) vm.expectPartialRevert(refusal);
        escrow.claimCredit(lane, note, signature);
    }

    /// @dev Epoch 1 is final with a tree of nobody.
    function firstEpoch() private returns (Tree memory last) {
        Root[] memory none;
        return settled(none);
    }

    /// @dev Epoch 1 is final with the parts of one root.
    function firstEpochOf(Root memory root) private returns (Tree memory last) {
        return settled(roots_(root));
    }

    function settled(Root[] memory roots) private returns (Tree memory last) {
        Tree memory empty;
        last = build(empty, roots, new Share[](0));
        vm.warp(block.timestamp + W1);
        post(last);
        vm.warp(block.timestamp + W2);
    }

    function ask(Answer memory a) private {
        ask(a, 2);
    }

    function ask(Answer memory a, uint64 epoch) private {
        vm.roll(1_200 + MAX_AGE_BLOCKS + 1);
        vm.prank(client);
        desk().requestRefund(laneBody(a), "");
        eq("due", epoch, desk().refundOf(a.receipt.lane).epoch);
    }

    function nextEpoch() private {
        vm.warp(block.timestamp + EPOCH_MIN);
        submit(OTHER_KEY, new Answer[](0));
        vm.warp(block.timestamp + W1);
    }

    /// @dev Posts the tree of epoch 2, which refunds `amount` on the lane of `a`, and holds `shown` against it. Forgotten again but for the last
    /// one that stands.
    function refunded(Tree memory last, Answer memory a, uint128 amount, bytes memory witnessed, bytes memory shown, bool convicts)
        private
        returns (Tree memory tree)
    {
        if (settlement.pendingPayout().epoch != 0) vm.revertToState(clean);
        Root[] memory none;
        tree = build(last, none, refund(client, a.quote.node, amount, a.receipt.lane, witnessed));
        clean = vm.snapshotState();
        post(tree);
        if (convicts) isWrong(PayoutVerifier.Mode.Refund, evidence(tree, shown));
        else holds(PayoutVerifier.Mode.Refund, evidence(tree, shown));
    }

    /// @dev The refund is `amount`, bounded by the first receipt under `root`, and nothing else, whatever is named or shown.
    function bounded(Tree memory last, Answer memory a, Root memory root, uint128 amount) private {
        bytes memory own = abi.encodePacked(WITNESS, root.shown, placed(root, 0));
        refunded(last, a, amount + 1, witness(root, 0), own, true);
        refunded(last, a, amount - 1, witness(root, 0), own, true);
        refunded(last, a, amount + 1, witness(root, 0), higher(root), true);
        refunded(last, a, amount + 1, noWitness(), higher(root), true);
        refunded(last, a, amount, noWitness(), hex"02", true);
        refunded(last, a, amount, witness(root, 0), higher(root), false);
        refunded(last, a, amount, witness(root, 0), own, false);
    }

    function evidence(Tree memory tree, bytes memory shown) private view returns (bytes memory) {
        uint256 i = indexOf(tree, client);
        return abi.encodePacked(leafAt(tree, i), partAt(tree, i, tree.parts[i].length - 1), shown);
    }

    /// @dev The first receipt under a root, as one that bounds a refund.
    function higher(Root memory root) private pure returns (bytes memory) {
        return abi.encodePacked(HIGHER, root.shown, uint64(0), placed(root, 0));
    }

    function finalTree(Tree memory tree, uint128 amount) private {
        vm.warp(block.timestamp + W2);
        eq("final", 2, settlement.lastFinal());
        uint256 i = indexOf(tree, client);
        eq("the payer's", amount, tree.cumulative[i]);
    }
}
