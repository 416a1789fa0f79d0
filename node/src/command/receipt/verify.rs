//! The check of a receipt, one line per question asked of it.

use std::path::Path;

use attribution::bundle::{self, Bundle, Fault, Faults, Verified};
use chain_bridge::registry::State;
use serde::Serialize;
use types::{
    amount::Amount,
    encoding::Document as _,
    fingerprint::count,
    id::Hash32,
    key::Domains,
    receipt::{Finding, Reason, Receipt},
};

use super::{reading, texts};
use crate::{
    command::{Context, Failed, index::indexes},
    datanet::erased::Erased,
    output::{money, table},
};

/// What is asked of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Question {
    /// Five signatures by the accounts that the documents name.
    Signatures,
    /// Receipt, request, quote, lane, voucher and manifest name each other.
    Identities,
    /// Counts and token ids are those the client signed.
    Tokens,
    /// Fingerprints of activations are those of the receipt's root, or there are none where there is none.
    Fingerprints,
    /// The manifest is well formed, and its index and parameters are the receipt's.
    Manifest,
    /// Fee by the quote, within every limit, divided without rest.
    Fee,
    /// Prompt and answer are what was committed to.
    Text,
    /// What the prompt held already is not paid.
    Masks,
    /// W is the sum of the unmasked words' weights.
    Weight,
    /// Each span's text, place, weight and payee lead to the index root.
    Spans,
    /// A search of the whole index finds the same spans.
    Search,
    /// The model's tokenizer reads the tokens as the answer, and counts the question's as they were billed.
    Reading,
}

const OFFLINE: [Question; 10] = [
    Question::Signatures,
    Question::Identities,
    Question::Tokens,
    Question::Fingerprints,
    Question::Manifest,
    Question::Fee,
    Question::Text,
    Question::Masks,
    Question::Weight,
    Question::Spans,
];

impl Question {
    /// The question that a fault answers with no.
    fn of(fault: &Fault) -> Self {
        let field = fault.field.as_str();
        match fault.finding {
            Finding::Signature if field.ends_with("signature") => Self::Signatures,
            Finding::Agrees | Finding::Signature => Self::Identities,
            Finding::Token => Self::Tokens,
            Finding::Activations => Self::Fingerprints,
            Finding::Text => Self::Text,
            Finding::Split if field.starts_with("manifest") => Self::Manifest,
            Finding::Split => Self::Fee,
            Finding::Attribution if field.starts_with("mask") => Self::Masks,
            Finding::Attribution if field.starts_with("total weight") => Self::Weight,
            Finding::Attribution if field.starts_with("span") || field == "openings" => Self::Spans,
            Finding::Attribution => Self::Manifest,
        }
    }

    /// What was looked at.
    fn asked(self, receipt: &Receipt) -> String {
        match self {
            Self::Signatures => "receipt, quote, request, lane and voucher are signed by whom they name".to_owned(),
            Self::Identities => "the documents name each other, the same client, node, manifest, block, profile and options".to_owned(),
            Self::Tokens => format!(
                "{} input and {} output tokens from number {}, as the client signed them",
                receipt.tokens_in, receipt.tokens_out, receipt.first_token
            ),
            Self::Fingerprints => fingerprints(receipt),
            Self::Manifest => "its split is whole, its treasuries are its Datanets', its index and parameters are the receipt's".to_owned(),
            Self::Fee => format!("{} are due by the quote, within every limit, and divide without rest", money(receipt.fee)),
            Self::Text => "question and answer give the roots that were signed".to_owned(),
            Self::Masks => format!("runs that stand in the prompt ({}) are not paid", receipt.masks.len()),
            Self::Weight => format!("the unmasked words weigh {}/256 bit", receipt.weight_total),
            Self::Spans => {
                format!("spans ({}): what is shown of text, place, weight and payee leads to the index root", receipt.spans.len())
            }
            Self::Search => "a new search of the whole index finds the same spans".to_owned(),
            Self::Reading => "the model's tokenizer reads the token ids as the answer, and counts the question's as billed".to_owned(),
        }
    }
}

/// What the receipt says of activations.
fn fingerprints(receipt: &Receipt) -> String {
    match receipt.fingerprint_root {
        Hash32::ZERO => format!("none, as in the profile {}", receipt.profile),
        root => format!("{} of activations in the profile {} give the root {root}", count(receipt.tokens_out), receipt.profile),
    }
}

/// How far a receipt is checked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Depth<'a> {
    /// Search the index anew.
    pub(super) full: bool,
    /// The base model's file.
    pub(super) model: Option<&'a Path>,
    /// Folder of the texts.
    pub(super) texts: Option<&'a Path>,
    /// Ask the chain whether the index root was refuted.
    pub(super) chain: bool,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Check {
    check: Question,
    is_ok: bool,
    asked: String,
    faults: Vec<FaultRow>,
}

