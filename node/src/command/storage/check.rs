//! `tributary storage check`: the store read byte by byte while its node is stopped, and what can be saved of a damaged one.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::store::{
    StoreError,
    check::{Damaged, Examination, IndexReport, Report, Salvaged, SegmentReport, State},
};

use crate::{
    command::{Context, Failed},
    output::table,
};

/// Damaged items shown; `--json` has all of them.
const SHOWN_MAX: usize = 20;

/// Read every byte of the store while the node is stopped, and say what is damaged.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Reads the segments without trusting the index, and compares the two. Changes nothing. A line per segment shows its bytes in order:\n# kept, . no longer kept, x damaged, ~ a write that was broken off, which the next start cuts off and which is no damage. Exit code 1 if\nanything is damaged.\n\nA damaged fragment is not lost to the network: start the node, and repair fetches it anew. With --salvage a new folder gets every item that\nverifies and every record that can be read (vouchers, receipts: what the node needs to be paid). To go on with it, move the old folder away and\nput the new one in its place.\n\nExamples:\n  tributary storage check\n  tributary storage check --json\n  tributary storage check --folder /mnt/old/store --salvage /mnt/new/store"
)]
pub(super) struct Args {
    /// The store's folder [default: store in the data folder].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Write what can be saved into this folder, which must be absent or empty.
    #[arg(long, value_name = "DIR")]
    salvage: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Outcome<'o> {
    folder: &'o std::path::Path,
    is_damaged: bool,
    #[serde(flatten)]
    report: &'o Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    salvaged: Option<&'o Salvaged>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let folder = args.folder.unwrap_or_else(|| context.data.store());
    let place = folder.clone();
    let work = move || -> anyhow::Result<(Report, Option<Salvaged>)> {
        let examination = Examination::of(&place).map_err(|error| match error {
            StoreError::Folder { ref error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
                anyhow::anyhow!("there is no store in {}: --folder names another, --data-dir the node's folder", place.display())
            }
            StoreError::Locked { .. } => anyhow::Error::from(error).context("the store can be checked while no node runs on it"),
            error => error.into(),
        })?;
        let salvaged = args.salvage.map(|out| examination.salvage(&out).with_context(|| format!("--salvage {}", out.display())));
        Ok((examination.report().clone(), salvaged.transpose()?))
    };
    let (report, salvaged) = tokio::task::spawn_blocking(work).await.context("the check broke off")??;
    let is_damaged = report.is_damaged();
    let outcome = Outcome { folder: &folder, is_damaged, report: &report, salvaged: salvaged.as_ref() };
    context.output.result(&outcome, || told(&outcome))?;
    if is_damaged {
        return Err(Failed(format!("{} is damaged", folder.display())).into());
    }
    Ok(())
}

fn told(outcome: &Outcome<'_>) -> String {
    let report = outcome.report;
    let mut text = format!("{}\n\n", outcome.folder.display());
    let rows: Vec<Vec<String>> = report.segments.iter().map(row).collect();
    text += &table(&["segment", "bytes", "kept", "no longer", "damaged", "broken off", "# kept . no longer x damaged ~ broken off"], &rows);
    text += "\n";
    if let Some(format) = &report.format {
        let _ = writeln!(text, "FORMAT says {format:?}: another program's store, or damaged");
    }
    let _ = match &report.index {
        IndexReport::Whole => writeln!(text, "index: every page verifies"),
        IndexReport::Damaged(why) => writeln!(text, "index: damaged ({why}); items below are what the segments alone say"),
        IndexReport::Unreadable(why) => writeln!(text, "index: cannot be read ({why}); items below are what the segments alone say"),
    };
    let counts: Vec<String> = report.items.iter().map(|(state, count)| format!("{count} {}", words(*state))).collect();
    let _ = writeln!(text, "items: {}", if counts.is_empty() { "none".to_owned() } else { counts.join(", ") });
    for table in &report.tables {
        let error = table.error.as_ref().map(|error| format!(", then: {error}")).unwrap_or_default();
        let _ = writeln!(text, "records in {}: {}, {} bytes{error}", table.table, table.records, table.bytes);
    }
    for Damaged { item, state, segment, at } in report.damaged.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "  {item}: {} (segment {segment}, byte {at})", words(*state));
    }
    if report.damaged.len() > SHOWN_MAX {
        let _ = writeln!(text, "  and {} more; --json lists all", report.damaged.len() - SHOWN_MAX);
    }
    if let Some(salvaged) = outcome.salvaged {
        text += &saved(salvaged);
    } else if outcome.is_damaged {
        text +=
            "next: start the node, repair fetches damaged fragments anew; if it does not start, save what verifies with --salvage DIR\n";
    }
    text
}

