//! Which of a node's receipts spoke for a stretch of a lane before: a lane lives for as long as its payer wants, and what it paid for long ago can be
//! billed anew by a receipt that is itself young, of a request that never was. The division of an epoch sees no fault in it, and pays it from
//! everybody's money.
//!
//! So beside the pages of a fetched root stands a row for each receipt that bills something, in one write: (node, lane, cumulative-after, epoch, place) to
//! (fee, receipt hash, receipts root). A root that is searched reads each of its lanes once, from its lowest stretch upwards; where the node is honest its
//! receipts lie above all others of the lane, and it reads its own rows: one for each receipt. A node that bills a lane's beginning again makes that read
//! the lane's rows, a million at most for each sixteen full roots it posted, in batches of [`BATCH`]. Of what overlaps one receipt is loaded for each that is
//! searched, a page of the disk: one proof makes it void. Two receipts that share a wei are a fault by their signatures alone; their roots are not shown.
//!
//! A row of a root that a reorganisation replaced names another receipts root than the books and is passed over. A poster that joined later, and one whose
//! pages are older than the rows, goes through the earlier roots of each node that has one to be searched, and searches that one again.
//!
//! On disk: 160 bytes a row, so 160 MB for a million receipts before the table's own slack, a tenth of their pages. Neither is removed: who posts needs
//! the pages to build a payout anew, and a lane's expiry is in its body, which a receipt does not carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Context as _;
use attribution::message::ReceiptItem;
use chain_bridge::registry::{State, state::Epoch};
use storage::store::Records;
use tokio::task::JoinSet;
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
    receipt::Receipt,
};

use super::{
    Settling,
    challenges::{RootOf, Watch},
};

/// Records table of receipts by lane.
const LANES: &str = "receipts-by-lane";
/// Records table of roots whose receipts have rows: epoch and node to receipts root.
const INDEXED: &str = "roots-by-lane";
/// Rows read at once: 40 KB.
const BATCH: usize = 256;
/// Earlier roots that are fetched at once, beside those to be searched.
const OLDER_MAX: usize = 4;
/// Seconds after which an earlier root that its node did not show is asked for again.
const OLDER_WAIT_S: u64 = 3_600;

const PREFIX: usize = 20 + 32;
const KEY: usize = PREFIX + 16 + 8 + 4;
const VALUE: usize = 16 + 32 + 32;

/// A record: table, key, value.
pub(super) type Record = (&'static str, Vec<u8>, Vec<u8>);

/// Where a receipt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// Its epoch.
    pub(super) epoch: u64,
    /// Its place under the node's root.
    pub(super) place: u32,
    /// Its hash.
    pub(super) receipt: Hash32,
}

/// The wei (start, end] of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch {
    start: u128,
    end: u128,
}

impl Stretch {
    /// What a receipt speaks for; nothing if it bills nothing.
    fn of(receipt: &Receipt) -> Option<Self> {
        let end = receipt.cumulative_after.0;
        (receipt.reason.is_billable() && receipt.fee.0 > 0).then(|| Self { start: end.saturating_sub(receipt.fee.0), end })
    }

    const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A row as it is read.
#[derive(Debug)]
struct Row {
    stretch: Stretch,
    at: At,
    root: Hash32,
}

impl Row {
    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (key, value): (&[u8; KEY], &[u8; VALUE]) = (key.try_into().ok()?, value.try_into().ok()?);
        let end = u128::from_be_bytes(key[PREFIX..PREFIX + 16].try_into().ok()?);
        let epoch = u64::from_be_bytes(key[PREFIX + 16..PREFIX + 24].try_into().ok()?);
        let place = u32::from_be_bytes(key[PREFIX + 24..].try_into().ok()?);
        let fee = u128::from_be_bytes(value[..16].try_into().ok()?);
        let (receipt, root) = (Hash32(value[16..48].try_into().ok()?), Hash32(value[48..].try_into().ok()?));
        Some(Self { stretch: Stretch { start: end.saturating_sub(fee), end }, at: At { epoch, place, receipt }, root })
    }
}

fn prefix(node: Address, lane: Hash32) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    prefix[..20].copy_from_slice(&node.0);
    prefix[20..].copy_from_slice(&lane.0);
    prefix
}

fn marker(epoch: u64, node: Address) -> Vec<u8> {
    [epoch.to_be_bytes().as_slice(), &node.0].concat()
}

