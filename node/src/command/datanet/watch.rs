//! `tributary datanet watch D --mine`: what published answers keep from a contributor, found with its own text, and the proof of it.
//!
//! Every node with a root on the chain is asked for the receipts under it, which must give the root, then for the transcripts of those that are open and
//! declare the Datanet ([`nodes`]). Each is searched with a small index over the contributor's own text ([`desk`]): some milliseconds an answer, and about
//! 3 bytes of memory a byte of that text. Only where something is missing the whole index is built, and the proof made from it.

mod desk;
mod nodes;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use attribution::{bundle::Bundle, transcript};
use chain_bridge::registry::{State, state::SubmittedRoot};
use clap::Args as ClapArgs;
use serde::Serialize;
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
};

use self::desk::{Desk, Row};
use super::{Context, network::Network};
use crate::{
    chain::Chained,
    command::receipt,
    data::write_atomic,
    datanet::resolve,
    output::{counted, table},
    service::settlement::transcripts::shown_until,
    words,
};

/// Seconds of the chain before a root that could not be looked at is tried again, twice as many each time.
const AGAIN_S: u64 = 60;
/// How often they double: up to about an hour.
const DOUBLED_MAX: u32 = 6;
/// Most receipts of a folder.
const RECEIPTS_MAX: usize = 10_000;

/// Watch that published answers credit a contributor's own text.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Answers that clients asked for in the class open are published by their nodes until stake of then may leave. Each is searched for the\ncontributor's own text, which is fetched where it is not here: what is left out, cut short, hidden under a mask, paid to another, or said in\nits name. What is found is searched again with the whole index, as `tributary audit prove` does, and proved if --file is given. Without --once it\ngoes on until it is stopped, and prints what is new.\n\nExamples:\n  tributary datanet watch medical --mine --once\n  tributary datanet watch medical --mine --file        prove what is found: the node's stake falls\n  tributary datanet watch medical --contributor 0x... --once --receipts DIR --json"
)]
pub(super) struct Args {
    /// Datanet, by name or number.
    datanet: String,
    /// Watch for what this wallet's account contributed.
    #[arg(long, required_unless_present = "contributor")]
    mine: bool,
    /// Watch for what this account contributed.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "mine")]
    contributor: Option<Address>,
    /// Look at what is published now, and end.
    #[arg(long)]
    once: bool,
    /// Prove what is found to the chain; with --dry-run, and without this, it is only asked whether it would take the proof.
    #[arg(long)]
    file: bool,
    /// Look at the receipts in this folder too, whatever their class.
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
    /// Keep the receipt of each answer with something wrong in this folder, for `tributary audit prove`.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// An open answer that its node does not show.
#[derive(Debug, Serialize)]
struct Withheld {
    epoch: u64,
    node: Address,
    receipt: Hash32,
    why: String,
}

/// A root whose receipts could not be looked at.
#[derive(Debug, Serialize)]
struct Unread {
    epoch: u64,
    node: Address,
    why: String,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    asset: u64,
    name: String,
    contributor: Address,
    /// Contributions of the account.
    contributions: usize,
    /// Roots whose receipts were looked at.
    roots: usize,
    /// Answers that declare the Datanet and were searched.
    answers: usize,
    /// Answers that declare it and are not open: nobody but their clients sees them.
    closed: usize,
    withheld: Vec<Withheld>,
    unread: Vec<Unread>,
    /// Answers with something wrong.
    found: Vec<Row>,
}

impl Printed {
    const fn is_news(&self) -> bool {
        !(self.withheld.is_empty() && self.unread.is_empty() && self.found.is_empty())
    }
}

/// A root on the chain: its epoch, its node, and what it is.
type Place = (u64, Address, Hash32);

/// What was looked at already.
#[derive(Debug, Default)]
struct Seen {
    roots: BTreeSet<Place>,
    /// Roots that could not be, or not wholly.
    again: BTreeMap<Place, Again>,
    receipts: BTreeSet<Hash32>,
    /// Receipts whose transcripts were said to be withheld.
    told: BTreeSet<Hash32>,
}

/// A root that is tried again.
#[derive(Debug, Clone, Copy, Default)]
struct Again {
    /// From when on.
    from: u64,
    /// How often it was tried.
    tries: u32,
}

impl Seen {
    /// The roots that are to be looked at now: those with receipts whose transcripts are still shown.
    fn due(&self, chain: &Chained, state: &State, now: u64) -> Vec<(u64, Address, SubmittedRoot)> {
        let shown = state.epochs().filter(|(_, epoch)| now <= shown_until(epoch, &chain.deployment().config));
        let roots = shown.flat_map(|(number, epoch)| epoch.roots.iter().map(move |(node, root)| (number, *node, *root)));
        let is_due = |(number, node, root): &(u64, Address, SubmittedRoot)| {
            let place = (*number, *node, root.receipts);
            root.count > 0 && !self.roots.contains(&place) && self.again.get(&place).is_none_or(|again| again.from <= now)
        };
        roots.filter(is_due).collect()
    }

