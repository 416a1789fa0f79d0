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
    datanet::{Licence, Report, contribution_text, shard},
    erasure::{self, Encoded, Profile},
    proto::{gate::Open, keeping::Record},
};
use types::{
    amount::Amount,
    contribution::{self, GateReport, Priority, commitment},
    id::{Address, AssetId, BlobId, Hash32},
    key::Signed,
    merkle::keccak,
    placement::Placement,
    text::text_top,
};

use self::{
    pending::{Pending, accepted_of, forget, pending_path, read_pending, same_object, unfinished},
    rows::{Dropped, Rows, check_here},
};
use super::{Context, cost, network::Network};
use crate::{
    chain::Chained,
    data::write_atomic,
    datanet::{
        keeping::{Registered, look, tell},
        placing::{self, Storer, Storers},
        resolve, review,
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
    after_help = "Nothing is sent or paid until the whole file has been checked. If a row is refused at the gate (it is a copy of an accepted\ndocument, say) the contribution is refused and every such row is named with its first owner; --drop-refused leaves those rows\nout and commits anew. A run that was interrupted is continued by the same command.\n\nExamples:\n  tributary datanet contribute medical terms.jsonl\n  tributary datanet contribute medical essay.txt --title \"On gout\"\n\nNext: the Datanet's owner publishes it, tributary datanet publish medical; tributary datanet verify medical looks at the holders."
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
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// What is printed.
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
    spent: Spent,
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
        check_here(&mut rows, &card, me, &licence, args.drop_refused)?;
    }
    let network = Network::join(context, &args.bootstrap).await?;
    let mut run = Run { context, chain, network, me, datanet, owner, spent: Spent::default() };
    let done = match &unfinished {
        Some(accepted) => run.go_on(accepted, &rows).await,
        None => run.contribute(&state, rows, &licence, args.drop_refused).await,
    };
    run.network.leave().await;
    let printed = done?;
    let paid = cost(&run.spent.paid);
    context.output.result(&printed, || describe(&printed, &paid))
}

impl Run<'_> {
    async fn contribute(&mut self, state: &State, mut rows: Rows, licence: &Licence, drop_refused: bool) -> anyhow::Result<Printed> {
        let least = usize::from(Profile::DEVNET.total());
        for _ in 0..ROUNDS_MAX {
            let root = rows.text_root();
            if let Some(accepted) = accepted_of(state, self.datanet, root) {
                let (number, by) = (accepted.number, accepted.contributor);
                bail!("this text is contribution {number} of Datanet {} already, by {by}: its first owner is paid for it", self.datanet);
            }
            // Holders and gate are looked for before the commitment is paid.
            let storers = self.network.operators(state, least, self.chain.deployment().chain_id).await?;
            let profile = placing::profile(&storers, &placing::residency(state, self.datanet)?);
            let encoded = erasure::encode(&shard::encode(&rows.documents)?, root, profile)?;
            let reviewed = self.reviewed(state, &rows, root, licence).await?;
            let (report, verdict, salt, priority) = reviewed;
            if report.accepted {
                let number = self.accept(&rows, &encoded, salt, licence, &verdict).await?;
                let facts = Facts { number, text_root: root, text_bytes: report.text_bytes, documents: report.documents, priority };
                return self.spread(facts, encoded, rows.dropped).await;
            }
            forget(&self.context.data, self.datanet, root);
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

    /// Commits, and shows the shard to the gate.
    async fn reviewed(
        &mut self,
        state: &State,
        rows: &Rows,
        root: Hash32,
        licence: &Licence,
    ) -> anyhow::Result<(Report, Signed<GateReport>, Hash32, Priority)> {
        let (owner, datanet) = (self.owner, self.datanet);
        let gate = state.operator(owner).with_context(|| {
            format!("{owner}, who owns Datanet {datanet}, runs no registered node: nobody can look at the contribution")
        })?;
        let ad = self.network.ad_of(gate.node).await.with_context(|| format!("the gate of Datanet {datanet}"))?;
        let (client, connection) = self.network.dial(&ad).await.with_context(|| format!("the gate of Datanet {datanet}"))?;
        let (salt, priority) = self.commit(root, rows.file_root).await?;
        let bytes = shard::encode(&rows.documents)?;
        let open =
            Open { datanet, contributor: self.me, salt, text_root: root, licence: licence.to_string(), shard_bytes: bytes.len() as u64 };
        self.context.output.note(&format!(
            "committed in block {}; the gate {} looks at {} documents",
            priority.block,
            gate.node,
            rows.documents.len()
        ));
        let stream = connection.open_stream().await?;
        let (report, verdict) = review::review(stream, &open, &bytes, &self.chain.client.domains(), state).await?;
        client.close(0).await;
        Ok((report, verdict, salt, priority))
    }

    /// The salt and place of this text's commitment, made now unless an earlier run did.
    async fn commit(&mut self, root: Hash32, file_root: Hash32) -> anyhow::Result<(Hash32, Priority)> {
        let path = pending_path(&self.context.data, self.datanet, root);
        if path.exists() {
            let pending = read_pending(&path)?;
            ensure!(
                pending.text_root == root && pending.datanet == self.datanet,
                "{}: names another contribution; remove it",
                path.display()
            );
            let made = commitment(pending.salt, root, self.me);
            if let Some(priority) = self.chain.client.commitment_of(made, self.me).await? {
                return Ok((pending.salt, priority));
            }
        }
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).context("no randomness from the system")?;
        let salt = Hash32(salt);
        let pending = Pending { datanet: self.datanet, text_root: root, salt, file_root };
        write_atomic(&path, &serde_json::to_vec(&pending)?, 0o600).with_context(|| format!("{}", path.display()))?;
        let (priority, sent) = self.chain.client.commit(commitment(salt, root, self.me)).await?;
        self.spent.add(&sent);
        Ok((salt, priority))
    }

    /// Signs the contribution and brings it on the chain; the shard is on this disk before.
    async fn accept(
        &mut self,
        rows: &Rows,
        encoded: &Encoded,
        salt: Hash32,
        licence: &Licence,
        verdict: &Signed<GateReport>,
    ) -> anyhow::Result<u64> {
        let text = contribution_text(&rows.documents);
        let bytes = shard::encode(&rows.documents)?;
        keep(&self.context.data, encoded.manifest.text_root(), &bytes)?;
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
        let (number, sent) = client.accept(&signed, verdict, text_top(text.as_bytes())).await?;
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
        self.spread(facts, encoded, Vec::new()).await
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

fn describe(printed: &Printed, paid: &str) -> String {
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
    text.push_str(&format!("\n{} transactions, {} gas, {paid}", printed.transactions.len(), printed.gas));
    text.push_str(&format!("\n\nNext: its owner's tributary datanet publish {} makes it part of a version", printed.datanet));
    text
}

#[cfg(test)]
mod tests;
