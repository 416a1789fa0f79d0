//! What the network adds to the first token: from the open connection to the token at the client, less what the node's engine took.
//!
//! The node is a real `tributary run` on loopback with a real chain, deposit and lane; it logs how long its engine took for each first
//! token, so the figure is a difference within one answer and the engine's own spread falls out of it. In it are the quote (a round trip and
//! two signatures), the request, lane and deposit checked, what the note on disk takes beyond the prompt, and the frames. The same question to
//! an engine in this process is asked in turn and printed beside; from the question on, the client's nonce and signature and the
//! handshake come on top.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chain_bridge::{
    client::ChainClient,
    devnet::{Devnet, DevnetConfig, Role},
};
use inference::{
    Sampling,
    engine::{EngineHandle, Start, Step},
    proto::{message::Turn, router::Preference, spending::Caps},
};
use node::{
    ask::{Asker, Candidate, Event, Question},
    command::ask::{Experience, Wanted, candidates, resolve},
    demo::{
        set,
        stage::{Party, Stage},
    },
    purse::{LaneTerms, Purse},
    service::{index::PARAMETERS, inference::messages},
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use serde_json::Value;
use types::{
    amount::Amount,
    manifest::Manifest,
    options::Options,
    quote::{Class, Profile},
};

use crate::{Arguments, median, row};

/// Name under which the base is registered.
const BASE: &str = "base";
/// Tokens of an answer: the first is timed, the second lets the answer end as any other.
const TOKENS: u32 = 2;
/// Pairs whose times do not count: code and files are read for the first time.
const WARM_UP: u16 = 2;

/// One question asked both ways.
#[derive(Debug)]
struct Pair {
    /// In this process, tokenizing included.
    engine_ms: f64,
    there: Legs,
    /// The node's engine, by its log.
    engine_there_ms: f64,
}

/// An answer's way to its first token over the network, in milliseconds.
#[derive(Debug)]
struct Legs {
    /// From the question to the open connection.
    connect: f64,
    /// From there to the quote.
    quote: f64,
    /// From there to the node's word that everything is checked and noted.
    begin: f64,
    /// From there to the first token.
    token: f64,
}

impl Legs {
    /// What counts: with the connection open.
    fn open(&self) -> f64 {
        self.quote + self.begin + self.token
    }
}

/// Asks each question in turn here and over the network; returns the manifest that the node answered under.
///
/// # Errors
/// If a node cannot be set up or does not answer.
pub(crate) async fn measure(engine: &EngineHandle, arguments: &Arguments) -> Result<Manifest> {
    let folder = tempfile::tempdir()?;
    let devnet = Devnet::start(DevnetConfig::new(std::path::absolute(&arguments.anvil)?)).await?;
    let (stage, mut node, client) = set_up(&devnet, folder.path(), &std::path::absolute(&arguments.model)?).await?;
    let questions = questions(&arguments.data)?;
    let context = stage.context(&client);
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let manifest = state.manifest(resolve(&state, BASE)?)?;
    let overlay = context.light_overlay(&context.config()?).await?;
    let account = context.account()?;
    let wanted = Wanted { profile: Profile::Exact, tokens: TOKENS, client: account.address() };
    let found = candidates(&overlay, &state, &manifest, wanted, &Preference::default(), &Experience::new(0)).await?;
    let now = chain.head().await?.block.number;
    let asker = Asker {
        payer: account.address(),
        signer: account,
        caps: Caps::default(),
        failures: context.data.failures(),
        domains: chain.deployment().domains(),
        purse: Purse::open(context.data.path())?,
        quic: Client::bind(([127, 0, 0, 1], 0).into(), &NodeSeed::generate(), Limits::default())?,
        receipts: context.data.receipts(),
        lanes: LaneTerms { cap: "1 OPEN".parse()?, expiry: now + 86_400, now },
    };
    let mut pairs = Vec::new();
    for number in 0..arguments.pairs + WARM_UP {
        let question = question(asker.purse.next_nonce()?, &questions[usize::from(number) % questions.len()], &manifest)?;
        // Who goes first changes each time.
        let (engine_ms, there) = if number % 2 == 0 {
            let here = ask_engine(engine, &question).await?;
            (here, ask_node(&asker, &question, &found).await?)
        } else {
            let there = ask_node(&asker, &question, &found).await?;
            (ask_engine(engine, &question).await?, there)
        };
        let times = engine_times(&node.folder.join("node.log"))?;
        ensure!(times.len() == usize::from(number) + 1, "the node logged {} first tokens, {} were asked for", times.len(), number + 1);
        if number >= WARM_UP {
            pairs.push(Pair { engine_ms, there, engine_there_ms: times[usize::from(number)] });
        }
    }
    overlay.shutdown().await;
    stage.stop(&mut node).await?;
    print(&pairs)?;
    Ok(manifest)
}

fn print(pairs: &[Pair]) -> Result<()> {
    let all = |of: fn(&Pair) -> f64| median(pairs.iter().map(of).collect());
    let [connect, quote, begin] = [all(|pair| pair.there.connect), all(|pair| pair.there.quote), all(|pair| pair.there.begin)];
    let token = all(|pair| pair.there.token - pair.engine_there_ms);
    let (here, there) = (all(|pair| pair.engine_ms), all(|pair| pair.engine_there_ms));
    let n = pairs.len();
    let note = format!(
        "quote {quote:.2}, lane and deposit checked {begin:.2}, note and frames beyond the engine {token:.2}; \
         engine {there:.2} there, {here:.2} in this process"
    );
    row("first.quic_ttft_ms", all(|pair| pair.there.open() - pair.engine_there_ms), n, note)?;
    let note = format!("the same from the question: nonce, signature and handshake, {connect:.2}, on top");
    row("first.quic_ttft_new_ms", all(|pair| pair.there.connect + pair.there.open() - pair.engine_there_ms), n, note)
}

/// Milliseconds that the node's engine took for each first token so far, by its log.
fn engine_times(log: &Path) -> Result<Vec<f64>> {
    let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let lines = text.lines().filter_map(|line| line.split_once("first token engine_us=").map(|(_, rest)| rest));
    lines.map(|rest| Ok(rest.trim().parse::<f64>().with_context(|| format!("a time of the node's log: {rest}"))? / 1e3)).collect()
}

/// A node that serves the base, and a client with a deposit.
async fn set_up(devnet: &Devnet, folder: &Path, model: &Path) -> Result<(Stage, Party, Party)> {
    let registry = folder.join("registry.json");
    devnet.deployment().write(&registry)?;
    let chain = ChainClient::connect(devnet.url(), devnet.deployment().clone(), Some(Role::Governor.account())).await?;
    let ours = attribution::parameters::Parameters::builtin(PARAMETERS).context("no attribution parameters in this build")?;
    chain.approve_parameters(PARAMETERS, &ours.encode()).await?;
    let stage = Stage::of(tributary()?, folder, registry, devnet.url().to_owned());
    stage.write_password()?;
    let mut node = stage.party("node", Some(model), None).await?;
    set(&node.folder, "indexer", "true")?;
    let open = Amount(200 * types::amount::WEI_PER_OPEN);
    devnet.fund(&[(node.account, open)]).await?;
    stage.cli(&node.folder, &["stake", "add", "100 OPEN"]).await?;
    stage.start(&mut node).await?;
    let client = stage.party("client", Some(model), Some(node.bootstrap()?)).await?;
    devnet.fund(&[(client.account, open)]).await?;
    let path = model.to_str().context("the model's path is not text")?;
    stage.cli(&client.folder, &["model", "publish", path, "--name", BASE]).await?;
    stage.cli(&client.folder, &["wallet", "deposit", "50 OPEN"]).await?;
    let serves = |status: &Value| status["manifests"].as_array().is_some_and(|all| !all.is_empty());
    stage.wait_status(&node, 60, "serving the base", serves).await?;
    Ok((stage, node, client))
}

/// The node's program, built beside this one.
fn tributary() -> Result<std::path::PathBuf> {
    let example = std::env::current_exe()?;
    let path = example.parent().and_then(Path::parent).context("an example lies two folders below its target folder")?.join("tributary");
    ensure!(path.is_file(), "{} is missing: build it with `cargo build --workspace --bin tributary`", path.display());
    Ok(path)
}

/// The demonstration's questions.
fn questions(data: &Path) -> Result<Vec<String>> {
    let path = data.join("questions.json");
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).with_context(|| path.display().to_string())?)?;
    let texts: Option<Vec<_>> = rows.iter().map(|row| row["question"].as_str().map(str::to_owned)).collect();
    texts.filter(|texts| !texts.is_empty()).with_context(|| format!("{} lists no questions", path.display()))
}

