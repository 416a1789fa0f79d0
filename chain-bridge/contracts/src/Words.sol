// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {WORD_RANGES_HASH} from "./WordRanges.sol";

/// @title Words of a text, as Protocol P3 says
/// @notice A word is a maximal run of characters of class 1, or one of class 2. ASCII is decided here, the rest by `WordRanges`, whose 5.0 kB are
/// copied when the first other character is asked about.
library Words {
    /// @notice No character of a word.
    uint256 internal constant NONE = 0;
    /// @notice Joins its neighbours of this class in a word.
    uint256 internal constant JOINS = 1;
    /// @notice A word of its own.
    uint256 internal constant SINGLE = 2;

    /// @notice The most bytes of a character.
    uint256 internal constant CHARACTER_BYTES_MAX = 4;

    uint256 private constant ROW_BYTES = 3;
    uint256 private constant CLASS_BITS = 3;

    /// @notice Where the table stands, and its code once it was copied.
    struct Table {
        address ranges;
        bytes code;
    }

    error NotWordRanges(address ranges, bytes32 expected, bytes32 got);

    /// @notice Refuses an address whose code is not the table: another would convict the innocent.
    function requireTable(address ranges) internal view {
        if (ranges.codehash != WORD_RANGES_HASH) revert NotWordRanges(ranges, WORD_RANGES_HASH, ranges.codehash);
    }

    /// @notice Class of a code point.
    function classOf(Table memory table, uint256 code) internal view returns (uint256) {
        if (code < 0x80) {
            bool isDigit = code >= 0x30 && code <= 0x39;
            // One bit makes a small letter of a capital.
            uint256 small = code | 0x20;
            return isDigit || (small >= 0x61 && small <= 0x7a) ? JOINS : NONE;
        }
        if (table.code.length == 0) table.code = table.ranges.code;
        return search(table.code, code);
    }

    /// @notice Whether a word begins between two characters; 0 stands for no character.
    function begins(Table memory table, uint256 before, uint256 first) internal view returns (bool) {
        uint256 class = classOf(table, first);
        return class == SINGLE || (class == JOINS && classOf(table, before) != JOINS);
    }

    /// @notice Whether a word ends between two characters; 0 stands for no character.
    function ends(Table memory table, uint256 last, uint256 next) internal view returns (bool) {
        return begins(table, next, last);
    }

    /// @notice The character at byte `place` of a text and its bytes; (0, 0) at the end and where no valid UTF-8 stands.
    function characterAt(bytes calldata text, uint256 place) internal pure returns (uint256 code, uint256 size) {
        if (place >= text.length) return (0, 0);
        uint256 first = uint8(text[place]);
        if (first < 0x80) return (first, 1);
        if (first < 0xc2 || first > 0xf4) return (0, 0);
        size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
        if (place + size > text.length) return (0, 0);
        code = first & (0x7f >> size);
        for (uint256 i = 1; i < size; ++i) {
            uint256 next = uint8(text[place + i]);
            if (next & 0xc0 != 0x80) return (0, 0);
            code = code << 6 | (next & 0x3f);
        }
        bool isLonger = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
        if (isLonger || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) return (0, 0);
    }

    /// @notice The character that ends before byte `place` of a text; 0 at its beginning and where no valid UTF-8 ends.
    function characterBefore(bytes calldata text, uint256 place) internal pure returns (uint256 code) {
        uint256 most = place < CHARACTER_BYTES_MAX ? place : CHARACTER_BYTES_MAX;
        for (uint256 back = 1; back <= most; ++back) {
            if (uint8(text[place - back]) & 0xc0 == 0x80) continue;
            uint256 size;
            (code, size) = characterAt(text, place - back);
            return size == back ? code : 0;
        }
        return 0;
    }

    /// @notice Whether the character that ends before byte `place` begins before the text does: what stands there of it are continuation bytes only.
    function isCutBefore(bytes calldata text, uint256 place) internal pure returns (bool) {
        if (place >= CHARACTER_BYTES_MAX) return false;
        for (uint256 i = 0; i < place; ++i) {
            if (uint8(text[i]) & 0xc0 != 0x80) return false;
        }
        return true;
    }

    /// @dev The class of the last row at or below `code`; no row stands below the ASCII digits.
    function search(bytes memory rows, uint256 code) private pure returns (uint256 class) {
        uint256 sought = code << CLASS_BITS | ((1 << CLASS_BITS) - 1);
        uint256 low = 0;
        uint256 high = (rows.length - 1) / ROW_BYTES;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (rowAt(rows, middle) <= sought) low = middle + 1;
            else high = middle;
        }
        return low == 0 ? NONE : rowAt(rows, low - 1) & ((1 << CLASS_BITS) - 1);
    }

    /// @dev Row `index`, behind the STOP.
    function rowAt(bytes memory rows, uint256 index) private pure returns (uint256 row) {
        assembly ("memory-safe") {
            row := shr(232, mload(add(add(rows, 33), mul(index, 3))))
        }
    }
}
