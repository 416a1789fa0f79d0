//! The draw of receipts and of their checkers.
//!
//! Whoever knows beacon, epoch and receipt hash knows the draw; nobody knows the beacon before the receipt is committed. One keccak decides
//! whether a receipt is drawn, about two more per checker: rejection keeps every wei of stake equally likely.

use types::{
    id::{Address, Hash32},
    merkle::keccak,
};

/// Fewest operators without the answering node; below it an answer is labelled unchecked.
pub const ELIGIBLE_MIN: usize = 5;

const DOMAIN: &[u8] = b"tributary/draw/v1";

/// Operators bonded to a base model, with their stake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operators {
    /// Ascending by account.
    accounts: Vec<Address>,
    /// Stake of all accounts up to and with this one.
    running: Vec<u128>,
}

/// Why a list is no set of operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorsError {
    /// An account twice.
    #[error("operator {0} is listed twice")]
    Repeated(Address),
    /// More wei than there can be.
    #[error("the stakes sum to more than 2^128 wei")]
    Overflow,
}

impl Operators {
    /// The operators with stake above zero, in any order.
    ///
    /// # Errors
    /// [`OperatorsError`].
    pub fn new(operators: &[(Address, u128)]) -> Result<Self, OperatorsError> {
        let mut sorted: Vec<_> = operators.iter().filter(|(_, stake)| *stake > 0).copied().collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(OperatorsError::Repeated(pair[0].0));
        }
        let mut total = 0_u128;
        let mut running = Vec::with_capacity(sorted.len());
        for (_, stake) in &sorted {
            total = total.checked_add(*stake).ok_or(OperatorsError::Overflow)?;
            running.push(total);
        }
        Ok(Self { accounts: sorted.into_iter().map(|(account, _)| account).collect(), running })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether an account is one of them.
    pub fn contains(&self, account: Address) -> bool {
        self.accounts.binary_search(&account).is_ok()
    }

    /// All stake.
    pub fn total(&self) -> u128 {
        self.running.last().copied().unwrap_or(0)
    }

    /// First and last-plus-one wei of an account on the line of all stakes.
    fn interval(&self, account: Address) -> Option<(u128, u128)> {
        let place = self.accounts.binary_search(&account).ok()?;
        Some((place.checked_sub(1).map_or(0, |before| self.running[before]), self.running[place]))
    }

    fn at(&self, wei: u128) -> Address {
        self.accounts[self.running.partition_point(|end| *end <= wei)]
    }
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawRule {
    /// Rate of checked receipts, in 2^-32.
    pub rate: u32,
    /// Checkers of a drawn receipt.
    pub checkers: u8,
    /// Fewest eligible operators.
    pub eligible_min: usize,
}

/// What the draw says of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Draw {
    /// It is not checked.
    NotDrawn,
    /// Too few operators could check it: the answer is labelled so, and its open value is capped.
    Unchecked,
    /// These check it, each as often as named.
    Checkers(Vec<Address>),
}

/// Draws whether and by whom a receipt is checked: checkers by stake, with replacement, the answering node left out.
pub fn draw(beacon: Hash32, epoch: u64, receipt: Hash32, rule: DrawRule, operators: &Operators, answering: Address) -> Draw {
    let own = operators.interval(answering);
    if operators.len() - usize::from(own.is_some()) < rule.eligible_min.max(1) {
        return Draw::Unchecked;
    }
    let block = |counter: u64| keccak(&[DOMAIN, &beacon.0, &epoch.to_be_bytes(), &receipt.0, &counter.to_be_bytes()]).0;
    let [a, b, c, d, ..] = block(0);
    if u32::from_be_bytes([a, b, c, d]) >= rule.rate {
        return Draw::NotDrawn;
    }
    let (start, end) = own.unwrap_or((0, 0));
    let total = operators.total() - (end - start);
    let mut counter = 0;
    let checkers = (0..rule.checkers).map(|_| {
        let wei = below(total, &mut counter, block);
        operators.at(if wei < start { wei } else { wei + (end - start) })
    });
    Draw::Checkers(checkers.collect())
}

