//! Nodes that know each other from one bootstrap address, and the people around them, each in a folder of their own.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use chain_bridge::{client::ChainClient, devnet::Devnet};
use futures::future::join_all;
use node::{config::Config, running::Addresses};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::{Address, NodeId},
    key::Account,
};

use crate::{
    chain,
    process::{Outcome, PASSWORD, Tributary},
};

/// Longest from a node's start to its listening.
const START_WAIT: Duration = Duration::from_secs(90);
/// Longest from asking a node to stop to its end.
const STOP_WAIT: Duration = Duration::from_secs(60);
/// Time between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(250);
/// Lines of each log that a failing test shows.
const LOG_LINES: usize = 12;

/// What a cluster is made of.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Nodes; the first one indexes, posts payouts and is everybody's bootstrap address.
    pub nodes: usize,
    /// Their model; without one they only store.
    pub model: Option<PathBuf>,
    /// People without a node, by name.
    pub people: Vec<&'static str>,
}

/// Somebody with a folder: an operator with a node, or a client.
#[derive(Debug)]
pub struct Party {
    /// Name of the folder.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// Account of the wallet in it.
    pub account: Address,
    /// Node key in it.
    pub node: NodeId,
    /// Where its node is reached, while it runs.
    pub addresses: Option<Addresses>,
    child: Option<Child>,
}

/// A chain, nodes and people.
#[derive(Debug)]
pub struct Cluster {
    /// The chain.
    pub devnet: Devnet,
    /// The governor's view of it.
    pub chain: ChainClient,
    /// The binary, told of the chain.
    pub tributary: Tributary,
    /// The nodes.
    pub nodes: Vec<Party>,
    people: Vec<Party>,
    folder: TempDir,
    started: Instant,
}

impl Cluster {
    /// Starts everything: every node is staked and knows of all the others when this returns.
    ///
    /// # Panics
    /// If anything does not start.
    pub async fn start(setup: Setup) -> Self {
        Self::start_on(chain::devnet(), setup, |_| {}).await
    }

    /// The same on another chain, with nodes that are `configured` before they start.
    ///
    /// # Panics
    /// If anything does not start.
    pub async fn start_on(devnet: impl Future<Output = Devnet>, setup: Setup, configured: impl Fn(&mut Config)) -> Self {
        Self::start_as(devnet, setup, configured, false).await
    }

    /// The same as [`Cluster::start`], of which every process writes down what it sends, before that is encrypted, into the folder [`Cluster::wire`].
    ///
    /// # Panics
    /// If anything does not start.
    pub async fn start_tapped(setup: Setup) -> Self {
        Self::start_as(chain::devnet(), setup, |_| {}, true).await
    }

    /// Where processes of a tapped cluster write what they send.
    pub fn wire(&self) -> PathBuf {
        self.folder.path().join("wire")
    }

    async fn start_as(devnet: impl Future<Output = Devnet>, setup: Setup, configured: impl Fn(&mut Config), is_tapped: bool) -> Self {
        let started = Instant::now();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let devnet = devnet.await;
        let registry = folder.path().join("registry.json");
        devnet.deployment().write(&registry).expect("registry.json is written");
        let mut tributary = Tributary::find().on(&registry, devnet.url());
        if is_tapped {
            let wire = folder.path().join("wire");
            std::fs::create_dir(&wire).expect("a folder for what is sent");
            tributary = tributary.tapped(&wire);
        }
        let names: Vec<String> =
            (0..setup.nodes).map(|number| format!("node-{number}")).chain(setup.people.iter().map(|&name| name.to_owned())).collect();
        let made = join_all(names.iter().map(|name| Party::make(&tributary, folder.path(), name, setup.model.as_deref(), &[])));
        let (chain, mut nodes) = tokio::join!(chain::approve_parameters(&devnet), made);
        let people = nodes.split_off(setup.nodes);
        nodes.iter().for_each(|node| node.configure(&configured));
        let mut cluster = Self { devnet, chain, tributary, nodes, people, folder, started };
        let accounts: Vec<Address> = cluster.nodes.iter().chain(&cluster.people).map(|party| party.account).collect();
        cluster.fund(&accounts).await;
        cluster.say("chain, contracts and folders are there");
        cluster.start_nodes().await;
        cluster.say("every node is staked and knows all the others from one bootstrap address");
        cluster
    }

