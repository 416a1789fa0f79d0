//! Adapters between nodes: up to three files under one content hash, in PEFT's format or in llama.cpp's.
//!
//! Messages and their checks are `storage::proto::files`; here they are carried. A folder is filled under another name and renamed when all of
//! it is there, hashed and synced; a broken transfer goes on at its offset, at the next provider. A rank 16 adapter of 20 MB is 80 frames of
//! [`PIECE_BYTES`].

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use inference::adapter::{CONFIG_BYTES_MAX, CONFIG_FILE, GGUF_FILE, MANIFEST_BYTES_MAX, MANIFEST_FILE, WEIGHTS_BYTES_MAX, WEIGHTS_FILE};
use p2p::{bulk::BulkEndpoint, stream::FrameStream};
use storage::proto::files::{Answer, Ask, FILES, FileEntry, FileList, FileRule, MESSAGE_BYTES_MAX};
use tokio::{sync::Semaphore, time::timeout};
use types::id::{BlobId, NodeId};

use super::exchange::PIECE_BYTES;
use crate::data::DataDir;

/// Protocol name of adapters.
pub const ADAPTER_ALPN: &[u8] = b"tributary/adapter/1";
/// How long the next frame is awaited.
const FRAME_WAIT: Duration = Duration::from_secs(15);
/// Files sent at once; more wait.
const SENDING_MAX: usize = 8;
/// Adapters whose file hashes are remembered.
const KNOWN_MAX: usize = 256;

/// What both formats may have beside: absent for an adapter that was not trained here.
const MANIFEST: FileRule = FileRule { name: MANIFEST_FILE, bytes_max: MANIFEST_BYTES_MAX, is_needed: false };
/// PEFT's files, in the order in which their hashes make the content hash.
const PEFT: [FileRule; FILES] = [
    FileRule { name: CONFIG_FILE, bytes_max: CONFIG_BYTES_MAX, is_needed: true },
    FileRule { name: WEIGHTS_FILE, bytes_max: WEIGHTS_BYTES_MAX, is_needed: true },
    MANIFEST,
];
/// llama.cpp's file, which holds its own settings: its place is that of the matrices, the first one is empty.
const GGUF: [FileRule; FILES] = [
    FileRule { name: CONFIG_FILE, bytes_max: 0, is_needed: false },
    FileRule { name: GGUF_FILE, bytes_max: WEIGHTS_BYTES_MAX, is_needed: true },
    MANIFEST,
];

/// Which files a list means: the content hash says of each place whether it is empty.
const fn rules(files: &FileList) -> &'static [FileRule; FILES] {
    if files.0[0].is_some() { &PEFT } else { &GGUF }
}

/// The providing side.
#[derive(Debug)]
pub struct Provider {
    data: DataDir,
    known: Mutex<BTreeMap<BlobId, FileList>>,
    sending: Semaphore,
}

impl Provider {
    /// Provides the adapters of a data folder.
    pub fn new(data: DataDir) -> Arc<Self> {
        Arc::new(Self { data, known: Mutex::default(), sending: Semaphore::new(SENDING_MAX) })
    }

    /// Serves one stream to its end.
    ///
    /// # Errors
    /// What the stream or the disk says.
    pub async fn serve(self: Arc<Self>, mut stream: FrameStream) -> anyhow::Result<()> {
        let frame = timeout(FRAME_WAIT, stream.recv(MESSAGE_BYTES_MAX)).await.context("no request in time")??.context("no request")?;
        let _turn = self.sending.acquire().await?;
        match Ask::decode(&frame)? {
            Ask::Files { content } => {
                let files = self.files(content).await?;
                send(&mut stream, &files.map_or(Answer::Unknown, Answer::Files).encode()).await?;
            }
            Ask::Bytes { content, digest, offset } => self.send_file(&mut stream, content, digest, offset).await?,
        }
        stream.finish().await?;
        Ok(())
    }

