//! The lines of a payout: made public by its poster before the root is posted, and had from wherever they are by whoever checks it.
//!
//! A poster keeps them in its data folder (`crate::payouts`) and serves them page by page, also after a restart; with `availability = "calldata"` it also puts
//! them on the chain, in as many transactions to itself as they take (`chain_bridge::availability`), a few in each round of the clock, so that it goes on
//! answering challenges meanwhile. Whoever wants them looks in its own folder, asks the poster, then reads the poster's own transactions before the
//! posting. What comes is bounded by what the asker expects, and is worth something only if it gives the posted root. Where nothing has them the poster
//! is asked on the chain, step by step, and loses the payout if it stays silent (`watching.rs`).
//!
//! 4,096 rows a page, about 150 kB: a tree of 10,000 payees and a million parts takes 247 pages, 37 MB.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use attribution::{
    epoch::{
        Payout, PayoutError, one_by_one,
        replay::{Line, lines},
    },
    message::{Ask, LINES_PAGE, Reply},
};
use chain_bridge::{
    availability::{AvailabilityError, CHUNK_BYTES, CHUNKS_MAX, Calldata, Looked, SCAN_BLOCKS_MAX},
    client::ChainClient,
    registry::{State, state},
};
use p2p::client::Connection;
use tokio::time::timeout;
use types::id::{BlobId, Hash32};

use super::{Kept, PAYOUTS, Settling, apart, ask_once, posted};
use crate::{
    output::money,
    payouts::{check_lines, encode_lines, read_lines},
};

/// Chunks that are sent in one round of the clock: a block or two each, and challenges wait meanwhile.
const CHUNKS_PER_ROUND: usize = 8;
/// How long the chain's blocks are read by the service: a tenth of a second a block, and some.
const SCAN_WAIT: Duration = Duration::from_secs(180);

/// How long all pages of a tree may take together: 90 MB at 6 Mbit/s. Who shows them slower is asked on the chain.
const FETCH_WAIT: Duration = Duration::from_secs(120);

/// Rows that are taken whatever was expected: a small tree may be posted in a large one's place.
const ROWS_MIN: usize = 1 << 16;
/// Times the expected rows that are taken: a tree that is larger is asked for on the chain.
const ROWS_TIMES: usize = 4;

/// Rows at most that are taken of a tree which should have `expected`.
pub fn rows_max(expected: &Payout) -> usize {
    let rows = expected.parts().iter().map(|parts| parts.len().saturating_add(1)).fold(0, usize::saturating_add);
    rows.saturating_mul(ROWS_TIMES).max(ROWS_MIN)
}

/// One page of a tree.
fn page(payout: &Payout, line: u64, part: u64) -> Vec<Line> {
    let (first, mut skipped) = (usize::try_from(line).unwrap_or(usize::MAX), usize::try_from(part).unwrap_or(usize::MAX));
    let (mut room, mut page) = (LINES_PAGE, Vec::new());
    for (leaf, parts) in payout.leaves().iter().zip(payout.parts()).skip(first) {
        if room == 0 {
            break;
        }
        room -= 1;
        let parts: Vec<_> = parts.iter().skip(skipped).take(room).copied().collect();
        (room, skipped) = (room - parts.len(), 0);
        page.push(Line { leaf: *leaf, parts });
    }
    page
}

/// The tree that lines are of.
fn payout_of(lines: Vec<Line>) -> Result<Payout, PayoutError> {
    let previous = lines.iter().map(|line| (line.leaf.account, line.leaf.previous)).collect();
    let parts = lines.into_iter().map(|line| (line.leaf.account, line.parts)).collect();
    Payout::over(&previous, parts, &one_by_one)
}

/// The lines that came so far.
#[derive(Debug, Default)]
struct Gathered {
    lines: Vec<Line>,
    rows: usize,
}

impl Gathered {
    /// The place to ask for next.
    fn place(&self) -> (u64, u64) {
        let last = self.lines.last().map_or(0, |line| line.parts.len());
        (u64::try_from(self.lines.len().saturating_sub(1)).unwrap_or(u64::MAX), u64::try_from(last).unwrap_or(u64::MAX))
    }

