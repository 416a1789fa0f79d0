//! What this node has done about a case that it means to open. The leaf is drawn once and on the disk before a bond is attached, so that a call that failed, or a process that was killed, asks for the
//! same leaf again: the chain has one case of a name, and the outbox one transaction of a key. That it is open is written down after the receipt.
//!
//! A call that failed is made again [`FIRST_BLOCKS`] blocks later, then after twice as many each time, [`LAST_BLOCKS`] at most, until the commitment is of no use: some 170 times in four days of two-second
//! blocks. 32 bytes a case, dropped with the commitment's life.

use anyhow::Context as _;
use chain_bridge::{
    case::Question,
    chain::error::ChainError,
    client::{case::KeptCase, send::Sent},
};
use storage::store::Records;
use types::{
    audit::AuditCommit,
    encoding::{DecodeError, Reader, Writer},
};

use super::super::number;

/// Cases that this node means to open or has opened: node and block of the commitment.
const OPENED: &str = "audit-cases";
/// Blocks after a first call that failed.
const FIRST_BLOCKS: u64 = 4;
/// Most blocks between two calls: half an hour of two-second blocks.
const LAST_BLOCKS: u64 = 1_024;
/// Words about cases looked at when old ones are dropped.
const SCAN: usize = 256;

/// How a case stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// To be asked for: which leaf, how often it was tried, and the block from which it is tried again.
    Meant { part: u32, tries: u8, from: u64 },
    /// The chain has or had it, or takes it no more.
    Over,
}

impl Opening {
    fn encode(self) -> Vec<u8> {
        match self {
            Self::Meant { part, tries, from } => Writer::new().u8(0).u32(part).u8(tries).u64(from).finish(),
            Self::Over => vec![1],
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let opening = match r.u8("whether a case is over")? {
            0 => Self::Meant { part: r.u32("part")?, tries: r.u8("tries")?, from: r.u64("from")? },
            1 => Self::Over,
            got => return Err(DecodeError::Value { field: "whether a case is over", got: got.into(), expected: "0 or 1" }),
        };
        r.finish()?;
        Ok(opening)
    }

    fn of(records: &Records, commit: &AuditCommit) -> anyhow::Result<Option<Self>> {
        let kept = records.get(OPENED, &key(commit))?;
        kept.map(|bytes| Self::decode(&bytes).context("what this node did about a slash case")).transpose()
    }
}

fn key(commit: &AuditCommit) -> Vec<u8> {
    Writer::new().address(commit.node).u64(commit.block).finish()
}

/// The outbox's key of a case: of one commitment a case is opened once.
pub(super) fn call_key(question: &Question) -> String {
    let AuditCommit { epoch, block, .. } = question.commit.document;
    format!("open slash case/{}/{}/{block}", question.asked().id(), number(epoch))
}

/// Whether it is time to put a commitment's case before the chain.
pub(super) fn is_due(records: &Records, commit: &AuditCommit, tip: u64) -> anyhow::Result<bool> {
    Ok(match Opening::of(records, commit)? {
        None => true,
        Some(Opening::Meant { from, .. }) => tip >= from,
        Some(Opening::Over) => false,
    })
}

/// Writes down that a case is about to be asked for, by the question for the leaf that was drawn before, or for one that is drawn now; nothing if there is nothing to ask for any more.
pub(super) fn mean(
    records: &Records,
    commit: &AuditCommit,
    tip: u64,
    question: impl FnOnce(Option<u32>) -> anyhow::Result<Question>,
) -> anyhow::Result<Option<Question>> {
    let (drawn, tries) = match Opening::of(records, commit)? {
        None => (None, 0),
        Some(Opening::Meant { part, tries, .. }) => (Some(part), tries),
        Some(Opening::Over) => return Ok(None),
    };
    match question(drawn) {
        Ok(question) => {
            let from = tip.saturating_add(FIRST_BLOCKS.saturating_mul(1 << tries.min(16)).min(LAST_BLOCKS));
            let meant = Opening::Meant { part: question.part, tries: tries.saturating_add(1), from };
            records.put(OPENED, &key(commit), &meant.encode())?;
            Ok(Some(question))
        }
        Err(error) => {
            tracing::info!(node = %commit.node, block = commit.block, error = format!("{error:#}"), "there is nothing left to open a slash case with");
            records.put(OPENED, &key(commit), &Opening::Over.encode())?;
            Ok(None)
        }
    }
}

/// What came of asking the chain.
#[derive(Debug)]
pub(super) enum Came {
    /// The case is open, in this block.
    Opened(u64),
    /// The chain has or had it already: by this node before it was killed, or by somebody else.
    Known,
    /// It is refused for good.
    Refused(ChainError),
    /// It may be open, or not: it is asked for again.
    Failed(ChainError),
}

impl Came {
    /// Nothing has to be sent, if the chain's word on the case says so.
    pub(super) fn before(kept: &KeptCase, commit: &AuditCommit) -> Option<Self> {
        kept.covers(commit.block).then_some(Self::Known)
    }

