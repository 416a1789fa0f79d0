// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IInsurance} from "./StakePorts.sol";

/// @title Money for those whom a fault has cost more than the slash gave back
/// @notice Receives the data pots of answers without any weighed word and parts of slashes. Pays only what a released slash asks for, and
/// never more than a tenth of what it holds at once, so that one case cannot empty it. The contract has no owner.
contract InsurancePool is IInsurance {
    /// @notice At most this part of the pool is paid at once: one tenth.
    uint256 public constant SHARE_DIVISOR = 10;

    /// @notice The only contract that draws on the pool; it pays victims.
    address public immutable stakeManager;

    event Received(address indexed from, uint256 amount);
    event Covered(uint128 asked, uint128 paid);

    error ZeroAddress(string what);
    error OnlyStakeManager(address expected, address got);

    constructor(address stakeManager_) {
        if (stakeManager_ == address(0)) revert ZeroAddress("stakeManager");
        stakeManager = stakeManager_;
    }

    /// @notice Anybody may add money.
    receive() external payable {
        emit Received(msg.sender, msg.value);
    }

    /// @inheritdoc IInsurance
    function cover(uint128 asked) external returns (uint128 paid) {
        if (msg.sender != stakeManager) revert OnlyStakeManager(stakeManager, msg.sender);
        uint256 most = address(this).balance / SHARE_DIVISOR;
        // At most `asked`, which is a uint128.
        paid = asked < most ? asked : uint128(most);
        emit Covered(asked, paid);
        if (paid > 0) Address.sendValue(payable(stakeManager), paid);
    }
}
