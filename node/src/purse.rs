//! A client's own books: a nonce that only rises and lanes with what was promised on them.
//!
//! Several `ask` processes may share one folder: the nonce is taken under a file lock, and a lane is locked for the answer it pays, so
//! two answers at once use two lanes and no promise is made twice. Beside them lie the books of what was spent, and the answers given under
//! keys of the caller's.

mod answers;
mod asking;
mod left;
mod spending;

pub use answers::Slot;
pub use asking::{Asked, Running};
pub use left::Left;

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::Address,
    key::{Account, Domains, Signed},
    voucher::Lane,
};

use crate::data::{read_bounded, write_atomic};

/// Most lanes to one node at once.
const LANES_MAX: u32 = 64;
/// Largest lane file.
const LANE_FILE_MAX: u64 = 16 << 10;

/// A client's books in its data folder.
#[derive(Debug)]
pub struct Purse {
    folder: PathBuf,
}

/// A lane as kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    lane: Signed<Lane>,
    cumulative: Amount,
    /// Vouchers were signed on it and no receipt came for them yet: what it stands at is known only when one does.
    #[serde(default)]
    is_promised: bool,
}

/// A lane held for one answer; others take another one until it is dropped.
#[derive(Debug)]
pub struct HeldLane {
    _lock: File,
    path: PathBuf,
    kept: Kept,
}

/// Terms of new lanes.
#[derive(Debug, Clone, Copy)]
pub struct LaneTerms {
    /// Most that may be collected on one lane.
    pub cap: Amount,
    /// Block after which a new lane cannot be collected.
    pub expiry: u64,
    /// Block now: lanes that expire too soon are left alone.
    pub now: u64,
}

/// Blocks a lane must still have: half an hour at one block per second, twice what a node asks for ([`chain_bridge::lanes::LANE_BLOCKS_MIN`]).
const LANE_BLOCKS_LEFT: u64 = 1_800;

impl Purse {
    /// The books in `folder`, created if missing.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("purse");
        fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
        Ok(Self { folder })
    }

    /// The next nonce; it is on disk before it is returned, so it is never given twice.
    pub fn next_nonce(&self) -> anyhow::Result<u64> {
        let path = self.folder.join("nonce");
        let _lock = lock(&path, true)?;
        let last = match read_small(&path)? {
            None => 0,
            Some(text) => text.trim().parse::<u64>().with_context(|| format!("{}: must hold a number; it is damaged", path.display()))?,
        };
        let next = last.checked_add(1).context("nonces are used up")?;
        write_atomic(&path, next.to_string().as_bytes(), 0o600)?;
        Ok(next)
    }

    /// A lane from `payer` to `node` that nobody else holds and whose cap leaves `room`; signed anew by `signer`, the payer or a session key of its, if
    /// there is none.
    pub fn hold_lane(
        &self,
        payer: Address,
        signer: &Account,
        domains: &Domains,
        node: Address,
        terms: LaneTerms,
        room: Amount,
    ) -> anyhow::Result<HeldLane> {
        let folder = self.lane_folder(domains, node, payer, signer.address());
        fs::create_dir_all(&folder)?;
        for number in 0..LANES_MAX {
            let path = folder.join(format!("{number}.json"));
            let Some(lock) = lock(&path, false)? else { continue };
            let kept: Option<Kept> = match read_small(&path)? {
                Some(text) => Some(serde_json::from_str(&text).with_context(|| format!("{}: damaged lane record", path.display()))?),
                None => None,
            };
            // A lane that is used up, expires soon or was left with an open promise makes room for a new one under another nonce.
            let kept = match kept.filter(|kept| kept.has(terms, room)) {
                Some(kept) => kept,
                None => self.sign_lane(&path, payer, (signer, domains), node, terms, room)?,
            };
            return Ok(HeldLane { _lock: lock, path, kept });
        }
        bail!("all {LANES_MAX} lanes to {node} are paying answers: wait for answers to end")
    }

    fn lane_folder(&self, domains: &Domains, node: Address, payer: Address, signer: Address) -> PathBuf {
        let place = format!("{}-{}-{node}", domains.chain_id, domains.escrow);
        // A session's lanes are its own: its cap stands for what they promise.
        let place = if signer == payer { place } else { format!("{place}-{signer}") };
        self.folder.join("lanes").join(place)
    }

    fn sign_lane(
        &self,
        path: &Path,
        payer: Address,
        (signer, domains): (&Account, &Domains),
        node: Address,
        terms: LaneTerms,
        room: Amount,
    ) -> anyhow::Result<Kept> {
        let lane = Lane { payer, node, cap: terms.cap.max(room), expiry: terms.expiry, nonce: self.next_nonce()? };
        let kept = Kept { lane: Signed::new(signer, domains, lane), cumulative: Amount::ZERO, is_promised: false };
        write_atomic(path, &serde_json::to_vec(&kept)?, 0o600)?;
        Ok(kept)
    }
}

impl Kept {
    fn has(&self, terms: LaneTerms, room: Amount) -> bool {
        let lane = &self.lane.document;
        let is_standing = !self.is_promised && lane.expiry >= terms.now.saturating_add(LANE_BLOCKS_LEFT);
        is_standing && lane.cap.minus(self.cumulative).is_ok_and(|left| left >= room)
    }
}

impl HeldLane {
    /// The signed lane.
    pub const fn lane(&self) -> &Signed<Lane> {
        &self.kept.lane
    }

    /// What the lane's last receipt stands at.
    pub const fn cumulative(&self) -> Amount {
        self.kept.cumulative
    }

    /// Whether vouchers without a receipt may be out on it.
    pub const fn is_promised(&self) -> bool {
        self.kept.is_promised
    }

