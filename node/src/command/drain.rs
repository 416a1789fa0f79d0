//! `tributary drain`: the operator's running node is stopped in order.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args as ClapArgs;
use inference::proto::message::{FromClient, FromNode};
use p2p::identity::NodeSeed;
use rustix::process::{Pid, Signal, kill_process};

use super::{Context, talk::ask_node};
use crate::{
    data::DataError,
    output::counted,
    running::{Addresses, Drained},
};

/// How long the node may take to say what it does.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Stop the running node of this data folder in order: no new answers, those under way to their end.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The node tells the network that it is leaving, refuses new requests (clients ask others), finishes the answers under way for at most 25 s, keeps every\nreceipt and ends. What it could not finish is paid up to the last token that its client vouched for and goes on at another node. The same happens\nwhen the process is terminated or interrupted once; this command waits for the end and says what came of it. Fragments that the node keeps stay\non its disk: bring it back within their grace, or others mend them.\n\nExamples:\n  tributary drain\n  tributary drain --now\n\nNext: tributary run starts it again; tributary stake withdraw takes the stake back."
)]
pub struct Args {
    /// Do not wait for answers under way: they are broken off, and go on elsewhere.
    #[arg(long)]
    now: bool,
    /// Give up waiting after so many seconds; the node goes on stopping.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    wait: u64,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let node = context.seed()?.node_id();
    let addresses = Addresses::read(&context.data)?;
    ensure!(addresses.node == node, "run.json is of node {}, the folder's key is of node {node}: restart the node", addresses.node);
    // The number may be another process's by now: only who has the folder's lock and answers with its key is the node.
    let running = match ask_node(addresses.clients, node, &NodeSeed::generate(), &FromClient::Status, PATIENCE).await {
        Ok(FromNode::Status(status)) => status.running,
        Ok(_) => bail!("the node answered something else than its status: it is of another version; stop process {}", addresses.pid),
        Err(_) if context.data.lock().is_ok() => bail!("no node runs with this folder: there is nothing to stop"),
        Err(error) => return Err(error.context(format!("process {} has this folder and does not answer; look at its log", addresses.pid))),
    };
    let pid = i32::try_from(addresses.pid).ok().and_then(Pid::from_raw).context("run.json names no process: restart the node")?;
    let ask =
        || kill_process(pid, Signal::TERM).with_context(|| format!("process {} cannot be told to stop: are you its owner?", addresses.pid));
    ask()?;
    context.output.note(&format!("{} under way", counted(running.try_into().unwrap_or(usize::MAX), "answer")));
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let mut hurried = !args.now;
    loop {
        match context.data.lock() {
            Ok(_lock) => break,
            Err(DataError::Locked(_)) => {}
            Err(error) => return Err(error.into()),
        }
        ensure!(
            Instant::now() < deadline,
            "the node has not ended within {} s and is still stopping; `tributary drain --now` ends it at once",
            args.wait
        );
        if !hurried {
            // A second word ends it; said apart, since the system tells of two at once as of one.
            tokio::time::sleep(LOOK).await;
            hurried = true;
            if fs::exists(Addresses::path(&context.data))? {
                ask()?;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    let drained = Drained::of(&context.data, addresses.pid)?.context("the node ended without a word of its answers: see its log")?;
    context.output.result(&drained, || drained.to_string())
}
