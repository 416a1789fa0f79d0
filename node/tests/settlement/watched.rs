//! What a node shows of its answers, to whom and until when; and what a contributor makes of it with its own text alone.

use std::sync::Arc;

use attribution::{
    answer::answer_root,
    bundle::{Bundle, openings},
    epoch::node_root,
    index::{DatanetIndex, Index, Segment, Source},
    message::{self, Ask, REPLY_BYTES_MAX, Reply},
    parameters::Parameters,
    prompt::{Message, Role, prompt_bytes},
    proof::find,
    span::{attribute, weigh},
    transcript::Transcript,
    watch::{Mine, Wrong, watch},
};
use chain_bridge::{
    client::ChainClient,
    devnet::{Devnet, DevnetConfig, Role as Key},
    fraud::calldata::Proof,
};
use node::{
    books::{Intent, Posting},
    service::settlement::Settling,
};
use p2p::{identity::NodeSeed, memory};
use serde_json::{Value, json};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, Hash32},
    key::{Account, Signed},
    manifest::{ManifestDatanet, treasury},
    proof::Claim,
    quote::Class,
    receipt::{Mask, Receipt},
    text::{prompt_root, text_root},
};

use super::world::{Operator, anvil, bundle, payer, until};

const FEE: Amount = Amount(10_001);
/// How long stake unbonds, and transcripts are shown behind both windows: longer than any test takes.
const UNBONDING_S: u64 = 36_000;
const TEXT: &str = "Bilateral sensorineural hearing impairment of congenital onset affecting speech development.\0";
const ANSWER: &str = "It is a sensorineural hearing impairment of congenital onset affecting speech development.";
const CONTRIBUTOR: Address = Address([0xa1; 20]);

pub(super) fn index() -> Index {
    let text = TEXT.as_bytes();
    let source = Source { contributor: CONTRIBUTOR, block: 1, ordinal: 0, text_root: text_root(text), text };
    let version = AssetVersion { asset: AssetId(3), version: 1 };
    let datanet = DatanetIndex::new(version, vec![Segment::build(&[source], 0).unwrap()]).unwrap();
    Index::new(vec![Arc::new(datanet)]).unwrap()
}

/// An answer that quotes the contribution, as the node would have attributed it, but for `change`; kept.
async fn answered(node: &Operator, payer: &Account, nonce: u64, class: Class, change: impl FnOnce(&mut Receipt)) -> Bundle {
    let bundle = made(node, payer, nonce, class, change).await;
    node.books.keep_receipt(&bundle, &bundle.lane, &bundle.voucher).unwrap();
    bundle
}

/// The same, kept nowhere.
pub(super) async fn made(node: &Operator, payer: &Account, nonce: u64, class: Class, change: impl FnOnce(&mut Receipt)) -> Bundle {
    let (index, parameters) = (index(), Parameters::builtin(1).unwrap());
    let mut bundle = bundle(node, payer, nonce, FEE, node.client().latest().await.unwrap().block);
    let version = AssetVersion { asset: AssetId(3), version: 1 };
    bundle.manifest.index = index.root();
    bundle.manifest.datanets = vec![ManifestDatanet { version, treasury: treasury(version.asset), weight: 1 }];
    bundle.messages = vec![Message { role: Role::User, content: "What is it?".into() }];
    (bundle.prompt_salt, bundle.answer, bundle.answer_salt) = (Hash32([5; 32]), ANSWER.to_owned(), Hash32([6; 32]));
    let prompt = prompt_bytes(&bundle.messages);
    let found = attribute(&index, parameters, &prompt, ANSWER).unwrap();
    let (mut quote, mut request) = (bundle.quote.document, bundle.request.document);
    (quote.manifest, quote.class) = (bundle.manifest.root(), class);
    (request.manifest, request.class) = (quote.manifest, class);
    request.prompt_root = prompt_root(&prompt, bundle.prompt_salt);
    let (mut voucher, mut receipt) = (bundle.voucher.document, bundle.receipt.document.clone());
    (voucher.request, voucher.quote) = (request.id(), quote.hash());
    (receipt.request, receipt.quote, receipt.manifest) = (voucher.request, voucher.quote, quote.manifest);
    (receipt.class, receipt.index, receipt.prompt_root) = (class, index.root(), request.prompt_root);
    receipt.answer_root = answer_root(ANSWER, &found.words, bundle.answer_salt);
    (receipt.weight_total, receipt.spans, receipt.masks) = (found.weight_total, found.spans, found.masks);
    change(&mut receipt);
    bundle.openings = openings(&index, &receipt.spans).unwrap();
    bundle.quote = Signed::new(&node.account, &bundle.domains, quote);
    bundle.request = Signed::new(payer, &bundle.domains, request);
    bundle.voucher = Signed::new(payer, &bundle.domains, voucher);
    bundle.receipt = Signed::new(&node.account, &bundle.domains, receipt);
    bundle
}

