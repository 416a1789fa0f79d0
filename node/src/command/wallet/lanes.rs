//! `tributary wallet lanes` and `tributary wallet refund`: what nodes collected on this wallet's lanes, and what no receipt speaks for asked back.
//!
//! A lane's refund is a part of a payout tree: asked for once, when the lane has been expired long enough that neither collects nor receipts can
//! come, and paid by `tributary claim` when that epoch is final. If that payout left it out and nobody refuted it, it is asked for again, with what opens that
//! it is not there, as long as that payout is the last final one. Claimed credit notes lower it: those that their node did not pay in time are taken
//! out of its stake first, and what that does not reach is given up.

mod left_out;

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::{State, money::CreditState};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
    voucher::Lane,
};

use crate::{
    chain::Chained,
    command::{Context, sent::Transaction},
    output::{money, table},
};

/// What is printed of all lanes.
#[derive(Debug, Serialize)]
struct Listed {
    lanes: Vec<Row>,
}

/// A lane that was collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    lane: Hash32,
    node: Address,
    cap_wei: Amount,
    collected_wei: Amount,
    /// Block from which its refund may be asked for.
    refund_from_block: u64,
    /// `open`, `may be asked for`, or `asked for`.
    refund: &'static str,
    /// The epoch whose payout holds what is due.
    epoch: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Asked {
    lane: Hash32,
    /// The epoch whose payout holds what is due.
    epoch: u64,
    /// What took claims on credit notes out of stake before, and gave up what that did not reach.
    notes: Vec<Transaction>,
    transaction: Transaction,
}

/// Lists the lanes on which something was collected.
pub(super) async fn list(context: &Context) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let own = chain.client.address().context("no account")?;
    let (state, head) = (chain.state().await?, chain.head().await?.block.number);
    let age = chain.deployment().config.max_age_blocks;
    let lanes = state.lane_bodies().filter(|(_, lane)| lane.payer == own).map(|(id, lane)| row(&state, id, lane, age, head)).collect();
    let listed = Listed { lanes };
    context.output.result(&listed, || describe(&listed.lanes))
}

/// Asks for a lane's refund.
pub(super) async fn refund(context: &Context, wanted: Hash32) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let own = chain.client.address().context("no account")?;
    let (state, head) = (chain.state().await?, chain.head().await?.block.number);
    let last = state.final_payout(chain.head().await?.timestamp);
    let lane = may_ask(&state, wanted, own, chain.deployment().config.max_age_blocks, head, last.map(|(epoch, _)| epoch))?;
    let absence = match (state.refund(wanted), last) {
        (Some(_), Some((epoch, payout))) => left_out::absence(context, &chain, &state, (epoch, &payout), &lane).await?,
        _ => Vec::new(),
    };
    let mut notes = Vec::new();
    for request in unpaid(&state, wanted, chain.head().await?.timestamp) {
        // What the books hold may have been paid since.
        if is_open(&chain, wanted, request).await? && chain.client.slashable_of(lane.node).await? > Amount::ZERO {
            context.output.note(&format!("{} did not pay its credit note on {request}: taking it from its stake", lane.node));
            notes.push(Transaction::new("settle credit claim", &chain.client.settle_credit(&lane, request).await?));
        }
        if is_open(&chain, wanted, request).await? {
            context.output.note(&format!("the stake of {} does not reach its credit note on {request}: giving up the rest", lane.node));
            notes.push(Transaction::new("give up credit claim", &chain.client.drop_credit(&lane, request).await?));
        }
    }
    context.output.note("asking back what no receipt speaks for; notes and slashes give nothing back on this lane from now on");
    let (epoch, sent) = chain.client.request_refund(&lane, &absence).await?;
    let asked = Asked { lane: wanted, epoch, notes, transaction: Transaction::new("ask for a lane's refund", &sent) };
    context.output.result(&asked, || {
        format!("{}\nwhat is due stands in the payout of epoch {epoch}: `tributary claim` takes it once that is final", asked.transaction)
    })
}

async fn is_open(chain: &Chained, lane: Hash32, request: Hash32) -> anyhow::Result<bool> {
    Ok(chain.client.credit_of(lane, request).await?.is_some_and(|claim| claim.is_open))
}

/// The requests on a lane whose credit notes were claimed and not paid in time. None once its refund was asked for: its figure is fixed.
fn unpaid(state: &State, lane: Hash32, now: u64) -> Vec<Hash32> {
    if state.refund(lane).is_some() {
        return Vec::new();
    }
    let open = state.credits().filter(|(of, _, claim)| *of == lane && claim.state == CreditState::Open && claim.settle_from <= now);
    open.map(|(_, request, _)| request).collect()
}

/// The body of a lane whose refund this account may ask for now; `last` is the epoch of the last final payout.
fn may_ask(state: &State, id: Hash32, own: Address, age: u64, head: u64, last: Option<u64>) -> anyhow::Result<Lane> {
    let lane = state.lane_body(id).with_context(|| format!("nothing was collected on a lane {id}: `tributary wallet lanes` lists them"))?;
    ensure!(lane.payer == own, "lane {id} is paid by {}, this wallet is {own}: its payer asks for the refund", lane.payer);
    let row = row(state, id, &lane, age, head);
    if let Some(due) = row.epoch.filter(|due| Some(*due) != last) {
        ensure!(
            last.is_some_and(|last| last > due),
            "its refund was asked for and stands in the payout of epoch {due}: `tributary claim` takes it once that is final"
        );
        bail!(
            "its refund stood in the payout of epoch {due}, which `tributary claim` takes; left out, it could be asked for again only until the next payout was final"
        );
    }
    ensure!(
        head >= row.refund_from_block,
        "nodes may still post receipts of it: ask from block {} on, now is {head}",
        row.refund_from_block
    );
    Ok(lane)
}

