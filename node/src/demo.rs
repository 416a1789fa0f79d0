//! The main job, on real input: five nodes, a chain, three contributors, two adapters, questions, a killed node, a check, payouts and their replay, a
//! slash.
//!
//! Everything a person could type is run as that command in a process of its own; only the client's questions run in this process, because the
//! demonstration must act between two tokens. Nothing is simulated and nothing skips an error. Whatever is started ends with this process, also if
//! that is killed; an interrupt at any step stops everything in order and leaves no summary.
//!
//! Time, beside what the steps compute: blocks of one second, W1 + W2 = 25 s. The check and the stranger's audit fill the windows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{
    client::ChainClient,
    devnet::{Devnet, DevnetConfig, Role},
};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::{Address, NodeId},
};

pub mod adapters;
pub mod answers;
pub mod faults;
pub mod money;
pub mod place;
pub mod replay;
pub mod show;
pub mod stage;

use show::Show;
use stage::{Party, Stage};

/// What the demonstration was told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Base model file.
    pub model: PathBuf,
    /// Folder with the contributions, document lists and questions.
    pub data: PathBuf,
    /// The chain's program.
    pub anvil: PathBuf,
    /// Output folder; an earlier demonstration's is replaced.
    pub out: PathBuf,
    /// End when done rather than stay up.
    pub is_brief: bool,
    /// Where trained adapters are kept between runs.
    pub adapters: PathBuf,
}

/// Nodes, by what they do: 0 posts payouts and indexes and reviews the medical Datanet, 1 reviews the Python one, 2 to 4 contribute.
pub const NODES: usize = 5;
/// Who brings which file to which Datanet.
const CONTRIBUTIONS: [(usize, &str, &str); 3] =
    [(2, "medical", "medical-a.jsonl"), (3, "medical", "medical-b.jsonl"), (4, "python", "python-a.jsonl")];
/// Nodes stopped while a sixth one fetches: the contributor of the shard and another holder.
const STOPPED: [usize; 2] = [2, 1];
/// Steps shown.
const STEPS: usize = 15;
/// How long the demonstration waits for one thing of the chain.
pub const CHAIN_WAIT: Duration = Duration::from_secs(90);
/// How often the chain is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The running demonstration.
#[derive(Debug)]
pub struct Demo {
    /// What it was told.
    pub options: Options,
    /// What is shown.
    pub show: Show,
    /// Machinery.
    pub stage: Stage,
    /// The chain, until it is stopped.
    devnet: Option<Devnet>,
    /// The governor's view of it.
    pub chain: ChainClient,
    /// The five nodes.
    pub nodes: Vec<Party>,
    /// Registers base and adapters.
    pub author: Party,
    /// Asks and pays.
    pub client: Party,
    /// Audits; has nothing but bundles.
    auditor: Option<Party>,
    /// Asset numbers and versions by name.
    pub assets: BTreeMap<String, String>,
    /// Answers so far, as in the summary.
    pub answers: Vec<Value>,
    /// What `summary.json` will hold.
    pub summary: BTreeMap<String, Value>,
    /// Whether it was written.
    is_concluded: bool,
}

/// Runs it all.
pub async fn run(options: Options) -> anyhow::Result<()> {
    place::inputs(&options)?;
    let _held = place::output(&options.out)?;
    let mut signals = Signals::new()?;
    // Dropped half-way, it ends what it had started.
    let mut demo = tokio::select! {
        made = set_up(options) => made?,
        name = signals.next() => bail!("{name} while starting: everything was stopped"),
    };
    let (outcome, asked) = tokio::select! {
        outcome = demo.perform() => (Some(outcome), None),
        name = signals.next() => (None, Some(name)),
    };
    let stopped = demo.stop().await;
    outcome.unwrap_or(Ok(()))?;
    stopped?;
    if let Some(name) = asked.filter(|_| !demo.is_concluded) {
        bail!("{name}: everything was stopped, no summary was written");
    }
    if demo.options.is_brief {
        // With nothing running: what the bundles prove, they prove alone.
        tokio::select! {
            done = demo.conclude() => done?,
            name = signals.next() => bail!("{name}: everything was stopped, no summary was written"),
        }
    }
    Ok(())
}

/// What asks a process to end.
struct Signals([(&'static str, Signal); 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            ("interrupted", signal(SignalKind::interrupt())?),
            ("terminated", signal(SignalKind::terminate())?),
            ("terminal closed", signal(SignalKind::hangup())?),
        ]))
    }

    async fn next(&mut self) -> &'static str {
        let [interrupt, terminate, hang_up] = &mut self.0;
        tokio::select! {
            _ = interrupt.1.recv() => interrupt.0,
            _ = terminate.1.recv() => terminate.0,
            _ = hang_up.1.recv() => hang_up.0,
        }
    }
}

