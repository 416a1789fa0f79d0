use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % (bound as u64)).unwrap()
    }
}

/// What chain, gate, reviewers and holders have: it outlives a run.
#[derive(Default)]
struct World {
    /// Commitments in the order of the chain: shard, and how often rows were taken out of it before.
    commitments: Vec<(usize, usize)>,
    accepted: Vec<usize>,
    spread: BTreeSet<usize>,
    /// Shards of which the gate refuses rows so often.
    refused: BTreeMap<usize, usize>,
    waits: BTreeSet<usize>,
}

impl World {
    fn commit(&mut self, commitment: (usize, usize)) {
        // Found if it is there: nothing is paid twice.
        if !self.commitments.contains(&commitment) {
            self.commitments.push(commitment);
        }
    }

    /// The chain takes acceptances in the order of their nonces: those before `shard` that are on their way come in first.
    fn accept(&mut self, shard: usize, under_way: &[Output]) {
        let on_their_way = (0..=shard).filter(|earlier| *earlier == shard || under_way.contains(&Output::Accept(*earlier)));
        let new: Vec<_> = on_their_way.filter(|earlier| !self.accepted.contains(earlier)).collect();
        self.accepted.extend(new);
    }
}

/// A run of the command over a world.
struct Run<'w> {
    world: &'w mut World,
    pipeline: Pipeline,
    close: Vec<bool>,
    rounds: Vec<usize>,
    /// Lots of commitments, and single steps, that were begun.
    under_way: Vec<Output>,
}

impl<'w> Run<'w> {
    fn new(world: &'w mut World, close: &[bool], bounds: &Bounds) -> Self {
        let begun = |(shard, is_close): (usize, &bool)| Begun { is_accepted: world.accepted.contains(&shard), is_close: *is_close };
        let begun: Vec<_> = close.iter().enumerate().map(begun).collect();
        let rounds = vec![0; close.len()];
        Self { world, pipeline: Pipeline::new(bounds.clone(), begun), close: close.to_vec(), rounds, under_way: Vec::new() }
    }

    /// Begins what is to be begun and looks at every promise.
    fn begin(&mut self) {
        for output in self.pipeline.begin() {
            match &output {
                Output::Commit(shards) => {
                    assert!(shards.is_sorted() && !self.under_way.iter().any(|other| matches!(other, Output::Commit(_))));
                    assert!(shards.len() <= self.pipeline.bounds.together);
                }
                Output::Review(shard) => {
                    assert!(self.world.commitments.contains(&(*shard, self.rounds[*shard])), "shown before it was committed to");
                    let nearest = if self.close[*shard] { *shard } else { shard.saturating_sub(1) };
                    let is_known = |earlier: usize| self.world.accepted.contains(&earlier) || self.world.waits.contains(&earlier);
                    assert!((0..nearest).all(is_known), "shard {shard} is shown to a gate that lacks one before it");
                }
                Output::Accept(shard) => {
                    assert!(!self.world.accepted.contains(shard), "shard {shard} is accepted twice");
                    let is_there = |earlier: usize| {
                        let is_begun = self.under_way.contains(&Output::Accept(earlier));
                        is_begun || self.world.accepted.contains(&earlier) || self.world.waits.contains(&earlier)
                    };
                    assert!((0..*shard).all(is_there), "shard {shard} overtakes another");
                }
                Output::Spread(shard) => assert!(self.world.accepted.contains(shard) && !self.under_way.contains(&output)),
            }
            self.under_way.push(output);
        }
        let count = |is_it: fn(&Output) -> bool| self.under_way.iter().filter(|output| is_it(output)).count();
        let Bounds { held, reviews, accepts, spreads, .. } = self.pipeline.bounds;
        let is_sent = |shard: &&Shard| shard.stage == Stage::In(Step::Review) && !shard.is_shown;
        assert!(self.pipeline.shards.iter().filter(is_sent).count() <= 1, "two are sent to the gate at once");
        assert!(count(|output| matches!(output, Output::Review(_))) <= reviews);
        assert!(count(|output| matches!(output, Output::Accept(_))) <= accepts);
        assert!(count(|output| matches!(output, Output::Spread(_))) <= spreads);
        assert!(self.pipeline.shards.iter().filter(|shard| shard.is_held).count() <= held);
    }

    /// Ends one of the things under way as the world has it.
    fn end(&mut self, dice: &mut Dice) {
        let output = self.under_way.swap_remove(dice.below(self.under_way.len()));
        match output {
            Output::Commit(mut shards) => {
                shards.iter().for_each(|shard| self.world.commit((*shard, self.rounds[*shard])));
                while !shards.is_empty() {
                    let shard = shards.remove(dice.below(shards.len()));
                    assert!(!self.pipeline.end(shard, Step::Commit, Ended::Done));
                    self.begin();
                }
            }
            Output::Review(shard) if !self.pipeline.shards[shard].is_shown && dice.below(2) == 0 => {
                self.pipeline.shown(shard);
                self.under_way.push(output);
            }
            Output::Review(shard) => {
                let ended = if self.world.waits.contains(&shard) {
                    Ended::Waits
                } else if self.rounds[shard] < self.world.refused.get(&shard).copied().unwrap_or_default() {
                    self.rounds[shard] += 1;
                    Ended::Again
                } else {
                    Ended::Done
                };
                self.pipeline.end(shard, Step::Review, ended);
            }
            Output::Accept(shard) => {
                self.world.accept(shard, &self.under_way);
                self.pipeline.end(shard, Step::Accept, Ended::Done);
            }
            Output::Spread(shard) => {
                self.world.spread.insert(shard);
                self.pipeline.end(shard, Step::Spread, Ended::Done);
            }
        }
    }

