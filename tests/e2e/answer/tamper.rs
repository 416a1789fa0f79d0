//! Bundles as a dishonest node would make them: one field changed, then signed again with its own key.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use harness::{Cluster, Tributary, cluster::text};
use serde_json::Value;
use types::{
    id::Address,
    key::{Account, Domains, Signed},
    receipt::{Mask, Receipt},
};

/// The settlement keys of the nodes.
pub(super) fn keys(cluster: &Cluster) -> BTreeMap<Address, Account> {
    cluster.nodes.iter().map(|node| (node.account, node.key())).collect()
}

pub(super) fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a receipt was kept")).expect("a bundle is JSON")
}

pub(super) fn write(path: &Path, bundle: &Value) -> PathBuf {
    std::fs::write(path, bundle.to_string()).expect("a bundle is written");
    path.to_owned()
}

/// The bundle with its receipt changed and signed again by the node that signed it.
pub(super) fn signed_anew(bundle: &Value, keys: &BTreeMap<Address, Account>, change: impl FnOnce(&mut Receipt)) -> Value {
    let mut receipt: Receipt = serde_json::from_value(bundle["receipt"]["document"].clone()).expect("a receipt");
    let domains: Domains = serde_json::from_value(bundle["domains"].clone()).expect("domains");
    let key = &keys[&receipt.node];
    change(&mut receipt);
    let mut changed = bundle.clone();
    changed["receipt"] = serde_json::to_value(Signed::new(key, &domains, receipt)).expect("a receipt is JSON");
    changed
}

type Change = fn(&mut Receipt);

/// One change per field whose meaning a receipt fixes, and the name under which it must be refused.
const CHANGES: [(&str, Change); 13] = [
    ("span 0", |receipt| receipt.spans[0].start += 1),
    ("span 0", |receipt| receipt.spans[0].position += 64),
    ("span 0: weight", |receipt| receipt.spans[0].weight += 1),
    ("span 0: payee", |receipt| receipt.spans[0].payee.0[0] ^= 1),
    ("total weight W", |receipt| receipt.weight_total += 1),
    ("fee", |receipt| receipt.fee.0 += 1),
    ("input tokens", |receipt| receipt.tokens_in += 1),
    ("output tokens", |receipt| receipt.tokens_out -= 1),
    ("first token", |receipt| receipt.first_token += 1),
    ("manifest root", |receipt| receipt.manifest.0[0] ^= 1),
    ("index root", |receipt| receipt.index.0[0] ^= 1),
    ("quote hash", |receipt| receipt.quote.0[0] ^= 1),
    ("mask", |receipt| receipt.masks.push(Mask { start: 0, length: 4, prompt: 0 })),
];

/// Every way in which a span can be false, and the mode in which the chain is shown it.
pub(super) const FALSE_SPANS: [(&str, Change); 7] = [
    ("bytes", |receipt| receipt.spans[0].start += 1),
    ("bytes", |receipt| receipt.spans[0].position += 1),
    ("length", |receipt| receipt.spans[0].length = 257),
    ("length", |receipt| receipt.spans[0].length = 0),
    ("answer-end", |receipt| receipt.spans[0].start = u32::MAX / 2),
    ("datanet-index", |receipt| receipt.spans[0].datanet = 9),
    ("datanet-end", |receipt| receipt.spans[0].position = (1 << 40) - 1),
];

/// Ways to keep from somebody what is his, or to weigh and mask falsely, the fault that each is and the mode in which it is shown.
pub(super) const MISDIRECTED: [(&str, &str, Change); 7] = [
    ("F2", "omitted", |receipt| {
        receipt.spans.remove(0);
    }),
    ("F10", "weight", |receipt| receipt.spans[0].weight -= 1),
    ("F10", "weight", |receipt| receipt.spans[0].weight += 1),
    ("F10", "total", |receipt| receipt.weight_total += 1),
    ("F1", "twin", |receipt| receipt.spans.push(receipt.spans[0])),
    ("F11", "mask", |receipt| receipt.masks.push(Mask { start: 1 << 20, length: 4, prompt: 0 })),
    // Not the node itself: the one that answers may be who contributed the text.
    ("F9", "payee", |receipt| receipt.spans[0].payee.0[0] ^= 1),
];

/// Each change is refused by its name although the node's own signature stands; a span left out shows in a full check.
pub(super) async fn every_changed_field_is_named(
    offline: &Tributary,
    folder: &Path,
    receipt: &Path,
    keys: &BTreeMap<Address, Account>,
    texts: &Path,
) {
    let bundle = read(receipt);
    let path = receipt.with_file_name("changed.json");
    for (field, change) in CHANGES {
        write(&path, &signed_anew(&bundle, keys, change));
        let outcome = offline.outcome(folder, &["receipt", "verify", text(&path)]).await;
        let signatures =
            outcome.json["checks"].as_array().and_then(|checks| checks.iter().find(|check| check["check"] == "signatures").cloned());
        assert!(signatures.is_some_and(|check| check["is_ok"] == true), "the node's signature stands: {outcome}");
        assert!(outcome.json["is_ok"] == false, "a changed {field} was accepted: {outcome}");
        let error = outcome.refusal();
        assert!(error.contains(field), "a changed {field} was refused as: {error}");
    }
    let mut omitted = signed_anew(&bundle, keys, |receipt| {
        receipt.spans.remove(0);
    });
    omitted["openings"].as_array_mut().expect("openings").remove(0);
    write(&path, &omitted);
    offline.run(folder, &["receipt", "verify", text(&path)]).await;
    let error = offline.refused(folder, &["receipt", "verify", text(&path), "--full", "--texts", text(texts)]).await;
    assert!(error.contains("spans omit"), "{error}");
}
