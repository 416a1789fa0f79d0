//! Slash cases of storage audits (P10): what is asked for, what answers it, packed as `AuditCase` reads it.
//!
//! A node signs what it holds ([`AuditCommit`]). A [`Question`] shows that commitment, one fragment under it and the contribution that names the fragment's object, and asks for one leaf of
//! 1,024 bytes. An [`Answer`] is these bytes and their way to the fragment's root: 1,504 bytes at most for the largest fragment. Both are checked here as the contract checks them, so that
//! nothing is sent that it would refuse for its content; age, erasure and the node's last conviction are the chain's to say.

use serde::{Deserialize, Serialize};
use types::{
    audit::{AuditCommit, HeldFragment},
    encoding::Document as _,
    id::{Address, AssetId, Hash32},
    key::Signed,
    merkle::{Opening, Tree, keccak},
};

/// Bytes of a leaf of a fragment's tree; the last may have fewer.
pub const PART_BYTES: usize = 1_024;

/// What a case asks for, and of whom; it names the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Who signed that it holds the fragment.
    pub node: Address,
    /// Datanet of a contribution that names the fragment's object.
    pub datanet: AssetId,
    /// Its number there.
    pub contribution: u32,
    /// The fragment's keccak root.
    pub root: Hash32,
    /// The fragment's bytes.
    pub bytes: u32,
    /// Which leaf of it.
    pub part: u32,
}

/// A case to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What the node signed.
    pub commit: Signed<AuditCommit>,
    /// The fragment.
    pub held: HeldFragment,
    /// Its way to the commitment's root.
    pub opening: Opening,
    /// A contribution that names its object: Datanet and number.
    pub contribution: (AssetId, u32),
    /// Which leaf of the fragment.
    pub part: u32,
}

/// What ends a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The case.
    pub asked: Asked,
    /// The leaf.
    pub bytes: Vec<u8>,
    /// From it upwards.
    pub siblings: Vec<Hash32>,
}

/// Why there is no case, or no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// Not one of the holdings.
    #[error("fragment {place} of {count}: name one of the node's list")]
    Place {
        /// Asked for.
        place: usize,
        /// There are.
        count: usize,
    },
    /// Other holdings.
    #[error("the fragments lead to the root {got}, the node signed {expected}: give the list that the commitment is about")]
    Holdings {
        /// Signed.
        expected: Hash32,
        /// The list's.
        got: Hash32,
    },
    /// Beyond the fragment.
    #[error("leaf {part} of a fragment of {bytes} bytes: ask for one of its {leaves}")]
    Part {
        /// Asked for.
        part: u32,
        /// The fragment's bytes.
        bytes: u32,
        /// Its leaves.
        leaves: u32,
    },
    /// Other bytes.
    #[error("these bytes do not lead to the fragment's root {expected}")]
    Bytes {
        /// The fragment's.
        expected: Hash32,
    },
}

/// Leaves of a fragment of so many bytes.
pub const fn parts_of(bytes: u32) -> u32 {
    bytes.div_ceil(1_024)
}

/// Whether a commitment signed in block `signed_at` may open a case in the block after `latest`, on a chain where it may for `age_blocks`.
pub const fn is_usable(signed_at: u64, latest: u64, age_blocks: u64) -> bool {
    signed_at <= latest && latest - signed_at < age_blocks
}

impl Question {
    /// Asks for leaf `part` of the fragment at `place` of the holdings, in the order of their tree.
    ///
    /// # Errors
    /// [`CaseError`]: what the contract would refuse on any day.
    pub fn new(
        commit: Signed<AuditCommit>,
        holdings: &[HeldFragment],
        place: usize,
        contribution: (AssetId, u32),
        part: u32,
    ) -> Result<Self, CaseError> {
        let count = holdings.len();
        let held = *holdings.get(place).ok_or(CaseError::Place { place, count })?;
        let leaves: Vec<_> = holdings.iter().map(HeldFragment::leaf).collect();
        let tree = Tree::over(leaves.iter().map(Vec::as_slice));
        if tree.root() != commit.document.holdings {
            return Err(CaseError::Holdings { expected: commit.document.holdings, got: tree.root() });
        }
        in_fragment(held.bytes, part)?;
        let opening = tree.open(u64::try_from(place).expect("a length is below 2^64")).ok_or(CaseError::Place { place, count })?;
        Ok(Self { commit, held, opening, contribution, part })
    }

    /// What names the case.
    pub const fn asked(&self) -> Asked {
        let (datanet, contribution) = self.contribution;
        let HeldFragment { root, bytes, .. } = self.held;
        Asked { node: self.commit.document.node, datanet, contribution, root, bytes, part: self.part }
    }