/// What a node signs that says these bytes, of this question, and masks the contributor's words falsely.
fn masked(node: &Operator, honest: &Bundle, question: &str, answer: &str) -> Bundle {
    let (mut bundle, parameters) = (honest.clone(), Parameters::builtin(1).unwrap());
    bundle.answer = answer.to_owned();
    bundle.messages[0].content = question.to_owned();
    bundle.openings.clear();
    let mut receipt = bundle.receipt.document;
    let (words, quote) = (weigh(parameters, answer), answer.find("sensorineural").unwrap());
    let hidden: u64 = words.iter().filter(|word| word.range.start >= quote).map(|word| u64::from(word.weight)).sum();
    receipt.weight_total = words.iter().map(|word| u64::from(word.weight)).sum::<u64>() - hidden;
    receipt.answer_root = answer_root(answer, &words, bundle.answer_salt);
    receipt.prompt_root = prompt_root(&prompt_bytes(&bundle.messages), bundle.prompt_salt);
    let (start, length) = (u32::try_from(quote).unwrap(), u32::try_from(answer.len() - 1 - quote).unwrap());
    (receipt.spans, receipt.masks) = (vec![], vec![Mask { start, length, prompt: 1 }]);
    bundle.receipt = Signed::new(&node.account, &bundle.domains, receipt);
    bundle
}

/// Submits a root over all these receipts, the only ones of the node's books; gives its epoch.
pub(super) async fn post(node: &Operator, bundles: &[Bundle]) -> u64 {
    let epoch = node.client().submission_epoch().await.unwrap();
    let receipts: Vec<_> = bundles.iter().map(|bundle| bundle.receipt.clone()).collect();
    let (root, seen) = (node_root(node.address(), epoch, &receipts).unwrap(), u64::try_from(bundles.len()).unwrap());
    let intent = Intent { epoch, posting: Posting { numbers: (0..seen).collect() }, unfunded: vec![], seen };
    node.books.sign(&intent, root.receipts).unwrap();
    node.client().submit_node_root(&Signed::new(&node.account, &bundles[0].domains, root)).await.unwrap();
    epoch
}

/// What a stranger is answered.
async fn asked(settling: &Settling, ask: Ask) -> Reply {
    let (near, mut far) = memory::pair();
    let (stranger, frame) = (NodeSeed::new([77; 32]).node_id(), message::encode(&ask));
    let reading = async {
        let reply = far.recv(REPLY_BYTES_MAX).await.unwrap().unwrap();
        drop(far);
        message::decode::<Reply>(&reply).unwrap()
    };
    tokio::join!(settling.serve(stranger, near, &frame), reading).1
}

async fn refused(settling: &Settling, ask: Ask) -> String {
    match asked(settling, ask).await {
        Reply::Refused(why) => why,
        other => panic!("answered: {other:?}"),
    }
}

async fn transcripts(settling: &Settling, epoch: u64, from: u64) -> Vec<Transcript> {
    match asked(settling, Ask::Transcripts { epoch, from }).await {
        Reply::Transcripts(page) => page,
        other => panic!("no transcripts: {other:?}"),
    }
}

