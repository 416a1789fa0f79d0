//! Claims that nobody else makes: the stakers' vault, the insurance pool, the protocol's account and the treasuries of Datanets have nobody who asks
//! for their line, and what they are owed works for stakers, victims and contributors only once it is there.
//!
//! The poster of a payout that became final has it pay these in one `claimMany` of at most [`CLAIMS_MAX`], once per epoch, at its own expense: about 45,000 gas a claim.
//! Claims are cumulative, so that one that was missed comes with the next epoch's.

use std::collections::BTreeSet;

use chain_bridge::{client::send::Sent, follow::Snapshot};
use types::{
    amount::Amount,
    id::Address,
    manifest::{AssetKind, treasury},
};

use super::Settling;
use crate::{facts::accounts, output::money};

/// Claims of one transaction.
const CLAIMS_MAX: usize = 64;

impl Settling {
    /// Has the last final payout, if this node posted it, pay who does not claim by themselves; `relayed` is the last epoch this was done for.
    pub(super) async fn relay(&self, snapshot: &Snapshot, relayed: &mut Option<u64>) -> anyhow::Result<()> {
        let Some(heads) = snapshot.heads.filter(|_| self.is_relaying && snapshot.is_current()) else { return Ok(()) };
        let own = self.account.address();
        let last = snapshot.latest.final_payout(heads.timestamp).filter(|(_, payout)| payout.poster == own);
        let Some((epoch, _)) = last.filter(|(epoch, _)| *relayed != Some(*epoch)) else { return Ok(()) };
        // Also one that fails is over with: the next epoch's claims bring what these did not.
        *relayed = Some(epoch);
        let tree = self.tree(&snapshot.latest, epoch).await?;
        let (mut claims, mut owed) = (Vec::new(), Amount::ZERO);
        let datanets = snapshot.latest.assets().filter(|asset| asset.kind == AssetKind::Datanet).map(|asset| treasury(asset.id));
        for account in self.unattended().into_iter().chain(datanets).filter(|account| tree.claim(*account).is_some()).take(CLAIMS_MAX) {
            let Some(claim) = tree.claim(account) else { continue };
            let left = claim.leaf.cumulative.minus(self.chain.claimed_of(account).await?).unwrap_or(Amount::ZERO);
            if left > Amount::ZERO {
                owed = owed.plus(left)?;
                claims.push((claim.leaf, claim.opening));
            }
        }
        let (claims, refused) = self.chain.payable(claims).await?;
        for (account, why) in refused {
            tracing::info!(epoch, %account, %why, "a payee that nobody claims for cannot be paid this way");
        }
        if claims.is_empty() {
            return Ok(());
        }
        tracing::info!(
            epoch,
            payees = claims.len(),
            "claiming {} for the stakers' vault, the insurance pool, the protocol and treasuries: this node pays the fees and gets nothing of it; relay = false under \
             [settlement] in tributary.toml ends this",
            money(owed)
        );
        let (paid, sent) = self.chain.claim_many(&claims).await?;
        tracing::info!(epoch, transaction = %sent.transaction, gas = sent.gas_used, "{} claimed for others, which cost {}", money(paid), money(cost(&sent)));
        Ok(())
    }

    /// Who is paid in every epoch and claims nothing by itself.
    fn unattended(&self) -> BTreeSet<Address> {
        let accounts = accounts(&self.deployment);
        [accounts.stakers, accounts.insurance, accounts.protocol].into()
    }
}

/// Paid for gas and for L1 data.
fn cost(sent: &Sent) -> Amount {
    let gas = sent.gas_price.saturating_mul(u128::from(sent.gas_used));
    Amount(gas.saturating_add(sent.l1_fee.unwrap_or_default().0))
}
