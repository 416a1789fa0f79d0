// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {DatanetTreasury} from "../src/DatanetTreasury.sol";
import {Contributed, Contributor} from "./DatanetTreasury.t.sol";
import {Campaign, Steps} from "./invariants/Steps.sol";
import {Vm} from "./Vm.sol";

/// @notice Payments, entries and claims of two Datanets in any order, with books that divide one contribution at a time.
contract StreamHandler is Steps {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint64 public constant DELAY = 5 days;
    uint256 public constant PEOPLE = 4;

    struct Known {
        uint256 contributor;
        uint64 textBytes;
        uint64 acceptedAt;
        bool entered;
        uint256 earned;
    }

    Contributed public book = new Contributed();
    DatanetTreasury public desk = new DatanetTreasury(AssetRegistry(address(book)), address(book), DELAY);
    Contributor[2] private hostile = [new Contributor(desk), new Contributor(desk)];
    uint256 public received;
    uint256[3] public undivided;
    uint256[3] private bytesIn;
    uint256[3] private opensAt;
    mapping(uint256 => Known[]) private known;

    function setUp() external {
        vm.warp(1_000_000);
        vm.deal(address(this), 1e30);
    }

    function wait(uint32 time) external step {
        vm.warp(block.timestamp + time % (2 * DELAY));
        ++did["wait"];
    }

    function receiveFor(bool second, bool bySettlement, uint96 amount) external step {
        uint64 asset = second ? 2 : 1;
        uint256 value = 1 + amount % (amount & 1 == 0 ? 1 ether : 1_000);
        uint256 insured = book.insurance().balance;
        if (bySettlement) book.pay{value: value}(desk, asset);
        else desk.receiveFor{value: value}(asset);
        if (known[asset].length == 0) {
            if (!bySettlement) breaks("money for nobody was taken");
            if (book.insurance().balance != insured + value) breaks("what nobody can take did not reach the insurance pool");
            ++did["passedOn"];
            return;
        }
        received += value;
        undivided[asset] += value;
        divide(asset);
        ++did["receiveFor"];
    }

    function accept(bool second, uint8 contributor, uint40 textBytes) external step {
        uint64 asset = second ? 2 : 1;
        uint256 who = contributor % PEOPLE;
        uint64 size = 1 + textBytes % (textBytes & 1 == 0 ? 1e9 : 7);
        book.accept(asset, person(who), size);
        known[asset].push(Known(who, size, uint64(block.timestamp), false, 0));
        ++did["accept"];
    }

    function enter(bool second, uint256 which, bool early) external step {
        uint64 asset = second ? 2 : 1;
        which %= known[asset].length;
        if (!early) vm.warp(block.timestamp + DELAY);
        desk.enter(asset, which);
        Known storage one = known[asset][which];
        if (one.entered) breaks("a contribution entered twice");
        if (block.timestamp < one.acceptedAt + DELAY) breaks("a contribution entered too soon");
        divide(asset);
        if (bytesIn[asset] == 0) opensAt[asset] = block.timestamp + DELAY;
        bytesIn[asset] += one.textBytes;
        one.entered = true;
        ++did["enter"];
    }

    function claim(bool second, uint256 which, bool refuses) external step {
        uint64 asset = second ? 2 : 1;
        which %= known[asset].length;
        for (uint256 i = 0; i < 2; ++i) hostile[i].become(refuses);
        uint256 due = desk.earned(asset, which);
        address contributor = person(known[asset][which].contributor);
        uint256 before = contributor.balance + desk.owed(contributor);
        desk.claim(asset, which);
        divide(asset);
        if (due == 0) breaks("nothing was due, and something paid");
        if (desk.earned(asset, which) != 0) breaks("something is left of a claim");
        if (contributor.balance + desk.owed(contributor) < before + due) breaks("a claim was not paid");
        ++did[refuses && known[asset][which].contributor > 1 ? "refused" : "claim"];
    }

    function takeOwed(bool first, bool refuses) external step {
        Contributor one = hostile[first ? 0 : 1];
        one.become(refuses);
        uint256 total = address(one).balance + desk.owed(address(one));
        desk.withdrawOwed(payable(address(one)));
        if (refuses) breaks("who refuses was paid");
        if (address(one).balance + desk.owed(address(one)) < total) breaks("what was owed was lost");
        divide(1);
        divide(2);
        ++did["takeOwed"];
    }

    /// @notice What the books give a contributor for all it contributed, and what it has, is owed and may claim.
    function booksOf(uint256 who) external view returns (uint256 expected, uint256 got) {
        got = person(who).balance + desk.owed(person(who));
        for (uint64 asset = 1; asset <= 2; ++asset) {
            (uint256 part,) = stepOf(asset);
            for (uint256 i = 0; i < known[asset].length; ++i) {
                Known memory one = known[asset][i];
                if (one.contributor != who) continue;
                expected += one.earned + (one.entered ? part * one.textBytes : 0);
                got += desk.earned(asset, i);
            }
        }
    }

    /// @notice What is there, and what of it is due, owed or not divided yet.
    function held() external view returns (uint256 balance, uint256 sum) {
        balance = address(desk).balance;
        for (uint64 asset = 1; asset <= 2; ++asset) {
            (, uint256 left) = stepOf(asset);
            sum += left;
            for (uint256 i = 0; i < known[asset].length; ++i) sum += desk.earned(asset, i);
        }
        for (uint256 who = 0; who < PEOPLE; ++who) sum += desk.owed(person(who));
    }

    function undividedNow() external view returns (uint256 sum) {
        for (uint64 asset = 1; asset <= 2; ++asset) {
            (, uint256 left) = stepOf(asset);
            sum += left;
        }
    }

    function person(uint256 who) private view returns (address) {
        return who < 2 ? address(uint160(0xAA00 + who)) : address(hostile[who - 2]);
    }

    function divide(uint64 asset) private {
        (uint256 part, uint256 left) = stepOf(asset);
        undivided[asset] = left;
        for (uint256 i = 0; i < known[asset].length; ++i) {
            if (known[asset][i].entered) known[asset][i].earned += part * known[asset][i].textBytes;
        }
    }

    function stepOf(uint64 asset) private view returns (uint256 part, uint256 left) {
        left = undivided[asset];
        if (bytesIn[asset] == 0 || block.timestamp < opensAt[asset]) return (0, left);
        part = left / bytesIn[asset];
        left -= part * bytesIn[asset];
    }
}

