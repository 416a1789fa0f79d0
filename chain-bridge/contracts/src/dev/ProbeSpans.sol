// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Matches} from "../Matches.sol";
import {Openings} from "../Openings.sol";
import {Words} from "../Words.sol";

/// @title What every implementation must agree on about matches, to be asked
/// @notice As `Probe`, for which the rest left no room: no money, no state, part of no deployment.
contract ProbeSpans {
    using Openings for Openings.Reader;
    using Words for Words.Table;

    /// @notice A `WordRanges`.
    address public immutable ranges;

    constructor(address ranges_) {
        Words.requireTable(ranges_);
        ranges = ranges_;
    }

    /// @notice 0: a code point is no character of a word, 1: it joins its neighbours, 2: it is a word of its own.
    function classOf(uint256 code) external view returns (uint256) {
        return Words.Table(ranges, "").classOf(code);
    }

    /// @notice Whether `pattern` stands at a word start under an index root.
    function occurs(bytes32 indexRoot, uint8 datanet, uint40 position, bytes calldata pattern, bytes calldata evidence)
        external
        view
        returns (bool does)
    {
        Openings.Reader memory reader = Openings.over(evidence);
        does = Matches.occurs(reader, Words.Table(ranges, ""), indexRoot, datanet, position, pattern);
        reader.finish();
    }

    /// @notice The most bytes of `pattern` that any entry of a segment under an index root begins with. Reads its Datanet u8 first.
    function longest(bytes32 indexRoot, bytes calldata pattern, bytes calldata evidence) external pure returns (uint256 most) {
        Openings.Reader memory reader = Openings.over(evidence);
        most = Matches.longest(reader, indexRoot, reader.u8(), pattern);
        reader.finish();
    }
}
