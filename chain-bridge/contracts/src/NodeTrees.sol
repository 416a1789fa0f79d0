// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "./Codec.sol";
import {Openings} from "./Openings.sol";
import {ISettlement} from "./Ports.sol";

/// @title Receipts at their places in the trees that nodes submitted
/// @notice A node root says how many receipts there are and under which root they stand; both must fit the opening, so that no receipt stands
/// at a place the node did not answer for.
library NodeTrees {
    using Openings for Openings.Reader;

    /// @notice A receipt's place.
    struct Place {
        Codec.NodeRoot root;
        uint64 blockNumber;
        uint64 index;
    }

    /// @dev A leaf of a receipts tree is a receipt hash.
    uint256 private constant LEAF_BYTES = 32;

    error NotInTree(bytes32 expectedRoot, bytes32 got);
    error CountOfTree(uint64 expected, uint64 got);

    /// @notice Reads a submitted node root: body, submission block u64.
    function root(Openings.Reader memory reader, ISettlement settlement) internal view returns (Place memory place) {
        bytes calldata body = reader.cut(Codec.NODE_ROOT_BYTES);
        place.root = Codec.nodeRoot(body);
        place.blockNumber = reader.u64();
        settlement.requireNodeRoot(body, place.blockNumber);
    }

    /// @notice Reads a submitted node root and the place of a receipt in it: body, submission block u64, index u64, opening.
    function find(Openings.Reader memory reader, ISettlement settlement, bytes32 receiptHash)
        internal
        view
        returns (Place memory place)
    {
        place = root(reader, settlement);
        place.index = reader.u64();
        open(reader, place.root, place.index, receiptHash);
    }

    /// @notice Reads the opening of a receipt's hash at `index` under a node root.
    function open(Openings.Reader memory reader, Codec.NodeRoot memory given, uint64 index, bytes32 receiptHash) internal pure {
        Openings.Opened memory opened = reader.rootOfWord(receiptHash, index);
        if (opened.root != given.receiptsRoot) revert NotInTree(given.receiptsRoot, opened.root);
        if (opened.count != given.count) revert CountOfTree(given.count, opened.count);
        if (opened.length != LEAF_BYTES * uint256(opened.count)) revert CountOfTree(given.count, opened.length / uint64(LEAF_BYTES));
    }
}
