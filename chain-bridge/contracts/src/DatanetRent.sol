// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @notice What the rent reads of the registry.
interface IDatanets {
    function kindOf(uint64 asset) external view returns (uint8);
    function bytesOf(uint64 datanet) external view returns (uint64);
    function ownerOf(uint256 asset) external view returns (address);
}

/// @notice What the rent asks of Settlement.
interface IEpochs {
    function currentEpoch() external view returns (uint64);
    function receiveCollected() external payable;
}

/// @title Rent for keeping a Datanet's text
/// @notice Anybody prepays a Datanet. Each epoch costs its bytes times the price per GiB; what has accrued waits for audit receipts, whose
/// auditor may send it to Settlement and nowhere else. Until an auditor is named nothing accrues, so that all of it can be taken back. The
/// owner of a Datanet may take the unspent rest out after `delaySeconds`, whoever prepaid it: a prepayment is a gift to the Datanet, and goes back
/// to nobody else. The governor sets the price; a rise takes effect only after the same delay, in which an owner can leave.
/// @dev sum(prepaid) + sum(accrued) is the balance, to the wei. The price enters through an index (price summed over epochs), so that an
/// epoch is charged at the price it had whenever it is charged; the bytes are those of the last charge, so never more than were kept.
/// No product overflows: bytes < 2^64, price < 2^96, epochs < 2^64.
contract DatanetRent {
    /// @notice Account of a Datanet. `remainder` is below a GiB and divides what `accrued` has in 1/2^30 wei.
    struct Account {
        uint128 prepaid;
        uint128 accrued;
        uint128 leaving;
        uint64 leavesAt;
        uint64 bytesKept;
        uint256 seenIndex;
        uint256 remainder;
    }

    uint8 private constant KIND_DATANET = 3;
    uint256 private constant GIB = 2 ** 30;
    /// @notice Says what a Datanet is, how large, and whose.
    IDatanets public immutable registry;
    /// @notice Counts the epochs, and receives what auditors earn.
    IEpochs public immutable settlement;
    /// @notice Seconds until a rise of the price, or a withdrawal, takes effect.
    uint64 public immutable delaySeconds;

    /// @notice Sets the price and names the auditor.
    address public governor;
    /// @notice The only contract that may move accrued rent, to Settlement; zero until the governor has named it, once.
    address public auditor;
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

    mapping(uint64 => Account) private accounts;

    /// @notice `amount` is the Datanet's from now on: what rent leaves of it is its owner's to take, and not `from`'s.
    event Prepaid(uint64 indexed datanet, address indexed from, uint128 amount);
    event Accrued(uint64 indexed datanet, uint128 amount, uint64 bytesKept);
    event WithdrawRequested(uint64 indexed datanet, uint128 amount, uint64 leavesAt);
    event Withdrawn(uint64 indexed datanet, address indexed owner, uint128 amount);
    event Paid(uint64 indexed datanet, uint128 amount);
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

    /// @notice Names the contract that pays audits, once. From now on rent accrues; the epochs before it cost nothing.
    function setAuditor(address auditor_) external onlyGovernor {
        if (auditor != address(0)) revert AuditorAlreadySet(auditor);
        if (auditor_ == address(0)) revert ZeroAddress("auditor");
        advance();
        auditor = auditor_;
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
        if (sum + account.accrued > type(uint128).max) revert AmountTooLarge(sum);
        account.prepaid = uint128(sum);
        emit Prepaid(datanet, msg.sender, uint128(msg.value));
    }

    /// @notice Charges a Datanet for the epochs since the last charge, as far as it has prepaid: nothing for those before the auditor was named.
    /// Callable by anyone.
    function accrue(uint64 datanet) public {
        advance();
        Account storage account = accounts[datanet];
        uint256 index = priceIndex;
        uint256 units = uint256(account.bytesKept) * (index - account.seenIndex) + account.remainder;
        uint256 charge = units / GIB;
        account.remainder = units % GIB;
        if (charge > account.prepaid) {
            // What was not prepaid is not owed: audits of these epochs go unpaid.
            charge = account.prepaid;
            account.remainder = 0;
        }
        account.prepaid -= uint128(charge);
        account.accrued += uint128(charge);
        if (account.leaving > account.prepaid) account.leaving = account.prepaid;
        account.seenIndex = index;
        account.bytesKept = registry.bytesOf(datanet);
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

    /// @notice Sends accrued rent to Settlement, where audit receipts are paid from.
    function pay(uint64 datanet, uint128 amount) external {
        if (msg.sender != auditor) revert OnlyAuditor(auditor, msg.sender);
        accrue(datanet);
        Account storage account = accounts[datanet];
        if (amount == 0 || amount > account.accrued) revert NotEnough(account.accrued, amount);
        account.accrued -= amount;
        emit Paid(datanet, amount);
        settlement.receiveCollected{value: amount}();
    }

    /// @notice The account of a Datanet as of its last charge.
    function accountOf(uint64 datanet) external view returns (Account memory) {
        return accounts[datanet];
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
