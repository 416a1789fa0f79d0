// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AuditCase} from "../src/AuditCase.sol";
import {CaseWorld} from "./CaseWorld.sol";
import {Campaign, Steps} from "./invariants/Steps.sol";

/// @notice An opener that takes its bond, refuses it, or takes it only to ask for more.
contract Opener {
    AuditCase private immutable cases;
    bool public refuses;

    constructor(AuditCase cases_) {
        cases = cases_;
    }

    function become(bool refuses_) external {
        refuses = refuses_;
    }

    function open(AuditCase.Question calldata question) external {
        cases.open{value: cases.bond()}(question);
    }

    receive() external payable {
        require(!refuses, "refused");
        try cases.withdrawOwed(payable(address(this))) {} catch {}
    }
}

/// @notice Commitments, cases, answers and silence in any order, with books of their own: which leaf was lost when, who was convicted for what.
contract CaseHandler is CaseWorld, Steps {
    /// @dev A case that was opened and is not known to have ended.
    struct Open {
        uint256 key;
        uint256 number;
        uint32 part;
        uint64 signedAt;
        uint64 deadline;
        address opener;
    }

    /// @notice Given for answers.
    uint256 public paidOut;
    Opener private opener;
    Open[] private running;
    mapping(uint256 => Signed[]) private said;
    mapping(uint256 => uint64) private convicted;
    mapping(uint256 => bool) private isErased;

    function begin() external {
        setUp();
        opener = new Opener(cases);
        vm.deal(address(opener), 1_000 ether);
        vm.fee(1 gwei);
    }

    function keyOf(bool second) private pure returns (uint256) {
        return second ? OTHER_KEY : NODE_KEY;
    }

    function wait(uint16 blocks) external step {
        later(uint64(blocks) * 4 + 1);
        ++did["wait"];
    }

    function sign(bool second, uint8 fragments) external step {
        said[keyOf(second)].push(says(keyOf(second), 1 + fragments % OBJECTS));
        ++did["sign"];
    }

    /// @notice By one of the last three commitments; whether it must be refused follows from the books.
    function ask(bool second, uint8 which, uint8 object_, uint8 leaf, bool byContract) external step {
        uint256 key = keyOf(second);
        uint256 length = said[key].length;
        if (length == 0) return;
        Signed memory one = said[key][length - 1 - which % (length < 3 ? length : 3)];
        // Few leaves, so that they are asked for again.
        (uint256 number, uint32 part) = (object_ % one.fragments, 0);
        part = leaf % 2 < parts(number) ? leaf % 2 : 0;
        AuditCase.Question memory question_ = question(one, number, part);
        bool isOld = block.number - one.signedAt > CASE_AGE_BLOCKS;
        bool mustFail = isOld || one.signedAt <= convicted[key] || isErased[number] || find(key, number, part) != type(uint256).max;
        address by = byContract ? address(opener) : ASKER;
        uint256 before = by.balance;
        if (byContract) {
            opener.open(question_);
        } else {
            vm.prank(ASKER, ASKER);
            cases.open{value: CASE_BOND}(question_);
        }
        if (mustFail) breaks("a case was opened that must not be");
        if (before - by.balance != CASE_BOND) breaks("another bond was taken");
        running.push(Open(key, number, part, one.signedAt, uint64(block.timestamp) + CASE_ANSWER, by));
        ++did["ask"];
    }

    function show(uint256 which, bool byStranger) external step {
        if (running.length == 0) return;
        Open memory one = running[which % running.length];
        uint256 stake = stakes.slashableOf(vm.addr(one.key));
        address by = byStranger ? client : vm.addr(one.key);
        uint256 before = by.balance;
        answer(by, one.key, one.number, one.part);
        paidOut += by.balance - before;
        if (by.balance == before || by.balance - before > CASE_BOND) breaks("an answer was given nothing, or more than the bond");
        if (stakes.slashableOf(vm.addr(one.key)) != stake) breaks("an answer took stake");
        end(which % running.length);
        ++did["show"];
    }

    /// @notice Other bytes than were asked for, or those of another leaf.
    function lie(uint256 which, uint8 flip) external step {
        if (running.length == 0) return;
        Open memory one = running[which % running.length];
        bytes memory data = cut(one.number, one.part);
        data[flip % data.length] ^= 0x40;
        try cases.answer(askedOf(one.key, one.number, one.part), data, siblingsOf(digests(one.number), one.part)) {
            breaks("other bytes ended a case");
        } catch {}
        ++did["lie"];
    }

    function close(uint256 which) external step {
        if (running.length == 0) return;
        Open memory one = running[which % running.length];
        bool convicts = one.signedAt > convicted[one.key] && !isErased[one.number];
        uint256 stake = stakes.slashableOf(vm.addr(one.key));
        cases.close(askedOf(one.key, one.number, one.part));
        if (convicts && block.timestamp < one.deadline) breaks("a case was closed before its time");
        bool isLess = stakes.slashableOf(vm.addr(one.key)) < stake;
        if (stake != 0 && isLess != convicts) breaks("stake was taken, or left, against the rule");
        if (convicts) convicted[one.key] = uint64(block.number);
        if (cases.convictedAt(vm.addr(one.key)) != convicted[one.key]) breaks("another conviction than the last");
        end(which % running.length);
        ++did[convicts ? "convict" : "close"];
    }

    function erase(uint8 number) external step {
        // Not all of them.
        if (number % 3 != 0) return;
        number %= uint8(OBJECTS - 2);
        vm.prank(author);
        erasures.erase(NET, number, keccak256("why"));
        isErased[number] = true;
        ++did["erase"];
    }

    function become(bool refuses) external step {
        opener.become(refuses);
        ++did["become"];
    }

    function takeOwed(bool ofContract) external step {
        cases.withdrawOwed(payable(ofContract ? address(opener) : ASKER));
        ++did["takeOwed"];
    }

    function restake(bool second) external step {
        address who = vm.addr(keyOf(second));
        vm.deal(who, 50 ether);
        vm.prank(who);
        stakes.increase{value: 50 ether}();
        ++did["restake"];
    }

    function end(uint256 index) private {
        running[index] = running[running.length - 1];
        running.pop();
    }

    function find(uint256 key, uint256 number, uint32 part) private view returns (uint256) {
        for (uint256 i = 0; i < running.length; ++i) {
            if (running[i].key == key && running[i].number == number && running[i].part == part) return i;
        }
        return type(uint256).max;
    }

    /// @notice What the contract holds, and what it must.
    function books() external view returns (uint256 balance, uint256 expected) {
        balance = address(cases).balance;
        expected = running.length * CASE_BOND + cases.owed(ASKER) + cases.owed(address(opener)) + cases.owed(node) + cases.owed(other)
            + cases.owed(client);
    }

    /// @notice What openers have, and have attached or are owed.
    function openers() external view returns (uint256) {
        return ASKER.balance + address(opener).balance + running.length * CASE_BOND + cases.owed(ASKER) + cases.owed(address(opener));
    }
}

