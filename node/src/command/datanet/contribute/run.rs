//! The steps of one shard: the commitment, the gate, the acceptance, its holders. Each may be dropped half-way: what it has sent is remembered, and the next run of
//! the same command finds what is on the chain. When they are taken is [`super::pipeline`]'s.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{client::send::Sent, registry::State};
use serde::Serialize;
use storage::{
    datanet::{Card, Contributors, Licence, Place, Report, private},
    erasure::{self, Encoded},
    proto::gate::{Ask, Open, Reply, SealRight},
    seal::segment::SegmentKey,
};
use types::{
    amount::Amount,
    contribution::{self, Priority, commitment},
    id::{Address, AssetId, BlobId, Hash32},
    key::Signed,
    merkle::keccak,
};

use super::{
    ROUNDS_MAX,
    findings::Finding,
    pending::{Pending, forget, pending_path, read_pending, same_object},
    placed::{Facts, Left},
    rows::{Dropped, Rows},
    way::{Committed, Passed, Remarks, Way, blocking},
};
use crate::{
    chain::Chained,
    command::{
        Context,
        datanet::{brought::Record, network::Network},
    },
    data::write_atomic,
    datanet::{
        erased, in_the_way, placing,
        review::{self, Reviewed},
        shards::keep,
        spread::Placed,
    },
};

/// How a commitment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// It is on the chain.
    Committed,
    /// There is none, because one before it failed.
    Left,
    /// The chain has this text of ours already.
    There,
}

/// What the gate made of a shard.
#[derive(Debug)]
pub(super) enum Looked {
    /// It may be accepted.
    Passed,
    /// Rows were refused and taken out.
    Again,
    /// Reviewers hold it.
    Waits(Box<Waits>),
    /// The chain has this text of ours already.
    There,
    /// It did not look.
    Turned(anyhow::Error),
}

/// The contribution as it is will not enter: what was cut of it need not be kept.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

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
    /// Fragments that their holders have not got; nothing after a first run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) left_to_repair: Vec<Left>,
    /// Operators with room that are given no fragments, since others' books of audits have suspended them.
    pub(super) suspended: Vec<Address>,
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
    pub(super) licence: Licence,
    pub(super) drop_refused: bool,
    /// There is one shard: more is told of it.
    pub(super) is_only: bool,
    pub(super) spent: Mutex<Spent>,
    /// What the gate still has room for of what waits for reviewers, once that was asked.
    pub(super) room: tokio::sync::Mutex<Option<Room>>,
}

/// Contributions that a gate lets wait, and bytes of their shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) cases: u64,
    pub(super) bytes: u64,
}

impl Room {
    /// What is left of it beside one more; nothing if that is too much.
    fn beside(self, bytes: u64) -> Option<Self> {
        Some(Self { cases: self.cases.checked_sub(1)?, bytes: self.bytes.checked_sub(bytes)? })
    }
}

/// Where rows are brought, and by whom.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct To<'a> {
    pub(in super::super) datanet: AssetId,
    pub(in super::super) owner: Address,
    pub(in super::super) card: &'a Card,
    pub(in super::super) me: Address,
}

impl To<'_> {
    /// Whether its gate has to be asked who may contribute.
    pub(super) fn is_for_listed(&self) -> bool {
        self.card.policy().contributors == Contributors::Listed && self.me != self.owner
    }
}

/// What a Datanet of listed contributors would say after the commitment is paid, asked before.
pub(super) async fn listed(context: &Context, network: &Network, state: &State, to: To<'_>) -> anyhow::Result<()> {
    let To { datanet, owner, me, .. } = to;
    let (client, connection) = network.dial_gate(context, state, owner).await?;
    let answer = review::ask(connection.open_stream().await?, &Ask::Members { datanet }).await?;
    client.close(0).await;
    let Reply::Members { contributors, .. } = answer else { bail!("the gate answered something else than its members") };
    if contributors.contains(&me) {
        return Ok(());
    }
    let words = format!(
        "Datanet {datanet} takes contributions of listed contributors only, and {me} is not listed: its owner {owner} lists it with `tributary datanet members {datanet} --add {me}`"
    );
    Err(Refused(words).into())
}

