//! Evidence of audits that failed, in the folder `evidence` of the auditor's data folder: enough for anyone to judge the answer again, and for a slash case.
//!
//! The folder is bounded. When it is full what no case can be opened with any more goes (too old, of who was convicted since, of who has nothing at stake), then what opens none or is of a node of which there is
//! later evidence, since one conviction is for all that was signed before it, then the oldest. Files are 660 KB at most; they are read again only when the folder is full.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use chain_bridge::{case::is_usable, registry::State};
use serde::{Deserialize, Serialize};
use storage::proto::audit::{Answer, Holdings, Seed, message::SignedAnswer};
use types::{
    audit::{AuditCommit, AuditVerdict},
    id::{Address, Hash32},
    key::Signed,
};

use super::{Auditing, auditor::Assignment};
use crate::{
    data::{read_bounded, write_atomic},
    unshown::{FILE_MAX, Unshown},
};

/// Answers of failed audits that are kept as evidence: some weeks of a node that fails all it audits, three a day.
const EVIDENCE_MAX: usize = 256;

/// What an auditor keeps of an audit that failed: enough for anyone to judge it again.
#[derive(Debug, Serialize)]
struct Evidence<'a> {
    commit: Option<Signed<AuditCommit>>,
    /// The latest block when it was kept.
    kept_at: u64,
    verdict: AuditVerdict,
    beacon: Hash32,
    nonce: Hash32,
    auditors: &'a [Address],
    /// The answer, hex, and its node's signature over it.
    answer: String,
    signature: String,
    /// What is wrong with it, in words.
    fault: String,
    /// What the node did not show, if the answer tells: a slash case is opened with it.
    unshown: Option<Unshown>,
}

/// What an answer does not show, in words and as a slash case needs it.
fn fault(of: &Assignment, nonce: Hash32, answer: &SignedAnswer, holdings: Option<&Holdings>) -> (String, Option<Unshown>) {
    let Some(holdings) = holdings else { return ("it showed no list of what it holds".to_owned(), None) };
    let seed = Seed { beacon: of.beacon, node: of.node, epoch: of.epoch, holdings: holdings.root(), nonce };
    let fault = match Answer::decode(&answer.bytes).map(|answer| answer.check(&seed, holdings).1) {
        Ok(Err(fault)) => fault,
        Ok(Ok(())) => return ("it shows the whole walk".to_owned(), None),
        Err(error) => return (error.to_string(), None),
    };
    let unshown = fault.unshown().zip(of.commit.clone()).and_then(|((object, fragment, range), commit)| {
        let place = holdings.entries().iter().position(|held| (held.object, held.fragment) == (object, fragment))?;
        Some(Unshown { commit, held: holdings.entries()[place].held(), opening: holdings.open(place)?, range })
    });
    (fault.to_string(), unshown)
}

/// A file of the folder, as far as its place there goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filed {
    path: PathBuf,
    /// Of whom; nothing if it cannot be read.
    node: Option<Address>,
    /// The block of the commitment, or in which it was kept.
    block: u64,
    /// Whether a case can be opened with it.
    opens_case: bool,
}

/// A file of evidence, as far as its place in the folder goes.
#[derive(Debug, Deserialize)]
struct Aged {
    commit: Option<Signed<AuditCommit>>,
    #[serde(default)]
    kept_at: u64,
    verdict: AuditVerdict,
    #[serde(default)]
    unshown: Option<Unshown>,
}

impl Filed {
    /// What cannot be read is of no use.
    fn read(path: PathBuf) -> Self {
        let read = read_bounded(&path, FILE_MAX).ok().and_then(|bytes| serde_json::from_slice::<Aged>(&bytes).ok());
        match read {
            Some(Aged { commit, kept_at, verdict, unshown }) => {
                let block = commit.map_or(kept_at, |commit| commit.document.block);
                Self { path, node: Some(verdict.node), block, opens_case: unshown.is_some() }
            }
            None => Self { path, node: None, block: 0, opens_case: false },
        }
    }
}

/// Whether a file is young, of after the node's last conviction, and of a node that has something to lose.
fn is_of_use(filed: &Filed, state: &State, tip: u64, age_blocks: u64) -> bool {
    let Some(node) = filed.node else { return false };
    let is_staked = state.operator(node).is_some_and(|operator| operator.active.0 > 0 || operator.unbonding.0 > 0);
    let is_convicted = state.convicted_at(node).is_some_and(|convicted| convicted >= filed.block);
    is_staked && !is_convicted && is_usable(filed.block, tip.max(filed.block), age_blocks)
}

