// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {FraudVerifier} from "../src/FraudVerifier.sol";
import {ISettlement, IStakes} from "../src/Ports.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {FalseSpans} from "./FalseSpans.sol";

/// @notice F1 against the receipt of the vectors: its three spans are true, and each forgery of them is proven.
contract FraudVerifierTest is FalseSpans {
    function test_no_mode_refutes_a_true_span() public {
        for (uint16 i = 0; i < 3; ++i) {
            FalseSpan memory proof = openings(i);
            proof.receipt = honest;
            proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, honest);
            proof.span = i;
            for (uint256 mode = 0; mode <= uint256(FraudVerifier.Mode.Bytes); ++mode) {
                proof.mode = FraudVerifier.Mode(mode);
                headsFor(proof);
                refused(proof, abi.encodeWithSelector(FraudVerifier.SpanIsTrue.selector));
                openingsAgain(proof, i);
            }
        }
        eq("stake", STAKE, stakes.stakeOf(accused));
    }

    function test_bytes_that_differ_cost_a_tenth_of_the_stake_and_the_client_gets_its_fee_back() public {
        FalseSpan memory proof = forged(0, 0, be(uint256(70), 4));
        proof.mode = FraudVerifier.Mode.Bytes;
        uint256 fee = number(".documents[4].fields.fee");
        StakeManager.Division memory parts = stakes.divide(uint128(STAKE / 10), uint128(fee));
        proven(proof);
        eq("stake", STAKE - STAKE / 10, stakes.stakeOf(accused));
        release(proof, STAKE / 10, fee);
        eq("client", fee, victim.balance);
        eq("reporter", parts.toReporter, REPORTER.balance);
        eq("burned", parts.burned, stakes.BURN().balance);
        eq("insured", parts.insured, address(pool).balance);
        refused(proof, abi.encodeWithSelector(StakeManager.AlreadySlashed.selector, faultOf(proof)));
    }

    function test_another_position_is_refuted() public {
        FalseSpan memory proof = forged(0, 7, be(uint256(216), 5));
        proof.mode = FraudVerifier.Mode.Bytes;
        proven(proof);
    }

    function test_a_position_in_a_second_segment_is_refuted() public {
        // Span 1 stands in segment 0 of Datanet 1; the forgery points into segment 1, which is opened.
        FalseSpan memory proof = forged(1, 7, be(uint256(178), 5));
        proof.mode = FraudVerifier.Mode.Bytes;
        refused(proof, abi.encodeWithSelector(FraudVerifier.OutsideSegment.selector, 178, 0, 178));
        (proof.segment, proof.segmentLeaf) = segmentOpening(1, 1);
        (proof.text, proof.textLeaf) = textOpening(".index.datanets[1].segments[1].text", 0);
        proven(proof);
    }

    function test_an_empty_or_overlong_span_is_refuted_without_openings() public {
        for (uint256 i = 0; i < 2; ++i) {
            FalseSpan memory proof = closed(forged(i, 4, be(i == 0 ? 0 : 257, 2)));
            proof.mode = FraudVerifier.Mode.Length;
            proven(proof);
        }
    }

    function test_a_span_beyond_the_answer_is_refuted_by_the_roots_head() public {
        uint256 length = blob(".answer.answerBytes").length;
        FalseSpan memory proof = forged(2, 0, be(length - 97, 4));
        proof.mode = FraudVerifier.Mode.AnswerEnd;
        headsFor(proof);
        proven(proof);
        // One byte earlier it ends with the answer, and only its bytes can be wrong.
        proof = forged(2, 0, be(length - 98, 4));
        proof.mode = FraudVerifier.Mode.AnswerEnd;
        headsFor(proof);
        refused(proof, abi.encodeWithSelector(FraudVerifier.SpanIsTrue.selector));
    }

    function test_a_datanet_the_index_lacks_is_refuted_by_the_roots_head() public {
        FalseSpan memory proof = forged(2, 6, hex"02");
        proof.mode = FraudVerifier.Mode.DatanetIndex;
        headsFor(proof);
        proven(proof);
    }

    function test_a_span_beyond_its_datanet_is_refuted() public {
        FalseSpan memory proof = forged(2, 7, be(number(".index.datanets[0].bytes") - 97, 5));
        proof.mode = FraudVerifier.Mode.Bytes;
        refused(proof, abi.encodeWithSelector(FraudVerifier.NotInThisMode.selector, "the span ends beyond its Datanet"));
        proof.mode = FraudVerifier.Mode.DatanetEnd;
        proven(proof);
        // One byte earlier it ends with the Datanet, and only its bytes can be wrong.
        proof = forged(2, 7, be(number(".index.datanets[0].bytes") - 98, 5));
        proof.mode = FraudVerifier.Mode.DatanetEnd;
        refused(proof, abi.encodeWithSelector(FraudVerifier.SpanIsTrue.selector));
    }

    function test_a_span_over_a_contributions_end_is_refuted() public {
        // The first contribution ends at byte 288 of its segment; its text leaf ends there too, so the span cannot be inside.
        bytes memory first = blob(".index.datanets[0].segments[0].contributions[0].text");
        uint256 position = first.length - 20;
        FalseSpan memory proof = forged(0, 7, be(position, 5));
        proof.mode = FraudVerifier.Mode.Bytes;
        (proof.text, proof.textLeaf) = firstContributionOpening(position / 64);
        proven(proof);
    }

    function test_a_malformed_answer_leaf_refutes_its_node() public {
        FalseSpan memory proof = forged(0, 0, be(uint256(69), 4));
        proof.mode = FraudVerifier.Mode.Bytes;
        bytes[2] memory leaves = [bytes(hex"0102"), abi.encodePacked(new bytes(40), hex"ff", new bytes(300))];
        for (uint256 i = 0; i < 2; ++i) {
            // An answer tree of two leaves, whose second is the malformed one.
            bytes32[] memory siblings = new bytes32[](1);
            siblings[0] = Trees.leaf("first");
            proof.answer = Trees.Opening({count: 2, length: 128, index: 1, siblings: siblings});
            proof.answerLeaf = leaves[i];
            bytes32 root = Trees.root(2, 128, Trees.node(siblings[0], Trees.leaf(leaves[i])));
            proof.receipt = patched(patched(honest, SPANS_AT, be(uint256(69 + i), 4)), 264, abi.encodePacked(root));
            proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, proof.receipt);
            proven(proof);
        }
    }

    function test_openings_of_other_trees_and_leaves_are_refused() public {
        FalseSpan memory proof = forged(0, 0, be(uint256(70), 4));
        proof.mode = FraudVerifier.Mode.Bytes;
        bytes memory kept = proof.answerLeaf;
        proof.answerLeaf = abi.encodePacked(kept, hex"00");
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof.answerLeaf = kept;
        kept = proof.textLeaf;
        proof.textLeaf = abi.encodePacked(kept, hex"00");
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof.textLeaf = kept;
        kept = proof.segmentLeaf;
        proof.segmentLeaf = flipped(kept);
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof.segmentLeaf = kept;
        kept = proof.datanetLeaf;
        proof.datanetLeaf = flipped(kept);
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof.datanetLeaf = kept;

        FalseSpan memory others = openings(2);
        (proof.answer, proof.answerLeaf) = (others.answer, others.answerLeaf);
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof = forged(0, 0, be(uint256(70), 4));
        proof.mode = FraudVerifier.Mode.Bytes;
        (proof.text, proof.textLeaf) = (others.text, others.textLeaf);
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        others = openings(1);
        (proof.datanet, proof.datanetLeaf) = (others.datanet, others.datanetLeaf);
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof.mode = FraudVerifier.Mode.AnswerEnd;
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof.mode = FraudVerifier.Mode.DatanetIndex;
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof = forged(0, 4, be(uint256(0), 2));
        proof.mode = FraudVerifier.Mode.Bytes;
        refused(proof, abi.encodeWithSelector(FraudVerifier.NotInThisMode.selector, "the span's length"));
        eq("stake", STAKE, stakes.stakeOf(accused));
    }

    function test_a_proof_is_committed_by_its_reporter_in_an_earlier_block() public {
        FalseSpan memory proof = closed(forged(0, 4, be(uint256(0), 2)));
        proof.mode = FraudVerifier.Mode.Length;
        bytes32 hash = verifier.proofHash(REPORTER, falseSpanCall(proof));
        vm.prank(REPORTER);
        vm.expectRevert(abi.encodeWithSelector(FaultBase.NotCommitted.selector, hash));
        prove(proof);
        verifier.commitProof(hash);
        vm.expectRevert(abi.encodeWithSelector(FaultBase.AlreadyCommitted.selector, hash));
        verifier.commitProof(hash);
        vm.prank(REPORTER);
        vm.expectRevert(abi.encodeWithSelector(FaultBase.CommittedInThisBlock.selector, block.number));
        prove(proof);
        vm.roll(block.number + 1);
        // Whoever copies the revealed proof has not committed to it under its own address.
        bytes32 copied = verifier.proofHash(address(0xC0), falseSpanCall(proof));
        vm.prank(address(0xC0));
        vm.expectRevert(abi.encodeWithSelector(FaultBase.NotCommitted.selector, copied));
        prove(proof);
        vm.prank(REPORTER);
        prove(proof);
    }

    function test_only_the_nodes_own_signature_counts() public {
        FalseSpan memory proof = closed(forged(0, 4, be(uint256(0), 2)));
        proof.mode = FraudVerifier.Mode.Length;
        proof.signature = signed(nodeKey + 1, verifying, Sig.RECEIPT, proof.receipt);
        refused(
            proof, abi.encodeWithSelector(FaultBase.ReceiptSignature.selector, accused, vm.addr(nodeKey + 1))
        );
        proof.signature = hex"1234";
        refused(proof, abi.encodeWithSelector(FaultBase.ReceiptSignature.selector, accused, address(0)));
        // Signed for another contract: not a receipt.
        proof.signature = signed(nodeKey, address(escrow), Sig.RECEIPT, proof.receipt);
        refusedWith(proof, FaultBase.ReceiptSignature.selector);
        // A receipt that names nobody is not signed by whoever made an invalid signature.
        proof.receipt = patched(proof.receipt, 54, abi.encodePacked(address(0)));
        proof.signature = hex"";
        refusedWith(proof, FaultBase.ReceiptSignature.selector);
    }

    function test_an_unbonding_node_is_slashed_and_one_without_stake_loses_nothing() public {
        vm.prank(accused);
        stakes.unbond(uint128(STAKE));
        FalseSpan memory proof = closed(forged(0, 4, be(uint256(0), 2)));
        proof.mode = FraudVerifier.Mode.Length;
        proven(proof);
        eq("left", STAKE - STAKE / 10, stakes.slashableOf(accused));
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(accused);
        stakes.withdraw();
        proof = closed(forged(1, 4, be(uint256(0), 2)));
        proof.mode = FraudVerifier.Mode.Length;
        commit(proof);
        vm.prank(REPORTER);
        prove(proof);
        eq("nothing is left to take", 0, stakes.slashableOf(accused));
        yes("and it is not taken later", stakes.slashOf(faultOf(proof)) != 0);
    }

    function test_a_high_fee_costs_twice_itself_and_never_more_than_the_stake() public {
        FalseSpan memory proof = closed(forged(0, 4, be(uint256(0), 2)));
        proof.mode = FraudVerifier.Mode.Length;
        refee(proof, 15 ether);
        proven(proof);
        eq("twice the fee", STAKE - 30 ether, stakes.stakeOf(accused));
        release(proof, 30 ether, 15 ether);
        eq("refund", 15 ether, victim.balance);
        refee(proof, 500 ether);
        proven(proof);
        eq("all of it", 0, stakes.stakeOf(accused));
        release(proof, 70 ether, 500 ether);
        yes("the burn is never zero", stakes.BURN().balance >= 7 ether);
    }

    function test_a_receipt_is_slashed_for_once_however_many_of_its_spans_are_false() public {
        bytes memory receipt = patched(patched(honest, SPANS_AT + 4, hex"0000"), SPANS_AT + 44, hex"0000");
        FalseSpan memory proof;
        proof.receipt = receipt;
        proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, receipt);
        proven(proof);
        bytes32 hash = keccak256(receipt);
        yes("its span is void", voided(hash, 0) == block.timestamp);
        eq("the other is not yet", 0, voided(hash, 1));
        refused(proof, abi.encodeWithSelector(StakeManager.AlreadySlashed.selector, hash));
        uint256 left = stakes.slashableOf(accused);
        proof.span = 1;
        commit(proof);
        vm.prank(REPORTER);
        prove(proof);
        eq("no second slash", left, stakes.slashableOf(accused));
        eq("one fault", 1, stakes.recentFaults(accused));
        yes("and the other span is void", voided(hash, 1) == block.timestamp);
        refused(proof, abi.encodeWithSelector(StakeManager.AlreadySlashed.selector, hash));
        eq("the receipt is not void", 0, Settlement(verifying).voidedAt(hash));
    }

    function test_a_late_proof_slashes_and_voids_nothing_and_the_span_can_be_voided_still() public {
        FalseSpan memory proof = closed(forged(2, 4, be(uint256(0), 2)));
        bytes memory late = abi.encodeCall(
            FraudVerifier.slashFalseSpan, (proof.receipt, proof.signature, proof.span, proof.mode, evidence(proof))
        );
        verifier.commitProof(verifier.proofHash(REPORTER, late));
        vm.roll(block.number + 1);
        vm.prank(REPORTER);
        (bool done,) = address(verifier).call(late);
        yes("slashed", done && stakes.recentFaults(accused) == 1);
        eq("not void", 0, voided(faultOf(proof), 2));
        commit(proof);
        vm.prank(REPORTER);
        prove(proof);
        eq("void", block.timestamp, voided(faultOf(proof), 2));
        eq("one fault", 1, stakes.recentFaults(accused));
    }

    function test_a_late_proof_takes_what_the_other_takes_and_no_true_span() public {
        FalseSpan memory proof = closed(forged(2, 4, be(uint256(0), 2)));
        proof.receipt = honest;
        proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, honest);
        bytes memory late = abi.encodeCall(
            FraudVerifier.slashFalseSpan, (proof.receipt, proof.signature, proof.span, proof.mode, evidence(proof))
        );
        verifier.commitProof(verifier.proofHash(REPORTER, late));
        vm.roll(block.number + 1);
        vm.prank(REPORTER);
        (bool done,) = address(verifier).call(late);
        yes("a true span is refused", !done && stakes.recentFaults(accused) == 0);
    }

    function test_a_false_span_of_a_receipt_that_was_slashed_for_something_else_is_void_without_a_slash() public {
        FalseSpan memory proof = closed(forged(2, 4, be(uint256(0), 2)));
        vm.prank(address(verifier));
        stakes.slash(accused, 1, victim, 1, laneOf(proof), REPORTER, faultOf(proof));
        uint256 left = stakes.slashableOf(accused);
        commit(proof);
        vm.prank(REPORTER);
        prove(proof);
        eq("stake", left, stakes.slashableOf(accused));
        eq("void", block.timestamp, voided(faultOf(proof), 2));
        refused(proof, abi.encodeWithSelector(StakeManager.AlreadySlashed.selector, faultOf(proof)));
    }

    function testFuzz_a_span_of_one_receipt_is_no_other_and_no_receipt(bytes32 hash, bytes32 otherHash, uint16 span, uint16 otherSpan) public pure {
        bytes32 id = Codec.spanId(hash, span);
        eq("id", keccak256(bytes.concat(hash, bytes2(span))), id);
        yes("another", (hash == otherHash && span == otherSpan) == (id == Codec.spanId(otherHash, otherSpan)));
        yes("no receipt", id != hash);
    }

    function test_a_span_the_receipt_lacks_is_refused() public {
        FalseSpan memory proof = closed(forged(0, 4, be(uint256(0), 2)));
        proof.span = 3;
        refused(proof, abi.encodeWithSelector(Codec.SpanBeyondReceipt.selector, 3, 3));
    }

    function test_constructor_refuses_zero_addresses() public {
        vm.expectRevert(abi.encodeWithSelector(FaultBase.ZeroAddress.selector, "stakeManager"));
        new FraudVerifier(IStakes(address(0)), ISettlement(verifying), 0, 0);
        vm.expectRevert(abi.encodeWithSelector(FaultBase.ZeroAddress.selector, "settlement"));
        new FraudVerifier(IStakes(address(stakes)), ISettlement(address(0)), 0, 0);
    }

    function test_an_age_that_no_chain_fits_an_epoch_into_is_refused() public {
        uint256 epochSeconds = EPOCH_MIN + W1 / 3;
        uint64 short = uint64(epochSeconds / 12);
        IStakes port = IStakes(address(stakes));
        ISettlement books = ISettlement(address(settlement));
        vm.expectRevert(abi.encodeWithSelector(FaultBase.AgeTooShort.selector, epochSeconds, short * 12));
        new FraudVerifier(port, books, GRACE_BLOCKS, short);
        new FraudVerifier(port, books, GRACE_BLOCKS, short + 1);
        vm.expectRevert();
        vm.deployCode("PayoutVerifier.sol:PayoutVerifier", abi.encode(stakes, settlement, registry, escrow, challenges, short));
        vm.deployCode("PayoutVerifier.sol:PayoutVerifier", abi.encode(stakes, settlement, registry, escrow, challenges, short + 1));
    }

    /// @notice An index of one contribution and an answer that quotes from it: whatever span the node signs, the proof holds exactly if the
    /// span is false.
    function testFuzz_a_span_is_refuted_exactly_if_it_is_false(uint256 seed, uint16 start, uint16 length, uint16 position) public {
        bytes memory source = noise(seed, 700);
        bytes memory answer = noise(seed >> 8, 500);
        for (uint256 i = 0; i < 200; ++i) answer[150 + i] = source[300 + i];
        length = 1 + length % 256;
        start = uint16(start % (answer.length - length + 1));
        // Every second run names the true source of the quoted part.
        if (seed & 1 == 0) {
            length = 1 + length % 100;
            start = 150 + start % 100;
            position = start + 150;
        } else {
            position = uint16(position % (source.length - length + 1));
        }
        FalseSpan memory proof = world(source, answer, start, length, position);
        bool holds = true;
        for (uint256 i = 0; i < length; ++i) holds = holds && answer[start + i] == source[position + i];
        if (holds) refused(proof, abi.encodeWithSelector(FraudVerifier.SpanIsTrue.selector));
        else proven(proof);
        yes("every second span is true", seed & 1 == 1 || holds);
    }

    /// @notice Spans that begin and end where leaves, strides and texts do, up to the longest: true ones are refuted in no mode, and one byte
    /// further along the source they are false.
    function test_true_spans_at_every_boundary_are_refuted_in_no_mode() public {
        uint16[6] memory starts = [uint16(0), 1, 63, 64, 127, 128];
        uint16[4] memory lengths = [uint16(1), 64, 255, 256];
        for (uint256 sized = 0; sized < 2; ++sized) {
            // A last leaf that is full, and one of a single byte.
            bytes memory text = noise(11, sized == 0 ? 384 : 385);
            for (uint256 i = 0; i < starts.length; ++i) {
                for (uint256 j = 0; j < lengths.length; ++j) trueInEveryMode(text, starts[i], lengths[j]);
            }
            for (uint256 j = 0; j < lengths.length; ++j) trueInEveryMode(text, uint16(text.length - lengths[j]), lengths[j]);
        }
        eq("stake", STAKE, stakes.stakeOf(accused));
        bytes memory source = noise(11, 385);
        proven(world(source, source, 127, 256, 128));
        proven(world(source, source, 128, 256, 129));
    }

    function test_inner_nodes_stand_for_no_leaf() public {
        // Every leaf of this text but the last five holds the same bytes.
        bytes memory same64 = noise(3, 64);
        bytes memory text = new bytes(0);
        for (uint256 i = 0; i < 12; ++i) text = bytes.concat(text, same64);
        FalseSpan memory proof = world(text, noise(4, 768), 0, 64, 64);
        bytes[] memory leaves = textLeaves(text);
        // Two digests side by side are a node's content, not a leaf's; a shallower tree has another head.
        proof.textLeaf = abi.encodePacked(Trees.leaf(leaves[0]), Trees.leaf(leaves[1]));
        proof.text = open(leaves, text.length, 0);
        bytes32[] memory above = new bytes32[](proof.text.siblings.length - 1);
        for (uint256 i = 0; i < above.length; ++i) above[i] = proof.text.siblings[i + 1];
        proof.text.siblings = above;
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        proof.text.count = 8;
        refusedWith(proof, FraudVerifier.WrongRoot.selector);
        eq("stake", STAKE, stakes.stakeOf(accused));
    }
}
