//! The chain's events as an export holds them: logs as the chain gave them, from which the books are derived anew.

use anyhow::{Context as _, ensure};
use chain_bridge::{chain::decode, client::ChainClient, deploy::Deployment, registry::State};
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

/// One log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainLog {
    /// Its block.
    pub block: BlockRef,
    /// Time of the block.
    pub time: u64,
    /// Its transaction.
    pub transaction: Hash32,
    /// Place among the block's logs.
    pub log: u32,
    /// The contract.
    pub contract: Address,
    /// Topics.
    pub topics: Vec<Hash32>,
    /// Data, in hex.
    pub data: String,
}

impl ChainLog {
    /// Where it stands, in words.
    pub fn place(&self) -> String {
        format!("block {}, log {}", self.block.number, self.log)
    }
}

/// The suite's logs in the blocks after its deployment, up to `head`.
pub async fn read(client: &ChainClient, head: &BlockRef) -> anyhow::Result<Vec<ChainLog>> {
    let contracts = client.deployment().contracts().map(|(_, address)| address);
    let logs = client.rpc().logs(&contracts, client.deployment().block.saturating_add(1), head.number).await?;
    let mut read = Vec::with_capacity(logs.len());
    let mut last: Option<(u64, u64)> = None;
    for log in &logs {
        let place = (log.block_number, log.block_hash, log.transaction_hash, log.log_index);
        let (Some(number), Some(hash), Some(transaction), Some(index)) = place else {
            anyhow::bail!("the endpoint gives a log without its block")
        };
        let time = match (log.block_timestamp, last) {
            (Some(time), _) => time,
            (None, Some((known, time))) if known == number => time,
            (None, _) => {
                let header = client.rpc().header(number).await?;
                header.with_context(|| format!("block {number} is gone: the chain was reorganised, try again"))?.timestamp
            }
        };
        last = Some((number, time));
        read.push(ChainLog {
            block: BlockRef { number, hash: Hash32(hash.0) },
            time,
            transaction: Hash32(transaction.0),
            log: u32::try_from(index)?,
            contract: Address(log.address().into_array()),
            topics: log.topics().iter().map(|topic| Hash32(topic.0)).collect(),
            data: hex::encode(&log.data().data),
        });
    }
    Ok(read)
}

/// The books that the logs give; the first log that does not fit is named.
pub fn books(deployment: &Deployment, head: &Head, logs: &[ChainLog]) -> anyhow::Result<State> {
    let mut state = State::default();
    let mut last = (deployment.block, u32::MAX);
    for log in logs {
        let place = (log.block.number, log.log);
        let named = || format!("event at {}", log.place());
        ensure!(place > last, "{}: it stands after block {}, log {}", named(), last.0, last.1);
        ensure!(place.0 <= head.block.number, "{}: events were read up to block {}", named(), head.block.number);
        last = place;
        let raw = json!({
            "address": log.contract,
            "topics": log.topics,
            "data": format!("0x{}", log.data),
            "blockNumber": format!("0x{:x}", log.block.number),
            "blockHash": log.block.hash,
            "transactionHash": log.transaction,
            "transactionIndex": "0x0",
            "logIndex": format!("0x{:x}", log.log),
            "removed": false,
        });
        let raw = serde_json::from_value(raw).with_context(named)?;
        if let Some(event) = decode::log(deployment, &raw, log.time).with_context(named)? {
            state.apply(&event).with_context(named)?;
        }
    }
    Ok(state)
}

/// Epochs up to `last` that have a payout, ascending.
pub fn paid_epochs(state: &State, last: u64) -> Vec<u64> {
    state.epochs().filter(|(number, epoch)| *number <= last && epoch.payout.is_some()).map(|(number, _)| number).collect()
}
