//! The gate of the Datanets whose owner's (or reviewer's) account this node holds: looks at a contribution and signs what it found.
//!
//! Nothing is looked at whose salted commitment is not on the chain: priority is fixed before the text is shown. What is decided is decided by
//! [`Datanet::gate`]; this service brings it the documents of every accepted contribution, fetched where missing, and the shard that a
//! contributor sends (`known`), which waits in `arriving` until it is whole and its turn has come. What is signed for counts against its contributor's limits from
//! then on (`reserved`), and its report waits in `signed` for the chain. An accepted shard is kept, so that later contributions can be compared with it whatever becomes of its holders; until the chain has it, it is
//! kept opened as well (`passed`): a shard is opened, and its text hashed, once from its arrival to its place in the index. What the policy
//! holds back waits in `queue` for two reviewers (as much as `shares` lets, what is rejected stays in `decided`), whose questions `answering` serves; the same offer made again tells what became of it, and rows of it that are
//! brought among others go to the reviewers too (`again`).
//!
//! A private Datanet's gate is its owner's node: it alone makes new keys. Its contributors are given the key of their own segment and no other.

mod again;
mod answering;
mod arriving;
mod decided;
mod known;
mod passed;
mod queue;
mod refusals;
mod reserved;
mod shares;
mod signed;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use chain_bridge::{client::ChainClient, registry::State};
use p2p::{
    identity::NodeSeed,
    stream::{FrameReceiver, FrameSender, FrameStream, StreamError},
};
use storage::{
    datanet::{
        Accepted, Card, Contributors, Datanet, Licence, Place, Report, private,
        reserve::{ReserveError, Reserved},
        review::{Case, is_drawn},
        shard::Shard,
    },
    erasure::{self, OBJECT_BYTES_MAX, Profile},
    proto::gate::{Ask, Open, PIECE_BYTES, Reply, SealRight},
    seal::{
        book::Author,
        segment::{PLAIN_BYTES_MAX, SegmentKey},
    },
};
use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};
use types::{
    id::{AssetId, BlobId, Hash32, NodeId},
    key::{Account, Domains, Signed},
};

use self::{
    arriving::Room,
    known::Judged,
    queue::{Became, Queue},
    refusals::Refusals,
    reserved::{Reserving, Seen},
};
pub use self::{known::Indexes, signed::Verdicts};
use crate::{
    chain::Snapshots,
    data::{DataDir, read_bounded},
    datanet::{Shards, card_of, in_the_way, members, placing, seals},
};

/// Contributions looked at once: each takes a few times its shard in memory.
const REVIEWS_MAX: usize = 2;
/// How long a commitment is awaited that its contributor says is made.
const COMMITTED_WAIT: Duration = Duration::from_secs(20);
/// How long the block after a shard's arrival is awaited, whose hash draws what is looked at.
const DRAW_WAIT: Duration = Duration::from_secs(30);
/// Time between two looks for it.
const DRAW_LOOK: Duration = Duration::from_millis(500);
/// How long a whole shard waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(120);
/// How long a commitment counts, as the registry has it.
const COMMITMENT_SECONDS: u64 = 30 * 24 * 3600;
/// Longest review, fetching of what is compared included. Neither the shard's way here nor its turn counts.
const REVIEW_LIMIT: Duration = Duration::from_secs(240);
/// How long the peer may take to read the last frame.
const LINGER: Duration = Duration::from_secs(5);
/// Largest report kept.
pub const REPORT_BYTES_MAX: u64 = 2 << 20;

/// What a gate works with.
#[derive(Debug)]
pub struct Keeping {
    /// Signs verdicts.
    pub account: Account,
    /// The node.
    pub seed: NodeSeed,
    /// The deployment.
    pub domains: Domains,
    /// The node's folder.
    pub data: DataDir,
    /// What was accepted.
    pub shards: Arc<Shards>,
    /// The books.
    pub snapshots: Snapshots,
    /// Block hashes.
    pub chain: ChainClient,
    /// Who is given no new fragments.
    pub holding: Arc<super::keeping::Keeping>,
}

