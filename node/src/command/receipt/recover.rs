//! A lost bundle, had back from its node by the key that came with the receipt.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use attribution::{bundle::Bundle, transcript::wrap::ExchangeSecret};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
    proto::ads::Ad,
};
use serde::Serialize;
use tokio::time::timeout;
use types::{
    encoding::Document as _,
    id::{Address, Hash32},
    key::Account,
};

use crate::{
    ask::key::ReceiptKey,
    command::{Context, talk::joining},
    data::{Existing, may_write, write_out},
    service::settlement::{loopback_any, sealed::ask_sealed},
};

/// How long the node's ad is awaited.
const ADS_WAIT: Duration = Duration::from_secs(15);
/// How long the node may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most nodes asked that say they have the account: anybody may say so.
const ASKED_MAX: usize = 4;

/// What is printed.
#[derive(Debug, Serialize)]
struct Recovered {
    receipt: Hash32,
    node: Address,
    file: PathBuf,
}

/// Asks the receipt's node, opens what it sends with the key at hand, and writes the bundle.
pub(super) async fn run(
    context: &Context,
    file: &Path,
    out: Option<PathBuf>,
    existing: Existing,
    bootstrap: Vec<String>,
) -> anyhow::Result<()> {
    let key = ReceiptKey::load(file)?;
    let out = out.unwrap_or_else(|| file.with_extension("json"));
    may_write(&out, existing)?;
    let (config, account) = (joining(context, bootstrap)?, context.account()?);
    let node = key.receipt.document.node;
    let overlay = context.light_overlay(&config).await?;
    let ads = overlay.wait_ads(|ads| ads.iter().any(|signed| signed.ad().account == node), ADS_WAIT).await;
    overlay.shutdown().await;
    let ads = ads.with_context(|| format!("node {node} is not heard of: is it running, and is --bootstrap of the same network?"))?;
    let mut refused = Vec::new();
    for ad in ads.iter().map(|signed| signed.ad()).filter(|ad| ad.account == node).take(ASKED_MAX) {
        match timeout(PATIENCE, asked(&key, &account, ad)).await {
            Ok(Ok(bundle)) => {
                write_out(&out, bundle.to_json().as_bytes(), 0o600, existing)?;
                let recovered = Recovered { receipt: key.receipt.document.hash(), node, file: out };
                return context.output.result(&recovered, || {
                    format!("receipt {} is in {}: its node had kept question and answer", recovered.receipt, recovered.file.display())
                });
            }
            Ok(Err(error)) => refused.push(format!("node {}: {error:#}", ad.node)),
            Err(_) => refused.push(format!("node {}: no answer within {} s", ad.node, PATIENCE.as_secs())),
        }
    }
    bail!("receipt {} was not had back: {}", key.receipt.document.hash(), refused.join("; "))
}

async fn asked(key: &ReceiptKey, account: &Account, ad: &Ad) -> anyhow::Result<Bundle> {
    let client = Client::bind(loopback_any(ad.client_addr), &NodeSeed::generate(), Limits::default())?;
    let connection = client.connect(ad.client_addr, Some(ad.node)).await?;
    // A client is told whatever epoch its receipt stands under.
    let shown = ask_sealed(&connection, account, &key.domains, 0, &key.receipt).await;
    client.close(p2p::stream::code::SHUTDOWN).await;
    key.open(&shown?.sealed.0, &ExchangeSecret::of(account))
}
