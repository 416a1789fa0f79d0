//! Frames of one generation, client to node and back.
//!
//! Goals: an answer that is paid as it arrives, can be cancelled by reset, and can be continued elsewhere from prompt and received tokens.
//! Non-goals: routing, prices' choice, transport.
//!
//! Flow on one bidirectional stream:
//! ```text
//! client                                  node
//! QuoteAsk ------------------------------->
//!          <------------------------------- Quote
//! Begin (request, options, lane, quote, prompt) --->
//!          <------------------------------- Begun (input tokens, lane base)
//!          <------------------------------- Token 0
//! Voucher (prompt and token 0) ----------->
//!          <------------------------------- Token 1 ... Token 64
//! Voucher (every VOUCHER_TOKENS) --------->
//!          <------------------------------- Finished
//! Voucher (the rest) --------------------->
//!          <------------------------------- Receipt (receipt, answer, openings)
//! ```
//! A refusal may stand in place of any answer; after one nothing more comes and nothing is charged beyond the vouchers signed.
//! A client whose connection broke takes the answer up with [`Resume`], on a stream of its own: `Resumed` stands in place of `Begun`, the tokens follow from
//! the index it named. Where that is too late, it asks with [`Recall`] what became of the attempt. Behind `Padded` a node sends cells alone ([`super::padding`]).
//! With `Exchange` before `Begin` a client of a checked answer has `Wrapped` before `Receipt`.
//!
//! Size: a token frame is about 16 bytes; a 256-token answer sends 256 of them, 6 vouchers of 245 bytes and one receipt.

use std::time::Duration;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};
use types::{
    amount::Amount,
    encoding::{Body, read_list},
    fingerprint::{FINGERPRINTS_MAX, Fingerprint},
    id::{Address, ExchangeKey, Hash32, NodeId},
    key::{Signed, Signed65},
    manifest::Manifest,
    options::{LOGPROBS_MAX, OPTIONS_BYTES_MAX},
    quote::{Class, Profile, Quote},
    receipt::{Reason, Receipt},
    request::Request,
    voucher::{Lane, Voucher},
};

use super::{recall::Recall, resume::Resume};

/// Tokens a node delivers beyond the last voucher.
pub const VOUCHER_TOKENS: u32 = 64;
/// Largest frame a client sends: a prompt of half a megabyte and its envelope.
pub const CLIENT_FRAME_MAX: usize = 1 << 20;
/// Largest frame a node sends: a receipt with its openings.
pub const NODE_FRAME_MAX: usize = 8 << 20;
/// Most messages of one prompt.
pub const MESSAGES_MAX: usize = 256;
/// Messages that are read of a frame: one more than there may be, so that it is refused by their number. A frame of empty ones would be sixteen times as large in memory.
const MESSAGES_READ_MAX: usize = MESSAGES_MAX + 1;
/// Most reasons that a node's status gives: of a frame full of empty ones the list would be 24 times the frame.
pub const REASONS_MAX: usize = 4_096;

/// One message of a conversation: role code of the prompt bytes (1 system, 2 user, 3 assistant) and canonical content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Role code.
    pub role: u8,
    /// Content.
    pub content: String,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromClient {
    /// Asks for a signed offer.
    QuoteAsk {
        /// What shall answer.
        manifest: Hash32,
        /// Numeric rules.
        profile: Profile,
        /// Privacy class.
        class: Class,
        /// Most output tokens.
        tokens_max: u32,
    },
    /// Starts or continues an answer.
    Begin(Box<Begin>),
    /// Pays for what has arrived.
    Voucher(Box<Signed<Voucher>>),
    /// Asks the node to execute an answer again and report; the bundle as JSON.
    Check {
        /// Bundle.
        bundle: String,
    },
    /// Asks what the node is doing.
    Status,
    /// Asks what became of an attempt that this client was cut off from.
    Recall(Box<Signed<Recall>>),
    /// Takes up an answer whose connection broke.
    Resume(Box<Signed<Resume>>),
    /// Whatever the node sends on this stream from here on, it sends in cells ([`super::padding`]).
    Padded,
    /// Before `Begin`: what the key of the transcript that the node keeps of a checked answer is to be wrapped for. It needs no signature: who begins the
    /// answer knows all that the key opens.
    Exchange(ExchangeKey),
}

