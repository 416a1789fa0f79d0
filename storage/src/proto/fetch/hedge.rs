//! Company for late streams.
//!
//! A stream is late that at its own pace would take [`LATE_TIMES`] the median of the fragments that are whole, once it has run for that median and for
//! [`Config::hedge_after`](super::Config::hedge_after); so a slow one is known after one median instead of three. Then the second half of what it owes
//! is asked of another holder of the fragment, or another fragment is asked for. Company that is late itself is cancelled and replaced, while the
//! stream it was opened for goes on. Whoever is first ends the others.
//!
//! *Cost.* A pair brings one fragment that is needed and at most one that is not. The next is opened only while what came in vain and what open
//! company may still bring in vain are a quarter of the object together: at 16/48 four at a time, and more one after the other, since who is slow has
//! brought little when it is replaced. Who was late once is nobody's company any more, and [`HEDGES_TIMES`] bounds the requests.

use std::time::Duration;

use types::{id::NodeId, time::Time};

use super::{Fetch, Holder, Output, Run, Stream};

/// A stream is late that takes so many times the median of those that are done.
const LATE_TIMES: u32 = 3;
/// Streams opened beside late ones over the fragments needed: a third of the holders slow takes half as many as are needed.
const HEDGES_TIMES: usize = 2;

impl Fetch {
    /// Half of the whole fragments took at most so long; nothing until more than a third of those needed are here.
    fn median(&self) -> Option<Duration> {
        let is_enough = !self.took.is_empty() && self.parts.as_ref().is_some_and(|parts| 3 * parts.whole() > self.needed());
        let mut took = self.took.clone();
        took.sort_unstable();
        is_enough.then(|| took[took.len() / 2])
    }

    /// When a stream is late if nothing more of it comes.
    fn late_at(&self, stream: &Stream, median: Duration) -> Time {
        let (got, owed) = (stream.got.saturating_add(1), stream.owed.max(1));
        let own = median.saturating_mul(LATE_TIMES).saturating_mul(got.min(owed)) / owed;
        stream.started.after(own.max(median).max(self.config.hedge_after))
    }

    /// When streams are late that are not and have no company.
    pub(super) fn late_times(&self) -> Vec<Time> {
        let Some(median) = self.median() else { return Vec::new() };
        self.streams.iter().filter(|(id, _)| self.company(**id).is_none()).map(|(_, stream)| self.late_at(stream, median)).collect()
    }

    /// The stream beside this one.
    fn company(&self, late: u32) -> Option<u32> {
        self.streams.iter().find(|(_, stream)| stream.hedges == Some(late)).map(|(id, _)| *id)
    }

    /// Whether it is beside a late one that still runs.
    pub(super) fn is_extra(&self, stream: &Stream) -> bool {
        stream.hedges.is_some_and(|late| self.streams.contains_key(&late))
    }

    /// A fragment is whole: who else was sending it, and whoever ran beside, need not go on. The stream that ended it reports its own end.
    pub(super) fn won(&mut self, winner: u32, index: u8) -> Vec<Output> {
        let of_it: Vec<u32> = self.streams.iter().filter(|(_, stream)| stream.index == index).map(|(id, _)| *id).collect();
        let late_ones: Vec<u32> = of_it.iter().filter_map(|id| self.streams[id].hedges).collect();
        let is_mate = |id: u32, stream: &Stream| {
            of_it.contains(&id) || late_ones.contains(&id) || stream.hedges.is_some_and(|late| of_it.contains(&late))
        };
        let mates = self.streams.iter().filter(|(id, stream)| **id != winner && is_mate(**id, stream));
        let mates: Vec<u32> = mates.map(|(id, _)| *id).collect();
        mates.into_iter().map(|id| self.drop_beside(id)).collect()
    }

    /// Ends a stream of a pair. What it brought of a fragment that is not whole is spare.
    fn drop_beside(&mut self, id: u32) -> Output {
        let spare = self.streams.get(&id).filter(|stream| !self.is_whole(stream.index)).map_or(0, |stream| stream.got);
        self.spare = self.spare.saturating_add(spare);
        self.cancel(id)
    }

