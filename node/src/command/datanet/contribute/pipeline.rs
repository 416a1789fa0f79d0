//! Which step of which shard is begun next, so that no shard waits for the blocks and disks of another. Pure: what ends comes in, what to begin goes out.
//!
//! A shard is committed to, looked at by the gate, accepted and spread. Each step waits for somebody else: two for a block, one for the gate's processor, one for
//! the disks of holders. So commitments are made ahead, several together and in the order of the shards, since who commits first is first; while the gate looks at
//! a shard the next one is on its way to it, and those before are accepted and spread. What a block costs in time is then paid at the beginning and at the end, not
//! for each shard.
//!
//! - A gate compares with what the chain has accepted. A shard is therefore shown once all but the one before it are accepted, and after that one too if a row
//!   of it is a copy of one there ([`storage::datanet::Datanet::gate_beside`]), or if the Datanet limits what one contributor brings.
//! - Shards are accepted in their order, so that contributions are numbered as their rows are.
//! - Memory: between the gate and the last holder are [`Bounds::held`] shards; the others are on the disk.
//! - A shard that fails ends those behind it where they stand, and none before it; what is accepted is spread in any case. A later run is told what the chain has
//!   ([`Begun`]) and goes on there: a commitment that is made is found, not made again.

use std::ops::Range;

use storage::proto::gate::arrivals::CONTRIBUTOR_PLACES;

/// How much is under way at once.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// Shards from the first unfinished one on that may be committed to. 8: commitments of a run that is given up are paid for nothing unless the same command
    /// goes on with them.
    pub(super) ahead: usize,
    /// Commitments handed over together. 4: the first shard is shown when they are in a block.
    pub(super) together: usize,
    /// Shards between the gate and their last holder. 4: each is its shard and its fragments, some 15 MB, in the clear only while a refused row is taken out.
    pub(super) held: usize,
    /// Shards at the gate, as many as it has places for one contributor: one is sent while the other is looked at or waits for its turn. They are sent one after the
    /// other: what is not whole may be sent away, and with half the line each both would come late.
    pub(super) reviews: usize,
    /// Acceptances on their way to a block. 2: one is signed while the other waits.
    pub(super) accepts: usize,
    /// Objects on their way to holders. 2: one is sent while the holders of the other look for its block.
    pub(super) spreads: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { ahead: 8, together: 4, held: 4, reviews: CONTRIBUTOR_PLACES, accepts: 2, spreads: 2 }
    }
}

/// Where a shard stands when a run begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Begun {
    /// The chain has accepted it: it is only to be spread.
    pub(super) is_accepted: bool,
    /// The gate is to know the shard before it when it looks at this one.
    pub(super) is_close: bool,
}

/// What is done with one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Commit,
    Review,
    Accept,
    Spread,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Well.
    Done,
    /// What is left of the shard is to be committed to: the gate refused rows, or a commitment before it failed.
    Again,
    /// The chain has this very text of ours already.
    There,
    /// Reviewers hold the shard.
    Waits,
    /// The gate did not look, whatever its reason: it may, if it has nothing else of ours.
    Turned,
    /// Not well.
    Failed,
}

