//! Typed operations of the contract suite for nodes and commands.
//!
//! One client stands for one endpoint, one deployment and at most one account. Every send waits until it is in a block
//! ([`send::INCLUSION_TIMEOUT`]) and returns what it cost; a refusal is the contract's custom error in words. Operations that must happen once
//! (node roots, payouts, commitments, index roots, proofs) carry a key of their own and may be asked for again.
//! Dropping a send half-way leaves its transaction in the outbox: asking again for a keyed one finds it.

pub mod approval;
pub mod assets;
pub mod case;
pub mod checks;
pub mod credit;
pub mod erasures;
pub mod escrow;
pub mod fraud;
pub mod kept;
pub mod pools;
pub mod quote;
pub mod rent;
pub mod send;
pub mod settle;
pub mod stake;
pub mod treasury;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use alloy::{
    rpc::types::Log,
    sol_types::{SolCall, SolEvent},
};
use send::{GasRow, Sender, Sent};
use types::{
    amount::Amount,
    id::{Address, Hash32},
    key::{Account, Domains},
    time::BlockRef,
};

use crate::{
    chain::{Call, Certainty, Chain, Header, Heads, TxRef, decode, error::ChainError, rpc::Rpc},
    convert,
    deploy::{self, Deployment, verify_deployment},
    outbox::Untold,
    registry::Logged,
};

/// Between two looks at the chain's time.
const TIME_POLL: Duration = Duration::from_millis(250);

/// A client of one deployment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChainClient {
    rpc: Rpc,
    deployment: Arc<Deployment>,
    sender: Option<Arc<Sender>>,
    /// Where contracts and balances are read.
    head: Certainty,
}

impl ChainClient {
    /// Connects and checks that the deployment is there, and is what this program's contracts give.
    ///
    /// # Errors
    /// [`ChainError::Down`], [`ChainError::WrongChain`], [`ChainError::NoCode`], [`ChainError::OtherCode`].
    pub async fn connect(url: &str, deployment: Deployment, account: Option<Account>) -> Result<Self, ChainError> {
        let rpc = Rpc::connect(url).await?;
        verify_deployment(&rpc, &deployment).await?;
        let sender = account.map(|account| Arc::new(Sender::new(rpc.clone(), account)));
        Ok(Self { rpc, deployment: Arc::new(deployment), sender, head: Certainty::Pending })
    }

    /// A client that only reads, of a deployment whose code nobody has compared: for whoever compares it apart and says what differs, as an operator's
    /// look at what is wrong does.
    pub fn unverified(rpc: Rpc, deployment: Deployment) -> Self {
        Self { rpc, deployment: Arc::new(deployment), sender: None, head: Certainty::Pending }
    }

    /// The same client, reading contracts and balances by the latest, the safe or the finalized block. Sending is the same. Where a contract did not
    /// stand yet at that block, reading it is [`ChainError::NoCode`].
    #[must_use]
    pub fn at(&self, head: Certainty) -> Self {
        Self { head, ..self.clone() }
    }

    /// Remembers transactions in a file from now on and finishes those that an earlier process left there. Returns their keys.
    ///
    /// # Errors
    /// [`ChainError::OutboxFile`], [`ChainError::NoAccount`], or what finishing them meets.
    pub async fn keep_outbox(&self, path: &Path) -> Result<Vec<String>, ChainError> {
        let sender = self.sender("keeping an outbox")?;
        sender.keep_in(path).await?;
        sender.resume().await
    }

    /// Has `approval` asked before anything new is signed from now on.
    ///
    /// # Errors
    /// [`ChainError::NoAccount`].
    pub fn ask_before_sending(&self, approval: Arc<dyn approval::Approval>) -> Result<(), ChainError> {
        self.sender("asking before sending")?.ask_before_sending(approval);
        Ok(())
    }

    /// Lets nothing be sent from now on, by this client and its clones.
    pub fn stop_sending(&self, why: String) {
        if let Some(sender) = &self.sender {
            sender.stop(why);
        }
    }

    /// Transactions of whose end nobody was told: commands that were stopped wanted them.
    pub async fn untold(&self) -> Vec<Untold> {
        match &self.sender {
            Some(sender) => sender.untold().await,
            None => Vec::new(),
        }
    }

    /// What an earlier run of this very command sent as one of `whats` and never told of: see [`Sender::take_up`].
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn take_up(&self, whats: &[&str]) -> Result<Option<Sent>, ChainError> {
        self.sender("taking up what was sent")?.take_up(whats).await
    }

