//! `tributary audit case`: slash cases on the chain. Who failed an audit is asked there for the bytes once more, with a bond; silence costs it stake.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{
    case::is_usable,
    registry::{Closing, OpenCase, State},
};
use clap::Subcommand;
use serde::Serialize;
use storage::{
    erasure::{self, ObjectManifest, VerifiedFragment},
    proto::message::{Reply, Request},
};
use tokio::time::timeout;
use types::{
    amount::Amount,
    id::{Address, AssetId, BlobId, Hash32},
};

use crate::{
    command::{
        Context,
        datanet::network::{Network, Storing},
        sent::Transaction,
    },
    datanet::exchange::{ask, read_fragment},
    output::{money, table},
    unshown::Unshown,
    when::when,
};

/// Longest wait for what a holder has of an object.
const LOCATE_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a fragment: the largest at 3 Mbit/s.
const GET_LIMIT: Duration = Duration::from_secs(60);

/// What is to be done about slash cases.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Ask a node on the chain for bytes that it committed to and did not show its auditors.
    #[command(
        after_help = "The evidence lies in the data folder of each auditor that failed the node: evidence/audit-EPOCH-NODE.json. A commitment is of use for some days. Who\nanswers takes half of what that cost out of the bond; the rest is kept for you (tributary claim --kept); all of it comes back if nobody answers.\n\nExample:\n  tributary audit case open ~/.tributary/evidence/audit-412-0x3f0c...9a.json\n\nNext: tributary audit case list, and after its deadline tributary audit case close ID."
    )]
    Open {
        /// The file of evidence.
        evidence: PathBuf,
        /// Which 1,024 bytes of the fragment, counted from 0 [default: one of those that the node did not show, drawn at random].
        #[arg(long, value_name = "NUMBER")]
        part: Option<u32>,
    },
    /// Show the open cases.
    List {
        /// Only those against this account.
        #[arg(long, value_name = "ADDRESS")]
        node: Option<Address>,
    },
    /// Answer a case with bytes from the network: a running node answers its own by itself, anybody may for one that is away.
    Answer {
        /// The case.
        id: Hash32,
        /// Overlay address to join through [default: from the configuration].
        #[arg(long, value_name = "MULTIADDR")]
        bootstrap: Vec<String>,
    },
    /// Close a case that nobody answered in time: the node is slashed, the bond goes back. One whose node was slashed since it signed, or whose contribution was erased, closes at any time and takes nothing.
    Close {
        /// The case.
        id: Hash32,
    },
}

/// What is printed after a transaction.
#[derive(Debug, Serialize)]
struct Printed {
    case: CaseRow,
    /// Attached to the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    bond_wei: Option<Amount>,
    /// The node's stake before and after, of a case that was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    stake: Option<Stake>,
    transactions: Vec<Transaction>,
}

/// Slashable stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Stake {
    before_wei: Amount,
    after_wei: Amount,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct CaseRow {
    id: Hash32,
    node: Address,
    object: BlobId,
    fragment: u8,
    part: u32,
    datanet: AssetId,
    contribution: u32,
    /// Nothing before it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    opener: Option<Address>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<u64>,
    /// Whether anybody may close it: its deadline has passed, or it takes nothing.
    is_over: bool,
    /// Whether closing it takes no stake: its contribution was erased, or its node was slashed since it signed.
    takes_nothing: bool,
}

impl CaseRow {
    fn of(case: &OpenCase, closing: Closing) -> Self {
        let OpenCase { id, asked, opener, object, fragment, deadline, .. } = *case;
        Self {
            id,
            node: asked.node,
            object,
            fragment,
            part: asked.part,
            datanet: asked.datanet,
            contribution: asked.contribution,
            opener: Some(opener),
            deadline: Some(deadline),
            is_over: closing.is_allowed(),
            takes_nothing: closing == Closing::TakesNothing,
        }
    }
}

/// Runs the command.
pub(super) async fn run(context: &Context, action: Action) -> anyhow::Result<()> {
    match action {
        Action::Open { evidence, part } => open(context, &evidence, part).await,
        Action::List { node } => list(context, node).await,
        Action::Answer { id, bootstrap } => answer(context, id, &bootstrap).await,
        Action::Close { id } => close(context, id).await,
    }
}

