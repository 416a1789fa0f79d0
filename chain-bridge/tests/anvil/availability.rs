use chain_bridge::availability::{AvailabilityError, CALLDATA_MAX, Calldata, DataAvailability};
use types::id::BlobId;

use super::harness::World;

#[tokio::test]
async fn calldata_gives_back_what_was_put_once_and_refuses_what_is_too_long() {
    let world = World::start().await;
    let client = world.clients(1).await.remove(0);
    let own = client.address().unwrap();
    let store = Calldata::new(client.clone());
    let bytes = b"receipts of an epoch".repeat(100);
    let blob = store.put(&bytes).await.unwrap();
    let sent = client.rpc().nonce(own, true).await.unwrap();
    assert_eq!(store.put(&bytes).await.unwrap(), blob);
    assert_eq!(client.rpc().nonce(own, true).await.unwrap(), sent, "what is kept already is not sent again");

    // Another process learns the place alone.
    let stranger = Calldata::new(world.client(World::account(9)).await);
    assert_eq!(stranger.get(blob, 1 << 20).await.unwrap(), None);
    let place = store.place(blob).unwrap();
    stranger.learn(blob, place);
    assert_eq!(stranger.get(blob, 1 << 20).await.unwrap(), Some(bytes));
    assert!(matches!(stranger.get(blob, 10).await, Err(AvailabilityError::TooLong { most: 10, .. })));
    stranger.learn(BlobId([1; 32]), place);
    assert!(matches!(stranger.get(BlobId([1; 32]), 1 << 20).await, Err(AvailabilityError::Changed { got, .. }) if got == blob));
    let most = usize::try_from(CALLDATA_MAX).unwrap();
    assert!(matches!(store.put(&vec![0; most + 1]).await, Err(AvailabilityError::TooLong { .. })));
}
