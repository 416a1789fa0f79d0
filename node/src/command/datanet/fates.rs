//! `tributary datanet rows`: what became of each row that somebody brought.
//!
//! Of rows brought from this folder its records say where they stood in their files, and what was left out, refused or redacted ([`super::brought`]). Of what was
//! accepted the chain says which contribution it is and whether it was erased, and the gate's report, by the digest on the chain, which rows repeat whose earlier
//! ones; it is asked of the gate where it is not here. Rows that were refused are known to the folder they were brought from, and to the gate, which tells who brought them (`--gate`).
//!
//! Rows are counted all and listed as far as `--limit` goes; memory is that of one report (2 MiB) and the rows listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::registry::{
    State,
    state::{Accepted, Asset},
};
use clap::Args as ClapArgs;
use futures::future::join_all;
use serde::Serialize;
use storage::{
    datanet::{
        Action, Earlier, Refusal, Report, Rule,
        review::{Act, ReviewAct},
    },
    proto::gate::{Ask, Reply},
};
use types::{
    id::{Address, BlobId, Hash32, NodeId},
    key::Signed,
    merkle::keccak,
};

use super::{
    Context,
    brought::{self, Brought, Record},
    findings::cell,
    network::Network,
};
use crate::{
    chain::Chained,
    data::read_bounded,
    datanet::{keeping::look, resolve, review},
    output::table,
    service::gate::REPORT_BYTES_MAX,
};

/// Most refused reports asked of a gate.
const REFUSED_MAX: usize = 1024;
/// Most contributions whose holders are asked.
const HEALTH_MAX: usize = 256;

/// Show what became of each row that you brought.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Fates: accepted, copy (accepted, joins the earlier row's cluster and earns nothing), erased, waits (for reviewers, or to be accepted, as far as was heard), refused, left-out (before it was\nshown, or by --drop-refused), not-entered (its contribution was refused for other rows).\n\nExamples:\n  tributary datanet rows medical\n  tributary datanet rows medical --json --limit 1000000 | jq '.rows[] | select(.fate == \"refused\")'\n  tributary datanet rows medical --health --gate\n\nNext: tributary datanet earnings medical shows what the contributions earned."
)]
pub(super) struct Args {
    /// Name or number.
    datanet: String,
    /// Whose rows [default: the wallet's].
    #[arg(long, value_name = "ADDRESS")]
    contributor: Option<Address>,
    /// Rows listed at most; all are counted.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    limit: u64,
    /// Rows passed over before.
    #[arg(long, default_value_t = 0)]
    skip: u64,
    /// Ask the gate for reports of your contributions that it refused, wherever they were brought from.
    #[arg(long, conflicts_with = "contributor")]
    gate: bool,
    /// Ask holders which fragments of each contribution they have.
    #[arg(long)]
    health: bool,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// A row's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Fate {
    Accepted,
    Copy,
    Erased,
    Waits,
    Refused,
    LeftOut,
    NotEntered,
}

impl Fate {
    const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Copy => "copy",
            Self::Erased => "erased",
            Self::Waits => "waits",
            Self::Refused => "refused",
            Self::LeftOut => "left-out",
            Self::NotEntered => "not-entered",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    /// Its file, if it was brought from here and there were several.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Row in the file, or in the contribution if it was brought from elsewhere; from 1.
    row: u32,
    fate: Fate,
    /// The contribution it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    contribution: Option<u64>,
    /// Rules that found something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<String>,
    /// What they found, or why it was left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    found: Vec<String>,
    /// Whose earlier row it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier: Option<Earlier>,
    /// Whether personal data was redacted before it was brought.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
}

/// A contribution, or a shard that is none yet.
#[derive(Debug, Serialize)]
struct Whole {
    /// Its number, once it is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    contribution: Option<u64>,
    text_root: Hash32,
    documents: u64,
    /// The object that its holders keep fragments of.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<BlobId>,
    /// Reasons that name no row, and what is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
}

