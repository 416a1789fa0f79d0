//! Adapters between nodes: three files under one content hash.
//!
//! The content hash is BLAKE3 of the files' own hashes, so the list that a provider sends is checked before a byte of a file is asked for, and
//! each file before it takes its place. A folder is filled under another name and renamed when all of it is there and synced.
//!
//! Flow on one bulk stream per request: [`Ask::Files`] is answered by [`Answer::Files`]; [`Ask::Bytes`] by [`Answer::Bytes`] and then plain
//! frames of at most [`PIECE_BYTES`] to the end of the file. A broken transfer goes on at its offset, at the next provider. A rank 16 adapter
//! of 20 MB is 80 frames.

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
use inference::adapter::{CONFIG_BYTES_MAX, CONFIG_FILE, MANIFEST_BYTES_MAX, MANIFEST_FILE, WEIGHTS_BYTES_MAX, WEIGHTS_FILE};
use p2p::{bulk::BulkEndpoint, stream::FrameStream};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::timeout};
use types::id::{BlobId, NodeId};

use super::{
    exchange::PIECE_BYTES,
    message::{decode, encode},
};
use crate::data::DataDir;

/// Protocol name of adapters.
pub const ADAPTER_ALPN: &[u8] = b"tributary/adapter/1";
/// Largest request, and largest answer before the bytes.
const FRAME_MAX: usize = 1 << 10;
/// How long the next frame is awaited.
const FRAME_WAIT: Duration = Duration::from_secs(15);
/// Files sent at once; more wait.
const SENDING_MAX: usize = 8;
/// Adapters whose file hashes are remembered.
const KNOWN_MAX: usize = 256;

/// The files, in the order in which their hashes make the content hash, with their largest sizes.
const FILES: [(&str, u64); 3] = [(CONFIG_FILE, CONFIG_BYTES_MAX), (WEIGHTS_FILE, WEIGHTS_BYTES_MAX), (MANIFEST_FILE, MANIFEST_BYTES_MAX)];

/// One file of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// BLAKE3 of its bytes.
    pub digest: BlobId,
    /// Its bytes.
    pub bytes: u64,
}

/// The three files; the last is absent for an adapter that was not trained here.
pub type FileList = [Option<FileEntry>; 3];

/// What is asked of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Which files are these?
    Files {
        /// Content hash.
        adapter: BlobId,
    },
    /// A file from an offset on.
    Bytes {
        /// Content hash.
        adapter: BlobId,
        /// Hash of the file.
        digest: BlobId,
        /// First byte wanted.
        offset: u64,
    },
}

/// What a provider answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The files.
    Files(FileList),
    /// So many bytes follow.
    Bytes(u64),
    /// Not here.
    Unknown,
}

/// The content hash that a list of files makes.
pub fn content_hash(files: &FileList) -> BlobId {
    let digests: Vec<u8> = files.iter().flat_map(|file| file.map_or([0; 32], |file| file.digest.0)).collect();
    BlobId::of(&digests)
}

/// Checks a provider's list against the content hash and the sizes that adapters may have.
fn check_list(adapter: BlobId, files: &FileList) -> anyhow::Result<()> {
    let got = content_hash(files);
    ensure!(got == adapter, "its list of files makes content {got}, adapter {adapter} was asked for");
    for ((name, most), file) in FILES.iter().zip(files) {
        let bytes = file.map_or(0, |file| file.bytes);
        ensure!(bytes <= *most, "{name} is said to have {bytes} bytes, at most {most} are accepted");
    }
    ensure!(files[0].is_some() && files[1].is_some(), "it lists no {CONFIG_FILE} or no {WEIGHTS_FILE}");
    Ok(())
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
        let frame = timeout(FRAME_WAIT, stream.recv(FRAME_MAX)).await.context("no request in time")??.context("no request")?;
        let _turn = self.sending.acquire().await?;
        match decode::<Ask>(&frame)? {
            Ask::Files { adapter } => {
                let files = self.files(adapter).await?;
                stream.send(&encode(&files.map_or(Answer::Unknown, Answer::Files))).await?;
            }
            Ask::Bytes { adapter, digest, offset } => self.send_file(&mut stream, adapter, digest, offset).await?,
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
        let Some(files) = files.filter(|files| content_hash(files) == adapter) else { return Ok(None) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.pop_first();
        }
        known.insert(adapter, files);
        Ok(Some(files))
    }

    async fn send_file(self: &Arc<Self>, stream: &mut FrameStream, adapter: BlobId, digest: BlobId, offset: u64) -> anyhow::Result<()> {
        let files = self.files(adapter).await?.unwrap_or_default();
        let place = files.iter().position(|file| file.is_some_and(|file| file.digest == digest && offset <= file.bytes));
        let Some((place, entry)) = place.and_then(|place| Some((place, files[place]?))) else {
            stream.send(&encode(&Answer::Unknown)).await?;
            return Ok(());
        };
        let path = self.data.adapter(adapter).join(FILES[place].0);
        let mut file = tokio::fs::File::open(&path).await.with_context(|| format!("{}", path.display()))?;
        tokio::io::AsyncSeekExt::seek(&mut file, SeekFrom::Start(offset)).await?;
        let mut left = entry.bytes - offset;
        stream.send(&encode(&Answer::Bytes(left))).await?;
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            tokio::io::AsyncReadExt::read_exact(&mut file, &mut piece[..want]).await.with_context(|| format!("{}", path.display()))?;
            timeout(FRAME_WAIT, stream.send(&piece[..want])).await.context("the reader stopped reading")??;
            left -= want as u64;
        }
        Ok(())
    }
}

