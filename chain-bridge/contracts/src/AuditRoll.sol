// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Pay} from "./Pay.sol";

/// @notice What the roll reads of StakeManager.
interface IBonds {
    function isBonded(address account) external view returns (bool);
    function payoutAt(address account, uint48 blockNumber) external view returns (address);
}

/// @notice What the roll reads of Settlement.
interface IClock {
    function currentEpoch() external view returns (uint64);
}

/// @title Who audits whom in an epoch
/// @notice Bonded nodes that keep fragments enlist; who enlists, audits and is audited. The roll of an epoch is what it was when the epoch opened: a change counts
/// from the next one on. In the epoch anybody announces a block that is yet to come, and its hash, stored by anybody's later call, is the
/// epoch's beacon: nobody knows it when the roll is closed, and whoever calls chooses nothing. (The sequencer can try out hashes. It gains nothing
/// unless it audits itself.) A node's auditors are places of the roll drawn by keccak("tributary/auditors/v1" || beacon || node || try u8), the
/// first 128 bits modulo the size, but for the node itself, its neighbours in the subnet and who was drawn before; the first three, of 64 tries.
/// @dev The list has no gaps, so that who resigned costs no draw a try, and remembers every epoch. A seat is (subnet, address) in 208 bits. Subnets are what their nodes
/// say: one that lies in order to be its own neighbour's auditor needs a bond for each seat. With a share c of the roll colluders hold two of three
/// seats of a node with chance 3 c^2 - 2 c^3: 2.8 % for a tenth. Who is no longer bonded may be struck off by anybody, who is paid its deposit: a roll full of
/// accounts that one stake passed through costs a deposit for each.
abstract contract AuditRoll {
    using Checkpoints for Checkpoints.Trace208;
    using SafeCast for uint256;

    /// @notice Auditors of a node in an epoch.
    uint256 public constant AUDITORS = 3;
    /// @notice What an enlisted node leaves here, in wei: back when it resigns, or to who strikes it off.
    uint256 public constant DEPOSIT = 0.01 ether;
    /// @notice Blocks between the announcement of a beacon and its block: more than the head of the chain is undone.
    uint64 public constant BEACON_BLOCKS = 16;
    /// @dev With three eligible places of four all are found but for a chance of 10^-8.
    uint256 private constant TRIES = 64;
    /// @dev The chain forgets the hash of a block after so many.
    uint256 private constant HASH_BLOCKS = 256;

    /// @notice Says who is bonded, and where a node is paid.
    IBonds public immutable stakeManager;
    /// @notice Counts the epochs; signatures name it.
    IClock public immutable settlement;

    /// @notice The block whose hash an epoch's beacon is made of; zero if none was announced.
    mapping(uint64 => uint64) public beaconBlockOf;
    /// @notice The beacon of an epoch; zero until it was stored.
    mapping(uint64 => bytes32) public beaconOf;
    /// @notice Wei that a payee could not take, by payee.
    mapping(address => uint256) public owed;

    Checkpoints.Trace208 private sizes;
    mapping(uint256 => Checkpoints.Trace208) private seats;
    /// @dev Place on the roll of now plus 1.
    mapping(address => uint256) private places;

    /// @notice `node` sits at `place` from epoch `from` on.
    event Seated(address indexed node, uint256 indexed place, uint48 subnet, uint64 from);
    /// @notice The last place is empty from epoch `from` on: whom it held sits where `node` sat, or was `node`.
    event Unseated(address indexed node, address indexed by, uint256 size, uint64 from);
    event BeaconAnnounced(uint64 indexed epoch, uint64 blockNumber);
    event BeaconStored(uint64 indexed epoch, bytes32 beacon);
    event Credited(address indexed payee, uint256 amount);
    event OwedWithdrawn(address indexed payee, uint256 amount);

    error ZeroAddress(string what);
    error WrongDeposit(uint256 expected, uint256 got);
    error NotBonded(address account);
    error StillBonded(address account);
    error AlreadyEnlisted(address account);
    error NotEnlisted(address account);
    error NoEpoch();
    error BeaconUnderWay(uint64 epoch, uint64 blockNumber);
    error BeaconNotReady(uint64 epoch, uint64 blockNumber, uint256 blockNow);
    error BeaconForgotten(uint64 epoch, uint64 blockNumber);
    error NoBeacon(uint64 epoch);
    error NotOnRoll(uint64 epoch, uint256 place, address node);
    error NothingOwed(address account);

    constructor(IBonds stakeManager_, IClock settlement_) {
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        if (address(settlement_) == address(0)) revert ZeroAddress("settlement");
        stakeManager = stakeManager_;
        settlement = settlement_;
    }

    // ------------------------------------------------------------------ the roll

    /// @notice Puts the caller, a bonded node, on the roll from the next epoch on, against `DEPOSIT`.
    /// @param subnet Network of its address: the first 24 bits of an IPv4 address, behind 24 zero bits, or 48 of an IPv6 one; zero for none, which is nobody's
    /// neighbour.
    function enlist(uint48 subnet) external payable {
        if (msg.value != DEPOSIT) revert WrongDeposit(DEPOSIT, msg.value);
        if (places[msg.sender] != 0) revert AlreadyEnlisted(msg.sender);
        if (!stakeManager.isBonded(msg.sender)) revert NotBonded(msg.sender);
        uint256 size = sizes.latest();
        sit(msg.sender, size, subnet);
        sizes.push(next(), (size + 1).toUint208());
    }

    /// @notice Takes the caller off the roll from the next epoch on, and gives it its deposit back.
    function resign() external {
        remove(msg.sender);
        give(msg.sender, DEPOSIT);
    }

    /// @notice Takes a node that is no longer bonded off the roll from the next epoch on. The caller is paid its deposit.
    function strike(address node) external {
        if (stakeManager.isBonded(node)) revert StillBonded(node);
        remove(node);
        give(msg.sender, DEPOSIT);
    }

    /// @notice Pays `account` what could not be paid before.
    function withdrawOwed(address payable account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        emit OwedWithdrawn(account, amount);
        Address.sendValue(account, amount);
    }

    /// @notice Size of the roll in an epoch, the coming one included.
    function sizeAt(uint64 epoch) public view returns (uint256) {
        return sizes.upperLookupRecent(uint256(epoch).toUint48());
    }

    /// @notice Who sits at a place of the roll in an epoch; zeros beyond its size.
    function seatAt(uint64 epoch, uint256 place) public view returns (address node, uint48 subnet) {
        if (place >= sizeAt(epoch)) return (address(0), 0);
        return seat(epoch, place);
    }

    /// @notice Place of an account on the coming epoch's roll.
    function placeOf(address node) external view returns (uint256) {
        if (places[node] == 0) revert NotEnlisted(node);
        return places[node] - 1;
    }

    // ------------------------------------------------------------------ the draw

    /// @notice Announces the block whose hash draws the open epoch's auditors. Callable by anyone, and again only if nobody stored the hash while the chain
    /// knew it.
    function announceBeacon() external {
        uint64 epoch = settlement.currentEpoch();
        if (epoch == 0) revert NoEpoch();
        uint64 announced = beaconBlockOf[epoch];
        if (beaconOf[epoch] != 0 || (announced != 0 && block.number <= announced + HASH_BLOCKS)) revert BeaconUnderWay(epoch, announced);
        uint64 blockNumber = uint64(block.number) + BEACON_BLOCKS;
        beaconBlockOf[epoch] = blockNumber;
        emit BeaconAnnounced(epoch, blockNumber);
    }

    /// @notice Stores the beacon of an epoch, once. Callable by anyone within 256 blocks of the announced one.
    function storeBeacon(uint64 epoch) external {
        uint64 announced = beaconBlockOf[epoch];
        if (beaconOf[epoch] != 0) revert BeaconUnderWay(epoch, announced);
        if (announced == 0 || block.number <= announced) revert BeaconNotReady(epoch, announced, block.number);
        bytes32 hash = blockhash(announced);
        if (hash == 0) revert BeaconForgotten(epoch, announced);
        bytes32 beacon = keccak256(abi.encodePacked("tributary/audit-beacon/v1", epoch, hash));
        beaconOf[epoch] = beacon;
        emit BeaconStored(epoch, beacon);
    }

    /// @notice The auditors of a node in an epoch, the opener first; fewer, and zeros behind, where the roll has no three.
    /// @param place The node's place on that epoch's roll.
    function auditorsOf(uint64 epoch, address node, uint256 place) public view returns (address[AUDITORS] memory drawn) {
        bytes32 beacon = beaconOf[epoch];
        if (beacon == 0) revert NoBeacon(epoch);
        uint256 size = sizeAt(epoch);
        if (place >= size) revert NotOnRoll(epoch, place, node);
        (address sitting, uint48 subnet) = seat(epoch, place);
        if (sitting != node) revert NotOnRoll(epoch, place, node);
        uint256 found = 0;
        for (uint256 i = 0; i < TRIES && found < AUDITORS; ++i) {
            bytes32 hash = keccak256(abi.encodePacked("tributary/auditors/v1", beacon, node, uint8(i)));
            (address auditor, uint48 net) = seat(epoch, (uint256(hash) >> 128) % size);
            if (auditor == node || (subnet != 0 && net == subnet)) continue;
            if (auditor == drawn[0] || auditor == drawn[1]) continue;
            drawn[found++] = auditor;
        }
    }

    // ------------------------------------------------------------------ private

    function give(address payee, uint256 amount) private {
        if (Pay.tryPay(payee, amount)) return;
        owed[payee] += amount;
        emit Credited(payee, amount);
    }

    /// @dev The first epoch whose roll may still change.
    function next() private view returns (uint48) {
        return (uint256(settlement.currentEpoch()) + 1).toUint48();
    }

    function seat(uint64 epoch, uint256 place) private view returns (address, uint48) {
        uint208 value = seats[place].upperLookupRecent(uint256(epoch).toUint48());
        return (address(uint160(value)), uint48(value >> 160));
    }

    function sit(address node, uint256 place, uint48 subnet) private {
        uint48 from = next();
        seats[place].push(from, (uint208(subnet) << 160) | uint160(node));
        places[node] = place + 1;
        emit Seated(node, place, subnet, from);
    }

    /// @dev Who sits last takes the place.
    function remove(address node) private {
        uint256 place = places[node];
        if (place == 0) revert NotEnlisted(node);
        uint256 last = uint256(sizes.latest()) - 1;
        delete places[node];
        if (place - 1 != last) {
            uint208 moved = seats[last].latest();
            sit(address(uint160(moved)), place - 1, uint48(moved >> 160));
        }
        uint48 from = next();
        sizes.push(from, last.toUint208());
        emit Unseated(node, msg.sender, last, from);
    }
}
