// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The L1Block predeploy for development chains
/// @notice An own implementation of the interface and the storage layout that OP execution clients read at
/// 0x4200000000000000000000000000000000000015 (OP Stack specification, Isthmus: L1 attributes). Real chains bring their own.
/// @dev Clients read slots, not getters: 0 number (low 8 bytes) and timestamp, 1 base fee, 2 hash, 3 sequence number (low 8), blob base fee
/// scalar (next 4), base fee scalar (next 4), 4 batcher hash, 5 and 6 the two Bedrock values, 7 blob base fee, 8 operator fee constant
/// (low 8) and scalar (next 4). The order of the variables below is that layout.
contract L1BlockDev {
    /// @notice The account of the protocol's own deposit transactions.
    address public constant DEPOSITOR_ACCOUNT = 0xDeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001;
    /// @dev Selector and the packed arguments.
    uint256 private constant ISTHMUS_BYTES = 176;

    uint64 public number;
    uint64 public timestamp;
    uint256 public basefee;
    bytes32 public hash;
    uint64 public sequenceNumber;
    uint32 public blobBaseFeeScalar;
    uint32 public baseFeeScalar;
    bytes32 public batcherHash;
    uint256 public l1FeeOverhead;
    uint256 public l1FeeScalar;
    uint256 public blobBaseFee;
    uint64 public operatorFeeConstant;
    uint32 public operatorFeeScalar;

    error NotDepositor(address expected, address got);
    error WrongCalldata(uint256 expectedBytes, uint256 got);

    /// @notice Takes the L1 attributes in the packed form of Isthmus: after the selector, base fee scalar u32, blob base fee scalar u32,
    /// sequence number u64, timestamp u64, number u64, base fee u256, blob base fee u256, hash, batcher hash, operator fee scalar u32,
    /// operator fee constant u64.
    function setL1BlockValuesIsthmus() external {
        if (msg.sender != DEPOSITOR_ACCOUNT) revert NotDepositor(DEPOSITOR_ACCOUNT, msg.sender);
        if (msg.data.length != ISTHMUS_BYTES) revert WrongCalldata(ISTHMUS_BYTES, msg.data.length);
        baseFeeScalar = uint32(bytes4(msg.data[4:8]));
        blobBaseFeeScalar = uint32(bytes4(msg.data[8:12]));
        sequenceNumber = uint64(bytes8(msg.data[12:20]));
        timestamp = uint64(bytes8(msg.data[20:28]));
        number = uint64(bytes8(msg.data[28:36]));
        basefee = uint256(bytes32(msg.data[36:68]));
        blobBaseFee = uint256(bytes32(msg.data[68:100]));
        hash = bytes32(msg.data[100:132]);
        batcherHash = bytes32(msg.data[132:164]);
        operatorFeeScalar = uint32(bytes4(msg.data[164:168]));
        operatorFeeConstant = uint64(bytes8(msg.data[168:176]));
    }
}
