// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Codec} from "./Codec.sol";
import {Sig} from "./Sig.sol";

/// @notice What Settlement takes from the escrow.
interface ICollectedSink {
    /// @notice Receives what a batch collected.
    function receiveCollected() external payable;

    /// @notice The last epoch whose window W1 has ended; 0 before the first.
    function lastDue() external view returns (uint64);
}

/// @notice What the escrow asks of StakeManager.
interface IStakeDesk {
    /// @notice Seconds between `unbond` and `withdraw`.
    function unbondingSeconds() external view returns (uint64);

    /// @notice Promises `amount` more of an account's stake to a payer.
    function pledge(address account, uint128 amount) external;

    /// @notice Ends a promise of `amount`.
    function unpledge(address account, uint128 amount) external;

    /// @notice Takes up to `amount` of an account's stake into the deposit of `payer`, ends the promise of what was taken and says how much.
    function debit(address account, address payer, uint128 amount) external returns (uint128 paid);

    /// @notice Whether an account is one of the fault verifiers.
    function isVerifier(address account) external view returns (bool);
}

/// @title Clients' deposits and the lanes they promise out of them
/// @notice A client deposits native OPEN, signs a lane to a node and then cumulative vouchers on it. Anybody may collect a voucher; the
/// money goes to Settlement alone, never to a node. A client leaves with `requestWithdraw` and, `thawSeconds` later, `withdraw`: until then
/// every voucher it signed can still be collected. A node that owes a client gives it a credit note and pays it with money of its own; one
/// that it does not pay in time is paid out of its stake. The contract has no owner.
/// @dev sum(deposits) = sum(balances) + withdrawn + collected, to the wei. A batch of vouchers by one payer and another's calls: whoever front-runs a collect with one of its items makes the batch revert
/// with that item's index; the sender drops the item, whose money Settlement then already has.
contract InferenceEscrow {
    /// @notice A payer's deposit. `thawing` is part of `balance`.
    struct Account {
        uint128 balance;
        uint128 thawing;
        uint64 thawedAt;
    }

    /// @notice A key that may sign requests, lanes and vouchers for a payer.
    struct Session {
        uint128 cap;
        uint128 spent;
        uint64 expiryBlock;
        uint64 revokedAt;
    }

    /// @dev One word. `boundary` is the last epoch whose W1 had ended at the lane's last collect, `since` what was collected after that end, or its
    /// largest value if that is more (a million OPEN). `bySession`: the lane was signed by a session key, which `laneSignerOf` names. `closed`: its
    /// refund was asked for.
    struct LaneState {
        uint128 collected;
        uint80 since;
        uint32 boundary;
        bool bySession;
        bool closed;
    }

    /// @dev What a lane's payer was given back of what the lane collected, never more in all: claimed by credit notes and not given
    /// up, and as victim of slashes.
    struct Returned {
        uint128 credited;
        uint128 refunded;
    }

    /// @notice State of a credit claim.
    enum CreditState {
        None,
        Open,
        Ended,
        GivenUp
    }

    /// @notice A claim on a credit note: wei not yet paid, and from when the node's stake pays them.
    struct CreditClaim {
        uint128 amount;
        uint64 settleFrom;
        CreditState state;
    }

    /// @notice A lane with its last voucher, each with its signature (65 bytes). The lane's is needed only for its first collect and may
    /// be empty afterwards.
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

    /// @notice Holds the stake that unpaid credit notes are paid from.
    IStakeDesk public immutable stakeManager;
    /// @notice Seconds that a node has to pay a claimed credit note before its stake does; no less than stake takes to unbond, so that a note takes
    /// no stake out of reach of a fault that unbonding would not.
    uint64 public immutable honourSeconds;

    mapping(bytes32 => LaneState) private lanes;
    mapping(bytes32 => address) private laneSignerOf;
    mapping(bytes32 => Returned) private returned;
    mapping(bytes32 => mapping(bytes32 => CreditClaim)) private credits;
    mapping(address => Account) private accounts;
    mapping(address => mapping(address => Session)) private sessions;

    event Deposited(address indexed payer, address indexed from, uint128 amount);
    event WithdrawRequested(address indexed payer, uint128 amount, uint64 thawedAt);
    event Withdrawn(address indexed payer, uint128 amount);
    event SignerSet(address indexed payer, address indexed signer, uint128 cap, uint64 expiryBlock);
    event SignerRevoked(address indexed payer, address indexed signer, uint64 revokedAt);
    /// @notice A lane's first collect, with the lane's body: whoever releases a slash for one of its receipts needs it.
    event LaneOpened(bytes32 indexed lane, bytes body);
    event Collected(bytes32 indexed lane, address indexed payer, address indexed node, uint128 amount, uint128 cumulative);
    event CreditClaimed(
        bytes32 indexed lane, bytes32 indexed request, address indexed node, address payer, uint128 amount, uint64 settleFrom
    );
    event CreditPaid(bytes32 indexed lane, bytes32 indexed request, address indexed node, address payer, uint128 amount);
    /// @notice A claim was paid out of stake, as far as that reaches; or, where nothing is paid and nothing left, given up.
    event CreditSettled(bytes32 indexed lane, bytes32 indexed request, address indexed node, address payer, uint128 paid, uint128 left);

    error ZeroAddress(string what);
    error ZeroAmount(string what);
    error AmountTooLarge(uint256 got);
    error NotEnoughFree(uint128 balance, uint128 asked);
    error NothingThawing(address payer);
    error StillThawing(uint64 until, uint256 timeNow);
    error SignerMayOnlyGrow(uint128 cap, uint64 expiryBlock);
    error UnknownSigner(address payer, address signer);
    error ZeroExpiry(address signer);
    error NoItems();
    error ItemLength(uint256 item, string document, uint256 expected, uint256 got);
    error LaneSignature(uint256 item, address payer, address recovered);
    error VoucherSignature(uint256 item, address payer, address recovered);
    error VoucherForOtherLane(uint256 item, bytes32 expected, bytes32 got);
    error VoucherAboveLaneCap(uint256 item, uint128 cap, uint128 cumulative);
    error LaneExpired(uint256 item, uint64 expiryBlock, uint256 blockNumber);
    error VoucherNotAboveCollected(uint256 item, uint128 collected, uint128 cumulative);
    error SignerSpent(uint256 item, address signer, uint128 left, uint128 amount);
    error OnlyPayer(address expected, address got);
    error CreditForOtherLane(bytes32 expected, bytes32 got);
    error CreditExpired(uint64 expiryBlock, uint256 blockNumber);
    error CreditAmount(uint128 most, uint128 got);
    error CreditSignature(address node, address recovered);
    error CreditNotCollected(uint128 collected, uint128 cumulative);
    error CreditAboveCollected(uint128 collected, uint256 returned);
    error CreditKnown(bytes32 lane, bytes32 request);
    error CreditNotOpen(bytes32 lane, bytes32 request);
    error CreditValue(uint128 expected, uint256 got);
    error CreditWindow(uint64 settleFrom, uint256 timeNow);
    error NothingToDebit(address node);
    error HonourTooShort(uint64 least, uint64 got);
    error OnlyStakeManager(address expected, address got);
    error OnlyVerifier(address got);
    error LaneClosed(bytes32 lane);
    error NothingLeft(bytes32 lane);
    error LaneBody(bytes32 expected, bytes32 got);

    /// @param settlement_ Receives what is collected.
    /// @param stakeManager_ Pays credit notes that their node does not.
    /// @param thawSeconds_ 7 days on a public network.
    /// @param honourSeconds_ See `honourSeconds`; long enough for a node to notice a claim and pay it, too.
    constructor(ICollectedSink settlement_, IStakeDesk stakeManager_, uint64 thawSeconds_, uint64 honourSeconds_) {
        if (address(settlement_) == address(0)) revert ZeroAddress("settlement");
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        uint64 unbonding = stakeManager_.unbondingSeconds();
        if (honourSeconds_ < unbonding) revert HonourTooShort(unbonding, honourSeconds_);
        settlement = settlement_;
        stakeManager = stakeManager_;
        thawSeconds = thawSeconds_;
        honourSeconds = honourSeconds_;
    }

    // ------------------------------------------------------------------ deposits

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

    /// @notice Lets `signer` sign requests, and lanes and vouchers worth up to `cap` wei, until `expiryBlock`, which is not 0. While the signer
    /// is live its bounds may only grow: a node that served against them must be able to rely on them. Use `revokeSigner` to end it; that there
    /// was one stays on record, because a node may have to show what it was asked by.
    function setSigner(address signer, uint128 cap, uint64 expiryBlock) external {
        if (signer == address(0)) revert ZeroAddress("signer");
        if (expiryBlock == 0) revert ZeroExpiry(signer);
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
        uint64 due = settlement.lastDue();
        uint256 sum = 0;
        for (uint256 i = 0; i < items.length; ++i) sum += collect(separator, due, i, items[i]);
        if (sum > 0) settlement.receiveCollected{value: sum}();
    }

    // ------------------------------------------------------------------ credit notes

    /// @notice Claims a credit note, once per request of a lane. Only the payer may, because a node could else use the claim up with a smaller
    /// note. The node's payment, or its stake, ends it. Until then the amount is pledged: no fee of the node is let open against that much of its
    /// stake, so that nobody takes bonded stake out by notes to himself.
    /// @param laneBody Lane of Protocol P4.
    /// @param note CreditNote of Protocol P4, by the lane's node; its cumulative must have been collected.
    /// @param signature The node's, over `note`.
    function claimCredit(bytes calldata laneBody, bytes calldata note, bytes calldata signature) external {
        Codec.Lane memory lane = Codec.lane(laneBody);
        Codec.CreditNote memory given = Codec.creditNote(note);
        bytes32 laneId = keccak256(laneBody);
        if (msg.sender != lane.payer) revert OnlyPayer(lane.payer, msg.sender);
        if (given.lane != laneId) revert CreditForOtherLane(laneId, given.lane);
        if (block.number > given.expiryBlock) revert CreditExpired(given.expiryBlock, block.number);
        if (given.amount == 0 || given.amount > given.cumulative) revert CreditAmount(given.cumulative, given.amount);
        address signer = Sig.signer(Sig.digest(Sig.domain(address(this)), Sig.CREDIT_NOTE, keccak256(note)), signature);
        if (signer == address(0) || signer != lane.node) revert CreditSignature(lane.node, signer);
        // What was never charged needs no credit; and a node cannot move more stake out this way than its lane brought in.
        LaneState storage state = lanes[laneId];
        if (state.closed) revert LaneClosed(laneId);
        uint128 collected = state.collected;
        if (collected < given.cumulative) revert CreditNotCollected(collected, given.cumulative);
        Returned storage back = returned[laneId];
        uint256 sum = uint256(back.credited) + back.refunded + given.amount;
        if (sum > collected) revert CreditAboveCollected(collected, sum);
        CreditClaim storage claim = credits[laneId][given.request];
        if (claim.state != CreditState.None) revert CreditKnown(laneId, given.request);

        back.credited += given.amount;
        claim.amount = given.amount;
        claim.settleFrom = uint64(block.timestamp) + honourSeconds;
        claim.state = CreditState.Open;
        emit CreditClaimed(laneId, given.request, lane.node, lane.payer, given.amount, claim.settleFrom);
        stakeManager.pledge(lane.node, given.amount);
    }

    /// @notice Pays a claim: the value sent, exactly what is left of it, goes into the payer's deposit, and the claim ends. Callable by anyone,
    /// meant for the node, whose own money a credit is: the answer's payees keep what they were paid, and the lane's count never falls.
    function payCredit(bytes calldata laneBody, bytes32 request) external payable {
        Codec.Lane memory lane = Codec.lane(laneBody);
        bytes32 laneId = keccak256(laneBody);
        CreditClaim storage claim = openCredit(laneId, request);
        uint128 amount = claim.amount;
        if (msg.value != amount) revert CreditValue(amount, msg.value);
        claim.amount = 0;
        claim.state = CreditState.Ended;
        emit CreditPaid(laneId, request, lane.node, lane.payer, amount);
        credit(lane.payer);
        stakeManager.unpledge(lane.node, amount);
    }

    /// @notice Pays a claim that nobody paid within `honourSeconds` out of the node's stake into the payer's deposit. What the stake does not
    /// reach stays open. Callable by anyone.
    function settleCredit(bytes calldata laneBody, bytes32 request) external {
        Codec.Lane memory lane = Codec.lane(laneBody);
        bytes32 laneId = keccak256(laneBody);
        CreditClaim storage claim = openCredit(laneId, request);
        if (block.timestamp < claim.settleFrom) revert CreditWindow(claim.settleFrom, block.timestamp);
        uint128 amount = claim.amount;
        claim.amount = 0;
        claim.state = CreditState.Ended;
        uint128 paid = stakeManager.debit(lane.node, lane.payer, amount);
        if (paid == 0) revert NothingToDebit(lane.node);
        if (paid < amount) {
            claim.amount = amount - paid;
            claim.state = CreditState.Open;
        }
        emit CreditSettled(laneId, request, lane.node, lane.payer, paid, amount - paid);
    }

    /// @notice Gives up what is left of a claim, which then counts as given back no more: a slash may repay it, or the lane's refund. For a node without
    /// stake, whose note nobody will pay. Only the payer may, and not once the refund was asked for. The request's note stays used up.
    function dropCredit(bytes calldata laneBody, bytes32 request) external {
        Codec.Lane memory lane = Codec.lane(laneBody);
        bytes32 laneId = keccak256(laneBody);
        if (msg.sender != lane.payer) revert OnlyPayer(lane.payer, msg.sender);
        if (lanes[laneId].closed) revert LaneClosed(laneId);
        CreditClaim storage claim = openCredit(laneId, request);
        uint128 amount = claim.amount;
        claim.amount = 0;
        claim.state = CreditState.GivenUp;
        returned[laneId].credited -= amount;
        emit CreditSettled(laneId, request, lane.node, lane.payer, 0, 0);
        stakeManager.unpledge(lane.node, amount);
    }

    // ------------------------------------------------------------------ refunds out of slashes

    /// @notice What the victim of a slash was really charged and was not given back: what the lane collected, less that, and nothing unless the lane is
    /// the victim's to the slashed node, nor after its refund was asked for.
    /// @dev Else a node could name a friend as the client of a receipt that nobody paid, have itself slashed for it, and so withdraw stake that
    /// is bound. A lane's payer is on chain only in the lane's body, which `LaneOpened` tells.
    /// @param laneId Hash of the lane's body; `laneBody` may be empty if the lane collected nothing.
    function chargedOf(bytes32 laneId, bytes calldata laneBody, address node, address client) external view returns (uint128 amount) {
        LaneState storage state = lanes[laneId];
        uint128 collected = state.collected;
        if (collected == 0 || state.closed) return 0;
        if (keccak256(laneBody) != laneId) revert LaneBody(laneId, keccak256(laneBody));
        Codec.Lane memory lane = Codec.lane(laneBody);
        if (lane.payer != client || lane.node != node) return 0;
        Returned storage back = returned[laneId];
        return collected - back.credited - back.refunded;
    }

    /// @notice Counts what a slash paid back on a lane. Called by StakeManager, which pays it.
    function countRefund(bytes32 laneId, uint128 amount) external {
        if (msg.sender != address(stakeManager)) revert OnlyStakeManager(address(stakeManager), msg.sender);
        Returned storage back = returned[laneId];
        uint128 collected = lanes[laneId].collected;
        uint256 sum = uint256(back.credited) + back.refunded + amount;
        if (sum > collected) revert CreditAboveCollected(collected, sum);
        back.refunded += amount;
    }

    /// @notice Ends what notes and slashes may give back on a lane, because its payer asks for the refund of what is left, and says what they gave
    /// back so far. Called by the verifier of payouts. Notes that were claimed before are paid all the same. Refused if all was given back, or nothing
    /// collected: a refund takes a line in a payout tree, which must cost its payer a lane that paid something.
    /// @dev Whether a stretch of a lane that no receipt may be paid for is repaid by a slash or by the refund, it is repaid once: the refund is less
    /// what was given back before it, and nothing is given back after it.
    function closeLane(bytes32 laneId) external returns (uint128 givenBack) {
        if (!stakeManager.isVerifier(msg.sender)) revert OnlyVerifier(msg.sender);
        LaneState storage state = lanes[laneId];
        Returned storage back = returned[laneId];
        givenBack = back.credited + back.refunded;
        if (givenBack >= state.collected) revert NothingLeft(laneId);
        state.closed = true;
    }

    // ------------------------------------------------------------------ views

    /// @notice Wei collected so far on a lane.
    function collectedOf(bytes32 lane) external view returns (uint128) {
        return lanes[lane].collected;
    }

    /// @notice Wei that a lane had collected when W1 of `epoch`, which must have ended, did. Unknown if the lane collected after W1 of a later epoch
    /// had ended, too. A receipt is paid if that covers it.
    function collectedBy(bytes32 lane, uint64 epoch) external view returns (bool known, uint128 amount) {
        LaneState storage state = lanes[lane];
        if (state.boundary < epoch) return (true, state.collected);
        if (state.boundary > epoch || state.since == type(uint80).max) return (false, 0);
        return (true, state.collected - state.since);
    }

    /// @notice Whether a lane's refund was asked for, after which nothing else is given back on it.
    function isClosed(bytes32 lane) external view returns (bool) {
        return lanes[lane].closed;
    }

    /// @notice Wei claimed by credit notes so far and not given up, by lane.
    function creditedOf(bytes32 lane) external view returns (uint128) {
        return returned[lane].credited;
    }

    /// @notice Wei that slashes have paid back so far, by lane. With `creditedOf` never more than was collected on it.
    function refundedOf(bytes32 lane) external view returns (uint128) {
        return returned[lane].refunded;
    }

    /// @notice The claim on a credit note; zeros if there is none.
    function creditOf(bytes32 lane, bytes32 request) external view returns (CreditClaim memory) {
        return credits[lane][request];
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

    function collect(bytes32 separator, uint64 due, uint256 i, Item calldata item) private returns (uint128 amount) {
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
        LaneState storage state = lanes[laneId];
        uint128 before = state.collected;
        if (voucher.cumulative <= before) revert VoucherNotAboveCollected(i, before, voucher.cumulative);

        address laneSigner = signerOfLane(separator, i, item.laneSig, laneId, lane.payer);
        address voucherSigner = Sig.signer(Sig.digest(separator, Sig.VOUCHER, keccak256(item.voucher)), item.voucherSig);
        if (!mayFor(lane.payer, voucherSigner)) revert VoucherSignature(i, lane.payer, voucherSigner);

        amount = take(lane.payer, voucher.cumulative - before);
        if (voucherSigner != lane.payer) spend(i, lane.payer, voucherSigner, amount);
        if (laneSigner != lane.payer && laneSigner != voucherSigner) spend(i, lane.payer, laneSigner, amount);
        state.collected = before + amount;
        keepBoundary(state, due, amount);
        if (before == 0 && amount > 0) emit LaneOpened(laneId, item.lane);
        emit Collected(laneId, lane.payer, lane.node, amount, before + amount);
    }

    /// @dev Keeps apart what was collected before W1 of epoch `due` ended and what after.
    function keepBoundary(LaneState storage state, uint64 due, uint128 amount) private {
        uint256 since = (state.boundary == due ? state.since : 0) + uint256(amount);
        state.since = since > type(uint80).max ? type(uint80).max : uint80(since);
        // 2^32 epochs of a second last 136 years.
        state.boundary = uint32(due);
    }

    /// @dev Who signed the lane, who must still be allowed to. After the first collect that is known without the signature; one that is
    /// given all the same counts, so that the payer can confirm the lane of a session key that has ended.
    function signerOfLane(bytes32 separator, uint256 i, bytes calldata signature, bytes32 laneId, address payer)
        private
        returns (address signer)
    {
        LaneState storage state = lanes[laneId];
        if (state.collected == 0 || signature.length != 0) {
            signer = Sig.signer(Sig.digest(separator, Sig.LANE, laneId), signature);
            if (signer != payer) {
                state.bySession = true;
                laneSignerOf[laneId] = signer;
            } else if (state.bySession) {
                state.bySession = false;
            }
        } else {
            signer = state.bySession ? laneSignerOf[laneId] : payer;
        }
        if (!mayFor(payer, signer)) revert LaneSignature(i, payer, signer);
    }

    function openCredit(bytes32 laneId, bytes32 request) private view returns (CreditClaim storage claim) {
        claim = credits[laneId][request];
        if (claim.state != CreditState.Open) revert CreditNotOpen(laneId, request);
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
