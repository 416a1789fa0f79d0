//! What a node must not forget: requests begun, what each lane stands at, receipts signed, and which of them were posted.
//!
//! Every change is durable before the call returns; a receipt and the lane it moves are written in one step, so a crash leaves both or
//! neither. Size: one 34-byte key per request, about 700 bytes per lane, one bundle (about 10 KB) per receipt.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use attribution::bundle::Bundle;
use serde::{Deserialize, Serialize};
use storage::store::{KeyValue, RecordError, Records};
use types::{
    amount::{Amount, AmountError},
    id::{Address, Hash32},
    key::Signed,
    voucher::{Lane, Voucher},
};

const REQUESTS: &str = "requests";
const LANES: &str = "lanes";
const RECEIPTS: &str = "receipts";
const EPOCHS: &str = "epochs";
const MARKS: &str = "marks";
/// Receipts ever signed.
const SIGNED: &[u8] = b"signed";
/// Receipts posted in some epoch; the rest follow in order.
const POSTED: &[u8] = b"posted";
/// Starts of the node.
const INCARNATION: &[u8] = b"incarnation";
/// Records read in one step of a scan.
const SCAN: usize = 256;

/// Why the books cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] RecordError),
    /// A record does not parse.
    #[error("record {key} in {table} is damaged: {why}")]
    Damaged {
        /// Table.
        table: &'static str,
        /// Key, hex.
        key: String,
        /// What the parser said.
        why: String,
    },
    /// A sum does not fit.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

/// A lane with the last voucher that a receipt stands on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneRecord {
    /// The lane.
    pub lane: Signed<Lane>,
    /// Last receipted voucher.
    pub voucher: Signed<Voucher>,
    /// Collected so far.
    pub collected: Amount,
}

/// Receipts of one epoch: places in the node's own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// First receipt.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// The books, over the node's durable records.
#[derive(Debug)]
pub struct Books {
    records: Records,
    /// Held while a number is taken and the record that uses it is written.
    writing: Mutex<()>,
    busy: Mutex<BTreeSet<Hash32>>,
}

/// A lane held by one answer; no other may be paid by it meanwhile.
#[derive(Debug)]
pub struct BusyLane<'b> {
    books: &'b Books,
    lane: Hash32,
}

impl Drop for BusyLane<'_> {
    fn drop(&mut self) {
        self.books.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.lane);
    }
}

fn damaged(table: &'static str, key: &[u8], why: impl ToString) -> BooksError {
    BooksError::Damaged { table, key: hex::encode(key), why: why.to_string() }
}

impl Books {
    /// The books in `records`.
    pub const fn new(records: Records) -> Self {
        Self { records, writing: Mutex::new(()), busy: Mutex::new(BTreeSet::new()) }
    }

