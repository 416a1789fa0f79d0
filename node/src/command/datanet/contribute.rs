//! `tributary datanet contribute`: from a file to fragments on five disks.
//!
//! Order: everything that can be refused here is refused before the first transaction; then the commitment, the gate, the acceptance, the
//! fragments. Each step is kept in the data folder before the next one begins, so the same command goes on where an earlier run broke off:
//! a commitment is not paid twice, an accepted contribution only spreads what is missing.

mod pending;
mod rows;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::{State, state::Accepted};
use clap::Args as ClapArgs;
use futures::future::join_all;
use serde::Serialize;
use storage::{
    datanet::{Card, Contributors, Licence, Place, Report, contribution_text, private, shard},
    erasure::{self, Encoded, Profile},
    proto::{
        gate::{Ask, Open, Reply, SealRight},
        keeping::Record,
    },
    seal::segment::SegmentKey,
};
use types::{
    amount::Amount,
    contribution::{self, GateReport, Priority, commitment},
    id::{Address, AssetId, BlobId, Hash32},
    key::Signed,
    merkle::keccak,
    placement::Placement,
};

use self::{
    pending::{Pending, accepted_of, forget, pending_path, read_pending, same_object, unfinished},
    rows::{Dropped, Rows, check_here},
};
use super::{
    Context, cost,
    findings::{self, Finding},
    network::Network,
};
use crate::{
    chain::Chained,
    data::write_atomic,
    datanet::{
        keeping::{Registered, look, tell},
        placing::{self, Storer, Storers},
        resolve,
        review::{self, Reviewed},
        shards::keep,
        spread::{Holder, Placed, spread},
    },
    output::table,
};

/// Most commitments one run makes: each round of --drop-refused takes out up to a thousand rows.
const ROUNDS_MAX: usize = 8;

/// Contribute the documents of a file: JSONL (one {"text", "title", "id"} a line) or plain text (one document).
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Nothing is sent or paid until the whole file has been checked. If a row is refused at the gate (it is a copy of an accepted\ndocument, say) the contribution is refused and every such row is named with its first owner; --drop-refused leaves those rows\nout and commits anew, --redact replaces what looks like personal data after showing how it will read. What the Datanet's policy holds back waits for two\nreviewers; the same command later tells what they decided, and goes on. A run that was interrupted is continued by the same command.\n\nExamples:\n  tributary datanet contribute medical terms.jsonl\n  tributary datanet contribute medical essay.txt --title \"On gout\"\n\nNext: the Datanet's owner publishes it, tributary datanet publish medical; tributary datanet verify medical looks at the holders."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// The file.
    file: PathBuf,
    /// The file is plain text: one document.
    #[arg(long)]
    text: bool,
    /// Title of a plain text [default: the file's name].
    #[arg(long)]
    title: Option<String>,
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

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Done(Box<Printed>),
    Waits(Waits),
}

/// A contribution that reviewers hold.
#[derive(Debug, Serialize)]
struct Waits {
    datanet: u64,
    /// Always true: what tells this document from a finished contribution's.
    waits: bool,
    /// What reviewers name it by.
    commitment: Hash32,
    contributor: Address,
    text_root: Hash32,
    approved_by: Vec<Address>,
    findings: Vec<Finding>,
    redacted: Vec<Finding>,
    transactions: Vec<Hash32>,
}

/// A contribution that is accepted and lies where it belongs.
#[derive(Debug, Serialize)]
struct Printed {
    datanet: u64,
    contribution: u64,
    contributor: Address,
    text_root: Hash32,
    object: BlobId,
    documents: u32,
    text_bytes: u64,
    priority: Priority,
    seed_block: u64,
    dropped: Vec<Dropped>,
    /// Rows whose text was changed before it was brought.
    redacted: Vec<Finding>,
    /// What the gate let in with a remark.
    notes: Vec<Finding>,
    /// Reviewers who let it in although something spoke against it.
    approved_by: Vec<Address>,
    holders: Vec<Placed>,
    transactions: Vec<Hash32>,
    gas: u64,
    paid_wei: Amount,
}

