//! Fetching an object from several holders at once.
//!
//! Two phases, both driven by [`Fetch::handle`]. *Locate*: candidates are asked what they hold, [`WAVE`] of them at once and the next ones while what is
//! offered does not suffice; the first manifest whose hash is the object's id is kept. Whoever could not be reached, was silent or was busy is asked once more, a wave
//! of them at most, before the fetch fails: one that had no time for a handshake then may have it now. Who said that it holds nothing is not. *Read*: as many fragments as the code needs are under way at a time, or the first few
//! while those fill the line (`fetch/width.rs`), each from one holder, least-asked holders first, those that
//! are the object itself before those that must be decoded. What comes is checked in groups of 16 KiB ([`range`](super::range)) and kept in
//! [`Parts`], whatever becomes of the stream that brought it: only what is missing is asked for again, from the same holder, another
//! holder of the fragment, or as another fragment. Whoever sends a group that is not what the manifest names is asked nothing more and leaves [`Evidence`].
//!
//! *Late streams.* A stream that brings too little in a [`Config::progress_window`] is given up. Before, once more than a third of the fragments needed
//! are here, one that at its own pace takes three times their median is late, and gets company, which may be late and replaced in turn
//! (`fetch/hedge.rs`). What comes beyond what is needed is at most a quarter of the object, one fragment at least.
//!
//! Messages: one Locate per candidate asked (a wave, if those that placement names come first; of 4,096 in another order 43 waves of a second at most) and one more to a wave of those that were missed, `data` Reads, one more per failure or late stream, at most [`Config::attempts`] per holder and fragment that
//! bring less than a MiB. Nothing is random and nothing reads a clock: the same inputs give the same outputs.

mod hedge;
mod outcome;
mod parts;
pub mod saved;
mod width;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use types::{
    id::{BlobId, NodeId},
    time::Time,
};

pub use self::{
    outcome::{Config, Evidence, Failure, FetchError, Fetched},
    parts::{Parts, RECORD_GROUPS, Record},
};
use super::{
    message::{Refusal, Reply},
    range::{Block, Run, Wrong},
};
use crate::erasure::{ManifestError, ObjectManifest};

/// Most candidates of one object: 200 bytes each.
pub const CANDIDATES_MAX: usize = 4096;
/// Candidates asked at once: the holders of the largest profile and as many again.
pub const WAVE: usize = 96;
/// The next wave does not wait longer for the one before: a slow answer around the world.
const WAVE_WAIT: Duration = Duration::from_secs(1);
/// A stream that brought so many groups, 1 MiB, does not count among [`Config::attempts`].
const WELCOME_GROUPS: u32 = 64;

/// What happens to a fetch.
#[derive(Debug)]
pub enum Input {
    /// Begin; the first input.
    Start,
    /// A holder's answer to Locate.
    Located {
        /// Who answered.
        from: NodeId,
        /// What came; nothing if no answer did.
        reply: Option<Reply>,
    },
    /// Good groups of a stream. Welcome also from one that was given up.
    Block {
        /// The stream.
        stream: u32,
        /// From whom.
        from: NodeId,
        /// The groups.
        block: Block,
    },
    /// A stream ended; its blocks were reported before.
    Ended {
        /// The stream.
        stream: u32,
        /// How.
        end: StreamEnd,
    },
    /// Time passed; due at [`Fetch::deadline`].
    Tick,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// All of the range came.
    Whole,
    /// The holder refused.
    Refused(Refusal),
    /// No connection, or it broke off.
    Lost,
    /// A group was wrong.
    Wrong(Wrong),
    /// Something else than the range that was asked for.
    OffTopic,
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask a holder what it holds.
    Locate {
        /// Whom.
        to: NodeId,
    },
    /// Read groups of a fragment and report them.
    Read {
        /// Number for what is reported.
        stream: u32,
        /// From whom.
        to: NodeId,
        /// Which fragment.
        index: u8,
        /// Which groups.
        run: Run,
    },
    /// End a stream; what is good of it may still be reported.
    Cancel {
        /// Which.
        stream: u32,
    },
    /// A holder sent what it should not have: tell the reputation.
    Blame(Evidence),
    /// The fetch ended; further inputs do nothing. Streams still open are to be ended.
    Done(Result<Fetched, FetchError>),
}

