//! Payouts of others, watched while they can be taken back: each is rebuilt from its receipts, and what differs is proven to the chain (F7).
//!
//! A node that posts payouts watches those of others, and any other node if its operator says so. Its lines come from its poster, or from the
//! calldata that it left on the chain; the first fault among them becomes the proof. What is to be had nowhere is asked for on the chain.
//! Cost of a right payout: the receipts behind it once (about 1 KB each), one division of an epoch, no transaction.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use attribution::epoch::{Payout, replay::Line};
use chain_bridge::{
    chain::error::ChainError,
    fraud::{
        calldata::Step,
        withheld::{self, Answers, Next, Question},
    },
    registry::{State, money::ChallengeOf, state},
};
use tokio::time::{Instant, MissedTickBehavior};
use types::id::{Address, Hash32};

use super::{Settling, TICK, report::Finding};
use crate::evidence::search::{Compared, Found, Rooted, bodies_of, compared_fault, shown_tree, wrong_payout};

/// Fetches of a poster's lines that fail before they are asked for on the chain.
const TRIES: u32 = 2;
/// Questions on the chain about one payout: enough for the largest trees; an answered one costs half of its answer, out of its bond.
const ASKED_MAX: usize = 96;
/// Wait between two looks at a payout that could not be rebuilt or proven wrong.
const AGAIN: Duration = Duration::from_secs(2);

/// The payout that is looked at: its epoch, root, and when it is final.
type Which = (u64, Hash32, u64);

/// What was found out about it.
#[derive(Debug, Default)]
struct Watched {
    of: Option<Which>,
    is_done: bool,
    /// Not before then.
    next: Option<Instant>,
    /// Fetches of the lines that failed.
    tries: u32,
    /// The chain's calldata was read for them.
    is_scanned: bool,
    /// What it should be.
    expected: Option<Arc<Expected>>,
    /// What was asked for on the chain, each with the time from which its silence may be settled.
    asked: BTreeMap<Question, u64>,
}

/// What a payout should be, and what it follows from.
#[derive(Debug)]
struct Expected {
    tree: Payout,
    last: Option<Arc<Payout>>,
    receipts: Rooted,
}

