//! Paying for an answer as it arrives: what each side may do next, without stream, clock or key.
//!
//! The client promises the prompt and the first token when that token arrives, then every [`VOUCHER_TOKENS`] tokens, then the rest; the node
//! delivers at most that many tokens unpaid. So a dead node was paid for nothing that did not arrive, and a vanished client owes
//! at most one step (PROTOCOL section 5). Both sides derive the same [`Voucher`] from the same [`Terms`], so the node compares for equality.

use types::{
    amount::{Amount, AmountError},
    id::Hash32,
    quote::{PROTOCOL_FEE, Quote},
    receipt::{Reason, token_ids_hash},
    request::Request,
    split,
    voucher::Voucher,
};

use super::message::VOUCHER_TOKENS;

/// Tokens that a node computes before they may be sent, so that it need not wait for a voucher on its way: 50 ms at 300 tokens a second. What a client that
/// leaves has had computed in vain.
pub const AHEAD_TOKENS: u32 = 16;

/// What both sides agreed on before the first token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Lane id.
    pub lane: Hash32,
    /// Request id.
    pub request: Hash32,
    /// Attempt number.
    pub attempt: u16,
    /// Quote hash.
    pub quote: Hash32,
    /// Output tokens that earlier attempts delivered: what this one goes on from, and signed for by both sides with its own.
    pub continued: Vec<u32>,
    /// Input tokens.
    pub tokens_in: u32,
    /// The lane's cumulative amount before this answer.
    pub base: Amount,
    /// Wei per 1,000 input tokens.
    pub rate_in: Amount,
    /// Wei per 1,000 output tokens.
    pub rate_out: Amount,
    /// The protocol's constant.
    pub protocol_fee: Amount,
}

impl Terms {
    /// Number of this attempt's first output token in the answer.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn first_token(&self) -> Result<u32, AmountError> {
        u32::try_from(self.continued.len()).map_err(|_| AmountError::Overflow("token count"))
    }

    /// Hash of the whole answer so far: earlier attempts' tokens, then `tokens` of this one.
    pub fn token_ids(&self, tokens: &[u32]) -> Hash32 {
        token_ids_hash(&[self.continued.as_slice(), tokens].concat())
    }

    /// Amount due once `tokens_out` output tokens were received.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn due(&self, tokens_out: u32) -> Result<Amount, AmountError> {
        split::fee(self.tokens_in, tokens_out, self.rate_in, self.rate_out, self.protocol_fee)
    }

    /// The voucher for `tokens` received so far.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn voucher(&self, tokens: &[u32]) -> Result<Voucher, AmountError> {
        let tokens_out = u32::try_from(tokens.len()).map_err(|_| AmountError::Overflow("token count"))?;
        Ok(Voucher {
            lane: self.lane,
            request: self.request,
            attempt: self.attempt,
            quote: self.quote,
            first_token: self.first_token()?,
            tokens_in: self.tokens_in,
            tokens_out,
            token_ids: self.token_ids(tokens),
            base: self.base,
            cumulative: self.base.plus(self.due(tokens_out)?)?,
        })
    }
}

