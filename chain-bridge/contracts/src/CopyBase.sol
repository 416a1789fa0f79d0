// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AttributionBase} from "./AttributionBase.sol";
import {Codec} from "./Codec.sol";
import {Dialogue} from "./Dialogue.sol";
import {Openings} from "./Openings.sol";
import {Words} from "./Words.sol";

/// @title Runs that an answer repeats from its prompt, shown in the leaves of both (Protocol P7)
/// @notice A run of m whole words or more that stands in both lies in some mask, whatever the receipt says: so no span may share a byte with it.
abstract contract CopyBase is AttributionBase {
    using Openings for Openings.Reader;
    using Words for Words.Table;

    /// @dev Longest run that one leaf shows with the character behind it.
    uint256 private constant RUN_BYTES_MAX = 252;

    /// @notice Which edges of a run must be a word's.
    struct Edges {
        bool begins;
        bool ends;
        Words.Table words;
    }

    error RunLength(uint256 length);
    error NotWholeWords(bool isPrompt);
    error TextsDiffer();
    error TooFewWords(uint256 least, uint256 got);

    /// @dev Bytes [start, end) of the answer, which are whole words, m at least, and stand in the prompt as whole words too. Reads the parameters; start u32, length u16,
    /// offset u32 in the prompt; the leaf of answer, and of prompt, where it begins; behind each the one before it where that shows what stands before the run.
    function copied(Openings.Reader memory reader, Codec.Answered memory given) internal view returns (uint256 start, uint256 end) {
        uint256 least = leastWords(parameters(reader, given.parameterId));
        start = reader.u32();
        uint256 length = uint16(bytes2(reader.cut(2)));
        requireRun(length);
        end = start + length;
        uint256 offset = reader.u32();
        Edges memory edges = Edges(true, true, table());
        bytes calldata piece = pieceAt(reader, Dialogue.spot(given.answerRoot, false, start), length, edges);
        bytes calldata copy = pieceAt(reader, Dialogue.spot(given.promptRoot, true, offset), length, edges);
        if (keccak256(piece) != keccak256(copy)) revert TextsDiffer();
        uint256 got = countWords(edges.words, piece, least);
        if (got < least) revert TooFewWords(least, got);
    }

    /// @dev Bytes of a text, which begin and end with words where they must. Reads blob and opening of the leaf where they begin, and of the one before where that
    /// shows what stands before them and that counts.
    function pieceAt(Openings.Reader memory reader, Dialogue.Spot memory where, uint256 length, Edges memory edges)
        internal
        view
        returns (bytes calldata piece)
    {
        bytes calldata text = Dialogue.textAt(reader, where);
        uint256 end = where.place + length;
        if (end > text.length) revert BeyondLeaf(where.place, end);
        if (edges.begins && !Dialogue.isStart(reader, where, text, edges.words)) revert NotWholeWords(where.isPrompt);
        piece = text[where.place:end];
        if (!edges.ends) return piece;
        // Whole characters stand in the piece, so that the one before its end does.
        (uint256 next,) = Words.characterAt(text, end);
        if (!edges.words.ends(Words.characterBefore(piece, length), next)) revert NotWholeWords(where.isPrompt);
    }

    /// @dev Words that begin in a piece that begins with one, counted up to `most`.
    function countWords(Words.Table memory words, bytes calldata piece, uint256 most) private view returns (uint256 count) {
        uint256 before = 0;
        for (uint256 i = 0; i < piece.length && count < most;) {
            (uint256 code, uint256 size) = Words.characterAt(piece, i);
            if (words.begins(before, code)) ++count;
            before = code;
            i += size == 0 ? 1 : size;
        }
    }

    function requireRun(uint256 length) internal pure {
        if (length == 0 || length > RUN_BYTES_MAX) revert RunLength(length);
    }
}
