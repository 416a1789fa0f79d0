//! `tributary datanet contribute`: from files to fragments on the disks of holders.
//!
//! Everything that can be refused here is refused before the first transaction: the files are read to their end, row by row, cut into shards
//! ([`cut`]), looked at by the gate's own rules, and kept in a folder with a [`journal`]. Then the cost is told ([`estimate`]); then one shard after
//! another is committed to, shown to the gate, accepted ([`run`]) and spread ([`placed`]), the steps of several shards at once ([`pipeline`], [`bringing`]). What its
//! reviewers hold is said and left, the others go on; the same command finishes it later. Each step is kept in the data folder before the next one begins, so the
//! same command goes on where an earlier run broke off: nothing is read, committed or accepted twice.
//!
//! Memory is that of three shards ([`cut::SHARD_BYTES`]) while they are cut ([`cutting`]) and of four compressed ones after that, whatever is contributed. The gate's
//! rules compare the rows of one shard with each other and with those of the shard before. Copies further apart are the business of the Datanet's gate, which compares
//! with all that is accepted; whoever brings them pays a second commitment for each shard that had any.

mod bringing;
mod cut;
mod cutting;
mod estimate;
mod inputs;
mod journal;
mod pending;
mod pipeline;
mod placed;
mod rows;
mod run;
mod way;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::{
    datanet::{Action, Document, Licence},
    formats::{Columns, Format},
};
use types::{
    amount::Amount,
    id::{Address, AssetId, Hash32},
    merkle::keccak,
};

use self::{
    bringing::Outcome,
    cut::Cutter,
    cutting::{Rules, cut_all},
    estimate::Estimate,
    inputs::Inputs,
    journal::{Done, Journal},
    run::{Contributed, Run, Spent, Waits},
};
pub(super) use self::{
    cut::{Spot, spots},
    rows::Dropped,
};
use super::{
    Context, cost,
    findings::{self, Finding},
    network::Network,
};
use crate::{
    chain::Chained,
    datanet::{resolve, spread::Placed},
    output::table,
};

/// Most commitments one shard takes: each round of --drop-refused takes out up to a thousand rows.
const ROUNDS_MAX: usize = 8;

/// Contribute the documents of files: JSONL, CSV, TSV, Parquet (a document a row), Markdown or plain text (a document a file), or folders of them.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Nothing is sent or paid until every file has been read and checked, and what it will cost is said before it begins. Large inputs are cut\ninto shards of 16 MiB, each a contribution of its own. If a row is refused at the gate (it is a copy of an accepted document, say)\nthe contribution is refused and every such row is named with its first owner; --drop-refused leaves those rows out and commits\nanew, --redact replaces what looks like personal data after showing how it will read. What the Datanet's policy holds back waits for two\nreviewers; the same command later tells what they decided, and goes on. A run that was interrupted is continued by the same command.\n\nExamples:\n  tributary datanet contribute medical terms.jsonl\n  tributary datanet contribute medical essay.txt --title \"On gout\"\n  tributary datanet contribute medical table.parquet --text-column definition --title-column term\n  tributary datanet contribute medical folder/ --dry-run\n\nNext: the Datanet's owner publishes it, tributary datanet publish medical; tributary datanet verify medical looks at the holders."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Files, or folders: of a folder all files with a known ending, in the order of their names.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The files are plain text: one document each.
    #[arg(long)]
    text: bool,
    /// Title of a plain text [default: the file's name].
    #[arg(long)]
    title: Option<String>,
    /// Column (key of JSON) that holds the text.
    #[arg(long, value_name = "NAME", default_value = "text")]
    text_column: String,
    /// Column that holds the title.
    #[arg(long, value_name = "NAME", default_value = "title")]
    title_column: String,
    /// Column that holds the id.
    #[arg(long, value_name = "NAME", default_value = "id")]
    id_column: String,
    /// Make a contribution of each file at least: none holds rows of two.
    #[arg(long)]
    per_file: bool,
    /// Epochs that the estimate counts rent for.
    #[arg(long, value_name = "EPOCHS", default_value_t = 30)]
    rent_epochs: u64,
    /// Licence you give, as an SPDX expression [default: the Datanet's, the only one it takes].
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,
    /// Leave refused rows out and go on with the others.
    #[arg(long)]
    drop_refused: bool,
    /// Replace what looks like personal data, as previewed, where the Datanet does not take it as it is.
    #[arg(long)]
    redact: bool,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// What is printed of one shard.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    contributed: Contributed,
    transactions: Vec<Hash32>,
    gas: u64,
    paid_wei: Amount,
}

/// What is printed of one shard that reviewers hold.
#[derive(Debug, Serialize)]
struct PrintedWaits {
    #[serde(flatten)]
    waits: Waits,
    transactions: Vec<Hash32>,
}

/// What is printed of several.
#[derive(Debug, Serialize)]
struct PrintedAll {
    datanet: u64,
    contributor: Address,
    documents: u64,
    text_bytes: u64,
    contributions: Vec<Done>,
    /// Those that reviewers hold: the same command finishes them.
    waiting: Vec<Waits>,
    transactions: Vec<Hash32>,
    gas: u64,
    paid_wei: Amount,
}

