//! The main job, on real input: five nodes, a chain, three contributors, two adapters, questions, a killed node, a check, payouts, a slash.
//!
//! Everything a person could type is run as that command in a process of its own; only the client's questions run in this process, because the
//! demonstration must act between two tokens. Each step prints one line; nothing is simulated and nothing skips an error.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use chain_bridge::{
    client::ChainClient,
    devnet::{Devnet, DevnetConfig, Role},
};
use serde_json::{Value, json};
use types::amount::{Amount, WEI_PER_OPEN};

pub mod adapters;
pub mod answers;
pub mod faults;
pub mod money;
pub mod stage;

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
    /// Output folder, replaced.
    pub out: PathBuf,
    /// End when done rather than stay up.
    pub is_brief: bool,
    /// Where trained adapters are kept between runs.
    pub adapters: PathBuf,
}

/// Nodes, by what they do: 0 posts payouts and indexes and reviews the medical Datanet, 1 reviews the Python one, 2 to 4 contribute.
pub const NODES: usize = 5;

/// The running demonstration.
#[derive(Debug)]
pub struct Demo {
    /// What it was told.
    pub options: Options,
    /// Machinery.
    pub stage: Stage,
    /// The chain.
    pub devnet: Devnet,
    /// The governor's view of it.
    pub chain: ChainClient,
    /// The five nodes.
    pub nodes: Vec<Party>,
    /// Registers base and adapters.
    pub author: Party,
    /// Asks and pays.
    pub client: Party,
    /// Asset numbers and versions by name.
    pub assets: BTreeMap<String, String>,
    /// What `summary.json` will hold.
    pub summary: BTreeMap<String, Value>,
    started: Instant,
}

/// Prints one step's line with the seconds since the start.
fn say(started: Instant, text: &str) {
    println!("{:>6.1} s  {text}", started.elapsed().as_secs_f64());
}

/// Runs it all.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut demo = set_up(options, started).await?;
    let outcome = demo.play().await;
    if let Err(error) = outcome {
        // What was started is stopped, whatever happened.
        demo.stop().await.unwrap_or_else(|stopping| eprintln!("while stopping: {stopping:#}"));
        return Err(error);
    }
    demo.finish().await
}

async fn set_up(options: Options, started: Instant) -> anyhow::Result<Demo> {
    if options.out.exists() {
        std::fs::remove_dir_all(&options.out).with_context(|| format!("{}: cannot be replaced", options.out.display()))?;
    }
    std::fs::create_dir_all(&options.out)?;
    let mut config = DevnetConfig::new(options.anvil.clone());
    config.deploy.epoch_min_s = 5;
    let devnet = Devnet::start(config).await?;
    let registry = options.out.join("registry.json");
    devnet.deployment().write(&registry)?;
    let chain = ChainClient::connect(devnet.url(), devnet.deployment().clone(), Some(Role::Governor.account())).await?;
    say(started, &format!("chain {} at {}, contracts deployed", devnet.deployment().chain_id, devnet.url()));
    let stage = Stage::new(&options.out, registry, devnet.url().to_owned())?;
    stage.write_password()?;
    let author = stage.party("author", &options.model, None).await?;
    let client = stage.party("client", &options.model, None).await?;
    Ok(Demo {
        options,
        stage,
        devnet,
        chain,
        nodes: Vec::new(),
        author,
        client,
        assets: BTreeMap::new(),
        summary: BTreeMap::new(),
        started,
    })
}

impl Demo {
    async fn play(&mut self) -> anyhow::Result<()> {
        self.start_nodes().await?;
        self.create_datanets().await?;
        self.make_adapters().await?;
        self.serve().await?;
        self.ask_questions().await?;
        self.fail_over().await?;
        self.fetch_with_two_down().await?;
        self.check_by_another().await?;
        self.settle_and_claim().await?;
        self.forge_and_slash().await?;
        self.write_summary().await
    }

