//! Which rules a billed receipt breaks: what Rust finds in the books is what the contract finds in the registry.
//!
//! The registry holds versions that were published late or frozen, and several index roots; a case is an honest bill with up to five
//! fields changed, at any block.

use std::{cell::RefCell, collections::BTreeSet};

use chain_bridge::{
    bindings::{AssetRegistry, BillingVerifier},
    fraud::rules::{Case, Rule, broken},
};
use types::{
    amount::Amount,
    encoding::Document,
    id::{AssetId, AssetVersion, BlobId, Hash32},
    manifest::{AssetKind, Manifest, ManifestAsset, treasury},
    quote::Quote,
    receipt::Receipt,
    split::SplitTable,
};

use super::{random::Rng, run_with};
use crate::{harness::account, transcript::Transcript};

/// Beyond the registered assets and versions, so that there are ones that nobody registered.
const ASSETS: u64 = 6;
const VERSIONS: u64 = 4;

fn version(asset: u64, version: u32) -> AssetVersion {
    AssetVersion { asset: AssetId(asset), version }
}

fn refs(versions: &[AssetVersion]) -> Vec<AssetRegistry::Ref> {
    versions.iter().map(|version| AssetRegistry::Ref { asset: version.asset.0, version: version.version }).collect()
}

/// What a version's content is called here; the first versions are the transcript's.
fn content(asset: u8, version: u8) -> BlobId {
    BlobId([asset + 16 * (version - 1); 32])
}

/// Beside the transcript's base 1, Datanet 2 and adapter 3: second versions of them, an agent 4 on the first ones, and a base 5 that is frozen.
fn world() -> Transcript {
    let mut t = Transcript::new();
    let (owner, registry, table) = (account(3).address(), t.evm.deployment.registry, t.manifest.split);
    for kind in [4, 1] {
        t.evm.call(owner, registry, &AssetRegistry::registerCall { kind, uri: "card".into() }, Amount::ZERO).unwrap();
    }
    let base = SplitTable { adapter: 0, node: table.node + table.adapter, ..table };
    let agent = SplitTable { agent: 1_000, node: table.node - 1_000, ..table };
    let (data, second) = (vec![version(2, 1)], vec![version(2, 2)]);
    let published = [
        (1, 2, base, vec![], vec![]),
        (2, 2, SplitTable::default(), vec![], vec![]),
        (3, 2, table, vec![version(1, 2)], second),
        (4, 1, agent, vec![version(1, 1), version(3, 1)], data),
        (5, 1, base, vec![], vec![]),
    ];
    for (asset, number, split, parents, datanets) in published {
        t.evm.block += 20;
        let call = AssetRegistry::publishCall {
            asset,
            contentHash: content(asset as u8, number).0.into(),
            parents: refs(&parents),
            split: split.rows(),
            datanets: refs(&datanets),
            licenceHash: [8; 32].into(),
            minParentShare: 0,
        };
        t.evm.call(owner, registry, &call, Amount::ZERO).unwrap();
    }
    for (asset, number, root) in [(3, 2, 0x77), (4, 1, 0x78)] {
        t.evm.block += 20;
        let call = AssetRegistry::postIndexRootCall { asset, version: number, root: [root; 32].into(), paramId: 1 };
        t.evm.call(t.node.address(), registry, &call, Amount::ZERO).unwrap();
    }
    for (asset, number) in [(5, 1), (1, 2)] {
        t.evm.block += 20;
        t.evm.call(owner, registry, &AssetRegistry::freezeCall { asset, version: number }, Amount::ZERO).unwrap();
    }
    t.evm.block += t.evm.deployment.config.grace_blocks + 100;
    t
}

fn any_version(rng: &mut Rng) -> AssetVersion {
    version(rng.below(ASSETS + 1), rng.below(VERSIONS) as u32)
}

/// Between the first version's block and the chain's, often one of the last, before which something was frozen, and now and then beyond.
fn any_block(rng: &mut Rng, tip: u64) -> u64 {
    match rng.below(8) {
        0 => rng.u64(),
        1..=4 => tip.saturating_sub(rng.below(100)),
        _ => rng.below(tip + 10),
    }
}

