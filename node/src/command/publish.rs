//! Registering an asset and publishing its versions: what `model publish`, `adapter publish` and `agent publish` share.
//!
//! At most two transactions: a registration (once per name and account) and a version. Publishing what is already the newest version sends
//! nothing, so a command that was interrupted after its transaction may simply be run again.

mod fits;
mod split;

use anyhow::{Context as _, ensure};
use chain_bridge::{
    client::{ChainClient, assets::NewVersion},
    registry::State,
};
use serde::Serialize;
use types::{
    id::{Address, AssetId, AssetVersion, BlobId},
    manifest::AssetKind,
    split::SplitTable,
};

use super::{Context, sent::Transaction};
use crate::datanet::terms::{self, Given, TermsError, licence_hash};

pub(super) use fits::base_of;
pub use split::{Terms, parse_split};

/// Longest name of an asset.
pub const NAME_LEN_MAX: usize = 64;

/// What to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Kind of asset.
    pub kind: AssetKind,
    /// Name by which people ask for it.
    pub name: String,
    /// Content hash of this version.
    pub content: BlobId,
    /// Versions it builds on.
    pub parents: Vec<AssetVersion>,
    /// How its fees are divided.
    pub split: SplitTable,
    /// Datanets its answers are attributed to.
    pub datanets: Vec<AssetVersion>,
    /// Datanets that it was trained on by its own record, declared or not.
    pub trained_on: Vec<AssetVersion>,
    /// SPDX licence expression.
    pub licence: String,
    /// Least row, in 1/10,000, that a child must give this version's owner.
    pub least_share: u16,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Name on the chain.
    pub uri: String,
    /// The version, as ASSET@VERSION.
    #[serde(serialize_with = "as_text")]
    pub version: AssetVersion,
    /// Its content.
    pub content: BlobId,
    /// Transactions sent; none if the version was there already.
    pub transactions: Vec<Transaction>,
    /// Gas of all of them.
    pub gas: u64,
}

fn as_text<S: serde::Serializer>(version: &AssetVersion, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

/// What has to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// The asset is new to this account.
    Register,
    /// The asset is there.
    Append(AssetId),
    /// The newest version is this one.
    Nothing(AssetVersion),
}

/// Runs a publication and prints it.
pub async fn run(context: &Context, publication: Publication) -> anyhow::Result<()> {
    let uri = uri(publication.kind, &publication.name)?;
    let chain = context.chain().await?;
    let state = chain.state().await?;
    context.output.note(&format!(
        "publishing {uri} with content {}: a registration if the name is new to this account, and a version",
        publication.content
    ));
    let published = publish(&chain.client, &state, &publication).await?;
    context.output.result(&published, || describe(&published))
}

/// Whether the cards of the Datanets concerned let a version be published as it is.
fn allowed(state: &State, new: &NewVersion, trained_on: &[AssetVersion], given: Given<'_>) -> anyhow::Result<()> {
    let check = || -> Result<(), TermsError> {
        terms::may_serve(state, &new.datanets)?;
        trained_on.iter().try_for_each(|trained| terms::may_train(state, trained.asset))?;
        terms::passed_on_alike(state, &[&new.datanets, trained_on].concat(), &new.parents, given)
    };
    check().context("nothing was sent")
}

