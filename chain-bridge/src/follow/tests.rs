use std::sync::Mutex;

use proptest::prelude::*;
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use super::*;
use crate::{
    chain::{Call, TxRef},
    registry::Event,
};

/// A chain that the test writes: one deposit in every block, worth its branch.
#[derive(Default)]
struct Fake {
    blocks: Mutex<Vec<(Header, u8)>>,
    is_down: Mutex<bool>,
    /// What it does to its answers, call by call; honest once they are used up.
    lies: Mutex<Vec<Lie>>,
}

/// What an endpoint may do to the events it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    Down,
    Twice,
    Backwards,
    /// It does not know the last block yet.
    Behind,
    /// It tells of another branch.
    Elsewhere,
}

#[derive(Debug, thiserror::Error)]
#[error("the chain is down")]
struct Down;

impl Fake {
    fn new() -> Self {
        let fake = Self::default();
        fake.blocks.lock().unwrap().push((Header { block: block(0, 0), parent: Hash32::ZERO, timestamp: 0 }, 0));
        fake
    }

    fn grow(&self, count: u64, branch: u8) {
        let mut blocks = self.blocks.lock().unwrap();
        for _ in 0..count {
            let parent = blocks.last().unwrap().0.block;
            let header = Header { block: block(parent.number + 1, branch), parent: parent.hash, timestamp: parent.number + 1 };
            blocks.push((header, branch));
        }
    }

    fn cut(&self, count: u64) {
        let mut blocks = self.blocks.lock().unwrap();
        let left = blocks.len() - count as usize;
        blocks.truncate(left.max(1));
    }

    fn deposits(&self) -> u128 {
        self.blocks.lock().unwrap().iter().skip(1).map(|(_, branch)| u128::from(*branch) + 1).sum()
    }

    fn tell(&self, lie: Lie, events: &mut Vec<Logged>) -> Result<(), Down> {
        match lie {
            Lie::None => {}
            Lie::Down | Lie::Behind => return Err(Down),
            Lie::Twice => events.extend(events.clone()),
            Lie::Backwards => events.reverse(),
            Lie::Elsewhere => {
                if let Some(event) = events.last_mut() {
                    event.block.hash = Hash32([0xee; 32]);
                }
            }
        }
        Ok(())
    }

    fn up(&self) -> Result<(), Down> {
        if *self.is_down.lock().unwrap() { Err(Down) } else { Ok(()) }
    }
}

