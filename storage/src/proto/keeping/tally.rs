//! Counting the fragments of an object that its holders show, before somebody gives up a whole copy of it.
//!
//! Flow. Whoever has the copy asks operators that it hears for the object's record, in any order, [`STRANGERS_AT_ONCE`] at a time, until one has it
//! ([`Tally::ask`]); the caller checks the record against the chain. Then it asks everyone whom the record names, once, also those whom a newer record
//! that comes with their words names. A fragment counts if the holder that the record gives it to says that it has it. Non-goals: reading the bytes, which audits do daily;
//! finding what is held by others than the record says, which only a reader needs.
//!
//! *Enough* is the [`floor`] of repair: 32 of 16/48, 20 of 10/30, 8 of 4/12, 4 of 3/5. *Against* the k that can be read: what comes is words. Of r that say they hold, r - k
//! (16 of 32, half of them and a third of all) may lie or fall silent at once, and the object is still read without the copy; and below r the object is to be mended from k of those
//! fragments, which is no moment to give up what could stand in for them. *Against* more than r: an object lives between r and n, where the network leaves it alone, so a
//! cache that waits for n fragments keeps nearly everything it ever had.
//!
//! *Cost.* 48 questions of 40 bytes and 48 answers of some 2 KB, for a copy of up to 64 MiB; in a network of a thousand operators 40 strangers on average are asked before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use types::id::Address;

use crate::proto::{placement::Assignment, repair::floor};

/// Operators that are asked at once while nobody has shown a record. 32: among a thousand operators one of them holds an object of 48 with 79 %.
pub const STRANGERS_AT_ONCE: usize = 32;
/// Most operators that are asked before a record is shown. 128: a thousand operators hide 48 holders from that many in one of 700 cases, and then the copy stays.
pub const STRANGERS_MAX: usize = 128;

/// What operators said of one object.
#[derive(Debug, Clone)]
pub struct Tally {
    heard: BTreeSet<Address>,
    strangers: VecDeque<Address>,
    /// Fragments that each operator says it holds; none for who was asked and has not answered.
    words: BTreeMap<Address, BTreeSet<u8>>,
}

impl Tally {
    /// Among the operators that are heard, in the order in which they are asked for the record.
    pub fn new(heard: impl IntoIterator<Item = Address>) -> Self {
        let all: Vec<Address> = heard.into_iter().collect();
        let heard = all.iter().copied().collect();
        Self { heard, strangers: all.into_iter().take(STRANGERS_MAX).collect(), words: BTreeMap::new() }
    }

    /// Whom to ask next, by the best record that was shown so far; nobody if all have been asked. Nobody is asked twice, so it ends.
    pub fn ask(&mut self, known: Option<&Assignment>) -> Vec<Address> {
        let asked: Vec<Address> = match known {
            None => self.strangers.drain(..self.strangers.len().min(STRANGERS_AT_ONCE)).collect(),
            Some(known) => {
                let is_open = |holder: &Address| self.heard.contains(holder) && !self.words.contains_key(holder);
                known.holders().map(|(_, holder)| holder).filter(is_open).collect()
            }
        };
        self.words.extend(asked.iter().map(|operator| (*operator, BTreeSet::new())));
        asked
    }

    /// Takes down what an operator that was asked says it holds.
    pub fn answered(&mut self, operator: Address, fragments: impl IntoIterator<Item = u8>) {
        if let Some(word) = self.words.get_mut(&operator) {
            word.extend(fragments);
        }
    }

    /// Fragments whose holder says that it has them.
    pub fn shown(&self, known: &Assignment) -> usize {
        let is_shown = |(fragment, holder): &(u8, Address)| self.words.get(holder).is_some_and(|word| word.contains(fragment));
        known.holders().filter(is_shown).count()
    }

    /// Whether a whole copy may be given up.
    pub fn is_enough(&self, known: &Assignment) -> bool {
        self.shown(known) >= usize::from(floor(known.profile()))
    }
}

#[cfg(test)]
mod tests {
    use types::id::{BlobId, Hash32};

    use super::*;
    use crate::{
        erasure::Profile,
        proto::placement::{Move, Rules},
    };

    fn operator(index: u8) -> Address {
        Address([index; 20])
    }

    fn known(profile: Profile) -> Assignment {
        let holders: Vec<_> = (0..profile.total()).map(operator).collect();
        Assignment::of_record(Hash32::ZERO, BlobId([1; 32]), profile, Rules { subnet_max: None, regions: BTreeSet::new() }, &holders)
    }

    fn code(data: u8, total: u8) -> Profile {
        Profile::new(data, total).unwrap()
    }

    /// Whether a copy may go when the first `holding` of a code's holders say that they have theirs.
    fn goes(profile: Profile, holding: u8) -> bool {
        let known = known(profile);
        let mut tally = Tally::new((0..profile.total()).map(operator));
        for asked in tally.ask(Some(&known)) {
            if asked.0[0] < holding {
                tally.answered(asked, [asked.0[0]]);
            }
        }
        assert_eq!(tally.shown(&known), usize::from(holding));
        tally.is_enough(&known)
    }

    #[test]
    fn a_copy_may_go_from_the_floor_of_repair_on_and_not_below() {
        for (data, total, enough) in [(16, 48, 32), (10, 30, 20), (4, 12, 8), (3, 5, 4)] {
            let profile = code(data, total);
            assert!(!goes(profile, enough - 1) && goes(profile, enough) && goes(profile, total), "{data}/{total}");
        }
    }

    #[test]
    fn only_the_fragment_that_the_record_names_a_holder_for_counts_and_only_of_who_was_asked() {
        let known = known(code(3, 5));
        let mut tally = Tally::new((0..4).map(operator));
        assert_eq!(tally.ask(Some(&known)).len(), 4, "the fifth is not heard");
        tally.answered(operator(0), [0]);
        tally.answered(operator(1), [0, 2]);
        tally.answered(operator(2), [2, 3, 4]);
        tally.answered(operator(4), [4]);
        assert_eq!((tally.shown(&known), tally.is_enough(&known)), (2, false), "fragments 0 and 2");
    }

    #[test]
    fn strangers_are_asked_until_one_shows_the_record_and_nobody_twice() {
        let mut tally = Tally::new((0..=254).rev().map(operator));
        let first = tally.ask(None);
        assert_eq!((first.len(), first[0]), (STRANGERS_AT_ONCE, operator(254)));
        let second = tally.ask(None);
        assert!(second.len() == STRANGERS_AT_ONCE && second.iter().all(|operator| !first.contains(operator)));
        assert_eq!(tally.ask(None).len() + tally.ask(None).len(), STRANGERS_MAX - 2 * STRANGERS_AT_ONCE);
        assert!(tally.ask(None).is_empty(), "so many and no more");
        let mut known = known(code(4, 12));
        assert_eq!(tally.ask(Some(&known)).len(), 12);
        assert!(tally.ask(Some(&known)).is_empty());
        // A newer record comes with what one of them says.
        assert!(known.apply(Move { object: BlobId([1; 32]), fragment: 3, generation: 1, to: operator(100) }));
        assert_eq!(tally.ask(Some(&known)), [operator(100)]);
        tally.answered(operator(100), [3]);
        assert_eq!(tally.shown(&known), 1);
    }
}