async fn set_up(options: Options) -> anyhow::Result<Demo> {
    let mut show = Show::new(STEPS);
    show.step("chain", "A chain in OP mode, with the contracts");
    let mut config = DevnetConfig::new(options.anvil.clone());
    config.deploy.epoch_min_s = 5;
    let (w1, w2, every) = (config.deploy.w1_s, config.deploy.w2_s, config.blocks_per_l1);
    let devnet = Devnet::start(config).await?;
    let registry = options.out.join("registry.json");
    devnet.deployment().write(&registry)?;
    let chain = ChainClient::connect(devnet.url(), devnet.deployment().clone(), Some(Role::Governor.account())).await?;
    show.line(&format!(
        "chain {} at {}; L1 block every {every} blocks, L1 fees charged; W1 {w1} s, W2 {w2} s",
        devnet.deployment().chain_id,
        devnet.url()
    ));
    let stage = Stage::new(&options.out, registry, devnet.url().to_owned())?;
    stage.write_password()?;
    let (author, client) = tokio::try_join!(stage.party("author", None, None), stage.party("client", None, None))?;
    Ok(Demo {
        options,
        show,
        stage,
        devnet: Some(devnet),
        chain,
        nodes: Vec::new(),
        author,
        client,
        auditor: None,
        assets: BTreeMap::new(),
        answers: Vec::new(),
        summary: BTreeMap::new(),
        is_concluded: false,
    })
}

