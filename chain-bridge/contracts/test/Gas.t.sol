// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {FraudVerifier} from "../src/FraudVerifier.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {Fixture} from "./Fixture.sol";

/// @notice Gas of whole transactions, calldata included, written to snapshots/gas.json (`npm test` isolates every call).
contract GasTest is Fixture {
    uint256 private constant PAYERS = 32;

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
                items[i].laneSig = signed(key, address(escrow), Sig.LANE, items[i].lane);
                items[i].voucherSig = signed(key, address(escrow), Sig.VOUCHER, items[i].voucher);
            }
            escrow.collectMany(items);
            uint256 gas = vm.snapshotGasLastCall("gas", round == 1 ? "collect 32 vouchers, first" : "collect 32 vouchers, next");
            // A batch must fit well into a block, and cost less per voucher than a transfer and a half.
            yes("gas per voucher", gas / PAYERS < (round == 1 ? 65_000 : 48_000));
        }
    }

    function test_gas_of_an_epoch() public {
        vm.deal(address(this), 10 ether);
        settlement.receiveCollected{value: 10 ether}();
        for (uint64 epoch = 1; epoch <= 2; ++epoch) {
            bytes memory body = abi.encodePacked(node, epoch, keccak256("root"), uint64(100), uint128(1 ether));
            settlement.submitNodeRoot(body, signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body));
            vm.snapshotGasLastCall("gas", epoch == 1 ? "submit node root, first ever" : "submit node root, opening an epoch");
            vm.warp(block.timestamp + W1);
            (bytes32 root, bytes memory siblings) = deep(client, epoch * 1 ether);
            bytes32 previous = settlement.payoutOf(epoch - 1).root;
            vm.prank(other);
            settlement.postPayout(epoch, previous, root, epoch * 1 ether + 12);
            vm.snapshotGasLastCall("gas", epoch == 1 ? "post payout, first" : "post payout, next");
            vm.warp(block.timestamp + W2);
            vm.prank(client);
            settlement.claim(0, epoch * 1 ether, 0, 0, 4096, siblings);
            uint256 gas =
                vm.snapshotGasLastCall("gas", epoch == 1 ? "claim at depth 12, first" : "claim at depth 12, next");
            yes("gas of a claim", gas < 130_000);
        }
    }

    function test_gas_of_a_false_span() public {
        uint256 nodeKey = uint256(word(".keys.node.secret"));
        address accused = account(".keys.node.account");
        newStakes();
        verifier = new FraudVerifier(stakes, account(".contracts.Settlement"));
        name(address(escrow), address(verifier));
        bond(accused, 100 ether);
        FraudVerifier.FalseSpan memory proof = openings(0);
        proof.mode = FraudVerifier.Mode.Bytes;
        proof.receipt = documentBody("Receipt");
        // The first span one byte later: 430 head, two assets, count, then the last byte of its start.
        proof.receipt[430 + 2 * 12 + 2 + 3] = 0x46;
        proof.signature = signed(nodeKey, account(".contracts.Settlement"), Sig.RECEIPT, proof.receipt);
        verifier.commitProof(verifier.proofHash(address(this), proof));
        vm.snapshotGasLastCall("gas", "commit to a proof");
        vm.roll(block.number + 1);
        verifier.proveFalseSpan(proof);
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
        bytes32 textRoot = keccak256("text");
        bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", bytes32(0), textRoot, client));
        vm.prank(client);
        registry.commit(commitment);
        vm.snapshotGasLastCall("gas", "commit to a contribution");
        bytes memory body = abi.encodePacked(datanet, client, textRoot, uint64(9), uint32(1), bytes32(0), keccak256("l"), keccak256("o"));
        bytes memory report = abi.encodePacked(datanet, textRoot, commitment, keccak256("report"), uint8(1));
        bytes memory signature = signed(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body);
        bytes memory reportSignature = signed(AUTHOR_KEY, address(registry), Sig.GATE_REPORT, report);
        registry.accept(body, signature, report, reportSignature);
        vm.snapshotGasLastCall("gas", "accept a contribution");
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
