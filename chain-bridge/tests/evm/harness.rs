//! An EVM with the suite deployed, by the same plan that deploys it to a chain.

use alloy::sol_types::SolCall;
use chain_bridge::{
    chain::{Call, decode, revert},
    deploy::{self, DeployConfig, Deployment},
    fraud::calldata::{Proof, Step},
    registry::State,
};
use revm::{
    Context, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext, MainnetEvm,
    context::{BlockEnv, CfgEnv, Journal, TxEnv, result::ExecutionResult},
    database::{CacheDB, EmptyDB},
    primitives::{B256, Log, TxKind, U256, hardfork::SpecId},
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::{Address, NodeId},
    key::Account,
};

type Db = CacheDB<EmptyDB>;
type Machine = MainnetEvm<Context<BlockEnv, TxEnv, CfgEnv, Db, Journal<Db>, ()>>;

pub(crate) const CHAIN: u64 = 31_337;
const GAS: u64 = 30_000_000;

pub(crate) fn open(count: u128) -> Amount {
    Amount(count * WEI_PER_OPEN)
}

pub(crate) fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

pub(crate) fn address(address: Address) -> alloy::primitives::Address {
    alloy::primitives::Address::from(address.0)
}

/// What a transaction did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) gas: u64,
    pub(crate) output: Vec<u8>,
    pub(crate) logs: Vec<Log>,
}

/// The chain of a test: time and height are what the test sets.
pub(crate) struct Evm {
    machine: Machine,
    pub(crate) deployment: Deployment,
    pub(crate) block: u64,
    pub(crate) time: u64,
    /// The books that the events give.
    pub(crate) state: State,
    logs: u64,
}

pub(crate) fn config() -> DeployConfig {
    let at = |byte: u8| Address([byte; 20]);
    DeployConfig {
        w1_s: 600,
        w2_s: 300,
        epoch_min_s: 1,
        fallback_s: 60,
        poster_bond: open(2),
        min_data_bps: 1_000,
        unbonding_s: 14 * 86_400,
        slash_delay_s: 3 * 86_400,
        stake_min: open(10),
        poster_stake_min: open(20),
        indexer_stake_min: open(5),
        thaw_s: 7 * 86_400,
        honour_s: 14 * 86_400,
        index_window_s: 60,
        rent_delay_s: 86_400,
        treasury_delay_s: 86_400,
        rent_price: open(1),
        grace_blocks: 16,
        max_age_blocks: 256,
        challenge_bond: open(1),
        answer_s: 30,
        payout_answer_s: 20,
        case_bond: open(1),
        case_answer_s: 600,
        case_age_blocks: 256,
        block_s: 2,
        protocol: at(0x70),
        governor: account(60).address(),
    }
}