/// What a dry run prints.
#[derive(Debug, Serialize)]
struct Dry {
    is_dry_run: bool,
    #[serde(flatten)]
    estimate: Estimate,
    dropped: Vec<Dropped>,
    redacted: Vec<Finding>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    run_on(context, None, args).await
}

/// Runs the command on a chain that is open already: an account's outbox is held from its first transaction to the end of the process, and nobody else in it opens another one.
pub(super) async fn run_on(context: &Context, chain: Option<Chained>, args: Args) -> anyhow::Result<()> {
    let format = args.text.then_some(Format::Text);
    let columns = Columns { text: args.text_column.clone(), title: args.title_column.clone(), id: args.id_column.clone() };
    let inputs = Arc::new(Inputs::find(&args.files, format, columns, args.title.clone())?);
    // A file that is small is read to its end here: what is wrong with it is said before anything is opened.
    let mut cutter = Cutter::new(Arc::clone(&inputs), args.per_file);
    let first = tokio::task::block_in_place(|| cutter.piece())?;
    let chain = match chain {
        Some(chain) => chain,
        None => context.chain().await?,
    };
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let licence: Licence = args.licence.as_deref().map_or_else(|| Ok(card.licence().clone()), str::parse)?;
    let me = chain.client.address().context("the wallet has an account")?;
    let (datanet, owner) = (asset.id, asset.owner());
    let redact = args.redact && {
        let is_taken = card.policy().personal_data == Action::Note;
        if is_taken {
            context.output.note("the Datanet takes rows with what looks like personal data as they are: nothing is redacted");
        }
        !is_taken
    };
    let options =
        (datanet, me, licence.to_string(), args.drop_refused, redact, args.per_file, format!("{:?} {:?}", inputs.columns, args.title));
    let key = keccak(&[b"tributary/contribute/v1".as_slice(), &serde_json::to_vec(&(options, &inputs.files))?]);
    let mut journal = Journal::open(&context.data, key)?;
    let was_begun = journal.is_begun();
    let rules = Rules { datanet, card: &card, me, licence: &licence, drop_refused: args.drop_refused, redact };
    if let Err(error) = tokio::task::block_in_place(|| cut_all(context, &mut journal, &inputs, cutter, first, args.per_file, &rules)) {
        // What cannot be contributed as it is need not be kept: its files will change.
        journal.close()?;
        return Err(error);
    }
    let network = Network::join(context, &args.bootstrap).await?;
    let (drop_refused, is_only, spent) = (args.drop_refused, journal.cuts.len() == 1, Mutex::default());
    let run = Run {
        context,
        chain,
        network,
        me,
        datanet,
        owner,
        card,
        licence,
        drop_refused,
        is_only,
        spent,
        room: tokio::sync::Mutex::default(),
    };
    let done = run.all(&mut journal, &inputs, args.rent_epochs).await;
    let Run { network, spent, .. } = run;
    network.leave().await;
    if let (Err(_), 1) = (&done, journal.cuts.len()) {
        // One shard is soon cut anew; what was committed to is noted apart.
        journal.close()?;
        return done.map(drop);
    }
    match done? {
        Some(outcome) => {
            // What waits is not done: its shard is kept for the same command, unless it is the only one, which is soon cut anew.
            let is_left = !outcome.waiting.is_empty() && journal.cuts.len() > 1;
            let spent = spent.into_inner().unwrap_or_else(PoisonError::into_inner);
            print(context, spent, &journal, me, datanet, outcome)?;
            if is_left {
                return Ok(());
            }
        }
        // What an earlier run has begun in earnest stays.
        None if was_begun => return Ok(()),
        None => {}
    }
    journal.close()
}

impl Args {
    /// For files that are contributed each by itself.
    pub(super) fn of_files(
        datanet: String,
        files: Vec<PathBuf>,
        columns: Columns,
        (drop_refused, redact): (bool, bool),
        rent_epochs: u64,
        bootstrap: Vec<String>,
    ) -> Self {
        let Columns { text: text_column, title: title_column, id: id_column } = columns;
        let (text, title, licence, per_file) = (false, None, None, true);
        Self {
            datanet,
            files,
            text,
            title,
            text_column,
            title_column,
            id_column,
            per_file,
            rent_epochs,
            licence,
            drop_refused,
            redact,
            bootstrap,
        }
    }
}

/// Reads a file as it would be contributed, shard by shard.
pub(super) fn read(path: &std::path::Path, columns: &Columns, mut tell: impl FnMut(Vec<Document>)) -> anyhow::Result<()> {
    let inputs = Inputs::find(&[path.to_owned()], None, columns.clone(), None)?;
    let mut cutter = Cutter::new(Arc::new(inputs), true);
    while let Some(piece) = cutter.piece()? {
        tell(piece.documents);
    }
    Ok(())
}

