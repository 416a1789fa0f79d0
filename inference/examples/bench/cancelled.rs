//! How long a dropped answer is still worked on, with a full batch beside it.
//!
//! A drop is seen between two steps, so it waits for the step under way, which is planned to take half of what is allowed
//! (`proto::scheduler::STEP_AIM`). What is timed is what an asker sees: from the drop until the engine says that the answer is gone, its pages free.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use inference::backend::Profile;
use inference::engine::{Generation, Start};

use crate::figures::{Found, median};
use crate::served::{ms, options, prompt, start};
use crate::{PROFILES, Settings};

/// Answers at a time, as many as the largest batch that is measured.
const ANSWERS: u32 = 32;
/// Tokens of each prompt, and of each answer at most: no answer ends by itself while it is among them.
const PROMPT: u32 = 64;
const ANSWER: u32 = 1_800;
/// Answers that are dropped in a round.
const DROPS: u32 = 8;
/// Rounds at most: where a batch is full, a new prompt is read by a few tokens a step, so a drop takes some seconds to prepare.
const ROUNDS: usize = 3;

/// The longest of [`DROPS`] drops in each round, in the profile in which it is longest.
pub(crate) async fn drops(settings: &Settings) -> Result<Vec<Found>> {
    let all = [drops_in(settings, PROFILES[0]).await?, drops_in(settings, PROFILES[1]).await?];
    let slow = usize::from(median(&all[1].longest) > median(&all[0].longest));
    let other = &all[1 - slow];
    let note = format!(
        "profile {}, the slower ({} gives {:.1}); the longest of {DROPS} drops a round among {ANSWERS} answers behind prompts of {PROMPT}, half of them while a prompt is read; {:.1} in the middle",
        PROFILES[slow],
        PROFILES[1 - slow],
        median(&other.longest),
        median(&all[slow].each)
    );
    Ok(vec![Found::plain("cancel_ms", "ms", all[slow].longest.clone(), note)])
}

/// Milliseconds: of each drop, and the longest of each round.
#[derive(Default)]
struct Drops {
    each: Vec<f64>,
    longest: Vec<f64>,
}

async fn drops_in(settings: &Settings, profile: Profile) -> Result<Drops> {
    let engine = start(settings, profile, None)?;
    let mut answers = std::collections::VecDeque::new();
    let mut begun = 0;
    let mut begin = async || {
        begun += 1;
        let mut answer = engine.begin(Start::new(prompt(&engine, PROMPT, begun)?, options(&engine), [0; 32], ANSWER)).await?;
        answer.credit(ANSWER);
        Ok::<Generation, anyhow::Error>(answer)
    };
    for _ in 0..ANSWERS {
        answers.push_back(begin().await?);
    }
    for answer in &mut answers {
        answer.next().await?;
    }
    let mut drops = Drops::default();
    for _ in 0..ROUNDS.min(settings.rounds) {
        let mut longest = Duration::ZERO;
        for at in 0..DROPS {
            let before = Instant::now();
            drop(answers.pop_front());
            let left = engine.stats().await?.generations;
            let time = before.elapsed();
            ensure!(left + 1 == usize::try_from(ANSWERS)?, "{left} answers are left of {ANSWERS}: one ended by itself, or is not gone");
            longest = longest.max(time);
            drops.each.push(ms(time));
            let mut next = begin().await?;
            if at % 2 == 0 {
                // The next drop is among answers alone; every other one while this prompt is read.
                next.next().await?;
            }
            answers.push_back(next);
        }
        drops.longest.push(ms(longest));
    }
    Ok(drops)
}
