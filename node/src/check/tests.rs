use attribution::{answer::answer_root, bundle::assets, index::Index, parameters::Parameters, prompt::prompt_bytes, span::attribute};
use chain_bridge::registry::{Event, Logged};
use inference::{
    engine::{EngineConfig, Start, Step},
    tiny,
};
use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    manifest::{AssetKind, Manifest, ManifestAsset},
    options::{GRAMMAR_ENGINE, Grammar, GrammarKind, Options},
    quote::{Class, Profile, Quote},
    receipt::{Receipt, token_ids_hash},
    request::Request,
    split::{SplitTable, fee},
    text::prompt_root,
    time::BlockRef,
    voucher::{Lane, Voucher},
};

use super::*;
use crate::service::index::store::Indexes;

/// A model of two layers, an answer by it, and both sides' signatures.
struct Case {
    engine: EngineHandle,
    checker: Account,
    node: Account,
    offer: Arc<Offer>,
    bundle: Bundle,
    _folder: tempfile::TempDir,
}

fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

fn domains() -> Domains {
    Domains { chain_id: 901, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
}

/// An honest node follows the options that were signed.
async fn generate(
    engine: &EngineHandle,
    request: &Signed<Request>,
    messages: &[attribution::prompt::Message],
    options: &Options,
) -> (u32, Vec<u32>, Reason) {
    let prompt = engine.prompt_tokens(&messages.iter().map(message).collect::<Vec<_>>()).unwrap();
    let tokens_in = u32::try_from(prompt.len()).unwrap();
    let mut generation = engine.begin(Start::new(prompt, options.clone(), request.seed().0, request.document.tokens_max)).await.unwrap();
    let mut tokens = Vec::new();
    loop {
        match generation.next().await.unwrap() {
            Step::Token { token, .. } => tokens.push(token),
            Step::End(Finish::Stop) => return (tokens_in, tokens, Reason::Stop),
            Step::End(Finish::Length) => return (tokens_in, tokens, Reason::Length),
        }
    }
}

async fn case() -> Case {
    case_from(0, &Options::default(), &Options::default()).await
}

/// The answer from token `first` on; what stands before it came from an earlier attempt. Asked for under some options, made under others.
async fn case_from(first: usize, options: &Options, made: &Options) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny.gguf");
    tiny::write_model(&model, 7).unwrap();
    let engine = EngineHandle::start(EngineConfig::new(model)).unwrap();
    let (node, client, domains) = (account(7), account(8), domains());
    let index = Index::new(vec![]).unwrap();
    let version = AssetVersion { asset: AssetId(1), version: 1 };
    let manifest = Manifest {
        assets: vec![ManifestAsset { kind: AssetKind::Base, version, content: BlobId(engine.info().hash) }],
        split: SplitTable { node: 6_500, base: 2_000, data: 1_000, stakers: 500, ..SplitTable::default() },
        index: index.root(),
        parameters: 1,
        datanets: vec![],
    };
    let messages = vec![attribution::prompt::Message { role: Role::User, content: "What is gout?".into() }];
    let prompt = prompt_bytes(&messages);
    let (prompt_salt, answer_salt) = (Hash32([5; 32]), Hash32([6; 32]));
    let block = BlockRef { number: 200, hash: Hash32([9; 32]) };
    let quote = Quote {
        node: node.address(),
        manifest: manifest.root(),
        profile: Profile::Exact,
        class: Class::Open,
        rate_in: Amount(1_500_000_007),
        rate_out: Amount(4_000_000_003),
        protocol_fee: Amount(1_000),
        tokens_max: 24,
        block,
        expiry: 260,
    };
    let request = Request {
        client: client.address(),
        nonce: 1,
        manifest: manifest.root(),
        rate_in_max: quote.rate_in,
        rate_out_max: quote.rate_out,
        profile: Profile::Exact,
        class: Class::Open,
        sampling: options.sampling(),
        options: options.digest(),
        prompt_root: prompt_root(&prompt, prompt_salt),
        tokens_max: 24,
        spending_limit: Amount(1_000_000_000_000),
    };
    let request = Signed::new(&client, &domains, request);
    let lane = Lane { payer: client.address(), node: node.address(), cap: Amount(1 << 60), expiry: 1_000, nonce: 1 };
    let (prompt_tokens, mut continued, reason) = generate(&engine, &request, &messages, made).await;
    let token_ids = continued.split_off(first);
    let first_token = u32::try_from(first).unwrap();
    let tokens_in = prompt_tokens + first_token;
    let tokens_out = u32::try_from(token_ids.len()).unwrap();
    let answer = text::canonical_lossy(&engine.text(&made.stop, &continued, &token_ids));
    let fee = fee(tokens_in, tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee).unwrap();
    let voucher = Voucher {
        lane: lane.id(),
        request: request.document.id(),
        attempt: u16::from(first > 0),
        quote: quote.hash(),
        first_token,
        tokens_in,
        tokens_out,
        token_ids: token_ids_hash(&[continued.as_slice(), &token_ids].concat()),
        base: Amount(5),
        cumulative: Amount(5).plus(fee).unwrap(),
    };
    let found = attribute(&index, Parameters::builtin(1).unwrap(), &prompt, &answer).unwrap();
    let receipt = Receipt {
        request: request.document.id(),
        attempt: voucher.attempt,
        client: client.address(),
        node: node.address(),
        lane: lane.id(),
        cumulative_after: voucher.cumulative,
        manifest: manifest.root(),
        index: index.root(),
        parameters: 1,
        profile: Profile::Exact,
        class: Class::Open,
        block,
        prompt_root: request.document.prompt_root,
        answer_root: answer_root(&answer, &found.words, answer_salt),
        token_ids: voucher.token_ids,
        tokens_in,
        first_token,
        tokens_out,
        quote: quote.hash(),
        fee,
        reason,
        weight_total: found.weight_total,
        fingerprint_root: Hash32::ZERO,
        assets: assets(&manifest),
        spans: found.spans,
        masks: found.masks,
    };
    let bundle = Bundle {
        domains,
        receipt: Signed::new(&node, &domains, receipt),
        request,
        options: options.beside(),
        quote: Signed::new(&node, &domains, quote),
        lane: Signed::new(&client, &domains, lane),
        session: None,
        voucher: Signed::new(&client, &domains, voucher),
        manifest: manifest.clone(),
        messages,
        prompt_salt,
        answer,
        answer_salt,
        continued,
        token_ids,
        openings: vec![],
        fingerprints: vec![],
    };
    let offer = Arc::new(Offer { manifest, index: Arc::new(index), adapter: None, indexes: Arc::new(Indexes::in_memory()) });
    Case { engine, checker: account(9), node, offer, bundle, _folder: folder }
}