fn print(context: &Context, spent: Spent, journal: &Journal, me: Address, datanet: AssetId, outcome: Outcome) -> anyhow::Result<()> {
    let (paid, paid_wei) = (cost(&spent.paid), Amount::sum(spent.paid.iter().copied())?);
    let Spent { transactions, gas, .. } = spent;
    let Outcome { last, mut waiting } = outcome;
    if journal.cuts.len() == 1 {
        if let Some(waits) = waiting.pop() {
            let printed = PrintedWaits { waits, transactions };
            let said = || {
                format!(
                    "{}\n{} transactions, {paid}\n\n{}",
                    describe_waiting(&printed.waits),
                    printed.transactions.len(),
                    next_of(datanet.0)
                )
            };
            return context.output.result(&printed, said);
        }
        if let Some(contributed) = last {
            let printed = Printed { contributed: *contributed, transactions, gas, paid_wei };
            return context.output.result(&printed, || describe(&printed, &paid));
        }
    }
    let done = journal.done.clone();
    let printed = PrintedAll {
        datanet: datanet.0,
        contributor: me,
        documents: done.iter().map(|done| u64::from(done.documents)).sum(),
        text_bytes: done.iter().map(|done| done.text_bytes).sum(),
        contributions: done,
        waiting,
        transactions,
        gas,
        paid_wei,
    };
    context.output.result(&printed, || describe_all(&printed, &paid))
}

fn describe_all(printed: &PrintedAll, paid: &str) -> String {
    let row = |done: &Done| {
        vec![done.contribution.to_string(), done.documents.to_string(), done.text_bytes.to_string(), done.text_root.to_string()]
    };
    let PrintedAll { datanet, documents, text_bytes, contributions, waiting, transactions, gas, .. } = printed;
    let mut text = table(&["contribution", "documents", "bytes", "text root"], &contributions.iter().map(row).collect::<Vec<_>>());
    for dropped in contributions.iter().flat_map(|done| &done.dropped) {
        text.push_str(&left_out(dropped));
    }
    text.push_str(&format!(
        "\n\n{} contributions to Datanet {datanet}: {documents} documents, {text_bytes} bytes of text\n{} transactions, {gas} gas, {paid}",
        contributions.len(),
        transactions.len()
    ));
    for waits in waiting {
        text.push_str(&format!("\n\n{}", describe_waiting(waits)));
    }
    if !waiting.is_empty() {
        text.push_str(&format!("\n\n{}", next_of(*datanet)));
        return text;
    }
    text.push_str(&format!("\n\nNext: its owner's tributary datanet publish {datanet} makes it part of a version"));
    text
}

fn describe_waiting(waits: &Waits) -> String {
    let by = accounts(&waits.approved_by);
    let by = if by.is_empty() { "nobody yet".to_owned() } else { by };
    format!(
        "the contribution to Datanet {} waits for two reviewers\ncommitment   {}\napproved by  {by}\n{}",
        waits.datanet,
        waits.commitment,
        findings::table_of(&waits.findings)
    )
}

fn next_of(datanet: u64) -> String {
    format!("Next: reviewers run tributary datanet review {datanet} and approve or reject it; the same command here then goes on")
}

fn accounts(list: &[Address]) -> String {
    list.iter().map(Address::to_string).collect::<Vec<_>>().join(", ")
}

fn left_out(dropped: &Dropped) -> String {
    let file = dropped.file.as_ref().map_or_else(String::new, |file| format!("{file}: "));
    format!("\n{file}row {} was left out: {}", dropped.row, dropped.reason)
}

fn describe(printed: &Printed, paid: &str) -> String {
    let Printed { contributed: done, transactions, gas, .. } = printed;
    let mut text = format!(
        "contribution {} of Datanet {}: {} documents, {} bytes of text\npriority   block {}, commitment {}\ntext root  {}\nobject     {}\nkept by\n",
        done.contribution,
        done.datanet,
        done.documents,
        done.text_bytes,
        done.priority.block,
        done.priority.ordinal,
        done.text_root,
        done.object
    );
    let row =
        |placed: &Placed| vec![placed.fragment.to_string(), placed.node.to_string(), placed.account.to_string(), placed.bytes.to_string()];
    text.push_str(&table(&["fragment", "holder", "account", "bytes"], &done.holders.iter().map(row).collect::<Vec<_>>()));
    for dropped in &done.dropped {
        text.push_str(&left_out(dropped));
    }
    for (what, findings) in [("redacted", &done.redacted), ("noted by the gate", &done.notes)] {
        if !findings.is_empty() {
            text.push_str(&format!("\n\n{what}\n{}\n", findings::table_of(findings)));
        }
    }
    if !done.approved_by.is_empty() {
        text.push_str(&format!("\nlet in by  {}", accounts(&done.approved_by)));
    }
    text.push_str(&format!("\n{} transactions, {} gas, {paid}", transactions.len(), gas));
    text.push_str(&format!("\n\nNext: its owner's tributary datanet publish {} makes it part of a version", done.datanet));
    text
}

#[cfg(test)]
mod tests;
