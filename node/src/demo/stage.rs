//! The demonstration's machinery: real processes, their folders, and the same commands a person would type.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::devnet::tied::{self, Tied};
use futures::future::try_join_all;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::{Instant, timeout},
};
use types::id::{Address, NodeId};

use crate::{command::Context, data::DataDir, output::Output, running::Addresses};

/// How long a node may take from its start to listening: it reads 98 MB and packs them for its kernels.
const START_WAIT: Duration = Duration::from_secs(60);
/// How long one command may take.
const COMMAND_WAIT: Duration = Duration::from_secs(300);
/// How long a node may take to end when asked.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// How often a node is asked how it is.
const LOOK: Duration = Duration::from_millis(300);
/// Password of the demonstration's wallets; they hold the money of a chain that ends with it.
pub const PASSWORD: &str = "demonstration";

/// One participant with a folder of its own.
#[derive(Debug)]
pub struct Party {
    /// Name shown.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its account.
    pub account: Address,
    /// Its node key.
    pub node: NodeId,
    child: Option<Tied>,
    /// Where its node is reached, while it runs.
    pub addresses: Option<Addresses>,
}

/// Everything the demonstration runs on.
#[derive(Debug)]
pub struct Stage {
    /// Output folder.
    pub out: PathBuf,
    /// Deployment file.
    pub registry: PathBuf,
    /// JSON-RPC endpoint.
    pub rpc: String,
    exe: PathBuf,
}

impl Stage {
    /// A stage over a fresh output folder, whose parties run this program.
    pub fn new(out: &Path, registry: PathBuf, rpc: String) -> anyhow::Result<Self> {
        Ok(Self::of(std::env::current_exe().context("this program's own path")?, out, registry, rpc))
    }

    /// A stage whose parties run `exe`, the built `tributary`.
    pub fn of(exe: PathBuf, out: &Path, registry: PathBuf, rpc: String) -> Self {
        Self { out: out.to_owned(), registry, rpc, exe }
    }

    /// This program, as it was called: by a path if it was found by one.
    pub fn exe(&self) -> PathBuf {
        let called = std::env::args_os().next().map(PathBuf::from).filter(|called| called.components().count() > 1 && called.is_file());
        called.unwrap_or_else(|| self.exe.clone())
    }

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = tied::command(&self.exe);
        command
            .arg("--data-dir")
            .arg(folder)
            .arg("--registry")
            .arg(&self.registry)
            .arg("--rpc")
            .arg(&self.rpc)
            .arg("--json")
            .args(arguments);
        // Without it the tensor library looks the processors up at every product.
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("TRIBUTARY_PASSWORD", PASSWORD)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs one command to its end and returns its JSON document.
    pub async fn cli(&self, folder: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
        let shown = || format!("tributary {}", arguments.join(" "));
        let (is_done, value, error) = self.cli_outcome(folder, arguments).await?;
        ensure!(is_done, "`{}` failed: {}", shown(), value.get("error").and_then(Value::as_str).unwrap_or(&error));
        Ok(value)
    }

    /// Runs one command that may fail; returns whether it succeeded, its JSON document and its error output.
    pub async fn cli_outcome(&self, folder: &Path, arguments: &[&str]) -> anyhow::Result<(bool, Value, String)> {
        let shown = || format!("tributary {}", arguments.join(" "));
        let running = Tied::spawn(&mut self.command(folder, arguments)).with_context(shown)?;
        let done =
            timeout(COMMAND_WAIT, running.output()).await.with_context(|| format!("`{}` took too long", shown()))?.with_context(shown)?;
        let text = String::from_utf8_lossy(&done.stdout);
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok((done.status.success(), value, String::from_utf8_lossy(&done.stderr).into_owned()))
    }

    /// Runs one long command, its progress shown as it comes, and returns its JSON document.
    pub async fn cli_shown(&self, folder: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
        let done = Tied::spawn(self.command(folder, arguments).stderr(Stdio::inherit()))?.output().await?;
        let value: Value = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
        let reason = value.get("error").and_then(Value::as_str).unwrap_or("see above");
        ensure!(done.status.success(), "`tributary {}` failed: {reason}", arguments.join(" "));
        Ok(value)
    }

    /// The same command for several parties at once; what each printed, in their order.
    pub async fn cli_all(&self, parties: &[Party], arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        try_join_all(
            parties.iter().map(|party| async move { self.cli(&party.folder, arguments).await.with_context(|| party.name.clone()) }),
        )
        .await
    }

    /// Sets a party's folder up.
    pub async fn party(&self, name: &str, model: Option<&Path>, bootstrap: Option<&str>) -> anyhow::Result<Party> {
        let folder = self.out.join("parties").join(name);
        let mut arguments = vec!["init", "--port", "0"];
        if let Some(model) = model {
            arguments.extend(["--model", model.to_str().context("the model's path is not text")?]);
        }
        if let Some(bootstrap) = bootstrap {
            arguments.extend(["--bootstrap", bootstrap]);
        }
        let made = self.cli(&folder, &arguments).await?;
        let field = |name: &str| made.get(name).and_then(Value::as_str).with_context(|| format!("init printed no {name}"));
        Ok(Party {
            name: name.to_owned(),
            account: field("account")?.parse()?,
            node: field("node")?.parse()?,
            folder,
            child: None,
            addresses: None,
        })
    }

