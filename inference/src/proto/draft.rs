//! One request of a client over all its attempts: what was received, what was promised to whom, and how each attempt ended.
//!
//! A retry under the same request must bill no token twice and promise no more than the request allows, also when the client dies in the middle.
//! So the shell keeps a draft on disk at three moments: before an attempt begins ([`Draft::begin`]: no attempt number is used twice), before a
//! voucher is signed ([`Draft::promise`]: the tokens it covers are kept first, so that the next attempt continues behind them), and when an attempt
//! has ended. What a node may hold a voucher for counts as spent until a receipt of it says otherwise.
//!
//! Size: 4 bytes a token as a number, about 10 as text; a draft of 4,096 tokens takes about 60 KB of JSON.

use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    id::{Address, Hash32},
    key::Signed,
    receipt::Reason,
    request::Request,
};

/// Most attempts of one request, over all runs of the client.
pub const TRIES_MAX: usize = 64;

/// Why an attempt brought no receipt that bills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// No connection.
    Unreachable,
    /// The connection ended.
    Broken,
    /// Nothing came in time.
    Silent,
    /// The node said no.
    Refused,
    /// The node said that prompt and answer do not fit the model's context.
    TooLong,
    /// The node said that the question itself cannot be answered as it is put.
    Invalid,
    /// What it offers is not what was asked for, or dearer.
    Unfit,
    /// What it sent does not stand.
    Misbehaved,
    /// It delivered the whole answer and no receipt that stands.
    NoReceipt,
    /// Its engine failed, says its receipt.
    EngineFailure,
    /// The model said nothing, says its receipt.
    Empty,
    /// This client's own process ended.
    Interrupted,
    /// The node said that what was offered for it does not pay it: deposit, lane, session key, spending limit or a voucher.
    Unpaid,
}

impl Cause {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "the node could not be reached",
            Self::Broken => "the connection ended",
            Self::Silent => "nothing came in time",
            Self::Refused => "the node refused",
            Self::TooLong => "the node says it does not fit the context",
            Self::Invalid => "the node says the question is wrong",
            Self::Unfit => "the node's offer does not meet the request",
            Self::Misbehaved => "the node sent what does not stand",
            Self::NoReceipt => "no receipt came for a whole answer",
            Self::EngineFailure => "the node's engine failed",
            Self::Empty => "the model had nothing to say",
            Self::Interrupted => "this client was interrupted",
            Self::Unpaid => "the node says the payer does not cover it",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum End {
    /// With a verified receipt.
    Receipt {
        /// What it charges.
        fee: Amount,
    },
    /// Without one that bills.
    Failed {
        /// Why.
        cause: Cause,
        /// The same with its particulars.
        why: String,
        /// Whether the node signed that it charges nothing: a verified receipt with fee 0.
        is_signed: bool,
    },
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Try {
    /// The node's account.
    pub node: Address,
    /// Output tokens of earlier attempts.
    pub first_token: u32,
    /// Promised to it.
    pub promised: Amount,
    /// How it ended; nothing while it runs.
    pub end: Option<End>,
}

impl Try {
    /// What it costs: the receipt's fee, nothing by a signed word of the node, else what was promised and may be collected.
    pub const fn cost(&self) -> Amount {
        match &self.end {
            Some(End::Receipt { fee }) => *fee,
            Some(End::Failed { is_signed: true, .. }) => Amount::ZERO,
            _ => self.promised,
        }
    }
}

/// A request under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    request: Signed<Request>,
    prompt_salt: Hash32,
    tries: Vec<Try>,
    tokens: Vec<u32>,
    #[serde(with = "hex_text")]
    bytes: Vec<u8>,
    ended: Option<Reason>,
}

/// Why an attempt cannot be begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// Everything is promised.
    #[error("the spending limit is promised to nodes that gave no receipt: ask again with a new limit")]
    Spent,
    /// Too often.
    #[error("the request was tried {TRIES_MAX} times without an end: ask anew")]
    Tries,
    /// A sum does not fit.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

impl Draft {
    /// A request that was just signed.
    pub const fn new(request: Signed<Request>, prompt_salt: Hash32) -> Self {
        Self { request, prompt_salt, tries: Vec::new(), tokens: Vec::new(), bytes: Vec::new(), ended: None }
    }

    /// The request.
    pub const fn request(&self) -> &Signed<Request> {
        &self.request
    }

