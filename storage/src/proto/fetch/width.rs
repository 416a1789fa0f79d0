//! How many fragments are read at once.
//!
//! Across the world sixteen streams bring more than four, since each waits for its own window. On a fast line they bring less: sixteen connections have fewer packets
//! at a time each, and cost a processor more per byte, on loopback an eighth (361 and 408 MB/s at 931ac99 held to either number, `cargo bench -p node --bench fetch`, two cores of an AMD EPYC Zen 4). So the first [`Config::few`](super::Config::few)
//! stay alone while they bring [`Config::few_bytes_per_s`](super::Config::few_bytes_per_s), reckoned from when the first was opened; once they fell behind, all that are needed are
//! open to the end. A far reader pays [`Config::few_wait`](super::Config::few_wait) for that, once.

use std::{collections::BTreeSet, time::Duration};

use types::time::Time;

use super::{Fetch, Output};

impl Fetch {
    /// Opens streams until as many fragments are whole or under way as the code needs, or as the line takes.
    pub(super) fn ask(&mut self, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.few_until().is_some_and(|until| until <= now) {
            self.is_wide = true;
            // Each of more has less of the line: the time that a fragment took among few says of none of them that it is late.
            self.took.clear();
        }
        while self.wants_stream() {
            let Some((to, index)) = self.next_offer(now) else { break };
            let run = self.parts.as_ref().and_then(|parts| parts.missing(index).first().copied());
            let Some(run) = run else { break };
            outputs.push(self.open(now, to, index, run, None));
        }
        outputs
    }

    fn wants_stream(&self) -> bool {
        let under_way = self.under_way();
        let is_allowed = self.is_wide || under_way < self.config.few.max(1);
        is_allowed && self.parts.as_ref().is_some_and(|parts| parts.whole() + under_way < self.needed())
    }

    /// When the first few are no longer alone, if nothing more comes; nothing before they are asked, and once others are.
    pub(super) fn few_until(&self) -> Option<Time> {
        let brought: u64 = self.received.values().sum();
        let micros = brought.saturating_mul(1_000_000) / self.config.few_bytes_per_s.max(1);
        let since = self.reading_since.filter(|_| !self.is_wide)?;
        Some(since.after(self.config.few_wait).after(Duration::from_micros(micros)))
    }

    /// Fragments being sent, those left out that are only opened beside a late stream which still runs.
    pub(super) fn under_way(&self) -> usize {
        let sent = self.streams.values().filter(|stream| !self.is_extra(stream) && !self.is_whole(stream.index));
        sent.map(|stream| stream.index).collect::<BTreeSet<_>>().len()
    }
}