    /// A command context in a party's folder, for what the demonstration does inside its own process.
    pub fn context(&self, party: &Party) -> Context {
        let password = self.out.join("password");
        Context::new(DataDir::new(&party.folder), Some(self.registry.clone()), Some(self.rpc.clone()), Some(password), Output::new(true))
    }

    /// Writes the password file that [`Stage::context`] names.
    pub fn write_password(&self) -> anyhow::Result<()> {
        Ok(crate::data::write_atomic(&self.out.join("password"), PASSWORD.as_bytes(), 0o600)?)
    }

    /// Starts a party's node and waits until it listens.
    pub async fn start(&self, party: &mut Party) -> anyhow::Result<()> {
        ensure!(party.child.is_none(), "{} is running already", party.name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(party.folder.join("node.log"))?;
        let mut command = self.command(&party.folder, &["run"]);
        command.stderr(log).env("TRIBUTARY_LOG", std::env::var("TRIBUTARY_LOG").unwrap_or_else(|_| "info".into()));
        let mut child = Tied::spawn(&mut command).with_context(|| format!("{} did not start", party.name))?;
        let mut output = BufReader::new(child.stdout().context("no output of the node")?);
        let addresses = timeout(START_WAIT, read_document(&mut output)).await;
        let addresses = addresses.with_context(|| format!("{} is not listening after {} s", party.name, START_WAIT.as_secs()))?;
        let addresses = addresses.with_context(|| format!("{} did not start: {}", party.name, tail(&party.folder.join("node.log"))))?;
        party.addresses = Some(serde_json::from_str(&addresses)?);
        // The pipe stays open so that the node never writes into a closed one.
        tokio::spawn(async move { drop(output.read_to_end(&mut Vec::new()).await) });
        party.child = Some(child);
        Ok(())
    }

    /// Takes note that a party's node was killed from outside.
    pub async fn reap(&self, party: &mut Party) -> anyhow::Result<()> {
        let mut child = party.child.take().with_context(|| format!("{} was not running", party.name))?;
        party.addresses = None;
        timeout(Duration::from_secs(10), child.wait()).await.with_context(|| format!("{} is still running", party.name))??;
        Ok(())
    }

    /// Asks a party's node to stop and waits for its end.
    pub async fn stop(&self, party: &mut Party) -> anyhow::Result<()> {
        let Some(mut child) = party.child.take() else { return Ok(()) };
        party.addresses = None;
        if let Some(pid) = child.id() {
            let pid = pid.to_string();
            // The shell's own: small systems have no such program.
            Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().await.context("kill")?;
        }
        if timeout(STOP_WAIT, child.wait()).await.is_err() {
            child.kill().await?;
            bail!("{} did not end within {} s of being asked and was killed", party.name, STOP_WAIT.as_secs());
        }
        Ok(())
    }

    /// Stops several nodes at once, whatever happens to one of them.
    pub async fn stop_all<'p>(&self, parties: impl IntoIterator<Item = &'p mut Party>) -> anyhow::Result<()> {
        let ended = futures::future::join_all(parties.into_iter().map(|party| self.stop(party))).await;
        ended.into_iter().collect()
    }

    /// Waits at most `seconds` until a party's node says something of itself.
    pub async fn wait_status(&self, party: &Party, seconds: u64, what: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let (deadline, mut last) = (Instant::now() + Duration::from_secs(seconds), Value::Null);
        while Instant::now() < deadline {
            let (is_done, status, error) = self.cli_outcome(&party.folder, &["status"]).await?;
            if is_done && is_so(&status) {
                return Ok(status);
            }
            last = if is_done { status } else { Value::String(error) };
            tokio::time::sleep(LOOK).await;
        }
        bail!(
            "{}: {what} did not come about within {seconds} s; last status {last}; log: {}",
            party.name,
            tail(&party.folder.join("node.log"))
        )
    }
}

impl Party {
    /// Process id of its node.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Tied::id)
    }

    /// First overlay address of its node.
    pub fn bootstrap(&self) -> anyhow::Result<&str> {
        let addresses = self.addresses.as_ref().with_context(|| format!("{} is not running", self.name))?;
        addresses.overlay.first().map(String::as_str).context("a node has an overlay address")
    }
}

/// The node prints one JSON document once it listens; its last line is the closing brace alone.
async fn read_document(output: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> anyhow::Result<String> {
    let mut text = String::new();
    loop {
        let before = text.len();
        let read = output.read_line(&mut text).await?;
        ensure!(read > 0, "its output ended early: {text}");
        if text[before..].trim_end() == "}" {
            return Ok(text);
        }
    }
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
