//! Bytes in the data of transactions that an account sends to itself, found again by reading its blocks.
//!
//! Each chunk has a key of its own in the outbox, so that a process that was killed goes on where it stood and pays for none twice. A reader needs no help
//! of who kept them: it walks back from a block that came after (the posting of what the bytes explain), through the account's own transactions.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use types::{
    amount::Amount,
    id::{Address, BlobId},
};

use super::{
    AvailabilityError, DataAvailability,
    chunk::{Joining, chunks},
};
use crate::{
    chain::{Call, error::ChainError},
    client::{ChainClient, quote},
};

/// Blocks that are read for a blob at most, 34 minutes of a chain with a block every two seconds: four for every chunk of the largest one.
pub const SCAN_BLOCKS_MAX: u64 = 1_024;
/// Names whose progress is remembered.
const KNOWN_MAX: usize = 16;
/// The operation, as the table of gas and the outbox name it.
const WHAT: &str = "keep data on the chain";

/// What keeping bytes will cost, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Transactions.
    pub transactions: u64,
    /// Gas on the L2.
    pub gas: u64,
    /// Fee for that gas at the present price.
    pub gas_fee: Amount,
    /// Fee for the bytes on the L1 at its present prices.
    pub l1_fee: Amount,
}

/// How far the keeping of a blob is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Chunks that are in blocks.
    pub chunks: usize,
    /// Chunks in all.
    pub total: usize,
    /// The lowest block that holds one of them.
    pub first_block: Option<u64>,
    /// Gas of those that this process saw included.
    pub gas: u64,
    /// Fee for that gas.
    pub gas_fee: Amount,
    /// Fee for L1 data, as far as the execution client tells it.
    pub l1_fee: Amount,
}

impl Progress {
    /// Whether nothing is left to be sent.
    pub const fn is_whole(&self) -> bool {
        self.chunks >= self.total
    }
}

/// A block that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// Blocks read so far.
    pub blocks: u64,
    /// Blocks that are read at most.
    pub most: u64,
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The bytes with their name; nothing if no block held them.
    pub blob: Option<(BlobId, Vec<u8>)>,
    /// The lowest block that was read.
    pub from: u64,
    /// The highest.
    pub to: u64,
}

/// The calldata of one account's transactions to itself.
#[derive(Debug)]
pub struct Calldata {
    client: ChainClient,
    owner: Address,
    from: u64,
    to: Option<u64>,
    known: Mutex<BTreeMap<BlobId, Progress>>,
}

impl Calldata {
    /// The client's own account's, to keep bytes in; read back from the latest block.
    ///
    /// # Errors
    /// [`ChainError::NoAccount`].
    pub fn own(client: ChainClient) -> Result<Self, ChainError> {
        let owner = client.account(WHAT)?.address();
        Ok(Self { client, owner, from: 0, to: None, known: Mutex::default() })
    }

    /// What `owner` kept in the blocks `from..=to`, of which the last [`SCAN_BLOCKS_MAX`] are read.
    pub fn of(client: ChainClient, owner: Address, from: u64, to: u64) -> Self {
        Self { client, owner, from, to: Some(to), known: Mutex::default() }
    }

    /// What keeping `bytes` will cost; what is kept of them already is not taken off.
    ///
    /// # Errors
    /// [`AvailabilityError::TooLong`], [`AvailabilityError::Chain`].
    pub async fn cost(&self, bytes: &[u8]) -> Result<Cost, AvailabilityError> {
        let account = self.client.account(WHAT)?;
        let fees = self.client.rpc().fees().await?;
        let mut cost = Cost { transactions: 0, gas: 0, gas_fee: Amount::ZERO, l1_fee: Amount::ZERO };
        // The first stands for the others: all but the last are equally long.
        let mut first: Option<(u64, quote::Quote)> = None;
        for data in chunks(bytes)? {
            let length = super::len(&data);
            let (of, quoted) = match &first {
                Some((of, quoted)) => (*of, quoted),
                None => {
                    let call = Call { to: Some(self.owner), data, value: Amount::ZERO };
                    let gas = self.client.rpc().estimate(self.owner, &call).await?;
                    let quoted = quote::quote(self.client.rpc(), account, WHAT, &call, Some((gas, gas)), fees).await?;
                    let (of, quoted) = first.insert((length, quoted));
                    (*of, &*quoted)
                }
            };
            let part = |whole: u128| whole.saturating_mul(u128::from(length)) / u128::from(of.max(1));
            let gas = u64::try_from(part(u128::from(quoted.estimate))).unwrap_or(u64::MAX);
            cost.transactions += 1;
            cost.gas = cost.gas.saturating_add(gas);
            cost.gas_fee = Amount(cost.gas_fee.0.saturating_add(quoted.price.saturating_mul(u128::from(gas))));
            cost.l1_fee = Amount(cost.l1_fee.0.saturating_add(part(quoted.l1_fee.0)));
        }
        Ok(cost)
    }

