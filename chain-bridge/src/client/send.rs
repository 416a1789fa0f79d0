//! Sends calls for one account through its outbox and waits until they are in a block.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex as StdMutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
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

use super::quote::{Approval, CALLDATA_MAX, quote};
use crate::{
    chain::{
        Call,
        error::ChainError,
        rpc::{Outcome, Rpc},
    },
    deploy::replace,
    outbox::{Action, Config, Outbox, Place},
};

/// Longest wait for inclusion: thirty blocks of a two-second chain.
pub const INCLUSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks for a receipt: a sixth of the shortest block time in use.
const POLL: Duration = Duration::from_millis(150);
/// Longest wait for another process that holds the outbox file: two inclusions.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest outbox file read: its bounds times the largest calldata in use, with room.
const OUTBOX_FILE_MAX: u64 = 64 << 20;

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

/// The outbox in its file, bound to the chain and account that its nonces mean something for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Hash of block 0: a development chain started anew has another one.
    genesis: Hash32,
    account: Address,
    outbox: Outbox,
    #[serde(skip)]
    path: Option<PathBuf>,
    /// Held while the file is this process's.
    #[serde(skip)]
    lock: Option<fs::File>,
}

impl Kept {
    fn save(&self) -> Result<(), ChainError> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec(self).expect("plain data serialises");
        replace(path, &text).map_err(|error| ChainError::OutboxFile { path: path.display().to_string(), why: error.to_string() })
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
    /// Distinguishes keys of calls that may be repeated: start of this process, then a count.
    started: u128,
    count: AtomicU64,
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

