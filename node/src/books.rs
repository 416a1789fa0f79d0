//! What a node must not forget: requests begun, what each lane stands at, receipts signed, and which of them were posted.
//!
//! Every change is durable before the call returns; a receipt and the lane it moves are written in one step, so a crash leaves both or
//! neither. Size: about 1.5 KB per request begun, 700 bytes per lane, one bundle (about 10 KB) per receipt; of answers that are not open the bundle is
//! without question and answer (3 KB), and those of the class `checked` lie beside it sealed ([`texts`]) for as long as they may be checked.

pub mod log;
pub mod roots;
pub mod texts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use attribution::bundle::Bundle;
use inference::proto::message::Delivered;
use serde::{Deserialize, Serialize};
use storage::store::{KeyValue, RecordError, Records};
use types::{
    amount::{Amount, AmountError},
    encoding::Document as _,
    id::{Address, Hash32},
    key::Signed,
    receipt::Receipt,
    voucher::{Lane, Voucher},
};

use self::{
    roots::{RootError, Roots},
    texts::Text,
};

const REQUESTS: &str = "requests";
const LANES: &str = "lanes";
const RECEIPTS: &str = "receipts";
/// By request and attempt: what became of it ([`Outcome`]), kept before it is said.
const OUTCOMES: &str = "outcomes";
/// By request: the output token behind the last one that a receipt of this node bills.
const BILLED: &str = "billed";
const EPOCHS: &str = "epochs";
/// By epoch and root: what it covers, and what waited then.
const INTENTS: &str = "intents";
const MARKS: &str = "marks";
/// Receipts ever signed.
const SIGNED: &[u8] = b"signed";
/// Receipts that were looked at for posting; the rest follow in order.
const POSTED: &[u8] = b"posted";
/// Receipts looked at and not posted, because their lane was not collected as far or the chain dropped their root: numbers as JSON.
const UNFUNDED: &[u8] = b"unfunded";
/// The first epoch whose posting may still be dropped by the chain.
const UNSETTLED: &[u8] = b"unsettled";
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
    /// A receipt would be under two roots.
    #[error(transparent)]
    Root(#[from] RootError),
}

/// A lane with the last voucher that a receipt stands on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneRecord {
    /// The lane.
    pub lane: Signed<Lane>,
    /// The session key that signed both; nothing if the payer did.
    #[serde(default)]
    pub session: Option<Address>,
    /// Last receipted voucher.
    pub voucher: Signed<Voucher>,
    /// Collected so far.
    pub collected: Amount,
}

/// An attempt at a request that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// Who signs its lane and vouchers, and may ask what became of it.
    pub signer: Address,
    /// What is signed of it if it ends without a bill.
    pub unbilled: Receipt,
    /// Salt of that receipt's answer root.
    pub answer_salt: Hash32,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// The receipt of this number bills it.
    Billed(u64),
    /// A signed receipt says that it bills nothing.
    Unbilled(Box<Delivered>),
}

/// Receipts of one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// Their numbers in the order of the epoch's tree, ascending.
    pub numbers: Vec<u64>,
}

/// A root before it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Epoch.
    pub epoch: u64,
    /// What its root covers.
    pub posting: Posting,
    /// What was looked at and waits: for its lane to be collected, or for room under a later root.
    pub unfunded: Vec<u64>,
    /// Receipts before this number were looked at.
    pub seen: u64,
}

/// What is still to be posted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unposted {
    /// Receipts for the next root, those that waited first.
    pub numbers: Vec<u64>,
    /// Receipts that waited before and find no room among those.
    pub later: Vec<u64>,
    /// Where the next look begins.
    pub seen: u64,
}

/// The books, over the node's durable records.
#[derive(Debug)]
pub struct Books {
    records: Records,
    /// Held while a number is taken and the record that uses it is written.
    writing: Mutex<()>,
    busy: Mutex<Busy>,
}

/// What the answers under way hold.
#[derive(Debug, Default)]
struct Busy {
    lanes: BTreeMap<Hash32, Aside>,
    requests: BTreeSet<Hash32>,
}

/// What is set aside for the answer that a lane pays.
#[derive(Debug, Clone, Copy, Default)]
struct Aside {
    payer: Address,
    /// The session key that signs for it; nothing if the payer does.
    session: Option<Address>,
    amount: Amount,
}

/// What another answer under way holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The lane.
    Lane,
    /// The request.
    Request,
}

