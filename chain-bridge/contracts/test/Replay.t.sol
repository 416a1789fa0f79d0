// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BillingVerifier} from "../src/BillingVerifier.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {FraudVerifier} from "../src/FraudVerifier.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {ReceiptRules} from "../src/ReceiptRules.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Transcript} from "./Transcript.sol";

/// @notice I10, I15: a signature counts for one document, one contract, one chain, one lane, one epoch; a fault is slashed once, whichever
/// verifier is shown it.
contract ReplayTest is Transcript {
    uint256 private constant SEED = (1 << 24) | (100 << 16) | (5 << 8) | 7;
    uint256 private constant OTHER_CHAIN = 10;

    /// @dev The same body, signed for another chain, another contract, and as another document.
    function forgeries(uint256 key, address verifying, bytes32 typehash, bytes memory body) private returns (bytes[4] memory signatures) {
        uint256 here = block.chainid;
        vm.chainId(OTHER_CHAIN);
        signatures[0] = signed(key, verifying, typehash, body);
        vm.chainId(here);
        signatures[1] = signed(key, address(0xE15E), typehash, body);
        signatures[2] = signed(key, verifying, keccak256("Else(bytes body)"), body);
        signatures[3] = signed(key, verifying, typehash, bytes.concat(body, hex"00"));
    }

    function test_lanes_and_vouchers() public {
        bytes memory lane = laneBody(honest(NODE_KEY, 1, SEED));
        bytes memory voucher = abi.encodePacked(keccak256(lane), new bytes(110), uint128(0), uint128(1 ether));
        bytes memory laneSig = signed(CLIENT_KEY, address(escrow), Sig.LANE, lane);
        bytes memory voucherSig = signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, voucher);
        bytes[4] memory forged = forgeries(CLIENT_KEY, address(escrow), Sig.LANE, lane);
        for (uint256 i = 0; i < 4; ++i) collectRefused(lane, forged[i], voucher, voucherSig, InferenceEscrow.LaneSignature.selector);
        forged = forgeries(CLIENT_KEY, address(escrow), Sig.VOUCHER, voucher);
        for (uint256 i = 0; i < 4; ++i) collectRefused(lane, laneSig, voucher, forged[i], InferenceEscrow.VoucherSignature.selector);
        // One document's signature is not another's.
        collectRefused(lane, voucherSig, voucher, voucherSig, InferenceEscrow.LaneSignature.selector);
        // Another lane of the same two, with the same voucher.
        bytes memory second = laneBody(honest(NODE_KEY, 2, SEED));
        bytes memory secondSig = signed(CLIENT_KEY, address(escrow), Sig.LANE, second);
        collectRefused(second, secondSig, voucher, voucherSig, InferenceEscrow.VoucherForOtherLane.selector);
    }

    function test_credit_notes() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        collect(a);
        bytes memory lane = laneBody(a);
        bytes memory note = abi.encodePacked(keccak256(lane), a.receipt.requestId, a.receipt.cumulativeAfter, uint128(1), uint64(9_000));
        bytes[4] memory forged = forgeries(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        vm.startPrank(client);
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectPartialRevert(InferenceEscrow.CreditSignature.selector);
            escrow.claimCredit(lane, note, forged[i]);
        }
        bytes memory right = signed(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        bytes memory second = laneBody(honest(NODE_KEY, 2, SEED));
        vm.expectPartialRevert(InferenceEscrow.CreditForOtherLane.selector);
        escrow.claimCredit(second, note, right);
        escrow.claimCredit(lane, note, right);
        vm.expectPartialRevert(InferenceEscrow.CreditKnown.selector);
        escrow.claimCredit(lane, note, right);
        vm.stopPrank();
    }

    function test_node_roots() public {
        bytes memory body = rootBody(1);
        bytes[4] memory forged = forgeries(NODE_KEY, address(settlement), Sig.NODE_ROOT, body);
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectPartialRevert(Settlement.NodeRootSignature.selector);
            settlement.submitNodeRoot(body, forged[i]);
        }
        bytes memory right = signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body);
        settlement.submitNodeRoot(body, right);
        vm.expectPartialRevert(Settlement.AlreadySubmitted.selector);
        settlement.submitNodeRoot(body, right);
        // The next epoch takes no root of this one, nor its signature under another body.
        vm.warp(block.timestamp + EPOCH_MIN + W1);
        vm.expectRevert(abi.encodeWithSelector(Settlement.WrongEpoch.selector, 2, 1));
        settlement.submitNodeRoot(body, right);
        body = rootBody(2);
        vm.expectPartialRevert(Settlement.NodeRootSignature.selector);
        settlement.submitNodeRoot(body, right);
    }

    function test_receipts() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        a.receipt.fee += 1;
        bytes[4] memory forged = forgeries(NODE_KEY, address(settlement), Sig.RECEIPT, receiptBody(a));
        for (uint256 i = 0; i < 4; ++i) {
            refused(address(billing), broken(a, forged[i]), FaultBase.ReceiptSignature.selector);
            bytes memory lane = abi.encodeCall(FraudVerifier.proveLane, (receiptBody(a), forged[i], laneBody(a)));
            refused(address(verifier), lane, FaultBase.ReceiptSignature.selector);
        }
        eq("untouched", 100 ether, stakes.stakeOf(node));
    }

    function test_contributions_and_reports() public {
        bytes32 top = keccak256("text");
        bytes32 textRoot = textRootOf(9, top);
        bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", bytes32(0), textRoot, client));
        vm.prank(client);
        registry.commit(commitment);
        bytes memory body =
            abi.encodePacked(datanets[0], client, textRoot, uint64(9), uint32(1), bytes32(0), keccak256("l"), keccak256("o"));
        bytes memory report = abi.encodePacked(datanets[0], textRoot, commitment, keccak256("report"), keccak256("o"), uint8(1));
        bytes memory right = signed(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body);
        bytes memory rightReport = signed(AUTHOR_KEY, address(registry), Sig.GATE_REPORT, report);
        bytes[4] memory forged = forgeries(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body);
        bytes[4] memory forgedReports = forgeries(AUTHOR_KEY, address(registry), Sig.GATE_REPORT, report);
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectRevert();
            registry.accept(body, forged[i], report, rightReport, top);
            vm.expectRevert();
            registry.accept(body, right, report, forgedReports[i], top);
        }
        registry.accept(body, right, report, rightReport, top);
        vm.expectRevert();
        registry.accept(body, right, report, rightReport, top);
    }

    function test_one_receipt_is_slashed_once_whichever_verifier_is_shown_it() public {
        Answer memory a = honest(NODE_KEY, 1, SEED);
        a.receipt.fee += 1;
        a.receipt.cumulativeAfter = 11 ether;
        bytes memory body = receiptBody(a);
        bytes memory lane = abi.encodeCall(FraudVerifier.proveLane, (body, receiptSig(a), laneBody(a)));
        proven(address(billing), broken(a, receiptSig(a)));
        uint128 left = stakes.slashableOf(node);
        refused(address(verifier), lane, StakeManager.AlreadySlashed.selector);
        eq("once", left, stakes.slashableOf(node));
        yes("void all the same", settlement.isVoid(keccak256(body)));
    }

    // ------------------------------------------------------------------ helpers

    function rootBody(uint64 epoch) private view returns (bytes memory) {
        return abi.encodePacked(node, epoch, keccak256("root"), uint64(1), uint128(1));
    }

    function broken(Answer memory a, bytes memory signature) private pure returns (bytes memory) {
        return abi.encodeCall(BillingVerifier.proveBroken, (ReceiptRules.Rule.Fee, receiptBody(a), signature, quoteBody(a), ""));
    }

    function collectRefused(bytes memory lane, bytes memory laneSig, bytes memory voucher, bytes memory voucherSig, bytes4 selector)
        private
    {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = InferenceEscrow.Item(lane, laneSig, voucher, voucherSig);
        vm.expectPartialRevert(selector);
        escrow.collectMany(items);
    }
}
