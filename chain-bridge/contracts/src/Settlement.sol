// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Codec} from "./Codec.sol";
import {Pay} from "./Pay.sol";
import {Sig} from "./Sig.sol";
import {Roles, StakeManager} from "./StakeManager.sol";
import {Trees} from "./Trees.sol";

/// @notice Where the treasuries of Datanets are paid to.
interface ITreasury {
    /// @notice Adds the value sent to what the treasury of a Datanet earned.
    function receiveFor(uint64 asset) external payable;
}

/// @title Epochs: what nodes answered, and who is paid for it
/// @notice Phase 1: every bonded node submits the root of its receipts; then the window W1, in which faults are proven. Phase 2: a bonded
/// poster posts the payout tree, a sum tree of cumulative amounts, on top of the last final one; within the window W2 a verifier may
/// overturn it, after it the tree is final and accounts claim. Whatever a poster writes, no more than its total is ever paid, and no total
/// exceeds what was received. The contract has no owner.
/// @dev A payout is posted only on top of a final one, so two records hold all there is to know: that of epoch e is number e & 1. Posting
/// therefore writes no fresh storage; history is in the events.
contract Settlement {
    /// @notice An epoch; times in seconds since 1970, zeros if it was never opened.
    struct Epoch {
        uint64 openedAt;
        uint64 nodes;
    }

    /// @notice A payout. `bond` is what a poster without stake attached and has not been given back.
    struct Payout {
        bytes32 root;
        uint128 total;
        uint64 epoch;
        uint64 postedAt;
        address poster;
        uint96 bond;
    }

    /// @notice One account's claim by the last final payout. `previous`, `partsRoot` are parts of its leaf.
    struct Claim {
        address account;
        uint128 previous;
        uint128 cumulative;
        bytes32 partsRoot;
        uint64 index;
        bytes siblings;
    }

    /// @dev Fees of a node that may still be void: those of epochs up to `oldUntil`, and those of later ones up to `youngUntil`.
    struct Exposure {
        uint96 old;
        uint96 young;
        uint32 oldUntil;
        uint32 youngUntil;
    }

    /// @dev `isSealed`: the treasury of Datanet `asset`, to whose address nobody has a key and which therefore is paid to `datanetTreasury` instead.
    struct Account {
        uint128 claimed;
        bool isSealed;
        uint64 asset;
    }

    /// @notice A node's open fees stay below this part of its bond (`StakeManager.bondOf`), the part that a slash surely burns: one tenth.
    uint256 public constant EXPOSURE_DIVISOR = 10;
    /// @notice Most receipts under one node root: 256 stretches of a challenge, and about 100 MB that a poster fetches and keeps. All of them must be shown on
    /// the chain within a challenge's time to answer: at 82,614 gas each 5.4 * 10^9 gas, 181 blocks of 30 million, 6 minutes of blocks 2 s
    /// apart; 2^20 would fill every block for 96 minutes of the two hours that a network gives. Receipts beyond wait for the next epoch.
    uint64 public constant RECEIPTS_MAX = 2 ** 16;
    /// @notice Where half of a lost bond goes.
    address public constant BURN = 0x000000000000000000000000000000000000dEaD;

    /// @notice Seconds from an epoch's opening until its payout may be posted.
    uint64 public immutable w1;
    /// @notice Seconds from a payout's posting until it is final.
    uint64 public immutable w2;
    /// @notice Least seconds between two openings.
    uint64 public immutable epochMinSeconds;
    /// @notice Seconds from when a payout is due until anybody may post it against `posterBond`.
    uint64 public immutable fallbackSeconds;
    /// @notice What a poster without the role attaches, in wei.
    uint96 public immutable posterBond;
    /// @notice Says who is bonded, and who is a verifier.
    StakeManager public immutable stakeManager;
    /// @notice Accounts of the roles that have no account of their own in a receipt.
    address public immutable protocol;
    /// @notice Account of the insurance pool.
    address public immutable insurance;
    /// @notice Account of the stakers' share.
    address public immutable stakers;
    /// @notice Is paid what the treasuries of Datanets earn, and divides it over who contributed.
    ITreasury public immutable datanetTreasury;

    /// @notice The last epoch that was opened; 0 before the first.
    uint64 public currentEpoch;
    /// @notice The last epoch whose payout was posted and not overturned; 0 before the first.
    uint64 public lastPosted;
    /// @notice Wei received from the escrow since deployment.
    uint128 public totalReceived;
    /// @notice Wei claimed since deployment.
    uint128 public totalClaimed;
    /// @notice What a node submitted, by epoch and node: keccak(NodeRoot body || block number u64); zero if nothing.
    mapping(uint64 => mapping(address => bytes32)) public nodeRootOf;
    /// @notice When a receipt, or a span of one (`Codec.spanId`), was proven void, in seconds since 1970; 0 if it was not.
    mapping(bytes32 => uint64) public voidedAt;
    /// @notice Wei that a payee could not take, by payee.
    mapping(address => uint256) public owed;

    mapping(uint64 => Epoch) private epochOf;
    Payout[2] private records;
    mapping(address => Account) private accounts;
    mapping(address => Exposure) private exposures;

    event EpochOpened(uint64 indexed epoch, uint64 openedAt, uint64 acceptsUntil, uint64 payoutFrom);
    event NodeRootSubmitted(
        uint64 indexed epoch,
        address indexed node,
        bytes32 receiptsRoot,
        uint64 count,
        uint128 feeSum,
        bytes32 bodyHash,
        uint64 blockNumber
    );
    event ReceiptVoided(bytes32 indexed receiptHash, address indexed verifier);
    event PayoutPosted(
        uint64 indexed epoch, bytes32 root, uint128 total, bytes32 previousRoot, address indexed poster, uint64 finalAt, uint96 bond
    );
    event PayoutOverturned(uint64 indexed epoch, bytes32 root, address indexed poster, address indexed reporter, bytes32 faultHash);
    event BondReturned(uint64 indexed epoch, address indexed poster, uint96 bond);
    event BondTaken(uint64 indexed epoch, address indexed poster, address indexed reporter, uint96 toReporter, uint96 burned);
    event Claimed(address indexed account, uint64 indexed epoch, uint128 amount, uint128 cumulative);
    event Credited(address indexed payee, uint256 amount);
    event OwedWithdrawn(address indexed payee, uint256 amount);
    event TreasurySealed(uint64 indexed asset, address treasury);

    error ZeroAddress(string what);
    error UnbondingTooShort(uint64 least, uint64 got);
    error AmountTooLarge(uint256 got);
    error EpochTooSoon(uint64 earliest, uint256 timeNow);
    error WrongEpoch(uint64 expected, uint64 got);
    error NotBonded(address account);
    error NodeRootSignature(address expected, address recovered);
    error AlreadySubmitted(uint64 epoch, address node);
    error FeesAboveStake(uint256 most, uint256 open);
    error WrongNodeRoot(bytes32 expected, bytes32 got);
    error OnlyVerifier(address got);
    error AlreadyVoid(bytes32 receiptHash);
    error UnknownEpoch(uint64 epoch);
    error PayoutTooSoon(uint64 earliest, uint256 timeNow);
    error PayoutOutOfOrder(uint64 expected, uint64 got);
    error PreviousNotFinal(uint64 epoch, uint64 finalAt);
    error WrongPreviousRoot(bytes32 expected, bytes32 got);
    error ZeroBond();
    error WindowTooShort(uint64 least, uint64 got);
    error WrongBond(uint96 expected, uint256 got);
    error FallbackTooSoon(uint64 earliest, uint256 timeNow);
    error TotalFell(uint128 previous, uint128 got);
    error TotalAboveReceived(uint128 received, uint128 got);
    error ZeroRoot();
    error NotEmpty(bytes32 receiptsRoot);
    error TooManyReceipts(uint64 most, uint64 got);
    error NotPending(uint64 expected, uint64 got);
    error PayoutIsFinal(uint64 epoch, uint64 finalAt);
    error NoBond(uint64 epoch);
    error NoFinalPayout();
    error NoClaims();
    error WrongClaimRoot(bytes32 expected, bytes32 got);
    error WrongTreeTotal(uint128 expected, uint128 got);
    error NothingToClaim(uint128 claimed, uint128 cumulative);
    error ClaimsAboveTotal(uint128 total, uint256 claims);
    error NothingOwed(address account);

    constructor(
        uint64 w1_,
        uint64 w2_,
        uint64 epochMinSeconds_,
        uint64 fallbackSeconds_,
        uint96 posterBond_,
        StakeManager stakeManager_,
        address protocol_,
        address insurance_,
        address stakers_,
        ITreasury datanetTreasury_
    ) {
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        if (protocol_ == address(0)) revert ZeroAddress("protocol");
        if (insurance_ == address(0)) revert ZeroAddress("insurance");
        if (stakers_ == address(0)) revert ZeroAddress("stakers");
        if (address(datanetTreasury_) == address(0)) revert ZeroAddress("datanetTreasury");
        if (posterBond_ == 0) revert ZeroBond();
        if (w1_ < 3) revert WindowTooShort(3, w1_);
        // Stake must still be there when the last fault of an epoch can be proven.
        uint64 unbonding = stakeManager_.unbondingSeconds();
        if (unbonding <= w1_ + w2_) revert UnbondingTooShort(w1_ + w2_, unbonding);
        w1 = w1_;
        w2 = w2_;
        epochMinSeconds = epochMinSeconds_;
        fallbackSeconds = fallbackSeconds_;
        posterBond = posterBond_;
        stakeManager = stakeManager_;
        protocol = protocol_;
        insurance = insurance_;
        stakers = stakers_;
        datanetTreasury = datanetTreasury_;
    }

    // ------------------------------------------------------------------ money in

    /// @notice Receives what was collected. Anybody may add money; what each lane paid is said by the escrow's own event.
    function receiveCollected() external payable {
        uint256 sum = uint256(totalReceived) + msg.value;
        if (sum > type(uint128).max) revert AmountTooLarge(sum);
        totalReceived = uint128(sum);
    }

    // ------------------------------------------------------------------ phase 1

    /// @notice Submits a node's receipts root. The first one after an epoch has closed opens the next. Anybody may carry it: the node's
    /// signature says whose it is.
    /// @param body NodeRoot of Protocol P4, for the epoch that `submissionEpoch` names, of `RECEIPTS_MAX` receipts at most.
    /// @param signature The node's, over `body`.
    function submitNodeRoot(bytes calldata body, bytes calldata signature) external {
        Codec.NodeRoot memory given = Codec.nodeRoot(body);
        uint64 epoch = submissionEpoch();
        if (given.epoch != epoch) revert WrongEpoch(epoch, given.epoch);
        (bool bonded, uint128 bond) = stakeManager.bondOf(given.node);
        if (!bonded) revert NotBonded(given.node);
        bytes32 bodyHash = keccak256(body);
        address recovered = Sig.signer(Sig.digest(Sig.domain(address(this)), Sig.NODE_ROOT, bodyHash), signature);
        if (recovered != given.node) revert NodeRootSignature(given.node, recovered);
        if (given.receiptsRoot == 0) revert ZeroRoot();
        // Whoever needs the receipts asks for each of them: a count costs its node nothing, what it makes others attach must be bounded.
        if (given.count > RECEIPTS_MAX) revert TooManyReceipts(RECEIPTS_MAX, given.count);
        // Nobody could open anything under a root of no receipts, to find it wrong.
        if (given.count == 0 && (given.feeSum != 0 || given.receiptsRoot != Trees.sumRoot(0, 0, 0))) revert NotEmpty(given.receiptsRoot);
        if (epoch > currentEpoch) open(epoch);
        if (nodeRootOf[epoch][given.node] != 0) revert AlreadySubmitted(epoch, given.node);
        expose(given.node, epoch, given.feeSum, bond);
        uint64 blockNumber = uint64(block.number);
        nodeRootOf[epoch][given.node] = slotOf(body, blockNumber);
        epochOf[epoch].nodes += 1;
        emit NodeRootSubmitted(epoch, given.node, given.receiptsRoot, given.count, given.feeSum, bodyHash, blockNumber);
    }

    /// @notice Reverts unless `body` is the NodeRoot that its node submitted in block `blockNumber`.
    function requireNodeRoot(bytes calldata body, uint64 blockNumber) external view {
        Codec.NodeRoot memory given = Codec.nodeRoot(body);
        bytes32 expected = nodeRootOf[given.epoch][given.node];
        bytes32 got = slotOf(body, blockNumber);
        if (expected != got) revert WrongNodeRoot(expected, got);
    }

    /// @notice Marks a receipt as void: it has no part in the payout of its epoch, if W1 has not ended; or a span of one, whose part then goes to the
    /// insurance pool.
    function markVoid(bytes32 receiptHash) external {
        requireVerifier();
        if (voidedAt[receiptHash] != 0) revert AlreadyVoid(receiptHash);
        voidedAt[receiptHash] = uint64(block.timestamp);
        emit ReceiptVoided(receiptHash, msg.sender);
    }

    // ------------------------------------------------------------------ phase 2

    /// @notice Posts the payout tree of `epoch`; it is final after W2. A bonded poster attaches nothing. Anybody else may post once the
    /// payout has been due for `fallbackSeconds`, and attaches `posterBond`.
    /// @param previousRoot Root of the payout that this one was built on, the last final one; zero for the first.
    /// @param root Sum-tree root over (account, previous, cumulative, parts root).
    /// @param total Sum of all cumulative amounts, which `root` binds.
    function postPayout(uint64 epoch, bytes32 previousRoot, bytes32 root, uint128 total) external payable {
        uint64 posted = lastPosted;
        if (epoch == 0 || epoch > currentEpoch) revert UnknownEpoch(epoch);
        if (epoch != posted + 1) revert PayoutOutOfOrder(posted + 1, epoch);
        uint64 due = epochOf[epoch].openedAt + w1;
        if (block.timestamp < due) revert PayoutTooSoon(due, block.timestamp);
        // Epoch 0 is all zeros: posted at the beginning of time, with no root and a total of 0.
        Payout storage last = records[posted & 1];
        (bytes32 lastRoot, uint128 lastTotal, uint64 postedAt) =
            posted == 0 ? (bytes32(0), uint128(0), uint64(0)) : (last.root, last.total, last.postedAt);
        uint64 finalAt = postedAt + w2;
        if (block.timestamp < finalAt) revert PreviousNotFinal(posted, finalAt);
        requirePoster(due > finalAt ? due : finalAt);
        if (previousRoot != lastRoot) revert WrongPreviousRoot(lastRoot, previousRoot);
        if (root == 0) revert ZeroRoot();
        if (total < lastTotal) revert TotalFell(lastTotal, total);
        if (total > totalReceived) revert TotalAboveReceived(totalReceived, total);
        record(epoch, root, total);
        lastPosted = epoch;
        emit PayoutPosted(epoch, root, total, previousRoot, msg.sender, uint64(block.timestamp) + w2, uint96(msg.value));
    }

    /// @notice Takes back the payout of `epoch`, which was proven wrong within W2: it may be posted again. A bond is taken, half of it for
    /// the reporter; a poster with a role is slashed by the verifier.
    /// @return poster Who had posted it.
    /// @return bond What the poster had attached, in wei; zero for one with the role.
    function overturn(uint64 epoch, address reporter, bytes32 faultHash) external returns (address poster, uint96 bond) {
        requireVerifier();
        if (epoch == 0 || epoch != lastPosted) revert NotPending(lastPosted, epoch);
        Payout storage pending = records[epoch & 1];
        uint64 finalAt = pending.postedAt + w2;
        if (block.timestamp >= finalAt) revert PayoutIsFinal(epoch, finalAt);
        lastPosted = epoch - 1;
        (poster, bond) = (pending.poster, pending.bond);
        emit PayoutOverturned(epoch, pending.root, poster, reporter, faultHash);
        if (bond > 0) {
            pending.bond = 0;
            uint96 toReporter = reporter == address(0) ? 0 : bond / 2;
            emit BondTaken(epoch, poster, reporter, toReporter, bond - toReporter);
            give(reporter, toReporter);
            give(BURN, bond - toReporter);
        }
    }

    /// @notice Gives the poster of the last final payout its bond back. Callable by anyone; posting does the same for older ones.
    function returnBond() external {
        uint64 epoch = lastFinal();
        if (epoch == 0) revert NoFinalPayout();
        Payout storage last = records[epoch & 1];
        uint96 bond = last.bond;
        if (bond == 0) revert NoBond(epoch);
        last.bond = 0;
        emit BondReturned(epoch, last.poster, bond);
        give(last.poster, bond);
    }

    // ------------------------------------------------------------------ claims

    /// @notice Pays the caller what it has earned and not yet claimed, by the last final payout.
    /// @param previous The caller's cumulative amount in the payout before; part of the leaf.
    /// @param cumulative All the caller ever earned, in wei.
    /// @param partsRoot Root of the parts of this epoch; part of the leaf.
    /// @param index Place of the caller's leaf.
    /// @param count Leaves of the tree.
    /// @param siblings From the leaf upwards, each a digest and its sum u128, packed.
    function claim(
        uint128 previous,
        uint128 cumulative,
        bytes32 partsRoot,
        uint64 index,
        uint64 count,
        bytes calldata siblings
    ) external {
        Payout memory last = finalOrRevert();
        requireLeaf(last, abi.encodePacked(msg.sender, previous, cumulative, partsRoot), cumulative, index, count, siblings);
        uint128 before = accounts[msg.sender].claimed;
        if (cumulative <= before) revert NothingToClaim(before, cumulative);
        uint128 amount = cumulative - before;
        addClaimed(last.total, amount);
        accounts[msg.sender].claimed = cumulative;
        emit Claimed(msg.sender, last.epoch, amount, cumulative);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Pays many accounts by the last final payout. Callable by anyone. A wrong opening reverts the batch; an account that has
    /// nothing left is passed over, and one that refuses the money, or burns its gas, is credited and blocks nobody. What a Datanet's
    /// treasury earned goes to `datanetTreasury`.
    /// @param count Leaves of the tree.
    function claimMany(uint64 count, Claim[] calldata claims) external {
        if (claims.length == 0) revert NoClaims();
        Payout memory last = finalOrRevert();
        uint256 sum = 0;
        // Books first, then payments: a payee that calls back finds nothing half done.
        uint128[] memory amounts = new uint128[](claims.length);
        bool anyTreasury = false;
        for (uint256 i = 0; i < claims.length; ++i) {
            Claim calldata one = claims[i];
            bytes memory leaf = abi.encodePacked(one.account, one.previous, one.cumulative, one.partsRoot);
            requireLeaf(last, leaf, one.cumulative, one.index, count, one.siblings);
            Account storage account = accounts[one.account];
            (uint128 before, bool isTreasury) = (account.claimed, account.isSealed);
            if (one.cumulative <= before) continue;
            anyTreasury = anyTreasury || isTreasury;
            uint128 amount = one.cumulative - before;
            amounts[i] = amount;
            sum += amount;
            account.claimed = one.cumulative;
            emit Claimed(one.account, last.epoch, amount, one.cumulative);
        }
        addClaimed(last.total, sum);
        if (anyTreasury) {
            for (uint256 i = 0; i < claims.length; ++i) hand(claims[i].account, amounts[i]);
        } else {
            for (uint256 i = 0; i < claims.length; ++i) give(claims[i].account, amounts[i]);
        }
    }

    /// @notice Pays `account` what could not be paid before.
    function withdrawOwed(address payable account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        emit OwedWithdrawn(account, amount);
        Address.sendValue(account, amount);
    }

    /// @notice Lets what the treasury of Datanet `asset` earns, to whose address nobody has a key, be paid to `datanetTreasury`. The registry seals
    /// each Datanet as it is registered; anybody may.
    function sealTreasury(uint64 asset) external {
        address treasury = address(uint160(uint256(keccak256(abi.encodePacked("tributary/treasury/v1", asset)))));
        accounts[treasury].isSealed = true;
        accounts[treasury].asset = asset;
        emit TreasurySealed(asset, treasury);
    }

    // ------------------------------------------------------------------ views

    /// @notice Whether roots are being accepted for the current epoch.
    function accepting() public view returns (bool) {
        return currentEpoch != 0 && block.timestamp < epochOf[currentEpoch].openedAt + w1 / 3;
    }

    /// @notice The last epoch whose window W1 has ended; 0 before the first. Epochs open a third of W1 apart at least, so it is one of the last four.
    function lastDue() external view returns (uint64 epoch) {
        epoch = currentEpoch;
        while (epoch != 0 && block.timestamp < epochOf[epoch].openedAt + w1) --epoch;
    }

    /// @notice The epoch that a node root submitted now must name: the open one, else the next.
    function submissionEpoch() public view returns (uint64) {
        return accepting() ? currentEpoch : currentEpoch + 1;
    }

    /// @notice The last epoch whose payout is final; 0 if there is none.
    function lastFinal() public view returns (uint64) {
        uint64 posted = lastPosted;
        if (posted == 0) return 0;
        // A payout is posted only on top of a final one, so the one before the last is final.
        return block.timestamp >= records[posted & 1].postedAt + w2 ? posted : posted - 1;
    }

    /// @notice When an epoch was opened and how many nodes submitted a root; zeros if it was never opened.
    function epochs(uint64 epoch) external view returns (Epoch memory) {
        return epochOf[epoch];
    }

    /// @notice The payout of `epoch`, if it is the last posted or the last final one; zeros for every other, whose events tell.
    function payoutOf(uint64 epoch) external view returns (Payout memory payout) {
        if (epoch == lastPosted || epoch == lastFinal()) payout = payoutAt(epoch);
    }

    /// @notice The last final payout; zeros if there is none.
    function finalPayout() external view returns (Payout memory) {
        return payoutAt(lastFinal());
    }

    /// @notice The payout that is not final yet; zeros if there is none.
    function pendingPayout() external view returns (Payout memory payout) {
        if (lastPosted != lastFinal()) payout = payoutAt(lastPosted);
    }

    /// @notice Whether a receipt, or a span of one, was proven void.
    function isVoid(bytes32 receiptHash) external view returns (bool) {
        return voidedAt[receiptHash] != 0;
    }

    /// @notice Wei claimed by `account` since deployment, what it was credited included.
    function claimed(address account) external view returns (uint128) {
        return accounts[account].claimed;
    }

    /// @notice Whether `account` is a treasury, which is paid to `datanetTreasury`.
    function isSealed(address account) external view returns (bool) {
        return accounts[account].isSealed;
    }

    /// @notice Fees of a node in epochs that may not be final yet, in wei. Never below the truth; above it by at most what one window of
    /// finality holds, because fees are forgotten by two generations and not by single epochs.
    function openFeesOf(address node) external view returns (uint256) {
        Exposure memory fees = aged(exposures[node], lastFinal());
        return uint256(fees.old) + fees.young;
    }

    // ------------------------------------------------------------------ private

    function open(uint64 epoch) private {
        uint64 earliest = epochOf[currentEpoch].openedAt + epochMinSeconds;
        if (currentEpoch != 0 && block.timestamp < earliest) revert EpochTooSoon(earliest, block.timestamp);
        currentEpoch = epoch;
        uint64 timeNow = uint64(block.timestamp);
        epochOf[epoch].openedAt = timeNow;
        emit EpochOpened(epoch, timeNow, timeNow + w1 / 3, timeNow + w1);
    }

    /// @dev Adds `fees` to the node's open ones, which stay below the burned part of its bond.
    function expose(address node, uint64 epoch, uint128 fees, uint128 bond) private {
        Exposure memory open_ = aged(exposures[node], lastFinal());
        uint256 sum = uint256(open_.old) + open_.young + fees;
        uint256 most = bond / EXPOSURE_DIVISOR;
        if (most > type(uint96).max) most = type(uint96).max;
        if (sum > most) revert FeesAboveStake(most, sum);
        // The sum is a uint96, and 2^32 epochs of a second last 136 years.
        open_.young += uint96(fees);
        open_.youngUntil = uint32(epoch);
        exposures[node] = open_;
    }

    /// @dev Forgets the generations whose last epoch is final.
    function aged(Exposure memory fees, uint64 final_) private pure returns (Exposure memory) {
        for (uint256 i = 0; i < 2 && fees.oldUntil <= final_; ++i) {
            fees = Exposure({old: fees.young, young: 0, oldUntil: fees.youngUntil, youngUntil: fees.youngUntil});
        }
        return fees;
    }

    function slotOf(bytes calldata body, uint64 blockNumber) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(body, blockNumber));
    }

    function requireVerifier() private view {
        if (!stakeManager.isVerifier(msg.sender)) revert OnlyVerifier(msg.sender);
    }

    function requirePoster(uint64 due) private view {
        if (msg.value == 0) {
            if (!stakeManager.isBondedAs(msg.sender, Roles.POSTER)) revert NotBonded(msg.sender);
            return;
        }
        if (msg.value != posterBond) revert WrongBond(posterBond, msg.value);
        uint64 earliest = due + fallbackSeconds;
        if (block.timestamp < earliest) revert FallbackTooSoon(earliest, block.timestamp);
    }

    /// @dev Writes over the payout two epochs back, whose bond, if it still stands, is the poster's again.
    function record(uint64 epoch, bytes32 root, uint128 total) private {
        Payout storage older = records[epoch & 1];
        (address poster, uint96 bond) = (older.poster, older.bond);
        if (bond > 0) {
            owed[poster] += bond;
            emit BondReturned(older.epoch, poster, bond);
            emit Credited(poster, bond);
        }
        records[epoch & 1] = Payout({
            root: root,
            total: total,
            epoch: epoch,
            postedAt: uint64(block.timestamp),
            poster: msg.sender,
            // Equals `posterBond` or is zero.
            bond: uint96(msg.value)
        });
    }

    /// @dev Zeros for epoch 0: record 0 is written only once epoch 2 is posted.
    function payoutAt(uint64 epoch) private view returns (Payout memory payout) {
        if (epoch != 0) payout = records[epoch & 1];
    }

    function finalOrRevert() private view returns (Payout memory) {
        uint64 epoch = lastFinal();
        if (epoch == 0) revert NoFinalPayout();
        return records[epoch & 1];
    }

    function requireLeaf(
        Payout memory last,
        bytes memory leaf,
        uint128 cumulative,
        uint64 index,
        uint64 count,
        bytes calldata siblings
    ) private pure {
        (bytes32 root, uint128 total) = Trees.sumRootOf(leaf, cumulative, index, count, siblings);
        if (root != last.root) revert WrongClaimRoot(last.root, root);
        if (total != last.total) revert WrongTreeTotal(last.total, total);
    }

    /// @dev A wrong tree can misdirect; it cannot make the claims of all trees together exceed its own total.
    function addClaimed(uint128 total, uint256 amount) private {
        uint256 claims = uint256(totalClaimed) + amount;
        if (claims > total) revert ClaimsAboveTotal(total, claims);
        totalClaimed = uint128(claims);
    }

    /// @dev As `give`, but what is a treasury's goes to the contract that divides it, which takes it always.
    function hand(address payee, uint256 amount) private {
        Account storage account = accounts[payee];
        if (!account.isSealed) give(payee, amount);
        else if (amount != 0) datanetTreasury.receiveFor{value: amount}(account.asset);
    }

    function give(address payee, uint256 amount) private {
        if (amount == 0) return;
        if (!Pay.tryPay(payee, amount)) {
            owed[payee] += amount;
            emit Credited(payee, amount);
        }
    }
}
