//! What commands share: the data folder, keys, configuration, chain and network, each opened when first needed.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::deploy::Deployment;
use p2p::{
    identity::NodeSeed,
    overlay::{Overlay, OverlayConfig, OverlayHandle},
};
use types::key::Account;

use crate::{
    chain::Chained,
    config::Config,
    data::{DataDir, read_bounded, read_text},
    explain::{Consent, Explainer},
    output::{Output, money},
    running::Addresses,
    when::{ago, now},
};

/// Largest key, wallet or password file read.
const KEY_FILE_MAX: u64 = 64 << 10;

fn prompt(words: &str) -> anyhow::Result<zeroize::Zeroizing<String>> {
    let text = rpassword::prompt_password(words).context("no password: give --password-file or set TRIBUTARY_PASSWORD")?;
    Ok(zeroize::Zeroizing::new(text))
}

/// What this run was told on the command line.
#[derive(Debug, Clone)]
pub struct Context {
    /// The data folder.
    pub data: DataDir,
    /// How to print.
    pub output: Output,
    registry: PathBuf,
    rpc: Option<String>,
    password_file: Option<PathBuf>,
}

impl Context {
    /// From the global options.
    pub fn new(data: DataDir, registry: Option<PathBuf>, rpc: Option<String>, password_file: Option<PathBuf>, output: Output) -> Self {
        let registry = registry.unwrap_or_else(|| data.registry());
        Self { data, output, registry, rpc, password_file }
    }

    /// The deployment file.
    pub const fn registry_path(&self) -> &PathBuf {
        &self.registry
    }

    /// The same, with the wallet's password in another file.
    pub(crate) fn with_password_file(&self, path: PathBuf) -> Self {
        Self { password_file: Some(path), ..self.clone() }
    }

    /// The endpoint named on the command line or by the environment, if one was.
    pub fn rpc(&self) -> Option<&str> {
        self.rpc.as_deref()
    }

    /// Whether nothing may be signed.
    pub fn is_dry(&self) -> bool {
        self.output.consent == Consent::Refused
    }

    /// The node's configuration; the defaults where `init` has not been run.
    pub fn config(&self) -> anyhow::Result<Config> {
        let path = self.data.config();
        let mut config = if self.data.has(&path)? { Config::load(&path)? } else { Config::default() };
        if let Some(rpc) = &self.rpc {
            config.rpc.clone_from(rpc);
            config.validate()?;
        }
        Ok(config)
    }