    /// Takes a page; says whether it was the last.
    fn take(&mut self, page: Vec<Line>, most: usize) -> anyhow::Result<bool> {
        let rows = page.iter().fold(0_usize, |rows, line| rows.saturating_add(1).saturating_add(line.parts.len()));
        ensure!(rows <= LINES_PAGE, "a page of {rows} rows, at most {LINES_PAGE} are read");
        self.rows = self.rows.saturating_add(rows);
        ensure!(self.rows <= most, "more than {most} rows, far more than the tree should have");
        let mut page = page.into_iter();
        if let Some(open) = self.lines.last_mut() {
            let next = page.next().context("the tree ends within a line")?;
            ensure!(next.leaf == open.leaf, "the line of {} goes on with another leaf", open.leaf.account);
            open.parts.extend(next.parts);
        }
        self.lines.extend(page);
        Ok(rows < LINES_PAGE)
    }
}

/// The lines of the payout of an epoch from a node, at most `most` rows; their root must be the posted one.
///
/// # Errors
/// What keeps them from coming, or if they are another tree's.
pub async fn fetch(connection: &Connection, epoch: u64, posted: &state::Payout, most: usize) -> anyhow::Result<Vec<Line>> {
    let gathered = timeout(FETCH_WAIT, gather(connection, epoch, most)).await;
    let lines = gathered.with_context(|| format!("the lines did not come within {} s", FETCH_WAIT.as_secs()))??;
    check_lines(&lines, posted.root)?;
    Ok(lines)
}

async fn gather(connection: &Connection, epoch: u64, most: usize) -> anyhow::Result<Vec<Line>> {
    let mut gathered = Gathered::default();
    loop {
        let (line, part) = gathered.place();
        match ask_once(connection.open_stream().await?, &Ask::Lines { epoch, line, part }).await? {
            Reply::Lines(page) => {
                if gathered.take(page, most)? {
                    return Ok(gathered.lines);
                }
            }
            Reply::Refused(reason) => bail!("it refuses: {}", crate::words::line(&reason)),
            _ => bail!("it answered something else"),
        }
    }
}

/// What reading the chain for lines came to.
#[derive(Debug)]
pub struct FromChain {
    /// The lines; nothing if they are not there.
    pub lines: Option<Vec<Line>>,
    /// The blocks that were read, the lowest and the highest.
    pub blocks: (u64, u64),
}

impl FromChain {
    /// The lines, or that the blocks read do not hold them.
    ///
    /// # Errors
    /// The latter.
    pub fn found(self) -> anyhow::Result<Vec<Line>> {
        let (from, to) = self.blocks;
        self.lines.with_context(|| format!("its poster's transactions to itself in blocks {from} to {to} hold no such lines"))
    }
}

/// The lines of a payout from its poster's own transactions in the last [`SCAN_BLOCKS_MAX`] blocks up to its posting, at most `most` rows; `looked` is
/// told of each block. Nobody's help is needed for it.
///
/// # Errors
/// What keeps the chain from being read.
pub async fn from_chain(
    client: &ChainClient,
    state: &State,
    epoch: u64,
    posted: &state::Payout,
    most: usize,
    looked: impl FnMut(Looked) + Send,
) -> anyhow::Result<FromChain> {
    let opened = state.epoch(epoch).map_or(0, |epoch| epoch.opened_block);
    let block = client.payout_block(epoch, posted.root, opened).await?.context("its posting is not on the chain any more")?;
    let calldata = Calldata::of(client.clone(), posted.poster, opened, block);
    let mut lines = None;
    let is_it = |_: BlobId, bytes: &[u8]| {
        lines = read_lines(bytes, posted.root, most).ok();
        lines.is_some()
    };
    let bytes_max = u64::from(CHUNKS_MAX).saturating_mul(u64::try_from(CHUNK_BYTES)?);
    let found = calldata.find(bytes_max, looked, is_it).await?;
    Ok(FromChain { lines, blocks: (found.from, found.to) })
}

/// Places where lines were looked for, each with what it said.
#[derive(Debug, Default)]
pub struct Tried(Vec<String>);

impl Tried {
    /// One that does not have them.
    pub fn note(&mut self, place: impl fmt::Display, why: impl fmt::Display) {
        self.0.push(format!("{place}: {why}"));
    }

    /// That no place has the lines of an epoch's payout, and what follows from it.
    pub fn nowhere(self, epoch: u64) -> anyhow::Error {
        anyhow!(
            "the lines of the payout of epoch {epoch} are to be had nowhere ({}): a node with `watch_payouts = true` asks its poster for them on the \
             chain, where silence takes the payout back",
            self.0.join("; ")
        )
    }
}

impl Settling {
    /// A page of a posted tree that this node keeps.
    pub(super) async fn own_lines(&self, epoch: u64, line: u64, part: u64) -> anyhow::Result<Vec<Line>> {
        Ok(page(&*self.kept_tree(epoch).await?, line, part))
    }

