// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AttributionBase, IParameters} from "./AttributionBase.sol";
import {Codec} from "./Codec.sol";
import {CopyBase} from "./CopyBase.sol";
import {Dialogue} from "./Dialogue.sol";
import {Matches} from "./Matches.sol";
import {Openings} from "./Openings.sol";
import {ISettlement, IStakes} from "./Ports.sol";

/// @title Faults of what a receipt says that the answer repeats from its prompt: F11
/// @notice Masks are exactly the longest runs of m words or more that answer and prompt share. A mask that is not one, and a run that no mask holds, are shown
/// in the leaves of both, to which the node and its client signed. One transaction, no judge. What is opened, and how, is Protocol P7.
contract MaskVerifier is CopyBase {
    using Openings for Openings.Reader;

    /// @notice What is false.
    enum MaskMode {
        /// The mask is empty, or not behind the one before it.
        Form,
        /// It ends beyond the answer, or its copy beyond the prompt.
        End,
        /// A byte of it is not the prompt's.
        Bytes,
        /// It, or its copy, begins or ends inside a word.
        Bounds,
        /// It has fewer words than a mask must have.
        FewWords,
        /// What stands beside it stands beside its copy too.
        Longer,
        /// A run that stands in both lies in no mask.
        Missing
    }

    /// @dev Edges of a mask, by what they are: the lowest bit set where it ends, the next in the prompt.
    uint256 private constant EDGES = 4;
    uint256 private constant AT_END = 1;
    uint256 private constant IN_PROMPT = 2;

    /// @notice A mask: its number, its bytes [start, end) in the answer, where it stands in the prompt.
    struct Mask {
        uint256 number;
        uint256 start;
        uint256 end;
        uint256 offset;
    }

    event MaskRefuted(bytes32 indexed receiptHash, address indexed node, MaskMode mode, address reporter);

    error MaskIsRight(MaskMode mode);
    error NoSuchMask(uint256 mask, uint256 masks);
    error EmptyMask(uint256 mask);
    error NoSuchSide(uint256 side);
    error BeyondMask(uint256 place, uint256 length);
    error HeldByMask(uint256 mask);

    /// @notice See `AttributionBase`.
    constructor(IStakes stakeManager_, ISettlement settlement_, IParameters registry_, address ranges_)
        AttributionBase(stakeManager_, settlement_, registry_, ranges_)
    {}

    /// @notice F11: a mask of the receipt is false, or one is missing. The node is slashed, the client gets its fee back; nothing is void.
    /// @param evidence Packed as `mode` asks for: see Protocol P7.
    function proveMask(bytes calldata receipt, bytes calldata signature, MaskMode mode, bytes calldata evidence) external committed {
        Codec.Answered memory given = billed(receipt);
        Openings.Reader memory reader = Openings.over(evidence);
        if (mode == MaskMode.Missing) requireMissing(receipt, given, reader);
        else if (!isFalse(receipt, given, mode, reader)) revert MaskIsRight(mode);
        reader.finish();
        bytes32 receiptHash = requireSigned(given.node, receipt, signature);
        emit MaskRefuted(receiptHash, given.node, mode, msg.sender);
        slashFor(given.node, given.client, given.lane, given.fee, receiptHash);
    }

    /// @dev Reads the number u16 of a mask, then what its mode reads.
    function isFalse(bytes calldata receipt, Codec.Answered memory given, MaskMode mode, Openings.Reader memory reader)
        private
        view
        returns (bool)
    {
        Mask memory mask = maskAt(receipt, given, uint16(bytes2(reader.cut(2))));
        if (mode == MaskMode.Form) return isFormFalse(receipt, given, mask);
        if (mask.start == mask.end) revert EmptyMask(mask.number);
        if (mode == MaskMode.End) return isBeyond(reader, given, mask);
        if (mode == MaskMode.Bytes) return differs(reader, given, mask);
        if (mode == MaskMode.Bounds) return isBoundFalse(reader, given, mask);
        if (mode == MaskMode.FewWords) {
            uint256 least = leastWords(parameters(reader, given.parameterId));
            return Dialogue.wordsOf(reader, given.answerRoot, mask.start, mask.end) < least;
        }
        return isLonger(reader, given, mask);
    }

    function maskAt(bytes calldata receipt, Codec.Answered memory given, uint256 number) private pure returns (Mask memory mask) {
        if (number >= given.masks) revert NoSuchMask(number, given.masks);
        mask.number = number;
        (mask.start, mask.end, mask.offset) = Codec.maskRange(receipt, given, number);
    }

    function isFormFalse(bytes calldata receipt, Codec.Answered memory given, Mask memory mask) private pure returns (bool) {
        if (mask.start == mask.end) return true;
        if (mask.number == 0) return false;
        (uint256 start, uint256 end,) = Codec.maskRange(receipt, given, mask.number - 1);
        return mask.start <= start || mask.end <= end;
    }

    /// @dev Reads u8 0 and the head of the answer root, or 1 and that of the prompt's.
    function isBeyond(Openings.Reader memory reader, Codec.Answered memory given, Mask memory mask) private pure returns (bool) {
        uint256 side = reader.u8();
        if (side > 1) revert NoSuchSide(side);
        Openings.Opened memory opened = reader.head();
        if (side == 0) {
            Matches.requireRoot("answer", given.answerRoot, opened.root);
            return mask.end > opened.length;
        }
        Matches.requireRoot("prompt", given.promptRoot, opened.root);
        return mask.offset + (mask.end - mask.start) > opened.length;
    }

    /// @dev Reads a place u32 in the mask, and blob and opening of the leaves of answer and prompt in whose strides it stands.
    function differs(Openings.Reader memory reader, Codec.Answered memory given, Mask memory mask) private pure returns (bool) {
        uint256 place = reader.u32();
        uint256 length = mask.end - mask.start;
        if (place >= length) revert BeyondMask(place, length);
        bytes1 own = byteAt(reader, Dialogue.spot(given.answerRoot, false, mask.start + place));
        return own != byteAt(reader, Dialogue.spot(given.promptRoot, true, mask.offset + place));
    }

    function byteAt(Openings.Reader memory reader, Dialogue.Spot memory where) private pure returns (bytes1) {
        bytes calldata text = Dialogue.textAt(reader, where);
        if (where.place >= text.length) revert BeyondLeaf(where.place, where.place + 1);
        return text[where.place];
    }

    /// @dev Reads which edge u8, blob and opening of the leaf that shows it, and of the one before where that shows what stands before the edge.
    function isBoundFalse(Openings.Reader memory reader, Codec.Answered memory given, Mask memory mask) private view returns (bool) {
        uint256 edge = reader.u8();
        if (edge >= EDGES) revert NoSuchSide(edge);
        bool inPrompt = edge & IN_PROMPT != 0;
        bytes32 root = inPrompt ? given.promptRoot : given.answerRoot;
        uint256 place = inPrompt ? mask.offset : mask.start;
        if (edge & AT_END == 0) {
            Dialogue.Spot memory start = Dialogue.spot(root, inPrompt, place);
            return !Dialogue.isStart(reader, start, Dialogue.textAt(reader, start), table());
        }
        Dialogue.Spot memory end = Dialogue.spotBehind(root, inPrompt, place + mask.end - mask.start);
        return !Dialogue.isEnd(reader, end, Dialogue.textAt(reader, end), table());
    }

    /// @dev Reads u8 0 for what stands behind the mask or 1 for what stands before it, its bytes u16; the leaf of answer, and of prompt, where it begins; behind each
    /// the one before it where that shows what stands before.
    function isLonger(Openings.Reader memory reader, Codec.Answered memory given, Mask memory mask) private view returns (bool) {
        uint256 side = reader.u8();
        if (side > 1) revert NoSuchSide(side);
        bool inFront = side == 1;
        uint256 length = uint16(bytes2(reader.cut(2)));
        requireRun(length);
        uint256 start = mask.end;
        uint256 offset = mask.offset + (mask.end - mask.start);
        if (inFront) {
            if (length > mask.start || length > mask.offset) revert BeyondMask(length, mask.start < mask.offset ? mask.start : mask.offset);
            start = mask.start - length;
            offset = mask.offset - length;
        }
        Edges memory edges = Edges(inFront, !inFront, table());
        bytes calldata piece = pieceAt(reader, Dialogue.spot(given.answerRoot, false, start), length, edges);
        bytes calldata copy = pieceAt(reader, Dialogue.spot(given.promptRoot, true, offset), length, edges);
        return keccak256(piece) == keccak256(copy);
    }

    /// @dev Reads what `copied` reads.
    function requireMissing(bytes calldata receipt, Codec.Answered memory given, Openings.Reader memory reader) private view {
        (uint256 start, uint256 end) = copied(reader, given);
        for (uint256 i = 0; i < given.masks; ++i) {
            (uint256 from, uint256 to,) = Codec.maskRange(receipt, given, i);
            if (from <= start && end <= to) revert HeldByMask(i);
        }
    }
}
