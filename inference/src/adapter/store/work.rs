//! What the store's threads do, and what callers of its methods do on theirs.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::adapter::{AdapterFiles, AdapterInfo, Packed8};
use crate::model::ModelInfo;
use crate::proto::residency::{Action, AdapterId, Budget, Event, FETCHES_MAX, KNOWN_MAX};

use super::catalogue::State;
use super::disk::{Disk, Found, Names, Published, ReadError, Step, is_name};
use super::unsynced::Unsynced;
use super::{FetchAdapter, FetchError, IMPORTS_MAX, IMPORTS_WAITING_MAX, NAMES_MAX, NOTICES_MAX, StoreError, sizes};

/// Packed adapters kept for the load that follows an import, beside the tiers' budgets: as many as come in at a time.
const FRESH_MAX: usize = IMPORTS_MAX + FETCHES_MAX;
/// Bytes of one that is kept so; a larger one is read back.
const FRESH_BYTES_MAX: u64 = 32_000_000;

/// What all threads and handles share.
pub(super) struct Shared {
    disk: Disk,
    model: ModelInfo,
    budget: Budget,
    pub(super) fetch: Option<Arc<dyn FetchAdapter>>,
    pub(super) wake: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
    /// There is something to load or delete, or the store is closed.
    to_load: Condvar,
    /// There is something to fetch, or the store is closed.
    to_fetch: Condvar,
    /// An import is over.
    to_import: Condvar,
    /// Held while a file gets its name or is deleted, together with what the catalogue says of it.
    files: Mutex<()>,
    /// Held while the table of names is changed and written.
    table: Mutex<()>,
    /// Adapters in use whose bytes the disk may not have taken.
    unsynced: Unsynced<Published>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("disk", &self.disk).field("state", &self.state).finish_non_exhaustive()
    }
}

fn no_hook(_: Step) {}

impl Shared {
    pub(super) fn new(
        disk: Disk,
        model: ModelInfo,
        budget: Budget,
        fetch: Option<Arc<dyn FetchAdapter>>,
        wake: Box<dyn Fn() + Send + Sync>,
        found: Vec<Found>,
        table: Names,
    ) -> Self {
        let state = Mutex::new(State::new(found, table));
        let (to_load, to_fetch, to_import) = (Condvar::new(), Condvar::new(), Condvar::new());
        let (files, table, unsynced) = (Mutex::new(()), Mutex::new(()), Unsynced::new());
        Self { disk, model, budget, fetch, wake, state, to_load, to_fetch, to_import, files, table, unsynced }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    fn files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().expect("nothing panics while it is held")
    }

    pub(super) fn close(&self) {
        self.state().close();
        self.to_load.notify_all();
        self.to_fetch.notify_all();
        self.unsynced.close();
    }

    /// Notes what the scheduler asks, and answers at once what needs no thread.
    pub(super) fn act(&self, action: Action) {
        let mut state = self.state();
        let answered = match action {
            // It came in meanwhile: the notice of that waits.
            Action::Fetch { id, .. } if state.entries.contains_key(&id) => false,
            Action::Fetch { id, .. } if self.fetch.is_none() => {
                // Why its file went says more.
                if state.reason(id).is_none() {
                    state.note(id, FetchError::NotFound.to_string());
                }
                state.notices.push_back((id, Event::Failed));
                true
            }
            Action::Fetch { id, bytes_max } => {
                // The scheduler asks for few at a time; one it gave up and asks again is in the line still.
                if !state.fetches.iter().any(|(other, _)| *other == id) {
                    state.fetches.push_back((id, bytes_max));
                }
                self.to_fetch.notify_one();
                false
            }
            Action::Load(id) => {
                let State { entries, fresh, notices, loads, .. } = &mut *state;
                let at = fresh.iter().position(|(other, _)| *other == id);
                let packed = at.and_then(|at| fresh.remove(at)).map(|(_, packed)| packed);
                match entries.get_mut(&id) {
                    None => notices.push_back((id, Event::Gone)),
                    Some(entry) if entry.packed.is_some() || packed.is_some() => {
                        entry.packed = packed.or_else(|| entry.packed.take());
                        notices.push_back((id, Event::Loaded));
                    }
                    Some(_) => {
                        if !loads.contains(&id) {
                            loads.push_back(id);
                        }
                        self.to_load.notify_one();
                        return;
                    }
                }
                true
            }
            Action::Unload(id) => {
                if let Some(entry) = state.entries.get_mut(&id) {
                    entry.packed = None;
                }
                false
            }
            Action::Delete(id) => {
                state.delete(id);
                self.to_load.notify_one();
                false
            }
            Action::Attach { .. } | Action::Detach(_) => false,
        };
        drop(state);
        if answered {
            (self.wake)();
        }
    }

