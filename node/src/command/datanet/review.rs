//! `tributary datanet review|approve|reject`: what waits at a Datanet's gate, and the decisions of its reviewers.
//!
//! A reviewer signs what it asks and decides with its own wallet; the gate is the node of the Datanet's owner.

use anyhow::{Context as _, bail, ensure};
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::{
    datanet::{
        Report,
        review::{APPROVALS, Act, REASON_BYTES_MAX, ReviewAct},
        shard,
    },
    proto::gate::{Ask, CaseRow, Reply},
};
use types::{
    id::{Address, AssetId, Hash32},
    key::Signed,
    merkle::keccak,
};

use super::{
    Context,
    findings::{self, Finding, cell},
    network::Network,
};
use crate::{
    chain::Chained,
    datanet::{resolve, review},
    output::table,
    words,
};

/// Characters of a commitment that a list shows and that suffice to name one there.
const SHORT: usize = 12;

/// List what waits for reviewers, or show one contribution's rows.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A contribution waits if the Datanet's policy quarantines what was found in it, if it was drawn, or if it has rows of\nanother that waits so or was rejected: two reviewers let it in, one rejection ends it.\n\nExamples:\n  tributary datanet review medical                     what waits\n  tributary datanet review medical 0x3fa1c0            its rows with findings; --all shows every row\n  tributary datanet approve medical 0x3fa1c0\n  tributary datanet reject medical 0x3fa1c0 --reason \"row 3 is somebody's address\""
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// The contribution, by the beginning of its commitment.
    commitment: Option<String>,
    /// Show every row, not only those with findings.
    #[arg(long, requires = "commitment")]
    all: bool,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// Let a contribution in that waits, or end it.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The decision is signed by this wallet, which the Datanet's owner must have named with `datanet reviewer add`; it costs nothing.\n\nExamples:\n  tributary datanet approve medical 0x3fa1c0\n  tributary datanet reject medical 0x3fa1c0 --reason \"row 3 is somebody's address\"\n\nNext: after two approvals the contributor's same `datanet contribute` command goes on; after a rejection it shows the reason."
)]
pub(super) struct DecideArgs {
    /// Datanet, by name or number.
    datanet: String,
    /// The contribution, by the beginning of its commitment.
    commitment: String,
    /// Why; the contributor reads it.
    #[arg(long, default_value = "")]
    reason: String,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// A reviewer at a gate.
struct Reviewer<'c> {
    context: &'c Context,
    chain: Chained,
    network: Network,
    datanet: AssetId,
    owner: Address,
}

#[derive(Debug, Serialize)]
struct Row {
    row: usize,
    id: Option<String>,
    title: Option<String>,
    text: String,
}

/// What showing one prints.
#[derive(Debug, Serialize)]
struct Shown {
    commitment: Hash32,
    contributor: Address,
    documents: u32,
    findings: Vec<Finding>,
    notes: Vec<Finding>,
    rows: Vec<Row>,
}

/// What a decision prints.
#[derive(Debug, Serialize)]
struct Decided {
    datanet: u64,
    commitment: Hash32,
    state: String,
    approved_by: Vec<Address>,
}

impl<'c> Reviewer<'c> {
    async fn join(context: &'c Context, name: &str, bootstrap: &[String]) -> anyhow::Result<Self> {
        let chain = context.chain().await?;
        let state = chain.state().await?;
        let (asset, _) = resolve(&state, name)?;
        let me = chain.client.address().context("the wallet has an account")?;
        let (datanet, owner) = (asset.id, asset.owner());
        ensure!(
            state.is_reviewer(datanet, me),
            "{me} does not review Datanet {datanet}: its owner {owner} names it with `tributary datanet reviewer add {datanet} {me}`"
        );
        let network = Network::join(context, bootstrap).await?;
        Ok(Self { context, chain, network, datanet, owner })
    }

    /// Signs an act for this gate now.
    async fn signed(&self, act: Act, commitment: Hash32, report: Hash32, reason: &str) -> anyhow::Result<Signed<ReviewAct>> {
        let state = self.chain.state().await?;
        let gate = state.operator(self.owner).with_context(|| format!("{}, the owner, runs no registered node", self.owner))?.node;
        let block = self.chain.head().await?.block.number;
        let act = ReviewAct { datanet: self.datanet, commitment, report, act, reason: keccak(&[reason.as_bytes()]), gate, block };
        let client = &self.chain.client;
        Ok(Signed::new(client.account("signing as a reviewer")?, &client.domains(), act))
    }

    async fn ask(&self, act: Signed<ReviewAct>, reason: &str) -> anyhow::Result<Reply> {
        let state = self.chain.state().await?;
        let (client, connection) = self.network.dial_gate(self.context, &state, self.owner).await?;
        let reply = review::ask(connection.open_stream().await?, &Ask::Review { act, reason: reason.to_owned() }).await;
        client.close(0).await;
        reply
    }

    async fn list(&self) -> anyhow::Result<Vec<CaseRow>> {
        match self.ask(self.signed(Act::List, Hash32::ZERO, Hash32::ZERO, "").await?, "").await? {
            Reply::Queue { cases } => Ok(cases),
            _ => bail!("the gate answered something else than what waits"),
        }
    }

    /// The one that waits or was decided whose commitment begins so.
    async fn named(&self, text: &str) -> anyhow::Result<CaseRow> {
        let cases = self.list().await?;
        let wanted = text.trim_start_matches("0x").to_ascii_lowercase();
        let of = |case: &CaseRow| hex::encode(case.commitment.0).starts_with(&wanted);
        let mut found: Vec<_> = cases.iter().filter(|case| !wanted.is_empty() && of(case)).cloned().collect();
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => {
                let known: Vec<String> = cases.iter().map(|case| short(case.commitment)).collect();
                let known = if known.is_empty() { "nothing waits".to_owned() } else { format!("there are {}", known.join(", ")) };
                bail!("no contribution to Datanet {} waits under {text:?}: {known}", self.datanet)
            }
            count => bail!("{count} contributions begin with {text:?}: give more of the commitment"),
        }
    }
}

