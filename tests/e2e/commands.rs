//! The commands that move money or assets: each transaction is explained before it is signed, and costs what was said.

mod money;

use std::path::{Path, PathBuf};

use chain_bridge::{bindings::ARTIFACTS, client::ChainClient, devnet::Devnet};
use harness::{Tributary, chain, cluster::text, files};
use serde_json::Value;
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Address,
};

/// Contracts of the suite: all artifacts but that of development chains.
const CONTRACTS: usize = ARTIFACTS.len() - 1;

/// A chain, and a folder whose account has a hundred OPEN on it.
struct Place {
    devnet: Devnet,
    tributary: Tributary,
    outer: tempfile::TempDir,
    folder: PathBuf,
    account: Address,
    reader: ChainClient,
}

impl Place {
    async fn new() -> Self {
        let outer = tempfile::tempdir().expect("a temporary folder");
        let devnet = chain::devnet().await;
        let registry = outer.path().join("registry.json");
        devnet.deployment().write(&registry).expect("registry.json is written");
        let (tributary, folder) = (Tributary::find().on(&registry, devnet.url()), outer.path().join("somebody"));
        let account = person(&devnet, &tributary, &folder).await;
        let reader = ChainClient::connect(devnet.url(), devnet.deployment().clone(), None).await.expect("the chain answers");
        Self { devnet, tributary, outer, folder, account, reader }
    }

    async fn run(&self, arguments: &[&str]) -> Value {
        self.tributary.run(&self.folder, arguments).await
    }

    async fn refused(&self, arguments: &[&str], says: &[&str]) {
        let (nonce, error) = (self.nonce().await, self.tributary.refused(&self.folder, arguments).await);
        for words in says {
            assert!(error.contains(words), "{arguments:?} was refused without {words:?}: {error}");
        }
        assert_eq!(self.nonce().await, nonce, "{arguments:?} was refused, yet something was sent");
    }

    async fn balance(&self) -> u128 {
        self.reader.balance(self.account).await.expect("the chain answers").0
    }

    async fn nonce(&self) -> u64 {
        self.reader.rpc().nonce(self.account, true).await.expect("the chain answers")
    }
}

async fn person(devnet: &Devnet, tributary: &Tributary, folder: &Path) -> Address {
    let made = tributary.run(folder, &["init", "--port", "0"]).await;
    let account = made["account"].as_str().and_then(|text| text.parse().ok()).expect("an account");
    devnet.fund(&[(account, Amount(100 * WEI_PER_OPEN))]).await.expect("the faucet pays");
    account
}

fn wei(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number of wei"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_explained_before_it_is_signed_and_costs_what_was_said() {
    let place = Place::new().await;
    let (before, listed) = (place.balance().await, files::listing(&place.folder));

    let dry = place.run(&["wallet", "deposit", "2 OPEN", "--dry-run"]).await;
    let row = &dry["transactions"][0];
    assert_eq!(
        (&dry["is_dry_run"], &row["contract"], &row["transaction"]),
        (&true.into(), &"InferenceEscrow".into(), &Value::Null),
        "{dry}"
    );
    assert_eq!((wei(&row["value_wei"]), wei(&row["balance_wei"])), (2 * WEI_PER_OPEN, before));
    assert!(wei(&row["l1_fee_wei"]) > 0 && wei(&row["most_wei"]) > wei(&row["value_wei"]) + wei(&row["cost_wei"]), "{row}");
    assert_eq!((place.balance().await, files::listing(&place.folder)), (before, listed), "a dry run leaves nothing");

    let sent = place.run(&["wallet", "deposit", "2 OPEN"]).await;
    let row = &sent["transactions"][0];
    for name in ["transaction", "block", "gas", "cost_wei"] {
        assert_eq!(row[name], sent["transaction"][name], "{sent}");
    }
    assert_eq!(before - place.balance().await, 2 * WEI_PER_OPEN + wei(&row["cost_wei"]), "to the wei, with the L1's fee: {row}");
    assert!(row["does"].as_str().is_some_and(|text| text.contains("puts 2 OPEN into the escrow")), "{row}");

    // For people: the lines come before the result, on the other stream; amounts are in OPEN, or in wei where asked for.
    for (arguments, amount) in
        [(&["wallet", "deposit", "1 OPEN"][..], "1 OPEN"), (&["wallet", "deposit", "1 OPEN", "--wei"], "1000000000000000000 wei")]
    {
        let shown = Tributary::finish(place.tributary.plain(&place.folder, arguments), arguments.join(" ")).await;
        for says in [&format!("amount   {amount}"), "InferenceEscrow at 0x", "L1 data", "operator", "with the amount at most", "afterwards"]
        {
            assert!(shown.errors.contains(says), "{says:?} is not said: {shown}");
        }
        assert!(shown.code == Some(0) && !shown.errors.contains("go on?"), "a script is not asked: {shown}");
        assert_eq!(shown.out.contains(" OPEN"), !arguments.contains(&"--wei"), "{shown}");
    }
    place.refused(&["wallet", "deposit", "500 OPEN"], &["deposit", "nothing was sent", "fund the account"]).await;
}

