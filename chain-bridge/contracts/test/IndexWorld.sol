// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {IndexVerifier} from "../src/IndexVerifier.sol";
import {ISettlement, IStakes} from "../src/Ports.sol";
import {Sig} from "../src/Sig.sol";
import {Roles} from "../src/StakeManager.sol";
import {WordRanges} from "../src/WordRanges.sol";
import {IndexTrees} from "./IndexTrees.sol";
import {Transcript} from "./Transcript.sol";

/// @notice Contributions that the registry accepted, the index that they make, laid out the plain way, and what is opened from it. Segments 0 and 1 are the first
/// Datanet's, 2 is the second's.
abstract contract IndexWorld is Transcript {
    /// @notice A contribution: its documents, each behind a zero byte; none if it was erased.
    struct Text {
        bytes content;
        bytes32 root;
        address payee;
        uint64 blockNumber;
        uint32 ordinal;
        uint64 number;
    }

    uint128 internal constant BOND = 10 ether;
    uint256 internal constant TEXTS = 4;
    /// @dev Which texts stand in which segment: 0 and 1, 2, 3.
    uint256 internal constant FIRST_SEGMENT_TEXTS = 2;

    IndexVerifier internal indexes;
    IndexTrees.Segment[3] internal made;
    /// @dev By priority.
    Text[TEXTS] internal texts;
    /// @dev Version of the first Datanet that the index is of.
    uint32 internal netVersion;
    /// @dev Version of the adapter whose root was posted last, and by whom.
    uint32 internal version;
    address internal indexer;
    /// @dev Datanet leaves that a root is posted over instead of the index's.
    bytes[] private others;

    function setUp() public virtual override {
        super.setUp();
        texts[0].content = "the quick brown fox jumps over the lazy dog\x00and a second document about the same dog\x00";
        texts[1].content = bytes.concat(prose(), "\x00the quick brown fox jumps over the lazy dog\x00");
        texts[2].content = "once more the quick brown fox\x00";
        texts[3].content = "another Datanet says hello to the quick brown fox\x00";
        for (uint256 i = 0; i < TEXTS; ++i) {
            // The first two in one block.
            if (i != 1) vm.roll(block.number + 1);
            commitTo(i);
        }
        // Not in the order of their commitments.
        accept(datanets[0], 1);
        accept(datanets[0], 0);
        accept(datanets[0], 2);
        accept(datanets[1], 3);
        netVersion = publishNet();
        lay();
        post();
    }

    function sixth() internal override returns (address) {
        indexes = new IndexVerifier(
            IStakes(address(stakes)), ISettlement(address(settlement)), registry, erasures, address(new WordRanges())
        );
        return address(indexes);
    }

    /// @dev Longer than two text leaves, of more words than an array leaf has entries.
    function prose() private pure returns (bytes memory out) {
        out = "we saw that";
        for (uint256 i = 0; i < 34; ++i) {
            out = abi.encodePacked(out, " ", bytes1(uint8(97 + i * 7 % 26)), bytes1(uint8(97 + i * 11 % 26)), "word", bytes1(uint8(97 + i % 3)), ",");
        }
    }

    // ------------------------------------------------------------------ contributions

    function commitTo(uint256 i) private {
        bytes memory content = texts[i].content;
        texts[i].root = IndexTrees.rootOf(IndexTrees.textLeaves(content), content.length);
        texts[i].payee = vm.addr(0xC0 + i);
        bytes32 commitment = commitmentOf(i);
        vm.prank(texts[i].payee);
        registry.commit(commitment);
        AssetRegistry.Commitment memory stored = registry.commitmentOf(commitment, texts[i].payee);
        (texts[i].blockNumber, texts[i].ordinal) = (stored.blockNumber, stored.ordinal);
    }

    function commitmentOf(uint256 i) private view returns (bytes32) {
        return keccak256(abi.encodePacked("tributary/commitment/v1", bytes32("salt"), texts[i].root, texts[i].payee));
    }

    function accept(uint64 net, uint256 i) private {
        Text memory text_ = texts[i];
        bytes32 object = keccak256(abi.encode("object", i));
        bytes memory body = abi.encodePacked(net, text_.payee, text_.root, uint64(text_.content.length));
        // What a contributor says of the number of its documents, nobody checks on the chain.
        body = abi.encodePacked(body, uint32(9), bytes32("salt"), keccak256("licence"), object);
        bytes memory report = abi.encodePacked(net, text_.root, commitmentOf(i), keccak256("report"), object, uint8(1));
        texts[i].number = uint64(
            registry.accept(
                body,
                signed(0xC0 + i, address(registry), Sig.CONTRIBUTION, body),
                report,
                signed(AUTHOR_KEY, address(registry), Sig.GATE_REPORT, report),
                IndexTrees.topOf(IndexTrees.textLeaves(text_.content))
            )
        );
    }

    function erase(uint256 i) internal {
        vm.prank(texts[i].payee);
        erasures.erase(datanets[0], texts[i].number, keccak256("reason"));
    }

    // ------------------------------------------------------------------ the index

    /// @notice Lays out what `texts` says: a text without content is a tombstone.
    function lay() internal {
        made[0] = segmentOf(0, FIRST_SEGMENT_TEXTS, 0);
        made[1] = segmentOf(FIRST_SEGMENT_TEXTS, 3, uint64(made[0].text.length));
        made[2] = segmentOf(3, 4, 0);
    }

    function segmentOf(uint256 from, uint256 to, uint64 start) internal view returns (IndexTrees.Segment memory s) {
        bytes[] memory contents = new bytes[](to - from);
        bytes[] memory heads = new bytes[](to - from);
        uint256 count = 0;
        for (uint256 i = from; i < to; ++i) if (texts[i].content.length != 0) contents[count++] = texts[i].content;
        assembly ("memory-safe") {
            mstore(contents, count)
        }
        s = IndexTrees.segment(contents, heads, start);
        s.rows = rowsOf(from, to);
        IndexTrees.seal(s);
    }

    function rowsOf(uint256 from, uint256 to) private view returns (bytes[] memory rows) {
        rows = new bytes[](16);
        uint256 count = 0;
        uint256 end = 0;
        for (uint256 i = from; i < to; ++i) {
            Text memory t = texts[i];
            uint256 start = (end + 63) / 64 * 64;
            if (t.content.length == 0) {
                rows[count++] = abi.encodePacked(t.root, uint40(start), uint32(0), address(0), t.blockNumber, t.ordinal, uint32(0), uint64(0));
                continue;
            }
            uint32 document = 0;
            uint256 begin = 0;
            for (uint256 j = 0; j < t.content.length; ++j) {
                if (t.content[j] != 0) continue;
                bytes memory tail = abi.encodePacked(t.payee, t.blockNumber, t.ordinal, document++, uint64(count));
                rows[count++] = abi.encodePacked(t.root, uint40(start + begin), uint32(j - begin), tail);
                begin = j + 1;
            }
            end = start + t.content.length;
        }
        assembly ("memory-safe") {
            mstore(rows, count)
        }
    }

    function publishNet() internal returns (uint32) {
        uint16[6] memory none;
        vm.prank(author);
        return registry.publish(datanets[0], keccak256("texts"), noRefs, none, noRefs, 0, 0);
    }

    /// @notice Has the root of the index as it is posted for a next version of the adapter, by an indexer of its own.
    function post() internal {
        AssetRegistry.Ref[] memory parents = new AssetRegistry.Ref[](1);
        parents[0] = AssetRegistry.Ref(base, 1);
        AssetRegistry.Ref[] memory declared = new AssetRegistry.Ref[](2);
        declared[0] = AssetRegistry.Ref(datanets[0], netVersion);
        declared[1] = AssetRegistry.Ref(datanets[1], 1);
        vm.prank(reviewer);
        version = registry.publish(adapter, keccak256("adapter"), parents, split(), declared, 0, 0);
        indexer = address(uint160(0x1D000 + version));
        vm.deal(indexer, BOND);
        vm.prank(indexer);
        stakes.join{value: BOND}(Roles.INDEXER);
        bytes32 root_ = root();
        vm.prank(indexer);
        registry.postIndexRoot(adapter, version, root_, 1);
    }

    /// @notice Has a root over other Datanet leaves posted.
    function foreign(bytes[] memory leaves_) internal {
        others = leaves_;
        post();
        delete others;
    }

    function datanetLeaves() internal view returns (bytes[] memory leaves) {
        if (others.length != 0) return others;
        leaves = new bytes[](2);
        uint64 length = made[1].start + uint64(made[1].text.length);
        leaves[0] = abi.encodePacked(datanets[0], netVersion, length, IndexTrees.rootOf(segmentLeaves(0), 240));
        leaves[1] = abi.encodePacked(datanets[1], uint32(1), uint64(made[2].text.length), IndexTrees.rootOf(segmentLeaves(1), 120));
    }

    function segmentLeaves(uint256 number) internal view returns (bytes[] memory leaves) {
        leaves = new bytes[](number == 0 ? 2 : 1);
        for (uint256 i = 0; i < leaves.length; ++i) leaves[i] = made[2 * number + i].leaf;
    }

    function root() internal view returns (bytes32) {
        bytes[] memory leaves = datanetLeaves();
        return IndexTrees.rootOf(leaves, 52 * leaves.length);
    }

    // ------------------------------------------------------------------ openings

    function datanet(uint256 number) internal view returns (bytes memory) {
        bytes[] memory leaves = datanetLeaves();
        return abi.encodePacked(uint8(number), leaves[number], IndexTrees.open(leaves, 52 * leaves.length, number));
    }

    /// @notice Number of the Datanet, its leaf, the segment's.
    function source(uint256 i) internal view returns (bytes memory) {
        return abi.encodePacked(datanet(i / 2), made[i].leaf, uint64(i % 2), segmentOpening(i));
    }

    function segmentOpening(uint256 i) internal view returns (bytes memory) {
        bytes[] memory leaves = segmentLeaves(i / 2);
        return IndexTrees.open(leaves, 120 * leaves.length, i % 2);
    }

    function segmentAlone(uint256 i) internal view returns (bytes memory) {
        return abi.encodePacked(made[i].leaf, segmentOpening(i));
    }

    function segmentsHead(uint256 number) internal view returns (bytes memory) {
        return IndexTrees.head(segmentLeaves(number), 120 * segmentLeaves(number).length);
    }

    function text(uint256 i, uint256 offset) internal view returns (bytes memory) {
        return IndexTrees.blobAt(made[i].texts, made[i].text.length, offset / 64);
    }

    /// @notice The text leaf before, where it shows what stands before a place.
    function before(uint256 i, uint256 offset) internal view returns (bytes memory) {
        bytes memory leaf = made[i].texts[offset / 64];
        uint256 place = offset % 64;
        if (offset < 64 || place >= leaf.length || place > 3) return "";
        for (uint256 j = 0; j < place; ++j) if (leaf[j] & 0xc0 != 0x80) return "";
        return text(i, offset - 64);
    }

    function array(uint256 i, uint256 number) internal view returns (bytes memory) {
        return IndexTrees.blobAt(made[i].array, IndexTrees.sizes(made[i].array), number);
    }

    function row(uint256 i, uint256 number) internal view returns (bytes memory) {
        return abi.encodePacked(made[i].rows[number], uint64(number), rowOpening(i, number));
    }

    /// @notice A row whose index follows.
    function rowAlone(uint256 i, uint256 number) internal view returns (bytes memory) {
        return abi.encodePacked(made[i].rows[number], rowOpening(i, number));
    }

    function rowOpening(uint256 i, uint256 number) private view returns (bytes memory) {
        return IndexTrees.open(made[i].rows, IndexTrees.sizes(made[i].rows), number);
    }

    // ------------------------------------------------------------------ proofs

    function call(IndexVerifier.Mode mode, bytes memory evidence) internal view returns (bytes memory) {
        return abi.encodeCall(IndexVerifier.proveIndex, (adapter, version, mode, evidence));
    }

    /// @notice Posts the index as it is; the evidence takes its indexer's stake.
    function convicted(IndexVerifier.Mode mode, bytes memory evidence) internal {
        post();
        proven(address(indexes), call(mode, evidence));
        yes("stake falls", stakes.slashableOf(indexer) < BOND);
        yes("slashed for", stakes.slashOf(indexes.faultHash(adapter, version)) != 0);
        eq("refuted", block.timestamp, indexes.refutedAt(adapter, version));
    }

    /// @notice Whether evidence about the root that was posted last proves anything; and if not, why.
    function tried(IndexVerifier.Mode mode, bytes memory evidence) internal view returns (bool done, bytes4 reason) {
        bytes memory answer;
        (done, answer) = address(indexes).staticcall(abi.encodeCall(IndexVerifier.requireFault, (adapter, version, mode, evidence)));
        reason = bytes4(answer);
    }

    function no(IndexVerifier.Mode mode, bytes memory evidence, bytes4 selector) internal view {
        (bool done, bytes4 reason) = tried(mode, evidence);
        yes("refused", !done);
        eq("error", bytes32(selector), bytes32(reason));
    }

    function holds(IndexVerifier.Mode mode, bytes memory evidence) internal view {
        no(mode, evidence, IndexVerifier.Holds.selector);
    }

    // ------------------------------------------------------------------ evidence

    function pair(uint256 i, uint256 rank) internal view returns (bytes memory) {
        bytes memory leaf = array(i, rank / 15);
        bytes memory both = abi.encodePacked(text(i, made[i].entries[rank]), text(i, made[i].entries[rank + 1]));
        return abi.encodePacked(source(i), uint64(rank / 15), leaf, uint8(rank % 15), both);
    }

    function textPair(uint256 i, uint256 number) internal view returns (bytes memory) {
        bytes memory next = number + 1 < made[i].texts.length && made[i].texts[number].length > 64 ? text(i, 64 * number + 64) : bytes("");
        return abi.encodePacked(source(i), uint64(number), text(i, 64 * number), next);
    }

    /// @dev Leaf `number` of a contribution's own tree.
    function own(uint256 i, uint256 number) internal view returns (bytes memory) {
        return IndexTrees.blobAt(IndexTrees.textLeaves(texts[i].content), texts[i].content.length, number);
    }

    function entry(uint256 i, uint256 rank) internal view returns (bytes memory) {
        uint256 place = made[i].entries[rank];
        return abi.encodePacked(source(i), uint64(rank / 15), array(i, rank / 15), uint8(rank % 15), text(i, place), before(i, place));
    }

    function missing(uint256 i, uint256 place, uint64 rank) internal view returns (bytes memory evidence) {
        uint256 number = rank == 0 ? 0 : (rank - 1) / 15;
        evidence = abi.encodePacked(source(i), uint40(place), text(i, place), before(i, place), rank, array(i, number));
        if (rank > 0) evidence = abi.encodePacked(evidence, text(i, made[i].entries[rank - 1]));
        if (rank < made[i].entries.length) evidence = abi.encodePacked(evidence, text(i, made[i].entries[rank]));
    }

    function rowPair(uint256 i, uint256 number) internal view returns (bytes memory evidence) {
        evidence = abi.encodePacked(source(i), uint64(number), rowAlone(i, number));
        if (number + 1 < made[i].rows.length) evidence = abi.encodePacked(evidence, rowAlone(i, number + 1));
    }

    function leftOut(uint256 i, uint256 number, uint64 later, uint64 earlier, bytes memory first, bytes memory second)
        internal
        view
        returns (bytes memory)
    {
        bytes memory front = abi.encodePacked(source(i), row(i, number), later, earlier);
        return abi.encodePacked(front, segmentAlone(0), first, segmentAlone(1), second);
    }

    function before_(uint256 i, uint256 number) internal view returns (bytes memory) {
        return abi.encodePacked(uint8(1), uint64(number), rowAlone(i, number));
    }

    function after_(uint256 i, uint256 number) internal view returns (bytes memory) {
        return abi.encodePacked(uint8(2), uint64(number), rowAlone(i, number));
    }

    function between(uint256 i, uint256 number) internal view returns (bytes memory) {
        return abi.encodePacked(uint8(3), uint64(number), rowAlone(i, number), rowAlone(i, number + 1));
    }

    function counts(uint256 i) internal view returns (bytes memory) {
        bytes memory head = IndexTrees.head(made[i].texts, made[i].text.length);
        head = abi.encodePacked(head, IndexTrees.head(made[i].array, IndexTrees.sizes(made[i].array)));
        return abi.encodePacked(source(i), head, IndexTrees.head(made[i].rows, IndexTrees.sizes(made[i].rows)));
    }

    /// @dev What shows whether text goes on behind row `number`.
    function behind(uint256 i, uint256 number) internal view returns (bytes memory) {
        bytes memory row_ = made[i].rows[number];
        uint256 end = uint40(bytes5(IndexTrees.cut(row_, 32, 37))) + uint256(uint32(bytes4(IndexTrees.cut(row_, 37, 41))));
        return abi.encodePacked(rowPair(i, number), text(i, end));
    }

    /// @dev What shows the size of a Datanet's first leaf (0), of its first segment's (1), or of row `number` of that (2).
    function formOf(uint8 above, uint256 number) internal view returns (bytes memory) {
        bytes[] memory leaves = datanetLeaves();
        if (above == 0) return abi.encodePacked(above, uint8(0), IndexTrees.blobAt(leaves, 52 * leaves.length, 0));
        leaves = segmentLeaves(0);
        bytes memory first = IndexTrees.blobAt(leaves, 120 * leaves.length, 0);
        if (above == 1) return abi.encodePacked(above, datanet(0), uint64(0), first);
        return abi.encodePacked(above, source(0), uint64(number), IndexTrees.blobAt(made[0].rows, IndexTrees.sizes(made[0].rows), number));
    }

    /// @dev What shows how many segments a Datanet has.
    function hollow(uint256 number) internal view returns (bytes memory) {
        return abi.encodePacked(datanet(number), segmentsHead(number));
    }
}
