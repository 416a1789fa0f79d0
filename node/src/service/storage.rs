//! The node's bulk side: holds fragments, answers for them, and provides adapters.
//!
//! Carries messages between streams, the store and the pure rules: `storage::proto::provide` says how much is served at once and whether a
//! fragment may be kept, [`placing`] which fragment is this node's. A fragment whose contribution is not on the chain yet is waited for, since
//! its sender may be a block ahead. Every request has a deadline; the tasks end with [`Serving::run`].

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use chain_bridge::client::ChainClient;
use p2p::{
    bulk::{BulkEndpoint, BulkError, BulkLimits, BulkStream},
    identity::NodeSeed,
    overlay::OverlayHandle,
    proto::ads::Services,
    stream::{FrameSender, FrameStream, code},
};
use storage::{
    erasure::{MANIFEST_BYTES_MAX, ObjectManifest},
    proto::{
        message::{MESSAGE_BYTES_MAX, Refusal, Reply, Request},
        provide::{Admission, Config as ProvideConfig, Pace, PutFacts, PutPlan, Ticket, plan_put},
    },
    store::{Store, StoreError},
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use types::id::{Address, BlobId, NodeId};

use crate::{
    chain::Snapshots,
    data::DataDir,
    datanet::{
        adapter::{ADAPTER_ALPN, Provider},
        exchange::{STORAGE_ALPN, recv_message, send_message},
        placing,
        serving::Reads,
    },
};

/// Streams served at once; peers wait for credit beyond.
const STREAMS_MAX: usize = 64;
/// Long requests read at once: eight of the largest fragments are 171 MiB.
const LARGE_MAX: usize = 8;
/// Longest time for a request to arrive, to be carried out, and for its reply to be taken: ten minutes, in which the largest fragment is read at
/// 300 kbit/s. A read whose peer stands still ends sooner.
const SERVE_LIMIT: Duration = Duration::from_secs(600);
/// Longest time for a request to arrive: a fragment at 3 Mbit/s.
const REQUEST_LIMIT: Duration = Duration::from_secs(75);
/// How long a contribution is awaited that a fragment belongs to: blocks on a slow day.
const REGISTERED_WAIT: Duration = Duration::from_secs(15);

/// What holding fragments needs.
#[derive(Debug)]
pub struct Holding {
    /// Keeps the fragments.
    pub store: Store,
    /// The data folder: adapters.
    pub data: DataDir,
    /// The chain's books.
    pub snapshots: Snapshots,
    /// Who else stores.
    pub overlay: OverlayHandle,
    /// Hashes of blocks, which placement is drawn from.
    pub chain: ChainClient,
    /// The account this node is registered under.
    pub account: Address,
    /// Whether it offers to store.
    pub is_storing: bool,
    /// Bytes a second that it sends of its fragments; 0 sets no limit.
    pub serve_bytes_per_s: u64,
}

/// The service.
#[derive(Debug)]
pub struct Serving {
    bulk: Arc<BulkEndpoint>,
    holder: Arc<Holder>,
    adapters: Arc<Provider>,
}

#[derive(Debug)]
struct Holder {
    holding: Holding,
    node: NodeId,
    admission: Mutex<Admission>,
    large: Semaphore,
    reads: Reads,
}

impl Serving {
    /// Opens the bulk socket.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn bind(addr: SocketAddr, seed: &NodeSeed, holding: Holding) -> Result<Self, BulkError> {
        let bulk = Arc::new(BulkEndpoint::start(seed, addr, &[STORAGE_ALPN, ADAPTER_ALPN], BulkLimits::default()).await?);
        let adapters = Provider::new(holding.data.clone());
        let admission = Mutex::new(Admission::new(ProvideConfig::default()));
        let reads = Reads::new(holding.store.clone(), Pace::of(holding.serve_bytes_per_s));
        let holder = Holder { holding, node: seed.node_id(), admission, large: Semaphore::new(LARGE_MAX), reads };
        Ok(Self { bulk, holder: Arc::new(holder), adapters })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.bulk.local_addr()
    }

    /// The endpoint, for fetching from others over the same socket.
    pub fn endpoint(&self) -> Arc<BulkEndpoint> {
        Arc::clone(&self.bulk)
    }

    /// Serves until the endpoint closes. May be dropped: open streams are reset.
    pub async fn run(self) {
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = streams.join_next() => {}
                open = self.bulk.accept(), if streams.len() < STREAMS_MAX => match open {
                    Some(open) => drop(streams.spawn(serve(Arc::clone(&self.holder), Arc::clone(&self.adapters), open))),
                    None => break,
                },
            }
        }
        streams.shutdown().await;
    }
}

async fn serve(holder: Arc<Holder>, adapters: Arc<Provider>, BulkStream { alpn, remote, mut stream }: BulkStream) {
    let serving = async {
        match alpn.as_slice() {
            STORAGE_ALPN => holder.serve(remote, stream).await,
            ADAPTER_ALPN => adapters.serve(stream).await,
            _ => {
                stream.reset(code::PROTOCOL);
                Ok(())
            }
        }
    };
    match timeout(SERVE_LIMIT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%remote, error = format!("{error:#}"), "bulk request ended"),
        Err(_) => tracing::debug!(%remote, "bulk request took too long"),
    }
}

