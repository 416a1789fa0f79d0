//! Log lines on standard error, filtered by `TRIBUTARY_LOG` (default: warnings).

use std::io::{IsTerminal as _, Write as _};

use tracing_subscriber::{EnvFilter, fmt};

/// What is shown if nothing else is asked for.
const DEFAULT: &str = "warn";

/// Installs the subscriber and the process-wide TLS provider; a second call changes nothing.
pub fn init() {
    let filter = std::env::var("TRIBUTARY_LOG").map_or_else(|_| EnvFilter::new(DEFAULT), |text| filter(&text));
    // A line that cannot be written is lost and nothing more: saying so on the same full disk would panic in whoever logged.
    let lines = fmt().log_internal_errors(false).with_env_filter(filter).with_ansi(std::io::stderr().is_terminal());
    // A second subscriber (tests start several nodes in one process) is refused; the first one stays.
    let _ = lines.with_writer(std::io::stderr).try_init();
}

fn filter(text: &str) -> EnvFilter {
    EnvFilter::try_new(text).unwrap_or_else(|error| {
        let why = format!("TRIBUTARY_LOG={text:?} is no log filter ({error}), warnings are shown: write for example info, or node=debug");
        drop(writeln!(std::io::stderr(), "{why}"));
        EnvFilter::new(DEFAULT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_falls_back_to_warnings() {
        assert_eq!(filter("node=debug").to_string(), "node=debug");
        assert_eq!(filter("node=lots of it").to_string(), DEFAULT);
    }
}
