//! What this node is bound to show: every fragment that a commitment of its own lists for as long as the chain may ask for it by that, and of which a case asks now.
//!
//! Such a fragment is not released, whatever became of its object here, but for one that was erased on request, which no case may ask for. With an epoch and a commitment's life
//! of days these are five lists; 5,000 fragments are 350 KB each, read once per epoch and when something is voided.

use std::collections::BTreeSet;

use anyhow::bail;
use storage::{proto::audit::message::Told, store::Records};
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
    let mut bound = listed(&keeping.store.records(), tip, keeping.chain.deployment().config.case_age_blocks)?;
    bound.extend(keeping.state().cases_of(keeping.me()).map(|case| (case.object, case.fragment)));
    Ok(bound)
}

/// What commitments list that may still open a case. Of a block that this node has not come to yet, after a restart say, they may as well.
fn listed(records: &Records, tip: u64, age_blocks: u64) -> anyhow::Result<BTreeSet<(BlobId, u8)>> {
    let (mut bound, mut from) = (BTreeSet::new(), Vec::new());
    loop {
        let page = records.scan(OWN_LISTS, &from, LISTS)?;
        let Some((last, _)) = page.last() else { return Ok(bound) };
        from = [last.as_slice(), &[0]].concat();
        for (epoch, list) in page {
            let Some(commit) = records.get(COMMITS, &epoch)? else { continue };
            if committed(&commit)?.document.block.saturating_add(age_blocks) >= tip {
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

#[cfg(test)]
mod tests {
    use storage::{
        proto::audit::{Holding, Holdings},
        store::{Config, Store},
    };
    use types::{
        id::{Address, Hash32},
        key::Signed65,
    };

    use super::*;

    /// More lists than are read in one step.
    const LAST: u8 = 16;

    #[test]
    fn what_a_commitment_lists_binds_until_the_chain_cannot_ask_for_it_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let records = Store::open(folder.path(), Config::default()).unwrap().records();
        let held = |byte| (BlobId([byte; 32]), byte);
        assert_eq!(usize::from(LAST), LISTS);
        for byte in 0..=LAST {
            let ((object, fragment), epoch) = (held(byte), u64::from(byte));
            let own = Own { holdings: Holdings::new([Holding { object, fragment, fragments: 48, bytes: 9, root: Hash32([byte; 32]) }]) };
            let document = AuditCommit { node: Address([1; 20]), epoch, holdings: own.holdings.root(), ranges: 1, block: 100 + epoch };
            let told = Told::Commit(Signed { document, signature: Signed65([0; 65]) }).encode();
            let key = epoch.to_be_bytes();
            records.put_all(&[(OWN_LISTS, &key, &own.encode()), (COMMITS, &key, &told)]).unwrap();
        }
        let from = |first: u8| (first..=LAST).map(held).collect::<BTreeSet<_>>();
        for (tip, first) in [(150, 0), (151, 1), (160, 10), (166, 16), (167, 17)] {
            assert_eq!(listed(&records, tip, 50).unwrap(), from(first), "at block {tip}");
        }
        // This node's chain is behind what it signed before it was started again.
        assert_eq!(listed(&records, 3, 50).unwrap(), from(0));
        // What is not read may bind, so nothing is said.
        records.put(COMMITS, &3_u64.to_be_bytes(), &[9]).unwrap();
        assert!(listed(&records, 150, 50).is_err());
    }
}
