// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {Settlement} from "../src/Settlement.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {Bonds} from "./invariants/Bonds.sol";
import {Campaign} from "./invariants/Steps.sol";

/// @notice Everything three clients, two nodes, two posters, a verifier and a hostile payee may do.
contract Handler is Bonds {
    function contracts() external view returns (InferenceEscrow, Settlement, StakeManager) {
        return (escrow, settlement, stakes);
    }

    function escrowed() external view returns (uint256 sum) {
        for (uint256 i = 0; i < CLIENTS; ++i) sum += escrow.accountOf(who(i)).balance;
    }

    function bonded() external view returns (uint256) {
        return uint256(stakes.slashableOf(node)) + stakes.slashableOf(other);
    }

    function owedByStakes() external view returns (uint256) {
        return stakes.owed(address(payee)) + stakes.owed(author) + stakes.owed(address(0xFEE));
    }

    function owedBySettlement() external view returns (uint256) {
        return settlement.owed(address(payee)) + settlement.owed(address(this)) + settlement.owed(client)
            + settlement.owed(reviewer) + settlement.owed(address(0xFEE));
    }

    function claimedByAll() external view returns (uint256) {
        return uint256(settlement.claimed(client)) + settlement.claimed(reviewer) + settlement.claimed(address(payee));
    }

    function vaultAndRent() external view returns (uint256, uint256, uint256) {
        return (address(vault).balance, address(rent).balance, vault.totalStake());
    }

    function nodeAccount() external view returns (address) {
        return node;
    }

    function activeStake() external view returns (uint256) {
        return uint256(stakes.stakeOf(node)) + stakes.stakeOf(other);
    }
}

