// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Asked} from "./invariants/Asked.sol";
import {Campaign, Steps} from "./invariants/Steps.sol";

/// @notice What two nodes, a poster, a payer and challengers may do.
contract AskedHandler is Asked {}

/// @notice ReceiptChallenge holds the bonds of what is open and what it owes, to the wei; and faults shown by their own proofs do what they must,
/// whatever came before. Calls are no transactions of their own: in those gas would be free, and an answer be paid nothing.
/// forge-config: default.isolate = false
contract AskedInvariantsTest is Campaign {
    uint256 private constant SEQUENCES = 40;
    AskedHandler private handler;

    function setUp() public {
        handler = new AskedHandler();
        handler.setUp();
    }

    function acting() internal view override returns (address) {
        return address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory) {
        bytes4[20] memory all = [
            handler.wait.selector,
            handler.restake.selector,
            handler.submitRoot.selector,
            handler.submitRoot.selector,
            handler.ask.selector,
            handler.ask.selector,
            handler.ask.selector,
            handler.show.selector,
            handler.show.selector,
            handler.settle.selector,
            handler.showLeaf.selector,
            handler.settleLeaf.selector,
            handler.postWrong.selector,
            handler.postEmpty.selector,
            handler.askLeaf.selector,
            handler.refute.selector,
            handler.reclaim.selector,
            handler.takeOwed.selector,
            handler.proveFalseSpan.selector,
            handler.requestRefund.selector
        ];
        bytes4[] memory selectors = new bytes4[](all.length);
        for (uint256 i = 0; i < all.length; ++i) selectors[i] = all[i];
        return among(selectors);
    }

    /// forge-config: default.invariant.runs = 40
    /// forge-config: default.invariant.depth = 256
    /// forge-config: default.invariant.shrink-run-limit = 200
    function invariant_bonds_are_held_for_what_is_open_or_owed() public view {
        if (bytes(handler.broken()).length != 0) revert Rule(handler.broken());
        uint256 expected = handler.bondsOpen() + handler.owedInAll();
        if (expected != handler.held()) revert Broken("bonds", expected, handler.held());
    }

    function afterInvariant() public {
        sequenceDone("ASKED", SEQUENCES, actions(), handler);
    }

    function actions() private pure returns (string[] memory all) {
        string[15] memory names = [
            "restake", "submitRoot", "ask", "shownInPart", "answered", "settled", "postWrong", "postEmpty", "askLeaf", "leafShown", "leafSettled", "refute", "reclaim", "takeOwed", "proveFalseSpan"
        ];
        all = new string[](17);
        for (uint256 i = 0; i < 15; ++i) all[i] = names[i];
        (all[15], all[16]) = ("requestRefund", "requestAgain");
    }

    /// @notice A rule that an action saw broken is kept although the action fails; and an action that fails leaves nothing else behind.
    function test_a_broken_rule_outlives_the_action_that_saw_it() public {
        Witness witness = new Witness();
        witness.fails();
        if (bytes(witness.broken()).length != 0) revert Rule("a failure alone breaks no rule");
        witness.sees();
        if (keccak256(bytes(witness.broken())) != keccak256("seen")) revert Rule("lost");
        if (witness.did("sees") != 0) revert Rule("left behind");
    }
}

contract Witness is Steps {
    function fails() external step {
        ++did["fails"];
        revert("fails");
    }

    function sees() external step {
        ++did["sees"];
        breaks("seen");
    }
}
