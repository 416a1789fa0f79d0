//! The node's bulk side: holds fragments, answers for them, and provides adapters.
//!
//! Carries messages between streams, the store and the pure rules: `storage::proto::provide` says how much is served at once and whether a
//! fragment may be kept, the record of an object's holders ([`super::keeping`]) which fragment is this node's. Before there is a record the sender names all holders, and
//! [`Keeping::check_holders`] says whether they are those of the rule. A fragment whose contribution is not on the chain yet is waited for, since
//! its sender may be a block ahead. Every request has a deadline; the tasks end with [`Serving::run`].

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use p2p::{
    bulk::{BulkEndpoint, BulkError, BulkLimits, BulkStream},
    identity::NodeSeed,
    stream::{FrameSender, FrameStream, code},
};
use storage::{
    erasure::{MANIFEST_BYTES_MAX, ObjectManifest},
    proto::{
        message::{MESSAGE_BYTES_MAX, Refusal, Reply, Request},
        provide::{Admission, Config as ProvideConfig, Pace, PutFacts, PutPlan, Ticket, misplaced, plan_put},
    },
    store::{Store, StoreError},
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use types::id::{Address, BlobId, NodeId};

use super::{
    auditing::{AUDIT_ALPN, Auditing},
    keeping::Keeping,
};
use crate::{
    data::DataDir,
    datanet::{
        adapter::{ADAPTER_ALPN, Provider},
        exchange::{STORAGE_ALPN, recv_message, send_message},
        keeping::{KEEPING_ALPN, VOID_ALPN},
        placing,
        serving::Reads,
    },
};

/// Streams served at once; peers wait for credit beyond.
const STREAMS_MAX: usize = 64;
/// Long requests read at once: eight of the largest fragments are 171 MiB.
const LARGE_MAX: usize = 8;
/// Longest time for a request to arrive, to be carried out, and for its reply to be taken: a fragment at 3 Mbit/s each way.
const SERVE_LIMIT: Duration = Duration::from_secs(150);
/// The same for a read: ten minutes, in which the largest fragment is sent at 300 kbit/s. One whose peer stands still ends sooner.
const READ_LIMIT: Duration = Duration::from_secs(600);
/// Longest time for a request to arrive: a fragment at 3 Mbit/s.
const REQUEST_LIMIT: Duration = Duration::from_secs(75);
/// How long a contribution is awaited that a fragment belongs to: blocks on a slow day.
const REGISTERED_WAIT: Duration = Duration::from_secs(15);

/// The service.
#[derive(Debug)]
pub struct Serving {
    bulk: Arc<BulkEndpoint>,
    adapters: Arc<Provider>,
}

#[derive(Debug)]
struct Holder {
    keeping: Arc<Keeping>,
    admission: Mutex<Admission>,
    large: Semaphore,
    reads: Reads,
}

impl Serving {
    /// Opens the bulk socket.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn bind(addr: SocketAddr, seed: &NodeSeed, data: DataDir) -> Result<Self, BulkError> {
        let alpns = [STORAGE_ALPN, ADAPTER_ALPN, KEEPING_ALPN, AUDIT_ALPN, VOID_ALPN];
        let bulk = Arc::new(BulkEndpoint::start(seed, addr, &alpns, BulkLimits::default()).await?);
        Ok(Self { bulk, adapters: Provider::new(data) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.bulk.local_addr()
    }

    /// The endpoint, for fetching from others over the same socket.
    pub fn endpoint(&self) -> Arc<BulkEndpoint> {
        Arc::clone(&self.bulk)
    }

    /// Serves until the endpoint closes, fragments at this `pace`. May be dropped: open streams are reset.
    pub async fn run(self, keeping: Arc<Keeping>, auditing: Arc<Auditing>, pace: Pace) {
        let admission = Mutex::new(Admission::new(ProvideConfig::default()));
        let reads = Reads::new(keeping.store.clone(), pace);
        let holder = Arc::new(Holder { keeping, admission, large: Semaphore::new(LARGE_MAX), reads });
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = streams.join_next() => {}
                open = self.bulk.accept(), if streams.len() < STREAMS_MAX => match open {
                    Some(open) => drop(streams.spawn(serve(Arc::clone(&holder), Arc::clone(&self.adapters), Arc::clone(&auditing), open))),
                    None => break,
                },
            }
        }
        streams.shutdown().await;
    }
}

