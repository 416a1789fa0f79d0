// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {Openings} from "../src/Openings.sol";
import {PayoutTrees} from "../src/PayoutTrees.sol";
import {Sig} from "../src/Sig.sol";
import {Split} from "../src/Split.sol";
import {Trees} from "../src/Trees.sol";
import {Fixture} from "./Fixture.sol";

/// @notice Gives the internal libraries a calldata to read from.
contract Libraries {
    function lane(bytes calldata body) external pure returns (Codec.Lane memory) {
        return Codec.lane(body);
    }

    function voucher(bytes calldata body) external pure returns (Codec.Voucher memory) {
        return Codec.voucher(body);
    }

    function creditNote(bytes calldata body) external pure returns (Codec.CreditNote memory) {
        return Codec.creditNote(body);
    }

    /// @notice Reads a part with its opening under a parts root: evidence of Protocol P7.
    function payoutPart(bytes calldata evidence, bytes32 root) external pure returns (PayoutTrees.Part memory) {
        return PayoutTrees.part(Openings.over(evidence), root);
    }

    function isPart(bytes calldata content) external pure returns (bool) {
        return PayoutTrees.isPart(content);
    }

    function nodeRoot(bytes calldata body) external pure returns (Codec.NodeRoot memory) {
        return Codec.nodeRoot(body);
    }

    function contribution(bytes calldata body) external pure returns (Codec.Contribution memory) {
        return Codec.contribution(body);
    }

    function gateReport(bytes calldata body) external pure returns (Codec.GateReport memory) {
        return Codec.gateReport(body);
    }

    function receipt(bytes calldata body) external pure returns (Codec.Receipt memory) {
        return Codec.receipt(body);
    }

    function quote(bytes calldata body) external pure returns (bool, Codec.Quote memory) {
        return Codec.quote(body);
    }

    function request(bytes calldata body) external pure returns (Codec.Request memory) {
        return Codec.request(body);
    }

    function manifest(bytes calldata body) external pure returns (bool, Codec.Manifest memory) {
        return Codec.manifest(body);
    }

    function isWellFormed(bytes calldata body) external pure returns (bool) {
        return Codec.isWellFormed(body);
    }

    function asset(bytes calldata body, uint256 number) external pure returns (uint64, uint32) {
        return Codec.receiptAsset(body, number);
    }

    /// @notice Whether a fee divides, and what part `code` is worth then.
    function part(bytes calldata body, uint128 protocolFee, Codec.Manifest calldata given, uint32 code)
        external
        pure
        returns (bool divides, uint256 amount)
    {
        Codec.Receipt memory read_ = Codec.receipt(body);
        divides = Split.divides(body, read_, protocolFee);
        if (divides) amount = Split.part(body, read_, protocolFee, given, code);
    }

    function fee(bytes calldata body, Codec.Quote calldata terms) external pure returns (uint256) {
        return Split.fee(Codec.receipt(body), terms);
    }

    function sequential(uint256 total, uint64[] calldata weights) external pure returns (uint256[] memory) {
        return Split.sequential(total, weights);
    }

    function span(bytes calldata body, uint256 number) external pure returns (Codec.Span memory) {
        return Codec.span(body, number, Codec.receipt(body).spans);
    }

    function signer(bytes32 digest, bytes calldata signature) external pure returns (address) {
        return Sig.signer(digest, signature);
    }

    function rootOf(bytes calldata leaf, Trees.Opening calldata opening) external pure returns (bytes32) {
        return Trees.rootOf(leaf, opening);
    }

    function sumRootOf(bytes calldata leaf, uint128 amount, uint64 index, uint64 count, bytes calldata siblings)
        external
        pure
        returns (bytes32, uint128)
    {
        return Trees.sumRootOf(leaf, amount, index, count, siblings);
    }

    /// @notice Reads a document of any name that a contract reads; true if it did, false for other names.
    function read(string calldata name, bytes calldata body) external pure returns (bool) {
        bytes32 hash = keccak256(bytes(name));
        if (hash == keccak256("Lane")) Codec.lane(body);
        else if (hash == keccak256("Voucher")) Codec.voucher(body);
        else if (hash == keccak256("CreditNote")) Codec.creditNote(body);
        else if (hash == keccak256("NodeRoot")) Codec.nodeRoot(body);
        else if (hash == keccak256("Contribution")) Codec.contribution(body);
        else if (hash == keccak256("GateReport")) Codec.gateReport(body);
        else if (hash == keccak256("Receipt")) Codec.receipt(body);
        else return false;
        return true;
    }
}

