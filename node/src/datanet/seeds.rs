//! Seeds of epochs: the hashes of the blocks they begin with. Whoever checks a record needs one for every epoch in which something moved, and an auditor checks thousands of
//! records whose moves share a few epochs. So what is final is asked for once; what may be replaced is asked for each time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use chain_bridge::client::ChainClient;
use types::{id::Hash32, key::Domains};

use crate::chain::Snapshots;

/// Hashes kept: 60 bytes each, 245 kB. Epochs of a day for eleven years.
const KNOWN_MAX: usize = 4_096;

/// Final blocks' hashes by number.
type Known = Mutex<BTreeMap<u64, Hash32>>;

/// The seeds of a chain's epochs.
#[derive(Debug)]
pub struct Seeds {
    chain: ChainClient,
    snapshots: Snapshots,
    epoch_blocks: u64,
    known: Known,
}

impl Seeds {
    /// Of epochs of so many blocks.
    pub const fn new(chain: ChainClient, snapshots: Snapshots, epoch_blocks: u64) -> Self {
        Self { chain, snapshots, epoch_blocks, known: Mutex::new(BTreeMap::new()) }
    }

    /// Whose signatures count on the chain.
    pub fn domains(&self) -> Domains {
        self.chain.domains()
    }

    /// The seed of an epoch; nothing if the chain has not come so far.
    ///
    /// # Errors
    /// The chain's.
    pub async fn of(&self, epoch: u64) -> anyhow::Result<Option<Hash32>> {
        let Some(number) = epoch.checked_mul(self.epoch_blocks) else { return Ok(None) };
        let is_final = number <= self.snapshots.borrow().final_block.number;
        let asked = async { Ok(self.chain.block(number).await?.map(|block| block.hash)) };
        through(&self.known, number, is_final, asked).await
    }
}

/// A block's hash, `asked` for if it is not known; kept if it is final.
async fn through(
    known: &Known,
    number: u64,
    is_final: bool,
    asked: impl Future<Output = anyhow::Result<Option<Hash32>>>,
) -> anyhow::Result<Option<Hash32>> {
    let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = lock().get(&number).copied();
    if kept.is_some() {
        return Ok(kept);
    }
    let hash = asked.await?;
    if let Some(hash) = hash.filter(|_| is_final) {
        let mut known = lock();
        if known.len() >= KNOWN_MAX {
            // The oldest epoch is named by the fewest records.
            known.pop_first();
        }
        known.insert(number, hash);
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_is_final_is_asked_for_once_and_what_may_be_replaced_each_time() {
        let (known, asked) = (Known::default(), Cell::new(0));
        let ask = |number: u64| {
            let asked = &asked;
            async move {
                asked.set(asked.get() + 1);
                Ok((number < 100).then_some(Hash32([u8::try_from(asked.get()).unwrap(); 32])))
            }
        };
        for _ in 0..5_000 {
            assert_eq!(through(&known, 7, true, ask(7)).await.unwrap(), Some(Hash32([1; 32])));
        }
        assert_eq!(asked.get(), 1, "five thousand records of one epoch");
        for times in 2..5 {
            assert_eq!(through(&known, 50, false, ask(50)).await.unwrap(), Some(Hash32([times; 32])), "it was reorganised");
        }
        assert_eq!(through(&known, 100, true, ask(100)).await.unwrap(), None);
        assert_eq!(through(&known, 100, true, ask(100)).await.unwrap(), None);
        assert_eq!((asked.get(), known.lock().unwrap().len()), (6, 1), "a block that is not there is asked for again");
        let failed = through(&known, 8, true, async { anyhow::bail!("the chain is away") }).await;
        assert!(failed.is_err() && known.lock().unwrap().len() == 1);
    }

    #[tokio::test]
    async fn no_more_are_kept_than_there_is_room_for() {
        let known = Known::default();
        for number in 0..5_000 {
            through(&known, number, true, async { Ok(Some(Hash32::ZERO)) }).await.unwrap();
        }
        let known = known.lock().unwrap();
        assert_eq!((known.len(), known.first_key_value().map(|(first, _)| *first)), (KNOWN_MAX, Some(5_000 - 4_096)));
    }
}
