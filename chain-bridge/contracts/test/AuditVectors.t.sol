// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {AuditRent} from "../src/AuditRent.sol";
import {IBonds, IClock} from "../src/AuditRoll.sol";
import {DatanetRent, IDatanets, IEpochs} from "../src/DatanetRent.sol";
import {Sig} from "../src/Sig.sol";
import {Trees} from "../src/Trees.sol";
import {Clock, Shelf} from "./AuditWorld.sol";
import {Suite} from "./Suite.sol";

/// @notice Says that everybody is bonded, and is paid where it is.
contract Bonded {
    function isBonded(address) external pure returns (bool) {
        return true;
    }

    function payoutAt(address node, uint48) external pure returns (address) {
        return node;
    }
}

/// @notice Reads tests/fixtures/storage_vectors.json, which an independent script wrote: draw, leaves, verdicts and a whole claim.
contract AuditVectorsTest is Suite {
    uint64 private constant EPOCH = 12;
    uint64 private constant NET = 6;
    string private json;
    address private books;
    AuditRent private audits;

    /// @dev A roll of the vectors' accounts, contributions that name its objects, and the beacon of the vectors instead of a block's.
    function setUp() public override {
        vm.roll(1_000);
        vm.warp(1_000_000);
        json = vm.readFile("../../tests/fixtures/storage_vectors.json");
        vm.chainId(vm.parseJsonUint(json, ".chainId"));
        books = vm.parseJsonAddress(json, ".contracts.Settlement");
        vm.etch(books, address(new Clock()).code);
        Shelf shelf = new Shelf(author);
        rent = new DatanetRent(IDatanets(address(shelf)), IEpochs(books), governor, 1, 48 ether);
        audits = new AuditRent(IBonds(address(new Bonded())), IClock(books), rent, AssetRegistry(address(shelf)));
        rent.setAuditor(address(audits));
        for (uint256 i = 0; has(at("roll", i, ".node")); ++i) {
            address node_ = vm.parseJsonAddress(json, at("roll", i, ".node"));
            vm.deal(node_, 1 ether);
            uint256 subnet = vm.parseJsonUint(json, at("roll", i, ".subnet"));
            vm.prank(node_);
            audits.enlist{value: 0.01 ether}(uint48(subnet));
        }
        for (uint256 i = 0; has(at("held", i, ".object")); ++i) {
            if (i > 0) shelf.add(NET, keccak256("another"), 2 ** 30);
            shelf.add(NET, vm.parseJsonBytes32(json, at("held", i, ".object")), 2 ** 30);
        }
        vm.deal(address(this), 10_000 ether);
        rent.prepay{value: 10_000 ether}(NET);
        Clock(books).next(EPOCH - 1);
        rent.accrue(NET);
        Clock(books).next(2);
        rent.accrue(NET);
        // `beaconOf` is the second word of the contract.
        vm.store(address(audits), keccak256(abi.encode(EPOCH, uint256(1))), vm.parseJsonBytes32(json, ".audit.beacon"));
        eq("the beacon", vm.parseJsonBytes32(json, ".audit.beacon"), audits.beaconOf(EPOCH));
    }

    function at(string memory list, uint256 i, string memory rest) private pure returns (string memory) {
        return string.concat(".audit.claim.", list, "[", vm.toString(i), "]", rest);
    }

    function has(string memory key) private view returns (bool) {
        return vm.keyExistsJson(json, key);
    }

    function test_everybodys_auditors_are_those_of_the_vectors() public view {
        for (uint256 place = 0; has(at("roll", place, ".node")); ++place) {
            address[3] memory drawn = audits.auditorsOf(EPOCH, vm.parseJsonAddress(json, at("roll", place, ".node")), place);
            for (uint256 k = 0; k < 3; ++k) {
                string memory key = at("drawn", place, string.concat("[", vm.toString(k), "]"));
                eq("auditor", has(key) ? vm.parseJsonAddress(json, key) : address(0), drawn[k]);
            }
        }
    }

    function test_verdicts_are_signed_as_the_vectors_say() public view {
        for (uint256 i = 0; i < 2; ++i) {
            bytes memory body = vm.parseJsonBytes(json, at("verdicts", i, ".body"));
            eq("length", 154, body.length);
            bytes32 digest = Sig.digest(Sig.domain(books), keccak256("AuditVerdict(bytes body)"), keccak256(body));
            eq("digest", vm.parseJsonBytes32(json, at("verdicts", i, ".digest")), digest);
        }
    }

    function test_a_leaf_of_holdings_is_that_of_the_vectors() public view {
        for (uint256 i = 0; has(at("held", i, ".leaf")); ++i) {
            bytes memory leaf = abi.encodePacked(
                vm.parseJsonBytes32(json, at("held", i, ".object")),
                uint8(vm.parseJsonUint(json, at("held", i, ".fragment"))),
                uint8(vm.parseJsonUint(json, at("held", i, ".fragments"))),
                uint32(vm.parseJsonUint(json, at("held", i, ".bytes"))),
                vm.parseJsonBytes32(json, at("held", i, ".root"))
            );
            eq("leaf", keccak256(vm.parseJsonBytes(json, at("held", i, ".leaf"))), keccak256(leaf));
            eq("of so many bytes", audits.LEAF_BYTES(), leaf.length);
        }
    }

    function test_the_claim_of_the_vectors_is_paid() public {
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](2);
        for (uint64 part = 0; part < 2; ++part) {
            claims[part].first = vm.parseJsonBytes(json, at("verdicts", 0, ".body"));
            claims[part].firstSignature = vm.parseJsonBytes(json, at("verdicts", 0, ".signature"));
            claims[part].second = vm.parseJsonBytes(json, at("verdicts", 1, ".body"));
            claims[part].secondSignature = vm.parseJsonBytes(json, at("verdicts", 1, ".signature"));
            claims[part].place = uint32(vm.parseJsonUint(json, ".audit.claim.place"));
            claims[part].count = 5;
            claims[part].part = part;
            claims[part].siblings = vm.parseJsonBytes32Array(json, at("parts", part, ".siblings"));
            claims[part].rows = vm.parseJsonBytes(json, at("parts", part, ".rows"));
        }
        address node_ = vm.parseJsonAddress(json, at("roll", claims[0].place, ".node"));
        uint256 before = node_.balance;
        audits.claim(claims);
        // 48 OPEN per GiB and epoch, a GiB each, 48 fragments: one OPEN for each of four.
        eq("paid", before + 4 ether, node_.balance);
        eq("the tree's root by its leaves", vm.parseJsonBytes32(json, ".audit.claim.holdings"), root());
    }

    function root() private view returns (bytes32) {
        bytes32[] memory level = new bytes32[](8);
        for (uint256 i = 0; i < 5; ++i) level[i] = Trees.leaf(vm.parseJsonBytes(json, at("held", i, ".leaf")));
        for (uint256 width = 8; width > 1; width /= 2) {
            for (uint256 i = 0; i < width; i += 2) level[i / 2] = Trees.node(level[i], level[i + 1]);
        }
        return Trees.root(5, 350, level[0]);
    }
}
