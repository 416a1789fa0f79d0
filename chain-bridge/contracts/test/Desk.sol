// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {ICreditDesk} from "../src/StakeManager.sol";

/// @notice An escrow in whose books every client was charged whatever it says it lost: for tests of how stake is divided.
contract Desk is ICreditDesk {
    InferenceEscrow private immutable escrow;

    constructor(InferenceEscrow escrow_) {
        escrow = escrow_;
    }

    function depositFor(address payer) external payable {
        escrow.depositFor{value: msg.value}(payer);
    }

    function countRefund(bytes32, bytes calldata, address, address, uint128 asked) external pure returns (uint128) {
        return asked;
    }
}
