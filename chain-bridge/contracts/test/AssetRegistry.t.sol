// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry, ITreasuries} from "../src/AssetRegistry.sol";
import {Codec} from "../src/Codec.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Suite} from "./Suite.sol";

contract AssetRegistryTest is Suite {
    bytes32 private constant CONTENT = keccak256("content");
    bytes32 private constant LICENCE = keccak256("CC-BY-4.0");
    bytes32 private constant SALT = keccak256("salt");
    bytes32 private constant TOP = keccak256("top of the text's tree");
    /// @dev Of 1,234 bytes, which have 20 leaves.
    bytes32 private constant TEXT = keccak256(abi.encodePacked(bytes1(0x03), uint64(20), uint64(1_234), TOP));

    uint64 private base;
    uint64 private adapter;
    uint64 private medical;
    uint64 private python;
    uint64 private agent;

    function setUp() public override {
        super.setUp();
        base = make(1);
        adapter = make(2);
        medical = make(3);
        python = make(3);
        agent = make(4);
        vm.prank(governor);
        registry.approveParameters(1, keccak256("parameters"));
    }

    // ------------------------------------------------------------------ assets

    function test_assets_are_tokens_numbered_from_one() public {
        eq("base", 1, base);
        eq("count", 5, registry.assetCount());
        eq("owner", author, registry.ownerOf(adapter));
        eq("kind", 4, registry.kindOf(agent));
        eq("name", keccak256("Tributary Asset"), keccak256(bytes(registry.name())));
        eq("uri", keccak256("ipfs://3"), keccak256(bytes(registry.tokenURI(medical))));
        for (uint8 kind = 0; kind < 6; kind += 5) {
            vm.expectRevert(abi.encodeWithSelector(AssetRegistry.UnknownKind.selector, kind));
            registry.register(kind, "");
        }
        vm.expectRevert();
        registry.tokenURI(99);
    }

    function test_owners_are_kept_by_block() public {
        vm.roll(1_010);
        vm.prank(author);
        registry.transferFrom(author, client, base);
        vm.roll(1_020);
        eq("before", address(0), registry.ownerAt(base, 999));
        eq("first", author, registry.ownerAt(base, 1_009));
        eq("since", client, registry.ownerAt(base, 1_010));
        eq("now", client, registry.ownerAt(base, 1_020));
    }

    // ------------------------------------------------------------------ versions

    function test_versions_are_appended_and_kept_as_published() public {
        publishDatanets();
        eq("first", 1, publishAs(base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), 1_500));
        eq("second", 2, publishAs(base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), 2_000));
        eq("adapter", 1, publishAs(adapter, one(base, 1), rows(5_500, 0, 1_500, 1_500, 1_000, 500), two(), 500));
        AssetRegistry.Version memory version = registry.versionOf(adapter, 1);
        eq("content", CONTENT, version.contentHash);
        eq("licence", LICENCE, version.licenceHash);
        eq("share", 500, version.minParentShare);
        eq("split", 1_500, version.split[3]);
        eq("parent", base, version.parents[0].asset);
        eq("datanets", 2, version.datanets.length);
        eq("versions", 2, registry.versionCount(base));
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.UnknownVersion.selector, base, 3));
        registry.versionOf(base, 3);
    }

    function test_only_the_owner_publishes_and_freezes() public {
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.OnlyAssetOwner.selector, base, author, address(this)));
        registry.publish(base, CONTENT, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), LICENCE, 0);
        publishAs(base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), 0);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.OnlyAssetOwner.selector, base, author, address(this)));
        registry.freeze(base, 1);
        vm.prank(author);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ZeroHash.selector, "contentHash"));
        registry.publish(base, 0, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), LICENCE, 0);
    }

    function test_splits_sum_and_leave_data_its_row() public {
        publishRefused(
            base, none(), rows(7_000, 0, 2_000, 0, 1_000, 1), none(), abi.encodeWithSelector(AssetRegistry.SplitSum.selector, 10_000, 10_001)
        );
        publishRefused(
            base, none(), rows(7_000, 0, 2_001, 0, 999, 0), none(), abi.encodeWithSelector(AssetRegistry.DataRowTooLow.selector, 1_000, 999)
        );
        vm.prank(governor);
        registry.setMinDataBps(2_000);
        publishRefused(
            base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), abi.encodeWithSelector(AssetRegistry.DataRowTooLow.selector, 2_000, 1_000)
        );
        vm.prank(author);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.BpsAboveSum.selector, 10_000, 10_001));
        registry.publish(base, CONTENT, none(), rows(7_000, 0, 1_000, 0, 2_000, 0), none(), LICENCE, 10_001);
    }

    function test_rows_of_absent_roles_are_empty() public {
        publishRefused(
            base, none(), rows(6_999, 1, 2_000, 0, 1_000, 0), none(), abi.encodeWithSelector(AssetRegistry.RowOfAbsentRole.selector, 1, 1)
        );
        publishRefused(
            base, none(), rows(6_999, 0, 2_000, 1, 1_000, 0), none(), abi.encodeWithSelector(AssetRegistry.RowOfAbsentRole.selector, 3, 1)
        );
        publishAs(base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), 0);
        publishRefused(
            agent, one(base, 1), rows(6_000, 500, 2_000, 500, 1_000, 0), none(), abi.encodeWithSelector(AssetRegistry.RowOfAbsentRole.selector, 3, 500)
        );
        publishAs(agent, one(base, 1), rows(6_500, 500, 2_000, 0, 1_000, 0), none(), 0);
    }

    function test_parents_get_what_they_demand() public {
        publishAs(base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), 1_500);
        publishRefused(
            adapter, one(base, 1), rows(6_000, 0, 1_499, 1_501, 1_000, 0), none(), abi.encodeWithSelector(AssetRegistry.RowTooLow.selector, 2, 1_500, 1_499)
        );
        publishAs(adapter, one(base, 1), rows(6_000, 0, 1_500, 1_500, 1_000, 0), none(), 1_000);
        AssetRegistry.Ref[] memory both = parents(base, adapter);
        publishRefused(
            agent, both, rows(6_000, 501, 1_500, 999, 1_000, 0), none(), abi.encodeWithSelector(AssetRegistry.RowTooLow.selector, 3, 1_000, 999)
        );
        publishAs(agent, both, rows(6_000, 500, 1_500, 1_000, 1_000, 0), none(), 0);
    }

    function test_parents_are_of_the_right_kind_and_number() public {
        uint64 otherBase = make(1);
        uint64 otherAdapter = make(2);
        uint16[6] memory ofBase = rows(7_000, 0, 2_000, 0, 1_000, 0);
        uint16[6] memory ofAdapter = rows(6_000, 0, 1_500, 1_500, 1_000, 0);
        publishAs(base, none(), ofBase, none(), 0);
        publishAs(otherBase, none(), ofBase, none(), 0);
        publishAs(adapter, one(base, 1), ofAdapter, none(), 0);
        publishAs(otherAdapter, one(otherBase, 1), ofAdapter, none(), 0);
        publishDatanets();
        publishRefused(base, one(otherBase, 1), ofBase, none(), abi.encodeWithSelector(AssetRegistry.ParentOfKind.selector, 1, 1));
        publishRefused(adapter, one(otherAdapter, 1), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.ParentOfKind.selector, 2, 2));
        publishRefused(adapter, one(medical, 1), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.ParentOfKind.selector, 2, 3));
        publishRefused(adapter, none(), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.BaseParentMissing.selector, adapter));
        publishRefused(adapter, parents(base, otherBase), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.TwoParentsOfKind.selector, 1));
        publishRefused(agent, parents(adapter, otherAdapter), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.TwoParentsOfKind.selector, 2));
        publishRefused(agent, one(adapter, 1), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.BaseParentMissing.selector, agent));
        publishRefused(
            agent, parents(base, otherAdapter), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.AdapterOnOtherBase.selector, otherBase, base)
        );
        // The other way round the asked base has the higher number.
        publishRefused(
            agent, parents(otherBase, adapter), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.AdapterOnOtherBase.selector, base, otherBase)
        );
        // An agent names the version of the base that its adapter was trained on, and no other.
        publishAs(base, none(), ofBase, none(), 0);
        AssetRegistry.Ref[] memory mixed = parents(base, adapter);
        mixed[0].version = 2;
        publishRefused(agent, mixed, ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.AdapterOnOtherVersion.selector, 1, 2));
        (mixed[0], mixed[1]) = (mixed[1], mixed[0]);
        publishRefused(agent, mixed, ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.AdapterOnOtherVersion.selector, 1, 2));
        publishRefused(adapter, one(base, 9), ofAdapter, none(), abi.encodeWithSelector(AssetRegistry.UnknownVersion.selector, base, 9));
    }

    function test_datanets_of_a_version_exist_once_and_are_few() public {
        publishDatanets();
        uint16[6] memory split = rows(7_000, 0, 2_000, 0, 1_000, 0);
        publishRefused(base, none(), split, one(adapter, 1), abi.encodeWithSelector(AssetRegistry.UnknownVersion.selector, adapter, 1));
        publishAs(base, none(), split, none(), 0);
        publishRefused(base, none(), split, one(base, 1), abi.encodeWithSelector(AssetRegistry.WrongKind.selector, base, 3, 1));
        AssetRegistry.Ref[] memory twice = two();
        twice[1].asset = medical;
        publishRefused(base, none(), split, twice, abi.encodeWithSelector(AssetRegistry.DatanetTwice.selector, medical));
        publishRefused(
            base, none(), split, new AssetRegistry.Ref[](17), abi.encodeWithSelector(AssetRegistry.TooManyDatanets.selector, 16, 17)
        );
    }

    function test_a_version_has_up_to_sixteen_datanets_and_none_that_is_frozen() public {
        uint16[6] memory split = rows(7_000, 0, 2_000, 0, 1_000, 0);
        uint16[6] memory zero;
        AssetRegistry.Ref[] memory sixteen = new AssetRegistry.Ref[](16);
        for (uint256 i = 0; i < 16; ++i) {
            sixteen[i] = AssetRegistry.Ref({asset: make(3), version: 1});
            publishAs(sixteen[i].asset, none(), zero, none(), 0);
        }
        publishAs(base, none(), split, sixteen, 0);
        eq("Datanets", 16, registry.versionOf(base, 1).datanets.length);
        vm.prank(author);
        registry.freeze(sixteen[15].asset, 1);
        publishRefused(
            base, none(), split, sixteen, abi.encodeWithSelector(AssetRegistry.VersionIsFrozen.selector, sixteen[15].asset, 1)
        );
    }

    function test_a_datanet_has_no_split_no_parents_no_datanets() public {
        uint16[6] memory zero;
        publishRefused(medical, none(), rows(10_000, 0, 0, 0, 0, 0), none(), abi.encodeWithSelector(AssetRegistry.SplitOfDatanet.selector));
        publishRefused(medical, one(base, 1), zero, none(), abi.encodeWithSelector(AssetRegistry.ParentOfKind.selector, 3, 0));
        publishRefused(medical, none(), zero, one(python, 1), abi.encodeWithSelector(AssetRegistry.TooManyDatanets.selector, 0, 1));
    }

    function test_freezing_is_final_and_kept_by_block() public {
        publishAs(base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), 0);
        vm.roll(1_010);
        vm.prank(author);
        registry.freeze(base, 1);
        vm.roll(1_020);
        eq("before", 0, registry.statusAt(base, 1, 999));
        eq("active", 1, registry.statusAt(base, 1, 1_009));
        eq("frozen", 2, registry.statusAt(base, 1, 1_010));
        eq("now", 2, registry.statusOf(base, 1));
        vm.prank(author);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.VersionIsFrozen.selector, base, 1));
        registry.freeze(base, 1);
        publishRefused(
            adapter, one(base, 1), rows(6_000, 0, 1_500, 1_500, 1_000, 0), none(), abi.encodeWithSelector(AssetRegistry.VersionIsFrozen.selector, base, 1)
        );
    }

    // ------------------------------------------------------------------ commitments and contributions

    function test_ordinals_count_within_a_block() public {
        eq("first", 0, commitAs(client, keccak256("a")).ordinal);
        eq("second", 1, commitAs(other, keccak256("b")).ordinal);
        vm.roll(1_001);
        AssetRegistry.Commitment memory third = commitAs(client, keccak256("c"));
        eq("third", 0, third.ordinal);
        eq("block", 1_001, third.blockNumber);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.AlreadyCommitted.selector, keccak256("a"), 1_000));
        registry.commit(keccak256("a"));
    }

    function test_copying_a_commitment_takes_nothing_from_its_author() public {
        commitAs(other, commitmentOf(client));
        commitAs(client, commitmentOf(client));
        eq("number", 0, acceptFrom(CLIENT_KEY, REVIEWER_KEY));
        eq("ordinal", 1, registry.contributionAt(medical, 0).ordinal);
    }

    function test_an_accepted_contribution_keeps_the_priority_of_its_commitment() public {
        commitAs(client, commitmentOf(client));
        vm.roll(1_500);
        eq("number", 0, acceptFrom(CLIENT_KEY, REVIEWER_KEY));
        AssetRegistry.Accepted memory kept = registry.contributionAt(medical, 0);
        eq("contributor", client, kept.contributor);
        eq("block", 1_000, kept.blockNumber);
        eq("text", TEXT, kept.textRoot);
        eq("bytes", 1_234, kept.textBytes);
        eq("documents", 5, kept.documents);
        eq("licence", LICENCE, kept.licenceHash);
        eq("object", keccak256("object"), kept.objectHash);
        eq("report", keccak256("report"), kept.reportDigest);
        eq("count", 1, registry.contributionCount(medical));
    }

    function test_the_same_text_is_refused_and_the_first_contributor_named() public {
        commitAs(client, commitmentOf(client));
        acceptFrom(CLIENT_KEY, REVIEWER_KEY);
        commitAs(other, commitmentOf(other));
        acceptRefused(
            OTHER_KEY, REVIEWER_KEY, abi.encodeWithSelector(AssetRegistry.AlreadyContributed.selector, medical, TEXT, client)
        );
    }

    function test_of_two_who_bring_one_text_the_earlier_commitment_is_taken_whoever_was_accepted_first() public {
        commitAs(client, commitmentOf(client));
        commitAs(other, commitmentOf(other));
        eq("the later one", 0, acceptFrom(OTHER_KEY, REVIEWER_KEY));
        eq("the earlier one", 1, acceptFrom(CLIENT_KEY, REVIEWER_KEY));
        eq("block", registry.contributionAt(medical, 0).blockNumber, registry.contributionAt(medical, 1).blockNumber);
        eq("ordinal", 0, registry.contributionAt(medical, 1).ordinal);
        eq("contributor", client, registry.contributionAt(medical, 1).contributor);
        // Each of them once, and nobody behind the earliest.
        bytes memory taken = abi.encodeWithSelector(AssetRegistry.AlreadyContributed.selector, medical, TEXT, client);
        acceptRefused(OTHER_KEY, REVIEWER_KEY, taken);
        acceptRefused(CLIENT_KEY, REVIEWER_KEY, taken);
    }

    function test_an_earlier_block_is_earlier_whatever_its_ordinal() public {
        commitAs(other, keccak256("before"));
        commitAs(client, commitmentOf(client));
        vm.roll(1_001);
        commitAs(other, commitmentOf(other));
        eq("the later one", 0, acceptFrom(OTHER_KEY, REVIEWER_KEY));
        eq("the earlier one", 1, acceptFrom(CLIENT_KEY, REVIEWER_KEY));
        eq("ordinal", 1, registry.contributionAt(medical, 1).ordinal);
        eq("ordinal of the later", 0, registry.contributionAt(medical, 0).ordinal);
    }

    function test_a_contribution_needs_a_commitment_of_its_own_that_is_young() public {
        acceptRefused(
            CLIENT_KEY, REVIEWER_KEY, abi.encodeWithSelector(AssetRegistry.NotCommitted.selector, commitmentOf(client), client)
        );
        commitAs(client, commitmentOf(client));
        uint256 until = block.timestamp + 30 days;
        vm.warp(until + 1);
        acceptRefused(
            CLIENT_KEY, REVIEWER_KEY, abi.encodeWithSelector(AssetRegistry.CommitmentExpired.selector, until, until + 1)
        );
        vm.warp(until);
        acceptFrom(CLIENT_KEY, REVIEWER_KEY);
    }

    function test_only_the_owner_and_its_reviewers_accept() public {
        commitAs(client, commitmentOf(client));
        vm.prank(author);
        registry.setReviewer(medical, reviewer, false);
        acceptRefused(
            CLIENT_KEY, REVIEWER_KEY, abi.encodeWithSelector(AssetRegistry.ReviewerSignature.selector, medical, reviewer)
        );
        acceptFrom(CLIENT_KEY, AUTHOR_KEY);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.OnlyAssetOwner.selector, medical, author, address(this)));
        registry.setReviewer(medical, address(this), true);
        vm.prank(author);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.WrongKind.selector, base, 3, 1));
        registry.setReviewer(base, reviewer, true);
    }

    function test_a_sale_ends_the_sellers_grants() public {
        yes("granted", registry.isReviewer(medical, reviewer));
        vm.prank(author);
        registry.transferFrom(author, client, medical);
        yes("ended", !registry.isReviewer(medical, reviewer));
        yes("the new owner reviews", registry.isReviewer(medical, client));
        yes("nobody is not a reviewer", !registry.isReviewer(99, address(0)));
    }

    function test_a_contribution_is_signed_by_its_contributor() public {
        commitAs(client, commitmentOf(client));
        bytes memory body = contribution(client, medical, 1_234, 5);
        bytes memory report = gate(medical, TEXT, commitmentOf(client), 1);
        bytes memory wrong = signed(OTHER_KEY, address(registry), Sig.CONTRIBUTION, body);
        bytes memory reportSig = signed(REVIEWER_KEY, address(registry), Sig.GATE_REPORT, report);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ContributorSignature.selector, client, other));
        registry.accept(body, wrong, report, reportSig, TOP);
    }

    function test_a_report_speaks_of_this_contribution() public {
        commitAs(client, commitmentOf(client));
        bytes memory body = contribution(client, medical, 1_234, 5);
        bytes memory signature = signed(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body);
        reportRefused(
            body,
            signature,
            gate(python, TEXT, commitmentOf(client), 1),
            abi.encodeWithSelector(AssetRegistry.ReportMismatch.selector, bytes32("datanet"), bytes32(uint256(medical)), bytes32(uint256(python)))
        );
        reportRefused(
            body,
            signature,
            gate(medical, CONTENT, commitmentOf(client), 1),
            abi.encodeWithSelector(AssetRegistry.ReportMismatch.selector, bytes32("textRoot"), TEXT, CONTENT)
        );
        reportRefused(
            body,
            signature,
            gate(medical, TEXT, CONTENT, 1),
            abi.encodeWithSelector(AssetRegistry.ReportMismatch.selector, bytes32("commitment"), commitmentOf(client), CONTENT)
        );
        // A text as agreed on, stored as something else.
        reportRefused(
            contribution(client, medical, 1_234, 5),
            signature,
            abi.encodePacked(medical, TEXT, commitmentOf(client), keccak256("report"), keccak256("garbage"), uint8(1)),
            abi.encodeWithSelector(AssetRegistry.ReportMismatch.selector, bytes32("object"), keccak256("object"), keccak256("garbage"))
        );
        reportRefused(
            body,
            signature,
            gate(medical, TEXT, commitmentOf(client), 0),
            abi.encodeWithSelector(AssetRegistry.NotAccepted.selector, 1, 0)
        );
    }

    function test_empty_contributions_and_other_assets_are_refused() public {
        bytes memory report = gate(medical, TEXT, commitmentOf(client), 1);
        bytes memory body = contribution(client, medical, 0, 5);
        reportRefused(body, hex"", report, abi.encodeWithSelector(AssetRegistry.ContributionSize.selector, 0, 5));
        body = contribution(client, medical, 1_234, 0);
        reportRefused(body, hex"", report, abi.encodeWithSelector(AssetRegistry.ContributionSize.selector, 1_234, 0));
        body = contribution(client, base, 5, 5);
        reportRefused(body, hex"", report, abi.encodeWithSelector(AssetRegistry.WrongKind.selector, base, 3, 1));
        reportRefused(
            abi.encodePacked(body, hex"00"), hex"", report, abi.encodeWithSelector(Codec.WrongLength.selector, "Contribution", 168, 169)
        );
    }

    function test_a_text_root_opens_to_its_own_bytes_alone() public {
        commitAs(client, commitmentOf(client));
        // More, by a byte within the same leaves or by any number, and less: the root is not theirs, whoever signs it anew.
        uint64[5] memory lies = [uint64(1_235), 1_233, 64, 999_000_000, uint64(2) ** 40];
        for (uint256 i = 0; i < lies.length; ++i) {
            (bytes memory body, bytes memory signature, bytes memory report, bytes memory reportSig) = claiming(lies[i]);
            bytes32 got = textRootOf(lies[i], TOP);
            vm.expectRevert(abi.encodeWithSelector(AssetRegistry.TextBytesMismatch.selector, TEXT, got));
            registry.accept(body, signature, report, reportSig, TOP);
        }
        (bytes memory body_, bytes memory signature_, bytes memory report_, bytes memory reportSig_) = papers(CLIENT_KEY, REVIEWER_KEY);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.TextBytesMismatch.selector, TEXT, textRootOf(1_234, CONTENT)));
        registry.accept(body_, signature_, report_, reportSig_, CONTENT);
        eq("bytes", 0, registry.bytesOf(medical));
        registry.accept(body_, signature_, report_, reportSig_, TOP);
        eq("bytes", 1_234, registry.bytesOf(medical));
    }

    /// @notice Even a root that was made for them: 2^40 bytes are the most, so that no sum of a Datanet's bytes overflows.
    function test_no_contribution_makes_later_ones_overflow() public {
        uint64[3] memory sizes = [uint64(2) ** 40, uint64(2) ** 40 + 1, type(uint64).max];
        for (uint256 i = 0; i < sizes.length; ++i) {
            bytes32 top = keccak256(abi.encode(i));
            // A root of the longest text would have a leaf count that overflows: whatever it is, it is refused before.
            bytes32 root = i == 2 ? keccak256("any") : textRootOf(sizes[i], top);
            bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", SALT, root, client));
            commitAs(client, commitment);
            bytes memory body = abi.encodePacked(medical, client, root, sizes[i], uint32(1), SALT, LICENCE, keccak256("object"));
            bytes memory report = gate(medical, root, commitment, 1);
            bytes memory reportSig = signed(REVIEWER_KEY, address(registry), Sig.GATE_REPORT, report);
            bytes memory signature = signed(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body);
            if (i > 0) vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ContributionSize.selector, sizes[i], 1));
            registry.accept(body, signature, report, reportSig, top);
        }
        eq("bytes", 2 ** 40, registry.bytesOf(medical));
        commitAs(client, commitmentOf(client));
        eq("number", 1, acceptFrom(CLIENT_KEY, REVIEWER_KEY));
    }

    // ------------------------------------------------------------------ index roots and governance

    function test_a_redirect_freezes_and_names_the_successor_at_once() public {
        uint16[6] memory split = rows(7_000, 0, 2_000, 0, 1_000, 0);
        eq("none yet", 0, registry.currentOf(base));
        for (uint256 i = 0; i < 4; ++i) publishAs(base, none(), split, none(), 0);
        eq("the last", 4, registry.currentOf(base));
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.OnlyAssetOwner.selector, base, author, address(this)));
        registry.redirect(base, 4, 3);
        vm.startPrank(author);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.UnknownVersion.selector, base, 5));
        registry.redirect(base, 5, 3);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.UnknownVersion.selector, base, 5));
        registry.redirect(base, 4, 5);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.VersionIsFrozen.selector, base, 4));
        registry.redirect(base, 4, 4);
        eq("a refused redirect freezes nothing", 1, registry.statusOf(base, 4));
        registry.redirect(base, 4, 3);
        eq("frozen", 2, registry.statusOf(base, 4));
        eq("by", 3, registry.supersededBy(base, 4));
        eq("rolled back", 3, registry.currentOf(base));
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.AlreadySuperseded.selector, base, 4, 3));
        registry.redirect(base, 4, 2);
        registry.redirect(base, 3, 1);
        eq("followed", 1, registry.currentOf(base));
        registry.freeze(base, 1);
        eq("nothing answers", 0, registry.currentOf(base));
        registry.redirect(base, 1, 2);
        eq("a frozen version gets a successor later", 2, registry.currentOf(base));
        vm.stopPrank();
        publishAs(base, none(), split, none(), 0);
        eq("a new version leads", 5, registry.currentOf(base));
    }

    function test_a_bonded_indexer_posts_one_root_for_an_answering_version() public {
        publishAs(base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), 0);
        publishDatanets();
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.NotBonded.selector, address(this)));
        registry.postIndexRoot(base, 1, CONTENT, 1);
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.NotBonded.selector, node));
        registry.postIndexRoot(base, 1, CONTENT, 1);
        vm.startPrank(other);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ZeroHash.selector, "root"));
        registry.postIndexRoot(base, 1, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.WrongKind.selector, medical, 2, 3));
        registry.postIndexRoot(medical, 1, CONTENT, 1);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.UnknownVersion.selector, base, 2));
        registry.postIndexRoot(base, 2, CONTENT, 1);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ParametersUnknown.selector, 2));
        registry.postIndexRoot(base, 1, CONTENT, 2);
        registry.postIndexRoot(base, 1, CONTENT, 1);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.IndexRootAlreadyPosted.selector, CONTENT));
        registry.postIndexRoot(base, 1, LICENCE, 1);
        vm.stopPrank();
        publishAs(base, none(), rows(7_000, 0, 2_000, 0, 1_000, 0), none(), 0);
        vm.prank(author);
        registry.freeze(base, 2);
        vm.prank(other);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.VersionIsFrozen.selector, base, 2));
        registry.postIndexRoot(base, 2, CONTENT, 1);
        AssetRegistry.IndexRoot memory posted = registry.indexRootOf(base, 1);
        eq("root", CONTENT, posted.root);
        eq("parameters", 1, posted.paramId);
        eq("indexer", other, posted.indexer);
        eq("block", 1_000, posted.blockNumber);
        eq("window", block.timestamp + INDEX_WINDOW, posted.windowEnds);
    }

    function test_parameters_are_approved_once_by_the_governor() public {
        eq("hash", keccak256("parameters"), registry.parametersOf(1));
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.OnlyGovernor.selector, governor, address(this)));
        registry.approveParameters(2, CONTENT);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.OnlyGovernor.selector, governor, address(this)));
        registry.setMinDataBps(1);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.OnlyGovernor.selector, governor, address(this)));
        registry.setGovernor(address(this));
        vm.startPrank(governor);
        vm.expectRevert(
            abi.encodeWithSelector(AssetRegistry.ParametersAlreadyApproved.selector, 1, keccak256("parameters"))
        );
        registry.approveParameters(1, CONTENT);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ZeroHash.selector, "paramHash"));
        registry.approveParameters(2, 0);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.BpsAboveSum.selector, 10_000, 10_001));
        registry.setMinDataBps(10_001);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ZeroAddress.selector, "governor"));
        registry.setGovernor(address(0));
        registry.setGovernor(address(this));
        vm.stopPrank();
        registry.approveParameters(2, CONTENT);
    }

    function test_constructor_refuses_wrong_values() public {
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ZeroAddress.selector, "governor"));
        new AssetRegistry(address(0), stakes, ITreasuries(address(settlement)), 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ZeroAddress.selector, "stakeManager"));
        new AssetRegistry(governor, StakeManager(payable(address(0))), ITreasuries(address(settlement)), 1, 1);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.BpsAboveSum.selector, 10_000, 10_001));
        new AssetRegistry(governor, stakes, ITreasuries(address(settlement)), 1, 10_001);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.ZeroAddress.selector, "treasuries"));
        new AssetRegistry(governor, stakes, ITreasuries(address(0)), 1, 1);
    }

    /// @notice A table is published exactly if it follows the rules for a base.
    function testFuzz_a_base_is_published_exactly_with_a_right_table(uint16[6] memory split, uint8 repair) public {
        uint256 sum = 0;
        for (uint256 i = 0; i < 6; ++i) {
            split[i] = split[i] % 3_000;
            if (repair & 1 == 1 && (i == 1 || i == 3)) split[i] = 0;
            if (repair & 2 == 2 && i == 4 && split[i] < MIN_DATA_BPS) split[i] += MIN_DATA_BPS;
            if (i != 0) sum += split[i];
        }
        if (repair & 4 == 4 && sum <= 10_000) split[0] = uint16(10_000 - sum);
        bool right = sum + split[0] == 10_000 && split[1] == 0 && split[3] == 0 && split[4] >= MIN_DATA_BPS;
        vm.prank(author);
        try registry.publish(base, CONTENT, none(), split, none(), LICENCE, 0) {
            yes("a wrong table was published", right);
        } catch {
            yes("a right table was refused", !right);
        }
    }

    // ------------------------------------------------------------------ helpers

    function make(uint8 kind) private returns (uint64) {
        vm.prank(author);
        uint64 asset = registry.register(kind, string.concat("ipfs://", vm.toString(uint256(kind))));
        if (kind == 3) {
            vm.prank(author);
            registry.setReviewer(asset, reviewer, true);
        }
        return asset;
    }

    function rows(uint16 toNode, uint16 toAgent, uint16 toBase, uint16 toAdapter, uint16 toData, uint16 toStakers)
        private
        pure
        returns (uint16[6] memory)
    {
        return [toNode, toAgent, toBase, toAdapter, toData, toStakers];
    }

    function none() private pure returns (AssetRegistry.Ref[] memory) {
        return new AssetRegistry.Ref[](0);
    }

    function one(uint64 asset, uint32 version) private pure returns (AssetRegistry.Ref[] memory refs) {
        refs = new AssetRegistry.Ref[](1);
        refs[0] = AssetRegistry.Ref({asset: asset, version: version});
    }

    function parents(uint64 a, uint64 b) private pure returns (AssetRegistry.Ref[] memory refs) {
        refs = new AssetRegistry.Ref[](2);
        refs[0] = AssetRegistry.Ref({asset: a, version: 1});
        refs[1] = AssetRegistry.Ref({asset: b, version: 1});
    }

    function two() private view returns (AssetRegistry.Ref[] memory) {
        return parents(medical, python);
    }

    function publishDatanets() private {
        uint16[6] memory zero;
        publishAs(medical, none(), zero, none(), 0);
        publishAs(python, none(), zero, none(), 0);
    }

    function publishAs(
        uint64 asset,
        AssetRegistry.Ref[] memory above,
        uint16[6] memory split,
        AssetRegistry.Ref[] memory datanets,
        uint16 demanded
    ) private returns (uint32) {
        vm.prank(author);
        return registry.publish(asset, CONTENT, above, split, datanets, LICENCE, demanded);
    }

    function publishRefused(
        uint64 asset,
        AssetRegistry.Ref[] memory above,
        uint16[6] memory split,
        AssetRegistry.Ref[] memory datanets,
        bytes memory reason
    ) private {
        vm.prank(author);
        vm.expectRevert(reason);
        registry.publish(asset, CONTENT, above, split, datanets, LICENCE, 0);
    }

    function commitAs(address from, bytes32 commitment) private returns (AssetRegistry.Commitment memory) {
        vm.prank(from);
        registry.commit(commitment);
        return registry.commitmentOf(commitment, from);
    }

    function commitmentOf(address contributor) private pure returns (bytes32) {
        return keccak256(abi.encodePacked("tributary/commitment/v1", SALT, TEXT, contributor));
    }

    function contribution(address from, uint64 datanet, uint64 textBytes, uint32 documents) private pure returns (bytes memory) {
        return abi.encodePacked(datanet, from, TEXT, textBytes, documents, SALT, LICENCE, keccak256("object"));
    }

    function gate(uint64 datanet, bytes32 textRoot, bytes32 commitment, uint8 verdict) private pure returns (bytes memory) {
        return abi.encodePacked(datanet, textRoot, commitment, keccak256("report"), keccak256("object"), verdict);
    }

    function papers(uint256 key, uint256 reviewerKey)
        private
        view
        returns (bytes memory body, bytes memory signature, bytes memory report, bytes memory reportSig)
    {
        address from = vm.addr(key);
        body = contribution(from, medical, 1_234, 5);
        report = gate(medical, TEXT, commitmentOf(from), 1);
        signature = signed(key, address(registry), Sig.CONTRIBUTION, body);
        reportSig = signed(reviewerKey, address(registry), Sig.GATE_REPORT, report);
    }

    /// @dev What was reviewed, with other bytes, signed anew by both.
    function claiming(uint64 textBytes)
        private
        view
        returns (bytes memory body, bytes memory signature, bytes memory report, bytes memory reportSig)
    {
        (, , report, reportSig) = papers(CLIENT_KEY, REVIEWER_KEY);
        body = contribution(client, medical, textBytes, 5);
        signature = signed(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body);
    }

    function acceptFrom(uint256 key, uint256 reviewerKey) private returns (uint256) {
        (bytes memory body, bytes memory signature, bytes memory report, bytes memory reportSig) = papers(key, reviewerKey);
        return registry.accept(body, signature, report, reportSig, TOP);
    }

    function acceptRefused(uint256 key, uint256 reviewerKey, bytes memory reason) private {
        (bytes memory body, bytes memory signature, bytes memory report, bytes memory reportSig) = papers(key, reviewerKey);
        vm.expectRevert(reason);
        registry.accept(body, signature, report, reportSig, TOP);
    }

    function reportRefused(bytes memory body, bytes memory signature, bytes memory report, bytes memory reason) private {
        bytes memory reportSig = signed(REVIEWER_KEY, address(registry), Sig.GATE_REPORT, report);
        vm.expectRevert(reason);
        registry.accept(body, signature, report, reportSig, TOP);
    }
}
