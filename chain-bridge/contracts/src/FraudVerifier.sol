// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "./Codec.sol";
import {Sig} from "./Sig.sol";
import {StakeManager} from "./StakeManager.sol";
import {Trees} from "./Trees.sol";

/// @title Proofs of faults that need no judge: F1, the false span
/// @notice A span in a receipt says: these bytes of the answer stand at this position of that Datanet. One transaction opens both sides under
/// roots that the node itself signed and shows that they differ. A reporter first commits to the hash of its proof, so that nobody can copy
/// it out of the queue; from the next block on it may reveal it. The contract has no owner.
contract FraudVerifier {
    /// @notice Why the span is false, hence which openings the proof carries.
    enum Mode {
        /// The span is empty or longer than `MAX_SPAN_BYTES`. Nothing is opened.
        Length,
        /// The span ends beyond the answer. `answer.count`, `answer.length` and `top` are the head of the answer root.
        AnswerEnd,
        /// The span names a Datanet that the index does not have. `datanet.count`, `datanet.length` and `top` are the index root's head.
        DatanetIndex,
        /// The span ends beyond its Datanet. The Datanet leaf is opened.
        DatanetEnd,
        /// The bytes differ, or the Datanet's text ends inside the span. Everything is opened.
        Bytes
    }

    /// @notice A proof of F1. Openings and leaves that its mode does not use are left empty.
    struct FalseSpan {
        Mode mode;
        bytes receipt;
        bytes signature;
        uint16 span;
        bytes32 top;
        Trees.Opening answer;
        bytes answerLeaf;
        Trees.Opening datanet;
        bytes datanetLeaf;
        Trees.Opening segment;
        bytes segmentLeaf;
        Trees.Opening text;
        bytes textLeaf;
    }

    /// @notice Longest span there is (Protocol section 6): the index orders no more than these bytes.
    uint256 public constant MAX_SPAN_BYTES = 256;
    /// @notice Bytes between the starts of two text leaves (Protocol P3).
    uint256 public constant LEAF_STRIDE_BYTES = 64;

    /// @dev An answer leaf: leaf salt 32, running weight 8, word count 1, words of 7 bytes, text leaf.
    uint256 private constant ANSWER_HEAD_BYTES = 41;
    uint256 private constant WORD_BYTES = 7;

    /// @notice Holds the stake that a proof takes.
    StakeManager public immutable stakeManager;
    /// @notice The verifying contract of receipts.
    address public immutable settlement;

    /// @notice Block in which a proof's hash was committed; 0 if never.
    mapping(bytes32 => uint256) public committedAt;
    /// @notice Whether a fault has been slashed, by its hash.
    mapping(bytes32 => bool) public isSlashed;
    /// @notice Whether the client of a receipt has been given its fee back, by receipt hash.
    mapping(bytes32 => bool) public isRefunded;

    event ProofCommitted(bytes32 indexed proofHash, address indexed reporter);
    event FalseSpanProven(
        bytes32 indexed receiptHash, address indexed node, uint16 span, Mode mode, uint128 amount, bytes32 faultHash, address reporter
    );

    error ZeroAddress(string what);
    error AlreadyCommitted(bytes32 proofHash);
    error NotCommitted(bytes32 proofHash);
    error CommittedInThisBlock(uint256 blockNumber);
    error ReceiptSignature(address node, address recovered);
    error NoStake(address node);
    error AlreadySlashed(bytes32 faultHash);
    error SpanIsTrue();
    error WrongRoot(string what, bytes32 expected, bytes32 got);
    error WrongLeaf(string what, uint256 expected, uint256 got);
    error OutsideSegment(uint256 position, uint64 start, uint64 length);
    error NotInThisMode(string why);

    constructor(StakeManager stakeManager_, address settlement_) {
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        if (settlement_ == address(0)) revert ZeroAddress("settlement");
        stakeManager = stakeManager_;
        settlement = settlement_;
    }

    /// @notice Commits to a proof: `hash` is what `proofHash` gives for the reporter and the proof.
    function commitProof(bytes32 hash) external {
        if (committedAt[hash] != 0) revert AlreadyCommitted(hash);
        committedAt[hash] = block.number;
        emit ProofCommitted(hash, msg.sender);
    }

    /// @notice keccak(abi.encode(reporter, proof)).
    function proofHash(address reporter, FalseSpan calldata proof) public pure returns (bytes32) {
        return keccak256(abi.encode(reporter, proof));
    }

    /// @notice Proves that a span is false: the node loses a tenth of its stake, or twice the fee if that is more; the client gets its fee
    /// back once, the caller its reward.
    function proveFalseSpan(FalseSpan calldata proof) external {
        requireCommitted(proofHash(msg.sender, proof));
        Codec.Receipt memory receipt = Codec.receipt(proof.receipt);
        bytes32 receiptHash = keccak256(proof.receipt);
        requireSigned(receipt.node, receiptHash, proof.signature);
        bytes32 faultHash = keccak256(abi.encode("F1", receiptHash, proof.span));
        if (isSlashed[faultHash]) revert AlreadySlashed(faultHash);
        Codec.Span memory span = Codec.span(proof.receipt, proof.span, receipt.spans);
        if (!isFalse(proof, receipt, span)) revert SpanIsTrue();
        isSlashed[faultHash] = true;
        punish(proof, receipt, receiptHash, faultHash);
    }

    function requireCommitted(bytes32 hash) private view {
        uint256 committed = committedAt[hash];
        if (committed == 0) revert NotCommitted(hash);
        if (committed >= block.number) revert CommittedInThisBlock(block.number);
    }

    function requireSigned(address node, bytes32 receiptHash, bytes calldata signature) private view {
        address recovered = Sig.signer(Sig.digest(Sig.domain(settlement), Sig.RECEIPT, receiptHash), signature);
        if (recovered == address(0) || recovered != node) revert ReceiptSignature(node, recovered);
    }

    function punish(FalseSpan calldata proof, Codec.Receipt memory receipt, bytes32 receiptHash, bytes32 faultHash) private {
        if (stakeManager.slashableOf(receipt.node) == 0) revert NoStake(receipt.node);
        uint128 lost = isRefunded[receiptHash] ? 0 : receipt.fee;
        isRefunded[receiptHash] = true;
        uint128 taken = stakeManager.slash(receipt.node, receipt.fee, receipt.client, lost, msg.sender, faultHash);
        emit FalseSpanProven(receiptHash, receipt.node, proof.span, proof.mode, taken, faultHash, msg.sender);
    }

    function isFalse(FalseSpan calldata proof, Codec.Receipt memory receipt, Codec.Span memory span) private pure returns (bool) {
        if (proof.mode == Mode.Length) return span.length == 0 || span.length > MAX_SPAN_BYTES;
        if (proof.mode == Mode.AnswerEnd) {
            requireRoot("answer", receipt.answerRoot, Trees.root(proof.answer.count, proof.answer.length, proof.top));
            return uint256(span.start) + span.length > proof.answer.length;
        }
        if (proof.mode == Mode.DatanetIndex) {
            requireRoot("index", receipt.indexRoot, Trees.root(proof.datanet.count, proof.datanet.length, proof.top));
            return span.datanet >= proof.datanet.count;
        }
        requireRoot("index", receipt.indexRoot, Trees.rootOf(proof.datanetLeaf, proof.datanet));
        requireLeaf("Datanet", span.datanet, proof.datanet.index);
        Codec.DatanetLeaf memory datanet = Codec.datanetLeaf(proof.datanetLeaf);
        bool ends = uint256(span.position) + span.length > datanet.length;
        if (proof.mode == Mode.DatanetEnd) return ends;
        if (ends) revert NotInThisMode("the span ends beyond its Datanet");
        if (span.length == 0 || span.length > MAX_SPAN_BYTES) revert NotInThisMode("the span's length");
        return bytesDiffer(proof, receipt, span, datanet);
    }

    /// @dev Compares the span's window in the answer's leaf with its window in the Datanet's. By the leaf rule a window of at most
    /// `MAX_SPAN_BYTES` lies inside the leaf in whose stride it starts; where a leaf is too short for it, the text ends inside the span.
    function bytesDiffer(
        FalseSpan calldata proof,
        Codec.Receipt memory receipt,
        Codec.Span memory span,
        Codec.DatanetLeaf memory datanet
    ) private pure returns (bool) {
        requireRoot("answer", receipt.answerRoot, Trees.rootOf(proof.answerLeaf, proof.answer));
        requireLeaf("answer", span.start / LEAF_STRIDE_BYTES, proof.answer.index);

        requireRoot("segments", datanet.segmentsRoot, Trees.rootOf(proof.segmentLeaf, proof.segment));
        Codec.SegmentLeaf memory segment = Codec.segmentLeaf(proof.segmentLeaf);
        if (span.position < segment.start || span.position - segment.start >= segment.length) {
            revert OutsideSegment(span.position, segment.start, segment.length);
        }
        uint256 offset = span.position - segment.start;
        requireRoot("text", segment.textRoot, Trees.rootOf(proof.textLeaf, proof.text));
        requireLeaf("text", offset / LEAF_STRIDE_BYTES, proof.text.index);

        (bool held, bytes calldata answered) = window(answerText(proof.answerLeaf), span.start % LEAF_STRIDE_BYTES, span.length);
        if (!held) return true;
        bytes calldata source;
        (held, source) = window(proof.textLeaf, offset % LEAF_STRIDE_BYTES, span.length);
        return !held || keccak256(answered) != keccak256(source);
    }

    /// @dev The text leaf inside an answer leaf; empty if the leaf is malformed, which only the node that committed it can have caused.
    function answerText(bytes calldata leaf) private pure returns (bytes calldata) {
        if (leaf.length < ANSWER_HEAD_BYTES) return leaf[0:0];
        uint256 textAt = ANSWER_HEAD_BYTES + uint256(uint8(leaf[40])) * WORD_BYTES;
        return leaf.length < textAt ? leaf[0:0] : leaf[textAt:];
    }

    function window(bytes calldata text, uint256 start, uint256 length) private pure returns (bool held, bytes calldata cut) {
        held = start + length <= text.length;
        cut = held ? text[start:start + length] : text[0:0];
    }

    function requireRoot(string memory what, bytes32 expected, bytes32 got) private pure {
        if (expected != got) revert WrongRoot(what, expected, got);
    }

    function requireLeaf(string memory what, uint256 expected, uint256 got) private pure {
        if (expected != got) revert WrongLeaf(what, expected, got);
    }
}
