// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FraudVerifier} from "../src/FraudVerifier.sol";
import {Trees} from "../src/Trees.sol";
import {Pack} from "./Pack.sol";
import {Suite} from "./Suite.sol";
import {Vm} from "./Vm.sol";

/// @notice Reads tests/fixtures/vectors.json, which an independent script wrote.
abstract contract Fixture is Suite {
    /// @notice All that can be opened about a span; `evidence` packs what its mode asks for.
    struct FalseSpan {
        FraudVerifier.Mode mode;
        bytes receipt;
        bytes signature;
        uint16 span;
        bytes32 top;
        Trees.Opening answer;
        bytes answerLeaf;
        Trees.Opening datanet;
        bytes datanetLeaf;
        Trees.Opening segment;
        bytes segmentLeaf;
        Trees.Opening text;
        bytes textLeaf;
    }

    string internal json;

    function setUp() public virtual override {
        super.setUp();
        json = vm.readFile("../../tests/fixtures/vectors.json");
        vm.chainId(number(".chainId"));
    }

    function number(string memory key) internal view returns (uint256) {
        return vm.parseJsonUint(json, key);
    }

    function blob(string memory key) internal view returns (bytes memory) {
        return vm.parseJsonBytes(json, key);
    }

    function word(string memory key) internal view returns (bytes32) {
        return vm.parseJsonBytes32(json, key);
    }

    function text(string memory key) internal view returns (string memory) {
        return vm.parseJsonString(json, key);
    }

    function account(string memory key) internal view returns (address) {
        return vm.parseJsonAddress(json, key);
    }

    function has(string memory key) internal view returns (bool) {
        return vm.keyExistsJson(json, key);
    }

    /// @notice `prefix[i]`, followed by `rest`.
    function each(string memory prefix, uint256 i, string memory rest) internal pure returns (string memory) {
        return string.concat(prefix, "[", vm.toString(i), "]", rest);
    }

    function same(string memory a, string memory b) internal pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }

    function opening(string memory key) internal view returns (Trees.Opening memory) {
        return Trees.Opening({
            count: uint64(number(string.concat(key, ".count"))),
            length: uint64(number(string.concat(key, ".length"))),
            index: uint64(number(string.concat(key, ".index"))),
            siblings: vm.parseJsonBytes32Array(json, string.concat(key, ".siblings"))
        });
    }

    function sumSiblings(string memory key) internal view returns (bytes memory siblings) {
        bytes32[] memory digests = vm.parseJsonBytes32Array(json, string.concat(key, ".digests"));
        uint256[] memory sums = vm.parseJsonUintArray(json, string.concat(key, ".sums"));
        for (uint256 i = 0; i < digests.length; ++i) {
            siblings = abi.encodePacked(siblings, digests[i], uint128(sums[i]));
        }
    }

    /// @notice Everything that can be opened about span `i` of the receipt; empty for a mode that opens less.
    function openings(uint256 i) internal view returns (FalseSpan memory proof) {
        string memory key = each(".answer.spanOpenings", i, "");
        proof.answer = opening(string.concat(key, ".answer"));
        proof.answerLeaf = blob(string.concat(key, ".answerLeaf"));
        proof.datanet = opening(string.concat(key, ".datanet"));
        proof.datanetLeaf = blob(string.concat(key, ".datanetLeaf"));
        proof.segment = opening(string.concat(key, ".segment"));
        proof.segmentLeaf = blob(string.concat(key, ".segmentLeaf"));
        proof.text = opening(string.concat(key, ".text"));
        proof.textLeaf = blob(string.concat(key, ".textLeaf"));
    }

    /// @notice The call that proves a false span.
    function falseSpanCall(FalseSpan memory proof) internal pure returns (bytes memory) {
        return abi.encodeCall(
            FraudVerifier.proveFalseSpan, (proof.receipt, proof.signature, proof.span, proof.mode, evidence(proof))
        );
    }

    /// @notice Evidence of Protocol P7 for F1.
    function evidence(FalseSpan memory proof) internal pure returns (bytes memory) {
        if (proof.mode == FraudVerifier.Mode.Length) return "";
        if (proof.mode == FraudVerifier.Mode.AnswerEnd) return abi.encodePacked(proof.answer.count, proof.answer.length, proof.top);
        if (proof.mode == FraudVerifier.Mode.DatanetIndex) {
            return abi.encodePacked(proof.datanet.count, proof.datanet.length, proof.top);
        }
        bytes memory packed = bytes.concat(proof.datanetLeaf, Pack.opening(proof.datanet));
        if (proof.mode == FraudVerifier.Mode.DatanetEnd) return packed;
        packed = bytes.concat(packed, proof.segmentLeaf, bytes8(proof.segment.index), Pack.opening(proof.segment));
        packed = bytes.concat(packed, Pack.blob(proof.textLeaf), Pack.opening(proof.text));
        return bytes.concat(packed, Pack.blob(proof.answerLeaf), Pack.opening(proof.answer));
    }

    /// @notice Body of the first document of that name.
    function documentBody(string memory name) internal view returns (bytes memory) {
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            if (same(text(each(".documents", i, ".name")), name)) return blob(each(".documents", i, ".body"));
        }
        revert(string.concat("no document ", name));
    }
}
