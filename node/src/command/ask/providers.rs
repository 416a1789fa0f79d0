//! Who may be asked: nodes whose signed ads offer what answers, in the order of price and chance.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use chain_bridge::registry::State;
use inference::proto::router::{self, Provider};
use p2p::{
    overlay::OverlayHandle,
    proto::ads::{Ad, Services, SignedAd},
};
use types::{
    amount::Amount,
    id::{Address, AssetVersion, Hash32},
    manifest::{AssetKind, Manifest},
    quote::Profile,
};

use crate::ask::Candidate;

/// How long ads of providers are awaited.
const ADS_WAIT: Duration = Duration::from_secs(15);
/// Once the manifest is known to be offered in other profiles alone, how long an ad of the one asked for may still be on its way: a neighbour tells all it knows
/// in one exchange.
const PROFILE_WAIT: Duration = Duration::from_secs(1);
/// After the first fitting ad, how long others may still come, so that price decides rather than arrival.
const ADS_SETTLE: Duration = Duration::from_millis(300);

/// The nodes that [`known`] names, once there is one.
pub async fn candidates(
    overlay: &OverlayHandle,
    state: &State,
    manifest: &Manifest,
    profile: Profile,
    tokens: u32,
    client: Address,
) -> anyhow::Result<Vec<Candidate>> {
    let is_offered = |ads: &[Arc<SignedAd>]| ads.iter().any(|signed| fits(signed.ad(), state, manifest, profile));
    let mut waited = overlay.wait_ads(|ads| !profiles(ads, state, manifest).is_empty(), ADS_WAIT).await;
    if waited.as_ref().is_ok_and(|ads| !is_offered(ads)) {
        waited = overlay.wait_ads(is_offered, PROFILE_WAIT).await;
    }
    if let Err(error) = waited {
        let others = others(&overlay.ads().await?, state, manifest);
        return Err(error).context(format!("no registered node offers this in the profile {profile}: {others}"));
    }
    tokio::time::sleep(ADS_SETTLE).await;
    known(overlay, state, manifest, profile, tokens, client).await
}

/// Profiles in which a manifest is offered.
fn profiles(ads: &[Arc<SignedAd>], state: &State, manifest: &Manifest) -> Vec<Profile> {
    let is_offered = |profile: &Profile| ads.iter().any(|signed| fits(signed.ad(), state, manifest, *profile));
    Profile::ALL.into_iter().filter(is_offered).collect()
}

/// What to do where nobody answers in the profile that was asked for: other profiles in which the manifest is offered come first.
fn others(ads: &[Arc<SignedAd>], state: &State, manifest: &Manifest) -> String {
    let names: Vec<&str> = profiles(ads, state, manifest).into_iter().map(Profile::name).collect();
    match names.as_slice() {
        [] => "give a --bootstrap address of a running node, or wait until one serves it".to_owned(),
        some => format!("it is offered in {0}: ask with --profile {0}", some.join(" and ")),
    }
}

/// Nodes whose signed ads offer every asset of the manifest in that profile and whose account is registered for that node, in the order to ask them.
pub async fn known(
    overlay: &OverlayHandle,
    state: &State,
    manifest: &Manifest,
    profile: Profile,
    tokens: u32,
    client: Address,
) -> anyhow::Result<Vec<Candidate>> {
    let ads = overlay.ads().await?;
    let fitting: Vec<&Ad> = ads.iter().map(|signed| signed.ad()).filter(|ad| fits(ad, state, manifest, profile)).collect();
    let provider = |ad: &&Ad| Provider {
        node: ad.node,
        account: ad.account,
        rate_in: ad.rin,
        rate_out: ad.rout,
        queue: ad.queue,
        ttft_ms: (ad.ttft_ms > 0).then_some(ad.ttft_ms),
        seen_ttft_ms: None,
    };
    let ordered = router::order(fitting.iter().map(provider).collect(), 100, tokens, client);
    let candidate = |provider: Provider| {
        let ad = fitting.iter().find(|ad| ad.node == provider.node)?;
        Some(Candidate { node: ad.node, account: ad.account, addr: ad.client_addr })
    };
    Ok(ordered.into_iter().filter_map(candidate).collect())
}

/// Whether an ad offers all of a manifest in that profile, and its node is registered under the account it names.
pub fn fits(ad: &Ad, state: &State, manifest: &Manifest, profile: Profile) -> bool {
    ad.profile == Some(profile)
        && serves(ad, manifest)
        && state.operator(ad.account).is_some_and(|operator| operator.node == ad.node && operator.active > Amount::ZERO)
}

fn serves(ad: &Ad, manifest: &Manifest) -> bool {
    let has = |list: &[p2p::proto::ads::AdAsset], version: AssetVersion, content: Hash32| {
        list.iter().any(|asset| asset.asset == version.asset && asset.version == version.version && asset.hash == content)
    };
    ad.services.has(Services::INFERENCE)
        && manifest.assets.iter().all(|asset| match asset.kind {
            AssetKind::Base => has(&ad.bases, asset.version, Hash32(asset.content.0)),
            AssetKind::Adapter => has(&ad.adapters, asset.version, Hash32(asset.content.0)),
            AssetKind::Agent | AssetKind::Datanet => true,
        })
}
