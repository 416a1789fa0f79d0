//! Real nodes over loopback for the end-to-end tests: a chain, processes in temporary folders, the commands a person would type.
//!
//! Everything is a child process of the test: anvil, `tributary run`, each command. Each wait has a deadline and says what it waited for; whatever is
//! still running when a test ends is killed, and a failing test shows the last lines of every node's log. Helpers panic rather than return errors: a
//! test has nothing else to do with one.
//!
//! Cost on two idle cores: a chain with its contracts about 10 s (one block a second), a node of the tiny model under a second, a command 50 to 200 ms.

pub mod chain;
pub mod cluster;
pub mod endpoint;
pub mod files;
pub mod gateway;
pub mod http;
pub mod process;
pub mod relay;
pub mod wire;

pub use cluster::{Cluster, Party, Setup};
pub use process::{Outcome, Tributary};

/// Clusters are started one after another, also where several tests share a process: five nodes and a chain fill two cores.
pub async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ONE.lock().await
}