/// The service.
#[derive(Debug)]
pub struct Gate {
    account: Account,
    author: Author,
    domains: Domains,
    data: DataDir,
    shards: Arc<Shards>,
    snapshots: Snapshots,
    chain: ChainClient,
    holding: Arc<super::keeping::Keeping>,
    /// Datanets as far as their accepted documents were read.
    known: Arc<Indexes>,
    queue: Arc<Queue>,
    /// Limits that are taken by what is signed for and not accepted yet.
    reserving: Reserving,
    /// Reports of that.
    verdicts: Arc<Verdicts>,
    refusals: Refusals,
    books: seals::Cache,
    /// Shards that are not whole, or wait for their turn.
    room: Room,
    reviews: Semaphore,
}

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
enum Turned {
    /// The other side can mend it.
    #[error("{0}")]
    Away(String),
    /// The stream ended.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The gate's own failure.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What rows that wait or were rejected are hashed under on the disk.
fn rows_key(seed: &NodeSeed) -> [u8; 32] {
    blake3::derive_key("tributary gate: rows that wait or were rejected, v1", seed.expose())
}

fn away(reason: impl Into<String>) -> Turned {
    Turned::Away(reason.into())
}

impl Gate {
    /// A gate that signs with its account; what waited when the node stopped waits on, and what it signed for still counts.
    ///
    /// # Errors
    /// That a folder of its cannot be read, or a reservation in it.
    pub fn open(keeping: Keeping) -> anyhow::Result<Self> {
        let Keeping { account, seed, domains, data, shards, snapshots, chain, holding } = keeping;
        let (author, queue) = (seals::author(&seed), Queue::open(data.reviews(), rows_key(&seed))?);
        let queue = Arc::new(queue);
        let (reserving, room) = (Reserving::open(data.reserved())?, Room::open(data.arriving())?);
        let verdicts = Arc::new(Verdicts::open(data.clone())?);
        let (known, reviews) = (Arc::new(Indexes::new(data.indexes(), Arc::clone(&queue))), Semaphore::new(REVIEWS_MAX));
        let (books, refusals) = (seals::Cache::default(), Refusals::open(data.refusals())?);
        Ok(Self {
            account,
            author,
            domains,
            data,
            shards,
            snapshots,
            chain,
            holding,
            known,
            queue,
            reserving,
            verdicts,
            refusals,
            books,
            room,
            reviews,
        })
    }

    /// What of erased texts this gate keeps beside their shards: indexes, and reports of what the chain is about to take.
    pub fn traces(&self) -> (Arc<Indexes>, Arc<Verdicts>) {
        (Arc::clone(&self.known), Arc::clone(&self.verdicts))
    }

    /// Serves one stream whose first frame was `first`, to its end.
    pub async fn serve(&self, remote: NodeId, stream: FrameStream, first: Vec<u8>) {
        let (mut sender, mut receiver) = stream.split();
        let answer = match self.answer(remote, &mut sender, &mut receiver, &first).await {
            Ok(answer) => answer,
            Err(Turned::Stream(error)) => return tracing::debug!(%remote, %error, "a contributor left"),
            Err(Turned::Away(reason)) => {
                tracing::info!(%remote, %reason, "turned away");
                Reply::Refused { reason }
            }
            Err(Turned::Failed(error)) => {
                tracing::error!(error = format!("{error:#}"), "the gate failed");
                Reply::Refused { reason: format!("the gate cannot look at it now: {error:#}") }
            }
        };
        if timeout(LINGER, sender.send(&answer.encode())).await.is_ok_and(|sent| sent.is_ok()) {
            drop(sender.finish().await);
            drop(timeout(LINGER, sender.closed()).await);
        }
    }

    async fn answer(&self, remote: NodeId, sender: &mut FrameSender, receiver: &mut FrameReceiver, first: &[u8]) -> Result<Reply, Turned> {
        match Ask::decode(first).map_err(|error| away(error.to_string()))? {
            Ask::Offer(open) => self.review(sender, receiver, &open).await,
            Ask::Report { digest } => self.report(digest).await,
            Ask::Mine { act } => self.mine(&act).await,
            Ask::Review { act, reason } => within_limit(self.decide(remote, sender, &act, &reason)).await,
            Ask::Members { datanet } => self.members(datanet),
            Ask::Log { datanet, from } => self.log(remote, datanet, from),
            Ask::Enter { datanet, entry } => self.enter(remote, datanet, &entry),
            Ask::Room { contributor } => {
                let shares::Amount { cases, bytes } = self.queue.room(contributor).await;
                Ok(Reply::Room { cases, bytes })
            }
        }
    }

