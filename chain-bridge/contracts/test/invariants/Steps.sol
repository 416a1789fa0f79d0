// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "../Vm.sol";

/// @notice What every handler of a campaign does: an action either is done, or leaves nothing behind; and a rule that it saw broken is kept even if
/// the action fails after it saw it.
abstract contract Steps {
    /// @notice The first rule that was broken, in words; empty while all hold.
    string public broken;
    /// @notice How often each action succeeded.
    mapping(string => uint256) public did;

    error BrokenRule(string rule);

    /// @dev The campaign calls the action, the action calls itself: what it reverts with is seen from outside, where it is not rolled back.
    modifier step() {
        if (msg.sender == address(this)) {
            _;
        } else {
            (bool done, bytes memory reason) = address(this).call(msg.data);
            if (!done && bytes4(reason) == BrokenRule.selector && bytes(broken).length == 0) broken = ruleOf(reason);
        }
    }

    function breaks(string memory rule) internal pure {
        revert BrokenRule(rule);
    }

    function ruleOf(bytes memory reason) private pure returns (string memory) {
        bytes memory arguments = new bytes(reason.length - 4);
        for (uint256 i = 0; i < arguments.length; ++i) arguments[i] = reason[i + 4];
        return abi.decode(arguments, (string));
    }
}

/// @notice What every campaign does: counts over all its sequences what was reached, so that one which only meets refusals is seen.
abstract contract Campaign {
    Vm internal constant cheats = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// @dev As forge reads it.
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    error Rule(string rule);
    error NeverReached(string action);
    error Broken(string what, uint256 expected, uint256 got);

    /// @notice What acts.
    function acting() internal view virtual returns (address);

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = acting();
    }

    /// @dev What may be called, the more often the more often it is named.
    function among(bytes4[] memory selectors) internal view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector({addr: acting(), selectors: selectors});
    }

    /// @dev Counters outlive a sequence only in the environment of the process that runs them.
    function sequenceDone(string memory campaign, uint256 sequences, string[] memory actions, Steps handler) internal {
        if (bytes(handler.broken()).length != 0) revert Rule(handler.broken());
        uint256 done = add(string.concat("TRIBUTARY_CAMPAIGN_", campaign), 1);
        for (uint256 i = 0; i < actions.length; ++i) {
            uint256 total = add(string.concat("TRIBUTARY_CAMPAIGN_", campaign, "_", actions[i]), handler.did(actions[i]));
            if (done == sequences && total == 0) revert NeverReached(actions[i]);
        }
    }

    function add(string memory name, uint256 more) private returns (uint256 total) {
        total = cheats.envOr(name, uint256(0)) + more;
        cheats.setEnv(name, cheats.toString(total));
    }
}