/// What goes so that there is room for one more among `most`: all that is of no use, else as many as need be, the oldest of the least use first.
fn outlived(files: &[Filed], most: usize, is_of_use: impl Fn(&Filed) -> bool) -> Vec<&Filed> {
    let excess = (files.len() + 1).saturating_sub(most);
    if excess == 0 {
        return Vec::new();
    }
    let is_later = |other: &Filed, filed: &Filed| other.node == filed.node && (other.block, &other.path) > (filed.block, &filed.path);
    let is_superseded = |filed: &Filed| files.iter().any(|other| other.opens_case && is_later(other, filed) && is_of_use(other));
    let rank = |filed: &Filed| {
        if !is_of_use(filed) {
            0_u8
        } else if !filed.opens_case || is_superseded(filed) {
            1
        } else {
            2
        }
    };
    let mut ranked: Vec<_> = files.iter().map(|filed| (rank(filed), filed.block, filed)).collect();
    ranked.sort_by(|a, b| (a.0, a.1, &a.2.path).cmp(&(b.0, b.1, &b.2.path)));
    let useless = ranked.iter().filter(|(rank, ..)| *rank == 0).count();
    ranked.truncate(useless.max(excess));
    ranked.into_iter().map(|(.., filed)| filed).collect()
}

/// Drops files of the folder so that there is room for one more. Others than those of [`keep_evidence`] are left alone.
fn make_room(folder: &Path, most: usize, is_of_use: impl Fn(&Filed) -> bool) -> anyhow::Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_evidence =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("audit-") && name.ends_with(".json"));
        if is_evidence {
            paths.push(path);
        }
    }
    if paths.len() < most {
        return Ok(());
    }
    let files: Vec<Filed> = paths.into_iter().map(Filed::read).collect();
    for filed in outlived(&files, most, is_of_use) {
        tracing::info!(path = %filed.path.display(), block = filed.block, "old evidence of a failed audit makes room");
        match fs::remove_file(&filed.path) {
            // Another audit that failed has made room too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.with_context(|| filed.path.display().to_string())?,
        }
    }
    Ok(())
}

/// Keeps what convicts a node by an answer, in the folder `evidence`.
pub(super) async fn keep_evidence(
    auditing: &Auditing,
    of: &Assignment,
    verdict: &AuditVerdict,
    nonce: Hash32,
    answer: &SignedAnswer,
    holdings: Option<&Holdings>,
) -> anyhow::Result<()> {
    let folder = auditing.data.path().join("evidence");
    fs::create_dir_all(&folder)?;
    let keeping = &auditing.keeping;
    let (tip, state, age_blocks) =
        (keeping.snapshots.borrow().tip.number, keeping.state(), keeping.chain.deployment().config.case_age_blocks);
    let full = folder.clone();
    // Files of a full folder are read: a second of the disk at most.
    tokio::task::spawn_blocking(move || make_room(&full, EVIDENCE_MAX, |filed| is_of_use(filed, &state, tip, age_blocks))).await??;
    let (fault, unshown) = fault(of, nonce, answer, holdings);
    let evidence = Evidence {
        commit: of.commit.clone(),
        kept_at: tip,
        verdict: *verdict,
        beacon: of.beacon,
        nonce,
        auditors: &of.auditors,
        answer: hex::encode(&answer.bytes),
        signature: hex::encode(answer.signature),
        fault,
        unshown,
    };
    let path =
        folder.join(format!("audit-{}{}-{}.json", if super::is_own(of.epoch) { "" } else { "rent-" }, super::number(of.epoch), of.node));
    Ok(write_atomic(&path, &serde_json::to_vec_pretty(&evidence)?, 0o644)?)
}

#[cfg(test)]
mod tests {
    use chain_bridge::{
        case::Asked,
        registry::{Event, Logged},
    };
    use types::{
        amount::Amount,
        audit::{HeldFragment, Verdict},
        id::{AssetId, BlobId, NodeId},
        key::Signed65,
        merkle::Opening,
        time::BlockRef,
    };

    use super::*;

    fn filed(name: &str, node: u8, block: u64, opens_case: bool) -> Filed {
        Filed { path: PathBuf::from(name), node: Some(Address([node; 20])), block, opens_case }
    }

    /// The names of what goes, of which nothing from before block 100 or of node 9 is of use.
    fn goes(files: &[Filed], most: usize) -> Vec<String> {
        let is_of_use = |filed: &Filed| filed.node.is_some_and(|node| node != Address([9; 20])) && filed.block >= 100;
        outlived(files, most, is_of_use).into_iter().map(|filed| filed.path.display().to_string()).collect()
    }

    #[test]
    fn a_full_folder_gives_up_what_is_of_no_use_then_what_is_of_little_then_the_oldest() {
        let files = [
            filed("young", 1, 300, true),
            filed("before it", 1, 200, true),
            filed("opens none", 2, 250, false),
            filed("oldest", 3, 110, true),
            filed("later one opens none", 3, 400, false),
            filed("too old", 4, 99, true),
            filed("convicted", 9, 500, true),
            Filed { node: None, ..filed("torn", 0, 0, false) },
        ];
        assert!(goes(&files, 9).is_empty(), "there is room for one more");
        assert_eq!(goes(&files, 8), ["torn", "too old", "convicted"], "all that is of no use, at once");
        assert_eq!(goes(&files, 6), ["torn", "too old", "convicted"]);
        assert_eq!(goes(&files, 5), ["torn", "too old", "convicted", "before it"]);
        assert_eq!(goes(&files, 3)[3..], ["before it", "opens none", "later one opens none"]);
        assert_eq!(goes(&files, 2)[6..], ["oldest"]);
        assert_eq!(goes(&files[..5], 5), ["before it"], "nothing is of no use");
    }

