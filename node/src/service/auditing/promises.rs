//! What this node is bound to show: every fragment that a commitment of its own lists for as long as the chain may ask for it by that, and of which a case asks now.
//!
//! Such a fragment is not released, whatever became of its object here, but for one that was erased on request, which no case may ask for. With an epoch and a commitment's life
//! of days these are five lists; 5,000 fragments are 350 KB each, read once per epoch and when something is voided.

use std::collections::BTreeSet;

use anyhow::bail;
use chain_bridge::case::is_usable;
use storage::proto::audit::message::Told;
use types::{audit::AuditCommit, id::BlobId, key::Signed};

use super::{COMMITS, OWN_LISTS, holdings::Own};
use crate::service::keeping::Keeping;

/// Lists read in one step.
const LISTS: usize = 16;

/// Fragments that this node is bound to show. Blocks on the disk.
///
/// # Errors
/// What the disk says: then nothing may be released.
pub(in crate::service) fn bound(keeping: &Keeping) -> anyhow::Result<BTreeSet<(BlobId, u8)>> {
    let tip = keeping.snapshots.borrow().tip.number;
    let age_blocks = keeping.chain.deployment().config.case_age_blocks;
    let mut bound: BTreeSet<_> = keeping.state().cases_of(keeping.me()).map(|case| (case.object, case.fragment)).collect();
    let (records, mut from) = (keeping.store.records(), Vec::new());
    loop {
        let page = records.scan(OWN_LISTS, &from, LISTS)?;
        let Some((last, _)) = page.last() else { return Ok(bound) };
        from = [last.as_slice(), &[0]].concat();
        for (epoch, list) in page {
            let Some(commit) = records.get(COMMITS, &epoch)? else { continue };
            if is_usable(committed(&commit)?.document.block, tip, age_blocks) {
                bound.extend(Own::decode(&list)?.holdings.entries().iter().map(|held| (held.object, held.fragment)));
            }
        }
    }
}

/// A commitment as it lies on the disk.
pub(super) fn committed(bytes: &[u8]) -> anyhow::Result<Signed<AuditCommit>> {
    match Told::decode(bytes)? {
        Told::Commit(signed) => Ok(signed),
        Told::Verdict(_) => bail!("a verdict lies where a commitment is kept"),
    }
}
