// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settlement} from "../src/Settlement.sol";
import {Trees} from "../src/Trees.sol";
import {Suite} from "./Suite.sol";

/// @notice An account that, whenever it is paid, asks everything that pays to pay it again.
contract Thief {
    address[] private targets;
    bytes[] private calls;
    uint256 public paid;
    uint256 public again;
    uint256 private depth;

    function plan(address target, bytes calldata call) external {
        targets.push(target);
        calls.push(call);
    }

    function act(address target, uint256 value, bytes calldata call) external {
        (bool done, bytes memory reason) = target.call{value: value}(call);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(reason, 32), mload(reason))
            }
        }
    }

    receive() external payable {
        ++paid;
        // Deep enough to come back into each of them from within each other.
        if (depth >= 4) return;
        ++depth;
        for (uint256 i = 0; i < targets.length; ++i) {
            (bool done,) = targets[i].call(calls[i]);
            if (done) ++again;
        }
        --depth;
    }
}

/// @notice I16: whoever calls back while it is paid, with all the gas there is, gets what it is due, once.
contract ReentrancyTest is Suite {
    uint128 private constant DEPOSIT = 3 ether;
    uint128 private constant STAKE = 25 ether;
    uint128 private constant EARNED = 2 ether;
    uint128 private constant RENT = 5 ether;
    uint128 private constant REWARD = 7 ether;

    Thief private thief;
    uint64 private datanet;
    bytes private claim;

    function setUp() public override {
        super.setUp();
        thief = new Thief();
        vm.deal(address(thief), DEPOSIT + STAKE + RENT);
        act(address(escrow), DEPOSIT, abi.encodeCall(escrow.deposit, ()));
        act(address(escrow), 0, abi.encodeCall(escrow.requestWithdraw, (DEPOSIT)));
        act(address(stakes), STAKE, abi.encodeCall(stakes.stake, (keccak256("thief"), 1, address(thief))));
        vm.deal(address(this), 200 ether);
        (bool done,) = address(vault).call{value: REWARD}("");
        yes("rewarded", done);
        act(address(stakes), 0, abi.encodeCall(stakes.unbond, (STAKE)));
        rented();
        posted();
        vm.warp(block.timestamp + UNBONDING);
        // Others' money is there to be taken.
        vm.prank(client);
        escrow.deposit{value: 50 ether}();
        settlement.receiveCollected{value: 50 ether}();
        rent.prepay{value: 50 ether}(datanet);
    }

    function test_each_payment_can_be_the_first_and_all_come_once() public {
        address[5] memory targets = [address(escrow), address(stakes), address(settlement), address(vault), address(rent)];
        bytes[5] memory calls = [
            abi.encodeCall(escrow.withdraw, ()),
            abi.encodeCall(stakes.withdraw, ()),
            claim,
            abi.encodeCall(vault.claim, ()),
            abi.encodeCall(rent.withdraw, (datanet))
        ];
        for (uint256 i = 0; i < 5; ++i) thief.plan(targets[i], calls[i]);
        thief.plan(address(settlement), abi.encodeCall(settlement.withdrawOwed, (payable(address(thief)))));
        thief.plan(address(stakes), abi.encodeCall(stakes.withdrawOwed, (payable(address(thief)))));
        uint256 due = uint256(DEPOSIT) + STAKE + EARNED + RENT + vault.earned(address(thief));
        uint256 clean = vm.snapshotState();
        for (uint256 i = 0; i < 5; ++i) {
            act(targets[i], 0, calls[i]);
            eq("paid what it was due", due, address(thief).balance);
            eq("in five payments", 5, thief.paid());
            eq("four of them from within another", 4, thief.again());
            eq("escrow", 50 ether, address(escrow).balance);
            eq("stakes", 150 ether, address(stakes).balance);
            eq("settlement", settlement.totalReceived() - EARNED, address(settlement).balance);
            eq("rent", 50 ether, address(rent).balance);
            vm.revertToState(clean);
        }
    }

    // ------------------------------------------------------------------ helpers

    function act(address target, uint256 value, bytes memory call) private {
        thief.act(target, value, call);
    }

    /// @dev A Datanet of the thief whose unspent rent it takes back.
    function rented() private {
        act(address(registry), 0, abi.encodeCall(registry.register, (3, "datanet")));
        datanet = 1;
        act(address(rent), RENT, abi.encodeCall(rent.prepay, (datanet)));
        act(address(rent), 0, abi.encodeCall(rent.requestWithdraw, (datanet, RENT)));
    }

    /// @dev A final payout that gives the thief its part and another account one ether.
    function posted() private {
        settlement.receiveCollected{value: EARNED + 1 ether}();
        bytes32 mine = Trees.leaf(abi.encodePacked(address(thief), uint128(0), EARNED, bytes32(0)));
        bytes32 theirs = Trees.leaf(abi.encodePacked(author, uint128(0), uint128(1 ether), bytes32(0)));
        bytes32 root = Trees.sumRoot(2, EARNED + 1 ether, Trees.sumNode(mine, EARNED, theirs, 1 ether));
        bytes memory body = abi.encodePacked(node, uint64(1), keccak256("root"), uint64(1), uint128(1));
        settlement.submitNodeRoot(body, signed(NODE_KEY, address(settlement), keccak256("NodeRoot(bytes body)"), body));
        vm.warp(block.timestamp + W1);
        vm.prank(other);
        settlement.postPayout(1, 0, root, EARNED + 1 ether);
        claim = abi.encodeCall(Settlement.claim, (0, EARNED, bytes32(0), 0, 2, abi.encodePacked(theirs, uint128(1 ether))));
    }
}
