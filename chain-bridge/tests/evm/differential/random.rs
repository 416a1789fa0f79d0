//! Random documents, honest and damaged, from a seed.

use types::{
    amount::Amount,
    contribution::{Contribution, GateReport},
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    manifest::{AssetKind, DATANETS_MAX, Manifest, ManifestAsset, ManifestDatanet},
    operator::NodeRoot,
    payout::{PartLeaf, REFUND_INDEX, Witness},
    quote::{Class, Profile, Quote},
    receipt::{Mask, Reason, Receipt, Span},
    request::{Request, SamplingRule},
    split::{Part, SplitTable},
    time::BlockRef,
    voucher::{CreditNote, Lane, Voucher},
};

/// SplitMix64: the same cases everywhere.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// Of `bits` bits: an edge every other time.
    pub(crate) fn number(&mut self, bits: u32) -> u128 {
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

    pub(crate) fn u64(&mut self) -> u64 {
        self.number(64) as u64
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.number(32) as u32
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.number(16) as u16
    }

    pub(crate) fn amount(&mut self) -> Amount {
        Amount(self.number(128))
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let edge = self.below(8);
        std::array::from_fn(|_| match edge {
            0 => 0,
            1 => 0xff,
            _ => self.next() as u8,
        })
    }

    pub(crate) fn hash(&mut self) -> Hash32 {
        Hash32(self.bytes())
    }

    pub(crate) fn address(&mut self) -> Address {
        Address(self.bytes())
    }

    pub(crate) fn version(&mut self) -> AssetVersion {
        AssetVersion { asset: AssetId(self.u64()), version: self.u32() }
    }

    pub(crate) fn block(&mut self) -> BlockRef {
        BlockRef { number: self.u64(), hash: self.hash() }
    }

    pub(crate) fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    pub(crate) fn text(&mut self, most: u64) -> Vec<u8> {
        self.some(most, |rng| rng.next() as u8)
    }

    /// A body that is none, as often as not: a changed, a missing or an added byte.
    pub(crate) fn damage(&mut self, mut body: Vec<u8>) -> Vec<u8> {
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

    pub(crate) fn profile(&mut self) -> Profile {
        Profile::ALL[self.below(3) as usize]
    }

    pub(crate) fn class(&mut self) -> Class {
        [Class::Open, Class::Checked, Class::Sealed][self.below(3) as usize]
    }

    pub(crate) fn reason(&mut self) -> Reason {
        let all = [Reason::Stop, Reason::Length, Reason::Cancelled, Reason::NoVoucher, Reason::EngineFailure, Reason::Empty];
        all[self.below(6) as usize]
    }

    pub(crate) fn split(&mut self) -> SplitTable {
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

    pub(crate) fn lane(&mut self) -> Lane {
        Lane { payer: self.address(), node: self.address(), cap: self.amount(), expiry: self.u64(), nonce: self.u64() }
    }

    pub(crate) fn voucher(&mut self) -> Voucher {
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

    pub(crate) fn credit_note(&mut self) -> CreditNote {
        CreditNote { lane: self.hash(), request: self.hash(), cumulative: self.amount(), amount: self.amount(), expiry: self.u64() }
    }

    pub(crate) fn quote(&mut self) -> Quote {
        Quote {
            node: self.address(),
            manifest: self.hash(),
            profile: self.profile(),
            class: self.class(),
            rate_in: self.amount(),
            rate_out: self.amount(),
            protocol_fee: self.amount(),
            tokens_max: self.u32(),
            block: self.block(),
            expiry: self.u64(),
        }
    }

    pub(crate) fn request(&mut self) -> Request {
        Request {
            client: self.address(),
            nonce: self.u64(),
            manifest: self.hash(),
            rate_in_max: self.amount(),
            rate_out_max: self.amount(),
            profile: self.profile(),
            class: self.class(),
            sampling: SamplingRule { temperature_milli: self.u32(), top_k: self.u32(), top_p_ppm: self.u32() },
            options: self.hash(),
            prompt_root: self.hash(),
            tokens_max: self.u32(),
            spending_limit: self.amount(),
        }
    }

    pub(crate) fn span(&mut self) -> Span {
        Span {
            start: self.u32(),
            length: self.u16(),
            datanet: self.number(8) as u8,
            position: self.number(40) as u64,
            weight: self.u32(),
            payee: self.address(),
        }
    }

    pub(crate) fn receipt(&mut self) -> Receipt {
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
            profile: self.profile(),
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

    pub(crate) fn manifest(&mut self) -> Manifest {
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

    pub(crate) fn node_root(&mut self) -> NodeRoot {
        NodeRoot { node: self.address(), epoch: self.u64(), receipts: self.hash(), count: self.u64(), fees: self.amount() }
    }

    pub(crate) fn contribution(&mut self) -> Contribution {
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

    pub(crate) fn gate_report(&mut self) -> GateReport {
        let verdict = if self.is(2) { 1 } else { 0 };
        let mut body = AssetId(self.u64()).0.to_be_bytes().to_vec();
        for _ in 0..4 {
            body.extend(self.hash().0);
        }
        body.push(verdict);
        GateReport::decode(&body).expect("both verdicts are known")
    }

    pub(crate) fn part(&mut self) -> PartLeaf {
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

    pub(crate) fn witness(&mut self) -> Witness {
        if self.is(4) { Witness::NONE } else { Witness { epoch: self.u64(), node: self.address(), index: self.u64() } }
    }
}
