//! Honest answers of different kinds, attributed and signed by the production code.

use std::sync::Arc;

use attribution::{
    answer::answer_root,
    bundle::{Bundle, assets, openings},
    disk::OwnedEntry,
    index::{Clusters, DatanetIndex, Entry, Index, Segment, Source},
    parameters::Parameters,
    prompt::{Message, Role, prompt_bytes},
    span::attribute,
};
use types::{
    amount::Amount,
    contribution::Priority,
    encoding::Document as _,
    fingerprint::{self, Fingerprint},
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

/// Documents of one Datanet, segment by segment: whom each pays and what it says.
type Segments<'a> = &'a [&'a [(u8, &'a str)]];

/// What differs between the answers.
struct Asked<'a> {
    index: Index,
    question: &'a str,
    answer: &'a str,
    profile: Profile,
    reason: Reason,
    /// Tokens that another node delivered before.
    continued: u32,
    /// Whether a session key signs for the client.
    has_session: bool,
    options: Options,
}

pub(crate) fn node() -> Account {
    account(7)
}

pub(crate) fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

/// The block of a document: they are numbered on from 10, through all segments.
fn datanet(asset: u64, segments: Segments<'_>, clusters: &Clusters) -> Arc<DatanetIndex> {
    let (mut block, mut rows, mut built) = (10, 0, Vec::new());
    for documents in segments {
        let texts: Vec<String> = documents.iter().map(|(_, text)| format!("{text}\0")).collect();
        let source = |(who, text): (u8, &'_ String), block| Source {
            contributor: Address([who; 20]),
            block,
            ordinal: 0,
            text_root: text_root(text.as_bytes()),
            text: Box::leak(text.clone().into_boxed_str()).as_bytes(),
        };
        let sources: Vec<_> =
            documents.iter().zip(&texts).zip(block..).map(|(((who, _), text), block)| source((*who, text), block)).collect();
        built.push(Segment::build(&sources, rows).unwrap());
        block += sources.len() as u64;
        rows += sources.len() as u64;
    }
    Arc::new(DatanetIndex::clustered(AssetVersion { asset: AssetId(asset), version: 1 }, built, clusters).unwrap())
}

/// A private Datanet: each contribution has a salt of its own.
fn private(asset: u64, documents: &[(u8, &str)]) -> Arc<DatanetIndex> {
    let owned = documents.iter().zip(10..).map(|((who, text), block)| {
        let (text, salt) = (format!("{text}\0").into_bytes(), Hash32([*who ^ 0x5a; 32]));
        let text_root = prompt_root(&text, salt);
        OwnedEntry::Text { contributor: Address([*who; 20]), block, ordinal: 0, text_root, text, salt: Some(salt) }
    });
    let owned: Vec<OwnedEntry> = owned.collect();
    let entries: Vec<Entry<'_>> = owned.iter().map(OwnedEntry::as_entry).collect();
    let segment = Segment::build_entries(&entries, 0).unwrap();
    Arc::new(DatanetIndex::new(AssetVersion { asset: AssetId(asset), version: 1 }, vec![segment]).unwrap())
}

/// Two spans, the first of a private Datanet and the second of a public one.
pub(crate) fn private_and_public() -> Index {
    let hidden = private(3, &[(0xa1, KIDNEY), (0xa2, HEARING), (0xa3, COPY)]);
    Index::new(vec![hidden, datanet(4, &[&[(0xb1, LAZY)]], &Clusters::default())]).unwrap()
}

/// The bundle with the text that a grant holder adds to it.
fn with_text(bundle: Bundle, index: &Index) -> Bundle {
    let openings = bundle.receipt.document.spans.iter().map(|span| index.open_span(span.datanet, span.position).unwrap()).collect();
    Bundle { openings, ..bundle }
}

