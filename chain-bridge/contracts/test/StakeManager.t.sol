// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {InsurancePool} from "../src/InsurancePool.sol";
import {Pay} from "../src/Pay.sol";
import {RewardsVault} from "../src/RewardsVault.sol";
import {ICreditDesk, IStakeListener, Roles, StakeManager} from "../src/StakeManager.sol";
import {Desk} from "./Desk.sol";
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

/// @notice A payee that burns whatever gas it is given.
contract GasBurner {
    receive() external payable {
        while (true) {}
    }
}

contract StakeManagerTest is Suite {
    bytes32 private constant FAULT = keccak256("fault");
    bytes32 private constant LANE = keccak256("lane");
    address private charged;

    function creditDesk() internal override returns (address) {
        charged = address(new Desk(escrow));
        return charged;
    }

    // ------------------------------------------------------------------ roles and staking

    function test_registration_keeps_key_incarnation_and_payout() public {
        StakeManager.Operator memory operator = stakes.nodeOf(node);
        eq("node id", keccak256(abi.encode(node)), operator.nodeId);
        eq("incarnation", 1, operator.incarnation);
        eq("payout", node, operator.payout);
        eq("roles", Roles.NODE, operator.roles);
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
        vm.expectRevert(abi.encodeWithSelector(StakeManager.UnknownOperator.selector, address(0x99)));
        stakes.quit(Roles.NODE);
        vm.stopPrank();
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.IncarnationMustRise.selector, 1, 1));
        stakes.stake(bytes32(uint256(1)), 1, address(1));
    }

    function test_a_stake_stays_within_its_bits() public {
        vm.deal(node, type(uint128).max);
        vm.startPrank(node);
        stakes.unbond(1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(StakeManager.StakeTooLarge.selector, uint256(type(uint128).max) + 100 ether)
        );
        stakes.increase{value: type(uint128).max}();
        stakes.increase();
        eq("nothing added", 99 ether, stakes.stakeOf(node));
        vm.stopPrank();
    }

    function test_every_role_demands_its_own_stake() public {
        address poster = address(0x901);
        vm.deal(poster, 100 ether);
        vm.startPrank(poster);
        uint8[3] memory unknown = [0, 1, 8];
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(StakeManager.UnknownRoles.selector, unknown[i]));
            stakes.join{value: 1 ether}(unknown[i]);
        }
        vm.expectRevert(
            abi.encodeWithSelector(StakeManager.StakeBelowMinimum.selector, MIN_POSTER_STAKE, MIN_POSTER_STAKE - 1)
        );
        stakes.join{value: MIN_POSTER_STAKE - 1}(Roles.POSTER);
        stakes.join{value: MIN_POSTER_STAKE}(Roles.POSTER);
        yes("a poster", stakes.isBondedAs(poster, Roles.POSTER));
        yes("no node", !stakes.isBonded(poster));
        yes("no roles are nobody's", !stakes.isBondedAs(poster, 0));
        yes("both roles are asked for", !stakes.isBondedAs(poster, Roles.POSTER | Roles.INDEXER));
        vm.expectRevert(
            abi.encodeWithSelector(
                StakeManager.StakeBelowMinimum.selector, MIN_POSTER_STAKE + MIN_INDEXER_STAKE, MIN_POSTER_STAKE + 1 ether
            )
        );
        stakes.join{value: 1 ether}(Roles.INDEXER);
        stakes.join{value: MIN_INDEXER_STAKE}(Roles.INDEXER);
        yes("both", stakes.isBondedAs(poster, Roles.POSTER | Roles.INDEXER));
        stakes.stake{value: MIN_STAKE}(keccak256("id"), 1, poster);
        yes("and a node", stakes.isBonded(poster));
        eq("listed once", 3, stakes.operatorCount());
        eq("the sum is demanded", MIN_STAKE + MIN_POSTER_STAKE + MIN_INDEXER_STAKE, stakes.leastStake(7));

        stakes.unbond(1);
        yes("a stake counts once, for all roles", !stakes.isBonded(poster));
        yes("for all", !stakes.isBondedAs(poster, Roles.INDEXER));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.UnknownRoles.selector, 0));
        stakes.quit(0);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.UnknownRoles.selector, 8));
        stakes.quit(8);
        stakes.quit(Roles.INDEXER);
        yes("with one role less it suffices", stakes.isBonded(poster));
        (bool bonded, uint128 active) = stakes.bondOf(poster);
        yes("bond", bonded);
        eq("active", 35 ether - 1, active);
        vm.stopPrank();
    }

    function test_payout_accounts_are_kept_by_block() public {
        vm.roll(1_010);
        vm.startPrank(node);
        stakes.stake(keccak256("new key"), 2, address(0xBEEF));
        stakes.stake(keccak256("new key"), 3, address(0xBEEF));
        vm.stopPrank();
        eq("before", address(0), stakes.payoutAt(node, 999));
        eq("first", node, stakes.payoutAt(node, 1_009));
        eq("since", address(0xBEEF), stakes.payoutAt(node, 1_010));
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
        stakes = new StakeManager(UNBONDING, SLASH_DELAY, 0, 0, 0);
        pool = new InsurancePool(address(stakes));
        vault = new RewardsVault(address(stakes));
        name(address(escrow), address(verifier));
        yes("a stranger is not bonded", !stakes.isBonded(address(0x99)));
        vm.prank(address(0x99));
        stakes.stake(bytes32(uint256(1)), 1, address(0x99));
        yes("a registered account is", stakes.isBonded(address(0x99)));
    }

    // ------------------------------------------------------------------ set-up

    function test_peers_and_verifiers_are_named_once_by_the_deployer_and_before_any_stake() public {
        newStakes();
        vm.deal(client, 10 ether);
        vm.prank(client);
        vm.expectRevert(StakeManager.NotSetUp.selector);
        stakes.stake{value: 10 ether}(FAULT, 1, client);

        IStakeListener listener = IStakeListener(address(vault));
        ICreditDesk books = ICreditDesk(address(escrow));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.ZeroAddress.selector, "insurance"));
        stakes.setPeers(address(0), listener, books);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.ZeroAddress.selector, "rewards"));
        stakes.setPeers(address(pool), IStakeListener(address(0)), books);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.ZeroAddress.selector, "creditDesk"));
        stakes.setPeers(address(pool), listener, ICreditDesk(address(0)));
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.OnlyDeployer.selector, address(this), client));
        stakes.setPeers(address(pool), listener, books);
        stakes.setPeers(address(pool), listener, books);
        vm.expectRevert(StakeManager.PeersAlreadySet.selector);
        stakes.setPeers(address(pool), listener, books);

        vm.prank(client);
        vm.expectRevert(StakeManager.NotSetUp.selector);
        stakes.stake{value: 10 ether}(FAULT, 1, client);
        address[] memory list = new address[](0);
        vm.expectRevert(StakeManager.NoVerifiers.selector);
        stakes.setVerifiers(list);
        list = new address[](2);
        list[0] = address(1);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.ZeroAddress.selector, "verifier"));
        stakes.setVerifiers(list);
        list[1] = address(2);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.OnlyDeployer.selector, address(this), client));
        stakes.setVerifiers(list);
        stakes.setVerifiers(list);
        yes("both", stakes.isVerifier(address(1)) && stakes.isVerifier(address(2)));
        vm.expectRevert(StakeManager.VerifiersAlreadySet.selector);
        stakes.setVerifiers(list);
        vm.prank(client);
        stakes.stake{value: 10 ether}(FAULT, 1, client);
        yes("now it can", stakes.isBonded(client));
    }

    function test_nobody_sends_money_by_mistake() public {
        vm.deal(address(this), 1 ether);
        (bool taken, bytes memory reason) = address(stakes).call{value: 1 ether}("");
        yes("refused", !taken);
        eq("reason", bytes32(StakeManager.OnlyInsurance.selector), bytes32(bytes4(reason)));
    }

    // ------------------------------------------------------------------ slashes

    function test_only_verifiers_slash_and_each_fault_once() public {
        vm.expectRevert(abi.encodeWithSelector(StakeManager.OnlyVerifier.selector, address(this)));
        stakes.slash(node, 1, client, 0, LANE, other, FAULT);
        slash(node, 1 ether, client, 0, FAULT);
        yes("slashed", stakes.isSlashed(FAULT));
        vm.prank(address(verifier));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.AlreadySlashed.selector, FAULT));
        stakes.slash(node, 1 ether, client, 0, LANE, reviewer, FAULT);
        stakes.release(later(pending(node, 10 ether, client, 0, FAULT)), "");
        vm.prank(address(verifier));
        vm.expectRevert(abi.encodeWithSelector(StakeManager.AlreadySlashed.selector, FAULT));
        stakes.slash(node, 1 ether, client, 0, LANE, reviewer, FAULT);
    }

    function test_faults_in_a_row_cost_twice_as_much_each_time() public {
        uint256 left = 100 ether;
        uint256 tenths = 1;
        for (uint256 i = 0; i < 4; ++i) {
            eq("taken", left * tenths / 10, slash(node, 0, client, 0, bytes32(i + 1)));
            left -= left * tenths / 10;
            tenths *= 2;
            eq("faults", i + 1, stakes.recentFaults(node));
        }
        eq("left", left, stakes.slashableOf(node));
        eq("the fifth takes the rest", left, slash(node, 0, client, 0, bytes32(uint256(5))));
        eq("nothing is left", 0, stakes.slashableOf(node));
        eq("and a sixth takes nothing", 0, slash(node, 1 ether, client, 0, bytes32(uint256(6))));
        yes("but counts as slashed", stakes.isSlashed(bytes32(uint256(6))));
    }

    function test_a_fault_is_forgotten_after_ninety_days() public {
        slash(node, 0, client, 0, bytes32(uint256(1)));
        uint256 first = block.timestamp;
        vm.warp(first + 89 days);
        eq("remembered", 18 ether, slash(node, 0, client, 0, bytes32(uint256(2))));
        vm.warp(first + 90 days);
        eq("one of two is forgotten", 1, stakes.recentFaults(node));
        eq("second again", 72 ether / 5, slash(node, 0, client, 0, bytes32(uint256(3))));
        vm.warp(first + 400 days);
        eq("first again", (72 ether - 72 ether / 5) / 10, slash(node, 0, client, 0, bytes32(uint256(4))));
    }

    function test_a_fault_costs_at_least_twice_its_value_and_at_most_all() public {
        eq("twice", 30 ether, slash(node, 15 ether, client, 0, bytes32(uint256(1))));
        eq("all", 70 ether, slash(node, 500 ether, client, 0, bytes32(uint256(2))));
        eq("a tenth of the last wei is nothing: they are taken whole", 6, stakes.penalty(6, 0, 1));
    }

    function test_slash_reaches_unbonding_stake() public {
        vm.prank(node);
        stakes.unbond(95 ether);
        slash(node, 25 ether, client, 1 ether, FAULT);
        eq("active", 0, stakes.stakeOf(node));
        eq("slashable", 50 ether, stakes.slashableOf(node));
        vm.warp(block.timestamp + UNBONDING);
        uint256 before = node.balance;
        vm.prank(node);
        stakes.withdraw();
        eq("what is left leaves", before + 50 ether, node.balance);
    }

    function test_a_slash_waits_and_is_divided_once() public {
        slash(node, 25 ether, client, 7 ether, FAULT);
        StakeManager.Slash memory queued = pending(node, 50 ether, client, 7 ether, FAULT);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.StillDelayed.selector, queued.releaseAt, block.timestamp));
        stakes.release(queued, "");
        queued.reporter = client;
        later(queued);
        vm.expectRevert();
        stakes.release(queued, "");
        queued.reporter = reviewer;
        uint256 clientBefore = client.balance;
        StakeManager.Division memory parts = stakes.divide(50 ether, 7 ether);
        stakes.release(queued, "");
        eq("victim", clientBefore + 7 ether, client.balance);
        eq("reporter", parts.toReporter, reviewer.balance);
        eq("burned", parts.burned, stakes.BURN().balance);
        eq("insured", parts.insured, address(pool).balance);
        eq("in all", 50 ether, 7 ether + uint256(parts.toReporter) + parts.burned + parts.insured);
        vm.expectRevert();
        stakes.release(queued, "");
    }

    function test_without_a_victim_or_reporter_their_parts_are_insured() public {
        vm.prank(address(verifier));
        stakes.slash(node, 0, address(0), 9 ether, LANE, address(0), FAULT);
        StakeManager.Slash memory queued = pending(node, 10 ether, address(0), 9 ether, FAULT);
        queued.reporter = address(0);
        stakes.release(later(queued), "");
        StakeManager.Division memory parts = stakes.divide(10 ether, 0);
        eq("burned", parts.burned, stakes.BURN().balance);
        eq("insured", uint256(parts.insured) + parts.toReporter, address(pool).balance);
        eq("nothing at nobody", 0, address(0).balance);
    }

    function test_the_pool_covers_what_a_victim_misses_up_to_what_is_burned_and_a_tenth_of_itself() public {
        vm.deal(address(pool), 100 ether);
        slash(node, 0, client, 9.5 ether, bytes32(uint256(1)));
        uint256 before = client.balance;
        stakes.release(later(pending(node, 10 ether, client, 9.5 ether, bytes32(uint256(1)))), "");
        eq("nine from the slash, the half from the pool", before + 9.5 ether, client.balance);
        eq("pool", 99.5 ether, address(pool).balance);

        slash(other, 0, client, 50 ether, bytes32(uint256(2)));
        before = client.balance;
        stakes.release(later(pending(other, 5 ether, client, 50 ether, bytes32(uint256(2)))), "");
        eq("never more than was slashed", before + 5 ether, client.balance);

        vm.deal(address(pool), 1 ether);
        slash(node, 0, client, 50 ether, bytes32(uint256(3)));
        before = client.balance;
        stakes.release(later(pending(node, 18 ether, client, 50 ether, bytes32(uint256(3)))), "");
        eq("a tenth of the pool", before + 16.2 ether + 0.1 ether, client.balance);
    }

    function test_payee_that_refuses_or_burns_gas_is_credited() public {
        Moody moody = new Moody();
        GasBurner burner = new GasBurner();
        vm.prank(address(verifier));
        stakes.slash(node, 0, address(moody), 1 ether, LANE, address(burner), FAULT);
        StakeManager.Slash memory queued = pending(node, 10 ether, address(moody), 1 ether, FAULT);
        queued.reporter = address(burner);
        stakes.release(later(queued), "");
        eq("owed", 1 ether, stakes.owed(address(moody)));
        eq("owed to the burner", 4 ether, stakes.owed(address(burner)));
        vm.expectRevert(bytes("not now"));
        stakes.withdrawOwed(payable(address(moody)));
        moody.setAccepts(true);
        stakes.withdrawOwed(payable(address(moody)));
        eq("paid", 1 ether, address(moody).balance);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.NothingOwed.selector, address(moody)));
        stakes.withdrawOwed(payable(address(moody)));
    }

    function test_a_release_cannot_be_starved_of_gas() public {
        slash(node, 0, client, 1 ether, FAULT);
        StakeManager.Slash memory queued = later(pending(node, 10 ether, client, 1 ether, FAULT));
        (bool done, bytes memory reason) =
            address(stakes).call{gas: 110_000}(abi.encodeCall(StakeManager.release, (queued, "")));
        yes("refused", !done);
        eq("reason", bytes32(Pay.NotEnoughGas.selector), bytes32(bytes4(reason)));
    }

    // ------------------------------------------------------------------ debits

    function test_only_the_credit_desk_debits_as_far_as_the_stake_reaches() public {
        vm.expectRevert(abi.encodeWithSelector(StakeManager.OnlyCreditDesk.selector, charged, address(this)));
        stakes.debit(node, client, 1);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.OnlyCreditDesk.selector, charged, address(this)));
        stakes.pledge(node, 1);
        vm.expectRevert(abi.encodeWithSelector(StakeManager.OnlyCreditDesk.selector, charged, address(this)));
        stakes.unpledge(node, 1);
        vm.startPrank(charged);
        stakes.pledge(node, 110 ether);
        eq("paid", 30 ether, stakes.debit(node, client, 30 ether));
        eq("its promise is kept", 80 ether, stakes.pledgedOf(node));
        eq("in the deposit", 30 ether, escrow.accountOf(client).balance);
        eq("burned", 0, stakes.BURN().balance);
        eq("no fault", 0, stakes.recentFaults(node));
        eq("the rest", 70 ether, stakes.debit(node, client, 80 ether));
        eq("nothing", 0, stakes.debit(node, client, 80 ether));
        eq("what the stake did not reach is promised still", 10 ether, stakes.pledgedOf(node));
        stakes.unpledge(node, 10 ether);
        eq("until it is paid", 0, stakes.pledgedOf(node));
        vm.expectRevert();
        stakes.unpledge(node, 1);
        vm.stopPrank();
        eq("stake", 0, stakes.slashableOf(node));
    }

    function testFuzz_the_bond_is_active_stake_less_what_is_pledged(uint96 unbonds, uint96 pledges) public {
        vm.prank(node);
        stakes.unbond(1 + unbonds % 90 ether);
        vm.prank(charged);
        stakes.pledge(node, pledges);
        uint256 active = 100 ether - 1 - unbonds % 90 ether;
        (bool bonded, uint128 bond_) = stakes.bondOf(node);
        yes("a pledge takes no role", bonded == (active >= MIN_STAKE));
        eq("bond", active > pledges ? active - pledges : 0, bond_);
    }

    // ------------------------------------------------------------------ pool

    function test_only_the_stake_manager_draws_on_the_pool() public {
        vm.expectRevert(abi.encodeWithSelector(InsurancePool.OnlyStakeManager.selector, address(stakes), address(this)));
        pool.cover(1);
        vm.expectRevert(abi.encodeWithSelector(InsurancePool.ZeroAddress.selector, "stakeManager"));
        new InsurancePool(address(0));
        vm.deal(address(this), 10 ether);
        (bool taken,) = address(pool).call{value: 10 ether}("");
        yes("anybody may add", taken);
        vm.startPrank(address(stakes));
        eq("asked", 3, pool.cover(3));
        eq("a tenth", 999999999999999999, pool.cover(5 ether));
        vm.stopPrank();
    }

    // ------------------------------------------------------------------ fuzz

    function testFuzz_division_sums_and_always_burns(uint128 amount, uint128 victimAmount) public view {
        vm.assume(amount > 0);
        StakeManager.Division memory parts = stakes.divide(amount, victimAmount);
        eq("sum", amount, uint256(parts.toVictim) + parts.toReporter + parts.burned + parts.insured);
        yes("a tenth is burned", uint256(parts.burned) * 10 >= amount);
        yes("the victim gets no more than it lost", parts.toVictim <= victimAmount);
        yes("the reporter gets at most half of the rest", uint256(parts.toReporter) * 2 <= amount - parts.toVictim);
        yes("the burn is not below the insurance", parts.burned >= parts.insured);
    }

    function testFuzz_a_penalty_is_within_the_stake_and_rises(uint128 slashable, uint128 value, uint8 number) public view {
        uint256 n = 1 + number % 5;
        uint128 taken = stakes.penalty(slashable, value, n);
        yes("at most all", taken <= slashable);
        yes("never nothing", slashable == 0 || taken > 0);
        yes("a tenth", uint256(taken) * 10 + 9 >= slashable);
        yes("twice the value or all", taken == slashable || taken >= 2 * uint256(value));
        yes("no less than the one before", n == 1 || taken >= stakes.penalty(slashable, value, n - 1));
        yes("the fifth takes all", n < 5 || taken == slashable);
    }

    function testFuzz_slash_conserves_every_wei(uint128 value, uint128 victimAmount, uint96 pooled) public {
        vm.deal(address(pool), pooled);
        uint256 before = address(stakes).balance + address(pool).balance;
        uint256 outside = client.balance + reviewer.balance + stakes.BURN().balance;
        uint128 taken = slash(node, value, client, victimAmount, FAULT);
        eq("stake", 100 ether - taken, stakes.stakeOf(node));
        eq("held", before, address(stakes).balance + address(pool).balance);
        uint256 had = client.balance;
        stakes.release(later(pending(node, taken, client, victimAmount, FAULT)), "");
        eq("arrived", before + outside, address(stakes).balance + address(pool).balance + client.balance
            + reviewer.balance + stakes.BURN().balance);
        yes("a victim never gains by it", client.balance - had <= taken && client.balance - had <= victimAmount);
        eq("stake is held", 150 ether - taken, address(stakes).balance);
    }

    // ------------------------------------------------------------------ helpers

    function slash(address account, uint128 value, address victim, uint128 victimAmount, bytes32 fault)
        private
        returns (uint128)
    {
        vm.prank(address(verifier));
        return stakes.slash(account, value, victim, victimAmount, LANE, reviewer, fault);
    }

    /// @dev The queued slash that `slash` has just made.
    function pending(address account, uint128 amount, address victim, uint128 victimAmount, bytes32 fault)
        private
        view
        returns (StakeManager.Slash memory)
    {
        return StakeManager.Slash({
            faultHash: fault,
            account: account,
            amount: amount,
            victim: victim,
            victimAmount: victimAmount,
            lane: LANE,
            reporter: reviewer,
            releaseAt: uint64(block.timestamp) + SLASH_DELAY
        });
    }

    function later(StakeManager.Slash memory queued) private returns (StakeManager.Slash memory) {
        vm.warp(queued.releaseAt);
        return queued;
    }
}
