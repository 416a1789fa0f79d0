//! Who gets which wei of one receipt (P6).

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    id::Address,
    manifest::Manifest,
    payout::PartLeaf,
    receipt::Receipt,
    split::{self, Part},
};

/// Accounts of the roles at the receipt's named block. A role that nobody holds has none; so has one held by the account zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolePayees {
    /// The protocol's constant.
    pub protocol: Address,
    /// The node's reward account.
    pub node: Option<Address>,
    /// Owner of the agent.
    pub agent: Option<Address>,
    /// Owner of the base model.
    pub base: Option<Address>,
    /// Owner of the adapter.
    pub adapter: Option<Address>,
    /// The stakers' pool.
    pub stakers: Address,
    /// The insurance pool.
    pub insurance: Address,
}

/// One part with its payee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Who is paid.
    pub payee: Address,
    /// Which part of which receipt, and how much.
    pub part: PartLeaf,
}

/// Why a receipt's fee cannot be divided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The numbers do not work out.
    #[error("the fee cannot be divided: {0}")]
    Amount(#[from] AmountError),
    /// A receipt that may not bill does.
    #[error("an answer that ended with {reason} bills {fee} wei, expected 0")]
    NotBillable {
        /// Reason code's name.
        reason: String,
        /// What it bills.
        fee: Amount,
    },
}

/// Parts of a receipt's fee in ascending code order; they sum to the fee. `protocol_fee` is the quote's constant.
///
/// # Errors
/// [`ShareError`].
pub fn parts(receipt: &Receipt, protocol_fee: Amount, manifest: &Manifest) -> Result<Vec<(Part, Amount)>, ShareError> {
    if !receipt.reason.is_billable() {
        return unbilled(receipt).map(|()| Vec::new());
    }
    // A receipt speaks for the stretch of its lane that ends at its cumulative-after, and the lane begins at zero.
    receipt.cumulative_after.minus(receipt.fee)?;
    let spans: Vec<u32> = receipt.spans.iter().map(|span| span.weight).collect();
    let treasuries: Vec<u64> = manifest.datanets.iter().map(|datanet| datanet.weight).collect();
    Ok(split::parts(receipt.fee, protocol_fee, &manifest.split, &spans, receipt.weight_total, &treasuries)?)
}

/// Whether a receipt that may not be billed bills nothing.
pub(crate) fn unbilled(receipt: &Receipt) -> Result<(), ShareError> {
    if receipt.fee == Amount::ZERO {
        return Ok(());
    }
    Err(ShareError::NotBillable { reason: format!("{:?}", receipt.reason), fee: receipt.fee })
}

/// The parts of receipt number `index` of its node's epoch tree, each with its payee; the part of a role that nobody holds is left out, so they
/// sum to the fee at most. What a span that `is_false` would have paid goes to the insurance pool.
///
/// # Errors
/// [`ShareError`].
pub fn payees(
    receipt: &Receipt,
    index: u64,
    protocol_fee: Amount,
    manifest: &Manifest,
    roles: &RolePayees,
    is_false: impl Fn(u16) -> bool,
) -> Result<Vec<Share>, ShareError> {
    let share = |(part, amount)| {
        let payee = match part {
            Part::Span(span) if is_false(span) => roles.insurance,
            _ => payee(part, receipt, manifest, roles)?,
        };
        Some(Share { payee, part: PartLeaf::new(receipt.node, index, part, amount) })
    };
    Ok(parts(receipt, protocol_fee, manifest)?.into_iter().filter_map(share).collect())
}

fn payee(part: Part, receipt: &Receipt, manifest: &Manifest, roles: &RolePayees) -> Option<Address> {
    let account = match part {
        Part::Protocol => Some(roles.protocol),
        Part::Node => roles.node,
        Part::Agent => roles.agent,
        Part::Base => roles.base,
        Part::Adapter => roles.adapter,
        Part::Stakers => Some(roles.stakers),
        Part::Insurance => Some(roles.insurance),
        Part::Treasury(number) => manifest.datanets.get(usize::from(number)).map(|datanet| datanet.treasury),
        Part::Span(number) => receipt.spans.get(usize::from(number)).map(|span| span.payee),
        Part::Refund => Some(receipt.client),
    };
    account.filter(|account| *account != Address::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::sample;

    #[test]
    fn each_role_is_paid_on_its_own_account() {
        let account = |byte| Address([byte; 20]);
        let receipt = Receipt { client: account(8), node: account(9), ..sample().bundle.receipt.document };
        let roles = RolePayees {
            protocol: account(1),
            node: Some(account(2)),
            agent: Some(account(3)),
            base: Some(account(4)),
            adapter: Some(account(5)),
            stakers: account(6),
            insurance: account(7),
        };
        let manifest = sample().bundle.manifest;
        let paid = |part| payee(part, &receipt, &manifest, &roles).unwrap();
        let of_roles = [Part::Protocol, Part::Node, Part::Agent, Part::Base, Part::Adapter, Part::Stakers, Part::Insurance];
        assert_eq!(of_roles.map(paid), [1, 2, 3, 4, 5, 6, 7].map(account));
        assert_eq!(paid(Part::Refund), account(8), "what was collected too much goes back to the client");
        assert_eq!(paid(Part::Treasury(0)), manifest.datanets[0].treasury);
        assert_eq!(paid(Part::Span(0)), receipt.spans[0].payee);
        let none = RolePayees { agent: None, node: None, adapter: Some(Address::ZERO), ..roles };
        assert_eq!([Part::Agent, Part::Node, Part::Adapter].map(|part| payee(part, &receipt, &manifest, &none)), [None; 3]);
    }
}
