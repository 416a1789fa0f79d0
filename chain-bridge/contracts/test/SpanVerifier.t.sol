// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AttributionBase, IParameters} from "../src/AttributionBase.sol";
import {Codec} from "../src/Codec.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {Matches} from "../src/Matches.sol";
import {ISettlement, IStakes} from "../src/Ports.sol";
import {SpanVerifier} from "../src/SpanVerifier.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {WordRanges} from "../src/WordRanges.sol";
import {Words} from "../src/Words.sol";
import {IndexTrees} from "./IndexTrees.sol";
import {Pack} from "./Pack.sol";
import {Transcript} from "./Transcript.sol";

/// @notice Spans that a node left out (F2), and spans that pay the wrong account (F9); and receipts beside them that are right.
contract SpanVerifierTest is Transcript {
    bytes private constant FOX = "the quick brown fox jumps over the lazy dog";
    bytes private constant ANSWER =
        "Some say, and most of them agree, that the quick brown fox jumps over the lazy dog, as told in stories about animals. It is so.";
    uint32 private constant SET = 2;
    uint8 private constant M = 4;
    uint32 private constant THETA = 45;
    uint32 private constant WEIGHT = 10;
    address private constant FIRST = address(0xA1);
    address private constant SECOND = address(0xA2);
    address private constant THIRD = address(0xA3);
    address private constant FOURTH = address(0xA4);

    SpanVerifier private spans;
    bytes private parameters;
    /// @dev Segments 0 and 1 are the first Datanet's, 2 is the second's.
    IndexTrees.Segment[3] private made;

    function setUp() public override {
        super.setUp();
        parameters = abi.encodePacked(SET, M, THETA, uint32(25), keccak256("table"));
        vm.prank(governor);
        registry.approveParameters(SET, keccak256(parameters));
        bytes[] memory texts = new bytes[](2);
        bytes[] memory heads = new bytes[](2);
        texts[0] = abi.encodePacked(FOX, hex"00");
        heads[0] = head(FIRST, 10, 0);
        texts[1] = abi.encodePacked("we saw that ", FOX, " but not the cat\x00");
        heads[1] = head(SECOND, 20, 1);
        made[0] = IndexTrees.segment(texts, heads, 0);
        texts = new bytes[](1);
        heads = new bytes[](1);
        texts[0] = abi.encodePacked("and ", FOX, " again\x00");
        heads[0] = head(THIRD, 30, 0);
        made[1] = IndexTrees.segment(texts, heads, uint64(made[0].text.length));
        texts[0] = "once more the quick brown fox jumps high\x00";
        heads[0] = head(FOURTH, 5, 0);
        made[2] = IndexTrees.segment(texts, heads, 0);
    }

    function sixth() internal override returns (address) {
        spans = new SpanVerifier(
            IStakes(address(stakes)), ISettlement(address(settlement)), IParameters(address(registry)), address(new WordRanges())
        );
        return address(spans);
    }

    // ------------------------------------------------------------------ F2

    function test_a_receipt_without_the_span_is_slashed_for_and_pays_whom_it_names() public {
        Answer memory a = answered();
        convicted(a, omission(a, FOX, 0, 0));
        eq("not void", 0, settlement.voidedAt(keccak256(receiptBody(a))));
    }

    function test_a_part_of_the_span_that_is_eligible_proves_it_as_well() public {
        Answer memory a = answered();
        convicted(a, omission(a, "quick brown fox jumps over", 0, 4));
    }

    function test_a_shortened_span_is_dominated_by_the_whole_one() public {
        Answer memory a = answered();
        add(a, "the quick brown fox jumps", 0, 0, 50, FIRST);
        convicted(a, omission(a, FOX, 0, 0));
    }

    function test_a_later_span_of_the_same_weight_is_dominated() public {
        Answer memory a = answered();
        add(a, "quick brown fox jumps over", 0, 4, 50, FIRST);
        convicted(a, omission(a, "the quick brown fox jumps", 0, 0));
    }

    function test_a_span_far_from_the_omitted_one_saves_nobody() public {
        Answer memory a = answered();
        add(a, "told in stories about animals", 0, 0, 500, FIRST);
        a.masks = abi.encodePacked(uint32(0), uint32(8), uint32(0));
        convicted(a, omission(a, FOX, 0, 0));
    }

    function test_an_omitted_span_whose_words_stand_in_three_leaves_is_found() public {
        bytes memory long = bytes.concat(FOX, " ", FOX, " ", FOX);
        bytes[] memory texts = new bytes[](1);
        bytes[] memory heads = new bytes[](1);
        texts[0] = abi.encodePacked(long, hex"00");
        heads[0] = head(FOURTH, 5, 0);
        made[2] = IndexTrees.segment(texts, heads, 0);
        bytes memory whole = bytes.concat("So ", long, ".");
        Answer memory a = answered(whole);
        bytes memory middle = abi.encodePacked(uint8(2), uint8(1), answerLeaf(whole, 1), uint8(2), answerLeaf(whole, 2));
        bytes memory front = abi.encodePacked(parameters, uint32(3), uint16(long.length), answerLeaf(whole, 0));
        convicted(a, omissionCall(a, abi.encodePacked(front, middle, source(1, 0))));
        a = answered(whole);
        a.receipt.requestId = keccak256("another");
        // The one between may be left out: words enough are seen without it, and weights run on.
        middle = abi.encodePacked(uint8(1), uint8(2), answerLeaf(whole, 2));
        convicted(a, omissionCall(a, abi.encodePacked(front, middle, source(1, 0))));
        a = answered(whole);
        refusedOmission(a, abi.encodePacked(front, uint8(0), source(1, 0)), AttributionBase.LeafOrder.selector);
        middle = abi.encodePacked(uint8(2), uint8(2), answerLeaf(whole, 2), uint8(2), answerLeaf(whole, 2));
        refusedOmission(a, abi.encodePacked(front, middle, source(1, 0)), AttributionBase.LeafOrder.selector);
        middle = abi.encodePacked(uint8(1), uint8(3), answerLeaf(whole, 2));
        refusedOmission(a, abi.encodePacked(front, middle, source(1, 0)), AttributionBase.LeafOrder.selector);
    }

    function test_the_span_itself_or_one_that_ranks_before_it_is_no_omission() public {
        Answer memory a = answered();
        add(a, FOX, 0, 0, 90, FIRST);
        no(a, FOX, 0, 0, SpanVerifier.NotOutranked.selector);
        no(a, "quick brown fox jumps over", 0, 4, SpanVerifier.NotOutranked.selector);
        a = answered();
        add(a, "that the quick brown", 0, 52, 95, SECOND);
        no(a, FOX, 0, 0, SpanVerifier.NotOutranked.selector);
        a = answered();
        add(a, "the quick brown fox jumps", 0, 0, 50, FIRST);
        no(a, "quick brown fox jumps over", 0, 4, SpanVerifier.NotOutranked.selector);
        // As heavy, as early, and longer.
        a = answered();
        add(a, FOX, 0, 0, 50, FIRST);
        no(a, "the quick brown fox jumps", 0, 0, SpanVerifier.NotOutranked.selector);
    }

    /// @dev Two words here weigh more than a span states: what is cut ranks by where it begins, then by its length.
    function test_runs_heavier_than_a_span_states_are_compared_as_spans_state_them() public {
        uint32 most = type(uint32).max;
        Answer memory a = heavy();
        add(a, FOX, 0, 0, most, FIRST);
        refusedOmission(a, heavyEvidence(FOX), SpanVerifier.NotOutranked.selector);
        refusedOmission(a, heavyEvidence("quick brown fox jumps over"), SpanVerifier.NotOutranked.selector);
        a = heavy();
        add(a, "that the quick brown", 0, 52, most, SECOND);
        refusedOmission(a, heavyEvidence(FOX), SpanVerifier.NotOutranked.selector);
        // A later one, a shorter one, and one that says it weighs less.
        a = heavy();
        add(a, "quick brown fox jumps over the lazy dog", 0, 4, most, FIRST);
        convicted(a, omissionCall(a, heavyEvidence(FOX)));
        a = heavy();
        add(a, "the quick brown fox jumps", 0, 0, most, FIRST);
        convicted(a, omissionCall(a, heavyEvidence(FOX)));
        a = heavy();
        add(a, "that the quick brown", 0, 52, most - 1, SECOND);
        convicted(a, omissionCall(a, heavyEvidence(FOX)));
    }

    function heavy() private view returns (Answer memory a) {
        a = answered();
        a.receipt.answerRoot = IndexTrees.rootOf(IndexTrees.answerLeaves(ANSWER, type(uint32).max), ANSWER.length);
    }

    /// @dev Of a text that stands in the first document and begins and ends in one leaf, or in two that follow each other.
    function heavyEvidence(bytes memory text_) private view returns (bytes memory evidence) {
        bytes[] memory leaves = IndexTrees.answerLeaves(ANSWER, type(uint32).max);
        uint256 start = find(ANSWER, text_);
        uint256 first = start / 64;
        evidence = abi.encodePacked(parameters, uint32(start), uint16(text_.length), IndexTrees.blobAt(leaves, ANSWER.length, first));
        bool isOne = (start + text_.length - 1) / 64 == first;
        bytes memory more = isOne ? abi.encodePacked(uint8(0)) : abi.encodePacked(uint8(1), uint8(1), IndexTrees.blobAt(leaves, ANSWER.length, first + 1));
        evidence = abi.encodePacked(evidence, more, source(0, uint40(find(FOX, text_))));
    }

    function test_what_is_not_eligible_is_no_omission() public {
        Answer memory a = answered();
        no(a, "the quick brown", 0, 0, SpanVerifier.TooFewWords.selector);
        no(a, "the quick brown fox", 0, 0, SpanVerifier.TooLight.selector);
        no(a, "stories about animals. It is so", 0, 0, SpanVerifier.HoldsDelimiter.selector);
        no(a, "he quick brown fox jumps over", 0, 0, SpanVerifier.NotWholeWords.selector);
        no(a, "the quick brown fox jumps ove", 0, 0, SpanVerifier.NotWholeWords.selector);
        no(a, "the quick brown fox jumps ", 0, 0, SpanVerifier.NotWholeWords.selector);
        a.masks = abi.encodePacked(uint32(0), uint32(8), uint32(0), uint32(find(ANSWER, "dog")), uint32(3), uint32(0));
        no(a, FOX, 0, 0, SpanVerifier.Masked.selector);
        // A mask that begins where the span ends takes nothing from it.
        convicted(a, omission(a, "the quick brown fox jumps over the lazy", 0, 0));
    }

    function test_every_delimiter_ends_a_span() public {
        string[7] memory all = [unicode".", "!", "?", "\n", unicode"。", unicode"！", unicode"？"];
        for (uint256 i = 0; i < all.length; ++i) {
            bytes memory span = bytes.concat("one two three", bytes(all[i]), "four five six seven eight");
            bytes memory whole = bytes.concat("So ", span, ".");
            Answer memory a = answered(whole);
            refusedOmission(
                a,
                abi.encodePacked(parameters, uint32(3), uint16(span.length), answerLeaf(whole, 0), uint8(0), source(0, 0)),
                SpanVerifier.HoldsDelimiter.selector
            );
        }
        // Of the same first byte as two of them, and none.
        bytes memory other_ = unicode"one two、three four　five six seven";
        bytes memory sentence = bytes.concat("So ", other_, ".");
        Answer memory b = answered(sentence);
        refusedOmission(
            b,
            abi.encodePacked(parameters, uint32(3), uint16(other_.length), answerLeaf(sentence, 0), uint8(0), source(0, 0)),
            SpanVerifier.DoesNotOccur.selector
        );
    }

    function test_what_does_not_occur_at_a_word_start_is_no_omission() public {
        Answer memory a = answered();
        no(a, FOX, 0, 4, SpanVerifier.DoesNotOccur.selector);
        no(a, FOX, 1, 10, SpanVerifier.DoesNotOccur.selector);
        no(a, "as told in stories about animals", 0, 0, SpanVerifier.DoesNotOccur.selector);
    }

    function test_answers_that_bill_nothing_and_other_parameters_prove_nothing() public {
        Answer memory a = answered();
        a.receipt.reason = 16;
        no(a, FOX, 0, 0, AttributionBase.NotBilled.selector);
        a = answered();
        a.receipt.parameterId = 1;
        no(a, FOX, 0, 0, AttributionBase.WrongParameters.selector);
        a.receipt.parameterId = 3;
        no(a, FOX, 0, 0, AttributionBase.WrongParameters.selector);
        a = answered();
        bytes memory evidence = abi.encodePacked(parameters, uint32(0), uint16(0), answerLeaf(ANSWER, 0));
        refusedOmission(a, evidence, AttributionBase.SpanLength.selector);
        refusedOmission(a, abi.encodePacked(parameters, uint32(0), uint16(257), answerLeaf(ANSWER, 0)), AttributionBase.SpanLength.selector);
        refusedOmission(a, abi.encodePacked(parameters, uint32(0), uint16(200), answerLeaf(ANSWER, 0)), AttributionBase.BeyondLeaf.selector);
    }

    function test_only_what_the_node_signed_counts_once_and_after_it_was_announced() public {
        Answer memory a = answered();
        bytes memory call = omission(a, FOX, 0, 0);
        bytes memory stranger = abi.encodeCall(
            SpanVerifier.proveOmission,
            (receiptBody(a), signed(OTHER_KEY, address(settlement), keccak256("Receipt(bytes body)"), receiptBody(a)), evidenceOf(FOX, 0, 0))
        );
        refused(address(spans), stranger, FaultBase.ReceiptSignature.selector);
        vm.prank(REPORTER);
        vm.expectPartialRevert(FaultBase.NotCommitted.selector);
        spans.proveOmission(receiptBody(a), receiptSig(a), evidenceOf(FOX, 0, 0));
        convicted(a, call);
        refused(address(spans), call, StakeManager.AlreadySlashed.selector);
    }

    function testFuzz_no_changed_evidence_of_an_omission_convicts(uint256 where, uint8 change) public {
        Answer memory a = answered();
        bytes memory evidence = evidenceOf(FOX, 0, 0);
        where %= evidence.length;
        if (change == 0) change = 1;
        evidence[where] ^= bytes1(change);
        (bool done,) = prove(address(spans), omissionCall(a, evidence));
        yes("refused", !done);
    }

    // ------------------------------------------------------------------ F9

    function test_a_span_that_pays_a_stranger_is_void_and_slashed_for() public {
        Answer memory a = answered();
        add(a, FOX, 0, 0, 90, node);
        convicted(a, payee(a, row(0, 0)));
        yes("void", settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 0)) != 0);
        eq("the receipt is not", 0, settlement.voidedAt(keccak256(receiptBody(a))));
    }

    function test_the_late_form_slashes_and_marks_nothing() public {
        Answer memory a = answered();
        add(a, FOX, 0, 0, 90, node);
        bytes memory evidence = abi.encodePacked(datanet(0), row(0, 0));
        convicted(
            a,
            abi.encodeCall(SpanVerifier.slashPayee, (receiptBody(a), receiptSig(a), 0, SpanVerifier.PayeeMode.Payee, evidence))
        );
        eq("not void", 0, settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 0)));
        // Within W1 it is void all the same.
        proven(address(spans), payee(a, row(0, 0)));
        yes("void", settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 0)) != 0);
        refused(address(spans), payee(a, row(0, 0)), StakeManager.AlreadySlashed.selector);
    }

    function test_a_span_of_a_near_copy_pays_the_first_of_its_cluster() public {
        uint40 position = uint40(made[0].text.length + 4);
        bytes memory path = abi.encodePacked(row(1, 0), segmentAlone(0), row(0, 0));
        Answer memory a = answered();
        add(a, FOX, 0, position, 90, THIRD);
        convicted(a, payee(a, path));
        a = answered();
        add(a, FOX, 0, position, 90, FIRST);
        refused(address(spans), payee(a, path), SpanVerifier.PayeeIsRight.selector);
        add(a, "It is so it is so", 0, position, 90, THIRD);
        path = abi.encodePacked(row(1, 0), segmentAlone(0), row(0, 1));
        refused(address(spans), payee(a, path), SpanVerifier.NotItsHead.selector);
    }

    function test_the_right_payee_and_a_document_elsewhere_are_refused() public {
        Answer memory a = answered();
        add(a, FOX, 0, 0, 90, FIRST);
        refused(address(spans), payee(a, row(0, 0)), SpanVerifier.PayeeIsRight.selector);
        refused(address(spans), payee(a, row(0, 1)), Matches.OutsideDocument.selector);
        refused(address(spans), payee(a, abi.encodePacked(row(1, 0), segmentAlone(0))), Matches.OutsideSegment.selector);
        a = answered();
        add(a, FOX, 0, uint40(64 + 12), 90, SECOND);
        refused(address(spans), payee(a, row(0, 1)), SpanVerifier.PayeeIsRight.selector);
    }

    function test_a_later_holder_is_refuted_by_an_earlier_one_of_the_same_datanet_and_of_another() public {
        Answer memory a = answered();
        add(a, FOX, 0, uint40(64 + 12), 90, SECOND);
        convicted(a, holder(a, FOX, place(0, 1), uint8(0), uint40(0), place(0, 0), text(0, 0)));
        yes("void", settlement.voidedAt(Codec.spanId(keccak256(receiptBody(a)), 0)) != 0);
        a = answered();
        add(a, "the quick brown fox jumps", 0, 0, 50, FIRST);
        convicted(a, holder(a, "the quick brown fox jumps", place(0, 0), uint8(1), uint40(10), place(2, 0), text(2, 10)));
    }

    function test_an_earlier_place_of_the_same_document_is_an_earlier_holder() public {
        bytes[] memory texts = new bytes[](1);
        bytes[] memory heads = new bytes[](1);
        texts[0] = abi.encodePacked(FOX, ", ", FOX, hex"00");
        heads[0] = head(FOURTH, 5, 0);
        made[2] = IndexTrees.segment(texts, heads, 0);
        Answer memory a = answered();
        add(a, FOX, 1, 45, 90, FOURTH);
        bytes memory call = holder(a, FOX, place(2, 0), uint8(1), uint40(0), place(2, 0), text(2, 0));
        convicted(a, call);
        a = answered();
        add(a, FOX, 1, 0, 90, FOURTH);
        call = holder(a, FOX, place(2, 0), uint8(1), uint40(45), place(2, 0), text(2, 45));
        refused(address(spans), call, SpanVerifier.HolderIsEarliest.selector);
    }

    function test_the_earliest_holder_is_not_refuted() public {
        Answer memory a = answered();
        add(a, FOX, 0, 0, 90, FIRST);
        bytes memory call = holder(a, FOX, place(0, 0), uint8(0), uint40(76), place(0, 1), text(0, 76));
        refused(address(spans), call, SpanVerifier.HolderIsEarliest.selector);
        call = holder(a, FOX, place(0, 0), uint8(0), uint40(0), place(0, 0), text(0, 0));
        refused(address(spans), call, SpanVerifier.HolderIsEarliest.selector);
        // The other document is earlier, and ends before the span does, or holds it elsewhere.
        call = holder(a, FOX, place(0, 0), uint8(1), uint40(10), place(2, 0), text(2, 10));
        refused(address(spans), call, SpanVerifier.DoesNotOccur.selector);
        a = answered();
        add(a, "the quick brown fox jumps", 0, 0, 50, FIRST);
        call = holder(a, "the quick brown fox jumps", place(0, 0), uint8(1), uint40(14), place(2, 0), text(2, 14));
        refused(address(spans), call, SpanVerifier.DoesNotOccur.selector);
    }

    function testFuzz_no_changed_evidence_of_a_later_holder_convicts(uint256 where, uint8 change) public {
        Answer memory a = answered();
        add(a, FOX, 0, uint40(64 + 12), 90, SECOND);
        bytes memory evidence = holding(FOX, place(0, 1), uint8(0), uint40(0), place(0, 0), text(0, 0));
        where %= evidence.length;
        if (change == 0) change = 1;
        evidence[where] ^= bytes1(change);
        (bool done,) = prove(address(spans), payeeCall(a, SpanVerifier.PayeeMode.Holder, evidence));
        yes("refused", !done);
    }

    function testFuzz_no_changed_evidence_of_a_payee_convicts(uint256 where, uint8 change) public {
        uint40 position = uint40(made[0].text.length + 4);
        Answer memory a = answered();
        add(a, FOX, 0, position, 90, THIRD);
        bytes memory evidence = abi.encodePacked(datanet(0), row(1, 0), segmentAlone(0), row(0, 0));
        where %= evidence.length;
        if (change == 0) change = 1;
        evidence[where] ^= bytes1(change);
        (bool done,) = prove(address(spans), payeeCall(a, SpanVerifier.PayeeMode.Payee, evidence));
        yes("refused", !done);
    }

    function test_a_verifier_is_made_only_over_a_registry_and_the_table() public {
        address table = spans.ranges();
        vm.expectPartialRevert(FaultBase.ZeroAddress.selector);
        new SpanVerifier(IStakes(address(stakes)), ISettlement(address(settlement)), IParameters(address(0)), table);
        vm.expectPartialRevert(Words.NotWordRanges.selector);
        new SpanVerifier(IStakes(address(stakes)), ISettlement(address(settlement)), IParameters(address(registry)), address(stakes));
    }

    // ------------------------------------------------------------------ gas

    /// @dev As people meet it: ten spans, none of which overlaps the omitted one; two segments of 2^25 text leaves, which are 4 GiB; an answer of 64 kB.
    function test_gas_of_an_omission_in_ten_to_the_nine_tokens() public {
        bytes memory pattern = "hereditary hemorrhagic telangiectasia of the lower lip";
        Answer memory a = answered();
        for (uint256 i = 0; i < 10; ++i) {
            bytes memory span = abi.encodePacked(uint32(100 * i), uint16(60), uint8(0), uint40(654_321 * i), WEIGHT, FIRST, uint32(0));
            a.spans = abi.encodePacked(a.spans, span);
        }
        bytes memory evidence;
        (a.receipt.indexRoot, evidence) = deepSource(pattern);
        bytes memory rows;
        for (uint8 i = 0; i < pattern.length; ++i) {
            if (i > 0 && pattern[i - 1] != " ") continue;
            uint16 length = 0;
            while (i + length < pattern.length && pattern[i + length] != " ") ++length;
            rows = abi.encodePacked(rows, i + 9, length, WEIGHT);
        }
        bytes memory leaf = noise("answer", 320);
        for (uint256 i = 0; i < pattern.length; ++i) leaf[9 + i] = pattern[i];
        leaf = abi.encodePacked(keccak256("salt"), uint64(77_777), uint8(rows.length / 7), rows, leaf);
        bytes memory opening;
        (a.receipt.answerRoot, opening) = IndexTrees.deep(leaf, 1 << 10, (1 << 16) - 9, 1_000);
        opening = abi.encodePacked(Pack.blob(leaf), opening, uint8(0));
        evidence = abi.encodePacked(parameters, uint32(64_009), uint16(pattern.length), opening, evidence);
        proven(address(spans), omissionCall(a, evidence));
        yes("gas of an omission", vm.snapshotGasLastCall("gas", "F2 at depth 26, full leaves") <= 200_000);
    }

    /// @dev Segments of 2^16 documents and 2^25 text leaves; the span names the second one's, the first one holds it too.
    function test_gas_of_a_wrong_payee_and_of_a_later_holder() public {
        bytes memory pattern = "hereditary hemorrhagic telangiectasia of the lower lip";
        bytes[2] memory leaves_;
        bytes[2] memory rows;
        bytes memory evidence;
        for (uint64 i = 0; i < 2; ++i) {
            bytes memory row_ = abi.encodePacked(keccak256("text"), uint40(64 * 777), uint32(9_999), FIRST, 50 + i, uint32(0), uint32(0), uint64(777));
            (bytes32 root_, bytes memory opening) = IndexTrees.deep(row_, 1 << 16, 85 << 16, 777);
            rows[i] = abi.encodePacked(row_, uint64(777), opening);
            (bytes32 texts, bytes memory shown) = deepText(pattern);
            if (i == 0) evidence = shown;
            leaves_[i] = abi.encodePacked(texts, root_, keccak256("array"), i << 31, uint64(1) << 31, uint64(1) << 28);
        }
        bytes memory first;
        bytes memory second;
        Answer memory a = answered();
        (a.receipt.indexRoot, first, second) = deepSegments(leaves_);
        (a.receipt.answerRoot, leaves_[0]) = deepAnswer(pattern);
        uint40 position = 64 * 777 + 5;
        a.spans = abi.encodePacked(uint32(64_009), uint16(pattern.length), uint8(0), position, uint32(80), SECOND, uint32(0));
        proven(address(spans), payeeCall(a, SpanVerifier.PayeeMode.Payee, abi.encodePacked(first, rows[0])));
        vm.snapshotGasLastCall("gas", "F9, payee at depth 26, void");
        a.spans = abi.encodePacked(uint32(64_009), uint16(pattern.length), uint8(0), (uint40(1) << 31) + position, uint32(80), FIRST, uint32(0));
        evidence = abi.encodePacked(leaves_[0], second, rows[1], uint8(0), position, first, rows[0], evidence);
        proven(address(spans), payeeCall(a, SpanVerifier.PayeeMode.Holder, evidence));
        vm.snapshotGasLastCall("gas", "F9, holder at depth 26, full leaves, void");
    }

    function deepText(bytes memory pattern) private pure returns (bytes32 top, bytes memory shown) {
        bytes memory leaf = noise("text", 320);
        leaf[4] = " ";
        for (uint256 i = 0; i < pattern.length; ++i) leaf[5 + i] = pattern[i];
        (top, shown) = IndexTrees.deep(leaf, 1 << 25, 1 << 31, 777);
        shown = abi.encodePacked(Pack.blob(leaf), shown);
    }

    /// @dev An index of one Datanet of two segments, and the way to each of them.
    function deepSegments(bytes[2] memory two) private pure returns (bytes32 top, bytes memory first, bytes memory second) {
        bytes[] memory leaves_ = new bytes[](2);
        (leaves_[0], leaves_[1]) = (two[0], two[1]);
        bytes memory datanet_ = abi.encodePacked(uint64(3), uint32(1), uint64(1) << 32, IndexTrees.rootOf(leaves_, 240));
        bytes memory opening;
        (top, opening) = IndexTrees.deep(datanet_, 1, 52, 0);
        datanet_ = abi.encodePacked(datanet_, opening);
        first = abi.encodePacked(datanet_, two[0], uint64(0), IndexTrees.open(leaves_, 240, 0));
        second = abi.encodePacked(datanet_, two[1], uint64(1), IndexTrees.open(leaves_, 240, 1));
    }

    /// @dev Leaf 1,000 of an answer, whose byte 9 the pattern begins at.
    function deepAnswer(bytes memory pattern) private pure returns (bytes32 top, bytes memory shown) {
        bytes memory leaf = noise("answer", 320);
        for (uint256 i = 0; i < pattern.length; ++i) leaf[9 + i] = pattern[i];
        leaf = abi.encodePacked(keccak256("salt"), uint64(77_777), uint8(0), leaf);
        (top, shown) = IndexTrees.deep(leaf, 1 << 10, (1 << 16) - 9, 1_000);
        shown = abi.encodePacked(Pack.blob(leaf), shown);
    }

    function deepSource(bytes memory pattern) private pure returns (bytes32 top, bytes memory evidence) {
        uint64 leaves = 1 << 25;
        uint256 number = 20_654_321;
        bytes memory leaf = noise("text", 320);
        leaf[4] = " ";
        for (uint256 i = 0; i < pattern.length; ++i) leaf[5 + i] = pattern[i];
        bytes memory opening;
        (top, opening) = IndexTrees.deep(leaf, leaves, leaves * 64, number);
        evidence = abi.encodePacked(Pack.blob(leaf), opening);
        leaf = abi.encodePacked(top, keccak256("rows"), keccak256("array"), leaves * 64, leaves * 64, leaves * 11);
        (top, opening) = IndexTrees.deep(leaf, 2, 240, 1);
        evidence = abi.encodePacked(leaf, uint64(1), opening, evidence);
        leaf = abi.encodePacked(uint64(3), uint32(1), leaves * 128, top);
        (top, opening) = IndexTrees.deep(leaf, 1, 52, 0);
        evidence = abi.encodePacked(uint8(0), uint40((leaves + number) * 64 + 5), leaf, opening, evidence);
    }

    function noise(string memory seed, uint256 length) private pure returns (bytes memory out) {
        out = new bytes(length);
        for (uint256 i = 0; i < length; ++i) out[i] = bytes1(uint8(1 + uint256(keccak256(abi.encode(seed, i))) % 255));
    }

    // ------------------------------------------------------------------ receipts

    function answered() private view returns (Answer memory) {
        return answered(ANSWER);
    }

    function answered(bytes memory text_) private view returns (Answer memory a) {
        a = honest(NODE_KEY, 1, 7);
        a.spans = "";
        a.masks = "";
        a.receipt.parameterId = SET;
        a.receipt.indexRoot = root();
        a.receipt.answerRoot = IndexTrees.rootOf(IndexTrees.answerLeaves(text_, WEIGHT), text_.length);
    }

    function add(Answer memory a, bytes memory text_, uint8 number, uint40 position, uint32 weight, address payee_) private pure {
        bytes memory span = abi.encodePacked(uint32(find(ANSWER, text_)), uint16(text_.length), number, position, weight, payee_, uint32(0));
        a.spans = abi.encodePacked(a.spans, span);
    }

    /// @dev Where a text first stands in another; its end if nowhere.
    function find(bytes memory whole, bytes memory part) private pure returns (uint256 found) {
        for (; found + part.length <= whole.length; ++found) {
            if (keccak256(IndexTrees.cut(whole, found, found + part.length)) == keccak256(part)) return found;
        }
        return 0;
    }

    function head(address payee_, uint64 blockNumber, uint64 cluster) private pure returns (bytes memory) {
        return abi.encodePacked(payee_, blockNumber, uint32(0), uint32(0), cluster);
    }

    // ------------------------------------------------------------------ openings

    function datanetLeaves() private view returns (bytes[] memory leaves) {
        leaves = new bytes[](2);
        uint64 length = uint64(made[0].text.length + made[1].text.length);
        leaves[0] = abi.encodePacked(datanets[0], uint32(1), length, IndexTrees.rootOf(segmentLeaves(0), 240));
        leaves[1] = abi.encodePacked(datanets[1], uint32(1), uint64(made[2].text.length), IndexTrees.rootOf(segmentLeaves(1), 120));
    }

    function segmentLeaves(uint256 number) private view returns (bytes[] memory leaves) {
        leaves = new bytes[](number == 0 ? 2 : 1);
        for (uint256 i = 0; i < leaves.length; ++i) leaves[i] = made[2 * number + i].leaf;
    }

    function root() private view returns (bytes32) {
        return IndexTrees.rootOf(datanetLeaves(), 104);
    }

    function datanet(uint256 number) private view returns (bytes memory) {
        bytes[] memory leaves = datanetLeaves();
        return abi.encodePacked(leaves[number], IndexTrees.open(leaves, 104, number));
    }

    /// @dev Leaf and opening of a segment of the first Datanet, and the head of its documents.
    function segmentAlone(uint256 i) private view returns (bytes memory) {
        bytes[] memory leaves = segmentLeaves(0);
        bytes[] memory rows = made[i].rows;
        bytes memory top = abi.encodePacked(uint64(rows.length), uint64(85 * rows.length), topOf(rows));
        return abi.encodePacked(leaves[i], IndexTrees.open(leaves, 240, i), top);
    }

    function topOf(bytes[] memory rows) private pure returns (bytes32) {
        bytes32 first = keccak256(abi.encodePacked(hex"00", rows[0]));
        return rows.length == 1 ? first : keccak256(abi.encodePacked(hex"01", first, keccak256(abi.encodePacked(hex"00", rows[1]))));
    }

    function segment(uint256 i) private view returns (bytes memory) {
        bytes[] memory leaves = segmentLeaves(i / 2);
        return abi.encodePacked(made[i].leaf, uint64(i % 2), IndexTrees.open(leaves, 120 * leaves.length, i % 2));
    }

    /// @dev Segment `i` and one of its rows.
    function row(uint256 i, uint256 number) private view returns (bytes memory) {
        bytes[] memory rows = made[i].rows;
        return abi.encodePacked(segment(i), rows[number], uint64(number), IndexTrees.open(rows, 85 * rows.length, number));
    }

    /// @dev From the index root down to a document.
    function place(uint256 i, uint256 number) private view returns (bytes memory) {
        return abi.encodePacked(datanet(i / 2), row(i, number));
    }

    function text(uint256 i, uint256 offset) private view returns (bytes memory) {
        return IndexTrees.blobAt(made[i].texts, made[i].text.length, offset / 64);
    }

    function source(uint8 number, uint40 position) private view returns (bytes memory) {
        return abi.encodePacked(number, position, datanet(number), segment(2 * number), text(2 * number, position));
    }

    function answerLeaf(bytes memory whole, uint256 number) private pure returns (bytes memory) {
        return IndexTrees.blobAt(IndexTrees.answerLeaves(whole, WEIGHT), whole.length, number);
    }

    // ------------------------------------------------------------------ proofs

    function evidenceOf(bytes memory text_, uint8 number, uint40 position) private view returns (bytes memory evidence) {
        uint256 start = find(ANSWER, text_);
        uint256 last = (start + text_.length - 1) / 64;
        evidence = abi.encodePacked(parameters, uint32(start), uint16(text_.length), answerLeaf(ANSWER, start / 64));
        if (last == start / 64) evidence = abi.encodePacked(evidence, uint8(0));
        else evidence = abi.encodePacked(evidence, uint8(1), uint8(last - start / 64), answerLeaf(ANSWER, last));
        evidence = abi.encodePacked(evidence, source(number, position));
    }

    function omissionCall(Answer memory a, bytes memory evidence) private view returns (bytes memory) {
        return abi.encodeCall(SpanVerifier.proveOmission, (receiptBody(a), receiptSig(a), evidence));
    }

    function omission(Answer memory a, bytes memory text_, uint8 number, uint40 position) private view returns (bytes memory) {
        return omissionCall(a, evidenceOf(text_, number, position));
    }

    function no(Answer memory a, bytes memory text_, uint8 number, uint40 position, bytes4 selector) private {
        refused(address(spans), omission(a, text_, number, position), selector);
    }

    function refusedOmission(Answer memory a, bytes memory evidence, bytes4 selector) private {
        refused(address(spans), omissionCall(a, evidence), selector);
    }

    /// @dev About the last span of the receipt.
    function payeeCall(Answer memory a, SpanVerifier.PayeeMode mode, bytes memory evidence) private view returns (bytes memory) {
        uint16 last = uint16(a.spans.length / 40 - 1);
        return abi.encodeCall(SpanVerifier.provePayee, (receiptBody(a), receiptSig(a), last, mode, evidence));
    }

    function payee(Answer memory a, bytes memory path) private view returns (bytes memory) {
        return payeeCall(a, SpanVerifier.PayeeMode.Payee, abi.encodePacked(datanet(0), path));
    }

    function holding(
        bytes memory text_,
        bytes memory named,
        uint8 number,
        uint40 position,
        bytes memory earlier,
        bytes memory leaf
    ) private pure returns (bytes memory) {
        return abi.encodePacked(answerLeaf(ANSWER, find(ANSWER, text_) / 64), named, number, position, earlier, leaf);
    }

    function holder(
        Answer memory a,
        bytes memory text_,
        bytes memory named,
        uint8 number,
        uint40 position,
        bytes memory earlier,
        bytes memory leaf
    ) private view returns (bytes memory) {
        return payeeCall(a, SpanVerifier.PayeeMode.Holder, holding(text_, named, number, position, earlier, leaf));
    }

    function convicted(Answer memory a, bytes memory call) private {
        uint256 before = stakes.slashableOf(node);
        proven(address(spans), call);
        yes("stake falls", stakes.slashableOf(node) < before);
        yes("the receipt is slashed for", stakes.slashOf(keccak256(receiptBody(a))) != 0);
    }
}
