//! Rust and Solidity, byte for byte and refusal for refusal, over random cases: `Probe` is the contracts' own libraries behind functions.
//!
//! Boundaries come often (0, 1, the most there is). Cases of a group: [`GATE`], or `TRIBUTARY_DIFFERENTIAL` divided among the groups; the first case
//! at odds is named by its seed.

use alloy::sol_types::SolCall;
use chain_bridge::{
    chain::Call,
    fraud::{
        pack::Packer,
        payout::{Shown, read_part},
    },
};
use types::{
    amount::Amount,
    contribution::{Contribution, GateReport},
    encoding::Document,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::{Domains, Signed65, recover},
    manifest::{AssetKind, DATANETS_MAX, MANIFEST_ASSETS_MAX, Manifest, ManifestAsset, ManifestDatanet, treasury},
    merkle::{Opening, SumOpening, SumTree, Summed, Tree},
    operator::{NodeRoot, receipt_leaf},
    payout::{PartLeaf, PayoutLeaf, REFUND_INDEX, Witness},
    quote::{Class, Profile, Quote},
    receipt::{Mask, Reason, Receipt, Span, fee_of},
    request::{Request, SamplingRule},
    split::{self, Part, SplitTable},
    time::BlockRef,
    voucher::{CreditNote, Lane, Voucher},
};

use super::harness::{CHAIN, Evm, account, address};

alloy::sol! {
    #![sol(all_derives)]
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::use_self, clippy::or_fun_call, reason = "generated code")]
    interface Probe {
        struct Lane { address payer; address node; uint128 cap; uint64 expiryBlock; uint64 nonce; }
        struct Voucher { bytes32 lane; bytes32 request; uint128 base; uint128 cumulative; }
        struct CreditNote { bytes32 lane; bytes32 request; uint128 cumulative; uint128 amount; uint64 expiryBlock; }
        struct NodeRoot { address node; uint64 epoch; bytes32 receiptsRoot; uint64 count; uint128 feeSum; }
        struct Contribution {
            uint64 datanet; address contributor; bytes32 textRoot; uint64 textBytes; uint32 documents; bytes32 salt; bytes32 licenceHash;
            bytes32 objectHash;
        }
        struct Quote {
            address node; bytes32 manifestRoot; uint8 profile; uint8 class; uint128 rateIn; uint128 rateOut; uint128 protocolFee;
            uint32 maxTokens; uint64 blockNumber; bytes32 blockHash; uint64 expiryBlock;
        }
        struct Request {
            address client; uint64 nonce; bytes32 manifestRoot; uint128 maxRateIn; uint128 maxRateOut; uint8 profile; uint8 class;
            bytes32 promptRoot; uint32 maxTokens; uint128 spendingLimit;
        }
        struct ManifestAsset { uint8 kind; uint64 asset; uint32 version; bytes32 contentHash; }
        struct ManifestDatanet { uint64 asset; uint32 version; address treasury; uint64 weight; }
        struct Manifest {
            ManifestAsset[] assets; uint16[6] split; bytes32 indexRoot; uint32 parameterId; ManifestDatanet[] datanets;
        }
        struct Span { uint32 start; uint16 length; uint8 datanet; uint40 position; uint32 weight; address payee; }
        struct Opened { bytes32 root; uint64 count; uint64 length; }
        struct Summed { bytes32 root; uint64 count; uint64 index; uint128 total; bool fill; }
        struct Leaf { address account; uint128 previous; uint128 cumulative; bytes32 partsRoot; uint64 index; uint64 count; }
        struct Part {
            bytes32 key; uint128 amount; bytes32 lane; address witnessNode; uint64 witnessEpoch; uint64 witnessIndex; uint64 index; uint64 count;
        }

        function laneDigest(address verifying, bytes body) external view returns (bytes32);
        function voucherDigest(address verifying, bytes body) external view returns (bytes32);
        function creditNoteDigest(address verifying, bytes body) external view returns (bytes32);
        function quoteDigest(address verifying, bytes body) external view returns (bytes32);
        function requestDigest(address verifying, bytes body) external view returns (bytes32);
        function receiptDigest(address verifying, bytes body) external view returns (bytes32);
        function nodeRootDigest(address verifying, bytes body) external view returns (bytes32);
        function contributionDigest(address verifying, bytes body) external view returns (bytes32);
        function gateReportDigest(address verifying, bytes body) external view returns (bytes32);
        function signer(bytes32 digest_, bytes signature) external pure returns (address);
        function lane(bytes body) external pure returns (Lane memory);
        function voucher(bytes body) external pure returns (Voucher memory);
        function creditNote(bytes body) external pure returns (CreditNote memory);
        function nodeRoot(bytes body) external pure returns (NodeRoot memory);
        function contribution(bytes body) external pure returns (Contribution memory);
        function quote(bytes body) external pure returns (bool known, Quote memory fields);
        function request(bytes body) external pure returns (Request memory);
        // A struct of 27 words, none of them of changing length.
        function receipt(bytes body) external pure returns (bytes32[27] memory);
        function feeOf(bytes body) external pure returns (uint128);
        function isWellFormed(bytes body) external pure returns (bool);
        function receiptAsset(bytes body, uint256 number) external pure returns (uint64 asset, uint32 version);
        function span(bytes body, uint256 number) external pure returns (Span memory);
        function manifest(bytes body) external pure returns (bool known, Manifest memory fields);
        function isBillable(uint8 reason) external pure returns (bool);
        function requestId(address client, uint64 nonce) external pure returns (bytes32);
        function treasuryOf(uint64 datanet) external pure returns (address);
        function treeRoot(uint64 count, uint64 length, bytes32 top) external pure returns (bytes32);
        function treeDepth(uint64 count) external pure returns (uint256 ofClaims, uint256 ofProofs);
        function packedOpening(bytes content, uint256 index, bytes evidence) external pure returns (Opened memory);
        function requireReceiptAt(bytes nodeRootBody, uint64 index, bytes32 receiptHash, uint128 fee_, bytes evidence) external pure;
        function sumRoot(uint64 count, uint128 total, bytes32 top) external pure returns (bytes32);
        function sumRootOf(bytes content, uint128 amount, uint64 index, uint64 count, bytes siblings)
            external pure returns (bytes32 root, uint128 total);
        function packedSumOpening(bytes content, uint128 amount, bytes evidence) external pure returns (Summed memory);
        function fee(bytes receiptBody, bytes quoteBody) external pure returns (bool known, uint256 amount);
        function parts(bytes receiptBody, bytes quoteBody, bytes manifestBody, uint32[] codes)
            external pure returns (bool divides, uint256[] memory amounts);
        function roleShare(uint256 total, uint16[6] rows, uint256 row) external pure returns (uint256);
        function sequential(uint256 total, uint64[] weights) external pure returns (uint256[] memory);
        function spanWeights(bytes body) external pure returns (uint256);
        function payoutLeaf(bytes32 root, bytes evidence) external pure returns (Leaf memory);
        function payoutPart(bytes32 root, bytes evidence) external pure returns (Part memory);
        function requireAbsent(bytes32 root, address account, bytes evidence) external pure;
        function requireNoPart(bytes32 root, bytes32 key, bytes32 lane_, bytes evidence) external pure;
        function isPart(bytes content) external pure returns (bool);
        function isBefore(bytes32 key, bytes32 lane_, bytes32 otherKey, bytes32 otherLane) external pure returns (bool);
        function keyOf(address node, uint64 index, uint32 code) external pure returns (bytes32);
        function fieldsOf(bytes32 key) external pure returns (address node, uint64 index, uint32 code);
    }
}

