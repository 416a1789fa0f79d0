// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {AuditCase, ICaseStakes} from "../src/AuditCase.sol";
import {Erasures} from "../src/Erasures.sol";
import {Shelf} from "./AuditWorld.sol";
import {Suite} from "./Suite.sol";

/// @notice Stake that notes what it was told to take.
contract Taker {
    uint64 public constant unbondingSeconds = 14 days;
    bytes32 public fault;
    address public reporter;

    function slashableOf(address) external pure returns (uint128) {
        return 1;
    }

    function slash(address, uint128, address, uint128, bytes32, address reporter_, bytes32 faultHash) external returns (uint128) {
        (fault, reporter) = (faultHash, reporter_);
        return 1;
    }
}

/// @notice Nothing is erased.
contract Kept {
    function erasureOf(uint64, uint256) external pure returns (Erasures.Erasure memory) {}
}

/// @notice Reads tests/fixtures/storage_vectors.json, which an independent script wrote: a commitment, a leaf of its holdings, what cases are named, what answers them.
contract CaseVectorsTest is Suite {
    string private json;
    Taker private taker;

    function setUp() public override {
        vm.roll(4_400);
        vm.warp(1_000_000);
        json = vm.readFile("../../tests/fixtures/storage_vectors.json");
        vm.chainId(vm.parseJsonUint(json, ".chainId"));
        Shelf shelf = new Shelf(author);
        taker = new Taker();
        bytes memory leaf = vm.parseJsonBytes(json, at(".leaf"));
        for (uint256 i = 0; i <= number(".contribution"); ++i) shelf.add(uint64(number(".datanet")), first(leaf), 1);
        cases = new AuditCase(
            ICaseStakes(address(taker)),
            vm.parseJsonAddress(json, ".contracts.Settlement"),
            AssetRegistry(address(shelf)),
            Erasures(address(new Kept())),
            CASE_BOND,
            CASE_ANSWER,
            CASE_AGE_BLOCKS,
            BLOCK_SECONDS
        );
        vm.deal(address(this), 10 ether);
    }

    receive() external payable {}

    function at(string memory rest) private pure returns (string memory) {
        return string.concat(".audit.case", rest);
    }

    function part(uint256 i, string memory rest) private pure returns (string memory) {
        return string.concat(at(".parts["), vm.toString(i), "]", rest);
    }

    function number(string memory rest) private view returns (uint256) {
        return vm.parseJsonUint(json, at(rest));
    }

    function first(bytes memory leaf) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(leaf, 32))
        }
    }

    function question(uint256 i) private view returns (AuditCase.Question memory asked) {
        asked.commit = vm.parseJsonBytes(json, at(".commit.body"));
        asked.signature = vm.parseJsonBytes(json, at(".commit.signature"));
        asked.leaf = vm.parseJsonBytes(json, at(".leaf"));
        (asked.count, asked.index) = (uint64(number(".count")), uint64(number(".index")));
        asked.siblings = vm.parseJsonBytes32Array(json, at(".siblings"));
        (asked.datanet, asked.contribution) = (uint64(number(".datanet")), uint32(number(".contribution")));
        asked.part = uint32(vm.parseJsonUint(json, part(i, ".part")));
    }

    function askedOf(uint256 i) private view returns (AuditCase.Asked memory asked) {
        asked.node = vm.parseJsonAddress(json, at(".commit.account"));
        (asked.datanet, asked.contribution) = (uint64(number(".datanet")), uint32(number(".contribution")));
        asked.root = vm.parseJsonBytes32(json, ".audit.fragments[0].root");
        asked.size = uint32(vm.parseJsonUint(json, ".audit.fragments[0].bytes"));
        asked.part = uint32(vm.parseJsonUint(json, part(i, ".part")));
    }

    function test_cases_of_the_vectors_are_opened_and_answered() public {
        for (uint256 i = 0; i < 2; ++i) {
            bytes32 id = cases.open{value: CASE_BOND}(question(i));
            eq("id", vm.parseJsonBytes32(json, part(i, ".id")), id);
            eq("signed at", number(".signedAt"), cases.caseOf(id).signedAt);
            AuditCase.Asked memory asked = askedOf(i);
            cases.answer(asked, vm.parseJsonBytes(json, part(i, ".bytes")), vm.parseJsonBytes32Array(json, part(i, ".siblings")));
            eq("ended", block.number, cases.caseOf(id).endedAt);
        }
    }

    function test_silence_is_the_fault_of_the_vectors() public {
        cases.open{value: CASE_BOND}(question(0));
        vm.warp(block.timestamp + CASE_ANSWER);
        cases.close(askedOf(0));
        eq("fault", vm.parseJsonBytes32(json, at(".fault")), taker.fault());
        eq("reporter", address(this), taker.reporter());
    }
}
