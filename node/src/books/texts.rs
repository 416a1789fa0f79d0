//! Question and answer of the class `checked`: sealed under a key of the receipt's own, kept with the receipt in one step, and forgotten when nobody can be drawn to
//! check it any more.
//!
//! The bundle beside them is [`Bundle::without_text`], so what was said lies on the disk in no other form. The key is kept wrapped for the node's own account, whose secret is in
//! the encrypted keystore, and for the client's exchange key if it gave one: who has the disk alone reads nothing, of what is kept as of what was forgotten and
//! lies in the database's free pages until they are written over.
//!
//! Size: 10 kB an answer; an epoch's root covers at most 4,096 of them, and with both windows and the two weeks behind them 46 epochs of eight hours are kept: 1.9 GB of a node whose every root
//! is full. `BYTES_MAX` is beyond that, the oldest make room.

use std::collections::BTreeSet;

use attribution::{
    bundle::Bundle,
    transcript::{
        ask::Shown,
        sealed::{OpenError, PlainLength, Sealed, TranscriptKey, open, seal},
        wrap::{BadKey, ExchangeSecret, Wrap, unwrap, wrap},
    },
};
use types::{
    encoding::{Body, DecodeError, Document as _, Reader, Writer},
    id::{ExchangeKey, Hash32},
    key::{Domains, Signed},
    receipt::Receipt,
    voucher::{Lane, Voucher},
};

use super::{Books, BooksError, MARKS, SCAN, damaged};

/// By receipt hash: a [`Text`].
pub(super) const TEXTS: &str = "transcripts";
/// By receipt number: which text that is, and what decides how long it is kept ([`Term`]).
pub(super) const TERMS: &str = "transcript-terms";
/// Bytes of all texts.
pub(super) const BYTES: &[u8] = b"transcript-bytes";
/// Most bytes of texts.
pub(super) const BYTES_MAX: u64 = 1 << 31;
const FORMAT: u8 = 1;

/// A table, a key in it, and its value.
pub(super) type Row = (&'static str, Vec<u8>, Vec<u8>);

/// Why an answer's text cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// Too long.
    #[error(transparent)]
    Length(#[from] PlainLength),
    /// For a key that is none.
    #[error(transparent)]
    Key(#[from] BadKey),
}

/// A sealed transcript with its key's wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// For the node itself.
    own: Wrap,
    /// For the client, made with the receipt.
    client: Option<(ExchangeKey, Wrap)>,
    sealed: Sealed,
}

impl Text {
    /// Seals a bundle; `drawn` are random bytes, used for nothing else.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn of(bundle: &Bundle, own: ExchangeKey, client: Option<ExchangeKey>, drawn: &[u8; 32]) -> Result<Self, TextError> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(bundle).expect("plain data with string keys"));
        let (sealed, key) = seal(bundle.receipt.document.hash(), &plain, drawn)?;
        let client = client.map(|client| wrap(&key, client).map(|wrapped| (client, wrapped))).transpose()?;
        Ok(Self { own: wrap(&key, own)?, client, sealed })
    }

    /// The wrap that was made for the client with the receipt.
    pub fn client_wrap(&self) -> Option<Wrap> {
        self.client.map(|(_, wrapped)| wrapped)
    }

    /// The bundle again, by the node's own key.
    ///
    /// # Errors
    /// [`OpenError`]: the account is another now, or the disk changed it.
    pub fn open(&self, own: &ExchangeSecret, receipt: &Signed<Receipt>, domains: &Domains) -> Result<Bundle, OpenError> {
        open(&self.sealed.encode(), &self.own, own, receipt, domains)
    }

    fn key(&self, own: &ExchangeSecret) -> Result<TranscriptKey, OpenError> {
        Ok(unwrap(&self.own, own, self.sealed.receipt())?)
    }

    /// What `reader` is sent: the sealed transcript, and its key wrapped for it.
    ///
    /// # Errors
    /// [`OpenError`] as above, outside; [`BadKey`] inside.
    pub fn show(&self, own: &ExchangeSecret, reader: ExchangeKey) -> Result<Result<Shown, BadKey>, OpenError> {
        let wrapped = match self.client {
            Some((client, wrapped)) if client == reader => Ok(wrapped),
            _ => wrap(&self.key(own)?, reader),
        };
        Ok(wrapped.map(|wrap| Shown { sealed: Body(self.sealed.encode()), wrap }))
    }

    fn encode(&self, number: u64) -> Vec<u8> {
        let sealed = self.sealed.encode();
        let w = Writer::sized(256 + sealed.len()).u8(FORMAT).u64(number).bytes(&self.own.encode()).u8(u8::from(self.client.is_some()));
        let w = self.client.iter().fold(w, |w, (key, wrapped)| w.bytes(&key.0).bytes(&wrapped.encode()));
        w.bytes(&sealed).finish()
    }

    fn decode(bytes: &[u8]) -> Result<(u64, Self), DecodeError> {
        let mut r = Reader::new(bytes);
        let format = r.u8("format")?;
        if format != FORMAT {
            return Err(DecodeError::Value { field: "format", got: format.into(), expected: "1" });
        }
        let wrapped = |r: &mut Reader<'_>| Wrap::decode(r.bytes("wrap", attribution::transcript::wrap::WRAP_BYTES)?);
        let (number, own) = (r.u64("number")?, wrapped(&mut r)?);
        let client = match r.u8("clients")? {
            0 => None,
            1 => Some((ExchangeKey(r.hash("client's key")?.0), wrapped(&mut r)?)),
            got => return Err(DecodeError::Value { field: "clients", got: got.into(), expected: "0 or 1" }),
        };
        let sealed = Sealed::decode(r.bytes("sealed transcript", r.left())?)?;
        Ok((number, Self { own, client, sealed }))
    }
}