    async fn start_nodes(&mut self) {
        let mut nodes = std::mem::take(&mut self.nodes);
        let Some((first, others)) = nodes.split_first_mut() else { return };
        first.configure(|config| (config.indexer, config.poster) = (true, true));
        let staked = join_all(std::iter::once(&*first).chain(&*others).map(|node| node.folder.clone()).map(|folder| {
            let tributary = self.tributary.clone();
            async move { tributary.run(&folder, &["stake", "add", "100 OPEN"]).await }
        }));
        let ((), _) = tokio::join!(first.start(&self.tributary), staked);
        let bootstrap = first.bootstrap();
        for party in others.iter_mut().chain(&mut self.people) {
            party.configure(|config| config.bootstrap = vec![bootstrap.clone()]);
        }
        join_all(others.iter_mut().map(|node| node.start(&self.tributary))).await;
        self.nodes = nodes;
        self.all_know_each_other().await;
    }

    /// Waits until every running node has heard of every other one.
    ///
    /// # Panics
    /// If that takes longer than half a minute.
    pub async fn all_know_each_other(&self) {
        let others = self.nodes.iter().filter(|node| node.is_running()).count() as u64 - 1;
        self.all_nodes(30, "knowing all the others", |status| status["providers"].as_u64() >= Some(others)).await;
    }

    /// Waits until every running node says something of itself.
    ///
    /// # Panics
    /// If one does not within `seconds`.
    pub async fn all_nodes(&self, seconds: u64, what: &str, is_so: impl Fn(&Value) -> bool) {
        let running = self.nodes.iter().filter(|node| node.is_running());
        join_all(running.map(|node| self.wait_status(node, seconds, what, &is_so))).await;
    }

    /// Waits until a node says something of itself; returns what it said.
    ///
    /// # Panics
    /// If it does not within `seconds`.
    pub async fn wait_status(&self, party: &Party, seconds: u64, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let (deadline, mut last) = (Instant::now() + Duration::from_secs(seconds), Value::Null);
        while Instant::now() < deadline {
            let outcome = self.tributary.outcome(&party.folder, &["status"]).await;
            if outcome.code == Some(0) && is_so(&outcome.json) {
                return outcome.json;
            }
            last = outcome.json;
            tokio::time::sleep(LOOK).await;
        }
        panic!("{}: {what} did not come about within {seconds} s; its last status: {last:#}", party.name)
    }

    /// A person by name.
    ///
    /// # Panics
    /// If there is none.
    pub fn person(&self, name: &str) -> &Party {
        self.people.iter().find(|party| party.name == name).unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    /// Somebody new, who knows the first node's address and has `options` for `init`; without money.
    ///
    /// # Panics
    /// If `init` fails.
    pub async fn join(&self, name: &str, options: &[&str]) -> Party {
        let bootstrap = self.nodes[0].bootstrap();
        let options = [&["--bootstrap", &bootstrap], options].concat();
        Party::make(&self.tributary, self.folder.path(), name, None, &options).await
    }

    /// Somebody with a copy of a party's folder, whose node stands still: its keys, its wallet, and all it has kept.
    ///
    /// # Panics
    /// If the folder cannot be copied.
    pub async fn copy(&self, party: &Party, name: &str) -> Party {
        assert!(!party.is_running(), "{} is running: its folder changes while it is copied", party.name);
        let folder = self.folder.path().join(name);
        let copied = Command::new("cp").arg("-a").args([&party.folder, &folder]).status().await;
        assert!(copied.expect("cp runs").success(), "{} was not copied", party.folder.display());
        Party { name: name.to_owned(), folder, account: party.account, node: party.node, addresses: None, child: None }
    }

    /// Gives each account 200 OPEN.
    ///
    /// # Panics
    /// If the faucet fails.
    pub async fn fund(&self, accounts: &[Address]) {
        let gifts: Vec<_> = accounts.iter().map(|account| (*account, Amount(200 * WEI_PER_OPEN))).collect();
        self.devnet.fund(&gifts).await.expect("the faucet pays");
    }

    /// A party's command that must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn run(&self, party: &Party, arguments: &[&str]) -> Value {
        self.tributary.run(&party.folder, arguments).await
    }