    async fn files(self: &Arc<Self>, adapter: BlobId) -> anyhow::Result<Option<FileList>> {
        if let Some(files) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&adapter) {
            return Ok(Some(*files));
        }
        let folder = self.data.adapter(adapter);
        let files = tokio::task::spawn_blocking(move || if folder.is_dir() { list(&folder).map(Some) } else { Ok(None) }).await??;
        let Some(files) = files.filter(|files| files.content() == adapter) else { return Ok(None) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.pop_first();
        }
        known.insert(adapter, files);
        Ok(Some(files))
    }

    async fn send_file(self: &Arc<Self>, stream: &mut FrameStream, adapter: BlobId, digest: BlobId, offset: u64) -> anyhow::Result<()> {
        let files = self.files(adapter).await?.unwrap_or_default();
        let place = files.0.iter().position(|file| file.is_some_and(|file| file.digest == digest && offset <= file.bytes));
        let Some((place, entry)) = place.and_then(|place| Some((place, files.0[place]?))) else {
            send(stream, &Answer::Unknown.encode()).await?;
            return Ok(());
        };
        let path = self.data.adapter(adapter).join(rules(&files)[place].name);
        let mut file = tokio::fs::File::open(&path).await.with_context(|| format!("{}", path.display()))?;
        tokio::io::AsyncSeekExt::seek(&mut file, SeekFrom::Start(offset)).await?;
        let mut left = entry.bytes - offset;
        send(stream, &Answer::Bytes(left).encode()).await?;
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            tokio::io::AsyncReadExt::read_exact(&mut file, &mut piece[..want]).await.with_context(|| format!("{}", path.display()))?;
            send(stream, &piece[..want]).await?;
            left -= want as u64;
        }
        Ok(())
    }
}

