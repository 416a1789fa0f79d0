//! Questions, two at a time; a node killed after its fifth token; a check by a node that saw none of it.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use attribution::bundle::Bundle;
use inference::proto::message::Turn;
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use serde_json::{Value, json};
use types::{amount::Amount, quote::Class, request::SamplingRule};

use super::{Demo, set};
use crate::{
    ask::{Answered, Asker, Event, Question},
    command::ask::{candidates, resolve, sources},
    data::write_atomic,
    purse::{LaneTerms, Purse},
    service::settlement::loopback_any,
};

/// Words a span must have to count towards the coverage reported.
const WORDS_COUNTED: usize = 8;
/// Most output tokens of an answer.
const TOKENS: u32 = 96;
/// Token after which the streaming node is killed.
const KILL_AFTER: usize = 5;

/// A question about a document.
#[derive(Debug, Clone)]
struct Prepared {
    datanet: String,
    text: String,
}

/// What the client needs for its questions, opened once.
struct Desk {
    asker: Asker,
    overlay: p2p::overlay::OverlayHandle,
    state: std::sync::Arc<chain_bridge::registry::State>,
}

impl Demo {
    async fn desk(&self) -> anyhow::Result<Desk> {
        let context = self.stage.context(&self.client);
        let chain = context.chain_reader().await?;
        let state = chain.state().await?;
        let overlay = context.light_overlay(&context.config()?).await?;
        let head = chain.head().await?.block;
        let asker = Asker {
            account: context.account()?,
            domains: chain.deployment().domains(),
            purse: Purse::open(context.data.path())?,
            quic: Client::bind(loopback_any(([127, 0, 0, 1], 0).into()), &NodeSeed::generate(), Limits::default())?,
            lanes: LaneTerms { cap: "1 OPEN".parse()?, expiry: head.number + 86_400, now: head.number },
        };
        Ok(Desk { asker, overlay, state })
    }

