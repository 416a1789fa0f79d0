// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Matches} from "../src/Matches.sol";
import {Openings} from "../src/Openings.sol";
import {Trees} from "../src/Trees.sol";
import {WordRanges} from "../src/WordRanges.sol";
import {ProbeSpans} from "../src/dev/ProbeSpans.sol";
import {IndexTrees} from "./IndexTrees.sol";
import {Pack} from "./Pack.sol";
import {Vm} from "./Vm.sol";

/// @notice Where a text occurs and how much of it does, against plain searches; and what both cost in an index of 10^9 tokens.
contract MatchesTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// @dev Two segments, as long as segments are, of 2^25 text leaves are 4 GiB; entries as English prose has them, one for 5.5 bytes.
    uint64 private constant TEXT_LEAVES = 1 << 25;
    uint64 private constant ENTRIES = 390_451_572;

    ProbeSpans private probe;
    IndexTrees.Segment private made;

    error Unequal(string what, uint256 expected, uint256 got);

    function setUp() public {
        probe = new ProbeSpans(address(new WordRanges()));
        bytes[] memory texts = new bytes[](3);
        texts[0] = bytes("the quick brown fox jumps over the lazy dog\x00and the quick brown cat sleeps near the old dog house by the river\x00");
        // Ends with its stride, so that the next one's text follows without fill.
        texts[1] = bytes("a quick brown fox, once more, jumps over what 12 dogs dug today\x00");
        texts[2] = bytes("the quick brown fox jumps over the lazy dog\x00");
        made = IndexTrees.segment(texts, heads(3), 0);
    }

    // ------------------------------------------------------------------ occurs

    function test_a_text_occurs_where_it_stands_at_a_word_start() public view {
        yes("the first word", occurs(0, "the quick brown"));
        yes("a later word", occurs(4, "quick brown fox jumps over"));
        yes("in a second leaf", occurs(64, bytes(cut(64, 20))));
        yes("the last word of a document", occurs(40, "dog"));
        yes("the first word of a contribution behind a full stride", occurs(192, "the quick"));
        yes("a part of a word at its end", occurs(4, "qui"));
    }

    function test_a_text_that_stands_elsewhere_inside_a_word_or_across_an_end_does_not_occur() public view {
        yes("another text", !occurs(0, "the quick brown cat"));
        yes("inside a word", !occurs(5, "uick brown"));
        yes("at a space", !occurs(3, " quick"));
        yes("beyond the document", !occurs(40, "dog and"));
        yes("beyond the text", !occurs(232, "dog and more"));
        yes("at a zero byte", !occurs(43, hex"00"));
    }

    function testFuzz_occurs_at_each_place_as_a_plain_search_says(uint256 position, uint256 length) public view {
        bytes memory text = made.text;
        position %= text.length;
        length = 1 + length % 40;
        bytes memory pattern = IndexTrees.cut(text, position, position + length);
        bool isEntry = false;
        for (uint256 i = 0; i < made.entries.length; ++i) if (made.entries[i] == position) isEntry = true;
        // A window that holds the end of its contribution stands in no leaf.
        bool isWhole = position % 64 + pattern.length <= made.texts[position / 64].length;
        yes("as searched", occurs(position, pattern) == (isEntry && isWhole));
    }

    function test_a_word_after_characters_of_many_bytes_at_a_strides_beginning_needs_the_leaf_before() public {
        bytes memory lead = new bytes(62);
        for (uint256 i = 0; i < 62; ++i) lead[i] = "x";
        // A letter of three bytes of which one stands in the second stride: what follows it goes on in its word.
        rebuilt(bytes.concat(lead, hex"e18080", "abc def\x00"));
        yes("a single before it", occurs(65, "abc"));
        rebuilt(bytes.concat(lead, hex"eab080", "abc def\x00"));
        yes("a syllable of the same word before it", !occurs(65, "abc"));
        yes("the next word", occurs(69, "def"));
        rebuilt(bytes.concat(lead, hex"e28094", "abc def\x00"));
        yes("a dash before it", occurs(65, "abc"));
        rebuilt(bytes.concat(lead, "zzabc def\x00"));
        yes("a letter before it, one stride earlier", !occurs(64, "abc"));
    }

    function test_evidence_of_another_leaf_root_or_length_is_refused_by_name() public {
        bytes memory evidence = source(4);
        (bytes32 root,) = index();
        wrong(root, 4, patched(evidence, 52 + 16 + 7), Matches.WrongRoot.selector);
        wrong(keccak256("another"), 4, evidence, Matches.WrongRoot.selector);
        wrong(root, 4, patched(evidence, evidence.length - 1), Matches.WrongRoot.selector);
        wrong(root, 4, abi.encodePacked(evidence, hex"00"), Openings.TrailingBytes.selector);
        wrong(root, 4, IndexTrees.cut(evidence, 0, evidence.length - 1), Openings.Truncated.selector);
        wrong(root, 100_000, evidence, Matches.OutsideSegment.selector);
        (bool done, bytes memory reason) =
            address(probe).staticcall(abi.encodeCall(ProbeSpans.occurs, (root, 1, 4, bytes("quick"), evidence)));
        yes("no such Datanet", !done && bytes4(reason) == Trees.IndexBeyondLeaves.selector);
    }

    function testFuzz_no_changed_byte_of_the_evidence_is_accepted(uint256 place) public view {
        bytes memory evidence = source(4);
        (bytes32 root,) = index();
        place %= evidence.length;
        (bool done, bytes memory answer) =
            address(probe).staticcall(abi.encodeCall(ProbeSpans.occurs, (root, 0, 4, bytes("quick"), patched(evidence, place))));
        yes("refused", !done || !abi.decode(answer, (bool)));
    }

    // ------------------------------------------------------------------ longest

    function test_the_longest_match_is_what_a_plain_search_finds() public view {
        checked("the quick brown fox jumps over the lazy cat");
        checked("the quick brown cow");
        checked("zebra");
        checked("0");
        checked("a");
        checked("a quick brown fox, once more, jumps over what 12 dogs dug today and then");
        checked("near the old dog house");
        checked("quick");
        checked("\x01");
    }

    function testFuzz_the_longest_match_of_any_text_is_what_a_plain_search_finds(uint256 place, uint256 length, uint256 change) public view {
        bytes memory text = made.text;
        place %= text.length;
        bytes memory pattern = IndexTrees.cut(text, place, place + 1 + length % 60);
        for (uint256 i = 0; i < pattern.length; ++i) if (pattern[i] == 0) pattern[i] = "\n";
        if (change % 3 != 0) pattern[(change >> 8) % pattern.length] = bytes1(uint8(32 + (change >> 16) % 90));
        checked(pattern);
    }

    function test_neighbours_that_do_not_hold_the_text_between_them_are_refused_by_name() public view {
        bytes memory pattern = "the quick brown cow";
        uint64 rank = rankOf(pattern);
        (bytes32 root,) = index();
        refusedLongest(root, pattern, neighbours(rank - 1), Matches.NotBetween.selector);
        refusedLongest(root, pattern, neighbours(rank + 1), Matches.NotBetween.selector);
        refusedLongest(root, pattern, neighbours(0), Matches.NotBetween.selector);
        refusedLongest(root, pattern, neighbours(uint64(made.entries.length)), Matches.NotBetween.selector);
        refusedLongest(root, "", neighbours(rank), Matches.PatternLength.selector);
        refusedLongest(root, new bytes(257), neighbours(rank), Matches.PatternLength.selector);
        bytes memory beyond = abi.encodePacked(above(), uint64(made.entries.length + 1));
        refusedLongest(root, pattern, beyond, Matches.RankBeyondArray.selector);
    }

    function test_a_segment_without_words_matches_nothing() public {
        rebuilt("--- ---\x00");
        (bytes32 root, bytes memory path) = index();
        eq("nothing", 0, probe.longest(root, "the", abi.encodePacked(uint8(0), path)));
    }

    function test_a_window_ends_with_its_document_and_after_256_bytes() public {
        bytes memory long = new bytes(400);
        for (uint256 i = 0; i < 400; ++i) long[i] = "x";
        rebuilt(bytes.concat("ab", hex"00", "ab cd", hex"00", long, hex"00"));
        checked("ab cd");
        checked("ab ce");
        checked(IndexTrees.cut(long, 0, 256));
    }

    // ------------------------------------------------------------------ gas

    function test_gas_of_occurs_in_ten_to_the_nine_tokens() public {
        bytes memory pattern = bytes("hereditary hemorrhagic telangiectasia of the lower lip");
        (bytes32 root, bytes memory evidence) = deepSource(pattern);
        bytes memory call = abi.encodeCall(ProbeSpans.occurs, (root, 0, uint40((uint256(TEXT_LEAVES) + 20_654_321) * 64 + 5), pattern, evidence));
        eq("it occurs", 1, asked(call));
        uint256 gas = vm.snapshotGasLastCall("gas", "occurs at depth 26");
        yes("gas of occurs", gas <= 82_000);
    }

    function test_gas_of_the_longest_match_in_ten_to_the_nine_tokens() public {
        bytes memory pattern = bytes("hereditary hemorrhagic telangiectasia of the lower lip");
        (bytes32 root, bytes memory evidence) = deepNeighbours();
        eq("longest", 26, asked(abi.encodeCall(ProbeSpans.longest, (root, pattern, abi.encodePacked(uint8(0), evidence)))));
        uint256 gas = vm.snapshotGasLastCall("gas", "longest at depth 26");
        yes("gas of longest", gas <= 160_000);
    }

    /// @dev As a transaction of its own, whose price holds its calldata.
    function asked(bytes memory call) private returns (uint256) {
        (bool done, bytes memory answer) = address(probe).call(call);
        yes("answered", done);
        return abi.decode(answer, (uint256));
    }

    /// @dev Full leaves of text without a zero byte, in one of two segments of one Datanet.
    function deepSource(bytes memory pattern) private pure returns (bytes32 root, bytes memory evidence) {
        bytes memory leaf = noise("text", 320);
        leaf[4] = " ";
        for (uint256 i = 0; i < pattern.length; ++i) leaf[5 + i] = pattern[i];
        (root, evidence) = IndexTrees.deep(leaf, TEXT_LEAVES, uint64(TEXT_LEAVES) * 64, 20_654_321);
        evidence = abi.encodePacked(Pack.blob(leaf), evidence);
        bytes memory above_;
        (root, above_) = under(abi.encodePacked(root, keccak256("rows"), keccak256("array"), uint64(TEXT_LEAVES) * 64, uint64(TEXT_LEAVES) * 64, ENTRIES));
        evidence = abi.encodePacked(above_, evidence);
    }

    /// @dev Both windows begin with as many bytes of the pattern as they can; their leaves are siblings far away from each other in the same tree.
    function deepNeighbours() private pure returns (bytes32 root, bytes memory evidence) {
        bytes memory before = noise("before", 320);
        bytes memory next = noise("next", 320);
        bytes memory shared = bytes("hereditary hemorrhagic tel");
        for (uint256 i = 0; i < shared.length; ++i) (before[9 + i], next[33 + i]) = (shared[i], shared[i]);
        (before[9 + shared.length], next[33 + shared.length]) = ("!", "z");
        bytes memory openA;
        bytes memory openB;
        (root, openA, openB) = two(before, 1_234_567, next, 30_000_001);
        (root, evidence) = deepArray(root, 64 * 1_234_567 + 9, 64 * 30_000_001 + 33);
        evidence = abi.encodePacked(evidence, Pack.blob(before), openA, Pack.blob(next), openB);
    }

    /// @dev The way down to an array leaf that holds two neighbours.
    function deepArray(bytes32 textRoot, uint256 a, uint256 b) private pure returns (bytes32 root, bytes memory evidence) {
        uint64 rank = 250_000_003;
        bytes memory array = noise("array", 80);
        uint256 k = (rank - 1) % 15;
        for (uint256 i = 0; i < 5; ++i) {
            array[5 * k + i] = bytes5(uint40(a))[i];
            array[5 * k + 5 + i] = bytes5(uint40(b))[i];
        }
        bytes memory opening;
        (root, opening) = IndexTrees.deep(array, (ENTRIES + 13) / 15, 5 * ENTRIES, (rank - 1) / 15);
        opening = abi.encodePacked(rank, Pack.blob(array), opening);
        (root, evidence) = under(abi.encodePacked(textRoot, keccak256("rows"), root, uint64(TEXT_LEAVES) * 64, uint64(TEXT_LEAVES) * 64, ENTRIES));
        evidence = abi.encodePacked(evidence, opening);
    }

    /// @dev Two leaves of one tree that meet at its top: `a` in its left half, `b` in its right.
    function two(bytes memory left, uint256 a, bytes memory right, uint256 b)
        private
        pure
        returns (bytes32 root, bytes memory openA, bytes memory openB)
    {
        bytes32 x = keccak256(abi.encodePacked(hex"00", left));
        bytes32 y = keccak256(abi.encodePacked(hex"00", right));
        openA = abi.encodePacked(TEXT_LEAVES, uint64(TEXT_LEAVES) * 64);
        openB = openA;
        for (uint256 level = 0; level < 24; ++level) {
            bytes32 sibling = keccak256(abi.encode("level", level));
            openA = abi.encodePacked(openA, sibling);
            openB = abi.encodePacked(openB, sibling);
            x = (a >> level) & 1 == 0 ? Trees.node(x, sibling) : Trees.node(sibling, x);
            y = (b >> level) & 1 == 0 ? Trees.node(y, sibling) : Trees.node(sibling, y);
        }
        root = Trees.root(TEXT_LEAVES, uint64(TEXT_LEAVES) * 64, Trees.node(x, y));
        openA = abi.encodePacked(openA, y);
        openB = abi.encodePacked(openB, x);
    }

    /// @dev The index root over a segment's leaf, and the way down to it.
    function under(bytes memory leaf) private pure returns (bytes32 root, bytes memory path) {
        bytes memory opening;
        (root, opening) = IndexTrees.deep(leaf, 2, 240, 1);
        path = abi.encodePacked(leaf, uint64(1), opening);
        leaf = abi.encodePacked(uint64(3), uint32(1), uint64(1 << 34), root);
        (root, opening) = IndexTrees.deep(leaf, 1, 52, 0);
        path = abi.encodePacked(leaf, opening, path);
    }

    // ------------------------------------------------------------------ helpers

    function rebuilt(bytes memory text) private {
        bytes[] memory texts = new bytes[](1);
        texts[0] = text;
        made = IndexTrees.segment(texts, heads(1), 0);
    }

    function heads(uint256 count) private pure returns (bytes[] memory rows) {
        rows = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) rows[i] = abi.encodePacked(address(uint160(i + 1)), uint64(i), uint32(0), uint32(0), uint64(i));
    }

    /// @dev Index root, and the way down to the one segment.
    function index() private view returns (bytes32 root, bytes memory path) {
        bytes[] memory leaves = new bytes[](1);
        leaves[0] = made.leaf;
        path = abi.encodePacked(made.leaf, uint64(0), IndexTrees.open(leaves, 120, 0));
        leaves[0] = abi.encodePacked(uint64(3), uint32(1), uint64(made.text.length), IndexTrees.rootOf(leaves, 120));
        path = abi.encodePacked(leaves[0], IndexTrees.open(leaves, 52, 0), path);
        root = IndexTrees.rootOf(leaves, 52);
    }

    function above() private view returns (bytes memory path) {
        (, path) = index();
    }

    function textLeaf(uint256 offset) private view returns (bytes memory) {
        return IndexTrees.blobAt(made.texts, made.text.length, offset / 64);
    }

    /// @dev The evidence of `occurs`; the leaf before where the first bytes of this one are the end of a character or nothing.
    function source(uint256 position) private view returns (bytes memory evidence) {
        evidence = abi.encodePacked(above(), textLeaf(position));
        uint256 continued = position;
        while (continued % 64 != 0 && made.text[continued - 1] & 0xc0 == 0x80) --continued;
        if (position % 64 >= made.texts[position / 64].length) return evidence;
        if (position >= 64 && continued % 64 == 0 && position % 64 < 4) evidence = abi.encodePacked(evidence, textLeaf(position - 64));
    }

    function occurs(uint256 position, bytes memory pattern) private view returns (bool) {
        (bytes32 root,) = index();
        return probe.occurs(root, 0, uint40(position), pattern, source(position));
    }

    function wrong(bytes32 root, uint40 position, bytes memory evidence, bytes4 selector) private {
        vm.expectPartialRevert(selector);
        probe.occurs(root, 0, position, "quick", evidence);
    }

    function neighbours(uint64 rank) private view returns (bytes memory evidence) {
        uint256 number = rank == 0 ? 0 : (rank - 1) / 15;
        evidence = abi.encodePacked(above(), rank, IndexTrees.blobAt(made.array, IndexTrees.sizes(made.array), number));
        if (rank > 0) evidence = abi.encodePacked(evidence, textLeaf(made.entries[rank - 1]));
        if (rank < made.entries.length) evidence = abi.encodePacked(evidence, textLeaf(made.entries[rank]));
    }

    /// @dev The first entry whose window does not come before the pattern, one by one.
    function rankOf(bytes memory pattern) private view returns (uint64 rank) {
        while (rank < made.entries.length && isBefore(window(made.entries[rank]), pattern)) ++rank;
    }

    function checked(bytes memory pattern) private view {
        uint256 expected = 0;
        for (uint256 i = 0; i < made.entries.length; ++i) {
            bytes memory entry = window(made.entries[i]);
            uint256 shared = 0;
            while (shared < entry.length && shared < pattern.length && entry[shared] == pattern[shared]) ++shared;
            if (shared > expected) expected = shared;
        }
        (bytes32 root,) = index();
        eq(string(pattern), expected, probe.longest(root, pattern, abi.encodePacked(uint8(0), neighbours(rankOf(pattern)))));
    }

    function refusedLongest(bytes32 root, bytes memory pattern, bytes memory evidence, bytes4 selector) private view {
        (bool done, bytes memory reason) = address(probe).staticcall(abi.encodeCall(ProbeSpans.longest, (root, pattern, abi.encodePacked(uint8(0), evidence))));
        yes("refused", !done);
        eq("error", uint256(bytes32(selector)), uint256(bytes32(bytes4(reason))));
    }

    function window(uint256 place) private view returns (bytes memory out) {
        uint256 end = place;
        bytes memory text = made.text;
        while (end < place + 256 && end < text.length && text[end] != 0) ++end;
        return IndexTrees.cut(text, place, end);
    }

    function isBefore(bytes memory a, bytes memory b) private pure returns (bool) {
        for (uint256 i = 0; i < a.length && i < b.length; ++i) if (a[i] != b[i]) return a[i] < b[i];
        return a.length < b.length;
    }

    function cut(uint256 from, uint256 size) private view returns (string memory) {
        return string(IndexTrees.cut(made.text, from, from + size));
    }

    function patched(bytes memory content, uint256 place) private pure returns (bytes memory out) {
        out = bytes.concat(content);
        out[place] ^= 0x01;
    }

    function noise(string memory seed, uint256 length) private pure returns (bytes memory out) {
        out = new bytes(length);
        for (uint256 i = 0; i < length; ++i) out[i] = bytes1(uint8(1 + uint256(keccak256(abi.encode(seed, i))) % 255));
    }

    function eq(string memory what, uint256 expected, uint256 got) private pure {
        if (expected != got) revert Unequal(what, expected, got);
    }

    function yes(string memory what, bool holds) private pure {
        if (!holds) revert Unequal(what, 1, 0);
    }
}
