//! Checkpoints: a log's name, how many entries it has and their root, signed (tlog-checkpoint).

use types::id::NodeId;

use super::{
    Head, LogHash, base64, decimal,
    note::{Key, Note, NoteError, Role, Signer},
};

/// A signed head, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it says.
    pub head: Head,
    /// As it was signed, with all signatures.
    pub note: Note,
}

/// Why bytes are no checkpoint of the log that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text.
    #[error("the note's text is no checkpoint: expected a log's name, a number of entries and a root in base64, each on a line")]
    Text,
    /// Another log's.
    #[error("the checkpoint is of the log {got:?}, expected {expected:?}")]
    Origin {
        /// Its first line.
        got: String,
        /// The log asked for.
        expected: String,
    },
}

/// What the text of a head is.
pub fn text(origin: &str, head: Head) -> String {
    format!("{origin}\n{}\n{}\n", head.size, head.root)
}

/// Origin and head that a text says; lines behind the third are nobody's claim, and not empty.
///
/// # Errors
/// [`CheckpointError::Text`].
pub fn read(text: &str) -> Result<(&str, Head), CheckpointError> {
    let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    let mut next = || lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointError::Text);
    let (origin, size, root) = (next()?, decimal(next()?), base64::decode(next()?));
    let root = root.and_then(|root| root.try_into().ok()).map(LogHash);
    if lines.any(str::is_empty) {
        return Err(CheckpointError::Text);
    }
    match (size, root) {
        (Some(size), Some(root)) => Ok((origin, Head { size, root })),
        _ => Err(CheckpointError::Text),
    }
}

/// Signs a head as the log of `signer`.
pub fn sign(signer: &Signer, head: Head) -> Checkpoint {
    let mut note = Note::unsigned(text(signer.key().name(), head));
    note.add([signer.sign(note.text(), 0)]);
    Checkpoint { head, note }
}

impl Checkpoint {
    /// Reads a checkpoint of the log of `node`, and verifies that it signed.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(bytes: &[u8], node: NodeId) -> Result<Self, CheckpointError> {
        Self::verified(Note::parse(bytes)?, &Key::new(Role::Log, node))
    }

    /// The same of a note that was read.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verified(note: Note, key: &Key) -> Result<Self, CheckpointError> {
        let (origin, head) = read(note.text())?;
        if origin != key.name() {
            return Err(CheckpointError::Origin { got: origin.to_owned(), expected: key.name().to_owned() });
        }
        note.signed_at(key)?;
        Ok(Self { head, note })
    }
}
