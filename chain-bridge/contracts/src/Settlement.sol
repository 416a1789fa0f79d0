// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Codec} from "./Codec.sol";
import {Sig} from "./Sig.sol";
import {StakeManager} from "./StakeManager.sol";
import {Trees} from "./Trees.sol";

/// @title Epochs: what nodes answered, and who is paid for it
/// @notice Phase 1: every bonded node submits the root of its receipts; then the window W1, in which faults are proven. Phase 2: a bonded
/// poster posts the payout tree, a sum tree of cumulative amounts, on top of the last final one; after the window W2 it is final and accounts
/// claim. Whatever a poster writes, no more than its total is ever paid, and no total exceeds what was received.
/// @dev Replacing a wrong payout root within W2 (fault F7) is not part of this contract yet.
contract Settlement {
    /// @notice Times in seconds since 1970; a payout of zero `postedAt` has not been posted.
    struct Epoch {
        uint64 openedAt;
        uint64 postedAt;
        uint64 nodes;
        uint128 total;
        bytes32 payoutRoot;
        address poster;
    }

    /// @notice Seconds from an epoch's opening until its payout may be posted.
    uint64 public immutable w1;
    /// @notice Seconds from a payout's posting until it is final.
    uint64 public immutable w2;
    /// @notice Least seconds between two openings.
    uint64 public immutable epochMinSeconds;
    /// @notice Says who is bonded.
    StakeManager public immutable stakeManager;
    /// @notice Accounts of the roles that have no account of their own in a receipt.
    address public immutable protocol;
    /// @notice Account of the insurance pool.
    address public immutable insurance;
    /// @notice Account of the stakers' share.
    address public immutable stakers;

    /// @notice The last epoch that was opened; 0 before the first.
    uint64 public currentEpoch;
    /// @notice The last epoch whose payout was posted; 0 before the first.
    uint64 public lastPosted;
    /// @notice Wei received from the escrow since deployment.
    uint128 public totalReceived;
    /// @notice Wei claimed since deployment.
    uint128 public totalClaimed;
    /// @notice Wei claimed, by account.
    mapping(address => uint128) public claimed;
    /// @notice The receipts root a node submitted, by epoch and node; zero if none.
    mapping(uint64 => mapping(address => bytes32)) public nodeRootOf;

    mapping(uint64 => Epoch) private epochOf;

    event CollectedReceived(bytes32 indexed lane, address indexed payer, address indexed node, uint256 amount, address from);
    event EpochOpened(uint64 indexed epoch, uint64 openedAt, uint64 acceptsUntil, uint64 payoutFrom);
    event NodeRootSubmitted(
        uint64 indexed epoch, address indexed node, bytes32 receiptsRoot, uint64 count, uint128 feeSum, bytes32 bodyHash
    );
    event PayoutPosted(uint64 indexed epoch, bytes32 root, uint128 total, bytes32 previousRoot, address indexed poster, uint64 finalAt);
    event Claimed(address indexed account, uint64 indexed epoch, uint128 amount, uint128 cumulative);

    error ZeroAddress(string what);
    error AmountTooLarge(uint256 got);
    error EpochTooSoon(uint64 earliest, uint256 timeNow);
    error WrongEpoch(uint64 expected, uint64 got);
    error NotBonded(address account);
    error NodeRootSignature(address expected, address recovered);
    error AlreadySubmitted(uint64 epoch, address node);
    error UnknownEpoch(uint64 epoch);
    error PayoutTooSoon(uint64 earliest, uint256 timeNow);
    error PayoutOutOfOrder(uint64 expected, uint64 got);
    error PreviousNotFinal(uint64 epoch, uint64 finalAt);
    error WrongPreviousRoot(bytes32 expected, bytes32 got);
    error TotalFell(uint128 previous, uint128 got);
    error TotalAboveReceived(uint128 received, uint128 got);
    error ZeroRoot();
    error NoFinalPayout();
    error WrongClaimRoot(bytes32 expected, bytes32 got);
    error WrongTreeTotal(uint128 expected, uint128 got);
    error NothingToClaim(uint128 claimed, uint128 cumulative);
    error ClaimsAboveTotal(uint128 total, uint256 claims);

    constructor(
        uint64 w1_,
        uint64 w2_,
        uint64 epochMinSeconds_,
        StakeManager stakeManager_,
        address protocol_,
        address insurance_,
        address stakers_
    ) {
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        if (protocol_ == address(0)) revert ZeroAddress("protocol");
        if (insurance_ == address(0)) revert ZeroAddress("insurance");
        if (stakers_ == address(0)) revert ZeroAddress("stakers");
        w1 = w1_;
        w2 = w2_;
        epochMinSeconds = epochMinSeconds_;
        stakeManager = stakeManager_;
        protocol = protocol_;
        insurance = insurance_;
        stakers = stakers_;
    }

    /// @notice Receives what was collected. Anybody may add money; what a lane paid is said by the escrow's own event.
    function receiveCollected(bytes32 lane, address payer, address node) external payable {
        uint256 sum = uint256(totalReceived) + msg.value;
        if (sum > type(uint128).max) revert AmountTooLarge(sum);
        totalReceived = uint128(sum);
        emit CollectedReceived(lane, payer, node, msg.value, msg.sender);
    }

    /// @notice Submits a node's receipts root. The first one after an epoch has closed opens the next. Anybody may carry it: the node's
    /// signature says whose it is.
    /// @param body NodeRoot of Protocol P4, for the epoch that `submissionEpoch` names.
    /// @param signature The node's, over `body`.
    function submitNodeRoot(bytes calldata body, bytes calldata signature) external {
        Codec.NodeRoot memory given = Codec.nodeRoot(body);
        uint64 epoch = submissionEpoch();
        if (given.epoch != epoch) revert WrongEpoch(epoch, given.epoch);
        if (!stakeManager.isBonded(given.node)) revert NotBonded(given.node);
        bytes32 bodyHash = keccak256(body);
        address recovered = Sig.signer(Sig.digest(Sig.domain(address(this)), Sig.NODE_ROOT, bodyHash), signature);
        if (recovered != given.node) revert NodeRootSignature(given.node, recovered);
        if (given.receiptsRoot == 0) revert ZeroRoot();
        if (epoch > currentEpoch) open(epoch);
        if (nodeRootOf[epoch][given.node] != 0) revert AlreadySubmitted(epoch, given.node);
        nodeRootOf[epoch][given.node] = given.receiptsRoot;
        epochOf[epoch].nodes += 1;
        emit NodeRootSubmitted(epoch, given.node, given.receiptsRoot, given.count, given.feeSum, bodyHash);
    }

    /// @notice Posts the payout tree of `epoch`; it is final after W2.
    /// @param previousRoot Root of the payout that this one was built on, the last final one; zero for the first.
    /// @param root Sum-tree root over (account, previous, cumulative, parts root).
    /// @param total Sum of all cumulative amounts, which `root` binds.
    function postPayout(uint64 epoch, bytes32 previousRoot, bytes32 root, uint128 total) external {
        if (!stakeManager.isBonded(msg.sender)) revert NotBonded(msg.sender);
        if (epoch == 0 || epoch > currentEpoch) revert UnknownEpoch(epoch);
        if (epoch != lastPosted + 1) revert PayoutOutOfOrder(lastPosted + 1, epoch);
        Epoch storage current = epochOf[epoch];
        if (block.timestamp < current.openedAt + w1) revert PayoutTooSoon(current.openedAt + w1, block.timestamp);
        // Epoch 0 is all zeros: posted at the beginning of time, with no root and a total of 0.
        Epoch storage last = epochOf[lastPosted];
        if (block.timestamp < last.postedAt + w2) revert PreviousNotFinal(lastPosted, last.postedAt + w2);
        if (previousRoot != last.payoutRoot) revert WrongPreviousRoot(last.payoutRoot, previousRoot);
        if (root == 0) revert ZeroRoot();
        if (total < last.total) revert TotalFell(last.total, total);
        if (total > totalReceived) revert TotalAboveReceived(totalReceived, total);
        current.payoutRoot = root;
        current.total = total;
        current.postedAt = uint64(block.timestamp);
        current.poster = msg.sender;
        lastPosted = epoch;
        emit PayoutPosted(epoch, root, total, previousRoot, msg.sender, current.postedAt + w2);
    }

    /// @notice Pays the caller what it has earned and not yet claimed, by the last final payout.
    /// @param previous The caller's cumulative amount in the payout before; part of the leaf.
    /// @param cumulative All the caller ever earned, in wei.
    /// @param partsRoot Root of the parts of this epoch; part of the leaf.
    /// @param index Place of the caller's leaf.
    /// @param count Leaves of the tree.
    /// @param siblings From the leaf upwards.
    function claim(
        uint128 previous,
        uint128 cumulative,
        bytes32 partsRoot,
        uint64 index,
        uint64 count,
        Trees.SumSibling[] calldata siblings
    ) external {
        uint64 epoch = lastFinal();
        if (epoch == 0) revert NoFinalPayout();
        bytes memory leaf = abi.encodePacked(msg.sender, previous, cumulative, partsRoot);
        (bytes32 root, uint128 total) = Trees.sumRootOf(leaf, cumulative, index, count, siblings);
        Epoch storage payout = epochOf[epoch];
        if (root != payout.payoutRoot) revert WrongClaimRoot(payout.payoutRoot, root);
        if (total != payout.total) revert WrongTreeTotal(payout.total, total);
        pay(epoch, total, cumulative);
    }

    /// @notice Whether roots are being accepted for the current epoch.
    function accepting() public view returns (bool) {
        return currentEpoch != 0 && block.timestamp < epochOf[currentEpoch].openedAt + w1 / 3;
    }

    /// @notice The epoch that a node root submitted now must name: the open one, else the next.
    function submissionEpoch() public view returns (uint64) {
        return accepting() ? currentEpoch : currentEpoch + 1;
    }

    /// @notice The last epoch whose payout is final; 0 if there is none.
    function lastFinal() public view returns (uint64) {
        if (lastPosted == 0) return 0;
        // A payout is posted only on top of a final one, so the one before the last is final.
        return block.timestamp >= epochOf[lastPosted].postedAt + w2 ? lastPosted : lastPosted - 1;
    }

    /// @notice An epoch; zeros if it was never opened.
    function epochs(uint64 epoch) external view returns (Epoch memory) {
        return epochOf[epoch];
    }

    /// @dev A wrong tree can misdirect; it cannot make the claims of all trees together exceed its own total.
    function pay(uint64 epoch, uint128 total, uint128 cumulative) private {
        uint128 before = claimed[msg.sender];
        if (cumulative <= before) revert NothingToClaim(before, cumulative);
        uint128 amount = cumulative - before;
        uint256 claims = uint256(totalClaimed) + amount;
        if (claims > total) revert ClaimsAboveTotal(total, claims);
        totalClaimed = uint128(claims);
        claimed[msg.sender] = cumulative;
        emit Claimed(msg.sender, epoch, amount, cumulative);
        Address.sendValue(payable(msg.sender), amount);
    }

    function open(uint64 epoch) private {
        uint64 earliest = epochOf[currentEpoch].openedAt + epochMinSeconds;
        if (currentEpoch != 0 && block.timestamp < earliest) revert EpochTooSoon(earliest, block.timestamp);
        currentEpoch = epoch;
        uint64 timeNow = uint64(block.timestamp);
        epochOf[epoch].openedAt = timeNow;
        emit EpochOpened(epoch, timeNow, timeNow + w1 / 3, timeNow + w1);
    }
}
