//! Mending what this node's objects have lost: the core of `storage::proto::repair`, fed with what the node hears and sees, and its outputs carried out.
//!
//! Told to the core: who is registered, where and whether they are heard (an ad that is silent for its time to live is silence), who takes no fragments, the epoch's seed, the
//! records of this node's objects, what coordinators announce, and damage: found by reading what lies here ([`super::upkeep`]), by asking the other holders
//! of objects that this node coordinates in the epoch what they have (`survey`), by audits, and by rebuilding itself. Damage is taken back once its holder has shown the whole fragment. Nothing is decided
//! here. Objects of which this node has a fragment and no record are asked of the other holders (`unrecorded`).
//!
//! A rebuild (`rebuild`) keeps nothing on the disk before a whole, verified fragment: a node that is killed in the middle has lost its work and nothing else.

mod rebuild;
mod survey;
mod unrecorded;

pub(in crate::service) use self::rebuild::{manifest_of, recover};
pub(crate) use self::unrecorded::seek_records;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use storage::proto::{
    keeping::Ask,
    placement::{Move, Site},
    repair::{Config, Health, Input, Output, Repair, Work},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use types::{
    id::{Address, BlobId, NodeId},
    time::Time,
};

use self::rebuild::Done;
use super::keeping::{Keeping, Notice};
use crate::datanet::keeping::{WORD_LIMIT, ask, tell};

/// How often presence, epoch and what is due are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Records read from the table in one step.
const SCAN: usize = 256;
/// Questions of the operator that wait.
pub const QUESTIONS_MAX: usize = 8;
/// Words of this node to others under way, announcements and records together; what is said beyond is left to the next survey.
const WORDS_MAX: usize = 256;
/// Objects of which one look at all of them tells in the log; of the others it tells how many there are. A disk that was replaced lacks thousands.
const TOLD_MAX: usize = 16;

/// Objects that the operator has looked at by themselves at once; the next ones are refused until one is done.
const ASKED_MAX: usize = 4;

/// What the operator asks.
#[derive(Debug)]
pub enum Question {
    /// How do objects stand?
    Seen {
        /// Objects after this one; nothing: from the first.
        after: Option<BlobId>,
        /// At most so many.
        limit: usize,
        /// Where the answer goes.
        answer: oneshot::Sender<Vec<Seen>>,
    },
    /// Ask the other holders of one object now.
    Look {
        /// The object.
        object: BlobId,
        /// Told when they were asked; dropped if that has no place now.
        done: oneshot::Sender<()>,
    },
}

/// An object as this node sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The object.
    pub object: BlobId,
    /// Each fragment's holder and how it stands.
    pub health: Health,
    /// Whether it fell below its floor and is not whole since.
    pub is_due: bool,
    /// Whether this node mends it now.
    pub is_mending: bool,
    /// Who mends it in this epoch if it is due.
    pub coordinators: Vec<Address>,
}

/// The service.
#[derive(Debug)]
pub struct Mending {
    keeping: Arc<Keeping>,
    core: Repair,
    started: Instant,
    /// The epoch whose seed the core has.
    epoch: Option<u64>,
    /// Where operators were last heard to stand.
    sites: BTreeMap<Address, Site>,
    works: JoinSet<Done>,
    words: JoinSet<()>,
    surveying: JoinSet<()>,
    /// Objects that the operator asked for.
    asked: JoinSet<()>,
    /// Lines in the log about objects since the look at them began.
    told: usize,
}

impl Mending {
    /// Repair by a node.
    pub fn new(keeping: Arc<Keeping>, config: Config) -> Self {
        let core = Repair::new(keeping.me(), config, Time(0));
        Self {
            keeping,
            core,
            started: Instant::now(),
            epoch: None,
            sites: BTreeMap::new(),
            works: JoinSet::new(),
            words: JoinSet::new(),
            surveying: JoinSet::new(),
            asked: JoinSet::new(),
            told: 0,
        }
    }

