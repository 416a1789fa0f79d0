//! F7 without the poster's lines: what is asked for on the chain until what was shown proves the payout wrong.
//!
//! Who is challenged for a leaf or a part shows it with its siblings, or loses the payout. Beside the tree that the receipts give, the siblings of a
//! leaf say in which half the posted one differs, so a wrong leaf among n is found in at most log2(n) + 1 answers; where the
//! trees count differently the accounts themselves are halved. The same again among the parts of that leaf: 31 answers for 10,000 payees with
//! 100,000 parts each. Everything is derived from the answers anew each time, so that a restart forgets nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use attribution::epoch::Payout;
use chain_bridge::{
    fraud::{
        challenge::asked_leaf,
        pack::Packer,
        payout::{Against, Billed, Opened, PayoutMode, PayoutProof, Shown, is_refund, read_leaf, read_part},
        search::{Bodies, Receipts, root_of, tree_of},
    },
    registry::State,
};
use types::{
    amount::Amount,
    encoding::{Document as _, Reader},
    id::{Address, Hash32},
    merkle::{SumOpening, SumTree, Summed, keccak},
    payout::{PartLeaf, PayoutLeaf, parts_tree, payout_tree},
    receipt::Receipt,
};

use super::search::shown_tree;

/// Bytes of a sum tree's head: count, total, top.
const HEAD_BYTES: usize = 8 + 16 + 32;
/// Bytes of an opening in a tree of one leaf.
const ALONE_BYTES: usize = 16;
/// Bytes of a leaf's body.
const LEAF_BYTES: usize = 84;

/// What a poster showed of its tree.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    is_empty: bool,
    leaves: BTreeMap<u64, (PayoutLeaf, SumOpening)>,
    parts: BTreeMap<u64, BTreeMap<u64, (PartLeaf, SumOpening)>>,
    /// Leaves that were shown to have no parts.
    bare: BTreeSet<u64>,
}

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
    /// The tree is empty: all of it is known.
    Empty,
    /// Nothing more can be asked or proven, and why.
    Nothing(&'static str),
}

/// A posted payout that nobody shows beside what it should be.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The chain's books.
    pub state: &'a State,
    /// The epoch whose payout is pending.
    pub epoch: u64,
    /// What the receipts give.
    pub expected: &'a Payout,
    /// The last final tree; nothing before the first.
    pub last: Option<&'a Payout>,
    /// The receipts of the epoch.
    pub receipts: &'a Receipts,
}

fn opening(reader: &mut Reader<'_>) -> anyhow::Result<SumOpening> {
    let (leaves, index) = (reader.u64("leaves")?, reader.u64("index")?);
    let depth = leaves.max(1).checked_next_power_of_two().context("more leaves than any tree has")?.trailing_zeros();
    let mut siblings = Vec::new();
    for _ in 0..depth {
        siblings.push(Summed { digest: reader.hash("sibling")?, sum: reader.amount("sum")? });
    }
    Ok(SumOpening { leaves, index, siblings })
}

impl Answers {
    /// Takes what was shown on the chain; what is of another tree than `posted` is left out.
    ///
    /// # Errors
    /// If the bytes are none that the contract takes.
    pub fn take(&mut self, evidence: &[u8], posted: Hash32) -> anyhow::Result<()> {
        if evidence.len() == HEAD_BYTES {
            self.is_empty |= keccak(&[&[3], evidence]) == posted;
            return Ok(());
        }
        let (body, rest) = evidence.split_at_checked(LEAF_BYTES).context("a leaf has 84 bytes")?;
        let leaf = read_leaf(body).context("the bytes are no leaf")?;
        let mut reader = Reader::new(rest);
        let place = opening(&mut reader)?;
        if place.root(leaf.summed()).is_none_or(|(root, _)| root != posted) {
            return Ok(());
        }
        let used = ALONE_BYTES + 48 * place.siblings.len();
        let rest = rest.get(used..).context("the leaf's opening is cut")?;
        let at = place.index;
        self.leaves.insert(at, (leaf, place));
        match rest.len() {
            0 => {}
            HEAD_BYTES => {
                self.bare.insert(at);
            }
            _ => {
                let length = rest.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)).context("a part has a length")?;
                let end = usize::try_from(length)?.checked_add(4).context("a part is shorter")?;
                let part = rest.get(4..end).and_then(read_part).context("the bytes are no part")?;
                let place = opening(&mut Reader::new(&rest[end..]))?;
                if place.root(part.summed()).is_some_and(|(root, _)| root == leaf.parts) {
                    self.parts.entry(at).or_default().insert(place.index, (part, place));
                }
            }
        }
        Ok(())
    }

    fn pack_leaf(&self, packer: Packer, place: u64) -> Option<Packer> {
        let (leaf, opening) = self.leaves.get(&place)?;
        Some(packer.raw(&leaf.encode()).sum_opening(opening))
    }

    fn pack_part(&self, packer: Packer, leaf: u64, place: u64) -> Option<Packer> {
        let (part, opening) = self.parts.get(&leaf)?.get(&place)?;
        Some(packer.blob(&part.encode()).sum_opening(opening))
    }
}

