// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Codec} from "../src/Codec.sol";
import {InferenceEscrow} from "../src/InferenceEscrow.sol";
import {Sig} from "../src/Sig.sol";
import {Pack} from "./Pack.sol";
import {Transcript} from "./Transcript.sol";

/// @notice Epochs as honest nodes and posters make them. Shares are computed here the plain way, with no code of the contracts.
abstract contract Ledger is Transcript {
    /// @dev A part that is no refund; a refund's lane stands behind as many.
    uint256 private constant PART_BYTES = 48;

    /// @notice A part and whom it pays.
    struct Share {
        address payee;
        bytes content;
        uint128 amount;
    }

    /// @notice A payout tree, ascending by account; its parts ascend within each.
    struct Tree {
        address[] accounts;
        uint128[] previous;
        uint128[] cumulative;
        bytes[][] parts;
        uint128[][] amounts;
    }

    /// @notice A node's receipts of an epoch, and how its root is shown: body, block. The tree's leaves are the receipts' hashes, its amounts their
    /// fees.
    struct Root {
        address node;
        uint64 epoch;
        bytes body;
        bytes shown;
        bytes[] leaves;
        uint128[] fees;
        Answer[] answers;
    }

    /// @notice Spans, by keccak(receipt hash || number u16), that trees pay to the pool.
    mapping(bytes32 => bool) internal isFalseSpan;

    // ------------------------------------------------------------------ node roots

    /// @notice Submits the receipts of the account behind `key`.
    function submit(uint256 key, Answer[] memory answers) internal returns (Root memory root) {
        root = rooted(key, answers);
        (bytes32 top, uint128 sum) = Pack.sumRoot(root.leaves, root.fees);
        submitAs(key, root, top, uint64(answers.length), sum);
    }

    /// @notice The tree over receipts of the account behind `key`, not submitted yet.
    function rooted(uint256 key, Answer[] memory answers) internal view returns (Root memory root) {
        root.node = vm.addr(key);
        root.epoch = settlement.submissionEpoch();
        root.answers = answers;
        root.leaves = new bytes[](answers.length);
        root.fees = new uint128[](answers.length);
        for (uint256 i = 0; i < answers.length; ++i) {
            root.leaves[i] = abi.encodePacked(keccak256(receiptBody(answers[i])));
            root.fees[i] = answers[i].receipt.fee;
        }
    }

    /// @notice Submits a root that says what it is told to.
    function submitAs(uint256 key, Root memory root, bytes32 receiptsRoot, uint64 count, uint128 feeSum) internal {
        root.body = abi.encodePacked(root.node, root.epoch, receiptsRoot, count, feeSum);
        settlement.submitNodeRoot(root.body, signed(key, address(settlement), Sig.NODE_ROOT, root.body));
        root.shown = abi.encodePacked(root.body, uint64(block.number));
    }

    /// @notice Siblings of the receipt at `index`.
    function siblings(Root memory root, uint256 index) internal pure returns (bytes memory) {
        return Pack.siblings(root.leaves, root.fees, index);
    }

    /// @notice Node root, index, siblings.
    function place(Root memory root, uint256 index) internal pure returns (bytes memory) {
        return abi.encodePacked(root.shown, uint64(index), siblings(root, index));
    }

    /// @notice A receipt and its siblings.
    function placed(Root memory root, uint256 index) internal pure returns (bytes memory) {
        return abi.encodePacked(Pack.blob(receiptBody(root.answers[index])), siblings(root, index));
    }

    /// @notice The block in which a root was submitted.
    function blockOf(Root memory root) internal pure returns (uint64) {
        return uint64(slice(root.shown, root.body.length, 8));
    }

    function one(Answer memory a) internal pure returns (Answer[] memory answers) {
        answers = new Answer[](1);
        answers[0] = a;
    }

    /// @notice Collects `extra` wei more than the receipt of `a` says.
    function collectMore(Answer memory a, uint128 extra) internal {
        InferenceEscrow.Item[] memory items = new InferenceEscrow.Item[](1);
        bytes memory lane = laneBody(a);
        bytes memory voucher = abi.encodePacked(keccak256(lane), new bytes(110), uint128(0), a.receipt.cumulativeAfter + extra);
        bytes memory laneSig = signed(CLIENT_KEY, address(escrow), Sig.LANE, lane);
        items[0] = InferenceEscrow.Item(lane, laneSig, voucher, signed(CLIENT_KEY, address(escrow), Sig.VOUCHER, voucher));
        escrow.collectMany(items);
    }

    // ------------------------------------------------------------------ shares

    function sharesOf(Answer memory a, uint64 index) internal view returns (Share[] memory shares) {
        shares = new Share[](32);
        uint256 n = add(shares, 0, a, index, 0, protocol, a.quote.protocolFee);
        uint256[6] memory pots = roles(a.receipt.fee - a.quote.protocolFee, a.manifest.split);
        n = add(shares, n, a, index, 1, a.quote.node, pots[0]);
        n = add(shares, n, a, index, 3, author, pots[2]);
        n = add(shares, n, a, index, 4, reviewer, pots[3]);
        n = add(shares, n, a, index, 5, address(vault), pots[5]);
        n = data(shares, n, a, index, pots[4]);
        assembly ("memory-safe") {
            mstore(shares, n)
        }
    }

    function data(Share[] memory shares, uint256 n, Answer memory a, uint64 index, uint256 pot) private view returns (uint256) {
        uint256 w = a.receipt.totalWeight;
        if (w == 0 || a.manifest.datanets.length == 0) return add(shares, n, a, index, 6, address(pool), pot);
        uint256 left = pot;
        for (uint256 i = 0; i < a.spans.length / 40; ++i) {
            uint256 share = pot * slice(a.spans, 40 * i + 12, 4) / w;
            left -= share;
            bool isFalse = isFalseSpan[keccak256(abi.encodePacked(keccak256(receiptBody(a)), uint16(i)))];
            address payee = isFalse ? address(pool) : address(uint160(slice(a.spans, 40 * i + 16, 20)));
            n = add(shares, n, a, index, uint32(65_536 + i), payee, share);
        }
        uint256 first = left * a.manifest.datanets[0].weight / (a.manifest.datanets[0].weight + a.manifest.datanets[1].weight);
        n = add(shares, n, a, index, 256, a.manifest.datanets[0].treasury, first);
        return add(shares, n, a, index, 257, a.manifest.datanets[1].treasury, left - first);
    }

    /// @notice A refund's witness where there is none.
    function noWitness() internal pure returns (bytes memory) {
        return abi.encodePacked(address(0), uint64(0), uint64(0));
    }

    /// @notice The place of a receipt as a refund names it.
    function witness(Root memory root, uint64 index) internal pure returns (bytes memory) {
        return abi.encodePacked(root.node, root.epoch, index);
    }

    /// @notice A refund of a lane to `from`, with its witness.
    function refund(address payee, address from, uint128 amount, bytes32 lane, bytes memory witnessed) internal pure returns (Share[] memory shares) {
        shares = new Share[](1);
        shares[0] = Share(payee, abi.encodePacked(from, type(uint64).max, uint32(1 << 24), amount, lane, witnessed), amount);
    }

    function roles(uint256 left, uint16[6] memory rows) private pure returns (uint256[6] memory pots) {
        uint256 weight = 10_000;
        for (uint256 i = 0; i < 6; ++i) {
            if (rows[i] == 0) continue;
            pots[i] = left * rows[i] / weight;
            left -= pots[i];
            weight -= rows[i];
        }
    }

    function add(Share[] memory shares, uint256 n, Answer memory a, uint64 index, uint32 code, address payee, uint256 amount)
        private
        pure
        returns (uint256)
    {
        if (amount == 0) return n;
        shares[n] = Share(payee, abi.encodePacked(a.quote.node, index, code, uint128(amount)), uint128(amount));
        return n + 1;
    }

    function slice(bytes memory content, uint256 from, uint256 size) internal pure returns (uint256 value) {
        for (uint256 i = 0; i < size; ++i) value = (value << 8) | uint8(content[from + i]);
    }

    // ------------------------------------------------------------------ trees

    /// @notice The tree over the accounts of `last`, with the parts of every receipt under `roots`, and `extra`.
    function build(Tree memory last, Root[] memory roots, Share[] memory extra) internal view returns (Tree memory tree) {
        Share[] memory all = new Share[](128);
        uint256 n = 0;
        for (uint256 i = 0; i < roots.length; ++i) {
            for (uint256 j = 0; j < roots[i].answers.length; ++j) n = append(all, n, sharesOf(roots[i].answers[j], uint64(j)));
        }
        n = append(all, n, extra);
        assembly ("memory-safe") {
            mstore(all, n)
        }
        sort(all);
        return group(last, all);
    }

    function append(Share[] memory all, uint256 n, Share[] memory more) private pure returns (uint256) {
        for (uint256 i = 0; i < more.length; ++i) all[n + i] = more[i];
        return n + more.length;
    }

    /// @dev By payee, then by key and lane.
    function sort(Share[] memory all) private pure {
        for (uint256 i = 1; i < all.length; ++i) {
            Share memory moved = all[i];
            uint256 j = i;
            for (; j > 0 && isAfter(all[j - 1], moved); --j) all[j] = all[j - 1];
            all[j] = moved;
        }
    }

    function isAfter(Share memory a, Share memory b) private pure returns (bool) {
        if (a.payee != b.payee) return a.payee > b.payee;
        return isBehind(a.content, b.content);
    }

    function isBehind(bytes memory a, bytes memory b) private pure returns (bool) {
        (uint256 x, uint256 y) = (slice(a, 0, 32), slice(b, 0, 32));
        if (x != y || a.length == PART_BYTES) return x > y;
        return slice(a, PART_BYTES, 32) > slice(b, PART_BYTES, 32);
    }

    function group(Tree memory last, Share[] memory all) private pure returns (Tree memory tree) {
        address[] memory accounts = new address[](last.accounts.length + all.length);
        uint256 n = 0;
        (uint256 i, uint256 j) = (0, 0);
        while (i < last.accounts.length || j < all.length) {
            bool old = j == all.length || (i < last.accounts.length && last.accounts[i] <= all[j].payee);
            address next = old ? last.accounts[i] : all[j].payee;
            if (n == 0 || accounts[n - 1] != next) accounts[n++] = next;
            if (old) ++i;
            else ++j;
        }
        assembly ("memory-safe") {
            mstore(accounts, n)
        }
        tree.accounts = accounts;
        tree.previous = new uint128[](n);
        tree.cumulative = new uint128[](n);
        tree.parts = new bytes[][](n);
        tree.amounts = new uint128[][](n);
        for (uint256 k = 0; k < n; ++k) fill(tree, k, last, all);
    }

    function fill(Tree memory tree, uint256 k, Tree memory last, Share[] memory all) private pure {
        for (uint256 i = 0; i < last.accounts.length; ++i) {
            if (last.accounts[i] == tree.accounts[k]) tree.previous[k] = last.cumulative[i];
        }
        uint256 count = 0;
        for (uint256 i = 0; i < all.length; ++i) if (all[i].payee == tree.accounts[k]) ++count;
        tree.parts[k] = new bytes[](count);
        tree.amounts[k] = new uint128[](count);
        tree.cumulative[k] = tree.previous[k];
        uint256 n = 0;
        for (uint256 i = 0; i < all.length; ++i) {
            if (all[i].payee != tree.accounts[k]) continue;
            tree.parts[k][n] = all[i].content;
            tree.amounts[k][n++] = all[i].amount;
            tree.cumulative[k] += all[i].amount;
        }
    }

    function leaves(Tree memory tree) internal pure returns (bytes[] memory out) {
        out = new bytes[](tree.accounts.length);
        for (uint256 i = 0; i < out.length; ++i) {
            (bytes32 partsRoot,) = Pack.sumRoot(tree.parts[i], tree.amounts[i]);
            out[i] = abi.encodePacked(tree.accounts[i], tree.previous[i], tree.cumulative[i], partsRoot);
        }
    }

    /// @notice Posts the tree as `other`.
    function post(Tree memory tree) internal {
        (bytes32 root, uint128 total) = Pack.sumRoot(leaves(tree), tree.cumulative);
        bytes32 previous = settlement.finalPayout().root;
        uint64 epoch = settlement.lastPosted() + 1;
        vm.prank(other);
        settlement.postPayout(epoch, previous, root, total);
    }

    // ------------------------------------------------------------------ openings

    function leafAt(Tree memory tree, uint256 i) internal pure returns (bytes memory) {
        bytes[] memory all = leaves(tree);
        return abi.encodePacked(all[i], Pack.sumOpen(all, tree.cumulative, i));
    }

    function partAt(Tree memory tree, uint256 i, uint256 j) internal pure returns (bytes memory) {
        return abi.encodePacked(Pack.blob(tree.parts[i][j]), Pack.sumOpen(tree.parts[i], tree.amounts[i], j));
    }

    /// @notice Why the tree has no leaf of `account`.
    function noLeaf(Tree memory tree, address account) internal pure returns (bytes memory) {
        uint256 n = 0;
        while (n < tree.accounts.length && tree.accounts[n] < account) ++n;
        uint8 sides = (n > 0 ? 1 : 0) | (n < tree.accounts.length ? 2 : 0);
        bytes memory packed = abi.encodePacked(sides);
        if (sides == 0) return abi.encodePacked(packed, Pack.sumHead(leaves(tree), tree.cumulative));
        if (sides & 1 != 0) packed = abi.encodePacked(packed, leafAt(tree, n - 1));
        if (sides & 2 != 0) packed = abi.encodePacked(packed, leafAt(tree, n));
        return packed;
    }

    /// @notice Why leaf `i` has no such part; `like` is one of its key and lane.
    function noPart(Tree memory tree, uint256 i, bytes memory like) internal pure returns (bytes memory) {
        uint256 n = 0;
        while (n < tree.parts[i].length && isBehind(like, tree.parts[i][n])) ++n;
        uint8 sides = (n > 0 ? 1 : 0) | (n < tree.parts[i].length ? 2 : 0);
        bytes memory packed = abi.encodePacked(sides);
        if (sides == 0) return abi.encodePacked(packed, Pack.sumHead(tree.parts[i], tree.amounts[i]));
        if (sides & 1 != 0) packed = abi.encodePacked(packed, partAt(tree, i, n - 1));
        if (sides & 2 != 0) packed = abi.encodePacked(packed, partAt(tree, i, n));
        return packed;
    }

    /// @notice A receipt of a root with all its parts follow from, without the root and the index.
    function opened(Root memory root, uint256 index) internal pure returns (bytes memory) {
        return abi.encodePacked(
            placed(root, index),
            Pack.blob(quoteBody(root.answers[index])),
            Pack.blob(manifestBody(root.answers[index]))
        );
    }

    /// @notice Why the tree has no part like `like` of `account`.
    function noPartOf(Tree memory tree, address account, bytes memory like) internal pure returns (bytes memory) {
        for (uint256 i = 0; i < tree.accounts.length; ++i) {
            if (tree.accounts[i] == account) return abi.encodePacked(uint8(1), leafAt(tree, i), noPart(tree, i, like));
        }
        return abi.encodePacked(uint8(0), noLeaf(tree, account));
    }

    function indexOf(Tree memory tree, address account) internal pure returns (uint256) {
        for (uint256 i = 0; i < tree.accounts.length; ++i) if (tree.accounts[i] == account) return i;
        revert("no such account");
    }

    function without(Tree memory tree, uint256 i, uint256 j) internal pure {
        uint256 last = tree.parts[i].length - 1;
        tree.cumulative[i] -= tree.amounts[i][j];
        for (uint256 k = j; k < last; ++k) (tree.parts[i][k], tree.amounts[i][k]) = (tree.parts[i][k + 1], tree.amounts[i][k + 1]);
        bytes[] memory parts = tree.parts[i];
        uint128[] memory amounts = tree.amounts[i];
        assembly ("memory-safe") {
            mstore(parts, last)
            mstore(amounts, last)
        }
    }

    function dropLeaf(Tree memory tree, uint256 i) internal pure {
        uint256 last = tree.accounts.length - 1;
        for (uint256 k = i; k < last; ++k) {
            tree.accounts[k] = tree.accounts[k + 1];
            tree.previous[k] = tree.previous[k + 1];
            tree.cumulative[k] = tree.cumulative[k + 1];
            tree.parts[k] = tree.parts[k + 1];
            tree.amounts[k] = tree.amounts[k + 1];
        }
        (address[] memory a, uint128[] memory b, uint128[] memory c, bytes[][] memory d, uint128[][] memory e) =
            (tree.accounts, tree.previous, tree.cumulative, tree.parts, tree.amounts);
        assembly ("memory-safe") {
            mstore(a, last)
            mstore(b, last)
            mstore(c, last)
            mstore(d, last)
            mstore(e, last)
        }
    }
}
