//! One check, as it is sealed and as it is shown, and the two trees that a checker's checks of an epoch stand in.
//!
//! First only digests are told: each over the whole check with a salt, so that nobody reads from it what was found, and over the checker's account, so that nobody can
//! use it as its own. Later the checks themselves are. Both trees have the same places, so one opening in each shows that what is shown is what was sealed
//! ([`Shown::verify`]); that is asked for in disputes only.

use serde::{Deserialize, Serialize};
use types::{
    encoding::{DecodeError, Reader, Writer},
    id::{Address, Hash32},
    merkle::{Opening, Tree, keccak},
    receipt::Finding,
};

use super::Verdict;

/// Bytes of a check.
pub const CHECK_BYTES: usize = 8 + 20 + 20 + 8 + 32 + 1 + 4 + 32 + 32;
const DOMAIN: &[u8] = b"tributary/check/v1";
/// Codes behind those of findings.
const WITHHELD: u8 = 16;
const UNABLE: u8 = 17;

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was looked at.
    Judged {
        /// What was found.
        finding: Finding,
        /// Output token, byte or span concerned; 0 when all agrees.
        position: u32,
        /// The digest that shows it ([`super::trace`]).
        trace: Hash32,
    },
    /// The answering node did not show the transcript. That takes nothing from it: no slash follows from a checker's word.
    Withheld,
    /// The checker could not look: it lacks the index, or did not come to it in time.
    Unable,
}

impl Outcome {
    /// What a checker found.
    pub const fn judged(verdict: Verdict, trace: Hash32) -> Self {
        Self::Judged { finding: verdict.finding, position: verdict.position, trace }
    }

    /// Whether it was looked at and all agrees.
    pub const fn agrees(&self) -> bool {
        matches!(self, Self::Judged { finding: Finding::Agrees, .. })
    }
}

/// One check of one receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The receipt's epoch.
    pub epoch: u64,
    /// Who checks.
    pub checker: Address,
    /// Who answered.
    pub node: Address,
    /// The receipt's place under its node's root.
    pub index: u64,
    /// keccak of the receipt body.
    pub receipt: Hash32,
    /// What came of it.
    pub outcome: Outcome,
    /// What hides it while it is sealed.
    pub salt: Hash32,
}

impl Check {
    /// Its bytes: the leaf of what is shown.
    pub fn encode(&self) -> Vec<u8> {
        let (code, position, trace) = match self.outcome {
            Outcome::Judged { finding, position, trace } => (finding.code(), position, trace),
            Outcome::Withheld => (WITHHELD, 0, Hash32::ZERO),
            Outcome::Unable => (UNABLE, 0, Hash32::ZERO),
        };
        let head = Writer::sized(CHECK_BYTES).u64(self.epoch).address(self.checker).address(self.node).u64(self.index).hash(self.receipt);
        head.u8(code).u32(position).hash(trace).hash(self.salt).finish()
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// [`DecodeError`], for a position or a digest of what was not looked at too.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (epoch, checker, node) = (r.u64("epoch")?, r.address("checker")?, r.address("node")?);
        let (index, receipt) = (r.u64("index")?, r.hash("receipt")?);
        let (code, position, trace) = (r.u8("outcome")?, r.u32("position")?, r.hash("trace")?);
        let unseen = |outcome| match (position, trace) {
            (0, Hash32::ZERO) => Ok(outcome),
            _ => Err(DecodeError::Value { field: "position", got: position.into(), expected: "0, and no trace" }),
        };
        let outcome = match (code, Finding::from_code(code)) {
            (_, Some(finding)) => Outcome::Judged { finding, position, trace },
            (WITHHELD, _) => unseen(Outcome::Withheld)?,
            (UNABLE, _) => unseen(Outcome::Unable)?,
            _ => return Err(DecodeError::Value { field: "outcome", got: code.into(), expected: "0 to 6, 16 or 17" }),
        };
        let check = Self { epoch, checker, node, index, receipt, outcome, salt: r.hash("salt")? };
        r.finish().map(|()| check)
    }

    /// What is told of it first: keccak("tributary/check/v1" || its bytes).
    pub fn seal(&self) -> Hash32 {
        keccak(&[DOMAIN, &self.encode()])
    }
}

/// A checker's checks of an epoch, ascending by node and place, under both roots.
#[derive(Debug, Clone)]
pub struct Stacked {
    checks: Vec<Check>,
    sealed: Tree,
    shown: Tree,
}

impl Stacked {
    /// The trees over these checks, in any order.
    pub fn new(mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|check| (check.node, check.index));
        let seals: Vec<[u8; 32]> = checks.iter().map(|check| check.seal().0).collect();
        let bodies: Vec<Vec<u8>> = checks.iter().map(Check::encode).collect();
        let sealed = Tree::over(seals.iter().map(<[u8; 32]>::as_slice));
        let shown = Tree::over(bodies.iter().map(Vec::as_slice));
        Self { checks, sealed, shown }
    }

    /// The checks in order.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The root that is committed to.
    pub fn sealed(&self) -> Hash32 {
        self.sealed.root()
    }

    /// The root that reveals.
    pub fn shown(&self) -> Hash32 {
        self.shown.root()
    }

    /// A check with its ways to both roots; nothing past the last.
    pub fn open(&self, place: u64) -> Option<Shown> {
        let check = *self.checks.get(usize::try_from(place).ok()?)?;
        Some(Shown { check, sealed: self.sealed.open(place)?, shown: self.shown.open(place)? })
    }
}

