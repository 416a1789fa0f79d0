// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "./Codec.sol";
import {FaultBase} from "./FaultBase.sol";
import {Metered} from "./Metered.sol";
import {NodeTrees} from "./NodeTrees.sol";
import {Openings} from "./Openings.sol";
import {Pay} from "./Pay.sol";
import {PayoutTrees} from "./PayoutTrees.sol";
import {ISessions, ISettlement, IStakes} from "./Ports.sol";
import {ReceiptRules} from "./ReceiptRules.sol";
import {Sig} from "./Sig.sol";
import {Trees} from "./Trees.sol";

/// @title Faults that only silence proves: F8, F6 against the client's request, and payout trees that nobody can open
/// @notice A challenger attaches a bond and asks for what the accused must hold. Who answers in time is given half of what the answer cost, out of the
/// bond, the rest of which is the challenger's again: neither earns, and neither makes the other pay more than it pays itself. Against who does not answer,
/// anybody settles: the accused is slashed, the challenger gets its bond back. Answers are in the events, so that one serves everybody. A challenge is possible only while there is time to answer and as much again to settle before the window closes.
/// @dev A request's id does not bind what it asks for. A client could sign a second request under the id of an answered one and hold it
/// against its node; so the node may show the one it answered. A stretch of receipts may be shown in any number of calls, by anybody: whoever is
/// ahead of the node with some of its receipts has paid for showing them, half of which it gets back, and the node's call, which holds them too, goes on behind them.
contract ReceiptChallenge is FaultBase {
    using Openings for Openings.Reader;

    /// @notice A challenge; `deadline` in seconds since 1970, `shown` in receipts of its stretch.
    struct Challenge {
        address challenger;
        uint64 deadline;
        uint16 shown;
        bool closed;
        bool ofPayout;
    }

    /// @notice Most receipts that one challenge asks for: what a node can show within `answerSeconds`, in as many transactions as it needs.
    uint64 public constant STRETCH_MAX = 256;
    /// @notice Most bytes that a receipt's quote, and its manifest, may have to be shown: the largest manifest has 1,465. A receipt may name other bytes, of
    /// any length; what is shown must fit into the transaction that proves a payout wrong, beside the receipt and the openings.
    uint256 public constant NAMED_BYTES_MAX = 4_096;
    /// @dev Questions, one after the other, that find a wrong line of a payout tree that is shown only on demand: one for each level of 2^20 accounts and
    /// of 2^16 parts of one of them.
    uint64 private constant QUESTIONS = 36;
    /// @dev A window shorter than this is that of a chain for development, whose trees have few levels.
    uint64 private constant W2_OF_NETWORKS = 1 hours;
    /// @dev The head of a sum tree: count u64, total u128, top. A leaf, or a part, with its opening is longer.
    uint256 private constant SUM_HEAD_BYTES = 56;

    /// @notice Says whose key may sign requests.
    ISessions public immutable escrow;
    /// @notice What a challenger attaches, in wei, for each receipt of a stretch and for everything else that can be asked for: the most that it pays
    /// for an answer; half of what an answer costs, and some, so that who answers is given that.
    uint128 public immutable bond;
    /// @notice Seconds in which a node may answer.
    uint64 public immutable answerSeconds;
    /// @notice Seconds in which a poster may. A wrong line of a tree that nobody shows is found by as many questions as the tree has levels, each of
    /// which a poster may leave open so long: within W2 there must be time for all of them.
    uint64 public immutable payoutAnswerSeconds;

    /// @notice When a node was found to withhold a receipt of an epoch, in seconds since 1970; 0 if it was not. If W1 had not ended, none of
    /// the node's receipts of that epoch has a part.
    mapping(uint64 => mapping(address => uint64)) public withheldAt;
    /// @notice Wei that a payee could not take, and what answers left of a challenger's bond, by payee.
    mapping(address => uint256) public owed;
    mapping(bytes32 => Challenge) private challenges;
    /// @dev Which receipts were asked for, a bit for each, by the id of no receipts from the 256 k-th on, k for its place: each once, so that a node never
    /// has to show more than its root has.
    mapping(bytes32 => uint256) private askedFor;

    event ReceiptsChallenged(
        bytes32 indexed id, uint64 indexed epoch, address indexed node, uint64 first, uint64 count, address challenger, uint64 deadline
    );
    event ReceiptShown(bytes32 indexed id, uint64 index, bytes receipt, bytes signature, bytes quote, bytes manifest);
    event RequestChallenged(bytes32 indexed id, bytes32 indexed receiptHash, address indexed node, bytes request, uint64 deadline);
    event RequestShown(bytes32 indexed id, bytes request, bytes signature);
    event PayoutChallenged(
        bytes32 indexed id, uint64 indexed epoch, address indexed account, bool ofParts, uint64 index, address challenger, uint64 deadline
    );
    event PayoutShown(bytes32 indexed id, bytes evidence);
    event Unanswered(bytes32 indexed id, address indexed accused, address indexed challenger);
    event Credited(address indexed payee, uint256 amount);

    error WrongBond(uint256 expected, uint256 got);
    error ZeroAnswerTime();
    error AnswersBeyondWindow(uint256 needed, uint256 window);
    /// @notice It was asked for before; of a stretch, one of its receipts was.
    error KnownChallenge(bytes32 id);
    error NoChallenge(bytes32 id);
    error TooLate(uint256 until, uint256 timeNow);
    error StillOpen(uint64 deadline, uint256 timeNow);
    error StretchCount(uint64 most, uint64 got);
    error StretchBeyondCount(uint256 end, uint64 count);
    error NothingShown();
    error NotNext(uint64 next, uint64 got);
    error NamedTooLong(uint256 most, uint256 got);
    error NotAReceiptOf(address node);
    error WrongSigner(address expected, address recovered);
    error OtherRequest(bytes32 expected, bytes32 got);
    error RequestIsMet();
    error RequestIsNotMet();
    error NothingPending();
    error OtherLeaf(uint64 expected, uint64 got);
    error NothingOwed(address account);
    error NotYours(bytes32 id, address challenger);

    /// @param escrow_ See `escrow`.
    /// @param bond_ See `bond`.
    /// @param answerSeconds_ Seconds for a node to answer in; W1 must be longer than twice that.
    /// @param payoutAnswerSeconds_ Seconds for a poster; W2, if it is an hour or longer, must hold that as often as a payout tree and its parts have levels,
    /// and once more.
    constructor(
        IStakes stakeManager_,
        ISettlement settlement_,
        ISessions escrow_,
        uint128 bond_,
        uint64 answerSeconds_,
        uint64 payoutAnswerSeconds_
    ) FaultBase(stakeManager_, settlement_) {
        if (address(escrow_) == address(0)) revert ZeroAddress("escrow");
        if (answerSeconds_ == 0 || payoutAnswerSeconds_ == 0) revert ZeroAnswerTime();
        // The last question must be open for a full time before W2 ends, and be settled.
        (uint256 needed, uint256 window) = ((QUESTIONS + 1) * uint256(payoutAnswerSeconds_), settlement_.w2());
        if (window >= W2_OF_NETWORKS && needed > window) revert AnswersBeyondWindow(needed, window);
        escrow = escrow_;
        bond = bond_;
        answerSeconds = answerSeconds_;
        payoutAnswerSeconds = payoutAnswerSeconds_;
    }

    // ------------------------------------------------------------------ F8: receipts are withheld

    /// @notice F8: asks a node for `count` receipts, from the one at `first` on, under the root it submitted in block `blockNumber`. Within W1.
    /// The bond is due for each, none of which was asked for before: it is in the events, or anybody settles.
    function challengeReceipts(bytes calldata nodeRoot, uint64 blockNumber, uint64 first, uint64 count) external payable {
        settlement.requireNodeRoot(nodeRoot, blockNumber);
        Codec.NodeRoot memory root = Codec.nodeRoot(nodeRoot);
        if (count == 0 || count > STRETCH_MAX) revert StretchCount(STRETCH_MAX, count);
        bytes32 id = stretchId(root, first, count);
        // Two uint64 in a uint256; a bond of 128 bits, 256 times.
        unchecked {
            uint256 end = uint256(first) + count;
            if (end > root.count) revert StretchBeyondCount(end, root.count);
            uint64 deadline = open(id, dueAt(root.epoch), uint256(bond) * count, false);
            // A stretch of 256 at most lies in two words.
            uint256 bits = type(uint256).max >> (256 - count);
            mark(root, first >> 8, bits << (first & 255), id);
            mark(root, (first >> 8) + 1, bits >> (256 - (first & 255)), id);
            emit ReceiptsChallenged(id, root.epoch, root.node, first, count, msg.sender, deadline);
        }
    }

    /// @dev Notes that the receipts of `bits` are asked for by the challenge `id`, none of which may have been before.
    function mark(Codec.NodeRoot memory root, uint64 word, uint256 bits, bytes32 id) private {
        if (bits == 0) return;
        bytes32 key = stretchId(root, word, 0);
        uint256 before = askedFor[key];
        if (before & bits != 0) revert KnownChallenge(id);
        askedFor[key] = before | bits;
    }

    /// @notice Shows receipts and all that their parts follow from. Callable by anyone, who is given half of what it cost, at most the bonds of the receipts
    /// that nobody had shown before. Receipts that nobody asked for are shown as the stretch of no receipts that begins with the first of them.
    /// @param evidence NodeRoot body, submission block u64, first u64, count u64, and, unless that is 0, the place u64 of the first receipt shown here; then
    /// receipts that follow each other, one at least, each with its length u32: receipt, signature, quote, manifest; then its siblings. Quote and manifest
    /// may be empty where nothing is billed. Those shown before are passed over unread, so that nobody makes the node's call fail by being
    /// ahead of it; none may be left out.
    function showReceipts(bytes calldata evidence) external {
        uint256 start = gasleft();
        Openings.Reader memory reader = Openings.over(evidence);
        NodeTrees.Place memory place = NodeTrees.root(reader, settlement);
        (uint64 first, uint64 count) = (reader.u64(), reader.u64());
        bytes32 id = stretchId(place.root, first, count);
        uint64 next = first;
        if (count != 0) next += inTime(id).shown;
        place.index = count == 0 ? first : reader.u64();
        if (place.index < first || place.index > next) revert NotNext(next, place.index);
        if (reader.left() == 0) revert NothingShown();
        for (; reader.left() != 0 && (count == 0 || place.index < first + count); ++place.index) {
            if (place.index < next) passAt(reader, place.root.count);
            else showAt(reader, id, place);
        }
        reader.finish();
        if (count == 0 || place.index <= next) return;
        // A stretch that was asked for ends within its root, is no longer than `STRETCH_MAX`, and was shown as far as `next`.
        unchecked {
            challenges[id].shown = uint16(place.index - first);
            if (place.index == first + count) challenges[id].closed = true;
            answered(id, place.index - next, start);
        }
    }

    /// @dev Passes over a receipt that was shown before: its four blobs, and its siblings under a root of `count` receipts.
    function passAt(Openings.Reader memory reader, uint64 count) private pure {
        for (uint256 i = 0; i < 4; ++i) reader.blob();
        reader.cut(Trees.SUM_SIBLING_BYTES * Openings.depth(count));
    }

    function showAt(Openings.Reader memory reader, bytes32 id, NodeTrees.Place memory place) private {
        bytes calldata receipt = reader.blob();
        bytes calldata signature = reader.blob();
        if (!Codec.isWellFormed(receipt)) revert NotAReceiptOf(place.root.node);
        bytes32 receiptHash = requireSigned(place.root.node, receipt, signature);
        bytes calldata quote = reader.blob();
        bytes calldata manifest = reader.blob();
        if (quote.length > NAMED_BYTES_MAX) revert NamedTooLong(NAMED_BYTES_MAX, quote.length);
        if (manifest.length > NAMED_BYTES_MAX) revert NamedTooLong(NAMED_BYTES_MAX, manifest.length);
        ReceiptRules.Case memory c = ReceiptRules.open(receipt, quote, manifest);
        if (c.receipt.node != place.root.node) revert NotAReceiptOf(place.root.node);
        if (Codec.isBillable(c.receipt.reason) && !c.hasQuote) revert ReceiptRules.NotTheQuote(c.receipt.quoteHash, 0);
        if (Codec.isBillable(c.receipt.reason) && !c.hasManifest) revert ReceiptRules.NotTheManifest(c.receipt.manifestRoot, 0);
        NodeTrees.requireAt(reader, place.root, place.index, receiptHash, c.receipt.fee);
        emit ReceiptShown(id, place.index, receipt, signature, quote, manifest);
    }

    /// @notice Settles a challenge of which a receipt was not shown: the node is slashed, once for a root, and nothing under the root is paid.
    function settleReceipts(bytes calldata nodeRoot, uint64 blockNumber, uint64 first, uint64 count) external {
        settlement.requireNodeRoot(nodeRoot, blockNumber);
        Codec.NodeRoot memory root = Codec.nodeRoot(nodeRoot);
        bytes32 id = stretchId(root, first, count);
        address challenger = unanswered(id, root.node);
        if (withheldAt[root.epoch][root.node] == 0) withheldAt[root.epoch][root.node] = uint64(block.timestamp);
        bytes32 faultHash = keccak256(abi.encode("F8", root.epoch, root.node));
        if (stakeManager.slashOf(faultHash) == 0) {
            stakeManager.slash(root.node, root.feeSum, address(0), 0, 0, challenger, faultHash);
        }
        // What was shown is paid.
        give(challenger, uint256(bond) * (count - challenges[id].shown));
    }

    // ------------------------------------------------------------------ F6: the client's request

    /// @notice F6: holds a request of the client against a receipt under a submitted root: other manifest, profile, class or prompt; more
    /// output tokens; a fee above the spending limit; rates of the quote above the limits. Within W1.
    /// @param request Body of the request, `signature` the client's, or that of a key that is or was its session's.
    /// @param evidence NodeRoot body, submission block u64, index u64, then with their lengths u32: receipt, quote; then the receipt's
    /// siblings.
    function challengeRequest(bytes calldata request, bytes calldata signature, bytes calldata evidence) external payable {
        (Codec.NodeRoot memory root, ReceiptRules.Case memory c, bytes32 receiptHash) = billed(evidence);
        requireRequest(request, signature, c.receipt);
        if (isMet(Codec.request(request), c)) revert RequestIsMet();
        bytes32 id = requestId(receiptHash);
        uint64 deadline = open(id, dueAt(root.epoch), bond, false);
        emit RequestChallenged(id, receiptHash, root.node, request, deadline);
    }

    /// @notice Answers with the request that the node was asked by. Callable by anyone, who is given half of what it cost.
    /// @param evidence As in `challengeRequest`.
    function showRequest(bytes calldata request, bytes calldata signature, bytes calldata evidence) external {
        uint256 start = gasleft();
        (, ReceiptRules.Case memory c, bytes32 receiptHash) = billed(evidence);
        requireRequest(request, signature, c.receipt);
        if (!isMet(Codec.request(request), c)) revert RequestIsNotMet();
        bytes32 id = requestId(receiptHash);
        emit RequestShown(id, request, signature);
        inTime(id).closed = true;
        answered(id, 1, start);
    }

    /// @notice Settles a challenge that was not answered: the receipt is void, its node slashed.
    function settleRequest(bytes calldata receipt) external {
        Codec.Receipt memory given = Codec.receipt(receipt);
        bytes32 receiptHash = keccak256(receipt);
        address challenger = unanswered(requestId(receiptHash), given.node);
        markVoid(receiptHash);
        if (stakeManager.slashOf(receiptHash) == 0) {
            stakeManager.slash(given.node, given.fee, given.client, given.fee, given.lane, challenger, receiptHash);
        }
        give(challenger, bond);
    }

    // ------------------------------------------------------------------ a payout tree is withheld

    /// @notice Asks the poster of the pending payout for leaf `index`. Its siblings tell in which part of the tree a wrong leaf hides.
    function challengeLeaf(uint64 index) external payable {
        ISettlement.Payout memory pending = pendingPayout();
        bytes32 id = leafId(pending, index);
        uint64 deadline = open(id, pending.postedAt + settlement.w2(), bond, true);
        emit PayoutChallenged(id, pending.epoch, address(0), false, index, msg.sender, deadline);
    }

    /// @notice Asks the poster for part `index` of a leaf.
    /// @param evidence The leaf, as Protocol P7 opens one.
    function challengePart(bytes calldata evidence, uint64 index) external payable {
        ISettlement.Payout memory pending = pendingPayout();
        Openings.Reader memory reader = Openings.over(evidence);
        PayoutTrees.Leaf memory leaf = PayoutTrees.leaf(reader, pending.root);
        reader.finish();
        bytes32 id = partId(pending, leaf.index, index);
        uint64 deadline = open(id, pending.postedAt + settlement.w2(), bond, true);
        emit PayoutChallenged(id, pending.epoch, leaf.account, true, index, msg.sender, deadline);
    }

    /// @notice Answers with the leaf. Callable by anyone, who is given half of what it cost.
    /// @param evidence The leaf; or, if the tree has no such leaf, its last one; or, if it has none, the head of its root.
    function showLeaf(uint64 index, bytes calldata evidence) external {
        showLine(false, index, evidence, gasleft());
    }

    /// @notice Answers with the part. Callable by anyone, who is given half of what it cost.
    /// @param evidence The leaf, then the part; or, if the leaf has no such part, its last one; or, if it has none, the head of its parts
    /// tree.
    function showPart(uint64 index, bytes calldata evidence) external {
        showLine(true, index, evidence, gasleft());
    }

    /// @notice Answers many questions for leaves and parts. Callable by anyone, who is given half of what the call cost, at most the bonds of what it was
    /// the first to show; who asked for those bears equal shares of it. What was answered before, or is asked for no more, is passed over: nobody makes the call fail by being ahead of it.
    /// @param answers How many u32; then of each: 1 for a part or 0 for a leaf u8, its index u64, and the evidence of `showPart` or `showLeaf`
    /// with its length u32.
    function showLines(bytes calldata answers) external {
        uint256 start = gasleft();
        ISettlement.Payout memory pending = pendingPayout();
        Openings.Reader memory reader = Openings.over(answers);
        address[] memory asked = new address[](reader.u32());
        uint256 count = 0;
        for (uint256 i = 0; i < asked.length; ++i) {
            (bool ofPart, uint64 index, bytes calldata evidence) = (reader.u8() != 0, reader.u64(), reader.blob());
            bytes32 id = lineAt(pending, ofPart, index, evidence);
            Challenge storage challenge = challenges[id];
            // No deadline, none to come.
            if (challenge.closed || block.timestamp >= challenge.deadline) continue;
            challenge.closed = true;
            asked[count++] = challenge.challenger;
            emit PayoutShown(id, evidence);
        }
        reader.finish();
        if (count != 0) divide(asked, count, Metered.half(start) / count);
    }

    /// @notice Settles a challenge for leaf `index` that was not answered: the payout is taken back, its poster slashed.
    function settleLeaf(uint64 index) external {
        ISettlement.Payout memory pending = pendingPayout();
        settlePayout(pending, leafId(pending, index));
    }

    /// @notice Settles a challenge for part `index` of leaf `leafIndex` that was not answered.
    function settlePart(uint64 leafIndex, uint64 index) external {
        ISettlement.Payout memory pending = pendingPayout();
        settlePayout(pending, partId(pending, leafIndex, index));
    }

    /// @notice Gives the caller its bond back if it challenged a payout that was taken back, for whatever reason, before anybody answered.
    /// What is pending still is settled instead: there are `payoutAnswerSeconds` to do so.
    function reclaim(bytes32 id) external {
        Challenge storage challenge = known(id);
        if (msg.sender != challenge.challenger || !challenge.ofPayout) revert NotYours(id, challenge.challenger);
        uint64 from = challenge.deadline + payoutAnswerSeconds;
        if (block.timestamp < from) revert StillOpen(from, block.timestamp);
        challenge.closed = true;
        give(msg.sender, bond);
    }

    /// @notice Pays `account` what could not be paid before.
    function withdrawOwed(address account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        give(account, amount);
    }

    /// @notice A challenge; zeros if there is none.
    function challengeOf(bytes32 id) external view returns (Challenge memory) {
        return challenges[id];
    }

    // ------------------------------------------------------------------ private

    function settlePayout(ISettlement.Payout memory pending, bytes32 id) private {
        address challenger = unanswered(id, pending.poster);
        uint128 value = pending.total - settlement.finalPayout().total;
        bytes32 faultHash = keccak256(abi.encode("F7", pending.epoch, pending.root, pending.postedAt));
        settlement.overturn(pending.epoch, challenger, faultHash);
        if (stakeManager.slashOf(faultHash) == 0) {
            stakeManager.slash(pending.poster, value, address(0), 0, 0, challenger, faultHash);
        }
        give(challenger, bond);
    }

    function open(bytes32 id, uint256 until, uint256 value, bool ofPayout) private returns (uint64 deadline) {
        if (msg.value != value) revert WrongBond(value, msg.value);
        if (challenges[id].challenger != address(0)) revert KnownChallenge(id);
        uint64 time = ofPayout ? payoutAnswerSeconds : answerSeconds;
        if (block.timestamp + 2 * uint256(time) > until) revert TooLate(until, block.timestamp);
        deadline = uint64(block.timestamp) + time;
        challenges[id] = Challenge({challenger: msg.sender, deadline: deadline, shown: 0, closed: false, ofPayout: ofPayout});
    }

    /// @dev A challenge that may still be answered.
    function inTime(bytes32 id) private view returns (Challenge storage challenge) {
        challenge = known(id);
        if (block.timestamp >= challenge.deadline) revert TooLate(challenge.deadline, block.timestamp);
    }

    /// @dev Divides the bonds of what was shown and nobody had shown before: half of the call's price to the caller, what is left to the challenger, who is
    /// credited and not called, because the caller pays for this. Books first, then the payment.
    function answered(bytes32 id, uint256 shown, uint256 start) private {
        uint256 bonds = uint256(bond) * shown;
        uint256 price = Metered.half(start);
        if (price > bonds) price = bonds;
        if (price < bonds) credit(challenges[id].challenger, bonds - price);
        give(msg.sender, price);
    }

    /// @dev The same for `count` questions for a line each, whose bonds `asked` attached: each bears `price`. Who asked several in a row is credited once.
    function divide(address[] memory asked, uint256 count, uint256 price) private {
        if (price > bond) price = bond;
        uint256 rest = 0;
        // A uint128 at most 2^32 times.
        unchecked {
            for (uint256 i = 0; i < count; ++i) {
                rest += bond - price;
                if (rest == 0 || (i + 1 < count && asked[i + 1] == asked[i])) continue;
                credit(asked[i], rest);
                rest = 0;
            }
            give(msg.sender, price * count);
        }
    }

    function showLine(bool ofPart, uint64 index, bytes calldata evidence, uint256 start) private {
        bytes32 id = lineAt(pendingPayout(), ofPart, index, evidence);
        emit PayoutShown(id, evidence);
        inTime(id).closed = true;
        answered(id, 1, start);
    }

    /// @dev The challenge that `evidence` answers.
    function lineAt(ISettlement.Payout memory pending, bool ofPart, uint64 index, bytes calldata evidence) private pure returns (bytes32 id) {
        Openings.Reader memory reader = Openings.over(evidence);
        id = leafId(pending, index);
        if (!ofPart && evidence.length == SUM_HEAD_BYTES) {
            PayoutTrees.requireEmpty(reader, pending.root);
        } else {
            PayoutTrees.Leaf memory leaf = PayoutTrees.leaf(reader, pending.root);
            if (!ofPart) {
                requirePlace(index, leaf.index, leaf.count);
            } else {
                id = partId(pending, leaf.index, index);
                if (reader.left() == SUM_HEAD_BYTES) {
                    PayoutTrees.requireEmpty(reader, leaf.partsRoot);
                } else {
                    PayoutTrees.Part memory part = PayoutTrees.part(reader, leaf.partsRoot);
                    requirePlace(index, part.index, part.count);
                }
            }
        }
        reader.finish();
    }

    function unanswered(bytes32 id, address accused) private returns (address challenger) {
        Challenge storage challenge = known(id);
        if (block.timestamp < challenge.deadline) revert StillOpen(challenge.deadline, block.timestamp);
        challenge.closed = true;
        challenger = challenge.challenger;
        emit Unanswered(id, accused, challenger);
    }

    function known(bytes32 id) private view returns (Challenge storage challenge) {
        challenge = challenges[id];
        if (challenge.challenger == address(0) || challenge.closed) revert NoChallenge(id);
    }

    function give(address payee, uint256 amount) private {
        if (amount != 0 && !Pay.tryPay(payee, amount)) credit(payee, amount);
    }

    function credit(address payee, uint256 amount) private {
        owed[payee] += amount;
        emit Credited(payee, amount);
    }

    function billed(bytes calldata evidence)
        private
        view
        returns (Codec.NodeRoot memory root, ReceiptRules.Case memory c, bytes32 receiptHash)
    {
        Openings.Reader memory reader = Openings.over(evidence);
        NodeTrees.Place memory place = NodeTrees.root(reader, settlement);
        place.index = reader.u64();
        bytes calldata receipt = reader.blob();
        receiptHash = keccak256(receipt);
        c = ReceiptRules.open(receipt, reader.blob(), reader.cut(0));
        NodeTrees.requireAt(reader, place.root, place.index, receiptHash, c.receipt.fee);
        reader.finish();
        root = place.root;
        if (c.receipt.node != root.node || !Codec.isBillable(c.receipt.reason)) revert NotAReceiptOf(root.node);
        if (!c.isQuote) revert ReceiptRules.NotTheQuote(c.receipt.quoteHash, 0);
    }

    function requireRequest(bytes calldata request, bytes calldata signature, Codec.Receipt memory receipt) private view {
        Codec.Request memory given = Codec.request(request);
        bytes32 id = Codec.requestId(given.client, given.nonce);
        if (id != receipt.requestId) revert OtherRequest(receipt.requestId, id);
        address signer = Sig.signer(Sig.digest(Sig.domain(address(settlement)), Sig.REQUEST, keccak256(request)), signature);
        if (signer == address(0)) revert WrongSigner(given.client, signer);
        // A session that has ended counts: what was served while it was live must stay showable.
        if (signer != given.client && escrow.sessionOf(given.client, signer).expiryBlock == 0) revert WrongSigner(given.client, signer);
    }

    function isMet(Codec.Request memory asked, ReceiptRules.Case memory c) private pure returns (bool) {
        Codec.Receipt memory got = c.receipt;
        return asked.client == got.client && asked.manifestRoot == got.manifestRoot && asked.promptRoot == got.promptRoot
            && asked.profile == got.profile && asked.class == got.class && got.fee <= asked.spendingLimit
            && uint256(got.firstToken) + got.tokensOut <= asked.maxTokens && c.quote.rateIn <= asked.maxRateIn
            && c.quote.rateOut <= asked.maxRateOut;
    }

    function pendingPayout() private view returns (ISettlement.Payout memory pending) {
        pending = settlement.pendingPayout();
        if (pending.epoch == 0) revert NothingPending();
    }

    /// @dev The place asked for, or the last of fewer.
    function requirePlace(uint64 asked, uint64 shown, uint64 count) private pure {
        uint64 expected = asked < count ? asked : count - 1;
        if (shown != expected) revert OtherLeaf(expected, shown);
    }

    function dueAt(uint64 epoch) private view returns (uint256) {
        return uint256(settlement.epochs(epoch).openedAt) + settlement.w1();
    }

    function stretchId(Codec.NodeRoot memory root, uint64 first, uint64 count) private pure returns (bytes32) {
        return keccak256(abi.encode("F8", root.epoch, root.node, first, count));
    }

    function requestId(bytes32 receiptHash) private pure returns (bytes32) {
        return keccak256(abi.encode("F6", receiptHash));
    }

    function leafId(ISettlement.Payout memory pending, uint64 index) private pure returns (bytes32) {
        return keccak256(abi.encode("leaf", pending.epoch, pending.root, pending.postedAt, index));
    }

    function partId(ISettlement.Payout memory pending, uint64 leafIndex, uint64 index) private pure returns (bytes32) {
        return keccak256(abi.encode("part", pending.epoch, pending.root, pending.postedAt, leafIndex, index));
    }
}
