// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "./Codec.sol";

/// @title Fees and shares, to the wei (Protocol P4, P6)
/// @notice u128 amounts, multiplied in 256 bits: nothing here overflows or loses a wei.
library Split {
    /// @notice Part codes of Protocol P6.
    uint32 internal constant PROTOCOL = 0;
    uint32 internal constant NODE = 1;
    uint32 internal constant AGENT = 2;
    uint32 internal constant BASE = 3;
    uint32 internal constant ADAPTER = 4;
    uint32 internal constant STAKERS = 5;
    uint32 internal constant INSURANCE = 6;
    uint32 internal constant TREASURIES = 256;
    uint32 internal constant SPANS = 65_536;
    uint32 internal constant REFUND = 1 << 24;

    /// @notice What a split table sums to.
    uint256 internal constant SUM = 10_000;
    uint256 internal constant DATA_ROW = 4;

    /// @notice What an answer costs by its quote: floor((Tin x Rin + Tout x Rout) / 1000) + P. May exceed a u128.
    function fee(Codec.Receipt memory receipt, Codec.Quote memory quote) internal pure returns (uint256) {
        return (uint256(receipt.tokensIn) * quote.rateIn + uint256(receipt.tokensOut) * quote.rateOut) / 1_000 + quote.protocolFee;
    }

    /// @notice The share of `row` when `total` is divided by `rows` with the sequential remainder.
    function roleShare(uint256 total, uint16[6] memory rows, uint256 row) internal pure returns (uint256 share) {
        uint256 weightLeft = SUM;
        for (uint256 i = 0; i <= row; ++i) {
            share = rows[i] == 0 ? 0 : total * rows[i] / weightLeft;
            total -= share;
            weightLeft -= rows[i];
        }
    }

    /// @notice Shares of `total` by `weights` with the sequential remainder: x = left * w / weight left. They sum to `total`; all are zero if
    /// all weights are.
    function sequential(uint256 total, uint64[] memory weights) internal pure returns (uint256[] memory shares) {
        shares = new uint256[](weights.length);
        uint256 weightLeft = 0;
        for (uint256 i = 0; i < weights.length; ++i) weightLeft += weights[i];
        for (uint256 i = 0; i < weights.length; ++i) {
            if (weights[i] == 0) continue;
            shares[i] = total * weights[i] / weightLeft;
            total -= shares[i];
            weightLeft -= weights[i];
        }
    }

    /// @notice Whether the fee of a receipt divides at all: it is billed, covers P, is no more than its lane's money up to where it stands, and its
    /// spans weigh no more than the answer. One that does not has no parts.
    function divides(bytes calldata body, Codec.Receipt memory receipt, uint128 protocolFee) internal pure returns (bool) {
        return Codec.isBillable(receipt.reason) && receipt.fee >= protocolFee && receipt.fee <= receipt.cumulativeAfter
            && spanWeights(body, receipt) <= receipt.totalWeight;
    }

    /// @notice What part `code` of a receipt that divides is worth; zero if there is no such part.
    function part(bytes calldata body, Codec.Receipt memory receipt, uint128 protocolFee, Codec.Manifest memory manifest, uint32 code)
        internal
        pure
        returns (uint256)
    {
        if (code == PROTOCOL) return protocolFee;
        uint256 rest = receipt.fee - protocolFee;
        if (code <= ADAPTER) return roleShare(rest, manifest.split, code - 1);
        if (code == STAKERS) return roleShare(rest, manifest.split, 5);
        return dataPart(body, receipt, manifest, roleShare(rest, manifest.split, DATA_ROW), code);
    }

    /// @notice Sum of a receipt's span weights.
    function spanWeights(bytes calldata body, Codec.Receipt memory receipt) internal pure returns (uint256 sum) {
        for (uint256 i = 0; i < receipt.spans; ++i) sum += Codec.spanWeight(body, i);
    }

    /// @dev The parts of the data pot: spans, then what is left to the treasuries, or to the insurance pool if nobody can take it.
    function dataPart(
        bytes calldata body,
        Codec.Receipt memory receipt,
        Codec.Manifest memory manifest,
        uint256 pot,
        uint32 code
    ) private pure returns (uint256) {
        if (receipt.totalWeight == 0 || manifest.datanets.length == 0) return code == INSURANCE ? pot : 0;
        if (code >= SPANS) {
            uint256 number = code - SPANS;
            return number < receipt.spans ? pot * Codec.spanWeight(body, number) / receipt.totalWeight : 0;
        }
        uint256 left = pot;
        for (uint256 i = 0; i < receipt.spans; ++i) left -= pot * Codec.spanWeight(body, i) / receipt.totalWeight;
        uint64[] memory weights = new uint64[](manifest.datanets.length);
        uint256 sum = 0;
        for (uint256 i = 0; i < weights.length; ++i) {
            weights[i] = manifest.datanets[i].weight;
            sum += weights[i];
        }
        if (code == INSURANCE) return sum == 0 ? left : 0;
        if (code < TREASURIES || code - TREASURIES >= weights.length) return 0;
        return sequential(left, weights)[code - TREASURIES];
    }
}
