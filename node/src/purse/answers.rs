//! Answers by the caller's keys: one file a key, locked by the process that asks under it.
//!
//! Size: an answer of 256 tokens takes about 6 KB, [`KEYS_MAX`] of them 24 MB. Files older than [`once::KEPT_S`] go when a new key comes.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, bail};
use inference::proto::once::{self, KEYS_MAX, OnceError, Record};
use types::key::Domains;

use super::{Purse, lock, read_record};
use crate::data::write_atomic;

/// Largest record: a conversation's manifest, 4,096 tokens with their text, and the answer's sources.
const FILE_MAX: u64 = 32 << 20;
/// Times a lock file that was swept away between its opening and its locking is opened anew.
const LOCK_TRIES: u8 = 8;

/// A key held by this process.
#[derive(Debug)]
pub struct Slot {
    _lock: File,
    path: PathBuf,
}

impl Slot {
    /// Writes what is known under the key; it is on disk when this returns.
    pub fn keep(&self, record: &Record) -> anyhow::Result<()> {
        write_atomic(&self.path, &serde_json::to_vec(record)?, 0o600).with_context(|| self.path.display().to_string())
    }
}

impl Purse {
    /// Takes a key for this process, with what is known under it.
    pub fn hold_key(&self, domains: &Domains, key: &str, now_s: u64) -> anyhow::Result<(Slot, Option<Record>)> {
        let folder = self.folder.join("answers").join(format!("{}-{}", domains.chain_id, domains.escrow));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(format!("{}.json", hex::encode(once::name(key)?.0)));
        let Some(held) = lock_one(&path)? else {
            bail!("another process is asking under this idempotency key: wait until it has ended, its answer is then returned");
        };
        let record = match read_record(&path, FILE_MAX)? {
            Some(text) => Some(serde_json::from_str(&text).with_context(|| format!("{}: damaged record of an answer", path.display()))?),
            None => {
                sweep(&folder, now_s)?;
                None
            }
        };
        Ok((Slot { _lock: held, path }, record))
    }
}

/// Locks a key's record; nothing if another process holds it.
fn lock_one(path: &Path) -> anyhow::Result<Option<File>> {
    for _ in 0..LOCK_TRIES {
        let Some(file) = lock(path, false)? else { return Ok(None) };
        // A sweep may have removed the file between its opening and its locking: a lock on it would keep nobody out.
        let is_there =
            fs::metadata(path.with_extension("lock")).is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there.ino()));
        if is_there {
            return Ok(Some(file));
        }
    }
    bail!("{}: its lock file keeps vanishing", path.display())
}

/// Drops records that are old by the time of their file, which is that of their last change; refuses if too many young ones are left.
fn sweep(folder: &Path, now_s: u64) -> anyhow::Result<()> {
    let mut young = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // One that another process has just removed is no error.
        let Ok(changed) = fs::metadata(&path).and_then(|found| found.modified()) else { continue };
        let changed_s = changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if !once::is_old(changed_s, now_s) {
            young += 1;
        } else if let Some(_held) = lock_one(&path)? {
            drop(fs::remove_file(&path));
            drop(fs::remove_file(path.with_extension("lock")));
        }
    }
    if young >= KEYS_MAX { Err(OnceError::Full.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use inference::proto::{
        draft::Draft,
        once::{KEPT_S, Known, look},
    };
    use types::{
        amount::Amount,
        id::{Address, Hash32},
        key::{Account, Signed},
        manifest::Manifest,
        quote::{Class, Profile},
        request::{Request, SamplingRule},
        split::SplitTable,
    };

    use super::*;

    const NOW: u64 = 4_000_000_000;

    fn domains() -> Domains {
        Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
    }

    fn record(since_s: u64) -> Record {
        let account = Account::from_bytes(&[5; 32]).unwrap();
        let request = Request {
            client: account.address(),
            nonce: 1,
            manifest: Hash32([2; 32]),
            rate_in_max: Amount(1),
            rate_out_max: Amount(1),
            profile: Profile::Exact,
            class: Class::Open,
            sampling: SamplingRule::default(),
            options: Hash32::ZERO,
            prompt_root: Hash32([4; 32]),
            tokens_max: 5,
            spending_limit: Amount(9),
        };
        let manifest = Manifest { assets: vec![], split: SplitTable::default(), index: Hash32::ZERO, parameters: 1, datanets: vec![] };
        let draft = Draft::new(Signed::new(&account, &domains(), request), Hash32([9; 32]));
        Record { content: [("question".to_owned(), "a".to_owned())].into(), since_s, manifest, draft, answer: None }
    }

    #[test]
    fn a_key_is_held_by_one_process_and_its_record_survives_it() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (Purse::open(folder.path()).unwrap(), Purse::open(folder.path()).unwrap());
        let (slot, none) = first.hold_key(&domains(), "k", NOW).unwrap();
        assert_eq!(none, None);
        assert!(second.hold_key(&domains(), "k", NOW).unwrap_err().to_string().contains("another process"));
        assert!(second.hold_key(&domains(), "other", NOW).is_ok());
        slot.keep(&record(NOW)).unwrap();
        // The process is killed: nothing but its file is left.
        drop(slot);
        let (slot, found) = second.hold_key(&domains(), "k", NOW).unwrap();
        let mut found = found.unwrap();
        assert!(matches!(look(Some(found.clone()), &found.content, NOW), Ok(Known::Begun(_))));
        found.answer = Some("{}".into());
        slot.keep(&found).unwrap();
        drop(slot);
        assert_eq!(first.hold_key(&domains(), "k", NOW).unwrap().1, Some(found));
    }

    #[test]
    fn old_answers_go_when_a_new_key_comes_and_young_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (slot, _) = purse.hold_key(&domains(), "k", now).unwrap();
        slot.keep(&record(now)).unwrap();
        drop(slot);
        drop(purse.hold_key(&domains(), "second", now + KEPT_S).unwrap());
        assert!(purse.hold_key(&domains(), "k", now + KEPT_S).unwrap().1.is_some());
        drop(purse.hold_key(&domains(), "third", now + KEPT_S + 60).unwrap());
        assert!(purse.hold_key(&domains(), "k", now + KEPT_S + 60).unwrap().1.is_none());
    }

    #[test]
    fn a_damaged_record_is_an_error_rather_than_a_second_question() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let (slot, _) = purse.hold_key(&domains(), "k", NOW).unwrap();
        slot.keep(&record(NOW)).unwrap();
        fs::write(&slot.path, "{").unwrap();
        drop(slot);
        assert!(format!("{:#}", purse.hold_key(&domains(), "k", NOW).unwrap_err()).contains("damaged"));
    }
}
