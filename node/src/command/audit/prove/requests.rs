//! F6 by request: what a client signed beside what its node posted for it.
//!
//! The client has its request in the receipt's file that `ask` kept; what the node posted stands in an exported folder. Where the posted receipt is not
//! within the request, the node is challenged: it shows another request of the same id that the client signed, or is slashed. The first run asks
//! with a bond, one after the answer's time settles.

use std::path::PathBuf;

use anyhow::Context as _;
use chain_bridge::{
    fraud::{
        calldata::Step,
        challenge::{request_evidence, unmet},
        pack::Place,
        search::{root_of, tree_of},
    },
    registry::{State, money::ChallengeOf},
};
use serde::Serialize;
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
};

use crate::{
    chain::Chained,
    command::{receipt, sent::Transaction},
    evidence::search::{Rooted, bodies_of},
    words,
};

/// What was done about one posted receipt.
#[derive(Debug, Serialize)]
pub(super) struct Held {
    /// The posted receipt.
    pub(super) receipt: Hash32,
    pub(super) node: Address,
    /// `would be asked`, `asked`, `waits`, `settled`.
    pub(super) what: &'static str,
    /// Until when the node may answer, in seconds since 1970, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<u64>,
}

/// Holds the requests of the clients' files against the posted receipts; also says which of them no posted receipt answers.
pub(super) async fn hold(
    chain: &Chained,
    state: &State,
    posted: &Rooted,
    files: &[PathBuf],
    is_dry: bool,
) -> anyhow::Result<(Vec<Held>, Vec<String>, Vec<Transaction>)> {
    let (mut held, mut unposted, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    let bodies = bodies_of(posted);
    for file in files {
        let own = receipt::read(file)?;
        let id = own.request.document.id();
        if !posted.values().flatten().any(|item| item.receipt.document.request == id) {
            unposted.push(format!("{}: no receipt of the folder answers its request", words::path(file)));
        }
        for ((epoch, node), items) in posted {
            for (index, item) in (0_u64..).zip(items).filter(|(_, item)| item.receipt.document.request == id) {
                let body = &item.receipt.document;
                let is_closed = state.voided_at(body.hash()).is_some();
                // Without a quote nothing is billed, or the quote itself is the fault.
                let Some(quote) = item.quote().filter(|quote| !is_closed && unmet(&own.request, body, quote).is_some()) else { continue };
                let (root, block) = root_of(state, *epoch, *node).context("the chain has no such root")?;
                let opening = bodies.get(&(*epoch, *node)).and_then(|bodies| tree_of(bodies)?.open(index));
                let place = Place { root, block, opening: opening.context("the receipt has no place")? };
                let evidence = request_evidence(&place, &body.encode(), &quote.encode());
                let (step, row) =
                    step(state, chain.head().await?.timestamp, body.hash(), &body.encode(), || Step::ask_request(&own.request, evidence));
                let (mut what, mut deadline) = row;
                if let Some(step) = step {
                    if is_dry {
                        what = if what == "asked" { "would be asked" } else { "would be settled" };
                    } else {
                        sent.push(Transaction::new(step.what, &chain.client.challenge(&step).await?));
                        let later = chain.state().await?;
                        deadline = open(&later, body.hash()).or(deadline);
                    }
                }
                held.push(Held { receipt: body.hash(), node: *node, what, deadline });
            }
        }
    }
    Ok((held, unposted, sent))
}

/// Until when the challenge about a receipt may be answered, if one is open.
fn open(state: &State, receipt: Hash32) -> Option<u64> {
    let is_it = |of: &ChallengeOf| matches!(of, ChallengeOf::Request { receipt: of, .. } if *of == receipt);
    state.open_challenges().find(|(_, challenge)| is_it(&challenge.of)).map(|(_, challenge)| challenge.deadline)
}

/// What is due about a receipt, and how it is told.
fn step(state: &State, now: u64, receipt: Hash32, body: &[u8], ask: impl FnOnce() -> Step) -> (Option<Step>, (&'static str, Option<u64>)) {
    match open(state, receipt) {
        None => (Some(ask()), ("asked", None)),
        Some(deadline) if now <= deadline => (None, ("waits", Some(deadline))),
        Some(deadline) => (Some(Step::settle_request(body)), ("settled", Some(deadline))),
    }
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::event::{Event, Logged};
    use types::time::BlockRef;

    use super::*;

    #[test]
    fn a_request_is_asked_once_waited_for_and_settled_when_nobody_answered() {
        let receipt = Hash32([1; 32]);
        let at = |state: &State, now| {
            let (step, told) = step(state, now, receipt, b"body", || Step::ask_leaf(0));
            (step.map(|step| step.what), told)
        };
        let mut state = State::default();
        assert_eq!(at(&state, 5), (Some("challenge withheld leaf"), ("asked", None)));
        let event = Event::RequestChallenged { id: Hash32([2; 32]), receipt, node: Address([3; 20]), request: vec![], deadline: 9 };
        let block = BlockRef { number: 1, hash: Hash32::ZERO };
        state.apply(&Logged { block, time: 5, transaction: Hash32::ZERO, log: 0, event }).unwrap();
        assert_eq!(at(&state, 9), (None, ("waits", Some(9))));
        assert_eq!(at(&state, 10), (Some("settle request"), ("settled", Some(9))));
    }
}