fn short(commitment: Hash32) -> String {
    commitment.to_string().chars().take(SHORT).collect()
}

/// Runs `review`.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let reviewer = Reviewer::join(context, &args.datanet, &args.bootstrap).await?;
    let done = match &args.commitment {
        None => reviewer.list().await.map(|cases| context.output.result(&cases, || describe(&cases))),
        Some(commitment) => show(&reviewer, commitment, args.all).await.map(|shown| context.output.result(&shown, || describe_one(&shown))),
    };
    reviewer.network.leave().await;
    done?
}

async fn show(reviewer: &Reviewer<'_>, commitment: &str, all: bool) -> anyhow::Result<Shown> {
    let case = reviewer.named(commitment).await?;
    let act = reviewer.signed(Act::Show, case.commitment, Hash32::ZERO, "").await?;
    let state = reviewer.chain.state().await?;
    let (client, connection) = reviewer.network.dial_gate(reviewer.context, &state, reviewer.owner).await?;
    let shown = review::show(connection.open_stream().await?, act).await;
    client.close(0).await;
    let (report, bytes) = shown?;
    ensure!(report.digest() == case.report, "the gate shows another report than it lists");
    let documents = shard::decode(&bytes)?.into_documents();
    let numbers: Vec<u32> = (1..).take(documents.len()).collect();
    let is_found =
        |report: &Report, row: usize| report.refusals.iter().chain(&report.notes).any(|refusal| usize::try_from(refusal.row) == Ok(row));
    // A drawn contribution has no row that stands out.
    let all = all || !report.refusals.iter().chain(&report.notes).any(|refusal| refusal.row > 0);
    let rows = (1..).zip(&documents).filter(|(row, _)| all || is_found(&report, *row)).map(|(row, document)| Row {
        row,
        id: document.id().map(str::to_owned),
        title: document.title().map(str::to_owned),
        text: document.text().to_owned(),
    });
    Ok(Shown {
        commitment: case.commitment,
        contributor: report.contributor,
        documents: report.documents,
        findings: findings::of(&report.refusals, &numbers),
        notes: findings::of(&report.notes, &numbers),
        rows: rows.collect(),
    })
}

/// Runs `approve` or `reject`.
pub(super) async fn decide(context: &Context, args: DecideArgs, act: Act) -> anyhow::Result<()> {
    ensure!(!context.is_dry(), "--dry-run: a decision is signed without a transaction, and stands; nothing was done");
    let bytes = args.reason.len();
    ensure!(bytes <= REASON_BYTES_MAX, "--reason has {bytes} bytes, at most {REASON_BYTES_MAX} are allowed");
    words::of_one_line("--reason", &args.reason)?;
    ensure!(act != Act::Reject || !args.reason.trim().is_empty(), "say why with --reason: the contributor reads it");
    let reviewer = Reviewer::join(context, &args.datanet, &args.bootstrap).await?;
    let decided = decided(&reviewer, &args, act).await;
    reviewer.network.leave().await;
    let decided = decided?;
    context.output.result(&decided, || {
        let next = match decided.state.as_str() {
            "approved" => "the contributor's same `datanet contribute` command goes on",
            "rejected" => "the contributor's same command shows the reason",
            _ => "a second reviewer decides",
        };
        format!(
            "{} of Datanet {}: {} ({} of {APPROVALS} approvals)\n\nNext: {next}",
            decided.commitment,
            decided.datanet,
            decided.state,
            decided.approved_by.len()
        )
    })
}

async fn decided(reviewer: &Reviewer<'_>, args: &DecideArgs, act: Act) -> anyhow::Result<Decided> {
    let case = reviewer.named(&args.commitment).await?;
    let signed = reviewer.signed(act, case.commitment, case.report, &args.reason).await?;
    let Reply::Decided { state, approved_by } = reviewer.ask(signed, &args.reason).await? else {
        bail!("the gate answered something else than what became of it")
    };
    Ok(Decided { datanet: reviewer.datanet.0, commitment: case.commitment, state, approved_by })
}

fn describe(cases: &[CaseRow]) -> String {
    if cases.is_empty() {
        return "nothing waits for reviewers".to_owned();
    }
    let row = |case: &CaseRow| {
        let numbers = [u64::from(case.documents), case.text_bytes, u64::from(case.findings)].map(|number| number.to_string());
        let state = if case.state == "waits" { format!("{} of {APPROVALS} approvals", case.approved_by.len()) } else { case.state.clone() };
        [[short(case.commitment), case.contributor.to_string()].as_slice(), &numbers, &[state, cell(&case.first)]].concat()
    };
    let rows: Vec<_> = cases.iter().map(row).collect();
    table(&["commitment", "contributor", "rows", "bytes", "findings", "state", "first finding"], &rows)
}

fn describe_one(shown: &Shown) -> String {
    let mut text = format!("{}  by {}, {} documents\n", shown.commitment, shown.contributor, shown.documents);
    for (what, findings) in [("held back", &shown.findings), ("noted", &shown.notes)] {
        if !findings.is_empty() {
            text.push_str(&format!("\n{what}\n{}\n", findings::table_of(findings)));
        }
    }
    for row in &shown.rows {
        let name = row.title.as_deref().or(row.id.as_deref()).unwrap_or("");
        text.push_str(&format!("\nrow {}  {}\n{}\n", row.row, words::line(name), words::block(&row.text)));
    }
    text
}
