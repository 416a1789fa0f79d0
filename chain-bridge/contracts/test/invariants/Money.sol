// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICollectedSink, InferenceEscrow, IStakeDesk} from "../../src/InferenceEscrow.sol";
import {Settlement} from "../../src/Settlement.sol";
import {Sig} from "../../src/Sig.sol";
import {Trees} from "../../src/Trees.sol";
import {Suite} from "../Suite.sol";
import {Steps} from "./Steps.sol";

/// @notice A payee that refuses money, or takes it only to call back into everything that pays.
contract Payee {
    Settlement private settlement;
    InferenceEscrow private escrow;
    bool public refuses;
    Settlement.Claim private claim;

    constructor(Settlement settlement_, InferenceEscrow escrow_) {
        settlement = settlement_;
        escrow = escrow_;
    }

    function become(bool refuses_, Settlement.Claim calldata claim_) external {
        refuses = refuses_;
        claim = claim_;
    }

    receive() external payable {
        require(!refuses, "refused");
        Settlement.Claim[] memory claims = new Settlement.Claim[](1);
        claims[0] = claim;
        try settlement.claimMany(3, claims) {} catch {}
        try settlement.withdrawOwed(payable(address(this))) {} catch {}
        try escrow.withdraw() {} catch {}
    }
}

