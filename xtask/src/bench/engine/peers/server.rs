//! `llama-server` on a port of this machine: started, asked by eight requests at a time, ended.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::REQUESTS;
use crate::shell::{shown, target};

/// Tokens of each prompt and of each answer, as our program asks.
const PROMPT: usize = 32;
const ANSWER: u64 = 64;
/// Ids below this are tokens of the model.
const VOCABULARY: usize = 49_152;
/// As our program multiplies its adapters.
const SCALE: f64 = 1.0 / 256.0;
/// Until the server has read the model and eight adapters, and until it has answered: minutes beside a busy neighbour.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two questions whether it is up: it tells nobody when it is.
const PAUSE: Duration = Duration::from_millis(100);
/// An answer has some kilobytes.
const RESPONSE_BYTES_MAX: u64 = 4 << 20;

/// A running server; it ends when dropped.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it with its address added, and waits until it serves.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        // Free now; nobody else on this machine is expected to take it within a second.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        fs::create_dir_all(target().join("bench"))?;
        let log = target().join("bench/llama-server.log");
        let file = fs::File::create(&log)?;
        command.stdout(file.try_clone()?).stderr(file).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("`{}` did not start", shown(command)))?;
        let mut server = Self { child, address };
        let begun = Instant::now();
        while server.ask("GET /health", None).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("llama-server ended with {status}; what it said is in {}", log.display());
            }
            ensure!(begun.elapsed() < PATIENCE, "llama-server does not serve; what it said is in {}", log.display());
            thread::sleep(PAUSE);
        }
        Ok(server)
    }

    /// Sends eight requests at once, each with an adapter of its own; generated tokens over the time from the first request to the last answer.
    pub(super) fn burst(&self, number: usize) -> Result<f64> {
        let bodies: Vec<String> = (0..REQUESTS).map(|adapter| request(adapter, number)).collect();
        let begun = Instant::now();
        let answers: Vec<Result<Value>> = thread::scope(|scope| {
            let asked: Vec<_> = bodies.iter().map(|body| scope.spawn(|| self.ask("POST /completion", Some(body)))).collect();
            asked.into_iter().map(|asked| asked.join().expect("asking does not panic")).collect()
        });
        let seconds = begun.elapsed().as_secs_f64();
        let mut tokens = 0u32;
        for answer in answers {
            let count = answer?["tokens_predicted"].as_u64().context("llama-server does not say how many tokens it generated")?;
            ensure!(count == ANSWER, "llama-server generated {count} of {ANSWER} tokens");
            tokens += u32::try_from(count)?;
        }
        Ok(f64::from(tokens) / seconds)
    }

    fn ask(&self, what: &str, body: Option<&str>) -> Result<Value> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.unwrap_or_default();
        write!(
            stream,
            "{what} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut response = Vec::new();
        stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response)?;
        parse(&String::from_utf8_lossy(&response))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request for one adapter, with a prompt that no other request of any burst has.
fn request(adapter: usize, burst: usize) -> String {
    let seed = burst * REQUESTS + adapter;
    let prompt: Vec<usize> = (0..PROMPT).map(|at| (at * 7_919 + seed * 104_729 + 1_000) % VOCABULARY).collect();
    let lora: Vec<Value> = vec![json!({ "id": adapter, "scale": SCALE })];
    json!({ "prompt": prompt, "n_predict": ANSWER, "temperature": 0, "ignore_eos": true, "cache_prompt": false, "lora": lora }).to_string()
}

/// The JSON of a response that says 200.
fn parse(response: &str) -> Result<Value> {
    let (head, body) = response.split_once("\r\n\r\n").context("llama-server sent no whole response")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "llama-server says {status}: {}", body.trim());
    serde_json::from_str(body).with_context(|| format!("llama-server sent {body:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_its_json_and_another_status_an_error() {
        let good = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"tokens_predicted\":64}";
        assert_eq!(parse(good).unwrap()["tokens_predicted"], 64);
        let busy = parse("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"error\":\"loading\"}").unwrap_err().to_string();
        assert!(busy.contains("503") && busy.contains("loading"), "{busy}");
        for bad in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\nnot json"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_request_has_its_own_adapter_and_its_own_prompt() {
        let bodies: Vec<Value> = (0..2)
            .flat_map(|burst| (0..REQUESTS).map(move |adapter| request(adapter, burst)))
            .map(|body| serde_json::from_str(&body).unwrap())
            .collect();
        let prompts: std::collections::BTreeSet<String> = bodies.iter().map(|body| body["prompt"].to_string()).collect();
        assert_eq!(prompts.len(), 2 * REQUESTS);
        assert_eq!(bodies[5]["lora"], json!([{ "id": 5, "scale": SCALE }]));
        assert_eq!(bodies[0]["prompt"].as_array().unwrap().len(), PROMPT);
    }
}
