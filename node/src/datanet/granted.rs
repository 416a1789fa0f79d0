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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use attribution::index::Index;
    use chain_bridge::registry::{Event, Logged, state::Accepted};
    use storage::{
        datanet::{Document, Place, contribution_text, private, shard},
        seal::{book::Author, log::Purposes, segment::SegmentKey},
    };
    use types::{
        id::{BlobId, Hash32},
        manifest::{AssetKind, Manifest},
        split::SplitTable,
        time::BlockRef,
    };

    use super::*;
    use crate::{
        config::Attribution,
        datanet::{self, seals::change},
        evidence,
        service::{
            index::{
                plan::Plan,
                store::{Indexes, StoreError, go_on},
            },
            inference::Offer,
        },
    };

    const NET: AssetId = AssetId(7);
    const VERSION: AssetVersion = AssetVersion { asset: NET, version: 1 };
    const PLACE: Place = Place { block: 9, ordinal: 1 };
    const TEXT: &str = "the patient of the third ward walks again since the unusual combination of treatments that nobody else had tried";

    fn folder(seed: u8) -> (tempfile::TempDir, DataDir, Author) {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        std::fs::write(data.seed(), hex::encode([seed; 32])).unwrap();
        (folder, data, Author::of_seed(&[seed; 32]))
    }

    /// Books of a private Datanet with one contribution and a version.
    fn books(text_root: Hash32, text_bytes: u64) -> State {
        let owner = Address([9; 20]);
        let uri = r#"{"name":"wards","description":"","licence":"CC0-1.0","languages":[],"tags":[],"policy":{},"private":true}"#.to_owned();
        let (licence, object, report) = (Hash32::ZERO, BlobId([1; 32]), Hash32::ZERO);
        let (contributor, documents, number) = (Address([5; 20]), 1, 0);
        let Place { block, ordinal } = PLACE;
        let events = [
            Event::Transferred { asset: NET, to: owner },
            Event::Registered { asset: NET, kind: AssetKind::Datanet, owner, uri },
            Event::Accepted {
                datanet: NET,
                number,
                contributor,
                text_root,
                text_bytes,
                documents,
                block,
                ordinal,
                licence,
                object,
                report,
            },
            Event::Published {
                version: VERSION,
                content: BlobId([1; 32]),
                parents: vec![],
                split: SplitTable::default(),
                datanets: vec![],
                licence,
                parent_share_min: 0,
            },
        ];
        let mut state = State::default();
        for (number, event) in (10..).zip(events) {
            let block = BlockRef { number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    fn indexed(data: &DataDir, state: &State) -> Result<Index, StoreError> {
        let texts = &mut |accepted: &Accepted| datanet::local(data, accepted)?.context("it is not here");
        let plan = Plan::of(state, VERSION).unwrap();
        let (datanet, _) = Indexes::of(data, &Attribution::default()).open(&plan, texts, &mut go_on)?;
        Ok(Index::new(vec![Arc::new(datanet)])?)
    }

    #[test]
    fn who_holds_a_grant_to_serve_indexes_and_answers_until_it_ends_and_a_stranger_does_neither() {
        let ((_a, owner_data, owner), (_b, data, member), (_c, poor, _)) = (folder(1), folder(2), folder(3));
        let rows = [Document::new(None, None, TEXT.as_bytes()).unwrap()];
        let (text, salt) = (contribution_text(&rows), Hash32([4; 32]));
        let text_root = private::root(text.as_bytes(), Some(salt));
        let state = books(text_root, text.len() as u64);
        let key = seals::sealing_key(&owner_data, &owner, NET, 5).unwrap();
        let key = SegmentKey::of(&key, private::name(NET, PLACE).unwrap()).unwrap();
        let sealed = key.seal(&private::pack(salt, &shard::encode(&rows).unwrap())).unwrap();
        let share = |data: &DataDir| {
            datanet::shards::keep(data, text_root, &sealed).unwrap();
            seals::keep(data, &seals::read(&owner_data, NET).unwrap().unwrap()).unwrap();
        };
        let until = |data: &DataDir, block, purpose| {
            until(data, &state, &[VERSION], block, purpose).map_err(|error| error.downcast::<Denied>().unwrap())
        };
        assert!(matches!(until(&data, 20, Purpose::Serve), Err(Denied::Unknown { .. })), "its log was not fetched");
        share(&poor);
        change(&owner_data, owner.id(), NET, |book| {
            Ok(book.grant(&owner, 6, member.id(), Purposes::of(&[Purpose::Read, Purpose::Serve]), 50)?)
        })
        .unwrap();
        share(&data);
        share(&owner_data);
        assert_eq!((until(&data, 20, Purpose::Serve), until(&data, 50, Purpose::Serve)), (Ok(50), Ok(50)));
        assert_eq!(until(&owner_data, 1 << 40, Purpose::Serve), Ok(u64::MAX), "its owner always may");
        let ended = until(&data, 51, Purpose::Serve).unwrap_err();
        assert!(matches!(ended, Denied::Ended { expiry: 50, .. }) && ended.to_string().contains("--purpose serve"), "{ended}");
        assert!(matches!(until(&data, 20, Purpose::Train), Err(Denied::Purpose { granted, .. }) if granted == "read, serve"));
        assert!(matches!(until(&poor, 20, Purpose::Serve), Err(Denied::Stranger { .. })));

        let index = indexed(&data, &state).unwrap();
        assert_eq!(index.root(), indexed(&owner_data, &state).unwrap().root(), "an indexer and a node that serves have one root");
        let refused = indexed(&poor, &state).unwrap_err().to_string();
        assert!(refused.contains("no key of epoch 0 was given") && refused.contains("datanet grant 7"), "{refused}");
        assert_eq!(index.count(b"unusual combination of treatments"), 1);
        let manifest = Manifest { assets: vec![], split: SplitTable::default(), index: index.root(), parameters: 1, datanets: vec![] };
        let offer = Offer { manifest, index: Arc::new(index), adapter: None, indexes: Arc::new(Indexes::in_memory()) };
        let (found, openings) = evidence::attribute(&offer, b"", &format!("They say {TEXT}.")).unwrap();
        assert_eq!((found.spans.len(), found.spans[0].payee), (1, Address([5; 20])));
        let sent = serde_json::to_string(&openings).unwrap();
        assert!(openings[0].text.is_none() && !sent.contains(&hex::encode(&TEXT.as_bytes()[..16])), "a client is sent no text of it");
    }
}
