// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AuditRent} from "../src/AuditRent.sol";
import {DatanetRent} from "../src/DatanetRent.sol";
import {AuditWorld} from "./AuditWorld.sol";
import {Campaign, Steps} from "./invariants/Steps.sol";

/// @notice Rent, epochs, the roll, claims honest and forged, in any order, with books of their own.
contract AuditHandler is AuditWorld, Steps {
    uint64 private constant DELAY = RENT_DELAY;
    uint32 private constant TEXTS = 3;

    uint256 public prepaidIn;
    uint256 public takenOut;
    uint256 public paidOut;
    mapping(bytes32 => bool) private paidFor;
    uint64[] private drawn;

    function begin() external {
        setUp();
        for (uint32 c = 0; c < TEXTS; ++c) shelf.add(NET, object(NET, c), (c + 1) * 1_000_003);
        shelf.add(2, object(2, 0), 77);
        rent.prepay{value: 1 ether}(NET);
        prepaidIn = 1 ether;
    }

    function prepay(bool second, uint88 amount) external step {
        uint256 value = 1 + amount % (amount & 1 == 0 ? 1 ether : 1_000);
        rent.prepay{value: value}(second ? 2 : NET);
        prepaidIn += value;
        ++did["prepay"];
    }

    function takeBack(bool second, uint88 amount) external step {
        uint64 net = second ? 2 : NET;
        vm.startPrank(author);
        rent.requestWithdraw(net, amount % (rent.accountOf(net).prepaid + 1));
        vm.warp(block.timestamp + DELAY);
        uint256 before = author.balance;
        rent.withdraw(net);
        vm.stopPrank();
        takenOut += author.balance - before;
        ++did["takeBack"];
    }

    function setPrice(uint64 price) external step {
        vm.prank(governor);
        rent.setPrice(price);
        ++did["setPrice"];
    }

    function grow(uint32 size) external step {
        if (shelf.contributionCount(NET) > 6) return;
        shelf.add(NET, object(NET, uint32(shelf.contributionCount(NET))), 1 + size);
        ++did["grow"];
    }

    function epoch(bool charges) external step {
        drawn.push(nextEpoch());
        if (charges) {
            rent.accrue(NET);
            rent.accrue(2);
        }
        ++did["epoch"];
    }

    function later(uint8 epochs) external step {
        clock.next(epochs);
        rent.accrue(NET);
        ++did["later"];
    }

    function giveBack(bool second, uint256 which) external step {
        uint64 net = second ? 2 : NET;
        clock.next(100);
        which %= rent.periodCount(net);
        uint128 before = rent.accountOf(net).accrued;
        rent.giveBack(net, which);
        if (rent.accountOf(net).accrued > before + rent.periodOf(net, rent.periodCount(net) - 1).charged) breaks("rent was made");
        if (rent.periodOf(net, which).paid != rent.periodOf(net, which).charged) breaks("something is left of what was given back");
        ++did["giveBack"];
    }

    /// @notice A node resigns and enlists again: it sits elsewhere from the next epoch on.
    function move(uint8 which) external step {
        address who = nodeAt(which % NODES);
        vm.startPrank(who);
        audits.resign();
        audits.enlist{value: 0.01 ether}(which % 3);
        vm.stopPrank();
        ++did["move"];
    }

    function claim(uint8 who, uint8 when, uint32 contribution, uint8 fragment, uint8 count) external step {
        uint64 at = epochOf(when);
        Held[] memory held = pick(at, contribution, fragment, count);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](1);
        claims[0] = claimFrom(who % NODES, at, held);
        uint256 before = rent.periodOf(held[0].datanet, held[0].period).paid;
        audits.claim(claims);
        noted(held, at, rent.periodOf(held[0].datanet, held[0].period).paid - before);
        ++did["claim"];
    }

    /// @notice A verdict by somebody who was not drawn, the node itself among them, beside a true one.
    function forgeVerdict(uint8 who, uint8 by, uint8 when, uint32 contribution) external step {
        uint64 at = epochOf(when);
        Held[] memory held = pick(at, contribution, by, 1);
        AuditRent.Audit[] memory claims = new AuditRent.Audit[](1);
        claims[0] = claimFrom(who % NODES, at, held);
        address auditor = nodeAt(by % NODES);
        if (isDrawn(auditor, at, who % NODES)) return;
        claims[0].first = verdict(auditor, nodeAt(who % NODES), at, holdingsOf(held), 0);
        claims[0].firstSignature = attest(auditor, claims[0].first);
        try audits.claim(claims) {
            breaks("a verdict of somebody who was not drawn counted");
        } catch {}
        ++did["forgeVerdict"];
    }

    function epochOf(uint8 when) private view returns (uint64) {
        return drawn[drawn.length - 1 - when % (drawn.length < 6 ? drawn.length : 6)];
    }

    function pick(uint64 at, uint32 contribution, uint8 fragment, uint8 count) private returns (Held[] memory held) {
        uint64 net = contribution % 5 == 4 ? 2 : NET;
        contribution = net == 2 ? 0 : contribution % uint32(shelf.contributionCount(NET));
        rent.accrue(net);
        held = new Held[](1 + count % 3);
        uint32 period = periodOf(net, at);
        for (uint8 k = 0; k < held.length; ++k) held[k] = Held(net, contribution, period, (fragment % 5 + k) % 5, 5, true);
    }

    function noted(Held[] memory held, uint64 at, uint256 paid) private {
        bool any = false;
        uint256 most = 0;
        DatanetRent.Period memory period = rent.periodOf(held[0].datanet, held[0].period);
        uint64 size = shelf.contributionAt(held[0].datanet, held[0].contribution).textBytes;
        for (uint256 k = 0; k < held.length; ++k) {
            bytes32 key = keccak256(abi.encode(held[k].datanet, held[k].contribution, held[k].fragment, at));
            if (paidFor[key]) continue;
            (paidFor[key], any) = (true, true);
            most += audits.shareOf(period, size, 5);
        }
        if (!any) breaks("a fragment was paid twice for an epoch");
        if (paid != most) breaks("another amount than the shares was paid");
        paidOut += paid;
    }

    function periodOf(uint64 net, uint64 at) private view returns (uint32) {
        for (uint32 k = uint32(rent.periodCount(net)); k > 0; --k) {
            DatanetRent.Period memory period = rent.periodOf(net, k - 1);
            if (period.from <= at && at < period.until) return k - 1;
        }
        revert("not charged");
    }

    function placeAt(uint256 i, uint64 at) private view returns (uint32) {
        for (uint32 place = 0; place < NODES; ++place) {
            (address sitting,) = audits.seatAt(at, place);
            if (sitting == nodeAt(i)) return place;
        }
        revert("not on the roll");
    }

    function isDrawn(address auditor, uint64 at, uint256 i) private view returns (bool) {
        address[3] memory three = audits.auditorsOf(at, nodeAt(i), placeAt(i, at));
        return auditor == three[0] || auditor == three[1] || auditor == three[2];
    }

    function claimFrom(uint256 i, uint64 at, Held[] memory held) private view returns (AuditRent.Audit memory audit) {
        audit.place = placeAt(i, at);
        audit.count = uint64(held.length);
        (audit.siblings, audit.rows) = partOf(held, 0, held.length == 1 ? 0 : held.length == 2 ? 1 : 2);
        (audit.first, audit.firstSignature) = said(i, at, held, 2);
        (audit.second, audit.secondSignature) = said(i, at, held, 0);
    }

    /// @dev What the auditor of that number says of a node's audit, signed.
    function said(uint256 i, uint64 at, Held[] memory held, uint256 auditor) private view returns (bytes memory body, bytes memory signature) {
        address one = audits.auditorsOf(at, nodeAt(i), placeAt(i, at))[auditor];
        body = verdict(one, nodeAt(i), at, holdingsOf(held), 0);
        signature = attest(one, body);
    }

    /// @notice What is there, and what the contracts say of it.
    function held_() external view returns (uint256 balance, uint256 sum, uint256 charged) {
        balance = address(rent).balance;
        for (uint64 net = 1; net <= 2; ++net) {
            DatanetRent.Account memory account = rent.accountOf(net);
            sum += uint256(account.prepaid) + account.accrued;
            uint256 open = 0;
            for (uint256 k = 0; k < rent.periodCount(net); ++k) {
                DatanetRent.Period memory period = rent.periodOf(net, k);
                open += period.charged - period.paid;
            }
            if (open == account.accrued) charged += 1;
        }
    }

    function received() external view returns (uint256 sum) {
        for (uint256 i = 0; i < NODES; ++i) sum += payoutOf(i).balance;
    }

    function deposits() external view returns (uint256 balance, uint256 expected) {
        return (address(audits).balance, NODES * 0.01 ether);
    }
}