    /// The process dies. Of its transactions the chain has taken some, in the order in which they were handed over.
    fn kill(self, dice: &mut Dice) {
        for output in &self.under_way {
            match output {
                Output::Commit(shards) => {
                    let taken = dice.below(shards.len() + 1);
                    shards.iter().take(taken).for_each(|shard| self.world.commit((*shard, self.rounds[*shard])));
                }
                Output::Accept(shard) if dice.below(2) == 0 => self.world.accept(*shard, &self.under_way),
                Output::Spread(shard) if dice.below(2) == 0 => drop(self.world.spread.insert(*shard)),
                _ => {}
            }
        }
    }
}

/// Bounds at which everything still comes to its end.
fn bounds(dice: &mut Dice) -> Bounds {
    Bounds {
        ahead: 1 + dice.below(8),
        together: 1 + dice.below(4),
        held: 1 + dice.below(4),
        reviews: 1 + dice.below(2),
        accepts: 1 + dice.below(2),
        spreads: 1 + dice.below(2),
    }
}

/// A world of shards and which of them hold copies of the one before.
fn world(dice: &mut Dice) -> (World, Vec<bool>) {
    let shards = 1 + dice.below(20);
    let mut world = World::default();
    for shard in 0..shards {
        match dice.below(8) {
            0 => drop(world.refused.insert(shard, 1 + dice.below(2))),
            1 => drop(world.waits.insert(shard)),
            _ => {}
        }
    }
    (world, (0..shards).map(|_| dice.below(4) == 0).collect())
}

fn check_end(seed: u64, world: &World, shards: usize) {
    let wanted: Vec<_> = (0..shards).filter(|shard| !world.waits.contains(shard)).collect();
    assert_eq!(world.accepted, wanted, "seed {seed}: each is accepted once, in the order of the rows");
    assert_eq!(world.spread.iter().copied().collect::<Vec<_>>(), wanted, "seed {seed}: and lies with its holders");
    let first: Vec<_> = world.commitments.iter().filter(|(_, round)| *round == 0).map(|(shard, _)| *shard).collect();
    assert_eq!(first, (0..shards).collect::<Vec<_>>(), "seed {seed}: priority is that of the rows");
    let again = world.refused.values().sum::<usize>();
    assert_eq!(world.commitments.len(), shards + again, "seed {seed}: each commitment is paid once");
}

#[test]
fn whatever_ends_first_every_shard_is_brought_once_and_in_its_order() {
    for seed in 0..400 {
        let dice = &mut Dice(seed);
        let (mut world, close) = world(dice);
        let mut run = Run::new(&mut world, &close, &bounds(dice));
        run.begin();
        while run.pipeline.is_under_way() {
            run.end(dice);
            run.begin();
        }
        assert!(run.under_way.is_empty(), "seed {seed}");
        check_end(seed, &world, close.len());
    }
}

#[test]
fn a_run_killed_at_any_step_is_finished_by_the_next_and_nothing_is_paid_twice() {
    for seed in 0..100 {
        let dice = &mut Dice(seed);
        let (mut world, close) = world(dice);
        let mut patience = 0;
        loop {
            // Each run gets somewhat further than the one before, so that one of them comes to the end.
            patience += 2;
            let (mut run, mut steps) = (Run::new(&mut world, &close, &bounds(dice)), dice.below(patience));
            run.begin();
            while run.pipeline.is_under_way() && steps > 0 {
                run.end(dice);
                run.begin();
                steps -= 1;
            }
            if !run.pipeline.is_under_way() {
                break;
            }
            run.kill(dice);
        }
        check_end(seed, &world, close.len());
    }
}

fn pipeline(shards: usize) -> Pipeline {
    Pipeline::new(Bounds::default(), vec![Begun::default(); shards])
}

/// Ends a step well, and tells what is begun thereupon.
fn done(pipeline: &mut Pipeline, shard: usize, step: Step) -> Vec<Output> {
    assert!(!pipeline.end(shard, step, Ended::Done));
    pipeline.begin()
}