/// One fetch of one object.
#[derive(Debug)]
pub struct Fetch {
    object: BlobId,
    config: Config,
    parts: Option<Parts>,
    holders: BTreeMap<NodeId, Holder>,
    /// Candidates in the order given, which breaks ties.
    order: Vec<NodeId>,
    /// How many of them were asked what they hold.
    asked: usize,
    /// When the next wave is due.
    wave_due: Time,
    /// When those that were missed may be asked again, and whether they were.
    again_due: Time,
    is_again: bool,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    /// When the first stream was opened.
    reading_since: Option<Time>,
    /// As many fragments are read at once as are needed (`fetch/width.rs`).
    is_wide: bool,
    /// When the first holder said what it has.
    located_at: Option<Time>,
    /// How long fragments took that are whole.
    took: Vec<Duration>,
    received: BTreeMap<NodeId, u64>,
    /// Streams opened beside late ones.
    hedged: usize,
    /// Groups that came twice, or of fragments that are not waited for any more because of company.
    spare: u32,
    now: Time,
    is_done: bool,
}

#[derive(Debug, Default)]
struct Holder {
    /// Due time of the open Locate.
    locating: Option<Time>,
    /// Its Locate came to nothing that may pass.
    is_missed: bool,
    /// Fragments it says it has.
    offers: BTreeMap<u8, Offer>,
    /// It lied: nothing more is asked of it.
    is_banned: bool,
    /// A stream of it was late: it is asked after all others, and never for company.
    is_slow: bool,
    /// Fragments it brought to their end.
    brought: u8,
    last_failure: Option<Failure>,
}

#[derive(Debug, Default)]
struct Offer {
    asked: u8,
    /// Not to be asked before.
    rests_until: Option<Time>,
}

#[derive(Debug)]
struct Stream {
    holder: NodeId,
    index: u8,
    started: Time,
    /// Groups that came.
    got: u32,
    owed: u32,
    /// When progress is looked at next, and the groups that had come before.
    due: Time,
    before: u32,
    /// The late stream it was opened beside.
    hedges: Option<u32>,
}

impl Fetch {
    /// A fetch of `object` from `candidates`, best first; those past [`CANDIDATES_MAX`] are left out.
    pub fn new(object: BlobId, candidates: impl IntoIterator<Item = NodeId>, config: Config) -> Self {
        let (mut holders, mut order) = (BTreeMap::new(), Vec::new());
        for candidate in candidates.into_iter().take(CANDIDATES_MAX) {
            if holders.insert(candidate, Holder::default()).is_none() {
                order.push(candidate);
            }
        }
        Self {
            object,
            config,
            parts: None,
            holders,
            order,
            asked: 0,
            wave_due: Time(0),
            again_due: Time(0),
            is_again: false,
            streams: BTreeMap::new(),
            next_stream: 0,
            reading_since: None,
            is_wide: false,
            located_at: None,
            took: Vec::new(),
            received: BTreeMap::new(),
            hedged: 0,
            spare: 0,
            now: Time(0),
            is_done: false,
        }
    }

    /// Goes on with what an earlier fetch of the same object got; before [`Input::Start`].
    #[must_use]
    pub fn with_parts(mut self, parts: Parts) -> Self {
        if parts.manifest().id() == self.object {
            self.parts = Some(parts);
        }
        self
    }

    /// Takes in blocks that an earlier process wrote down ([`saved`]); before [`Input::Start`].
    pub fn restore(&mut self, manifest: &ObjectManifest, blocks: &[Block]) {
        if manifest.id() != self.object {
            return;
        }
        let parts = self.parts.get_or_insert_with(|| Parts::new(manifest.clone()));
        for block in blocks {
            parts.place(block);
            parts.note_saved(block.index(), block.run());
        }
    }

    /// What has come, if the manifest has.
    pub const fn parts_mut(&mut self) -> Option<&mut Parts> {
        self.parts.as_mut()
    }

    /// What has come, for another fetch of the object. Nothing after a fetch that succeeded.
    pub fn into_parts(self) -> Option<Parts> {
        self.parts
    }

    /// Bytes of good fragments by holder so far; [`Fetched`] has them once the object is there.
    pub const fn received(&self) -> &BTreeMap<NodeId, u64> {
        &self.received
    }

    /// When the next [`Input::Tick`] is due; nothing once the fetch ended.
    pub fn deadline(&self) -> Option<Time> {
        if self.is_done {
            return None;
        }
        let rests = self.holders.values().flat_map(|holder| holder.offers.values()).filter_map(|offer| offer.rests_until);
        let locating = self.holders.values().filter_map(|holder| holder.locating);
        let streams = self.streams.values().map(|stream| stream.due);
        let late = self.late_times();
        let grace = self.grace_until().filter(|_| self.is_locating());
        // What was due before is waiting for something else by now.
        let wave = Some(self.wave_due).filter(|_| self.wants_wave());
        let again = Some(self.again_due).filter(|_| self.wants_again());
        let few = self.few_until();
        let later = late.into_iter().chain(grace).chain(wave).chain(again).chain(few).filter(|due| *due > self.now);
        rests.chain(locating).chain(streams).chain(later).min()
    }

