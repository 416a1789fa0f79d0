// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {AuditRent} from "../src/AuditRent.sol";
import {IBonds, IClock} from "../src/AuditRoll.sol";
import {DatanetRent, IDatanets, IEpochs} from "../src/DatanetRent.sol";
import {Trees} from "../src/Trees.sol";
import {Suite} from "./Suite.sol";

/// @notice Counts epochs.
contract Clock {
    uint64 public currentEpoch = 5;

    function next(uint64 epochs) external {
        currentEpoch += epochs;
    }
}

/// @notice Datanets and what was contributed to them, without signatures.
contract Shelf {
    mapping(uint64 => AssetRegistry.Accepted[]) private rows;
    mapping(uint64 => uint64) public bytesOf;
    address private immutable owner;

    constructor(address owner_) {
        owner = owner_;
    }

    function add(uint64 datanet, bytes32 object, uint64 textBytes) external {
        AssetRegistry.Accepted memory row;
        row.objectHash = object;
        row.textBytes = textBytes;
        rows[datanet].push(row);
        bytesOf[datanet] += textBytes;
    }

    function kindOf(uint64) external pure returns (uint8) {
        return 3;
    }

    function ownerOf(uint256) external view returns (address) {
        return owner;
    }

    function contributionCount(uint64 datanet) external view returns (uint256) {
        return rows[datanet].length;
    }

    function contributionAt(uint64 datanet, uint256 number) external view returns (AssetRegistry.Accepted memory) {
        return rows[datanet][number];
    }
}

