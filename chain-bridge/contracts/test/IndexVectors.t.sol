// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IndexVerifier} from "../src/IndexVerifier.sol";
import {Matches} from "../src/Matches.sol";
import {IndexTrees} from "./IndexTrees.sol";
import {IndexWorld} from "./IndexWorld.sol";

/// @notice The indexes of the independent script (tests/fixtures/vectors.json), in eight scripts: whatever is opened of them, nothing convicts.
contract IndexVectorsTest is IndexWorld {
    string private json;

    function setUp() public override {
        super.setUp();
        json = vm.readFile("../../tests/fixtures/vectors.json");
        made[0] = read(".index.datanets[1].segments[0]");
        made[1] = read(".index.datanets[1].segments[1]");
        made[2] = read(".index.datanets[0].segments[0]");
        post();
    }

    function test_no_entry_of_the_vectors_is_out_of_order_no_word_or_missing() public view {
        for (uint256 i = 0; i < 3; ++i) {
            uint256 entries = made[i].entries.length;
            for (uint256 rank = 0; rank < entries; ++rank) {
                holds(IndexVerifier.Mode.Entry, entry(i, rank));
                no(IndexVerifier.Mode.Missing, missing(i, made[i].entries[rank], uint64(rank)), Matches.NotBetween.selector);
                if (rank + 1 < entries) holds(IndexVerifier.Mode.Order, pair(i, rank));
            }
        }
    }

    function test_no_place_of_the_first_datanet_between_its_words_begins_one() public view {
        begins(2);
    }

    function test_no_place_of_the_second_datanet_between_its_words_begins_one() public view {
        begins(0);
        begins(1);
    }

    /// @dev Nothing but the entries of a segment.
    function begins(uint256 i) private view {
        bool[] memory isEntry = new bool[](made[i].text.length);
        for (uint256 j = 0; j < made[i].entries.length; ++j) isEntry[made[i].entries[j]] = true;
        for (uint256 p = 0; p < isEntry.length; ++p) {
            if (!isEntry[p]) no(IndexVerifier.Mode.Missing, missing(i, p, 0), IndexVerifier.NoWordStart.selector);
        }
    }

    function test_the_leaves_rows_and_sizes_of_the_vectors_agree() public view {
        for (uint256 i = 0; i < 3; ++i) agrees(i);
        holds(IndexVerifier.Mode.Segments, abi.encodePacked(source(0), segmentsHead(0), segmentAlone(1)));
        holds(IndexVerifier.Mode.Segments, abi.encodePacked(source(1), segmentsHead(0)));
    }

    function test_a_segment_with_tombstones_before_between_and_behind_its_texts_agrees() public {
        made[2] = read(".tombstones.segment");
        post();
        agrees(2);
        for (uint256 rank = 0; rank < made[2].entries.length; ++rank) holds(IndexVerifier.Mode.Entry, entry(2, rank));
    }

    function agrees(uint256 i) private view {
        for (uint256 j = 0; j < made[i].texts.length; ++j) holds(IndexVerifier.Mode.TextLeaves, textPair(i, j));
        for (uint256 j = 0; j + 1 < made[i].array.length; ++j) {
            holds(IndexVerifier.Mode.ArrayLeaves, abi.encodePacked(source(i), uint64(j), array(i, j), array(i, j + 1)));
        }
        for (uint256 j = 0; j < made[i].rows.length; ++j) {
            holds(IndexVerifier.Mode.Rows, rowPair(i, j));
            bytes memory row_ = made[i].rows[j];
            uint256 start = uint40(bytes5(bytes.concat(row_[32], row_[33], row_[34], row_[35], row_[36])));
            uint256 length = uint32(bytes4(bytes.concat(row_[37], row_[38], row_[39], row_[40])));
            if (length == 0) continue;
            bytes memory front = abi.encodePacked(source(i), row(i, j));
            holds(IndexVerifier.Mode.Length, abi.encodePacked(front, uint64(length), text(i, start + length)));
            holds(IndexVerifier.Mode.Length, abi.encodePacked(front, uint64(length / 2), text(i, start + length / 2)));
        }
        holds(IndexVerifier.Mode.Counts, counts(i));
    }

    /// @dev A segment of the vectors, whose leaf must be theirs.
    function read(string memory key) private view returns (IndexTrees.Segment memory s) {
        s.text = vm.parseJsonBytes(json, string.concat(key, ".text"));
        s.start = uint64(vm.parseJsonUint(json, string.concat(key, ".start")));
        s.entries = vm.parseJsonUintArray(json, string.concat(key, ".array"));
        s.array = IndexTrees.arrayLeaves(s.entries);
        s.rows = new bytes[](count(string.concat(key, ".rows")));
        for (uint256 i = 0; i < s.rows.length; ++i) s.rows[i] = vm.parseJsonBytes(json, at_(string.concat(key, ".rows"), i));
        uint256 contributions = count(string.concat(key, ".contributions"));
        for (uint256 i = 0; i < contributions; ++i) {
            bytes memory own_ = vm.parseJsonBytes(json, string.concat(at_(string.concat(key, ".contributions"), i), ".text"));
            s.texts = IndexTrees.joined(s.texts, IndexTrees.textLeaves(own_));
        }
        IndexTrees.seal(s);
        eq(key, keccak256(vm.parseJsonBytes(json, string.concat(key, ".leaf"))), keccak256(s.leaf));
    }

    function count(string memory list) private view returns (uint256 found) {
        while (vm.keyExistsJson(json, at_(list, found))) ++found;
    }

    function at_(string memory list, uint256 i) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(i), "]");
    }
}
