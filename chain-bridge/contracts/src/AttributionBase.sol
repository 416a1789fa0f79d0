// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "./Codec.sol";
import {FaultBase} from "./FaultBase.sol";
import {Matches} from "./Matches.sol";
import {Openings} from "./Openings.sol";
import {ISettlement, IStakes} from "./Ports.sol";
import {Words} from "./Words.sol";

/// @notice What a verifier of attribution needs of AssetRegistry.
interface IParameters {
    /// @notice Keccak of the 45 bytes of an approved set of parameters (Protocol P5); zero if there is none of this id.
    function parametersOf(uint32 paramId) external view returns (bytes32);
}

/// @title What the verifiers of attribution share: parameters, words, what a proof does to a receipt
/// @notice A fault that names one span voids it, as F1 does: its part goes to the insurance pool, everybody else is paid. One about the whole division
/// only slashes, because no contract divides anew: the receipt pays whom it names.
abstract contract AttributionBase is FaultBase {
    using Openings for Openings.Reader;

    /// @notice A set of parameters: id u32, m u8, theta u32, weight of an unknown word u32, word-table root.
    uint256 internal constant PARAMETER_BYTES = 45;
    /// @dev The first bytes of 。 (e3 80 82) and of ！ and ？ (ef bc 81, ef bc 9f).
    uint256 private constant LEAD_OF_STOP = 0xe3;
    uint256 private constant LEAD_OF_MARKS = 0xef;
    uint256 private constant EACH_BYTE = 0x0101010101010101010101010101010101010101010101010101010101010101;
    uint256 private constant LOW_BITS = 0x7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f;

    /// @notice Says which sets of parameters are approved.
    IParameters public immutable registry;
    /// @notice A `WordRanges`.
    address public immutable ranges;

    error NotBilled(uint8 reason);
    error WrongParameters(uint32 id, bytes32 expected, bytes32 got);
    error SpanLength(uint256 length);
    error BeyondLeaf(uint256 start, uint256 end);
    error LeafOrder(uint256 expectedAtMost, uint256 got);

    /// @param registry_ See `registry`.
    /// @param ranges_ See `ranges`.
    constructor(IStakes stakeManager_, ISettlement settlement_, IParameters registry_, address ranges_) FaultBase(stakeManager_, settlement_) {
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        Words.requireTable(ranges_);
        registry = registry_;
        ranges = ranges_;
    }

    /// @dev What a fault of an answer needs of its receipt. One that bills nothing is refused: nothing is paid by it.
    function billed(bytes calldata receipt) internal pure returns (Codec.Answered memory given) {
        given = Codec.answered(receipt);
        if (!Codec.isBillable(given.reason)) revert NotBilled(given.reason);
    }

    /// @dev The receipt's parameters. Reads their 45 bytes.
    function parameters(Openings.Reader memory reader, uint32 id) internal view returns (bytes calldata body) {
        body = reader.cut(PARAMETER_BYTES);
        bytes32 approved = registry.parametersOf(id);
        bytes32 got = keccak256(body);
        if (got != approved) revert WrongParameters(id, approved, got);
    }

    /// @dev Fewest words of a span or mask.
    function leastWords(bytes calldata body) internal pure returns (uint256) {
        return uint8(body[4]);
    }

    /// @dev Least weight of a span.
    function leastWeight(bytes calldata body) internal pure returns (uint256) {
        return uint32(bytes4(body[5:9]));
    }

    /// @dev A table of which nothing is copied yet.
    function table() internal view returns (Words.Table memory) {
        return Words.Table(ranges, "");
    }

    function requireLength(uint256 length) internal pure {
        if (length == 0 || length > Matches.WINDOW_BYTES) revert SpanLength(length);
    }

    /// @dev Bytes [start, start + length) of the answer, of which `text` is what the leaf of the first one shows.
    function within(bytes calldata text, uint256 start, uint256 length) internal pure returns (bytes calldata) {
        uint256 place = start % Matches.STRIDE_BYTES;
        if (place + length > text.length) revert BeyondLeaf(start, start + length);
        return text[place:place + length];
    }

    /// @dev Whether a text holds one of . ! ? LF 。 ！ ？
    function holdsDelimiter(bytes calldata text) internal pure returns (bool) {
        bool mayHold = false;
        for (uint256 i = 0; i < text.length; i += 32) {
            uint256 chunk;
            assembly ("memory-safe") {
                chunk := calldataload(add(text.offset, i))
            }
            uint256 left = text.length - i;
            // What stands behind the text becomes zero, which is no delimiter.
            if (left < 32) chunk = chunk >> (8 * (32 - left)) << (8 * (32 - left));
            if (holds(chunk, 0x2e) || holds(chunk, 0x21) || holds(chunk, 0x3f) || holds(chunk, 0x0a)) return true;
            if (holds(chunk, LEAD_OF_STOP) || holds(chunk, LEAD_OF_MARKS)) mayHold = true;
        }
        if (!mayHold) return false;
        for (uint256 i = 0; i + 3 <= text.length; ++i) {
            bytes3 character = bytes3(text[i:i + 3]);
            if (character == 0xe38082 || character == 0xefbc81 || character == 0xefbc9f) return true;
        }
        return false;
    }

    /// @dev Whether one of 32 bytes is `sought`.
    function holds(uint256 chunk, uint256 sought) private pure returns (bool) {
        uint256 difference = chunk ^ (EACH_BYTE * sought);
        return ~(((difference & LOW_BITS) + LOW_BITS) | difference | LOW_BITS) != 0;
    }

    /// @dev Voids a span and slashes for its receipt; a further one of a receipt that was slashed for is void without a slash.
    function voidSpanAndSlash(address node, address client, bytes32 lane, uint128 fee, bytes32 receiptHash, uint16 span) internal {
        bool isNew = markVoid(Codec.spanId(receiptHash, span));
        if (isNew && stakeManager.slashOf(receiptHash) != 0) return;
        slashFor(node, client, lane, fee, receiptHash);
    }
}
