//! What this folder keeps of rows that it brought: where each stood in its file, what was left out or redacted before it was shown, and the gate's last report.
//!
//! One file a shard as it was cut (`brought/<Datanet>-<text root>.json`), so that a shard that is shown again without some of its rows has one story. The report itself
//! lies in `reports` under its digest, that of a refused contribution too. Bounds: [`NAMED_MAX`] rows of a kind a shard, the rest are counted.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use storage::datanet::Report;
use types::id::{Address, AssetId, Hash32};

use super::{
    contribute::{Dropped, Spot, spots},
    findings::Finding,
};
use crate::data::{DataDir, read_bounded, write_atomic};

/// Most rows named as left out, and as redacted, of one shard.
const NAMED_MAX: usize = 10_000;
/// Largest record: each row named takes some 500 bytes.
const RECORD_BYTES_MAX: u64 = 32 << 20;
/// Most records read: shards of 16 MiB.
const RECORDS_MAX: usize = 1 << 14;

/// The record of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) datanet: AssetId,
    pub(super) contributor: Address,
    /// Text root of the shard as it was cut.
    pub(super) root: Hash32,
    /// The files' names.
    pub(super) files: Vec<String>,
    /// Rows that were left out.
    pub(super) dropped: Vec<Dropped>,
    pub(super) dropped_unlisted: usize,
    /// Rows whose text was changed before it was shown.
    pub(super) redacted: Vec<Finding>,
    pub(super) redacted_unlisted: usize,
    /// What the gate was shown last, and said of it.
    pub(super) shown: Option<Shown>,
}

/// What a gate was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    pub(super) text_root: Hash32,
    /// Digest of the report.
    pub(super) report: Hash32,
    /// Where its rows stand in the files.
    pub(super) stretches: Vec<(Spot, u32)>,
}

fn folder(data: &DataDir) -> PathBuf {
    data.path().join("brought")
}

fn path(data: &DataDir, datanet: AssetId, root: Hash32) -> PathBuf {
    folder(data).join(format!("{datanet}-{}.json", hex::encode(root.0)))
}

fn read(path: &Path) -> anyhow::Result<Record> {
    let bytes = read_bounded(path, RECORD_BYTES_MAX).with_context(|| format!("{}", path.display()))?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: damaged; remove it, the gate has the reports of what was accepted", path.display()))
}

/// Cuts a list to so many; how many were beyond.
fn bounded<T>(list: &mut Vec<T>) -> usize {
    let beyond = list.len().saturating_sub(NAMED_MAX);
    list.truncate(NAMED_MAX);
    beyond
}

impl Record {
    /// What is known of a shard before anybody sees it.
    pub(super) fn cut(
        (datanet, contributor, root): (AssetId, Address, Hash32),
        files: &[String],
        mut dropped: Vec<Dropped>,
        mut redacted: Vec<Finding>,
    ) -> Self {
        let (dropped_unlisted, redacted_unlisted) = (bounded(&mut dropped), bounded(&mut redacted));
        let files = files.to_vec();
        Self { datanet, contributor, root, files, dropped, dropped_unlisted, redacted, redacted_unlisted, shown: None }
    }

    /// Keeps it.
    pub(super) fn keep(&self, data: &DataDir) -> anyhow::Result<()> {
        let path = path(data, self.datanet, self.root);
        write_atomic(&path, &serde_json::to_vec(self)?, 0o600).with_context(|| format!("{}", path.display()))
    }

    /// That of a shard, as [`Record::cut`] kept it or with nothing left out.
    pub(super) fn of((datanet, contributor, root): (AssetId, Address, Hash32), data: &DataDir, files: &[String]) -> anyhow::Result<Self> {
        let path = path(data, datanet, root);
        if path.exists() { read(&path) } else { Ok(Self::cut((datanet, contributor, root), files, Vec::new(), Vec::new())) }
    }

    /// Notes that `rows` at these places were shown, without those that were left out by now, and what the gate said of them. On disk when this returns.
    pub(super) fn shown(mut self, data: &DataDir, report: &Report, stretches: Vec<(Spot, u32)>, dropped: &[Dropped]) -> anyhow::Result<()> {
        let kept = data.report(report.digest());
        write_atomic(&kept, report.to_json().as_bytes(), 0o600).with_context(|| format!("{}", kept.display()))?;
        // Those that were left out before anything was shown are in the list already.
        let known: std::collections::BTreeSet<_> = self.dropped.iter().map(|dropped| (dropped.file.clone(), dropped.row)).collect();
        let new = dropped.iter().filter(|dropped| !known.contains(&(dropped.file.clone(), dropped.row)));
        self.dropped.extend(new.cloned());
        self.dropped_unlisted += bounded(&mut self.dropped);
        self.shown = Some(Shown { text_root: report.text_root, report: report.digest(), stretches });
        self.keep(data)
    }

    /// Places of the rows that were shown, in the report's order.
    pub(super) fn spots(&self) -> Vec<Spot> {
        self.shown.as_ref().map_or_else(Vec::new, |shown| spots(&shown.stretches))
    }

    /// The file of a place, where there are several.
    pub(super) fn file(&self, spot: Spot) -> Option<&String> {
        usize::try_from(spot.file).ok().and_then(|file| self.files.get(file)).filter(|_| self.files.len() > 1)
    }
}

/// What a folder has of a contributor's rows in a Datanet.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// The records that can be read, by text root.
    pub(super) records: Vec<Record>,
    /// Those that cannot, each with the file, why, and what to do: whose rows they tell of is not known.
    pub(super) damaged: Vec<String>,
}

/// The records of a contributor's rows in a Datanet.
///
/// # Errors
/// That the folder cannot be read, or there are too many.
pub(super) fn all(data: &DataDir, datanet: AssetId, contributor: Address) -> anyhow::Result<Brought> {
    let folder = folder(data);
    let mut found = Brought::default();
    if !folder.exists() {
        return Ok(found);
    }
    let prefix = format!("{datanet}-");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let is_its =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".json"));
        if is_its {
            paths.push(path);
        }
        anyhow::ensure!(paths.len() <= RECORDS_MAX, "{} holds more than {RECORDS_MAX} records of Datanet {datanet}", folder.display());
    }
    paths.sort();
    for path in paths {
        match read(&path) {
            Ok(record) if record.contributor == contributor => found.records.push(record),
            Ok(_) => {}
            Err(error) => found.damaged.push(format!("{error:#}")),
        }
    }
    Ok(found)
}