    #[test]
    fn of_one_node_and_block_one_file_stays() {
        let files = [filed("a", 1, 300, true), filed("b", 1, 300, true)];
        assert_eq!((goes(&files, 2), goes(&files, 1)), (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
    }

    /// A file as [`keep_evidence`] writes it.
    fn write(folder: &Path, node: u8, block: u64) -> PathBuf {
        let (node, epoch) = (Address([node; 20]), block);
        let document = AuditCommit { node, epoch, holdings: Hash32::ZERO, ranges: 1, block };
        let commit = Signed { document, signature: Signed65([1; 65]) };
        let held = HeldFragment { object: BlobId([3; 32]), fragment: 1, fragments: 5, bytes: 9, root: Hash32([4; 32]) };
        let opening = Opening { leaves: 1, byte_length: 70, index: 0, siblings: vec![] };
        let verdict = AuditVerdict {
            auditor: Address([7; 20]),
            node,
            epoch,
            holdings: Hash32::ZERO,
            nonce: Hash32::ZERO,
            verdict: Verdict::Failed,
            right: 0,
            digest: Hash32::ZERO,
            round_trip_us: 1,
            elapsed_us: 1,
        };
        let evidence = Evidence {
            commit: Some(commit.clone()),
            kept_at: block + 5,
            verdict,
            beacon: Hash32::ZERO,
            nonce: Hash32::ZERO,
            auditors: &[],
            answer: String::new(),
            signature: String::new(),
            fault: String::new(),
            unshown: Some(Unshown { commit, held, opening, range: 0 }),
        };
        let path = folder.join(format!("audit-{epoch}-{node}.json"));
        write_atomic(&path, &serde_json::to_vec_pretty(&evidence).unwrap(), 0o644).unwrap();
        path
    }

    #[test]
    fn the_folder_never_holds_more_and_what_can_still_be_used_stays() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("slash-x.json");
        fs::write(&other, b"{}").unwrap();
        for block in 0..40_u64 {
            let node = u8::try_from(block % 5).unwrap();
            make_room(folder.path(), 8, |filed| is_usable(filed.block, block, 20)).unwrap();
            let path = write(folder.path(), node, block);
            let read = Filed::read(path.clone());
            assert_eq!(read, Filed { path, node: Some(Address([node; 20])), block, opens_case: true });
            let kept = fs::read_dir(folder.path()).unwrap().count() - 1;
            assert!(kept <= 8, "{kept} after block {block}");
            // The latest of each of the five nodes is there.
            for back in 0..(block + 1).min(5) {
                let of = block - back;
                let name = format!("audit-{of}-{}.json", Address([u8::try_from(of % 5).unwrap(); 20]));
                assert!(folder.path().join(&name).exists(), "{name} after block {block}");
            }
        }
        assert!(other.exists(), "other files are left alone");
    }

    #[test]
    fn evidence_is_of_use_while_young_against_whom_has_stake_and_was_not_convicted_since() {
        let node = Address([1; 20]);
        let mut state = State::default();
        let mut log = 0;
        let mut apply = |state: &mut State, block, event| {
            log += 1;
            let block_of = BlockRef { number: block, hash: Hash32::ZERO };
            state.apply(&Logged { block: block_of, log, transaction: Hash32::ZERO, time: block, event }).unwrap();
        };
        let of_use = |state: &State, signed_at, tip| is_of_use(&filed("a", 1, signed_at, true), state, tip, 50);
        assert!(!of_use(&state, 100, 110), "nobody has that account");
        let stake = Amount(5);
        apply(&mut state, 1, Event::NodeRegistered { account: node, node: NodeId([1; 32]), incarnation: 1, payout: node, stake });
        assert_eq!([100, 149, 150].map(|tip| of_use(&state, 100, tip)), [true, true, false]);
        assert!(of_use(&state, 100, 90), "this node's chain is behind");
        let asked = Asked { node, datanet: AssetId(1), contribution: 0, root: Hash32::ZERO, bytes: 9, part: 0 };
        let (id, opener, object) = (asked.id(), Address([9; 20]), BlobId([4; 32]));
        let opened = Event::CaseOpened { id, opener, asked, object, fragment: 1, fragments: 5, signed_at: 90, deadline: 99 };
        apply(&mut state, 110, opened);
        assert!(of_use(&state, 100, 110));
        apply(&mut state, 112, Event::CaseClosed { id, node, is_convicted: true });
        assert_eq!([100, 112, 113].map(|signed_at| of_use(&state, signed_at, 113)), [false, false, true]);
        apply(&mut state, 114, Event::StakeChanged { account: node, active: Amount::ZERO, unbonding: stake, unbonded_at: 1 });
        assert!(of_use(&state, 113, 114), "it can still be slashed");
        apply(&mut state, 115, Event::StakeChanged { account: node, active: Amount::ZERO, unbonding: Amount::ZERO, unbonded_at: 0 });
        assert!(!of_use(&state, 113, 115), "it is gone");
    }
}
