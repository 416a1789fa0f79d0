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
use chain_bridge::registry::State;
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;
use storage::{
    datanet::{Action, Card, Document, Licence},
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
    cutting::{Rules, check_all, cut_all},
    estimate::Estimate,
    inputs::Inputs,
    journal::{Done, Journal},
    run::{Contributed, Refused, Run, Spent, Waits, listed},
};
pub(super) use self::{
    cut::{Spot, spots},
    rows::Dropped,
    run::To,
};
use super::{
    Context, cost,
    findings::{self, Finding},
    left_out::{self, LeftOut, told},
    network::Network,
};
use crate::{
    chain::Chained,
    datanet::{resolve, spread::Placed},
    output::table,
    words,
};

/// Most commitments one shard takes: each round of --drop-refused takes out up to a thousand rows.
const ROUNDS_MAX: usize = 8;

/// Contribute the documents of files: JSONL, CSV, TSV, Parquet (a document a row), Markdown or plain text (a document a file), or folders of them.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Nothing is sent or paid until every file has been read and checked, and what it will cost is said before it begins. Large inputs are cut\ninto shards of 16 MiB, each a contribution of its own. If a row is refused at the gate (it is a copy of an accepted document, say)\nthe contribution is refused and every such row is named with its first owner; --drop-refused leaves those rows out and commits\nanew, --redact replaces what looks like personal data after showing how it will read. What the Datanet's policy holds back waits for two\nreviewers; the same command later tells what they decided, and goes on. What a folder holds besides is named (links, files that no ending tells),\nand nothing is sent unless you say --skip-unknown. A run that was interrupted is continued by the same command.\n\nExamples:\n  tributary datanet contribute medical terms.jsonl\n  tributary datanet contribute medical essay.txt --title \"On gout\"\n  tributary datanet contribute medical table.parquet --text-column definition --title-column term\n  tributary datanet contribute medical folder/ --dry-run\n\nNext: the Datanet's owner publishes it, tributary datanet publish medical; tributary datanet verify medical looks at the holders."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Files, or folders: of a folder all files with a known ending, in the order of their names.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How all of the files are read [default: by their endings].
    #[arg(long, value_enum)]
    format: Option<ReadAs>,
    /// The files are plain text, one document each: --format text.
    #[arg(long, conflicts_with = "format")]
    text: bool,
    /// Go on without what a folder holds and nobody can read here.
    #[arg(long)]
    skip_unknown: bool,
    #[arg(skip)]
    left_out: Vec<LeftOut>,
    /// Title of a plain text [default: the file's name].
    #[arg(long)]
    title: Option<String>,
    /// Column (key of JSON) that holds the text.
    #[arg(long, value_name = "NAME", default_value = "text")]
    text_column: String,
    /// Column that holds the title, of every file then [default: title, where there is one].
    #[arg(long, value_name = "NAME")]
    title_column: Option<String>,
    /// Column that holds the id, of every file then [default: id, where there is one].
    #[arg(long, value_name = "NAME")]
    id_column: Option<String>,
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

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReadAs {
    Jsonl,
    Csv,
    Tsv,
    Parquet,
    Markdown,
    Text,
}

impl From<ReadAs> for Format {
    fn from(read_as: ReadAs) -> Self {
        match read_as {
            ReadAs::Jsonl => Self::Jsonl,
            ReadAs::Csv => Self::Csv,
            ReadAs::Tsv => Self::Tsv,
            ReadAs::Parquet => Self::Parquet,
            ReadAs::Markdown => Self::Markdown,
            ReadAs::Text => Self::Text,
        }
    }
}

/// Files of a folder that describes itself: each is contributed by itself.
pub(super) struct Described {
    /// Number of the Datanet.
    pub(super) datanet: String,
    pub(super) files: Vec<PathBuf>,
    pub(super) columns: Columns,
    /// Of the rows.
    pub(super) licence: String,
    /// What the folder holds besides.
    pub(super) left_out: Vec<LeftOut>,
    pub(super) drop_refused: bool,
    pub(super) redact: bool,
    pub(super) rent_epochs: u64,
    pub(super) bootstrap: Vec<String>,
}

/// What is printed of one shard.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    contributed: Contributed,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
    transactions: Vec<Hash32>,
    gas: u64,
    paid_wei: Amount,
}

/// What is printed of one shard that reviewers hold.
#[derive(Debug, Serialize)]
struct PrintedWaits {
    #[serde(flatten)]
    waits: Waits,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    run_on(context, None, args).await
}