/// Runs a command at a terminal of its own (`script`, of every Linux), where somebody types `answer`; returns its exit code and all it showed.
async fn at_a_terminal(place: &Place, arguments: &[&str], answer: &str) -> (Option<i32>, String) {
    let plain = place.tributary.plain(&place.folder, arguments);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().expect("text"));
    let line: Vec<String> = std::iter::once(plain.as_std().get_program()).chain(plain.as_std().get_args()).map(quoted).collect();
    let mut command = tokio::process::Command::new("script");
    command.args(["-qec", &line.join(" "), "/dev/null"]).kill_on_drop(true);
    for (name, value) in plain.as_std().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut running = command.spawn().expect("script starts (bsdutils)");
    let mut typed = running.stdin.take().expect("piped");
    tokio::io::AsyncWriteExt::write_all(&mut typed, format!("{answer}\n").as_bytes()).await.expect("it is typed");
    let ended =
        tokio::time::timeout(std::time::Duration::from_secs(60), running.wait_with_output()).await.expect("it ends").expect("it ran");
    (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_at_a_terminal_is_asked_and_only_a_yes_signs() {
    let place = Place::new().await;
    let start = place.nonce().await;
    for answer in ["n", "", "perhaps"] {
        let (code, shown) = at_a_terminal(&place, &["wallet", "deposit", "1 OPEN"], answer).await;
        assert!(code == Some(1) && shown.contains("go on? [y/N]") && shown.contains("you did not say yes"), "{answer:?}: {shown}");
        assert_eq!(place.nonce().await, start, "{answer:?} sent something: {shown}");
    }
    let (code, shown) = at_a_terminal(&place, &["wallet", "deposit", "1 OPEN"], "y").await;
    assert_eq!((code, place.nonce().await), (Some(0), start + 1), "{shown}");
    let (code, shown) = at_a_terminal(&place, &["wallet", "deposit", "1 OPEN", "--yes"], "").await;
    assert!(code == Some(0) && !shown.contains("go on?") && shown.contains("with the amount at most"), "{shown}");
    assert_eq!(place.nonce().await, start + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stake_status_says_roles_faults_and_what_may_be_open() {
    let place = Place::new().await;
    // A dry run asks about all that would follow, and says what it could not try.
    let listed = files::listing(&place.folder);
    let dry = place.run(&["stake", "add", "30 OPEN", "--dry-run"]).await;
    let rows: Vec<_> =
        dry["transactions"].as_array().expect("transactions").iter().map(|row| (&row["what"], &row["is_simulated"])).collect();
    assert_eq!(rows, [(&"stake".into(), &true.into()), (&"take on roles".into(), &false.into())], "{dry}");
    assert_eq!((&dry["is_dry_run"], &dry["transactions"][1]["gas"], place.nonce().await), (&true.into(), &Value::Null, 0), "{dry}");
    let shown =
        Tributary::finish(place.tributary.plain(&place.folder, &["stake", "add", "30 OPEN", "--dry-run"]), "stake add".into()).await;
    assert!(shown.out.contains("not simulated: it depends on the transaction before it"), "{shown}");
    assert_eq!(files::listing(&place.folder), listed, "a dry run leaves nothing");
    let none = place.run(&["stake", "status"]).await;
    assert_eq!((&none["is_registered"], &none["roles"]), (&false.into(), &Value::Array(vec![])), "{none}");
    let added = place.run(&["stake", "add", "30 OPEN"]).await;
    let whats: Vec<&str> = added["transactions"].as_array().expect("transactions").iter().filter_map(|row| row["what"].as_str()).collect();
    assert_eq!(whats, ["stake", "take on roles"], "{added}");
    let shown = place.run(&["stake", "show"]).await;
    assert_eq!(shown, place.run(&["stake", "status"]).await, "the older name still stands");
    assert_eq!(shown["roles"], serde_json::json!(["node", "poster", "indexer"]), "{shown}");
    assert_eq!((wei(&shown["exposure"]["most_wei"]), wei(&shown["exposure"]["open_wei"])), (3 * WEI_PER_OPEN, 0), "{shown}");
    assert_eq!((&shown["faults"], &shown["slashes"]), (&0.into(), &Value::Array(vec![])), "{shown}");
    place.refused(&["stake", "unbond", "31 OPEN"], &["31 OPEN cannot be unbonded", "30 OPEN"]).await;
    // What unbonds can still be slashed, and covers no fees.
    let unbonding = place.run(&["stake", "unbond", "8 OPEN"]).await;
    let most = 22 * WEI_PER_OPEN / 10;
    assert_eq!((wei(&unbonding["exposure"]["most_wei"]), wei(&unbonding["slashable_wei"])), (most, 30 * WEI_PER_OPEN), "{unbonding}");
    // Without the stake that its roles demand no root of its is taken.
    let unbonded = place.run(&["stake", "unbond", "12 OPEN"]).await;
    assert_eq!((&unbonded["is_bonded"], wei(&unbonded["exposure"]["most_wei"])), (&false.into(), 0), "{unbonded}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_published_frozen_redirected_and_rolled_back_by_their_owner() {
    let place = Place::new().await;
    let model = files::tiny_model();
    let first = place.run(&["model", "publish", text(&model), "--name", "tiny"]).await;
    assert_eq!(first["version"], "1@1", "{first}");
    let content = |byte: &str| byte.repeat(32);
    for (number, byte) in [(2, "0b"), (3, "0c")] {
        let next = place.run(&["registry", "publish", "tiny", "--content", &content(byte)]).await;
        assert_eq!(next["version"], format!("1@{number}"), "{next}");
    }
    let again = place.run(&["registry", "publish", "1", "--content", &content("0c")]).await;
    assert_eq!((&again["version"], &again["transactions"]), (&"1@3".into(), &Value::Array(vec![])), "nothing is paid again: {again}");

    place.refused(&["registry", "freeze", "1@9"], &["1@9 was never published, the newest is 3"]).await;
    place.refused(&["registry", "freeze", "1"], &["ASSET@VERSION"]).await;
    place.refused(&["registry", "rollback", "nothing"], &["no asset is named"]).await;
    let frozen = place.run(&["registry", "freeze", "tiny@2"]).await;
    assert_eq!((&frozen["versions"][1]["status"], &frozen["current"]), (&"frozen".into(), &3.into()), "{frozen}");
    place.refused(&["registry", "freeze", "tiny@2"], &["was frozen in block", "nothing was sent"]).await;
    place.refused(&["registry", "redirect", "tiny", "--to", "2"], &["1@2 is frozen", "name one of 1"]).await;
    place.refused(&["registry", "redirect", "tiny", "--to", "3"], &["its own place"]).await;
    let back = place.run(&["registry", "rollback", "tiny"]).await;
    assert_eq!((&back["current"], &back["versions"][2]["superseded_by"]), (&1.into(), &1.into()), "{back}");
    place.refused(&["registry", "rollback", "tiny"], &["nothing to go back to"]).await;
    let next = place.run(&["registry", "publish", "tiny", "--content", &content("0d")]).await;
    assert_eq!(next["version"], "1@4", "{next}");
    let moved = place.run(&["registry", "redirect", "tiny", "--from", "4", "--to", "1"]).await;
    assert_eq!((&moved["current"], &moved["transactions"][0]["contract"]), (&1.into(), &"AssetRegistry".into()), "{moved}");

    let stranger = place.outer.path().join("stranger");
    person(&place.devnet, &place.tributary, &stranger).await;
    let content = content("0e");
    let tries: [&[&str]; 4] = [
        &["registry", "publish", "tiny", "--content", &content],
        &["registry", "freeze", "tiny@1"],
        &["registry", "redirect", "tiny", "--to", "1"],
        &["registry", "rollback", "tiny"],
    ];
    for arguments in tries {
        let error = place.tributary.refused(&stranger, arguments).await;
        assert!(error.contains("belongs to") && error.contains("nothing was sent"), "{arguments:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_command_deploys_writes_the_addresses_and_verifies_them() {
    let place = Place::new().await;
    let (out, values) = (place.outer.path().join("own.json"), place.outer.path().join("values.toml"));
    std::fs::write(&values, "w1_s = 90000\nstake_min = \"3 OPEN\"\n").expect("a file is written");
    let (governor, protocol) = (Address([4; 20]).to_string(), Address([3; 20]).to_string());
    let common = ["--governor", &governor, "--protocol", &protocol, "--out", text(&out), "--parameters", text(&values)];
    let deploy = [&["chain", "deploy"][..], &common].concat();
    let listed = files::listing(place.outer.path());
    let dry = place.run(&[&deploy[..], &["--dry-run"]].concat()).await;
    assert_eq!((&dry["is_dry_run"], &dry["transactions"][0]["what"]), (&true.into(), &"deployment".into()), "{dry}");
    assert_eq!(files::listing(place.outer.path()), listed, "a dry run leaves nothing");

    // Their creations, and the calls that make three of them known to others.
    let sent = CONTRACTS as u64 + 3;
    let (before, nonce) = (place.balance().await, place.nonce().await);
    let done = place.run(&deploy).await;
    assert_eq!((&done["is_new"], done["contracts"].as_array().map(Vec::len)), (&true.into(), Some(CONTRACTS)), "{done}");
    assert_eq!(before - place.balance().await, wei(&done["cost_wei"]));
    assert!(wei(&done["cost_wei"]) <= wei(&dry["transactions"][0]["most_wei"]), "{done}");
    assert_eq!((place.nonce().await, place.outer.path().join("own.json.unfinished").exists()), (nonce + sent, false));

    let again = place.run(&deploy).await;
    assert_eq!((&again["is_new"], place.nonce().await), (&false.into(), nonce + sent), "what stands is verified, not sent again: {again}");
    let verified = place.run(&["chain", "verify", text(&out)]).await;
    assert_eq!((&verified["contracts"], &verified["assets_governor"]), (&done["contracts"], &governor.as_str().into()), "{verified}");
    // The commands work on it.
    let on_it = place.tributary.on(&out, place.devnet.url());
    let shown = on_it.run(&place.folder, &["stake", "status"]).await;
    assert_eq!(wei(&shown["least_wei"]), 3 * WEI_PER_OPEN, "{shown}");

    let other = [&["chain", "deploy"][..], &common[..6]].concat();
    place.refused(&other, &["holds another deployment", "nothing was sent"]).await;
    let file = std::fs::read_to_string(&out).expect("the addresses");
    let wrong = place.outer.path().join("wrong.json");
    for (from, to, says) in
        [("\"w1_s\": 90000", "\"w1_s\": 90001", "Settlement at"), ("\"answer_s\": 7200", "\"answer_s\": 1", "ReceiptChallenge at")]
    {
        assert!(file.contains(from), "{file}");
        std::fs::write(&wrong, file.replacen(from, to, 1)).expect("a file is written");
        place.refused(&["chain", "verify", text(&wrong)], &[says, "of another version"]).await;
    }
    std::fs::write(&values, "w1_s = 90000\nunbonding_s = 5\n").expect("a file is written");
    let fresh = place.outer.path().join("fresh.json");
    let unfit = ["chain", "deploy", "--governor", &governor, "--protocol", &protocol, "--out", text(&fresh), "--parameters", text(&values)];
    place.refused(&unfit, &["unbond for longer than both windows"]).await;
    // What every constructor takes, and with which epochs would stall.
    for (text, says) in [
        ("w2_s = 30000", &["w2_s is 30000", "28800 s apart", "raise epoch_min_s"][..]),
        ("fallback_s = 10000", &["w2_s + fallback_s are 31600", "28800 s apart"]),
        ("payout_answer_s = 10800", &["payout_answer_s is 10800", "w2_s is 21600", "lower payout_answer_s"]),
        ("max_age_blocks = 100", &["max_age_blocks is 100", "more blocks"]),
        ("case_age_blocks = 1000000", &["2 s a block, are 2259200", "lower case_age_blocks"]),
    ] {
        std::fs::write(&values, text).expect("a file is written");
        place.refused(&unfit, says).await;
    }
    assert!(!fresh.exists());
}
