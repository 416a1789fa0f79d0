use attribution::{answer::answer_root, bundle::assets, index::Index, parameters::Parameters, prompt::prompt_bytes, span::attribute};
use inference::{
    engine::{EngineConfig, Start, Step},
    tiny,
};
use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, BlobId},
    manifest::{AssetKind, Manifest, ManifestAsset},
    quote::{Class, Profile, Quote},
    receipt::{Receipt, token_ids_hash},
    request::{Request, SamplingRule},
    split::{SplitTable, fee},
    text::prompt_root,
    time::BlockRef,
    voucher::{Lane, Voucher},
};

use super::*;

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

async fn generate(engine: &EngineHandle, request: &Signed<Request>, messages: &[attribution::prompt::Message]) -> (u32, Vec<u32>, Reason) {
    let prompt = engine.prompt_tokens(&messages.iter().map(message).collect::<Vec<_>>()).unwrap();
    let tokens_in = u32::try_from(prompt.len()).unwrap();
    let mut generation = engine.begin(Start::new(prompt, Sampling::GREEDY, request.seed().0, request.document.tokens_max)).await.unwrap();
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
        profile: Profile::CandleF32B1,
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
        profile: Profile::CandleF32B1,
        class: Class::Open,
        sampling: SamplingRule::default(),
        prompt_root: prompt_root(&prompt, prompt_salt),
        tokens_max: 24,
        spending_limit: Amount(1_000_000_000_000),
    };
    let request = Signed::new(&client, &domains, request);
    let lane = Lane { payer: client.address(), node: node.address(), cap: Amount(1 << 60), expiry: 1_000, nonce: 1 };
    let (tokens_in, token_ids, reason) = generate(&engine, &request, &messages).await;
    let tokens_out = u32::try_from(token_ids.len()).unwrap();
    let answer = text::canonical_lossy(&engine.decode(&token_ids));
    let fee = fee(tokens_in, tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee).unwrap();
    let voucher = Voucher {
        lane: lane.id(),
        request: request.document.id(),
        attempt: 0,
        quote: quote.hash(),
        first_token: 0,
        tokens_in,
        tokens_out,
        token_ids: token_ids_hash(&token_ids),
        base: Amount(5),
        cumulative: Amount(5).plus(fee).unwrap(),
    };
    let found = attribute(&index, Parameters::builtin(1).unwrap(), &prompt, &answer).unwrap();
    let receipt = Receipt {
        request: request.document.id(),
        attempt: 0,
        client: client.address(),
        node: node.address(),
        lane: lane.id(),
        cumulative_after: voucher.cumulative,
        manifest: manifest.root(),
        index: index.root(),
        parameters: 1,
        profile: Profile::CandleF32B1,
        class: Class::Open,
        block,
        prompt_root: request.document.prompt_root,
        answer_root: answer_root(&answer, &found.words, answer_salt),
        token_ids: voucher.token_ids,
        tokens_in,
        first_token: 0,
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
        quote: Signed::new(&node, &domains, quote),
        lane: Signed::new(&client, &domains, lane),
        voucher: Signed::new(&client, &domains, voucher),
        manifest: manifest.clone(),
        messages,
        prompt_salt,
        answer,
        answer_salt,
        token_ids,
        openings: vec![],
    };
    let offer = Arc::new(Offer { manifest, index: Arc::new(index), adapter: None });
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
    assert_eq!((text.finding, text.position), (Finding::Text, 0));
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
    let mut later = case.bundle.clone();
    let voucher = Voucher { first_token: 3, ..later.voucher.document };
    later.voucher = Signed::new(&account(8), &later.domains, voucher);
    later.receipt.document.first_token = 3;
    later.receipt = Signed::new(&case.node, &later.domains, later.receipt.document);
    says(later, "goes on from token 3").await;
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
