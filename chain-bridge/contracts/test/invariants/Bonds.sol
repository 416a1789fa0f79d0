// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settlement} from "../../src/Settlement.sol";
import {Sig} from "../../src/Sig.sol";
import {Roles, StakeManager} from "../../src/StakeManager.sol";
import {Money} from "./Money.sol";

/// @notice Stake, slashes and their queue, credit notes, the stakers' share, the pool and rent in any order, with books of their own.
abstract contract Bonds is Money {
    uint256 internal constant UNIT = 2 ** 64;

    uint256 public staked = 150 ether;
    uint256 public unstaked;
    uint256 public slashed;
    uint256 public debited;
    uint256 public released;
    uint256 public vaultReceived;
    uint256 public vaultClaimed;
    uint256 public rentIn;
    uint256 public rentOut;

    /// @dev A node's open fees right after one of its roots, when that was, and what slashes had taken of it before.
    struct Guard {
        uint256 open;
        uint256 time;
        uint256 slashed;
    }

    StakeManager.Slash[] private queue;
    mapping(bytes32 => bytes) private laneBodies;
    mapping(address => uint256) private unbondsUntil;
    mapping(address => uint256) private slashedOf;
    mapping(address => Guard[]) private guards;
    uint64 private credits;
    bytes[] private creditLanes;
    bytes32[] private creditRequests;
    /// @dev Wei that notes of a lane were paid.
    mapping(bytes32 => uint256) private paidBack;
    uint64 private datanet;

    function setUp() public virtual override {
        super.setUp();
        vm.prank(author);
        datanet = registry.register(3, "");
        vm.prank(governor);
        rent.setAuditor(address(0xA0D17));
    }

    function stakeMore(bool byOther, uint96 amount) external step {
        address from = byOther ? other : node;
        uint256 value = 1 + amount % 5 ether;
        vm.deal(from, from.balance + value);
        vm.prank(from);
        stakes.increase{value: value}();
        staked += value;
        ++did["stakeMore"];
    }

    /// @dev Against whatever way out there is: what unbonds, what notes take, both at once.
    function submitted(address from) internal override {
        uint256 open = settlement.openFeesOf(from);
        uint256 active = stakes.stakeOf(from);
        uint256 pledged = stakes.pledgedOf(from);
        if (open * 10 > (active > pledged ? active - pledged : 0)) breaks("I7: open fees above a tenth of the bond");
        guards[from].push(Guard(open, block.timestamp, slashedOf[from]));
    }

    /// @dev Until the last fault of a root can be proven, stake of ten times the fees that were open with it is there, or was slashed.
    function checkGuards(address from) private view {
        uint256 left = stakes.slashableOf(from);
        for (uint256 i = guards[from].length; i > 0; --i) {
            Guard memory guard = guards[from][i - 1];
            if (guard.time + UNBONDING <= block.timestamp) break;
            if (left + slashedOf[from] - guard.slashed < 10 * guard.open) breaks("I7: stake left that open fees stand against");
        }
    }

    function unbond(bool byOther, uint96 amount) external step {
        address from = byOther ? other : node;
        vm.prank(from);
        stakes.unbond(uint128(1 + amount % 5 ether));
        unbondsUntil[from] = block.timestamp + UNBONDING;
        ++did["unbond"];
    }

    function unstake(bool byOther, bool early) external step {
        address from = byOther ? other : node;
        if (!early) vm.warp(block.timestamp + UNBONDING);
        uint256 before = from.balance;
        vm.prank(from);
        stakes.withdraw();
        if (block.timestamp < unbondsUntil[from]) breaks("I7: stake left before it had unbonded");
        if (stakes.slashableOf(from) < stakes.pledgedOf(from)) breaks("I7: stake left that a claimed note will take");
        checkGuards(from);
        unstaked += from.balance - before;
        ++did["unstake"];
    }

    function slash(uint256 i, uint96 value, uint96 victimAmount) external step {
        StakeManager.Slash memory one = faultOf(i);
        one.victimAmount = victimAmount;
        bool known = stakes.isSlashed(one.faultHash);
        uint128 before = stakes.slashableOf(one.account);
        vm.prank(address(verifier));
        one.amount =
            stakes.slash(one.account, value % 3 ether, one.victim, victimAmount, one.lane, one.reporter, one.faultHash);
        if (known) breaks("I10: a fault was slashed twice");
        if (before - stakes.slashableOf(one.account) != one.amount) breaks("I2: a slash took another amount");
        slashed += one.amount;
        slashedOf[one.account] += one.amount;
        if (one.amount > 0) queue.push(one);
        ++did["slash"];
    }

    /// @dev The victim is the payer of a lane that was collected, or somebody who was never charged, or nobody.
    function faultOf(uint256 i) private returns (StakeManager.Slash memory one) {
        bytes memory lane = collectedLanes.length == 0 ? bytes("") : collectedLanes[(i >> 8) % collectedLanes.length];
        one.faultHash = keccak256(abi.encode("fault", i % 64));
        one.account = i & 1 == 0 ? node : other;
        one.victim = i & 2 != 0 ? (i & 4 == 0 ? address(payee) : address(0)) : lane.length == 0 || i & 8 != 0 ? author : payerOf(lane);
        // Who was charged was so by the node of its lane.
        if (i & 10 == 0) one.account = node;
        one.lane = keccak256(lane);
        one.reporter = i & 2 == 0 ? address(0xFEE) : address(payee);
        one.releaseAt = uint64(block.timestamp) + SLASH_DELAY;
        laneBodies[one.lane] = lane;
    }

    function release(uint256 i, bool refuses) external step {
        StakeManager.Slash memory one = queue[i % queue.length];
        payee.become(refuses, noClaim());
        if (i & 1 == 0) vm.warp(block.timestamp + SLASH_DELAY);
        uint256 poolBefore = address(pool).balance;
        uint256 burnedBefore = stakes.BURN().balance;
        uint256 everywhere = held(one);
        uint256 refunded = escrow.refundedOf(one.lane);
        uint256 had = one.victim.balance;
        stakes.release(one, laneBodies[one.lane]);
        if (one.victim != one.reporter && one.victim.balance - had > escrow.refundedOf(one.lane) - refunded) {
            breaks("I10: a victim was paid more than its lane counts");
        }
        checkReturned(one.lane);
        if (escrow.refundedOf(one.lane) > refunded) ++did["refund"];
        if (block.timestamp < one.releaseAt) breaks("I2: a slash was divided before its time");
        if (held(one) != everywhere) breaks("I2: the division of a slash does not sum");
        if ((stakes.BURN().balance - burnedBefore) * 10 < one.amount) breaks("I2: less than a tenth was burned");
        if (poolBefore > address(pool).balance && (poolBefore - address(pool).balance) * 10 > poolBefore) {
            breaks("I2: the pool paid more than a tenth of itself");
        }
        released += one.amount;
        ++did["release"];
        try stakes.release(one, laneBodies[one.lane]) {
            breaks("I10: a slash was divided twice");
        } catch {}
        queue[i % queue.length] = queue[queue.length - 1];
        queue.pop();
    }

    function takeOwed(bool refuses) external step {
        payee.become(refuses, noClaim());
        stakes.withdrawOwed(payable(address(payee)));
        ++did["takeOwed"];
    }

    // ------------------------------------------------------------------ credit notes

    function credit(uint256 i, uint96 amount) external step {
        bytes memory lane = collectedLanes[i % collectedLanes.length];
        uint128 cumulative = escrow.collectedOf(keccak256(lane));
        bytes32 request = keccak256(abi.encodePacked("client", ++credits));
        bytes memory note =
            abi.encodePacked(keccak256(lane), request, cumulative, 1 + amount % cumulative, type(uint64).max);
        bytes memory signature = signed(NODE_KEY, address(escrow), Sig.CREDIT_NOTE, note);
        vm.prank(payerOf(lane));
        escrow.claimCredit(lane, note, signature);
        checkReturned(keccak256(lane));
        creditLanes.push(lane);
        creditRequests.push(request);
        ++did["credit"];
    }

    function settleCredit(uint256 i) external step {
        i %= creditLanes.length;
        uint64 from = escrow.creditOf(keccak256(creditLanes[i]), creditRequests[i]).settleFrom;
        if (i & 1 == 0) vm.warp(block.timestamp + HONOUR);
        uint128 before = stakes.slashableOf(node);
        uint256 escrowBefore = address(escrow).balance;
        escrow.settleCredit(creditLanes[i], creditRequests[i]);
        if (block.timestamp < from) breaks("I2: a credit was settled while its node could pay it");
        uint256 paid = before - stakes.slashableOf(node);
        if (address(escrow).balance - escrowBefore != paid) breaks("I2: a debit did not arrive");
        checkGuards(node);
        debited += paid;
        deposited += paid;
        paidBack[keccak256(creditLanes[i])] += paid;
        ++did["settleCredit"];
    }

    function payCredit(uint256 i) external step {
        i %= creditLanes.length;
        uint128 left = escrow.creditOf(keccak256(creditLanes[i]), creditRequests[i]).amount;
        uint256 bonded = stakes.slashableOf(node);
        escrow.payCredit{value: left}(creditLanes[i], creditRequests[i]);
        if (stakes.slashableOf(node) != bonded) breaks("I2: a credit that was paid took stake");
        deposited += left;
        paidBack[keccak256(creditLanes[i])] += left;
        ++did["payCredit"];
    }

    function dropCredit(uint256 i) external step {
        i %= creditLanes.length;
        bytes32 lane = keccak256(creditLanes[i]);
        uint128 left = escrow.creditOf(lane, creditRequests[i]).amount;
        uint128 credited = escrow.creditedOf(lane);
        uint256 bonded = stakes.slashableOf(node);
        vm.prank(payerOf(creditLanes[i]));
        escrow.dropCredit(creditLanes[i], creditRequests[i]);
        if (escrow.creditedOf(lane) + left != credited) breaks("I7: a claim given up left its lane another amount");
        if (stakes.slashableOf(node) != bonded) breaks("I2: a claim given up moved stake");
        ++did["dropCredit"];
    }

    /// @dev What a lane gave back by notes is what they were paid and what they still claim.
    function creditedByLane(uint256 i) external view returns (uint256 counted, uint256 kept) {
        bytes32 lane = keccak256(creditLanes[i]);
        counted = escrow.creditedOf(lane);
        kept = paidBack[lane];
        for (uint256 j = 0; j < creditLanes.length; ++j) {
            if (keccak256(creditLanes[j]) == lane) kept += escrow.creditOf(lane, creditRequests[j]).amount;
        }
    }

    function noteCount() external view returns (uint256) {
        return creditLanes.length;
    }

    // ------------------------------------------------------------------ vault, pool, rent

    function reward(uint96 amount) external step {
        (bool taken,) = address(vault).call{value: amount % 7 ether}("");
        if (!taken) breaks("I16: the vault refused money");
        vaultReceived += amount % 7 ether;
        ++did["reward"];
    }

    function takeReward(bool byOther) external step {
        address from = byOther ? other : node;
        uint256 before = from.balance;
        vm.prank(from);
        vault.claim();
        vaultClaimed += from.balance - before;
        ++did["takeReward"];
    }

    function insure(uint96 amount) external step {
        (bool taken,) = address(pool).call{value: amount % 5 ether}("");
        if (!taken) breaks("I16: the pool refused money");
        ++did["insure"];
    }

    function changeRoles(bool quits) external step {
        vm.prank(node);
        if (quits) stakes.quit(Roles.INDEXER);
        else stakes.join(Roles.INDEXER);
        ++did["changeRoles"];
    }

    function prepay(uint96 amount) external step {
        rent.prepay{value: 1 + amount % 3 ether}(datanet);
        rentIn += 1 + amount % 3 ether;
        ++did["prepay"];
    }

    function leaveRent(uint96 amount) external step {
        uint128 prepaid = rent.accountOf(datanet).prepaid;
        vm.prank(author);
        rent.requestWithdraw(datanet, amount % (prepaid + 1));
        vm.warp(block.timestamp + RENT_DELAY);
        uint256 before = author.balance;
        vm.prank(author);
        rent.withdraw(datanet);
        rentOut += author.balance - before;
        ++did["leaveRent"];
    }

    // ------------------------------------------------------------------ books

    function openCredits() external view returns (uint256 sum) {
        for (uint256 i = 0; i < creditLanes.length; ++i) {
            sum += escrow.creditOf(keccak256(creditLanes[i]), creditRequests[i]).amount;
        }
    }

    function queued() external view returns (uint256) {
        return slashed - released;
    }

    function rentHeld() external view returns (uint256) {
        return uint256(rent.accountOf(datanet).prepaid) + rent.accountOf(datanet).accrued;
    }

    function vaultUnits() external view returns (uint256 got, uint256 expected) {
        got = vault.earnedUnits(node) + vault.earnedUnits(other) + vault.carry() + (vault.waiting() + vaultClaimed) * UNIT;
        expected = vaultReceived * UNIT;
    }

    /// @dev Everything a division may touch.
    function held(StakeManager.Slash memory queued_) private view returns (uint256) {
        return address(stakes).balance + address(pool).balance + stakes.BURN().balance + queued_.reporter.balance
            + (queued_.victim == address(0) || queued_.victim == queued_.reporter ? 0 : queued_.victim.balance);
    }

    function checkReturned(bytes32 lane) private view {
        if (escrow.creditedOf(lane) + escrow.refundedOf(lane) > escrow.collectedOf(lane)) {
            breaks("I7: a lane gave back more than it collected");
        }
    }

    function payerOf(bytes memory lane) private pure returns (address payer) {
        assembly ("memory-safe") {
            payer := shr(96, mload(add(lane, 32)))
        }
    }

    function noClaim() private view returns (Settlement.Claim memory made) {
        made.account = address(this);
    }
}
