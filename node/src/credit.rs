//! Credit notes as files: what a node's operator signs, and what its client checks before anything is sent.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attribution::bundle::Bundle;
use serde::{Deserialize, Serialize};
use types::{
    amount::{Amount, AmountError},
    encoding::Document as _,
    id::{Address, Hash32},
    key::{Account, Domains, SignatureError, Signed},
    voucher::{CreditNote, Lane},
};

use crate::{
    data::{Existing, OutError, read_bounded, write_out},
    output::money,
};

/// Largest file read; a note has about a kilobyte.
const FILE_MAX: u64 = 64 << 10;

/// A credit note with what its claim needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditFile {
    /// The deployment it is good in.
    pub domains: Domains,
    /// The lane it gives back of.
    pub lane: Lane,
    /// The note.
    pub note: Signed<CreditNote>,
}

/// What the chain says where a note is claimed.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The chain's block.
    pub block: u64,
    /// Collected on the lane.
    pub collected: Amount,
    /// Given back of it, by other notes and by slashes.
    pub given_back: Amount,
}

/// Why a note is not written or not claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// Of another deployment.
    #[error("the {what} is of chain {got} with escrow {escrow}: give that deployment's registry.json by --registry")]
    Deployment {
        /// Note or receipt.
        what: &'static str,
        /// Its chain.
        got: u64,
        /// Its escrow.
        escrow: Address,
    },
    /// Another node's receipt.
    #[error("the receipt is {got}'s, this wallet is {me}: only the node that was paid can give back")]
    Node {
        /// Who signed the receipt.
        got: Address,
        /// This wallet.
        me: Address,
    },
    /// Not signed by its node.
    #[error("the receipt is not its node's: {0}")]
    Receipt(SignatureError),
    /// Nothing or too much.
    #[error("{} cannot be given back of an answer that cost {}: name more than nothing and at most that", money(*asked), money(*fee))]
    Fee {
        /// What was asked for.
        asked: Amount,
        /// What the answer cost.
        fee: Amount,
    },
    /// The note is for another lane than the one beside it.
    #[error("the note is for lane {got}, the lane in the file is {expected}: the file was put together wrongly")]
    Lane {
        /// What the note says.
        got: Hash32,
        /// What the lane's body gives.
        expected: Hash32,
    },
    /// Somebody else's lane.
    #[error("the note gives back to {payer}, who paid on that lane, this wallet is {me}: only the payer can claim it")]
    Payer {
        /// Who paid.
        payer: Address,
        /// This wallet.
        me: Address,
    },
    /// Not signed by the lane's node.
    #[error("the note is not the node's: {0}")]
    Signature(#[from] SignatureError),
    /// Nothing, or more than the lane had come to.
    #[error("the note gives back {} of {}: it must be more than nothing and at most that", money(*amount), money(*cumulative))]
    Amount {
        /// What it gives back.
        amount: Amount,
        /// What the lane stood at.
        cumulative: Amount,
    },
    /// Too late.
    #[error("the note could be claimed until block {expiry}, the chain is at {block}: ask the node for a new one")]
    Expired {
        /// Its last block.
        expiry: u64,
        /// Now.
        block: u64,
    },
    /// Too early.
    #[error(
        "the note is about {}, the chain has collected {} on the lane: what was not charged needs no credit, wait for the node to collect",
        money(*cumulative), money(*collected)
    )]
    NotCollected {
        /// What the lane must stand at.
        cumulative: Amount,
        /// What it stands at.
        collected: Amount,
    },
    /// More than the lane brought in.
    #[error(
        "{} of the lane was given back, with this note's {} it would be more than the {} that was collected on it",
        money(*given_back), money(*amount), money(*collected)
    )]
    AboveCollected {
        /// What it gives back.
        amount: Amount,
        /// What was given back before.
        given_back: Amount,
        /// What was collected.
        collected: Amount,
    },
    /// There is a note on this answer.
    #[error(
        "a note over {} on this answer was signed before, good until block {expiry}: an answer has one note, a second one could never be claimed; the same command without --amount writes the first one again",
        money(*first)
    )]
    Signed {
        /// What the first gives back.
        first: Amount,
        /// Its last block.
        expiry: u64,
    },
    /// A note on this answer was claimed, and it is not here.
    #[error("a note on this answer was claimed already, and it was not signed from this data folder: an answer has one note")]
    Claimed,
    /// Another note on this answer was claimed.
    #[error(
        "another note on this answer, over {}, was claimed before: an answer is credited once, this note over {} is good for nothing; `tributary claim --credit` with the first one tells whether it was paid",
        money(*first), money(*amount)
    )]
    Second {
        /// What was claimed.
        first: Amount,
        /// What this one says.
        amount: Amount,
    },
    /// A sum does not fit.
    #[error(transparent)]
    Sum(#[from] AmountError),
}