/// An opened check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The check.
    pub check: Check,
    /// Its seal's way to the root that was committed to.
    pub sealed: Opening,
    /// Its own way to the root that reveals.
    pub shown: Opening,
}

/// Why an opened check is not what its checker said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShownError {
    /// It was not sealed.
    #[error("its seal does not lead to the root that {0} committed to")]
    Seal(Address),
    /// It was sealed, and something else was shown.
    #[error("it does not lead to the root that {0} revealed")]
    Reveal(Address),
    /// Not one of so many.
    #[error("the trees hold {sealed} and {shown} checks, committed to were {expected}")]
    Count {
        /// Committed to.
        expected: u64,
        /// Under the first root.
        sealed: u64,
        /// Under the second one.
        shown: u64,
    },
    /// Two places.
    #[error("it is sealed as check {sealed} and shown as check {shown}")]
    Place {
        /// Under the first root.
        sealed: u64,
        /// Under the second one.
        shown: u64,
    },
}

impl Shown {
    /// Whether the check is what its checker sealed and showed: both roots and the count are the chain's.
    ///
    /// # Errors
    /// [`ShownError`].
    pub fn verify(&self, sealed: Hash32, shown: Hash32, count: u64) -> Result<(), ShownError> {
        let checker = self.check.checker;
        if self.sealed.root(&self.check.seal().0) != Some(sealed) {
            return Err(ShownError::Seal(checker));
        }
        if self.shown.root(&self.check.encode()) != Some(shown) {
            return Err(ShownError::Reveal(checker));
        }
        let (one, other) = (&self.sealed, &self.shown);
        if (one.leaves, other.leaves) != (count, count) {
            return Err(ShownError::Count { expected: count, sealed: one.leaves, shown: other.leaves });
        }
        if one.index != other.index {
            return Err(ShownError::Place { sealed: one.index, shown: other.index });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(node: u8, index: u64, outcome: Outcome) -> Check {
        let (checker, node) = (Address([7; 20]), Address([node; 20]));
        Check { epoch: 3, checker, node, index, receipt: Hash32([node.0[0]; 32]), outcome, salt: Hash32([index.to_le_bytes()[0]; 32]) }
    }

    fn agrees(trace: u8) -> Outcome {
        Outcome::Judged { finding: Finding::Agrees, position: 0, trace: Hash32([trace; 32]) }
    }

    #[test]
    fn what_is_shown_is_what_was_sealed_in_the_same_place_or_is_refused() {
        let stacked = Stacked::new(vec![check(2, 0, Outcome::Withheld), check(1, 9, agrees(4)), check(1, 3, Outcome::Unable)]);
        let (sealed, shown) = (stacked.sealed(), stacked.shown());
        assert_eq!(stacked.checks().iter().map(|check| (check.node.0[0], check.index)).collect::<Vec<_>>(), [(1, 3), (1, 9), (2, 0)]);
        for place in 0..3 {
            assert_eq!(stacked.open(place).unwrap().verify(sealed, shown, 3), Ok(()));
        }
        assert_eq!(stacked.open(3), None);

        let honest = stacked.open(1).unwrap();
        let checker = Address([7; 20]);
        let mut other = honest.clone();
        other.check.outcome = agrees(5);
        assert_eq!(other.verify(sealed, shown, 3), Err(ShownError::Seal(checker)), "another digest than was sealed");
        // Who seals one thing and shows another has two roots that no check stands under.
        let changed = Stacked::new(vec![check(2, 0, Outcome::Withheld), check(1, 9, agrees(5)), check(1, 3, Outcome::Unable)]);
        let split = Shown { shown: changed.open(1).unwrap().shown, ..honest.clone() };
        assert_eq!(split.verify(sealed, changed.shown(), 3), Err(ShownError::Reveal(checker)));
        assert_eq!(honest.verify(sealed, shown, 4), Err(ShownError::Count { expected: 4, sealed: 3, shown: 3 }));
        let two = Stacked::new(vec![check(1, 3, agrees(4)), check(1, 3, agrees(4))]);
        let moved = Shown { shown: two.open(1).unwrap().shown, ..two.open(0).unwrap() };
        assert_eq!(moved.verify(two.sealed(), two.shown(), 2), Err(ShownError::Place { sealed: 0, shown: 1 }));
    }

    #[test]
    fn what_was_not_looked_at_has_no_place_and_no_trace() {
        let mut bytes = check(1, 2, Outcome::Withheld).encode();
        assert_eq!(bytes.len(), CHECK_BYTES);
        bytes[92] = 1;
        assert!(Check::decode(&bytes).is_err());
        let mut bytes = check(1, 2, agrees(9)).encode();
        bytes[88] = 7;
        assert!(Check::decode(&bytes).unwrap_err().to_string().contains("outcome"));
    }

    proptest! {
        #[test]
        fn bytes_of_strangers_never_panic_and_what_is_read_is_written_again(bytes in proptest::collection::vec(any::<u8>(), CHECK_BYTES - 2..CHECK_BYTES + 2), code in 0..20_u8) {
            let mut bytes = bytes;
            bytes[88] = code;
            if let Ok(check) = Check::decode(&bytes) {
                prop_assert_eq!(check.encode(), bytes);
            }
        }
    }
}
