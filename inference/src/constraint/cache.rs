//! Compiled grammars, a bounded number of them.

use llguidance::TokenParser;

/// Parsers at their beginning, the most recently used last. Few enough to be looked through.
pub(super) struct Cache {
    parsers: Vec<([u8; 32], TokenParser)>,
    count_max: usize,
}

impl Cache {
    pub(super) fn new(count_max: usize) -> Self {
        Self { parsers: Vec::new(), count_max }
    }

    /// A copy that shares nothing with what is kept.
    pub(super) fn get(&mut self, key: [u8; 32]) -> Option<TokenParser> {
        let at = self.parsers.iter().position(|(kept, _)| *kept == key)?;
        let found = self.parsers.remove(at);
        let copy = found.1.deep_clone();
        self.parsers.push(found);
        Some(copy)
    }

    /// Keeps a parser in the place of the one that was not used for longest.
    pub(super) fn put(&mut self, key: [u8; 32], parser: TokenParser) {
        self.parsers.retain(|(kept, _)| *kept != key);
        if self.parsers.len() >= self.count_max {
            self.parsers.remove(0);
        }
        self.parsers.push((key, parser));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parsers.len()
    }
}