/// Hashes and sizes of the files in a folder.
fn list(folder: &Path) -> io::Result<FileList> {
    let mut files = FileList::default();
    let rules = if folder.join(CONFIG_FILE).exists() { PEFT } else { GGUF };
    for (slot, FileRule { name, .. }) in files.0.iter_mut().zip(rules) {
        let path = folder.join(name);
        match fs::metadata(&path) {
            Ok(meta) => *slot = Some(FileEntry { digest: storage::blob::of_file(&path)?, bytes: meta.len() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// The folder of adapter `hash`, fetched from `providers`, tried in order, if it is not here yet. Every byte is hashed before it counts.
///
/// # Errors
/// That no provider gave it, with each one's reason; or what the disk says. Nothing of it is left then.
pub async fn fetch_adapter(
    data: &DataDir,
    bulk: &BulkEndpoint,
    hash: BlobId,
    providers: &[(NodeId, SocketAddr)],
) -> anyhow::Result<PathBuf> {
    let folder = data.adapter(hash);
    if folder.is_dir() {
        return Ok(folder);
    }
    let fresh = Fresh::create(data.adapters().join(format!(".{hash}.{}.fetch", std::process::id())))?;
    let mut reasons = Vec::new();
    for (node, addr) in providers {
        match fetch_from(bulk, *node, *addr, hash, &fresh.0).await {
            Ok(()) => {
                fresh.rename(&folder)?;
                return Ok(folder);
            }
            Err(error) => reasons.push(format!("{node}: {error:#}")),
        }
    }
    let reasons = if reasons.is_empty() { "no provider is known".to_owned() } else { reasons.join("; ") };
    bail!("adapter {hash} was not fetched ({reasons}): start a node that has it and try again")
}

/// A folder that is removed unless it is renamed.
struct Fresh(PathBuf);

impl Fresh {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self(path))
    }

    fn rename(self, folder: &Path) -> anyhow::Result<()> {
        match fs::rename(&self.0, folder) {
            // Another fetch of the same adapter was quicker; the content is the same by its hash.
            Err(_) if folder.is_dir() => Ok(()),
            done => done.with_context(|| format!("{}", folder.display())),
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            tracing::warn!(folder = %self.0.display(), %error, "a half-fetched adapter is left");
        }
    }
}

async fn fetch_from(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, hash: BlobId, fresh: &Path) -> anyhow::Result<()> {
    let Answer::Files(files) = open(bulk, node, addr, Ask::Files { content: hash }).await?.1 else { bail!("it does not have it") };
    let rules = rules(&files);
    files.check(hash, rules)?;
    for (FileRule { name, .. }, entry) in rules.iter().zip(files.0) {
        if let Some(entry) = entry {
            fetch_file(bulk, node, addr, hash, entry, &fresh.join(name)).await.with_context(|| (*name).to_owned())?;
        }
    }
    File::open(fresh)?.sync_all()?;
    Ok(())
}

/// Sends a frame to a peer, which says itself how much it takes: one that does not read keeps no place and no task.
async fn send(stream: &mut FrameStream, frame: &[u8]) -> anyhow::Result<()> {
    Ok(timeout(FRAME_WAIT, stream.send(frame)).await.context("the reader stopped reading")??)
}

async fn open(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, ask: Ask) -> anyhow::Result<(FrameStream, Answer)> {
    let mut stream = bulk.connect(node, addr, ADAPTER_ALPN).await?;
    send(&mut stream, &ask.encode()).await?;
    let frame = timeout(FRAME_WAIT, stream.recv(MESSAGE_BYTES_MAX)).await.context("no answer in time")??.context("no answer")?;
    let answer = Answer::decode(&frame)?;
    Ok((stream, answer))
}

/// Goes on where an earlier provider broke off; a file whose hash is wrong is cut to nothing, so that the next provider starts it anew.
async fn fetch_file(
    bulk: &BulkEndpoint,
    node: NodeId,
    addr: SocketAddr,
    adapter: BlobId,
    entry: FileEntry,
    path: &Path,
) -> anyhow::Result<()> {
    let FileEntry { digest, bytes } = entry;
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut have = rehash(&mut file, &mut hasher, bytes)?;
    if have < bytes {
        let (mut stream, answer) = open(bulk, node, addr, Ask::Bytes { content: adapter, digest, offset: have }).await?;
        ensure!(answer == Answer::Bytes(bytes - have), "it answered {answer:?} where {} bytes were due", bytes - have);
        while have < bytes {
            let piece = timeout(FRAME_WAIT, stream.recv(PIECE_BYTES)).await.context("no bytes in time")??.context("it ended early")?;
            have += piece.len() as u64;
            ensure!(have <= bytes, "it sent more than {bytes} bytes");
            hasher.update(&piece);
            file.write_all(&piece)?;
        }
    }
    let got = BlobId(*hasher.finalize().as_bytes());
    if got != digest {
        file.set_len(0)?;
        bail!("it sent {got}, its list says {digest}");
    }
    file.sync_all()?;
    Ok(())
}

/// Hashes what an earlier provider left and stands at its end.
fn rehash(file: &mut File, hasher: &mut blake3::Hasher, most: u64) -> io::Result<u64> {
    let len = file.metadata()?.len();
    if len > most {
        file.set_len(0)?;
    }
    file.seek(SeekFrom::Start(0))?;
    hasher.update_reader(&mut *file)?;
    file.stream_position()
}

#[cfg(test)]
mod tests {
    use p2p::{bulk::BulkLimits, identity::NodeSeed};

    use super::*;

    struct Side {
        data: DataDir,
        bulk: Arc<BulkEndpoint>,
        node: NodeId,
        _folder: tempfile::TempDir,
    }

    async fn side(seed: u8) -> Side {
        let folder = tempfile::tempdir().unwrap();
        let seed = NodeSeed::new([seed; 32]);
        let bind = "127.0.0.1:0".parse().unwrap();
        let bulk = BulkEndpoint::start(&seed, bind, &[ADAPTER_ALPN], BulkLimits::default()).await.unwrap();
        Side { data: DataDir::new(folder.path()), bulk: Arc::new(bulk), node: seed.node_id(), _folder: folder }
    }

    #[tokio::test(start_paused = true)]
    async fn readers_that_read_nothing_hold_no_place_that_others_need() {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::new(DataDir::new(folder.path()));
        let deaf = (0..2 * SENDING_MAX).map(|_| Arc::clone(&provider)).map(|provider| async move {
            let (mut near, mut far) = p2p::memory::pair();
            near.send(&Ask::Files { content: BlobId([1; 32]) }.encode()).await.unwrap();
            while timeout(FRAME_WAIT, far.send(&[0; 1 << 10])).await.is_ok() {}
            let served = timeout(40 * FRAME_WAIT, provider.serve(far)).await.expect("it ends");
            assert!(served.unwrap_err().to_string().contains("stopped reading"));
            drop(near);
        });
        futures::future::join_all(deaf).await;
        assert_eq!(provider.sending.available_permits(), SENDING_MAX);
    }

    /// Serves until the endpoint closes.
    fn serve(side: &Side) {
        let (bulk, provider) = (Arc::clone(&side.bulk), Provider::new(side.data.clone()));
        tokio::spawn(async move {
            while let Some(open) = bulk.accept().await {
                tokio::spawn(Arc::clone(&provider).serve(open.stream));
            }
        });
    }

    fn keep(side: &Side, weights: &[u8]) -> BlobId {
        let entry = |bytes: &[u8]| Some(FileEntry { digest: BlobId::of(bytes), bytes: bytes.len() as u64 });
        let hash = FileList([entry(b"{}"), entry(weights), None]).content();
        let folder = side.data.adapter(hash);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(CONFIG_FILE), b"{}").unwrap();
        fs::write(folder.join(WEIGHTS_FILE), weights).unwrap();
        hash
    }

    #[tokio::test]
    async fn an_adapter_is_fetched_whole_and_a_broken_provider_is_passed_over() {
        let (honest, lying, reader) = (side(1).await, side(2).await, side(3).await);
        let weights: Vec<u8> = (0..700_000_u32).flat_map(u32::to_be_bytes).collect();
        let hash = keep(&honest, &weights);
        assert_eq!(keep(&lying, &weights), hash);
        let provider = Provider::new(lying.data.clone());
        provider.files(hash).await.unwrap().unwrap();
        // The file rots after its hash was taken.
        fs::write(lying.data.adapter(hash).join(WEIGHTS_FILE), vec![7; weights.len()]).unwrap();
        let bulk = Arc::clone(&lying.bulk);
        tokio::spawn(async move {
            while let Some(open) = bulk.accept().await {
                tokio::spawn(Arc::clone(&provider).serve(open.stream));
            }
        });
        serve(&honest);
        let providers = [(lying.node, lying.bulk.local_addr()), (honest.node, honest.bulk.local_addr())];
        let error = fetch_adapter(&reader.data, &reader.bulk, hash, &providers[..1]).await.unwrap_err().to_string();
        assert!(error.contains(&lying.node.to_string()) && error.contains(WEIGHTS_FILE), "{error}");
        assert!(!reader.data.adapter(hash).exists());
        assert_eq!(fs::read_dir(reader.data.adapters()).unwrap().count(), 0, "nothing half-fetched is left");
        let folder = fetch_adapter(&reader.data, &reader.bulk, hash, &providers).await.unwrap();
        assert_eq!(fs::read(folder.join(WEIGHTS_FILE)).unwrap(), weights);
        assert_eq!(list(&folder).unwrap().content(), hash);
    }

    #[tokio::test]
    async fn an_adapter_in_llama_cpps_format_is_one_file_and_is_fetched_as_such() {
        let (honest, reader) = (side(6).await, side(7).await);
        let weights = vec![9; 1_000];
        let entry = Some(FileEntry { digest: BlobId::of(&weights), bytes: 1_000 });
        let hash = FileList([None, entry, None]).content();
        let folder = honest.data.adapter(hash);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(GGUF_FILE), &weights).unwrap();
        serve(&honest);
        let fetched = fetch_adapter(&reader.data, &reader.bulk, hash, &[(honest.node, honest.bulk.local_addr())]).await.unwrap();
        let names: Vec<_> = fs::read_dir(&fetched).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!((names, fs::read(fetched.join(GGUF_FILE)).unwrap()), (vec![GGUF_FILE.into()], weights));
        let nothing = FileList::default();
        let error = nothing.check(nothing.content(), rules(&nothing)).unwrap_err().to_string();
        assert!(error.contains(GGUF_FILE), "{error}");
    }

    #[tokio::test]
    async fn an_adapter_nobody_has_is_an_error_with_its_fix() {
        let (other, reader) = (side(4).await, side(5).await);
        serve(&other);
        let providers = [(other.node, other.bulk.local_addr())];
        let error = fetch_adapter(&reader.data, &reader.bulk, BlobId([1; 32]), &providers).await.unwrap_err().to_string();
        assert!(error.contains("it does not have it") && error.contains("start a node"), "{error}");
    }
}