    /// Waits until what a party deposited is final: before, nodes serve for no more of it than they are willing to lose.
    ///
    /// # Panics
    /// If it is not within a minute.
    pub async fn until_final(&self, party: &Party) {
        for _ in 0..240 {
            let known = self.run(party, &["wallet", "show"]).await["certainty"].clone();
            if known["final"]["free_wei"] == known["pending"]["free_wei"] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("the deposit is not final after a minute");
    }

    /// The same command on every node at once, which must succeed; what each printed.
    ///
    /// # Panics
    /// If one does not.
    pub async fn run_on_all(&self, arguments: &[&str]) -> Vec<Value> {
        join_all(self.nodes.iter().map(|node| self.run(node, arguments))).await
    }

    /// A party's command that must fail; its error.
    ///
    /// # Panics
    /// If it does not.
    pub async fn refused(&self, party: &Party, arguments: &[&str]) -> String {
        self.tributary.refused(&party.folder, arguments).await
    }

    /// A party's command, however it ends.
    pub async fn outcome(&self, party: &Party, arguments: &[&str]) -> Outcome {
        self.tributary.outcome(&party.folder, arguments).await
    }

    /// Starts node `number` again.
    ///
    /// # Panics
    /// If it does not listen in time.
    pub async fn start_node(&mut self, number: usize) {
        self.nodes[number].start(&self.tributary).await;
    }

    /// Stops node `number` in order.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn stop_node(&mut self, number: usize) {
        self.nodes[number].stop().await;
    }

    /// A path in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Notes a step; shown when the test fails, or with `--no-capture`.
    pub fn say(&self, step: &str) {
        println!("{:>6.1} s  {step}", self.started.elapsed().as_secs_f64());
    }

    /// Ends every node and the chain; the folders stay.
    ///
    /// # Panics
    /// If one does not end in time.
    pub async fn stop(mut self) -> TempDir {
        join_all(self.nodes.iter_mut().map(Party::stop)).await;
        self.say("every process has stopped");
        // The chain ends with the handle.
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                println!("--- the log of {} ends:\n{}", node.name, node.log_tail());
            }
        }
    }
}

