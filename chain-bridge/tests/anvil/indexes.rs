//! An index root that pays nobody's contribution, on a chain: entered, refuted, and refused from then on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use attribution::{
    index::{DatanetIndex, Index, Segment, Source},
    proof::index::{Contribution as Known, Laid, Leaves, Posted, Texts, find_index},
};
use chain_bridge::{client::assets::NewVersion, devnet::Role, follow::Follower, fraud::calldata::Proof, registry::manifest::ManifestError};
use types::{
    contribution::{Contribution, GateReport, commitment},
    id::{AssetVersion, BlobId, Hash32},
    key::Signed,
    manifest::AssetKind,
    split::SplitTable,
    text::{text_root, text_top},
};

use super::harness::{World, bond};

const TEXT: &[u8] = b"Bilateral sensorineural hearing impairment of congenital onset affecting speech development.\0";

fn version(content: u8, parents: Vec<AssetVersion>, split: SplitTable, datanets: Vec<AssetVersion>) -> NewVersion {
    NewVersion { content: BlobId([content; 32]), parents, split, datanets, licence: Hash32([3; 32]), parent_share_min: 0 }
}

#[tokio::test]
async fn an_indexer_whose_root_names_nobodys_contribution_loses_stake_and_the_version_is_refused_from_then_on() {
    let world = World::start().await;
    let clients = world.clients(3).await;
    let (owner, node, reporter) = (&clients[0], &clients[1], &clients[2]);
    let (domains, who) = (owner.domains(), owner.address().unwrap());
    let follower = Follower::start(owner.clone(), world.devnet.deployment().block, Duration::from_millis(100));
    bond(node, 7).await;
    world.client(Role::Governor.account()).await.approve_parameters(1, &[9; 45]).await.unwrap();

    let (base, _) = owner.register_asset(AssetKind::Base, "base").await.unwrap();
    let (datanet, _) = owner.register_asset(AssetKind::Datanet, "medical").await.unwrap();
    let (salt, root, object) = (Hash32([1; 32]), text_root(TEXT), BlobId([4; 32]));
    let made = commitment(salt, root, who);
    let (priority, _) = owner.commit(made).await.unwrap();
    let given = Contribution {
        datanet,
        contributor: who,
        text_root: root,
        text_bytes: TEXT.len() as u64,
        documents: 1,
        salt,
        licence: Hash32([3; 32]),
        object,
    };
    let report = GateReport { datanet, text_root: root, commitment: made, report: Hash32([6; 32]), object, is_accepted: true };
    let key = owner.account("contribute").unwrap();
    owner.accept(&Signed::new(key, &domains, given), &Signed::new(key, &domains, report), text_top(TEXT)).await.unwrap();
    let split = SplitTable { node: 5_000, base: 1_000, data: 4_000, ..SplitTable::default() };
    let (declared, _) = owner.publish(datanet, &version(2, vec![], SplitTable::default(), vec![])).await.unwrap();
    let (answering, _) = owner.publish(base, &version(1, vec![], split, vec![declared])).await.unwrap();

    let source = Source { contributor: who, block: priority.block, ordinal: priority.ordinal, text_root: root, text: TEXT };
    let segment = Segment::build(&[source], 0).unwrap();
    let index = Index::new(vec![Arc::new(DatanetIndex::new(declared, vec![segment]).unwrap())]).unwrap();
    let mut leaves = Leaves::of(&index);
    leaves.0[0].segments[0].rows[0][61] ^= 1;
    let lying = Laid::new(leaves);
    node.post_index_root(answering, lying.root(), 1).await.unwrap();
    let seen = follower.wait_for(Duration::from_secs(30), |seen| seen.latest.index(answering).is_some()).await.unwrap();
    assert_eq!(seen.latest.manifest(answering).unwrap().index, lying.root());

    let known = Known { contributor: who, text_root: root, block: priority.block, ordinal: priority.ordinal, erased: None };
    let posted = Posted {
        root: lying.root(),
        declared: vec![declared],
        published: BTreeMap::from([(declared, seen.latest.version(declared).unwrap().published.0)]),
        contributions: BTreeMap::from([(datanet, vec![known])]),
    };
    let found = find_index(&lying, &posted, &Texts::of(&index), 9);
    assert_eq!(found.iter().map(types::proof::IndexClaim::mode).collect::<Vec<_>>(), [10]);
    let (proof, accused) = (Proof::index(answering, &found[0]), node.address().unwrap());
    let early = reporter.dry_run(accused, &proof).await.unwrap_err();
    assert_eq!(early.contract_error(), Some("NotAllEntered"), "{early}");
    assert_eq!(reporter.enter_contributions(datanet).await.unwrap().len(), 1);
    assert_eq!(reporter.enter_contributions(datanet).await.unwrap().len(), 0, "they are entered for good");
    let slashed = reporter.prove(accused, &proof).await.unwrap();
    assert!(slashed.stake_after < slashed.stake_before, "{slashed:?}");
    let seen = follower.wait_for(Duration::from_secs(30), |seen| seen.latest.refuted(answering).is_some()).await.unwrap();
    let refuted = seen.latest.refuted(answering).unwrap();
    assert_eq!((refuted.root, refuted.mode, Some(refuted.reporter)), (lying.root(), 10, reporter.address()));
    assert!(matches!(seen.latest.manifest(answering), Err(ManifestError::Refuted { mode: 10, .. })));
    follower.stop().await;
}
