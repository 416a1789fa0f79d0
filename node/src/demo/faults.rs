//! A receipt forged under a node's own key, found and punished by an account that holds only the bundle and the public Datanet.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use attribution::{bundle::Bundle, parameters::Parameters};
use serde_json::{Value, json};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
    key::Signed,
    receipt::{Mask, Receipt, Span},
    text,
};

use super::{CHAIN_WAIT, Demo, LOOK, stage::Party};
use crate::data::write_atomic;

/// How far a forged span is moved within its Datanet: to another document, well inside either end.
const MOVED_BYTES: u64 = 4_096;

/// What a node may sign instead of what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// A span that stands elsewhere than it says.
    Invented,
    /// A span without its last word.
    Shortened,
    /// No span where one is due.
    Omitted,
    /// A span that pays the node itself.
    Reassigned,
    /// A span that takes more of the pot than its words weigh.
    Misweighed,
    /// A span left out, and its words passed off as copied from the prompt.
    Masked,
}

impl Lie {
    const ALL: [Self; 6] = [Self::Invented, Self::Shortened, Self::Omitted, Self::Reassigned, Self::Misweighed, Self::Masked];

    /// The fault it is proven as.
    const fn fault(self) -> &'static str {
        match self {
            Self::Invented => "F1",
            Self::Shortened | Self::Omitted => "F2",
            Self::Reassigned => "F9",
            Self::Misweighed => "F10",
            Self::Masked => "F11",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Invented => "invented",
            Self::Shortened => "shortened",
            Self::Omitted => "left out",
            Self::Reassigned => "paid to the node",
            Self::Misweighed => "weighed too high",
            Self::Masked => "hidden under a mask",
        }
    }

    /// Tells it in the first span of a receipt for `answer`.
    fn tell(self, receipt: &mut Receipt, answer: &str) -> anyhow::Result<()> {
        let (node, weigh) = (receipt.node, Parameters::builtin(receipt.parameters).context("a receipt names known parameters")?);
        let span = receipt.spans.first_mut().context("a receipt with a span is forged")?;
        match self {
            Self::Invented => span.position = span.position.checked_sub(MOVED_BYTES).unwrap_or(span.position + MOVED_BYTES),
            Self::Reassigned => span.payee = node,
            Self::Misweighed => span.weight += 1,
            Self::Omitted => drop(receipt.spans.remove(0)),
            Self::Masked => {
                let Span { start, length, weight, .. } = receipt.spans.remove(0);
                receipt.weight_total = receipt.weight_total.checked_sub(weight.into()).context("W holds every span's weight")?;
                let place = receipt.masks.partition_point(|mask| mask.start < start);
                receipt.masks.insert(place, Mask { start, length: length.into(), prompt: 0 });
            }
            Self::Shortened => {
                let start = usize::try_from(span.start)?;
                let quote = answer.get(start..start + usize::from(span.length)).context("a span lies in its answer")?;
                let [.., before, last] = &text::words(quote)[..] else { anyhow::bail!("a span of one word") };
                span.weight = span.weight.saturating_sub(weigh.weight(&quote[last.clone()]));
                span.length = u16::try_from(before.end)?;
            }
        }
        Ok(())
    }
}

/// A lie that was proven, and what it cost.
struct Proven {
    lie: Lie,
    node: Address,
    receipt: Hash32,
    before: Amount,
    after: Amount,
    printed: Value,
}

impl Demo {
    /// A sixth account without a model, a stake or a file of anybody's audits every honest receipt and finds nothing.
    pub async fn audit_honest(&mut self) -> anyhow::Result<()> {
        self.show.step("audit", "A stranger audits every honest receipt");
        let auditor = self.stage.party("auditor", None, Some(self.bootstrap()?)).await?;
        self.fund(auditor.account, 1).await?;
        let receipts = self.receipts()?;
        for path in &receipts {
            let copy = handed_over(&auditor, path)?;
            let printed = self.stage.cli(&auditor.folder, &["audit", "prove", &copy]).await?;
            let is_clean = printed["faults"].as_array().is_some_and(Vec::is_empty) && printed.get("unproved").is_none();
            ensure!(is_clean && printed["transaction"].is_null(), "an honest receipt was accused: {printed}");
        }
        self.show.line(&format!("`audit prove` found nothing in all {} receipts", receipts.len()));
        self.auditor = Some(auditor);
        Ok(())
    }