/// Why an offer does not meet a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Offer and request speak of different things.
    #[error("the quote's {0} is not the request's")]
    Differs(&'static str),
    /// Dearer than allowed.
    #[error("the {rate} rate is {} per 1,000 tokens, the request allows {}", quoted.in_open(), allowed.in_open())]
    Dearer {
        /// Input or output.
        rate: &'static str,
        /// Offered.
        quoted: Amount,
        /// Allowed.
        allowed: Amount,
    },
    /// The constant is the protocol's, not the node's, to set.
    #[error("the quote's protocol fee is {}, the protocol's is {}", quoted.in_open(), due.in_open())]
    ProtocolFee {
        /// Offered.
        quoted: Amount,
        /// The constant.
        due: Amount,
    },
    /// More input tokens than the bytes sent can make.
    #[error("the node counts {claimed} input tokens where at most {possible} are possible")]
    InputTokens {
        /// The node's count.
        claimed: u32,
        /// The most there can be.
        possible: u32,
    },
    /// The prompt alone costs more than may be spent.
    #[error("the answer would cost {} before its first token, the spending limit leaves {}", due.in_open(), limit.in_open())]
    Limit {
        /// Due at zero output tokens.
        due: Amount,
        /// What may be spent.
        limit: Amount,
    },
    /// A sum does not fit.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

/// Whether `quote` is an offer for `request`.
///
/// # Errors
/// [`TermsError`] naming the field.
pub fn match_quote(quote: &Quote, request: &Request) -> Result<(), TermsError> {
    let differs = [
        ("manifest", quote.manifest != request.manifest),
        ("profile", quote.profile != request.profile),
        ("class", quote.class != request.class),
    ];
    if let Some((field, _)) = differs.into_iter().find(|(_, differs)| *differs) {
        return Err(TermsError::Differs(field));
    }
    if quote.protocol_fee != PROTOCOL_FEE {
        return Err(TermsError::ProtocolFee { quoted: quote.protocol_fee, due: PROTOCOL_FEE });
    }
    let rates = [("input", quote.rate_in, request.rate_in_max), ("output", quote.rate_out, request.rate_out_max)];
    match rates.into_iter().find(|(_, quoted, allowed)| quoted > allowed) {
        Some((rate, quoted, allowed)) => Err(TermsError::Dearer { rate, quoted, allowed }),
        None => Ok(()),
    }
}

/// Most output tokens that `budget` pays for beyond `terms`' input and constant; nothing if not even those.
fn affordable(terms: &Terms, budget: Amount) -> Result<u32, TermsError> {
    let due = terms.due(0)?;
    if due > budget {
        return Err(TermsError::Limit { due, limit: budget });
    }
    // floor((a + t r) / 1000) <= b holds for t = floor((1000 (b + 1) - 1 - a) / r); the division by a zero rate is no limit at all.
    let metered = budget.0 - terms.protocol_fee.0;
    let room =
        metered.saturating_mul(1_000).saturating_add(999).saturating_sub(terms.rate_in.0.saturating_mul(u128::from(terms.tokens_in)));
    Ok(room.checked_div(terms.rate_out.0).map_or(u32::MAX, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX)))
}

/// The node's side of one answer.
#[derive(Debug)]
pub struct Serving {
    terms: Terms,
    tokens: Vec<u32>,
    vouched: u32,
    tokens_max: u32,
    finished: Option<Reason>,
}

/// Why a voucher is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// It promises tokens not sent, or no more than the last one did.
    #[error("the voucher covers {got} tokens where {from} to {to} can be promised")]
    Tokens {
        /// What it covers.
        got: u32,
        /// Least that would rise.
        from: u32,
        /// Tokens sent.
        to: u32,
    },
    /// A field differs from what is due.
    #[error("the voucher's {field} is {got}, due is {due}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        got: String,
        /// What should stand there.
        due: String,
    },
    /// A sum does not fit.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

/// Why an answer is not taken up at a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Not computed yet, or not sent.
    #[error("token {got} is asked for where {sent} were sent: ask for one of those, or for the next")]
    Ahead {
        /// Asked for.
        got: u32,
        /// Tokens sent.
        sent: u32,
    },
    /// Received and paid for.
    #[error("token {got} is asked for where {vouched} are received and paid for: they are not sent again")]
    Paid {
        /// Asked for.
        got: u32,
        /// Tokens vouched for.
        vouched: u32,
    },
}

impl Serving {
    /// An answer of at most `tokens_max` tokens, further bounded by what `budget` pays for.
    ///
    /// # Errors
    /// [`TermsError::Limit`] if the budget does not even pay the prompt.
    pub fn new(terms: Terms, tokens_max: u32, budget: Amount) -> Result<Self, TermsError> {
        let tokens_max = tokens_max.min(affordable(&terms, budget)?);
        Ok(Self { terms, tokens: Vec::new(), vouched: 0, tokens_max, finished: None })
    }

