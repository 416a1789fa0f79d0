//! What a payout depends on beside its receipts: the chain's books as `attribution` asks them, and what a deployment fixes.

use attribution::epoch::replay::{Accounts, EpochFacts, Facts, Posted, RefundFacts, RootFacts};
use chain_bridge::{
    deploy::Deployment,
    registry::{State, state::SubmittedRoot},
};
use types::{
    amount::Amount,
    id::{Address, AssetId, Hash32},
};

/// What payouts depend on, by the books.
#[derive(Debug, Clone, Copy)]
pub struct ChainFacts<'s>(pub &'s State);

impl Facts for ChainFacts<'_> {
    fn epoch(&self, epoch: u64) -> Option<EpochFacts> {
        let found = self.0.epoch(epoch)?;
        let root = |root: &SubmittedRoot| RootFacts { receipts: root.receipts, count: root.count, fees: root.fees, block: root.block };
        let due = self.0.refunds_due(epoch);
        Some(EpochFacts {
            roots: found.roots.iter().map(|(node, submitted)| (*node, root(submitted))).collect(),
            posted: found.payout.map(|payout| Posted { root: payout.root, total: payout.total, previous: payout.previous }),
            refunds: due
                .map(|(lane, due, collected)| RefundFacts { lane, payer: due.payer, node: due.node, collected, given_back: due.given_back })
                .collect(),
        })
    }

    fn is_out(&self, epoch: u64, node: Address, receipt: Hash32) -> bool {
        self.0.is_out(epoch, node, receipt)
    }

    fn is_span_out(&self, epoch: u64, receipt: Hash32, span: u16) -> bool {
        self.0.is_span_out(epoch, receipt, span)
    }

    fn is_collected(&self, epoch: u64, lane: Hash32, cumulative_after: Amount) -> bool {
        self.0.is_collected(epoch, lane, cumulative_after)
    }

    fn owner_at(&self, asset: AssetId, block: u64) -> Option<Address> {
        self.0.payee_at(asset, block)
    }

    fn payout_at(&self, node: Address, block: u64) -> Option<Address> {
        self.0.payout_at(node, block)
    }
}

/// What a deployment fixes.
pub fn accounts(deployment: &Deployment) -> Accounts {
    Accounts {
        domains: deployment.domains(),
        protocol: deployment.config.protocol,
        stakers: deployment.rewards,
        insurance: deployment.insurance,
    }
}
