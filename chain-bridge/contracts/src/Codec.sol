// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Documents of Protocol P4 that a contract reads
/// @notice Fields stand in the order of the chapter, big-endian, without padding. A decoder refuses trailing bytes and non-zero spare bytes.
library Codec {
    uint256 internal constant LANE_BYTES = 72;
    uint256 internal constant VOUCHER_BYTES = 174;
    uint256 internal constant QUOTE_BYTES = 154;
    uint256 internal constant REQUEST_BYTES = 190;
    uint256 internal constant NODE_ROOT_BYTES = 84;
    uint256 internal constant CREDIT_NOTE_BYTES = 104;
    uint256 internal constant CONTRIBUTION_BYTES = 168;
    uint256 internal constant GATE_REPORT_BYTES = 137;
    /// @notice A receipt without assets, spans and masks, its three counts included.
    uint256 internal constant RECEIPT_MIN_BYTES = 434;
    /// @notice Most assets, spans and masks of a receipt: so it has 54 kB at most, which a transaction can carry.
    uint256 internal constant RECEIPT_ASSETS_MAX = 32;
    uint256 internal constant RECEIPT_SPANS_MAX = 1_024;
    uint256 internal constant RECEIPT_MASKS_MAX = 1_024;
    /// @notice Where a receipt's fee ends.
    uint256 internal constant FEE_END = 388;
    uint256 internal constant ASSET_BYTES = 12;
    uint256 internal constant SPAN_BYTES = 40;
    uint256 internal constant MASK_BYTES = 12;
    uint256 internal constant MANIFEST_ASSET_BYTES = 45;
    uint256 internal constant MANIFEST_DATANET_BYTES = 40;
    /// @notice A manifest without assets and Datanets, its two counts included.
    uint256 internal constant MANIFEST_MIN_BYTES = 50;
    /// @notice Most assets of a manifest: a base, an adapter, an agent.
    uint256 internal constant MANIFEST_ASSETS_MAX = 3;
    /// @notice Most Datanets of a manifest.
    uint256 internal constant MANIFEST_DATANETS_MAX = 32;
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
        bytes32 objectHash;
        uint8 verdict;
    }

    /// @notice A node's offer.
    struct Quote {
        address node;
        bytes32 manifestRoot;
        uint8 profile;
        uint8 class;
        uint128 rateIn;
        uint128 rateOut;
        uint128 protocolFee;
        uint32 maxTokens;
        uint64 blockNumber;
        bytes32 blockHash;
        uint64 expiryBlock;
    }

    /// @notice What a client asks for. Its sampling parameters and the hash of its options bind the answer's tokens, which no contract reads.
    struct Request {
        address client;
        uint64 nonce;
        bytes32 manifestRoot;
        uint128 maxRateIn;
        uint128 maxRateOut;
        uint8 profile;
        uint8 class;
        bytes32 promptRoot;
        uint32 maxTokens;
        uint128 spendingLimit;
    }

    /// @notice What a fault of an answer is about: of a receipt whom it concerns, its roots, and how many spans and masks stand where in its body.
    struct Answered {
        address client;
        address node;
        bytes32 lane;
        uint128 fee;
        bytes32 indexRoot;
        uint32 parameterId;
        bytes32 promptRoot;
        bytes32 answerRoot;
        uint8 reason;
        uint64 totalWeight;
        uint256 spans;
        uint256 spansAt;
        uint256 masks;
        uint256 masksAt;
    }

    /// @notice A receipt without the rows of its arrays; `assets`, `spans` and `masks` are their counts.
    struct Receipt {
        bytes32 requestId;
        uint16 attempt;
        address client;
        address node;
        bytes32 lane;
        uint128 cumulativeAfter;
        bytes32 manifestRoot;
        bytes32 indexRoot;
        uint32 parameterId;
        uint8 profile;
        uint8 class;
        uint64 blockNumber;
        bytes32 blockHash;
        bytes32 promptRoot;
        bytes32 answerRoot;
        bytes32 tokenIdHash;
        uint32 tokensIn;
        uint32 firstToken;
        uint32 tokensOut;
        bytes32 quoteHash;
        uint128 fee;
        uint8 reason;
        uint64 totalWeight;
        bytes32 fingerprintRoot;
        uint8 assets;
        uint16 spans;
        uint16 masks;
    }

    struct ManifestAsset {
        uint8 kind;
        uint64 asset;
        uint32 version;
        bytes32 contentHash;
    }

    struct ManifestDatanet {
        uint64 asset;
        uint32 version;
        address treasury;
        uint64 weight;
    }

    struct Manifest {
        ManifestAsset[] assets;
        uint16[6] split;
        bytes32 indexRoot;
        uint32 parameterId;
        ManifestDatanet[] datanets;
    }

    struct Span {
        uint32 start;
        uint16 length;
        uint8 datanet;
        uint40 position;
        uint32 weight;
        address payee;
    }

    /// @notice What a span says, who says it, and on which lane it was charged.
    struct Claim {
        address client;
        address node;
        bytes32 lane;
        bytes32 indexRoot;
        bytes32 answerRoot;
        uint128 fee;
        Span span;
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

    /// @dev The highest codes that are known, and the one from which on nothing is billed. Profiles: `candle-f32-b1`, `exact`, `fast`.
    uint8 private constant PROFILES = 3;
    /// @dev `candle-f32-b1`, whose floats are not compared between machines.
    uint8 private constant PROFILE_WITHOUT_FINGERPRINT = 1;
    uint8 private constant CLASSES = 3;
    uint8 private constant KINDS = 4;
    uint8 private constant LAST_BILLED_REASON = 3;
    uint8 private constant FIRST_UNBILLED_REASON = 16;
    uint8 private constant LAST_REASON = 17;
    uint256 private constant SPLIT_SUM = 10_000;

    error WrongLength(string document, uint256 expected, uint256 got);
    error SpanBeyondReceipt(uint256 span, uint256 spans);
    error SpareNotZero(uint256 span);
    error UnknownCode(string document, uint8 profile, uint8 class);

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
            objectHash: bytes32(body[104:136]),
            verdict: uint8(body[136])
        });
    }

    /// @notice The shape of a receipt is checked, its codes and spare bytes are not: see `isWellFormed`.
    function receipt(bytes calldata body) internal pure returns (Receipt memory r) {
        (bool shaped, uint16 spans, uint16 masks) = receiptShape(body);
        if (!shaped) revert WrongLength("Receipt", RECEIPT_MIN_BYTES, body.length);
        r.requestId = bytes32(body[0:32]);
        r.attempt = uint16(bytes2(body[32:34]));
        r.client = address(bytes20(body[34:54]));
        r.node = address(bytes20(body[54:74]));
        r.lane = bytes32(body[74:106]);
        r.cumulativeAfter = uint128(bytes16(body[106:122]));
        r.manifestRoot = bytes32(body[122:154]);
        r.indexRoot = bytes32(body[154:186]);
        r.parameterId = uint32(bytes4(body[186:190]));
        r.profile = uint8(body[190]);
        r.class = uint8(body[191]);
        r.blockNumber = uint64(bytes8(body[192:200]));
        r.blockHash = bytes32(body[200:232]);
        r.promptRoot = bytes32(body[232:264]);
        r.answerRoot = bytes32(body[264:296]);
        r.tokenIdHash = bytes32(body[296:328]);
        r.tokensIn = uint32(bytes4(body[328:332]));
        r.firstToken = uint32(bytes4(body[332:336]));
        r.tokensOut = uint32(bytes4(body[336:340]));
        r.quoteHash = bytes32(body[340:372]);
        r.fee = uint128(bytes16(body[372:388]));
        r.reason = uint8(body[388]);
        r.totalWeight = uint64(bytes8(body[389:397]));
        r.fingerprintRoot = bytes32(body[397:429]);
        r.assets = uint8(body[429]);
        r.spans = spans;
        r.masks = masks;
    }

    /// @notice The fee that stands at its place in a receipt's body, whatever else of it is malformed; 0 if the body ends before it.
    function feeOf(bytes calldata body) internal pure returns (uint128) {
        return body.length < FEE_END ? 0 : uint128(bytes16(body[FEE_END - 16:FEE_END]));
    }

    /// @notice What a false span is about: the receipt's node, client, lane, fee and roots, and the span. Shape and spare bytes are checked.
    function claim(bytes calldata body, uint256 number) internal pure returns (Claim memory c) {
        (bool shaped, uint16 spans,) = receiptShape(body);
        if (!shaped) revert WrongLength("Receipt", RECEIPT_MIN_BYTES, body.length);
        c.span = span(body, number, spans);
        c.client = address(bytes20(body[34:54]));
        c.node = address(bytes20(body[54:74]));
        c.lane = bytes32(body[74:106]);
        c.indexRoot = bytes32(body[154:186]);
        c.answerRoot = bytes32(body[264:296]);
        c.fee = uint128(bytes16(body[372:388]));
    }

    /// @notice What a fault of an answer needs of a receipt. Shape is checked, codes and spare bytes are not.
    function answered(bytes calldata body) internal pure returns (Answered memory a) {
        (bool shaped, uint16 spans, uint16 masks) = receiptShape(body);
        if (!shaped) revert WrongLength("Receipt", RECEIPT_MIN_BYTES, body.length);
        a.client = address(bytes20(body[34:54]));
        a.node = address(bytes20(body[54:74]));
        a.lane = bytes32(body[74:106]);
        a.indexRoot = bytes32(body[154:186]);
        a.parameterId = uint32(bytes4(body[186:190]));
        a.promptRoot = bytes32(body[232:264]);
        a.answerRoot = bytes32(body[264:296]);
        a.fee = uint128(bytes16(body[372:388]));
        a.reason = uint8(body[388]);
        a.totalWeight = uint64(bytes8(body[389:397]));
        a.spans = spans;
        a.spansAt = spansOffset(body) + 2;
        a.masks = masks;
        a.masksAt = a.spansAt + uint256(spans) * SPAN_BYTES + 2;
    }

    /// @notice First byte, end and weight of span `number` of a receipt that `answered` has accepted, which has so many.
    function spanRange(bytes calldata body, Answered memory a, uint256 number)
        internal
        pure
        returns (uint256 start, uint256 end, uint256 weight)
    {
        uint256 row;
        uint256 place = a.spansAt + number * SPAN_BYTES;
        assembly ("memory-safe") {
            row := calldataload(add(body.offset, place))
        }
        start = row >> 224;
        end = start + ((row >> 208) & 0xffff);
        weight = (row >> 128) & 0xffffffff;
    }

    /// @notice First byte and end of mask `number` in the answer, and where it stands in the prompt, of a receipt that `answered` has accepted, which has so many.
    function maskRange(bytes calldata body, Answered memory a, uint256 number)
        internal
        pure
        returns (uint256 start, uint256 end, uint256 offset)
    {
        uint256 row;
        uint256 place = a.masksAt + number * MASK_BYTES;
        assembly ("memory-safe") {
            row := calldataload(add(body.offset, place))
        }
        start = row >> 224;
        end = start + ((row >> 192) & 0xffffffff);
        offset = (row >> 160) & 0xffffffff;
    }

    /// @notice Whether the arrays of a receipt fill it to its last byte, and the counts of two of them.
    function receiptShape(bytes calldata body) internal pure returns (bool shaped, uint16 spans, uint16 masks) {
        if (body.length < RECEIPT_MIN_BYTES) return (false, 0, 0);
        uint256 spansAt = spansOffset(body);
        // Each count is read only after the bytes before it are known to be there.
        if (body.length < spansAt + 4) return (false, 0, 0);
        spans = uint16(bytes2(body[spansAt:spansAt + 2]));
        uint256 masksAt = spansAt + 2 + uint256(spans) * SPAN_BYTES;
        if (body.length < masksAt + 2) return (false, 0, 0);
        masks = uint16(bytes2(body[masksAt:masksAt + 2]));
        shaped = body.length == masksAt + 2 + uint256(masks) * MASK_BYTES;
    }

    /// @notice Whether a receipt is one at all: its shape, profile, class and reason are known, its fingerprint root is zero where its profile has none,
    /// its lists are no longer than they may be, its spare bytes zero.
    function isWellFormed(bytes calldata body) internal pure returns (bool) {
        (bool shaped, uint16 spans, uint16 masks) = receiptShape(body);
        if (!shaped || !isOffered(uint8(body[190]), uint8(body[191])) || !isReason(uint8(body[388]))) return false;
        if (uint8(body[190]) == PROFILE_WITHOUT_FINGERPRINT && bytes32(body[397:429]) != 0) return false;
        if (uint8(body[429]) > RECEIPT_ASSETS_MAX || spans > RECEIPT_SPANS_MAX || masks > RECEIPT_MASKS_MAX) return false;
        uint256 spare = spansOffset(body) + 2 + 36;
        for (uint256 i = 0; i < spans; ++i) {
            if (bytes4(body[spare:spare + 4]) != 0) return false;
            spare += SPAN_BYTES;
        }
        return true;
    }

    /// @notice Whether an answer that ended so may be billed.
    function isBillable(uint8 reason) internal pure returns (bool) {
        return reason < FIRST_UNBILLED_REASON;
    }

    /// @notice Asset `number` of a receipt that `receipt` has accepted.
    function receiptAsset(bytes calldata body, uint256 number) internal pure returns (uint64 asset, uint32 version) {
        uint256 start = 430 + number * ASSET_BYTES;
        asset = uint64(bytes8(body[start:start + 8]));
        version = uint32(bytes4(body[start + 8:start + 12]));
    }

    /// @notice Weight of span `number` of a receipt that `receipt` has accepted.
    function spanWeight(bytes calldata body, uint256 number) internal pure returns (uint256) {
        uint256 start = spansOffset(body) + 2 + number * SPAN_BYTES;
        return uint32(bytes4(body[start + 12:start + 16]));
    }

    /// @notice Payee of span `number` of a receipt that `receipt` has accepted.
    function spanPayee(bytes calldata body, uint256 number) internal pure returns (address) {
        uint256 start = spansOffset(body) + 2 + number * SPAN_BYTES;
        return address(bytes20(body[start + 16:start + 36]));
    }

    /// @notice A quote; `known` is false if the body is none.
    function quote(bytes calldata body) internal pure returns (bool known, Quote memory q) {
        if (body.length != QUOTE_BYTES || !isOffered(uint8(body[52]), uint8(body[53]))) return (false, q);
        known = true;
        q.node = address(bytes20(body[0:20]));
        q.manifestRoot = bytes32(body[20:52]);
        q.profile = uint8(body[52]);
        q.class = uint8(body[53]);
        q.rateIn = uint128(bytes16(body[54:70]));
        q.rateOut = uint128(bytes16(body[70:86]));
        q.protocolFee = uint128(bytes16(body[86:102]));
        q.maxTokens = uint32(bytes4(body[102:106]));
        q.blockNumber = uint64(bytes8(body[106:114]));
        q.blockHash = bytes32(body[114:146]);
        q.expiryBlock = uint64(bytes8(body[146:154]));
    }

    function request(bytes calldata body) internal pure returns (Request memory r) {
        requireLength("Request", REQUEST_BYTES, body.length);
        r.client = address(bytes20(body[0:20]));
        r.nonce = uint64(bytes8(body[20:28]));
        r.manifestRoot = bytes32(body[28:60]);
        r.maxRateIn = uint128(bytes16(body[60:76]));
        r.maxRateOut = uint128(bytes16(body[76:92]));
        r.profile = uint8(body[92]);
        r.class = uint8(body[93]);
        r.promptRoot = bytes32(body[138:170]);
        r.maxTokens = uint32(bytes4(body[170:174]));
        r.spendingLimit = uint128(bytes16(body[174:190]));
        if (!isOffered(r.profile, r.class)) revert UnknownCode("Request", r.profile, r.class);
    }

    /// @notice What names span `number` of a receipt where it is void: no receipt has this hash, because none is so short.
    function spanId(bytes32 receiptHash, uint16 number) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(receiptHash, number));
    }

    /// @notice The id of the request of a client by its nonce.
    function requestId(address client, uint64 nonce) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(client, nonce));
    }

    /// @notice A manifest; `known` is false if the body is none, which its root cannot hide: a body has one hash.
    function manifest(bytes calldata body) internal pure returns (bool known, Manifest memory m) {
        if (body.length < MANIFEST_MIN_BYTES) return (false, m);
        uint256 assets = uint8(body[0]);
        uint256 splitAt = 1 + assets * MANIFEST_ASSET_BYTES;
        if (assets > MANIFEST_ASSETS_MAX || body.length < splitAt + 49) return (false, m);
        uint256 datanets = uint8(body[splitAt + 48]);
        if (datanets > MANIFEST_DATANETS_MAX) return (false, m);
        if (body.length != splitAt + 49 + datanets * MANIFEST_DATANET_BYTES) return (false, m);
        m.assets = new ManifestAsset[](assets);
        for (uint256 i = 0; i < assets; ++i) {
            bytes calldata row = body[1 + i * MANIFEST_ASSET_BYTES:1 + (i + 1) * MANIFEST_ASSET_BYTES];
            m.assets[i] = ManifestAsset({
                kind: uint8(row[0]),
                asset: uint64(bytes8(row[1:9])),
                version: uint32(bytes4(row[9:13])),
                contentHash: bytes32(row[13:45])
            });
            if (m.assets[i].kind == 0 || m.assets[i].kind > KINDS) return (false, m);
        }
        uint256 sum = 0;
        for (uint256 i = 0; i < 6; ++i) {
            m.split[i] = uint16(bytes2(body[splitAt + 2 * i:splitAt + 2 * i + 2]));
            sum += m.split[i];
        }
        m.indexRoot = bytes32(body[splitAt + 12:splitAt + 44]);
        m.parameterId = uint32(bytes4(body[splitAt + 44:splitAt + 48]));
        m.datanets = new ManifestDatanet[](datanets);
        uint256 place = splitAt + 49;
        for (uint256 i = 0; i < datanets; ++i) {
            bytes calldata row = body[place:place + MANIFEST_DATANET_BYTES];
            m.datanets[i] = ManifestDatanet({
                asset: uint64(bytes8(row[0:8])),
                version: uint32(bytes4(row[8:12])),
                treasury: address(bytes20(row[12:32])),
                weight: uint64(bytes8(row[32:40]))
            });
            place += MANIFEST_DATANET_BYTES;
        }
        known = sum == SPLIT_SUM;
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

    function isOffered(uint8 profile, uint8 class) private pure returns (bool) {
        return profile != 0 && profile <= PROFILES && class != 0 && class <= CLASSES;
    }

    function isReason(uint8 reason) private pure returns (bool) {
        return reason <= LAST_BILLED_REASON || (reason >= FIRST_UNBILLED_REASON && reason <= LAST_REASON);
    }

    function spansOffset(bytes calldata body) private pure returns (uint256) {
        return 430 + uint256(uint8(body[429])) * ASSET_BYTES;
    }

    function requireLength(string memory document, uint256 expected, uint256 got) private pure {
        if (expected != got) revert WrongLength(document, expected, got);
    }
}
