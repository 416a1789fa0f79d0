//! Assets: registration, versions, commitments, contributions, index roots, parameters.

use alloy::sol_types::SolCall as _;
use types::{
    amount::Amount,
    contribution::{Contribution, GateReport, Priority},
    encoding::Document,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::Signed,
    manifest::AssetKind,
    merkle::keccak,
    split::SplitTable,
};

use super::{ChainClient, Sent, key, logged};
use crate::{
    bindings::AssetRegistry,
    chain::{Call, error::ChainError},
    convert,
};

/// What a new version is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// Content hash.
    pub content: BlobId,
    /// An adapter names its base, an agent its base and at most one adapter; others none.
    pub parents: Vec<AssetVersion>,
    /// Split table; all zero for a Datanet.
    pub split: SplitTable,
    /// Datanets that answers are attributed to; none for a Datanet.
    pub datanets: Vec<AssetVersion>,
    /// keccak of the SPDX licence expression.
    pub licence: Hash32,
    /// Least row that a child must give this version's owner, in basis points.
    pub parent_share_min: u16,
}

fn refs(versions: &[AssetVersion]) -> Vec<AssetRegistry::Ref> {
    versions.iter().map(|version| AssetRegistry::Ref { asset: version.asset.0, version: version.version }).collect()
}