pub(crate) fn index(datanets: &[(u64, Segments<'_>)]) -> Index {
    Index::new(datanets.iter().map(|(asset, segments)| datanet(*asset, segments, &Clusters::default())).collect()).unwrap()
}

const KIDNEY: &str = "Something unrelated about kidneys, told at some length so that what follows stands in a later leaf of the text.";
const HEARING: &str = "Bilateral sensorineural hearing impairment of congenital onset affecting speech development. Nothing else is known.";
const COPY: &str =
    "An older note says: bilateral sensorineural hearing impairment of congenital onset affecting speech development in infants.";
const LAZY: &str = "A generator expression yields a new generator object whenever the enclosing comprehension is evaluated lazily.";
const CHINESE: &str = "学习使用生成器函数可以逐个产生数值而不必一次保存全部结果。其余从略。";
const NOTE: &str = "An older note says: bilateral sensorineural hearing impairment of congenital onset, and so on.";
const QUESTION: &str = "Please answer an unusual combination of questions from rather different disciplines: hearing, and lazy evaluation.";
pub(crate) const ANSWER: &str = "What you describe, sensorineural hearing impairment of congenital onset affecting speech development, matters. \
    In Python a generator expression yields a new generator object whenever the comprehension runs. \
    You asked about an unusual combination of questions from rather different disciplines.";

/// Two spans of two Datanets and a mask; each table of lies begins with it.
pub(crate) const USUAL: &str = "two-datanets";

fn usual() -> Asked<'static> {
    Asked {
        index: index(&[(3, &[&[(0xa1, KIDNEY), (0xa2, HEARING), (0xa3, COPY)]]), (4, &[&[(0xb1, LAZY)]])]),
        question: QUESTION,
        answer: ANSWER,
        profile: Profile::Exact,
        reason: Reason::Stop,
        continued: 0,
        has_session: false,
        options: Options {
            temperature_milli: 700,
            top_k: 40,
            min_p_ppm: 50_000,
            stop: vec!["\n\n".into(), "Q:".into()],
            ..Options::default()
        },
    }
}

/// Every honest answer with its name.
pub(crate) fn all() -> Vec<(&'static str, Bundle)> {
    let priority = |block| Priority { block, ordinal: 0, document: 0 };
    let near = Clusters::new([(priority(12), priority(11))]).unwrap();
    let in_one_segment = datanet(3, &[&[(0xa1, KIDNEY), (0xa2, HEARING), (0xa3, COPY)]], &near);
    let in_two_segments = datanet(3, &[&[(0xa1, KIDNEY), (0xa2, HEARING)], &[(0xa3, COPY), (0xa4, LAZY)]], &near);
    let plain = Options::default;
    let asked = [
        (USUAL, usual()),
        ("no-match", Asked { answer: "Nothing of this stands in any document, or so I believe.", question: "Why?", ..usual() }),
        ("no-datanet", Asked { index: index(&[]), ..usual() }),
        (
            "masks-and-han",
            Asked {
                index: index(&[(5, &[&[(0xc1, CHINESE)]])]),
                question: "Ключевое слово yield превращает обычную функцию в генератор, не так ли? 请用一句话说明学习的方法。 Naïve question of a tired reader, café included.",
                answer: "Ключевое слово yield превращает обычную функцию в генератор: 使用生成器函数可以逐个产生数值而不必一次保存全部结果。 \
                    A naïve question of a tired reader, café included 😀, and a question of a tired reader, café.",
                ..usual()
            },
        ),
        ("unbilled", Asked { reason: Reason::EngineFailure, ..usual() }),
        ("fast-session", Asked { profile: Profile::Fast, continued: 5, has_session: true, options: plain(), ..usual() }),
        ("cluster-in-one-segment", Asked { index: Index::new(vec![in_one_segment]).unwrap(), answer: NOTE, options: plain(), ..usual() }),
        ("cluster-in-two-segments", Asked { index: Index::new(vec![in_two_segments]).unwrap(), answer: NOTE, options: plain(), ..usual() }),
    ];
    let hidden = answer(Asked { index: private_and_public(), ..usual() });
    let shown = with_text(hidden.clone(), &private_and_public());
    asked.into_iter().map(|(name, asked)| (name, answer(asked))).chain([("private", hidden), ("private-shown", shown)]).collect()
}

/// An answer, attributed over `index`.
pub(crate) fn over(index: Index, answered: &'static str) -> Bundle {
    answer(Asked { index, answer: answered, ..usual() })
}

fn manifest(index: &Index) -> Manifest {
    let version = |asset| AssetVersion { asset: AssetId(asset), version: 1 };
    let declared =
        |d: &Arc<DatanetIndex>| ManifestDatanet { version: d.version(), treasury: treasury(d.version().asset), weight: d.bytes() };
    Manifest {
        assets: vec![
            ManifestAsset { kind: AssetKind::Base, version: version(1), content: BlobId([1; 32]) },
            ManifestAsset { kind: AssetKind::Adapter, version: version(2), content: BlobId([2; 32]) },
        ],
        split: SplitTable { node: 5_500, agent: 0, base: 1_500, adapter: 1_500, data: 1_000, stakers: 500 },
        index: index.root(),
        parameters: 1,
        datanets: index.datanets().iter().map(declared).collect(),
    }
}

fn fingerprints(profile: Profile, tokens: u32) -> Vec<Fingerprint> {
    let of = |number: u32| Fingerprint::new(60_000, &[u16::try_from(number).unwrap() + 1, 2, 3, 4]).unwrap();
    if profile.needs_fingerprint() { (0..fingerprint::count(tokens)).map(of).collect() } else { Vec::new() }
}

fn answer(asked: Asked<'_>) -> Bundle {
    let Asked { index, question, answer, profile, reason, continued, has_session, options } = asked;
    let (node, client, session) = (node(), account(8), account(11));
    let domains = Domains {
        chain_id: 901,
        escrow: Address([1; 20]),
        registry: Address([2; 20]),
        settlement: Address([3; 20]),
        stake: Address([4; 20]),
    };
    let manifest = manifest(&index);
    let messages =
        vec![Message { role: Role::System, content: "You are brief.".into() }, Message { role: Role::User, content: question.into() }];
    let (prompt_salt, answer_salt) = (Hash32([5; 32]), Hash32([6; 32]));
    let prompt = prompt_bytes(&messages);
    let block = BlockRef { number: 200, hash: Hash32([9; 32]) };
    let quote = Quote {
        node: node.address(),
        manifest: manifest.root(),
        profile,
        class: Class::Checked,
        rate_in: Amount(1_500_000_007),
        rate_out: Amount(4_000_000_003),
        protocol_fee: Amount(1_000),
        tokens_max: 256,
        block,
        expiry: 260,
    };
    let request = Request {
        client: client.address(),
        nonce: 3,
        manifest: manifest.root(),
        rate_in_max: Amount(2_000_000_000),
        rate_out_max: Amount(5_000_000_000),
        profile,
        class: Class::Checked,
        sampling: options.sampling(),
        options: options.digest(),
        prompt_root: prompt_root(&prompt, prompt_salt),
        tokens_max: 256,
        spending_limit: Amount(1_000_000_000_000),
    };
    let lane = Lane { payer: client.address(), node: node.address(), cap: Amount(1 << 60), expiry: 1_000, nonce: 1 };
    let tokens: Vec<u32> = (0..continued + 40).map(|token| token * 31 + 7).collect();
    let (before, own) = tokens.split_at(continued as usize);
    let (tokens_in, tokens_out, base) = (33 + continued, 40, Amount(12_345));
    let due = fee(tokens_in, tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee).unwrap();
    let voucher = Voucher {
        lane: lane.id(),
        request: request.id(),
        attempt: u16::from(continued > 0),
        quote: quote.hash(),
        first_token: continued,
        tokens_in,
        tokens_out,
        token_ids: token_ids_hash(&tokens),
        base,
        cumulative: base.plus(due).unwrap(),
    };
    let found = attribute(&index, Parameters::builtin(1).unwrap(), &prompt, answer).unwrap();
    let fingerprints = fingerprints(profile, tokens_out);
    let receipt = Receipt {
        request: request.id(),
        attempt: voucher.attempt,
        client: client.address(),
        node: node.address(),
        lane: lane.id(),
        cumulative_after: if reason.is_billable() { voucher.cumulative } else { base },
        manifest: manifest.root(),
        index: index.root(),
        parameters: 1,
        profile,
        class: Class::Checked,
        block,
        prompt_root: request.prompt_root,
        answer_root: answer_root(answer, &found.words, answer_salt),
        token_ids: voucher.token_ids,
        tokens_in,
        first_token: continued,
        tokens_out,
        quote: quote.hash(),
        fee: if reason.is_billable() { due } else { Amount::ZERO },
        reason,
        weight_total: found.weight_total,
        fingerprint_root: fingerprint::root(&fingerprints),
        assets: assets(&manifest),
        spans: found.spans.clone(),
        masks: found.masks,
    };
    let payer = if has_session { &session } else { &client };
    Bundle {
        domains,
        receipt: Signed::new(&node, &domains, receipt),
        request: Signed::new(payer, &domains, request),
        options: options.beside(),
        quote: Signed::new(&node, &domains, quote),
        lane: Signed::new(payer, &domains, lane),
        session: has_session.then(|| session.address()),
        voucher: Signed::new(payer, &domains, voucher),
        manifest,
        messages,
        prompt_salt,
        answer: answer.to_owned(),
        answer_salt,
        continued: before.to_vec(),
        token_ids: own.to_vec(),
        openings: openings(&index, &found.spans).unwrap(),
        fingerprints,
    }
}