/// Where a tree that is shown leaf by leaf is not the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// More must be shown to say so.
    Ask(u64),
    /// The leaf has the expected key and another content.
    Differs(u64),
    /// There is something beyond the leaves, which this one's siblings show.
    Filler(u64),
    /// The leaf and the next one do not ascend.
    Disordered(u64),
    /// No leaf with this key is expected.
    Foreign(u64),
    /// An expected leaf is not there: its place, and the leaves that stand before and behind where it should be.
    Missing { expected: usize, before: Option<u64>, after: Option<u64> },
    /// It is the expected one.
    Same,
}

/// Compares trees whose leaves ascend by a key.
fn compare<K: Ord + Copy>(expected: &[(K, Summed)], tree: &SumTree, shown: impl Fn(u64) -> Option<(K, Summed, SumOpening)>) -> Spot {
    let Some((_, _, first)) = shown(0) else { return Spot::Ask(0) };
    let (count, length) = (first.leaves, u64::try_from(expected.len()).unwrap_or(u64::MAX));
    let at = |place: u64| usize::try_from(place).ok().and_then(|place| expected.get(place));
    let mut unequal = count.min(length);
    if count == length {
        match descend(count, tree, at, &shown) {
            Descent::Ends(spot) => return spot,
            Descent::OtherKey(place) => unequal = place,
        }
    }
    // Up to `equal` the keys are the expected ones there, at `unequal` they are not or one of both trees has ended.
    let mut equal: Option<u64> = None;
    loop {
        let from = equal.map_or(0, |place| place + 1);
        if from == unequal {
            break;
        }
        let middle = from + (unequal - from) / 2;
        let Some((key, ..)) = shown(middle) else { return Spot::Ask(middle) };
        if at(middle).is_some_and(|(expected, _)| *expected == key) {
            equal = Some(middle);
        } else {
            unequal = middle;
        }
    }
    let before = match equal.map(|place| (place, shown(place))) {
        Some((place, None)) => return Spot::Ask(place),
        Some((place, Some((key, ..)))) => Some((place, key)),
        None => None,
    };
    let here = match (unequal < count).then(|| shown(unequal)) {
        Some(None) => return Spot::Ask(unequal),
        Some(Some((key, ..))) => Some(key),
        None => None,
    };
    match (before, here, at(unequal)) {
        (Some((place, before)), Some(key), _) if key <= before => Spot::Disordered(place),
        (_, Some(key), Some((wanted, _))) if key > *wanted => {
            Spot::Missing { expected: usize::try_from(unequal).unwrap_or(usize::MAX), before: equal, after: Some(unequal) }
        }
        (_, None, Some(_)) => Spot::Missing { expected: usize::try_from(unequal).unwrap_or(usize::MAX), before: equal, after: None },
        (_, Some(_), _) => Spot::Foreign(unequal),
        (_, None, None) => Spot::Same,
    }
}

enum Descent {
    Ends(Spot),
    OtherKey(u64),
}

