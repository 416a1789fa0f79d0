//! Where public bytes are kept so that anybody can have them by their BLAKE3: a folder, or the chain's own calldata.
//!
//! What comes back is always checked against its name, so a store is trusted for nothing but being there. Calldata costs 16 gas a byte on an OP chain,
//! and its share of an L1 blob: it is for what must outlive every operator.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    future::Future,
    io::{self, Write as _},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use serde::Deserialize;
use serde_json::json;
use types::{
    amount::Amount,
    id::{BlobId, Hash32},
};

use crate::{
    chain::{Call, error::ChainError},
    client::ChainClient,
};

/// Most bytes of one transaction: nodes of OP chains take transactions of up to 128 KiB.
pub const CALLDATA_MAX: u64 = 120 << 10;
/// What such a transaction's data begins with.
const CALLDATA_TAG: &[u8] = b"tributary/blob/v1";

/// Why bytes cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum AvailabilityError {
    /// Too many.
    #[error("{what} has {got} bytes, at most {most} are taken")]
    TooLong {
        /// What.
        what: String,
        /// How many.
        got: u64,
        /// The bound.
        most: u64,
    },
    /// Other bytes under the name.
    #[error("what is kept as {expected} has the BLAKE3 {got}: it was changed")]
    Changed {
        /// Asked for.
        expected: BlobId,
        /// Found.
        got: BlobId,
    },
    /// The file system.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// A store of public bytes by their BLAKE3.
pub trait DataAvailability: Send + Sync {
    /// Why it could not.
    type Error: Error + Send + Sync + 'static;

    /// Keeps bytes; what is kept already is not kept twice.
    fn put(&self, bytes: &[u8]) -> impl Future<Output = Result<BlobId, Self::Error>> + Send;

    /// The bytes of a name, at most `most` of them; nothing if the store does not have them.
    fn get(&self, blob: BlobId, most: u64) -> impl Future<Output = Result<Option<Vec<u8>>, Self::Error>> + Send;
}

fn checked(blob: BlobId, bytes: Vec<u8>, most: u64) -> Result<Option<Vec<u8>>, AvailabilityError> {
    let got = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if got > most {
        return Err(AvailabilityError::TooLong { what: blob.to_string(), got, most });
    }
    let named = BlobId::of(&bytes);
    if named == blob { Ok(Some(bytes)) } else { Err(AvailabilityError::Changed { expected: blob, got: named }) }
}

/// A folder of files named by their content.
#[derive(Debug, Clone)]
pub struct LocalStore {
    folder: PathBuf,
}

impl LocalStore {
    /// The store in `folder`, which is made when something is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where a name's bytes lie.
    pub fn path(&self, blob: BlobId) -> PathBuf {
        self.folder.join(blob.to_string())
    }

    fn keep(&self, blob: BlobId, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        // Whole or not at all: a reader never meets half a file.
        let fresh = self.folder.join(format!("{blob}.{}.new", std::process::id()));
        let mut file = fs::File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, self.path(blob))?;
        fs::File::open(&self.folder)?.sync_all()
    }
}

impl DataAvailability for LocalStore {
    type Error = AvailabilityError;

    async fn put(&self, bytes: &[u8]) -> Result<BlobId, AvailabilityError> {
        let (blob, most) = (BlobId::of(bytes), u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        // A damaged copy is replaced.
        if !matches!(self.get(blob, most).await, Ok(Some(_))) {
            self.keep(blob, bytes).map_err(|error| AvailabilityError::File { path: self.path(blob), error })?;
        }
        Ok(blob)
    }

    async fn get(&self, blob: BlobId, most: u64) -> Result<Option<Vec<u8>>, AvailabilityError> {
        let path = self.path(blob);
        let failed = |error| AvailabilityError::File { path: path.clone(), error };
        let got = match fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if got > most {
            return Err(AvailabilityError::TooLong { what: path.display().to_string(), got, most });
        }
        checked(blob, fs::read(&path).map_err(failed)?, most)
    }
}

/// Bytes in the data of transactions that an account sends to itself. Where a name stands is remembered by this process and told to others as the
/// transaction's hash.
#[derive(Debug)]
pub struct Calldata {
    client: ChainClient,
    places: Mutex<BTreeMap<BlobId, Hash32>>,
}

#[derive(Deserialize)]
struct RawTransaction {
    input: String,
}

impl Calldata {
    /// Through a client that has an account if bytes are to be kept.
    pub const fn new(client: ChainClient) -> Self {
        Self { client, places: Mutex::new(BTreeMap::new()) }
    }

    /// The transaction that holds a name, as far as known.
    pub fn place(&self, blob: BlobId) -> Option<Hash32> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(&blob).copied()
    }

    /// Notes that `transaction` holds a name; a wrong note is found when it is read.
    pub fn learn(&self, blob: BlobId, transaction: Hash32) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(blob, transaction);
    }
}

impl DataAvailability for Calldata {
    type Error = AvailabilityError;

    async fn put(&self, bytes: &[u8]) -> Result<BlobId, AvailabilityError> {
        let (blob, got) = (BlobId::of(bytes), u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if got > CALLDATA_MAX {
            return Err(AvailabilityError::TooLong { what: "a transaction's data".to_owned(), got, most: CALLDATA_MAX });
        }
        if self.place(blob).is_none() {
            let sender = self.client.sender("keep data on the chain")?;
            let call = Call { to: Some(sender.address()), data: [CALLDATA_TAG, bytes].concat(), value: Amount::ZERO };
            let sent = sender.send("keep data on the chain", Some(&format!("blob/{blob}")), call).await?;
            self.learn(blob, sent.transaction);
        }
        Ok(blob)
    }

    async fn get(&self, blob: BlobId, most: u64) -> Result<Option<Vec<u8>>, AvailabilityError> {
        let Some(place) = self.place(blob) else { return Ok(None) };
        let found: Option<RawTransaction> = self.client.rpc().request("eth_getTransactionByHash", json!([place])).await?;
        let Some(found) = found else { return Ok(None) };
        let unreadable = |why: &str| ChainError::Unreadable { what: "a transaction that holds data", why: why.to_owned() };
        let input = hex::decode(found.input.trim_start_matches("0x")).map_err(|error| unreadable(&error.to_string()))?;
        let bytes = input.strip_prefix(CALLDATA_TAG).ok_or_else(|| unreadable("its data does not begin with the tag"))?;
        checked(blob, bytes.to_vec(), most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_gives_back_what_was_put_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().join("blobs"));
        let blob = store.put(b"public").await.unwrap();
        assert_eq!(store.put(b"public").await.unwrap(), blob);
        assert_eq!(store.get(blob, 6).await.unwrap().as_deref(), Some(&b"public"[..]));
        assert_eq!(store.get(BlobId([1; 32]), 6).await.unwrap(), None);
        assert!(matches!(store.get(blob, 5).await, Err(AvailabilityError::TooLong { got: 6, most: 5, .. })));
        fs::write(store.path(blob), b"publiC").unwrap();
        assert!(matches!(store.get(blob, 6).await, Err(AvailabilityError::Changed { expected, .. }) if expected == blob));
        store.put(b"public").await.unwrap();
        assert!(store.get(blob, 6).await.unwrap().is_some(), "a damaged copy is replaced");
        assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 1, "nothing is left beside it");
    }
}