    async fn review(&self, sender: &mut FrameSender, receiver: &mut FrameReceiver, open: &Open) -> Result<Reply, Turned> {
        let licence: Licence = open.licence.clone().try_into().map_err(|error: storage::datanet::CardError| away(error.to_string()))?;
        let committed = open.commitment();
        let (state, place) = self.committed(committed, open).await?;
        let card = self.admit(&state, open, place)?;
        self.prune(&state).await?;
        match self.queue.of(open.datanet, open.contributor, open.text_root).await {
            Some(Became::Rejected(decided)) => return Err(away(decided.words())),
            Some(Became::Case(case)) => {
                // What was let in is encoded, which takes as much memory as looking at it.
                let _turn = if case.accepted().is_some() { Some(self.turn().await?) } else { None };
                return within_limit(self.became(&state, &case, open, place, &card)).await;
            }
            None => {}
        }
        let arrival = self.room.enter(open.contributor, open.shard_bytes)?;
        timeout(LINGER, sender.send(&Reply::Proceed.encode())).await.map_err(|_| away("the contributor reads nothing"))??;
        arrival.receive(receiver).await?;
        let _turn = self.turn().await?;
        let bytes = arrival.take().await?;
        within_limit(self.weigh(place, open, licence, bytes)).await
    }

    /// The block that draws whether a contribution which passes is looked at: the first after its shard is here whole. Who would rather not be drawn has shown the text by then.
    async fn drawing(&self, card: &Card) -> anyhow::Result<Option<u64>> {
        if card.policy().sample_per_mille == 0 {
            return Ok(None);
        }
        let head = self.chain.latest().await.context("the chain's latest block")?.block.number;
        Ok(Some(head.checked_add(1).context("the last block there is")?))
    }

    /// One of the few slots in which shards are in memory.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Turned> {
        let turn = timeout(TURN_WAIT, self.reviews.acquire()).await;
        Ok(turn.map_err(|_| away("the gate is looking at other contributions: try again in a minute"))?.context("the gate is closed")?)
    }

    /// Looks at a whole shard and says what follows.
    async fn weigh(&self, place: Place, open: &Open, licence: Licence, bytes: Vec<u8>) -> Result<Reply, Turned> {
        // Much may have happened while it arrived.
        let state = Arc::clone(&self.snapshots.borrow().latest);
        let card = self.admit(&state, open, place)?;
        let drawing = self.drawing(&card).await?;
        let (report, shard, bytes) = self.look(place, open, licence, bytes).await?;
        if drawing.is_some() && report.accepted {
            let room = self.queue.may_wait(open.datanet, open.contributor, open.shard_bytes).await;
            room.map_err(|full| {
                away(format!("contributions to this Datanet are drawn for reviewers, and this one could not wait: {full}"))
            })?;
        }
        let report = self.drawn(&card, drawing, report).await?;
        let (report, again) = self.known_rows(open.datanet, &shard, report).await?;
        let report = self.reserved(&card, place, open, report).await?;
        tracing::info!(datanet = %open.datanet, contributor = %open.contributor, accepted = report.accepted, refusals = report.refusals.len(), "reviewed");
        if report.can_wait() {
            return self.hold(&state, &card, place, open, (report, shard, again), bytes).await;
        }
        let mut coded = None;
        if report.accepted {
            let kept = Arc::new(self.as_kept(&card, place, open, bytes)?);
            coded = Some(self.coded(&state, open, Arc::clone(&kept)).await?);
            self.shards.keep(open.text_root, Arc::unwrap_or_clone(kept)).await?;
            self.known.pass(open.datanet, shard);
        } else {
            self.refusals.keep(open.datanet, &report).await?;
        }
        self.verdict(&card, place, open, &report, coded).await
    }

