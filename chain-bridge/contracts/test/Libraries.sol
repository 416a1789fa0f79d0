// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {Split} from "../src/Split.sol";
import {Probe} from "../src/dev/Probe.sol";

/// @notice The probe, with what the vectors give in pieces: a quote's rates, a manifest's rows, a document by its name.
contract Libraries is Probe {
    /// @notice Whether a fee divides, and what part `code` is worth then.
    function part(bytes calldata body, uint128 protocolFee, Codec.Manifest calldata given, uint32 code)
        external
        pure
        returns (bool divides, uint256 amount)
    {
        Codec.Receipt memory read_ = Codec.receipt(body);
        divides = Split.divides(body, read_, protocolFee);
        if (divides) amount = Split.part(body, read_, protocolFee, given, code);
    }

    /// @notice What a receipt costs by these rates.
    function feeBy(bytes calldata body, Codec.Quote calldata terms) external pure returns (uint256) {
        return Split.fee(Codec.receipt(body), terms);
    }

    /// @notice Reads a document of any name that a contract reads; true if it did, false for other names.
    function read(string calldata name, bytes calldata body) external pure returns (bool) {
        bytes32 hash = keccak256(bytes(name));
        if (hash == keccak256("Lane")) Codec.lane(body);
        else if (hash == keccak256("Voucher")) Codec.voucher(body);
        else if (hash == keccak256("CreditNote")) Codec.creditNote(body);
        else if (hash == keccak256("NodeRoot")) Codec.nodeRoot(body);
        else if (hash == keccak256("Contribution")) Codec.contribution(body);
        else if (hash == keccak256("GateReport")) Codec.gateReport(body);
        else if (hash == keccak256("Receipt")) Codec.receipt(body);
        else return false;
        return true;
    }
}
