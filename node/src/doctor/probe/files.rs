//! The data folder and the files in it, read by the same calls as the node reads them.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use inference::proto::message::{FromClient, FromNode};
use p2p::identity::NodeSeed;

use super::{World, within};
use crate::{
    command::talk::ask_node,
    config::{CONFIG_BYTES_MAX, Config},
    data::{DataDir, DataError, read_bounded, read_text},
    doctor::facts::{Files, Holder, Unread, Wallet},
    peers,
    running::Addresses,
};

/// Largest file of remembered addresses: as [`peers`] has it.
const PEERS_BYTES_MAX: u64 = 16 << 10;
/// Most letters by which a wrong key may differ from the one that was meant.
const TYPO_MAX: usize = 3;

pub(super) async fn look(world: &World) -> Files {
    let data = &world.context.data;
    let (config, config_refusal) = configuration(world);
    Files {
        folder: data.path().to_owned(),
        folder_mode: mode(data.path()),
        holder: holder(world).await,
        config,
        config_refusal,
        open_keys: open_keys(data),
        seed: world.context.seed().map(|seed| seed.node_id()).map_err(|error| format!("{error:#}")),
        wallet: wallet(world),
        registry: world.context.registry_path().clone(),
        deployment: world.context.deployment().map(Box::new).map_err(|error| format!("{error:#}")),
        refused: peers::refused(data).map(|nodes| nodes.len()).map_err(|error| format!("{error:#}")),
        remembered: remembered(data),
    }
}

fn mode(path: &Path) -> Result<u32, String> {
    let found = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if found.is_dir() { Ok(found.permissions().mode() & 0o777) } else { Err(format!("{} is no folder", path.display())) }
}

/// The configuration's fields, and what its values are refused for.
fn configuration(world: &World) -> (Result<Config, Unread>, Option<String>) {
    let path = world.context.data.config();
    let unread = |why: String, is_missing| Unread { why, nearest: None, is_missing };
    let text = match read_text(&path, CONFIG_BYTES_MAX) {
        Err(error) => return (Err(unread(format!("{}: {error}", path.display()), error.kind() == std::io::ErrorKind::NotFound)), None),
        Ok(text) => text,
    };
    match toml::from_str::<Config>(&text) {
        Err(error) => {
            let line = error.span().map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
            let why = format!("{}, line {line}: {}", path.display(), error.message());
            (Err(Unread { nearest: meant(error.message()), why, is_missing: false }), None)
        }
        Ok(mut config) => {
            if let Some(rpc) = world.context.rpc() {
                rpc.clone_into(&mut config.rpc);
            }
            let refusal = config.validate().err().map(|error| error.to_string());
            (Ok(config), refusal)
        }
    }
}

/// The known key that is nearest to an unknown one, as the reader's words have both: first the unknown one, then those it expected.
fn meant(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let (far, name) = names.map(|name| (distance(unknown, name), name)).min()?;
    (far <= TYPO_MAX).then(|| name.to_owned())
}

/// Letters to put in, leave out or change to make one word another (Levenshtein), by rows.
fn distance(from: &str, to: &str) -> usize {
    // Keys have at most some thirty letters; more of a stranger's word is not compared.
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(64).collect(), to.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.iter().enumerate() {
        let mut corner = row[0];
        row[0] = done + 1;
        for at in 0..to.len() {
            let changed = corner + usize::from(to[at] != *letter);
            corner = row[at + 1];
            row[at + 1] = changed.min(row[at] + 1).min(corner + 1);
        }
    }
    row[to.len()]
}

async fn holder(world: &World) -> Holder {
    let data = &world.context.data;
    let left = Addresses::read(data).ok();
    // A folder that is not there is not made by looking at it.
    if !data.path().is_dir() {
        return Holder::Nobody { left_by: None };
    }
    match (data.lock(), left) {
        (Ok(_), left) => Holder::Nobody { left_by: left.map(|addresses| addresses.pid) },
        (Err(DataError::Locked(_)), None) => Holder::Command,
        (Err(DataError::Locked(_)), Some(addresses)) => {
            let patience = world.patience.answer;
            let asked = NodeSeed::generate();
            match within(patience, ask_node(addresses.clients, addresses.node, &asked, &FromClient::Status, patience)).await {
                Ok(FromNode::Status(status)) => Holder::Node { version: status.version, peers: status.peers },
                Ok(_) => Holder::Silent("it answered something else than its status".to_owned()),
                Err(why) => Holder::Silent(why),
            }
        }
        (Err(error), _) => Holder::Unopened(error.to_string()),
    }
}

fn open_keys(data: &DataDir) -> Vec<(std::path::PathBuf, u32)> {
    let found = [data.seed(), data.wallet()].into_iter().filter_map(|path| {
        let mode = std::fs::metadata(&path).ok()?.permissions().mode() & 0o777;
        (mode & 0o077 != 0).then_some((path, mode))
    });
    found.collect()
}

fn wallet(world: &World) -> Wallet {
    use chain_bridge::wallet::{WalletError, load};
    let given = match world.context.given_password() {
        Ok(given) => given,
        Err(error) => return Wallet::Wrong(format!("{error:#}")),
    };
    // With no password at hand the file is tried all the same: whoever made it compares a sum, so a sound file tells that the password is wrong.
    let password = given.as_ref().map_or("", |given| given.as_str());
    match load(&world.context.data.wallet(), password) {
        Ok(account) => Wallet::Opened(account.address()),
        Err(WalletError::Password { .. }) if given.is_none() => Wallet::Closed,
        Err(WalletError::Password { .. }) => Wallet::Password,
        // Told by another check, which names the mode.
        Err(WalletError::Open { .. }) => Wallet::Closed,
        Err(error) => Wallet::Wrong(error.to_string()),
    }
}

fn remembered(data: &DataDir) -> Result<usize, String> {
    let path = data.path().join("peers.json");
    match read_bounded(&path, PEERS_BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(bytes) => match serde_json::from_slice::<Vec<String>>(&bytes) {
            Ok(_) => Ok(peers::remembered(data).len()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        },
    }
}
