// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Codec} from "./Codec.sol";
import {Sig} from "./Sig.sol";

/// @notice What Settlement takes from the escrow.
interface ICollectedSink {
    /// @notice Receives what `node` collected from `payer` on `lane`.
    function receiveCollected(bytes32 lane, address payer, address node) external payable;
}

/// @title Clients' deposits and the lanes they promise out of them
/// @notice A client deposits native OPEN, signs a lane to a node and then cumulative vouchers on it. Anybody may collect a voucher; the
/// money goes to Settlement alone, never to a node. A client leaves with `requestWithdraw` and, `thawSeconds` later, `withdraw`: until then
/// every voucher it signed can still be collected. The contract has no owner.
/// @dev A batch of vouchers by one payer and another's calls: whoever front-runs a collect with one of its items makes the batch revert
/// with that item's index; the sender drops the item, whose money Settlement then already has.
contract InferenceEscrow {
    /// @notice A payer's deposit. `thawing` is part of `balance`.
    struct Account {
        uint128 balance;
        uint128 thawing;
        uint64 thawedAt;
    }

    /// @notice A key that may sign lanes and vouchers for a payer.
    struct Session {
        uint128 cap;
        uint128 spent;
        uint64 expiryBlock;
        uint64 revokedAt;
    }

    /// @notice A lane with its last voucher, each with its signature (65 bytes).
    struct Item {
        bytes lane;
        bytes laneSig;
        bytes voucher;
        bytes voucherSig;
    }

    /// @notice The only contract that collected money goes to.
    ICollectedSink public immutable settlement;
    /// @notice Seconds between a request to withdraw, or to revoke a signer, and its effect.
    uint64 public immutable thawSeconds;

    /// @notice Wei collected so far, by lane.
    mapping(bytes32 => uint128) public collectedOf;
    mapping(address => Account) private accounts;
    mapping(address => mapping(address => Session)) private sessions;

    event Deposited(address indexed payer, address indexed from, uint128 amount);
    event WithdrawRequested(address indexed payer, uint128 amount, uint64 thawedAt);
    event Withdrawn(address indexed payer, uint128 amount);
    event SignerSet(address indexed payer, address indexed signer, uint128 cap, uint64 expiryBlock);
    event SignerRevoked(address indexed payer, address indexed signer, uint64 revokedAt);
    event Collected(bytes32 indexed lane, address indexed payer, address indexed node, uint128 amount, uint128 cumulative);

    error ZeroAddress(string what);
    error ZeroAmount(string what);
    error AmountTooLarge(uint256 got);
    error NotEnoughFree(uint128 balance, uint128 asked);
    error NothingThawing(address payer);
    error StillThawing(uint64 until, uint256 timeNow);
    error SignerMayOnlyGrow(uint128 cap, uint64 expiryBlock);
    error UnknownSigner(address payer, address signer);
    error NoItems();
    error ItemLength(uint256 item, string document, uint256 expected, uint256 got);
    error LaneSignature(uint256 item, address payer, address recovered);
    error VoucherSignature(uint256 item, address payer, address recovered);
    error VoucherForOtherLane(uint256 item, bytes32 expected, bytes32 got);
    error VoucherAboveLaneCap(uint256 item, uint128 cap, uint128 cumulative);
    error LaneExpired(uint256 item, uint64 expiryBlock, uint256 blockNumber);
    error VoucherNotAboveCollected(uint256 item, uint128 collected, uint128 cumulative);
    error SignerSpent(uint256 item, address signer, uint128 left, uint128 amount);

    constructor(ICollectedSink settlement_, uint64 thawSeconds_) {
        if (address(settlement_) == address(0)) revert ZeroAddress("settlement");
        settlement = settlement_;
        thawSeconds = thawSeconds_;
    }

    /// @notice Adds the value sent to the caller's deposit.
    function deposit() external payable {
        credit(msg.sender);
    }

    /// @notice Adds the value sent to the deposit of `payer`.
    function depositFor(address payer) external payable {
        if (payer == address(0)) revert ZeroAddress("payer");
        credit(payer);
    }

    /// @notice Asks to withdraw `amount` of the deposit; replaces an earlier request, and zero takes it back.
    function requestWithdraw(uint128 amount) external {
        Account storage account = accounts[msg.sender];
        if (amount > account.balance) revert NotEnoughFree(account.balance, amount);
        account.thawing = amount;
        account.thawedAt = amount == 0 ? 0 : uint64(block.timestamp) + thawSeconds;
        emit WithdrawRequested(msg.sender, amount, account.thawedAt);
    }

    /// @notice Pays out the requested amount, or what collecting has left of it.
    function withdraw() external {
        Account storage account = accounts[msg.sender];
        uint128 amount = account.thawing;
        if (amount == 0) revert NothingThawing(msg.sender);
        if (block.timestamp < account.thawedAt) revert StillThawing(account.thawedAt, block.timestamp);
        account.balance -= amount;
        account.thawing = 0;
        account.thawedAt = 0;
        emit Withdrawn(msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Lets `signer` sign lanes and vouchers worth up to `cap` wei until `expiryBlock`. While the signer is live its bounds may only
    /// grow: a node that served against them must be able to rely on them. Use `revokeSigner` to end it.
    function setSigner(address signer, uint128 cap, uint64 expiryBlock) external {
        if (signer == address(0)) revert ZeroAddress("signer");
        Session storage session = sessions[msg.sender][signer];
        bool live = block.number <= session.expiryBlock && (session.revokedAt == 0 || block.timestamp < session.revokedAt);
        if (live && (cap < session.cap || expiryBlock < session.expiryBlock)) {
            revert SignerMayOnlyGrow(session.cap, session.expiryBlock);
        }
        if (!live) session.spent = 0;
        session.cap = cap;
        session.expiryBlock = expiryBlock;
        session.revokedAt = 0;
        emit SignerSet(msg.sender, signer, cap, expiryBlock);
    }

    /// @notice Ends a signer after `thawSeconds`, in which nodes may collect what it signed.
    function revokeSigner(address signer) external {
        Session storage session = sessions[msg.sender][signer];
        if (session.expiryBlock == 0) revert UnknownSigner(msg.sender, signer);
        if (session.revokedAt == 0) session.revokedAt = uint64(block.timestamp) + thawSeconds;
        emit SignerRevoked(msg.sender, signer, session.revokedAt);
    }

    /// @notice Collects the increments of several vouchers into Settlement. Callable by anyone. An item that is wrong reverts the batch and
    /// names its index; a payer whose deposit is short is collected as far as it reaches, and the rest when it deposits again.
    function collectMany(Item[] calldata items) external {
        if (items.length == 0) revert NoItems();
        bytes32 separator = Sig.domain(address(this));
        for (uint256 i = 0; i < items.length; ++i) collect(separator, i, items[i]);
    }

    /// @notice Wei of `payer` that are not being withdrawn.
    function freeBalance(address payer) external view returns (uint128) {
        return accounts[payer].balance - accounts[payer].thawing;
    }

    /// @notice The deposit of `payer`.
    function accountOf(address payer) external view returns (Account memory) {
        return accounts[payer];
    }

    /// @notice The bounds of a payer's signer; zeros if there is none.
    function sessionOf(address payer, address signer) external view returns (Session memory) {
        return sessions[payer][signer];
    }

    function credit(address payer) private {
        if (msg.value == 0) revert ZeroAmount("deposit");
        uint256 sum = uint256(accounts[payer].balance) + msg.value;
        if (sum > type(uint128).max) revert AmountTooLarge(sum);
        accounts[payer].balance = uint128(sum);
        emit Deposited(payer, msg.sender, uint128(msg.value));
    }

    function collect(bytes32 separator, uint256 i, Item calldata item) private {
        if (item.lane.length != Codec.LANE_BYTES) revert ItemLength(i, "Lane", Codec.LANE_BYTES, item.lane.length);
        if (item.voucher.length != Codec.VOUCHER_BYTES) {
            revert ItemLength(i, "Voucher", Codec.VOUCHER_BYTES, item.voucher.length);
        }
        Codec.Lane memory lane = Codec.lane(item.lane);
        Codec.Voucher memory voucher = Codec.voucher(item.voucher);
        bytes32 laneId = keccak256(item.lane);
        if (voucher.lane != laneId) revert VoucherForOtherLane(i, laneId, voucher.lane);
        if (voucher.cumulative > lane.cap) revert VoucherAboveLaneCap(i, lane.cap, voucher.cumulative);
        if (block.number > lane.expiryBlock) revert LaneExpired(i, lane.expiryBlock, block.number);
        uint128 before = collectedOf[laneId];
        if (voucher.cumulative <= before) revert VoucherNotAboveCollected(i, before, voucher.cumulative);

        address laneSigner = Sig.signer(Sig.digest(separator, Sig.LANE, laneId), item.laneSig);
        if (!mayFor(lane.payer, laneSigner)) revert LaneSignature(i, lane.payer, laneSigner);
        address voucherSigner = Sig.signer(Sig.digest(separator, Sig.VOUCHER, keccak256(item.voucher)), item.voucherSig);
        if (!mayFor(lane.payer, voucherSigner)) revert VoucherSignature(i, lane.payer, voucherSigner);

        uint128 amount = take(lane.payer, voucher.cumulative - before);
        if (voucherSigner != lane.payer) spend(i, lane.payer, voucherSigner, amount);
        if (laneSigner != lane.payer && laneSigner != voucherSigner) spend(i, lane.payer, laneSigner, amount);
        collectedOf[laneId] = before + amount;
        emit Collected(laneId, lane.payer, lane.node, amount, before + amount);
        if (amount > 0) settlement.receiveCollected{value: amount}(laneId, lane.payer, lane.node);
    }

    /// @dev Takes up to `asked` from the deposit, thawing or not, and returns what was there.
    function take(address payer, uint128 asked) private returns (uint128 amount) {
        Account storage account = accounts[payer];
        uint128 balance = account.balance;
        amount = asked < balance ? asked : balance;
        account.balance = balance - amount;
        if (account.thawing > balance - amount) account.thawing = balance - amount;
    }

    function spend(uint256 i, address payer, address signer, uint128 amount) private {
        Session storage session = sessions[payer][signer];
        uint128 left = session.cap - session.spent;
        if (amount > left) revert SignerSpent(i, signer, left, amount);
        session.spent += amount;
    }

    function mayFor(address payer, address signer) private view returns (bool) {
        if (signer == address(0)) return false;
        if (signer == payer) return true;
        Session storage session = sessions[payer][signer];
        return session.expiryBlock != 0 && block.number <= session.expiryBlock
            && (session.revokedAt == 0 || block.timestamp < session.revokedAt);
    }
}