impl ChainClient {
    /// Registers an asset to the account.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn register_asset(&self, kind: AssetKind, uri: &str) -> Result<(AssetId, Sent), ChainError> {
        let call = AssetRegistry::registerCall { kind: kind.code(), uri: uri.to_owned() };
        let sent = self.write("register asset", None, self.deployment().registry, &call, Amount::ZERO).await?;
        let event: AssetRegistry::Registered = logged(&sent, self.deployment().registry)?;
        Ok((AssetId(event.asset), sent))
    }

    /// Publishes the next version of an asset.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn publish(&self, asset: AssetId, version: &NewVersion) -> Result<(AssetVersion, Sent), ChainError> {
        let call = AssetRegistry::publishCall {
            asset: asset.0,
            contentHash: version.content.0.into(),
            parents: refs(&version.parents),
            split: version.split.rows(),
            datanets: refs(&version.datanets),
            licenceHash: convert::word(version.licence),
            minParentShare: version.parent_share_min,
        };
        let sent = self.write("publish version", None, self.deployment().registry, &call, Amount::ZERO).await?;
        let event: AssetRegistry::Published = logged(&sent, self.deployment().registry)?;
        Ok((AssetVersion { asset: AssetId(event.asset), version: event.version }, sent))
    }

    /// Ends a version for good.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn freeze(&self, version: AssetVersion) -> Result<Sent, ChainError> {
        let call = AssetRegistry::freezeCall { asset: version.asset.0, version: version.version };
        self.write("freeze version", None, self.deployment().registry, &call, Amount::ZERO).await
    }

    /// Lets `reviewer` sign gate reports of the account's Datanet, or no longer.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn set_reviewer(&self, datanet: AssetId, reviewer: Address, is_allowed: bool) -> Result<Sent, ChainError> {
        let call = AssetRegistry::setReviewerCall { datanet: datanet.0, reviewer: convert::address(reviewer), allowed: is_allowed };
        self.write("set reviewer", None, self.deployment().registry, &call, Amount::ZERO).await
    }

    /// Commits to a text nobody has seen; returns the priority of its first document. Asked again, it returns the same.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn commit(&self, commitment: Hash32) -> Result<(Priority, Sent), ChainError> {
        let call = AssetRegistry::commitCall { commitment: convert::word(commitment) };
        let key = key("commit", &[commitment]);
        let sent = self.write("commit contribution", key, self.deployment().registry, &call, Amount::ZERO).await?;
        let event: AssetRegistry::Committed = logged(&sent, self.deployment().registry)?;
        Ok((Priority { block: event.blockNumber, ordinal: event.ordinal, document: 0 }, sent))
    }

    /// Commits to several texts, the first of them with the highest priority; none waits for another's block. Each is made once, however often it is asked for.
    ///
    /// # Errors
    /// [`ChainError`] of the first that fails; those before it are made.
    pub async fn commit_all(&self, commitments: &[Hash32]) -> Result<Vec<(Priority, Sent)>, ChainError> {
        let what = "commit contribution";
        let call = |commitment: &Hash32| {
            let data = AssetRegistry::commitCall { commitment: convert::word(*commitment) }.abi_encode();
            Some((key("commit", &[*commitment])?, Call { to: Some(self.deployment().registry), data, value: Amount::ZERO }))
        };
        let sent = self.sender(what)?.send_all(what, commitments.iter().filter_map(call).collect()).await?;
        let place = |sent: Sent| -> Result<(Priority, Sent), ChainError> {
            let event: AssetRegistry::Committed = logged(&sent, self.deployment().registry)?;
            Ok((Priority { block: event.blockNumber, ordinal: event.ordinal, document: 0 }, sent))
        };
        sent.into_iter().map(place).collect()
    }

    /// Priority of a commitment; nothing if it was not made.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn commitment_of(&self, commitment: Hash32, contributor: Address) -> Result<Option<Priority>, ChainError> {
        let call = AssetRegistry::commitmentOfCall { commitment: convert::word(commitment), contributor: convert::address(contributor) };
        let found = self.read(self.deployment().registry, &call).await?;
        Ok(found.exists.then_some(Priority { block: found.blockNumber, ordinal: found.ordinal, document: 0 }))
    }

    /// Brings an accepted contribution on chain; anybody may. `text_top` ([`types::text::text_top`]) opens the text root to the bytes that the
    /// contribution states. Returns its place in the Datanet.
    ///
    /// # Errors
    /// [`ChainError`]; a text that is there already is refused with its first contributor, other bytes than the root's with both roots.
    pub async fn accept(
        &self,
        contribution: &Signed<Contribution>,
        report: &Signed<GateReport>,
        text_top: Hash32,
    ) -> Result<(u64, Sent), ChainError> {
        let call = AssetRegistry::acceptCall {
            body: contribution.document.encode().into(),
            signature: contribution.signature.0.to_vec().into(),
            report: report.document.encode().into(),
            reportSignature: report.signature.0.to_vec().into(),
            textTop: convert::word(text_top),
        };
        let key = key("accept", &[contribution.document.hash(), report.document.hash()]);
        let sent = self.write("accept contribution", key, self.deployment().registry, &call, Amount::ZERO).await?;
        let event: AssetRegistry::ContributionAccepted = logged(&sent, self.deployment().registry)?;
        Ok((convert::small(event.number), sent))
    }

    /// Posts the index root of an answering version, once.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn post_index_root(&self, version: AssetVersion, root: Hash32, parameters: u32) -> Result<Sent, ChainError> {
        let call = AssetRegistry::postIndexRootCall {
            asset: version.asset.0,
            version: version.version,
            root: convert::word(root),
            paramId: parameters,
        };
        let key = key(&format!("index/{version}/{parameters}"), &[root]);
        self.write("post index root", key, self.deployment().registry, &call, Amount::ZERO).await
    }

    /// Approves attribution parameters: keccak of their 45 bytes. The governor's account alone may.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn approve_parameters(&self, parameters: u32, body: &[u8]) -> Result<Sent, ChainError> {
        let hash = keccak(&[body]);
        let call = AssetRegistry::approveParametersCall { paramId: parameters, paramHash: convert::word(hash) };
        let key = key(&format!("parameters/{parameters}"), &[hash]);
        self.write("approve parameters", key, self.deployment().registry, &call, Amount::ZERO).await
    }

    /// Owner of an asset at the end of a block; zero before registration.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn owner_at(&self, asset: AssetId, block: u64) -> Result<Address, ChainError> {
        let block = alloy::primitives::aliases::U48::try_from(block)
            .map_err(|_| ChainError::Argument(format!("block {block} is beyond 48 bits")))?;
        let call = AssetRegistry::ownerAtCall { asset: asset.0, blockNumber: block };
        Ok(convert::account(self.read(self.deployment().registry, &call).await?))
    }
}
