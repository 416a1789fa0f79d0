//! Questions for leaves and parts of the payout that this node posted, answered many to a transaction.
//!
//! Anybody may ask for any place, each question must be answered within `payout_answer_s`, and one that is not costs the poster its stake. A question takes
//! one slot of the chain, a transaction that answers takes [`EVIDENCE_BYTES_MAX`] of them: 110 in a tree of a million accounts, 200 in one of a thousand. In a
//! round [`ROUND_MAX`] are answered, [`AT_ONCE`] transactions side by side: some 10,000 a minute on a chain of two-second blocks. The tree is brought into the
//! form that is shown once, and kept while somebody asks.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use anyhow::Context as _;
use chain_bridge::{
    chain::error::ChainError,
    fraud::{
        calldata::{Pending, Step},
        challenge::{ANSWERS_MAX, Answer, EVIDENCE_BYTES_MAX, leaf_evidence, part_evidence},
        payout::Shown,
    },
    registry::{State, money::ChallengeOf},
};
use futures::future::join_all;
use types::id::{Address, Hash32};

use super::{
    super::{Settling, apart},
    Act, REFUSED_WAIT, Watch,
};
use crate::evidence::search::shown_tree;

/// Questions of one epoch that are answered in one round of the clock: those whose time ends first. About 2 MB of evidence.
const ROUND_MAX: usize = 1_024;
/// Transactions with answers that wait for their block at once.
const AT_ONCE: usize = 4;

/// The tree of a pending payout of this node, as it is shown.
#[derive(Debug)]
pub(super) struct Open {
    pending: Pending,
    shown: Shown,
    /// Places of accounts.
    places: BTreeMap<Address, usize>,
}

/// A question that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    deadline: u64,
    id: Hash32,
    /// Whose part is asked for; nothing where a leaf is.
    account: Option<Address>,
    index: u64,
}

impl Question {
    /// The question of a challenge and the epoch it is about; nothing if it asks for something else.
    fn of((id, deadline): (Hash32, u64), of: &ChallengeOf) -> Option<(u64, Self)> {
        match *of {
            ChallengeOf::Leaf { epoch, index } => Some((epoch, Self { deadline, id, account: None, index })),
            ChallengeOf::Part { epoch, account, index } => Some((epoch, Self { deadline, id, account: Some(account), index })),
            ChallengeOf::Receipts { .. } | ChallengeOf::Request { .. } => None,
        }
    }
}

impl Open {
    fn new(pending: Pending, shown: Shown) -> Self {
        let leaves = shown.leaves().iter().enumerate();
        let places = leaves.filter_map(|(place, row)| Some((row.leaf()?.account, place))).collect();
        Self { pending, shown, places }
    }

    /// What answers a question; nothing if it is about another payout of the epoch.
    fn answer(&self, question: &Question) -> Option<Answer> {
        let Question { id, account, index, .. } = *question;
        let Some(account) = account else {
            let is_its = self.pending.leaf_challenge(index) == id;
            return is_its.then(|| Answer { is_part: false, index, evidence: leaf_evidence(&self.shown, index) });
        };
        let leaf = *self.places.get(&account)?;
        if self.pending.part_challenge(u64::try_from(leaf).ok()?, index) != id {
            return None;
        }
        Some(Answer { is_part: true, index, evidence: part_evidence(&self.shown, leaf, index)? })
    }
}

type Batch = Vec<(Hash32, Answer)>;

/// Answers in their order, as many to a transaction as it carries.
fn batches(answers: impl IntoIterator<Item = (Hash32, Answer)>) -> VecDeque<Batch> {
    let mut all: VecDeque<Batch> = VecDeque::new();
    let mut bytes = 0;
    for (id, answer) in answers {
        let more = answer.bytes();
        match all.back_mut() {
            Some(last) if last.len() < ANSWERS_MAX && bytes + more <= EVIDENCE_BYTES_MAX => {
                bytes += more;
                last.push((id, answer));
            }
            _ => {
                bytes = more;
                all.push_back(vec![(id, answer)]);
            }
        }
    }
    all
}

