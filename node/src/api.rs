//! The gateway: OpenAI's HTTP interface before whatever [answers](source::Answers).
//!
//! Goals: OpenAI's own client works unmodified; nothing a request says is left out in silence; every answer carries its receipt; a client that goes away
//! or reads slowly costs nothing beyond what it had. Non-goals: TLS (a proxy's), accounts, a chat page.
//!
//! ```text
//! socket -> server (connections, header time) -> guard (host, key, role) -> endpoint (fields, idempotency, limits) -> Answers
//!                                                                            <- first event decides the status <- events
//! ```
//! All that decides is pure and has its own file: [`fields`], [`limits`], [`idempotency`], [`keys`], [`answer`]. This file carries a request through
//! them.
//!
//! Every path but `/health` and `/openapi.json` needs a key; those that change what is offered need an admin's. Keys, headers and texts are never logged.
//!
//! Size of an answer under way: about 20 kB of events, frames and tasks and 64 kB of socket buffer, 200 of them 17 MB.

pub mod adapters;
pub mod answer;
pub mod chat;
pub mod completions;
pub mod embeddings;
pub mod errors;
pub mod fields;
pub mod idempotency;
pub mod keys;
mod lease;
pub mod limits;
pub mod models;
pub mod openapi;
mod options;
mod patient;
pub mod server;
mod silent;
pub mod source;
mod sse;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    middleware::{self, Next},
    routing::{get, post},
};
use futures::StreamExt as _;
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use self::{
    answer::{Head, Whole, Writer},
    chat::Asked,
    errors::{bytes_response, json_response, whole},
    idempotency::{Kept, Known, Name},
    keys::Keys,
    lease::{Books, HeldName, Lease, Taken},
    limits::Standing,
    source::{Event, Finished},
};
pub use self::{
    errors::{Kind, Refusal},
    source::Answers,
};

/// Most bytes of a request: what a prompt on the network may have.
pub const BODY_MAX: usize = 1 << 20;
/// Bytes of a longer one that are read off, so that its sender hears why it is refused rather than a broken connection.
const DRAIN_MAX: usize = 8 * BODY_MAX;
/// Most output tokens of an answer, as nodes have it.
pub const TOKENS_MAX: u32 = 4_096;
/// Bytes of a prompt that are counted as one token before it is known how many there are: English has four to five.
const BYTES_PER_TOKEN: usize = 4;

/// What bounds a gateway beside its keys.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Answers at once, over all keys; more are refused.
    pub answers_max: usize,
    /// How long a request's head may take, and how long a connection may stay open without a request.
    pub head_wait: Duration,
    /// How long its body may take.
    pub body_wait: Duration,
    /// How long a reader may take nothing of its answer.
    pub reader_wait: Duration,
    /// How long answers under way may still take when the gateway stops.
    pub stop_wait: Duration,
}

impl Default for Bounds {
    /// 512 connections of 64 kB and 256 answers take 50 MB. Ten seconds are enough for a head over any line, twenty for a megabyte over a slow one; a
    /// person who stops reading for half a minute has stopped.
    fn default() -> Self {
        Self {
            connections_max: 512,
            answers_max: 256,
            head_wait: Duration::from_secs(10),
            body_wait: Duration::from_secs(20),
            reader_wait: Duration::from_secs(30),
            stop_wait: Duration::from_secs(30),
        }
    }
}

/// A gateway, to be [served](server::serve).
#[derive(Debug)]
pub struct Gateway<S> {
    source: S,
    keys: Keys,
    bounds: Bounds,
    /// Names it is reached by beside addresses of this machine: requests for others are refused, whatever a resolver was made to say.
    hosts: Vec<String>,
    books: Arc<Books>,
    places: Arc<Semaphore>,
    /// Answers on their way to readers.
    tasks: TaskTracker,
}

/// Who sent a request.
#[derive(Debug, Clone)]
struct Caller {
    key: usize,
    request_id: String,
}

/// What an idempotency key does to a request.
#[derive(Debug)]
enum Asking {
    /// It has none.
    Freely,
    /// It holds one that is new.
    Once(HeldName),
    /// It was answered.
    Again(Arc<Kept>),
}

/// Who may use a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Everybody,
    Keys,
    Admins,
}

