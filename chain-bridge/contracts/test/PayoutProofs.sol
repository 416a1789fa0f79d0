// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PayoutVerifier} from "../src/PayoutVerifier.sol";
import {Ledger} from "./Ledger.sol";
import {Pack} from "./Pack.sol";

/// @notice Proofs against the pending payout: one that convicts, one that does not, one that is refused for what it shows.
abstract contract PayoutProofs is Ledger {
    function desk() internal view returns (PayoutVerifier) {
        return PayoutVerifier(payouts);
    }

    function call(PayoutVerifier.Mode mode, bytes memory evidence) internal pure returns (bytes memory) {
        return abi.encodeCall(PayoutVerifier.provePayout, (mode, evidence));
    }

    function wrong(PayoutVerifier.Mode mode, bytes memory evidence) internal {
        proven(payouts, call(mode, evidence));
        eq("taken back", 0, settlement.pendingPayout().epoch);
    }

    /// @notice As `wrong`, and forgets it again.
    function isWrong(PayoutVerifier.Mode mode, bytes memory evidence) internal {
        uint256 clean = vm.snapshotState();
        wrong(mode, evidence);
        vm.revertToState(clean);
    }

    function holds(PayoutVerifier.Mode mode, bytes memory evidence) internal {
        refusedF7(mode, evidence, PayoutVerifier.PayoutHolds.selector);
    }

    function refusedF7(PayoutVerifier.Mode mode, bytes memory evidence, bytes4 selector) internal {
        refused(payouts, call(mode, evidence), selector);
    }

    /// @notice Part `j` of leaf `i` as one that is none.
    function partForm(Tree memory tree, uint256 i, uint256 j) internal pure returns (bytes memory) {
        bytes memory opening = Pack.sumOpen(tree.parts[i], tree.amounts[i], j);
        return abi.encodePacked(leafAt(tree, i), Pack.blob(tree.parts[i][j]), tree.amounts[i][j], opening);
    }
}