/// Everything a node needs to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The client's request.
    pub request: Signed<Request>,
    /// Options of sampling, encoded, whose hash the request names; nothing if it names none. At most [`OPTIONS_BYTES_MAX`].
    pub options: Body,
    /// Attempt number: 0 for the first node, one more after each failover.
    pub attempt: u16,
    /// The offer accepted.
    pub quote: Signed<Quote>,
    /// The lane that pays.
    pub lane: Signed<Lane>,
    /// The session key that signed the lane and signs its vouchers; nothing if the payer does.
    pub session: Option<Address>,
    /// The manifest the request names.
    pub manifest: Manifest,
    /// Conversation so far.
    #[serde(deserialize_with = "read_list::<_, _, MESSAGES_READ_MAX>")]
    pub turns: Vec<Turn>,
    /// Salt of the prompt root.
    pub prompt_salt: Hash32,
    /// Tokens that earlier attempts delivered.
    pub continued: Vec<u32>,
}

/// What a node sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromNode {
    /// A signed offer.
    Quote(Signed<Quote>),
    /// The answer is under way.
    Begun {
        /// Input tokens: prompt and what earlier attempts delivered.
        tokens_in: u32,
        /// The lane's cumulative amount before this answer, as the node's books have it.
        base: Amount,
    },
    /// One output token.
    Token {
        /// Its number within this attempt.
        index: u32,
        /// Its id.
        id: u32,
        /// Its bytes of text, which may end inside a character.
        bytes: Vec<u8>,
        /// If the options ask for logarithms: this token's, then those of the likeliest, descending. Nothing that is signed names them: the node's word
        /// alone, until somebody executes the answer again.
        #[serde(deserialize_with = "at_most_told_max")]
        told: Vec<Told>,
    },
    /// No more tokens will come.
    Finished {
        /// Why.
        reason: Reason,
    },
    /// The signed receipt with what its verification needs.
    Receipt(Box<Delivered>),
    /// A check's signed report.
    Checked(Signed<types::receipt::CheckReport>),
    /// What the node is doing.
    Status(Status),
    /// No.
    Refused(Refusal),
    /// The bundle of a recalled attempt that was billed, as JSON; one that was not is answered with its receipt of fee 0.
    Kept {
        /// Bundle.
        bundle: String,
    },
    /// The answer goes on here, from the token that was asked for.
    Resumed {
        /// Tokens of this attempt that the node has a voucher for: one for more that got lost is to be sent again.
        vouched: u32,
    },
    /// Before the receipt of a checked answer, to a client that gave an exchange key: the key of the transcript that the node keeps, wrapped for it.
    Wrapped {
        /// The wrap (ARCHITECTURE, P4).
        wrap: Body,
    },
}

/// How likely a token was to the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The token's bytes of text.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, in millionths.
    pub ln_ppm: i32,
}

/// Most tokens that one token's frame tells of: itself and the likeliest.
pub const TOLD_MAX: usize = 1 + LOGPROBS_MAX as usize;

/// A receipt and its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The receipt.
    pub receipt: Receipt,
    /// The node's signature.
    pub signature: Signed65,
    /// Canonical answer text of the vouched tokens.
    pub answer: String,
    /// Salt of the answer root.
    pub answer_salt: Hash32,
    /// Openings of the spans as the bundle's JSON carries them.
    pub openings: String,
    /// Fingerprints of the activations, whose root the receipt names; none in a profile that needs none.
    #[serde(deserialize_with = "read_list::<_, _, FINGERPRINTS_MAX>")]
    pub fingerprints: Vec<Fingerprint>,
}

/// What a node is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// Build version.
    pub version: String,
    /// Microseconds since it started.
    pub uptime_us: u64,
    /// Peers connected.
    pub peers: u32,
    /// Providers known from signed ads.
    pub providers: u32,
    /// Answers under way.
    pub running: u32,
    /// Manifests it would answer under.
    pub manifests: Vec<Hash32>,
    /// Why it does not serve something it was set up for, in plain words.
    #[serde(deserialize_with = "read_list::<_, _, REASONS_MAX>")]
    pub waiting: Vec<String>,
    /// Receipts signed.
    pub receipts: u64,
    /// Receipts not yet posted in an epoch.
    pub receipts_unposted: u64,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// Whether it checks what others show and post.
    pub watches: bool,
    /// What it watches, by epoch.
    pub watching: Vec<Watched>,
}

/// A payout, or the receipts behind a node's root, as a node that checks them sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The epoch.
    pub epoch: u64,
    /// `receipts` or `payout`.
    pub what: String,
    /// Whose: the node's or the poster's account; zero for a payout that nobody posted yet.
    pub of: Address,
    /// Its root; zero for a payout that nobody posted yet.
    pub root: Hash32,
    /// What is known of it, in plain words.
    pub found: String,
    /// Who is waited for, in plain words.
    pub waits_for: Option<String>,
    /// Until when: the answer's deadline, the end of W1, or when the payout is final; seconds since 1970.
    pub until: Option<u64>,
}

