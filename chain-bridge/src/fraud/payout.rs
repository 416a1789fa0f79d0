//! F7: what shows that a posted payout tree is wrong, one function for each mode of `PayoutVerifier` (Protocol P7).
//!
//! A [`Shown`] tree holds what its poster committed to, row by row, whether it makes sense or not. Its openings take 48 bytes a level: below 2 KB
//! for a million accounts, beside the receipt, quote and manifest (about 1 KB) that the modes about a receipt open.

use types::{
    amount::{Amount, AmountError},
    encoding::{Document, Reader},
    id::{Address, Hash32},
    merkle::{SumOpening, SumTree, Summed},
    operator::NodeRoot,
    payout::{PartLeaf, PayoutLeaf, REFUND_INDEX},
    split::Part,
};

use super::pack::Packer;

/// What is wrong with a payout; the numbers are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PayoutMode {
    /// Another total than posted, or an empty tree that is not empty.
    Head,
    /// A leaf is no leaf.
    LeafForm,
    /// Two neighbouring leaves do not ascend.
    LeafOrder,
    /// Cumulative is not previous plus the parts' total.
    Sum,
    /// Previous is not what the last final tree says.
    Previous,
    /// An account of the last final tree is missing.
    Dropped,
    /// A part is no part.
    PartForm,
    /// Two neighbouring parts do not ascend.
    PartOrder,
    /// A part is not its receipt's.
    Part,
    /// A receipt's part is missing.
    Missing,
    /// A refund is not due, not the payer's, or another amount than its witness gives.
    Refund,
    /// A refund that is due is missing.
    LeftOut,
}

impl PayoutMode {
    /// All modes, in the order of their codes.
    pub const ALL: [Self; 12] = [
        Self::Head,
        Self::LeafForm,
        Self::LeafOrder,
        Self::Sum,
        Self::Previous,
        Self::Dropped,
        Self::PartForm,
        Self::PartOrder,
        Self::Part,
        Self::Missing,
        Self::Refund,
        Self::LeftOut,
    ];

    /// Code in the contract.
    pub const fn code(self) -> u8 {
        match self {
            Self::Head => 0,
            Self::LeafForm => 1,
            Self::LeafOrder => 2,
            Self::Sum => 3,
            Self::Previous => 4,
            Self::Dropped => 5,
            Self::PartForm => 6,
            Self::PartOrder => 7,
            Self::Part => 8,
            Self::Missing => 9,
            Self::Refund => 10,
            Self::LeftOut => 11,
        }
    }

    /// What it says, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Head => "the tree's total is not the one posted",
            Self::LeafForm => "a leaf is no leaf",
            Self::LeafOrder => "two leaves do not ascend",
            Self::Sum => "a leaf's amount is not what its parts sum to",
            Self::Previous => "a leaf does not go on from the last final tree",
            Self::Dropped => "an account of the last final tree is missing",
            Self::PartForm => "a part is no part",
            Self::PartOrder => "two parts do not ascend",
            Self::Part => "a part is not its receipt's",
            Self::Missing => "a receipt's part is missing",
            Self::Refund => "a refund is not due, not its payer's, or another amount than the receipts leave",
            Self::LeftOut => "a refund that is due is left out",
        }
    }
}

/// A proof that the pending payout is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutProof {
    /// How.
    pub mode: PayoutMode,
    /// What the mode opens, packed.
    pub evidence: Vec<u8>,
}

/// A row of a sum tree: any bytes, with any amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is hashed.
    pub bytes: Vec<u8>,
    /// What is summed.
    pub amount: Amount,
}

impl Row {
    fn summed(&self) -> Summed {
        Summed::leaf(&self.bytes, self.amount)
    }

    /// The payout leaf it is, if it is one and its amount the cumulative one.
    pub fn leaf(&self) -> Option<PayoutLeaf> {
        read_leaf(&self.bytes).filter(|leaf| leaf.cumulative == self.amount)
    }

    /// The part it is, if it is one and its amount the part's.
    pub fn part(&self) -> Option<PartLeaf> {
        read_part(&self.bytes).filter(|part| part.amount == self.amount)
    }
}

impl From<&PayoutLeaf> for Row {
    fn from(leaf: &PayoutLeaf) -> Self {
        Self { bytes: leaf.encode(), amount: leaf.cumulative }
    }
}

