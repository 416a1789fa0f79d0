// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {DatanetTreasury} from "../src/DatanetTreasury.sol";

/// @notice Deploys a DatanetTreasury where it said before that it would: Settlement is told the address when it is deployed itself.
contract Later {
    /// @notice Where the first contract that this one creates will stand.
    function planned() external view returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"d694", address(this), hex"01")))));
    }

    function deploy(address registry, address settlement, uint64 delaySeconds) external returns (DatanetTreasury) {
        return new DatanetTreasury(AssetRegistry(registry), settlement, delaySeconds);
    }
}