/// Registers the asset if the client's account has none of that name, then publishes the version; waits until both are in a block.
pub async fn publish(chain: &ChainClient, state: &State, publication: &Publication) -> anyhow::Result<Published> {
    let uri = uri(publication.kind, &publication.name)?;
    let owner = chain.address().context("publishing needs an account: open the chain with a wallet")?;
    let new = NewVersion {
        content: publication.content,
        parents: publication.parents.clone(),
        split: publication.split,
        datanets: publication.datanets.clone(),
        licence: licence_hash(&publication.licence),
        parent_share_min: publication.least_share,
    };
    let mut transactions = Vec::new();
    let plan = plan(state, owner, publication.kind, &uri, &new);
    if !matches!(plan, Plan::Nothing(_)) {
        allowed(state, &new, &publication.trained_on, Given::Expression(&publication.licence))?;
        // The chain would refuse the version, but only after the registration is paid.
        fits::fits(state, publication.kind, &new, least_data(chain, state))?;
    }
    let asset = match plan {
        Plan::Nothing(version) => return Ok(Published { uri, version, content: new.content, transactions, gas: 0 }),
        Plan::Append(asset) => asset,
        Plan::Register => match chain.unless_rehearsed(chain.register_asset(publication.kind, &uri).await)? {
            Some((asset, sent)) => {
                transactions.push(Transaction::new(format!("register {uri}"), &sent));
                asset
            }
            // A dry run goes on with the number that it would have.
            None => AssetId(state.assets().last().map_or(0, |asset| asset.id.0).saturating_add(1)),
        },
    };
    let (version, sent) =
        chain.publish(asset, &new).await.with_context(|| format!("asset {asset} is registered as {uri}; only its version is missing"))?;
    transactions.push(Transaction::new(format!("publish version {version}"), &sent));
    let gas = transactions.iter().map(|row| row.gas).sum();
    Ok(Published { uri, version, content: new.content, transactions, gas })
}

/// Publishes a version of an asset that the client's account owns; waits until it is in a block. What is the newest version already is not sent.
/// `licence` is that of `new` where it is known as an expression.
pub async fn append(
    chain: &ChainClient,
    state: &State,
    asset: AssetId,
    new: &NewVersion,
    licence: Option<&str>,
) -> anyhow::Result<Published> {
    let known = state.asset(asset).with_context(|| format!("asset {asset} is not registered"))?;
    let uri = known.uri.clone();
    if let Some(version) = state.newest(asset).filter(|version| is_published(state, *version, new)) {
        return Ok(Published { uri, version, content: new.content, transactions: Vec::new(), gas: 0 });
    }
    allowed(state, new, &[], licence.map_or(Given::Hash(new.licence), Given::Expression))?;
    fits::fits(state, known.kind, new, least_data(chain, state))?;
    let (version, sent) = chain.publish(asset, new).await?;
    let row = Transaction::new(format!("publish version {version}"), &sent);
    Ok(Published { uri, version, content: new.content, gas: row.gas, transactions: vec![row] })
}

/// The least data row that the registry takes: as the governor set it last, else as it was deployed.
fn least_data(chain: &ChainClient, state: &State) -> u16 {
    state.data_row_min().unwrap_or_else(|| chain.deployment().config.min_data_bps)
}

fn plan(state: &State, owner: Address, kind: AssetKind, uri: &str, new: &NewVersion) -> Plan {
    let Some(asset) = state.assets().find(|asset| asset.kind == kind && asset.uri == uri && asset.owner() == owner) else {
        return Plan::Register;
    };
    match state.newest(asset.id) {
        Some(version) if is_published(state, version, new) => Plan::Nothing(version),
        _ => Plan::Append(asset.id),
    }
}

/// Whether a version is what is to be published. One whose index root was refuted answers nothing: the same is published once more, and gets a root of its own.
fn is_published(state: &State, version: AssetVersion, new: &NewVersion) -> bool {
    state.refuted(version).is_none() && state.version(version).is_some_and(|published| is_same(published, new))
}

fn is_same(published: &chain_bridge::registry::state::Version, new: &NewVersion) -> bool {
    published.content == new.content
        && published.parents == new.parents
        && published.split == new.split
        && published.datanets == new.datanets
        && published.licence == new.licence
        && published.parent_share_min == new.parent_share_min
}

/// `tributary:<kind>:<name>`.
pub fn uri(kind: AssetKind, name: &str) -> anyhow::Result<String> {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let shown: String = name.chars().take(NAME_LEN_MAX).collect();
    ensure!(
        starts_well && name.len() <= NAME_LEN_MAX && name.bytes().all(is_fit),
        "{shown:?} is no name of an asset: 1 to {NAME_LEN_MAX} small letters, digits, '-', '_' and '.', starting with a letter or digit"
    );
    // A number would be taken for an asset's number by whoever asks for it.
    ensure!(!name.bytes().all(|byte| byte.is_ascii_digit()), "{shown:?} is a number, which names an asset already: add a letter");
    Ok(format!("tributary:{}:{name}", word(kind)))
}