/// Cases of each group in the gate.
const GATE: usize = 2_000;
/// Groups of functions, one test each.
const GROUPS: usize = 9;
/// Where the verifying contract of a random digest stands.
const VERIFYING: Address = Address([0x56; 20]);

fn cases() -> usize {
    let asked = std::env::var("TRIBUTARY_DIFFERENTIAL").ok().and_then(|count| count.parse::<usize>().ok());
    asked.map_or(GATE, |count| count.div_ceil(GROUPS))
}

/// SplitMix64: the same cases everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// Of `bits` bits: an edge every other time.
    fn number(&mut self, bits: u32) -> u128 {
        let most = u128::MAX >> (128 - bits);
        match self.below(10) {
            0 => 0,
            1 => 1,
            2 => most,
            3 => most - 1,
            4 => 1 << self.below(bits.into()),
            _ => (u128::from(self.next()) << 64 | u128::from(self.next())) & (most >> self.below(bits.into())),
        }
    }

    fn u64(&mut self) -> u64 {
        self.number(64) as u64
    }

    fn u32(&mut self) -> u32 {
        self.number(32) as u32
    }

    fn u16(&mut self) -> u16 {
        self.number(16) as u16
    }

    fn amount(&mut self) -> Amount {
        Amount(self.number(128))
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let edge = self.below(8);
        std::array::from_fn(|_| match edge {
            0 => 0,
            1 => 0xff,
            _ => self.next() as u8,
        })
    }

    fn hash(&mut self) -> Hash32 {
        Hash32(self.bytes())
    }

    fn address(&mut self) -> Address {
        Address(self.bytes())
    }

    fn version(&mut self) -> AssetVersion {
        AssetVersion { asset: AssetId(self.u64()), version: self.u32() }
    }

    fn block(&mut self) -> BlockRef {
        BlockRef { number: self.u64(), hash: self.hash() }
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn text(&mut self, most: u64) -> Vec<u8> {
        self.some(most, |rng| rng.next() as u8)
    }

    /// A body that is none, as often as not: a changed, a missing or an added byte.
    fn damage(&mut self, mut body: Vec<u8>) -> Vec<u8> {
        let at = self.below(body.len() as u64) as usize;
        match self.below(8) {
            0 => body[at] ^= 1 << self.below(8),
            1 => body[at] = self.number(8) as u8,
            2 => body.truncate(at),
            3 => body.push(self.number(8) as u8),
            _ => {}
        }
        body
    }

    fn class(&mut self) -> Class {
        [Class::Open, Class::Checked, Class::Sealed][self.below(3) as usize]
    }

    fn reason(&mut self) -> Reason {
        let all = [Reason::Stop, Reason::Length, Reason::Cancelled, Reason::NoVoucher, Reason::EngineFailure, Reason::Empty];
        all[self.below(6) as usize]
    }

    fn split(&mut self) -> SplitTable {
        let mut left = 10_000;
        let mut rows = [0; 6];
        for row in rows.iter_mut().take(5) {
            *row = if self.is(3) { 0 } else { self.below(u64::from(left) + 1) as u16 };
            left -= *row;
        }
        rows[5] = left;
        let turn = self.below(6) as usize;
        rows.rotate_left(turn);
        SplitTable::from_rows(rows)
    }

    fn lane(&mut self) -> Lane {
        Lane { payer: self.address(), node: self.address(), cap: self.amount(), expiry: self.u64(), nonce: self.u64() }
    }

    fn voucher(&mut self) -> Voucher {
        Voucher {
            lane: self.hash(),
            request: self.hash(),
            attempt: self.u16(),
            quote: self.hash(),
            first_token: self.u32(),
            tokens_in: self.u32(),
            tokens_out: self.u32(),
            token_ids: self.hash(),
            base: self.amount(),
            cumulative: self.amount(),
        }
    }

    fn credit_note(&mut self) -> CreditNote {
        CreditNote { lane: self.hash(), request: self.hash(), cumulative: self.amount(), amount: self.amount(), expiry: self.u64() }
    }

    fn quote(&mut self) -> Quote {
        Quote {
            node: self.address(),
            manifest: self.hash(),
            profile: Profile::CandleF32B1,
            class: self.class(),
            rate_in: self.amount(),
            rate_out: self.amount(),
            protocol_fee: self.amount(),
            tokens_max: self.u32(),
            block: self.block(),
            expiry: self.u64(),
        }
    }

    fn request(&mut self) -> Request {
        Request {
            client: self.address(),
            nonce: self.u64(),
            manifest: self.hash(),
            rate_in_max: self.amount(),
            rate_out_max: self.amount(),
            profile: Profile::CandleF32B1,
            class: self.class(),
            sampling: SamplingRule { temperature_milli: self.u32(), top_k: self.u32(), top_p_ppm: self.u32() },
            prompt_root: self.hash(),
            tokens_max: self.u32(),
            spending_limit: self.amount(),
        }
    }

    fn span(&mut self) -> Span {
        Span {
            start: self.u32(),
            length: self.u16(),
            datanet: self.number(8) as u8,
            position: self.number(40) as u64,
            weight: self.u32(),
            payee: self.address(),
        }
    }

    fn receipt(&mut self) -> Receipt {
        Receipt {
            request: self.hash(),
            attempt: self.u16(),
            client: self.address(),
            node: self.address(),
            lane: self.hash(),
            cumulative_after: self.amount(),
            manifest: self.hash(),
            index: self.hash(),
            parameters: self.u32(),
            profile: Profile::CandleF32B1,
            class: self.class(),
            block: self.block(),
            prompt_root: self.hash(),
            answer_root: self.hash(),
            token_ids: self.hash(),
            tokens_in: self.u32(),
            first_token: self.u32(),
            tokens_out: self.u32(),
            quote: self.hash(),
            fee: self.amount(),
            reason: self.reason(),
            weight_total: self.u64(),
            fingerprint_root: self.hash(),
            assets: self.some(3, Self::version),
            spans: self.some(4, Self::span),
            masks: self.some(3, |rng| Mask { start: rng.u32(), length: rng.u32(), prompt: rng.u32() }),
        }
    }

    fn manifest(&mut self) -> Manifest {
        let kinds = [AssetKind::Base, AssetKind::Adapter, AssetKind::Datanet, AssetKind::Agent];
        let datanets = if self.is(20) { DATANETS_MAX as u64 + 1 } else { 3 };
        let assets = if self.is(20) { 5 } else { 3 };
        Manifest {
            assets: self.some(assets, |rng| ManifestAsset {
                kind: kinds[rng.below(4) as usize],
                version: rng.version(),
                content: BlobId(rng.bytes()),
            }),
            split: self.split(),
            index: self.hash(),
            parameters: self.u32(),
            datanets: self.some(datanets, |rng| ManifestDatanet { version: rng.version(), treasury: rng.address(), weight: rng.u64() }),
        }
    }

    fn node_root(&mut self) -> NodeRoot {
        NodeRoot { node: self.address(), epoch: self.u64(), receipts: self.hash(), count: self.u64(), fees: self.amount() }
    }

    fn contribution(&mut self) -> Contribution {
        Contribution {
            datanet: AssetId(self.u64()),
            contributor: self.address(),
            text_root: self.hash(),
            text_bytes: self.u64(),
            documents: self.u32(),
            salt: self.hash(),
            licence: self.hash(),
            object: BlobId(self.bytes()),
        }
    }

    fn gate_report(&mut self) -> GateReport {
        let verdict = if self.is(2) { 1 } else { 0 };
        let mut body = AssetId(self.u64()).0.to_be_bytes().to_vec();
        for _ in 0..3 {
            body.extend(self.hash().0);
        }
        body.push(verdict);
        GateReport::decode(&body).expect("both verdicts are known")
    }

    fn part(&mut self) -> PartLeaf {
        let (node, amount) = (Address([self.below(3) as u8; 20]), Amount(self.number(100).max(1)));
        if self.is(4) {
            let amount = if self.is(3) { Amount::ZERO } else { amount };
            return PartLeaf::refund(node, Hash32([self.below(4) as u8; 32]), amount, self.witness());
        }
        let receipt = if self.is(4) { REFUND_INDEX - self.below(2) } else { self.below(4) };
        let codes = [0, 1, 6, 256, 65_536, Part::Refund.code() - 1, Part::Refund.code() + 1, self.u32()];
        let part = codes[self.below(8) as usize];
        if (receipt, part) == (REFUND_INDEX, Part::Refund.code()) {
            return PartLeaf::refund(node, Hash32([9; 32]), amount, self.witness());
        }
        PartLeaf { node, receipt, part, amount, refund: None }
    }

    fn witness(&mut self) -> Witness {
        if self.is(4) { Witness::NONE } else { Witness { epoch: self.u64(), node: self.address(), index: self.u64() } }
    }
}

