// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {Erasures} from "../src/Erasures.sol";
import {Sig} from "../src/Sig.sol";
import {Suite} from "./Suite.sol";
import {Vm} from "./Vm.sol";

/// @notice Who may ask that a contribution be erased, on the registry as it is deployed.
contract ErasuresTest is Suite {
    uint64 internal net;

    bytes32 internal constant REASON = keccak256("reason");

    function setUp() public override {
        super.setUp();
        vm.prank(author);
        net = registry.register(3, "card");
    }

    /// @dev Text `number`, of the client, into `datanet`; its reviewer is the Datanet's owner, whose key is `owner`.
    function contribute(uint64 datanet, uint256 owner, uint256 number) private returns (uint256) {
        bytes32 top = keccak256(abi.encode("top", number));
        bytes32 root = textRootOf(9, top);
        bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", bytes32(0), root, client));
        if (!registry.commitmentOf(commitment, client).exists) {
            vm.prank(client);
            registry.commit(commitment);
        }
        bytes memory body = abi.encodePacked(datanet, client, root, uint64(9), uint32(1), bytes32(0), keccak256("l"), objectOf(number));
        bytes memory report = abi.encodePacked(datanet, root, commitment, keccak256("report"), objectOf(number), uint8(1));
        return registry.accept(
            body,
            signed(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body),
            report,
            signed(owner, address(registry), Sig.GATE_REPORT, report),
            top
        );
    }

    function objectOf(uint256 number) private pure returns (bytes32) {
        return keccak256(abi.encode("object", number));
    }

    function refused(bytes memory why, address who, uint64 datanet, uint256 contribution, bytes32 reason) private {
        vm.expectRevert(why);
        vm.prank(who);
        erasures.erase(datanet, contribution, reason);
    }

    function test_a_contributor_erases_what_it_contributed() public {
        contribute(net, AUTHOR_KEY, 0);
        contribute(net, AUTHOR_KEY, 1);
        vm.roll(4_321);
        vm.recordLogs();
        vm.prank(client);
        erasures.erase(net, 1, REASON);
        vm.snapshotGasLastCall("gas", "erase a contribution");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq("one event", 1, logs.length);
        eq("of the contract", uint160(address(erasures)), uint160(logs[0].emitter));
        eq("event", uint256(Erasures.Erased.selector), uint256(logs[0].topics[0]));
        eq("Datanet", net, uint256(logs[0].topics[1]));
        eq("contribution", 1, uint256(logs[0].topics[2]));
        eq("by", uint160(client), uint256(logs[0].topics[3]));
        eq("data", uint256(keccak256(abi.encode(objectOf(1), REASON))), uint256(keccak256(logs[0].data)));
        Erasures.Erasure memory kept = erasures.erasureOf(net, 1);
        eq("who asked", uint160(client), uint160(kept.by));
        eq("when", 4_321, kept.blockNumber);
        eq("why", uint256(REASON), uint256(kept.reasonHash));
        eq("the other stays", 0, uint160(erasures.erasureOf(net, 0).by));
        eq("counted", 1, erasures.countOf(net));
    }

    function test_the_owner_of_the_datanet_erases_what_others_contributed() public {
        contribute(net, AUTHOR_KEY, 0);
        vm.prank(author);
        erasures.erase(net, 0, REASON);
        eq("who asked", uint160(author), uint160(erasures.erasureOf(net, 0).by));
    }

    function test_who_bought_the_datanet_may_and_who_sold_it_may_not() public {
        contribute(net, AUTHOR_KEY, 0);
        vm.prank(author);
        registry.transferFrom(author, other, net);
        refused(abi.encodeWithSelector(Erasures.NotYours.selector, net, 0, client, other, author), author, net, 0, REASON);
        vm.prank(other);
        erasures.erase(net, 0, REASON);
    }

    function test_nothing_is_erased_twice_nor_without_a_reason() public {
        contribute(net, AUTHOR_KEY, 0);
        refused(abi.encodeWithSelector(Erasures.ZeroHash.selector, "reasonHash"), client, net, 0, 0);
        vm.prank(client);
        erasures.erase(net, 0, REASON);
        uint64 asked = uint64(block.number);
        vm.roll(block.number + 7);
        bytes memory why = abi.encodeWithSelector(Erasures.AlreadyErased.selector, net, 0, asked);
        refused(why, client, net, 0, REASON);
        refused(why, author, net, 0, keccak256("another"));
        eq("counted once", 1, erasures.countOf(net));
    }

    function test_what_is_not_there_cannot_be_erased() public {
        contribute(net, AUTHOR_KEY, 0);
        refused(abi.encodeWithSelector(Erasures.UnknownContribution.selector, net, 1), client, net, 1, REASON);
        refused(abi.encodeWithSelector(Erasures.UnknownContribution.selector, net + 1, 0), client, net + 1, 0, REASON);
        refused(
            abi.encodeWithSelector(Erasures.UnknownContribution.selector, net, type(uint256).max), client, net, type(uint256).max, REASON
        );
    }

    function test_an_erased_text_cannot_come_back_into_its_datanet() public {
        contribute(net, AUTHOR_KEY, 0);
        vm.prank(client);
        erasures.erase(net, 0, REASON);
        bytes32 root = textRootOf(9, keccak256(abi.encode("top", uint256(0))));
        bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", bytes32(0), root, client));
        bytes memory body = abi.encodePacked(net, client, root, uint64(9), uint32(1), bytes32(0), keccak256("l"), objectOf(0));
        bytes memory report = abi.encodePacked(net, root, commitment, keccak256("report"), objectOf(0), uint8(1));
        bytes memory signature = signed(CLIENT_KEY, address(registry), Sig.CONTRIBUTION, body);
        bytes memory reportSignature = signed(AUTHOR_KEY, address(registry), Sig.GATE_REPORT, report);
        vm.expectRevert(abi.encodeWithSelector(AssetRegistry.AlreadyContributed.selector, net, root, client));
        registry.accept(body, signature, report, reportSignature, keccak256(abi.encode("top", uint256(0))));
    }

    function test_the_registry_is_named() public {
        eq("registry", uint160(address(registry)), uint160(address(erasures.registry())));
        vm.expectRevert(abi.encodeWithSelector(Erasures.ZeroAddress.selector, "registry"));
        new Erasures(AssetRegistry(address(0)));
    }

    function testFuzz_nobody_but_contributor_and_owner_erases(address who, bytes32 reason, uint8 contribution) public {
        for (uint256 i = 0; i < 3; ++i) contribute(net, AUTHOR_KEY, i);
        uint256 number = contribution % 3;
        if (reason == 0) reason = REASON;
        if (who != client && who != author) {
            refused(abi.encodeWithSelector(Erasures.NotYours.selector, net, number, client, author, who), who, net, number, reason);
            eq("nothing is kept", 0, uint160(erasures.erasureOf(net, number).by));
        }
        address asks = uint256(reason) % 2 == 0 ? client : author;
        vm.prank(asks);
        erasures.erase(net, number, reason);
        for (uint256 i = 0; i < 3; ++i) {
            eq("who asked", i == number ? uint160(asks) : 0, uint160(erasures.erasureOf(net, i).by));
            eq("why", i == number ? uint256(reason) : 0, uint256(erasures.erasureOf(net, i).reasonHash));
        }
        eq("counted", 1, erasures.countOf(net));
    }

    function testFuzz_requests_of_datanets_do_not_touch(uint8 first, uint8 second) public {
        vm.prank(other);
        uint64 beside = registry.register(3, "another");
        for (uint256 i = 0; i < 3; ++i) {
            contribute(net, AUTHOR_KEY, i);
            contribute(beside, OTHER_KEY, i);
        }
        vm.prank(author);
        erasures.erase(net, first % 3, REASON);
        address stranger = author;
        refused(
            abi.encodeWithSelector(Erasures.NotYours.selector, beside, second % 3, client, other, stranger),
            stranger, beside, second % 3, REASON
        );
        vm.prank(other);
        erasures.erase(beside, second % 3, REASON);
        for (uint256 i = 0; i < 3; ++i) {
            eq("here", i == first % 3 ? 1 : 0, erasures.erasureOf(net, i).by == address(0) ? 0 : 1);
            eq("beside", i == second % 3 ? 1 : 0, erasures.erasureOf(beside, i).by == address(0) ? 0 : 1);
        }
    }
}