    /// The terms.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Tokens sent.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Most that this answer can come to cost.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn most(&self) -> Result<Amount, AmountError> {
        self.terms.due(self.tokens_max)
    }

    /// What was done and is not promised: the work a client has taken for nothing so far. Before the first token that is the `computed` rows of its
    /// prompt: nothing can be promised then, and who leaves a slow node owes no more than that node did.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn unpaid(&self, computed: u32) -> Result<Amount, AmountError> {
        if self.tokens.is_empty() {
            return split::fee(computed.min(self.terms.tokens_in), 0, self.terms.rate_in, Amount::ZERO, Amount::ZERO);
        }
        let paid = if self.vouched == 0 { Amount::ZERO } else { self.terms.due(self.vouched)? };
        self.terms.due(self.sent())?.minus(paid)
    }

    /// Tokens vouched for: what will be receipted.
    pub fn vouched(&self) -> &[u32] {
        let vouched = usize::try_from(self.vouched).unwrap_or(usize::MAX);
        &self.tokens[..vouched.min(self.tokens.len())]
    }

    /// Why no more tokens will come, once that is so.
    pub const fn finished(&self) -> Option<Reason> {
        self.finished
    }

    /// Whether the next token may be sent now; if not, a voucher is awaited.
    pub fn may_send(&self) -> bool {
        self.finished.is_none() && self.sent() < self.sendable()
    }

    /// How many tokens of this attempt may be computed as of now: those that may be sent, and once the client has paid [`AHEAD_TOKENS`] more.
    pub fn computable(&self) -> u32 {
        let ahead = if self.vouched == 0 { 0 } else { AHEAD_TOKENS };
        self.sendable().saturating_add(ahead).min(self.tokens_max)
    }

    /// How many may be sent as of now.
    fn sendable(&self) -> u32 {
        self.vouched.saturating_add(if self.vouched == 0 { 1 } else { VOUCHER_TOKENS })
    }

    fn sent(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    /// Whether everything sent is paid for and nothing more will come.
    pub fn is_settled(&self) -> bool {
        self.finished.is_some() && self.vouched == self.sent()
    }

    /// Notes a token as sent and returns its number; ends the answer at its limit.
    pub fn token(&mut self, id: u32) -> u32 {
        let index = self.sent();
        self.tokens.push(id);
        if self.sent() >= self.tokens_max {
            self.finish(Reason::Length);
        }
        index
    }

    /// No more tokens will come; the first reason stands.
    pub fn finish(&mut self, reason: Reason) {
        self.finished.get_or_insert(reason);
    }

    /// The tokens that a client which has `index` of them is still to get, as far as they were sent once.
    ///
    /// # Errors
    /// [`IndexError`]: it cannot have so many, or has paid for more.
    pub fn behind(&self, index: u32) -> Result<&[u32], IndexError> {
        let sent = self.sent();
        if index > sent {
            return Err(IndexError::Ahead { got: index, sent });
        }
        if index < self.vouched {
            return Err(IndexError::Paid { got: index, vouched: self.vouched });
        }
        let from = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(self.tokens.get(from..).unwrap_or_default())
    }

    /// Takes a voucher whose signature was checked: it must rise, cover only sent tokens, and equal what is due.
    ///
    /// # Errors
    /// [`VoucherError`]; nothing changes then.
    pub fn voucher(&mut self, voucher: &Voucher) -> Result<(), VoucherError> {
        let (got, from, to) = (voucher.tokens_out, self.vouched + 1, self.sent());
        if got < from || got > to {
            return Err(VoucherError::Tokens { got, from, to });
        }
        let covered = usize::try_from(got).map_err(|_| AmountError::Overflow("token count"))?;
        let due = self.terms.voucher(&self.tokens[..covered])?;
        let fields = [
            ("lane", voucher.lane.to_string(), due.lane.to_string()),
            ("request", voucher.request.to_string(), due.request.to_string()),
            ("attempt", voucher.attempt.to_string(), due.attempt.to_string()),
            ("quote", voucher.quote.to_string(), due.quote.to_string()),
            ("first token", voucher.first_token.to_string(), due.first_token.to_string()),
            ("input tokens", voucher.tokens_in.to_string(), due.tokens_in.to_string()),
            ("token-id hash", voucher.token_ids.to_string(), due.token_ids.to_string()),
            ("base", voucher.base.to_string(), due.base.to_string()),
            ("cumulative", voucher.cumulative.to_string(), due.cumulative.to_string()),
        ];
        if let Some((field, got, due)) = fields.into_iter().find(|(_, got, due)| got != due) {
            return Err(VoucherError::Field { field, got, due });
        }
        self.vouched = got;
        Ok(())
    }
}

