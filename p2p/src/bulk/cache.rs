//! Connections kept for the next use: the least recently used one goes first.

use std::collections::BTreeMap;

use types::id::NodeId;

/// At most `max` values by node and protocol.
#[derive(Debug)]
pub(super) struct Cache<T> {
    max: usize,
    uses: u64,
    kept: BTreeMap<(NodeId, Vec<u8>), (u64, T)>,
}

impl<T: Clone> Cache<T> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, uses: 0, kept: BTreeMap::new() }
    }

    /// What is kept, if it is still good; what is not is forgotten.
    pub(super) fn get(&mut self, node: NodeId, alpn: &[u8], is_good: impl FnOnce(&T) -> bool) -> Option<T> {
        let key = (node, alpn.to_vec());
        let (used, value) = self.kept.get_mut(&key)?;
        if !is_good(value) {
            self.kept.remove(&key);
            return None;
        }
        self.uses += 1;
        *used = self.uses;
        Some(value.clone())
    }

    pub(super) fn put(&mut self, node: NodeId, alpn: &[u8], value: T) {
        self.uses += 1;
        self.kept.insert((node, alpn.to_vec()), (self.uses, value));
        if self.kept.len() > self.max
            && let Some(oldest) = self.kept.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone())
        {
            self.kept.remove(&oldest);
        }
    }

    /// Gives up what is kept of some nodes.
    pub(super) fn end(&mut self, is_meant: impl Fn(NodeId) -> bool, mut end: impl FnMut(T)) {
        let (meant, kept) = std::mem::take(&mut self.kept).into_iter().partition(|((node, _), _)| is_meant(*node));
        self.kept = kept;
        let meant: BTreeMap<_, (u64, T)> = meant;
        for (_, value) in meant.into_values() {
            end(value);
        }
    }

    pub(super) fn clear(&mut self, mut end: impl FnMut(T)) {
        for (_, value) in std::mem::take(&mut self.kept).into_values() {
            end(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_bad_go_at_once() {
        let node = |byte| NodeId([byte; 32]);
        let mut cache = Cache::new(2);
        cache.put(node(1), b"a", "one");
        cache.put(node(2), b"a", "two");
        assert_eq!(cache.get(node(1), b"a", |_| true), Some("one"));
        assert_eq!(cache.get(node(1), b"b", |_| true), None, "another protocol is another connection");
        cache.put(node(3), b"a", "three");
        assert_eq!(cache.get(node(2), b"a", |_| true), None);
        assert_eq!(cache.get(node(1), b"a", |_| false), None);
        assert_eq!(cache.get(node(1), b"a", |_| true), None);
        assert_eq!(cache.get(node(3), b"a", |_| true), Some("three"));
    }

    #[test]
    fn what_is_kept_of_some_nodes_is_given_up_and_no_more() {
        let node = |byte| NodeId([byte; 32]);
        let mut cache = Cache::new(4);
        for (byte, alpn, value) in [(1, b"a", "one"), (1, b"b", "two"), (2, b"a", "three")] {
            cache.put(node(byte), alpn, value);
        }
        let mut ended = Vec::new();
        cache.end(|of| of == node(1), |value| ended.push(value));
        assert_eq!(ended, ["one", "two"]);
        assert_eq!((cache.get(node(1), b"a", |_| true), cache.get(node(2), b"a", |_| true)), (None, Some("three")));
    }
}
