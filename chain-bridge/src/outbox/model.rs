//! The outbox against a chain of the test's making: blocks that are taken back, a pool that loses and undercuts, strangers with the same account, an
//! endpoint that answers wrong or not at all, and a process that is killed between any two of its steps.
//!
//! The driver does what the shell does, in its order and with its notes. What must hold: no two transactions of one intent are ever in the chain
//! together, and once the chain is quiet every intent is in it or was reported as failed.

use proptest::prelude::*;
use types::id::Address;

use super::*;

const CONFIG: Config = Config { bump_after: 2, confirmations: 4 };
const KEYS: u8 = 5;

/// A transaction: whose, under which nonce, and which copy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tx {
    key: String,
    nonce: u64,
    most: u128,
}

impl Tx {
    /// As unlike one another as hashes are.
    fn hash(&self) -> Hash32 {
        types::merkle::keccak(&[self.key.as_bytes(), &self.nonce.to_be_bytes(), &self.most.to_be_bytes()])
    }
}

#[derive(Debug, Default)]
struct Chain {
    /// One list of transactions a block.
    blocks: Vec<Vec<Tx>>,
    pool: Vec<Tx>,
    /// What a copy must offer to be taken.
    price: u128,
    /// Whether the account can pay.
    is_poor: bool,
    /// Deepest head that was ever shown: nothing this far down is taken back.
    deepest: usize,
}

impl Chain {
    fn head(&self) -> u64 {
        self.blocks.len() as u64
    }

    fn nonce(&self) -> u64 {
        self.blocks.iter().map(Vec::len).sum::<usize>() as u64
    }

    fn pending(&self) -> u64 {
        let mut nonce = self.nonce();
        while self.pool.iter().any(|tx| tx.nonce == nonce) {
            nonce += 1;
        }
        nonce
    }

    /// The answer to a copy; nothing if it is taken.
    fn offer(&mut self, tx: &Tx) -> Option<Answer> {
        if self.pool.contains(tx) {
            return None;
        }
        if tx.nonce < self.nonce() {
            return Some(Answer::NonceUsed);
        }
        if self.is_poor {
            return Some(Answer::Refused);
        }
        let rival = self.pool.iter().find(|other| other.nonce == tx.nonce).map_or(0, |other| other.most + other.most / 10);
        let least = self.price.max(rival);
        if tx.most < least {
            return Some(Answer::Underpriced(Fees { most: self.price, tip: 1 }));
        }
        self.pool.retain(|other| other.nonce != tx.nonce);
        self.pool.push(tx.clone());
        None
    }

    fn mine(&mut self, most: usize) {
        let mut block = Vec::new();
        let mut next = self.nonce();
        while block.len() < most
            && let Some(place) = self.pool.iter().position(|tx| tx.nonce == next && tx.most >= self.price)
        {
            block.push(self.pool.remove(place));
            next += 1;
        }
        self.blocks.push(block);
        self.pool.retain(|tx| tx.nonce >= next);
        self.deepest = self.deepest.max(self.blocks.len());
    }

    /// Takes back up to `depth` blocks; their transactions wait again, or are lost.
    fn reorganise(&mut self, depth: usize, is_lossy: bool) {
        // What counts as done stays.
        let floor = self.deepest.saturating_sub(usize::try_from(CONFIG.confirmations).unwrap() - 1);
        for _ in 0..depth {
            if self.blocks.len() <= floor {
                break;
            }
            let Some(block) = self.blocks.pop() else { break };
            if !is_lossy {
                self.pool.retain(|tx| block.iter().all(|other| other.nonce != tx.nonce));
                self.pool.extend(block);
            }
        }
    }

    fn place_of(&self, hash: Hash32) -> Option<BlockRef> {
        let place = self.blocks.iter().position(|block| block.iter().any(|tx| tx.hash() == hash))?;
        Some(BlockRef { number: place as u64 + 1, hash: Hash32::ZERO })
    }
}