impl Party {
    async fn make(tributary: &Tributary, under: &Path, name: &str, model: Option<&Path>, options: &[&str]) -> Self {
        let folder = under.join(name);
        let model = model.map(text);
        let model = model.map_or_else(Vec::new, |model| vec!["--model", model]);
        let made = tributary.run(&folder, &[&["init", "--port", "0"], model.as_slice(), options].concat()).await;
        let field = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("init printed no {name}: {made}")).to_owned();
        let party = Self {
            name: name.to_owned(),
            account: field("account").parse().expect("an address"),
            node: field("node").parse().expect("a node id"),
            folder,
            addresses: None,
            child: None,
        };
        // Settled when a test asks for it.
        party.configure(|config| config.settle_every_s = 0);
        party
    }

    /// Changes its configuration.
    ///
    /// # Panics
    /// If the file cannot be read or written.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        let path = self.folder.join("tributary.toml");
        let mut config = Config::load(&path).expect("the configuration that init wrote");
        change(&mut config);
        std::fs::write(&path, config.to_toml().expect("a configuration has a text")).expect("the configuration is written");
    }

    /// The wallet's key, as its owner could take it.
    ///
    /// # Panics
    /// If it does not open.
    pub fn key(&self) -> Account {
        chain_bridge::wallet::load(&self.folder.join("wallet.json"), PASSWORD).expect("the wallet opens with its password")
    }

    /// First overlay address of its node.
    ///
    /// # Panics
    /// If it is not running.
    pub fn bootstrap(&self) -> String {
        let addresses = self.addresses.as_ref().unwrap_or_else(|| panic!("{} is not running", self.name));
        addresses.overlay.first().expect("a node has an overlay address").clone()
    }

    /// Whether its node runs.
    pub const fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts its node and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub async fn start(&mut self, tributary: &Tributary) {
        self.start_by(tributary.command(&self.folder, &["run"])).await;
    }

    /// Starts its node so that it outlives a disk that is full.
    ///
    /// # Panics
    /// If it does not listen in time.
    pub async fn start_for_full_disk(&mut self, tributary: &Tributary) {
        self.start_by(tributary.command_for_full_disks(&self.folder, &["run"])).await;
    }

    /// From now on its node, started for that, can write no file beyond its first page: every write to its store fails.
    ///
    /// # Panics
    /// If the system has no `prlimit`.
    pub async fn fill_disk(&self) {
        let limited = Command::new("prlimit").args(["--pid", &self.pid().to_string(), "--fsize=4096:"]).status().await;
        assert!(limited.expect("prlimit of util-linux runs").success(), "the limit of {} was not set", self.name);
    }

    async fn start_by(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "{} is running already", self.name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("the log opens");
        let mut child = command.env("TRIBUTARY_LOG", "info").stderr(Stdio::from(log)).spawn().expect("the binary starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let document = timeout(START_WAIT, document(&mut output)).await;
        let document =
            document.unwrap_or_else(|_| panic!("{} is not listening after {} s:\n{}", self.name, START_WAIT.as_secs(), self.log_tail()));
        let addresses = serde_json::from_str(&document);
        self.addresses =
            Some(addresses.unwrap_or_else(|error| panic!("{} did not start ({error}): {document}\n{}", self.name, self.log_tail())));
        // Kept open, so that the node never writes into a closed pipe.
        tokio::spawn(async move { drop(output.read_to_end(&mut Vec::new()).await) });
        self.child = Some(child);
    }

    /// Asks its node to stop and waits for its end, which must be in order.
    ///
    /// # Panics
    /// If it takes too long or fails.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.addresses = None;
        let pid = child.id().expect("a node that nobody waited for has a number").to_string();
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().await.expect("kill runs");
        assert!(asked.success(), "{} has died:\n{}", self.name, self.log_tail());
        let ended = timeout(STOP_WAIT, child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} did not stop within {} s:\n{}", self.name, STOP_WAIT.as_secs(), self.log_tail()));
        assert!(ended.expect("its status").success(), "{} stopped with {:?}:\n{}", self.name, child.id(), self.log_tail());
    }

    /// Kills its node at once, with no word to anybody, and waits until it is gone.
    ///
    /// # Panics
    /// If it had ended by itself.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} is not running", self.name));
        self.addresses = None;
        assert_eq!(child.try_wait().expect("its status"), None, "{} has died:\n{}", self.name, self.log_tail());
        child.kill().await.expect("a child may be killed");
    }

    /// Number of its node's process.
    ///
    /// # Panics
    /// If it is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).unwrap_or_else(|| panic!("{} is not running", self.name))
    }

    /// Waits for the end of its node, which somebody else has killed.
    ///
    /// # Panics
    /// If it is not running, or outlives a minute.
    pub async fn reap(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} is not running", self.name));
        self.addresses = None;
        let ended = timeout(STOP_WAIT, child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("{} did not end within {} s:\n{}", self.name, STOP_WAIT.as_secs(), self.log_tail()))
            .expect("its status")
    }

    /// What its node has logged so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().rev().take(LOG_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// A path as an argument.
///
/// # Panics
/// If it is not text; temporary folders are.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain characters")
}

/// One JSON document, whose last line is the closing brace alone; what there is if the output ends before.
pub(crate) async fn document(output: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> String {
    let mut text = String::new();
    loop {
        let before = text.len();
        let read = output.read_line(&mut text).await.expect("its output is text");
        if read == 0 || text[before..].trim_end() == "}" {
            return text;
        }
    }
}
