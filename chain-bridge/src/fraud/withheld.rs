//! F7 without the poster's lines: what is asked for on the chain until what was shown proves the payout wrong.
//!
//! Who is challenged for a leaf or a part shows it with its siblings, or loses the payout. Beside the tree that the receipts give, the siblings of a
//! leaf say in which half the posted one differs, so a wrong leaf among n is found in at most log2(n) + 1 answers; where the
//! trees count differently the accounts themselves are halved. The same again among the parts of that leaf: 31 answers for 10,000 payees with
//! 100,000 parts each. Everything is derived from the answers anew each time, so that a restart forgets nothing.
//!
//! What no proof shows (a line without money, a receipt that is not at hand) hides no fault beside it: it is taken over into what is expected, and the
//! search goes on, up to [`ADOPTED_MAX`] times.

mod absence;
mod answers;
mod compare;

use types::{
    amount::Amount,
    id::Address,
    merkle::{SumTree, Summed},
    payout::{PartLeaf, PayoutLeaf, parts_root},
};

pub use self::{
    absence::{Sought, absence},
    answers::Answers,
};
use self::{
    answers::{ALONE_BYTES, HEAD_BYTES, LEAF_BYTES, head_of},
    compare::{Spot, compare},
};
use super::{
    challenge::asked_leaf,
    pack::Packer,
    payout::{PayoutMode, PayoutProof, Row, Shown},
    search::{self, Receipts, SearchError, prove_missing, prove_wrong},
};
use crate::registry::State;

/// Differences without a proof that are passed over in search of one with it; each took its answers, so that the questions end first.
const ADOPTED_MAX: usize = 256;

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// A leaf by its place.
    Leaf(u64),
    /// A part of a leaf by their places.
    Part {
        /// The leaf.
        leaf: u64,
        /// Whose it is.
        account: Address,
        /// The part.
        index: u64,
    },
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A question; for a part with the leaf as it is opened.
    Ask(Question, Vec<u8>),
    /// What was shown proves the payout wrong.
    Proof(PayoutProof),
    /// Nothing more can be asked or proven, and why.
    Nothing(String),
}

/// A posted payout that nobody shows beside what it should be.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The chain's books.
    pub state: &'a State,
    /// The epoch whose payout is pending.
    pub epoch: u64,
    /// What the receipts give.
    pub expected: &'a Shown,
    /// The last final tree; nothing before the first.
    pub last: Option<&'a Shown>,
    /// The receipts of the epoch, and those of epochs before as far as they are at hand: they bound refunds.
    pub receipts: &'a Receipts,
}