/// The probe, asked.
struct Asked {
    evm: Evm,
    probe: Address,
}

impl Asked {
    fn new() -> Self {
        let mut evm = Evm::new();
        let artifact: serde_json::Value = serde_json::from_str(include_str!("../../contracts/artifacts/Probe.json")).unwrap();
        let code = artifact["bytecode"].as_str().unwrap().trim_start_matches("0x");
        let probe = evm.create(hex::decode(code).unwrap());
        Self { evm, probe }
    }

    fn ask<C: SolCall>(&mut self, call: &C) -> Option<C::Return> {
        let call = Call { to: Some(self.probe), data: call.abi_encode(), value: Amount::ZERO };
        let done = self.evm.look(account(9).address(), call).ok()?;
        Some(C::abi_decode_returns(&done.output).expect("the probe's own answer"))
    }
}

/// Runs a group: each case from a seed of its own, which a failure names.
fn run(group: u64, check: impl Fn(&mut Asked, &mut Rng)) {
    let mut asked = Asked::new();
    for number in 0..cases() as u64 {
        let seed = group << 48 | number;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut asked, &mut Rng(seed))));
        assert!(done.is_ok(), "group {group}, case {number}");
    }
}

fn domains() -> Domains {
    Domains { chain_id: CHAIN, escrow: VERIFYING, registry: VERIFYING, settlement: VERIFYING, stake: VERIFYING }
}