fn change(rng: &mut Rng, tip: u64, (receipt, quote, manifest): (&mut Receipt, &mut Quote, &mut Manifest)) {
    match rng.below(24) {
        0 => receipt.fee = Amount(receipt.fee.0.wrapping_add(u128::from(rng.below(3)).wrapping_sub(1))),
        1 => receipt.reason = rng.reason(),
        2 => receipt.tokens_in = rng.u32(),
        3 => receipt.tokens_out = rng.below(70) as u32,
        4 => receipt.weight_total = rng.u64(),
        5 => receipt.cumulative_after = rng.amount(),
        6 => receipt.index = [rng.hash(), Hash32([0x77; 32]), Hash32([0x78; 32])][rng.below(3) as usize],
        7 => receipt.parameters = rng.below(3) as u32,
        8 => receipt.assets = rng.some(4, any_version),
        9 => receipt.class = rng.class(),
        10 => receipt.block.number = any_block(rng, tip),
        11 => receipt.block = quote.block,
        12 => quote.node = rng.address(),
        13 => quote.block.number = any_block(rng, tip),
        14 => quote.expiry = any_block(rng, tip),
        15 => (quote.rate_in, quote.protocol_fee) = (rng.amount(), rng.amount()),
        16 => quote.tokens_max = rng.below(70) as u32,
        17 => quote.class = rng.class(),
        18 => {
            manifest.index = [rng.hash(), Hash32([0x77; 32]), Hash32([0x78; 32])][rng.below(3) as usize];
            receipt.index = manifest.index;
        }
        19 => manifest.split = rng.split(),
        20 => {
            let count = manifest.datanets.len();
            if let Some(row) = manifest.datanets.get_mut(rng.below(count.max(1) as u64) as usize) {
                row.version = any_version(rng);
                row.treasury = treasury(if rng.is(4) { AssetId(rng.u64()) } else { row.version.asset });
            }
        }
        21 => {
            let count = manifest.assets.len();
            if let Some(row) = manifest.assets.get_mut(rng.below(count.max(1) as u64) as usize) {
                row.version = any_version(rng);
                row.content = content(row.version.asset.0 as u8, row.version.version.max(1) as u8);
            }
        }
        22 => drop(manifest.assets.pop()),
        _ => {
            // The honest manifest of another outermost version.
            let asset =
                |kind, of: u8, number: u8| ManifestAsset { kind, version: version(of.into(), number.into()), content: content(of, number) };
            let number = 1 + rng.below(2) as u8;
            manifest.assets = vec![asset(AssetKind::Base, 1, number), asset(AssetKind::Adapter, 3, number)];
            if rng.is(2) {
                manifest.assets.push(asset(AssetKind::Agent, 4, 1));
            }
            receipt.assets = manifest.assets.iter().map(|asset| asset.version).collect();
        }
    }
}

#[test]
fn the_rules_that_a_bill_breaks_are_the_same() {
    let seen = RefCell::new(BTreeSet::new());
    run_with(10, world(), |t, rng| {
        let (mut receipt, mut quote, mut manifest) = (t.receipt.clone(), t.quote, t.manifest.clone());
        for _ in 0..rng.below(6) {
            change(rng, t.evm.block, (&mut receipt, &mut quote, &mut manifest));
        }
        if !rng.is(8) {
            quote.manifest = manifest.root();
        }
        (receipt.quote, receipt.manifest) = (quote.hash(), manifest.root());
        let (shows_quote, shows_manifest) = (!rng.is(8), !rng.is(8));
        let grace_blocks = t.evm.deployment.config.grace_blocks;
        let case =
            Case { receipt: &receipt, quote: shows_quote.then_some(&quote), manifest: shows_manifest.then_some(&manifest), grace_blocks };
        let found = broken(&t.evm.state, &case);
        let body = |is_shown: bool, body: Vec<u8>| if is_shown { body } else { vec![] };
        let call = BillingVerifier::brokenRulesCall {
            receipt: receipt.encode().into(),
            quote: body(shows_quote, quote.encode()).into(),
            manifest: body(shows_manifest, manifest.encode()).into(),
        };
        let on_chain = t.evm.view(t.evm.deployment.billing, &call).unwrap();
        let codes: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| on_chain.bit(usize::from(rule.code()))).collect();
        assert_eq!(found, codes, "{receipt:?} {quote:?} {manifest:?}");
        seen.borrow_mut().extend(if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() });
    });
    // Bodies that are none have no case.
    let wanted = Rule::ALL.into_iter().filter(|rule| !matches!(rule, Rule::Form | Rule::ManifestForm));
    assert_eq!(seen.into_inner(), wanted.map(Some).chain([None]).collect(), "rules that cases broke; none where a bill broke none");
}
