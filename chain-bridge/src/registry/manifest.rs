//! The manifest of a version, as the chain's facts make it: two honest nodes derive the same bytes.

use types::{
    id::{AssetVersion, Hash32},
    manifest::{AssetKind, Manifest, ManifestAsset, ManifestDatanet, treasury},
};

use super::State;

/// Most a Datanet's bytes weigh among treasuries: 1 GiB, until governance sets it on chain.
pub const TREASURY_WEIGHT_CAP: u64 = 1 << 30;

/// Why a version has no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not published, or not seen yet.
    #[error("version {0} is not published on this chain")]
    Unknown(AssetVersion),
    /// Ended.
    #[error("version {version} was frozen in block {block}: nothing is billed for it, use a newer version")]
    Frozen {
        /// The version.
        version: AssetVersion,
        /// Block of the freeze.
        block: u64,
    },
    /// A Datanet cannot answer.
    #[error("version {0} is a Datanet: name a base, an adapter or an agent")]
    Datanet(AssetVersion),
    /// Its index root was proven wrong.
    #[error(
        "index root {root} of version {version} was refuted in block {block} (fault X, mode {mode}): nobody answers under it. The registry takes one root per version: \
         the owner publishes a next one, which gets a root of its own"
    )]
    Refuted {
        /// The version.
        version: AssetVersion,
        /// The root.
        root: Hash32,
        /// What is wrong with it (P7).
        mode: u8,
        /// Block of the proof.
        block: u64,
    },
    /// No index root.
    #[error("no index root was posted for version {0}: its indexer must post one before it can answer")]
    NoIndex(AssetVersion),
}

impl State {
    /// The manifest that answers of `version` name: the version and its parents (base, adapter, agent), its split, its index root and
    /// parameters, its Datanets in declared order.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn manifest(&self, version: AssetVersion) -> Result<Manifest, ManifestError> {
        let outermost = self.answering(version)?;
        let index = self.index(version).ok_or(ManifestError::NoIndex(version))?;
        if let Some(refuted) = self.refuted(version) {
            return Err(ManifestError::Refuted { version, root: refuted.root, mode: refuted.mode, block: refuted.block });
        }
        let mut assets = vec![self.manifest_asset(version)?];
        for parent in &outermost.parents {
            self.answering(*parent)?;
            assets.push(self.manifest_asset(*parent)?);
        }
        assets.sort_by_key(|asset| match asset.kind {
            AssetKind::Base => 0,
            AssetKind::Adapter => 1,
            AssetKind::Agent | AssetKind::Datanet => 2,
        });
        let datanets = outermost.datanets.iter().map(|datanet| self.manifest_datanet(*datanet)).collect::<Result<_, _>>()?;
        Ok(Manifest { assets, split: outermost.split, index: index.root, parameters: index.parameters, datanets })
    }

    fn answering(&self, version: AssetVersion) -> Result<&super::state::Version, ManifestError> {
        let published = self.version(version).ok_or(ManifestError::Unknown(version))?;
        if let Some(block) = published.frozen {
            return Err(ManifestError::Frozen { version, block });
        }
        match self.asset(version.asset).map(|asset| asset.kind) {
            None => Err(ManifestError::Unknown(version)),
            Some(AssetKind::Datanet) => Err(ManifestError::Datanet(version)),
            Some(_) => Ok(published),
        }
    }

    fn manifest_asset(&self, version: AssetVersion) -> Result<ManifestAsset, ManifestError> {
        let asset = self.asset(version.asset).ok_or(ManifestError::Unknown(version))?;
        let published = self.version(version).ok_or(ManifestError::Unknown(version))?;
        Ok(ManifestAsset { kind: asset.kind, version, content: published.content })
    }

    fn manifest_datanet(&self, version: AssetVersion) -> Result<ManifestDatanet, ManifestError> {
        let published = self.version(version).ok_or(ManifestError::Unknown(version))?;
        if let Some(block) = published.frozen {
            return Err(ManifestError::Frozen { version, block });
        }
        let bytes = self.contributions_of(version).fold(0_u64, |sum, contribution| sum.saturating_add(contribution.text_bytes));
        Ok(ManifestDatanet { version, treasury: treasury(version.asset), weight: bytes.min(TREASURY_WEIGHT_CAP) })
    }
}
