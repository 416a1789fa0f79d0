//! What is read of a node when somebody asks how it is, and whether that is well enough to be asked questions.

use std::time::Duration;

/// Age of the newest block beyond which a node's view of the chain is too old to bill by: an L2 makes one every two seconds.
const BLOCK_AGE_MAX: Duration = Duration::from_secs(120);

/// A node at one moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Since the start.
    pub uptime: Duration,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Overlay connections.
    pub peers: u64,
    /// Other nodes whose ads are known.
    pub providers: u64,
    /// Streams that talk of answers.
    pub running: u64,
    /// Manifests served.
    pub manifests: u64,
    /// Why something is not served.
    pub waiting: Vec<String>,
    /// Receipts kept.
    pub receipts: u64,
    /// Of them, those under no root yet.
    pub receipts_unposted: u64,
    /// The chain is not the one that the node counted by.
    pub is_halted: bool,
    /// No answer is begun any longer.
    pub is_leaving: bool,
    /// Latest, safe and finalized block.
    pub blocks: (u64, u64, u64),
    /// How old the latest one is; nothing before the chain was read.
    pub block_age: Option<Duration>,
    /// What the store may still take.
    pub store_free_bytes: u64,
    /// The engine; nothing on a node that only stores.
    pub engine: Option<EngineFacts>,
}

/// An engine at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineFacts {
    /// Pages of keys and values.
    pub pages: u64,
    /// Of them, those that nobody holds.
    pub pages_free: u64,
    /// Jobs that have a place in steps.
    pub running: u64,
    /// Jobs that wait for one.
    pub waiting: u64,
    /// Adapters on disk.
    pub adapters: u64,
    /// Times that a job gave up its pages.
    pub preempted: u64,
}

impl Facts {
    /// Why this node should not be sent questions (or, if it only stores, fragments) now; empty if it should.
    pub fn unready(&self) -> Vec<String> {
        let mut why = Vec::new();
        if self.is_leaving {
            why.push("the node is leaving: it begins no answer any longer".to_owned());
        }
        if self.is_halted {
            why.push("the chain is not the one this node counted by: see tributary status".to_owned());
        }
        match self.block_age {
            None => why.push("the chain was not read yet: is its endpoint (rpc) there?".to_owned()),
            Some(age) if age > BLOCK_AGE_MAX => {
                why.push(format!(
                    "the newest block known is {} s old: is the chain's endpoint (rpc) there, and this machine's clock right?",
                    age.as_secs()
                ));
            }
            Some(_) => {}
        }
        if self.engine.is_some() && self.manifests == 0 {
            why.push("nothing is served yet".to_owned());
            why.extend(self.waiting.iter().cloned());
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that serves one thing and hears of blocks.
    fn serving() -> Facts {
        Facts { manifests: 1, block_age: Some(Duration::from_secs(2)), engine: Some(EngineFacts::default()), ..Facts::default() }
    }

    #[test]
    fn a_node_is_ready_unless_it_leaves_has_lost_the_chain_or_has_a_model_and_serves_nothing() {
        assert_eq!(serving().unready(), Vec::<String>::new());
        let stores = Facts { engine: None, manifests: 0, waiting: vec!["no model".to_owned()], ..serving() };
        assert_eq!(stores.unready(), Vec::<String>::new(), "one that only stores has nothing to serve");
        let cases = [
            (Facts { is_leaving: true, ..serving() }, "leaving"),
            (Facts { is_halted: true, ..serving() }, "counted by"),
            (Facts { block_age: None, ..serving() }, "not read yet"),
            (Facts { block_age: Some(Duration::from_secs(121)), ..serving() }, "121 s old"),
            (Facts { manifests: 0, ..serving() }, "nothing is served"),
        ];
        for (facts, word) in cases {
            let why = facts.unready();
            assert!(why.len() == 1 && why[0].contains(word), "{word}: {why:?}");
        }
        let waiting = Facts { manifests: 0, waiting: vec!["version 1@1: its index root is not on the chain yet".to_owned()], ..serving() };
        assert_eq!(waiting.unready().len(), 2, "what is waited for is told");
    }
}
