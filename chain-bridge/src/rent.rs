//! Claims of rent (P8): what a node shows of an audit that it passed, packed as `AuditRent` reads it.
//!
//! Holdings are claimed in parts, aligned pieces of their tree of 64 fragments, so that a claim costs 55 bytes a fragment and one way to the
//! root for all of them; 5,000 fragments are 79 parts. A part in which nobody pays is left out, as is a payer whose charge is not known.

use serde::{Deserialize, Serialize};
use types::{
    audit::{AuditVerdict, HeldFragment, Verdict},
    encoding::Document as _,
    id::{AssetId, Hash32},
    key::Signed,
    merkle::Tree,
};

/// Levels of a part: 64 fragments, which take about 2 million gas.
const PART_LEVELS: usize = 6;

/// Who pays for a fragment: a contribution that names its object, and the charge of its Datanet that the epoch is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payer {
    /// The Datanet.
    pub datanet: AssetId,
    /// Number of the contribution in it.
    pub contribution: u32,
    /// Number of the charge.
    pub period: u32,
}

/// A fragment that the node held, as it stood under the root of holdings, and who pays for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The fragment.
    pub held: HeldFragment,
    /// Nobody: its digest is shown alone.
    pub payer: Option<Payer>,
}

/// What of one epoch's audit is shown in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which aligned part of the tree.
    pub number: u64,
    /// Rows of its leaves, in order.
    pub rows: Vec<u8>,
    /// From its top upwards.
    pub siblings: Vec<Hash32>,
}

/// An audit that a node passed, with all that it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedAudit {
    /// Two verdicts of the same walk by two of the drawn auditors.
    pub verdicts: [Signed<AuditVerdict>; 2],
    /// The node's place on the epoch's roll.
    pub place: u32,
    /// The holdings, in the order of the tree.
    pub entries: Vec<Entry>,
}

/// Why an audit gives no claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Verdicts of different audits, or not passed.
    #[error("the verdicts are not two auditors' that one walk passed: give two verdicts `passed` of one node, epoch, root and nonce")]
    Verdicts,
    /// Other holdings.
    #[error("the fragments lead to the root {got}, the verdicts are about {expected}: give the holdings that were audited")]
    Holdings {
        /// The verdicts' root.
        expected: Hash32,
        /// The entries'.
        got: Hash32,
    },
}

impl PassedAudit {
    /// The parts in which somebody pays.
    ///
    /// # Errors
    /// [`ClaimError`]: what the contract would refuse whoever was drawn.
    pub fn parts(&self) -> Result<Vec<Part>, ClaimError> {
        let [first, second] = [&self.verdicts[0].document, &self.verdicts[1].document];
        let walk = |seen: &AuditVerdict| (seen.node, seen.epoch, seen.holdings, seen.nonce, seen.verdict);
        if walk(first) != walk(second) || first.auditor == second.auditor || first.verdict != Verdict::Passed {
            return Err(ClaimError::Verdicts);
        }
        let leaves: Vec<_> = self.entries.iter().map(|entry| entry.held.leaf()).collect();
        let tree = Tree::over(leaves.iter().map(Vec::as_slice));
        if tree.root() != first.holdings {
            return Err(ClaimError::Holdings { expected: first.holdings, got: tree.root() });
        }
        let depth = usize::try_from(self.entries.len().max(1).next_power_of_two().trailing_zeros()).expect("at most 64");
        let levels = depth.min(PART_LEVELS);
        let paying = |chunk: &&[Entry]| chunk.iter().any(|entry| entry.payer.is_some());
        let chunks = self.entries.chunks(1 << levels).enumerate().filter(|(_, chunk)| paying(chunk));
        Ok(chunks
            .map(|(number, chunk)| Part {
                number: u64::try_from(number).expect("a length is below 2^64"),
                rows: chunk.iter().flat_map(row).collect(),
                siblings: (levels..depth).map(|height| tree.level(height)[(number >> (height - levels)) ^ 1]).collect(),
            })
            .collect())
    }

    /// Bodies and signatures of the verdicts.
    pub fn evidence(&self) -> [(Vec<u8>, Vec<u8>); 2] {
        [&self.verdicts[0], &self.verdicts[1]].map(|seen| (seen.document.encode(), seen.signature.0.to_vec()))
    }
}

