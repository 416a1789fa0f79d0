// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {ReceiptRules} from "../src/ReceiptRules.sol";
import {Sig} from "../src/Sig.sol";
import {Asking} from "./Asking.sol";
import {Pack} from "./Pack.sol";

/// @notice F6 by the client's request: who was asked for something else than it billed is convicted, and nobody else, whoever signed for the client.
contract RequestChallengeTest is Asking {
    uint256 private constant SESSION_KEY = 0x5E55;

    address private session = vm.addr(SESSION_KEY);

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
            root.shown, uint64(2), Pack.blob(receiptBody(answers[2])), Pack.blob(""), siblings(root, 2)
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
        eq("bond", CHALLENGE_BOND, desk.owed(ASKER));
        eq("none of it the node's", before, node.balance);
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
            eq("bond", 1_000 ether, ASKER.balance);
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

    // ------------------------------------------------------------------ session keys

    function test_a_session_of_the_client_signs_requests_while_it_is_live_and_when_it_has_ended() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        vm.prank(client);
        escrow.setSigner(session, 1 ether, 1_110);
        Root memory root = submit(NODE_KEY, one(a));
        Codec.Request memory second = honest(NODE_KEY, 1, SEED).request;
        second.spendingLimit = 0;
        uint256 clean = vm.snapshotState();
        for (uint256 k = 0; k < 3; ++k) {
            // Live; expired; revoked, and the revocation has taken effect.
            if (k == 1) vm.roll(1_111);
            if (k == 2) revoke(THAW);
            // Its word is the client's against the node, and for the node.
            challengeBy(SESSION_KEY, second, billed(root, 0), bytes4(0));
            desk.showRequest(requestBody(a.request), requestSigBy(SESSION_KEY, a.request), billed(root, 0));
            eq("bond", CHALLENGE_BOND, desk.owed(ASKER));
            vm.revertToState(clean);
        }
    }

    function test_a_key_that_never_was_the_clients_session_signs_no_request() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        Root memory root = submit(NODE_KEY, one(a));
        // It is somebody else's.
        vm.prank(other);
        escrow.setSigner(session, 1 ether, 1_110);
        Codec.Request memory second = honest(NODE_KEY, 1, SEED).request;
        second.spendingLimit = 0;
        challengeBy(SESSION_KEY, second, billed(root, 0), ReceiptChallenge.WrongSigner.selector);
        challengeBy(CLIENT_KEY, second, billed(root, 0), bytes4(0));
        bytes memory body = requestBody(a.request);
        bytes memory signature = requestSigBy(SESSION_KEY, a.request);
        bytes memory evidence = billed(root, 0);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.WrongSigner.selector, client, session));
        desk.showRequest(body, signature, evidence);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.WrongSigner.selector, client, address(0)));
        desk.showRequest(body, new bytes(65), evidence);
    }

    function testFuzz_no_call_of_the_client_erases_that_there_was_a_session(uint256 seed) public {
        vm.prank(client);
        escrow.setSigner(session, 1 ether, 1_110);
        for (uint256 i = 0; i < 6; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            if (random & 4 != 0) vm.roll(block.number + (random >> 8) % 20);
            if (random & 8 != 0) vm.warp(block.timestamp + (random >> 16) % (2 * THAW));
            bytes memory call = random & 1 == 0
                ? abi.encodeCall(InferenceEscrow.setSigner, (session, uint128(random >> 24), uint64(random >> 3) % 1_200))
                : abi.encodeCall(InferenceEscrow.revokeSigner, (session));
            if (random & 2 != 0) call = abi.encodeCall(InferenceEscrow.setSigner, (session, 0, 0));
            vm.prank(client);
            (bool done, bytes memory reason) = address(escrow).call(call);
            if (random & 2 != 0) yes("refused", !done && bytes4(reason) == InferenceEscrow.ZeroExpiry.selector);
            yes("on record", escrow.sessionOf(client, session).expiryBlock != 0);
        }
    }

    function test_a_session_is_not_erased_by_an_expiry_of_zero() public {
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.ZeroExpiry.selector, session));
        escrow.setSigner(session, 1 ether, 0);
        escrow.setSigner(session, 1 ether, 1_110);
        vm.roll(1_111);
        vm.expectRevert(abi.encodeWithSelector(InferenceEscrow.ZeroExpiry.selector, session));
        escrow.setSigner(session, 0, 0);
        vm.stopPrank();
        eq("kept", 1_110, escrow.sessionOf(client, session).expiryBlock);
    }

    // ------------------------------------------------------------------ helpers

    function revoke(uint64 delay) private {
        // The root stands in an epoch whose window must still be open: its clock is set back.
        uint256 now_ = block.timestamp;
        vm.warp(now_ - delay);
        vm.prank(client);
        escrow.revokeSigner(session);
        vm.warp(now_);
        yes("ended", block.timestamp >= escrow.sessionOf(client, session).revokedAt);
    }

    function challengeBy(uint256 key, Codec.Request memory asked, bytes memory evidence, bytes4 selector) private {
        bytes memory body = requestBody(asked);
        bytes memory sig = requestSigBy(key, asked);
        if (selector != 0) vm.expectPartialRevert(selector);
        vm.prank(ASKER);
        desk.challengeRequest{value: CHALLENGE_BOND}(body, sig, evidence);
    }

    function requestSigBy(uint256 key, Codec.Request memory asked) private view returns (bytes memory) {
        return signed(key, address(settlement), Sig.REQUEST, requestBody(asked));
    }

    function askRequest(Codec.Request memory asked, bytes memory evidence, bytes4 selector) private {
        challengeBy(CLIENT_KEY, asked, evidence, selector);
    }

    function requestSig(Codec.Request memory asked) private view returns (bytes memory) {
        return requestSigBy(CLIENT_KEY, asked);
    }

    function billed(Root memory root, uint256 index) private pure returns (bytes memory) {
        Answer memory a = root.answers[index];
        return abi.encodePacked(
            root.shown, uint64(index), Pack.blob(receiptBody(a)), Pack.blob(quoteBody(a)), siblings(root, index)
        );
    }
}
