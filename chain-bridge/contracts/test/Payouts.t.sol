// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Pay} from "../src/Pay.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Trees} from "../src/Trees.sol";
import {GasBurner, Moody} from "./StakeManager.t.sol";
import {Suite} from "./Suite.sol";

/// @notice A payee that claims again while it is being paid.
contract Greedy {
    Settlement private settlement;
    Settlement.Claim[] private again;
    uint64 private count;
    bool public tried;

    constructor(Settlement settlement_) {
        settlement = settlement_;
    }

    function remember(uint64 count_, Settlement.Claim calldata claim) external {
        count = count_;
        again.push(claim);
    }

    receive() external payable {
        tried = true;
        settlement.claimMany(count, again);
    }
}

/// @notice Posting, overturning, bonds, voids, exposure and relayed claims.
contract PayoutsTest is Suite {
    bytes32 private constant ROOT = keccak256("root");
    bytes32 private constant FAULT = keccak256("fault");

    // ------------------------------------------------------------------ node roots

    function test_a_node_root_is_kept_with_its_block() public {
        bytes memory body = rootBody(node, 1, 1 ether);
        uint64 blockNumber = uint64(block.number);
        submitBody(NODE_KEY, body);
        vm.roll(blockNumber + 100);
        settlement.requireNodeRoot(body, blockNumber);
        wrongRoot(body, blockNumber + 1);
        body[60] = 0x01;
        wrongRoot(body, blockNumber);
        wrongRoot(rootBody(other, 1, 1 ether), blockNumber);
    }

    function test_open_fees_stay_below_a_tenth_of_the_stake() public {
        submitRefused(rootBody(node, 1, 10 ether + 1), 10 ether, 10 ether + 1);
        submitBody(NODE_KEY, rootBody(node, 1, 10 ether));
        eq("open", 10 ether, settlement.openFeesOf(node));
        vm.warp(block.timestamp + EPOCH_MIN);
        submitRefused(rootBody(node, 2, 1), 10 ether, 10 ether + 1);
        submitBody(NODE_KEY, rootBody(node, 2, 0));
        // Another node has bounds of its own.
        submitBody(OTHER_KEY, rootBody(other, 2, 5 ether));
    }

    function test_stake_that_may_leave_before_a_fault_is_proven_covers_no_fees() public {
        vm.prank(node);
        stakes.unbond(80 ether);
        // One second before the stake may leave.
        vm.warp(block.timestamp + UNBONDING - 1);
        submitRefused(rootBody(node, 1, 2 ether + 1), 2 ether, 2 ether + 1);
        submitBody(NODE_KEY, rootBody(node, 1, 2 ether));
        vm.warp(block.timestamp + 1);
        vm.prank(node);
        stakes.withdraw();
        eq("what is left covers them tenfold", 20 ether, stakes.slashableOf(node));
        // Whoever unbonds right after its root was submitted is still there when its last fault can be proven.
        vm.prank(node);
        stakes.unbond(20 ether);
        vm.warp(block.timestamp + W1 + W2);
        vm.prank(node);
        vm.expectPartialRevert(StakeManager.StillUnbonding.selector);
        stakes.withdraw();
        eq("slashable", 20 ether, stakes.slashableOf(node));
    }

    function test_open_fees_are_forgotten_once_final() public {
        settlement.receiveCollected();
        for (uint64 epoch = 1; epoch <= 5; ++epoch) {
            submitBody(NODE_KEY, rootBody(node, epoch, 5 ether));
            eq("open", 5 ether, settlement.openFeesOf(node));
            vm.warp(block.timestamp + W1);
            post(epoch, settlement.payoutOf(epoch - 1).root, ROOT, 0);
            eq("still open", 5 ether, settlement.openFeesOf(node));
            vm.warp(block.timestamp + W2);
            eq("final", 0, settlement.openFeesOf(node));
        }
    }

    function test_open_fees_of_overlapping_epochs_are_all_counted() public {
        submitBody(NODE_KEY, rootBody(node, 1, 3 ether));
        vm.warp(block.timestamp + EPOCH_MIN);
        submitBody(NODE_KEY, rootBody(node, 2, 3 ether));
        eq("two", 6 ether, settlement.openFeesOf(node));
        vm.warp(block.timestamp + EPOCH_MIN);
        submitBody(NODE_KEY, rootBody(node, 3, 4 ether));
        eq("three", 10 ether, settlement.openFeesOf(node));
        vm.warp(block.timestamp + EPOCH_MIN);
        submitRefused(rootBody(node, 4, 1), 10 ether, 10 ether + 1);
        post(1, 0, ROOT, 0);
        vm.warp(block.timestamp + W2);
        eq("the first is final", 7 ether, settlement.openFeesOf(node));
        submitBody(NODE_KEY, rootBody(node, 4, 3 ether));
    }

    function test_a_stake_beyond_the_books_counts_as_what_they_hold() public {
        vm.deal(node, uint256(type(uint96).max) * 20);
        vm.prank(node);
        stakes.increase{value: uint256(type(uint96).max) * 20}();
        submitRefused(rootBody(node, 1, uint128(type(uint96).max) + 1), type(uint96).max, uint256(type(uint96).max) + 1);
        submitBody(NODE_KEY, rootBody(node, 1, type(uint96).max));
    }

    function test_only_a_verifier_voids_a_receipt_and_once() public {
        vm.expectRevert(abi.encodeWithSelector(Settlement.OnlyVerifier.selector, address(this)));
        settlement.markVoid(FAULT);
        yes("not void", !settlement.isVoid(FAULT));
        vm.startPrank(address(verifier));
        settlement.markVoid(FAULT);
        yes("void", settlement.isVoid(FAULT));
        eq("since", block.timestamp, settlement.voidedAt(FAULT));
        vm.expectRevert(abi.encodeWithSelector(Settlement.AlreadyVoid.selector, FAULT));
        settlement.markVoid(FAULT);
        vm.stopPrank();
    }

    // ------------------------------------------------------------------ posters

    function test_only_a_bonded_poster_posts_before_the_fall_back() public {
        due();
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotBonded.selector, node));
        settlement.postPayout(1, 0, ROOT, 0);
        uint256 from = block.timestamp + FALLBACK;
        vm.deal(client, 10 ether);
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(Settlement.FallbackTooSoon.selector, from, block.timestamp));
        settlement.postPayout{value: POSTER_BOND}(1, 0, ROOT, 0);
        vm.warp(from);
        vm.expectRevert(abi.encodeWithSelector(Settlement.WrongBond.selector, POSTER_BOND, POSTER_BOND - 1));
        settlement.postPayout{value: POSTER_BOND - 1}(1, 0, ROOT, 0);
        vm.expectRevert(abi.encodeWithSelector(Settlement.WrongBond.selector, POSTER_BOND, POSTER_BOND + 1));
        settlement.postPayout{value: POSTER_BOND + 1}(1, 0, ROOT, 0);
        settlement.postPayout{value: POSTER_BOND}(1, 0, ROOT, 0);
        vm.stopPrank();
        Settlement.Payout memory pending = settlement.pendingPayout();
        eq("poster", client, pending.poster);
        eq("bond", POSTER_BOND, pending.bond);
        eq("epoch", 1, pending.epoch);
        eq("none final", 0, settlement.finalPayout().epoch);
    }

    function test_the_fall_back_counts_from_the_previous_payouts_finality() public {
        due();
        vm.warp(block.timestamp + EPOCH_MIN);
        submitBody(NODE_KEY, rootBody(node, 2, 0));
        vm.warp(block.timestamp + W1 + FALLBACK);
        post(1, 0, ROOT, 0);
        uint256 from = block.timestamp + W2 + FALLBACK;
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(Settlement.FallbackTooSoon.selector, from, from - 1));
        settlement.postPayout{value: POSTER_BOND}(2, ROOT, ROOT, 0);
        vm.warp(from);
        settlement.postPayout{value: POSTER_BOND}(2, ROOT, ROOT, 0);
    }

    function test_a_bond_comes_back_once_the_payout_is_final() public {
        vm.expectRevert(Settlement.NoFinalPayout.selector);
        settlement.returnBond();
        fallBack(client);
        vm.expectRevert(Settlement.NoFinalPayout.selector);
        settlement.returnBond();
        vm.warp(block.timestamp + W2);
        uint256 before = client.balance;
        settlement.returnBond();
        eq("back", before + POSTER_BOND, client.balance);
        eq("held", 0, address(settlement).balance);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NoBond.selector, 1));
        settlement.returnBond();
    }

    function test_a_bond_nobody_asked_for_is_credited_when_its_record_is_written_over() public {
        fallBack(client);
        for (uint64 epoch = 2; epoch <= 3; ++epoch) {
            vm.warp(block.timestamp + W2 + EPOCH_MIN);
            submitBody(NODE_KEY, rootBody(node, epoch, 0));
            vm.warp(block.timestamp + W1);
            post(epoch, ROOT, ROOT, 0);
        }
        eq("owed", POSTER_BOND, settlement.owed(client));
        uint256 before = client.balance;
        settlement.withdrawOwed(payable(client));
        eq("back", before + POSTER_BOND, client.balance);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NothingOwed.selector, client));
        settlement.withdrawOwed(payable(client));
        vm.warp(block.timestamp + W2);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NoBond.selector, 3));
        settlement.returnBond();
    }

    function test_a_poster_that_refuses_its_bond_is_credited() public {
        Moody moody = new Moody();
        fallBack(address(moody));
        vm.warp(block.timestamp + W2);
        settlement.returnBond();
        eq("owed", POSTER_BOND, settlement.owed(address(moody)));
        vm.expectRevert(bytes("not now"));
        settlement.withdrawOwed(payable(address(moody)));
        moody.setAccepts(true);
        settlement.withdrawOwed(payable(address(moody)));
        eq("back", POSTER_BOND, address(moody).balance);
    }

    // ------------------------------------------------------------------ overturning

    function test_a_pending_payout_is_overturned_and_posted_again() public {
        fund(10 ether);
        due();
        vm.prank(address(verifier));
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotPending.selector, 0, 0));
        settlement.overturn(0, reviewer, FAULT);
        post(1, 0, ROOT, 7 ether);
        vm.expectRevert(abi.encodeWithSelector(Settlement.OnlyVerifier.selector, address(this)));
        settlement.overturn(1, reviewer, FAULT);
        vm.startPrank(address(verifier));
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotPending.selector, 1, 2));
        settlement.overturn(2, reviewer, FAULT);
        (address poster, uint96 bond) = settlement.overturn(1, reviewer, FAULT);
        vm.stopPrank();
        eq("poster", other, poster);
        eq("no bond", 0, bond);
        eq("nothing is posted", 0, settlement.lastPosted());
        eq("nothing is final", 0, settlement.lastFinal());
        eq("nothing is told of it", 0, settlement.payoutOf(1).root);
        vm.warp(block.timestamp + W2);
        eq("time does not make it final", 0, settlement.lastFinal());
        bytes32 second = keccak256("second");
        post(1, 0, second, 5 ether);
        eq("the window begins anew", 0, settlement.lastFinal());
        vm.warp(block.timestamp + W2);
        eq("final", second, settlement.finalPayout().root);
        eq("total", 5 ether, settlement.finalPayout().total);
        vm.prank(address(verifier));
        vm.expectRevert(abi.encodeWithSelector(Settlement.PayoutIsFinal.selector, 1, block.timestamp));
        settlement.overturn(1, reviewer, FAULT);
    }

    function test_the_payout_below_an_overturned_one_stays_final_and_claimable() public {
        fund(10 ether);
        due();
        (bytes32 root, bytes memory siblings) = pair(client, 1 ether, other, 2 ether);
        post(1, 0, root, 3 ether);
        vm.warp(block.timestamp + W2 + EPOCH_MIN);
        submitBody(NODE_KEY, rootBody(node, 2, 0));
        vm.warp(block.timestamp + W1);
        post(2, root, ROOT, 9 ether);
        eq("one", root, settlement.payoutOf(1).root);
        eq("two", ROOT, settlement.payoutOf(2).root);
        vm.prank(address(verifier));
        settlement.overturn(2, reviewer, FAULT);
        eq("one is final", 1, settlement.lastFinal());
        eq("none is pending", 0, settlement.pendingPayout().root);
        eq("two is none", 0, settlement.payoutOf(2).root);
        vm.prank(client);
        settlement.claim(0, 1 ether, 0, 0, 2, siblings);
        post(2, root, ROOT, 3 ether);
    }

    function test_an_overturned_bond_is_halved_between_reporter_and_fire() public {
        fallBack(client);
        uint256 before = reviewer.balance;
        vm.prank(address(verifier));
        (address poster, uint96 bond) = settlement.overturn(1, reviewer, FAULT);
        eq("poster", client, poster);
        eq("bond", POSTER_BOND, bond);
        eq("half", before + POSTER_BOND / 2, reviewer.balance);
        eq("burned", POSTER_BOND / 2, settlement.BURN().balance);
        // The next poster's bond is its own.
        fallBackNow(author);
        vm.warp(block.timestamp + W2);
        before = author.balance;
        settlement.returnBond();
        eq("back", before + POSTER_BOND, author.balance);
    }

    function test_an_overturned_bond_without_a_reporter_is_burned() public {
        fallBack(client);
        vm.prank(address(verifier));
        settlement.overturn(1, address(0), FAULT);
        eq("burned", POSTER_BOND, settlement.BURN().balance);
    }

    // ------------------------------------------------------------------ relayed claims

    function test_a_relay_pays_everybody_once_and_passes_over_who_has_claimed() public {
        (, Settlement.Claim[] memory claims) = claimable(client, 1 ether, address(0xA00A), 2 ether);
        vm.prank(client);
        settlement.claim(0, 1 ether, 0, 0, 2, claims[0].siblings);
        uint256 before = client.balance;
        settlement.claimMany(2, claims);
        eq("passed over", before, client.balance);
        eq("paid", 2 ether, address(0xA00A).balance);
        eq("claimed", 3 ether, settlement.totalClaimed());
        settlement.claimMany(2, claims);
        eq("nothing twice", 3 ether, settlement.totalClaimed());
        vm.expectRevert(Settlement.NoClaims.selector);
        settlement.claimMany(2, new Settlement.Claim[](0));
        claims[1].cumulative += 1;
        vm.expectRevert();
        settlement.claimMany(2, claims);
    }

    function test_a_relay_needs_a_final_payout() public {
        vm.expectRevert(Settlement.NoFinalPayout.selector);
        settlement.claimMany(2, new Settlement.Claim[](1));
    }

    function test_payees_that_refuse_or_burn_gas_block_nobody() public {
        Moody moody = new Moody();
        GasBurner burner = new GasBurner();
        (, Settlement.Claim[] memory claims) = claimable(address(moody), 1 ether, address(burner), 2 ether);
        settlement.claimMany(2, claims);
        eq("owed", 1 ether, settlement.owed(address(moody)));
        eq("owed to the burner", 2 ether, settlement.owed(address(burner)));
        eq("counts as claimed", 1 ether, settlement.claimed(address(moody)));
        moody.setAccepts(true);
        settlement.withdrawOwed(payable(address(moody)));
        eq("paid", 1 ether, address(moody).balance);
        settlement.claimMany(2, claims);
        eq("nothing twice", 2 ether, address(settlement).balance);
    }

    function test_a_payee_that_calls_back_gains_nothing() public {
        Greedy greedy = new Greedy(settlement);
        (, Settlement.Claim[] memory claims) = claimable(address(greedy), 1 ether, address(0xA00A), 2 ether);
        greedy.remember(2, claims[0]);
        settlement.claimMany(2, claims);
        eq("all", 3 ether, address(greedy).balance + address(0xA00A).balance + settlement.owed(address(greedy)));
        eq("left", settlement.owed(address(greedy)), address(settlement).balance);
    }

    function test_a_relay_cannot_starve_a_payee_of_gas() public {
        (, Settlement.Claim[] memory claims) = claimable(address(0xA00A), 1 ether, address(0xB00B), 2 ether);
        (bool done, bytes memory reason) =
            address(settlement).call{gas: 160_000}(abi.encodeCall(Settlement.claimMany, (2, claims)));
        yes("refused", !done);
        eq("reason", bytes32(Pay.NotEnoughGas.selector), bytes32(bytes4(reason)));
    }

    function test_claims_of_a_wrong_tree_stay_within_its_total() public {
        (bytes32 root, Settlement.Claim[] memory claims) = claimable(client, 1 ether, address(0xA00A), 2 ether);
        settlement.claimMany(2, claims);
        vm.warp(block.timestamp + EPOCH_MIN);
        submitBody(NODE_KEY, rootBody(node, 2, 0));
        vm.warp(block.timestamp + W1);
        (bytes32 second, Settlement.Claim[] memory wrong) = pairClaims(address(0xC00C), 1 ether, address(0xA00A), 2 ether);
        post(2, root, second, 3 ether);
        vm.warp(block.timestamp + W2);
        vm.expectRevert(abi.encodeWithSelector(Settlement.ClaimsAboveTotal.selector, 3 ether, 4 ether));
        settlement.claimMany(2, wrong);
    }

    function test_a_relay_pays_a_treasury_to_the_contract_that_divides_it() public {
        vm.prank(author);
        uint64 datanet = registry.register(3, "");
        address treasury = address(uint160(uint256(keccak256(abi.encodePacked("tributary/treasury/v1", datanet)))));
        yes("sealed", settlement.isSealed(treasury));
        (, Settlement.Claim[] memory claims) = claimable(client, 1 ether, treasury, 2 ether);
        uint256 before = client.balance;
        settlement.claimMany(2, claims);
        eq("the address nobody has a key to", 0, treasury.balance);
        // Nothing was accepted into this Datanet: `DatanetTreasuryTest` has one that has contributors.
        eq("passed on by the contract", 2 ether, address(pool).balance);
        eq("which keeps nothing", 0, address(treasuries).balance + treasuries.streamOf(datanet).undivided);
        eq("claimed", 2 ether, settlement.claimed(treasury));
        eq("who stands beside it", 1 ether, client.balance - before);
        // Nothing is left; and what has nothing left is passed over, sealed or not.
        settlement.claimMany(2, claims);
        eq("once", 2 ether, address(pool).balance);
        settlement.sealTreasury(datanet);
        vm.prank(author);
        uint64 base = registry.register(1, "");
        yes("a base has none", !settlement.isSealed(address(uint160(uint256(keccak256(abi.encodePacked("tributary/treasury/v1", base)))))));
    }

    /// @dev A Datanet that does not exist yet: whoever seals its treasury holds up no batch, and locks no money.
    function test_a_treasury_of_no_datanet_holds_up_no_batch() public {
        settlement.sealTreasury(77);
        address treasury = address(uint160(uint256(keccak256(abi.encodePacked("tributary/treasury/v1", uint64(77))))));
        (, Settlement.Claim[] memory claims) = claimable(client, 1 ether, treasury, 2 ether);
        settlement.claimMany(2, claims);
        eq("to the pool", 2 ether, address(pool).balance);
        eq("nothing waits", 0, treasuries.streamOf(77).undivided);
    }

    function test_the_vault_and_the_pool_are_paid_by_a_relay() public {
        (, Settlement.Claim[] memory claims) = claimable(address(vault), 3 ether, address(pool), 2 ether);
        settlement.claimMany(2, claims);
        eq("pool", 2 ether, address(pool).balance);
        eq("vault", 3 ether, address(vault).balance);
        // The remainder of the division, below the stake in parts of 2^-64 wei, is carried.
        yes("node's part", 2 ether - vault.earned(node) <= 10);
        yes("other's part", 1 ether - vault.earned(other) <= 10);
    }

    /// @notice Whatever two amounts a tree holds, a relay pays exactly its total.
    function testFuzz_a_relay_pays_the_total(uint128 first, uint128 second, uint64 more) public {
        first = uint128(1 + first % 1e30);
        second = uint128(1 + second % 1e30);
        vm.deal(address(this), 3e30);
        fund(more);
        (, Settlement.Claim[] memory claims) = claimable(address(0xA11CE), first, address(0xB0B), second);
        settlement.claimMany(2, claims);
        eq("first", first, address(0xA11CE).balance);
        eq("second", second, address(0xB0B).balance);
        eq("left", more, address(settlement).balance);
    }

    /// @notice No order of submissions and finality makes the open fees less than those of the epochs that are not final.
    function testFuzz_open_fees_are_never_below_the_truth(uint8[12] calldata fees, uint8[12] calldata waits) public {
        uint256[13] memory given;
        for (uint64 epoch = 1; epoch <= 12; ++epoch) {
            given[epoch] = uint256(fees[epoch - 1]) * 1e15;
            submitBody(NODE_KEY, rootBody(node, epoch, uint128(given[epoch])));
            checkOpen(given);
            vm.warp(block.timestamp + EPOCH_MIN + waits[epoch - 1] % 40);
            uint64 next = settlement.lastPosted() + 1;
            Settlement.Payout memory last = settlement.payoutOf(next - 1);
            bool ready = block.timestamp >= settlement.epochs(next).openedAt + W1 && block.timestamp >= last.postedAt + W2;
            if (next <= epoch && ready) post(next, last.root, ROOT, 0);
            checkOpen(given);
            vm.warp(block.timestamp + EPOCH_MIN);
        }
    }

    // ------------------------------------------------------------------ helpers

    function checkOpen(uint256[13] memory given) private view {
        uint256 truth = 0;
        for (uint64 epoch = settlement.lastFinal() + 1; epoch <= settlement.currentEpoch(); ++epoch) truth += given[epoch];
        yes("open fees", settlement.openFeesOf(node) >= truth);
    }

    function rootBody(address from, uint64 epoch, uint128 fees) private pure returns (bytes memory) {
        return abi.encodePacked(from, epoch, ROOT, uint64(1), fees);
    }

    function submitBody(uint256 key, bytes memory body) private {
        settlement.submitNodeRoot(body, signed(key, address(settlement), Sig.NODE_ROOT, body));
    }

    function submitRefused(bytes memory body, uint256 most, uint256 open) private {
        bytes memory signature = signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body);
        vm.expectRevert(abi.encodeWithSelector(Settlement.FeesAboveStake.selector, most, open));
        settlement.submitNodeRoot(body, signature);
    }

    function wrongRoot(bytes memory body, uint64 blockNumber) private view {
        try settlement.requireNodeRoot(body, blockNumber) {
            revert("expected a refusal");
        } catch (bytes memory reason) {
            eq("error", bytes32(Settlement.WrongNodeRoot.selector), bytes32(bytes4(reason)));
        }
    }

    function fund(uint256 amount) private {
        vm.deal(address(this), address(this).balance + amount);
        settlement.receiveCollected{value: amount}();
    }

    /// @dev Epoch 1 is open and its payout due.
    function due() private {
        vm.deal(address(this), address(this).balance + 10 ether);
        submitBody(NODE_KEY, rootBody(node, 1, 0));
        vm.warp(block.timestamp + W1);
    }

    function post(uint64 epoch, bytes32 previous, bytes32 root, uint128 total) private {
        vm.prank(other);
        settlement.postPayout(epoch, previous, root, total);
    }

    function fallBack(address poster) private {
        due();
        vm.warp(block.timestamp + FALLBACK);
        fallBackNow(poster);
    }

    function fallBackNow(address poster) private {
        vm.deal(poster, poster.balance + POSTER_BOND);
        vm.prank(poster);
        settlement.postPayout{value: POSTER_BOND}(1, 0, ROOT, 0);
    }

    /// @dev A final payout over two accounts, and both their claims.
    function claimable(address a, uint128 x, address b, uint128 y) private returns (bytes32 root, Settlement.Claim[] memory claims) {
        (root, claims) = pairClaims(a, x, b, y);
        fund(uint256(x) + y);
        due();
        post(1, 0, root, x + y);
        vm.warp(block.timestamp + W2);
    }

    function leafOf(address payee, uint128 cumulative) private pure returns (bytes32) {
        return Trees.leaf(abi.encodePacked(payee, uint128(0), cumulative, bytes32(0)));
    }

    function pair(address a, uint128 x, address b, uint128 y) private pure returns (bytes32 root, bytes memory siblings) {
        Settlement.Claim[] memory claims;
        (root, claims) = pairClaims(a, x, b, y);
        siblings = claims[0].siblings;
    }

    function pairClaims(address a, uint128 x, address b, uint128 y)
        private
        pure
        returns (bytes32 root, Settlement.Claim[] memory claims)
    {
        root = Trees.sumRoot(2, x + y, Trees.sumNode(leafOf(a, x), x, leafOf(b, y), y));
        claims = new Settlement.Claim[](2);
        claims[0] = Settlement.Claim(a, 0, x, 0, 0, abi.encodePacked(leafOf(b, y), y));
        claims[1] = Settlement.Claim(b, 0, y, 0, 1, abi.encodePacked(leafOf(a, x), x));
    }
}