impl From<&PartLeaf> for Row {
    fn from(part: &PartLeaf) -> Self {
        Self { bytes: part.encode(), amount: part.amount }
    }
}

/// The 84 bytes of a payout leaf, read; nothing if they are other bytes.
pub fn read_leaf(bytes: &[u8]) -> Option<PayoutLeaf> {
    let mut r = Reader::new(bytes);
    let leaf = PayoutLeaf {
        account: r.address("account").ok()?,
        previous: r.amount("previous").ok()?,
        cumulative: r.amount("cumulative").ok()?,
        parts: r.hash("parts").ok()?,
    };
    r.finish().ok().map(|()| leaf)
}

/// The 48 bytes of a part that is worth something, or the 116 of a refund, read; nothing if they are other bytes.
pub fn read_part(bytes: &[u8]) -> Option<PartLeaf> {
    let part = PartLeaf::decode(bytes).ok()?;
    let has_code = part.receipt == REFUND_INDEX && part.part == Part::Refund.code();
    (has_code == is_refund(&part) && (has_code || part.amount != Amount::ZERO)).then_some(part)
}

/// Whether a part gives a lane's payer back what no receipt speaks for.
pub const fn is_refund(part: &PartLeaf) -> bool {
    part.refund.is_some()
}

/// Why rows are no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShownError {
    /// Their amounts do not sum.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// Parts of another leaf.
    #[error("leaf {leaf} commits to the parts {expected}, shown are {got}")]
    Parts {
        /// Place of the leaf.
        leaf: usize,
        /// By the leaf.
        expected: Hash32,
        /// Shown.
        got: Hash32,
    },
}

/// A payout tree with its parts, as its poster committed to them.
#[derive(Debug, Clone)]
pub struct Shown {
    leaves: Vec<Row>,
    tree: SumTree,
    parts: Vec<(Vec<Row>, SumTree)>,
}

/// A receipt with all that its parts follow from, at its place.
#[derive(Debug, Clone, Copy)]
pub struct Billed<'a> {
    /// The root it stands under.
    pub root: &'a NodeRoot,
    /// Block of that root's submission.
    pub block: u64,
    /// Its place and the way from it to the root.
    pub opening: &'a SumOpening,
    /// Its body.
    pub receipt: &'a [u8],
    /// The quote it names.
    pub quote: &'a [u8],
    /// The manifest it names.
    pub manifest: &'a [u8],
}

/// How much of a receipt a wrong part needs opened.
#[derive(Debug, Clone, Copy)]
pub enum Opened<'a> {
    /// Nothing: its node submitted no root.
    Nothing,
    /// The root and its block: it has no such place, or its node withheld a receipt of it.
    Root(&'a NodeRoot, u64),
    /// The receipt at its place: it has no parts.
    Receipt(&'a Billed<'a>),
    /// Quote and manifest too: its part is another one.
    All(&'a Billed<'a>),
}

/// What shows that a refund is wrong.
#[derive(Debug, Clone, Copy)]
pub enum Against<'a> {
    /// Nothing but the refund: it is not due in the epoch, another payer's or node's, or above what the lane collected.
    Itself,
    /// A receipt of the lane with which it is too high.
    Higher(&'a Billed<'a>),
    /// Its witness's node submitted no root in that epoch, or the epoch is still to come.
    NoRoot,
    /// Its witness stands beyond a root's receipts, or under one of which a receipt was withheld.
    NoPlace(&'a NodeRoot, u64),
    /// Its witness speaks for nothing of the lane, or gives another amount.
    Witness(&'a Billed<'a>),
    /// It names no witness, and is not all that is left of the lane.
    NoWitness,
    /// What it names, if anything, and a receipt that it should have named: one that reaches further, or as far from a smaller place.
    Better(Option<&'a Billed<'a>>, &'a Billed<'a>),
}