/// The rows of a root's receipts, and the word that they are there: to be written with its pages.
pub(super) fn rows(epoch: u64, node: Address, root: Hash32, items: &[ReceiptItem]) -> Vec<Record> {
    let row = |(place, item): (u32, &ReceiptItem)| {
        let receipt = &item.receipt.document;
        let Stretch { end, .. } = Stretch::of(receipt)?;
        let (end, epoch, place) = (end.to_be_bytes(), epoch.to_be_bytes(), place.to_be_bytes());
        let key = [prefix(node, receipt.lane).as_slice(), &end, &epoch, &place].concat();
        Some((LANES, key, [receipt.fee.0.to_be_bytes().as_slice(), &receipt.hash().0, &root.0].concat()))
    };
    let rows = (0_u32..).zip(items).filter_map(row);
    rows.chain([(INDEXED, marker(epoch, node), root.0.to_vec())]).collect()
}

/// Whether the receipts of this very root have rows.
pub(super) fn is_indexed(records: &Records, epoch: u64, node: Address, root: Hash32) -> anyhow::Result<bool> {
    Ok(records.get(INDEXED, &marker(epoch, node))?.is_some_and(|of| of == root.0))
}

/// Receipts of `node` outside epoch `number` that share a wei with one of `receipts`, those of its root there: for each such one a receipt at least, unless
/// another of the same root shares a wei with it. `roots` are the node's receipts roots by epoch.
pub(super) fn rivals<'a>(
    records: &Records,
    (number, node): (u64, Address),
    receipts: impl Iterator<Item = &'a Receipt>,
    roots: &BTreeMap<u64, Hash32>,
) -> anyhow::Result<BTreeSet<At>> {
    let mut lanes: BTreeMap<Hash32, BTreeSet<(Stretch, Hash32)>> = BTreeMap::new();
    for receipt in receipts {
        if let Some(stretch) = Stretch::of(receipt) {
            lanes.entry(receipt.lane).or_default().insert((stretch, receipt.hash()));
        }
    }
    let mut found = BTreeSet::new();
    for (lane, searched) in lanes {
        let mut open = apart_from_each_other(searched.into_iter());
        let Some(lowest) = open.keys().next().copied() else { continue };
        let prefix = prefix(node, lane);
        let mut from = [prefix.as_slice(), &lowest.saturating_add(1).to_be_bytes()].concat();
        'lane: while !open.is_empty() {
            let batch = records.scan(LANES, &from, BATCH)?;
            let Some((last, _)) = batch.last() else { break };
            from.clone_from(last);
            from.push(0);
            for (key, value) in &batch {
                if !key.starts_with(&prefix) {
                    break 'lane;
                }
                let row = Row::read(key, value).context("a row of a lane is damaged")?;
                if row.at.epoch != number && roots.get(&row.at.epoch) == Some(&row.root) && meets(&mut open, &row) {
                    found.insert(row.at);
                }
            }
        }
    }
    Ok(found)
}

/// Those of these stretches that share no wei with another of them, by where they start.
fn apart_from_each_other(sorted: impl Iterator<Item = (Stretch, Hash32)>) -> BTreeMap<u128, (Stretch, Hash32)> {
    let mut open: BTreeMap<u128, (Stretch, Hash32)> = BTreeMap::new();
    let mut furthest: Option<Stretch> = None;
    for (stretch, receipt) in sorted {
        match furthest.filter(|furthest| furthest.overlaps(stretch)) {
            Some(before) => {
                open.remove(&before.start);
            }
            None => {
                open.insert(stretch.start, (stretch, receipt));
            }
        }
        if furthest.is_none_or(|furthest| stretch.end > furthest.end) {
            furthest = Some(stretch);
        }
    }
    open
}

/// Takes out what shares a wei with the row and is another receipt; whether there was any. What is open lies apart, so that what starts earlier ends earlier.
fn meets(open: &mut BTreeMap<u128, (Stretch, Hash32)>, row: &Row) -> bool {
    let below = open.range(..row.stretch.end).rev().map(|(_, searched)| *searched);
    let met: Vec<u128> = below
        .take_while(|(stretch, _)| stretch.overlaps(row.stretch))
        .filter(|(_, receipt)| *receipt != row.at.receipt)
        .map(|(stretch, _)| stretch.start)
        .collect();
    for start in &met {
        open.remove(start);
    }
    !met.is_empty()
}

/// Earlier roots of nodes that have one to be searched: when each is looked for (again), [`u64::MAX`] if its rows are there.
#[derive(Debug, Default)]
pub(super) struct Older {
    due: BTreeMap<RootOf, u64>,
    fetches: JoinSet<(RootOf, anyhow::Result<()>)>,
    under_way: BTreeSet<RootOf>,
    /// Nodes of which something came that their roots were not held against yet.
    fresh: BTreeSet<Address>,
}

