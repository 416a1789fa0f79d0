// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FaultBase} from "../src/FaultBase.sol";
import {NodeTrees} from "../src/NodeTrees.sol";
import {Openings} from "../src/Openings.sol";
import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {ReceiptRules} from "../src/ReceiptRules.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {Trees} from "../src/Trees.sol";
import {Asking} from "./Asking.sol";
import {Pack} from "./Pack.sol";
import {Vm} from "./Vm.sol";

/// @notice F8 by stretches: a node that shows what it signed is never slashed, one that cannot is; and what a node says of its
/// tree that does not hold ends as a receipt that nobody can show.
contract StretchesTest is Asking {
    // ------------------------------------------------------------------ shown

    function test_a_node_that_shows_a_stretch_has_answered_it_for_good() public {
        Root memory root = submitted(5);
        ask(root, 1, 3);
        uint256 before = node.balance;
        show(root, 1, 3, 1, 3, bytes4(0));
        eq("gas is free here: all is the challenger's again", 3 * CHALLENGE_BOND, desk.owed(ASKER));
        eq("the node earns nothing", before, node.balance);
        desk.withdrawOwed(ASKER);
        eq("nothing kept", 0, address(desk).balance);
        eq("back", 1_000 ether, ASKER.balance);
        // Answered is answered: it can be asked for, settled or answered no more.
        vm.prank(ASKER);
        vm.expectPartialRevert(ReceiptChallenge.KnownChallenge.selector);
        desk.challengeReceipts{value: 3 * CHALLENGE_BOND}(root.body, blockOf(root), 1, 3);
        show(root, 1, 3, 1, 3, ReceiptChallenge.NoChallenge.selector);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.settleReceipts(root.body, blockOf(root), 1, 3);
        eq("stake", 100 ether, stakes.stakeOf(node));
    }

    function test_calls_of_anybody_share_a_stretch_in_order_and_the_last_one_answers_it() public {
        Root memory root = submitted(6);
        ask(root, 1, 4);
        bytes32 id = idOf(root, 1, 4);
        show(root, 1, 4, 2, 1, ReceiptChallenge.NotNext.selector);
        vm.prank(author);
        show(root, 1, 4, 1, 1, bytes4(0));
        eq("shown", 1, desk.challengeOf(id).shown);
        // None left out, none before the stretch, none at all, and none beyond it.
        show(root, 1, 4, 3, 1, ReceiptChallenge.NotNext.selector);
        show(root, 1, 4, 0, 1, ReceiptChallenge.NotNext.selector);
        show(root, 1, 4, 2, 0, ReceiptChallenge.NothingShown.selector);
        show(root, 1, 4, 2, 4, Openings.TrailingBytes.selector);
        vm.prank(ASKER);
        show(root, 1, 4, 2, 2, bytes4(0));
        eq("shown", 3, desk.challengeOf(id).shown);
        eq("of what was shown", 3 * CHALLENGE_BOND, desk.owed(ASKER));
        yes("open", !desk.challengeOf(id).closed);
        show(root, 1, 4, 4, 1, bytes4(0));
        yes("closed", desk.challengeOf(id).closed);
        eq("the whole bond", 4 * CHALLENGE_BOND, desk.owed(ASKER));
    }

    function test_who_is_ahead_of_the_node_makes_none_of_its_calls_fail() public {
        Root memory root = submitted(4);
        ask(root, 0, 4);
        bytes32 id = idOf(root, 0, 4);
        vm.prank(author);
        show(root, 0, 4, 0, 1, bytes4(0));
        // The node's call was on its way with the same one and two more.
        vm.recordLogs();
        show(root, 0, 4, 0, 3, bytes4(0));
        eq("only what is new is told, and what is left of its bonds", 3, vm.getRecordedLogs().length);
        eq("shown", 3, desk.challengeOf(id).shown);
        // One that is ahead with all of a call leaves nothing for it to do: it changes nothing, pays nothing, and does not fail.
        vm.recordLogs();
        show(root, 0, 4, 1, 2, bytes4(0));
        eq("told", 0, vm.getRecordedLogs().length);
        eq("shown", 3, desk.challengeOf(id).shown);
        eq("none of the bond", 3 * CHALLENGE_BOND, desk.owed(ASKER));
        // What is passed over is not read, but its lengths are.
        bytes memory junk = abi.encodePacked(Pack.blob("a"), Pack.blob(""), Pack.blob("bc"), Pack.blob(""));
        bytes memory shape = abi.encodePacked(root.shown, uint64(0), uint64(4), uint64(2), junk);
        refusedAnswer(abi.encodePacked(shape, new bytes(95)), Openings.Truncated.selector);
        desk.showReceipts(abi.encodePacked(shape, new bytes(96)));
        refusedAnswer(abi.encodePacked(shape, new bytes(97)), Openings.Truncated.selector);
        eq("shown", 3, desk.challengeOf(id).shown);
        desk.showReceipts(abi.encodePacked(shape, new bytes(96), one_(root, 3)));
        yes("closed", desk.challengeOf(id).closed);
        eq("the whole bond, once", 4 * CHALLENGE_BOND, desk.owed(ASKER));
        show(root, 0, 4, 3, 1, ReceiptChallenge.NoChallenge.selector);
    }

    /// forge-config: default.fuzz.runs = 32
    function testFuzz_an_honest_node_shows_any_stretch_in_any_calls(uint256 seed) public {
        Answer[] memory answers = new Answer[](1 + seed % 9);
        uint256 key = (seed >> 8) & 1 == 0 ? NODE_KEY : OTHER_KEY;
        for (uint64 i = 0; i < answers.length; ++i) answers[i] = honest(key, i, uint256(keccak256(abi.encode(seed, i))) >> 1);
        if ((seed >> 9) & 1 == 0) fail(answers[0]);
        Root memory root = submit(key, answers);
        uint256 first = (seed >> 16) % answers.length;
        uint256 count = 1 + (seed >> 32) % (answers.length - first);
        ask(root, first, count);
        uint256 stake = stakes.stakeOf(root.node);
        for (uint256 done = 0; done < count;) {
            uint256 more = 1 + uint256(keccak256(abi.encode(seed, "call", done))) % (count - done);
            uint256 again = uint256(keccak256(abi.encode(seed, "again", done))) % (done + 1);
            vm.prank(address(uint160(uint256(keccak256(abi.encode(seed, "caller", done))))));
            show(root, first, count, first + done - again, more + again, bytes4(0));
            done += more;
        }
        eq("bond", count * CHALLENGE_BOND, desk.owed(ASKER));
        vm.warp(block.timestamp + ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.settleReceipts(root.body, blockOf(root), uint64(first), uint64(count));
        eq("stake", stake, stakes.stakeOf(root.node));
        eq("never withheld", 0, desk.withheldAt(root.epoch, root.node));
    }

    function test_an_answer_is_the_receipt_at_that_place_with_all_its_parts_follow_from() public {
        Root memory root = submitted(2);
        ask(root, 0, 1);
        Answer memory a = root.answers[0];
        bytes memory head = abi.encodePacked(root.shown, uint64(0), uint64(1), uint64(0), Pack.blob(receiptBody(a)));
        bytes memory sig = Pack.blob(receiptSig(a));
        bytes memory quote = Pack.blob(quoteBody(a));
        bytes memory rest = abi.encodePacked(quote, Pack.blob(manifestBody(a)));
        bytes memory up = siblings(root, 0);
        refusedAnswer(abi.encodePacked(head, Pack.blob(new bytes(65)), rest, up), FaultBase.ReceiptSignature.selector);
        refusedAnswer(abi.encodePacked(head, sig, Pack.blob(""), Pack.blob(manifestBody(a)), up), ReceiptRules.NotTheQuote.selector);
        refusedAnswer(abi.encodePacked(head, sig, quote, Pack.blob(""), up), ReceiptRules.NotTheManifest.selector);
        refusedAnswer(abi.encodePacked(head, sig, rest, siblings(root, 1)), NodeTrees.NotInTree.selector);
        refusedAnswer(abi.encodePacked(head, sig, rest, up, hex"00"), Openings.TrailingBytes.selector);
        show(root, 0, 1, 1, 1, ReceiptChallenge.NotNext.selector);
        refusedAnswer(abi.encodePacked(root.shown, uint64(0), uint64(1), uint64(0), one_(root, 1)), NodeTrees.NotInTree.selector);
        show(root, 0, 1, 0, 1, bytes4(0));
    }

    function test_a_receipt_that_bills_nothing_needs_neither_quote_nor_manifest() public {
        Answer[] memory answers = new Answer[](2);
        for (uint64 i = 0; i < 2; ++i) answers[i] = honest(NODE_KEY, i, SEED);
        fail(answers[0]);
        // Hashes of bytes that are no quote and no manifest, or that nobody knows.
        (answers[0].receipt.quoteHash, answers[0].receipt.manifestRoot) = (keccak256("no quote"), keccak256("no manifest"));
        Root memory root = submit(NODE_KEY, answers);
        ask(root, 0, 2);
        bytes memory head = abi.encodePacked(root.shown, uint64(0), uint64(2), uint64(0));
        bytes memory bare = abi.encodePacked(head, partly(root, 0, "", ""));
        // With the bytes that it names it may be shown too, with others not.
        refusedAnswer(abi.encodePacked(head, partly(root, 0, "other", "")), ReceiptRules.NotTheQuote.selector);
        uint256 clean = vm.snapshotState();
        desk.showReceipts(abi.encodePacked(head, partly(root, 0, "no quote", "no manifest")));
        vm.revertToState(clean);
        desk.showReceipts(abi.encodePacked(bare, one_(root, 1)));
        eq("bond", 2 * CHALLENGE_BOND, desk.owed(ASKER));
    }

    function test_what_is_shown_fits_beside_a_proof_that_a_payout_is_wrong() public {
        uint256 most = desk.NAMED_BYTES_MAX();
        uint256 clean = vm.snapshotState();
        // As its quote, then as its manifest, a receipt names bytes that are none: as many as may be shown, and one more.
        for (uint256 k = 0; k < 4; ++k) {
            bytes memory named = new bytes(k < 2 ? most : most + 1);
            Answer[] memory answers = new Answer[](1);
            answers[0] = honest(NODE_KEY, 1, SEED);
            Answer memory a = answers[0];
            if (k % 2 == 0) a.receipt.quoteHash = keccak256(named);
            else a.receipt.manifestRoot = keccak256(named);
            Root memory root = submit(NODE_KEY, answers);
            ask(root, 0, 1);
            bytes memory head = abi.encodePacked(root.shown, uint64(0), uint64(1), uint64(0));
            bytes memory shown = k % 2 == 0 ? partly(root, 0, named, manifestBody(a)) : partly(root, 0, quoteBody(a), named);
            if (k < 2) desk.showReceipts(abi.encodePacked(head, shown));
            else refusedAnswer(abi.encodePacked(head, shown), ReceiptChallenge.NamedTooLong.selector);
            vm.revertToState(clean);
        }
    }

    // ------------------------------------------------------------------ not shown

    function test_a_node_that_stays_silent_is_slashed_once_and_none_of_its_receipts_is_paid() public {
        Root memory root = submitted(4);
        ask(root, 0, 3);
        ask(root, 3, 1);
        vm.expectPartialRevert(ReceiptChallenge.StillOpen.selector);
        desk.settleReceipts(root.body, blockOf(root), 0, 3);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        show(root, 0, 3, 0, 3, ReceiptChallenge.TooLate.selector);
        desk.settleReceipts(root.body, blockOf(root), 0, 3);
        desk.settleReceipts(root.body, blockOf(root), 3, 1);
        eq("slashed once for a root", 90 ether, stakes.stakeOf(node));
        eq("both bonds are back", 1_000 ether, ASKER.balance);
        yes("withheld", desk.withheldAt(1, node) != 0);
        // The right tree is empty, and the node's late proof that a part is missing does not hold.
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        post(build(empty, new Root[](0), none));
        bytes memory late = abi.encodePacked(root.shown, uint64(0), uint32(1), placed(root, 0));
        refused(payouts, abi.encodeCall(PayoutVerifier.provePayout, (PayoutVerifier.Mode.Missing, late)), PayoutVerifier.PayoutHolds.selector);
    }

    function test_a_deadline_in_the_middle_of_a_stretch_ends_it() public {
        Root memory root = submitted(3);
        ask(root, 0, 3);
        show(root, 0, 3, 0, 2, bytes4(0));
        vm.warp(block.timestamp + ANSWER_SECONDS - 1);
        uint256 clean = vm.snapshotState();
        show(root, 0, 3, 2, 1, bytes4(0));
        vm.revertToState(clean);
        vm.warp(block.timestamp + 1);
        show(root, 0, 3, 2, 1, ReceiptChallenge.TooLate.selector);
        uint256 before = node.balance;
        desk.settleReceipts(root.body, blockOf(root), 0, 3);
        eq("what was not shown is back", 1_000 ether - 2 * CHALLENGE_BOND, ASKER.balance);
        eq("and so is what was", 2 * CHALLENGE_BOND, desk.owed(ASKER));
        eq("and none of it the node's", before, node.balance);
        eq("stake", 90 ether, stakes.stakeOf(node));
    }

    /// @notice Whatever stretches are asked for, a node shows each receipt once: else a root of 300 receipts could be asked for a million.
    function test_a_node_that_showed_every_receipt_in_time_is_not_slashed_for_a_stretch_that_overlaps() public {
        Root memory root = submitted(6);
        ask(root, 0, 6);
        show(root, 0, 6, 0, 6, bytes4(0));
        for (uint64 first = 0; first < 6; ++first) {
            for (uint64 count = 1; first + count <= 6; ++count) refusedStretch(root, first, count);
        }
        vm.warp(block.timestamp + ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.settleReceipts(root.body, blockOf(root), 1, 2);
        eq("stake", 100 ether, stakes.stakeOf(node));
    }

    /// @notice Stretches are taken as long as none of their receipts was asked for, wherever they lie.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_each_receipt_is_asked_for_once(uint256 seed) public {
        Root[2] memory roots;
        for (uint256 k = 0; k < 2; ++k) {
            roots[k] = rooted(k == 0 ? NODE_KEY : OTHER_KEY, new Answer[](0));
            submitAs(k == 0 ? NODE_KEY : OTHER_KEY, roots[k], keccak256("many"), 600, 0);
        }
        bool[600][2] memory known;
        for (uint256 i = 0; i < 24; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            // Often short, now and then as long as may be, often at the ends of words.
            uint256 count = 1 + (random >> 8) % (random % 4 == 0 ? 256 : 9);
            uint256 first = (random >> 4) % 2 == 0 ? (random >> 32) % (601 - count) : 256 * ((random >> 40) % 2);
            bool isFresh = true;
            for (uint256 j = first; j < first + count; ++j) isFresh = isFresh && !known[random & 1][j];
            if (!isFresh) {
                refusedStretch(roots[random & 1], uint64(first), uint64(count));
                continue;
            }
            ask(roots[random & 1], first, count);
            for (uint256 j = first; j < first + count; ++j) known[random & 1][j] = true;
        }
    }

    function test_a_place_that_holds_no_receipt_of_its_node_cannot_be_shown_and_stops_its_stretch() public {
        // A body with an unknown reason, and another node's receipt, under the node's own root.
        Answer[] memory answers = new Answer[](4);
        for (uint64 i = 0; i < 4; ++i) answers[i] = honest(NODE_KEY, i, SEED);
        answers[1].receipt.reason = 9;
        answers[3].receipt.node = other;
        Root memory root = submit(NODE_KEY, answers);
        ask(root, 0, 3);
        ask(root, 3, 1);
        show(root, 0, 3, 0, 1, bytes4(0));
        show(root, 0, 3, 1, 1, ReceiptChallenge.NotAReceiptOf.selector);
        show(root, 0, 3, 2, 1, ReceiptChallenge.NotNext.selector);
        show(root, 3, 1, 3, 1, ReceiptChallenge.NotAReceiptOf.selector);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        desk.settleReceipts(root.body, blockOf(root), 0, 3);
        yes("slashed", stakes.stakeOf(node) < 100 ether);
    }

    // ------------------------------------------------------------------ what a root says of its tree

    function test_a_wrong_amount_in_a_leaf_cannot_be_opened_and_the_root_is_withheld() public {
        Root memory root = threeReceipts();
        root.fees[1] += 1;
        (bytes32 top, uint128 sum) = Pack.sumRoot(root.leaves, root.fees);
        submitAs(NODE_KEY, root, top, 3, sum);
        // Its own amounts are the siblings' of the others, which open.
        ask(root, 0, 1);
        show(root, 0, 1, 0, 1, bytes4(0));
        withheld(root, 1, NodeTrees.NotInTree.selector);
    }

    function test_a_fee_sum_that_is_not_the_trees_opens_no_receipt() public {
        uint256 clean = vm.snapshotState();
        for (uint256 k = 0; k < 4; ++k) {
            Root memory root = threeReceipts();
            (bytes32 top, uint128 sum) = Pack.sumRoot(root.leaves, root.fees);
            // A wei less, a wei more, nothing; and a root that binds the lie.
            uint128 lie = k == 0 ? sum - 1 : k == 1 ? sum + 1 : k == 2 ? 0 : sum - 1;
            bytes memory head = Pack.sumHead(root.leaves, root.fees);
            if (k == 3) top = Trees.sumRoot(3, lie, bytes32(slice(head, 24, 32)));
            submitAs(NODE_KEY, root, top, 3, lie);
            withheld(root, k % 3, k == 3 ? NodeTrees.NotInTree.selector : NodeTrees.FeesOfTree.selector);
            vm.revertToState(clean);
        }
    }

    function test_an_amount_beyond_the_receipts_leaves_the_last_one_unopened() public {
        Root memory root = threeReceipts();
        bytes[] memory all = new bytes[](4);
        uint128[] memory amounts = new uint128[](4);
        for (uint256 i = 0; i < 3; ++i) (all[i], amounts[i]) = (root.leaves[i], root.fees[i]);
        (all[3], amounts[3]) = ("hidden", 77);
        bytes memory head = Pack.sumHead(all, amounts);
        uint128 sum = uint128(slice(head, 8, 16));
        (root.leaves, root.fees) = (all, amounts);
        submitAs(NODE_KEY, root, Trees.sumRoot(3, sum, bytes32(slice(head, 24, 32))), 3, sum);
        ask(root, 0, 2);
        show(root, 0, 2, 0, 2, bytes4(0));
        withheld(root, 2, NodeTrees.BeyondReceipts.selector);
    }

    function test_a_count_that_is_not_the_trees_opens_no_receipt() public {
        for (uint64 count = 2; count < 5; count += 2) {
            uint256 clean = vm.snapshotState();
            Root memory root = threeReceipts();
            (bytes32 top, uint128 sum) = Pack.sumRoot(root.leaves, root.fees);
            submitAs(NODE_KEY, root, top, count, sum);
            bytes memory evidence = abi.encodePacked(root.shown, uint64(0), uint64(0), one_(root, 0));
            refusedAnswer(evidence, NodeTrees.NotInTree.selector);
            vm.revertToState(clean);
        }
    }

    function test_a_root_of_no_receipts_is_the_empty_one_and_sums_nothing() public {
        Root memory root = rooted(NODE_KEY, new Answer[](0));
        (bytes32 top,) = Pack.sumRoot(root.leaves, root.fees);
        bytes32[2] memory roots = [keccak256("something"), top];
        for (uint128 sum = 0; sum < 2; ++sum) {
            bytes memory body = abi.encodePacked(node, root.epoch, roots[sum], uint64(0), sum);
            bytes memory signature = signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body);
            vm.expectRevert(abi.encodeWithSelector(Settlement.NotEmpty.selector, roots[sum]));
            settlement.submitNodeRoot(body, signature);
        }
        submitAs(NODE_KEY, root, top, 0, 0);
    }

    // ------------------------------------------------------------------ asked for

    function test_only_submitted_places_are_asked_for_in_time_and_with_the_bond_of_each() public {
        Root memory root = submitted(4);
        vm.startPrank(ASKER);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.StretchBeyondCount.selector, 5, 4));
        desk.challengeReceipts{value: 2 * CHALLENGE_BOND}(root.body, blockOf(root), 3, 2);
        vm.expectPartialRevert(ReceiptChallenge.StretchBeyondCount.selector);
        desk.challengeReceipts{value: 2 * CHALLENGE_BOND}(root.body, blockOf(root), type(uint64).max, 2);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.StretchCount.selector, 256, 0));
        desk.challengeReceipts(root.body, blockOf(root), 0, 0);
        for (uint256 k = 1; k < 4; k += 2) {
            vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.WrongBond.selector, 2 * CHALLENGE_BOND, k * CHALLENGE_BOND));
            desk.challengeReceipts{value: k * CHALLENGE_BOND}(root.body, blockOf(root), 0, 2);
        }
        vm.expectPartialRevert(Settlement.WrongNodeRoot.selector);
        desk.challengeReceipts{value: CHALLENGE_BOND}(root.body, blockOf(root) + 1, 0, 1);
        // There must be time to answer and to settle before W1 ends.
        vm.warp(block.timestamp + W1 - 2 * ANSWER_SECONDS);
        desk.challengeReceipts{value: 4 * CHALLENGE_BOND}(root.body, blockOf(root), 0, 4);
        vm.warp(block.timestamp + 1);
        vm.expectPartialRevert(ReceiptChallenge.TooLate.selector);
        desk.challengeReceipts{value: CHALLENGE_BOND}(root.body, blockOf(root), 0, 1);
        vm.stopPrank();
    }

    function test_a_stretch_has_at_most_256_receipts() public {
        Root memory root = rooted(NODE_KEY, new Answer[](0));
        submitAs(NODE_KEY, root, keccak256("many"), 300, 0);
        vm.startPrank(ASKER);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.StretchCount.selector, 256, 257));
        desk.challengeReceipts{value: 257 * CHALLENGE_BOND}(root.body, blockOf(root), 0, 257);
        desk.challengeReceipts{value: 256 * CHALLENGE_BOND}(root.body, blockOf(root), 44, 256);
        vm.stopPrank();
    }

    function test_a_challenge_of_receipts_cannot_be_reclaimed_instead_of_settled() public {
        Root memory root = submitted(2);
        ask(root, 0, 2);
        bytes32 id = idOf(root, 0, 2);
        vm.warp(block.timestamp + 2 * ANSWER_SECONDS);
        vm.expectPartialRevert(ReceiptChallenge.NotYours.selector);
        vm.prank(ASKER);
        desk.reclaim(id);
        vm.prank(node);
        vm.expectPartialRevert(ReceiptChallenge.NotYours.selector);
        desk.reclaim(id);
    }

    /// @notice Whatever is asked for, shown, left and settled in any order: what is kept is the bonds of what was not shown yet, and what is owed.
    /// forge-config: default.fuzz.runs = 32
    /// forge-config: default.isolate = false
    function testFuzz_every_bond_is_who_showed_the_challengers_or_kept_for_an_open_challenge(uint256 seed) public {
        Root memory root = submitted(4);
        vm.fee(1 gwei);
        address shower = address(0x5403);
        for (uint256 i = 0; i < 12; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            (uint64 first, uint64 count) = (uint64(random >> 8) % 2, 1 + uint64(random >> 16) % 3);
            bytes memory call = abi.encodeCall(ReceiptChallenge.challengeReceipts, (root.body, blockOf(root), first, count));
            if (random % 8 > 3) call = abi.encodeCall(ReceiptChallenge.showReceipts, (answerOf(root, first, count, random >> 32)));
            if (random % 8 == 7) call = abi.encodeCall(ReceiptChallenge.settleReceipts, (root.body, blockOf(root), first, count));
            uint256 paid = shower.balance;
            vm.prank(random % 8 < 4 ? ASKER : shower);
            (bool done,) = address(desk).call{value: random % 8 < 4 ? count * CHALLENGE_BOND : 0}(call);
            bool isShown = done && random % 8 > 3 && random % 8 < 7;
            yes("who shows is paid, nobody else", (shower.balance > paid) == isShown);
            if ((random >> 40) % 4 == 0) vm.warp(block.timestamp + 1);
        }
        uint256 kept = 0;
        for (uint64 first = 0; first < 2; ++first) {
            for (uint64 count = 1; count < 4; ++count) {
                ReceiptChallenge.Challenge memory asked = desk.challengeOf(idOf(root, first, count));
                if (asked.challenger != address(0) && !asked.closed) kept += count - asked.shown;
            }
        }
        eq("kept", kept * CHALLENGE_BOND + desk.owed(ASKER), address(desk).balance);
        eq("all", 1_000 ether, ASKER.balance + shower.balance + address(desk).balance);
    }

    // ------------------------------------------------------------------ published

    function test_anybody_publishes_receipts_that_nobody_asked_for() public {
        Root memory root = submitted(3);
        ask(root, 1, 2);
        vm.recordLogs();
        show(root, 1, 0, 1, 2, bytes4(0));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq("events", 2, logs.length);
        for (uint64 i = 0; i < 2; ++i) {
            eq("name", ReceiptChallenge.ReceiptShown.selector, logs[i].topics[0]);
            eq("id", keccak256(abi.encode("F8", uint64(1), node, uint64(1), uint64(0))), logs[i].topics[1]);
            (uint64 index, bytes memory receipt,,,) = abi.decode(logs[i].data, (uint64, bytes, bytes, bytes, bytes));
            eq("index", 1 + i, index);
            eq("receipt", bytes32(slice(root.leaves[1 + i], 0, 32)), keccak256(receipt));
        }
        // No challenge is touched by it, nor needed for it, nor any window.
        eq("untouched", 0, desk.challengeOf(idOf(root, 1, 2)).shown);
        eq("no bond", 2 * CHALLENGE_BOND, address(desk).balance);
        vm.warp(block.timestamp + 2 * W1);
        show(root, 0, 0, 0, 3, bytes4(0));
        show(root, 0, 0, 0, 0, ReceiptChallenge.NothingShown.selector);
        bytes memory beyond = abi.encodePacked(root.shown, uint64(3), uint64(0), one_(root, 2));
        refusedAnswer(beyond, Trees.IndexBeyondLeaves.selector);
        refusedAnswer(abi.encodePacked(root.shown, uint64(0), uint64(0), one_(root, 1)), NodeTrees.NotInTree.selector);
        vm.expectPartialRevert(ReceiptChallenge.NoChallenge.selector);
        desk.settleReceipts(root.body, blockOf(root), 0, 0);
    }

    // ------------------------------------------------------------------ helpers

    function threeReceipts() private view returns (Root memory) {
        Answer[] memory answers = new Answer[](3);
        for (uint64 i = 0; i < 3; ++i) answers[i] = honest(NODE_KEY, i, SEED + i);
        return rooted(NODE_KEY, answers);
    }

    function refusedStretch(Root memory root, uint64 first, uint64 count) private {
        vm.prank(ASKER);
        vm.expectRevert(abi.encodeWithSelector(ReceiptChallenge.KnownChallenge.selector, idOf(root, first, count)));
        desk.challengeReceipts{value: count * CHALLENGE_BOND}(root.body, blockOf(root), first, count);
    }

    function fail(Answer memory a) private pure {
        (a.receipt.reason, a.receipt.fee) = (16, 0);
    }

    /// @dev As many receipts as a draw says, from where the stretch stands.
    function answerOf(Root memory root, uint64 first, uint64 count, uint256 random) private view returns (bytes memory evidence) {
        uint256 from = desk.challengeOf(idOf(root, first, count)).shown;
        evidence = abi.encodePacked(root.shown, first, count, uint64(first + from));
        for (uint256 i = 0; i < 1 + random % 3 && from + i < count; ++i) evidence = abi.encodePacked(evidence, one_(root, first + from + i));
    }

    /// @dev The receipt at `index` cannot be shown: its root is withheld, its node slashed.
    function withheld(Root memory root, uint256 index, bytes4 selector) private {
        ask(root, index, 1);
        show(root, index, 1, index, 1, selector);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        desk.settleReceipts(root.body, blockOf(root), uint64(index), 1);
        yes("withheld", desk.withheldAt(root.epoch, root.node) != 0);
        eq("stake", 90 ether, stakes.stakeOf(node));
    }
}
