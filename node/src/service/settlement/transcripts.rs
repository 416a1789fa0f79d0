//! Transcripts of this node's own answers, for whoever asks: those of the class `open` whose receipts stand under a root on the chain, for a time.
//!
//! What is shown of an answer is `attribution::transcript`'s to say. A page is read from the books, bundle by bundle beside the service, and is at most
//! 256 KiB: a peer asks no more often than for anything else. Bundles stay in the books; this is about who sees them.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use attribution::transcript::{self, TRANSCRIPTS_PAGE, Transcript};
use chain_bridge::{deploy::DeployConfig, registry::state::Epoch};

use super::{Settling, apart};

/// Until when an epoch's transcripts are shown: both windows, and as long after them as stake takes to leave. What is found later takes nothing from anybody.
pub const fn shown_until(epoch: &Epoch, config: &DeployConfig) -> u64 {
    epoch.payout_from.saturating_add(config.w2_s).saturating_add(config.unbonding_s)
}

impl Settling {
    /// A page of transcripts from a place in the order of this node's root on.
    pub(super) async fn own_transcripts(&self, epoch: u64, from: u64) -> anyhow::Result<Vec<Transcript>> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let now = snapshot.heads.context("the chain was not read yet: ask again in a moment")?.timestamp;
        let own = snapshot.latest.epoch(epoch).filter(|known| known.roots.contains_key(&self.account.address()));
        let until = shown_until(own.with_context(|| format!("this node posted nothing in epoch {epoch}"))?, &self.deployment.config);
        ensure!(now <= until, "transcripts of epoch {epoch} were shown until {}", crate::when::utc(until));
        let posting = self.books.posting(epoch)?.with_context(|| format!("this node posted nothing in epoch {epoch}"))?;
        let numbers: Vec<u64> = posting.numbers.into_iter().skip(usize::try_from(from)?).take(TRANSCRIPTS_PAGE).collect();
        let books = Arc::clone(&self.books);
        let one = move |number: u64| books.receipts(&[number])?.pop().context("one was asked for");
        apart(move || transcript::page(numbers.into_iter().map(one))).await
    }
}
