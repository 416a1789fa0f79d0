//! The client's side of the wire, frame by frame: what an honest client sends, and every place where it can be left or bent.
//!
//! A test that wants ten thousand requests cannot start ten thousand processes; it speaks the protocol itself, over real connections to real nodes.
//! A request costs two signatures here and their verification there, about half a millisecond.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use inference::proto::{
    message::{Begin, Delivered, FromClient, FromNode, NODE_FRAME_MAX, Refusal, Turn, encode},
    payment::Terms,
};
use node::{evidence, service::INFERENCE_TAG};
use p2p::{client::Connection, stream::FrameStream};
use tokio::time::timeout;
use types::{
    amount::{Amount, WEI_PER_OPEN},
    encoding::{Body, Document as _},
    id::{Address, Hash32},
    key::{Account, Domains, Signed},
    manifest::Manifest,
    quote::{Class, Profile, Quote},
    receipt::{Reason, Receipt},
    request::{Request, SamplingRule},
    text,
    voucher::{Lane, Voucher},
};

/// Longest wait for one frame; a node that waits for a voucher ends the stream after ten seconds.
const FRAME_WAIT: Duration = Duration::from_secs(30);
/// Cap of a lane, and what one request may cost.
const LIMIT: Amount = Amount(WEI_PER_OPEN);
/// Salt of every prompt; nothing here is secret.
const PROMPT_SALT: Hash32 = Hash32([7; 32]);

/// Somebody who signs requests and pays, or does not.
#[derive(Debug)]
pub struct Payer {
    /// The key.
    pub account: Account,
    domains: Domains,
    /// Numbers of requests and lanes, never twice.
    next: AtomicU64,
}

impl Payer {
    /// A payer under the domains of a deployment.
    pub const fn new(account: Account, domains: Domains) -> Self {
        Self { account, domains, next: AtomicU64::new(1) }
    }

    /// Its account.
    pub fn address(&self) -> Address {
        self.account.address()
    }

    /// A number that no request and no lane of this payer has.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A signed document.
    pub fn sign<D: types::encoding::Document>(&self, document: D) -> Signed<D> {
        Signed::new(&self.account, &self.domains, document)
    }

    /// A new lane to a node, as an honest client opens it.
    pub fn lane(&self, node: Address) -> Lane {
        Lane { payer: self.address(), node, cap: LIMIT, expiry: u64::MAX / 2, nonce: self.number() }
    }

    /// A new request for what was quoted, as an honest client signs it.
    ///
    /// # Panics
    /// If the words are not canonical text.
    pub fn request(&self, quote: &Quote, words: &str) -> Request {
        Request {
            client: self.address(),
            nonce: self.number(),
            manifest: quote.manifest,
            rate_in_max: quote.rate_in,
            rate_out_max: quote.rate_out,
            profile: Profile::Exact,
            class: Class::Open,
            sampling: SamplingRule::default(),
            options: Hash32::ZERO,
            prompt_root: text::prompt_root(&evidence::prompt_bytes(&turns(words)).expect("canonical text"), PROMPT_SALT),
            tokens_max: quote.tokens_max,
            spending_limit: LIMIT,
        }
    }

    /// A whole beginning from its parts.
    pub fn begin(&self, quote: &Signed<Quote>, request: Request, lane: Lane, manifest: &Manifest, words: &str) -> Begin {
        Begin {
            request: self.sign(request),
            options: Body::default(),
            attempt: 0,
            quote: quote.clone(),
            lane: self.sign(lane),
            session: None,
            manifest: manifest.clone(),
            turns: turns(words),
            prompt_salt: PROMPT_SALT,
            continued: vec![],
        }
    }
}

fn turns(words: &str) -> Vec<Turn> {
    vec![Turn { role: 2, content: words.to_owned() }]
}

/// How a stream went on, or ended.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one is held at a time, and matched where it is heard")]
pub enum Heard {
    /// The node said so.
    Said(FromNode),
    /// The node ended the stream in order.
    Ended,
    /// The stream or its connection broke.
    Broke(String),
    /// Nothing came in time.
    Nothing,
}

/// One stream to a node.
#[derive(Debug)]
pub struct Talk {
    stream: FrameStream,
    is_opened: bool,
}

impl Talk {
    /// Opens a stream; nothing if the connection is gone or the node takes no more.
    pub async fn open(connection: &Connection) -> Option<Self> {
        connection.open_stream().await.ok().map(|stream| Self { stream, is_opened: false })
    }

    /// Sends a message; false if the stream is gone.
    pub async fn send(&mut self, message: &FromClient) -> bool {
        self.send_bytes(encode(message)).await
    }

    /// Sends any bytes as a frame, the service's tag before the first one; false if the stream is gone.
    pub async fn send_bytes(&mut self, mut frame: Vec<u8>) -> bool {
        if !self.is_opened {
            frame.insert(0, INFERENCE_TAG);
            self.is_opened = true;
        }
        self.stream.send(&frame).await.is_ok()
    }

    /// Ends this side in order.
    pub async fn finish(&mut self) -> bool {
        self.stream.finish().await.is_ok()
    }

    /// Breaks the stream off.
    pub fn reset(&mut self) {
        self.stream.reset(p2p::stream::code::CANCELLED);
    }

    /// The next thing that happens.
    pub async fn hear(&mut self) -> Heard {
        match timeout(FRAME_WAIT, self.stream.recv(NODE_FRAME_MAX)).await {
            Ok(Ok(Some(frame))) => FromNode::decode(&frame).map_or_else(|error| Heard::Broke(format!("no message: {error}")), Heard::Said),
            Ok(Ok(None)) => Heard::Ended,
            Ok(Err(error)) => Heard::Broke(error.to_string()),
            Err(_) => Heard::Nothing,
        }
    }

