// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {StakeManager} from "../src/StakeManager.sol";
import {Suite} from "./Suite.sol";

/// @notice A payee that accepts money only while it is told to.
contract Moody {
    bool public accepts;

    function setAccepts(bool accepts_) external {
        accepts = accepts_;
    }

    receive() external payable {
        require(accepts, "not now");
    }
}

contract StakeManagerTest is Suite {
    function test_registration_keeps_key_incarnation_and_payout() public {
        StakeManager.Operator memory operator = stakes.nodeOf(node);
        eq("node id", keccak256(abi.encode(node)), operator.nodeId);
        eq("incarnation", 1, operator.incarnation);
        eq("payout", node, operator.payout);
        eq("stake", 100 ether, stakes.stakeOf(node));
        eq("operators", 2, stakes.operatorCount());
        eq("first", node, stakes.operatorAt(0));
        vm.prank(node);
        stakes.stake(keccak256("new key"), 2, address(0xBEEF));
        eq("operators after a restart", 2, stakes.operatorCount());
        eq("new payout", address(0xBEEF), stakes.nodeOf(node).payout);
    }

    function test_registration_refuses_wrong_values() public {
        vm.startPrank(address(0x99));
        vm.deal(address(0x99), 100 ether);
        vm.expectRevert(StakeManager.ZeroNodeId.selector);
        stakes.stake{value: 10 ether}(0, 1, address(1));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.ZeroAddress.selector, "payout"));
        stakes.stake{value: 10 ether}(bytes32(uint256(1)), 1, address(0));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.StakeBelowMinimum.selector, MIN_STAKE, 1 ether));
        stakes.stake{value: 1 ether}(bytes32(uint256(1)), 1, address(1));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.UnknownOperator.selector, address(0x99)));
        stakes.increase{value: 1 ether}();
        vm.expectRevert(abi.encodeWithSelector(StakeManager.UnknownOperator.selector, address(0x99)));
        stakes.unbond(1);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.UnknownOperator.selector, address(0x99)));
        stakes.withdraw();
        vm.stopPrank();
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.IncarnationMustRise.selector, 1, 1));
        stakes.stake(bytes32(uint256(1)), 1, address(1));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.ZeroAddress.selector, "insurance"));
        new StakeManager(UNBONDING, MIN_STAKE, address(0));
    }

    function test_unbonding_takes_its_time_and_ends_the_bond() public {
        vm.startPrank(node);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.NothingUnbonding.selector, node));
        stakes.withdraw();
        vm.expectRevert(abi.encodeWithSelector(StakeManager.NotEnoughStake.selector, 100 ether, 101 ether));
        stakes.unbond(101 ether);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.NotEnoughStake.selector, 100 ether, 0));
        stakes.unbond(0);
        stakes.unbond(95 ether);
        yes("below the minimum nobody is bonded", !stakes.isBonded(node));
        eq("slashable", 100 ether, stakes.slashableOf(node));
        uint64 until = uint64(block.timestamp) + UNBONDING;
        vm.warp(until - 1);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.StillUnbonding.selector, until, until - 1));
        stakes.withdraw();
        vm.warp(until);
        uint256 before = node.balance;
        stakes.withdraw();
        eq("withdrawn", before + 95 ether, node.balance);
        stakes.increase{value: 5 ether}();
        yes("bonded again", stakes.isBonded(node));
        vm.stopPrank();
    }

    function test_a_second_unbonding_adds_to_the_first_and_waits_anew() public {
        vm.startPrank(node);
        stakes.unbond(10 ether);
        vm.warp(block.timestamp + UNBONDING - 1);
        stakes.unbond(20 ether);
        eq("unbonding", 30 ether, stakes.nodeOf(node).unbonding);
        eq("slashable", 100 ether, stakes.slashableOf(node));
        uint64 until = uint64(block.timestamp) + UNBONDING;
        vm.warp(until - 1);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.StillUnbonding.selector, until, until - 1));
        stakes.withdraw();
        vm.warp(until);
        stakes.withdraw();
        eq("withdrawn", 30 ether, node.balance);
        vm.stopPrank();
    }

    function test_nobody_is_bonded_unregistered_even_where_no_stake_is_asked() public {
        StakeManager free = new StakeManager(UNBONDING, 0, insurance);
        yes("a stranger is not bonded", !free.isBonded(address(0x99)));
        vm.prank(address(0x99));
        free.stake(bytes32(uint256(1)), 1, address(0x99));
        yes("a registered account is", free.isBonded(address(0x99)));
    }

    function test_only_the_verifier_slashes_and_it_is_named_once() public {
        vm.expectRevert(abi.encodeWithSelector(StakeManager.OnlyVerifier.selector, address(verifier), address(this)));
        stakes.slash(node, 1, client, 0, other, 0);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.VerifierAlreadySet.selector, address(verifier)));
        stakes.setVerifier(address(1));
        StakeManager fresh = new StakeManager(UNBONDING, MIN_STAKE, insurance);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.ZeroAddress.selector, "verifier"));
        fresh.setVerifier(address(0));
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.OnlyDeployer.selector, address(this), client));
        fresh.setVerifier(client);
    }

    function test_slash_reaches_unbonding_stake() public {
        vm.prank(node);
        stakes.unbond(95 ether);
        vm.prank(address(verifier));
        stakes.slash(node, 50 ether, client, 1 ether, other, keccak256("fault"));
        eq("active", 0, stakes.stakeOf(node));
        eq("slashable", 50 ether, stakes.slashableOf(node));
        vm.prank(address(verifier));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.SlashAmount.selector, 50 ether, 51 ether));
        stakes.slash(node, 51 ether, client, 0, other, 0);
        vm.prank(address(verifier));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.SlashAmount.selector, 50 ether, 0));
        stakes.slash(node, 0, client, 0, other, 0);
    }

    function test_payee_that_refuses_is_credited() public {
        Moody moody = new Moody();
        vm.prank(address(verifier));
        stakes.slash(node, 10 ether, address(moody), 1 ether, other, 0);
        eq("owed", 1 ether, stakes.owed(address(moody)));
        vm.expectRevert(bytes("not now"));
        stakes.withdrawOwed(payable(address(moody)));
        moody.setAccepts(true);
        stakes.withdrawOwed(payable(address(moody)));
        eq("paid", 1 ether, address(moody).balance);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.NothingOwed.selector, address(moody)));
        stakes.withdrawOwed(payable(address(moody)));
    }

    function testFuzz_division_sums_and_always_burns(uint128 amount, uint128 victimAmount) public view {
        vm.assume(amount > 0);
        StakeManager.Division memory parts = stakes.divide(amount, victimAmount);
        eq("sum", amount, uint256(parts.toVictim) + parts.toReporter + parts.burned + parts.insured);
        yes("a tenth is burned", uint256(parts.burned) * 10 >= amount);
        yes("the victim gets no more than it lost", parts.toVictim <= victimAmount);
        yes("the reporter gets at most half of the rest", uint256(parts.toReporter) * 2 <= amount - parts.toVictim);
        yes("the burn is not below the insurance", parts.burned >= parts.insured);
    }

    function testFuzz_slash_conserves_every_wei(uint128 amount, uint128 victimAmount) public {
        amount = 1 + amount % 100 ether;
        uint256 before = address(stakes).balance;
        uint256 outside = client.balance + other.balance + insurance.balance + stakes.BURN().balance;
        vm.prank(address(verifier));
        stakes.slash(node, amount, client, victimAmount, other, 0);
        eq("left", before - amount, address(stakes).balance);
        eq("arrived", outside + amount, client.balance + other.balance + insurance.balance + stakes.BURN().balance);
        eq("stake", 100 ether - amount, stakes.stakeOf(node));
    }
}