impl Older {
    fn take(&mut self, now: u64) {
        while let Some(ended) = self.fetches.try_join_next() {
            let Ok((root, fetched)) = ended else { continue };
            self.under_way.remove(&root);
            match fetched {
                Ok(()) => {
                    self.due.insert(root, u64::MAX);
                    self.fresh.insert(root.node);
                }
                Err(error) => {
                    self.due.insert(root, now.saturating_add(OLDER_WAIT_S));
                    let (node, epoch, error) = (root.node, root.epoch, format!("{error:#}"));
                    tracing::warn!(%node, epoch, error, "receipts of an earlier epoch are not at hand: what they bill is not held against new ones");
                }
            }
        }
        if self.fetches.is_empty() {
            // One that panicked has no name: it is tried again.
            self.under_way.clear();
        }
    }
}

impl Settling {
    /// Has the rows of every earlier root of the nodes whose roots are searched now; where some came, those are searched again.
    pub(super) fn seek_older(self: &Arc<Self>, state: &Arc<State>, now: u64, watch: &mut Watch) {
        let own = self.account.address();
        watch.older().take(now);
        let is_open = |epoch: &Epoch| epoch.payout.is_none() && now < epoch.payout_from;
        let nodes: BTreeSet<Address> =
            state.epochs().filter(|(_, epoch)| is_open(epoch)).flat_map(|(_, epoch)| epoch.roots.keys().copied()).collect();
        let closed = state.epochs().filter(|(_, epoch)| !is_open(epoch));
        let roots = closed.flat_map(|(number, epoch)| epoch.roots.iter().map(move |(node, root)| RootOf::new(number, *node, root)));
        let roots: BTreeSet<RootOf> = roots
            .filter(|root| root.node != own && root.count() > 0 && nodes.contains(&root.node))
            .filter(|root| state.withheld_at(root.epoch, root.node).is_none())
            .collect();
        let older = watch.older();
        older.due.retain(|root, _| roots.contains(root));
        let mut waiting = older.under_way.iter().map(|root| root.node).collect::<BTreeSet<_>>();
        for root in roots {
            if older.under_way.contains(&root) || older.due.get(&root).is_some_and(|due| *due > now) {
                continue;
            }
            if is_indexed(self.books.records(), root.epoch, root.node, root.receipts()).unwrap_or(false) {
                older.due.insert(root, u64::MAX);
                continue;
            }
            waiting.insert(root.node);
            if older.fetches.len() < OLDER_MAX {
                older.under_way.insert(root);
                let (settling, state) = (Arc::clone(self), Arc::clone(state));
                older.fetches.spawn(async move { (root, settling.obtain(&state, root.epoch, root.node, &root.submitted()).await) });
            }
        }
        let ready: Vec<Address> = older.fresh.difference(&waiting).copied().collect();
        older.fresh.retain(|node| waiting.contains(node));
        ready.into_iter().for_each(|node| watch.search_again(node));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::{collection::vec, prelude::*};
    use storage::store::{Config, Store};
    use types::{
        amount::Amount,
        key::{Signed, Signed65},
    };

    use super::*;

    const NODE: Address = Address([7; 20]);

    /// A receipt for the wei (end - fee, end] of a lane; `request` tells it from others.
    fn item(lane: u8, request: u8, (end, fee): (u128, u128)) -> ReceiptItem {
        let mut bytes = vec![0; 434];
        // Profile, class and reason: the first of each; all else is zero.
        [190, 191, 388].into_iter().for_each(|place| bytes[place] = 1);
        let zero = Receipt::decode(&bytes).unwrap();
        let (request, lane) = (Hash32([request; 32]), Hash32([lane; 32]));
        let document = Receipt { node: NODE, request, lane, cumulative_after: Amount(end), fee: Amount(fee), ..zero };
        ReceiptItem { receipt: Signed { document, signature: Signed65([0; 65]) }, quote: None, manifest: None }
    }

    fn records(folder: &Path) -> Records {
        Store::open(folder, Config::default()).unwrap().records()
    }

    fn keep(records: &Records, epoch: u64, root: u8, items: &[ReceiptItem]) {
        let rows = rows(epoch, NODE, Hash32([root; 32]), items);
        let rows: Vec<(&str, &[u8], &[u8])> = rows.iter().map(|(table, key, value)| (*table, key.as_slice(), value.as_slice())).collect();
        records.put_all(&rows).unwrap();
    }

    fn found(records: &Records, number: u64, items: &[ReceiptItem], roots: &BTreeMap<u64, Hash32>) -> Vec<(u64, u32)> {
        let receipts = items.iter().map(|item| &item.receipt.document);
        rivals(records, (number, NODE), receipts, roots).unwrap().into_iter().map(|at| (at.epoch, at.place)).collect()
    }

    #[test]
    fn a_stretch_that_was_billed_forty_epochs_ago_is_found_after_a_restart_and_not_where_another_root_took_its_place() {
        let folder = tempfile::tempdir().unwrap();
        // Twenty receipts of one wei in each of forty epochs: more than are read at once.
        let of_epoch =
            |epoch: u64| -> Vec<_> { (0..20_u8).map(|at| item(1, at, (u128::from(epoch) * 20 + u128::from(at) + 1, 1))).collect() };
        let before = records(folder.path());
        (0..40).for_each(|epoch| keep(&before, epoch, 1, &of_epoch(epoch)));
        drop(before);
        let records = records(folder.path());
        let mut roots: BTreeMap<u64, Hash32> = (0..41).map(|epoch| (epoch, Hash32([1; 32]))).collect();
        let again = [item(1, 200, (3, 1)), item(1, 201, (790, 2)), item(1, 202, (801, 1)), item(2, 203, (5, 5))];
        assert_eq!(found(&records, 40, &again, &roots), [(0, 2), (39, 8)]);
        assert_eq!(found(&records, 40, &again[2..], &roots), [], "the lane goes on, and another lane");
        assert_eq!(found(&records, 0, &of_epoch(0), &roots), [], "what is searched is no rival of itself");
        assert_eq!(found(&records, 40, &of_epoch(3), &roots), [], "nor is the same receipt once more");
        assert_eq!(found(&records, 40, &[item(1, 200, (900, 900))], &roots).len(), 1, "one is enough");
        roots.insert(0, Hash32([2; 32]));
        assert_eq!(found(&records, 40, &again, &roots), [(39, 8)], "its root is gone");
        assert!(is_indexed(&records, 0, NODE, Hash32([1; 32])).unwrap() && !is_indexed(&records, 0, NODE, Hash32([2; 32])).unwrap());
        keep(&records, 0, 2, &[item(1, 9, (5, 5))]);
        assert_eq!(found(&records, 40, &again, &roots), [(0, 0), (39, 8)], "the root in its place bills the same wei");
    }

    #[test]
    fn what_bills_nothing_has_no_row_and_one_fee_beyond_its_lane_reaches_to_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(folder.path());
        keep(&records, 1, 1, &[item(1, 1, (9, 0)), item(1, 2, (4, u128::MAX))]);
        let roots = [(1, Hash32([1; 32]))].into();
        assert_eq!(records.scan(LANES, &[], 9).unwrap().iter().map(|(key, value)| key.len() + value.len()).collect::<Vec<_>>(), [160]);
        assert_eq!(found(&records, 2, &[item(1, 3, (1, 1))], &roots), [(1, 1)]);
        assert_eq!(found(&records, 2, &[item(1, 3, (9, 5)), item(1, 4, (u128::MAX, 1))], &roots), []);
        assert_eq!(found(&records, 2, &[item(1, 3, (9, 0))], &roots), []);
    }

