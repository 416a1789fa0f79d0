//! Questions a node asks of the books; those of money are `money`'s.

use std::collections::BTreeMap;

use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, Hash32, NodeId},
};

use super::{Accepted, Asset, Epoch, Escrow, IndexRoot, Operator, Payout, Refuted, State, Version};

impl State {
    /// One asset.
    pub fn asset(&self, id: AssetId) -> Option<&Asset> {
        self.assets.get(&id)
    }

    /// All assets, by number.
    pub fn assets(&self) -> impl Iterator<Item = &Asset> {
        self.assets.values()
    }

    /// One version.
    pub fn version(&self, version: AssetVersion) -> Option<&Version> {
        self.versions.get(&version)
    }

    /// All versions, by asset and number.
    pub fn versions(&self) -> impl Iterator<Item = (AssetVersion, &Version)> {
        self.versions.iter().map(|(version, published)| (*version, published))
    }

    /// The newest version of an asset that is not frozen.
    pub fn newest(&self, asset: AssetId) -> Option<AssetVersion> {
        let range = AssetVersion { asset, version: 0 }..=AssetVersion { asset, version: u32::MAX };
        self.versions.range(range).rev().find(|(_, published)| published.frozen.is_none()).map(|(version, _)| *version)
    }

    /// The version that stands for an asset now, as the registry's `currentOf`: the newest, or where its redirects lead; nothing if they lead
    /// to a frozen one.
    pub fn current(&self, asset: AssetId) -> Option<AssetVersion> {
        let newest = self.assets.get(&asset)?.versions;
        let mut version = newest;
        // Each step leads to a version that was active when it was made, so no more steps than versions.
        for _ in 0..=newest {
            let at = AssetVersion { asset, version };
            let known = self.versions.get(&at)?;
            if known.frozen.is_none() {
                return Some(at);
            }
            version = known.superseded_by?;
        }
        None
    }

    /// The version that an asset's name means: the one that stands for it now; where its redirects lead to no active one, the newest that is.
    pub fn meant(&self, asset: AssetId) -> Option<AssetVersion> {
        self.current(asset).or_else(|| self.newest(asset))
    }

    /// Whether an answer that names `block` may be billed for a version: published by then and not frozen before it.
    pub fn is_billable(&self, version: AssetVersion, block: u64) -> bool {
        self.versions.get(&version).is_some_and(|v| v.published.0 <= block && v.frozen.is_none_or(|frozen| block <= frozen))
    }

    /// Who is paid for an asset in an answer that names `block`: its owner then.
    pub fn payee_at(&self, asset: AssetId, block: u64) -> Option<Address> {
        self.assets.get(&asset).map(|asset| asset.owner_at(block)).filter(|owner| *owner != Address::ZERO)
    }

    /// Whether `account` may sign gate reports of a Datanet.
    pub fn is_reviewer(&self, datanet: AssetId, account: Address) -> bool {
        self.assets.get(&datanet).is_some_and(|asset| {
            let owner = asset.owner();
            account == owner || self.reviewers.contains(&(datanet, owner, account))
        })
    }

    /// Whom the owner of a Datanet has named to sign gate reports, beside itself.
    pub fn reviewers(&self, datanet: AssetId) -> impl Iterator<Item = Address> {
        let owner = self.assets.get(&datanet).map(Asset::owner);
        let named = self.reviewers.iter().filter(move |(of, by, _)| *of == datanet && Some(*by) == owner);
        named.map(|(_, _, reviewer)| *reviewer)
    }

    /// Block and ordinal of a commitment.
    pub fn commitment(&self, commitment: Hash32, contributor: Address) -> Option<(u64, u32)> {
        self.commitments.get(&(commitment, contributor)).copied()
    }

    /// A Datanet's contributions in priority order.
    pub fn contributions(&self, datanet: AssetId) -> impl Iterator<Item = &Accepted> {
        self.contributions.get(&datanet).into_iter().flat_map(BTreeMap::values)
    }

