//! Whether enough of the witnesses that somebody trusts have cosigned a head. Who shows him another log than others needs as many of them to lie as the quorum has.

use std::collections::BTreeSet;

use types::id::NodeId;

use super::{
    checkpoint::Checkpoint,
    note::{Key, NoteError, Role},
};

/// A witness's word for a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Cosigned {
    /// The witness.
    pub node: NodeId,
    /// When it signed, in seconds since 1970.
    pub at_s: u64,
}

/// Why a head is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// More are asked for than are named.
    #[error("{quorum} witnesses must cosign and {named} are named: name more by --witness, or ask for fewer")]
    Unreachable {
        /// Cosignatures asked for.
        quorum: usize,
        /// Witnesses named.
        named: usize,
    },
    /// A signature that is none.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Too few.
    #[error(
        "the head of {size} entries is cosigned by {got} of the {quorum} witnesses that must; it has no signature of {}",
        missing.iter().map(|node| Key::new(Role::Witness, *node).name().to_owned()).collect::<Vec<_>>().join(", ")
    )]
    Short {
        /// Entries of the head.
        size: u64,
        /// Cosignatures.
        got: usize,
        /// As many must be.
        quorum: usize,
        /// Who has not signed.
        missing: Vec<NodeId>,
    },
}

/// The cosignatures of these witnesses, in their order, of which there must be `quorum`; one that is named twice counts once.
///
/// # Errors
/// [`QuorumError`].
pub fn cosigned(checkpoint: &Checkpoint, witnesses: &[NodeId], quorum: usize) -> Result<Vec<Cosigned>, QuorumError> {
    let mut named = BTreeSet::new();
    let witnesses: Vec<NodeId> = witnesses.iter().copied().filter(|node| named.insert(*node)).collect();
    if quorum > witnesses.len() {
        return Err(QuorumError::Unreachable { quorum, named: witnesses.len() });
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for node in witnesses {
        match checkpoint.note.signed_at(&Key::new(Role::Witness, node)) {
            Ok(at_s) => found.push(Cosigned { node, at_s }),
            Err(NoteError::Unsigned(_)) => missing.push(node),
            Err(error) => return Err(error.into()),
        }
    }
    if found.len() < quorum {
        return Err(QuorumError::Short { size: checkpoint.head.size, got: found.len(), quorum, missing });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use crate::log::{
        Head,
        checkpoint::sign,
        note::{Note, Signer},
    };

    use super::*;

    #[test]
    fn as_many_witnesses_as_asked_for_must_have_cosigned_and_each_counts_once() {
        let mut checkpoint = sign(&Signer::new(Role::Log, &[1; 32]), Head::empty());
        let witnesses = [2, 3, 4].map(|byte| Signer::new(Role::Witness, &[byte; 32]));
        let nodes = [0, 1, 2].map(|at: usize| witnesses[at].key().node());
        for (signer, time) in witnesses.iter().zip([70, 80]) {
            checkpoint.note.add([signer.sign(checkpoint.note.text(), time)]);
        }
        let both = [(nodes[0], 70), (nodes[1], 80)].map(|(node, at_s)| Cosigned { node, at_s });
        assert_eq!(cosigned(&checkpoint, &nodes, 2).as_deref(), Ok(&both[..]));
        assert_eq!(cosigned(&checkpoint, &nodes[..1], 0).as_deref(), Ok(&both[..1]));
        let short = cosigned(&checkpoint, &nodes, 3).unwrap_err();
        assert_eq!(short, QuorumError::Short { size: 0, got: 2, quorum: 3, missing: vec![nodes[2]] });
        assert!(short.to_string().contains(&format!("no signature of tributary.witness/{}", nodes[2])), "{short}");
        let twice = cosigned(&checkpoint, &[nodes[0], nodes[0]], 2).unwrap_err();
        assert_eq!(twice, QuorumError::Unreachable { quorum: 2, named: 1 });
        // Another head's cosignature.
        let other = Note::unsigned("tributary.receipts/another\n0\n".to_owned());
        checkpoint.note.add([witnesses[2].sign(other.text(), 9)]);
        assert!(matches!(cosigned(&checkpoint, &nodes, 2), Err(QuorumError::Note(NoteError::Signature(_)))));
    }
}
