// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {Trees} from "../src/Trees.sol";
import {Suite} from "./Suite.sol";

/// @notice Does whatever three clients, two nodes and a poster may do, in any order, and keeps its own books. A poster here is free to
/// give everything to whom it likes: no order of trees may break the books.
contract Handler is Suite {
    uint256 private constant CLIENTS = 3;

    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public collected;
    uint256 public staked;
    uint256 public unstaked;
    uint256 public slashed;
    uint256 public claimed;
    uint256 public claims;
    uint256 public slashes;
    bool public overpaid;

    /// @dev The tree of the last payout: what each of three accounts has in all.
    uint128[3] private cumulative;
    uint128[3] private finalCumulative;
    uint64 private finalEpochSeen;

    receive() external payable {}

    function who(uint256 i) public view returns (address) {
        return i % CLIENTS == 0 ? client : i % CLIENTS == 1 ? reviewer : author;
    }

    function keyOf(uint256 i) private pure returns (uint256) {
        return i % CLIENTS == 0 ? CLIENT_KEY : i % CLIENTS == 1 ? REVIEWER_KEY : AUTHOR_KEY;
    }

    function deposit(uint256 i, uint96 amount) external {
        uint256 value = 1 + amount % 10 ether;
        vm.deal(address(this), value);
        escrow.depositFor{value: value}(who(i));
        deposited += value;
    }

    function askToLeave(uint256 i, uint96 amount) external {
        vm.prank(who(i));
        escrow.requestWithdraw(amount % 10 ether);
    }

    function withdraw(uint256 i) external {
        vm.warp(block.timestamp + THAW);
        uint256 before = who(i).balance;
        vm.prank(who(i));
        escrow.withdraw();
        withdrawn += who(i).balance - before;
    }

    function collect(uint256 i, uint64 nonce, uint96 amount) external {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        bytes memory lane = abi.encodePacked(who(i), node, uint128(8 ether), type(uint64).max, nonce % 3);
        bytes memory voucher = abi.encodePacked(keccak256(lane), new bytes(110), uint128(0), uint128(1 + amount % 8 ether));
        items[0] = InferenceEscrow.Item({
            lane: lane,
            laneSig: signed(keyOf(i), address(escrow), Sig.LANE, lane),
            voucher: voucher,
            voucherSig: signed(keyOf(i), address(escrow), Sig.VOUCHER, voucher)
        });
        uint256 before = address(settlement).balance;
        escrow.collectMany(items);
        collected += address(settlement).balance - before;
        if (escrow.collectedOf(keccak256(lane)) > 8 ether) overpaid = true;
    }

    function epoch(uint96 shares) external {
        uint64 next = settlement.submissionEpoch();
        bytes memory body = abi.encodePacked(node, next, keccak256("root"), uint64(1), uint128(1));
        settlement.submitNodeRoot(body, signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body));
        vm.warp(block.timestamp + W1);
        uint64 posting = settlement.lastPosted() + 1;
        Settlement.Epoch memory last = settlement.epochs(posting - 1);
        // Any division of what was received, even one that takes from an account what it had.
        uint128 total = settlement.totalReceived();
        cumulative[0] = uint128(total * uint256(shares % 101) / 100);
        cumulative[1] = uint128((total - cumulative[0]) * uint256((shares / 101) % 101) / 100);
        cumulative[2] = total - cumulative[0] - cumulative[1];
        (bytes32 root,) = tree(0);
        vm.prank(node);
        settlement.postPayout(posting, last.payoutRoot, root, total);
        vm.warp(block.timestamp + W2);
        finalCumulative = cumulative;
    }

    function claim(uint256 i) external {
        uint256 index = i % CLIENTS;
        (, Trees.SumSibling[] memory siblings) = tree(index);
        uint256 before = who(index).balance;
        vm.prank(who(index));
        settlement.claim(0, finalCumulative[index], 0, uint64(index), 3, siblings);
        claimed += who(index).balance - before;
        ++claims;
        if (claimed > settlement.epochs(settlement.lastFinal()).total) overpaid = true;
    }

    function stakeMore(uint96 amount) external {
        uint256 value = 1 + amount % 5 ether;
        vm.deal(node, value);
        vm.prank(node);
        stakes.increase{value: value}();
        staked += value;
    }

    function unstake(uint96 amount) external {
        vm.startPrank(other);
        stakes.unbond(uint128(1 + amount % 5 ether));
        vm.warp(block.timestamp + UNBONDING);
        uint256 before = other.balance;
        stakes.withdraw();
        unstaked += other.balance - before;
        vm.stopPrank();
    }

    function slash(uint256 i, uint96 amount, uint96 victimAmount) external {
        uint128 taken = uint128(1 + amount % 3 ether);
        vm.prank(address(verifier));
        stakes.slash(i & 1 == 0 ? node : other, taken, i & 2 == 0 ? client : address(stakes), victimAmount, reviewer, 0);
        slashed += taken;
        ++slashes;
    }

    function held() external view returns (uint256 escrowed, uint256 bonds) {
        for (uint256 i = 0; i < CLIENTS; ++i) escrowed += escrow.accountOf(who(i)).balance;
        bonds = uint256(stakes.slashableOf(node)) + stakes.slashableOf(other) + stakes.owed(address(stakes)) + stakes.owed(client)
            + stakes.owed(reviewer);
    }

    function addresses() external view returns (address, address, address) {
        return (address(escrow), address(settlement), address(stakes));
    }

    function totals() external view returns (uint256 received, uint256 paid, uint256 lastTotal) {
        return (settlement.totalReceived(), settlement.totalClaimed(), settlement.epochs(settlement.lastFinal()).total);
    }

    /// @dev Root of the three accounts' tree and the opening of one of them.
    function tree(uint256 index) private view returns (bytes32 root, Trees.SumSibling[] memory siblings) {
        bytes32[4] memory digests;
        uint128[4] memory sums;
        for (uint256 i = 0; i < 3; ++i) {
            sums[i] = cumulative[i];
            digests[i] = Trees.leaf(abi.encodePacked(who(i), uint128(0), cumulative[i], bytes32(0)));
        }
        bytes32 left = Trees.sumNode(digests[0], sums[0], digests[1], sums[1]);
        bytes32 right = Trees.sumNode(digests[2], sums[2], 0, 0);
        uint128 leftSum = sums[0] + sums[1];
        root = Trees.sumRoot(3, leftSum + sums[2], Trees.sumNode(left, leftSum, right, sums[2]));
        siblings = new Trees.SumSibling[](2);
        siblings[0] = Trees.SumSibling({digest: digests[index ^ 1], sum: sums[index ^ 1]});
        siblings[1] = index < 2
            ? Trees.SumSibling({digest: right, sum: sums[2]})
            : Trees.SumSibling({digest: left, sum: leftSum});
    }
}

