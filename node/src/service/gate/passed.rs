//! Shards that a gate has looked at and let in, opened, until the chain has accepted them and the next review enters them in the index: what was unpacked and hashed
//! once is not read from the disk, unpacked and hashed again.
//!
//! At most [`PASSED_MAX`] of them and [`BYTES_MAX`], the oldest goes first: whoever is let in and never brings its contribution on the chain holds some of that memory until others are
//! let in. What is not here, after a restart or because it was long ago, is read from the disk as before. Each is bound to its Datanet and found by the root that was derived from its
//! rows. What the registry has erased meanwhile is not entered, since it counts as accepted no longer, and goes like the others. Pure.

use std::{collections::VecDeque, sync::Arc};

use storage::datanet::{
    Document,
    shard::{self, Shard},
};
use types::id::{AssetId, Hash32};

/// Most of them: two contributors with two shards each at the gate.
const PASSED_MAX: usize = 4;
/// Most bytes of them, counted as they lie in memory: four of the 16 MiB that contributors cut.
const BYTES_MAX: u64 = 80 << 20;

/// Those of a gate, oldest first.
#[derive(Debug, Default)]
pub(super) struct Passed(VecDeque<(AssetId, Arc<Shard>)>);

/// Bytes of the rows and of what holds them.
fn bytes(shard: &Shard) -> u64 {
    let rows = shard.documents().len().saturating_mul(size_of::<Document>());
    u64::try_from(shard::encoded_len(shard.documents()).saturating_add(rows)).unwrap_or(u64::MAX)
}

impl Passed {
    /// Keeps one, in the place of the oldest if there is no room; none that is too large by itself.
    pub(super) fn keep(&mut self, datanet: AssetId, shard: Arc<Shard>) {
        self.keep_within(datanet, shard, BYTES_MAX);
    }

    fn keep_within(&mut self, datanet: AssetId, shard: Arc<Shard>, most: u64) {
        drop(self.take(datanet, shard.text_root()));
        if bytes(&shard) > most {
            return;
        }
        self.0.push_back((datanet, shard));
        while self.0.len() > PASSED_MAX || self.bytes() > most {
            self.0.pop_front();
        }
    }

    /// Takes out the one whose rows gave a root.
    pub(super) fn take(&mut self, datanet: AssetId, text_root: Hash32) -> Option<Arc<Shard>> {
        let at = self.0.iter().position(|(of, shard)| (*of, shard.text_root()) == (datanet, text_root))?;
        self.0.remove(at).map(|(_, shard)| shard)
    }

    fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, shard)| sum.saturating_add(bytes(shard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: AssetId = AssetId(4);

    fn shard(texts: &[&str]) -> Arc<Shard> {
        Arc::new(Shard::of(texts.iter().map(|text| Document::new(None, None, text.as_bytes()).unwrap()).collect()))
    }

    #[test]
    fn a_shard_that_passed_is_found_once_in_its_datanet_under_its_own_root() {
        let (mut passed, one) = (Passed::default(), shard(&["one"]));
        let salted = Arc::new(Shard::clone(&one).salted(Hash32([1; 32])));
        passed.keep(NET, Arc::clone(&one));
        passed.keep(NET, Arc::clone(&one));
        passed.keep(NET, Arc::clone(&salted));
        assert_eq!(passed.take(AssetId(5), one.text_root()), None, "another Datanet's");
        assert_eq!(passed.take(NET, shard(&["two"]).text_root()), None);
        assert_eq!(passed.take(NET, salted.text_root()), Some(salted));
        assert_eq!(passed.take(NET, one.text_root()), Some(Arc::clone(&one)));
        assert_eq!(passed.take(NET, one.text_root()), None);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_large_ones() {
        let mut passed = Passed::default();
        let texts: Vec<String> = (0..=PASSED_MAX).map(|number| format!("text {number}")).collect();
        let shards: Vec<_> = texts.iter().map(|text| shard(&[text])).collect();
        shards.iter().for_each(|shard| passed.keep(NET, Arc::clone(shard)));
        assert_eq!((passed.0.len(), passed.take(NET, shards[0].text_root())), (PASSED_MAX, None));
        let (first, second, too_large) = (shard(&["a long text"]), shard(&["a long test"]), shard(&["a text that is longer"]));
        let most = bytes(&first) * 2 - 1;
        passed.keep_within(NET, Arc::clone(&first), most);
        passed.keep_within(NET, Arc::clone(&second), most);
        assert_eq!((passed.take(NET, first.text_root()), passed.0.len()), (None, 1), "two have no room beside each other");
        passed.keep_within(NET, Arc::clone(&too_large), bytes(&too_large) - 1);
        assert_eq!(passed.take(NET, too_large.text_root()), None);
        assert_eq!(passed.take(NET, second.text_root()), Some(second), "what is not kept sends nobody away");
    }
}
