//! Asking once: the same key with the same body gives the same bytes again, one answer at a time. Pure: `now` goes in, what is to be done comes out.
//!
//! What was answered is kept for [`KEPT`]; what was refused or failed is not, so that it may be tried again. When [`ENTRIES_MAX`] keys or
//! [`BYTES_MAX`] bytes are kept, a new key is refused rather than an old one forgotten: a forgotten key would be asked and paid a second time. Beyond
//! the process the source keeps what it has begun and answered under the same key, if answers cost something there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use types::time::Time;

use super::errors::{Kind, Refusal};

/// How long an answer is kept: a day, in which every automatic retry has long given up.
pub const KEPT: Duration = Duration::from_secs(86_400);
/// Most keys at once, as many as a client's own books keep.
pub const ENTRIES_MAX: usize = 4_096;
/// Most bytes of kept answers: 4,096 of 16 kB.
pub const BYTES_MAX: usize = 64 << 20;
/// Most of them of one API key: four of its kind fill the list, one does not.
pub const OWNER_MAX: usize = ENTRIES_MAX / 4;
/// And most bytes of one: a few long answers with logarithms have megabytes each.
pub const OWNER_BYTES_MAX: usize = BYTES_MAX / 4;
/// Longest key.
pub const KEY_BYTES_MAX: usize = 255;
/// When to ask again for an answer that is under way.
const RUNNING_RETRY: Duration = Duration::from_secs(1);

/// A key of a client's, together with whose it is: two API keys never see each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name([u8; 32]);

/// What was answered, to be given again byte for byte.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// Media type.
    pub media: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// What is to be done under a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// It is new, and held now: [`Once::keep`] or [`Once::forget`] follows.
    New,
    /// It was answered.
    Answered(Arc<Kept>),
}

#[derive(Debug)]
struct Entry {
    owner: usize,
    digest: [u8; 32],
    since: Time,
    kept: Option<Arc<Kept>>,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Once {
    entries: BTreeMap<Name, Entry>,
    bytes: usize,
    /// Bytes of answers under way, recorded to be kept: they count as kept ones.
    recording: usize,
}

impl Name {
    /// Of an `Idempotency-Key` header and the name of the API key it came with.
    ///
    /// # Errors
    /// If it is no key.
    pub fn new(owner: &str, key: &str) -> Result<Self, Refusal> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let message = format!("Idempotency-Key must have 1 to {KEY_BYTES_MAX} printable ASCII characters: send for example a UUID");
            return Err(Refusal::field("Idempotency-Key", "invalid_idempotency_key", message));
        }
        let mut hasher = blake3::Hasher::new_derive_key("tributary gateway 2026 idempotency key");
        hasher.update(&(owner.len() as u64).to_le_bytes()).update(owner.as_bytes()).update(key.as_bytes());
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// The key under which a source remembers it.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl Once {
    /// Takes a key of the `owner`th API key's for a request whose path and body have this digest.
    ///
    /// # Errors
    /// If the same is under way, something else was asked under the key, or no more keys fit.
    pub fn begin(&mut self, now: Time, owner: usize, name: Name, digest: [u8; 32]) -> Result<Known, Refusal> {
        self.sweep(now);
        match self.entries.get(&name) {
            Some(entry) if entry.digest != digest => {
                let message = "this Idempotency-Key was used for another request: take a new key for a new request";
                return Err(Refusal::new(Kind::Differs, "idempotency_key_reused", message));
            }
            Some(Entry { kept: Some(kept), .. }) => return Ok(Known::Answered(Arc::clone(kept))),
            Some(Entry { kept: None, .. }) => {
                let message = "the same request is being answered under this Idempotency-Key: ask again when it has ended";
                return Err(Refusal::new(Kind::Running, "idempotency_key_in_use", message).after(RUNNING_RETRY));
            }
            None => {}
        }
        let all_own =
            self.entries.values().filter(|entry| entry.owner == owner).map(|entry| entry.kept.as_ref().map_or(0, |kept| kept.body.len()));
        let (own, own_bytes) = all_own.fold((0, 0), |(count, bytes), more| (count + 1, bytes + more));
        let is_full = self.entries.len() >= ENTRIES_MAX || self.bytes.saturating_add(self.recording) >= BYTES_MAX;
        if is_full || own >= OWNER_MAX || own_bytes >= OWNER_BYTES_MAX {
            let message = format!(
                "{own} answers of the last {} hours are remembered by Idempotency-Keys of this API key, no more fit: ask without one, or wait",
                KEPT.as_secs() / 3_600
            );
            return Err(Refusal::new(Kind::Busy, "idempotency_keys_full", message).last());
        }
        self.entries.insert(name, Entry { owner, digest, since: now, kept: None });
        Ok(Known::New)
    }

    /// Room for `bytes` more of an answer under way; false if there is none: then it is not kept, and [`Once::unrecord`] gives back what it had.
    pub fn record(&mut self, bytes: usize) -> bool {
        let has_room = self.bytes.saturating_add(self.recording).saturating_add(bytes) <= BYTES_MAX;
        if has_room {
            self.recording += bytes;
        }
        has_room
    }