/// The client's side of one attempt.
#[derive(Debug)]
pub struct Asking {
    terms: Terms,
    tokens: Vec<u32>,
    tokens_max: u32,
    vouched: usize,
}

/// Why the client stops listening.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskingError {
    /// Tokens must come in order.
    #[error("the node sent token {got}, expected {expected}")]
    OutOfOrder {
        /// What came.
        got: u32,
        /// What was due.
        expected: usize,
    },
    /// Tokens beyond what was asked for or may be spent: they would be promised and never wanted.
    #[error("the node sent more than the {0} tokens that were asked for and may be spent on")]
    TooMany(u32),
    /// A node that takes an answer up claims a promise that was not made.
    #[error("the node says it has a voucher for {got} tokens, {promised} were promised")]
    Vouched {
        /// Its claim.
        got: u32,
        /// Promised.
        promised: usize,
    },
    /// A sum does not fit.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

impl Asking {
    /// An attempt at `tokens_max` more tokens under `terms`, whose input-token count is the node's claim: it cannot exceed one token per byte
    /// sent plus a template's overhead per turn, and with the constant it must fit what may be spent. No voucher ever promises more than `budget`.
    ///
    /// # Errors
    /// [`TermsError`].
    pub fn new(terms: Terms, prompt_bytes: usize, turns: usize, tokens_max: u32, budget: Amount) -> Result<Self, TermsError> {
        let possible =
            prompt_bytes.saturating_add(turns.saturating_add(2).saturating_mul(TEMPLATE_TOKENS_MAX)).saturating_add(terms.continued.len());
        let possible = u32::try_from(possible).unwrap_or(u32::MAX);
        if terms.tokens_in > possible {
            return Err(TermsError::InputTokens { claimed: terms.tokens_in, possible });
        }
        let tokens_max = tokens_max.min(affordable(&terms, budget)?);
        Ok(Self { terms, tokens: Vec::new(), tokens_max, vouched: 0 })
    }

    /// The terms.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Tokens received.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens promised.
    pub const fn vouched(&self) -> usize {
        self.vouched
    }

    /// Goes on where a connection broke, at a node that has a voucher for `vouched` tokens: whether the last one promised is to be sent again.
    ///
    /// # Errors
    /// [`AskingError::Vouched`]; the stream should be reset then.
    pub fn resumed(&self, vouched: u32) -> Result<bool, AskingError> {
        match usize::try_from(vouched) {
            Ok(had) if had <= self.vouched => Ok(had < self.vouched),
            _ => Err(AskingError::Vouched { got: vouched, promised: self.vouched }),
        }
    }

    /// Takes a token; returns the voucher to sign when one is due.
    ///
    /// # Errors
    /// [`AskingError`]; the stream should be reset then.
    pub fn token(&mut self, index: u32, id: u32) -> Result<Option<Voucher>, AskingError> {
        if usize::try_from(index) != Ok(self.tokens.len()) {
            return Err(AskingError::OutOfOrder { got: index, expected: self.tokens.len() });
        }
        if index >= self.tokens_max {
            return Err(AskingError::TooMany(self.tokens_max));
        }
        self.tokens.push(id);
        let ahead = self.tokens.len() - self.vouched;
        let step = usize::try_from(VOUCHER_TOKENS).unwrap_or(usize::MAX);
        if self.vouched == 0 || ahead >= step { self.promise().map(Some) } else { Ok(None) }
    }

    /// The voucher for what is received and not promised yet, at the end of the answer.
    ///
    /// # Errors
    /// [`AskingError::Amount`].
    pub fn rest(&mut self) -> Result<Option<Voucher>, AskingError> {
        if self.tokens.len() > self.vouched { self.promise().map(Some) } else { Ok(None) }
    }

