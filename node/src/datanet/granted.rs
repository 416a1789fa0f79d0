//! What this folder's node may do with a private Datanet: the grants in the log that it has of it.
//!
//! A log is read where it lies and not fetched: who was let in takes it with `tributary datanet fetch`, which also enters what it reads for. A grant ends with
//! a block; one that its owner revoked ends here when the log is next fetched.

use anyhow::Context as _;
use chain_bridge::registry::{State, state::Asset};
use storage::seal::{book::Book, log::Purpose};
use types::id::{Address, AssetId, AssetVersion, NodeId};

use super::{card_of, seals};
use crate::data::DataDir;

/// Why a node may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its log is not in this folder.
    #[error(
        "Datanet {datanet} is private and its log is not here: run `tributary datanet fetch {datanet} --purpose {}`, once its owner {owner} has let node {node}",
        purpose.label()
    )]
    Unknown {
        /// The Datanet.
        datanet: AssetId,
        /// Its owner.
        owner: Address,
        /// This folder's node.
        node: NodeId,
        /// What for.
        purpose: Purpose,
    },
    /// No grant.
    #[error("node {node} has no grant for the private Datanet {datanet}: {}", how(*datanet, *owner, *node, *purpose))]
    Stranger {
        /// The Datanet.
        datanet: AssetId,
        /// Its owner.
        owner: Address,
        /// The node.
        node: NodeId,
        /// What for.
        purpose: Purpose,
    },
    /// The grant is over.
    #[error("the grant of node {node} for the private Datanet {datanet} ended with block {expiry}: {}", how(*datanet, *owner, *node, *purpose))]
    Ended {
        /// The Datanet.
        datanet: AssetId,
        /// Its owner.
        owner: Address,
        /// The node.
        node: NodeId,
        /// What for.
        purpose: Purpose,
        /// The last block of the grant.
        expiry: u64,
    },
    /// The grant is for something else.
    #[error(
        "the grant of node {node} for the private Datanet {datanet} is to {granted}, not to {}: {}",
        purpose.label(),
        how(*datanet, *owner, *node, *purpose)
    )]
    Purpose {
        /// The Datanet.
        datanet: AssetId,
        /// Its owner.
        owner: Address,
        /// The node.
        node: NodeId,
        /// What for.
        purpose: Purpose,
        /// What the grant is for.
        granted: String,
    },
}

fn how(datanet: AssetId, owner: Address, node: NodeId, purpose: Purpose) -> String {
    format!("its owner {owner} can let it with `tributary datanet grant {datanet} {node} --purpose {} --until BLOCK`", purpose.label())
}

/// The last block in which a node may use a Datanet for a purpose, by its log. Its owner's node always may.
///
/// # Errors
/// [`Denied`].
pub fn by_log(book: &Book, node: NodeId, asset: &Asset, block: u64, purpose: Purpose) -> Result<u64, Denied> {
    let (datanet, owner) = (asset.id, asset.owner());
    if book.log().owner() == node {
        return Ok(u64::MAX);
    }
    match book.log().grants().find(|(member, _)| *member == node) {
        None => Err(Denied::Stranger { datanet, owner, node, purpose }),
        Some((_, grant)) if grant.expiry < block => Err(Denied::Ended { datanet, owner, node, purpose, expiry: grant.expiry }),
        Some((_, grant)) if !grant.purposes.holds(purpose) => {
            Err(Denied::Purpose { datanet, owner, node, purpose, granted: grant.purposes.words() })
        }
        Some((_, grant)) => Ok(grant.expiry),
    }
}

/// The last block in which this folder's node may use all of these Datanets for a purpose: no end where none is private.
///
/// # Errors
/// [`Denied`] of the first that it may not use; that a log is damaged.
pub fn until(data: &DataDir, state: &State, declared: &[AssetVersion], block: u64, purpose: Purpose) -> anyhow::Result<u64> {
    let mut last = u64::MAX;
    for version in declared {
        let Some(asset) = state.asset(version.asset).filter(|asset| card_of(asset).is_ok_and(|card| card.is_private())) else { continue };
        let (datanet, owner) = (asset.id, asset.owner());
        let node = seals::member(data).with_context(|| format!("Datanet {datanet} is private"))?.id();
        let book = seals::read(data, datanet)?.ok_or(Denied::Unknown { datanet, owner, node, purpose })?;
        last = last.min(by_log(&book, node, asset, block, purpose)?);
    }
    Ok(last)
}
