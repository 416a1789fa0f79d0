//! Receipts: the signed statement of one answer, and a checker's report on one (P4).
//!
//! 499 bytes with its signature, then 12 per asset, 40 per span, 12 per mask.

use serde::{Deserialize, Serialize};

use crate::{
    amount::Amount,
    encoding::{Contract, DecodeError, Document, Reader, Writer, count_u8, count_u16, read_list, read_u40},
    id::{Address, AssetVersion, Hash32},
    merkle::keccak,
    quote::{Class, Profile},
    time::BlockRef,
};

/// Most spans of one receipt: with as many masks it has 54 kB, which a transaction can carry, so every fault of it can be proven.
pub const SPANS_MAX: usize = 1_024;
/// Most masks of one receipt.
pub const MASKS_MAX: usize = 1_024;
/// Most assets of one receipt.
pub const ASSETS_MAX: usize = 32;

/// A run of answer bytes found in a Datanet, and whom it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// First byte in the answer.
    pub start: u32,
    /// Bytes.
    pub length: u16,
    /// Number of the Datanet in the manifest.
    pub datanet: u8,
    /// First byte in the Datanet's segments (40 bits).
    #[serde(deserialize_with = "read_u40")]
    pub position: u64,
    /// Weight in 1/256 bit.
    pub weight: u32,
    /// Account paid.
    pub payee: Address,
}

/// A run of answer bytes that the prompt already held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// First byte in the answer.
    pub start: u32,
    /// Bytes.
    pub length: u32,
    /// Smallest offset in the prompt bytes where it stands.
    pub prompt: u32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The model ended it.
    Stop,
    /// The token limit.
    Length,
    /// The client cancelled.
    Cancelled,
    /// No voucher came in time.
    NoVoucher,
    /// The engine failed; nothing is billed.
    EngineFailure,
    /// There was no text; nothing is billed.
    Empty,
}

impl Reason {
    /// Code in documents.
    pub const fn code(self) -> u8 {
        match self {
            Self::Stop => 0,
            Self::Length => 1,
            Self::Cancelled => 2,
            Self::NoVoucher => 3,
            Self::EngineFailure => 16,
            Self::Empty => 17,
        }
    }

    /// Whether an answer that ended so may carry a fee.
    pub const fn is_billable(self) -> bool {
        self.code() < 16
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let all = [Self::Stop, Self::Length, Self::Cancelled, Self::NoVoucher, Self::EngineFailure, Self::Empty];
        let got = r.u8("reason")?;
        all.into_iter().find(|reason| reason.code() == got).ok_or_else(|| DecodeError::Value {
            field: "reason",
            got: got.into(),
            expected: "0 to 3, 16 or 17",
        })
    }
}

/// The signed statement of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Request id.
    pub request: Hash32,
    /// Attempt number.
    pub attempt: u16,
    /// Who asked.
    pub client: Address,
    /// Who answered.
    pub node: Address,
    /// Lane id.
    pub lane: Hash32,
    /// The lane's cumulative amount with this answer.
    pub cumulative_after: Amount,
    /// Manifest root.
    pub manifest: Hash32,
    /// Index root the attribution used.
    pub index: Hash32,
    /// Attribution parameters.
    pub parameters: u32,
    /// Numeric rules.
    pub profile: Profile,
    /// Privacy class.
    pub class: Class,
    /// Block by which owners and status are read.
    pub block: BlockRef,
    /// Salted prompt root.
    pub prompt_root: Hash32,
    /// Salted answer root.
    pub answer_root: Hash32,
    /// keccak of the answer's token ids up to this attempt's last one, those of earlier attempts included.
    pub token_ids: Hash32,
    /// Input tokens.
    pub tokens_in: u32,
    /// Output tokens delivered before this attempt.
    pub first_token: u32,
    /// Output tokens vouched for in this attempt.
    pub tokens_out: u32,
    /// Quote hash.
    pub quote: Hash32,
    /// What the answer costs.
    pub fee: Amount,
    /// Why it ended.
    pub reason: Reason,
    /// W: weight of all unmasked words.
    pub weight_total: u64,
    /// Root of activation fingerprints; zero where the profile has none ([`Profile::has_fingerprint`]), and where the node commits to none, as
    /// `exact` does; a billed receipt of `fast` has one ([`crate::fingerprint::root`]).
    pub fingerprint_root: Hash32,
    /// The assets that answered.
    #[serde(deserialize_with = "read_list::<_, _, ASSETS_MAX>")]
    pub assets: Vec<AssetVersion>,
    /// Spans, ascending by start.
    #[serde(deserialize_with = "read_list::<_, _, SPANS_MAX>")]
    pub spans: Vec<Span>,
    /// Masks, ascending by start.
    #[serde(deserialize_with = "read_list::<_, _, MASKS_MAX>")]
    pub masks: Vec<Mask>,
}

