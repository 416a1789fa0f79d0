// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AuditRoll, IBonds, IClock} from "./AuditRoll.sol";
import {AssetRegistry} from "./AssetRegistry.sol";
import {DatanetRent} from "./DatanetRent.sol";
import {Sig} from "./Sig.sol";
import {Trees} from "./Trees.sol";

/// @title Rent for who passed its audit
/// @notice *Flow of money.* A Datanet prepays `DatanetRent`, which charges it for each epoch that ended. A node that passed an epoch's audit is paid, for each fragment
/// it held, its part of what the fragment's contribution was charged for that epoch: charge x bytes of the contribution / bytes of the Datanet / epochs of the
/// charge / fragments of the object, rounded down. It goes from `DatanetRent` to the node's payout account; this contract holds deposits of the roll
/// alone. Anybody may carry a claim. What rounding, failed audits and small fragments leave is prepaid again after 90 epochs.
///
/// *What is shown.* Two verdicts `passed` of the same walk by two of the node's three auditors (`AuditRoll`), over one root of holdings, which the node signed before
/// the draw and the auditors derived from placement; and under that root the fragments, as rows of an aligned part of the tree. That a fragment
/// holds the contribution's text says the registry: its `objectHash`, which the contributor signed and a reviewer accepted. One fragment of one object is paid
/// by each contribution that names the object, out of that Datanet's own rent.
///
/// *Who can cheat whom.* A node alone: nobody; it needs two of three auditors whom nobody chose. Two colluding auditors can have a node paid that holds nothing,
/// or for fragments that others hold: first come, first paid, for at most the rent of an epoch that their victim's Datanets were charged. They can sign a
/// wrong number of fragments, and so keep the others of that contribution and epoch from being paid. Neither is slashed: that somebody held a
/// fragment yesterday cannot be shown to a contract today. Auditors who do not answer cost the node its epoch, and the Datanet nothing. An owner that prepays little gets
/// little: what was not charged is not owed. A reviewer who accepts a contribution with a false object wastes its own Datanet's rent alone.
///
/// *Cost.* A claim has 438 bytes of verdicts and signatures and 55 a fragment: 5,000 fragments are 79 parts, 330 kB a node and epoch. 64 together take 46,000 gas each, 29,000 in the
/// three epochs that then share a word of books, 17,000 of which the registry's. At 1 gwei that is 3 * 10^-5 OPEN, by the standard price an epoch's rent of 32 KiB:
/// of a contribution below 1.5 MiB one of 48 fragments is not worth claiming. Nothing here iterates over what others have.
/// @dev Sum(paid) <= charged for every period: each (contribution, epoch, fragment) is paid once, all fragments of one by one total, rounded down, only contributions
/// that were counted in the charge and epochs that it is for; `DatanetRent` checks the sum again. No product overflows: 96 + 64 bits.
contract AuditRent is AuditRoll {
    /// @notice What a node claims of one epoch. `first` and `second` are AuditVerdict bodies of Protocol P4 with their signatures. `place`: the node's on that
    /// epoch's roll. `count`: fragments under the root of holdings. `rows`: those of part `part` of the tree, in order; `siblings` from its top upwards. A row is
    /// 0 u8, digest of the leaf; or 1 u8, Datanet u64, contribution u32, period u32, fragment u8, fragments u8, bytes u32, fragment root.
    struct Audit {
        bytes first;
        bytes firstSignature;
        bytes second;
        bytes secondSignature;
        uint32 place;
        uint64 count;
        uint64 part;
        bytes32[] siblings;
        bytes rows;
    }

    /// @dev What of a claim the rows are checked against, and what they come to.
    struct Claim {
        uint64 epoch;
        uint64 datanet;
        uint32 number;
        DatanetRent.Period period;
        uint256 payments;
        DatanetRent.Payment[] due;
    }

    bytes32 private constant AUDIT_VERDICT = keccak256("AuditVerdict(bytes body)");
    /// @dev A verdict: auditor 20, node 20, epoch 8, holdings 32, nonce 32, verdict 1, right 1, digest 32, round trip 4, elapsed 4.
    uint256 private constant VERDICT_BYTES = 154;
    uint256 private constant VERDICT_AT = 112;
    uint8 private constant PASSED = 0;
    /// @notice Bytes of a leaf of holdings: object 32, fragment 1, fragments 1, bytes 4, root 32.
    uint64 public constant LEAF_BYTES = 70;
    uint256 private constant DIGEST_ROW = 33;
    uint256 private constant LEAF_ROW = 55;
    /// @notice Most levels of a part: 256 fragments.
    uint256 public constant PART_LEVELS = 8;
    /// @notice Most fragments of an object.
    uint8 public constant FRAGMENTS = 48;

    /// @notice Holds the rent.
    DatanetRent public immutable rent;
    /// @notice Says what was contributed, and which object holds it.
    AssetRegistry public immutable registry;

    /// @dev By keccak(Datanet, contribution, epoch / 4): of each of four epochs, 64 bits, a bit per fragment that was paid, and above 48 of them the object's fragments.
    mapping(bytes32 => uint256) private paid;

    /// @notice `node` passed the audit of `epoch`, and `payee` was paid or credited `amount` for fragments under `holdings`.
    event RentClaimed(address indexed node, uint64 indexed epoch, address indexed payee, bytes32 holdings, uint256 amount);

    error VerdictLength(uint256 expected, uint256 got);
    error VerdictsDiffer();
    error NotPassed(uint8 verdict);
    error NotDrawn(address auditor);
    error OneAuditor(address auditor);
    error VerdictSignature(address expected, address recovered);
    error TooManyLevels(uint256 most, uint256 got);
    error PartBeyondLeaves(uint64 part, uint64 count);
    error UnknownRow(uint8 kind);
    error RowBytes(uint256 expected, uint256 got);
    error WrongHoldings(bytes32 expected, bytes32 got);
    error EpochNotCharged(uint64 epoch, uint32 from, uint32 until);
    error NotCharged(uint32 contribution, uint32 charged);
    error FragmentBeyond(uint8 fragment, uint8 fragments);
    error OtherFragments(uint8 expected, uint8 got);
    error NothingDue();

    constructor(IBonds stakeManager_, IClock settlement_, DatanetRent rent_, AssetRegistry registry_) AuditRoll(stakeManager_, settlement_) {
        if (address(rent_) == address(0)) revert ZeroAddress("rent");
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        rent = rent_;
        registry = registry_;
    }

    /// @notice Pays nodes for epochs that they passed. Callable by anyone. A fragment that was paid before is passed over, so that whoever is ahead makes no
    /// batch fail, unless nothing of it is due; anything wrong is refused. A payee that refuses the money, or burns its gas, is credited.
    function claim(Audit[] calldata audits) external {
        uint256 sum = 0;
        for (uint256 i = 0; i < audits.length; ++i) sum += claimOne(audits[i]);
        if (sum == 0) revert NothingDue();
    }

    /// @notice Bits of the fragments of a contribution that were paid for an epoch, and how many its object has; zeros if none was paid.
    function paidOf(uint64 datanet, uint32 contribution, uint64 epoch) external view returns (uint48 fragments, uint8 total) {
        uint256 lane = paid[keyOf(datanet, contribution, epoch)] >> (64 * (epoch % 4));
        return (uint48(lane), uint8(lane >> 48));
    }

    /// @notice What a fragment earns of a charge for one epoch, in wei.
    /// @param textBytes Bytes of the fragment's contribution.
    /// @param fragments Fragments of its object.
    function shareOf(DatanetRent.Period memory period, uint64 textBytes, uint8 fragments) public pure returns (uint96) {
        uint256 parts = uint256(period.textBytes) * (period.until - period.from) * fragments;
        // A contribution that was counted has at most all bytes, so that this is at most what was charged.
        return uint96(uint256(period.charged) * textBytes / parts);
    }

    function claimOne(Audit calldata audit) private returns (uint256 amount) {
        address node = address(bytes20(audit.first[20:40]));
        Claim memory work;
        work.epoch = uint64(bytes8(audit.first[40:48]));
        bytes32 holdings = bytes32(audit.first[48:80]);
        requireVerdicts(audit, node, work.epoch);
        bytes32 got = rootOf(audit, work);
        if (got != holdings) revert WrongHoldings(holdings, got);
        DatanetRent.Payment[] memory due = new DatanetRent.Payment[](work.payments);
        for (uint256 i = 0; i < due.length; ++i) {
            due[i] = work.due[i];
            amount += due[i].amount;
        }
        if (amount == 0) return 0;
        address payee = stakeManager.payoutAt(node, uint48(block.number));
        emit RentClaimed(node, work.epoch, payee, holdings, amount);
        rent.pay(payee, due);
    }

    /// @dev Two of the three drawn say of one walk that it passed.
    function requireVerdicts(Audit calldata audit, address node, uint64 epoch) private view {
        bytes calldata first = audit.first;
        bytes calldata second = audit.second;
        if (first.length != VERDICT_BYTES) revert VerdictLength(VERDICT_BYTES, first.length);
        if (second.length != VERDICT_BYTES) revert VerdictLength(VERDICT_BYTES, second.length);
        // Node, epoch, holdings, nonce, verdict.
        if (keccak256(first[20:VERDICT_AT + 1]) != keccak256(second[20:VERDICT_AT + 1])) revert VerdictsDiffer();
        if (uint8(first[VERDICT_AT]) != PASSED) revert NotPassed(uint8(first[VERDICT_AT]));
        address one = address(bytes20(first[0:20]));
        address two = address(bytes20(second[0:20]));
        if (one == two) revert OneAuditor(one);
        address[AUDITORS] memory drawn = auditorsOf(epoch, node, audit.place);
        requireDrawn(drawn, one);
        requireDrawn(drawn, two);
        bytes32 separator = Sig.domain(address(settlement));
        requireSigned(separator, first, audit.firstSignature, one);
        requireSigned(separator, second, audit.secondSignature, two);
    }

    function requireDrawn(address[AUDITORS] memory drawn, address auditor) private pure {
        if (auditor == address(0) || (auditor != drawn[0] && auditor != drawn[1] && auditor != drawn[2])) revert NotDrawn(auditor);
    }

    function requireSigned(bytes32 separator, bytes calldata body, bytes calldata signature, address auditor) private pure {
        address recovered = Sig.signer(Sig.digest(separator, AUDIT_VERDICT, keccak256(body)), signature);
        if (recovered != auditor) revert VerdictSignature(auditor, recovered);
    }

    /// @dev The root that the rows lead to. What they earn is noted on the way: a claim with another root is undone.
    function rootOf(Audit calldata audit, Claim memory work) private returns (bytes32) {
        bytes32[] memory level = digests(audit, work);
        for (uint256 width = level.length; width > 1; width /= 2) {
            for (uint256 i = 0; i < width; i += 2) level[i / 2] = Trees.node(level[i], level[i + 1]);
        }
        bytes32 top = level[0];
        uint256 index = audit.part;
        for (uint256 i = 0; i < audit.siblings.length; ++i) {
            top = index & 1 == 0 ? Trees.node(top, audit.siblings[i]) : Trees.node(audit.siblings[i], top);
            index >>= 1;
        }
        return Trees.root(audit.count, audit.count * LEAF_BYTES, top);
    }

    /// @dev Digests of the part's leaves, zeros beyond the last; each leaf that is shown is noted as due.
    function digests(Audit calldata audit, Claim memory work) private returns (bytes32[] memory level) {
        uint256 levels = Trees.depth(audit.count);
        if (audit.siblings.length > levels) revert Trees.WrongDepth(levels, audit.siblings.length);
        levels -= audit.siblings.length;
        if (levels > PART_LEVELS) revert TooManyLevels(PART_LEVELS, levels);
        uint256 first = uint256(audit.part) << levels;
        if (first >= audit.count) revert PartBeyondLeaves(audit.part, audit.count);
        level = new bytes32[](uint256(1) << levels);
        uint256 held = audit.count - first < level.length ? audit.count - first : level.length;
        work.due = new DatanetRent.Payment[](held);
        uint256 offset = 0;
        for (uint256 i = 0; i < held; ++i) {
            bytes calldata row = cut(audit.rows, offset);
            level[i] = row.length == DIGEST_ROW ? bytes32(row[1:]) : noted(row[1:], work);
            offset += row.length;
        }
        if (audit.rows.length != offset) revert RowBytes(offset, audit.rows.length);
    }

    /// @dev The row that begins at `offset`.
    function cut(bytes calldata rows, uint256 offset) private pure returns (bytes calldata) {
        if (rows.length <= offset) revert RowBytes(offset + 1, rows.length);
        uint8 kind = uint8(rows[offset]);
        if (kind > 1) revert UnknownRow(kind);
        uint256 end = offset + (kind == 0 ? DIGEST_ROW : LEAF_ROW);
        if (rows.length < end) revert RowBytes(end, rows.length);
        return rows[offset:end];
    }

    /// @dev Digest of a leaf, whose share becomes due if it was not paid for this epoch.
    function noted(bytes calldata row, Claim memory work) private returns (bytes32) {
        uint64 datanet = uint64(bytes8(row[0:8]));
        uint32 contribution = uint32(bytes4(row[8:12]));
        seek(work, datanet, uint32(bytes4(row[12:16])));
        if (contribution >= work.period.contributions) revert NotCharged(contribution, work.period.contributions);
        AssetRegistry.Accepted memory text = registry.contributionAt(datanet, contribution);
        if (mark(datanet, contribution, work.epoch, uint8(row[16]), uint8(row[17]))) {
            work.due[work.payments - 1].amount += shareOf(work.period, text.textBytes, uint8(row[17]));
        }
        return Trees.leaf(bytes.concat(text.objectHash, row[16:54]));
    }

    /// @dev Goes on with the charge of the row before, or begins with another.
    function seek(Claim memory work, uint64 datanet, uint32 number) private view {
        if (work.payments != 0 && work.datanet == datanet && work.number == number) return;
        DatanetRent.Period memory period = rent.periodOf(datanet, number);
        if (work.epoch < period.from || work.epoch >= period.until) revert EpochNotCharged(work.epoch, period.from, period.until);
        (work.datanet, work.number, work.period) = (datanet, number, period);
        work.due[work.payments++] = DatanetRent.Payment({datanet: datanet, period: number, amount: 0});
    }

    /// @dev Says whether the fragment was not paid yet, and notes that it is.
    function mark(uint64 datanet, uint32 contribution, uint64 epoch, uint8 fragment, uint8 fragments) private returns (bool isNew) {
        if (fragment >= fragments || fragments > FRAGMENTS) revert FragmentBeyond(fragment, fragments);
        bytes32 key = keyOf(datanet, contribution, epoch);
        uint256 shift = 64 * (epoch % 4);
        uint256 lanes = paid[key];
        uint8 total = uint8(lanes >> (shift + 48));
        if (total != 0 && total != fragments) revert OtherFragments(total, fragments);
        uint256 bit = uint256(1) << (shift + fragment);
        isNew = lanes & bit == 0;
        if (isNew) paid[key] = lanes | bit | (uint256(fragments) << (shift + 48));
    }

    function keyOf(uint64 datanet, uint32 contribution, uint64 epoch) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(datanet, contribution, epoch / 4));
    }
}
