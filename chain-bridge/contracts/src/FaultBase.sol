// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlement, IStakes} from "./Ports.sol";
import {Sig} from "./Sig.sol";

/// @title What every fault verifier does: hash first, then proof; one slash per receipt
/// @notice A reporter first commits to the hash of its call, so that nobody can copy the proof out of the queue; from the next block on it
/// sends the call. The contracts have no owner and hold no money.
abstract contract FaultBase {
    /// @notice Holds the stake that a proof takes.
    IStakes public immutable stakeManager;
    /// @notice The verifying contract of receipts; keeps node roots and payouts.
    ISettlement public immutable settlement;

    /// @dev Blocks of no chain that this suite stands on are further apart, in seconds.
    uint256 private constant BLOCK_SECONDS_MAX = 12;

    /// @notice Block in which a proof's hash was committed; 0 if never, or if the proof was accepted.
    mapping(bytes32 => uint256) public committedAt;

    event ProofCommitted(bytes32 indexed proofHash, address indexed reporter);

    error ZeroAddress(string what);
    error AlreadyCommitted(bytes32 proofHash);
    error NotCommitted(bytes32 proofHash);
    error CommittedInThisBlock(uint256 blockNumber);
    error ReceiptSignature(address node, address recovered);
    error AgeTooShort(uint256 epochSeconds, uint256 got);

    /// @dev The call was committed to by its sender in an earlier block.
    modifier committed() {
        bytes32 hash = proofHash(msg.sender, msg.data);
        uint256 committedIn = committedAt[hash];
        if (committedIn == 0) revert NotCommitted(hash);
        if (committedIn >= block.number) revert CommittedInThisBlock(block.number);
        delete committedAt[hash];
        _;
    }

    constructor(IStakes stakeManager_, ISettlement settlement_) {
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        if (address(settlement_) == address(0)) revert ZeroAddress("settlement");
        stakeManager = stakeManager_;
        settlement = settlement_;
    }

    /// @notice Commits to a proof: `hash` is what `proofHash` gives for the reporter and the call.
    function commitProof(bytes32 hash) external {
        if (committedAt[hash] != 0) revert AlreadyCommitted(hash);
        committedAt[hash] = block.number;
        emit ProofCommitted(hash, msg.sender);
    }

    /// @notice keccak(reporter || calldata of the proof).
    function proofHash(address reporter, bytes calldata call) public pure returns (bytes32) {
        return keccak256(abi.encodePacked(reporter, call));
    }

    /// @dev Refuses an age of receipts, in blocks, within which no chain could hold an epoch and its time for node roots. Whether a given chain's
    /// blocks come slowly enough for it, the deployment must know: an honest receipt must not be too old for its root.
    function requireAge(ISettlement settlement_, uint64 maxAgeBlocks) internal view {
        uint256 epochSeconds = uint256(settlement_.epochMinSeconds()) + settlement_.w1() / 3;
        uint256 most = maxAgeBlocks * BLOCK_SECONDS_MAX;
        if (most <= epochSeconds) revert AgeTooShort(epochSeconds, most);
    }

    /// @dev The receipt's hash, once its node has been found to have signed it for this chain and this Settlement.
    function requireSigned(address node, bytes calldata receipt, bytes calldata signature) internal view returns (bytes32 receiptHash) {
        receiptHash = keccak256(receipt);
        address recovered = Sig.signer(Sig.digest(Sig.domain(address(settlement)), Sig.RECEIPT, receiptHash), signature);
        if (recovered == address(0) || recovered != node) revert ReceiptSignature(node, recovered);
    }

    /// @dev A receipt is slashed for once, whatever is wrong with it: its hash names the fault. So its client is paid back once, and not more
    /// than it was charged on the receipt's lane.
    function slashFor(address node, address client, bytes32 lane, uint128 fee, bytes32 receiptHash) internal {
        stakeManager.slash(node, fee, client, fee, lane, msg.sender, receiptHash);
    }

    /// @dev Voids a receipt and slashes for it. What is void and slashed for already is refused by StakeManager.
    function voidAndSlash(address node, address client, bytes32 lane, uint128 fee, bytes32 receiptHash) internal {
        bool isNew = markVoid(receiptHash);
        if (isNew && stakeManager.slashOf(receiptHash) != 0) return;
        slashFor(node, client, lane, fee, receiptHash);
    }

    /// @dev Whether the receipt, or the span, was not void before.
    function markVoid(bytes32 what) internal returns (bool isNew) {
        isNew = settlement.voidedAt(what) == 0;
        if (isNew) settlement.markVoid(what);
    }
}
