//! Which near copies are paid through which document (P3, P5).
//!
//! Documents are named by priority. A row's number changes with the segments it stands in, and a text root does not tell two contributions of one
//! text apart; a priority is one document's for good, whatever else is accepted or erased.
//!
//! 40 bytes per near copy; documents that lead their own cluster take none.

use std::collections::BTreeMap;

use types::contribution::Priority;

/// The documents of a Datanet that joined an earlier one's cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clusters {
    /// By near copy, the document that is paid for it.
    heads: BTreeMap<Priority, Priority>,
}

/// Why documents make no clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The earliest document of a cluster leads it.
    #[error("document {document:?} is said to belong to the cluster of {head:?}, which was not committed to before it")]
    Later {
        /// The near copy.
        document: Priority,
        /// What it should follow.
        head: Priority,
    },
    /// Clusters do not merge: their first document joined no other.
    #[error("document {document:?} is said to belong to the cluster of {head:?}, which itself joined that of {over:?}")]
    Joined {
        /// The near copy.
        document: Priority,
        /// What it should follow.
        head: Priority,
        /// What that follows.
        over: Priority,
    },
    /// A document earns in one cluster.
    #[error("document {document:?} is said to belong to the clusters of both {first:?} and {second:?}")]
    Twice {
        /// The near copy.
        document: Priority,
        /// What it should follow.
        first: Priority,
        /// What it should follow as well.
        second: Priority,
    },
}

impl Clusters {
    /// The clusters given by pairs of a document and its cluster's first document, which may be the document itself.
    ///
    /// # Errors
    /// [`ClusterError`] naming the document: a cluster's first document leads it, and has the smallest priority in it.
    pub fn new(members: impl IntoIterator<Item = (Priority, Priority)>) -> Result<Self, ClusterError> {
        let mut heads = BTreeMap::new();
        for (document, head) in members.into_iter().filter(|(document, head)| document != head) {
            if head > document {
                return Err(ClusterError::Later { document, head });
            }
            if let Some(first) = heads.insert(document, head).filter(|first| *first != head) {
                return Err(ClusterError::Twice { document, first, second: head });
            }
        }
        for (document, head) in &heads {
            if let Some(over) = heads.get(head) {
                return Err(ClusterError::Joined { document: *document, head: *head, over: *over });
            }
        }
        Ok(Self { heads })
    }

    /// The document that is paid for this one, if it is another.
    pub fn head(&self, document: Priority) -> Option<Priority> {
        self.heads.get(&document).copied()
    }

    /// Every near copy with the document that is paid for it, by priority.
    pub fn joined(&self) -> impl Iterator<Item = (Priority, Priority)> {
        self.heads.iter().map(|(document, head)| (*document, *head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(block: u64, document: u32) -> Priority {
        Priority { block, ordinal: 0, document }
    }

    #[test]
    fn a_cluster_is_led_by_its_earliest_document_which_joined_no_other() {
        let clusters = Clusters::new([(at(1, 0), at(1, 0)), (at(3, 1), at(1, 0)), (at(2, 0), at(1, 0)), (at(3, 0), at(3, 0))]).unwrap();
        assert_eq!(clusters.joined().collect::<Vec<_>>(), [(at(2, 0), at(1, 0)), (at(3, 1), at(1, 0))]);
        assert_eq!((clusters.head(at(3, 1)), clusters.head(at(3, 0)), clusters.head(at(9, 9))), (Some(at(1, 0)), None, None));
        let refused = |members: &[(Priority, Priority)]| Clusters::new(members.iter().copied()).unwrap_err();
        assert_eq!(refused(&[(at(1, 0), at(1, 1))]), ClusterError::Later { document: at(1, 0), head: at(1, 1) });
        let (document, head, over) = (at(3, 0), at(2, 0), at(1, 0));
        assert_eq!(refused(&[(document, head), (head, over)]), ClusterError::Joined { document, head, over });
        assert_eq!(refused(&[(document, head), (document, over)]), ClusterError::Twice { document, first: head, second: over });
    }
}
