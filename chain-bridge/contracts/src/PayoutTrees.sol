// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Openings} from "./Openings.sol";

/// @title Leaves of payout trees and of their parts, opened (Protocol P6, P7)
/// @notice A payout tree is ascending by account, a parts tree by node, receipt index and part (a refund: and lane), so that two neighbours,
/// or the first or last leaf, show that something is absent.
library PayoutTrees {
    using Openings for Openings.Reader;

    /// @notice An account's line.
    struct Leaf {
        address account;
        uint128 previous;
        uint128 cumulative;
        bytes32 partsRoot;
        uint64 index;
        uint64 count;
    }

    /// @notice A part: `key` is node, receipt index and code in 32 bytes. Lane and witness are zero but in a refund; the witness is the
    /// place of the receipt that the refund is reckoned from, all zero if there is none.
    struct Part {
        bytes32 key;
        uint128 amount;
        bytes32 lane;
        address witnessNode;
        uint64 witnessEpoch;
        uint64 witnessIndex;
        uint64 index;
        uint64 count;
    }

    uint256 internal constant LEAF_BYTES = 84;
    uint256 internal constant PART_BYTES = 48;
    uint256 internal constant REFUND_BYTES = 116;
    /// @dev The receipt index of a refund, before its code, in a key.
    uint256 private constant REFUND_TAIL = (uint256(type(uint64).max) << 32) | (1 << 24);
    uint256 private constant TAIL_MASK = (1 << 96) - 1;

    error NotInPayout(bytes32 expectedRoot, bytes32 got);
    error NotInParts(bytes32 expectedRoot, bytes32 got);
    error NotAbsent();
    error PartBytes(uint256 got);

    /// @notice Reads a leaf under a payout root: 84 bytes, opening.
    function leaf(Openings.Reader memory reader, bytes32 root) internal pure returns (Leaf memory found) {
        bytes calldata content = reader.cut(LEAF_BYTES);
        found.account = address(bytes20(content[0:20]));
        found.previous = uint128(bytes16(content[20:36]));
        found.cumulative = uint128(bytes16(content[36:52]));
        found.partsRoot = bytes32(content[52:84]);
        Openings.Summed memory opened = reader.sumRootOf(content, found.cumulative);
        if (opened.root != root) revert NotInPayout(root, opened.root);
        found.index = opened.index;
        found.count = opened.count;
    }

    /// @notice Reads a part under a parts root: its bytes with their length u32, opening.
    function part(Openings.Reader memory reader, bytes32 root) internal pure returns (Part memory found) {
        bytes calldata content = reader.blob();
        if (!isPart(content)) revert PartBytes(content.length);
        found.key = bytes32(content[0:32]);
        found.amount = uint128(bytes16(content[32:48]));
        if (content.length == REFUND_BYTES) {
            found.lane = bytes32(content[48:80]);
            found.witnessNode = address(bytes20(content[80:100]));
            found.witnessEpoch = uint64(bytes8(content[100:108]));
            found.witnessIndex = uint64(bytes8(content[108:116]));
        }
        Openings.Summed memory opened = reader.sumRootOf(content, found.amount);
        if (opened.root != root) revert NotInParts(root, opened.root);
        found.index = opened.index;
        found.count = opened.count;
    }

    /// @notice Reads why a payout tree has no leaf of `account`: a u8 whose bit 0 says that the leaf before it is opened, bit 1 the leaf after
    /// it, then those leaves; none of both for an empty tree, whose head is opened instead. A root of zero is of no tree: nothing is read.
    function requireAbsent(Openings.Reader memory reader, bytes32 root, address account) internal pure {
        if (root == 0) return;
        uint8 sides = reader.u8();
        if (sides == 0) return requireEmpty(reader, root);
        Leaf memory before;
        Leaf memory next;
        if (sides & 1 != 0) {
            before = leaf(reader, root);
            if (before.account >= account) revert NotAbsent();
        }
        if (sides & 2 != 0) {
            next = leaf(reader, root);
            if (next.account <= account) revert NotAbsent();
        }
        requireNeighbours(sides, before.index, before.count, next.index);
    }

    /// @notice Reads why a parts tree has no part of `key` and `lane`; as `requireAbsent`, with parts.
    function requireNoPart(Openings.Reader memory reader, bytes32 root, bytes32 key, bytes32 lane) internal pure {
        uint8 sides = reader.u8();
        if (sides == 0) return requireEmpty(reader, root);
        Part memory before;
        Part memory next;
        if (sides & 1 != 0) {
            before = part(reader, root);
            if (!isBefore(before.key, before.lane, key, lane)) revert NotAbsent();
        }
        if (sides & 2 != 0) {
            next = part(reader, root);
            if (!isBefore(key, lane, next.key, next.lane)) revert NotAbsent();
        }
        requireNeighbours(sides, before.index, before.count, next.index);
    }

    /// @notice Whether one part stands before another.
    function isBefore(bytes32 key, bytes32 lane, bytes32 otherKey, bytes32 otherLane) internal pure returns (bool) {
        return key < otherKey || (key == otherKey && lane < otherLane);
    }

    /// @notice Whether bytes are a part at all: `PART_BYTES` and worth something, or a refund of `REFUND_BYTES`, which may be worth nothing.
    function isPart(bytes calldata content) internal pure returns (bool) {
        if (content.length < PART_BYTES) return false;
        if (isRefund(bytes32(content[0:32]))) return content.length == REFUND_BYTES;
        return content.length == PART_BYTES && bytes16(content[32:48]) != 0;
    }

    /// @notice Whether a key is a refund's.
    function isRefund(bytes32 key) internal pure returns (bool) {
        return uint256(key) & TAIL_MASK == REFUND_TAIL;
    }

    /// @notice The key of a part.
    function keyOf(address node, uint64 receipt, uint32 code) internal pure returns (bytes32) {
        return bytes32(abi.encodePacked(node, receipt, code));
    }

    /// @notice The fields of a key.
    function fieldsOf(bytes32 key) internal pure returns (address node, uint64 receipt, uint32 code) {
        return (address(bytes20(key)), uint64(uint256(key) >> 32), uint32(uint256(key)));
    }

    /// @notice Reads the head of an empty tree.
    function requireEmpty(Openings.Reader memory reader, bytes32 root) internal pure {
        Openings.Summed memory head = reader.sumHead();
        // Of no leaves there is one tree: another that says so hides money behind lines that nobody can ask for.
        if (head.root != root || head.count != 0 || !head.fill) revert NotAbsent();
    }

    /// @dev The two stand side by side; where one is missing, the other is the last or the first.
    function requireNeighbours(uint8 sides, uint64 before, uint64 count, uint64 next) private pure {
        if (sides > 3) revert NotAbsent();
        if (sides == 1 && uint256(before) + 1 != count) revert NotAbsent();
        if (sides == 2 && next != 0) revert NotAbsent();
        if (sides == 3 && uint256(before) + 1 != next) revert NotAbsent();
    }
}
