// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {BillingVerifier} from "../src/BillingVerifier.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {ReceiptRules} from "../src/ReceiptRules.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Sig} from "../src/Sig.sol";
import {Transcript} from "./Transcript.sol";

/// @notice F4 to F6: an honest answer breaks no rule; each field, changed and signed anew by the node, breaks exactly the rules listed here.
contract BillingVerifierTest is Transcript {
    uint256 private constant SEED = (200 << 48) | (3 << 40) | (1 << 24) | (100 << 16) | (5 << 8) | 7;

    function testFuzz_an_honest_answer_breaks_no_rule(uint256 seed, bool failed) public view {
        Answer memory given = honest(NODE_KEY, uint64(seed % 1_000), seed);
        if (failed) {
            // Nothing billed: no assets, no spans, no text.
            given.receipt.reason = uint8(16 + seed % 2);
            given.receipt.fee = 0;
            given.receipt.totalWeight = 0;
            (given.assets, given.spans, given.masks) = ("", "", "");
        }
        eq("rules", 0, billing.brokenRules(receiptBody(given), quoteBody(given), manifestBody(given)));
    }

    function testFuzz_no_rule_is_proven_against_an_honest_answer(uint256 seed) public {
        Answer memory given = honest(NODE_KEY, 1, seed);
        for (uint256 i = 0; i <= uint256(type(ReceiptRules.Rule).max); ++i) {
            refused(address(billing), call(given, ReceiptRules.Rule(i)), BillingVerifier.RuleHolds.selector);
        }
        eq("stake", 100 ether, stakes.stakeOf(node));
    }

    function test_fields_of_the_receipt() public view {
        Answer memory x = usual();
        x.receipt.requestId ^= bytes32(uint256(1));
        check("request id: F6 by request, F3", x, rules());
        x = usual();
        x.receipt.attempt += 1;
        check("attempt: F3", x, rules());
        x = usual();
        x.receipt.client = address(1);
        check("client: F6 by request", x, rules());
        x = usual();
        x.receipt.node = other;
        check("node", x, rules(ReceiptRules.Rule.QuoteForeign));
        x = usual();
        x.receipt.lane ^= bytes32(uint256(1));
        check("lane: not collected, so not paid", x, rules());
        x = usual();
        x.receipt.cumulativeAfter += 1;
        check("cumulative: not collected, so not paid", x, rules());
        x.receipt.cumulativeAfter = x.receipt.fee - 1;
        check("cumulative below the fee", x, rules(ReceiptRules.Rule.Weights));
        x = usual();
        x.receipt.indexRoot ^= bytes32(uint256(1));
        check("index root", x, rules(ReceiptRules.Rule.ManifestMatch));
        x = usual();
        x.receipt.parameterId += 1;
        check("parameter id", x, rules(ReceiptRules.Rule.ManifestMatch));
        x = usual();
        x.receipt.profile = 3;
        check("profile", x, rules(ReceiptRules.Rule.QuoteTerms));
        x.receipt.profile = 4;
        check("unknown profile", x, rules(ReceiptRules.Rule.Form, ReceiptRules.Rule.QuoteTerms));
        x = usual();
        x.receipt.class = x.receipt.class == 1 ? 2 : 1;
        check("class", x, rules(ReceiptRules.Rule.QuoteTerms));
        x.receipt.class = 4;
        check("unknown class", x, rules(ReceiptRules.Rule.Form, ReceiptRules.Rule.QuoteTerms));
        x = usual();
        x.receipt.blockHash ^= bytes32(uint256(1));
        check("block hash", x, rules(ReceiptRules.Rule.QuoteBlock));
        x = usual();
        x.receipt.blockNumber -= 1;
        check("block", x, rules(ReceiptRules.Rule.QuoteBlock));
        x.receipt.blockNumber = 999;
        check("a block before all was published", x, rules(ReceiptRules.Rule.QuoteBlock, ReceiptRules.Rule.Unpublished, ReceiptRules.Rule.Index));
    }

    function test_counts_and_sums_of_the_receipt() public view {
        Answer memory x = usual();
        x.receipt.promptRoot ^= bytes32(uint256(1));
        check("prompt root: F6 by request", x, rules());
        x = usual();
        x.receipt.answerRoot ^= bytes32(uint256(1));
        check("answer root: F1", x, rules());
        x = usual();
        x.receipt.tokensIn += 1;
        check("input tokens", x, rules(ReceiptRules.Rule.Fee));
        x = usual();
        x.receipt.tokensOut = x.receipt.tokensOut == 0 ? 1 : x.receipt.tokensOut - 1;
        check("output tokens", x, rules(ReceiptRules.Rule.Fee));
        x.receipt.tokensOut = 257;
        bill(x);
        check("output tokens beyond the quote's", x, rules(ReceiptRules.Rule.QuoteTokens));
        x = usual();
        x.receipt.firstToken += 1;
        check("first token: F3, F6 by request", x, rules());
        x = usual();
        x.receipt.fee += 1;
        check("fee", x, rules(ReceiptRules.Rule.Fee));
        x.receipt.fee -= 2;
        check("fee too low", x, rules(ReceiptRules.Rule.Fee));
        x = usual();
        x.receipt.reason = 16;
        check("a failed answer is billed", x, rules(ReceiptRules.Rule.Unbillable));
        x.receipt.reason = 4;
        check("unknown reason", x, rules(ReceiptRules.Rule.Form));
        x.receipt.reason = 18;
        check("unknown reason, billed", x, rules(ReceiptRules.Rule.Form, ReceiptRules.Rule.Unbillable));
        x = usual();
        x.receipt.totalWeight = 100;
        check("W", x, rules(ReceiptRules.Rule.Weights));
        x = usual();
        x.spans[15 + 40] = 0xff;
        x.spans[14 + 40] = 0xff;
        check("a span's weight", x, rules(ReceiptRules.Rule.Weights));
        x = usual();
        x.spans[39] = 0x01;
        check("a spare byte", x, rules(ReceiptRules.Rule.Form));
        x = usual();
        x.receipt.fingerprintRoot = keccak256("activations");
        check("a fingerprint that the profile has", x, rules());
        x.quote.profile = 1;
        requote(x);
        x.receipt.profile = 1;
        check("a fingerprint that the profile has not", x, rules(ReceiptRules.Rule.Form));
        x.receipt.fingerprintRoot = bytes32(uint256(1));
        check("its last bit", x, rules(ReceiptRules.Rule.Form));
        x.receipt.fingerprintRoot = 0;
        check("none", x, rules());
        x = usual();
        x.masks = new bytes(1_024 * 12);
        check("as many masks as there may be", x, rules());
        x.masks = new bytes(1_025 * 12);
        check("more masks than there may be", x, rules(ReceiptRules.Rule.Form));
        x = usual();
        x.spans = bytes.concat(x.spans, new bytes(40 * 1_025));
        check("more spans than there may be", x, rules(ReceiptRules.Rule.Form));
        x = usual();
        x.assets[11] = 0x02;
        check("an asset's version", x, rules(ReceiptRules.Rule.ManifestMatch, ReceiptRules.Rule.Unpublished));
        x = usual();
        x.assets = "";
        check("no assets", x, rules(ReceiptRules.Rule.ManifestMatch));
    }

    function test_fields_of_the_quote() public view {
        Answer memory x = usual();
        x.quote.node = other;
        requote(x);
        check("node", x, rules(ReceiptRules.Rule.QuoteForeign));
        x = usual();
        x.quote.manifestRoot ^= bytes32(uint256(1));
        requote(x);
        check("manifest root", x, rules(ReceiptRules.Rule.QuoteTerms));
        x = usual();
        x.quote.profile = 9;
        requote(x);
        check("no quote at all", x, rules(ReceiptRules.Rule.QuoteForeign));
        x = usual();
        x.quote.rateIn += 1_000;
        requote(x);
        check("input rate", x, rules(ReceiptRules.Rule.Fee));
        x = usual();
        x.quote.rateOut += 1_000;
        requote(x);
        check("output rate", x, rules(ReceiptRules.Rule.Fee));
        x = usual();
        x.quote.protocolFee += 1;
        requote(x);
        check("protocol fee", x, rules(ReceiptRules.Rule.Fee));
        x = usual();
        x.quote.maxTokens = x.receipt.tokensOut - 1;
        requote(x);
        check("most tokens", x, rules(ReceiptRules.Rule.QuoteTokens));
        x = usual();
        x.quote.blockNumber += 1;
        requote(x);
        check("block", x, rules(ReceiptRules.Rule.QuoteBlock));
        x = usual();
        x.quote.blockHash ^= bytes32(uint256(1));
        requote(x);
        check("block hash", x, rules(ReceiptRules.Rule.QuoteBlock));
        x = usual();
        x.quote.expiryBlock = NAMED - 1;
        requote(x);
        check("expiry", x, rules(ReceiptRules.Rule.QuoteBlock));
    }

    function test_fields_of_the_manifest() public view {
        Answer memory x = usual();
        x.manifest.assets[0].contentHash ^= bytes32(uint256(1));
        remanifest(x);
        check("content hash", x, rules(ReceiptRules.Rule.Versions));
        x = usual();
        x.manifest.assets[1].kind = 4;
        remanifest(x);
        check("kind", x, rules(ReceiptRules.Rule.Versions));
        x = usual();
        x.manifest.assets[0].kind = 5;
        remanifest(x);
        check("unknown kind", x, rules(ReceiptRules.Rule.ManifestForm));
        x = usual();
        x.manifest.assets[0].asset = datanets[0];
        remanifest(x);
        check("asset", x, rules(ReceiptRules.Rule.ManifestMatch, ReceiptRules.Rule.Versions));
        x = usual();
        x.manifest.split[0] -= 1;
        x.manifest.split[5] += 1;
        remanifest(x);
        check("split", x, rules(ReceiptRules.Rule.SplitTable));
        x.manifest.split[5] += 1;
        remanifest(x);
        check("split sums to another number", x, rules(ReceiptRules.Rule.ManifestForm));
        x = usual();
        x.manifest.indexRoot ^= bytes32(uint256(1));
        x.receipt.indexRoot = x.manifest.indexRoot;
        remanifest(x);
        check("index root", x, rules(ReceiptRules.Rule.Index));
        x = usual();
        x.manifest.parameterId = 2;
        x.receipt.parameterId = 2;
        remanifest(x);
        check("parameter id", x, rules(ReceiptRules.Rule.Index));
        x = usual();
        x.manifest.datanets[1].treasury = node;
        remanifest(x);
        check("treasury", x, rules(ReceiptRules.Rule.Datanets));
        x = usual();
        x.manifest.datanets[1].asset = datanets[0];
        x.manifest.datanets[1].treasury = treasury(datanets[0]);
        remanifest(x);
        check("Datanet", x, rules(ReceiptRules.Rule.Datanets));
        x.manifest.datanets[1].version = 7;
        remanifest(x);
        check("Datanet's version", x, rules(ReceiptRules.Rule.Datanets, ReceiptRules.Rule.Unpublished));
        x = usual();
        x.manifest.datanets[0].weight += 1;
        remanifest(x);
        check("a treasury's weight: not on chain", x, rules());
    }

    function test_a_manifest_that_leaves_out_an_asset_or_a_datanet_is_refuted() public view {
        Answer memory x = usual();
        x.manifest.assets[0] = x.manifest.assets[1];
        remanifest(x);
        check("the base is missing", x, rules(ReceiptRules.Rule.ManifestMatch, ReceiptRules.Rule.Versions));
        x = usual();
        bytes memory cut = manifestBody(x);
        assembly ("memory-safe") {
            mstore(cut, sub(mload(cut), 40))
        }
        x.receipt.manifestRoot = keccak256(cut);
        x.quote.manifestRoot = x.receipt.manifestRoot;
        requote(x);
        eq("truncated", rules(ReceiptRules.Rule.ManifestForm), billing.brokenRules(receiptBody(x), quoteBody(x), cut));
        cut[cut.length - 41] = 0x01;
        x.receipt.manifestRoot = keccak256(cut);
        x.quote.manifestRoot = x.receipt.manifestRoot;
        requote(x);
        eq("one Datanet", rules(ReceiptRules.Rule.Datanets), billing.brokenRules(receiptBody(x), quoteBody(x), cut));
    }

    function test_a_frozen_version_may_be_named_for_the_grace() public {
        Answer memory x = usual();
        vm.roll(NAMED - GRACE_BLOCKS + 1);
        vm.prank(reviewer);
        registry.freeze(adapter, 1);
        vm.roll(1_200);
        check("within the grace", x, rules());
        x.receipt.blockNumber += 1;
        x.quote.blockNumber += 1;
        x.quote.expiryBlock += 1;
        requote(x);
        check("after it", x, rules(ReceiptRules.Rule.Frozen));
    }

    function test_what_changes_after_the_named_block_changes_nothing() public {
        Answer memory x = usual();
        vm.startPrank(reviewer);
        registry.freeze(adapter, 1);
        publishAgain();
        registry.transferFrom(reviewer, node, adapter);
        vm.stopPrank();
        vm.prank(author);
        registry.freeze(datanets[0], 1);
        check("later", x, rules());
        refused(address(billing), call(x, ReceiptRules.Rule.Frozen), BillingVerifier.RuleHolds.selector);
    }

    function test_a_broken_rule_voids_the_receipt_and_slashes_its_node_once() public {
        Answer memory x = usual();
        x.receipt.fee += 1;
        x.receipt.totalWeight = 1;
        bytes32 hash = keccak256(receiptBody(x));
        proven(address(billing), call(x, ReceiptRules.Rule.Fee));
        eq("stake", 90 ether, stakes.stakeOf(node));
        yes("void", settlement.isVoid(hash));
        yes("slashed for", stakes.slashOf(hash) != 0);
        refused(address(billing), call(x, ReceiptRules.Rule.Weights), StakeManager.AlreadySlashed.selector);
        eq("stake", 90 ether, stakes.stakeOf(node));
    }

    function test_only_the_nodes_signature_for_this_chain_and_settlement_counts() public {
        Answer memory x = usual();
        x.receipt.fee += 1;
        bytes memory body = receiptBody(x);
        bytes[4] memory wrong = [
            signed(OTHER_KEY, address(settlement), Sig.RECEIPT, body),
            signed(NODE_KEY, address(escrow), Sig.RECEIPT, body),
            signed(NODE_KEY, address(settlement), Sig.QUOTE, body),
            bytes("")
        ];
        for (uint256 i = 0; i < 4; ++i) refusedSignature(x, wrong[i]);
        vm.chainId(10);
        bytes memory foreign = signed(NODE_KEY, address(settlement), Sig.RECEIPT, body);
        vm.chainId(31_337);
        refusedSignature(x, foreign);
    }

    function test_quotes_and_manifests_of_other_receipts_are_refused() public {
        Answer memory x = usual();
        Answer memory y = usual();
        y.quote.rateIn += 1_000;
        y.manifest.split[0] -= 1;
        bytes memory body = receiptBody(x);
        refused(
            address(billing),
            abi.encodeCall(BillingVerifier.proveBroken, (ReceiptRules.Rule.Fee, body, receiptSig(x), quoteBody(y), "")),
            ReceiptRules.NotTheQuote.selector
        );
        refused(
            address(billing),
            abi.encodeCall(BillingVerifier.proveBroken, (ReceiptRules.Rule.SplitTable, body, receiptSig(x), "", manifestBody(y))),
            ReceiptRules.NotTheManifest.selector
        );
        // Not opened is not broken.
        refused(
            address(billing),
            abi.encodeCall(BillingVerifier.proveBroken, (ReceiptRules.Rule.Fee, body, receiptSig(x), "", "")),
            BillingVerifier.RuleHolds.selector
        );
    }

    function testFuzz_a_body_that_is_no_receipt_is_refuted_by_its_form(bytes calldata noise) public {
        vm.assume(noise.length < 434);
        bytes memory body = bytes.concat(new bytes(54), bytes20(node), noise);
        bytes memory data = abi.encodeCall(
            BillingVerifier.proveBroken, (ReceiptRules.Rule.Form, body, signed(NODE_KEY, address(settlement), Sig.RECEIPT, body), "", "")
        );
        if (body.length >= 434) return;
        proven(address(billing), data);
        yes("void", settlement.isVoid(keccak256(body)));
    }

    // ------------------------------------------------------------------ helpers

    function usual() private view returns (Answer memory) {
        return honest(NODE_KEY, 1, SEED);
    }

    function publishAgain() private {
        uint16[6] memory table = [uint16(1_000), 0, 1_500, 6_000, 1_000, 500];
        registry.publish(adapter, keccak256("adapter 2"), parentsOfAdapter(), table, noRefs, 0, 0);
    }

    function parentsOfAdapter() private view returns (AssetRegistry.Ref[] memory parents) {
        parents = new AssetRegistry.Ref[](1);
        parents[0] = AssetRegistry.Ref(base, 1);
    }

    function check(string memory what, Answer memory x, uint256 expected) private view {
        eq(what, expected, billing.brokenRules(receiptBody(x), quoteBody(x), manifestBody(x)));
    }

    function call(Answer memory x, ReceiptRules.Rule rule) private view returns (bytes memory) {
        return abi.encodeCall(BillingVerifier.proveBroken, (rule, receiptBody(x), receiptSig(x), quoteBody(x), manifestBody(x)));
    }

    function refusedSignature(Answer memory x, bytes memory signature) private {
        refused(
            address(billing),
            abi.encodeCall(BillingVerifier.proveBroken, (ReceiptRules.Rule.Fee, receiptBody(x), signature, quoteBody(x), "")),
            FaultBase.ReceiptSignature.selector
        );
    }

    function rules() private pure returns (uint256) {
        return 0;
    }

    function rules(ReceiptRules.Rule one) private pure returns (uint256) {
        return 1 << uint256(one);
    }

    function rules(ReceiptRules.Rule one, ReceiptRules.Rule two) private pure returns (uint256) {
        return rules(one) | rules(two);
    }

    function rules(ReceiptRules.Rule one, ReceiptRules.Rule two, ReceiptRules.Rule three) private pure returns (uint256) {
        return rules(one) | rules(two) | rules(three);
    }
}
