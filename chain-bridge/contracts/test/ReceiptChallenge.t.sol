// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {NodeTrees} from "../src/NodeTrees.sol";
import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {ISettlement} from "../src/Ports.sol";
import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {ReceiptRules} from "../src/ReceiptRules.sol";
import {Sig} from "../src/Sig.sol";
import {Ledger} from "./Ledger.sol";
import {Pack} from "./Pack.sol";

/// @notice A challenger that takes no money until it is told to.
contract Coy {
    bool public accepts;

    function accept() external {
        accepts = true;
    }

    function ask(ReceiptChallenge desk, uint64 index, uint256 bond) external {
        desk.challengeLeaf{value: bond}(index);
    }

    receive() external payable {
        require(accepts, "not now");
    }
}

/// @notice F8, F6 by request, and payout trees nobody can open: who answers is paid for it, who does not is slashed.
contract ReceiptChallengeTest is Ledger {
    uint256 private constant SEED = (100 << 16) | (5 << 8) | 7;
    address private constant ASKER = address(0xA5);
    Share[] private none;

    ReceiptChallenge private desk;

    function setUp() public override {
        super.setUp();
        desk = ReceiptChallenge(challenges);
        vm.deal(ASKER, 10 ether);
    }

    // ------------------------------------------------------------------ F8

    function test_a_node_that_shows_the_receipt_is_given_the_bond() public {
        Root memory root = submitted();
        ask(root, 1);
        uint256 before = node.balance;
        desk.showReceipt(shown(root, 1));
        eq("bond", before + CHALLENGE_BOND, node.balance);
        // Answered is answered: it can be asked for, settled or answered no more.
        (bytes memory body, uint64 number) = bodyOf(root);
        vm.prank(ASKER);
        (bool again,) = address(desk).call{value: CHALLENGE_BOND}(abi.encodeCall(ReceiptChallenge.challengeReceipt, (body, number, 1)));
        yes("known", !again);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.settleReceipt(body, number, 1);
        eq("stake", 100 ether, stakes.stakeOf(node));
    }

    function test_a_node_that_stays_silent_is_slashed_and_none_of_its_receipts_is_paid() public {
        Root memory root = submitted();
        ask(root, 0);
        ask(root, 1);
        (bytes memory body, uint64 number) = bodyOf(root);
        vm.expectPartialRevert(ReceiptChallenge.StillOpen.selector);
        desk.settleReceipt(body, number, 0);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        bytes memory answer = shown(root, 0);
        vm.expectPartialRevert(ReceiptChallenge.TooLate.selector);
        desk.showReceipt(answer);
        desk.settleReceipt(body, number, 0);
        desk.settleReceipt(body, number, 1);
        eq("slashed once for a root", 90 ether, stakes.stakeOf(node));
        eq("both bonds are back", 10 ether, ASKER.balance);
        yes("withheld", desk.withheldAt(1, node) != 0);
        // The right tree is empty, and the node's late proof that a part is missing does not hold.
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        post(build(empty, new Root[](0), none));
        bytes memory late = abi.encodePacked(root.shown, uint64(0), uint32(1), Pack.blob(receiptBody(root.answers[0])), Pack.open(root.leaves, 0));
        refused(payouts, abi.encodeCall(PayoutVerifier.provePayout, (PayoutVerifier.Mode.Missing, late)), PayoutVerifier.PayoutHolds.selector);
    }

    function test_only_submitted_places_are_asked_for_in_time_and_with_the_bond() public {
        Root memory root = submitted();
        (bytes memory body, uint64 number) = bodyOf(root);
        vm.startPrank(ASKER);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.IndexBeyondCount.selector, 2, 2));
        desk.challengeReceipt{value: CHALLENGE_BOND}(body, number, 2);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.WrongBond.selector, CHALLENGE_BOND, 1));
        desk.challengeReceipt{value: 1}(body, number, 0);
        vm.expectRevert();
        desk.challengeReceipt{value: CHALLENGE_BOND}(body, number + 1, 0);
        // There must be time to answer and to settle before W1 ends.
        vm.warp(block.timestamp + W1 - 2 * ANSWER_SECONDS);
        desk.challengeReceipt{value: CHALLENGE_BOND}(body, number, 0);
        vm.warp(block.timestamp + 1);
        vm.expectPartialRevert(ReceiptChallenge.TooLate.selector);
        desk.challengeReceipt{value: CHALLENGE_BOND}(body, number, 1);
        vm.stopPrank();
    }

    function test_an_answer_is_the_receipt_at_that_place_with_all_its_parts_follow_from() public {
        Root memory root = submitted();
        ask(root, 0);
        Answer memory a = root.answers[0];
        bytes memory head = abi.encodePacked(root.shown, uint64(0), Pack.blob(receiptBody(a)));
        bytes memory sig = Pack.blob(receiptSig(a));
        bytes memory rest = abi.encodePacked(Pack.blob(quoteBody(a)), Pack.blob(manifestBody(a)));
        bytes memory opening = Pack.open(root.leaves, 0);
        refusedAnswer(abi.encodePacked(head, Pack.blob(new bytes(65)), rest, opening), FaultBase.ReceiptSignature.selector);
        refusedAnswer(abi.encodePacked(head, sig, Pack.blob(""), Pack.blob(manifestBody(a)), opening), ReceiptRules.NotTheQuote.selector);
        refusedAnswer(abi.encodePacked(head, sig, Pack.blob(quoteBody(a)), Pack.blob(""), opening), ReceiptRules.NotTheManifest.selector);
        refusedAnswer(abi.encodePacked(head, sig, rest, Pack.open(root.leaves, 1)), NodeTrees.NotInTree.selector);
        head = abi.encodePacked(root.shown, uint64(0), Pack.blob(receiptBody(root.answers[1])));
        sig = Pack.blob(receiptSig(root.answers[1]));
        rest = abi.encodePacked(Pack.blob(quoteBody(root.answers[1])), Pack.blob(manifestBody(root.answers[1])));
        refusedAnswer(abi.encodePacked(head, sig, rest, opening), NodeTrees.NotInTree.selector);
        desk.showReceipt(shown(root, 0));
    }

    function test_a_place_that_holds_no_receipt_of_its_node_cannot_be_shown() public {
        // A body with an unknown reason, and another node's receipt, under the node's own root.
        Answer[] memory answers = new Answer[](2);
        answers[0] = honest(NODE_KEY, 1, SEED);
        answers[0].receipt.reason = 9;
        answers[1] = honest(NODE_KEY, 2, SEED);
        answers[1].receipt.node = other;
        Root memory root = submit(NODE_KEY, answers);
        ask(root, 0);
        refusedAnswer(shown(root, 0), ReceiptChallenge.NotAReceiptOf.selector);
        refusedAnswer(shown(root, 1), ReceiptChallenge.NotAReceiptOf.selector);
        (bytes memory body, uint64 number) = bodyOf(root);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        desk.settleReceipt(body, number, 0);
        yes("slashed", stakes.stakeOf(node) < 100 ether);
    }

    // ------------------------------------------------------------------ F6 by request

    function test_a_request_is_held_only_against_a_billed_receipt_of_the_node_with_its_quote() public {
        Answer[] memory answers = new Answer[](3);
        for (uint64 i = 0; i < 3; ++i) answers[i] = honest(NODE_KEY, i, SEED);
        answers[0].receipt.reason = 16;
        answers[1].receipt.node = other;
        Codec.Request memory asked = answers[2].request;
        asked.spendingLimit = 0;
        Root memory root = submit(NODE_KEY, answers);
        askRequest(asked, billed(root, 0), ReceiptChallenge.NotAReceiptOf.selector);
        askRequest(asked, billed(root, 1), ReceiptChallenge.NotAReceiptOf.selector);
        bytes memory bare = abi.encodePacked(
            root.shown, uint64(2), Pack.blob(receiptBody(answers[2])), Pack.blob(""), Pack.open(root.leaves, 2)
        );
        askRequest(asked, bare, ReceiptRules.NotTheQuote.selector);
        askRequest(asked, billed(root, 2), 0);
    }

    function testFuzz_no_request_the_client_signed_convicts_an_honest_node(uint256 seed) public {
        Answer memory a = honest(NODE_KEY, 1, seed);
        Root memory root = submit(NODE_KEY, one(a));
        bytes memory evidence = billed(root, 0);
        // Its own request is met; a second one under the same id is answered by the first.
        askRequest(a.request, evidence, ReceiptChallenge.RequestIsMet.selector);
        Codec.Request memory second = honest(NODE_KEY, 1, seed).request;
        second.promptRoot = keccak256("another question");
        askRequest(second, evidence, bytes4(0));
        uint256 before = node.balance;
        desk.showRequest(requestBody(a.request), requestSig(a.request), evidence);
        eq("bond", before + CHALLENGE_BOND, node.balance);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.settleRequest(receiptBody(a));
        eq("stake", 100 ether, stakes.stakeOf(node));
    }

    function test_each_field_of_the_request_that_is_not_met_convicts() public {
        for (uint256 field = 0; field < 9; ++field) {
            uint256 clean = vm.snapshotState();
            Answer memory a = honest(NODE_KEY, 1, SEED);
            Codec.Request memory asked = a.request;
            if (field == 0) asked.manifestRoot = keccak256("other");
            if (field == 1) asked.promptRoot = keccak256("other");
            if (field == 2) asked.class = asked.class == 1 ? 2 : 1;
            if (field == 3) asked.maxRateIn = a.quote.rateIn - 1;
            if (field == 4) asked.maxRateOut = a.quote.rateOut - 1;
            if (field == 5) asked.maxTokens = a.receipt.tokensOut - 1;
            if (field == 6) asked.spendingLimit = a.receipt.fee - 1;
            if (field == 7) a.receipt.firstToken = 250;
            if (field == 8) a.receipt.client = address(9);
            Root memory root = submit(NODE_KEY, one(a));
            askRequest(asked, billed(root, 0), bytes4(0));
            bytes memory body = requestBody(asked);
            bytes memory sig = requestSig(asked);
            bytes memory evidence = billed(root, 0);
            vm.expectPartialRevert(ReceiptChallenge.RequestIsNotMet.selector);
            desk.showRequest(body, sig, evidence);
            vm.warp(block.timestamp + ANSWER_SECONDS);
            desk.settleRequest(receiptBody(a));
            eq("stake", 90 ether, stakes.stakeOf(node));
            yes("void", settlement.isVoid(keccak256(receiptBody(a))));
            eq("bond", 10 ether, ASKER.balance);
            vm.revertToState(clean);
        }
    }

    function test_requests_of_other_ids_and_signers_are_refused() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        Root memory root = submit(NODE_KEY, one(a));
        Codec.Request memory asked = a.request;
        asked.spendingLimit = 0;
        bytes memory body = requestBody(asked);
        bytes memory evidence = billed(root, 0);
        bytes memory sig = signed(NODE_KEY, address(settlement), Sig.REQUEST, body);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.WrongSigner.selector, client, node));
        vm.prank(ASKER);
        desk.challengeRequest{value: CHALLENGE_BOND}(body, sig, evidence);
        asked.nonce = 2;
        askRequest(asked, evidence, ReceiptChallenge.OtherRequest.selector);
    }

    // ------------------------------------------------------------------ payout trees

    function test_a_poster_that_opens_its_tree_is_given_the_bond() public {
        Tree memory tree = pending();
        askLeaf(0);
        askLeaf(99);
        uint256 before = other.balance;
        desk.showLeaf(0, leafAt(tree, 0));
        bytes memory last = leafAt(tree, tree.accounts.length - 1);
        bytes memory first = leafAt(tree, 0);
        vm.expectPartialRevert(ReceiptChallenge.OtherLeaf.selector);
        desk.showLeaf(99, first);
        desk.showLeaf(99, last);
        vm.prank(ASKER);
        desk.challengePart{value: CHALLENGE_BOND}(leafAt(tree, 1), 0);
        desk.showPart(0, abi.encodePacked(leafAt(tree, 1), partAt(tree, 1, 0)));
        eq("bonds", before + 3 * CHALLENGE_BOND, other.balance);
        vm.warp(block.timestamp + W2);
        eq("final", 1, settlement.lastFinal());
    }

    function test_a_poster_that_does_not_is_slashed_and_the_epoch_may_be_posted_again() public {
        Root memory root = submitted();
        for (uint256 i = 0; i < 2; ++i) collect(root.answers[i]);
        vm.warp(block.timestamp + W1);
        vm.prank(other);
        settlement.postPayout(1, 0, keccak256("no tree at all"), 1);
        askLeaf(0);
        askLeaf(1);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        desk.settleLeaf(0);
        eq("taken back", 0, settlement.pendingPayout().epoch);
        yes("slashed", stakes.slashableOf(other) < 50 ether);
        // The second challenge lost its object: its bond comes back to whoever asked, and to nobody else.
        bytes32 id = keccak256(abi.encode("leaf", uint64(1), keccak256("no tree at all"), uint64(block.timestamp - ANSWER_SECONDS), uint64(1)));
        vm.warp(block.timestamp + ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NotYours.selector);
        desk.reclaim(id);
        vm.prank(ASKER);
        desk.reclaim(id);
        eq("bonds", 10 ether, ASKER.balance);
        Tree memory empty;
        Root[] memory roots = new Root[](1);
        roots[0] = root;
        post(build(empty, roots, none));
    }

    function test_a_tree_without_leaves_and_a_leaf_without_parts_can_be_shown() public {
        Answer memory failed = honest(NODE_KEY, 1, SEED);
        failed.receipt.reason = 16;
        failed.receipt.fee = 0;
        submit(NODE_KEY, one(failed));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        Tree memory tree = build(empty, new Root[](0), none);
        post(tree);
        askLeaf(0);
        bytes memory head = Pack.sumHead(leaves(tree), tree.cumulative);
        desk.showLeaf(0, head);
        vm.warp(block.timestamp + W2);
        eq("final", 1, settlement.lastFinal());

        tree = pending();
        vm.warp(block.timestamp + W2);
        submit(NODE_KEY, one(failed));
        vm.warp(block.timestamp + W1);
        tree = build(tree, new Root[](0), none);
        post(tree);
        vm.prank(ASKER);
        desk.challengePart{value: CHALLENGE_BOND}(leafAt(tree, 0), 0);
        desk.showPart(0, abi.encodePacked(leafAt(tree, 0), Pack.sumHead(tree.parts[0], tree.amounts[0])));
        vm.warp(block.timestamp + W2);
        eq("final", 3, settlement.lastFinal());
    }

    function test_nothing_can_be_asked_of_a_payout_that_is_not_pending() public {
        vm.prank(ASKER);
        vm.expectRevert(ReceiptChallenge.NothingPending.selector);
        desk.challengeLeaf{value: CHALLENGE_BOND}(0);
        vm.expectRevert(ReceiptChallenge.NothingPending.selector);
        desk.settleLeaf(0);
    }

    function test_a_bond_comes_back_late_enough_and_to_who_takes_it() public {
        pending();
        Coy coy = new Coy();
        vm.deal(address(coy), CHALLENGE_BOND);
        coy.ask(desk, 0, CHALLENGE_BOND);
        ISettlement.Payout memory posted = ISettlement(address(settlement)).pendingPayout();
        bytes32 id = keccak256(abi.encode("leaf", posted.epoch, posted.root, posted.postedAt, uint64(0)));
        ReceiptChallenge.Challenge memory open = desk.challengeOf(id);
        eq("challenger", address(coy), open.challenger);
        eq("deadline", block.timestamp + ANSWER_SECONDS, open.deadline);
        vm.warp(open.deadline + ANSWER_SECONDS - 1);
        vm.expectPartialRevert(ReceiptChallenge.StillOpen.selector);
        vm.prank(address(coy));
        desk.reclaim(id);
        vm.expectPartialRevert(ReceiptChallenge.NothingOwed.selector);
        desk.withdrawOwed(address(coy));
        vm.warp(block.timestamp + 1);
        vm.prank(address(coy));
        desk.reclaim(id);
        eq("kept for it", CHALLENGE_BOND, desk.owed(address(coy)));
        eq("not taken yet", CHALLENGE_BOND, address(desk).balance);
        desk.withdrawOwed(address(coy));
        eq("kept again", CHALLENGE_BOND, desk.owed(address(coy)));
        coy.accept();
        desk.withdrawOwed(address(coy));
        eq("taken", CHALLENGE_BOND, address(coy).balance);
        eq("nothing owed", 0, desk.owed(address(coy)));
    }

    function test_there_is_time_to_answer() public {
        vm.expectRevert();
        vm.deployCode("ReceiptChallenge.sol:ReceiptChallenge", abi.encode(stakes, settlement, CHALLENGE_BOND, uint64(0)));
    }

    function test_parts_that_are_withheld_cost_the_poster_its_stake() public {
        Tree memory tree = pending();
        vm.prank(ASKER);
        desk.challengePart{value: CHALLENGE_BOND}(leafAt(tree, 1), 0);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        desk.settlePart(1, 0);
        eq("taken back", 0, settlement.pendingPayout().epoch);
    }

    function test_a_challenge_of_a_receipt_cannot_be_reclaimed_instead_of_settled() public {
        Root memory root = submitted();
        ask(root, 0);
        bytes32 id = keccak256(abi.encode("F8", uint64(1), node, uint64(0)));
        vm.warp(block.timestamp + 2 * ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NotYours.selector);
        vm.prank(ASKER);
        desk.reclaim(id);
        vm.prank(node);
        vm.expectPartialRevert(ReceiptChallenge.NotYours.selector);
        desk.reclaim(id);
    }

    // ------------------------------------------------------------------ helpers

    function submitted() private returns (Root memory) {
        Answer[] memory answers = new Answer[](2);
        for (uint64 i = 0; i < 2; ++i) answers[i] = honest(NODE_KEY, i, SEED + i);
        return submit(NODE_KEY, answers);
    }

    function pending() private returns (Tree memory tree) {
        Root[] memory roots = new Root[](1);
        roots[0] = submitted();
        for (uint256 i = 0; i < 2; ++i) collect(roots[0].answers[i]);
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        tree = build(empty, roots, none);
        post(tree);
    }

    function bodyOf(Root memory root) private view returns (bytes memory body, uint64 number) {
        body = bytes.concat(root.shown);
        assembly ("memory-safe") {
            mstore(body, 84)
        }
        number = uint64(block.number);
    }

    function ask(Root memory root, uint64 index) private {
        (bytes memory body, uint64 number) = bodyOf(root);
        vm.prank(ASKER);
        desk.challengeReceipt{value: CHALLENGE_BOND}(body, number, index);
    }

    function askLeaf(uint64 index) private {
        vm.prank(ASKER);
        desk.challengeLeaf{value: CHALLENGE_BOND}(index);
    }

    function askRequest(Codec.Request memory asked, bytes memory evidence, bytes4 selector) private {
        bytes memory body = requestBody(asked);
        bytes memory sig = requestSig(asked);
        if (selector != 0) vm.expectPartialRevert(selector);
        vm.prank(ASKER);
        desk.challengeRequest{value: CHALLENGE_BOND}(body, sig, evidence);
    }

    function requestSig(Codec.Request memory asked) private view returns (bytes memory) {
        return signed(CLIENT_KEY, address(settlement), Sig.REQUEST, requestBody(asked));
    }

    function shown(Root memory root, uint256 index) private view returns (bytes memory) {
        Answer memory a = root.answers[index];
        bytes memory head = abi.encodePacked(root.shown, uint64(index), Pack.blob(receiptBody(a)), Pack.blob(receiptSig(a)));
        return abi.encodePacked(head, Pack.blob(quoteBody(a)), Pack.blob(manifestBody(a)), Pack.open(root.leaves, index));
    }

    function billed(Root memory root, uint256 index) private pure returns (bytes memory) {
        Answer memory a = root.answers[index];
        return abi.encodePacked(
            root.shown, uint64(index), Pack.blob(receiptBody(a)), Pack.blob(quoteBody(a)), Pack.open(root.leaves, index)
        );
    }

    function refusedAnswer(bytes memory evidence, bytes4 selector) private {
        (bool done, bytes memory reason) = address(desk).call(abi.encodeCall(ReceiptChallenge.showReceipt, (evidence)));
        yes("refused", !done);
        eq("error", bytes32(selector), bytes32(bytes4(reason)));
    }
}
