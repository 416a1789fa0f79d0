//! `tributary datanet import`: a folder that describes itself, as a Datanet.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use chain_bridge::registry::State;
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::datanet::{Card, Licence, shard};
use types::{
    id::{AssetId, Hash32},
    manifest::AssetKind,
};

use super::{
    Context, contribute,
    entry::{self, Offered, Registered},
    exported::{Found, Imported, Said, import},
    left_out::{self, LeftOut},
};
use crate::{chain::Chained, datanet::card_of, output::table, words};

/// Bring a folder that describes itself into a Datanet: an export, a Hugging Face dataset repository, or Croissant.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "What describes it is tributary.json (of an export), else croissant.json, else README.md with front matter. Its card makes the Datanet,\nunless you own one of its name; its files are contributed, each by itself. Into a Datanet that is registered already rows go under the\nprivacy, licence and policy that the folder states, or not at all, and into somebody else's only with --into. Stated sizes, SHA-256, rows\nand text roots must be those of the files. Links are followed within the folder, and from a snapshot of a Hugging Face cache to its blobs.\nWhat is described and cannot be taken, and what lies there and is not described, is named, and nothing is sent unless you say --skip-unknown. Not asked about\nare names that begin with a dot and, at the top of the folder, README.md, croissant.json, tributary.json, dataset_infos.json, LICENSE, LICENCE, COPYING, NOTICE\nand CITATION files.\nA folder says who may read it: private: true or false in README.md, conditionsOfAccess in croissant.json, the card in tributary.json. Where they differ or are\nnot clear it is refused; a folder laid out as an export that says nothing needs --public, and one of others that says nothing is open.\n--dry-run makes the checks of the import (whose Datanet, privacy, licence, policy, every row by the gate's rules), shows card, files and text roots, and sends nothing.\n\nExamples:\n  tributary datanet import medical --dry-run\n  tributary datanet import medical --into 7\n  tributary datanet import squad --licence CC-BY-SA-4.0 --text-column context\n\nNext: tributary datanet publish NAME makes what was accepted a version."
)]
pub(super) struct Args {
    /// The folder.
    folder: PathBuf,
    /// Name of the Datanet [default: as the folder describes itself].
    #[arg(long)]
    name: Option<String>,
    /// Contribute to this Datanet, by its number, whoever owns it.
    #[arg(long, value_name = "NUMBER", conflicts_with = "name")]
    into: Option<u64>,
    /// Licence, as an SPDX expression [default: as the folder describes itself].
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,
    /// Column that holds the text [default: as described, else text].
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,
    /// Column that holds the title [default: as described, else title].
    #[arg(long, value_name = "NAME")]
    title_column: Option<String>,
    /// Column that holds the id [default: as described, else id].
    #[arg(long, value_name = "NAME")]
    id_column: Option<String>,
    /// Everybody may read it: for a folder laid out as an export that does not say who may.
    #[arg(long)]
    public: bool,
    /// Go on without what is described or lies there and cannot be taken.
    #[arg(long)]
    skip_unknown: bool,
    /// Leave refused rows out and go on with the others.
    #[arg(long)]
    drop_refused: bool,
    /// Replace what looks like personal data, as previewed, where the Datanet does not take it as it is.
    #[arg(long)]
    redact: bool,
    /// Epochs that the estimate counts rent for.
    #[arg(long, value_name = "EPOCHS", default_value_t = 30)]
    rent_epochs: u64,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// What a dry run prints.
#[derive(Debug, Serialize)]
struct Dry {
    is_dry_run: bool,
    /// What described the folder.
    described_by: &'static str,
    card: Card,
    /// The Datanet that the rows would enter; nothing if one would be registered.
    datanet: Option<AssetId>,
    files: Vec<Row>,
    left_out: Vec<LeftOut>,
}

#[derive(Debug, Serialize)]
struct Row {
    path: PathBuf,
    /// Of each shard that is cut from it.
    text_roots: Vec<Hash32>,
    documents: usize,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let licence: Option<Licence> = args.licence.as_deref().map(str::parse).transpose()?;
    let said = Said { name: args.name.clone(), licence, is_public: args.public };
    let mut imported = import(&args.folder, said)?;
    for (given, column) in [
        (&args.text_column, &mut imported.columns.text),
        (&args.title_column, &mut imported.columns.title),
        (&args.id_column, &mut imported.columns.id),
    ] {
        if let Some(given) = given {
            column.clone_from(given);
        }
    }
    imported.columns.is_title_named |= args.title_column.is_some();
    imported.columns.is_id_named |= args.id_column.is_some();
    left_out::agreed(&imported.left_out, args.skip_unknown)?;
    let rows = tokio::task::block_in_place(|| look(context, &imported))?;
    let is_policy_stated = imported.is_policy_stated();
    let Imported { card, columns, files, by, left_out } = imported;
    // Whatever would stop the rows stops a dry run as well, in the same words.
    let chain = context.chain().await?;
    let state = chain.state().await?;
    let me = chain.client.address().context("the wallet has an account")?;
    let registered = registered(&state);
    let known = entry::target(Offered { card: &card, is_policy_stated }, &registered, me, args.into.map(AssetId))?;
    let paths = files.into_iter().map(|file| file.path).collect();
    let described = |datanet: String, left_out| contribute::Described {
        datanet,
        files: paths,
        columns,
        // The rows' own: the gate is asked whether it fits the Datanet's.
        licence: card.licence().to_string(),
        left_out,
        drop_refused: args.drop_refused,
        redact: args.redact,
        rent_epochs: args.rent_epochs,
        bootstrap: args.bootstrap,
    };
    if context.is_dry() {
        let there = known.and_then(|id| registered.iter().find(|there| there.id == id));
        // One that would be registered has the folder's card, this account's as it is.
        let (id, owner, rules) = there.map_or((AssetId(0), me, &card), |there| (there.id, there.owner, &there.card));
        let to = contribute::To { datanet: id, owner, card: rules, me };
        contribute::rehearse(context, &state, to, described(id.to_string(), Vec::new()).into()).await?;
        let printed = Dry { is_dry_run: true, described_by: by, card: card.clone(), datanet: known, files: rows, left_out };
        return context.output.result(&printed, || describe(&printed));
    }
    let datanet = match known {
        Some(known) => {
            context.output.note(&format!("contributing to Datanet {known}, which is registered already"));
            known
        }
        None => register(context, &chain, &card).await?,
    };
    contribute::run_on(context, Some(chain), described(datanet.to_string(), left_out).into()).await
}

/// The Datanets of the registry that have a card.
fn registered(state: &State) -> Vec<Registered> {
    let datanets = state.assets().filter(|asset| asset.kind == AssetKind::Datanet);
    datanets.filter_map(|asset| Some(Registered { id: asset.id, owner: asset.owner(), card: card_of(asset).ok()? })).collect()
}

/// Registers a Datanet for the rows.
async fn register(context: &Context, chain: &Chained, card: &Card) -> anyhow::Result<AssetId> {
    let uri = serde_json::to_string(card).context("a card is plain data")?;
    let (asset, _) = chain.client.register_asset(AssetKind::Datanet, &uri).await?;
    context.output.note(&format!("registered Datanet {asset}, {}; this wallet's node must be running: it is the gate", card.name()));
    Ok(asset)
}

/// Reads every file to its end: rows that are no documents, and text roots that are not the stated ones, are told before anything is sent.
fn look(context: &Context, imported: &Imported) -> anyhow::Result<Vec<Row>> {
    let mut progress = context.output.progress("files read", imported.files.len() as u64);
    let mut rows = Vec::new();
    for (done, Found { path, text_root, documents: stated_rows }) in (1..).zip(&imported.files) {
        let mut row = Row { path: path.clone(), text_roots: Vec::new(), documents: 0 };
        contribute::read(path, &imported.columns, |documents| {
            row.text_roots.push(shard::text_root(&documents));
            row.documents += documents.len();
        })?;
        if let Some(stated) = stated_rows {
            let got = row.documents;
            ensure!(
                u64::try_from(got) == Ok(*stated),
                "{}: it has {got} documents, {stated} are stated: export it anew",
                words::path(path)
            );
        }
        // The root of private text is over salted leaves: a copy has another salt.
        if !imported.card.is_private()
            && let (Some(stated), [derived]) = (text_root, &row.text_roots[..])
        {
            ensure!(stated == derived, "{}: its rows give text root {derived}, {stated} is stated: export it anew", words::path(path));
        }
        rows.push(row);
        progress.set(done);
    }
    progress.finish();
    Ok(rows)
}

fn describe(printed: &Dry) -> String {
    let card = &printed.card;
    let row = |row: &Row| {
        let roots: Vec<String> = row.text_roots.iter().map(ToString::to_string).collect();
        vec![row.path.display().to_string(), row.documents.to_string(), roots.join(" ")]
    };
    let left_out = left_out::told(&printed.left_out).map_or_else(String::new, |lines| format!("\n\n{lines}"));
    format!(
        "{}, under {}, read by {}, as {} says\n{}\n\n{}{left_out}\n\n{}; nothing was sent (--dry-run)",
        card.name(),
        words::line(card.licence().as_str()),
        if card.is_private() { "members only" } else { "everybody" },
        printed.described_by,
        words::block(card.description()),
        table(&["file", "documents", "text roots"], &printed.files.iter().map(row).collect::<Vec<_>>()),
        printed.datanet.map_or_else(|| "a Datanet would be registered for it".to_owned(), |id| format!("it would enter Datanet {id}"))
    )
}
