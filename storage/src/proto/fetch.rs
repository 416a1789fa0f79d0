//! Fetching an object from several holders at once.
//!
//! Two phases, both driven by [`Fetch::handle`]. *Locate*: every candidate is asked what it holds; the first manifest whose hash is the object's
//! id is kept. *Get*: as many fragments as the code needs are under way at a time, each from one holder, least-asked holders first. A holder
//! that fails is replaced by another of the same fragment or by another fragment; one that answers [`Refusal::Busy`] is asked again, a few
//! times. Whoever sends bytes that are not what the manifest names is asked nothing more and leaves [`Evidence`].
//!
//! Messages: one Locate per candidate, `data` Gets, and one Get more per failure, at most [`Config::attempts`] per holder and fragment.
//! Nothing is random and nothing reads a clock: the same inputs give the same outputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use types::{
    id::{BlobId, NodeId},
    time::Time,
};

use super::message::{Refusal, Reply, Request};
use crate::erasure::{self, FragmentError, ManifestError, ObjectManifest, Proof, ReconstructError, VerifiedFragment};

/// Most candidates asked about one object: the holders of the largest profile and as many again.
pub const CANDIDATES_MAX: usize = 96;

/// How patient a fetch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Wait for one Locate. 5 s: a small message, twice around the world with losses.
    pub locate_timeout: Duration,
    /// Wait for one fragment. 60 s: the largest at 3 Mbit/s.
    pub get_timeout: Duration,
    /// Times one holder is asked for one fragment. 3: once, and twice after a passing refusal or a timeout.
    pub attempts: u8,
    /// Wait before asking a busy holder again. 500 ms.
    pub retry_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            locate_timeout: Duration::from_secs(5),
            get_timeout: Duration::from_secs(60),
            attempts: 3,
            retry_after: Duration::from_millis(500),
        }
    }
}

/// What happens to a fetch.
#[derive(Debug, Clone)]
pub enum Input {
    /// Begin; the first input.
    Start,
    /// A holder's answer to the request that named `index` (nothing: Locate).
    Reply {
        /// Who answered.
        from: NodeId,
        /// Fragment that was asked for.
        index: Option<u8>,
        /// What came.
        reply: Reply,
    },
    /// A request to this holder failed: no connection, a broken stream, an undecodable answer.
    Lost {
        /// Who was asked.
        from: NodeId,
        /// Fragment that was asked for; nothing: Locate.
        index: Option<u8>,
    },
    /// Time passed; due at [`Fetch::deadline`].
    Tick,
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a request to a holder and report its reply or its loss.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        request: Request,
    },
    /// A holder sent what it should not have: tell the reputation.
    Blame(Evidence),
    /// The fetch ended; further inputs do nothing.
    Done(Result<Fetched, FetchError>),
}

/// An object, and who sent how much of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The object's manifest.
    pub manifest: ObjectManifest,
    /// The object, hashed.
    pub bytes: Vec<u8>,
    /// Bytes of good fragments by holder.
    pub received: BTreeMap<NodeId, u64>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("object", &self.manifest.id())
            .field("bytes", &self.bytes.len())
            .field("received", &self.received)
            .finish()
    }
}

/// What a holder sent instead of what the manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holder {holder} sent {got} as {}of object {object}, the manifest names {expected}", fragment.map(|index| format!("fragment {index} ")).unwrap_or_default())]
pub struct Evidence {
    /// Who.
    pub holder: NodeId,
    /// The object.
    pub object: BlobId,
    /// Which fragment; nothing: the manifest itself.
    pub fragment: Option<u8>,
    /// What it should be.
    pub expected: BlobId,
    /// What it is.
    pub got: BlobId,
}

/// Why a request to a holder came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It refused.
    Refused(Refusal),
    /// It was too slow.
    TimedOut,
    /// It could not be reached, or broke off.
    Lost,
    /// It sent wrong bytes.
    Wrong,
    /// It answered something else than was asked.
    OffTopic,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Lost => f.write_str("not reachable"),
            Self::Wrong => f.write_str("sent wrong bytes"),
            Self::OffTopic => f.write_str("answered another question"),
        }
    }
}