/// Of two trees of one shape: down to a leaf that differs, by the lowest sibling that does.
fn descend<'e, K: Ord + Copy + 'e>(
    count: u64,
    tree: &SumTree,
    at: impl Fn(u64) -> Option<&'e (K, Summed)>,
    shown: &impl Fn(u64) -> Option<(K, Summed, SumOpening)>,
) -> Descent {
    let mut place = 0;
    loop {
        let Some((key, summed, opening)) = shown(place) else { return Descent::Ends(Spot::Ask(place)) };
        let (Some((wanted, expected)), Some(way)) = (at(place), tree.open(place)) else { return Descent::Ends(Spot::Same) };
        if summed != *expected {
            return if key == *wanted { Descent::Ends(Spot::Differs(place)) } else { Descent::OtherKey(place) };
        }
        let differs = opening.siblings.iter().zip(&way.siblings).position(|(shown, expected)| shown != expected);
        let Some(level) = differs else { return Descent::Ends(Spot::Same) };
        let next = ((place >> level) ^ 1) << level;
        if next >= count {
            return Descent::Ends(Spot::Filler(place));
        }
        place = next;
    }
}

/// Count, total and top of the tree that an opening leads to, packed.
fn head_of(leaf: Summed, opening: &SumOpening) -> (Amount, Vec<u8>) {
    let top = opening.siblings.iter().enumerate().fold(leaf, |own, (level, sibling)| {
        let (left, right) = if opening.index >> level & 1 == 0 { (own, *sibling) } else { (*sibling, own) };
        let digest = keccak(&[&[1], &left.digest.0, &left.sum.0.to_be_bytes(), &right.digest.0, &right.sum.0.to_be_bytes()]);
        Summed { digest, sum: Amount(left.sum.0.saturating_add(right.sum.0)) }
    });
    let packed = Packer::new().u64(opening.leaves).raw(&top.sum.0.to_be_bytes()).raw(&top.digest.0);
    (top.sum, packed.finish())
}

/// Neighbours of what is not there: in a tree that has leaves there is at least one.
fn put_absence(packer: Packer, before: Option<u64>, after: Option<u64>, put: impl Fn(Packer, u64) -> Option<Packer>) -> Option<Packer> {
    let packer = packer.u8(u8::from(before.is_some()) | u8::from(after.is_some()) << 1);
    let packer = before.map_or_else(|| Some(packer.clone()), |place| put(packer.clone(), place))?;
    after.map_or_else(|| Some(packer.clone()), |place| put(packer.clone(), place))
}

fn proof(mode: PayoutMode, packer: Option<Packer>) -> Next {
    packer.map_or(Next::Nothing("a proof could not be opened"), |packer| Next::Proof(PayoutProof { mode, evidence: packer.finish() }))
}

/// What to ask for, or what is proven, by all that was shown so far.
///
/// # Errors
/// If the expected trees do not sum.
pub fn next(case: &Case<'_>, answers: &Answers) -> anyhow::Result<Next> {
    if answers.is_empty {
        return Ok(Next::Empty);
    }
    let posted = case.state.epoch(case.epoch).and_then(|epoch| epoch.payout).context("no payout is pending there")?;
    if let Some((leaf, opening)) = answers.leaves.values().next() {
        let (total, head) = head_of(leaf.summed(), opening);
        if total != posted.total {
            return Ok(proof(PayoutMode::Head, Some(Packer::new().raw(&head))));
        }
    }
    let leaves = case.expected.leaves();
    let expected: Vec<_> = leaves.iter().map(|leaf| (leaf.account, leaf.summed())).collect();
    let shown = |place: u64| answers.leaves.get(&place).map(|(leaf, opening)| (leaf.account, leaf.summed(), opening.clone()));
    Ok(match compare(&expected, &payout_tree(leaves)?, shown) {
        Spot::Ask(place) => Next::Ask(Question::Leaf(place), Vec::new()),
        Spot::Filler(place) => {
            let packed = answers
                .leaves
                .get(&place)
                .map(|(leaf, opening)| Packer::new().blob(&leaf.encode()).raw(&leaf.cumulative.0.to_be_bytes()).sum_opening(opening));
            proof(PayoutMode::LeafForm, packed)
        }
        Spot::Disordered(place) => {
            let packed = answers.pack_leaf(Packer::new(), place).and_then(|packer| answers.pack_leaf(packer, place + 1));
            proof(PayoutMode::LeafOrder, packed)
        }
        Spot::Differs(place) | Spot::Foreign(place) => in_leaf(case, answers, place)?,
        Spot::Missing { expected, before, after } => {
            let absence = |packer: Packer| put_absence(packer, before, after, |packer, place| answers.pack_leaf(packer, place));
            dropped(case, expected, absence)?
        }
        Spot::Same => Next::Nothing("the tree shown is the one that the receipts give"),
    })
}

