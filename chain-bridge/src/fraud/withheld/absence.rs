//! Why an account has no part, from what a poster showed on the chain: what `requestRefund` opens where a refund was left out of a tree that nobody else
//! shows.
//!
//! The neighbours of what is not there are found by halving: as many answers as the trees have levels. They are asked for while the payout may be
//! disputed; once it is final only what was shown by then is left.

use std::cmp::Ordering;

use types::{
    id::Address,
    merkle::SumTree,
    payout::{PartLeaf, parts_root},
};

use super::{Question, answers::Answers, put_absence};
use crate::fraud::pack::Packer;

/// What is known of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sought {
    /// More must be shown to say so: a question; for a part with the leaf as it is opened.
    Ask(Question, Vec<u8>),
    /// It is not there, which this opens.
    Absent(Vec<u8>),
    /// It is there.
    There,
}

/// Whether `account` has a part at the place of `part`, by all that was shown so far.
pub fn absence(answers: &Answers, account: Address, part: &PartLeaf) -> Sought {
    found(answers, account, part).expect("what is opened was shown, and a tree of nothing has no sums")
}

fn found(answers: &Answers, account: Address, part: &PartLeaf) -> Option<Sought> {
    let empty = SumTree::new(Vec::new()).ok()?;
    let absent = |packer: Packer| Some(Sought::Absent(packer.finish()));
    if answers.is_empty {
        return absent(Packer::new().u8(0).u8(0).sum_head(0, &empty));
    }
    let leaf = |place: u64| answers.leaves.get(&place).map(|(leaf, opening)| (leaf.account, opening.leaves));
    let place = match halve(&account, leaf) {
        Place::Ask(place) => return Some(Sought::Ask(Question::Leaf(place), Vec::new())),
        Place::Between(before, after) => {
            return absent(put_absence(Packer::new().u8(0), before, after, |packer, place| answers.pack_leaf(packer, place))?);
        }
        Place::At(place) => place,
    };
    let (leaf, _) = answers.leaves.get(&place)?;
    let opened = || answers.pack_leaf(Packer::new().u8(1), place);
    if parts_root(&[]).is_ok_and(|(root, _)| root == leaf.parts) {
        return absent(opened()?.u8(0).sum_head(0, &empty));
    }
    let shown = |index: u64| answers.part(place, index).map(|(part, opening)| (part.place(), opening.leaves));
    match halve(&part.place(), shown) {
        Place::Ask(index) => {
            Some(Sought::Ask(Question::Part { leaf: place, account, index }, answers.pack_leaf(Packer::new(), place)?.finish()))
        }
        Place::Between(before, after) => {
            absent(put_absence(opened()?, before, after, |packer, index| answers.pack_part(packer, place, index))?)
        }
        Place::At(_) => Some(Sought::There),
    }
}

/// Where a key stands, or would.
enum Place {
    Ask(u64),
    At(u64),
    Between(Option<u64>, Option<u64>),
}

/// Halves keys that ascend; where they do not, what it ends between are neighbours all the same. `shown` gives a key and how many there are.
fn halve<K: Ord>(wanted: &K, shown: impl Fn(u64) -> Option<(K, u64)>) -> Place {
    let Some((_, count)) = shown(0) else { return Place::Ask(0) };
    // What stands at `before` comes before the key, what stands at `after` behind it.
    let (mut before, mut after) = (None, count);
    loop {
        let from = before.map_or(0, |place| place + 1);
        if from >= after {
            return Place::Between(before, (after < count).then_some(after));
        }
        let middle = from + (after - from) / 2;
        match shown(middle).map(|(key, _)| key.cmp(wanted)) {
            None => return Place::Ask(middle),
            Some(Ordering::Less) => before = Some(middle),
            Some(Ordering::Equal) => return Place::At(middle),
            Some(Ordering::Greater) => after = middle,
        }
    }
}