/// What of an object its holders have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Health {
    /// Fragments there should be; nothing if no holder says.
    fragments: Option<usize>,
    /// Fragments that some holder says it has.
    held: Vec<u8>,
    /// Holders that answered.
    holders: Vec<NodeId>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    asset: u64,
    name: String,
    contributor: Address,
    /// All rows by their fate.
    counts: BTreeMap<&'static str, u64>,
    contributions: Vec<Whole>,
    /// Those that are listed.
    rows: Vec<Row>,
    /// Rows before and behind those listed.
    unlisted: u64,
    /// Rows passed over before those listed: no more than there are.
    #[serde(skip)]
    skipped: u64,
}

/// Rows as far as they are listed, and all of them counted.
#[derive(Debug, Default)]
struct Listed {
    skip: u64,
    limit: u64,
    seen: u64,
    rows: Vec<Row>,
    counts: BTreeMap<&'static str, u64>,
}

impl Listed {
    fn add(&mut self, row: Row) {
        *self.counts.entry(row.fate.label()).or_default() += 1;
        if self.seen >= self.skip && (self.rows.len() as u64) < self.limit {
            self.rows.push(row);
        }
        self.seen += 1;
    }

    fn add_uncounted(&mut self, fate: Fate, count: usize) {
        if count > 0 {
            *self.counts.entry(fate.label()).or_default() += count as u64;
            self.seen += count as u64;
        }
    }
}

/// What is known of one contribution, or of a shard that is none.
struct Known<'k> {
    accepted: Option<&'k Accepted>,
    is_erased: bool,
    brought: Option<&'k Record>,
    report: Option<&'k Report>,
}

impl Known<'_> {
    /// The end of a row that rules found this about. Without a report nothing more is known than that the contribution was accepted.
    fn fate(&self, found: &[&Refusal]) -> Fate {
        match (self.accepted, self.is_erased) {
            (Some(_), true) => Fate::Erased,
            (Some(_), false) if found.iter().any(|refusal| refusal.rule == Rule::NearCopy) => Fate::Copy,
            (Some(_), false) => Fate::Accepted,
            (None, _) if self.report.is_some_and(Report::can_wait) => Fate::Waits,
            (None, _) if self.report.is_some_and(|report| report.accepted) => Fate::Waits,
            (None, _) if found.iter().any(|refusal| refusal.action != Action::Note) => Fate::Refused,
            (None, _) => Fate::NotEntered,
        }
    }

    /// Adds its rows, and those that were left out of it.
    fn list(&self, listed: &mut Listed) {
        let spots = self.brought.map_or_else(Vec::new, Record::spots);
        let redacted: BTreeSet<(Option<&String>, u32)> = self
            .brought
            .into_iter()
            .flat_map(|brought| &brought.redacted)
            .filter_map(|finding| Some((finding.file.as_ref(), finding.row?)))
            .collect();
        let mut of_row: BTreeMap<u32, Vec<&Refusal>> = BTreeMap::new();
        for refusal in self.report.into_iter().flat_map(|report| report.refusals.iter().chain(&report.notes)) {
            of_row.entry(refusal.row).or_default().push(refusal);
        }
        let count = match (self.report, self.accepted) {
            (Some(report), _) => report.documents,
            (None, Some(accepted)) => accepted.documents,
            (None, None) => 0,
        };
        for number in 1..=count {
            let spot = usize::try_from(number - 1).ok().and_then(|place| spots.get(place).copied());
            let file = spot.and_then(|spot| self.brought.and_then(|brought| brought.file(spot)));
            let row = spot.map_or(number, |spot| spot.row);
            let found = of_row.get(&number).map_or(&[][..], Vec::as_slice);
            listed.add(Row {
                file: file.cloned(),
                row,
                fate: self.fate(found),
                contribution: self.accepted.map(|accepted| accepted.number),
                rules: found.iter().map(|refusal| refusal.rule.label().to_owned()).collect(),
                found: found.iter().map(|refusal| refusal.detail.clone()).collect(),
                earlier: found.iter().find_map(|refusal| refusal.earlier),
                redacted: redacted.contains(&(file, row)),
            });
        }
        let Some(brought) = self.brought else { return };
        for dropped in &brought.dropped {
            listed.add(Row {
                file: dropped.file.clone(),
                row: dropped.row,
                fate: Fate::LeftOut,
                contribution: None,
                rules: Some(dropped.rule.clone()).filter(|rule| !rule.is_empty()).into_iter().collect(),
                found: vec![dropped.reason.clone()],
                earlier: dropped.earlier,
                redacted: redacted.contains(&(dropped.file.as_ref(), dropped.row)),
            });
        }
        listed.add_uncounted(Fate::LeftOut, brought.dropped_unlisted);
    }

    /// What is said of it as a whole.
    fn remarks(&self) -> Vec<String> {
        let whole = self.report.into_iter().flat_map(|report| report.refusals.iter().filter(|refusal| refusal.row == 0));
        let mut remarks: Vec<String> =
            whole.map(|refusal| format!("{}: {}; {}", refusal.rule.label(), refusal.detail, refusal.fix)).collect();
        if let Some(report) = self.report {
            let unlisted = report.unlisted.saturating_add(report.notes_unlisted);
            if unlisted > 0 {
                remarks
                    .push(format!("the report counts {unlisted} findings more than it lists: rows they are about are shown without them"));
            }
            if !report.approvals.is_empty() {
                remarks.push(format!("{} reviewers let it in", report.approvals.len()));
            }
        }
        let redacted = self.brought.map_or(0, |brought| brought.redacted_unlisted);
        if redacted > 0 {
            remarks.push(format!("{redacted} rows more were redacted than are marked"));
        }
        remarks
    }
}