/// @notice Deposits, vouchers, epochs, overturned payouts, bonds and claims in any order, with books of their own. A poster here is free to
/// give everything to whom it likes: no order of trees may break the books.
abstract contract Money is Suite, Steps {
    uint256 internal constant CLIENTS = 3;
    uint256 internal constant SESSION_KEY = 0x5E55;
    uint128 internal constant LANE_CAP = 8 ether;

    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public collected;
    uint256 public claimedInAll;
    uint256 public bondsHeld;

    address internal session = vm.addr(SESSION_KEY);
    InferenceEscrow internal elsewhere;
    Payee internal payee;
    mapping(bytes32 => uint128) internal largestSigned;
    mapping(bytes32 => uint128) internal collectedBefore;
    bytes[] internal collectedLanes;

    /// @dev What the trees of an epoch gave the three accounts in all; an overturned tree is forgotten.
    mapping(uint64 => uint128[3]) internal treeOf;
    mapping(uint64 => uint256) private bondAt;

    function setUp() public virtual override {
        super.setUp();
        elsewhere = new InferenceEscrow(ICollectedSink(address(settlement)), IStakeDesk(address(stakes)), THAW, HONOUR);
        payee = new Payee(settlement, escrow);
        vm.deal(address(this), 1e27);
        for (uint256 i = 0; i < CLIENTS; ++i) elsewhere.depositFor{value: 100 ether}(who(i));
    }

    receive() external payable {}

    function who(uint256 i) public view returns (address) {
        return i % CLIENTS == 0 ? client : i % CLIENTS == 1 ? reviewer : author;
    }

    function keyOf(uint256 i) internal pure returns (uint256) {
        return i % CLIENTS == 0 ? CLIENT_KEY : i % CLIENTS == 1 ? REVIEWER_KEY : AUTHOR_KEY;
    }

    function wait(uint32 time) external step {
        vm.warp(block.timestamp + time % 2 days);
        vm.roll(block.number + 1);
    }

    // ------------------------------------------------------------------ escrow

    function deposit(uint256 i, uint96 amount) external step {
        uint256 value = 1 + amount % 10 ether;
        escrow.depositFor{value: value}(who(i));
        deposited += value;
        ++did["deposit"];
    }

    function askToLeave(uint256 i, uint96 amount) external step {
        uint128 balance = escrow.accountOf(who(i)).balance;
        vm.prank(who(i));
        escrow.requestWithdraw(amount % (balance + 1));
        ++did["askToLeave"];
    }

    function withdraw(uint256 i, bool early) external step {
        uint64 thawedAt = escrow.accountOf(who(i)).thawedAt;
        if (!early) vm.warp(block.timestamp + THAW);
        uint256 before = who(i).balance;
        vm.prank(who(i));
        escrow.withdraw();
        if (block.timestamp < thawedAt) breaks("I7: a deposit left before it had thawed");
        withdrawn += who(i).balance - before;
        ++did["withdraw"];
    }

    function allowSession(uint256 i, uint96 cap) external step {
        vm.prank(who(i));
        escrow.setSigner(session, cap % 20 ether, type(uint64).max);
        ++did["allowSession"];
    }

    function collect(uint256 i, uint64 nonce, uint96 amount, bool bySession, bool withLaneSignature) external step {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](2);
        items[0] = itemOf(i, nonce, amount, bySession ? SESSION_KEY : keyOf(i), withLaneSignature);
        items[1] = itemOf(i + 1, nonce, amount / 2, keyOf(i + 1), true);
        uint256 before = address(settlement).balance;
        escrow.collectMany(items);
        collected += address(settlement).balance - before;
        for (uint256 k = 0; k < 2; ++k) {
            checkLane(keccak256(items[k].lane));
            collectedLanes.push(items[k].lane);
        }
        uint256 held = address(escrow).balance;
        try elsewhere.collectMany(items) {
            breaks("I15: a voucher was collected by another contract");
        } catch {}
        vm.chainId(999);
        try escrow.collectMany(items) {
            breaks("I15: a voucher was collected on another chain");
        } catch {}
        vm.chainId(31_337);
        // Only a payer whose deposit was short can be collected from again, and then only what it has put in since: nothing.
        try escrow.collectMany(items) {} catch {}
        if (address(escrow).balance != held) breaks("I4: a voucher paid twice");
        ++did["collect"];
    }

    function collectForged(uint256 i, uint64 nonce, uint96 amount) external step {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        items[0] = itemOf(i, nonce, amount, NODE_KEY, true);
        try escrow.collectMany(items) {
            breaks("I3: a voucher was collected that its payer did not sign");
        } catch {}
        items[0] = itemOf(i, nonce, amount, keyOf(i), true);
        items[0].voucher[31] ^= 0x01;
        items[0].voucherSig = signed(keyOf(i), address(escrow), Sig.VOUCHER, items[0].voucher);
        try escrow.collectMany(items) {
            breaks("I15: a voucher was collected on another lane");
        } catch {}
    }

    function itemOf(uint256 i, uint64 nonce, uint96 amount, uint256 key, bool withLaneSignature)
        internal
        returns (InferenceEscrow.Item memory made)
    {
        made.lane = abi.encodePacked(who(i), node, LANE_CAP, type(uint64).max, nonce % 3);
        bytes32 lane = keccak256(made.lane);
        // Mostly above what was collected, sometimes not, sometimes above the cap.
        uint128 cumulative = escrow.collectedOf(lane) + uint128(amount % 2 ether);
        made.voucher = abi.encodePacked(lane, new bytes(110), uint128(0), cumulative);
        if (withLaneSignature) made.laneSig = signed(keyOf(i), address(escrow), Sig.LANE, made.lane);
        made.voucherSig = signed(key, address(escrow), Sig.VOUCHER, made.voucher);
        if (key != NODE_KEY && cumulative > largestSigned[lane]) largestSigned[lane] = cumulative;
    }

    function checkLane(bytes32 lane) private {
        uint128 now_ = escrow.collectedOf(lane);
        if (now_ < collectedBefore[lane]) breaks("I3: what is collected fell");
        if (now_ > largestSigned[lane]) breaks("I3: more was collected than signed");
        collectedBefore[lane] = now_;
    }

    // ------------------------------------------------------------------ epochs

    function submit(bool byOther, uint96 fees) external step {
        uint64 epoch = settlement.submissionEpoch();
        address from = byOther ? other : node;
        // Now and then as much as all of the active stake would cover: refused wherever some of it is pledged.
        uint256 most = stakes.stakeOf(from) / 10;
        uint256 open = settlement.openFeesOf(from);
        uint128 sum = fees & 3 != 0 ? fees % 2 ether : most > open ? uint128(most - open) : 0;
        bytes memory body = abi.encodePacked(from, epoch, keccak256("root"), uint64(1), sum);
        settlement.submitNodeRoot(body, signed(byOther ? OTHER_KEY : NODE_KEY, address(settlement), Sig.NODE_ROOT, body));
        submitted(from);
        ++did["submit"];
    }

    /// @dev A root of this node was just taken.
    function submitted(address from) internal virtual;

    /// @dev Any division of what was received, even one that takes from an account what it had, by the poster or by anybody with a bond.
    function post(uint96 shares, bool withBond) external step {
        uint64 epoch = settlement.lastPosted() + 1;
        vm.warp(block.timestamp + W1 + W2 + (withBond ? FALLBACK : 0));
        uint128 total = settlement.totalReceived();
        uint128[3] memory given;
        given[0] = uint128(total * uint256(shares % 101) / 100);
        given[1] = uint128((total - given[0]) * uint256((shares / 101) % 101) / 100);
        given[2] = total - given[0] - given[1];
        treeOf[epoch] = given;
        (bytes32 root,) = tree(epoch, 0);
        bytes32 previous = settlement.payoutOf(epoch - 1).root;
        uint256 released = settlement.owed(address(this));
        if (withBond) {
            settlement.postPayout{value: POSTER_BOND}(epoch, previous, root, total);
            bondsHeld += POSTER_BOND;
        } else {
            vm.prank(other);
            settlement.postPayout(epoch, previous, root, total);
        }
        // A bond whose record was written over is owed from now on.
        released = settlement.owed(address(this)) - released;
        uint64 older = epoch < 2 ? 0 : epoch - 2;
        if (released != bondAt[older]) breaks("I2: a bond was lost when its record was written over");
        bondAt[older] = 0;
        bondAt[epoch] = withBond ? POSTER_BOND : 0;
        bondsHeld -= released;
        ++did["post"];
    }

    function overturn(bytes32 fault, bool reported) external step {
        uint64 epoch = settlement.lastPosted();
        bool isFinal = settlement.lastFinal() == epoch;
        vm.prank(address(verifier));
        (, uint96 bond) = settlement.overturn(epoch, reported ? address(0xFEE) : address(0), fault);
        if (isFinal) breaks("I6: a final payout was overturned");
        bondsHeld -= bond;
        bondAt[epoch] = 0;
        ++did["overturn"];
    }

    function returnBond() external step {
        uint256 before = address(this).balance;
        settlement.returnBond();
        bondsHeld -= address(this).balance - before;
        bondAt[settlement.lastFinal()] = 0;
        ++did["returnBond"];
    }

    function withdrawOwed() external step {
        payee.become(false, claimOf(settlement.lastFinal(), 2));
        address payable account = payable(settlement.owed(address(payee)) > 0 ? address(payee) : address(this));
        uint256 amount = settlement.owed(account);
        uint256 before = account.balance;
        uint256 claims = settlement.totalClaimed();
        settlement.withdrawOwed(account);
        // The payee calls back and may claim what its leaf leaves it, and not a wei more.
        claims = settlement.totalClaimed() - claims;
        if (account.balance - before != amount + claims) breaks("I16: a payee that calls back gained");
        claimedInAll += claims;
        ++did["withdrawOwed"];
    }

    // ------------------------------------------------------------------ claims

    function claim(uint256 i) external step {
        uint64 epoch = settlement.lastFinal();
        uint256 index = i % 2;
        (, bytes memory siblings) = tree(epoch, index);
        address account = accountOf(index);
        uint256 before = account.balance;
        vm.prank(account);
        settlement.claim(0, treeOf[epoch][index], 0, uint64(index), 3, siblings);
        paidOut(epoch, account.balance - before);
        ++did["claim"];
    }

    function claimMany(bool refuses, uint8 which) external step {
        uint64 epoch = settlement.lastFinal();
        payee.become(refuses, claimOf(epoch, 2));
        uint256 number = 1 + which % 4;
        Settlement.Claim[] memory claims = new Settlement.Claim[](number);
        for (uint256 k = 0; k < number; ++k) claims[k] = claimOf(epoch, (which / 4 + k) % 3);
        uint256 before = balances();
        uint256 owedBefore = settlement.owed(address(payee));
        settlement.claimMany(3, claims);
        uint256 owedNow = settlement.owed(address(payee));
        paidOut(epoch, balances() + owedNow - before - owedBefore);
        ++did["claimMany"];
    }

    /// @dev Nobody is paid by a tree that is not final.
    function claimTooSoon(uint256 i) external step {
        uint64 epoch = settlement.lastPosted();
        if (epoch == settlement.lastFinal()) return;
        Settlement.Claim[] memory claims = new Settlement.Claim[](1);
        claims[0] = claimOf(epoch, i % 3);
        uint256 before = settlement.totalClaimed();
        try settlement.claimMany(3, claims) {} catch {}
        claimedInAll += settlement.totalClaimed() - before;
        // The tree may happen to be the same as the final one: then it pays what that one pays.
        if (settlement.totalClaimed() != before && !same(treeOf[epoch], treeOf[epoch - 1])) {
            breaks("I6: a payout paid before it was final");
        }
        ++did["claimTooSoon"];
    }

    function paidOut(uint64 epoch, uint256 amount) private {
        claimedInAll += amount;
        if (settlement.totalClaimed() > settlement.payoutOf(epoch).total) breaks("I5: claims above the total of their tree");
    }

    function balances() private view returns (uint256) {
        return client.balance + reviewer.balance + address(payee).balance;
    }

    function accountOf(uint256 index) internal view returns (address) {
        return index == 0 ? client : index == 1 ? reviewer : address(payee);
    }

    function claimOf(uint64 epoch, uint256 index) private view returns (Settlement.Claim memory) {
        (, bytes memory siblings) = tree(epoch, index);
        return Settlement.Claim(accountOf(index), 0, treeOf[epoch][index], 0, uint64(index), siblings);
    }

    function same(uint128[3] memory a, uint128[3] memory b) private pure returns (bool) {
        return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
    }

    /// @dev Root of the three accounts' tree and the opening of one of them.
    function tree(uint64 epoch, uint256 index) private view returns (bytes32 root, bytes memory siblings) {
        bytes32[4] memory digests;
        uint128[4] memory sums;
        for (uint256 i = 0; i < 3; ++i) {
            sums[i] = treeOf[epoch][i];
            digests[i] = Trees.leaf(abi.encodePacked(accountOf(i), uint128(0), sums[i], bytes32(0)));
        }
        bytes32 left = Trees.sumNode(digests[0], sums[0], digests[1], sums[1]);
        bytes32 right = Trees.sumNode(digests[2], sums[2], 0, 0);
        uint128 leftSum = sums[0] + sums[1];
        root = Trees.sumRoot(3, leftSum + sums[2], Trees.sumNode(left, leftSum, right, sums[2]));
        siblings = abi.encodePacked(digests[index ^ 1], sums[index ^ 1]);
        siblings = index < 2 ? abi.encodePacked(siblings, right, sums[2]) : abi.encodePacked(siblings, left, leftSum);
    }
}
