//! Who may be asked: nodes whose signed ads offer what answers, in the order of what the client wants.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use chain_bridge::registry::State;
use inference::proto::router::{Holds, Preference, Provider, Tally};
use p2p::{
    overlay::OverlayHandle,
    proto::ads::{Ad, Services, SignedAd},
};
use types::{
    amount::Amount,
    id::{AssetVersion, Hash32},
    manifest::{AssetKind, Manifest},
    quote::Profile,
};

use super::routing::{Experience, Wanted};
use crate::ask::Candidate;

/// How long ads of providers are awaited.
const ADS_WAIT: Duration = Duration::from_secs(15);
/// Once the manifest is known to be offered in other profiles alone, how long an ad of the one asked for may still be on its way: a neighbour tells all it knows
/// in one exchange.
const PROFILE_WAIT: Duration = Duration::from_secs(1);
/// After the first fitting ad, how long others may still come, so that price decides rather than arrival.
const ADS_SETTLE: Duration = Duration::from_millis(300);

/// Nodes offer it, and none within what the client asks for.
#[derive(Debug, thiserror::Error)]
#[error("no node that offers this may be asked: {0}; raise --rate-in (input rate) or --rate-out, lower --min-stake, or leave --region out")]
pub(crate) struct NoneFits(Tally);

/// The nodes that may be asked, in the order to ask them, once there is one.
///
/// # Errors
/// If nobody offers the manifest in time, or nobody within the client's bounds.
pub async fn candidates(
    overlay: &OverlayHandle,
    state: &State,
    manifest: &Manifest,
    wanted: Wanted,
    preference: &Preference,
    experience: &Experience,
) -> anyhow::Result<Vec<Candidate>> {
    let profile = wanted.profile;
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
    known(overlay, state, manifest, wanted, preference, experience).await
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

/// Nodes whose signed ads offer every asset of the manifest in that profile, whose account is registered for that node, and that are within the client's
/// bounds, in the order to ask them. Empty if nobody offers it.
///
/// # Errors
/// [`NoneFits`] if some offer it and none of them is within the bounds.
pub(crate) async fn known(
    overlay: &OverlayHandle,
    state: &State,
    manifest: &Manifest,
    wanted: Wanted,
    preference: &Preference,
    experience: &Experience,
) -> anyhow::Result<Vec<Candidate>> {
    let ads = overlay.ads().await?;
    let providers = ads.iter().map(|signed| provider(signed.ad(), state, manifest)).collect();
    let route = experience.choose(providers, wanted, preference);
    if route.order.is_empty() && route.unfit.is_choosy() {
        return Err(NoneFits(route.unfit).into());
    }
    if let (Some(first), Some(why)) = (route.order.first(), route.why) {
        tracing::info!(node = %first, mode = preference.mode.name(), why = why.words(), left_out = %route.unfit, "whom to ask first");
    }
    let candidate = |node| {
        let ad = ads.iter().map(|signed| signed.ad()).find(|ad| ad.node == node)?;
        Some(Candidate { node: ad.node, account: ad.account, addr: ad.client_addr })
    };
    Ok(route.order.into_iter().filter_map(candidate).collect())
}

/// What an ad and the chain say of a node.
fn provider(ad: &Ad, state: &State, manifest: &Manifest) -> Provider {
    let operator = state.operator(ad.account).filter(|operator| operator.node == ad.node);
    Provider {
        node: ad.node,
        account: ad.account,
        holds: holds(ad, manifest),
        profile: ad.profile,
        stake: operator.map_or(Amount::ZERO, |operator| operator.active),
        region: ad.site.region,
        rate_in: ad.rin,
        rate_out: ad.rout,
        queue: ad.queue,
        ttft_ms: (ad.ttft_ms > 0).then_some(ad.ttft_ms),
        tokens_per_s: (ad.tokens_per_s > 0).then_some(ad.tokens_per_s),
    }
}

/// Whether an ad offers all of a manifest in that profile, and its node is registered under the account it names.
pub fn fits(ad: &Ad, state: &State, manifest: &Manifest, profile: Profile) -> bool {
    ad.profile == Some(profile)
        && holds(ad, manifest) == Holds::All
        && state.operator(ad.account).is_some_and(|operator| operator.node == ad.node && operator.active > Amount::ZERO)
}

fn holds(ad: &Ad, manifest: &Manifest) -> Holds {
    let has = |list: &[p2p::proto::ads::AdAsset], version: AssetVersion, content: Hash32| {
        list.iter().any(|asset| asset.asset == version.asset && asset.version == version.version && asset.hash == content)
    };
    let lacks = |kind, list: &[p2p::proto::ads::AdAsset]| {
        manifest.assets.iter().any(|asset| asset.kind == kind && !has(list, asset.version, Hash32(asset.content.0)))
    };
    if !ad.services.has(Services::INFERENCE) || lacks(AssetKind::Base, &ad.bases) {
        Holds::NoBase
    } else if lacks(AssetKind::Adapter, &ad.adapters) {
        Holds::NoAdapter
    } else {
        Holds::All
    }
}