    /// Salt of its prompt root.
    pub const fn prompt_salt(&self) -> Hash32 {
        self.prompt_salt
    }

    /// Attempts, oldest first; the place is the attempt's number.
    pub fn tries(&self) -> &[Try] {
        &self.tries
    }

    /// Tokens received.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Their text, which may end inside a character.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Why the model ended, once a node said so.
    pub const fn ended(&self) -> Option<Reason> {
        self.ended
    }

    /// What it costs so far: receipts, and promises that no receipt took back.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn cost(&self) -> Result<Amount, AmountError> {
        Amount::sum(self.tries.iter().map(Try::cost))
    }

    /// What may still be promised.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn room(&self) -> Result<Amount, AmountError> {
        Ok(self.request.document.spending_limit.minus(self.cost()?).unwrap_or_default())
    }

    /// The next attempt begins, with `node`: its number. To be kept before anything of it is sent.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn begin(&mut self, node: Address) -> Result<u16, DraftError> {
        if self.room()? == Amount::ZERO {
            return Err(DraftError::Spent);
        }
        if self.tries.len() >= TRIES_MAX {
            return Err(DraftError::Tries);
        }
        self.fail(Cause::Interrupted, Cause::Interrupted.words(), false);
        let number = u16::try_from(self.tries.len()).map_err(|_| DraftError::Tries)?;
        let first_token = u32::try_from(self.tokens.len()).map_err(|_| AmountError::Overflow("token count"))?;
        self.tries.push(Try { node, first_token, promised: Amount::ZERO, end: None });
        Ok(number)
    }

    /// A token arrived.
    pub fn token(&mut self, id: u32, bytes: &[u8]) {
        self.tokens.push(id);
        self.bytes.extend_from_slice(bytes);
    }

    /// `sum` wei are about to be promised in this attempt in all. To be kept, with the tokens, before the voucher is signed.
    pub fn promise(&mut self, sum: Amount) {
        if let Some(last) = self.tries.last_mut() {
            last.promised = last.promised.max(sum);
        }
    }

    /// The model has ended, says the node.
    pub const fn finish(&mut self, reason: Reason) {
        if self.ended.is_none() {
            self.ended = Some(reason);
        }
    }

    /// The attempt ended with a verified receipt.
    pub fn receipt(&mut self, fee: Amount) {
        self.end(End::Receipt { fee });
    }

    /// The attempt under way, if there is one, ended without one that bills.
    pub fn fail(&mut self, cause: Cause, why: impl Into<String>, is_signed: bool) {
        self.end(End::Failed { cause, why: why.into(), is_signed });
    }

    /// What became of an attempt has come to light after its end, or after this client's: false if that was known, or if it is no attempt of this
    /// request. A receipt for all tokens of the request ends it by `reason`, unless its client left before the end.
    pub fn settle(&mut self, attempt: u16, fee: Option<(Amount, Reason)>, billed_to: usize) -> bool {
        let count = self.tokens.len();
        let Some(one) = self.tries.get_mut(usize::from(attempt)) else { return false };
        match (&mut one.end, fee) {
            (Some(End::Receipt { .. } | End::Failed { is_signed: true, .. }), _) => return false,
            (Some(End::Failed { is_signed, .. }), None) => *is_signed = true,
            (end @ None, None) => {
                *end = Some(End::Failed { cause: Cause::Interrupted, why: Cause::Interrupted.words().to_owned(), is_signed: true });
            }
            (end, Some((fee, reason))) => {
                *end = Some(End::Receipt { fee });
                if matches!(reason, Reason::Stop | Reason::Length) && billed_to == count {
                    self.finish(reason);
                }
            }
        }
        true
    }

    fn end(&mut self, end: End) {
        if let Some(last) = self.tries.last_mut().filter(|last| last.end.is_none()) {
            last.end = Some(end);
        }
    }
}

