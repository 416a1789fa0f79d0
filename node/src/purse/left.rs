//! Attempts that were promised something and brought no receipt yet: whom to ask what became of them.
//!
//! A file each, written before the attempt's first voucher is signed and removed when a receipt of any kind has come, so that a killed process leaves
//! it. Of those that the books count no more (their lane expired, and the chain said what was collected) the file goes when they are looked through.
//! About 500 bytes each, as many as the books count promises at most.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use inference::proto::spending::{OPEN_MAX, OWED_MAX, Promise};
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    id::{Address, Hash32, NodeId},
    key::Domains,
};

use super::{Kept, LANES_MAX, Purse, lock, read_record, read_small};
use crate::data::write_atomic;

/// Largest file.
const FILE_MAX: u64 = 4 << 10;
/// Most files looked at: a process under way has one per attempt, and each promise that is counted one.
const FILES_MAX: usize = OWED_MAX + OPEN_MAX;
/// First time a node that said nothing is left alone; it doubles with every further try, up to [`REST_MAX_S`].
const REST_S: u64 = 10;
/// Longest such time.
const REST_MAX_S: u64 = 3_600;

/// An attempt without a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// The request.
    pub request: Hash32,
    /// The attempt's number in it.
    pub attempt: u16,
    /// The node.
    pub node: NodeId,
    /// Its account.
    pub account: Address,
    /// Where it listened for clients.
    pub addr: SocketAddr,
    /// Whose lane pays it.
    pub payer: Address,
    /// Who signed lane and vouchers, and may ask.
    pub signer: Address,
    /// Not asked again before this time, in seconds since 1970.
    pub next_s: u64,
    /// Seconds until the try after that.
    pub rest_s: u64,
    /// Whether the answer came in cells: then what became of it is asked for in cells too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_padded: bool,
}

impl Left {
    /// An attempt that begins.
    pub const fn new(
        request: Hash32,
        attempt: u16,
        (node, account, addr): (NodeId, Address, SocketAddr),
        payer: Address,
        signer: Address,
    ) -> Self {
        Self { request, attempt, node, account, addr, payer, signer, next_s: 0, rest_s: REST_S, is_padded: false }
    }
}

impl Purse {
    /// Notes whom to ask; on disk when this returns, and to be called before the attempt's first voucher is signed.
    pub fn leave(&self, domains: &Domains, left: &Left) -> anyhow::Result<()> {
        let path = self.left_path(domains, left.request, left.attempt)?;
        write_atomic(&path, &serde_json::to_vec(left)?, 0o600).with_context(|| path.display().to_string())
    }

    /// Attempts that the books still count by what was promised in them, of requests that no process asks now.
    pub fn lefts(&self, domains: &Domains) -> anyhow::Result<Vec<(Left, Promise)>> {
        self.take_up(domains)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(self.left_folder(domains)?)?.take(FILES_MAX) {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
        let read = |path: PathBuf| {
            let left: Option<Left> = read_record(&path, FILE_MAX).ok().flatten().and_then(|text| serde_json::from_str(&text).ok());
            (path, left)
        };
        let read: Vec<_> = files.into_iter().map(read).collect();
        self.change_spending(domains, |books| {
            let open: Vec<Hash32> = books.open().collect();
            let mut found = Vec::new();
            for (path, left) in read {
                match left {
                    Some(left) if open.contains(&left.request) => {}
                    Some(left) => match books.owed(left.request, left.attempt) {
                        Some(promise) => found.push((left, promise)),
                        None => drop(fs::remove_file(path)),
                    },
                    // It names nobody to ask: what was promised stays counted until its lane has expired.
                    None => drop(fs::remove_file(path)),
                }
            }
            Ok(found)
        })
    }

    /// A receipt of an attempt has come and charges `fee`: the books count that, once, however often this is called.
    pub fn recalled(&self, domains: &Domains, request: Hash32, attempt: u16, fee: Amount) -> anyhow::Result<()> {
        self.take_up(domains)?;
        self.change_spending(domains, |books| Ok(books.settle(request, attempt, fee)))?;
        self.forget_left(domains, request, attempt)
    }

    /// A node said nothing of use: it is left alone for a while.
    pub fn rest(&self, domains: &Domains, left: &Left, now_s: u64) -> anyhow::Result<()> {
        let next_s = now_s.saturating_add(left.rest_s);
        self.leave(domains, &Left { next_s, rest_s: left.rest_s.saturating_mul(2).min(REST_MAX_S), ..left.clone() })
    }

    /// Nobody needs to be asked about an attempt any more.
    pub(super) fn forget_left(&self, domains: &Domains, request: Hash32, attempt: u16) -> anyhow::Result<()> {
        let path = self.left_path(domains, request, attempt)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| path.display().to_string()),
            _ => Ok(()),
        }
    }

    /// A lane whose sum was open stands at `cumulative`, if it is still kept and nobody holds it.
    pub fn settle_lane(&self, domains: &Domains, left: &Left, lane: Hash32, cumulative: Amount) -> anyhow::Result<()> {
        let folder = self.lane_folder(domains, left.account, left.payer, left.signer);
        for number in 0..LANES_MAX {
            let path = folder.join(format!("{number}.json"));
            if !path.exists() {
                continue;
            }
            let Some(_lock) = lock(&path, false)? else { continue };
            let kept: Option<Kept> = read_small(&path)?.and_then(|text| serde_json::from_str(&text).ok());
            if let Some(kept) = kept.filter(|kept| kept.is_promised && kept.lane.document.id() == lane) {
                let kept = Kept { cumulative, is_promised: false, ..kept };
                return write_atomic(&path, &serde_json::to_vec(&kept)?, 0o600).with_context(|| path.display().to_string());
            }
        }
        Ok(())
    }

    fn left_folder(&self, domains: &Domains) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("left").join(format!("{}-{}", domains.chain_id, domains.escrow));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    fn left_path(&self, domains: &Domains, request: Hash32, attempt: u16) -> anyhow::Result<PathBuf> {
        Ok(self.left_folder(domains)?.join(format!("{}-{attempt}.json", hex::encode(request.0))))
    }
}

