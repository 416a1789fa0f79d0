// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Trees} from "./Trees.sol";

/// @title Openings, packed as fault proofs carry them (Protocol P7)
/// @notice A proof's evidence is one byte string, read from front to back: integers big-endian, nothing padded, nothing left over. Calldata is
/// most of a proof's price, so that whatever follows from elsewhere (an index from a span, a depth from a count) is not repeated in it.
library Openings {
    /// @notice Where the next byte is read, and where the evidence ends; both are places in calldata.
    struct Reader {
        uint256 next;
        uint256 end;
    }

    /// @notice What an opening leads to.
    struct Opened {
        bytes32 root;
        uint64 count;
        uint64 length;
    }

    /// @notice What an opening of a sum tree leads to. `fill` says whether every place beyond the leaves, as far as this opening shows
    /// them, holds what it must: nothing.
    struct Summed {
        bytes32 root;
        uint64 count;
        uint64 index;
        uint128 total;
        bool fill;
    }

    error Truncated(uint256 asked, uint256 left);
    error TrailingBytes(uint256 left);

    /// @notice A reader of `evidence`.
    function over(bytes calldata evidence) internal pure returns (Reader memory reader) {
        uint256 start;
        assembly ("memory-safe") {
            start := evidence.offset
        }
        reader.next = start;
        reader.end = start + evidence.length;
    }

    /// @notice The next `size` bytes.
    function cut(Reader memory reader, uint256 size) internal pure returns (bytes calldata out) {
        uint256 start = reader.next;
        if (reader.end - start < size) revert Truncated(size, reader.end - start);
        reader.next = start + size;
        assembly ("memory-safe") {
            out.offset := start
            out.length := size
        }
    }

    /// @notice The next 32 bytes.
    function word(Reader memory reader) internal pure returns (bytes32) {
        return bytes32(cut(reader, 32));
    }

    /// @notice The next u64.
    function u64(Reader memory reader) internal pure returns (uint64) {
        return uint64(bytes8(cut(reader, 8)));
    }

    /// @notice The next u128.
    function u128(Reader memory reader) internal pure returns (uint128) {
        return uint128(bytes16(cut(reader, 16)));
    }

    /// @notice The next u8.
    function u8(Reader memory reader) internal pure returns (uint8) {
        return uint8(bytes1(cut(reader, 1)));
    }

    /// @notice The next u32.
    function u32(Reader memory reader) internal pure returns (uint32) {
        return uint32(bytes4(cut(reader, 4)));
    }

    /// @notice Bytes whose length u32 stands before them.
    function blob(Reader memory reader) internal pure returns (bytes calldata) {
        return cut(reader, u32(reader));
    }

    /// @notice Bytes that are left.
    function left(Reader memory reader) internal pure returns (uint256) {
        return reader.end - reader.next;
    }

    /// @notice Refuses bytes after the end.
    function finish(Reader memory reader) internal pure {
        if (reader.next != reader.end) revert TrailingBytes(reader.end - reader.next);
    }

    /// @notice Where `leaf` at `index` leads. Reads leaf count u64, byte length u64, siblings from the leaf upwards.
    function rootOf(Reader memory reader, bytes calldata leaf, uint256 index) internal pure returns (Opened memory) {
        return climb(reader, leafOf(leaf), index);
    }

    /// @notice The head of a root. Reads leaf count u64, byte length u64, top.
    function head(Reader memory reader) internal pure returns (Opened memory opened) {
        opened.count = u64(reader);
        opened.length = u64(reader);
        opened.root = Trees.root(opened.count, opened.length, word(reader));
    }

    /// @notice Where `leaf` that holds `amount` leads in a sum tree. Reads leaf count u64, index u64, siblings (digest, sum u128).
    function sumRootOf(Reader memory reader, bytes calldata leaf, uint128 amount) internal pure returns (Summed memory opened) {
        uint64 count = u64(reader);
        return sumClimb(reader, leafOf(leaf), amount, u64(reader), count);
    }

    /// @notice Where a leaf of 32 bytes that holds `amount` leads at `index` of a sum tree of `count` leaves. Reads siblings (digest, sum u128).
    function sumRootOfWord(Reader memory reader, bytes32 leaf, uint128 amount, uint64 index, uint64 count)
        internal
        pure
        returns (Summed memory)
    {
        return sumClimb(reader, keccak256(abi.encodePacked(bytes1(0x00), leaf)), amount, index, count);
    }

    /// @notice The head of a sum tree's root. Reads leaf count u64, total u128, top.
    function sumHead(Reader memory reader) internal pure returns (Summed memory opened) {
        opened.count = u64(reader);
        opened.total = u128(reader);
        bytes32 top = word(reader);
        opened.root = Trees.sumRoot(opened.count, opened.total, top);
        opened.fill = opened.count != 0 || (opened.total == 0 && top == 0);
    }

    /// @notice Levels between a leaf and the top of a tree of `count` leaves.
    function depth(uint64 count) internal pure returns (uint256) {
        return count <= 1 ? 0 : Math.log2(count - 1) + 1;
    }

    /// @notice Digest of a leaf.
    function leafOf(bytes calldata content) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let at := mload(0x40)
            mstore8(at, 0)
            calldatacopy(add(at, 1), content.offset, content.length)
            digest := keccak256(at, add(content.length, 1))
        }
    }

    function climb(Reader memory reader, bytes32 digest, uint256 index) private pure returns (Opened memory opened) {
        opened.count = u64(reader);
        opened.length = u64(reader);
        if (index >= opened.count) revert Trees.IndexBeyondLeaves(uint64(index), opened.count);
        bytes calldata siblings = cut(reader, 32 * depth(opened.count));
        assembly ("memory-safe") {
            // Tag, left and right in the scratch space: 65 bytes, of which the last is the free memory pointer's highest, zero but here.
            let free := mload(0x40)
            mstore8(0, 1)
            let last := add(siblings.offset, siblings.length)
            for { let from := siblings.offset } lt(from, last) { from := add(from, 32) } {
                let side := shl(5, and(index, 1))
                mstore(add(1, side), digest)
                mstore(sub(33, side), calldataload(from))
                digest := keccak256(0, 65)
                index := shr(1, index)
            }
            mstore(0x40, free)
        }
        opened.root = Trees.root(opened.count, opened.length, digest);
    }

    function sumClimb(Reader memory reader, bytes32 digest, uint128 amount, uint64 index, uint64 count)
        private
        pure
        returns (Summed memory opened)
    {
        if (index >= count) revert Trees.IndexBeyondLeaves(index, count);
        opened.count = count;
        opened.index = index;
        bytes calldata siblings = cut(reader, Trees.SUM_SIBLING_BYTES * depth(count));
        bytes32 top;
        (top, opened.total) = Trees.sumTop(digest, amount, index, siblings);
        opened.root = Trees.sumRoot(count, opened.total, top);
        opened.fill = isFilled(index, count, siblings);
    }

    /// @dev A right-hand sibling that stands wholly beyond the leaves is a tree of fillers: 32 zero bytes with sum 0 at the bottom.
    function isFilled(uint256 index, uint256 count, bytes calldata siblings) private pure returns (bool) {
        bytes32 empty = 0;
        uint256 height = 0;
        for (uint256 level = 0; siblings.length != 0; ++level) {
            if (index & 1 == 0 && (index + 1) << level >= count) {
                for (; height < level; ++height) empty = Trees.sumNode(empty, 0, empty, 0);
                if (bytes32(siblings[0:32]) != empty || bytes16(siblings[32:48]) != 0) return false;
            }
            siblings = siblings[Trees.SUM_SIBLING_BYTES:];
            index >>= 1;
        }
        return true;
    }
}