const fn word(kind: AssetKind) -> &'static str {
    match kind {
        AssetKind::Base => "base",
        AssetKind::Adapter => "adapter",
        AssetKind::Datanet => "datanet",
        AssetKind::Agent => "agent",
    }
}

pub(super) fn describe(published: &Published) -> String {
    let mut text = format!("{}  {}  content {}", published.version, published.uri, published.content);
    if published.transactions.is_empty() {
        text.push_str("\nit is the newest version already: nothing was sent");
    }
    for row in &published.transactions {
        text.push_str(&format!("\n  {row}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::{id::Hash32, time::BlockRef};

    use super::*;

    const OWNER: Address = Address([7; 20]);

    fn new(content: u8) -> NewVersion {
        let split = SplitTable { node: 4_000, base: 2_500, data: 3_000, stakers: 500, ..SplitTable::default() };
        NewVersion {
            content: BlobId([content; 32]),
            parents: vec![],
            split,
            datanets: vec![],
            licence: Hash32([3; 32]),
            parent_share_min: 500,
        }
    }

    fn state(events: Vec<Event>) -> State {
        let mut state = State::default();
        for (log, event) in (0..).zip(events) {
            let block = BlockRef { number: 5, hash: Hash32([5; 32]) };
            state.apply(&Logged { block, log, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    fn registered(asset: u64, uri: &str, owner: Address) -> Vec<Event> {
        let asset = AssetId(asset);
        vec![Event::Transferred { asset, to: owner }, Event::Registered { asset, kind: AssetKind::Base, owner, uri: uri.into() }]
    }

    fn version(asset: u64, version: u32, new: &NewVersion) -> Event {
        Event::Published {
            version: AssetVersion { asset: AssetId(asset), version },
            content: new.content,
            parents: new.parents.clone(),
            split: new.split,
            datanets: new.datanets.clone(),
            licence: new.licence,
            parent_share_min: new.parent_share_min,
        }
    }

    #[test]
    fn a_name_of_another_account_is_registered_again_and_ones_own_gets_a_version() {
        let uri = "tributary:base:m";
        let decide = |events, content| plan(&state(events), OWNER, AssetKind::Base, uri, &new(content));
        assert_eq!(decide(vec![], 1), Plan::Register);
        assert_eq!(decide(registered(1, uri, Address([8; 20])), 1), Plan::Register);
        assert_eq!(decide(registered(2, uri, OWNER), 1), Plan::Append(AssetId(2)));
        let mut published = registered(2, uri, OWNER);
        published.extend([version(2, 1, &new(1)), version(2, 2, &new(9))]);
        assert_eq!(decide(published.clone(), 9), Plan::Nothing(AssetVersion { asset: AssetId(2), version: 2 }));
        assert_eq!(decide(published.clone(), 1), Plan::Append(AssetId(2)), "an older version is published anew");
        published.push(Event::Frozen { version: AssetVersion { asset: AssetId(2), version: 2 } });
        assert_eq!(decide(published, 9), Plan::Append(AssetId(2)), "what was frozen needs a new version");
    }

    #[test]
    fn names_are_checked_in_words() {
        assert_eq!(uri(AssetKind::Adapter, "medical-2.1").unwrap(), "tributary:adapter:medical-2.1");
        for name in ["", "Medical", "a b", "a:b", "../x", "-a", &"a".repeat(65), "42"] {
            let error = uri(AssetKind::Base, name).unwrap_err().to_string();
            assert!(error.contains("name"), "{name}: {error}");
        }
    }

    #[test]
    fn a_publication_prints_its_version_as_text() {
        let version = AssetVersion { asset: AssetId(4), version: 2 };
        let published = Published { uri: "u".into(), version, content: BlobId([1; 32]), transactions: vec![], gas: 0 };
        assert_eq!(serde_json::to_value(&published).unwrap()["version"], "4@2");
        assert!(describe(&published).contains("nothing was sent"));
    }
}
