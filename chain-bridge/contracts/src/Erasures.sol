// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "./AssetRegistry.sol";

/// @title Which contributions are to be erased
/// @notice Who made a contribution, or owns its Datanet, asks once that its text be kept and served by nobody any more. The chain only says so: holders
/// that follow it drop their fragments when the request is final, indexes published after it leave the text out, and what was published before is told apart.
/// Nothing takes a request back, since the bytes are gone by then. The registry's record stays: a text root, sizes and times, and nothing of the text.
/// @dev Holds no money and has no owner. Beside AssetRegistry, which has no room for it.
contract Erasures {
    /// @notice A request: who asked, when, and what it says of why. Zeros if there is none.
    struct Erasure {
        address by;
        uint64 blockNumber;
        bytes32 reasonHash;
    }

    /// @notice Says what was contributed, by whom, and who owns a Datanet.
    AssetRegistry public immutable registry;

    /// @notice Requests for contributions of a Datanet.
    mapping(uint64 => uint256) public countOf;

    mapping(uint64 => mapping(uint256 => Erasure)) private erasures;

    /// @notice Contribution `contribution` of `datanet` is to be erased, and with it the object that no other contribution names.
    /// @param reasonHash keccak("tributary/erasure/v1" || salt 32 || reason): whoever asked can show why; nobody can guess it.
    event Erased(
        uint64 indexed datanet, uint256 indexed contribution, address indexed by, bytes32 objectHash, bytes32 reasonHash
    );

    error ZeroAddress(string what);
    error ZeroHash(string what);
    error UnknownContribution(uint64 asset, uint256 contribution);
    error NotYours(uint64 asset, uint256 contribution, address contributor, address owner, address got);
    error AlreadyErased(uint64 asset, uint256 contribution, uint64 blockNumber);

    constructor(AssetRegistry registry_) {
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        registry = registry_;
    }

    /// @notice Asks that a contribution be erased: by its contributor of record, or by the owner of its Datanet. Once, and for good.
    /// @param contribution Its number in the Datanet, in the order of acceptance, from 0.
    function erase(uint64 datanet, uint256 contribution, bytes32 reasonHash) external {
        if (reasonHash == 0) revert ZeroHash("reasonHash");
        if (contribution >= registry.contributionCount(datanet)) revert UnknownContribution(datanet, contribution);
        AssetRegistry.Accepted memory accepted = registry.contributionAt(datanet, contribution);
        address owner = registry.ownerOf(datanet);
        if (msg.sender != accepted.contributor && msg.sender != owner) {
            revert NotYours(datanet, contribution, accepted.contributor, owner, msg.sender);
        }
        Erasure storage erasure = erasures[datanet][contribution];
        if (erasure.by != address(0)) revert AlreadyErased(datanet, contribution, erasure.blockNumber);
        erasure.by = msg.sender;
        erasure.blockNumber = uint64(block.number);
        erasure.reasonHash = reasonHash;
        ++countOf[datanet];
        emit Erased(datanet, contribution, msg.sender, accepted.objectHash, reasonHash);
    }

    /// @notice The request for a contribution; zeros if there is none.
    function erasureOf(uint64 datanet, uint256 contribution) external view returns (Erasure memory) {
        return erasures[datanet][contribution];
    }
}