impl Shown {
    /// The tree over rows, each leaf with its parts.
    ///
    /// # Errors
    /// [`ShownError`].
    pub fn new(rows: Vec<(Row, Vec<Row>)>) -> Result<Self, ShownError> {
        let (leaves, parts): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let tree_of = |rows: &[Row]| SumTree::new(rows.iter().map(Row::summed).collect());
        let tree = tree_of(&leaves)?;
        let parts: Vec<_> = parts.into_iter().map(|rows| tree_of(&rows).map(|tree| (rows, tree))).collect::<Result<_, _>>()?;
        for (place, (leaf, (_, tree))) in leaves.iter().zip(&parts).enumerate() {
            let expected = read_leaf(&leaf.bytes).map(|leaf| leaf.parts);
            if let Some(expected) = expected.filter(|expected| *expected != tree.root()) {
                return Err(ShownError::Parts { leaf: place, expected, got: tree.root() });
            }
        }
        Ok(Self { leaves, tree, parts })
    }

    /// The tree over lines as posters show them.
    ///
    /// # Errors
    /// [`ShownError`].
    pub fn of<'a>(lines: impl IntoIterator<Item = (&'a PayoutLeaf, &'a [PartLeaf])>) -> Result<Self, ShownError> {
        Self::new(lines.into_iter().map(|(leaf, parts)| (leaf.into(), parts.iter().map(Row::from).collect())).collect())
    }

    /// The root.
    pub fn root(&self) -> Hash32 {
        self.tree.root()
    }

    /// Sum of its leaves' amounts.
    pub fn total(&self) -> Amount {
        self.tree.total()
    }

    /// Its rows.
    pub fn leaves(&self) -> &[Row] {
        &self.leaves
    }

    /// The rows of a leaf's parts; none past the last leaf.
    pub fn parts(&self, leaf: usize) -> &[Row] {
        self.parts.get(leaf).map_or(&[], |(rows, _)| rows)
    }

    /// Place and line of an account; nothing if no leaf is its.
    pub fn line(&self, account: Address) -> Option<(usize, PayoutLeaf)> {
        let lines = self.leaves.iter().enumerate().filter_map(|(place, row)| Some((place, row.leaf()?)));
        lines.into_iter().find(|(_, leaf)| leaf.account == account)
    }

    fn put_opening(packer: Packer, tree: &SumTree, place: usize) -> Option<Packer> {
        tree.open(u64::try_from(place).ok()?).map(|opening| packer.sum_opening(&opening))
    }

    /// A leaf: its bytes, its sum opening. Nothing past the last.
    pub(crate) fn put_leaf(&self, packer: Packer, place: usize) -> Option<Packer> {
        Self::put_opening(packer.raw(&self.leaves.get(place)?.bytes), &self.tree, place)
    }

    /// A part: the blob of its bytes, its sum opening.
    pub(crate) fn put_part(&self, packer: Packer, leaf: usize, place: usize) -> Option<Packer> {
        let (rows, tree) = self.parts.get(leaf)?;
        Self::put_opening(packer.blob(&rows.get(place)?.bytes), tree, place)
    }

    /// The head of the tree.
    pub(crate) fn put_head(&self, packer: Packer) -> Packer {
        packer.sum_head(as_u64(self.leaves.len()), &self.tree)
    }

    /// The head of a leaf's parts.
    pub(crate) fn put_parts_head(&self, packer: Packer, leaf: usize) -> Option<Packer> {
        let (rows, tree) = self.parts.get(leaf)?;
        Some(packer.sum_head(as_u64(rows.len()), tree))
    }

    /// Why no leaf is `account`'s: its neighbours. Nothing if there is one, or the leaves do not ascend.
    fn put_absence(&self, packer: Packer, account: Address) -> Option<Packer> {
        let accounts: Vec<Address> = self.leaves.iter().map(|row| read_leaf(&row.bytes).map(|leaf| leaf.account)).collect::<Option<_>>()?;
        let next = accounts.iter().position(|other| *other >= account).unwrap_or(accounts.len());
        if accounts.get(next) == Some(&account) {
            return None;
        }
        put_neighbours(packer, next, accounts.len(), |packer, place| self.put_leaf(packer, place), |packer| self.put_head(packer))
    }

    /// Why a leaf has no part at `part`'s place, or why there is no leaf. Nothing if there is that part.
    fn put_no_part(&self, packer: Packer, account: Address, part: &PartLeaf) -> Option<Packer> {
        let Some((leaf, _)) = self.line(account) else { return self.put_absence(packer.u8(0), account) };
        let packer = self.put_leaf(packer.u8(1), leaf)?;
        let (rows, tree) = self.parts.get(leaf)?;
        let places: Vec<_> = rows.iter().map(|row| read_part(&row.bytes).map(|part| part.place())).collect::<Option<_>>()?;
        let next = places.iter().position(|other| *other >= part.place()).unwrap_or(places.len());
        if places.get(next) == Some(&part.place()) {
            return None;
        }
        let head = |packer: Packer| packer.sum_head(as_u64(rows.len()), tree);
        put_neighbours(packer, next, places.len(), |packer, place| self.put_part(packer, leaf, place), head)
    }

    /// Why no leaf is `account`'s, packed. Nothing if there is one.
    pub fn absence(&self, account: Address) -> Option<Vec<u8>> {
        self.put_absence(Packer::new(), account).map(Packer::finish)
    }

    /// Why `account` has no part at `part`'s place, packed: what `requestRefund` is given when a refund was left out. Nothing if it has one.
    pub fn no_part(&self, account: Address, part: &PartLeaf) -> Option<Vec<u8>> {
        self.put_no_part(Packer::new(), account, part).map(Packer::finish)
    }

    /// Mode 0.
    pub fn prove_head(&self) -> PayoutProof {
        proof(PayoutMode::Head, self.put_head(Packer::new()))
    }

    /// Mode 1: leaf `place`, whatever its bytes.
    pub fn prove_leaf_form(&self, place: usize) -> Option<PayoutProof> {
        let row = self.leaves.get(place)?;
        let packer = Packer::new().blob(&row.bytes).raw(&row.amount.0.to_be_bytes());
        Some(proof(PayoutMode::LeafForm, Self::put_opening(packer, &self.tree, place)?))
    }

    /// Mode 2: leaf `place` and the one behind it.
    pub fn prove_leaf_order(&self, place: usize) -> Option<PayoutProof> {
        let packer = self.put_leaf(Packer::new(), place)?;
        Some(proof(PayoutMode::LeafOrder, self.put_leaf(packer, place + 1)?))
    }

    /// Mode 3.
    pub fn prove_sum(&self, place: usize) -> Option<PayoutProof> {
        let packer = self.put_leaf(Packer::new(), place)?;
        Some(proof(PayoutMode::Sum, self.put_parts_head(packer, place)?))
    }

    /// Mode 4, against the last final tree; nothing is one that never was.
    pub fn prove_previous(&self, place: usize, last: Option<&Self>) -> Option<PayoutProof> {
        let account = read_leaf(&self.leaves.get(place)?.bytes)?.account;
        let packer = self.put_leaf(Packer::new(), place)?;
        let packer = match last.map(|last| (last, last.line(account))) {
            None => packer.u8(0),
            Some((last, Some((there, _)))) => last.put_leaf(packer.u8(1), there)?,
            Some((last, None)) => last.put_absence(packer.u8(0), account)?,
        };
        Some(proof(PayoutMode::Previous, packer))
    }

    /// Mode 5: leaf `place` of the last final tree is not here.
    pub fn prove_dropped(&self, place: usize, last: &Self) -> Option<PayoutProof> {
        let account = read_leaf(&last.leaves.get(place)?.bytes)?.account;
        let packer = last.put_leaf(Packer::new(), place)?;
        Some(proof(PayoutMode::Dropped, self.put_absence(packer, account)?))
    }

    /// Mode 6: part `place` of a leaf, whatever its bytes.
    pub fn prove_part_form(&self, leaf: usize, place: usize) -> Option<PayoutProof> {
        let (rows, tree) = self.parts.get(leaf)?;
        let row = rows.get(place)?;
        let packer = self.put_leaf(Packer::new(), leaf)?.blob(&row.bytes).raw(&row.amount.0.to_be_bytes());
        Some(proof(PayoutMode::PartForm, Self::put_opening(packer, tree, place)?))
    }

    /// Mode 7: part `place` of a leaf and the one behind it.
    pub fn prove_part_order(&self, leaf: usize, place: usize) -> Option<PayoutProof> {
        let packer = self.put_part(self.put_leaf(Packer::new(), leaf)?, leaf, place)?;
        Some(proof(PayoutMode::PartOrder, self.put_part(packer, leaf, place + 1)?))
    }

    /// Mode 8. Nothing if the part is a refund.
    pub fn prove_part(&self, leaf: usize, place: usize, opened: Opened<'_>) -> Option<PayoutProof> {
        read_part(&self.parts(leaf).get(place)?.bytes).filter(|part| !is_refund(part))?;
        let packer = self.put_part(self.put_leaf(Packer::new(), leaf)?, leaf, place)?;
        Some(proof(PayoutMode::Part, put_opened(packer, opened)))
    }

    /// Mode 10. Nothing if the part is no refund.
    pub fn prove_refund(&self, leaf: usize, place: usize, against: Against<'_>) -> Option<PayoutProof> {
        read_part(&self.parts(leaf).get(place)?.bytes).filter(is_refund)?;
        let packer = self.put_part(self.put_leaf(Packer::new(), leaf)?, leaf, place)?;
        let at = |packer: Packer, billed: &Billed<'_>| packer.blob(billed.receipt).siblings(&billed.opening.siblings);
        let packer = match against {
            Against::Itself => packer,
            Against::Higher(billed) => at(packer.u8(0).node_root(billed.root, billed.block).u64(billed.opening.index), billed),
            Against::NoRoot => packer.u8(1),
            Against::NoPlace(root, block) => packer.u8(1).node_root(root, block),
            Against::Witness(billed) => at(packer.u8(1).node_root(billed.root, billed.block), billed),
            Against::NoWitness => packer.u8(2),
            Against::Better(named, billed) => {
                let packer = packer.u8(3);
                let packer = match named {
                    Some(named) => at(packer.node_root(named.root, named.block), named),
                    None => packer,
                };
                at(packer.node_root(billed.root, billed.block).u64(billed.opening.index), billed)
            }
        };
        Some(proof(PayoutMode::Refund, packer))
    }

    /// Mode 11: `account`, the payer, has no part of its lane's refund. Nothing if it has, or `part` is no refund.
    pub fn prove_left_out(&self, account: Address, part: &PartLeaf) -> Option<PayoutProof> {
        let packer = Packer::new().raw(&part.lane()?.0);
        Some(proof(PayoutMode::LeftOut, self.put_no_part(packer, account, part)?))
    }

    /// Mode 9: `account` has no such part of a receipt.
    pub fn prove_missing(&self, account: Address, part: &PartLeaf, billed: &Billed<'_>) -> Option<PayoutProof> {
        let packer = Packer::new().node_root(billed.root, billed.block).u64(billed.opening.index).u32(part.part);
        let packer = packer.blob(billed.receipt).siblings(&billed.opening.siblings).blob(billed.quote).blob(billed.manifest);
        Some(proof(PayoutMode::Missing, self.put_no_part(packer, account, part)?))
    }
}