/// A chain of ten, a gate that takes twelve for each shard and looks at one at a time, holders that take eight.
#[test]
fn blocks_are_waited_for_at_the_beginning_and_the_end_and_not_for_each_shard() {
    const SHARDS: usize = 40;
    let (block, gate, disk) = (10, 12, 8);
    let (mut pipeline, mut now, mut gate_free) = (pipeline(SHARDS), 0, 0);
    let mut ends: BTreeSet<(u64, usize, Step)> = BTreeSet::new();
    loop {
        let mut begun = pipeline.begin();
        // A shard is sent in no time.
        while let Some(Output::Review(shard)) = begun.iter().rfind(|output| matches!(output, Output::Review(_))) {
            pipeline.shown(*shard);
            let next = pipeline.begin();
            if next.is_empty() {
                break;
            }
            begun.extend(next);
        }
        for output in begun {
            match output {
                Output::Commit(shards) => ends.extend(shards.into_iter().map(|shard| (now + block, shard, Step::Commit))),
                Output::Review(shard) => {
                    gate_free = now.max(gate_free) + gate;
                    ends.insert((gate_free, shard, Step::Review));
                }
                Output::Accept(shard) => drop(ends.insert((now + block, shard, Step::Accept))),
                Output::Spread(shard) => drop(ends.insert((now + disk, shard, Step::Spread))),
            }
        }
        let Some((at, shard, step)) = ends.pop_first() else { break };
        now = at;
        pipeline.end(shard, step, Ended::Done);
    }
    assert_eq!(now, block + 40 * gate + block + disk, "the gate never waits");
}

#[test]
fn a_shard_that_fails_ends_those_behind_it_and_none_before_it() {
    let mut pipeline = pipeline(6);
    assert_eq!(pipeline.begin(), [Output::Commit(vec![0, 1, 2, 3])]);
    assert_eq!(done(&mut pipeline, 0, Step::Commit), [Output::Review(0)]);
    assert_eq!(done(&mut pipeline, 1, Step::Commit), [], "one is sent at a time");
    pipeline.shown(0);
    assert_eq!(pipeline.begin(), [Output::Review(1)]);
    assert!(pipeline.end(2, Step::Commit, Ended::Failed));
    assert_eq!(pipeline.begin(), [], "nothing behind it");
    assert_eq!(done(&mut pipeline, 3, Step::Commit), []);
    assert_eq!(done(&mut pipeline, 0, Step::Review), [Output::Accept(0)]);
    assert_eq!(done(&mut pipeline, 1, Step::Review), [Output::Accept(1)]);
    assert_eq!(done(&mut pipeline, 0, Step::Accept), [Output::Spread(0)]);
    assert_eq!(done(&mut pipeline, 1, Step::Accept), [Output::Spread(1)]);
    assert_eq!(done(&mut pipeline, 0, Step::Spread), []);
    assert!(pipeline.is_under_way());
    assert_eq!(done(&mut pipeline, 1, Step::Spread), []);
    assert!(!pipeline.is_under_way());
}

#[test]
fn what_is_at_the_gate_is_not_waited_for_once_a_shard_before_it_has_failed() {
    let mut pipeline = pipeline(2);
    pipeline.begin();
    done(&mut pipeline, 0, Step::Commit);
    pipeline.shown(0);
    assert_eq!(done(&mut pipeline, 1, Step::Commit), [Output::Review(1)]);
    assert!(!pipeline.end(0, Step::Review, Ended::Turned), "it was there beside another: it is tried again");
    assert_eq!(pipeline.begin(), [], "by itself");
    assert_eq!(done(&mut pipeline, 1, Step::Review), [Output::Review(0)]);
    assert!(pipeline.end(0, Step::Review, Ended::Turned), "that was the second try");
    assert_eq!((pipeline.begin(), pipeline.is_under_way()), (vec![], false), "the one behind it is not accepted before it");

    let mut alone = Pipeline::new(Bounds { reviews: 1, ..Bounds::default() }, vec![Begun::default(); 2]);
    alone.begin();
    assert_eq!(done(&mut alone, 0, Step::Commit), [Output::Review(0)]);
    assert!(alone.end(0, Step::Review, Ended::Turned), "nothing of ours was in its way");
}

#[test]
fn a_text_that_the_chain_has_by_an_earlier_shard_is_only_spread() {
    let mut pipeline = pipeline(2);
    pipeline.begin();
    done(&mut pipeline, 0, Step::Commit);
    pipeline.end(1, Step::Commit, Ended::There);
    assert_eq!(pipeline.begin(), [Output::Spread(1)]);
    assert!(!pipeline.end(0, Step::Review, Ended::There));
    assert_eq!(pipeline.begin(), [Output::Spread(0)]);
}

#[test]
fn what_an_earlier_run_had_accepted_is_spread_at_once_and_committed_to_no_more() {
    let begun = [true, false].map(|is_accepted| Begun { is_accepted, is_close: false });
    let mut pipeline = Pipeline::new(Bounds::default(), begun);
    assert_eq!(pipeline.begin(), [Output::Spread(0), Output::Commit(vec![1])]);
    assert_eq!(done(&mut pipeline, 1, Step::Commit), [Output::Review(1)]);
    assert_eq!(done(&mut pipeline, 0, Step::Spread), []);
}