/// A field that does not stand.
#[derive(Debug, Clone, Serialize)]
struct FaultRow {
    field: String,
    problem: String,
    finding: Finding,
    position: u32,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Outcome {
    receipt: Hash32,
    is_ok: bool,
    is_full: bool,
    checks: Vec<Check>,
    /// What was proven of the index root on the chain. The receipt is judged by its root still, and paid as it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    refuted: Option<String>,
    /// What this run did not look at, and so stands on the node's or nobody's word.
    unchecked: Vec<String>,
    /// Sum of the fee's parts, if all stands.
    parts_wei: Option<Amount>,
    /// The fields that do not stand, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Faults by the question that they answer with no.
type Answers = Vec<(Question, Vec<Fault>)>;

/// Verifies a bundle from itself, and as far as asked with the index rebuilt and the tokens read; fails if anything does not stand.
pub(super) async fn run(context: &Context, file: &Path, depth: Depth<'_>) -> anyhow::Result<()> {
    let bundle = super::read(file)?;
    let verified = bundle::verify(&bundle);
    let (mut answers, mut erased) = (offline(&verified), None);
    if depth.full && verified.is_ok() {
        let index = match depth.texts {
            Some(folder) => texts::from_folder(&indexes(context)?, folder, &bundle.manifest).map(Some)?,
            None => match texts::from_data(context, &bundle.manifest).await {
                Ok(index) => Some(index),
                Err(error) => {
                    let found =
                        error.downcast::<Erased>().map_err(|error| error.context("--full needs the text of every declared Datanet"))?;
                    erased = Some(found);
                    None
                }
            },
        };
        if let Some(index) = index {
            // Everything else stands by now, so whatever the search finds is its own.
            answers.push((Question::Search, faults(bundle::verify_full(&bundle, &index))));
        }
    }
    if let Some(model) = depth.model {
        answers.push((Question::Reading, faults(bundle::compare_reading(&bundle, &reading::read(&bundle, model)?))));
    }
    let own = context.deployment().ok().map(|deployment| deployment.domains());
    let mut outcome = outcome(&bundle, verified.ok().as_ref(), answers, own)?;
    if depth.chain {
        let chain = context.chain_reader().await?;
        let is_its = chain.client.domains() == bundle.domains;
        let asked = if is_its {
            let state = chain.state().await?;
            asked_of(&state, &bundle.receipt.document)
        } else {
            Err(OTHER_CHAIN.to_owned())
        };
        match asked {
            Ok(refuted) => outcome.refuted = refuted,
            Err(unchecked) => outcome.unchecked.push(unchecked),
        }
    } else {
        outcome.unchecked.push("that its index root was not refuted on the chain: --chain".to_owned());
    }
    if let Some(erased) = erased {
        // The receipt's hashes stand without the text; only what they do not hold cannot be looked for any more.
        outcome.unchecked.push(format!("the whole index, which cannot be searched again here: {erased}"));
    }
    context.output.result(&outcome, || describe(&outcome))?;
    match outcome.error {
        None => Ok(()),
        Some(error) => Err(Failed(format!("{}: {error}", file.display())).into()),
    }
}

fn faults<T>(verified: Result<T, Faults>) -> Vec<Fault> {
    verified.err().map_or_else(Vec::new, |faults| faults.0)
}

fn offline(verified: &Result<Verified, Faults>) -> Answers {
    let all = verified.as_ref().err().map_or(&[][..], |faults| &faults.0);
    OFFLINE.into_iter().map(|asked| (asked, all.iter().filter(|fault| Question::of(fault) == asked).cloned().collect())).collect()
}

fn outcome(bundle: &Bundle, verified: Option<&Verified>, answers: Answers, own: Option<Domains>) -> anyhow::Result<Outcome> {
    let receipt = &bundle.receipt.document;
    let is_asked = |asked| answers.iter().any(|(question, _)| *question == asked);
    let (is_full, is_read) = (is_asked(Question::Search), is_asked(Question::Reading));
    let all: Vec<Fault> = answers.iter().flat_map(|(_, faults)| faults.clone()).collect();
    let is_ok = verified.is_some() && all.is_empty();
    let check = |(asked, faults): (Question, Vec<Fault>)| Check {
        check: asked,
        is_ok: faults.is_empty(),
        asked: asked.asked(receipt),
        faults: faults.iter().map(row).collect(),
    };
    let mut unchecked = unchecked(bundle, is_full, is_read, own);
    if !(is_full && is_ok) {
        unchecked.extend(verified.and_then(|verified| hidden(&verified.unseen)));
    }
    let parts = verified.filter(|_| is_ok).map(|verified| Amount::sum(verified.parts.iter().map(|part| part.1))).transpose()?;
    Ok(Outcome {
        receipt: receipt.hash(),
        is_ok,
        is_full,
        checks: answers.into_iter().map(check).collect(),
        refuted: None,
        unchecked,
        parts_wei: parts,
        error: (!is_ok).then(|| format!("the receipt does not verify: {}", Faults(all))),
    })
}

/// What a chain says that is not the receipt's.
const OTHER_CHAIN: &str =
    "that its index root was not refuted: the chain at hand is not of the deployment that it names, and knows nothing of it";

/// What the chain says of a receipt's index root: that it was proven wrong, or nothing against it; the error is that the chain knows no such root.
fn asked_of(state: &State, receipt: &Receipt) -> Result<Option<String>, String> {
    let refuted = refuted(state, receipt);
    let is_posted = || state.versions().any(|(version, _)| state.index(version).is_some_and(|posted| posted.root == receipt.index));
    if refuted.is_none() && !is_posted() {
        return Err(format!("its index root {}, which was posted for no version on this chain: nobody could refute it", receipt.index));
    }
    Ok(refuted)
}

/// That a receipt's index root was proven wrong, if it was.
fn refuted(state: &State, receipt: &Receipt) -> Option<String> {
    let (version, refuted) = state.refuted_root(receipt.index)?;
    Some(format!(
        "index root {} of version {version} was refuted in block {} (fault X, mode {}): what it says of sources may be wrong, though the receipt agrees with it",
        refuted.root, refuted.block, refuted.mode
    ))
}

/// What a receipt says that this run took on somebody's word, and who or what would show it.
fn unchecked(bundle: &Bundle, is_full: bool, is_read: bool, own: Option<Domains>) -> Vec<String> {
    let (receipt, domains) = (&bundle.receipt.document, &bundle.domains);
    let mut left = Vec::new();
    let place = format!("the deployment it names: chain {}, settlement {}", domains.chain_id, domains.settlement);
    match own {
        Some(own) if own == *domains => {}
        Some(_) => left.push(format!("{place}, which is NOT the one of this folder's registry.json")),
        None => left.push(format!("{place}; no registry.json is at hand to compare")),
    }
    left.push(format!("that the model gives these tokens, and that the answer ended by {}: `audit check`", reason(receipt.reason)));
    if let Some(session) = bundle.session {
        left.push(format!(
            "that {} lets the session key {session}, which signed {}, sign for it: the escrow's sessionOf",
            bundle.lane.document.payer,
            if bundle.request_signer() == session { "request, lane and voucher" } else { "lane and voucher" }
        ));
    }
    if receipt.fingerprint_root != Hash32::ZERO {
        left.push("that the model gives activations near the fingerprints: `audit check`".to_owned());
    }
    if !is_read {
        left.push("that the answer is the text of the tokens both sides signed: --model".to_owned());
    }
    if !is_full {
        left.push("that no source was left out: --full".to_owned());
    }
    left
}

/// What is not seen of spans in private Datanets.
fn hidden(unseen: &[u32]) -> Option<String> {
    let numbers = unseen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match unseen {
        [] => None,
        [_] => Some(format!("text of span {numbers} lies in a private Datanet: shown to grant holders, who verify it with --full")),
        _ => Some(format!("text of spans {numbers} lies in private Datanets: shown to grant holders, who verify it with --full")),
    }
}

/// Why an answer ended, in words: the node's alone, since nobody else signs it.
pub(super) const fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Stop => "the model's own end",
        Reason::Length => "a limit on tokens or money",
        Reason::Cancelled => "the client leaving",
        Reason::NoVoucher => "a voucher that did not come",
        Reason::EngineFailure => "a failure of the node's, so that nothing is billed",
        Reason::Empty => "having no text, so that nothing is billed",
    }
}

