//! Commands that move money, killed at each of their steps and run again: what they were asked for happens once, and is told.
//!
//! The endpoint in front of the chain stops at a known request, so it is known what the killed process had done: nothing, written its intent down,
//! handed its transaction over, or seen it in a block without having printed.

use std::path::PathBuf;

use chain_bridge::{client::ChainClient, devnet::Devnet};
use harness::{
    Outcome, Tributary, chain,
    endpoint::{Endpoint, Stop},
};
use serde_json::Value;
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Address,
};

/// Where a process is killed, and whether its transaction is then on the chain or written down.
const STEPS: [(&str, Stop, bool); 4] = [
    ("before it was written down", Stop::Before("eth_estimateGas"), false),
    ("before it was handed over", Stop::Before("eth_sendRawTransaction"), true),
    ("when the chain had it", Stop::After("eth_sendRawTransaction"), true),
    ("before it was printed", Stop::BeforeOnceIncluded("eth_call"), true),
];

/// A chain, and a way to run the binary on it.
struct World {
    devnet: Devnet,
    tributary: Tributary,
    outer: tempfile::TempDir,
    reader: ChainClient,
    /// The faucet pays one after another.
    faucet: tokio::sync::Mutex<()>,
}

/// A folder whose account has money.
struct Person {
    folder: PathBuf,
    account: Address,
}

impl World {
    async fn new() -> Self {
        let outer = tempfile::tempdir().expect("a temporary folder");
        let devnet = chain::devnet().await;
        let registry = outer.path().join("registry.json");
        devnet.deployment().write(&registry).expect("registry.json is written");
        let tributary = Tributary::find().on(&registry, devnet.url());
        let reader = ChainClient::connect(devnet.url(), devnet.deployment().clone(), None).await.expect("the chain answers");
        Self { devnet, tributary, outer, reader, faucet: tokio::sync::Mutex::default() }
    }

    async fn person(&self, name: &str) -> Person {
        let folder = self.outer.path().join(name);
        let made = self.tributary.run(&folder, &["init", "--port", "0"]).await;
        let account = made["account"].as_str().and_then(|text| text.parse().ok()).expect("an account");
        let _alone = self.faucet.lock().await;
        self.devnet.fund(&[(account, Amount(100 * WEI_PER_OPEN))]).await.expect("the faucet pays");
        Person { folder, account }
    }

    async fn run(&self, person: &Person, arguments: &[&str]) -> Value {
        self.tributary.run(&person.folder, arguments).await
    }

    /// Runs a command and kills it at `stop`.
    async fn kill(&self, person: &Person, arguments: &[&str], stop: Stop) {
        let endpoint = Endpoint::stopping(self.devnet.url(), stop).await;
        let through = self.tributary.on(&self.outer.path().join("registry.json"), endpoint.url());
        let mut running = through.command(&person.folder, arguments).spawn().expect("the binary starts");
        tokio::select! {
            () = endpoint.stopped() => {}
            ended = running.wait() => panic!("{arguments:?} ended ({ended:?}) before {stop:?}"),
            () = tokio::time::sleep(harness::process::COMMAND_WAIT) => panic!("{arguments:?} never came to {stop:?}"),
        }
        running.kill().await.expect("SIGKILL");
    }

    async fn nonce(&self, person: &Person) -> u64 {
        self.reader.rpc().nonce(person.account, true).await.expect("the chain answers")
    }

    async fn deposit(&self, person: &Person) -> u128 {
        self.reader.escrow_of(person.account).await.expect("the chain answers").balance.0
    }
}

fn open(amount: u128) -> u128 {
    amount * WEI_PER_OPEN
}

/// The same command, whose output nobody can take.
fn to_a_full_disk(plain: &tokio::process::Command) -> tokio::process::Command {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" >/dev/full"]).arg(plain.as_std().get_program()).args(plain.as_std().get_args());
    for (name, value) in plain.as_std().get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(std::process::Stdio::null()).kill_on_drop(true);
    shell
}

