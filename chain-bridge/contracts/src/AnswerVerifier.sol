// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {AttributionBase, IParameters} from "./AttributionBase.sol";
import {Codec} from "./Codec.sol";
import {CopyBase} from "./CopyBase.sol";
import {Dialogue} from "./Dialogue.sol";
import {Matches} from "./Matches.sol";
import {Openings} from "./Openings.sol";
import {ISettlement, IStakes} from "./Ports.sol";
import {Words} from "./Words.sol";

/// @title Faults of an answer's own leaves and of spans that no rule allows: F10 and the rest of F1
/// @notice The leaves state each word and its weight. They are held against the answer's text and the committed word table (F10); spans are then held
/// against the leaves. One transaction, no judge. What is opened, and how, is Protocol P7.
contract AnswerVerifier is CopyBase {
    using Openings for Openings.Reader;
    using Words for Words.Table;

    /// @notice Why a span may not be there, hence what its evidence opens.
    enum SpanMode {
        /// No word of the answer starts where it starts.
        Start,
        /// No word of the answer ends where it ends.
        End,
        /// No word of the document begins at its position.
        Document,
        /// It reaches over a sentence's end.
        Delimiter,
        /// It has fewer words than a span must have.
        FewWords,
        /// It weighs less than a span must.
        Light,
        /// A mask of the receipt lies over a part of it: one of them is false.
        Masked,
        /// Another span of the receipt lies over a part of it and ranks before it: one of them is false.
        Overlap,
        /// Its weight is not that of its words (F10).
        Weight,
        /// A run that answer and prompt share lies over a part of it.
        Copied,
        /// It says again what another span of the receipt says.
        Twin
    }

    /// @notice What of the answer's weights is false.
    enum WeightMode {
        /// The weight of a word is not the table's.
        Row,
        /// The weight of all words before a leaf is not that of the leaf before and its words.
        Running,
        /// A word of the text has no row, or a row no word, or another length.
        Bounds,
        /// W is not the weight of the words that no mask covers.
        Total,
        /// Two leaves show different texts.
        Text,
        /// The leaf is none.
        Form
    }

    /// @dev How the evidence shows what a word weighs; 1 stands for the two rows that it would stand between.
    uint256 private constant KNOWN = 0;
    uint256 private constant BEFORE_FIRST = 2;
    uint256 private constant BEHIND_LAST = 3;
    uint256 private constant TOO_LONG = 4;
    /// @dev Longest word of a table row.
    uint256 private constant TABLE_WORD_BYTES_MAX = 255;
    /// @dev What a text leaf shows at most.
    uint256 private constant LEAF_BYTES = 320;
    /// @dev Leaf salt 32, running weight 8, word count 1.
    uint256 private constant ANSWER_HEAD_BYTES = 41;
    uint256 private constant WORD_ROW_BYTES = 7;
    /// @dev Number of no leaf.
    uint256 private constant NONE = type(uint256).max;

    /// @notice The leaf of the answer that was read last.
    struct Leaf {
        uint256 number;
        uint256 rowsAt;
        uint256 rowsBytes;
        uint256 running;
        uint256 answerBytes;
    }

    event SpanRefuted(bytes32 indexed receiptHash, address indexed node, uint16 span, SpanMode mode, address reporter);
    event WeightRefuted(bytes32 indexed receiptHash, address indexed node, WeightMode mode, address reporter);

    error SpanIsEligible(SpanMode mode);
    error WeightIsRight(WeightMode mode);
    error NoWord(uint256 start, uint256 end);
    error NoSuchMask(uint256 mask, uint256 masks);
    error NoSuchRow(uint256 leaf, uint256 row);
    error EmptyWord(uint256 leaf, uint256 row);
    error NotTheWord(uint256 kind);
    error PlaceBeyondStride(uint256 place);
    error MasksDoNotAscend(uint256 mask);
    error NotLastLeaf(uint256 expected, uint256 got);

    /// @notice See `AttributionBase`.
    constructor(IStakes stakeManager_, ISettlement settlement_, IParameters registry_, address ranges_)
        AttributionBase(stakeManager_, settlement_, registry_, ranges_)
    {}

    // ------------------------------------------------------------------ spans

    /// @notice F1, or F10 of one span: the span may not be there, or weighs something else. It is void, the node is slashed, the client gets its fee back;
    /// the receipt still pays everybody else. A further such span of a receipt that was slashed for is void without a slash. That a mask or another span lies over it
    /// only slashes: which of the two is the lie it does not tell, and whose text is right is not to lose by it.
    /// @param span Number of the span.
    /// @param evidence Packed as `mode` asks for: see Protocol P7.
    function proveIneligible(bytes calldata receipt, bytes calldata signature, uint16 span, SpanMode mode, bytes calldata evidence)
        external
        committed
    {
        (Codec.Answered memory given, bytes32 receiptHash) = ineligible(receipt, signature, span, mode, evidence);
        if (mode == SpanMode.Masked || mode == SpanMode.Overlap) slashFor(given.node, given.client, given.lane, given.fee, receiptHash);
        else voidSpanAndSlash(given.node, given.client, given.lane, given.fee, receiptHash, span);
    }

    /// @notice The same for a span whose receipt's W1 has ended: the node is slashed and nothing is marked. Takes what `proveIneligible` takes; one receipt is
    /// slashed for once by either.
    function slashIneligible(bytes calldata receipt, bytes calldata signature, uint16 span, SpanMode mode, bytes calldata evidence)
        external
        committed
    {
        (Codec.Answered memory given, bytes32 receiptHash) = ineligible(receipt, signature, span, mode, evidence);
        slashFor(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    function ineligible(bytes calldata receipt, bytes calldata signature, uint16 span, SpanMode mode, bytes calldata evidence)
        private
        returns (Codec.Answered memory given, bytes32 receiptHash)
    {
        given = Codec.answered(receipt);
        Openings.Reader memory reader = Openings.over(evidence);
        if (!isIneligible(receipt, given, span, mode, reader)) revert SpanIsEligible(mode);
        reader.finish();
        receiptHash = requireSigned(given.node, receipt, signature);
        emit SpanRefuted(receiptHash, given.node, span, mode, msg.sender);
    }

    function isIneligible(
        bytes calldata receipt,
        Codec.Answered memory given,
        uint256 number,
        SpanMode mode,
        Openings.Reader memory reader
    ) private view returns (bool) {
        Codec.Span memory span = Codec.span(receipt, number, given.spans);
        if (mode == SpanMode.Document) return startsInside(reader, given.indexRoot, span);
        if (mode == SpanMode.Light) return span.weight < leastWeight(parameters(reader, given.parameterId));
        if (mode == SpanMode.Masked) return isUnder(receipt, given, number, uint16(bytes2(reader.cut(2))));
        if (mode == SpanMode.Overlap) return isOutranked(receipt, given, number, uint16(bytes2(reader.cut(2))));
        if (mode == SpanMode.Copied) return isCopied(reader, given, span);
        if (mode == SpanMode.Twin) return isTwin(receipt, given, number, uint16(bytes2(reader.cut(2))));
        requireLength(span.length);
        if (mode == SpanMode.Start) return !startsWord(reader, given.answerRoot, span.start);
        if (mode == SpanMode.End) return !endsWord(reader, given.answerRoot, span);
        if (mode == SpanMode.Delimiter) return holdsDelimiter(answered(reader, given.answerRoot, span));
        if (mode == SpanMode.FewWords) {
            uint256 least = leastWords(parameters(reader, given.parameterId));
            return wordsOf(reader, given.answerRoot, span) < least;
        }
        return isWeighedWrong(reader, given.answerRoot, span);
    }

    /// @dev Reads the Datanet leaf, its opening, segment leaf, index u64, opening, blob and opening of the text leaf, and of the one before where that shows what stands
    /// before the place.
    function startsInside(Openings.Reader memory reader, bytes32 indexRoot, Codec.Span memory span) private view returns (bool) {
        bytes32 segmentsRoot = Matches.datanetAt(reader, indexRoot, span.datanet).segmentsRoot;
        (Codec.SegmentLeaf memory segment,) = Matches.segmentAt(reader, segmentsRoot);
        uint256 offset = Matches.offsetIn(segment, span.position);
        return !Matches.isWordStart(reader, table(), segment, offset, Matches.textAt(reader, segment, offset));
    }

    /// @dev Whether a mask shares a byte with a span.
    function isUnder(bytes calldata receipt, Codec.Answered memory given, uint256 number, uint256 mask) private pure returns (bool) {
        if (mask >= given.masks) revert NoSuchMask(mask, given.masks);
        (uint256 start, uint256 end,) = Codec.spanRange(receipt, given, number);
        (uint256 from, uint256 to,) = Codec.maskRange(receipt, given, mask);
        return from < end && start < to;
    }

    /// @dev Whether another span shares a byte with this one and ranks before it: heavier, else earlier, else longer; of equal ones the first.
    function isOutranked(bytes calldata receipt, Codec.Answered memory given, uint256 number, uint256 by) private pure returns (bool) {
        if (by >= given.spans) revert Codec.SpanBeyondReceipt(by, given.spans);
        (uint256 start, uint256 end, uint256 weight) = Codec.spanRange(receipt, given, number);
        (uint256 from, uint256 to, uint256 other) = Codec.spanRange(receipt, given, by);
        if (from >= end || start >= to) return false;
        if (other != weight) return other > weight;
        if (from != start) return from < start;
        return to != end ? to > end : by < number;
    }

    /// @dev Whether a run that answer and prompt share shares a byte with a span. Reads what `copied` reads.
    function isCopied(Openings.Reader memory reader, Codec.Answered memory given, Codec.Span memory span) private view returns (bool) {
        (uint256 from, uint256 to) = copied(reader, given);
        return from < uint256(span.start) + span.length && span.start < to;
    }

    /// @dev Whether a span of a smaller number has the same bytes of the answer, the same weight and the same payee: then one of them is paid, whichever is void.
    function isTwin(bytes calldata receipt, Codec.Answered memory given, uint256 number, uint256 first) private pure returns (bool) {
        Codec.Span memory span = Codec.span(receipt, number, given.spans);
        Codec.Span memory other = Codec.span(receipt, first, given.spans);
        if (first >= number || span.start != other.start || span.length != other.length) return false;
        return span.weight == other.weight && span.payee == other.payee;
    }

    /// @dev Whether the leaf in whose stride a byte stands has a row that starts there. Reads its blob and its opening.
    function startsWord(Openings.Reader memory reader, bytes32 answerRoot, uint256 start) private pure returns (bool) {
        (bytes calldata rows,,,) = Matches.answerAt(reader, answerRoot, start / Matches.STRIDE_BYTES);
        (bool found,) = rowStarting(rows, start % Matches.STRIDE_BYTES);
        return found;
    }

    /// @dev The row of a leaf that starts at a byte of its stride.
    function rowStarting(bytes calldata rows, uint256 place) private pure returns (bool, uint256) {
        uint256 count = Matches.wordsIn(rows);
        for (uint256 i = 0; i < count; ++i) {
            (uint256 offset, uint256 length,) = Matches.rowAt(rows, i);
            if (offset == place) return (true, length);
        }
        return (false, 0);
    }

    /// @dev Whether the last word that starts within a span ends with it. Reads how many strides behind the first leaf to begin u8, then blob and opening of each leaf
    /// from there to that of the span's last byte.
    function endsWord(Openings.Reader memory reader, bytes32 answerRoot, Codec.Span memory span) private pure returns (bool) {
        uint256 end = uint256(span.start) + span.length;
        uint256 last = (end - 1) / Matches.STRIDE_BYTES;
        uint256 number = span.start / Matches.STRIDE_BYTES + reader.u8();
        if (number > last) revert LeafOrder(last, number);
        uint256 reached = 0;
        for (; number <= last; ++number) {
            (bytes calldata rows,,,) = Matches.answerAt(reader, answerRoot, number);
            uint256 count = Matches.wordsIn(rows);
            for (uint256 i = 0; i < count; ++i) {
                (uint256 offset, uint256 length,) = Matches.rowAt(rows, i);
                offset += number * Matches.STRIDE_BYTES;
                if (offset >= span.start && offset < end) reached = offset + length;
            }
        }
        if (reached == 0) revert NoWord(span.start, end);
        return reached == end;
    }

    /// @dev Words that start within a span. Reads blob and opening of each leaf from that of its first byte to that of its last.
    function wordsOf(Openings.Reader memory reader, bytes32 answerRoot, Codec.Span memory span) private pure returns (uint256) {
        return Dialogue.wordsOf(reader, answerRoot, span.start, uint256(span.start) + span.length);
    }

    /// @dev The bytes of the answer that a span claims. Reads blob and opening of the leaf of its first byte.
    function answered(Openings.Reader memory reader, bytes32 answerRoot, Codec.Span memory span) private pure returns (bytes calldata text) {
        (, text,,) = Matches.answerAt(reader, answerRoot, span.start / Matches.STRIDE_BYTES);
        return within(text, span.start, span.length);
    }

    /// @dev Whether the words that start within a span weigh something else than it says, which is 2^32 - 1 at most. Reads blob and opening of the leaf of its first
    /// byte, and of that of its last unless they are one.
    function isWeighedWrong(Openings.Reader memory reader, bytes32 answerRoot, Codec.Span memory span) private pure returns (bool) {
        uint256 end = uint256(span.start) + span.length;
        Leaf memory leaf;
        leaf.number = NONE;
        uint256 before = weightBefore(reader, answerRoot, leaf, span.start);
        uint256 until = weightThrough(reader, answerRoot, leaf, end);
        // Weights that fall along the answer are no node's that adds.
        return until < before || Math.min(until - before, type(uint32).max) != span.weight;
    }

    /// @dev Weight of all words of the answer that start before byte `place`. Reads what `weightIn` reads of the leaf in whose stride that byte stands.
    function weightBefore(Openings.Reader memory reader, bytes32 answerRoot, Leaf memory leaf, uint256 place) private pure returns (uint256) {
        return weightIn(reader, answerRoot, leaf, place / Matches.STRIDE_BYTES, place);
    }

    /// @dev The same, by the leaf in whose stride the byte before it stands.
    function weightThrough(Openings.Reader memory reader, bytes32 answerRoot, Leaf memory leaf, uint256 end) private pure returns (uint256) {
        return weightIn(reader, answerRoot, leaf, (end - 1) / Matches.STRIDE_BYTES, end);
    }

    /// @dev Weight of all words of the answer before leaf `number`, and of those of its own that start before byte `end`. Reads its blob and opening unless it was read
    /// last.
    function weightIn(Openings.Reader memory reader, bytes32 answerRoot, Leaf memory leaf, uint256 number, uint256 end)
        private
        pure
        returns (uint256)
    {
        if (leaf.number != number) readLeaf(reader, answerRoot, leaf, number);
        bytes calldata rows;
        (uint256 begin, uint256 size) = (leaf.rowsAt, leaf.rowsBytes);
        assembly ("memory-safe") {
            rows.offset := begin
            rows.length := size
        }
        return leaf.running + Matches.weightBefore(rows, number, end);
    }

    function readLeaf(Openings.Reader memory reader, bytes32 answerRoot, Leaf memory leaf, uint256 number) private pure {
        (bytes calldata rows,, uint64 running, uint64 length) = Matches.answerAt(reader, answerRoot, number);
        uint256 begin;
        assembly ("memory-safe") {
            begin := rows.offset
        }
        leaf.number = number;
        leaf.rowsAt = begin;
        leaf.rowsBytes = rows.length;
        leaf.running = running;
        leaf.answerBytes = length;
    }

    // ------------------------------------------------------------------ F10

    /// @notice F10: what the answer's leaves or the receipt say of its words' weights is false. The node is slashed, the client gets its fee back; nothing is void.
    /// @param evidence Packed as `mode` asks for: see Protocol P7.
    function proveWeight(bytes calldata receipt, bytes calldata signature, WeightMode mode, bytes calldata evidence) external committed {
        Codec.Answered memory given = billed(receipt);
        Openings.Reader memory reader = Openings.over(evidence);
        if (!isFalse(receipt, given, mode, reader)) revert WeightIsRight(mode);
        reader.finish();
        bytes32 receiptHash = requireSigned(given.node, receipt, signature);
        emit WeightRefuted(receiptHash, given.node, mode, msg.sender);
        slashFor(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    function isFalse(bytes calldata receipt, Codec.Answered memory given, WeightMode mode, Openings.Reader memory reader)
        private
        view
        returns (bool)
    {
        if (mode == WeightMode.Row) {
            bytes calldata body = parameters(reader, given.parameterId);
            return isRowFalse(reader, given.answerRoot, body);
        }
        uint256 number = reader.u32();
        if (mode == WeightMode.Running) return isRunningFalse(reader, given.answerRoot, number);
        if (mode == WeightMode.Bounds) return isBoundFalse(reader, given.answerRoot, number);
        if (mode == WeightMode.Total) return isTotalFalse(reader, receipt, given, number);
        if (mode == WeightMode.Text) return isTextFalse(reader, given.answerRoot, number);
        return isFormFalse(reader, given.answerRoot, number);
    }

    /// @dev Reads what `rowOf` reads, how u8 the table is shown, and what `weightOf` reads.
    function isRowFalse(Openings.Reader memory reader, bytes32 answerRoot, bytes calldata body) private pure returns (bool) {
        (bytes calldata word, uint256 weight) = rowOf(reader, answerRoot);
        uint256 kind = reader.u8();
        if ((kind == TOO_LONG) != (word.length == 0)) revert NotTheWord(kind);
        if (kind == TOO_LONG) return weight != weightOfUnknown(body);
        return weight != weightOf(reader, word, kind, body);
    }

    /// @dev The word of a row of the answer, empty if the table has none of its length, and what the row says it weighs. Reads the leaf's number u32, its blob, its
    /// opening, the number u8 of the row in it.
    function rowOf(Openings.Reader memory reader, bytes32 answerRoot) private pure returns (bytes calldata word, uint256 weight) {
        uint256 number = reader.u32();
        (bytes calldata rows, bytes calldata text,,) = Matches.answerAt(reader, answerRoot, number);
        uint256 place = reader.u8();
        if (place >= Matches.wordsIn(rows)) revert NoSuchRow(number, place);
        uint256 offset;
        uint256 length;
        (offset, length, weight) = Matches.rowAt(rows, place);
        if (length == 0) revert EmptyWord(number, place);
        if (length > TABLE_WORD_BYTES_MAX) return (text[:0], weight);
        if (offset + length > text.length) revert BeyondLeaf(offset, offset + length);
        word = text[offset:offset + length];
    }

    function weightOfUnknown(bytes calldata body) private pure returns (uint256) {
        return uint32(bytes4(body[9:13]));
    }

    /// @dev What the table has for a word. Reads by `kind`: its row, index u64, opening; or two rows that it stands between: the first one, its index u64, its opening, the
    /// other, its opening; or row 0 and its opening; or the last row, its index u64, its opening.
    function weightOf(Openings.Reader memory reader, bytes calldata word, uint256 kind, bytes calldata body)
        private
        pure
        returns (uint256)
    {
        if (kind > BEHIND_LAST) revert NotTheWord(kind);
        uint64 index = 0;
        if (kind != BEFORE_FIRST) {
            bytes calldata known = tableRow(reader);
            index = reader.u64();
            bool isLast = requireTableRow(reader, body, known, index);
            int256 order = compare(word, known);
            if (kind == KNOWN ? order != 0 : order <= 0) revert NotTheWord(kind);
            if (kind == KNOWN) return uint32(bytes4(known[known.length - 4:]));
            if (kind == BEHIND_LAST) {
                if (!isLast) revert NotTheWord(kind);
                return weightOfUnknown(body);
            }
            ++index;
        }
        bytes calldata next = tableRow(reader);
        requireTableRow(reader, body, next, index);
        if (compare(word, next) >= 0) revert NotTheWord(kind);
        return weightOfUnknown(body);
    }

    /// @dev Whether a row of the word table is its last. Reads its opening.
    function requireTableRow(Openings.Reader memory reader, bytes calldata body, bytes calldata row, uint64 index)
        private
        pure
        returns (bool isLast)
    {
        Openings.Opened memory opened = reader.rootOf(row, index);
        Matches.requireRoot("words", bytes32(body[13:45]), opened.root);
        isLast = index + 1 == opened.count;
    }

    /// @dev A row of the word table: length u8, word, weight u32.
    function tableRow(Openings.Reader memory reader) private pure returns (bytes calldata row) {
        uint256 start = reader.next;
        reader.cut(uint256(reader.u8()) + 4);
        uint256 end = reader.next;
        assembly ("memory-safe") {
            row.offset := start
            row.length := sub(end, start)
        }
    }

    /// @dev Below zero if `word`, its ASCII capitals small, comes before that of a table row by bytes as numbers; above if after.
    function compare(bytes calldata word, bytes calldata row) private pure returns (int256) {
        uint256 length = row.length - 5;
        uint256 shared = Math.min(word.length, length);
        for (uint256 i = 0; i < shared; ++i) {
            uint256 a = uint8(word[i]);
            if (a >= 0x41 && a <= 0x5a) a |= 0x20;
            uint256 b = uint8(row[i + 1]);
            if (a != b) return a < b ? -1 : int256(1);
        }
        if (word.length == length) return 0;
        return word.length < length ? -1 : int256(1);
    }

    /// @dev Reads blob and opening of the leaf, and of the one before it unless it is the first.
    function isRunningFalse(Openings.Reader memory reader, bytes32 answerRoot, uint256 number) private pure returns (bool) {
        (,, uint256 stated,) = Matches.answerAt(reader, answerRoot, number);
        if (number == 0) return stated != 0;
        (bytes calldata rows,, uint256 running,) = Matches.answerAt(reader, answerRoot, number - 1);
        return stated != running + Matches.weightBefore(rows, 0, NONE);
    }

    /// @dev Reads a place u8 in the leaf's stride, its blob and opening, and of the leaf before where that shows what stands before the place.
    function isBoundFalse(Openings.Reader memory reader, bytes32 answerRoot, uint256 number) private view returns (bool) {
        Dialogue.Spot memory where = Dialogue.Spot(answerRoot, false, number, reader.u8());
        if (where.place >= Matches.STRIDE_BYTES) revert PlaceBeyondStride(where.place);
        (bytes calldata rows, bytes calldata text,, uint256 all) = Matches.answerAt(reader, answerRoot, number);
        bool isLast = number * Matches.STRIDE_BYTES + text.length == all;
        (bool stated, uint256 length) = rowStarting(rows, where.place);
        Words.Table memory words = table();
        if (!Dialogue.isStart(reader, where, text, words)) return stated;
        return !stated || isLengthFalse(words, text[where.place:], length, isLast);
    }

    /// @dev Whether the word that a text begins with has another length; of one that goes on behind the text, whether it has more bytes.
    function isLengthFalse(Words.Table memory words, bytes calldata text, uint256 length, bool isLast) private view returns (bool) {
        (uint256 shown, bool ends) = firstWord(words, text);
        return ends || isLast ? length != shown : length < shown;
    }

    /// @dev Bytes of the word that a text begins with, and whether the text shows what ends it.
    function firstWord(Words.Table memory words, bytes calldata text) private view returns (uint256 shown, bool ends) {
        (uint256 code, uint256 size) = Words.characterAt(text, 0);
        if (words.classOf(code) == Words.SINGLE) return (size, true);
        while (size > 0 && words.classOf(code) == Words.JOINS) {
            shown += size;
            (code, size) = Words.characterAt(text, shown);
        }
        ends = size > 0;
    }

    /// @dev Reads, of each stretch of masks that overlap or touch, blob and opening of the leaf of its first byte and of that of its last; then of the answer's last
    /// leaf; each left out that was read last.
    function isTotalFalse(Openings.Reader memory reader, bytes calldata receipt, Codec.Answered memory given, uint256 last)
        private
        pure
        returns (bool)
    {
        Leaf memory leaf;
        leaf.number = NONE;
        uint256 before = 0;
        uint256 until = 0;
        for (uint256 i = 0; i < given.masks;) {
            uint256 start;
            uint256 end;
            (start, end, i) = stretch(receipt, given, i);
            if (start == end) continue;
            before += weightBefore(reader, given.answerRoot, leaf, start);
            until += weightThrough(reader, given.answerRoot, leaf, end);
        }
        uint256 all = weightIn(reader, given.answerRoot, leaf, last, NONE);
        uint256 expected = (leaf.answerBytes - 1) / Matches.STRIDE_BYTES;
        if (last != expected) revert NotLastLeaf(expected, last);
        return given.totalWeight + until != all + before;
    }

    /// @dev First byte and end of what mask `number` and those that follow it cover together, and the number of the first one that does not touch it.
    function stretch(bytes calldata receipt, Codec.Answered memory given, uint256 number)
        private
        pure
        returns (uint256 start, uint256 end, uint256 next)
    {
        (start, end,) = Codec.maskRange(receipt, given, number);
        for (next = number + 1; next < given.masks; ++next) {
            (uint256 from, uint256 to,) = Codec.maskRange(receipt, given, next);
            if (from < start) revert MasksDoNotAscend(next);
            if (from > end) break;
            end = Math.max(end, to);
        }
    }

    /// @dev Reads blob and opening of the leaf and of the next one.
    function isTextFalse(Openings.Reader memory reader, bytes32 answerRoot, uint256 number) private pure returns (bool) {
        (, bytes calldata text,,) = Matches.answerAt(reader, answerRoot, number);
        (, bytes calldata next,,) = Matches.answerAt(reader, answerRoot, number + 1);
        if (text.length <= Matches.STRIDE_BYTES) return false;
        text = text[Matches.STRIDE_BYTES:];
        return Matches.common(text, next) < Math.min(text.length, next.length);
    }

    /// @dev Reads blob and opening of the leaf.
    function isFormFalse(Openings.Reader memory reader, bytes32 answerRoot, uint256 number) private pure returns (bool) {
        bytes calldata leaf = reader.blob();
        Openings.Opened memory opened = reader.rootOf(leaf, number);
        Matches.requireRoot("answer", answerRoot, opened.root);
        if (opened.count != Math.ceilDiv(opened.length, Matches.STRIDE_BYTES) || leaf.length < ANSWER_HEAD_BYTES) return true;
        uint256 end = ANSWER_HEAD_BYTES + uint256(uint8(leaf[40])) * WORD_ROW_BYTES;
        // As many leaves as the answer has strides: so this one begins inside it.
        uint256 shown = Math.min(LEAF_BYTES, opened.length - number * Matches.STRIDE_BYTES);
        if (leaf.length != end + shown) return true;
        bytes calldata rows = leaf[ANSWER_HEAD_BYTES:end];
        uint256 least = 0;
        for (uint256 i = 0; i < Matches.wordsIn(rows); ++i) {
            (uint256 offset,,) = Matches.rowAt(rows, i);
            if (offset < least || offset >= Matches.STRIDE_BYTES) return true;
            least = offset + 1;
        }
        return false;
    }
}