/// An expected line is missing.
fn dropped(case: &Case<'_>, place: usize, absence: impl Fn(Packer) -> Option<Packer>) -> anyhow::Result<Next> {
    let (leaf, parts) = (case.expected.leaves()[place], &case.expected.parts()[place]);
    let Some(last) = case.last.filter(|last| last.leaves().iter().any(|known| known.account == leaf.account)) else {
        return Ok(missing(case, leaf.account, parts.iter(), |packer| absence(packer.u8(0))));
    };
    let shown = shown_tree(last)?;
    let packed =
        shown.line(leaf.account).and_then(|(place, _)| asked_leaf(&shown, place)).and_then(|last| absence(Packer::new().raw(&last)));
    Ok(proof(PayoutMode::Dropped, packed))
}

/// A leaf that was shown is not the expected one, or none is expected.
fn in_leaf(case: &Case<'_>, answers: &Answers, place: u64) -> anyhow::Result<Next> {
    let Some((leaf, opening)) = answers.leaves.get(&place) else { return Ok(Next::Nothing("the leaf was not shown")) };
    let packed = || Packer::new().raw(&leaf.encode()).sum_opening(opening);
    let last = case.last.map(shown_tree).transpose()?;
    let before = last.as_ref().and_then(|last| last.line(leaf.account));
    if before.map_or(Amount::ZERO, |(_, before)| before.cumulative) != leaf.previous {
        let known = match (&last, before) {
            (Some(last), Some((place, _))) => asked_leaf(last, place).map(|leaf| packed().u8(1).raw(&leaf)),
            (Some(last), None) => last.absence(leaf.account).map(|absence| packed().u8(0).raw(&absence)),
            (None, _) => Some(packed().u8(0)),
        };
        return Ok(proof(PayoutMode::Previous, known));
    }
    let wanted = case.expected.leaves().iter().position(|line| line.account == leaf.account);
    let wanted = wanted.map_or(&[][..], |place| case.expected.parts()[place].as_slice());
    let ask = |index| Next::Ask(Question::Part { leaf: place, account: leaf.account, index }, packed().finish());
    if answers.bare.contains(&place) {
        let empty = parts_tree(&[])?;
        let no_part = |packer: Packer| Some(packer.u8(1).raw(&packed().finish()).u8(0).sum_head(0, &empty));
        return Ok(missing(case, leaf.account, wanted.iter(), no_part));
    }
    let Some((_, (part, way))) = answers.parts.get(&place).and_then(BTreeMap::first_key_value) else { return Ok(ask(0)) };
    let (total, head) = head_of(part.summed(), way);
    if leaf.previous.plus(total) != Ok(leaf.cumulative) {
        return Ok(proof(PayoutMode::Sum, Some(packed().raw(&head))));
    }
    let rows: Vec<_> = wanted.iter().map(|part| (part.place(), part.summed())).collect();
    let shown = |index: u64| answers.parts.get(&place)?.get(&index).map(|(part, way)| (part.place(), part.summed(), way.clone()));
    Ok(match compare(&rows, &parts_tree(wanted)?, shown) {
        Spot::Ask(index) => ask(index),
        Spot::Filler(index) => {
            let form = answers
                .parts
                .get(&place)
                .and_then(|parts| parts.get(&index))
                .map(|(part, way)| packed().blob(&part.encode()).raw(&part.amount.0.to_be_bytes()).sum_opening(way));
            proof(PayoutMode::PartForm, form)
        }
        Spot::Disordered(index) => {
            let order = answers.pack_part(packed(), place, index).and_then(|packer| answers.pack_part(packer, place, index + 1));
            proof(PayoutMode::PartOrder, order)
        }
        Spot::Differs(index) | Spot::Foreign(index) => match answers.parts.get(&place).and_then(|parts| parts.get(&index)) {
            Some((part, _)) => wrong_part(case, leaf.account, part, answers.pack_part(packed(), place, index)),
            None => ask(index),
        },
        Spot::Missing { expected, before, after } => {
            let no_part = |packer: Packer| {
                let packer = packer.u8(1).raw(&packed().finish());
                put_absence(packer, before, after, |packer, index| answers.pack_part(packer, place, index))
            };
            missing(case, leaf.account, wanted[expected..].iter().take(1), no_part)
        }
        Spot::Same => Next::Nothing("the leaf's parts are the expected ones"),
    })
}

