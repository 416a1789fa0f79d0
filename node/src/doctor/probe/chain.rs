//! The chain, asked what a node asks it: by the same client, each question with an end.

use std::time::Instant;

use chain_bridge::{
    chain::{Heads, rpc::Rpc},
    client::ChainClient,
    deploy::{Deployment, check_pace, verify_contract},
};
use reqwest::{
    Client,
    header::{CONTENT_TYPE, DATE},
};
use types::id::Address;

use super::{World, within};
use crate::{
    chain::alarm_of,
    config::Config,
    doctor::{
        date,
        facts::{ChainFacts, Files, Standing, Suite, Wallet},
    },
    finalized::LastFinal,
    running::Addresses,
    when::now,
};

/// Late blocks whose events are asked for, as the node asks for them: public endpoints refuse more, and some refuse any.
const LOG_BLOCKS: u64 = chain_bridge::chain::rpc::LOG_RANGE_MAX;

pub(super) async fn look(world: &World, config: &Config, files: &Files) -> ChainFacts {
    let (url, patience) = (config.rpc.clone(), world.patience.answer);
    let ahead_s = within(patience, ahead(&url)).await.ok().flatten();
    let (begun, asked_at) = (Instant::now(), now());
    let rpc = within(patience, Rpc::connect(&url)).await;
    let id = rpc.as_ref().map(|rpc| (rpc.chain_id(), begun.elapsed())).map_err(Clone::clone);
    let suite = match (rpc, &files.deployment) {
        (Ok(rpc), Ok(deployment)) if rpc.chain_id() == deployment.chain_id => Some(suite(world, files, rpc, deployment).await),
        _ => None,
    };
    ChainFacts { url, id, ahead_s, asked_at, suite }
}

/// Seconds by which this clock is before the endpoint's, as its HTTP server tells the time. The answer's date lies between question and answer, so that neither
/// a slow line nor a whole second of rounding looks like a wrong clock.
async fn ahead(url: &str) -> Result<Option<i64>, reqwest::Error> {
    let before = now();
    let question = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
    let answer = Client::new().post(url).header(CONTENT_TYPE, "application/json").body(question).send().await?;
    let after = now();
    let Some(told) = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(date::read) else { return Ok(None) };
    let difference = |later: u64, sooner: u64| i64::try_from(later.saturating_sub(sooner)).unwrap_or(i64::MAX);
    // A date is cut to its second, so the clock may be one further.
    Ok(Some(if told + 1 < before { difference(before, told + 1) } else { -difference(told, after) }))
}

async fn suite(world: &World, files: &Files, rpc: Rpc, deployment: &Deployment) -> Suite {
    let patience = world.patience.answer;
    let client = ChainClient::unverified(rpc, deployment.clone());
    let rpc = client.rpc();
    let missing = within(patience, rpc.codes(&deployment.contracts().iter().map(|(_, address)| *address).collect::<Vec<_>>())).await;
    let missing = missing.map(|codes| {
        let without = deployment.contracts().into_iter().zip(codes).filter(|(_, code)| code.is_empty());
        without.map(|((name, address), _)| format!("{name} at {address}")).collect::<Vec<_>>()
    });
    let code = match &missing {
        Ok(missing) if missing.is_empty() => Some(code(world, rpc, deployment).await),
        _ => None,
    };
    let heads = within(patience, rpc.heads()).await;
    let latest = heads.as_ref().map_or(deployment.block, |heads: &Heads| heads.latest.number);
    let logs = within(patience, rpc.logs(&[deployment.registry], latest.saturating_sub(LOG_BLOCKS - 1), latest)).await;
    let history = within(patience, rpc.header(deployment.block)).await;
    let kept = LastFinal::of(&world.context.data, deployment);
    let alarm = within(patience, alarm_of(&client, &kept)).await;
    Suite {
        pace: heads.as_ref().ok().and_then(|heads| check_pace(&deployment.config, heads).err()).map(|error| error.to_string()),
        account: match account(world, files) {
            Some(account) => Some(standing(world, &client, account).await),
            None => None,
        },
        missing,
        code,
        heads,
        alarm: alarm.map(|alarm| alarm.map(|alarm| alarm.to_string())),
        logs: logs.map(drop),
        history: history.map(|header| header.is_some()),
        stake_min: deployment.config.stake_min,
        block_s: deployment.config.block_s,
    }
}

/// Compares the code of those contracts that money is sent to, or of all.
async fn code(world: &World, rpc: &Rpc, deployment: &Deployment) -> Result<(), String> {
    let with_money = [deployment.stake, deployment.escrow, deployment.settlement];
    for (_, address) in deployment.contracts() {
        if world.is_full || with_money.contains(&address) {
            within(world.patience.answer, verify_contract(rpc, deployment, address)).await?;
        }
    }
    Ok(())
}

/// Whose account: the wallet's, or the one that a node of this folder has told.
fn account(world: &World, files: &Files) -> Option<Address> {
    match files.wallet {
        Wallet::Opened(account) => Some(account),
        _ => Addresses::read(&world.context.data).ok().map(|addresses| addresses.account),
    }
}

async fn standing(world: &World, client: &ChainClient, account: Address) -> Standing {
    let patience = world.patience.answer;
    Standing {
        account,
        operator: within(patience, client.operator(account)).await,
        is_bonded: within(patience, client.is_bonded(account)).await,
        balance: within(patience, client.balance(account)).await,
    }
}
