//! What a handle offers of adapters: all of it beside the owner's thread, which hears of it from the store.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;

use crate::adapter::AdapterInfo;
use crate::adapter::store::{AdapterStore, Listed, StoreError};
use crate::engine::bell::Bell;
use crate::engine::{EngineConfig, EngineError};
use crate::model::ModelInfo;
use crate::proto::residency::AdapterId;

use super::EngineHandle;

/// Opens the store of an engine, if a folder is named.
pub(super) fn open(config: &EngineConfig, model: &ModelInfo, bell: &Arc<Bell>) -> Result<Option<Arc<AdapterStore>>, StoreError> {
    let Some(dir) = &config.adapters_dir else { return Ok(None) };
    let bell = Arc::clone(bell);
    let wake = move || bell.notify();
    let (store, opened) = AdapterStore::open(dir, model.clone(), config.adapters.clone(), config.fetch.clone(), wake)?;
    tracing::info!(found = opened.found, swept = opened.swept, "adapters on disk");
    Ok(Some(Arc::new(store)))
}

/// Adapters. What is async here belongs into a tokio runtime and works on a thread of it that may wait for the disk; its future may be dropped
/// half-way, the work is done all the same, and the folder is in use until then.
impl EngineHandle {
    /// Imports an adapter's folder or file: checks it against the model and keeps it packed; answers go on meanwhile. Importing content that is
    /// here costs the reading of its files.
    ///
    /// # Errors
    /// Any [`StoreError`] of [`AdapterStore::insert`], [`EngineError::Invalid`] without a folder for adapters, or [`EngineError::Stopped`].
    pub async fn load_adapter(&self, path: &Path) -> Result<AdapterInfo, EngineError> {
        let path = path.to_path_buf();
        let info = self.on_disk(move |store| store.insert(&path)).await?;
        tracing::info!(adapter = %info.name, rank = info.rank, bytes = info.bytes, "adapter here");
        Ok(info)
    }

    /// Removes an adapter with its names: no new answer may name it until it is gone, those that do keep it to their end; then it may be imported or
    /// fetched again. False if it is not here.
    ///
    /// # Errors
    /// Any [`StoreError`] of [`AdapterStore::remove`], else as [`EngineHandle::load_adapter`].
    pub async fn unload_adapter(&self, hash: [u8; 32]) -> Result<bool, EngineError> {
        self.on_disk(move |store| store.remove(AdapterId(hash))).await
    }

    /// Lets a name lead to an adapter from now on; says where it led before. Answers under way are not touched.
    ///
    /// # Errors
    /// Any [`StoreError`] of [`AdapterStore::replace`], else as [`EngineHandle::load_adapter`].
    pub async fn replace_adapter(&self, name: &str, hash: [u8; 32]) -> Result<Option<AdapterId>, EngineError> {
        let name = name.to_owned();
        self.on_disk(move |store| store.replace(&name, AdapterId(hash))).await
    }

    /// Keeps an adapter in memory, or no longer; remembered across restarts.
    ///
    /// # Errors
    /// Any [`StoreError`] of [`AdapterStore::pin`], else as [`EngineHandle::load_adapter`].
    pub async fn pin_adapter(&self, hash: [u8; 32], is_pinned: bool) -> Result<(), EngineError> {
        self.on_disk(move |store| store.pin(AdapterId(hash), is_pinned)).await
    }

    /// Says that an adapter will probably be asked for: it is fetched and brought into memory ahead, if there is room beside more popular ones. A word in
    /// passing: where no adapters are kept, or too many such words wait, nothing happens, and the request that comes brings the adapter in itself.
    pub fn expect_adapter(&self, hash: [u8; 32]) {
        let id = AdapterId(hash);
        if let Some(store) = self.shared.store.as_ref().filter(|store| store.may_have(id))
            && let Err(error) = store.want(id)
        {
            tracing::debug!(%error, "an expected adapter is not brought in ahead");
        }
    }

    /// Where a name leads.
    #[must_use]
    pub fn adapter_named(&self, name: &str) -> Option<AdapterId> {
        self.shared.store.as_ref()?.resolve(name)
    }

    /// What is known of an adapter that is here.
    #[must_use]
    pub fn adapter(&self, hash: [u8; 32]) -> Option<AdapterInfo> {
        self.shared.store.as_ref()?.info(AdapterId(hash))
    }

    /// All adapters that are here, by hash.
    #[must_use]
    pub fn adapters(&self) -> Vec<Listed> {
        self.shared.store.as_ref().map_or_else(Vec::new, |store| store.list())
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AdapterStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let store =
            self.shared.store.clone().ok_or(EngineError::Invalid("this engine has no folder for adapters: name one in its settings"))?;
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => Ok(done?),
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime ends.
            Err(_) => Err(EngineError::Stopped),
        }
    }
}