fn h(hash: Hash32) -> alloy::primitives::B256 {
    hash.0.into()
}

macro_rules! digests {
    ($asked:ident, $rng:ident, $($make:ident => $call:ident),*) => {$(
        let document = $rng.$make();
        let call = Probe::$call { verifying: address(VERIFYING), body: document.encode().into() };
        assert_eq!($asked.ask(&call), Some(h(domains().digest(&document))), "{}", stringify!($make));
    )*};
}

#[test]
fn digests_are_the_same() {
    run(1, |asked, rng| {
        digests!(asked, rng, lane => laneDigestCall, voucher => voucherDigestCall, credit_note => creditNoteDigestCall);
        digests!(asked, rng, quote => quoteDigestCall, request => requestDigestCall, receipt => receiptDigestCall);
        digests!(asked, rng, node_root => nodeRootDigestCall, contribution => contributionDigestCall, gate_report => gateReportDigestCall);
        let (client, nonce, datanet) = (rng.address(), rng.u64(), rng.u64());
        let request = Request { client, nonce, ..rng.request() };
        assert_eq!(asked.ask(&Probe::requestIdCall { client: address(client), nonce }), Some(h(request.id())));
        assert_eq!(asked.ask(&Probe::treasuryOfCall { datanet }), Some(address(treasury(AssetId(datanet)))));
    });
}

#[test]
fn signers_are_the_same_and_so_is_every_signature_that_is_none() {
    run(2, |asked, rng| {
        let (lane, signer) = (rng.lane(), account(1 + rng.below(200) as u8));
        let mut signature = signer.sign(&domains(), &lane);
        match rng.below(8) {
            0 => signature.0[64] = rng.number(8) as u8,
            1 => signature.0[rng.below(65) as usize] ^= 1 << rng.below(8),
            2 => signature.0[..32].copy_from_slice(&rng.bytes::<32>()),
            3 => signature.0[32..64].copy_from_slice(&rng.bytes::<32>()),
            4 => signature = mirrored(signature),
            _ => {}
        }
        let expected = recover(&domains(), &lane, &signature).map_or(Address::ZERO, |signer| signer);
        let call = Probe::signerCall { digest_: h(domains().digest(&lane)), signature: signature.0.to_vec().into() };
        assert_eq!(asked.ask(&call), Some(address(expected)), "{signature:?}");
    });
}

/// The other signature of the same key over the same digest: s in the upper half.
fn mirrored(signature: Signed65) -> Signed65 {
    use alloy::primitives::{U256, uint};
    const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
    let s = U256::from_be_slice(&signature.0[32..64]);
    let mut other = signature;
    other.0[32..64].copy_from_slice(&(ORDER - s).to_be_bytes::<32>());
    other.0[64] = 55 - signature.0[64];
    other
}

#[test]
fn bodies_are_read_the_same_and_refused_the_same() {
    run(3, |asked, rng| {
        let body = rng.lane().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::laneCall { body: body.clone().into() });
        let read = read.map(|l| (l.payer, l.node, l.cap, l.expiryBlock, l.nonce));
        assert_eq!(read, Lane::decode(&body).ok().map(|l| (address(l.payer), address(l.node), l.cap.0, l.expiry, l.nonce)), "lane");

        let body = rng.voucher().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::voucherCall { body: body.clone().into() }).map(|v| (v.lane, v.request, v.base, v.cumulative));
        assert_eq!(read, Voucher::decode(&body).ok().map(|v| (h(v.lane), h(v.request), v.base.0, v.cumulative.0)), "voucher");

        let body = rng.credit_note().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::creditNoteCall { body: body.clone().into() });
        let read = read.map(|n| (n.lane, n.request, n.cumulative, n.amount, n.expiryBlock));
        let own = CreditNote::decode(&body).ok().map(|n| (h(n.lane), h(n.request), n.cumulative.0, n.amount.0, n.expiry));
        assert_eq!(read, own, "credit note");

        let body = rng.node_root().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::nodeRootCall { body: body.clone().into() });
        let read = read.map(|r| (r.node, r.epoch, r.receiptsRoot, r.count, r.feeSum));
        let own = NodeRoot::decode(&body).ok().map(|r| (address(r.node), r.epoch, h(r.receipts), r.count, r.fees.0));
        assert_eq!(read, own, "node root");

        let body = rng.contribution().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::contributionCall { body: body.clone().into() });
        let read = read.map(|c| (c.datanet, c.contributor, c.textRoot, c.textBytes, c.documents, c.salt, c.licenceHash, c.objectHash));
        let own = Contribution::decode(&body).ok().map(|c| {
            (c.datanet.0, address(c.contributor), h(c.text_root), c.text_bytes, c.documents, h(c.salt), h(c.licence), c.object.0.into())
        });
        assert_eq!(read, own, "contribution");
    });
}

