//! A whole payout tree from who built it, page by page, for whoever checks it.
//!
//! 4,096 rows a page, about 370 kB: a tree of 10,000 payees and a million parts takes 247 pages, 90 MB. What comes is bounded by what the asker
//! expects, and is worth something only if it gives the posted root.

use anyhow::{Context as _, bail, ensure};
use attribution::{
    epoch::{Payout, replay::Line},
    message::{Ask, LINES_PAGE, Reply},
};
use chain_bridge::{fraud::payout::Shown, registry::state};
use p2p::client::Connection;

use super::{Kept, PAYOUTS, Settling, ask_once};

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
    let mut gathered = Gathered::default();
    loop {
        let (line, part) = gathered.place();
        match ask_once(connection.open_stream().await?, &Ask::Lines { epoch, line, part }).await? {
            Reply::Lines(page) => {
                if gathered.take(page, most)? {
                    break;
                }
            }
            Reply::Refused(reason) => bail!("it refuses: {reason}"),
            _ => bail!("it answered something else"),
        }
    }
    let shown = Shown::of(gathered.lines.iter().map(|line| (&line.leaf, line.parts.as_slice())))?;
    ensure!(shown.root() == posted.root, "it shows a tree with the root {}, posted was {}", shown.root(), posted.root);
    Ok(gathered.lines)
}

impl Settling {
    /// A page of a posted tree that this node built. One that it would first have to fetch receipts for it does not show.
    pub(super) async fn own_lines(&self, epoch: u64, line: u64, part: u64) -> anyhow::Result<Vec<Line>> {
        let state = std::sync::Arc::clone(&self.snapshots.borrow().latest);
        let posted = state.epoch(epoch).and_then(|epoch| epoch.payout).with_context(|| format!("epoch {epoch} has no payout yet"))?;
        let last = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some(tree) = last.filter(|tree| tree.root() == posted.root) {
            return Ok(page(&tree, line, part));
        }
        let is_own = posted.poster == self.account.address();
        ensure!(is_own || self.kept(epoch)?.is_some(), "this node did not build the payout of epoch {epoch}: ask its poster");
        let tree = std::sync::Arc::new(self.tree(&state, epoch).await?);
        *self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(std::sync::Arc::clone(&tree));
        Ok(page(&tree, line, part))
    }

    /// What this node's tree of an epoch was built from, if it built one.
    pub(super) fn kept(&self, epoch: u64) -> anyhow::Result<Option<Kept>> {
        let bytes = self.books.records().get(PAYOUTS, &epoch.to_be_bytes())?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).context("kept payout tree is damaged")).transpose()
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
