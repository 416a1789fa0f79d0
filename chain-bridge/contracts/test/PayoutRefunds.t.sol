// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {PayoutTrees} from "../src/PayoutTrees.sol";
import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {Sig} from "../src/Sig.sol";
import {PayoutProofs} from "./PayoutProofs.sol";

/// @notice Refunds in payout trees: the right one stands against whatever is shown, and each wrong one, and one that is missing, falls.
contract PayoutRefundsTest is PayoutProofs {
    uint256 private constant SEED = (200 << 48) | (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;
    PayoutVerifier.Mode private constant REFUND = PayoutVerifier.Mode.Refund;
    PayoutVerifier.Mode private constant LEFT_OUT = PayoutVerifier.Mode.LeftOut;
    bytes1 private constant HIGHER = 0x00;
    bytes1 private constant WITNESS = 0x01;
    bytes1 private constant NOTHING = 0x02;
    bytes1 private constant BETTER = 0x03;
    Share[] private none;
    Root[] private noRoots;

    /// @dev A lane whose refund is due in epoch 2. Every root, of `node` and of `other` in epoch 1 and of `node` in epoch 2, has receipts that name it;
    /// `root` and `index` are the witness that they give, `cumulative` is what it speaks for; `hasWitness` says whether there is one.
    struct Lane {
        Answer answer;
        Root[] roots;
        uint128 collected;
        uint128 givenBack;
        uint128 cumulative;
        bool hasWitness;
        uint256 root;
        uint64 index;
    }

    // ------------------------------------------------------------------ every right one stands, every wrong one falls

    /// forge-config: default.fuzz.runs = 48
    function testFuzz_a_right_refund_stands_against_every_receipt(uint256 seed) public {
        Lane memory l = lane(seed);
        Tree memory tree = treeOf(l, rightOf(l), witnessOf(l));
        post(tree);
        bytes memory head = lastPart(tree, client);
        for (uint256 i = 0; i < l.roots.length; ++i) {
            for (uint256 j = 0; j < l.roots[i].answers.length; ++j) {
                holds(REFUND, abi.encodePacked(head, above(l.roots[i], j)));
                holds(REFUND, abi.encodePacked(head, BETTER, l.hasWitness ? tail(own(l)) : bytes(""), tail(above(l.roots[i], j))));
            }
        }
        holds(REFUND, abi.encodePacked(head, NOTHING));
        holds(REFUND, abi.encodePacked(head, l.hasWitness ? own(l) : abi.encodePacked(WITNESS)));
        refusedF7(LEFT_OUT, abi.encodePacked(l.answer.receipt.lane, uint8(0), uint8(1), leafAt(tree, 0)), PayoutTrees.NotAbsent.selector);
        bytes memory beside = abi.encodePacked(uint8(1), leafAt(tree, 0), uint8(1), partAt(tree, 0, 0));
        refusedF7(LEFT_OUT, abi.encodePacked(l.answer.receipt.lane, beside), PayoutTrees.NotAbsent.selector);
    }

    /// forge-config: default.fuzz.runs = 48
    function testFuzz_a_wei_more_or_less_everything_and_nothing_fall(uint256 seed) public {
        Lane memory l = lane(seed);
        uint128 right = rightOf(l);
        uint128[4] memory amounts = [right + 1, right - (right == 0 ? 0 : 1), l.collected - l.givenBack, 0];
        for (uint256 k = 0; k < 4; ++k) {
            if (amounts[k] == right) continue;
            uint256 clean = vm.snapshotState();
            Tree memory tree = treeOf(l, amounts[k], witnessOf(l));
            post(tree);
            bytes memory head = lastPart(tree, client);
            if (amounts[k] > l.collected - l.givenBack) wrong(REFUND, head);
            else wrong(REFUND, abi.encodePacked(head, l.hasWitness ? own(l) : abi.encodePacked(NOTHING)));
            vm.revertToState(clean);
        }
    }

    /// forge-config: default.fuzz.runs = 48
    function testFuzz_a_refund_by_any_other_witness_falls(uint256 seed) public {
        Lane memory l = lane(seed);
        for (uint256 i = 0; i < l.roots.length; ++i) {
            for (uint64 j = 0; j < l.roots[i].answers.length; ++j) {
                uint256 clean = vm.snapshotState();
                witnessedBy(l, i, j);
                vm.revertToState(clean);
            }
        }
    }

    function witnessedBy(Lane memory l, uint256 i, uint64 j) private {
        uint128 amount = less(l.collected - l.givenBack, l.roots[i].answers[j].receipt.cumulativeAfter);
        Tree memory tree = treeOf(l, amount, witness(l.roots[i], j));
        post(tree);
        bytes memory head = lastPart(tree, client);
        bytes memory shown = abi.encodePacked(WITNESS, l.roots[i].shown, isGone(l, i) ? bytes("") : placed(l.roots[i], j));
        if (!bounds(l, i, j)) wrong(REFUND, abi.encodePacked(head, shown));
        else if (amount != rightOf(l)) wrong(REFUND, abi.encodePacked(head, above(l.roots[l.root], l.index)));
        else if (l.hasWitness && i == l.root && j == l.index) holds(REFUND, abi.encodePacked(head, shown));
        else if (!l.hasWitness) wrong(REFUND, abi.encodePacked(head, BETTER, tail(shown)));
        else wrong(REFUND, abi.encodePacked(head, BETTER, tail(shown), tail(above(l.roots[l.root], l.index))));
    }

    /// @dev All but the first byte, which says what is shown.
    function tail(bytes memory all) private pure returns (bytes memory rest) {
        rest = new bytes(all.length - 1);
        for (uint256 i = 1; i < all.length; ++i) rest[i - 1] = all[i];
    }

    // ------------------------------------------------------------------ one at a time

    /// @notice A bonded node that names somebody's lane in a receipt that bills nothing breaks no rule by it, and takes nothing away.
    function test_a_receipt_that_bills_nothing_leaves_the_refund_as_it_is_whoever_signed_it() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collectMore(a, 3 ether);
        uint128 all = escrow.collectedOf(a.receipt.lane);
        request(a);
        // Another node's that failed, one of the lane's own node that failed, and one of each that may bill and does not.
        Answer[] memory foreign = new Answer[](2);
        Answer[] memory own_ = new Answer[](2);
        for (uint64 i = 0; i < 2; ++i) {
            (foreign[i], own_[i]) = (onLane(a, OTHER_KEY, 70 + i, all), onLane(a, NODE_KEY, 80 + i, all));
            (foreign[i].receipt.fee, own_[i].receipt.fee) = (0, 0);
            (foreign[i].receipt.reason, own_[i].receipt.reason) = i == 0 ? (16, 17) : (0, 1);
            (foreign[i].spans, own_[i].spans) = ("", "");
        }
        Root[2] memory roots = [submit(OTHER_KEY, foreign), submit(NODE_KEY, own_)];
        eq("rules broken", 0, billing.brokenRules(receiptBody(foreign[0]), quoteBody(foreign[0]), manifestBody(foreign[0])));
        vm.warp(block.timestamp + W1);
        for (uint64 k = 0; k < 4; ++k) speaksForNothing(a.receipt.lane, all, roots[k / 2], k % 2);
    }

    function speaksForNothing(bytes32 laneId, uint128 all, Root memory root, uint64 index) private {
        uint256 clean = vm.snapshotState();
        Tree memory empty;
        // As the witness of a refund of nothing the receipt convicts the poster,
        Tree memory tree = build(empty, noRoots, refund(client, node, 0, laneId, witness(root, index)));
        post(tree);
        wrong(REFUND, abi.encodePacked(lastPart(tree, client), WITNESS, root.shown, placed(root, index)));
        vm.revertToState(clean);
        // and against the whole refund it shows nothing.
        tree = build(empty, noRoots, refund(client, node, all, laneId, noWitness()));
        post(tree);
        holds(REFUND, abi.encodePacked(lastPart(tree, client), above(root, index)));
        holds(REFUND, abi.encodePacked(lastPart(tree, client), BETTER, tail(above(root, index))));
        vm.warp(block.timestamp + W2);
        eq("final", 1, settlement.lastFinal());
        eq("refund", all, tree.cumulative[indexOf(tree, client)]);
        vm.revertToState(clean);
    }

    function test_a_refund_is_paid_once_to_its_payer_by_its_node() public {
        Root[] memory roots = new Root[](1);
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collectMore(a, 1 gwei);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(PayoutVerifier.LaneOpen.selector, 1_200 + MAX_AGE_BLOCKS, block.number));
        desk().requestRefund(laneBody(a), "");
        request(a);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(PayoutVerifier.RefundIsDue.selector, 1));
        desk().requestRefund(laneBody(a), "");
        roots[0] = submit(NODE_KEY, one(a));
        vm.warp(block.timestamp + W1);
        bytes32 id = keccak256(laneBody(a));
        bytes memory by = witness(roots[0], 0);
        Tree memory empty;
        // Above all that was collected, to another account, by another node, of a lane nobody asked for: no receipt is needed.
        Share[][4] memory others = [
            refund(client, node, 2 ether, id, by),
            refund(author, node, 1 gwei, id, by),
            refund(client, other, 1 gwei, id, by),
            refund(client, node, 1 gwei, keccak256("lane"), by)
        ];
        vm.deal(address(this), 3 ether);
        settlement.receiveCollected{value: 3 ether}();
        uint256 clean = vm.snapshotState();
        for (uint256 k = 0; k < 4; ++k) {
            Tree memory wrongly = build(empty, roots, others[k]);
            post(wrongly);
            wrong(REFUND, lastPart(wrongly, others[k][0].payee));
            vm.revertToState(clean);
        }
        // Twice in one tree.
        Share[] memory pair = new Share[](2);
        (pair[0], pair[1]) = (refund(client, node, 1 gwei, id, by)[0], refund(client, node, 1 gwei, id, noWitness())[0]);
        Tree memory tree = build(empty, roots, pair);
        post(tree);
        uint256 i = indexOf(tree, client);
        wrong(PayoutVerifier.Mode.PartOrder, abi.encodePacked(leafAt(tree, i), partAt(tree, i, 0), partAt(tree, i, 1)));
        vm.revertToState(clean);

        tree = build(empty, roots, refund(client, node, 1 gwei, id, by));
        post(tree);
        holds(REFUND, abi.encodePacked(lastPart(tree, client), above(roots[0], 0)));
        bytes memory shown = abi.encodePacked(lastPart(tree, client), uint8(4));
        refusedF7(REFUND, shown, PayoutVerifier.UnknownShown.selector);
        vm.warp(block.timestamp + W2);
        eq("final", 1, settlement.lastFinal());
    }

    function test_a_witness_that_cannot_be_one_convicts_with_as_little_as_shows_it() public {
        Lane memory l = plain();
        // The next epoch opens while this one's payout is pending: its receipts are not this refund's.
        vm.warp(block.timestamp + EPOCH_MIN);
        Root memory later = submit(NODE_KEY, l.roots[2].answers);
        eq("epoch", 3, later.epoch);
        bytes[5] memory named = [
            abi.encodePacked(author, uint64(1), uint64(0)),
            abi.encodePacked(node, uint64(3), uint64(0)),
            abi.encodePacked(node, uint64(1), uint64(99)),
            abi.encodePacked(address(0), uint64(0), uint64(1)),
            abi.encodePacked(other, uint64(2), uint64(0))
        ];
        uint256 clean = vm.snapshotState();
        for (uint256 k = 0; k < 5; ++k) {
            Tree memory tree = treeOf(l, rightOf(l), named[k]);
            post(tree);
            bytes memory shown = abi.encodePacked(lastPart(tree, client), WITNESS, k == 2 ? l.roots[0].shown : bytes(""));
            wrong(REFUND, shown);
            vm.revertToState(clean);
        }
        // Shown in the place of its witness: another root, and a root of a later epoch as one that bounds it.
        Tree memory right = treeOf(l, rightOf(l), witnessOf(l));
        post(right);
        uint256 another = l.root == 0 ? 1 : 0;
        bytes memory head = lastPart(right, client);
        bytes memory foreign = abi.encodePacked(head, WITNESS, l.roots[another].shown, placed(l.roots[another], 0));
        (bool done,) = prove(payouts, call(REFUND, foreign));
        yes("refused", !done);
        refusedF7(REFUND, abi.encodePacked(head, above(later, 0)), PayoutVerifier.NotOfThisEpoch.selector);
    }

    function test_a_root_that_is_withheld_bounds_no_refund_and_has_no_parts_though_nobody_can_open_it() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collectMore(a, 100);
        Answer memory secret = honest(NODE_KEY, 2, SEED);
        collect(secret);
        // The root of bytes that nobody has.
        Root memory root = rooted(NODE_KEY, one(secret));
        submitAs(NODE_KEY, root, keccak256("nobody knows"), 1, secret.receipt.fee);
        withhold(root);
        vm.roll(2_000);
        vm.prank(client);
        desk().requestRefund(laneBody(a), "");
        firstEpoch();
        submit(OTHER_KEY, new Answer[](0));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        Tree memory tree = build(empty, noRoots, refund(client, node, 7, a.receipt.lane, witness(root, 0)));
        uint256 clean = vm.snapshotState();
        eq("due", 2, desk().refundOf(a.receipt.lane).epoch);
        post(tree);
        wrong(REFUND, abi.encodePacked(lastPart(tree, client), WITNESS, root.shown));
        vm.revertToState(clean);
    }

    function test_parts_of_a_withheld_root_fall_without_its_receipts() public {
        Answer memory secret = honest(NODE_KEY, 2, SEED);
        collect(secret);
        Root memory root = rooted(NODE_KEY, one(secret));
        submitAs(NODE_KEY, root, keccak256("nobody knows"), 1, secret.receipt.fee);
        withhold(root);
        vm.warp(block.timestamp + W1);
        Share[] memory extra = new Share[](1);
        extra[0] = Share(author, abi.encodePacked(node, uint64(0), uint32(1), uint128(5)), 5);
        Tree memory empty;
        Tree memory tree = build(empty, noRoots, extra);
        post(tree);
        wrong(PayoutVerifier.Mode.Part, abi.encodePacked(lastPart(tree, author), root.shown));
    }

    function test_a_refund_of_nothing_has_its_part_and_can_be_shown_and_not_left_out() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collect(a);
        request(a);
        Root memory root = submit(NODE_KEY, one(a));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        Share[] memory nothing = refund(client, node, 0, a.receipt.lane, witness(root, 0));
        Tree memory tree = build(empty, noRoots, nothing);
        uint256 clean = vm.snapshotState();
        post(tree);
        bytes memory head = lastPart(tree, client);
        holds(REFUND, abi.encodePacked(head, WITNESS, root.shown, placed(root, 0)));
        holds(PayoutVerifier.Mode.PartForm, partForm(tree, 0, 0));
        refusedF7(LEFT_OUT, abi.encodePacked(a.receipt.lane, noPartOf(tree, client, nothing[0].content)), PayoutTrees.NotAbsent.selector);
        // Its leaf earns nothing and has a part: that is what is shown.
        vm.deal(address(this), CHALLENGE_BOND);
        ReceiptChallenge(challenges).challengePart{value: CHALLENGE_BOND}(leafAt(tree, 0), 0);
        bytes memory empties = abi.encodePacked(leafAt(tree, 0), uint64(0), uint128(0), bytes32(0));
        vm.expectRevert(PayoutTrees.NotAbsent.selector);
        ReceiptChallenge(challenges).showPart(0, empties);
        ReceiptChallenge(challenges).showPart(0, head);
        vm.revertToState(clean);
        // Without a witness it would have to be all that the lane collected; left out altogether it is wrong too.
        tree = build(empty, noRoots, refund(client, node, 0, a.receipt.lane, noWitness()));
        post(tree);
        wrong(REFUND, abi.encodePacked(lastPart(tree, client), NOTHING));
        vm.revertToState(clean);
        tree = build(empty, noRoots, none);
        post(tree);
        wrong(LEFT_OUT, abi.encodePacked(a.receipt.lane, noPartOf(tree, client, nothing[0].content)));
    }

    function test_a_refund_left_out_falls_beside_other_refunds_of_its_payer() public {
        Answer[3] memory a;
        Share[] memory all = new Share[](3);
        for (uint64 i = 0; i < 3; ++i) {
            a[i] = honest(NODE_KEY, i, SEED);
            collect(a[i]);
            all[i] = refund(client, node, a[i].receipt.cumulativeAfter, a[i].receipt.lane, noWitness())[0];
        }
        for (uint64 i = 0; i < 3; ++i) request(a[i]);
        Answer memory undue = honest(NODE_KEY, 9, SEED);
        submit(OTHER_KEY, new Answer[](0));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        uint256 clean = vm.snapshotState();
        for (uint256 gone = 0; gone < 3; ++gone) {
            Share[] memory two = new Share[](2);
            (two[0], two[1]) = (all[(gone + 1) % 3], all[(gone + 2) % 3]);
            Tree memory tree = build(empty, noRoots, two);
            post(tree);
            holds(LEFT_OUT, abi.encodePacked(undue.receipt.lane, noPartOf(tree, client, all[gone].content)));
            bytes32 present = a[(gone + 1) % 3].receipt.lane;
            bytes memory absence = noPartOf(tree, client, two[0].content);
            refusedF7(LEFT_OUT, abi.encodePacked(present, absence), PayoutTrees.NotAbsent.selector);
            wrong(LEFT_OUT, abi.encodePacked(a[gone].receipt.lane, noPartOf(tree, client, all[gone].content)));
            vm.revertToState(clean);
        }
    }

    function test_a_refund_left_out_and_not_refuted_is_asked_for_again_and_one_paid_is_not() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collectMore(a, 1 gwei);
        request(a);
        Root[] memory roots = new Root[](1);
        roots[0] = submit(NODE_KEY, one(a));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        uint256 clean = vm.snapshotState();
        Tree memory tree = build(empty, roots, none);
        post(tree);
        vm.warp(block.timestamp + W2);
        vm.prank(client);
        desk().requestRefund(laneBody(a), abi.encodePacked(uint8(0), noLeaf(tree, client)));
        eq("due again", 2, desk().refundOf(keccak256(laneBody(a))).epoch);
        vm.revertToState(clean);

        tree = build(empty, roots, refund(client, node, 1 gwei, keccak256(laneBody(a)), witness(roots[0], 0)));
        post(tree);
        vm.warp(block.timestamp + W2);
        uint256 i = indexOf(tree, client);
        vm.prank(client);
        vm.expectRevert(PayoutTrees.NotAbsent.selector);
        desk().requestRefund(laneBody(a), abi.encodePacked(uint8(1), leafAt(tree, i), uint8(1), partAt(tree, i, 0)));
        vm.prank(client);
        vm.expectRevert(PayoutTrees.NotAbsent.selector);
        desk().requestRefund(laneBody(a), abi.encodePacked(uint8(0), uint8(3), leafAt(tree, i - 1), leafAt(tree, i)));
    }

    // ------------------------------------------------------------------ a lane and its receipts

    /// @dev Receipts drawn from `seed`: on the lane or not, of either node, below or above what was collected, malformed, another's than the root's,
    /// billing nothing, void, withheld.
    function lane(uint256 seed) private returns (Lane memory l) {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        l.answer = a;
        collectMore(a, uint128(draw(seed, "extra", 2 ether)));
        l.collected = escrow.collectedOf(a.receipt.lane);
        if (draw(seed, "note", 2) == 0) {
            l.givenBack = 1 + uint128(draw(seed, "amount", a.receipt.cumulativeAfter));
            credit(a, l.givenBack);
        }
        l.roots = new Root[](3);
        l.roots[0] = submit(NODE_KEY, drawn(l, NODE_KEY, seed, 0));
        l.roots[1] = submit(OTHER_KEY, drawn(l, OTHER_KEY, seed, 1));
        voided(l, seed, 0);
        voided(l, seed, 1);
        if (l.roots[1].answers.length != 0 && draw(seed, "withheld", 4) == 0) withhold(l.roots[1]);
        firstEpoch();
        request(a);
        l.roots[2] = submit(NODE_KEY, drawn(l, NODE_KEY, seed, 2));
        voided(l, seed, 2);
        vm.warp(block.timestamp + W1);
        reckon(l);
        // A tree that pays too much can be posted while there is money of others.
        vm.deal(address(this), 1 ether);
        settlement.receiveCollected{value: 1 ether}();
    }

    /// @dev Receipts of one lane, all of them well, one in each root, each speaking for more than the one before.
    function plain() private returns (Lane memory l) {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        l.answer = a;
        collectMore(a, 1 ether);
        l.collected = escrow.collectedOf(a.receipt.lane);
        l.roots = new Root[](3);
        l.roots[0] = submit(NODE_KEY, one(onLane(a, NODE_KEY, 2, 1 gwei)));
        l.roots[1] = submit(OTHER_KEY, one(onLane(a, OTHER_KEY, 3, 2 gwei)));
        firstEpoch();
        request(a);
        l.roots[2] = submit(NODE_KEY, one(onLane(a, NODE_KEY, 4, 3 gwei)));
        vm.warp(block.timestamp + W1);
        reckon(l);
        eq("the last", 2, l.root);
    }

    function drawn(Lane memory l, uint256 key, uint256 seed, uint256 which) private view returns (Answer[] memory answers) {
        answers = new Answer[](draw(seed, which, "count", 4));
        for (uint64 i = 0; i < answers.length; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, which, i)));
            answers[i] = onLane(l.answer, key, 100 * (1 + uint64(which)) + i, uint128((random >> 8) % (uint256(l.collected) * 5 / 4)));
            // Every other one speaks for as much as another.
            if (random & 1 == 0) answers[i].receipt.cumulativeAfter = l.collected / 2;
            if ((random >> 1) & 7 == 0) answers[i].receipt.lane = keccak256("another lane");
            if ((random >> 1) & 7 == 1) answers[i].receipt.reason = 9;
            if ((random >> 1) & 7 == 2) answers[i].receipt.node = author;
            if ((random >> 1) & 7 == 3) answers[i].receipt.reason = 16;
            if ((random >> 1) & 7 == 4) answers[i].receipt.fee = 0;
            if ((random >> 1) & 7 == 5) (answers[i].receipt.reason, answers[i].receipt.fee) = (17, 0);
        }
    }

    function onLane(Answer memory a, uint256 key, uint64 nonce, uint128 cumulativeAfter) private view returns (Answer memory b) {
        b = honest(key, nonce, SEED);
        (b.receipt.lane, b.receipt.cumulativeAfter) = (a.receipt.lane, cumulativeAfter);
    }

    function voided(Lane memory l, uint256 seed, uint256 which) private {
        for (uint256 i = 0; i < l.roots[which].answers.length; ++i) {
            if (draw(seed, which, "void", i, 4) != 0) continue;
            vm.prank(address(verifier));
            settlement.markVoid(keccak256(receiptBody(l.roots[which].answers[i])));
        }
    }

    /// @dev The witness the plain way: the largest cumulative amount, of several the first by epoch, node and index.
    function reckon(Lane memory l) private view {
        for (uint256 i = 0; i < l.roots.length; ++i) {
            for (uint64 j = 0; j < l.roots[i].answers.length; ++j) {
                uint128 after_ = l.roots[i].answers[j].receipt.cumulativeAfter;
                if (!bounds(l, i, j) || after_ == 0) continue;
                bool isFirst = after_ == l.cumulative && isBefore(l.roots[i], l.roots[l.root]);
                if (after_ > l.cumulative || isFirst) (l.hasWitness, l.cumulative, l.root, l.index) = (true, after_, i, j);
            }
        }
    }

    function isBefore(Root memory a, Root memory b) private pure returns (bool) {
        return a.epoch < b.epoch || (a.epoch == b.epoch && a.node < b.node);
    }

    function bounds(Lane memory l, uint256 i, uint256 j) private view returns (bool) {
        Answer memory a = l.roots[i].answers[j];
        if (isGone(l, i) || settlement.isVoid(keccak256(receiptBody(a)))) return false;
        return a.receipt.reason < 9 && a.receipt.fee != 0 && a.receipt.node == l.roots[i].node && a.receipt.lane == l.answer.receipt.lane
            && a.receipt.cumulativeAfter <= l.collected;
    }

    function isGone(Lane memory l, uint256 i) private view returns (bool) {
        return ReceiptChallenge(challenges).withheldAt(l.roots[i].epoch, l.roots[i].node) != 0;
    }

    function rightOf(Lane memory l) private pure returns (uint128) {
        return less(l.collected - l.givenBack, l.cumulative);
    }

    function less(uint128 a, uint128 b) private pure returns (uint128) {
        return a > b ? a - b : 0;
    }

    function draw(uint256 seed, string memory what, uint256 below) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, what))) % below;
    }

    function draw(uint256 seed, uint256 which, string memory what, uint256 below) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, which, what))) % below;
    }

    function draw(uint256 seed, uint256 which, string memory what, uint256 i, uint256 below) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, which, what, i))) % below;
    }

    // ------------------------------------------------------------------ evidence

    /// @dev A tree of one refund, of the lane.
    function treeOf(Lane memory l, uint128 amount, bytes memory witnessed) private view returns (Tree memory) {
        Tree memory empty;
        return build(empty, noRoots, refund(client, node, amount, l.answer.receipt.lane, witnessed));
    }

    function witnessOf(Lane memory l) private pure returns (bytes memory) {
        return l.hasWitness ? witness(l.roots[l.root], l.index) : noWitness();
    }

    /// @dev A receipt as one that bounds a refund.
    function above(Root memory root, uint256 index) private pure returns (bytes memory) {
        return abi.encodePacked(HIGHER, root.shown, uint64(index), placed(root, index));
    }

    /// @dev The witness of a lane's refund.
    function own(Lane memory l) private pure returns (bytes memory) {
        return abi.encodePacked(WITNESS, l.roots[l.root].shown, placed(l.roots[l.root], l.index));
    }

    /// @dev The leaf of an account and the last of its parts, which is a refund if it has one.
    function lastPart(Tree memory tree, address account) private pure returns (bytes memory) {
        uint256 i = indexOf(tree, account);
        return abi.encodePacked(leafAt(tree, i), partAt(tree, i, tree.parts[i].length - 1));
    }

    // ------------------------------------------------------------------ steps

    function request(Answer memory a) private {
        vm.roll(2_000);
        vm.prank(client);
        desk().requestRefund(laneBody(a), "");
    }

    /// @dev Epoch 1 is final with a tree of nobody, and the next one may be opened.
    function firstEpoch() private {
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        post(empty);
        vm.warp(block.timestamp + W2 + EPOCH_MIN);
    }

    function withhold(Root memory root) private {
        ReceiptChallenge to = ReceiptChallenge(challenges);
        vm.deal(address(this), CHALLENGE_BOND);
        to.challengeReceipts{value: CHALLENGE_BOND}(root.body, blockOf(root), 0, 1);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        to.settleReceipts(root.body, blockOf(root), 0, 1);
    }

    function credit(Answer memory a, uint128 amount) private {
        bytes memory body = laneBody(a);
        bytes memory note = abi.encodePacked(a.receipt.lane, a.receipt.requestId, a.receipt.cumulativeAfter, amount, uint64(3_000));
        bytes memory signature = signed(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        vm.prank(client);
        InferenceEscrow(escrow).claimCredit(body, note, signature);
    }

    receive() external payable {}
}