#[cfg(test)]
mod tests {
    use inference::proto::spending::{Caps, Refused};

    use super::{super::asking::Asked, *};

    const REQUEST: Hash32 = Hash32([1; 32]);

    fn domains() -> Domains {
        Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
    }

    fn left(attempt: u16) -> Left {
        let own = Address([7; 20]);
        Left::new(REQUEST, attempt, (NodeId([3; 32]), Address([9; 20]), ([127, 0, 0, 1], 9).into()), own, own)
    }

    fn counted(purse: &Purse) -> u128 {
        purse.spending(&domains(), |books| Ok::<_, Refused>(books.of_key(Address([7; 20]))?)).unwrap().0
    }

    #[test]
    fn what_a_killed_process_leaves_is_counted_by_its_receipt_once_that_is_recalled() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let asked = Asked { request: REQUEST, key: Address([7; 20]), limit: Amount(60), before: Amount::ZERO, day: 3 };
        let mut running = purse.begin(&domains(), Caps::default(), asked).unwrap();
        for attempt in 0..2 {
            purse.leave(&domains(), &left(attempt)).unwrap();
            let promise = Promise { attempt, lane: Hash32([8; 32]), base: Amount::ZERO, sum: Amount(20), expiry: 50 };
            running.promise(promise).unwrap();
        }
        assert_eq!(purse.lefts(&domains()).unwrap(), [], "its process lives");
        drop(running);
        let found: Vec<u16> = purse.lefts(&domains()).unwrap().iter().map(|(left, _)| left.attempt).collect();
        assert_eq!((found.len(), counted(&purse)), (2, 40));
        for _ in 0..2 {
            purse.recalled(&domains(), REQUEST, 0, Amount(5)).unwrap();
            assert_eq!((purse.lefts(&domains()).unwrap().len(), counted(&purse)), (1, 25), "it counts once");
        }
        purse.recalled(&domains(), REQUEST, 1, Amount::ZERO).unwrap();
        assert_eq!((purse.lefts(&domains()).unwrap().len(), counted(&purse)), (0, 5));
        // A file of what the books do not count is swept.
        purse.leave(&domains(), &left(7)).unwrap();
        assert_eq!(purse.lefts(&domains()).unwrap(), []);
        assert_eq!(fs::read_dir(purse.left_folder(&domains()).unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_node_that_says_nothing_is_left_alone_for_longer_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let (mut left, mut rests) = (left(0), vec![]);
        for _ in 0..12 {
            purse.rest(&domains(), &left, 1_000).unwrap();
            let text = fs::read_to_string(purse.left_path(&domains(), REQUEST, 0).unwrap()).unwrap();
            left = serde_json::from_str(&text).unwrap();
            rests.push(left.next_s - 1_000);
        }
        assert_eq!((rests[..3].to_vec(), rests[11]), (vec![10, 20, 40], REST_MAX_S));
    }
}