/// Why an object did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No candidate had its manifest.
    #[error("no manifest of object {object} from {asked} holders{}: check that its holders run", list(failures))]
    NoManifest {
        /// The object.
        object: BlobId,
        /// Candidates asked.
        asked: usize,
        /// The last failure of each.
        failures: BTreeMap<NodeId, Failure>,
    },
    /// Fewer fragments than the code needs.
    #[error("object {object} needs {needed} fragments, {found} were found{}: start more of its holders and try again", list(failures))]
    TooFew {
        /// The object.
        object: BlobId,
        /// Good fragments that came.
        found: usize,
        /// Fragments that suffice.
        needed: usize,
        /// The last failure of each holder.
        failures: BTreeMap<NodeId, Failure>,
    },
    /// The object's own manifest is broken: its uploader made it so.
    #[error("the manifest of the object itself is broken, no holder has another: {0}")]
    Manifest(#[from] ManifestError),
    /// The fragments are what the manifest names, but do not make the object.
    #[error(transparent)]
    Reconstruct(#[from] ReconstructError),
    /// The same, with the proof that convicts the manifest's author before everybody.
    #[error("{error}")]
    Lied {
        /// What the fragments give.
        error: ReconstructError,
        /// Manifest and fragments.
        proof: Box<Proof>,
    },
}

fn list(failures: &BTreeMap<NodeId, Failure>) -> String {
    let each: Vec<_> = failures.iter().map(|(holder, failure)| format!("{holder}: {failure}")).collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join("; ")) }
}

/// One fetch of one object.
#[derive(Debug)]
pub struct Fetch {
    object: BlobId,
    config: Config,
    manifest: Option<ObjectManifest>,
    holders: BTreeMap<NodeId, Holder>,
    /// Candidates in the order given, which breaks ties.
    order: Vec<NodeId>,
    found: BTreeMap<u8, VerifiedFragment>,
    received: BTreeMap<NodeId, u64>,
    is_done: bool,
}

#[derive(Debug, Default)]
struct Holder {
    /// Due time of the open Locate.
    locating: Option<Time>,
    /// Fragments it says it has.
    offers: BTreeMap<u8, Offer>,
    /// It lied: nothing more is asked of it.
    is_banned: bool,
    last_failure: Option<Failure>,
}

