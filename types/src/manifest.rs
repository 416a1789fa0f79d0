//! Manifests: what exactly answers, and how its fee is divided (P4).

use serde::{Deserialize, Serialize};

use crate::{
    encoding::{Contract, DecodeError, Document, Reader, Writer, count_u8, read_list},
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    merkle::keccak,
    split::SplitTable,
};

/// Most assets of one manifest: a base, an adapter, an agent.
pub const MANIFEST_ASSETS_MAX: usize = 3;
/// Most Datanets of one manifest.
pub const DATANETS_MAX: usize = 32;

/// What an asset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AssetKind {
    /// Base model.
    Base,
    /// Adapter.
    Adapter,
    /// Datanet.
    Datanet,
    /// Agent.
    Agent,
}

impl AssetKind {
    /// Code in documents and in the registry.
    pub const fn code(self) -> u8 {
        match self {
            Self::Base => 1,
            Self::Adapter => 2,
            Self::Datanet => 3,
            Self::Agent => 4,
        }
    }

    /// The kind with this code.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Base),
            2 => Some(Self::Adapter),
            3 => Some(Self::Datanet),
            4 => Some(Self::Agent),
            _ => None,
        }
    }
}

/// One asset of an answer's bill of materials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestAsset {
    /// Kind.
    pub kind: AssetKind,
    /// Asset and version.
    pub version: AssetVersion,
    /// Content hash of that version.
    pub content: BlobId,
}

/// One declared Datanet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestDatanet {
    /// Asset and version.
    pub version: AssetVersion,
    /// Account that takes the unattributed part.
    pub treasury: Address,
    /// Weight among the treasuries: the smaller of canonical bytes and the governance cap.
    pub weight: u64,
}

/// What answers: versions, split table, index root, parameters, Datanets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Base first, then adapter, then agent.
    #[serde(deserialize_with = "read_list::<_, _, MANIFEST_ASSETS_MAX>")]
    pub assets: Vec<ManifestAsset>,
    /// Split table of the outermost asset.
    pub split: SplitTable,
    /// Index root over the Datanets.
    pub index: Hash32,
    /// Attribution parameters.
    pub parameters: u32,
    /// Declared Datanets.
    #[serde(deserialize_with = "read_list::<_, _, DATANETS_MAX>")]
    pub datanets: Vec<ManifestDatanet>,
}

impl Manifest {
    /// The manifest root.
    pub fn root(&self) -> Hash32 {
        self.hash()
    }

    /// The asset of a kind, if the manifest names one.
    pub fn asset(&self, kind: AssetKind) -> Option<&ManifestAsset> {
        self.assets.iter().find(|asset| asset.kind == kind)
    }
}

/// Treasury of a Datanet: an account nobody holds the key of; it accrues in settlement.
pub fn treasury(datanet: AssetId) -> Address {
    let digest = keccak(&[b"tributary/treasury/v1".as_slice(), &datanet.0.to_be_bytes()]);
    let mut address = [0; 20];
    address.copy_from_slice(&digest.0[12..]);
    Address(address)
}

impl Document for Manifest {
    const NAME: &'static str = "Manifest";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new()
            .u8(count_u8(self.assets.len()))
            .each(&self.assets, |w, a| w.u8(a.kind.code()).asset(a.version).blob(a.content))
            .each(&self.split.rows(), |w, row| w.u16(*row))
            .hash(self.index)
            .u32(self.parameters)
            .u8(count_u8(self.datanets.len()))
            .each(&self.datanets, |w, d| w.asset(d.version).address(d.treasury).u64(d.weight))
            .finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let count = r.u8("asset count")?;
        if usize::from(count) > MANIFEST_ASSETS_MAX {
            return Err(DecodeError::Value { field: "asset count", got: count.into(), expected: "at most 3" });
        }
        let count = usize::from(count);
        let assets = r.each("assets", count, 45, read_asset)?;
        let mut rows = [0; 6];
        for row in &mut rows {
            *row = r.u16("split row")?;
        }
        let split = SplitTable::from_rows(rows);
        if !split.is_whole() {
            return Err(DecodeError::Value {
                field: "split table",
                got: rows.iter().map(|row| u64::from(*row)).sum(),
                expected: "rows that sum to 10000",
            });
        }
        let (index, parameters) = (r.hash("index")?, r.u32("parameters")?);
        let count = usize::from(r.u8("Datanet count")?);
        if count > DATANETS_MAX {
            return Err(DecodeError::Value {
                field: "Datanet count",
                got: u64::try_from(count).unwrap_or(u64::MAX),
                expected: "at most 32",
            });
        }
        let datanets = r.each("Datanets", count, 40, |r| {
            Ok(ManifestDatanet { version: r.asset("Datanet")?, treasury: r.address("treasury")?, weight: r.u64("weight")? })
        })?;
        r.finish().map(|()| Self { assets, split, index, parameters, datanets })
    }
}

fn read_asset(r: &mut Reader<'_>) -> Result<ManifestAsset, DecodeError> {
    let code = r.u8("kind")?;
    let kind = AssetKind::from_code(code).ok_or_else(|| DecodeError::Value { field: "kind", got: code.into(), expected: "1 to 4" })?;
    Ok(ManifestAsset { kind, version: r.asset("asset")?, content: r.blob("content")? })
}
