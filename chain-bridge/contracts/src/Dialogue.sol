// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Matches} from "./Matches.sol";
import {Openings} from "./Openings.sol";
import {Words} from "./Words.sol";

/// @title Texts of answer and prompt, opened (Protocol P3, P7)
library Dialogue {
    using Openings for Openings.Reader;
    using Words for Words.Table;

    /// @dev A prompt leaf is a leaf salt, then its text.
    uint256 private constant SALT_BYTES = 32;

    /// @notice A byte of one of the two: which by its root, the leaf that is to show it, its place in that leaf's text.
    struct Spot {
        bytes32 root;
        bool isPrompt;
        uint256 number;
        uint256 place;
    }

    error MalformedPromptLeaf(uint256 number);

    /// @notice Byte `place` in the leaf in whose stride it stands.
    function spot(bytes32 root, bool isPrompt, uint256 place) internal pure returns (Spot memory) {
        return Spot(root, isPrompt, place / Matches.STRIDE_BYTES, place % Matches.STRIDE_BYTES);
    }

    /// @notice Byte `place`, which is not the first, in the leaf in whose stride the byte before it stands.
    function spotBehind(bytes32 root, bool isPrompt, uint256 place) internal pure returns (Spot memory where) {
        where = spot(root, isPrompt, place - 1);
        ++where.place;
    }

    /// @notice Text of the spot's leaf. Reads its blob and its opening.
    function textAt(Openings.Reader memory reader, Spot memory where) internal pure returns (bytes calldata) {
        return textOf(reader, where.root, where.isPrompt, where.number);
    }

    /// @notice Whether a word begins at a spot of a text, `text` being its leaf's; none does behind the text. Where the character before it does not stand in that
    /// leaf, which is then not the first, the one before is read: its blob, its opening.
    function isStart(Openings.Reader memory reader, Spot memory where, bytes calldata text, Words.Table memory words)
        internal
        view
        returns (bool)
    {
        if (where.place >= text.length) return false;
        (uint256 first,) = Words.characterAt(text, where.place);
        return words.begins(characterBefore(reader, where, text), first);
    }

    /// @notice Whether a word ends before a spot of a text; none does behind its end. Reads what `isStart` reads.
    function isEnd(Openings.Reader memory reader, Spot memory where, bytes calldata text, Words.Table memory words)
        internal
        view
        returns (bool)
    {
        if (where.place > text.length) return false;
        (uint256 next,) = Words.characterAt(text, where.place);
        return words.ends(characterBefore(reader, where, text), next);
    }

    function characterBefore(Openings.Reader memory reader, Spot memory where, bytes calldata text) private pure returns (uint256) {
        if (where.number == 0 || !Words.isCutBefore(text, where.place)) return Words.characterBefore(text, where.place);
        bytes calldata earlier = textOf(reader, where.root, where.isPrompt, where.number - 1);
        uint256 place = where.place + Matches.STRIDE_BYTES;
        return earlier.length < place ? 0 : Words.characterBefore(earlier, place);
    }

    function textOf(Openings.Reader memory reader, bytes32 root, bool isPrompt, uint256 number) private pure returns (bytes calldata text) {
        if (!isPrompt) {
            (, text,,) = Matches.answerAt(reader, root, number);
            return text;
        }
        bytes calldata leaf = reader.blob();
        Matches.requireRoot("prompt", root, reader.rootOf(leaf, number).root);
        if (leaf.length < SALT_BYTES) revert MalformedPromptLeaf(number);
        return leaf[SALT_BYTES:];
    }

    /// @notice Words of the answer that start in [start, end), which is not empty. Reads blob and opening of each leaf from that of its first byte to that of its last.
    function wordsOf(Openings.Reader memory reader, bytes32 answerRoot, uint256 start, uint256 end) internal pure returns (uint256 words) {
        uint256 last = (end - 1) / Matches.STRIDE_BYTES;
        for (uint256 number = start / Matches.STRIDE_BYTES; number <= last; ++number) {
            (bytes calldata rows,,,) = Matches.answerAt(reader, answerRoot, number);
            uint256 count = Matches.wordsIn(rows);
            for (uint256 i = 0; i < count; ++i) {
                (uint256 offset,,) = Matches.rowAt(rows, i);
                offset += number * Matches.STRIDE_BYTES;
                if (offset >= start && offset < end) ++words;
            }
        }
    }
}