fn row(state: &State, id: Hash32, lane: &Lane, age: u64, head: u64) -> Row {
    let from = lane.expiry.saturating_add(age).saturating_add(1);
    let asked = state.refund(id);
    let refund = match (asked, head >= from) {
        (Some(_), _) => "asked for",
        (None, true) => "may be asked for",
        (None, false) => "open",
    };
    Row {
        lane: id,
        node: lane.node,
        cap_wei: lane.cap,
        collected_wei: state.lane_collected(id),
        refund_from_block: from,
        refund,
        epoch: asked.map(|due| due.epoch),
    }
}

fn describe(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no node collected anything on a lane of this wallet".to_owned();
    }
    let refund = |row: &Row| match row.epoch {
        Some(epoch) => format!("asked for, due in epoch {epoch}"),
        None if row.refund == "open" => format!("from block {} on", row.refund_from_block),
        None => row.refund.to_owned(),
    };
    let cells = |row: &Row| vec![row.lane.to_string(), row.node.to_string(), money(row.collected_wei), money(row.cap_wei), refund(row)];
    table(&["lane", "node", "collected", "of at most", "refund"], &rows.iter().map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::time::BlockRef;

    use super::*;

    const OWN: Address = Address([1; 20]);

    fn state(lane: &Lane, asked: Option<u64>) -> State {
        let mut state = State::default();
        let mut events = vec![
            Event::LaneOpened { lane: *lane },
            Event::Collected { lane: lane.id(), payer: lane.payer, node: lane.node, amount: Amount(7), cumulative: Amount(7) },
        ];
        events.extend(asked.map(|epoch| Event::RefundRequested {
            lane: lane.id(),
            payer: lane.payer,
            node: lane.node,
            epoch,
            given_back: Amount::ZERO,
        }));
        // Who pays has a deposit, else nothing can be collected.
        events.insert(0, Event::Deposited { payer: lane.payer, amount: Amount(9) });
        for (number, event) in (1..).zip(events) {
            let block = BlockRef { number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    #[test]
    fn a_refund_is_asked_for_once_by_its_payer_when_no_receipt_can_come_any_more() {
        let lane = Lane { payer: OWN, node: Address([2; 20]), cap: Amount(9), expiry: 100, nonce: 1 };
        let (open, asked) = (state(&lane, None), state(&lane, Some(4)));
        let ask = |state: &State, id, own, head| may_ask(state, id, own, 50, head, None).map_err(|error| error.to_string());
        assert_eq!(ask(&open, lane.id(), OWN, 151), Ok(lane));
        assert!(ask(&open, lane.id(), OWN, 150).unwrap_err().contains("from block 151 on"));
        assert!(ask(&open, lane.id(), lane.node, 151).unwrap_err().contains("its payer asks"));
        assert!(ask(&open, Hash32::ZERO, OWN, 151).unwrap_err().contains("wallet lanes"));
        assert!(ask(&asked, lane.id(), OWN, 151).unwrap_err().contains("epoch 4"));
        let again = |last| may_ask(&asked, lane.id(), OWN, 50, 151, Some(last)).map_err(|error| error.to_string());
        assert!(again(3).unwrap_err().contains("once that is final"));
        assert_eq!(again(4), Ok(lane), "if that payout left it out");
        assert!(again(5).unwrap_err().contains("only until the next payout was final"));
    }

    #[test]
    fn notes_that_were_not_paid_in_time_are_given_up_before_the_refund_is_asked_for_and_none_after() {
        let lane = Lane { payer: OWN, node: Address([2; 20]), cap: Amount(9), expiry: 100, nonce: 1 };
        let request = |number| Hash32([number; 32]);
        let claimed = |number, settle_from| Event::CreditClaimed {
            lane: lane.id(),
            request: request(number),
            node: lane.node,
            payer: OWN,
            amount: Amount(2),
            settle_from,
        };
        let settled =
            |number, left| Event::CreditSettled { lane: lane.id(), request: request(number), paid: Amount(1), left: Amount(left) };
        let events = [claimed(1, 10), claimed(2, 11), claimed(3, 10), settled(3, 1), claimed(4, 10), settled(4, 0)];
        for (asked, expected) in [(None, vec![request(1), request(3)]), (Some(4), vec![])] {
            let mut state = state(&lane, asked);
            for (number, event) in (10..).zip(&events) {
                let block = BlockRef { number, hash: Hash32::ZERO };
                state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event: event.clone() }).unwrap();
            }
            assert_eq!(unpaid(&state, lane.id(), 10), expected);
            assert_eq!(unpaid(&state, Hash32::ZERO, 10), []);
        }
    }

    #[test]
    fn a_lane_is_listed_with_what_it_brought_in_and_when_its_refund_comes() {
        let lane = Lane { payer: OWN, node: Address([2; 20]), cap: Amount(9), expiry: 100, nonce: 1 };
        let row = row(&state(&lane, None), lane.id(), &lane, 50, 120);
        assert_eq!((row.collected_wei, row.refund, row.refund_from_block), (Amount(7), "open", 151));
        assert!(describe(&[row]).contains("from block 151 on"));
        assert!(describe(&[]).contains("no node collected"));
    }
}
