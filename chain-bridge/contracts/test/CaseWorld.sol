// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AuditCase} from "../src/AuditCase.sol";
import {Sig} from "../src/Sig.sol";
import {Trees} from "../src/Trees.sol";
import {Suite} from "./Suite.sol";

/// @notice Nodes that hold fragments of contributions, what they sign of it, and the cases that are made of that.
abstract contract CaseWorld is Suite {
    /// @dev What a node signed: its fragments, number `i` of object `i`, and the block.
    struct Signed {
        uint256 key;
        uint256 fragments;
        uint64 signedAt;
    }

    bytes32 internal constant AUDIT_COMMIT = keccak256("AuditCommit(bytes body)");
    address internal constant ASKER = address(0xA5CE);
    uint64 internal constant NET = 1;
    uint256 internal constant OBJECTS = 5;

    function setUp() public virtual override {
        super.setUp();
        vm.prank(author);
        eq("the Datanet", NET, registry.register(3, "net"));
        for (uint256 i = 0; i < OBJECTS; ++i) contribute(NET, AUTHOR_KEY, i, object(i));
        vm.deal(ASKER, 1_000 ether);
        later(1_000);
    }

    /// @notice Blocks pass, none slower than they are.
    function later(uint64 blocks) internal {
        vm.roll(block.number + blocks);
        vm.warp(block.timestamp + BLOCK_SECONDS * uint256(blocks));
    }

    function object(uint256 number) internal pure returns (bytes32) {
        return keccak256(abi.encode("object", number));
    }

    /// @notice Bytes of the fragment of object `number`: from 1 byte up, most of no whole number of leaves.
    function sizeOf(uint256 number) internal pure returns (uint32) {
        return uint32([uint256(5_000), 1, 1_024, 40_000, 2_049][number]);
    }

    function parts(uint256 number) internal pure returns (uint32) {
        return (sizeOf(number) + 1_023) / 1_024;
    }

    /// @notice Leaf `part` of a fragment's tree: words that nobody guesses, cut where the fragment ends.
    function cut(uint256 number, uint32 part) internal pure returns (bytes memory data) {
        uint256 left = uint256(sizeOf(number)) - uint256(part) * 1_024;
        data = new bytes(left < 1_024 ? left : 1_024);
        for (uint256 at_ = 0; at_ < data.length; at_ += 32) {
            bytes32 word = keccak256(abi.encodePacked("bytes", number, part, at_));
            if (data.length - at_ < 32) word = (word >> (8 * (32 + at_ - data.length))) << (8 * (32 + at_ - data.length));
            assembly ("memory-safe") {
                mstore(add(add(data, 32), at_), word)
            }
        }
    }

    function digests(uint256 number) internal pure returns (bytes32[] memory level) {
        level = new bytes32[](parts(number));
        for (uint32 i = 0; i < level.length; ++i) level[i] = Trees.leaf(cut(number, i));
    }

    /// @notice Every level of a tree, the leaves' first.
    function levels(bytes32[] memory leaves) internal pure returns (bytes32[][] memory all) {
        uint256 depth = Trees.depth(uint64(leaves.length));
        all = new bytes32[][](depth + 1);
        all[0] = new bytes32[](uint256(1) << depth);
        for (uint256 i = 0; i < leaves.length; ++i) all[0][i] = leaves[i];
        for (uint256 level = 1; level <= depth; ++level) {
            all[level] = new bytes32[](all[level - 1].length / 2);
            for (uint256 i = 0; i < all[level].length; ++i) all[level][i] = Trees.node(all[level - 1][2 * i], all[level - 1][2 * i + 1]);
        }
    }

    function siblingsOf(bytes32[] memory leaves, uint256 index) internal pure returns (bytes32[] memory siblings) {
        bytes32[][] memory all = levels(leaves);
        siblings = new bytes32[](all.length - 1);
        for (uint256 level = 0; level < siblings.length; ++level) siblings[level] = all[level][(index >> level) ^ 1];
    }

    function top(bytes32[] memory leaves) internal pure returns (bytes32) {
        bytes32[][] memory all = levels(leaves);
        return all[all.length - 1][0];
    }

    function rootOf(uint256 number) internal pure returns (bytes32) {
        return Trees.root(parts(number), sizeOf(number), top(digests(number)));
    }

    function leafOf(uint256 number) internal pure returns (bytes memory) {
        return abi.encodePacked(object(number), uint8(number), uint8(48), sizeOf(number), rootOf(number));
    }

    function held(uint256 fragments) internal pure returns (bytes32[] memory leaves) {
        leaves = new bytes32[](fragments);
        for (uint256 i = 0; i < fragments; ++i) leaves[i] = Trees.leaf(leafOf(i));
    }

    /// @notice A commitment to the first `fragments` fragments, of an epoch of the network's count.
    function commitOf(Signed memory said) internal pure returns (bytes memory) {
        bytes32 holdings = Trees.root(uint64(said.fragments), uint64(said.fragments) * 70, top(held(said.fragments)));
        return abi.encodePacked(vm.addr(said.key), uint64(1 << 63) | (said.signedAt / 8), holdings, uint64(9), said.signedAt);
    }

    function says(uint256 key, uint256 fragments) internal view returns (Signed memory) {
        return Signed(key, fragments, uint64(block.number));
    }

    function question(Signed memory said, uint256 number, uint32 part) internal view returns (AuditCase.Question memory asked) {
        asked.commit = commitOf(said);
        asked.signature = signed(said.key, address(settlement), AUDIT_COMMIT, asked.commit);
        asked.leaf = leafOf(number);
        (asked.count, asked.index) = (uint64(said.fragments), uint64(number));
        asked.siblings = siblingsOf(held(said.fragments), number);
        (asked.datanet, asked.contribution, asked.part) = (NET, uint32(number), part);
    }

    function askedOf(uint256 key, uint256 number, uint32 part) internal pure returns (AuditCase.Asked memory) {
        return AuditCase.Asked(vm.addr(key), NET, uint32(number), rootOf(number), sizeOf(number), part);
    }

    function open(Signed memory said, uint256 number, uint32 part) internal returns (bytes32 id) {
        AuditCase.Question memory asked = question(said, number, part);
        vm.prank(ASKER, ASKER);
        id = cases.open{value: CASE_BOND}(asked);
    }

    function openRefused(bytes memory why, AuditCase.Question memory asked) internal {
        vm.expectRevert(why);
        vm.prank(ASKER, ASKER);
        cases.open{value: CASE_BOND}(asked);
    }

    function answer(address who, uint256 key, uint256 number, uint32 part) internal {
        AuditCase.Asked memory asked = askedOf(key, number, part);
        (bytes memory data, bytes32[] memory siblings) = (cut(number, part), siblingsOf(digests(number), part));
        vm.prank(who, who);
        cases.answer(asked, data, siblings);
    }

    /// @notice Contributed by the Datanet's owner, who reviews it too.
    function contribute(uint64 datanet, uint256 owner, uint256 number, bytes32 object_) internal returns (uint256) {
        bytes32 top_ = keccak256(abi.encode("top", number));
        bytes32 root = textRootOf(9, top_);
        bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", bytes32("salt"), root, vm.addr(owner)));
        if (!registry.commitmentOf(commitment, vm.addr(owner)).exists) {
            vm.prank(vm.addr(owner));
            registry.commit(commitment);
        }
        bytes memory body =
            abi.encodePacked(datanet, vm.addr(owner), root, uint64(9), uint32(1), bytes32("salt"), keccak256("licence"), object_);
        bytes memory report = abi.encodePacked(datanet, root, commitment, keccak256("report"), object_, uint8(1));
        return registry.accept(
            body,
            signed(owner, address(registry), Sig.CONTRIBUTION, body),
            report,
            signed(owner, address(registry), Sig.GATE_REPORT, report),
            top_
        );
    }
}
