//! `tributary index verify`: every byte of the files of a version's index, held against their headers, the registered texts, and the posted root.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use chain_bridge::registry::State;
use clap::Args as ClapArgs;
use serde::Serialize;
use types::id::{AssetVersion, Hash32};

use super::{Context, chosen, indexes, local, plans};
use crate::{
    command::Failed,
    output::table,
    service::index::{
        plan::Plan,
        store::{Found, Indexes, StoreError, misread},
    },
    words,
};

/// Read every file of a Datanet version's index and hold it against what it should be; exit code 1 names one that is not.
#[derive(Debug, ClapArgs)]
#[command(
    disable_version_flag = true,
    after_help = "Reads all of it, some seconds a gigabyte, and changes nothing: that each section is as it was written, that each text has the root that the registry has, and\nthat the index has the root that was posted for versions which declare this Datanet alone. A file that is not there is no fault: a node builds it when it\nneeds it.\n\nExample:\n  tributary index verify medical\n\nNext: tributary index build medical sets aside what is damaged and builds it again."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Its version [default: the newest].
    #[arg(long = "version", value_name = "NUMBER")]
    number: Option<u32>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Is {
    Whole,
    Missing,
    Damaged,
}

/// A file, for people and programs.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    is: Is,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// A root that was posted for a version which declares this Datanet version and no other.
#[derive(Debug, Serialize)]
struct Posted {
    version: AssetVersion,
    root: Hash32,
    is_ours: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    version: AssetVersion,
    /// Nothing of a private Datanet, whose index is built in memory from the texts that are here.
    folder: Option<PathBuf>,
    /// Whether nothing is damaged, and no other root posted. Files may be missing.
    is_ok: bool,
    /// Root of an index over this version alone; nothing while files are missing or damaged.
    root: Option<Hash32>,
    files: Vec<Row>,
    posted: Vec<Posted>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let state = context.chain_reader().await?.state().await?;
    let version = chosen(&state, &args.datanet, args.number)?;
    let plan = plans(&state, &[version])?.pop().context("one version was asked for")?;
    if plan.is_private {
        return in_memory(context, &state, version).await;
    }
    let indexes = indexes(context)?;
    let folder = indexes.folder(version.asset).with_context(|| {
        format!("{} is not there, so it holds no index: tributary index build {} makes it", context.data.path().display(), args.datanet)
    })?;
    let checking = tokio::task::spawn_blocking(move || check(&indexes, &plan));
    let (files, root) = checking.await??;
    show(context, &state, Printed { version, folder: Some(folder), is_ok: true, root, files, posted: vec![] })
}

/// A private Datanet has no files: its index is built from what this folder's node may read, each text held against its registered root, and its root against
/// the posted ones.
async fn in_memory(context: &Context, state: &Arc<State>, version: AssetVersion) -> anyhow::Result<()> {
    let root = local(context, state, &[version]).await?.root();
    show(context, state, Printed { version, folder: None, is_ok: true, root: Some(root), files: vec![], posted: vec![] })
}

fn show(context: &Context, state: &State, found: Printed) -> anyhow::Result<()> {
    let (version, posted) = (found.version, found.root.map_or_else(Vec::new, |root| posted(state, found.version, root)));
    let is_ok = found.files.iter().all(|row| row.is != Is::Damaged) && posted.iter().all(|posted| posted.is_ours);
    let printed = Printed { is_ok, posted, ..found };
    context.output.result(&printed, || describe(&printed))?;
    if is_ok { Ok(()) } else { Err(Failed(format!("the index of Datanet {version} is not what it should be")).into()) }
}

/// Each file of a plan, and the root if all are whole.
fn check(indexes: &Indexes, plan: &Plan) -> Result<(Vec<Row>, Option<Hash32>), StoreError> {
    let mut files = Vec::new();
    for planned in &plan.segments {
        let found = match indexes.look_at(plan, planned)? {
            Found::Whole(segment) => match misread(&segment, planned) {
                None => (Is::Whole, None),
                Some(number) => (Is::Damaged, Some(format!("the text of contribution {number} is not the registered one"))),
            },
            Found::Missing => (Is::Missing, None),
            Found::Damaged(error) => (Is::Damaged, Some(error.to_string())),
        };
        files.push(Row { file: planned.id.file_name(), is: found.0, why: found.1 });
    }
    if files.iter().any(|row| row.is != Is::Whole) {
        return Ok((files, None));
    }
    let (is, why, root) = match indexes.rows_of(plan)? {
        Ok(Some(datanet)) => (Is::Whole, None, Some(datanet)),
        Ok(None) => (Is::Missing, None, None),
        Err(error) => (Is::Damaged, Some(format!("{error:#}")), None),
    };
    files.push(Row { file: plan.rows_file(), is, why });
    Ok((files, root))
}

fn posted(state: &State, datanet: AssetVersion, ours: Hash32) -> Vec<Posted> {
    let declaring = state.versions().filter(|(_, published)| published.datanets == [datanet]);
    let roots = declaring.filter_map(|(version, _)| Some((version, state.index(version)?.root)));
    roots.map(|(version, root)| Posted { version, root, is_ours: root == ours }).collect()
}

fn describe(printed: &Printed) -> String {
    let row = |row: &Row| {
        let is = match row.is {
            Is::Whole => "whole",
            Is::Missing => "not here",
            Is::Damaged => "DAMAGED",
        };
        vec![row.file.clone(), is.to_owned(), row.why.clone().unwrap_or_default()]
    };
    let rows: Vec<Vec<String>> = printed.files.iter().map(row).collect();
    let mut text = match &printed.folder {
        Some(folder) => format!("Datanet {} in {}\n{}", printed.version, words::path(folder), table(&["file", "is", ""], &rows)),
        None => format!("Datanet {} is private: its index lies in no file, and was built in memory", printed.version),
    };
    if let Some(root) = printed.root {
        text.push_str(&format!("\nroot {root}"));
    }
    for posted in &printed.posted {
        let is = if posted.is_ours { "this root is posted for it" } else { "ANOTHER root is posted for it:" };
        let root = if posted.is_ours { String::new() } else { format!(" {}", posted.root) };
        text.push_str(&format!("\nversion {}: {is}{root}", posted.version));
    }
    if printed.files.iter().any(|row| row.is != Is::Whole) {
        text.push_str(&format!("\ntributary index build {} makes what is damaged or not here", printed.version.asset));
    }
    text
}
