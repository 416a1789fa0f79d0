// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FraudVerifier} from "../../src/FraudVerifier.sol";
import {PayoutVerifier} from "../../src/PayoutVerifier.sol";
import {ReceiptChallenge} from "../../src/ReceiptChallenge.sol";
import {Settlement} from "../../src/Settlement.sol";
import {Trees} from "../../src/Trees.sol";
import {Ledger} from "../Ledger.sol";
import {Pack} from "../Pack.sol";
import {Steps} from "./Steps.sol";

/// @notice A challenger that refuses money, or takes it only to ask for more.
contract Asker {
    ReceiptChallenge private immutable desk;
    bool public refuses;

    constructor(ReceiptChallenge desk_) {
        desk = desk_;
    }

    function become(bool refuses_) external {
        refuses = refuses_;
    }

    function act(uint256 value, bytes calldata call) external {
        (bool done, bytes memory reason) = address(desk).call{value: value}(call);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(reason, 32), mload(reason))
            }
        }
    }

    receive() external payable {
        require(!refuses, "refused");
        try desk.withdrawOwed(address(this)) {} catch {}
    }
}

/// @notice Challenges of receipts and of payouts, answers to them, refunds asked for, and faults shown by their own proofs, in any order, with
/// books of their own.
abstract contract Asked is Ledger, Steps {
    /// @dev A root with all that shows its receipts, and how many of them there are.
    struct Shown {
        address node;
        uint64 epoch;
        uint64 blockNumber;
        bytes body;
        bytes[] receipts;
    }

    /// @dev A challenge that was opened. Of a payout: `first` is the leaf.
    struct Open {
        bytes32 id;
        uint256 root;
        uint64 first;
        uint64 count;
        uint64 deadline;
        address challenger;
        bool ofPayout;
        bool ended;
    }

    uint256 internal constant LANES = 24;
    /// @dev An answer with three spans.
    uint256 private constant SEED = (200 << 48) | (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;

    /// @notice Bonds of challenges that are open, in wei.
    uint256 public bondsOpen;
    Asker public asker;

    ReceiptChallenge internal desk;
    Shown[] private roots;
    Open[] private opened_;
    uint64 private nonces;
    bytes[LANES] private lanes;
    mapping(uint64 => mapping(address => bool)) private slashedFor;

    function setUp() public virtual override {
        super.setUp();
        desk = ReceiptChallenge(challenges);
        asker = new Asker(desk);
        vm.deal(address(asker), 1e27);
        vm.deal(address(this), 1e27);
        for (uint256 i = 0; i < LANES; ++i) {
            Answer memory a = honest(NODE_KEY, uint64(1e6 + i), SEED);
            lanes[i] = laneBody(a);
            collect(a);
        }
        settlement.receiveCollected{value: 100 ether}();
        vm.fee(1 gwei);
    }

    receive() external payable {}

    function wait(uint32 time) external step {
        vm.warp(block.timestamp + time % 20);
        vm.roll(block.number + 1);
    }

    function restake(bool byOther) external step {
        address from = byOther ? other : node;
        vm.deal(from, from.balance + 60 ether);
        vm.prank(from);
        stakes.increase{value: 60 ether}();
        ++did["restake"];
    }

    // ------------------------------------------------------------------ receipts

    function submitRoot(bool byOther, uint8 count) external step {
        uint256 key = byOther ? OTHER_KEY : NODE_KEY;
        Answer[] memory answers = new Answer[](1 + count % 4);
        for (uint256 i = 0; i < answers.length; ++i) answers[i] = honest(key, ++nonces, SEED + i);
        vm.warp(block.timestamp + W1 / 2);
        Root memory root = submit(key, answers);
        Shown storage kept = roots.push();
        (kept.node, kept.epoch, kept.blockNumber, kept.body) = (root.node, root.epoch, blockOf(root), root.body);
        for (uint256 i = 0; i < answers.length; ++i) {
            bytes memory receipt = abi.encodePacked(Pack.blob(receiptBody(answers[i])), Pack.blob(receiptSig(answers[i])));
            receipt = abi.encodePacked(receipt, Pack.blob(quoteBody(answers[i])), Pack.blob(manifestBody(answers[i])));
            kept.receipts.push(abi.encodePacked(receipt, siblings(root, i)));
        }
        ++did["submitRoot"];
    }

    function ask(uint256 which, uint64 first, uint64 count, bool hostile) external step {
        Shown storage root = roots[roots.length - 1 - which % 2 % roots.length];
        first %= uint64(root.receipts.length);
        count = 1 + count % uint64(root.receipts.length - first);
        uint256 value = CHALLENGE_BOND * count;
        bytes memory call = abi.encodeCall(ReceiptChallenge.challengeReceipts, (root.body, root.blockNumber, first, count));
        bytes32 id = keccak256(abi.encode("F8", root.epoch, root.node, first, count));
        opens(Open(id, roots.length - 1 - which % 2 % roots.length, first, count, 0, address(0), false, false), value, call, hostile);
        ++did["ask"];
    }

    function show(uint256 which, uint8 more, uint8 again) external step {
        Open storage one = opened_[openOf(which, false)];
        Shown storage root = roots[one.root];
        uint256 from = desk.challengeOf(one.id).shown;
        // Some may be those that were shown before.
        uint256 shown = from - again % (from + 1);
        bytes memory evidence = abi.encodePacked(root.body, root.blockNumber, one.first, one.count, uint64(one.first + shown));
        for (; shown < one.count && shown <= from + more % 2; ++shown) {
            evidence = abi.encodePacked(evidence, root.receipts[one.first + shown]);
        }
        (uint256 had, uint256 owed, uint256 before) = (address(this).balance, desk.owed(one.challenger), root.node.balance);
        desk.showReceipts(evidence);
        if (block.timestamp >= one.deadline) breaks("F8: shown after the deadline");
        if (one.ended) breaks("F8: an ended challenge was answered");
        if (root.node.balance != before) breaks("F8: a node was paid that did not answer");
        paid(one, shown > from ? shown - from : 0, had, owed);
        one.ended = shown == one.count;
        ++did[shown == one.count ? "answered" : "shownInPart"];
    }

    function settle(uint256 which, bool early, bool refuses) external step {
        Open storage one = opened_[openOf(which, false)];
        asker.become(refuses);
        Shown storage root = roots[one.root];
        if (!early) vm.warp(block.timestamp + ANSWER_SECONDS);
        uint256 had = balanceOf(one.challenger);
        bool known = slashedFor[root.epoch][root.node];
        uint256 stake = stakes.slashableOf(root.node);
        uint256 left = one.count - desk.challengeOf(one.id).shown;
        desk.settleReceipts(root.body, root.blockNumber, one.first, one.count);
        if (block.timestamp < one.deadline) breaks("F8: settled before the deadline");
        if (one.ended) breaks("F8: an ended challenge was settled");
        if (desk.withheldAt(root.epoch, root.node) == 0) breaks("F8: settled and not withheld");
        if ((stakes.slashableOf(root.node) < stake) == (known || stake == 0)) breaks("F8: a root is slashed for once, and then surely");
        slashedFor[root.epoch][root.node] = true;
        ends(one, left, had);
        ++did["settled"];
    }

    // ------------------------------------------------------------------ payouts

    /// @dev An empty tree that claims to hold money: its head refutes it, and its leaves can be asked for.
    function postWrong(uint64 more) external step {
        vm.warp(block.timestamp + W1 + W2);
        bytes32 previous = settlement.finalPayout().root;
        uint128 total = settlement.finalPayout().total + 1 + more % 1 gwei;
        uint64 epoch = settlement.lastPosted() + 1;
        vm.prank(other);
        settlement.postPayout(epoch, previous, Trees.sumRoot(0, 0, 0), total);
        ++did["postWrong"];
    }

    /// @dev The same, with the total that it has: right, unless the last one's accounts are missing, and those have nothing here.
    function postEmpty() external step {
        vm.warp(block.timestamp + W1 + W2);
        uint64 epoch = settlement.lastPosted() + 1;
        bytes32 previous = settlement.finalPayout().root;
        uint128 total = settlement.finalPayout().total;
        vm.prank(other);
        settlement.postPayout(epoch, previous, Trees.sumRoot(0, 0, 0), total);
        ++did["postEmpty"];
    }

    function askLeaf(uint64 index, bool hostile) external step {
        bytes memory call = abi.encodeCall(ReceiptChallenge.challengeLeaf, (index % 3));
        opens(Open(leafNow(index % 3), 0, index % 3, 1, 0, address(0), true, false), CHALLENGE_BOND, call, hostile);
        ++did["askLeaf"];
    }

    function showLeaf(uint256 which) external step {
        Open storage one = pendingLeaf(which);
        (uint256 had, uint256 owed) = (address(this).balance, desk.owed(one.challenger));
        desk.showLeaf(one.first, Pack.sumHead(new bytes[](0), new uint128[](0)));
        if (block.timestamp >= one.deadline || one.ended) breaks("F7: answered late, or twice");
        paid(one, 1, had, owed);
        one.ended = true;
        ++did["leafShown"];
    }

    function settleLeaf(uint256 which, bool early, bool refuses) external step {
        Open storage one = pendingLeaf(which);
        asker.become(refuses);
        if (!early) vm.warp(block.timestamp + PAYOUT_ANSWER_SECONDS);
        uint256 had = balanceOf(one.challenger);
        uint256 stake = stakes.slashableOf(other);
        desk.settleLeaf(one.first);
        if (block.timestamp < one.deadline || one.ended) breaks("F7: settled early, or twice");
        if (settlement.pendingPayout().epoch != 0) breaks("F7: a withheld payout is pending still");
        if (stake != 0 && stakes.slashableOf(other) >= stake) breaks("F7: its poster was not slashed");
        ends(one, 1, had);
        ++did["leafSettled"];
    }

    /// @dev By its own proof, from the commitment on.
    function refute() external step {
        uint256 stake = stakes.slashableOf(other);
        uint64 epoch = settlement.pendingPayout().epoch;
        uint128 total = settlement.pendingPayout().total;
        bytes memory head = Pack.sumHead(new bytes[](0), new uint128[](0));
        bool wrong = prove7(abi.encodeCall(PayoutVerifier.provePayout, (PayoutVerifier.Mode.Head, head)));
        if (!wrong) {
            if (epoch != 0 && total != 0) breaks("F7: a wrong head stands");
            return;
        }
        if (total == 0) breaks("F7: a right head was refuted");
        if (settlement.pendingPayout().epoch != 0 || settlement.lastPosted() != epoch - 1) breaks("F7: refuted and pending");
        if (stake != 0 && stakes.slashableOf(other) >= stake) breaks("F7: its poster was not slashed");
        ++did["refute"];
    }

    function prove7(bytes memory call) private returns (bool done) {
        (done,) = prove(payouts, call);
    }

    /// @dev What was taken back while nobody had answered: after the time in which it would have been settled.
    function reclaim(uint256 which, bool early, bool refuses) external step {
        Open storage one = opened_[openOf(which, which & 8 == 0)];
        asker.become(refuses);
        if (!early) vm.warp(block.timestamp + 2 * PAYOUT_ANSWER_SECONDS);
        uint256 had = balanceOf(one.challenger);
        bytes memory call = abi.encodeCall(ReceiptChallenge.reclaim, (one.id));
        if (one.challenger == address(asker)) {
            asker.act(0, call);
        } else {
            desk.reclaim(one.id);
        }
        if (!one.ofPayout) breaks("F8: a challenge of receipts was reclaimed");
        if (block.timestamp < uint256(one.deadline) + PAYOUT_ANSWER_SECONDS || one.ended) breaks("F7: reclaimed early, or twice");
        ends(one, 1, had);
        ++did["reclaim"];
    }

    function takeOwed(bool refuses) external step {
        asker.become(refuses);
        uint256 amount = desk.owed(address(asker));
        uint256 before = address(asker).balance;
        desk.withdrawOwed(address(asker));
        if (address(asker).balance - before + desk.owed(address(asker)) != amount) breaks("I16: what was owed was lost, or gained");
        if (!refuses) ++did["takeOwed"];
    }

    // ------------------------------------------------------------------ F1, and refunds

    /// @dev A span longer than there may be, from the node's signature to the slash; then once more.
    function proveFalseSpan() external step {
        Answer memory a = honest(NODE_KEY, ++nonces, SEED);
        // The length of the first span, whose start comes first.
        a.spans[4] = 0x01;
        a.spans[5] = 0x01;
        bytes memory receipt = receiptBody(a);
        bytes memory call =
            abi.encodeCall(FraudVerifier.proveFalseSpan, (receipt, receiptSig(a), 0, FraudVerifier.Mode.Length, ""));
        uint256 stake = stakes.slashableOf(node);
        (bool done,) = prove(address(verifier), call);
        if (!done) breaks("F1: a false span stands");
        if (stake != 0 && stakes.slashableOf(node) >= stake) breaks("F1: its node was not slashed");
        if (settlement.voidedAt(keccak256(abi.encodePacked(keccak256(receipt), uint16(0)))) == 0) breaks("F1: the span is not void");
        if (settlement.voidedAt(keccak256(receipt)) != 0) breaks("F1: the receipt is void");
        stake = stakes.slashableOf(node);
        (done,) = prove(address(verifier), call);
        if (done || stakes.slashableOf(node) != stake) breaks("I10: a span was slashed for twice");
        a.spans[4] = 0;
        call = abi.encodeCall(FraudVerifier.proveFalseSpan, (receiptBody(a), receiptSig(a), 0, FraudVerifier.Mode.Length, ""));
        (done,) = prove(address(verifier), call);
        if (done) breaks("I8: a span that is no longer than it may be was refuted by its length");
        ++did["proveFalseSpan"];
    }

    function requestRefund(uint256 which, bool early) external step {
        bytes memory lane = lanes[which % LANES];
        bytes32 id = keccak256(lane);
        if (!early && block.number <= 1_200 + MAX_AGE_BLOCKS) vm.roll(1_201 + MAX_AGE_BLOCKS);
        PayoutVerifier.RefundDue memory before = PayoutVerifier(payouts).refundOf(id);
        vm.prank(client);
        PayoutVerifier(payouts).requestRefund(lane, abi.encodePacked(uint8(0), uint8(0), Pack.sumHead(new bytes[](0), new uint128[](0))));
        if (block.number <= 1_200 + MAX_AGE_BLOCKS) breaks("a refund was asked for before any receipt was too old");
        PayoutVerifier.RefundDue memory due = PayoutVerifier(payouts).refundOf(id);
        if (before.epoch != 0 && before.epoch != settlement.lastFinal()) breaks("a refund that is due was asked for again");
        if (due.epoch != settlement.currentEpoch() + 1 || due.payer != client || due.node != node) breaks("a refund is due to another, or when it is not");
        if (due.givenBack > escrow.collectedOf(id)) breaks("I4: more was given back than collected");
        if (!escrow.isClosed(id) || escrow.chargedOf(id, lane, node, client) != 0) breaks("I4: notes or slashes may repay what is refunded");
        ++did[before.epoch == 0 ? "requestRefund" : "requestAgain"];
    }

    // ------------------------------------------------------------------ books

    function owedInAll() public view returns (uint256) {
        return desk.owed(address(asker)) + desk.owed(address(this)) + desk.owed(node) + desk.owed(other);
    }

    function held() external view returns (uint256) {
        return address(desk).balance;
    }

    /// @dev A challenge of receipts or of a payout, mostly one that is open.
    function openOf(uint256 which, bool ofPayout) private view returns (uint256 place) {
        place = which % opened_.length;
        for (uint256 k = 0; k < opened_.length; ++k) {
            if (opened_[place].ofPayout == ofPayout && (!opened_[place].ended || which & 7 == 0)) return place;
            place = (place + 1) % opened_.length;
        }
    }

    /// @dev A challenge of the payout that is pending now; else nothing is done.
    function pendingLeaf(uint256 which) private view returns (Open storage one) {
        uint256 place = which % opened_.length;
        for (uint256 k = 0; k < opened_.length && opened_[place].id != leafNow(opened_[place].first); ++k) place = (place + 1) % opened_.length;
        one = opened_[place];
        require(one.id == leafNow(one.first), "none");
    }

    function opens(Open memory one, uint256 value, bytes memory call, bool hostile) private {
        if (hostile) {
            asker.act(value, call);
        } else {
            (bool done,) = address(desk).call{value: value}(call);
            require(done, "refused");
        }
        one.challenger = hostile ? address(asker) : address(this);
        one.deadline = uint64(block.timestamp) + (one.ofPayout ? PAYOUT_ANSWER_SECONDS : ANSWER_SECONDS);
        bondsOpen += value;
        opened_.push(one);
    }

    /// @dev So many of its bonds were paid to the challenger, or are owed to it.
    function ends(Open storage one, uint256 count, uint256 had) private {
        one.ended = true;
        bondsOpen -= CHALLENGE_BOND * count;
        if (balanceOf(one.challenger) != had + CHALLENGE_BOND * count) breaks("a bond went to another, or in part");
    }

    /// @dev So many bonds were divided: something to who called, the rest is owed to the challenger.
    function paid(Open storage one, uint256 count, uint256 had, uint256 owed) private {
        bondsOpen -= CHALLENGE_BOND * count;
        (uint256 price, uint256 rest) = (address(this).balance - had, desk.owed(one.challenger) - owed);
        if (price + rest != CHALLENGE_BOND * count) breaks("bonds of what was shown went to others, or in part");
        if ((price == 0) != (count == 0)) breaks("who answers is paid, who does not is not");
    }

    /// @dev With what is owed, which who refused it has, too.
    function balanceOf(address account) private view returns (uint256) {
        return account.balance + desk.owed(account);
    }

    /// @dev What names the challenge of a leaf of the payout that is pending.
    function leafNow(uint64 index) private view returns (bytes32) {
        Settlement.Payout memory pending = settlement.pendingPayout();
        return keccak256(abi.encode("leaf", pending.epoch, pending.root, pending.postedAt, index));
    }
}
