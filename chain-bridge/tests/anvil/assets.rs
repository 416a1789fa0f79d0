use std::time::Duration;

use chain_bridge::{client::assets::NewVersion, devnet::Role, follow::Follower};
use types::{
    contribution::{Contribution, GateReport, commitment},
    id::{AssetId, AssetVersion, BlobId, Hash32},
    key::Signed,
    manifest::AssetKind,
    split::SplitTable,
    text::{text_root, text_top},
};

use super::harness::{World, bond};

fn version(content: u8, parents: Vec<AssetVersion>, split: SplitTable, datanets: Vec<AssetVersion>) -> NewVersion {
    NewVersion { content: BlobId([content; 32]), parents, split, datanets, licence: Hash32([3; 32]), parent_share_min: 0 }
}

#[tokio::test]
async fn what_is_registered_contributed_and_indexed_is_in_the_books_of_a_follower() {
    let world = World::start().await;
    let clients = world.clients(3).await;
    let (owner, contributor, node) = (&clients[0], &clients[1], &clients[2]);
    let domains = owner.domains();
    let follower = Follower::start(owner.clone(), world.devnet.deployment().block, Duration::from_millis(100));

    let (base, _) = owner.register_asset(AssetKind::Base, "base").await.unwrap();
    let (datanet, _) = owner.register_asset(AssetKind::Datanet, "medical").await.unwrap();
    let (adapter, _) = owner.register_asset(AssetKind::Adapter, "medical adapter").await.unwrap();
    assert_eq!((base, datanet, adapter), (AssetId(1), AssetId(2), AssetId(3)));

    let text = [b'a'; 640];
    let (salt, text_root, who) = (Hash32([1; 32]), text_root(&text), contributor.address().unwrap());
    let made = commitment(salt, text_root, who);
    let (priority, _) = contributor.commit(made).await.unwrap();
    let given = Contribution {
        datanet,
        contributor: who,
        text_root,
        text_bytes: 640,
        documents: 2,
        salt,
        licence: Hash32([3; 32]),
        object: BlobId([4; 32]),
    };
    let report = GateReport { datanet, text_root, commitment: made, report: Hash32([6; 32]), object: BlobId([4; 32]), is_accepted: true };
    let given = Signed::new(contributor.account("contribute").unwrap(), &domains, given);
    let foreign = Signed::new(contributor.account("review").unwrap(), &domains, report);
    let error = owner.accept(&given, &foreign, text_top(&text)).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("ReviewerSignature"), "{error}");
    let report = Signed::new(owner.account("review").unwrap(), &domains, report);
    let more = Contribution { text_bytes: 641, ..given.document };
    let more = Signed::new(contributor.account("contribute").unwrap(), &domains, more);
    let error = contributor.accept(&more, &report, text_top(&text)).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("TextBytesMismatch"), "{error}");
    let other = Contribution { object: BlobId([5; 32]), ..given.document };
    let other = Signed::new(contributor.account("contribute").unwrap(), &domains, other);
    let error = contributor.accept(&other, &report, text_top(&text)).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("ReportMismatch"), "{error}");
    let (number, _) = contributor.accept(&given, &report, text_top(&text)).await.unwrap();
    assert_eq!(number, 0);

    let split = SplitTable { node: 5_000, base: 1_000, data: 4_000, ..SplitTable::default() };
    let (base_version, _) = owner.publish(base, &version(1, vec![], split, vec![])).await.unwrap();
    let (datanet_version, _) = owner.publish(datanet, &version(2, vec![], SplitTable::default(), vec![])).await.unwrap();
    let split = SplitTable { node: 4_000, base: 1_000, adapter: 1_000, data: 4_000, ..SplitTable::default() };
    let (adapter_version, _) = owner.publish(adapter, &version(3, vec![base_version], split, vec![datanet_version])).await.unwrap();

    bond(node, 7).await;
    let error = node.post_index_root(adapter_version, Hash32([8; 32]), 1).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("ParametersUnknown"), "{error}");
    let governor = world.client(Role::Governor.account()).await;
    governor.approve_parameters(1, &[9; 45]).await.unwrap();
    node.post_index_root(adapter_version, Hash32([8; 32]), 1).await.unwrap();

    let seen = follower.wait_for(Duration::from_secs(30), |snapshot| snapshot.latest.index(adapter_version).is_some()).await.unwrap();
    let books = &seen.latest;
    let manifest = books.manifest(adapter_version).unwrap();
    assert_eq!(manifest.assets.iter().map(|asset| asset.kind).collect::<Vec<_>>(), [AssetKind::Base, AssetKind::Adapter]);
    assert_eq!((manifest.datanets[0].weight, manifest.index, manifest.split), (640, Hash32([8; 32]), split));
    assert_eq!(books.payee_at(adapter, seen.tip.number), owner.address());
    let contribution = books.contributions(datanet).next().unwrap();
    assert_eq!((contribution.priority, contribution.contributor, contribution.documents), (priority, who, 2));
    assert_eq!(books.commitment(made, who), Some((priority.block, priority.ordinal)));
    let operator = books.operator(node.address().unwrap()).unwrap();
    assert_eq!(Some(*operator), node.operator(node.address().unwrap()).await.unwrap());
    assert_eq!(owner.owner_at(adapter, seen.tip.number).await.unwrap(), owner.address().unwrap());
    follower.stop().await;
}
