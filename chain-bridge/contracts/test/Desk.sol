// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {ICreditDesk} from "../src/StakePorts.sol";

/// @notice An escrow in whose books every client was charged whatever it says it lost: for tests of how stake is divided.
contract Desk is ICreditDesk {
    InferenceEscrow private immutable escrow;

    constructor(InferenceEscrow escrow_) {
        escrow = escrow_;
    }

    function depositFor(address payer) external payable {
        escrow.depositFor{value: msg.value}(payer);
    }

    function chargedOf(bytes32, bytes calldata, address, address) external pure returns (uint128) {
        return type(uint128).max;
    }

    function countRefund(bytes32, uint128) external pure {}
}