/// A uniform number below `bound` > 0, from the blocks after `counter`: as many bits as the bound has, drawn again while too large.
/// Each try succeeds with probability over one half, so the loop ends.
fn below(bound: u128, counter: &mut u64, block: impl Fn(u64) -> [u8; 32]) -> u128 {
    let mask = u128::MAX >> (bound - 1).leading_zeros().min(127);
    loop {
        *counter += 1;
        let block = block(*counter);
        let (high, low) = block.split_at(16);
        for half in [high, low] {
            let number = u128::from_be_bytes(half.try_into().expect("half of 32 bytes")) & mask;
            if number < bound {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account(byte: u8) -> Address {
        Address([byte; 20])
    }

    const ALWAYS: DrawRule = DrawRule { rate: u32::MAX, checkers: 2, eligible_min: ELIGIBLE_MIN };

    fn drawn(number: u64, rule: DrawRule, operators: &Operators, answering: Address) -> Draw {
        draw(Hash32([7; 32]), 3, keccak(&[&number.to_be_bytes()]), rule, operators, answering)
    }

    #[test]
    fn checkers_are_drawn_in_proportion_to_stake_and_never_the_answering_node() {
        let stakes: Vec<_> = (1..=8_u8).map(|byte| (account(byte), u128::from(byte) * 10_u128.pow(18))).collect();
        let operators = Operators::new(&stakes).unwrap();
        let mut counts = [0_u32; 9];
        let receipts = 20_000;
        for number in 0..receipts {
            let Draw::Checkers(checkers) = drawn(number, ALWAYS, &operators, account(5)) else { panic!("{number} was not drawn") };
            assert_eq!(checkers.len(), 2);
            checkers.iter().for_each(|checker| counts[usize::from(checker.0[0])] += 1);
        }
        assert_eq!(counts[5], 0);
        for byte in [1, 2, 3, 4, 6, 7, 8_u8] {
            let share = f64::from(byte) / 31.0;
            let (expected, n) = (40_000.0 * share, 40_000.0);
            let deviation = (n * share * (1.0 - share)).sqrt();
            assert!(
                (f64::from(counts[usize::from(byte)]) - expected).abs() < 4.0 * deviation,
                "{byte}: {} of {expected}",
                counts[usize::from(byte)]
            );
        }
    }

    #[test]
    fn the_rate_is_the_share_of_drawn_receipts() {
        let operators = Operators::new(&(1..=9).map(|byte| (account(byte), 1)).collect::<Vec<_>>()).unwrap();
        let rule = DrawRule { rate: u32::MAX / 50, ..ALWAYS };
        let count = (0..50_000).filter(|number| drawn(*number, rule, &operators, account(1)) != Draw::NotDrawn).count();
        assert!((880..1_120).contains(&count), "{count}");
        assert!((0..1_000).all(|number| drawn(number, DrawRule { rate: 0, ..rule }, &operators, account(1)) == Draw::NotDrawn));
    }

    #[test]
    fn a_number_equal_to_the_rate_is_not_drawn() {
        let operators = Operators::new(&(1..=9).map(|byte| (account(byte), 1)).collect::<Vec<_>>()).unwrap();
        let block = keccak(&[DOMAIN, &[7; 32], &3_u64.to_be_bytes(), &keccak(&[&1_u64.to_be_bytes()]).0, &0_u64.to_be_bytes()]);
        let number = u32::from_be_bytes(*block.0.first_chunk().unwrap());
        let at = |rate| drawn(1, DrawRule { rate, ..ALWAYS }, &operators, account(1));
        assert_eq!(at(number), Draw::NotDrawn);
        assert!(matches!(at(number + 1), Draw::Checkers(_)));
    }

    #[test]
    fn a_node_never_checks_itself_at_the_edges_of_its_own_stake() {
        // One wei each: every draw falls on the edge of somebody's interval.
        let operators = Operators::new(&(1..=6).map(|byte| (account(byte), 1)).collect::<Vec<_>>()).unwrap();
        for answering in 1..=6 {
            for number in 0..100 {
                let Draw::Checkers(checkers) = drawn(number, ALWAYS, &operators, account(answering)) else {
                    panic!("{number} was not drawn")
                };
                assert!(!checkers.contains(&account(answering)), "{answering} checks itself in draw {number}");
            }
        }
    }

    #[test]
    fn with_fewer_than_five_others_an_answer_is_unchecked() {
        let five = Operators::new(&(1..=5).map(|byte| (account(byte), 1)).collect::<Vec<_>>()).unwrap();
        assert_eq!(drawn(0, ALWAYS, &five, account(1)), Draw::Unchecked);
        assert!(matches!(drawn(0, ALWAYS, &five, account(9)), Draw::Checkers(_)));
        assert_eq!(drawn(0, DrawRule { eligible_min: 0, ..ALWAYS }, &Operators::new(&[]).unwrap(), account(1)), Draw::Unchecked);
    }

    #[test]
    fn repeated_accounts_and_impossible_sums_are_refused() {
        assert_eq!(Operators::new(&[(account(1), 1), (account(1), 2)]), Err(OperatorsError::Repeated(account(1))));
        assert_eq!(Operators::new(&[(account(1), u128::MAX), (account(2), 1)]), Err(OperatorsError::Overflow));
        assert_eq!(Operators::new(&[(account(1), 0)]).unwrap().len(), 0);
    }

    #[test]
    fn a_fixed_draw_keeps_its_outcome() {
        let operators = Operators::new(&(1..=9).map(|byte| (account(byte), u128::from(byte))).collect::<Vec<_>>()).unwrap();
        let Draw::Checkers(checkers) = drawn(1, ALWAYS, &operators, account(9)) else { panic!("drawn at rate 1") };
        assert_eq!(
            checkers.iter().map(|c| c.0[0]).collect::<Vec<_>>(),
            include_str!("../../fixtures/draw.txt").trim().split(' ').map(|n| n.parse::<u8>().unwrap()).collect::<Vec<_>>()
        );
    }

    proptest! {
        #[test]
        fn every_number_is_below_its_bound_whatever_the_bound(bound in 1..=u128::MAX, seed: u64) {
            let mut counter = 0;
            prop_assert!(below(bound, &mut counter, |n| keccak(&[&seed.to_be_bytes(), &n.to_be_bytes()]).0) < bound);
            prop_assert!(counter < 200);
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(mut stakes in proptest::collection::btree_map(any::<u8>(), 1..1_000_u128, 6..20).prop_map(|map| map.into_iter().map(|(byte, stake)| (account(byte), stake)).collect::<Vec<_>>()), number: u64) {
            let sorted = Operators::new(&stakes).unwrap();
            stakes.reverse();
            prop_assert_eq!(drawn(number, ALWAYS, &sorted, stakes[0].0), drawn(number, ALWAYS, &Operators::new(&stakes).unwrap(), stakes[0].0));
        }
    }
}