#[test]
fn offers_and_receipts_are_read_the_same_and_refused_the_same() {
    run(4, |asked, rng| {
        let body = rng.quote().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::quoteCall { body: body.clone().into() }).unwrap();
        let read = read.known.then_some(read.fields).map(|q| {
            (
                (q.node, q.manifestRoot, q.profile, q.class),
                (q.rateIn, q.rateOut, q.protocolFee, q.maxTokens),
                (q.blockNumber, q.blockHash, q.expiryBlock),
            )
        });
        let own = Quote::decode(&body).ok().map(|q| {
            let rates = (q.rate_in.0, q.rate_out.0, q.protocol_fee.0, q.tokens_max);
            ((address(q.node), h(q.manifest), q.profile.code(), q.class.code()), rates, (q.block.number, h(q.block.hash), q.expiry))
        });
        assert_eq!(read, own, "quote");

        let body = rng.request().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::requestCall { body: body.clone().into() });
        let read = read.map(|r| {
            (
                (r.client, r.nonce, r.manifestRoot, r.promptRoot),
                (r.maxRateIn, r.maxRateOut, r.spendingLimit),
                (r.profile, r.class, r.maxTokens),
            )
        });
        let own = Request::decode(&body).ok().map(|r| {
            let limits = (r.rate_in_max.0, r.rate_out_max.0, r.spending_limit.0);
            ((address(r.client), r.nonce, h(r.manifest), h(r.prompt_root)), limits, (r.profile.code(), r.class.code(), r.tokens_max))
        });
        assert_eq!(read, own, "request");

        let body = rng.manifest().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::manifestCall { body: body.clone().into() }).unwrap();
        let read = read.known.then_some(read.fields).map(|m| {
            let assets: Vec<_> = m.assets.iter().map(|a| (a.kind, a.asset, a.version, a.contentHash)).collect();
            let datanets: Vec<_> = m.datanets.iter().map(|d| (d.asset, d.version, d.treasury, d.weight)).collect();
            (assets, m.split, m.indexRoot, m.parameterId, datanets)
        });
        let own = Manifest::decode(&body).ok().map(|m| {
            let assets: Vec<_> =
                m.assets.iter().map(|a| (a.kind.code(), a.version.asset.0, a.version.version, a.content.0.into())).collect();
            let datanets: Vec<_> =
                m.datanets.iter().map(|d| (d.version.asset.0, d.version.version, address(d.treasury), d.weight)).collect();
            (assets, m.split.rows(), h(m.index), m.parameters, datanets)
        });
        assert_eq!(read, own, "manifest");
        same_receipt(asked, rng);
    });
}

fn same_receipt(asked: &mut Asked, rng: &mut Rng) {
    let body = rng.receipt().encode();
    let body = rng.damage(body);
    let own = Receipt::decode(&body).ok();
    assert_eq!(asked.ask(&Probe::feeOfCall { body: body.clone().into() }), Some(fee_of(&body).0), "fee of a body, well formed or not");
    assert_eq!(asked.ask(&Probe::isWellFormedCall { body: body.clone().into() }), Some(own.is_some()), "receipt");
    let Some(own) = own else { return };
    let words = asked.ask(&Probe::receiptCall { body: body.clone().into() }).unwrap();
    assert_eq!(words.map(|word| word.0), fields(&own), "receipt");
    assert_eq!(asked.ask(&Probe::isBillableCall { reason: own.reason.code() }), Some(own.reason.is_billable()));
    for (number, asset) in own.assets.iter().enumerate() {
        let row = asked.ask(&Probe::receiptAssetCall { body: body.clone().into(), number: number.try_into().unwrap() }).unwrap();
        assert_eq!((row.asset, row.version), (asset.asset.0, asset.version));
    }
    for (number, span) in own.spans.iter().enumerate() {
        let row = asked.ask(&Probe::spanCall { body: body.clone().into(), number: number.try_into().unwrap() }).unwrap();
        assert_eq!((row.start, row.length, row.datanet), (span.start, span.length, span.datanet));
        assert_eq!((row.position.to::<u64>(), row.weight, row.payee), (span.position, span.weight, address(span.payee)));
    }
    let sum: u64 = own.spans.iter().map(|span| u64::from(span.weight)).sum();
    assert_eq!(asked.ask(&Probe::spanWeightsCall { body: body.into() }), Some(sum.try_into().unwrap()));
}

