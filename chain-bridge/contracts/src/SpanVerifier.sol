// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {AttributionBase, IParameters} from "./AttributionBase.sol";
import {Codec} from "./Codec.sol";
import {Matches} from "./Matches.sol";
import {Openings} from "./Openings.sol";
import {ISettlement, IStakes} from "./Ports.sol";
import {Words} from "./Words.sol";

/// @title Faults of a node's attribution that its own receipt proves: F2 and F9
/// @notice What an answer holds is read from the leaves that its node committed to, what the Datanets hold from the index that the receipt names. One
/// transaction, no judge. What is opened, and how, is Protocol P7.
contract SpanVerifier is AttributionBase {
    using Openings for Openings.Reader;

    /// @notice Why a span pays the wrong account.
    enum PayeeMode {
        /// The payee is not that of the first document of the cluster of the document that the span names.
        Payee,
        /// The same bytes stand at a word start of a document with an earlier priority, or at an earlier place.
        Holder
    }

    /// @notice A span of the answer that the receipt may not have: its bytes are [start, end), its words weigh so much, 2^32 - 1 at most; words that start before it weigh `before`,
    /// those that start before its end `until`.
    struct Candidate {
        uint256 start;
        uint256 end;
        uint256 before;
        uint256 until;
        uint256 weight;
        uint256 words;
        bool begins;
        bool ends;
    }

    /// @notice A document that holds a span, and where: what is smaller by priority, Datanet, position is paid.
    struct Holder {
        uint256 datanet;
        uint256 position;
        Matches.Document row;
    }

    event OmissionProven(bytes32 indexed receiptHash, address indexed node, uint32 start, uint16 length, uint256 weight, address reporter);
    event PayeeRefuted(bytes32 indexed receiptHash, address indexed node, uint16 span, PayeeMode mode, address reporter);

    error NotWholeWords(uint256 start, uint256 end);
    error TooFewWords(uint256 least, uint256 got);
    error TooLight(uint256 least, uint256 got);
    error HoldsDelimiter(uint256 start, uint256 end);
    error Masked(uint256 mask);
    error NotOutranked(uint256 span);
    error DoesNotOccur(uint256 datanet, uint256 position);
    error PayeeIsRight(address payee);
    error NotItsHead(uint64 expected, uint256 got);
    error HolderIsEarliest();

    /// @notice See `AttributionBase`.
    constructor(IStakes stakeManager_, ISettlement settlement_, IParameters registry_, address ranges_)
        AttributionBase(stakeManager_, settlement_, registry_, ranges_)
    {}

    // ------------------------------------------------------------------ F2

    /// @notice F2: an eligible span of the answer stands in a Datanet, and every span of the receipt that overlaps it ranks after it. The node is slashed, the
    /// client gets its fee back; nothing is void, because no contract divides anew: the receipt pays whom it names.
    /// @param evidence See Protocol P7.
    function proveOmission(bytes calldata receipt, bytes calldata signature, bytes calldata evidence) external committed {
        Codec.Answered memory given = billed(receipt);
        Candidate memory span = omitted(receipt, given, evidence);
        bytes32 receiptHash = requireSigned(given.node, receipt, signature);
        emit OmissionProven(receiptHash, given.node, uint32(span.start), uint16(span.end - span.start), span.weight, msg.sender);
        slashFor(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    function omitted(bytes calldata receipt, Codec.Answered memory given, bytes calldata evidence)
        private
        view
        returns (Candidate memory span)
    {
        Openings.Reader memory reader = Openings.over(evidence);
        bytes calldata least = parameters(reader, given.parameterId);
        span.start = reader.u32();
        uint256 length = uint16(bytes2(reader.cut(2)));
        requireLength(length);
        span.end = span.start + length;
        bytes calldata text = weighed(reader, given.answerRoot, span);
        if (span.words < leastWords(least)) revert TooFewWords(leastWords(least), span.words);
        if (span.weight < leastWeight(least)) revert TooLight(leastWeight(least), span.weight);
        if (holdsDelimiter(text)) revert HoldsDelimiter(span.start, span.end);
        requireUnmasked(receipt, given, span);
        requireOutranking(receipt, given, span);
        uint256 datanet = reader.u8();
        uint256 position = uint40(bytes5(reader.cut(5)));
        if (!Matches.occurs(reader, table(), given.indexRoot, datanet, position, text)) revert DoesNotOccur(datanet, position);
        reader.finish();
    }

    /// @dev The span's bytes, and what the answer's own leaves say of its words. Reads blob and opening of the leaf in whose stride it begins; how many more
    /// follow u8; of each, ascending, by how many strides it stands behind the first u8, its blob and its opening. The last one is that in whose stride the span's
    /// last byte stands: its running weight and the first one's tell the span's. Leaves between may be left out as long as m words are seen.
    function weighed(Openings.Reader memory reader, bytes32 answerRoot, Candidate memory span) private pure returns (bytes calldata text) {
        uint256 first = span.start / Matches.STRIDE_BYTES;
        uint256 last = (span.end - 1) / Matches.STRIDE_BYTES;
        text = weighedIn(reader, answerRoot, first, span);
        text = within(text, span.start, span.end - span.start);
        uint256 seen = first;
        for (uint256 more = reader.u8(); more > 0; --more) {
            uint256 number = first + reader.u8();
            if (number <= seen || number > last) revert LeafOrder(last, number);
            weighedIn(reader, answerRoot, number, span);
            seen = number;
        }
        if (seen != last) revert LeafOrder(last, seen);
        if (!span.begins || !span.ends || span.until < span.before) revert NotWholeWords(span.start, span.end);
        // As a span states it: what is heavier is cut where nodes choose, too.
        span.weight = Math.min(span.until - span.before, type(uint32).max);
    }

    /// @dev The text of one leaf of the answer, its words counted. Reads its blob and its opening.
    function weighedIn(Openings.Reader memory reader, bytes32 answerRoot, uint256 number, Candidate memory span)
        private
        pure
        returns (bytes calldata text)
    {
        bytes calldata rows;
        uint256 running;
        (rows, text, running,) = Matches.answerAt(reader, answerRoot, number);
        uint256 skipped = number * Matches.STRIDE_BYTES;
        // The first leaf's, which alone has rows that start before the span.
        if (span.start >= skipped) span.before = running;
        span.until = running + count(rows, skipped, span);
    }

    /// @dev Weight of those rows of a leaf, which begins at byte `skipped`, that start before the span's end; and what they say of the span.
    function count(bytes calldata rows, uint256 skipped, Candidate memory span) private pure returns (uint256 weight) {
        uint256 rowCount = Matches.wordsIn(rows);
        for (uint256 i = 0; i < rowCount; ++i) {
            (uint256 start, uint256 length, uint256 own) = Matches.rowAt(rows, i);
            start += skipped;
            if (start >= span.end) continue;
            weight += own;
            if (start < span.start) {
                span.before += own;
                continue;
            }
            ++span.words;
            if (start == span.start) span.begins = true;
            if (start + length == span.end) span.ends = true;
        }
    }

    /// @dev No mask of the receipt shares a byte with the span.
    function requireUnmasked(bytes calldata receipt, Codec.Answered memory given, Candidate memory span) private pure {
        for (uint256 i = 0; i < given.masks; ++i) {
            (uint256 start, uint256 end,) = Codec.maskRange(receipt, given, i);
            if (start < span.end && span.start < end) revert Masked(i);
        }
    }

    /// @dev Every span of the receipt that shares a byte with this one ranks after it: lighter, else later, else shorter.
    function requireOutranking(bytes calldata receipt, Codec.Answered memory given, Candidate memory span) private pure {
        (uint256 from, uint256 to) = (span.start, span.end);
        for (uint256 i = 0; i < given.spans; ++i) {
            (uint256 start, uint256 end, uint256 weight) = Codec.spanRange(receipt, given, i);
            if (start >= to || from >= end) continue;
            if (weight != span.weight ? weight > span.weight : start != from ? start < from : end >= to) revert NotOutranked(i);
        }
    }

    // ------------------------------------------------------------------ F9

    /// @notice F9: a span pays the wrong account, or names a later holder of its bytes. It is void: its part goes to the insurance pool, because the account may be
    /// the node's own. The node is slashed, the client gets its fee back; the receipt still pays everybody else. A further such span of a receipt that was
    /// slashed for is void without a slash.
    /// @param span Number of the span.
    /// @param evidence Packed as `mode` asks for: see Protocol P7.
    function provePayee(bytes calldata receipt, bytes calldata signature, uint16 span, PayeeMode mode, bytes calldata evidence)
        external
        committed
    {
        (Codec.Claim memory given, bytes32 receiptHash) = misdirected(receipt, signature, span, mode, evidence);
        voidSpanAndSlash(given.node, given.client, given.lane, given.fee, receiptHash, span);
    }

    /// @notice The same for a span whose receipt's W1 has ended: the node is slashed and nothing is marked. Takes what `provePayee` takes; one receipt is slashed for
    /// once by either.
    function slashPayee(bytes calldata receipt, bytes calldata signature, uint16 span, PayeeMode mode, bytes calldata evidence)
        external
        committed
    {
        (Codec.Claim memory given, bytes32 receiptHash) = misdirected(receipt, signature, span, mode, evidence);
        slashFor(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    function misdirected(bytes calldata receipt, bytes calldata signature, uint16 span, PayeeMode mode, bytes calldata evidence)
        private
        returns (Codec.Claim memory given, bytes32 receiptHash)
    {
        given = Codec.claim(receipt, span);
        Openings.Reader memory reader = Openings.over(evidence);
        if (mode == PayeeMode.Payee) requireWrongPayee(reader, given);
        else requireLaterHolder(reader, given);
        reader.finish();
        receiptHash = requireSigned(given.node, receipt, signature);
        emit PayeeRefuted(receiptHash, given.node, span, mode, msg.sender);
    }

    /// @dev Reads the Datanet leaf and its opening; segment, document and what tells its number, as `rowAt` does; unless the document leads its own cluster, the same
    /// of the document that does.
    function requireWrongPayee(Openings.Reader memory reader, Codec.Claim memory given) private pure {
        bytes32 segmentsRoot = Matches.datanetAt(reader, given.indexRoot, given.span.datanet).segmentsRoot;
        (Codec.SegmentLeaf memory segment, Matches.Document memory row, uint256 number) = rowAt(reader, segmentsRoot);
        Matches.requireHolds(row, Matches.offsetIn(segment, given.span.position));
        if (row.cluster != number) {
            uint64 head = row.cluster;
            (, row, number) = rowAt(reader, segmentsRoot);
            if (number != head) revert NotItsHead(head, number);
        }
        if (row.payee == given.span.payee) revert PayeeIsRight(row.payee);
    }

    /// @dev A document and its number in its Datanet. Reads the segment's leaf, index u64, opening; the row, its index u64, its opening; of each segment before it, from
    /// the first: its leaf, its opening, the head of its documents' root, which counts them.
    function rowAt(Openings.Reader memory reader, bytes32 segmentsRoot)
        private
        pure
        returns (Codec.SegmentLeaf memory segment, Matches.Document memory row, uint256 number)
    {
        uint64 behind;
        (segment, behind) = Matches.segmentAt(reader, segmentsRoot);
        (row, number) = Matches.documentAt(reader, segment);
        number += rowsBefore(reader, segmentsRoot, behind);
    }

    function rowsBefore(Openings.Reader memory reader, bytes32 segmentsRoot, uint256 segments) private pure returns (uint256 rows) {
        for (uint256 i = 0; i < segments; ++i) {
            bytes calldata leaf = reader.cut(Codec.SEGMENT_LEAF_BYTES);
            Matches.requireRoot("segments", segmentsRoot, reader.rootOf(leaf, i).root);
            Openings.Opened memory documents = reader.head();
            Matches.requireRoot("documents", Codec.segmentLeaf(leaf).documentsRoot, documents.root);
            rows += documents.count;
        }
    }

    /// @dev Reads blob and opening of the answer leaf in whose stride the span begins; of the named place the Datanet leaf, its opening, segment leaf, index u64,
    /// opening, document row, index u64, opening; of the other place Datanet u8, position u40, the same, blob and opening of the text leaf, and of the one before where
    /// that shows what stands before the place.
    function requireLaterHolder(Openings.Reader memory reader, Codec.Claim memory given) private view {
        bytes calldata text = answered(reader, given);
        (Holder memory named,) = holderAt(reader, given.indexRoot, given.span.datanet, given.span.position);
        uint256 datanet = reader.u8();
        (Holder memory earlier, Codec.SegmentLeaf memory segment) = holderAt(reader, given.indexRoot, datanet, uint40(bytes5(reader.cut(5))));
        if (!isEarlier(earlier, named)) revert HolderIsEarliest();
        requireOccurs(reader, segment, earlier, text);
    }

    function requireOccurs(Openings.Reader memory reader, Codec.SegmentLeaf memory segment, Holder memory holder, bytes calldata text)
        private
        view
    {
        bool does = Matches.occursIn(reader, table(), segment, holder.position - segment.start, text);
        if (!does) revert DoesNotOccur(holder.datanet, holder.position);
    }

    /// @dev The bytes of the answer that a span claims.
    function answered(Openings.Reader memory reader, Codec.Claim memory given) private pure returns (bytes calldata text) {
        uint256 length = given.span.length;
        requireLength(length);
        (, text,,) = Matches.answerAt(reader, given.answerRoot, given.span.start / Matches.STRIDE_BYTES);
        text = within(text, given.span.start, length);
    }

    function holderAt(Openings.Reader memory reader, bytes32 indexRoot, uint256 datanet, uint256 position)
        private
        pure
        returns (Holder memory holder, Codec.SegmentLeaf memory segment)
    {
        (segment,) = Matches.segmentAt(reader, Matches.datanetAt(reader, indexRoot, datanet).segmentsRoot);
        (holder.row,) = Matches.documentAt(reader, segment);
        Matches.requireHolds(holder.row, Matches.offsetIn(segment, position));
        holder.datanet = datanet;
        holder.position = position;
    }

    /// @dev By block and ordinal of the commitment and document number; of equal ones by Datanet, then by position.
    function isEarlier(Holder memory a, Holder memory b) private pure returns (bool) {
        if (a.row.blockNumber != b.row.blockNumber) return a.row.blockNumber < b.row.blockNumber;
        if (a.row.ordinal != b.row.ordinal) return a.row.ordinal < b.row.ordinal;
        if (a.row.document != b.row.document) return a.row.document < b.row.document;
        if (a.datanet != b.datanet) return a.datanet < b.datanet;
        return a.position < b.position;
    }
}
