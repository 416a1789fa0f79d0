//! The data folder and its files.

use super::{Verdict, bad, good, unknown, warn};
use crate::doctor::facts::{Files, Holder, Wallet};

pub(super) fn folder(files: &Files) -> Verdict {
    let name = files.folder.display();
    match &files.folder_mode {
        Err(why) => bad(why, format!("run `tributary --data-dir {name} init`, which makes the folder, or name the right one")),
        // Whoever writes here replaces the configuration, and with it whom the node pays.
        Ok(mode) if mode & 0o022 != 0 => bad(format!("{name}: others may write here (mode {mode:o})"), format!("run chmod 700 {name}")),
        Ok(mode) => good(format!("{name}, mode {mode:o}")),
    }
}

pub(super) fn lock(files: &Files) -> Verdict {
    match &files.holder {
        Holder::Unopened(why) => {
            bad(why, format!("remove {}, and give the folder to the user who runs the node", files.folder.join("lock").display()))
        }
        Holder::Nobody { .. } => good("free"),
        Holder::Command => good("held by a command that is at work"),
        Holder::Node { .. } | Holder::Silent(_) => good("held by the running node"),
    }
}

pub(super) fn alive(files: &Files) -> Verdict {
    let own = env!("CARGO_PKG_VERSION");
    match &files.holder {
        Holder::Unopened(_) => unknown("not looked at: the folder's lock cannot be opened"),
        Holder::Nobody { left_by: None } => good("no node runs, and the last one ended well"),
        Holder::Nobody { left_by: Some(pid) } => warn(
            format!("no node runs, and the last one (process {pid}) was killed: run.json is still there"),
            "look into the system's log for why it was killed (out of memory?), then start it by `tributary run`",
        ),
        Holder::Command => good("no node runs; a command holds the folder"),
        Holder::Node { version, peers } if version == own => good(format!("it answers; version {version}, {peers} peers")),
        Holder::Node { version, .. } => warn(
            format!("it answers, and is of version {version}; this program is {own}"),
            "restart the node, so that it is of the installed version",
        ),
        Holder::Silent(why) => {
            bad(format!("the folder is held and its node does not answer: {why}"), "stop that process and start it again")
        }
    }
}

pub(super) fn config(files: &Files) -> Verdict {
    match &files.config {
        Ok(_) => good(format!("{}", files.folder.join("tributary.toml").display())),
        Err(unread) if unread.is_missing => bad(&unread.why, format!("run `tributary --data-dir {} init`", files.folder.display())),
        Err(unread) => bad(
            &unread.why,
            unread.nearest.as_ref().map_or_else(
                || "correct that line, or take it out: what is left out has its default".to_owned(),
                |nearest| format!("write {nearest}, which is the nearest key that there is, or take the line out"),
            ),
        ),
    }
}

pub(super) fn values(files: &Files) -> Verdict {
    match (&files.config, &files.config_refusal) {
        (Err(_), _) => super::unconfigured(),
        (Ok(_), Some(why)) => bad(why, "change that value in tributary.toml as it says, or take the line out"),
        (Ok(_), None) => good("every value can work"),
    }
}

pub(super) fn key_modes(files: &Files) -> Verdict {
    if files.open_keys.is_empty() {
        return good("none that others may read");
    }
    let named: Vec<String> = files.open_keys.iter().map(|(path, mode)| format!("{} (mode {mode:o})", path.display())).collect();
    let paths: Vec<String> = files.open_keys.iter().map(|(path, _)| path.display().to_string()).collect();
    bad(format!("others may read {}", named.join(" and ")), format!("run chmod 600 {}", paths.join(" ")))
}

fn is_open(files: &Files, name: &str) -> bool {
    files.open_keys.iter().any(|(path, _)| path.ends_with(name))
}

pub(super) fn seed(files: &Files) -> Verdict {
    match &files.seed {
        Ok(node) => good(format!("node {node}")),
        Err(_) if is_open(files, "node.seed") => unknown("not read: others may read it"),
        Err(why) => bad(
            why,
            "restore node.seed from your copy; without one move it away and run `tributary init`, which makes another node, and bind that one by `tributary stake add`",
        ),
    }
}

pub(super) fn wallet(files: &Files) -> Verdict {
    match &files.wallet {
        Wallet::Opened(account) => good(format!("account {account}")),
        Wallet::Closed if is_open(files, "wallet.json") => unknown("not read: others may read it"),
        Wallet::Closed => good("sound; not opened, since no password was given"),
        Wallet::Password => {
            bad("the given password does not open the wallet", "give the wallet's own password by --password-file or TRIBUTARY_PASSWORD")
        }
        Wallet::Wrong(why) => bad(why, "restore wallet.json from your copy; it holds the account that earns"),
    }
}

pub(super) fn registry(files: &Files) -> Verdict {
    match &files.deployment {
        Ok(deployment) => good(format!("{}: chain {}, from block {}", files.registry.display(), deployment.chain_id, deployment.block)),
        Err(why) => bad(why, format!("put the deployment's registry.json, from who deployed it, at {}", files.registry.display())),
    }
}

pub(super) fn refused(files: &Files) -> Verdict {
    match &files.refused {
        Ok(nodes) => good(format!("{nodes} named")),
        // A running node keeps to what it read before.
        Err(why) => bad(why, "correct that line of the file `refused`: until then nobody more is refused, and the node does not start"),
    }
}

pub(super) fn remembered(files: &Files) -> Verdict {
    match &files.remembered {
        Ok(addresses) => good(format!("{addresses} remembered")),
        Err(why) => warn(why, "remove peers.json: the node passes it over and writes it anew"),
    }
}