/// keccak of token ids as 32-bit integers.
pub fn token_ids_hash(tokens: &[u32]) -> Hash32 {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_be_bytes()).collect();
    keccak(&[&bytes])
}

/// Where a receipt's fee stands in its body.
const FEE_AT: std::ops::Range<usize> = 372..388;

/// The fee at its place in a receipt's body, whatever else of the body is malformed; nothing if the body ends before: what its leaf in the node's tree
/// counts (P4).
pub fn fee_of(body: &[u8]) -> Amount {
    let bytes = body.get(FEE_AT).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(Amount::ZERO, |bytes| Amount(u128::from_be_bytes(bytes)))
}

impl Receipt {
    /// Whether it takes money of its lane. What does not speaks for none: it bounds no refund (P6), since it breaks no rule by whatever it names.
    pub fn bills(&self) -> bool {
        self.reason.is_billable() && self.fee != Amount::ZERO
    }
}

impl Document for Receipt {
    const NAME: &'static str = "Receipt";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::sized(434 + 12 * self.assets.len() + 40 * self.spans.len() + 12 * self.masks.len())
            .hash(self.request)
            .u16(self.attempt)
            .address(self.client)
            .address(self.node)
            .hash(self.lane)
            .amount(self.cumulative_after)
            .hash(self.manifest)
            .hash(self.index)
            .u32(self.parameters)
            .u8(self.profile.code())
            .u8(self.class.code())
            .block(self.block)
            .hash(self.prompt_root)
            .hash(self.answer_root)
            .hash(self.token_ids)
            .u32(self.tokens_in)
            .u32(self.first_token)
            .u32(self.tokens_out)
            .hash(self.quote)
            .amount(self.fee)
            .u8(self.reason.code())
            .u64(self.weight_total)
            .hash(self.fingerprint_root)
            .u8(count_u8(self.assets.len()))
            .each(&self.assets, |w, asset| w.asset(*asset))
            .u16(count_u16(self.spans.len()))
            .each(&self.spans, |w, s| w.u32(s.start).u16(s.length).u8(s.datanet).u40(s.position).u32(s.weight).address(s.payee).u32(0))
            .u16(count_u16(self.masks.len()))
            .each(&self.masks, |w, m| w.u32(m.start).u32(m.length).u32(m.prompt))
            .finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let receipt = Self {
            request: r.hash("request")?,
            attempt: r.u16("attempt")?,
            client: r.address("client")?,
            node: r.address("node")?,
            lane: r.hash("lane")?,
            cumulative_after: r.amount("cumulative after")?,
            manifest: r.hash("manifest")?,
            index: r.hash("index")?,
            parameters: r.u32("parameters")?,
            profile: Profile::read(&mut r)?,
            class: Class::read(&mut r)?,
            block: r.block("block")?,
            prompt_root: r.hash("prompt root")?,
            answer_root: r.hash("answer root")?,
            token_ids: r.hash("token ids")?,
            tokens_in: r.u32("tokens in")?,
            first_token: r.u32("first token")?,
            tokens_out: r.u32("tokens out")?,
            quote: r.hash("quote")?,
            fee: r.amount("fee")?,
            reason: Reason::read(&mut r)?,
            weight_total: r.u64("weight total")?,
            fingerprint_root: r.hash("fingerprint root")?,
            assets: counted(&mut r, "assets", ASSETS_MAX, false, 12, |r| r.asset("asset"))?,
            spans: counted(&mut r, "spans", SPANS_MAX, true, 40, read_span)?,
            masks: counted(&mut r, "masks", MASKS_MAX, true, 12, |r| {
                Ok(Mask { start: r.u32("mask start")?, length: r.u32("mask length")?, prompt: r.u32("mask prompt offset")? })
            })?,
        };
        r.finish()?;
        fingerprint(receipt.profile, receipt.fingerprint_root).map(|()| receipt)
    }
}

fn counted<T>(
    r: &mut Reader<'_>,
    field: &'static str,
    most: usize,
    wide: bool,
    item_len: usize,
    item: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = if wide { usize::from(r.u16(field)?) } else { usize::from(r.u8(field)?) };
    if count > most {
        return Err(DecodeError::Value { field, got: u64::try_from(count).unwrap_or(u64::MAX), expected: "fewer of them" });
    }
    r.each(field, count, item_len, item)
}