/// Whether each transaction of a command's document was an earlier run's.
fn resumed(document: &Value) -> Vec<bool> {
    let rows = document["transactions"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| row["is_resumed"].as_bool().expect("a fact")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_killed_at_any_step_happens_once_and_the_next_one_without_friction() {
    let world = World::new().await;
    let deposit = &["wallet", "deposit", "2 OPEN"][..];
    let each = STEPS.iter().enumerate().map(|(number, (when, stop, is_resumed))| {
        let world = &world;
        async move {
            let person = world.person(&format!("depositor-{number}")).await;
            world.kill(&person, deposit, *stop).await;
            let again = world.run(&person, deposit).await;
            assert_eq!((world.deposit(&person).await, world.nonce(&person).await), (open(2), 1), "killed {when}: {again}");
            assert_eq!(resumed(&again), [*is_resumed], "killed {when}: {again}");
            assert_eq!(again["transaction"]["transaction"], again["transactions"][0]["transaction"], "killed {when}");
            // It was told: the same again is another deposit.
            let next = world.run(&person, deposit).await;
            assert_eq!((world.deposit(&person).await, resumed(&next)), (open(4), vec![false]), "killed {when}: {next}");
        }
    });
    futures::future::join_all(each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_several_steps_and_such_that_look_at_the_chain_first_go_on_where_they_were() {
    let world = World::new().await;
    // Registers the node, then takes on roles: killed in the first or the second.
    let stakes = STEPS.iter().enumerate().map(|(number, (when, stop, _))| {
        let world = &world;
        async move {
            let person = world.person(&format!("staker-{number}")).await;
            let add = &["stake", "add", "30 OPEN"][..];
            world.kill(&person, add, *stop).await;
            let again = world.run(&person, add).await;
            assert_eq!(
                (again["active_wei"].as_str(), world.nonce(&person).await),
                (Some(open(30).to_string().as_str()), 2),
                "killed {when}: {again}"
            );
            assert_eq!(again["roles"], serde_json::json!(["node", "poster", "indexer"]), "killed {when}: {again}");
            // What follows would be refused by a look at the chain that the killed run had changed.
            let unbond = &["stake", "unbond", "20 OPEN"][..];
            world.kill(&person, unbond, *stop).await;
            let again = world.run(&person, unbond).await;
            assert_eq!(again["unbonding_wei"], open(20).to_string(), "killed {when}: {again}");
            assert_eq!(world.nonce(&person).await, 3, "killed {when}: {again}");
            let error = world.tributary.refused(&person.folder, unbond).await;
            assert!(error.contains("20 OPEN cannot be unbonded"), "it was told: {error}");
        }
    });
    futures::future::join_all(stakes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_was_told_of_is_told_by_the_same_command_alone_and_sent_again_if_asked() {
    let world = World::new().await;
    let person = world.person("somebody").await;
    let deposit = &["wallet", "deposit", "2 OPEN"][..];
    world.kill(&person, deposit, Stop::After("eth_sendRawTransaction")).await;
    // Another command finishes it, says so, and does not take it for its own.
    let plain = |arguments: &[&str]| Tributary::finish(world.tributary.plain(&person.folder, arguments), arguments.join(" "));
    let shown: Outcome = plain(&["wallet", "show"]).await;
    assert!(shown.errors.contains("deposit (2 OPEN") && shown.errors.contains("sends nothing twice"), "{shown}");
    let other = world.run(&person, &["wallet", "deposit", "1 OPEN"]).await;
    assert_eq!((world.deposit(&person).await, resumed(&other)), (open(3), vec![false]), "{other}");
    // With --again both: the first is told, another one is sent.
    let both = plain(&["wallet", "deposit", "2 OPEN", "--again"]).await;
    assert_eq!(both.code, Some(0), "{both}");
    assert!(both.errors.contains("another one is sent now (--again)"), "{both}");
    assert_eq!((world.deposit(&person).await, world.nonce(&person).await), (open(5), 3), "{both}");

    // Without it, a person reads what happened and what to do.
    world.kill(&person, deposit, Stop::BeforeOnceIncluded("eth_call")).await;
    let told = plain(deposit).await;
    for says in
        ["an earlier run, which was stopped before it told you, has sent it", "is in block", "nothing is sent for it now", "--again"]
    {
        assert!(told.errors.contains(says), "{says:?} is not said: {told}");
    }
    assert_eq!((told.code, world.nonce(&person).await), (Some(0), 4), "{told}");
    // A result that nobody could read is not told.
    world.kill(&person, deposit, Stop::BeforeOnceIncluded("eth_call")).await;
    let full = Tributary::finish(to_a_full_disk(&world.tributary.plain(&person.folder, deposit)), "wallet deposit".into()).await;
    assert_eq!((full.code, world.nonce(&person).await), (Some(1), 5), "{full}");
    let told = world.run(&person, deposit).await;
    assert_eq!((resumed(&told), world.nonce(&person).await), (vec![true], 5), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_that_the_chain_does_not_take_and_then_loses_is_waited_for_in_words_and_happens_once() {
    let world = World::new().await;
    let person = world.person("patient").await;
    let rpc = world.reader.rpc();
    let mine = async |seconds: u64| {
        let _: Value = rpc.request("evm_setIntervalMining", serde_json::json!([seconds])).await.expect("anvil");
    };
    let pending = async |nonce: u64| {
        let deadline = std::time::Instant::now() + harness::process::COMMAND_WAIT;
        while world.nonce(&person).await != nonce {
            assert!(std::time::Instant::now() < deadline, "the account's next nonce is not {nonce}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    mine(0).await;
    let command = world.tributary.plain(&person.folder, &["wallet", "deposit", "2 OPEN"]);
    let chain = async {
        pending(1).await;
        // Longer than the command keeps silent about what it waits for.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let _: Value = rpc.request("anvil_dropAllTransactions", serde_json::json!([])).await.expect("anvil");
        mine(1).await;
    };
    let (told, ()) = tokio::join!(Tributary::finish(command, "wallet deposit".into()), chain);
    assert_eq!(told.code, Some(0), "{told}");
    for says in ["waiting for deposit: nonce 0, transaction 0x", "begun", "per gas", "at most"] {
        assert!(told.errors.contains(says), "{says:?} is not said: {told}");
    }
    assert_eq!((world.deposit(&person).await, world.nonce(&person).await), (open(2), 1), "{told}");
}