    /// The report, once what it lets in is reserved of its contributor's limits; if that is beyond them, it lets nothing in.
    async fn reserved(&self, card: &Card, place: Place, open: &Open, report: Report) -> Result<Report, Turned> {
        let policy = card.policy();
        if !reserved::is_needed(policy, &report) {
            return Ok(report);
        }
        let made = self.chain.time_of(place.block).await.context("the commitment's block")?;
        let until = made.with_context(|| format!("block {} of the commitment is gone", place.block))?.saturating_add(COMMITMENT_SECONDS);
        let wanted = Reserved::of(open.datanet, &report, place, until);
        let snapshot = self.snapshots.borrow().clone();
        let now = snapshot.heads.map_or(0, |heads| heads.finalized_timestamp);
        let seen = Seen { latest: &snapshot.latest, finalized: &snapshot.finalized, now };
        match self.reserving.take(policy, wanted, &seen).await? {
            Ok(()) => Ok(report),
            Err(ReserveError::Beyond(refusals)) => Ok(report.beyond(refusals)),
            Err(full @ ReserveError::Full) => Err(away(full.to_string())),
        }
    }

    /// The report, with a finding for each contribution that reviewers have before them or rejected and that had rows of this one; and those rows.
    async fn known_rows(&self, datanet: AssetId, shard: &Arc<Shard>, report: Report) -> anyhow::Result<(Report, BTreeSet<u32>)> {
        if !report.accepted && !report.can_wait() {
            return Ok((report, BTreeSet::new()));
        }
        let (rows, found) = self.queue.again(datanet, Arc::clone(shard)).await?;
        Ok((report.again(&found), rows))
    }

    /// The object that is to be stored, made of just the bytes that were looked at, and its code by the operators that this node hears: neither is the
    /// contributor's word.
    async fn coded(&self, state: &State, open: &Open, kept: Arc<Vec<u8>>) -> anyhow::Result<(BlobId, Profile)> {
        let mut storers = self.holding.storers().await?;
        storers.retain(|operator, _| !self.holding.is_unfit(*operator));
        let (root, profile) = (open.text_root, placing::profile(&storers, &placing::residency(state, open.datanet)?));
        let encoded = tokio::task::spawn_blocking(move || erasure::encode(&kept, root, profile)).await.context("encoding")??;
        Ok((encoded.manifest.id(), profile))
    }

    /// The signed verdict on a report, which is kept so that whoever holds its digest can ask for it.
    async fn verdict(
        &self,
        card: &Card,
        place: Place,
        open: &Open,
        report: &Report,
        coded: Option<(BlobId, Profile)>,
    ) -> Result<Reply, Turned> {
        let json = report.to_json();
        if report.accepted {
            self.verdicts.keep(open.datanet, place.block, report).await?.map_err(|error| away(error.to_string()))?;
        }
        let key = (card.is_private() && report.accepted).then(|| self.segment_key(open.datanet, place)).transpose()?;
        let seal = key.map(|key| SealRight { epoch: key.epoch(), key: *key.secret() });
        let verdict = Signed::new(&self.account, &self.domains, open.verdict(report, coded.map(|(object, _)| object)));
        let code = coded.map(|(_, profile)| (profile.data(), profile.total()));
        Ok(Reply::Reviewed { report: json, verdict, code, seal })
    }

    fn segment_key(&self, datanet: AssetId, place: Place) -> anyhow::Result<SegmentKey> {
        let block = self.snapshots.borrow().tip.number;
        let key = seals::sealing_key(&self.data, &self.author, datanet, block)?;
        Ok(SegmentKey::of(&key, private::name(datanet, place)?)?)
    }

    /// The shard as this disk keeps it: sealed if the Datanet is private.
    fn as_kept(&self, card: &Card, place: Place, open: &Open, bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        match open.text_salt.filter(|_| card.is_private()) {
            Some(salt) => Ok(self.segment_key(open.datanet, place)?.seal(&private::pack(salt, &bytes))?),
            None => Ok(bytes),
        }
    }

    /// Forgets what need not wait any more.
    async fn prune(&self, state: &State) -> anyhow::Result<()> {
        let (finalized, tip) = {
            let snapshot = self.snapshots.borrow();
            (Arc::clone(&snapshot.finalized), snapshot.tip.number)
        };
        self.queue.prune(state, tip).await;
        self.verdicts.prune(&finalized, tip).await
    }