/// A receipt's fields as words, in the order of the contract's struct.
fn fields(r: &Receipt) -> [[u8; 32]; 27] {
    let number = |value: u128| {
        let mut word = [0; 32];
        word[16..].copy_from_slice(&value.to_be_bytes());
        word
    };
    let account = |address: Address| {
        let mut word = [0; 32];
        word[12..].copy_from_slice(&address.0);
        word
    };
    let small = |value: u64| number(value.into());
    let count = |len: usize| small(len as u64);
    [
        r.request.0,
        small(r.attempt.into()),
        account(r.client),
        account(r.node),
        r.lane.0,
        number(r.cumulative_after.0),
        r.manifest.0,
        r.index.0,
        small(r.parameters.into()),
        small(r.profile.code().into()),
        small(r.class.code().into()),
        small(r.block.number),
        r.block.hash.0,
        r.prompt_root.0,
        r.answer_root.0,
        r.token_ids.0,
        small(r.tokens_in.into()),
        small(r.first_token.into()),
        small(r.tokens_out.into()),
        r.quote.0,
        number(r.fee.0),
        small(r.reason.code().into()),
        small(r.weight_total),
        r.fingerprint_root.0,
        count(r.assets.len()),
        count(r.spans.len()),
        count(r.masks.len()),
    ]
}

#[test]
fn trees_open_to_the_same_roots() {
    run(5, |asked, rng| {
        let leaves = rng.some(20, |rng| rng.text(90));
        let tree = Tree::over(leaves.iter().map(Vec::as_slice));
        let length = leaves.iter().map(Vec::len).sum::<usize>() as u64;
        let call = Probe::treeRootCall { count: leaves.len() as u64, length, top: h(tree.top()) };
        assert_eq!(asked.ask(&call), Some(h(tree.root())));
        let count = rng.number(40) as u64;
        let depths = asked.ask(&Probe::treeDepthCall { count });
        let expected = count.max(1).next_power_of_two().trailing_zeros();
        assert_eq!(depths.map(|d| (d.ofClaims, d.ofProofs)), Some((expected.try_into().unwrap(), expected.try_into().unwrap())), "{count}");
        if leaves.is_empty() {
            return;
        }
        let index = rng.below(leaves.len() as u64);
        let content = leaves[index as usize].clone();
        let mut opening = tree.open(index).unwrap();
        if rng.is(2) {
            spoil(rng, &mut opening);
        }
        let packed = Packer::new().opening(&opening).finish();
        let call =
            Probe::packedOpeningCall { content: content.clone().into(), index: opening.index.try_into().unwrap(), evidence: packed.into() };
        let got = asked.ask(&call).map(|opened| (opened.root, opened.count, opened.length));
        assert_eq!(got, opening.root(&content).map(|root| (h(root), opening.leaves, opening.byte_length)), "{opening:?}");
    });
}

/// Makes an opening lead elsewhere, or nowhere.
fn spoil(rng: &mut Rng, opening: &mut Opening) {
    match rng.below(6) {
        0 => opening.leaves = rng.below(40),
        1 => opening.byte_length = rng.u64(),
        2 => opening.index = rng.below(opening.leaves + 2),
        3 => drop(opening.siblings.pop()),
        4 => opening.siblings.push(rng.hash()),
        _ => {
            if let Some(sibling) = opening.siblings.first_mut() {
                *sibling = rng.hash();
            }
        }
    }
}

#[test]
fn sum_trees_open_to_the_same_roots_and_totals() {
    run(6, |asked, rng| {
        let rows = rng.some(12, |rng| (rng.text(60), Amount(rng.number(128) >> (4 * rng.below(2)))));
        let leaves: Vec<Summed> = rows.iter().map(|(bytes, amount)| Summed::leaf(bytes, *amount)).collect();
        // A total beyond 128 bits is no tree.
        let Ok(tree) = SumTree::new(leaves) else { return };
        let call = Probe::sumRootCall { count: rows.len() as u64, total: tree.total().0, top: h(tree.top().digest) };
        assert_eq!(asked.ask(&call), Some(h(tree.root())));
        if rows.is_empty() {
            return;
        }
        let index = rng.below(rows.len() as u64);
        let (content, mut amount) = rows[index as usize].clone();
        let mut opening = tree.open(index).unwrap();
        match rng.below(10) {
            0 => opening.leaves = rng.below(40),
            1 => opening.index = rng.below(opening.leaves + 2),
            2 => drop(opening.siblings.pop()),
            3 => opening.siblings.push(Summed { digest: rng.hash(), sum: rng.amount() }),
            4 => amount = rng.amount(),
            5 => {
                if let Some(sibling) = opening.siblings.first_mut() {
                    sibling.sum = rng.amount();
                }
            }
            _ => {}
        }
        let own = opening.root(Summed::leaf(&content, amount));
        let call = Probe::packedSumOpeningCall {
            content: content.clone().into(),
            amount: amount.0,
            evidence: Packer::new().sum_opening(&opening).finish().into(),
        };
        let got = asked.ask(&call);
        assert_eq!(got.as_ref().map(|got| (got.root, got.total)), own.map(|(root, total)| (h(root), total.0)), "{opening:?}");
        if own == Some((tree.root(), tree.total())) {
            assert!(got.is_some_and(|got| got.fill), "what lies beyond the leaves of an honest tree is nothing");
        }
        let siblings: Vec<u8> = opening.siblings.iter().flat_map(|s| [s.digest.0.as_slice(), &s.sum.0.to_be_bytes()].concat()).collect();
        let call = Probe::sumRootOfCall {
            content: content.into(),
            amount: amount.0,
            index: opening.index,
            count: opening.leaves,
            siblings: siblings.into(),
        };
        assert_eq!(asked.ask(&call).map(|got| (got.root, got.total)), own.map(|(root, total)| (h(root), total.0)), "claims");
    });
}