/// What to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// Commit to these shards, in this order; each ends by itself.
    Commit(Vec<usize>),
    /// Show a shard to the gate.
    Review(usize),
    /// Bring a shard's acceptance on the chain.
    Accept(usize),
    /// Send a shard's fragments to their holders.
    Spread(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before a step.
    Before(Step),
    /// In it.
    In(Step),
    /// It lies where it belongs.
    Done,
    /// Reviewers hold it.
    Waits,
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Shard {
    stage: Stage,
    is_close: bool,
    /// It is between the gate and its last holder.
    is_held: bool,
    /// It was at the gate beside another one.
    was_beside: bool,
    /// It is whole at the gate.
    is_shown: bool,
}

/// The shards of one command, by place.
#[derive(Debug)]
pub(super) struct Pipeline {
    bounds: Bounds,
    shards: Vec<Shard>,
    /// The gate turned one away that was there beside another: they go one by one.
    is_alone: bool,
    /// The first that failed: nothing is begun from it on but spreading.
    failed: Option<usize>,
}

impl Pipeline {
    /// A pipeline for shards that stand where `begun` says.
    pub(super) fn new(bounds: Bounds, begun: impl IntoIterator<Item = Begun>) -> Self {
        let shard = |Begun { is_accepted, is_close }| {
            let stage = Stage::Before(if is_accepted { Step::Spread } else { Step::Commit });
            Shard { stage, is_close, is_held: false, was_beside: false, is_shown: false }
        };
        Self { bounds, shards: begun.into_iter().map(shard).collect(), is_alone: false, failed: None }
    }

    /// Takes the end of a step; true if the shard failed. A gate that had two shards of ours and turned one away is shown that one again, by itself.
    pub(super) fn end(&mut self, place: usize, step: Step, ended: Ended) -> bool {
        let is_second_try = ended == Ended::Turned && self.shards[place].was_beside && !self.is_alone;
        let shard = &mut self.shards[place];
        assert_eq!(shard.stage, Stage::In(step), "shard {place} ends what it has not begun");
        shard.stage = match (ended, step) {
            (Ended::Done, Step::Commit) => Stage::Before(Step::Review),
            (Ended::Done, Step::Review) => Stage::Before(Step::Accept),
            (Ended::Done, Step::Accept) => Stage::Before(Step::Spread),
            (Ended::Done, Step::Spread) => Stage::Done,
            (Ended::Again, _) => Stage::Before(Step::Commit),
            (Ended::There, _) => Stage::Before(Step::Spread),
            (Ended::Waits, _) => Stage::Waits,
            (Ended::Turned, _) if is_second_try => Stage::Before(Step::Review),
            (Ended::Turned | Ended::Failed, _) => Stage::Failed,
        };
        shard.is_held = shard.is_held && !matches!(shard.stage, Stage::Done | Stage::Waits | Stage::Failed);
        self.is_alone = self.is_alone || is_second_try;
        let has_failed = self.shards[place].stage == Stage::Failed;
        if has_failed {
            self.failed = Some(self.failed.map_or(place, |failed| failed.min(place)));
        }
        has_failed
    }

    /// Takes that a shard which the gate is to look at was sent to its end.
    pub(super) fn shown(&mut self, place: usize) {
        self.shards[place].is_shown = self.shards[place].stage == Stage::In(Step::Review);
    }

    /// What is to be begun now, each thing once.
    pub(super) fn begin(&mut self) -> Vec<Output> {
        // What is nearest to its end goes first: it makes room.
        let mut outputs = Vec::new();
        outputs.extend(std::iter::from_fn(|| self.spread()).map(Output::Spread));
        outputs.extend(std::iter::from_fn(|| self.accept()).map(Output::Accept));
        outputs.extend(std::iter::from_fn(|| self.review()).map(Output::Review));
        outputs.extend(Some(self.commit()).filter(|shards| !shards.is_empty()).map(Output::Commit));
        outputs
    }

    /// Whether something is under way that is waited for. A shard at the gate is not, once one before it has failed.
    pub(super) fn is_under_way(&self) -> bool {
        let counts = |(place, shard): (usize, &Shard)| match shard.stage {
            Stage::In(Step::Review) => self.failed.is_none_or(|failed| place < failed),
            Stage::In(_) => true,
            _ => false,
        };
        self.shards.iter().enumerate().any(counts)
    }

    fn count(&self, step: Step) -> usize {
        self.shards.iter().filter(|shard| shard.stage == Stage::In(step)).count()
    }

    /// Shards that may be begun with: none from a failed one on.
    fn open(&self) -> Range<usize> {
        0..self.failed.unwrap_or(self.shards.len())
    }

    /// Whether the chain has a shard, or will not have it soon.
    fn is_settled(&self, place: usize) -> bool {
        match self.shards[place].stage {
            Stage::Before(step) => step == Step::Spread,
            Stage::In(step) => step == Step::Spread,
            Stage::Done | Stage::Waits | Stage::Failed => true,
        }
    }

    fn has_room(&self, place: usize) -> bool {
        self.shards[place].is_held || self.shards.iter().filter(|shard| shard.is_held).count() < self.bounds.held
    }

    fn start(&mut self, place: usize, step: Step) -> usize {
        let shard = &mut self.shards[place];
        shard.stage = Stage::In(step);
        shard.is_held = shard.is_held || step >= Step::Review;
        place
    }

    fn spread(&mut self) -> Option<usize> {
        let is_next = |place: &usize| self.shards[*place].stage == Stage::Before(Step::Spread) && self.has_room(*place);
        let place = (0..self.shards.len()).find(is_next).filter(|_| self.count(Step::Spread) < self.bounds.spreads)?;
        Some(self.start(place, Step::Spread))
    }

    fn accept(&mut self) -> Option<usize> {
        // The first that is not accepted and not on its way there: the others keep their order behind it.
        let is_behind = |place: &usize| !self.is_settled(*place) && self.shards[*place].stage != Stage::In(Step::Accept);
        let place = self.open().find(is_behind).filter(|place| self.shards[*place].stage == Stage::Before(Step::Accept))?;
        (self.count(Step::Accept) < self.bounds.accepts).then(|| self.start(place, Step::Accept))
    }

    fn review(&mut self) -> Option<usize> {
        let under_way = self.count(Step::Review);
        let most = if self.is_alone { 1 } else { self.bounds.reviews };
        let is_sent = |shard: &Shard| shard.stage == Stage::In(Step::Review) && !shard.is_shown;
        if under_way >= most || self.shards.iter().any(is_sent) {
            return None;
        }
        // The first that the chain lacks, and the one behind it once the former has room of its own: whatever is further on waits for it.
        let first = self.open().find(|place| !self.is_settled(*place))?;
        let is_next = |place: &usize| {
            let shard = self.shards[*place];
            let may_follow = self.shards[first].is_held && !shard.is_close;
            shard.stage == Stage::Before(Step::Review) && self.has_room(*place) && (*place == first || may_follow)
        };
        let place = (first..self.open().end.min(first + 2)).find(is_next)?;
        self.start(place, Step::Review);
        let is_beside = under_way > 0;
        (self.shards[place].was_beside, self.shards[place].is_shown) = (is_beside, false);
        if is_beside {
            self.shards.iter_mut().filter(|shard| shard.stage == Stage::In(Step::Review)).for_each(|shard| shard.was_beside = true);
        }
        Some(place)
    }

    fn commit(&mut self) -> Vec<usize> {
        let is_over = |place: &usize| matches!(self.shards[*place].stage, Stage::Done | Stage::Waits | Stage::Failed);
        // One lot at a time: a later one must not come before it.
        if self.count(Step::Commit) > 0 {
            return Vec::new();
        }
        let Some(first) = self.open().find(|place| !is_over(place)) else { return Vec::new() };
        let end = self.open().end.min(first.saturating_add(self.bounds.ahead));
        let is_next = |place: &usize| self.shards[*place].stage == Stage::Before(Step::Commit);
        let next: Vec<_> = (first..end).filter(is_next).take(self.bounds.together).collect();
        next.into_iter().map(|place| self.start(place, Step::Commit)).collect()
    }
}

#[cfg(test)]
mod tests;
