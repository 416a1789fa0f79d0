//! From shards on this disk to fragments on those of holders: says what it costs, then carries out what the [`Pipeline`] begins.
//!
//! All of it runs in one task: steps wait for others, and what computes has a thread of its own, so that the connections stay alive. The journal is written between two
//! steps, by nobody else.

use std::{
    io::Write as _,
    sync::{Arc, atomic::Ordering},
};

use anyhow::Context as _;
use chain_bridge::registry::State;
use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use storage::erasure::Profile;
use tokio::sync::oneshot;

use super::{
    Dry,
    estimate::Estimate,
    findings::{self, Finding},
    inputs::Inputs,
    journal::{Cut, Done, Journal},
    pending::Unfinished,
    pipeline::{Begun, Bounds, Ended, Output, Pipeline, Step},
    rows::NAMED_MAX,
    run::{Contributed, Looked, Made, Refused, Run, Waits},
    way::Way,
};
use crate::{datanet::placing, explain::Consent};

/// What became of the shards.
#[derive(Default)]
pub(super) struct Outcome {
    /// Of the last one as much as is known; nothing if an earlier run had done all of them.
    pub(super) last: Option<Box<Contributed>>,
    /// Those that reviewers hold.
    pub(super) waiting: Vec<Waits>,
}

/// What a step brought.
enum Brought {
    Made(anyhow::Result<Made>),
    Looked(anyhow::Result<Looked>),
    Accepted(anyhow::Result<()>),
    Spread(Box<anyhow::Result<Contributed>>),
}

/// What happens to the shard at a place.
enum Event {
    /// A step has ended.
    Ended(usize, Box<Way>, Brought),
    /// The gate has all of it, or will have no more.
    Shown(usize),
}

/// Shards between two steps, and what came of those that are done.
struct Shards<'j> {
    ways: Vec<Option<Way>>,
    pipeline: Pipeline,
    journal: &'j mut Journal,
    outcome: Outcome,
    /// The first that failed, and why.
    failed: Option<(usize, anyhow::Error)>,
}

