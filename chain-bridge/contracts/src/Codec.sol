// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Documents of Protocol P4 that a contract reads
/// @notice Fields stand in the order of the chapter, big-endian, without padding. A decoder refuses trailing bytes and non-zero spare bytes.
library Codec {
    uint256 internal constant LANE_BYTES = 72;
    uint256 internal constant VOUCHER_BYTES = 174;
    uint256 internal constant NODE_ROOT_BYTES = 84;
    uint256 internal constant CREDIT_NOTE_BYTES = 104;
    uint256 internal constant CONTRIBUTION_BYTES = 168;
    uint256 internal constant GATE_REPORT_BYTES = 105;
    /// @notice A receipt without assets, spans and masks, its three counts included.
    uint256 internal constant RECEIPT_MIN_BYTES = 434;
    uint256 internal constant ASSET_BYTES = 12;
    uint256 internal constant SPAN_BYTES = 40;
    uint256 internal constant MASK_BYTES = 12;
    uint256 internal constant DATANET_LEAF_BYTES = 52;
    uint256 internal constant SEGMENT_LEAF_BYTES = 120;

    /// @notice The bounded promise of a payer to one node.
    struct Lane {
        address payer;
        address node;
        uint128 cap;
        uint64 expiryBlock;
        uint64 nonce;
    }

    /// @notice What a collect needs of a voucher; its counts and other hashes bind the client, not the escrow.
    struct Voucher {
        bytes32 lane;
        bytes32 request;
        uint128 base;
        uint128 cumulative;
    }

    /// @notice A node's promise to count `amount` less on a lane that stood at `cumulative` after a request.
    struct CreditNote {
        bytes32 lane;
        bytes32 request;
        uint128 cumulative;
        uint128 amount;
        uint64 expiryBlock;
    }

    struct NodeRoot {
        address node;
        uint64 epoch;
        bytes32 receiptsRoot;
        uint64 count;
        uint128 feeSum;
    }

    struct Contribution {
        uint64 datanet;
        address contributor;
        bytes32 textRoot;
        uint64 textBytes;
        uint32 documents;
        bytes32 salt;
        bytes32 licenceHash;
        bytes32 objectHash;
    }

    struct GateReport {
        uint64 datanet;
        bytes32 textRoot;
        bytes32 commitment;
        bytes32 reportDigest;
        uint8 verdict;
    }

    /// @notice The part of a receipt that the false-span proof reads.
    struct Receipt {
        address client;
        address node;
        bytes32 indexRoot;
        bytes32 answerRoot;
        uint128 fee;
        uint16 spans;
    }

    struct Span {
        uint32 start;
        uint16 length;
        uint8 datanet;
        uint40 position;
        uint32 weight;
        address payee;
    }

    struct DatanetLeaf {
        uint64 asset;
        uint32 version;
        uint64 length;
        bytes32 segmentsRoot;
    }

    struct SegmentLeaf {
        bytes32 textRoot;
        bytes32 documentsRoot;
        bytes32 arrayRoot;
        uint64 start;
        uint64 length;
        uint64 entries;
    }

    error WrongLength(string document, uint256 expected, uint256 got);
    error SpanBeyondReceipt(uint256 span, uint256 spans);
    error SpareNotZero(uint256 span);

    function lane(bytes calldata body) internal pure returns (Lane memory) {
        requireLength("Lane", LANE_BYTES, body.length);
        return Lane({
            payer: address(bytes20(body[0:20])),
            node: address(bytes20(body[20:40])),
            cap: uint128(bytes16(body[40:56])),
            expiryBlock: uint64(bytes8(body[56:64])),
            nonce: uint64(bytes8(body[64:72]))
        });
    }

    function voucher(bytes calldata body) internal pure returns (Voucher memory) {
        requireLength("Voucher", VOUCHER_BYTES, body.length);
        return Voucher({
            lane: bytes32(body[0:32]),
            request: bytes32(body[32:64]),
            base: uint128(bytes16(body[142:158])),
            cumulative: uint128(bytes16(body[158:174]))
        });
    }

    function creditNote(bytes calldata body) internal pure returns (CreditNote memory) {
        requireLength("CreditNote", CREDIT_NOTE_BYTES, body.length);
        return CreditNote({
            lane: bytes32(body[0:32]),
            request: bytes32(body[32:64]),
            cumulative: uint128(bytes16(body[64:80])),
            amount: uint128(bytes16(body[80:96])),
            expiryBlock: uint64(bytes8(body[96:104]))
        });
    }

    function nodeRoot(bytes calldata body) internal pure returns (NodeRoot memory) {
        requireLength("NodeRoot", NODE_ROOT_BYTES, body.length);
        return NodeRoot({
            node: address(bytes20(body[0:20])),
            epoch: uint64(bytes8(body[20:28])),
            receiptsRoot: bytes32(body[28:60]),
            count: uint64(bytes8(body[60:68])),
            feeSum: uint128(bytes16(body[68:84]))
        });
    }

    function contribution(bytes calldata body) internal pure returns (Contribution memory) {
        requireLength("Contribution", CONTRIBUTION_BYTES, body.length);
        return Contribution({
            datanet: uint64(bytes8(body[0:8])),
            contributor: address(bytes20(body[8:28])),
            textRoot: bytes32(body[28:60]),
            textBytes: uint64(bytes8(body[60:68])),
            documents: uint32(bytes4(body[68:72])),
            salt: bytes32(body[72:104]),
            licenceHash: bytes32(body[104:136]),
            objectHash: bytes32(body[136:168])
        });
    }

    function gateReport(bytes calldata body) internal pure returns (GateReport memory) {
        requireLength("GateReport", GATE_REPORT_BYTES, body.length);
        return GateReport({
            datanet: uint64(bytes8(body[0:8])),
            textRoot: bytes32(body[8:40]),
            commitment: bytes32(body[40:72]),
            reportDigest: bytes32(body[72:104]),
            verdict: uint8(body[104])
        });
    }

    /// @notice Reads a receipt's head and checks that its three arrays fill the body exactly.
    function receipt(bytes calldata body) internal pure returns (Receipt memory) {
        if (body.length < RECEIPT_MIN_BYTES) revert WrongLength("Receipt", RECEIPT_MIN_BYTES, body.length);
        uint256 spansAt = spansOffset(body);
        // Each count is read only after the bytes before it are known to be there.
        if (body.length < spansAt + 4) revert WrongLength("Receipt", spansAt + 4, body.length);
        uint16 spans = uint16(bytes2(body[spansAt:spansAt + 2]));
        uint256 masksAt = spansAt + 2 + uint256(spans) * SPAN_BYTES;
        if (body.length < masksAt + 2) revert WrongLength("Receipt", masksAt + 2, body.length);
        uint16 masks = uint16(bytes2(body[masksAt:masksAt + 2]));
        requireLength("Receipt", masksAt + 2 + uint256(masks) * MASK_BYTES, body.length);
        return Receipt({
            client: address(bytes20(body[34:54])),
            node: address(bytes20(body[54:74])),
            indexRoot: bytes32(body[154:186]),
            answerRoot: bytes32(body[264:296]),
            fee: uint128(bytes16(body[372:388])),
            spans: spans
        });
    }

    /// @notice Span `number` of a receipt that `receipt` has accepted.
    function span(bytes calldata body, uint256 number, uint256 spans) internal pure returns (Span memory) {
        if (number >= spans) revert SpanBeyondReceipt(number, spans);
        uint256 start = spansOffset(body) + 2 + number * SPAN_BYTES;
        bytes calldata row = body[start:start + SPAN_BYTES];
        if (bytes4(row[36:40]) != 0) revert SpareNotZero(number);
        return Span({
            start: uint32(bytes4(row[0:4])),
            length: uint16(bytes2(row[4:6])),
            datanet: uint8(row[6]),
            position: uint40(bytes5(row[7:12])),
            weight: uint32(bytes4(row[12:16])),
            payee: address(bytes20(row[16:36]))
        });
    }

    function datanetLeaf(bytes calldata leaf) internal pure returns (DatanetLeaf memory) {
        requireLength("Datanet leaf", DATANET_LEAF_BYTES, leaf.length);
        return DatanetLeaf({
            asset: uint64(bytes8(leaf[0:8])),
            version: uint32(bytes4(leaf[8:12])),
            length: uint64(bytes8(leaf[12:20])),
            segmentsRoot: bytes32(leaf[20:52])
        });
    }

    function segmentLeaf(bytes calldata leaf) internal pure returns (SegmentLeaf memory) {
        requireLength("segment leaf", SEGMENT_LEAF_BYTES, leaf.length);
        return SegmentLeaf({
            textRoot: bytes32(leaf[0:32]),
            documentsRoot: bytes32(leaf[32:64]),
            arrayRoot: bytes32(leaf[64:96]),
            start: uint64(bytes8(leaf[96:104])),
            length: uint64(bytes8(leaf[104:112])),
            entries: uint64(bytes8(leaf[112:120]))
        });
    }

    function spansOffset(bytes calldata body) private pure returns (uint256) {
        return 430 + uint256(uint8(body[429])) * ASSET_BYTES;
    }

    function requireLength(string memory document, uint256 expected, uint256 got) private pure {
        if (expected != got) revert WrongLength(document, expected, got);
    }
}
