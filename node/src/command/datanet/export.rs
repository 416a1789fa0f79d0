//! `tributary datanet export`: contributions as files that other tools read.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::seal::log::Purpose;

use super::{
    Context,
    exported::{About, Export, ExportedFile, Layout},
    fetch::readable,
    grant,
    network::Network,
};
use crate::{
    datanet::{Shards, copies::Copies, local, placing, resolve},
    output::table,
};

/// Write a Datanet's contributions as files that other tools read.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Every contribution is a file of its own. tributary.json beside them names contributors and text roots, so that an import gives the same\nDatanet. What is not on this machine is fetched from its holders first.\n\nExamples:\n  tributary datanet export medical --out medical --format huggingface\n  tributary datanet export medical --out tables --format csv\n\nNext: tributary datanet import DIR brings such a folder into a Datanet."
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Folder to write: new, or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How it is written.
    #[arg(long, value_enum, default_value = "huggingface")]
    format: Layout,
    /// What a private Datanet is read for: read, train, serve or review.
    #[arg(long, value_name = "PURPOSE", default_value = "read")]
    purpose: Purpose,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    datanet: u64,
    out: PathBuf,
    documents: u64,
    bytes: u64,
    files: Vec<ExportedFile>,
    /// Where the texts should stay, if that is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    residency: Option<String>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let wanted = readable(context, &state, asset.id, None)?;
    let mut network: Option<(Network, Shards)> = None;
    let keeping = context.config()?.keeping;
    let copies = Copies::of_command(&keeping);
    let residency = placing::told_of_copy(&state, asset.id, keeping.region)?;
    residency.iter().for_each(|told| context.output.note(told));
    if card.is_private() {
        // Also what lies here is sealed: each read is entered into the Datanet's log before it is opened.
        context.data.create()?;
        let joined = Network::join(context, &args.bootstrap).await?;
        let entered = grant::enter_reads(context, &chain, &joined, asset, &wanted, args.purpose).await;
        if entered.is_err() {
            joined.leave().await;
            return entered;
        }
        let shards = Shards::new(context.data.clone(), joined.overlay.clone(), joined.bulk.clone(), copies);
        network = Some((joined, shards));
    }
    let mut export = Export::begin(&args.out, args.format, asset.id.0, card)?;
    let mut progress = context.output.progress("contributions", wanted.len() as u64);
    for (done, accepted) in (1..).zip(&wanted) {
        let here = local(&context.data, accepted).ok().flatten();
        let contribution = match here {
            Some(here) => here,
            None => {
                if network.is_none() {
                    context.data.create()?;
                    let joined = Network::join(context, &args.bootstrap).await?;
                    let shards = Shards::new(context.data.clone(), joined.overlay.clone(), joined.bulk.clone(), copies);
                    network = Some((joined, shards));
                }
                let (_, shards) = network.as_ref().context("joined above")?;
                shards.contribution(&state, accepted).await?.0
            }
        };
        tokio::task::block_in_place(|| export.add(accepted.number, accepted.contributor, accepted.text_root, &contribution.documents))?;
        progress.set(done);
    }
    progress.finish();
    if let Some((network, _)) = network {
        network.leave().await;
    }
    let version = state.newest(asset.id).map_or_else(|| "0.0.0".to_owned(), |version| format!("{}.0.0", version.version));
    let deployment = chain.deployment();
    let about = About {
        version,
        published: date(chain.head().await?.timestamp),
        url: format!("https://tributary.invalid/{}/{}/{}", deployment.chain_id, deployment.registry, asset.id),
    };
    let manifest = export.end(&about)?;
    let printed = Printed {
        datanet: asset.id.0,
        out: args.out,
        documents: manifest.files.iter().map(|file| file.documents).sum(),
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        files: manifest.files,
        residency,
    };
    context.output.result(&printed, || describe(&printed))
}

/// Day of a time in seconds since 1970, as YYYY-MM-DD.
fn date(seconds: u64) -> String {
    // Days from 1 March of year 0, in eras of 400 years (Hinnant, chrono-compatible low-level date algorithms).
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + u64::from(month < 3))
}

fn describe(printed: &Printed) -> String {
    let row =
        |file: &ExportedFile| vec![file.path.clone(), file.documents.to_string(), file.bytes.to_string(), file.contributor.to_string()];
    let mut text = table(&["file", "documents", "bytes", "contributor"], &printed.files.iter().map(row).collect::<Vec<_>>());
    text.push_str(&format!("\n\n{} documents, {} bytes in {}", printed.documents, printed.bytes, printed.out.display()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        let dates = [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_735_689_599, "2024-12-31"), (1_795_219_200, "2026-11-21")];
        for (seconds, expected) in dates {
            assert_eq!(date(seconds), expected);
        }
    }
}
