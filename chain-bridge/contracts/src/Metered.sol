// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Half of what an answer cost whoever sent it
/// @notice Who answers a challenge is given half of what the call cost, out of the challenger's bond: so that asking for what is served anyhow costs who
/// asks as much as whoever answers, and leaving it to the chain earns nobody anything. All that is counted is at most what the sender paid.
/// @dev A transaction's own part (its base, its bytes, its share of L1) is counted only if it was sent to the contract by an account without code:
/// a contract, or an account that lent itself one, can call many times within one transaction and would be given that part for each.
library Metered {
    /// @notice Where a chain of the OP stack says what a transaction's bytes cost on L1.
    address internal constant ORACLE = 0x420000000000000000000000000000000000000F;
    /// @dev Enough for its answer behind a proxy, too little to hurt.
    uint256 private constant ORACLE_GAS = 100_000;
    /// @dev Gas of any transaction, of a byte, and what one that is not zero costs more.
    uint256 private constant BASE_GAS = 21_000;
    uint256 private constant BYTE_GAS = 4;
    uint256 private constant NONZERO_GAS = 12;
    /// @dev What it takes at least to divide the bond once the price is known: a slot written over, an event, a transfer.
    uint256 private constant PAYING_GAS = 13_000;

    /// @notice Half of what this call has cost so far, in wei; `start` is the gas that was left when it began. The L1 share is counted up to
    /// what the call costs here: its bound takes no notice of how well bytes compress, and nobody who writes bytes that do may earn by it.
    function half(uint256 start) internal view returns (uint256) {
        uint256 gas = PAYING_GAS;
        uint256 there = 0;
        if (msg.sender == tx.origin && msg.sender.code.length == 0) {
            gas += BASE_GAS + BYTE_GAS * msg.data.length + NONZERO_GAS * nonzero();
            there = boundOnL1(msg.data.length);
        }
        uint256 here = (gas + start - gasleft()) * block.basefee;
        return (here + (there < here ? there : here)) / 2;
    }

    /// @dev What so many bytes cost on L1 at most; 0 where nobody says so.
    function boundOnL1(uint256 size) private view returns (uint256 wei_) {
        if (ORACLE.code.length == 0) return 0;
        bytes memory asked = abi.encodeWithSignature("getL1FeeUpperBound(uint256)", size);
        address oracle = ORACLE;
        uint256 most = ORACLE_GAS;
        assembly ("memory-safe") {
            let done := staticcall(most, oracle, add(asked, 32), mload(asked), 0, 32)
            if and(done, gt(returndatasize(), 31)) { wei_ := mload(0) }
        }
    }

    /// @dev Bytes of the call that are not zero, a word at a time: of each byte the highest bit says so, the others once they carry into it.
    function nonzero() internal pure returns (uint256 count) {
        assembly ("memory-safe") {
            let low := 0x7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f
            let ones := 0x0101010101010101010101010101010101010101010101010101010101010101
            for { let from := 0 } lt(from, calldatasize()) { from := add(from, 32) } {
                let given := calldataload(from)
                let high := and(or(add(and(given, low), low), given), not(low))
                count := add(count, shr(248, mul(shr(7, high), ones)))
            }
        }
    }
}
