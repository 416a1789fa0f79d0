//! A small HTTP client: what is sent is written out, so that a test can also send what no client would.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tracing_subscriber::fmt::MakeWriter;

/// A request.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) key: &'a str,
    pub(super) host: Option<&'a str>,
    pub(super) media: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// With one it is a POST.
    pub(super) body: Option<Vec<u8>>,
}

impl<'a> Ask<'a> {
    /// With an `Authorization` header, or none if it is empty.
    pub(super) const fn new(key: &'a str) -> Self {
        Self { method: "GET", path: "/", key, host: None, media: "application/json", headers: &[], body: None }
    }
}

/// A response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no response: {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> =
            lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let is_chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let rest = &bytes[end + 4..];
        Self { status, headers, body: if is_chunked { dechunked(rest) } else { rest.to_vec() } }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of every event.
    pub(super) fn events(&self) -> Vec<String> {
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"), "{}", self.text());
        let text = self.text();
        text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..][..len]);
        rest = &rest[line + 2 + len + 2..];
    }
    body
}

/// Sends a request and reads its response to the end.
pub(super) async fn say(addr: SocketAddr, ask: &Ask<'_>) -> Reply {
    let mut wire = Wire::open(addr).await;
    let method = if ask.body.is_some() && ask.method == "GET" { "POST" } else { ask.method };
    let mut head = format!("{method} {} HTTP/1.1\r\nConnection: close\r\nHost: {}\r\n", ask.path, ask.host.unwrap_or("localhost"));
    if !ask.key.is_empty() {
        head.push_str(&format!("Authorization: {}\r\n", ask.key));
    }
    for (name, value) in ask.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = &ask.body {
        head.push_str(&format!("Content-Type: {}\r\nContent-Length: {}\r\n", ask.media, body.len()));
    }
    head.push_str("\r\n");
    wire.send(head.as_bytes()).await;
    if let Some(body) = &ask.body {
        wire.send(body).await;
    }
    wire.reply().await
}

/// A connection that a test holds in its hands.
#[derive(Debug)]
pub(super) struct Wire(TcpStream);

impl Wire {
    pub(super) async fn open(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    /// One whose own kernel keeps little for it.
    pub(super) async fn narrow(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        Self(socket.connect(addr).await.unwrap())
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub(super) async fn post(&mut self, key: &str, path: &str, body: &Value) {
        self.post_with(key, path, body, "").await;
    }

    pub(super) async fn post_with(&mut self, key: &str, path: &str, body: &Value, headers: &str) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nAuthorization: {key}\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(head.as_bytes()).await;
        self.send(body.as_bytes()).await;
    }

    /// Reads to the end.
    pub(super) async fn reply(&mut self) -> Reply {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.unwrap();
        Reply::read(&bytes)
    }

    /// What comes until the other side ends or breaks the connection.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        drop(self.0.read_to_end(&mut bytes).await);
        bytes
    }

    /// Waits until the other side has closed.
    pub(super) async fn closed(&mut self) {
        self.rest().await;
    }
}

/// What was logged.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
