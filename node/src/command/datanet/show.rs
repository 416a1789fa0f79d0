//! `tributary datanet show`: all that is publicly known of one Datanet.

use chain_bridge::{client::treasury::Stream, registry::State};
use clap::Args as ClapArgs;
use serde::Serialize;
use storage::datanet::{Card, Contributors};
use types::{
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    manifest::AssetKind,
};

use super::Context;
use crate::{
    datanet::resolve,
    output::{money, table},
    words,
};

/// Show a Datanet: card, policy, versions, members, contributions, treasury.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  tributary datanet show medical\n  tributary datanet show medical --json | jq .card.policy\n\nNext: tributary datanet members medical asks its gate for listed contributors and readers too; tributary datanet earnings medical shows what rows earn."
)]
pub(super) struct Args {
    /// Name or number.
    datanet: String,
}

/// A version.
#[derive(Debug, Serialize)]
pub(super) struct VersionRow {
    pub(super) version: String,
    pub(super) content: BlobId,
    pub(super) contributions: usize,
    pub(super) documents: u64,
    pub(super) is_frozen: bool,
    /// Adapters and agents that declare it.
    pub(super) used_by: Vec<String>,
    /// Contributions in it that were erased on request since: nobody reads it whole, or answers under it, any more.
    pub(super) erased: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct ContributionRow {
    contribution: u64,
    contributor: Address,
    documents: u32,
    text_bytes: u64,
    block: u64,
    text_root: Hash32,
    report: Hash32,
    /// The request that it be erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<ErasedRow>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct ErasedRow {
    block: u64,
    by: Address,
    reason_hash: Hash32,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    asset: u64,
    card: Card,
    owner: Address,
    /// The node that looks at contributions, if its owner runs one.
    gate: Option<String>,
    reviewers: Vec<Address>,
    versions: Vec<VersionRow>,
    contributions: Vec<ContributionRow>,
    treasury: Stream,
}

/// The versions of a Datanet, oldest first.
pub(super) fn versions(state: &State, datanet: AssetId) -> Vec<VersionRow> {
    let of = state.versions().filter(|(version, _)| version.asset == datanet);
    let row = |version: AssetVersion, content: BlobId, is_frozen: bool| VersionRow {
        version: version.to_string(),
        content,
        contributions: state.contributions_of(version).count(),
        documents: state.contributions_of(version).map(|accepted| u64::from(accepted.documents)).sum(),
        is_frozen,
        used_by: used_by(state, version),
        erased: state.erased_in_index(version).iter().map(|erasure| erasure.number).collect(),
    };
    of.map(|(version, published)| row(version, published.content, published.frozen.is_some())).collect()
}

fn used_by(state: &State, datanet: AssetVersion) -> Vec<String> {
    let kind = |version: AssetVersion| match state.asset(version.asset).map(|asset| asset.kind) {
        Some(AssetKind::Adapter) => "adapter",
        Some(AssetKind::Agent) => "agent",
        _ => "base",
    };
    let users = state.versions().filter(|(_, published)| published.datanets.contains(&datanet));
    users.map(|(version, _)| format!("{} {version}", kind(version))).collect()
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let contributions = state.contributions(asset.id).map(|accepted| ContributionRow {
        contribution: accepted.number,
        contributor: accepted.contributor,
        documents: accepted.documents,
        text_bytes: accepted.text_bytes,
        block: accepted.priority.block,
        text_root: accepted.text_root,
        report: accepted.report,
        erased: state.erasure(asset.id, accepted.number).map(|erasure| ErasedRow {
            block: erasure.block(),
            by: erasure.by,
            reason_hash: erasure.reason,
        }),
    });
    let printed = Printed {
        asset: asset.id.0,
        owner: asset.owner(),
        gate: state.operator(asset.owner()).map(|operator| operator.node.to_string()),
        reviewers: state.reviewers(asset.id).collect(),
        versions: versions(&state, asset.id),
        contributions: contributions.collect(),
        treasury: chain.client.treasury_stream(asset.id).await?,
        card,
    };
    context.output.result(&printed, || describe(&printed))
}

fn described(text: &str, empty: &str) -> String {
    if text.is_empty() { empty.to_owned() } else { text.to_owned() }
}

/// Whether a description has lines of its own, as that of a repository's README.
fn is_long(card: &Card) -> bool {
    card.description().contains('\n')
}

/// The card and its policy as lines.
fn card_lines(card: &Card) -> Vec<Vec<String>> {
    let policy = card.policy();
    let most = |most: Option<u64>, what: &str| most.map_or_else(|| "no limit".to_owned(), |most| format!("at most {most} {what}"));
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let regions: Vec<String> = policy.residency.iter().map(ToString::to_string).collect();
    let rows = [
        ("description", described(if is_long(card) { "below" } else { card.description() }, "-")),
        ("licence", card.licence().to_string()),
        ("languages", described(&card.languages().join(", "), "-")),
        ("tags", described(&card.tags().join(", "), "-")),
        ("read by", if card.is_private() { "members only" } else { "everybody" }.to_owned()),
        ("contributors", if policy.contributors == Contributors::Listed { "listed only" } else { "anybody" }.to_owned()),
        ("near copies", policy.near_copies.label().to_owned()),
        ("personal data", policy.personal_data.label().to_owned()),
        ("of one contributor", format!("{}, {}", most(policy.contributor_rows_max, "rows"), most(policy.contributor_bytes_max, "bytes"))),
        ("looked at anyway", format!("{}.{} % of what passes", policy.sample_per_mille / 10, policy.sample_per_mille % 10)),
        ("may be trained on", yes(policy.may_train)),
        ("may be served", yes(policy.may_serve)),
        ("share alike", yes(policy.share_alike)),
        ("regions", described(&regions.join(", "), "anywhere")),
    ];
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn describe(printed: &Printed) -> String {
    let Printed { asset, card, owner, treasury, .. } = printed;
    let reviewers = printed.reviewers.iter().map(Address::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "Datanet {asset}  {}\nowner      {owner}\ngate       {}\nreviewers  {}\ntreasury   {} undivided, shared by {} bytes of text\n\n",
        card.name(),
        printed.gate.as_deref().unwrap_or("none: its owner runs no registered node"),
        described(&reviewers, "its owner alone"),
        money(treasury.undivided),
        treasury.text_bytes
    );
    text.push_str(&table(&["card", "value"], &card_lines(card)));
    if is_long(card) {
        text.push_str(&format!("\n\n{}", words::block(card.description())));
    }
    let version = |row: &VersionRow| {
        let mut state = if row.is_frozen { "frozen" } else { "active" }.to_owned();
        if !row.erased.is_empty() {
            let numbers: Vec<String> = row.erased.iter().map(u64::to_string).collect();
            state.push_str(&format!(", erased since: {}", numbers.join(", ")));
        }
        vec![row.version.clone(), state, row.contributions.to_string(), row.documents.to_string(), described(&row.used_by.join(", "), "-")]
    };
    if printed.versions.is_empty() {
        text.push_str("\n\nno version is published");
    } else {
        let rows: Vec<_> = printed.versions.iter().map(version).collect();
        text.push_str(&format!("\n\n{}", table(&["version", "state", "contributions", "documents", "used by"], &rows)));
    }
    let row = |row: &ContributionRow| {
        let numbers = [row.contribution, u64::from(row.documents), row.text_bytes, row.block].map(|number| number.to_string());
        let erased = row.erased.map_or_else(String::new, |erased| format!("on request in block {}", erased.block));
        [numbers.as_slice(), &[row.contributor.to_string(), erased]].concat()
    };
    if printed.contributions.is_empty() {
        text.push_str("\n\nno contribution is accepted");
    } else {
        let rows: Vec<_> = printed.contributions.iter().map(row).collect();
        text.push_str(&format!("\n\n{}", table(&["contribution", "documents", "bytes", "block", "contributor", "erased"], &rows)));
    }
    text
}

#[cfg(test)]
mod tests {
    use types::amount::Amount;

    use super::*;

    #[test]
    fn a_description_of_many_lines_stands_behind_a_bar() {
        let described = |description: &str| {
            let card = Card::new("a".parse().unwrap(), description.into(), "MIT".parse().unwrap(), vec![], vec![]).unwrap();
            let treasury = Stream { undivided: Amount(0), text_bytes: 0, opens_at: 0 };
            let (owner, reviewers, versions, contributions) = (Address([1; 20]), vec![], vec![], vec![]);
            describe(&Printed { asset: 3, card, owner, gate: None, reviewers, versions, contributions, treasury })
        };
        let text = described("Terms.\nowner      nobody");
        assert!(text.contains("below") && text.contains("\n  | owner      nobody\n") && !text.contains("\nowner      nobody"), "{text}");
        assert!(described("Terms.\u{1b}[2J").contains("Terms.\\u{1b}[2J"));
    }

    #[test]
    fn every_rule_of_a_card_is_shown() {
        let text = r#"{"name":"a","description":"Terms.","licence":"MIT","policy":{"near_copies":"block","personal_data":"redact","contributor_rows_max":7,"sample_per_mille":5,"contributors":"listed","may_train":false,"residency":["CH"]},"private":true}"#;
        let printed = Printed {
            asset: 3,
            card: serde_json::from_str(text).unwrap(),
            owner: Address([1; 20]),
            gate: None,
            reviewers: vec![Address([2; 20])],
            versions: vec![],
            contributions: vec![],
            treasury: Stream { undivided: Amount(0), text_bytes: 0, opens_at: 0 },
        };
        let text = describe(&printed);
        for part in
            ["members only", "listed only", "at most 7 rows, no limit", "0.5 % of what passes", "redact", "block", "CH", "no version"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains(&Address([2; 20]).to_string()));
        assert_eq!(serde_json::to_value(&printed).unwrap()["card"]["policy"]["personal_data"], "redact");
    }
}
