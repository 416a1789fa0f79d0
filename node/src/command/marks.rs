//! Local models and adapters whose weights were declared as trained on contributions that were erased since: what the chain says, where there is one to ask.

use std::collections::BTreeMap;

use chain_bridge::registry::State;
use types::id::BlobId;

use super::Context;

/// Requests in words, by content hash of a published version that they hit.
pub(super) type Marks = BTreeMap<BlobId, Vec<String>>;

/// The marks by the chain's books; none where no deployment is known, or with a word where the chain does not answer.
pub(super) async fn marks(context: &Context) -> Marks {
    if context.deployment().is_err() {
        return Marks::new();
    }
    let asked = async { context.chain_reader().await?.state().await };
    match asked.await {
        Ok(state) => of(&state),
        Err(error) => {
            context.output.note(&format!("whether any was trained on what was erased since is not known: {error:#}"));
            Marks::new()
        }
    }
}

fn of(state: &State) -> Marks {
    let mut marks = Marks::new();
    for (version, published) in state.versions() {
        let words = state.erased_under(version).into_iter().map(ToString::to_string);
        let known = marks.entry(published.content).or_default();
        words.for_each(|words| {
            if !known.contains(&words) {
                known.push(words);
            }
        });
    }
    marks.retain(|_, words| !words.is_empty());
    marks
}