/// The first of `parts` whose absence the contract can be shown.
fn missing<'p>(
    case: &Case<'_>,
    account: Address,
    parts: impl Iterator<Item = &'p PartLeaf>,
    no_part: impl Fn(Packer) -> Option<Packer>,
) -> Next {
    for part in parts.filter(|part| !is_refund(part)) {
        let found = with_receipt(case, part, |billed, receipt| {
            case.state.collected_by(receipt?.lane, case.epoch)?;
            // Of a tree that has nothing, the absence is a code, no neighbours and a head: what was shown stands in its place.
            let alone = Shown::new(Vec::new()).ok()?.prove_missing(account, part, billed)?;
            let kept = alone.evidence.len().checked_sub(2 + HEAD_BYTES)?;
            no_part(Packer::new().raw(&alone.evidence[..kept]))
        });
        if let Some(packer) = found {
            return proof(PayoutMode::Missing, Some(packer));
        }
    }
    Next::Nothing("a part is missing whose receipt, or what its lane had collected, is not known any more")
}

/// A part that is not its receipt's, behind its opening in `packed`.
fn wrong_part(case: &Case<'_>, account: Address, part: &PartLeaf, packed: Option<Packer>) -> Next {
    // The same part alone in a tree: what follows its opening is what the mode opens behind it.
    let alone = || -> Option<Shown> {
        let (root, _) = types::payout::parts_root(std::slice::from_ref(part)).ok()?;
        let leaf = PayoutLeaf { account, previous: Amount::ZERO, cumulative: part.amount, parts: root };
        Shown::of([(&leaf, std::slice::from_ref(part))]).ok()
    };
    let behind = |alone: PayoutProof| -> Option<Next> {
        let behind = LEAF_BYTES + ALONE_BYTES + 4 + part.encode().len() + ALONE_BYTES;
        Some(proof(alone.mode, packed.clone().map(|packer| packer.raw(&alone.evidence[behind..]))))
    };
    let finish = |opened: Opened<'_>| behind(alone()?.prove_part(0, 0, opened)?);
    let finish_refund = |against: Against<'_>| behind(alone()?.prove_refund(0, 0, against)?);
    let found = if let Some(lane) = part.lane() {
        let due = case.state.refund(lane).filter(|due| (due.epoch, due.payer, due.node) == (case.epoch, account, part.node));
        let gone = due.map(|due| due.given_back.0.saturating_add(part.amount.0));
        let is_plain = gone.is_none_or(|gone| gone > case.state.lane_collected(lane).0);
        is_plain.then(|| finish_refund(Against::Itself)).flatten()
    } else {
        match root_of(case.state, case.epoch, part.node) {
            None => finish(Opened::Nothing),
            Some((root, block)) if part.receipt >= root.count => finish(Opened::Root(&root, block)),
            Some(_) => with_receipt(case, part, |billed, receipt| {
                let is_paid = |receipt: &Receipt| {
                    let collected = case.state.collected_by(receipt.lane, case.epoch);
                    let collected = collected.unwrap_or_else(|| case.state.lane_collected(receipt.lane));
                    let is_out = case.state.is_out(case.epoch, part.node, receipt.hash());
                    receipt.reason.is_billable() && !is_out && collected >= receipt.cumulative_after
                };
                let is_paid = receipt.as_ref().is_some_and(is_paid);
                finish(if is_paid { Opened::All(billed) } else { Opened::Receipt(billed) })
            }),
        }
    };
    found.unwrap_or(Next::Nothing("a part is wrong whose receipt is not at hand, or a refund that receipts bound"))
}