    /// Gives back the room of an answer that has ended, before it is kept or let go of.
    pub fn unrecord(&mut self, bytes: usize) {
        self.recording = self.recording.saturating_sub(bytes);
    }

    /// Keeps what was answered under a key that is held.
    pub fn keep(&mut self, name: Name, kept: Kept) {
        if let Some(entry) = self.entries.get_mut(&name) {
            self.bytes += kept.body.len();
            entry.kept = Some(Arc::new(kept));
        }
    }

    /// Lets go of a key that is held and was not answered under.
    pub fn forget(&mut self, name: Name) {
        if self.entries.get(&name).is_some_and(|entry| entry.kept.is_none()) {
            self.entries.remove(&name);
        }
    }

    /// Keys held or answered under.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops old answers; what is under way stays however long it takes.
    fn sweep(&mut self, now: Time) {
        let bytes = &mut self.bytes;
        self.entries.retain(|_, entry| match &entry.kept {
            Some(kept) if now.since(entry.since) > KEPT => {
                *bytes -= kept.body.len();
                false
            }
            _ => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str) -> Name {
        Name::new("owner", key).unwrap()
    }

    fn kept(len: usize) -> Kept {
        Kept { media: "application/json", body: vec![7; len] }
    }

    #[test]
    fn the_same_request_gets_the_same_bytes_and_another_one_is_refused() {
        let mut once = Once::default();
        assert_eq!(once.begin(Time(0), 0, name("a"), [1; 32]), Ok(Known::New));
        let running = once.begin(Time(1), 0, name("a"), [1; 32]).unwrap_err();
        assert_eq!((running.kind, running.retry_after.is_some()), (Kind::Running, true));
        once.keep(name("a"), kept(3));
        assert_eq!(once.begin(Time(2), 0, name("a"), [1; 32]), Ok(Known::Answered(Arc::new(kept(3)))));
        assert_eq!(once.begin(Time(2), 0, name("a"), [2; 32]).unwrap_err().kind, Kind::Differs);
    }

    #[test]
    fn what_was_not_answered_may_be_asked_again_also_differently() {
        let mut once = Once::default();
        once.begin(Time(0), 0, name("a"), [1; 32]).unwrap();
        once.forget(name("a"));
        assert_eq!(once.begin(Time(1), 0, name("a"), [2; 32]), Ok(Known::New));
        once.keep(name("a"), kept(1));
        once.forget(name("a"));
        assert_eq!(once.len(), 1, "what was answered is not forgotten by a late guard");
    }

    #[test]
    fn keys_of_two_owners_are_two() {
        assert_ne!(Name::new("a", "bc").unwrap(), Name::new("ab", "c").unwrap());
        for bad in ["", "line\nfeed", "caf\u{e9}", &"k".repeat(256)] {
            assert_eq!(Name::new("a", bad).unwrap_err().param.as_deref(), Some("Idempotency-Key"), "{bad:?}");
        }
    }

    #[test]
    fn a_day_later_an_answer_is_gone_and_its_bytes_with_it() {
        let mut once = Once::default();
        once.begin(Time(0), 0, name("a"), [1; 32]).unwrap();
        once.keep(name("a"), kept(BYTES_MAX));
        assert_eq!(once.begin(Time(1), 0, name("b"), [1; 32]).unwrap_err().kind, Kind::Busy, "a full store forgets nothing");
        assert_eq!(once.begin(Time(0).after(KEPT + Duration::from_micros(1)), 0, name("a"), [2; 32]), Ok(Known::New));
        assert_eq!(once.bytes, 0);
    }

    #[test]
    fn one_api_keys_long_answers_leave_room_for_those_of_others() {
        let mut once = Once::default();
        once.begin(Time(0), 0, name("a"), [1; 32]).unwrap();
        once.keep(name("a"), kept(OWNER_BYTES_MAX));
        assert_eq!(once.begin(Time(1), 0, name("b"), [1; 32]).unwrap_err().kind, Kind::Busy);
        assert_eq!(once.begin(Time(1), 1, name("c"), [1; 32]), Ok(Known::New));
    }

    #[test]
    fn keys_are_bounded_by_count() {
        let mut once = Once::default();
        for number in 0..ENTRIES_MAX {
            let owner = number / OWNER_MAX;
            once.begin(Time(0), owner, name(&number.to_string()), [0; 32]).unwrap();
            if number + 1 == (owner + 1) * OWNER_MAX {
                let more = once.begin(Time(0), owner, name("one more"), [0; 32]).unwrap_err();
                assert_eq!(more.kind, Kind::Busy, "a share of the list is not exceeded");
            }
        }
        assert_eq!(once.begin(Time(0), 9, name("one more"), [0; 32]).unwrap_err().kind, Kind::Busy, "all of them are full");
    }
}
