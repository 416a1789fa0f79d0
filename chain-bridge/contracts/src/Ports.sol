// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What the fault verifiers need of StakeManager.
interface IStakes {
    /// @notice Takes stake of `account` for a proven fault, once per `faultHash`, and says how much.
    function slash(
        address account,
        uint128 openValue,
        address victim,
        uint128 victimAmount,
        bytes32 lane,
        address reporter,
        bytes32 faultHash
    ) external returns (uint128 amount);

    /// @notice Zero if the fault was never slashed.
    function slashOf(bytes32 faultHash) external view returns (bytes32);

    /// @notice The account that was paid for a node's answers at the end of a block; zero before it registered.
    function payoutAt(address node, uint48 blockNumber) external view returns (address);
}

/// @notice What the fault verifiers need of Settlement.
interface ISettlement {
    /// @notice A payout.
    struct Payout {
        bytes32 root;
        uint128 total;
        uint64 epoch;
        uint64 postedAt;
        address poster;
        uint96 bond;
    }

    /// @notice An epoch; zeros if it was never opened.
    struct Epoch {
        uint64 openedAt;
        uint64 nodes;
    }

    /// @notice Reverts unless a node root of this body was submitted in this block.
    function requireNodeRoot(bytes calldata body, uint64 blockNumber) external view;

    /// @notice The slot of a node's root of an epoch: keccak(body || block u64); zero if it submitted none.
    function nodeRootOf(uint64 epoch, address node) external view returns (bytes32);

    /// @notice Takes a receipt, or a span of one, out of every tree that is not yet due.
    function markVoid(bytes32 receiptHash) external;

    /// @notice When a receipt, or a span of one, became void, in seconds since 1970; 0 if it is not.
    function voidedAt(bytes32 receiptHash) external view returns (uint64);

    /// @notice Seconds from an epoch's opening until its payout may be posted.
    function w1() external view returns (uint64);

    /// @notice Seconds from a payout's posting until it is final.
    function w2() external view returns (uint64);

    /// @notice Least seconds between two openings.
    function epochMinSeconds() external view returns (uint64);

    /// @notice The last epoch that was opened; 0 before the first.
    function currentEpoch() external view returns (uint64);

    /// @notice When an epoch was opened.
    function epochs(uint64 epoch) external view returns (Epoch memory);

    /// @notice The payout that is not final yet; zeros if there is none.
    function pendingPayout() external view returns (Payout memory);

    /// @notice The last final payout; zeros if there is none.
    function finalPayout() external view returns (Payout memory);

    /// @notice Takes back the pending payout of `epoch`, and its poster's bond; the caller slashes a poster with a role.
    function overturn(uint64 epoch, address reporter, bytes32 faultHash) external returns (address poster, uint96 bond);

    /// @notice Accounts of the roles that have no account of their own in a receipt.
    function protocol() external view returns (address);
    function insurance() external view returns (address);
    function stakers() external view returns (address);
}

/// @notice What the fault verifiers need of InferenceEscrow.
interface IEscrow {
    /// @notice Wei collected so far, by lane.
    function collectedOf(bytes32 lane) external view returns (uint128);

    /// @notice Wei that a lane had collected when W1 of an epoch ended, if that is known still.
    function collectedBy(bytes32 lane, uint64 epoch) external view returns (bool known, uint128 amount);

    /// @notice Ends what notes and slashes may give back on a lane, and says what they gave back so far.
    function closeLane(bytes32 lane) external returns (uint128 givenBack);
}

/// @notice What a challenge by the client's request needs of InferenceEscrow.
interface ISessions {
    /// @notice The bounds of a key that may sign for a payer.
    struct Session {
        uint128 cap;
        uint128 spent;
        uint64 expiryBlock;
        uint64 revokedAt;
    }

    /// @notice Zeros if the key never was the payer's; its expiry, once set, is never zero again.
    function sessionOf(address payer, address signer) external view returns (Session memory);
}

/// @notice What the proofs about payouts need of ReceiptChallenge.
interface IWithheld {
    /// @notice When a node was found to withhold a receipt of an epoch, in seconds since 1970; 0 if it was not.
    function withheldAt(uint64 epoch, address node) external view returns (uint64);
}
