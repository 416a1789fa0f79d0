//! What a chain or another process has to do with: nothing is sent, paid, or left half-done.

use std::{
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use chain_bridge::{client::ChainClient, deploy::Deployment, devnet::Devnet};
use harness::{Tributary, chain, cluster::text, files};
use node::config::Config;
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Address,
};

use super::{assert_refused, check, row, written};

/// A chain, and a folder whose account has money on it.
pub(super) struct Place {
    pub(super) devnet: Devnet,
    pub(super) tributary: Tributary,
    outer: tempfile::TempDir,
    pub(super) folder: std::path::PathBuf,
    pub(super) account: Address,
    /// Reads the chain.
    pub(super) reader: ChainClient,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_chains_taken_ports_and_other_processes_cost_nothing() {
    let _alone = harness::alone().await;
    let place = place().await;
    let reader = &place.reader;
    let money = async || {
        let nonce = reader.rpc().nonce(place.account, true).await.expect("the chain answers");
        (nonce, reader.balance(place.account).await.expect("the chain answers"))
    };
    let before = money().await;
    wrong_chains(&place).await;
    wrong_wallets(&place).await;
    taken_ports(&place).await;
    one_process_per_folder(&place).await;
    a_store_that_is_no_folder(&place).await;
    assert_eq!(money().await, before, "no transaction was sent");
}

pub(super) async fn place() -> Place {
    let outer = tempfile::tempdir().expect("a temporary folder");
    let devnet = chain::devnet().await;
    let registry = outer.path().join("registry.json");
    devnet.deployment().write(&registry).expect("registry.json is written");
    let (tributary, folder) = (Tributary::find().on(&registry, devnet.url()), outer.path().join("somebody"));
    let made = tributary.run(&folder, &["init", "--port", "0"]).await;
    let account = made["account"].as_str().and_then(|text| text.parse().ok()).expect("an account");
    devnet.fund(&[(account, Amount(WEI_PER_OPEN))]).await.expect("the faucet pays");
    let reader = ChainClient::connect(devnet.url(), devnet.deployment().clone(), None).await.expect("the chain answers");
    Place { devnet, tributary, outer, folder, account, reader }
}

async fn wrong_chains(place: &Place) {
    let Place { devnet, tributary, outer, folder, .. } = place;
    let nobody = tributary.on(&outer.path().join("registry.json"), "http://127.0.0.1:1");
    check(
        &nobody,
        folder,
        &[
            row(&["wallet", "show"], &["http://127.0.0.1:1"]),
            row(&["stake", "add", "1 OPEN"], &["http://127.0.0.1:1"]),
            row(&["run"], &["http://127.0.0.1:1"]),
        ],
    )
    .await;
    let changed = |name: &str, change: &dyn Fn(&mut Deployment)| {
        let mut deployment = devnet.deployment().clone();
        change(&mut deployment);
        let path = outer.path().join(name);
        deployment.write(&path).expect("a deployment is written");
        tributary.on(&path, devnet.url())
    };
    let id = devnet.deployment().chain_id;
    let other = changed("other-chain.json", &|deployment| deployment.chain_id += 1);
    let both = [id.to_string(), (id + 1).to_string()];
    for command in [&["wallet", "show"][..], &["stake", "add", "1 OPEN"], &["run"]] {
        check(&other, folder, &[row(command, &[&both[0], &both[1]])]).await;
    }
    let empty = changed("no-contract.json", &|deployment| deployment.escrow = Address([9; 20]));
    check(&empty, folder, &[row(&["wallet", "show"], &[&Address([9; 20]).to_string()])]).await;
    // Another contract of the suite stands where Settlement should.
    let swapped = changed("swapped.json", &|deployment| deployment.settlement = deployment.stake);
    let words = ["Settlement at", &devnet.deployment().stake.to_string()];
    let commands = [&["wallet", "show"][..], &["claim"], &["epoch", "show"], &["stake", "status"], &["wallet", "deposit", "1"], &["run"]];
    check(&swapped, folder, &commands.map(|command| row(command, &words))).await;
    // The chain's contracts are another version's, or were made with other values, than the file says.
    let values = changed("other-values.json", &|deployment| deployment.config.w1_s += 1);
    check(
        &values,
        folder,
        &[
            row(&["chain", "verify", text(&outer.path().join("other-values.json"))], &["Settlement at", "of another version"]),
            row(&["chain", "verify", text(&outer.path().join("no-contract.json"))], &["no code at", "InferenceEscrow"]),
            row(&["chain", "verify", text(&outer.path().join("other-chain.json"))], &both.each_ref().map(String::as_str)),
            row(&["chain", "verify", "nowhere.json"], &["nowhere.json", "No such file"]),
        ],
    )
    .await;
    written(outer.path(), "garbage.json", b"{}");
    check(
        &tributary.on(&outer.path().join("garbage.json"), devnet.url()),
        folder,
        &[row(&["wallet", "show"], &["garbage.json", "not a deployment"])],
    )
    .await;
    check(
        tributary,
        folder,
        &[
            row(&["datanet", "fetch", "nothing"], &["no Datanet is called \"nothing\"", "none"]),
            row(&["ask", "--with", "7@1", "why?"], &["7@1"]),
        ],
    )
    .await;
}

async fn wrong_wallets(place: &Place) {
    let Place { tributary, folder, .. } = place;
    let wallet = folder.join("wallet.json");
    let mode = |mode| std::fs::set_permissions(&wallet, std::fs::Permissions::from_mode(mode)).expect("the mode is set");
    mode(0o644);
    check(tributary, folder, &[row(&["wallet", "show"], &["wallet.json", "chmod 600"]), row(&["run"], &["chmod 600"])]).await;
    mode(0o600);
    let mut command = tributary.command(folder, &["wallet", "show"]);
    command.env("TRIBUTARY_PASSWORD", "another one");
    assert_refused(Tributary::finish(command, "wallet show, with another password".into()).await, &["wrong password".to_owned()]);
    let (seed, kept) = (folder.join("node.seed"), std::fs::read(folder.join("node.seed")).expect("the seed"));
    std::fs::write(&seed, "abc").expect("the seed is damaged");
    check(tributary, folder, &[row(&["run"], &["node.seed", "64 hex digits"])]).await;
    std::fs::write(&seed, kept).expect("the seed is whole");
    let key = std::fs::read(&wallet).expect("the wallet");
    std::fs::write(&wallet, &key[..key.len() / 2]).expect("the wallet is cut");
    check(tributary, folder, &[row(&["wallet", "show"], &["wallet.json", "no key file"])]).await;
    std::fs::write(&wallet, key).expect("the wallet is whole");
}

/// A node whose port is taken says which and ends; the others of its ports are free again.
async fn taken_ports(place: &Place) {
    let Place { tributary, folder, .. } = place;
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address");
    type Set = fn(&mut Config, std::net::SocketAddr);
    let listening = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listening = (listening.local_addr().expect("its address"), listening);
    let setters: [(&str, Set); 4] = [
        ("log", |config, at| config.log = Some(at)),
        ("clients", |config, at| config.clients = at),
        ("bulk", |config, at| config.bulk = at),
        ("overlay", |config, at| config.overlay = at),
    ];
    for (name, set) in setters {
        let address = if name == "log" { listening.0 } else { address };
        let before = configure(folder, |config| set(config, address));
        let error = tributary.refused(folder, &["run"]).await;
        println!("    run, {name} port taken\n      {error}");
        assert!(error.contains(&address.port().to_string()), "{name}: {error}");
        assert!(!folder.join("run.json").exists(), "a node that does not run has no addresses");
        configure(folder, |config| *config = before);
    }
}

/// Changes the configuration; returns what it was.
fn configure(folder: &Path, change: impl FnOnce(&mut Config)) -> Config {
    let path = folder.join("tributary.toml");
    let before = Config::load(&path).expect("the configuration");
    let mut config = before.clone();
    change(&mut config);
    std::fs::write(&path, config.to_toml().expect("a text")).expect("the configuration is written");
    before
}

async fn one_process_per_folder(place: &Place) {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let Place { tributary, folder, .. } = place;
    let mut first = tributary.command(folder, &["run"]).spawn().expect("the binary starts");
    let mut output = BufReader::new(first.stdout.take().expect("piped")).lines();
    let listening = async {
        while let Some(line) = output.next_line().await.expect("text") {
            if line == "}" {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), listening).await.expect("the first node listens");
    let error = tributary.refused(folder, &["run"]).await;
    assert!(
        error.contains(text(folder)) && error.contains("in use by another tributary process") && error.contains("--data-dir"),
        "{error}"
    );
    let status = tributary.run(folder, &["status"]).await;
    assert_eq!(status["addresses"]["pid"].as_u64(), first.id().map(u64::from), "the first node runs on: {status}");
    first.kill().await.expect("the node is killed");
}

/// Another user's unreadable folder, in a form that stops root too.
async fn a_store_that_is_no_folder(place: &Place) {
    let Place { tributary, folder, .. } = place;
    std::fs::remove_dir_all(folder.join("store")).expect("the store of the node that ran");
    std::fs::write(folder.join("store"), "in the way").expect("a file is written");
    let error = tributary.refused(folder, &["run"]).await;
    assert!(error.contains(text(&folder.join("store"))), "{error}");
    assert_eq!(
        files::listing(folder).keys().filter(|path| path.ends_with("run.json")).count(),
        1,
        "only the killed node's stale addresses are there"
    );
}
