// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "./AssetRegistry.sol";
import {Codec} from "./Codec.sol";
import {FaultBase} from "./FaultBase.sol";
import {NodeTrees} from "./NodeTrees.sol";
import {Openings} from "./Openings.sol";
import {PayoutTrees} from "./PayoutTrees.sol";
import {IEscrow, ISettlement, IStakes, IWithheld} from "./Ports.sol";
import {ReceiptRules} from "./ReceiptRules.sol";
import {Split} from "./Split.sol";

/// @title F7: a payout tree is wrong
/// @notice A payout tree follows from the last final one, the node roots of its epoch and the refunds asked for, to the wei. Whatever part of
/// it does not, one transaction shows within W2: the payout is taken back, its poster slashed. The parts of a receipt are recomputed here
/// from its quote, its manifest and the owners at the block it names.
/// @dev A refund is asked for on chain, because no contract remembers old trees: a lane's refund is due in one epoch and in no other.
contract PayoutVerifier is FaultBase {
    using Openings for Openings.Reader;

    /// @notice What is shown of the pending payout. Its evidence is Protocol P7.
    enum Mode {
        /// The root's head does not fit what was posted: another total, or an empty tree that is not empty.
        Head,
        /// A leaf is no leaf: not 84 bytes, its amount not the cumulative one, or there is something beyond the leaves.
        LeafForm,
        /// Two neighbouring leaves do not ascend.
        LeafOrder,
        /// Cumulative is not previous plus the parts' total.
        Sum,
        /// Previous is not what the last final tree says.
        Previous,
        /// An account of the last final tree is missing.
        Dropped,
        /// A part is no part: a wrong length, nothing worth, its amount not the tree's, or there is something beyond the parts.
        PartForm,
        /// Two neighbouring parts do not ascend.
        PartOrder,
        /// A part is not its receipt's.
        Part,
        /// A receipt's part is missing.
        Missing,
        /// A refund is not due, not the payer's, or another amount than its witness gives.
        Refund,
        /// A refund that is due is missing.
        LeftOut
    }

    /// @notice What is shown of a refund beyond the refund itself.
    enum Shown {
        /// A receipt with which it is too high.
        Higher,
        /// The place that it names as its witness.
        Witness,
        /// Nothing: it names no witness.
        Nothing,
        /// The place that it names, if any, and one that it should have named: so that one set of receipts gives one root.
        Better
    }

    /// @notice A lane's refund: due in the payout of `epoch` and in no other. `givenBack` is what notes and slashes had given back when it was asked
    /// for: nothing is given back after that.
    struct RefundDue {
        uint64 epoch;
        address payer;
        address node;
        uint128 givenBack;
    }

    /// @dev What the proofs speak of: the payout under proof, and the one before.
    struct Context {
        ISettlement.Payout pending;
        bytes32 finalRoot;
    }

    /// @notice Kinds, owners at a block.
    AssetRegistry public immutable registry;
    /// @notice Says what lanes collected, and when.
    IEscrow public immutable escrow;
    /// @notice Says which nodes withheld receipts.
    IWithheld public immutable challenges;
    /// @notice Blocks after a lane's expiry from which its refund may be asked for: no receipt of it can come any more.
    uint64 public immutable maxAgeBlocks;

    mapping(bytes32 => RefundDue) private refunds;

    event RefundRequested(bytes32 indexed lane, address indexed payer, address indexed node, uint64 epoch, uint128 givenBack);
    event PayoutRefuted(uint64 indexed epoch, bytes32 root, address indexed poster, Mode mode, bytes32 faultHash, address reporter);

    error NothingPending();
    error PayoutHolds(Mode mode);
    error AnotherAccount(address expected, address got);
    error LaneOpen(uint256 until, uint256 blockNumber);
    error RefundIsDue(uint64 epoch);
    error NotARefund();
    error UnknownShown(uint8 got);
    error OnlyPayer(address expected, address got);
    error NotOfThisEpoch(uint64 expected, uint64 got);

    /// @param maxAgeBlocks_ See `maxAgeBlocks`; the same as FraudVerifier's.
    constructor(
        IStakes stakeManager_,
        ISettlement settlement_,
        AssetRegistry registry_,
        IEscrow escrow_,
        IWithheld challenges_,
        uint64 maxAgeBlocks_
    ) FaultBase(stakeManager_, settlement_) {
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        if (address(escrow_) == address(0)) revert ZeroAddress("escrow");
        registry = registry_;
        if (address(challenges_) == address(0)) revert ZeroAddress("challenges");
        escrow = escrow_;
        challenges = challenges_;
        requireAge(settlement_, maxAgeBlocks_);
        maxAgeBlocks = maxAgeBlocks_;
    }

    // ------------------------------------------------------------------ refunds

    /// @notice Asks for what a lane collected beyond its receipts and what was given back on it, in the next epoch's payout. Once the lane has been
    /// expired for `maxAgeBlocks`; again if the payout it was due in is the last final one and left it out. Only its payer may, because
    /// from then on neither notes nor slashes give anything back on the lane: a slash that waits is released before.
    /// @param lane Body of the lane.
    /// @param absence Empty the first time; later, in the last final tree: a u8, 0 and why the payer has no leaf, or 1, the payer's leaf and
    /// why it has no such part.
    function requestRefund(bytes calldata lane, bytes calldata absence) external {
        Codec.Lane memory given = Codec.lane(lane);
        uint256 from = uint256(given.expiryBlock) + maxAgeBlocks;
        if (block.number <= from) revert LaneOpen(from, block.number);
        if (msg.sender != given.payer) revert OnlyPayer(given.payer, msg.sender);
        bytes32 laneId = keccak256(lane);
        uint128 givenBack = escrow.closeLane(laneId);
        uint64 epoch = settlement.currentEpoch() + 1;
        uint64 before = refunds[laneId].epoch;
        if (before != 0) requireLeftOut(before, laneId, given, absence);
        refunds[laneId] = RefundDue({epoch: epoch, payer: given.payer, node: given.node, givenBack: givenBack});
        emit RefundRequested(laneId, given.payer, given.node, epoch, givenBack);
    }

    /// @notice When and to whom a lane's refund is due; zeros if it was never asked for.
    function refundOf(bytes32 lane) external view returns (RefundDue memory) {
        return refunds[lane];
    }

    function requireLeftOut(uint64 epoch, bytes32 laneId, Codec.Lane memory lane, bytes calldata absence) private view {
        ISettlement.Payout memory last = settlement.finalPayout();
        if (last.epoch != epoch) revert RefundIsDue(epoch);
        Openings.Reader memory reader = Openings.over(absence);
        requireNoPartOf(reader, last.root, lane.payer, refundKey(lane.node), laneId);
        reader.finish();
    }

    // ------------------------------------------------------------------ F7

    /// @notice F7: the pending payout is wrong. It is taken back; its poster is slashed, its bond taken.
    /// @param evidence Packed as `mode` asks for: see Protocol P7.
    function provePayout(Mode mode, bytes calldata evidence) external committed {
        Context memory c = context();
        Openings.Reader memory reader = Openings.over(evidence);
        if (!isWrong(mode, c, reader)) revert PayoutHolds(mode);
        reader.finish();
        bytes32 faultHash = keccak256(abi.encode("F7", c.pending.epoch, c.pending.root, c.pending.postedAt));
        emit PayoutRefuted(c.pending.epoch, c.pending.root, c.pending.poster, mode, faultHash, msg.sender);
        uint128 value = c.pending.total - settlement.finalPayout().total;
        settlement.overturn(c.pending.epoch, msg.sender, faultHash);
        // The same root may be posted and refuted again within one second: it is taken back, and was slashed for.
        if (stakeManager.slashOf(faultHash) == 0) {
            stakeManager.slash(c.pending.poster, value, address(0), 0, 0, msg.sender, faultHash);
        }
    }

    function context() private view returns (Context memory c) {
        c.pending = settlement.pendingPayout();
        if (c.pending.epoch == 0) revert NothingPending();
        c.finalRoot = settlement.finalPayout().root;
    }

    function isWrong(Mode mode, Context memory c, Openings.Reader memory reader) private view returns (bool) {
        bytes32 root = c.pending.root;
        if (mode == Mode.Head) return isWrongHead(c.pending, reader);
        if (mode == Mode.LeafForm) return isNoLeaf(root, reader);
        if (mode == Mode.Missing) return isMissing(c, reader);
        if (mode == Mode.LeftOut) return isLeftOut(c, reader);
        if (mode == Mode.Dropped) {
            PayoutTrees.requireAbsent(reader, root, PayoutTrees.leaf(reader, c.finalRoot).account);
            return true;
        }
        PayoutTrees.Leaf memory leaf = PayoutTrees.leaf(reader, root);
        if (mode == Mode.LeafOrder) {
            PayoutTrees.Leaf memory next = PayoutTrees.leaf(reader, root);
            return uint256(leaf.index) + 1 == next.index && leaf.account >= next.account;
        }
        if (mode == Mode.Sum) {
            Openings.Summed memory parts = reader.sumHead();
            return parts.root == leaf.partsRoot && uint256(leaf.previous) + parts.total != leaf.cumulative;
        }
        if (mode == Mode.Previous) return isWrongPrevious(c.finalRoot, leaf, reader);
        if (mode == Mode.PartForm) return isNoPart(leaf.partsRoot, reader);
        PayoutTrees.Part memory part = PayoutTrees.part(reader, leaf.partsRoot);
        if (mode == Mode.PartOrder) {
            PayoutTrees.Part memory next = PayoutTrees.part(reader, leaf.partsRoot);
            return uint256(part.index) + 1 == next.index && !PayoutTrees.isBefore(part.key, part.lane, next.key, next.lane);
        }
        bool isRefund = PayoutTrees.isRefund(part.key);
        if (isRefund != (mode == Mode.Refund)) revert NotARefund();
        return isRefund ? isWrongRefund(c, leaf.account, part, reader) : isWrongPart(c, leaf.account, part, reader);
    }

    // ------------------------------------------------------------------ the tree itself

    function isWrongHead(ISettlement.Payout memory pending, Openings.Reader memory reader) private pure returns (bool) {
        Openings.Summed memory head = reader.sumHead();
        return head.root == pending.root && (head.total != pending.total || !head.fill);
    }

    function isNoLeaf(bytes32 root, Openings.Reader memory reader) private pure returns (bool) {
        bytes calldata content = reader.blob();
        uint128 amount = reader.u128();
        Openings.Summed memory opened = reader.sumRootOf(content, amount);
        if (opened.root != root) return false;
        return content.length != PayoutTrees.LEAF_BYTES || uint128(bytes16(content[36:52])) != amount || !opened.fill;
    }

    function isNoPart(bytes32 root, Openings.Reader memory reader) private pure returns (bool) {
        bytes calldata content = reader.blob();
        uint128 amount = reader.u128();
        Openings.Summed memory opened = reader.sumRootOf(content, amount);
        if (opened.root != root) return false;
        return !PayoutTrees.isPart(content) || uint128(bytes16(content[32:48])) != amount || !opened.fill;
    }

    /// @dev A u8 says whether the last final tree has the account, then its leaf there or why it has none.
    function isWrongPrevious(bytes32 finalRoot, PayoutTrees.Leaf memory leaf, Openings.Reader memory reader) private pure returns (bool) {
        if (reader.u8() != 0) {
            PayoutTrees.Leaf memory last = PayoutTrees.leaf(reader, finalRoot);
            if (last.account != leaf.account) revert AnotherAccount(leaf.account, last.account);
            return last.cumulative != leaf.previous;
        }
        PayoutTrees.requireAbsent(reader, finalRoot, leaf.account);
        return leaf.previous != 0;
    }

    /// @dev A u8 says whether the payout tree has the account, then its leaf and why it has no such part, or why it has no leaf.
    function requireNoPartOf(Openings.Reader memory reader, bytes32 root, address account, bytes32 key, bytes32 lane) private pure {
        if (reader.u8() == 0) return PayoutTrees.requireAbsent(reader, root, account);
        PayoutTrees.Leaf memory leaf = PayoutTrees.leaf(reader, root);
        if (leaf.account != account) revert AnotherAccount(account, leaf.account);
        PayoutTrees.requireNoPart(reader, leaf.partsRoot, key, lane);
    }

    // ------------------------------------------------------------------ parts of receipts

    /// @dev The part names a receipt of this epoch. If its node submitted no root, nothing more is read; else the node root; if it has no such
    /// receipt, or was withheld (so that nobody may have the receipt), nothing more; else the receipt and, as far as needed, what it names.
    function isWrongPart(Context memory c, address account, PayoutTrees.Part memory part, Openings.Reader memory reader)
        private
        view
        returns (bool)
    {
        (address node, uint64 index, uint32 code) = PayoutTrees.fieldsOf(part.key);
        if (settlement.nodeRootOf(c.pending.epoch, node) == 0) return true;
        NodeTrees.Place memory place = NodeTrees.root(reader, settlement);
        requireRootOf(place.root, c.pending.epoch, node);
        if (index >= place.root.count || isWithheld(place.root)) return true;
        bytes calldata receipt = reader.blob();
        bytes32 receiptHash = NodeTrees.open(reader, place.root, index, receipt);
        if (!isPaid(place.root, receipt, receiptHash, true)) return true;
        (address payee, uint256 amount) = shareOf(place, receipt, code, reader);
        return payee != account || amount != part.amount;
    }

    /// @dev Reads node root, index u64, code u32, receipt, its siblings, quote, manifest, then the absence.
    function isMissing(Context memory c, Openings.Reader memory reader) private view returns (bool) {
        NodeTrees.Place memory place = NodeTrees.root(reader, settlement);
        if (place.root.epoch != c.pending.epoch) revert NotOfThisEpoch(c.pending.epoch, place.root.epoch);
        place.index = reader.u64();
        uint32 code = reader.u32();
        bytes calldata receipt = reader.blob();
        bytes32 receiptHash = NodeTrees.open(reader, place.root, place.index, receipt);
        if (!isPaid(place.root, receipt, receiptHash, false)) return false;
        (address payee, uint256 amount) = shareOf(place, receipt, code, reader);
        if (payee == address(0) || amount == 0) return false;
        requireNoPartOf(reader, c.pending.root, payee, PayoutTrees.keyOf(place.root.node, place.index, code), 0);
        return true;
    }

    /// @dev Whether a receipt in a node's tree has parts at all: it is one, of that node, bills something, was not void when W1 ended, and its lane had
    /// collected it by then. What bills nothing may name a quote that nobody has, so that the receipt alone must tell. Where the latter is not known any more, `inDoubt` decides if the lane has collected it by now: a poster may have known.
    function isPaid(Codec.NodeRoot memory root, bytes calldata receipt, bytes32 receiptHash, bool inDoubt) private view returns (bool) {
        if (!Codec.isWellFormed(receipt)) return false;
        Codec.Receipt memory given = Codec.receipt(receipt);
        if (given.node != root.node || !Codec.isBillable(given.reason) || isWithheld(root) || isVoid(root, receiptHash)) return false;
        (bool known, uint128 collected) = escrow.collectedBy(given.lane, root.epoch);
        if (known) return collected >= given.cumulativeAfter;
        return inDoubt && escrow.collectedOf(given.lane) >= given.cumulativeAfter;
    }

    /// @dev Who gets which amount for part `code` of a receipt; reads quote and manifest, with their lengths u32. A receipt that names bytes
    /// which are no quote or no manifest, or whose fee does not divide, has no parts; nor has a role that nobody holds.
    function shareOf(NodeTrees.Place memory place, bytes calldata receipt, uint32 code, Openings.Reader memory reader)
        private
        view
        returns (address, uint256)
    {
        ReceiptRules.Case memory c = ReceiptRules.open(receipt, reader.blob(), reader.blob());
        if (!c.hasQuote) revert ReceiptRules.NotTheQuote(c.receipt.quoteHash, 0);
        if (!c.hasManifest) revert ReceiptRules.NotTheManifest(c.receipt.manifestRoot, 0);
        if (!c.isQuote || !c.isManifest || !Split.divides(receipt, c.receipt, c.quote.protocolFee)) return (address(0), 0);
        uint256 amount = Split.part(receipt, c.receipt, c.quote.protocolFee, c.manifest, code);
        address payee = amount == 0 ? address(0) : payeeOf(place, receipt, c, code);
        return (payee, payee == address(0) ? 0 : amount);
    }

    /// @dev As of the named block, or of its root's if that comes first: what is still to come cannot change who is paid. A span that was void when
    /// W1 ended pays the insurance pool.
    function payeeOf(NodeTrees.Place memory place, bytes calldata receipt, ReceiptRules.Case memory c, uint32 code)
        private
        view
        returns (address)
    {
        if (c.receipt.blockNumber > place.blockNumber) c.receipt.blockNumber = place.blockNumber;
        if (code == Split.PROTOCOL) return settlement.protocol();
        if (code == Split.NODE) return stakeManager.payoutAt(c.receipt.node, ReceiptRules.toBlock(c.receipt.blockNumber));
        if (code == Split.AGENT) return ownerOf(c, registry.KIND_AGENT());
        if (code == Split.BASE) return ownerOf(c, registry.KIND_BASE());
        if (code == Split.ADAPTER) return ownerOf(c, registry.KIND_ADAPTER());
        if (code == Split.STAKERS) return settlement.stakers();
        if (code == Split.INSURANCE) return settlement.insurance();
        if (code >= Split.SPANS) {
            // A part that is worth something has the number of a span, of which a receipt has no more than a u16 counts.
            uint16 number = uint16(code - Split.SPANS);
            return isVoid(place.root, Codec.spanId(keccak256(receipt), number)) ? settlement.insurance() : Codec.spanPayee(receipt, number);
        }
        return c.manifest.datanets[code - Split.TREASURIES].treasury;
    }

    /// @dev Owner at the named block of the manifest's first asset of a kind.
    function ownerOf(ReceiptRules.Case memory c, uint8 kind) private view returns (address) {
        for (uint256 i = 0; i < c.manifest.assets.length; ++i) {
            if (c.manifest.assets[i].kind != kind) continue;
            return registry.ownerAt(c.manifest.assets[i].asset, ReceiptRules.toBlock(c.receipt.blockNumber));
        }
        return address(0);
    }

    // ------------------------------------------------------------------ refunds in a tree

    /// @dev Wrong without more evidence unless it is due in this epoch, from this node to this payer, and no more than was collected and not given
    /// back. Else a u8 says what is shown: see `Shown`. A refund is what was collected, less what was given back and less the cumulative amount
    /// of its witness. Every billed receipt that names the lane bounds it, whoever's it is and whenever its money was collected, unless it was out
    /// when W1 of its epoch ended: all that is known to who builds the tree, and does not change while it can be proven wrong.
    function isWrongRefund(Context memory c, address account, PayoutTrees.Part memory part, Openings.Reader memory reader)
        private
        view
        returns (bool)
    {
        RefundDue memory due = refunds[part.lane];
        (address node,,) = PayoutTrees.fieldsOf(part.key);
        uint128 collected = escrow.collectedOf(part.lane);
        if (due.epoch != c.pending.epoch || due.payer != account || due.node != node) return true;
        if (uint256(due.givenBack) + part.amount > collected) return true;
        uint128 left = collected - due.givenBack;
        uint8 shown = reader.u8();
        if (shown > uint8(Shown.Better)) revert UnknownShown(shown);
        bool hasWitness = part.witnessNode != address(0) || part.witnessEpoch != 0 || part.witnessIndex != 0;
        if (Shown(shown) == Shown.Nothing) return !hasWitness && part.amount != left;
        if (Shown(shown) == Shown.Higher) {
            NodeTrees.Place memory place = NodeTrees.root(reader, settlement);
            if (place.root.epoch > c.pending.epoch) revert NotOfThisEpoch(c.pending.epoch, place.root.epoch);
            (bool bounds, uint128 after_) = boundOf(place.root, reader.u64(), part.lane, collected, reader);
            return bounds && part.amount > less(left, after_);
        }
        if (Shown(shown) == Shown.Better) return isBetter(c, part, hasWitness, collected, reader);
        return hasWitness && isWrongWitness(c, part, collected, left, reader);
    }

    /// @dev Wrong if the witness bounds nothing; else another receipt is read: wrong if it reaches further, or as far from a smaller place.
    function isBetter(
        Context memory c,
        PayoutTrees.Part memory part,
        bool hasWitness,
        uint128 collected,
        Openings.Reader memory reader
    ) private view returns (bool) {
        uint128 reach = 0;
        if (hasWitness) {
            NodeTrees.Place memory named = NodeTrees.root(reader, settlement);
            requireRootOf(named.root, part.witnessEpoch, part.witnessNode);
            bool isBound;
            (isBound, reach) = boundOf(named.root, part.witnessIndex, part.lane, collected, reader);
            if (!isBound || reach == 0) return true;
        }
        NodeTrees.Place memory place = NodeTrees.root(reader, settlement);
        if (place.root.epoch > c.pending.epoch) revert NotOfThisEpoch(c.pending.epoch, place.root.epoch);
        place.index = reader.u64();
        (bool bounds, uint128 after_) = boundOf(place.root, place.index, part.lane, collected, reader);
        if (!bounds || after_ != reach) return bounds && after_ > reach;
        return after_ != 0
            && (place.root.epoch < part.witnessEpoch
                || (place.root.epoch == part.witnessEpoch
                    && (place.root.node < part.witnessNode
                        || (place.root.node == part.witnessNode && place.index < part.witnessIndex))));
    }

    /// @dev Wrong without more evidence if the named node submitted no root in the named epoch, or that comes after the payout's; else the node
    /// root; if it has no such receipt, or was withheld, nothing more; else the receipt.
    function isWrongWitness(
        Context memory c,
        PayoutTrees.Part memory part,
        uint128 collected,
        uint128 left,
        Openings.Reader memory reader
    ) private view returns (bool) {
        if (part.witnessEpoch > c.pending.epoch || settlement.nodeRootOf(part.witnessEpoch, part.witnessNode) == 0) return true;
        NodeTrees.Place memory place = NodeTrees.root(reader, settlement);
        requireRootOf(place.root, part.witnessEpoch, part.witnessNode);
        if (part.witnessIndex >= place.root.count || isWithheld(place.root)) return true;
        (bool bounds, uint128 after_) = boundOf(place.root, part.witnessIndex, part.lane, collected, reader);
        return !bounds || part.amount != less(left, after_);
    }

    /// @dev Whether the receipt at `index` bounds the refund of a lane, and its cumulative amount. Reads the receipt and its siblings. One that bills
    /// nothing breaks no rule by whatever lane and amount it names, and nobody is slashed for it: it speaks for no money.
    function boundOf(Codec.NodeRoot memory root, uint64 index, bytes32 lane, uint128 collected, Openings.Reader memory reader)
        private
        view
        returns (bool, uint128)
    {
        bytes calldata receipt = reader.blob();
        bytes32 receiptHash = NodeTrees.open(reader, root, index, receipt);
        if (!Codec.isWellFormed(receipt) || isWithheld(root) || isVoid(root, receiptHash)) return (false, 0);
        Codec.Receipt memory given = Codec.receipt(receipt);
        bool bills = Codec.isBillable(given.reason) && given.fee != 0;
        return (bills && given.node == root.node && given.lane == lane && given.cumulativeAfter <= collected, given.cumulativeAfter);
    }

    /// @dev The lane, then why its payer has no part of its refund, which is due in this epoch.
    function isLeftOut(Context memory c, Openings.Reader memory reader) private view returns (bool) {
        bytes32 lane = reader.word();
        RefundDue memory due = refunds[lane];
        if (due.epoch != c.pending.epoch) return false;
        requireNoPartOf(reader, c.pending.root, due.payer, refundKey(due.node), lane);
        return true;
    }

    function refundKey(address node) private pure returns (bytes32) {
        return PayoutTrees.keyOf(node, type(uint64).max, Split.REFUND);
    }

    function less(uint128 a, uint128 b) private pure returns (uint128) {
        return a > b ? a - b : 0;
    }

    // ------------------------------------------------------------------ private

    function requireRootOf(Codec.NodeRoot memory root, uint64 epoch, address node) private pure {
        if (root.epoch != epoch) revert NotOfThisEpoch(epoch, root.epoch);
        if (root.node != node) revert AnotherAccount(node, root.node);
    }

    /// @dev A receipt has no parts, and bounds no refund, if it was void or its node withheld one of the same root, either before W1 ended: what comes
    /// later cannot make a tree wrong that was right.
    function isVoid(Codec.NodeRoot memory root, bytes32 receiptHash) private view returns (bool) {
        return isBefore(settlement.voidedAt(receiptHash), root);
    }

    function isWithheld(Codec.NodeRoot memory root) private view returns (bool) {
        return isBefore(challenges.withheldAt(root.epoch, root.node), root);
    }

    function isBefore(uint64 time, Codec.NodeRoot memory root) private view returns (bool) {
        return time != 0 && time < dueAt(root.epoch);
    }

    function dueAt(uint64 epoch) private view returns (uint64) {
        return settlement.epochs(epoch).openedAt + settlement.w1();
    }
}
