// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Metered} from "../src/Metered.sol";
import {ReceiptChallenge} from "../src/ReceiptChallenge.sol";
import {Asking} from "./Asking.sol";

/// @notice Calls what it is told to, as often as it is told to, within one transaction.
contract Relay {
    function many(address to, bytes[] calldata calls) external {
        for (uint256 i = 0; i < calls.length; ++i) {
            (bool done,) = to.call(calls[i]);
            require(done, "refused");
        }
    }

    receive() external payable {}
}

/// @notice Says what a chain of the OP stack says of bytes; or fails in the ways there are.
contract Oracle {
    uint256 private answer;
    uint256 private how;

    function set(uint256 answer_, uint256 how_) external {
        (answer, how) = (answer_, how_);
    }

    function getL1FeeUpperBound(uint256 size) external view returns (uint256) {
        if (how == 1) revert("no");
        uint256 rest = answer;
        while (how == 2) ++rest;
        if (how == 3) {
            assembly ("memory-safe") {
                mstore(0, rest)
                return(0, 31)
            }
        }
        return answer * size;
    }
}

/// @notice Counts whatever it is called with: its bytes that are not zero, and half of what it cost.
contract Raw {
    fallback(bytes calldata) external returns (bytes memory) {
        uint256 price = Metered.half(gasleft());
        return abi.encode(Metered.nonzero(), price);
    }
}