/// The name in `name`, `name:port`, `[address]` or `[address]:port`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether an Origin header (`scheme://host`, with a port or without; `null` of pages without one) is of a page that came from this machine, from where the request goes to,
/// or from one of `names`.
pub(crate) fn is_own_page(origin: &str, host: Option<&str>, names: &[String]) -> bool {
    let Some((_, from)) = origin.split_once("://") else { return false };
    let name = without_port(from);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
        || host.is_some_and(|host| without_port(host).eq_ignore_ascii_case(name))
}

/// Whether a Host header is an address, `localhost`, or one of `names`; what a browser sends of a name that somebody else pointed here is none of them.
pub(crate) fn is_this_machine(host: &str, names: &[String]) -> bool {
    let name = without_port(host);
    name.parse::<std::net::IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Whatever is not named here needs a key: a route that is forgotten is closed, not open.
fn access(path: &str) -> Access {
    match path {
        "/health" | "/openapi.json" => Access::Everybody,
        "/v1/load_lora_adapter" | "/v1/unload_lora_adapter" => Access::Admins,
        _ => Access::Keys,
    }
}

impl<S: Answers> Gateway<S> {
    /// Before `source`, for whoever has one of `keys`; `hosts` are names it is reached by beside this machine's own.
    pub fn new(source: S, keys: Keys, bounds: Bounds, hosts: Vec<String>) -> Arc<Self> {
        let books = Arc::new(Books::new(keys.keys.iter().map(|key| key.limits)));
        let places = Arc::new(Semaphore::new(bounds.answers_max));
        Arc::new(Self { source, keys, bounds, hosts, books, places, tasks: TaskTracker::new() })
    }

    /// The routes.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/openapi.json", get(document))
            .route("/v1/models", get(list::<S>))
            .route("/v1/models/{id}", get(one::<S>))
            .route("/v1/chat/completions", post(chat::<S>))
            .route("/v1/completions", post(completions::<S>))
            .route("/v1/embeddings", post(embeddings::<S>))
            .route("/v1/load_lora_adapter", post(load::<S>))
            .route("/v1/unload_lora_adapter", post(unload::<S>))
            .fallback(async || {
                Refusal::new(Kind::Missing, "unknown_path", "there is no such path: GET /openapi.json lists them").response()
            })
            .method_not_allowed_fallback(async || {
                Refusal::new(Kind::Method, "method_not_allowed", "this path is not used by this method: GET /openapi.json lists them")
                    .response()
            })
            .layer(middleware::from_fn_with_state(Arc::clone(self), guard::<S>))
            .with_state(Arc::clone(self))
    }

    /// Checks host and key; who it is.
    fn admit(&self, request: &Request) -> Result<Option<usize>, Refusal> {
        let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| text(request.headers(), header::HOST.as_str()));
        if !host.is_some_and(|host| self.is_own(host)) {
            let message = "the Host header names another machine: use the address the gateway printed, or give it the name by --host";
            return Err(Refusal::new(Kind::Forbidden, "unknown_host", message));
        }
        // A browser says whose page asks; a key that such a page was given is not for every other page.
        if request.headers().contains_key(header::ORIGIN)
            && !text(request.headers(), header::ORIGIN.as_str()).is_some_and(|origin| is_own_page(origin, host, &self.hosts))
        {
            let message = "the page of another machine asks (Origin): serve the page from here, or give this gateway its name by --host";
            return Err(Refusal::new(Kind::Forbidden, "unknown_origin", message));
        }
        let access = access(request.uri().path());
        if access == Access::Everybody {
            return Ok(None);
        }
        let key = self.keys.find(text(request.headers(), header::AUTHORIZATION.as_str()))?;
        if access == Access::Admins && !self.keys.keys[key].is_admin {
            let message = "this API key may not change what is offered: use one made by `tributary gateway key add NAME --admin`";
            return Err(Refusal::new(Kind::Forbidden, "admin_key_needed", message));
        }
        Ok(Some(key))
    }

    /// Whether a Host header names this gateway: an address, `localhost`, or a name it was given. A name that somebody else pointed here is none of them.
    fn is_own(&self, host: &str) -> bool {
        is_this_machine(host, &self.hosts)
    }

    /// Reads a JSON body.
    async fn body(&self, request: Request) -> Result<Bytes, Refusal> {
        let media = text(request.headers(), header::CONTENT_TYPE.as_str()).unwrap_or_default();
        if !media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Refusal::new(Kind::Media, "not_json", "the body must be JSON: send it with Content-Type: application/json"));
        }
        let coding = text(request.headers(), header::CONTENT_ENCODING.as_str()).unwrap_or_default();
        if request.headers().contains_key(header::CONTENT_ENCODING) && !coding.trim().eq_ignore_ascii_case("identity") {
            let message = "the body is compressed (Content-Encoding), which is not taken: send it as it is, without that header";
            return Err(Refusal { param: Some("Content-Encoding".to_owned()), ..Refusal::new(Kind::Media, "encoded_body", message) });
        }
        let slow = |_| Refusal::new(Kind::Slow, "body_too_slow", "the body did not come in time: send it at once");
        timeout(self.bounds.body_wait, read(request.into_body())).await.map_err(slow)?
    }

    /// Answers a question, of either form.
    async fn answer(&self, caller: &Caller, headers: &HeaderMap, body: &[u8], asked: Asked) -> Result<Response<Body>, Refusal> {
        asked.ask.choosing.carried_by(self.source.carries())?;
        let path: &[u8] = if asked.form == answer::Form::Chat { b"chat" } else { b"text" };
        let once = match self.once(caller, headers, path, body)? {
            Asking::Freely => None,
            Asking::Once(held) => Some(held),
            Asking::Again(kept) => return Ok(again(&kept)),
        };
        let Asked { mut ask, form, is_stream, wants_usage } = asked;
        ask.once = once.as_ref().map(|held| held.name().hex());
        let read = ask.messages.iter().map(|message| message.content.len()).sum::<usize>().div_ceil(BYTES_PER_TOKEN);
        let read = u32::try_from(read).unwrap_or(u32::MAX);
        let lease = self.lease(caller.key, read, ask.tokens_max, once)?;
        let prefix = if form == answer::Form::Chat { "chatcmpl" } else { "cmpl" };
        let head = Head {
            form,
            id: format!("{prefix}-{}", &caller.request_id["req_".len()..]),
            created_s: now_s(),
            model: ask.model.clone(),
            wants_usage,
            told: ask.choosing.told,
        };
        let about = if form == answer::Form::Chat { "messages" } else { "prompt" };
        // A source knows what was asked, not by which field it came.
        let named = |refusal: Refusal| match refusal.code {
            "context_length_exceeded" => Refusal { param: refusal.param.or_else(|| Some(about.to_owned())), ..refusal },
            _ => refusal,
        };
        let mut events = self.source.begin(ask).await.map_err(named)?;
        let first = match events.recv().await {
            None => return Err(sse::broken_off()),
            Some(Event::Failed(refusal)) => return Err(named(refusal)),
            Some(first) => first,
        };
        if !is_stream {
            return gather(head, first, events, lease).await;
        }
        let pump = sse::Pump { events, writer: Writer::new(head), lease, reader_wait: self.bounds.reader_wait };
        let (body, driven) = sse::body(first, pump);
        self.tasks.spawn(driven);
        Ok(bytes_response(StatusCode::OK, sse::MEDIA, body))
    }

    /// Takes the idempotency key of a request, if it has one.
    fn once(&self, caller: &Caller, headers: &HeaderMap, path: &[u8], body: &[u8]) -> Result<Asking, Refusal> {
        let Some(key) = headers.get("idempotency-key") else { return Ok(Asking::Freely) };
        // What is no text is refused like a key of a wrong length.
        let name = Name::new(&self.keys.keys[caller.key].name, key.to_str().unwrap_or_default())?;
        let digest = *blake3::Hasher::new().update(path).update(body).finalize().as_bytes();
        match self.books.once().begin(self.books.now(), caller.key, name, digest)? {
            Known::Answered(kept) => Ok(Asking::Again(kept)),
            Known::New => Ok(Asking::Once(HeldName::new(Arc::clone(&self.books), name))),
        }
    }

    /// Takes a place and tokens for an answer.
    fn lease(&self, key: usize, read: u32, tokens_max: u32, once: Option<HeldName>) -> Result<Lease, Refusal> {
        let full = |_| {
            let message = format!("{} answers are under way here, no more fit: ask again in a moment", self.bounds.answers_max);
            Refusal::new(Kind::Busy, "gateway_full", message).after(Duration::from_secs(1))
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        let tokens = read.saturating_add(tokens_max);
        self.books.meter(key).begin(self.books.now(), tokens)?;
        Ok(Lease { taken: Taken::new(Arc::clone(&self.books), key, tokens, read), once, _place: place })
    }
}