/// @notice The contracts' bytes are those of the independent script.
contract VectorsTest is Fixture {
    Libraries private lib;

    function setUp() public override {
        super.setUp();
        lib = new Libraries();
    }

    function test_every_signed_document_has_its_digest_and_signer() public view {
        uint256 signedCount = 0;
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            string memory key = each(".documents", i, "");
            bytes memory body = blob(string.concat(key, ".body"));
            string memory name = text(string.concat(key, ".name"));
            eq(name, word(string.concat(key, ".hash")), keccak256(body));
            if (!has(string.concat(key, ".digest"))) continue;
            address verifying = account(string.concat(".contracts.", text(string.concat(key, ".verifyingContract"))));
            bytes32 typehash = keccak256(abi.encodePacked(name, "(bytes body)"));
            bytes32 digest = Sig.digest(Sig.domain(verifying), typehash, keccak256(body));
            eq(name, word(string.concat(key, ".digest")), digest);
            string memory signerKey = string.concat(".keys.", text(string.concat(key, ".signer")));
            eq(name, account(string.concat(signerKey, ".account")), lib.signer(digest, blob(string.concat(key, ".signature"))));
            // The same nonce rule: this signer produces the same 65 bytes.
            bytes memory again = signed(uint256(word(string.concat(signerKey, ".secret"))), verifying, typehash, body);
            eq(name, keccak256(blob(string.concat(key, ".signature"))), keccak256(again));
            ++signedCount;
        }
        yes("documents were read", signedCount > 15);
    }

    function test_typehashes_are_those_of_the_names() public pure {
        eq("Lane", keccak256("Lane(bytes body)"), Sig.LANE);
        eq("Voucher", keccak256("Voucher(bytes body)"), Sig.VOUCHER);
        eq("CreditNote", keccak256("CreditNote(bytes body)"), Sig.CREDIT_NOTE);
        eq("Receipt", keccak256("Receipt(bytes body)"), Sig.RECEIPT);
        eq("NodeRoot", keccak256("NodeRoot(bytes body)"), Sig.NODE_ROOT);
        eq("Contribution", keccak256("Contribution(bytes body)"), Sig.CONTRIBUTION);
        eq("GateReport", keccak256("GateReport(bytes body)"), Sig.GATE_REPORT);
    }

    function test_malformed_signatures_have_no_signer() public view {
        uint256 i = 0;
        for (; has(each(".refusedSignatures", i, "")); ++i) {
            string memory key = each(".refusedSignatures", i, "");
            eq(
                text(string.concat(key, ".why")),
                address(0),
                lib.signer(word(string.concat(key, ".digest")), blob(string.concat(key, ".signature")))
            );
        }
        yes("signatures were read", i > 5);
    }

    function test_refused_bodies_are_refused() public view {
        uint256 refused = 0;
        for (uint256 i = 0; has(each(".refusedDocuments", i, "")); ++i) {
            string memory name = text(each(".refusedDocuments", i, ".name"));
            string memory why = text(each(".refusedDocuments", i, ".why"));
            // Enumerations and spare bytes of a receipt bind nodes and clients; what a contract reads of it does not depend on them.
            bool lengthOnly = !same(name, "Receipt") || same(why, "empty") || same(why, "a byte too many")
                || same(why, "a byte too few") || same(why, "more assets counted than given")
                || same(why, "more spans counted than given");
            if (!lengthOnly) continue;
            try lib.read(name, blob(each(".refusedDocuments", i, ".body"))) returns (bool isRead) {
                yes(string.concat(name, ": ", why), !isRead);
            } catch {
                ++refused;
            }
        }
        yes("bodies were refused", refused >= 20);
    }

    function test_a_span_with_spare_bytes_is_refused() public {
        for (uint256 i = 0; has(each(".refusedDocuments", i, "")); ++i) {
            if (!same(text(each(".refusedDocuments", i, ".why")), "spare of span 0 not zero")) continue;
            vm.expectRevert(abi.encodeWithSelector(Codec.SpareNotZero.selector, 0));
            lib.span(blob(each(".refusedDocuments", i, ".body")), 0);
            return;
        }
        revert("no such vector");
    }

    function test_fields_of_the_escrows_documents() public view {
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            string memory key = each(".documents", i, ".fields");
            string memory name = text(each(".documents", i, ".name"));
            bytes memory body = blob(each(".documents", i, ".body"));
            if (same(name, "Lane")) {
                Codec.Lane memory lane = lib.lane(body);
                eq("payer", account(string.concat(key, ".payer")), lane.payer);
                eq("node", account(string.concat(key, ".node")), lane.node);
                eq("cap", number(string.concat(key, ".cap")), lane.cap);
                eq("expiry", number(string.concat(key, ".expiryBlock")), lane.expiryBlock);
                eq("nonce", number(string.concat(key, ".nonce")), lane.nonce);
            } else if (same(name, "Voucher")) {
                Codec.Voucher memory voucher = lib.voucher(body);
                eq("lane", word(string.concat(key, ".lane")), voucher.lane);
                eq("base", number(string.concat(key, ".base")), voucher.base);
                eq("cumulative", number(string.concat(key, ".cumulative")), voucher.cumulative);
            } else if (same(name, "CreditNote")) {
                Codec.CreditNote memory note = lib.creditNote(body);
                eq("lane", word(string.concat(key, ".lane")), note.lane);
                eq("request", word(string.concat(key, ".requestId")), note.request);
                eq("cumulative", number(string.concat(key, ".cumulative")), note.cumulative);
                eq("amount", number(string.concat(key, ".amount")), note.amount);
                eq("expiry", number(string.concat(key, ".expiryBlock")), note.expiryBlock);
            } else if (same(name, "NodeRoot")) {
                Codec.NodeRoot memory root = lib.nodeRoot(body);
                eq("node", account(string.concat(key, ".node")), root.node);
                eq("epoch", number(string.concat(key, ".epoch")), root.epoch);
                eq("root", word(string.concat(key, ".receiptsRoot")), root.receiptsRoot);
                eq("count", number(string.concat(key, ".count")), root.count);
                eq("fees", number(string.concat(key, ".feeSum")), root.feeSum);
            }
        }
    }

    /// @dev Through the contract itself: what it keeps of a node root that it took in the vectors' block.
    function test_a_submitted_node_root_is_kept_as_the_vectors_slot() public {
        uint256 key = uint256(word(".keys.node.secret"));
        string memory row = each(".nodeRootSlots", 1, "");
        bytes memory body = blob(string.concat(row, ".body"));
        address signer = account(string.concat(row, ".node"));
        eq("signer", vm.addr(key), signer);
        bond(signer, 100 ether);
        vm.roll(number(string.concat(row, ".block")));
        settlement.submitNodeRoot(body, signed(key, address(settlement), Sig.NODE_ROOT, body));
        uint64 epoch = uint64(number(string.concat(row, ".epoch")));
        eq("slot", word(string.concat(row, ".slot")), settlement.nodeRootOf(epoch, signer));
        settlement.requireNodeRoot(body, uint64(block.number));
        for (uint256 i = 0; has(each(".nodeRootSlots", i, "")); ++i) {
            row = each(".nodeRootSlots", i, "");
            bytes memory packed = abi.encodePacked(blob(string.concat(row, ".body")), uint64(number(string.concat(row, ".block"))));
            eq("slot", word(string.concat(row, ".slot")), keccak256(packed));
        }
    }

    function test_refunds_are_parts_of_eighty_bytes_behind_their_nodes_other_parts() public view {
        uint256 refunds = 0;
        for (uint256 i = 0; has(each(".payout.claims", i, "")); ++i) {
            string memory claim = each(".payout.claims", i, "");
            bytes32 root = word(string.concat(claim, ".partsRoot"));
            bytes32 key = 0;
            bytes32 lane = 0;
            uint256 count = 0;
            while (has(each(string.concat(claim, ".parts"), count, ""))) ++count;
            for (uint256 n = 0; n < count; ++n) {
                string memory row = each(string.concat(claim, ".parts"), n, "");
                bytes memory leaf = blob(string.concat(row, ".leaf"));
                yes("a part", lib.isPart(leaf) && !lib.isPart(abi.encodePacked(leaf, uint8(0))));
                PayoutTrees.Part memory got = lib.payoutPart(partEvidence(claim, count, n), root);
                eq("amount", number(string.concat(row, ".amount")), got.amount);
                yes("ascending", n == 0 || PayoutTrees.isBefore(key, lane, got.key, got.lane));
                (key, lane) = (got.key, got.lane);
                yes("80 bytes", PayoutTrees.isRefund(key) == (leaf.length == 80));
                if (leaf.length == 80) ++refunds;
            }
        }
        eq("refunds", 3, refunds);
    }

    /// @dev Part `n` of `count` with its sum opening, as evidence; the vectors' parts trees are small enough to be built here.
    function partEvidence(string memory claim, uint256 count, uint256 n) private view returns (bytes memory packed) {
        bytes memory leaf = blob(each(string.concat(claim, ".parts"), n, ".leaf"));
        packed = abi.encodePacked(uint32(leaf.length), leaf, uint64(count), uint64(n));
        uint256 width = 1;
        while (width < count) width *= 2;
        bytes32[] memory digests = new bytes32[](width);
        uint128[] memory sums = new uint128[](width);
        for (uint256 i = 0; i < count; ++i) {
            digests[i] = Trees.leaf(blob(each(string.concat(claim, ".parts"), i, ".leaf")));
            sums[i] = uint128(number(each(string.concat(claim, ".parts"), i, ".amount")));
        }
        for (; width > 1; width /= 2) {
            packed = abi.encodePacked(packed, digests[n ^ 1], sums[n ^ 1]);
            for (uint256 i = 0; i < width; i += 2) {
                digests[i / 2] = Trees.sumNode(digests[i], sums[i], digests[i + 1], sums[i + 1]);
                sums[i / 2] = sums[i] + sums[i + 1];
            }
            n /= 2;
        }
    }

    function test_fields_of_the_registrys_documents() public view {
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            string memory key = each(".documents", i, ".fields");
            string memory name = text(each(".documents", i, ".name"));
            bytes memory body = blob(each(".documents", i, ".body"));
            if (same(name, "Contribution")) {
                Codec.Contribution memory given = lib.contribution(body);
                eq("datanet", number(string.concat(key, ".datanet")), given.datanet);
                eq("contributor", account(string.concat(key, ".contributor")), given.contributor);
                eq("text root", word(string.concat(key, ".textRoot")), given.textRoot);
                eq("bytes", number(string.concat(key, ".textBytes")), given.textBytes);
                eq("documents", number(string.concat(key, ".documents")), given.documents);
                eq("salt", word(string.concat(key, ".salt")), given.salt);
                eq("licence", word(string.concat(key, ".licenceHash")), given.licenceHash);
                eq("object", word(string.concat(key, ".objectHash")), given.objectHash);
            } else if (same(name, "GateReport")) {
                Codec.GateReport memory report = lib.gateReport(body);
                eq("datanet", number(string.concat(key, ".datanet")), report.datanet);
                eq("text root", word(string.concat(key, ".textRoot")), report.textRoot);
                eq("commitment", word(string.concat(key, ".commitment")), report.commitment);
                eq("report", word(string.concat(key, ".reportDigest")), report.reportDigest);
                eq("verdict", number(string.concat(key, ".verdict")), report.verdict);
            }
        }
    }

    function test_fields_of_receipts_and_their_spans() public {
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            if (!same(text(each(".documents", i, ".name")), "Receipt")) continue;
            string memory key = each(".documents", i, ".fields");
            bytes memory body = blob(each(".documents", i, ".body"));
            Codec.Receipt memory receipt = lib.receipt(body);
            eq("client", account(string.concat(key, ".client")), receipt.client);
            eq("node", account(string.concat(key, ".node")), receipt.node);
            eq("index root", word(string.concat(key, ".indexRoot")), receipt.indexRoot);
            eq("answer root", word(string.concat(key, ".answerRoot")), receipt.answerRoot);
            eq("fee", number(string.concat(key, ".fee")), receipt.fee);
            uint256 n = 0;
            for (; has(each(string.concat(key, ".spans"), n, "")); ++n) {
                string memory row = each(string.concat(key, ".spans"), n, "");
                Codec.Span memory span = lib.span(body, n);
                eq("start", number(string.concat(row, ".start")), span.start);
                eq("length", number(string.concat(row, ".length")), span.length);
                eq("datanet", number(string.concat(row, ".datanet")), span.datanet);
                eq("position", number(string.concat(row, ".position")), span.position);
                eq("weight", number(string.concat(row, ".weight")), span.weight);
                eq("payee", account(string.concat(row, ".payee")), span.payee);
            }
            eq("spans", n, receipt.spans);
            vm.expectRevert(abi.encodeWithSelector(Codec.SpanBeyondReceipt.selector, n, n));
            lib.span(body, n);
        }
    }

    function test_fields_of_quotes_and_requests() public view {
        uint256 read_ = 0;
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            string memory key = each(".documents", i, ".fields");
            string memory name_ = text(each(".documents", i, ".name"));
            bytes memory body = blob(each(".documents", i, ".body"));
            if (same(name_, "Quote")) {
                (bool known, Codec.Quote memory q) = lib.quote(body);
                yes("known", known);
                eq("node", account(string.concat(key, ".node")), q.node);
                eq("manifest", word(string.concat(key, ".manifestRoot")), q.manifestRoot);
                eq("profile", number(string.concat(key, ".profile")), q.profile);
                eq("class", number(string.concat(key, ".class")), q.class);
                eq("rate in", number(string.concat(key, ".rateIn")), q.rateIn);
                eq("rate out", number(string.concat(key, ".rateOut")), q.rateOut);
                eq("P", number(string.concat(key, ".protocolFee")), q.protocolFee);
                eq("most tokens", number(string.concat(key, ".maxTokens")), q.maxTokens);
                eq("block", number(string.concat(key, ".block")), q.blockNumber);
                eq("block hash", word(string.concat(key, ".blockHash")), q.blockHash);
                eq("expiry", number(string.concat(key, ".expiryBlock")), q.expiryBlock);
                ++read_;
            } else if (same(name_, "Request")) {
                Codec.Request memory r = lib.request(body);
                eq("client", account(string.concat(key, ".client")), r.client);
                eq("nonce", number(string.concat(key, ".nonce")), r.nonce);
                eq("manifest", word(string.concat(key, ".manifestRoot")), r.manifestRoot);
                eq("max rate in", number(string.concat(key, ".maxRateIn")), r.maxRateIn);
                eq("max rate out", number(string.concat(key, ".maxRateOut")), r.maxRateOut);
                eq("profile", number(string.concat(key, ".profile")), r.profile);
                eq("class", number(string.concat(key, ".class")), r.class);
                eq("prompt", word(string.concat(key, ".promptRoot")), r.promptRoot);
                eq("most tokens", number(string.concat(key, ".maxTokens")), r.maxTokens);
                eq("limit", number(string.concat(key, ".spendingLimit")), r.spendingLimit);
                ++read_;
            }
        }
        yes("documents were read", read_ >= 4);
    }

    function test_fields_of_manifests() public view {
        uint256 read_ = 0;
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            if (!same(text(each(".documents", i, ".name")), "Manifest")) continue;
            string memory key = each(".documents", i, ".fields");
            (bool known, Codec.Manifest memory m) = lib.manifest(blob(each(".documents", i, ".body")));
            yes("known", known);
            string[6] memory rows = ["Node", "Agent", "Base", "Adapter", "Data", "Stakers"];
            for (uint256 r = 0; r < 6; ++r) eq(rows[r], number(string.concat(key, ".split", rows[r])), m.split[r]);
            eq("index root", word(string.concat(key, ".indexRoot")), m.indexRoot);
            eq("parameter id", number(string.concat(key, ".parameterId")), m.parameterId);
            for (uint256 n = 0; n < m.assets.length; ++n) {
                string memory row = each(string.concat(key, ".assets"), n, "");
                eq("kind", number(string.concat(row, ".kind")), m.assets[n].kind);
                eq("asset", number(string.concat(row, ".asset")), m.assets[n].asset);
                eq("version", number(string.concat(row, ".version")), m.assets[n].version);
                eq("content", word(string.concat(row, ".contentHash")), m.assets[n].contentHash);
            }
            for (uint256 n = 0; n < m.datanets.length; ++n) {
                string memory row = each(string.concat(key, ".datanets"), n, "");
                eq("Datanet", number(string.concat(row, ".asset")), m.datanets[n].asset);
                eq("version", number(string.concat(row, ".version")), m.datanets[n].version);
                eq("treasury", account(string.concat(row, ".treasury")), m.datanets[n].treasury);
                eq("weight", number(string.concat(row, ".weight")), m.datanets[n].weight);
            }
            yes("all assets", !has(each(string.concat(key, ".assets"), m.assets.length, "")));
            yes("all Datanets", !has(each(string.concat(key, ".datanets"), m.datanets.length, "")));
            ++read_;
        }
        eq("manifests", 2, read_);
    }

    function test_every_other_field_of_receipts() public view {
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            if (!same(text(each(".documents", i, ".name")), "Receipt")) continue;
            string memory key = each(".documents", i, ".fields");
            bytes memory body = blob(each(".documents", i, ".body"));
            Codec.Receipt memory r = lib.receipt(body);
            yes("well formed", lib.isWellFormed(body));
            string[9] memory hashes = [
                "requestId", "lane", "manifestRoot", "blockHash", "promptRoot", "tokenIdHash", "quoteHash", "fingerprintRoot", "indexRoot"
            ];
            bytes32[9] memory got = [
                r.requestId, r.lane, r.manifestRoot, r.blockHash, r.promptRoot, r.tokenIdHash, r.quoteHash, r.fingerprintRoot, r.indexRoot
            ];
            for (uint256 n = 0; n < 9; ++n) eq(hashes[n], word(string.concat(key, ".", hashes[n])), got[n]);
            string[11] memory names = [
                "attempt", "cumulativeAfter", "parameterId", "profile", "class", "block", "tokensIn", "firstToken", "tokensOut", "reason", "totalWeight"
            ];
            uint256[11] memory values = [
                uint256(r.attempt), r.cumulativeAfter, r.parameterId, r.profile, r.class, r.blockNumber, r.tokensIn, r.firstToken, r.tokensOut, r.reason, r.totalWeight
            ];
            for (uint256 n = 0; n < 11; ++n) eq(names[n], number(string.concat(key, ".", names[n])), values[n]);
            for (uint256 n = 0; n < r.assets; ++n) {
                (uint64 asset, uint32 version) = lib.asset(body, n);
                eq("asset", number(each(string.concat(key, ".assets"), n, ".asset")), asset);
                eq("version", number(each(string.concat(key, ".assets"), n, ".version")), version);
            }
            yes("all assets", !has(each(string.concat(key, ".assets"), r.assets, "")));
        }
    }

    function test_bodies_that_bind_nodes_are_refused_by_their_codes_too() public view {
        uint256 refused = 0;
        for (uint256 i = 0; has(each(".refusedDocuments", i, "")); ++i) {
            string memory name_ = text(each(".refusedDocuments", i, ".name"));
            bytes memory body = blob(each(".refusedDocuments", i, ".body"));
            bool known = false;
            if (same(name_, "Receipt")) known = lib.isWellFormed(body);
            else if (same(name_, "Quote")) (known,) = lib.quote(body);
            else if (same(name_, "Manifest")) (known,) = lib.manifest(body);
            else continue;
            yes(text(each(".refusedDocuments", i, ".why")), !known);
            ++refused;
        }
        yes("bodies were refused", refused >= 20);
    }

    function test_sequential_remainders() public view {
        uint256 i = 0;
        for (; has(each(".money.sequentialRemainders", i, "")); ++i) {
            string memory key = each(".money.sequentialRemainders", i, "");
            uint256[] memory wide = vm.parseJsonUintArray(json, string.concat(key, ".weights"));
            uint256[] memory expected = vm.parseJsonUintArray(json, string.concat(key, ".shares"));
            uint64[] memory weights = new uint64[](wide.length);
            for (uint256 n = 0; n < wide.length; ++n) weights[n] = uint64(wide[n]);
            uint256[] memory got = lib.sequential(number(string.concat(key, ".total")), weights);
            for (uint256 n = 0; n < wide.length; ++n) eq("share", expected[n], got[n]);
        }
        eq("cases", 7, i);
    }

    function test_fees() public view {
        uint256 i = 0;
        for (; has(each(".money.fees", i, "")); ++i) {
            string memory key = each(".money.fees", i, "");
            Codec.Quote memory terms;
            terms.rateIn = uint128(number(string.concat(key, ".rateIn")));
            terms.rateOut = uint128(number(string.concat(key, ".rateOut")));
            terms.protocolFee = uint128(number(string.concat(key, ".protocolFee")));
            bytes memory counts =
                abi.encodePacked(uint32(number(string.concat(key, ".tokensIn"))), uint32(0), uint32(number(string.concat(key, ".tokensOut"))));
            bytes memory body = bytes.concat(new bytes(328), counts, new bytes(94));
            eq("fee", number(string.concat(key, ".fee")), lib.fee(body, terms));
        }
        eq("cases", 5, i);
    }

    // In thirds, because every look into the file costs gas.
    function test_every_part_of_the_first_divisions() public view {
        for (uint256 i = 0; i < 4; ++i) checkParts(each(".money.shares", i, ""));
    }

    function test_every_part_of_the_next_divisions() public view {
        for (uint256 i = 4; i < 8; ++i) checkParts(each(".money.shares", i, ""));
    }

    function test_every_part_of_the_last_divisions() public view {
        uint256 i = 8;
        for (; has(each(".money.shares", i, "")); ++i) checkParts(each(".money.shares", i, ""));
        eq("cases", 12, i);
    }

    function checkParts(string memory key) private view {
        Codec.Manifest memory m;
        uint256[] memory rows = vm.parseJsonUintArray(json, string.concat(key, ".split"));
        for (uint256 r = 0; r < 6; ++r) m.split[r] = uint16(rows[r]);
        rows = vm.parseJsonUintArray(json, string.concat(key, ".treasuryWeights"));
        m.datanets = new Codec.ManifestDatanet[](rows.length);
        for (uint256 n = 0; n < rows.length; ++n) m.datanets[n].weight = uint64(rows[n]);
        rows = vm.parseJsonUintArray(json, string.concat(key, ".spanWeights"));
        bytes memory spans;
        for (uint256 n = 0; n < rows.length; ++n) spans = bytes.concat(spans, new bytes(12), bytes4(uint32(rows[n])), new bytes(24));
        bytes memory body = abi.encodePacked(
            new bytes(106),
            type(uint128).max,
            new bytes(250),
            uint128(number(string.concat(key, ".fee"))),
            uint8(0),
            uint64(number(string.concat(key, ".totalWeight"))),
            new bytes(33),
            uint16(rows.length),
            spans,
            uint16(0)
        );
        uint128 protocolFee = uint128(number(string.concat(key, ".protocolFee")));
        // All codes there are, and some that are not, in order.
        uint256 found = 0;
        for (uint32 code = 0; code < 24; ++code) {
            uint32 real = code < 8 ? code : code < 16 ? 256 + code - 8 : 65_536 + code - 16;
            (bool divides, uint256 amount) = lib.part(body, protocolFee, m, real);
            yes("divides", divides);
            if (amount == 0) continue;
            // The vectors leave zeros out and ascend by code.
            string memory row = each(string.concat(key, ".parts"), found++, "");
            eq("code", number(string.concat(row, ".code")), real);
            eq("amount", number(string.concat(row, ".amount")), amount);
        }
        yes("no part is left", !has(each(string.concat(key, ".parts"), found, "")));
    }

    // In two, as above: the last tree has more leaves than all others.
    function test_small_trees_and_their_openings() public view {
        uint256 opened = 0;
        for (uint256 i = 0; i < 6; ++i) opened += checkTree(each(".trees", i, ""));
        eq("openings", 19, opened);
    }

    function test_the_largest_tree_and_its_openings() public view {
        eq("openings", 33, checkTree(each(".trees", 6, "")));
        yes("it is the last one", !has(each(".trees", 7, "")));
    }

    function checkTree(string memory tree) private view returns (uint256 count) {
        bytes32 root = word(string.concat(tree, ".root"));
        count = number(string.concat(tree, ".count"));
        uint256 length = number(string.concat(tree, ".length"));
        eq("head", root, Trees.root(uint64(count), uint64(length), word(string.concat(tree, ".top"))));
        for (uint256 n = 0; n < count; ++n) {
            bytes memory leaf = blob(each(string.concat(tree, ".leaves"), n, ""));
            eq("opening", root, lib.rootOf(leaf, opening(each(string.concat(tree, ".openings"), n, ""))));
        }
    }

    function test_small_sum_trees_and_their_openings() public view {
        uint256 opened = 0;
        for (uint256 i = 0; i < 6; ++i) opened += checkSumTree(each(".sumTrees", i, ""));
        eq("openings", 19, opened);
    }

    function test_the_largest_sum_tree_and_its_openings() public view {
        eq("openings", 33, checkSumTree(each(".sumTrees", 6, "")));
        yes("it is the last one", !has(each(".sumTrees", 7, "")));
    }

    function checkSumTree(string memory tree) private view returns (uint256 count) {
        bytes32 root = word(string.concat(tree, ".root"));
        uint256 total = number(string.concat(tree, ".total"));
        count = number(string.concat(tree, ".count"));
        eq("head", root, Trees.sumRoot(uint64(count), uint128(total), word(string.concat(tree, ".top"))));
        for (uint256 n = 0; n < count; ++n) {
            string memory row = each(string.concat(tree, ".leaves"), n, "");
            bytes memory siblings = sumSiblings(each(string.concat(tree, ".openings"), n, ""));
            (bytes32 got, uint128 sum) = lib.sumRootOf(
                blob(string.concat(row, ".leaf")), uint128(number(string.concat(row, ".amount"))), uint64(n), uint64(count), siblings
            );
            eq("root", root, got);
            eq("total", total, sum);
        }
    }

    function test_openings_that_cannot_be_are_refused() public {
        Trees.Opening memory place = opening(".trees[4].openings[2]");
        bytes memory leaf = blob(".trees[4].leaves[2]");
        bytes32 root = word(".trees[4].root");
        eq("five leaves", 5, place.count);
        place.index = 5;
        vm.expectRevert(abi.encodeWithSelector(Trees.IndexBeyondLeaves.selector, 5, 5));
        lib.rootOf(leaf, place);
        place.index = 2;
        place.siblings = new bytes32[](2);
        vm.expectRevert(abi.encodeWithSelector(Trees.WrongDepth.selector, 3, 2));
        lib.rootOf(leaf, place);
        place = opening(".trees[4].openings[2]");
        place.count = 6;
        yes("another count is another root", lib.rootOf(leaf, place) != root);
        place.count = 5;
        place.length += 1;
        yes("another length is another root", lib.rootOf(leaf, place) != root);
        place.length -= 1;
        place.index = 3;
        yes("another place is another root", lib.rootOf(leaf, place) != root);
        bytes memory full = abi.encodePacked(bytes32(0), type(uint128).max);
        vm.expectRevert(abi.encodeWithSelector(Trees.SumTooLarge.selector, uint256(type(uint128).max) + 1));
        lib.sumRootOf(leaf, 1, 0, 2, full);
        vm.expectRevert(abi.encodeWithSelector(Trees.SiblingBytes.selector, 47));
        lib.sumRootOf(leaf, 1, 0, 2, new bytes(47));
    }

    function testFuzz_decoders_refuse_every_other_length(bytes calldata body) public view {
        vm.assume(body.length != 72 && body.length != 174 && body.length != 84 && body.length != 168 && body.length != 105 && body.length != 104);
        string[6] memory names = ["Lane", "Voucher", "NodeRoot", "Contribution", "GateReport", "CreditNote"];
        for (uint256 i = 0; i < 6; ++i) {
            try lib.read(names[i], body) {
                revert("a body of another length was read");
            } catch {}
        }
    }
}
