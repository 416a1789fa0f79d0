//! What a killed node costs its client: seconds, and no token. JSON rows on standard output.
//!
//! `failover [--kills 50] [--seed 1]`, where `TRIBUTARY_KILLS` says how many if no option does: a chain and three nodes as processes, and one client in this process, which asks the same greedy question over and over under the profile
//! `exact`. Each time the node that answers is killed (SIGKILL) at a token that a seeded generator draws, from the first to the last behind which the node cannot
//! have sent all of it; the answer must go on at another node and come out with the very tokens of an answer that nobody disturbed. Each token is to be billed as output once: by the receipt that
//! ended the answer those behind the kill, by the killed node, which could sign nothing, none; it is started again, shows as many receipts as before, and stands by for the next kill.
//!
//! The gap is from the last token before the kill to the next one, as the client's own clock has it; reading the prompt anew is in it (one token of the tiny model takes less
//! than a millisecond).
//!
//! Cost: some three seconds a kill, nearly all of it the node's new start.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use chain_bridge::chain::Chain as _;
use harness::{Cluster, Party, Setup, cluster::text, files};
use inference::proto::{
    message::{Turn, VOUCHER_TOKENS},
    spending::Caps,
};
use node::{
    ask::{Answered, Asker, Candidate, Event, Question},
    chain::Chained,
    purse::{LaneTerms, Purse},
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use serde_json::json;
use types::{
    amount::{Amount, WEI_PER_OPEN},
    manifest::Manifest,
    options::Options,
    quote::{Class, Profile},
};

const NODES: usize = 3;
/// Tokens of an answer.
const TOKENS: u32 = 160;
/// The tiny model answers it at any length.
const WORDS: &str = "What is gout?";
/// The last token that is killed at: behind it a node may have sent all of the answer.
const LAST: usize = (TOKENS - VOUCHER_TOKENS - 1) as usize;
/// Longest wait for a node to serve.
const SERVED_WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

fn arguments() -> Option<(usize, u64)> {
    let mut kills = std::env::var("TRIBUTARY_KILLS").map_or(Some(50), |text| text.parse().ok())?;
    let mut seed = 1;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kills" => kills = words.next()?.parse().ok()?,
            "--seed" => seed = words.next()?.parse().ok()?,
            _ => return None,
        }
    }
    (kills > 0).then_some((kills, seed))
}

/// A generator of 64 bits a step (Steele, Lea and Flood 2014, SplitMix64): which token a kill meets.
struct Drawn(u64);

impl Drawn {
    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((((mixed ^ (mixed >> 31)) >> 32) * end as u64) >> 32).expect("below a usize")
    }
}

/// The client, who pays with a deposit of its own.
async fn asker(cluster: &Cluster) -> Asker {
    let party = cluster.person("client");
    cluster.run(party, &["wallet", "deposit", "100 OPEN"]).await;
    cluster.until_final(party).await;
    let now = cluster.chain.head().await.expect("the chain answers").latest.number;
    let loopback = ([127, 0, 0, 1], 0).into();
    Asker {
        payer: party.account,
        signer: party.key(),
        caps: Caps::default(),
        domains: cluster.chain.domains(),
        purse: Purse::open(&party.folder).expect("the client's purse"),
        quic: Client::bind(loopback, &NodeSeed::generate(), Limits::default()).expect("a socket"),
        receipts: party.folder.join("receipts"),
        lanes: LaneTerms { cap: Amount(WEI_PER_OPEN), expiry: now + 86_400, now },
        failures: party.folder.join("failures"),
    }
}