fn saved(salvaged: &Salvaged) -> String {
    let mut text = format!("saved: {} items of {} bytes, {} records\n", salvaged.items, salvaged.bytes, salvaged.records);
    for lost in salvaged.lost.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "  not saved: {}: {}", lost.item, lost.why);
    }
    if salvaged.lost.len() > SHOWN_MAX {
        let _ = writeln!(text, "  and {} more; --json lists all", salvaged.lost.len() - SHOWN_MAX);
    }
    for table in &salvaged.tables_lost {
        let _ = writeln!(
            text,
            "  not saved: records in {} after {}: {}",
            table.table,
            table.records,
            table.error.as_deref().unwrap_or_default()
        );
    }
    if salvaged.is_unverified && salvaged.records > 0 {
        text += "  the records come from an index whose pages do not verify: tributary status and the chain say what they should be\n";
    }
    text
}

fn row(segment: &SegmentReport) -> Vec<String> {
    vec![
        segment.segment.to_string(),
        segment.bytes.map_or_else(|| "absent".to_owned(), |bytes| bytes.to_string()),
        segment.live_bytes.to_string(),
        segment.dead_bytes.to_string(),
        segment.corrupt_bytes.to_string(),
        segment.torn_bytes.to_string(),
        segment.picture.clone(),
    ]
}

const fn words(state: State) -> &'static str {
    match state {
        State::Whole => "whole",
        State::Unindexed => "whole, not indexed yet",
        State::HeaderDamaged => "whole behind a damaged header",
        State::Corrupt => "damaged",
        State::Unknown => "whole, unknown to the index",
        State::Missing => "in the index and gone from the disk",
    }
}

#[cfg(test)]
mod tests {
    use storage::store::{Config, Store};

    use super::*;
    use crate::{data::DataDir, output::Output};

    fn context(folder: &std::path::Path) -> Context {
        Context::new(DataDir::new(folder), None, None, None, Output::new(true))
    }

    fn args(folder: Option<PathBuf>, salvage: Option<PathBuf>) -> Args {
        Args { folder, salvage }
    }

    #[tokio::test]
    async fn a_sound_store_passes_a_damaged_one_fails_by_name_and_a_running_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (context, store) = (context(folder.path()), folder.path().join("store"));
        let open = Store::open(&store, Config::default()).unwrap();
        let id = open.put(&[7; 5_000]).unwrap();
        let kept = open.put(b"small").unwrap();
        let error = format!("{:#}", run(&context, args(None, None)).await.unwrap_err());
        assert!(error.contains("while no node runs on it") && error.contains("in use by another process"), "{error}");
        drop(open);
        run(&context, args(None, None)).await.unwrap();

        let segment = store.join("00000001.seg");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[3_000] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let out = folder.path().join("out");
        let error = run(&context, args(Some(store.clone()), Some(out.clone()))).await.unwrap_err();
        assert!(error.is::<Failed>() && error.to_string().contains("is damaged"), "{error}");
        let saved = Store::open(&out, Config::default()).unwrap();
        assert_eq!((saved.get(id).unwrap(), saved.get(kept).unwrap().as_deref()), (None, Some(&b"small"[..])));
        drop(saved);

        let report = Examination::of(&store).unwrap().report().clone();
        let text = told(&Outcome { folder: &store, is_damaged: true, report: &report, salvaged: None });
        for word in ["damaged (segment 1, byte 12)", "xxxx", "1 whole, 1 damaged", "--salvage DIR"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[tokio::test]
    async fn a_folder_without_a_store_is_an_error_and_stays_empty() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", run(&context(folder.path()), args(None, None)).await.unwrap_err());
        assert!(error.starts_with("there is no store in ") && error.contains("--folder") && !error.contains("while no node"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
