//! `tributary datanet contribute`: from files to fragments on the disks of holders.
//!
//! Everything that can be refused here is refused before the first transaction: the files are read to their end, row by row, cut into shards
//! ([`cut`]), looked at by the gate's own rules, and kept in a folder with a [`journal`]. Then the cost is told ([`estimate`]); then one shard after
//! another is committed to, shown to the gate, accepted ([`run`]) and spread ([`placed`]). What its reviewers hold is said and left, the others go on; the same
//! command finishes it later. Each step is kept in the data folder before the next one begins, so the
//! same command goes on where an earlier run broke off: nothing is read, committed or accepted twice.
//!
//! Memory is that of one shard ([`cut::SHARD_BYTES`]), whatever is contributed: a dry run of 1.0 GB peaked at 140 MB resident, 0.1 GB brought to five
//! nodes at 161 MB. That holds for the gate's rules as well: they compare the rows of one
//! shard with each other. Its index costs 8 bytes a shingle (a word), 256 of bands and 32 of entry a document, twice while it is entered, so that of
//! 10 GB in documents of 300 bytes would take some 25 GB. Copies across shards are the business of the Datanet's gate, which compares with all that is
//! accepted; whoever brings them pays a second commitment for each shard that had any.

mod cut;
mod estimate;
mod inputs;
mod journal;
mod pending;
mod placed;
mod rows;
mod run;

use std::{io::Write as _, path::PathBuf, sync::Arc, sync::atomic::Ordering};

use anyhow::{Context as _, ensure};
use chain_bridge::registry::State;
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::{
    datanet::{Action, Card, Document, Licence},
    erasure::Profile,
    formats::{Columns, Format},
};
use types::{
    amount::Amount,
    id::{Address, AssetId, Hash32},
    merkle::keccak,
};

