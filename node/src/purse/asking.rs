//! Requests under way: each is locked by the process that asks it, beside a note of what that process has promised in it.
//!
//! A process that is killed leaves both. The lock is then free, so whoever asks next takes the note into the books: what was promised stays counted
//! while it can be collected, the rest of the request's limit is free again. A note has about 300 bytes per attempt, at most
//! [`TRIES_MAX`](inference::proto::draft::TRIES_MAX) of them, and is written once per voucher.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use inference::proto::spending::{Caps, Outcome, Promise};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    key::Domains,
};

use super::{Purse, lock, read_record};
use crate::data::write_atomic;

/// Largest note.
const FILE_MAX: u64 = 64 << 10;

/// A request that this process asks.
#[derive(Debug)]
pub struct Running {
    _lock: File,
    path: PathBuf,
    request: Hash32,
    promised: BTreeMap<u16, Promise>,
}

/// What a request may cost, and on whose account.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The request.
    pub request: Hash32,
    /// Who signs its vouchers.
    pub key: Address,
    /// Most it may cost.
    pub limit: Amount,
    /// What it has cost or promised already.
    pub before: Amount,
    /// The day it is asked on.
    pub day: u64,
}

impl Running {
    /// Notes what an attempt's next voucher promises in all; on disk when this returns, and to be called before it is signed.
    pub fn promise(&mut self, promise: Promise) -> anyhow::Result<()> {
        self.promised.insert(promise.attempt, promise);
        self.write()
    }

    /// The node of an attempt has signed that nothing is charged.
    pub fn forget(&mut self, attempt: u16) -> anyhow::Result<()> {
        if self.promised.remove(&attempt).is_some() { self.write() } else { Ok(()) }
    }

    fn write(&self) -> anyhow::Result<()> {
        let promised: Vec<&Promise> = self.promised.values().collect();
        write_atomic(&self.path, &serde_json::to_vec(&promised)?, 0o600).with_context(|| self.path.display().to_string())
    }
}

impl Purse {
    /// Counts a request before anything of it is sent; refused if a cap could be exceeded.
    pub fn begin(&self, domains: &Domains, caps: Caps, asked: Asked) -> anyhow::Result<Running> {
        self.take_up(domains)?;
        let path = self.asking(domains)?.join(format!("{}.json", hex::encode(asked.request.0)));
        let Asked { request, key, limit, before, day } = asked;
        let begun = self.change_spending(domains, |books| {
            books.begin(caps, request, key, limit, before, day)?;
            lock(&path, false)?.context("another process is asking this request: wait until it has ended")
        });
        Ok(Running { _lock: begun?, path, request, promised: BTreeMap::new() })
    }

    /// A request has ended: `paid` is what receipts charge that came in this run, `settled` are the attempts that have a receipt of any kind.
    pub fn end(&self, domains: &Domains, running: &Running, paid: Amount, settled: BTreeSet<u16>) -> anyhow::Result<()> {
        let ended = settled.clone();
        let outcome = Outcome { paid, settled, promised: running.promised.values().copied().collect() };
        self.change_spending(domains, |books| {
            books.end(running.request, outcome);
            Ok(())
        })?;
        remove(&running.path);
        ended.into_iter().try_for_each(|attempt| self.forget_left(domains, running.request, attempt))
    }

    /// Takes the notes of processes that died into the books.
    pub(super) fn take_up(&self, domains: &Domains) -> anyhow::Result<()> {
        let folder = self.asking(domains)?;
        // Their locks are held until the books are written and the notes are gone.
        let dead = self.change_spending(domains, |books| {
            let mut dead = Vec::new();
            for request in books.open().collect::<Vec<_>>() {
                let path = folder.join(format!("{}.json", hex::encode(request.0)));
                let is_there = path.with_extension("lock").exists();
                let Some(lock) = lock(&path, false)? else { continue };
                // An earlier build left no lock, and a damaged note says nothing: then everything may have been promised.
                let promised = if is_there { noted(&path) } else { None };
                if promised.is_none() {
                    tracing::warn!(%request, "a request was left without a note of what was promised in it: it stays counted in full");
                }
                books.died(request, promised);
                dead.push((path, lock));
            }
            Ok(dead)
        })?;
        for (path, _lock) in &dead {
            remove(path);
        }
        Ok(())
    }

    fn asking(&self, domains: &Domains) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("asking").join(format!("{}-{}", domains.chain_id, domains.escrow));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }
}

