// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title Stake of nodes, indexers, posters and checkers
/// @notice Holds native OPEN that a proven fault can take. Stake stays slashable until it has been withdrawn, which is possible only after
/// `unbondingSeconds`: longer than a fault can take to be proven. The contract has no owner; its verifier is named once by the deployer.
/// @dev A node key is not checked for possession here (no ed25519 in the EVM), and several accounts may name one key. Peers believe a
/// registration where the key's own signed ad names the same account, never by the key alone.
contract StakeManager {
    /// @notice What is known of an operator. `active + unbonding` is slashable.
    struct Operator {
        bytes32 nodeId;
        uint64 incarnation;
        uint64 unbondedAt;
        address payout;
        uint128 active;
        uint128 unbonding;
    }

    /// @notice How a slash is divided, in wei.
    struct Division {
        uint128 toVictim;
        uint128 toReporter;
        uint128 burned;
        uint128 insured;
    }

    /// @notice Where slashed stake that has neither a victim nor a reporter is sent to lie for ever.
    address public constant BURN = 0x000000000000000000000000000000000000dEaD;
    /// @notice At least this part of every slash is burned, so that slashing oneself never pays: one tenth.
    uint256 public constant BURN_DIVISOR = 10;
    /// @notice Gas given to a payee of a slash; a payee that needs more is credited and withdraws.
    uint256 public constant PAYEE_GAS = 50_000;

    /// @notice Seconds between `unbond` and `withdraw`.
    uint64 public immutable unbondingSeconds;
    /// @notice Least active stake, in wei, of a bonded operator.
    uint128 public immutable minStake;
    /// @notice Receives the part of a slash that is not burned and has no other payee.
    address public immutable insurance;
    address private immutable deployer;

    /// @notice The only contract that may slash; zero until the deployer has named it.
    address public verifier;
    /// @notice Wei that a payee could not take when it was slashed for, by payee.
    mapping(address => uint256) public owed;

    mapping(address => Operator) private operators;
    address[] private accounts;

    event NodeRegistered(address indexed account, bytes32 indexed nodeId, uint64 incarnation, address payout, uint128 stake);
    event StakeChanged(address indexed account, uint128 active, uint128 unbonding, uint64 unbondedAt);
    event Slashed(
        address indexed account,
        uint128 amount,
        address indexed victim,
        uint128 victimAmount,
        address indexed reporter,
        uint128 reporterAmount,
        uint128 burned,
        uint128 insured,
        bytes32 faultHash
    );
    event Withdrawn(address indexed account, uint128 amount);
    event VerifierSet(address verifier);

    error OnlyVerifier(address expected, address got);
    error OnlyDeployer(address expected, address got);
    error VerifierAlreadySet(address verifier);
    error ZeroAddress(string what);
    error ZeroNodeId();
    error StakeBelowMinimum(uint128 minimum, uint256 got);
    error IncarnationMustRise(uint64 expectedAbove, uint64 got);
    error UnknownOperator(address account);
    error NotEnoughStake(uint128 active, uint128 asked);
    error NothingUnbonding(address account);
    error StillUnbonding(uint64 until, uint256 timeNow);
    error NothingOwed(address account);
    error SlashAmount(uint128 slashable, uint128 asked);
    error StakeTooLarge(uint256 got);

    /// @param unbondingSeconds_ 14 days on a public network.
    /// @param minStake_ Least stake of a bonded operator, in wei.
    /// @param insurance_ Account of the insurance pool.
    constructor(uint64 unbondingSeconds_, uint128 minStake_, address insurance_) {
        if (insurance_ == address(0)) revert ZeroAddress("insurance");
        unbondingSeconds = unbondingSeconds_;
        minStake = minStake_;
        insurance = insurance_;
        deployer = msg.sender;
    }

    /// @notice Names the fault verifier, once.
    function setVerifier(address verifier_) external {
        if (msg.sender != deployer) revert OnlyDeployer(deployer, msg.sender);
        if (verifier != address(0)) revert VerifierAlreadySet(verifier);
        if (verifier_ == address(0)) revert ZeroAddress("verifier");
        verifier = verifier_;
        emit VerifierSet(verifier_);
    }

    /// @notice Registers the caller's node, or a restart of it, and adds the value sent to its stake.
    /// @param nodeId ed25519 key of the node.
    /// @param incarnation Rises with every registration, so that peers can tell a restarted node from an old message.
    /// @param payout Account that is to be paid for the node's answers.
    function stake(bytes32 nodeId, uint64 incarnation, address payout) external payable {
        if (nodeId == 0) revert ZeroNodeId();
        if (payout == address(0)) revert ZeroAddress("payout");
        Operator storage operator = operators[msg.sender];
        if (operator.nodeId == 0) accounts.push(msg.sender);
        else if (incarnation <= operator.incarnation) revert IncarnationMustRise(operator.incarnation, incarnation);
        addStake(operator, msg.value);
        if (operator.active < minStake) revert StakeBelowMinimum(minStake, operator.active);
        operator.nodeId = nodeId;
        operator.incarnation = incarnation;
        operator.payout = payout;
        emit NodeRegistered(msg.sender, nodeId, incarnation, payout, operator.active);
    }

    /// @notice Adds the value sent to the caller's stake.
    function increase() external payable {
        addStake(known(msg.sender), msg.value);
    }

    /// @notice Starts to withdraw part of the stake. A second call adds to the first and starts its wait anew.
    function unbond(uint128 amount) external {
        Operator storage operator = known(msg.sender);
        if (amount == 0 || amount > operator.active) revert NotEnoughStake(operator.active, amount);
        operator.active -= amount;
        operator.unbonding += amount;
        operator.unbondedAt = uint64(block.timestamp) + unbondingSeconds;
        changed(msg.sender, operator);
    }

    /// @notice Pays out what has been unbonding for `unbondingSeconds`.
    function withdraw() external {
        Operator storage operator = known(msg.sender);
        uint128 amount = operator.unbonding;
        if (amount == 0) revert NothingUnbonding(msg.sender);
        if (block.timestamp < operator.unbondedAt) revert StillUnbonding(operator.unbondedAt, block.timestamp);
        operator.unbonding = 0;
        operator.unbondedAt = 0;
        changed(msg.sender, operator);
        emit Withdrawn(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Takes `amount` of an operator's stake for a proven fault: the victim first, then at most half of the rest to the reporter,
    /// the remainder half burned and half to the insurance pool. At least a tenth of the whole is burned.
    /// @param victimAmount What the victim lost; paid as far as the slash reaches.
    /// @param faultHash Names the fault in the event.
    function slash(address account, uint128 amount, address victim, uint128 victimAmount, address reporter, bytes32 faultHash)
        external
    {
        if (msg.sender != verifier) revert OnlyVerifier(verifier, msg.sender);
        Operator storage operator = known(account);
        uint128 slashable = operator.active + operator.unbonding;
        if (amount == 0 || amount > slashable) revert SlashAmount(slashable, amount);

        uint128 fromActive = amount < operator.active ? amount : operator.active;
        operator.active -= fromActive;
        operator.unbonding -= amount - fromActive;
        changed(account, operator);

        Division memory parts = divide(amount, victimAmount);
        emit Slashed(
            account, amount, victim, parts.toVictim, reporter, parts.toReporter, parts.burned, parts.insured, faultHash
        );
        pay(victim, parts.toVictim);
        pay(reporter, parts.toReporter);
        pay(BURN, parts.burned);
        pay(insurance, parts.insured);
    }

    /// @notice Pays `account` what a slash could not.
    function withdrawOwed(address payable account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        Address.sendValue(account, amount);
    }

    /// @notice How a slash of `amount` is divided; the four parts sum to it, and `burned` is never zero.
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

    /// @notice Whether `account` holds enough active stake to act: answer, post, index or check.
    function isBonded(address account) public view returns (bool) {
        Operator storage operator = operators[account];
        return operator.nodeId != 0 && operator.active >= minStake;
    }

    /// @notice Active stake, in wei.
    function stakeOf(address account) external view returns (uint128) {
        return operators[account].active;
    }

    /// @notice Stake that a fault can take, in wei: active and unbonding.
    function slashableOf(address account) external view returns (uint128) {
        return operators[account].active + operators[account].unbonding;
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

    function addStake(Operator storage operator, uint256 value) private {
        if (value == 0) return;
        uint256 sum = uint256(operator.active) + value;
        if (sum > type(uint128).max) revert StakeTooLarge(sum);
        operator.active = uint128(sum);
        changed(msg.sender, operator);
    }

    function known(address account) private view returns (Operator storage operator) {
        operator = operators[account];
        if (operator.nodeId == 0) revert UnknownOperator(account);
    }

    function changed(address account, Operator storage operator) private {
        emit StakeChanged(account, operator.active, operator.unbonding, operator.unbondedAt);
    }

    /// @dev No payee can stop a slash: one that refuses, or burns its gas, is credited instead. Returned data is never copied.
    function pay(address payee, uint128 amount) private {
        if (amount == 0) return;
        bool paid;
        uint256 payeeGas = PAYEE_GAS;
        assembly ("memory-safe") {
            paid := call(payeeGas, payee, amount, 0, 0, 0, 0)
        }
        if (!paid) owed[payee] += amount;
    }
}
