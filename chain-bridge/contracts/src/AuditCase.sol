// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {AssetRegistry} from "./AssetRegistry.sol";
import {Erasures} from "./Erasures.sol";
import {Metered} from "./Metered.sol";
import {Pay} from "./Pay.sol";
import {IStakes} from "./Ports.sol";
import {Sig} from "./Sig.sol";
import {Trees} from "./Trees.sol";

/// @notice What a case needs of StakeManager beside the slash.
interface ICaseStakes is IStakes {
    /// @notice Stake that a fault can take, in wei.
    function slashableOf(address account) external view returns (uint128);

    /// @notice Seconds between `unbond` and `withdraw`.
    function unbondingSeconds() external view returns (uint64);
}

/// @title Slash cases of storage audits (Protocol P10)
/// @notice A node signs what fragments it holds (AuditCommit). Whoever doubts it attaches a bond and asks for 1,024 bytes of one of them. Anybody who shows
/// these bytes and their way to the fragment's root ends the case, is given half of what that cost, at most the bond, and the rest is the opener's
/// again: neither earns. Nobody shows them within `answerSeconds`: whoever closes the case has the node slashed, and the opener gets its bond back. No committee,
/// no auditor's word: bytes or none.
///
/// *An honest node never falls.* There is time to rebuild a fragment from the network, and whoever has the bytes may answer for a node that is away; an
/// answer counts until the case is closed. A commitment says in which block it was signed and is of no use `ageBlocks` later, so that what a
/// node gave away since may be forgotten then. What was erased on request is asked for by nobody: a case names a contribution that is not erased and that had been accepted when the node signed;
/// erased before the end, it closes without a slash.
///
/// *One loss is one fault.* A slash is for all that a node signed before it: commitments up to the block of a conviction open no case and convict nobody any
/// more. Who signs again for what it has lost falls again, dearer. A node that opens a case against itself pays the burned and the insured part.
///
/// *Nobody is shielded, nobody flooded.* There is no number of cases that a node's friends could fill. A case is about one leaf of one contribution's fragment, and while it is open
/// that leaf is not asked for again, nor later by a commitment of before the answer. So an open case stands in the way of itself alone, a friend's contribution that is erased ends its own cases
/// alone, and each case costs who opens it more than its answer costs the node.
/// @dev Holds a bond for each open case, and what it owes. No owner.
contract AuditCase {
    /// @notice What a case is opened with. `commit`: body of an AuditCommit (76 bytes, Protocol P4) with the node's signature. `leaf`: a leaf of holdings (70 bytes, Protocol P8),
    /// number `index` of the `count` under the commitment's root, `siblings` from it upwards. `contribution` of `datanet` names the leaf's object. `part`: which
    /// 1,024 bytes of the fragment are asked for.
    struct Question {
        bytes commit;
        bytes signature;
        bytes leaf;
        uint64 count;
        uint64 index;
        bytes32[] siblings;
        uint64 datanet;
        uint32 contribution;
        uint32 part;
    }

    /// @notice What is asked for, of whom, and why it is to be there: leaf `part` of the fragment of `size` bytes under `root`, of the object of `contribution` of `datanet`.
    struct Asked {
        address node;
        uint64 datanet;
        uint32 contribution;
        bytes32 root;
        uint32 size;
        uint32 part;
    }

    /// @notice A case; `deadline` in seconds since 1970, `signedAt` the block of the commitment, `endedAt` the block of its end, 0 while it is open.
    struct Case {
        address opener;
        uint64 deadline;
        uint64 signedAt;
        uint64 endedAt;
    }

    bytes32 private constant AUDIT_COMMIT = keccak256("AuditCommit(bytes body)");
    /// @dev A commitment: node 20, epoch 8, holdings 32, ranges 8, block 8.
    uint256 private constant COMMIT_BYTES = 76;
    /// @dev A leaf of holdings: object 32, fragment 1, fragments 1, bytes 4, root 32.
    uint256 private constant LEAF_BYTES = 70;
    /// @notice Bytes of a leaf of a fragment's tree; the last may have fewer.
    uint32 public constant PART_BYTES = 1_024;

    /// @notice Holds the stake that silence takes.
    ICaseStakes public immutable stakeManager;
    /// @notice The verifying contract of commitments.
    address public immutable settlement;
    /// @notice Says which object holds what was contributed.
    AssetRegistry public immutable registry;
    /// @notice Says what is to be erased.
    Erasures public immutable erasures;
    /// @notice What is attached to a case, in wei: the most that its opener pays for the answer.
    uint128 public immutable bond;
    /// @notice Seconds before a case may be closed without an answer.
    uint64 public immutable answerSeconds;
    /// @notice Blocks after its own in which a commitment may open a case.
    uint64 public immutable ageBlocks;
    /// @notice Seconds between two blocks of this chain, at most.
    uint64 public immutable blockSeconds;

    /// @notice The block in which a node was last convicted: what it signed up to there convicts it no more. 0 if it never was.
    mapping(address => uint64) public convictedAt;
    /// @notice Wei that a payee could not take, and what answers left of an opener's bond, by payee.
    mapping(address => uint256) public owed;
    mapping(bytes32 => Case) private cases;

    event CaseOpened(
        bytes32 indexed id,
        address indexed node,
        address indexed opener,
        bytes32 object,
        bytes32 root,
        uint8 fragment,
        uint8 fragments,
        uint32 size,
        uint32 part,
        uint64 datanet,
        uint32 contribution,
        uint64 signedAt,
        uint64 deadline
    );
    event CaseAnswered(bytes32 indexed id, address indexed node, address indexed by);
    event CaseClosed(bytes32 indexed id, address indexed node, bool isConvicted);
    event Credited(address indexed payee, uint256 amount);
    event OwedWithdrawn(address indexed payee, uint256 amount);

    error ZeroAddress(string what);
    error ZeroValue(string what);
    error StakeLeavesBefore(uint256 needed, uint256 unbondingSeconds);
    error WrongBond(uint256 expected, uint256 got);
    error BodyLength(string what, uint256 expected, uint256 got);
    error CommitSignature(address node, address recovered);
    error SignedLater(uint64 signedAt, uint256 blockNow);
    error TooOld(uint64 signedAt, uint256 blockNow);
    error ConvictedSince(uint64 signedAt, uint64 convictedAt);
    error WrongRoot(string what, bytes32 expected, bytes32 got);
    error OtherObject(bytes32 expected, bytes32 got);
    error NotAcceptedThen(uint64 acceptedAt, uint256 signedAfter);
    error ErasedOnRequest(uint64 datanet, uint32 contribution);
    error NothingAtStake(address node);
    error KnownCase(bytes32 id, uint64 endedAt);
    error NoCase(bytes32 id);
    error StillOpen(uint64 deadline, uint256 timeNow);
    error NothingOwed(address account);

    /// @param settlement_ See `settlement`.
    /// @param bond_ See `bond`: a small multiple of half of what an answer costs.
    /// @param answerSeconds_ Seconds to answer in: long enough to rebuild a fragment, and for a node's keeper to notice.
    /// @param ageBlocks_ See `ageBlocks`; longer than an epoch, so that one who failed its audit can be asked. In seconds, with `answerSeconds_`, less than stake takes
    /// to unbond.
    /// @param blockSeconds_ See `blockSeconds`, which the deployer knows.
    constructor(
        ICaseStakes stakeManager_,
        address settlement_,
        AssetRegistry registry_,
        Erasures erasures_,
        uint128 bond_,
        uint64 answerSeconds_,
        uint64 ageBlocks_,
        uint64 blockSeconds_
    ) {
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        if (settlement_ == address(0)) revert ZeroAddress("settlement");
        if (address(registry_) == address(0)) revert ZeroAddress("registry");
        if (address(erasures_) == address(0)) revert ZeroAddress("erasures");
        if (bond_ == 0) revert ZeroValue("bond");
        if (answerSeconds_ == 0) revert ZeroValue("answerSeconds");
        if (ageBlocks_ == 0) revert ZeroValue("ageBlocks");
        if (blockSeconds_ == 0) revert ZeroValue("blockSeconds");
        uint256 needed = answerSeconds_ + uint256(ageBlocks_) * blockSeconds_;
        uint256 unbonding = stakeManager_.unbondingSeconds();
        if (needed >= unbonding) revert StakeLeavesBefore(needed, unbonding);
        stakeManager = stakeManager_;
        settlement = settlement_;
        registry = registry_;
        erasures = erasures_;
        bond = bond_;
        answerSeconds = answerSeconds_;
        ageBlocks = ageBlocks_;
        blockSeconds = blockSeconds_;
    }

    /// @notice Asks a node for a leaf of a fragment that it signed for, against the bond. Once for a leaf while that case is open, and then only by a commitment
    /// that was signed after it ended.
    function open(Question calldata question) external payable returns (bytes32 id) {
        if (msg.value != bond) revert WrongBond(bond, msg.value);
        (address node, uint64 signedAt) = requireCommit(question);
        bytes calldata leaf = question.leaf;
        Asked memory asked = Asked({
            node: node,
            datanet: question.datanet,
            contribution: question.contribution,
            root: bytes32(leaf[38:70]),
            size: uint32(bytes4(leaf[34:38])),
            part: question.part
        });
        if (asked.part >= partsOf(asked.size)) revert Trees.IndexBeyondLeaves(asked.part, partsOf(asked.size));
        requireContribution(question, signedAt);
        if (stakeManager.slashableOf(node) == 0) revert NothingAtStake(node);
        id = idOf(asked);
        Case storage given = cases[id];
        if (given.opener != address(0) && (given.endedAt == 0 || signedAt <= given.endedAt)) revert KnownCase(id, given.endedAt);
        uint64 deadline = uint64(block.timestamp) + answerSeconds;
        cases[id] = Case({opener: msg.sender, deadline: deadline, signedAt: signedAt, endedAt: 0});
        announce(id, question, asked, signedAt, deadline);
    }

    /// @notice Ends a case with the bytes asked for. Callable by anyone, until it is closed; who does is given half of what it cost, at most the bond.
    /// @param data The leaf: 1,024 bytes, or what is left of the fragment in its last.
    /// @param siblings From the leaf upwards to the fragment's root.
    function answer(Asked calldata asked, bytes calldata data, bytes32[] calldata siblings) external {
        uint256 start = gasleft();
        bytes32 id = idOf(asked);
        Case storage given = running(id);
        uint256 left = uint256(asked.size) - uint256(asked.part) * PART_BYTES;
        uint256 expected = left < PART_BYTES ? left : PART_BYTES;
        if (data.length != expected) revert BodyLength("part", expected, data.length);
        bytes32 root = rootOf(Trees.leaf(data), asked.part, partsOf(asked.size), asked.size, siblings);
        if (root != asked.root) revert WrongRoot("fragment", asked.root, root);
        given.endedAt = uint64(block.number);
        emit CaseAnswered(id, asked.node, msg.sender);
        uint256 price = Metered.half(start);
        if (price > bond) price = bond;
        // Credited, not called: who answers pays for this.
        if (price < bond) credit(given.opener, bond - price);
        give(msg.sender, price);
    }

    /// @notice Closes a case that nobody answered in time: the node is slashed. One whose contribution was erased, or whose node was convicted since it signed,
    /// closes at any time and takes nothing. Callable by anyone; the opener is the reporter, and gets its bond back.
    function close(Asked calldata asked) external {
        bytes32 id = idOf(asked);
        Case storage given = running(id);
        (address opener, uint64 signedAt) = (given.opener, given.signedAt);
        bool convicts = signedAt > convictedAt[asked.node] && !isErased(asked.datanet, asked.contribution);
        if (convicts && block.timestamp < given.deadline) revert StillOpen(given.deadline, block.timestamp);
        given.endedAt = uint64(block.number);
        emit CaseClosed(id, asked.node, convicts);
        if (convicts) {
            convictedAt[asked.node] = uint64(block.number);
            // Of two convictions the later one's commitment was signed after the first: a hash each.
            stakeManager.slash(asked.node, 0, address(0), 0, 0, opener, keccak256(abi.encode("S1", asked.node, signedAt)));
        }
        give(opener, bond);
    }

    /// @notice Pays `account` what could not be paid before, and what answers left of its bonds.
    function withdrawOwed(address payable account) external {
        uint256 amount = owed[account];
        if (amount == 0) revert NothingOwed(account);
        owed[account] = 0;
        emit OwedWithdrawn(account, amount);
        Address.sendValue(account, amount);
    }

    /// @notice A case; zeros if there never was one.
    function caseOf(bytes32 id) external view returns (Case memory) {
        return cases[id];
    }

    /// @notice The name of a case.
    function idOf(Asked memory asked) public pure returns (bytes32) {
        return keccak256(abi.encode(asked));
    }

    // ------------------------------------------------------------------ private

    /// @dev A commitment that its node signed, of an age that counts, since its last conviction; and the leaf is under it.
    function requireCommit(Question calldata question) private view returns (address node, uint64 signedAt) {
        bytes calldata body = question.commit;
        if (body.length != COMMIT_BYTES) revert BodyLength("commitment", COMMIT_BYTES, body.length);
        if (question.leaf.length != LEAF_BYTES) revert BodyLength("leaf", LEAF_BYTES, question.leaf.length);
        node = address(bytes20(body[0:20]));
        signedAt = uint64(bytes8(body[68:76]));
        if (signedAt > block.number) revert SignedLater(signedAt, block.number);
        if (block.number - signedAt > ageBlocks) revert TooOld(signedAt, block.number);
        if (signedAt <= convictedAt[node]) revert ConvictedSince(signedAt, convictedAt[node]);
        address recovered = Sig.signer(Sig.digest(Sig.domain(settlement), AUDIT_COMMIT, keccak256(body)), question.signature);
        if (recovered == address(0) || recovered != node) revert CommitSignature(node, recovered);
        bytes32 holdings = bytes32(body[28:60]);
        // As many bytes as the leaves have: a root over another length is none of holdings.
        uint256 length = uint256(question.count) * LEAF_BYTES;
        if (length > type(uint64).max) revert Trees.IndexBeyondLeaves(question.index, question.count);
        bytes32 got = rootOf(Trees.leaf(question.leaf), question.index, question.count, uint64(length), question.siblings);
        if (got != holdings) revert WrongRoot("holdings", holdings, got);
    }

    /// @dev The contribution named is of the leaf's object, had been accepted when the node signed, and is not erased. When it signed is known by the block alone: so many
    /// blocks of the longest time ago, or later. So nobody has an erased object accepted anew and asks for it by a commitment of before.
    function requireContribution(Question calldata question, uint64 signedAt) private view {
        AssetRegistry.Accepted memory accepted = registry.contributionAt(question.datanet, question.contribution);
        bytes32 object = bytes32(question.leaf[0:32]);
        if (accepted.objectHash != object) revert OtherObject(accepted.objectHash, object);
        uint256 ago = (block.number - signedAt) * blockSeconds;
        uint256 signedAfter = block.timestamp > ago ? block.timestamp - ago : 0;
        if (accepted.acceptedAt > signedAfter) revert NotAcceptedThen(accepted.acceptedAt, signedAfter);
        if (isErased(question.datanet, question.contribution)) revert ErasedOnRequest(question.datanet, question.contribution);
    }

    function isErased(uint64 datanet, uint32 contribution) private view returns (bool) {
        return erasures.erasureOf(datanet, contribution).by != address(0);
    }

    function running(bytes32 id) private view returns (Case storage given) {
        given = cases[id];
        if (given.opener == address(0) || given.endedAt != 0) revert NoCase(id);
    }

    function partsOf(uint32 size) private pure returns (uint64) {
        return (uint64(size) + PART_BYTES - 1) / PART_BYTES;
    }

    /// @dev The root that `digest` at `index` of a tree of `count` leaves and `length` bytes leads to.
    function rootOf(bytes32 digest, uint64 index, uint64 count, uint64 length, bytes32[] calldata siblings) private pure returns (bytes32) {
        if (index >= count) revert Trees.IndexBeyondLeaves(index, count);
        uint256 levels = Trees.depth(count);
        if (siblings.length != levels) revert Trees.WrongDepth(levels, siblings.length);
        uint256 place = index;
        for (uint256 level = 0; level < levels; ++level) {
            bytes32 sibling = siblings[level];
            digest = place & 1 == 0 ? Trees.node(digest, sibling) : Trees.node(sibling, digest);
            place >>= 1;
        }
        return Trees.root(count, length, digest);
    }

    function announce(bytes32 id, Question calldata question, Asked memory asked, uint64 signedAt, uint64 deadline) private {
        emit CaseOpened(
            id,
            asked.node,
            msg.sender,
            bytes32(question.leaf[0:32]),
            asked.root,
            uint8(question.leaf[32]),
            uint8(question.leaf[33]),
            asked.size,
            asked.part,
            question.datanet,
            question.contribution,
            signedAt,
            deadline
        );
    }

    function give(address payee, uint256 amount) private {
        if (amount != 0 && !Pay.tryPay(payee, amount)) credit(payee, amount);
    }

    function credit(address payee, uint256 amount) private {
        owed[payee] += amount;
        emit Credited(payee, amount);
    }
}