    /// Mends until dropped; a piece of work that is dropped half-way leaves nothing behind.
    pub async fn run(mut self, mut noticed: mpsc::Receiver<Notice>, mut questions: mpsc::Receiver<Question>) {
        // The epoch first: an object is watched as the epoch found it.
        if let Err(error) = self.look_around().await {
            tracing::warn!(error = format!("{error:#}"), "repair does not know who is there");
        }
        if let Err(error) = self.watch_all() {
            tracing::error!(
                error = format!("{error:#}"),
                "the records of holders cannot be read: what this node holds is not mended by it"
            );
        }
        // Everything may have moved while it was away.
        self.survey_all(true);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tick().await,
                Some(notice) = noticed.recv() => self.noticed(notice),
                Some(question) = questions.recv() => match question {
                    Question::Seen { after, limit, answer } => self.answer(after, limit, answer),
                    Question::Look { object, done } => self.look_at(object, done),
                },
                Some(done) = self.works.join_next() => self.done(done),
                Some(_) = self.words.join_next() => {}
                Some(_) = self.surveying.join_next() => {}
                Some(_) = self.asked.join_next() => {}
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn tell(&mut self, input: Input) {
        let now = self.now();
        for output in self.core.handle(now, input) {
            self.carry_out(output);
        }
    }

    /// Watches every object that the table names this node for.
    fn watch_all(&mut self) -> anyhow::Result<()> {
        let mut from = BlobId::ZERO;
        self.told = 0;
        loop {
            let records = self.keeping.records(from, SCAN)?;
            records.iter().for_each(|record| self.watch(record.object()));
            match records.last() {
                Some(last) if records.len() == SCAN => from = next(last.object()),
                _ => break,
            }
        }
        if self.told > TOLD_MAX {
            tracing::warn!(more = self.told - TOLD_MAX, "as many objects again are not watched, or their fragments are not here");
        }
        Ok(())
    }

    fn watch(&mut self, object: BlobId) {
        if let Err(error) = self.try_watch(object)
            && self.is_told()
        {
            tracing::warn!(%object, error = format!("{error:#}"), "an object is not watched");
        }
    }

    const fn is_told(&mut self) -> bool {
        self.told += 1;
        self.told <= TOLD_MAX
    }

    /// Watches an object as its record says now, or no longer if this node is none of its holders.
    fn try_watch(&mut self, object: BlobId) -> anyhow::Result<()> {
        let is_erased = self.keeping.state().erased_object(object).is_some();
        let Some(record) = self.keeping.record(object)?.filter(|_| !is_erased) else {
            self.tell(Input::Forget { object });
            return Ok(());
        };
        if self.keeping.is_void(object)? {
            self.tell(Input::Forget { object });
            return Ok(());
        }
        let registered = self.keeping.registered(object)?;
        let assignment = registered.assignment(&record)?;
        let Some(own) = assignment.held_by(self.keeping.me()) else {
            self.tell(Input::Forget { object });
            return Ok(());
        };
        if self.core.assignment(object).is_none() {
            // As the epoch found it, so that its coordinators are those that everyone else draws; then what moved since.
            let before = registered.assignment_before(self.epoch.unwrap_or_else(|| self.keeping.epoch()), &record)?;
            // A manifest that has rotted is had from others.
            let manifest = self.keeping.store.manifest(object).ok().flatten();
            let fragment_bytes = manifest.map_or(0, |manifest| manifest.fragment_len() as u64);
            self.tell(Input::Watch { assignment: before, fragment_bytes });
        }
        for moved in record.handovers() {
            let step = &moved.handover;
            let step = Move { object, fragment: step.fragment, generation: step.generation, to: step.to };
            self.tell(Input::Moved(step));
        }
        if !self.keeping.store.sound_fragments_of(object)?.contains(&own) {
            if self.is_told() {
                tracing::warn!(%object, fragment = own, "this node is named for a fragment that is not here, or has rotted");
            }
            self.tell(Input::Damaged { object, fragment: own });
        }
        Ok(())
    }

    fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Record(object) => {
                self.told = 0;
                self.watch(object);
            }
            Notice::Void(object) => self.tell(Input::Forget { object }),
            Notice::Announced { object, by } => self.tell(Input::Announced { object, by }),
            Notice::Damaged { object, fragment } => {
                tracing::warn!(%object, fragment, "a fragment is damaged or missing");
                self.tell(Input::Damaged { object, fragment });
            }
            Notice::Shown { object, fragment, by } => {
                tracing::info!(%object, fragment, %by, "a fragment that was thought lost was read whole from its holder");
                self.tell(Input::Shown { object, fragment, by });
            }
            Notice::Look => {
                self.survey_all(true);
                self.tell(Input::Tick);
            }
        }
    }

    async fn tick(&mut self) {
        if let Err(error) = self.look_around().await {
            tracing::warn!(error = format!("{error:#}"), "repair does not know who is there");
            return;
        }
        if self.core.deadline() <= self.now() {
            self.tell(Input::Tick);
        }
    }

    /// Who is registered, who is heard, and which epoch it is.
    async fn look_around(&mut self) -> anyhow::Result<()> {
        let (state, storers, ads) = (self.keeping.state(), self.keeping.storers().await?, self.keeping.overlay.ads().await?);
        let staked: BTreeMap<Address, NodeId> =
            state.operators().filter(|operator| operator.active.0 > 0).map(|operator| (operator.account, operator.node)).collect();
        let heard: BTreeSet<NodeId> = ads.iter().map(|signed| signed.ad().node).collect();
        self.sites.extend(storers.iter().map(|(account, storer)| (*account, storer.site)));
        self.sites.retain(|account, _| staked.contains_key(account));
        let sites: BTreeMap<_, _> = staked.keys().map(|account| (*account, self.sites.get(account).copied().unwrap_or_default())).collect();
        self.tell(Input::Operators { sites: sites.into() });
        // As `may_take` has it: whose fragments others take, and of whom only what is lost there, since there is no room.
        let is_left = |account: &Address| !storers.contains_key(account) || self.keeping.is_unfit(*account);
        let operators = staked.keys().copied().filter(is_left).collect();
        let without_room = storers.iter().filter(|(_, storer)| !storer.has_room).map(|(account, _)| *account).collect();
        self.tell(Input::Unfit { operators, without_room });
        for (account, node) in &staked {
            self.tell(Input::Seen { operator: *account, is_online: heard.contains(node) });
        }
        let holders =
            self.core.objects().filter_map(|object| self.core.assignment(object)).flat_map(|held| held.holders()).map(|(_, of)| of);
        let gone: BTreeSet<Address> = holders.filter(|holder| !staked.contains_key(holder)).collect();
        for operator in gone {
            self.tell(Input::Gone { operator });
        }
        let epoch = self.keeping.epoch();
        if self.epoch != Some(epoch)
            && let Some(seed) = self.keeping.seeds.of(epoch).await?
        {
            self.epoch = Some(epoch);
            self.tell(Input::Epoch { seed });
            self.survey_all(false);
        }
        Ok(())
    }

    /// Asks the other holders what they have: of every object, or of those that this node coordinates. One survey at a time.
    fn survey_all(&mut self, is_every: bool) {
        if !self.surveying.is_empty() {
            return;
        }
        let me = self.keeping.me();
        let objects = self.core.objects().filter(|object| is_every || self.core.coordinators(*object).contains(&me));
        let objects = objects.map(|object| (object, self.core.damaged(object))).collect();
        self.surveying.spawn(survey::survey(Arc::clone(&self.keeping), objects));
    }

    /// Asks the other holders of one object, whatever else is asked meanwhile.
    fn look_at(&mut self, object: BlobId, done: oneshot::Sender<()>) {
        if self.asked.len() >= ASKED_MAX {
            return;
        }
        let survey = survey::survey(Arc::clone(&self.keeping), vec![(object, self.core.damaged(object))]);
        self.asked.spawn(async move {
            survey.await;
            if done.send(()).is_err() {
                tracing::debug!(%object, "whoever asked for a look waits no longer");
            }
        });
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Announce { object } => {
                tracing::info!(%object, "mending an object");
                self.announce(object);
            }
            Output::Rebuild(work) => self.rebuild(work),
            // The records have it already, each handover since its new holder signed.
            Output::Moved(step) => {
                tracing::info!(object = %step.object, fragment = step.fragment, to = %step.to, "a fragment has a new holder")
            }
            Output::Stuck { object, held, needed } => {
                tracing::error!(%object, held, needed, "an object cannot be mended now: too few of its fragments answer");
            }
        }
    }

    fn announce(&mut self, object: BlobId) {
        let keeping = Arc::clone(&self.keeping);
        self.say(async move {
            let Ok(others) = keeping.others(object).await else { return };
            let asks = others.into_iter().map(|(_, storer)| {
                let keeping = Arc::clone(&keeping);
                async move { ask(&keeping.bulk, storer.node, storer.addr, &Ask::Announce(object), WORD_LIMIT).await }
            });
            // Who does not hear it waits for less than it could: the bound on double repair stands.
            for error in futures::future::join_all(asks).await.into_iter().filter_map(Result::err) {
                tracing::debug!(%object, %error, "a holder did not hear that its object is mended");
            }
        });
    }

    fn rebuild(&mut self, work: Work) {
        let (keeping, epoch) = (Arc::clone(&self.keeping), self.epoch.unwrap_or_else(|| self.keeping.epoch()));
        tracing::info!(object = %work.object, fragments = ?work.targets.iter().map(|(fragment, _)| *fragment).collect::<Vec<_>>(), "rebuilding");
        self.works.spawn(async move { rebuild::rebuild(&keeping, work, epoch).await });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        // What panicked has said so; the core gives it up by itself.
        let Ok(Done { object, stored, damaged, full }) = done else { return };
        for operator in full {
            self.tell(Input::Full { operator });
        }
        for fragment in damaged {
            self.tell(Input::Damaged { object, fragment });
        }
        if !stored.is_empty() {
            tracing::info!(%object, ?stored, "fragments stand again");
        }
        self.tell(Input::Done { object, stored });
        let keeping = Arc::clone(&self.keeping);
        self.say(async move {
            let (Ok(others), Ok(Some(record))) = (keeping.others(object).await, keeping.record(object)) else { return };
            let to = others.into_iter().map(|(_, storer)| (storer.node, storer.addr)).collect();
            for (node, reason) in tell(&keeping.bulk, to, &record).await {
                tracing::info!(%object, %node, reason, "a holder did not take down what moved: the next survey tells it again");
            }
        });
    }

    fn say(&mut self, words: impl Future<Output = ()> + Send + 'static) {
        if self.words.len() < WORDS_MAX {
            self.words.spawn(words);
        }
    }

    fn answer(&self, after: Option<BlobId>, limit: usize, answer: oneshot::Sender<Vec<Seen>>) {
        let now = self.now();
        let later = self.core.objects().filter(|object| after.is_none_or(|after| *object > after));
        let seen = later.take(limit).filter_map(|object| {
            Some(Seen {
                object,
                health: self.core.health(now, object)?,
                is_due: self.core.is_due(object),
                is_mending: self.core.is_mending(object),
                coordinators: self.core.coordinators(object).to_vec(),
            })
        });
        // Whoever stopped waiting needs no answer.
        drop(answer.send(seen.collect()));
    }
}

/// The least object after another.
pub(in crate::service) fn next(object: BlobId) -> BlobId {
    let mut bytes = object.0;
    for byte in bytes.iter_mut().rev() {
        let (sum, is_over) = byte.overflowing_add(1);
        *byte = sum;
        if !is_over {
            return BlobId(bytes);
        }
    }
    BlobId([0xff; 32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_on_after_the_last_object() {
        let mut object = [7; 32];
        object[31] = 0xff;
        let mut after = [7; 32];
        (after[30], after[31]) = (8, 0);
        assert_eq!(next(BlobId(object)), BlobId(after));
        assert_eq!(next(BlobId([0xff; 32])), BlobId([0xff; 32]));
    }
}