    /// The records underneath, for what other services keep.
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Holds a lane for one answer; nothing while another answer holds it.
    pub fn hold_lane(&self, lane: Hash32) -> Option<BusyLane<'_>> {
        let is_free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(lane);
        is_free.then_some(BusyLane { books: self, lane })
    }

    /// Notes that an attempt at a request was begun; false if it was before.
    pub fn begin_request(&self, request: Hash32, attempt: u16) -> Result<bool, BooksError> {
        let key = [&request.0[..], &attempt.to_be_bytes()].concat();
        Ok(self.records.insert_new(REQUESTS, &key, &[])?)
    }

    /// What the last receipt left a lane at; zero for a new one.
    pub fn lane_cumulative(&self, lane: Hash32) -> Result<Amount, BooksError> {
        Ok(self.lane(lane)?.map_or(Amount::ZERO, |record| record.voucher.document.cumulative))
    }

    fn lane(&self, lane: Hash32) -> Result<Option<LaneRecord>, BooksError> {
        let Some(bytes) = self.records.get(LANES, &lane.0)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(LANES, &lane.0, error))
    }

    /// All lanes with a receipt, in order of their ids.
    pub fn lanes(&self) -> Result<Vec<LaneRecord>, BooksError> {
        let rows = self.scan_all(LANES)?;
        rows.iter().map(|(key, bytes)| serde_json::from_slice(bytes).map_err(|error| damaged(LANES, key, error))).collect()
    }

    fn scan_all(&self, table: &'static str) -> Result<Vec<KeyValue>, BooksError> {
        let (mut all, mut from) = (Vec::new(), Vec::new());
        loop {
            let rows = self.records.scan(table, &from, SCAN)?;
            let Some((last, _)) = rows.last() else { return Ok(all) };
            from.clone_from(last);
            from.push(0);
            all.extend(rows);
        }
    }

    /// Receipted but not collected yet from `payer`.
    pub fn uncollected(&self, payer: Address) -> Result<Amount, BooksError> {
        let lanes = self.lanes()?;
        let of_payer = lanes.iter().filter(|record| record.lane.document.payer == payer);
        let owed = of_payer.map(|record| record.voucher.document.cumulative.minus(record.collected)).collect::<Result<Vec<_>, _>>()?;
        Ok(Amount::sum(owed)?)
    }

    /// Keeps a signed receipt with its evidence and moves its lane, in one step.
    pub fn keep_receipt(&self, bundle: &Bundle, lane: &Signed<Lane>, voucher: &Signed<Voucher>) -> Result<u64, BooksError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.mark(SIGNED)?;
        let collected = self.lane(lane.document.id())?.map_or(Amount::ZERO, |record| record.collected);
        let record = LaneRecord { lane: lane.clone(), voucher: voucher.clone(), collected };
        let to_json = |error: serde_json::Error| damaged(RECEIPTS, &number.to_be_bytes(), error);
        let (bundle, record) = (serde_json::to_vec(bundle).map_err(to_json)?, serde_json::to_vec(&record).map_err(to_json)?);
        self.records.put_all(&[
            (RECEIPTS, &number.to_be_bytes(), &bundle),
            (LANES, &lane.document.id().0, &record),
            (MARKS, SIGNED, &(number + 1).to_be_bytes()),
        ])?;
        Ok(number)
    }

    /// Notes what the chain has collected on a lane.
    pub fn collected(&self, lane: Hash32, collected: Amount) -> Result<(), BooksError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut record) = self.lane(lane)? {
            record.collected = record.collected.max(collected);
            let bytes = serde_json::to_vec(&record).map_err(|error| damaged(LANES, &lane.0, error))?;
            self.records.put(LANES, &lane.0, &bytes)?;
        }
        Ok(())
    }

    fn mark(&self, name: &'static [u8]) -> Result<u64, BooksError> {
        let Some(bytes) = self.records.get(MARKS, name)? else { return Ok(0) };
        bytes.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| damaged(MARKS, name, "not eight bytes"))
    }

    /// Counts a start of the node.
    pub fn next_incarnation(&self) -> Result<u64, BooksError> {
        let next = self.mark(INCARNATION)? + 1;
        self.records.put(MARKS, INCARNATION, &next.to_be_bytes())?;
        Ok(next)
    }

    /// Receipts signed, and how many of them were posted.
    pub fn counts(&self) -> Result<(u64, u64), BooksError> {
        Ok((self.mark(SIGNED)?, self.mark(POSTED)?))
    }

    /// Receipts `first` to `first + count`, in order.
    pub fn receipts(&self, posting: Posting) -> Result<Vec<Bundle>, BooksError> {
        let numbers = posting.first..posting.first.saturating_add(posting.count);
        numbers
            .map(|number| {
                let key = number.to_be_bytes();
                let bytes = self.records.get(RECEIPTS, &key)?.ok_or_else(|| damaged(RECEIPTS, &key, "missing"))?;
                serde_json::from_slice(&bytes).map_err(|error| damaged(RECEIPTS, &key, error))
            })
            .collect()
    }

    /// Notes which receipts an epoch's root covers; those of later epochs follow after them.
    pub fn posted(&self, epoch: u64, posting: Posting) -> Result<(), BooksError> {
        let bytes = serde_json::to_vec(&posting).map_err(|error| damaged(EPOCHS, &epoch.to_be_bytes(), error))?;
        let next = posting.first.saturating_add(posting.count);
        self.records.put_all(&[(EPOCHS, &epoch.to_be_bytes(), &bytes), (MARKS, POSTED, &next.to_be_bytes())])?;
        Ok(())
    }

    /// Which receipts an epoch's root covers.
    pub fn posting(&self, epoch: u64) -> Result<Option<Posting>, BooksError> {
        let Some(bytes) = self.records.get(EPOCHS, &epoch.to_be_bytes())? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(EPOCHS, &epoch.to_be_bytes(), error))
    }
}
