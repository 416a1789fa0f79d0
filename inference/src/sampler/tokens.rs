//! A set of token ids: what a grammar allows next.

/// Tokens of a vocabulary, one bit each: 6 kB for 49,152.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenSet {
    /// Bits past the vocabulary are 0.
    words: Vec<u64>,
    vocabulary: usize,
}

impl TokenSet {
    /// The empty set of a vocabulary.
    #[must_use]
    pub fn new(vocabulary: usize) -> Self {
        Self { words: vec![0; vocabulary.div_ceil(64)], vocabulary }
    }

    /// Tokens it speaks of; whoever is not among them is not in it.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Empties it, for a vocabulary of this size. Allocates only if that is larger than ever before.
    pub fn reset(&mut self, vocabulary: usize) {
        self.words.clear();
        self.words.resize(vocabulary.div_ceil(64), 0);
        self.vocabulary = vocabulary;
    }

    /// Takes a token in; one outside the vocabulary is left out.
    pub fn insert(&mut self, token: u32) {
        if let Some((word, bit)) = self.place(token) {
            self.words[word] |= bit;
        }
    }

    /// Takes tokens in, 32 to a word, the lowest bit first, from token 0 on.
    pub fn insert_words(&mut self, words: &[u32]) {
        for (word, pair) in self.words.iter_mut().zip(words.chunks(2)) {
            *word |= u64::from(pair[0]) | pair.get(1).map_or(0, |high| u64::from(*high) << 32);
        }
        if let (Some(last), rest @ 1..) = (self.words.last_mut(), self.vocabulary % 64) {
            *last &= (1 << rest) - 1;
        }
    }

    /// Takes a token out.
    pub fn remove(&mut self, token: u32) {
        if let Some((word, bit)) = self.place(token) {
            self.words[word] &= !bit;
        }
    }

    /// Whether a token is in it.
    #[must_use]
    pub fn contains(&self, token: u32) -> bool {
        self.place(token).is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// How many tokens are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| usize::try_from(word.count_ones()).expect("at most 64")).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Its tokens, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..)
            .step_by(64)
            .zip(&self.words)
            .flat_map(|(first, word)| (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| first + bit))
    }

    /// Writes minus infinity over the scores of all tokens that are not in it.
    pub(super) fn mask(&self, scores: &mut [f32]) {
        let mut words = self.words.iter();
        for chunk in scores.chunks_mut(64) {
            match words.next().copied().unwrap_or(0) {
                0 => chunk.fill(f32::NEG_INFINITY),
                u64::MAX => {}
                word => {
                    for (bit, score) in chunk.iter_mut().enumerate() {
                        *score = if word >> bit & 1 == 0 { f32::NEG_INFINITY } else { *score };
                    }
                }
            }
        }
    }

    fn place(&self, token: u32) -> Option<(usize, u64)> {
        let index = usize::try_from(token).ok().filter(|index| *index < self.vocabulary)?;
        Some((index / 64, 1 << (index % 64)))
    }
}

impl Extend<u32> for TokenSet {
    fn extend<T: IntoIterator<Item = u32>>(&mut self, tokens: T) {
        tokens.into_iter().for_each(|token| self.insert(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_is_a_set(vocabulary in 0usize..200, steps in prop::collection::vec((any::<bool>(), 0u32..220), 0..80)) {
            let (mut set, mut model) = (TokenSet::new(vocabulary), BTreeSet::new());
            for (is_in, token) in steps {
                if is_in && (token as usize) < vocabulary {
                    model.insert(token);
                } else {
                    model.remove(&token);
                }
                if is_in { set.insert(token) } else { set.remove(token) }
            }
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model.clone());
            prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            let mut scores = vec![1.0f32; 230];
            set.mask(&mut scores);
            prop_assert!((0u32..230).all(|token| set.contains(token) == model.contains(&token)));
            prop_assert!((0u32..230).zip(&scores).all(|(token, score)| score.is_finite() == model.contains(&token)));
        }

        #[test]
        fn words_hold_the_same_tokens(words in prop::collection::vec(any::<u32>(), 0..9), vocabulary in 0usize..300) {
            let mut set = TokenSet::new(vocabulary);
            set.insert_words(&words);
            let expected: Vec<u32> = (0u32..).zip(&words).flat_map(|(at, word)| (0..32).filter(move |bit| word >> bit & 1 != 0).map(move |bit| at * 32 + bit))
                .filter(|token| (*token as usize) < vocabulary).collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        }
    }
}