/// @notice Every wei of bonds is held, owed, back or was given for an answer; a slash follows silence alone, and one conviction covers all that was signed before it. Calls are no
/// transactions of their own: in those gas would be free, and an answer be paid nothing.
/// forge-config: default.isolate = false
contract CaseInvariantsTest is Campaign {
    CaseHandler private handler;

    function setUp() public {
        handler = new CaseHandler();
        handler.begin();
    }

    function acting() internal view override returns (address) {
        return address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory) {
        bytes4[16] memory all = [
            handler.wait.selector,
            handler.wait.selector,
            handler.sign.selector,
            handler.sign.selector,
            handler.ask.selector,
            handler.ask.selector,
            handler.ask.selector,
            handler.ask.selector,
            handler.show.selector,
            handler.lie.selector,
            handler.close.selector,
            handler.close.selector,
            handler.erase.selector,
            handler.become.selector,
            handler.takeOwed.selector,
            handler.restake.selector
        ];
        bytes4[] memory selectors = new bytes4[](all.length);
        for (uint256 i = 0; i < all.length; ++i) selectors[i] = all[i];
        return among(selectors);
    }

    function afterInvariant() public {
        string[11] memory names =
            ["wait", "sign", "ask", "show", "lie", "convict", "close", "erase", "become", "takeOwed", "restake"];
        string[] memory actions = new string[](names.length);
        for (uint256 i = 0; i < names.length; ++i) actions[i] = names[i];
        sequenceDone("CASES", 16, actions, handler);
    }

    /// forge-config: default.invariant.runs = 16
    /// forge-config: default.invariant.depth = 128
    /// forge-config: default.invariant.shrink-run-limit = 200
    function invariant_bonds_are_held_owed_or_back_and_nobody_earns() public view {
        if (bytes(handler.broken()).length != 0) revert Rule(handler.broken());
        (uint256 balance, uint256 expected) = handler.books();
        if (balance != expected) revert Broken("bonds", expected, balance);
        uint256 left = 2_000 ether - handler.paidOut();
        if (handler.openers() != left) revert Broken("openers", left, handler.openers());
    }
}
