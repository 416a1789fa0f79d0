// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What StakeManager asks of the insurance pool.
interface IInsurance {
    /// @notice Sends up to `asked` wei to the caller and says how much.
    function cover(uint128 asked) external returns (uint128 paid);
}

/// @notice What StakeManager tells the vault of the stakers' share.
interface IStakeListener {
    /// @notice The active stake of `account` was `before` wei and is `afterwards` wei.
    function stakeChanged(address account, uint128 before, uint128 afterwards) external;
}

/// @notice Where a debited amount goes, and who knows what clients were charged.
interface ICreditDesk {
    /// @notice Adds the value sent to the deposit of `payer`.
    function depositFor(address payer) external payable;

    /// @notice How much `client` was charged by `node` on a lane and has not been given back.
    function chargedOf(bytes32 lane, bytes calldata laneBody, address node, address client) external view returns (uint128 amount);

    /// @notice Counts `amount` wei of what a lane charged as given back.
    function countRefund(bytes32 lane, uint128 amount) external;
}
