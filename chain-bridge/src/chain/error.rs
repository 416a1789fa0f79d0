//! What can go wrong with a chain, in words that say what to do.

use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use crate::outbox::OutboxError;

/// Why the chain did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Nobody answers.
    #[error("the chain at {url} does not answer ({why}): start it, or name another endpoint")]
    Down {
        /// Endpoint.
        url: String,
        /// What the transport said.
        why: String,
    },
    /// Another chain.
    #[error(
        "the chain at {url} has id {got}, the deployment is on chain {expected}: use the endpoint or the registry.json that belongs to the other"
    )]
    WrongChain {
        /// Endpoint.
        url: String,
        /// The deployment's.
        expected: u64,
        /// The endpoint's.
        got: u64,
    },
    /// A contract is missing.
    #[error("no code at {address}, where {contract} should be: the deployment file is of another chain, or the chain was started anew")]
    NoCode {
        /// The contract.
        contract: &'static str,
        /// Its address.
        address: Address,
    },
    /// Another contract.
    #[error(
        "{contract} at {address} is not what this program's contracts and the file's values give (code {got}, expected {expected}): the deployment is of another version, or the file names the wrong address: take the file that the deployment's operator gives, and the program of its version"
    )]
    OtherCode {
        /// The contract.
        contract: &'static str,
        /// Its address.
        address: Address,
        /// Hash of the code it should have.
        expected: Hash32,
        /// Hash of the code it has.
        got: Hash32,
    },
    /// A contract that knows others than the file says.
    #[error("the {what} on the chain is {got}, expected {expected}: the deployment was not finished, or the file is wrong")]
    OtherPeer {
        /// Which.
        what: &'static str,
        /// The file's.
        expected: Address,
        /// The chain's.
        got: Address,
    },
    /// The contract refused.
    #[error("{what} was refused by the chain: {reason}")]
    Reverted {
        /// The operation.
        what: String,
        /// The contract's error in words.
        reason: String,
        /// Selector name of the contract's error, if known.
        error: Option<String>,
    },
    /// No key.
    #[error("{what} needs an account and this client only reads: open it with a key")]
    NoAccount {
        /// The operation.
        what: &'static str,
    },
    /// No money.
    #[error("{what}: account {account} holds {}, which do not pay for it and its fees: nothing was sent; fund the account", balance.in_open())]
    NoFunds {
        /// The operation.
        what: String,
        /// The account.
        account: Address,
        /// What it has.
        balance: Amount,
    },
    /// Not enough money, known before anything was signed.
    #[error(
        "{what} may cost {} with its fees, account {account} holds {}: nothing was sent; fund the account with {} at least",
        most.in_open(), balance.in_open(), Amount(most.0.saturating_sub(balance.0)).in_open()
    )]
    TooDear {
        /// The operation.
        what: String,
        /// The account.
        account: Address,
        /// The most it may cost.
        most: Amount,
        /// What the account has.
        balance: Amount,
    },
    /// Nobody let it be signed.
    #[error("{what} was not sent: {why}")]
    NotSent {
        /// The operation.
        what: String,
        /// Why.
        why: String,
    },
    /// Sending was stopped.
    #[error("{what} was not sent: {why}")]
    Stopped {
        /// The operation.
        what: String,
        /// Why.
        why: String,
    },
    /// The endpoint did not say whether it took a transaction.
    #[error(
        "{what}: the endpoint answered {message:?} to transaction {transaction}, which may be on its way all the same: do the same again, which finds out and sends nothing twice"
    )]
    Unclear {
        /// The operation.
        what: String,
        /// The transaction.
        transaction: Hash32,
        /// What the endpoint said.
        message: String,
    },
    /// Another process of the folder wanted the same.
    #[error(
        "{what}: another process of this folder wanted the same meanwhile: nothing was sent; do it again, which tells what became of that"
    )]
    Overtaken {
        /// The operation.
        what: String,
    },
    /// Not included in time.
    #[error(
        "{what}: transaction {transaction} was not included within {seconds} s; it may still be: do the same again, which waits on and sends nothing twice"
    )]
    NotIncluded {
        /// The operation.
        what: String,
        /// The transaction.
        transaction: Hash32,
        /// How long was waited.
        seconds: u64,
    },
    /// The chain's time did not come.
    #[error("the chain did not reach {what} within {seconds} s: is it producing blocks?")]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The endpoint answered with an error of its own.
    #[error("{method} failed: {message}")]
    Rpc {
        /// The method.
        method: &'static str,
        /// The message.
        message: String,
    },
    /// The endpoint answered what nobody can read.
    #[error("{what} holds what this version cannot read ({why}): the contracts or the endpoint are of another version")]
    Unreadable {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The outbox has no place.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The outbox file.
    #[error("the outbox file {path}: {why}")]
    OutboxFile {
        /// Its path.
        path: String,
        /// Why.
        why: String,
    },
    /// An argument that cannot be right.
    #[error("{0}")]
    Argument(String),
}

impl ChainError {
    /// Name of the contract's error, for callers that act on one.
    pub fn contract_error(&self) -> Option<&str> {
        match self {
            Self::Reverted { error, .. } => error.as_deref(),
            _ => None,
        }
    }
}