fn fingerprint(profile: Profile, root: Hash32) -> Result<(), DecodeError> {
    match root.0.iter().find(|byte| **byte != 0).filter(|_| !profile.has_fingerprint()) {
        None => Ok(()),
        Some(got) => Err(DecodeError::Value { field: "fingerprint root", got: (*got).into(), expected: "zero in this profile" }),
    }
}

fn read_span(r: &mut Reader<'_>) -> Result<Span, DecodeError> {
    let span = Span {
        start: r.u32("span start")?,
        length: r.u16("span length")?,
        datanet: r.u8("span Datanet")?,
        position: r.u40("span position")?,
        weight: r.u32("span weight")?,
        payee: r.address("span payee")?,
    };
    match r.u32("span spare")? {
        0 => Ok(span),
        got => Err(DecodeError::Value { field: "span spare", got: got.into(), expected: "zero" }),
    }
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Everything agrees.
    Agrees,
    /// A token is not what the model gives.
    Token,
    /// The text is not that of the tokens.
    Text,
    /// Spans, weights or masks differ.
    Attribution,
    /// The fee or its parts differ.
    Split,
    /// A signature does not stand.
    Signature,
    /// A fingerprint of activations is not near what the model gives. Evidence, and no proof: nobody is slashed for it.
    Activations,
}

impl Finding {
    /// Its number in documents.
    pub const fn code(self) -> u8 {
        match self {
            Self::Agrees => 0,
            Self::Token => 1,
            Self::Text => 2,
            Self::Attribution => 3,
            Self::Split => 4,
            Self::Signature => 5,
            Self::Activations => 6,
        }
    }

    /// The finding with this number.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Agrees,
            1 => Self::Token,
            2 => Self::Text,
            3 => Self::Attribution,
            4 => Self::Split,
            5 => Self::Signature,
            6 => Self::Activations,
            _ => return None,
        })
    }
}

/// A checker's signed report on one receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckReport {
    /// The checker's account.
    pub checker: Address,
    /// keccak of the receipt body.
    pub receipt: Hash32,
    /// What was found.
    pub finding: Finding,
    /// Output token, byte or span concerned; 0 when all agrees.
    pub position: u32,
    /// Trace digest, keyed by the checker's address.
    pub trace: Hash32,
}

impl Document for CheckReport {
    const NAME: &'static str = "CheckReport";
    const CONTRACT: Contract = Contract::Settlement;

    fn encode(&self) -> Vec<u8> {
        Writer::new().address(self.checker).hash(self.receipt).u8(self.finding.code()).u32(self.position).hash(self.trace).finish()
    }

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let (checker, receipt) = (r.address("checker")?, r.hash("receipt")?);
        let got = r.u8("finding")?;
        let unknown = DecodeError::Value { field: "finding", got: got.into(), expected: "0 to 6" };
        let finding = Finding::from_code(got).ok_or(unknown)?;
        let report = Self { checker, receipt, finding, position: r.u32("position")?, trace: r.hash("trace")? };
        r.finish().map(|()| report)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt(spans: usize, masks: usize) -> Receipt {
        let span = Span { start: 1, length: 2, datanet: 3, position: 4 << 33, weight: 5, payee: Address([6; 20]) };
        Receipt {
            request: Hash32([1; 32]),
            attempt: 2,
            client: Address([3; 20]),
            node: Address([4; 20]),
            lane: Hash32([5; 32]),
            cumulative_after: Amount(6),
            manifest: Hash32([7; 32]),
            index: Hash32([8; 32]),
            parameters: 9,
            profile: Profile::Exact,
            class: Class::Checked,
            block: BlockRef { number: 10, hash: Hash32([11; 32]) },
            prompt_root: Hash32([12; 32]),
            answer_root: Hash32([13; 32]),
            token_ids: Hash32([14; 32]),
            tokens_in: 15,
            first_token: 16,
            tokens_out: 17,
            quote: Hash32([18; 32]),
            fee: Amount(19),
            reason: Reason::Length,
            weight_total: 20,
            fingerprint_root: Hash32::ZERO,
            assets: vec![AssetVersion { asset: crate::id::AssetId(1), version: 2 }],
            spans: vec![span; spans],
            masks: vec![Mask { start: 7, length: 8, prompt: 9 }; masks],
        }
    }