async fn manifest(cluster: &Cluster) -> Manifest {
    let model = files::tiny_model();
    let published = cluster.run(cluster.person("client"), &["model", "publish", text(&model), "--name", "tiny"]).await;
    let version = node::command::adapter::parse_version(published["version"].as_str().expect("a version")).expect("a version");
    let chain = Chained::open(cluster.devnet.url(), cluster.devnet.deployment().clone(), None).await.expect("the chain answers");
    let deadline = Instant::now() + SERVED_WAIT;
    loop {
        match chain.state().await.expect("the books follow the chain").manifest(version) {
            Ok(manifest) => return manifest,
            Err(why) => assert!(Instant::now() < deadline, "{version} has no manifest: {why}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn candidate(party: &Party) -> Candidate {
    let addr = party.addresses.as_ref().expect("the node runs").clients;
    Candidate { node: party.node, account: party.account, addr }
}

fn question(asker: &Asker, manifest: &Manifest) -> Question {
    Question {
        nonce: asker.purse.next_nonce().expect("the purse counts"),
        turns: vec![Turn { role: 2, content: WORDS.to_owned() }],
        manifest: manifest.clone(),
        profile: Profile::Exact,
        class: Class::Open,
        options: Options::default(),
        tokens_max: TOKENS,
        spending_limit: Amount(WEI_PER_OPEN / 10),
        rates_max: (Amount(WEI_PER_OPEN / 100), Amount(WEI_PER_OPEN / 50)),
        is_padded: false,
    }
}

/// An answer of one node that nobody disturbs, once it serves.
async fn undisturbed(asker: &Asker, manifest: &Manifest, party: &Party) -> Answered {
    let deadline = Instant::now() + SERVED_WAIT;
    loop {
        match asker.ask(&question(asker, manifest), &[candidate(party)], &mut |_| {}).await {
            Ok(answered) if answered.abandoned.is_empty() => return answered,
            Ok(_) => {}
            Err(why) => assert!(Instant::now() < deadline, "{} does not answer: {why:#}", party.name),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn receipts_signed(cluster: &Cluster, party: &Party) -> u64 {
    cluster.run(party, &["status"]).await["receipts"].as_u64().expect("status tells how many receipts there are")
}

/// What one kill cost.
struct Cost {
    gap_ms: u64,
    /// Whether the answer is another, or a token is billed twice or never.
    is_wrong: bool,
}

/// Kills node `victim` at token `at` of an answer that it began.
async fn kill(
    cluster: &mut Cluster,
    asker: &Asker,
    manifest: &Manifest,
    (victim, at): (usize, usize),
    whole: &[u32],
) -> Result<Cost, String> {
    let mut candidates: Vec<Candidate> = cluster.nodes.iter().map(candidate).collect();
    candidates.rotate_left(victim);
    let (signed_before, pid) = (receipts_signed(cluster, &cluster.nodes[victim]).await, cluster.nodes[victim].pid().to_string());
    let mut killed = false;
    let mut hear = |event: Event<'_>| {
        if let Event::Token(_, count, _) = event
            && count == at
            && !killed
        {
            killed = Command::new("sh").args(["-c", "kill -KILL \"$0\"", &pid]).status().is_ok_and(|status| status.success());
        }
    };
    let answered = asker.ask(&question(asker, manifest), &candidates, &mut hear).await;
    if !killed {
        return Err(format!("the answer ended before its token {at}"));
    }
    cluster.nodes[victim].reap().await;
    cluster.start_node(victim).await;
    let answered = answered.map_err(|error| format!("killed at token {at}: {error:#}"))?;
    let signed_after = receipts_signed(cluster, &cluster.nodes[victim]).await;
    let Some(abandoned) = answered.abandoned.first() else {
        return Err(format!("all of the answer had come before the kill at token {at}"));
    };
    let receipt = &answered.bundle.receipt.document;
    let (first, billed) = (receipt.first_token as usize, receipt.tokens_out as usize);
    let is_wrong = answered.tokens != whole || first + billed != whole.len() || first != abandoned.tokens || signed_after != signed_before;
    if is_wrong {
        eprintln!(
            "killed at token {at}: {} tokens came, the receipt bills {billed} from {first} on, {abandoned:?}, receipts {signed_before} and {signed_after}",
            answered.tokens.len()
        );
    }
    let gap_ms = abandoned.gap_ms.ok_or_else(|| format!("no token came after the kill at token {at}"))?;
    Ok(Cost { gap_ms, is_wrong })
}

fn quantile(sorted: &[u64], permille: usize) -> u64 {
    sorted[(sorted.len() * permille).div_ceil(1_000).clamp(1, sorted.len()) - 1]
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some((kills, seed)) = arguments() else {
        eprintln!("failover [--kills 50] [--seed 1]");
        std::process::exit(2);
    };
    let setup = Setup { nodes: NODES, model: Some(files::tiny_model()), people: vec!["client"] };
    let mut cluster = Cluster::start(setup).await;
    let (manifest, asker) = (manifest(&cluster).await, asker(&cluster).await);
    let mut whole: Vec<Vec<u32>> = Vec::new();
    for party in &cluster.nodes {
        whole.push(undisturbed(&asker, &manifest, party).await.tokens);
    }
    assert!(whole.iter().all(|tokens| *tokens == whole[0]), "three nodes give one answer");
    assert_eq!(whole[0].len(), TOKENS as usize, "the model ends its answer by itself");
    let whole = whole.swap_remove(0);
    let (mut drawn, mut gaps, mut wrong, mut missed) = (Drawn(seed), Vec::new(), 0_usize, 0_usize);
    for number in 0..kills {
        let at = 1 + drawn.below(LAST);
        match kill(&mut cluster, &asker, &manifest, (number % NODES, at), &whole).await {
            Ok(cost) => {
                gaps.push(cost.gap_ms);
                wrong += usize::from(cost.is_wrong);
            }
            Err(why) => {
                eprintln!("{why}");
                missed += 1;
            }
        }
    }
    gaps.sort_unstable();
    assert!(!gaps.is_empty() && missed * 10 < kills, "{missed} of {kills} kills met no answer");
    let row = |figure: &str, ours: f64, unit: &str, note: String| {
        println!("{}", json!({ "figure": figure, "ours": ours, "unit": unit, "n": gaps.len(), "note": note }));
    };
    let note = format!(
        "median {} ms, longest {} ms; {kills} kills, seed {seed}, {missed} met no answer",
        quantile(&gaps, 500),
        quantile(&gaps, 1_000)
    );
    row("network.failover_p95_ms", quantile(&gaps, 950) as f64, "ms", note);
    row(
        "network.failover_wrong",
        wrong as f64,
        "",
        format!("answers with another token, or one that is billed twice or never, of {}", gaps.len()),
    );
    cluster.stop().await;
    assert_eq!(wrong, 0, "a kill cost more than time");
}
