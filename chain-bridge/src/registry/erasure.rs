//! Which contributions are to be erased, and what a request touches: the object and the text that no other contribution names, versions whose Datanets
//! held it when they were published, and weights that were declared as trained on it.
//!
//! A request counts from its place on the chain on: a version of a Datanet published after it holds the contribution no more, one published before it
//! keeps the contribution in its content and is *hit*. Whoever deletes bytes asks the finalized state, since a request that a reorganisation takes out
//! was none. About 200 bytes a request.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    manifest::AssetKind,
};

use super::{State, state::Accepted};

/// A request that a contribution be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// The Datanet.
    pub datanet: AssetId,
    /// The contribution's place in the order of acceptance.
    pub number: u64,
    /// Who asked: its contributor, or the Datanet's owner.
    pub by: Address,
    /// keccak("tributary/erasure/v1" || salt || reason).
    pub reason: Hash32,
    /// Manifest of its stored fragments.
    pub object: BlobId,
    /// Root of its text.
    pub text_root: Hash32,
    /// Digest of the gate's report, which may quote it.
    pub report: Hash32,
    /// Block and log index of the request.
    pub place: (u64, u32),
    /// Time of that block, seconds since 1970 by the sequencer.
    pub time: u64,
}

impl Erasure {
    /// Block of the request.
    pub const fn block(&self) -> u64 {
        self.place.0
    }
}

impl std::fmt::Display for Erasure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "contribution {} of Datanet {} was erased on request at block {}", self.number, self.datanet, self.block())
    }
}

/// All requests, and what is named by erased contributions: nothing where a contribution that stays names it too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Erasures {
    requests: BTreeMap<(AssetId, u64), Erasure>,
    objects: BTreeMap<BlobId, Option<(AssetId, u64)>>,
    texts: BTreeMap<Hash32, Option<(AssetId, u64)>>,
}

impl Erasures {
    /// Notes a request for `erased`, a contribution among `all`.
    pub(super) fn request<'a>(&mut self, erasure: Erasure, all: impl Iterator<Item = &'a Accepted> + Clone) {
        let key = (erasure.datanet, erasure.number);
        self.requests.entry(key).or_insert(erasure);
        let stays = |accepted: &&Accepted| !self.requests.contains_key(&(accepted.datanet, accepted.number));
        let is_object_named = all.clone().filter(stays).any(|accepted| accepted.object == erasure.object);
        let is_text_named = all.clone().filter(stays).any(|accepted| accepted.text_root == erasure.text_root);
        self.objects.insert(erasure.object, (!is_object_named).then_some(key));
        self.texts.insert(erasure.text_root, (!is_text_named).then_some(key));
    }

    /// A contribution that was accepted after a request may name the same bytes again, in another Datanet.
    pub(super) fn accepted(&mut self, object: BlobId, text_root: Hash32) {
        if let Some(named) = self.objects.get_mut(&object) {
            *named = None;
        }
        if let Some(named) = self.texts.get_mut(&text_root) {
            *named = None;
        }
    }
}

impl State {
    /// The request for a contribution, if there is one.
    pub fn erasure(&self, datanet: AssetId, number: u64) -> Option<&Erasure> {
        self.erasures.requests.get(&(datanet, number))
    }

    /// All requests, by Datanet and contribution.
    pub fn erasures(&self) -> impl Iterator<Item = &Erasure> {
        self.erasures.requests.values()
    }

    /// The request that an object fell to: every contribution that names it is erased.
    pub fn erased_object(&self, object: BlobId) -> Option<&Erasure> {
        self.erasures.requests.get(&(*self.erasures.objects.get(&object)?)?)
    }

    /// The request that a text fell to: every contribution that has it is erased.
    pub fn erased_text(&self, text_root: Hash32) -> Option<&Erasure> {
        self.erasures.requests.get(&(*self.erasures.texts.get(&text_root)?)?)
    }

    /// Objects that no contribution names any more, each with its request.
    pub fn erased_objects(&self) -> impl Iterator<Item = (BlobId, &Erasure)> {
        let fallen = self.erasures.objects.iter().filter_map(|(object, key)| Some((*object, (*key)?)));
        fallen.filter_map(|(object, key)| Some((object, self.erasures.requests.get(&key)?)))
    }

    /// Texts that no contribution has any more, each with its request.
    pub fn erased_texts(&self) -> impl Iterator<Item = (Hash32, &Erasure)> {
        let fallen = self.erasures.texts.iter().filter_map(|(text, key)| Some((*text, (*key)?)));
        fallen.filter_map(|(text, key)| Some((text, self.erasures.requests.get(&key)?)))
    }

    /// Contributions accepted before a version of a Datanet was published, and erased before it too: tombstones of its index, in priority order.
    pub fn tombstones_of(&self, version: AssetVersion) -> impl Iterator<Item = &Accepted> {
        let published = self.version(version).map_or((0, 0), |version| version.published);
        let before = self.contributions(version.asset).filter(move |contribution| contribution.accepted < published);
        before.filter(move |contribution| {
            self.erasure(contribution.datanet, contribution.number).is_some_and(|erasure| erasure.place < published)
        })
    }

    /// Requests that hit a version's index after it was published: of a Datanet the contributions it holds, else those of the Datanets it declares.
    /// Nobody builds such an index any more, or answers under it.
    pub fn erased_in_index(&self, version: AssetVersion) -> Vec<&Erasure> {
        let of = move |datanet: AssetVersion| {
            let held = self.contributions_of(datanet);
            held.filter_map(move |contribution| self.erasure(contribution.datanet, contribution.number))
        };
        match self.asset(version.asset).map(|asset| asset.kind) {
            None => Vec::new(),
            Some(AssetKind::Datanet) => of(version).collect(),
            Some(_) => {
                self.version(version).into_iter().flat_map(|published| &published.datanets).flat_map(|datanet| of(*datanet)).collect()
            }
        }
    }

    /// Requests that hit a version, its parents, or any version with the same weights as one of them: weights that were declared as trained on a
    /// text are marked under every number they are published by.
    pub fn erased_under(&self, version: AssetVersion) -> Vec<&Erasure> {
        if self.erasures.requests.is_empty() {
            return Vec::new();
        }
        let (mut found, mut seen, mut left) = (BTreeMap::new(), BTreeSet::new(), vec![version]);
        while let Some(next) = left.pop() {
            let Some(published) = self.version(next).filter(|_| seen.insert(next)) else { continue };
            found.extend(self.erased_in_index(next).into_iter().map(|erasure| ((erasure.datanet, erasure.number), erasure)));
            left.extend(&published.parents);
            let kind = self.asset(next.asset).map(|asset| asset.kind);
            if matches!(kind, Some(AssetKind::Base | AssetKind::Adapter)) {
                let same = self
                    .versions()
                    .filter(|(other, known)| known.content == published.content && self.asset(other.asset).map(|asset| asset.kind) == kind);
                left.extend(same.map(|(other, _)| other));
            }
        }
        found.into_values().collect()
    }
}