    /// Body and signature of the commitment.
    pub fn evidence(&self) -> (Vec<u8>, Vec<u8>) {
        (self.commit.document.encode(), self.commit.signature.0.to_vec())
    }
}

impl Asked {
    /// The contract's name for the case: keccak of six words.
    pub fn id(&self) -> Hash32 {
        let word = |bytes: &[u8]| {
            let mut word = [0; 32];
            word[32 - bytes.len()..].copy_from_slice(bytes);
            word
        };
        let words = [
            word(&self.node.0),
            word(&self.datanet.0.to_be_bytes()),
            word(&self.contribution.to_be_bytes()),
            self.root.0,
            word(&self.bytes.to_be_bytes()),
            word(&self.part.to_be_bytes()),
        ];
        keccak(&[words.as_flattened()])
    }

    /// The answer from the whole fragment.
    ///
    /// # Errors
    /// [`CaseError`] if it is not the fragment asked for.
    pub fn answer(&self, fragment: &[u8]) -> Result<Answer, CaseError> {
        in_fragment(self.bytes, self.part)?;
        let tree = Tree::over(fragment.chunks(PART_BYTES));
        let leaf = usize::try_from(self.part).ok().and_then(|part| fragment.chunks(PART_BYTES).nth(part));
        let found = tree.open(self.part.into()).filter(|_| tree.root() == self.root).zip(leaf);
        let (opening, leaf) = found.ok_or(CaseError::Bytes { expected: self.root })?;
        self.answer_from(leaf.to_vec(), opening.siblings)
    }

    /// The answer from the leaf and its siblings upwards.
    ///
    /// # Errors
    /// [`CaseError`] if they do not lead to the fragment's root.
    pub fn answer_from(&self, bytes: Vec<u8>, siblings: Vec<Hash32>) -> Result<Answer, CaseError> {
        let leaves = in_fragment(self.bytes, self.part)?;
        let opening = Opening { leaves: leaves.into(), byte_length: self.bytes.into(), index: self.part.into(), siblings };
        // The root binds all leaves' sum alone: what a leaf has of it follows from its place.
        let left = u64::from(self.bytes) - u64::from(self.part) * PART_BYTES as u64;
        let is_whole = bytes.len() as u64 == left.min(PART_BYTES as u64);
        if !is_whole || opening.root(&bytes) != Some(self.root) {
            return Err(CaseError::Bytes { expected: self.root });
        }
        Ok(Answer { asked: *self, bytes, siblings: opening.siblings })
    }
}