    /// Has the contribution wait for two reviewers.
    async fn hold(
        &self,
        state: &State,
        card: &Card,
        place: Place,
        open: &Open,
        (report, shard, again): (Report, Arc<Shard>, BTreeSet<u32>),
        bytes: Vec<u8>,
    ) -> Result<Reply, Turned> {
        let shard_bytes = open.shard_bytes;
        let case = Case {
            datanet: open.datanet,
            commitment: open.commitment(),
            since: place.block,
            shard_bytes,
            report,
            approvals: Vec::new(),
            rejection: None,
        };
        let bytes = self.as_kept(card, place, open, bytes)?;
        self.queue.add(case.clone(), shard, again, bytes).await?.map_err(|full| away(full.to_string()))?;
        self.became(state, &case, open, place, card).await
    }

    /// What became of a contribution that was shown before.
    async fn became(&self, state: &State, case: &Case, open: &Open, place: Place, card: &Card) -> Result<Reply, Turned> {
        if case.commitment != open.commitment() {
            return Err(away(format!(
                "this text waits for reviewers under commitment {}: go on with the run that made it",
                case.commitment
            )));
        }
        let Some(report) = case.accepted() else {
            return Ok(Reply::Waiting { report: case.report.to_json(), approved_by: case.approved_by(&self.domains) });
        };
        let report = self.reserved(card, place, open, report).await?;
        if !report.accepted {
            // What two reviewers let in waits on until there is room for it.
            let refusal = report.refusals.first().context("what is beyond the limits says by what")?;
            return Err(away(format!("{}: {}; {}", refusal.rule.label(), refusal.detail, refusal.fix)));
        }
        let kept = Arc::new(self.queue.shard(case).await?);
        let coded = self.coded(state, open, Arc::clone(&kept)).await?;
        self.shards.keep(open.text_root, Arc::unwrap_or_clone(kept)).await?;
        self.verdict(card, place, open, &report, Some(coded)).await
    }

    /// The report of a contribution that passed, which waits all the same if it is drawn.
    async fn drawn(&self, card: &Card, drawing: Option<u64>, report: Report) -> anyhow::Result<Report> {
        let share = card.policy().sample_per_mille;
        let Some(number) = drawing.filter(|_| report.accepted) else { return Ok(report) };
        let hash = timeout(DRAW_WAIT, async {
            loop {
                if let Some(block) = self.chain.block(number).await? {
                    return anyhow::Ok(block.hash);
                }
                sleep(DRAW_LOOK).await;
            }
        });
        let hash = hash.await.with_context(|| format!("block {number}, which draws what is looked at, did not come"))??;
        Ok(if is_drawn(hash, report.text_root, share) { report.sampled(number, share) } else { report })
    }

    /// The books once they hold the commitment, and its place.
    async fn committed(&self, committed: Hash32, open: &Open) -> Result<(Arc<State>, Place), Turned> {
        let mut snapshots = self.snapshots.clone();
        let seen = snapshots.wait_for(|snapshot| snapshot.latest.commitment(committed, open.contributor).is_some());
        let seen = timeout(COMMITTED_WAIT, seen).await.map(|seen| seen.map(drop));
        let missing =
            || away(format!("commitment {committed} of {} is not on the chain: commit first, then show the text", open.contributor));
        seen.map_err(|_| missing())?.context("the chain is no longer followed")?;
        // Whoever has committed may go by what the chain has accepted a moment ago: the text is held against that too.
        let head = self.chain.latest().await.context("the chain's latest block")?.block.number;
        let level = snapshots.wait_for(|snapshot| snapshot.tip.number >= head);
        let level = timeout(COMMITTED_WAIT, level).await.map(|level| level.map(|snapshot| Arc::clone(&snapshot.latest)));
        let state = level.map_err(|_| away("the gate is behind the chain: try again"))?.context("the chain is no longer followed")?;
        let (block, ordinal) = state.commitment(committed, open.contributor).ok_or_else(missing)?;
        Ok((state, Place { block, ordinal }))
    }

