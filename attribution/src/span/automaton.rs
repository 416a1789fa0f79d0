//! The longest sequence of symbols shared with a text: a suffix automaton (Blumer et al. 1985).
//!
//! A text of n symbols gives at most 2 n states and 3 n edges; reading takes amortised constant many look-ups per symbol, however repetitive
//! both texts are. Each state knows where its sequences end first, hence the smallest place of any shared run.

use std::collections::BTreeMap;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct State {
    /// Length of its longest sequence.
    length: u32,
    /// State of the longest suffix in another state.
    link: u32,
    /// End of the first occurrence of its sequences.
    first_end: u32,
}

/// All runs of symbols of one text.
#[derive(Debug)]
pub(super) struct Automaton {
    states: Vec<State>,
    /// (state, symbol) to state.
    edges: BTreeMap<(u32, u32), u32>,
}

/// Where a reader stands: the longest suffix of what it read that the text holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    state: u32,
    /// Symbols of that suffix.
    pub(super) length: u32,
}

impl Automaton {
    /// The automaton of `text`, whose length the caller bounds below 2^30.
    pub(super) fn new(text: &[u32]) -> Self {
        let mut automaton = Self { states: Vec::with_capacity(2 * text.len() + 1), edges: BTreeMap::new() };
        automaton.states.push(State { length: 0, link: NONE, first_end: 0 });
        let mut last = 0;
        for symbol in text {
            last = automaton.extend(last, *symbol);
        }
        automaton
    }

    fn state(&self, number: u32) -> &State {
        &self.states[usize::try_from(number).expect("a state's number fits memory")]
    }

    fn state_mut(&mut self, number: u32) -> &mut State {
        &mut self.states[usize::try_from(number).expect("a state's number fits memory")]
    }

    fn add(&mut self, state: State) -> u32 {
        self.states.push(state);
        u32::try_from(self.states.len() - 1).expect("at most twice the bounded length of the text")
    }

    fn extend(&mut self, last: u32, symbol: u32) -> u32 {
        let length = self.state(last).length + 1;
        let new = self.add(State { length, link: 0, first_end: length });
        let mut from = last;
        while from != NONE && !self.edges.contains_key(&(from, symbol)) {
            self.edges.insert((from, symbol), new);
            from = self.state(from).link;
        }
        if from != NONE {
            self.state_mut(new).link = self.split(from, symbol);
        }
        new
    }

    /// The state of `from`'s longest sequence and `symbol`, made if longer sequences shared its state until now.
    fn split(&mut self, from: u32, symbol: u32) -> u32 {
        let target = self.edges[&(from, symbol)];
        let length = self.state(from).length + 1;
        if self.state(target).length == length {
            return target;
        }
        let clone = self.add(State { length, ..*self.state(target) });
        let edges: Vec<_> = self.edges.range((target, 0)..=(target, u32::MAX)).map(|((_, symbol), to)| ((clone, *symbol), *to)).collect();
        self.edges.extend(edges);
        self.state_mut(target).link = clone;
        let mut from = from;
        while from != NONE && self.edges.get(&(from, symbol)) == Some(&target) {
            self.edges.insert((from, symbol), clone);
            from = self.state(from).link;
        }
        clone
    }

    /// A reader that has read nothing.
    pub(super) const fn start() -> Cursor {
        Cursor { state: 0, length: 0 }
    }

    /// Reads one symbol.
    pub(super) fn read(&self, mut cursor: Cursor, symbol: u32) -> Cursor {
        loop {
            if let Some(target) = self.edges.get(&(cursor.state, symbol)) {
                return Cursor { state: *target, length: cursor.length + 1 };
            }
            match self.state(cursor.state).link {
                NONE => return Self::start(),
                link => cursor = Cursor { state: link, length: self.state(link).length },
            }
        }
    }

    /// Where the last `length` symbols read, at most the cursor's length, stand first.
    pub(super) fn first_place(&self, cursor: Cursor, length: u32) -> u32 {
        let mut state = self.state(cursor.state);
        while state.link != NONE && self.state(state.link).length >= length {
            state = self.state(state.link);
        }
        state.first_end - length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(text: &[u32], run: &[u32]) -> Option<usize> {
        (0..=text.len()).find(|at| text[*at..].starts_with(run))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_longest_shared_suffix_and_its_first_place_are_those_of_a_scan(text in proptest::collection::vec(0..2_u32, 0..24), read in proptest::collection::vec(0..3_u32, 0..24)) {
            let automaton = Automaton::new(&text);
            let mut cursor = Automaton::start();
            for end in 1..=read.len() {
                cursor = automaton.read(cursor, read[end - 1]);
                let longest = (0..=end).rev().find(|length| find(&text, &read[end - length..end]).is_some()).unwrap();
                prop_assert_eq!(cursor.length as usize, longest);
                for length in 1..=longest {
                    prop_assert_eq!(Some(automaton.first_place(cursor, u32::try_from(length).unwrap()) as usize), find(&text, &read[end - length..end]));
                }
            }
        }
    }

    #[test]
    fn a_repetitive_text_stays_linear() {
        let automaton = Automaton::new(&[7; 50_000]);
        assert!(automaton.states.len() <= 100_001 && automaton.edges.len() <= 150_000);
        let cursor = (0..80_000).fold(Automaton::start(), |cursor, _| automaton.read(cursor, 7));
        assert_eq!(cursor.length, 50_000);
        assert_eq!(automaton.first_place(cursor, 3), 0);
    }
}