/// The lane and the request of one answer: no other is paid by the lane or bills the request meanwhile.
#[derive(Debug)]
pub struct Held<'b> {
    books: &'b Books,
    lane: Hash32,
    request: Hash32,
}

impl Held<'_> {
    /// What other answers under way hold of `payer`'s deposit.
    pub fn reserved(&self, payer: Address) -> Amount {
        self.others(&self.books.busy.lock().unwrap_or_else(PoisonError::into_inner), |aside| aside.payer == payer)
    }

    /// Sets aside up to `want` of what `payer` has free (`free` wei, before what its other answers under way hold), and no more than its session key
    /// is still good for, if one signs (its wei too are counted before other answers); returns how much.
    pub fn reserve(&self, payer: Address, session: Option<(Address, Amount)>, free: Amount, want: Amount) -> Amount {
        let mut busy = self.books.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut granted = want.min(free.minus(self.others(&busy, |aside| aside.payer == payer)).unwrap_or_default());
        if let Some((signer, left)) = session {
            let others = self.others(&busy, |aside| aside.payer == payer && aside.session == Some(signer));
            granted = granted.min(left.minus(others).unwrap_or_default());
        }
        busy.lanes.insert(self.lane, Aside { payer, session: session.map(|(signer, _)| signer), amount: granted });
        granted
    }

    fn others(&self, busy: &Busy, is_counted: impl Fn(&Aside) -> bool) -> Amount {
        let others = busy.lanes.iter().filter(|(lane, aside)| **lane != self.lane && is_counted(aside));
        Amount(others.fold(0_u128, |sum, (_, aside)| sum.saturating_add(aside.amount.0)))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut busy = self.books.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.lanes.remove(&self.lane);
        busy.requests.remove(&self.request);
    }
}

/// One request, held while it is looked at: none of its attempts is begun meanwhile.
#[derive(Debug)]
pub struct HeldRequest<'b> {
    books: &'b Books,
    request: Hash32,
}

impl Drop for HeldRequest<'_> {
    fn drop(&mut self) {
        self.books.busy.lock().unwrap_or_else(PoisonError::into_inner).requests.remove(&self.request);
    }
}

fn request_key(request: Hash32, attempt: u16) -> Vec<u8> {
    [&request.0[..], &attempt.to_be_bytes()].concat()
}

fn intent_key(epoch: u64, root: Hash32) -> Vec<u8> {
    [&epoch.to_be_bytes()[..], &root.0].concat()
}

fn damaged(table: &'static str, key: &[u8], why: impl ToString) -> BooksError {
    BooksError::Damaged { table, key: hex::encode(key), why: why.to_string() }
}

impl Books {
    /// The books in `records`.
    pub const fn new(records: Records) -> Self {
        Self { records, writing: Mutex::new(()), busy: Mutex::new(Busy { lanes: BTreeMap::new(), requests: BTreeSet::new() }) }
    }