    /// What speaks against looking at all.
    fn admit(&self, state: &State, open: &Open, place: Place) -> Result<Card, Turned> {
        let (datanet, me) = (open.datanet, self.account.address());
        if !state.is_reviewer(datanet, me) {
            let owner = state.asset(datanet).map_or_else(|| "nobody".to_owned(), |asset| asset.owner().to_string());
            return Err(away(format!("{me} does not review Datanet {datanet}, which belongs to {owner}: ask the owner's node")));
        }
        if let Some(known) = in_the_way(state, datanet, open.text_root, open.contributor, Some((place.block, place.ordinal))) {
            if let Some(erasure) = state.erasure(datanet, known.number) {
                return Err(away(format!("{erasure}, and has this text: it cannot be contributed to this Datanet again")));
            }
            return Err(away(format!("this text is contribution {} of Datanet {datanet} already, by {}", known.number, known.contributor)));
        }
        if open.shard_bytes > OBJECT_BYTES_MAX as u64 {
            return Err(away(format!(
                "a shard of {} bytes, at most {OBJECT_BYTES_MAX} are taken: split the contribution",
                open.shard_bytes
            )));
        }
        let asset = state.asset(datanet).ok_or_else(|| away(format!("Datanet {datanet} is not registered")))?;
        let card = card_of(asset)?;
        if let Err(outside) = self.shards.copies().may_keep(state, datanet) {
            return Err(away(format!("this gate keeps a copy of what it lets in, and may not: {outside}")));
        }
        if card.policy().contributors == Contributors::Listed
            && open.contributor != asset.owner()
            && !members::contributors(&self.data, datanet)?.contains(&open.contributor)
        {
            let owner = asset.owner();
            return Err(away(format!(
                "Datanet {datanet} takes contributions of listed contributors only, and {} is not listed: ask its owner {owner}",
                open.contributor
            )));
        }
        let policy = card.policy();
        if me != asset.owner() && (policy.contributor_rows_max.is_some() || policy.contributor_bytes_max.is_some()) {
            return Err(away(format!(
                "Datanet {datanet} has limits per contributor, which one gate keeps: its gate is the node of its owner {}",
                asset.owner()
            )));
        }
        match (card.is_private(), open.text_salt) {
            (true, None) => Err(away(format!("Datanet {datanet} is private: its texts are committed to under a salt"))),
            (false, Some(_)) => Err(away(format!("Datanet {datanet} is open: its texts are committed to without a salt"))),
            (true, Some(_)) if me != asset.owner() => {
                Err(away(format!("Datanet {datanet} is private: its gate is the node of its owner {}", asset.owner())))
            }
            (true, Some(_)) if open.shard_bytes.saturating_add(32) > PLAIN_BYTES_MAX as u64 => Err(away(format!(
                "a shard of {} bytes, at most {} can be sealed: split the contribution",
                open.shard_bytes,
                PLAIN_BYTES_MAX - 32
            ))),
            _ => Ok(card),
        }
    }

    /// Compares the shard with everything accepted.
    async fn look(&self, place: Place, open: &Open, licence: Licence, bytes: Vec<u8>) -> Result<(Report, Arc<Shard>, Vec<u8>), Turned> {
        let (text_root, salt) = (open.text_root, open.text_salt);
        let opened = tokio::task::spawn_blocking(move || private::open(text_root, salt, &bytes).map(|shard| (Arc::new(shard), bytes)))
            .await
            .context("decoding")?;
        let (shard, bytes) = opened.map_err(|error| away(error.to_string()))?;
        let judged = Judged { place, contributor: open.contributor, licence, shard: Arc::clone(&shard) };
        let report = self.known.judge(self, open.datanet, &judged).await?;
        Ok((report, shard, bytes))
    }
}

/// What is not done within [`REVIEW_LIMIT`] is given up.
async fn within_limit(answer: impl Future<Output = Result<Reply, Turned>>) -> Result<Reply, Turned> {
    let late = |_| away(format!("the review took longer than {} s: try again", REVIEW_LIMIT.as_secs()));
    timeout(REVIEW_LIMIT, answer).await.map_err(late)?
}
