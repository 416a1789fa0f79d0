//! Guesses at an answer's next tokens: what followed the last three tokens where they stood before, in prompt or answer.
//!
//! Guesses never change an answer. They are rows of the same step; the token chosen at each row is compared with the guess behind it, and
//! from the first that differs on the rows are forgotten ([`accepted`]). A right guess saves a step, a wrong one costs a row: about a
//! twentieth of a step of one sequence, more in a full one, where the planner has no rows to spare for it. After wrong guesses fewer are made,
//! in the end one in [`PAUSE`] tokens.
//!
//! Cost: one place of a table for each token, found by a hash and then compared; 4 bytes a token, at most 64 kB.

/// Guesses in a step at most.
pub const GUESSES_MAX: usize = 8;
/// Tokens that must have stood there before, in this order.
const GRAM: usize = 3;
/// Tokens that pass without a guess after a series of wrong ones.
pub const PAUSE: u32 = 16;
/// Places of a table at most.
const TABLE_MAX: usize = 16_384;

/// Where each run of three tokens stood last.
#[derive(Debug)]
pub struct Lookup {
    /// The position after the run, by its hash; 0 for none.
    table: Vec<u32>,
    /// Tokens whose runs are in the table.
    seen: usize,
    /// How many guesses are worth making.
    length: usize,
    pause: u32,
}

impl Lookup {
    /// For an answer that may have so many tokens, prompt included.
    #[must_use]
    pub fn new(tokens_max: usize) -> Self {
        Self { table: vec![0; tokens_max.clamp(GRAM, TABLE_MAX).next_power_of_two()], seen: GRAM, length: 2, pause: 0 }
    }

    /// Guesses what follows `tokens`, at most `max` and [`GUESSES_MAX`]; appends to `out` and returns how many. `tokens` only grow from call to call.
    pub fn guess(&mut self, tokens: &[u32], max: usize, out: &mut Vec<u32>) -> usize {
        // A run counts once a token follows it, so the last run finds an earlier place than itself.
        while self.seen < tokens.len() {
            let place = self.place(&tokens[self.seen - GRAM..self.seen]);
            self.table[place] = u32::try_from(self.seen).unwrap_or(0);
            self.seen += 1;
        }
        let count = max.min(self.length);
        if self.pause > 0 || count == 0 || tokens.len() <= GRAM {
            return 0;
        }
        let last = &tokens[tokens.len() - GRAM..];
        let after = usize::try_from(self.table[self.place(last)]).unwrap_or(0);
        if after < GRAM || tokens[after - GRAM..after] != *last {
            return 0;
        }
        let period = tokens.len() - after;
        out.extend((0..count).map(|at| tokens[after + at % period]));
        count
    }

    /// Takes in that of `guessed` guesses so many were right, and that so many tokens were chosen.
    pub fn judged(&mut self, guessed: usize, right: usize, chosen: u32) {
        self.pause = self.pause.saturating_sub(chosen);
        if guessed == 0 {
            return;
        }
        if right == guessed {
            self.length = (self.length * 2).min(GUESSES_MAX);
        } else if right * 2 < guessed {
            if self.length == 1 {
                self.pause = PAUSE;
            }
            self.length = (self.length / 2).max(1);
        }
    }

    fn place(&self, gram: &[u32]) -> usize {
        let hash = gram.iter().fold(0u64, |hash, token| (hash ^ u64::from(*token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
        usize::try_from(hash & 0xffff_ffff).unwrap_or(0) & (self.table.len() - 1)
    }
}

/// How many guesses stand, when `chosen` was chosen before each of them and after the last.
#[must_use]
pub fn accepted(guesses: &[u32], chosen: &[u32]) -> usize {
    guesses.iter().zip(chosen).take_while(|(guess, chosen)| guess == chosen).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guess(tokens: &[u32], max: usize) -> Vec<u32> {
        let mut out = Vec::new();
        let mut lookup = Lookup::new(100);
        lookup.length = GUESSES_MAX;
        let count = lookup.guess(tokens, max, &mut out);
        assert_eq!(count, out.len());
        out
    }

    #[test]
    fn what_followed_before_is_guessed_from_its_last_place() {
        assert_eq!(guess(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 3), [4, 5, 9]);
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2, 3, 7, 1, 2, 3], 2), [7, 1]);
        assert_eq!(guess(&[5, 5, 5, 5], 4), [5, 5, 5, 5], "a guess goes on past the end in the same period");
        assert_eq!(guess(&[1, 2, 3, 4, 2, 3], 3), [0; 0], "two tokens are not enough");
        assert_eq!(guess(&[1, 2], 3), [0; 0]);
        assert_eq!(guess(&[], 3), [0; 0]);
    }

    #[test]
    fn guesses_stand_until_the_first_wrong_one() {
        assert_eq!(accepted(&[4, 5, 6], &[4, 5, 7, 8]), 2);
        assert_eq!(accepted(&[4], &[5, 4]), 0);
        assert_eq!(accepted(&[], &[5]), 0);
    }

    #[test]
    fn wrong_guesses_become_few_and_right_ones_many() {
        let mut lookup = Lookup::new(100);
        let tokens = [7; 40];
        let mut out = Vec::new();
        assert_eq!(lookup.guess(&tokens, 8, &mut out), 2);
        lookup.judged(2, 0, 1);
        assert_eq!(lookup.guess(&tokens, 8, &mut out), 1);
        lookup.judged(1, 0, 1);
        assert_eq!(lookup.guess(&tokens, 8, &mut out), 0);
        lookup.judged(0, 0, PAUSE);
        for expected in [1, 2, 4, 8, 8] {
            let count = lookup.guess(&tokens, 8, &mut out);
            assert_eq!(count, expected);
            lookup.judged(count, count, 1);
        }
    }

    proptest! {
        /// The whole search, written plainly, finds a place whenever the table does, and the table's place is a true one.
        #[test]
        fn a_guess_continues_an_earlier_place_of_the_last_three(tokens in prop::collection::vec(0u32..4, 0..60), max in 0usize..12) {
            let got = guess(&tokens, max);
            prop_assert!(got.len() <= max.min(GUESSES_MAX));
            let places: Vec<usize> = (GRAM..tokens.len()).filter(|at| tokens[at - GRAM..*at] == tokens[tokens.len() - GRAM..]).collect();
            if let Some(first) = got.first() {
                prop_assert!(places.iter().any(|at| tokens[*at] == *first), "{tokens:?} {got:?}");
            }
        }
    }
}
