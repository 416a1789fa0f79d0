// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Codec} from "./Codec.sol";
import {Openings} from "./Openings.sol";
import {Words} from "./Words.sol";

/// @title What an index and an answer commit to, opened (Protocol P3, P5, P7)
/// @notice Sources are opened from the index root: Datanet leaf, its opening, segment leaf, its index u64, its opening, then text leaves, array leaves or
/// document rows of that segment. A text leaf shows a whole window, because a window has at most 256 bytes and a leaf 256 beyond its stride.
library Matches {
    using Openings for Openings.Reader;
    using Words for Words.Table;

    /// @notice Longest span there is, and the bound of the index's order (Protocol section 6).
    uint256 internal constant WINDOW_BYTES = 256;
    /// @notice Bytes between the starts of two text leaves.
    uint256 internal constant STRIDE_BYTES = 64;
    /// @notice Entries between the starts of two array leaves; a leaf holds one more, so that two neighbours always stand in one.
    uint256 internal constant ARRAY_STRIDE = 15;
    /// @notice Bytes of an entry of the array.
    uint256 internal constant ENTRY_BYTES = 5;
    /// @notice Bytes of a document row.
    uint256 internal constant DOCUMENT_ROW_BYTES = 85;

    /// @dev An answer leaf: leaf salt 32, running weight 8, word count 1, then words of 7 bytes, then its text.
    uint256 private constant ANSWER_HEAD_BYTES = 41;
    uint256 private constant WORD_ROW_BYTES = 7;

    uint256 private constant LOW_BITS = 0x7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f;

    /// @notice A word as the answer's own leaf states it: its first byte in the answer, its bytes, its weight.
    struct Word {
        uint256 start;
        uint256 length;
        uint256 weight;
    }

    /// @notice A document as the index states it.
    struct Document {
        bytes32 textRoot;
        uint40 start;
        uint32 length;
        address payee;
        uint64 blockNumber;
        uint32 ordinal;
        uint32 document;
        uint64 cluster;
    }

    error WrongRoot(string what, bytes32 expected, bytes32 got);
    error OutsideSegment(uint256 position, uint64 start, uint64 length);
    error OutsideDocument(uint256 offset, uint256 start, uint256 length);
    error MalformedAnswerLeaf(uint256 index);
    error PatternLength(uint256 got);
    error RankBeyondArray(uint64 rank, uint64 entries);
    error MalformedArrayLeaf(uint256 index, uint256 got);
    error NotBetween(string which);

    // ------------------------------------------------------------------ from the index root down

    /// @notice The leaf of a Datanet. Reads it and its opening.
    function datanetAt(Openings.Reader memory reader, bytes32 indexRoot, uint256 number) internal pure returns (Codec.DatanetLeaf memory) {
        bytes calldata leaf = reader.cut(Codec.DATANET_LEAF_BYTES);
        requireRoot("index", indexRoot, reader.rootOf(leaf, number).root);
        return Codec.datanetLeaf(leaf);
    }

    /// @notice A segment of a Datanet. Reads its leaf, its index u64, its opening.
    function segmentAt(Openings.Reader memory reader, bytes32 segmentsRoot) internal pure returns (Codec.SegmentLeaf memory, uint64 number) {
        bytes calldata leaf = reader.cut(Codec.SEGMENT_LEAF_BYTES);
        number = reader.u64();
        requireRoot("segments", segmentsRoot, reader.rootOf(leaf, number).root);
        return (Codec.segmentLeaf(leaf), number);
    }

    /// @notice Where `position` of a Datanet stands in a segment.
    function offsetIn(Codec.SegmentLeaf memory segment, uint256 position) internal pure returns (uint256) {
        if (position < segment.start || position - segment.start >= segment.length) {
            revert OutsideSegment(position, segment.start, segment.length);
        }
        return position - segment.start;
    }

    /// @notice The text leaf in whose stride byte `offset` of a segment lies. Reads its blob and its opening.
    function textAt(Openings.Reader memory reader, Codec.SegmentLeaf memory segment, uint256 offset)
        internal
        pure
        returns (bytes calldata leaf)
    {
        leaf = reader.blob();
        requireRoot("text", segment.textRoot, reader.rootOf(leaf, offset / STRIDE_BYTES).root);
    }

    /// @notice A document of a segment. Reads its row, its index u64, its opening.
    function documentAt(Openings.Reader memory reader, Codec.SegmentLeaf memory segment)
        internal
        pure
        returns (Document memory row, uint64 number)
    {
        bytes calldata leaf = reader.cut(DOCUMENT_ROW_BYTES);
        number = reader.u64();
        requireRoot("documents", segment.documentsRoot, reader.rootOf(leaf, number).root);
        row = documentOf(leaf);
    }

    /// @notice Refuses a row that does not hold byte `offset` of its segment.
    function requireHolds(Document memory row, uint256 offset) internal pure {
        if (offset < row.start || offset - row.start >= row.length) revert OutsideDocument(offset, row.start, row.length);
    }

    // ------------------------------------------------------------------ matches

    /// @notice Whether `pattern` stands at a word start of a text: what the index's array has and a span needs. Reads the Datanet's leaf, its opening, the
    /// segment's leaf, index and opening, the text leaf's blob and opening; then what `isWordStart` reads.
    function occurs(
        Openings.Reader memory reader,
        Words.Table memory table,
        bytes32 indexRoot,
        uint256 datanet,
        uint256 position,
        bytes calldata pattern
    ) internal view returns (bool) {
        (Codec.SegmentLeaf memory segment,) = segmentAt(reader, datanetAt(reader, indexRoot, datanet).segmentsRoot);
        return occursIn(reader, table, segment, offsetIn(segment, position), pattern);
    }

    /// @notice The same in a segment that is opened already. Reads the text leaf's blob and opening; then what `isWordStart` reads.
    function occursIn(
        Openings.Reader memory reader,
        Words.Table memory table,
        Codec.SegmentLeaf memory segment,
        uint256 offset,
        bytes calldata pattern
    ) internal view returns (bool) {
        bytes calldata leaf = textAt(reader, segment, offset);
        return isWordStart(reader, table, segment, offset, leaf) && isAt(leaf, offset % STRIDE_BYTES, pattern);
    }

    /// @notice Whether a word begins at byte `offset` of a segment, `leaf` being the text leaf of that byte; none does behind a contribution's end. Where the
    /// character before it does not stand in that leaf, which is then not the first, the one before is read: its blob, its opening.
    /// @dev A leaf ends with its contribution: where the one before is too short, nothing stands before the byte.
    function isWordStart(
        Openings.Reader memory reader,
        Words.Table memory table,
        Codec.SegmentLeaf memory segment,
        uint256 offset,
        bytes calldata leaf
    ) internal view returns (bool) {
        uint256 place = offset % STRIDE_BYTES;
        if (place >= leaf.length) return false;
        (uint256 first,) = Words.characterAt(leaf, place);
        if (offset < STRIDE_BYTES || !Words.isCutBefore(leaf, place)) return table.begins(Words.characterBefore(leaf, place), first);
        bytes calldata earlier = textAt(reader, segment, offset - STRIDE_BYTES);
        place += STRIDE_BYTES;
        return table.begins(earlier.length < place ? 0 : Words.characterBefore(earlier, place), first);
    }

    /// @notice The most bytes of `pattern` that any entry of a segment begins with. Reads the Datanet's leaf, its opening, the segment's leaf, index and
    /// opening; unless the segment has no entry: the rank u64 of the first entry that comes after the pattern, or is it (as many as there are if
    /// all come before), the array leaf that shows the entries at rank - 1 and at rank, its blob and opening; of each that there is, the blob and the opening of
    /// its text leaf. Entries ascend, so that no other shares more with the pattern than its two neighbours.
    function longest(Openings.Reader memory reader, bytes32 indexRoot, uint256 datanet, bytes calldata pattern)
        internal
        pure
        returns (uint256)
    {
        (Codec.SegmentLeaf memory segment,) = segmentAt(reader, datanetAt(reader, indexRoot, datanet).segmentsRoot);
        return longestIn(reader, segment, pattern);
    }

    /// @notice The same in a segment that is opened already.
    function longestIn(Openings.Reader memory reader, Codec.SegmentLeaf memory segment, bytes calldata pattern)
        internal
        pure
        returns (uint256 most)
    {
        if (pattern.length == 0 || pattern.length > WINDOW_BYTES) revert PatternLength(pattern.length);
        if (segment.entries == 0) return 0;
        uint64 rank = reader.u64();
        if (rank > segment.entries) revert RankBeyondArray(rank, segment.entries);
        uint256 number = rank == 0 ? 0 : (rank - 1) / ARRAY_STRIDE;
        bytes calldata leaf = arrayAt(reader, segment, number);
        uint256 next = rank - number * ARRAY_STRIDE;
        if (rank > 0) {
            bytes calldata window = windowAt(reader, segment, entryAt(leaf, number, next - 1));
            most = common(window, pattern);
            if (isBefore(pattern, window, most)) revert NotBetween("the entry before");
        }
        if (rank < segment.entries) {
            bytes calldata window = windowAt(reader, segment, entryAt(leaf, number, next));
            uint256 shared = common(window, pattern);
            if (isBefore(window, pattern, shared)) revert NotBetween("the entry after");
            if (shared > most) most = shared;
        }
    }

    /// @notice Array leaf `number` of a segment. Reads its blob and its opening.
    function arrayAt(Openings.Reader memory reader, Codec.SegmentLeaf memory segment, uint256 number)
        internal
        pure
        returns (bytes calldata leaf)
    {
        leaf = reader.blob();
        requireRoot("array", segment.arrayRoot, reader.rootOf(leaf, number).root);
    }

    /// @notice Entry `place` of array leaf `number`: an offset in the segment.
    function entryAt(bytes calldata leaf, uint256 number, uint256 place) internal pure returns (uint256) {
        if ((place + 1) * ENTRY_BYTES > leaf.length) revert MalformedArrayLeaf(number, leaf.length);
        return uint40(bytes5(leaf[place * ENTRY_BYTES:(place + 1) * ENTRY_BYTES]));
    }

    /// @notice What an entry is ordered by: at most 256 bytes, which end before the first zero byte. Reads the blob and the opening of its text leaf.
    function windowAt(Openings.Reader memory reader, Codec.SegmentLeaf memory segment, uint256 offset)
        internal
        pure
        returns (bytes calldata)
    {
        return windowIn(textAt(reader, segment, offset), offset);
    }

    /// @notice Whether `pattern` stands at a place of a text; not where the text ends inside it.
    function isAt(bytes calldata text, uint256 place, bytes calldata pattern) internal pure returns (bool) {
        return place + pattern.length <= text.length && keccak256(text[place:place + pattern.length]) == keccak256(pattern);
    }

    /// @notice Bytes that both begin with.
    function common(bytes calldata a, bytes calldata b) internal pure returns (uint256 length) {
        uint256 most = Math.min(a.length, b.length);
        for (; length < most; length += 32) {
            uint256 difference;
            // What stands behind either is cut off below.
            assembly ("memory-safe") {
                difference := xor(calldataload(add(a.offset, length)), calldataload(add(b.offset, length)))
            }
            if (difference != 0) return Math.min(most, length + (255 - Math.log2(difference)) / 8);
        }
        return most;
    }

    /// @notice Whether `a` comes before `b`, both beginning with the same `shared` bytes and no more: by bytes as numbers, the beginning of another before it.
    function isBefore(bytes calldata a, bytes calldata b, uint256 shared) internal pure returns (bool) {
        if (shared == b.length) return false;
        return shared == a.length || a[shared] < b[shared];
    }

    /// @dev Place of the first zero byte, or the length.
    function zeroIn(bytes calldata text) private pure returns (uint256) {
        for (uint256 i = 0; i < text.length; i += 32) {
            uint256 chunk;
            assembly ("memory-safe") {
                chunk := calldataload(add(text.offset, i))
            }
            // The highest bit of each byte that is zero, and no other.
            uint256 zeros = ~(((chunk & LOW_BITS) + LOW_BITS) | chunk | LOW_BITS);
            if (zeros != 0) return Math.min(text.length, i + (255 - Math.log2(zeros)) / 8);
        }
        return text.length;
    }

    // ------------------------------------------------------------------ the answer

    /// @notice Leaf `number` of an answer: the rows of its words, its text, the weight of all words before it, the answer's bytes. Reads its blob and opening.
    function answerAt(Openings.Reader memory reader, bytes32 answerRoot, uint256 number)
        internal
        pure
        returns (bytes calldata rows, bytes calldata text, uint64 running, uint64 length)
    {
        bytes calldata leaf = reader.blob();
        Openings.Opened memory opened = reader.rootOf(leaf, number);
        requireRoot("answer", answerRoot, opened.root);
        length = opened.length;
        if (leaf.length < ANSWER_HEAD_BYTES) revert MalformedAnswerLeaf(number);
        running = uint64(bytes8(leaf[32:40]));
        uint256 end = ANSWER_HEAD_BYTES + uint256(uint8(leaf[40])) * WORD_ROW_BYTES;
        if (leaf.length < end) revert MalformedAnswerLeaf(number);
        rows = leaf[ANSWER_HEAD_BYTES:end];
        text = leaf[end:];
    }

    /// @notice Words whose rows these are.
    function wordsIn(bytes calldata rows) internal pure returns (uint256) {
        return rows.length / WORD_ROW_BYTES;
    }

    /// @notice Word `place` of the rows of answer leaf `number`.
    function wordAt(bytes calldata rows, uint256 number, uint256 place) internal pure returns (Word memory) {
        bytes calldata row = rows[place * WORD_ROW_BYTES:(place + 1) * WORD_ROW_BYTES];
        return Word({
            start: number * STRIDE_BYTES + uint8(row[0]), length: uint16(bytes2(row[1:3])), weight: uint32(bytes4(row[3:7]))
        });
    }

    /// @notice Row `place` of an answer leaf, which has so many: how far its word starts behind the leaf's first byte, its bytes, its weight.
    function rowAt(bytes calldata rows, uint256 place) internal pure returns (uint256 offset, uint256 length, uint256 weight) {
        uint256 row;
        assembly ("memory-safe") {
            row := shr(200, calldataload(add(rows.offset, mul(place, 7))))
        }
        return (row >> 48, (row >> 32) & 0xffff, row & 0xffffffff);
    }

    /// @notice Weight of those rows of answer leaf `number` whose words start before byte `end` of the answer.
    function weightBefore(bytes calldata rows, uint256 number, uint256 end) internal pure returns (uint256 weight) {
        uint256 count = wordsIn(rows);
        uint256 first = number * STRIDE_BYTES;
        for (uint256 i = 0; i < count; ++i) {
            (uint256 offset,, uint256 own) = rowAt(rows, i);
            if (first + offset < end) weight += own;
        }
    }

    function requireRoot(string memory what, bytes32 expected, bytes32 got) internal pure {
        if (expected != got) revert WrongRoot(what, expected, got);
    }

    // ------------------------------------------------------------------ rows

    /// @notice Document `number` of a segment, and how many it has. Reads its row, its opening.
    function documentNumbered(Openings.Reader memory reader, Codec.SegmentLeaf memory segment, uint256 number)
        internal
        pure
        returns (Document memory row, uint64 count)
    {
        bytes calldata leaf = reader.cut(DOCUMENT_ROW_BYTES);
        Openings.Opened memory opened = reader.rootOf(leaf, number);
        requireRoot("documents", segment.documentsRoot, opened.root);
        return (documentOf(leaf), opened.count);
    }

    /// @notice What the 85 bytes of a row say.
    function documentOf(bytes calldata leaf) internal pure returns (Document memory) {
        return Document({
            textRoot: bytes32(leaf[0:32]),
            start: uint40(bytes5(leaf[32:37])),
            length: uint32(bytes4(leaf[37:41])),
            payee: address(bytes20(leaf[41:61])),
            blockNumber: uint64(bytes8(leaf[61:69])),
            ordinal: uint32(bytes4(leaf[69:73])),
            document: uint32(bytes4(leaf[73:77])),
            cluster: uint64(bytes8(leaf[77:85]))
        });
    }

    // ------------------------------------------------------------------ order

    /// @notice What an entry is ordered by, `leaf` being the text leaf in whose stride it lies.
    function windowIn(bytes calldata leaf, uint256 offset) internal pure returns (bytes calldata window) {
        uint256 place = Math.min(offset % STRIDE_BYTES, leaf.length);
        window = leaf[place:Math.min(place + WINDOW_BYTES, leaf.length)];
        return window[:zeroIn(window)];
    }

    /// @notice Whether an entry comes before another: by windows, of equal ones by place.
    function isEntryBefore(bytes calldata a, uint256 placeA, bytes calldata b, uint256 placeB) internal pure returns (bool) {
        uint256 shared = common(a, b);
        if (shared == a.length && shared == b.length) return placeA < placeB;
        return isBefore(a, b, shared);
    }
}
