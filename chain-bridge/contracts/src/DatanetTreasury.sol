// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {AssetRegistry} from "./AssetRegistry.sol";
import {Pay} from "./Pay.sol";
import {ISettlement} from "./Ports.sol";

/// @title What the treasuries of Datanets earn, streamed to who contributed the text
/// @notice Settlement pays here what a payout gives to a Datanet's treasury, to whose address nobody has a key. It is divided over the
/// contributions that entered, by their bytes of text, through an index: what a payment costs does not depend on their number. Anybody enters a
/// contribution, once, `delaySeconds` after it was accepted; it shares in what comes in from then on. While none has entered the money waits,
/// and for `delaySeconds` after the first one did, so that whoever enters first does not take what waited. The registry takes no contribution
/// back: one that was accepted stays. What is paid to a treasury into whose Datanet nothing was accepted by then, or of an asset that is no
/// Datanet, goes to the insurance pool, as every data pot that nobody can take: never to an owner, who could else declare an empty Datanet and
/// earn by it. The contract has no owner.
/// @dev To the wei, of what was not passed on: received = claimed + due to those that entered + undivided, where due is sum(bytes * (index - seen)), and the balance is that
/// less what was paid. The index counts whole wei per byte, so that nobody holds a fraction; what a division leaves, less than a wei per
/// byte, is carried into the next: of a Datanet of 2^40 bytes a millionth of an OPEN. No product overflows: what an entry's bytes have earned is part of what was divided.
contract DatanetTreasury {
    /// @notice What is known of a Datanet: what one byte has earned since deployment and what is not divided yet, in wei; bytes of all that entered,
    /// and from when money is divided, in seconds since 1970, zero before the first entered.
    struct Stream {
        uint128 index;
        uint128 undivided;
        uint64 textBytes;
        uint64 opensAt;
    }

    /// @notice A contribution that entered: its contributor, its bytes, and the index up to which it was paid. Zeros if it has not.
    struct Entry {
        address contributor;
        uint64 textBytes;
        uint128 seen;
    }

    /// @notice Says what was contributed, when it was accepted, and by whom.
    AssetRegistry public immutable registry;
    /// @notice Pays what treasuries earn.
    address public immutable settlement;
    /// @notice Seconds between a contribution's acceptance and its entry, and between a Datanet's first entry and its first division.
    uint64 public immutable delaySeconds;

    /// @notice Wei that came in for all Datanets and stayed to be divided.
    uint256 public totalReceived;
    /// @notice Wei claimed for all contributions, what their contributors could not take included.
    uint256 public totalClaimed;
    /// @notice Wei that a payee could not take, by payee.
    mapping(address => uint256) public owed;

    mapping(uint64 => Stream) private streams;
    mapping(uint64 => mapping(uint256 => Entry)) private entries;

    event Received(uint64 indexed asset, address indexed from, uint256 amount);
    /// @notice What a payout gave to the treasury of an asset without contributions was passed on.
    event PassedOn(uint64 indexed asset, address indexed to, uint256 amount);
    /// @notice `amount` was divided over `textBytes`; one byte has earned `index` wei since deployment.
    event Divided(uint64 indexed asset, uint128 amount, uint64 textBytes, uint128 index);
    /// @notice The contribution shares in what is divided from now on; nothing is before `opensAt`.
    event Entered(uint64 indexed asset, uint256 indexed contribution, address indexed contributor, uint64 textBytes, uint64 opensAt);
    event Claimed(uint64 indexed asset, uint256 indexed contribution, address indexed contributor, uint128 amount);
    event Credited(address indexed payee, uint256 amount);
    event OwedWithdrawn(address indexed payee, uint256 amount);

    error ZeroAddress(string what);
    error NobodyToPay(uint64 asset);
    error ZeroAmount();
    error AmountTooLarge(uint256 got);
    error UnknownContribution(uint64 asset, uint256 contribution);
    error TooSoon(uint256 from, uint256 timeNow);
    error AlreadyEntered(uint64 asset, uint256 contribution);
    error NotEntered(uint64 asset, uint256 contribution);
    error NothingToClaim(uint64 asset, uint256 contribution);
    error NothingOwed(address account);

    /// @param settlement_ Was told this contract's address when it was deployed, before this one stood there; until it does, no treasury is paid.
    /// @param delaySeconds_ Long enough for everybody to enter what they contributed once a Datanet begins to earn.
    constructor(AssetRegistry registry_, address settlement_, uint64 delaySeconds_) {
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        if (settlement_ == address(0)) revert ZeroAddress("settlement");
        registry = registry_;
        settlement = settlement_;
        delaySeconds = delaySeconds_;
    }

    /// @notice Adds the value sent to what the treasury of a Datanet earned. Anybody may, if there is somebody to pay; Settlement does what a payout says,
    /// and what it pays for an asset without contributions is passed on to the insurance pool.
    function receiveFor(uint64 asset) external payable {
        if (msg.value == 0) revert ZeroAmount();
        // Only Datanets have contributions. What a payout says is paid: one treasury must not hold up a batch of claims.
        if (registry.contributionCount(asset) == 0) {
            if (msg.sender != settlement) revert NobodyToPay(asset);
            address insurance = ISettlement(settlement).insurance();
            emit PassedOn(asset, insurance, msg.value);
            give(insurance, msg.value);
            return;
        }
        Stream storage stream = streams[asset];
        uint256 sum = uint256(stream.undivided) + msg.value;
        if (sum > type(uint128).max) revert AmountTooLarge(sum);
        totalReceived += msg.value;
        stream.undivided = uint128(sum);
        emit Received(asset, msg.sender, msg.value);
        divide(asset, stream);
    }

    /// @notice Enters a contribution: from now on it shares in what is divided. Callable by anyone, once, `delaySeconds` after its acceptance.
    /// @param contribution Its number in the Datanet, in the order of acceptance, from 0.
    function enter(uint64 asset, uint256 contribution) external {
        if (contribution >= registry.contributionCount(asset)) revert UnknownContribution(asset, contribution);
        AssetRegistry.Accepted memory accepted = registry.contributionAt(asset, contribution);
        uint256 from = uint256(accepted.acceptedAt) + delaySeconds;
        if (block.timestamp < from) revert TooSoon(from, block.timestamp);
        Entry storage entry = entries[asset][contribution];
        if (entry.textBytes != 0) revert AlreadyEntered(asset, contribution);
        Stream storage stream = streams[asset];
        // What came in before is not the new one's.
        divide(asset, stream);
        if (stream.textBytes == 0) stream.opensAt = uint64(block.timestamp) + delaySeconds;
        stream.textBytes += accepted.textBytes;
        entry.contributor = accepted.contributor;
        entry.textBytes = accepted.textBytes;
        entry.seen = stream.index;
        emit Entered(asset, contribution, accepted.contributor, accepted.textBytes, stream.opensAt);
    }

    /// @notice Pays a contributor what its contribution earned. Callable by anyone; a contributor that refuses the money, or burns its gas, is credited.
    function claim(uint64 asset, uint256 contribution) external {
        Entry storage entry = entries[asset][contribution];
        if (entry.textBytes == 0) revert NotEntered(asset, contribution);
        Stream storage stream = streams[asset];
        divide(asset, stream);
        uint128 index = stream.index;
        uint128 amount = entry.textBytes * (index - entry.seen);
        if (amount == 0) revert NothingToClaim(asset, contribution);
        entry.seen = index;
        totalClaimed += amount;
        address contributor = entry.contributor;
        emit Claimed(asset, contribution, contributor, amount);
        give(contributor, amount);
    }

    /// @notice Pays `account` what could not be paid before.
    function withdrawOwed(address payable account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        emit OwedWithdrawn(account, amount);
        Address.sendValue(account, amount);
    }

    /// @notice What a contribution may claim, in wei; zero if it has not entered.
    function earned(uint64 asset, uint256 contribution) external view returns (uint128) {
        Entry memory entry = entries[asset][contribution];
        Stream memory stream = streams[asset];
        (uint128 step,) = stepOf(stream);
        return entry.textBytes * (stream.index + step - entry.seen);
    }

    /// @notice A Datanet's stream as of its last division; zeros if nothing came in and nothing entered.
    function streamOf(uint64 asset) external view returns (Stream memory) {
        return streams[asset];
    }

    /// @notice A contribution's entry; zeros if it has not entered.
    function entryOf(uint64 asset, uint256 contribution) external view returns (Entry memory) {
        return entries[asset][contribution];
    }

    function give(address payee, uint256 amount) private {
        if (Pay.tryPay(payee, amount)) return;
        owed[payee] += amount;
        emit Credited(payee, amount);
    }

    /// @dev Divides what is not divided yet over what has entered, once that may be.
    function divide(uint64 asset, Stream storage stream) private {
        Stream memory now_ = stream;
        (uint128 step, uint128 amount) = stepOf(now_);
        if (step == 0) return;
        stream.index = now_.index + step;
        stream.undivided = now_.undivided - amount;
        emit Divided(asset, amount, now_.textBytes, now_.index + step);
    }

    /// @dev What one byte gets of what is not divided, and what all get.
    function stepOf(Stream memory stream) private view returns (uint128 step, uint128 amount) {
        if (stream.textBytes == 0 || block.timestamp < stream.opensAt) return (0, 0);
        step = stream.undivided / stream.textBytes;
        amount = step * stream.textBytes;
    }
}