#[derive(Debug, Default)]
struct Offer {
    asked: u8,
    /// Due time of the open Get.
    getting: Option<Time>,
    /// Not to be asked before.
    rests_until: Option<Time>,
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
        Self { object, config, manifest: None, holders, order, found: BTreeMap::new(), received: BTreeMap::new(), is_done: false }
    }

    /// When the next [`Input::Tick`] is due; nothing once the fetch ended.
    pub fn deadline(&self) -> Option<Time> {
        let offers = self.holders.values().flat_map(|holder| holder.offers.values());
        let times = offers.flat_map(|offer| [offer.getting, offer.rests_until]).chain(self.holders.values().map(|holder| holder.locating));
        times.flatten().min().filter(|_| !self.is_done)
    }

    /// Takes one input; the outputs are to be carried out in order.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.is_done {
            return outputs;
        }
        match input {
            Input::Start => outputs.extend(self.locate(now)),
            Input::Reply { from, index, reply } => outputs.extend(self.reply(now, from, index, reply)),
            Input::Lost { from, index } => self.fail(now, from, index, Failure::Lost),
            Input::Tick => {}
        }
        if !self.is_done {
            self.expire(now);
            outputs.extend(self.ask(now));
        }
        outputs.extend(self.end());
        outputs
    }

    fn locate(&mut self, now: Time) -> Vec<Output> {
        let (due, object) = (now.after(self.config.locate_timeout), self.object);
        self.holders.values_mut().for_each(|holder| holder.locating = Some(due));
        self.order.iter().map(|to| Output::Send { to: *to, request: Request::Locate { object } }).collect()
    }

    fn reply(&mut self, now: Time, from: NodeId, index: Option<u8>, reply: Reply) -> Option<Output> {
        let object = self.object;
        match (index, reply) {
            (None, Reply::Located { object: of, manifest, indices }) if of == object => self.located(from, &manifest, &indices),
            (Some(index), Reply::Fragment { object: of, index: at, bytes }) if of == object && at == index => {
                self.fragment(now, from, index, bytes)
            }
            (index, Reply::Refused(refusal)) => {
                self.fail(now, from, index, Failure::Refused(refusal));
                None
            }
            (index, _) => {
                self.fail(now, from, index, Failure::OffTopic);
                None
            }
        }
    }

    fn located(&mut self, from: NodeId, manifest: &[u8], indices: &[u8]) -> Option<Output> {
        let holder = self.holders.get_mut(&from).filter(|holder| !holder.is_banned && holder.offers.is_empty())?;
        holder.locating = None;
        let manifest = match ObjectManifest::decode_as(self.object, manifest) {
            Ok(manifest) => self.manifest.insert(manifest),
            Err(ManifestError::Mismatch { expected, got }) => {
                return Some(self.ban(Evidence { holder: from, object: self.object, fragment: None, expected, got }));
            }
            // These bytes are the object's manifest by hash: nobody has a better one, and it is its uploader who is to blame.
            Err(error) => {
                self.is_done = true;
                return Some(Output::Done(Err(error.into())));
            }
        };
        let total = manifest.profile().total();
        holder.offers = indices.iter().filter(|index| **index < total).map(|index| (*index, Offer::default())).collect();
        None
    }

    fn fragment(&mut self, now: Time, from: NodeId, index: u8, bytes: Vec<u8>) -> Option<Output> {
        // Bytes that come after their deadline are as good as any.
        let offer = self.holders.get_mut(&from)?.offers.get_mut(&index)?;
        (offer.getting, offer.rests_until) = (None, None);
        match self.manifest.as_ref()?.verify(index, bytes) {
            Ok(fragment) => {
                let received = u64::try_from(fragment.bytes().len()).expect("a fragment's length is bounded");
                *self.received.entry(from).or_default() += received;
                self.found.insert(index, fragment);
                None
            }
            Err(FragmentError::Corrupt { object, index, expected, got, .. }) => {
                Some(self.ban(Evidence { holder: from, object, fragment: Some(index), expected, got }))
            }
            Err(FragmentError::NoSuchIndex { .. }) => {
                self.fail(now, from, Some(index), Failure::OffTopic);
                None
            }
        }
    }

    fn ban(&mut self, evidence: Evidence) -> Output {
        if let Some(holder) = self.holders.get_mut(&evidence.holder) {
            *holder = Holder { is_banned: true, last_failure: Some(Failure::Wrong), ..Holder::default() };
        }
        Output::Blame(evidence)
    }

    fn fail(&mut self, now: Time, from: NodeId, index: Option<u8>, failure: Failure) {
        let Config { attempts, retry_after, .. } = self.config;
        let Some(holder) = self.holders.get_mut(&from).filter(|holder| !holder.is_banned) else { return };
        match index {
            None => holder.locating = None,
            Some(index) => {
                let Some(offer) = holder.offers.get_mut(&index).filter(|offer| offer.getting.is_some()) else { return };
                let may_pass = match &failure {
                    Failure::Refused(refusal) => refusal.is_passing(),
                    Failure::TimedOut | Failure::Lost => true,
                    Failure::Wrong | Failure::OffTopic => false,
                };
                if may_pass && offer.asked < attempts {
                    (offer.getting, offer.rests_until) = (None, Some(now.after(retry_after)));
                } else {
                    holder.offers.remove(&index);
                }
            }
        }
        holder.last_failure = Some(failure);
    }

    fn expire(&mut self, now: Time) {
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= now);
        let mut late = Vec::new();
        for (id, holder) in &mut self.holders {
            if is_due(holder.locating) {
                late.push((*id, None));
            }
            for (index, offer) in &mut holder.offers {
                if is_due(offer.getting) {
                    late.push((*id, Some(*index)));
                }
                if is_due(offer.rests_until) {
                    offer.rests_until = None;
                }
            }
        }
        late.into_iter().for_each(|(holder, index)| self.fail(now, holder, index, Failure::TimedOut));
    }

    /// Asks for fragments until as many are found or under way as the code needs.
    fn ask(&mut self, now: Time) -> Vec<Output> {
        let needed = self.manifest.as_ref().map_or(0, |manifest| usize::from(manifest.profile().data()));
        let mut outputs = Vec::new();
        while self.found.len() + self.under_way().len() < needed {
            let Some((to, index)) = self.next_ask() else { break };
            let due = now.after(self.config.get_timeout);
            let offer = self.holders.get_mut(&to).and_then(|holder| holder.offers.get_mut(&index)).expect("chosen from the offers");
            (offer.asked, offer.getting) = (offer.asked + 1, Some(due));
            outputs.push(Output::Send { to, request: Request::Get { object: self.object, index } });
        }
        outputs
    }

    /// Fragments being sent.
    fn under_way(&self) -> BTreeSet<u8> {
        let offers = self.holders.values().flat_map(|holder| &holder.offers);
        offers.filter(|(_, offer)| offer.getting.is_some()).map(|(index, _)| *index).collect()
    }

    /// The offer to take up: of a fragment neither found nor being sent, from the holder asked least often, then of the lowest index, since the
    /// first fragments are the object itself, then in the order of the candidates.
    fn next_ask(&self) -> Option<(NodeId, u8)> {
        let under_way = self.under_way();
        let is_wanted =
            |index: u8, offer: &Offer| offer.rests_until.is_none() && !self.found.contains_key(&index) && !under_way.contains(&index);
        let mut best = None;
        for (place, id) in self.order.iter().enumerate() {
            let offers = &self.holders[id].offers;
            let load: u32 = offers.values().map(|offer| u32::from(offer.asked)).sum();
            let wanted = offers.iter().filter(|(index, offer)| is_wanted(**index, offer));
            best = best.into_iter().chain(wanted.map(|(index, _)| (load, *index, place, *id))).min();
        }
        best.map(|(_, index, _, id)| (id, index))
    }

    /// The end, if this is it: enough found, or nothing left to wait for.
    fn end(&mut self) -> Option<Output> {
        if self.is_done {
            return None;
        }
        let needed = self.manifest.as_ref().map(|manifest| usize::from(manifest.profile().data()));
        if needed.is_some_and(|needed| self.found.len() >= needed) {
            self.is_done = true;
            return Some(Output::Done(self.rebuild()));
        }
        if self.deadline().is_some() {
            return None;
        }
        self.is_done = true;
        let failures = self.holders.iter().filter_map(|(id, holder)| Some((*id, holder.last_failure.clone()?))).collect();
        let (object, found, asked) = (self.object, self.found.len(), self.holders.len());
        let error = needed.map_or_else(
            || FetchError::NoManifest { object, asked, failures: BTreeMap::clone(&failures) },
            |needed| FetchError::TooFew { object, found, needed, failures: BTreeMap::clone(&failures) },
        );
        Some(Output::Done(Err(error)))
    }

    fn rebuild(&mut self) -> Result<Fetched, FetchError> {
        let manifest = self.manifest.clone().expect("fragments were verified against it");
        let fragments: Vec<_> = std::mem::take(&mut self.found).into_values().collect();
        let bytes = erasure::reconstruct(&manifest, &fragments).map_err(|error| match Proof::find(&manifest, &fragments) {
            Ok(Some(proof)) => FetchError::Lied { error, proof: Box::new(proof) },
            _ => error.into(),
        })?;
        Ok(Fetched { manifest, bytes, received: std::mem::take(&mut self.received) })
    }
}

#[cfg(test)]
mod tests;