fn put_opened(packer: Packer, opened: Opened<'_>) -> Packer {
    let root = |packer: Packer, billed: &Billed<'_>| packer.node_root(billed.root, billed.block);
    match opened {
        Opened::Nothing => packer,
        Opened::Root(of, block) => packer.node_root(of, block),
        Opened::Receipt(billed) => root(packer, billed).blob(billed.receipt).siblings(&billed.opening.siblings),
        Opened::All(billed) => {
            root(packer, billed).blob(billed.receipt).siblings(&billed.opening.siblings).blob(billed.quote).blob(billed.manifest)
        }
    }
}

/// The rows before and after a place that nothing stands at.
fn put_neighbours(
    packer: Packer,
    next: usize,
    count: usize,
    put: impl Fn(Packer, usize) -> Option<Packer>,
    head: impl Fn(Packer) -> Packer,
) -> Option<Packer> {
    if count == 0 {
        return Some(head(packer.u8(0)));
    }
    let (has_before, has_next) = (next > 0, next < count);
    let packer = packer.u8(u8::from(has_before) | u8::from(has_next) << 1);
    let packer = if has_before { put(packer, next - 1)? } else { packer };
    if has_next { put(packer, next) } else { Some(packer) }
}

fn proof(mode: PayoutMode, packer: Packer) -> PayoutProof {
    PayoutProof { mode, evidence: packer.finish() }
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).expect("a length in memory fits 64 bits")
}

/// Whether bytes are a receipt of `node`: one that its tree can pay.
pub(crate) fn read_receipt(bytes: &[u8], node: Address) -> Option<types::receipt::Receipt> {
    types::receipt::Receipt::decode(bytes).ok().filter(|receipt| receipt.node == node)
}