    fn prepared(&self) -> anyhow::Result<Vec<Prepared>> {
        let path = self.options.data.join("questions.json");
        let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).with_context(|| path.display().to_string())?)?;
        let field = |row: &Value, name: &str| row[name].as_str().map(str::to_owned).with_context(|| format!("a question has no {name}"));
        rows.iter().map(|row| Ok(Prepared { datanet: field(row, "datanet")?, text: field(row, "question")? })).collect()
    }

    /// Asks every prepared question, one of each Datanet at the same time.
    pub async fn ask_questions(&mut self) -> anyhow::Result<()> {
        let desk = self.desk().await?;
        let prepared = self.prepared()?;
        let of = |datanet: &str| prepared.iter().filter(|p| p.datanet == datanet).cloned().collect::<Vec<_>>();
        let (medical, python) = (of("medical"), of("python"));
        ensure!(medical.len().min(python.len()) >= 3, "at least three questions per Datanet are needed");
        let mut answers = Vec::new();
        // The last one of each kind is kept for the failover.
        for (one, two) in medical.iter().zip(&python).take(medical.len().min(python.len()) - 1) {
            let (one, two) = tokio::join!(self.ask(&desk, one), self.ask(&desk, two));
            for row in [one?, two?] {
                println!(
                    "\n  Q ({}) {}\n  A {}",
                    row["adapter"].as_str().unwrap_or_default(),
                    row["question"].as_str().unwrap_or_default(),
                    row["text"].as_str().unwrap_or_default()
                );
                for source in row["sources"].as_array().into_iter().flatten() {
                    println!(
                        "    {} earns {} wei for {}",
                        source["contributor"].as_str().unwrap_or_default(),
                        source["wei"].as_str().unwrap_or_default(),
                        source["quote"]
                    );
                }
                answers.push(row);
            }
        }
        let covered = answers.iter().filter(|row| row["words_longest"].as_u64() >= Some(WORDS_COUNTED as u64)).count();
        self.say(&format!(
            "{} answers, {covered} with a paid span of at least {WORDS_COUNTED} words; two adapters in flight",
            answers.len()
        ));
        ensure!(covered * 2 >= answers.len(), "fewer than half of the answers carry a paid span of {WORDS_COUNTED} words: train longer");
        self.summary.insert("coverage".into(), json!({ "answers": answers.len(), "with_span_of_8_words": covered }));
        self.summary.insert("answers".into(), json!(answers));
        desk.overlay.shutdown().await;
        Ok(())
    }

    async fn ask(&self, desk: &Desk, prepared: &Prepared) -> anyhow::Result<Value> {
        let question = question(desk, prepared)?;
        let found = candidates(&desk.overlay, &desk.state, &question.manifest, TOKENS).await?;
        let answered = desk.asker.ask(&question, &found, &mut |_| {}).await.with_context(|| prepared.text.clone())?;
        self.row(prepared, &answered)
    }

    fn row(&self, prepared: &Prepared, answered: &Answered) -> anyhow::Result<Value> {
        let path = self.keep(&answered.bundle)?;
        let sources = sources(&answered.bundle)?;
        let longest = sources.iter().map(|source| types::text::words(&source.quote).len()).max().unwrap_or(0);
        Ok(json!({
            "question": prepared.text,
            "adapter": prepared.datanet,
            "text": answered.text,
            "tokens": answered.tokens.len(),
            "ttft_ms": answered.ttft_ms,
            "tokens_per_s": answered.tokens_per_s,
            "node": answered.node,
            "fee_wei": answered.bundle.receipt.document.fee,
            "sources": sources,
            "words_longest": longest,
            "receipt": path,
            "check": "unchecked",
        }))
    }

    fn keep(&self, bundle: &Bundle) -> anyhow::Result<PathBuf> {
        let receipt = &bundle.receipt.document;
        let path = self.options.out.join("receipts").join(format!("{}-{}.json", hex::encode(&receipt.request.0[..8]), receipt.attempt));
        write_atomic(&path, bundle.to_json().as_bytes(), 0o644)?;
        Ok(path)
    }

    /// Kills the node that is streaming after its fifth token; the client goes on elsewhere; the node comes back.
    pub async fn fail_over(&mut self) -> anyhow::Result<()> {
        let desk = self.desk().await?;
        let prepared = self.prepared()?.into_iter().rfind(|p| p.datanet == "medical").context("no medical question")?;
        let question = question(&desk, &prepared)?;
        let found = candidates(&desk.overlay, &desk.state, &question.manifest, TOKENS).await?;
        let first = found.first().context("no candidate")?.node;
        let pid = self
            .nodes
            .iter()
            .find(|node| node.node == first)
            .and_then(super::stage::Party::pid)
            .context("the first candidate is one of the five")?;
        let mut is_killed = false;
        let mut kill = |event: Event<'_>| {
            if let Event::Token(_, count) = event
                && count == KILL_AFTER
                && !is_killed
            {
                is_killed = true;
                // SIGKILL: no goodbye, no receipt.
                let killed = std::process::Command::new("sh").args(["-c", "kill -KILL \"$0\"", &pid.to_string()]).status();
                if let Err(error) = killed {
                    eprintln!("kill: {error}");
                }
            }
        };
        let answered = desk.asker.ask(&question, &found, &mut kill).await?;
        ensure!(is_killed, "the answer ended before its fifth token");
        let abandoned = answered.abandoned.first().context("the killed node was not noticed")?;
        ensure!(abandoned.node == first, "another node than the killed one was given up");
        let receipt = &answered.bundle.receipt.document;
        let (before, billed) = (usize::try_from(receipt.first_token)?, usize::try_from(receipt.tokens_out)?);
        ensure!(before == abandoned.tokens && before + billed == answered.tokens.len(), "every token is billed at most once as output");
        ensure!(answered.node != first, "the answer was finished by the killed node");
        let row = self.row(&prepared, &answered)?;
        let failover = json!({
            "killed": first,
            "tokens_before": before,
            "finished_by": answered.node,
            "tokens_after": billed,
            "gap_ms": abandoned.gap_ms,
            "reason": abandoned.reason,
            "answer": row,
        });
        self.say(&format!(
            "node {first} killed after {before} tokens; {} went on after {} ms and billed the other {billed}",
            answered.node,
            abandoned.gap_ms.unwrap_or_default()
        ));
        self.summary.insert("failover".into(), failover);
        desk.overlay.shutdown().await;
        let place = self.nodes.iter().position(|node| node.node == first).context("just found")?;
        self.stage.reap(&mut self.nodes[place]).await?;
        self.stage.start(&mut self.nodes[place]).await?;
        self.stage
            .wait_status(&self.nodes[place], 120, "having rejoined", |status| {
                status["manifests"].as_array().is_some_and(|m| m.len() >= 2) && status["providers"].as_u64() >= Some(4)
            })
            .await?;
        self.say("the killed node was started again and has rejoined");
        Ok(())
    }

    /// A node started after the answers, with an empty disk, executes one again; then a tampered token.
    pub async fn check_by_another(&mut self) -> anyhow::Result<()> {
        let bootstrap = self.nodes[0].bootstrap()?.to_owned();
        let mut checker = self.stage.party("checker", &self.options.model, Some(&bootstrap)).await?;
        set(&checker.folder, "storage", "false")?;
        let medical = self.assets["medical-adapter"].clone();
        self.stage.cli(&checker.folder, &["adapter", "fetch", &medical]).await?;
        self.stage.start(&mut checker).await?;
        self.stage
            .wait_status(&checker, 120, "being able to check", |status| status["manifests"].as_array().is_some_and(|m| !m.is_empty()))
            .await?;
        let answers = self.summary["answers"].as_array().cloned().unwrap_or_default();
        let path = answers
            .iter()
            .find(|row| row["adapter"] == "medical")
            .and_then(|row| row["receipt"].as_str())
            .context("no medical receipt")?
            .to_owned();
        let node = checker.node.to_string();
        let honest = self.stage.cli(&checker.folder, &["audit", "check", &path, "--node", &node]).await?;
        ensure!(honest["finding"] == "agrees", "the checker disagrees with an honest receipt: {honest}");
        let (tampered, position) = self.tamper(&path)?;
        let tampered = tampered.to_str().context("path")?.to_owned();
        let caught = self.stage.cli(&checker.folder, &["audit", "check", &tampered, "--node", &node]).await?;
        ensure!(caught["finding"] == "token" && caught["position"] == position, "a tampered token at {position} was reported as {caught}");
        self.say(&format!(
            "a node that saw none of it executed a receipt again: {}; with token {position} changed: {}",
            honest["finding"], caught["finding"]
        ));
        self.summary.insert("check".into(), json!({ "checker": node, "honest": honest, "tampered": caught }));
        self.stage.stop(&mut checker).await
    }

    /// A copy of a bundle with one token replaced by another that the model would not choose.
    fn tamper(&self, path: &str) -> anyhow::Result<(PathBuf, u32)> {
        let mut bundle = Bundle::from_json(&std::fs::read(path)?)?;
        let position = bundle.token_ids.len() / 2;
        let token = bundle.token_ids.get_mut(position).context("an answer without tokens")?;
        *token = if *token == 28 { 29 } else { 28 };
        let path = self.options.out.join("tampered.json");
        write_atomic(&path, bundle.to_json().as_bytes(), 0o644)?;
        Ok((path, u32::try_from(position)?))
    }

    /// Receipts of all answers so far.
    pub fn receipts(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(self.options.out.join("receipts"))?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.sort();
        if paths.is_empty() {
            bail!("no receipts were kept");
        }
        Ok(paths)
    }
}

fn question(desk: &Desk, prepared: &Prepared) -> anyhow::Result<Question> {
    let manifest = desk.state.manifest(resolve(&desk.state, &prepared.datanet)?)?;
    let limit: Amount = "0.01 OPEN".parse()?;
    Ok(Question {
        turns: vec![Turn { role: 2, content: prepared.text.clone() }],
        manifest,
        class: Class::Open,
        sampling: SamplingRule::default(),
        tokens_max: TOKENS,
        spending_limit: limit,
        rates_max: ("0.01 OPEN".parse()?, "0.02 OPEN".parse()?),
    })
}
