//! The receipts behind a root, page by page from their node, within bounds that do not depend on it.
//!
//! A node's own roots cover 4,096 receipts of about 1 KB: 64 pages, 4 MB, seconds. What is fetched is bounded by [`RECEIPTS_MAX`], by a frame's bytes,
//! by [`BYTES_EACH`] a receipt in all, and by time: [`patience`]. A node that is slow, or sends other receipts than its root covers, in another order or twice, has
//! shown nothing: what is wrong is said, and its receipts are asked for on the chain (F8) as if it had stayed silent. Each root is fetched by a task of
//! its own, so that none waits for another.

use std::{collections::BTreeMap, time::Duration};

use attribution::{
    epoch::replay::{ReplayError, RootFacts, check_root},
    message::{self, MessageError, RECEIPTS_PAGE, REPLY_BYTES_MAX, ReceiptItem, Reply},
};
use chain_bridge::registry::state::SubmittedRoot;
use tokio::time::{Instant, timeout_at};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
    key::Domains,
    operator::RECEIPTS_MAX,
};

use super::ASK_WAIT;

/// Bytes that a receipt may take on the average, with quote and manifest: sixteen times what an answer with ten spans takes.
const BYTES_EACH: u64 = 16 << 10;
/// Receipts that a node is to send in a second, beyond [`ASK_WAIT`]: a fiftieth of what one core checks.
const RECEIPTS_PER_S: u64 = 100;
/// Bytes of a peer's words that are repeated.
const WORDS_MAX: usize = 200;