/// What a process had promised; no file is no promise, a damaged one no word at all.
fn noted(path: &Path) -> Option<Vec<Promise>> {
    match read_record(path, FILE_MAX).ok()? {
        Some(text) => serde_json::from_str(&text).ok(),
        None => Some(Vec::new()),
    }
}

/// A note that is left behind is of no request that is counted: it says nothing to anybody.
fn remove(path: &Path) {
    drop(fs::remove_file(path));
    drop(fs::remove_file(path.with_extension("lock")));
}

#[cfg(test)]
mod tests {
    use inference::proto::spending::Refused;
    use types::id::Address;

    use super::*;

    fn domains() -> Domains {
        Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
    }

    fn asked(number: u8, limit: u128) -> Asked {
        Asked { request: Hash32([number; 32]), key: Address([7; 20]), limit: Amount(limit), before: Amount::ZERO, day: 3 }
    }

    fn promise(attempt: u16, sum: u128) -> Promise {
        Promise { attempt, lane: Hash32([8; 32]), base: Amount::ZERO, sum: Amount(sum), expiry: 50 }
    }

    fn counted(purse: &Purse) -> u128 {
        purse.spending(&domains(), |books| Ok::<_, Refused>(books.of_key(Address([7; 20]))?)).unwrap().0
    }

    #[test]
    fn what_a_killed_process_had_not_promised_is_free_again_when_the_next_one_asks() {
        let folder = tempfile::tempdir().unwrap();
        let caps = Caps { per_key: Some(Amount(100)), ..Caps::default() };
        // Each opening stands for a process: all it shares with the others are the files.
        let process = || Purse::open(folder.path()).unwrap();
        let mut first = process().begin(&domains(), caps, asked(1, 60)).unwrap();
        first.promise(promise(0, 5)).unwrap();
        first.promise(promise(0, 9)).unwrap();
        let alive = process().begin(&domains(), caps, asked(2, 41)).unwrap_err();
        assert!(alive.to_string().contains(&format!("spent or promised {}", Amount(60).in_open())), "{alive}");
        // The kill: its lock goes, its note stays.
        drop(first);
        let second = process().begin(&domains(), caps, asked(2, 91)).unwrap();
        assert_eq!(counted(&process()), 100);
        let third = process().begin(&domains(), caps, asked(3, 1)).unwrap_err();
        assert!(third.to_string().contains(&format!("spent or promised {}", Amount(100).in_open())), "{third}");
        process().end(&domains(), &second, Amount(30), BTreeSet::new()).unwrap();
        assert_eq!(counted(&process()), 39);
        let left = fs::read_dir(process().asking(&domains()).unwrap()).unwrap().count();
        assert_eq!(left, 0, "nothing is left of requests that have ended");
    }

    #[test]
    fn a_signed_word_that_nothing_is_charged_takes_a_promise_back_also_from_a_note() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let mut running = purse.begin(&domains(), Caps::default(), asked(1, 60)).unwrap();
        running.promise(promise(0, 9)).unwrap();
        running.forget(0).unwrap();
        running.promise(promise(1, 4)).unwrap();
        drop(running);
        purse.take_up(&domains()).unwrap();
        assert_eq!(counted(&purse), 4);
    }

    #[test]
    fn a_damaged_note_or_none_at_all_counts_everything() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let both = [1, 2].map(|number| purse.begin(&domains(), Caps::default(), asked(number, 60)).unwrap());
        drop(both);
        let place = purse.asking(&domains()).unwrap();
        fs::write(place.join(format!("{}.json", "01".repeat(32))), "[{").unwrap();
        fs::remove_file(place.join(format!("{}.lock", "02".repeat(32)))).unwrap();
        purse.take_up(&domains()).unwrap();
        assert_eq!(counted(&purse), 120);
    }

    #[test]
    fn a_request_is_asked_by_one_process_and_its_end_is_noted_once() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let running = purse.begin(&domains(), Caps::default(), asked(1, 60)).unwrap();
        let error = purse.begin(&domains(), Caps::default(), asked(1, 60)).unwrap_err();
        assert!(error.to_string().contains("another process is asking"), "{error}");
        assert_eq!(counted(&purse), 60);
        purse.end(&domains(), &running, Amount(7), [0].into()).unwrap();
        assert_eq!(counted(&purse), 7);
    }
}