/// Runs the command on a chain that is open already: an account's outbox is held from its first transaction to the end of the process, and nobody else in it opens another one.
pub(super) async fn run_on(context: &Context, chain: Option<Chained>, args: Args) -> anyhow::Result<()> {
    let format = args.format.map(Format::from).or_else(|| args.text.then_some(Format::Text));
    let mut inputs = Inputs::find(&args.files, format, args.columns(), args.title.clone())?;
    inputs.left_out.extend(args.left_out.iter().cloned());
    left_out::agreed(&inputs.left_out, args.skip_unknown)?;
    told(&inputs.left_out).iter().for_each(|lines| context.output.note(lines));
    let inputs = Arc::new(inputs);
    // A file that is small is read to its end here: what is wrong with it is said before anything is opened.
    let mut cutter = Cutter::new(Arc::clone(&inputs), args.per_file);
    let first = tokio::task::block_in_place(|| cutter.piece())?;
    let chain = match chain {
        Some(chain) => chain,
        None => context.chain().await?,
    };
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let licence = args.licence(&card)?;
    let me = chain.client.address().context("the wallet has an account")?;
    let (datanet, owner) = (asset.id, asset.owner());
    let redact = args.is_redacted(context, &card);
    let options =
        (datanet, me, licence.to_string(), args.drop_refused, redact, args.per_file, read_by(&inputs, args.title.as_deref(), format));
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
    if let Err(error) = &done
        && (journal.cuts.len() == 1 || error.is::<Refused>())
    {
        // One shard is soon cut anew, and of what is refused the files or the options will change; what was committed to is noted apart.
        journal.close()?;
        return done.map(drop);
    }
    match done? {
        Some(outcome) => {
            // What waits is not done: its shard is kept for the same command, unless it is the only one, which is soon cut anew.
            let is_left = !outcome.waiting.is_empty() && journal.cuts.len() > 1;
            let spent = spent.into_inner().unwrap_or_else(PoisonError::into_inner);
            print(context, spent, &journal, (me, datanet), outcome, inputs.left_out.clone())?;
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

/// Looks at described files as a contribution of them would, before anything is kept or paid: by the gate's own rules, and for whether this account may contribute.
pub(super) async fn rehearse(context: &Context, state: &State, to: To<'_>, args: Args) -> anyhow::Result<()> {
    let inputs = Arc::new(Inputs::find(&args.files, None, args.columns(), None)?);
    let To { datanet, card, me, .. } = to;
    let licence = args.licence(card)?;
    let rules = Rules { datanet, card, me, licence: &licence, drop_refused: args.drop_refused, redact: args.is_redacted(context, card) };
    tokio::task::block_in_place(|| check_all(&inputs, &rules))?;
    if !to.is_for_listed() {
        return Ok(());
    }
    let network = Network::join(context, &args.bootstrap).await?;
    let listed = listed(context, &network, state, to).await;
    network.leave().await;
    listed
}

/// How the files are read, in the words of a journal: they are those of earlier versions, so that what these began is found.
fn read_by(inputs: &Inputs, title: Option<&str>, format: Option<Format>) -> String {
    let Columns { text, title: title_column, id, .. } = &inputs.columns;
    let format = format.map_or_else(String::new, |format| format!(" {format:?}"));
    format!("Columns {{ text: {text:?}, title: {title_column:?}, id: {id:?} }} {title:?}{format}")
}

impl Args {
    /// The licence that is given, the Datanet's where nothing is said. A card may bear one that is on a longer list than this build's.
    fn licence(&self, card: &Card) -> anyhow::Result<Licence> {
        let given = self.licence.as_deref().filter(|given| *given != card.licence().as_str());
        Ok(given.map_or_else(|| Ok(card.licence().clone()), str::parse)?)
    }

    /// Whether rows are redacted before they are brought.
    fn is_redacted(&self, context: &Context, card: &Card) -> bool {
        let is_taken = card.policy().personal_data == Action::Note;
        if self.redact && is_taken {
            context.output.note("the Datanet takes rows with what looks like personal data as they are: nothing is redacted");
        }
        self.redact && !is_taken
    }

    fn columns(&self) -> Columns {
        let Columns { title, id, .. } = Columns::default();
        Columns {
            text: self.text_column.clone(),
            title: self.title_column.clone().unwrap_or(title),
            id: self.id_column.clone().unwrap_or(id),
            is_title_named: self.title_column.is_some(),
            is_id_named: self.id_column.is_some(),
        }
    }
}

impl From<Described> for Args {
    fn from(described: Described) -> Self {
        let Described { datanet, files, columns, licence, left_out, drop_refused, redact, rent_epochs, bootstrap } = described;
        Self {
            datanet,
            files,
            format: None,
            text: false,
            // Whoever described them was asked about what is left out.
            skip_unknown: true,
            left_out,
            title: None,
            text_column: columns.text,
            title_column: columns.is_title_named.then_some(columns.title),
            id_column: columns.is_id_named.then_some(columns.id),
            per_file: true,
            rent_epochs,
            licence: Some(licence),
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

fn print(
    context: &Context,
    spent: Spent,
    journal: &Journal,
    (me, datanet): (Address, AssetId),
    outcome: Outcome,
    left_out: Vec<LeftOut>,
) -> anyhow::Result<()> {
    let (paid, paid_wei) = (cost(&spent.paid), Amount::sum(spent.paid.iter().copied())?);
    let Spent { transactions, gas, .. } = spent;
    let Outcome { last, mut waiting } = outcome;
    if journal.cuts.len() == 1 {
        if let Some(waits) = waiting.pop() {
            let printed = PrintedWaits { waits, left_out, transactions };
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
            let printed = Printed { contributed: *contributed, left_out, transactions, gas, paid_wei };
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
        left_out,
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
    format!("\n{}", words::line(&format!("{file}row {} was left out: {}", dropped.row, dropped.reason)))
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
    for left in &done.left_to_repair {
        text.push_str(&format!("\n{left}"));
    }
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
