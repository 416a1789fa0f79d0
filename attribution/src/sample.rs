//! One whole answer with its evidence, for tests: two Datanets, two paid spans, one mask.

use std::sync::Arc;

use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::{Account, Domains, Signed},
    manifest::{AssetKind, Manifest, ManifestAsset, ManifestDatanet, treasury},
    options::Options,
    quote::{Class, Profile, Quote},
    receipt::{Reason, Receipt, token_ids_hash},
    request::Request,
    split::{SplitTable, fee},
    text::{prompt_root, text_root},
    time::BlockRef,
    voucher::{Lane, Voucher},
};

use crate::{
    answer::answer_root,
    bundle::{Bundle, assets, openings},
    index::{DatanetIndex, Entry, Index, Segment, Source},
    parameters::Parameters,
    prompt::{Message, Role, prompt_bytes},
    span::attribute,
};

/// The parties and what they hold.
pub(crate) struct Sample {
    pub(crate) node: Account,
    pub(crate) index: Index,
    pub(crate) bundle: Bundle,
}

pub(crate) const FIRST: &str =
    "Bilateral sensorineural hearing impairment of congenital onset affecting speech development. Nothing else is known.";
pub(crate) const COPY: &str =
    "An older note says: bilateral sensorineural hearing impairment of congenital onset affecting speech development in infants.";
pub(crate) const SECOND: &str =
    "A generator expression yields a new generator object whenever the enclosing comprehension is evaluated lazily.";
pub(crate) const ANSWER: &str = "What you describe, sensorineural hearing impairment of congenital onset affecting speech development, matters. \
    In Python a generator expression yields a new generator object whenever the comprehension runs. \
    You asked about an unusual combination of questions from rather different disciplines.";
const QUESTION: &str = "Please answer an unusual combination of questions from rather different disciplines: hearing, and lazy evaluation.";

pub(crate) fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

pub(crate) fn datanet(asset: u64, texts: &[(u8, &str)]) -> Arc<DatanetIndex> {
    let texts: Vec<(u8, String)> = texts.iter().map(|(who, text)| (*who, format!("{text}\0"))).collect();
    let source = |(block, (who, text)): (u64, &(u8, String))| (Address([*who; 20]), block, text_root(text.as_bytes()), text.clone());
    let sources: Vec<_> = (10..).zip(&texts).map(source).collect();
    let sources: Vec<_> = sources
        .iter()
        .map(|(contributor, block, text_root, text)| Source {
            contributor: *contributor,
            block: *block,
            ordinal: 0,
            text_root: *text_root,
            text: text.as_bytes(),
        })
        .collect();
    Arc::new(DatanetIndex::new(AssetVersion { asset: AssetId(asset), version: 1 }, vec![Segment::build(&sources, 0).unwrap()]).unwrap())
}

/// A private Datanet of one contribution a text.
pub(crate) fn private(asset: u64, texts: &[(u8, &str)]) -> Arc<DatanetIndex> {
    let salt = |who: u8| Hash32([who ^ 0x33; 32]);
    let texts: Vec<(u8, Vec<u8>)> = texts.iter().map(|(who, text)| (*who, format!("{text}\0").into_bytes())).collect();
    let entry = |((who, text), block): (&'_ (u8, Vec<u8>), u64)| {
        let text_root = prompt_root(text, salt(*who));
        Entry::Salted(Source { contributor: Address([*who; 20]), block, ordinal: 0, text_root, text: text.clone().leak() }, salt(*who))
    };
    let entries: Vec<Entry<'_>> = texts.iter().zip(10..).map(entry).collect();
    let segment = Segment::build_entries(&entries, 0).unwrap();
    Arc::new(DatanetIndex::new(AssetVersion { asset: AssetId(asset), version: 1 }, vec![segment]).unwrap())
}

/// [`sample`] with the first Datanet private.
pub(crate) fn private_sample() -> Sample {
    let hidden = private(3, &[(0xa1, "Something unrelated about kidneys."), (0xa2, FIRST), (0xa3, COPY)]);
    let index = Index::new(vec![hidden, datanet(4, &[(0xb1, SECOND)])]).unwrap();
    let node = account(7);
    let bundle = answer(&node, &index, 0, ANSWER);
    Sample { node, index, bundle }
}

pub(crate) fn sample() -> Sample {
    let index = Index::new(vec![
        datanet(3, &[(0xa1, "Something unrelated about kidneys."), (0xa2, FIRST), (0xa3, COPY)]),
        datanet(4, &[(0xb1, SECOND)]),
    ])
    .unwrap();
    let node = account(7);
    let bundle = answer(&node, &index, 0, ANSWER);
    Sample { node, index, bundle }
}

