use chain_bridge::{
    availability::{AvailabilityError, CHUNK_BYTES, CHUNKS_MAX, Calldata, DataAvailability},
    client::ChainClient,
};
use types::id::BlobId;

use super::harness::World;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 7 % 253 + 1).unwrap()).collect()
}

async fn count(client: &ChainClient) -> u64 {
    client.rpc().nonce(client.address().unwrap(), true).await.unwrap()
}

#[tokio::test]
async fn calldata_is_kept_once_in_chunks_across_a_kill_and_found_by_who_knows_its_owner_alone() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let own = client.address().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outbox = folder.path().join("outbox.json");
    client.keep_outbox(&outbox).await.unwrap();
    let whole = bytes(2 * CHUNK_BYTES + 5);
    let blob = BlobId::of(&whole);
    let begun = client.latest().await.unwrap().block.number;

    let store = Calldata::own(client.clone()).unwrap();
    let cost = store.cost(&whole).await.unwrap();
    assert_eq!(cost.transactions, 3);
    assert!(cost.l1_fee.0 > 0 && cost.gas_fee.0 > 0, "{cost:?}");
    let before = count(&client).await;
    let part = store.put_some(&whole, 1).await.unwrap();
    assert_eq!((part.chunks, part.total, part.is_whole()), (1, 3, false));
    let place = part.first_block.unwrap();
    assert!(part.gas <= cost.gas && part.gas > u64::try_from(CHUNK_BYTES).unwrap() * 30, "{part:?} of {cost:?}");
    drop((store, client));

    // Another process of the same account finds the first chunk in its outbox.
    let client = world.client(World::account(1)).await;
    client.keep_outbox(&outbox).await.unwrap();
    let store = Calldata::own(client.clone()).unwrap();
    assert_eq!(store.put(&whole).await.unwrap(), blob);
    assert_eq!(count(&client).await, before + 3, "three chunks, three transactions");
    assert_eq!(store.progress(blob).first_block, Some(place));
    assert_eq!(store.put(&whole).await.unwrap(), blob);
    assert_eq!(count(&client).await, before + 3, "what is kept already is not sent again");
    assert_eq!(store.get(blob, 1 << 20).await.unwrap(), Some(whole.clone()));

    // A stranger reads the owner's blocks.
    let stranger = world.client(World::account(9)).await;
    let head = client.latest().await.unwrap().block.number;
    let of = |from, to| Calldata::of(stranger.clone(), own, from, to);
    assert_eq!(of(begun, head).get(blob, 1 << 20).await.unwrap(), Some(whole.clone()));
    assert_eq!(of(begun, head).get(blob, 100).await.unwrap(), None, "longer than asked for");
    assert_eq!(of(begun, head).get(BlobId([1; 32]), 1 << 20).await.unwrap(), None);
    assert_eq!(of(begun, place - 1).get(blob, 1 << 20).await.unwrap(), None, "it came later");
    assert_eq!(of(place + 1, head).get(blob, 1 << 20).await.unwrap(), None, "its first chunk came earlier");
    assert_eq!(Calldata::of(stranger.clone(), stranger.address().unwrap(), begun, head).get(blob, 1 << 20).await.unwrap(), None);
    let mut looked = Vec::new();
    let found = of(begun, head).find(1 << 20, |at| looked.push(at), |_, _| false).await.unwrap();
    assert_eq!((found.blob, found.from, found.to), (None, begun, head));
    assert_eq!(looked.last().map(|at| (at.blocks, at.most)), Some((head - begun + 1, head - begun + 1)));

    let most = usize::from(CHUNKS_MAX) * CHUNK_BYTES;
    assert!(matches!(store.put(&vec![0; most + 1]).await, Err(AvailabilityError::TooLong { .. })));
    assert_eq!(count(&client).await, before + 3);
}