fn row(fault: &Fault) -> FaultRow {
    FaultRow { field: fault.field.clone(), problem: fault.problem.clone(), finding: fault.finding, position: fault.position }
}

fn describe(outcome: &Outcome) -> String {
    let mut rows = Vec::new();
    for check in &outcome.checks {
        let name = serde_json::to_value(check.check).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        rows.push(vec![if check.is_ok { "ok" } else { "FAILED" }.to_owned(), name, check.asked.clone()]);
        rows.extend(check.faults.iter().map(|fault| vec![String::new(), String::new(), format!("! {} {}", fault.field, fault.problem)]));
    }
    let verdict = match (outcome.is_ok, outcome.is_full) {
        (true, true) => "verifies, and nothing was left out",
        (true, false) => "verifies",
        (false, _) => "does NOT verify",
    };
    let unchecked: String = outcome.unchecked.iter().map(|left| format!("\n  {left}")).collect();
    let refuted = outcome.refuted.as_ref().map_or_else(String::new, |refuted| format!("\nBUT {refuted}"));
    format!("{}\n\nreceipt {} {verdict}{refuted}\nnot looked at here:{unchecked}", table(&["", "check", "asked"], &rows), outcome.receipt)
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::{
        id::{Address, AssetId, AssetVersion, BlobId},
        manifest::AssetKind,
        split::SplitTable,
        time::BlockRef,
    };

    use super::*;

    fn fault(finding: Finding, field: &str) -> Fault {
        Fault { field: field.into(), problem: "is 1, expected 2".into(), finding, position: 0 }
    }

    #[test]
    fn every_fault_belongs_to_one_question() {
        for (finding, field, question) in [
            (Finding::Signature, "receipt: signature", Question::Signatures),
            (Finding::Signature, "quote hash", Question::Identities),
            (Finding::Signature, "attempt", Question::Identities),
            (Finding::Token, "first token", Question::Tokens),
            (Finding::Activations, "fingerprint root", Question::Fingerprints),
            (Finding::Split, "manifest: treasury of Datanet 0", Question::Manifest),
            (Finding::Attribution, "index root", Question::Manifest),
            (Finding::Split, "voucher: cumulative", Question::Fee),
            (Finding::Text, "answer root", Question::Text),
            (Finding::Attribution, "mask 3", Question::Masks),
            (Finding::Attribution, "total weight W", Question::Weight),
            (Finding::Attribution, "span 1: payee", Question::Spans),
            (Finding::Attribution, "openings", Question::Spans),
        ] {
            assert_eq!(Question::of(&fault(finding, field)), question, "{field}");
        }
    }

    #[test]
    fn what_a_private_datanet_hides_is_said_by_the_spans_numbers() {
        assert_eq!(hidden(&[]), None);
        assert_eq!(hidden(&[2]).unwrap(), "text of span 2 lies in a private Datanet: shown to grant holders, who verify it with --full");
        assert!(hidden(&[0, 7]).unwrap().starts_with("text of spans 0, 7 lies in private Datanets"));
    }

    #[test]
    fn a_root_that_the_chain_never_heard_of_is_not_said_to_stand() {
        let bundle = Bundle::from_json(include_str!("../../../../tests/fixtures/bundles/honest-two-datanets.json").as_bytes()).unwrap();
        let receipt = &bundle.receipt.document;
        let version = AssetVersion { asset: AssetId(1), version: 1 };
        let published = Event::Published {
            version,
            content: BlobId([1; 32]),
            parents: vec![],
            split: SplitTable::default(),
            datanets: vec![],
            licence: Hash32::ZERO,
            parent_share_min: 0,
        };
        let registered = Event::Registered { asset: version.asset, kind: AssetKind::Base, owner: Address([9; 20]), uri: String::new() };
        let posted = |root| Event::IndexPosted { version, root, parameters: 1, indexer: Address([8; 20]), window_ends: 9 };
        let asked = |root| {
            let mut state = State::default();
            for (number, event) in (1..).zip([registered.clone(), published.clone(), posted(root)]) {
                let block = BlockRef { number, hash: Hash32::ZERO };
                state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
            }
            asked_of(&state, receipt)
        };
        assert_eq!(asked(receipt.index), Ok(None));
        let unknown = asked(Hash32([7; 32])).unwrap_err();
        assert!(unknown.contains(&receipt.index.to_string()) && unknown.contains("posted for no version"), "{unknown}");
    }

    #[test]
    fn a_failed_check_names_the_field_in_text_and_json() {
        let failed = Check {
            check: Question::Spans,
            is_ok: false,
            asked: "2 spans".into(),
            faults: vec![row(&fault(Finding::Attribution, "span 1: payee"))],
        };
        let passed = Check { check: Question::Fee, is_ok: true, asked: "5 wei".into(), faults: vec![] };
        let outcome = Outcome {
            receipt: Hash32([1; 32]),
            is_ok: false,
            is_full: false,
            checks: vec![passed, failed],
            refuted: Some("its root was refuted".into()),
            unchecked: vec!["that pigs fly".into()],
            parts_wei: None,
            error: Some("e".into()),
        };
        let text = describe(&outcome);
        assert!(
            text.contains("FAILED  spans")
                && text.contains("! span 1: payee is 1, expected 2")
                && text.contains("does NOT verify\nBUT its root was refuted")
                && text.contains("not looked at here:\n  that pigs fly"),
            "{text}"
        );
        let value = serde_json::to_value(&outcome).unwrap();
        assert_eq!(value["checks"][1]["faults"][0]["field"], "span 1: payee");
        assert_eq!((&value["checks"][0]["check"], &value["is_ok"], &value["error"]), (&"fee".into(), &false.into(), &"e".into()));
    }
}
