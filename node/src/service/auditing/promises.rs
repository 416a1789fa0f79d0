//! What this node is bound to show: every fragment that a commitment of its own lists for as long as the chain may ask for it by that, and of which a case asks now.
//!
//! Such a fragment is not released, whatever became of its object here, but for one that was erased on request, which no case may ask for. With an epoch and a commitment's life
//! of days these are five lists; 5,000 fragments are 350 KB each, read once per epoch and when something is voided.
//!
//! A list is made, signed and on the disk under one lock ([`promise`]), and whatever lets fragments go looks at the lists under the same ([`let_go`]): nothing goes between the look at it and the signature.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use storage::{
    proto::audit::message::Told,
    store::{Item, Records, Store},
};
use tokio::sync::Mutex;
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
    let (tip, state) = (keeping.snapshots.borrow().tip.number, keeping.state());
    let asked = state.cases_of(keeping.me()).map(|case| (case.object, case.fragment));
    bound_at(&keeping.store.records(), tip, keeping.chain.deployment().config.case_age_blocks, asked)
}

fn bound_at(
    records: &Records,
    tip: u64,
    age_blocks: u64,
    asked: impl Iterator<Item = (BlobId, u8)>,
) -> anyhow::Result<BTreeSet<(BlobId, u8)>> {
    let mut bound = listed(records, tip, age_blocks)?;
    bound.extend(asked);
    Ok(bound)
}

/// Lists what is held, signs it, and has both on the disk before anybody may let go of anything. Returns the list, and the commitment as it lies there.
///
/// # Errors
/// Those of listing, and what the disk says.
pub(super) async fn promise(
    turn: &Mutex<()>,
    records: &Records,
    epoch: u64,
    list: impl Future<Output = anyhow::Result<Own>>,
    sign: impl FnOnce(&Own) -> Vec<u8>,
) -> anyhow::Result<(Own, Vec<u8>)> {
    let (_turn, key) = (turn.lock().await, epoch.to_be_bytes());
    let own = list.await?;
    ensure!(records.get(COMMITS, &key)?.is_none(), "this node has committed to a list that is not on its disk any more");
    let bytes = sign(&own);
    records.put_all(&[(OWN_LISTS, &key, &own.encode()), (COMMITS, &key, &bytes)])?;
    Ok((own, bytes))
}

