//! `tributary datanet contribute`: from a file to fragments on five disks.
//!
//! Order: everything that can be refused here is refused before the first transaction; then the commitment, the gate, the acceptance, the
//! fragments. Each step is kept in the data folder before the next one begins, so the same command goes on where an earlier run broke off:
//! a commitment is not paid twice, an accepted contribution only spreads what is missing.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::{State, state::Accepted};
use clap::Args as ClapArgs;
use serde::{Deserialize, Serialize};
use storage::{
    datanet::{self, Card, Contribution, Document, Licence, Place, Report, contribution_text, read, shard},
    erasure::{self, Encoded, Profile},
    proto::gate::Open,
};
use types::{
    amount::Amount,
    contribution::{self, GateReport, Priority, commitment},
    id::{Address, AssetId, BlobId, Hash32},
    key::Signed,
    merkle::keccak,
    text::text_root,
};

use super::{Context, cost, network::Network};
use crate::{
    chain::Chained,
    data::{DataDir, read_bounded, write_atomic},
    datanet::{
        placing, resolve, review,
        shards::keep,
        spread::{Holder, Placed, spread},
    },
    output::table,
};

/// Most commitments one run makes: each round of --drop-refused takes out up to a thousand rows.
const ROUNDS_MAX: usize = 8;
/// Most refused rows named in an error.
const NAMED_MAX: usize = 50;
/// Largest record of a contribution under way.
const PENDING_BYTES_MAX: u64 = 4 << 10;

/// Contribute the documents of a file: JSONL (one {"text", "title", "id"} a line) or plain text (one document).
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Nothing is sent or paid until the whole file has been checked. If a row is refused at the gate (it is a copy of an accepted\ndocument, say) the contribution is refused and every such row is named with its first owner; --drop-refused leaves those rows\nout and commits anew. A run that was interrupted is continued by the same command."
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

/// A row that was left out.
#[derive(Debug, Serialize)]
struct Dropped {
    row: u32,
    reason: String,
}

/// A commitment whose contribution is not finished.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    datanet: AssetId,
    text_root: Hash32,
    salt: Hash32,
    /// Text root of the whole file: another one if rows were left out.
    file_root: Hash32,
}

/// Rows with their numbers in the file, counted from 1.
#[derive(Debug)]
struct Rows {
    documents: Vec<Document>,
    numbers: Vec<u32>,
    dropped: Vec<Dropped>,
    /// Text root of all rows of the file.
    file_root: Hash32,
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

impl Rows {
    /// Every line is checked before anything else happens.
    fn read(args: &Args) -> anyhow::Result<Self> {
        let path = &args.file;
        let file = File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let by_name = path.extension().and_then(|extension| extension.to_str()).and_then(read::Format::of_extension);
        let format = if args.text { read::Format::Text } else { by_name.unwrap_or(read::Format::Jsonl) };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let title = args.title.clone().or(stem);
        let documents = read::documents(BufReader::new(file), format, title.as_deref()).with_context(|| format!("{}", path.display()))?;
        let numbers = (1..).take(documents.len()).collect();
        let file_root = text_root(contribution_text(&documents).as_bytes());
        Ok(Self { documents, numbers, dropped: Vec::new(), file_root })
    }

    fn text_root(&self) -> Hash32 {
        text_root(contribution_text(&self.documents).as_bytes())
    }

    /// Takes the refused rows out; an error if the contribution as a whole is refused.
    fn drop_refused(&mut self, report: &Report) -> anyhow::Result<()> {
        ensure!(report.refusals.iter().all(|refusal| refusal.row > 0), "{}", self.reasons(report));
        let refused: BTreeMap<u32, &datanet::Refusal> = report.refusals.iter().map(|refusal| (refusal.row, refusal)).collect();
        ensure!(!refused.is_empty(), "the gate refuses the contribution and names no row");
        for (row, refusal) in refused.into_iter().rev() {
            let place = usize::try_from(row - 1).ok().filter(|place| *place < self.documents.len());
            let place = place.with_context(|| format!("the gate refuses row {row}, there are {}", self.documents.len()))?;
            self.documents.remove(place);
            self.dropped.push(Dropped { row: self.numbers.remove(place), reason: refusal.detail.clone() });
        }
        self.dropped.sort_by_key(|dropped| dropped.row);
        ensure!(!self.documents.is_empty(), "every row was refused: there is nothing to contribute");
        Ok(())
    }