mod hex_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use types::{
        key::{Account, Domains},
        quote::{Class, Profile},
        request::SamplingRule,
    };

    use super::*;

    /// A signed request with that spending limit.
    pub(crate) fn draft(limit: u128) -> Draft {
        let account = Account::from_bytes(&[5; 32]).unwrap();
        let domains = Domains {
            chain_id: 1,
            escrow: Address([1; 20]),
            registry: Address([2; 20]),
            settlement: Address([3; 20]),
            stake: Address([4; 20]),
        };
        let request = Request {
            client: account.address(),
            nonce: 1,
            manifest: Hash32([2; 32]),
            rate_in_max: Amount(1),
            rate_out_max: Amount(1),
            profile: Profile::Exact,
            class: Class::Open,
            sampling: SamplingRule::default(),
            options: Hash32::ZERO,
            prompt_root: Hash32([4; 32]),
            tokens_max: 500,
            spending_limit: Amount(limit),
        };
        Draft::new(Signed::new(&account, &domains, request), Hash32([9; 32]))
    }

    #[test]
    fn a_promise_counts_until_a_receipt_of_any_kind_says_otherwise() {
        let mut draft = draft(100);
        assert_eq!(draft.begin(Address([1; 20])), Ok(0));
        draft.promise(Amount(30));
        draft.fail(Cause::Silent, "nothing for 60 s", false);
        assert_eq!((draft.cost(), draft.room()), (Ok(Amount(30)), Ok(Amount(70))));
        assert_eq!(draft.begin(Address([2; 20])), Ok(1));
        draft.promise(Amount(50));
        draft.fail(Cause::EngineFailure, "signed", true);
        assert_eq!(draft.cost(), Ok(Amount(30)));
        assert_eq!(draft.begin(Address([3; 20])), Ok(2));
        draft.promise(Amount(60));
        draft.promise(Amount(70));
        assert_eq!(draft.room(), Ok(Amount::ZERO));
        draft.receipt(Amount(65));
        assert_eq!(draft.room(), Ok(Amount(5)));
        draft.fail(Cause::Silent, "too late to matter", false);
        assert_eq!(draft.cost(), Ok(Amount(95)), "an attempt ends once");
    }

    #[test]
    fn attempts_are_numbered_once_and_bounded_and_an_interrupted_one_is_ended_by_the_next() {
        let mut draft = draft(100);
        for number in 0..TRIES_MAX {
            assert_eq!(draft.begin(Address([1; 20])).map(usize::from), Ok(number));
        }
        assert_eq!(draft.begin(Address([1; 20])), Err(DraftError::Tries));
        let interrupted = |one: &Try| matches!(one.end, Some(End::Failed { cause: Cause::Interrupted, .. }));
        assert!(draft.tries()[..TRIES_MAX - 1].iter().all(interrupted));
    }

    #[test]
    fn nothing_left_to_promise_begins_nothing() {
        let mut draft = draft(10);
        draft.begin(Address([1; 20])).unwrap();
        draft.promise(Amount(10));
        assert_eq!(draft.begin(Address([2; 20])), Err(DraftError::Spent));
    }

    #[test]
    fn what_became_of_an_attempt_is_settled_once_and_ends_the_request_if_it_was_all_of_it() {
        let mut draft = draft(100);
        let lost = |draft: &mut Draft, sum| {
            draft.begin(Address([1; 20])).unwrap();
            draft.token(7, b"a");
            draft.promise(Amount(sum));
        };
        lost(&mut draft, 30);
        draft.fail(Cause::Silent, "nothing for 60 s", false);
        lost(&mut draft, 20);
        lost(&mut draft, 10);
        assert!(draft.settle(0, None, 0) && !draft.settle(0, Some((Amount(30), Reason::Stop)), 3), "signed once");
        assert_eq!(draft.cost(), Ok(Amount(30)));
        assert!(draft.settle(1, Some((Amount(15), Reason::Cancelled)), 2) && !draft.settle(1, None, 0));
        assert_eq!((draft.cost(), draft.ended()), (Ok(Amount(25)), None));
        // Its process died between the last voucher and the receipt.
        assert!(draft.settle(2, Some((Amount(9), Reason::Stop)), 3) && !draft.settle(3, None, 0));
        assert_eq!((draft.cost(), draft.ended()), (Ok(Amount(24)), Some(Reason::Stop)));
    }

    #[test]
    fn a_draft_comes_back_from_its_text() {
        let mut draft = draft(100);
        draft.begin(Address([1; 20])).unwrap();
        draft.token(7, &[0xf0, 0x9f]);
        draft.promise(Amount(3));
        draft.finish(Reason::Stop);
        draft.finish(Reason::Length);
        let text = serde_json::to_string(&draft).unwrap();
        assert_eq!(serde_json::from_str::<Draft>(&text).unwrap(), draft);
        assert_eq!(draft.ended(), Some(Reason::Stop));
        assert!(serde_json::from_str::<Draft>(&text.replace("f09f", "f09")).is_err());
    }
}