    /// A posted tree that this node keeps: the poster, and who watches, do. One that it would first have to build it does not show.
    pub(super) async fn kept_tree(&self, epoch: u64) -> anyhow::Result<Arc<Payout>> {
        let posted = posted(&self.snapshots.borrow().latest, epoch)?;
        let kept = self.tree_on_disk(epoch, posted.root).await?;
        kept.with_context(|| format!("this node does not keep the payout of epoch {epoch}: ask its poster, or a node that watches payouts"))
    }

    /// The tree of a root, from memory or from disk; nothing if it is not there.
    pub(super) async fn tree_on_disk(&self, epoch: u64, root: Hash32) -> anyhow::Result<Option<Arc<Payout>>> {
        let load = async {
            if let Some(bytes) = self.payouts.bytes(root).await? {
                return apart(move || Ok(Some(payout_of(read_lines(&bytes, root, usize::MAX)?)?))).await;
            }
            let Some(bytes) = self.kept_bytes(epoch)? else { return Ok(None) };
            apart(move || Ok(Some(Kept::read(&bytes)?.tree()?))).await
        };
        self.trees.get_or_load(root, load).await
    }

    /// What this node's tree of an epoch was built from, if it built one.
    pub(super) fn kept_bytes(&self, epoch: u64) -> anyhow::Result<Option<Vec<u8>>> {
        match self.payouts.tree(epoch)? {
            // Nodes of before kept it among their records, where a tree of 8 MiB found no room.
            None => Ok(self.books.records().get(PAYOUTS, &epoch.to_be_bytes())?),
            found => Ok(found),
        }
    }

    pub(super) fn keep(&self, epoch: u64, kept: &Kept) -> anyhow::Result<()> {
        self.payouts.keep_tree(epoch, &serde_json::to_vec(kept)?)
    }