    fn promise(&mut self) -> Result<Voucher, AskingError> {
        let voucher = self.terms.voucher(&self.tokens)?;
        self.vouched = self.tokens.len();
        Ok(voucher)
    }
}

/// Tokens a chat template may add around one turn; ChatML adds five, and a default system turn of about twenty.
const TEMPLATE_TOKENS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms() -> Terms {
        Terms {
            lane: Hash32([1; 32]),
            request: Hash32([2; 32]),
            attempt: 0,
            quote: Hash32([3; 32]),
            continued: Vec::new(),
            tokens_in: 40,
            base: Amount(500),
            rate_in: Amount(1_000),
            rate_out: Amount(2_500),
            protocol_fee: Amount(7),
        }
    }

    /// Runs an answer of `count` tokens through both machines and returns the cumulative amounts promised on the way.
    fn run(count: u32) -> Vec<u128> {
        let mut node = Serving::new(terms(), count, Amount(u128::MAX / 2_000)).unwrap();
        let mut client = Asking::new(terms(), 1_000, 1, count, Amount(u128::MAX / 2_000)).unwrap();
        let mut promised = Vec::new();
        while node.finished().is_none() {
            assert!(node.may_send(), "the client's vouchers always come in time");
            let index = node.token(index_to_id(node.tokens().len()));
            if let Some(voucher) = client.token(index, node.tokens()[index as usize]).unwrap() {
                node.voucher(&voucher).unwrap();
                promised.push(voucher.cumulative.0);
            }
        }
        if let Some(voucher) = client.rest().unwrap() {
            node.voucher(&voucher).unwrap();
            promised.push(voucher.cumulative.0);
        }
        assert!(node.is_settled());
        promised
    }

    fn index_to_id(index: usize) -> u32 {
        u32::try_from(index * 7 + 1).unwrap()
    }

    #[test]
    fn vouchers_come_at_the_first_token_then_every_step_then_for_the_rest() {
        assert_eq!(run(1).len(), 1);
        assert_eq!(run(64).len(), 2);
        assert_eq!(run(65).len(), 2);
        assert_eq!(run(200).len(), 1 + 3 + 1);
        assert_eq!(*run(200).last().unwrap(), 500 + (40 * 1_000 + 200 * 2_500) / 1_000 + 7);
    }

    #[test]
    fn no_voucher_no_further_token() {
        let mut node = Serving::new(terms(), 500, Amount(1_000_000)).unwrap();
        node.token(1);
        assert!(!node.may_send());
        let first = terms().voucher(&[1]).unwrap();
        node.voucher(&first).unwrap();
        for id in 2..=VOUCHER_TOKENS + 1 {
            assert!(node.may_send());
            node.token(id);
        }
        assert!(!node.may_send());
        assert!(matches!(node.voucher(&first), Err(VoucherError::Tokens { got: 1, from: 2, .. })));
    }

    #[test]
    fn a_node_computes_ahead_only_for_who_has_paid_and_never_past_the_limit() {
        let mut node = Serving::new(terms(), 100, Amount(1_000_000)).unwrap();
        assert_eq!(node.computable(), 1);
        node.token(1);
        assert_eq!(node.computable(), 1, "the first token is not paid yet");
        node.voucher(&terms().voucher(&[1]).unwrap()).unwrap();
        assert_eq!(node.computable(), 1 + VOUCHER_TOKENS + AHEAD_TOKENS);
        let tokens: Vec<u32> = (1..=VOUCHER_TOKENS + 1).collect();
        for token in &tokens[1..] {
            let _ = node.token(*token);
        }
        assert!(!node.may_send(), "what is computed ahead is not sent");
        node.voucher(&terms().voucher(&tokens).unwrap()).unwrap();
        assert_eq!(node.computable(), 100);
    }

    #[test]
    fn a_voucher_that_differs_in_any_field_is_refused_by_name() {
        let good = terms().voucher(&[9]).unwrap();
        let cases: [(&str, Voucher); 8] = [
            ("lane", Voucher { lane: Hash32([9; 32]), ..good }),
            ("request", Voucher { request: Hash32([9; 32]), ..good }),
            ("attempt", Voucher { attempt: 9, ..good }),
            ("quote", Voucher { quote: Hash32([9; 32]), ..good }),
            ("first token", Voucher { first_token: 9, ..good }),
            ("input tokens", Voucher { tokens_in: 9, ..good }),
            ("token-id hash", Voucher { token_ids: Hash32([9; 32]), ..good }),
            ("cumulative", Voucher { cumulative: Amount(9), ..good }),
        ];
        for (name, voucher) in cases {
            let mut node = Serving::new(terms(), 5, Amount(1_000_000)).unwrap();
            node.token(9);
            assert!(matches!(node.voucher(&voucher), Err(VoucherError::Field { field, .. }) if field == name), "{name}");
        }
    }

    #[test]
    fn a_claim_of_more_input_tokens_than_bytes_is_refused() {
        let inflated = Terms { tokens_in: 10_000, ..terms() };
        assert!(matches!(Asking::new(inflated, 100, 1, 10, Amount(1_000_000)), Err(TermsError::InputTokens { .. })));
    }

    #[test]
    fn a_node_that_goes_on_beyond_the_tokens_asked_for_or_the_limit_is_promised_nothing_more() {
        let mut client = Asking::new(terms(), 1_000, 1, 3, Amount(1_000_000)).unwrap();
        assert!((0..3).all(|index| client.token(index, 7).is_ok()));
        assert_eq!(client.token(3, 7), Err(AskingError::TooMany(3)));
        // 40 tokens in cost 40 + 7, each token out 2.5: ten of them and not eleven fit 73 wei.
        let mut client = Asking::new(terms(), 1_000, 1, 500, Amount(73)).unwrap();
        assert!((0..10).all(|index| client.token(index, 7).is_ok()));
        assert_eq!(client.token(10, 7), Err(AskingError::TooMany(10)));
        assert_eq!(client.rest().unwrap().unwrap().cumulative, Amount(500 + 72));
    }

    #[test]
    fn a_quote_with_a_protocol_fee_of_the_nodes_own_is_refused() {
        let quote = Quote {
            node: types::id::Address([1; 20]),
            manifest: Hash32([2; 32]),
            profile: types::quote::Profile::Exact,
            class: types::quote::Class::Open,
            rate_in: Amount(1),
            rate_out: Amount(1),
            protocol_fee: PROTOCOL_FEE,
            tokens_max: 10,
            block: types::time::BlockRef::default(),
            expiry: 9,
        };
        let request = Request {
            client: types::id::Address([3; 20]),
            nonce: 1,
            manifest: quote.manifest,
            rate_in_max: Amount(1),
            rate_out_max: Amount(1),
            profile: quote.profile,
            class: quote.class,
            sampling: types::request::SamplingRule::default(),
            options: Hash32::ZERO,
            prompt_root: Hash32([4; 32]),
            tokens_max: 10,
            spending_limit: Amount(1),
        };
        assert_eq!(match_quote(&quote, &request), Ok(()));
        let dear = Quote { protocol_fee: Amount(PROTOCOL_FEE.0 + 1), ..quote };
        assert_eq!(match_quote(&dear, &request), Err(TermsError::ProtocolFee { quoted: Amount(PROTOCOL_FEE.0 + 1), due: PROTOCOL_FEE }));
    }

    #[test]
    fn who_leaves_before_the_first_token_owes_what_was_computed_and_who_leaves_after_it_what_was_delivered() {
        let mut node = Serving::new(terms(), 100, Amount(1_000_000)).unwrap();
        assert_eq!(node.unpaid(0), Ok(Amount::ZERO), "a question that waited cost nobody anything");
        assert_eq!(node.unpaid(15), Ok(Amount(15)));
        assert_eq!(node.unpaid(u32::MAX), Ok(Amount(40)), "rows computed twice are the node's trouble");
        node.token(1);
        assert_eq!(node.unpaid(15), terms().due(1), "a token was delivered, and with it the prompt");
        node.voucher(&terms().voucher(&[1]).unwrap()).unwrap();
        assert_eq!(node.unpaid(40), Ok(Amount::ZERO));
    }

    #[test]
    fn an_answer_is_taken_up_between_what_is_paid_and_what_was_sent() {
        let mut node = Serving::new(terms(), 100, Amount(1_000_000)).unwrap();
        node.token(1);
        assert_eq!(node.behind(0), Ok(&[1][..]));
        node.voucher(&terms().voucher(&[1]).unwrap()).unwrap();
        node.token(2);
        assert_eq!((node.behind(1), node.behind(2)), (Ok(&[2][..]), Ok(&[][..])));
        assert_eq!(node.behind(0), Err(IndexError::Paid { got: 0, vouched: 1 }));
        assert_eq!(node.behind(3), Err(IndexError::Ahead { got: 3, sent: 2 }));
        assert_eq!(node.behind(u32::MAX), Err(IndexError::Ahead { got: u32::MAX, sent: 2 }));
    }

    proptest! {
        #[test]
        fn an_answer_that_breaks_anywhere_and_loses_anything_on_its_way_is_paid_once_and_whole(
            count in 1_u32..300,
            breaks in prop::collection::vec((0_u32..40, 0_usize..40, any::<bool>()), 0..12),
        ) {
            let budget = Amount(u128::MAX / 2_000);
            let mut node = Serving::new(terms(), count, budget).unwrap();
            let mut client = Asking::new(terms(), 1_000, 1, count, budget).unwrap();
            // Tokens on their way, and the last voucher signed.
            let (mut line, mut last) = (std::collections::VecDeque::new(), None);
            let mut breaks = breaks.into_iter();
            let mut next_break = breaks.next();
            let mut steps = 0;
            while !node.is_settled() {
                steps += 1;
                let (made, read, is_voucher_lost) = next_break.unwrap_or((u32::MAX, usize::MAX, false));
                for _ in 0..made.min(1 + steps % 5) {
                    if node.may_send() {
                        let id = index_to_id(node.tokens().len());
                        line.push_back((node.token(id), id));
                    }
                }
                let mut lost = false;
                for (index, id) in line.drain(..read.min(line.len())) {
                    if let Some(voucher) = client.token(index, id).unwrap() {
                        last = Some(voucher);
                        lost |= is_voucher_lost;
                        if !lost {
                            node.voucher(&voucher).unwrap();
                        }
                    }
                }
                if node.finished().is_some() && line.is_empty() && !lost && let Some(voucher) = client.rest().unwrap() {
                    last = Some(voucher);
                    node.voucher(&voucher).unwrap();
                }
                if next_break.is_some() || lost {
                    // The connection breaks: whatever was on its way is gone.
                    let has = u32::try_from(client.tokens().len()).unwrap();
                    line = (has..).zip(node.behind(has).unwrap().iter().copied()).collect();
                    if client.resumed(u32::try_from(node.vouched().len()).unwrap()).unwrap() {
                        node.voucher(&last.unwrap()).unwrap();
                    }
                    next_break = breaks.next();
                }
            }
            prop_assert_eq!(client.tokens(), node.tokens());
            prop_assert_eq!(node.tokens().len(), usize::try_from(count).unwrap());
            prop_assert_eq!(last.unwrap(), terms().voucher(client.tokens()).unwrap());
            prop_assert!(client.resumed(count + 1).is_err());
        }

        #[test]
        fn an_answer_never_costs_more_than_its_budget(tokens_in in 0..10_000_u32, rate_in in 0..1_u64 << 60, rate_out in 0..1_u64 << 60, fee in 0..1_u64 << 60, budget in 0..1_u128 << 80) {
            let terms = Terms { tokens_in, rate_in: Amount(rate_in.into()), rate_out: Amount(rate_out.into()), protocol_fee: Amount(fee.into()), ..terms() };
            match Serving::new(terms.clone(), 1_000_000, Amount(budget)) {
                Ok(node) => {
                    prop_assert!(terms.due(node.tokens_max).unwrap().0 <= budget);
                    if node.tokens_max < 1_000_000 {
                        prop_assert!(terms.due(node.tokens_max + 1).unwrap().0 > budget, "the budget is used up");
                    }
                }
                Err(_) => prop_assert!(terms.due(0).unwrap().0 > budget),
            }
        }
    }
}