async fn serve(holder: Arc<Holder>, adapters: Arc<Provider>, auditing: Arc<Auditing>, BulkStream { alpn, remote, mut stream }: BulkStream) {
    let limit = if alpn == STORAGE_ALPN { READ_LIMIT } else { SERVE_LIMIT };
    let serving = async {
        match alpn.as_slice() {
            STORAGE_ALPN => holder.serve(remote, stream).await,
            ADAPTER_ALPN => adapters.serve(stream).await,
            KEEPING_ALPN => holder.keeping.serve(remote, stream, &holder.large).await,
            AUDIT_ALPN => auditing.serve(remote, stream).await,
            VOID_ALPN => holder.keeping.serve_proof(remote, stream).await,
            _ => {
                stream.reset(code::PROTOCOL);
                Ok(())
            }
        }
    };
    match timeout(limit, serving).await {
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
        let object = match &request {
            // An object is named by the hash of its manifest's bytes.
            Request::Put { manifest, .. } => BlobId::of(manifest),
            Request::Locate { object } | Request::Read { object, .. } => *object,
        };
        if let Some(refusal) = self.erased(object).await {
            return Ok(Some(Reply::Refused(refusal)));
        }
        // What of a void object is kept for a commitment's sake is shown to nobody; a Put is refused in words.
        if !matches!(request, Request::Put { .. }) && self.keeping.is_void(object)? {
            return Ok(Some(Reply::Refused(Refusal::Unknown { object })));
        }
        let ticket = self.admission.lock().unwrap_or_else(PoisonError::into_inner).open(remote, &request);
        let ticket = match ticket {
            Ok(ticket) => ticket,
            Err(refusal) => return Ok(Some(Reply::Refused(refusal))),
        };
        // Given back also when this task is dropped half-way.
        let _open = Open { holder: self, ticket: Some(ticket) };
        let reply = match request {
            Request::Put { manifest, index, fragment, holders } => {
                let putting = timeout(SERVE_LIMIT, self.put(manifest, index, fragment, holders));
                putting.await.context("keeping a fragment took too long")?
            }
            Request::Locate { object } => self.blocking(move |store| located(store, object)).await,
            Request::Read { object, index, run } => return self.reads.serve(remote, object, index, run, sender).await.map(|()| None),
        };
        Ok(Some(reply.unwrap_or_else(Reply::Refused)))
    }

    /// The refusal of an object that was erased on request.
    async fn erased(&self, object: BlobId) -> Option<Refusal> {
        // The books alone tell that nothing is erased, which is nearly always.
        self.keeping.state().erased_object(object)?;
        let keeping = Arc::clone(&self.keeping);
        match tokio::task::spawn_blocking(move || keeping.erased(object)).await {
            Ok(Ok(refusal)) => refusal,
            Ok(Err(error)) => {
                tracing::error!(error = format!("{error:#}"), "cannot look up what was erased");
                Some(Refusal::Failed)
            }
            Err(_) => Some(Refusal::Failed),
        }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
        let store = self.keeping.store.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| Refusal::Failed)?
    }

    async fn put(&self, manifest: Vec<u8>, index: u8, fragment: Vec<u8>, holders: Vec<Address>) -> Result<Reply, Refusal> {
        let (assigned, is_checked) = match ObjectManifest::decode(&manifest) {
            Ok(manifest) => self.assigned(&manifest, &holders).await.map_err(|error| match error {
                Unassigned::Misplaced(refusal) => refusal,
                Unassigned::Failed(error) => {
                    tracing::warn!(error = format!("{error:#}"), "cannot look up where a fragment belongs");
                    Refusal::Failed
                }
            })?,
            // The plan refuses it in words.
            Err(_) => (None, false),
        };
        let keeping = Arc::clone(&self.keeping);
        self.blocking(move |store| {
            // It may have been erased while its contribution was awaited.
            if let Some(refusal) = keeping.erased(BlobId::of(&manifest)).map_err(|_| Refusal::Failed)? {
                return Err(refusal);
            }
            let facts = PutFacts { free_bytes: store.free_bytes().map_err(|error| failed(&error))?, assigned };
            let kept = plan_put(&manifest, index, fragment, |_| facts).and_then(|PutPlan { manifest, fragment }| {
                store.put_fragment(&manifest, &fragment).map_err(|error| failed(&error))?;
                Ok((manifest, fragment))
            });
            if let Err(Refusal::Full { need, .. }) = &kept {
                keeping.no_room(*need);
            }
            let (manifest, fragment) = kept?;
            if is_checked {
                keeping.note_checked(manifest.id(), &holders).map_err(|error| {
                    tracing::error!(error = format!("{error:#}"), "that an object's holders were checked is not noted");
                    Refusal::Failed
                })?;
            }
            tracing::info!(object = %manifest.id(), index, bytes = fragment.bytes().len(), "keeping a fragment");
            Ok(Reply::Stored { object: manifest.id(), index })
        })
        .await
    }

    /// This node's fragment of an object: by the record of its holders if there is one, else by the `holders` that the sender names once the object's
    /// contribution is on the chain, if these are those of the rule; and whether they were checked.
    async fn assigned(&self, manifest: &ObjectManifest, holders: &[Address]) -> Result<(Option<u8>, bool), Unassigned> {
        let (keeping, object) = (&self.keeping, manifest.id());
        let mut snapshots = keeping.snapshots.clone();
        let seen = snapshots.wait_for(|snapshot| placing::registered(&snapshot.latest, object).is_some());
        match timeout(REGISTERED_WAIT, seen).await {
            Ok(seen) => drop(seen.context("the chain is no longer followed")?),
            Err(_) => return Ok((None, false)),
        }
        let registered = keeping.registered(object)?;
        if let Some(record) = keeping.record(object)? {
            return Ok((registered.assignment(&record)?.held_by(keeping.me()), false));
        }
        let mine = holders.iter().position(|holder| *holder == keeping.me()).and_then(|index| u8::try_from(index).ok());
        if registered.accepted.text_root != manifest.text_root() || mine.is_none() {
            return Ok((None, false));
        }
        let checked = keeping.check_holders(&registered, manifest.profile(), holders).await?;
        checked.map_err(|error| Unassigned::Misplaced(misplaced(object, &error)))?;
        Ok((mine, true))
    }
}

/// Why it is not known which fragment is this node's.
enum Unassigned {
    /// The holders that were named are not those of the rule.
    Misplaced(Refusal),
    /// This node's own failure.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Unassigned {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
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
    let indices = store.sound_fragments_of(object).map_err(|error| failed(&error))?;
    let manifest = store.get(object).map_err(|error| failed(&error))?;
    match manifest.filter(|bytes| !indices.is_empty() && bytes.len() <= MANIFEST_BYTES_MAX) {
        Some(manifest) => Ok(Reply::Located { object, manifest, indices }),
        None => Err(Refusal::Unknown { object }),
    }
}

/// Told to the peer without detail; the log has it.
fn failed(error: &StoreError) -> Refusal {
    // The object's fault, and no failure.
    if matches!(error, StoreError::Void { .. }) {
        return Refusal::Invalid { detail: error.to_string() };
    }
    if let Some((free, need)) = error.no_room() {
        tracing::warn!(%error, "a fragment is not kept");
        return Refusal::Full { free, need };
    }
    tracing::error!(%error, "the store failed");
    Refusal::Failed
}
