//! The leaves that a node committed to as its answer, in a file: whoever was shown them proves lies that stand in the leaves themselves (F10).
//!
//! A bundle and a transcript hold an answer and its salt. Leaves as they ought to be follow from these, and lead to another root than false ones, which says
//! that something is wrong and not what. The file: `{"byte_length": 130, "leaves": ["0x..", ".."]}`, every leaf in its order. An answer has 64 kB and
//! 1,024 leaves at most, each some two kilobytes.

use std::path::Path;

use ::attribution::{
    bundle::Bundle,
    fault::FaultError,
    parameters::Parameters,
    proof::{Committed, Proof, find_in_leaves},
};
use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::data::read_bounded;

/// Longest file read.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Most leaves of an answer.
const LEAVES_MAX: usize = 1_024;

/// Every leaf of an answer, as it was committed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command) struct Leaves {
    byte_length: u64,
    leaves: Vec<Vec<u8>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Bytes of the answer, as its root says.
    byte_length: u64,
    /// In hex.
    leaves: Vec<String>,
}

impl Leaves {
    /// Reads a file.
    ///
    /// # Errors
    /// That it cannot be read, is none, or holds more leaves than an answer has; which leaf is no hex.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let form = || format!("{}: no leaves of an answer; expected {{\"byte_length\": BYTES, \"leaves\": [HEX, ...]}}", path.display());
        let bytes = read_bounded(path, FILE_BYTES_MAX).with_context(|| format!("{}: cannot be read", path.display()))?;
        let File { byte_length, leaves } = serde_json::from_slice(&bytes).with_context(form)?;
        ensure!(leaves.len() <= LEAVES_MAX, "{}: it holds {} leaves, an answer has {LEAVES_MAX} at most", path.display(), leaves.len());
        let decoded = leaves.iter().enumerate().map(|(number, leaf)| {
            hex::decode(leaf.strip_prefix("0x").unwrap_or(leaf)).with_context(|| format!("{}: leaf {number} is no hex", path.display()))
        });
        Ok(Self { byte_length, leaves: decoded.collect::<anyhow::Result<_>>()? })
    }

    /// What they prove against the receipt of a bundle: nothing if they are as they ought to be.
    ///
    /// # Errors
    /// [`FaultError`] if they are those of another answer.
    pub(super) fn lies(&self, bundle: &Bundle) -> Result<Vec<Proof>, FaultError> {
        let number = bundle.receipt.document.parameters;
        let parameters = Parameters::builtin(number).ok_or(FaultError::Parameters(number))?;
        let committed = Committed { leaves: &self.leaves, byte_length: self.byte_length };
        find_in_leaves(&bundle.domains, &bundle.receipt, committed, parameters)
    }
}

#[cfg(test)]
mod tests {
    use ::attribution::{answer::answer_leaves, index::Index, span::weigh};
    use types::{
        key::{Account, Signed},
        merkle::{Tree, leaf_digests},
    };

    use super::*;
    use crate::evidence::attribution as provable;

    /// An honest bundle, and the leaves of its answer.
    fn honest() -> (Bundle, Leaves) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/bundles/honest-two-datanets.json");
        let bundle = crate::command::receipt::read(&path).unwrap();
        let words = weigh(Parameters::builtin(1).unwrap(), &bundle.answer);
        let leaves = answer_leaves(&bundle.answer, &words, bundle.answer_salt);
        let byte_length = bundle.answer.len() as u64;
        (bundle, Leaves { byte_length, leaves })
    }

    /// The same receipt over these leaves, signed by a node that lies.
    fn over(bundle: &Bundle, leaves: &Leaves) -> Bundle {
        let (key, mut lying) = (Account::from_bytes(&[7; 32]).unwrap(), bundle.clone());
        lying.receipt.document.node = key.address();
        lying.receipt.document.answer_root = Tree::new(leaf_digests(&leaves.leaves), leaves.byte_length).root();
        lying.receipt = Signed::new(&key, &lying.domains, lying.receipt.document);
        lying
    }

    #[test]
    fn a_lie_in_a_leaf_is_found_by_who_was_shown_the_leaves_and_by_no_bundle_alone() {
        let (bundle, leaves) = honest();
        assert_eq!(leaves.lies(&bundle), Ok(vec![]));
        let mut false_ones = leaves.clone();
        // The weight of the first word.
        false_ones.leaves[0][41 + 6] ^= 1;
        let lying = over(&bundle, &false_ones);
        let nothing = Index::new(vec![]).unwrap();
        assert!(provable::find(&lying, &nothing, Vec::new()).is_err());
        let found = provable::find(&lying, &nothing, false_ones.lies(&lying).unwrap()).unwrap().found;
        assert!(!found.is_empty() && found.iter().all(|found| (found.fault.fault, found.fault.mode) == ("F10", "leaf")), "{found:?}");
        assert!(matches!(leaves.lies(&lying), Err(FaultError::Answer { .. })), "of other leaves nothing is proven");
    }

    #[test]
    fn files_that_hold_no_leaves_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaves.json");
        let hex = |bytes: &Vec<u8>| format!("0x{}", hex::encode(bytes));
        let (_, leaves) = honest();
        let good = serde_json::json!({ "byte_length": leaves.byte_length, "leaves": leaves.leaves.iter().map(hex).collect::<Vec<_>>() });
        std::fs::write(&path, good.to_string()).unwrap();
        assert_eq!(Leaves::read(&path).unwrap(), leaves);
        for (text, says) in [
            ("{}", "expected"),
            ("[]", "expected"),
            ("{\"byte_length\": 1, \"leaves\": [\"00\", \"0\"]}", "leaf 1 is no hex"),
            ("{\"byte_length\": -1, \"leaves\": []}", "expected"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Leaves::read(&path).unwrap_err());
            assert!(error.contains("leaves.json") && error.contains(says), "{text}: {error}");
        }
        let many = serde_json::json!({ "byte_length": 1, "leaves": vec![""; LEAVES_MAX + 1] });
        std::fs::write(&path, many.to_string()).unwrap();
        assert!(Leaves::read(&path).unwrap_err().to_string().contains("1025 leaves"));
        assert!(format!("{:#}", Leaves::read(&folder.path().join("none")).unwrap_err()).contains("none"));
    }
}