/// What decides how long a text is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// The receipt's number.
    pub number: u64,
    /// The receipt's hash.
    pub receipt: Hash32,
    /// The block that the receipt names.
    pub block: u64,
    /// Bytes of the text.
    pub bytes: u64,
}

impl Term {
    fn encode(&self) -> Vec<u8> {
        Writer::new().hash(self.receipt).u64(self.block).u64(self.bytes).finish()
    }

    fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, DecodeError> {
        let (mut k, mut r) = (Reader::new(key), Reader::new(bytes));
        let term = Self { number: k.u64("number")?, receipt: r.hash("receipt")?, block: r.u64("block")?, bytes: r.u64("bytes")? };
        k.finish()?;
        r.finish().map(|()| term)
    }
}

/// What of this node's receipts the chain says, for how long texts are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// Numbers of receipts under roots whose epochs are over: past W1, W2 and the appeal.
    pub past: BTreeSet<u64>,
    /// Numbers of those under other roots, on the chain or signed for it.
    pub standing: BTreeSet<u64>,
    /// The oldest block that a receipt under a next root may name.
    pub oldest_block: u64,
}

impl Windows {
    /// Whether nothing follows from a receipt's text any more: its epoch is over, or it is under no root and is too old for any.
    pub fn is_over(&self, term: &Term) -> bool {
        self.past.contains(&term.number) || (!self.standing.contains(&term.number) && term.block < self.oldest_block)
    }
}

impl Books {
    /// Keeps a receipt whose answer is not open, as [`Books::keep_receipt`] does: without its text, or with it sealed.
    pub fn keep_closed(
        &self,
        bundle: &Bundle,
        lane: &Signed<Lane>,
        voucher: &Signed<Voucher>,
        text: Option<&Text>,
    ) -> Result<u64, BooksError> {
        self.keep(&bundle.without_text(), lane, voucher, text)
    }

    /// The sealed text of a receipt, with the receipt's number; nothing if there is none, or it was forgotten.
    pub fn text(&self, receipt: Hash32) -> Result<Option<(u64, Text)>, BooksError> {
        let Some(bytes) = self.records.get(TEXTS, &receipt.0)? else { return Ok(None) };
        let (number, text) = Text::decode(&bytes).map_err(|error| damaged(TEXTS, &receipt.0, error))?;
        if text.sealed.receipt() != receipt {
            return Err(damaged(TEXTS, &receipt.0, "it is another receipt's"));
        }
        Ok(Some((number, text)))
    }

    /// Forgets the texts that `windows` says are over; says how many.
    pub fn forget_texts(&self, windows: &Windows) -> Result<usize, BooksError> {
        self.forget_if(|term| windows.is_over(term))
    }

    /// Every text's term, in order of their receipts.
    pub fn terms(&self) -> Result<Vec<Term>, BooksError> {
        let rows = self.scan_all(TERMS)?;
        rows.iter().map(|(key, bytes)| Term::decode(key, bytes).map_err(|error| damaged(TERMS, key, error))).collect()
    }

    fn forget_if(&self, is_over: impl Fn(&Term) -> bool) -> Result<usize, BooksError> {
        let over: Vec<Term> = self.terms()?.into_iter().filter(|term| is_over(term)).collect();
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.forget(&over)?;
        Ok(over.len())
    }

    /// What a text adds to the records of its receipt: text, term, and the bytes of all.
    pub(super) fn with_text(&self, number: u64, receipt: &Receipt, text: &Text) -> Result<[Row; 3], BooksError> {
        let (hash, bytes) = (receipt.hash(), text.encode(number));
        let size = u64::try_from(bytes.len()).expect("a record's length fits 64 bits");
        let term = Term { number, receipt: hash, block: receipt.block.number, bytes: size };
        let all = self.mark(BYTES)?.saturating_add(size).to_be_bytes().to_vec();
        Ok([(TEXTS, hash.0.to_vec(), bytes), (TERMS, number.to_be_bytes().to_vec(), term.encode()), (MARKS, BYTES.to_vec(), all)])
    }

    /// Forgets the oldest texts until all have `most` bytes at most: what [`Books::keep_closed`] does by itself beyond two gibibytes.
    pub fn forget_oldest_texts(&self, most: u64) -> Result<(), BooksError> {
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.make_room(most)
    }

    /// The caller writes.
    pub(super) fn make_room(&self, most: u64) -> Result<(), BooksError> {
        let mut all = self.mark(BYTES)?;
        while all > most {
            let rows = self.records.scan(TERMS, &[], SCAN)?;
            let mut oldest = Vec::new();
            for (key, bytes) in &rows {
                if all <= most {
                    break;
                }
                let term = Term::decode(key, bytes).map_err(|error| damaged(TERMS, key, error))?;
                all = all.saturating_sub(term.bytes);
                oldest.push(term);
            }
            if oldest.is_empty() {
                break;
            }
            tracing::warn!(texts = oldest.len(), most, "no room: the oldest answers can be checked by nobody any more");
            self.forget(&oldest)?;
        }
        Ok(())
    }

    /// The caller writes.
    fn forget(&self, over: &[Term]) -> Result<(), BooksError> {
        for some in over.chunks(SCAN) {
            let left = some.iter().fold(self.mark(BYTES)?, |all, term| all.saturating_sub(term.bytes));
            let keys: Vec<_> = some.iter().map(|term| (term.number.to_be_bytes(), term.receipt)).collect();
            let gone: Vec<(&str, &[u8])> =
                keys.iter().flat_map(|(number, receipt)| [(TERMS, &number[..]), (TEXTS, &receipt.0[..])]).collect();
            self.records.change_all(&[(MARKS, BYTES, &left.to_be_bytes())], &gone)?;
        }
        Ok(())
    }
}
