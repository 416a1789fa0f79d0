//! One question to one node on the inference protocol, and one answer.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use inference::proto::message::{CLIENT_FRAME_MAX, FromClient, FromNode, NODE_FRAME_MAX, encode};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use tokio::time::timeout;
use types::id::NodeId;

use super::Context;
use crate::{
    config::Config,
    service::{INFERENCE_TAG, settlement::loopback_any},
};

/// The configuration, with the overlay addresses given on the command line in place of its own if there are any.
pub(super) fn joining(context: &Context, bootstrap: Vec<String>) -> anyhow::Result<Config> {
    let mut config = context.config()?;
    if !bootstrap.is_empty() {
        config.bootstrap = bootstrap;
    }
    Ok(config)
}

/// Asks `node` at `addr` under the key of `seed` and waits at most `patience` for its answer.
pub(crate) async fn ask_node(
    addr: SocketAddr,
    node: NodeId,
    seed: &NodeSeed,
    question: &FromClient,
    patience: Duration,
) -> anyhow::Result<FromNode> {
    let mut frame = encode(question);
    frame.insert(0, INFERENCE_TAG);
    ensure!(frame.len() <= CLIENT_FRAME_MAX, "the question has {} bytes, a node reads at most {CLIENT_FRAME_MAX}", frame.len());
    let client = Client::bind(loopback_any(addr), seed, Limits::default())?;
    let answer = async {
        let connection = client.connect(addr, Some(node)).await?;
        let mut stream = connection.open_stream().await?;
        let answered = async {
            stream.send(&frame).await?;
            stream.recv(NODE_FRAME_MAX).await
        };
        let frame =
            timeout(patience, answered).await.with_context(|| format!("node {node} did not answer within {} s", patience.as_secs()))??;
        anyhow::Ok(FromNode::decode(&frame.context("the node ended the stream without an answer")?)?)
    };
    let answer = answer.await;
    client.close(p2p::stream::code::SHUTDOWN).await;
    match answer? {
        FromNode::Refused(refusal) => bail!("the node refuses: {}", refusal.message),
        answer => Ok(answer),
    }
}