async fn open(context: &Context, path: &Path, part: Option<u32>) -> anyhow::Result<()> {
    let unshown = Unshown::read(path)?;
    let mut draw = [0; 4];
    getrandom::fill(&mut draw).context("no randomness from the system")?;
    let chain = context.chain().await?;
    let (client, state, head) = (&chain.client, chain.state().await?, chain.head().await?);
    let commit = unshown.commit.document;
    let named = || path.display().to_string();
    unshown
        .commit
        .verify(&client.domains(), commit.node)
        .with_context(|| format!("{}: the commitment is not its node's on this deployment", named()))?;
    let leads_to = unshown.opening.root(&unshown.held.leaf());
    ensure!(leads_to == Some(commit.holdings), "{}: the fragment is not in what the node committed to", named());
    let age_blocks = chain.deployment().config.case_age_blocks;
    ensure!(
        is_usable(commit.block, head.block.number, age_blocks),
        "{}: the node committed in block {}, and a case takes commitments of the last {age_blocks} blocks; the chain stands at {}: use evidence of a later audit",
        named(),
        commit.block,
        head.block.number
    );
    if let Some(convicted) = state.convicted_at(commit.node).filter(|convicted| *convicted >= commit.block) {
        bail!("{} was slashed in block {convicted} for all that it had signed until then: use evidence of a later audit", commit.node);
    }
    let question = unshown.question(&state, part, u32::from_be_bytes(draw))?;
    let asked = question.asked();
    if let Some(case) = state.case(asked.id()) {
        bail!(
            "case {} asks for these bytes already: close it once its deadline has passed, {}",
            case.id,
            when(case.deadline, head.timestamp)
        );
    }
    let (bond, held) = (chain.deployment().config.case_bond, unshown.held);
    let mut printed = Printed {
        case: CaseRow {
            id: asked.id(),
            node: commit.node,
            object: held.object,
            fragment: held.fragment,
            part: question.part,
            datanet: asked.datanet,
            contribution: asked.contribution,
            opener: client.address(),
            deadline: None,
            is_over: false,
            takes_nothing: false,
        },
        bond_wei: Some(bond),
        stake: None,
        transactions: Vec::new(),
    };
    if let Some(sent) = client.unless_rehearsed(client.open_case(&question).await)? {
        printed.case.deadline = chain.state().await?.case(printed.case.id).map(|case| case.deadline);
        printed.transactions.push(Transaction::new("open a slash case", &sent));
    }
    context.output.result(&printed, || describe(&printed))
}

async fn list(context: &Context, node: Option<Address>) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let (state, now) = (chain.state().await?, chain.head().await?.timestamp);
    let of = |case: &&OpenCase| node.is_none_or(|node| case.asked.node == node);
    let rows: Vec<_> = state.cases().filter(of).map(|case| CaseRow::of(case, state.closing(case, now))).collect();
    context.output.result(&rows, || describe_all(&rows, now))
}

/// The case of an id.
fn find(state: &State, id: Hash32) -> anyhow::Result<&OpenCase> {
    state.case(id).with_context(|| format!("no case {id} is open: `tributary audit case list` shows those that are"))
}

async fn answer(context: &Context, id: Hash32, bootstrap: &[String]) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let (state, now) = (chain.state().await?, chain.head().await?.timestamp);
    let case = find(&state, id)?;
    let network = Network::join(context, bootstrap).await?;
    let found = match network.storing(&state, chain.deployment().chain_id).await {
        Ok(storing) => fragment(&network, &storing, case.object, case.fragment).await,
        Err(error) => Err(error),
    };
    network.leave().await;
    let answer = case.asked.answer(found?.bytes())?;
    let mut printed = Printed { case: CaseRow::of(case, state.closing(case, now)), bond_wei: None, stake: None, transactions: Vec::new() };
    let sent = chain.client.unless_rehearsed(chain.client.answer_case(&answer).await)?;
    printed.transactions.extend(sent.iter().map(|sent| Transaction::new("answer a slash case", sent)));
    context.output.result(&printed, || describe(&printed))
}