    /// A signed offer.
    ///
    /// # Errors
    /// What came instead.
    pub async fn quote(&mut self, manifest: Hash32, tokens_max: u32) -> Result<Signed<Quote>, String> {
        let ask = FromClient::QuoteAsk { manifest, profile: Profile::Exact, class: Class::Open, tokens_max };
        self.send(&ask).await;
        match self.hear().await {
            Heard::Said(FromNode::Quote(quote)) => Ok(quote),
            other => Err(format!("no quote but {other:?}")),
        }
    }

    /// Begins an answer and waits for its beginning.
    ///
    /// # Errors
    /// What came instead.
    pub async fn begun(&mut self, begin: &Begin) -> Result<Answer, String> {
        self.send(&FromClient::Begin(Box::new(begin.clone()))).await;
        match self.hear().await {
            Heard::Said(FromNode::Begun { tokens_in, base }) => Ok(Answer::new(begin, tokens_in, base)),
            other => Err(format!("no beginning but {other:?}")),
        }
    }

    /// Reads on until the node refuses; that nothing is charged may be signed before it is said.
    ///
    /// # Errors
    /// What came instead; a receipt that bills is one such thing.
    pub async fn refusal(&mut self) -> Result<Refusal, String> {
        loop {
            match self.hear().await {
                Heard::Said(FromNode::Refused(refusal)) => return Ok(refusal),
                Heard::Said(FromNode::Receipt(delivered)) if bills_nothing(&delivered) => {}
                Heard::Said(FromNode::Quote(_) | FromNode::Begun { .. } | FromNode::Token { .. } | FromNode::Finished { .. }) => {}
                other => return Err(format!("no refusal but {other:?}")),
            }
        }
    }

    /// Reads on to the end of the stream, which must bring no receipt.
    ///
    /// # Errors
    /// If it brings one, or nothing comes.
    pub async fn end(&mut self) -> Result<(), String> {
        loop {
            match self.hear().await {
                Heard::Said(FromNode::Receipt(delivered)) => return Err(format!("a receipt came: {delivered:?}")),
                Heard::Said(_) => {}
                Heard::Ended | Heard::Broke(_) => return Ok(()),
                Heard::Nothing => return Err("the stream did not end".into()),
            }
        }
    }
}

/// Whether a receipt says of an answer that failed that it is charged nothing.
pub fn bills_nothing(delivered: &Delivered) -> bool {
    let Receipt { fee, tokens_out, reason, .. } = delivered.receipt;
    fee == Amount::ZERO && tokens_out == 0 && matches!(reason, Reason::EngineFailure | Reason::Empty)
}

/// An answer under way, on the client's side.
#[derive(Debug)]
pub struct Answer {
    terms: Terms,
    /// Tokens received.
    pub tokens: Vec<u32>,
}

impl Answer {
    fn new(begin: &Begin, tokens_in: u32, base: Amount) -> Self {
        let quote = &begin.quote.document;
        let terms = Terms {
            lane: begin.lane.document.id(),
            request: begin.request.document.id(),
            attempt: begin.attempt,
            quote: quote.hash(),
            continued: begin.continued.clone(),
            tokens_in,
            base,
            rate_in: quote.rate_in,
            rate_out: quote.rate_out,
            protocol_fee: quote.protocol_fee,
        };
        Self { terms, tokens: vec![] }
    }

    /// The next token.
    ///
    /// # Errors
    /// What came instead.
    pub async fn token(&mut self, talk: &mut Talk) -> Result<(), String> {
        match talk.hear().await {
            Heard::Said(FromNode::Token { id, .. }) => {
                self.tokens.push(id);
                Ok(())
            }
            other => Err(format!("no token but {other:?}")),
        }
    }

    /// All further tokens, until the node says that none will come.
    ///
    /// # Errors
    /// What came instead.
    pub async fn rest(&mut self, talk: &mut Talk) -> Result<Reason, String> {
        loop {
            match talk.hear().await {
                Heard::Said(FromNode::Token { id, .. }) => self.tokens.push(id),
                Heard::Said(FromNode::Finished { reason }) => return Ok(reason),
                other => return Err(format!("no token but {other:?}")),
            }
        }
    }

    /// The voucher for all tokens so far.
    ///
    /// # Panics
    /// If its sum does not fit.
    pub fn due(&self) -> Voucher {
        self.terms.voucher(&self.tokens).expect("a sum that fits")
    }

    /// Pays with a voucher.
    pub async fn pay(&self, talk: &mut Talk, payer: &Payer, voucher: Voucher) -> bool {
        talk.send(&FromClient::Voucher(Box::new(payer.sign(voucher)))).await
    }
}

/// An answer paid to its end on a lane of its own; what was delivered.
///
/// # Errors
/// What came instead.
pub async fn paid(connection: &Connection, payer: &Payer, begin: &Begin) -> Result<Delivered, String> {
    let mut talk = Talk::open(connection).await.ok_or("no stream")?;
    let mut answer = talk.begun(begin).await?;
    answer.token(&mut talk).await?;
    answer.pay(&mut talk, payer, answer.due()).await;
    answer.rest(&mut talk).await?;
    if answer.tokens.len() > 1 {
        answer.pay(&mut talk, payer, answer.due()).await;
    }
    match talk.hear().await {
        Heard::Said(FromNode::Receipt(delivered)) => Ok(*delivered),
        other => Err(format!("no receipt but {other:?}")),
    }
}
