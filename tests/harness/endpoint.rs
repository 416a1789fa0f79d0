//! A way to the chain that stops at a request of the test's choice: what a process had done when it was killed there is known.
//!
//! Speaks as much HTTP as JSON-RPC clients do: one request after another on a connection, bodies of a stated length.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Longest head or body carried: calldata is below 128 KiB, twice that in hex.
const MESSAGE_MAX: usize = 4 << 20;

/// Where requests stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The first request of this method does not reach the chain.
    Before(&'static str),
    /// The first request of this method reaches the chain, and its answer does not come back.
    After(&'static str),
    /// The first request of this method after a transaction was sent here and seen in a block does not reach the chain.
    BeforeOnceIncluded(&'static str),
}

/// Carries requests to an endpoint until it stops; ends with its handle.
#[derive(Debug)]
pub struct Endpoint {
    url: String,
    stopped: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    stop: Stop,
    is_sent: AtomicBool,
    is_included: AtomicBool,
    stopped: watch::Sender<bool>,
}

impl Endpoint {
    /// A way to `url`, which is `http://HOST:PORT`, that stops at `stop`.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn stopping(url: &str, stop: Stop) -> Self {
        let target = url.strip_prefix("http://").expect("a plain endpoint").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("it is bound");
        let (sender, stopped) = watch::channel(false);
        let shared =
            Arc::new(Shared { target, stop, is_sent: AtomicBool::new(false), is_included: AtomicBool::new(false), stopped: sender });
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, Arc::clone(&shared)));
            }
        });
        Self { url: format!("http://{own}"), stopped, task }
    }

    /// Where it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it has stopped.
    ///
    /// # Panics
    /// If it ends before.
    pub async fn stopped(&self) {
        self.stopped.clone().wait_for(|is_stopped| *is_stopped).await.expect("it carries on until it is dropped");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut near: TcpStream, shared: Arc<Shared>) {
    let Ok(mut far) = TcpStream::connect(&shared.target).await else { return };
    while let Some(request) = message(&mut near).await {
        let method = body(&request)["method"].as_str().unwrap_or_default().to_owned();
        let is_included = shared.is_included.load(Ordering::SeqCst);
        let is_before = match shared.stop {
            Stop::Before(stop) => stop == method,
            Stop::BeforeOnceIncluded(stop) => stop == method && is_included,
            Stop::After(_) => false,
        };
        if is_before {
            return hang(&shared).await;
        }
        if far.write_all(&request).await.is_err() {
            return;
        }
        let Some(answer) = message(&mut far).await else { return };
        if method == "eth_sendRawTransaction" {
            shared.is_sent.store(true, Ordering::SeqCst);
        }
        if method == "eth_getTransactionReceipt" && shared.is_sent.load(Ordering::SeqCst) && !body(&answer)["result"].is_null() {
            shared.is_included.store(true, Ordering::SeqCst);
        }
        if matches!(shared.stop, Stop::After(stop) if stop == method) {
            return hang(&shared).await;
        }
        if near.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Says that it has stopped, and answers nobody any more.
async fn hang(shared: &Shared) {
    shared.stopped.send_replace(true);
    std::future::pending().await
}

fn body(message: &[u8]) -> Value {
    let start = message.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    serde_json::from_slice(&message[start..]).unwrap_or_default()
}

/// One message with its head; nothing at the end of the connection.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        assert!(bytes.len() <= MESSAGE_MAX, "a message of more than {MESSAGE_MAX} bytes");
        let Some(head) = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).expect("bodies state their length");
        if bytes.len() >= head + 4 + length {
            return Some(bytes);
        }
    }
}
