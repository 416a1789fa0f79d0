//! F10, of an answer's own leaves: a word's weight, a running weight, a word's bounds, two leaves that show different texts, a leaf that is none.
//!
//! Who holds answer and salt makes the leaves that ought to be, and finds another root over false ones, which says nothing of what is wrong with them. These
//! proofs are made of the leaves that the node committed to, by whoever was shown them. One pass over them; a lie in the weights of words builds the word table's tree, 16,384
//! digests. Of each kind the first lie is shown: a receipt is slashed for once.

use std::{collections::BTreeMap, ops::Range};

use types::{
    key::{Domains, Signed},
    merkle::{Tree, leaf_digests},
    proof::{Claim, FalseLeaf, Leaf, Passage, Proof, Shown, TableEntry},
    receipt::Receipt,
    text::{LEAF_BYTES, LEAF_STRIDE},
};

use super::proofs;
use crate::{
    fault::FaultError,
    index::is_cut_before,
    parameters::{Parameters, WORD_BYTES_MAX, WordTable},
};

/// Leaf salt 32, running weight 8, word count 1.
const HEAD_BYTES: usize = 41;
/// Offset u8, length u16, weight u32.
const ROW_BYTES: usize = 7;

/// What was committed to as an answer: its leaves, as they are, and how many bytes its root says that it has.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// All of them, in order.
    pub leaves: &'a [Vec<u8>],
    /// Byte length in the root.
    pub byte_length: u64,
}

/// A leaf as a contract reads it.
struct Read<'a> {
    running: u64,
    rows: Vec<Row>,
    text: &'a [u8],
}

/// What a leaf says of a word.
#[derive(Clone, Copy)]
struct Row {
    offset: usize,
    length: usize,
    weight: u32,
}

impl<'a> Read<'a> {
    fn of(leaf: &'a [u8]) -> Option<Self> {
        let (head, rest) = leaf.split_at_checked(HEAD_BYTES)?;
        let (rows, text) = rest.split_at_checked(usize::from(head[HEAD_BYTES - 1]) * ROW_BYTES)?;
        let row = |row: &[u8; ROW_BYTES]| Row {
            offset: row[0].into(),
            length: u16::from_be_bytes([row[1], row[2]]).into(),
            weight: u32::from_be_bytes([row[3], row[4], row[5], row[6]]),
        };
        let running = u64::from_be_bytes(head[HEAD_BYTES - 9..HEAD_BYTES - 1].try_into().expect("eight bytes"));
        Some(Self { running, rows: rows.as_chunks().0.iter().map(row).collect(), text })
    }

    fn weight(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.weight)).sum()
    }
}

/// Committed leaves with what opens them.
struct Case<'a> {
    committed: Committed<'a>,
    tree: Tree,
    parameters: &'a Parameters,
}

/// The proofs that committed leaves give against their receipt, those of the least evidence first: none for leaves as [`crate::answer::answer_leaves`] makes them, and
/// for a receipt that bills nothing. Where leaves are none or show different texts, no more is found: what they say of words hangs on that.
///
/// # Errors
/// [`FaultError`] if nobody signed the receipt, its parameters are others, or its answer root is not over these leaves.
pub fn find_in_leaves(
    domains: &Domains,
    signed: &Signed<Receipt>,
    committed: Committed<'_>,
    parameters: &Parameters,
) -> Result<Vec<Proof>, FaultError> {
    let receipt = &signed.document;
    signed.verify(domains, receipt.node)?;
    if parameters.id != receipt.parameters {
        return Err(FaultError::Parameters(receipt.parameters));
    }
    let tree = Tree::new(leaf_digests(committed.leaves), committed.byte_length);
    if tree.root() != receipt.answer_root {
        return Err(FaultError::Answer { expected: receipt.answer_root, got: tree.root(), spans: Vec::new() });
    }
    let found = if receipt.reason.is_billable() { Case { committed, tree, parameters }.lies() } else { Vec::new() };
    Ok(proofs(signed, found.into_iter().map(Claim::FalseLeaf).collect()))
}

