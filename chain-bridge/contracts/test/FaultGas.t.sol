// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BillingVerifier} from "../src/BillingVerifier.sol";
import {FraudVerifier} from "../src/FraudVerifier.sol";
import {ReceiptRules} from "../src/ReceiptRules.sol";
import {Trees} from "../src/Trees.sol";
import {Ledger} from "./Ledger.sol";
import {Pack} from "./Pack.sol";

/// @notice What is called here of the two contracts compiled for size: importing them would compile, and measure, everything so.
interface ISmall {
    function provePayout(uint8 mode, bytes calldata evidence) external;
    function requestRefund(bytes calldata lane, bytes calldata absence) external;
    function challengeReceipts(bytes calldata nodeRoot, uint64 blockNumber, uint64 first, uint64 count) external payable;
    function showReceipts(bytes calldata evidence) external;
    function settleReceipts(bytes calldata nodeRoot, uint64 blockNumber, uint64 first, uint64 count) external;
}

/// @notice Gas of every proof as a whole transaction, slash included, written to snapshots/gas.json.
contract FaultGasTest is Ledger {
    uint256 private constant SEED = (200 << 48) | (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;
    /// @dev Modes of PayoutVerifier.
    uint8 private constant SUM = 3;
    uint8 private constant PART = 8;
    uint8 private constant MISSING = 9;
    uint8 private constant REFUND = 10;
    uint8 private constant LEFT_OUT = 11;
    Share[] private none;

    function test_gas_of_a_false_span_at_depth_20_with_full_leaves() public {
        falseSpan(1, FraudVerifier.slashFalseSpan.selector, "F1 at depth 20, full leaves", 180_000);
    }

    function test_gas_of_a_false_span_that_is_void_from_then_on() public {
        falseSpan(1, FraudVerifier.proveFalseSpan.selector, "F1 at depth 20, full leaves, void", 212_000);
    }

    /// @dev As people meet it: an answer of ten spans, of which the last is false; and all that its reporter pays, the commitment included.
    function test_gas_of_a_false_span_of_ten() public {
        falseSpan(10, FraudVerifier.slashFalseSpan.selector, "F1 of ten spans at depth 20, full leaves", 180_000);
    }

    function falseSpan(uint256 spans, bytes4 selector, string memory what, uint256 most) private {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        a.spans = "";
        for (uint256 i = 0; i < spans; ++i) {
            address payee = address(uint160(uint256(keccak256(abi.encode("payee", i)))));
            a.spans = abi.encodePacked(a.spans, uint32(64_000 + 9), uint16(256), uint8(0), uint40(654_321 * 64 + 5), uint32(900), payee, uint32(0));
        }
        bytes memory evidence;
        (a.receipt.indexRoot, evidence) = source();
        bytes memory opening;
        bytes memory leaf = abi.encodePacked(keccak256("salt"), uint64(77_777), uint8(12), noise("words", 84), noise("answer", 320));
        (a.receipt.answerRoot, opening) = deep(leaf, 1 << 20, (1 << 26) - 9, 1_000);
        evidence = abi.encodePacked(evidence, Pack.blob(leaf), opening);
        bytes memory call =
            abi.encodeWithSelector(selector, receiptBody(a), receiptSig(a), uint16(spans - 1), FraudVerifier.Mode.Bytes, evidence);
        verifier.commitProof(verifier.proofHash(REPORTER, call));
        uint256 commitment = vm.snapshotGasLastCall("gas", string.concat(what, ", its commitment"));
        proven(address(verifier), call);
        uint256 gas = vm.snapshotGasLastCall("gas", what);
        vm.snapshotValue("gas", string.concat(what, ", with its commitment"), gas + commitment);
        yes("gas of F1", gas <= most);
    }

    function test_gas_of_two_receipts_that_contradict() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        Answer memory b = honest(NODE_KEY, 1, SEED);
        b.receipt.tokensIn += 1;
        proven(
            address(verifier),
            abi.encodeCall(FraudVerifier.proveEquivocation, (receiptBody(a), receiptSig(a), receiptBody(b), receiptSig(b)))
        );
        vm.snapshotGasLastCall("gas", "F3, two receipts");
    }

    function test_gas_of_a_receipt_listed_twice_and_of_a_refuted_block() public {
        Answer[] memory answers = new Answer[](3);
        for (uint64 i = 0; i < 3; ++i) answers[i] = honest(NODE_KEY, i % 2, SEED);
        answers[1].receipt.blockNumber = 2_000;
        Root memory root = submit(NODE_KEY, answers);
        proven(
            address(verifier),
            abi.encodeCall(FraudVerifier.proveRepeat, (receiptBody(answers[0]), abi.encodePacked(place(root, 0), place(root, 2))))
        );
        vm.snapshotGasLastCall("gas", "F3, one receipt twice");
        proven(address(verifier), abi.encodeCall(FraudVerifier.proveBlock, (receiptBody(answers[1]), place(root, 1))));
        vm.snapshotGasLastCall("gas", "F5, named block");
    }

    function test_gas_of_broken_rules() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        a.receipt.fee += 1;
        broken(a, ReceiptRules.Rule.Fee, quoteBody(a), "", "F4, fee");
        a = honest(NODE_KEY, 2, SEED);
        a.manifest.split[0] -= 1;
        a.manifest.split[5] += 1;
        remanifest(a);
        broken(a, ReceiptRules.Rule.SplitTable, "", manifestBody(a), "F4, split table");
        a = honest(NODE_KEY, 3, SEED);
        a.manifest.assets[1].contentHash = 0;
        remanifest(a);
        broken(a, ReceiptRules.Rule.Versions, "", manifestBody(a), "F4, versions");
        a = honest(NODE_KEY, 4, SEED);
        a.receipt.blockNumber = 900;
        broken(a, ReceiptRules.Rule.Unpublished, "", "", "F5, unpublished version");
        a = honest(NODE_KEY, 5, SEED);
        a.receipt.tokensOut = 300;
        broken(a, ReceiptRules.Rule.QuoteTokens, quoteBody(a), "", "F6, above the quote");
        a = honest(NODE_KEY, 6, SEED);
        bytes memory lane = abi.encodePacked(author, node, uint128(1 ether), uint64(1_200), uint64(6));
        a.receipt.lane = keccak256(lane);
        proven(address(verifier), abi.encodeCall(FraudVerifier.proveLane, (receiptBody(a), receiptSig(a), lane)));
        vm.snapshotGasLastCall("gas", "F6, lane");
    }

    function test_gas_of_a_wrong_payout() public {
        (Root[] memory roots) = due();
        Tree memory last;
        Tree memory tree = build(last, roots, none);
        uint256 i = indexOf(tree, node);
        uint256 clean = vm.snapshotState();
        tree.cumulative[i] += 1;
        post(tree);
        proven(payouts, wrong(SUM, abi.encodePacked(leafAt(tree, i), Pack.sumHead(tree.parts[i], tree.amounts[i]))));
        vm.snapshotGasLastCall("gas", "F7, sum");
        vm.revertToState(clean);

        tree = build(last, roots, none);
        bytes memory content = tree.parts[i][0];
        tree.amounts[i][0] += 1;
        tree.cumulative[i] += 1;
        for (uint256 k = 0; k < 16; ++k) content[32 + k] = bytes1(uint8(tree.amounts[i][0] >> (8 * (15 - k))));
        post(tree);
        proven(payouts, wrong(PART, abi.encodePacked(leafAt(tree, i), partAt(tree, i, 0), roots[0].shown, opened(roots[0]))));
        vm.snapshotGasLastCall("gas", "F7, part");
        vm.revertToState(clean);

        tree = build(last, roots, none);
        content = tree.parts[i][0];
        without(tree, i, 0);
        post(tree);
        bytes memory absence = abi.encodePacked(uint8(1), leafAt(tree, i), noPart(tree, i, content));
        proven(payouts, wrong(MISSING, abi.encodePacked(roots[0].shown, uint64(0), uint32(1), opened(roots[0]), absence)));
        vm.snapshotGasLastCall("gas", "F7, missing part");
    }

    function test_gas_of_a_wrong_refund() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collectMore(a, 100);
        vm.roll(2_000);
        vm.prank(client);
        ISmall(payouts).requestRefund(laneBody(a), "");
        Root memory root = submit(NODE_KEY, one(a));
        vm.warp(block.timestamp + W1);
        Tree memory last;
        Root[] memory roots = new Root[](1);
        roots[0] = root;
        uint256 clean = vm.snapshotState();
        Tree memory tree = build(last, roots, refund(client, node, 99, a.receipt.lane, witness(root, 0)));
        post(tree);
        uint256 i = indexOf(tree, client);
        uint256 j = tree.parts[i].length - 1;
        proven(payouts, wrong(REFUND, abi.encodePacked(leafAt(tree, i), partAt(tree, i, j), uint8(1), root.shown, placed(root, 0))));
        vm.snapshotGasLastCall("gas", "F7, refund that its witness does not give");
        vm.revertToState(clean);

        tree = build(last, roots, refund(client, node, 101, a.receipt.lane, noWitness()));
        post(tree);
        proven(payouts, wrong(REFUND, abi.encodePacked(leafAt(tree, i), partAt(tree, i, j), uint8(0), place0(root), placed(root, 0))));
        vm.snapshotGasLastCall("gas", "F7, refund above a receipt");
        vm.revertToState(clean);

        tree = build(last, roots, none);
        post(tree);
        bytes memory like = refund(client, node, 0, a.receipt.lane, noWitness())[0].content;
        proven(payouts, wrong(LEFT_OUT, abi.encodePacked(a.receipt.lane, noPartOf(tree, client, like))));
        vm.snapshotGasLastCall("gas", "F7, refund left out");
    }

    function test_gas_of_challenged_receipts() public {
        ISmall desk = ISmall(challenges);
        Answer[] memory answers = new Answer[](32);
        for (uint64 i = 0; i < 32; ++i) answers[i] = honest(NODE_KEY, i, SEED);
        Root memory root = submit(NODE_KEY, answers);
        bytes[] memory each = new bytes[](32);
        for (uint256 i = 0; i < 32; ++i) each[i] = shown(root, i);
        bytes memory all;
        for (uint256 i = 0; i < 32; ++i) all = bytes.concat(all, each[i]);
        vm.deal(address(this), 40 ether);
        uint256 clean = vm.snapshotState();
        desk.challengeReceipts{value: CHALLENGE_BOND}(root.body, uint64(block.number), 0, 1);
        vm.snapshotGasLastCall("gas", "F8, challenge of one receipt");
        vm.prank(node, node);
        desk.showReceipts(abi.encodePacked(root.shown, uint64(0), uint64(1), uint64(0), each[0]));
        vm.snapshotGasLastCall("gas", "F8, answer of one receipt");
        // Each receipt is asked for once; who asked is owed something from before, as who asks often is.
        vm.revertToState(clean);
        owedBefore(desk);
        desk.challengeReceipts{value: 32 * CHALLENGE_BOND}(root.body, uint64(block.number), 0, 32);
        vm.snapshotGasLastCall("gas", "F8, challenge of 32 receipts");
        vm.prank(node, node);
        desk.showReceipts(abi.encodePacked(root.shown, uint64(0), uint64(32), uint64(0), all));
        vm.snapshotGasLastCall("gas", "F8, answer of 32 receipts");
        desk.showReceipts(abi.encodePacked(root.shown, uint64(0), uint64(0), all));
        vm.snapshotGasLastCall("gas", "32 receipts published");
        vm.revertToState(clean);
        desk.challengeReceipts{value: CHALLENGE_BOND}(root.body, uint64(block.number), 0, 1);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        desk.settleReceipts(root.body, blockOf(root), 0, 1);
        vm.snapshotGasLastCall("gas", "F8, settle");
    }

    receive() external payable {}

    // ------------------------------------------------------------------ helpers

    /// @dev The other node answers a challenge of this contract.
    function owedBefore(ISmall desk) private {
        Root memory root = submit(OTHER_KEY, one(honest(OTHER_KEY, 99, SEED)));
        desk.challengeReceipts{value: CHALLENGE_BOND}(root.body, uint64(block.number), 0, 1);
        desk.showReceipts(abi.encodePacked(root.shown, uint64(0), uint64(1), uint64(0), shown(root, 0)));
    }

    /// @dev A Datanet of 2^20 text leaves, from its index root down to text leaf 654,321.
    function source() private pure returns (bytes32 index, bytes memory evidence) {
        bytes memory text = noise("text", 320);
        (bytes32 root, bytes memory below) = deep(text, 1 << 20, (1 << 26) - 9, 654_321);
        evidence = abi.encodePacked(Pack.blob(text), below);
        bytes memory leaf = abi.encodePacked(root, keccak256("rows"), keccak256("array"), uint64(0), uint64(1 << 26), uint64(9));
        (root, below) = deep(leaf, 2, 240, 0);
        evidence = abi.encodePacked(leaf, uint64(0), below, evidence);
        leaf = abi.encodePacked(uint64(3), uint32(1), uint64(1 << 27), root);
        (index, below) = deep(leaf, 4, 208, 0);
        evidence = abi.encodePacked(leaf, below, evidence);
    }

    function due() private returns (Root[] memory roots) {
        roots = new Root[](1);
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collect(a);
        roots[0] = submit(NODE_KEY, one(a));
        vm.warp(block.timestamp + W1);
    }

    function broken(Answer memory a, ReceiptRules.Rule rule, bytes memory quote, bytes memory manifest, string memory what) private {
        proven(address(billing), abi.encodeCall(BillingVerifier.proveBroken, (rule, receiptBody(a), receiptSig(a), quote, manifest)));
        vm.snapshotGasLastCall("gas", what);
    }

    function wrong(uint8 mode, bytes memory evidence) private pure returns (bytes memory) {
        return abi.encodeCall(ISmall.provePayout, (mode, evidence));
    }

    /// @dev A receipt as an answer to a challenge carries it.
    function shown(Root memory root, uint256 i) private view returns (bytes memory) {
        Answer memory a = root.answers[i];
        return abi.encodePacked(
            Pack.blob(receiptBody(a)), Pack.blob(receiptSig(a)), Pack.blob(quoteBody(a)), Pack.blob(manifestBody(a)), siblings(root, i)
        );
    }

    /// @dev A root and its first index.
    function place0(Root memory root) private pure returns (bytes memory) {
        return abi.encodePacked(root.shown, uint64(0));
    }

    function opened(Root memory root) private pure returns (bytes memory) {
        return opened(root, 0);
    }

    /// @dev A tree of `count` leaves that nobody built: its siblings are arbitrary.
    function deep(bytes memory leaf, uint64 count, uint64 length, uint256 index) private pure returns (bytes32 root, bytes memory opening) {
        opening = abi.encodePacked(count, length);
        bytes32 digest = keccak256(abi.encodePacked(hex"00", leaf));
        for (uint256 level = 0; (uint256(1) << level) < count; ++level) {
            bytes32 sibling = keccak256(abi.encode(leaf.length, level));
            opening = abi.encodePacked(opening, sibling);
            digest = (index >> level) & 1 == 0 ? Trees.node(digest, sibling) : Trees.node(sibling, digest);
        }
        root = Trees.root(count, length, digest);
    }

    function noise(string memory seed, uint256 length) private pure returns (bytes memory out) {
        out = new bytes(length);
        for (uint256 i = 0; i < length; ++i) out[i] = bytes1(uint8(1 + uint256(keccak256(abi.encode(seed, i))) % 255));
    }
}
