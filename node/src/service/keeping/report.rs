//! What this node holds and how it stands, for its operator: asked over the client protocol under the node's own key, answered as JSON.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use p2p::stream::FrameStream;
use serde::{Deserialize, Serialize};
use storage::proto::{
    audit::{
        Reach,
        standing::{Ended, Lifting, State},
    },
    repair::Standing,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use types::id::{Address, BlobId, NodeId};

use super::{Keeping, Notice};
use crate::{
    datanet::{card_of, placing},
    service::{
        auditing::{self, Auditing, Granted},
        repair::{Question, Seen},
        upkeep,
    },
};

/// Objects in one answer: 48 fragments each are a megabyte of JSON.
pub const OBJECTS_MAX: usize = 256;
/// Outcomes of this node's audits that are told.
const AUDITS_MAX: usize = 16;
/// Longest question.
const ASK_BYTES_MAX: usize = 1 << 10;
/// How long repair may take to answer, and the operator to read.
const WAIT: Duration = Duration::from_secs(10);

/// How long the other holders of one object may take to be asked: for a word each, and for a fragment that one of them is to show.
const LOOK_WAIT: Duration = Duration::from_secs(90);

/// What the operator asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// How do things stand? Objects after this one; nothing: from the first.
    Status(Option<BlobId>),
    /// Look now for what is lost; one object first, if one is named, and the answer comes when its other holders were asked.
    Repair(Option<BlobId>),
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// How things stand.
    Report(Box<Report>),
    /// It looks.
    Looking,
    /// No, with the reason.
    Refused(String),
}

/// How a node and what it holds stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The node.
    pub node: NodeId,
    /// Its account.
    pub account: Address,
    /// Whether it offers to store.
    pub is_storing: bool,
    /// The epoch of repair and audits.
    pub epoch: u64,
    /// Bytes that the store takes up.
    pub used_bytes: u64,
    /// Bytes it may take.
    pub capacity_bytes: u64,
    /// Bytes it may still take, of these and of the disk.
    pub free_bytes: u64,
    /// Bytes that the disk has left.
    pub disk_free_bytes: u64,
    /// Bytes of that which fragments leave to everything else.
    pub disk_reserve_bytes: u64,
    /// Whether it takes new fragments.
    pub has_room: bool,
    /// Where the node stands by its audits: good, warned, suspended or slash-case.
    pub standing: String,
    /// What lifts its suspension; nothing if it is not suspended.
    pub lifting: Option<Lifting>,
    /// How its last epochs ended, oldest first.
    pub audits: Vec<AuditRow>,
    /// How it stands to the chain's roll of auditors, by which rent is paid.
    pub roll: String,
    /// What it grants the nodes that it audits; nothing before its first epoch of audits.
    pub pace: Option<PaceRow>,
    /// What it does by itself to keep its store in order.
    pub upkeep: upkeep::Report,
    /// Objects of which it holds a fragment.
    pub objects: Vec<ObjectRow>,
    /// Whether there are more of them.
    pub is_more: bool,
}

/// The pace of honest reads by which this node audits others, and who is caught by it. Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaceRow {
    /// A read of 16 KiB from its own store: the 95th percentile, none counted as shorter than 5 ms or longer than 25 ms.
    pub read_us: u64,
    /// Whether it was measured; else this node holds too little, and grants the most.
    pub is_measured: bool,
    /// From challenge to answer, at most, beside the round trip.
    pub deadline_us: u64,
    /// The smallest round trip to its source at which a node that fetches what it is asked for is caught, whatever it does.
    pub caught_from_us: u64,
    /// The same for one that does not hold back pings.
    pub caught_from_if_plain_us: u64,
}

impl PaceRow {
    /// Of what is granted.
    pub fn of(Granted { pace, is_measured }: Granted) -> Self {
        let Reach { deadline, sly, plain } = pace.reach();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            read_us: micros(pace.read()),
            is_measured,
            deadline_us: micros(deadline),
            caught_from_us: micros(sly),
            caught_from_if_plain_us: micros(plain),
        }
    }
}

/// What an epoch came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRow {
    /// The epoch.
    pub epoch: u64,
    /// What two of three auditors agree on; idle while it is suspended and has nothing to audit.
    pub outcome: Ended,
    /// Signed verdicts that are kept.
    pub verdicts: usize,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRow {
    /// The object.
    pub object: BlobId,
    /// Number of its Datanet; nothing if the registry does not have it any more.
    pub datanet: Option<u64>,
    /// Name of its Datanet.
    pub name: Option<String>,
    /// Number of the contribution.
    pub contribution: Option<u64>,
    /// Fragments that suffice.
    pub data: u8,
    /// Each fragment, in order.
    pub fragments: Vec<FragmentRow>,
    /// Fewest fragments that are left alone.
    pub floor: u8,
    /// Whether it fell below that and is not whole since.
    pub is_due: bool,
    /// Whether this node mends it now.
    pub is_mending: bool,
    /// Who mends it in this epoch, in order of turns.
    pub coordinators: Vec<Address>,
}

/// One fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FragmentRow {
    /// Its holder.
    pub holder: Address,
    /// How it stands.
    pub stands: Stands,
}

/// How a fragment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stands {
    /// Its holder answers.
    Held,
    /// Its holder does not answer.
    Away,
    /// It is lost.
    Lost,
}

impl From<Standing> for Stands {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Held => Self::Held,
            Standing::Away => Self::Away,
            Standing::Lost => Self::Lost,
        }
    }
}