    /// Forges receipts and has them proven by the same command; the stake falls each time.
    pub async fn forge_and_slash(&mut self) -> anyhow::Result<()> {
        self.show.step("slash", "A false receipt under a node's own key costs its stake");
        let auditor = self.auditor.as_ref().context("the honest receipts are audited first")?;
        let mut proven = Vec::new();
        for lie in Lie::ALL {
            proven.push(self.prove(lie, auditor).await?);
        }
        for Proven { lie, node, before, after, printed, .. } in &proven {
            let fault = &printed["faults"][0];
            self.show.line(&format!(
                "{} signed {} with its source {}: {} took {} of its stake",
                self.called(*node),
                fault["answer"],
                lie.name(),
                fault["fault"].as_str().unwrap_or_default(),
                before.minus(*after)?.in_open()
            ));
        }
        let Some(Proven { node, receipt, before, after, printed, .. }) = proven.first() else { return Ok(()) };
        self.show.line(&format!("the chain took the first proof in transaction {}", printed["transaction"].as_str().unwrap_or_default()));
        // The others were proven while it waited.
        let divided = self.divide(&auditor.folder, *receipt).await?;
        let amount = |name: &str| divided[name].as_str().and_then(|wei| wei.parse::<Amount>().ok()).unwrap_or_default();
        let client = amount("to_victim_wei").plus(amount("covered_wei"))?;
        let (to_auditor, burned, insured) = (amount("to_reporter_wei"), amount("burned_wei"), amount("insured_wei"));
        let sum = Amount::sum([amount("to_victim_wei"), to_auditor, burned, insured])?;
        ensure!(sum == before.minus(*after)?, "the slash took {}, {} were divided", before.minus(*after)?, sum);
        self.show.line(&format!(
            "stake {} -> {}; after the slash's delay anybody divides it: {} to the client, {} to the auditor, {} burned, {} to the insurance pool",
            before.in_open(),
            after.in_open(),
            client.in_open(),
            to_auditor.in_open(),
            burned.in_open(),
            insured.in_open()
        ));
        let lies: Vec<Value> = proven
            .iter()
            .map(|one| {
                json!({
                    "lie": one.lie.name(), "fault": one.printed["faults"][0], "node": one.node, "transaction": one.printed["transaction"],
                    "stake_before_wei": one.before, "stake_after_wei": one.after, "gas": one.printed["gas"],
                })
            })
            .collect();
        let slash = json!({
            "transaction": printed["transaction"],
            "stake_before_wei": before,
            "stake_after_wei": after,
            "node": node,
            "auditor": auditor.account,
            "fault": printed["faults"][0],
            "parts": divided,
            "gas": printed["gas"],
            "lies": lies,
        });
        self.summary.insert("slash".into(), slash);
        Ok(())
    }

    /// Has one lie proven by who holds only the bundle.
    async fn prove(&self, lie: Lie, auditor: &Party) -> anyhow::Result<Proven> {
        let (forged, node, receipt) = self.forge(lie)?;
        let before = self.chain.stake_of(node).await?;
        let printed = self.stage.cli(&auditor.folder, &["audit", "prove", &handed_over(auditor, &forged)?]).await?;
        let after = self.chain.stake_of(node).await?;
        // A shortened source may be too short or too light besides: whatever is proven first costs the stake.
        let found = printed["faults"].as_array().is_some_and(|faults| faults.iter().any(|fault| fault["fault"] == lie.fault()));
        ensure!(found, "a source {} was to be proven as {}, not {}", lie.name(), lie.fault(), printed["faults"]);
        ensure!(after < before, "the stake of {node} is still {after} wei after a source {}", lie.name());
        Ok(Proven { lie, node, receipt, before, after, printed })
    }

