//! Faults that a poster proves while W1 runs (Protocol P7): a receipt that is void before it ends is paid nothing, one that is void later was paid.
//!
//! A root is searched when its receipts are on disk, for F3 to F6 as far as receipts, quotes and manifests show them, about 0.1 ms a receipt for its
//! signature: beside those of the same node in the epochs before, and any other, however old, that speaks for the same wei of a lane (`lanes`). A proof is
//! two transactions; its reporter is given at most half of what a slash leaves beyond the victim's loss.
//!
//! By the latest block: a proof is of what the accused signed, carries no bond, and is refused on a branch without the root it names. A
//! reorganisation costs its sender gas.

use std::{collections::BTreeMap, sync::Arc};

use chain_bridge::{chain::error::ChainError, registry::State};
use storage::store::Records;
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
};

use super::{
    Settling, apart,
    challenges::{RootOf, Watch, fetched_page},
    lanes::{self, At},
};
use crate::evidence::search::{Found, Rooted, rooted_faults};

/// Epochs before a root's whose receipts are all held against it, for a request that is billed twice and a receipt that stands twice. An older one that stands
/// again is too old for its root, a fault of its own; a request billed again after more epochs takes what its lane brought in for it, nobody else's money.
const EPOCHS_BACK: u64 = 8;
/// Proofs sent for one root: what is left over is anybody's to prove.
const PROVED_MAX: usize = 64;

impl Settling {
    /// Searches every root of an epoch whose W1 still runs, once if the chain answers, and proves what it finds.
    pub(super) async fn prove_faults(&self, state: &Arc<State>, now: u64, watch: &mut Watch) {
        let own = self.account.address();
        let open = state.epochs().filter(|(_, epoch)| epoch.payout.is_none() && now < epoch.payout_from);
        let roots = open.flat_map(|(number, epoch)| epoch.roots.iter().map(move |(node, root)| RootOf::new(number, *node, root)));
        let due: Vec<_> = roots.filter(|root| root.node != own && watch.is_to_be_searched(root)).collect();
        for root in due {
            let RootOf { epoch: number, node, .. } = root;
            let mut is_done = true;
            match self.faults_of(state, number, node).await {
                Ok(found) => {
                    for fault in found.into_iter().filter(|fault| fault.accused == node).take(PROVED_MAX) {
                        is_done &= self.prove(number, &fault).await;
                    }
                }
                Err(error) => {
                    is_done = false;
                    tracing::warn!(%node, epoch = number, error = format!("{error:#}"), "a root was not searched for faults");
                }
            }
            watch.searched(root, is_done);
            if is_done {
                self.notes().searched(root);
            }
        }
    }

    async fn faults_of(&self, state: &Arc<State>, number: u64, node: Address) -> anyhow::Result<Vec<Found>> {
        let mut receipts = Rooted::new();
        for epoch in number.saturating_sub(EPOCHS_BACK)..=number {
            let Some(root) = state.epoch(epoch).and_then(|epoch| epoch.roots.get(&node)) else { continue };
            if let Some(items) = self.fetched(epoch, node, root)? {
                receipts.insert((epoch, node), items);
            }
        }
        let roots = state.epochs().filter_map(|(number, epoch)| Some((number, epoch.roots.get(&node)?.receipts))).collect();
        let (state, deployment, records) = (Arc::clone(state), self.deployment.clone(), self.books.records().clone());
        apart(move || {
            let older = rivals(&records, (number, node), &receipts, &roots)?;
            receipts.extend(older);
            Ok(rooted_faults(&state, &deployment, &receipts))
        })
        .await
    }

    /// Sends a proof that the contract would take; others may have sent it before. Whether the contract has answered, either way.
    pub(super) async fn prove(&self, epoch: u64, fault: &Found) -> bool {
        let sent = match self.chain.dry_run(fault.accused, &fault.proof).await {
            Ok(()) => self.chain.send_proof(fault.accused, &fault.proof).await,
            Err(error) => Err(error),
        };
        let (node, what, why) = (fault.accused, fault.fault, &fault.why);
        match sent {
            Ok((_, proved)) => {
                tracing::warn!(%node, epoch, what, why, transaction = %proved.transaction, "a fault was proven");
                true
            }
            Err(error) => {
                tracing::warn!(%node, epoch, what, why, %error, "a fault was found and not proven");
                matches!(error, ChainError::Reverted { .. })
            }
        }
    }
}

/// Receipts of other epochs than those at hand that speak for the same wei of a lane as those of `node` in epoch `number`.
fn rivals(records: &Records, (number, node): (u64, Address), at_hand: &Rooted, roots: &BTreeMap<u64, Hash32>) -> anyhow::Result<Rooted> {
    let searched = at_hand.get(&(number, node)).map_or(&[][..], Vec::as_slice).iter().map(|item| &item.receipt.document);
    let mut older = Rooted::new();
    for At { epoch, place, receipt } in lanes::rivals(records, (number, node), searched, roots)? {
        if at_hand.contains_key(&(epoch, node)) {
            continue;
        }
        let item = fetched_page(records, epoch, node, u64::from(place))?.into_iter().next();
        // Pages of another branch's root: they are fetched anew.
        let item = item.filter(|item| item.receipt.document.hash() == receipt);
        older.entry((epoch, node)).or_default().extend(item);
    }
    Ok(older)
}
