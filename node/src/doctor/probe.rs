//! Looks at the world and tells what it found. Nothing is decided here, and nothing is changed: what is bound is let go, what is written is removed.
//!
//! Each part ends by itself: what asks others has a time-out, files are read up to a bound. A look at the folder's lock takes and releases it; a node that
//! starts in that very moment is told that the folder is in use, and starts when it is started again.

mod chain;
mod files;
mod model;
mod network;
mod system;

use std::time::Duration;

use tokio::time::timeout;

use super::{World, facts::Facts};

pub use model::HASH_BYTES_MAX;
pub(crate) use network::sockets;

/// Looks at everything.
pub async fn look(world: &World) -> Facts {
    let files = files::look(world).await;
    let system = system::look(world, &files).await;
    let Ok(config) = files.config.clone() else {
        return Facts { files, system, model: None, network: None, chain: None };
    };
    let (model, network, chain) = tokio::join!(
        model::look(world, &config),
        network::look(world, &config, files.holder.is_node()),
        chain::look(world, &config, &files)
    );
    Facts { files, system, model: Some(model), network: Some(network), chain: Some(chain) }
}

/// An answer within the time that is waited for it, or why there is none, in words.
async fn within<T, E: std::fmt::Display>(patience: Duration, asked: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(patience, asked).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
    }
}

/// Work that reads much, on a thread that may wait.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