/// A report that is kept here.
fn kept(context: &Context, digest: Hash32) -> anyhow::Result<Option<Report>> {
    let path = context.data.report(digest);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_bounded(&path, REPORT_BYTES_MAX).with_context(|| format!("{}", path.display()))?;
    ensure!(keccak(&[&bytes]) == digest, "{} is not the report it is named after: remove it", path.display());
    Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{}", path.display()))?))
}

/// Reports that are asked of the gate; why none can be.
async fn asked(
    context: &Context,
    network: &Network,
    state: &State,
    asset: &Asset,
    digests: &[Hash32],
) -> anyhow::Result<BTreeMap<Hash32, Report>> {
    let (client, connection) = network.dial_gate(context, state, asset.owner()).await?;
    let mut reports = BTreeMap::new();
    for digest in digests {
        let answer = review::ask(connection.open_stream().await?, &Ask::Report { digest: *digest }).await;
        let Ok(Reply::Report { report }) = answer else { continue };
        ensure!(keccak(&[report.as_bytes()]) == *digest, "the gate sent another report than {digest}");
        reports.insert(*digest, serde_json::from_str(&report).context("the gate's report")?);
    }
    client.close(0).await;
    Ok(reports)
}

/// Reports of contributions of the wallet that the gate refused and that are not here.
async fn refused(
    context: &Context,
    network: &Network,
    chain: &Chained,
    asset: &Asset,
    known: &BTreeSet<Hash32>,
) -> anyhow::Result<Vec<Report>> {
    let state = chain.state().await?;
    let gate = state.operator(asset.owner()).with_context(|| format!("{}, the owner, runs no registered node", asset.owner()))?.node;
    let (block, reason) = (chain.head().await?.block.number, keccak(&[b""]));
    let act = ReviewAct { datanet: asset.id, commitment: Hash32::ZERO, report: Hash32::ZERO, act: Act::List, reason, gate, block };
    let act = Signed::new(&context.account()?, &chain.client.domains(), act);
    let (client, connection) = network.dial_gate(context, &state, asset.owner()).await?;
    let answer = review::ask(connection.open_stream().await?, &Ask::Mine { act }).await?;
    client.close(0).await;
    let Reply::Mine { reports } = answer else { bail!("the gate answered something else than a list of reports") };
    let wanted: Vec<Hash32> = reports.into_iter().filter(|digest| !known.contains(digest)).take(REFUSED_MAX).collect();
    Ok(asked(context, network, &state, asset, &wanted).await?.into_values().collect())
}

