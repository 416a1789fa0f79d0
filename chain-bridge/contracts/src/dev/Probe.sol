// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../Codec.sol";
import {NodeTrees} from "../NodeTrees.sol";
import {Openings} from "../Openings.sol";
import {PayoutTrees} from "../PayoutTrees.sol";
import {ReceiptRules} from "../ReceiptRules.sol";
import {Sig} from "../Sig.sol";
import {Split} from "../Split.sol";
import {Trees} from "../Trees.sol";

/// @title What every implementation must agree on, to be asked
/// @notice The contracts' own libraries behind external functions, so that a test can hold another implementation against them, byte for byte
/// and refusal for refusal. It holds no money, keeps no state and is part of no deployment.
contract Probe {
    using Openings for Openings.Reader;

    // ------------------------------------------------------------------ P1: signatures

    /// @notice Domain separator of `verifying` on this chain.
    function domain(address verifying) external view returns (bytes32) {
        return Sig.domain(verifying);
    }

    /// @notice What the signer of a Lane signs.
    function laneDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.LANE, body);
    }

    /// @notice What the signer of a Voucher signs.
    function voucherDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.VOUCHER, body);
    }

    /// @notice What the signer of a CreditNote signs.
    function creditNoteDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.CREDIT_NOTE, body);
    }

    /// @notice What the signer of a Quote signs.
    function quoteDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.QUOTE, body);
    }

    /// @notice What the signer of a Request signs.
    function requestDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.REQUEST, body);
    }

    /// @notice What the signer of a Receipt signs.
    function receiptDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.RECEIPT, body);
    }

    /// @notice What the signer of a NodeRoot signs.
    function nodeRootDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.NODE_ROOT, body);
    }

    /// @notice What the signer of a Contribution signs.
    function contributionDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.CONTRIBUTION, body);
    }

    /// @notice What the signer of a GateReport signs.
    function gateReportDigest(address verifying, bytes calldata body) external view returns (bytes32) {
        return digest(verifying, Sig.GATE_REPORT, body);
    }

    /// @notice Who signed, or zero.
    function signer(bytes32 digest_, bytes calldata signature) external pure returns (address) {
        return Sig.signer(digest_, signature);
    }

    // ------------------------------------------------------------------ P4: documents; a body that is none reverts, or is not `known`

    /// @notice A Lane's fields.
    function lane(bytes calldata body) external pure returns (Codec.Lane memory) {
        return Codec.lane(body);
    }

    /// @notice What a collect reads of a Voucher.
    function voucher(bytes calldata body) external pure returns (Codec.Voucher memory) {
        return Codec.voucher(body);
    }

    /// @notice A CreditNote's fields.
    function creditNote(bytes calldata body) external pure returns (Codec.CreditNote memory) {
        return Codec.creditNote(body);
    }

    /// @notice A NodeRoot's fields.
    function nodeRoot(bytes calldata body) external pure returns (Codec.NodeRoot memory) {
        return Codec.nodeRoot(body);
    }

    /// @notice A Contribution's fields.
    function contribution(bytes calldata body) external pure returns (Codec.Contribution memory) {
        return Codec.contribution(body);
    }

    /// @notice A GateReport's fields.
    function gateReport(bytes calldata body) external pure returns (Codec.GateReport memory) {
        return Codec.gateReport(body);
    }

    /// @notice A Quote's fields.
    function quote(bytes calldata body) external pure returns (bool known, Codec.Quote memory) {
        return Codec.quote(body);
    }

    /// @notice What contracts read of a Request.
    function request(bytes calldata body) external pure returns (Codec.Request memory) {
        return Codec.request(body);
    }

    /// @notice A Receipt without its rows.
    function receipt(bytes calldata body) external pure returns (Codec.Receipt memory) {
        return Codec.receipt(body);
    }

    /// @notice The fee that a receipt's place in its tree counts, whatever else of the body is malformed.
    function feeOf(bytes calldata body) external pure returns (uint128) {
        return Codec.feeOf(body);
    }

    /// @notice Whether a body is a receipt at all: shape, codes, spare bytes.
    function isWellFormed(bytes calldata body) external pure returns (bool) {
        return Codec.isWellFormed(body);
    }

    /// @notice Asset `number` of a receipt.
    function receiptAsset(bytes calldata body, uint256 number) external pure returns (uint64 asset, uint32 version) {
        return Codec.receiptAsset(body, number);
    }

    /// @notice Span `number` of a receipt.
    function span(bytes calldata body, uint256 number) external pure returns (Codec.Span memory) {
        return Codec.span(body, number, Codec.receipt(body).spans);
    }

    /// @notice A Manifest's fields.
    function manifest(bytes calldata body) external pure returns (bool known, Codec.Manifest memory) {
        return Codec.manifest(body);
    }

    /// @notice Whether an answer that ended so may be billed.
    function isBillable(uint8 reason) external pure returns (bool) {
        return Codec.isBillable(reason);
    }

    /// @notice A Datanet leaf of an index.
    function datanetLeaf(bytes calldata leaf) external pure returns (Codec.DatanetLeaf memory) {
        return Codec.datanetLeaf(leaf);
    }

    /// @notice A segment leaf of an index.
    function segmentLeaf(bytes calldata leaf) external pure returns (Codec.SegmentLeaf memory) {
        return Codec.segmentLeaf(leaf);
    }

    /// @notice The id that client and nonce give a request.
    function requestId(address client, uint64 nonce) external pure returns (bytes32) {
        return Codec.requestId(client, nonce);
    }

    /// @notice Treasury of a Datanet.
    function treasuryOf(uint64 datanet) external pure returns (address) {
        return ReceiptRules.treasuryOf(datanet);
    }

    // ------------------------------------------------------------------ P2: trees

    /// @notice Digest of a leaf.
    function treeLeaf(bytes calldata content) external pure returns (bytes32) {
        return Trees.leaf(content);
    }

    /// @notice Root over a top.
    function treeRoot(uint64 count, uint64 length, bytes32 top) external pure returns (bytes32) {
        return Trees.root(count, length, top);
    }

    /// @notice Siblings of an opening in a tree of `count` leaves, as claims and as fault proofs count them.
    function treeDepth(uint64 count) external pure returns (uint256 ofClaims, uint256 ofProofs) {
        return (Trees.depth(count), Openings.depth(count));
    }

    /// @notice The root that an opening of structs leads to (AssetRegistry, DatanetRent).
    function openedRoot(bytes calldata content, Trees.Opening calldata opening) external pure returns (bytes32) {
        return Trees.rootOf(content, opening);
    }

    /// @notice Where a packed opening leads: leaf count u64, byte length u64, siblings (Protocol P7).
    function packedOpening(bytes calldata content, uint256 index, bytes calldata evidence)
        external
        pure
        returns (Openings.Opened memory opened)
    {
        Openings.Reader memory reader = Openings.over(evidence);
        opened = reader.rootOf(content, index);
        reader.finish();
    }

    /// @notice Where a packed head leads: leaf count u64, byte length u64, top.
    function packedHead(bytes calldata evidence) external pure returns (Openings.Opened memory opened) {
        Openings.Reader memory reader = Openings.over(evidence);
        opened = reader.head();
        reader.finish();
    }

    /// @notice Reverts unless a receipt's hash, with its fee, stands at `index` under a node root; evidence is its siblings (digest, sum u128).
    function requireReceiptAt(bytes calldata nodeRootBody, uint64 index, bytes32 receiptHash, uint128 fee_, bytes calldata evidence)
        external
        pure
    {
        Openings.Reader memory reader = Openings.over(evidence);
        NodeTrees.requireAt(reader, Codec.nodeRoot(nodeRootBody), index, receiptHash, fee_);
        reader.finish();
    }

    /// @notice Root of a sum tree.
    function sumRoot(uint64 count, uint128 total, bytes32 top) external pure returns (bytes32) {
        return Trees.sumRoot(count, total, top);
    }

    /// @notice Root and total that a claim's opening leads to.
    function sumRootOf(bytes calldata content, uint128 amount, uint64 index, uint64 count, bytes calldata siblings)
        external
        pure
        returns (bytes32 root, uint128 total)
    {
        return Trees.sumRootOf(content, amount, index, count, siblings);
    }

    /// @notice Where a packed sum opening leads: leaf count u64, index u64, siblings (Protocol P7).
    function packedSumOpening(bytes calldata content, uint128 amount, bytes calldata evidence)
        external
        pure
        returns (Openings.Summed memory opened)
    {
        Openings.Reader memory reader = Openings.over(evidence);
        opened = reader.sumRootOf(content, amount);
        reader.finish();
    }

    /// @notice Where a packed sum head leads: leaf count u64, total u128, top.
    function packedSumHead(bytes calldata evidence) external pure returns (Openings.Summed memory opened) {
        Openings.Reader memory reader = Openings.over(evidence);
        opened = reader.sumHead();
        reader.finish();
    }

    // ------------------------------------------------------------------ P6: fees, shares, payout trees

    /// @notice What a receipt costs by a quote.
    function fee(bytes calldata receiptBody, bytes calldata quoteBody) external pure returns (bool known, uint256 amount) {
        Codec.Quote memory terms;
        (known, terms) = Codec.quote(quoteBody);
        if (known) amount = Split.fee(Codec.receipt(receiptBody), terms);
    }

    /// @notice What parts `codes` of a receipt are worth; `divides` is false if its fee has no parts. Quote and manifest must be the receipt's.
    function parts(bytes calldata receiptBody, bytes calldata quoteBody, bytes calldata manifestBody, uint32[] calldata codes)
        external
        pure
        returns (bool divides, uint256[] memory amounts)
    {
        ReceiptRules.Case memory c = ReceiptRules.open(receiptBody, quoteBody, manifestBody);
        divides = hasParts(c, receiptBody);
        amounts = new uint256[](codes.length);
        if (!divides) return (false, amounts);
        for (uint256 i = 0; i < codes.length; ++i) {
            amounts[i] = Split.part(receiptBody, c.receipt, c.quote.protocolFee, c.manifest, codes[i]);
        }
    }

    /// @notice The share of row `row` of a split table.
    function roleShare(uint256 total, uint16[6] calldata rows, uint256 row) external pure returns (uint256) {
        return Split.roleShare(total, rows, row);
    }

    /// @notice Shares by weights with the sequential remainder.
    function sequential(uint256 total, uint64[] calldata weights) external pure returns (uint256[] memory) {
        return Split.sequential(total, weights);
    }

    /// @notice Sum of a receipt's span weights.
    function spanWeights(bytes calldata body) external pure returns (uint256) {
        return Split.spanWeights(body, Codec.receipt(body));
    }

    /// @notice A payout leaf under `root`: the leaf, its sum opening.
    function payoutLeaf(bytes32 root, bytes calldata evidence) external pure returns (PayoutTrees.Leaf memory found) {
        Openings.Reader memory reader = Openings.over(evidence);
        found = PayoutTrees.leaf(reader, root);
        reader.finish();
    }

    /// @notice A part under `root`: blob of the part, its sum opening.
    function payoutPart(bytes32 root, bytes calldata evidence) external pure returns (PayoutTrees.Part memory found) {
        Openings.Reader memory reader = Openings.over(evidence);
        found = PayoutTrees.part(reader, root);
        reader.finish();
    }

    /// @notice Reverts unless the evidence shows that a payout tree has no leaf of an account.
    function requireAbsent(bytes32 root, address account, bytes calldata evidence) external pure {
        Openings.Reader memory reader = Openings.over(evidence);
        PayoutTrees.requireAbsent(reader, root, account);
        reader.finish();
    }

    /// @notice Reverts unless the evidence shows that a parts tree has no such part.
    function requireNoPart(bytes32 root, bytes32 key, bytes32 lane_, bytes calldata evidence) external pure {
        Openings.Reader memory reader = Openings.over(evidence);
        PayoutTrees.requireNoPart(reader, root, key, lane_);
        reader.finish();
    }

    /// @notice Whether bytes are a part.
    function isPart(bytes calldata content) external pure returns (bool) {
        return PayoutTrees.isPart(content);
    }

    /// @notice Whether one part stands before another.
    function isBefore(bytes32 key, bytes32 lane_, bytes32 otherKey, bytes32 otherLane) external pure returns (bool) {
        return PayoutTrees.isBefore(key, lane_, otherKey, otherLane);
    }

    /// @notice The key of a part.
    function keyOf(address node, uint64 index, uint32 code) external pure returns (bytes32) {
        return PayoutTrees.keyOf(node, index, code);
    }

    /// @notice The fields of a key.
    function fieldsOf(bytes32 key) external pure returns (address node, uint64 index, uint32 code) {
        return PayoutTrees.fieldsOf(key);
    }

    // ------------------------------------------------------------------ private

    function digest(address verifying, bytes32 typehash, bytes calldata body) private view returns (bytes32) {
        return Sig.digest(Sig.domain(verifying), typehash, keccak256(body));
    }

    function hasParts(ReceiptRules.Case memory c, bytes calldata body) private pure returns (bool) {
        return c.isQuote && c.isManifest && Split.divides(body, c.receipt, c.quote.protocolFee);
    }
}
