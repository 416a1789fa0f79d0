//! A chain that is played: JSON-RPC over HTTP/1.1 on loopback, with the answers that a look at a chain asks for, and the lies that it is told to tell.
//!
//! It is no chain: whatever code it is asked to make it gives the same few bytes, which also stand at every address.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};
use chain_bridge::deploy::Deployment;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use types::{
    id::{Address, NodeId},
    merkle::keccak,
    time::BlockRef,
};

use crate::{doctor::date, when::now};

/// Connections at once.
const CONNECTIONS_MAX: usize = 32;
/// Longest line of a request's head, and most lines.
const LINE_BYTES_MAX: u64 = 8 << 10;
const LINES_MAX: usize = 64;
/// Longest question: a contract's creation code in hex.
const QUESTION_BYTES_MAX: usize = 1 << 20;
/// Code of every contract.
const CODE: &str = "0x60016002";
/// Code that is nobody's.
const OTHER_CODE: &str = "0x60036004";
/// The latest block.
const LATEST: u64 = 10_000;
/// Blocks between the latest, the safe and the final one.
const BEHIND: u64 = 50;
/// Seconds between two blocks.
const BLOCK_S: u64 = 2;

/// What is not as it should be.
#[derive(Debug, Clone, Default)]
pub struct Lies {
    /// Takes questions and never answers.
    pub hangs: bool,
    /// Another chain.
    pub chain_id: Option<u64>,
    /// Seconds by which all its time is another.
    pub clock_s: i64,
    /// Age of its latest block, in seconds.
    pub age_s: u64,
    /// A contract that is not there.
    pub without: Option<Address>,
    /// A contract that is another.
    pub other: Option<Address>,
    /// Knows no safe blocks.
    pub is_unsafe: bool,
    /// Blocks come twice as fast.
    pub is_hasty: bool,
    /// Gives no events.
    pub is_mute: bool,
    /// Has forgotten old blocks.
    pub is_pruned: bool,
    /// What was final is another block now.
    pub is_reorganised: bool,
    /// The node that the account is bound to.
    pub node: Option<NodeId>,
    /// The account has not the least stake.
    pub is_unbonded: bool,
    /// The account has nothing to pay with.
    pub is_poor: bool,
}

#[derive(Debug)]
struct Played {
    deployment: Deployment,
    node: NodeId,
    lies: Mutex<Lies>,
}

/// A chain while it is played.
#[derive(Debug)]
pub struct PlayedChain {
    at: SocketAddr,
    played: Arc<Played>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for PlayedChain {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl PlayedChain {
    /// Begins: the account of any question is bonded and bound to `node`.
    ///
    /// # Errors
    /// If no socket can be had.
    pub async fn begin(deployment: Deployment, node: NodeId) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let at = listener.local_addr()?;
        let played = Arc::new(Played { deployment, node, lies: Mutex::default() });
        let serving = tokio::spawn(serve(listener, Arc::clone(&played)));
        Ok(Self { at, played, serving })
    }

    /// Where.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// The deployment on it.
    pub fn deployment(&self) -> &Deployment {
        &self.played.deployment
    }

    /// Its final block while it tells no lie.
    pub fn final_block() -> BlockRef {
        block(LATEST - 2 * BEHIND, 0)
    }

    /// Lies from now on.
    pub fn lie(&self, lies: Lies) {
        *self.played.lies.lock().unwrap_or_else(PoisonError::into_inner) = lies;
    }
}

async fn serve(listener: TcpListener, played: Arc<Played>) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else { return };
        let played = Arc::clone(&played);
        // Whoever asks is this process; a broken connection is asked on another.
        connections.spawn(async move { drop(converse(stream, &played).await) });
    }
}

/// Answers the questions of one connection, one after the other.
async fn converse(stream: TcpStream, played: &Played) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(question) = question(&mut stream).await? {
        let lies = played.lies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if lies.hangs {
            std::future::pending::<()>().await;
        }
        let body = answered(played, &lies, &question).to_string();
        let date = date::written(time(&lies));
        let head = format!("HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await?;
    }
    Ok(())
}