    /// Notes that a root was looked at, wholly or not.
    fn note(&mut self, place: Place, is_whole: bool, now: u64) {
        let tries = self.again.remove(&place).unwrap_or_default().tries;
        if is_whole {
            self.roots.insert(place);
        } else {
            let from = now.saturating_add(AGAIN_S << tries.min(DOUBLED_MAX));
            self.again.insert(place, Again { from, tries: tries.saturating_add(1) });
        }
    }
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let is_sent = args.file && !context.is_dry();
    let contributor = match args.contributor {
        Some(contributor) if !args.mine => contributor,
        _ => context.account()?.address(),
    };
    let chain = if is_sent { context.chain().await? } else { context.chain_reader().await? };
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    ensure!(
        !card.is_private(),
        "Datanet {} is private: no contract reads its salted leaves, so nothing that a watcher finds could be proven; receipt verify --full says of one receipt what is wrong with it",
        asset.id
    );
    let name = card.name().to_string();
    let asset = asset.id;
    let count = move |state: &State| state.live_contributions(asset).filter(|accepted| accepted.contributor == contributor).count();
    ensure!(
        count(&state) > 0,
        "{contributor} has no accepted contribution in Datanet {asset} ({name}): name another account by --contributor"
    );
    context.data.create()?;
    let network = Network::join(context, &args.bootstrap).await?;
    let mut desk = Desk::new(context, &chain, &network, (asset, contributor), args.bootstrap.clone(), is_sent)?;
    let watched = async {
        let (mut seen, mut snapshots) = (Seen::default(), chain.snapshots());
        let mut folder = args.receipts.as_deref();
        loop {
            let state = chain.state().await?;
            let mut printed = Printed {
                asset: asset.0,
                name: name.clone(),
                contributor,
                contributions: count(&state),
                roots: 0,
                answers: 0,
                closed: 0,
                withheld: Vec::new(),
                unread: Vec::new(),
                found: Vec::new(),
            };
            let is_first = seen.roots.is_empty() && seen.again.is_empty();
            if let Some(folder) = folder.take() {
                let bundles = read_folder(folder, &chain)?;
                search(&mut desk, &state, &mut seen, bundles, &mut printed).await;
            }
            look(&mut desk, &chain, &network, &state, &mut seen, &mut printed).await?;
            if let Some(out) = &args.keep {
                keep(out, &printed.found)?;
            }
            if args.once || is_first || printed.is_news() {
                context.output.result(&printed, || describe(&printed))?;
            }
            if args.once {
                return anyhow::Ok(());
            }
            let is_changed = |now: u64, state: &State| !seen.due(&chain, state, now).is_empty();
            let waiting = snapshots.wait_for(|snapshot| {
                snapshot.is_halted || snapshot.heads.is_some_and(|heads| is_changed(heads.timestamp, &snapshot.latest))
            });
            if waiting.await.context("the chain is not followed any more")?.is_halted {
                bail!("the chain cannot be followed any more");
            }
        }
    };
    let watched = watched.await;
    network.leave().await;
    watched
}

/// Looks at every root that is due.
async fn look(
    desk: &mut Desk<'_>,
    chain: &Chained,
    network: &Network,
    state: &Arc<State>,
    seen: &mut Seen,
    printed: &mut Printed,
) -> anyhow::Result<()> {
    let now = chain.head().await?.timestamp;
    for (epoch, node, root) in seen.due(chain, state, now) {
        let place = (epoch, node, root.receipts);
        match nodes::shown(&network.overlay, state, &chain.client.domains(), desk.datanet(), (epoch, node, &root)).await {
            Ok(shown) => {
                printed.roots += 1;
                printed.closed += shown.closed;
                let news = shown.withheld.into_iter().filter(|(receipt, _)| seen.told.insert(*receipt));
                printed.withheld.extend(news.map(|(receipt, why)| Withheld { epoch, node, receipt, why }));
                // What a node did not show because it went away, or could not be searched or proved just now, is asked for again.
                let is_searched = search(desk, state, seen, shown.bundles, printed).await;
                seen.note(place, is_searched && shown.broken_off.is_none(), now);
            }
            Err(error) => {
                seen.note(place, false, now);
                printed.unread.push(Unread { epoch, node, why: format!("{error:#}") });
            }
        }
    }
    Ok(())
}

/// Searches bundles, each receipt once; whether all were done, those that were not are looked at the next time.
async fn search(desk: &mut Desk<'_>, state: &Arc<State>, seen: &mut Seen, bundles: Vec<Bundle>, printed: &mut Printed) -> bool {
    let mut is_done = true;
    for bundle in bundles {
        let receipt = bundle.receipt.document.hash();
        if seen.receipts.insert(receipt) && desk.concerns(&bundle) {
            printed.answers += 1;
            let row = desk.look(state, bundle).await;
            if row.as_ref().is_some_and(|row| !row.is_done()) {
                seen.receipts.remove(&receipt);
                is_done = false;
            }
            printed.found.extend(row);
        }
    }
    is_done
}

/// The bundles of a folder: signed by their nodes, of this deployment, and with the text that they are over.
fn read_folder(folder: &Path, chain: &Chained) -> anyhow::Result<Vec<Bundle>> {
    let shown = || words::path(folder);
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(shown)? {
        let path = entry.with_context(shown)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
        ensure!(paths.len() <= RECEIPTS_MAX, "{} holds more than {RECEIPTS_MAX} receipts: name a folder with fewer", shown());
    }
    paths.sort();
    let one = |path: &PathBuf| {
        let bundle = receipt::read(path)?;
        let named = || words::path(path);
        ensure!(bundle.domains == chain.client.domains(), "{} is of another deployment: take it out of the folder", named());
        bundle.receipt.verify(&bundle.domains, bundle.receipt.document.node).with_context(named)?;
        transcript::check(&bundle).with_context(named)?;
        anyhow::Ok(bundle)
    };
    paths.iter().map(one).collect()
}

/// Writes what speaks for each answer with something wrong.
fn keep(folder: &Path, found: &[Row]) -> anyhow::Result<()> {
    for row in found {
        let path = folder.join(format!("{}.json", row.receipt));
        write_atomic(&path, row.bundle.to_json().as_bytes(), 0o644).with_context(|| words::path(&path))?;
    }
    Ok(())
}

fn describe(printed: &Printed) -> String {
    let Printed { asset, name, contributor, contributions, roots, answers, closed, .. } = printed;
    let mut text = format!(
        "{} of {contributor} in Datanet {asset} ({})\n{} looked at: {} searched, {closed} not open",
        counted(*contributions, "contribution"),
        words::line(name),
        counted(*roots, "root"),
        counted(*answers, "answer")
    );
    let short = |why: &str| words::line(why).into_owned();
    if !printed.withheld.is_empty() {
        let row = |row: &Withheld| vec![row.epoch.to_string(), row.node.to_string(), row.receipt.to_string(), short(&row.why)];
        let rows: Vec<_> = printed.withheld.iter().map(row).collect();
        text.push_str(&format!("\n\nopen, and not shown by their nodes:\n{}", table(&["epoch", "node", "receipt", "why"], &rows)));
    }
    if !printed.unread.is_empty() {
        let row = |row: &Unread| vec![row.epoch.to_string(), row.node.to_string(), short(&row.why)];
        let rows: Vec<_> = printed.unread.iter().map(row).collect();
        text.push_str(&format!("\n\nnot looked at:\n{}", table(&["epoch", "node", "why"], &rows)));
    }
    for row in &printed.found {
        text.push_str(&format!("\n\n{}", row.describe()));
    }
    if printed.found.is_empty() {
        let is_all = printed.withheld.is_empty() && printed.unread.is_empty();
        text.push_str(match (*answers, is_all) {
            (0, _) => "\nno answer was searched: of what is left out nothing is known",
            (_, true) => "\nnothing of it is left out, cut short, hidden or paid to another",
            (_, false) => "\nnothing of it is left out, cut short, hidden or paid to another in what was searched, which is not all",
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_was_not_looked_at_wholly_is_tried_again_later_each_time() {
        let (mut seen, place) = (Seen::default(), (7, Address([2; 20]), Hash32([3; 32])));
        let mut now = 1_000;
        for waits in [60, 120, 240, 480, 960, 1_920, 3_840, 3_840, 3_840] {
            seen.note(place, false, now);
            assert_eq!((seen.again[&place].from - now, seen.roots.len()), (waits, 0));
            now = seen.again[&place].from;
        }
        seen.note(place, true, now);
        assert!(seen.again.is_empty() && seen.roots.contains(&place));
    }

    #[test]
    fn what_is_not_shown_or_not_looked_at_is_said_and_nothing_of_it_moves_the_cursor() {
        let (node, receipt) = (Address([2; 20]), Hash32([3; 32]));
        let mut printed = Printed {
            asset: 4,
            name: "terms".into(),
            contributor: Address([1; 20]),
            contributions: 2,
            roots: 1,
            answers: 3,
            closed: 5,
            withheld: vec![],
            unread: vec![],
            found: vec![],
        };
        assert!(!printed.is_news());
        let quiet = describe(&printed);
        assert!(quiet.contains("1 root looked at: 3 answers searched, 5 not open") && quiet.contains("nothing of it"), "{quiet}");
        printed.withheld.push(Withheld { epoch: 7, node, receipt, why: "it \u{202e}refuses\nall".into() });
        printed.unread.push(Unread { epoch: 8, node, why: "it is away".into() });
        let told = describe(&printed);
        assert!(printed.is_news() && told.contains("open, and not shown") && told.contains("it is away"), "{told}");
        assert!(told.contains("in what was searched, which is not all"), "{told}");
        printed.answers = 0;
        let blind = describe(&printed);
        assert!(blind.contains("no answer was searched") && !blind.contains("nothing of it"), "{blind}");
        assert!(!told.contains('\u{202e}') && !told.contains("\nall"), "{told}");
    }
}
