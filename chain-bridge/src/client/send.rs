//! Sends calls for one account through its outbox and waits until they are in a block.

mod answer;
mod file;
mod resume;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex as StdMutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::rpc::types::Log;
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, time::Instant};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    key::Account,
    time::BlockRef,
};

use self::file::Kept;
use super::{
    approval::{Approval, Waiting},
    quote::{CALLDATA_MAX, quote},
};
use crate::{
    chain::{
        Call,
        error::ChainError,
        rpc::{Outcome, Rpc},
    },
    outbox::{Action, Answer, BUMPS_MAX, Config, Intent, Next, Outbox, Place},
};

/// Longest wait for inclusion: thirty blocks of a two-second chain.
pub const INCLUSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks for a receipt: a sixth of the shortest block time in use.
const POLL: Duration = Duration::from_millis(150);
/// Most copies of one call: every fee rise, and a nonce that other processes of the account take as often in between.
const COPIES_MAX: u8 = 2 * BUMPS_MAX;

/// A call that is in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its transaction.
    pub transaction: Hash32,
    /// Its block.
    pub block: BlockRef,
    /// Gas used on the L2.
    pub gas_used: u64,
    /// Wei per gas paid.
    pub gas_price: u128,
    /// Fee for L1 data, as the execution client tells, else as it was quoted; nothing if neither is known.
    pub l1_fee: Option<Amount>,
    /// Created contract.
    pub contract: Option<Address>,
    pub(crate) logs: Vec<Log>,
}

impl Sent {
    /// One without logs, for tests of what is done with it.
    #[doc(hidden)]
    pub const fn for_tests(transaction: Hash32, block: BlockRef, gas_used: u64, gas_price: u128) -> Self {
        Self { transaction, block, gas_used, gas_price, l1_fee: None, contract: None, logs: Vec::new() }
    }
}

/// What one kind of operation has cost so far; a row of the gas table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GasRow {
    /// How often it was done.
    pub count: u64,
    /// Least gas.
    pub least: u64,
    /// Most gas.
    pub most: u64,
    /// Gas in all.
    pub total: u64,
    /// Wei paid for L2 gas in all.
    pub paid: Amount,
    /// Wei paid for L1 data in all, as far as the execution client told.
    pub l1_fees: Amount,
}

impl GasRow {
    fn add(&mut self, outcome: &Outcome) {
        self.least = if self.count == 0 { outcome.gas_used } else { self.least.min(outcome.gas_used) };
        self.most = self.most.max(outcome.gas_used);
        self.count += 1;
        self.total = self.total.saturating_add(outcome.gas_used);
        self.paid = Amount(self.paid.0.saturating_add(outcome.gas_price.saturating_mul(u128::from(outcome.gas_used))));
        self.l1_fees = Amount(self.l1_fees.0.saturating_add(outcome.l1_fee.unwrap_or_default().0));
    }
}

/// One account's way to the chain.
#[derive(Debug)]
pub struct Sender {
    rpc: Rpc,
    account: Account,
    kept: Mutex<Kept>,
    gas: StdMutex<BTreeMap<String, GasRow>>,
    /// Asked before anything new is signed; nobody in a process that runs by itself.
    approval: OnceLock<Arc<dyn Approval>>,
    /// Why nothing may leave any more; see [`Sender::stop`].
    stopped: OnceLock<String>,
    /// Fees for L1 data as quoted, by key: not every execution client names them in its receipts.
    quoted: StdMutex<BTreeMap<String, Amount>>,
    /// Keys that this process has handed over.
    handed: StdMutex<BTreeSet<String>>,
    /// Keys whose end was given to the command of this process, which tells it. What is finished on the way for another command is not among them.
    told: StdMutex<BTreeSet<String>>,
    /// What the chain said to the last copy of a key that it did not take.
    refusals: StdMutex<BTreeMap<String, String>>,
    /// Whether something was asked about that was not sent: what comes after it in a dry run cannot be tried.
    is_rehearsed: AtomicBool,
    /// Distinguishes keys of calls that may be repeated: start of this process, then a count.
    started: u128,
    count: AtomicU64,
}

