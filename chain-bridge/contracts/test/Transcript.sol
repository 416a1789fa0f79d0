// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {Codec} from "../src/Codec.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {Sig} from "../src/Sig.sol";
import {Suite} from "./Suite.sol";

/// @notice Answers as honest parties make them: registered versions, a quote, a request, a receipt, a collected lane.
abstract contract Transcript is Suite {
    /// @notice An answer with all it names.
    struct Answer {
        uint256 key;
        Codec.Quote quote;
        Codec.Manifest manifest;
        Codec.Request request;
        Codec.Receipt receipt;
        bytes assets;
        bytes spans;
        bytes masks;
    }

    uint64 internal constant NAMED = 1_090;
    bytes32 internal constant NAMED_HASH = keccak256("block 1090");
    bytes32 internal constant INDEX_ROOT = keccak256("index root");
    address internal constant REPORTER = address(0x4E9);

    uint64 internal base;
    uint64 internal adapter;
    uint64[2] internal datanets;
    AssetRegistry.Ref[] internal noRefs;

    function setUp() public virtual override {
        super.setUp();
        vm.prank(governor);
        registry.approveParameters(1, keccak256("parameters"));
        uint16[6] memory none;
        vm.startPrank(author);
        base = registry.register(1, "base");
        registry.publish(base, keccak256("base"), noRefs, [uint16(7_000), 0, 1_500, 0, 1_000, 500], noRefs, 0, 0);
        for (uint256 i = 0; i < 2; ++i) {
            datanets[i] = registry.register(3, "datanet");
            registry.publish(datanets[i], keccak256(abi.encode(i)), noRefs, none, noRefs, 0, 0);
        }
        vm.stopPrank();
        vm.startPrank(reviewer);
        adapter = registry.register(2, "adapter");
        AssetRegistry.Ref[] memory parents = new AssetRegistry.Ref[](1);
        parents[0] = AssetRegistry.Ref(base, 1);
        AssetRegistry.Ref[] memory declared = new AssetRegistry.Ref[](2);
        for (uint256 i = 0; i < 2; ++i) declared[i] = AssetRegistry.Ref(datanets[i], 1);
        registry.publish(adapter, keccak256("adapter"), parents, split(), declared, 0, 0);
        vm.stopPrank();
        vm.prank(other);
        registry.postIndexRoot(adapter, 1, INDEX_ROOT, 1);
        vm.roll(1_100);
        vm.prank(client);
        escrow.deposit{value: 100 ether}();
    }

    function split() internal pure returns (uint16[6] memory) {
        return [uint16(5_500), 0, 1_500, 1_500, 1_000, 500];
    }

    /// @notice An honest answer of the account behind `key` to the request with this nonce, on a lane of its own. `seed` decides the rest.
    function honest(uint256 key, uint64 nonce, uint256 seed) internal view returns (Answer memory a) {
        a.key = key;
        manifested(a.manifest);
        bytes32 root = keccak256(manifestBody(a));
        a.quote.node = vm.addr(key);
        a.quote.manifestRoot = root;
        a.quote.profile = 2;
        a.quote.class = uint8(1 + seed % 3);
        a.quote.rateIn = uint128(1e12 + seed % 1e12);
        a.quote.rateOut = uint128(4e12 + seed % 1e11);
        a.quote.protocolFee = uint128(seed % 1e12);
        a.quote.maxTokens = 256;
        a.quote.blockNumber = NAMED;
        a.quote.blockHash = NAMED_HASH;
        a.quote.expiryBlock = NAMED + uint64(seed % 50);
        asked(a, nonce, seed);
        answered(a, seed);
    }

    function manifested(Codec.Manifest memory m) private view {
        m.assets = new Codec.ManifestAsset[](2);
        m.assets[0] = Codec.ManifestAsset(1, base, 1, keccak256("base"));
        m.assets[1] = Codec.ManifestAsset(2, adapter, 1, keccak256("adapter"));
        m.split = split();
        m.indexRoot = INDEX_ROOT;
        m.parameterId = 1;
        m.datanets = new Codec.ManifestDatanet[](2);
        for (uint256 i = 0; i < 2; ++i) {
            m.datanets[i] = Codec.ManifestDatanet(datanets[i], 1, treasury(datanets[i]), uint64(900 + 101 * i));
        }
    }

    function asked(Answer memory a, uint64 nonce, uint256 seed) private view {
        a.request.client = client;
        a.request.nonce = nonce;
        a.request.manifestRoot = a.quote.manifestRoot;
        a.request.maxRateIn = a.quote.rateIn;
        a.request.maxRateOut = a.quote.rateOut + uint128(seed % 7);
        a.request.profile = 2;
        a.request.class = a.quote.class;
        a.request.promptRoot = keccak256(abi.encode("prompt", nonce));
        a.request.maxTokens = 256;
        a.request.spendingLimit = 1 ether;
    }

    function answered(Answer memory a, uint256 seed) private pure {
        Codec.Receipt memory r = a.receipt;
        r.requestId = keccak256(abi.encodePacked(a.request.client, a.request.nonce));
        r.client = a.request.client;
        r.node = a.quote.node;
        r.lane = keccak256(laneBody(a));
        r.manifestRoot = a.quote.manifestRoot;
        r.indexRoot = INDEX_ROOT;
        r.parameterId = 1;
        r.profile = 2;
        r.class = a.quote.class;
        r.blockNumber = NAMED;
        r.blockHash = NAMED_HASH;
        r.promptRoot = a.request.promptRoot;
        r.answerRoot = keccak256(abi.encode("answer", seed));
        r.tokenIdHash = keccak256(abi.encode("tokens", seed));
        r.tokensIn = uint32(1 + (seed >> 8) % 4_000);
        r.tokensOut = uint32((seed >> 16) % 257);
        r.reason = uint8((seed >> 24) % 4);
        r.totalWeight = uint64(uint256(3_000) + (seed >> 32) % 9_000);
        a.assets = abi.encodePacked(a.manifest.assets[0].asset, uint32(1), a.manifest.assets[1].asset, uint32(1));
        for (uint256 i = 0; i < (seed >> 40) % 4; ++i) {
            address payee = address(uint160(0xABC0 + (seed >> 44) % 2 + i));
            a.spans = abi.encodePacked(
                a.spans, uint32(100 * i), uint16(60), uint8(i % 2), uint40(i), uint32((seed >> 48) % 1_000), payee, uint32(0)
            );
        }
        a.masks = (seed >> 58) & 1 == 0 ? bytes("") : abi.encodePacked(uint32(400), uint32(9), uint32(3));
        r.quoteHash = keccak256(quoteBody(a));
        bill(a);
    }

    /// @notice Sets fee and cumulative amount to what the quote gives, on a lane that starts at 1 gwei.
    function bill(Answer memory a) internal pure {
        Codec.Receipt memory r = a.receipt;
        r.fee = uint128((uint256(r.tokensIn) * a.quote.rateIn + uint256(r.tokensOut) * a.quote.rateOut) / 1_000 + a.quote.protocolFee);
        r.cumulativeAfter = 1 gwei + r.fee;
    }

    /// @notice Lets quote and receipt name the manifest as it is now.
    function remanifest(Answer memory a) internal pure {
        bytes32 root = keccak256(manifestBody(a));
        a.quote.manifestRoot = root;
        a.receipt.manifestRoot = root;
        requote(a);
    }

    /// @notice Lets the receipt name the quote as it is now.
    function requote(Answer memory a) internal pure {
        a.receipt.quoteHash = keccak256(quoteBody(a));
    }

    function treasury(uint64 asset) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked("tributary/treasury/v1", asset)))));
    }

    // ------------------------------------------------------------------ bodies

    function laneBody(Answer memory a) internal pure returns (bytes memory) {
        return abi.encodePacked(a.request.client, a.quote.node, uint128(10 ether), uint64(1_200), a.request.nonce);
    }

    function quoteBody(Answer memory a) internal pure returns (bytes memory) {
        Codec.Quote memory q = a.quote;
        bytes memory head = abi.encodePacked(q.node, q.manifestRoot, q.profile, q.class, q.rateIn, q.rateOut, q.protocolFee);
        return abi.encodePacked(head, q.maxTokens, q.blockNumber, q.blockHash, q.expiryBlock);
    }

    function requestBody(Codec.Request memory r) internal pure returns (bytes memory) {
        bytes memory head = abi.encodePacked(r.client, r.nonce, r.manifestRoot, r.maxRateIn, r.maxRateOut, r.profile, r.class);
        bytes32 options = keccak256("options");
        return abi.encodePacked(head, uint32(700), uint32(40), uint32(950_000), options, r.promptRoot, r.maxTokens, r.spendingLimit);
    }

    function manifestBody(Answer memory a) internal pure returns (bytes memory body) {
        Codec.Manifest memory m = a.manifest;
        body = abi.encodePacked(uint8(m.assets.length));
        for (uint256 i = 0; i < m.assets.length; ++i) {
            body = abi.encodePacked(body, m.assets[i].kind, m.assets[i].asset, m.assets[i].version, m.assets[i].contentHash);
        }
        for (uint256 i = 0; i < 6; ++i) body = abi.encodePacked(body, m.split[i]);
        body = abi.encodePacked(body, m.indexRoot, m.parameterId, uint8(m.datanets.length));
        for (uint256 i = 0; i < m.datanets.length; ++i) {
            Codec.ManifestDatanet memory d = m.datanets[i];
            body = abi.encodePacked(body, d.asset, d.version, d.treasury, d.weight);
        }
    }

    function receiptBody(Answer memory a) internal pure returns (bytes memory body) {
        Codec.Receipt memory r = a.receipt;
        body = abi.encodePacked(r.requestId, r.attempt, r.client, r.node, r.lane, r.cumulativeAfter, r.manifestRoot, r.indexRoot);
        body = abi.encodePacked(body, r.parameterId, r.profile, r.class, r.blockNumber, r.blockHash, r.promptRoot, r.answerRoot);
        body = abi.encodePacked(body, r.tokenIdHash, r.tokensIn, r.firstToken, r.tokensOut, r.quoteHash, r.fee, r.reason);
        body = abi.encodePacked(body, r.totalWeight, r.fingerprintRoot, uint8(a.assets.length / 12), a.assets);
        body = abi.encodePacked(body, uint16(a.spans.length / 40), a.spans, uint16(a.masks.length / 12), a.masks);
    }

    // ------------------------------------------------------------------ signatures and money

    function receiptSig(Answer memory a) internal view returns (bytes memory) {
        return signed(a.key, address(settlement), Sig.RECEIPT, receiptBody(a));
    }

    /// @notice Collects the lane of an answer up to what its receipt says.
    function collect(Answer memory a) internal {
        bytes memory lane = laneBody(a);
        bytes memory voucher = abi.encodePacked(
            keccak256(lane), a.receipt.requestId, a.receipt.attempt, a.receipt.quoteHash, a.receipt.firstToken, a.receipt.tokensIn
        );
        voucher = abi.encodePacked(
            voucher, a.receipt.tokensOut, a.receipt.tokenIdHash, a.receipt.cumulativeAfter - a.receipt.fee, a.receipt.cumulativeAfter
        );
        collectOne(lane, voucher);
    }

    /// @notice Collects an answer's lane up to `cumulative`, whatever its receipt says.
    function collectUpTo(Answer memory a, uint128 cumulative) internal {
        bytes memory lane = laneBody(a);
        collectOne(lane, abi.encodePacked(keccak256(lane), new bytes(110), uint128(0), cumulative));
    }

    // ------------------------------------------------------------------ proofs

    /// @notice Commits to a call, waits a block, makes it.
    function prove(address target, bytes memory call) internal returns (bool done, bytes memory reason) {
        bytes32 hash = FaultBase(target).proofHash(REPORTER, call);
        if (FaultBase(target).committedAt(hash) == 0) FaultBase(target).commitProof(hash);
        vm.roll(block.number + 1);
        vm.prank(REPORTER);
        (done, reason) = target.call(call);
    }

    function proven(address target, bytes memory call) internal {
        (bool done, bytes memory reason) = prove(target, call);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(reason, 32), mload(reason))
            }
        }
    }

    function refused(address target, bytes memory call, bytes4 selector) internal {
        (bool done, bytes memory reason) = prove(target, call);
        yes("refused", !done);
        eq("error", bytes32(selector), bytes32(bytes4(reason)));
    }
}
