use std::time::Duration;

use chain_bridge::{
    case::{PART_BYTES, Question},
    chain::error::ChainError,
    client::ChainClient,
    follow::Follower,
    registry::{Closing, event::Custody},
};
use types::{
    amount::Amount,
    audit::{AuditCommit, HeldFragment},
    contribution::{Contribution, GateReport, commitment},
    id::{AssetId, BlobId, Hash32},
    key::Signed,
    manifest::AssetKind,
    merkle::Tree,
    text::{text_root, text_top},
};

use super::harness::{World, bond, open};

const OBJECT: BlobId = BlobId([4; 32]);

/// A contribution of the Datanet's owner, who reviews it.
async fn contribute(owner: &ChainClient) -> AssetId {
    let (datanet, _) = owner.register_asset(AssetKind::Datanet, "net").await.unwrap();
    let (text, salt, who) = ([b'a'; 640], Hash32([1; 32]), owner.address().unwrap());
    let text_root = text_root(&text);
    let made = commitment(salt, text_root, who);
    owner.commit(made).await.unwrap();
    let given = Contribution {
        datanet,
        contributor: who,
        text_root,
        text_bytes: 640,
        documents: 2,
        salt,
        licence: Hash32([3; 32]),
        object: OBJECT,
    };
    let report = GateReport { datanet, text_root, commitment: made, report: Hash32([6; 32]), object: OBJECT, is_accepted: true };
    let (account, domains) = (owner.account("contribute").unwrap(), owner.domains());
    let (given, report) = (Signed::new(account, &domains, given), Signed::new(account, &domains, report));
    owner.accept(&given, &report, text_top(&text)).await.unwrap();
    datanet
}

fn fragment() -> Vec<u8> {
    (0..5_000_u32).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect()
}

/// Waits until the chain has `more` blocks.
async fn blocks(client: &ChainClient, more: u64) {
    let wanted = client.heads().await.unwrap().latest.number + more;
    while client.heads().await.unwrap().latest.number < wanted {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the node signs for now, and a case about a leaf of it.
async fn question(node: &ChainClient, datanet: AssetId, part: u32) -> Question {
    let bytes = fragment();
    let root = Tree::over(bytes.chunks(PART_BYTES)).root();
    let held = HeldFragment { object: OBJECT, fragment: 2, fragments: 5, bytes: 5_000, root };
    let block = node.heads().await.unwrap().latest.number;
    let said = AuditCommit {
        node: node.address().unwrap(),
        epoch: (1 << 63) | (block / 8),
        holdings: Tree::over([held.leaf().as_slice()]).root(),
        ranges: 1,
        block,
    };
    let said = Signed::new(node.account("commit").unwrap(), &node.domains(), said);
    Question::new(said, &[held], 0, (datanet, 0), part).unwrap()
}

#[tokio::test]
async fn a_case_is_opened_and_answered_or_closed_with_a_slash_on_a_running_chain() {
    let world = World::start().await;
    let clients = world.clients(3).await;
    let (owner, node, opener) = (&clients[0], &clients[1], &clients[2]);
    let follower = Follower::start(owner.clone(), world.devnet.deployment().block, Duration::from_millis(100));
    bond(node, 9).await;
    let datanet = contribute(owner).await;
    // The contract reckons from blocks when the node signed, and a busy chain makes some in less than its time.
    blocks(owner, 4).await;

    let asked = question(node, datanet, 3).await;
    let before = opener.balance(opener.address().unwrap()).await.unwrap();
    let sent = opener.open_case(&asked).await.unwrap();
    let kept = opener.kept_case(asked.asked()).await.unwrap();
    assert_eq!((kept.opener, kept.signed_at, kept.ended_at), (opener.address().unwrap(), asked.commit.document.block, None));
    let answer = asked.asked().answer(&fragment()).unwrap();
    let answered = node.answer_case(&answer).await.unwrap();
    let kept = opener.kept_case(asked.asked()).await.unwrap();
    assert_eq!(kept.ended_at, Some(answered.block.number));
    // Half of the answer is the opener's to pay, the rest of the bond is its own again.
    let owed = opener.kept_by(Custody::Cases, opener.address().unwrap()).await.unwrap();
    assert!(owed > Amount(open(1).0 * 99 / 100) && owed < open(1), "{owed:?}");
    let error = node.answer_case(&answer).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("NoCase"), "{error}");
    opener.take_kept(Custody::Cases, opener.address().unwrap()).await.unwrap();
    let after = opener.balance(opener.address().unwrap()).await.unwrap();
    assert!(after.0 > before.0 - open(1).0 / 50, "{sent:?}");

    let silent = question(node, datanet, 4).await;
    let opened = opener.open_case_once("case".to_owned(), &silent).await.unwrap();
    // Whoever does not know whether that was sent asks for it again: no second bond is attached, by the outbox and by the contract.
    let again = opener.open_case_once("case".to_owned(), &silent).await.unwrap();
    assert_eq!(again.transaction, opened.transaction);
    assert!(opener.kept_case(silent.asked()).await.unwrap().covers(silent.commit.document.block));
    let error = opener.open_case_once("other".to_owned(), &silent).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("KnownCase"), "{error}");
    // Another leaf, of what it signed later and still before it falls.
    let beside = question(node, datanet, 2).await;
    opener.open_case(&beside).await.unwrap();
    let closed = loop {
        match owner.close_case(silent.asked()).await {
            Ok(closed) => break closed,
            Err(error) => assert_eq!(error.contract_error(), Some("StillOpen"), "{error}"),
        }
        // The chain's next block, whose time may have come.
        blocks(owner, 1).await;
    };
    let of = node.address().unwrap();
    assert_eq!(owner.convicted_at(of).await.unwrap(), Some(closed.block.number));
    // It fell for all that it had signed: the other case closes at any time, without a slash.
    let seen = follower.wait_for(Duration::from_secs(30), |snapshot| snapshot.latest.convicted_at(of).is_some()).await.unwrap();
    let open_case = *seen.latest.case(beside.asked().id()).unwrap();
    assert_eq!(seen.latest.closing(&open_case, 0), Closing::TakesNothing);
    owner.close_case(beside.asked()).await.unwrap();
    let error: ChainError = opener.open_case(&silent).await.unwrap_err();
    assert_eq!(error.contract_error(), Some("ConvictedSince"), "{error}");

    let seen = follower.wait_for(Duration::from_secs(30), |snapshot| snapshot.latest.cases().count() == 0).await.unwrap();
    assert_eq!((seen.latest.cases().count(), seen.latest.operator(of).unwrap().active), (0, open(90)));
    follower.stop().await;
}