    /// Notes a receipt's cumulative amount; it is on disk when this returns.
    pub fn settle(&mut self, cumulative: Amount) -> anyhow::Result<()> {
        (self.kept.cumulative, self.kept.is_promised) = (cumulative, false);
        write_atomic(&self.path, &serde_json::to_vec(&self.kept)?, 0o600)?;
        Ok(())
    }

    /// Notes, before the first voucher of an answer is signed, that the lane's sum is open: only [`HeldLane::settle`] closes it. A lane left
    /// open (the answer was lost, this process was killed) is not used again, so nobody gets promises for two answers over one base.
    pub fn promise(&mut self) -> anyhow::Result<()> {
        self.kept.is_promised = true;
        write_atomic(&self.path, &serde_json::to_vec(&self.kept)?, 0o600)?;
        Ok(())
    }
}

/// Locks the record at `path` through a file beside it, which is never replaced; nothing if another process holds it and `is_waiting` is false.
fn lock(path: &Path, is_waiting: bool) -> anyhow::Result<Option<File>> {
    let path = path.with_extension("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("{}", path.display()))?;
    if is_waiting {
        file.lock()?;
        return Ok(Some(file));
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

fn read_small(path: &Path) -> anyhow::Result<Option<String>> {
    read_record(path, LANE_FILE_MAX)
}

/// A record's text; nothing if there is none.
fn read_record(path: &Path, most: u64) -> anyhow::Result<Option<String>> {
    if !path.try_exists().with_context(|| path.display().to_string())? {
        return Ok(None);
    }
    let bytes = read_bounded(path, most).with_context(|| format!("{}", path.display()))?;
    Ok(Some(String::from_utf8(bytes).with_context(|| format!("{}: not text; it is damaged", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains() -> Domains {
        Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
    }

    const TERMS: LaneTerms = LaneTerms { cap: Amount(1_000), expiry: 90_000, now: 10 };

    #[test]
    fn nonces_rise_across_openings() {
        let folder = tempfile::tempdir().unwrap();
        let first = Purse::open(folder.path()).unwrap().next_nonce().unwrap();
        assert_eq!(Purse::open(folder.path()).unwrap().next_nonce().unwrap(), first + 1);
    }

    #[test]
    fn two_answers_at_once_use_two_lanes_and_later_ones_reuse_them() {
        let folder = tempfile::tempdir().unwrap();
        let (purse, account) = (Purse::open(folder.path()).unwrap(), Account::from_bytes(&[5; 32]).unwrap());
        let hold = |room| purse.hold_lane(account.address(), &account, &domains(), Address([9; 20]), TERMS, Amount(room)).unwrap();
        let mut first = hold(100);
        let second = hold(100);
        assert_ne!(first.lane().document.id(), second.lane().document.id());
        first.settle(Amount(950)).unwrap();
        let id = first.lane().document.id();
        drop((first, second));
        let again = hold(50);
        assert_eq!((again.lane().document.id(), again.cumulative()), (id, Amount(950)));
        drop(again);
        assert_ne!(hold(51).lane().document.id(), id, "what the cap leaves is too little");
    }

    #[test]
    fn a_lane_left_with_an_open_promise_is_never_promised_on_again_and_its_place_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let (purse, account) = (Purse::open(folder.path()).unwrap(), Account::from_bytes(&[5; 32]).unwrap());
        let hold = || purse.hold_lane(account.address(), &account, &domains(), Address([9; 20]), TERMS, Amount(100)).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2 * LANES_MAX {
            let mut lane = hold();
            assert!(seen.insert(lane.lane().document.id()), "a lane of an earlier answer came back");
            lane.promise().unwrap();
        }
        let mut lane = hold();
        let id = lane.lane().document.id();
        lane.promise().unwrap();
        lane.settle(Amount(10)).unwrap();
        drop(lane);
        let lane = hold();
        assert_eq!((lane.lane().document.id(), lane.cumulative()), (id, Amount(10)), "with its receipt a lane goes on");
    }

    #[test]
    fn expired_lanes_make_room_however_many_there_were() {
        let folder = tempfile::tempdir().unwrap();
        let (purse, account) = (Purse::open(folder.path()).unwrap(), Account::from_bytes(&[5; 32]).unwrap());
        for day in 1..=u64::from(2 * LANES_MAX) {
            let terms = LaneTerms { cap: Amount(1_000), expiry: (day + 1) * 86_400, now: day * 86_400 };
            let lane = purse.hold_lane(account.address(), &account, &domains(), Address([9; 20]), terms, Amount(100)).unwrap();
            assert!(lane.lane().document.expiry > terms.now);
        }
    }

    #[test]
    fn a_session_key_signs_lanes_of_its_own_for_the_payer() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let (payer, session) = (Account::from_bytes(&[5; 32]).unwrap(), Account::from_bytes(&[6; 32]).unwrap());
        let hold = |signer: &Account| purse.hold_lane(payer.address(), signer, &domains(), Address([9; 20]), TERMS, Amount(10)).unwrap();
        let own = hold(&payer).lane().document.id();
        let lane = hold(&session).lane().clone();
        assert_ne!(lane.document.id(), own);
        assert_eq!(lane.document.payer, payer.address());
        assert_eq!(lane.verify(&domains(), session.address()), Ok(()));
        assert_eq!(hold(&payer).lane().document.id(), own);
    }

    #[test]
    fn a_damaged_record_is_an_error_not_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        purse.next_nonce().unwrap();
        fs::write(folder.path().join("purse/nonce"), "x").unwrap();
        assert!(purse.next_nonce().unwrap_err().to_string().contains("damaged"));
    }
}