impl Case<'_> {
    fn lies(&self) -> Vec<FalseLeaf> {
        if let Some(form) = self.malformed() {
            return vec![form];
        }
        let read: Vec<Read<'_>> = self.committed.leaves.iter().filter_map(|leaf| Read::of(leaf)).collect();
        if let Some(texts) = self.differing(&read) {
            return vec![texts];
        }
        // Leaves agree, so that what stands in their strides is the text.
        let text: Vec<u8> = read.iter().flat_map(|leaf| &leaf.text[..leaf.text.len().min(LEAF_STRIDE)]).copied().collect();
        let words = std::str::from_utf8(&text).map(|text| (text, types::text::words(text)));
        let (bounds, row) =
            words.map_or((None, None), |(text, words)| (self.misbounded(&read, text, &words), self.misweighed(&read, text, &words)));
        [self.running(&read), bounds, row].into_iter().flatten().collect()
    }

    fn show(&self, number: usize) -> Shown {
        let shown = |opening| Shown { leaf: self.committed.leaves[number].clone(), opening };
        self.tree.open(as_u64(number)).map_or_else(Shown::nothing, shown)
    }

    fn malformed(&self) -> Option<FalseLeaf> {
        let Committed { leaves, byte_length } = self.committed;
        let is_counted = as_u64(leaves.len()) == byte_length.div_ceil(as_u64(LEAF_STRIDE));
        let number = (0..leaves.len()).find(|number| {
            let shown = byte_length.saturating_sub(as_u64(number * LEAF_STRIDE)).min(as_u64(LEAF_BYTES));
            let is_formed = |leaf: &Read<'_>| {
                let do_ascend = leaf.rows.windows(2).all(|pair| pair[0].offset < pair[1].offset);
                as_u64(leaf.text.len()) == shown && do_ascend && leaf.rows.iter().all(|row| row.offset < LEAF_STRIDE)
            };
            !is_counted || !Read::of(&leaves[*number]).is_some_and(|leaf| is_formed(&leaf))
        })?;
        Some(FalseLeaf { number: narrow(number), why: Leaf::Form(self.show(number)) })
    }

    fn differing(&self, read: &[Read<'_>]) -> Option<FalseLeaf> {
        let number = read.windows(2).position(|pair| {
            let behind = pair[0].text.get(LEAF_STRIDE..).unwrap_or_default();
            behind.iter().zip(pair[1].text).any(|(one, other)| one != other)
        })?;
        Some(FalseLeaf { number: narrow(number), why: Leaf::Texts(vec![self.show(number), self.show(number + 1)]) })
    }

    fn running(&self, read: &[Read<'_>]) -> Option<FalseLeaf> {
        let mut expected = Some(0);
        let number = read.iter().position(|leaf| {
            let is_right = expected == Some(leaf.running);
            expected = leaf.running.checked_add(leaf.weight());
            !is_right
        })?;
        let shown = std::iter::once(number).chain(number.checked_sub(1)).map(|number| self.show(number));
        Some(FalseLeaf { number: narrow(number), why: Leaf::Running(shown.collect()) })
    }

    fn misbounded(&self, read: &[Read<'_>], text: &str, words: &[Range<usize>]) -> Option<FalseLeaf> {
        let words: BTreeMap<usize, usize> = words.iter().map(|word| (word.start, word.end)).collect();
        read.iter().enumerate().find_map(|(number, leaf)| {
            let begin = number * LEAF_STRIDE;
            let place = (0..LEAF_STRIDE).find(|place| {
                let stated = leaf.rows.iter().find(|row| row.offset == *place).map(|row| row.length);
                match (stated, words.get(&(begin + place))) {
                    (None, None) => false,
                    (Some(stated), Some(end)) => is_length_false(text, begin + place..*end, begin + leaf.text.len(), stated),
                    _ => true,
                }
            })?;
            let is_cut = number > 0 && place < leaf.text.len() && is_cut_before(leaf.text, place);
            let passage = Passage { text: self.show(number), before: is_cut.then(|| self.show(number - 1)) };
            Some(FalseLeaf { number: narrow(number), why: Leaf::Bounds { place: u8::try_from(place).ok()?, text: passage } })
        })
    }

    fn misweighed(&self, read: &[Read<'_>], text: &str, words: &[Range<usize>]) -> Option<FalseLeaf> {
        let words: BTreeMap<usize, &str> = words.iter().map(|word| (word.start, &text[word.clone()])).collect();
        let rows =
            read.iter().enumerate().flat_map(|(number, leaf)| leaf.rows.iter().zip(0_u8..).map(move |(row, place)| (number, place, row)));
        // Of a word that has another length its bounds are false, and its weight nobody's.
        let mut stated = rows.filter_map(|(number, place, row)| {
            let word = words.get(&(number * LEAF_STRIDE + row.offset)).filter(|word| word.len() == row.length)?;
            Some((number, place, row.weight, *word))
        });
        let (number, row, _, word) = stated.find(|(.., weight, word)| *weight != self.parameters.weight(word))?;
        let table = table_entry(self.parameters.table(), word)?;
        let why = Leaf::Row { parameters: self.parameters.encode(), answer: self.show(number), row, table };
        Some(FalseLeaf { number: narrow(number), why })
    }
}

/// Whether a word has not so many bytes, as far as a leaf shows that ends at byte `shown` of the text.
fn is_length_false(text: &str, word: Range<usize>, shown: usize, stated: usize) -> bool {
    let next = text[word.end..].chars().next().map_or(0, char::len_utf8);
    if word.end + next <= shown {
        return stated != word.len();
    }
    let seen = (word.start..=word.end.min(shown)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(word.start);
    stated < seen - word.start
}

/// What the table has for a word; nothing if it has no row at all.
fn table_entry(table: &WordTable, word: &str) -> Option<TableEntry> {
    if word.len() > WORD_BYTES_MAX {
        return Some(TableEntry::TooLong);
    }
    let (tree, word) = (table.tree(), word.to_ascii_lowercase());
    let show = |row: usize| Some(Shown { leaf: table.row_bytes(row)?, opening: tree.open(as_u64(row))? });
    match table.rows().binary_search_by(|(row, _)| row.as_ref().cmp(&word)) {
        Ok(row) => show(row).map(TableEntry::Known),
        Err(0) => show(0).map(TableEntry::BeforeFirst),
        Err(row) if row == table.rows().len() => show(row - 1).map(TableEntry::BehindLast),
        Err(row) => Some(TableEntry::Between(show(row - 1)?, show(row)?)),
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).expect("leaves in memory are fewer")
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use types::{id::Hash32, receipt::Reason};

    use super::*;
    use crate::{
        answer::answer_leaves,
        sample::{Sample, sample},
        span::weigh,
    };

    const LONG: &str = "What is said: ";

    /// An answer of several leaves, with a word that no leaf shows whole.
    fn text() -> String {
        format!("{LONG}ataxia, nystagmus and {} of the Émile type; zzzz 2nd {}", "x".repeat(400), "again and again ".repeat(12))
    }

    fn leaves(text: &str) -> Vec<Vec<u8>> {
        answer_leaves(text, &weigh(Parameters::builtin(1).unwrap(), text), Hash32([6; 32]))
    }

    /// The kinds of lies found in leaves that are signed for.
    fn kinds(sample: &Sample, leaves: &[Vec<u8>], byte_length: usize, reason: Reason) -> Vec<(u32, u8)> {
        let (domains, mut receipt) = (sample.bundle.domains, sample.bundle.receipt.document.clone());
        let committed = Committed { leaves, byte_length: byte_length as u64 };
        receipt.answer_root = Tree::new(leaf_digests(leaves), committed.byte_length).root();
        receipt.reason = reason;
        let signed = Signed::new(&sample.node, &domains, receipt);
        let found = find_in_leaves(&domains, &signed, committed, Parameters::builtin(1).unwrap()).unwrap();
        let kind = |proof: &Proof| match &proof.claim {
            Claim::FalseLeaf(leaf) => (leaf.number, leaf.why.code()),
            other => panic!("{other:?}"),
        };
        let mut kinds: Vec<_> = found.iter().map(kind).collect();
        kinds.sort_unstable();
        kinds
    }

    #[test]
    fn leaves_as_they_ought_to_be_say_nothing_against_their_node() {
        let sample = sample();
        for text in [text(), sample.bundle.answer.clone(), "学习语言 数据".repeat(40), "a".to_owned(), "é".repeat(301)] {
            assert_eq!(kinds(&sample, &leaves(&text), text.len(), Reason::Stop), [], "{text}");
        }
    }

    #[test]
    fn each_lie_in_a_leaf_is_found_where_it_stands() {
        let (sample, text) = (sample(), text());
        let honest = leaves(&text);
        let found = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut leaves = honest.clone();
            change(&mut leaves);
            kinds(&sample, &leaves, text.len(), Reason::Stop)
        };
        let last_byte_of_row = HEAD_BYTES + ROW_BYTES - 1;
        // A word's weight shifts what stands behind it too.
        assert_eq!(found(&|leaves| leaves[0][last_byte_of_row] ^= 1), [(0, 0), (1, 1)]);
        assert_eq!(found(&|leaves| leaves[1][39] ^= 1), [(1, 1)]);
        assert_eq!(found(&|leaves| leaves[0][39] ^= 1), [(0, 1)]);
        assert_eq!(found(&|leaves| leaves[0][HEAD_BYTES + 2] ^= 1), [(0, 2)]);
        assert_eq!(found(&|leaves| leaves[0][HEAD_BYTES] = 1), [(0, 2)]);
        let giant = text.find("xx").unwrap();
        assert!(giant < LEAF_STRIDE, "the giant begins in the first leaf");
        let row = HEAD_BYTES + ROW_BYTES * (honest[0][40] as usize - 1);
        assert_eq!(found(&|leaves| leaves[0][row + 1] = 0), [(0, 2)], "400 less 256 is less than the leaf shows");
        assert_eq!(found(&|leaves| leaves[0][row + 1] = 2), [], "how much longer than 320 bytes it is no leaf shows");
        assert_eq!(found(&|leaves| *leaves[2].last_mut().unwrap() ^= 1), [(2, 4)]);
        assert_eq!(found(&|leaves| leaves[3].truncate(300)), [(3, 5)]);
        assert_eq!(found(&|leaves| leaves[4].truncate(40)), [(4, 5)]);
        assert_eq!(found(&|leaves| leaves[0][HEAD_BYTES + ROW_BYTES] = 0), [(0, 5)], "rows that do not ascend");
        assert_eq!(kinds(&sample, &honest, text.len() + 64, Reason::Stop), [(0, 5)]);
        let mut leaves = honest;
        leaves[1][39] ^= 1;
        assert_eq!(kinds(&sample, &leaves, text.len(), Reason::EngineFailure), [], "what bills nothing pays nobody by it");
    }

    #[test]
    fn what_the_table_has_is_shown_for_every_word() {
        let table = Parameters::builtin(1).unwrap().table();
        let kind = |word: &str| table_entry(table, word).map(|entry| entry.code());
        let last = format!("{}z", table.rows().last().unwrap().0);
        assert_eq!(["The", "mmqzx", "\u{1}", &last, &"x".repeat(256)].map(kind), [0, 1, 2, 3, 4].map(Some));
        assert_eq!(table_entry(&WordTable::new(vec![]).unwrap(), "a"), None);
    }

    #[test]
    fn leaves_of_another_root_prove_nothing() {
        let sample = sample();
        let leaves = leaves(&text());
        let committed = Committed { leaves: &leaves, byte_length: 1 };
        let found = find_in_leaves(&sample.bundle.domains, &sample.bundle.receipt, committed, Parameters::builtin(1).unwrap());
        assert!(matches!(found, Err(FaultError::Answer { .. })), "{found:?}");
    }
}
