//! What a witness is asked, and what it cosigns: heads that go on from the last one it cosigned, and no others (tlog-witness).

use std::fmt;

use super::{
    Head, LogHash,
    checkpoint::{Checkpoint, CheckpointError, read},
    decimal,
    note::{Key, NOTE_BYTES_MAX, Note, NoteError},
    proof::read_hashes,
    tree::is_consistent,
};

/// Hashes of the longest proof taken, by the text.
pub const PROOF_LINES_MAX: usize = 63;
/// Longest request read.
pub const REQUEST_BYTES_MAX: usize = NOTE_BYTES_MAX + 4_096;

/// A head to be cosigned, with what shows that it goes on from `old` entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Entries of the head that the witness cosigned last.
    pub old: u64,
    /// Hashes.
    pub proof: Vec<LogHash>,
    /// The head.
    pub note: Note,
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is none.
    #[error("{0}")]
    Malformed(&'static str),
    /// The note or its text.
    #[error("{0}")]
    Note(#[from] CheckpointError),
    /// Nobody's log.
    #[error("no log {0:?} is witnessed here: those of operators with stake are")]
    Unknown(String),
    /// Not signed by the log.
    #[error("{0}")]
    Forbidden(NoteError),
    /// Another head was cosigned last.
    #[error("a head of {0} entries was cosigned last")]
    Conflict(u64),
    /// The proof does not lead from the head cosigned last to this one.
    #[error("the proof does not lead from the head cosigned last to this one: the log forked, or the proof is another's")]
    Inconsistent,
}

impl Refusal {
    /// The status that the protocol has for it.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::Note(_) => 400,
            Self::Unknown(_) => 404,
            Self::Forbidden(_) => 403,
            Self::Conflict(_) => 409,
            Self::Inconsistent => 422,
        }
    }
}

impl fmt::Display for AddCheckpoint {
    /// The body of the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}

impl AddCheckpoint {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], [`Refusal::Note`].
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::Malformed("the request is too long"));
        }
        let text = std::str::from_utf8(body).map_err(|_| Refusal::Malformed("the request is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(Refusal::Malformed("no empty line stands before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| decimal(line.strip_prefix("old ")?));
        let old = old.ok_or(Refusal::Malformed("the first line is not `old` and a number of entries"))?;
        let proof =
            read_hashes(lines, PROOF_LINES_MAX).ok_or(Refusal::Malformed("a line of the proof is no hash, or there are more than 63"))?;
        let note = Note::parse(note.as_bytes()).map_err(CheckpointError::from)?;
        Ok(Self { old, proof, note })
    }

    /// The name of the log.
    ///
    /// # Errors
    /// [`Refusal::Note`].
    pub fn origin(&self) -> Result<&str, Refusal> {
        Ok(read(self.note.text())?.0)
    }

    /// The head to cosign, for the log of `key` whose head `last` was cosigned before.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(&self, key: &Key, last: Option<Head>) -> Result<Head, Refusal> {
        let checkpoint = Checkpoint::verified(self.note.clone(), key).map_err(|error| match error {
            CheckpointError::Note(error) => Refusal::Forbidden(error),
            CheckpointError::Origin { got, .. } => Refusal::Unknown(got),
            error => Refusal::Note(error),
        })?;
        let (new, last) = (checkpoint.head, last.unwrap_or_else(Head::empty));
        if self.old > new.size {
            return Err(Refusal::Malformed("the head has fewer entries than the one it is said to go on from"));
        }
        if self.old != last.size || (last.size == new.size && last.root != new.root) {
            return Err(Refusal::Conflict(last.size));
        }
        is_consistent(last, new, &self.proof).then_some(new).ok_or(Refusal::Inconsistent)
    }
}