/// Why the receipts behind a root were not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// More than anybody fetches.
    #[error("its root covers {count} receipts, at most {RECEIPTS_MAX} are fetched")]
    TooMany { count: u64 },
    /// It ended early.
    #[error("it shows {got} receipts, its root covers {count}")]
    Short { got: u64, count: u64 },
    /// It goes on behind the last one.
    #[error("it shows more than the {count} receipts that its root covers")]
    Beyond { count: u64 },
    /// A page that is none.
    #[error("a page of {got} receipts, at most {RECEIPTS_PAGE} are read")]
    Page { got: usize },
    /// Too large.
    #[error("{got} bytes up to receipt {place}, at most {max} are read for a root over {count} receipts")]
    Bytes { got: u64, max: u64, place: u64, count: u64 },
    /// Another's.
    #[error("receipt {place} is one of {got}")]
    Foreign { place: u64, got: Address },
    /// One that came before.
    #[error("receipt {place} is receipt {first} once more")]
    Repeated { place: u64, first: u64 },
    /// Fees beyond the root's.
    #[error("up to receipt {place} fees sum to more than the {fees} wei of its root")]
    Fees { place: u64, fees: Amount },
    /// It says no.
    #[error("it refuses: {0}")]
    Refused(String),
    /// Bytes that are no message.
    #[error(transparent)]
    Garbage(#[from] MessageError),
    /// Another answer.
    #[error("it answered something else than receipts")]
    Other,
    /// It cannot be asked, or does not answer.
    #[error("it cannot be asked: {0}")]
    Unreachable(String),
    /// Too slow.
    #[error("{got} of {count} receipts came within {} s", .patience.as_secs())]
    Slow { got: u64, count: u64, patience: Duration },
    /// Not those of the root.
    #[error("its receipts are others than its root covers, or in another order: {0}")]
    Root(#[from] Box<ReplayError>),
}

/// How long the receipts behind a root over `count` of them may take; no longer than an answer on the chain would be waited for.
pub(super) fn patience(count: u64, answer_s: u64) -> Duration {
    ASK_WAIT.saturating_add(Duration::from_secs(count / RECEIPTS_PER_S)).min(Duration::from_secs(answer_s))
}

/// The receipts of a root that came so far.
#[derive(Debug)]
struct Gathered {
    node: Address,
    count: u64,
    fees: Amount,
    items: Vec<ReceiptItem>,
    places: BTreeMap<Hash32, u64>,
    sum: u128,
    bytes: u64,
}

impl Gathered {
    fn new(node: Address, root: &SubmittedRoot) -> Result<Self, FetchError> {
        let (count, fees) = (root.count, root.fees);
        if count > RECEIPTS_MAX {
            return Err(FetchError::TooMany { count });
        }
        Ok(Self { node, count, fees, items: Vec::new(), places: BTreeMap::new(), sum: 0, bytes: 0 })
    }

    fn place(&self) -> u64 {
        u64::try_from(self.items.len()).unwrap_or(u64::MAX)
    }

    /// Takes an answer.
    fn take(&mut self, frame: &[u8]) -> Result<(), FetchError> {
        let (place, count) = (self.place(), self.count);
        let max = count.saturating_mul(BYTES_EACH).saturating_add(u64::try_from(REPLY_BYTES_MAX).unwrap_or(u64::MAX));
        self.bytes = self.bytes.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
        if self.bytes > max {
            return Err(FetchError::Bytes { got: self.bytes, max, place, count });
        }
        let page = match message::decode(frame)? {
            Reply::Receipts(page) => page,
            Reply::Refused(reason) => return Err(FetchError::Refused(reason.chars().take(WORDS_MAX).collect())),
            _ => return Err(FetchError::Other),
        };
        if page.is_empty() {
            return Err(FetchError::Short { got: place, count });
        }
        if page.len() > RECEIPTS_PAGE {
            return Err(FetchError::Page { got: page.len() });
        }
        page.into_iter().try_for_each(|item| self.add(item))
    }

    fn add(&mut self, item: ReceiptItem) -> Result<(), FetchError> {
        let (place, receipt) = (self.place(), &item.receipt.document);
        if place >= self.count {
            return Err(FetchError::Beyond { count: self.count });
        }
        if receipt.node != self.node {
            return Err(FetchError::Foreign { place, got: receipt.node });
        }
        if let Some(first) = self.places.insert(receipt.hash(), place) {
            return Err(FetchError::Repeated { place, first });
        }
        self.sum = self.sum.saturating_add(receipt.fee.0);
        if self.sum > self.fees.0 {
            return Err(FetchError::Fees { place, fees: self.fees });
        }
        self.items.push(item);
        Ok(())
    }
}

/// The receipts behind `root`, an answer at a time by `ask`, which is given the place to go on from; within `patience`.
///
/// # Errors
/// [`FetchError`]: what kept them from coming, or what is wrong with them.
pub(super) async fn gather<F: Future<Output = anyhow::Result<Vec<u8>>>>(
    domains: &Domains,
    (epoch, node, root): (u64, Address, &SubmittedRoot),
    patience: Duration,
    ask: impl Fn(u64) -> F,
) -> Result<Vec<ReceiptItem>, FetchError> {
    let mut gathered = Gathered::new(node, root)?;
    let deadline = Instant::now() + patience;
    while gathered.place() < root.count {
        let (got, count) = (gathered.place(), root.count);
        let frame = timeout_at(deadline, ask(got)).await.map_err(|_| FetchError::Slow { got, count, patience })?;
        gathered.take(&frame.map_err(|error| FetchError::Unreachable(format!("{error:#}")))?)?;
    }
    let facts = RootFacts { receipts: root.receipts, count: root.count, fees: root.fees, block: root.block };
    check_root(domains, epoch, node, &facts, &gathered.items).map_err(Box::new)?;
    Ok(gathered.items)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use attribution::epoch::node_root;
    use types::{
        key::{Account, Signed},
        manifest::Manifest,
        quote::{Class, Profile, Quote},
        receipt::{Reason, Receipt},
        split::SplitTable,
        time::BlockRef,
    };

    use super::*;

    const COUNT: u64 = 70;

    fn account(byte: u8) -> Account {
        Account::from_bytes(&[byte; 32]).unwrap()
    }

    fn domains() -> Domains {
        Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
    }

    /// A receipt of a node that earns a wei.
    fn item(node: &Account, request: u8) -> ReceiptItem {
        let split = SplitTable { node: 10_000, ..SplitTable::default() };
        let manifest = Manifest { assets: vec![], split, index: Hash32::ZERO, parameters: 1, datanets: vec![] };
        let block = BlockRef { number: 100, hash: Hash32([1; 32]) };
        let quote = Quote {
            node: node.address(),
            manifest: manifest.root(),
            profile: Profile::Exact,
            class: Class::Open,
            rate_in: Amount(1),
            rate_out: Amount(1),
            protocol_fee: Amount::ZERO,
            tokens_max: 1,
            block,
            expiry: block.number,
        };
        let receipt = Receipt {
            request: Hash32([request; 32]),
            attempt: 0,
            client: Address([3; 20]),
            node: node.address(),
            lane: Hash32([4; 32]),
            cumulative_after: Amount(1),
            manifest: manifest.root(),
            index: Hash32::ZERO,
            parameters: 1,
            profile: Profile::Exact,
            class: Class::Open,
            block,
            prompt_root: Hash32::ZERO,
            answer_root: Hash32::ZERO,
            token_ids: Hash32::ZERO,
            tokens_in: 1,
            first_token: 0,
            tokens_out: 0,
            quote: quote.hash(),
            fee: Amount(1),
            reason: Reason::Stop,
            weight_total: 0,
            fingerprint_root: Hash32::ZERO,
            assets: vec![],
            spans: vec![],
            masks: vec![],
        };
        ReceiptItem::new(Signed::new(node, &domains(), receipt), &quote, &manifest)
    }

    fn root(items: &[ReceiptItem]) -> SubmittedRoot {
        let receipts: Vec<_> = items.iter().map(|item| item.receipt.clone()).collect();
        let root = node_root(account(7).address(), 3, &receipts).unwrap();
        SubmittedRoot { receipts: root.receipts, count: root.count, fees: root.fees, block: 9 }
    }

    fn frame(items: &[ReceiptItem]) -> Vec<u8> {
        message::encode(&Reply::Receipts(items.to_vec()))
    }

    /// What a fetch makes of these answers; when they end none comes any more.
    async fn fetched(root: &SubmittedRoot, frames: Vec<Vec<u8>>) -> Result<Vec<ReceiptItem>, String> {
        let frames = Mutex::new(frames.into_iter());
        let ask = |_| {
            let frame = frames.lock().unwrap().next();
            async move {
                match frame {
                    Some(frame) => Ok(frame),
                    None => std::future::pending().await,
                }
            }
        };
        let of = (3, account(7).address(), root);
        gather(&domains(), of, Duration::from_millis(40), ask).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn receipts_that_are_not_those_of_the_root_are_refused_by_what_is_wrong_with_them() {
        let node = account(7);
        let all: Vec<ReceiptItem> = (0..COUNT).map(|request| item(&node, u8::try_from(request).unwrap())).collect();
        let root = root(&all);
        let (first, second) = all.split_at(RECEIPTS_PAGE);
        assert_eq!(fetched(&root, vec![frame(first), frame(second)]).await.unwrap(), all);
        assert_eq!(fetched(&root, all.chunks(9).map(frame).collect()).await.unwrap(), all, "smaller pages are slower, not wrong");

        let swapped = [&second[1..], &second[..1]].concat();
        let repeated = [&first[..1], &second[1..]].concat();
        let longer = [second, &[item(&node, 200)][..]].concat();
        let foreign = [&[item(&account(8), 200)][..], &second[1..]].concat();
        let other = [&[item(&node, 200)][..], &second[1..]].concat();
        let mut dear = second.to_vec();
        dear[0].receipt.document.fee = Amount(1 << 70);
        let mut unsigned = second.to_vec();
        unsigned[2].receipt.signature.0[5] ^= 1;
        let refused = message::encode(&Reply::Refused("busy ".repeat(1_000)));
        let table: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
            ("wrong order", vec![frame(first), frame(&swapped)], "in another order"),
            ("another one", vec![frame(first), frame(&other)], "others than its root covers"),
            ("repeats", vec![frame(first), frame(&repeated)], "receipt 64 is receipt 0 once more"),
            ("the same page for ever", vec![frame(first); 9], "receipt 64 is receipt 0 once more"),
            ("too few", vec![frame(first), frame(&[])], "it shows 64 receipts, its root covers 70"),
            ("too many", vec![frame(first), frame(&longer)], "more than the 70 receipts"),
            ("another's", vec![frame(first), frame(&foreign)], "receipt 64 is one of"),
            ("fees", vec![frame(first), frame(&dear)], "up to receipt 64 fees sum to more than the 70 wei"),
            ("unsigned", vec![frame(first), frame(&unsigned)], "receipt 66"),
            ("a large page", vec![frame(&all)], "a page of 70 receipts, at most 64"),
            ("garbage", vec![frame(first), vec![0xff; 40]], "40 bytes are no settlement message"),
            ("bytes behind", vec![[frame(first), vec![0]].concat()], "1 bytes follow it"),
            ("nothing", vec![vec![]], "0 bytes are no settlement message"),
            ("another answer", vec![message::encode(&Reply::Settled("done".into()))], "something else"),
            ("a refusal", vec![refused], "it refuses: busy"),
            ("slow", vec![frame(first)], "64 of 70 receipts came within 0 s"),
            ("silent", vec![], "0 of 70 receipts came within 0 s"),
        ];
        for (what, frames, expected) in table {
            let error = fetched(&root, frames).await.expect_err(what);
            assert!(error.contains(expected) && error.len() < 400, "{what}: {error}");
        }
    }

    #[tokio::test]
    async fn a_root_over_more_receipts_than_anybody_fetches_is_not_even_asked_for() {
        let root = SubmittedRoot { count: RECEIPTS_MAX + 1, ..root(&[]) };
        assert!(fetched(&root, vec![]).await.unwrap_err().starts_with(&format!("its root covers {} receipts", RECEIPTS_MAX + 1)));
    }

    #[test]
    fn frames_beyond_what_the_root_is_worth_end_the_fetch() {
        let root = SubmittedRoot { count: 1, ..root(&[]) };
        let mut gathered = Gathered::new(account(7).address(), &root).unwrap();
        let large = vec![0xff; REPLY_BYTES_MAX];
        assert!(matches!(gathered.take(&large), Err(FetchError::Garbage(_))));
        assert!(matches!(gathered.take(&large), Err(FetchError::Bytes { place: 0, count: 1, .. })));
    }

    #[test]
    fn more_receipts_are_given_more_time_and_never_more_than_an_answer_on_the_chain() {
        assert_eq!((patience(1, 7_200), patience(4_096, 7_200)), (ASK_WAIT, ASK_WAIT + Duration::from_secs(40)));
        assert_eq!((patience(u64::MAX, 7_200), patience(1, 4)), (Duration::from_secs(7_200), Duration::from_secs(4)));
    }
}