fn question(nonce: u64, text: &str, manifest: &Manifest) -> Result<Question> {
    Ok(Question {
        nonce,
        turns: vec![Turn { role: 2, content: text.to_owned() }],
        manifest: manifest.clone(),
        profile: Profile::Exact,
        class: Class::Open,
        options: Options::default(),
        tokens_max: TOKENS,
        spending_limit: "0.01 OPEN".parse()?,
        rates_max: ("0.01 OPEN".parse()?, "0.02 OPEN".parse()?),
        is_padded: false,
    })
}

/// Milliseconds from the words to the first token's bytes, in this process.
async fn ask_engine(engine: &EngineHandle, question: &Question) -> Result<f64> {
    let start = Instant::now();
    let prompt = engine.prompt_tokens(&messages(&question.turns).map_err(anyhow::Error::msg)?)?;
    let sampling = Sampling { temperature_milli: 0, top_k: 0, top_p_ppm: 0 };
    let mut generation = engine.begin(Start::new(prompt, sampling, [0; 32], TOKENS)).await?;
    let Step::Token { token, .. } = generation.next().await? else { anyhow::bail!("the engine answered nothing") };
    std::hint::black_box(engine.decode(&[token]));
    Ok(millis(start.elapsed()))
}

/// The same over the network, leg by leg.
async fn ask_node(asker: &Asker, question: &Question, candidates: &[Candidate]) -> Result<Legs> {
    let mut times = vec![Instant::now()];
    let mut note = |event: Event<'_>| {
        if matches!(event, Event::Connected(_) | Event::Quoted(_) | Event::Begun | Event::Token(_, 1, _)) {
            times.push(Instant::now());
        }
    };
    let answered = asker.ask(question, candidates, &mut note).await?;
    ensure!(answered.abandoned.is_empty(), "the node was lost: {:?}", answered.abandoned);
    let legs: Vec<f64> = times.windows(2).map(|two| millis(two[1] - two[0])).collect();
    let [connect, quote, begin, token] = legs[..] else { anyhow::bail!("an answer has four legs, this one {}", legs.len()) };
    Ok(Legs { connect, quote, begin, token })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
