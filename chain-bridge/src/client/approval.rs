//! Who is asked before a transaction is signed, and told what becomes of it.

use std::fmt;

use types::id::Hash32;

use super::{quote::Quote, send::Sent};
use crate::{
    chain::error::ChainError,
    outbox::{Fees, Untold},
};

/// Asked before anything is signed, told afterwards. A process that runs by itself has none.
pub trait Approval: fmt::Debug + Send + Sync {
    /// Whether `key` may be signed.
    ///
    /// # Errors
    /// [`ChainError::NotSent`] with the reason: nothing is signed, written or sent then.
    fn approve(&self, key: &str, quote: &Quote) -> Result<(), ChainError>;

    /// `key` is in a block; `is_success` is false if its contract refused it there.
    fn included(&self, key: &str, sent: &Sent, is_success: bool);

    /// Fingerprint of the command that asks: the same command line has the same one.
    fn origin(&self) -> Hash32 {
        Hash32::ZERO
    }

    /// Whether what an earlier run of the command sent, without telling how it ended, is sent once more.
    fn is_again(&self) -> bool {
        false
    }

    /// Whether nothing is signed, and what would follow is still asked about: a dry run.
    fn is_rehearsal(&self) -> bool {
        false
    }

    /// A transaction is waited for. Told at each look for it, several times a second.
    fn waiting(&self, _: &Waiting) {}

    /// What is asked for now was sent by an earlier run, which was stopped before it told how it ended; nothing is sent for it now. `quote` holds
    /// what it cost.
    fn resumed(&self, _earlier: &Untold, _quote: &Quote, _ended: Result<&Sent, &ChainError>) {}
}

/// A transaction on its way to a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The operation.
    pub what: String,
    /// Its last copy.
    pub transaction: Option<Hash32>,
    /// Its nonce.
    pub nonce: u64,
    /// The nonce that the chain takes next; below its own, something else of the account must come first.
    pub next_nonce: u64,
    /// Since when, in seconds since 1970; 0 if that is not known.
    pub since: u64,
    /// Most gas it may use.
    pub gas: u64,
    /// What its last copy offers for it.
    pub fees: Fees,
    /// How often the fee was raised.
    pub bumps: u8,
    /// What the chain said to the last copy that it did not take.
    pub refusal: Option<String>,
}