async fn health(network: &Network, storing: &BTreeMap<NodeId, SocketAddr>, object: BlobId) -> Health {
    let asked = storing.iter().map(|(node, addr)| async move { (*node, look(&network.bulk, *node, *addr, object).await) });
    let (mut fragments, mut held, mut holders) = (None, BTreeSet::new(), Vec::new());
    for (node, word) in join_all(asked).await {
        let Ok(word) = word else { continue };
        fragments = fragments.max(word.record.map(|record| record.placement().holders.len()));
        if !word.indices.is_empty() {
            held.extend(word.indices);
            holders.push(node);
        }
    }
    Health { fragments, held: held.into_iter().collect(), holders }
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let contributor = match args.contributor {
        Some(contributor) => contributor,
        None => context.account().context("whose rows? give --contributor, or use a folder with a wallet")?.address(),
    };
    let Brought { records: brought, damaged } = brought::all(&context.data, asset.id, contributor)?;
    damaged.iter().for_each(|why| context.output.note(&format!("rows are missing below: {why}")));
    let accepted: Vec<&Accepted> = state.contributions(asset.id).filter(|accepted| accepted.contributor == contributor).collect();
    ensure!(
        args.gate || !(brought.is_empty() && accepted.is_empty()),
        "{contributor} has no contribution in Datanet {} ({}), and none was brought from this folder",
        asset.id,
        card.name()
    );
    let mut missing = Vec::new();
    for accepted in &accepted {
        if kept(context, accepted.report)?.is_none() {
            missing.push(accepted.report);
        }
    }
    let is_network = args.health || args.gate || !missing.is_empty();
    let network = if is_network { Some(Network::join(context, &args.bootstrap).await?) } else { None };
    let mut fetched = BTreeMap::new();
    if let Some(network) = network.as_ref().filter(|_| !missing.is_empty()) {
        match asked(context, network, &state, asset, &missing).await {
            Ok(reports) => fetched = reports,
            Err(error) => context.output.note(&format!("the gate was not heard, so reports that are not here are missing: {error:#}")),
        }
    }
    let mut listed = Listed { skip: args.skip, limit: args.limit, ..Listed::default() };
    let mut wholes = Vec::new();
    let is_of = |brought: &&Record, root: Hash32| brought.shown.as_ref().is_some_and(|shown| shown.text_root == root);
    for accepted in &accepted {
        let here = kept(context, accepted.report)?;
        let known = Known {
            accepted: Some(accepted),
            is_erased: state.erasure(asset.id, accepted.number).is_some(),
            brought: brought.iter().find(|brought| is_of(brought, accepted.text_root)),
            report: here.as_ref().or_else(|| fetched.get(&accepted.report)),
        };
        known.list(&mut listed);
        let mut remarks = known.remarks();
        if known.report.is_none() {
            remarks
                .push(format!("report {} is not here and the gate does not show it: copies among its rows are not known", accepted.report));
        }
        let (contribution, object) = (Some(accepted.number), Some(accepted.object));
        let (text_root, documents) = (accepted.text_root, accepted.documents.into());
        wholes.push(Whole { contribution, text_root, documents, object, remarks, health: None });
    }
    for brought in &brought {
        if accepted.iter().any(|accepted| is_of(&brought, accepted.text_root)) {
            continue;
        }
        let report = brought.shown.as_ref().map(|shown| kept(context, shown.report)).transpose()?.flatten();
        let known = Known { accepted: None, is_erased: false, brought: Some(brought), report: report.as_ref() };
        known.list(&mut listed);
        let mut remarks = known.remarks();
        if report.is_none() {
            remarks.push("no gate has looked at it".to_owned());
        }
        let documents = report.as_ref().map_or(0, |report| report.documents.into());
        let text_root = brought.shown.as_ref().map_or(brought.root, |shown| shown.text_root);
        wholes.push(Whole { contribution: None, text_root, documents, object: None, remarks, health: None });
    }
    if let Some(network) = network.as_ref().filter(|_| args.gate) {
        let here = brought.iter().filter_map(|brought| Some(brought.shown.as_ref()?.report)).collect();
        for report in refused(context, network, &chain, asset, &here).await? {
            ensure!(report.contributor == contributor, "the gate sent a report on rows of {}", report.contributor);
            let known = Known { accepted: None, is_erased: false, brought: None, report: Some(&report) };
            known.list(&mut listed);
            let (text_root, documents, remarks) = (report.text_root, report.documents.into(), known.remarks());
            wholes.push(Whole { contribution: None, text_root, documents, object: None, remarks, health: None });
        }
    }
    if let Some(network) = network.as_ref().filter(|_| args.health) {
        let storing = network.storing(&state, chain.deployment().chain_id).await?;
        for whole in wholes.iter_mut().take(HEALTH_MAX) {
            if let Some(object) = whole.object {
                whole.health = Some(health(network, &storing, object).await);
            }
        }
    }
    if let Some(network) = network {
        network.leave().await;
    }
    let unlisted = listed.seen - listed.rows.len() as u64;
    let skipped = args.skip.min(listed.seen);
    let Listed { counts, rows, .. } = listed;
    let (name, asset) = (card.name().to_string(), asset.id.0);
    let printed = Printed { asset, name, contributor, counts, contributions: wholes, rows, unlisted, skipped };
    context.output.result(&printed, || describe(&printed))
}

