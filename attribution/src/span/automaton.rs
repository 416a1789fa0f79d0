//! The longest text shared with a prompt, byte by byte: a suffix automaton (Blumer et al. 1985).
//!
//! A prompt of n bytes gives at most 2 n states and 3 n edges, 12 bytes each; reading an answer takes amortised constant time per byte, however
//! repetitive both are. Each state knows where its strings end first, hence the smallest offset of any shared run.

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct State {
    /// Length of its longest string.
    length: u32,
    /// State of the longest suffix in another state.
    link: u32,
    /// End of the first occurrence of its strings.
    first_end: u32,
    /// Head of its list of edges.
    edges: u32,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    byte: u8,
    target: u32,
    next: u32,
}

/// All substrings of one text.
#[derive(Debug)]
pub(super) struct Automaton {
    states: Vec<State>,
    edges: Vec<Edge>,
}

/// Where a reader stands: the longest suffix of what it read that the text holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    state: u32,
    /// Bytes of that suffix.
    pub(super) length: u32,
}

fn at(number: u32) -> usize {
    usize::try_from(number).expect("state numbers are below three times the bounded prompt length")
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("state numbers are below three times the bounded prompt length")
}

impl Automaton {
    /// The automaton of `text`, whose length the caller bounds below 2^30.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut automaton = Self { states: Vec::with_capacity(2 * text.len() + 1), edges: Vec::with_capacity(3 * text.len()) };
        automaton.states.push(State { length: 0, link: NONE, first_end: 0, edges: NONE });
        let mut last = 0;
        for byte in text {
            last = automaton.extend(last, *byte);
        }
        automaton
    }

    fn extend(&mut self, last: u32, byte: u8) -> u32 {
        let length = self.states[at(last)].length + 1;
        let new = self.add(State { length, link: 0, first_end: length, edges: NONE });
        let mut from = last;
        while from != NONE && self.edge(from, byte).is_none() {
            self.connect(from, byte, new);
            from = self.states[at(from)].link;
        }
        if let Some(edge) = (from != NONE).then(|| self.edge(from, byte)).flatten() {
            self.states[at(new)].link = self.split(from, byte, edge);
        }
        new
    }

    /// The state that strings of `from` and `byte` belong to once longer strings of the edge's target end elsewhere too.
    fn split(&mut self, from: u32, byte: u8, edge: usize) -> u32 {
        let target = self.edges[edge].target;
        let length = self.states[at(from)].length + 1;
        if self.states[at(target)].length == length {
            return target;
        }
        let clone = self.add(State { length, edges: NONE, ..self.states[at(target)] });
        self.copy_edges(target, clone);
        self.states[at(target)].link = clone;
        let mut from = from;
        while from != NONE {
            match self.edge(from, byte).filter(|edge| self.edges[*edge].target == target) {
                Some(edge) => self.edges[edge].target = clone,
                None => break,
            }
            from = self.states[at(from)].link;
        }
        clone
    }

    fn add(&mut self, state: State) -> u32 {
        self.states.push(state);
        number(self.states.len() - 1)
    }

    fn copy_edges(&mut self, from: u32, to: u32) {
        let mut edge = self.states[at(from)].edges;
        while edge != NONE {
            let Edge { byte, target, next } = self.edges[at(edge)];
            self.connect(to, byte, target);
            edge = next;
        }
    }

    fn connect(&mut self, from: u32, byte: u8, target: u32) {
        let state = &mut self.states[at(from)];
        self.edges.push(Edge { byte, target, next: state.edges });
        state.edges = number(self.edges.len() - 1);
    }

    fn edge(&self, from: u32, byte: u8) -> Option<usize> {
        let mut edge = self.states[at(from)].edges;
        while edge != NONE {
            if self.edges[at(edge)].byte == byte {
                return Some(at(edge));
            }
            edge = self.edges[at(edge)].next;
        }
        None
    }

    /// A reader that has read nothing.
    pub(super) const fn start(&self) -> Cursor {
        Cursor { state: 0, length: 0 }
    }

    /// Reads one byte.
    pub(super) fn read(&self, mut cursor: Cursor, byte: u8) -> Cursor {
        loop {
            if let Some(edge) = self.edge(cursor.state, byte) {
                return Cursor { state: self.edges[edge].target, length: cursor.length + 1 };
            }
            match self.states[at(cursor.state)].link {
                NONE => return self.start(),
                link => cursor = Cursor { state: link, length: self.states[at(link)].length },
            }
        }
    }

    /// Smallest offset of the last `length` bytes read, at most the cursor's length.
    pub(super) fn first_offset(&self, cursor: Cursor, length: u32) -> u32 {
        let mut state = cursor.state;
        while self.states[at(state)].link != NONE && self.states[at(self.states[at(state)].link)].length >= length {
            state = self.states[at(state)].link;
        }
        self.states[at(state)].first_end - length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_longest_shared_suffix_and_its_first_offset_are_those_of_a_scan(text in "[ab]{0,24}", read in "[abc]{0,24}") {
            let automaton = Automaton::new(text.as_bytes());
            let mut cursor = automaton.start();
            for end in 1..=read.len() {
                cursor = automaton.read(cursor, read.as_bytes()[end - 1]);
                let longest = (0..=end).rev().take_while(|length| *length <= end).find(|length| text.contains(&read[end - length..end])).unwrap();
                prop_assert_eq!(at(cursor.length), longest);
                for length in 1..=longest {
                    prop_assert_eq!(at(automaton.first_offset(cursor, number(length))), text.find(&read[end - length..end]).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_repetitive_text_stays_linear() {
        let automaton = Automaton::new(&[b'a'; 50_000]);
        assert!(automaton.states.len() <= 100_001 && automaton.edges.len() <= 150_000);
        let cursor = (0..80_000).fold(automaton.start(), |cursor, _| automaton.read(cursor, b'a'));
        assert_eq!(cursor.length, 50_000);
        assert_eq!(automaton.first_offset(cursor, 3), 0);
    }
}
