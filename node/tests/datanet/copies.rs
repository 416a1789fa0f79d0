//! Near copies that stand in a Datanet, whatever let them in: the index pays the earlier document's holder for what only they say.

use std::sync::Arc;

use attribution::index::Index;
use chain_bridge::registry::state::Accepted;
use node::{datanet::LocalContribution, service::index::store::Indexes};
use storage::datanet::{Document, contribution_text};
use types::{
    contribution::Priority,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    text::text_root,
};

const VERSION: AssetVersion = AssetVersion { asset: AssetId(2), version: 1 };
const ANNA: Address = Address([1; 20]);
const BEN: Address = Address([2; 20]);
const CARA: Address = Address([3; 20]);

/// A contribution committed to in block `block`, accepted in the order of `number`.
fn contribution(number: u64, contributor: Address, block: u64, texts: &[&str]) -> LocalContribution {
    let documents: Vec<Document> = texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect();
    let text = contribution_text(&documents).into_bytes();
    let accepted = Accepted {
        datanet: VERSION.asset,
        number,
        contributor,
        text_root: text_root(&text),
        text_bytes: text.len() as u64,
        documents: u32::try_from(documents.len()).unwrap(),
        priority: Priority { block, ordinal: 0, document: 0 },
        licence: Hash32::ZERO,
        object: BlobId::ZERO,
        report: Hash32::ZERO,
        accepted: (block + number, 0),
    };
    LocalContribution { accepted, documents, text, text_salt: None }
}

fn index(contributions: &[&LocalContribution], erased: &[&LocalContribution]) -> Index {
    let contributions: Vec<LocalContribution> = contributions.iter().map(|local| (*local).clone()).collect();
    let tombstones: Vec<Accepted> = erased.iter().map(|local| local.accepted.clone()).collect();
    Index::new(vec![Arc::new(Indexes::over(VERSION, contributions, &tombstones).unwrap())]).unwrap()
}

/// 60 words that no other text has.
fn words() -> String {
    (0..60).map(|word| format!("tide{word}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_near_copys_span_pays_the_earlier_documents_holder_until_that_is_erased() {
    let (original, new) = (words(), "and one more closing phrase");
    let copied = format!("{original} {new}");
    let anna = contribution(1, ANNA, 10, &["something else", &original]);
    let ben = contribution(0, BEN, 20, &["his own observations of the wind", &copied]);
    let paid = |index: &Index, text: &str| {
        let holder = index.holder(text.as_bytes()).unwrap();
        let open = index.open_span(holder.datanet, holder.position).unwrap();
        let shown = open.head.as_ref().map_or(open.document.leaf.payee, |head| head.document.leaf.payee);
        assert_eq!(shown, holder.payee, "what is proven is what is paid");
        (holder.row.payee, holder.payee)
    };
    let both = index(&[&anna, &ben], &[]);
    // Only the copy has these bytes.
    assert_eq!(paid(&both, &format!("tide58 tide59 {new}")), (BEN, ANNA));
    assert_eq!(paid(&both, "tide58 tide59"), (ANNA, ANNA));
    assert_eq!(paid(&both, "observations of the wind"), (BEN, BEN));
    // Of two copies the second is paid through the first document too, not through the first copy.
    let cara = contribution(2, CARA, 30, &[&format!("{copied} twice")]);
    assert_eq!(paid(&index(&[&cara, &anna, &ben], &[]), "closing phrase twice"), (CARA, ANNA));
    // What was committed to earlier and accepted later takes the cluster over.
    let earlier = contribution(3, CARA, 5, &[&original]);
    assert_eq!(paid(&index(&[&anna, &ben, &earlier], &[]), new), (BEN, CARA));
    // Once hers is erased the copy is the first.
    assert_eq!(paid(&index(&[&ben], &[&anna]), new), (BEN, BEN));
    assert_eq!(paid(&index(&[&ben, &cara], &[&anna]), "closing phrase twice"), (CARA, BEN));
}

#[test]
fn a_text_that_two_contributed_is_paid_to_who_committed_to_it_earlier() {
    let (anna, ben) = (contribution(1, ANNA, 10, &[&words()]), contribution(0, BEN, 20, &[&words()]));
    assert_eq!(anna.accepted.text_root, ben.accepted.text_root);
    let index = index(&[&anna, &ben], &[]);
    assert_eq!(index.holder(b"tide3 tide4").unwrap().payee, ANNA);
    let segment = &index.datanets()[0].segments()[0];
    assert_eq!(segment.documents().iter().map(|row| (row.payee, row.cluster)).collect::<Vec<_>>(), [(ANNA, 0), (BEN, 0)]);
}
