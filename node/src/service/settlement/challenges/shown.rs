//! Receipts that were shown on the chain, read back from its events.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use attribution::message::ReceiptItem;
use chain_bridge::{
    client::{ChainClient, fraud::ShownReceipt},
    fraud::calldata::receipts_challenge,
    registry::{State, state::SubmittedRoot},
};
use types::{
    encoding::{Body, Document as _},
    id::{Address, Hash32},
    key::{Signed, Signed65},
    merkle::keccak,
    receipt::Receipt,
};

use super::super::stretches::asked;

/// A root's receipts, if every one was shown on the chain, asked for or not. They are not checked against the root.
///
/// # Errors
/// What keeps the chain from being read.
pub async fn receipts_on_chain(
    client: &ChainClient,
    state: &State,
    number: u64,
    node: Address,
    root: &SubmittedRoot,
) -> anyhow::Result<Option<Vec<ReceiptItem>>> {
    let head = client.latest().await?.block.number;
    let shown = client.shown_receipts(root.block, head).await?;
    let stretches: BTreeSet<Hash32> =
        asked(state, number, node).map(|asked| receipts_challenge(number, node, asked.first, asked.count)).collect();
    // What was published stands under the id of the stretch of none that begins with it.
    let is_its = |id: Hash32, lowest: u64| stretches.contains(&id) || id == receipts_challenge(number, node, lowest, 0);
    let Some(shown) = gathered(shown, root.count, is_its) else { return Ok(None) };
    shown.iter().map(read).collect::<anyhow::Result<_>>().map(Some)
}

/// What was shown of a root over `count` receipts, in order, if that is all. `is_its` says whether a stretch, with the lowest place shown under its id,
/// is of the root.
fn gathered(shown: Vec<ShownReceipt>, count: u64, is_its: impl Fn(Hash32, u64) -> bool) -> Option<Vec<ShownReceipt>> {
    let mut lowest: BTreeMap<Hash32, u64> = BTreeMap::new();
    for one in &shown {
        let low = lowest.entry(one.challenge).or_insert(one.index);
        *low = one.index.min(*low);
    }
    lowest.retain(|id, lowest| is_its(*id, *lowest));
    let of_root: BTreeMap<u64, ShownReceipt> =
        shown.into_iter().filter(|one| lowest.contains_key(&one.challenge)).map(|one| (one.index, one)).collect();
    (0..count).eq(of_root.keys().copied()).then(|| of_root.into_values().collect())
}

fn read(shown: &ShownReceipt) -> anyhow::Result<ReceiptItem> {
    let signature = Signed65(shown.signature.as_slice().try_into().context("a signature has 65 bytes")?);
    let document = Receipt::decode(&shown.bodies.receipt)?;
    // Empty bytes are shown as such where the receipt names their hash: it is paid nothing, and must not hold up the others.
    let body = |bytes: &Vec<u8>, named: Hash32| (!bytes.is_empty() || named == keccak(&[])).then(|| Body(bytes.clone()));
    let (quote, manifest) = (body(&shown.bodies.quote, document.quote), body(&shown.bodies.manifest, document.manifest));
    Ok(ReceiptItem { receipt: Signed { document, signature }, quote, manifest })
}

#[cfg(test)]
mod tests {
    use attribution::epoch::replay::check_item;
    use chain_bridge::fraud::search::Bodies;
    use types::key::{Account, Domains};

    use super::*;

    fn shown(id: u8, index: u64) -> ShownReceipt {
        ShownReceipt { challenge: Hash32([id; 32]), index, bodies: Bodies::default(), signature: vec![0; 65] }
    }

    #[test]
    fn what_a_node_shows_on_the_chain_is_read_with_what_it_shows() {
        let bodies = Bodies { receipt: vec![0; 434], quote: vec![], manifest: vec![] };
        assert!(read(&ShownReceipt { bodies: bodies.clone(), ..shown(1, 0) }).is_err(), "no known profile");
        let short = ShownReceipt { bodies, signature: vec![0; 64], ..shown(1, 0) };
        assert!(read(&short).unwrap_err().to_string().contains("65 bytes"));
    }

    #[test]
    fn a_billed_receipt_that_names_empty_bytes_is_taken_as_it_stands_and_holds_up_nothing() {
        let account = Account::from_bytes(&[7; 32]).unwrap();
        let at = |byte| Address([byte; 20]);
        let domains = Domains { chain_id: 1, escrow: at(1), registry: at(2), settlement: at(3), stake: at(4) };
        let mut bytes = vec![0; 434];
        // Profile, class and reason: the first of each; all else is zero.
        [190, 191, 388].into_iter().for_each(|place| bytes[place] = 1);
        let zero = Receipt { node: account.address(), ..Receipt::decode(&bytes).unwrap() };
        assert!(zero.reason.is_billable());
        for (quote, manifest, is_taken) in
            [(keccak(&[]), keccak(&[]), true), (keccak(&[]), Hash32::ZERO, false), (Hash32::ZERO, keccak(&[]), false)]
        {
            let signed = Signed::new(&account, &domains, Receipt { quote, manifest, ..zero.clone() });
            let bodies = Bodies { receipt: signed.document.encode(), quote: vec![], manifest: vec![] };
            let item = read(&ShownReceipt { bodies, signature: signed.signature.0.to_vec(), ..shown(1, 0) }).unwrap();
            assert_eq!(check_item(&domains, account.address(), &item).is_ok(), is_taken, "{quote}, {manifest}");
        }
    }

    #[test]
    fn receipts_shown_by_challenge_and_by_publication_make_one_root_if_none_is_missing() {
        let (asked, published, foreign) = (Hash32([1; 32]), Hash32([2; 32]), Hash32([3; 32]));
        // What is published is known by the place it begins with.
        let is_its = |id: Hash32, lowest: u64| id == asked || (id == published && lowest == 2);
        let all = vec![shown(2, 3), shown(1, 0), shown(3, 4), shown(2, 2), shown(1, 1), shown(2, 2)];
        let places = |count: u64, all: Vec<ShownReceipt>| {
            gathered(all, count, is_its).map(|all| all.iter().map(|one| one.index).collect::<Vec<_>>())
        };
        assert_eq!(places(4, all.clone()), Some(vec![0, 1, 2, 3]));
        assert_eq!(places(5, all.clone()), None, "the fifth is of another root, {foreign}");
        assert_eq!(places(3, all.clone()), None, "more than the root has");
        assert_eq!(places(4, all.into_iter().filter(|one| one.index != 2).collect()), None);
    }
}
