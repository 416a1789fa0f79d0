//! The run itself: frozen layers once, then passes of steps, with checkpoints between them.

use std::ops::ControlFlow;

use crate::model::f64_from;
use crate::model::linear::read;

use super::data::{self, Encoded, batches};
use super::files::Checkpoint;
use super::graph::{Graph, Matrices};
use super::params::{AdamW, Layout, Trained};
use super::{Progress, TRUNK_BYTES_MAX, TrainConfig, TrainError, TrainJob};

/// A set of documents with the output of their frozen layers.
pub(super) struct Set<'a> {
    examples: &'a [Encoded],
    trunk: Vec<Vec<f32>>,
}

/// What all passes gave.
pub(super) struct Outcome {
    pub(super) theta: Vec<f32>,
    /// Mean loss of every pass, those before a checkpoint included.
    pub(super) losses: Vec<f64>,
    /// Complete passes taken over from a checkpoint.
    pub(super) resumed: u32,
    /// Steps taken over from it.
    pub(super) resumed_steps: u32,
    /// Loss on the held-out documents at the end.
    pub(super) held_out: Option<f64>,
}

/// What a run carries around.
pub(super) struct Run<'a> {
    pub(super) job: &'a TrainJob,
    pub(super) graph: &'a Graph<'a>,
    pub(super) layout: &'a Layout,
    pub(super) width: usize,
    pub(super) progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Run<'_> {
    fn report(&mut self, progress: Progress) -> Result<(), TrainError> {
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TrainError::Stopped),
        }
    }

    pub(super) fn trunk<'b>(&mut self, examples: &'b [Encoded]) -> Result<Set<'b>, TrainError> {
        let values: usize = examples.iter().map(|example| example.inputs().len() * self.width).sum();
        if values * 4 > TRUNK_BYTES_MAX {
            return Err(TrainError::Config {
                setting: "the number of tokens in all documents",
                value: (values / self.width).to_string(),
                expected: "few enough that their frozen layers' output fits 512 MiB",
            });
        }
        let embed = |example: &Encoded| self.graph.embed(example.inputs());
        let mut trunk = examples.iter().map(embed).collect::<Result<Vec<_>, _>>()?;
        let order: Vec<usize> = (0..examples.len()).collect();
        for members in batches(examples, &order, self.job.config.batch) {
            let batch = data::pack(examples, &trunk, &members, self.width)?;
            let hidden = self.graph.frozen(&batch)?;
            let rows = read(&hidden, |hidden| data::unpack(hidden, &batch, self.width))?;
            for (&member, rows) in members.iter().zip(rows) {
                trunk[member] = rows;
            }
            self.report(Progress::Trunk { done: members.last().map_or(0, |last| last + 1), of: examples.len() })?;
        }
        Ok(Set { examples, trunk })
    }

    /// Mean loss per counted token; none for an empty set.
    fn mean_loss(&self, set: &Set<'_>, theta: Option<&[f32]>) -> Result<Option<f64>, TrainError> {
        let trained = theta.map(|theta| self.layout.matrices(theta));
        let order: Vec<usize> = (0..set.examples.len()).collect();
        let (mut loss, mut counted) = (0.0, 0);
        for members in batches(set.examples, &order, self.job.config.batch) {
            let batch = data::pack(set.examples, &set.trunk, &members, self.width)?;
            let matrices = trained.as_ref().map(|trained| self.matrices(trained));
            loss += self.graph.loss(&batch, matrices.as_ref())?;
            counted += batch.targets.len();
        }
        Ok((counted > 0).then(|| loss / f64_from(counted)))
    }

    /// Mean loss of the base alone.
    ///
    /// # Errors
    /// [`TrainError::BaseLoss`] if it is no number: the manifest records integers.
    pub(super) fn loss_before(&self, set: &Set<'_>) -> Result<Option<f64>, TrainError> {
        match self.mean_loss(set, None)? {
            Some(loss) if !loss.is_finite() => Err(TrainError::BaseLoss { loss }),
            loss => Ok(loss),
        }
    }

    /// Mean loss after a pass.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if it is no number.
    pub(super) fn loss_after(&self, set: &Set<'_>, theta: &[f32], pass: u32) -> Result<Option<f64>, TrainError> {
        match self.mean_loss(set, Some(theta))? {
            Some(loss) if !loss.is_finite() => Err(TrainError::Diverged { pass, loss }),
            loss => Ok(loss),
        }
    }

    fn matrices<'b>(&'b self, trained: &'b [Trained]) -> Matrices<'b> {
        let config = &self.job.config;
        Matrices { layout: self.layout, trained, scale: config.alpha / f64_from(config.rank) }
    }

    /// All passes, from the checkpoint of an interrupted run if there is one.
    pub(super) fn passes(
        &mut self,
        begun: Option<Checkpoint>,
        set: &Set<'_>,
        held_out: &Set<'_>,
        manifest: &[u8],
    ) -> Result<Outcome, TrainError> {
        let config = &self.job.config;
        let mut state = begun.unwrap_or_else(|| Checkpoint::first(self.layout.initial(config.seed), AdamW::new(self.layout.len)));
        let (resumed, resumed_steps) = (state.pass, state.optimizer.step);
        let mut measured = None;
        while state.pass < config.passes {
            let loss = self.pass(set, &mut state, manifest)?;
            state.end_pass(loss);
            state.save(self.job, manifest)?;
            measured = self.loss_after(held_out, &state.theta, state.pass)?;
            self.report(Progress::Pass { pass: state.pass, passes: config.passes, loss, held_out: measured })?;
        }
        // A run that ended between its last checkpoint and its adapter measured, but told nobody.
        if measured.is_none() {
            measured = self.loss_after(held_out, &state.theta, state.pass)?;
        }
        Ok(Outcome { theta: state.theta, losses: state.losses, resumed, resumed_steps, held_out: measured })
    }

    /// The rest of the pass under way; returns its mean loss.
    fn pass(&mut self, set: &Set<'_>, state: &mut Checkpoint, manifest: &[u8]) -> Result<f64, TrainError> {
        let config = &self.job.config;
        let order = data::order(set.examples.len(), config.seed, state.pass);
        let groups = batches(set.examples, &order, config.batch);
        let steps: Vec<&[Vec<usize>]> = groups.chunks(config.accumulate).collect();
        let mut gradient = vec![0f32; self.layout.len];
        while let Some(group) = steps.get(state.made) {
            let done = f64::from(state.pass) + f64_from(state.made) / f64_from(steps.len());
            let loss = self.step(set, group, state, &mut gradient, done / f64::from(config.passes))?;
            state.made += 1;
            // The end of the pass writes the checkpoint of its last step.
            let is_due = state.made < steps.len() && state.optimizer.step.is_multiple_of(self.job.checkpoint_every.get());
            if is_due {
                state.save(self.job, manifest)?;
            }
            let progress = Progress::Step { pass: state.pass + 1, passes: config.passes, step: state.made, steps: steps.len(), loss };
            if let Err(stopped) = self.report(progress) {
                if !is_due {
                    state.save(self.job, manifest)?;
                }
                return Err(stopped);
            }
        }
        Ok(state.total / f64_from(state.counted.max(1)))
    }

    /// One step over some batches; returns its mean loss. The gradient is of the mean over all of their counted tokens.
    fn step(
        &self,
        set: &Set<'_>,
        group: &[Vec<usize>],
        state: &mut Checkpoint,
        gradient: &mut [f32],
        share: f64,
    ) -> Result<f64, TrainError> {
        let config = &self.job.config;
        let counted: usize = group.iter().flatten().map(|&member| set.examples[member].counted()).sum();
        let trained = self.layout.matrices(&state.theta);
        let matrices = self.matrices(&trained);
        gradient.fill(0.0);
        let mut total = 0.0;
        for members in group {
            let batch = data::pack(set.examples, &set.trunk, members, self.width)?;
            total += self.graph.gradient(&batch, &matrices, counted, gradient)?;
        }
        let loss = total / f64_from(counted.max(1));
        if !loss.is_finite() {
            return Err(TrainError::Diverged { pass: state.pass + 1, loss });
        }
        let rate = rate(config, state.optimizer.step, share);
        #[expect(clippy::cast_possible_truncation, reason = "settings are small numbers, rounded to f32")]
        state.optimizer.step(&mut state.theta, gradient, rate as f32, config.weight_decay as f32, config.clip as f32);
        state.total += total;
        state.counted += counted;
        Ok(loss)
    }
}

