//! Who may be asked: nodes whose signed ads offer what answers, in the order of price and chance.

use std::time::Duration;

use anyhow::Context as _;
use chain_bridge::registry::State;
use inference::proto::router::{self, Provider};
use p2p::{
    overlay::OverlayHandle,
    proto::ads::{Ad, Services},
};
use types::{
    amount::Amount,
    id::{Address, AssetVersion, Hash32},
    manifest::{AssetKind, Manifest},
};

use crate::ask::{Candidate, PROFILE};

/// How long ads of providers are awaited.
const ADS_WAIT: Duration = Duration::from_secs(15);
/// After the first fitting ad, how long others may still come, so that price decides rather than arrival.
const ADS_SETTLE: Duration = Duration::from_millis(300);

/// The nodes that [`known`] names, once there is one.
pub async fn candidates(
    overlay: &OverlayHandle,
    state: &State,
    manifest: &Manifest,
    tokens: u32,
    client: Address,
) -> anyhow::Result<Vec<Candidate>> {
    let waited = overlay.wait_ads(|ads| ads.iter().any(|signed| fits(signed.ad(), state, manifest)), ADS_WAIT).await;
    waited.context("no registered node offers this: give a --bootstrap address of a running node, or wait until one serves it")?;
    tokio::time::sleep(ADS_SETTLE).await;
    known(overlay, state, manifest, tokens, client).await
}

/// Nodes whose signed ads offer every asset of the manifest and whose account is registered for that node, in the order to ask them.
pub async fn known(
    overlay: &OverlayHandle,
    state: &State,
    manifest: &Manifest,
    tokens: u32,
    client: Address,
) -> anyhow::Result<Vec<Candidate>> {
    let ads = overlay.ads().await?;
    let fitting: Vec<&Ad> = ads.iter().map(|signed| signed.ad()).filter(|ad| fits(ad, state, manifest)).collect();
    let provider = |ad: &&Ad| Provider {
        node: ad.node,
        account: ad.account,
        rate_in: ad.rin,
        rate_out: ad.rout,
        queue: ad.queue,
        ttft_ms: ad.ttft_ms,
        seen_ttft_ms: None,
    };
    let ordered = router::order(fitting.iter().map(provider).collect(), 100, tokens, client);
    let candidate = |provider: Provider| {
        let ad = fitting.iter().find(|ad| ad.node == provider.node)?;
        Some(Candidate { node: ad.node, account: ad.account, addr: ad.client_addr })
    };
    Ok(ordered.into_iter().filter_map(candidate).collect())
}

/// Whether an ad offers all of a manifest, and its node is registered under the account it names.
pub fn fits(ad: &Ad, state: &State, manifest: &Manifest) -> bool {
    serves(ad, manifest) && state.operator(ad.account).is_some_and(|operator| operator.node == ad.node && operator.active > Amount::ZERO)
}

fn serves(ad: &Ad, manifest: &Manifest) -> bool {
    let has = |list: &[p2p::proto::ads::AdAsset], version: AssetVersion, content: Hash32| {
        list.iter().any(|asset| asset.asset == version.asset && asset.version == version.version && asset.hash == content)
    };
    ad.services.has(Services::INFERENCE)
        && ad.profile == Some(PROFILE)
        && manifest.assets.iter().all(|asset| match asset.kind {
            AssetKind::Base => has(&ad.bases, asset.version, Hash32(asset.content.0)),
            AssetKind::Adapter => has(&ad.adapters, asset.version, Hash32(asset.content.0)),
            AssetKind::Agent | AssetKind::Datanet => true,
        })
}