impl Settling {
    /// Answers what is asked about the payouts that this node posted and that are not final: what the books show open and nothing was sent for.
    pub(super) async fn answer_questions(&self, state: &Arc<State>, now: u64, watch: &mut Watch) {
        let own = self.account.address();
        let is_own = |epoch: u64| state.epoch(epoch).and_then(|epoch| epoch.payout).is_some_and(|payout| payout.poster == own);
        let open = state.open_challenges().filter(|(_, challenge)| challenge.deadline > now);
        let open = open.filter_map(|(id, challenge)| Question::of((id, challenge.deadline), &challenge.of));
        let mut by_epoch: BTreeMap<u64, Vec<Question>> = BTreeMap::new();
        for (epoch, question) in open.filter(|(epoch, _)| is_own(*epoch)) {
            by_epoch.entry(epoch).or_default().push(question);
        }
        if by_epoch.is_empty() {
            watch.asked_of = None;
        }
        for (epoch, mut questions) in by_epoch {
            questions.retain(|question| !watch.done.contains_key(&(question.id, Act::Answer)));
            if questions.is_empty() {
                continue;
            }
            questions.sort_unstable();
            questions.truncate(ROUND_MAX);
            match self.answers(state, epoch, questions, watch).await {
                Ok(answers) => self.send_answers(batches(answers), watch).await,
                Err(error) => tracing::warn!(epoch, error = format!("{error:#}"), "questions about this node's payout are not answered"),
            }
        }
    }

    /// What answers questions about the payout of an epoch, in their order.
    async fn answers(&self, state: &Arc<State>, epoch: u64, questions: Vec<Question>, watch: &mut Watch) -> anyhow::Result<Batch> {
        let payout = state.epoch(epoch).and_then(|epoch| epoch.payout).context("the payout was taken back")?;
        let pending = Pending::of(epoch, &payout, self.deployment.config.w2_s).context("the payout is older than time")?;
        let known = watch.asked_of.clone().filter(|open| open.pending == pending);
        let open = match known {
            Some(open) => open,
            None => {
                let tree = self.tree(state, epoch).await?;
                Arc::new(apart(move || Ok(Open::new(pending, shown_tree(&tree)?))).await?)
            }
        };
        watch.asked_of = Some(Arc::clone(&open));
        let (answers, foreign) = apart(move || {
            let (mut answers, mut foreign) = (Batch::new(), Vec::new());
            for question in questions {
                match open.answer(&question) {
                    Some(answer) => answers.push((question.id, answer)),
                    None => foreign.push(question.id),
                }
            }
            Ok((answers, foreign))
        })
        .await?;
        // A payout before this one was asked about: nobody can answer any more, nor settle.
        self.leave_alone(foreign, watch);
        Ok(answers)
    }

    fn leave_alone(&self, questions: impl IntoIterator<Item = Hash32>, watch: &mut Watch) {
        let until = self.snapshots.borrow().tip.number.saturating_add(REFUSED_WAIT);
        watch.done.extend(questions.into_iter().map(|id| ((id, Act::Answer), until)));
    }

