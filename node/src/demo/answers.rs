//! Questions, two at a time on one node; a node killed after its fifth token; a check by a node that saw none of it.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, bail, ensure};
use attribution::bundle::Bundle;
use inference::proto::{message::Turn, router::Preference, spending::Caps};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use serde_json::{Value, json};
use types::{
    amount::Amount,
    id::{Address, NodeId},
    options::Options,
    quote::{Class, Profile},
};

use super::{CHAIN_WAIT, Demo, LOOK, set, show::marked};
use crate::{
    ask::{Answered, Asker, Candidate, Event, Question},
    command::ask::{Experience, Wanted, candidates, check_label, resolve, sources},
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
#[derive(Debug)]
pub struct Desk {
    asker: Asker,
    overlay: p2p::overlay::OverlayHandle,
    state: std::sync::Arc<chain_bridge::registry::State>,
}

/// One answer: its row of the summary and when each token arrived.
struct Asked {
    row: Value,
    node: NodeId,
    tokens: Vec<Instant>,
}

impl Demo {
    /// The client's account, lanes and place in the overlay.
    pub async fn desk(&self) -> anyhow::Result<Desk> {
        let context = self.stage.context(&self.client);
        let chain = context.chain_reader().await?;
        let state = chain.state().await?;
        let overlay = context.light_overlay(&context.config()?).await?;
        let head = chain.head().await?.block;
        let account = context.account()?;
        let asker = Asker {
            payer: account.address(),
            signer: account,
            caps: Caps::default(),
            failures: context.data.failures(),
            domains: chain.deployment().domains(),
            purse: Purse::open(context.data.path())?,
            quic: Client::bind(loopback_any(([127, 0, 0, 1], 0).into()), &NodeSeed::generate(), Limits::default())?,
            receipts: context.data.receipts(),
            lanes: LaneTerms { cap: "1 OPEN".parse()?, expiry: head.number + 86_400, now: head.number },
        };
        Ok(Desk { asker, overlay, state })
    }

    fn prepared(&self, datanet: &str) -> anyhow::Result<Vec<Prepared>> {
        let path = self.options.data.join("questions.json");
        let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).with_context(|| path.display().to_string())?)
            .with_context(|| path.display().to_string())?;
        let field = |row: &Value, name: &str| row[name].as_str().map(str::to_owned).with_context(|| format!("a question has no {name}"));
        let all = rows.iter().map(|row| Ok(Prepared { datanet: field(row, "datanet")?, text: field(row, "question")? }));
        let of: Vec<Prepared> =
            all.collect::<anyhow::Result<Vec<_>>>()?.into_iter().filter(|prepared| prepared.datanet == datanet).collect();
        ensure!(of.len() >= 4, "{}: {} questions about {datanet}, at least four are needed", path.display(), of.len());
        Ok(of)
    }

    /// Asks every prepared question but the last of each Datanet: one of each at the same time, both of the same node.
    pub async fn ask_questions(&mut self) -> anyhow::Result<()> {
        self.show.step("questions", "Questions about trained documents, two adapters in flight on one node");
        let desk = self.desk().await?;
        let (medical, python) = (self.prepared("medical")?, self.prepared("python")?);
        let pairs = medical.len().min(python.len()) - 1;
        let mut in_flight = Vec::new();
        for (number, (one, two)) in medical.iter().zip(&python).take(pairs).enumerate() {
            // Equal prices: the client takes another node for every pair.
            let (mut first, mut second) = (self.found(&desk, one).await?, self.found(&desk, two).await?);
            let turn = number % first.len();
            first.rotate_left(turn);
            second.sort_by_key(|candidate| candidate.node != first[0].node);
            let (one, two) = tokio::join!(self.ask(&desk, one, &first), self.ask(&desk, two, &second));
            let (one, two) = (one?, two?);
            in_flight.push(overlap(&one, &two));
            for asked in [one, two] {
                self.keep_row(asked.row)?;
            }
        }
        let shared = in_flight.iter().filter(|pair| pair["same_node"] == true && pair["alternations"].as_u64() >= Some(2)).count();
        ensure!(shared > 0, "no two adapters were in flight on one node at once: {}", json!(in_flight));
        self.show.line("");
        self.show.line(&format!("{shared} of {pairs} pairs were answered by one node at once, their tokens interleaved"));
        self.summary.insert("in_flight".into(), json!(in_flight));
        desk.overlay.shutdown().await;
        Ok(())
    }

    async fn found(&self, desk: &Desk, prepared: &Prepared) -> anyhow::Result<Vec<Candidate>> {
        let question = question(desk, prepared)?;
        let wanted = Wanted { profile: question.profile, tokens: TOKENS, client: desk.asker.payer };
        candidates(&desk.overlay, &desk.state, &question.manifest, wanted, &Preference::default(), &Experience::new(question.nonce)).await
    }

    async fn ask(&self, desk: &Desk, prepared: &Prepared, found: &[Candidate]) -> anyhow::Result<Asked> {
        let question = question(desk, prepared)?;
        let mut tokens = Vec::new();
        let mut note = |event: Event<'_>| {
            if let Event::Token(..) = event {
                tokens.push(Instant::now());
            }
        };
        let answered = desk.asker.ask(&question, found, &mut note).await.with_context(|| prepared.text.clone())?;
        Ok(Asked { row: self.row(desk, prepared, &answered)?, node: answered.node, tokens })
    }

    fn row(&self, desk: &Desk, prepared: &Prepared, answered: &Answered) -> anyhow::Result<Value> {
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
            "receipt": self.shown_path(&path),
            "check": check_label(&desk.state),
        }))
    }

    /// Shows an answer and adds it to the summary's.
    fn keep_row(&mut self, row: Value) -> anyhow::Result<()> {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let bundle = Bundle::from_json(&std::fs::read(self.path_of(&row)?)?)?;
        let mut spans = Vec::new();
        for span in &bundle.receipt.document.spans {
            spans.push((usize::try_from(span.start)?, usize::from(span.length)));
        }
        // After a failover the receipt covers the end of the answer only.
        let whole = text("text");
        let before = whole.strip_suffix(bundle.answer.as_str()).unwrap_or_default();
        let mut lines = Vec::new();
        for (number, source) in row["sources"].as_array().into_iter().flatten().enumerate() {
            let wei: Amount = source["amount_wei"].as_str().context("a source without its amount")?.parse()?;
            let contributor: Address = source["contributor"].as_str().context("a source without a contributor")?.parse()?;
            let words = types::text::words(source["quote"].as_str().unwrap_or_default()).len();
            lines.push(format!("[{}] {words} words of {}: {wei} wei ({})", number + 1, self.called(contributor), wei.in_open()));
        }
        if lines.is_empty() {
            lines.push("no run of words from a Datanet: its share goes to the Datanet's treasury".to_owned());
        }
        let node: NodeId = text("node").parse()?;
        let fee: Amount = text("fee_wei").parse()?;
        let about = format!(
            "{} on {} · {} tokens, first after {} ms, {:.1} a second · {} · {}",
            text("adapter"),
            self.node_name(node),
            row["tokens"],
            row["ttft_ms"],
            row["tokens_per_s"].as_f64().unwrap_or_default(),
            fee.in_open(),
            text("check"),
        );
        self.show.answer(&text("question"), &about, &format!("{before}{}", marked(&bundle.answer, &spans)), &lines);
        self.answers.push(row);
        Ok(())
    }

    fn keep(&self, bundle: &Bundle) -> anyhow::Result<PathBuf> {
        let receipt = &bundle.receipt.document;
        let path = self.options.out.join("receipts").join(format!("{}-{}.json", hex::encode(&receipt.request.0[..8]), receipt.attempt));
        write_atomic(&path, bundle.to_json().as_bytes(), 0o644)?;
        Ok(path)
    }

    /// Kills the node that is streaming after its fifth token; the client goes on elsewhere; the node comes back and answers.
    pub async fn fail_over(&mut self) -> anyhow::Result<()> {
        self.show.step("failover", "The node that is streaming is killed after its fifth token");
        let desk = self.desk().await?;
        let prepared = self.prepared("medical")?.pop().context("no medical question")?;
        let found = self.found(&desk, &prepared).await?;
        let first = found.first().context("no candidate")?.node;
        let place = self.nodes.iter().position(|node| node.node == first).context("the first candidate is one of the five")?;
        let pid = self.nodes[place].pid().context("it is running")?.to_string();
        let signed_before = self.receipts_signed(place).await?;
        let mut killed = None;
        let mut kill = |event: Event<'_>| {
            if let Event::Token(_, count, _) = event
                && count == KILL_AFTER
                && killed.is_none()
            {
                // SIGKILL: no goodbye, no receipt.
                killed = Some(std::process::Command::new("sh").args(["-c", "kill -KILL \"$0\"", &pid]).status());
            }
        };
        let answered = desk.asker.ask(&question(&desk, &prepared)?, &found, &mut kill).await?;
        ensure!(killed.context("the answer ended before its fifth token")??.success(), "`kill -KILL {pid}` failed");
        let abandoned = answered.abandoned.first().context("the killed node was not noticed")?;
        ensure!(abandoned.node == first, "another node than the killed one was given up");
        let receipt = &answered.bundle.receipt.document;
        let (before, billed) = (usize::try_from(receipt.first_token)?, usize::try_from(receipt.tokens_out)?);
        ensure!(before == abandoned.tokens && before + billed == answered.tokens.len(), "every token is billed at most once as output");
        ensure!(before >= KILL_AFTER && answered.node != first, "the answer was finished by the killed node");
        let row = self.row(&desk, &prepared, &answered)?;
        let (gap, finished_by) = (abandoned.gap_ms, answered.node);
        self.show.line(&format!("{} killed (process {pid}) after {before} tokens: {}", self.node_name(first), abandoned.reason));
        self.show.line(&format!(
            "{} went on from prompt and {before} tokens after {} ms and billed the other {billed}",
            self.node_name(finished_by),
            gap.unwrap_or_default()
        ));
        let mut failover = json!({
            "killed": first,
            "killed_pid": pid,
            "request": receipt.request,
            "tokens_before": before,
            "finished_by": finished_by,
            "tokens_after": billed,
            "gap_ms": gap,
            "reason": abandoned.reason,
            "answer": row.clone(),
        });
        self.keep_row(row)?;
        desk.overlay.shutdown().await;
        self.stage.reap(&mut self.nodes[place]).await?;
        let (rejoined, signed_after) = self.rejoin(place).await?;
        // What it kept on disk before it was killed, and nothing for the tokens it streamed last.
        ensure!(
            signed_after == signed_before,
            "the killed node holds {signed_after} receipts, it had {signed_before} before it was killed"
        );
        failover["killed_receipts"] = json!({ "before": signed_before, "after": signed_after });
        failover["rejoined"] = rejoined;
        self.summary.insert("failover".into(), failover);
        Ok(())
    }

    async fn receipts_signed(&self, place: usize) -> anyhow::Result<u64> {
        let status = self.stage.cli(&self.nodes[place].folder, &["status"]).await?;
        status["receipts"].as_u64().context("status printed no number of receipts")
    }

    /// Starts a killed node again. It has rejoined when it knows and is known, and a client who learns of it by gossip gets an answer from it.
    async fn rejoin(&mut self, place: usize) -> anyhow::Result<(Value, u64)> {
        let since = Instant::now();
        self.start_again(&[place]).await?;
        let desk = self.desk().await?;
        let prepared = self.prepared("python")?.pop().context("no Python question")?;
        let node = self.nodes[place].node;
        let address = self.nodes[place].addresses.as_ref().context("it is running")?.clients;
        let advertised = |ads: &[std::sync::Arc<p2p::proto::ads::SignedAd>]| {
            ads.iter().any(|signed| signed.ad().node == node && signed.ad().client_addr == address)
        };
        desk.overlay.wait_ads(advertised, CHAIN_WAIT).await.context("the restarted node's ad did not reach the client")?;
        // Its first ad may come before it has its adapters again.
        let found = loop {
            let mut found = self.found(&desk, &prepared).await?;
            found.retain(|candidate| candidate.node == node);
            if found.first().is_some_and(|candidate| candidate.addr == address) {
                break found;
            }
            ensure!(
                since.elapsed() < CHAIN_WAIT,
                "the client did not learn within {} s that the restarted node serves the adapter at {address}",
                CHAIN_WAIT.as_secs()
            );
            tokio::time::sleep(LOOK).await;
        };
        let signed = self.receipts_signed(place).await?;
        let asked = self.ask(&desk, &prepared, &found).await?;
        ensure!(asked.node == node, "another node answered");
        let seconds = since.elapsed().as_secs_f64();
        self.show.line(&format!(
            "{} was started again, is known to all, and has answered a client after {seconds:.1} s:",
            self.nodes[place].name
        ));
        let rejoined = json!({ "node": node, "pid": self.nodes[place].pid(), "seconds": seconds, "receipt": asked.row["receipt"] });
        self.keep_row(asked.row)?;
        desk.overlay.shutdown().await;
        Ok((rejoined, signed))
    }

    /// Answers with a long paid span; at least half of all must have one.
    pub fn report_coverage(&mut self) -> anyhow::Result<()> {
        let covered = self.answers.iter().filter(|row| row["words_longest"].as_u64() >= Some(WORDS_COUNTED as u64)).count();
        self.show.line("");
        self.show
            .line(&format!("coverage: {covered} of {} answers carry a paid span of at least {WORDS_COUNTED} words", self.answers.len()));
        ensure!(
            covered * 2 >= self.answers.len(),
            "fewer than half of the answers carry a paid span of {WORDS_COUNTED} words: train longer"
        );
        self.summary.insert("coverage".into(), json!({ "answers": self.answers.len(), "with_span_of_8_words": covered }));
        Ok(())
    }

    /// A node started after the answers, with an empty disk, executes one again; then a tampered token.
    pub async fn check_by_another(&mut self) -> anyhow::Result<()> {
        self.show.step("check", "A node that saw none of it executes an answer again");
        let mut checker = self.stage.party("checker", Some(&self.options.model), Some(self.bootstrap()?)).await?;
        set(&checker.folder, "storage", "false")?;
        let medical = self.assets["medical-adapter"].clone();
        self.stage.cli(&checker.folder, &["adapter", "fetch", &medical]).await?;
        self.stage.start(&mut checker).await?;
        self.stage
            .wait_status(&checker, 120, "being able to check", |status| status["manifests"].as_array().is_some_and(|m| !m.is_empty()))
            .await?;
        let row = self.answers.iter().find(|row| row["adapter"] == "medical").context("no medical answer")?;
        let path = self.path_of(row)?;
        let path = path.to_str().context("the output folder's path is not text")?;
        let node = checker.node.to_string();
        let honest = self.stage.cli(&checker.folder, &["audit", "check", path, "--node", &node]).await?;
        ensure!(honest["finding"] == "agrees", "the checker disagrees with an honest receipt: {honest}");
        let (tampered, position) = self.tamper(path)?;
        let tampered = tampered.to_str().context("the output folder's path is not text")?;
        let caught = self.stage.cli(&checker.folder, &["audit", "check", tampered, "--node", &node]).await?;
        ensure!(caught["finding"] == "token" && caught["position"] == position, "a tampered token at {position} was reported as {caught}");
        self.show.line(&format!("it fetched adapter and text itself and signed: {}", words(&honest["finding"])));
        self.show
            .line(&format!("with output token {position} changed it signed: another {} at position {position}", words(&caught["finding"])));
        self.show.line(&format!("nobody draws checkers among so few operators: every answer says {}", words(&row["check"])));
        self.summary.insert("check".into(), json!({ "checker": node, "account": checker.account, "honest": honest, "tampered": caught }));
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

/// A JSON text without its quotation marks.
fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What two answers asked together shared: the node, the time, and how often the arriving tokens changed from one to the other.
fn overlap(one: &Asked, two: &Asked) -> Value {
    let mut order: Vec<(Instant, bool)> = one.tokens.iter().map(|at| (*at, false)).chain(two.tokens.iter().map(|at| (*at, true))).collect();
    order.sort();
    let alternations = order.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
    let start = one.tokens.first().max(two.tokens.first());
    let end = one.tokens.last().min(two.tokens.last());
    let shared = start.zip(end).map_or(0, |(start, end)| end.saturating_duration_since(*start).as_millis());
    json!({
        "adapters": [one.row["adapter"], two.row["adapter"]],
        "nodes": [one.node, two.node],
        "same_node": one.node == two.node,
        "overlap_ms": u64::try_from(shared).unwrap_or(u64::MAX),
        "alternations": alternations,
    })
}

fn question(desk: &Desk, prepared: &Prepared) -> anyhow::Result<Question> {
    let manifest = desk.state.manifest(resolve(&desk.state, &prepared.datanet)?)?;
    let limit: Amount = "0.01 OPEN".parse()?;
    Ok(Question {
        nonce: desk.asker.purse.next_nonce()?,
        turns: vec![Turn { role: 2, content: prepared.text.clone() }],
        manifest,
        profile: Profile::Exact,
        class: Class::Open,
        options: Options::default(),
        tokens_max: TOKENS,
        spending_limit: limit,
        rates_max: ("0.01 OPEN".parse()?, "0.02 OPEN".parse()?),
        is_padded: false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(node: u8, at_ms: &[u64], since: Instant) -> Asked {
        let tokens = at_ms.iter().map(|ms| since + Duration::from_millis(*ms)).collect();
        Asked { row: json!({ "adapter": "a" }), node: NodeId([node; 32]), tokens }
    }

    #[test]
    fn answers_one_after_the_other_do_not_count_as_in_flight_at_once() {
        let since = Instant::now();
        let apart = overlap(&asked(1, &[1, 2, 3], since), &asked(1, &[4, 5], since));
        assert_eq!((&apart["overlap_ms"], &apart["alternations"]), (&0.into(), &1.into()));
        let together = overlap(&asked(1, &[10, 30, 50], since), &asked(2, &[20, 40], since));
        assert_eq!((&together["overlap_ms"], &together["alternations"], &together["same_node"]), (&20.into(), &4.into(), &false.into()));
    }
}
