// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICollectedSink, InferenceEscrow, IStakeDesk} from "../../src/InferenceEscrow.sol";
import {ICreditDesk, IStakeListener, StakeManager} from "../../src/StakeManager.sol";
import {Vm} from "../Vm.sol";

/// @notice Hears of stakes and does nothing.
contract Deaf {
    function stakeChanged(address, uint128, uint128) external pure {}
}

/// @notice Properties without a division, which `halmos --contract SymbolicTest` proves for every input, and forge tries at random.
contract SymbolicTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    address private constant WHO = address(0xC11E);
    uint64 private constant THAW = 7 days;
    uint64 private constant UNBONDING = 14 days;

    InferenceEscrow private escrow;
    StakeManager private stakes;

    function setUp() public {
        vm.warp(1_000_000);
        stakes = new StakeManager(UNBONDING, 0, 1, 1, 1);
        escrow = new InferenceEscrow(ICollectedSink(address(1)), IStakeDesk(address(stakes)), THAW, UNBONDING);
        stakes.setPeers(address(2), IStakeListener(address(new Deaf())), ICreditDesk(address(escrow)));
        address[] memory verifiers = new address[](1);
        verifiers[0] = address(this);
        stakes.setVerifiers(verifiers);
        vm.deal(address(this), type(uint128).max);
    }

    /// @notice I1, I2, I7: whatever is asked for and whenever, the escrow holds its accounts, and nothing leaves before it has thawed.
    function check_a_deposit_is_held_or_withdrawn(uint96 first, uint96 second, uint128 asked, uint32 time) public {
        vm.assume(first > 0 && second > 0);
        escrow.depositFor{value: first}(WHO);
        escrow.depositFor{value: second}(WHO);
        uint256 deposited = uint256(first) + second;
        vm.prank(WHO);
        try escrow.requestWithdraw(asked) {
            require(asked <= deposited, "more was asked for than there is");
        } catch {
            require(asked > deposited, "a request within the deposit was refused");
        }
        vm.warp(block.timestamp + time);
        uint256 before = WHO.balance;
        vm.prank(WHO);
        try escrow.withdraw() {
            require(time >= THAW, "a deposit left before it had thawed");
            require(WHO.balance - before == asked, "another amount left");
        } catch {
            require(time < THAW || asked == 0 || asked > deposited, "a thawed deposit was held back");
        }
        uint256 withdrawn = WHO.balance - before;
        require(escrow.accountOf(WHO).balance + withdrawn == deposited, "a wei was lost or made");
        require(address(escrow).balance == escrow.accountOf(WHO).balance, "the escrow does not hold its account");
    }

    /// @notice I2, I7: stake is active, unbonding or withdrawn, and leaves only after it has unbonded.
    function check_stake_is_held_or_withdrawn(uint96 staked, uint128 asked, uint32 time) public {
        vm.assume(staked > 0);
        vm.deal(WHO, staked);
        vm.prank(WHO);
        stakes.stake{value: staked}(bytes32(uint256(1)), 1, WHO);
        vm.prank(WHO);
        try stakes.unbond(asked) {
            require(asked > 0 && asked <= staked, "more was unbonded than there is");
        } catch {
            require(asked == 0 || asked > staked, "stake was held back");
        }
        require(stakes.slashableOf(WHO) == staked, "unbonding stake escaped");
        vm.warp(block.timestamp + time);
        vm.prank(WHO);
        try stakes.withdraw() {
            require(time >= UNBONDING, "stake left before it had unbonded");
        } catch {}
        require(stakes.slashableOf(WHO) + WHO.balance == staked, "a wei was lost or made");
        require(address(stakes).balance == stakes.slashableOf(WHO), "the stake is not held");
    }

    function testFuzz_a_deposit_is_held_or_withdrawn(uint96 first, uint96 second, uint128 asked, uint32 time) public {
        vm.assume(first > 0 && second > 0);
        check_a_deposit_is_held_or_withdrawn(first, second, asked % (uint128(first) + second + 2), time);
    }

    function testFuzz_stake_is_held_or_withdrawn(uint96 staked, uint128 asked, uint32 time) public {
        vm.assume(staked > 0);
        check_stake_is_held_or_withdrawn(staked, asked % (uint128(staked) + 2), time);
    }
}
