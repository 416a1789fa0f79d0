// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "./AssetRegistry.sol";
import {Codec} from "./Codec.sol";
import {Split} from "./Split.sol";

/// @title What a billed receipt must agree with: its quote, its manifest, the registry (faults F4, F5, F6)
/// @notice Quote and manifest are opened by their hashes, which the receipt holds: the node that signed the receipt vouches for both, whoever
/// else signed them. The registry's facts are those of the block that the receipt names; what a version is never changes once published.
/// Beyond its form, and that it bills nothing, no rule binds a receipt that ended in failure.
library ReceiptRules {
    /// @notice Which rule is broken.
    enum Rule {
        /// F4: the body is no receipt: its arrays do not fill it, a code is unknown, a spare byte is not zero.
        Form,
        /// F4: an answer that failed is billed.
        Unbillable,
        /// F4: the spans weigh more than the answer, or the lane's cumulative amount does not even cover the fee.
        Weights,
        /// F4: the fee is not what the quote gives.
        Fee,
        /// F4: the manifest root opens to bytes that are no manifest.
        ManifestForm,
        /// F4: assets, index root or parameter id are not the manifest's.
        ManifestMatch,
        /// F4: the manifest's assets are not a registered version with its parents, each with its kind and content hash.
        Versions,
        /// F4: the split is not the outermost version's.
        SplitTable,
        /// F4: the Datanets are not those that the outermost version declares, or a treasury is not its Datanet's.
        Datanets,
        /// F4: index root and parameter id are not those posted for the outermost version by the named block.
        Index,
        /// F5: an asset, or a Datanet of the opened manifest, was not published at the named block.
        Unpublished,
        /// F5: one of them had been frozen for longer than the grace.
        Frozen,
        /// F6: the quote hash opens to bytes that are no quote of this node.
        QuoteForeign,
        /// F6: manifest root, profile or class are not the quote's.
        QuoteTerms,
        /// F6: more output tokens than the quote offers.
        QuoteTokens,
        /// F6: the named block is not the quote's, or comes after its expiry.
        QuoteBlock
    }

    /// @notice A receipt with what was opened of it. `manifest` and `quote` are read only where their `has` is set.
    struct Case {
        Codec.Receipt receipt;
        bool hasQuote;
        bool isQuote;
        Codec.Quote quote;
        bool hasManifest;
        bool isManifest;
        Codec.Manifest manifest;
    }

    error NotTheQuote(bytes32 expected, bytes32 got);
    error NotTheManifest(bytes32 expected, bytes32 got);

    /// @notice Opens what a receipt with a valid shape names; empty bytes for what is not opened.
    function open(bytes calldata body, bytes calldata quote, bytes calldata manifest) internal pure returns (Case memory c) {
        c.receipt = Codec.receipt(body);
        c.hasQuote = keccak256(quote) == c.receipt.quoteHash;
        if (c.hasQuote) (c.isQuote, c.quote) = Codec.quote(quote);
        else if (quote.length != 0) revert NotTheQuote(c.receipt.quoteHash, keccak256(quote));
        c.hasManifest = keccak256(manifest) == c.receipt.manifestRoot;
        if (c.hasManifest) (c.isManifest, c.manifest) = Codec.manifest(manifest);
        else if (manifest.length != 0) revert NotTheManifest(c.receipt.manifestRoot, keccak256(manifest));
    }

    /// @notice Whether a rule other than `Form` is broken, as far as what was opened shows it.
    function isBroken(Rule rule, bytes calldata body, Case memory c, AssetRegistry registry, uint64 graceBlocks)
        internal
        view
        returns (bool)
    {
        if (!Codec.isBillable(c.receipt.reason)) return rule == Rule.Unbillable && c.receipt.fee != 0;
        if (rule == Rule.Weights) {
            return Split.spanWeights(body, c.receipt) > c.receipt.totalWeight || c.receipt.cumulativeAfter < c.receipt.fee;
        }
        if (rule == Rule.Unpublished) return anyAsset(body, c, registry, 0, false);
        if (rule == Rule.Frozen) return anyAsset(body, c, registry, graceBlocks, true);
        if (rule == Rule.ManifestForm) return c.hasManifest && !c.isManifest;
        if (c.hasManifest && c.isManifest) {
            if (rule == Rule.ManifestMatch) return !matches(body, c);
            if (rule == Rule.Versions) return !areVersions(c.manifest, registry);
            if (rule == Rule.SplitTable) return !isSplit(c.manifest, registry);
            if (rule == Rule.Datanets) return !areDatanets(c.manifest, registry);
            if (rule == Rule.Index) return !isIndex(c, registry);
        }
        if (rule == Rule.QuoteForeign) return c.hasQuote && (!c.isQuote || c.quote.node != c.receipt.node);
        if (c.hasQuote && c.isQuote) {
            if (rule == Rule.Fee) return Split.fee(c.receipt, c.quote) != c.receipt.fee;
            if (rule == Rule.QuoteTerms) {
                return c.quote.manifestRoot != c.receipt.manifestRoot || c.quote.profile != c.receipt.profile
                    || c.quote.class != c.receipt.class;
            }
            if (rule == Rule.QuoteTokens) return c.receipt.tokensOut > c.quote.maxTokens;
            if (rule == Rule.QuoteBlock) {
                return c.quote.blockNumber != c.receipt.blockNumber || c.quote.blockHash != c.receipt.blockHash
                    || c.receipt.blockNumber > c.quote.expiryBlock;
            }
        }
        return false;
    }

    /// @notice Treasury of a Datanet: nobody holds its key.
    function treasuryOf(uint64 datanet) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked("tributary/treasury/v1", datanet)))));
    }

    /// @notice A block number as the registry's checkpoints take it.
    function toBlock(uint64 blockNumber) internal pure returns (uint48) {
        return blockNumber > type(uint48).max ? type(uint48).max : uint48(blockNumber);
    }

    /// @dev Whether any version that answered was not published (or was frozen, `back` blocks earlier already) at the named block.
    function anyAsset(bytes calldata body, Case memory c, AssetRegistry registry, uint64 back, bool frozen) private view returns (bool) {
        if (c.receipt.blockNumber < back) return false;
        uint48 seen = toBlock(c.receipt.blockNumber - back);
        uint8 wrong = frozen ? 2 : 0;
        for (uint256 i = 0; i < c.receipt.assets; ++i) {
            (uint64 asset, uint32 version) = Codec.receiptAsset(body, i);
            if (registry.statusAt(asset, version, seen) == wrong) return true;
        }
        if (!c.hasManifest || !c.isManifest) return false;
        for (uint256 i = 0; i < c.manifest.datanets.length; ++i) {
            if (registry.statusAt(c.manifest.datanets[i].asset, c.manifest.datanets[i].version, seen) == wrong) return true;
        }
        return false;
    }

    function matches(bytes calldata body, Case memory c) private pure returns (bool) {
        if (c.receipt.indexRoot != c.manifest.indexRoot || c.receipt.parameterId != c.manifest.parameterId) return false;
        if (c.receipt.assets != c.manifest.assets.length) return false;
        for (uint256 i = 0; i < c.receipt.assets; ++i) {
            (uint64 asset, uint32 version) = Codec.receiptAsset(body, i);
            if (asset != c.manifest.assets[i].asset || version != c.manifest.assets[i].version) return false;
        }
        return true;
    }

    /// @dev The outermost version stands last: base before adapter before agent, whose kinds' codes ascend.
    function areVersions(Codec.Manifest memory manifest, AssetRegistry registry) private view returns (bool) {
        uint256 count = manifest.assets.length;
        if (count == 0) return false;
        for (uint256 i = 0; i < count; ++i) {
            Codec.ManifestAsset memory row = manifest.assets[i];
            if (row.kind == registry.KIND_DATANET() || registry.kindOf(row.asset) != row.kind) return false;
            if (i > 0 && row.kind <= manifest.assets[i - 1].kind) return false;
            if (registry.statusOf(row.asset, row.version) == 0) return false;
            if (registry.versionOf(row.asset, row.version).contentHash != row.contentHash) return false;
        }
        AssetRegistry.Ref[] memory parents =
            registry.versionOf(manifest.assets[count - 1].asset, manifest.assets[count - 1].version).parents;
        if (parents.length != count - 1) return false;
        for (uint256 i = 0; i < parents.length; ++i) {
            bool found = false;
            for (uint256 j = 0; j + 1 < count; ++j) {
                found = found || (manifest.assets[j].asset == parents[i].asset && manifest.assets[j].version == parents[i].version);
            }
            if (!found) return false;
        }
        return true;
    }

    function isSplit(Codec.Manifest memory manifest, AssetRegistry registry) private view returns (bool) {
        (bool known, AssetRegistry.Version memory version) = outermost(manifest, registry);
        if (!known) return false;
        for (uint256 row = 0; row < 6; ++row) if (manifest.split[row] != version.split[row]) return false;
        return true;
    }

    function areDatanets(Codec.Manifest memory manifest, AssetRegistry registry) private view returns (bool) {
        (bool known, AssetRegistry.Version memory version) = outermost(manifest, registry);
        if (!known || manifest.datanets.length != version.datanets.length) return false;
        for (uint256 i = 0; i < version.datanets.length; ++i) {
            Codec.ManifestDatanet memory row = manifest.datanets[i];
            if (row.asset != version.datanets[i].asset || row.version != version.datanets[i].version) return false;
            if (row.treasury != treasuryOf(row.asset)) return false;
        }
        return true;
    }

    function isIndex(Case memory c, AssetRegistry registry) private view returns (bool) {
        uint256 count = c.manifest.assets.length;
        if (count == 0) return false;
        AssetRegistry.IndexRoot memory posted =
            registry.indexRootOf(c.manifest.assets[count - 1].asset, c.manifest.assets[count - 1].version);
        return posted.root != 0 && posted.blockNumber <= c.receipt.blockNumber && posted.root == c.manifest.indexRoot
            && posted.paramId == c.manifest.parameterId;
    }

    function outermost(Codec.Manifest memory manifest, AssetRegistry registry)
        private
        view
        returns (bool known, AssetRegistry.Version memory version)
    {
        if (manifest.assets.length == 0) return (false, version);
        Codec.ManifestAsset memory row = manifest.assets[manifest.assets.length - 1];
        if (registry.statusOf(row.asset, row.version) == 0) return (false, version);
        return (true, registry.versionOf(row.asset, row.version));
    }
}