/// The service.
#[derive(Debug)]
pub struct Reporting {
    /// The records.
    pub keeping: Arc<Keeping>,
    /// Audits.
    pub auditing: Arc<Auditing>,
    /// Upkeep.
    pub upkeep: Arc<upkeep::View>,
    /// To repair.
    pub questions: mpsc::Sender<Question>,
}

impl Reporting {
    /// Answers one stream's question.
    pub async fn serve(&self, remote: NodeId, mut stream: FrameStream, frame: &[u8]) {
        let answer = self.answer(remote, frame).await.unwrap_or_else(|error| Answer::Refused(format!("{error:#}")));
        let frame = serde_json::to_vec(&answer).expect("plain data always serialises");
        let sending = async {
            if stream.send(&frame).await.is_ok() {
                drop(stream.finish().await);
            }
            let (mut sender, _receiver) = stream.split();
            drop(sender.closed().await);
        };
        // A peer that does not read does not keep the stream.
        drop(timeout(WAIT, sending).await);
    }

    async fn answer(&self, remote: NodeId, frame: &[u8]) -> anyhow::Result<Answer> {
        ensure!(remote == self.keeping.node(), "only this node's own operator may ask it what it holds");
        ensure!(frame.len() <= ASK_BYTES_MAX, "a question has at most {ASK_BYTES_MAX} bytes");
        match serde_json::from_slice(frame)? {
            Ask::Status(after) => Ok(Answer::Report(Box::new(self.report(after).await?))),
            Ask::Repair(first) => {
                ensure!(self.keeping.is_storing, "this node does not store: set storage = true in its configuration");
                self.upkeep.look();
                if let Some(object) = first {
                    self.look_at(object).await?;
                }
                self.keeping.notices.try_send(Notice::Look).context("repair is busy: ask again in a moment")?;
                Ok(Answer::Looking)
            }
        }
    }

    async fn report(&self, after: Option<BlobId>) -> anyhow::Result<Report> {
        let keeping = &self.keeping;
        let seen = if keeping.is_storing { self.seen(after).await? } else { Vec::new() };
        let (state, me) = (keeping.state(), keeping.me());
        let store = keeping.store.clone();
        let usage = tokio::task::spawn_blocking(move || store.usage()).await??;
        let (standing, lifting) = {
            let books = self.auditing.books();
            (books.standing(me), books.lifting(me))
        };
        let outcomes = self.auditing.books().outcomes(me, AUDITS_MAX)?;
        let mut audits = Vec::new();
        for (epoch, outcome) in outcomes {
            audits.push(AuditRow { epoch: auditing::number(epoch), outcome, verdicts: self.auditing.books().verdicts(epoch, me)?.len() });
        }
        let is_more = seen.len() > OBJECTS_MAX;
        let objects = seen.into_iter().take(OBJECTS_MAX).map(|seen| {
            let accepted = placing::registered(&state, seen.object);
            let datanet = accepted.map(|accepted| accepted.datanet);
            let name = datanet.and_then(|datanet| card_of(state.asset(datanet)?).ok()).map(|card| card.name().as_str().to_owned());
            let Seen { object, health, is_due, is_mending, coordinators } = seen;
            let fragments = health.fragments.into_values().map(|(holder, stands)| FragmentRow { holder, stands: stands.into() }).collect();
            ObjectRow {
                object,
                datanet: datanet.map(|datanet| datanet.0),
                name,
                contribution: accepted.map(|accepted| accepted.number),
                data: health.profile.data(),
                fragments,
                floor: storage::proto::repair::floor(health.profile),
                is_due,
                is_mending,
                coordinators,
            }
        });
        Ok(Report {
            node: keeping.node(),
            account: me,
            is_storing: keeping.is_storing,
            epoch: keeping.epoch(),
            used_bytes: usage.used_bytes,
            capacity_bytes: usage.capacity_bytes,
            free_bytes: usage.free_bytes,
            disk_free_bytes: usage.disk_available_bytes,
            disk_reserve_bytes: usage.disk_reserve_bytes,
            has_room: keeping.is_storing && keeping.has_room(),
            standing: word(standing).to_owned(),
            lifting,
            audits,
            roll: self.auditing.on_roll(),
            pace: self.auditing.pace().map(PaceRow::of),
            upkeep: self.upkeep.report(),
            objects: objects.collect(),
            is_more,
        })
    }

    /// Until the other holders of an object were asked.
    async fn look_at(&self, object: BlobId) -> anyhow::Result<()> {
        let (done, asked) = oneshot::channel();
        self.questions.try_send(Question::Look { object, done }).context("repair is busy: ask again in a moment")?;
        let asked = timeout(LOOK_WAIT, asked).await.with_context(|| {
            format!(
                "the other holders of object {object} are still being asked after {} s: storage status shows what came of it",
                LOOK_WAIT.as_secs()
            )
        })?;
        asked.context("several objects are being looked at already: ask again in a moment")
    }

    async fn seen(&self, after: Option<BlobId>) -> anyhow::Result<Vec<Seen>> {
        let (answer, answered) = oneshot::channel();
        self.questions
            .try_send(Question::Seen { after, limit: OBJECTS_MAX + 1, answer })
            .context("repair is busy: ask again in a moment")?;
        Ok(timeout(WAIT, answered).await.context("repair does not answer: see the node's log")??)
    }
}

/// A standing in a word.
const fn word(standing: State) -> &'static str {
    match standing {
        State::Good => "good",
        State::Warned => "warned",
        State::Suspended => "suspended",
        State::SlashCase => "slash-case",
    }
}