impl Demo {
    async fn perform(&mut self) -> anyhow::Result<()> {
        self.start_nodes().await?;
        self.create_datanets().await?;
        self.make_adapters().await?;
        self.serve().await?;
        self.ask_questions().await?;
        self.fail_over().await?;
        self.report_coverage()?;
        self.fetch_with_two_down().await?;
        self.settle().await?;
        // Both happen while the epoch's windows pass.
        self.check_by_another().await?;
        self.audit_honest().await?;
        self.claim().await?;
        self.replay().await?;
        self.forge_and_slash().await?;
        self.show.end_step();
        self.report().await?;
        if !self.options.is_brief {
            self.conclude().await?;
            self.show_addresses()?;
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// The chain.
    pub fn devnet(&self) -> anyhow::Result<&Devnet> {
        self.devnet.as_ref().context("the chain has been stopped")
    }

    /// Pays an account from the faucet.
    pub async fn fund(&self, account: Address, open: u128) -> anyhow::Result<()> {
        Ok(self.devnet()?.fund(&[(account, Amount(open * WEI_PER_OPEN))]).await?)
    }

    /// The one address that whoever joins is given: the first running node's.
    pub fn bootstrap(&self) -> anyhow::Result<&str> {
        self.nodes.iter().find(|node| node.addresses.is_some()).context("no node is running")?.bootstrap()
    }

    /// Who an account is, for people.
    pub fn called(&self, account: Address) -> String {
        let known = [
            (Role::Protocol.account().address(), "protocol"),
            (self.chain.deployment().insurance, "insurance pool"),
            (self.chain.deployment().rewards, "stakers' vault"),
        ];
        let parties = self.nodes.iter().chain([&self.author, &self.client]).map(|party| (party.account, party.name.as_str()));
        let found = parties.chain(known).find(|(known, _)| *known == account);
        let Some((_, name)) = found else { return account.to_string() };
        let place = self.nodes.iter().position(|node| node.account == account);
        match CONTRIBUTIONS.iter().find(|(node, ..)| Some(*node) == place) {
            Some((_, _, file)) => format!("{name} ({file})"),
            None => name.to_owned(),
        }
    }

    /// Name of a node.
    pub fn node_name(&self, node: NodeId) -> String {
        self.nodes.iter().find(|party| party.node == node).map_or_else(|| node.to_string(), |party| party.name.clone())
    }

    /// A path as one would type it from here.
    pub fn shown_path(&self, path: &Path) -> String {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let short = std::env::current_dir().ok().and_then(|here| whole.strip_prefix(here).ok().map(Path::to_owned));
        short.unwrap_or(whole).display().to_string()
    }

    /// Where the receipt of an answer's row lies.
    pub fn path_of(&self, row: &Value) -> anyhow::Result<PathBuf> {
        Ok(std::path::absolute(row["receipt"].as_str().context("an answer without a receipt")?)?)
    }

    async fn start_nodes(&mut self) -> anyhow::Result<()> {
        self.show.step("nodes", "Five nodes that know one address");
        let ours = attribution::parameters::Parameters::builtin(crate::service::index::PARAMETERS)
            .context("no attribution parameters in this build")?
            .encode();
        let names: Vec<String> = (0..NODES).map(|number| format!("node-{number}")).collect();
        let made = try_join_all(names.iter().map(|name| self.stage.party(name, Some(&self.options.model), None)));
        let approved = async { anyhow::Ok(self.chain.approve_parameters(crate::service::index::PARAMETERS, &ours).await?) };
        let (mut nodes, _) = tokio::try_join!(made, approved)?;
        let mut gifts: Vec<_> = nodes.iter().map(|node| (node.account, Amount(200 * WEI_PER_OPEN))).collect();
        gifts.extend([&self.author, &self.client].map(|party| (party.account, Amount(10 * WEI_PER_OPEN))));
        self.devnet()?.fund(&gifts).await?;
        for node in &nodes {
            set(&node.folder, "settle_every_s", "0")?;
        }
        enable(&nodes[0].folder, &["indexer", "poster"])?;
        let stakes: Vec<PathBuf> = nodes.iter().map(|node| node.folder.clone()).collect();
        let staked = try_join_all(stakes.iter().map(|folder| self.stage.cli(folder, &["stake", "add", "100 OPEN"])));
        let (first, others) = nodes.split_first_mut().context("there are five nodes")?;
        let started = async {
            self.stage.start(first).await?;
            let bootstrap = format!("[{:?}]", first.bootstrap()?);
            for party in others.iter().chain([&self.author, &self.client]) {
                set(&party.folder, "bootstrap", &bootstrap)?;
            }
            try_join_all(others.iter_mut().map(|node| self.stage.start(node))).await
        };
        // What has started must be stopped even if another has not.
        let outcome = tokio::try_join!(staked, started).map(drop);
        self.nodes = nodes;
        outcome?;
        self.all_know_each_other().await?;
        let rows: Vec<Vec<String>> = self
            .nodes
            .iter()
            .map(|node| {
                let pid = node.pid().map_or_else(String::new, |pid| pid.to_string());
                vec![node.name.clone(), pid, node.node.to_string(), node.account.to_string()]
            })
            .collect();
        self.show.table(&["node", "process", "peer", "account, 100 OPEN staked"], &rows);
        self.show.line(&format!("each knows the other {}, from {} alone", NODES - 1, self.bootstrap()?));
        Ok(())
    }

    async fn all_know_each_other(&self) -> anyhow::Result<()> {
        let others = u64::try_from(NODES - 1)?;
        let knows = |status: &Value| status["providers"].as_u64() >= Some(others);
        try_join_all(self.nodes.iter().map(|node| self.stage.wait_status(node, 60, "knowing the other four", knows))).await?;
        Ok(())
    }

    async fn create_datanets(&mut self) -> anyhow::Result<()> {
        self.show.step("datanets", "Two Datanets, three contributors");
        // One after the other, so that the numbers are the same in every run: kept adapters name them.
        for (owner, name, licence) in [(0, "medical", "LicenseRef-HPO"), (1, "python", "PSF-2.0")] {
            let made = self.stage.cli(&self.nodes[owner].folder, &["datanet", "create", name, "--licence", licence]).await?;
            let asset = made["asset"].as_u64().context("datanet create printed no asset")?;
            self.assets.insert(name.to_owned(), asset.to_string());
        }
        let mut rows = Vec::new();
        for (node, datanet, file) in CONTRIBUTIONS {
            let path = self.options.data.join(file);
            let path = path.to_str().context("the data folder's path is not text")?;
            let printed = self.stage.cli(&self.nodes[node].folder, &["datanet", "contribute", &self.assets[datanet], path]).await?;
            let holders = printed["holders"].as_array().map_or(0, Vec::len);
            rows.push(vec![
                self.nodes[node].name.clone(),
                file.into(),
                datanet.into(),
                printed["documents"].to_string(),
                holders.to_string(),
            ]);
        }
        self.show.table(&["contributor", "file", "Datanet", "documents", "fragments, any 3 suffice"], &rows);
        for (owner, name) in [(0, "medical"), (1, "python")] {
            let printed = self.stage.cli(&self.nodes[owner].folder, &["datanet", "publish", &self.assets[name]]).await?;
            let version = printed["version"].as_str().context("datanet publish printed no version")?.to_owned();
            self.assets.insert(format!("{name}-version"), version);
        }
        Ok(())
    }

    /// Waits until every node serves both adapters.
    async fn serve(&mut self) -> anyhow::Result<()> {
        self.show.step("serve", "Every node rebuilds both indexes, compares the posted roots, and serves both adapters");
        let deposit = self.stage.cli(&self.client.folder, &["wallet", "deposit", "5 OPEN"]);
        let serves = try_join_all(self.nodes.iter().map(|node| self.stage.wait_status(node, 120, "serving both adapters", serves_both)));
        tokio::try_join!(deposit, serves)?;
        self.show.line("all five do; the client has 5 OPEN in escrow");
        Ok(())
    }

    /// With two holders stopped, a node with an empty disk fetches a contribution whole.
    async fn fetch_with_two_down(&mut self) -> anyhow::Result<()> {
        self.show.step("fetch", "A sixth, empty node fetches a shard while its contributor and another holder are down");
        let down: Vec<NodeId> = STOPPED.iter().map(|place| self.nodes[*place].node).collect();
        self.stage.stop_all(chosen(&mut self.nodes, &STOPPED)).await?;
        let sixth = self.stage.party("sixth", None, Some(self.bootstrap()?)).await?;
        let printed = self.stage.cli(&sixth.folder, &["datanet", "fetch", &self.assets["medical"], "--contribution", "0"]).await?;
        let held = printed["holders"].as_object().context("datanet fetch printed no holders")?;
        let mut rows = Vec::new();
        for (holder, bytes) in held {
            let holder: NodeId = holder.parse()?;
            ensure!(!down.contains(&holder), "{holder} was stopped and is said to have sent {bytes} bytes");
            rows.push(vec![self.node_name(holder), bytes.to_string()]);
        }
        ensure!(rows.len() == 3, "three fragments are left, they came from {} holders", rows.len());
        self.show.table(&["holder", "bytes"], &rows);
        let whole = &printed["contributions"][0];
        let names: Vec<&str> = STOPPED.iter().map(|place| self.nodes[*place].name.as_str()).collect();
        self.show.line(&format!(
            "{} documents, {} bytes of text, text root as registered; {} were down",
            whole["documents"],
            whole["bytes"],
            names.join(" and ")
        ));
        self.summary.insert("fetch".into(), printed);
        let folder = self.options.out.join("datanets");
        for name in ["medical", "python"] {
            let out = folder.join(name);
            let out = out.to_str().context("the output folder's path is not text")?;
            self.stage.cli(&sixth.folder, &["datanet", "fetch", &self.assets[name], "--out", out]).await?;
        }
        self.start_again(&STOPPED).await?;
        self.show.line("both are up again; both Datanets lie in datanets/ as JSONL");
        Ok(())
    }

    /// Starts nodes again that were down, each with another's present address, and waits until all are whole and know each other.
    pub async fn start_again(&mut self, places: &[usize]) -> anyhow::Result<()> {
        let bootstrap = format!("[{:?}]", self.bootstrap()?);
        for place in places {
            set(&self.nodes[*place].folder, "bootstrap", &bootstrap)?;
        }
        try_join_all(chosen(&mut self.nodes, places).map(|node| self.stage.start(node))).await?;
        // A node that comes back may listen elsewhere: whoever joins next is told.
        let bootstrap = format!("[{:?}]", self.bootstrap()?);
        for party in [&self.author, &self.client].into_iter().chain(&self.auditor) {
            set(&party.folder, "bootstrap", &bootstrap)?;
        }
        try_join_all(
            places.iter().map(|place| self.stage.wait_status(&self.nodes[*place], 120, "serving both adapters again", serves_both)),
        )
        .await?;
        self.all_know_each_other().await
    }

    /// Everything that must be read while nodes and chain still run.
    async fn report(&mut self) -> anyhow::Result<()> {
        let gas = self.devnet()?.gas().await?;
        self.show.step("report", "What it cost");
        self.show.table(&["function", "calls", "gas", "wei for it"], &faults::gas_rows(&gas));
        self.summary.insert("gas".into(), json!(gas));
        let statuses = self.stage.cli_all(&self.nodes, &["status"]).await?;
        let mut memory = 0;
        for status in &statuses {
            memory = memory.max(status["memory_bytes"].as_u64().context("status printed no memory")?);
        }
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| json!({ "name": node.name, "pid": node.pid(), "peer_id": node.node, "account": node.account }))
            .collect();
        self.summary.insert("nodes".into(), json!(nodes));
        self.summary.insert("figures".into(), json!({ "first.node_rss_mb": memory / 1_000_000 }));
        self.summary.insert("answers".into(), json!(self.answers));
        Ok(())
    }

    /// Verifies every bundle by the command that the summary names, and writes the summary.
    async fn conclude(&mut self) -> anyhow::Result<()> {
        let commands = self.verify_commands()?;
        let took_ms = faults::run_offline(&commands).await?;
        let slowest = took_ms.iter().copied().fold(0.0, f64::max);
        let state = if self.options.is_brief { "with every process stopped" } else { "by the binary alone" };
        self.show.line(&format!("{} bundles verify {state}, the slowest in {slowest:.0} ms:", commands.len()));
        self.show.line(&format!("  {}", commands.first().context("no bundle")?));
        self.summary.insert("verify".into(), json!(commands));
        let replay = self.replay_command();
        let took_ms = faults::run_offline(std::slice::from_ref(&replay)).await?;
        self.show.line(&format!("every payout is rebuilt {state}, in {:.0} ms:", took_ms.first().copied().unwrap_or_default()));
        self.show.line(&format!("  {replay}"));
        self.show.end_step();
        let is_cold = self.summary.get("trained").and_then(Value::as_bool) == Some(true);
        let took = self.show.elapsed();
        if let Some(Value::Object(figures)) = self.summary.get_mut("figures") {
            figures.insert(if is_cold { "first.demo_cold_s" } else { "first.demo_s" }.to_owned(), json!(took));
        }
        self.summary.insert("seconds".into(), json!(self.show.seconds()));
        let path = self.options.out.join("summary.json");
        crate::data::write_atomic(&path, &serde_json::to_vec_pretty(&self.summary)?, 0o644)?;
        self.is_concluded = true;
        self.show.line(&format!("{} after {took:.1} s", self.shown_path(&path)));
        Ok(())
    }

    fn show_addresses(&self) -> anyhow::Result<()> {
        self.show.line("");
        self.show.line(&format!("still up: chain at {}, contracts in {}", self.devnet()?.url(), self.shown_path(&self.stage.registry)));
        let rows = self.nodes.iter().filter_map(|node| {
            let at = node.addresses.as_ref()?;
            Some(vec![node.name.clone(), at.clients.to_string(), node.bootstrap().ok()?.to_owned()])
        });
        self.show.table(&["node", "clients", "overlay"], &rows.collect::<Vec<_>>());
        let folder = self.shown_path(&self.client.folder);
        self.show.line(&format!(
            "ask it yourself:  TRIBUTARY_PASSWORD={} {} --data-dir {folder} --registry {} --rpc {} ask --with medical \"What is ataxia?\"",
            stage::PASSWORD,
            self.shown_path(&self.stage.exe()),
            self.shown_path(&self.stage.registry),
            self.devnet()?.url()
        ));
        self.show.line("interrupt to stop");
        Ok(())
    }

    /// Ends every node at once, then the chain.
    async fn stop(&mut self) -> anyhow::Result<()> {
        let stopped = self.stage.stop_all(&mut self.nodes).await;
        if let Some(devnet) = self.devnet.take() {
            devnet.stop().await;
        }
        stopped
    }
}

/// The nodes at these places.
fn chosen<'n>(nodes: &'n mut [Party], places: &'n [usize]) -> impl Iterator<Item = &'n mut Party> {
    nodes.iter_mut().enumerate().filter(|(place, _)| places.contains(place)).map(|(_, node)| node)
}

fn serves_both(status: &Value) -> bool {
    status["manifests"].as_array().is_some_and(|manifests| manifests.len() >= 2)
}

/// Turns configuration switches on.
fn enable(folder: &Path, keys: &[&str]) -> anyhow::Result<()> {
    keys.iter().try_for_each(|key| set(folder, key, "true"))
}

/// Sets one key of a party's configuration to a TOML value.
pub fn set(folder: &Path, key: &str, value: &str) -> anyhow::Result<()> {
    let path = folder.join("tributary.toml");
    let text = std::fs::read_to_string(&path)?;
    let mut table: toml::Table = toml::from_str(&text)?;
    ensure!(table.contains_key(key) || key == "model", "{} has no key {key}", path.display());
    let fresh: toml::Table = toml::from_str(&format!("{key} = {value}"))?;
    table.extend(fresh);
    Ok(crate::data::write_atomic(&path, toml::to_string_pretty(&table)?.as_bytes(), 0o644)?)
}