    /// Has the slash divided as soon as its delay is over; how it was.
    async fn divide(&self, folder: &Path, fault: Hash32) -> anyhow::Result<Value> {
        let deadline = tokio::time::Instant::now() + CHAIN_WAIT;
        loop {
            let (is_done, printed, error) = self.stage.cli_outcome(folder, &["stake", "release", &fault.to_string()]).await?;
            if is_done {
                return Ok(printed["slashes"][0].clone());
            }
            let reason = printed["error"].as_str().unwrap_or(&error);
            ensure!(tokio::time::Instant::now() < deadline, "the slash was not divided: {reason}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells a lie in an honest receipt with a span, and signs it again with the node's own key. Each lie takes another receipt, as long as there are.
    fn forge(&self, lie: Lie) -> anyhow::Result<(PathBuf, Address, Hash32)> {
        let receipts = self.receipts()?;
        let bundles = receipts.iter().map(|path| Ok(Bundle::from_json(&std::fs::read(path)?)?)).collect::<anyhow::Result<Vec<_>>>()?;
        let with_span: Vec<Bundle> = bundles.into_iter().filter(|bundle| !bundle.receipt.document.spans.is_empty()).collect();
        let place = Lie::ALL.iter().position(|other| *other == lie).unwrap_or_default();
        // Of a source that is the node's own, to pay the node is no lie: then another receipt is taken.
        let mut told = None;
        for bundle in with_span.iter().cycle().skip(place).take(with_span.len()) {
            let mut receipt = bundle.receipt.document.clone();
            lie.tell(&mut receipt, &bundle.answer)?;
            if receipt != bundle.receipt.document {
                told = Some((bundle.clone(), receipt));
                break;
            }
        }
        let (mut bundle, receipt) = told.context("no receipt carries a span that the lie could be told of")?;
        let (account, hash) = (receipt.node, receipt.hash());
        let party = self.nodes.iter().find(|node| node.account == account).context("the receipt is one of the five nodes'")?;
        let key = self.stage.context(party).account()?;
        bundle.receipt = Signed::new(&key, &bundle.domains, receipt);
        let path = self.options.out.join(format!("forged-{place}.json"));
        write_atomic(&path, bundle.to_json().as_bytes(), 0o644)?;
        Ok((path, account, hash))
    }

    /// The offline command of every bundle, as a person would type it here.
    pub fn verify_commands(&self) -> anyhow::Result<Vec<String>> {
        let exe = self.shown_path(&self.stage.exe());
        Ok(self.receipts()?.iter().map(|path| format!("{} receipt verify {}", quoted(&exe), quoted(&self.shown_path(path)))).collect())
    }
}

/// A copy of a bundle in somebody's own folder.
fn handed_over(party: &Party, path: &Path) -> anyhow::Result<String> {
    let copy = party.folder.join("bundles").join(path.file_name().context("a bundle has a name")?);
    write_atomic(&copy, &std::fs::read(path)?, 0o644)?;
    copy.to_str().map(str::to_owned).context("the output folder's path is not text")
}

/// A word of a shell's command line.
pub fn quoted(word: &str) -> String {
    let is_plain = word.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-+=:@".contains(letter));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Runs the commands in a shell, from here; nothing else needs to be running.
pub async fn run_offline(commands: &[String]) -> anyhow::Result<Vec<f64>> {
    let mut took_ms = Vec::new();
    for line in commands {
        let since = std::time::Instant::now();
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", line]).stdin(std::process::Stdio::null()).kill_on_drop(true);
        // Nothing of the demonstration's surroundings helps it.
        for name in ["TRIBUTARY_DATA", "TRIBUTARY_REGISTRY", "TRIBUTARY_RPC", "TRIBUTARY_PASSWORD", "TRIBUTARY_PASSWORD_FILE"] {
            command.env_remove(name);
        }
        let done = command.output().await?;
        took_ms.push(since.elapsed().as_secs_f64() * 1e3);
        ensure!(done.status.success(), "`{line}` ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(took_ms)
}

/// Rows of the gas table.
pub fn gas_rows(gas: &std::collections::BTreeMap<String, chain_bridge::devnet::gas::FunctionGas>) -> Vec<Vec<String>> {
    let row = |(name, spent): (&String, &chain_bridge::devnet::gas::FunctionGas)| {
        let range = if spent.least == spent.most { spent.least.to_string() } else { format!("{} to {}", spent.least, spent.most) };
        vec![name.clone(), spent.count.to_string(), range, spent.l2_wei.to_string()]
    };
    gas.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_line_survive_the_shell() {
        assert_eq!(quoted("target/demo/receipts/0f-0.json"), "target/demo/receipts/0f-0.json");
        assert_eq!(quoted("my demo"), "'my demo'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }

    #[tokio::test]
    async fn an_offline_command_that_fails_is_named() {
        assert_eq!(run_offline(&["true".into(), "test -z \"$TRIBUTARY_RPC\"".into()]).await.unwrap().len(), 2);
        let error = run_offline(&["echo no >&2; exit 3".into()]).await.unwrap_err().to_string();
        assert!(error.contains("exit 3") && error.contains("no"), "{error}");
    }
}
