// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IndexTrees} from "./IndexTrees.sol";
import {Transcript} from "./Transcript.sol";

/// @notice Answers whose leaves, prompt and word table are known, to tell lies about.
abstract contract AnswerWorld is Transcript {
    uint32 internal constant SET = 2;
    uint8 internal constant M = 4;
    uint32 internal constant THETA = 45;
    /// @dev Of each row of an honest leaf here, and of a word without a table row.
    uint32 internal constant WEIGHT = 10;

    bytes internal parameters;
    /// @dev What a receipt's answer root is over, and the answer's bytes; the same of its prompt.
    bytes[] internal leaves;
    uint256 internal answerBytes;
    bytes[] internal prompted;
    uint256 internal promptBytes;

    function setUp() public virtual override {
        super.setUp();
        bytes[] memory rows = table();
        parameters = abi.encodePacked(SET, M, THETA, WEIGHT, IndexTrees.rootOf(rows, IndexTrees.sizes(rows)));
        vm.prank(governor);
        registry.approveParameters(SET, keccak256(parameters));
    }

    /// @dev The verifier that a test is about.
    function target() internal view virtual returns (address);

    // ------------------------------------------------------------------ receipts

    /// @dev An answer of these words, each of weight 10, and what was asked.
    function tell(bytes memory answer, bytes memory prompt) internal {
        leaves = IndexTrees.answerLeaves(answer, WEIGHT);
        answerBytes = answer.length;
        prompted = IndexTrees.textLeaves(prompt);
        for (uint256 i = 0; i < prompted.length; ++i) prompted[i] = abi.encodePacked(keccak256(abi.encode("prompt salt", i)), prompted[i]);
        promptBytes = prompt.length;
    }

    /// @dev A receipt over what was told, changed or not.
    function receipted() internal view returns (Answer memory a) {
        a = honest(NODE_KEY, 1, 7);
        a.spans = "";
        a.masks = "";
        a.receipt.parameterId = SET;
        a.receipt.answerRoot = IndexTrees.rootOf(leaves, answerBytes);
        a.receipt.promptRoot = IndexTrees.rootOf(prompted, promptBytes);
    }

    function change(uint256 number, uint256 place, bytes1 to) internal {
        leaves[number][place] = to;
    }

    // ------------------------------------------------------------------ openings

    function leaf(uint256 number) internal view returns (bytes memory) {
        return IndexTrees.blobAt(leaves, answerBytes, number);
    }

    function promptLeaf(uint256 number) internal view returns (bytes memory) {
        return IndexTrees.blobAt(prompted, promptBytes, number);
    }

    function table() internal pure returns (bytes[] memory rows) {
        rows = new bytes[](3);
        rows[0] = abi.encodePacked(uint8(5), "brown", uint32(10));
        rows[1] = abi.encodePacked(uint8(3), "fox", uint32(12));
        rows[2] = abi.encodePacked(uint8(3), "the", uint32(10));
    }

    function tableOpening(uint256 number) internal pure returns (bytes memory) {
        bytes[] memory rows = table();
        return IndexTrees.open(rows, IndexTrees.sizes(rows), number);
    }

    /// @dev Where a text first stands in another; the end if nowhere.
    function find(bytes memory whole, bytes memory part) internal pure returns (uint256 found) {
        for (; found + part.length <= whole.length; ++found) {
            if (keccak256(IndexTrees.cut(whole, found, found + part.length)) == keccak256(part)) return found;
        }
        return whole.length;
    }

    // ------------------------------------------------------------------ proofs

    function convicted(Answer memory a, bytes memory call) internal {
        uint256 before = stakes.slashableOf(node);
        proven(target(), call);
        yes("stake falls", stakes.slashableOf(node) < before);
        yes("the receipt is slashed for", stakes.slashOf(keccak256(receiptBody(a))) != 0);
        eq("the receipt is not void", 0, settlement.voidedAt(keccak256(receiptBody(a))));
    }

    function denied(bytes memory call, bytes4 selector) internal {
        refused(target(), call, selector);
    }
}