impl Settling {
    /// Watches for as long as the service runs; nothing if this node is not one that watches.
    pub(super) async fn watch_payouts(&self) {
        if !self.is_poster && !self.watches {
            return;
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = Watched::default();
        loop {
            ticks.tick().await;
            let snapshot = Arc::clone(&self.snapshots.borrow());
            let Some(heads) = snapshot.heads.filter(|_| snapshot.is_current()) else { continue };
            let Some((epoch, payout)) = pending(&snapshot.latest, heads.timestamp, self.account.address()) else { continue };
            let of = (epoch, payout.root, payout.final_at);
            if watched.of != Some(of) {
                watched = Watched { of: Some(of), ..Watched::default() };
            }
            if watched.is_done || watched.next.is_some_and(|next| next > Instant::now()) {
                continue;
            }
            match self.look_at(&snapshot.latest, epoch, &payout, &mut watched).await {
                Ok(is_done) => watched.is_done = is_done,
                Err(error) => {
                    self.notes().payout(epoch, payout.root, Finding::Unchecked(format!("{error:#}")));
                    tracing::warn!(epoch, poster = %payout.poster, error = format!("{error:#}"), "a payout was not checked to its end");
                }
            }
            watched.next = Some(Instant::now() + AGAIN);
        }
    }

    /// Compares a payout with what its receipts give, and proves what differs. Whether nothing is left to do.
    async fn look_at(&self, state: &Arc<State>, epoch: u64, payout: &state::Payout, watched: &mut Watched) -> anyhow::Result<bool> {
        let expected = match &watched.expected {
            Some(expected) => Arc::clone(expected),
            None => {
                let Some(expected) = self.expected(state, epoch, payout).await? else {
                    self.notes().payout(epoch, payout.root, Finding::Right);
                    return Ok(true);
                };
                let (root, poster) = (payout.root, payout.poster);
                tracing::warn!(epoch, %poster, %root, rebuilt = %expected.tree.root(), "a posted payout is not the one that its receipts give");
                Arc::clone(watched.expected.insert(Arc::new(expected)))
            }
        };
        self.notes().payout(epoch, payout.root, Finding::Wrong { asked: watched.asked.len() });
        if watched.tries >= TRIES {
            return self.ask_on_chain(state, epoch, payout, expected, &mut watched.asked).await;
        }
        let shown = match self.lines_of(state, epoch, payout, &expected.tree, &mut watched.is_scanned).await {
            Ok(shown) => shown,
            Err(error) => {
                watched.tries = watched.tries.saturating_add(1);
                tracing::warn!(epoch, poster = %payout.poster, error = format!("{error:#}"), "the lines of a wrong payout are not to be had");
                return Ok(false);
            }
        };
        let found = self.fault_of(state, epoch, expected, shown).await?;
        let Some(found) = found else { return Ok(true) };
        Ok(self.refute(epoch, payout, &found).await)
    }

    /// What a payout should be; nothing if it is that.
    async fn expected(&self, state: &Arc<State>, epoch: u64, payout: &state::Payout) -> anyhow::Result<Option<Expected>> {
        let (kept, tree) = Box::pin(self.build(state, epoch)).await?;
        if (tree.root(), tree.total()) == (payout.root, payout.total) {
            self.keep(epoch, &kept)?;
            tracing::debug!(epoch, root = %payout.root, "a payout is the one that its receipts give");
            return Ok(None);
        }
        let before = epoch.checked_sub(1).filter(|before| state.epoch(*before).is_some());
        let last = match before {
            Some(before) => Some(self.tree(state, before).await?),
            None => None,
        };
        let roots = state.epoch(epoch).map(|epoch| epoch.roots.clone()).unwrap_or_default();
        let mut receipts = Rooted::new();
        for (node, root) in roots.iter().filter(|(node, _)| !state.is_out(epoch, **node, Hash32::ZERO)) {
            receipts.insert((epoch, *node), self.receipts_of(state, *node, epoch, root).await?);
        }
        // Those of epochs before, as far as they are at hand, bound what a refund may be.
        for (number, earlier) in state.epochs().filter(|(number, _)| *number < epoch) {
            for (node, root) in &earlier.roots {
                if let Some(items) = self.at_hand(number, *node, root)? {
                    receipts.insert((number, *node), items);
                }
            }
        }
        Ok(Some(Expected { tree, last, receipts }))
    }

    async fn fault_of(&self, state: &Arc<State>, epoch: u64, expected: Arc<Expected>, shown: Vec<Line>) -> anyhow::Result<Option<Found>> {
        let state = Arc::clone(state);
        let search = move || {
            let last = expected.last.as_deref().map(shown_tree).transpose()?;
            let tree = shown_tree(&expected.tree)?;
            compared_fault(&state, &expected.receipts, &Compared { epoch, expected: &tree, last: last.as_ref(), shown: &shown })
        };
        tokio::task::spawn_blocking(search).await.context("the search ended before its time")?
    }
}

impl Settling {
    /// Proves a payout wrong, and notes it.
    async fn refute(&self, epoch: u64, payout: &state::Payout, found: &Found) -> bool {
        let is_done = self.prove(epoch, found).await;
        if is_done {
            self.notes().payout(epoch, payout.root, Finding::Ended(found.why.clone()));
        }
        is_done
    }