impl Case {
    async fn check(&self, bundle: &Bundle) -> anyhow::Result<CheckReport> {
        let report = check_under(&self.engine, &self.checker, &domains(), &self.offer, bundle).await?;
        report.verify(&domains(), self.checker.address())?;
        assert_eq!(report.document.receipt, bundle.receipt.document.hash());
        Ok(report.document)
    }
}

#[tokio::test]
async fn an_honest_answer_agrees_and_a_changed_token_is_named() {
    let case = case().await;
    let tokens = case.bundle.token_ids.len();
    assert!(tokens > 4, "the model ended after {tokens} tokens");
    let honest = case.check(&case.bundle).await.unwrap();
    assert_eq!((honest.finding, honest.position), (Finding::Agrees, 0));
    assert_eq!(case.check(&case.bundle).await.unwrap().trace, honest.trace, "a second look gives the same trace");

    let mut tampered = case.bundle.clone();
    let place = tokens / 2;
    tampered.token_ids[place] = if tampered.token_ids[place] == 70 { 71 } else { 70 };
    let found = case.check(&tampered).await.unwrap();
    assert_eq!((found.finding, found.position), (Finding::Token, u32::try_from(place).unwrap()));
    assert_ne!(found.trace, honest.trace);
}

#[tokio::test]
async fn a_changed_answer_fee_and_signature_are_told_apart() {
    let case = case().await;
    let resigned = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = case.bundle.clone();
        change(&mut bundle);
        bundle.receipt = Signed::new(&case.node, &bundle.domains, bundle.receipt.document);
        bundle
    };
    let text = case.check(&resigned(&|bundle| bundle.answer.push('x'))).await.unwrap();
    assert_eq!((text.finding, text.position), (Finding::Text, u32::try_from(case.bundle.answer.len()).unwrap()));
    let fee = case.check(&resigned(&|bundle| bundle.receipt.document.fee.0 += 1)).await.unwrap();
    assert_eq!(fee.finding, Finding::Split);
    let mut unsigned = case.bundle.clone();
    unsigned.receipt.document.weight_total += 1;
    // Nobody signed it: not one token is executed, so even an absurd list of them is answered at once.
    unsigned.token_ids = vec![u32::MAX; 100_000];
    assert_eq!(case.check(&unsigned).await.unwrap().finding, Finding::Signature);
}