/// Leaves of a fragment, if `part` is one of them.
const fn in_fragment(bytes: u32, part: u32) -> Result<u32, CaseError> {
    let leaves = parts_of(bytes);
    if part < leaves { Ok(leaves) } else { Err(CaseError::Part { part, bytes, leaves }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use types::{
        id::BlobId,
        key::{Account, Domains},
    };

    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
    }

    fn hash(value: &Value) -> Hash32 {
        Hash32(bytes(value).try_into().unwrap())
    }

    fn number(value: &Value) -> u32 {
        u32::try_from(value.as_u64().unwrap()).unwrap()
    }

    /// The holdings of the vectors, their bytes, and a commitment to them.
    fn vectors() -> (Signed<AuditCommit>, Vec<HeldFragment>, Vec<Vec<u8>>, Value) {
        let all: Value = serde_json::from_str(include_str!("../../tests/fixtures/storage_vectors.json")).unwrap();
        let case = all["audit"]["case"].clone();
        let at = |name: &str| Address(bytes(&all["contracts"][name]).try_into().unwrap());
        let domains = Domains {
            chain_id: all["chainId"].as_u64().unwrap(),
            escrow: at("InferenceEscrow"),
            registry: at("AssetRegistry"),
            settlement: at("Settlement"),
            stake: at("StakeManager"),
        };
        let held = |case: &Value| HeldFragment {
            object: BlobId(hex::decode(case["object"].as_str().unwrap()).unwrap().try_into().unwrap()),
            fragment: u8::try_from(number(&case["fragment"])).unwrap(),
            fragments: u8::try_from(number(&case["fragments"])).unwrap(),
            bytes: number(&case["bytes"]),
            root: hash(&case["root"]),
        };
        let account = Account::from_bytes(&bytes(&case["commit"]["signer"]).try_into().unwrap()).unwrap();
        let commit = Signed::new(&account, &domains, AuditCommit::decode(&bytes(&case["commit"]["body"])).unwrap());
        let texts = vec![
            (0..40_000).map(|i| u8::try_from(i % 251).unwrap()).collect(),
            (0..1_500).map(|i| u8::try_from(i % 241).unwrap()).collect(),
        ];
        (commit, all["audit"]["fragments"].as_array().unwrap().iter().map(held).collect(), texts, case)
    }

    #[test]
    fn a_question_and_its_answer_are_those_of_the_vectors() {
        let (commit, holdings, texts, case) = vectors();
        let contribution = (AssetId(number(&case["datanet"]).into()), number(&case["contribution"]));
        for part in case["parts"].as_array().unwrap() {
            let question = Question::new(commit.clone(), &holdings, 0, contribution, number(&part["part"])).unwrap();
            assert_eq!(question.evidence(), (bytes(&case["commit"]["body"]), bytes(&case["commit"]["signature"])));
            assert_eq!(question.held.leaf(), bytes(&case["leaf"]));
            assert_eq!((question.opening.leaves, question.opening.index), (2, 0));
            assert_eq!(question.opening.siblings, [hash(&case["siblings"][0])]);
            assert_eq!(question.asked().id(), hash(&part["id"]));
            let answer = question.asked().answer(&texts[0]).unwrap();
            assert_eq!(answer.bytes, bytes(&part["bytes"]));
            assert_eq!(answer.siblings, part["siblings"].as_array().unwrap().iter().map(hash).collect::<Vec<_>>());
        }
        assert_eq!(u64::from(number(&case["signedAt"])), commit.document.block);
    }

    #[test]
    fn every_leaf_of_a_fragment_answers_and_no_other_bytes_do() {
        let (commit, holdings, texts, _) = vectors();
        for (place, text) in texts.iter().enumerate() {
            for part in 0..parts_of(holdings[place].bytes) {
                let asked = Question::new(commit.clone(), &holdings, place, (AssetId(1), 0), part).unwrap().asked();
                let good = asked.answer(text).unwrap();
                assert_eq!(asked.answer_from(good.bytes.clone(), good.siblings.clone()), Ok(good.clone()));
                let wrong = Err(CaseError::Bytes { expected: asked.root });
                let mut flipped = good.bytes.clone();
                flipped[0] ^= 1;
                assert_eq!(asked.answer_from(flipped, good.siblings.clone()), wrong);
                let less = good.bytes[..good.bytes.len() - 1].to_vec();
                assert_eq!(asked.answer_from(less, good.siblings.clone()), wrong);
                assert_eq!(asked.answer_from(good.bytes, good.siblings[1..].to_vec()), wrong);
                assert_eq!(asked.answer(&texts[1 - place]), wrong);
            }
        }
    }

    #[test]
    fn what_no_contract_would_take_is_refused_here() {
        let (commit, holdings, ..) = vectors();
        let ask = |holdings: &[HeldFragment], place, part| Question::new(commit.clone(), holdings, place, (AssetId(1), 0), part).map(drop);
        assert_eq!(ask(&holdings, 0, 39), Ok(()));
        assert_eq!(ask(&holdings, 0, 40), Err(CaseError::Part { part: 40, bytes: 40_000, leaves: 40 }));
        assert_eq!(ask(&holdings, 2, 0), Err(CaseError::Place { place: 2, count: 2 }));
        assert!(matches!(ask(&holdings[..1], 0, 0), Err(CaseError::Holdings { .. })));
        let asked = Asked { node: Address([1; 20]), datanet: AssetId(1), contribution: 0, root: Hash32::ZERO, bytes: 0, part: 0 };
        assert_eq!(asked.answer(&[]).map(drop), Err(CaseError::Part { part: 0, bytes: 0, leaves: 0 }));
    }

    #[test]
    fn a_commitment_may_open_a_case_up_to_its_age_and_not_before_its_block() {
        let usable: Vec<_> = [99, 100, 131, 132].map(|latest| is_usable(100, latest, 32)).to_vec();
        // The transaction goes into the block after the latest: 132 is the last one.
        assert_eq!(usable, [false, true, true, false]);
        assert!(!is_usable(u64::MAX, 0, u64::MAX));
    }

    proptest! {
        #[test]
        fn names_of_cases_differ_where_anything_does(node: [u8; 20], datanet: u64, contribution: u32, root: [u8; 32], bytes: u32, part: u32, which in 0..6_usize) {
            let one = Asked { node: Address(node), datanet: AssetId(datanet), contribution, root: Hash32(root), bytes, part };
            let mut other = one;
            match which {
                0 => other.node.0[19] ^= 1,
                1 => other.datanet.0 ^= 1,
                2 => other.contribution ^= 1,
                3 => other.root.0[0] ^= 1,
                4 => other.bytes ^= 1,
                _ => other.part ^= 1,
            }
            prop_assert_ne!(one.id(), other.id());
        }
    }
}
