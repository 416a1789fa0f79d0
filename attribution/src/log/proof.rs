//! A proof that one entry is in a log, in a file that needs nothing else (tlog-proof).

use super::{
    LogHash, base64,
    checkpoint::{Checkpoint, CheckpointError},
    decimal,
    note::NOTE_BYTES_MAX,
    tree::{PROOF_LEN_MAX, is_included, leaf_hash},
};
use types::id::NodeId;

const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof read: its checkpoint, its hashes of 45 bytes, some extra data that is passed over.
pub const PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + PROOF_LEN_MAX * 45 + (4 << 10);

/// Where an entry stands and what leads from it to a signed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Number of the entry.
    pub index: u64,
    /// Hashes, leaf to root.
    pub path: Vec<LogHash>,
    /// The head that was signed, with its witnesses' signatures.
    pub checkpoint: Checkpoint,
}

/// Why a file proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Too long.
    #[error("a proof of {0} bytes, at most {PROOF_BYTES_MAX} are read")]
    TooLong(usize),
    /// Another form.
    #[error("no proof: {0}")]
    Form(&'static str),
    /// The checkpoint in it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes lead elsewhere.
    #[error("from this entry as number {index} the proof does not lead to the root that was signed for {size} entries")]
    Root {
        /// Number of the entry.
        index: u64,
        /// Entries under the head.
        size: u64,
    },
}

impl Proof {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let path: String = self.path.iter().map(|hash| format!("{hash}\n")).collect();
        format!("{MAGIC}\nindex {}\n{path}\n{}", self.index, self.checkpoint.note)
    }

    /// Reads a proof under a head that `node` signed; [`Proof::verify`] says of what.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn open(bytes: &[u8], node: NodeId) -> Result<Self, ProofError> {
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(ProofError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ProofError::Form("it is not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Form("no empty line stands before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(MAGIC) {
            return Err(ProofError::Form("its first line is not c2sp.org/tlog-proof@v1"));
        }
        // Nobody vouches for it.
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines
            .next()
            .and_then(|line| decimal(line.strip_prefix("index ")?))
            .ok_or(ProofError::Form("no line says `index` and a number"))?;
        let path = read_hashes(lines, PROOF_LEN_MAX).ok_or(ProofError::Form("a line of it is no hash, or there are too many"))?;
        Ok(Self { index, path, checkpoint: Checkpoint::open(checkpoint.as_bytes(), node)? })
    }

    /// Whether `entry` stands there.
    ///
    /// # Errors
    /// [`ProofError::Root`].
    pub fn verify(&self, entry: &[u8]) -> Result<(), ProofError> {
        let head = self.checkpoint.head;
        if is_included(leaf_hash(entry), self.index, head, &self.path) {
            return Ok(());
        }
        Err(ProofError::Root { index: self.index, size: head.size })
    }
}

/// Hashes in base64, one a line, `most` of them at most.
pub(super) fn read_hashes<'l>(lines: impl Iterator<Item = &'l str>, most: usize) -> Option<Vec<LogHash>> {
    let mut hashes = Vec::new();
    for line in lines {
        // 32 bytes take 44 digits: what is longer is not decoded.
        let hash = (line.len() == 44 && hashes.len() < most).then(|| base64::decode(line)?.try_into().ok())??;
        hashes.push(LogHash(hash));
    }
    Some(hashes)
}
