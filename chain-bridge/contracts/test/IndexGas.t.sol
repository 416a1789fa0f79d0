// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IndexVerifier} from "../src/IndexVerifier.sol";
import {Trees} from "../src/Trees.sol";
import {IndexTrees} from "./IndexTrees.sol";
import {IndexWorld} from "./IndexWorld.sol";
import {Pack} from "./Pack.sol";

/// @notice What a proof against an index costs, its slash included: in a text of 4 GiB where its size counts.
contract IndexGasTest is IndexWorld {
    /// @dev Two segments, as long as segments are, of 2^25 text leaves are 4 GiB; entries as English prose has them, one for 5.5 bytes.
    uint64 private constant TEXT_LEAVES = 1 << 25;
    uint64 private constant ENTRIES = 390_451_572;

    function test_gas_of_a_missing_word_and_of_an_unordered_pair_in_four_gib() public {
        // Three text leaves in three quarters of the tree: between the windows of the first two belongs that of the third.
        bytes[3] memory three;
        for (uint256 i = 0; i < 3; ++i) {
            three[i] = noise(i);
            three[i][8] = " ";
        }
        (three[0][9], three[1][9], three[2][9]) = ("a", "c", "b");
        uint256[3] memory places = [uint256(1_234_567), (1 << 23) + 4_321, (1 << 24) + 99];
        (bytes32 textRoot, bytes[3] memory opened) = quarters(three, places);
        for (uint256 i = 0; i < 3; ++i) opened[i] = abi.encodePacked(Pack.blob(three[i]), opened[i]);
        bytes memory path;
        bytes memory arrayLeaf;
        (path, arrayLeaf) = deep(textRoot, 64 * places[0] + 9, 64 * places[1] + 9);
        bytes memory evidence = abi.encodePacked(path, uint40(64 * places[2] + 9), opened[2], uint64(250_000_003), arrayLeaf, opened[0], opened[1]);
        metered(IndexVerifier.Mode.Missing, evidence, "X4, a missing word at depth 26");
        (path, arrayLeaf) = deep(textRoot, 64 * places[1] + 9, 64 * places[0] + 9);
        evidence = abi.encodePacked(path, uint64(uint256(250_000_002) / 15), arrayLeaf, uint8(250_000_002 % 15), opened[1], opened[0]);
        metered(IndexVerifier.Mode.Order, evidence, "X1, two entries at depth 26");
    }

    function test_gas_of_a_wrong_row_and_of_a_contribution_left_out() public {
        texts[1].payee = indexer;
        lay();
        post();
        metered(IndexVerifier.Mode.Row, abi.encodePacked(source(0), row(0, 2), texts[1].number), "X5, another payee");
        made[0] = segmentOf(1, 2, 0);
        made[1] = segmentOf(2, 3, uint64(made[0].text.length));
        post();
        metered(IndexVerifier.Mode.LeftOut, leftOut(1, 0, 2, texts[0].number, after_(0, 0), after_(1, 0)), "X5, left out of two segments");
        indexes.enter(datanets[0], 9);
        vm.snapshotGasLastCall("gas", "X5, enter 3 contributions");
    }

    function metered(IndexVerifier.Mode mode, bytes memory evidence, string memory name_) private {
        proven(address(indexes), call(mode, evidence));
        vm.snapshotGasLastCall("gas", name_);
    }

    /// @dev A root of which nobody has more than the way to one array leaf and three text leaves, posted; and the source, and that array leaf.
    function deep(bytes32 textRoot, uint256 a, uint256 b) private returns (bytes memory path, bytes memory arrayLeaf) {
        uint256 rank = 250_000_003;
        bytes memory leaf = new bytes(80);
        uint256 k = (rank - 1) % 15;
        for (uint256 i = 0; i < 80; ++i) leaf[i] = bytes1(uint8(i + 1));
        for (uint256 i = 0; i < 5; ++i) (leaf[5 * k + i], leaf[5 * k + 5 + i]) = (bytes5(uint40(a))[i], bytes5(uint40(b))[i]);
        (bytes32 root_, bytes memory opening) = IndexTrees.deep(leaf, (ENTRIES + 14) / 15, 5 * ENTRIES, (rank - 1) / 15);
        arrayLeaf = abi.encodePacked(Pack.blob(leaf), opening);
        uint64 length = TEXT_LEAVES * 64;
        leaf = abi.encodePacked(textRoot, keccak256("rows"), root_, length, length, ENTRIES);
        (root_, opening) = IndexTrees.deep(leaf, 2, 240, 1);
        path = abi.encodePacked(leaf, uint64(1), opening);
        bytes[] memory leaves_ = new bytes[](2);
        leaves_[0] = abi.encodePacked(datanets[0], netVersion, 2 * length, root_);
        leaves_[1] = datanetLeaves()[1];
        path = abi.encodePacked(uint8(0), leaves_[0], IndexTrees.open(leaves_, 104, 0), path);
        foreign(leaves_);
    }

    /// @dev Leaves in the first three quarters of one tree.
    function quarters(bytes[3] memory three, uint256[3] memory places) private pure returns (bytes32 root_, bytes[3] memory openings) {
        bytes32[4] memory top;
        top[3] = keccak256("the last quarter");
        for (uint256 i = 0; i < 3; ++i) {
            top[i] = keccak256(abi.encodePacked(hex"00", three[i]));
            openings[i] = abi.encodePacked(TEXT_LEAVES, TEXT_LEAVES * 64);
            for (uint256 level = 0; level < 23; ++level) {
                bytes32 sibling = keccak256(abi.encode("level", level));
                openings[i] = abi.encodePacked(openings[i], sibling);
                top[i] = (places[i] >> level) & 1 == 0 ? Trees.node(top[i], sibling) : Trees.node(sibling, top[i]);
            }
        }
        bytes32 left_ = Trees.node(top[0], top[1]);
        bytes32 right = Trees.node(top[2], top[3]);
        openings[0] = abi.encodePacked(openings[0], top[1], right);
        openings[1] = abi.encodePacked(openings[1], top[0], right);
        openings[2] = abi.encodePacked(openings[2], top[3], left_);
        root_ = Trees.root(TEXT_LEAVES, TEXT_LEAVES * 64, Trees.node(left_, right));
    }

    function noise(uint256 seed) private pure returns (bytes memory out) {
        out = new bytes(320);
        for (uint256 i = 0; i < 320; ++i) out[i] = bytes1(uint8(97 + uint256(keccak256(abi.encode(seed, i))) % 26));
    }
}
