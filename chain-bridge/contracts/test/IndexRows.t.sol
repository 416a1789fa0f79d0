// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IndexVerifier} from "../src/IndexVerifier.sol";
import {Matches} from "../src/Matches.sol";
import {IndexTrees} from "./IndexTrees.sol";
import {IndexWorld} from "./IndexWorld.sol";

/// @notice Text without a row, of which nobody could show who holds it: a document in a contribution's last stride, a segment without rows, a Datanet without
/// segments; each beside what is right and looks like it.
contract IndexRowsTest is IndexWorld {
    IndexVerifier.Mode private constant BEHIND = IndexVerifier.Mode.Behind;
    IndexVerifier.Mode private constant HOLLOW = IndexVerifier.Mode.Hollow;
    IndexVerifier.Mode private constant COUNTS = IndexVerifier.Mode.Counts;
    IndexVerifier.Mode private constant FORM = IndexVerifier.Mode.Form;
    IndexVerifier.Mode private constant ROWS = IndexVerifier.Mode.Rows;

    function test_a_document_without_a_row_in_its_contributions_last_stride_convicts() public {
        texts[0].content = bytes.concat(texts[0].content, "and gone\x00");
        lay();
        post();
        holds(BEHIND, behind(0, 2));
        without(0, 2);
        post();
        // What follows begins where it must: rows alone do not show it.
        holds(ROWS, rowPair(0, 1));
        convicted(BEHIND, behind(0, 1));
    }

    function test_a_document_without_a_row_at_the_end_of_a_segment_convicts() public {
        texts[2].content = bytes.concat(texts[2].content, "and gone\x00");
        lay();
        post();
        holds(BEHIND, behind(1, 1));
        without(1, 1);
        convicted(BEHIND, behind(1, 0));
        // The segment ends with the row, its last leaf does not.
        IndexTrees.Segment memory s = made[1];
        s.text = IndexTrees.cut(s.text, 0, 30);
        IndexTrees.seal(s);
        made[1] = s;
        convicted(BEHIND, behind(1, 0));
    }

    function test_nothing_goes_on_behind_the_rows_of_a_right_index() public view {
        for (uint256 i = 0; i < 3; ++i) for (uint256 j = 0; j < made[i].rows.length; ++j) {
            bool isLast = j + 1 == made[i].rows.length || made[i].rows[j + 1][76] == 0;
            // Behind a document that another of its contribution follows, no text is shown.
            holds(BEHIND, isLast ? behind(i, j) : rowPair(i, j));
        }
        no(BEHIND, abi.encodePacked(rowPair(0, 1), text(0, 128)), Matches.WrongRoot.selector);
    }

    function test_nothing_goes_on_behind_a_tombstone() public {
        texts[1].content = "";
        lay();
        post();
        holds(BEHIND, behind(0, 1));
        holds(BEHIND, abi.encodePacked(source(0), uint64(2), rowAlone(0, 2)));
    }

    function test_a_segment_of_text_and_no_rows_convicts_and_one_of_neither_does_not() public {
        IndexTrees.Segment memory s = made[1];
        s.rows = new bytes[](0);
        IndexTrees.seal(s);
        made[1] = s;
        convicted(COUNTS, counts(1));
        lay();
        made[1] = segmentOf(2, 2, uint64(made[0].text.length));
        post();
        holds(COUNTS, counts(1));
        // A tombstone is a row of no text.
        texts[2].content = "";
        lay();
        post();
        holds(COUNTS, counts(1));
    }

    function test_a_datanet_of_a_length_and_no_segments_convicts_and_an_empty_one_does_not() public {
        bytes[] memory none = new bytes[](0);
        bytes memory head = IndexTrees.head(none, 0);
        bytes[] memory leaves = datanetLeaves();
        leaves[1] = abi.encodePacked(IndexTrees.cut(leaves[1], 0, 20), IndexTrees.rootOf(none, 0));
        foreign(leaves);
        bytes memory evidence = abi.encodePacked(uint8(1), leaves[1], IndexTrees.open(leaves, 104, 1), head);
        proven(address(indexes), call(HOLLOW, evidence));
        yes("stake falls", stakes.slashableOf(indexer) < BOND);
        leaves[1] = abi.encodePacked(IndexTrees.cut(leaves[1], 0, 12), uint64(0), IndexTrees.rootOf(none, 0));
        foreign(leaves);
        holds(HOLLOW, abi.encodePacked(uint8(1), leaves[1], IndexTrees.open(leaves, 104, 1), head));
        post();
        holds(HOLLOW, hollow(0));
        holds(HOLLOW, hollow(1));
        no(HOLLOW, abi.encodePacked(datanet(0), segmentsHead(1)), Matches.WrongRoot.selector);
    }

    function test_a_row_that_is_too_short_to_be_read_convicts() public {
        IndexTrees.Segment memory s = made[0];
        s.rows[1] = IndexTrees.cut(s.rows[1], 0, 84);
        IndexTrees.seal(s);
        made[0] = s;
        convicted(FORM, formOf(2, 1));
        holds(FORM, formOf(2, 0));
    }

    function test_a_segments_leaf_or_a_datanets_of_another_size_convicts() public {
        made[0].leaf = bytes.concat(made[0].leaf, hex"00");
        convicted(FORM, formOf(1, 0));
        lay();
        bytes[] memory leaves = datanetLeaves();
        leaves[0] = IndexTrees.cut(leaves[0], 0, 51);
        foreign(leaves);
        bytes memory evidence = abi.encodePacked(uint8(0), uint8(0), IndexTrees.blobAt(leaves, 104, 0));
        proven(address(indexes), call(FORM, evidence));
        yes("stake falls", stakes.slashableOf(indexer) < BOND);
    }

    function test_leaves_of_a_right_index_have_the_size_of_their_kind() public view {
        for (uint8 above = 0; above < 3; ++above) holds(FORM, formOf(above, 0));
        for (uint256 j = 0; j < made[0].rows.length; ++j) holds(FORM, formOf(2, j));
        no(FORM, abi.encodePacked(uint8(2), source(0), uint64(1), array(0, 1)), Matches.WrongRoot.selector);
    }

    /// @dev Takes a row out.
    function without(uint256 i, uint256 number) private {
        IndexTrees.Segment memory s = made[i];
        bytes[] memory fewer = new bytes[](s.rows.length - 1);
        for (uint256 j = 0; j < fewer.length; ++j) fewer[j] = s.rows[j < number ? j : j + 1];
        s.rows = fewer;
        IndexTrees.seal(s);
        made[i] = s;
    }
}