    /// Sends answers, some transactions at once. One that the chain refuses is halved, until what it refuses stands alone.
    async fn send_answers(&self, mut batches: VecDeque<Batch>, watch: &mut Watch) {
        while !batches.is_empty() {
            let now: Vec<Batch> = batches.drain(..batches.len().min(AT_ONCE)).collect();
            let sent = join_all(now.into_iter().map(async |batch| {
                let step = Step::show_lines(batch.iter().map(|(_, answer)| answer));
                (self.chain.challenge(&step).await, batch)
            }));
            for (sent, mut batch) in sent.await {
                let count = batch.len();
                match sent {
                    Ok(sent) => {
                        tracing::info!(count, transaction = %sent.transaction, gas = sent.gas_used, "questions about this node's payout are answered");
                        watch.done.extend(batch.iter().map(|(id, _)| ((*id, Act::Answer), sent.block.number)));
                    }
                    Err(ChainError::Reverted { .. }) if count > 1 => {
                        let rest = batch.split_off(count / 2);
                        batches.extend([batch, rest]);
                    }
                    Err(error) => {
                        tracing::warn!(count, %error, "questions about this node's payout are not answered yet");
                        // The one may be another branch's; of the other a copy is under way.
                        if matches!(error, ChainError::Reverted { .. } | ChainError::NotIncluded { .. }) {
                            self.leave_alone(batch.iter().map(|(id, _)| *id), watch);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use attribution::epoch::{Parts, Payout, one_by_one};
    use types::{amount::Amount, payout::PartLeaf, split::Part};

    use super::*;

    fn open() -> Open {
        let part = |receipt| PartLeaf::new(Address([9; 20]), receipt, Part::Node, Amount(1));
        let parts: Parts = (1..4).map(|account| (Address([account; 20]), vec![part(0), part(1)])).collect();
        let tree = Payout::over(&BTreeMap::new(), parts, &one_by_one).unwrap();
        let pending = Pending { epoch: 1, root: tree.root(), posted_at: 100 };
        Open::new(pending, shown_tree(&tree).unwrap())
    }

    #[test]
    fn questions_are_answered_with_what_is_asked_for_and_those_of_another_payout_not_at_all() {
        let open = open();
        let leaf = Question { deadline: 9, id: open.pending.leaf_challenge(7), account: None, index: 7 };
        let answer = open.answer(&leaf).unwrap();
        assert_eq!((answer.is_part, answer.evidence), (false, leaf_evidence(&open.shown, 2)), "the last of fewer");
        let part = Question { deadline: 9, id: open.pending.part_challenge(1, 0), account: Some(Address([2; 20])), index: 0 };
        let answer = open.answer(&part).unwrap();
        assert_eq!((answer.is_part, Some(answer.evidence)), (true, part_evidence(&open.shown, 1, 0)));
        let former = Pending { posted_at: 99, ..open.pending };
        assert_eq!(open.answer(&Question { id: former.leaf_challenge(7), ..leaf }), None);
        assert_eq!(open.answer(&Question { id: former.part_challenge(1, 0), ..part }), None);
        assert_eq!(open.answer(&Question { account: Some(Address([8; 20])), ..part }), None, "no line of the tree");
    }

    #[test]
    fn what_ends_first_is_answered_first() {
        let question = |deadline, id| Question { deadline, id: Hash32([id; 32]), account: None, index: 0 };
        let mut all = [question(9, 1), question(7, 3), question(7, 2), question(8, 0)];
        all.sort_unstable();
        assert_eq!(all.map(|one| (one.deadline, one.id.0[0])), [(7, 2), (7, 3), (8, 0), (9, 1)]);
    }

    #[test]
    fn batches_hold_every_answer_once_and_no_more_than_a_transaction_carries() {
        let answer = |index: u64, size| {
            (Hash32([index.to_be_bytes(); 4].concat().try_into().unwrap()), Answer { is_part: false, index, evidence: vec![1; size] })
        };
        for (count, size) in [(0, 1), (1, 1), (300, 0), (1_000, 600), (1_000, 2_000), (5, 100_000), (3, EVIDENCE_BYTES_MAX + 1)] {
            let all = batches((0..count).map(|index| answer(index, size)));
            let indices = all.iter().flatten().map(|(_, answer)| answer.index);
            assert!(indices.eq(0..count), "{count} of {size}");
            for batch in &all {
                let bytes: usize = batch.iter().map(|(_, answer)| answer.bytes()).sum();
                assert!(batch.len() <= ANSWERS_MAX && (batch.len() == 1 || bytes <= EVIDENCE_BYTES_MAX), "{count} of {size}");
            }
        }
        assert_eq!(batches((0..1_000).map(|index| answer(index, 593))).len(), 5, "about 200 each");
    }
}