/// The receipt of a part at its place, and what it says if it is one of its node.
fn with_receipt<T>(case: &Case<'_>, part: &PartLeaf, work: impl FnOnce(&Billed<'_>, Option<Receipt>) -> Option<T>) -> Option<T> {
    let (root, block) = root_of(case.state, case.epoch, part.node)?;
    let bodies: &Vec<Bodies> = case.receipts.get(&(case.epoch, part.node))?;
    let body = bodies.get(usize::try_from(part.receipt).ok()?)?;
    let opening = tree_of(bodies)?.open(part.receipt)?;
    let receipt = Receipt::decode(&body.receipt).ok().filter(|receipt| receipt.node == part.node);
    let billed = Billed { root: &root, block, opening: &opening, receipt: &body.receipt, quote: &body.quote, manifest: &body.manifest };
    work(&billed, receipt)
}

#[cfg(test)]
mod tests {
    use attribution::epoch::{Parts, one_by_one};
    use chain_bridge::{
        fraud::challenge::{leaf_evidence, part_evidence},
        registry::event::{Event, Logged},
    };
    use types::{split::Part, time::BlockRef};

    use super::*;

    fn books(root: Hash32, total: Amount) -> State {
        let mut state = State::default();
        let opened = Event::EpochOpened { epoch: 1, opened_at: 10, accepts_until: 15, payout_from: 25 };
        let (previous, poster) = (Hash32::ZERO, Address([5; 20]));
        let posted = Event::PayoutPosted { epoch: 1, root, total, previous, poster, final_at: 99, bond: Amount::ZERO };
        for (log, event) in (0..).zip([opened, posted]) {
            let block = BlockRef { number: 100, hash: Hash32::ZERO };
            state.apply(&Logged { block, time: 12, transaction: Hash32::ZERO, log, event }).unwrap();
        }
        state
    }

    /// Each account's parts, of a node that submitted no root: whatever differs of them is provable without a receipt.
    fn parts(accounts: &BTreeMap<u8, u64>) -> Parts {
        let part = |receipt| PartLeaf::new(Address([9; 20]), 2 * receipt, Part::Node, Amount(10 + u128::from(receipt)));
        accounts.iter().map(|(account, count)| (Address([*account; 20]), (0..*count).map(part).collect())).collect()
    }

    /// Asks a poster that has `posted` until something is proven; what, and after how many questions.
    fn ask_on(case: &Case<'_>, posted: &Shown) -> (Next, usize) {
        let mut answers = Answers::default();
        for asked in 0..100 {
            match next(case, &answers).unwrap() {
                Next::Ask(Question::Leaf(index), _) => answers.take(&leaf_evidence(posted, index), posted.root()).unwrap(),
                Next::Ask(Question::Part { leaf, index, .. }, _) => {
                    let place = usize::try_from(leaf).unwrap();
                    answers.take(&part_evidence(posted, place, index).unwrap(), posted.root()).unwrap();
                }
                done => return (done, asked),
            }
        }
        panic!("a hundred questions and no end");
    }

    /// Whether a proof is one that the whole tree gives for its mode.
    fn is_openable(proof: &PayoutProof, posted: &Shown, last: Option<&Shown>) -> bool {
        let of_leaf = |place: usize| {
            let parts = (0..posted.parts(place).len()).filter_map(move |part| posted.prove_part(place, part, Opened::Nothing));
            let alone = [posted.prove_sum(place), posted.prove_previous(place, last), posted.prove_leaf_order(place)];
            alone.into_iter().flatten().chain(parts).collect::<Vec<_>>()
        };
        let dropped = last.into_iter().flat_map(|last| (0..last.leaves().len()).filter_map(|place| posted.prove_dropped(place, last)));
        (0..posted.leaves().len()).flat_map(of_leaf).chain(dropped).chain([posted.prove_head()]).any(|known| known == *proof)
    }