impl Evm {
    /// The suite, deployed, and accounts 1 to 9 with money.
    pub(crate) fn new() -> Self {
        let machine = Context::mainnet()
            .with_db(CacheDB::new(EmptyDB::default()))
            .modify_cfg_chained(|cfg| {
                cfg.set_spec_and_mainnet_gas_params(SpecId::PRAGUE);
                cfg.chain_id = CHAIN;
                cfg.disable_nonce_check = true;
            })
            .build_mainnet();
        let deployer = account(50).address();
        let deployment = deploy::plan(CHAIN, 0, deployer, 0, config());
        let mut evm = Self { machine, deployment, block: 1_000, time: 1_000_000, state: State::default(), logs: 0 };
        for byte in (1..10).chain([50, 60]) {
            evm.fund(account(byte).address(), open(10_000));
        }
        for (name, call) in deploy::calls(&evm.deployment) {
            evm.send(deployer, call).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        evm
    }

    pub(crate) fn fund(&mut self, to: Address, amount: Amount) {
        let db = &mut self.machine.ctx.journaled_state.database;
        let mut info = revm::DatabaseRef::basic_ref(db, address(to)).unwrap().unwrap_or_default();
        info.balance = U256::from(amount.0);
        db.insert_account_info(address(to), info);
    }

    pub(crate) fn balance(&self, of: Address) -> Amount {
        let info = revm::DatabaseRef::basic_ref(&self.machine.ctx.journaled_state.database, address(of)).unwrap();
        Amount(info.map_or(0, |info| info.balance.to()))
    }

    fn transaction(&mut self, from: Address, call: Call) -> TxEnv {
        let block = BlockEnv {
            number: U256::from(self.block),
            timestamp: U256::from(self.time),
            gas_limit: GAS,
            prevrandao: Some(B256::ZERO),
            ..BlockEnv::default()
        };
        self.machine.set_block(block);
        let nonce = revm::DatabaseRef::basic_ref(&self.machine.ctx.journaled_state.database, address(from)).unwrap();
        TxEnv {
            caller: address(from),
            gas_limit: 16_000_000,
            gas_price: 0,
            kind: call.to.map_or(TxKind::Create, |to| TxKind::Call(address(to))),
            value: U256::from(call.value.0),
            data: call.data.into(),
            nonce: nonce.map_or(0, |info| info.nonce),
            chain_id: Some(CHAIN),
            ..TxEnv::default()
        }
    }

    /// Carries a call out; the words of its refusal if it is refused.
    pub(crate) fn send(&mut self, from: Address, call: Call) -> Result<Done, String> {
        let transaction = self.transaction(from, call);
        let done = read(self.machine.transact_commit(transaction).unwrap())?;
        for log in &done.logs {
            self.logs += 1;
            let log = alloy::rpc::types::Log {
                inner: log.clone(),
                block_hash: Some(B256::from(U256::from(self.block))),
                block_number: Some(self.block),
                block_timestamp: Some(self.time),
                transaction_hash: Some(B256::ZERO),
                transaction_index: Some(0),
                log_index: Some(self.logs),
                removed: false,
            };
            if let Some(event) = decode::log(&self.deployment, &log, self.time).unwrap() {
                self.state.apply(&event).unwrap();
            }
        }
        Ok(done)
    }

    /// What a call would do; nothing changes.
    pub(crate) fn look(&mut self, from: Address, call: Call) -> Result<Done, String> {
        let transaction = self.transaction(from, call);
        read(self.machine.transact(transaction).unwrap().result)
    }

    pub(crate) fn call<C: SolCall>(&mut self, from: Address, to: Address, call: &C, value: Amount) -> Result<Done, String> {
        self.send(from, Call { to: Some(to), data: call.abi_encode(), value })
    }

    pub(crate) fn view<C: SolCall>(&mut self, to: Address, call: &C) -> Result<C::Return, String> {
        let done = self.look(account(9).address(), Call { to: Some(to), data: call.abi_encode(), value: Amount::ZERO })?;
        C::abi_decode_returns(&done.output).map_err(|error| error.to_string())
    }

    /// Registers a node with a stake.
    pub(crate) fn bond(&mut self, node: &Account, stake: Amount) {
        let id = NodeId([node.address().0[0]; 32]);
        let call = chain_bridge::bindings::StakeManager::stakeCall { nodeId: id.0.into(), incarnation: 1, payout: address(node.address()) };
        self.call(node.address(), self.deployment.stake, &call, stake).unwrap();
    }

    /// Commits to a proof and, in the next block, looks at what it would do; only the commitment stays.
    pub(crate) fn try_proof(&mut self, reporter: Address, proof: &Proof) -> Result<Done, String> {
        let verifier = proof.verifier.address(&self.deployment);
        let commit = chain_bridge::bindings::FraudVerifier::commitProofCall { hash: proof.hash(reporter).0.into() };
        match self.call(reporter, verifier, &commit, Amount::ZERO) {
            Ok(_) => {}
            // The same bytes were looked at before.
            Err(error) if error.starts_with("already committed") => {}
            Err(error) => panic!("{error}"),
        }
        self.block += 1;
        self.look(reporter, Call { to: Some(verifier), data: proof.call.clone(), value: Amount::ZERO })
    }
}

/// The chain as it stood, to go back to.
#[derive(Clone)]
pub(crate) struct Snapshot {
    db: Db,
    block: u64,
    time: u64,
    state: State,
}

impl Evm {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let db = self.machine.ctx.journaled_state.database.clone();
        Snapshot { db, block: self.block, time: self.time, state: self.state.clone() }
    }

    pub(crate) fn restore(&mut self, snapshot: &Snapshot) {
        let Snapshot { db, block, time, state } = snapshot.clone();
        self.machine.ctx.journaled_state.database = db;
        (self.block, self.time, self.state) = (block, time, state);
    }

    /// Asks, answers or settles a challenge.
    pub(crate) fn step(&mut self, from: Address, step: &Step) -> Result<Done, String> {
        let value = step.value(self.deployment.config.challenge_bond);
        self.send(from, Call { to: Some(self.deployment.challenge), data: step.call.clone(), value })
    }

    /// What a contract outside the suite stands at, once its code ran; code of any length.
    pub(crate) fn create(&mut self, code: Vec<u8>) -> Address {
        let from = account(9).address();
        self.machine.ctx.cfg.limit_contract_code_size = Some(usize::MAX);
        self.machine.ctx.cfg.limit_contract_initcode_size = Some(usize::MAX);
        let nonce = revm::DatabaseRef::basic_ref(&self.machine.ctx.journaled_state.database, address(from)).unwrap();
        let at = address(from).create(nonce.map_or(0, |info| info.nonce));
        self.send(from, Call { to: None, data: code, value: Amount::ZERO }).unwrap();
        Address(at.into_array())
    }
}

fn read(result: ExecutionResult) -> Result<Done, String> {
    match result {
        ExecutionResult::Success { gas, logs, output, .. } => {
            Ok(Done { gas: gas.tx_gas_used(), output: output.into_data().to_vec(), logs })
        }
        ExecutionResult::Revert { output, .. } => Err(revert::words(&output).reason),
        ExecutionResult::Halt { reason, .. } => Err(format!("halted: {reason:?}")),
    }
}
