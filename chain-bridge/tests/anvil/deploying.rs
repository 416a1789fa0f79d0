//! A deployment that is killed on its way, and one that is not what its file says.

use std::time::Duration;

use chain_bridge::{
    chain::error::ChainError,
    client::send::Sender,
    deploy::{DeployConfig, Deployment, Plan, calls, governors, verify_code},
};
use types::{amount::Amount, id::Address};

use super::harness::{World, open};

#[tokio::test]
async fn a_deployment_killed_on_its_way_is_gone_on_with_and_nothing_is_sent_twice() {
    let world = World::start().await;
    let (rpc, account) = (world.devnet.rpc().clone(), World::account(9));
    let own = account.address();
    world.devnet.fund(&[(own, open(50))]).await.unwrap();
    let config = DeployConfig::standard(Address([3; 20]), Address([4; 20]));
    let refused = Plan::new(&rpc, own, DeployConfig { unbonding_s: 5, ..config.clone() }).await.unwrap_err().to_string();
    assert!(refused.contains("unbond for longer than both windows"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let (outbox, file) = (folder.path().join("outbox.json"), folder.path().join("plan.json"));
    let plan = Plan::new(&rpc, own, config.clone()).await.unwrap();
    let quotes = plan.quotes(&rpc, &account).await.unwrap();
    assert_eq!(quotes.len(), calls(&plan.deployment).len());
    plan.write(&file).unwrap();

    let first = Sender::new(rpc.clone(), account.clone());
    first.keep_in(&outbox).await.unwrap();
    let killed = tokio::spawn({
        let (rpc, plan) = (rpc.clone(), plan.clone());
        async move { plan.carry_out(&rpc, &first).await }
    });
    let begun = tokio::time::timeout(Duration::from_secs(30), async {
        while rpc.nonce(own, true).await.unwrap() < plan.first_nonce + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    begun.await.unwrap();
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled(), "it was killed before it was done");

    let plan = Plan::read(&file).unwrap().unwrap();
    let next = Sender::new(rpc.clone(), account.clone());
    next.keep_in(&outbox).await.unwrap();
    next.resume().await.unwrap();
    plan.carry_out(&rpc, &next).await.unwrap();
    assert_eq!(rpc.nonce(own, true).await.unwrap(), plan.first_nonce + quotes.len() as u64, "all transactions, none twice");
    let most = quotes.iter().map(|quote| quote.most().0).sum::<u128>();
    let spent = open(50).0 - rpc.balance(own).await.unwrap().0;
    assert!(spent > 0 && spent <= most, "{spent} of at most {most} wei");
    assert_eq!(plan.quotes(&rpc, &account).await.unwrap(), vec![], "nothing is left to send");
    plan.carry_out(&rpc, &next).await.unwrap();
    let governs = governors(&rpc, &plan.deployment).await.unwrap();
    assert_eq!((governs.assets_governor, governs.rent_governor), (config.governor, config.governor));

    // What the chain has and what a file says, one thing changed at a time.
    let good = plan.deployment;
    verify_code(&rpc, &good).await.unwrap();
    let changed = async |says: &str, change: &dyn Fn(&mut Deployment)| {
        let mut wrong = good.clone();
        change(&mut wrong);
        let error = verify_code(&rpc, &wrong).await.expect_err(says).to_string();
        assert!(error.contains(says), "{says}: {error}");
    };
    changed("deployment is on chain 1", &|file| file.chain_id = 1).await;
    changed("no code at 0x0909", &|file| file.escrow = Address([9; 20])).await;
    changed("InferenceEscrow at", &|file| file.escrow = file.rent).await;
    changed("Settlement at", &|file| file.config.w1_s += 1).await;
    changed("Settlement at", &|file| file.config.protocol = Address([8; 20])).await;
    changed("StakeManager at", &|file| file.config.stake_min = Amount(1)).await;
    changed("StakeManager at", &|file| file.stake = world.devnet.deployment().stake).await;

    // Somebody else's key, or the same key used for something else, cannot go on.
    let stranger = Sender::new(rpc.clone(), World::account(8));
    let plan = Plan { first_nonce: 0, deployment: good };
    assert!(matches!(plan.carry_out(&rpc, &stranger).await, Err(ChainError::Argument(_))));
}