fn describe(printed: &Printed) -> String {
    let Printed { asset, name, contributor, counts, contributions, rows, unlisted, skipped } = printed;
    let counts: Vec<String> = counts.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
    let mut text = format!("rows of {contributor} in Datanet {asset} ({name}): {}\n\n", counts.join(", "));
    let whole = |whole: &Whole| {
        let number = whole.contribution.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let health = whole.health.as_ref().map_or_else(
            || "-".to_owned(),
            |health| {
                let of = health.fragments.map_or_else(|| "?".to_owned(), |fragments| fragments.to_string());
                format!("{} of {of} by {} nodes", health.held.len(), health.holders.len())
            },
        );
        vec![number, whole.documents.to_string(), whole.text_root.to_string(), health, cell(&whole.remarks.join("; "))]
    };
    text.push_str(&table(
        &["contribution", "rows", "text root", "fragments held", "remarks"],
        &contributions.iter().map(whole).collect::<Vec<_>>(),
    ));
    if contributions.iter().any(|whole| whole.contribution.is_some() && whole.health.is_none()) {
        text.push_str("\n\"fragments held\" is filled by --health, which asks the holders of each contribution");
    }
    let line = |row: &Row| {
        let place = row.file.as_ref().map_or_else(|| row.row.to_string(), |file| format!("{file}: {}", row.row));
        let earlier = row.earlier.map_or_else(
            || "-".to_owned(),
            |Earlier { owner, row, per_mille, .. }| format!("{}.{} % row {row} of {owner}", per_mille / 10, per_mille % 10),
        );
        let redacted = if row.redacted { "redacted; " } else { "" };
        vec![
            place,
            row.fate.label().to_owned(),
            row.contribution.map_or_else(|| "-".to_owned(), |number| number.to_string()),
            if row.rules.is_empty() { "-".to_owned() } else { row.rules.join(", ") },
            earlier,
            cell(&format!("{redacted}{}", row.found.join("; "))),
        ]
    };
    text.push_str("\n\n");
    text.push_str(&table(&["row", "fate", "contribution", "rules", "repeats", "found"], &rows.iter().map(line).collect::<Vec<_>>()));
    if let Some(words) = elsewhere(*skipped, rows.len() as u64, *unlisted) {
        text.push_str(&format!("\n{words}"));
    }
    text
}

/// Where the rows are that are not listed.
fn elsewhere(skipped: u64, listed: u64, unlisted: u64) -> Option<String> {
    let (all, behind) = (listed + unlisted, unlisted.saturating_sub(skipped));
    match (unlisted, listed, skipped) {
        (0, ..) => None,
        (_, 0, skipped) if skipped == all => Some(format!("there are {all} rows, and --skip passes over all of them")),
        (.., 0) => Some(format!("and {behind} more of {all} rows: --limit and --skip show them")),
        _ => Some(format!("{skipped} rows stand before these and {behind} behind, of {all}: --limit and --skip show them")),
    }
}

#[cfg(test)]
mod tests;