    /// Prints a step.
    pub fn say(&self, text: &str) {
        say(self.started, text);
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Pays an account from the faucet.
    pub async fn fund(&self, account: types::id::Address, open: u128) -> anyhow::Result<()> {
        Ok(self.devnet.fund(&[(account, Amount(open * WEI_PER_OPEN))]).await?)
    }

    async fn start_nodes(&mut self) -> anyhow::Result<()> {
        let ours = attribution::parameters::Parameters::builtin(crate::service::index::PARAMETERS)
            .context("no attribution parameters in this build")?;
        self.chain.approve_parameters(crate::service::index::PARAMETERS, &ours.encode()).await?;
        self.fund(self.author.account, 10).await?;
        self.fund(self.client.account, 10).await?;
        for number in 0..NODES {
            let bootstrap = self.nodes.first().map(|first| first.bootstrap().map(str::to_owned)).transpose()?;
            let mut party = self.stage.party(&format!("node-{number}"), &self.options.model, bootstrap.as_deref()).await?;
            if number == 0 {
                enable(&party.folder, &["indexer", "poster"])?;
            }
            set(&party.folder, "settle_every_s", "0")?;
            self.fund(party.account, 200).await?;
            self.stage.cli(&party.folder, &["stake", "add", "100 OPEN"]).await?;
            self.stage.start(&mut party).await?;
            self.nodes.push(party);
        }
        for node in &self.nodes {
            self.stage.wait_status(node, 30, "knowing four providers", |status| status["providers"].as_u64() >= Some(4)).await?;
        }
        let bootstrap = self.nodes[0].bootstrap()?.to_owned();
        for party in [&self.author, &self.client] {
            set(&party.folder, "bootstrap", &format!("[{bootstrap:?}]"))?;
        }
        self.say(&format!("{NODES} nodes staked, running, and known to each other from one bootstrap address"));
        Ok(())
    }

    async fn create_datanets(&mut self) -> anyhow::Result<()> {
        for (owner, name, licence) in [(0, "medical", "LicenseRef-HPO"), (1, "python", "PSF-2.0")] {
            let made = self.stage.cli(&self.nodes[owner].folder, &["datanet", "create", name, "--licence", licence]).await?;
            let asset = made["asset"].as_u64().context("datanet create printed no asset")?;
            self.assets.insert(name.to_owned(), asset.to_string());
        }
        let contributions = [(2, "medical", "medical-a.jsonl"), (3, "medical", "medical-b.jsonl"), (4, "python", "python-a.jsonl")];
        for (node, datanet, file) in contributions {
            let path = self.options.data.join(file);
            let path = path.to_str().context("the data folder's path is not text")?;
            let printed = self.stage.cli(&self.nodes[node].folder, &["datanet", "contribute", &self.assets[datanet], path]).await?;
            self.say(&format!("{} contributed {file} to {datanet}: {} documents", self.nodes[node].name, printed["documents"]));
        }
        for (owner, name) in [(0, "medical"), (1, "python")] {
            let printed = self.stage.cli(&self.nodes[owner].folder, &["datanet", "publish", &self.assets[name]]).await?;
            let version = printed["version"].as_str().context("datanet publish printed no version")?.to_owned();
            self.assets.insert(format!("{name}-version"), version);
        }
        Ok(())
    }

    /// Waits until every node serves both adapters.
    async fn serve(&mut self) -> anyhow::Result<()> {
        self.stage.cli(&self.client.folder, &["wallet", "deposit", "5 OPEN"]).await?;
        for node in &self.nodes {
            self.stage
                .wait_status(node, 120, "serving both adapters", |status| status["manifests"].as_array().is_some_and(|m| m.len() >= 2))
                .await?;
        }
        self.say("every node rebuilt both indexes, found the posted roots and serves both adapters");
        Ok(())
    }

    /// With two holders stopped, a node with an empty disk fetches a contribution whole.
    async fn fetch_with_two_down(&mut self) -> anyhow::Result<()> {
        for down in [2, 1] {
            self.stage.stop(&mut self.nodes[down]).await?;
        }
        let bootstrap = self.nodes[0].bootstrap()?.to_owned();
        let sixth = self.stage.party("sixth", &self.options.model, Some(&bootstrap)).await?;
        let datanet = self.assets["medical"].clone();
        let printed = self.stage.cli(&sixth.folder, &["datanet", "fetch", &datanet, "--contribution", "0"]).await?;
        self.say(&format!(
            "a sixth node fetched the first contribution with its contributor and one other holder down: bytes per holder {}",
            printed["holders"]
        ));
        self.summary.insert("fetch".into(), printed);
        let folder = self.options.out.join("datanets");
        for name in ["medical", "python"] {
            let out = folder.join(name);
            let out = out.to_str().context("the output folder's path is not text")?;
            self.stage.cli(&sixth.folder, &["datanet", "fetch", &self.assets[name], "--out", out]).await?;
        }
        for down in [2, 1] {
            self.stage.start(&mut self.nodes[down]).await?;
        }
        for node in &self.nodes {
            self.stage.wait_status(node, 60, "being whole again", |status| status["providers"].as_u64() >= Some(4)).await?;
        }
        Ok(())
    }

    async fn write_summary(&mut self) -> anyhow::Result<()> {
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| json!({ "name": node.name, "pid": node.pid(), "peer_id": node.node, "account": node.account }))
            .collect();
        self.summary.insert("nodes".into(), json!(nodes));
        let mut figures = BTreeMap::new();
        let which = if self.summary.get("trained").and_then(Value::as_bool) == Some(true) { "first.demo_cold_s" } else { "first.demo_s" };
        figures.insert(which.to_owned(), json!(self.seconds()));
        if let Some(Value::Object(more)) = self.summary.get("figures") {
            figures.extend(more.clone());
        }
        self.summary.insert("figures".into(), json!(figures));
        let mut memory = 0;
        for node in &self.nodes {
            let status = self.stage.cli(&node.folder, &["status"]).await?;
            memory = memory.max(status["memory_bytes"].as_u64().unwrap_or_default());
        }
        figures.insert("first.node_rss_mb".to_owned(), json!(memory / 1_000_000));
        let path = self.options.out.join("summary.json");
        crate::data::write_atomic(&path, &serde_json::to_vec_pretty(&self.summary)?, 0o644)?;
        self.say(&format!("summary in {}", path.display()));
        Ok(())
    }

    async fn finish(mut self) -> anyhow::Result<()> {
        if !self.options.is_brief {
            println!("\nstill up: chain {}, contracts in {}", self.devnet.url(), self.stage.registry.display());
            for node in &self.nodes {
                if let Some(at) = &node.addresses {
                    println!("  {}  {}  clients {}  overlay {}", node.name, node.node, at.clients, at.overlay.join(" "));
                }
            }
            println!("interrupt to stop");
            tokio::signal::ctrl_c().await?;
        }
        self.stop().await
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            self.stage.stop(node).await?;
        }
        Ok(())
    }
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

/// How long the demonstration waits for one thing of the chain.
pub const CHAIN_WAIT: Duration = Duration::from_secs(90);