    /// Leaves something for the scheduler that it did not ask for.
    pub(super) fn tell(&self, id: AdapterId, event: Event) -> Result<(), StoreError> {
        let mut state = self.state();
        room(state.notices.len(), "notices of adapters", NOTICES_MAX)?;
        state.notices.push_back((id, event));
        drop(state);
        (self.wake)();
        Ok(())
    }

    fn answer(&self, mut state: MutexGuard<'_, State>, id: AdapterId, event: Event, reason: Option<String>) {
        if let Some(reason) = reason {
            tracing::warn!(adapter = hex::encode(id.0), reason, "adapter not brought in");
            state.note(id, reason);
        }
        state.notices.push_back((id, event));
        drop(state);
        (self.wake)();
    }

    /// Loads and deletes until the store is closed.
    pub(super) fn load_until_closed(&self) {
        loop {
            let mut state = self.state();
            while !state.is_closed && state.loads.is_empty() && state.deletes.is_empty() {
                state = self.to_load.wait(state).expect("nothing panics while it is held");
            }
            let load = if state.is_closed { None } else { state.loads.pop_front() };
            // Files are deleted also when the store closes: they would be found again at the next start.
            let delete = if load.is_none() { state.deletes.pop_first() } else { None };
            drop(state);
            match (load, delete) {
                (Some(id), _) => self.load(id),
                (None, Some(id)) => self.delete(id),
                (None, None) => return,
            }
        }
    }

    fn load(&self, id: AdapterId) {
        // Deleted meanwhile, or here by a load that was given up and asked for again: nobody waits for it.
        let Some(bytes_max) = self.state().entries.get(&id).filter(|entry| entry.packed.is_none()).map(|entry| entry.sizes.disk) else {
            return;
        };
        let mut files = None;
        let mut read = self.disk.read(id, bytes_max, &self.model);
        if matches!(read, Err(ReadError::Bad(_))) {
            // Deleted and imported again meanwhile, it is another file now.
            files = Some(self.files());
            read = self.disk.read(id, bytes_max, &self.model);
        }
        match read {
            Ok(packed) => {
                let mut state = self.state();
                let Some(entry) = state.entries.get_mut(&id) else { return };
                entry.packed = Some(Arc::new(packed));
                state.reasons.retain(|(failed, _)| *failed != id);
                self.answer(state, id, Event::Loaded, None);
            }
            Err(ReadError::Io(error)) => self.answer(self.state(), id, Event::Failed, Some(error.to_string())),
            Err(ReadError::Bad(reason)) => {
                if let Err(error) = self.disk.delete(id) {
                    tracing::warn!(%error, "a damaged adapter stays on disk");
                }
                let mut state = self.state();
                state.drop_entry(id);
                self.answer(state, id, Event::Gone, Some(reason));
            }
        }
        drop(files);
    }

    /// Makes durable what was published until the store is closed, and what is left then.
    pub(super) fn sync_until_closed(&self) {
        self.unsynced.take_until_closed(|published| sync(&published));
    }

    fn delete(&self, id: AdapterId) {
        let _files = self.files();
        // It came back meanwhile.
        if self.state().entries.contains_key(&id) {
            return;
        }
        if let Err(error) = self.disk.delete(id) {
            tracing::warn!(%error, "an adapter stays on disk until the next start");
        }
    }