/// The shell, as `client/send.rs` is: `disk` is what a killed process leaves.
struct Shell {
    outbox: Outbox,
    disk: String,
    /// Steps until the process is killed.
    life: Option<u32>,
    failed: Vec<String>,
    wanted: Vec<String>,
}

/// The process was killed.
struct Killed;

impl Shell {
    fn new() -> Self {
        let outbox = Outbox::new(CONFIG);
        let disk = serde_json::to_string(&outbox).unwrap();
        Self { outbox, disk, life: None, failed: vec![], wanted: vec![] }
    }

    fn step(&mut self) -> Result<(), Killed> {
        match &mut self.life {
            Some(0) => {
                self.outbox = serde_json::from_str(&self.disk).unwrap();
                self.life = None;
                Err(Killed)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn save(&mut self) -> Result<(), Killed> {
        self.step()?;
        self.disk = serde_json::to_string(&self.outbox).unwrap();
        self.step()
    }

    fn want(&mut self, chain: &mut Chain, key: &str, fees: Fees) -> Result<(), Killed> {
        let call = Call { to: Some(Address([7; 20])), data: key.as_bytes().to_vec(), value: Amount(1) };
        let intent = Intent { what: "deposit".into(), origin: Some(Hash32([1; 32])), call, gas: 1, fees, since: 0 };
        if self.outbox.enqueue(key, intent, chain.pending(), chain.head()).unwrap() != Place::New {
            return Ok(());
        }
        self.save()?;
        self.wanted.push(key.to_owned());
        self.transmit(chain, key)
    }

    fn transmit(&mut self, chain: &mut Chain, key: &str) -> Result<(), Killed> {
        for _ in 0..2 * BUMPS_MAX {
            let Some(entry) = self.outbox.entry(key).cloned() else { return Ok(()) };
            let tx = Tx { key: key.to_owned(), nonce: entry.nonce, most: entry.fees.most };
            let head = chain.head();
            let is_new = self.outbox.sending(key, tx.hash(), head);
            self.save()?;
            let answer = chain.offer(&tx);
            self.step()?;
            let Some(answer) = answer else { return Ok(()) };
            let next = self.outbox.answered(key, tx.hash(), is_new, answer);
            match next {
                Next::Renew => self.outbox.renew(key, chain.pending(), head),
                Next::Failed => self.failed.push(key.to_owned()),
                Next::Send | Next::Wait => {}
            }
            self.save()?;
            if matches!(next, Next::Wait | Next::Failed) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Looks after `keys`, as a sweep does.
    fn look(&mut self, chain: &mut Chain, keys: Vec<String>) -> Result<(), Killed> {
        for key in keys {
            let (head, nonce) = (chain.head(), chain.nonce());
            let Some(entry) = self.outbox.entry(&key) else { continue };
            let found = entry.copies().find_map(|hash| chain.place_of(hash).map(|block| (hash, block)));
            self.outbox.seen(&key, found);
            let action = self.outbox.due(&key, head, nonce);
            if action == Some(Action::Renew) {
                self.outbox.renew(&key, chain.pending(), head);
            }
            self.save()?;
            if matches!(action, Some(Action::Send | Action::Renew)) {
                self.transmit(chain, &key)?;
            }
        }
        Ok(())
    }

    fn all(&self) -> Vec<String> {
        self.outbox.waiting().map(|(key, _)| key.to_owned()).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Want(u8),
    Mine(usize),
    Reorganise(usize, bool),
    Stranger,
    Lose(usize),
    Price(u128),
    Poor(bool),
    Look,
    Sweep,
    Kill(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..KEYS).prop_map(Step::Want),
        5 => (0..3_usize).prop_map(Step::Mine),
        2 => (1..4_usize, any::<bool>()).prop_map(|(depth, is_lossy)| Step::Reorganise(depth, is_lossy)),
        1 => Just(Step::Stranger),
        1 => (0..4_usize).prop_map(Step::Lose),
        1 => (50..900_u128).prop_map(Step::Price),
        1 => any::<bool>().prop_map(Step::Poor),
        4 => Just(Step::Look),
        2 => Just(Step::Sweep),
        2 => (0..9_u32).prop_map(Step::Kill),
    ];
    proptest::collection::vec(step, 1..150)
}

fn carry_out(chain: &mut Chain, shell: &mut Shell, step: Step) -> Result<(), Killed> {
    match step {
        Step::Want(key) => {
            let fees = Fees { most: chain.price * 2, tip: 1 };
            shell.want(chain, &key.to_string(), fees)?;
        }
        Step::Mine(most) => chain.mine(most),
        Step::Reorganise(depth, is_lossy) => chain.reorganise(depth, is_lossy),
        // Another process of the account, which asks for the pool's count as ours does, or takes a nonce that a reorganisation freed.
        Step::Stranger => {
            let nonce = if chain.head().is_multiple_of(2) { chain.pending() } else { chain.nonce() };
            chain.offer(&Tx { key: "stranger".into(), nonce, most: chain.price * 3 });
        }
        Step::Lose(place) if place < chain.pool.len() => drop(chain.pool.remove(place)),
        Step::Lose(_) => {}
        Step::Price(price) => chain.price = price,
        Step::Poor(is_poor) => chain.is_poor = is_poor,
        Step::Look => shell.look(chain, shell.all())?,
        Step::Sweep => shell.look(chain, shell.outbox.to_look_for(chain.head(), chain.nonce()))?,
        Step::Kill(life) => shell.life = Some(life),
    }
    Ok(())
}

/// No intent is in the chain twice, and no two of ours wait under one nonce.
fn check(chain: &Chain, shell: &Shell) -> Result<(), TestCaseError> {
    for key in (0..KEYS).map(|key| key.to_string()) {
        let times = chain.blocks.iter().flatten().filter(|tx| tx.key == key).count();
        prop_assert!(times <= 1, "intent {key} is in the chain {times} times: {:?}", chain.blocks);
    }
    let nonces: Vec<u64> = shell.outbox.waiting().map(|(_, entry)| entry.nonce).collect();
    let distinct: std::collections::BTreeSet<u64> = nonces.iter().copied().collect();
    prop_assert_eq!(nonces.len(), distinct.len(), "two of ours share a nonce");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn no_intent_is_mined_twice_and_each_ends_mined_or_reported(steps in steps()) {
        let (mut chain, mut shell) = (Chain { price: 100, ..Chain::default() }, Shell::new());
        for step in steps {
            // Who is killed is started anew; the next step is its.
            let _ = carry_out(&mut chain, &mut shell, step);
            check(&chain, &shell)?;
        }
        // Quiet: money is there, blocks come, prices fall, and a process looks after what is left.
        (shell.life, chain.is_poor, chain.price) = (None, false, 1);
        for _ in 0..6 * (CONFIG.confirmations + u64::from(KEYS)) {
            let all = shell.all();
            prop_assert!(shell.look(&mut chain, all).is_ok());
            // Strangers look after what they sent as well: a nonce of theirs that was lost is filled by them.
            let next = chain.nonce();
            if shell.outbox.waiting().all(|(_, entry)| entry.nonce != next) && shell.outbox.waiting().any(|(_, entry)| entry.nonce > next) {
                chain.offer(&Tx { key: "stranger".into(), nonce: next, most: 2_000 });
            }
            chain.mine(8);
            check(&chain, &shell)?;
        }
        for key in &shell.wanted {
            let is_mined = chain.blocks.iter().flatten().any(|tx| tx.key == *key);
            let is_reported = shell.failed.contains(key) || shell.outbox.untold().iter().any(|one| one.key == *key && one.ended == Some(false));
            prop_assert!(is_mined || is_reported, "intent {key} neither came nor was reported: {:?}", shell.outbox.entry(key));
        }
        prop_assert!(shell.outbox.waiting().next().is_none(), "something waits for ever: {:?}", shell.all());
    }
}