/// What the transactions of this run were.
#[derive(Debug, Default)]
struct Spent {
    transactions: Vec<Hash32>,
    gas: u64,
    paid: Vec<Amount>,
}

/// What one run works with.
struct Run<'c> {
    context: &'c Context,
    chain: Chained,
    network: Network,
    me: Address,
    datanet: AssetId,
    owner: Address,
    card: Card,
    spent: Spent,
}

/// What a gate made of a commitment.
struct Offered {
    outcome: Reviewed,
    salt: Hash32,
    priority: Priority,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let mut rows = Rows::read(&args)?;
    let chain = context.chain().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let licence: Licence = args.licence.as_deref().map_or_else(|| Ok(card.licence().clone()), str::parse)?;
    let me = chain.client.address().context("the wallet has an account")?;
    let (datanet, owner) = (asset.id, asset.owner());
    let unfinished = unfinished(&context.data, &state, datanet, me, rows.file_root)?;
    if unfinished.is_none() {
        if args.redact {
            rows.redact(&card, &context.output);
        }
        check_here(&mut rows, &card, me, &licence, args.drop_refused)?;
    }
    let network = Network::join(context, &args.bootstrap).await?;
    let mut run = Run { context, chain, network, me, datanet, owner, card, spent: Spent::default() };
    let done = match &unfinished {
        Some(accepted) => run.go_on(accepted, &rows).await.map(|printed| Outcome::Done(Box::new(printed))),
        None => run.contribute(&state, rows, &licence, args.drop_refused).await,
    };
    run.network.leave().await;
    let printed = done?;
    let paid = cost(&run.spent.paid);
    context.output.result(&printed, || describe(&printed, &paid))
}