    /// Lane, request, end, fee.
    fn receipts(most: usize) -> impl Strategy<Value = Vec<(u8, u8, u128, u128)>> {
        vec((0_u8..2, 0_u8..3, 0_u128..40, 0_u128..9), 0..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_receipt_that_shares_a_wei_has_a_rival_and_no_other_has(
            kept in vec((receipts(9), any::<bool>()), 1..14),
            searched in receipts(9),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let records = records(folder.path());
            let make = |all: &[(u8, u8, u128, u128)]| -> Vec<ReceiptItem> {
                all.iter().map(|(lane, request, end, fee)| item(*lane, *request, (*end, *fee))).collect()
            };
            let (number, mut roots, mut others) = (5, BTreeMap::new(), BTreeMap::new());
            for (epoch, (items, stands)) in (0..).zip(&kept) {
                let items = if epoch == number { make(&searched) } else { make(items) };
                keep(&records, epoch, 1, &items);
                roots.insert(epoch, Hash32([u8::from(*stands); 32]));
                if *stands && epoch != number {
                    others.extend((0_u32..).zip(items).map(|(place, item)| ((epoch, place), item.receipt.document)));
                }
            }
            let shares = |a: &Receipt, b: &Receipt| {
                let wei = |of: &Receipt| of.cumulative_after.0.saturating_sub(of.fee.0)..of.cumulative_after.0;
                a.lane == b.lane && a.hash() != b.hash() && wei(a).any(|one| wei(b).contains(&one))
            };
            let items = make(&searched);
            let found: Vec<Receipt> = found(&records, number, &items, &roots).iter().map(|at| others[at].clone()).collect();
            let own: Vec<&Receipt> = items.iter().map(|item| &item.receipt.document).collect();
            for rival in &found {
                prop_assert!(own.iter().any(|receipt| shares(receipt, rival)), "{rival:?} shares nothing");
            }
            prop_assert!(found.len() <= own.len());
            for receipt in &own {
                let is_billed_again = others.values().any(|other| shares(receipt, other));
                let is_in_a_pair = found.iter().chain(own.iter().copied()).any(|other| shares(receipt, other));
                prop_assert!(!is_billed_again || is_in_a_pair, "{receipt:?} has no rival");
            }
        }
    }
}
