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
import {Desk} from "./Desk.sol";
import {Fixture} from "./Fixture.sol";

/// @notice F1 against the receipt of the vectors: its three spans are true, and each forgery of them is proven.
contract FraudVerifierTest is Fixture {
    uint256 private constant SPANS_AT = 430 + 2 * 12 + 2;
    uint256 private constant STAKE = 100 ether;
    address private constant REPORTER = address(0x4E9);

    bytes private honest;
    uint256 private nodeKey;
    address private accused;
    address private victim;
    address private verifying;

    function setUp() public override {
        super.setUp();
        honest = documentBody("Receipt");
        nodeKey = uint256(word(".keys.node.secret"));
        accused = account(".keys.node.account");
        victim = account(".keys.client.account");
        // The vectors' receipts are signed for the vectors' Settlement.
        verifying = account(".contracts.Settlement");
        newStakes();
        newVerifiers(verifying);
        name(address(new Desk(escrow)), address(verifier));
        bond(accused, STAKE);
    }

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

    // ------------------------------------------------------------------ the receipt of the vectors, changed and signed anew

    /// @dev The vectors' receipt with bytes of one span replaced, under the node's own key, and the openings of the span.
    function forged(uint256 span, uint256 offset, bytes memory change) private view returns (FalseSpan memory proof) {
        proof = openings(span);
        proof.receipt = patched(honest, SPANS_AT + 40 * span + offset, change);
        proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, proof.receipt);
        proof.span = uint16(span);
    }

    function closed(FalseSpan memory proof) private pure returns (FalseSpan memory bare) {
        bare.receipt = proof.receipt;
        bare.signature = proof.signature;
        bare.span = proof.span;
    }

    function refee(FalseSpan memory proof, uint256 fee) private view {
        proof.receipt = patched(proof.receipt, 372, be(fee, 16));
        proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, proof.receipt);
    }

    function headsFor(FalseSpan memory proof) private view {
        if (proof.mode == FraudVerifier.Mode.AnswerEnd) proof.top = word(".answer.answerTop");
        if (proof.mode == FraudVerifier.Mode.DatanetIndex) proof.top = word(".answer.indexTop");
    }

    function openingsAgain(FalseSpan memory proof, uint256 i) private view {
        FalseSpan memory fresh = openings(i);
        (proof.answer, proof.datanet, proof.top) = (fresh.answer, fresh.datanet, 0);
    }

    function segmentOpening(uint256 datanet, uint256 place) private view returns (Trees.Opening memory, bytes memory) {
        string memory segments = string.concat(each(".index.datanets", datanet, ""), ".segments");
        uint256 count = 0;
        while (has(each(segments, count, ""))) ++count;
        bytes[] memory leaves = new bytes[](count);
        uint256 length = 0;
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = blob(each(segments, i, ".leaf"));
            length += leaves[i].length;
        }
        return (open(leaves, length, place), leaves[place]);
    }

    function textOpening(string memory key, uint256 place) private view returns (Trees.Opening memory, bytes memory) {
        bytes[] memory leaves = textLeaves(blob(key));
        return (open(leaves, blob(key).length, place), leaves[place]);
    }

    /// @dev Leaves of a segment are those of its contributions.
    function firstContributionOpening(uint256 place) private view returns (Trees.Opening memory, bytes memory) {
        string memory segment = ".index.datanets[0].segments[0]";
        bytes[] memory first = textLeaves(blob(string.concat(segment, ".contributions[0].text")));
        bytes[] memory second = textLeaves(blob(string.concat(segment, ".contributions[1].text")));
        bytes[] memory leaves = new bytes[](first.length + second.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            leaves[i] = i < first.length ? first[i] : second[i - first.length];
        }
        return (open(leaves, blob(string.concat(segment, ".text")).length, place), leaves[place]);
    }

    // ------------------------------------------------------------------ an index made here

    function world(bytes memory source, bytes memory answer, uint256 start, uint256 length, uint256 position)
        private
        view
        returns (FalseSpan memory proof)
    {
        proof.mode = FraudVerifier.Mode.Bytes;
        bytes[] memory texts = textLeaves(source);
        proof.textLeaf = texts[position / 64];
        proof.text = open(texts, source.length, position / 64);
        bytes32 textRoot = Trees.root(proof.text.count, proof.text.length, topOf(texts));
        proof.segmentLeaf = abi.encodePacked(textRoot, bytes32(0), bytes32(0), uint64(0), uint64(source.length), uint64(0));
        proof.segment = Trees.Opening({count: 1, length: 120, index: 0, siblings: new bytes32[](0)});
        proof.datanetLeaf = abi.encodePacked(
            uint64(3), uint32(1), uint64(source.length), Trees.root(1, 120, Trees.leaf(proof.segmentLeaf))
        );
        proof.datanet = Trees.Opening({count: 1, length: 52, index: 0, siblings: new bytes32[](0)});

        bytes[] memory answers = answerLeaves(answer);
        proof.answerLeaf = answers[start / 64];
        proof.answer = open(answers, answer.length, start / 64);
        bytes memory receipt = honest;
        receipt = patched(receipt, 154, abi.encodePacked(Trees.root(1, 52, Trees.leaf(proof.datanetLeaf))));
        receipt = patched(receipt, 264, abi.encodePacked(Trees.root(proof.answer.count, proof.answer.length, topOf(answers))));
        receipt = patched(receipt, SPANS_AT, abi.encodePacked(uint32(start), uint16(length), uint8(0), uint40(position)));
        proof.receipt = receipt;
        proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, receipt);
    }

    /// @dev The text quotes itself: the span's bytes are those of its source.
    function trueInEveryMode(bytes memory text, uint16 start, uint16 length) private {
        for (uint256 mode = 0; mode <= uint256(FraudVerifier.Mode.Bytes); ++mode) {
            FalseSpan memory proof = world(text, text, start, length, start);
            proof.mode = FraudVerifier.Mode(mode);
            if (proof.mode == FraudVerifier.Mode.AnswerEnd) proof.top = topOf(answerLeaves(text));
            if (proof.mode == FraudVerifier.Mode.DatanetIndex) proof.top = Trees.leaf(proof.datanetLeaf);
            refused(proof, abi.encodeWithSelector(FraudVerifier.SpanIsTrue.selector));
        }
    }

    function noise(uint256 seed, uint256 length) private pure returns (bytes memory text) {
        text = new bytes(length);
        // Two letters, so that short windows agree by chance.
        for (uint256 i = 0; i < length; ++i) text[i] = uint256(keccak256(abi.encode(seed, i))) & 1 == 0 ? bytes1("a") : bytes1("b");
    }

    function answerLeaves(bytes memory answer) private pure returns (bytes[] memory leaves) {
        leaves = textLeaves(answer);
        for (uint256 i = 0; i < leaves.length; ++i) {
            // A salt, a running weight, one word.
            leaves[i] = abi.encodePacked(keccak256(abi.encode(i)), uint64(i), uint8(1), uint8(3), uint16(5), uint32(700), leaves[i]);
        }
    }

    function textLeaves(bytes memory source) private pure returns (bytes[] memory leaves) {
        leaves = new bytes[]((source.length + 63) / 64);
        for (uint256 i = 0; i < leaves.length; ++i) {
            uint256 end = 64 * i + 320 < source.length ? 64 * i + 320 : source.length;
            leaves[i] = new bytes(end - 64 * i);
            for (uint256 j = 0; j < leaves[i].length; ++j) leaves[i][j] = source[64 * i + j];
        }
    }

    function topOf(bytes[] memory leaves) private pure returns (bytes32) {
        Trees.Opening memory first = open(leaves, 0, 0);
        bytes32 digest = Trees.leaf(leaves[0]);
        for (uint256 i = 0; i < first.siblings.length; ++i) digest = Trees.node(digest, first.siblings[i]);
        return digest;
    }

    function open(bytes[] memory leaves, uint256 length, uint256 place) private pure returns (Trees.Opening memory opened) {
        uint256 depth = Trees.depth(uint64(leaves.length));
        opened = Trees.Opening({
            count: uint64(leaves.length),
            length: uint64(length),
            index: uint64(place),
            siblings: new bytes32[](depth)
        });
        bytes32[] memory level = new bytes32[](1 << depth);
        for (uint256 i = 0; i < leaves.length; ++i) level[i] = Trees.leaf(leaves[i]);
        for (uint256 d = 0; d < depth; ++d) {
            opened.siblings[d] = level[(place >> d) ^ 1];
            for (uint256 i = 0; i < level.length >> (d + 1); ++i) level[i] = Trees.node(level[2 * i], level[2 * i + 1]);
        }
    }

    // ------------------------------------------------------------------ outcomes

    function voided(bytes32 receiptHash, uint16 span) private view returns (uint256) {
        return Settlement(verifying).voidedAt(keccak256(abi.encodePacked(receiptHash, span)));
    }

    function faultOf(FalseSpan memory proof) private pure returns (bytes32) {
        return keccak256(proof.receipt);
    }

    function laneOf(FalseSpan memory proof) private pure returns (bytes32 lane) {
        bytes memory receipt = proof.receipt;
        assembly ("memory-safe") {
            lane := mload(add(receipt, 106))
        }
    }

    function prove(FalseSpan memory proof) private {
        verifier.proveFalseSpan(proof.receipt, proof.signature, proof.span, proof.mode, evidence(proof));
    }

    /// @dev Divides the slash for a proof, after its delay.
    function release(FalseSpan memory proof, uint256 amount, uint256 lost) private {
        uint64 releaseAt = uint64(block.timestamp) + SLASH_DELAY;
        vm.warp(releaseAt);
        stakes.release(
            StakeManager.Slash(faultOf(proof), accused, uint128(amount), victim, uint128(lost), laneOf(proof), REPORTER, releaseAt), ""
        );
    }

    function flipped(bytes memory content) private pure returns (bytes memory out) {
        out = bytes.concat(content);
        out[0] ^= 0x01;
    }

    function commit(FalseSpan memory proof) private {
        bytes32 hash = verifier.proofHash(REPORTER, falseSpanCall(proof));
        if (verifier.committedAt(hash) == 0) verifier.commitProof(hash);
        vm.roll(block.number + 1);
    }

    function proven(FalseSpan memory proof) private {
        commit(proof);
        uint256 before = stakes.slashableOf(accused);
        vm.prank(REPORTER);
        prove(proof);
        yes("stake falls", stakes.slashableOf(accused) < before);
        yes("the fault is kept", stakes.slashOf(faultOf(proof)) != 0);
    }

    function refused(FalseSpan memory proof, bytes memory reason) private {
        commit(proof);
        vm.prank(REPORTER);
        vm.expectRevert(reason);
        prove(proof);
    }

    function refusedWith(FalseSpan memory proof, bytes4 selector) private {
        commit(proof);
        vm.prank(REPORTER);
        (bool done, bytes memory reason) = address(verifier).call(falseSpanCall(proof));
        yes("refused", !done);
        eq("error", bytes32(selector), bytes32(bytes4(reason)));
    }

    function be(uint256 value, uint256 size) private pure returns (bytes memory out) {
        out = new bytes(size);
        for (uint256 i = 0; i < size; ++i) out[size - 1 - i] = bytes1(uint8(value >> (8 * i)));
    }

    function patched(bytes memory body, uint256 offset, bytes memory change) private pure returns (bytes memory out) {
        out = bytes.concat(body);
        for (uint256 i = 0; i < change.length; ++i) out[offset + i] = change[i];
    }
}