/// @notice What an answer costs whoever gives it, and who bears it: half of it the challenger, nobody ever more than is paid for it.
/// @dev Calls are no transactions of their own here, in which gas would be free: what a transaction takes before it begins is added.
/// forge-config: default.isolate = false
contract MeteredTest is Asking {
    uint256 private constant FEE = 1 gwei;
    /// @dev Gas that dividing the bond takes and that is not counted: a fresh slot of books and a fresh account, where the meter knows of neither.
    uint256 private constant UNCOUNTED = 60_000;

    function setUp() public override {
        super.setUp();
        vm.fee(FEE);
    }

    /// @notice The pump: a node with receipts that it serves nobody, asked for all of them on the chain, has paid more than it is given.
    function test_a_node_that_serves_nobody_until_it_is_asked_on_the_chain_loses_by_it() public {
        Root memory root = submitted(6);
        ask(root, 0, 6);
        uint256 had = node.balance;
        uint256 gas = 0;
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(node, node);
            show(root, 0, 6, 2 * i, 2, bytes4(0));
            uint256 used = vm.lastCallGas().gasTotalUsed;
            bytes memory call = abi.encodeCall(ReceiptChallenge.showReceipts, (evidenceOf(root, 0, 6, 2 * i, 2)));
            gas += intrinsic(call) + used;
        }
        uint256 given = node.balance - had;
        yes("no more than half of what it paid", 2 * given <= gas * FEE);
        yes("and nearly that", 2 * given + 3 * UNCOUNTED * FEE >= gas * FEE);
        eq("the rest is the challenger's", 6 * CHALLENGE_BOND - given, desk.owed(ASKER));
    }

    function test_who_answers_is_given_the_bonds_of_what_it_showed_first_at_most() public {
        Root memory root = submitted(4);
        ask(root, 0, 4);
        bytes memory call = abi.encodeCall(ReceiptChallenge.showReceipts, (evidenceOf(root, 0, 4, 0, 1)));
        // Three quarters of a bond: all of it, and the rest goes back.
        uint256 price = priced(call);
        vm.fee(FEE * (CHALLENGE_BOND * 3 / 4) / price);
        uint256 clean = vm.snapshotState();
        uint256 before = node.balance;
        vm.prank(node, node);
        show(root, 0, 4, 0, 1, bytes4(0));
        uint256 given = node.balance - before;
        yes("about three quarters", given > CHALLENGE_BOND * 7 / 10 && given < CHALLENGE_BOND * 8 / 10);
        eq("the rest", CHALLENGE_BOND - given, desk.owed(ASKER));
        vm.revertToState(clean);
        vm.fee(1e6 gwei);
        vm.prank(node, node);
        show(root, 0, 4, 0, 1, bytes4(0));
        eq("one bond", before + CHALLENGE_BOND, node.balance);
        eq("nothing left of it", 0, desk.owed(ASKER));
        // Passed over, and two more.
        vm.prank(node, node);
        show(root, 0, 4, 0, 3, bytes4(0));
        eq("two more", before + 3 * CHALLENGE_BOND, node.balance);
        // Nothing new.
        vm.prank(author, author);
        show(root, 0, 4, 0, 2, bytes4(0));
        eq("nothing", 0, author.balance);
        vm.warp(block.timestamp + ANSWER_SECONDS);
        desk.settleReceipts(root.body, blockOf(root), 0, 4);
        eq("the one that was not shown", 1_000 ether - 3 * CHALLENGE_BOND, ASKER.balance);
        eq("nothing kept", 0, address(desk).balance);
    }

    /// @notice Each call of a contract would be given a transaction's base and bytes, which are paid once.
    function test_a_contract_that_answers_many_times_in_one_transaction_is_given_the_calls_alone() public {
        Root memory root = submitted(4);
        for (uint256 i = 0; i < 4; ++i) ask(root, i, 1);
        Relay relay = new Relay();
        bytes[] memory calls = new bytes[](4);
        for (uint256 i = 0; i < 4; ++i) calls[i] = abi.encodeCall(ReceiptChallenge.showReceipts, (evidenceOf(root, i, 1, i, 1)));
        vm.prank(node, node);
        relay.many(address(desk), calls);
        // All that is paid but the relay's own base and bytes.
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        yes("given", address(relay).balance > 0);
        yes("no more than half of what it paid", 2 * address(relay).balance <= gas * FEE);
    }

    /// @notice An account that lent itself code may call as often, and is its transaction's origin.
    function test_an_account_with_code_is_given_neither_base_nor_bytes() public {
        bytes memory call = askedOne();
        uint256 whole = priced(call);
        vm.etch(node, hex"ef0100000000000000000000000000000000000000c0de");
        yes("less by both", priced(call) + (21_000 + 4 * call.length) * FEE / 2 < whole);
    }

    /// @notice What a transaction takes before it begins, and only where the transaction is the call: not while a contract is being made, which has no
    /// code yet. All else that the one call is given more for is the gas that it used more.
    function test_base_and_bytes_are_counted_as_the_chain_does_for_a_transactions_own_sender() public {
        bytes memory call = askedOne();
        priced(call);
        (uint256 whole, uint256 wholeUsed) = priced(call, node);
        (uint256 alone, uint256 aloneUsed) = priced(call, author);
        eq("base and bytes", intrinsic(call) + wholeUsed - aloneUsed, 2 * (whole - alone) / FEE);
    }

    /// @notice To the byte: calls of as many words take as much gas to count, whatever they hold and wherever the last ends.
    function testFuzz_a_byte_is_counted_by_what_it_is(bytes calldata given, uint256 place) public {
        Raw raw = new Raw();
        bytes memory call = bytes.concat(given, hex"00");
        place %= call.length;
        call[place] = 0;
        // What is read first is dearer.
        half(raw, call);
        uint256 zero = half(raw, call);
        call[place] = 0x80;
        eq("one that is not zero", 12 * FEE / 2, half(raw, call) - zero);
        // A zero more, within the last word.
        if (call.length % 32 != 0) eq("one more", 4 * FEE / 2, half(raw, bytes.concat(call, hex"00")) - half(raw, call));
    }

    /// @notice The share of L1 is counted where the chain says it, up to what the call costs on this chain, and an oracle that fails changes nothing.
    function test_the_l1_share_is_counted_up_to_the_price_of_the_call() public {
        bytes memory call = askedOne();
        // What is read first is dearer.
        priced(call);
        uint256 none = priced(call);
        vm.etch(Metered.ORACLE, address(new Oracle()).code);
        Oracle oracle = Oracle(Metered.ORACLE);
        oracle.set(0, 0);
        // In 10^9 wei a byte: nothing, some, far more than the call costs.
        uint256 asked = priced(call);
        yes("asking is paid", asked < none + 30_000 * FEE);
        oracle.set(10 gwei, 0);
        eq("half of the bound", asked + 10 gwei * call.length / 2, priced(call));
        oracle.set(1 ether, 0);
        eq("as much again at most", 2 * asked, priced(call));
        for (uint256 how = 1; how < 4; ++how) {
            oracle.set(1 ether, how);
            uint256 got = priced(call);
            yes("nothing for L1", got + 10_000 * FEE > asked && got < none + 110_000 * FEE / 2);
        }
    }

    function testFuzz_bytes_are_counted_one_by_one(bytes calldata given, uint256 seed) public {
        bytes memory call = bytes.concat(given);
        // More zeros than a draw gives.
        for (uint256 i = 0; i < call.length; ++i) if (uint256(keccak256(abi.encode(seed, i))) & 1 == 0) call[i] = 0;
        (uint256 counted,) = raw_(new Raw(), call);
        eq("bytes that are not zero", nonzero(call), counted);
    }

    // ------------------------------------------------------------------ helpers

    function nonzero(bytes memory call) private pure returns (uint256 count) {
        for (uint256 i = 0; i < call.length; ++i) if (call[i] != 0) ++count;
    }

    /// @dev What a transaction takes before it begins, in gas.
    function intrinsic(bytes memory call) private pure returns (uint256) {
        return 21_000 + 4 * call.length + 12 * nonzero(call);
    }

    /// @dev A root of one receipt that was asked for, and the call that answers.
    function askedOne() private returns (bytes memory call) {
        Root memory root = submitted(1);
        ask(root, 0, 1);
        call = abi.encodeCall(ReceiptChallenge.showReceipts, (evidenceOf(root, 0, 1, 0, 1)));
    }

    /// @dev What a call of the node is given; nothing of it stays.
    function priced(bytes memory call) private returns (uint256 given) {
        (given,) = priced(call, node);
    }

    /// @dev The same within a transaction of `origin`, and the gas that the call used.
    function priced(bytes memory call, address origin) private returns (uint256 given, uint256 used) {
        uint256 clean = vm.snapshotState();
        uint256 had = node.balance;
        vm.prank(node, origin);
        (bool done,) = address(desk).call(call);
        used = vm.lastCallGas().gasTotalUsed;
        yes("answered", done);
        given = node.balance - had;
        vm.revertToState(clean);
    }

    function raw_(Raw raw, bytes memory call) private returns (uint256 counted, uint256 price) {
        vm.prank(node, node);
        (bool done, bytes memory got) = address(raw).call(call);
        yes("counted", done);
        return abi.decode(got, (uint256, uint256));
    }

    function half(Raw raw, bytes memory call) private returns (uint256 price) {
        (, price) = raw_(raw, call);
    }
}