/// @notice Nodes on a roll, Datanets with rent, holdings, verdicts and the claims that they make.
abstract contract AuditWorld is Suite {
    /// @notice A fragment as its node holds it, and who is to pay for it; nobody if `pays` is false.
    struct Held {
        uint64 datanet;
        uint32 contribution;
        uint32 period;
        uint8 fragment;
        uint8 fragments;
        bool pays;
    }

    bytes32 internal constant AUDIT_VERDICT = keccak256("AuditVerdict(bytes body)");
    uint256 internal constant NODES = 8;
    uint64 internal constant NET = 1;
    uint64 internal constant GIB = 2 ** 30;

    Clock internal clock;
    Shelf internal shelf;
    AuditRent internal audits;
    mapping(address => uint256) internal keyOf;

    function setUp() public virtual override {
        super.setUp();
        (clock, shelf) = (new Clock(), new Shelf(author));
        rent = new DatanetRent(IDatanets(address(shelf)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        audits = new AuditRent(IBonds(address(stakes)), IClock(address(clock)), rent, AssetRegistry(address(shelf)));
        rent.setAuditor(address(audits));
        vm.deal(address(this), 1e30);
        for (uint256 i = 0; i < NODES; ++i) enlist(i, 0);
    }

    function nodeKey(uint256 i) internal pure returns (uint256) {
        return 0xA0D17000 + i;
    }

    function nodeAt(uint256 i) internal pure returns (address) {
        return vm.addr(nodeKey(i));
    }

    /// @notice Where node `i` is paid.
    function payoutOf(uint256 i) internal pure returns (address) {
        return address(uint160(0xBEEF0000 + i));
    }

    function enlist(uint256 i, uint48 subnet) internal {
        address who = nodeAt(i);
        keyOf[who] = nodeKey(i);
        vm.deal(who, 100 ether);
        vm.startPrank(who);
        stakes.stake{value: 50 ether}(keccak256(abi.encode(who)), 1, payoutOf(i));
        audits.enlist{value: 0.01 ether}(subnet);
        vm.stopPrank();
    }

    /// @notice The next epoch, and its beacon.
    function nextEpoch() internal returns (uint64 epoch) {
        clock.next(1);
        epoch = clock.currentEpoch();
        audits.announceBeacon();
        vm.roll(block.number + audits.BEACON_BLOCKS() + 1);
        audits.storeBeacon(epoch);
    }

    function object(uint64 datanet, uint32 contribution) internal pure returns (bytes32) {
        return keccak256(abi.encode("object", datanet, contribution));
    }

    function fragmentRoot(Held memory held) internal pure returns (bytes32) {
        return keccak256(abi.encode("root", held.datanet, held.contribution, held.fragment));
    }

    function leafOf(Held memory held) internal pure returns (bytes memory) {
        return abi.encodePacked(
            object(held.datanet, held.contribution), held.fragment, held.fragments, uint32(4_096), fragmentRoot(held)
        );
    }

    function rowOf(Held memory held) internal pure returns (bytes memory) {
        if (!held.pays) return abi.encodePacked(uint8(0), Trees.leaf(leafOf(held)));
        return abi.encodePacked(
            uint8(1), held.datanet, held.contribution, held.period, held.fragment, held.fragments, uint32(4_096), fragmentRoot(held)
        );
    }

    /// @notice Every level of the tree over the holdings, the leaves' first.
    function levels(Held[] memory held) internal pure returns (bytes32[][] memory all) {
        uint256 depth = Trees.depth(uint64(held.length));
        all = new bytes32[][](depth + 1);
        all[0] = new bytes32[](uint256(1) << depth);
        for (uint256 i = 0; i < held.length; ++i) all[0][i] = Trees.leaf(leafOf(held[i]));
        for (uint256 level = 1; level <= depth; ++level) {
            all[level] = new bytes32[](all[level - 1].length / 2);
            for (uint256 i = 0; i < all[level].length; ++i) {
                all[level][i] = Trees.node(all[level - 1][2 * i], all[level - 1][2 * i + 1]);
            }
        }
    }

    function holdingsOf(Held[] memory held) internal pure returns (bytes32) {
        bytes32[][] memory all = levels(held);
        return Trees.root(uint64(held.length), uint64(held.length) * 70, all[all.length - 1][0]);
    }

    function verdict(address auditor, address who, uint64 epoch, bytes32 holdings, uint8 code) internal pure returns (bytes memory) {
        return abi.encodePacked(
            auditor, who, epoch, holdings, keccak256("nonce"), code, uint8(20), keccak256("digest"), uint32(80_000), uint32(120_000)
        );
    }

    function attest(address auditor, bytes memory body) internal view returns (bytes memory) {
        return signed(keyOf[auditor], address(clock), AUDIT_VERDICT, body);
    }

    /// @notice What node `i` claims of part `part`, of 2^`width` leaves, by the verdicts of the first two auditors drawn.
    function claimOf(uint256 i, uint64 epoch, Held[] memory held, uint64 part, uint256 width)
        internal
        view
        returns (AuditRent.Audit memory audit)
    {
        address who = nodeAt(i);
        audit.place = uint32(i);
        audit.count = uint64(held.length);
        audit.part = part;
        (audit.siblings, audit.rows) = partOf(held, part, width);
        address[3] memory drawn = audits.auditorsOf(epoch, who, i);
        bytes32 holdings = holdingsOf(held);
        audit.first = verdict(drawn[0], who, epoch, holdings, 0);
        audit.firstSignature = attest(drawn[0], audit.first);
        audit.second = verdict(drawn[1], who, epoch, holdings, 0);
        audit.secondSignature = attest(drawn[1], audit.second);
    }

    function partOf(Held[] memory held, uint64 part, uint256 width) internal pure returns (bytes32[] memory siblings, bytes memory rows) {
        bytes32[][] memory all = levels(held);
        siblings = new bytes32[](all.length - 1 - width);
        for (uint256 level = width; level + 1 < all.length; ++level) {
            siblings[level - width] = all[level][(uint256(part) >> (level - width)) ^ 1];
        }
        uint256 end = (uint256(part) + 1) << width;
        for (uint256 k = uint256(part) << width; k < end && k < held.length; ++k) rows = bytes.concat(rows, rowOf(held[k]));
    }

    /// @notice All that a node holds, in one claim.
    function whole(uint256 i, uint64 epoch, Held[] memory held) internal view returns (AuditRent.Audit[] memory claims) {
        claims = new AuditRent.Audit[](1);
        claims[0] = claimOf(i, epoch, held, 0, Trees.depth(uint64(held.length)));
    }

    /// @notice Fragments 0 to `count` - 1 of one contribution.
    function fragmentsOf(uint32 contribution, uint32 period, uint8 count, uint8 fragments) internal pure returns (Held[] memory held) {
        held = new Held[](count);
        for (uint8 k = 0; k < count; ++k) held[k] = Held(NET, contribution, period, k, fragments, true);
    }
}