/// @notice Money is conserved to the wei whatever happens in whatever order (I1 to I7, I10, I15, I16).
contract InvariantsTest is Campaign {
    uint256 private constant SEQUENCES = 16;
    Handler private handler;
    InferenceEscrow private escrow;
    Settlement private settlement;
    StakeManager private stakes;

    function setUp() public {
        handler = new Handler();
        handler.setUp();
        (escrow, settlement, stakes) = handler.contracts();
    }

    function acting() internal view override returns (address) {
        return address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory) {
        bytes4[30] memory all = [
            handler.deposit.selector,
            handler.askToLeave.selector,
            handler.withdraw.selector,
            handler.allowSession.selector,
            handler.collect.selector,
            handler.collectForged.selector,
            handler.submit.selector,
            handler.submit.selector,
            handler.post.selector,
            handler.post.selector,
            handler.overturn.selector,
            handler.returnBond.selector,
            handler.withdrawOwed.selector,
            handler.claim.selector,
            handler.claimMany.selector,
            handler.claimTooSoon.selector,
            handler.wait.selector,
            handler.stakeMore.selector,
            handler.unbond.selector,
            handler.unstake.selector,
            handler.slash.selector,
            handler.release.selector,
            handler.takeOwed.selector,
            handler.credit.selector,
            handler.settleCredit.selector,
            handler.reward.selector,
            handler.takeReward.selector,
            handler.insure.selector,
            handler.prepay.selector,
            handler.leaveRent.selector
        ];
        bytes4[] memory selectors = new bytes4[](35);
        for (uint256 i = 0; i < 30; ++i) selectors[i] = all[i];
        selectors[30] = handler.changeRoles.selector;
        selectors[31] = handler.payCredit.selector;
        selectors[32] = handler.dropCredit.selector;
        // Of slashes few have a lane to pay back on, and of those few are released.
        selectors[33] = handler.slash.selector;
        selectors[34] = handler.release.selector;
        return among(selectors);
    }

    /// @notice Every action was done, not only tried, in one sequence or another.
    function afterInvariant() public {
        string[30] memory names = [
            "deposit", "askToLeave", "withdraw", "allowSession", "collect", "submit", "post", "overturn", "returnBond", "withdrawOwed", "claim", "claimMany", "claimTooSoon", "stakeMore", "unbond",
            "unstake", "slash", "release", "refund", "takeOwed", "credit", "settleCredit", "payCredit", "dropCredit", "reward", "takeReward", "insure", "changeRoles", "prepay", "leaveRent"
        ];
        string[] memory actions = new string[](names.length);
        for (uint256 i = 0; i < names.length; ++i) actions[i] = names[i];
        sequenceDone("MONEY", SEQUENCES, actions, handler);
    }

    /// @notice One campaign checks them all: the sequences are the longer for it.
    /// forge-config: default.invariant.runs = 16
    function invariant_every_book_balances() public view {
        noRuleWasBroken();
        escrowIsSolvent();
        settlementHoldsWhatIsNotClaimed();
        stakeIsHeldQueuedOrOwed();
        notesArePledged();
        vaultAndRentAreExact();
    }

    /// @dev What the handler checks at each step.
    function noRuleWasBroken() private view {
        if (bytes(handler.broken()).length != 0) revert Rule(handler.broken());
    }

    /// @dev I1, I2: the escrow holds its accounts; what came in is there, left, or was collected.
    function escrowIsSolvent() private view {
        same("escrow holds its accounts", handler.escrowed(), address(escrow).balance);
        same("deposits", handler.deposited(), handler.escrowed() + handler.withdrawn() + handler.collected());
    }

    /// @dev I2, I5: what was collected is received; it is claimed or there; claims stay within the final total.
    function settlementHoldsWhatIsNotClaimed() private view {
        uint256 received = settlement.totalReceived();
        uint256 claims = settlement.totalClaimed();
        same("collected is received", handler.collected(), received);
        same("claims are kept by account", handler.claimedByAll(), claims);
        same("what was paid", handler.claimedInAll(), claims);
        same("balance", received - claims + handler.bondsHeld() + handler.owedBySettlement(), address(settlement).balance);
        Settlement.Payout memory last = settlement.finalPayout();
        if (claims > last.total) revert Broken("claims are within the final total", last.total, claims);
        if (last.total > received) revert Broken("the total is within what was received", received, last.total);
    }

    /// @dev I2: stake is held, queued or owed, to the wei.
    function stakeIsHeldQueuedOrOwed() private view {
        same("bonded", handler.staked() - handler.unstaked() - handler.slashed() - handler.debited(), handler.bonded());
        same("balance", handler.bonded() + handler.queued() + handler.owedByStakes(), address(stakes).balance);
    }

    /// @dev I7: pledged is what claimed notes have left to be paid; given back is that and what they were paid.
    function notesArePledged() private view {
        same("pledged", handler.openCredits(), stakes.pledgedOf(handler.nodeAccount()));
        uint256 count = handler.noteCount();
        for (uint256 i = 0; i < count; ++i) {
            (uint256 counted, uint256 kept) = handler.creditedByLane(i);
            same("given back by notes", kept, counted);
        }
    }

    /// @dev I2: of the stakers' share not a part of a wei is lost; of rent not a wei.
    function vaultAndRentAreExact() private view {
        (uint256 got, uint256 expected) = handler.vaultUnits();
        same("units", expected, got);
        (uint256 vaultHeld, uint256 rentHeld, uint256 totalStake) = handler.vaultAndRent();
        same("vault", handler.vaultReceived() - handler.vaultClaimed(), vaultHeld);
        same("total stake", handler.activeStake(), totalStake);
        same("rent", handler.rentIn() - handler.rentOut(), rentHeld);
        same("rent's books", handler.rentHeld(), rentHeld);
    }

    /// @notice The handler's actions do what they are meant to do, so that a campaign tries more than refusals. (I16, that a payee which calls
    /// back while it is paid gains nothing, is in the books.)
    function test_every_action_succeeds_where_it_may() public {
        handler.deposit(0, 9 ether);
        handler.deposit(1, 9 ether);
        handler.collect(0, 0, 1.5 ether, false, true);
        handler.submit(false, 1 ether);
        handler.post(0, true);
        handler.overturn(bytes32(uint256(1)), true);
        handler.post(4_000, true);
        handler.wait(100);
        handler.returnBond();
        handler.claimMany(true, 2);
        handler.withdrawOwed();
        handler.credit(0, 1);
        handler.settleCredit(0);
        handler.credit(1, 1);
        handler.payCredit(1);
        handler.credit(2, 1);
        handler.dropCredit(2);
        handler.slash(2, 1 ether, 2 ether);
        handler.slash(0, 1 ether, 2 ether);
        handler.release(0, true);
        handler.release(1, true);
        handler.takeOwed(false);
        handler.reward(1 ether);
        handler.takeReward(true);
        handler.unbond(true, 1 ether);
        handler.unstake(true, false);
        handler.askToLeave(0, 1);
        handler.withdraw(0, false);
        handler.prepay(1 ether);
        handler.leaveRent(1);
        string[15] memory actions = [
            "collect", "post", "overturn", "returnBond", "claimMany", "withdrawOwed", "settleCredit", "payCredit", "dropCredit", "release", "refund", "takeOwed", "takeReward", "unstake", "leaveRent"
        ];
        for (uint256 i = 0; i < actions.length; ++i) {
            if (handler.did(actions[i]) == 0) revert Rule(actions[i]);
        }
        invariant_every_book_balances();
    }

    function same(string memory what, uint256 expected, uint256 got) private pure {
        if (expected != got) revert Broken(what, expected, got);
    }
}
