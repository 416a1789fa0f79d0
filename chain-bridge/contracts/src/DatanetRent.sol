// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Pay} from "./Pay.sol";

/// @notice What the rent reads of the registry.
interface IDatanets {
    function kindOf(uint64 asset) external view returns (uint8);
    function bytesOf(uint64 datanet) external view returns (uint64);
    function contributionCount(uint64 datanet) external view returns (uint256);
    function ownerOf(uint256 asset) external view returns (address);
}

/// @notice What the rent asks of Settlement.
interface IEpochs {
    function currentEpoch() external view returns (uint64);
}

/// @title Rent for keeping a Datanet's text
/// @notice Anybody prepays a Datanet. Each epoch costs its bytes times the price per GiB; what has accrued waits for who kept the bytes, whom the auditor
/// (`AuditRent`) names, and is paid to nobody else. Until an auditor is named nothing accrues, so that all of it can be taken back. What nobody earned within
/// `CLAIM_EPOCHS` is prepaid again. The owner of a Datanet may take the unspent rest out after `delaySeconds`, whoever prepaid it: a prepayment is a
/// gift to the Datanet, and goes back to nobody else. The governor sets the price; a rise takes effect only after the same delay, in which an owner can leave.
/// @dev sum(prepaid) + sum(accrued) + sum(owed) is the balance, to the wei; a Datanet's accrued is sum(charged - paid) of its periods. The price enters
/// through an index (price summed over epochs), so that an epoch is charged at the price it had whenever it is charged; the bytes are those of the last charge,
/// so never more than were kept. No product overflows: bytes < 2^64, price < 2^96, epochs < 2^32, what a Datanet holds < 2^96.
contract DatanetRent {
    /// @notice Account of a Datanet. `remainder` is below a GiB and divides what `accrued` has in 1/2^30 wei. `bytesKept` and `contributions` are what the
    /// Datanet had at the last charge, at the beginning of `seenEpoch`: what the next charge is for.
    struct Account {
        uint128 prepaid;
        uint128 accrued;
        uint128 leaving;
        uint64 leavesAt;
        uint64 bytesKept;
        uint160 seenIndex;
        uint32 remainder;
        uint32 seenEpoch;
        uint32 contributions;
    }

    /// @notice A charge: `charged` wei for the epochs `from` to `until` - 1, in equal parts, and for the first `contributions` of the Datanet, by their
    /// bytes, which sum to `textBytes`. `paid` of it went to who kept them, or back.
    struct Period {
        uint32 from;
        uint32 until;
        uint32 contributions;
        uint64 textBytes;
        uint96 charged;
        uint96 paid;
    }

    /// @notice What of a period is to be paid, in wei.
    struct Payment {
        uint64 datanet;
        uint32 period;
        uint96 amount;
    }

    uint8 private constant KIND_DATANET = 3;
    uint256 private constant GIB = 2 ** 30;
    /// @notice What is not paid this many epochs after its period is prepaid again: a month of epochs of eight hours.
    uint64 public constant CLAIM_EPOCHS = 90;
    /// @notice Says what a Datanet is, how large, and whose.
    IDatanets public immutable registry;
    /// @notice Counts the epochs.
    IEpochs public immutable settlement;
    /// @notice Seconds until a rise of the price, or a withdrawal, takes effect.
    uint64 public immutable delaySeconds;
    address private immutable deployer;

    /// @notice Sets the price.
    address public governor;
    /// @notice The only contract that says who is paid accrued rent; zero until the deployer or the governor has named it, once.
    address public auditor;
    /// @notice The epoch that was open when the auditor was named: the first that is charged.
    uint32 public auditedFrom;
    /// @notice Price in wei per GiB and epoch.
    uint96 public price;
    /// @notice A higher price that takes effect at `priceRisesAt`; no rise is announced if that is 0.
    uint96 public nextPrice;
    /// @notice When the announced price takes effect, in seconds since 1970.
    uint64 public priceRisesAt;
    /// @notice Prices of all epochs up to `indexEpoch` that began after the auditor was named, summed.
    uint256 public priceIndex;
    /// @notice Epoch that `priceIndex` reaches to.
    uint64 public indexEpoch;

    /// @notice Wei that a payee could not take, by payee.
    mapping(address => uint256) public owed;

    mapping(uint64 => Account) private accounts;
    mapping(uint64 => Period[]) private periods;

    /// @notice `amount` is the Datanet's from now on: what rent leaves of it is its owner's to take, and not `from`'s.
    event Prepaid(uint64 indexed datanet, address indexed from, uint128 amount);
    event Accrued(uint64 indexed datanet, uint128 amount, uint64 bytesKept);
    /// @notice The `period`-th charge of the Datanet that was more than nothing.
    event Charged(uint64 indexed datanet, uint256 indexed period, uint32 from, uint32 until, uint128 amount);
    event WithdrawRequested(uint64 indexed datanet, uint128 amount, uint64 leavesAt);
    event Withdrawn(uint64 indexed datanet, address indexed owner, uint128 amount);
    event Paid(uint64 indexed datanet, address indexed payee, uint256 indexed period, uint128 amount);
    /// @notice Nobody earned `amount` of a period: it is prepaid again.
    event GivenBack(uint64 indexed datanet, uint256 indexed period, uint128 amount);
    event Credited(address indexed payee, uint256 amount);
    event OwedWithdrawn(address indexed payee, uint256 amount);
    event PriceSet(uint96 price, uint64 from);
    event AuditorSet(address auditor);
    event GovernorSet(address governor);

    error ZeroAddress(string what);
    error OnlyGovernor(address expected, address got);
    error OnlyAuditor(address expected, address got);
    error OnlyDatanetOwner(address expected, address got);
    error AuditorAlreadySet(address auditor);
    error NotADatanet(uint64 asset);
    error ZeroAmount();
    error AmountTooLarge(uint256 got);
    error NotEnough(uint128 held, uint128 asked);
    error NothingLeaving(uint64 datanet);
    error StillWaiting(uint64 until, uint256 timeNow);
    error UnknownPeriod(uint64 datanet, uint256 period);
    error ClaimsOver(uint64 lastEpoch, uint64 epochNow);
    error StillClaimable(uint64 lastEpoch, uint64 epochNow);
    error NothingUnpaid(uint64 datanet, uint256 period);
    error NothingOwed(address account);

    modifier onlyGovernor() {
        if (msg.sender != governor) revert OnlyGovernor(governor, msg.sender);
        _;
    }

    constructor(IDatanets registry_, IEpochs settlement_, address governor_, uint64 delaySeconds_, uint96 price_) {
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        if (address(settlement_) == address(0)) revert ZeroAddress("settlement");
        if (governor_ == address(0)) revert ZeroAddress("governor");
        registry = registry_;
        settlement = settlement_;
        deployer = msg.sender;
        governor = governor_;
        delaySeconds = delaySeconds_;
        price = price_;
        indexEpoch = settlement_.currentEpoch();
        emit PriceSet(price_, uint64(block.timestamp));
    }

    /// @notice Hands governance to `governor_`.
    function setGovernor(address governor_) external onlyGovernor {
        if (governor_ == address(0)) revert ZeroAddress("governor");
        governor = governor_;
        emit GovernorSet(governor_);
    }

    /// @notice Names the contract that pays audits, once: the deployer does as it deploys, or else the governor. From now on rent accrues; the epochs
    /// before it cost nothing.
    function setAuditor(address auditor_) external {
        if (msg.sender != deployer && msg.sender != governor) revert OnlyGovernor(governor, msg.sender);
        if (auditor != address(0)) revert AuditorAlreadySet(auditor);
        if (auditor_ == address(0)) revert ZeroAddress("auditor");
        advance();
        auditor = auditor_;
        auditedFrom = uint32(indexEpoch);
        emit AuditorSet(auditor_);
    }

    /// @notice Sets the price: a fall at once, a rise after `delaySeconds`. Replaces a rise that was announced and has not happened.
    function setPrice(uint96 price_) external onlyGovernor {
        advance();
        if (price_ > price) {
            nextPrice = price_;
            priceRisesAt = uint64(block.timestamp) + delaySeconds;
            emit PriceSet(price_, priceRisesAt);
        } else {
            price = price_;
            priceRisesAt = 0;
            emit PriceSet(price_, uint64(block.timestamp));
        }
    }

    /// @notice Adds the value sent to what a Datanet has prepaid. The unspent rest is the Datanet's owner's, whoever sent it.
    function prepay(uint64 datanet) external payable {
        if (registry.kindOf(datanet) != KIND_DATANET) revert NotADatanet(datanet);
        if (msg.value == 0) revert ZeroAmount();
        accrue(datanet);
        Account storage account = accounts[datanet];
        uint256 sum = uint256(account.prepaid) + msg.value;
        if (sum + account.accrued > type(uint96).max) revert AmountTooLarge(sum);
        account.prepaid = uint128(sum);
        emit Prepaid(datanet, msg.sender, uint128(msg.value));
    }

    /// @notice Charges a Datanet for the epochs since the last charge, as far as it has prepaid: nothing for those before the auditor was named.
    /// Callable by anyone.
    function accrue(uint64 datanet) public {
        advance();
        Account storage account = accounts[datanet];
        Account memory old = account;
        uint256 index = priceIndex;
        uint256 units = uint256(old.bytesKept) * (index - old.seenIndex) + old.remainder;
        uint256 charge = units / GIB;
        account.remainder = uint32(units % GIB);
        if (charge > old.prepaid) {
            // What was not prepaid is not owed: audits of these epochs go unpaid.
            charge = old.prepaid;
            account.remainder = 0;
        }
        if (charge != 0) {
            account.prepaid = old.prepaid - uint128(charge);
            account.accrued = old.accrued + uint128(charge);
            if (old.leaving > account.prepaid) account.leaving = account.prepaid;
            keep(datanet, old, uint96(charge));
        }
        account.seenIndex = uint160(index);
        // 2^32 epochs of a second last 136 years; as many contributions cost more gas than as many blocks have.
        account.seenEpoch = uint32(indexEpoch);
        account.bytesKept = registry.bytesOf(datanet);
        account.contributions = uint32(registry.contributionCount(datanet));
        emit Accrued(datanet, uint128(charge), account.bytesKept);
    }

    /// @notice Asks to take `amount` of what is prepaid out; replaces an earlier request, and zero takes it back. Rent goes on accruing.
    function requestWithdraw(uint64 datanet, uint128 amount) external {
        requireOwner(datanet);
        accrue(datanet);
        Account storage account = accounts[datanet];
        if (amount > account.prepaid) revert NotEnough(account.prepaid, amount);
        account.leaving = amount;
        account.leavesAt = amount == 0 ? 0 : uint64(block.timestamp) + delaySeconds;
        emit WithdrawRequested(datanet, amount, account.leavesAt);
    }

    /// @notice Pays the owner the amount asked for, or what rent has left of it.
    function withdraw(uint64 datanet) external {
        requireOwner(datanet);
        accrue(datanet);
        Account storage account = accounts[datanet];
        uint128 amount = account.leaving;
        if (amount == 0) revert NothingLeaving(datanet);
        if (block.timestamp < account.leavesAt) revert StillWaiting(account.leavesAt, block.timestamp);
        account.prepaid -= amount;
        account.leaving = 0;
        account.leavesAt = 0;
        emit Withdrawn(datanet, msg.sender, amount);
        Address.sendValue(payable(msg.sender), amount);
    }

    /// @notice Pays accrued rent to who kept the bytes, as the auditor says, of each period at most what was charged. A payee that refuses the money, or burns its gas, is
    /// credited.
    function pay(address payee, Payment[] calldata payments) external {
        if (msg.sender != auditor) revert OnlyAuditor(auditor, msg.sender);
        uint64 epoch = settlement.currentEpoch();
        uint256 sum = 0;
        for (uint256 i = 0; i < payments.length; ++i) {
            Payment calldata payment = payments[i];
            Period storage period = known(payment.datanet, payment.period);
            uint64 last = period.until + CLAIM_EPOCHS;
            if (epoch > last) revert ClaimsOver(last, epoch);
            uint96 paid = period.paid;
            if (payment.amount > period.charged - paid) revert NotEnough(period.charged - paid, payment.amount);
            period.paid = paid + payment.amount;
            accounts[payment.datanet].accrued -= payment.amount;
            sum += payment.amount;
            emit Paid(payment.datanet, payee, payment.period, payment.amount);
        }
        if (sum == 0) revert ZeroAmount();
        if (!Pay.tryPay(payee, sum)) {
            owed[payee] += sum;
            emit Credited(payee, sum);
        }
    }

    /// @notice Makes prepaid again what nobody earned of a period within `CLAIM_EPOCHS`. Callable by anyone.
    function giveBack(uint64 datanet, uint256 period) external {
        // What comes back is not charged for the epochs before.
        accrue(datanet);
        Period storage old = known(datanet, period);
        uint64 last = old.until + CLAIM_EPOCHS;
        if (indexEpoch <= last) revert StillClaimable(last, indexEpoch);
        uint96 left = old.charged - old.paid;
        if (left == 0) revert NothingUnpaid(datanet, period);
        old.paid = old.charged;
        Account storage account = accounts[datanet];
        account.accrued -= left;
        account.prepaid += left;
        emit GivenBack(datanet, period, left);
    }

    /// @notice Pays `account` what could not be paid before.
    function withdrawOwed(address payable account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        emit OwedWithdrawn(account, amount);
        Address.sendValue(account, amount);
    }

    /// @notice The account of a Datanet as of its last charge.
    function accountOf(uint64 datanet) external view returns (Account memory) {
        return accounts[datanet];
    }

    /// @notice Charges of a Datanet that were more than nothing.
    function periodCount(uint64 datanet) external view returns (uint256) {
        return periods[datanet].length;
    }

    /// @notice A charge of a Datanet, by its number from 0. No two are for one epoch, and they stand in the order of epochs.
    function periodOf(uint64 datanet, uint256 period) external view returns (Period memory) {
        return known(datanet, period);
    }

    /// @dev More than nothing is charged only for epochs that ended since the last charge, and since the auditor was named.
    function keep(uint64 datanet, Account memory old, uint96 charge) private {
        uint32 from = old.seenEpoch > auditedFrom ? old.seenEpoch : auditedFrom;
        uint32 until = uint32(indexEpoch);
        emit Charged(datanet, periods[datanet].length, from, until, charge);
        periods[datanet].push(
            Period({from: from, until: until, contributions: old.contributions, textBytes: old.bytesKept, charged: charge, paid: 0})
        );
    }

    function known(uint64 datanet, uint256 period) private view returns (Period storage) {
        if (period >= periods[datanet].length) revert UnknownPeriod(datanet, period);
        return periods[datanet][period];
    }

    /// @dev Brings the index up to the current epoch. An announced rise takes effect with the first call after its time. While nobody could ever be
    /// paid the rent, epochs cost nothing.
    function advance() private {
        uint64 epoch = settlement.currentEpoch();
        if (epoch > indexEpoch) {
            if (auditor != address(0)) priceIndex += uint256(price) * (epoch - indexEpoch);
            indexEpoch = epoch;
        }
        if (priceRisesAt != 0 && block.timestamp >= priceRisesAt) {
            price = nextPrice;
            priceRisesAt = 0;
        }
    }

    function requireOwner(uint64 datanet) private view {
        address owner = registry.ownerOf(datanet);
        if (owner != msg.sender) revert OnlyDatanetOwner(owner, msg.sender);
    }
}