/// A typed no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of no.
    pub code: RefusalCode,
    /// What and why, and the fix, in plain words.
    pub message: String,
    /// In how many milliseconds there may be room, where the node can tell: with [`RefusalCode::Busy`] alone.
    pub retry_ms: Option<u32>,
}

impl Refusal {
    /// One that says nothing of when to come back.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_ms: None }
    }

    /// There may be room after `wait`.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_ms: Some(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1)), ..self }
    }
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// The node does not serve this manifest (unknown adapter, other base, index missing), this profile, or what the options ask for.
    NotServed,
    /// Prompt and tokens do not fit the context.
    TooLong,
    /// Too much under way; try elsewhere or later.
    Busy,
    /// A signature, a field or an order of frames is wrong.
    Invalid,
    /// The offer has expired or is not this node's.
    Quote,
    /// The voucher is not what is due.
    Voucher,
    /// This request and attempt was begun before.
    Duplicate,
    /// The node failed.
    Internal,
    /// The lane can pay no answer here any more, another one can: nothing was begun on it.
    Lane,
    /// The node knows of no such attempt of who asks.
    Unknown,
    /// No answer can be taken up at that token: it was not sent yet, or is paid for.
    Index,
    /// The answer was kept for its client, and the time for that ran out.
    Expired,
    /// The answer has ended: what became of it is said to who recalls it.
    Ended,
}

impl RefusalCode {
    /// Whether the same request may succeed at another node.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::NotServed | Self::Busy | Self::Quote | Self::Internal | Self::Lane)
    }
}

/// Why a frame is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not the encoding of any message.
    #[error("frame of {len} bytes is no {kind}: {why}")]
    Malformed {
        /// What was expected.
        kind: &'static str,
        /// Frame length.
        len: usize,
        /// What the decoder said.
        why: String,
    },
    /// More items than a message may hold.
    #[error("{field} holds {got} items, at most {most} are allowed")]
    TooMany {
        /// The field.
        field: &'static str,
        /// How many.
        got: usize,
        /// How many may be.
        most: usize,
    },
}

/// Encodes a message.
///
/// # Panics
/// Never for the messages of this module: each is plain data.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_allocvec(message).expect("plain data always encodes")
}

fn decode<T: DeserializeOwned>(kind: &'static str, frame: &[u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(MessageError::Malformed { kind, len: frame.len(), why: format!("{} bytes follow it", rest.len()) }),
        Err(error) => Err(MessageError::Malformed { kind, len: frame.len(), why: error.to_string() }),
    }
}

/// Stops at the bound: of a frame full of short entries the list would be many times the frame.
fn at_most_told_max<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Told>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Told>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(formatter, "at most {TOLD_MAX} tokens")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut told = Vec::new();
            while let Some(one) = all.next_element()? {
                if told.len() == TOLD_MAX {
                    return Err(A::Error::invalid_length(TOLD_MAX + 1, &self));
                }
                told.push(one);
            }
            Ok(told)
        }
    }
    deserializer.deserialize_seq(Few)
}

impl FromClient {
    /// Reads a client's frame.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(frame: &[u8]) -> Result<Self, MessageError> {
        let message: Self = decode("client message", frame)?;
        if let Self::Begin(begin) = &message {
            let bounds = [("turns", begin.turns.len(), MESSAGES_MAX), ("bytes of options", begin.options.0.len(), OPTIONS_BYTES_MAX)];
            if let Some((field, got, most)) = bounds.into_iter().find(|(_, got, most)| got > most) {
                return Err(MessageError::TooMany { field, got, most });
            }
        }
        Ok(message)
    }
}