    /// Makes the lines of a tree public, as far as its root may be posted then: on disk, and in calldata if the operator wants that. Whether all of them
    /// are; if not, the next round goes on.
    pub(super) async fn publish(&self, epoch: u64, tree: &Payout) -> anyhow::Result<bool> {
        let bytes = encode_lines(&lines(tree).collect::<Vec<_>>());
        let blob = self.payouts.keep(epoch, tree.root(), &bytes).await.context("the lines of the payout were not kept")?;
        let Some(calldata) = &self.calldata else { return Ok(true) };
        let known = calldata.progress(blob);
        if known.total > 0 && known.is_whole() {
            return Ok(true);
        }
        if known.chunks == 0 {
            let cost = match calldata.cost(&bytes).await {
                Err(error @ AvailabilityError::TooLong { .. }) => {
                    tracing::warn!(epoch, %error, "the lines of the payout are kept on disk alone: they are too long for calldata");
                    return Ok(true);
                }
                cost => cost?,
            };
            let (gas_fee, l1_fee) = (money(cost.gas_fee), money(cost.l1_fee));
            tracing::info!(
                epoch, %blob, bytes = bytes.len(), transactions = cost.transactions, gas = cost.gas, %gas_fee, %l1_fee,
                "the lines of the payout go into calldata, which costs about this; availability = \"local\" under [settlement] ends it"
            );
        }
        for _ in 0..CHUNKS_PER_ROUND {
            // Who else posted it made ours useless.
            if self.snapshots.borrow().latest.epoch(epoch).is_some_and(|epoch| epoch.payout.is_some()) {
                return Ok(false);
            }
            let progress = calldata.put_some(&bytes, 1).await?;
            if progress.is_whole() {
                let (gas_fee, l1_fee) = (money(progress.gas_fee), money(progress.l1_fee));
                tracing::info!(epoch, %blob, transactions = progress.total, gas = progress.gas, %gas_fee, %l1_fee, "the lines of the payout are in calldata");
                let tip = self.snapshots.borrow().tip.number;
                if progress.first_block.is_some_and(|first| first.saturating_add(SCAN_BLOCKS_MAX) <= tip) {
                    tracing::warn!(epoch, %blob, ?progress.first_block, "the first of them stand too far back for readers to find them there");
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The lines of another one's payout: from this node's own folder, its poster, or the chain's calldata, which is read to its end once.
    pub(super) async fn lines_of(
        &self,
        state: &State,
        epoch: u64,
        payout: &state::Payout,
        expected: &Payout,
        is_scanned: &mut bool,
    ) -> anyhow::Result<Vec<Line>> {
        let (most, mut tried) = (rows_max(expected), Tried::default());
        match self.payouts.lines(payout.root).await {
            Ok(Some(lines)) => return Ok(lines),
            Ok(None) => tried.note("this node's folder", "not there"),
            Err(error) => tried.note("this node's folder", format!("{error:#}")),
        }
        match self.posters_lines(state, epoch, payout, most).await {
            Ok(lines) => return Ok(lines),
            Err(error) => tried.note(format!("its poster {}", payout.poster), format!("{error:#}")),
        }
        if *is_scanned {
            tried.note("the chain's calldata", "was read before and holds none");
            return Err(tried.nowhere(epoch));
        }
        let read = timeout(SCAN_WAIT, from_chain(&self.chain, state, epoch, payout, most, |_| {})).await;
        let read = read.with_context(|| format!("not read within {} s", SCAN_WAIT.as_secs())).flatten();
        *is_scanned = read.is_ok();
        match read.and_then(FromChain::found) {
            Ok(lines) => {
                tracing::info!(epoch, root = %payout.root, "the lines of a payout were read from its poster's calldata");
                Ok(lines)
            }
            Err(error) => {
                tried.note("the chain's calldata", format!("{error:#}"));
                Err(tried.nowhere(epoch))
            }
        }
    }

    async fn posters_lines(&self, state: &State, epoch: u64, payout: &state::Payout, most: usize) -> anyhow::Result<Vec<Line>> {
        let (client, connection) = self.connect(state, payout.poster).await?;
        let lines = fetch(&connection, epoch, payout, most).await;
        client.close(p2p::stream::code::SHUTDOWN).await;
        lines
    }

    /// Forgets payouts that nobody claims by or disputes any more, once a later one is final by the finalized block.
    pub(super) async fn forget_payouts(
        &self,
        snapshot: &chain_bridge::follow::Snapshot,
        forgotten: &mut Option<u64>,
    ) -> anyhow::Result<()> {
        let Some(heads) = snapshot.heads else { return Ok(()) };
        let Some((last, payout)) = snapshot.finalized.final_payout(heads.finalized_timestamp) else { return Ok(()) };
        if *forgotten != Some(last) {
            self.payouts.forget(last, payout.root).await?;
            *forgotten = Some(last);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use attribution::epoch::{Parts, one_by_one};
    use types::{amount::Amount, id::Address, payout::PartLeaf, split::Part};

    use super::*;

    /// A tree whose accounts have these many parts.
    fn tree(parts: &[u64]) -> Payout {
        let of = |(account, count): (usize, &u64)| {
            let leaf = |receipt| PartLeaf::new(Address([9; 20]), receipt, Part::Node, Amount(1));
            (Address([u8::try_from(account).unwrap(); 20]), (0..*count).map(leaf).collect())
        };
        let parts: Parts = parts.iter().enumerate().map(of).collect();
        Payout::over(&BTreeMap::new(), parts, &one_by_one).unwrap()
    }

    fn gather(tree: &Payout, most: usize) -> anyhow::Result<Vec<Line>> {
        let mut gathered = Gathered::default();
        loop {
            let (line, part) = gathered.place();
            if gathered.take(page(tree, line, part), most)? {
                return Ok(gathered.lines);
            }
        }
    }

    #[test]
    fn pages_make_the_tree_again_wherever_they_are_cut() {
        let rows = u64::try_from(LINES_PAGE).unwrap();
        for counts in
            [&[][..], &[0, 0], &[1, 2, 3], &[rows - 1], &[rows - 2, 0], &[rows, 5], &[3 * rows, 0, 2 * rows, 1], &[rows - 3, 1, rows]]
        {
            let tree = tree(counts);
            let lines = gather(&tree, rows_max(&tree)).unwrap();
            assert_eq!(lines, attribution::epoch::replay::lines(&tree).collect::<Vec<_>>(), "{counts:?}");
        }
    }

    #[test]
    fn a_peer_that_goes_on_for_ever_or_changes_a_line_is_stopped() {
        let tree = tree(&[u64::try_from(3 * LINES_PAGE).unwrap()]);
        assert!(gather(&tree, 2 * LINES_PAGE).unwrap_err().to_string().contains("far more than the tree should have"));
        let mut gathered = Gathered::default();
        assert!(!gathered.take(page(&tree, 0, 0), usize::MAX).unwrap());
        let mut other = page(&tree, 0, 4_095);
        other[0].leaf.cumulative = Amount(1);
        assert!(gathered.take(other, usize::MAX).unwrap_err().to_string().contains("another leaf"));
        assert!(gathered.take(Vec::new(), usize::MAX).unwrap_err().to_string().contains("ends within a line"));
    }
}
