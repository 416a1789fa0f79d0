//! The chain of a test: anvil in OP mode with the suite deployed, and what only its governor can do.

use std::path::{Path, PathBuf};

use chain_bridge::{
    client::ChainClient,
    devnet::{Devnet, DevnetConfig, Role},
};
use types::{encoding::Writer, id::Hash32, merkle::keccak};

/// Parameter set that nodes post index roots under.
const PARAMETERS: u32 = 1;
/// Its least words and least weight, as its README says.
const LEAST_WORDS: u8 = 6;
const THETA: u32 = 60 * 256;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

/// anvil's program: `TRIBUTARY_ANVIL`, else where `npm ci` puts it.
///
/// # Panics
/// If it is missing, with the command that brings it.
pub fn anvil() -> PathBuf {
    let installed = || root().join("chain-bridge/contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    let path = std::env::var_os("TRIBUTARY_ANVIL").map_or_else(installed, PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `npm ci` in chain-bridge/contracts, or name anvil by TRIBUTARY_ANVIL", path.display());
    path
}

/// A chain of one-second blocks with the contracts deployed; W1 15 s, so that roots are taken for 5 s, and W2 5 s.
///
/// # Panics
/// If it does not start.
pub async fn devnet() -> Devnet {
    devnet_of(15, 5).await
}

/// The same with windows of so many seconds; roots are taken for a third of the first one.
///
/// # Panics
/// If it does not start.
pub async fn devnet_of(w1_s: u64, w2_s: u64) -> Devnet {
    started(config_of(w1_s, w2_s)).await
}

/// [`devnet`] where stake takes so many seconds to leave, and transcripts are shown as long.
///
/// # Panics
/// If it does not start.
pub async fn devnet_unbonding(unbonding_s: u64) -> Devnet {
    let mut config = config_of(15, 5);
    (config.deploy.unbonding_s, config.deploy.honour_s) = (unbonding_s, unbonding_s);
    started(config).await
}

/// [`devnet`] with a W1 of three times so many seconds, so that nodes have as long to check one another's answers.
///
/// # Panics
/// If it does not start.
pub async fn devnet_checking(third_s: u64) -> Devnet {
    let mut config = config_of(3 * third_s, 5);
    (config.deploy.unbonding_s, config.deploy.honour_s) = (4 * third_s, 4 * third_s);
    started(config).await
}

fn config_of(w1_s: u64, w2_s: u64) -> DevnetConfig {
    let mut config = DevnetConfig::new(anvil());
    (config.deploy.w1_s, config.deploy.w2_s) = (w1_s, w2_s);
    config.deploy.epoch_min_s = 1;
    config
}

async fn started(config: DevnetConfig) -> Devnet {
    Devnet::start(config).await.unwrap_or_else(|error| panic!("the chain did not start: {error}"))
}

/// Approves the attribution parameters as the governor.
///
/// # Panics
/// If the chain refuses.
pub async fn approve_parameters(devnet: &Devnet) -> ChainClient {
    let governor =
        ChainClient::connect(devnet.url(), devnet.deployment().clone(), Some(Role::Governor.account())).await.expect("the chain answers");
    governor.approve_parameters(PARAMETERS, &parameters()).await.expect("the governor may approve parameters");
    governor
}

/// The 45 bytes of parameter set 1, put together from the figures of the independent script, and checked with its hash.
fn parameters() -> Vec<u8> {
    let path = root().join("attribution/fixtures/weights.tsv");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let value = |name: &str| {
        let rows = text.lines().filter_map(|line| line.split_once('\t'));
        rows.filter(|(row, _)| *row == name)
            .map(|(_, value)| value)
            .next()
            .unwrap_or_else(|| panic!("{} has no row {name}", path.display()))
    };
    let hash = |name: &str| value(name).parse::<Hash32>().expect("32 bytes in hex");
    let unknown = value("unknown").parse().expect("a number");
    let body = Writer::new().u32(PARAMETERS).u8(LEAST_WORDS).u32(THETA).u32(unknown).hash(hash("table")).finish();
    assert_eq!(keccak(&[&body]), hash("hash"), "the parameters' least words or weight have changed");
    body
}