    /// Keeps bytes, at most `most` further chunks of them now; says how far that is. What an earlier process sent is found in the outbox, and not paid for again.
    ///
    /// # Errors
    /// [`AvailabilityError::TooLong`], [`AvailabilityError::Chain`].
    pub async fn put_some(&self, bytes: &[u8], most: usize) -> Result<Progress, AvailabilityError> {
        let blob = BlobId::of(bytes);
        let mut progress = self.progress(blob);
        progress.total = chunks(bytes)?.count();
        let sender = self.client.sender(WHAT)?;
        for (index, data) in chunks(bytes)?.enumerate().skip(progress.chunks).take(most) {
            let call = Call { to: Some(self.owner), data, value: Amount::ZERO };
            let sent = sender.send(WHAT, Some(&format!("blob/{blob}/{index}")), call).await?;
            let fee = sent.gas_price.saturating_mul(u128::from(sent.gas_used));
            progress.chunks += 1;
            progress.first_block = Some(progress.first_block.map_or(sent.block.number, |first| first.min(sent.block.number)));
            progress.gas = progress.gas.saturating_add(sent.gas_used);
            progress.gas_fee = Amount(progress.gas_fee.0.saturating_add(fee));
            progress.l1_fee = Amount(progress.l1_fee.0.saturating_add(sent.l1_fee.unwrap_or_default().0));
            self.note(blob, progress);
        }
        Ok(progress)
    }

    /// How far a blob is, as this process knows.
    pub fn progress(&self, blob: BlobId) -> Progress {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&blob).copied().unwrap_or_default()
    }

    fn note(&self, blob: BlobId, progress: Progress) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(&blob) {
            known.pop_first();
        }
        known.insert(blob, progress);
    }

    /// The first blob, going back block by block, that has at most `most` bytes and passes `is_it`; `looked` is told of each block.
    ///
    /// # Errors
    /// [`AvailabilityError::Chain`].
    pub async fn find(
        &self,
        most: u64,
        mut looked: impl FnMut(Looked) + Send,
        mut is_it: impl FnMut(BlobId, &[u8]) -> bool + Send,
    ) -> Result<Found, AvailabilityError> {
        let to = match self.to {
            Some(to) => to,
            None => self.client.latest().await?.block.number,
        };
        let from = self.from.max(to.saturating_sub(SCAN_BLOCKS_MAX - 1));
        let most_blocks = to.saturating_sub(from).saturating_add(1);
        let mut joining = Joining::new(self.owner, most);
        for number in (from..=to).rev() {
            for sent in self.client.rpc().sent_by(self.owner, number).await? {
                if let Some((blob, bytes)) = joining.take(self.owner, sent.to, &sent.data)
                    && is_it(blob, &bytes)
                {
                    return Ok(Found { blob: Some((blob, bytes)), from: number, to });
                }
            }
            looked(Looked { blocks: to - number + 1, most: most_blocks });
        }
        Ok(Found { blob: None, from, to })
    }
}

impl DataAvailability for Calldata {
    type Error = AvailabilityError;

    async fn put(&self, bytes: &[u8]) -> Result<BlobId, AvailabilityError> {
        self.put_some(bytes, usize::MAX).await?;
        Ok(BlobId::of(bytes))
    }

    async fn get(&self, blob: BlobId, most: u64) -> Result<Option<Vec<u8>>, AvailabilityError> {
        let found = self.find(most, |_| {}, |name, _| name == blob).await?;
        Ok(found.blob.map(|(_, bytes)| bytes))
    }
}