/// An answer by `node`, attributed and signed by both sides.
pub(crate) fn answer(node: &Account, index: &Index, nonce: u64, answer: &str) -> Bundle {
    answer_under(Parameters::builtin(1).unwrap(), node, index, nonce, answer)
}

/// The same under a set of parameters that bears the number 1.
pub(crate) fn answer_under(parameters: &Parameters, node: &Account, index: &Index, nonce: u64, answer: &str) -> Bundle {
    let client = account(8);
    let domains = Domains {
        chain_id: 901,
        escrow: Address([1; 20]),
        registry: Address([2; 20]),
        settlement: Address([3; 20]),
        stake: Address([4; 20]),
    };
    let version = |asset| AssetVersion { asset: AssetId(asset), version: 1 };
    let manifest = Manifest {
        assets: vec![
            ManifestAsset { kind: AssetKind::Base, version: version(1), content: BlobId([1; 32]) },
            ManifestAsset { kind: AssetKind::Adapter, version: version(2), content: BlobId([2; 32]) },
        ],
        split: SplitTable { node: 5_500, agent: 0, base: 1_500, adapter: 1_500, data: 1_000, stakers: 500 },
        index: index.root(),
        parameters: 1,
        datanets: index
            .datanets()
            .iter()
            .map(|d| ManifestDatanet { version: d.version(), treasury: treasury(d.version().asset), weight: d.bytes() })
            .collect(),
    };
    let messages =
        vec![Message { role: Role::System, content: "You are brief.".into() }, Message { role: Role::User, content: QUESTION.into() }];
    let (prompt_salt, answer_salt) = (Hash32([5; 32]), Hash32([6; 32]));
    let prompt = prompt_bytes(&messages);
    let block = BlockRef { number: 200, hash: Hash32([9; 32]) };
    let quote = Quote {
        node: node.address(),
        manifest: manifest.root(),
        profile: Profile::Exact,
        class: Class::Checked,
        rate_in: Amount(1_500_000_007),
        rate_out: Amount(4_000_000_003),
        protocol_fee: Amount(1_000),
        tokens_max: 256,
        block,
        expiry: 260,
    };
    let options = Options { temperature_milli: 700, top_k: 40, min_p_ppm: 50_000, repeat_milli: 1_100, ..Options::default() };
    let request = Request {
        client: client.address(),
        nonce,
        manifest: manifest.root(),
        rate_in_max: Amount(2_000_000_000),
        rate_out_max: Amount(5_000_000_000),
        profile: Profile::Exact,
        class: Class::Checked,
        sampling: options.sampling(),
        options: options.digest(),
        prompt_root: prompt_root(&prompt, prompt_salt),
        tokens_max: 256,
        spending_limit: Amount(1_000_000_000_000),
    };
    let lane = Lane { payer: client.address(), node: node.address(), cap: Amount(1 << 60), expiry: 1_000, nonce: 1 };
    let token_ids: Vec<u32> = (0..60).map(|i| i * 31 + 7).collect();
    let (tokens_in, tokens_out, base) = (40, 60, Amount(12_345));
    let fee = fee(tokens_in, tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee).unwrap();
    let voucher = Voucher {
        lane: lane.id(),
        request: request.id(),
        attempt: 0,
        quote: quote.hash(),
        first_token: 0,
        tokens_in,
        tokens_out,
        token_ids: token_ids_hash(&token_ids),
        base,
        cumulative: base.plus(fee).unwrap(),
    };
    let found = attribute(index, parameters, &prompt, answer).unwrap();
    let receipt = Receipt {
        request: request.id(),
        attempt: 0,
        client: client.address(),
        node: node.address(),
        lane: lane.id(),
        cumulative_after: voucher.cumulative,
        manifest: manifest.root(),
        index: index.root(),
        parameters: 1,
        profile: Profile::Exact,
        class: Class::Checked,
        block,
        prompt_root: request.prompt_root,
        answer_root: answer_root(answer, &found.words, answer_salt),
        token_ids: voucher.token_ids,
        tokens_in,
        first_token: 0,
        tokens_out,
        quote: quote.hash(),
        fee,
        reason: Reason::Stop,
        weight_total: found.weight_total,
        fingerprint_root: Hash32::ZERO,
        assets: assets(&manifest),
        spans: found.spans.clone(),
        masks: found.masks,
    };
    Bundle {
        domains,
        receipt: Signed::new(node, &domains, receipt),
        request: Signed::new(&client, &domains, request),
        options: options.beside(),
        quote: Signed::new(node, &domains, quote),
        lane: Signed::new(&client, &domains, lane),
        session: None,
        voucher: Signed::new(&client, &domains, voucher),
        manifest,
        messages,
        prompt_salt,
        answer: answer.to_owned(),
        answer_salt,
        continued: vec![],
        token_ids,
        openings: openings(index, &found.spans).unwrap(),
        fingerprints: vec![],
    }
}