    /// The contributions of a Datanet that nobody asked to erase, in priority order: those that its next version holds.
    pub fn live_contributions(&self, datanet: AssetId) -> impl Iterator<Item = &Accepted> {
        self.contributions(datanet).filter(move |contribution| self.erasure(datanet, contribution.number).is_none())
    }

    /// The contributions that a version of a Datanet holds: those accepted before it was published and not erased before it, in priority order. One that
    /// was erased since is still among them: see [`State::erased_in_index`].
    pub fn contributions_of(&self, version: AssetVersion) -> impl Iterator<Item = &Accepted> {
        let published = self.versions.get(&version).map_or((0, 0), |version| version.published);
        let before = self.contributions(version.asset).filter(move |contribution| contribution.accepted < published);
        before.filter(move |contribution| self.erasure(version.asset, contribution.number).is_none_or(|erasure| erasure.place >= published))
    }

    /// The index root of a version.
    pub fn index(&self, version: AssetVersion) -> Option<&IndexRoot> {
        self.indexes.get(&version)
    }

    /// That the index root of a version was proven wrong, if it was: nobody answers under it any more.
    pub fn refuted(&self, version: AssetVersion) -> Option<&Refuted> {
        self.refuted.get(&version)
    }

    /// The version whose index root this is, if it was proven wrong.
    pub fn refuted_root(&self, root: Hash32) -> Option<(AssetVersion, &Refuted)> {
        self.refuted.iter().find(|(_, refuted)| refuted.root == root).map(|(version, refuted)| (*version, refuted))
    }

    /// Hash of approved parameters.
    pub fn parameters(&self, id: u32) -> Option<Hash32> {
        self.parameters.get(&id).copied()
    }

    /// Least data row, if it was changed since deployment, in basis points.
    pub const fn data_row_min(&self) -> Option<u16> {
        self.data_row_min
    }

    /// All operators, by account.
    pub fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.operators.values()
    }

    /// One operator.
    pub fn operator(&self, account: Address) -> Option<&Operator> {
        self.operators.get(&account)
    }

    /// Who is paid for the answers of an operator that name `block`: its payout account then.
    pub fn payout_at(&self, account: Address, block: u64) -> Option<Address> {
        self.payouts.get(&account)?.iter().rev().find(|(from, _)| *from <= block).map(|(_, payout)| *payout)
    }

    /// The operator of a node key with the highest incarnation.
    pub fn operator_of(&self, node: NodeId) -> Option<&Operator> {
        self.operators.values().filter(|operator| operator.node == node).max_by_key(|operator| operator.incarnation)
    }

    /// A payer's deposit.
    pub fn escrow(&self, payer: Address) -> Escrow {
        self.escrows.get(&payer).copied().unwrap_or_default()
    }

    /// Deposit of a payer that is not being withdrawn.
    pub fn free(&self, payer: Address) -> Amount {
        let escrow = self.escrow(payer);
        Amount(escrow.balance.0.saturating_sub(escrow.thawing.0))
    }

    /// One epoch.
    pub fn epoch(&self, epoch: u64) -> Option<&Epoch> {
        self.epochs.get(&epoch)
    }

    /// All epochs.
    pub fn epochs(&self) -> impl Iterator<Item = (u64, &Epoch)> {
        self.epochs.iter().map(|(number, epoch)| (*number, epoch))
    }

    /// The last epoch that opened.
    pub fn current_epoch(&self) -> Option<(u64, &Epoch)> {
        self.epochs.last_key_value().map(|(number, epoch)| (*number, epoch))
    }

    /// The last payout that is final at `timestamp`.
    pub fn final_payout(&self, timestamp: u64) -> Option<(u64, Payout)> {
        let posted = self.epochs.iter().rev().filter_map(|(number, epoch)| Some((*number, epoch.payout?)));
        posted.into_iter().find(|(_, payout)| payout.final_at <= timestamp)
    }

    /// Claimed by an account since deployment.
    pub fn claimed(&self, account: Address) -> Amount {
        self.claims.get(&account).copied().unwrap_or_default()
    }
}
