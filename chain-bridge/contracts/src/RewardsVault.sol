// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IStakeListener} from "./StakePorts.sol";

/// @notice Where the vault reads a stake.
interface IStakes {
    /// @notice Active stake, in wei.
    function stakeOf(address account) external view returns (uint128);
}

/// @title The stakers' share, divided by active stake
/// @notice What arrives is divided at once over the active stake of that moment, by an index: the cost does not depend on the number of
/// stakers. No wei is lost to rounding: the remainder of every division is carried into the next, and a staker's fraction of a wei stays
/// its own. While nobody stakes the money waits. The contract has no owner.
/// @dev In units of 2^-64 wei: sum over stakers of (accrued + stake * (index - seen)) + carry + waiting * 2^64 + claimed * 2^64 =
/// received * 2^64, exactly. No product overflows: a staker's stake is part of the total that the index was divided by, so that
/// stake * (index - seen) <= received * 2^64 < 2^192.
contract RewardsVault is IStakeListener {
    /// @notice What is known of a staker.
    struct Staker {
        uint256 seen;
        uint256 accrued;
    }

    /// @dev Parts of a wei that the index counts in.
    uint256 private constant UNIT = 2 ** 64;

    /// @notice Says who stakes how much.
    address public immutable stakeManager;

    /// @notice Active stake of all stakers, in wei.
    uint256 public totalStake;
    /// @notice What one wei of stake has earned since deployment, in 2^-64 wei.
    uint256 public index;
    /// @notice Remainder of the last division, in 2^-64 wei; below the total stake of that moment.
    uint256 public carry;
    /// @notice Wei that arrived while nobody staked.
    uint256 public waiting;

    mapping(address => Staker) private stakers;

    event Received(address indexed from, uint256 amount);
    event Distributed(uint256 amount, uint256 totalStake, uint256 index);
    event Claimed(address indexed account, uint256 amount);

    error ZeroAddress(string what);
    error OnlyStakeManager(address expected, address got);
    error NothingToClaim(address account);

    constructor(address stakeManager_) {
        if (stakeManager_ == address(0)) revert ZeroAddress("stakeManager");
        stakeManager = stakeManager_;
    }

    /// @notice Divides the value sent. Anybody may add money.
    receive() external payable {
        emit Received(msg.sender, msg.value);
        if (totalStake == 0) waiting += msg.value;
        else distribute(msg.value);
    }

    /// @inheritdoc IStakeListener
    function stakeChanged(address account, uint128 before, uint128 afterwards) external {
        if (msg.sender != stakeManager) revert OnlyStakeManager(stakeManager, msg.sender);
        settle(account, before);
        uint256 total = totalStake;
        totalStake = total - before + afterwards;
        if (total == 0 && waiting > 0) {
            uint256 amount = waiting;
            waiting = 0;
            distribute(amount);
        }
    }

    /// @notice Pays the caller what its stake has earned; a fraction of a wei stays.
    function claim() external {
        settle(msg.sender, IStakes(stakeManager).stakeOf(msg.sender));
        uint256 amount = stakers[msg.sender].accrued / UNIT;
        if (amount == 0) revert NothingToClaim(msg.sender);
        stakers[msg.sender].accrued -= amount * UNIT;
        emit Claimed(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice What `account` may claim, in wei.
    function earned(address account) external view returns (uint256) {
        return earnedUnits(account) / UNIT;
    }

    /// @notice What `account` has earned and not claimed, in 2^-64 wei.
    function earnedUnits(address account) public view returns (uint256) {
        Staker storage staker = stakers[account];
        return staker.accrued + uint256(IStakes(stakeManager).stakeOf(account)) * (index - staker.seen);
    }

    function distribute(uint256 amount) private {
        uint256 units = amount * UNIT + carry;
        uint256 total = totalStake;
        index += units / total;
        carry = units % total;
        emit Distributed(amount, total, index);
    }

    /// @dev Moves what `staked` earned since the index was last seen into the account.
    function settle(address account, uint128 staked) private {
        Staker storage staker = stakers[account];
        uint256 now_ = index;
        uint256 seen = staker.seen;
        if (seen == now_) return;
        staker.seen = now_;
        if (staked > 0) staker.accrued += uint256(staked) * (now_ - seen);
    }
}
