// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {WordRanges} from "../src/WordRanges.sol";
import {Words} from "../src/Words.sol";
import {Vm} from "./Vm.sol";

/// @notice Words against the vectors that an independent script wrote, against a plain walk through the table, and at the edges of its ranges.
contract WordsTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    address private table;

    error Unequal(string what, uint256 expected, uint256 got);

    function setUp() public {
        table = address(new WordRanges());
    }

    function test_words_of_every_script_are_those_of_the_vectors() public view {
        string memory json = vm.readFile("../../tests/fixtures/vectors.json");
        for (uint256 i = 0; vm.keyExistsJson(json, row(".text.words", i)); ++i) {
            bytes memory text = vm.parseJsonBytes(json, string.concat(row(".text.words", i), ".bytes"));
            string memory rows = string.concat(row(".text.words", i), ".words");
            uint256[2][] memory found = this.wordsOf(text);
            for (uint256 j = 0; j < found.length; ++j) {
                uint256[] memory word = vm.parseJsonUintArray(json, row(rows, j));
                eq(row(rows, j), word[0], found[j][0]);
                eq(row(rows, j), word[1], found[j][1]);
            }
            eq(rows, 0, vm.keyExistsJson(json, row(rows, found.length)) ? 1 : 0);
        }
    }

    function test_ranges_begin_and_end_where_unicode_says() public view {
        eq("before the digits", Words.NONE, class(0x2f));
        eq("0", Words.JOINS, class(0x30));
        eq("9", Words.JOINS, class(0x39));
        eq("after the digits", Words.NONE, class(0x3a));
        eq("before the capitals", Words.NONE, class(0x40));
        eq("A", Words.JOINS, class(0x41));
        eq("Z", Words.JOINS, class(0x5a));
        eq("after the capitals", Words.NONE, class(0x5b));
        eq("before the small letters", Words.NONE, class(0x60));
        eq("z", Words.JOINS, class(0x7a));
        eq("after the small letters", Words.NONE, class(0x7b));
        eq("none below the feminine ordinal", Words.NONE, class(0xa9));
        eq("feminine ordinal", Words.JOINS, class(0xaa));
        eq("none after it", Words.NONE, class(0xab));
        eq("the first combining mark", Words.JOINS, class(0x300));
        eq("none before Thai", Words.NONE, class(0xe00));
        eq("the first of Thai", Words.SINGLE, class(0xe01));
        eq("the last of its range", Words.SINGLE, class(0xe3a));
        eq("the sign of the baht", Words.NONE, class(0xe3f));
        eq("Hangul", Words.JOINS, class(0xac00));
        eq("the first of Han", Words.SINGLE, class(0x4e00));
        eq("the last of Han there", Words.SINGLE, class(0x9fff));
        eq("Yi, which joins, right behind it", Words.JOINS, class(0xa000));
        eq("the last of extension H", Words.SINGLE, class(0x323af));
        eq("none behind it", Words.NONE, class(0x323b0));
        eq("the last variation selector", Words.JOINS, class(0xe01ef));
        eq("none behind it", Words.NONE, class(0xe01f0));
        eq("the last code point", Words.NONE, class(0x10ffff));
        eq("no code point", Words.NONE, class(0x110000));
    }

    function test_both_sides_of_every_edge_are_what_a_plain_walk_finds() public view {
        bytes memory code = table.code;
        Words.Table memory words = Words.Table(table, "");
        for (uint256 i = 1; i < code.length; i += 3) {
            uint256 edge = rowAt(code, i) >> 3;
            eq("at an edge", rowAt(code, i) & 7, Words.classOf(words, edge));
            eq("before an edge", i == 1 ? 0 : rowAt(code, i - 3) & 7, Words.classOf(words, edge - 1));
        }
    }

    function test_the_ascii_that_is_decided_inline_is_that_of_the_table() public view {
        bytes memory code = table.code;
        for (uint256 character = 0; character < 0x80; ++character) eq("ASCII", walked(code, character), class(character));
    }

    function testFuzz_a_class_is_what_a_plain_walk_finds(uint256 character) public view {
        character %= 0x110000;
        eq("class", walked(table.code, character), class(character));
    }

    function test_words_begin_and_end_between_the_right_characters() public view {
        yes("at the beginning", begins(0, 0x61));
        yes("after a space", begins(0x20, 0x61));
        yes("not inside", !begins(0x62, 0x61));
        yes("not before a space", !begins(0x61, 0x20));
        yes("after a single", begins(0x4e00, 0x61));
        yes("a single after a letter", begins(0x61, 0x4e00));
        yes("a single after a single", begins(0x4e00, 0x4e01));
        yes("a mark after a single", begins(0x4e00, 0x301));
        yes("at the end", ends(0x61, 0));
        yes("before a full stop", ends(0x61, 0x2e));
        yes("before a single", ends(0x61, 0x4e00));
        yes("a single before a letter", ends(0x4e00, 0x61));
        yes("not inside", !ends(0x61, 0x62));
        yes("not after a space", !ends(0x20, 0));
    }

    function test_bytes_that_are_no_utf8_are_no_character() public view {
        none(hex"80");
        none(hex"c0af");
        none(hex"c1bf");
        none(hex"e282");
        none(hex"e08080");
        none(hex"eda080");
        none(hex"f0808080");
        none(hex"f4908080");
        none(hex"f5808080");
        none(hex"ff");
        none(hex"e2c2a0");
        none("");
        (uint256 code, uint256 size) = this.characterAt(hex"f48fbfbf", 0);
        eq("the last", 0x10ffff, code);
        eq("its bytes", 4, size);
    }

    function test_the_character_before_a_place_is_found_or_is_none() public view {
        bytes memory text = unicode"aé漢𠀀b";
        eq("b", 0x62, this.characterBefore(text, 11));
        eq("of four bytes", 0x20000, this.characterBefore(text, 10));
        eq("of three", 0x6f22, this.characterBefore(text, 6));
        eq("of two", 0xe9, this.characterBefore(text, 3));
        eq("of one", 0x61, this.characterBefore(text, 1));
        eq("the beginning", 0, this.characterBefore(text, 0));
        eq("inside a character", 0, this.characterBefore(text, 5));
        eq("continuation bytes alone", 0, this.characterBefore(hex"8080808080", 5));
        yes("nothing of it is there", this.isCutBefore("a", 0));
        yes("its last three bytes are", this.isCutBefore(hex"80808061", 3));
        yes("its first byte is", !this.isCutBefore(hex"c3a961", 2));
        yes("an ASCII character is whole", !this.isCutBefore("ab", 1));
        yes("no character has more", !this.isCutBefore(hex"8080808061", 4));
    }

    function test_another_table_is_refused_by_name() public {
        vm.expectPartialRevert(Words.NotWordRanges.selector);
        this.requireTable(address(this));
        vm.expectPartialRevert(Words.NotWordRanges.selector);
        this.requireTable(address(0x1234));
        this.requireTable(table);
    }

    // ------------------------------------------------------------------ the library, over calldata

    function wordsOf(bytes calldata text) external view returns (uint256[2][] memory found) {
        Words.Table memory words = Words.Table(table, "");
        found = new uint256[2][](text.length);
        uint256 count = 0;
        uint256 size;
        uint256 code;
        for (uint256 i = 0; i < text.length; i += size) {
            (code, size) = Words.characterAt(text, i);
            (uint256 next,) = Words.characterAt(text, i + size);
            if (Words.begins(words, Words.characterBefore(text, i), code)) found[count][0] = i;
            if (Words.ends(words, code, next)) {
                found[count][1] = i + size - found[count][0];
                ++count;
            }
        }
        assembly ("memory-safe") {
            mstore(found, count)
        }
    }

    function characterAt(bytes calldata text, uint256 place) external pure returns (uint256, uint256) {
        return Words.characterAt(text, place);
    }

    function characterBefore(bytes calldata text, uint256 place) external pure returns (uint256) {
        return Words.characterBefore(text, place);
    }

    function isCutBefore(bytes calldata text, uint256 place) external pure returns (bool) {
        return Words.isCutBefore(text, place);
    }

    function requireTable(address given) external view {
        Words.requireTable(given);
    }

    function class(uint256 code) private view returns (uint256) {
        return Words.classOf(Words.Table(table, ""), code);
    }

    function begins(uint256 before, uint256 first) private view returns (bool) {
        return Words.begins(Words.Table(table, ""), before, first);
    }

    function ends(uint256 last, uint256 next) private view returns (bool) {
        return Words.ends(Words.Table(table, ""), last, next);
    }

    function none(bytes memory text) private view {
        (uint256 code, uint256 size) = this.characterAt(text, 0);
        eq("code", 0, code);
        eq("size", 0, size);
    }

    /// @dev The plain way: every row from the first.
    function walked(bytes memory code, uint256 character) private pure returns (uint256 found) {
        for (uint256 i = 1; i < code.length && rowAt(code, i) >> 3 <= character; i += 3) found = rowAt(code, i) & 7;
    }

    function rowAt(bytes memory code, uint256 i) private pure returns (uint256) {
        return uint256(uint8(code[i])) << 16 | uint256(uint8(code[i + 1])) << 8 | uint8(code[i + 2]);
    }

    function row(string memory list, uint256 i) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(i), "]");
    }

    function eq(string memory what, uint256 expected, uint256 got) private pure {
        if (expected != got) revert Unequal(what, expected, got);
    }

    function yes(string memory what, bool holds) private pure {
        if (!holds) revert Unequal(what, 1, 0);
    }
}
