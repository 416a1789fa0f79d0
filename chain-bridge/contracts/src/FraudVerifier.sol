// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "./Codec.sol";
import {FaultBase} from "./FaultBase.sol";
import {NodeTrees} from "./NodeTrees.sol";
import {Openings} from "./Openings.sol";
import {ISettlement, IStakes} from "./Ports.sol";

/// @title Faults of a node that its own signatures prove: F1, F3, F5's block and F6's lane
/// @notice Every proof opens what the node itself signed and shows a contradiction inside it. One transaction, no judge. What is opened, and
/// how, is Protocol P7. The rest of F4 to F6 is `BillingVerifier`.
contract FraudVerifier is FaultBase {
    using Openings for Openings.Reader;

    /// @notice Why a span is false, hence what its evidence opens.
    enum Mode {
        /// The span is empty or longer than `MAX_SPAN_BYTES`. Nothing is opened.
        Length,
        /// The span ends beyond the answer. The head of the answer root is opened.
        AnswerEnd,
        /// The span names a Datanet that the index does not have. The head of the index root is opened.
        DatanetIndex,
        /// The span ends beyond its Datanet. The Datanet leaf is opened.
        DatanetEnd,
        /// The bytes differ, or the Datanet's text ends inside the span. Everything is opened.
        Bytes
    }

    /// @notice Longest span there is (Protocol section 6): the index orders no more than these bytes.
    uint256 public constant MAX_SPAN_BYTES = 256;
    /// @notice Bytes between the starts of two text leaves (Protocol P3).
    uint256 public constant LEAF_STRIDE_BYTES = 64;

    /// @dev An answer leaf: leaf salt 32, running weight 8, word count 1, words of 7 bytes, text leaf.
    uint256 private constant ANSWER_HEAD_BYTES = 41;
    uint256 private constant WORD_BYTES = 7;

    /// @notice Blocks that a receipt may name beyond the block of its node root: how far the chain's head may be undone.
    uint64 public immutable graceBlocks;
    /// @notice A receipt is void if the block it names is further than this behind the block of its node root.
    uint64 public immutable maxAgeBlocks;

    event FalseSpanProven(bytes32 indexed receiptHash, address indexed node, uint16 span, Mode mode, address reporter);
    event EquivocationProven(bytes32 indexed first, bytes32 indexed second, address indexed node, address reporter);
    event RepeatProven(bytes32 indexed receiptHash, address indexed node, address reporter);
    event LaneRefuted(bytes32 indexed receiptHash, address indexed node, address reporter);
    event BlockRefuted(bytes32 indexed receiptHash, address indexed node, uint64 named, uint64 submitted, address reporter);

    error SpanIsTrue();
    error WrongRoot(string what, bytes32 expected, bytes32 got);
    error OutsideSegment(uint256 position, uint64 start, uint64 length);
    error NotInThisMode(string why);
    error NoContradiction();
    error SameLeaf(uint64 epoch, uint64 index);
    error LaneHolds();
    error BlockInWindow(uint64 named, uint64 submitted);

    /// @param graceBlocks_ See `graceBlocks`.
    /// @param maxAgeBlocks_ See `maxAgeBlocks`; longer than an epoch and its time for node roots, in blocks.
    constructor(IStakes stakeManager_, ISettlement settlement_, uint64 graceBlocks_, uint64 maxAgeBlocks_)
        FaultBase(stakeManager_, settlement_)
    {
        requireAge(settlement_, maxAgeBlocks_);
        graceBlocks = graceBlocks_;
        maxAgeBlocks = maxAgeBlocks_;
    }

    // ------------------------------------------------------------------ F1

    /// @notice F1: a span is false. It is void: its part goes to the insurance pool, not to whom it names, who may be the node's own. The node is
    /// slashed, the client gets its fee back; the receipt still pays everybody else. A further false span of a receipt that was slashed for is void
    /// without a slash.
    /// @param receipt The body, `signature` the node's over it.
    /// @param span Number of the span.
    /// @param evidence Packed as `mode` asks for: see Protocol P7.
    function proveFalseSpan(bytes calldata receipt, bytes calldata signature, uint16 span, Mode mode, bytes calldata evidence)
        external
        committed
    {
        (Codec.Claim memory given, bytes32 receiptHash) = falseSpan(receipt, signature, span, mode, evidence);
        bool isNew = markVoid(Codec.spanId(receiptHash, span));
        if (isNew && stakeManager.slashOf(receiptHash) != 0) return;
        slashFor(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    /// @notice The same for a span whose receipt's W1 has ended: what becomes void now changes no payout, so the node is slashed and nothing is marked,
    /// for 30,000 gas less. Takes what `proveFalseSpan` takes; one receipt is slashed for once by either.
    function slashFalseSpan(bytes calldata receipt, bytes calldata signature, uint16 span, Mode mode, bytes calldata evidence)
        external
        committed
    {
        (Codec.Claim memory given, bytes32 receiptHash) = falseSpan(receipt, signature, span, mode, evidence);
        slashFor(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    function falseSpan(bytes calldata receipt, bytes calldata signature, uint16 span, Mode mode, bytes calldata evidence)
        private
        returns (Codec.Claim memory given, bytes32 receiptHash)
    {
        given = Codec.claim(receipt, span);
        requireFalse(mode, given, evidence);
        receiptHash = requireSigned(given.node, receipt, signature);
        emit FalseSpanProven(receiptHash, given.node, span, mode, msg.sender);
    }

    // ------------------------------------------------------------------ F3

    /// @notice F3: two receipts that one honest node never signs both of: other bodies for one attempt, output tokens of one request billed
    /// twice, or money of one lane charged twice. Both are void; the node is slashed for the one with the higher fee that it was not slashed
    /// for yet.
    /// @dev A billed receipt speaks for the stretch (cumulative-after - fee, cumulative-after] of its lane. Stretches that do not overlap,
    /// each below what the lane collected, hold no more than that in all: so receipts are never paid with another lane's money.
    function proveEquivocation(
        bytes calldata first,
        bytes calldata firstSignature,
        bytes calldata second,
        bytes calldata secondSignature
    ) external committed {
        Codec.Receipt memory a = Codec.receipt(first);
        Codec.Receipt memory b = Codec.receipt(second);
        bytes32 hashA = requireSigned(a.node, first, firstSignature);
        bytes32 hashB = requireSigned(b.node, second, secondSignature);
        equivocated(a, hashA, b, hashB);
    }

    function equivocated(Codec.Receipt memory a, bytes32 hashA, Codec.Receipt memory b, bytes32 hashB) private {
        if (a.node != b.node || hashA == hashB) revert NoContradiction();
        if (!isSameAnswer(a, b) && !isSameMoney(a, b)) revert NoContradiction();
        emit EquivocationProven(hashA, hashB, a.node, msg.sender);
        bool isNew = markVoid(hashA);
        isNew = markVoid(hashB) || isNew;
        bool openA = stakeManager.slashOf(hashA) == 0;
        bool openB = stakeManager.slashOf(hashB) == 0;
        if (isNew && !openA && !openB) return;
        if (openA && (!openB || a.fee >= b.fee)) slashFor(a.node, a.client, a.lane, a.fee, hashA);
        else slashFor(b.node, b.client, b.lane, b.fee, hashB);
    }

    /// @notice F3: one receipt stands at two places of its node's submitted trees. It is void, its node slashed.
    /// @param evidence Twice: NodeRoot body, submission block u64, index u64, siblings.
    function proveRepeat(bytes calldata receipt, bytes calldata evidence) external committed {
        Codec.Receipt memory given = Codec.receipt(receipt);
        bytes32 receiptHash = keccak256(receipt);
        Openings.Reader memory reader = Openings.over(evidence);
        NodeTrees.Place memory a = NodeTrees.find(reader, settlement, receiptHash, given.fee);
        NodeTrees.Place memory b = NodeTrees.find(reader, settlement, receiptHash, given.fee);
        reader.finish();
        if (a.root.node != given.node || b.root.node != given.node) revert NoContradiction();
        if (a.root.epoch == b.root.epoch && a.index == b.index) revert SameLeaf(a.root.epoch, a.index);
        emit RepeatProven(receiptHash, given.node, msg.sender);
        voidAndSlash(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    // ------------------------------------------------------------------ F6, the lane

    /// @notice F6: a billed receipt takes from a lane what the lane does not promise: it is another payer's or another node's, had expired at
    /// the named block, or ends below the cumulative amount. The receipt is void, its node slashed.
    /// @param lane Body of the lane that the receipt names.
    function proveLane(bytes calldata receipt, bytes calldata signature, bytes calldata lane) external committed {
        Codec.Receipt memory given = Codec.receipt(receipt);
        bytes32 receiptHash = requireSigned(given.node, receipt, signature);
        if (keccak256(lane) != given.lane) revert WrongRoot("lane", given.lane, keccak256(lane));
        if (!Codec.isBillable(given.reason) || isPromised(given, lane)) revert LaneHolds();
        emit LaneRefuted(receiptHash, given.node, msg.sender);
        voidAndSlash(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    /// @dev Bytes that are no lane promise nothing: the node that named their hash knows it.
    function isPromised(Codec.Receipt memory given, bytes calldata body) private pure returns (bool) {
        if (body.length != Codec.LANE_BYTES) return false;
        Codec.Lane memory lane = Codec.lane(body);
        return lane.payer == given.client && lane.node == given.node && given.blockNumber <= lane.expiryBlock
            && given.cumulativeAfter <= lane.cap;
    }

    // ------------------------------------------------------------------ F5, the named block

    /// @notice F5: the block that a receipt names does not fit its node root's. One after it cannot have been known: the node is slashed. One
    /// too long before it makes the receipt void and costs nothing: when a root is included is not the node's to choose.
    /// @param evidence NodeRoot body, submission block u64, index u64, siblings.
    function proveBlock(bytes calldata receipt, bytes calldata evidence) external committed {
        Codec.Receipt memory given = Codec.receipt(receipt);
        bytes32 receiptHash = keccak256(receipt);
        Openings.Reader memory reader = Openings.over(evidence);
        NodeTrees.Place memory place = NodeTrees.find(reader, settlement, receiptHash, given.fee);
        reader.finish();
        if (place.root.node != given.node) revert NoContradiction();
        uint256 named = given.blockNumber;
        uint256 submitted = place.blockNumber;
        bool isLate = named + maxAgeBlocks < submitted;
        if (!isLate && named <= submitted + graceBlocks) revert BlockInWindow(given.blockNumber, place.blockNumber);
        emit BlockRefuted(receiptHash, given.node, given.blockNumber, place.blockNumber, msg.sender);
        if (!isLate) voidAndSlash(given.node, given.client, given.lane, given.fee, receiptHash);
        else if (!markVoid(receiptHash)) revert NoContradiction();
    }

    /// @dev One attempt at one request, or output tokens of one request that both bill.
    function isSameAnswer(Codec.Receipt memory a, Codec.Receipt memory b) private pure returns (bool) {
        if (a.requestId != b.requestId) return false;
        if (a.attempt == b.attempt) return true;
        if (!Codec.isBillable(a.reason) || !Codec.isBillable(b.reason)) return false;
        uint256 start = a.firstToken > b.firstToken ? a.firstToken : b.firstToken;
        uint256 endA = uint256(a.firstToken) + a.tokensOut;
        uint256 endB = uint256(b.firstToken) + b.tokensOut;
        return start < (endA < endB ? endA : endB);
    }

    /// @dev Both bill and take something, and some wei of one lane is in both stretches. A fee above cumulative-after, itself a fault, reaches
    /// below the lane's beginning.
    function isSameMoney(Codec.Receipt memory a, Codec.Receipt memory b) private pure returns (bool) {
        if (a.lane != b.lane || a.fee == 0 || b.fee == 0) return false;
        if (!Codec.isBillable(a.reason) || !Codec.isBillable(b.reason)) return false;
        return uint256(a.cumulativeAfter) + b.fee > b.cumulativeAfter && uint256(b.cumulativeAfter) + a.fee > a.cumulativeAfter;
    }

    // ------------------------------------------------------------------ the false span

    function requireFalse(Mode mode, Codec.Claim memory given, bytes calldata evidence) private pure {
        Openings.Reader memory reader = Openings.over(evidence);
        if (!isFalse(mode, given, reader)) revert SpanIsTrue();
        reader.finish();
    }

    function isFalse(Mode mode, Codec.Claim memory given, Openings.Reader memory reader) private pure returns (bool) {
        Codec.Span memory span = given.span;
        if (mode == Mode.Length) return span.length == 0 || span.length > MAX_SPAN_BYTES;
        Openings.Opened memory opened;
        if (mode == Mode.AnswerEnd) {
            opened = reader.head();
            requireRoot("answer", given.answerRoot, opened.root);
            return uint256(span.start) + span.length > opened.length;
        }
        if (mode == Mode.DatanetIndex) {
            opened = reader.head();
            requireRoot("index", given.indexRoot, opened.root);
            return span.datanet >= opened.count;
        }
        bytes calldata leaf = reader.cut(Codec.DATANET_LEAF_BYTES);
        opened = reader.rootOf(leaf, span.datanet);
        requireRoot("index", given.indexRoot, opened.root);
        Codec.DatanetLeaf memory datanet = Codec.datanetLeaf(leaf);
        bool ends = uint256(span.position) + span.length > datanet.length;
        if (mode == Mode.DatanetEnd) return ends;
        if (ends) revert NotInThisMode("the span ends beyond its Datanet");
        if (span.length == 0 || span.length > MAX_SPAN_BYTES) revert NotInThisMode("the span's length");
        return bytesDiffer(given.answerRoot, span, datanet.segmentsRoot, reader);
    }

    /// @dev Compares the span's window in the Datanet's leaf with its window in the answer's. By the leaf rule a window of at most
    /// `MAX_SPAN_BYTES` lies inside the leaf in whose stride it starts; where a leaf is too short for it, the text ends inside the span.
    function bytesDiffer(bytes32 answerRoot, Codec.Span memory span, bytes32 segmentsRoot, Openings.Reader memory reader)
        private
        pure
        returns (bool)
    {
        bytes32 source = sourceWindow(span, segmentsRoot, reader);
        bytes calldata leaf = reader.blob();
        requireRoot("answer", answerRoot, reader.rootOf(leaf, span.start / LEAF_STRIDE_BYTES).root);
        bytes32 answered = window(answerText(leaf), span.start % LEAF_STRIDE_BYTES, span.length);
        return source == 0 || answered == 0 || source != answered;
    }

    function sourceWindow(Codec.Span memory span, bytes32 segmentsRoot, Openings.Reader memory reader) private pure returns (bytes32) {
        bytes calldata leaf = reader.cut(Codec.SEGMENT_LEAF_BYTES);
        requireRoot("segments", segmentsRoot, reader.rootOf(leaf, reader.u64()).root);
        Codec.SegmentLeaf memory segment = Codec.segmentLeaf(leaf);
        if (span.position < segment.start || span.position - segment.start >= segment.length) {
            revert OutsideSegment(span.position, segment.start, segment.length);
        }
        uint256 offset = span.position - segment.start;
        leaf = reader.blob();
        requireRoot("text", segment.textRoot, reader.rootOf(leaf, offset / LEAF_STRIDE_BYTES).root);
        return window(leaf, offset % LEAF_STRIDE_BYTES, span.length);
    }

    /// @dev Hash of a cut of `text`; zero if the text ends inside it.
    function window(bytes calldata text, uint256 start, uint256 length) private pure returns (bytes32) {
        return start + length > text.length ? bytes32(0) : keccak256(text[start:start + length]);
    }

    /// @dev The text leaf inside an answer leaf; empty if the leaf is malformed, which only the node that committed it can have caused.
    function answerText(bytes calldata leaf) private pure returns (bytes calldata) {
        if (leaf.length < ANSWER_HEAD_BYTES) return leaf[0:0];
        uint256 textAt = ANSWER_HEAD_BYTES + uint256(uint8(leaf[40])) * WORD_BYTES;
        return leaf.length < textAt ? leaf[0:0] : leaf[textAt:];
    }

    function requireRoot(string memory what, bytes32 expected, bytes32 got) private pure {
        if (expected != got) revert WrongRoot(what, expected, got);
    }
}
