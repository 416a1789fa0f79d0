//! An honest answer: registered assets, a posted index, a staked node, a signed quote and receipt, all trees behind it.

use chain_bridge::{
    bindings::{AssetRegistry, StakeManager},
    fraud::rules::{Case, Rule, broken},
};
use types::{
    amount::Amount,
    encoding::Document,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::{Account, Signed},
    manifest::{AssetKind, Manifest, ManifestAsset, ManifestDatanet, treasury},
    quote::{Class, Profile, Quote},
    receipt::{Receipt, Span},
    split::{self, SplitTable},
    time::BlockRef,
};

use super::{
    fixture,
    harness::{Evm, account, open},
};

/// Everything that stands behind one honest receipt.
pub(crate) struct Transcript {
    pub(crate) evm: Evm,
    pub(crate) node: Account,
    pub(crate) text: fixture::World,
    pub(crate) manifest: Manifest,
    pub(crate) quote: Quote,
    pub(crate) receipt: Receipt,
}

pub(crate) const PAYEE: Address = Address([9; 20]);

fn version(asset: u64) -> AssetVersion {
    AssetVersion { asset: AssetId(asset), version: 1 }
}

fn refs(versions: &[AssetVersion]) -> Vec<AssetRegistry::Ref> {
    versions.iter().map(|version| AssetRegistry::Ref { asset: version.asset.0, version: version.version }).collect()
}

/// A base, a Datanet and an adapter on both, whose index root is posted.
fn register(evm: &mut Evm, node: &Account, table: SplitTable, index: Hash32) {
    let (owner, registry) = (account(3).address(), evm.deployment.registry);
    for kind in [1, 3, 2] {
        evm.call(owner, registry, &AssetRegistry::registerCall { kind, uri: "card".into() }, Amount::ZERO).unwrap();
    }
    let base = SplitTable { adapter: 0, node: table.node + table.adapter, ..table };
    for (asset, split, parents, datanets) in
        [(1, base, vec![], vec![]), (2, SplitTable::default(), vec![], vec![]), (3, table, vec![version(1)], vec![version(2)])]
    {
        evm.block += 1;
        let call = AssetRegistry::publishCall {
            asset,
            contentHash: [asset as u8; 32].into(),
            parents: refs(&parents),
            split: split.rows(),
            datanets: refs(&datanets),
            licenceHash: [8; 32].into(),
            minParentShare: 0,
        };
        evm.call(owner, registry, &call, Amount::ZERO).unwrap();
    }
    let call = AssetRegistry::approveParametersCall { paramId: 1, paramHash: [4; 32].into() };
    evm.call(account(60).address(), registry, &call, Amount::ZERO).unwrap();
    evm.block += 1;
    let call = AssetRegistry::postIndexRootCall { asset: 3, version: 1, root: index.0.into(), paramId: 1 };
    evm.call(node.address(), registry, &call, Amount::ZERO).unwrap();
    evm.block += 300;
}

impl Transcript {
    pub(crate) fn new() -> Self {
        let mut evm = Evm::new();
        let (node, client) = (account(1), account(2).address());
        let text = fixture::World::new();
        evm.bond(&node, open(1_000));
        let join = StakeManager::joinCall { roles: 6 };
        evm.call(node.address(), evm.deployment.stake, &join, Amount::ZERO).unwrap();
        let plain = text.receipt(node.address(), client, 0, vec![]);
        let table = SplitTable { node: 4_000, base: 1_500, adapter: 500, data: 3_000, stakers: 1_000, ..SplitTable::default() };
        register(&mut evm, &node, table, plain.index);

        let asset = |kind, asset: u64| ManifestAsset { kind, version: version(asset), content: BlobId([asset as u8; 32]) };
        let manifest = Manifest {
            assets: vec![asset(AssetKind::Base, 1), asset(AssetKind::Adapter, 3)],
            split: table,
            index: plain.index,
            parameters: 1,
            datanets: vec![ManifestDatanet { version: version(2), treasury: treasury(AssetId(2)), weight: 77 }],
        };
        let block = BlockRef { number: evm.block - 5, hash: Hash32([11; 32]) };
        let quote = Quote {
            node: node.address(),
            manifest: manifest.root(),
            profile: Profile::Exact,
            class: Class::Checked,
            rate_in: Amount(2_000_003),
            rate_out: Amount(6_000_001),
            protocol_fee: Amount(501),
            tokens_max: 64,
            block,
            expiry: block.number + 50,
        };
        let mut receipt = text.receipt(node.address(), client, 0, vec![text.true_span(PAYEE)]);
        receipt.manifest = manifest.root();
        receipt.quote = quote.hash();
        receipt.block = block;
        receipt.assets = vec![version(1), version(3)];
        receipt.fee = split::fee(receipt.tokens_in, receipt.tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee).unwrap();
        receipt.cumulative_after = receipt.fee;
        Self { evm, node, text, manifest, quote, receipt }
    }

    /// Signed as the node would, whatever it says.
    pub(crate) fn sign(&self, receipt: Receipt) -> Signed<Receipt> {
        Signed::new(&self.node, &self.evm.deployment.domains(), receipt)
    }

    /// What the Rust rules find.
    pub(crate) fn broken(&self, receipt: &Receipt, quote: &Quote, manifest: &Manifest) -> Vec<Rule> {
        let grace_blocks = self.evm.deployment.config.grace_blocks;
        broken(&self.evm.state, &Case { receipt, quote: Some(quote), manifest: Some(manifest), grace_blocks })
    }

    pub(crate) fn true_span(&self) -> Span {
        self.text.true_span(PAYEE)
    }
}

/// Cases of a property; `TRIBUTARY_SOAK` multiplies them.
pub(crate) fn cases(gate: u32) -> u32 {
    std::env::var("TRIBUTARY_SOAK").ok().and_then(|factor| factor.parse().ok()).map_or(gate, |factor: u32| gate.saturating_mul(factor))
}