/// Hashes and sizes of the files in a folder.
fn list(folder: &Path) -> io::Result<FileList> {
    let mut files = FileList::default();
    for (slot, (name, _)) in files.iter_mut().zip(FILES) {
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
pub async fn fetch_adapter(data: &DataDir, bulk: &BulkEndpoint, hash: BlobId, providers: &[(NodeId, SocketAddr)]) -> anyhow::Result<PathBuf> {
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
    let Answer::Files(files) = open(bulk, node, addr, Ask::Files { adapter: hash }).await?.1 else { bail!("it does not have it") };
    check_list(hash, &files)?;
    for ((name, _), entry) in FILES.iter().zip(files) {
        if let Some(entry) = entry {
            fetch_file(bulk, node, addr, hash, entry, &fresh.join(name)).await.with_context(|| (*name).to_owned())?;
        }
    }
    File::open(fresh)?.sync_all()?;
    Ok(())
}

async fn open(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, ask: Ask) -> anyhow::Result<(FrameStream, Answer)> {
    let mut stream = bulk.connect(node, addr, ADAPTER_ALPN).await?;
    stream.send(&encode(&ask)).await?;
    let frame = timeout(FRAME_WAIT, stream.recv(FRAME_MAX)).await.context("no answer in time")??.context("no answer")?;
    let answer = decode(&frame)?;
    Ok((stream, answer))
}

/// Goes on where an earlier provider broke off; a file whose hash is wrong is cut to nothing, so that the next provider starts it anew.
async fn fetch_file(bulk: &BulkEndpoint, node: NodeId, addr: SocketAddr, adapter: BlobId, entry: FileEntry, path: &Path) -> anyhow::Result<()> {
    let FileEntry { digest, bytes } = entry;
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut have = rehash(&mut file, &mut hasher, bytes)?;
    if have < bytes {
        let (mut stream, answer) = open(bulk, node, addr, Ask::Bytes { adapter, digest, offset: have }).await?;
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
        let hash = content_hash(&[entry(b"{}"), entry(weights), None]);
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
        assert_eq!(content_hash(&list(&folder).unwrap()), hash);
    }

    #[tokio::test]
    async fn an_adapter_nobody_has_is_an_error_with_its_fix() {
        let (other, reader) = (side(4).await, side(5).await);
        serve(&other);
        let providers = [(other.node, other.bulk.local_addr())];
        let error = fetch_adapter(&reader.data, &reader.bulk, BlobId([1; 32]), &providers).await.unwrap_err().to_string();
        assert!(error.contains("it does not have it") && error.contains("start a node"), "{error}");
    }

    #[test]
    fn a_list_that_is_not_the_adapters_is_refused_before_anything_is_asked_for() {
        let entry = |byte, bytes| Some(FileEntry { digest: BlobId([byte; 32]), bytes });
        let files = [entry(1, 10), entry(2, 10), None];
        let hash = content_hash(&files);
        assert!(check_list(hash, &files).is_ok());
        assert!(check_list(BlobId([9; 32]), &files).unwrap_err().to_string().contains("was asked for"));
        let huge = [entry(1, 10), entry(2, u64::MAX), None];
        assert!(check_list(content_hash(&huge), &huge).unwrap_err().to_string().contains(WEIGHTS_FILE));
        let none = [entry(1, 10), None, None];
        assert!(check_list(content_hash(&none), &none).is_err());
    }
}
