// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AuditRoll, IBonds, IClock} from "../../src/AuditRoll.sol";
import {DatanetRent, IDatanets, IEpochs} from "../../src/DatanetRent.sol";
import {ICollectedSink, InferenceEscrow, IStakeDesk} from "../../src/InferenceEscrow.sol";
import {ICreditDesk, IStakeListener, StakeManager} from "../../src/StakeManager.sol";
import {Vm} from "../Vm.sol";

/// @notice Hears of stakes and does nothing.
contract Deaf {
    function stakeChanged(address, uint128, uint128) external pure {}
}

/// @notice A Datanet of one GiB, an epoch that moves when it is told, and nodes of which one is bonded until it is told otherwise.
contract World {
    uint64 public currentEpoch = 1;
    bool private isUnbonded;

    function next(uint64 epochs) external {
        currentEpoch += epochs;
    }

    function unbond() external {
        isUnbonded = true;
    }

    function isBonded(address) external view returns (bool) {
        return !isUnbonded;
    }

    function kindOf(uint64) external pure returns (uint8) {
        return 3;
    }

    function bytesOf(uint64) external pure returns (uint64) {
        return 2 ** 30;
    }

    function contributionCount(uint64) external pure returns (uint256) {
        return 1;
    }
}

/// @notice The roll alone.
contract Roll is AuditRoll {
    constructor(World world) AuditRoll(IBonds(address(world)), IClock(address(world))) {}
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

    /// @notice I2: whatever is prepaid, charged and asked for, rent is prepaid, accrued or paid, and no more of a charge is paid than was charged.
    function check_rent_is_prepaid_accrued_or_paid(uint64 prepaid, uint64 price, uint96 asked, uint96 again) public {
        vm.assume(prepaid > 0);
        World world = new World();
        DatanetRent rent = new DatanetRent(IDatanets(address(world)), IEpochs(address(world)), address(this), 0, price);
        rent.setAuditor(address(this));
        rent.prepay{value: prepaid}(1);
        world.next(1);
        rent.accrue(1);
        uint256 charged = price < prepaid ? price : prepaid;
        require(rent.accountOf(1).accrued == charged, "another amount was charged");
        uint256 paid = tryPay(rent, asked, charged);
        paid += tryPay(rent, again, charged - paid);
        require(paid <= charged, "more was paid than was charged");
        DatanetRent.Account memory account = rent.accountOf(1);
        require(uint256(account.prepaid) + account.accrued + paid == prepaid, "a wei was lost or made");
        require(address(rent).balance == prepaid - paid && WHO.balance == paid, "the rent is not held");
    }

    function tryPay(DatanetRent rent, uint96 amount, uint256 left) private returns (uint256) {
        DatanetRent.Payment[] memory payments = new DatanetRent.Payment[](1);
        payments[0] = DatanetRent.Payment({datanet: 1, period: 0, amount: amount});
        try rent.pay(WHO, payments) {
            require(amount > 0 && amount <= left, "more was paid than is left");
            return amount;
        } catch {
            require(amount == 0 || amount > left, "what is left was held back");
            return 0;
        }
    }

    /// @notice I2: a deposit of the roll is held while its node sits there; then it is given back, or is who struck the node off's.
    function check_a_deposit_of_the_roll_is_held_or_given_back(uint48 subnet, uint128 value, bool strikes, bool unbonds) public {
        World world = new World();
        Roll roll = new Roll(world);
        vm.deal(WHO, value);
        vm.prank(WHO);
        try roll.enlist{value: value}(subnet) {
            require(value == roll.DEPOSIT(), "another deposit was taken");
        } catch {
            require(value != roll.DEPOSIT() && address(roll).balance == 0, "a deposit was refused, or kept");
            return;
        }
        require(address(roll).balance == value, "the deposit is not held");
        if (unbonds) world.unbond();
        uint256 own = address(this).balance;
        if (strikes) {
            try roll.strike(WHO) {
                require(unbonds, "a bonded node was struck off");
                require(address(this).balance + roll.owed(address(this)) == own + value, "who struck it off was not paid");
            } catch {
                require(!unbonds && address(roll).balance == value, "a node without a bond stayed");
            }
        } else {
            vm.prank(WHO);
            roll.resign();
            require(WHO.balance == value && address(roll).balance == 0, "the deposit was not given back");
        }
        require(WHO.balance + address(roll).balance + address(this).balance == own + value, "a wei was lost or made");
    }

    function testFuzz_rent_is_prepaid_accrued_or_paid(uint64 prepaid, uint64 price, uint96 asked, uint96 again) public {
        vm.assume(prepaid > 0);
        check_rent_is_prepaid_accrued_or_paid(prepaid, price, asked % (uint96(price) + 2), again % (uint96(price) + 2));
    }

    function testFuzz_a_deposit_of_the_roll_is_held_or_given_back(uint48 subnet, uint128 value, bool strikes, bool unbonds) public {
        check_a_deposit_of_the_roll_is_held_or_given_back(subnet, value & 1 == 0 ? 0.01 ether : value, strikes, unbonds);
    }
}
