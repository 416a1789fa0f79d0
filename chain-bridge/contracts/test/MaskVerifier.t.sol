// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AttributionBase, IParameters} from "../src/AttributionBase.sol";
import {CopyBase} from "../src/CopyBase.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {MaskVerifier} from "../src/MaskVerifier.sol";
import {Matches} from "../src/Matches.sol";
import {Openings} from "../src/Openings.sol";
import {ISettlement, IStakes} from "../src/Ports.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {WordRanges} from "../src/WordRanges.sol";
import {AnswerWorld} from "./AnswerWorld.sol";
import {IndexTrees} from "./IndexTrees.sol";

/// @notice Masks that are false or missing (F11), and receipts beside them that are right.
contract MaskVerifierTest is AnswerWorld {
    bytes private constant FOX = "the quick brown fox jumps over the lazy dog";
    bytes private constant ANSWER =
        "So the quick brown fox jumps over the lazy dog is what one says, and what others say of it is told in many other stories of animals too.";
    bytes private constant PROMPT =
        hex"01426520627269656600025468657265206973206f6e65206d6f72653a2074686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f672c20616e6420746f6c6420696e206d616e79206f74686572206c616e64732e00";
    uint32 private constant START = 3;
    uint32 private constant OFFSET = 30;
    uint32 private constant LENGTH = 43;

    MaskVerifier private masks;

    function setUp() public override {
        super.setUp();
        tell(ANSWER, PROMPT);
        eq("where the mask starts", START, find(ANSWER, FOX));
        eq("where its copy starts", OFFSET, find(PROMPT, FOX));
        eq("its length", LENGTH, FOX.length);
    }

    function sixth() internal override returns (address) {
        masks = new MaskVerifier(
            IStakes(address(stakes)), ISettlement(address(settlement)), IParameters(address(registry)), address(new WordRanges())
        );
        return address(masks);
    }

    function target() internal view override returns (address) {
        return address(masks);
    }

    // ------------------------------------------------------------------ missing and too short

    function test_a_run_that_stands_in_the_prompt_and_in_no_mask_is_slashed_for() public {
        convicted(receipted(), run(receipted(), START, LENGTH, OFFSET));
    }

    function test_any_four_words_of_a_missing_run_prove_it() public {
        Answer memory a = masked(START, 34, OFFSET);
        convicted(a, run(a, START + 26, 17, OFFSET + 26));
    }

    function test_a_run_in_later_leaves_of_both_is_found() public {
        bytes memory told = "told in many other";
        Answer memory a = masked(START, LENGTH, OFFSET);
        convicted(a, run(a, find(ANSWER, told), told.length, find(PROMPT, told)));
    }

    function test_a_run_that_a_mask_holds_is_not_missing() public {
        Answer memory a = masked(START, LENGTH, OFFSET);
        denied(run(a, START, LENGTH, OFFSET), MaskVerifier.HeldByMask.selector);
        denied(run(a, START + 4, 21, OFFSET + 4), MaskVerifier.HeldByMask.selector);
    }

    function test_a_run_that_differs_or_is_cut_or_too_short_is_not_missing() public {
        Answer memory a = receipted();
        denied(run(a, START, LENGTH, OFFSET + 4), CopyBase.NotWholeWords.selector);
        denied(run(a, START, 15, 79), CopyBase.NotWholeWords.selector);
        denied(run(a, START, 15, OFFSET), CopyBase.TooFewWords.selector);
        denied(run(a, START + 1, LENGTH - 1, OFFSET + 1), CopyBase.NotWholeWords.selector);
        denied(run(a, START, LENGTH - 1, OFFSET), CopyBase.NotWholeWords.selector);
        denied(run(a, START, LENGTH + 1, OFFSET), CopyBase.NotWholeWords.selector);
        // As many bytes, whole words in both.
        denied(run(a, START, 19, find(PROMPT, "over the lazy dog, and") + 5), CopyBase.NotWholeWords.selector);
        denied(run(a, find(ANSWER, "one says"), 8, find(PROMPT, "one more")), CopyBase.TextsDiffer.selector);
        denied(run(a, START, 0, OFFSET), CopyBase.RunLength.selector);
        denied(run(a, START, 253, OFFSET), CopyBase.RunLength.selector);
        denied(run(a, START, 200, OFFSET), AttributionBase.BeyondLeaf.selector);
    }

    function test_a_run_that_goes_on_in_the_prompt_inside_a_word_is_not_missing() public {
        bytes memory prompt = abi.encodePacked(hex"02", "so the quick brown foxes", hex"00");
        tell(ANSWER, prompt);
        denied(run(receipted(), START, 19, 4), CopyBase.NotWholeWords.selector);
        prompt = abi.encodePacked(hex"02", "bathe quick brown fox jumps", hex"00");
        tell(ANSWER, prompt);
        denied(run(receipted(), START, 25, 3), CopyBase.NotWholeWords.selector);
        convicted(receipted(), run(receipted(), START + 4, 21, 7));
    }

    function test_a_mask_that_can_be_longer_behind_or_in_front_is_slashed_for() public {
        Answer memory a = masked(START, 39, OFFSET);
        convicted(a, longer(a, 0, START + 39, 4, OFFSET + 39));
        a = masked(START + 4, LENGTH - 4, OFFSET + 4);
        convicted(a, longer(a, 1, START, 4, OFFSET));
    }

    function test_a_mask_that_ends_where_the_texts_part_cannot_be_longer() public {
        Answer memory a = masked(START, LENGTH, OFFSET);
        denied(longer(a, 0, START + LENGTH, 8, OFFSET + LENGTH), CopyBase.NotWholeWords.selector);
        denied(longer(a, 1, START - 3, 3, OFFSET - 3), CopyBase.NotWholeWords.selector);
        denied(longer(a, 1, 0, 4, 0), MaskVerifier.BeyondMask.selector);
        denied(longer(a, 2, 0, 4, 0), MaskVerifier.NoSuchSide.selector);
        denied(longer(a, 0, START + LENGTH, 0, OFFSET + LENGTH), CopyBase.RunLength.selector);
        a = masked(START, 19, OFFSET);
        denied(longer(a, 0, START + 19, 4, OFFSET + 19), CopyBase.NotWholeWords.selector);
        // Whole words in both, of other bytes.
        tell("So the quick brown fox sits", abi.encodePacked(hex"02", "the quick brown fox runs", hex"00"));
        a = masked(START, 19, 1);
        denied(longer(a, 0, START + 19, 5, 20), MaskVerifier.MaskIsRight.selector);
    }

    // ------------------------------------------------------------------ false

    function test_a_mask_whose_bytes_differ_is_slashed_for() public {
        Answer memory a = masked(START, LENGTH + 8, OFFSET);
        convicted(a, differing(a, LENGTH));
        a = masked(find(ANSWER, "of it is told in many"), 21, OFFSET + 40);
        convicted(a, differing(a, 3));
    }

    function test_a_mask_whose_bytes_agree_is_right() public {
        Answer memory a = masked(START, LENGTH, OFFSET);
        denied(differing(a, 0), MaskVerifier.MaskIsRight.selector);
        denied(differing(a, LENGTH - 1), MaskVerifier.MaskIsRight.selector);
        denied(differing(a, LENGTH), MaskVerifier.BeyondMask.selector);
    }

    function test_a_mask_that_ends_beyond_answer_or_prompt_is_slashed_for() public {
        Answer memory a = masked(100, uint32(ANSWER.length) - 99, 0);
        denied(call(a, MaskVerifier.MaskMode.End, abi.encodePacked(uint16(0), uint8(1), head(prompted, promptBytes))), MaskVerifier.MaskIsRight.selector);
        convicted(a, call(a, MaskVerifier.MaskMode.End, abi.encodePacked(uint16(0), uint8(0), head(leaves, answerBytes))));
        a = masked(0, 50, uint32(PROMPT.length) - 49);
        convicted(a, call(a, MaskVerifier.MaskMode.End, abi.encodePacked(uint16(0), uint8(1), head(prompted, promptBytes))));
    }

    function test_a_mask_that_ends_with_answer_or_prompt_is_right() public {
        Answer memory a = masked(100, uint32(ANSWER.length) - 100, 0);
        bytes memory evidence = abi.encodePacked(uint16(0), uint8(0), head(leaves, answerBytes));
        denied(call(a, MaskVerifier.MaskMode.End, evidence), MaskVerifier.MaskIsRight.selector);
        a = masked(0, 50, uint32(PROMPT.length) - 50);
        evidence = abi.encodePacked(uint16(0), uint8(1), head(prompted, promptBytes));
        denied(call(a, MaskVerifier.MaskMode.End, evidence), MaskVerifier.MaskIsRight.selector);
        evidence = abi.encodePacked(uint16(0), uint8(0), head(prompted, promptBytes));
        denied(call(a, MaskVerifier.MaskMode.End, evidence), Matches.WrongRoot.selector);
        evidence = abi.encodePacked(uint16(0), uint8(2), head(prompted, promptBytes));
        denied(call(a, MaskVerifier.MaskMode.End, evidence), MaskVerifier.NoSuchSide.selector);
    }

    function test_a_mask_or_copy_that_cuts_a_word_is_slashed_for() public {
        for (uint8 edge = 0; edge < 4; ++edge) {
            Answer memory a = masked(START + (edge == 0 ? 1 : 0), LENGTH - (edge == 1 ? 1 : 0), OFFSET);
            if (edge == 2) a = masked(START, LENGTH, OFFSET + 1);
            if (edge == 3) a = masked(START, LENGTH, OFFSET - 1);
            a.receipt.requestId = keccak256(abi.encode(edge));
            convicted(a, bound(a, edge));
        }
    }

    function test_a_mask_of_whole_words_is_right_at_each_edge() public {
        Answer memory a = masked(START, LENGTH, OFFSET);
        for (uint8 edge = 0; edge < 4; ++edge) denied(bound(a, edge), MaskVerifier.MaskIsRight.selector);
        denied(call(a, MaskVerifier.MaskMode.Bounds, abi.encodePacked(uint16(0), uint8(4))), MaskVerifier.NoSuchSide.selector);
        // The whole of both.
        tell(FOX, FOX);
        a = masked(0, LENGTH, 0);
        for (uint8 edge = 0; edge < 4; ++edge) denied(bound(a, edge), MaskVerifier.MaskIsRight.selector);
    }

    function test_an_edge_whose_leaf_shows_half_a_character_before_it_takes_the_leaf_before() public {
        // Byte 64 stands behind the last two bytes of a character that begins in leaf 0: a letter, so that a mask from there cuts a word, or a sign, so that it does not.
        for (uint256 i = 0; i < 2; ++i) {
            bytes memory filler = "aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aa ";
            bytes memory whole = bytes.concat(filler, i == 0 ? bytes(unicode"ᾶ") : bytes(unicode"—"), "one two three four five");
            eq("place", 63, filler.length);
            tell(whole, PROMPT);
            Answer memory a = masked(66, 18, OFFSET);
            bytes memory evidence = abi.encodePacked(uint16(0), uint8(0), leaf(1));
            denied(call(a, MaskVerifier.MaskMode.Bounds, evidence), Openings.Truncated.selector);
            evidence = abi.encodePacked(evidence, leaf(0));
            if (i == 0) convicted(a, call(a, MaskVerifier.MaskMode.Bounds, evidence));
            else denied(call(a, MaskVerifier.MaskMode.Bounds, evidence), MaskVerifier.MaskIsRight.selector);
        }
    }

    function test_a_mask_of_few_words_is_slashed_for() public {
        Answer memory a = masked(START, 15, OFFSET);
        convicted(a, call(a, MaskVerifier.MaskMode.FewWords, abi.encodePacked(uint16(0), parameters, leaf(0))));
        a = masked(START, 19, OFFSET);
        bytes memory evidence = abi.encodePacked(uint16(0), parameters, leaf(0));
        denied(call(a, MaskVerifier.MaskMode.FewWords, evidence), MaskVerifier.MaskIsRight.selector);
        a = masked(START, 80, OFFSET);
        denied(call(a, MaskVerifier.MaskMode.FewWords, evidence), Openings.Truncated.selector);
        evidence = abi.encodePacked(evidence, leaf(1));
        denied(call(a, MaskVerifier.MaskMode.FewWords, evidence), MaskVerifier.MaskIsRight.selector);
        a.receipt.parameterId = 1;
        denied(call(a, MaskVerifier.MaskMode.FewWords, evidence), AttributionBase.WrongParameters.selector);
    }

    function test_masks_that_are_empty_or_do_not_ascend_are_slashed_for() public {
        Answer memory a = masked(START, 0, OFFSET);
        convicted(a, call(a, MaskVerifier.MaskMode.Form, abi.encodePacked(uint16(0))));
        denied(call(a, MaskVerifier.MaskMode.Bounds, abi.encodePacked(uint16(0))), MaskVerifier.EmptyMask.selector);
        a = masked(START, LENGTH, OFFSET);
        a.masks = abi.encodePacked(a.masks, START, LENGTH + 4, OFFSET);
        convicted(a, call(a, MaskVerifier.MaskMode.Form, abi.encodePacked(uint16(1))));
        denied(call(a, MaskVerifier.MaskMode.Form, abi.encodePacked(uint16(0))), MaskVerifier.MaskIsRight.selector);
        denied(call(a, MaskVerifier.MaskMode.Form, abi.encodePacked(uint16(2))), MaskVerifier.NoSuchMask.selector);
        a = masked(START, LENGTH, OFFSET);
        a.masks = abi.encodePacked(a.masks, START + 4, LENGTH - 4, OFFSET);
        convicted(a, call(a, MaskVerifier.MaskMode.Form, abi.encodePacked(uint16(1))));
        a = masked(START, LENGTH, OFFSET);
        a.masks = abi.encodePacked(a.masks, START + 4, LENGTH, OFFSET);
        denied(call(a, MaskVerifier.MaskMode.Form, abi.encodePacked(uint16(1))), MaskVerifier.MaskIsRight.selector);
    }

    // ------------------------------------------------------------------ around

    function test_a_receipt_is_slashed_for_once_and_only_if_it_bills_and_its_node_signed_it() public {
        Answer memory a = receipted();
        a.receipt.reason = 16;
        denied(run(a, START, LENGTH, OFFSET), AttributionBase.NotBilled.selector);
        a = receipted();
        bytes memory good = run(a, START, LENGTH, OFFSET);
        a.key = OTHER_KEY;
        denied(run(a, START, LENGTH, OFFSET), FaultBase.ReceiptSignature.selector);
        proven(address(masks), good);
        denied(good, StakeManager.AlreadySlashed.selector);
        a = receipted();
        bytes memory evidence = abi.encodePacked(runEvidence(START, LENGTH, OFFSET), uint8(0));
        denied(call(a, MaskVerifier.MaskMode.Missing, evidence), Openings.TrailingBytes.selector);
    }

    function testFuzz_no_changed_evidence_of_a_missing_mask_convicts(uint256 where, uint8 other_) public {
        bytes memory evidence = runEvidence(START, LENGTH, OFFSET);
        where %= evidence.length;
        // A shorter run is as good.
        if (where == parameters.length + 5) where = 0;
        changed(receipted(), MaskVerifier.MaskMode.Missing, evidence, where, other_);
    }

    function testFuzz_no_changed_evidence_of_a_longer_mask_convicts(uint256 where, uint8 other_) public {
        Answer memory a = masked(START, 39, OFFSET);
        bytes memory evidence = abi.encodePacked(uint16(0), uint8(0), uint16(4), leaf(0), promptLeaf(1));
        changed(a, MaskVerifier.MaskMode.Longer, evidence, where, other_);
    }

    function testFuzz_no_changed_evidence_of_a_cut_word_convicts(uint256 where, uint8 other_) public {
        bytes memory evidence = abi.encodePacked(uint16(0), uint8(0), leaf(0));
        changed(masked(START + 1, LENGTH - 1, OFFSET + 1), MaskVerifier.MaskMode.Bounds, evidence, where, other_);
    }

    function testFuzz_no_changed_evidence_of_an_honest_mask_convicts(uint8 mode, uint256 where, uint8 other_) public {
        Answer memory a = masked(START, LENGTH, OFFSET);
        mode %= 6;
        bytes memory evidence = abi.encodePacked(uint16(0));
        if (mode == 1) evidence = abi.encodePacked(evidence, uint8(0), head(leaves, answerBytes));
        if (mode == 2) evidence = abi.encodePacked(evidence, uint32(5), leaf(0), promptLeaf(0));
        if (mode == 3) evidence = abi.encodePacked(evidence, uint8(1), leaf(0));
        if (mode == 4) evidence = abi.encodePacked(evidence, parameters, leaf(0));
        if (mode == 5) evidence = abi.encodePacked(evidence, uint8(0), uint16(8), leaf(0), promptLeaf(1));
        changed(a, MaskVerifier.MaskMode(mode), evidence, where, other_);
    }

    function changed(Answer memory a, MaskVerifier.MaskMode mode, bytes memory evidence, uint256 where, uint8 other_) private {
        where %= evidence.length;
        evidence[where] ^= bytes1(other_ == 0 ? 1 : other_);
        (bool done,) = prove(address(masks), call(a, mode, evidence));
        yes("refused", !done);
    }

    /// @dev Answer and prompt of twelve words of one letter, three letters; masks found by trying every run at every place.
    function testFuzz_of_an_honest_receipt_no_run_and_no_mask_convicts_and_without_a_mask_its_run_does(uint256 seed) public {
        bytes memory prompt = abi.encodePacked(hex"02", letters(seed), hex"00");
        bytes memory whole = letters(seed >> 24);
        tell(whole, prompt);
        Answer memory a = receipted();
        a.masks = plainMasks(whole, prompt);
        // Any run at any place, whether it is shared or not.
        uint256 start = 2 * ((seed >> 48) % 12);
        innocent(run(a, start, 2 * ((seed >> 56) % (12 - start / 2)) + 1, 1 + 2 * ((seed >> 64) % 12)));
        if (a.masks.length == 0) return;
        uint16 number = uint16((seed >> 72) % (a.masks.length / 12));
        for (uint8 mode = 0; mode < 6; ++mode) {
            innocent(call(a, MaskVerifier.MaskMode(mode), abi.encodePacked(number, anyEvidence(mode, seed >> 80))));
        }
        without(a, 12 * uint256(number));
    }

    function innocent(bytes memory said) private {
        (bool done,) = prove(address(masks), said);
        yes("not convicted", !done);
    }

    function without(Answer memory a, uint256 place) private {
        bytes memory gone = IndexTrees.cut(a.masks, place, place + 12);
        a.masks = bytes.concat(IndexTrees.cut(a.masks, 0, place), IndexTrees.cut(a.masks, place + 12, a.masks.length));
        (uint256 start, uint256 length, uint256 offset) = (number32(gone, 0), number32(gone, 4), number32(gone, 8));
        convicted(a, run(a, start, length, offset));
    }

    function number32(bytes memory body, uint256 place) private pure returns (uint256) {
        return uint32(bytes4(IndexTrees.cut(body, place, place + 4)));
    }

    function anyEvidence(uint8 mode, uint256 seed) private view returns (bytes memory) {
        if (mode == 1 && seed % 2 == 0) return abi.encodePacked(uint8(0), head(leaves, answerBytes));
        if (mode == 1) return abi.encodePacked(uint8(1), head(prompted, promptBytes));
        if (mode == 2) return abi.encodePacked(uint32(seed % 8), leaf(0), promptLeaf(0));
        if (mode == 3) return abi.encodePacked(uint8(seed % 4), seed % 4 < 2 ? leaf(0) : promptLeaf(0));
        if (mode == 4) return abi.encodePacked(parameters, leaf(0));
        if (mode == 5) return abi.encodePacked(uint8(seed % 2), uint16(2 + 2 * (seed >> 8) % 4), leaf(0), promptLeaf(0));
        return "";
    }

    function letters(uint256 seed) private pure returns (bytes memory out) {
        out = new bytes(23);
        for (uint256 i = 0; i < 23; ++i) out[i] = i % 2 == 1 ? bytes1(" ") : bytes1(uint8(97 + (seed >> i) % 4 % 3));
    }

    function plainMasks(bytes memory whole, bytes memory prompt) private pure returns (bytes memory found) {
        uint256 reached = 0;
        for (uint256 i = 0; i < 23; i += 2) {
            (uint256 end, uint256 offset) = plainRun(whole, prompt, i);
            if (end <= reached) continue;
            reached = end;
            found = abi.encodePacked(found, uint32(i), uint32(end - i), uint32(offset));
        }
    }

    /// @dev End of the longest run from a place on that stands in the prompt, and where it first does; 0 if it has fewer than four words.
    function plainRun(bytes memory whole, bytes memory prompt, uint256 start) private pure returns (uint256 end, uint256 offset) {
        for (uint256 i = start + 7; i <= 23; i += 2) {
            uint256 place = find(prompt, IndexTrees.cut(whole, start, i));
            if (place == prompt.length) return (end, offset);
            (end, offset) = (i, place);
        }
    }

    // ------------------------------------------------------------------ gas

    /// @dev As people meet it: ten spans, two masks; an answer of 64 kB, a prompt of 256 kB.
    function test_gas_of_a_missing_mask() public {
        Answer memory a = masked(1_000, 60, 99);
        a.masks = abi.encodePacked(a.masks, uint32(2_000), uint32(60), uint32(500));
        for (uint256 i = 0; i < 10; ++i) {
            a.spans = abi.encodePacked(a.spans, uint32(100 * i), uint16(60), uint8(0), uint40(i), WEIGHT, node, uint32(0));
        }
        bytes memory own = full();
        bytes memory opening;
        (a.receipt.answerRoot, opening) = IndexTrees.deep(own, 1 << 10, (1 << 16) - 9, 1_000);
        bytes memory evidence = abi.encodePacked(parameters, uint32(64_009), uint16(43), uint32(128_009), uint32(own.length), own, opening);
        bytes memory text = abi.encodePacked(keccak256("salt"), IndexTrees.cut(own, own.length - 320, own.length));
        (a.receipt.promptRoot, opening) = IndexTrees.deep(text, 1 << 12, 1 << 18, 2_000);
        evidence = abi.encodePacked(evidence, uint32(text.length), text, opening);
        proven(address(masks), call(a, MaskVerifier.MaskMode.Missing, evidence));
        vm.snapshotGasLastCall("gas", "F11, missing, full leaves");
        a.masks = abi.encodePacked(uint32(64_008), uint32(44), uint32(128_009));
        // What of the evidence stands behind parameters and run.
        evidence = IndexTrees.cut(evidence, 55, evidence.length);
        proven(address(masks), call(a, MaskVerifier.MaskMode.Bytes, abi.encodePacked(uint16(0), uint32(1), evidence)));
        vm.snapshotGasLastCall("gas", "F11, bytes, full leaves");
    }

    function full() private pure returns (bytes memory own) {
        bytes memory text = new bytes(320);
        for (uint256 i = 0; i < 320; ++i) text[i] = i % 6 == 0 ? bytes1(" ") : bytes1(uint8(97 + i % 26));
        text[8] = " ";
        for (uint256 i = 0; i < FOX.length; ++i) text[9 + i] = FOX[i];
        text[52] = " ";
        bytes memory rows;
        for (uint8 i = 0; i < 11; ++i) rows = abi.encodePacked(rows, i * 5, uint16(4), WEIGHT);
        own = abi.encodePacked(keccak256("salt"), uint64(77_777), uint8(11), rows, text);
    }

    // ------------------------------------------------------------------ calls

    function masked(uint256 start, uint256 length, uint256 offset) private view returns (Answer memory a) {
        a = receipted();
        a.masks = abi.encodePacked(uint32(start), uint32(length), uint32(offset));
    }

    function call(Answer memory a, MaskVerifier.MaskMode mode, bytes memory evidence) private view returns (bytes memory) {
        return abi.encodeCall(MaskVerifier.proveMask, (receiptBody(a), receiptSig(a), mode, evidence));
    }

    function runEvidence(uint256 start, uint256 length, uint256 offset) private view returns (bytes memory) {
        bytes memory front = abi.encodePacked(parameters, uint32(start), uint16(length), uint32(offset));
        return abi.encodePacked(front, leaf(start / 64), promptLeaf(offset / 64));
    }

    function run(Answer memory a, uint256 start, uint256 length, uint256 offset) private view returns (bytes memory) {
        return call(a, MaskVerifier.MaskMode.Missing, runEvidence(start, length, offset));
    }

    function longer(Answer memory a, uint8 side, uint256 start, uint256 length, uint256 offset) private view returns (bytes memory) {
        bytes memory evidence = abi.encodePacked(uint16(0), side, uint16(length), leaf(start / 64), promptLeaf(offset / 64));
        return call(a, MaskVerifier.MaskMode.Longer, evidence);
    }

    /// @dev About byte `k` of the only mask.
    function differing(Answer memory a, uint256 k) private view returns (bytes memory) {
        uint256 start = uint32(bytes4(IndexTrees.cut(a.masks, 0, 4)));
        uint256 offset = uint32(bytes4(IndexTrees.cut(a.masks, 8, 12)));
        bytes memory evidence = abi.encodePacked(uint16(0), uint32(k), leaf((start + k) / 64), promptLeaf((offset + k) / 64));
        return call(a, MaskVerifier.MaskMode.Bytes, evidence);
    }

    /// @dev About an edge of the only mask.
    function bound(Answer memory a, uint8 edge) private view returns (bytes memory) {
        uint256 place = uint32(bytes4(IndexTrees.cut(a.masks, edge < 2 ? 0 : 8, edge < 2 ? 4 : 12)));
        if (edge % 2 == 1) place += uint32(bytes4(IndexTrees.cut(a.masks, 4, 8))) - 1;
        bytes memory shown = edge < 2 ? leaf(place / 64) : promptLeaf(place / 64);
        return call(a, MaskVerifier.MaskMode.Bounds, abi.encodePacked(uint16(0), edge, shown));
    }

    function head(bytes[] memory all, uint256 length) private pure returns (bytes memory) {
        bytes32[] memory level = new bytes32[](4);
        for (uint256 i = 0; i < all.length; ++i) level[i] = keccak256(abi.encodePacked(hex"00", all[i]));
        bytes32 top = level[0];
        if (all.length > 1) top = keccak256(abi.encodePacked(hex"01", level[0], level[1]));
        if (all.length > 2) top = keccak256(abi.encodePacked(hex"01", top, keccak256(abi.encodePacked(hex"01", level[2], level[3]))));
        return abi.encodePacked(uint64(all.length), uint64(length), top);
    }
}