/// Reads a body up to its bound.
async fn read(body: Body) -> Result<Bytes, Refusal> {
    let (mut all, mut passed, mut stream) = (Vec::new(), 0usize, body.into_data_stream());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::new(Kind::Invalid, "body_broken_off", "the body broke off: send it whole"))?;
        passed = passed.saturating_add(chunk.len());
        match passed {
            0..=BODY_MAX => all.extend_from_slice(&chunk),
            passed if passed > DRAIN_MAX => break,
            _ => all = Vec::new(),
        }
    }
    if passed > BODY_MAX {
        let message = format!("the body has more than {BODY_MAX} bytes: send a shorter conversation");
        return Err(Refusal::new(Kind::TooLarge, "body_too_large", message));
    }
    Ok(all.into())
}

/// Gathers a whole answer.
async fn gather(head: Head, first: Event, mut events: mpsc::Receiver<Event>, mut lease: Lease) -> Result<Response<Body>, Refusal> {
    let (mut whole, mut next) = (Whole::new(head), Some(first));
    let finished: Box<Finished> = loop {
        let event = match next.take() {
            Some(event) => event,
            None => events.recv().await.ok_or_else(sse::broken_off)?,
        };
        match event {
            Event::Token { bytes, logprobs } => {
                lease.token();
                whole.token(&bytes, logprobs);
            }
            Event::Finished(finished) => break finished,
            Event::Failed(refusal) => return Err(refusal),
        }
    };
    lease.used(finished.usage);
    let body = whole.end(&finished).into_bytes();
    lease.keep(Kept { media: errors::JSON, body: body.clone() });
    Ok(bytes_response(StatusCode::OK, errors::JSON, body))
}

