// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {Pay} from "./Pay.sol";
import {ICreditDesk, IInsurance, IStakeListener} from "./StakePorts.sol";

/// @title Roles that an account may be bonded for, as bits
library Roles {
    uint8 internal constant NODE = 1;
    uint8 internal constant POSTER = 2;
    uint8 internal constant INDEXER = 4;
}

/// @title Stake of nodes, posters and indexers
/// @notice Holds native OPEN that a proven fault can take. Stake stays slashable until it has been withdrawn, which is possible only after
/// `unbondingSeconds`: longer than a fault can take to be proven. What a fault takes leaves the stake at once and waits `slashDelay` in a
/// queue before it is divided. The contract has no owner: its peers are named once by the deployer, and nobody can stake before they are.
/// @dev A node key is not checked for possession here (no ed25519 in the EVM), and several accounts may name one key. Peers believe a
/// registration where the key's own signed ad names the same account, never by the key alone.
/// sum(active + unbonding) + sum(queued) + sum(owed) is the balance, to the wei (but for money forced in by a self-destruct).
contract StakeManager {
    using Checkpoints for Checkpoints.Trace208;
    using SafeCast for uint256;

    /// @notice What is known of an operator. `active + unbonding` is slashable; `roles` is a set of role bits; `faultHours` holds the times of
    /// its last four faults in hours since 1970, 24 bits each, the latest lowest: beside `unbondedAt`, so that a slash writes one slot less.
    struct Operator {
        bytes32 nodeId;
        uint64 incarnation;
        uint64 unbondedAt;
        uint8 roles;
        bool listed;
        uint96 faultHours;
        address payout;
        uint128 active;
        uint128 unbonding;
    }

    /// @notice A slash in the queue. Only its hash is stored; the event `Slashed` carries the fields. `victimAmount` is what the victim is said
    /// to have lost on `lane`; of that it is paid what it was charged there.
    struct Slash {
        bytes32 faultHash;
        address account;
        uint128 amount;
        address victim;
        uint128 victimAmount;
        bytes32 lane;
        address reporter;
        uint64 releaseAt;
    }

    /// @notice How a slash is divided, in wei.
    struct Division {
        uint128 toVictim;
        uint128 toReporter;
        uint128 burned;
        uint128 insured;
    }

    /// @notice Answers clients and submits node roots.
    uint8 public constant NODE = Roles.NODE;
    /// @notice Posts payout trees.
    uint8 public constant POSTER = Roles.POSTER;
    /// @notice Posts index roots.
    uint8 public constant INDEXER = Roles.INDEXER;

    /// @notice Where slashed stake that has neither a victim nor a reporter is sent to lie for ever.
    address public constant BURN = 0x000000000000000000000000000000000000dEaD;
    /// @notice At least this part of every slash is burned, so that slashing oneself never pays: one tenth.
    uint256 public constant BURN_DIVISOR = 10;
    /// @notice The first fault takes this part of the stake, every further one within `FAULT_MEMORY` twice the part before: one tenth.
    uint256 public constant FIRST_FAULT_DIVISOR = 10;
    /// @notice A fault takes at least this many times the open value it is about.
    uint256 public constant VALUE_MULTIPLE = 2;
    /// @notice A fault makes those dearer that follow within this time.
    uint256 public constant FAULT_MEMORY = 90 days;
    /// @dev Times of faults kept per operator, one word. The fifth fault takes 16 tenths, hence all: more need not be remembered.
    uint256 private constant FAULTS_KEPT = 4;
    /// @dev Marks a slash that was divided; no hash has this value.
    bytes32 private constant RELEASED = bytes32(uint256(1));

    /// @notice Seconds between `unbond` and `withdraw`.
    uint64 public immutable unbondingSeconds;
    /// @notice Seconds between a slash and its division.
    uint64 public immutable slashDelay;
    /// @notice Least active stake of a node, in wei.
    uint128 public immutable minStake;
    /// @notice Least active stake of a poster, in wei; on top of what its other roles demand.
    uint128 public immutable minPosterStake;
    /// @notice Least active stake of an indexer, in wei; on top of what its other roles demand.
    uint128 public immutable minIndexerStake;
    address private immutable deployer;

    /// @notice Receives the part of a slash that has no other payee, and covers what a victim misses.
    address public insurance;
    /// @notice Is told of every change of active stake.
    IStakeListener public rewards;
    /// @notice The escrow, whose unpaid credit notes are paid out of stake.
    ICreditDesk public creditDesk;
    /// @notice Whether an account is one of the fault verifiers, which alone may slash.
    mapping(address => bool) public isVerifier;
    bool private verifiersSet;
    /// @notice Wei that a payee could not take, by payee.
    mapping(address => uint256) public owed;
    /// @notice Wei of claimed credit notes that an account has not paid yet: no fee may be open against this part of its stake, which a note takes
    /// in the end. May exceed the stake.
    mapping(address => uint128) public pledgedOf;
    /// @notice State of a slash by fault hash: zero if never slashed, one if divided, else the hash of its fields.
    mapping(bytes32 => bytes32) public slashOf;

    mapping(address => Operator) private operators;
    /// @dev Every change of a payout account by block: a receipt pays the account of the block it names.
    mapping(address => Checkpoints.Trace208) private payouts;
    address[] private accounts;

    event NodeRegistered(address indexed account, bytes32 indexed nodeId, uint64 incarnation, address payout, uint128 stake);
    event RolesChanged(address indexed account, uint8 roles);
    event StakeChanged(address indexed account, uint128 active, uint128 unbonding, uint64 unbondedAt);
    /// @notice `number` counts the account's faults within `FAULT_MEMORY`, this one included.
    event Slashed(
        bytes32 indexed faultHash,
        address indexed account,
        uint128 amount,
        address indexed victim,
        uint128 victimAmount,
        bytes32 lane,
        address reporter,
        uint64 releaseAt,
        uint8 number
    );
    /// @notice `covered` came from the insurance pool, beside the slash.
    event SlashReleased(
        bytes32 indexed faultHash, uint128 toVictim, uint128 covered, uint128 toReporter, uint128 burned, uint128 insured
    );
    event Debited(address indexed account, address indexed payer, uint128 amount);
    /// @notice `pledged` wei of the account's stake are promised to payers by now.
    event PledgeChanged(address indexed account, uint128 pledged);
    event Withdrawn(address indexed account, uint128 amount);
    event Credited(address indexed payee, uint256 amount);
    event OwedWithdrawn(address indexed payee, uint256 amount);
    event VerifiersSet(address[] verifiers);
    event PeersSet(address insurance, address rewards, address creditDesk);

    error OnlyVerifier(address got);
    error OnlyDeployer(address expected, address got);
    error OnlyCreditDesk(address expected, address got);
    error OnlyInsurance(address expected, address got);
    error VerifiersAlreadySet();
    error NoVerifiers();
    error PeersAlreadySet();
    error NotSetUp();
    error ZeroAddress(string what);
    error ZeroNodeId();
    error UnknownRoles(uint8 roles);
    error StakeBelowMinimum(uint256 minimum, uint128 got);
    error IncarnationMustRise(uint64 expectedAbove, uint64 got);
    error UnknownOperator(address account);
    error NotEnoughStake(uint128 active, uint128 asked);
    error NothingUnbonding(address account);
    error StillUnbonding(uint64 until, uint256 timeNow);
    error StillPledged(uint128 pledged);
    error NothingOwed(address account);
    error AlreadySlashed(bytes32 faultHash);
    error UnknownSlash(bytes32 expected, bytes32 got);
    error StillDelayed(uint64 until, uint256 timeNow);
    error StakeTooLarge(uint256 got);

    /// @param unbondingSeconds_ 14 days on a public network.
    /// @param slashDelay_ Seconds between a slash and its division.
    /// @param minStake_ Least stake of a node, in wei.
    /// @param minPosterStake_ Least stake of a poster, in wei.
    /// @param minIndexerStake_ Least stake of an indexer, in wei.
    constructor(
        uint64 unbondingSeconds_,
        uint64 slashDelay_,
        uint128 minStake_,
        uint128 minPosterStake_,
        uint128 minIndexerStake_
    ) {
        unbondingSeconds = unbondingSeconds_;
        slashDelay = slashDelay_;
        minStake = minStake_;
        minPosterStake = minPosterStake_;
        minIndexerStake = minIndexerStake_;
        deployer = msg.sender;
    }

    /// @notice Money comes from the insurance pool while it covers a victim, and from nobody else.
    receive() external payable {
        if (msg.sender != insurance) revert OnlyInsurance(insurance, msg.sender);
    }

    // ------------------------------------------------------------------ set-up

    /// @notice Names the contracts that are deployed after this one, once.
    function setPeers(address insurance_, IStakeListener rewards_, ICreditDesk creditDesk_) external {
        requireDeployer();
        if (insurance != address(0)) revert PeersAlreadySet();
        if (insurance_ == address(0)) revert ZeroAddress("insurance");
        if (address(rewards_) == address(0)) revert ZeroAddress("rewards");
        if (address(creditDesk_) == address(0)) revert ZeroAddress("creditDesk");
        insurance = insurance_;
        rewards = rewards_;
        creditDesk = creditDesk_;
        emit PeersSet(insurance_, address(rewards_), address(creditDesk_));
    }

    /// @notice Names the fault verifiers, once.
    function setVerifiers(address[] calldata verifiers) external {
        requireDeployer();
        if (verifiersSet) revert VerifiersAlreadySet();
        if (verifiers.length == 0) revert NoVerifiers();
        verifiersSet = true;
        for (uint256 i = 0; i < verifiers.length; ++i) {
            if (verifiers[i] == address(0)) revert ZeroAddress("verifier");
            isVerifier[verifiers[i]] = true;
        }
        emit VerifiersSet(verifiers);
    }

    // ------------------------------------------------------------------ staking

    /// @notice Registers the caller's node, or a restart of it, and adds the value sent to its stake.
    /// @param nodeId ed25519 key of the node.
    /// @param incarnation Rises with every registration, so that peers can tell a restarted node from an old message.
    /// @param payout Account that is to be paid for the node's answers.
    function stake(bytes32 nodeId, uint64 incarnation, address payout) external payable {
        if (nodeId == 0) revert ZeroNodeId();
        if (payout == address(0)) revert ZeroAddress("payout");
        Operator storage operator = operators[msg.sender];
        if (operator.nodeId != 0 && incarnation <= operator.incarnation) {
            revert IncarnationMustRise(operator.incarnation, incarnation);
        }
        operator.nodeId = nodeId;
        operator.incarnation = incarnation;
        if (operator.payout != payout) payouts[msg.sender].push(block.number.toUint48(), uint160(payout));
        operator.payout = payout;
        take(operator, operator.roles | NODE);
        emit NodeRegistered(msg.sender, nodeId, incarnation, payout, operator.active);
    }

    /// @notice Takes on roles (`POSTER`, `INDEXER` or both) and adds the value sent to the caller's stake, which must reach the sum of what
    /// all its roles demand. A node registers with `stake`.
    function join(uint8 roles) external payable {
        if (roles == 0 || roles & ~(POSTER | INDEXER) != 0) revert UnknownRoles(roles);
        Operator storage operator = operators[msg.sender];
        take(operator, operator.roles | roles);
    }

    /// @notice Gives up roles. The stake stays, and stays slashable, until it is withdrawn.
    function quit(uint8 roles) external {
        Operator storage operator = known(msg.sender);
        if (roles == 0 || roles & ~operator.roles != 0) revert UnknownRoles(roles);
        operator.roles &= ~roles;
        emit RolesChanged(msg.sender, operator.roles);
    }

    /// @notice Adds the value sent to the caller's stake.
    function increase() external payable {
        addStake(known(msg.sender), msg.value);
    }

    /// @notice Starts to withdraw part of the stake. A second call adds to the first and starts its wait anew.
    function unbond(uint128 amount) external {
        Operator storage operator = known(msg.sender);
        uint128 active = operator.active;
        if (amount == 0 || amount > active) revert NotEnoughStake(active, amount);
        operator.active = active - amount;
        operator.unbonding += amount;
        operator.unbondedAt = uint64(block.timestamp) + unbondingSeconds;
        changed(msg.sender, operator, active);
    }

    /// @notice Pays out what has been unbonding for `unbondingSeconds`, but for what claimed credit notes will take: that stays until they are paid, so
    /// that nobody unbonds before it gives a note and is gone when the note is due.
    function withdraw() external {
        Operator storage operator = known(msg.sender);
        uint128 amount = operator.unbonding;
        if (amount == 0) revert NothingUnbonding(msg.sender);
        if (block.timestamp < operator.unbondedAt) revert StillUnbonding(operator.unbondedAt, block.timestamp);
        uint128 pledged = pledgedOf[msg.sender];
        uint128 kept = pledged > operator.active ? pledged - operator.active : 0;
        if (kept >= amount) revert StillPledged(pledged);
        amount -= kept;
        operator.unbonding = kept;
        if (kept == 0) operator.unbondedAt = 0;
        changed(msg.sender, operator, operator.active);
        emit Withdrawn(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    // ------------------------------------------------------------------ faults and debts

    /// @notice Takes stake for a proven fault, once per fault hash, and queues it. The n-th fault within `FAULT_MEMORY` takes
    /// 2^(n-1) tenths of what is slashable, or `VALUE_MULTIPLE` times `openValue` if that is more, at most all. An account without stake
    /// loses nothing, and the fault still counts as slashed.
    /// @param openValue Wei that the fault was about.
    /// @param victim Paid first, as far as the slash reaches; zero if there is none.
    /// @param victimAmount What the victim lost, at most: when the slash is divided, what `lane` has charged it bounds that.
    /// @param lane The lane on which the victim was charged; zero if there is no victim.
    /// @param reporter Paid at most half of what the victim leaves; zero if there is none.
    /// @param faultHash Names the fault; the same one is never slashed twice.
    /// @return amount Wei taken.
    function slash(
        address account,
        uint128 openValue,
        address victim,
        uint128 victimAmount,
        bytes32 lane,
        address reporter,
        bytes32 faultHash
    ) external returns (uint128 amount) {
        if (!isVerifier[msg.sender]) revert OnlyVerifier(msg.sender);
        if (slashOf[faultHash] != 0) revert AlreadySlashed(faultHash);
        Operator storage operator = operators[account];
        uint256 number = countFault(account);
        amount = penalty(operator.active + operator.unbonding, openValue, number);
        Slash memory queued = Slash({
            faultHash: faultHash,
            account: account,
            amount: amount,
            victim: victim,
            victimAmount: victimAmount,
            lane: lane,
            reporter: reporter,
            releaseAt: uint64(block.timestamp) + slashDelay
        });
        slashOf[faultHash] = amount == 0 ? RELEASED : keccak256(abi.encode(queued));
        announce(queued, uint8(number));
        takeAway(account, operator, amount);
    }

    /// @notice Divides a slash whose delay is over. Callable by anyone. The victim gets back what it was charged on the lane, at most what it is
    /// said to have lost. What it misses of that the insurance pool may add, at most as much as is burned: so nobody gains by slashing himself.
    /// @param lane Body of the slash's lane, which its first collect published. Empty if there is no victim, or if the lane collected nothing:
    /// a victim that is yet to be charged has its voucher collected first.
    function release(Slash calldata queued, bytes calldata lane) external {
        bytes32 hash = keccak256(abi.encode(queued));
        if (slashOf[queued.faultHash] != hash) revert UnknownSlash(slashOf[queued.faultHash], hash);
        if (block.timestamp < queued.releaseAt) revert StillDelayed(queued.releaseAt, block.timestamp);
        slashOf[queued.faultHash] = RELEASED;

        uint128 lost = 0;
        if (queued.victim != address(0) && queued.victimAmount != 0) {
            lost = creditDesk.chargedOf(queued.lane, lane, queued.account, queued.victim);
            if (lost > queued.victimAmount) lost = queued.victimAmount;
        }
        Division memory parts = divide(queued.amount, lost);
        if (queued.reporter == address(0)) {
            parts.insured += parts.toReporter;
            parts.toReporter = 0;
        }
        uint128 covered = 0;
        if (lost > parts.toVictim) {
            uint128 missing = lost - parts.toVictim;
            covered = IInsurance(insurance).cover(missing < parts.burned ? missing : parts.burned);
        }
        // What neither reached may still be the lane's refund.
        if (lost > 0) creditDesk.countRefund(queued.lane, parts.toVictim + covered);
        emit SlashReleased(queued.faultHash, parts.toVictim, covered, parts.toReporter, parts.burned, parts.insured);
        pay(queued.victim, parts.toVictim + covered);
        pay(queued.reporter, parts.toReporter);
        pay(BURN, parts.burned);
        pay(insurance, parts.insured);
    }

    /// @notice Promises `amount` more of an account's stake to a payer: a credit note was claimed. From now on no fee is let open against it.
    function pledge(address account, uint128 amount) external {
        requireCreditDesk();
        setPledged(account, pledgedOf[account] + amount);
    }

    /// @notice Ends a promise of `amount`: the note was paid.
    function unpledge(address account, uint128 amount) external {
        requireCreditDesk();
        setPledged(account, pledgedOf[account] - amount);
    }

    /// @notice Takes a debt of `account` out of its stake into the deposit of `payer`, as far as the stake reaches, and ends the promise of what was
    /// taken. A debt is no fault: it burns nothing and does not count.
    /// @return paid Wei taken.
    function debit(address account, address payer, uint128 amount) external returns (uint128 paid) {
        requireCreditDesk();
        Operator storage operator = operators[account];
        uint128 slashable = operator.active + operator.unbonding;
        paid = amount < slashable ? amount : slashable;
        if (paid == 0) return 0;
        emit Debited(account, payer, paid);
        setPledged(account, pledgedOf[account] - paid);
        takeAway(account, operator, paid);
        creditDesk.depositFor{value: paid}(payer);
    }

    /// @notice Pays `account` what could not be paid before.
    function withdrawOwed(address payable account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        emit OwedWithdrawn(account, amount);
        Address.sendValue(account, amount);
    }

    /// @notice What the `number`-th fault, from 1, takes of `slashable` wei.
    function penalty(uint128 slashable, uint128 openValue, uint256 number) public pure returns (uint128) {
        uint256 part = (uint256(slashable) << (number - 1)) / FIRST_FAULT_DIVISOR;
        uint256 byValue = uint256(openValue) * VALUE_MULTIPLE;
        if (part < byValue) part = byValue;
        return part > slashable || part == 0 ? slashable : uint128(part);
    }

    /// @notice How a slash of `amount` is divided; the four parts sum to it, and `burned` is never zero unless all is.
    function divide(uint128 amount, uint128 victimAmount) public pure returns (Division memory parts) {
        uint128 leastBurned = uint128((uint256(amount) + BURN_DIVISOR - 1) / BURN_DIVISOR);
        uint128 left = amount - leastBurned;
        parts.toVictim = victimAmount < left ? victimAmount : left;
        parts.toReporter = (left - parts.toVictim) / 2;
        uint128 remainder = amount - parts.toVictim - parts.toReporter;
        parts.burned = remainder - remainder / 2;
        if (parts.burned < leastBurned) parts.burned = leastBurned;
        parts.insured = remainder - parts.burned;
    }

    // ------------------------------------------------------------------ views

    /// @notice Whether `account` is a node with enough active stake.
    function isBonded(address account) external view returns (bool) {
        return isBondedAs(account, NODE);
    }

    /// @notice Whether `account` has every role in `roles` and enough active stake for all it has.
    function isBondedAs(address account, uint8 roles) public view returns (bool) {
        Operator storage operator = operators[account];
        uint8 held = operator.roles;
        return roles != 0 && held & roles == roles && operator.active >= leastStake(held);
    }

    /// @notice Whether `account` is a bonded node, and its bond, in wei: what a fault of today can surely take. That is its active stake, because stake
    /// that unbonds may leave before the fault is proven, less what is pledged, because that may leave as well, as long after it was.
    function bondOf(address account) external view returns (bool bonded, uint128 bond) {
        Operator storage operator = operators[account];
        uint8 held = operator.roles;
        uint128 active = operator.active;
        bonded = held & NODE != 0 && active >= leastStake(held);
        uint128 pledged = pledgedOf[account];
        bond = active > pledged ? active - pledged : 0;
    }

    /// @notice Active stake that a set of roles demands, in wei.
    function leastStake(uint8 roles) public view returns (uint256 least) {
        if (roles & NODE != 0) least += minStake;
        if (roles & POSTER != 0) least += minPosterStake;
        if (roles & INDEXER != 0) least += minIndexerStake;
    }

    /// @notice The account that was paid for a node's answers at the end of a block; zero before it registered.
    function payoutAt(address account, uint48 blockNumber) external view returns (address) {
        return address(uint160(payouts[account].upperLookupRecent(blockNumber)));
    }

    /// @notice Active stake, in wei.
    function stakeOf(address account) external view returns (uint128) {
        return operators[account].active;
    }

    /// @notice Stake that a fault can take, in wei: active and unbonding.
    function slashableOf(address account) external view returns (uint128) {
        return operators[account].active + operators[account].unbonding;
    }

    /// @notice Whether a fault was slashed.
    function isSlashed(bytes32 faultHash) external view returns (bool) {
        return slashOf[faultHash] != 0;
    }

    /// @notice Faults of `account` within `FAULT_MEMORY`, as far as they are kept.
    function recentFaults(address account) public view returns (uint256 faults) {
        uint256 times = operators[account].faultHours;
        for (uint256 i = 0; i < FAULTS_KEPT; ++i) {
            uint256 time = uint256(uint24(times >> (24 * i))) * 1 hours;
            if (time != 0 && time + FAULT_MEMORY > block.timestamp) ++faults;
        }
    }

    /// @notice All that is known of an operator; zeros if it never registered.
    function nodeOf(address account) external view returns (Operator memory) {
        return operators[account];
    }

    /// @notice Number of accounts that ever registered.
    function operatorCount() external view returns (uint256) {
        return accounts.length;
    }

    /// @notice Account `index` in the order of first registration.
    function operatorAt(uint256 index) external view returns (address) {
        return accounts[index];
    }

    // ------------------------------------------------------------------ private

    function requireDeployer() private view {
        if (msg.sender != deployer) revert OnlyDeployer(deployer, msg.sender);
    }

    function requireCreditDesk() private view {
        if (msg.sender != address(creditDesk)) revert OnlyCreditDesk(address(creditDesk), msg.sender);
    }

    function setPledged(address account, uint128 pledged) private {
        pledgedOf[account] = pledged;
        emit PledgeChanged(account, pledged);
    }

    /// @dev Gives the caller `roles` and the value sent.
    function take(Operator storage operator, uint8 roles) private {
        if (insurance == address(0) || !verifiersSet) revert NotSetUp();
        if (!operator.listed) {
            operator.listed = true;
            accounts.push(msg.sender);
        }
        if (roles != operator.roles) {
            operator.roles = roles;
            emit RolesChanged(msg.sender, roles);
        }
        addStake(operator, msg.value);
        uint256 least = leastStake(roles);
        if (operator.active < least) revert StakeBelowMinimum(least, operator.active);
    }

    /// @dev Keeps active and unbonding together within a uint128.
    function addStake(Operator storage operator, uint256 value) private {
        if (value == 0) return;
        uint128 before = operator.active;
        uint256 sum = uint256(before) + operator.unbonding + value;
        if (sum > type(uint128).max) revert StakeTooLarge(sum);
        operator.active = before + uint128(value);
        changed(msg.sender, operator, before);
    }

    function announce(Slash memory queued, uint8 number) private {
        emit Slashed(
            queued.faultHash,
            queued.account,
            queued.amount,
            queued.victim,
            queued.victimAmount,
            queued.lane,
            queued.reporter,
            queued.releaseAt,
            number
        );
    }

    /// @dev Takes `amount`, at most what is slashable, from active stake first.
    function takeAway(address account, Operator storage operator, uint128 amount) private {
        if (amount == 0) return;
        uint128 active = operator.active;
        uint128 fromActive = amount < active ? amount : active;
        operator.active = active - fromActive;
        operator.unbonding -= amount - fromActive;
        changed(account, operator, active);
    }

    /// @dev Remembers a fault now and says which it is within `FAULT_MEMORY`.
    function countFault(address account) private returns (uint256 number) {
        number = recentFaults(account) + 1;
        Operator storage operator = operators[account];
        // 24 bits of hours last until the year 3883.
        operator.faultHours = uint96((uint256(operator.faultHours) << 24) | uint24(block.timestamp / 1 hours));
    }

    function known(address account) private view returns (Operator storage operator) {
        operator = operators[account];
        if (!operator.listed) revert UnknownOperator(account);
    }

    function changed(address account, Operator storage operator, uint128 before) private {
        uint128 active = operator.active;
        emit StakeChanged(account, active, operator.unbonding, operator.unbondedAt);
        if (active != before) rewards.stakeChanged(account, before, active);
    }

    function pay(address payee, uint128 amount) private {
        if (amount == 0) return;
        if (!Pay.tryPay(payee, amount)) {
            owed[payee] += amount;
            emit Credited(payee, amount);
        }
    }
}
