// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry, ITreasuries} from "../src/AssetRegistry.sol";
import {AuditCase, ICaseStakes} from "../src/AuditCase.sol";
import {BillingVerifier} from "../src/BillingVerifier.sol";
import {Erasures} from "../src/Erasures.sol";
import {FraudVerifier} from "../src/FraudVerifier.sol";
import {ISettlement, IStakes} from "../src/Ports.sol";
import {ICollectedSink, InferenceEscrow, IStakeDesk} from "../src/InferenceEscrow.sol";
import {InsurancePool} from "../src/InsurancePool.sol";
import {DatanetTreasury} from "../src/DatanetTreasury.sol";
import {DatanetRent, IDatanets, IEpochs} from "../src/DatanetRent.sol";
import {RewardsVault} from "../src/RewardsVault.sol";
import {ITreasury, Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {ICreditDesk, IStakeListener, Roles, StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {Later} from "./Later.sol";
import {Vm} from "./Vm.sol";

/// @notice The whole suite as it is deployed, two nodes with stake, a client, and the documents they sign.
abstract contract Suite {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint64 internal constant W1 = 30;
    uint64 internal constant W2 = 10;
    uint64 internal constant EPOCH_MIN = 20;
    uint64 internal constant THAW = 7 days;
    uint64 internal constant UNBONDING = 14 days;
    uint64 internal constant SLASH_DELAY = 3 days;
    uint64 internal constant FALLBACK = 15;
    uint64 internal constant HONOUR = 15 days;
    uint64 internal constant RENT_DELAY = 2 days;
    uint64 internal constant TREASURY_DELAY = 5 days;
    uint96 internal constant RENT_PRICE = 1 ether;
    uint96 internal constant POSTER_BOND = 2 ether;
    uint128 internal constant MIN_STAKE = 10 ether;
    uint128 internal constant MIN_POSTER_STAKE = 20 ether;
    uint128 internal constant MIN_INDEXER_STAKE = 5 ether;
    uint64 internal constant INDEX_WINDOW = 60;
    uint16 internal constant MIN_DATA_BPS = 1_000;

    uint64 internal constant GRACE_BLOCKS = 16;
    uint64 internal constant MAX_AGE_BLOCKS = 256;
    uint64 internal constant ANSWER_SECONDS = 3;
    uint64 internal constant PAYOUT_ANSWER_SECONDS = 2;
    uint128 internal constant CHALLENGE_BOND = 1 ether;
    uint128 internal constant CASE_BOND = 1 ether;
    uint64 internal constant CASE_ANSWER = 3 days;
    uint64 internal constant CASE_AGE_BLOCKS = 172_800;
    uint64 internal constant BLOCK_SECONDS = 2;

    uint256 internal constant CLIENT_KEY = 0xC11E;
    uint256 internal constant NODE_KEY = 0x40DE;
    uint256 internal constant OTHER_KEY = 0x07E4;
    uint256 internal constant REVIEWER_KEY = 0x4EF1;
    uint256 internal constant AUTHOR_KEY = 0xA07;

    address internal client = vm.addr(CLIENT_KEY);
    address internal node = vm.addr(NODE_KEY);
    address internal other = vm.addr(OTHER_KEY);
    address internal reviewer = vm.addr(REVIEWER_KEY);
    address internal author = vm.addr(AUTHOR_KEY);
    address internal governor = address(0x60);
    address internal protocol = address(0x70);

    StakeManager internal stakes;
    InsurancePool internal pool;
    RewardsVault internal vault;
    DatanetRent internal rent;
    Settlement internal settlement;
    InferenceEscrow internal escrow;
    FraudVerifier internal verifier;
    BillingVerifier internal billing;
    /// @dev A ReceiptChallenge and a PayoutVerifier. Importing them would compile everything here as they are compiled: for size.
    address internal challenges;
    address internal payouts;
    AssetRegistry internal registry;
    DatanetTreasury internal treasuries;
    Erasures internal erasures;
    AuditCase internal cases;
    Later internal builder;

    error Unequal(string what, uint256 expected, uint256 got);

    function setUp() public virtual {
        vm.roll(1_000);
        vm.warp(1_000_000);
        newStakes();
        builder = new Later();
        settlement = newSettlement();
        escrow = new InferenceEscrow(ICollectedSink(address(settlement)), IStakeDesk(address(stakes)), THAW, HONOUR);
        registry = new AssetRegistry(governor, stakes, ITreasuries(address(settlement)), INDEX_WINDOW, MIN_DATA_BPS);
        rent = new DatanetRent(
            IDatanets(address(registry)), IEpochs(address(settlement)), governor, RENT_DELAY, RENT_PRICE
        );
        treasuries = builder.deploy(address(registry), address(settlement), TREASURY_DELAY);
        newVerifiers(address(settlement));
        erasures = new Erasures(registry);
        cases = new AuditCase(
            ICaseStakes(address(stakes)), address(settlement), registry, erasures, CASE_BOND, CASE_ANSWER, CASE_AGE_BLOCKS, BLOCK_SECONDS
        );
        name(creditDesk(), address(verifier));
        bond(node, 100 ether);
        bond(other, 50 ether);
        vm.prank(other);
        stakes.join(Roles.POSTER | Roles.INDEXER);
        vm.deal(client, 1_000 ether);
    }

    /// @notice What pays debits out of stake, and says what clients were charged.
    function creditDesk() internal virtual returns (address) {
        return address(escrow);
    }

    /// @notice A verifier besides the five; none here.
    function sixth() internal virtual returns (address) {
        return address(0);
    }

    /// @notice Stake with its pool and vault, but no peers and verifiers yet.
    function newStakes() internal {
        stakes = new StakeManager(UNBONDING, SLASH_DELAY, MIN_STAKE, MIN_POSTER_STAKE, MIN_INDEXER_STAKE);
        pool = new InsurancePool(address(stakes));
        vault = new RewardsVault(address(stakes));
    }

    function newSettlement() internal returns (Settlement) {
        ITreasury planned = ITreasury(builder.planned());
        return new Settlement(W1, W2, EPOCH_MIN, FALLBACK, POSTER_BOND, stakes, protocol, address(pool), address(vault), planned);
    }

    /// @notice The four verifiers of receipts that are signed for `verifying`.
    function newVerifiers(address verifying) internal {
        // The vectors' Settlement is an address; constructors ask it for its windows, which are in the code.
        if (verifying.code.length == 0) vm.etch(verifying, address(newSettlement()).code);
        IStakes port = IStakes(address(stakes));
        ISettlement books = ISettlement(verifying);
        verifier = new FraudVerifier(port, books, GRACE_BLOCKS, MAX_AGE_BLOCKS);
        billing = new BillingVerifier(port, books, registry, GRACE_BLOCKS);
        challenges = vm.deployCode(
            "ReceiptChallenge.sol:ReceiptChallenge", abi.encode(stakes, verifying, escrow, CHALLENGE_BOND, ANSWER_SECONDS, PAYOUT_ANSWER_SECONDS)
        );
        payouts = vm.deployCode(
            "PayoutVerifier.sol:PayoutVerifier", abi.encode(stakes, verifying, registry, escrow, challenges, MAX_AGE_BLOCKS)
        );
    }

    /// @notice Names the peers of `stakes`, one verifier, and the others.
    function name(address desk, address one) internal {
        stakes.setPeers(address(pool), IStakeListener(address(vault)), ICreditDesk(desk));
        address more = sixth();
        address[] memory verifiers = new address[](more == address(0) ? 5 : 6);
        verifiers[0] = one;
        verifiers[1] = address(billing);
        verifiers[2] = challenges;
        verifiers[3] = payouts;
        verifiers[4] = address(cases);
        if (more != address(0)) verifiers[5] = more;
        stakes.setVerifiers(verifiers);
    }

    function bond(address account, uint256 amount) internal {
        vm.deal(account, account.balance + amount);
        vm.prank(account);
        stakes.stake{value: amount}(keccak256(abi.encode(account)), 1, account);
    }

    function signed(uint256 key, address verifying, bytes32 typehash, bytes memory body) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, Sig.digest(Sig.domain(verifying), typehash, keccak256(body)));
        return abi.encodePacked(r, s, v);
    }

    /// @notice Collects one voucher, lane and voucher signed by the client.
    function collectOne(bytes memory lane, bytes memory voucher) internal {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = InferenceEscrow.Item(
            lane,
            signed(CLIENT_KEY, address(escrow), Sig.LANE, lane),
            voucher,
            signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, voucher)
        );
        escrow.collectMany(items);
    }

    /// @notice Root of a text of so many bytes whose tree ends in `top`.
    function textRootOf(uint64 size, bytes32 top) internal pure returns (bytes32) {
        return Trees.root((size + 63) / 64, size, top);
    }

    function eq(string memory what, uint256 expected, uint256 got) internal pure {
        if (expected != got) revert Unequal(what, expected, got);
    }

    function eq(string memory what, bytes32 expected, bytes32 got) internal pure {
        if (expected != got) revert Unequal(what, uint256(expected), uint256(got));
    }

    function eq(string memory what, address expected, address got) internal pure {
        eq(what, uint256(uint160(expected)), uint256(uint160(got)));
    }

    function yes(string memory what, bool holds) internal pure {
        if (!holds) revert Unequal(what, 1, 0);
    }
}