/// What a node root says of the receipts under it, honest or not.
#[test]
fn receipts_open_under_node_roots_the_same() {
    run(9, |asked, rng| {
        let receipts = rng.some(12, |rng| (rng.hash(), Amount(rng.number(120))));
        let Ok(tree) = SumTree::new(receipts.iter().map(|(hash, fee)| receipt_leaf(*hash, *fee)).collect()) else { return };
        if receipts.is_empty() {
            return;
        }
        let count = receipts.len() as u64;
        let mut root = NodeRoot { node: rng.address(), epoch: rng.u64(), receipts: tree.root(), count, fees: tree.total() };
        let index = rng.below(count);
        let (mut hash, mut fee) = receipts[index as usize];
        let mut opening = tree.open(index).unwrap();
        let lie = rng.below(12);
        match lie {
            0 => root.count = rng.below(40),
            1 => root.fees = rng.amount(),
            2 => root.receipts = rng.hash(),
            3 => opening.index = rng.below(count + 2),
            4 => hash = rng.hash(),
            5 => fee = rng.amount(),
            6 => drop(opening.siblings.pop()),
            7 => opening.siblings.push(Summed { digest: rng.hash(), sum: rng.amount() }),
            8 => {
                if let Some(sibling) = opening.siblings.first_mut() {
                    sibling.sum = rng.amount();
                }
            }
            _ => {}
        }
        // Evidence repeats no count: the root's is what counts.
        opening.leaves = root.count;
        let call = Probe::requireReceiptAtCall {
            nodeRootBody: root.encode().into(),
            index: opening.index,
            receiptHash: h(hash),
            fee_: fee.0,
            evidence: Packer::new().siblings(&opening.siblings).finish().into(),
        };
        let (taken, own) = (asked.ask(&call).is_some(), root.holds(hash, fee, &opening));
        assert_eq!(taken, own, "{root:?} {opening:?}");
        assert!(lie < 9 || taken, "an honest place opens");
    });
}

#[test]
fn fees_and_shares_are_the_same_to_the_wei() {
    run(7, |asked, rng| {
        let mut manifest = rng.manifest();
        manifest.assets.truncate(MANIFEST_ASSETS_MAX);
        manifest.datanets.truncate(DATANETS_MAX);
        let mut quote = rng.quote();
        if rng.is(2) {
            (quote.rate_in, quote.rate_out, quote.protocol_fee) = (Amount(rng.number(90)), Amount(rng.number(90)), Amount(rng.number(60)));
        }
        let mut receipt = Receipt { manifest: manifest.root(), quote: quote.hash(), ..rng.receipt() };
        let fee = split::fee(receipt.tokens_in, receipt.tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee);
        let call = Probe::feeCall { receiptBody: receipt.encode().into(), quoteBody: quote.encode().into() };
        let got = asked.ask(&call).unwrap();
        assert!(got.known);
        assert_eq!(u128::try_from(got.amount).ok(), fee.as_ref().ok().map(|fee| fee.0));
        if let Ok(fee) = fee {
            receipt.fee = fee;
        }
        let weights: u64 = receipt.spans.iter().map(|span| u64::from(span.weight)).sum();
        if rng.is(2) {
            receipt.weight_total = weights + rng.below(3) * rng.below(1_000);
        }
        same_parts(asked, &receipt, &quote, &manifest);

        let (total, rows) = (rng.amount(), rng.split());
        let weights: Vec<u64> = rng.some(6, |rng| rng.u64());
        let own = split::sequential_remainder(total, &weights);
        let call = Probe::sequentialCall { total: total.0.try_into().unwrap(), weights: weights.clone() };
        let got: Vec<u128> = asked.ask(&call).unwrap().into_iter().map(|share| share.try_into().unwrap()).collect();
        let zeros = vec![0; weights.len()];
        assert_eq!(got, own.map_or(zeros, |shares| shares.into_iter().map(|share| share.0).collect()), "{weights:?} of {total}");
        let own = split::sequential_remainder(total, &rows.rows().map(u64::from)).unwrap();
        for (row, share) in own.into_iter().enumerate() {
            let call = Probe::roleShareCall { total: total.0.try_into().unwrap(), rows: rows.rows(), row: row.try_into().unwrap() };
            assert_eq!(asked.ask(&call), Some(share.0.try_into().unwrap()), "row {row} of {rows:?}");
        }
    });
}

fn same_parts(asked: &mut Asked, receipt: &Receipt, quote: &Quote, manifest: &Manifest) {
    let spans: Vec<u32> = receipt.spans.iter().map(|span| span.weight).collect();
    let treasuries: Vec<u64> = manifest.datanets.iter().map(|datanet| datanet.weight).collect();
    let sum: u64 = spans.iter().map(|weight| u64::from(*weight)).sum();
    let divides = receipt.reason.is_billable()
        && receipt.fee >= quote.protocol_fee
        && receipt.fee <= receipt.cumulative_after
        && sum <= receipt.weight_total;
    let mut codes: Vec<u32> = (0..8).chain([255, Part::Refund.code()]).collect();
    codes.extend((0..=manifest.datanets.len() as u32).map(|number| 256 + number));
    codes.extend((0..=receipt.spans.len() as u32).map(|number| 65_536 + number));
    let call = Probe::partsCall {
        receiptBody: receipt.encode().into(),
        quoteBody: quote.encode().into(),
        manifestBody: manifest.encode().into(),
        codes: codes.clone(),
    };
    let got = asked.ask(&call).unwrap();
    assert_eq!(got.divides, divides);
    if !divides {
        return;
    }
    let own = split::parts(receipt.fee, quote.protocol_fee, &manifest.split, &spans, receipt.weight_total, &treasuries).unwrap();
    for (code, amount) in codes.iter().zip(got.amounts) {
        let part = own.iter().find(|(part, _)| part.code() == *code).map_or(0, |(_, amount)| amount.0);
        assert_eq!(u128::try_from(amount), Ok(part), "part {code} of {own:?}");
    }
}

