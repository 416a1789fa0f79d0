// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {FraudVerifier} from "../src/FraudVerifier.sol";
import {ICollectedSink, InferenceEscrow} from "../src/InferenceEscrow.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Vm} from "./Vm.sol";

/// @notice The whole suite as it is deployed, two nodes with stake, a client, and the documents they sign.
abstract contract Suite {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint64 internal constant W1 = 30;
    uint64 internal constant W2 = 10;
    uint64 internal constant EPOCH_MIN = 20;
    uint64 internal constant THAW = 7 days;
    uint64 internal constant UNBONDING = 14 days;
    uint128 internal constant MIN_STAKE = 10 ether;
    uint64 internal constant INDEX_WINDOW = 60;
    uint16 internal constant MIN_DATA_BPS = 1_000;

    uint256 internal constant CLIENT_KEY = 0xC11E;
    uint256 internal constant NODE_KEY = 0x40DE;
    uint256 internal constant OTHER_KEY = 0x07E4;
    uint256 internal constant REVIEWER_KEY = 0x4EF1;
    uint256 internal constant AUTHOR_KEY = 0xA07;

    address internal client = vm.addr(CLIENT_KEY);
    address internal node = vm.addr(NODE_KEY);
    address internal other = vm.addr(OTHER_KEY);
    address internal reviewer = vm.addr(REVIEWER_KEY);
    address internal author = vm.addr(AUTHOR_KEY);
    address internal governor = address(0x60);
    address internal protocol = address(0x70);
    address internal insurance = address(0x71);
    address internal stakers = address(0x72);

    StakeManager internal stakes;
    Settlement internal settlement;
    InferenceEscrow internal escrow;
    FraudVerifier internal verifier;
    AssetRegistry internal registry;

    error Unequal(string what, uint256 expected, uint256 got);

    function setUp() public virtual {
        vm.roll(1_000);
        vm.warp(1_000_000);
        stakes = new StakeManager(UNBONDING, MIN_STAKE, insurance);
        settlement = new Settlement(W1, W2, EPOCH_MIN, stakes, protocol, insurance, stakers);
        escrow = new InferenceEscrow(ICollectedSink(address(settlement)), THAW);
        verifier = new FraudVerifier(stakes, address(settlement));
        registry = new AssetRegistry(governor, stakes, INDEX_WINDOW, MIN_DATA_BPS);
        stakes.setVerifier(address(verifier));
        bond(node, 100 ether);
        bond(other, 50 ether);
        vm.deal(client, 1_000 ether);
    }

    function bond(address account, uint256 amount) internal {
        vm.deal(account, account.balance + amount);
        vm.prank(account);
        stakes.stake{value: amount}(keccak256(abi.encode(account)), 1, account);
    }

    function signed(uint256 key, address verifying, bytes32 typehash, bytes memory body) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, Sig.digest(Sig.domain(verifying), typehash, keccak256(body)));
        return abi.encodePacked(r, s, v);
    }

    function eq(string memory what, uint256 expected, uint256 got) internal pure {
        if (expected != got) revert Unequal(what, expected, got);
    }

    function eq(string memory what, bytes32 expected, bytes32 got) internal pure {
        if (expected != got) revert Unequal(what, uint256(expected), uint256(got));
    }

    function eq(string memory what, address expected, address got) internal pure {
        eq(what, uint256(uint160(expected)), uint256(uint160(got)));
    }

    function yes(string memory what, bool holds) internal pure {
        if (!holds) revert Unequal(what, 1, 0);
    }
}