impl FromNode {
    /// Reads a node's frame.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(frame: &[u8]) -> Result<Self, MessageError> {
        decode("node message", frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begin(options: usize, turns: usize) -> FromClient {
        let signature = Signed65([9; 65]);
        let request = Request {
            client: Address([1; 20]),
            nonce: 2,
            manifest: Hash32([3; 32]),
            rate_in_max: Amount(4),
            rate_out_max: Amount(5),
            profile: Profile::Exact,
            class: Class::Open,
            sampling: types::request::SamplingRule::GREEDY,
            options: Hash32([6; 32]),
            prompt_root: Hash32([7; 32]),
            tokens_max: 8,
            spending_limit: Amount(9),
        };
        let quote = Quote {
            node: Address([1; 20]),
            manifest: request.manifest,
            profile: Profile::Exact,
            class: Class::Open,
            rate_in: Amount(4),
            rate_out: Amount(5),
            protocol_fee: Amount(6),
            tokens_max: 8,
            block: types::time::BlockRef::default(),
            expiry: 9,
        };
        let lane = Lane { payer: Address([1; 20]), node: Address([2; 20]), cap: Amount(3), expiry: 4, nonce: 5 };
        let split = types::split::SplitTable::default();
        FromClient::Begin(Box::new(Begin {
            request: Signed { document: request, signature },
            options: Body(vec![5; options]),
            attempt: 1,
            quote: Signed { document: quote, signature },
            lane: Signed { document: lane, signature },
            session: None,
            manifest: Manifest { assets: vec![], split, index: Hash32([8; 32]), parameters: 1, datanets: vec![] },
            turns: vec![Turn { role: 2, content: "?".into() }; turns],
            prompt_salt: Hash32([7; 32]),
            continued: vec![1, 2],
        }))
    }

    #[test]
    fn a_beginning_carries_options_and_turns_up_to_their_bounds() {
        for (options, turns) in [(0, 1), (33, 2), (OPTIONS_BYTES_MAX, MESSAGES_MAX)] {
            let message = begin(options, turns);
            assert_eq!(FromClient::decode(&encode(&message)), Ok(message));
        }
        let refused = |options, turns| FromClient::decode(&encode(&begin(options, turns))).unwrap_err();
        let got = OPTIONS_BYTES_MAX + 1;
        assert_eq!(refused(got, 1), MessageError::TooMany { field: "bytes of options", got, most: OPTIONS_BYTES_MAX });
        assert_eq!(refused(0, MESSAGES_MAX + 1), MessageError::TooMany { field: "turns", got: MESSAGES_MAX + 1, most: MESSAGES_MAX });
    }

    #[test]
    fn a_frame_full_of_empty_entries_is_read_no_further_than_their_bound() {
        // Two bytes a message: a role and an empty content.
        assert!(FromClient::decode(&encode(&begin(0, MESSAGES_READ_MAX + 1))).is_err());
        let status = |reasons: usize| {
            FromNode::Status(Status {
                node: NodeId([1; 32]),
                version: "1".into(),
                uptime_us: 2,
                peers: 3,
                providers: 4,
                running: 5,
                manifests: vec![],
                waiting: vec![String::new(); reasons],
                receipts: 6,
                receipts_unposted: 7,
                memory_bytes: 8,
                watches: false,
                watching: vec![],
            })
        };
        assert_eq!(FromNode::decode(&encode(&status(REASONS_MAX))), Ok(status(REASONS_MAX)));
        assert!(FromNode::decode(&encode(&status(REASONS_MAX + 1))).is_err());
    }

    #[test]
    fn messages_round_trip() {
        let voucher = Voucher {
            lane: Hash32([1; 32]),
            request: Hash32([2; 32]),
            attempt: 1,
            quote: Hash32([3; 32]),
            first_token: 4,
            tokens_in: 5,
            tokens_out: 6,
            token_ids: Hash32([7; 32]),
            base: Amount(8),
            cumulative: Amount(u128::MAX),
        };
        let message = FromClient::Voucher(Box::new(Signed { document: voucher, signature: Signed65([9; 65]) }));
        assert_eq!(FromClient::decode(&encode(&message)), Ok(message));
        let token = FromNode::Token { index: 3, id: 40_000, bytes: b" gout".to_vec(), told: vec![] };
        assert_eq!(encode(&token).len(), 12, "what is not asked for takes one byte");
        assert_eq!(FromNode::decode(&encode(&token)), Ok(token.clone()));
        let mut longer = encode(&token);
        longer.push(0);
        assert!(FromNode::decode(&longer).is_err());
    }

    #[test]
    fn a_token_tells_of_as_many_tokens_as_may_be_asked_for() {
        let told = |count: usize| {
            let one = Told { bytes: b" is".to_vec(), ln_ppm: -1_500_000 };
            FromNode::Token { index: 0, id: 7, bytes: b" gout".to_vec(), told: vec![one; count] }
        };
        for count in [0, 1, TOLD_MAX] {
            assert_eq!(FromNode::decode(&encode(&told(count))), Ok(told(count)));
        }
        assert!(FromNode::decode(&encode(&told(TOLD_MAX + 1))).is_err());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = FromClient::decode(&bytes);
            let _ = FromNode::decode(&bytes);
        }
    }
}