impl CreditFile {
    /// Signs a note that gives back `amount` of what the bundle's answer cost, to be claimed until block `expiry`.
    ///
    /// # Errors
    /// [`CreditError`].
    pub fn sign(account: &Account, domains: &Domains, bundle: &Bundle, amount: Amount, expiry: u64) -> Result<Self, CreditError> {
        let receipt = &bundle.receipt.document;
        if bundle.domains != *domains {
            return Err(CreditError::Deployment { what: "receipt", got: bundle.domains.chain_id, escrow: bundle.domains.escrow });
        }
        let me = account.address();
        if receipt.node != me {
            return Err(CreditError::Node { got: receipt.node, me });
        }
        bundle.receipt.verify(domains, me).map_err(CreditError::Receipt)?;
        let lane = bundle.lane.document;
        if receipt.lane != lane.id() {
            return Err(CreditError::Lane { got: receipt.lane, expected: lane.id() });
        }
        if amount == Amount::ZERO || amount > receipt.fee {
            return Err(CreditError::Fee { asked: amount, fee: receipt.fee });
        }
        let note = CreditNote { lane: lane.id(), request: receipt.request, cumulative: receipt.cumulative_after, amount, expiry };
        Ok(Self { domains: *domains, lane, note: Signed::new(account, domains, note) })
    }

    /// Reads one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = read_bounded(path, FILE_MAX).with_context(|| format!("{}: cannot be read", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no credit note as `tributary refund` writes it", path.display()))
    }

    /// Whether it is `me`'s in this deployment and signed by the lane's node, whatever the chain says of it.
    ///
    /// # Errors
    /// [`CreditError`].
    pub fn check(&self, domains: &Domains, me: Address) -> Result<(), CreditError> {
        let note = &self.note.document;
        if self.domains != *domains {
            return Err(CreditError::Deployment { what: "note", got: self.domains.chain_id, escrow: self.domains.escrow });
        }
        if note.lane != self.lane.id() {
            return Err(CreditError::Lane { got: note.lane, expected: self.lane.id() });
        }
        if self.lane.payer != me {
            return Err(CreditError::Payer { payer: self.lane.payer, me });
        }
        self.note.verify(domains, self.lane.node)?;
        if note.amount == Amount::ZERO || note.amount > note.cumulative {
            return Err(CreditError::Amount { amount: note.amount, cumulative: note.cumulative });
        }
        Ok(())
    }

    /// Whether the escrow would take its claim now.
    ///
    /// # Errors
    /// [`CreditError`].
    pub fn check_claim(&self, facts: Facts) -> Result<(), CreditError> {
        let note = &self.note.document;
        if facts.block > note.expiry {
            return Err(CreditError::Expired { expiry: note.expiry, block: facts.block });
        }
        if facts.collected < note.cumulative {
            return Err(CreditError::NotCollected { cumulative: note.cumulative, collected: facts.collected });
        }
        if facts.given_back.plus(note.amount)? > facts.collected {
            return Err(CreditError::AboveCollected { amount: note.amount, given_back: facts.given_back, collected: facts.collected });
        }
        Ok(())
    }

    /// The note's hash: what two parties can name it by.
    pub fn hash(&self) -> Hash32 {
        self.note.document.hash()
    }
}

/// Credit notes in a data folder: one per answer that a node signed, one per answer that a client claimed.
#[derive(Debug, Clone)]
pub struct Notes(PathBuf);

/// Which side kept a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The node that signed it.
    Signed,
    /// The client that claimed it.
    Claimed,
}

impl Notes {
    /// Those in `folder`, which need not exist.
    pub const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn path(&self, side: Side, lane: Hash32, request: Hash32) -> PathBuf {
        let side = match side {
            Side::Signed => "signed",
            Side::Claimed => "claimed",
        };
        self.0.join(format!("{side}-{}-{}.json", hex::encode(lane.0), hex::encode(request.0)))
    }

    /// The note on an answer, if there is one.
    pub fn of(&self, side: Side, lane: Hash32, request: Hash32) -> anyhow::Result<Option<CreditFile>> {
        let path = self.path(side, lane, request);
        if path.try_exists().with_context(|| path.display().to_string())? { CreditFile::read(&path).map(Some) } else { Ok(None) }
    }

