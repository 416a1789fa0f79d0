//! An epoch's receipts and what they pay: one receipts tree per node, one payout tree over all (PROTOCOL section 7).
//!
//! All of it is a function of the receipts, their order of arrival forgotten. A payout leaf and its parts take 132 bytes and 48 per part.

mod division;
mod payout;
mod receipts;
pub mod replay;

pub use division::{Division, Parts, Standing, Unpaid, UnpaidWhy, Workers, divide, one_by_one};
pub use payout::{Claim, Payout, PayoutError, Refund, build_payout};
pub use receipts::{Collected, Equivocation, Refused, RefusedWhy, RootError, collect, node_root, receipts_tree};
