// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {Sig} from "../src/Sig.sol";
import {Fixture} from "./Fixture.sol";
import {Libraries} from "./Libraries.sol";

/// @notice The contracts read documents and signatures as the independent script writes them.
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
                eq("object", word(string.concat(key, ".objectHash")), report.objectHash);
                eq("verdict", number(string.concat(key, ".verdict")), report.verdict);
            }
        }
    }

    function test_the_root_of_a_contributions_text_opens_to_its_bytes() public view {
        uint256 found = 0;
        for (uint256 d = 0; has(each(".index.datanets", d, "")); ++d) {
            string memory net = each(".index.datanets", d, ".segments");
            for (uint256 s = 0; has(each(net, s, "")); ++s) {
                string memory segment = each(net, s, ".contributions");
                for (uint256 c = 0; has(each(segment, c, "")); ++c) {
                    string memory key = each(segment, c, "");
                    uint64 size = uint64(blob(string.concat(key, ".text")).length);
                    eq("text root", word(string.concat(key, ".textRoot")), textRootOf(size, word(string.concat(key, ".textTop"))));
                    ++found;
                }
            }
        }
        yes("some", found > 2);
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
                (uint64 asset, uint32 version) = lib.receiptAsset(body, n);
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