    /// Keeps a note, on disk when this returns; with [`Existing::Keep`] the first one stays and is returned.
    pub fn keep(&self, side: Side, file: &CreditFile, existing: Existing) -> anyhow::Result<CreditFile> {
        let (lane, request) = (file.note.document.lane, file.note.document.request);
        match write_out(&self.path(side, lane, request), &serde_json::to_vec_pretty(file)?, 0o600, existing) {
            Ok(()) => Ok(file.clone()),
            Err(OutError::Exists(path)) => CreditFile::read(&path),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { block: 50, collected: Amount(900), given_back: Amount(300) };

    fn domains() -> Domains {
        Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
    }

    fn account(byte: u8) -> Account {
        Account::from_bytes(&[byte; 32]).unwrap()
    }

    /// A note of node 1 to payer 2, changed before it is signed by `signer`.
    fn file(signer: u8, change: impl FnOnce(&mut CreditNote)) -> CreditFile {
        let lane = Lane { payer: account(2).address(), node: account(1).address(), cap: Amount(1_000), expiry: 99, nonce: 5 };
        let mut note = CreditNote { lane: lane.id(), request: Hash32([7; 32]), cumulative: Amount(800), amount: Amount(600), expiry: 50 };
        change(&mut note);
        CreditFile { domains: domains(), lane, note: Signed::new(&account(signer), &domains(), note) }
    }

    fn check(file: &CreditFile, facts: Facts) -> Result<(), CreditError> {
        file.check(&domains(), account(2).address())?;
        file.check_claim(facts)
    }

    #[test]
    fn a_note_is_claimed_by_its_payer_up_to_the_last_block_and_the_last_wei() {
        assert_eq!(check(&file(1, |_| {}), FACTS), Ok(()));
    }

    #[test]
    fn a_note_that_the_escrow_would_refuse_is_refused_in_words_before_anything_is_sent() {
        let refused = |words: &str, file: &CreditFile, facts| {
            let error = check(file, facts).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        };
        refused("is for lane", &file(1, |note| note.lane.0[0] ^= 1), FACTS);
        refused("is not the node's", &file(3, |_| {}), FACTS);
        let mut forged = file(1, |_| {});
        forged.note.document.amount.0 += 1;
        refused("is not the node's", &forged, FACTS);
        refused("gives back 0 OPEN", &file(1, |note| note.amount = Amount::ZERO), FACTS);
        refused("gives back 0.000000000000000801 OPEN", &file(1, |note| note.amount = Amount(801)), FACTS);
        refused("until block 49", &file(1, |note| note.expiry = 49), FACTS);
        refused(
            "has collected 0.000000000000000799 OPEN",
            &file(1, |_| {}),
            Facts { collected: Amount(799), given_back: Amount::ZERO, ..FACTS },
        );
        refused("more than the 0.0000000000000009 OPEN", &file(1, |_| {}), Facts { given_back: Amount(301), ..FACTS });
        let mut elsewhere = file(1, |_| {});
        elsewhere.domains.chain_id = 9;
        refused("of chain 9", &elsewhere, FACTS);
        let stranger = file(1, |_| {}).check(&domains(), account(9).address()).unwrap_err();
        assert!(stranger.to_string().contains("only the payer can claim it"), "{stranger}");
    }

    #[test]
    fn an_answer_has_one_note_on_each_side_and_the_first_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::new(folder.path().join("credits"));
        let (first, second) = (file(1, |_| {}), file(1, |note| note.amount = Amount(5)));
        let (lane, request) = (first.lane.id(), first.note.document.request);
        assert_eq!(notes.of(Side::Signed, lane, request).unwrap(), None);
        assert_eq!(notes.keep(Side::Signed, &first, Existing::Keep).unwrap(), first);
        assert_eq!(notes.keep(Side::Signed, &second, Existing::Keep).unwrap(), first);
        assert_eq!(notes.of(Side::Signed, lane, request).unwrap().as_ref(), Some(&first));
        assert_eq!(notes.of(Side::Claimed, lane, request).unwrap(), None);
        // The first one has expired and was never claimed.
        assert_eq!(notes.keep(Side::Signed, &second, Existing::Replace).unwrap(), second);
        let other = file(1, |note| note.request = Hash32([8; 32]));
        assert_eq!(notes.keep(Side::Signed, &other, Existing::Keep).unwrap(), other);
    }

    #[test]
    fn a_file_comes_back_and_another_one_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note.json");
        std::fs::write(&path, serde_json::to_vec(&file(1, |_| {})).unwrap()).unwrap();
        assert_eq!(CreditFile::read(&path).unwrap(), file(1, |_| {}));
        std::fs::write(&path, "{}").unwrap();
        assert!(format!("{:#}", CreditFile::read(&path).unwrap_err()).contains("no credit note"));
    }
}
