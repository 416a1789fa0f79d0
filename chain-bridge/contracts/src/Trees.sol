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

    /// @notice A sibling in a sum tree.
    struct SumSibling {
        bytes32 digest;
        uint128 sum;
    }

    error IndexBeyondLeaves(uint64 index, uint64 count);
    error WrongDepth(uint256 expectedSiblings, uint256 got);
    error SumTooLarge(uint256 sum);

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
    function sumRootOf(bytes memory content, uint128 amount, uint64 index, uint64 count, SumSibling[] calldata siblings)
        internal
        pure
        returns (bytes32, uint128)
    {
        requirePlace(index, count, siblings.length);
        bytes32 digest = leaf(content);
        uint128 sum = amount;
        uint256 place = index;
        for (uint256 level = 0; level < siblings.length; ++level) {
            SumSibling calldata sibling = siblings[level];
            digest = place & 1 == 0
                ? sumNode(digest, sum, sibling.digest, sibling.sum)
                : sumNode(sibling.digest, sibling.sum, digest, sum);
            uint256 wide = uint256(sum) + sibling.sum;
            if (wide > type(uint128).max) revert SumTooLarge(wide);
            sum = uint128(wide);
            place >>= 1;
        }
        return (sumRoot(count, sum, digest), sum);
    }

    function requirePlace(uint64 index, uint64 count, uint256 siblings) private pure {
        if (index >= count) revert IndexBeyondLeaves(index, count);
        uint256 expected = depth(count);
        if (siblings != expected) revert WrongDepth(expected, siblings);
    }
}
