//! The devnet's L1: the attributes that a real sequencer takes from Ethereum, made up but moving.
//!
//! Base fee 10 gwei, blob base fee 1 gwei, the scalars of OP Mainnet after Ecotone: a small transaction pays about 1.9e14 wei for L1 data.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alloy::sol_types::SolCall;
use serde_json::{Value, json};
use types::{
    encoding::Writer,
    id::{Address, Hash32},
    merkle::keccak,
};

use crate::{
    bindings::L1BlockDev,
    chain::{error::ChainError, rpc::Rpc},
};

/// Address of the predeploy on every OP chain.
pub const L1_BLOCK: Address = Address([0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x15]);
/// Sender of the protocol's own deposit transactions.
const DEPOSITOR: Address =
    Address([0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0xde, 0xad, 0, 1]);
const BASE_FEE: u128 = 10_000_000_000;
const BLOB_BASE_FEE: u128 = 1_000_000_000;
const BASE_FEE_SCALAR: u32 = 5_227;
const BLOB_BASE_FEE_SCALAR: u32 = 1_014_213;
const DEPOSIT_GAS: &str = "0xf4240";
/// L1 blocks of twelve seconds.
const L1_BLOCK_TIME_S: u64 = 12;
/// Longest wait for the first attributes: a few blocks.
const PLACE_TIMEOUT: Duration = Duration::from_secs(20);

/// The L1 as far as the L2 knows.
#[derive(Debug, Clone)]
pub struct L1 {
    /// The block that was told last.
    number: Arc<AtomicU64>,
    genesis: u64,
}

impl L1 {
    /// Puts the predeploy on the chain and gives it its first L1 block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn place(rpc: &Rpc) -> Result<Self, ChainError> {
        let code = format!("0x{}", hex::encode(&L1BlockDev::DEPLOYED_BYTECODE));
        rpc.request::<Value>("anvil_setCode", json!([L1_BLOCK, code])).await?;
        rpc.request::<Value>("anvil_impersonateAccount", json!([DEPOSITOR])).await?;
        let l1 = Self { number: Arc::default(), genesis: rpc.latest().await?.timestamp };
        l1.advance(rpc, 1).await?;
        let deadline = tokio::time::Instant::now() + PLACE_TIMEOUT;
        while l1_number(rpc).await? == 0 {
            if tokio::time::Instant::now() >= deadline {
                return Err(ChainError::TooLate { what: "its first L1 block".into(), seconds: PLACE_TIMEOUT.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(l1)
    }

    /// Moves the L1 on by one block for every `every` L2 blocks, until the chain is gone.
    pub(super) async fn advance_every(&self, rpc: &Rpc, every: u64, look: Duration) {
        let mut next = None;
        loop {
            tokio::time::sleep(look).await;
            let moved = async {
                let number = rpc.latest().await?.block.number;
                let due = *next.get_or_insert_with(|| number.saturating_add(every));
                if number >= due {
                    self.advance(rpc, 1).await?;
                    // From when it was due: a late look does not slow the L1 down.
                    next = Some(due.saturating_add(every));
                }
                Ok::<(), ChainError>(())
            };
            if let Err(error) = moved.await {
                tracing::warn!(%error, "the devnet's L1 could not advance");
            }
        }
    }

    /// Moves the L1 on by so many blocks at once, as after a pause of the sequencer. The chain knows with its next block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub(super) async fn advance(&self, rpc: &Rpc, blocks: u64) -> Result<(), ChainError> {
        let number = self.number.fetch_add(blocks, Ordering::Relaxed).wrapping_add(blocks);
        self.deposit(rpc, number).await
    }

    async fn deposit(&self, rpc: &Rpc, number: u64) -> Result<(), ChainError> {
        let source = keccak(&[b"devnet/l1/source", &number.to_be_bytes()]);
        let transaction = json!([{
            "type": "0x7e",
            "from": DEPOSITOR,
            "to": L1_BLOCK,
            "input": format!("0x{}", hex::encode(self.attributes(number))),
            "gas": DEPOSIT_GAS,
            "sourceHash": source,
            "mint": "0x0",
            "isSystemTx": false,
        }]);
        rpc.request::<Hash32>("eth_sendTransaction", transaction).await.map(|_| ())
    }

    /// Packed calldata of Isthmus.
    fn attributes(&self, number: u64) -> Vec<u8> {
        let hash = keccak(&[b"devnet/l1/block", &number.to_be_bytes()]);
        let timestamp = self.genesis.saturating_add(number.saturating_mul(L1_BLOCK_TIME_S));
        Writer::new()
            .bytes(&L1BlockDev::setL1BlockValuesIsthmusCall::SELECTOR)
            .u32(BASE_FEE_SCALAR)
            .u32(BLOB_BASE_FEE_SCALAR)
            .u64(0)
            .u64(timestamp)
            .u64(number)
            .bytes(&word(BASE_FEE))
            .bytes(&word(BLOB_BASE_FEE))
            .hash(hash)
            .hash(Hash32::ZERO)
            .u32(0)
            .u64(0)
            .finish()
    }
}

fn word(number: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&number.to_be_bytes());
    word
}

/// The L1 block number that the L2 stands at: the low eight bytes of the predeploy's first slot.
///
/// # Errors
/// [`ChainError`].
pub async fn l1_number(rpc: &Rpc) -> Result<u64, ChainError> {
    let slot: Hash32 = rpc.request("eth_getStorageAt", json!([L1_BLOCK, "0x0", "latest"])).await?;
    let low = slot.0.last_chunk().expect("32 bytes hold eight");
    Ok(u64::from_be_bytes(*low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_packed_length_of_isthmus() {
        assert_eq!(L1 { number: Arc::default(), genesis: 0 }.attributes(1).len(), 176);
    }
}
