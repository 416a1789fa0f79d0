//! One shard on its way: the commitment, the gate, the reviewers it may wait for, the acceptance.

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::{State, state::Accepted};
use serde::Serialize;
use storage::{
    datanet::{Card, Contributors, Licence, Place, Report, contribution_text, private, shard},
    erasure::{self, Encoded, Profile},
    proto::gate::{Ask, Open, Reply, SealRight},
    seal::segment::SegmentKey,
};
use types::{
    amount::Amount,
    contribution::{self, GateReport, Priority, commitment},
    id::{Address, AssetId, BlobId, Hash32},
    key::Signed,
    merkle::keccak,
};

use super::{
    ROUNDS_MAX,
    cut::stretches,
    findings::Finding,
    pending::{Pending, committed_before, forget, pending_path, read_pending, same_object},
    placed::Facts,
    rows::{Dropped, Rows},
};
use crate::{
    chain::Chained,
    command::{
        Context,
        datanet::{brought, network::Network},
    },
    data::write_atomic,
    datanet::{
        erased, in_the_way,
        review::{self, Reviewed},
        shards::keep,
        spread::Placed,
    },
};

/// What became of one shard.
#[derive(Debug)]
pub(super) enum Brought {
    /// It is accepted and lies where it belongs.
    Done(Box<Contributed>),
    /// Reviewers hold it.
    Waits(Waits),
}

/// A contribution that reviewers hold.
#[derive(Debug, Serialize)]
pub(super) struct Waits {
    pub(super) datanet: u64,
    /// Always true: what tells this document from a finished contribution's.
    pub(super) waits: bool,
    /// What reviewers name it by.
    pub(super) commitment: Hash32,
    pub(super) contributor: Address,
    pub(super) text_root: Hash32,
    pub(super) approved_by: Vec<Address>,
    pub(super) findings: Vec<Finding>,
    pub(super) redacted: Vec<Finding>,
}

/// A contribution that is accepted and lies where it belongs.
#[derive(Debug, Serialize)]
pub(super) struct Contributed {
    pub(super) datanet: u64,
    pub(super) contribution: u64,
    pub(super) contributor: Address,
    pub(super) text_root: Hash32,
    pub(super) object: BlobId,
    pub(super) documents: u32,
    pub(super) text_bytes: u64,
    pub(super) priority: Priority,
    pub(super) seed_block: u64,
    pub(super) dropped: Vec<Dropped>,
    /// Rows whose text was changed before it was brought.
    pub(super) redacted: Vec<Finding>,
    /// What the gate let in with a remark.
    pub(super) notes: Vec<Finding>,
    /// Reviewers who let it in although something spoke against it.
    pub(super) approved_by: Vec<Address>,
    pub(super) holders: Vec<Placed>,
}

/// What the transactions of this run were.
#[derive(Debug, Default)]
pub(super) struct Spent {
    pub(super) transactions: Vec<Hash32>,
    pub(super) gas: u64,
    pub(super) paid: Vec<Amount>,
}

/// What one run works with.
pub(super) struct Run<'c> {
    pub(super) context: &'c Context,
    pub(super) chain: Chained,
    pub(super) network: Network,
    pub(super) me: Address,
    pub(super) datanet: AssetId,
    pub(super) owner: Address,
    pub(super) card: Card,
    pub(super) spent: Spent,
}

/// What a gate made of a commitment.
struct Offered {
    outcome: Reviewed,
    salt: Hash32,
    priority: Priority,
}

