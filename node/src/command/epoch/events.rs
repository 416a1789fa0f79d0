//! The chain's events as an export holds them: logs as the chain gave them, from which the books are derived anew.

use anyhow::{Context as _, ensure};
use chain_bridge::{
    chain::decode,
    client::ChainClient,
    deploy::Deployment,
    registry::{Event, Logged, State},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::{
    id::{Address, Hash32},
    time::BlockRef,
};

/// The block that events were read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The block.
    pub block: BlockRef,
    /// Its time, seconds since 1970 by the sequencer.
    pub time: u64,
}

/// One log. What no payout depends on and nothing in a folder could show to be right (its transaction, the hash of its block) is not carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainLog {
    /// Number of its block.
    pub block: u64,
    /// Time of the block.
    pub time: u64,
    /// The contract.
    pub contract: Address,
    /// Topics.
    pub topics: Vec<Hash32>,
    /// Data, in hex.
    pub data: String,
}

impl ChainLog {
    /// The event, if it is one of this suite's; `place` is the log's among those of its block.
    fn event(&self, deployment: &Deployment, place: u32) -> anyhow::Result<Option<Logged>> {
        let raw = json!({
            "address": self.contract,
            "topics": self.topics,
            "data": format!("0x{}", self.data),
            "blockNumber": format!("0x{:x}", self.block),
            "blockHash": Hash32::ZERO,
            "transactionHash": Hash32::ZERO,
            "transactionIndex": "0x0",
            "logIndex": format!("0x{place:x}"),
            "removed": false,
        });
        Ok(decode::log(deployment, &serde_json::from_value(raw)?, self.time)?)
    }
}

/// Whether a payout can depend on an event. One that none depends on is not carried: nobody who replays could notice that it was changed.
const fn is_carried(event: &Event) -> bool {
    !matches!(
        event,
        Event::Registered { .. }
            | Event::Published { .. }
            | Event::Frozen { .. }
            | Event::Redirected { .. }
            | Event::ReviewerSet { .. }
            | Event::Committed { .. }
            | Event::Accepted { .. }
            | Event::IndexPosted { .. }
            | Event::IndexRefuted { .. }
            | Event::ParametersApproved { .. }
            | Event::DataRowMinSet { .. }
            | Event::StakeChanged { .. }
            | Event::RolesChanged { .. }
            | Event::Deposited { .. }
            | Event::WithdrawRequested { .. }
            | Event::Withdrawn { .. }
            | Event::Claimed { .. }
            | Event::SignerSet { .. }
            | Event::SignerRevoked { .. }
            | Event::RewardsReceived { .. }
            | Event::RewardsClaimed { .. }
            | Event::Insured { .. }
            | Event::Covered { .. }
            | Event::RentPrepaid { .. }
            | Event::RentAccrued { .. }
            | Event::RentWithdrawRequested { .. }
            | Event::RentWithdrawn { .. }
            | Event::RentPaid { .. }
            | Event::RentGivenBack { .. }
            | Event::RentPriceSet { .. }
    )
}

/// The suite's logs that payouts can depend on, in the blocks after its deployment, up to `head`.
pub async fn read(client: &ChainClient, head: &BlockRef) -> anyhow::Result<Vec<ChainLog>> {
    let contracts: Vec<Address> = client.deployment().contracts().into_iter().map(|(_, address)| address).collect();
    let logs = client.rpc().logs(&contracts, client.deployment().block.saturating_add(1), head.number).await?;
    let mut read = Vec::with_capacity(logs.len());
    let mut last: Option<(u64, u64)> = None;
    for log in &logs {
        let Some(number) = log.block_number else { anyhow::bail!("the endpoint gives a log without its block") };
        let time = match (log.block_timestamp, last) {
            (Some(time), _) => time,
            (None, Some((known, time))) if known == number => time,
            (None, _) => {
                let header = client.rpc().header(number).await?;
                header.with_context(|| format!("block {number} is gone: the chain was reorganised, try again"))?.timestamp
            }
        };
        last = Some((number, time));
        let log = ChainLog {
            block: number,
            time,
            contract: Address(log.address().into_array()),
            topics: log.topics().iter().map(|topic| Hash32(topic.0)).collect(),
            data: hex::encode(&log.data().data),
        };
        if log.event(client.deployment(), 0)?.is_some_and(|logged| is_carried(&logged.event)) {
            read.push(log);
        }
    }
    Ok(read)
}

/// The books that the logs give; the first log that does not fit, or that no payout can depend on, is named.
pub fn books(deployment: &Deployment, head: &Head, logs: &[ChainLog]) -> anyhow::Result<State> {
    let mut state = State::default();
    // Number and time of the last log's block, and how many logs of it there were.
    let mut last = (deployment.block, 0, u32::MAX);
    for (number, log) in logs.iter().enumerate() {
        let named = || format!("event {number}, in block {}", log.block);
        let (block, time, count) = last;
        if log.block == block {
            ensure!(log.time == time, "{}: its time is {}, the event before it in the block says {time}", named(), log.time);
            last.2 =
                count.checked_add(1).with_context(|| format!("{}: it is in the block of the deployment or of too many events", named()))?;
        } else {
            ensure!(log.block > block && log.time >= time, "{}: it stands after block {block} of time {time}", named());
            last = (log.block, log.time, 0);
        }
        ensure!(
            log.block <= head.block.number && log.time <= head.time,
            "{}: events were read up to block {} of time {}",
            named(),
            head.block.number,
            head.time
        );
        let event = log.event(deployment, last.2).with_context(named)?.filter(|logged| is_carried(&logged.event));
        let event = event.with_context(|| format!("{}: no payout depends on it, so it is no part of an export", named()))?;
        state.apply(&event).with_context(named)?;
    }
    Ok(state)
}

/// Epochs up to `last` that have a payout, ascending.
pub fn paid_epochs(state: &State, last: u64) -> Vec<u64> {
    state.epochs().filter(|(number, epoch)| *number <= last && epoch.payout.is_some()).map(|(number, _)| number).collect()
}
