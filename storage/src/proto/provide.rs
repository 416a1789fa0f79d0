//! The serving side: how much at once, from whom, how fast, and what may be kept.
//!
//! [`Admission`] counts open requests and their bytes before anything is read from disk; [`Turns`] says which of the open reads sends its next piece,
//! so that peers share what there is whatever number of streams each has open; [`plan_put`] decides on a fragment sent to be kept, with every
//! byte of it checked. None touches the disk: the caller carries out what they return.
//!
//! A read holds one piece of [`PIECE_BYTES`] in memory, from its turn until the peer's window has taken it: a peer that reads nothing costs that much
//! and no turn of another.

mod room;
mod turns;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::id::{BlobId, NodeId};

pub use self::{
    room::Room,
    turns::{PACE_BURST_MIN, PEERS_MAX, Pace, Turns},
};
use super::{
    message::{DETAIL_BYTES_MAX, Refusal, Request},
    placement::Misplaced,
    range::{BLOCK_GROUPS, GROUP_BYTES},
};
use crate::erasure::{FragmentRoot, ObjectManifest, VerifiedFragment};

/// Groups sent in one turn.
pub const PIECE_GROUPS: u32 = BLOCK_GROUPS;
/// Most bytes sent in one turn: the groups, and the pairs before each.
pub const PIECE_BYTES: usize = PIECE_GROUPS as usize * (GROUP_BYTES + 12 * 64);

/// How much is served at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Open requests of one peer. 16: a peer needs one fragment per object and fetches few objects at a time; more streams bring it no more bytes.
    pub requests_per_peer: usize,
    /// Open requests of all peers. 64: with [`Config::bytes`] the memory that serving may take.
    pub requests: usize,
    /// Bytes in memory for all open requests. 256 MiB: a dozen of the largest fragments being put, or a thousand reads.
    pub bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { requests_per_peer: 16, requests: 64, bytes: 256 << 20 }
    }
}

/// Counts what is being served. It has at most as many entries as there are open requests.
#[derive(Debug)]
pub struct Admission {
    config: Config,
    open: BTreeMap<NodeId, usize>,
    requests: usize,
    bytes: usize,
}

/// Leave to serve one request; give it back with [`Admission::close`].
#[derive(Debug)]
#[must_use = "give it back with Admission::close, or its place stays taken"]
pub struct Ticket {
    peer: NodeId,
    bytes: usize,
}

impl Admission {
    /// Nothing is open.
    pub const fn new(config: Config) -> Self {
        Self { config, open: BTreeMap::new(), requests: 0, bytes: 0 }
    }

    /// Takes a place for `request`.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if the peer, or all peers together, have as much open as may be.
    pub fn open(&mut self, peer: NodeId, request: &Request) -> Result<Ticket, Refusal> {
        let bytes = match request {
            Request::Put { fragment, .. } => fragment.len(),
            Request::Read { .. } => PIECE_BYTES,
            Request::Locate { .. } => 0,
        };
        let of_peer = self.open.get(&peer).copied().unwrap_or(0);
        let Config { requests_per_peer, requests, bytes: bytes_max } = self.config;
        if of_peer >= requests_per_peer || self.requests >= requests || self.bytes.saturating_add(bytes) > bytes_max {
            return Err(Refusal::Busy);
        }
        self.open.insert(peer, of_peer + 1);
        (self.requests, self.bytes) = (self.requests + 1, self.bytes + bytes);
        Ok(Ticket { peer, bytes })
    }

    /// Gives a place back.
    pub fn close(&mut self, Ticket { peer, bytes }: Ticket) {
        (self.requests, self.bytes) = (self.requests - 1, self.bytes - bytes);
        match self.open.get_mut(&peer) {
            Some(of_peer) if *of_peer > 1 => *of_peer -= 1,
            _ => drop(self.open.remove(&peer)),
        }
    }

    /// Requests being served.
    pub const fn open_requests(&self) -> usize {
        self.requests
    }
}

/// What the node knows when a fragment is sent to it.
#[derive(Debug, Clone, Copy)]
pub struct PutFacts {
    /// Bytes the store may still take.
    pub free_bytes: u64,
    /// The fragment of the object that placement gives this node, if any; nothing if the object is not registered.
    pub assigned: Option<u8>,
}

/// A fragment to keep, and the manifest that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutPlan {
    /// The manifest.
    pub manifest: ObjectManifest,
    /// The fragment, hashed.
    pub fragment: VerifiedFragment,
}

/// Decides whether to keep a fragment. `facts` looks up what the node knows of an object, once its id is known from the manifest.
///
/// # Errors
/// [`Refusal`] to send back: not a manifest, not this node's fragment, not the bytes it names, or no room. The order is cheapest first.
pub fn plan_put(
    manifest: &[u8],
    index: u8,
    fragment: Vec<u8>,
    facts: impl FnOnce(&ObjectManifest) -> PutFacts,
) -> Result<PutPlan, Refusal> {
    let manifest = ObjectManifest::decode(manifest).map_err(|error| invalid(&error))?;
    let PutFacts { free_bytes: free, assigned } = facts(&manifest);
    if assigned != Some(index) {
        return Err(Refusal::NotHolder { object: manifest.id(), index });
    }
    let need = u64::try_from(fragment.len()).unwrap_or(u64::MAX);
    if need > free {
        return Err(Refusal::Full { free, need });
    }
    let fragment = manifest.verify(index, fragment).map_err(|error| invalid(&error))?;
    // Readers go by BLAKE3; whoever holds it will sign for the keccak root, and loses its stake where no bytes lead to that.
    let named = manifest.fragments().get(usize::from(index)).map(|root| root.keccak);
    if named != Some(FragmentRoot::of(fragment.bytes()).keccak) {
        return Err(Refusal::Invalid { detail: format!("the manifest names another keccak root than that of fragment {index}") });
    }
    Ok(PutPlan { manifest, fragment })
}

