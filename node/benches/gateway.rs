//! What the gateway adds to a token: from the moment its source has it to the moment an HTTP client has read it, 200 streams at once.
//!
//! `cargo bench -p node --bench gateway`: prints rows as JSON lines. The gateway of `tributary gateway` over real sockets, on one thread for its work and one for
//! the clients, as two processes would have on two cores. The source is in this process and keeps a pace: [`STREAMS`] answers with a token every [`PACE`], each at its own moment;
//! 4,000 tokens a second are more than the engine makes. What lies before the source, a node's frames over QUIC, is not in it.
//!
//! The limit, in the same run: a task that writes as many bytes as such an event straight to a socket, and a reader, as many of them at the same pace.
//!
//! Back of the envelope: an event is 250 B and six steps: a channel, JSON, a record for `Idempotency-Key`, a channel, a chunk's frame, one `write`, 5 to 10 us on one core:
//! 4,000 of them take 3 % of it, so half of all tokens wait for nothing but that and a wake-up.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails says where")]

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use node::api::{
    Bounds, Gateway, Refusal,
    adapters::Load,
    keys::{Keys, Secret},
    limits::Limits,
    server,
    source::{Answers, Ask, EVENTS_MAX, Embedded, Event, Extra, Finished, Listed, Reason, Usage},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::{MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

const STREAMS: u32 = 200;
const PACE: Duration = Duration::from_millis(50);
const TOKENS: usize = 240;
/// Tokens of a stream before those that count: connections are made meanwhile.
const WARM: usize = 40;
/// Bytes of an event as the gateway sends it.
const EVENT_BYTES: usize = 250;
/// What a token's text begins with; its number follows in [`DIGITS`] digits.
const MARK: &[u8] = b" token-";
const DIGITS: usize = 4;

/// When each token of each stream was there.
#[derive(Debug)]
struct Clock {
    began: OnceLock<tokio::time::Instant>,
    made: Vec<[OnceLock<Instant>; TOKENS]>,
}

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Self { began: OnceLock::new(), made: (0..STREAMS).map(|_| [const { OnceLock::new() }; TOKENS]).collect() })
    }

    /// Ticks of a stream: all have one pace, none the same moment.
    fn ticks(&self, stream: usize) -> tokio::time::Interval {
        let began = *self.began.get_or_init(tokio::time::Instant::now);
        let share = PACE * u32::try_from(stream).unwrap() / STREAMS;
        let mut ticks = interval_at(began + Duration::from_secs(1) + share, PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks
    }

    fn make(&self, stream: usize, token: usize) -> Vec<u8> {
        self.made[stream][token].set(Instant::now()).unwrap();
        [MARK, format!("{token:0DIGITS$}").as_bytes()].concat()
    }
}

#[derive(Debug)]
struct Source(Arc<Clock>);

impl Answers for Source {
    async fn models(&self) -> Result<Vec<Listed>, Refusal> {
        Ok(vec![Listed { id: "pace".into(), parent: None, root: "1@1".into(), owned_by: "bench".into(), created_s: 1, content: None }])
    }

    fn carries(&self) -> &[Extra] {
        &[]
    }

    async fn begin(&self, ask: Ask) -> Result<mpsc::Receiver<Event>, Refusal> {
        let (to, events) = mpsc::channel(EVENTS_MAX);
        let (clock, stream) = (Arc::clone(&self.0), ask.messages[0].content.parse().unwrap());
        tokio::spawn(async move {
            let mut ticks = clock.ticks(stream);
            for token in 0..TOKENS {
                ticks.tick().await;
                to.send(Event::Token { bytes: clock.make(stream, token), logprobs: None }).await.unwrap();
            }
            let usage = Usage { tokens_in: 1, tokens_out: u32::try_from(TOKENS).unwrap() };
            to.send(Event::Finished(Box::new(Finished { reason: Reason::Stop, usage, settled: None }))).await.unwrap();
        });
        Ok(events)
    }

    async fn embed(&self, _: usize, _: &str, _: Vec<String>) -> Result<Embedded, Refusal> {
        unreachable!("nobody asks for it")
    }

    async fn load(&self, _: Load) -> Result<Listed, Refusal> {
        unreachable!("nobody asks for it")
    }

    async fn unload(&self, _: &str) -> Result<(), Refusal> {
        unreachable!("nobody asks for it")
    }
}

