//! `tributary gateway`: OpenAI's HTTP interface before the network, and the keys of those who may use it.

mod file;
mod local;
mod names;
mod network;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use types::amount::Amount;

use self::{local::Local, network::Network};
use super::{Context, ask::Routing};
use crate::{
    api::{
        Gateway,
        keys::{Key, Secret},
        limits::Limits,
        openapi, server,
    },
    config::Computed,
};

/// Where it listens if nothing else is said: this machine alone.
const LISTEN: &str = "127.0.0.1:8790";

/// Answer OpenAI's HTTP requests from the network: each is asked, paid and receipted as `tributary ask` does it.
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Whoever has one of its keys asks at the wallet's cost; nobody else does, not on this machine either. Interrupt it to stop: answers under\nway may end.\n\nExamples:\n  tributary gateway key add laptop                     prints a key, once\n  tributary gateway                                    serves http://127.0.0.1:8790/v1\n  tributary gateway --embeddings all-MiniLM-L6-v2      computes /v1/embeddings too, by the encoder in that folder\n  OPENAI_BASE_URL=http://127.0.0.1:8790/v1 OPENAI_API_KEY=KEY python3 -c 'import openai; print(openai.OpenAI().models.list())'\n\nIt speaks no TLS: to be reached from elsewhere it stands behind a proxy that does (--exposed --host NAME). GET /openapi.json describes all\nit takes. What may be spent is bounded by --max-fee, by [spending] in tributary.toml and by --session."
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// API keys.
    #[command(subcommand)]
    Key(KeyAction),
    /// Print the OpenAPI document.
    Openapi,
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Make a key and print it, once; only its digest is kept. A gateway that runs knows it after its next start.
    Add {
        /// Who gets it; the log names keys so.
        name: String,
        /// May load and unload adapters too.
        #[arg(long)]
        admin: bool,
        /// Requests a minute.
        #[arg(long, value_name = "COUNT", default_value_t = Limits::default().requests_per_minute)]
        requests: u32,
        /// Tokens a minute, read and said together.
        #[arg(long, value_name = "COUNT", default_value_t = Limits::default().tokens_per_minute)]
        tokens: u32,
        /// Answers at once.
        #[arg(long, value_name = "COUNT", default_value_t = Limits::default().running_max)]
        at_once: u32,
    },
    /// Show the keys' names and limits.
    List,
    /// Remove a key. A gateway that runs forgets it at its next start.
    Remove {
        /// Its name.
        name: String,
    },
}

/// How to serve.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Serve {
    /// Address to listen on; port 0 takes any.
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    listen: SocketAddr,
    /// Listen beyond this machine too: a proxy with TLS stands before it.
    #[arg(long)]
    exposed: bool,
    /// Name that requests may address it by, beside addresses and localhost.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Most that one answer may cost [default: 0.02 OPEN, or the cap per request if that is less].
    #[arg(long)]
    max_fee: Option<Amount>,
    /// Session whose key signs requests, lanes and vouchers (`tributary wallet session add`): the wallet's own key is not read.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Most wei per 1,000 input tokens.
    #[arg(long, default_value = "0.01 OPEN")]
    rate_in: Amount,
    /// Most wei per 1,000 output tokens.
    #[arg(long, default_value = "0.02 OPEN")]
    rate_out: Amount,
    #[command(flatten)]
    routing: Routing,
    /// Numeric rules that answers are asked for under: exact, or fast, whose answers are held to fingerprints of activations alone. Nodes of the other one are not
    /// asked, and what they alone serve is not listed.
    #[arg(long, value_enum, value_name = "PROFILE", default_value_t)]
    profile: Computed,
    /// Publish transcripts with their receipts, rather than keep them for drawn checkers.
    #[arg(long)]
    open: bool,
    /// Have answers come from their nodes in frames of one size at a steady rhythm (10 kB/s each, so the line must carry 12 for each answer under way); what the gateway sends to its readers is not padded.
    #[arg(long)]
    padded: bool,
    /// Compute /v1/embeddings here by the sentence encoder of this folder (all-MiniLM-L6-v2 and its like, as sentence-transformers publishes them), which
    /// gives it its name; nothing is paid for it.
    #[arg(long, value_name = "FOLDER")]
    embeddings: Option<PathBuf>,
    /// Overlay address to join through [default: from the configuration].
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
}