    /// What the answer to the call says.
    pub(super) fn of(sent: Result<Sent, ChainError>) -> Self {
        match sent {
            Ok(sent) => Self::Opened(sent.block.number),
            Err(error) => match error.contract_error() {
                Some("KnownCase") => Self::Known,
                // Others may turn out otherwise: a node that stakes again, an endpoint that is behind.
                Some("TooOld" | "ConvictedSince") => Self::Refused(error),
                _ => Self::Failed(error),
            },
        }
    }
}

/// Writes down what came of it, after the receipt.
pub(super) fn note(records: &Records, commit: &AuditCommit, came: &Came) -> anyhow::Result<()> {
    match came {
        Came::Opened(_) | Came::Known | Came::Refused(_) => Ok(records.put(OPENED, &key(commit), &Opening::Over.encode())?),
        Came::Failed(_) => Ok(()),
    }
}

/// Forgets what commitments of before `live_from` came to: they open no case any more.
pub(super) fn forget_old(records: &Records, live_from: u64) -> anyhow::Result<()> {
    for (key, _) in records.scan(OPENED, &[], SCAN)? {
        let block = key.last_chunk().map(|block| u64::from_be_bytes(*block)).context("a slash case without a block")?;
        if block < live_from {
            records.remove(OPENED, &key)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use storage::store::{Config, Store};
    use types::{
        audit::HeldFragment,
        id::{Address, AssetId, BlobId, Hash32},
        key::{Signed, Signed65},
        merkle::Tree,
        time::BlockRef,
    };

    use super::*;

    const BLOCK: u64 = 100;

    fn commit(block: u64) -> AuditCommit {
        let held = held();
        AuditCommit { node: Address([5; 20]), epoch: 3, holdings: Tree::over([held.leaf().as_slice()]).root(), ranges: 2, block }
    }

    fn held() -> HeldFragment {
        HeldFragment { object: BlobId([4; 32]), fragment: 2, fragments: 5, bytes: 20_000, root: Hash32([6; 32]) }
    }

    fn question(commit: AuditCommit, part: u32) -> anyhow::Result<Question> {
        Ok(Question::new(Signed { document: commit, signature: Signed65([1; 65]) }, &[held()], 0, (AssetId(1), 0), part)?)
    }

    /// How a call ends.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum End {
        Included,
        /// It gets into a block, and nobody says so.
        Unheard,
        /// It never leaves.
        Lost,
        Reverts(&'static str),
    }

    /// `AuditCase` as far as opening goes, with the outbox before it.
    #[derive(Default)]
    struct Chain {
        cases: BTreeMap<Hash32, KeptCase>,
        bonds: u32,
        calls: u32,
    }

    impl Chain {
        fn kept(&self, question: &Question) -> KeptCase {
            let none = KeptCase { opener: Address::ZERO, deadline: 0, signed_at: 0, ended_at: None };
            self.cases.get(&question.asked().id()).copied().unwrap_or(none)
        }

        fn open(&mut self, question: &Question, end: End) -> Result<Sent, ChainError> {
            let (what, block) = ("open slash case".to_owned(), BlockRef { number: BLOCK + 1, hash: Hash32::ZERO });
            let down = || ChainError::Down { url: "here".to_owned(), why: "no answer".to_owned() };
            let refused = |error: &str| ChainError::Reverted { what, reason: error.to_owned(), error: Some(error.to_owned()) };
            self.calls += 1;
            match end {
                End::Reverts(error) => return Err(refused(error)),
                End::Lost => return Err(down()),
                _ if self.kept(question).covers(question.commit.document.block) => return Err(refused("KnownCase")),
                End::Included | End::Unheard => {}
            }
            self.bonds += 1;
            let case = KeptCase { opener: Address([9; 20]), deadline: 9, signed_at: question.commit.document.block, ended_at: None };
            self.cases.insert(question.asked().id(), case);
            if end == End::Unheard { Err(down()) } else { Ok(Sent::for_tests(Hash32::ZERO, block, 1, 1)) }
        }
    }

    /// What the shell does at a block; the leaf that was asked for, if any.
    fn step(records: &Records, chain: &mut Chain, tip: u64, draw: u32, end: End) -> Option<u32> {
        let commit = commit(BLOCK);
        if !is_due(records, &commit, tip).unwrap() {
            return None;
        }
        let question = mean(records, &commit, tip, |part| question(commit, part.unwrap_or(draw))).unwrap()?;
        let came = Came::before(&chain.kept(&question), &commit).unwrap_or_else(|| Came::of(chain.open(&question, end)));
        note(records, &commit, &came).unwrap();
        Some(question.part)
    }

    fn records(folder: &std::path::Path) -> Records {
        Store::open(folder, Config::default()).unwrap().records()
    }

    #[test]
    fn a_call_that_failed_is_made_again_for_the_same_leaf_at_growing_distance_until_there_is_a_receipt() {
        let folder = tempfile::tempdir().unwrap();
        let (records, mut chain) = (records(folder.path()), Chain::default());
        let tried: Vec<(u64, u32)> = (BLOCK..BLOCK + 60)
            .filter_map(|tip| Some((tip, step(&records, &mut chain, tip, u32::try_from(tip % 7).unwrap(), End::Lost)?)))
            .collect();
        let part = u32::try_from(BLOCK % 7).unwrap();
        assert_eq!(tried, [100, 104, 112, 128].map(|tip| (tip, part)), "the leaf is drawn once");
        assert_eq!((step(&records, &mut chain, 160, 0, End::Included), chain.bonds), (Some(part), 1));
        for tip in 161..5_000 {
            assert_eq!(step(&records, &mut chain, tip, 0, End::Included), None);
        }
        assert_eq!((chain.calls, chain.bonds), (5, 1));
    }

    #[test]
    fn no_second_bond_is_attached_whatever_was_heard_of_the_first_call() {
        for killed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut chain = Chain::default();
            let first = records(folder.path());
            if killed {
                // Between the call and the word about it.
                let commit = commit(BLOCK);
                let question = mean(&first, &commit, BLOCK, |_| question(commit, 3)).unwrap().unwrap();
                chain.open(&question, End::Included).unwrap();
            } else {
                assert_eq!(step(&first, &mut chain, BLOCK, 3, End::Unheard), Some(3));
            }
            drop(first);
            let again = records(folder.path());
            let asked: Vec<u32> = (BLOCK + 1..BLOCK + 2_000).filter_map(|tip| step(&again, &mut chain, tip, 5, End::Included)).collect();
            assert_eq!((asked, chain.calls, chain.bonds), (vec![3], 1, 1), "killed: {killed}");
        }
    }

    #[test]
    fn what_the_chain_refuses_for_good_is_not_asked_for_again_and_what_it_may_take_later_is() {
        for (error, is_final) in
            [("TooOld", true), ("ConvictedSince", true), ("KnownCase", true), ("NothingAtStake", false), ("SignedLater", false)]
        {
            let folder = tempfile::tempdir().unwrap();
            let (records, mut chain) = (records(folder.path()), Chain::default());
            assert_eq!(step(&records, &mut chain, BLOCK, 3, End::Reverts(error)), Some(3));
            let again = step(&records, &mut chain, BLOCK + FIRST_BLOCKS, 3, End::Included);
            assert_eq!(again.is_none(), is_final, "{error}");
            assert_eq!(chain.bonds, u32::from(!is_final), "{error}");
        }
    }

    #[test]
    fn a_case_with_nothing_to_ask_for_is_over_and_old_ones_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(folder.path());
        let erased = mean(&records, &commit(BLOCK), BLOCK, |_| anyhow::bail!("no contribution names the object any more"));
        assert!(erased.unwrap().is_none() && !is_due(&records, &commit(BLOCK), u64::MAX).unwrap());
        mean(&records, &commit(BLOCK + 9), BLOCK, |_| question(commit(BLOCK + 9), 0)).unwrap().unwrap();
        forget_old(&records, BLOCK + 1).unwrap();
        let left: Vec<_> = [BLOCK, BLOCK + 9].map(|block| Opening::of(&records, &commit(block)).unwrap()).to_vec();
        assert_eq!(left, [None, Some(Opening::Meant { part: 0, tries: 1, from: BLOCK + FIRST_BLOCKS })]);
        // As the version before wrote that it had opened one.
        assert_eq!(Opening::decode(&[1]).unwrap(), Opening::Over);
        assert!(Opening::decode(&[2]).is_err() && Opening::decode(&[0, 1]).is_err() && Opening::decode(&[1, 1]).is_err());
    }

    #[test]
    fn calls_wait_for_half_an_hour_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let (records, mut chain) = (records(folder.path()), Chain::default());
        let tried: Vec<u64> = (0..20_000).filter(|age| step(&records, &mut chain, BLOCK + age, 0, End::Lost).is_some()).collect();
        let longest = tried.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!((longest, tried.len()), (Some(LAST_BLOCKS), 27));
    }
}