    /// Notes that the command has told how its transactions ended: see [`Sender::reported`].
    ///
    /// # Errors
    /// [`ChainError::OutboxFile`].
    pub async fn reported(&self) -> Result<Vec<Untold>, ChainError> {
        match &self.sender {
            Some(sender) => sender.reported().await,
            None => Ok(Vec::new()),
        }
    }

    /// What came of a send; nothing in a dry run, in which what would follow is asked about all the same.
    ///
    /// # Errors
    /// The send's.
    pub fn unless_rehearsed<T>(&self, sent: Result<T, ChainError>) -> Result<Option<T>, ChainError> {
        match sent {
            Err(ChainError::NotSent { .. }) if self.sender.as_ref().is_some_and(|sender| sender.is_rehearsing()) => Ok(None),
            other => other.map(Some),
        }
    }

    /// The deployment.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// What signatures of this deployment name.
    pub fn domains(&self) -> Domains {
        self.deployment.domains()
    }

    /// The endpoint.
    pub const fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// The account's address, if the client has one.
    pub fn address(&self) -> Option<Address> {
        self.sender.as_ref().map(|sender| sender.address())
    }

    /// Gas by operation since this client was made.
    pub fn gas(&self) -> BTreeMap<String, GasRow> {
        self.sender.as_ref().map(|sender| sender.gas()).unwrap_or_default()
    }

    /// Latest, safe and finalized block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn heads(&self) -> Result<Heads, ChainError> {
        self.rpc.heads().await
    }

    /// The latest block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn latest(&self) -> Result<Header, ChainError> {
        self.rpc.latest().await
    }

    /// What a unit of gas costs now, with the tip that senders give.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn gas_price(&self) -> Result<Amount, ChainError> {
        let fees = self.rpc.fees().await?;
        // Twice the base fee and the tip is what is offered at most.
        Ok(Amount(fees.most.saturating_sub(fees.tip) / 2 + fees.tip))
    }

    /// The canonical block of a number; nothing past the head.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn block(&self, number: u64) -> Result<Option<BlockRef>, ChainError> {
        Ok(self.rpc.header(number).await?.map(|header| header.block))
    }

    /// Seconds since 1970 of a block; nothing if there is none of this number.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn time_of(&self, number: u64) -> Result<Option<u64>, ChainError> {
        Ok(self.rpc.header(number).await?.map(|header| header.timestamp))
    }

    /// Waits until the chain's time is `timestamp` (seconds since 1970) or `patience` has passed.
    ///
    /// # Errors
    /// [`ChainError::TooLate`].
    pub async fn wait_for_time(&self, timestamp: u64, patience: Duration) -> Result<Header, ChainError> {
        self.wait(format!("time {timestamp}"), patience, |header| header.timestamp >= timestamp).await
    }

    /// Waits until block `number` is there or `patience` has passed.
    ///
    /// # Errors
    /// [`ChainError::TooLate`].
    pub async fn wait_for_block(&self, number: u64, patience: Duration) -> Result<Header, ChainError> {
        self.wait(format!("block {number}"), patience, |header| header.block.number >= number).await
    }

    async fn wait(&self, what: String, patience: Duration, is_there: impl Fn(&Header) -> bool) -> Result<Header, ChainError> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let header = self.rpc.latest().await?;
            if is_there(&header) {
                return Ok(header);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(ChainError::TooLate { what, seconds: patience.as_secs() });
            }
            tokio::time::sleep(TIME_POLL).await;
        }
    }

    /// Native balance of an account.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn balance(&self, account: Address) -> Result<Amount, ChainError> {
        self.rpc.balance_at(account, self.head.tag()).await
    }

    /// Pays `amount` to `to`.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn transfer(&self, to: Address, amount: Amount) -> Result<Sent, ChainError> {
        self.sender("transfer")?.send("transfer", None, Call { to: Some(to), data: vec![], value: amount }).await
    }

    /// The client's account: whoever needs to sign documents for it.
    ///
    /// # Errors
    /// [`ChainError::NoAccount`].
    pub fn account(&self, what: &'static str) -> Result<&Account, ChainError> {
        Ok(self.sender(what)?.account())
    }

    pub(crate) fn sender(&self, what: &'static str) -> Result<&Sender, ChainError> {
        self.sender.as_deref().ok_or(ChainError::NoAccount { what })
    }

    /// Reads from a contract. The sender is the deployer: reads do not depend on it, and with an L1 fee set it must be funded.
    pub(crate) async fn read<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, ChainError> {
        let data = self.rpc.call_at(self.deployment.deployer, to, &call.abi_encode(), self.head.tag()).await?;
        if data.is_empty() && self.head != Certainty::Pending {
            let contract =
                self.deployment.contracts().into_iter().find(|(_, address)| *address == to).map_or("a contract", |(name, _)| name);
            return Err(ChainError::NoCode { contract, address: to });
        }
        C::abi_decode_returns(&data).map_err(|error| ChainError::Unreadable { what: C::SIGNATURE, why: error.to_string() })
    }

    /// Calls of one kind in one round trip; their results in order. The caller bounds their number.
    pub(crate) async fn read_all<C: SolCall>(&self, to: Address, calls: &[C]) -> Result<Vec<C::Return>, ChainError> {
        let data: Vec<_> = calls.iter().map(SolCall::abi_encode).collect();
        let answers = self.rpc.calls_at(self.deployment.deployer, to, &data, self.head.tag()).await?;
        let decoded = answers.iter().map(|data| C::abi_decode_returns(data));
        decoded.collect::<Result<_, _>>().map_err(|error| ChainError::Unreadable { what: C::SIGNATURE, why: error.to_string() })
    }

    pub(crate) async fn write<C: SolCall>(
        &self,
        what: &'static str,
        key: Option<String>,
        to: Address,
        call: &C,
        value: Amount,
    ) -> Result<Sent, ChainError> {
        if value > Amount::ZERO {
            deploy::verify_contract(&self.rpc, &self.deployment, to).await?;
        }
        let call = Call { to: Some(to), data: call.abi_encode(), value };
        self.sender(what)?.send(what, key.as_deref(), call).await
    }
}