impl Holder {
    async fn serve(self: Arc<Self>, remote: NodeId, stream: FrameStream) -> anyhow::Result<()> {
        let (mut sender, mut receiver) = stream.split();
        let arriving = recv_message(&mut receiver, MESSAGE_BYTES_MAX, Some(&self.large));
        let request = timeout(REQUEST_LIMIT, arriving).await.context("the request took too long")??;
        let reply = match Request::decode(&request) {
            Ok(request) => self.admit(remote, request, &mut sender).await?,
            Err(error) => Some(Reply::Refused(Refusal::Invalid { detail: error.to_string() })),
        };
        if let Some(reply) = reply {
            send_message(&mut sender, &reply.encode()).await?;
        }
        Ok(())
    }

    /// What to reply; nothing if a range was sent.
    async fn admit(self: &Arc<Self>, remote: NodeId, request: Request, sender: &mut FrameSender) -> anyhow::Result<Option<Reply>> {
        let ticket = self.admission.lock().unwrap_or_else(PoisonError::into_inner).open(remote, &request);
        let ticket = match ticket {
            Ok(ticket) => ticket,
            Err(refusal) => return Ok(Some(Reply::Refused(refusal))),
        };
        // Given back also when this task is dropped half-way.
        let _open = Open { holder: self, ticket: Some(ticket) };
        let reply = match request {
            Request::Put { manifest, index, fragment } => self.put(manifest, index, fragment).await,
            Request::Locate { object } => self.blocking(move |store| located(store, object)).await,
            Request::Read { object, index, run } => return self.reads.serve(remote, object, index, run, sender).await.map(|()| None),
        };
        Ok(Some(reply.unwrap_or_else(Reply::Refused)))
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
        let store = self.holding.store.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| Refusal::Failed)?
    }

    async fn put(&self, manifest: Vec<u8>, index: u8, fragment: Vec<u8>) -> Result<Reply, Refusal> {
        let assigned = match ObjectManifest::decode(&manifest) {
            Ok(manifest) => self.assigned(&manifest).await.map_err(|error| {
                tracing::warn!(error = format!("{error:#}"), "cannot look up where a fragment belongs");
                Refusal::Failed
            })?,
            // The plan refuses it in words.
            Err(_) => None,
        };
        self.blocking(move |store| {
            let facts = PutFacts { free_bytes: store.free_bytes(), assigned };
            let PutPlan { manifest, fragment } = plan_put(&manifest, index, fragment, |_| facts)?;
            store.put_fragment(&manifest, &fragment).map_err(|error| failed(&error))?;
            tracing::info!(object = %manifest.id(), index, bytes = fragment.bytes().len(), "keeping a fragment");
            Ok(Reply::Stored { object: manifest.id(), index })
        })
        .await
    }

    /// The fragment that placement gives this node, once the object's contribution is on the chain.
    async fn assigned(&self, manifest: &ObjectManifest) -> anyhow::Result<Option<u8>> {
        let mut snapshots = self.holding.snapshots.clone();
        let object = manifest.id();
        let seen = snapshots.wait_for(|snapshot| placing::registered(&snapshot.latest, object).is_some());
        let state = match timeout(REGISTERED_WAIT, seen).await.map(|seen| seen.map(|snapshot| Arc::clone(&snapshot.latest))) {
            Ok(state) => state.context("the chain is no longer followed")?,
            Err(_) => return Ok(None),
        };
        let Some(accepted) = placing::registered(&state, object) else { return Ok(None) };
        let number = accepted.priority.block;
        let block = self.holding.chain.block(number).await?.with_context(|| format!("the chain has no block {number}"))?;
        let operators = placing::operators(&state, &self.storing().await?);
        Ok(placing::assigned(accepted, manifest, block.hash, &operators, self.holding.account))
    }

    /// Nodes heard to store, and this one if it does.
    async fn storing(&self) -> anyhow::Result<BTreeSet<NodeId>> {
        let ads = self.holding.overlay.ads().await?;
        let others = ads.iter().map(|signed| signed.ad()).filter(|ad| ad.services.has(Services::STORAGE)).map(|ad| ad.node);
        Ok(others.chain(self.holding.is_storing.then_some(self.node)).collect())
    }
}

/// A place among the requests being served.
struct Open<'h> {
    holder: &'h Holder,
    ticket: Option<Ticket>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.holder.admission.lock().unwrap_or_else(PoisonError::into_inner).close(ticket);
        }
    }
}

fn located(store: &Store, object: BlobId) -> Result<Reply, Refusal> {
    let indices = store.fragments_of(object).map_err(|error| failed(&error))?;
    let manifest = store.get(object).map_err(|error| failed(&error))?;
    match manifest.filter(|bytes| !indices.is_empty() && bytes.len() <= MANIFEST_BYTES_MAX) {
        Some(manifest) => Ok(Reply::Located { object, manifest, indices }),
        None => Err(Refusal::Unknown { object }),
    }
}

/// Told to the peer without detail; the log has it.
fn failed(error: &StoreError) -> Refusal {
    tracing::error!(%error, "the store failed");
    match error {
        StoreError::Full { used, capacity, need } => Refusal::Full { free: capacity.saturating_sub(*used), need: *need },
        _ => Refusal::Failed,
    }
}
