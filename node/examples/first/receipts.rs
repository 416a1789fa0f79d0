//! How long a receipt takes to verify once the program runs.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use attribution::bundle::{Bundle, verify};

use crate::{median, row};

/// How often each bundle is read and verified.
const RUNS: usize = 5;

/// Reads every bundle of a folder and verifies it as a stranger would.
///
/// # Errors
/// If there is none, or an honest one does not stand.
pub(crate) fn measure(folder: &Path) -> Result<()> {
    let (mut times_ms, mut count) = (Vec::new(), 0_usize);
    for entry in fs::read_dir(folder).with_context(|| format!("{}: run the demonstration first", folder.display()))? {
        let path = entry?.path();
        count += 1;
        for _ in 0..RUNS {
            let start = Instant::now();
            let bundle = Bundle::from_json(&fs::read(&path)?)?;
            verify(&bundle).map_err(|faults| anyhow::anyhow!("{} does not stand: {faults}", path.display()))?;
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    ensure!(count > 0, "{} holds no bundle", folder.display());
    let n = times_ms.len();
    row(
        "first.verify_inside_ms",
        median(times_ms),
        n,
        format!("reading and verifying, no process start; {count} bundles of the demonstration"),
    )
}