    /// Goes on with what was shown on the chain: asks for more, settles what nobody showed, proves what is wrong.
    async fn ask_on_chain(
        &self,
        state: &Arc<State>,
        epoch: u64,
        payout: &state::Payout,
        expected: Arc<Expected>,
        asked: &mut BTreeMap<Question, u64>,
    ) -> anyhow::Result<bool> {
        let head = self.chain.latest().await?;
        let opened = state.epoch(epoch).map_or(0, |epoch| epoch.opened_block);
        let mut answers = Answers::default();
        for evidence in self.chain.shown_payouts(opened, head.block.number).await? {
            answers.take(&evidence, payout.root);
        }
        let next = {
            let (state, expected) = (Arc::clone(state), Arc::clone(&expected));
            let search = move || {
                let receipts = bodies_of(&expected.receipts);
                let (tree, last) = (shown_tree(&expected.tree)?, expected.last.as_deref().map(shown_tree).transpose()?);
                let case = withheld::Case { state: &state, epoch, expected: &tree, last: last.as_ref(), receipts: &receipts };
                anyhow::Ok(withheld::next(&case, &answers)?)
            };
            tokio::task::spawn_blocking(search).await.context("the search ended before its time")??
        };
        match next {
            Next::Proof(proof) => Ok(self.refute(epoch, payout, &wrong_payout(state, epoch, &proof)).await),
            Next::Nothing(why) => {
                tracing::warn!(epoch, poster = %payout.poster, why, "a payout is wrong and cannot be proven so");
                self.notes().payout(epoch, payout.root, Finding::Ended(format!("no proof shows it: {why}")));
                Ok(true)
            }
            Next::Ask(question, leaf) => {
                self.put_question(state, epoch, (question, leaf), head.timestamp, asked).await?;
                Ok(false)
            }
        }
    }

    /// Asks, or settles what was asked and not answered in time.
    async fn put_question(
        &self,
        state: &State,
        epoch: u64,
        (question, leaf): (Question, Vec<u8>),
        now: u64,
        asked: &mut BTreeMap<Question, u64>,
    ) -> anyhow::Result<()> {
        if let Some(deadline) = asked.get(&question) {
            if now <= *deadline {
                return Ok(());
            }
            let step = match &question {
                Question::Leaf(index) => Step::settle_leaf(*index),
                Question::Part { leaf, index, .. } => Step::settle_part(*leaf, *index),
            };
            let settled = self.chain.challenge(&step).await?;
            tracing::warn!(epoch, ?question, transaction = %settled.transaction, "a poster did not show its tree: the payout is taken back");
            return Ok(());
        }
        anyhow::ensure!(asked.len() < ASKED_MAX, "{ASKED_MAX} questions were asked, and nothing was proven");
        let step = match &question {
            Question::Leaf(index) => Step::ask_leaf(*index),
            Question::Part { index, .. } => Step::ask_part(leaf, *index),
        };
        let deadline = match self.chain.challenge(&step).await {
            Ok(_) => now.saturating_add(self.deployment.config.payout_answer_s).saturating_add(1),
            // Somebody else was faster: then the same silence is settled.
            Err(error @ ChainError::Reverted { .. }) => open_until(state, epoch, &question).ok_or(error)?,
            Err(error) => return Err(error.into()),
        };
        tracing::warn!(epoch, ?question, "asked a poster for its tree on the chain");
        asked.insert(question, deadline);
        Ok(())
    }
}

/// Until when somebody's open challenge with the same question may be answered.
fn open_until(state: &State, epoch: u64, question: &Question) -> Option<u64> {
    let is_same = |of: &ChallengeOf| match (of, question) {
        (ChallengeOf::Leaf { epoch: of, index }, Question::Leaf(wanted)) => (*of, index) == (epoch, wanted),
        (ChallengeOf::Part { epoch: of, account, index }, Question::Part { account: whose, index: wanted, .. }) => {
            (*of, account, index) == (epoch, whose, wanted)
        }
        _ => false,
    };
    state.open_challenges().filter(|(_, challenge)| is_same(&challenge.of)).map(|(_, challenge)| challenge.deadline).max()
}

/// The payout of another poster that is not final yet.
fn pending(state: &State, now: u64, own: Address) -> Option<(u64, state::Payout)> {
    let posted: BTreeMap<u64, state::Payout> = state.epochs().filter_map(|(number, epoch)| Some((number, epoch.payout?))).collect();
    posted.into_iter().next_back().filter(|(_, payout)| payout.final_at > now && payout.poster != own)
}