impl Run<'_> {
    async fn contribute(&mut self, state: &State, mut rows: Rows, licence: &Licence, drop_refused: bool) -> anyhow::Result<Outcome> {
        let least = usize::from(Profile::DEVNET.total());
        self.is_listed(state).await?;
        for _ in 0..ROUNDS_MAX {
            let plain = rows.text_root();
            let text_salt = if self.card.is_private() { Some(self.pending(plain, rows.file_root)?.text_salt) } else { None };
            let text_salt = text_salt.map(|salt| salt.context("the record of this contribution has no salt: remove it")).transpose()?;
            let root = private::root(contribution_text(&rows.documents).as_bytes(), text_salt);
            if let Some(accepted) = accepted_of(state, self.datanet, root) {
                let (number, by) = (accepted.number, accepted.contributor);
                bail!("this text is contribution {number} of Datanet {} already, by {by}: its first owner is paid for it", self.datanet);
            }
            // Holders and gate are looked for before the commitment is paid.
            let storers = self.network.operators(state, least, self.chain.deployment().chain_id).await?;
            let profile = placing::profile(&storers, &placing::residency(state, self.datanet)?);
            let Offered { outcome, salt, priority } = self.reviewed(state, &rows, (plain, root, text_salt), licence).await?;
            let (report, verdict, seal) = match outcome {
                Reviewed::Done { report, verdict, seal } => (report, verdict, seal),
                Reviewed::Waits { report, approved_by } => return Ok(Outcome::Waits(self.waits(rows, &report, salt, approved_by))),
            };
            if report.accepted {
                let object = self.object(&rows, text_salt, seal, priority)?;
                let encoded = erasure::encode(&object, root, profile)?;
                let number = self.accept(&rows, &encoded, object, salt, text_salt, licence, &verdict).await?;
                self.keep_report(&report)?;
                let facts = Facts { number, text_root: root, text_bytes: report.text_bytes, documents: report.documents, priority };
                let mut printed = self.spread(facts, encoded, std::mem::take(&mut rows.dropped)).await?;
                forget(&self.context.data, self.datanet, plain);
                let domains = self.chain.client.domains();
                let may_review = |account| state.is_reviewer(self.datanet, account);
                printed.approved_by = report.approved_by(&domains, (self.datanet, commitment(salt, root, self.me)), may_review)?;
                printed.notes = findings::of(&report.notes, &rows.numbers);
                printed.redacted = rows.redacted;
                return Ok(Outcome::Done(Box::new(printed)));
            }
            forget(&self.context.data, self.datanet, plain);
            ensure!(
                drop_refused,
                "the gate refuses the contribution; mend it, or leave these rows out with --drop-refused:\n{}",
                rows.reasons(&report)
            );
            self.context.output.note(&format!("{} rows are refused; committing anew without them", report.refusals.len()));
            rows.drop_refused(&report)?;
        }
        bail!("after {ROUNDS_MAX} commitments rows are still refused: leave out the copies first")
    }

    /// What a Datanet of listed contributors would say after the commitment is paid, asked before.
    async fn is_listed(&self, state: &State) -> anyhow::Result<()> {
        if self.card.policy().contributors != Contributors::Listed || self.me == self.owner {
            return Ok(());
        }
        let (client, connection) = self.network.dial_gate(self.context, state, self.owner).await?;
        let answer = review::ask(connection.open_stream().await?, &Ask::Members { datanet: self.datanet }).await?;
        client.close(0).await;
        let Reply::Members { contributors, .. } = answer else { bail!("the gate answered something else than its members") };
        let (datanet, owner, me) = (self.datanet, self.owner, self.me);
        ensure!(
            contributors.contains(&me),
            "Datanet {datanet} takes contributions of listed contributors only, and {me} is not listed: its owner {owner} lists it with `tributary datanet members {datanet} --add {me}`"
        );
        Ok(())
    }

    /// What is stored: the shard, or the sealed segment in its place.
    fn object(&self, rows: &Rows, text_salt: Option<Hash32>, seal: Option<SealRight>, priority: Priority) -> anyhow::Result<Vec<u8>> {
        let bytes = shard::encode(&rows.documents)?;
        let Some(salt) = text_salt else { return Ok(bytes) };
        let seal = seal.with_context(|| {
            format!("the gate of Datanet {}, which is private, gave no key to seal the contribution with", self.datanet)
        })?;
        let name = private::name(self.datanet, Place { block: priority.block, ordinal: priority.ordinal })?;
        Ok(SegmentKey::received(name, seal.epoch, seal.key).seal(&private::pack(salt, &bytes))?)
    }

    /// Kept beside the gate's, so that the digest on the chain can be checked without it.
    fn keep_report(&self, report: &Report) -> anyhow::Result<()> {
        let path = self.context.data.report(report.digest());
        write_atomic(&path, report.to_json().as_bytes(), 0o600).with_context(|| format!("{}", path.display()))
    }

    fn waits(&self, rows: Rows, report: &Report, salt: Hash32, approved_by: Vec<Address>) -> Waits {
        Waits {
            datanet: self.datanet.0,
            waits: true,
            commitment: commitment(salt, report.text_root, self.me),
            contributor: self.me,
            text_root: report.text_root,
            approved_by,
            findings: findings::of(&report.refusals, &rows.numbers),
            redacted: rows.redacted,
            transactions: self.spent.transactions.clone(),
        }
    }

    /// Commits, and shows the shard to the gate.
    async fn reviewed(
        &mut self,
        state: &State,
        rows: &Rows,
        (plain, root, text_salt): (Hash32, Hash32, Option<Hash32>),
        licence: &Licence,
    ) -> anyhow::Result<Offered> {
        let datanet = self.datanet;
        let (client, connection) = self.network.dial_gate(self.context, state, self.owner).await?;
        let (salt, priority) = self.commit(plain, root, rows.file_root).await?;
        let bytes = shard::encode(&rows.documents)?;
        let (licence, shard_bytes) = (licence.to_string(), bytes.len() as u64);
        let open = Open { datanet, contributor: self.me, salt, text_root: root, licence, shard_bytes, text_salt };
        self.context.output.note(&format!("committed in block {}; the gate looks at {} documents", priority.block, rows.documents.len()));
        let stream = connection.open_stream().await?;
        let outcome = review::review(stream, &open, &bytes, &self.chain.client.domains(), state).await?;
        client.close(0).await;
        Ok(Offered { outcome, salt, priority })
    }

    /// The record of this text's commitment: what an earlier run left, or a new one.
    fn pending(&self, plain: Hash32, file_root: Hash32) -> anyhow::Result<Pending> {
        let path = pending_path(&self.context.data, self.datanet, plain);
        if path.exists() {
            let pending = read_pending(&path)?;
            let is_it = pending.text_root == plain && pending.datanet == self.datanet;
            ensure!(is_it, "{}: names another contribution; remove it", path.display());
            return Ok(pending);
        }
        let salt = || crate::datanet::seals::fresh().map(|bytes| Hash32(*bytes));
        let text_salt = if self.card.is_private() { Some(salt()?) } else { None };
        let pending = Pending { datanet: self.datanet, text_root: plain, salt: salt()?, file_root, text_salt, registered: None };
        self.keep_pending(&pending)?;
        Ok(pending)
    }

    fn keep_pending(&self, pending: &Pending) -> anyhow::Result<()> {
        let path = pending_path(&self.context.data, self.datanet, pending.text_root);
        write_atomic(&path, &serde_json::to_vec(pending)?, 0o600).with_context(|| format!("{}", path.display()))
    }

    /// The salt and place of this text's commitment, made now unless an earlier run did.
    async fn commit(&mut self, plain: Hash32, root: Hash32, file_root: Hash32) -> anyhow::Result<(Hash32, Priority)> {
        let pending = Pending { registered: Some(root), ..self.pending(plain, file_root)? };
        self.keep_pending(&pending)?;
        let made = commitment(pending.salt, root, self.me);
        if let Some(priority) = self.chain.client.commitment_of(made, self.me).await? {
            return Ok((pending.salt, priority));
        }
        let (priority, sent) = self.chain.client.commit(made).await?;
        self.spent.add(&sent);
        Ok((pending.salt, priority))
    }

    /// Signs the contribution and brings it on the chain; the shard is on this disk before.
    #[expect(clippy::too_many_arguments, reason = "what a contribution is made of; each is used once")]
    async fn accept(
        &mut self,
        rows: &Rows,
        encoded: &Encoded,
        object: Vec<u8>,
        salt: Hash32,
        text_salt: Option<Hash32>,
        licence: &Licence,
        verdict: &Signed<GateReport>,
    ) -> anyhow::Result<u64> {
        let text = contribution_text(&rows.documents);
        keep(&self.context.data, encoded.manifest.text_root(), &object)?;
        let document = contribution::Contribution {
            datanet: self.datanet,
            contributor: self.me,
            text_root: encoded.manifest.text_root(),
            text_bytes: text.len() as u64,
            documents: u32::try_from(rows.documents.len())?,
            salt,
            licence: keccak(&[licence.as_str().as_bytes()]),
            object: encoded.manifest.id(),
        };
        let client = &self.chain.client;
        let signed = Signed::new(client.account("signing a contribution")?, &client.domains(), document);
        let (number, sent) = client.accept(&signed, verdict, private::top(text.as_bytes(), text_salt)).await?;
        self.spent.add(&sent);
        self.context.output.note(&format!("accepted as contribution {number}; spreading {} fragments", encoded.fragments.len()));
        Ok(number)
    }

    /// A contribution that the chain has: only its fragments may be missing.
    async fn go_on(&mut self, accepted: &Accepted, rows: &Rows) -> anyhow::Result<Printed> {
        let number = accepted.number;
        self.context
            .output
            .note(&format!("this is your contribution {number} already; making sure that its fragments lie where they belong"));
        let encoded = same_object(&self.context.data, accepted, rows)?;
        let facts = Facts {
            number,
            text_root: accepted.text_root,
            text_bytes: accepted.text_bytes,
            documents: accepted.documents,
            priority: accepted.priority,
        };
        let printed = self.spread(facts, encoded, Vec::new()).await?;
        forget(&self.context.data, self.datanet, rows.text_root());
        Ok(printed)
    }

    async fn spread(&mut self, facts: Facts, encoded: Encoded, dropped: Vec<Dropped>) -> anyhow::Result<Printed> {
        let object = encoded.manifest.id();
        let again = || {
            format!(
                "contribution {} of Datanet {} is accepted, but not yet where it belongs: run the same command again",
                facts.number, self.datanet
            )
        };
        let registered = self.registered(object).await.with_context(again)?;
        let (holders, record) = self.holders(&encoded, &registered).await.with_context(again)?;
        let mut progress = self.context.output.progress("fragments kept by their holders", holders.len() as u64);
        let placed = spread(&self.network.bulk, &encoded, &holders, |kept| progress.set(kept)).await;
        progress.finish();
        let placed = placed.with_context(again)?;
        self.tell(&encoded, &holders, record, &facts).await.with_context(again)?;
        forget(&self.context.data, self.datanet, facts.text_root);
        let spent = &self.spent;
        Ok(Printed {
            datanet: self.datanet.0,
            contribution: facts.number,
            contributor: self.me,
            text_root: facts.text_root,
            object,
            documents: facts.documents,
            text_bytes: facts.text_bytes,
            priority: facts.priority,
            seed_block: facts.priority.block,
            dropped,
            redacted: Vec::new(),
            notes: Vec::new(),
            approved_by: Vec::new(),
            holders: placed,
            transactions: spent.transactions.clone(),
            gas: spent.gas,
            paid_wei: Amount::sum(spent.paid.iter().copied())?,
        })
    }

    async fn registered(&self, object: BlobId) -> anyhow::Result<Registered> {
        let state = self.chain.state().await?;
        let found = Registered::find(&self.chain.client, &state, object).await?;
        found.with_context(|| format!("object {object} is not registered"))
    }

    /// The holders, with the record that names them if an earlier run or repair has left one; else by the hash of the commitment's block.
    async fn holders(&self, encoded: &Encoded, registered: &Registered) -> anyhow::Result<(Vec<Holder>, Option<Record>)> {
        let manifest = &encoded.manifest;
        let state = self.chain.state().await?;
        let chain_id = self.chain.deployment().chain_id;
        let storers = self.network.operators(&state, manifest.profile().total().into(), chain_id).await?;
        let holder = |(account, storer): (Address, Storer)| Holder { account, node: storer.node, addr: storer.addr };
        let record = self.recorded(registered, &storers).await?;
        let Some(record) = record else {
            let placed = placing::place(registered.seed, manifest.id(), manifest.profile(), &storers, &registered.rules.regions)?;
            return Ok((placed.into_iter().map(holder).collect(), None));
        };
        let assignment = registered.assignment(&record)?;
        let here = |(fragment, account): (u8, Address)| {
            let storer = storers.get(&account).with_context(|| format!("{account}, who holds fragment {fragment}, is not heard: start its node, or wait until its fragments are mended elsewhere"))?;
            Ok(holder((account, *storer)))
        };
        Ok((assignment.holders().map(here).collect::<anyhow::Result<_>>()?, Some(record)))
    }

    /// What holders have written down of an object, taken together; nothing if none has.
    async fn recorded(&self, registered: &Registered, storers: &Storers) -> anyhow::Result<Option<Record>> {
        let (bulk, object) = (&self.network.bulk, registered.accepted.object);
        let epoch_blocks = self.context.config()?.keeping.epoch_blocks;
        let words = join_all(storers.values().map(|storer| look(bulk, storer.node, storer.addr, object))).await;
        let mut known: Option<Record> = None;
        for record in words.into_iter().filter_map(|word| word.ok()?.record) {
            if let Err(error) = registered.check(&self.chain.client, epoch_blocks, &record, known.as_ref()).await {
                tracing::warn!(%object, error = format!("{error:#}"), "a holder has a record that does not stand");
                continue;
            }
            match &mut known {
                None => known = Some(record),
                Some(known) => {
                    known.merge(&record)?;
                }
            }
        }
        Ok(known)
    }

    /// Tells every holder who holds what, so that they all know the same from now on.
    async fn tell(&self, encoded: &Encoded, holders: &[Holder], record: Option<Record>, facts: &Facts) -> anyhow::Result<()> {
        let record = match record {
            Some(record) => record,
            None => {
                let client = &self.chain.client;
                let document = Placement {
                    contributor: self.me,
                    object: encoded.manifest.id(),
                    block: facts.priority.block,
                    data: encoded.manifest.profile().data(),
                    holders: holders.iter().map(|holder| holder.account).collect(),
                };
                Record::new(Signed::new(client.account("signing who holds a contribution")?, &client.domains(), document))
            }
        };
        let refused = tell(&self.network.bulk, holders.iter().map(|holder| (holder.node, holder.addr)).collect(), &record).await;
        let list: Vec<_> = refused.iter().map(|(node, reason)| format!("{node}: {reason}")).collect();
        ensure!(list.is_empty(), "{} of {} holders did not take down who holds what: {}", list.len(), holders.len(), list.join("; "));
        Ok(())
    }
}