/// A fragment, from who has it, or computed from others.
async fn fragment(network: &Network, storing: &Storing, object: BlobId, index: u8) -> anyhow::Result<VerifiedFragment> {
    let (mut manifest, mut found) = (None::<ObjectManifest>, Vec::<VerifiedFragment>::new());
    for (node, addr) in storing {
        let Ok(Reply::Located { manifest: bytes, mut indices, .. }) =
            ask(&network.bulk, *node, *addr, &Request::Locate { object }, LOCATE_LIMIT).await
        else {
            continue;
        };
        let Ok(located) = ObjectManifest::decode_as(object, &bytes) else { continue };
        let manifest = manifest.get_or_insert(located);
        indices.sort_by_key(|at| *at != index);
        for at in indices {
            if found.iter().any(|fragment| fragment.index() == at) {
                continue;
            }
            let read = timeout(GET_LIMIT, read_fragment(&network.bulk, *node, *addr, manifest, at)).await;
            match read {
                Ok(Ok(fragment)) if at == index => return Ok(fragment),
                Ok(Ok(fragment)) => found.push(fragment),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        if found.len() >= usize::from(manifest.profile().data()) {
            return Ok(erasure::rebuild(manifest, &found, index)?);
        }
    }
    let needed = manifest.map_or_else(|| "more".to_owned(), |manifest| manifest.profile().data().to_string());
    bail!(
        "{} fragments of object {object} were found on {} nodes, {needed} are needed: start nodes that hold it",
        found.len(),
        storing.len()
    )
}

async fn close(context: &Context, id: Hash32) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let (state, now) = (chain.state().await?, chain.head().await?.timestamp);
    let case = *find(&state, id)?;
    let closing = state.closing(&case, now);
    ensure!(closing.is_allowed(), "the node may answer case {id} until {}: close it then", when(case.deadline, now));
    let before = slashable(&state, case.asked.node);
    let mut printed = Printed { case: CaseRow::of(&case, closing), bond_wei: None, stake: None, transactions: Vec::new() };
    if let Some(sent) = chain.client.unless_rehearsed(chain.client.close_case(case.asked).await)? {
        let after = slashable(&*chain.state().await?, case.asked.node);
        printed.stake = Some(Stake { before_wei: before, after_wei: after });
        printed.transactions.push(Transaction::new("close a slash case", &sent));
    }
    context.output.result(&printed, || describe(&printed))
}

fn slashable(state: &State, node: Address) -> Amount {
    state.operator(node).map_or(Amount::ZERO, |operator| Amount(operator.active.0.saturating_add(operator.unbonding.0)))
}

fn describe(printed: &Printed) -> String {
    let CaseRow { id, node, object, fragment, part, datanet, contribution, .. } = &printed.case;
    let mut text = format!(
        "case      {id}\nnode      {node}\nasked     leaf {part} of fragment {fragment} of object {object}, contribution {contribution} of Datanet {datanet}"
    );
    if let Some(bond) = printed.bond_wei {
        text.push_str(&format!("\nbond      {}", money(bond)));
    }
    if let Some(Stake { before_wei, after_wei }) = printed.stake {
        text.push_str(&format!("\nstake     {} before, {} now", money(before_wei), money(after_wei)));
    }
    printed.transactions.iter().for_each(|row| text.push_str(&format!("\n{row}")));
    text
}

fn describe_all(rows: &[CaseRow], now: u64) -> String {
    if rows.is_empty() {
        return "no case is open".to_owned();
    }
    let line = |row: &CaseRow| {
        let deadline = row.deadline.map_or_else(String::new, |deadline| when(deadline, now));
        let stands = match (row.is_over, row.takes_nothing) {
            (_, true) => "may be closed, takes nothing",
            (true, false) => "may be closed",
            (false, false) => "may be answered",
        };
        vec![
            row.id.to_string(),
            row.node.to_string(),
            row.object.to_string(),
            row.fragment.to_string(),
            row.part.to_string(),
            deadline,
            stands.to_owned(),
        ]
    };
    let lines: Vec<_> = rows.iter().map(line).collect();
    table(&["case", "node", "object", "fragment", "leaf", "deadline", ""], &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(is_over: bool) -> CaseRow {
        CaseRow {
            id: Hash32([1; 32]),
            node: Address([2; 20]),
            object: BlobId([3; 32]),
            fragment: 4,
            part: 17,
            datanet: AssetId(5),
            contribution: 6,
            opener: Some(Address([7; 20])),
            deadline: Some(1_000),
            is_over,
            takes_nothing: false,
        }
    }

    #[test]
    fn a_case_is_printed_with_what_is_asked_and_what_it_did_to_the_stake() {
        let open = Printed { case: row(false), bond_wei: Some(Amount(1_000_000_000_000_000_000)), stake: None, transactions: vec![] };
        let text = describe(&open);
        for part in ["leaf 17 of fragment 4 of object", "contribution 6 of Datanet 5", "bond      1 OPEN"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let stake = Stake { before_wei: Amount(20_000_000_000_000_000_000), after_wei: Amount(18_000_000_000_000_000_000) };
        let closed = describe(&Printed { bond_wei: None, stake: Some(stake), ..open });
        assert!(closed.contains("stake     20 OPEN before, 18 OPEN now") && !closed.contains("bond"), "{closed}");
        let list = describe_all(&[row(false), row(true)], 900);
        assert!(list.contains("may be answered") && list.contains("may be closed") && !list.contains("takes nothing"), "{list}");
        let convicted = describe_all(&[CaseRow { takes_nothing: true, ..row(true) }], 900);
        assert!(convicted.contains("may be closed, takes nothing"), "{convicted}");
        assert_eq!(describe_all(&[], 0), "no case is open");
    }
}