    /// The refusals in words, by the file's own row numbers.
    fn reasons(&self, report: &Report) -> String {
        let number = |row: u32| usize::try_from(row).ok().and_then(|row| self.numbers.get(row.checked_sub(1)?));
        let line = |refusal: &datanet::Refusal| {
            let rule = serde_json::to_value(refusal.rule).ok().and_then(|rule| rule.as_str().map(str::to_owned)).unwrap_or_default();
            let place = number(refusal.row).map_or_else(|| "the contribution".to_owned(), |number| format!("row {number}"));
            format!("  {place}: {rule}: {}; {}", refusal.detail, refusal.fix)
        };
        let mut lines: Vec<String> = report.refusals.iter().take(NAMED_MAX).map(line).collect();
        let more = report.refusals.len().saturating_sub(NAMED_MAX) + usize::try_from(report.unlisted).unwrap_or(usize::MAX);
        if more > 0 {
            lines.push(format!("  and {more} more"));
        }
        lines.join("\n")
    }
}

/// What the gate would refuse without knowing any other contribution: asked of the same rules, before anything is paid.
fn check_here(rows: &mut Rows, card: &Card, me: Address, licence: &Licence, drop_refused: bool) -> anyhow::Result<()> {
    let empty = datanet::Datanet::new(card.clone());
    for _ in 0..ROUNDS_MAX {
        let contribution = Contribution { contributor: me, licence: licence.clone(), documents: std::mem::take(&mut rows.documents) };
        let report = empty.gate(Place::default(), &contribution);
        rows.documents = contribution.documents;
        if report.accepted {
            shard::encode(&rows.documents)?;
            return Ok(());
        }
        ensure!(drop_refused, "nothing was sent; this would be refused:\n{}", rows.reasons(&report));
        rows.drop_refused(&report)?;
    }
    bail!("after {ROUNDS_MAX} rounds rows are still refused: leave out the copies within the file first")
}

/// The wallet's own accepted contribution of this file: of all its rows, or of those an earlier run was left with.
fn unfinished<'s>(
    data: &DataDir,
    state: &'s State,
    datanet: AssetId,
    me: Address,
    file_root: Hash32,
) -> anyhow::Result<Option<&'s Accepted>> {
    let mut roots = vec![file_root];
    let folder = pending_folder(data);
    if folder.exists() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                roots.extend(
                    Some(read_pending(&path)?)
                        .filter(|pending| pending.datanet == datanet && pending.file_root == file_root)
                        .map(|pending| pending.text_root),
                );
            }
        }
    }
    let mine = |root: &Hash32| accepted_of(state, datanet, *root).filter(|accepted| accepted.contributor == me);
    Ok(roots.iter().find_map(mine))
}

fn read_pending(path: &Path) -> anyhow::Result<Pending> {
    let bytes = read_bounded(path, PENDING_BYTES_MAX)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: damaged; remove it to commit anew", path.display()))
}