/// @notice Money is conserved to the wei whatever happens in whatever order.
contract InvariantsTest {
    Handler private handler;

    error Broken(string what, uint256 expected, uint256 got);

    function setUp() public {
        handler = new Handler();
        handler.setUp();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](9);
        selectors[0] = Handler.deposit.selector;
        selectors[1] = Handler.askToLeave.selector;
        selectors[2] = Handler.withdraw.selector;
        selectors[3] = Handler.collect.selector;
        selectors[4] = Handler.epoch.selector;
        selectors[5] = Handler.claim.selector;
        selectors[6] = Handler.stakeMore.selector;
        selectors[7] = Handler.unstake.selector;
        selectors[8] = Handler.slash.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector({addr: address(handler), selectors: selectors});
    }

    function invariant_every_wei_is_accounted_for() public view {
        (address escrow, address settlement, address stakes) = handler.addresses();
        (uint256 escrowed, uint256 bonds) = handler.held();
        (uint256 received, uint256 paid, uint256 lastTotal) = handler.totals();
        same("escrow holds its accounts", escrowed, escrow.balance);
        same("deposits", handler.deposited(), escrowed + handler.withdrawn() + handler.collected());
        same("collected is received", handler.collected(), received);
        same("settlement holds what is unclaimed", received - paid, settlement.balance);
        same("claimed", handler.claimed(), paid);
        if (paid > lastTotal) revert Broken("claims are within the final total", lastTotal, paid);
        same("stake", 150 ether + handler.staked() - handler.unstaked() - handler.slashed(), bonds - owed());
        same("stake is held", bonds, stakes.balance);
        if (handler.overpaid()) revert Broken("nothing is overpaid", 0, 1);
    }

    /// @dev A slash whose victim is the stake contract itself cannot be paid and is credited.
    function owed() private view returns (uint256) {
        (,, address stakes) = handler.addresses();
        return IOwed(stakes).owed(stakes);
    }

    function same(string memory what, uint256 expected, uint256 got) private pure {
        if (expected != got) revert Broken(what, expected, got);
    }
}

interface IOwed {
    function owed(address) external view returns (uint256);
}
