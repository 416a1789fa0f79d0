//! One request over HTTP, written out: what an answer is must not depend on a client that mends it.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::process::COMMAND_WAIT;

/// Status and body of an answer to a request without a body.
///
/// # Panics
/// If nothing comes, or no HTTP.
pub async fn ask(method: &str, addr: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let asked = async {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it is answered in text");
        text
    };
    let text = timeout(COMMAND_WAIT, asked).await.unwrap_or_else(|_| panic!("{addr}{path} does not answer"));
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"));
    (status, body.to_owned())
}