fn accepted_of(state: &State, datanet: AssetId, text_root: Hash32) -> Option<&Accepted> {
    state.contributions(datanet).find(|accepted| accepted.text_root == text_root)
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
            let (operators, _) = self.network.operators(state, least).await?;
            let encoded = erasure::encode(&shard::encode(&rows.documents)?, root, Profile::for_operators(operators.len()))?;
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
        let (number, sent) = client.accept(&signed, verdict).await?;
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
        let holders = self.place(&encoded, facts.priority.block).await.with_context(again)?;
        let placed = spread(&self.network.bulk, &encoded, &holders).await.with_context(again)?;
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

    /// Holders by the hash of the commitment's block.
    async fn place(&self, encoded: &Encoded, block: u64) -> anyhow::Result<Vec<Holder>> {
        let manifest = &encoded.manifest;
        let state = self.chain.state().await?;
        let seed = self.chain.client.block(block).await?.with_context(|| format!("the chain has no block {block}"))?.hash;
        let (operators, storing) = self.network.operators(&state, manifest.profile().total().into()).await?;
        let placed = placing::place(seed, manifest.id(), manifest.profile(), &operators)?;
        placed
            .into_iter()
            .map(|(account, node)| Ok(Holder { account, node, addr: *storing.get(&node).context("an operator that stores has an ad")? }))
            .collect()
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

/// The fragments of an accepted contribution: its shard as kept when it was accepted, or as the file gives it, in the code it was cut by.
fn same_object(data: &DataDir, accepted: &Accepted, rows: &Rows) -> anyhow::Result<Encoded> {
    let path = data.shard(accepted.text_root);
    let kept = if path.exists() { Some(read_bounded(&path, erasure::OBJECT_BYTES_MAX as u64)?) } else { None };
    let fresh = shard::encode(&rows.documents)?;
    for bytes in kept.iter().chain([&fresh]) {
        for (least, total) in [(3, 5), (4, 12), (10, 30), (16, 48)] {
            let encoded = erasure::encode(bytes, accepted.text_root, Profile::new(least, total)?)?;
            if encoded.manifest.id() == accepted.object {
                return Ok(encoded);
            }
        }
    }
    bail!(
        "the file has the accepted texts but other titles or ids, and the accepted shard is not in {}: use the file that was contributed",
        data.path().display()
    )
}

fn pending_folder(data: &DataDir) -> PathBuf {
    data.path().join("pending")
}

fn pending_path(data: &DataDir, datanet: AssetId, root: Hash32) -> PathBuf {
    pending_folder(data).join(format!("{datanet}-{}.json", hex::encode(root.0)))
}

/// The record has served; one that stays only makes a later run look at an old commitment first.
fn forget(data: &DataDir, datanet: AssetId, root: Hash32) {
    let path: &Path = &pending_path(data, datanet, root);
    if path.exists()
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(path = %path.display(), %error, "a finished record is left");
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
    text
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::time::BlockRef;

    use super::*;

    const ME: Address = Address([1; 20]);
    const NET: AssetId = AssetId(7);

    fn documents(texts: &[&str]) -> Vec<Document> {
        texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect()
    }

    fn rows(texts: &[&str]) -> Rows {
        let documents = documents(texts);
        let file_root = text_root(contribution_text(&documents).as_bytes());
        Rows { numbers: (1..).take(documents.len()).collect(), documents, dropped: Vec::new(), file_root }
    }

    /// Books with one accepted contribution of `contributor`.
    fn books(contributor: Address, documents: &[Document]) -> (State, Encoded) {
        let text = contribution_text(documents);
        let root = text_root(text.as_bytes());
        let encoded = erasure::encode(&shard::encode(documents).unwrap(), root, Profile::DEVNET).unwrap();
        let event = Event::Accepted {
            datanet: NET,
            number: 0,
            contributor,
            text_root: root,
            text_bytes: text.len() as u64,
            documents: u32::try_from(documents.len()).unwrap(),
            block: 4,
            ordinal: 0,
            licence: Hash32::ZERO,
            object: encoded.manifest.id(),
            report: Hash32::ZERO,
        };
        let mut state = State::default();
        state
            .apply(&Logged { block: BlockRef { number: 5, hash: Hash32::ZERO }, log: 0, transaction: Hash32::ZERO, time: 0, event })
            .unwrap();
        (state, encoded)
    }

    fn report(refused: &[u32]) -> Report {
        let refusal = |row: &u32| datanet::Refusal {
            row: *row,
            rule: datanet::Rule::Duplicate,
            detail: format!("copy {row}"),
            fix: "leave it out".into(),
        };
        let refusals = refused.iter().map(refusal).collect();
        Report { accepted: false, contributor: ME, text_root: Hash32::ZERO, text_bytes: 0, documents: 0, refusals, unlisted: 0 }
    }

    #[test]
    fn refused_rows_leave_under_the_files_own_numbers() {
        let mut rows = rows(&["a", "b", "c", "d"]);
        rows.drop_refused(&report(&[1, 3])).unwrap();
        assert!(rows.reasons(&report(&[2])).contains("row 4: duplicate: copy 2; leave it out"), "the second row left is the file's fourth");
        rows.drop_refused(&report(&[2])).unwrap();
        assert_eq!(rows.documents, documents(&["b"]));
        assert_eq!(rows.dropped.iter().map(|dropped| dropped.row).collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn a_gate_that_refuses_rows_there_are_not_or_none_at_all_is_an_error() {
        assert!(rows(&["a"]).drop_refused(&report(&[2])).is_err());
        assert!(rows(&["a"]).drop_refused(&report(&[])).is_err());
        assert!(rows(&["a"]).drop_refused(&report(&[0])).is_err());
        assert!(rows(&["a"]).drop_refused(&report(&[1])).unwrap_err().to_string().contains("nothing to contribute"));
    }

    #[test]
    fn an_interrupted_contribution_is_found_again_also_after_rows_were_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        let (file, left) = (rows(&["copy", "new"]), documents(&["new"]));
        let (state, encoded) = books(ME, &left);
        let found = |me| unfinished(&data, &state, NET, me, file.file_root).unwrap().map(|accepted| accepted.object);
        assert_eq!(found(ME), None);
        let root = encoded.manifest.text_root();
        let pending = Pending { datanet: NET, text_root: root, salt: Hash32::ZERO, file_root: file.file_root };
        write_atomic(&pending_path(&data, NET, root), &serde_json::to_vec(&pending).unwrap(), 0o600).unwrap();
        assert_eq!(found(ME), Some(encoded.manifest.id()));
        assert_eq!(found(Address([2; 20])), None, "somebody else's");
        let accepted = state.contributions(NET).next().unwrap();
        assert!(same_object(&data, accepted, &file).is_err(), "the file alone does not give the accepted shard");
        keep(&data, root, &shard::encode(&left).unwrap()).unwrap();
        assert_eq!(same_object(&data, accepted, &file).unwrap().manifest, encoded.manifest);
        forget(&data, NET, root);
        assert_eq!(found(ME), None);
    }
}