pub(super) async fn connected(devnet: &Devnet, account: Account) -> ChainClient {
    ChainClient::connect(devnet.url(), devnet.deployment().clone(), Some(account)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_answer_is_shown_under_its_root_and_what_it_keeps_from_a_contributor_is_proved_by_who_saw_nothing_else() {
    let mut config = DevnetConfig::new(anvil());
    (config.deploy.unbonding_s, config.deploy.honour_s) = (UNBONDING_S, UNBONDING_S);
    let devnet = Devnet::start(config).await.unwrap();
    let parameters = Parameters::builtin(1).unwrap();
    connected(&devnet, Key::Governor.account()).await.approve_parameters(1, &parameters.encode()).await.unwrap();
    let node = Operator::new(&devnet, 1, false, &[]).await;
    let payer = payer(&devnet, 2).await;
    let settling = node.settling(false, false);

    let honest = answered(&node, &payer, 1, Class::Open, |_| {}).await;
    let closed = answered(&node, &payer, 2, Class::Checked, |_| {}).await;
    let liar = node.address();
    let omitted = answered(&node, &payer, 3, Class::Open, |receipt| receipt.spans.clear()).await;
    let reassigned = answered(&node, &payer, 4, Class::Open, |receipt| receipt.spans[0].payee = liar).await;
    let all = [honest, closed, omitted, reassigned];
    assert!(refused(&settling, Ask::Transcripts { epoch: 1, from: 0 }).await.contains("posted nothing"), "there is no root yet");
    let epoch = post(&node, &all).await;
    let mut books = settling.snapshots.clone();
    let has_root = |state: &chain_bridge::registry::State| state.epoch(epoch).is_some_and(|epoch| epoch.roots.contains_key(&liar));
    books.wait_for(|snapshot| has_root(&snapshot.latest)).await.unwrap();

    // Each place has its answer, the one that is not open none; pages go on from any place, and end.
    let shown = transcripts(&settling, epoch, 0).await;
    let are_open: Vec<bool> = shown.iter().map(|transcript| matches!(transcript, Transcript::Open(_))).collect();
    assert_eq!(are_open, [true, false, true, true]);
    assert_eq!(shown[1], Transcript::Closed);
    assert_eq!((transcripts(&settling, epoch, 2).await, transcripts(&settling, epoch, 4).await), (shown[2..].to_vec(), vec![]));
    assert_eq!(transcripts(&settling, epoch, u64::MAX).await, []);
    assert!(refused(&settling, Ask::Transcripts { epoch: epoch + 1, from: 0 }).await.contains("posted nothing"));

    // The contributor has its own text, and from the node what it shows.
    let own = index();
    let mine = Mine { account: CONTRIBUTOR, index: &own };
    let mut found = Vec::new();
    for (bundle, transcript) in all.iter().zip(&shown).filter(|(bundle, _)| bundle.receipt.document.class == Class::Open) {
        let read = transcript.read(&bundle.receipt, &devnet.deployment().domains()).unwrap();
        assert_eq!(read, *bundle);
        found.push((watch(&read, mine, parameters).missed, read));
    }
    let named: Vec<Vec<Wrong>> = found.iter().map(|(missed, _)| missed.iter().map(|missed| missed.wrong).collect()).collect();
    assert_eq!(named, [vec![], vec![Wrong::Omitted], vec![Wrong::Reassigned(0)]]);

    let (second, reporter) = (payer.clone(), connected(&devnet, payer).await);
    for (_, bundle) in &found[1..] {
        let proofs = find(bundle, parameters, &own).unwrap();
        let slashed = reporter.prove(liar, &Proof::attribution(&proofs[0])).await.unwrap();
        assert!(slashed.stake_after < slashed.stake_before, "{slashed:?}");
    }
    assert_eq!(find(&found[0].1, parameters, &own), Ok(vec![]), "an honest answer gives no proof");

    // Control characters in an answer hide a mask from nobody, neither one that is false nor one that is missing.
    let question = "Please tell me what it is";
    let answer = format!("\u{1}{question}\u{2}: {}", ANSWER.trim_start_matches("It is a "));
    for (nonce, is_it) in
        [(8, (|claim| matches!(claim, Claim::FalseMask(_))) as fn(&Claim) -> bool), (9, |claim| matches!(claim, Claim::MissingMask(_)))]
    {
        let honest = made(&node, &second, nonce, Class::Open, |_| {}).await;
        let bundle = masked(&node, &honest, question, &answer);
        assert_eq!(watch(&bundle, mine, parameters).missed.iter().map(|missed| missed.wrong).collect::<Vec<_>>(), [Wrong::Hidden(0)]);
        let proofs = find(&bundle, parameters, &own).unwrap();
        let proof = proofs.iter().find(|proof| is_it(&proof.claim)).expect("it is provable");
        let slashed = reporter.prove(liar, &Proof::attribution(proof)).await.unwrap();
        assert!(slashed.stake_after < slashed.stake_before, "{slashed:?}");
    }

    // Behind the time in which stake can be taken nothing is shown to anybody.
    let _: Value = node.client().rpc().request("anvil_mine", json!(["0x1", format!("{:#x}", 2 * UNBONDING_S)])).await.unwrap();
    let head = node.client().latest().await.unwrap().timestamp;
    until("the clock moves", async || settling.snapshots.borrow().heads.filter(|heads| heads.timestamp >= head)).await;
    assert!(refused(&settling, Ask::Transcripts { epoch, from: 0 }).await.contains("were shown until"));
    devnet.stop().await;
}