impl Run<'_> {
    /// Commits to the texts of shards, in this order. What fails leaves those behind it as they are.
    pub(super) async fn commit(&self, lot: Vec<(usize, Way)>) -> Vec<(usize, Way, anyhow::Result<Made>)> {
        let (mut ended, mut new, mut has_failed) = (Vec::new(), Vec::new(), false);
        for (place, mut way) in lot {
            if has_failed {
                ended.push((place, way, Ok(Made::Left)));
                continue;
            }
            match self.prepared(&mut way).await {
                Ok(Some(made)) => ended.push((place, way, Ok(made))),
                Ok(None) => match self.may_wait(&way).await {
                    Ok(()) => new.push((place, way)),
                    Err(error) => {
                        has_failed = true;
                        ended.push((place, way, Err(error)));
                    }
                },
                Err(error) => {
                    has_failed = true;
                    ended.push((place, way, Err(error)));
                }
            }
        }
        if new.is_empty() {
            return ended;
        }
        let hashes: Vec<_> = new.iter().filter_map(|(_, way)| Some(self.commitment(way.committed?))).collect();
        match self.chain.client.commit_all(&hashes).await {
            Ok(made) => {
                for ((place, mut way), (priority, sent)) in new.into_iter().zip(made) {
                    self.spend(&sent);
                    way.committed = way.committed.map(|committed| Committed { priority, ..committed });
                    ended.push((place, way, Ok(Made::Committed)));
                }
            }
            Err(error) => {
                let mut error = Some(error);
                ended.extend(
                    new.into_iter().map(|(place, way)| (place, way, error.take().map_or(Ok(Made::Left), |error| Err(error.into())))),
                );
            }
        }
        ended
    }

    fn commitment(&self, committed: Committed) -> Hash32 {
        commitment(committed.salt, committed.root, self.me)
    }

    /// Writes down what is to be committed to; nothing if that is not on the chain yet.
    async fn prepared(&self, way: &mut Way) -> anyhow::Result<Option<Made>> {
        let record = self.pending(way.plain(), way.cut.text_root)?;
        let root = match record.text_salt.filter(|_| self.card.is_private()) {
            Some(salt) => way.salted(salt).await?,
            None if self.card.is_private() => bail!("the record of this contribution has no salt: remove it"),
            None => way.plain(),
        };
        let committed = Committed { root, salt: record.salt, text_salt: record.text_salt, priority: Priority::default() };
        let earlier = self.chain.client.commitment_of(self.commitment(committed), self.me).await?;
        if self.is_there(way, root, earlier).await? {
            return Ok(Some(Made::There));
        }
        // The salt is on the disk before anything is paid for it.
        let record = Pending { registered: Some(root), ..record };
        let path = pending_path(&self.context.data, self.datanet, record.text_root);
        write_atomic(&path, &serde_json::to_vec(&record)?, 0o600).with_context(|| format!("{}", path.display()))?;
        if !way.records.contains(&record.text_root) {
            way.records.push(record.text_root);
        }
        way.committed = Some(Committed { priority: earlier.unwrap_or_default(), ..committed });
        Ok(earlier.map(|_| Made::Committed))
    }

    /// Whether the chain has a text of ours already: then only its fragments may be missing. `own` is where our commitment to it stands, if it is made.
    ///
    /// # Errors
    /// What keeps the text out: somebody committed to it earlier, or it was erased.
    async fn is_there(&self, way: &mut Way, root: Hash32, own: Option<Priority>) -> anyhow::Result<bool> {
        let state = self.chain.state().await?;
        let mine = state.contributions(self.datanet).find(|accepted| accepted.text_root == root && accepted.contributor == self.me);
        let own = own.map(|priority| (priority.block, priority.ordinal));
        let Some(accepted) = mine.or_else(|| in_the_way(&state, self.datanet, root, self.me, own)) else { return Ok(false) };
        let (number, by) = (accepted.number, accepted.contributor);
        if let Some(erasure) = state.erasure(self.datanet, number) {
            return Err(Refused(format!("{erasure}, and has this text: it cannot be contributed to this Datanet again")).into());
        }
        if by != self.me {
            let datanet = self.datanet;
            let words = format!("this text is contribution {number} of Datanet {datanet} already, by {by}: its first owner is paid for it");
            return Err(Refused(words).into());
        }
        way.earlier = Some(accepted.clone());
        Ok(true)
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
        Ok(Pending { datanet: self.datanet, text_root: plain, salt: salt()?, file_root, text_salt, registered: None })
    }

    /// Shows a shard to the gate, and calls `sent` when it has all of it; what passes is made ready to be stored.
    pub(super) async fn look(&self, way: &mut Way, sent: impl FnOnce()) -> anyhow::Result<Looked> {
        let committed = way.committed.context("what is shown was committed to")?;
        if self.is_there(way, committed.root, Some(committed.priority)).await? {
            return Ok(Looked::There);
        }
        let state = self.chain.state().await?;
        let (bytes, text) = way.shown(committed.text_salt).await?;
        let (report, verdict, profile, seal) = match self.offered(&state, way, committed, &bytes, sent).await {
            Err(error) => return Ok(Looked::Turned(error)),
            Ok(Reviewed::Done { report, verdict, profile, seal }) => (report, verdict, profile, seal),
            Ok(Reviewed::Waits { report, approved_by }) => {
                let report = self.remember(way, report).await?;
                let rows = way.rows().await?;
                return Ok(Looked::Waits(Box::new(self.waits(&rows, &report, committed.salt, approved_by))));
            }
        };
        let report = self.remember(way, report).await?;
        if !report.accepted {
            return self.refused(way, &report).await;
        }
        let domains = self.chain.client.domains();
        let may_review = |account| state.is_reviewer(self.datanet, account);
        let approved_by = report.approved_by(&domains, (self.datanet, self.commitment(committed)), may_review)?;
        let notes = if self.is_only && !report.notes.is_empty() { way.rows().await?.findings(&report.notes) } else { Vec::new() };
        way.remarks = Remarks { notes, approved_by };
        let profile = profile.context("the gate accepts the contribution and names no code")?;
        let sealing = self.sealing(committed, seal)?;
        let (object, encoded) = blocking(move || {
            let object = match sealing {
                Some((key, salt)) => key.seal(&private::pack(salt, &bytes))?,
                None => bytes,
            };
            let encoded = erasure::encode(&object, committed.root, profile)?;
            Ok((object, encoded))
        })
        .await?;
        let (ours, seen) = (encoded.manifest.id(), verdict.document.object);
        ensure!(
            ours == seen,
            "the gate signed for object {seen}, what it was shown makes {ours}: its node and this one must be of one version"
        );
        way.passed = Some(Box::new(Passed { verdict: *verdict, object, encoded, text }));
        Ok(Looked::Passed)
    }

    /// What seals the shard, if the Datanet is private, and the salt that is sealed with it.
    fn sealing(&self, committed: Committed, seal: Option<SealRight>) -> anyhow::Result<Option<(SegmentKey, Hash32)>> {
        let Some(salt) = committed.text_salt else { return Ok(None) };
        let seal = seal.with_context(|| {
            format!("the gate of Datanet {}, which is private, gave no key to seal the contribution with", self.datanet)
        })?;
        let Priority { block, ordinal, .. } = committed.priority;
        let name = private::name(self.datanet, Place { block, ordinal })?;
        Ok(Some((SegmentKey::received(name, seal.epoch, seal.key), salt)))
    }

    /// Takes refused rows out, if that is wished.
    async fn refused(&self, way: &mut Way, report: &Report) -> anyhow::Result<Looked> {
        let rows = way.rows().await?;
        if !self.drop_refused {
            // The files will change, and with them the text.
            forget(&self.context.data, self.datanet, way.plain());
            let reasons = rows.reasons(report);
            let words = format!("the gate refuses the contribution; mend it, or leave these rows out with --drop-refused:\n{reasons}");
            return Err(Refused(words).into());
        }
        ensure!(way.rounds + 1 < ROUNDS_MAX, "after {ROUNDS_MAX} commitments rows are still refused: leave out the copies first");
        self.context.output.note(&format!("{} rows are refused; committing anew without them", report.refusals.len()));
        // The record stays until the shard is done: who is killed now finds that commitment again, and is refused the same rows under it.
        let mut rows = (*rows).clone();
        rows.drop_refused(report)?;
        way.keep(rows).await?;
        Ok(Looked::Again)
    }

    /// Whether a Datanet of listed contributors lists this one.
    pub(super) async fn is_listed(&self, state: &State) -> anyhow::Result<()> {
        let to = To { datanet: self.datanet, owner: self.owner, card: &self.card, me: self.me };
        if to.is_for_listed() { listed(self.context, &self.network, state, to).await } else { Ok(()) }
    }

    /// What the gate of a Datanet that stays in some countries would say after the commitment is paid, told by the country in its ad.
    pub(super) async fn is_gate_inside(&self, state: &State) -> anyhow::Result<()> {
        let regions = placing::residency(state, self.datanet)?;
        if regions.is_empty() {
            return Ok(());
        }
        let owner = self.owner;
        let gate = state.operator(owner).with_context(|| format!("{owner}, who owns the Datanet, runs no registered node"))?;
        let ad = self.network.ad_of(gate.node).await.with_context(|| format!("the gate, node {} of {owner}", gate.node))?;
        let site = placing::site(ad.bulk_addr.ip(), ad.site, self.chain.client.domains().chain_id);
        match placing::told_of_gate(&regions, site.region) {
            Some(words) => Err(Refused(words).into()),
            None => Ok(()),
        }
    }

    /// Whether the gate is there, before anything is paid for it.
    pub(super) async fn is_reached(&self, state: &State) -> anyhow::Result<()> {
        let (client, _connection) = self.network.dial_gate(self.context, state, self.owner).await?;
        client.close(0).await;
        Ok(())
    }

    /// Keeps what the gate said, and of which rows: the digest on the chain can be checked without it, and each row's end is known here.
    async fn remember(&self, way: &Way, report: Report) -> anyhow::Result<Report> {
        let (data, shard) = (self.context.data.clone(), (self.datanet, self.me, way.cut.text_root));
        let (names, stretches, dropped) = (way.names(), way.stretches(), way.dropped());
        blocking(move || {
            Record::of(shard, &data, &names)?.shown(&data, &report, stretches, &dropped)?;
            Ok(report)
        })
        .await
    }

    /// Whether a shard that reviewers will hold finds room with them: a gate that has none says so only when the commitment is paid. What was committed to by this run counts as if it waited.
    async fn may_wait(&self, way: &Way) -> anyhow::Result<()> {
        if !way.cut.waits {
            return Ok(());
        }
        let mut room = self.room.lock().await;
        let has = match *room {
            Some(room) => room,
            None => self.ask_room().await?,
        };
        *room = Some(has);
        let left = has.beside(way.cut.shard_bytes).with_context(|| {
            format!(
                "these rows wait for reviewers, and the gate of Datanet {} has room for {} more contributions of {} bytes of yours: nothing was paid for them; run the same command again when reviewers have decided others",
                self.datanet, has.cases, has.bytes
            )
        })?;
        *room = Some(left);
        Ok(())
    }

    async fn ask_room(&self) -> anyhow::Result<Room> {
        let state = self.chain.state().await?;
        let (client, connection) = self.network.dial_gate(self.context, &state, self.owner).await?;
        let answer = review::ask(connection.open_stream().await?, &Ask::Room { contributor: self.me }).await?;
        client.close(0).await;
        match answer {
            Reply::Room { cases, bytes } => Ok(Room { cases, bytes }),
            _ => bail!("the gate answered something else than its room"),
        }
    }

    /// What the gate says of a shard.
    async fn offered(&self, state: &State, way: &Way, committed: Committed, bytes: &[u8], sent: impl FnOnce()) -> anyhow::Result<Reviewed> {
        let (client, connection) = self.network.dial_gate(self.context, state, self.owner).await?;
        let Committed { root, salt, text_salt, priority } = committed;
        let (licence, shard_bytes) = (self.licence.to_string(), bytes.len() as u64);
        let open = Open { datanet: self.datanet, contributor: self.me, salt, text_root: root, licence, shard_bytes, text_salt };
        self.context.output.note(&format!("committed in block {}; the gate looks at {} documents", priority.block, way.documents()));
        let stream = connection.open_stream().await?;
        let outcome = review::review(stream, &open, bytes, &self.chain.client.domains(), state, sent).await?;
        client.close(0).await;
        Ok(outcome)
    }

    fn waits(&self, rows: &Rows, report: &Report, salt: Hash32, approved_by: Vec<Address>) -> Waits {
        Waits {
            datanet: self.datanet.0,
            waits: true,
            commitment: commitment(salt, report.text_root, self.me),
            contributor: self.me,
            text_root: report.text_root,
            approved_by,
            findings: rows.findings(&report.refusals),
            redacted: rows.redacted.clone(),
        }
    }

    /// Signs the contribution and brings it on the chain; the shard is on this disk before.
    pub(super) async fn accept(&self, way: &mut Way) -> anyhow::Result<()> {
        let Passed { verdict, object, encoded, text } = *way.passed.take().context("what is accepted has passed the gate")?;
        let committed = way.committed.context("what is accepted was committed to")?;
        let (data, root) = (self.context.data.clone(), encoded.manifest.text_root());
        blocking(move || keep(&data, root, &object)).await?;
        let document = contribution::Contribution {
            datanet: self.datanet,
            contributor: self.me,
            text_root: root,
            text_bytes: text.bytes,
            documents: text.documents,
            salt: committed.salt,
            licence: keccak(&[self.licence.as_str().as_bytes()]),
            object: encoded.manifest.id(),
        };
        let client = &self.chain.client;
        let signed = Signed::new(client.account("signing a contribution")?, &client.domains(), document);
        let (number, sent) = client.accept(&signed, &verdict, text.top).await?;
        self.spend(&sent);
        self.context.output.note(&format!("accepted as contribution {number}; spreading {} fragments", encoded.fragments.len()));
        let (text_bytes, documents) = (text.bytes, text.documents);
        way.accepted = Some((Facts { number, text_root: root, text_bytes, documents, priority: committed.priority }, encoded));
        Ok(())
    }

    /// Makes sure that a shard's fragments lie where they belong; its records have served then.
    pub(super) async fn bring(&self, way: &mut Way) -> anyhow::Result<Contributed> {
        let (facts, encoded) = match way.accepted.take() {
            Some(accepted) => accepted,
            None => self.found(way).await?,
        };
        let dropped = match &way.earlier {
            Some(_) => Vec::new(),
            None => way.dropped(),
        };
        let mut done = self.spread(facts, encoded, dropped).await?;
        way.records.iter().for_each(|plain| forget(&self.context.data, self.datanet, *plain));
        if way.earlier.is_none() {
            let Remarks { notes, approved_by } = std::mem::take(&mut way.remarks);
            (done.notes, done.approved_by, done.redacted) = (notes, approved_by, way.cut.redacted.clone());
        }
        Ok(done)
    }

    /// A contribution that the chain has: only its fragments may be missing.
    async fn found(&self, way: &Way) -> anyhow::Result<(Facts, Encoded)> {
        let accepted = way.earlier.clone().context("what is spread is accepted")?;
        erased::check_contribution(&*self.chain.state().await?, &accepted)?;
        let number = accepted.number;
        self.context
            .output
            .note(&format!("this is your contribution {number} already; making sure that its fragments lie where they belong"));
        let facts = Facts {
            number,
            text_root: accepted.text_root,
            text_bytes: accepted.text_bytes,
            documents: accepted.documents,
            priority: accepted.priority,
        };
        let (data, read) = (self.context.data.clone(), way.reading());
        Ok((facts, blocking(move || same_object(&data, &accepted, read)).await?))
    }

    fn spend(&self, sent: &Sent) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).add(sent);
    }
}

impl Spent {
    fn add(&mut self, sent: &Sent) {
        // Two shards of one text have one commitment.
        if self.transactions.contains(&sent.transaction) {
            return;
        }
        self.transactions.push(sent.transaction);
        self.gas += sent.gas_used;
        let gas = Amount(u128::from(sent.gas_used).saturating_mul(sent.gas_price));
        self.paid.push(Amount(gas.0.saturating_add(sent.l1_fee.unwrap_or_default().0)));
    }
}