    /// Takes one input; the outputs are to be carried out in order.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.is_done {
            return outputs;
        }
        self.now = now;
        match input {
            Input::Start => self.wave_due = now,
            Input::Located { from, reply } => outputs.extend(self.located(now, from, reply)),
            Input::Block { stream, from, block } => outputs.extend(self.block(now, stream, from, &block)),
            Input::Ended { stream, end } => outputs.extend(self.ended(now, stream, end)),
            Input::Tick => {}
        }
        if !self.is_done {
            outputs.extend(self.expire(now));
        }
        outputs.extend(self.end());
        if !self.is_done {
            outputs.extend(self.locate(now));
            outputs.extend(self.ask(now));
            outputs.extend(self.hedge(now));
            outputs.extend(self.give_up());
        }
        outputs
    }

    /// Asks the next candidates, if those before do not suffice and have answered or had their time.
    fn locate(&mut self, now: Time) -> Vec<Output> {
        let wave: Vec<NodeId> = if self.wants_wave() && (self.wave_due <= now || !self.is_locating()) {
            self.wave_due = now.after(WAVE_WAIT);
            let wave = self.asked..(self.asked + WAVE).min(self.order.len());
            self.asked = wave.end;
            self.order[wave].to_vec()
        } else if self.wants_again() && self.again_due <= now {
            self.is_again = true;
            let is_missed = |id: &&NodeId| self.holders.get(*id).is_some_and(|holder| holder.is_missed);
            self.order.iter().filter(is_missed).take(WAVE).copied().collect()
        } else {
            Vec::new()
        };
        let due = now.after(self.config.locate_timeout);
        for to in &wave {
            if let Some(holder) = self.holders.get_mut(to) {
                holder.locating = Some(due);
            }
        }
        wave.into_iter().map(|to| Output::Locate { to }).collect()
    }

    /// Whether candidates are left that may have what nobody offers.
    fn wants_wave(&self) -> bool {
        self.asked < self.order.len() && !self.suffices()
    }

    /// Whether those that were missed are to be asked again: all had their turn, and too little is offered.
    fn wants_again(&self) -> bool {
        let is_over = !self.is_again && self.asked == self.order.len() && !self.is_locating();
        is_over && self.holders.values().any(|holder| holder.is_missed) && !self.suffices()
    }

    /// Whether what is here and what is offered are enough fragments.
    fn suffices(&self) -> bool {
        let Some(parts) = &self.parts else { return false };
        let offered = self.holders.values().flat_map(|holder| holder.offers.keys().copied());
        let wanted: BTreeSet<u8> = offered.filter(|index| !parts.is_whole(*index)).collect();
        wanted.len() + parts.whole() >= self.needed()
    }

    fn located(&mut self, now: Time, from: NodeId, reply: Option<Reply>) -> Option<Output> {
        let (object, again_due) = (self.object, now.after(self.config.retry_after));
        let holder = self.holders.get_mut(&from).filter(|holder| !holder.is_banned && holder.offers.is_empty())?;
        holder.locating = None;
        let (manifest, indices) = match reply {
            Some(Reply::Located { object: of, manifest, indices }) if of == object => (manifest, indices),
            other => {
                let failure = match other {
                    None => Failure::Lost,
                    Some(Reply::Refused(refusal)) => Failure::Refused(refusal),
                    Some(_) => Failure::OffTopic,
                };
                holder.is_missed = failure.may_pass();
                holder.last_failure = Some(failure);
                self.again_due = again_due;
                return None;
            }
        };
        let manifest = match ObjectManifest::decode_as(object, &manifest) {
            Ok(manifest) => manifest,
            Err(ManifestError::Mismatch { expected, got }) => {
                return Some(self.ban(Evidence { holder: from, object, fragment: None, expected, got }));
            }
            // These bytes are the object's manifest by hash: nobody has a better one, and it is its uploader who is to blame.
            Err(error) => {
                self.is_done = true;
                return Some(Output::Done(Err(error.into())));
            }
        };
        let total = manifest.profile().total();
        holder.is_missed = false;
        holder.offers = indices.iter().filter(|index| **index < total).map(|index| (*index, Offer::default())).collect();
        self.located_at.get_or_insert(now);
        self.parts.get_or_insert_with(|| Parts::new(manifest));
        None
    }

    fn block(&mut self, now: Time, id: u32, from: NodeId, block: &Block) -> Vec<Output> {
        let Some(parts) = self.parts.as_mut() else { return Vec::new() };
        let index = block.index();
        let (was_whole, before) = (parts.is_whole(index), parts.count(index));
        let new = parts.place(block);
        if new > 0 {
            *self.received.entry(from).or_default() += new;
        }
        let known = block.run().count.saturating_sub(parts.count(index).saturating_sub(before));
        self.spare = self.spare.saturating_add(known);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.got = stream.got.saturating_add(block.run().count);
        }
        if was_whole || !parts.is_whole(index) {
            return Vec::new();
        }
        let of_it = self.streams.values().filter(|stream| stream.index == index);
        self.took.extend(of_it.map(|stream| stream.started).min().map(|started| now.since(started)));
        self.won(id, index)
    }

    /// Ends a stream that did nothing wrong. It counts among the attempts all the same: a holder that is silent beside others would be asked for ever.
    fn cancel(&mut self, id: u32) -> Output {
        let attempts = self.config.attempts;
        if let Some(stream) = self.streams.remove(&id)
            && let Some(holder) = self.holders.get_mut(&stream.holder)
            && holder.offers.get(&stream.index).is_some_and(|offer| offer.asked >= attempts)
        {
            holder.offers.remove(&stream.index);
        }
        Output::Cancel { stream: id }
    }

    fn ended(&mut self, now: Time, id: u32, end: StreamEnd) -> Vec<Output> {
        let Some(stream) = self.streams.remove(&id) else { return Vec::new() };
        let failure = match end {
            StreamEnd::Whole if stream.got >= stream.owed => {
                // It did what it was asked; the fragment may have gaps elsewhere.
                self.forgive(&stream);
                if let Some(holder) = self.holders.get_mut(&stream.holder) {
                    holder.brought = holder.brought.saturating_add(1);
                }
                return Vec::new();
            }
            StreamEnd::Wrong(Wrong { object, index, group, expected, got }) => {
                let holder = stream.holder;
                let mut outputs = vec![self.ban(Evidence { holder, object, fragment: Some((index, group)), expected, got })];
                let open: Vec<u32> = self.streams.iter().filter(|(_, other)| other.holder == holder).map(|(id, _)| *id).collect();
                outputs.extend(open.into_iter().map(|id| self.cancel(id)));
                return outputs;
            }
            StreamEnd::Refused(refusal) => Failure::Refused(refusal),
            // What is said to be whole and is not was lost on the way here.
            StreamEnd::Lost | StreamEnd::Whole => Failure::Lost,
            StreamEnd::OffTopic => Failure::OffTopic,
        };
        self.fail(now, &stream, failure);
        Vec::new()
    }

    fn forgive(&mut self, stream: &Stream) {
        let offer = self.holders.get_mut(&stream.holder).and_then(|holder| holder.offers.get_mut(&stream.index));
        if let Some(offer) = offer {
            offer.asked = offer.asked.saturating_sub(1);
        }
    }

    fn fail(&mut self, now: Time, stream: &Stream, failure: Failure) {
        if stream.got >= WELCOME_GROUPS {
            self.forgive(stream);
        }
        let Config { attempts, retry_after, .. } = self.config;
        let Some(holder) = self.holders.get_mut(&stream.holder).filter(|holder| !holder.is_banned) else { return };
        if let Some(offer) = holder.offers.get_mut(&stream.index) {
            if failure.may_pass() && offer.asked < attempts {
                offer.rests_until = Some(now.after(retry_after));
            } else {
                holder.offers.remove(&stream.index);
            }
        }
        holder.last_failure = Some(failure);
    }

    fn ban(&mut self, evidence: Evidence) -> Output {
        if let Some(holder) = self.holders.get_mut(&evidence.holder) {
            *holder = Holder { is_banned: true, last_failure: Some(Failure::Wrong), ..Holder::default() };
        }
        Output::Blame(evidence)
    }

    fn expire(&mut self, now: Time) -> Vec<Output> {
        for holder in self.holders.values_mut() {
            if holder.locating.is_some_and(|due| due <= now) {
                (holder.locating, holder.is_missed, holder.last_failure) = (None, true, Some(Failure::TimedOut));
            }
            for offer in holder.offers.values_mut() {
                offer.rests_until = offer.rests_until.filter(|due| *due > now);
            }
        }
        let Config { progress_window, progress_groups, .. } = self.config;
        let mut late = Vec::new();
        for (id, stream) in &mut self.streams {
            if stream.due > now {
                continue;
            }
            let enough = progress_groups.min(stream.owed.saturating_sub(stream.before)).max(1);
            if stream.got.saturating_sub(stream.before) < enough {
                late.push(*id);
            }
            (stream.before, stream.due) = (stream.got, now.after(progress_window));
        }
        let mut outputs = Vec::new();
        for id in late {
            if let Some(stream) = self.streams.remove(&id) {
                outputs.push(Output::Cancel { stream: id });
                self.fail(now, &stream, Failure::TimedOut);
            }
        }
        outputs
    }

    fn needed(&self) -> usize {
        self.parts.as_ref().map_or(0, |parts| parts.manifest().profile().data().into())
    }

    fn open(&mut self, now: Time, to: NodeId, index: u8, run: Run, hedges: Option<u32>) -> Output {
        let id = self.next_stream;
        self.next_stream = self.next_stream.wrapping_add(1);
        if let Some(offer) = self.holders.get_mut(&to).and_then(|holder| holder.offers.get_mut(&index)) {
            offer.asked = offer.asked.saturating_add(1);
        }
        let due = now.after(self.config.progress_window);
        let stream = Stream { holder: to, index, started: now, got: 0, owed: run.count, due, before: 0, hedges };
        self.streams.insert(id, stream);
        self.reading_since.get_or_insert(now);
        Output::Read { stream: id, to, index, run }
    }

    fn is_whole(&self, index: u8) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.is_whole(index))
    }

    fn is_locating(&self) -> bool {
        self.holders.values().any(|holder| holder.locating.is_some())
    }

    fn grace_until(&self) -> Option<Time> {
        Some(self.located_at?.after(self.config.data_first))
    }

    /// The offer to take up: of a fragment neither whole nor being sent; of a holder that was not late, one of which something is here, then from the holder asked least often, then
    /// of the lowest index, since the first fragments are the object itself, then in the order of the candidates.
    fn next_offer(&self, now: Time) -> Option<(NodeId, u8)> {
        let parts = self.parts.as_ref()?;
        let being_sent: BTreeSet<u8> = self.streams.values().map(|stream| stream.index).collect();
        let data = if self.is_locating() && self.grace_until().is_some_and(|until| until > now) {
            parts.manifest().profile().data()
        } else {
            u8::MAX
        };
        let is_wanted = |index: u8, offer: &Offer| {
            offer.rests_until.is_none() && index < data && !parts.is_whole(index) && !being_sent.contains(&index)
        };
        let mut best = None;
        for (place, id) in self.order.iter().enumerate() {
            let Some(Holder { offers, is_slow, .. }) = self.holders.get(id) else { continue };
            let load: u32 = offers.values().map(|offer| u32::from(offer.asked)).sum();
            let wanted = offers.iter().filter(|(index, offer)| is_wanted(**index, offer));
            let keys = wanted.map(|(index, _)| (*is_slow, parts.count(*index) == 0, load, *index, place, *id));
            best = best.into_iter().chain(keys).min();
        }
        best.map(|(.., index, _, id)| (id, index))
    }

    /// The end, if enough is here.
    fn end(&mut self) -> Option<Output> {
        if self.is_done {
            return None;
        }
        let parts = self.parts.take_if(|parts| parts.whole() >= usize::from(parts.manifest().profile().data()))?;
        self.is_done = true;
        let received = std::mem::take(&mut self.received);
        Some(Output::Done(parts.finish(self.config.is_reencoded).map(|(manifest, bytes)| Fetched { manifest, bytes, received })))
    }

    /// The end, if there is nothing left to wait for.
    fn give_up(&mut self) -> Option<Output> {
        if self.deadline().is_some() {
            return None;
        }
        self.is_done = true;
        let failures: BTreeMap<_, _> = self.holders.iter().filter_map(|(id, holder)| Some((*id, holder.last_failure.clone()?))).collect();
        let (object, asked) = (self.object, self.asked);
        let error = match &self.parts {
            Some(parts) => FetchError::TooFew { object, found: parts.whole(), needed: self.needed(), failures },
            None => FetchError::NoManifest { object, asked, failures },
        };
        Some(Output::Done(Err(error)))
    }
}

#[cfg(test)]
mod tests;