impl Run<'_> {
    /// Brings a shard into the Datanet, as far as it goes.
    pub(super) async fn contribute(
        &mut self,
        state: &State,
        mut rows: Rows,
        licence: &Licence,
        drop_refused: bool,
    ) -> anyhow::Result<Brought> {
        let least = usize::from(Profile::DEVNET.total());
        for _ in 0..ROUNDS_MAX {
            let plain = rows.text_root();
            let text_salt = if self.card.is_private() { Some(self.pending(plain, rows.file_root)?.text_salt) } else { None };
            let text_salt = text_salt.map(|salt| salt.context("the record of this contribution has no salt: remove it")).transpose()?;
            let root = private::root(contribution_text(&rows.documents).as_bytes(), text_salt);
            let own = committed_before(&self.context.data, state, (self.datanet, self.me), (plain, root))?;
            if let Some(accepted) = in_the_way(state, self.datanet, root, self.me, own) {
                let (number, by) = (accepted.number, accepted.contributor);
                if let Some(erasure) = state.erasure(self.datanet, number) {
                    bail!("{erasure}, and has this text: it cannot be contributed to this Datanet again");
                }
                bail!("this text is contribution {number} of Datanet {} already, by {by}: its first owner is paid for it", self.datanet);
            }
            // Holders and gate are looked for before the commitment is paid.
            self.network.operators(state, least, self.chain.deployment().chain_id).await?;
            let Offered { outcome, salt, priority } = self.reviewed(state, &rows, (plain, root, text_salt), licence).await?;
            let (report, verdict, profile, seal) = match outcome {
                Reviewed::Done { report, verdict, profile, seal } => (report, verdict, profile, seal),
                Reviewed::Waits { report, approved_by } => {
                    self.remember(&rows, &report)?;
                    return Ok(Brought::Waits(self.waits(rows, &report, salt, approved_by)));
                }
            };
            self.remember(&rows, &report)?;
            if report.accepted {
                let object = self.object(&rows, text_salt, seal, priority)?;
                let encoded = erasure::encode(&object, root, profile.context("the gate accepts the contribution and names no code")?)?;
                let (ours, seen) = (encoded.manifest.id(), verdict.document.object);
                ensure!(
                    ours == seen,
                    "the gate signed for object {seen}, what it was shown makes {ours}: its node and this one must be of one version"
                );
                let number = self.accept(&rows, &encoded, object, salt, text_salt, licence, &verdict).await?;
                let facts = Facts { number, text_root: root, text_bytes: report.text_bytes, documents: report.documents, priority };
                let mut done = self.spread(facts, encoded, std::mem::take(&mut rows.dropped)).await?;
                forget(&self.context.data, self.datanet, plain);
                let domains = self.chain.client.domains();
                let may_review = |account| state.is_reviewer(self.datanet, account);
                done.approved_by = report.approved_by(&domains, (self.datanet, commitment(salt, root, self.me)), may_review)?;
                done.notes = rows.findings(&report.notes);
                done.redacted = rows.redacted;
                return Ok(Brought::Done(Box::new(done)));
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
    pub(super) async fn is_listed(&self, state: &State) -> anyhow::Result<()> {
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

    /// Keeps what the gate said, and of which rows: the digest on the chain can be checked without it, and each row's end is known here.
    fn remember(&self, rows: &Rows, report: &Report) -> anyhow::Result<()> {
        let data = &self.context.data;
        let brought = brought::Record::of((self.datanet, self.me, rows.file_root), data, &rows.names)?;
        brought.shown(data, report, stretches(&rows.spots), &rows.dropped)
    }

    fn waits(&self, rows: Rows, report: &Report, salt: Hash32, approved_by: Vec<Address>) -> Waits {
        Waits {
            datanet: self.datanet.0,
            waits: true,
            commitment: commitment(salt, report.text_root, self.me),
            contributor: self.me,
            text_root: report.text_root,
            approved_by,
            findings: rows.findings(&report.refusals),
            redacted: rows.redacted,
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
    pub(super) async fn go_on(&mut self, accepted: &Accepted, rows: &Rows) -> anyhow::Result<Contributed> {
        let number = accepted.number;
        erased::check_contribution(&*self.chain.state().await?, accepted)?;
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
        let done = self.spread(facts, encoded, Vec::new()).await?;
        forget(&self.context.data, self.datanet, rows.text_root());
        Ok(done)
    }
}

impl Spent {
    fn add(&mut self, sent: &chain_bridge::client::send::Sent) {
        self.transactions.push(sent.transaction);
        self.gas += sent.gas_used;
        let gas = Amount(u128::from(sent.gas_used).saturating_mul(sent.gas_price));
        self.paid.push(Amount(gas.0.saturating_add(sent.l1_fee.unwrap_or_default().0)));
    }
}
