//! Log lines on standard error, filtered by `TRIBUTARY_LOG` (default: warnings).

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// Installs the subscriber and the process-wide TLS provider; a second call changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env("TRIBUTARY_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // A second subscriber (tests start several nodes in one process) is refused; the first one stays.
    let _ = fmt().with_env_filter(filter).with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).try_init();
}
