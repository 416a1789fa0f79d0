//! This node's own roots as they are opened on the chain: places of receipts without the receipts themselves, so that a question about one of them
//! reads one.
//!
//! A root is read once, 4,096 receipts of 10 KB at most, and its tree stays in memory: 0.6 MB each, of `ROOTS_MAX` roots. A receipt is asked about while
//! W1 of its epoch runs (F6, F8), which begins a third of W1 apart at least: in four epochs at most. Its text is asked for until W2 ends as well, by anybody: where W2 is as long as W1
//! those of seven epochs, and whoever asks of one after the other must not have each of them read anew.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use attribution::{bundle::Bundle, epoch::receipts_tree};
use chain_bridge::{
    fraud::{pack::Place, search::root_of},
    registry::State,
};
use types::{encoding::Document as _, id::Hash32, key::Signed, merkle::SumTree, operator::NodeRoot, receipt::Receipt};

use super::Settling;

/// Roots in memory: those of which anything can be asked.
const ROOTS_MAX: usize = 8;

/// A root of this node with the way to each of its receipts.
#[derive(Debug)]
pub(super) struct OwnRoot {
    pub(super) root: NodeRoot,
    pub(super) block: u64,
    pub(super) tree: SumTree,
    /// Where the books have the receipts.
    pub(super) numbers: Vec<u64>,
    hashes: Vec<Hash32>,
}

impl OwnRoot {
    /// Where the books have a receipt that stands under it.
    pub(super) fn number(&self, receipt: Hash32) -> Option<u64> {
        let place = self.hashes.iter().position(|hash| *hash == receipt)?;
        self.numbers.get(place).copied()
    }
}

/// The roots that were asked about; the one asked about last stands last.
#[derive(Debug, Default)]
pub struct OwnRoots(Mutex<Vec<Arc<OwnRoot>>>);

impl OwnRoots {
    fn get_or_make(&self, (root, block): (NodeRoot, u64), make: impl FnOnce() -> anyhow::Result<OwnRoot>) -> anyhow::Result<Arc<OwnRoot>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().position(|known| (known.root, known.block) == (root, block));
        let own = match place {
            Some(place) => known.remove(place),
            None => Arc::new(make()?),
        };
        if known.len() >= ROOTS_MAX {
            known.remove(0);
        }
        known.push(Arc::clone(&own));
        Ok(own)
    }
}

impl Settling {
    /// This node's root of an epoch.
    pub(super) fn own_root(&self, state: &State, epoch: u64) -> anyhow::Result<Arc<OwnRoot>> {
        let (root, block) = root_of(state, epoch, self.account.address()).context("this node submitted no root then")?;
        self.own_roots.get_or_make((root, block), || {
            let posting = self.books.posting(epoch)?.context("this node's books hold no posting of that epoch")?;
            let receipts: Vec<Signed<Receipt>> = self.books.receipts(&posting.numbers)?.into_iter().map(|bundle| bundle.receipt).collect();
            let tree = receipts_tree(&receipts)?;
            ensure!(tree.root() == root.receipts, "the books give the root {}, submitted was {}", tree.root(), root.receipts);
            let hashes = receipts.iter().map(|receipt| receipt.document.hash()).collect();
            Ok(OwnRoot { root, block, tree, numbers: posting.numbers, hashes })
        })
    }

    /// A receipt that stands under one of this node's roots whose W1 has not ended at `now`, with its place: of others nothing is asked any more.
    pub(super) fn own_place(&self, state: &State, now: u64, receipt: Hash32) -> anyhow::Result<(Bundle, Place)> {
        let own = self.account.address();
        let open = state.epochs().filter(|(_, epoch)| now < epoch.payout_from && epoch.roots.contains_key(&own));
        for (number, _) in open {
            let of = self.own_root(state, number)?;
            let Some(index) = of.hashes.iter().position(|hash| *hash == receipt) else { continue };
            let opening = of.tree.open(u64::try_from(index)?).context("a receipt stands beyond its tree")?;
            let bundle = self.books.receipts(&of.numbers[index..=index])?.pop().context("the books hold no such receipt")?;
            return Ok((bundle, Place { root: of.root, block: of.block, opening }));
        }
        anyhow::bail!("receipt {receipt} is not in this node's books")
    }
}

#[cfg(test)]
mod tests {
    use types::{amount::Amount, id::Address};

    use super::*;

    fn root(epoch: u64) -> NodeRoot {
        NodeRoot { node: Address([7; 20]), epoch, receipts: Hash32::ZERO, count: 0, fees: Amount::ZERO }
    }

    #[test]
    fn a_root_is_read_once_while_it_is_asked_about_and_again_in_another_block() {
        let (known, mut reads) = (OwnRoots::default(), 0);
        let mut ask = |epoch, block| {
            let make = || -> anyhow::Result<OwnRoot> {
                reads += 1;
                Ok(OwnRoot { root: root(epoch), block, tree: receipts_tree(&[])?, numbers: vec![], hashes: vec![] })
            };
            let own = known.get_or_make((root(epoch), block), make).unwrap();
            assert_eq!((own.root, own.block), (root(epoch), block));
            reads
        };
        for _ in 0..5 {
            for epoch in 1..=8 {
                ask(epoch, 10);
            }
        }
        assert_eq!(ask(8, 10), 8);
        assert_eq!(ask(8, 11), 9, "a reorganisation put it elsewhere");
        assert_eq!(ask(1, 10), 10, "eight are kept");
        assert!(known.get_or_make((root(9), 1), || anyhow::bail!("the disk")).is_err());
    }
}