    /// Remembers in `path` from now on, taking over what it holds. Where nothing is kept yet, nothing is written before something is to be sent.
    ///
    /// # Errors
    /// [`ChainError::OutboxFile`].
    pub async fn keep_in(&self, path: &Path) -> Result<(), ChainError> {
        let genesis = self.rpc.header(0).await?.map_or(Hash32::ZERO, |header| header.block.hash);
        let mut kept = self.kept.lock().await;
        (kept.genesis, kept.path) = (genesis, Some(path.to_owned()));
        match fs::metadata(path) {
            Ok(_) => self.open(&mut kept).await,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ChainError::OutboxFile { path: path.display().to_string(), why: error.to_string() }),
        }
    }

    /// Makes the outbox file this process's until it ends, and takes over what it holds; waits for another process that has it.
    async fn open(&self, kept: &mut Kept) -> Result<(), ChainError> {
        let Some(path) = kept.path.clone().filter(|_| kept.lock.is_none()) else { return Ok(()) };
        let failed = |why: String| ChainError::OutboxFile { path: path.display().to_string(), why };
        let lock = fs::File::create(path.with_extension("lock")).map_err(|error| failed(error.to_string()))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        while let Err(error) = lock.try_lock() {
            if Instant::now() >= deadline {
                return Err(failed(format!("another process has held it for {} s ({error}): wait for it to end", LOCK_TIMEOUT.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
        match fs::metadata(&path) {
            Ok(found) if found.len() > OUTBOX_FILE_MAX => {
                return Err(failed(format!("{} bytes are more than an outbox takes", found.len())));
            }
            Ok(_) => {
                let text = fs::read(&path).map_err(|error| failed(error.to_string()))?;
                let found: Kept = serde_json::from_slice(&text).map_err(|error| failed(format!("not an outbox: {error}")))?;
                let genesis = kept.genesis;
                if (found.genesis, found.account) != (genesis, self.address()) {
                    let why = format!(
                        "it is of account {} on the chain with genesis {}, this is {} on {genesis}",
                        found.account,
                        found.genesis,
                        self.address()
                    );
                    return Err(failed(format!("{why}: move the file away")));
                }
                kept.outbox = found.outbox;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        kept.lock = Some(lock);
        Ok(())
    }

    /// Finishes what an earlier process left: sends again under the same nonces and waits. Returns the finished keys.
    ///
    /// # Errors
    /// [`ChainError`] of the first that fails; the others stay.
    pub async fn resume(&self) -> Result<Vec<String>, ChainError> {
        let waiting: Vec<(String, Call)> =
            self.kept.lock().await.outbox.waiting().map(|(key, entry)| (key.to_owned(), entry.call.clone())).collect();
        let mut done = Vec::new();
        for (key, call) in waiting {
            self.send(&key, Some(&key), call).await?;
            done.push(key);
        }
        Ok(done)
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
        self.gas.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a call and waits until it is in a block. With a key it happens once however often it is asked for; without, once per call.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn send(&self, what: &str, key: Option<&str>, call: Call) -> Result<Sent, ChainError> {
        let own;
        let key = match key {
            Some(key) => key,
            None => {
                own = format!("{what}/{}/{}", self.started, self.count.fetch_add(1, Ordering::Relaxed));
                &own
            }
        };
        let hash = self.hand_over(what, key, call, None).await?;
        self.await_inclusion(what, key, hash).await
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
            if call.to.is_some() && call.data.len() > CALLDATA_MAX {
                let (got, what) = (call.data.len(), what.to_owned());
                return Err(ChainError::Argument(format!(
                    "{what} takes {got} bytes of calldata, one transaction carries {CALLDATA_MAX}: nothing was sent; split it"
                )));
            }
            let (estimate, gas) = match gas {
                Some(gas) => (gas, gas),
                None => self.estimate(what, &call).await?,
            };
            let fees = self.rpc.fees().await?;
            if let Some(approval) = self.approval.get() {
                let quoted = quote(&self.rpc, &self.account, what, &call, (estimate, gas), fees).await?;
                approval.approve(key, &quoted)?;
                self.quoted.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), quoted.l1_fee);
            }
            // What is refused up to here has written nothing. Another process may have sent since: its outbox is taken over before a nonce is asked for.
            self.open(&mut kept).await?;
            let nonce = self.rpc.nonce(self.address(), true).await?;
            let head = self.rpc.latest().await?.block.number;
            kept.outbox.enqueue(key, call.clone(), gas, fees, nonce, head)?;
            kept.save()?;
        }
        if let Some(Place::Done(hash)) = kept.outbox.place(key, &call)? {
            return Ok(hash);
        }
        if let Some(last) = kept.outbox.entry(key).and_then(|entry| entry.sent.last()) {
            return Ok(*last);
        }
        self.transmit(what, key, &mut kept).await
    }

    /// Gas as estimated, and a quarter above: storage that another transaction of the same block touches first costs differently.
    async fn estimate(&self, what: &str, call: &Call) -> Result<(u64, u64), ChainError> {
        match self.rpc.estimate(self.address(), call).await {
            Ok(gas) => Ok((gas, gas.saturating_add(gas / 4).saturating_add(10_000))),
            Err(error) => Err(self.explain(what, error).await),
        }
    }

    /// Hands a key's transaction over; one whose fee the chain finds too low is offered again for more, under the same nonce.
    async fn transmit(&self, what: &str, key: &str, kept: &mut Kept) -> Result<Hash32, ChainError> {
        loop {
            self.check_stopped(what)?;
            let Some(entry) = kept.outbox.entry(key).cloned() else {
                return Err(ChainError::Argument(format!("{what}: key {key:?} is not in the outbox")));
            };
            // Noted before it leaves: a process that is killed in between finds the transaction by its hash, and asks for no second nonce.
            let hash = self.rpc.hash_of(&self.account, &entry);
            let is_new = !entry.sent.contains(&hash);
            let head = self.rpc.latest().await?.block.number;
            kept.outbox.sent(key, hash, head);
            kept.save()?;
            let error = match self.rpc.send(&self.account, &entry).await {
                Ok(hash) => return Ok(hash),
                // It may have arrived: the note stays, and asking again sends the same nonce.
                Err(error @ ChainError::Down { .. }) => return Err(error),
                Err(error) => error,
            };
            if is_new {
                kept.outbox.not_taken(key, hash);
            }
            if is_underpriced(&error) && kept.outbox.outbid(key, self.rpc.fees().await?) {
                kept.save()?;
                continue;
            }
            kept.outbox.refuse(key);
            kept.save()?;
            return Err(self.explain(what, error).await);
        }
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
        let deadline = Instant::now() + INCLUSION_TIMEOUT;
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
        let sent = self.kept.lock().await.outbox.entry(key).map(|entry| entry.sent.clone());
        for hash in sent.unwrap_or_else(|| vec![first]).into_iter().rev() {
            if let Some(outcome) = self.rpc.outcome(hash).await? {
                return self.conclude(what, key, hash, outcome).await.map(Some);
            }
        }
        let head = self.rpc.latest().await?.block.number;
        if looked_at.replace(head) != Some(head) {
            let mut kept = self.kept.lock().await;
            // It may have been included before a reorganisation.
            kept.outbox.seen(key, None);
            if kept.outbox.due(key, head, nonce) == Some(Action::Send) {
                self.resend(what, key, &mut kept).await?;
            }
            // Another one with a lower nonce may be gone too, and this one waits for it.
            self.sweep(&mut kept).await?;
        }
        Ok(None)
    }

    async fn resend(&self, what: &str, key: &str, kept: &mut Kept) -> Result<(), ChainError> {
        match self.transmit(what, key, kept).await {
            // "nonce too low" and the like: an earlier copy was included in between, the next look finds it.
            Ok(_) | Err(ChainError::Rpc { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks after what was included: closes what is deep enough, sends again what a reorganisation took out.
    async fn sweep(&self, kept: &mut Kept) -> Result<(), ChainError> {
        if kept.outbox.waiting().next().is_none() {
            return Ok(());
        }
        let head = self.rpc.latest().await?.block.number;
        let due = kept.outbox.to_look_for(head);
        if due.is_empty() {
            return Ok(());
        }
        for key in due {
            // The nonce before the receipts: see `Outbox::due`.
            let nonce = self.rpc.nonce(self.address(), false).await?;
            let found = self.included(kept.outbox.entry(&key).map_or(&[][..], |entry| &entry.sent)).await?;
            kept.outbox.seen(&key, found.as_ref().map(|(hash, outcome)| (*hash, outcome.block)));
            if found.is_some_and(|(_, outcome)| !outcome.is_success) {
                // Sent again on another branch, whose contract refused it: not done, and free for another try.
                kept.outbox.finish(&key, false);
                continue;
            }
            if kept.outbox.due(&key, head, nonce) == Some(Action::Send) {
                self.resend(&key, &key, kept).await?;
            }
        }
        kept.save()
    }

    /// Where one of a key's copies is included.
    async fn included(&self, sent: &[Hash32]) -> Result<Option<(Hash32, Outcome)>, ChainError> {
        for hash in sent.iter().rev() {
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
            kept.outbox.finish(key, false);
        }
        kept.save()?;
        drop(kept);
        // Counted at the first sight of its inclusion.
        if known.as_ref().is_some_and(|entry| entry.included.is_none()) {
            self.gas.lock().unwrap_or_else(PoisonError::into_inner).entry(what.to_owned()).or_default().add(&outcome);
        }
        let sent = Sent {
            transaction: hash,
            block: outcome.block,
            gas_used: outcome.gas_used,
            gas_price: outcome.gas_price,
            l1_fee: outcome.l1_fee.or_else(|| self.quoted.lock().unwrap_or_else(PoisonError::into_inner).remove(key)),
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

/// Whether a chain refused a transaction for its fee alone, in the words of the execution clients in use.
fn is_underpriced(error: &ChainError) -> bool {
    let ChainError::Rpc { message, .. } = error else { return false };
    let message = message.to_ascii_lowercase();
    ["underpriced", "less than block base fee", "fee too low", "fee cap less than block"].iter().any(|words| message.contains(words))
}