impl Run<'_> {
    /// Tells the cost, then brings the shards. Nothing if this was a dry run.
    pub(super) async fn all(&self, journal: &mut Journal, inputs: &Inputs, rent_epochs: u64) -> anyhow::Result<Option<Outcome>> {
        let names = Arc::new(inputs.files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>());
        let (left, state) = (journal.left(), self.chain.state().await?);
        let unfinished = Unfinished::read(&self.context.data, &state, self.datanet, self.me)?;
        let new: Vec<&Cut> = left.iter().filter(|cut| unfinished.of(cut.text_root).is_none()).collect();
        if !new.is_empty() {
            self.is_listed(&state).await?;
            self.is_gate_inside(&state).await?;
            let redacted: Vec<Finding> = new.iter().flat_map(|cut| cut.redacted.clone()).collect();
            if !redacted.is_empty() {
                self.context.output.note(&format!("these rows are redacted before they are brought:\n{}", findings::table_of(&redacted)));
            }
            let estimate = self.estimate(&state, &new, rent_epochs).await?;
            if self.context.is_dry() {
                let dropped = new.iter().flat_map(|cut| cut.dropped.clone()).collect();
                let printed = Dry { is_dry_run: true, estimate, dropped, redacted, left_out: inputs.left_out.clone() };
                self.context.output.result(&printed, || format!("{}\n\nnothing was sent (--dry-run)", printed.estimate.describe()))?;
                return Ok(None);
            }
            self.agreed(&estimate)?;
            // Holders were looked for above: what cannot be finished is not begun.
            self.is_reached(&state).await?;
        }
        let policy = self.card.policy();
        // Whoever may bring so much and no more is counted by what the chain has.
        let is_limited = policy.contributor_rows_max.is_some() || policy.contributor_bytes_max.is_some();
        let begun = |cut: &Cut| Begun { is_accepted: unfinished.of(cut.text_root).is_some(), is_close: is_limited || cut.is_close };
        let pipeline = Pipeline::new(Bounds::default(), left.iter().map(begun));
        let way = |cut: Cut| {
            let (records, earlier) = (unfinished.records(cut.text_root), unfinished.of(cut.text_root).cloned());
            let file = journal.path(cut.number);
            Some(Way::new(cut, file, Arc::clone(&names), records, earlier))
        };
        let ways = left.into_iter().map(way).collect();
        let shards = Shards { ways, pipeline, journal, outcome: Outcome::default(), failed: None };
        self.carry_out(shards).await.map(Some)
    }

    /// Begins what the pipeline says and tells it what ended, until nothing is left.
    async fn carry_out(&self, mut shards: Shards<'_>) -> anyhow::Result<Outcome> {
        let total = shards.journal.cuts.len() as u64;
        let mut progress = (total > 1).then(|| self.context.output.progress("shards contributed", total));
        let mut under_way = FuturesUnordered::new();
        loop {
            for output in shards.pipeline.begin() {
                under_way.extend(self.step(output, &mut shards.ways)?);
            }
            if !shards.pipeline.is_under_way() {
                break;
            }
            for event in under_way.next().await.context("what is under way ends")? {
                match event {
                    Event::Ended(place, way, brought) => shards.end(place, *way, brought, |words| self.context.output.note(words))?,
                    Event::Shown(place) => shards.pipeline.shown(place),
                }
            }
            if let Some(progress) = &mut progress {
                progress.set(shards.journal.done.len() as u64);
            }
        }
        match shards.failed {
            Some((_, error)) => Err(error),
            None => Ok(shards.outcome),
        }
    }

    /// A step of one shard, or the commitments of several: what tells of it.
    fn step<'s>(&'s self, output: Output, ways: &mut [Option<Way>]) -> anyhow::Result<Vec<LocalBoxFuture<'s, Vec<Event>>>> {
        let mut take =
            |place: usize| ways.get_mut(place).and_then(Option::take).with_context(|| format!("shard {place} is in another step"));
        Ok(match output {
            Output::Commit(places) => {
                let lot = places.into_iter().map(|place| Ok((place, take(place)?))).collect::<anyhow::Result<Vec<_>>>()?;
                let made = |(place, way, made): (usize, Way, _)| Event::Ended(place, Box::new(way), Brought::Made(made));
                vec![self.commit(lot).map(move |ended| ended.into_iter().map(made).collect::<Vec<Event>>()).boxed_local()]
            }
            Output::Review(place) => {
                let (mut way, (sent, shown)) = (take(place)?, oneshot::channel());
                let look = async move {
                    // Who does not hear it has ended.
                    let tell = || sent.send(()).unwrap_or_default();
                    let looked = self.look(&mut way, tell).await;
                    vec![Event::Ended(place, Box::new(way), Brought::Looked(looked))]
                };
                vec![look.boxed_local(), shown.map(move |_| vec![Event::Shown(place)]).boxed_local()]
            }
            Output::Accept(place) => {
                let mut way = take(place)?;
                let accept = async move {
                    let accepted = self.accept(&mut way).await;
                    vec![Event::Ended(place, Box::new(way), Brought::Accepted(accepted))]
                };
                vec![accept.boxed_local()]
            }
            Output::Spread(place) => {
                let mut way = take(place)?;
                let spread = async move {
                    let brought = self.bring(&mut way).await;
                    vec![Event::Ended(place, Box::new(way), Brought::Spread(Box::new(brought)))]
                };
                vec![spread.boxed_local()]
            }
        })
    }

    async fn estimate(&self, state: &State, new: &[&Cut], rent_epochs: u64) -> anyhow::Result<Estimate> {
        let least = usize::from(Profile::DEVNET.total());
        let storers = self.network.operators(state, least, self.chain.deployment().chain_id).await?;
        let storers = self.network.fit(storers).await?;
        let profile = placing::profile(&storers, &placing::residency(state, self.datanet)?);
        let (gas_price, rent_price) = (self.chain.client.gas_price().await?, self.chain.client.rent_price().await?);
        Ok(Estimate::of(new, profile, gas_price.0, rent_price, rent_epochs))
    }

    /// Tells the cost. A person is asked once for all shards, where there are several, instead of at each transaction.
    fn agreed(&self, estimate: &Estimate) -> anyhow::Result<()> {
        let output = &self.context.output;
        output.note(&estimate.describe());
        if output.consent != Consent::Asked || estimate.contributions < 2 {
            return Ok(());
        }
        let mut err = std::io::stderr().lock();
        write!(err, "go on with all of it? [y/N] ").and_then(|()| err.flush())?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Err(Refused("you did not say yes: nothing was sent".into()).into());
        }
        output.agreed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Shards<'_> {
    /// Takes the end of a step.
    fn end(&mut self, place: usize, way: Way, brought: Brought, note: impl Fn(&str)) -> anyhow::Result<()> {
        let (step, ended, error) = match brought {
            Brought::Made(Ok(Made::Committed)) => (Step::Commit, Ended::Done, None),
            Brought::Made(Ok(Made::Left)) => (Step::Commit, Ended::Again, None),
            Brought::Made(Ok(Made::There)) => (Step::Commit, Ended::There, None),
            Brought::Made(Err(error)) => (Step::Commit, Ended::Failed, Some(error)),
            Brought::Looked(Ok(Looked::Passed)) => (Step::Review, Ended::Done, None),
            Brought::Looked(Ok(Looked::Again)) => (Step::Review, Ended::Again, None),
            Brought::Looked(Ok(Looked::There)) => (Step::Review, Ended::There, None),
            Brought::Looked(Ok(Looked::Turned(error))) => (Step::Review, Ended::Turned, Some(error)),
            Brought::Looked(Err(error)) => (Step::Review, Ended::Failed, Some(error)),
            Brought::Looked(Ok(Looked::Waits(waits))) => {
                let total = self.journal.cuts.len();
                if total > 1 {
                    let number = u64::from(way.cut.number) + 1;
                    note(&format!("shard {number} of {total} waits for two reviewers as commitment {}", waits.commitment));
                }
                self.outcome.waiting.push(*waits);
                (Step::Review, Ended::Waits, None)
            }
            Brought::Accepted(Ok(())) => (Step::Accept, Ended::Done, None),
            Brought::Accepted(Err(error)) => (Step::Accept, Ended::Failed, Some(error)),
            Brought::Spread(brought) => match *brought {
                Ok(contributed) => {
                    self.finish(&way.cut, contributed)?;
                    (Step::Spread, Ended::Done, None)
                }
                Err(error) => (Step::Spread, Ended::Failed, Some(error)),
            },
        };
        let is_over = self.pipeline.end(place, step, ended);
        if !matches!(ended, Ended::Waits | Ended::Failed) && step != Step::Spread {
            self.ways[place] = Some(way);
        }
        match error {
            Some(error) if is_over => self.fail(place, error, note),
            Some(error) => note(&format!("shown again by itself: {error:#}")),
            None => {}
        }
        Ok(())
    }

    /// Notes that a shard lies where it belongs.
    fn finish(&mut self, cut: &Cut, contributed: Contributed) -> anyhow::Result<()> {
        let Contributed { contribution, text_root, object, documents, text_bytes, .. } = contributed;
        let dropped = contributed.dropped.iter().take(NAMED_MAX).cloned().collect();
        self.journal.finish(Done { number: cut.number, contribution, text_root, object, documents, text_bytes, dropped })?;
        self.outcome.last = Some(Box::new(contributed));
        Ok(())
    }

    /// Of several failures that of the first shard is the command's; the others are said.
    fn fail(&mut self, place: usize, error: anyhow::Error, note: impl Fn(&str)) {
        let other = match &self.failed {
            Some((first, _)) if *first < place => Some((place, error)),
            _ => self.failed.replace((place, error)),
        };
        if let Some((place, error)) = other {
            note(&format!("shard {} failed as well: {error:#}", place + 1));
        }
    }
}