/// What was answered before, byte for byte.
fn again(kept: &Kept) -> Response<Body> {
    let mut response = bytes_response(StatusCode::OK, kept.media, kept.body.clone());
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    response
}

/// What a key has left, in OpenAI's headers.
fn stand(headers: &mut HeaderMap, standing: &Standing) {
    let reset =
        |wait: Duration| HeaderValue::try_from(format!("{:.3}s", wait.as_secs_f64())).unwrap_or_else(|_| HeaderValue::from_static("60s"));
    headers.insert("x-ratelimit-limit-requests", whole(standing.limits.requests_per_minute.into()));
    headers.insert("x-ratelimit-limit-tokens", whole(standing.limits.tokens_per_minute.into()));
    headers.insert("x-ratelimit-remaining-requests", whole(standing.requests.into()));
    headers.insert("x-ratelimit-remaining-tokens", whole(standing.tokens.into()));
    headers.insert("x-ratelimit-reset-requests", reset(standing.requests_reset));
    headers.insert("x-ratelimit-reset-tokens", reset(standing.tokens_reset));
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Names a request, lets it through or not, and notes how it ended. Neither headers nor bodies are noted.
async fn guard<S: Answers>(State(gateway): State<Arc<Gateway<S>>>, mut request: Request, next: Next) -> Response<Body> {
    let mut random = [0; 16];
    let request_id = match getrandom::fill(&mut random) {
        Ok(()) => format!("req_{}", hex::encode(random)),
        Err(_) => return Refusal::new(Kind::Busy, "no_randomness", "the system gives no randomness: try again").response(),
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (mut response, name) = match gateway.admit(&request) {
        Err(refusal) => (refusal.response(), "-"),
        Ok(None) => (next.run(request).await, "-"),
        Ok(Some(key)) => {
            request.extensions_mut().insert(Caller { key, request_id: request_id.clone() });
            let counted = gateway.books.meter(key).request(gateway.books.now());
            let mut response = match counted {
                Ok(()) => next.run(request).await,
                Err(refusal) => refusal.response(),
            };
            stand(response.headers_mut(), &gateway.books.meter(key).standing(gateway.books.now()));
            (response, gateway.keys.keys[key].name.as_str())
        }
    };
    let path: String = path.chars().take(128).collect();
    tracing::info!(%request_id, key = name, %method, path = %path.escape_debug(), status = response.status().as_u16(), "request");
    if let Ok(value) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// Who sent a request that the guard let through.
fn caller(request: &Request) -> Result<Caller, Refusal> {
    let unknown = || Refusal::new(Kind::Key, "invalid_api_key", "no API key was given");
    request.extensions().get::<Caller>().cloned().ok_or_else(unknown)
}

/// A response, or the refusal's own.
fn respond(result: Result<Response<Body>, Refusal>) -> Response<Body> {
    result.unwrap_or_else(|refusal| refusal.response())
}

async fn health() -> Response<Body> {
    json_response(StatusCode::OK, &json!({ "status": "ok" }))
}

async fn document() -> Response<Body> {
    json_response(StatusCode::OK, &openapi::document())
}

async fn list<S: Answers>(State(gateway): State<Arc<Gateway<S>>>) -> Response<Body> {
    let listed = gateway.source.models().await;
    respond(listed.map(|all| json_response(StatusCode::OK, &models::list(&all))))
}

async fn one<S: Answers>(State(gateway): State<Arc<Gateway<S>>>, id: Result<Path<String>, PathRejection>) -> Response<Body> {
    let Ok(Path(id)) = id else {
        return Refusal::field("model", "invalid_value", "the path's id is no text in UTF-8: GET /v1/models lists the ids").response();
    };
    let found = gateway.source.models().await.and_then(|all| {
        let one = all.iter().find(|listed| listed.id == id).ok_or_else(|| models::unknown(&id, &all))?;
        Ok(json_response(StatusCode::OK, &models::model(one)))
    });
    respond(found)
}

async fn chat<S: Answers>(State(gateway): State<Arc<Gateway<S>>>, request: Request) -> Response<Body> {
    respond(answered(&gateway, request, chat::read).await)
}

async fn completions<S: Answers>(State(gateway): State<Arc<Gateway<S>>>, request: Request) -> Response<Body> {
    respond(answered(&gateway, request, completions::read).await)
}

async fn answered<S: Answers>(
    gateway: &Gateway<S>,
    request: Request,
    read: fn(&[u8]) -> Result<Asked, Refusal>,
) -> Result<Response<Body>, Refusal> {
    let (caller, headers) = (caller(&request)?, request.headers().clone());
    let body = gateway.body(request).await?;
    let asked = read(&body)?;
    gateway.answer(&caller, &headers, &body, asked).await
}

async fn embeddings<S: Answers>(State(gateway): State<Arc<Gateway<S>>>, request: Request) -> Response<Body> {
    let embedded = async {
        let caller = caller(&request)?;
        let body = gateway.body(request).await?;
        let asked = embeddings::read(&body)?;
        let read = asked.texts.iter().map(String::len).sum::<usize>().div_ceil(BYTES_PER_TOKEN);
        let mut lease = gateway.lease(caller.key, u32::try_from(read).unwrap_or(u32::MAX), 0, None)?;
        let embedded = gateway.source.embed(caller.key, &asked.model, asked.texts.clone()).await;
        // What was refused has read nothing that counts.
        let tokens_in = embedded.as_ref().map_or(0, |embedded| embedded.tokens);
        lease.used(source::Usage { tokens_in, tokens_out: 0 });
        let embedded = embedded?;
        Ok(bytes_response(StatusCode::OK, errors::JSON, embeddings::answer(&asked, &embedded)))
    };
    respond(embedded.await)
}

async fn load<S: Answers>(State(gateway): State<Arc<Gateway<S>>>, request: Request) -> Response<Body> {
    let loaded = async {
        let load = adapters::read_load(&gateway.body(request).await?)?;
        let listed = gateway.source.load(load).await?;
        tracing::info!(id = %listed.id.escape_debug(), "an adapter is offered");
        Ok(json_response(StatusCode::OK, &models::model(&listed)))
    };
    respond(loaded.await)
}

async fn unload<S: Answers>(State(gateway): State<Arc<Gateway<S>>>, request: Request) -> Response<Body> {
    let unloaded = async {
        let name = adapters::read_unload(&gateway.body(request).await?)?;
        gateway.source.unload(&name).await?;
        tracing::info!(%name, "an adapter is offered no more");
        Ok(json_response(StatusCode::OK, &json!({ "object": "model", "id": name, "deleted": true })))
    };
    respond(unloaded.await)
}
