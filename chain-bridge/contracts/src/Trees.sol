// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Trees and sum trees (Protocol P2)
/// @notice Leaves, nodes and roots carry different tags, and the root binds the leaf count and the byte length (or the total), so that no
/// digest can be read as another kind and no filler as a leaf.
library Trees {
    /// @notice The place of a leaf: `siblings` from the leaf upwards, one per level.
    struct Opening {
        uint64 count;
        uint64 length;
        uint64 index;
        bytes32[] siblings;
    }

    /// @notice Bytes of a sibling in a sum tree: its digest and its sum.
    uint256 internal constant SUM_SIBLING_BYTES = 48;

    error IndexBeyondLeaves(uint64 index, uint64 count);
    error WrongDepth(uint256 expectedSiblings, uint256 got);
    error SumTooLarge(uint256 sum);
    error SiblingBytes(uint256 got);

    /// @notice Digest of a leaf.
    function leaf(bytes memory content) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), content));
    }

    /// @notice Digest of an inner node.
    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x01), left, right));
    }

    /// @notice Root over `top` that binds the leaf count and the byte length.
    function root(uint64 count, uint64 length, bytes32 top) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x03), count, length, top));
    }

    /// @notice Levels between a leaf and the top of a tree of `count` leaves.
    function depth(uint64 count) internal pure returns (uint256 levels) {
        while ((uint256(1) << levels) < count) ++levels;
    }

    /// @notice The root that `opening` leads to from a leaf; the caller compares it.
    function rootOf(bytes memory content, Opening calldata opening) internal pure returns (bytes32) {
        requirePlace(opening.index, opening.count, opening.siblings.length);
        bytes32 digest = leaf(content);
        uint256 index = opening.index;
        for (uint256 level = 0; level < opening.siblings.length; ++level) {
            bytes32 sibling = opening.siblings[level];
            digest = index & 1 == 0 ? node(digest, sibling) : node(sibling, digest);
            index >>= 1;
        }
        return root(opening.count, opening.length, digest);
    }

    /// @notice Digest of an inner node of a sum tree; both sums are bound, not their total.
    function sumNode(bytes32 left, uint128 leftSum, bytes32 right, uint128 rightSum) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x01), left, leftSum, right, rightSum));
    }

    /// @notice Root of a sum tree over `top`.
    function sumRoot(uint64 count, uint128 total, bytes32 top) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x03), count, total, top));
    }

    /// @notice Root and total that an opening leads to from a leaf that holds `amount`.
    /// @param siblings From the leaf upwards, each a digest and its sum u128, packed.
    function sumRootOf(bytes memory content, uint128 amount, uint64 index, uint64 count, bytes calldata siblings)
        internal
        pure
        returns (bytes32, uint128)
    {
        if (siblings.length % SUM_SIBLING_BYTES != 0) revert SiblingBytes(siblings.length);
        requirePlace(index, count, siblings.length / SUM_SIBLING_BYTES);
        (bytes32 top, uint128 total) = sumTop(leaf(content), amount, index, siblings);
        return (sumRoot(count, total, top), total);
    }

    /// @notice Top and total of a sum tree that a leaf's digest at `index` leads to; the caller has checked the number of siblings.
    function sumTop(bytes32 digest, uint128 amount, uint256 index, bytes calldata siblings) internal pure returns (bytes32, uint128) {
        (bytes32 top, uint256 sum) = climb(digest, amount, index, siblings);
        // Sums only grow on the way up, so that the last one tells of them all.
        if (sum > type(uint128).max) revert SumTooLarge(sum);
        return (top, uint128(sum));
    }

    /// @dev `sumNode` level by level in one buffer of 97 bytes: tag, left, left sum, right, right sum.
    function climb(bytes32 digest, uint256 sum, uint256 index, bytes calldata siblings) private pure returns (bytes32, uint256) {
        assembly ("memory-safe") {
            let at := mload(0x40)
            mstore8(at, 1)
            let end := add(siblings.offset, siblings.length)
            for { let from := siblings.offset } lt(from, end) { from := add(from, 48) } {
                let sibling := calldataload(from)
                let siblingSum := shr(128, calldataload(add(from, 32)))
                switch and(index, 1)
                case 0 {
                    mstore(add(at, 1), digest)
                    mstore(add(at, 33), shl(128, sum))
                    mstore(add(at, 49), sibling)
                    mstore(add(at, 81), shl(128, siblingSum))
                }
                default {
                    mstore(add(at, 1), sibling)
                    mstore(add(at, 33), shl(128, siblingSum))
                    mstore(add(at, 49), digest)
                    mstore(add(at, 81), shl(128, sum))
                }
                digest := keccak256(at, 97)
                sum := add(sum, siblingSum)
                index := shr(1, index)
            }
        }
        return (digest, sum);
    }

    function requirePlace(uint64 index, uint64 count, uint256 siblings) private pure {
        if (index >= count) revert IndexBeyondLeaves(index, count);
        uint256 expected = depth(count);
        if (siblings != expected) revert WrongDepth(expected, siblings);
    }
}
