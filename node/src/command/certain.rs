//! The same of an account by the latest, the safe and the finalized block: what is pending may be taken back, what is final may not.

use chain_bridge::{
    chain::{Certainty, error::ChainError},
    client::ChainClient,
};
use serde::Serialize;

/// One thing by how certain it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Certain<T> {
    /// By the latest block.
    pub(super) pending: T,
    /// By the safe block: replaced only if the L1 is.
    pub(super) safe: T,
    /// By the finalized block.
    #[serde(rename = "final")]
    pub(super) finalized: T,
}

impl<T: Default + PartialEq> Certain<T> {
    /// Asks at each head. Before the contracts stood there was nothing of anybody.
    pub(super) async fn read(client: &ChainClient, ask: impl AsyncFn(ChainClient) -> Result<T, ChainError>) -> Result<Self, ChainError> {
        let at = async |certainty| match ask(client.at(certainty)).await {
            Err(ChainError::NoCode { .. }) if certainty != Certainty::Pending => Ok(T::default()),
            other => other,
        };
        // Certain ones first: asked in this order none is ahead of a later one.
        let (finalized, safe) = (at(Certainty::Final).await?, at(Certainty::Safe).await?);
        Ok(Self { pending: at(Certainty::Pending).await?, safe, finalized })
    }

    /// Lines for people; none where all heads say the same.
    pub(super) fn lines(&self, say: impl Fn(&T) -> String) -> String {
        if self.pending == self.safe && self.safe == self.finalized {
            return String::new();
        }
        format!("\npending  {}\nsafe     {}\nfinal    {}", say(&self.pending), say(&self.safe), say(&self.finalized))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_told_apart_only_where_they_differ() {
        let say = |number: &u8| format!("{number} OPEN");
        assert_eq!(Certain { pending: 1, safe: 1, finalized: 1 }.lines(say), "");
        let text = Certain { pending: 3, safe: 2, finalized: 1 }.lines(say);
        assert_eq!(text, "\npending  3 OPEN\nsafe     2 OPEN\nfinal    1 OPEN");
        let value = serde_json::to_value(Certain { pending: 3, safe: 2, finalized: 1 }).unwrap();
        assert_eq!(value, serde_json::json!({ "pending": 3, "safe": 2, "final": 1 }));
    }
}
