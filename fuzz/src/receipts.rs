//! Signed documents and what else has one canonical encoding: what is read is written again as it was.

use attribution::{check::Check, transcript::ask::TranscriptAsk, transcript::wrap::Wrap};
use serde_json::Value;
use types::{
    audit::{AuditCommit, AuditVerdict},
    contribution::{Contribution, GateReport},
    encoding::Document,
    fingerprint::Fingerprint,
    id::Address,
    key::Domains,
    manifest::Manifest,
    operator::{NodeBinding, NodeRoot},
    options::Options,
    payout::PartLeaf,
    placement::{Handover, Placement},
    quote::Quote,
    receipt::{CheckReport, Receipt, fee_of},
    request::Request,
    voucher::{CreditNote, Lane, Voucher},
};

use crate::bundles::hex;

const VECTORS: [&str; 2] = [include_str!("../../tests/fixtures/vectors.json"), include_str!("../../tests/fixtures/storage_vectors.json")];

pub(crate) const DOMAINS: Domains =
    Domains { chain_id: 901, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) };

/// Name and reader of each document.
type Kind = (&'static str, fn(&[u8]));

fn read<D: Document>(body: &[u8]) {
    if let Ok(document) = D::decode(body) {
        assert_eq!(document.encode(), body, "{} has two encodings", D::NAME);
        let _ = (document.hash(), DOMAINS.digest(&document));
    }
}

fn receipt(body: &[u8]) {
    read::<Receipt>(body);
    let fee = fee_of(body);
    if let Ok(receipt) = Receipt::decode(body) {
        assert_eq!(fee, receipt.fee);
        let _ = receipt.bills();
        let text = serde_json::to_string(&receipt).expect("plain data");
        assert_eq!(serde_json::from_str::<Receipt>(&text).expect("what was written is read"), receipt);
    }
}

fn request(body: &[u8]) {
    read::<Request>(body);
    let (document, options) = body.split_at(body.len().min(Request::decode(body).map_or(0, |request| request.encode().len())));
    if let Ok(request) = Request::decode(document) {
        let _ = (request.id(), request.asked(options));
    }
}

fn manifest(body: &[u8]) {
    read::<Manifest>(body);
    if let Ok(manifest) = Manifest::decode(body) {
        let _ = manifest.root();
    }
}

fn options(body: &[u8]) {
    if let Ok(options) = Options::decode(body) {
        assert_eq!(options.encode(), body);
        let _ = (options.digest(), options.check(50_000), options.is_plain(), options.beside());
    }
}

fn part(body: &[u8]) {
    if let Ok(part) = PartLeaf::decode(body) {
        assert_eq!(part.encode(), body);
        let _ = (part.lane(), part.place(), part.summed());
    }
}

fn check(body: &[u8]) {
    if let Ok(check) = Check::decode(body) {
        assert_eq!(check.encode(), body);
        let _ = check.seal();
    }
}

fn fingerprint(body: &[u8]) {
    if let Ok(read) = Fingerprint::read(body) {
        assert_eq!(read.as_bytes(), body);
        let coefficients: Vec<u16> = read.coefficients().collect();
        assert_eq!(Fingerprint::new(read.modulus(), &coefficients).as_ref(), Ok(&read));
    }
}

fn wrap(body: &[u8]) {
    if let Ok(wrap) = Wrap::decode(body) {
        assert_eq!(wrap.encode()[..], *body);
    }
}

const KINDS: [Kind; 22] = [
    ("AuditCommit", read::<AuditCommit>),
    ("AuditVerdict", read::<AuditVerdict>),
    ("Check", check),
    ("CheckReport", read::<CheckReport>),
    ("Contribution", read::<Contribution>),
    ("CreditNote", read::<CreditNote>),
    ("Fingerprint", fingerprint),
    ("GateReport", read::<GateReport>),
    ("Handover", read::<Handover>),
    ("Lane", read::<Lane>),
    ("Manifest", manifest),
    ("NodeBinding", read::<NodeBinding>),
    ("NodeRoot", read::<NodeRoot>),
    ("Options", options),
    ("PartLeaf", part),
    ("Placement", read::<Placement>),
    ("Quote", read::<Quote>),
    ("Receipt", receipt),
    ("Request", request),
    ("TranscriptAsk", read::<TranscriptAsk>),
    ("Voucher", read::<Voucher>),
    ("Wrap", wrap),
];

/// A byte that says which, and the body.
pub(crate) fn run(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    let (_, read) = KINDS[usize::from(*which) % KINDS.len()];
    read(body);
}

/// Every body of the vectors, refused ones too, under the name beside it.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..u8::try_from(KINDS.len()).expect("few")).map(|which| [&[which][..], &[0; 200]].concat()).collect();
    for vectors in VECTORS {
        collect(&serde_json::from_str(vectors).expect("the vectors are JSON"), &mut seeds);
    }
    seeds
}

fn collect(value: &Value, seeds: &mut Vec<Vec<u8>>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("name").and_then(Value::as_str);
            let body = ["body", "bytes", "encoded"].iter().find_map(|field| hex(fields.get(*field)?.as_str()?));
            let kind = name.and_then(|name| KINDS.iter().position(|(kind, _)| name.starts_with(kind)));
            if let (Some(kind), Some(body)) = (kind, body) {
                seeds.push([&[u8::try_from(kind).expect("few")][..], &body].concat());
            }
            fields.values().for_each(|value| collect(value, seeds));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, seeds)),
        _ => {}
    }
}