/// Where it listens.
#[derive(Debug, Serialize)]
struct Listening {
    address: SocketAddr,
    base_url: String,
    keys: usize,
    /// The model that makes embeddings here.
    embeddings: Option<String>,
}

/// A new key.
#[derive(Debug, Serialize)]
struct Made {
    name: String,
    key: String,
    is_admin: bool,
    limits: Limits,
}

/// A key as it is shown.
#[derive(Debug, Serialize)]
struct Row<'k> {
    name: &'k str,
    is_admin: bool,
    limits: Limits,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        None => serve(context, args.serve).await,
        Some(Action::Key(action)) => keys(context, action),
        Some(Action::Openapi) => {
            let document = openapi::document();
            let text = serde_json::to_string_pretty(&document)?;
            context.output.result(&document, || text)
        }
    }
}

async fn serve(context: &Context, serve: Serve) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    ensure!(
        serve.exposed || serve.listen.ip().is_loopback(),
        "{} is reached from other machines, and the gateway speaks no TLS: listen on 127.0.0.1, or give --exposed if a proxy with TLS stands before it",
        serve.listen
    );
    let keys = file::read(&context.data)?;
    ensure!(!keys.keys.is_empty(), "there is no API key, so nobody could ask: make one with `tributary gateway key add NAME`");
    let listener = server::bind(serve.listen).with_context(|| format!("{} cannot be listened on: take another --listen", serve.listen))?;
    let (address, count, hosts) = (listener.local_addr()?, keys.keys.len(), serve.host.clone());
    let local = match serve.embeddings.clone() {
        Some(folder) => Some(Local::open(folder).await?),
        None => None,
    };
    let embeddings = local.as_ref().map(|local| local.listed().id.clone());
    let network = Network::open(context, serve, local).await?;
    let listening = Listening { address, base_url: format!("http://{address}/v1"), keys: count, embeddings };
    context.output.result(&listening, || {
        let embeddings = listening.embeddings.as_ref().map(|name| format!("{name} makes embeddings\n"));
        format!("{}\n{}{count} keys; interrupt to stop", listening.base_url, embeddings.unwrap_or_default())
    })?;
    let stop = CancellationToken::new();
    let gateway = Gateway::new(network.clone(), keys, network::bounds(), hosts);
    let served = tokio::spawn(server::serve(gateway, listener, stop.clone()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.cancel();
    served.await.context("the gateway's server failed")?;
    network.close().await;
    Ok(())
}

fn keys(context: &Context, action: KeyAction) -> anyhow::Result<()> {
    let mut keys = file::read(&context.data)?;
    match action {
        KeyAction::Add { name, admin, requests, tokens, at_once } => {
            let mut random = zeroize::Zeroizing::new([0; 32]);
            getrandom::fill(&mut *random).context("no randomness from the system")?;
            let (secret, limits) =
                (Secret::new(&random), Limits { requests_per_minute: requests, tokens_per_minute: tokens, running_max: at_once });
            keys.add(&name, &secret, admin, limits)?;
            file::write(&context.data, &keys)?;
            let made = Made { name, key: secret.reveal().to_owned(), is_admin: admin, limits };
            context.output.result(&made, || format!("{}\n\nThis is shown once: keep it where the program that asks finds it.", made.key))
        }
        KeyAction::List => {
            let row = |key: &Key| format!("{} {}", key.name, if key.is_admin { "(admin)" } else { "" }).trim().to_owned();
            let rows: Vec<Row<'_>> =
                keys.keys.iter().map(|key| Row { name: &key.name, is_admin: key.is_admin, limits: key.limits }).collect();
            context.output.result(&rows, || match keys.keys.as_slice() {
                [] => "no keys: tributary gateway key add NAME makes one".to_owned(),
                some => some.iter().map(row).collect::<Vec<_>>().join("\n"),
            })
        }
        KeyAction::Remove { name } => {
            keys.remove(&name)?;
            file::write(&context.data, &keys)?;
            context.output.result(&serde_json::json!({ "removed": name }), || {
                format!("{name} is removed; a gateway that runs forgets it at its next start")
            })
        }
    }
}
