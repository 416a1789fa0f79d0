// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {FraudVerifier} from "../src/FraudVerifier.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {Fixture} from "./Fixture.sol";

/// @notice Gas of whole transactions, calldata included, written to snapshots/gas.json (`npm test` isolates every call).
contract GasTest is Fixture {
    uint256 private constant PAYERS = 32;
    uint256 private constant CLAIMS = 64;

    function test_gas_of_collecting_32_vouchers() public {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](PAYERS);
        for (uint256 round = 1; round <= 2; ++round) {
            for (uint256 i = 0; i < PAYERS; ++i) {
                uint256 key = 0xBA7C4 + i;
                if (round == 1) escrow.depositFor{value: 1 ether}(vm.addr(key));
                items[i].lane = abi.encodePacked(vm.addr(key), node, uint128(1 ether), type(uint64).max, uint64(0));
                items[i].voucher = abi.encodePacked(
                    keccak256(items[i].lane),
                    keccak256(abi.encode("request", i)),
                    uint16(0),
                    keccak256("quote"),
                    uint32(0),
                    uint32(700),
                    uint32(256),
                    keccak256("tokens"),
                    uint128(0.1 ether * (round - 1)),
                    uint128(0.1 ether * round)
                );
                items[i].laneSig = round == 1 ? signed(key, address(escrow), Sig.LANE, items[i].lane) : bytes("");
                items[i].voucherSig = signed(key, address(escrow), Sig.VOUCHER, items[i].voucher);
            }
            escrow.collectMany(items);
            uint256 gas = vm.snapshotGasLastCall("gas", round == 1 ? "collect 32 vouchers, first" : "collect 32 vouchers, next");
            yes("gas per voucher", gas / PAYERS <= (round == 1 ? 80_000 : 36_000));
        }
    }

    function test_gas_of_an_epoch() public {
        vm.deal(address(this), 100 ether);
        settlement.receiveCollected{value: 10 ether}();
        for (uint64 epoch = 1; epoch <= 6; ++epoch) {
            submit(NODE_KEY, epoch);
            if (epoch == 1) vm.snapshotGasLastCall("gas", "submit node root, first ever");
            if (epoch == 4) vm.snapshotGasLastCall("gas", "submit node root, opening an epoch");
            submit(OTHER_KEY, epoch);
            if (epoch == 4) vm.snapshotGasLastCall("gas", "submit node root, joining an epoch");
            vm.warp(block.timestamp + W1);
            (bytes32 root, bytes memory siblings) = deep(client, epoch * 1 ether);
            bytes32 previous = settlement.payoutOf(epoch - 1).root;
            if (epoch < 5) {
                vm.prank(other);
                settlement.postPayout(epoch, previous, root, epoch * 1 ether + 12);
                if (epoch == 1) vm.snapshotGasLastCall("gas", "post payout, first ever");
                if (epoch == 4) yes("post", vm.snapshotGasLastCall("gas", "post payout") <= 60_000);
            } else {
                vm.warp(block.timestamp + FALLBACK);
                settlement.postPayout{value: POSTER_BOND}(epoch, previous, root, epoch * 1 ether + 12);
                if (epoch == 6) yes("post with bond", vm.snapshotGasLastCall("gas", "post payout, with bond") <= 60_000);
            }
            vm.warp(block.timestamp + W2);
            vm.prank(client);
            settlement.claim(0, epoch * 1 ether, 0, 0, 4096, siblings);
            if (epoch == 1) vm.snapshotGasLastCall("gas", "claim at depth 12, first");
            if (epoch == 4) vm.snapshotGasLastCall("gas", "claim at depth 12, next");
        }
    }

    function test_gas_of_64_relayed_claims_at_depth_12() public {
        vm.deal(address(this), 1_000 ether);
        settlement.receiveCollected{value: 1_000 ether}();
        for (uint64 epoch = 1; epoch <= 2; ++epoch) {
            submit(NODE_KEY, epoch);
            vm.warp(block.timestamp + W1);
            (bytes32 root, uint128 total, Settlement.Claim[] memory claims) = forest(epoch);
            bytes32 previous = settlement.payoutOf(epoch - 1).root;
            vm.prank(other);
            settlement.postPayout(epoch, previous, root, total);
            vm.warp(block.timestamp + W2);
            settlement.claimMany(4096, claims);
            uint256 gas = vm.snapshotGasLastCall("gas", epoch == 1 ? "64 relayed claims at depth 12, first" : "64 relayed claims at depth 12, next");
            eq("paid", claims[7].cumulative, claims[7].account.balance);
            yes("gas per claim", gas / CLAIMS <= (epoch == 1 ? 80_000 : 45_000));
        }
    }

    function test_gas_of_a_slash() public {
        bytes memory lane = collected(2 ether);
        for (uint256 i = 1; i <= 2; ++i) {
            vm.prank(address(verifier));
            stakes.slash(node, 1, client, 1, keccak256(lane), reviewer, bytes32(i));
            vm.snapshotGasLastCall("gas", i == 1 ? "slash, first of an account" : "slash, next");
        }
        StakeManager.Slash memory queued = StakeManager.Slash({
            faultHash: bytes32(uint256(1)),
            account: node,
            amount: 10 ether,
            victim: client,
            victimAmount: 1,
            lane: keccak256(lane),
            reporter: reviewer,
            releaseAt: uint64(block.timestamp) + SLASH_DELAY
        });
        vm.warp(queued.releaseAt);
        stakes.release(queued, lane);
        vm.snapshotGasLastCall("gas", "release a slash");
    }

    function test_gas_of_a_credit_note() public {
        bytes memory lane = collected(2 ether);
        bytes32 request = keccak256(abi.encodePacked(client, uint64(1)));
        bytes memory note = abi.encodePacked(keccak256(lane), request, uint128(2 ether), uint128(1 ether), type(uint64).max);
        bytes memory signature = signed(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        vm.prank(client);
        escrow.claimCredit(lane, note, signature);
        vm.snapshotGasLastCall("gas", "claim a credit note");
        uint256 open = vm.snapshotState();
        vm.deal(node, 1 ether);
        vm.prank(node);
        escrow.payCredit{value: 1 ether}(lane, request);
        vm.snapshotGasLastCall("gas", "pay a credit note");
        vm.revertToState(open);
        vm.warp(block.timestamp + HONOUR);
        escrow.settleCredit(lane, request);
        vm.snapshotGasLastCall("gas", "settle a credit note");
    }

    function test_gas_of_a_false_span() public {
        uint256 nodeKey = uint256(word(".keys.node.secret"));
        address accused = account(".keys.node.account");
        newStakes();
        newVerifiers(account(".contracts.Settlement"));
        name(address(escrow), address(verifier));
        bond(accused, 100 ether);
        FalseSpan memory proof = openings(0);
        proof.mode = FraudVerifier.Mode.Bytes;
        proof.receipt = documentBody("Receipt");
        // The first span one byte later: 430 head, two assets, count, then the last byte of its start.
        proof.receipt[430 + 2 * 12 + 2 + 3] = 0x46;
        proof.signature = signed(nodeKey, account(".contracts.Settlement"), Sig.RECEIPT, proof.receipt);
        verifier.commitProof(verifier.proofHash(address(this), falseSpanCall(proof)));
        vm.snapshotGasLastCall("gas", "commit to a proof");
        vm.roll(block.number + 1);
        verifier.proveFalseSpan(proof.receipt, proof.signature, proof.span, proof.mode, evidence(proof));
        yes("gas of a proof", vm.snapshotGasLastCall("gas", "prove a false span") < 400_000);
    }

    function test_gas_of_a_contribution() public {
        vm.startPrank(author);
        uint64 datanet = registry.register(3, "ipfs://card");
        vm.snapshotGasLastCall("gas", "register an asset");
        uint16[6] memory zero;
        registry.publish(datanet, keccak256("c"), new AssetRegistry.Ref[](0), zero, new AssetRegistry.Ref[](0), 0, 0);
        vm.snapshotGasLastCall("gas", "publish a Datanet version");
        vm.stopPrank();
        bytes32 textRoot = textRootOf(9, keccak256("text"));
        bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", bytes32(0), textRoot, client));
        vm.prank(client);
        registry.commit(commitment);
        vm.snapshotGasLastCall("gas", "commit to a contribution");
        bytes memory body = abi.encodePacked(datanet, client, textRoot, uint64(9), uint32(1), bytes32(0), keccak256("l"), keccak256("o"));
        bytes memory report = abi.encodePacked(datanet, textRoot, commitment, keccak256("report"), keccak256("o"), uint8(1));
        bytes memory signature = signed(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body);
        bytes memory reportSignature = signed(AUTHOR_KEY, address(registry), Sig.GATE_REPORT, report);
        registry.accept(body, signature, report, reportSignature, keccak256("text"));
        vm.snapshotGasLastCall("gas", "accept a contribution");
    }

    /// @dev A lane of the client to the node that has collected `cumulative`.
    function collected(uint128 cumulative) private returns (bytes memory lane) {
        vm.prank(client);
        escrow.deposit{value: 5 ether}();
        lane = abi.encodePacked(client, node, uint128(5 ether), type(uint64).max, uint64(0));
        bytes memory voucher = abi.encodePacked(keccak256(lane), new bytes(110), uint128(0), cumulative);
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = InferenceEscrow.Item({
            lane: lane,
            laneSig: signed(CLIENT_KEY, address(escrow), Sig.LANE, lane),
            voucher: voucher,
            voucherSig: signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, voucher)
        });
        escrow.collectMany(items);
    }

    function submit(uint256 key, uint64 epoch) private {
        bytes memory body = abi.encodePacked(vm.addr(key), epoch, keccak256("root"), uint64(100), uint128(1 ether));
        settlement.submitNodeRoot(body, signed(key, address(settlement), Sig.NODE_ROOT, body));
    }

    /// @dev A tree of 4,096 leaves whose first 64 are claimed; what stands beside them is one subtree per level.
    function forest(uint64 epoch) private pure returns (bytes32 root, uint128 sum, Settlement.Claim[] memory claims) {
        claims = new Settlement.Claim[](CLAIMS);
        bytes32[] memory digests = new bytes32[](CLAIMS);
        uint128[] memory sums = new uint128[](CLAIMS);
        for (uint256 i = 0; i < CLAIMS; ++i) {
            uint128 amount = uint128(epoch * (0.123456789123456789 ether + i));
            address payee = address(uint160(uint256(keccak256(abi.encode("payee", i)))));
            bytes32 parts = keccak256(abi.encode("parts", i));
            claims[i] = Settlement.Claim(payee, uint128((epoch - 1) * (0.123456789123456789 ether + i)), amount, parts, uint64(i), "");
            digests[i] = Trees.leaf(abi.encodePacked(payee, claims[i].previous, amount, parts));
            sums[i] = amount;
        }
        for (uint256 width = CLAIMS; width > 1; width /= 2) {
            for (uint256 i = 0; i < CLAIMS; ++i) {
                uint256 beside = (i * width / CLAIMS) ^ 1;
                claims[i].siblings = abi.encodePacked(claims[i].siblings, digests[beside], sums[beside]);
            }
            for (uint256 i = 0; i < width / 2; ++i) {
                digests[i] = Trees.sumNode(digests[2 * i], sums[2 * i], digests[2 * i + 1], sums[2 * i + 1]);
                sums[i] = sums[2 * i] + sums[2 * i + 1];
            }
        }
        (bytes32 digest, uint128 total) = (digests[0], sums[0]);
        for (uint256 level = 0; level < 6; ++level) {
            bytes32 sibling = keccak256(abi.encode("level", level));
            uint128 amount = uint128(epoch * (1.987654321987654321 ether + level));
            for (uint256 i = 0; i < CLAIMS; ++i) claims[i].siblings = abi.encodePacked(claims[i].siblings, sibling, amount);
            digest = Trees.sumNode(digest, total, sibling, amount);
            total += amount;
        }
        return (Trees.sumRoot(4096, total, digest), total, claims);
    }

    /// @dev A tree of 4,096 leaves in which `account` is the first and every sibling holds one wei.
    function deep(address account, uint128 amount) private pure returns (bytes32 root, bytes memory siblings) {
        bytes32 digest = Trees.leaf(abi.encodePacked(account, uint128(0), amount, bytes32(0)));
        uint128 sum = amount;
        for (uint256 i = 0; i < 12; ++i) {
            bytes32 sibling = keccak256(abi.encode(i));
            siblings = abi.encodePacked(siblings, sibling, uint128(1));
            digest = Trees.sumNode(digest, sum, sibling, 1);
            ++sum;
        }
        root = Trees.sumRoot(4096, sum, digest);
    }
}