#[test]
fn payout_trees_are_read_the_same() {
    run(8, |asked, rng| {
        let mut parts = rng.some(6, Rng::part);
        parts.sort_by_key(PartLeaf::place);
        parts.dedup_by_key(|part| part.place());
        let parts_root = types::payout::parts_tree(&parts).unwrap().root();
        let mut accounts = rng.some(5, |rng| Address([rng.below(9) as u8; 20]));
        accounts.sort_unstable();
        accounts.dedup();
        let sum = Amount::sum(parts.iter().map(|part| part.amount)).unwrap();
        let leaves: Vec<PayoutLeaf> = accounts
            .iter()
            .map(|account| {
                let previous = Amount(rng.number(120));
                PayoutLeaf { account: *account, previous, cumulative: previous.plus(sum).unwrap(), parts: parts_root }
            })
            .collect();
        let shown = Shown::of(leaves.iter().map(|leaf| (leaf, parts.as_slice()))).unwrap();
        let wanted = Address([rng.below(9) as u8; 20]);
        let part = rng.part();
        for (index, leaf) in leaves.iter().enumerate() {
            let evidence = chain_bridge::fraud::challenge::asked_leaf(&shown, index).unwrap();
            let found = asked.ask(&Probe::payoutLeafCall { root: h(shown.root()), evidence: evidence.into() }).unwrap();
            assert_eq!((found.account, found.previous, found.cumulative), (address(leaf.account), leaf.previous.0, leaf.cumulative.0));
            assert_eq!((found.partsRoot, found.index, found.count), (h(leaf.parts), index as u64, leaves.len() as u64));
        }
        match shown.absence(wanted) {
            Some(evidence) => {
                let call = Probe::requireAbsentCall { root: h(shown.root()), account: address(wanted), evidence: evidence.into() };
                assert!(asked.ask(&call).is_some(), "{wanted} is not in {accounts:?}");
            }
            None => assert!(accounts.contains(&wanted)),
        }
        // The absence of one place shows that of no place that is taken.
        if let (Some(evidence), Some(taken)) = (shown.absence(wanted), accounts.first()) {
            let call = Probe::requireAbsentCall { root: h(shown.root()), account: address(*taken), evidence: evidence.into() };
            assert!(asked.ask(&call).is_none());
        }
        same_part(asked, rng, &part, parts.first());
        if let (Some(line), Some(evidence)) = (leaves.first(), leaves.first().and_then(|leaf| shown.no_part(leaf.account, &part))) {
            let leaf = chain_bridge::fraud::challenge::asked_leaf(&shown, 0).unwrap();
            let call = Probe::requireNoPartCall {
                root: h(line.parts),
                key: key_of(&part),
                lane_: h(part.lane().unwrap_or(Hash32::ZERO)),
                evidence: evidence[1 + leaf.len()..].to_vec().into(),
            };
            assert!(asked.ask(&call).is_some(), "{part:?} is not in {parts:?}");
        }
    });
}

fn key_of(part: &PartLeaf) -> alloy::primitives::B256 {
    alloy::primitives::B256::from_slice(&part.encode()[..32])
}

fn same_part(asked: &mut Asked, rng: &mut Rng, part: &PartLeaf, other: Option<&PartLeaf>) {
    let key = Probe::keyOfCall { node: address(part.node), index: part.receipt, code: part.part };
    assert_eq!(asked.ask(&key), Some(key_of(part)));
    let fields = asked.ask(&Probe::fieldsOfCall { key: key_of(part) }).unwrap();
    assert_eq!((fields.node, fields.index, fields.code), (address(part.node), part.receipt, part.part));
    let content = rng.damage(part.encode());
    assert_eq!(asked.ask(&Probe::isPartCall { content: content.clone().into() }), Some(read_part(&content).is_some()), "{content:?}");
    if let Some(other) = other {
        let lane = |part: &PartLeaf| h(part.lane().unwrap_or(Hash32::ZERO));
        let call = Probe::isBeforeCall { key: key_of(part), lane_: lane(part), otherKey: key_of(other), otherLane: lane(other) };
        assert_eq!(asked.ask(&call), Some(part.place() < other.place()));
    }
    let tree = types::payout::parts_tree(std::slice::from_ref(part)).unwrap();
    let opening: SumOpening = tree.open(0).unwrap();
    let evidence = Packer::new().blob(&part.encode()).sum_opening(&opening).finish();
    let found = asked.ask(&Probe::payoutPartCall { root: h(tree.root()), evidence: evidence.into() }).unwrap();
    assert_eq!((found.key, found.amount, found.lane), (key_of(part), part.amount.0, h(part.lane().unwrap_or(Hash32::ZERO))));
    let witness = part.refund.map(|refund| refund.witness).unwrap_or_default();
    assert_eq!((found.witnessNode, found.witnessEpoch, found.witnessIndex), (address(witness.node), witness.epoch, witness.index));
}
