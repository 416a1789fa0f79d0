//! What nodes say to each other about an epoch, and sealed transcripts.

use std::fmt::Debug;

use attribution::{
    epoch::replay::{RootFacts, check_item, check_root},
    message::{Ask, PayoutLine, ReceiptItem, Reply, decode, encode},
    transcript::{
        Transcript,
        ask::TranscriptAsk,
        sealed::{Sealed, seal},
        wrap::{self, ExchangeSecret, unwrap, wrap},
    },
};
use types::{
    amount::Amount,
    encoding::Body,
    id::{Address, ExchangeKey, Hash32},
    key::Signed,
    payout::payout_tree,
};

use crate::bundles::WORLD;

fn again<T: PartialEq + Debug + serde_like::Both>(message: &T) {
    assert_eq!(decode::<T>(&encode(message)).as_ref(), Ok(message), "what was read is written otherwise");
}

/// The bounds of [`encode`] and [`decode`], under one name.
mod serde_like {
    pub(crate) trait Both: serde::Serialize + serde::de::DeserializeOwned {}
    impl<T: serde::Serialize + serde::de::DeserializeOwned> Both for T {}
}

/// A frame: the question, or the answer, that it is.
pub(crate) fn run(bytes: &[u8]) {
    if let Ok(ask) = decode::<Ask>(bytes) {
        again(&ask);
        if let Ask::Sealed(signed) = &ask {
            let _ = (signed.verify(&crate::receipts::DOMAINS, Address([1; 20])), signed.document.reader);
        }
    }
    let Ok(reply) = decode::<Reply>(bytes) else { return };
    again(&reply);
    let (domains, node) = (crate::receipts::DOMAINS, Address([9; 20]));
    match &reply {
        Reply::Receipts(items) => {
            for item in items.iter().take(4) {
                let _ = (
                    item.quote(),
                    item.manifest(),
                    check_item(&domains, node, item),
                    check_item(&domains, item.receipt.document.node, item),
                );
            }
            let root = RootFacts { block: 1, receipts: Hash32::ZERO, fees: Amount(0), count: u64::try_from(items.len()).expect("few") };
            let _ = check_root(&domains, 1, node, &root, items);
        }
        Reply::Payout(Some(PayoutLine { leaf, opening, parts, .. })) => {
            let _ = (opening.root(leaf.summed()), types::payout::parts_root(parts));
        }
        Reply::Lines(lines) => {
            let _ = payout_tree(&lines.iter().map(|line| line.leaf).collect::<Vec<_>>()).map(|tree| tree.root());
            lines.iter().for_each(|line| drop(types::payout::parts_tree(&line.parts)));
        }
        Reply::Transcripts(page) => {
            let bundle = &WORLD.bundles[0];
            page.iter().for_each(|transcript| drop((transcript.read(&bundle.receipt, &bundle.domains), transcript.size_bytes())));
        }
        _ => {}
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let signed = |reader| {
        Signed::new(
            &world.account,
            &crate::receipts::DOMAINS,
            TranscriptAsk { node: Address([2; 20]), epoch: 3, receipt: Hash32([4; 32]), reader },
        )
    };
    let mut seeds = vec![
        encode(&Ask::Receipts { epoch: 3, from: 9 }),
        encode(&Ask::Payout { epoch: 300, account: Address([7; 20]) }),
        encode(&Ask::Settle),
        encode(&Ask::Lines { epoch: 1, line: 2, part: 3 }),
        encode(&Ask::ReceiptsOf { node: Address([1; 20]), epoch: 4, from: 5 }),
        encode(&Ask::Transcripts { epoch: 8, from: 0 }),
        encode(&Ask::Sealed(Box::new(signed(ExchangeKey([5; 32]))))),
        encode(&Reply::Payout(None)),
        encode(&Reply::Settled("two epochs".to_owned())),
        encode(&Reply::Refused("not yet".to_owned())),
        encode(&Reply::Transcripts(vec![Transcript::Closed, Transcript::TooLong(9), Transcript::Open(Body(vec![1, 2, 3]))])),
        // Empty pages of receipts and of lines, and a line with a short opening: filled up by the mutator.
        encode(&Reply::Receipts(vec![])),
        encode(&Reply::Lines(vec![])),
    ];
    for bundle in world.bundles.iter().take(4) {
        let item = ReceiptItem::new(bundle.receipt.clone(), &bundle.quote.document, &bundle.manifest);
        seeds.push(encode(&Reply::Receipts(vec![item.clone(), ReceiptItem { quote: None, manifest: None, ..item }])));
    }
    seeds
}

/// A sealed transcript with a wrap before it; then the bytes as a text that is sealed and opened again.
pub(crate) fn transcript(bytes: &[u8]) {
    let bundle = &WORLD.bundles[0];
    let reader = ExchangeSecret::of(&WORLD.account);
    let hash = types::encoding::Document::hash(&bundle.receipt.document);
    if let Ok(sealed) = Sealed::decode(bytes) {
        assert_eq!(sealed.encode(), bytes, "a sealed transcript has one form");
    }
    if let Some((head, rest)) = bytes.split_at_checked(80)
        && let Ok(wrapped) = wrap::Wrap::decode(head)
    {
        let _ = (unwrap(&wrapped, &reader, hash).is_ok(), wrap::check(ExchangeKey(head[..32].try_into().expect("32 bytes"))));
        let shown = attribution::transcript::ask::Shown { sealed: Body(rest.to_vec()), wrap: wrapped };
        let _ = shown.read(&reader, &bundle.receipt, &bundle.domains);
    }
    if let Ok((sealed, key)) = seal(hash, bytes, &[3; 32]) {
        let wrapped = wrap(&key, reader.public()).expect("a reader's own key");
        let opened = unwrap(&wrapped, &reader, hash).expect("wrapped for this reader");
        assert_eq!(sealed.plain(&opened).as_deref(), Ok(bytes));
        let shown = attribution::transcript::ask::Shown { sealed: Body(sealed.encode()), wrap: wrapped };
        let _ = shown.read(&reader, &bundle.receipt, &bundle.domains);
    }
}

pub(crate) fn transcript_seeds() -> Vec<Vec<u8>> {
    let bundle = &WORLD.bundles[0];
    let reader = ExchangeSecret::of(&WORLD.account);
    let hash = types::encoding::Document::hash(&bundle.receipt.document);
    let (sealed, key) = seal(hash, bundle.to_json().as_bytes(), &[3; 32]).expect("short");
    let wrapped = wrap(&key, reader.public()).expect("a key");
    vec![sealed.encode(), [&wrapped.encode()[..], &sealed.encode()].concat(), bundle.to_json().into_bytes(), b"text".to_vec()]
}