/// @notice Every wei that came in for a Datanet is paid, due to one contribution, owed, carried or waiting.
contract StreamInvariantsTest is Campaign {
    uint256 private constant SEQUENCES = 16;
    StreamHandler private handler;

    function setUp() public {
        handler = new StreamHandler();
        handler.setUp();
    }

    function acting() internal view override returns (address) {
        return address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory) {
        bytes4[] memory selectors = new bytes4[](7);
        (selectors[0], selectors[1], selectors[2]) = (handler.wait.selector, handler.receiveFor.selector, handler.accept.selector);
        (selectors[3], selectors[4], selectors[5]) = (handler.enter.selector, handler.claim.selector, handler.takeOwed.selector);
        selectors[6] = handler.claim.selector;
        return among(selectors);
    }

    /// forge-config: default.invariant.runs = 16
    /// forge-config: default.invariant.depth = 128
    /// forge-config: default.invariant.shrink-run-limit = 200
    function invariant_every_wei_is_paid_due_owed_or_undivided() public view {
        if (bytes(handler.broken()).length != 0) revert Rule(handler.broken());
        uint256 sum = 0;
        for (uint256 who = 0; who < handler.PEOPLE(); ++who) {
            (uint256 expected, uint256 got) = handler.booksOf(who);
            same("a contributor", expected, got);
            sum += got;
        }
        (uint256 balance, uint256 parts) = handler.held();
        same("held", parts, balance);
        same("received", handler.received(), handler.desk().totalReceived());
        same("all is a contributor's, or not divided yet", handler.received(), sum + handler.undividedNow());
    }

    function afterInvariant() public {
        string[8] memory names = ["wait", "receiveFor", "passedOn", "accept", "enter", "claim", "refused", "takeOwed"];
        string[] memory actions = new string[](8);
        for (uint256 i = 0; i < 8; ++i) actions[i] = names[i];
        sequenceDone("STREAM", SEQUENCES, actions, handler);
    }

    function same(string memory what, uint256 expected, uint256 got) private pure {
        if (expected != got) revert Broken(what, expected, got);
    }
}