impl<'a> Case<'a> {
    /// The same question where the posted tree is known.
    const fn with(&self, posted: &'a Shown) -> search::Case<'a> {
        let Self { state, epoch, expected, last, receipts } = *self;
        search::Case { state, epoch, posted, last, expected, receipts }
    }
}

/// The next step for one difference: nothing where no proof shows it.
type Found = Result<Option<Next>, String>;

const SAME: &str = "what was shown of the tree differs from what the receipts give in nothing that can be proven";

/// What to ask for, or what is proven, by all that was shown so far.
///
/// # Errors
/// [`SearchError::NotPosted`].
pub fn next(case: &Case<'_>, answers: &Answers) -> Result<Next, SearchError> {
    let posted = case.state.epoch(case.epoch).and_then(|epoch| epoch.payout).ok_or(SearchError::NotPosted(case.epoch))?;
    if answers.is_empty {
        return Ok(of_nothing(case));
    }
    if let Some((leaf, opening)) = answers.leaves.values().next()
        && let Some((total, head)) = head_of(leaf.summed(), opening)
        && total != posted.total
    {
        return Ok(proof(PayoutMode::Head, Packer::new().raw(&head)));
    }
    Ok(among_leaves(case, answers).unwrap_or_else(Next::Nothing))
}

/// The posted tree is empty: all of it is known.
fn of_nothing(case: &Case<'_>) -> Next {
    let Ok(empty) = Shown::new(Vec::new()) else { return Next::Nothing(SAME.to_owned()) };
    match search::first_fault(&case.with(&empty)) {
        Ok(Some(proof)) => Next::Proof(proof),
        Ok(None) => Next::Nothing(SAME.to_owned()),
        Err(error) => Next::Nothing(error.to_string()),
    }
}

fn among_leaves(case: &Case<'_>, answers: &Answers) -> Result<Next, String> {
    let leaves = case.expected.leaves().iter().filter_map(Row::leaf);
    let mut rows: Vec<(Address, Summed)> = leaves.map(|leaf| (leaf.account, leaf.summed())).collect();
    let shown = |place: u64| answers.leaves.get(&place).map(|(leaf, opening)| (leaf.account, leaf.summed(), opening));
    let row = |place: u64| shown(place).map(|(account, summed, _)| (account, summed)).ok_or("a leaf was not shown");
    for _ in 0..ADOPTED_MAX {
        match compare(&rows, &tree_of(&rows)?, shown) {
            Spot::Ask(place) => return Ok(Next::Ask(Question::Leaf(place), Vec::new())),
            Spot::Filler(place) => {
                let (leaf, opening) = answers.leaves.get(&place).ok_or("a leaf was not shown")?;
                let packer = Packer::new().blob(&leaf.encode()).raw(&leaf.cumulative.0.to_be_bytes()).sum_opening(opening);
                return Ok(proof(PayoutMode::LeafForm, packer));
            }
            Spot::Disordered(place) => {
                let packed = answers.pack_leaf(Packer::new(), place).and_then(|packer| answers.pack_leaf(packer, place + 1));
                return Ok(proof(PayoutMode::LeafOrder, packed.ok_or("a leaf was not shown")?));
            }
            Spot::Differs(place) => match in_leaf(case, answers, place)? {
                Some(next) => return Ok(next),
                None => rows[in_memory(place)] = row(place)?,
            },
            Spot::Foreign(place) => match in_leaf(case, answers, place)? {
                Some(next) => return Ok(next),
                None => rows.insert(in_memory(place), row(place)?),
            },
            Spot::Missing { expected, before, after } => {
                let absence = |packer: Packer| put_absence(packer, before, after, |packer, place| answers.pack_leaf(packer, place));
                match dropped(case, rows[expected].0, absence) {
                    Some(next) => return Ok(next),
                    None => drop(rows.remove(expected)),
                }
            }
            Spot::Same => return Err(SAME.to_owned()),
        }
    }
    Err(format!("{ADOPTED_MAX} differences were found that no proof shows"))
}

fn tree_of<K>(rows: &[(K, Summed)]) -> Result<SumTree, String> {
    SumTree::new(rows.iter().map(|(_, summed)| *summed).collect()).map_err(|error| error.to_string())
}

/// A place that a comparison gave: at most one beyond the rows in memory.
fn in_memory(place: u64) -> usize {
    usize::try_from(place).expect("a place among rows in memory")
}

/// The line of an account is missing.
fn dropped(case: &Case<'_>, account: Address, absence: impl Fn(Packer) -> Option<Packer>) -> Option<Next> {
    let there = case.last.and_then(|last| Some((last, last.line(account)?.0)));
    let Some((last, place)) = there else {
        let parts = parts_of(case.expected, account);
        return parts.iter().find_map(|part| missing(case, account, part, |packer| absence(packer.u8(0))));
    };
    Some(proof(PayoutMode::Dropped, absence(Packer::new().raw(&asked_leaf(last, place)?))?))
}

/// The parts of an account's line; none if it has no line.
fn parts_of(tree: &Shown, account: Address) -> Vec<PartLeaf> {
    let rows = tree.line(account).map_or(&[][..], |(place, _)| tree.parts(place));
    rows.iter().filter_map(Row::part).collect()
}

/// A leaf that was shown is not the expected one, or none is expected.
fn in_leaf(case: &Case<'_>, answers: &Answers, place: u64) -> Found {
    let (leaf, opening) = answers.leaves.get(&place).ok_or("a leaf was not shown")?;
    let packed = || Packer::new().raw(&leaf.encode()).sum_opening(opening);
    let before = case.last.and_then(|last| last.line(leaf.account));
    if before.map_or(Amount::ZERO, |(_, before)| before.cumulative) != leaf.previous {
        let known = match (case.last, before) {
            (Some(last), Some((place, _))) => asked_leaf(last, place).map(|leaf| packed().u8(1).raw(&leaf)),
            (Some(last), None) => last.absence(leaf.account).map(|absence| packed().u8(0).raw(&absence)),
            (None, _) => Some(packed().u8(0)),
        };
        return Ok(known.map(|known| proof(PayoutMode::Previous, known)));
    }
    let wanted = parts_of(case.expected, leaf.account);
    if parts_root(&[]).is_ok_and(|(root, _)| root == leaf.parts) {
        return Ok(without_parts(case, leaf, &wanted, packed));
    }
    let ask = |index| Next::Ask(Question::Part { leaf: place, account: leaf.account, index }, packed().finish());
    let Some((_, (part, way))) = answers.parts.get(&place).and_then(|parts| parts.first_key_value()) else { return Ok(Some(ask(0))) };
    let (total, head) = head_of(part.summed(), way).ok_or("the sums of a parts tree do not fit")?;
    if leaf.previous.plus(total) != Ok(leaf.cumulative) {
        return Ok(Some(proof(PayoutMode::Sum, packed().raw(&head))));
    }
    among_parts(case, answers, (place, leaf.account), wanted, packed, ask)
}

/// A leaf was shown that has no parts: each one that it should have is missing.
fn without_parts(case: &Case<'_>, leaf: &PayoutLeaf, wanted: &[PartLeaf], packed: impl Fn() -> Packer) -> Option<Next> {
    let empty = SumTree::new(Vec::new()).ok()?;
    if leaf.previous != leaf.cumulative {
        return Some(proof(PayoutMode::Sum, packed().sum_head(0, &empty)));
    }
    let no_part = |packer: Packer| Some(packer.u8(1).raw(&packed().finish()).u8(0).sum_head(0, &empty));
    wanted.iter().find_map(|part| missing(case, leaf.account, part, no_part))
}

fn among_parts(
    case: &Case<'_>,
    answers: &Answers,
    (place, account): (u64, Address),
    mut wanted: Vec<PartLeaf>,
    packed: impl Fn() -> Packer,
    ask: impl Fn(u64) -> Next,
) -> Found {
    let shown = |index: u64| answers.part(place, index).map(|(part, way)| (part.place(), part.summed(), way));
    for _ in 0..ADOPTED_MAX {
        let rows: Vec<_> = wanted.iter().map(|part| (part.place(), part.summed())).collect();
        let spot = compare(&rows, &tree_of(&rows)?, shown);
        match spot {
            Spot::Ask(index) => return Ok(Some(ask(index))),
            Spot::Filler(index) => {
                let (part, way) = answers.part(place, index).ok_or("a part was not shown")?;
                let packer = packed().blob(&part.encode()).raw(&part.amount.0.to_be_bytes()).sum_opening(way);
                return Ok(Some(proof(PayoutMode::PartForm, packer)));
            }
            Spot::Disordered(index) => {
                let packed = answers.pack_part(packed(), place, index).and_then(|packer| answers.pack_part(packer, place, index + 1));
                return Ok(Some(proof(PayoutMode::PartOrder, packed.ok_or("a part was not shown")?)));
            }
            Spot::Differs(index) | Spot::Foreign(index) => {
                let (part, _) = answers.part(place, index).ok_or("a part was not shown")?;
                let opened = answers.pack_part(packed(), place, index).ok_or("a part was not shown")?;
                if let Some(next) = wrong(case, account, part, &opened) {
                    return Ok(Some(next));
                }
                match spot {
                    Spot::Differs(_) => wanted[in_memory(index)] = *part,
                    _ => wanted.insert(in_memory(index), *part),
                }
            }
            Spot::Missing { expected, before, after } => {
                let no_part = |packer: Packer| {
                    let packer = packer.u8(1).raw(&packed().finish());
                    put_absence(packer, before, after, |packer, index| answers.pack_part(packer, place, index))
                };
                match missing(case, account, &wanted[expected], no_part) {
                    Some(next) => return Ok(Some(next)),
                    None => drop(wanted.remove(expected)),
                }
            }
            Spot::Same => return Ok(None),
        }
    }
    Err(format!("{ADOPTED_MAX} parts of {account} differ that no proof shows"))
}

/// A part that the receipts do not give, behind its opening in `opened`.
fn wrong(case: &Case<'_>, account: Address, part: &PartLeaf, opened: &Packer) -> Option<Next> {
    // The same part alone in a tree: what follows its opening is what the mode opens behind it.
    let (root, _) = parts_root(std::slice::from_ref(part)).ok()?;
    let leaf = PayoutLeaf { account, previous: Amount::ZERO, cumulative: part.amount, parts: root };
    let alone = Shown::of([(&leaf, std::slice::from_ref(part))]).ok()?;
    let found = prove_wrong(&case.with(&alone), (0, 0), account, part).ok()??;
    let behind = LEAF_BYTES + ALONE_BYTES + 4 + part.encode().len() + ALONE_BYTES;
    Some(proof(found.mode, opened.clone().raw(found.evidence.get(behind..)?)))
}

/// A part that the receipts give and that is not there, which `no_part` opens.
fn missing(case: &Case<'_>, account: Address, part: &PartLeaf, no_part: impl Fn(Packer) -> Option<Packer>) -> Option<Next> {
    // Of a tree that has nothing, the absence is a code, no neighbours and a head: what was shown stands in its place.
    let nothing = Shown::new(Vec::new()).ok()?;
    let found = prove_missing(&case.with(&nothing), account, part).ok()??;
    let kept = found.evidence.len().checked_sub(2 + HEAD_BYTES)?;
    Some(proof(found.mode, no_part(Packer::new().raw(&found.evidence[..kept]))?))
}

/// Neighbours of what is not there: in a tree that has leaves there is at least one.
fn put_absence(packer: Packer, before: Option<u64>, after: Option<u64>, put: impl Fn(Packer, u64) -> Option<Packer>) -> Option<Packer> {
    let packer = packer.u8(u8::from(before.is_some()) | u8::from(after.is_some()) << 1);
    let packer = match before {
        Some(place) => put(packer, place)?,
        None => packer,
    };
    match after {
        Some(place) => put(packer, place),
        None => Some(packer),
    }
}

fn proof(mode: PayoutMode, packer: Packer) -> Next {
    Next::Proof(PayoutProof { mode, evidence: packer.finish() })
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests;
