// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Codec} from "./Codec.sol";
import {Sig} from "./Sig.sol";
import {Roles, StakeManager} from "./StakeManager.sol";
import {Trees} from "./Trees.sol";

/// @notice What the registry tells Settlement.
interface ITreasuries {
    /// @notice Lets what the treasury of a Datanet earns, to whose address nobody has a key, be paid to who contributed.
    function sealTreasury(uint64 asset) external;
}

/// @title Assets, their versions, and what was contributed to Datanets
/// @notice An asset (base, adapter, Datanet, agent) is an ERC-721 token; its versions are append-only and carry the split table that answers
/// are paid by. A contributor commits to a text before anyone sees it: that fixes its priority. A reviewer's signed report accepts it.
contract AssetRegistry is ERC721 {
    using Checkpoints for Checkpoints.Trace208;
    using SafeCast for uint256;

    uint8 public constant KIND_BASE = 1;
    uint8 public constant KIND_ADAPTER = 2;
    uint8 public constant KIND_DATANET = 3;
    uint8 public constant KIND_AGENT = 4;

    uint8 public constant STATUS_ACTIVE = 1;
    uint8 public constant STATUS_FROZEN = 2;

    /// @dev Places in a split table.
    uint256 private constant ROW_AGENT = 1;
    uint256 private constant ROW_BASE = 2;
    uint256 private constant ROW_ADAPTER = 3;
    uint256 private constant ROW_DATA = 4;

    /// @notice What a split table sums to.
    uint256 public constant SPLIT_SUM = 10_000;
    /// @notice At most this many Datanets in a version: each costs a search per answer, and publishing compares them in pairs.
    uint256 public constant MAX_DATANETS = 16;
    /// @notice A commitment is worth its priority for this long.
    uint256 public constant COMMITMENT_SECONDS = 30 days;
    /// @dev Longest contribution: a row of a document says where its text begins in 40 bits. 2^24 of the longest fit a Datanet.
    uint64 private constant TEXT_BYTES_MAX = 2 ** 40;
    uint8 private constant VERDICT_ACCEPTED = 1;
    /// @dev Bytes between the beginnings of two leaves of a text.
    uint64 private constant TEXT_STRIDE = 64;

    /// @notice A version of an asset.
    struct Ref {
        uint64 asset;
        uint32 version;
    }

    /// @notice What a version is; see `publish`.
    struct Version {
        bytes32 contentHash;
        bytes32 licenceHash;
        uint16 minParentShare;
        uint16[6] split;
        Ref[] parents;
        Ref[] datanets;
    }

    /// @notice Where and when a commitment was made. `ordinal` counts the commitments of one block from 0.
    struct Commitment {
        uint64 blockNumber;
        uint64 timestamp;
        uint32 ordinal;
        bool exists;
    }

    /// @notice An accepted contribution; block and ordinal are those of its commitment, the time is that of its acceptance.
    struct Accepted {
        address contributor;
        uint64 blockNumber;
        uint32 ordinal;
        bytes32 textRoot;
        uint64 textBytes;
        uint32 documents;
        uint64 acceptedAt;
        bytes32 licenceHash;
        bytes32 objectHash;
        bytes32 reportDigest;
    }

    /// @notice The index root of a version, as a bonded indexer posted it.
    struct IndexRoot {
        bytes32 root;
        uint32 paramId;
        address indexer;
        uint64 blockNumber;
        uint64 windowEnds;
    }

    /// @notice Says who may post an index root.
    StakeManager public immutable stakeManager;
    /// @notice Is told of every Datanet's treasury.
    ITreasuries public immutable treasuries;
    /// @notice Seconds in which an index root may be challenged.
    uint64 public immutable indexWindow;
    /// @notice Approves parameters and sets the least data row.
    address public governor;
    /// @notice The least data row of a split table, in hundredths of a per cent.
    uint16 public minDataBps;
    /// @notice Number of assets; ids run from 1.
    uint64 public assetCount;

    /// @notice Kind of an asset; 0 if there is none.
    mapping(uint64 => uint8) public kindOf;
    /// @notice Number of versions of an asset; they run from 1.
    mapping(uint64 => uint32) public versionCount;
    /// @notice The version that took the place of a frozen one, by asset and version; 0 if none did.
    mapping(uint64 => mapping(uint32 => uint32)) public supersededBy;
    /// @notice Bytes of text accepted into a Datanet.
    mapping(uint64 => uint64) public bytesOf;
    /// @notice Hash of the parameters approved under an id; zero if there are none.
    mapping(uint32 => bytes32) public parametersOf;

    mapping(uint64 => string) private uris;
    mapping(uint64 => mapping(uint32 => Version)) private versions;
    mapping(uint64 => mapping(uint32 => Checkpoints.Trace208)) private statuses;
    mapping(uint64 => Checkpoints.Trace208) private owners;
    mapping(uint64 => mapping(uint32 => IndexRoot)) private indexRoots;
    /// @dev By Datanet, owner who granted, reviewer: a sale of the Datanet ends the grants of its seller.
    mapping(uint64 => mapping(address => mapping(address => bool))) private reviewers;
    /// @dev By committed hash and sender, so that copying somebody's hash takes nothing from them.
    mapping(bytes32 => mapping(address => Commitment)) private commitments;
    mapping(uint64 => Accepted[]) private contributions;
    /// @dev Place of a text in its Datanet plus 1.
    /// @dev Of each text of a Datanet the earliest that was accepted: block of its commitment, ordinal (32 bits), contributor (160 bits).
    mapping(uint64 => mapping(bytes32 => uint256)) private firstOfText;
    uint64 private lastCommitBlock;
    uint32 private nextOrdinal;

    event Registered(uint64 indexed asset, uint8 indexed kind, address indexed owner, string uri);
    event Published(
        uint64 indexed asset,
        uint32 indexed version,
        bytes32 contentHash,
        Ref[] parents,
        uint16[6] split,
        Ref[] datanets,
        bytes32 licenceHash,
        uint16 minParentShare
    );
    event Frozen(uint64 indexed asset, uint32 indexed version);
    event Redirected(uint64 indexed asset, uint32 indexed from, uint32 indexed to);
    event ReviewerSet(uint64 indexed datanet, address indexed owner, address indexed reviewer, bool allowed);
    event Committed(bytes32 indexed commitment, address indexed contributor, uint64 blockNumber, uint32 ordinal);
    event ContributionAccepted(
        uint64 indexed datanet,
        uint256 indexed number,
        address indexed contributor,
        bytes32 textRoot,
        uint64 textBytes,
        uint32 documents,
        uint64 blockNumber,
        uint32 ordinal,
        bytes32 licenceHash,
        bytes32 objectHash,
        bytes32 reportDigest
    );
    event IndexRootPosted(
        uint64 indexed asset, uint32 indexed version, bytes32 root, uint32 paramId, address indexed indexer, uint64 windowEnds
    );
    event ParametersApproved(uint32 indexed paramId, bytes32 paramHash);
    event MinDataBpsSet(uint16 minDataBps);
    event GovernorSet(address governor);

    error ZeroAddress(string what);
    error ZeroHash(string what);
    error OnlyGovernor(address expected, address got);
    error OnlyAssetOwner(uint64 asset, address expected, address got);
    error UnknownKind(uint8 kind);
    error WrongKind(uint64 asset, uint8 expected, uint8 got);
    error UnknownVersion(uint64 asset, uint32 version);
    error VersionIsFrozen(uint64 asset, uint32 version);
    error AlreadySuperseded(uint64 asset, uint32 version, uint32 by);
    error SplitSum(uint256 expected, uint256 got);
    error SplitOfDatanet();
    error DataRowTooLow(uint16 minimum, uint16 got);
    error RowTooLow(uint256 row, uint16 demandedByParent, uint16 got);
    error RowOfAbsentRole(uint256 row, uint16 got);
    error ParentOfKind(uint8 child, uint8 parent);
    error TwoParentsOfKind(uint8 kind);
    error BaseParentMissing(uint64 asset);
    error AdapterOnOtherBase(uint64 expectedAsset, uint64 gotAsset);
    error AdapterOnOtherVersion(uint32 expected, uint32 got);
    error TooManyDatanets(uint256 maximum, uint256 got);
    error DatanetTwice(uint64 datanet);
    error BpsAboveSum(uint256 maximum, uint256 got);
    error AlreadyCommitted(bytes32 commitment, uint64 blockNumber);
    error NotCommitted(bytes32 commitment, address contributor);
    error CommitmentExpired(uint256 expiredAt, uint256 timeNow);
    error ContributionSize(uint64 textBytes, uint32 documents);
    error TextBytesMismatch(bytes32 expectedRoot, bytes32 got);
    error ReportMismatch(bytes32 field, bytes32 expected, bytes32 got);
    error NotAccepted(uint8 expectedVerdict, uint8 got);
    error ContributorSignature(address expected, address recovered);
    error ReviewerSignature(uint64 datanet, address recovered);
    error AlreadyContributed(uint64 datanet, bytes32 textRoot, address firstContributor);
    error NotBonded(address account);
    error ParametersUnknown(uint32 paramId);
    error ParametersAlreadyApproved(uint32 paramId, bytes32 paramHash);
    error IndexRootAlreadyPosted(bytes32 root);

    modifier onlyGovernor() {
        if (msg.sender != governor) revert OnlyGovernor(governor, msg.sender);
        _;
    }

    constructor(
        address governor_,
        StakeManager stakeManager_,
        ITreasuries treasuries_,
        uint64 indexWindow_,
        uint16 minDataBps_
    ) ERC721("Tributary Asset", "TRIB") {
        if (governor_ == address(0)) revert ZeroAddress("governor");
        if (address(stakeManager_) == address(0)) revert ZeroAddress("stakeManager");
        if (address(treasuries_) == address(0)) revert ZeroAddress("treasuries");
        if (minDataBps_ > SPLIT_SUM) revert BpsAboveSum(SPLIT_SUM, minDataBps_);
        governor = governor_;
        stakeManager = stakeManager_;
        treasuries = treasuries_;
        indexWindow = indexWindow_;
        minDataBps = minDataBps_;
    }

    // ------------------------------------------------------------------ governance

    /// @notice Hands governance to `governor_`.
    function setGovernor(address governor_) external onlyGovernor {
        if (governor_ == address(0)) revert ZeroAddress("governor");
        governor = governor_;
        emit GovernorSet(governor_);
    }

    /// @notice Sets the least data row of versions published from now on.
    function setMinDataBps(uint16 minDataBps_) external onlyGovernor {
        if (minDataBps_ > SPLIT_SUM) revert BpsAboveSum(SPLIT_SUM, minDataBps_);
        minDataBps = minDataBps_;
        emit MinDataBpsSet(minDataBps_);
    }

    /// @notice Approves attribution parameters, once per id: keccak of their 45 bytes (Protocol P5).
    function approveParameters(uint32 paramId, bytes32 paramHash) external onlyGovernor {
        if (paramHash == 0) revert ZeroHash("paramHash");
        if (parametersOf[paramId] != 0) revert ParametersAlreadyApproved(paramId, parametersOf[paramId]);
        parametersOf[paramId] = paramHash;
        emit ParametersApproved(paramId, paramHash);
    }

    // ------------------------------------------------------------------ assets and versions

    /// @notice Registers an asset to the caller.
    /// @param kind 1 base, 2 adapter, 3 Datanet, 4 agent.
    function register(uint8 kind, string calldata uri) external returns (uint64 asset) {
        if (kind < KIND_BASE || kind > KIND_AGENT) revert UnknownKind(kind);
        asset = ++assetCount;
        kindOf[asset] = kind;
        uris[asset] = uri;
        _mint(msg.sender, asset);
        emit Registered(asset, kind, msg.sender, uri);
        if (kind == KIND_DATANET) treasuries.sealTreasury(asset);
    }

    /// @notice Appends a version; nothing of it can change later.
    /// @param contentHash Hash of the content's manifest.
    /// @param parents An adapter names its base; an agent its base and at most one adapter of that very version; bases and Datanets name none.
    /// @param split Node, agent, base, adapter, data, stakers: sums to 10,000, or all zero for a Datanet.
    /// @param datanets What the version was trained on and answers are attributed to.
    /// @param minParentShare What a child must give this version's owner in its base or adapter row.
    function publish(
        uint64 asset,
        bytes32 contentHash,
        Ref[] calldata parents,
        uint16[6] calldata split,
        Ref[] calldata datanets,
        bytes32 licenceHash,
        uint16 minParentShare
    ) external returns (uint32 version) {
        requireOwner(asset);
        if (contentHash == 0) revert ZeroHash("contentHash");
        if (minParentShare > SPLIT_SUM) revert BpsAboveSum(SPLIT_SUM, minParentShare);
        if (kindOf[asset] == KIND_DATANET) requireDatanet(parents, split, datanets);
        else requireAnswering(asset, parents, split, datanets);

        version = ++versionCount[asset];
        Version storage stored = versions[asset][version];
        stored.contentHash = contentHash;
        stored.licenceHash = licenceHash;
        stored.minParentShare = minParentShare;
        stored.split = split;
        for (uint256 i = 0; i < parents.length; ++i) stored.parents.push(parents[i]);
        for (uint256 i = 0; i < datanets.length; ++i) stored.datanets.push(datanets[i]);
        statuses[asset][version].push(block.number.toUint48(), STATUS_ACTIVE);
        emit Published(asset, version, contentHash, parents, split, datanets, licenceHash, minParentShare);
    }

    /// @notice Ends a version: no answer that names a later block is billed for it. There is no way back.
    function freeze(uint64 asset, uint32 version) external {
        requireOwner(asset);
        requireActive(asset, version);
        freezeNow(asset, version);
    }

    /// @notice Freezes `from`, if it is not frozen yet, and names the active version that takes its place, in one transaction. `to` may be
    /// an earlier one: that is how an owner rolls back. A version is superseded once.
    function redirect(uint64 asset, uint32 from, uint32 to) external {
        requireOwner(asset);
        requireVersion(asset, from);
        if (supersededBy[asset][from] != 0) revert AlreadySuperseded(asset, from, supersededBy[asset][from]);
        if (statusOf(asset, from) == STATUS_ACTIVE) freezeNow(asset, from);
        // After the freeze, so that a version cannot take its own place.
        requireActive(asset, to);
        supersededBy[asset][from] = to;
        emit Redirected(asset, from, to);
    }

    /// @notice The version that answers are to use: the last one published, or what took its place; 0 if that is frozen and nothing did.
    /// @dev Every step leads to a version that was frozen later, so that there is no way round in a circle.
    function currentOf(uint64 asset) external view returns (uint32 version) {
        version = versionCount[asset];
        while (version != 0 && statusOf(asset, version) == STATUS_FROZEN) version = supersededBy[asset][version];
    }

    /// @notice A version with its parents and Datanets.
    function versionOf(uint64 asset, uint32 version) external view returns (Version memory) {
        requireVersion(asset, version);
        return versions[asset][version];
    }

    /// @notice 0 never published, 1 active, 2 frozen.
    function statusOf(uint64 asset, uint32 version) public view returns (uint8) {
        return uint8(statuses[asset][version].latest());
    }

    /// @notice Status at the end of a block.
    function statusAt(uint64 asset, uint32 version, uint48 blockNumber) external view returns (uint8) {
        return uint8(statuses[asset][version].upperLookupRecent(blockNumber));
    }

    /// @notice Owner at the end of a block; zero before the asset was registered.
    function ownerAt(uint64 asset, uint48 blockNumber) external view returns (address) {
        return address(uint160(owners[asset].upperLookupRecent(blockNumber)));
    }

    /// @inheritdoc ERC721
    function tokenURI(uint256 tokenId) public view override returns (string memory) {
        _requireOwned(tokenId);
        return uris[tokenId.toUint64()];
    }

    // ------------------------------------------------------------------ contributions

    /// @notice Lets `reviewer` sign gate reports of the caller's Datanet, or no longer.
    function setReviewer(uint64 datanet, address reviewer, bool allowed) external {
        requireOwner(datanet);
        requireKind(datanet, KIND_DATANET);
        reviewers[datanet][msg.sender][reviewer] = allowed;
        emit ReviewerSet(datanet, msg.sender, reviewer, allowed);
    }

    /// @notice Whether `account` may sign gate reports of a Datanet: its owner, and whom that owner named.
    function isReviewer(uint64 datanet, address account) public view returns (bool) {
        address owner = _ownerOf(datanet);
        return account != address(0) && (account == owner || reviewers[datanet][owner][account]);
    }

    /// @notice Fixes the caller's priority for a text nobody has seen:
    /// keccak("tributary/commitment/v1" || salt || text root || contributor).
    function commit(bytes32 commitment) external {
        Commitment storage stored = commitments[commitment][msg.sender];
        if (stored.exists) revert AlreadyCommitted(commitment, stored.blockNumber);
        uint64 blockNumber = uint64(block.number);
        if (lastCommitBlock != blockNumber) {
            lastCommitBlock = blockNumber;
            nextOrdinal = 0;
        }
        uint32 ordinal = nextOrdinal++;
        commitments[commitment][msg.sender] =
            Commitment({blockNumber: blockNumber, timestamp: uint64(block.timestamp), ordinal: ordinal, exists: true});
        emit Committed(commitment, msg.sender, blockNumber, ordinal);
    }

    /// @notice Accepts a contribution into its Datanet. Anybody may carry the two signed documents. A text's root binds its bytes: what the
    /// contributor is paid by is no more than what was committed to, and reviewed.
    /// @param body Contribution of Protocol P4.
    /// @param signature The contributor's, over `body`.
    /// @param report GateReport of Protocol P4.
    /// @param reportSignature A reviewer's, over `report`.
    /// @param textTop Top of the text's tree: with it and the leaves of that many bytes, the text root opens.
    /// @return number Place of the contribution in its Datanet, from 0.
    function accept(
        bytes calldata body,
        bytes calldata signature,
        bytes calldata report,
        bytes calldata reportSignature,
        bytes32 textTop
    ) external returns (uint256 number) {
        Codec.Contribution memory given = Codec.contribution(body);
        requireKind(given.datanet, KIND_DATANET);
        requireText(given, textTop);
        bytes32 commitment =
            keccak256(abi.encodePacked("tributary/commitment/v1", given.salt, given.textRoot, given.contributor));
        bytes32 reportDigest = requireReport(Codec.gateReport(report), given, commitment);
        requireSignatures(given, body, signature, report, reportSignature);
        Commitment memory made = commitments[commitment][given.contributor];
        if (!made.exists) revert NotCommitted(commitment, given.contributor);
        uint256 expiry = made.timestamp + COMMITMENT_SECONDS;
        if (block.timestamp > expiry) revert CommitmentExpired(expiry, block.timestamp);
        number = keep(given, made, reportDigest);
    }

    /// @notice Where and when `contributor` committed; `exists` is false if it did not.
    function commitmentOf(bytes32 commitment, address contributor) external view returns (Commitment memory) {
        return commitments[commitment][contributor];
    }

    /// @notice Number of accepted contributions of a Datanet.
    function contributionCount(uint64 datanet) external view returns (uint256) {
        return contributions[datanet].length;
    }

    /// @notice Contribution `number` of a Datanet, in the order of acceptance, from 0.
    function contributionAt(uint64 datanet, uint256 number) external view returns (Accepted memory) {
        return contributions[datanet][number];
    }

    // ------------------------------------------------------------------ index roots

    /// @notice Posts the index root of an answering version, once.
    /// @param paramId Approved parameters that answers of this version are attributed by.
    function postIndexRoot(uint64 asset, uint32 version, bytes32 root, uint32 paramId) external {
        if (!stakeManager.isBondedAs(msg.sender, Roles.INDEXER)) revert NotBonded(msg.sender);
        if (root == 0) revert ZeroHash("root");
        if (kindOf[asset] == KIND_DATANET) revert WrongKind(asset, KIND_ADAPTER, KIND_DATANET);
        requireActive(asset, version);
        if (parametersOf[paramId] == 0) revert ParametersUnknown(paramId);
        IndexRoot storage stored = indexRoots[asset][version];
        if (stored.root != 0) revert IndexRootAlreadyPosted(stored.root);
        uint64 windowEnds = uint64(block.timestamp) + indexWindow;
        indexRoots[asset][version] = IndexRoot({
            root: root,
            paramId: paramId,
            indexer: msg.sender,
            blockNumber: uint64(block.number),
            windowEnds: windowEnds
        });
        emit IndexRootPosted(asset, version, root, paramId, msg.sender, windowEnds);
    }

    /// @notice The index root of a version; zeros if none was posted.
    function indexRootOf(uint64 asset, uint32 version) external view returns (IndexRoot memory) {
        return indexRoots[asset][version];
    }

    // ------------------------------------------------------------------ checks

    function requireDatanet(Ref[] calldata parents, uint16[6] calldata split, Ref[] calldata datanets) private pure {
        for (uint256 row = 0; row < 6; ++row) if (split[row] != 0) revert SplitOfDatanet();
        if (parents.length != 0) revert ParentOfKind(KIND_DATANET, 0);
        if (datanets.length != 0) revert TooManyDatanets(0, datanets.length);
    }

    function requireAnswering(uint64 asset, Ref[] calldata parents, uint16[6] calldata split, Ref[] calldata datanets)
        private
        view
    {
        uint256 sum = 0;
        for (uint256 row = 0; row < 6; ++row) sum += split[row];
        if (sum != SPLIT_SUM) revert SplitSum(SPLIT_SUM, sum);
        if (split[ROW_DATA] < minDataBps) revert DataRowTooLow(minDataBps, split[ROW_DATA]);
        requireParents(asset, parents, split);
        if (datanets.length > MAX_DATANETS) revert TooManyDatanets(MAX_DATANETS, datanets.length);
        for (uint256 i = 0; i < datanets.length; ++i) {
            requireActive(datanets[i].asset, datanets[i].version);
            requireKind(datanets[i].asset, KIND_DATANET);
            for (uint256 j = 0; j < i; ++j) {
                if (datanets[j].asset == datanets[i].asset) revert DatanetTwice(datanets[i].asset);
            }
        }
    }

    /// @dev Finds the base and the adapter among the parents, checks what they demand, and that no row goes to a role nobody has.
    function requireParents(uint64 asset, Ref[] calldata parents, uint16[6] calldata split) private view {
        uint8 kind = kindOf[asset];
        uint64 base = 0;
        uint32 baseVersion = 0;
        uint64 adapter = 0;
        Ref memory trainedOn;
        for (uint256 i = 0; i < parents.length; ++i) {
            Ref calldata parent = parents[i];
            requireActive(parent.asset, parent.version);
            Version storage demanded = versions[parent.asset][parent.version];
            uint8 parentKind = kindOf[parent.asset];
            if (parentKind == KIND_BASE && kind != KIND_BASE) {
                if (base != 0) revert TwoParentsOfKind(KIND_BASE);
                (base, baseVersion) = (parent.asset, parent.version);
                requireRow(ROW_BASE, demanded.minParentShare, split);
            } else if (parentKind == KIND_ADAPTER && kind == KIND_AGENT) {
                if (adapter != 0) revert TwoParentsOfKind(KIND_ADAPTER);
                adapter = parent.asset;
                trainedOn = demanded.parents[0];
                requireRow(ROW_ADAPTER, demanded.minParentShare, split);
            } else {
                revert ParentOfKind(kind, parentKind);
            }
        }
        if (kind != KIND_BASE && base == 0) revert BaseParentMissing(asset);
        if (adapter != 0 && trainedOn.asset != base) revert AdapterOnOtherBase(trainedOn.asset, base);
        // Else the minimum of a version would be kept by naming another, whose owner's adapter answers on the first.
        if (adapter != 0 && trainedOn.version != baseVersion) revert AdapterOnOtherVersion(trainedOn.version, baseVersion);
        if (kind != KIND_AGENT && split[ROW_AGENT] != 0) revert RowOfAbsentRole(ROW_AGENT, split[ROW_AGENT]);
        if (kind != KIND_ADAPTER && adapter == 0 && split[ROW_ADAPTER] != 0) {
            revert RowOfAbsentRole(ROW_ADAPTER, split[ROW_ADAPTER]);
        }
    }

    function requireRow(uint256 row, uint16 demanded, uint16[6] calldata split) private pure {
        if (split[row] < demanded) revert RowTooLow(row, demanded, split[row]);
    }

    function requireReport(Codec.GateReport memory report, Codec.Contribution memory given, bytes32 commitment)
        private
        pure
        returns (bytes32)
    {
        requireSame("datanet", bytes32(uint256(given.datanet)), bytes32(uint256(report.datanet)));
        requireSame("textRoot", given.textRoot, report.textRoot);
        requireSame("commitment", commitment, report.commitment);
        requireSame("object", given.objectHash, report.objectHash);
        if (report.verdict != VERDICT_ACCEPTED) revert NotAccepted(VERDICT_ACCEPTED, report.verdict);
        return report.reportDigest;
    }

    function requireSame(bytes32 field, bytes32 expected, bytes32 got) private pure {
        if (expected != got) revert ReportMismatch(field, expected, got);
    }

    /// @dev The root of a text binds its leaves, its bytes and the top of its tree: there is one number of bytes that it opens to.
    function requireText(Codec.Contribution memory given, bytes32 top) private pure {
        uint64 size = given.textBytes;
        if (size == 0 || size > TEXT_BYTES_MAX || given.documents == 0) revert ContributionSize(size, given.documents);
        bytes32 root = Trees.root((size + TEXT_STRIDE - 1) / TEXT_STRIDE, size, top);
        if (root != given.textRoot) revert TextBytesMismatch(given.textRoot, root);
    }

    function requireSignatures(
        Codec.Contribution memory given,
        bytes calldata body,
        bytes calldata signature,
        bytes calldata report,
        bytes calldata reportSignature
    ) private view {
        bytes32 separator = Sig.domain(address(this));
        address contributor = Sig.signer(Sig.digest(separator, Sig.CONTRIBUTION, keccak256(body)), signature);
        if (contributor == address(0) || contributor != given.contributor) {
            revert ContributorSignature(given.contributor, contributor);
        }
        address reviewer = Sig.signer(Sig.digest(separator, Sig.GATE_REPORT, keccak256(report)), reportSignature);
        if (!isReviewer(given.datanet, reviewer)) revert ReviewerSignature(given.datanet, reviewer);
    }

    /// @dev A text that is there already is taken again from another contributor who committed to it earlier: the order of commitments decides who is
    /// paid for it, so whoever is accepted first locks nobody out.
    function requireEarlier(Codec.Contribution memory given, Commitment memory made) private {
        uint256 own = uint256(made.blockNumber) << 192 | uint256(made.ordinal) << 160 | uint160(given.contributor);
        uint256 held = firstOfText[given.datanet][given.textRoot];
        if (held != 0 && (own > held || uint160(own) == uint160(held))) {
            revert AlreadyContributed(given.datanet, given.textRoot, address(uint160(held)));
        }
        firstOfText[given.datanet][given.textRoot] = own;
    }

    function keep(Codec.Contribution memory given, Commitment memory made, bytes32 reportDigest) private returns (uint256 number) {
        requireEarlier(given, made);
        number = contributions[given.datanet].length;
        bytesOf[given.datanet] += given.textBytes;
        contributions[given.datanet].push(
            Accepted({
                contributor: given.contributor,
                blockNumber: made.blockNumber,
                ordinal: made.ordinal,
                textRoot: given.textRoot,
                textBytes: given.textBytes,
                documents: given.documents,
                acceptedAt: uint64(block.timestamp),
                licenceHash: given.licenceHash,
                objectHash: given.objectHash,
                reportDigest: reportDigest
            })
        );
        emit ContributionAccepted(
            given.datanet,
            number,
            given.contributor,
            given.textRoot,
            given.textBytes,
            given.documents,
            made.blockNumber,
            made.ordinal,
            given.licenceHash,
            given.objectHash,
            reportDigest
        );
    }

    function freezeNow(uint64 asset, uint32 version) private {
        statuses[asset][version].push(block.number.toUint48(), STATUS_FROZEN);
        emit Frozen(asset, version);
    }

    function requireOwner(uint64 asset) private view {
        address owner = _requireOwned(asset);
        if (owner != msg.sender) revert OnlyAssetOwner(asset, owner, msg.sender);
    }

    function requireKind(uint64 asset, uint8 expected) private view {
        uint8 kind = kindOf[asset];
        if (kind != expected) revert WrongKind(asset, expected, kind);
    }

    function requireVersion(uint64 asset, uint32 version) private view {
        if (statusOf(asset, version) == 0) revert UnknownVersion(asset, version);
    }

    function requireActive(uint64 asset, uint32 version) private view {
        requireVersion(asset, version);
        if (statusOf(asset, version) == STATUS_FROZEN) revert VersionIsFrozen(asset, version);
    }

    /// @dev Every change of owner is kept by block: an answer pays the owner at the block it names.
    function _update(address to, uint256 tokenId, address auth) internal override returns (address) {
        owners[tokenId.toUint64()].push(block.number.toUint48(), uint160(to));
        return super._update(to, tokenId, auth);
    }
}
