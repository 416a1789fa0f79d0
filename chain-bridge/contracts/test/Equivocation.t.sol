// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FaultBase} from "../src/FaultBase.sol";
import {FraudVerifier} from "../src/FraudVerifier.sol";
import {NodeTrees} from "../src/NodeTrees.sol";
import {Openings} from "../src/Openings.sol";
import {Settlement} from "../src/Settlement.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {Ledger} from "./Ledger.sol";
import {Pack} from "./Pack.sol";

/// @notice F3, and F5's block: what a node's own signatures and roots contradict.
contract EquivocationTest is Ledger {
    uint256 private constant SEED = (100 << 16) | (5 << 8) | 7;

    // ------------------------------------------------------------------ F3, two receipts

    function testFuzz_honest_answers_do_not_contradict_each_other(uint256 seed, uint8 tokens) public {
        seed >>= 1;
        // A retry at the same node starts where the first attempt ended; another request is another.
        Answer memory a = honest(NODE_KEY, 1, seed);
        Answer memory b = honest(NODE_KEY, 1, seed + 1);
        b.receipt.attempt = 1;
        b.receipt.firstToken = a.receipt.tokensOut;
        b.receipt.cumulativeAfter = a.receipt.cumulativeAfter + b.receipt.fee;
        refused(address(verifier), pair(a, b), FraudVerifier.NoContradiction.selector);
        refused(address(verifier), pair(b, a), FraudVerifier.NoContradiction.selector);
        refused(address(verifier), pair(a, a), FraudVerifier.NoContradiction.selector);
        refused(address(verifier), pair(a, honest(NODE_KEY, 2, seed)), FraudVerifier.NoContradiction.selector);
        refused(address(verifier), pair(a, honest(OTHER_KEY, 1, seed)), FraudVerifier.NoContradiction.selector);
        // A failed attempt bills nothing, whatever its tokens were.
        b.receipt.firstToken = 0;
        b.receipt.tokensOut = tokens;
        b.receipt.reason = 16;
        b.receipt.fee = 0;
        refused(address(verifier), pair(a, b), FraudVerifier.NoContradiction.selector);
        eq("stake", 100 ether, stakes.stakeOf(node));
    }

    function test_another_body_for_one_attempt_is_refuted_and_both_are_void() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        Answer memory b = honest(NODE_KEY, 1, SEED);
        b.receipt.tokensIn += 1;
        bill(b);
        proven(address(verifier), pair(a, b));
        eq("stake", 90 ether, stakes.stakeOf(node));
        yes("first", settlement.isVoid(keccak256(receiptBody(a))));
        yes("second", settlement.isVoid(keccak256(receiptBody(b))));
        yes("slashed for the dearer one", stakes.slashOf(keccak256(receiptBody(b))) != 0);
        // The other may still be slashed for, once, and then nothing is left.
        proven(address(verifier), pair(b, a));
        yes("slashed for the other", stakes.slashOf(keccak256(receiptBody(a))) != 0);
        refused(address(verifier), pair(a, b), StakeManager.AlreadySlashed.selector);
        // A third body is void too, and slashed for.
        Answer memory c = honest(NODE_KEY, 1, SEED);
        c.receipt.answerRoot = 0;
        proven(address(verifier), pair(a, c));
        yes("third", settlement.isVoid(keccak256(receiptBody(c))));
    }

    function testFuzz_output_tokens_billed_twice_are_refuted(uint16 startA, uint8 lengthA, uint16 startB, uint8 lengthB) public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        Answer memory b = honest(NODE_KEY, 1, SEED);
        (a.receipt.firstToken, a.receipt.tokensOut) = (startA % 512, lengthA);
        (b.receipt.firstToken, b.receipt.tokensOut) = (startB % 512, lengthB);
        b.receipt.attempt = 1;
        bill(a);
        bill(b);
        b.receipt.cumulativeAfter = a.receipt.cumulativeAfter + b.receipt.fee;
        bool shared = false;
        for (uint256 t = a.receipt.firstToken; t < uint256(a.receipt.firstToken) + lengthA; ++t) {
            shared = shared || (t >= b.receipt.firstToken && t < uint256(b.receipt.firstToken) + lengthB);
        }
        if (shared) proven(address(verifier), pair(a, b));
        else refused(address(verifier), pair(a, b), FraudVerifier.NoContradiction.selector);
    }

    function test_both_must_be_signed_by_the_node() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        Answer memory b = honest(NODE_KEY, 1, SEED);
        b.receipt.tokensIn += 1;
        b.key = CLIENT_KEY;
        refused(address(verifier), pair(a, b), FaultBase.ReceiptSignature.selector);
        refused(address(verifier), pair(b, a), FaultBase.ReceiptSignature.selector);
        vm.chainId(10);
        b.key = NODE_KEY;
        bytes memory foreign = receiptSig(b);
        vm.chainId(31_337);
        bytes memory call =
            abi.encodeCall(FraudVerifier.proveEquivocation, (receiptBody(a), receiptSig(a), receiptBody(b), foreign));
        refused(address(verifier), call, FaultBase.ReceiptSignature.selector);
    }

    // ------------------------------------------------------------------ F3, one receipt at two places

    function test_a_receipt_listed_twice_is_refuted_in_one_epoch_and_across_two() public {
        Answer[] memory answers = new Answer[](3);
        for (uint64 i = 0; i < 3; ++i) answers[i] = honest(NODE_KEY, i % 2, SEED);
        Root memory root = submit(NODE_KEY, answers);
        vm.warp(block.timestamp + W1);
        Root memory later = submit(NODE_KEY, one(answers[1]));
        bytes memory receipt = receiptBody(answers[0]);
        // At one place only, shown twice.
        refused(address(verifier), repeat(receipt, find(root, 0), find(root, 0)), FraudVerifier.SameLeaf.selector);
        refused(address(verifier), repeat(receipt, find(root, 0), find(root, 1)), NodeTrees.NotInTree.selector);
        proven(address(verifier), repeat(receipt, find(root, 0), find(root, 2)));
        yes("void", settlement.isVoid(keccak256(receipt)));
        receipt = receiptBody(answers[1]);
        proven(address(verifier), repeat(receipt, find(root, 1), find(later, 0)));
        yes("void", settlement.isVoid(keccak256(receipt)));
        refused(address(verifier), repeat(receipt, find(root, 1), find(later, 0)), StakeManager.AlreadySlashed.selector);
    }

    function test_places_of_other_roots_counts_and_nodes_are_refused() public {
        Answer[] memory answers = new Answer[](3);
        for (uint64 i = 0; i < 3; ++i) answers[i] = honest(NODE_KEY, i % 2, SEED);
        Root memory root = submit(NODE_KEY, answers);
        bytes memory receipt = receiptBody(answers[0]);
        // Another node lists it: neither of the two is at fault by this.
        Root memory stolen = submit(OTHER_KEY, one(answers[0]));
        refused(address(verifier), repeat(receipt, find(root, 0), find(stolen, 0)), FraudVerifier.NoContradiction.selector);
        // A body that was not submitted, a block in which it was not.
        bytes memory forged = find(root, 0);
        forged[60] ^= 0x01;
        refused(address(verifier), repeat(receipt, forged, find(root, 2)), Settlement.WrongNodeRoot.selector);
        forged = find(root, 0);
        forged[91] ^= 0x01;
        refused(address(verifier), repeat(receipt, forged, find(root, 2)), Settlement.WrongNodeRoot.selector);
        // An index beyond the count, another sibling, another sum, bytes left over, bytes missing.
        forged = find(root, 0);
        forged[99] = 0x03;
        refused(address(verifier), repeat(receipt, forged, find(root, 2)), Trees.IndexBeyondLeaves.selector);
        forged = find(root, 0);
        forged[100] ^= 0x01;
        refused(address(verifier), repeat(receipt, forged, find(root, 2)), NodeTrees.NotInTree.selector);
        forged = find(root, 0);
        forged[147] ^= 0x01;
        refused(address(verifier), repeat(receipt, forged, find(root, 2)), NodeTrees.NotInTree.selector);
        refused(address(verifier), repeat(receipt, find(root, 0), bytes.concat(find(root, 2), hex"00")), Openings.TrailingBytes.selector);
        refused(address(verifier), repeat(receipt, find(root, 0), hex"00"), Openings.Truncated.selector);
        eq("stake", 100 ether, stakes.stakeOf(node));
    }

    function test_a_root_that_binds_another_count_than_its_node_signed_holds_no_receipt() public {
        Answer[] memory answers = new Answer[](2);
        for (uint64 i = 0; i < 2; ++i) answers[i] = honest(NODE_KEY, 0, SEED);
        Root memory root = rooted(NODE_KEY, answers);
        (bytes32 top, uint128 sum) = Pack.sumRoot(root.leaves, root.fees);
        submitAs(NODE_KEY, root, top, 3, sum);
        bytes memory call = repeat(receiptBody(answers[0]), find(root, 0), find(root, 0));
        // Its count asks for siblings that the tree does not have; arbitrary ones lead elsewhere.
        refused(address(verifier), call, NodeTrees.NotInTree.selector);
        bytes memory more = bytes.concat(find(root, 0), new bytes(48));
        refused(address(verifier), repeat(receiptBody(answers[0]), more, more), NodeTrees.NotInTree.selector);
    }

    // ------------------------------------------------------------------ F5, the named block

    function testFuzz_a_block_is_refuted_exactly_outside_its_window(uint64 named) public {
        named = 700 + named % 600;
        Answer memory a = honest(NODE_KEY, 1, SEED);
        a.receipt.blockNumber = named;
        Root memory root = submit(NODE_KEY, one(a));
        uint64 submitted = 1_100;
        bytes memory call = abi.encodeCall(FraudVerifier.proveBlock, (receiptBody(a), find(root, 0)));
        bytes32 hash = keccak256(receiptBody(a));
        if (named + MAX_AGE_BLOCKS < submitted) {
            proven(address(verifier), call);
            yes("void", settlement.isVoid(hash));
            eq("slow is no fault", 100 ether, stakes.stakeOf(node));
            refused(address(verifier), call, FraudVerifier.NoContradiction.selector);
        } else if (named > submitted + GRACE_BLOCKS) {
            proven(address(verifier), call);
            yes("void", settlement.isVoid(hash));
            eq("stake", 90 ether, stakes.stakeOf(node));
        } else {
            refused(address(verifier), call, FraudVerifier.BlockInWindow.selector);
        }
    }

    // ------------------------------------------------------------------ F6, the lane

    function testFuzz_an_honest_answer_keeps_to_its_lane(uint256 seed) public {
        Answer memory a = honest(NODE_KEY, 1, seed >> 1);
        refused(address(verifier), laned(a, laneBody(a)), FraudVerifier.LaneHolds.selector);
        refused(address(verifier), laned(a, laneBody(honest(NODE_KEY, 2, seed >> 1))), FraudVerifier.WrongRoot.selector);
        a.receipt.reason = 16;
        a.receipt.node = node;
        a.receipt.fee = 0;
        a.receipt.lane = 0;
        refused(address(verifier), laned(a, laneBody(a)), FraudVerifier.WrongRoot.selector);
    }

    function test_a_lane_that_promises_something_else_convicts() public {
        bytes[6] memory lanes;
        for (uint64 i = 0; i < 6; ++i) {
            Answer memory a = honest(NODE_KEY, i, SEED);
            lanes[0] = abi.encodePacked(author, node, uint128(1 ether), uint64(1_200), i);
            lanes[1] = abi.encodePacked(client, other, uint128(1 ether), uint64(1_200), i);
            lanes[2] = abi.encodePacked(client, node, a.receipt.cumulativeAfter - 1, uint64(1_200), i);
            lanes[3] = abi.encodePacked(client, node, uint128(1 ether), uint64(NAMED - 1), i);
            lanes[4] = bytes("no lane at all");
            lanes[5] = abi.encodePacked(client, node, a.receipt.cumulativeAfter, uint64(NAMED), i);
            a.receipt.lane = keccak256(lanes[i]);
            if (i == 5) {
                refused(address(verifier), laned(a, lanes[i]), FraudVerifier.LaneHolds.selector);
            } else {
                proven(address(verifier), laned(a, lanes[i]));
                yes("void", settlement.isVoid(keccak256(receiptBody(a))));
            }
        }
    }

    // ------------------------------------------------------------------ helpers

    function laned(Answer memory a, bytes memory lane) private view returns (bytes memory) {
        return abi.encodeCall(FraudVerifier.proveLane, (receiptBody(a), receiptSig(a), lane));
    }

    function find(Root memory root, uint256 index) private pure returns (bytes memory) {
        return place(root, index);
    }

    function pair(Answer memory a, Answer memory b) private view returns (bytes memory) {
        return abi.encodeCall(FraudVerifier.proveEquivocation, (receiptBody(a), receiptSig(a), receiptBody(b), receiptSig(b)));
    }

    function repeat(bytes memory receipt, bytes memory first, bytes memory second) private pure returns (bytes memory) {
        return abi.encodeCall(FraudVerifier.proveRepeat, (receipt, bytes.concat(first, second)));
    }
}