fn row(entry: &Entry) -> Vec<u8> {
    let leaf = entry.held.leaf();
    match &entry.payer {
        None => [[0].as_slice(), &types::merkle::leaf(&leaf).0].concat(),
        Some(Payer { datanet, contribution, period }) => {
            let head = [[1].as_slice(), &datanet.0.to_be_bytes(), &contribution.to_be_bytes(), &period.to_be_bytes()].concat();
            // The object follows from the contribution.
            [head, leaf[32..].to_vec()].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use types::{
        audit::{Seat, auditors},
        id::{Address, BlobId},
        key::{Account, Domains, Signed65},
    };

    use super::*;

    fn bytes<const N: usize>(value: &Value) -> [u8; N] {
        hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap().try_into().unwrap()
    }

    fn number<T: TryFrom<u64>>(value: &Value) -> T {
        T::try_from(value.as_u64().unwrap()).ok().unwrap()
    }

    /// The claim of the vectors and what they say of it.
    fn vectors() -> (PassedAudit, Value) {
        let all: Value = serde_json::from_str(include_str!("../../tests/fixtures/storage_vectors.json")).unwrap();
        let claim = &all["audit"]["claim"];
        let at = |name: &str| Address(bytes(&all["contracts"][name]));
        let domains = Domains {
            chain_id: number(&all["chainId"]),
            escrow: at("InferenceEscrow"),
            registry: at("AssetRegistry"),
            settlement: at("Settlement"),
            stake: at("StakeManager"),
        };
        let verdict = |case: &Value| {
            let body = hex::decode(case["body"].as_str().unwrap().trim_start_matches("0x")).unwrap();
            let signed =
                Signed::new(&Account::from_bytes(&bytes(&case["signer"])).unwrap(), &domains, AuditVerdict::decode(&body).unwrap());
            assert_eq!(domains.digest(&signed.document), Hash32(bytes(&case["digest"])));
            assert_eq!(signed.signature, Signed65(bytes(&case["signature"])));
            signed
        };
        let entry = |case: &Value| {
            let held = HeldFragment {
                object: BlobId(bytes(&case["object"])),
                fragment: number(&case["fragment"]),
                fragments: number(&case["fragments"]),
                bytes: number(&case["bytes"]),
                root: Hash32(bytes(&case["root"])),
            };
            assert_eq!(format!("0x{}", hex::encode(held.leaf())), case["leaf"].as_str().unwrap());
            let payer = Payer {
                datanet: AssetId(number(&claim["datanet"])),
                contribution: number(&case["contribution"]),
                period: number(&claim["period"]),
            };
            Entry { held, payer: case["pays"].as_bool().unwrap().then_some(payer) }
        };
        let audit = PassedAudit {
            verdicts: [verdict(&claim["verdicts"][0]), verdict(&claim["verdicts"][1])],
            place: number(&claim["place"]),
            entries: claim["held"].as_array().unwrap().iter().map(entry).collect(),
        };
        (audit, all)
    }

    #[test]
    fn a_claim_and_its_draw_are_those_of_the_vectors() {
        let (audit, all) = vectors();
        let claim = &all["audit"]["claim"];
        let seat = |case: &Value| Seat { node: Address(bytes(&case["node"])), subnet: number(&case["subnet"]) };
        let roll: Vec<_> = claim["roll"].as_array().unwrap().iter().map(seat).collect();
        for (place, drawn) in claim["drawn"].as_array().unwrap().iter().enumerate() {
            let expected: Vec<_> = drawn.as_array().unwrap().iter().map(|auditor| Address(bytes(auditor))).collect();
            assert_eq!(auditors(Hash32(bytes(&all["audit"]["beacon"])), place, &roll), expected);
        }
        // The vectors' parts are of four leaves, ours of up to 64: here one of all five.
        let rows = |part: &Value| part["rows"].as_str().unwrap().trim_start_matches("0x").to_owned();
        let expected: String = claim["parts"].as_array().unwrap().iter().map(rows).collect();
        let parts = audit.parts().unwrap();
        assert_eq!((parts.len(), hex::encode(&parts[0].rows), parts[0].siblings.len()), (1, expected, 0));
    }

    #[test]
    fn parts_are_aligned_pieces_that_lead_to_the_root() {
        let (mut audit, _) = vectors();
        let held = audit.entries[0].held;
        for count in [1_u8, 2, 63, 64, 65, 130, 200] {
            audit.entries =
                (0..count).map(|byte| Entry { held: HeldFragment { object: BlobId([byte; 32]), ..held }, payer: None }).collect();
            let last = audit.entries.len() - 1;
            audit.entries[last].payer = Some(Payer { datanet: AssetId(1), contribution: 2, period: 3 });
            let leaves: Vec<_> = audit.entries.iter().map(|entry| entry.held.leaf()).collect();
            let tree = Tree::over(leaves.iter().map(Vec::as_slice));
            audit.verdicts.iter_mut().for_each(|seen| seen.document.holdings = tree.root());
            let parts = audit.parts().unwrap();
            assert_eq!((parts.len(), parts[0].number), (1, u64::try_from(last / 64).unwrap()), "{count}");
            let (mut top, mut place) = (tree.level(6)[last / 64], parts[0].number);
            for sibling in &parts[0].siblings {
                top = if place & 1 == 0 { types::merkle::node(top, *sibling) } else { types::merkle::node(*sibling, top) };
                place >>= 1;
            }
            assert_eq!((top, place), (tree.top(), 0), "{count}");
            assert_eq!(parts[0].rows.len(), last % 64 * 33 + 55);
        }
    }

    #[test]
    fn what_no_contract_would_pay_is_refused_here() {
        let (audit, _) = vectors();
        let changes: [fn(&mut PassedAudit); 5] = [
            |a| a.verdicts[1] = a.verdicts[0].clone(),
            |a| a.verdicts[1].document.nonce = Hash32::ZERO,
            |a| a.verdicts[0].document.epoch += 1,
            |a| a.verdicts.iter_mut().for_each(|seen| seen.document.verdict = Verdict::Late),
            |a| a.verdicts[0].document.holdings = Hash32::ZERO,
        ];
        for change in changes {
            let mut changed = audit.clone();
            change(&mut changed);
            assert_eq!(changed.parts(), Err(ClaimError::Verdicts));
        }
        let mut less = audit.clone();
        less.entries.pop();
        assert!(matches!(less.parts(), Err(ClaimError::Holdings { .. })));
        let mut unpaid = audit;
        unpaid.entries.iter_mut().for_each(|entry| entry.payer = None);
        assert_eq!(unpaid.parts(), Ok(vec![]));
    }
}