/// What the chain has of a contribution.
struct Facts {
    number: u64,
    text_root: Hash32,
    text_bytes: u64,
    documents: u32,
    priority: Priority,
}

impl Spent {
    fn add(&mut self, sent: &chain_bridge::client::send::Sent) {
        self.transactions.push(sent.transaction);
        self.gas += sent.gas_used;
        let gas = Amount(u128::from(sent.gas_used).saturating_mul(sent.gas_price));
        self.paid.push(Amount(gas.0.saturating_add(sent.l1_fee.unwrap_or_default().0)));
    }
}

fn describe(outcome: &Outcome, paid: &str) -> String {
    match outcome {
        Outcome::Done(printed) => describe_done(printed, paid),
        Outcome::Waits(waits) => describe_waiting(waits, paid),
    }
}

fn describe_waiting(waits: &Waits, paid: &str) -> String {
    let by = waits.approved_by.iter().map(Address::to_string).collect::<Vec<_>>().join(", ");
    let by = if by.is_empty() { "nobody yet".to_owned() } else { by };
    format!(
        "the contribution to Datanet {} waits for two reviewers\ncommitment   {}\napproved by  {by}\n{}\n{} transactions, {paid}\n\nNext: reviewers run tributary datanet review {} and approve or reject it; the same command here then goes on",
        waits.datanet,
        waits.commitment,
        findings::table_of(&waits.findings),
        waits.transactions.len(),
        waits.datanet
    )
}

