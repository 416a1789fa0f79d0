// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What the board reads of StakeManager.
interface ICheckers {
    function isBonded(address account) external view returns (bool);
}

/// @notice What the board reads of Settlement.
interface IWindows {
    /// @notice An epoch; zeros if it was never opened.
    struct Epoch {
        uint64 openedAt;
        uint64 nodes;
    }

    function epochs(uint64 epoch) external view returns (Epoch memory);
    function w1() external view returns (uint64);
}

/// @notice The predeploy that says which L1 block this chain stands on.
interface IL1Block {
    function number() external view returns (uint64);
    function hash() external view returns (bytes32);
}

/// @title What is drawn for checks, and what checkers found, first sealed, then shown
/// @notice When an epoch takes no more node roots, anybody announces its beacon: the L1 block of that moment is kept. Six L1 blocks later, or more, anybody stores the
/// hash of the one that this chain stands on then: the epoch's beacon, which nobody knew while receipts were committed to. Receipts and their checkers
/// are drawn from it off the chain (ARCHITECTURE, *The draw of checkers*). A checker commits one root over all its checks of an epoch in the second third of W1, and
/// one root that reveals them in the last: who waits for others' results is too late.
/// @dev Holds no money and has no owner. (The sequencer chooses which of the later L1 blocks the chain stands on when the beacon is stored, and when
/// to include the call; an L1 proposer could withhold a block for it.) What checkers earn is the matter of other contracts, which read this one.
contract CheckBoard {
    /// @notice What a checker said of an epoch: roots are zero while it did not. `count` is how many checks the first holds.
    struct Checks {
        bytes32 committed;
        bytes32 revealed;
        uint64 count;
    }

    /// @notice An epoch's beacon: zeros until it is announced, `stored` zero until it is stored.
    struct Beacon {
        uint64 origin;
        uint64 announcedAt;
        bytes32 stored;
    }

    /// @notice Where L1 attributes stand on every chain of the OP Stack.
    address public constant L1_BLOCK = 0x4200000000000000000000000000000000000015;
    /// @notice L1 blocks between the announcement of a beacon and the block that gives it.
    uint64 public constant ORIGIN_BLOCKS = 6;
    /// @dev Node roots are accepted, checks committed, checks revealed, each in this part of W1.
    uint64 private constant PARTS = 3;

    /// @notice Says who is bonded.
    ICheckers public immutable stakeManager;
    /// @notice Counts the epochs, and says how long W1 is.
    IWindows public immutable settlement;

    mapping(uint64 => Beacon) private beacons;
    mapping(uint64 => mapping(address => Checks)) private checks;

    event BeaconAnnounced(uint64 indexed epoch, uint64 origin);
    event BeaconStored(uint64 indexed epoch, bytes32 beacon, address indexed by);
    event ChecksCommitted(uint64 indexed epoch, address indexed checker, bytes32 root, uint64 count);
    event ChecksRevealed(uint64 indexed epoch, address indexed checker, bytes32 root);

    error ZeroAddress(string what);
    error ZeroHash(string what);
    error NoChecks();
    error NoL1Block();
    error UnknownEpoch(uint64 epoch);
    error TooEarly(uint256 begins, uint256 timeNow);
    error TooLate(uint256 ended, uint256 timeNow);
    error AlreadyAnnounced(uint64 epoch, uint64 origin);
    error NotAnnounced(uint64 epoch);
    error OriginTooEarly(uint64 expected, uint64 got);
    error AlreadyStored(uint64 epoch, bytes32 beacon);
    error NoBeacon(uint64 epoch);
    error NotBonded(address account);
    error AlreadyCommitted(uint64 epoch, address checker);
    error NotCommitted(uint64 epoch, address checker);
    error AlreadyRevealed(uint64 epoch, address checker);

    constructor(ICheckers stakeManager_, IWindows settlement_) {
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        if (address(settlement_) == address(0)) revert ZeroAddress("settlement");
        stakeManager = stakeManager_;
        settlement = settlement_;
    }

    // ------------------------------------------------------------------ the beacon

    /// @notice Keeps the L1 block that this chain stands on, for the beacon of an epoch that takes no more node roots. By anybody, once.
    function announceBeacon(uint64 epoch) external {
        Beacon storage beacon = beacons[epoch];
        if (beacon.announcedAt != 0) revert AlreadyAnnounced(epoch, beacon.origin);
        requireFrom(endOf(epoch, 1));
        if (L1_BLOCK.code.length == 0) revert NoL1Block();
        uint64 origin = IL1Block(L1_BLOCK).number();
        beacon.announcedAt = uint64(block.timestamp);
        beacon.origin = origin;
        emit BeaconAnnounced(epoch, origin);
    }

    /// @notice Stores the beacon of an epoch: keccak("tributary/check-beacon/v1" || epoch u64 || hash of the L1 block that this chain stands on). By anybody, once,
    /// from six L1 blocks after the announced one on.
    function storeBeacon(uint64 epoch) external {
        Beacon storage beacon = beacons[epoch];
        if (beacon.announcedAt == 0) revert NotAnnounced(epoch);
        if (beacon.stored != 0) revert AlreadyStored(epoch, beacon.stored);
        uint64 origin = IL1Block(L1_BLOCK).number();
        if (origin < beacon.origin + ORIGIN_BLOCKS) revert OriginTooEarly(beacon.origin + ORIGIN_BLOCKS, origin);
        bytes32 stored = keccak256(abi.encodePacked("tributary/check-beacon/v1", epoch, IL1Block(L1_BLOCK).hash()));
        beacon.stored = stored;
        emit BeaconStored(epoch, stored, msg.sender);
    }

    /// @notice The beacon of an epoch, and the L1 block it was announced at.
    function beaconOf(uint64 epoch) external view returns (Beacon memory) {
        return beacons[epoch];
    }

    // ------------------------------------------------------------------ checks

    /// @notice Seals what the caller, a bonded node, found in an epoch: a root over its checks, and how many. Once, until two thirds of the epoch's W1 are over.
    function commitChecks(uint64 epoch, bytes32 root, uint64 count) external {
        if (root == 0) revert ZeroHash("root");
        if (count == 0) revert NoChecks();
        if (beacons[epoch].stored == 0) revert NoBeacon(epoch);
        requireBefore(endOf(epoch, 2));
        Checks storage own = checks[epoch][msg.sender];
        if (own.committed != 0) revert AlreadyCommitted(epoch, msg.sender);
        if (!stakeManager.isBonded(msg.sender)) revert NotBonded(msg.sender);
        own.committed = root;
        own.count = count;
        emit ChecksCommitted(epoch, msg.sender, root, count);
    }

    /// @notice Shows what the caller sealed: a root over the opened checks. Once, in the last third of the epoch's W1.
    function revealChecks(uint64 epoch, bytes32 root) external {
        if (root == 0) revert ZeroHash("root");
        Checks storage own = checks[epoch][msg.sender];
        if (own.committed == 0) revert NotCommitted(epoch, msg.sender);
        if (own.revealed != 0) revert AlreadyRevealed(epoch, msg.sender);
        requireFrom(endOf(epoch, 2));
        requireBefore(endOf(epoch, PARTS));
        own.revealed = root;
        emit ChecksRevealed(epoch, msg.sender, root);
    }

    /// @notice What a checker said of an epoch.
    function checksOf(uint64 epoch, address checker) external view returns (Checks memory) {
        return checks[epoch][checker];
    }

    // ------------------------------------------------------------------ private

    /// @dev When so many thirds of an epoch's W1 are over. The first ends when Settlement takes no more node roots of it.
    function endOf(uint64 epoch, uint64 parts) private view returns (uint256) {
        uint64 openedAt = settlement.epochs(epoch).openedAt;
        if (openedAt == 0) revert UnknownEpoch(epoch);
        uint256 w1 = settlement.w1();
        return parts == PARTS ? openedAt + w1 : openedAt + parts * (w1 / PARTS);
    }

    function requireFrom(uint256 time) private view {
        if (block.timestamp < time) revert TooEarly(time, block.timestamp);
    }

    function requireBefore(uint256 time) private view {
        if (block.timestamp >= time) revert TooLate(time, block.timestamp);
    }
}
