//! `tributary init`: a node key, a wallet and a configuration, never overwriting what is there.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use inference::gguf::GgufFile;
use serde::Serialize;

use super::Context;
use crate::{
    config::Config,
    data::{read_text, write_atomic},
};

/// Largest key file read.
const KEY_FILE_MAX: u64 = 64 << 10;

/// Set up the data folder: node key, encrypted wallet, configuration.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Writes node.seed (mode 0600), wallet.json (encrypted with your password) and tributary.toml, in this order. Run it once per\nnode: keys that are there are kept, and a folder that has a tributary.toml is refused.\n\nExamples:\n  tributary init                                        a client, or a node that only stores\n  tributary init --model model.gguf --bootstrap /ip4/203.0.113.5/udp/7401/quic-v1\n\nNext: put the deployment's registry.json into the folder, send OPEN to the account, then\n  tributary wallet deposit \"1 OPEN\"      to ask questions\n  tributary stake add \"20 OPEN\"          and `tributary run` to serve"
)]
pub struct Args {
    /// Base model file to serve.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Overlay address of a node to join through, as a multiaddress. May be repeated.
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
    /// First of five ports on loopback (overlay, clients, bulk, receipt log, metrics); 0 takes free ones at each start.
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
    /// The wallet was there before.
    is_kept: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let data = &context.data;
    let is_new = || -> anyhow::Result<()> {
        // The configuration is written last: without it an earlier init was interrupted, or only the wallet was made.
        if data.has(&data.config())? {
            bail!("{} exists already: this folder is set up; choose another --data-dir for another node", data.config().display());
        }
        if data.has(&data.wallet())? && args.key_file.is_some() {
            bail!("{} exists already and may hold the only copy of a key: leave --key-file out to keep it", data.wallet().display());
        }
        Ok(())
    };
    is_new()?;
    let config = configure(context, &args)?;
    let key = if data.has(&data.wallet())? { None } else { Some((settlement_key(&args)?, context.new_password()?)) };
    data.create()?;
    let _lock = data.lock()?;
    is_new()?;
    if !data.has(&data.seed())? {
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).context("no randomness from the system")?;
        let text = zeroize::Zeroizing::new(hex::encode(*secret));
        write_atomic(&data.seed(), text.as_bytes(), 0o600).with_context(|| format!("{}", data.seed().display()))?;
    }
    let seed = context.seed()?;
    let (account, is_kept) = match key {
        Some((account, password)) => {
            chain_bridge::wallet::keep(&data.wallet(), &password, &account)?;
            (account, false)
        }
        None => (context.account()?, true),
    };
    write_atomic(&data.config(), config.to_toml()?.as_bytes(), 0o644).with_context(|| format!("{}", data.config().display()))?;
    let done = Done { node: seed.node_id().to_string(), account: account.address().to_string(), config: data.config(), is_kept };
    context.output.result(&done, || {
        format!(
            "node     {}\naccount  {}{}\nconfig   {}\n\nNext: put the deployment's registry.json into this folder and send OPEN to the account. Then\n  tributary wallet deposit \"1 OPEN\"   to ask questions\n  tributary stake add \"20 OPEN\"       and `tributary run` to serve",
            done.node,
            done.account,
            if done.is_kept { " (the wallet that was there)" } else { "" },
            done.config.display()
        )
    })
}

fn configure(context: &Context, args: &Args) -> anyhow::Result<Config> {
    let mut config = context.config()?;
    let next = |step: u16| if args.port == 0 { Some(0) } else { args.port.checked_add(step) };
    let addresses =
        [&mut config.overlay, &mut config.clients, &mut config.bulk].into_iter().chain(&mut config.log).chain(&mut config.admin);
    for (step, address) in addresses.enumerate() {
        let port = u16::try_from(step)
            .ok()
            .and_then(next)
            .with_context(|| format!("--port {} leaves no room for five ports: choose one below 65532", args.port))?;
        address.set_port(port);
    }
    if let Some(model) = &args.model {
        // Refused now rather than when the node starts; its tensors are read then.
        GgufFile::open(model).with_context(|| format!("--model {}", model.display()))?;
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
                zeroize::Zeroizing::new(read_text(path, KEY_FILE_MAX).with_context(|| format!("{}: cannot be read", path.display()))?);
            let digits = text.trim().trim_start_matches("0x");
            hex::decode_to_slice(digits, &mut *secret).with_context(|| format!("{}: must hold 64 hex digits", path.display()))?;
        }
        None => getrandom::fill(&mut *secret).context("no randomness from the system")?,
    }
    types::key::Account::from_bytes(&secret).context("the settlement key is zero or beyond the curve's order: use another one")
}