    /// A generator of small numbers.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// A tree that is wrong in the way of `kind`, beside the right one and the one before both.
    fn wrong_tree(numbers: &mut Numbers, kind: u64) -> (Payout, Payout, Payout) {
        let accounts = (0..=numbers.below(39)).map(|_| (u8::try_from(numbers.below(256)).unwrap(), 1 + numbers.below(8))).collect();
        let right = parts(&accounts);
        let chosen = *right.keys().nth(usize::try_from(numbers.below(right.len() as u64)).unwrap()).unwrap();
        let last = Payout::over(&BTreeMap::from([(chosen, Amount(3))]), Parts::new(), &one_by_one).unwrap();
        let expected = Payout::over(&last.cumulative(), right.clone(), &one_by_one).unwrap();
        let (mut wrong, mut previous) = (right, last.cumulative());
        let rows = wrong.get_mut(&chosen).unwrap();
        match kind {
            0 => {
                let at = usize::try_from(numbers.below(rows.len() as u64)).unwrap();
                rows[at].amount.0 += 1;
            }
            1 => {
                let account = Address([u8::try_from(numbers.below(256)).unwrap(); 20]);
                wrong.entry(account).or_default().insert(0, PartLeaf::new(Address([8; 20]), 1, Part::Node, Amount(7)));
            }
            2 => drop(previous.insert(chosen, Amount(4))),
            3 => {
                let extra = PartLeaf::new(Address([9; 20]), 3, Part::Node, Amount(1));
                let at = rows.partition_point(|row| row.place() < extra.place());
                rows.insert(at, extra);
            }
            _ => {
                wrong.remove(&chosen);
                previous.remove(&chosen);
            }
        }
        (last, expected, Payout::over(&previous, wrong, &one_by_one).unwrap())
    }

    #[test]
    fn a_wrong_tree_that_is_shown_only_where_it_must_be_is_proven_in_as_many_answers_as_its_levels() {
        for seed in 0..300 {
            let mut numbers = Numbers(seed);
            let kind = numbers.below(5);
            let (last, expected, wrong) = wrong_tree(&mut numbers, kind);
            let posted = shown_tree(&wrong).unwrap();
            let (state, receipts) = (books(posted.root(), posted.total()), Receipts::new());
            let case = Case { state: &state, epoch: 1, expected: &expected, last: Some(&last), receipts: &receipts };
            match ask_on(&case, &posted) {
                (Next::Empty, 1) => assert!(wrong.leaves().is_empty(), "seed {seed}"),
                (Next::Proof(proof), asked) => {
                    let is_openable = is_openable(&proof, &posted, Some(&shown_tree(&last).unwrap()));
                    assert!(is_openable, "seed {seed}, kind {kind}: {:?}", proof.mode);
                    // Levels of 41 leaves and of 10 parts, twice where the keys are halved, and the neighbours.
                    assert!(asked <= 2 * (6 + 1) + 2 * (4 + 1) + 2, "seed {seed}, kind {kind}: {asked} questions");
                }
                other => panic!("seed {seed}, kind {kind}: {other:?}"),
            }
            let state = books(expected.root(), expected.total());
            let right = Case { state: &state, ..case };
            let (done, _) = ask_on(&right, &shown_tree(&expected).unwrap());
            assert!(matches!(done, Next::Nothing(_)), "seed {seed}: a right tree is proven wrong: {done:?}");
        }
    }

    #[test]
    fn bytes_that_no_poster_showed_never_panic() {
        let tree = shown_tree(&Payout::over(&BTreeMap::new(), parts(&BTreeMap::from([(1, 2), (2, 1)])), &one_by_one).unwrap()).unwrap();
        let whole = part_evidence(&tree, 0, 0).unwrap();
        for cut in 0..whole.len() {
            let _ = Answers::default().take(&whole[..cut], tree.root());
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[cut] ^= 1 << bit;
                let mut answers = Answers::default();
                let _ = answers.take(&bytes, tree.root());
                assert!(answers.parts.is_empty(), "byte {cut}, bit {bit}: another tree's part was taken");
            }
        }
    }

    #[test]
    fn a_total_that_the_tree_does_not_have_is_proven_by_one_leaf() {
        let expected = Payout::over(&BTreeMap::new(), parts(&BTreeMap::from([(1, 2), (2, 1)])), &one_by_one).unwrap();
        let posted = shown_tree(&expected).unwrap();
        let (state, receipts) = (books(posted.root(), Amount(posted.total().0 + 1)), Receipts::new());
        let case = Case { state: &state, epoch: 1, expected: &expected, last: None, receipts: &receipts };
        let (done, asked) = ask_on(&case, &posted);
        assert_eq!((done, asked), (Next::Proof(posted.prove_head()), 1));
    }
}