/// The event of a kind that a transaction logged.
pub(crate) fn logged<E: SolEvent>(sent: &Sent, from: Address) -> Result<E, ChainError> {
    let of_contract = sent.logs.iter().filter(|log| convert::account(log.address()) == from);
    let found = of_contract.filter_map(|log| E::decode_raw_log(log.topics(), log.data().data.as_ref()).ok()).next();
    found
        .ok_or_else(|| ChainError::Unreadable { what: E::SIGNATURE, why: format!("transaction {} logged no such event", sent.transaction) })
}

impl Chain for ChainClient {
    type Error = ChainError;

    async fn submit(&self, key: &str, call: Call) -> Result<TxRef, ChainError> {
        self.sender("submit")?.hand_over(key, key, call, None).await.map(TxRef)
    }

    async fn head(&self) -> Result<Heads, ChainError> {
        self.rpc.heads().await
    }

    async fn header(&self, number: u64) -> Result<Option<Header>, ChainError> {
        self.rpc.header(number).await
    }

    async fn events(&self, from: u64, to: u64) -> Result<Vec<Logged>, ChainError> {
        let contracts: Vec<Address> = self.deployment.contracts().into_iter().map(|(_, address)| address).collect();
        self.decoded(&self.rpc.logs(&contracts, from, to).await?).await
    }

    async fn events_of(&self, blocks: &[BlockRef]) -> Result<Vec<Logged>, ChainError> {
        let contracts: Vec<Address> = self.deployment.contracts().into_iter().map(|(_, address)| address).collect();
        let mut events = Vec::new();
        for block in blocks {
            events.extend(self.decoded(&self.rpc.logs_of(&contracts, block.hash).await?).await?);
        }
        Ok(events)
    }
}

impl ChainClient {
    /// The suite's events behind some logs, in their order.
    async fn decoded(&self, logs: &[Log]) -> Result<Vec<Logged>, ChainError> {
        let mut events = Vec::new();
        let mut last: Option<(u64, u64)> = None;
        for log in logs {
            // Clients of some years say a log's time; of others its header does.
            let time = match (log.block_timestamp, log.block_number, last) {
                (Some(time), ..) => time,
                (None, Some(number), Some((known, time))) if known == number => time,
                (None, Some(number), _) => {
                    let header = self.rpc.header(number).await?;
                    header.ok_or_else(|| ChainError::Unreadable { what: "a log", why: format!("its block {number} is gone") })?.timestamp
                }
                (None, None, _) => 0,
            };
            last = log.block_number.map(|number| (number, time));
            events.extend(decode::log(&self.deployment, log, time)?);
        }
        Ok(events)
    }
}

/// A key of an operation that happens once.
pub(crate) fn key(what: &str, parts: &[Hash32]) -> Option<String> {
    Some(parts.iter().fold(what.to_owned(), |key, part| format!("{key}/{part}")))
}
