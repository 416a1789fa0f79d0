// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Pack} from "./Pack.sol";
import {PayoutProofs} from "./PayoutProofs.sol";

/// @notice Two epochs, two nodes, three receipts, and what is shown of them against the second payout.
abstract contract PayoutWorld is PayoutProofs {
    Share[] internal none;
    uint256 internal constant SEED = (200 << 48) | (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;

    /// @dev Epoch 1 final with a tree of one receipt; epoch 2 due, with two receipts of `node` and one of `other`.
    function world(uint256 seed) internal returns (Tree memory last, Root[] memory roots) {
        seed >>= 1;
        roots = new Root[](1);
        Answer memory first = honest(NODE_KEY, 1, seed);
        collect(first);
        roots[0] = submit(NODE_KEY, one(first));
        vm.warp(block.timestamp + W1);
        Tree memory empty;
        last = build(empty, roots, none);
        post(last);
        vm.warp(block.timestamp + W2);

        roots = new Root[](2);
        Answer[] memory answers = new Answer[](2);
        for (uint64 i = 0; i < 2; ++i) {
            answers[i] = honest(NODE_KEY, 2 + i, seed + i);
            collect(answers[i]);
        }
        roots[0] = submit(NODE_KEY, answers);
        answers[1] = honest(OTHER_KEY, 4, seed / 3);
        collect(answers[1]);
        roots[1] = submit(OTHER_KEY, one(answers[1]));
        roots[0].answers = new Answer[](2);
        for (uint64 i = 0; i < 2; ++i) roots[0].answers[i] = honest(NODE_KEY, 2 + i, seed + i);
        vm.warp(block.timestamp + W1);
    }

    function partProof(Tree memory tree, Root[] memory roots, uint256 i, uint256 j) internal view returns (bytes memory) {
        bytes memory content = tree.parts[i][j];
        Root memory root = address(uint160(slice(content, 0, 20))) == node ? roots[0] : roots[roots.length - 1];
        return abi.encodePacked(leafAt(tree, i), partAt(tree, i, j), root.shown, opened(root, slice(content, 20, 8)));
    }

    /// @dev What is read of a receipt that has no parts at all.
    function shortPart(Tree memory tree, Root memory root, uint256 i, uint256 j) internal pure returns (bytes memory) {
        uint256 index = slice(tree.parts[i][j], 20, 8);
        return abi.encodePacked(leafAt(tree, i), partAt(tree, i, j), root.shown, placed(root, index));
    }

    function shortMissing(Root memory root, uint256 index, uint32 code) internal pure returns (bytes memory) {
        return abi.encodePacked(root.shown, uint64(index), code, placed(root, index));
    }

    function missing(Root memory root, uint256 index, uint32 code, bytes memory absence) internal pure returns (bytes memory) {
        return abi.encodePacked(root.shown, uint64(index), code, opened(root, index), absence);
    }

    function postFirst(bytes[] memory all, uint128[] memory amounts) internal {
        (bytes32 root, uint128 total) = Pack.sumRoot(all, amounts);
        vm.prank(other);
        settlement.postPayout(1, 0, root, total);
    }

    function snapshot(Tree memory tree) internal returns (uint256 id) {
        post(tree);
        id = vm.snapshotState();
    }
}
