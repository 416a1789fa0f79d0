// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RewardsVault} from "../src/RewardsVault.sol";
import {Suite} from "./Suite.sol";

contract RewardsVaultTest is Suite {
    uint256 private constant UNIT = 2 ** 64;

    function test_what_arrives_is_divided_by_active_stake() public {
        give(150 ether * 64);
        eq("node", 100 ether * 64, vault.earned(node));
        eq("other", 50 ether * 64, vault.earned(other));
        uint256 before = node.balance;
        vm.prank(node);
        vault.claim();
        eq("paid", before + 100 ether * 64, node.balance);
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(RewardsVault.NothingToClaim.selector, node));
        vault.claim();
    }

    function test_stake_earns_from_when_it_comes_until_it_leaves() public {
        give(15 ether);
        bond(client, 150 ether);
        eq("a newcomer has nothing of before", 0, vault.earned(client));
        give(30 ether);
        close("half of what came since", 15 ether, vault.earned(client));
        close("a third of both", 10 ether + 10 ether, vault.earned(node));
        vm.prank(client);
        stakes.unbond(150 ether);
        give(15 ether);
        close("unbonding stake earns nothing", 15 ether, vault.earned(client));
        close("the others share it", 30 ether, vault.earned(node));
        vm.prank(address(verifier));
        stakes.slash(node, 50 ether, client, 0, 0, reviewer, keccak256("fault"));
        give(15 ether);
        close("slashed stake earns nothing", 30 ether, vault.earned(node));
        close("what was earned stays", 5 ether + 5 ether + 5 ether + 15 ether, vault.earned(other));
    }

    function test_money_waits_while_nobody_stakes() public {
        newStakes();
        name(address(escrow), address(verifier));
        give(7 ether);
        eq("waiting", 7 ether, vault.waiting());
        bond(client, 10 ether);
        eq("nothing waits", 0, vault.waiting());
        close("the first staker has it", 7 ether, vault.earned(client));
        vm.prank(client);
        stakes.unbond(10 ether);
        give(3 ether);
        eq("waiting again", 3 ether, vault.waiting());
        close("nothing more", 7 ether, vault.earned(client));
    }

    function test_a_remainder_is_carried_until_it_is_a_wei() public {
        // One wei over 150 ether of stake is less than 2^-64 of a wei each: nothing moves, nothing is lost.
        uint256 received = 0;
        for (uint256 i = 0; i < 20; ++i) {
            give(1);
            ++received;
            eq("units", received * UNIT, vault.earnedUnits(node) + vault.earnedUnits(other) + vault.carry());
        }
        yes("carried on", vault.index() > 0);
    }

    function test_only_the_stake_manager_reports() public {
        vm.expectRevert(abi.encodeWithSelector(RewardsVault.OnlyStakeManager.selector, address(stakes), address(this)));
        vault.stakeChanged(node, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(RewardsVault.ZeroAddress.selector, "stakeManager"));
        new RewardsVault(address(0));
    }

    /// @notice Every 2^-64 of a wei is somewhere, whatever comes and goes.
    function testFuzz_every_part_of_a_wei_is_accounted_for(uint80[6] calldata gifts, uint80[6] calldata moves) public {
        uint256 received = 0;
        uint256 claimed = 0;
        for (uint256 i = 0; i < 6; ++i) {
            give(gifts[i]);
            received += gifts[i];
            address who = moves[i] & 1 == 0 ? node : other;
            uint128 stake = stakes.stakeOf(who);
            if (moves[i] & 2 == 0 && stake > 0) {
                vm.prank(who);
                stakes.unbond(1 + moves[i] % stake);
            } else {
                vm.deal(who, 1 + uint256(moves[i]));
                vm.prank(who);
                stakes.increase{value: 1 + uint256(moves[i])}();
            }
            if (moves[i] & 4 == 0 && vault.earned(who) > 0) {
                uint256 before = who.balance;
                vm.prank(who);
                vault.claim();
                claimed += who.balance - before;
            }
            eq(
                "units",
                received * UNIT,
                vault.earnedUnits(node) + vault.earnedUnits(other) + vault.carry() + (vault.waiting() + claimed) * UNIT
            );
            eq("stake", uint256(stakes.stakeOf(node)) + stakes.stakeOf(other), vault.totalStake());
        }
        eq("balance", received - claimed, address(vault).balance);
    }

    function give(uint256 amount) private {
        vm.deal(address(this), amount);
        (bool taken,) = address(vault).call{value: amount}("");
        yes("taken", taken);
    }

    /// @dev Within a few wei: what a division carries goes to those who stake at the next.
    function close(string memory what, uint256 expected, uint256 got) private pure {
        if (got > expected + 60 || got + 60 < expected) revert Unequal(what, expected, got);
    }
}
