// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Trees} from "../src/Trees.sol";

/// @notice Builds trees the plain way and packs their openings as Protocol P7 says; shares no code with `Openings`.
library Pack {
    /// @notice Bytes with their length u32 before them.
    function blob(bytes memory content) internal pure returns (bytes memory) {
        return abi.encodePacked(uint32(content.length), content);
    }

    /// @notice Count, length, siblings.
    function opening(Trees.Opening memory given) internal pure returns (bytes memory packed) {
        packed = abi.encodePacked(given.count, given.length);
        for (uint256 i = 0; i < given.siblings.length; ++i) packed = abi.encodePacked(packed, given.siblings[i]);
    }

    /// @notice Root and total of the sum tree over `leaves`.
    function sumRoot(bytes[] memory leaves, uint128[] memory amounts) internal pure returns (bytes32, uint128) {
        (bytes32 top, uint128 sum) = sumTop(leaves, amounts);
        return (Trees.sumRoot(uint64(leaves.length), sum, top), sum);
    }

    /// @notice Head of the sum tree's root: count, total, top.
    function sumHead(bytes[] memory leaves, uint128[] memory amounts) internal pure returns (bytes memory) {
        (bytes32 top, uint128 sum) = sumTop(leaves, amounts);
        return abi.encodePacked(uint64(leaves.length), sum, top);
    }

    /// @notice Opening of leaf `index` in the sum tree: count, index, siblings.
    function sumOpen(bytes[] memory leaves, uint128[] memory amounts, uint256 index) internal pure returns (bytes memory packed) {
        return abi.encodePacked(uint64(leaves.length), uint64(index), siblings(leaves, amounts, index));
    }

    /// @notice Siblings of leaf `index` in the sum tree, from the leaf upwards.
    function siblings(bytes[] memory leaves, uint128[] memory amounts, uint256 index) internal pure returns (bytes memory packed) {
        (bytes32[] memory level, uint128[] memory sums) = summed(leaves, amounts);
        for (uint256 width = level.length; width > 1; width /= 2) {
            packed = abi.encodePacked(packed, level[index ^ 1], sums[index ^ 1]);
            up(level, sums, width);
            index /= 2;
        }
    }

    function sumTop(bytes[] memory leaves, uint128[] memory amounts) private pure returns (bytes32, uint128) {
        if (leaves.length == 0) return (0, 0);
        (bytes32[] memory level, uint128[] memory sums) = summed(leaves, amounts);
        for (uint256 width = level.length; width > 1; width /= 2) up(level, sums, width);
        return (level[0], sums[0]);
    }

    function up(bytes32[] memory level, uint128[] memory sums, uint256 width) private pure {
        for (uint256 i = 0; i < width / 2; ++i) {
            level[i] = Trees.sumNode(level[2 * i], sums[2 * i], level[2 * i + 1], sums[2 * i + 1]);
            sums[i] = sums[2 * i] + sums[2 * i + 1];
        }
    }

    function summed(bytes[] memory leaves, uint128[] memory amounts) private pure returns (bytes32[] memory level, uint128[] memory sums) {
        level = digests(leaves);
        sums = new uint128[](level.length);
        for (uint256 i = 0; i < leaves.length; ++i) sums[i] = amounts[i];
    }

    function digests(bytes[] memory leaves) private pure returns (bytes32[] memory level) {
        uint256 width = 1;
        while (width < leaves.length) width *= 2;
        level = new bytes32[](width);
        for (uint256 i = 0; i < leaves.length; ++i) level[i] = keccak256(abi.encodePacked(hex"00", leaves[i]));
    }
}
