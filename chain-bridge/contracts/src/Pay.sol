// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A payment that no payee can turn against others
/// @notice A payee that refuses, or burns its gas, makes the payment fail, not the transaction: the caller then credits it.
library Pay {
    /// @notice Gas given to a payee. Enough for a contract that keeps a few books, too little to hurt a batch.
    uint256 internal constant PAYEE_GAS = 50_000;
    /// @dev Gas that must be there before the call, so that nobody can starve a payee into a refusal: a call keeps a 64th back and costs
    /// at most 34,000 beside what it passes on.
    uint256 private constant LEAST_GAS = PAYEE_GAS + 40_000;

    error NotEnoughGas(uint256 least, uint256 got);

    /// @notice Sends `amount` to `payee` and says whether it took it. Returned data is never copied.
    function tryPay(address payee, uint256 amount) internal returns (bool paid) {
        if (gasleft() < LEAST_GAS) revert NotEnoughGas(LEAST_GAS, gasleft());
        uint256 payeeGas = PAYEE_GAS;
        assembly ("memory-safe") {
            paid := call(payeeGas, payee, amount, 0, 0, 0, 0)
        }
    }
}