fn invalid(error: &impl std::error::Error) -> Refusal {
    Refusal::Invalid { detail: detail(error) }
}

/// The refusal of holders that are not those of an object.
pub fn misplaced(object: BlobId, error: &Misplaced) -> Refusal {
    Refusal::Misplaced { object, detail: detail(error) }
}

fn detail(error: &impl std::error::Error) -> String {
    let mut detail = error.to_string();
    let end = (0..=DETAIL_BYTES_MAX.min(detail.len())).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
    detail.truncate(end);
    detail
}

#[cfg(test)]
mod tests {
    use types::id::Hash32;

    use super::*;
    use crate::{
        erasure::{Encoded, Profile, encode},
        proto::range::Run,
    };

    const PEER: NodeId = NodeId([1; 32]);
    const READ: Request = Request::Read { object: BlobId::ZERO, index: 0, run: Run { first: 0, count: 1 } };
    const LOCATE: Request = Request::Locate { object: BlobId::ZERO };

    fn object() -> Encoded {
        encode(&[[1; 100], [2; 100], [3; 100]].concat(), Hash32::ZERO, Profile::DEVNET).unwrap()
    }

    #[test]
    fn a_peer_all_peers_and_all_bytes_are_bounded_and_places_come_back() {
        let mut admission = Admission::new(Config { requests_per_peer: 2, requests: 3, bytes: 2 * PIECE_BYTES });
        let first = admission.open(PEER, &READ).unwrap();
        let second = admission.open(PEER, &LOCATE).unwrap();
        assert_eq!(admission.open(PEER, &LOCATE).unwrap_err(), Refusal::Busy, "the peer has two");
        let third = admission.open(NodeId([2; 32]), &READ).unwrap();
        assert_eq!(admission.open(NodeId([3; 32]), &LOCATE).unwrap_err(), Refusal::Busy, "three are open");
        admission.close(second);
        assert_eq!(admission.open(NodeId([3; 32]), &READ).unwrap_err(), Refusal::Busy, "no bytes are left");
        let fourth = admission.open(PEER, &LOCATE).unwrap();
        for ticket in [first, third, fourth] {
            admission.close(ticket);
        }
        assert_eq!((admission.open_requests(), admission.open.len(), admission.bytes), (0, 0, 0));
    }

    #[test]
    fn only_the_fragment_placed_here_and_only_its_bytes_are_kept() {
        let Encoded { manifest, fragments } = object();
        let bytes = manifest.encode();
        let facts = |free_bytes, assigned| move |_: &ObjectManifest| PutFacts { free_bytes, assigned };
        let plan = plan_put(&bytes, 2, fragments[2].clone(), facts(1_000, Some(2))).unwrap();
        assert_eq!((plan.fragment.index(), plan.manifest), (2, manifest.clone()));
        let refused =
            |index: u8, fragment: &[u8], free, assigned| plan_put(&bytes, index, fragment.to_vec(), facts(free, assigned)).unwrap_err();
        let object = manifest.id();
        assert_eq!(refused(2, &fragments[2], 1_000, Some(3)), Refusal::NotHolder { object, index: 2 });
        assert_eq!(refused(2, &fragments[2], 1_000, None), Refusal::NotHolder { object, index: 2 });
        assert_eq!(refused(2, &fragments[2], 99, Some(2)), Refusal::Full { free: 99, need: 100 });
        assert!(
            matches!(refused(2, &fragments[1], 1_000, Some(2)), Refusal::Invalid { detail } if detail.contains("fragment 2 of object"))
        );
        assert!(matches!(refused(9, &fragments[1], 1_000, Some(9)), Refusal::Invalid { detail } if detail.contains("none with index 9")));
        // The keccak root of fragment 2 is changed: 64 bytes for each, 32 of them BLAKE3.
        let mut lying = bytes.clone();
        let at = bytes.len() - 5 * 64 + 2 * 64 + 32;
        lying[at] ^= 1;
        let error = plan_put(&lying, 2, fragments[2].clone(), facts(1_000, Some(2))).unwrap_err();
        assert!(matches!(error, Refusal::Invalid { detail } if detail.contains("another keccak root than that of fragment 2")));
        assert!(plan_put(&lying, 1, fragments[1].clone(), facts(1_000, Some(1))).is_ok(), "the others' roots are true");
        let error = plan_put(b"x", 0, vec![], facts(1_000, Some(0))).unwrap_err();
        assert!(matches!(error, Refusal::Invalid { detail } if detail.contains("not an object manifest")));
    }
}
