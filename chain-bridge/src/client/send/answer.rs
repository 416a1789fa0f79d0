//! What an endpoint's refusal of a transaction means, by the words of the execution clients in use.

use crate::{
    chain::error::ChainError,
    outbox::{Answer, Fees},
};

/// The fee alone is too low.
const UNDERPRICED: &[&str] = &["underpriced", "less than block base fee", "fee too low", "fee cap less than block"];
/// Another transaction of the account has the nonce.
const NONCE_USED: &[&str] = &["nonce too low", "nonce is too low", "already been used", "old nonce"];
/// Not taken, and not as it stands later either.
const REFUSED: &[&str] = &[
    "insufficient funds",
    "insufficient balance",
    "intrinsic gas",
    "exceeds block gas limit",
    "gas limit reached",
    "gas required exceeds",
    "exceeds transaction gas",
    "gas limit is too high",
    "exceeds the configured cap",
    "oversized data",
    "initcode size",
    "nonce too high",
    "pool is full",
    "txpool is full",
    "account limit exceeded",
    "invalid sender",
    "invalid chain id",
    "invalid signature",
    "not supported",
    "not available",
    "method not found",
    "priority fee per gas higher",
];

/// The meaning of a failed hand-over. The fee that an underpriced copy should have offered is for the caller to ask.
pub(super) fn of(error: &ChainError) -> Answer {
    let message = match error {
        ChainError::Rpc { message, .. } => message.to_ascii_lowercase(),
        ChainError::Reverted { .. } => return Answer::Refused,
        // Nobody answered, or in words of nobody: it may have arrived.
        _ => return Answer::Unknown,
    };
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    match () {
        () if says(UNDERPRICED) => Answer::Underpriced(Fees { most: 0, tip: 0 }),
        () if says(NONCE_USED) => Answer::NonceUsed,
        () if says(REFUSED) => Answer::Refused,
        () => Answer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_what_may_have_arrived() {
        let none = Answer::Underpriced(Fees { most: 0, tip: 0 });
        for (message, expected) in [
            ("replacement transaction underpriced", none),
            ("max fee per gas less than block base fee", none),
            ("nonce too low: next nonce 5, tx nonce 4", Answer::NonceUsed),
            ("insufficient funds for gas * price + value: balance 1", Answer::Refused),
            ("Insufficient funds for gas * price + value", Answer::Refused),
            ("intrinsic gas too low", Answer::Refused),
            ("txpool is full", Answer::Refused),
            ("the method eth_sendRawTransaction is not available", Answer::Refused),
            ("internal error", Answer::Unknown),
            ("request timed out", Answer::Unknown),
        ] {
            let error = ChainError::Rpc { method: "eth_sendRawTransaction", message: message.into() };
            assert_eq!(of(&error), expected, "{message}");
        }
        assert_eq!(of(&ChainError::Down { url: "u".into(), why: "w".into() }), Answer::Unknown);
    }
}