use self::{
    cut::{Cutter, Piece},
    estimate::Estimate,
    inputs::Inputs,
    journal::{Cut, Done, Journal},
    pending::unfinished,
    rows::{NAMED_MAX, Rows, check_here},
    run::{Brought, Contributed, Run, Spent, Waits},
};
pub(super) use self::{
    cut::{Spot, spots},
    rows::Dropped,
};
use super::{
    Context,
    brought::Record,
    cost,
    findings::{self, Finding},
    network::Network,
};
use crate::{
    datanet::{placing, resolve, spread::Placed},
    explain::Consent,
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
    let format = args.text.then_some(Format::Text);
    let columns = Columns { text: args.text_column.clone(), title: args.title_column.clone(), id: args.id_column.clone() };
    let inputs = Arc::new(Inputs::find(&args.files, format, columns, args.title.clone())?);
    // A file that is small is read to its end here: what is wrong with it is said before anything is opened.
    let mut cutter = Cutter::new(Arc::clone(&inputs), args.per_file);
    let first = tokio::task::block_in_place(|| cutter.piece())?;
    let chain = context.chain().await?;
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
    let mut run = Run { context, chain, network, me, datanet, owner, card, spent: Spent::default() };
    let done = run.all(&state, &mut journal, &inputs, &licence, &args).await;
    run.network.leave().await;
    if let (Err(_), 1) = (&done, journal.cuts.len()) {
        // One shard is soon cut anew; what was committed to is noted apart.
        journal.close()?;
        return done.map(drop);
    }
    match done? {
        Some(outcome) => {
            // What waits is not done: its shard is kept for the same command, unless it is the only one, which is soon cut anew.
            let is_left = !outcome.waiting.is_empty() && journal.cuts.len() > 1;
            print(context, run.spent, &journal, me, datanet, outcome)?;
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

/// What became of the shards.
#[derive(Default)]
struct Outcome {
    /// Of the last one as much as is known; nothing if an earlier run had done all of them.
    last: Option<Box<Contributed>>,
    /// Those that reviewers hold.
    waiting: Vec<Waits>,
}

/// What rows are looked at by, before anybody else sees them.
struct Rules<'a> {
    datanet: AssetId,
    card: &'a Card,
    me: Address,
    licence: &'a Licence,
    drop_refused: bool,
    redact: bool,
}

/// Cuts and checks what is left of the files.
fn cut_all(
    context: &Context,
    journal: &mut Journal,
    inputs: &Arc<Inputs>,
    mut cutter: Cutter,
    first: Option<Piece>,
    is_per_file: bool,
    rules: &Rules<'_>,
) -> anyhow::Result<()> {
    if journal.is_complete {
        return Ok(());
    }
    let mut next = first;
    if let Some(last) = journal.cuts.last().filter(|_| journal.is_begun()) {
        context.output.note(&format!("an earlier run has cut {} shards: going on behind them", journal.cuts.len()));
        cutter = Cutter::behind(Arc::clone(inputs), is_per_file, last.end)?;
        next = cutter.piece()?;
    }
    let names = Arc::new(inputs.files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>());
    let total = inputs.bytes();
    let mut progress = context.output.progress("bytes read and checked", total);
    while let Some(piece) = next {
        let Piece { documents, spots, end } = piece;
        let mut rows =
            Rows { documents, spots, names: Arc::clone(&names), dropped: Vec::new(), redacted: Vec::new(), file_root: Hash32::ZERO };
        if rules.redact {
            rows.redact()?;
        }
        check_here(&mut rows, rules.card, rules.me, rules.licence, rules.drop_refused)?;
        let (all_dropped, all_redacted) = (rows.dropped.clone(), rows.redacted.clone());
        rows.dropped.truncate(NAMED_MAX);
        rows.redacted.truncate(NAMED_MAX);
        journal.cut(&Piece { documents: rows.documents, spots: rows.spots, end }, rows.dropped, rows.redacted)?;
        if let Some(cut) = journal.cuts.last().filter(|_| !(context.is_dry() || all_dropped.is_empty() && all_redacted.is_empty())) {
            Record::cut((rules.datanet, rules.me, cut.text_root), &names, all_dropped, all_redacted).keep(&context.data)?;
        }
        progress.set(inputs.taken.load(Ordering::Relaxed).min(total));
        next = cutter.piece()?;
    }
    progress.finish();
    journal.complete()
}

impl Run<'_> {
    /// Tells the cost, then brings one shard after another. Nothing if this was a dry run.
    async fn all(
        &mut self,
        state: &State,
        journal: &mut Journal,
        inputs: &Inputs,
        licence: &Licence,
        args: &Args,
    ) -> anyhow::Result<Option<Outcome>> {
        let names = Arc::new(inputs.files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>());
        let left = journal.left();
        let mut new = Vec::new();
        for cut in &left {
            if unfinished(&self.context.data, state, self.datanet, self.me, cut.text_root)?.is_none() {
                new.push(cut.clone());
            }
        }
        if !new.is_empty() {
            self.is_listed(state).await?;
            let redacted: Vec<Finding> = new.iter().flat_map(|cut| cut.redacted.clone()).collect();
            if !redacted.is_empty() {
                self.context.output.note(&format!("these rows are redacted before they are brought:\n{}", findings::table_of(&redacted)));
            }
            let estimate = self.estimate(state, &new, args.rent_epochs).await?;
            if self.context.is_dry() {
                let dropped = new.iter().flat_map(|cut| cut.dropped.clone()).collect();
                let printed = Dry { is_dry_run: true, estimate, dropped, redacted };
                self.context.output.result(&printed, || format!("{}\n\nnothing was sent (--dry-run)", printed.estimate.describe()))?;
                return Ok(None);
            }
            self.agreed(&estimate)?;
        }
        let total = journal.cuts.len() as u64;
        let mut progress = (total > 1).then(|| self.context.output.progress("shards contributed", total));
        let mut outcome = Outcome::default();
        for cut in left {
            let rows = Rows {
                documents: journal.shard(&cut)?.into_documents(),
                spots: spots(&cut.stretches),
                names: Arc::clone(&names),
                dropped: cut.dropped.clone(),
                redacted: cut.redacted.clone(),
                file_root: cut.text_root,
            };
            let state = self.chain.state().await?;
            let earlier = unfinished(&self.context.data, &state, self.datanet, self.me, cut.text_root)?;
            let brought = match earlier {
                Some(accepted) => Brought::Done(Box::new(self.go_on(accepted, &rows).await?)),
                None => self.contribute(&state, rows, licence, args.drop_refused).await?,
            };
            let contributed = match brought {
                Brought::Done(contributed) => contributed,
                Brought::Waits(waits) => {
                    if total > 1 {
                        self.context.output.note(&format!(
                            "shard {} of {total} waits for two reviewers as commitment {}",
                            u64::from(cut.number) + 1,
                            waits.commitment
                        ));
                    }
                    outcome.waiting.push(waits);
                    continue;
                }
            };
            let Contributed { contribution, text_root, object, documents, text_bytes, .. } = *contributed;
            let dropped = contributed.dropped.iter().take(NAMED_MAX).cloned().collect();
            journal.finish(Done { number: cut.number, contribution, text_root, object, documents, text_bytes, dropped })?;
            if let Some(progress) = &mut progress {
                progress.set(journal.done.len() as u64);
            }
            outcome.last = Some(contributed);
        }
        Ok(Some(outcome))
    }

    async fn estimate(&self, state: &State, new: &[Cut], rent_epochs: u64) -> anyhow::Result<Estimate> {
        let least = usize::from(Profile::DEVNET.total());
        let storers = self.network.operators(state, least, self.chain.deployment().chain_id).await?;
        let storers = self.network.fit(storers).await?;
        let profile = placing::profile(&storers, &placing::residency(state, self.datanet)?);
        let (gas_price, rent_price) = (self.chain.client.gas_price().await?, self.chain.client.rent_price().await?);
        Ok(Estimate::of(new, profile, gas_price.0, rent_price, rent_epochs))
    }

    /// Tells the cost. A person is asked once for all shards, where there are several, instead of at each transaction.
    fn agreed(&self, estimate: &Estimate) -> anyhow::Result<()> {
        let output = &self.context.output;
        output.note(&estimate.describe());
        if output.consent != Consent::Asked || estimate.contributions < 2 {
            return Ok(());
        }
        let mut err = std::io::stderr().lock();
        write!(err, "go on with all of it? [y/N] ").and_then(|()| err.flush())?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        ensure!(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"), "you did not say yes: nothing was sent");
        output.agreed.store(true, Ordering::Relaxed);
        Ok(())
    }
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
