//! `tributary index build`: the index of a Datanet version, opened where it is, built where it is not.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::Context as _;
use attribution::index::DatanetIndex;
use clap::Args as ClapArgs;
use serde::Serialize;
use types::id::{AssetVersion, Hash32};

use super::{Context, chosen, fetched_into, plans};
use crate::{
    command::talk::joining,
    config::attribution::Memory,
    output::{counted, table},
    service::index::{
        plan::{Plan, Planned},
        store::{Indexes, Made},
    },
    words,
};

/// Open the index of a Datanet version, and build what is missing of it.
#[derive(Debug, ClapArgs)]
#[command(
    disable_version_flag = true,
    after_help = "Text that is not in the data folder is fetched from the nodes that hold it. Segments that are here are read whole and used; one that is damaged is set aside\nand built again. A build that is stopped goes on where it stood when the same command is run again. The files are the same in any memory and by any\nnumber of threads, so that everybody has the same roots.\n\nExamples:\n  tributary index build medical\n  tributary index build medical --memory 4G --threads 8\n  tributary index build medical --version 2 --json\n\nNext: tributary datanet search medical \"a phrase\" finds who wrote it."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Its version [default: the newest].
    #[arg(long = "version", value_name = "NUMBER")]
    number: Option<u32>,
    /// Memory that building a segment may take, as 1G or 512M [default: of the configuration].
    #[arg(long, value_name = "BYTES")]
    memory: Option<Memory>,
    /// Threads that sort [default: of the configuration].
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// Also delete files of all indexes here that no version in use names: those that models declare, and each Datanet's newest.
    #[arg(long)]
    prune: bool,
    /// Overlay address to join through where text is fetched [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// A segment, for people and programs.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    contributions: usize,
    /// Those of them that were erased: a row without text.
    erased: usize,
    bytes: u64,
    words: u64,
    root: Hash32,
    /// Whether this run built it.
    is_built: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    version: AssetVersion,
    /// Root of an index over this version alone.
    root: Hash32,
    /// Nothing if there is no data folder to keep it in, or the Datanet is private.
    folder: Option<PathBuf>,
    is_private: bool,
    documents: u64,
    /// Documents that are paid through an earlier one.
    near_copies: u64,
    segments: Vec<Row>,
    /// Damaged files that were set aside, with what is wrong.
    set_aside: Vec<String>,
    /// Files deleted.
    pruned: usize,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let mut config = joining(context, args.bootstrap)?;
    config.attribution.memory = args.memory.unwrap_or(config.attribution.memory);
    config.attribution.threads = args.threads.unwrap_or(config.attribution.threads);
    config.attribution.validate()?;
    let state = context.chain_reader().await?.state().await?;
    let version = chosen(&state, &args.datanet, args.number)?;
    context.data.create()?;
    let keeping = || Indexes::of(&context.data, &config.attribution);
    let (index, made) = fetched_into(context, &config, &state, &[version], keeping()).await?;
    let pruned = if args.prune { keeping().prune(&state)? } else { 0 };
    let plan = plans(&state, &[version])?.pop().context("one version was asked for")?;
    let (datanet, made) = (index.datanets().first().context("one version was opened")?, made.into_iter().next().unwrap_or_default());
    let printed = Printed { root: index.root(), folder: keeping().folder_of(&plan), pruned, ..printed(&plan, datanet, made) };
    context.output.result(&printed, || describe(&printed))
}

fn printed(plan: &Plan, datanet: &DatanetIndex, made: Made) -> Printed {
    let (mut number, mut documents, mut near_copies) = (0, 0, 0);
    for row in datanet.segments().iter().flat_map(|segment| segment.documents().iter()) {
        documents += u64::from(row.length > 0);
        near_copies += u64::from(row.cluster != number);
        number += 1;
    }
    let leaves = datanet.segments().iter().map(|segment| segment.leaf(0));
    let row = |((place, planned), leaf): ((usize, &Planned), attribution::index::SegmentLeaf)| Row {
        file: planned.id.file_name(),
        contributions: planned.pieces.len(),
        erased: planned.pieces.iter().filter(|piece| piece.is_erased).count(),
        bytes: leaf.length,
        words: leaf.entries,
        root: leaf.text,
        is_built: made.built.contains(&place),
    };
    let segments = plan.segments.iter().enumerate().zip(leaves).map(row).collect();
    let Made { set_aside, .. } = made;
    let is_private = plan.is_private;
    Printed { version: plan.version, root: Hash32::ZERO, folder: None, is_private, documents, near_copies, segments, set_aside, pruned: 0 }
}

fn describe(printed: &Printed) -> String {
    let Printed { version, root, documents, near_copies, segments, .. } = printed;
    let rows: Vec<Vec<String>> = segments
        .iter()
        .map(|row| {
            let made = if row.is_built { "built" } else { "was here" };
            vec![row.file.clone(), row.contributions.to_string(), row.bytes.to_string(), row.words.to_string(), made.to_owned()]
        })
        .collect();
    let documents = counted(usize::try_from(*documents).unwrap_or(usize::MAX), "document");
    let mut text = format!("Datanet {version}: {documents}, {near_copies} of them near copies of an earlier one\nroot {root}\n");
    text.push_str(&match &printed.folder {
        Some(folder) => format!("in   {}\n", words::path(folder)),
        None if printed.is_private => "in   memory: the Datanet is private, and no file shows its text\n".to_owned(),
        None => "in   memory: there is no data folder to keep it in\n".to_owned(),
    });
    text.push_str(&table(&["segment", "contributions", "bytes", "words", ""], &rows));
    if printed.pruned > 0 {
        text.push_str(&format!("\ndeleted {} that no version in use names", counted(printed.pruned, "file")));
    }
    text
}