fn block(number: u64, branch: u8) -> BlockRef {
    let mut hash = [branch; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    BlockRef { number, hash: Hash32(hash) }
}

const PAYER: Address = Address([1; 20]);

impl Chain for &Fake {
    type Error = Down;

    async fn submit(&self, _: &str, _: Call) -> Result<TxRef, Down> {
        Err(Down)
    }

    async fn head(&self) -> Result<Heads, Down> {
        self.up()?;
        let blocks = self.blocks.lock().unwrap();
        let back = |depth: usize| blocks[(blocks.len() - 1).saturating_sub(depth)].0.block;
        Ok(Heads { latest: back(0), safe: back(4), finalized: back(8), timestamp: 0, safe_timestamp: 0, finalized_timestamp: 0 })
    }

    async fn header(&self, number: u64) -> Result<Option<Header>, Down> {
        self.up()?;
        Ok(self.blocks.lock().unwrap().get(number as usize).map(|(header, _)| *header))
    }

    async fn events_of(&self, asked: &[BlockRef]) -> Result<Vec<Logged>, Down> {
        let lie = self.lies.lock().unwrap().pop().unwrap_or(Lie::None);
        if lie == Lie::Behind || !asked.iter().all(|block| self.blocks.lock().unwrap().iter().any(|(header, _)| header.block == *block)) {
            return Err(Down);
        }
        let (Some(first), Some(last)) = (asked.first(), asked.last()) else { return Ok(vec![]) };
        let mut events = self.events(first.number, last.number).await?;
        self.tell(lie, &mut events)?;
        Ok(events)
    }

    async fn events(&self, from: u64, to: u64) -> Result<Vec<Logged>, Down> {
        self.up()?;
        let blocks = self.blocks.lock().unwrap();
        let range = blocks.iter().filter(|(header, _)| (from.max(1)..=to).contains(&header.block.number));
        let event = |branch: u8| Event::Deposited { payer: PAYER, amount: Amount(u128::from(branch) + 1) };
        Ok(range
            .map(|(header, branch)| Logged { block: header.block, log: 0, transaction: Hash32::ZERO, time: 0, event: event(*branch) })
            .collect())
    }
}

async fn settle(following: &mut Following, chain: &Fake) {
    while following.round(&chain).await.unwrap() {}
}

#[tokio::test]
async fn a_long_history_is_caught_up_in_ranges_and_then_block_by_block() {
    let (chain, mut following) = (Fake::new(), Following::new(0));
    chain.grow(1_000, 0);
    settle(&mut following, &chain).await;
    let snapshot = following.snapshot(None, false);
    assert!(snapshot.is_current());
    assert_eq!((snapshot.latest.free(PAYER), snapshot.finalized.free(PAYER)), (Amount(1_000), Amount(992)));
}

#[tokio::test]
async fn a_shorter_branch_takes_events_back() {
    let (chain, mut following) = (Fake::new(), Following::new(0));
    chain.grow(20, 0);
    settle(&mut following, &chain).await;
    chain.cut(3);
    settle(&mut following, &chain).await;
    assert_eq!(following.snapshot(None, false).latest.free(PAYER), Amount(17));
}

#[tokio::test]
async fn a_changed_finalized_block_halts() {
    let (chain, mut following) = (Fake::new(), Following::new(0));
    chain.grow(20, 0);
    settle(&mut following, &chain).await;
    chain.cut(15);
    chain.grow(30, 7);
    let error = following.round(&&chain).await.unwrap_err();
    assert!(error.must_halt(), "{error}");
}

#[tokio::test]
async fn what_an_earlier_process_knew_to_be_final_is_looked_for_before_anything_is_read() {
    let chain = Fake::new();
    chain.grow(20, 0);
    let after = |number, branch| Following { last_final: Some(block(number, branch)), ..Following::new(0) };
    let mut same = after(12, 0);
    settle(&mut same, &chain).await;
    assert_eq!(same.snapshot(None, false).final_block, block(12, 0));
    let mut other = after(12, 7);
    let error = other.round(&&chain).await.unwrap_err();
    assert_eq!(error.changed(), Some(Changed { was: block(12, 7), now: block(12, 0) }));
    assert!(error.must_halt() && other.snapshot(None, true).latest.free(PAYER) == Amount::ZERO, "nothing was counted");
    let mut ahead = after(30, 0);
    let error = ahead.round(&&chain).await.unwrap_err();
    assert!(matches!(error, FollowError::Lagging { latest: 20, finalized: 30 }) && !error.must_halt(), "{error}");
    chain.grow(10, 0);
    settle(&mut ahead, &chain).await;
}

#[tokio::test]
async fn who_waits_for_a_halted_chain_is_told_once_and_not_left() {
    let chain: &'static Fake = Box::leak(Box::new(Fake::new()));
    chain.grow(20, 0);
    let follower = Follower::start_after(chain, 0, Duration::from_millis(1), Some(block(12, 7)));
    let mut snapshots = follower.subscribe();
    let halted = Arc::clone(&*snapshots.wait_for(|snapshot| snapshot.is_halted).await.unwrap());
    assert_eq!(halted.changed, Some(Changed { was: block(12, 7), now: block(12, 0) }));
    let more = tokio::time::timeout(Duration::from_millis(50), snapshots.changed()).await;
    assert!(more.is_err(), "neither another snapshot nor the end of them: {more:?}");
}

#[tokio::test]
async fn an_endpoint_behind_the_finalized_block_is_waited_for() {
    let (chain, lagging, mut following) = (Fake::new(), Fake::new(), Following::new(0));
    chain.grow(20, 0);
    lagging.grow(11, 0);
    settle(&mut following, &chain).await;
    let books = following.snapshot(None, false);
    let error = following.round(&&lagging).await.unwrap_err();
    assert!(matches!(error, FollowError::Lagging { latest: 11, finalized: 12 }), "{error}");
    assert!(!error.must_halt(), "silence about a block is no other block");
    let kept = following.snapshot(None, false);
    assert_eq!((kept.tip, kept.latest.free(PAYER), kept.finalized.free(PAYER)), (books.tip, Amount(20), Amount(12)));
    chain.grow(1, 0);
    settle(&mut following, &chain).await;
    assert_eq!(following.snapshot(None, false).latest.free(PAYER), Amount(21));
}

#[tokio::test]
async fn a_dead_endpoint_keeps_the_last_books_and_says_so() {
    let chain: &'static Fake = Box::leak(Box::new(Fake::new()));
    chain.grow(12, 0);
    let follower = Follower::start(chain, 0, Duration::from_millis(1));
    let patience = Duration::from_secs(20);
    follower.wait_for(patience, Snapshot::is_current).await.unwrap();
    *chain.is_down.lock().unwrap() = true;
    let down = follower.wait_for(patience, |snapshot| snapshot.problem.is_some()).await.unwrap();
    assert_eq!((down.problem.as_deref(), down.latest.free(PAYER)), (Some("the chain is down"), Amount(12)));
    chain.grow(1, 0);
    *chain.is_down.lock().unwrap() = false;
    let back = follower.wait_for(patience, Snapshot::is_current).await.unwrap();
    assert_eq!(back.latest.free(PAYER), Amount(13));
    follower.stop().await;
}

#[tokio::test]
async fn two_events_of_one_place_are_of_two_chains() {
    let (chain, mut following) = (Fake::new(), Following::new(0));
    chain.grow(20, 0);
    settle(&mut following, &chain).await;
    let mut events = (&chain).events(19, 20).await.unwrap();
    assert_eq!(in_order::<Down>(events.clone()).unwrap(), events);
    events.push(Logged { event: Event::Deposited { payer: PAYER, amount: Amount(77) }, ..events[1].clone() });
    assert!(matches!(in_order::<Down>(events), Err(FollowError::Moved(20))));
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![Just(Lie::None), Just(Lie::Down), Just(Lie::Twice), Just(Lie::Backwards), Just(Lie::Behind), Just(Lie::Elsewhere)]
}

proptest! {
    /// An endpoint that fails, repeats itself, tells events in the wrong order, lags or answers from another branch, while blocks are replaced.
    #[test]
    fn whatever_a_flaky_endpoint_does_the_books_end_as_the_chain_has_them(steps in proptest::collection::vec((0..5_u64, 1..9_u64, lie(), lie()), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (chain, mut following) = (Fake::new(), Following::new(0));
            chain.grow(10, 0);
            settle(&mut following, &chain).await;
            for (number, (cut, grow, one, two)) in steps.into_iter().enumerate() {
                let height = chain.blocks.lock().unwrap().len() as u64 - 1;
                let finalized = following.cursor.as_ref().unwrap().finalized().number;
                chain.cut(cut.min(height - finalized));
                chain.grow(grow, number as u8 + 1);
                *chain.lies.lock().unwrap() = vec![one, two];
                for _ in 0..3 {
                    if let Err(error) = following.round(&&chain).await {
                        assert!(!error.must_halt(), "{error}");
                    }
                }
                chain.lies.lock().unwrap().clear();
                settle(&mut following, &chain).await;
                assert_eq!(following.snapshot(None, false).latest.free(PAYER), Amount(chain.deposits()));
            }
        });
    }

    /// Reorganisations of any depth below the finalized block, seen or not seen in between.
    #[test]
    fn random_reorganisations_leave_the_books_of_a_fresh_replay(steps in proptest::collection::vec((1..8_u64, 0..12_u64, any::<bool>()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (chain, mut following) = (Fake::new(), Following::new(0));
            chain.grow(10, 0);
            settle(&mut following, &chain).await;
            let mut deepest = 0;
            for (number, (cut, grow, look)) in steps.into_iter().enumerate() {
                // Blocks below what was final at the last look must not change.
                let height = chain.blocks.lock().unwrap().len() as u64 - 1;
                deepest = deepest.max(following.cursor.as_ref().unwrap().finalized().number);
                chain.cut(cut.min(height - deepest));
                chain.grow(grow, number as u8 + 1);
                if look {
                    settle(&mut following, &chain).await;
                    assert_eq!(following.snapshot(None, false).latest.free(PAYER), Amount(chain.deposits()));
                }
            }
        });
    }
}
