// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "./Codec.sol";
import {Openings} from "./Openings.sol";
import {ISettlement} from "./Ports.sol";

/// @title Receipts at their places in the trees that nodes submitted
/// @notice A tree of receipts is a sum tree: a leaf is a receipt's hash, its amount the fee in the receipt's body. A node root says how many
/// receipts there are, under which root they stand and what their fees sum to. All must fit the opening, and nothing may stand beyond the
/// receipts: so a node that lies about one of them has a receipt that nobody can open, and that is a receipt withheld.
library NodeTrees {
    using Openings for Openings.Reader;

    /// @notice A receipt's place.
    struct Place {
        Codec.NodeRoot root;
        uint64 blockNumber;
        uint64 index;
    }

    error NotInTree(bytes32 expectedRoot, bytes32 got);
    error FeesOfTree(uint128 expected, uint128 got);
    error BeyondReceipts(uint64 count);

    /// @notice Reads a submitted node root: body, submission block u64.
    function root(Openings.Reader memory reader, ISettlement settlement) internal view returns (Place memory place) {
        bytes calldata body = reader.cut(Codec.NODE_ROOT_BYTES);
        place.root = Codec.nodeRoot(body);
        place.blockNumber = reader.u64();
        settlement.requireNodeRoot(body, place.blockNumber);
    }

    /// @notice Reads a submitted node root and the place of a receipt in it: body, submission block u64, index u64, siblings.
    function find(Openings.Reader memory reader, ISettlement settlement, bytes32 receiptHash, uint128 fee)
        internal
        view
        returns (Place memory place)
    {
        place = root(reader, settlement);
        place.index = reader.u64();
        requireAt(reader, place.root, place.index, receiptHash, fee);
    }

    /// @notice Reads the siblings of a receipt at `index` under a node root, and says its hash.
    function open(Openings.Reader memory reader, Codec.NodeRoot memory given, uint64 index, bytes calldata receipt)
        internal
        pure
        returns (bytes32 receiptHash)
    {
        receiptHash = keccak256(receipt);
        requireAt(reader, given, index, receiptHash, Codec.feeOf(receipt));
    }

    /// @notice Reads the siblings of a receipt's hash, with its fee, at `index` under a node root.
    function requireAt(Openings.Reader memory reader, Codec.NodeRoot memory given, uint64 index, bytes32 receiptHash, uint128 fee)
        internal
        pure
    {
        Openings.Summed memory opened = reader.sumRootOfWord(receiptHash, fee, index, given.count);
        if (opened.root != given.receiptsRoot) revert NotInTree(given.receiptsRoot, opened.root);
        if (opened.total != given.feeSum) revert FeesOfTree(given.feeSum, opened.total);
        if (!opened.fill) revert BeyondReceipts(given.count);
    }
}