    /// The records underneath, for what other services keep.
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Holds lane and request for one answer.
    ///
    /// # Errors
    /// [`Taken`]: which of them another answer holds.
    pub fn hold(&self, lane: Hash32, request: Hash32) -> Result<Held<'_>, Taken> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.lanes.contains_key(&lane) {
            return Err(Taken::Lane);
        }
        if !busy.requests.insert(request) {
            return Err(Taken::Request);
        }
        busy.lanes.insert(lane, Aside::default());
        Ok(Held { books: self, lane, request })
    }

    /// The output token behind the last one that a receipt of this node bills for a request: billing an earlier one again would convict it (F3).
    pub fn billed_to(&self, request: Hash32) -> Result<u32, BooksError> {
        let Some(bytes) = self.records.get(BILLED, &request.0)? else { return Ok(0) };
        bytes.as_slice().try_into().map(u32::from_be_bytes).map_err(|_| damaged(BILLED, &request.0, "not four bytes"))
    }

    /// Holds a request alone; nothing if an answer to it is under way.
    pub fn hold_request(&self, request: Hash32) -> Option<HeldRequest<'_>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        // Made only if it is held: dropping one lets go of the request, and takes this lock.
        let is_free = busy.requests.insert(request);
        is_free.then(|| HeldRequest { books: self, request })
    }

    /// Notes that an attempt at a request was begun; false if it was before.
    pub fn begin_request(&self, request: Hash32, attempt: u16, begun: &Begun) -> Result<bool, BooksError> {
        let key = request_key(request, attempt);
        let bytes = serde_json::to_vec(begun).map_err(|error| damaged(REQUESTS, &key, error))?;
        Ok(self.records.insert_new(REQUESTS, &key, &bytes)?)
    }

    /// What was noted when an attempt was begun; nothing if it was not, or by a build that noted no more than that.
    pub fn begun(&self, request: Hash32, attempt: u16) -> Result<Option<Begun>, BooksError> {
        let key = request_key(request, attempt);
        match self.records.get(REQUESTS, &key)? {
            Some(bytes) if !bytes.is_empty() => serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(REQUESTS, &key, error)),
            _ => Ok(None),
        }
    }

    /// What became of an attempt; nothing while nothing was signed of it.
    pub fn outcome(&self, request: Hash32, attempt: u16) -> Result<Option<Outcome>, BooksError> {
        let key = request_key(request, attempt);
        let Some(bytes) = self.records.get(OUTCOMES, &key)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(OUTCOMES, &key, error))
    }

    /// Keeps the receipt that bills nothing of an attempt, before it is sent; false if something was signed of the attempt before.
    pub fn keep_unbilled(&self, delivered: &Delivered) -> Result<bool, BooksError> {
        let key = request_key(delivered.receipt.request, delivered.receipt.attempt);
        let outcome = Outcome::Unbilled(Box::new(delivered.clone()));
        let bytes = serde_json::to_vec(&outcome).map_err(|error| damaged(OUTCOMES, &key, error))?;
        Ok(self.records.insert_new(OUTCOMES, &key, &bytes)?)
    }

    /// What a lane's last receipt left; nothing for a new one.
    pub fn lane(&self, lane: Hash32) -> Result<Option<LaneRecord>, BooksError> {
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

    /// Receipted but not collected yet from `payer`; only by the signature of a session key, if one is given.
    pub fn uncollected(&self, payer: Address, session: Option<Address>) -> Result<Amount, BooksError> {
        let lanes = self.lanes()?;
        let is_counted = |record: &&LaneRecord| record.lane.document.payer == payer && (session.is_none() || record.session == session);
        let of_payer = lanes.iter().filter(is_counted);
        // A payer may have collected a later voucher itself: then nothing is owed.
        let owed = of_payer.map(|record| record.voucher.document.cumulative.minus(record.collected).unwrap_or_default());
        Ok(Amount::sum(owed)?)
    }

    /// Keeps a signed receipt with its evidence and its entry in the log, and moves its lane, in one step.
    pub fn keep_receipt(&self, bundle: &Bundle, lane: &Signed<Lane>, voucher: &Signed<Voucher>) -> Result<u64, BooksError> {
        self.keep(bundle, lane, voucher, None)
    }

    fn keep(&self, bundle: &Bundle, lane: &Signed<Lane>, voucher: &Signed<Voucher>, text: Option<&Text>) -> Result<u64, BooksError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.mark(SIGNED)?;
        let collected = self.lane(lane.document.id())?.map_or(Amount::ZERO, |record| record.collected);
        let record = LaneRecord { lane: lane.clone(), session: bundle.session, voucher: voucher.clone(), collected };
        let to_json = |error: serde_json::Error| damaged(RECEIPTS, &number.to_be_bytes(), error);
        let receipt = &bundle.receipt.document;
        let billed = receipt.first_token.saturating_add(receipt.tokens_out).max(self.billed_to(receipt.request)?);
        let (request, attempt) = (receipt.request, request_key(receipt.request, receipt.attempt));
        let outcome = serde_json::to_vec(&Outcome::Billed(number)).map_err(to_json)?;
        let logged = receipt.hash();
        let sealed = text.map(|text| self.with_text(number, receipt, text)).transpose()?;
        let (bundle, record) = (serde_json::to_vec(bundle).map_err(to_json)?, serde_json::to_vec(&record).map_err(to_json)?);
        let (id, lane_id, billed, next) = (number.to_be_bytes(), lane.document.id(), billed.to_be_bytes(), (number + 1).to_be_bytes());
        let mut records: Vec<(&str, &[u8], &[u8])> = vec![
            (RECEIPTS, &id, &bundle),
            (log::ENTRIES, &id, &logged.0),
            (LANES, &lane_id.0, &record),
            (BILLED, &request.0, &billed),
            (OUTCOMES, &attempt, &outcome),
            (MARKS, SIGNED, &next),
        ];
        records.extend(sealed.iter().flatten().map(|(table, key, value)| (*table, &key[..], &value[..])));
        self.records.put_all(&records)?;
        if text.is_some() {
            self.make_room(texts::BYTES_MAX)?;
        }
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
        let unfunded = u64::try_from(self.unfunded()?.len()).unwrap_or(u64::MAX);
        Ok((self.mark(SIGNED)?, self.mark(POSTED)?.saturating_sub(unfunded)))
    }

    /// The receipts that are under no root yet, at most `most` of them for the next one.
    pub fn unposted(&self, most: usize) -> Result<Unposted, BooksError> {
        let (numbers, later, seen) = self.roots()?.next(most, self.mark(SIGNED)?);
        Ok(Unposted { numbers, later, seen })
    }

    /// The roots that are not final yet, and what waits for one.
    pub fn roots(&self) -> Result<Roots, BooksError> {
        let signed = self.unsettled()?.into_iter().map(|(epoch, posting)| (epoch, posting.numbers)).collect();
        Ok(Roots { signed, waiting: self.unfunded()?, seen: self.mark(POSTED)? })
    }

    fn unfunded(&self) -> Result<Vec<u64>, BooksError> {
        let Some(bytes) = self.records.get(MARKS, UNFUNDED)? else { return Ok(Vec::new()) };
        serde_json::from_slice(&bytes).map_err(|error| damaged(MARKS, UNFUNDED, error))
    }

    /// Receipts by number.
    pub fn receipts(&self, numbers: &[u64]) -> Result<Vec<Bundle>, BooksError> {
        numbers
            .iter()
            .map(|number| {
                let key = number.to_be_bytes();
                let bytes = self.records.get(RECEIPTS, &key)?.ok_or_else(|| damaged(RECEIPTS, &key, "missing"))?;
                serde_json::from_slice(&bytes).map_err(|error| damaged(RECEIPTS, &key, error))
            })
            .collect()
    }

    /// Gives receipts to a root, on disk before it is signed: from then on they are its own until [`Books::take_back`]. One that covers nothing only notes
    /// what waits.
    ///
    /// # Errors
    /// [`BooksError::Root`] if another root may hold one of them, or the epoch has a root.
    pub fn sign(&self, intent: &Intent, root: Hash32) -> Result<(), BooksError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut roots = self.roots()?;
        roots.sign(intent.epoch, intent.posting.numbers.clone(), intent.unfunded.clone(), intent.seen)?;
        self.put_root(intent, root, &roots)
    }

    /// Notes a root that stands on the chain and that [`Books::sign`] did not note: earlier versions did so only once the chain had it.
    pub fn adopt(&self, intent: &Intent, root: Hash32) -> Result<(), BooksError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut roots = self.roots()?;
        roots.adopt(intent.epoch, intent.posting.numbers.clone());
        self.put_root(intent, root, &roots)
    }

    fn put_root(&self, intent: &Intent, root: Hash32, roots: &Roots) -> Result<(), BooksError> {
        let (epoch, key, seen) = (intent.epoch.to_be_bytes(), intent_key(intent.epoch, root), roots.seen.to_be_bytes());
        let to_json = |error: serde_json::Error| damaged(EPOCHS, &epoch, error);
        let (posting, all) = (serde_json::to_vec(&intent.posting).map_err(to_json)?, serde_json::to_vec(intent).map_err(to_json)?);
        let waiting = serde_json::to_vec(&roots.waiting).map_err(to_json)?;
        let mut records: Vec<(&str, &[u8], &[u8])> = vec![(MARKS, POSTED, &seen), (MARKS, UNFUNDED, &waiting)];
        if !intent.posting.numbers.is_empty() {
            records.extend([(EPOCHS, &epoch[..], &posting[..]), (INTENTS, &key, &all)]);
        }
        Ok(self.records.put_all(&records)?)
    }

    /// What a root of this node covers.
    pub fn intent(&self, epoch: u64, root: Hash32) -> Result<Option<Intent>, BooksError> {
        let key = intent_key(epoch, root);
        let Some(bytes) = self.records.get(INTENTS, &key)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(INTENTS, &key, error))
    }

    /// Which receipts an epoch's root covers, whether the chain has it or not; nothing if this node signed none, or the chain dropped its root for good.
    pub fn posting(&self, epoch: u64) -> Result<Option<Posting>, BooksError> {
        let Some(bytes) = self.records.get(EPOCHS, &epoch.to_be_bytes())? else { return Ok(None) };
        let posting: Posting = serde_json::from_slice(&bytes).map_err(|error| damaged(EPOCHS, &epoch.to_be_bytes(), error))?;
        Ok(Some(posting).filter(|posting| !posting.numbers.is_empty()))
    }

    /// The postings that the chain may still drop, by epoch: those from [`Books::settled_before`] on.
    pub fn unsettled(&self) -> Result<Vec<(u64, Posting)>, BooksError> {
        let mut found = Vec::new();
        let mut from = self.mark(UNSETTLED)?.to_be_bytes().to_vec();
        loop {
            let rows = self.records.scan(EPOCHS, &from, SCAN)?;
            let Some((last, _)) = rows.last() else { return Ok(found) };
            from.clone_from(last);
            from.push(0);
            for (key, bytes) in rows {
                let epoch = key.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| damaged(EPOCHS, &key, "not eight bytes"))?;
                let posting: Posting = serde_json::from_slice(&bytes).map_err(|error| damaged(EPOCHS, &key, error))?;
                if !posting.numbers.is_empty() {
                    found.push((epoch, posting));
                }
            }
        }
    }

    /// Notes that no posting of an epoch before `epoch` can be dropped any more.
    pub fn settled_before(&self, epoch: u64) -> Result<(), BooksError> {
        Ok(self.records.put(MARKS, UNSETTLED, &epoch.to_be_bytes())?)
    }

    /// The chain dropped an epoch's root for good: its receipts are under none again and come first. Returns how many there are.
    pub fn take_back(&self, epoch: u64) -> Result<usize, BooksError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut roots = self.roots()?;
        let (count, key) = (roots.take_back(epoch), epoch.to_be_bytes());
        if count == 0 {
            return Ok(0);
        }
        let to_json = |error: serde_json::Error| damaged(EPOCHS, &key, error);
        let none = serde_json::to_vec(&Posting::default()).map_err(to_json)?;
        let waiting = serde_json::to_vec(&roots.waiting).map_err(to_json)?;
        self.records.put_all(&[(MARKS, UNFUNDED, &waiting), (EPOCHS, &key, &none)])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use storage::store::{Config, Store};

    use super::*;

    fn books(folder: &std::path::Path) -> Books {
        Books::new(Store::open(folder, Config::default()).unwrap().records())
    }

    fn intent(epoch: u64, numbers: &[u64], unfunded: &[u64], seen: u64) -> Intent {
        Intent { epoch, posting: Posting { numbers: numbers.to_vec() }, unfunded: unfunded.to_vec(), seen }
    }

    #[test]
    fn receipts_of_a_dropped_root_come_first_again_once() {
        let folder = tempfile::tempdir().unwrap();
        let books = books(folder.path());
        books.records.put(MARKS, SIGNED, &6_u64.to_be_bytes()).unwrap();
        books.sign(&intent(1, &[0, 1], &[], 2), Hash32([1; 32])).unwrap();
        let twice = books.sign(&intent(2, &[1, 2], &[], 3), Hash32([2; 32])).unwrap_err();
        assert!(matches!(twice, BooksError::Root(RootError::Held { receipt: 1, epoch: 1 })), "{twice}");
        books.sign(&intent(2, &[2, 4], &[3], 5), Hash32([2; 32])).unwrap();
        assert_eq!(books.intent(2, Hash32([2; 32])).unwrap(), Some(intent(2, &[2, 4], &[3], 5)));
        assert_eq!(books.unsettled().unwrap().iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [1, 2]);
        books.settled_before(2).unwrap();
        assert_eq!(books.unsettled().unwrap(), [(2, Posting { numbers: vec![2, 4] })]);

        assert_eq!(books.take_back(2).unwrap(), 2);
        assert_eq!(books.take_back(2).unwrap(), 0, "a second time there is nothing to take back");
        assert_eq!((books.posting(2).unwrap(), books.unsettled().unwrap()), (None, vec![]));
        assert_eq!(books.posting(1).unwrap(), Some(Posting { numbers: vec![0, 1] }));
        assert_eq!(books.unposted(10).unwrap(), Unposted { numbers: vec![2, 4, 3, 5], later: vec![], seen: 6 });
        let cut = books.unposted(2).unwrap();
        assert_eq!(cut, Unposted { numbers: vec![2, 4], later: vec![3], seen: 5 }, "what finds no room waits on");
        assert_eq!(books.counts().unwrap(), (6, 2));
    }
}