/// The learning rate at a step, from 0, and a share of the run: rising over the first steps, times a half cosine from 1 to a tenth.
fn rate(config: &TrainConfig, step: u32, share: f64) -> f64 {
    let warm_up = f64::from(config.warm_up.max(1));
    let rising = (f64::from(step) + 1.0).min(warm_up) / warm_up;
    let falling = 0.1 + 0.45 * (1.0 + (share * std::f64::consts::PI).cos());
    config.learning_rate * rising * falling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_over_the_first_steps_and_falls_to_a_tenth_along_a_cosine() {
        let config = TrainConfig { learning_rate: 2.0, warm_up: 4, ..TrainConfig::default() };
        let rising: Vec<f64> = (0..6).map(|step| rate(&config, step, 0.0)).collect();
        assert_eq!(rising, [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]);
        let near = |share: f64, expected: f64| assert!((rate(&config, 100, share) - expected).abs() < 1e-12, "{share}");
        near(0.5, 1.1);
        near(1.0, 0.2);
        near(0.25, 2.0 * (0.1 + 0.45 * (1.0 + std::f64::consts::FRAC_1_SQRT_2)));
        assert_eq!(rate(&TrainConfig { warm_up: 0, ..config }, 0, 0.0), 2.0, "without a rise the first step has the whole rate");
    }
}