fn describe_done(printed: &Printed, paid: &str) -> String {
    let mut text = format!(
        "contribution {} of Datanet {}: {} documents, {} bytes of text\npriority   block {}, commitment {}\ntext root  {}\nobject     {}\nkept by\n",
        printed.contribution,
        printed.datanet,
        printed.documents,
        printed.text_bytes,
        printed.priority.block,
        printed.priority.ordinal,
        printed.text_root,
        printed.object
    );
    let row =
        |placed: &Placed| vec![placed.fragment.to_string(), placed.node.to_string(), placed.account.to_string(), placed.bytes.to_string()];
    text.push_str(&table(&["fragment", "holder", "account", "bytes"], &printed.holders.iter().map(row).collect::<Vec<_>>()));
    for dropped in &printed.dropped {
        text.push_str(&format!("\nrow {} was left out: {}", dropped.row, dropped.reason));
    }
    for (what, findings) in [("redacted", &printed.redacted), ("noted by the gate", &printed.notes)] {
        if !findings.is_empty() {
            text.push_str(&format!("\n\n{what}\n{}\n", findings::table_of(findings)));
        }
    }
    if !printed.approved_by.is_empty() {
        let by = printed.approved_by.iter().map(Address::to_string).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("\nlet in by  {by}"));
    }
    text.push_str(&format!("\n{} transactions, {} gas, {paid}", printed.transactions.len(), printed.gas));
    text.push_str(&format!("\n\nNext: its owner's tributary datanet publish {} makes it part of a version", printed.datanet));
    text
}

#[cfg(test)]
mod tests;