#[tokio::test]
async fn what_cannot_be_executed_is_refused_with_its_reason() {
    let case = case().await;
    let says = |bundle: Bundle, expected: &'static str| {
        let case = &case;
        async move {
            let error = format!("{:#}", case.check(&bundle).await.unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
    };
    let mut foreign = case.bundle.clone();
    foreign.domains.chain_id = 1;
    says(foreign, "another deployment").await;
    let mut quick = case.bundle.clone();
    quick.receipt.document.profile = Profile::Fast;
    says(quick, "the profile fast, this node executes in exact").await;
    // Under other rules a grammar may allow other tokens: that is nobody's fault.
    let grammar = Grammar { engine: GRAMMAR_ENGINE + 1, ..Grammar::new(GrammarKind::Schema, "{}") };
    let other = case_from(0, &Options { grammar: Some(grammar), ..Options::default() }, &Options::default()).await;
    let error = format!("{:#}", other.check(&other.bundle).await.unwrap_err());
    assert!(error.contains("this node has engine"), "{error}");
}

#[tokio::test]
async fn an_answer_that_goes_on_from_another_node_s_tokens_is_executed_with_them() {
    let case = case_from(3, &Options::default(), &Options::default()).await;
    bundle::verify(&case.bundle).unwrap();
    assert_eq!((case.bundle.receipt.document.first_token, case.bundle.continued.len()), (3, 3));
    let honest = case.check(&case.bundle).await.unwrap();
    assert_eq!((honest.finding, honest.position), (Finding::Agrees, 0));

    let mut tampered = case.bundle.clone();
    tampered.token_ids[1] = if tampered.token_ids[1] == 70 { 71 } else { 70 };
    let found = case.check(&tampered).await.unwrap();
    assert_eq!((found.finding, found.position), (Finding::Token, 4), "counted from the answer's first token");

    // Other earlier tokens than those both sides signed for are nobody's answer: the voucher's hash names them.
    for change in [(|bundle| bundle.continued[0] ^= 1) as fn(&mut Bundle), |bundle| bundle.continued.clear()] {
        let mut bundle = case.bundle.clone();
        change(&mut bundle);
        let faults = bundle::verify(&bundle).unwrap_err();
        assert!(faults.0.iter().any(|fault| fault.field == "token ids"), "{faults}");
        assert_eq!(case.check(&bundle).await.unwrap().finding, Finding::Token);
    }
}

#[tokio::test]
async fn a_node_that_answered_by_other_options_than_were_signed_is_found_out() {
    let asked = Options { temperature_milli: 800, repeat_milli: 1_400, min_p_ppm: 10_000, ..Options::default() };
    let honest = case_from(2, &asked, &asked).await;
    bundle::verify(&honest.bundle).unwrap();
    assert_eq!(honest.check(&honest.bundle).await.unwrap().finding, Finding::Agrees, "what was continued counts for penalties");
    // The documents agree with each other: only the tokens tell.
    let cheat = case_from(0, &asked, &Options { repeat_milli: 1_000, ..asked.clone() }).await;
    bundle::verify(&cheat.bundle).unwrap();
    assert_eq!(cheat.check(&cheat.bundle).await.unwrap().finding, Finding::Token);
    // Nobody signed for these: nothing is executed.
    let mut other = honest.bundle.clone();
    other.options = Options { repeat_milli: 1_401, ..asked }.beside();
    other.token_ids = vec![u32::MAX; 100_000];
    assert_eq!(honest.check(&other).await.unwrap().finding, Finding::Signature);
}

#[tokio::test]
async fn an_answer_ends_with_its_stop_string_and_none_of_that_is_its_text() {
    let plain = case().await;
    let text = plain.engine.decode(&plain.bundle.token_ids);
    let pair = text.windows(2).skip(text.len() / 2).find(|pair| pair.is_ascii()).unwrap();
    let stop = Options { stop: vec![String::from_utf8(pair.to_vec()).unwrap()], ..Options::default() };
    let honest = case_from(0, &stop, &stop).await;
    assert_eq!(honest.bundle.receipt.document.reason, Reason::Stop);
    assert_eq!(honest.check(&honest.bundle).await.unwrap().finding, Finding::Agrees);
    let beyond = case_from(0, &stop, &Options::default()).await;
    let found = beyond.check(&beyond.bundle).await.unwrap();
    assert_eq!((found.finding, found.position as usize), (Finding::Token, honest.bundle.token_ids.len()), "the first token too many");
    let mut shown = honest.bundle.clone();
    shown.answer = text::canonical_lossy(&honest.engine.decode(&shown.token_ids));
    assert_ne!(shown.answer, honest.bundle.answer);
    shown.receipt = Signed::new(&honest.node, &shown.domains, shown.receipt.document);
    assert_eq!(honest.check(&shown).await.unwrap().finding, Finding::Text);
}

#[tokio::test]
async fn only_the_operator_and_staked_nodes_have_an_answer_executed_and_one_at_a_time() {
    let (own, staked, left, stranger) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]), NodeId([4; 32]));
    let mut state = State::default();
    for (place, (node, stake)) in (1_u64..).zip([(staked, 5), (left, 0)]) {
        let event = Event::NodeRegistered {
            account: Address([u8::try_from(place).unwrap(); 20]),
            node,
            incarnation: 1,
            payout: Address([9; 20]),
            stake: Amount(stake),
        };
        let block = BlockRef { number: place, hash: Hash32([9; 32]) };
        state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
    }
    let checks = Checks::new(own);
    for remote in [stranger, left] {
        let refusal = checks.admit(remote, &state).unwrap_err();
        assert!(refusal.code == RefusalCode::Invalid && refusal.message.contains("stake on the chain"), "{refusal:?}");
    }
    for remote in [own, staked] {
        let turn = checks.admit(remote, &state).unwrap();
        let busy = checks.admit(own, &state).unwrap_err();
        assert!(busy.code == RefusalCode::Busy && busy.message.contains("one at a time"), "{busy:?}");
        drop(turn);
    }
}

#[test]
fn roles_of_a_bundle_are_those_of_the_engine() {
    let roles =
        [(Role::System, inference::Role::System), (Role::User, inference::Role::User), (Role::Assistant, inference::Role::Assistant)];
    for (role, expected) in roles {
        let converted = message(&attribution::prompt::Message { role, content: "x".into() });
        assert_eq!((converted.role, converted.content.as_str()), (expected, "x"));
    }
}