/// The next question; nothing at the connection's end.
async fn question(stream: &mut BufReader<TcpStream>) -> anyhow::Result<Option<Value>> {
    let mut length = None;
    for number in 0..LINES_MAX {
        let mut line = String::new();
        if (&mut *stream).take(LINE_BYTES_MAX).read_line(&mut line).await? == 0 && number == 0 {
            return Ok(None);
        }
        ensure!(line.ends_with('\n'), "a line of a head is cut or too long");
        if line.trim().is_empty() {
            let length: usize = length.context("a question without a length")?;
            ensure!(length <= QUESTION_BYTES_MAX, "a question of {length} bytes");
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            return Ok(Some(serde_json::from_slice(&body)?));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse()?);
        }
    }
    anyhow::bail!("a head of too many lines")
}

/// One answer, or one for each of several questions.
fn answered(played: &Played, lies: &Lies, question: &Value) -> Value {
    match question.as_array() {
        Some(several) => several.iter().map(|question| answered(played, lies, question)).collect(),
        None => {
            let (method, params) = (question["method"].as_str().unwrap_or_default(), &question["params"]);
            match result(played, lies, method, params) {
                Some(result) => json!({ "jsonrpc": "2.0", "id": question["id"], "result": result }),
                None => json!({ "jsonrpc": "2.0", "id": question["id"], "error": { "code": -32601, "message": "not offered here" } }),
            }
        }
    }
}

fn result(played: &Played, lies: &Lies, method: &str, params: &Value) -> Option<Value> {
    let hex = |number: u128| json!(format!("0x{number:x}"));
    let address = |value: &Value| value.as_str().and_then(|text| text.parse::<Address>().ok());
    match method {
        "eth_chainId" => Some(hex(u128::from(lies.chain_id.unwrap_or(played.deployment.chain_id)))),
        "eth_getCode" => {
            let at = address(&params[0]);
            Some(json!(if at.is_some() && at == lies.without {
                "0x"
            } else if at.is_some() && at == lies.other {
                OTHER_CODE
            } else {
                CODE
            }))
        }
        "eth_call" => match address(&params[0]["to"]) {
            None => Some(json!(CODE)),
            Some(_) => read(played, lies, params[0]["input"].as_str()?).map(Value::from),
        },
        "eth_getBlockByNumber" => Some(header(lies, params[0].as_str()?)),
        "eth_getLogs" => (!lies.is_mute).then(|| json!([])),
        "eth_getBalance" => Some(hex(if lies.is_poor { 0 } else { 5 * types::amount::WEI_PER_OPEN })),
        _ => None,
    }
}

/// What `StakeManager` says of an account: 32-byte words in hex.
fn read(played: &Played, lies: &Lies, input: &str) -> Option<String> {
    let is = |signature: &str| input.get(2..10) == Some(hex::encode(&keccak(&[signature.as_bytes()]).0[..4]).as_str());
    let word = |number: u128| format!("{number:064x}");
    if is("isBonded(address)") {
        return Some(format!("0x{}", word(u128::from(!lies.is_unbonded))));
    }
    if !is("nodeOf(address)") {
        return None;
    }
    let node = lies.node.unwrap_or(played.node);
    // nodeId, incarnation, unbondedAt, roles, listed, faultHours, payout, active, unbonding.
    let numbers = [3, 0, 1, 1, 0, 7, played.deployment.config.stake_min.0, 0];
    Some(format!("0x{}{}", hex::encode(node.0), numbers.map(word).concat()))
}

/// Its clock.
fn time(lies: &Lies) -> u64 {
    now().saturating_add_signed(lies.clock_s)
}

fn header(lies: &Lies, tag: &str) -> Value {
    let number = match tag {
        "latest" => LATEST,
        "safe" if lies.is_unsafe => return Value::Null,
        "safe" => LATEST - BEHIND,
        "finalized" => LATEST - 2 * BEHIND,
        number => match u64::from_str_radix(number.trim_start_matches("0x"), 16) {
            Ok(number) if number <= LATEST && !(lies.is_pruned && number < LATEST / 2) => number,
            _ => return Value::Null,
        },
    };
    let (now, pace) = (time(lies).saturating_sub(lies.age_s), if lies.is_hasty { BLOCK_S / 2 } else { BLOCK_S });
    let salt = u8::from(lies.is_reorganised);
    json!({
        "number": format!("0x{number:x}"),
        "hash": block(number, salt).hash,
        "parentHash": block(number.saturating_sub(1), salt).hash,
        "timestamp": format!("0x{:x}", now.saturating_sub((LATEST - number) * pace)),
        "baseFeePerGas": "0x3b9aca00",
    })
}

fn block(number: u64, salt: u8) -> BlockRef {
    BlockRef { number, hash: keccak(&[&number.to_be_bytes(), &[salt]]) }
}
