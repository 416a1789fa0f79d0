//! Key files go between this program and another wallet (foundry's `cast`, from the same npm packages as the chain) both ways.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{Tributary, chain, cluster::text, process::PASSWORD};

/// A key that nobody uses.
const KEY: &str = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
/// Its account, as every wallet computes it.
const ACCOUNT: &str = "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23";

/// `cast`, beside anvil.
fn cast() -> PathBuf {
    let anvil = chain::anvil();
    let name = |path: &Path| text(path).replace("anvil", "cast");
    let path = PathBuf::from(name(&anvil));
    assert!(path.is_file(), "{} is missing: run `npm ci` in chain-bridge/contracts", path.display());
    path
}

fn run(arguments: &[&str]) -> String {
    let ended = Command::new(cast()).args(arguments).output().expect("cast starts");
    let (out, errors) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "cast {arguments:?}: {out}{errors}");
    out.trim().to_lowercase()
}

#[tokio::test]
async fn another_wallet_opens_our_key_file_and_we_open_its() {
    let tributary = Tributary::find();
    let outer = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| outer.path().join(name);

    let raw = place("raw.key");
    std::fs::write(&raw, KEY).expect("a key is written");
    std::fs::set_permissions(&raw, std::fs::Permissions::from_mode(0o644)).expect("a mode is set");
    let ours = place("ours");
    let refused = tributary.refused(&ours, &["wallet", "import", text(&raw)]).await;
    assert!(refused.contains("chmod 600") && !ours.exists(), "{refused}");
    std::fs::set_permissions(&raw, std::fs::Permissions::from_mode(0o600)).expect("a mode is set");
    let imported = tributary.run(&ours, &["wallet", "import", text(&raw)]).await;
    assert_eq!(imported["account"], ACCOUNT, "{imported}");

    let wallet = ours.join("wallet.json");
    assert_eq!(run(&["wallet", "address", "--keystore", text(&wallet), "--password", PASSWORD]), ACCOUNT);
    let signature = run(&["wallet", "sign", "--keystore", text(&wallet), "--password", PASSWORD, "exact to the wei"]);
    assert_eq!(signature, run(&["wallet", "sign", "--private-key", KEY, "exact to the wei"]), "it signs with the same key");

    run(&["wallet", "import", "theirs", "--keystore-dir", text(outer.path()), "--private-key", KEY, "--unsafe-password", PASSWORD]);
    let theirs = place("theirs");
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o600)).expect("a mode is set");
    let back = tributary.run(&place("back"), &["wallet", "import", text(&theirs)]).await;
    assert_eq!(back["account"], ACCOUNT, "{back}");
    let again = tributary.refused(&place("back"), &["wallet", "import", text(&theirs)]).await;
    assert!(again.contains("exists already"), "a wallet is never replaced: {again}");
}