/// Releases a fragment that is another's if it may go, which is asked while no list is made; true if it went.
///
/// # Errors
/// Those of asking, and what the disk says.
pub(in crate::service) async fn let_go(
    turn: &Mutex<()>,
    store: &Store,
    (object, index): (BlobId, u8),
    may_go: impl FnOnce() -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let _turn = turn.lock().await;
    if !may_go()? {
        return Ok(false);
    }
    let freed = store.clone();
    tokio::task::spawn_blocking(move || freed.release(Item::Fragment { object, index })).await??;
    super::holdings::forget_tops(store, object, index)?;
    Ok(true)
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
    use std::{path::Path, sync::Arc};

    use chain_bridge::case::{Question, is_usable, parts_of};
    use storage::{
        erasure::{Encoded, Profile, encode},
        proto::audit::{Holding, Holdings},
        store::{Config, Store},
    };
    use types::{
        id::{Address, AssetId, Hash32},
        key::{Account, Domains, Signed65},
    };

    use super::{super::holdings::holding, *};

    /// The epoch, and the block that is signed.
    const EPOCH: u64 = super::super::OWN | 7;
    const BLOCK: u64 = 100;
    /// Blocks in which a commitment may open a case.
    const AGE: u64 = 50;

    fn object() -> Encoded {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * 20_000).collect();
        encode(&bytes, Hash32::ZERO, Profile::DEVNET).unwrap()
    }

    fn opened(folder: &Path) -> Store {
        Store::open(folder, Config::default()).unwrap()
    }

    /// A store with fragment 1 of the object.
    fn kept(folder: &Path, object: &Encoded) -> Store {
        let store = opened(folder);
        store.put_fragment(&object.manifest, &object.manifest.verify(1, object.fragments[1].clone()).unwrap()).unwrap();
        store
    }

    /// What lies here, as a list.
    fn lying(store: &Store, object: &Encoded) -> Own {
        let here = store.fragments_of(object.manifest.id()).unwrap();
        Own { holdings: Holdings::new(here.into_iter().map(|index| holding(&object.manifest, index).unwrap())) }
    }

    fn sign(own: &Own) -> Vec<u8> {
        let domains = Domains {
            chain_id: 1,
            escrow: Address([1; 20]),
            registry: Address([2; 20]),
            settlement: Address([3; 20]),
            stake: Address([4; 20]),
        };
        let account = Account::from_bytes(&[9; 32]).unwrap();
        let document = AuditCommit {
            node: account.address(),
            epoch: EPOCH,
            holdings: own.holdings.root(),
            ranges: own.holdings.ranges(),
            block: BLOCK,
        };
        Told::Commit(Signed::new(&account, &domains, document)).encode()
    }

    /// As upkeep does once the new holder of fragment 1 has shown it.
    async fn let_go_at(turn: &Mutex<()>, store: &Store, object: BlobId, tip: u64, asked: &[(BlobId, u8)]) -> bool {
        let may_go = || Ok(!bound_at(&store.records(), tip, AGE, asked.iter().copied())?.contains(&(object, 1)));
        let_go(turn, store, (object, 1), may_go).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_is_let_go_between_the_look_at_it_and_the_signature() {
        let (object, folder, turn) = (object(), tempfile::tempdir().unwrap(), Arc::new(Mutex::new(())));
        let (store, id) = (kept(folder.path(), &object), object.manifest.id());
        let mut going = None;
        let list = async {
            let own = lying(&store, &object);
            // Its new holder shows it just now, and upkeep gets as far as it can.
            let (turn, store) = (Arc::clone(&turn), store.clone());
            going = Some(tokio::spawn(async move { let_go_at(&turn, &store, id, BLOCK, &[]).await }));
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
            Ok(own)
        };
        let (own, _) = promise(&turn, &store.records(), EPOCH, list, sign).await.unwrap();
        assert_eq!(own.holdings.entries().len(), 1);
        assert!(!going.unwrap().await.unwrap(), "it was signed for before it could go");
        assert_eq!(store.fragments_of(id).unwrap(), [1]);
    }

    #[tokio::test]
    async fn what_is_on_its_way_out_is_not_signed_for() {
        let (object, folder, turn) = (object(), tempfile::tempdir().unwrap(), Mutex::new(()));
        let (store, id) = (kept(folder.path(), &object), object.manifest.id());
        let records = store.records();
        let promised = promise(&turn, &records, EPOCH, async { Ok(lying(&store, &object)) }, sign);
        let (went, promised) = tokio::join!(let_go_at(&turn, &store, id, BLOCK, &[]), promised);
        assert_eq!((went, promised.unwrap().0.holdings.entries().len()), (true, 0));
    }

    #[tokio::test]
    async fn a_node_signs_no_second_list_in_an_epoch() {
        let (object, folder, turn) = (object(), tempfile::tempdir().unwrap(), Mutex::new(()));
        let store = kept(folder.path(), &object);
        let records = store.records();
        promise(&turn, &records, EPOCH, async { Ok(lying(&store, &object)) }, sign).await.unwrap();
        let second = promise(&turn, &records, EPOCH, async { Ok(lying(&store, &object)) }, |_| panic!("it is not signed")).await;
        assert!(second.unwrap_err().to_string().contains("has committed to a list"));
    }

    #[tokio::test]
    async fn a_fragment_that_was_handed_over_answers_cases_until_its_commitment_is_of_no_use_then_goes() {
        let (object, folder, turn) = (object(), tempfile::tempdir().unwrap(), Mutex::new(()));
        let (mut store, id) = (kept(folder.path(), &object), object.manifest.id());
        let (own, told) = promise(&turn, &store.records(), EPOCH, async { Ok(lying(&store, &object)) }, sign).await.unwrap();
        let commit = committed(&told).unwrap();
        let held: Vec<_> = own.holdings.entries().iter().map(Holding::held).collect();
        let mut usable = 0;
        for tip in BLOCK..=BLOCK + AGE {
            // Another has it by its own signature, and upkeep looks at every block.
            assert!(!let_go_at(&turn, &store, id, tip, &[]).await, "at block {tip}");
            if tip % 16 == 0 {
                drop(store);
                store = opened(folder.path());
            }
            if is_usable(BLOCK, tip, AGE) {
                let parts = parts_of(held[0].bytes);
                let part = u32::try_from(tip).unwrap() % parts;
                let question = Question::new(commit.clone(), &held, 0, (AssetId(1), 0), part).unwrap();
                let fragment = store.get_fragment(id, 1).unwrap().expect("it is bound to show it");
                question.asked().answer(&fragment).unwrap();
                usable += 1;
            }
        }
        assert_eq!(usable, AGE, "the last block is one in which nobody can ask any more");
        // Who was asked in time is asked until the case has ended.
        assert!(!let_go_at(&turn, &store, id, BLOCK + AGE + 1, &[(id, 1)]).await);
        assert!(!let_go_at(&turn, &store, id, BLOCK + 10 * AGE, &[(id, 1)]).await);
        assert!(let_go_at(&turn, &store, id, BLOCK + AGE + 1, &[(id, 0)]).await);
        assert!(store.fragments_of(id).unwrap().is_empty() && store.get_fragment(id, 1).unwrap().is_none());
    }

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
