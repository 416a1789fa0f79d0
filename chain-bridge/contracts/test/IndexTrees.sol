// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Trees} from "../src/Trees.sol";
import {Pack} from "./Pack.sol";

/// @notice Segments made the plain way from short ASCII contributions, and what their openings are; shares no code with `Matches`.
library IndexTrees {
    /// @notice A segment. Each contribution holds one document or more, each behind a zero byte of its own.
    struct Segment {
        bytes text;
        uint64 start;
        bytes[] texts;
        bytes[] rows;
        uint256[] entries;
        bytes[] array;
        bytes leaf;
    }

    /// @notice The segment of `contributions` that begins at `start` of its Datanet. Row i belongs to contribution i and covers its first document.
    /// @param heads Row i without its root, start and length: payee, block u64, ordinal u32, document u32, cluster u64.
    function segment(bytes[] memory contributions, bytes[] memory heads, uint64 start) internal pure returns (Segment memory s) {
        s.start = start;
        s.rows = new bytes[](contributions.length);
        for (uint256 i = 0; i < contributions.length; ++i) {
            while (s.text.length % 64 != 0) s.text = bytes.concat(s.text, hex"00");
            bytes[] memory own = textLeaves(contributions[i]);
            uint256 length = 0;
            while (contributions[i][length] != 0) ++length;
            s.rows[i] = abi.encodePacked(
                rootOf(own, contributions[i].length), uint40(s.text.length), uint32(length), heads[i]
            );
            s.texts = joined(s.texts, own);
            s.text = bytes.concat(s.text, contributions[i]);
        }
        s.entries = sorted(s.text);
        s.array = arrayLeaves(s.entries);
        seal(s);
    }

    /// @notice Writes the segment's leaf anew, after something in it was changed.
    function seal(Segment memory s) internal pure {
        s.leaf = abi.encodePacked(
            rootOf(s.texts, s.text.length),
            rootOf(s.rows, sizes(s.rows)),
            rootOf(s.array, sizes(s.array)),
            s.start,
            uint64(s.text.length),
            uint64(s.entries.length)
        );
    }

    /// @notice Entries by the order of Protocol P5, by plain insertion.
    function sorted(bytes memory text) internal pure returns (uint256[] memory entries) {
        entries = new uint256[](text.length);
        uint256 count = 0;
        for (uint256 i = 0; i < text.length; ++i) {
            if (!isLetter(text[i]) || (i > 0 && isLetter(text[i - 1]))) continue;
            uint256 j = count++;
            for (; j > 0 && isAfter(text, entries[j - 1], i); --j) entries[j] = entries[j - 1];
            entries[j] = i;
        }
        assembly ("memory-safe") {
            mstore(entries, count)
        }
    }

    /// @dev Whether the window at `a` comes after that at `b`, a being the smaller place.
    function isAfter(bytes memory text, uint256 a, uint256 b) private pure returns (bool) {
        for (uint256 i = 0; i < 256; ++i) {
            uint8 x = a + i < text.length ? uint8(text[a + i]) : 0;
            uint8 y = b + i < text.length ? uint8(text[b + i]) : 0;
            if (x != y) return x > y;
            if (x == 0) return false;
        }
        return false;
    }

    function isLetter(bytes1 character) private pure returns (bool) {
        return (character >= "a" && character <= "z") || (character >= "A" && character <= "Z") || (character >= "0" && character <= "9");
    }

    function arrayLeaves(uint256[] memory entries) internal pure returns (bytes[] memory leaves) {
        leaves = new bytes[]((entries.length + 14) / 15);
        for (uint256 i = 0; i < leaves.length; ++i) {
            for (uint256 j = 15 * i; j < 15 * i + 16 && j < entries.length; ++j) {
                leaves[i] = abi.encodePacked(leaves[i], uint40(entries[j]));
            }
        }
    }

    function textLeaves(bytes memory source) internal pure returns (bytes[] memory leaves) {
        leaves = new bytes[]((source.length + 63) / 64);
        for (uint256 i = 0; i < leaves.length; ++i) leaves[i] = cut(source, 64 * i, 64 * i + 320);
    }

    /// @notice Leaves of an answer, a row for each of its ASCII words, each of the same weight.
    function answerLeaves(bytes memory answer, uint32 weight) internal pure returns (bytes[] memory leaves) {
        leaves = textLeaves(answer);
        uint64 running = 0;
        for (uint256 i = 0; i < leaves.length; ++i) {
            bytes memory rows;
            uint8 count = 0;
            for (uint256 j = 64 * i; j < 64 * i + 64 && j < answer.length; ++j) {
                if (!isLetter(answer[j]) || (j > 0 && isLetter(answer[j - 1]))) continue;
                uint256 end = j;
                while (end < answer.length && isLetter(answer[end])) ++end;
                rows = abi.encodePacked(rows, uint8(j - 64 * i), uint16(end - j), weight);
                ++count;
            }
            leaves[i] = abi.encodePacked(keccak256(abi.encode("salt", i)), running, count, rows, leaves[i]);
            running += uint64(count) * weight;
        }
    }

    // ------------------------------------------------------------------ openings

    /// @notice Blob of leaf `index` and its opening.
    function blobAt(bytes[] memory leaves, uint256 length, uint256 index) internal pure returns (bytes memory) {
        return abi.encodePacked(Pack.blob(leaves[index]), open(leaves, length, index));
    }

    /// @notice Leaf count, length, siblings.
    function open(bytes[] memory leaves, uint256 length, uint256 index) internal pure returns (bytes memory packed) {
        packed = abi.encodePacked(uint64(leaves.length), uint64(length));
        bytes32[] memory level = digests(leaves);
        for (uint256 width = level.length; width > 1; width /= 2) {
            packed = abi.encodePacked(packed, level[index ^ 1]);
            for (uint256 i = 0; i < width / 2; ++i) level[i] = Trees.node(level[2 * i], level[2 * i + 1]);
            index /= 2;
        }
    }

    function rootOf(bytes[] memory leaves, uint256 length) internal pure returns (bytes32) {
        return Trees.root(uint64(leaves.length), uint64(length), topOf(leaves));
    }

    /// @notice Top of the tree over `leaves`; zero of none.
    function topOf(bytes[] memory leaves) internal pure returns (bytes32) {
        if (leaves.length == 0) return 0;
        bytes32[] memory level = digests(leaves);
        for (uint256 width = level.length; width > 1; width /= 2) {
            for (uint256 i = 0; i < width / 2; ++i) level[i] = Trees.node(level[2 * i], level[2 * i + 1]);
        }
        return level[0];
    }

    /// @notice Leaf count, length, top.
    function head(bytes[] memory leaves, uint256 length) internal pure returns (bytes memory) {
        return abi.encodePacked(uint64(leaves.length), uint64(length), topOf(leaves));
    }

    function sizes(bytes[] memory leaves) internal pure returns (uint256 sum) {
        for (uint256 i = 0; i < leaves.length; ++i) sum += leaves[i].length;
    }

    /// @notice A tree of `count` leaves that nobody built: its siblings are arbitrary.
    function deep(bytes memory leaf, uint64 count, uint64 length, uint256 index) internal pure returns (bytes32 root, bytes memory opening) {
        opening = abi.encodePacked(count, length);
        bytes32 digest = keccak256(abi.encodePacked(hex"00", leaf));
        for (uint256 level = 0; (uint256(1) << level) < count; ++level) {
            bytes32 sibling = keccak256(abi.encode(leaf.length, level));
            opening = abi.encodePacked(opening, sibling);
            digest = (index >> level) & 1 == 0 ? Trees.node(digest, sibling) : Trees.node(sibling, digest);
        }
        root = Trees.root(count, length, digest);
    }

    function digests(bytes[] memory leaves) private pure returns (bytes32[] memory level) {
        uint256 width = 1;
        while (width < leaves.length) width *= 2;
        level = new bytes32[](width);
        for (uint256 i = 0; i < leaves.length; ++i) level[i] = keccak256(abi.encodePacked(hex"00", leaves[i]));
    }

    function joined(bytes[] memory a, bytes[] memory b) internal pure returns (bytes[] memory all) {
        all = new bytes[](a.length + b.length);
        for (uint256 i = 0; i < all.length; ++i) all[i] = i < a.length ? a[i] : b[i - a.length];
    }

    function cut(bytes memory source, uint256 from, uint256 to) internal pure returns (bytes memory out) {
        if (to > source.length) to = source.length;
        out = new bytes(to - from);
        for (uint256 i = 0; i < out.length; ++i) out[i] = source[from + i];
    }
}
