// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FraudVerifier} from "../src/FraudVerifier.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {Desk} from "./Desk.sol";
import {Fixture} from "./Fixture.sol";

/// @notice The receipt of the vectors, changed and signed anew, with its openings; and indexes made here. A subclass says what becomes of them.
abstract contract FalseSpans is Fixture {
    uint256 internal constant SPANS_AT = 430 + 2 * 12 + 2;
    uint256 internal constant STAKE = 100 ether;
    address internal constant REPORTER = address(0x4E9);

    bytes internal honest;
    uint256 internal nodeKey;
    address internal accused;
    address internal victim;
    address internal verifying;

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

    // ------------------------------------------------------------------ the receipt of the vectors, changed and signed anew

    /// @dev The vectors' receipt with bytes of one span replaced, under the node's own key, and the openings of the span.
    function forged(uint256 span, uint256 offset, bytes memory change) internal view returns (FalseSpan memory proof) {
        proof = openings(span);
        proof.receipt = patched(honest, SPANS_AT + 40 * span + offset, change);
        proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, proof.receipt);
        proof.span = uint16(span);
    }

    function closed(FalseSpan memory proof) internal pure returns (FalseSpan memory bare) {
        bare.receipt = proof.receipt;
        bare.signature = proof.signature;
        bare.span = proof.span;
    }

    function refee(FalseSpan memory proof, uint256 fee) internal view {
        proof.receipt = patched(proof.receipt, 372, be(fee, 16));
        proof.signature = signed(nodeKey, verifying, Sig.RECEIPT, proof.receipt);
    }

    function headsFor(FalseSpan memory proof) internal view {
        if (proof.mode == FraudVerifier.Mode.AnswerEnd) proof.top = word(".answer.answerTop");
        if (proof.mode == FraudVerifier.Mode.DatanetIndex) proof.top = word(".answer.indexTop");
    }

    function openingsAgain(FalseSpan memory proof, uint256 i) internal view {
        FalseSpan memory fresh = openings(i);
        (proof.answer, proof.datanet, proof.top) = (fresh.answer, fresh.datanet, 0);
    }

    function segmentOpening(uint256 datanet, uint256 place) internal view returns (Trees.Opening memory, bytes memory) {
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

    function textOpening(string memory key, uint256 place) internal view returns (Trees.Opening memory, bytes memory) {
        bytes[] memory leaves = textLeaves(blob(key));
        return (open(leaves, blob(key).length, place), leaves[place]);
    }

    /// @dev Leaves of a segment are those of its contributions.
    function firstContributionOpening(uint256 place) internal view returns (Trees.Opening memory, bytes memory) {
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
        internal
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
    function trueInEveryMode(bytes memory text, uint16 start, uint16 length) internal {
        for (uint256 mode = 0; mode <= uint256(FraudVerifier.Mode.Bytes); ++mode) {
            FalseSpan memory proof = world(text, text, start, length, start);
            proof.mode = FraudVerifier.Mode(mode);
            if (proof.mode == FraudVerifier.Mode.AnswerEnd) proof.top = topOf(answerLeaves(text));
            if (proof.mode == FraudVerifier.Mode.DatanetIndex) proof.top = Trees.leaf(proof.datanetLeaf);
            refused(proof, abi.encodeWithSelector(FraudVerifier.SpanIsTrue.selector));
        }
    }

    function noise(uint256 seed, uint256 length) internal pure returns (bytes memory text) {
        text = new bytes(length);
        // Two letters, so that short windows agree by chance.
        for (uint256 i = 0; i < length; ++i) text[i] = uint256(keccak256(abi.encode(seed, i))) & 1 == 0 ? bytes1("a") : bytes1("b");
    }

    function answerLeaves(bytes memory answer) internal pure returns (bytes[] memory leaves) {
        leaves = textLeaves(answer);
        for (uint256 i = 0; i < leaves.length; ++i) {
            // A salt, a running weight, one word.
            leaves[i] = abi.encodePacked(keccak256(abi.encode(i)), uint64(i), uint8(1), uint8(3), uint16(5), uint32(700), leaves[i]);
        }
    }

    function textLeaves(bytes memory source) internal pure returns (bytes[] memory leaves) {
        leaves = new bytes[]((source.length + 63) / 64);
        for (uint256 i = 0; i < leaves.length; ++i) {
            uint256 end = 64 * i + 320 < source.length ? 64 * i + 320 : source.length;
            leaves[i] = new bytes(end - 64 * i);
            for (uint256 j = 0; j < leaves[i].length; ++j) leaves[i][j] = source[64 * i + j];
        }
    }

    function topOf(bytes[] memory leaves) internal pure returns (bytes32) {
        Trees.Opening memory first = open(leaves, 0, 0);
        bytes32 digest = Trees.leaf(leaves[0]);
        for (uint256 i = 0; i < first.siblings.length; ++i) digest = Trees.node(digest, first.siblings[i]);
        return digest;
    }

    function open(bytes[] memory leaves, uint256 length, uint256 place) internal pure returns (Trees.Opening memory opened) {
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

    function voided(bytes32 receiptHash, uint16 span) internal view returns (uint256) {
        return Settlement(verifying).voidedAt(keccak256(abi.encodePacked(receiptHash, span)));
    }

    function faultOf(FalseSpan memory proof) internal pure returns (bytes32) {
        return keccak256(proof.receipt);
    }

    function laneOf(FalseSpan memory proof) internal pure returns (bytes32 lane) {
        bytes memory receipt = proof.receipt;
        assembly ("memory-safe") {
            lane := mload(add(receipt, 106))
        }
    }

    function prove(FalseSpan memory proof) internal {
        verifier.proveFalseSpan(proof.receipt, proof.signature, proof.span, proof.mode, evidence(proof));
    }

    /// @dev Divides the slash for a proof, after its delay.
    function release(FalseSpan memory proof, uint256 amount, uint256 lost) internal {
        uint64 releaseAt = uint64(block.timestamp) + SLASH_DELAY;
        vm.warp(releaseAt);
        stakes.release(
            StakeManager.Slash(faultOf(proof), accused, uint128(amount), victim, uint128(lost), laneOf(proof), REPORTER, releaseAt), ""
        );
    }

    function flipped(bytes memory content) internal pure returns (bytes memory out) {
        out = bytes.concat(content);
        out[0] ^= 0x01;
    }

    function commit(FalseSpan memory proof) internal {
        bytes32 hash = verifier.proofHash(REPORTER, falseSpanCall(proof));
        if (verifier.committedAt(hash) == 0) verifier.commitProof(hash);
        vm.roll(block.number + 1);
    }

    function proven(FalseSpan memory proof) internal {
        commit(proof);
        uint256 before = stakes.slashableOf(accused);
        vm.prank(REPORTER);
        prove(proof);
        yes("stake falls", stakes.slashableOf(accused) < before);
        yes("the fault is kept", stakes.slashOf(faultOf(proof)) != 0);
    }

    function refused(FalseSpan memory proof, bytes memory reason) internal {
        commit(proof);
        vm.prank(REPORTER);
        vm.expectRevert(reason);
        prove(proof);
    }

    function refusedWith(FalseSpan memory proof, bytes4 selector) internal {
        commit(proof);
        vm.prank(REPORTER);
        (bool done, bytes memory reason) = address(verifier).call(falseSpanCall(proof));
        yes("refused", !done);
        eq("error", bytes32(selector), bytes32(bytes4(reason)));
    }

    function be(uint256 value, uint256 size) internal pure returns (bytes memory out) {
        out = new bytes(size);
        for (uint256 i = 0; i < size; ++i) out[size - 1 - i] = bytes1(uint8(value >> (8 * i)));
    }

    function patched(bytes memory body, uint256 offset, bytes memory change) internal pure returns (bytes memory out) {
        out = bytes.concat(body);
        for (uint256 i = 0; i < change.length; ++i) out[offset + i] = change[i];
    }
}