/// @notice Every wei of rent is prepaid, accrued or was paid, once for a fragment and epoch; every deposit is there.
contract AuditInvariantsTest is Campaign {
    AuditHandler private handler;

    function setUp() public {
        handler = new AuditHandler();
        handler.begin();
    }

    function acting() internal view override returns (address) {
        return address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory) {
        bytes4[] memory selectors = new bytes4[](15);
        selectors[0] = handler.prepay.selector;
        selectors[1] = handler.takeBack.selector;
        selectors[2] = handler.setPrice.selector;
        selectors[3] = handler.grow.selector;
        selectors[4] = handler.epoch.selector;
        selectors[5] = handler.epoch.selector;
        selectors[6] = handler.epoch.selector;
        selectors[7] = handler.later.selector;
        selectors[8] = handler.giveBack.selector;
        selectors[9] = handler.move.selector;
        for (uint256 i = 10; i < 14; ++i) selectors[i] = handler.claim.selector;
        selectors[14] = handler.forgeVerdict.selector;
        return among(selectors);
    }

    function afterInvariant() public {
        string[] memory actions = new string[](10);
        (actions[0], actions[1], actions[2], actions[3], actions[4]) = ("prepay", "takeBack", "setPrice", "grow", "epoch");
        (actions[5], actions[6], actions[7], actions[8], actions[9]) = ("later", "giveBack", "move", "claim", "forgeVerdict");
        sequenceDone("AUDITS", 16, actions, handler);
    }

    /// forge-config: default.invariant.runs = 16
    /// forge-config: default.invariant.depth = 96
    /// forge-config: default.invariant.shrink-run-limit = 200
    function invariant_every_wei_is_prepaid_accrued_or_was_paid() public view {
        if (bytes(handler.broken()).length != 0) revert Rule(handler.broken());
        (uint256 balance, uint256 sum, uint256 charged) = handler.held_();
        if (balance != sum) revert Broken("books", sum, balance);
        if (charged != 2) revert Broken("accrued is what charges leave", 2, charged);
        uint256 in_ = handler.prepaidIn() - handler.takenOut() - handler.paidOut();
        if (balance != in_) revert Broken("held", in_, balance);
        if (handler.received() != handler.paidOut()) revert Broken("received", handler.paidOut(), handler.received());
        (uint256 there, uint256 expected) = handler.deposits();
        if (there != expected) revert Broken("deposits", expected, there);
    }
}