fn locked<T>(of: &StdMutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Sender {
    /// A sender that remembers in memory alone.
    pub fn new(rpc: Rpc, account: Account) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let outbox = Outbox::new(Config::default());
        let kept = Mutex::new(Kept { genesis: Hash32::ZERO, account: account.address(), outbox, path: None, lock: None });
        Self {
            rpc,
            account,
            kept,
            gas: StdMutex::new(BTreeMap::new()),
            approval: OnceLock::new(),
            stopped: OnceLock::new(),
            quoted: StdMutex::default(),
            handed: StdMutex::default(),
            told: StdMutex::default(),
            refusals: StdMutex::default(),
            is_rehearsed: AtomicBool::new(false),
            started,
            count: AtomicU64::new(0),
        }
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.account.address()
    }

    /// The account's key.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Has `approval` asked before anything new is signed from now on. What an earlier process left was approved then.
    pub fn ask_before_sending(&self, approval: Arc<dyn Approval>) {
        // The first one stays: who was asked so far is asked on.
        drop(self.approval.set(approval));
    }

    /// Whether this is a dry run, in which nothing is signed and all that would be is asked about.
    pub fn is_rehearsing(&self) -> bool {
        self.approval.get().is_some_and(|approval| approval.is_rehearsal())
    }

    fn tell(&self, key: &str) {
        locked(&self.told).insert(key.to_owned());
    }

    fn told(&self) -> BTreeSet<String> {
        locked(&self.told).clone()
    }

    /// Lets nothing leave from now on, not even a copy of what was sent before: the chain is not the one that was counted by.
    pub fn stop(&self, why: String) {
        // The first reason stands.
        let _ = self.stopped.set(why);
    }

    fn check_stopped(&self, what: &str) -> Result<(), ChainError> {
        self.stopped.get().map_or(Ok(()), |why| Err(ChainError::Stopped { what: what.to_owned(), why: why.clone() }))
    }

    /// Gas by operation.
    pub fn gas(&self) -> BTreeMap<String, GasRow> {
        locked(&self.gas).clone()
    }

    /// Sends a call and waits until it is in a block. With a key it happens once however often it is asked for; without, once per call, unless an
    /// earlier run of a command sent the same and was stopped before it told how that ended: then that one is told now.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn send(&self, what: &str, key: Option<&str>, call: Call) -> Result<Sent, ChainError> {
        let own;
        let key = match key {
            Some(key) => {
                self.take_up_key(key).await?;
                key
            }
            None => {
                if let Some(sent) = self.take_up_call(&call).await? {
                    return Ok(sent);
                }
                own = format!("{what}/{}/{}", self.started, self.count.fetch_add(1, Ordering::Relaxed));
                &own
            }
        };
        let hash = self.hand_over(what, key, call, None).await?;
        let sent = self.await_inclusion(what, key, hash).await?;
        self.tell(key);
        Ok(sent)
    }

    /// Sends calls, each once under its key, so that the chain takes them in this order: each is handed over behind the one before, and none waits for
    /// another's block. Together they wait for one block or few.
    ///
    /// # Errors
    /// [`ChainError`] of the first that fails; what was handed over before it is told of when it is asked for again.
    pub async fn send_all(&self, what: &str, calls: Vec<(String, Call)>) -> Result<Vec<Sent>, ChainError> {
        let mut handed = Vec::with_capacity(calls.len());
        for (key, call) in calls {
            self.take_up_key(&key).await?;
            let hash = self.hand_over(what, &key, call, None).await?;
            handed.push((key, hash));
        }
        let mut sent = Vec::with_capacity(handed.len());
        for (key, hash) in handed {
            sent.push(self.await_inclusion(what, &key, hash).await?);
            self.tell(&key);
        }
        Ok(sent)
    }

    /// Hands a call over and returns its transaction; `gas` is estimated if not given.
    ///
    /// # Errors
    /// [`ChainError`]; a call that would be refused is not sent.
    pub async fn hand_over(&self, what: &str, key: &str, call: Call, gas: Option<u64>) -> Result<Hash32, ChainError> {
        self.check_stopped(what)?;
        let mut kept = self.kept.lock().await;
        self.sweep(&mut kept).await?;
        if kept.outbox.place(key, &call)?.is_none() {
            self.write_down(what, key, &call, gas, &mut kept).await?;
        }
        self.hand_over_known(what, key, &call, &mut kept).await
    }

    /// The same of a call that is written down.
    async fn hand_over_known(&self, what: &str, key: &str, call: &Call, kept: &mut Kept) -> Result<Hash32, ChainError> {
        match kept.outbox.place(key, call)? {
            Some(Place::Done(hash)) => return Ok(hash),
            Some(_) => {}
            None => {
                let reason = "no copy of it was taken, and none can be".to_owned();
                return Err(ChainError::Reverted { what: what.to_owned(), reason, error: None });
            }
        }
        // What an earlier process noted may never have left: the same copy again does no harm.
        let is_under_way = |entry: &crate::outbox::Entry| entry.included.is_some() || locked(&self.handed).contains(key);
        if let Some(last) = kept.outbox.entry(key).filter(|entry| is_under_way(entry)).and_then(|entry| entry.copies().next()) {
            return Ok(last);
        }
        let handed = self.transmit(what, key, kept).await;
        self.tell_if_ended(key, kept)?;
        handed
    }

    /// Notes that whoever asked for a key is told by the error it is given, if the key has ended by it.
    fn tell_if_ended(&self, key: &str, kept: &mut Kept) -> Result<(), ChainError> {
        if kept.outbox.entry(key).is_some() {
            return Ok(());
        }
        kept.outbox.reported(key);
        kept.save()
    }

    /// Asks whether a new call may be signed, and writes it down before it is.
    async fn write_down(&self, what: &str, key: &str, call: &Call, gas: Option<u64>, kept: &mut Kept) -> Result<(), ChainError> {
        if call.to.is_some() && call.data.len() > CALLDATA_MAX {
            let (got, what) = (call.data.len(), what.to_owned());
            return Err(ChainError::Argument(format!(
                "{what} takes {got} bytes of calldata, one transaction carries {CALLDATA_MAX}: nothing was sent; split it"
            )));
        }
        let estimated = match gas {
            Some(gas) => Some((gas, gas)),
            None => match self.estimate(what, call).await {
                // What comes before it was not sent either.
                Err(ChainError::Reverted { .. }) if self.is_rehearsing() && self.is_rehearsed.load(Ordering::Relaxed) => None,
                other => Some(other?),
            },
        };
        let fees = self.rpc.fees().await?;
        if let Some(approval) = self.approval.get() {
            let quoted = quote(&self.rpc, &self.account, what, call, estimated, fees).await?;
            if let Err(error) = approval.approve(key, &quoted) {
                self.is_rehearsed.store(true, Ordering::Relaxed);
                return Err(error);
            }
            locked(&self.quoted).insert(key.to_owned(), quoted.l1_fee);
        }
        // What is refused up to here has written nothing. Another process may have sent since: its outbox is taken over before a nonce is asked for.
        if kept.lock.is_none() && kept.path.is_some() {
            self.open(kept).await?;
            let is_same = |untold: &crate::outbox::Untold| untold.call == *call && untold.key != key;
            if self.approval.get().is_some_and(|approval| !approval.is_again()) && kept.outbox.untold().iter().any(is_same) {
                return Err(ChainError::Overtaken { what: what.to_owned() });
            }
        }
        let nonce = self.rpc.nonce(self.address(), true).await?;
        let head = self.rpc.latest().await?.block.number;
        let gas = estimated.map_or(0, |(_, gas)| gas);
        let intent = Intent { what: what.to_owned(), origin: self.origin(), call: call.clone(), gas, fees, since: seconds_now() };
        kept.outbox.enqueue(key, intent, nonce, head)?;
        kept.save()
    }

    /// Gas as estimated, and a quarter above: storage that another transaction of the same block touches first costs differently.
    async fn estimate(&self, what: &str, call: &Call) -> Result<(u64, u64), ChainError> {
        match self.rpc.estimate(self.address(), call).await {
            Ok(gas) => Ok((gas, gas.saturating_add(gas / 4).saturating_add(10_000))),
            Err(error) => Err(self.explain(what, error).await),
        }
    }

    /// Hands a key's transaction over; one whose fee the chain finds too low is offered again for more, under the same nonce, and one whose nonce
    /// another process took before anything of ours left is given the next.
    async fn transmit(&self, what: &str, key: &str, kept: &mut Kept) -> Result<Hash32, ChainError> {
        for _ in 0..COPIES_MAX {
            self.check_stopped(what)?;
            let Some(entry) = kept.outbox.entry(key).cloned() else {
                return Err(ChainError::Argument(format!("{what}: key {key:?} is not in the outbox")));
            };
            // Noted before it leaves: a process that is killed in between finds the transaction by its hash, and asks for no second nonce.
            let hash = self.rpc.hash_of(&self.account, &entry);
            let head = self.rpc.latest().await?.block.number;
            let is_new = kept.outbox.sending(key, hash, head);
            kept.save()?;
            let error = match self.rpc.send(&self.account, &entry).await {
                Ok(hash) => {
                    locked(&self.handed).insert(key.to_owned());
                    locked(&self.refusals).remove(key);
                    return Ok(hash);
                }
                Err(error) => error,
            };
            locked(&self.refusals).insert(key.to_owned(), error.to_string());
            let answer = match answer::of(&error) {
                Answer::Underpriced(_) => Answer::Underpriced(self.rpc.fees().await?),
                other => other,
            };
            let next = kept.outbox.answered(key, hash, is_new, answer);
            if next == Next::Renew {
                let nonce = self.rpc.nonce(self.address(), true).await?;
                kept.outbox.renew(key, nonce, head);
            }
            kept.save()?;
            match next {
                Next::Send | Next::Renew => {}
                Next::Failed => return Err(self.explain(what, error).await),
                Next::Wait if answer == Answer::Unknown => {
                    return Err(match error {
                        ChainError::Rpc { message, .. } => ChainError::Unclear { what: what.to_owned(), transaction: hash, message },
                        other => other,
                    });
                }
                Next::Wait => {
                    let last = kept.outbox.entry(key).and_then(|entry| entry.copies().next());
                    return Ok(last.unwrap_or(hash));
                }
            }
        }
        Err(ChainError::Unclear {
            what: what.to_owned(),
            transaction: kept.outbox.entry(key).and_then(|entry| entry.copies().next()).unwrap_or_default(),
            message: locked(&self.refusals).get(key).cloned().unwrap_or_default(),
        })
    }

    /// Names the operation, and the balance where money is missing.
    async fn explain(&self, what: &str, error: ChainError) -> ChainError {
        match error {
            ChainError::Reverted { reason, error, .. } => ChainError::Reverted { what: what.to_owned(), reason, error },
            ChainError::Rpc { ref message, .. } if message.to_ascii_lowercase().contains("insufficient funds") => {
                // Without the balance the chain's own words say more than a balance of nothing.
                match self.rpc.balance(self.address()).await {
                    Ok(balance) => ChainError::NoFunds { what: what.to_owned(), account: self.address(), balance },
                    Err(_) => error,
                }
            }
            other => other,
        }
    }

    /// Waits until a handed-over key is in a block; raises its fee while it waits.
    ///
    /// # Errors
    /// [`ChainError::NotIncluded`] after [`INCLUSION_TIMEOUT`], [`ChainError::Reverted`] if the contract refused it.
    pub async fn await_inclusion(&self, what: &str, key: &str, first: Hash32) -> Result<Sent, ChainError> {
        self.await_until(what, key, first, Instant::now() + INCLUSION_TIMEOUT).await
    }

    async fn await_until(&self, what: &str, key: &str, first: Hash32, deadline: Instant) -> Result<Sent, ChainError> {
        let mut looked_at = None;
        loop {
            match self.look(what, key, first, &mut looked_at).await {
                Ok(Some(sent)) => return Ok(sent),
                Ok(None) => {}
                // An endpoint may be gone for a moment: the transaction is not.
                Err(ChainError::Down { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(ChainError::NotIncluded { what: what.to_owned(), transaction: first, seconds: INCLUSION_TIMEOUT.as_secs() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// One look for an inclusion; at each new head also what the outbox says is due.
    async fn look(&self, what: &str, key: &str, first: Hash32, looked_at: &mut Option<u64>) -> Result<Option<Sent>, ChainError> {
        // The nonce before the receipts: see `Outbox::due`.
        let nonce = self.rpc.nonce(self.address(), false).await?;
        let copies: Option<Vec<Hash32>> = self.kept.lock().await.outbox.entry(key).map(|entry| entry.copies().collect());
        for hash in copies.unwrap_or_else(|| vec![first]) {
            if let Some(outcome) = self.rpc.outcome(hash).await? {
                return self.conclude(what, key, hash, outcome).await.map(Some);
            }
        }
        let head = self.rpc.latest().await?.block.number;
        if looked_at.replace(head) != Some(head) {
            let mut kept = self.kept.lock().await;
            // It may have been included before a reorganisation.
            kept.outbox.seen(key, None);
            if let Err(error) = self.act(what, key, head, nonce, &mut kept).await {
                self.tell_if_ended(key, &mut kept)?;
                return Err(error);
            }
            // Another one with a lower nonce may be gone too, and this one waits for it.
            self.sweep(&mut kept).await?;
        }
        let kept = self.kept.lock().await;
        self.tell_waiting(what, key, nonce, &kept);
        Ok(None)
    }

    /// Says that a transaction is waited for.
    fn tell_waiting(&self, what: &str, key: &str, next_nonce: u64, kept: &Kept) {
        let (Some(approval), Some(entry)) = (self.approval.get(), kept.outbox.entry(key)) else { return };
        approval.waiting(&Waiting {
            what: what.to_owned(),
            transaction: entry.copies().next(),
            nonce: entry.nonce,
            next_nonce,
            since: entry.since,
            gas: entry.gas,
            fees: entry.fees,
            bumps: entry.bumps,
            refusal: locked(&self.refusals).get(key).cloned(),
        });
    }

    /// Carries out what the outbox says is due about a key.
    async fn act(&self, what: &str, key: &str, head: u64, nonce: u64, kept: &mut Kept) -> Result<(), ChainError> {
        match kept.outbox.due(key, head, nonce) {
            Some(Action::Send) => {}
            Some(Action::Renew) => {
                let nonce = self.rpc.nonce(self.address(), true).await?;
                kept.outbox.renew(key, nonce, head);
            }
            Some(Action::Done(_)) | None => return Ok(()),
        }
        match self.transmit(what, key, kept).await {
            // Whether it arrived, the next look finds out.
            Ok(_) | Err(ChainError::Unclear { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks after what was included: closes what is deep enough, sends again what a reorganisation took out. One that the chain refuses for good
    /// ends here, and is told of as such; it holds up no other.
    async fn sweep(&self, kept: &mut Kept) -> Result<(), ChainError> {
        if kept.outbox.is_idle() {
            return Ok(());
        }
        let head = self.rpc.latest().await?.block.number;
        let counted = self.rpc.nonce(self.address(), false).await?;
        self.look_for_refused(head, counted, kept).await?;
        let due = kept.outbox.to_look_for(head, counted);
        if due.is_empty() {
            return Ok(());
        }
        for key in due {
            // The nonce before the receipts: see `Outbox::due`.
            let nonce = self.rpc.nonce(self.address(), false).await?;
            let Some(entry) = kept.outbox.entry(&key) else { continue };
            let (what, copies) = (entry.what.clone(), entry.copies().collect::<Vec<_>>());
            let found = self.included(&copies).await?;
            kept.outbox.seen(&key, found.as_ref().map(|(hash, outcome)| (*hash, outcome.block)));
            if found.is_some_and(|(_, outcome)| !outcome.is_success) {
                // Sent again on another branch, whose contract refused it: not done, and free for another try.
                kept.outbox.finish(&key, false);
                continue;
            }
            match self.act(if what.is_empty() { &key } else { &what }, &key, head, nonce, kept).await {
                Err(error) if kept.outbox.entry(&key).is_none() => {
                    tracing::warn!(%error, key, "a transaction of before was refused for good")
                }
                other => other?,
            }
        }
        kept.save()
    }

    /// Looks for what contracts refused: a reorganisation may have had it carried out.
    async fn look_for_refused(&self, head: u64, counted: u64, kept: &mut Kept) -> Result<(), ChainError> {
        let refused = kept.outbox.refused_to_look_for(head, counted);
        if refused.is_empty() {
            return Ok(());
        }
        for copies in refused {
            let found = self.included(&copies).await?;
            let found = found.map(|(hash, outcome)| (hash, outcome.block, outcome.is_success));
            if let Some(revived) = kept.outbox.refused_seen(&copies, found, head, counted) {
                let transaction = found.map(|(hash, ..)| hash).unwrap_or_default();
                tracing::warn!(%transaction, ?revived, "a transaction that had failed was carried out after all: a reorganisation put it into another block");
            }
        }
        kept.save()
    }

    /// Where one of a key's copies is included.
    async fn included(&self, copies: &[Hash32]) -> Result<Option<(Hash32, Outcome)>, ChainError> {
        for hash in copies {
            if let Some(outcome) = self.rpc.outcome(*hash).await? {
                return Ok(Some((*hash, outcome)));
            }
        }
        Ok(None)
    }

    async fn conclude(&self, what: &str, key: &str, hash: Hash32, outcome: Outcome) -> Result<Sent, ChainError> {
        let mut kept = self.kept.lock().await;
        let known = kept.outbox.entry(key).cloned();
        kept.outbox.seen(key, Some((hash, outcome.block)));
        if !outcome.is_success {
            // Whoever called is told below.
            kept.outbox.finish(key, false);
            kept.outbox.reported(key);
        }
        kept.save()?;
        drop(kept);
        // Counted at the first sight of its inclusion.
        if known.as_ref().is_some_and(|entry| entry.included.is_none()) {
            locked(&self.gas).entry(what.to_owned()).or_default().add(&outcome);
        }
        let sent = Sent {
            transaction: hash,
            block: outcome.block,
            gas_used: outcome.gas_used,
            gas_price: outcome.gas_price,
            l1_fee: outcome.l1_fee.or_else(|| locked(&self.quoted).remove(key)),
            contract: outcome.contract,
            logs: outcome.logs,
        };
        if let Some(approval) = self.approval.get() {
            approval.included(key, &sent, outcome.is_success);
        }
        if !outcome.is_success {
            return Err(self.why_reverted(what, hash, known.map(|entry| entry.call)).await);
        }
        Ok(sent)
    }

    /// A receipt does not say why: the same call on the state after it usually does.
    async fn why_reverted(&self, what: &str, hash: Hash32, call: Option<Call>) -> ChainError {
        if let Some(call) = call
            && let Err(error @ ChainError::Reverted { .. }) = self.rpc.estimate(self.address(), &call).await
        {
            return self.explain(what, error).await;
        }
        ChainError::Reverted { what: what.to_owned(), reason: format!("transaction {hash} was included and failed"), error: None }
    }
}
