//! The model and its adapters, read and hashed as the node reads them.

use inference::{adapter::AdapterFiles, gguf::GgufFile};
use types::id::BlobId;

use super::{World, aside};
use crate::{
    command::adapter::present,
    config::Config,
    doctor::facts::{Model, Models},
};

/// Largest model that is hashed without being asked to: four seconds from memory, half a minute from a disk.
pub const HASH_BYTES_MAX: u64 = 4 << 30;

pub(super) async fn look(world: &World, config: &Config) -> Models {
    let (path, data, is_full) = (config.model.clone(), world.context.data.clone(), world.is_full);
    let model = match path {
        None => None,
        Some(path) => {
            let named = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let place = path.clone();
            let read = aside(move || {
                let file = GgufFile::open(&place).map_err(|error| error.to_string())?;
                let hash = (is_full || file.len() <= HASH_BYTES_MAX).then(|| file.hash().map(BlobId).map_err(|error| error.to_string()));
                Ok((file.len(), hash))
            });
            let (bytes, hash) = read.await.map_or_else(|why| (Err(why), None), |(bytes, hash)| (Ok(bytes), hash));
            Some(Model { path, bytes, named, hash })
        }
    };
    let adapters = aside(move || {
        let found = present(&data).map_err(|error| format!("{error:#}"))?;
        Ok(found.into_iter().map(|(hash, path)| (hash, whole(hash, &path))).collect())
    });
    Models { model, adapters: adapters.await }
}

/// Whether an adapter's files are whole and the ones that its folder is named by.
fn whole(hash: BlobId, path: &std::path::Path) -> Result<(), String> {
    let files = AdapterFiles::read(path).map_err(|error| error.to_string())?;
    files.check().map_err(|error| error.to_string())?;
    let got = BlobId(files.hash());
    if got == hash { Ok(()) } else { Err(format!("its files have the hash {got}")) }
}
