//! `tributary claim --rent`: rent of the fragments that this node held in epochs whose audit it passed.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chain_bridge::{
    client::{ChainClient, rent::Charge},
    registry::State,
    rent::{Entry, PassedAudit, Payer},
};
use serde::Serialize;
use types::{
    amount::Amount,
    audit::auditors,
    id::{Address, AssetId, BlobId},
};

use crate::{
    audited::{self, Audited},
    command::{Context, sent::Transaction},
    output::money,
};

/// Most contributions that pay for one fragment: the same shard in several Datanets.
const PAYERS_MAX: usize = 4;

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    node: Address,
    /// Paid to the node's payout account, or kept for it, by this command.
    claimed_wei: Amount,
    epochs: Vec<Row>,
    transactions: Vec<Transaction>,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    epoch: u64,
    fragments: usize,
    /// `claimed`, or why not.
    state: &'static str,
}

/// Claims what every epoch in the data folder is owed; an epoch that was claimed before pays nothing and costs nothing.
pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let client: &ChainClient = &chain.client;
    let node = client.address().context("no account")?;
    let state = chain.state().await?;
    let folder = context.data.audits();
    let audits = tokio::task::spawn_blocking(move || audited::read(&folder)).await??;
    let mut printed = Printed { node, claimed_wei: Amount::ZERO, epochs: Vec::new(), transactions: Vec::new() };
    let (mut claims, mut whole) = (Vec::new(), Vec::new());
    for audited in &audits {
        let row = |state| Row { epoch: audited.epoch, fragments: audited.holdings.len(), state };
        match passed(client, &state, node, audited).await? {
            Ok((found, is_whole)) => {
                printed.epochs.push(row("claimed"));
                claims.extend(found);
                whole.extend(is_whole.then_some(audited.epoch));
            }
            Err(why) => printed.epochs.push(row(why)),
        }
    }
    if !claims.is_empty()
        && let Some((paid, sends)) = client.unless_rehearsed(client.claim_rent(&claims).await)?
    {
        printed.claimed_wei = paid;
        if paid == Amount::ZERO {
            // All of it was paid by an earlier command: nothing is left to show.
            let folder = context.data.audits();
            whole.iter().try_for_each(|epoch| audited::remove(&folder, *epoch))?;
        }
        printed.transactions = sends.iter().map(|sent| Transaction::new("claim rent", sent)).collect();
    }
    context.output.result(&printed, || describe(&printed))
}

/// What an audit gives to claim, and whether every fragment is paid for, or why nothing: one for each round of payers, since a row names one.
async fn passed(
    client: &ChainClient,
    state: &State,
    node: Address,
    audited: &Audited,
) -> anyhow::Result<Result<(Vec<PassedAudit>, bool), &'static str>> {
    let (Some(beacon), _) = client.audit_beacon(audited.epoch).await? else { return Ok(Err("no auditors were drawn")) };
    let roll = client.audit_roll(audited.epoch).await?;
    let Some(place) = roll.iter().position(|seat| seat.node == node) else { return Ok(Err("this node was not on the roll")) };
    let drawn = auditors(beacon, place, &roll);
    let Some(verdicts) = audited.passed(node, &drawn, &client.domains()) else { return Ok(Err("two drawn auditors did not say passed")) };
    let mut charges = BTreeMap::new();
    let mut payers = Vec::with_capacity(audited.holdings.len());
    let named = named(state);
    for held in &audited.holdings {
        let mut of = Vec::new();
        for (datanet, number) in named.get(&held.object).into_iter().flatten() {
            let known = match charges.get(datanet) {
                Some(known) => *known,
                None => {
                    let found = charge(client, *datanet, audited.epoch).await?;
                    charges.insert(*datanet, found);
                    found
                }
            };
            if let Some((period, _)) = known.filter(|(_, charge)| *number < charge.contributions) {
                of.push(Payer { datanet: *datanet, contribution: *number, period });
            }
        }
        payers.push(of);
    }
    let rounds = payers.iter().map(Vec::len).max().unwrap_or_default().min(PAYERS_MAX);
    if rounds == 0 {
        return Ok(Err("no Datanet was charged for what the node held"));
    }
    let place = u32::try_from(place)?;
    let entries =
        |round: usize| audited.holdings.iter().zip(&payers).map(move |(held, of)| Entry { held: *held, payer: of.get(round).copied() });
    let claims = (0..rounds).map(|round| PassedAudit { verdicts: verdicts.clone(), place, entries: entries(round).collect() });
    Ok(Ok((claims.collect(), payers.iter().all(|of| !of.is_empty()))))
}

/// The charge that an epoch is in; a Datanet that has something prepaid is charged first if nobody did since.
async fn charge(client: &ChainClient, datanet: AssetId, epoch: u64) -> anyhow::Result<Option<(u32, Charge)>> {
    let found = client.rent_charge(datanet, epoch).await?;
    if found.is_some() || client.rent_of(datanet).await?.prepaid == Amount::ZERO || client.is_charged_to(datanet, epoch).await? {
        return Ok(found);
    }
    match client.unless_rehearsed(client.accrue_rent(datanet).await)? {
        Some(_) => Ok(client.rent_charge(datanet, epoch).await?),
        None => Ok(None),
    }
}

/// Contributions by the object that they name.
fn named(state: &State) -> BTreeMap<BlobId, Vec<(AssetId, u32)>> {
    let mut named = BTreeMap::<_, Vec<_>>::new();
    for asset in state.assets() {
        for accepted in state.contributions(asset.id) {
            // More than 2^32 no charge counts.
            if let Ok(number) = u32::try_from(accepted.number) {
                named.entry(accepted.object).or_default().push((asset.id, number));
            }
        }
    }
    named
}

fn describe(printed: &Printed) -> String {
    if printed.epochs.is_empty() {
        return "no audit of this node is in the data folder".to_owned();
    }
    let mut text = format!("rent     {}", money(printed.claimed_wei));
    for Row { epoch, fragments, state } in &printed.epochs {
        text.push_str(&format!("\nepoch    {epoch}: {fragments} fragments, {state}"));
    }
    printed.transactions.iter().for_each(|row| text.push_str(&format!("\n{row}")));
    text
}