    /// The node's identity.
    pub fn seed(&self) -> anyhow::Result<NodeSeed> {
        let path = self.data.seed();
        if !self.data.has(&path)? {
            return Err(crate::data::DataError::Uninitialised(self.data.path().to_owned()).into());
        }
        let mode = std::fs::metadata(&path).with_context(|| format!("{}: cannot be read", path.display()))?.permissions().mode() & 0o777;
        ensure!(mode & 0o077 == 0, "{} may be read by others (mode {mode:o}): run chmod 600 on it", path.display());
        let text =
            zeroize::Zeroizing::new(read_bounded(&path, KEY_FILE_MAX).with_context(|| format!("{}: cannot be read", path.display()))?);
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), &mut *seed).with_context(|| format!("{}: must hold 64 hex digits", path.display()))?;
        Ok(NodeSeed::new(*seed))
    }

    /// The wallet's password: from the file named, the environment, or the person at the terminal.
    pub fn password(&self) -> anyhow::Result<zeroize::Zeroizing<String>> {
        self.given_password()?.map_or_else(|| prompt("wallet password: "), Ok)
    }

    /// A password for a new wallet: not empty, and typed twice by a person at the terminal, because nobody can restore a mistyped one.
    pub fn new_password(&self) -> anyhow::Result<zeroize::Zeroizing<String>> {
        let password = match self.given_password()? {
            Some(password) => password,
            None => {
                let (first, again) = (prompt("new wallet password: ")?, prompt("the same again: ")?);
                ensure!(first == again, "the two passwords differ: nothing was made, try again");
                first
            }
        };
        ensure!(!password.is_empty(), "the wallet's password is empty: give one by --password-file or TRIBUTARY_PASSWORD");
        Ok(password)
    }

    /// The password from the file named or the environment; nothing if neither is.
    pub(crate) fn given_password(&self) -> anyhow::Result<Option<zeroize::Zeroizing<String>>> {
        let text = if let Some(path) = &self.password_file {
            zeroize::Zeroizing::new(read_text(path, KEY_FILE_MAX).with_context(|| format!("{}: cannot be read", path.display()))?)
        } else if let Ok(password) = std::env::var("TRIBUTARY_PASSWORD") {
            zeroize::Zeroizing::new(password)
        } else {
            return Ok(None);
        };
        Ok(Some(zeroize::Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))
    }

    /// The settlement key, unlocked.
    pub fn account(&self) -> anyhow::Result<Account> {
        let path = self.data.wallet();
        if !self.data.has(&path)? {
            return Err(crate::data::DataError::Uninitialised(self.data.path().to_owned()).into());
        }
        Ok(chain_bridge::wallet::load(&path, &self.password()?)?)
    }

    /// Where the contracts are.
    pub fn deployment(&self) -> anyhow::Result<Deployment> {
        let hint = || "give the deployment's registry.json by --registry or put it into the data folder".to_owned();
        Deployment::read(&self.registry).with_context(hint)
    }

    /// The chain, to read from.
    pub async fn chain_reader(&self) -> anyhow::Result<Chained> {
        self.opened(None).await
    }

    /// The chain, as long as it is the one that this folder counted by.
    async fn opened(&self, account: Option<Account>) -> anyhow::Result<Chained> {
        let chained = Chained::open_in(&self.data, &self.config()?.rpc, self.deployment()?, account).await?;
        chained.alarm().map_or(Ok(chained), |alarm| Err(alarm.into()))
    }

    /// The chain, with the wallet's account to send from.
    pub async fn chain(&self) -> anyhow::Result<Chained> {
        // What is missing is said before a password is asked for.
        self.deployment()?;
        let chained = self.opened(Some(self.account()?)).await?;
        chained.client.ask_before_sending(Arc::new(Explainer::new(&self.output, chained.deployment())))?;
        if !self.is_dry() {
            let (finished, failure) = chained.keep_outbox(&self.data.outbox(false)).await?;
            if let Some(failure) = failure {
                self.output.note(&format!("a transaction of an earlier command: {failure}"));
            }
            self.tell_others(&chained, &finished).await;
            self.output.tells_of(&chained.client);
        }
        Ok(chained)
    }

    /// Whether an earlier run of this command was stopped before it told what it sent: what it has changed on the chain stops this one not.
    pub async fn was_stopped(&self, chained: &Chained) -> bool {
        chained.client.untold().await.iter().any(|untold| untold.origin == self.output.origin)
    }

    /// Says what became of transactions of other commands that were stopped; this command's own are told where it would send them.
    async fn tell_others(&self, chained: &Chained, finished: &[String]) {
        let others = chained.client.untold().await.into_iter().filter(|untold| untold.origin != self.output.origin);
        for untold in others.filter(|untold| finished.contains(&untold.key)) {
            self.output.note(&format!(
                "{} ({}, begun {}), sent by another command that was stopped, is in a block now: that command, run again, tells it and sends nothing twice",
                untold.what,
                money(untold.call.value),
                ago(untold.since, now())
            ));
        }
    }

    /// A client's place in the overlay: hears ads, offers nothing, lasts as long as the command.
    pub async fn light_overlay(&self, config: &Config) -> anyhow::Result<OverlayHandle> {
        let own = Addresses::read(&self.data).map(|addresses| addresses.overlay).unwrap_or_default();
        let known = config.bootstrap.iter().chain(&own);
        let bootstrap = known
            .map(|text| text.parse().with_context(|| format!("bootstrap {text:?} is no multiaddress")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        if bootstrap.is_empty() {
            bail!("no way into the network: give --bootstrap, or put one address into tributary.toml");
        }
        self.output
            .note(&format!("joining the network through {}", bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
        let (overlay, mut events) = Overlay::start(OverlayConfig::light(bootstrap)).await?;
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        Ok(overlay)
    }
}
