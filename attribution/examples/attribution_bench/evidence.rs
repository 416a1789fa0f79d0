//! A receipt and its bundle from an answer that was attributed: what a node makes, and whoever checks it reads.

use std::error::Error;

use attribution::{
    answer::answer_root,
    bundle::{Bundle, assets, openings},
    index::Index,
    prompt::{Message, Role, prompt_bytes},
    span::Attribution,
};
use types::{
    amount::Amount,
    encoding::{Body, Document as _},
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::{Account, Domains, Signed},
    manifest::{AssetKind, Manifest, ManifestAsset, ManifestDatanet, treasury},
    options::Options,
    quote::{Class, Profile, Quote},
    receipt::{Reason, Receipt, token_ids_hash},
    request::Request,
    split::{SplitTable, fee},
    text::prompt_root,
    time::BlockRef,
    voucher::{Lane, Voucher},
};

const TOKENS: u32 = 450;
const DOMAINS: Domains =
    Domains { chain_id: 901, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) };

/// Both sides, and what they have agreed on before the answer.
pub(crate) struct Terms {
    node: Account,
    client: Account,
    manifest: Manifest,
    messages: Vec<Message>,
    quote: Signed<Quote>,
    request: Signed<Request>,
    lane: Signed<Lane>,
    options: Body,
}

impl Terms {
    pub(crate) fn over(index: &Index) -> Option<Self> {
        let (node, client) = (Account::from_bytes(&[7; 32])?, Account::from_bytes(&[8; 32])?);
        let version = |asset| AssetVersion { asset: AssetId(asset), version: 1 };
        let datanet = |version: AssetVersion, weight| ManifestDatanet { version, treasury: treasury(version.asset), weight };
        let manifest = Manifest {
            assets: vec![ManifestAsset { kind: AssetKind::Base, version: version(1), content: BlobId([1; 32]) }],
            split: SplitTable { node: 5_500, agent: 0, base: 3_000, adapter: 0, data: 1_000, stakers: 500 },
            index: index.root(),
            parameters: 1,
            datanets: index.datanets().iter().map(|index| datanet(index.version(), index.bytes())).collect(),
        };
        let messages = vec![Message { role: Role::User, content: "What is said about this, and by whom?".into() }];
        let options = Options::default();
        let quote = Quote {
            node: node.address(),
            manifest: manifest.root(),
            profile: Profile::Exact,
            class: Class::Checked,
            rate_in: Amount(1_500_000_007),
            rate_out: Amount(4_000_000_003),
            protocol_fee: Amount(1_000),
            tokens_max: TOKENS,
            block: BlockRef { number: 200, hash: Hash32([9; 32]) },
            expiry: 260,
        };
        let request = Request {
            client: client.address(),
            nonce: 0,
            manifest: manifest.root(),
            rate_in_max: Amount(2_000_000_000),
            rate_out_max: Amount(5_000_000_000),
            profile: Profile::Exact,
            class: Class::Checked,
            sampling: options.sampling(),
            options: options.digest(),
            prompt_root: prompt_root(&prompt_bytes(&messages), Hash32([5; 32])),
            tokens_max: TOKENS,
            spending_limit: Amount(1 << 60),
        };
        let lane = Lane { payer: client.address(), node: node.address(), cap: Amount(1 << 60), expiry: 1_000, nonce: 1 };
        let quote = Signed::new(&node, &DOMAINS, quote);
        let request = Signed::new(&client, &DOMAINS, request);
        let lane = Signed::new(&client, &DOMAINS, lane);
        Some(Self { node, client, manifest, messages, quote, request, lane, options: options.beside() })
    }

    /// The prompt in its hashed form.
    pub(crate) fn prompt(&self) -> Vec<u8> {
        prompt_bytes(&self.messages)
    }

    /// The client's promise for an answer.
    pub(crate) fn voucher(&self) -> Result<Signed<Voucher>, Box<dyn Error>> {
        let quote = &self.quote.document;
        let voucher = Voucher {
            lane: self.lane.document.id(),
            request: self.request.document.id(),
            attempt: 0,
            quote: quote.hash(),
            first_token: 0,
            tokens_in: 40,
            tokens_out: TOKENS,
            token_ids: token_ids_hash(&Self::token_ids()),
            base: Amount(12_345),
            cumulative: Amount(12_345).plus(fee(40, TOKENS, quote.rate_in, quote.rate_out, quote.protocol_fee)?)?,
        };
        Ok(Signed::new(&self.client, &DOMAINS, voucher))
    }

    fn token_ids() -> Vec<u32> {
        (0..TOKENS).map(|number| number * 31 + 7).collect()
    }

    /// What the node does once it knows the spans: places opened, roots, a signature.
    pub(crate) fn bundle(
        &self,
        index: &Index,
        answer: &str,
        found: &Attribution,
        voucher: Signed<Voucher>,
    ) -> Result<Bundle, Box<dyn Error>> {
        let (quote, request, promise) = (&self.quote.document, &self.request.document, &voucher.document);
        let answer_salt = Hash32([6; 32]);
        let receipt = Receipt {
            request: request.id(),
            attempt: 0,
            client: self.client.address(),
            node: self.node.address(),
            lane: promise.lane,
            cumulative_after: promise.cumulative,
            manifest: self.manifest.root(),
            index: index.root(),
            parameters: 1,
            profile: Profile::Exact,
            class: Class::Checked,
            block: quote.block,
            prompt_root: request.prompt_root,
            answer_root: answer_root(answer, &found.words, answer_salt),
            token_ids: promise.token_ids,
            tokens_in: promise.tokens_in,
            first_token: 0,
            tokens_out: promise.tokens_out,
            quote: promise.quote,
            fee: fee(promise.tokens_in, promise.tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee)?,
            reason: Reason::Stop,
            weight_total: found.weight_total,
            fingerprint_root: Hash32::ZERO,
            assets: assets(&self.manifest),
            spans: found.spans.clone(),
            masks: found.masks.clone(),
        };
        Ok(Bundle {
            domains: DOMAINS,
            receipt: Signed::new(&self.node, &DOMAINS, receipt),
            request: self.request.clone(),
            options: self.options.clone(),
            quote: self.quote.clone(),
            lane: self.lane.clone(),
            session: None,
            voucher,
            manifest: self.manifest.clone(),
            messages: self.messages.clone(),
            prompt_salt: Hash32([5; 32]),
            answer: answer.to_owned(),
            answer_salt,
            continued: vec![],
            token_ids: Self::token_ids(),
            openings: openings(index, &found.spans)?,
            fingerprints: vec![],
        })
    }
}