    /// Opens streams beside late ones, and others in place of company that is late.
    pub(super) fn hedge(&mut self, now: Time) -> Vec<Output> {
        let Some(median) = self.median() else { return Vec::new() };
        let is_late =
            |id: u32, stream: &Stream| self.company(id).is_none() && !self.is_whole(stream.index) && self.late_at(stream, median) <= now;
        let late: Vec<u32> = self.streams.iter().filter(|(id, stream)| is_late(**id, stream)).map(|(id, _)| *id).collect();
        // All are known to be slow before anybody is asked to help.
        for id in &late {
            if let Some(holder) = self.streams.get(id).and_then(|stream| self.holders.get_mut(&stream.holder)) {
                holder.is_slow = true;
            }
        }
        let (mut outputs, mut alone) = (Vec::new(), Vec::new());
        for id in late {
            match self.streams.get(&id).and_then(|stream| stream.hedges).filter(|of| self.streams.contains_key(of)) {
                None => alone.push(id),
                Some(of) if self.is_replaceable(now, id, of) => {
                    outputs.push(self.drop_beside(id));
                    alone.push(of);
                }
                Some(_) => {}
            }
        }
        for of in alone {
            let Some((to, index, run)) = self.streams.get(&of).and_then(|late| self.beside(now, late)) else { continue };
            if self.hedged < HEDGES_TIMES * self.needed() && self.may_be_spare().saturating_add(run.count) <= self.spare_max() {
                self.hedged += 1;
                outputs.push(self.open(now, to, index, run, Some(of)));
            }
        }
        outputs
    }

    /// Whether somebody else can be asked instead of late company, and other company can still be paid for once this is gone.
    fn is_replaceable(&self, now: Time, id: u32, of: u32) -> bool {
        let other = self.streams.get(&of).and_then(|late| self.beside(now, late));
        let got = self.streams.get(&id).map_or(0, |stream| stream.got);
        self.hedged < HEDGES_TIMES * self.needed()
            && other.is_some_and(|(.., run)| self.spare.saturating_add(got).saturating_add(run.count) <= self.spare_max())
    }

    /// Groups that came in vain, and those that open company may.
    fn may_be_spare(&self) -> u32 {
        let open = self.streams.values().filter(|stream| self.is_extra(stream)).map(|stream| stream.owed);
        open.fold(self.spare, u32::saturating_add)
    }

    /// A quarter of the object, one fragment at least.
    fn spare_max(&self) -> u32 {
        let quarter = u32::try_from((self.needed() / 4).max(1)).unwrap_or(1);
        self.parts.as_ref().map_or(0, |parts| parts.groups().saturating_mul(quarter))
    }

    /// What to ask, and whom, beside a late stream: the second half of what it owes, or another fragment. Of others that have the fragment, who
    /// brought most; never who is slow.
    fn beside(&self, now: Time, late: &Stream) -> Option<(NodeId, u8, Run)> {
        let parts = self.parts.as_ref()?;
        let has = |holder: &&Holder| !holder.is_slow && holder.offers.get(&late.index).is_some_and(|offer| offer.rests_until.is_none());
        let others = self.order.iter().enumerate().filter(|(_, id)| **id != late.holder);
        let others = others.filter_map(|(place, id)| Some((self.holders.get(id).filter(has)?, place, *id)));
        let other = others.min_by_key(|(holder, place, _)| (std::cmp::Reverse(holder.brought), *place));
        if let (Some((.., other)), Some(Run { first, count })) = (other, parts.missing(late.index).last().copied()) {
            return Some((other, late.index, Run { first: first + count / 2, count: count - count / 2 }));
        }
        let (to, index) = self.next_offer(now).filter(|(to, _)| self.holders.get(to).is_some_and(|holder| !holder.is_slow))?;
        Some((to, index, *parts.missing(index).first()?))
    }
}