/// Sends a request and reads until the last token; microseconds that each took that counts.
async fn read(addr: SocketAddr, request: Vec<u8>, clock: Arc<Clock>, stream: usize) -> Vec<f64> {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket.write_all(&request).await.unwrap();
    let (mut bytes, mut took, mut next) = (Vec::new(), Vec::new(), 0);
    while next < TOKENS {
        let read = socket.read_buf(&mut bytes).await.unwrap();
        let now = Instant::now();
        assert!(read > 0, "closed at token {next}: {}", String::from_utf8_lossy(&bytes));
        while let Some(at) = bytes.windows(MARK.len()).position(|window| window == MARK) {
            let Some(digits) = bytes.get(at + MARK.len()..at + MARK.len() + DIGITS) else { break };
            let token: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
            assert_eq!(token, next, "tokens come once and in order");
            let made = clock.made[stream][token].get().unwrap();
            took.push(now.duration_since(*made).as_secs_f64() * 1e6);
            bytes.drain(..at + MARK.len() + DIGITS);
            next += 1;
        }
    }
    took.split_off(WARM)
}

fn thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Reads all streams of a server; microseconds of all tokens that count, rising.
fn clients(addr: SocketAddr, clock: &Arc<Clock>, request: impl Fn(usize) -> Vec<u8>) -> Vec<f64> {
    let runtime = thread();
    let streams: Vec<_> =
        (0..clock.made.len()).map(|stream| runtime.spawn(read(addr, request(stream), Arc::clone(clock), stream))).collect();
    let mut all = Vec::new();
    for stream in streams {
        all.extend(runtime.block_on(stream).unwrap());
    }
    all.sort_unstable_by(f64::total_cmp);
    all
}

fn through_the_gateway() -> Vec<f64> {
    let (runtime, clock, stop) = (thread(), Clock::new(), CancellationToken::new());
    let (mut keys, secret) = (Keys::default(), Secret::new(&[1; 32]));
    let limits = Limits { requests_per_minute: 100_000, tokens_per_minute: 100_000_000, running_max: 1_000 };
    keys.add("bench", &secret, false, limits).unwrap();
    let gateway = Gateway::new(Source(Arc::clone(&clock)), keys, Bounds::default(), Vec::new());
    let listener = runtime.block_on(async { server::bind("127.0.0.1:0".parse().unwrap()) }).unwrap();
    let addr = listener.local_addr().unwrap();
    let served = runtime.spawn(server::serve(gateway, listener, stop.clone()));
    let took = clients(addr, &clock, |stream| {
        let message = json!({ "role": "user", "content": stream.to_string() });
        let body = json!({ "model": "pace", "messages": [message], "stream": true, "max_tokens": TOKENS, "temperature": 0 }).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            secret.reveal(),
            body.len()
        );
        (head + &body).into_bytes()
    });
    stop.cancel();
    runtime.block_on(served).unwrap();
    took
}

fn straight_to_a_socket() -> Vec<f64> {
    let (runtime, clock) = (thread(), Clock::new());
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = Arc::clone(&clock);
    runtime.spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let clock = Arc::clone(&accepting);
            tokio::spawn(async move {
                socket.set_nodelay(true).unwrap();
                let stream = usize::try_from(socket.read_u32().await.unwrap()).unwrap();
                let mut ticks = clock.ticks(stream);
                for token in 0..TOKENS {
                    ticks.tick().await;
                    let mut event = clock.make(stream, token);
                    event.resize(EVENT_BYTES, b'.');
                    socket.write_all(&event).await.unwrap();
                }
            });
        }
    });
    clients(addr, &clock, |stream| u32::try_from(stream).unwrap().to_be_bytes().to_vec())
}

fn main() {
    let (floor, ours) = (straight_to_a_socket(), through_the_gateway());
    let at = |took: &[f64], share: usize| took[(took.len() - 1) * share / 100];
    for (figure, share) in [("gateway_p50_us", 50), ("gateway_p99_us", 99)] {
        let note = format!(
            "{STREAMS} streams of {} tokens a second over HTTP, from the source's event to the client's read; straight to a socket {:.0}",
            Duration::from_secs(1).as_millis() / PACE.as_millis(),
            at(&floor, share)
        );
        println!(
            "{}",
            json!({ "figure": format!("engine.{figure}"), "ours": at(&ours, share), "unit": "us", "n": ours.len(), "note": note })
        );
    }
}
