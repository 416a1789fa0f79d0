//! One shard on its way: the commitment, the gate, the acceptance, the fragments.

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::{State, state::Accepted};
use serde::Serialize;
use storage::{
    datanet::{Licence, Report, contribution_text, shard},
    erasure::{self, Encoded, Profile},
    proto::gate::Open,
};
use types::{
    amount::Amount,
    contribution::{self, GateReport, Priority, commitment},
    id::{Address, AssetId, BlobId, Hash32},
    key::Signed,
    merkle::keccak,
    text::text_top,
};

use super::{
    ROUNDS_MAX,
    pending::{Pending, accepted_of, forget, pending_path, read_pending, same_object},
    rows::{Dropped, Rows},
};
use crate::{
    chain::Chained,
    command::{Context, datanet::network::Network},
    data::write_atomic,
    datanet::{
        placing, review,
        shards::keep,
        spread::{Holder, Placed, spread},
    },
};

/// What became of one shard.
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
    pub(super) spent: Spent,
}

impl Run<'_> {
    /// Brings a shard into the Datanet.
    pub(super) async fn contribute(
        &mut self,
        state: &State,
        mut rows: Rows,
        licence: &Licence,
        drop_refused: bool,
    ) -> anyhow::Result<Contributed> {
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
        let (number, sent) = client.accept(&signed, verdict, text_top(text.as_bytes())).await?;
        self.spent.add(&sent);
        self.context.output.note(&format!("accepted as contribution {number}; spreading {} fragments", encoded.fragments.len()));
        Ok(number)
    }

    /// A contribution that the chain has: only its fragments may be missing.
    pub(super) async fn go_on(&mut self, accepted: &Accepted, rows: &Rows) -> anyhow::Result<Contributed> {
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

    async fn spread(&mut self, facts: Facts, encoded: Encoded, dropped: Vec<Dropped>) -> anyhow::Result<Contributed> {
        let object = encoded.manifest.id();
        let again = || {
            format!(
                "contribution {} of Datanet {} is accepted, but not yet where it belongs: run the same command again",
                facts.number, self.datanet
            )
        };
        let holders = self.place(&encoded, facts.priority.block).await.with_context(again)?;
        let mut progress = self.context.output.progress("fragments kept by their holders", holders.len() as u64);
        let placed = spread(&self.network.bulk, &encoded, &holders, |kept| progress.set(kept)).await;
        progress.finish();
        let placed = placed.with_context(again)?;
        forget(&self.context.data, self.datanet, facts.text_root);
        Ok(Contributed {
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
