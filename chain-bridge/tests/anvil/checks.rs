use std::time::Duration;

use attribution::epoch::node_root;
use chain_bridge::{
    chain::error::ChainError,
    client::{ChainClient, checks::ORIGIN_BLOCKS},
    devnet::Devnet,
    follow::Follower,
    registry::check::Said,
};
use types::{id::Hash32, key::Signed};

use super::harness::{World, bond, open, quick};

const WAIT: Duration = Duration::from_secs(120);

fn refused<T: std::fmt::Debug>(sent: Result<T, ChainError>) -> String {
    let error = sent.unwrap_err();
    error.contract_error().unwrap_or_else(|| panic!("{error}")).to_owned()
}

/// Stores the beacon as soon as the chain knows of the L1 block.
async fn store(client: &ChainClient, epoch: u64, from: u64) {
    while client.l1_number().await.unwrap() < from {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.store_check_beacon(epoch).await.unwrap();
}

#[tokio::test]
async fn a_round_of_checks_goes_from_its_beacon_to_what_is_shown_on_a_running_chain() {
    let mut config = quick();
    // A third is long enough for a beacon and two seals, however busy the machine is.
    (config.deploy.w1_s, config.deploy.unbonding_s, config.deploy.honour_s) = (45, 50, 50);
    let world = World { devnet: Devnet::start(config).await.unwrap() };
    let clients = world.clients(3).await;
    let (node, checker, stranger) = (&clients[0], &clients[1], &clients[2]);
    let follower = Follower::start(node.clone(), world.devnet.deployment().block, Duration::from_millis(100));
    bond(node, 1).await;
    bond(checker, 2).await;

    let epoch = node.submission_epoch().await.unwrap();
    assert_eq!(refused(stranger.announce_check_beacon(epoch).await), "UnknownEpoch");
    let root = node_root(node.address().unwrap(), epoch, &[]).unwrap();
    node.submit_node_root(&Signed::new(node.account("submit").unwrap(), &node.domains(), root)).await.unwrap();
    assert_eq!(refused(stranger.announce_check_beacon(epoch).await), "TooEarly", "roots are taken still");
    let seen = follower.wait_for(WAIT, |snapshot| snapshot.latest.epoch(epoch).is_some()).await.unwrap();
    let times = seen.latest.epoch(epoch).unwrap().clone();

    node.wait_for_time(times.accepts_until, WAIT).await.unwrap();
    stranger.announce_check_beacon(epoch).await.unwrap();
    assert_eq!(refused(node.announce_check_beacon(epoch).await), "AlreadyAnnounced");
    let (origin, stored) = node.check_beacon(epoch).await.unwrap();
    let origin = origin.unwrap();
    assert_eq!(stored, None);
    assert_eq!(refused(checker.commit_checks(epoch, Hash32([7; 32]), 2).await), "NoBeacon");
    world.devnet.advance_l1(ORIGIN_BLOCKS).await.unwrap();
    store(stranger, epoch, origin + ORIGIN_BLOCKS).await;

    let sent = checker.commit_checks(epoch, Hash32([7; 32]), 2).await.unwrap();
    let again = checker.commit_checks(epoch, Hash32([7; 32]), 2).await.unwrap();
    assert_eq!(again.transaction, sent.transaction, "who does not know whether it was sent asks again");
    assert_eq!(refused(stranger.commit_checks(epoch, Hash32([7; 32]), 2).await), "NotBonded");
    assert_eq!(refused(checker.reveal_checks(epoch, Hash32([8; 32])).await), "TooEarly", "others may seal still");
    node.wait_for_time(times.sealed_until(), WAIT).await.unwrap();
    assert_eq!(refused(node.commit_checks(epoch, Hash32([7; 32]), 2).await), "TooLate", "others may show already");
    checker.reveal_checks(epoch, Hash32([8; 32])).await.unwrap();

    let said = Said { sealed: Hash32([7; 32]), count: 2, shown: Some(Hash32([8; 32])) };
    assert_eq!(node.checks_of(epoch, checker.address().unwrap()).await.unwrap(), Some(said));
    assert_eq!(node.checks_of(epoch, node.address().unwrap()).await.unwrap(), None);
    let is_shown = |board: &chain_bridge::registry::check::Board| board.checks.values().any(|said| said.shown.is_some());
    let seen = follower.wait_for(WAIT, |snapshot| snapshot.latest.board(epoch).is_some_and(is_shown)).await.unwrap();
    let board = seen.latest.board(epoch).unwrap();
    assert_eq!((board.origin, board.beacon), (origin, node.check_beacon(epoch).await.unwrap().1));
    assert_eq!(board.checks, [(checker.address().unwrap(), said)].into());
    let mut operators = vec![(node.address().unwrap(), open(100)), (checker.address().unwrap(), open(100))];
    operators.sort_unstable();
    assert_eq!(*board.operators, operators);
    follower.stop().await;
}
