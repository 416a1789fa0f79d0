//! `tributary init`: a node key, a wallet and a configuration, never overwriting what is there.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use p2p::identity::NodeSeed;
use serde::Serialize;

use super::Context;
use crate::{config::Config, data::write_atomic};

/// Set up the data folder: node key, encrypted wallet, configuration.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Writes node.seed (mode 0600), wallet.json (encrypted with your password) and tributary.toml. Run it once per node;\nexisting keys are never overwritten. Edit tributary.toml, then `tributary run`."
)]
pub struct Args {
    /// Base model file to serve.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Overlay address of a node to join through, as a multiaddress. May be repeated.
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
    /// First of three ports on loopback (overlay, clients, bulk); 0 takes free ones at each start.
    #[arg(long, default_value_t = 7_401)]
    port: u16,
    /// Read the settlement key from this file (64 hex digits) rather than making one.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Done {
    node: String,
    account: String,
    config: PathBuf,
}

/// Runs the command.
pub fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let data = &context.data;
    for path in [data.seed(), data.wallet(), data.config()] {
        if path.exists() {
            bail!("{} exists already: this folder is set up; choose another --data-dir for another node", path.display());
        }
    }
    let config = configure(context, &args)?;
    let password = context.password()?;
    if password.is_empty() {
        bail!("the wallet's password is empty: give one by --password-file or TRIBUTARY_PASSWORD");
    }
    let account = settlement_key(&args)?;
    data.create()?;
    let _lock = data.lock()?;
    let mut secret = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).context("no randomness from the system")?;
    let seed = NodeSeed::new(*secret);
    chain_bridge::wallet::keep(&data.wallet(), &password, &account)?;
    write_atomic(&data.seed(), hex::encode(*secret).as_bytes(), 0o600)?;
    write_atomic(&data.config(), config.to_toml()?.as_bytes(), 0o644)?;
    let done = Done { node: seed.node_id().to_string(), account: account.address().to_string(), config: data.config() };
    context.output.result(&done, || {
        format!(
            "node     {}\naccount  {}\nconfig   {}\n\nFund the account with OPEN, then: tributary stake add, tributary run",
            done.node,
            done.account,
            done.config.display()
        )
    })
}

fn configure(context: &Context, args: &Args) -> anyhow::Result<Config> {
    let mut config = context.config()?;
    let next = |step: u16| if args.port == 0 { Some(0) } else { args.port.checked_add(step) };
    for (step, address) in [&mut config.overlay, &mut config.clients, &mut config.bulk].into_iter().enumerate() {
        let port = u16::try_from(step)
            .ok()
            .and_then(next)
            .with_context(|| format!("--port {} leaves no room for three ports: choose one below 65534", args.port))?;
        address.set_port(port);
    }
    if let Some(model) = &args.model {
        config.model = Some(std::path::absolute(model)?);
    }
    config.bootstrap.clone_from(&args.bootstrap);
    config.validate()?;
    Ok(config)
}

fn settlement_key(args: &Args) -> anyhow::Result<types::key::Account> {
    let mut secret = zeroize::Zeroizing::new([0; 32]);
    match &args.key_file {
        Some(path) => {
            let text =
                zeroize::Zeroizing::new(std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?);
            let digits = text.trim().trim_start_matches("0x");
            hex::decode_to_slice(digits, &mut *secret).with_context(|| format!("{}: must hold 64 hex digits", path.display()))?;
        }
        None => getrandom::fill(&mut *secret).context("no randomness from the system")?,
    }
    types::key::Account::from_bytes(&secret).context("the settlement key is zero or beyond the curve's order: use another one")
}
