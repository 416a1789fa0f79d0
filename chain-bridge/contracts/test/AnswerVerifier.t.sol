// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AnswerVerifier} from "../src/AnswerVerifier.sol";
import {AttributionBase, IParameters} from "../src/AttributionBase.sol";
import {Codec} from "../src/Codec.sol";
import {CopyBase} from "../src/CopyBase.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {Matches} from "../src/Matches.sol";
import {Openings} from "../src/Openings.sol";
import {ISettlement, IStakes} from "../src/Ports.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {WordRanges} from "../src/WordRanges.sol";
import {AnswerWorld} from "./AnswerWorld.sol";
import {IndexTrees} from "./IndexTrees.sol";

/// @notice Spans that may not be there (F1) or weigh something else, weights that are false (F10); and receipts beside them that are right.
contract AnswerVerifierTest is AnswerWorld {
    /// @dev Three leaves.
    bytes private constant ANSWER =
        "The quick brown fox jumps over the lazy dog. And a zebra of the same wood, as told in many other stories of animals; and so it is, they say now.";

    AnswerVerifier private verifier_;
    IndexTrees.Segment private made;

    function setUp() public override {
        super.setUp();
        tell(ANSWER, "");
        bytes[] memory texts = new bytes[](1);
        bytes[] memory heads = new bytes[](1);
        texts[0] = abi.encodePacked("see: the quick brown fox jumps over the lazy dog and the quicksilver, that is what they say", hex"00");
        heads[0] = abi.encodePacked(address(0xA1), uint64(10), uint32(0), uint32(0), uint64(0));
        made = IndexTrees.segment(texts, heads, 0);
    }

    function sixth() internal override returns (address) {
        verifier_ = new AnswerVerifier(
            IStakes(address(stakes)), ISettlement(address(settlement)), IParameters(address(registry)), address(new WordRanges())
        );
        return address(verifier_);
    }

    function target() internal view override returns (address) {
        return address(verifier_);
    }

    // ------------------------------------------------------------------ spans

    function test_a_span_that_starts_inside_a_word_is_void_and_slashed_for() public {
        Answer memory a = claimed("he quick brown fox jumps", 50);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Start, leaf(0)));
        a = claimed("The quick brown fox jumps", 50);
        denied(span(a, AnswerVerifier.SpanMode.Start, leaf(0)), AnswerVerifier.SpanIsEligible.selector);
        a = claimed(" quick brown fox jumps over", 50);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Start, leaf(0)));
    }

    function test_a_span_that_ends_inside_a_word_or_behind_one_is_void_and_slashed_for() public {
        Answer memory a = claimed("The quick brown fox jump", 50);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(0), leaf(0))));
        a = claimed("The quick brown fox jumps ", 50);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(0), leaf(0))));
        a = claimed("The quick brown fox jumps", 50);
        denied(span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(0), leaf(0))), AnswerVerifier.SpanIsEligible.selector);
        denied(span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(1), leaf(1))), AttributionBase.LeafOrder.selector);
    }

    function test_where_a_span_of_two_leaves_ends_its_last_leaf_shows() public {
        Answer memory a = claimed("And a zebra of the same wood, as tol", 50);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(1), leaf(1))));
        a = claimed("And a zebra of the same wood, as told", 50);
        denied(span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(1), leaf(1))), AnswerVerifier.SpanIsEligible.selector);
        denied(span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(0), leaf(0), leaf(1))), AnswerVerifier.SpanIsEligible.selector);
        // The leaf in which no word starts any more is not left out.
        denied(span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(0), leaf(0))), Openings.Truncated.selector);
        a = claimed("ebra", 50);
        denied(span(a, AnswerVerifier.SpanMode.End, abi.encodePacked(uint8(0), leaf(0))), AnswerVerifier.NoWord.selector);
    }

    function test_a_span_that_stands_inside_a_word_of_the_document_is_void_and_slashed_for() public {
        Answer memory a = placed(6);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Document, source(6)));
        a = placed(5);
        denied(span(a, AnswerVerifier.SpanMode.Document, source(5)), AnswerVerifier.SpanIsEligible.selector);
        // At the beginning of a leaf the one before tells.
        uint40 inside = 64;
        a = placed(inside);
        bytes memory evidence = source(inside);
        denied(span(a, AnswerVerifier.SpanMode.Document, evidence), Openings.Truncated.selector);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Document, abi.encodePacked(evidence, text(0))));
    }

    function test_a_span_over_a_sentences_end_is_void_and_slashed_for() public {
        Answer memory a = claimed("lazy dog. And a zebra", 50);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Delimiter, leaf(0)));
        a = claimed("the same wood, as told", 50);
        denied(span(a, AnswerVerifier.SpanMode.Delimiter, leaf(0)), AnswerVerifier.SpanIsEligible.selector);
        denied(span(a, AnswerVerifier.SpanMode.Delimiter, leaf(1)), Matches.WrongRoot.selector);
    }

    function test_a_span_of_few_words_is_void_and_slashed_for() public {
        Answer memory a = claimed("The quick brown", 50);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.FewWords, abi.encodePacked(parameters, leaf(0))));
        a = claimed("The quick brown fox", 50);
        denied(span(a, AnswerVerifier.SpanMode.FewWords, abi.encodePacked(parameters, leaf(0))), AnswerVerifier.SpanIsEligible.selector);
        a = claimed("the same wood, as told", 50);
        denied(span(a, AnswerVerifier.SpanMode.FewWords, abi.encodePacked(parameters, leaf(0))), Openings.Truncated.selector);
        bytes memory evidence = abi.encodePacked(parameters, leaf(0), leaf(1));
        denied(span(a, AnswerVerifier.SpanMode.FewWords, evidence), AnswerVerifier.SpanIsEligible.selector);
        a.receipt.parameterId = 1;
        denied(span(a, AnswerVerifier.SpanMode.FewWords, evidence), AttributionBase.WrongParameters.selector);
    }

    function test_a_span_that_says_it_weighs_less_than_spans_must_is_void_and_slashed_for() public {
        Answer memory a = claimed("The quick brown fox", THETA - 1);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Light, parameters));
        a = claimed("The quick brown fox", THETA);
        denied(span(a, AnswerVerifier.SpanMode.Light, parameters), AnswerVerifier.SpanIsEligible.selector);
        bytes memory others = abi.encodePacked(SET, M, THETA + 1, WEIGHT, keccak256("table"));
        denied(span(a, AnswerVerifier.SpanMode.Light, others), AttributionBase.WrongParameters.selector);
    }

    function test_a_span_under_a_mask_is_slashed_for_and_void_by_what_stands_in_the_prompt_alone() public {
        Answer memory a = claimed("quick brown fox jumps over", 50);
        a.masks = abi.encodePacked(uint32(0), uint32(3), uint32(0), uint32(30), uint32(9), uint32(3));
        denied(span(a, AnswerVerifier.SpanMode.Masked, abi.encodePacked(uint16(0))), AnswerVerifier.SpanIsEligible.selector);
        denied(span(a, AnswerVerifier.SpanMode.Masked, abi.encodePacked(uint16(1))), AnswerVerifier.SpanIsEligible.selector);
        denied(span(a, AnswerVerifier.SpanMode.Masked, abi.encodePacked(uint16(2))), AnswerVerifier.NoSuchMask.selector);
        // A mask of what nobody asked: the span is right, and keeps its part.
        a.masks = abi.encodePacked(uint32(0), uint32(5), uint32(0));
        convicted(a, span(a, AnswerVerifier.SpanMode.Masked, abi.encodePacked(uint16(0))));
        kept(a, 0);
        denied(span(a, AnswerVerifier.SpanMode.Masked, abi.encodePacked(uint16(0))), StakeManager.AlreadySlashed.selector);
    }

    function test_a_span_over_what_the_prompt_holds_is_void_with_and_without_a_mask() public {
        tell(ANSWER, abi.encodePacked(hex"02", "Who says: brown fox jumps over the wall?", hex"00"));
        Answer memory a = claimed("The quick brown fox jumps", 50);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Copied, copied("brown fox jumps over", 11)));
        a = claimed("over the lazy dog", 40);
        a.masks = abi.encodePacked(uint32(find(ANSWER, "brown")), uint32(20), uint32(11));
        convicted(a, span(a, AnswerVerifier.SpanMode.Masked, abi.encodePacked(uint16(0))));
        kept(a, 0);
        // What is void then costs nothing more.
        proven(target(), span(a, AnswerVerifier.SpanMode.Copied, copied("brown fox jumps over", 11)));
        yes("void", settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 0)) != 0);
    }

    function test_a_span_beside_what_the_prompt_holds_is_right() public {
        tell(ANSWER, abi.encodePacked(hex"02", "Who says: brown fox jumps over the wall?", hex"00"));
        Answer memory a = claimed("the lazy dog", 50);
        denied(span(a, AnswerVerifier.SpanMode.Copied, copied("brown fox jumps over", 11)), AnswerVerifier.SpanIsEligible.selector);
        a = claimed("The quick", 50);
        denied(span(a, AnswerVerifier.SpanMode.Copied, copied("brown fox jumps over", 11)), AnswerVerifier.SpanIsEligible.selector);
        // Too few words, a cut word, other bytes, other parameters: none of them is a mask.
        a = claimed("The quick brown fox jumps", 50);
        denied(span(a, AnswerVerifier.SpanMode.Copied, copied("brown fox jumps", 11)), CopyBase.TooFewWords.selector);
        denied(span(a, AnswerVerifier.SpanMode.Copied, copied("brown fox jumps ove", 11)), CopyBase.NotWholeWords.selector);
        denied(span(a, AnswerVerifier.SpanMode.Copied, copied("The quick brown fox", 11)), CopyBase.NotWholeWords.selector);
        denied(span(a, AnswerVerifier.SpanMode.Copied, copied("The quick brown fox jumps over", 1)), CopyBase.TextsDiffer.selector);
        bytes memory evidence = copied("brown fox jumps over", 11);
        a.receipt.parameterId = 1;
        denied(span(a, AnswerVerifier.SpanMode.Copied, evidence), AttributionBase.WrongParameters.selector);
    }

    function test_of_two_spans_that_overlap_neither_is_void() public {
        Answer memory a = claimed("fox jumps over the lazy dog", 60);
        add(a, "The quick brown fox", 50);
        slashedOnly(a, 1, 0);
        denied(spanNumber(a, 0, AnswerVerifier.SpanMode.Overlap, abi.encodePacked(uint16(1))), AnswerVerifier.SpanIsEligible.selector);
        denied(spanNumber(a, 0, AnswerVerifier.SpanMode.Overlap, abi.encodePacked(uint16(0))), AnswerVerifier.SpanIsEligible.selector);
        denied(spanNumber(a, 0, AnswerVerifier.SpanMode.Overlap, abi.encodePacked(uint16(2))), Codec.SpanBeyondReceipt.selector);
        a = claimed("quick brown fox", 50);
        add(a, "The quick brown fox", 50);
        slashedOnly(a, 0, 1);
        a = claimed("The quick brown fox", 50);
        add(a, "The quick brown", 50);
        slashedOnly(a, 1, 0);
        a = claimed("The quick brown fox", 50);
        add(a, "The quick brown fox", 50);
        slashedOnly(a, 1, 0);
        denied(spanNumber(a, 0, AnswerVerifier.SpanMode.Overlap, abi.encodePacked(uint16(1))), AnswerVerifier.SpanIsEligible.selector);
        a = claimed("The quick brown fox", 50);
        add(a, " jumps over the lazy dog", 60);
        denied(spanNumber(a, 0, AnswerVerifier.SpanMode.Overlap, abi.encodePacked(uint16(1))), AnswerVerifier.SpanIsEligible.selector);
    }

    function test_a_lie_over_a_right_span_is_void_by_itself_and_the_right_one_keeps_its_part() public {
        // The first is right; the second says that it weighs more, so that it ranks before.
        Answer memory a = claimed("The quick brown fox jumps", 50);
        add(a, "fox jumps over the lazy dog", 61);
        slashedOnly(a, 0, 1);
        proven(target(), spanNumber(a, 1, AnswerVerifier.SpanMode.Weight, leaf(0)));
        yes("void", settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 1)) != 0);
        kept(a, 0);
    }

    function test_a_span_that_is_said_twice_is_void_once() public {
        Answer memory a = claimed("The quick brown fox", 50);
        add(a, "The quick brown fox", 50);
        denied(spanNumber(a, 0, AnswerVerifier.SpanMode.Twin, abi.encodePacked(uint16(1))), AnswerVerifier.SpanIsEligible.selector);
        denied(spanNumber(a, 0, AnswerVerifier.SpanMode.Twin, abi.encodePacked(uint16(0))), AnswerVerifier.SpanIsEligible.selector);
        denied(spanNumber(a, 1, AnswerVerifier.SpanMode.Twin, abi.encodePacked(uint16(2))), Codec.SpanBeyondReceipt.selector);
        proven(target(), spanNumber(a, 1, AnswerVerifier.SpanMode.Twin, abi.encodePacked(uint16(0))));
        yes("void", settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 1)) != 0);
        kept(a, 0);
    }

    function test_spans_that_differ_in_what_is_paid_are_no_twins() public {
        bytes[4] memory others = [
            abi.encodePacked(uint32(1), uint16(19), uint8(0), uint40(0), uint32(50), address(0xA1), uint32(0)),
            abi.encodePacked(uint32(0), uint16(18), uint8(0), uint40(0), uint32(50), address(0xA1), uint32(0)),
            abi.encodePacked(uint32(0), uint16(19), uint8(0), uint40(0), uint32(51), address(0xA1), uint32(0)),
            abi.encodePacked(uint32(0), uint16(19), uint8(0), uint40(0), uint32(50), address(0xA2), uint32(0))
        ];
        for (uint256 i = 0; i < 4; ++i) {
            Answer memory a = claimed("The quick brown fox", 50);
            a.spans = bytes.concat(a.spans, others[i]);
            denied(spanNumber(a, 1, AnswerVerifier.SpanMode.Twin, abi.encodePacked(uint16(0))), AnswerVerifier.SpanIsEligible.selector);
        }
        // Where it stands in which Datanet pays nobody.
        Answer memory b = claimed("The quick brown fox", 50);
        b.spans = abi.encodePacked(b.spans, uint32(0), uint16(19), uint8(1), uint40(7), uint32(50), address(0xA1), uint32(0));
        convictedTwin(b);
    }

    function convictedTwin(Answer memory a) private {
        convicted(a, spanNumber(a, 1, AnswerVerifier.SpanMode.Twin, abi.encodePacked(uint16(0))));
    }

    /// @dev Span `number` is overlapped by `by`: the node pays, and both spans stay.
    function slashedOnly(Answer memory a, uint16 number, uint16 by) private {
        convicted(a, spanNumber(a, number, AnswerVerifier.SpanMode.Overlap, abi.encodePacked(by)));
        kept(a, number);
        kept(a, by);
    }

    function kept(Answer memory a, uint16 number) private view {
        eq("keeps its part", 0, settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), number)));
    }

    /// @dev These bytes of the answer, and where they stand in the prompt.
    function copied(bytes memory said, uint256 offset) private view returns (bytes memory) {
        uint256 start = find(ANSWER, said);
        bytes memory front = abi.encodePacked(parameters, uint32(start), uint16(said.length), uint32(offset));
        return abi.encodePacked(front, leaf(start / 64), promptLeaf(offset / 64));
    }

    function test_a_span_that_weighs_something_else_is_void_and_slashed_for() public {
        for (uint32 i = 0; i < 2; ++i) {
            Answer memory a = claimed("The quick brown fox jumps", 49 + 2 * i);
            convictedSpan(a, span(a, AnswerVerifier.SpanMode.Weight, leaf(0)));
        }
        Answer memory b = claimed("The quick brown fox jumps", 50);
        denied(span(b, AnswerVerifier.SpanMode.Weight, leaf(0)), AnswerVerifier.SpanIsEligible.selector);
        b = claimed("the same wood, as told in many other", 80);
        denied(span(b, AnswerVerifier.SpanMode.Weight, abi.encodePacked(leaf(0), leaf(1))), AnswerVerifier.SpanIsEligible.selector);
        b = claimed("the same wood, as told in many other", 81);
        convictedSpan(b, span(b, AnswerVerifier.SpanMode.Weight, abi.encodePacked(leaf(0), leaf(1))));
    }

    function test_a_weight_beyond_32_bits_is_cut() public {
        for (uint256 i = 0; i < 5; ++i) for (uint256 j = 0; j < 4; ++j) change(0, 41 + 7 * i + 3 + j, 0xff);
        Answer memory a = claimed("The quick brown fox jumps", type(uint32).max);
        denied(span(a, AnswerVerifier.SpanMode.Weight, leaf(0)), AnswerVerifier.SpanIsEligible.selector);
        a = claimed("The quick brown fox jumps", type(uint32).max - 1);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Weight, leaf(0)));
    }

    function test_weights_that_fall_along_the_answer_are_no_spans() public {
        // The second leaf runs from 0.
        for (uint256 i = 32; i < 40; ++i) change(1, i, 0);
        Answer memory a = claimed("the same wood, as told in many other", 80);
        convictedSpan(a, span(a, AnswerVerifier.SpanMode.Weight, abi.encodePacked(leaf(0), leaf(1))));
    }

    function test_the_late_form_slashes_and_marks_nothing() public {
        Answer memory a = claimed("The quick brown", 50);
        bytes memory evidence = abi.encodePacked(parameters, leaf(0));
        bytes memory late = abi.encodeCall(
            AnswerVerifier.slashIneligible, (receiptBody(a), receiptSig(a), 0, AnswerVerifier.SpanMode.FewWords, evidence)
        );
        convicted(a, late);
        eq("not void", 0, settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 0)));
        denied(late, StakeManager.AlreadySlashed.selector);
        proven(target(), span(a, AnswerVerifier.SpanMode.FewWords, evidence));
        yes("void", settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 0)) != 0);
    }

    function test_lengths_and_numbers_that_no_span_has_are_refused_by_name() public {
        Answer memory a = claimed("The quick brown", 50);
        a.spans = abi.encodePacked(uint32(0), uint16(0), uint8(0), uint40(0), uint32(50), address(0xA1), uint32(0));
        denied(span(a, AnswerVerifier.SpanMode.Start, leaf(0)), AttributionBase.SpanLength.selector);
        a.spans = abi.encodePacked(uint32(0), uint16(257), uint8(0), uint40(0), uint32(50), address(0xA1), uint32(0));
        denied(span(a, AnswerVerifier.SpanMode.End, leaf(0)), AttributionBase.SpanLength.selector);
        a.spans = abi.encodePacked(uint32(0), uint16(256), uint8(0), uint40(0), uint32(50), address(0xA1), uint32(0));
        denied(span(a, AnswerVerifier.SpanMode.Delimiter, leaf(0)), AttributionBase.BeyondLeaf.selector);
        denied(spanNumber(a, 1, AnswerVerifier.SpanMode.Start, leaf(0)), Codec.SpanBeyondReceipt.selector);
    }

    function testFuzz_no_changed_evidence_about_a_span_convicts(uint8 mode, uint256 where, uint8 other_) public {
        string[5] memory said = ["he quick brown fox jumps", "The quick brown fox jump", "lazy dog. And a zebra", "The quick brown", "The quick brown fox jumps"];
        AnswerVerifier.SpanMode[5] memory modes = [
            AnswerVerifier.SpanMode.Start, AnswerVerifier.SpanMode.End, AnswerVerifier.SpanMode.Delimiter, AnswerVerifier.SpanMode.FewWords, AnswerVerifier.SpanMode.Weight
        ];
        mode %= 5;
        Answer memory a = claimed(bytes(said[mode]), 51);
        bytes memory evidence = leaf(0);
        if (mode == 1) evidence = abi.encodePacked(uint8(0), evidence);
        if (mode == 3) evidence = abi.encodePacked(parameters, evidence);
        evidence[where % evidence.length] ^= bytes1(other_ == 0 ? 1 : other_);
        (bool done,) = prove(target(), span(a, modes[mode], evidence));
        yes("refused", !done);
    }

    // ------------------------------------------------------------------ F10

    function test_a_row_that_weighs_something_else_than_its_table_row_is_slashed_for() public {
        // The fox weighs 12.
        Answer memory a = receipted();
        convicted(a, row(a, 3, abi.encodePacked(uint8(0), table()[1], uint64(1), tableOpening(1))));
        // The same with a capital, and of two words that are right.
        denied(row(a, 0, abi.encodePacked(uint8(0), table()[2], uint64(2), tableOpening(2))), AnswerVerifier.WeightIsRight.selector);
        denied(row(a, 2, abi.encodePacked(uint8(0), table()[0], uint64(0), tableOpening(0))), AnswerVerifier.WeightIsRight.selector);
        denied(row(a, 2, abi.encodePacked(uint8(0), table()[1], uint64(1), tableOpening(1))), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 99, ""), AnswerVerifier.NoSuchRow.selector);
        denied(row(a, 3, abi.encodePacked(uint8(0), table()[1], uint64(1), tableOpening(0))), Matches.WrongRoot.selector);
    }

    function test_a_capital_does_not_change_what_a_word_weighs() public {
        weigh(0, 0, 11);
        Answer memory a = receipted();
        convicted(a, row(a, 0, abi.encodePacked(uint8(0), table()[2], uint64(2), tableOpening(2))));
    }

    function test_an_unknown_word_weighs_the_most_wherever_the_table_would_have_it() public {
        bytes memory between = abi.encodePacked(uint8(1), table()[1], uint64(1), tableOpening(1), table()[2], tableOpening(2));
        bytes memory front = abi.encodePacked(uint8(2), table()[0], tableOpening(0));
        bytes memory back = abi.encodePacked(uint8(3), table()[2], uint64(2), tableOpening(2));
        // quick, And, zebra.
        Answer memory a = receipted();
        denied(row(a, 1, between), AnswerVerifier.WeightIsRight.selector);
        denied(row(a, 9, front), AnswerVerifier.WeightIsRight.selector);
        denied(row(a, 11, back), AnswerVerifier.WeightIsRight.selector);
        denied(row(a, 1, front), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 1, back), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 9, between), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 11, between), AnswerVerifier.NotTheWord.selector);
        // A row that is not the last, with nothing behind it; a word that the table has, beside its row.
        denied(row(a, 1, abi.encodePacked(uint8(3), table()[1], uint64(1), tableOpening(1))), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 3, between), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 6, between), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 2, front), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 6, back), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 1, abi.encodePacked(uint8(4))), AnswerVerifier.NotTheWord.selector);
        denied(row(a, 1, abi.encodePacked(uint8(5))), AnswerVerifier.NotTheWord.selector);
        weigh(0, 1, 9);
        weigh(0, 9, 9);
        weigh(0, 11, 9);
        a = receipted();
        convicted(a, row(a, 1, between));
        a.receipt.requestId = keccak256("another");
        convicted(a, row(a, 9, front));
        a.receipt.requestId = keccak256("a third");
        convicted(a, row(a, 11, back));
    }

    function test_a_word_longer_than_the_tables_words_weighs_the_most() public {
        bytes memory giant = new bytes(256);
        for (uint256 i = 0; i < 256; ++i) giant[i] = "x";
        tell(giant, "");
        Answer memory a = receipted();
        denied(row(a, 0, abi.encodePacked(uint8(4))), AnswerVerifier.WeightIsRight.selector);
        denied(row(a, 0, abi.encodePacked(uint8(3), table()[2], uint64(2), tableOpening(2))), AnswerVerifier.NotTheWord.selector);
        weigh(0, 0, 11);
        a = receipted();
        convicted(a, row(a, 0, abi.encodePacked(uint8(4))));
    }

    function test_a_row_that_has_no_bytes_or_more_than_its_leaf_is_refused_by_name() public {
        change(0, 41 + 2, 0);
        Answer memory a = receipted();
        denied(row(a, 0, abi.encodePacked(uint8(0))), AnswerVerifier.EmptyWord.selector);
        change(0, 41 + 2, 0xff);
        a = receipted();
        denied(row(a, 0, abi.encodePacked(uint8(0))), AttributionBase.BeyondLeaf.selector);
    }

    function test_a_running_weight_that_does_not_run_on_is_slashed_for() public {
        Answer memory a = receipted();
        denied(weight(a, AnswerVerifier.WeightMode.Running, abi.encodePacked(uint32(0), leaf(0))), AnswerVerifier.WeightIsRight.selector);
        bytes memory evidence = abi.encodePacked(uint32(1), leaf(1), leaf(0));
        denied(weight(a, AnswerVerifier.WeightMode.Running, evidence), AnswerVerifier.WeightIsRight.selector);
        change(1, 39, bytes1(uint8(leaves[1][39]) + 1));
        a = receipted();
        convicted(a, weight(a, AnswerVerifier.WeightMode.Running, abi.encodePacked(uint32(1), leaf(1), leaf(0))));
        convicted(again(a), weight(again(a), AnswerVerifier.WeightMode.Running, abi.encodePacked(uint32(2), leaf(2), leaf(1))));
        change(0, 39, 0x01);
        a = receipted();
        convicted(a, weight(a, AnswerVerifier.WeightMode.Running, abi.encodePacked(uint32(0), leaf(0))));
    }

    function test_rows_that_are_not_the_texts_words_are_slashed_for() public {
        Answer memory a = receipted();
        // Starts, insides, gaps, the place of a delimiter.
        for (uint8 i = 0; i < 64; ++i) denied(bound(a, 0, i, ""), AnswerVerifier.WeightIsRight.selector);
        denied(bound(a, 0, 64, ""), AnswerVerifier.PlaceBeyondStride.selector);
        // The second row a byte late: no row where a word starts, a row where none does.
        change(0, 41 + 7, 0x05);
        a = receipted();
        convicted(a, bound(a, 0, 4, ""));
        convicted(again(a), bound(again(a), 0, 5, ""));
        change(0, 41 + 7, 0x04);
        for (uint8 i = 0; i < 2; ++i) {
            change(0, 41 + 7 + 2, bytes1(4 + 2 * i));
            a = receipted();
            convicted(a, bound(a, 0, 4, ""));
        }
    }

    function test_a_row_behind_the_text_is_slashed_for() public {
        uint256 last = leaves.length - 1;
        Answer memory a = receipted();
        denied(bound(a, uint32(last), 63, ""), AnswerVerifier.WeightIsRight.selector);
        change(last, 41, 0x3f);
        a = receipted();
        convicted(a, bound(a, uint32(last), 63, ""));
    }

    function test_a_word_that_goes_over_a_strides_end_has_its_row_in_the_leaf_where_it_starts() public {
        bytes memory whole = "aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa another word";
        tell(whole, "");
        Answer memory a = receipted();
        denied(bound(a, 0, 60, ""), AnswerVerifier.WeightIsRight.selector);
        denied(bound(a, 1, 0, ""), Openings.Truncated.selector);
        denied(bound(a, 1, 0, leaf(0)), AnswerVerifier.WeightIsRight.selector);
        // The same word given to the leaf into which it goes.
        change(1, 41, 0x00);
        a = receipted();
        convicted(a, bound(a, 1, 0, leaf(0)));
    }

    function test_words_of_other_scripts_are_told_by_the_table() public {
        // 漢 is a word of its own; é joins.
        bytes memory whole = unicode"漢字 été";
        tell(whole, "");
        bytes memory rows = abi.encodePacked(uint8(0), uint16(3), WEIGHT, uint8(3), uint16(3), WEIGHT, uint8(7), uint16(5), WEIGHT);
        leaves[0] = abi.encodePacked(keccak256("salt"), uint64(0), uint8(3), rows, whole);
        Answer memory a = receipted();
        for (uint8 i = 0; i < 13; ++i) denied(bound(a, 0, i, ""), AnswerVerifier.WeightIsRight.selector);
        change(0, 41 + 2, 0x06);
        a = receipted();
        convicted(a, bound(a, 0, 0, ""));
        change(0, 41 + 2, 0x03);
        change(0, 41 + 14 + 2, 0x03);
        a = receipted();
        convicted(a, bound(a, 0, 7, ""));
    }

    function test_a_word_longer_than_a_leaf_is_held_to_what_the_leaf_shows() public {
        bytes memory giant = new bytes(400);
        for (uint256 i = 0; i < 400; ++i) giant[i] = "x";
        tell(giant, "");
        Answer memory a = receipted();
        denied(bound(a, 0, 0, ""), AnswerVerifier.WeightIsRight.selector);
        change(0, 41 + 1, 0x01);
        change(0, 41 + 2, 0x3f);
        a = receipted();
        convicted(a, bound(a, 0, 0, ""));
    }

    function test_a_false_w_is_slashed_for() public {
        Answer memory a = totalled();
        denied(weight(a, AnswerVerifier.WeightMode.Total, abi.encodePacked(uint32(2), leaf(2))), AnswerVerifier.WeightIsRight.selector);
        denied(weight(a, AnswerVerifier.WeightMode.Total, abi.encodePacked(uint32(1), leaf(1))), AnswerVerifier.NotLastLeaf.selector);
        ++a.receipt.totalWeight;
        convicted(a, weight(a, AnswerVerifier.WeightMode.Total, abi.encodePacked(uint32(2), leaf(2))));
        a.receipt.totalWeight -= 2;
        convicted(a, weight(a, AnswerVerifier.WeightMode.Total, abi.encodePacked(uint32(2), leaf(2))));
    }

    function test_w_is_without_masked_words_each_once() public {
        // Two masks that overlap, of six words; one in the last leaf, of two; the words between them are five.
        uint32 start = uint32(find(ANSWER, "quick"));
        Answer memory a = totalled();
        a.masks = abi.encodePacked(start, uint32(15), uint32(0), start + 6, uint32(24), uint32(9));
        a.masks = abi.encodePacked(a.masks, uint32(find(ANSWER, "they say")), uint32(8), uint32(99));
        bytes memory evidence = abi.encodePacked(uint32(2), leaf(0), leaf(2));
        convicted(a, weight(a, AnswerVerifier.WeightMode.Total, evidence));
        a.receipt.totalWeight -= 8 * WEIGHT;
        denied(weight(a, AnswerVerifier.WeightMode.Total, evidence), AnswerVerifier.WeightIsRight.selector);
        a.masks = abi.encodePacked(start + 6, uint32(24), uint32(9), start, uint32(15), uint32(0));
        denied(weight(a, AnswerVerifier.WeightMode.Total, evidence), AnswerVerifier.MasksDoNotAscend.selector);
    }

    function test_masks_that_touch_or_lie_in_each_other_are_one() public {
        Answer memory a = totalled();
        uint32 all = uint32(ANSWER.length);
        bytes memory evidence = abi.encodePacked(uint32(2), leaf(0), leaf(2));
        a.masks = abi.encodePacked(uint32(0), uint32(100), uint32(0), uint32(100), all - 100, uint32(0));
        a.receipt.totalWeight = 0;
        denied(weight(a, AnswerVerifier.WeightMode.Total, evidence), AnswerVerifier.WeightIsRight.selector);
        a.masks = abi.encodePacked(uint32(0), all, uint32(0), uint32(10), uint32(100), uint32(0));
        denied(weight(a, AnswerVerifier.WeightMode.Total, evidence), AnswerVerifier.WeightIsRight.selector);
        a.receipt.totalWeight = WEIGHT;
        convicted(a, weight(a, AnswerVerifier.WeightMode.Total, evidence));
    }

    function test_a_mask_over_a_strides_end_takes_both_leaves() public {
        bytes memory masked = "the same wood, as told in";
        Answer memory a = totalled();
        a.masks = abi.encodePacked(uint32(find(ANSWER, masked)), uint32(masked.length), uint32(0));
        a.receipt.totalWeight -= 6 * WEIGHT;
        bytes memory evidence = abi.encodePacked(uint32(2), leaf(0), leaf(1), leaf(2));
        denied(weight(a, AnswerVerifier.WeightMode.Total, evidence), AnswerVerifier.WeightIsRight.selector);
        --a.receipt.totalWeight;
        convicted(a, weight(a, AnswerVerifier.WeightMode.Total, evidence));
    }

    function test_leaves_that_show_two_texts_are_slashed_for() public {
        Answer memory a = receipted();
        for (uint32 i = 0; i < 2; ++i) {
            denied(weight(a, AnswerVerifier.WeightMode.Text, abi.encodePacked(i, leaf(i), leaf(i + 1))), AnswerVerifier.WeightIsRight.selector);
        }
        bytes memory evidence = abi.encodePacked(uint32(2), leaf(2), leaf(2));
        denied(weight(a, AnswerVerifier.WeightMode.Text, evidence), Trees.IndexBeyondLeaves.selector);
        uint256 place = leaves[1].length - 1;
        change(1, place, "!");
        a = receipted();
        convicted(a, weight(a, AnswerVerifier.WeightMode.Text, abi.encodePacked(uint32(0), leaf(0), leaf(1))));
        convicted(again(a), weight(again(a), AnswerVerifier.WeightMode.Text, abi.encodePacked(uint32(1), leaf(1), leaf(2))));
    }

    function test_leaves_that_are_none_are_slashed_for() public {
        Answer memory a = receipted();
        for (uint32 i = 0; i < 3; ++i) denied(form(a, i), AnswerVerifier.WeightIsRight.selector);
        bytes memory good = leaves[1];
        leaves[1] = IndexTrees.cut(good, 0, 40);
        a = receipted();
        convicted(a, form(a, 1));
        leaves[1] = IndexTrees.cut(good, 0, good.length - 1);
        a = receipted();
        convicted(a, form(a, 1));
        leaves[1] = bytes.concat(good, "x");
        a = receipted();
        convicted(a, form(a, 1));
        leaves[1] = bytes.concat(good);
        ++answerBytes;
        a = receipted();
        convicted(a, form(a, 2));
        answerBytes = 128;
        a = receipted();
        convicted(a, form(a, 0));
    }

    function test_rows_that_do_not_ascend_are_slashed_for() public {
        change(0, 41 + 7, 0x00);
        Answer memory a = receipted();
        convicted(a, form(a, 0));
        change(0, 41 + 7, 0x40);
        a = receipted();
        convicted(a, form(a, 0));
    }

    function test_only_a_billed_receipt_that_its_node_signed_is_slashed_for_and_once() public {
        weigh(0, 0, 11);
        Answer memory a = receipted();
        bytes memory shown = abi.encodePacked(uint8(0), table()[2], uint64(2), tableOpening(2));
        a.receipt.reason = 16;
        denied(row(a, 0, shown), AttributionBase.NotBilled.selector);
        a = receipted();
        bytes memory good = row(a, 0, shown);
        a.key = OTHER_KEY;
        denied(row(a, 0, shown), FaultBase.ReceiptSignature.selector);
        convicted(receipted(), good);
        denied(good, StakeManager.AlreadySlashed.selector);
        denied(row(receipted(), 0, abi.encodePacked(shown, uint8(0))), Openings.TrailingBytes.selector);
    }

    function testFuzz_no_changed_evidence_of_a_row_convicts(uint256 where, uint8 other_) public {
        Answer memory a = receipted();
        bytes memory shown = abi.encodePacked(uint8(0), table()[1], uint64(1), tableOpening(1));
        bytes memory evidence = abi.encodePacked(parameters, uint32(0), leaf(0), uint8(3), shown);
        evidence[where % evidence.length] ^= bytes1(other_ == 0 ? 1 : other_);
        (bool done,) = prove(target(), weight(a, AnswerVerifier.WeightMode.Row, evidence));
        yes("refused", !done);
    }

    function testFuzz_no_changed_evidence_of_an_honest_answer_convicts(uint8 mode, uint256 where, uint8 other_) public {
        Answer memory a = totalled();
        mode = 1 + mode % 5;
        bytes memory evidence = abi.encodePacked(uint32(0), leaf(0));
        if (mode == 1) evidence = abi.encodePacked(uint32(1), leaf(1), leaf(0));
        if (mode == 2) evidence = abi.encodePacked(uint32(0), uint8(10), leaf(0));
        if (mode == 3) evidence = abi.encodePacked(uint32(2), leaf(2));
        if (mode == 4) evidence = abi.encodePacked(uint32(0), leaf(0), leaf(1));
        evidence[where % evidence.length] ^= bytes1(other_ == 0 ? 1 : other_);
        (bool done,) = prove(target(), weight(a, AnswerVerifier.WeightMode(mode), evidence));
        yes("refused", !done);
    }

    function testFuzz_no_place_of_an_honest_answer_convicts_and_a_changed_length_or_weight_does(uint256 seed) public {
        bytes memory characters = "aZ7b  -.,q";
        bytes memory whole = new bytes(1 + seed % 184);
        for (uint256 i = 0; i < whole.length; ++i) whole[i] = characters[uint256(keccak256(abi.encode(seed, i))) % characters.length];
        tell(whole, "");
        uint32 number = uint32((seed >> 8) % leaves.length);
        Answer memory a = totalled();
        denied(boundAt(a, number, uint8((seed >> 16) % 64)), AnswerVerifier.WeightIsRight.selector);
        denied(form(a, number), AnswerVerifier.WeightIsRight.selector);
        uint32 last = uint32(leaves.length - 1);
        denied(weight(a, AnswerVerifier.WeightMode.Total, abi.encodePacked(last, leaf(last))), AnswerVerifier.WeightIsRight.selector);
        uint256 count = uint8(leaves[number][40]);
        if (count == 0) return;
        uint256 one = 41 + 7 * ((seed >> 32) % count);
        change(number, one + 2, leaves[number][one + 2] ^ bytes1(uint8(1 + (seed >> 40) % 7)));
        a = totalled();
        convicted(a, boundAt(a, number, uint8(leaves[number][one])));
        change(number, one + 6, 0x0b);
        a = receipted();
        if (number < last) convicted(a, weight(a, AnswerVerifier.WeightMode.Running, abi.encodePacked(number + 1, leaf(number + 1), leaf(number))));
    }

    /// @dev With the leaf before where it is read: here every character has one byte.
    function boundAt(Answer memory a, uint32 number, uint8 place) private view returns (bytes memory) {
        return bound(a, number, place, place == 0 && number > 0 ? leaf(number - 1) : bytes(""));
    }

    function test_a_verifier_is_made_only_over_a_registry() public {
        address ranges = verifier_.ranges();
        vm.expectPartialRevert(FaultBase.ZeroAddress.selector);
        new AnswerVerifier(IStakes(address(stakes)), ISettlement(address(settlement)), IParameters(address(0)), ranges);
    }

    // ------------------------------------------------------------------ gas

    /// @dev As people meet it: ten spans; an answer of 64 kB in full leaves, a table of 2^14 words.
    function test_gas_of_weights() public {
        (Answer memory a, bytes memory shown) = deep();
        bytes memory known = abi.encodePacked(uint8(4), "klmn", uint32(99));
        (bytes32 root, bytes memory opening) = IndexTrees.deep(known, 1 << 14, 150_000, 9_999);
        bytes memory set = abi.encodePacked(uint32(3), M, THETA, WEIGHT, root);
        vm.prank(governor);
        registry.approveParameters(3, keccak256(set));
        a.receipt.parameterId = 3;
        bytes memory evidence = abi.encodePacked(set, uint32(1_000), shown, uint8(2), uint8(0), known, uint64(9_999), opening);
        proven(target(), weight(a, AnswerVerifier.WeightMode.Row, evidence));
        vm.snapshotGasLastCall("gas", "F10, row, full leaves");
        a.receipt.requestId = keccak256("another");
        proven(target(), weight(a, AnswerVerifier.WeightMode.Bounds, abi.encodePacked(uint32(1_000), uint8(60), shown)));
        vm.snapshotGasLastCall("gas", "F10, bounds, full leaves");
        a.masks = "";
        a.receipt.requestId = keccak256("a third");
        (, shown) = lastLeaf(a);
        proven(target(), weight(a, AnswerVerifier.WeightMode.Total, abi.encodePacked(uint32(1_023), shown)));
        vm.snapshotGasLastCall("gas", "F10, W without masks");
    }

    function test_gas_of_a_span_of_another_weight() public {
        (Answer memory a, bytes memory shown) = deep();
        a.spans = abi.encodePacked(uint32(64_010), uint16(44), uint8(0), uint40(0), uint32(51), node, uint32(0));
        proven(target(), span(a, AnswerVerifier.SpanMode.Weight, shown));
        vm.snapshotGasLastCall("gas", "F10, a span of one leaf, void");
    }

    function lastLeaf(Answer memory a) private pure returns (bytes32, bytes memory shown) {
        bytes memory own = abi.encodePacked(keccak256("salt"), uint64(88_888), uint8(1), uint8(0), uint16(4), WEIGHT, "last.");
        (a.receipt.answerRoot, shown) = IndexTrees.deep(own, 1 << 10, (1 << 16) - 59, 1_023);
        shown = abi.encodePacked(uint32(own.length), own, shown);
        return (a.receipt.answerRoot, shown);
    }

    function test_gas_of_a_span_inside_a_word() public {
        (Answer memory a, bytes memory shown) = deep();
        proven(target(), span(a, AnswerVerifier.SpanMode.Start, shown));
        vm.snapshotGasLastCall("gas", "F1, inside a word, full leaves, void");
    }

    /// @dev Leaf 1,000 has a row each five bytes, but none at byte 60; the first span starts at byte 9.
    function deep() private view returns (Answer memory a, bytes memory shown) {
        a = receipted();
        for (uint256 i = 0; i < 10; ++i) {
            a.spans = abi.encodePacked(a.spans, uint32(64_009 + 60 * i), uint16(60), uint8(0), uint40(i), uint32(50), node, uint32(0));
        }
        bytes memory own = new bytes(320);
        for (uint256 i = 0; i < 320; ++i) own[i] = i % 5 == 4 ? bytes1(" ") : bytes1(uint8(97 + i % 26));
        bytes memory rows;
        for (uint8 i = 0; i < 12; ++i) rows = abi.encodePacked(rows, i * 5, uint16(4), WEIGHT);
        own = abi.encodePacked(keccak256("salt"), uint64(77_777), uint8(12), rows, own);
        bytes memory opening;
        (a.receipt.answerRoot, opening) = IndexTrees.deep(own, 1 << 10, (1 << 16) - 9, 1_000);
        shown = abi.encodePacked(uint32(own.length), own, opening);
    }

    // ------------------------------------------------------------------ receipts and calls

    /// @dev A receipt with one span, of these bytes of the answer.
    function claimed(bytes memory said, uint32 weight_) private view returns (Answer memory a) {
        a = receipted();
        add(a, said, weight_);
    }

    function add(Answer memory a, bytes memory said, uint32 weight_) private pure {
        uint32 start = uint32(find(ANSWER, said));
        a.spans = abi.encodePacked(a.spans, start, uint16(said.length), uint8(0), uint40(0), weight_, address(0xA1), uint32(0));
    }

    /// @dev A receipt with a span at a place of the Datanet.
    function placed(uint40 position) private view returns (Answer memory a) {
        a = receipted();
        a.spans = abi.encodePacked(uint32(0), uint16(25), uint8(0), position, uint32(50), address(0xA1), uint32(0));
        bytes[] memory all = new bytes[](1);
        all[0] = datanetLeaf();
        a.receipt.indexRoot = IndexTrees.rootOf(all, 52);
    }

    function datanetLeaf() private view returns (bytes memory) {
        bytes[] memory segments = new bytes[](1);
        segments[0] = made.leaf;
        return abi.encodePacked(uint64(3), uint32(1), uint64(made.text.length), IndexTrees.rootOf(segments, 120));
    }

    function source(uint40 position) private view returns (bytes memory) {
        bytes memory alone = abi.encodePacked(uint64(1), uint64(52));
        return abi.encodePacked(datanetLeaf(), alone, made.leaf, uint64(0), uint64(1), uint64(120), text(position));
    }

    function text(uint256 position) private view returns (bytes memory) {
        return IndexTrees.blobAt(made.texts, made.text.length, position / 64);
    }

    /// @dev A receipt whose W is what the leaves say.
    function totalled() private view returns (Answer memory a) {
        a = receipted();
        uint64 words = 0;
        for (uint256 i = 0; i < leaves.length; ++i) words += uint8(leaves[i][40]);
        a.receipt.totalWeight = words * WEIGHT;
    }

    /// @dev Another receipt that says the same.
    function again(Answer memory a) private pure returns (Answer memory) {
        a.receipt.requestId = keccak256(abi.encode("again", a.receipt.requestId));
        return a;
    }

    function weigh(uint256 number, uint256 place, uint8 to) private {
        change(number, 41 + 7 * place + 6, bytes1(to));
    }

    function span(Answer memory a, AnswerVerifier.SpanMode mode, bytes memory evidence) private view returns (bytes memory) {
        return spanNumber(a, 0, mode, evidence);
    }

    function spanNumber(Answer memory a, uint16 number, AnswerVerifier.SpanMode mode, bytes memory evidence) private view returns (bytes memory) {
        return abi.encodeCall(AnswerVerifier.proveIneligible, (receiptBody(a), receiptSig(a), number, mode, evidence));
    }

    function convictedSpan(Answer memory a, bytes memory call) private {
        convicted(a, call);
        bool first = settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 0)) != 0;
        yes("one span is void", first || settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 1)) != 0);
    }

    function weight(Answer memory a, AnswerVerifier.WeightMode mode, bytes memory evidence) private view returns (bytes memory) {
        return abi.encodeCall(AnswerVerifier.proveWeight, (receiptBody(a), receiptSig(a), mode, evidence));
    }

    function row(Answer memory a, uint8 place, bytes memory shown) private view returns (bytes memory) {
        return weight(a, AnswerVerifier.WeightMode.Row, abi.encodePacked(parameters, uint32(0), leaf(0), place, shown));
    }

    function bound(Answer memory a, uint32 number, uint8 place, bytes memory before) private view returns (bytes memory) {
        return weight(a, AnswerVerifier.WeightMode.Bounds, abi.encodePacked(number, place, leaf(number), before));
    }

    function form(Answer memory a, uint32 number) private view returns (bytes memory) {
        return weight(a, AnswerVerifier.WeightMode.Form, abi.encodePacked(number, leaf(number)));
    }
}