    #[test]
    fn a_receipt_has_the_size_the_protocol_states() {
        assert_eq!(receipt(0, 0).encode().len(), 434 + 12);
        let body = Receipt { fee: Amount(u128::MAX - 5), ..receipt(1, 1) }.encode();
        assert_eq!(fee_of(&body), Amount(u128::MAX - 5));
        assert_eq!((fee_of(&body[..FEE_AT.end]), fee_of(&body[..FEE_AT.end - 1])), (Amount(u128::MAX - 5), Amount::ZERO));
        assert_eq!(receipt(2, 3).encode().len(), 434 + 12 + 2 * 40 + 3 * 12);
    }

    #[test]
    fn a_body_holds_as_many_items_as_the_protocol_allows_and_no_more() {
        let mut fullest = receipt(SPANS_MAX, MASKS_MAX);
        fullest.assets = vec![fullest.assets[0]; ASSETS_MAX];
        assert_eq!(Receipt::decode(&fullest.encode()), Ok(fullest));
        let asset = receipt(0, 0).assets[0];
        let more = [
            ("assets", Receipt { assets: vec![asset; ASSETS_MAX + 1], ..receipt(0, 0) }),
            ("spans", receipt(SPANS_MAX + 1, 0)),
            ("masks", receipt(0, MASKS_MAX + 1)),
        ];
        for (list, receipt) in more {
            assert!(matches!(Receipt::decode(&receipt.encode()), Err(DecodeError::Value { field, .. }) if field == list), "{list}");
        }
    }

    #[test]
    fn a_fingerprint_root_is_refused_in_the_profile_that_has_none_and_read_in_the_others() {
        for profile in Profile::ALL {
            let (bare, committed) = (receipt(0, 0), Hash32([[0; 31].as_slice(), &[1]].concat().try_into().unwrap()));
            let (bare, committed) = (Receipt { profile, ..bare.clone() }, Receipt { profile, fingerprint_root: committed, ..bare });
            assert_eq!(Receipt::decode(&bare.encode()), Ok(bare));
            let read = Receipt::decode(&committed.encode());
            if profile == Profile::CandleF32B1 {
                assert!(matches!(read, Err(DecodeError::Value { field: "fingerprint root", got: 1, .. })), "{read:?}");
            } else {
                assert_eq!(read, Ok(committed));
            }
        }
    }

    #[test]
    fn non_zero_spare_bytes_are_refused() {
        let mut body = receipt(1, 0).encode();
        let spare = body.len() - 3;
        body[spare] = 1;
        assert!(matches!(Receipt::decode(&body), Err(DecodeError::Value { field: "span spare", .. })));
    }

    #[test]
    fn json_that_no_body_could_hold_is_refused_before_it_is_encoded() {
        let value = |spans, masks| serde_json::to_value(receipt(spans, masks)).unwrap();
        let refused = |value: serde_json::Value, says: &str| {
            let error = serde_json::from_value::<Receipt>(value).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        };
        let mut far = value(1, 0);
        far["spans"][0]["position"] = (1_u64 << 40).into();
        refused(far, "40 bits");
        refused(value(SPANS_MAX + 1, 0), "more than 1024");
        refused(value(0, MASKS_MAX + 1), "more than 1024");
        let mut many = value(0, 0);
        many["assets"] = vec![many["assets"][0].clone(); ASSETS_MAX + 1].into();
        refused(many, "more than 32");
        assert_eq!(serde_json::from_value::<Receipt>(value(SPANS_MAX, 2)).unwrap(), receipt(SPANS_MAX, 2));
    }

    proptest! {
        #[test]
        fn receipts_round_trip_and_every_truncation_is_refused(spans in 0..5_usize, masks in 0..5_usize, cut in 1..100_usize) {
            let receipt = receipt(spans, masks);
            let body = receipt.encode();
            prop_assert_eq!(Receipt::decode(&body), Ok(receipt));
            prop_assert!(Receipt::decode(&body[..body.len() - cut]).is_err());
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = Receipt::decode(&bytes);
            let _ = CheckReport::decode(&bytes);
        }

        #[test]
        fn a_changed_byte_changes_or_breaks_the_receipt(at in 0..520_usize, by in 1..=255_u8) {
            let receipt = receipt(1, 1);
            let mut body = receipt.encode();
            let at = at % body.len();
            body[at] ^= by;
            prop_assert_ne!(Receipt::decode(&body), Ok(receipt));
        }
    }
}
