// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {Erasures} from "../src/Erasures.sol";
import {FaultBase} from "../src/FaultBase.sol";
import {IndexVerifier} from "../src/IndexVerifier.sol";
import {Matches} from "../src/Matches.sol";
import {Openings} from "../src/Openings.sol";
import {ISettlement, IStakes} from "../src/Ports.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {Words} from "../src/Words.sol";
import {IndexTrees} from "./IndexTrees.sol";
import {IndexWorld} from "./IndexWorld.sol";

/// @notice Indexes that are wrong in one thing, each refuted by it; and the right one beside them, which nothing refutes.
contract IndexVerifierTest is IndexWorld {
    IndexVerifier.Mode private constant ORDER = IndexVerifier.Mode.Order;
    IndexVerifier.Mode private constant ARRAY_LEAVES = IndexVerifier.Mode.ArrayLeaves;
    IndexVerifier.Mode private constant TEXT_LEAVES = IndexVerifier.Mode.TextLeaves;
    IndexVerifier.Mode private constant TEXT = IndexVerifier.Mode.Text;
    IndexVerifier.Mode private constant ENTRY = IndexVerifier.Mode.Entry;
    IndexVerifier.Mode private constant MISSING = IndexVerifier.Mode.Missing;
    IndexVerifier.Mode private constant ROW = IndexVerifier.Mode.Row;
    IndexVerifier.Mode private constant ROWS = IndexVerifier.Mode.Rows;
    IndexVerifier.Mode private constant LENGTH = IndexVerifier.Mode.Length;
    IndexVerifier.Mode private constant LEFT_OUT = IndexVerifier.Mode.LeftOut;
    IndexVerifier.Mode private constant INVENTED = IndexVerifier.Mode.Invented;
    IndexVerifier.Mode private constant COUNTS = IndexVerifier.Mode.Counts;
    IndexVerifier.Mode private constant SEGMENTS = IndexVerifier.Mode.Segments;
    IndexVerifier.Mode private constant DATANETS = IndexVerifier.Mode.Datanets;

    // ------------------------------------------------------------------ X1

    function test_two_entries_out_of_order_convict() public {
        swap(0, 3);
        convicted(ORDER, pair(0, 3));
        // What stands beside them is in order still.
        holds(ORDER, pair(0, 5));
    }

    function test_the_last_two_entries_of_a_leaf_and_the_first_two_of_the_next_convict() public {
        swap(0, 14);
        convicted(ORDER, pair(0, 14));
        swap(0, 14);
        swap(0, 15);
        convicted(ORDER, pair(0, 15));
    }

    function test_equal_windows_out_of_order_by_place_convict() public {
        uint256 rank = equalPair();
        swap(0, rank);
        convicted(ORDER, pair(0, rank));
    }

    function test_an_entry_that_stands_twice_convicts() public {
        IndexTrees.Segment memory s = made[1];
        s.entries[2] = s.entries[1];
        rearrange(1, s);
        convicted(ORDER, pair(1, 1));
    }

    function test_no_two_neighbours_of_a_right_array_convict() public view {
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 rank = 0; rank + 1 < made[i].entries.length; ++rank) holds(ORDER, pair(i, rank));
        }
        no(ORDER, abi.encodePacked(source(1), uint64(0), array(1, 0), uint8(5)), Matches.MalformedArrayLeaf.selector);
    }

    // ------------------------------------------------------------------ X2

    function test_array_leaves_that_share_another_entry_convict() public {
        IndexTrees.Segment memory s = made[0];
        s.array[1][4] ^= 0x01;
        IndexTrees.seal(s);
        made[0] = s;
        convicted(ARRAY_LEAVES, abi.encodePacked(source(0), uint64(0), array(0, 0), array(0, 1)));
    }

    function test_an_array_leaf_of_another_size_convicts_alone_or_as_the_next() public {
        IndexTrees.Segment memory s = made[0];
        s.array[1] = IndexTrees.cut(s.array[1], 0, 75);
        IndexTrees.seal(s);
        made[0] = s;
        convicted(ARRAY_LEAVES, abi.encodePacked(source(0), uint64(1), array(0, 1)));
        convicted(ARRAY_LEAVES, abi.encodePacked(source(0), uint64(0), array(0, 0), array(0, 1)));
    }

    function test_fewer_entries_than_the_segment_says_convict() public {
        IndexTrees.Segment memory s = made[1];
        s.entries = new uint256[](s.entries.length + 1);
        IndexTrees.seal(s);
        made[1] = s;
        convicted(ARRAY_LEAVES, abi.encodePacked(source(1), uint64(0), array(1, 0)));
        // One leaf more than there may be.
        s.entries = new uint256[](0);
        IndexTrees.seal(s);
        made[1] = s;
        convicted(ARRAY_LEAVES, abi.encodePacked(source(1), uint64(0), array(1, 0)));
    }

    function test_right_array_leaves_do_not_convict() public view {
        for (uint256 i = 0; i + 1 < made[0].array.length; ++i) {
            holds(ARRAY_LEAVES, abi.encodePacked(source(0), uint64(i), array(0, i), array(0, i + 1)));
        }
        // After the last there is none.
        no(ARRAY_LEAVES, abi.encodePacked(source(1), uint64(0), array(1, 0), array(1, 0)), Trees.IndexBeyondLeaves.selector);
        no(ARRAY_LEAVES, abi.encodePacked(source(0), uint64(0), array(0, 1)), Matches.WrongRoot.selector);
    }

    function test_text_leaves_that_share_other_bytes_convict() public {
        IndexTrees.Segment memory s = made[0];
        s.texts[3][7] ^= 0x01;
        IndexTrees.seal(s);
        made[0] = s;
        convicted(TEXT_LEAVES, textPair(0, 2));
    }

    function test_a_text_leaf_that_goes_on_behind_its_contribution_or_ends_before_it_convicts() public {
        uint256 last = made[0].texts.length - 3;
        IndexTrees.Segment memory s = made[0];
        s.texts[last] = abi.encodePacked(s.texts[last], hex"00");
        IndexTrees.seal(s);
        made[0] = s;
        convicted(TEXT_LEAVES, textPair(0, last - 1));
        lay();
        s = made[0];
        s.texts[last] = abi.encodePacked(IndexTrees.cut(s.texts[last], 0, 80), hex"00");
        IndexTrees.seal(s);
        made[0] = s;
        convicted(TEXT_LEAVES, textPair(0, last - 1));
    }

    function test_a_text_leaf_of_no_form_convicts_alone() public {
        bytes memory long = abi.encodePacked(made[0].texts[2], hex"00");
        alone(0, 2, "");
        alone(0, 2, long);
        // Ends without a zero byte.
        alone(0, 2, "the quick brown");
        uint256 last = made[0].texts.length - 1;
        // Goes on behind the segment, and ends before it.
        alone(0, last, abi.encodePacked(made[0].texts[last], hex"00"));
        alone(0, last, "dog\x00");
    }

    function test_right_text_leaves_do_not_convict() public view {
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = 0; j < made[i].texts.length; ++j) holds(TEXT_LEAVES, textPair(i, j));
        }
    }

    function test_a_text_that_is_not_the_contributions_convicts() public {
        bytes memory content = texts[1].content;
        bytes memory fifth = own(1, 5);
        texts[1].content = abi.encodePacked("we saw this", IndexTrees.cut(content, 11, content.length));
        lay();
        bytes memory first = abi.encodePacked(source(0), row(0, 2), uint64(0), IndexTrees.blobAt(IndexTrees.textLeaves(content), content.length, 0));
        convicted(TEXT, abi.encodePacked(first, text(0, 128)));
        // Its other leaves are the contribution's.
        holds(TEXT, abi.encodePacked(source(0), row(0, 2), uint64(5), fifth, text(0, 128 + 5 * 64)));
        // A text that is cut off, its rows as they were.
        texts[1].content = abi.encodePacked(IndexTrees.cut(content, 0, 60), hex"00");
        lay();
        convicted(TEXT, abi.encodePacked(source(0), row(0, 2), uint64(0), IndexTrees.blobAt(IndexTrees.textLeaves(content), content.length, 0), text(0, 128)));
    }

    function test_the_contributions_own_text_does_not_convict() public view {
        uint256 count = IndexTrees.textLeaves(texts[1].content).length;
        for (uint256 j = 0; j < count; ++j) holds(TEXT, abi.encodePacked(source(0), row(0, 2), uint64(j), own(1, j), text(0, 128 + 64 * j)));
        holds(TEXT, abi.encodePacked(source(0), row(0, 0), uint64(1), own(0, 1), text(0, 64)));
        // A second document begins anywhere.
        holds(TEXT, abi.encodePacked(source(0), row(0, 1)));
        no(TEXT, abi.encodePacked(source(0), row(0, 2), uint64(0), own(1, 0), text(0, 192)), Matches.WrongRoot.selector);
        no(TEXT, abi.encodePacked(source(0), row(0, 2), uint64(0), own(0, 0), text(0, 128)), Matches.WrongRoot.selector);
    }

    // ------------------------------------------------------------------ X3

    function test_an_entry_beyond_the_text_convicts_without_a_text() public {
        IndexTrees.Segment memory s = made[1];
        s.entries[5] = s.text.length;
        rearrange(1, s);
        convicted(ENTRY, abi.encodePacked(source(1), uint64(0), array(1, 0), uint8(5)));
    }

    function test_an_entry_where_no_word_begins_convicts() public {
        // Inside a word, at a space, at a document's end, in the fill between contributions, inside a word at a stride's beginning.
        uint256[5] memory places = [uint256(5), 3, 43, 100, 192];
        yes("a letter before", made[0].text[191] != " " && made[0].text[192] != " ");
        IndexTrees.Segment memory s = made[0];
        for (uint256 i = 0; i < 5; ++i) s.entries[16 + i] = places[i];
        rearrange(0, s);
        post();
        for (uint256 i = 0; i < 5; ++i) {
            (bool done,) = tried(ENTRY, entry(0, 16 + i));
            yes("convicts", done);
        }
        convicted(ENTRY, entry(0, 16));
    }

    function test_no_entry_of_a_right_array_convicts() public view {
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 rank = 0; rank < made[i].entries.length; ++rank) holds(ENTRY, entry(i, rank));
        }
        no(ENTRY, abi.encodePacked(source(1), uint64(0), array(1, 0), uint8(6)), Matches.MalformedArrayLeaf.selector);
        no(ENTRY, abi.encodePacked(source(1), uint64(0), array(1, 0), uint8(0), text(0, 0)), Matches.WrongRoot.selector);
    }

    // ------------------------------------------------------------------ X4

    function test_a_word_that_the_array_lacks_convicts_wherever_it_belongs() public {
        for (uint256 rank = 0; rank < 6; ++rank) {
            lay();
            uint256 place = left(1, rank);
            if (rank == 0 || rank == 5) convicted(MISSING, missing(1, place, uint64(rank)));
            else {
                post();
                (bool done,) = tried(MISSING, missing(1, place, uint64(rank)));
                yes("convicts", done);
            }
        }
    }

    function test_a_word_that_belongs_between_two_array_leaves_convicts() public {
        uint256 place = left(0, 15);
        convicted(MISSING, missing(0, place, 15));
    }

    function test_one_of_two_equal_windows_that_is_left_out_convicts() public {
        uint256 rank = equalPair();
        uint256 place = left(0, rank);
        convicted(MISSING, missing(0, place, uint64(rank)));
        lay();
        place = left(0, rank + 1);
        convicted(MISSING, missing(0, place, uint64(rank + 1)));
    }

    function test_an_array_of_nothing_convicts_by_any_word() public {
        IndexTrees.Segment memory s = made[1];
        s.entries = new uint256[](0);
        rearrange(1, s);
        convicted(MISSING, abi.encodePacked(source(1), uint40(5), text(1, 5)));
    }

    function test_a_word_that_the_array_has_is_not_missing() public view {
        for (uint256 rank = 0; rank < made[0].entries.length; ++rank) {
            no(MISSING, missing(0, made[0].entries[rank], uint64(rank)), Matches.NotBetween.selector);
            no(MISSING, missing(0, made[0].entries[rank], uint64(rank + 1)), Matches.NotBetween.selector);
        }
    }

    function test_what_is_no_word_and_what_belongs_elsewhere_is_not_missing() public {
        no(MISSING, missing(0, 5, 0), IndexVerifier.NoWordStart.selector);
        no(MISSING, missing(0, 3, 0), IndexVerifier.NoWordStart.selector);
        no(MISSING, missing(0, 192, 0), IndexVerifier.NoWordStart.selector);
        uint256 place = left(1, 2);
        post();
        no(MISSING, missing(1, place, 1), Matches.NotBetween.selector);
        no(MISSING, missing(1, place, 3), Matches.NotBetween.selector);
        no(MISSING, missing(1, place, 0), Matches.NotBetween.selector);
        no(MISSING, missing(1, place, 5), Matches.NotBetween.selector);
        no(MISSING, abi.encodePacked(source(1), uint40(place), text(1, place), uint64(6)), Matches.RankBeyondArray.selector);
    }

    function testFuzz_no_place_of_a_right_index_is_missing_at_any_rank(uint256 place, uint256 rank) public view {
        place %= made[0].text.length;
        (bool done,) = tried(MISSING, missing(0, place, uint64(rank % (made[0].entries.length + 1))));
        yes("refused", !done);
    }

    // ------------------------------------------------------------------ X5, one row

    function test_a_row_with_another_payee_or_text_root_than_the_contributions_convicts() public {
        address payee = texts[1].payee;
        texts[1].payee = indexer;
        lay();
        convicted(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
        convicted(ROW, abi.encodePacked(source(0), row(0, 3), texts[1].number));
        texts[1].payee = payee;
        texts[1].root = keccak256("another text");
        lay();
        convicted(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
    }

    function test_a_contribution_that_is_not_erased_has_no_tombstone() public {
        texts[1].content = "";
        lay();
        convicted(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
        // Erased after the version was published.
        vm.roll(block.number + 1);
        erase(1);
        convicted(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
    }

    function test_an_erased_contribution_has_a_tombstone() public {
        vm.roll(block.number + 1);
        erase(1);
        vm.roll(block.number + 1);
        netVersion = publishNet();
        lay();
        convicted(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
        texts[1].content = "";
        lay();
        post();
        holds(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
        holds(ROWS, rowPair(0, 2));
        holds(ROWS, rowPair(0, 1));
        holds(TEXT, abi.encodePacked(source(0), row(0, 2)));
        holds(LENGTH, abi.encodePacked(source(0), row(0, 2), uint64(0)));
        // A tombstone is one row of no bytes.
        IndexTrees.Segment memory s = made[0];
        s.rows[2][40] = 0x01;
        IndexTrees.seal(s);
        made[0] = s;
        convicted(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
    }

    function test_an_erasure_in_the_block_of_the_publication_convicts_neither_way() public {
        vm.roll(block.number + 1);
        erase(1);
        netVersion = publishNet();
        lay();
        post();
        holds(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
        texts[1].content = "";
        lay();
        post();
        holds(ROW, abi.encodePacked(source(0), row(0, 2), texts[1].number));
    }

    function test_a_right_row_does_not_convict() public view {
        for (uint256 i = 0; i < 4; ++i) {
            uint64 number = texts[i / 2].number;
            holds(ROW, abi.encodePacked(source(0), row(0, i), number));
            no(ROW, abi.encodePacked(source(0), row(0, i), 1 - number), IndexVerifier.OtherContribution.selector);
        }
        holds(ROW, abi.encodePacked(source(1), row(1, 0), uint64(2)));
        no(ROW, abi.encodePacked(source(1), row(1, 0), uint64(3)), IndexVerifier.UnknownContribution.selector);
        holds(ROW, abi.encodePacked(source(2), row(2, 0), uint64(0)));
    }

    // ------------------------------------------------------------------ X5, rows

    function test_rows_that_do_not_follow_each_other_convict() public {
        // The second document: another number, start, payee, root, and one of nobody.
        broken(1, 76, 0);
        broken(1, 36, 0);
        broken(1, 50, 0);
        broken(1, 10, 0);
        IndexTrees.Segment memory s = made[0];
        for (uint256 i = 41; i < 61; ++i) s.rows[0][i] = 0;
        IndexTrees.seal(s);
        made[0] = s;
        convicted(ROWS, rowPair(0, 0));
        lay();
        // The next contribution: a document number, a start, an earlier block.
        broken(2, 76, 1);
        broken(2, 36, 1);
        broken(2, 68, 1);
    }

    function test_a_document_that_is_too_long_for_its_place_convicts() public {
        broken(0, 40, 0);
        broken(1, 39, 1);
    }

    function test_a_first_row_that_is_not_the_first_and_a_last_one_that_is_not_the_last_convict() public {
        IndexTrees.Segment memory s = made[1];
        s.rows[0][76] = 0x01;
        IndexTrees.seal(s);
        made[1] = s;
        convicted(ROWS, abi.encodePacked(source(1), uint64(0), rowAlone(1, 0)));
        lay();
        s = made[1];
        s.rows[0][36] = 0x40;
        IndexTrees.seal(s);
        made[1] = s;
        convicted(ROWS, abi.encodePacked(source(1), uint64(0), rowAlone(1, 0)));
        lay();
        s = made[0];
        s.rows[3][40] ^= 0x01;
        IndexTrees.seal(s);
        made[0] = s;
        convicted(ROWS, rowPair(0, 3));
    }

    function test_a_tombstone_at_the_end_stands_behind_the_text() public {
        texts[1].content = "";
        lay();
        post();
        uint256 last = made[0].rows.length - 1;
        holds(ROWS, rowPair(0, last));
        IndexTrees.Segment memory s = made[0];
        s.rows[last][36] ^= 0x40;
        IndexTrees.seal(s);
        made[0] = s;
        convicted(ROWS, rowPair(0, last));
    }

    function test_right_rows_do_not_convict() public view {
        for (uint256 i = 0; i < 3; ++i) for (uint256 j = 0; j < made[i].rows.length; ++j) holds(ROWS, rowPair(i, j));
    }

    function test_a_row_over_a_documents_end_or_before_it_convicts() public {
        // One document instead of two: the zero byte between them is inside.
        IndexTrees.Segment memory s = made[0];
        s.rows[0] = abi.encodePacked(IndexTrees.cut(s.rows[0], 0, 37), uint32(60), IndexTrees.cut(s.rows[0], 41, 85));
        IndexTrees.seal(s);
        made[0] = s;
        convicted(LENGTH, abi.encodePacked(source(0), row(0, 0), uint64(43), text(0, 43)));
        // Two instead of one: no zero byte ends the first.
        lay();
        s = made[0];
        s.rows[0] = abi.encodePacked(IndexTrees.cut(s.rows[0], 0, 37), uint32(20), IndexTrees.cut(s.rows[0], 41, 85));
        IndexTrees.seal(s);
        made[0] = s;
        convicted(LENGTH, abi.encodePacked(source(0), row(0, 0), uint64(20), text(0, 20)));
        // A place that no leaf shows, between two contributions.
        lay();
        s = made[0];
        s.rows[1] = abi.encodePacked(IndexTrees.cut(s.rows[1], 0, 37), uint32(70), IndexTrees.cut(s.rows[1], 41, 85));
        IndexTrees.seal(s);
        made[0] = s;
        convicted(LENGTH, abi.encodePacked(source(0), row(0, 1), uint64(60), text(0, 44 + 60)));
    }

    function test_a_right_length_does_not_convict() public view {
        holds(LENGTH, abi.encodePacked(source(0), row(0, 0), uint64(43), text(0, 43)));
        holds(LENGTH, abi.encodePacked(source(0), row(0, 0), uint64(42), text(0, 42)));
        no(LENGTH, abi.encodePacked(source(0), row(0, 0), uint64(44), text(0, 44)), Matches.OutsideDocument.selector);
    }

    // ------------------------------------------------------------------ X5, left out and invented

    function test_a_contribution_that_was_left_out_convicts() public {
        // Its neighbours are the other contributions of its segment: after it, and before it.
        made[0] = segmentOf(1, 2, 0);
        made[1] = segmentOf(2, 3, uint64(made[0].text.length));
        convicted(LEFT_OUT, leftOut(1, 0, 2, texts[0].number, after_(0, 0), after_(1, 0)));
        made[0] = segmentOf(0, 1, 0);
        made[1] = segmentOf(2, 3, uint64(made[0].text.length));
        convicted(LEFT_OUT, leftOut(1, 0, 2, texts[1].number, before_(0, 1), after_(1, 0)));
        // Between two rows of one segment, and with a segment of no rows beside it.
        Text memory middle = texts[1];
        texts[1] = texts[2];
        made[0] = segmentOf(0, 2, 0);
        made[1] = segmentOf(0, 0, uint64(made[0].text.length));
        bytes memory none = abi.encodePacked(uint8(0), IndexTrees.head(made[1].rows, 0));
        convicted(LEFT_OUT, leftOut(0, 2, 2, middle.number, between(0, 1), none));
    }

    function test_a_contribution_that_is_there_or_came_later_was_not_left_out() public {
        // A segment holds it: nothing passes it by.
        bytes4 passed = IndexVerifier.NotPassedBy.selector;
        no(LEFT_OUT, leftOut(1, 0, 2, 0, after_(0, 0), after_(1, 0)), passed);
        no(LEFT_OUT, leftOut(1, 0, 2, 0, before_(0, 3), after_(1, 0)), passed);
        no(LEFT_OUT, leftOut(1, 0, 2, 0, between(0, 1), after_(1, 0)), passed);
        no(LEFT_OUT, leftOut(1, 0, 2, 0, between(0, 2), after_(1, 0)), passed);
        no(LEFT_OUT, leftOut(1, 0, 2, 0, between(0, 0), after_(1, 0)), passed);
        no(LEFT_OUT, leftOut(1, 0, 2, 0, abi.encodePacked(uint8(4)), after_(1, 0)), passed);
        no(LEFT_OUT, leftOut(1, 0, 2, 0, abi.encodePacked(uint8(0), IndexTrees.head(made[0].rows, 340)), after_(1, 0)), passed);
        // Left out, but nothing of what is there was accepted after it.
        made[1] = segmentOf(2, 2, uint64(made[0].text.length));
        post();
        bytes memory none = abi.encodePacked(uint8(0), IndexTrees.head(made[1].rows, 0));
        no(LEFT_OUT, leftOut(0, 0, 1, 2, before_(0, 3), none), IndexVerifier.NotEarlier.selector);
        no(LEFT_OUT, leftOut(0, 0, 1, 1, before_(0, 3), none), IndexVerifier.NotEarlier.selector);
        no(LEFT_OUT, leftOut(0, 0, 2, 0, before_(0, 3), none), IndexVerifier.OtherContribution.selector);
        no(LEFT_OUT, leftOut(0, 0, 3, 0, before_(0, 3), none), IndexVerifier.UnknownContribution.selector);
        // Neither the last before it nor the first after it: others may stand between.
        made[0] = segmentOf(1, 2, 0);
        made[1] = segmentOf(2, 3, uint64(made[0].text.length));
        post();
        no(LEFT_OUT, leftOut(1, 0, 2, texts[0].number, after_(0, 1), after_(1, 0)), passed);
        made[0] = segmentOf(0, 1, 0);
        post();
        no(LEFT_OUT, leftOut(1, 0, 2, texts[1].number, before_(0, 0), after_(1, 0)), passed);
    }

    function test_every_segment_must_pass_a_contribution_by() public {
        made[0] = segmentOf(1, 2, 0);
        made[1] = segmentOf(2, 3, uint64(made[0].text.length));
        post();
        bytes memory front = abi.encodePacked(source(1), row(1, 0), uint64(2), texts[0].number);
        no(LEFT_OUT, abi.encodePacked(front, segmentAlone(0), after_(0, 0)), Openings.Truncated.selector);
        bytes memory twice = abi.encodePacked(front, segmentAlone(0), after_(0, 0), segmentAlone(0), after_(0, 0));
        no(LEFT_OUT, twice, Matches.WrongRoot.selector);
    }

    function test_a_row_of_no_contribution_convicts_once_all_are_entered() public {
        texts[0].blockNumber = 1;
        texts[0].payee = indexer;
        lay();
        post();
        bytes memory evidence = abi.encodePacked(source(0), row(0, 0));
        no(INVENTED, evidence, IndexVerifier.NotAllEntered.selector);
        indexes.enter(datanets[0], 2);
        eq("two", 2, indexes.enteredOf(datanets[0]));
        no(INVENTED, evidence, IndexVerifier.NotAllEntered.selector);
        indexes.enter(datanets[0], type(uint256).max);
        eq("three", 3, indexes.enteredOf(datanets[0]));
        no(INVENTED, abi.encodePacked(source(0), row(0, 2)), IndexVerifier.Holds.selector);
        no(INVENTED, abi.encodePacked(source(1), row(1, 0)), IndexVerifier.Holds.selector);
        proven(address(indexes), call(INVENTED, evidence));
        yes("stake falls", stakes.slashableOf(indexer) < BOND);
        indexes.enter(datanets[0], 5);
        eq("no more", 3, indexes.enteredOf(datanets[0]));
    }

    function test_a_row_of_another_datanets_contribution_convicts() public {
        indexes.enter(datanets[0], 9);
        indexes.enter(datanets[1], 9);
        texts[2].blockNumber = texts[3].blockNumber;
        texts[2].ordinal = texts[3].ordinal;
        lay();
        convicted(INVENTED, abi.encodePacked(source(1), row(1, 0)));
        holds(INVENTED, abi.encodePacked(source(2), row(2, 0)));
    }

    // ------------------------------------------------------------------ sizes

    function test_trees_of_other_sizes_than_the_segment_says_convict() public {
        IndexTrees.Segment memory s = made[1];
        s.leaf = abi.encodePacked(IndexTrees.cut(s.leaf, 0, 112), uint64(s.entries.length + 15));
        made[1] = s;
        convicted(COUNTS, counts(1));
        lay();
        s = made[1];
        s.leaf = abi.encodePacked(IndexTrees.cut(s.leaf, 0, 104), uint64(s.text.length - 1), uint64(s.entries.length));
        made[1] = s;
        convicted(COUNTS, counts(1));
        lay();
        s = made[0];
        bytes[] memory fewer = new bytes[](s.texts.length - 1);
        for (uint256 i = 0; i < fewer.length; ++i) fewer[i] = s.texts[i];
        s.texts = fewer;
        IndexTrees.seal(s);
        made[0] = s;
        convicted(COUNTS, counts(0));
    }

    function test_segments_that_do_not_follow_each_other_convict() public {
        made[1].start += 1;
        reseal(1);
        convicted(SEGMENTS, abi.encodePacked(source(0), segmentsHead(0), segmentAlone(1)));
        lay();
        made[0].start = 64;
        reseal(0);
        convicted(SEGMENTS, source(0));
        // The Datanet's length is not where the last one ends.
        lay();
        made[1].start += 1;
        IndexTrees.Segment memory s = made[1];
        s.start -= 1;
        IndexTrees.seal(s);
        s.start += 1;
        made[1] = s;
        convicted(SEGMENTS, abi.encodePacked(source(1), segmentsHead(0)));
    }

    function test_other_datanets_than_the_version_declares_convict() public {
        netVersion += 1;
        vm.expectPartialRevert(AssetRegistry.UnknownVersion.selector);
        this.posted();
        netVersion -= 1;
        // A root of another version of the Datanet, and of an index of one Datanet.
        uint32 declared = netVersion;
        bytes[] memory both = datanetLeaves();
        both[0][11] ^= 0x01;
        foreign(both);
        (bool done,) = tried(DATANETS, abi.encodePacked(uint8(0), both[0], IndexTrees.open(both, 104, 0)));
        yes("another version", done);
        holds(DATANETS, abi.encodePacked(uint8(1), both[1], IndexTrees.open(both, 104, 1)));
        both[0][7] ^= 0x01;
        both[0][11] ^= 0x01;
        foreign(both);
        (done,) = tried(DATANETS, abi.encodePacked(uint8(0), both[0], IndexTrees.open(both, 104, 0)));
        yes("another asset", done);
        bytes[] memory one = new bytes[](1);
        one[0] = datanetLeaves()[0];
        foreign(one);
        holds(DATANETS, abi.encodePacked(uint8(0), one[0], IndexTrees.open(one, 52, 0)));
        proven(address(indexes), call(DATANETS, abi.encodePacked(uint8(255), IndexTrees.head(one, 52))));
        bytes[] memory three = new bytes[](3);
        (three[0], three[1], three[2]) = (datanetLeaves()[0], datanetLeaves()[1], datanetLeaves()[1]);
        foreign(three);
        (done,) = tried(DATANETS, abi.encodePacked(uint8(2), three[2], IndexTrees.open(three, 156, 2)));
        yes("one more", done);
        eq("as before", declared, netVersion);
    }

    function test_right_sizes_segments_and_datanets_do_not_convict() public view {
        for (uint256 i = 0; i < 3; ++i) holds(COUNTS, counts(i));
        holds(SEGMENTS, abi.encodePacked(source(0), segmentsHead(0), segmentAlone(1)));
        holds(SEGMENTS, abi.encodePacked(source(1), segmentsHead(0)));
        holds(SEGMENTS, abi.encodePacked(source(2), segmentsHead(1)));
        holds(DATANETS, datanet(0));
        holds(DATANETS, datanet(1));
        holds(DATANETS, abi.encodePacked(uint8(255), IndexTrees.head(datanetLeaves(), 104)));
    }

    // ------------------------------------------------------------------ whatever is proven

    function test_after_the_window_the_indexer_is_slashed_and_nothing_is_marked() public {
        swap(1, 1);
        post();
        vm.warp(block.timestamp + INDEX_WINDOW);
        proven(address(indexes), call(ORDER, pair(1, 1)));
        yes("stake falls", stakes.slashableOf(indexer) < BOND);
        eq("stands", 0, indexes.refutedAt(adapter, version));
    }

    function test_a_root_is_slashed_for_once_and_after_it_was_announced() public {
        swap(1, 1);
        IndexTrees.Segment memory s = made[1];
        s.entries[4] = s.text.length;
        rearrange(1, s);
        post();
        vm.prank(REPORTER);
        vm.expectPartialRevert(FaultBase.NotCommitted.selector);
        indexes.proveIndex(adapter, version, ORDER, pair(1, 1));
        proven(address(indexes), call(ORDER, pair(1, 1)));
        refused(address(indexes), call(ORDER, pair(1, 1)), StakeManager.AlreadySlashed.selector);
        bytes memory evidence = abi.encodePacked(source(1), uint64(0), array(1, 0), uint8(4));
        refused(address(indexes), call(ENTRY, evidence), StakeManager.AlreadySlashed.selector);
    }

    function test_what_an_indexer_unbonds_is_slashed_too() public {
        swap(1, 1);
        post();
        vm.prank(indexer);
        stakes.unbond(BOND);
        proven(address(indexes), call(ORDER, pair(1, 1)));
        yes("stake falls", stakes.slashableOf(indexer) < BOND);
    }

    function test_evidence_of_another_root_or_length_is_refused_by_name() public {
        no(ORDER, abi.encodePacked(pair(1, 1), hex"00"), IndexVerifier.Holds.selector);
        swap(1, 1);
        post();
        bytes memory evidence = pair(1, 1);
        no(ORDER, abi.encodePacked(evidence, hex"00"), Openings.TrailingBytes.selector);
        no(ORDER, IndexTrees.cut(evidence, 0, evidence.length - 1), Openings.Truncated.selector);
        version = 1;
        no(ORDER, evidence, Matches.WrongRoot.selector);
        version = 77;
        no(ORDER, evidence, IndexVerifier.NoIndexRoot.selector);
    }

    function test_a_verifier_is_made_only_over_registry_erasures_and_the_table() public {
        address table = indexes.ranges();
        vm.expectPartialRevert(FaultBase.ZeroAddress.selector);
        new IndexVerifier(IStakes(address(stakes)), ISettlement(address(settlement)), AssetRegistry(address(0)), erasures, table);
        vm.expectPartialRevert(FaultBase.ZeroAddress.selector);
        new IndexVerifier(IStakes(address(stakes)), ISettlement(address(settlement)), registry, Erasures(address(0)), table);
        vm.expectPartialRevert(Words.NotWordRanges.selector);
        new IndexVerifier(IStakes(address(stakes)), ISettlement(address(settlement)), registry, erasures, address(stakes));
    }

    function testFuzz_no_changed_evidence_convicts_a_right_index(uint256 mode, uint256 where, uint8 change) public {
        indexes.enter(datanets[0], 9);
        mode %= 17;
        bytes memory evidence = honestEvidence(mode);
        where %= evidence.length;
        if (change == 0) change = 1;
        (bool done,) = tried(IndexVerifier.Mode(mode), evidence);
        yes("right", !done);
        evidence[where] ^= bytes1(change);
        (done,) = tried(IndexVerifier.Mode(mode), evidence);
        yes("refused", !done);
    }

    function testFuzz_no_evidence_of_one_mode_convicts_a_right_index_by_another(uint256 from, uint256 to) public {
        indexes.enter(datanets[0], 9);
        (bool done,) = tried(IndexVerifier.Mode(to % 17), honestEvidence(from % 17));
        yes("refused", !done);
    }

    function honestEvidence(uint256 mode) private view returns (bytes memory) {
        if (mode == 0) return pair(0, 7);
        if (mode == 1) return abi.encodePacked(source(0), uint64(0), array(0, 0), array(0, 1));
        if (mode == 2) return textPair(0, 2);
        if (mode == 3) return abi.encodePacked(source(0), row(0, 2), uint64(1), own(1, 1), text(0, 192));
        if (mode == 4) return entry(0, 17);
        if (mode == 5) return missing(0, made[0].entries[17], 17);
        if (mode == 6) return abi.encodePacked(source(0), row(0, 2), texts[1].number);
        if (mode == 7) return rowPair(0, 1);
        if (mode == 8) return abi.encodePacked(source(0), row(0, 0), uint64(43), text(0, 43));
        if (mode == 9) return leftOut(1, 0, 2, 1, after_(0, 0), after_(1, 0));
        if (mode == 10) return abi.encodePacked(source(0), row(0, 2));
        if (mode == 11) return counts(0);
        if (mode == 12) return abi.encodePacked(source(0), segmentsHead(0), segmentAlone(1));
        if (mode == 13) return datanet(0);
        if (mode == 14) return behind(0, 1);
        if (mode == 15) return hollow(1);
        return formOf(2, 1);
    }

    // ------------------------------------------------------------------ what is wrong

    /// @dev Entries `rank` and `rank` + 1 of an array change places.
    function swap(uint256 i, uint256 rank) private {
        IndexTrees.Segment memory s = made[i];
        (s.entries[rank], s.entries[rank + 1]) = (s.entries[rank + 1], s.entries[rank]);
        rearrange(i, s);
    }

    /// @dev Takes an entry out of an array.
    function left(uint256 i, uint256 rank) private returns (uint256 place) {
        IndexTrees.Segment memory s = made[i];
        place = s.entries[rank];
        uint256[] memory fewer = new uint256[](s.entries.length - 1);
        for (uint256 j = 0; j < fewer.length; ++j) fewer[j] = s.entries[j < rank ? j : j + 1];
        s.entries = fewer;
        rearrange(i, s);
    }

    function rearrange(uint256 i, IndexTrees.Segment memory s) private {
        s.array = IndexTrees.arrayLeaves(s.entries);
        IndexTrees.seal(s);
        made[i] = s;
    }

    function reseal(uint256 i) private {
        IndexTrees.Segment memory s = made[i];
        IndexTrees.seal(s);
        made[i] = s;
    }

    /// @dev A text leaf with other content, which convicts by itself.
    function alone(uint256 i, uint256 number, bytes memory content) private {
        lay();
        IndexTrees.Segment memory s = made[i];
        s.texts[number] = content;
        IndexTrees.seal(s);
        made[i] = s;
        convicted(TEXT_LEAVES, abi.encodePacked(source(i), uint64(number), text(i, 64 * number)));
    }

    /// @dev Another byte in a row of the first segment convicts beside its neighbour: rows `first` and the next are shown.
    function broken(uint256 number, uint256 place, uint256 first) private {
        lay();
        IndexTrees.Segment memory s = made[0];
        s.rows[number][place] ^= 0x01;
        IndexTrees.seal(s);
        made[0] = s;
        convicted(ROWS, rowPair(0, first));
        lay();
    }

    /// @dev So that a revert can be expected.
    function posted() external {
        post();
    }

    /// @dev The first of two neighbours in the first segment whose windows are equal.
    function equalPair() private view returns (uint256 rank) {
        bytes memory whole = made[0].text;
        for (;; ++rank) if (keccak256(window(whole, made[0].entries[rank])) == keccak256(window(whole, made[0].entries[rank + 1]))) return rank;
    }

    function window(bytes memory whole, uint256 place) private pure returns (bytes memory) {
        uint256 end = place;
        while (end < place + 256 && end < whole.length && whole[end] != 0) ++end;
        return IndexTrees.cut(whole, place, end);
    }
}