    /// Fetches until the store is closed.
    pub(super) fn fetch_until_closed(&self) {
        let Some(fetch) = self.fetch.as_deref() else { return };
        loop {
            let mut state = self.state();
            while !state.is_closed && state.fetches.is_empty() {
                state = self.to_fetch.wait(state).expect("nothing panics while it is held");
            }
            if state.is_closed {
                return;
            }
            let Some((id, bytes_max)) = state.fetches.pop_front() else { continue };
            drop(state);
            if let Err(reason) = self.bring(fetch, id, bytes_max) {
                let state = self.state();
                // Imported meanwhile: then nothing has failed.
                if !state.entries.contains_key(&id) {
                    self.answer(state, id, Event::Failed, Some(reason));
                }
            }
        }
    }

    fn bring(&self, fetch: &dyn FetchAdapter, id: AdapterId, bytes_max: u64) -> Result<(), String> {
        let path = fetch.fetch(id, bytes_max).map_err(|error| error.to_string())?;
        let packed = Packed8::read(&path, &self.model).map_err(|error| error.to_string())?;
        if packed.info().hash != id.0 {
            return Err(format!("what came has hash {}", hex::encode(packed.info().hash)));
        }
        self.keep(packed, None).map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn insert(&self, path: &Path) -> Result<AdapterInfo, StoreError> {
        let _turn = Turn::take(self)?;
        let files = AdapterFiles::read(path)?;
        let id = AdapterId(files.hash());
        if let Some(known) = self.state().wanted(id) {
            return Ok(AdapterInfo { name: files.name, ..known.info.clone() });
        }
        let packed = Packed8::new(&files, &self.model)?;
        drop(files);
        self.keep(packed, Some(NOTICES_MAX))
    }

    /// Puts a packed adapter on disk and into the catalogue; with `notices_max` only if so few notices wait.
    fn keep(&self, packed: Packed8, notices_max: Option<usize>) -> Result<AdapterInfo, StoreError> {
        let (info, id) = (packed.info().clone(), AdapterId(packed.info().hash));
        let fits = |tier, got, max| if got <= max { Ok(()) } else { Err(StoreError::TooLarge { tier, got, max }) };
        fits("memory", info.bytes, self.budget.memory_bytes.min(self.budget.device_bytes))?;
        let bytes = packed.encode(self.model.hash);
        let sizes = sizes(bytes.len() as u64, &info);
        fits("disk", sizes.disk, self.budget.file_bytes_max.min(self.budget.disk_bytes))?;
        let part = self.disk.prepare(id, &bytes, &mut no_hook)?;
        drop(bytes);
        let files = self.files();
        let mut state = self.state();
        if let Some(max) = notices_max {
            room(state.notices.len(), "notices of adapters", max)?;
            if !state.entries.contains_key(&id) && state.entries.len() >= KNOWN_MAX {
                return Err(StoreError::Busy { what: "adapters", max: KNOWN_MAX });
            }
        }
        drop(state);
        let published = part.publish(&mut no_hook)?;
        state = self.state();
        state.fresh.retain(|(fresh, _)| *fresh != id);
        let is_loaded = state.entries.get(&id).is_some_and(|entry| entry.packed.is_some());
        if info.bytes <= FRESH_BYTES_MAX && !is_loaded {
            if state.fresh.len() == FRESH_MAX {
                state.fresh.pop_front();
            }
            state.fresh.push_back((id, Arc::new(packed)));
        }
        state.enter(id, info.clone(), sizes);
        drop(state);
        drop(files);
        (self.wake)();
        // The engine may use it already, so nobody waits for the disk unless too much waits for it.
        if let Err(published) = self.unsynced.push(published) {
            sync(&published);
        }
        Ok(info)
    }

    pub(super) fn pin(&self, id: AdapterId, is_pinned: bool) -> Result<(), StoreError> {
        self.change(|state, table| {
            let bytes = state.wanted(id).ok_or(StoreError::Unknown(id))?.sizes.memory;
            // As the scheduler counts it (`Residency::pin`).
            let (got, max) = (state.pinned_bytes(id).saturating_add(bytes), self.budget.memory_bytes / 2);
            if is_pinned && got > max {
                return Err(StoreError::PinnedTooMuch { got, max });
            }
            if is_pinned {
                room(table.pinned.len(), "pinned adapters", KNOWN_MAX)?;
                table.pinned.insert(id);
            } else {
                table.pinned.remove(&id);
            }
            Ok(((), Some((id, Event::Pinned(is_pinned)))))
        })
    }

    pub(super) fn replace(&self, name: &str, id: AdapterId) -> Result<Option<AdapterId>, StoreError> {
        if !is_name(name) {
            return Err(StoreError::BadName);
        }
        self.change(|state, table| {
            state.wanted(id).ok_or(StoreError::Unknown(id))?;
            if !table.names.contains_key(name) {
                room(table.names.len(), "names", NAMES_MAX)?;
            }
            Ok((table.names.insert(name.to_owned(), id), None))
        })
    }

    pub(super) fn forget(&self, name: &str) -> Result<Option<AdapterId>, StoreError> {
        self.change(|_, table| Ok((table.names.remove(name), None)))
    }

    pub(super) fn remove(&self, id: AdapterId) -> Result<bool, StoreError> {
        self.change(|state, table| {
            if state.wanted(id).is_none() {
                return Ok((false, None));
            }
            table.names.retain(|_, named| *named != id);
            table.pinned.remove(&id);
            Ok((true, Some((id, Event::Retired))))
        })
    }

    /// Changes names and pins: first on disk, then for everybody, together with what the scheduler is told.
    fn change<T>(
        &self,
        change: impl FnOnce(&State, &mut Names) -> Result<(T, Option<(AdapterId, Event)>), StoreError>,
    ) -> Result<T, StoreError> {
        let _table = self.table.lock().expect("nothing panics while it is held");
        let state = self.state();
        room(state.notices.len(), "notices of adapters", NOTICES_MAX)?;
        let mut table = state.table();
        let (out, event) = change(&state, &mut table)?;
        let is_changed = table != state.table();
        drop(state);
        if is_changed {
            // What they lead to is durable first.
            self.unsynced.settle();
            self.disk.write_names(&table, &mut no_hook)?;
        }
        let mut state = self.state();
        (state.names, state.pinned) = (table.names, table.pinned);
        if let Some((id, event)) = event {
            if let (Event::Retired, Some(entry)) = (event, state.entries.get_mut(&id)) {
                entry.is_retired = true;
            }
            state.notices.push_back((id, event));
        }
        drop(state);
        (self.wake)();
        Ok(out)
    }
}

/// Makes an adapter durable; one that the disk does not take is found torn by its length or digest after a power cut, and comes in again.
fn sync(published: &Published) {
    if let Err(error) = published.sync(&mut no_hook) {
        tracing::warn!(%error, "an adapter may not outlive a power cut");
    }
}

fn room(count: usize, what: &'static str, max: usize) -> Result<(), StoreError> {
    if count < max { Ok(()) } else { Err(StoreError::Busy { what, max }) }
}

/// One of the imports that may go on at a time.
struct Turn<'a>(&'a Shared);

impl<'a> Turn<'a> {
    fn take(shared: &'a Shared) -> Result<Self, StoreError> {
        let mut state = shared.state();
        room(state.imports, "imports", IMPORTS_WAITING_MAX)?;
        state.imports += 1;
        while state.importing == IMPORTS_MAX {
            state = shared.to_import.wait(state).expect("nothing panics while it is held");
        }
        state.importing += 1;
        Ok(Self(shared))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.imports, state.importing) = (state.imports - 1, state.importing - 1);
        self.0.to_import.notify_one();
    }
}
