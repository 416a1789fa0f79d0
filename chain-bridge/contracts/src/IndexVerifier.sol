// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {AssetRegistry} from "./AssetRegistry.sol";
import {Codec} from "./Codec.sol";
import {Erasures} from "./Erasures.sol";
import {FaultBase} from "./FaultBase.sol";
import {Matches} from "./Matches.sol";
import {Openings} from "./Openings.sol";
import {ISettlement, IStakes} from "./Ports.sol";
import {Words} from "./Words.sol";

/// @title Faults of an indexer that its own index root proves: X1 to X5
/// @notice A bonded indexer posts one index root for a version. What is opened from that root must agree with itself, and with what the registry accepted
/// into the Datanets. One transaction, no judge. What is opened, and how, is Protocol P7.
contract IndexVerifier is FaultBase {
    using Openings for Openings.Reader;

    /// @notice What is wrong with an index.
    enum Mode {
        /// X1: two neighbours of an array are not in order.
        Order,
        /// X2: two array leaves disagree, or one has not the entries it must.
        ArrayLeaves,
        /// X2: two text leaves disagree, or one ends where none may.
        TextLeaves,
        /// X2: a text leaf is not that of the contribution which stands there.
        Text,
        /// X3: an entry lies beyond its segment, or no word begins there.
        Entry,
        /// X4: a word begins where the array has no entry.
        Missing,
        /// X5: a row is not that of the contribution whose priority it has.
        Row,
        /// X5: two rows do not follow each other, or the first or the last is none.
        Rows,
        /// X5: a row does not end where its document does.
        Length,
        /// X5: a contribution was left out.
        LeftOut,
        /// X5: a row is of no contribution.
        Invented,
        /// The trees of a segment have not the sizes that its leaf says, or it has text and no rows.
        Counts,
        /// Segments do not follow each other.
        Segments,
        /// The Datanets are not those that the version declares.
        Datanets,
        /// X5: text goes on behind the last document of a contribution.
        Behind,
        /// A Datanet has a length and no segments.
        Hollow,
        /// A leaf has another size than leaves of its kind, so that nothing reads it.
        Form
    }

    /// @dev Instead of a Datanet's number: the head of the index root follows.
    uint256 private constant INDEX_HEAD = 255;
    /// @dev Bytes of a text leaf that does not end with its contribution.
    uint256 private constant TEXT_LEAF_BYTES = 320;
    /// @dev Entries of an array leaf that is not the last.
    uint256 private constant ARRAY_LEAF_ENTRIES = 16;
    /// @dev Which neighbours show that a contribution is left out.
    uint256 private constant SIDE_BEFORE = 1;
    uint256 private constant SIDE_AFTER = 2;

    /// @notice Says what was posted, and what was contributed.
    AssetRegistry public immutable registry;
    /// @notice Says what was erased, and in which block.
    Erasures public immutable erasures;
    /// @notice A `WordRanges`.
    address public immutable ranges;

    /// @notice When the index root of a version was refuted within its window, in seconds since 1970; 0 if it was not.
    mapping(uint64 => mapping(uint32 => uint64)) public refutedAt;
    /// @notice How many contributions of a Datanet were entered, in the order of acceptance.
    mapping(uint64 => uint256) public enteredOf;
    /// @dev By Datanet, block and ordinal (32 bits) of the commitment: whether a contribution that was entered has them.
    mapping(uint64 => mapping(uint256 => bool)) private isEntered;

    /// @notice The part of an index that evidence is about.
    struct Source {
        Codec.DatanetLeaf datanet;
        Codec.SegmentLeaf segment;
        uint64 number;
    }

    event IndexRefuted(
        uint64 indexed asset, uint32 indexed version, address indexed indexer, bytes32 root, Mode mode, bool isVoid, address reporter
    );
    event ContributionsEntered(uint64 indexed datanet, uint256 count);

    error NoIndexRoot(uint64 asset, uint32 version);
    error Holds(Mode mode);
    error NoWordStart(uint256 place);
    error UnknownContribution(uint64 datanet, uint256 number, uint256 count);
    error OtherContribution(uint256 number);
    error NotEarlier(uint256 expectedBelow, uint256 got);
    error NotPassedBy(uint256 segment);
    error NotAllEntered(uint64 datanet, uint256 expected, uint256 got);

    /// @param registry_ See `registry`.
    /// @param erasures_ See `erasures`.
    /// @param ranges_ See `ranges`.
    constructor(IStakes stakeManager_, ISettlement settlement_, AssetRegistry registry_, Erasures erasures_, address ranges_)
        FaultBase(stakeManager_, settlement_)
    {
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        if (address(erasures_) == address(0)) revert ZeroAddress("erasures");
        Words.requireTable(ranges_);
        registry = registry_;
        erasures = erasures_;
        ranges = ranges_;
    }

    /// @notice X1 to X5: the index of a version is wrong. Who posted its root is slashed, once for a version; within the root's window it is marked as refuted.
    /// @param evidence Packed as `mode` asks for: see Protocol P7.
    function proveIndex(uint64 asset, uint32 version, Mode mode, bytes calldata evidence) external committed {
        AssetRegistry.IndexRoot memory posted = requireFault(asset, version, mode, evidence);
        bool isVoid = block.timestamp < posted.windowEnds;
        if (isVoid) refutedAt[asset][version] = uint64(block.timestamp);
        emit IndexRefuted(asset, version, posted.indexer, posted.root, mode, isVoid, msg.sender);
        slashOnce(posted.indexer, faultHash(asset, version));
    }

    /// @notice Refuses evidence that proves nothing; else the root that it refutes. What anybody can ask before proving.
    function requireFault(uint64 asset, uint32 version, Mode mode, bytes calldata evidence)
        public
        view
        returns (AssetRegistry.IndexRoot memory posted)
    {
        posted = registry.indexRootOf(asset, version);
        if (posted.root == 0) revert NoIndexRoot(asset, version);
        Openings.Reader memory reader = Openings.over(evidence);
        bool isFalse;
        if (mode == Mode.Datanets) isFalse = otherDatanets(reader, posted.root, registry.versionOf(asset, version).datanets);
        else if (mode == Mode.Hollow) isFalse = isHollow(reader, posted.root);
        else if (mode == Mode.Form) isFalse = isOtherForm(reader, posted.root);
        else isFalse = isWrong(reader, posted.root, mode);
        if (!isFalse) revert Holds(mode);
        reader.finish();
    }

    /// @notice Names the fault of a version's index.
    function faultHash(uint64 asset, uint32 version) public pure returns (bytes32) {
        return keccak256(abi.encode("X", asset, version));
    }

    /// @notice Enters the next contributions of a Datanet, `most` at most, so that a row of none of them can be told. By anybody, for good.
    function enter(uint64 datanet, uint256 most) external {
        uint256 first = enteredOf[datanet];
        uint256 end = first + Math.min(registry.contributionCount(datanet) - first, most);
        enteredOf[datanet] = end;
        for (uint256 i = first; i < end; ++i) {
            AssetRegistry.Accepted memory accepted = registry.contributionAt(datanet, i);
            isEntered[datanet][priority(accepted.blockNumber, accepted.ordinal)] = true;
        }
        emit ContributionsEntered(datanet, end);
    }

    /// @dev An index has no fee and no victim.
    function slashOnce(address indexer, bytes32 hash) private {
        stakeManager.slash(indexer, 0, address(0), 0, 0, msg.sender, hash);
    }

    /// @dev Reads the Datanet's number u8, its leaf, its opening; the segment's leaf, index u64, opening; then what `mode` asks for.
    function isWrong(Openings.Reader memory reader, bytes32 root, Mode mode) private view returns (bool) {
        Source memory source;
        source.datanet = Matches.datanetAt(reader, root, reader.u8());
        (source.segment, source.number) = Matches.segmentAt(reader, source.datanet.segmentsRoot);
        if (mode == Mode.Order) return isUnordered(reader, source.segment);
        if (mode == Mode.ArrayLeaves) return arrayDisagrees(reader, source.segment);
        if (mode == Mode.TextLeaves) return textDisagrees(reader, source.segment);
        if (mode == Mode.Text) return isOtherText(reader, source.segment);
        if (mode == Mode.Entry) return isNoEntry(reader, source.segment);
        if (mode == Mode.Missing) return isMissing(reader, source.segment);
        if (mode == Mode.Row) return isOtherRow(reader, source);
        if (mode == Mode.Rows) return rowsDisagree(reader, source.segment);
        if (mode == Mode.Length) return isOtherLength(reader, source.segment);
        if (mode == Mode.LeftOut) return isLeftOut(reader, source);
        if (mode == Mode.Invented) return isInvented(reader, source);
        if (mode == Mode.Counts) return countsDisagree(reader, source.segment);
        if (mode == Mode.Behind) return goesOn(reader, source.segment);
        return segmentsDisagree(reader, source);
    }

    // ------------------------------------------------------------------ X1, X2

    /// @dev Reads the array leaf's number u64, its blob, its opening, an entry's place in it u8; blob and opening of the text leaf of that entry and of the
    /// next.
    function isUnordered(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (bool) {
        (uint256 first, uint256 second) = pairAt(reader, segment);
        bytes calldata window = Matches.windowAt(reader, segment, first);
        return !Matches.isEntryBefore(window, first, Matches.windowAt(reader, segment, second), second);
    }

    function pairAt(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (uint256 first, uint256 second) {
        uint64 number = reader.u64();
        bytes calldata leaf = Matches.arrayAt(reader, segment, number);
        uint256 place = reader.u8();
        return (Matches.entryAt(leaf, number, place), Matches.entryAt(leaf, number, place + 1));
    }

    /// @dev Reads the number u64 of an array leaf, its blob and opening; unless its size convicts, blob and opening of the next.
    function arrayDisagrees(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (bool) {
        uint64 number = reader.u64();
        bytes calldata leaf = Matches.arrayAt(reader, segment, number);
        if (leaf.length != arrayBytes(segment, number)) return true;
        bytes calldata next = Matches.arrayAt(reader, segment, uint256(number) + 1);
        if (next.length != arrayBytes(segment, uint256(number) + 1)) return true;
        return Matches.entryAt(leaf, number, Matches.ARRAY_STRIDE) != Matches.entryAt(next, number, 0);
    }

    /// @dev Bytes that an array leaf has.
    function arrayBytes(Codec.SegmentLeaf memory segment, uint256 number) private pure returns (uint256) {
        uint256 before = number * Matches.ARRAY_STRIDE;
        if (before >= segment.entries) return 0;
        return Math.min(ARRAY_LEAF_ENTRIES, segment.entries - before) * Matches.ENTRY_BYTES;
    }

    /// @dev Reads the number u64 of a text leaf, its blob and opening; unless it convicts alone, blob and opening of the next. What is shorter than a leaf
    /// can be ends with its contribution, by a zero byte, the last one with the segment; what ends in its stride shares nothing with the next.
    function textDisagrees(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (bool) {
        uint256 offset = uint256(reader.u64()) * Matches.STRIDE_BYTES;
        bytes calldata leaf = Matches.textAt(reader, segment, offset);
        if (leaf.length == 0 || leaf.length > TEXT_LEAF_BYTES) return true;
        bool ends = leaf.length < TEXT_LEAF_BYTES;
        if (ends && leaf[leaf.length - 1] != 0) return true;
        if (offset + leaf.length > segment.length) return true;
        if (offset + Matches.STRIDE_BYTES >= segment.length) return offset + leaf.length != segment.length;
        if (leaf.length <= Matches.STRIDE_BYTES) return false;
        bytes calldata shared = leaf[Matches.STRIDE_BYTES:];
        bytes calldata next = Matches.textAt(reader, segment, offset + Matches.STRIDE_BYTES);
        return !Matches.isAt(next, 0, shared) || (ends && next.length != shared.length);
    }

    /// @dev Reads a row, its index u64, its opening; k u64; blob and opening of leaf k of the row's contribution; those of the segment's that stands there.
    function isOtherText(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (bool) {
        (Matches.Document memory row,) = Matches.documentAt(reader, segment);
        if (row.document != 0 || isTombstone(row)) revert Holds(Mode.Text);
        uint64 number = reader.u64();
        bytes calldata own = reader.blob();
        Matches.requireRoot("contribution", row.textRoot, reader.rootOf(own, number).root);
        bytes calldata leaf = Matches.textAt(reader, segment, row.start + uint256(number) * Matches.STRIDE_BYTES);
        return own.length != leaf.length || !Matches.isAt(own, 0, leaf);
    }

    // ------------------------------------------------------------------ X3, X4

    /// @dev Reads the array leaf's number u64, its blob, its opening, the entry's place in it u8; unless that lies beyond the segment, blob and opening of its
    /// text leaf, then what `Matches.isWordStart` reads.
    function isNoEntry(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private view returns (bool) {
        uint64 number = reader.u64();
        bytes calldata leaf = Matches.arrayAt(reader, segment, number);
        uint256 entry = Matches.entryAt(leaf, number, reader.u8());
        if (entry >= segment.length) return true;
        bytes calldata text = Matches.textAt(reader, segment, entry);
        return !Matches.isWordStart(reader, Words.Table(ranges, ""), segment, entry, text);
    }

    /// @dev Reads a place u40, blob and opening of its text leaf, what `Matches.isWordStart` reads; then what `requireBetween` reads.
    function isMissing(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private view returns (bool) {
        uint256 place = uint40(bytes5(reader.cut(5)));
        bytes calldata text = Matches.textAt(reader, segment, place);
        if (!Matches.isWordStart(reader, Words.Table(ranges, ""), segment, place, text)) revert NoWordStart(place);
        if (segment.entries != 0) requireBetween(reader, segment, Matches.windowIn(text, place), place);
        return true;
    }

    /// @dev Reads what `neighboursAt` reads; of each neighbour that there is, blob and opening of its text leaf.
    function requireBetween(Openings.Reader memory reader, Codec.SegmentLeaf memory segment, bytes calldata window, uint256 place)
        private
        pure
    {
        (uint256 rank, uint256 entry, uint256 next) = neighboursAt(reader, segment);
        if (rank > 0 && !Matches.isEntryBefore(Matches.windowAt(reader, segment, entry), entry, window, place)) {
            revert Matches.NotBetween("the entry before");
        }
        if (rank < segment.entries && !Matches.isEntryBefore(window, place, Matches.windowAt(reader, segment, next), next)) {
            revert Matches.NotBetween("the entry after");
        }
    }

    /// @dev The entry before a place and the one after it; zero where there is none. Reads how many entries come before the place u64, blob and opening of
    /// the array leaf that shows both.
    function neighboursAt(Openings.Reader memory reader, Codec.SegmentLeaf memory segment)
        private
        pure
        returns (uint64 rank, uint256 entry, uint256 next)
    {
        rank = reader.u64();
        if (rank > segment.entries) revert Matches.RankBeyondArray(rank, segment.entries);
        uint256 number = rank == 0 ? 0 : (rank - 1) / Matches.ARRAY_STRIDE;
        bytes calldata leaf = Matches.arrayAt(reader, segment, number);
        uint256 place = rank - number * Matches.ARRAY_STRIDE;
        if (rank > 0) entry = Matches.entryAt(leaf, number, place - 1);
        if (rank < segment.entries) next = Matches.entryAt(leaf, number, place);
    }

    // ------------------------------------------------------------------ X5

    /// @dev Reads a row, its index u64, its opening; the number u64 of a contribution.
    function isOtherRow(Openings.Reader memory reader, Source memory source) private view returns (bool) {
        (Matches.Document memory row,) = Matches.documentAt(reader, source.segment);
        uint64 number = reader.u64();
        AssetRegistry.Accepted memory accepted = acceptedAt(source.datanet.asset, number);
        requirePriority(row, accepted, number);
        if (row.textRoot != accepted.textRoot) return true;
        if (isTombstone(row)) return row.length != 0 || row.document != 0 || !mayBeErased(source.datanet, number);
        return row.payee != accepted.contributor || isErased(source.datanet, number);
    }

    /// @dev Whether a contribution was erased, not in a later block than that in which the Datanet's version was published.
    function mayBeErased(Codec.DatanetLeaf memory datanet, uint256 number) private view returns (bool) {
        Erasures.Erasure memory erasure = erasures.erasureOf(datanet.asset, number);
        return erasure.by != address(0) && registry.statusAt(datanet.asset, datanet.version, uint48(erasure.blockNumber - 1)) == 0;
    }

    /// @dev Whether a contribution was erased in an earlier block than that in which the Datanet's version was published.
    function isErased(Codec.DatanetLeaf memory datanet, uint256 number) private view returns (bool) {
        Erasures.Erasure memory erasure = erasures.erasureOf(datanet.asset, number);
        return erasure.by != address(0) && registry.statusAt(datanet.asset, datanet.version, uint48(erasure.blockNumber)) == 0;
    }

    /// @dev Reads a row's index u64, the row, its opening; unless it is the last, the next row and its opening.
    function rowsDisagree(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (bool) {
        uint64 number = reader.u64();
        (Matches.Document memory row, uint64 count) = Matches.documentNumbered(reader, segment, number);
        if (number == 0 && (row.start != 0 || row.document != 0)) return true;
        if (uint256(number) + 1 == count) return isTombstone(row) ? row.start != aligned(segment.length) : endOf(row) != segment.length;
        (Matches.Document memory next,) = Matches.documentNumbered(reader, segment, uint256(number) + 1);
        return row.blockNumber == next.blockNumber && row.ordinal == next.ordinal ? !isNext(row, next) : !isBehind(row, next);
    }

    /// @dev Whether a row is the next document of another's contribution.
    function isNext(Matches.Document memory row, Matches.Document memory next) private pure returns (bool) {
        if (isTombstone(row) || next.payee != row.payee || next.textRoot != row.textRoot) return false;
        return next.document == uint256(row.document) + 1 && next.start == endOf(row);
    }

    /// @dev Whether a row is the first of a later contribution than another's, which is laid behind that.
    function isBehind(Matches.Document memory row, Matches.Document memory next) private pure returns (bool) {
        bool isLater = priority(row.blockNumber, row.ordinal) < priority(next.blockNumber, next.ordinal);
        return isLater && next.document == 0 && next.start == aligned(endOf(row));
    }

    /// @dev Reads a row, its index u64, its opening; a place in its document u64, blob and opening of the text leaf of that.
    function isOtherLength(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (bool) {
        (Matches.Document memory row,) = Matches.documentAt(reader, segment);
        uint64 place = reader.u64();
        if (isTombstone(row)) revert Holds(Mode.Length);
        if (place > row.length) revert Matches.OutsideDocument(row.start + uint256(place), row.start, row.length);
        uint256 offset = row.start + uint256(place);
        bytes calldata leaf = Matches.textAt(reader, segment, offset);
        offset %= Matches.STRIDE_BYTES;
        return offset >= leaf.length || (leaf[offset] == 0) != (place == row.length);
    }

    /// @dev Reads a row's index u64, the row, its opening; unless it is the last, the next row and its opening; blob and opening of the text leaf of its end. A
    /// leaf ends with its contribution, and that with its last document's zero byte.
    function goesOn(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (bool) {
        uint64 number = reader.u64();
        (Matches.Document memory row, uint64 count) = Matches.documentNumbered(reader, segment, number);
        if (isTombstone(row)) revert Holds(Mode.Behind);
        if (uint256(number) + 1 < count) {
            (Matches.Document memory next,) = Matches.documentNumbered(reader, segment, uint256(number) + 1);
            if (row.blockNumber == next.blockNumber && row.ordinal == next.ordinal) revert Holds(Mode.Behind);
        }
        uint256 end = uint256(row.start) + row.length;
        return Matches.textAt(reader, segment, end).length > end % Matches.STRIDE_BYTES + 1;
    }

    /// @dev Reads what `earlierThan` reads; of each segment of the Datanet, from the first, leaf, opening, and what `requirePassedBy` reads.
    function isLeftOut(Openings.Reader memory reader, Source memory source) private view returns (bool) {
        uint256 sought = earlierThan(reader, source);
        uint256 segments = 1;
        for (uint256 i = 0; i < segments; ++i) {
            Codec.SegmentLeaf memory segment;
            (segment, segments) = segmentAt(reader, source.datanet.segmentsRoot, i);
            requirePassedBy(reader, segment, i, sought);
        }
        return true;
    }

    /// @dev Priority of a contribution that was accepted before another whose row the index has. Reads that row, its index u64, its opening; the number u64
    /// of its contribution, and that of the other.
    function earlierThan(Openings.Reader memory reader, Source memory source) private view returns (uint256) {
        (Matches.Document memory row,) = Matches.documentAt(reader, source.segment);
        uint64 number = reader.u64();
        requirePriority(row, acceptedAt(source.datanet.asset, number), number);
        uint64 missing = reader.u64();
        if (missing >= number) revert NotEarlier(number, missing);
        AssetRegistry.Accepted memory accepted = acceptedAt(source.datanet.asset, missing);
        return priority(accepted.blockNumber, accepted.ordinal);
    }

    /// @dev Segment `number` of a Datanet, and how many it has. Reads its leaf, its opening.
    function segmentAt(Openings.Reader memory reader, bytes32 segmentsRoot, uint256 number)
        private
        pure
        returns (Codec.SegmentLeaf memory segment, uint256 count)
    {
        bytes calldata leaf = reader.cut(Codec.SEGMENT_LEAF_BYTES);
        Openings.Opened memory opened = reader.rootOf(leaf, number);
        Matches.requireRoot("segments", segmentsRoot, opened.root);
        return (Codec.segmentLeaf(leaf), opened.count);
    }

    /// @dev Reads u8 which neighbours are shown; unless none is, the index u64 of the first, each row and its opening; else the head of the root of no rows.
    function requirePassedBy(Openings.Reader memory reader, Codec.SegmentLeaf memory segment, uint256 number, uint256 sought) private pure {
        uint256 sides = reader.u8();
        if (sides > SIDE_BEFORE + SIDE_AFTER) revert NotPassedBy(number);
        if (sides == 0) {
            Openings.Opened memory head = reader.head();
            Matches.requireRoot("documents", segment.documentsRoot, head.root);
            if (head.count != 0) revert NotPassedBy(number);
            return;
        }
        uint256 index = reader.u64();
        if (sides & SIDE_BEFORE != 0) {
            (Matches.Document memory row, uint64 count) = Matches.documentNumbered(reader, segment, index);
            bool isLast = index + 1 == count;
            if (priority(row.blockNumber, row.ordinal) >= sought || (sides == SIDE_BEFORE && !isLast)) revert NotPassedBy(number);
            ++index;
        }
        if (sides & SIDE_AFTER != 0) {
            (Matches.Document memory row,) = Matches.documentNumbered(reader, segment, index);
            if (priority(row.blockNumber, row.ordinal) <= sought || (sides == SIDE_AFTER && index != 0)) revert NotPassedBy(number);
        }
    }

    /// @dev Reads a row, its index u64, its opening.
    function isInvented(Openings.Reader memory reader, Source memory source) private view returns (bool) {
        (Matches.Document memory row,) = Matches.documentAt(reader, source.segment);
        uint64 datanet = source.datanet.asset;
        uint256 count = registry.contributionCount(datanet);
        if (enteredOf[datanet] != count) revert NotAllEntered(datanet, count, enteredOf[datanet]);
        return !isEntered[datanet][priority(row.blockNumber, row.ordinal)];
    }

    function acceptedAt(uint64 datanet, uint256 number) private view returns (AssetRegistry.Accepted memory) {
        uint256 count = registry.contributionCount(datanet);
        if (number >= count) revert UnknownContribution(datanet, number, count);
        return registry.contributionAt(datanet, number);
    }

    function requirePriority(Matches.Document memory row, AssetRegistry.Accepted memory accepted, uint256 number) private pure {
        if (row.blockNumber != accepted.blockNumber || row.ordinal != accepted.ordinal) revert OtherContribution(number);
    }

    /// @dev Contributions of a Datanet ascend by it, and none shares it with another: a block and the place among its commitments.
    function priority(uint64 blockNumber, uint32 ordinal) private pure returns (uint256) {
        return uint256(blockNumber) << 32 | ordinal;
    }

    function isTombstone(Matches.Document memory row) private pure returns (bool) {
        return row.payee == address(0);
    }

    /// @dev Behind a document's zero byte; where a tombstone stands.
    function endOf(Matches.Document memory row) private pure returns (uint256) {
        return isTombstone(row) ? row.start : uint256(row.start) + row.length + 1;
    }

    /// @dev The next multiple of a stride.
    function aligned(uint256 length) private pure returns (uint256) {
        return (length + Matches.STRIDE_BYTES - 1) / Matches.STRIDE_BYTES * Matches.STRIDE_BYTES;
    }

    // ------------------------------------------------------------------ sizes

    /// @dev Reads the heads of the segment's text root, of its array root and of its documents root. Text without a row is nobody's.
    function countsDisagree(Openings.Reader memory reader, Codec.SegmentLeaf memory segment) private pure returns (bool) {
        Openings.Opened memory text = reader.head();
        Matches.requireRoot("text", segment.textRoot, text.root);
        Openings.Opened memory array = reader.head();
        Matches.requireRoot("array", segment.arrayRoot, array.root);
        Openings.Opened memory documents = reader.head();
        Matches.requireRoot("documents", segment.documentsRoot, documents.root);
        if (documents.count == 0 && segment.length != 0) return true;
        if (text.length != segment.length || text.count != aligned(segment.length) / Matches.STRIDE_BYTES) return true;
        return array.count != (uint256(segment.entries) + Matches.ARRAY_STRIDE - 1) / Matches.ARRAY_STRIDE;
    }

    /// @dev Unless the first begins elsewhere than at 0: reads the head of the segments root; unless the segment is the last, leaf and opening of the next.
    function segmentsDisagree(Openings.Reader memory reader, Source memory source) private pure returns (bool) {
        uint256 end = uint256(source.segment.start) + source.segment.length;
        if (source.number == 0 && source.segment.start != 0) return true;
        Openings.Opened memory segments = reader.head();
        Matches.requireRoot("segments", source.datanet.segmentsRoot, segments.root);
        if (uint256(source.number) + 1 == segments.count) return end != source.datanet.length;
        (Codec.SegmentLeaf memory next,) = segmentAt(reader, source.datanet.segmentsRoot, uint256(source.number) + 1);
        return next.start != end;
    }

    /// @dev Reads a Datanet's number u8, its leaf, its opening, the head of its segments root.
    function isHollow(Openings.Reader memory reader, bytes32 root) private pure returns (bool) {
        Codec.DatanetLeaf memory datanet = Matches.datanetAt(reader, root, reader.u8());
        Openings.Opened memory segments = reader.head();
        Matches.requireRoot("segments", datanet.segmentsRoot, segments.root);
        return segments.count == 0 && datanet.length != 0;
    }

    /// @dev Reads u8 how many leaves lead to the one that is shown: its Datanet's, its segment's; the Datanet's number u8; those leaves, the first with its opening,
    /// the second with its index u64 and its opening; the number u64 of the one that is shown, unless it is the Datanet's; its blob, its opening.
    function isOtherForm(Openings.Reader memory reader, bytes32 root) private pure returns (bool) {
        uint256 above = reader.u8();
        uint256 number = reader.u8();
        if (above == 0) return hasOtherSize(reader, "index", root, number, Codec.DATANET_LEAF_BYTES);
        Codec.DatanetLeaf memory datanet = Matches.datanetAt(reader, root, number);
        if (above == 1) return hasOtherSize(reader, "segments", datanet.segmentsRoot, reader.u64(), Codec.SEGMENT_LEAF_BYTES);
        (Codec.SegmentLeaf memory segment,) = Matches.segmentAt(reader, datanet.segmentsRoot);
        return hasOtherSize(reader, "documents", segment.documentsRoot, reader.u64(), Matches.DOCUMENT_ROW_BYTES);
    }

    /// @dev Reads the blob of leaf `number` of a tree, its opening.
    function hasOtherSize(Openings.Reader memory reader, string memory what, bytes32 root, uint256 number, uint256 size)
        private
        pure
        returns (bool)
    {
        bytes calldata leaf = reader.blob();
        Matches.requireRoot(what, root, reader.rootOf(leaf, number).root);
        return leaf.length != size;
    }

    /// @dev Reads a Datanet's number u8, its leaf, its opening; or 255, the head of the index root.
    function otherDatanets(Openings.Reader memory reader, bytes32 root, AssetRegistry.Ref[] memory declared) private pure returns (bool) {
        uint256 number = reader.u8();
        if (number == INDEX_HEAD) {
            Openings.Opened memory head = reader.head();
            Matches.requireRoot("index", root, head.root);
            return head.count != declared.length;
        }
        Codec.DatanetLeaf memory datanet = Matches.datanetAt(reader, root, number);
        if (number >= declared.length) return true;
        return datanet.asset != declared[number].asset || datanet.version != declared[number].version;
    }
}
