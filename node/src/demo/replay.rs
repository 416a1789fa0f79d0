//! Every payout rebuilt by a stranger: the epochs exported, the folder copied, the copy replayed against the chain, and once more with nothing running;
//! a copy with one byte changed fails.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{Demo, faults::quoted};

/// Copies with a change that are tried; each takes a second.
const CHANGED: [&str; 3] = ["blobs", "blobs", "index.json"];

impl Demo {
    /// The sixth account, which has nothing of anybody's, exports what the payouts follow from and rebuilds them from a copy.
    pub async fn replay(&mut self) -> anyhow::Result<()> {
        self.show.step("replay", "A stranger exports the epochs and rebuilds every payout from a copy of the folder");
        let auditor = self.auditor.as_ref().context("the honest receipts are audited first")?;
        let run = async |arguments: &[&str]| self.stage.cli(&auditor.folder, arguments).await;
        let shown = run(&["epoch", "show"]).await?;
        let epoch = shown["epoch"].as_u64().context("epoch show printed no epoch")?.to_string();
        let (exported, copied) = (self.options.out.join("exported"), self.copied());
        let export = run(&["epoch", "export", &epoch, "--out", text(&exported)?]).await?;
        copy(&exported, &copied)?;
        let replayed = run(&["audit", "replay", text(&copied)?]).await?;
        ensure!(replayed["id"] == export["id"] && replayed["is_on_chain"] == true, "the copy is another folder: {replayed}");
        let last = replayed["epochs"].as_array().and_then(|epochs| epochs.last()).context("no epoch was replayed")?;
        ensure!(last["root"] == shown["payout"]["root"], "the replay's root is {}, the chain's {}", last["root"], shown["payout"]["root"]);
        self.is_what_was_claimed(last)?;
        let refused = self.changed_copies_fail(&exported, &auditor.folder).await?;
        self.show.line(&format!(
            "{} receipts and {} blocks of events give the posted root {} and every claim of it",
            export["receipts"],
            replayed["block"],
            last["root"].as_str().unwrap_or_default()
        ));
        refused.iter().for_each(|error| self.show.line(&format!("one byte changed: {error}")));
        let replay = json!({
            "folder": self.shown_path(&copied),
            "id": export["id"],
            "receipts": export["receipts"],
            "epochs": replayed["epochs"],
            "changed": refused,
            "command": self.replay_command(),
        });
        self.summary.insert("replay".into(), replay);
        Ok(())
    }

    fn copied(&self) -> PathBuf {
        self.options.out.join("copied")
    }

    /// The offline replay as a person would type it here.
    pub fn replay_command(&self) -> String {
        format!("{} audit replay {}", quoted(&self.shown_path(&self.stage.exe())), quoted(&self.shown_path(&self.copied())))
    }

    /// Everybody who claimed was paid what stands in the rebuilt tree, to the wei.
    fn is_what_was_claimed(&self, last: &Value) -> anyhow::Result<()> {
        let rows = last["accounts"].as_array().context("the replay printed no accounts")?;
        let rebuilt: BTreeMap<_, _> =
            rows.iter().filter_map(|row| Some((row["account"].as_str()?, row["cumulative_wei"].as_str()?))).collect();
        let claims = self.summary.get("claims").and_then(Value::as_array).context("everybody claims first")?;
        for claim in claims {
            let (account, wei) = (claim["account"].as_str().unwrap_or_default(), claim["wei"].as_str().unwrap_or_default());
            let due = rebuilt.get(account).copied().unwrap_or("0");
            ensure!(due == wei, "{account} claimed {wei} wei, the replay gives it {due}");
        }
        Ok(())
    }

    /// What each copy is refused with that has one byte of one of its files changed.
    async fn changed_copies_fail(&self, exported: &Path, folder: &Path) -> anyhow::Result<Vec<String>> {
        let mut errors = Vec::new();
        for (number, name) in CHANGED.into_iter().enumerate() {
            let changed = self.options.out.join("changed");
            copy(exported, &changed)?;
            let file = file_of(&changed.join(name), number)?;
            let mut bytes = fs::read(&file)?;
            let middle = bytes.len() / 2;
            *bytes.get_mut(middle).with_context(|| format!("{} is empty", file.display()))? ^= 1;
            fs::write(&file, bytes)?;
            let (is_done, printed, _) = self.stage.cli_outcome(folder, &["audit", "replay", text(&changed)?]).await?;
            ensure!(!is_done, "a byte of {} was changed and the replay passed", file.display());
            let error = printed["error"].as_str().context("the replay failed without a word")?;
            errors.push(error.lines().next().unwrap_or_default().to_owned());
            fs::remove_dir_all(&changed)?;
        }
        Ok(errors)
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the output folder's path is not text")
}

/// The file itself, or one of a folder's: the largest for 0, the next for 1.
fn file_of(path: &Path, place: usize) -> anyhow::Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        files.push((entry.metadata()?.len(), entry.path()));
    }
    files.sort();
    files.into_iter().rev().nth(place).map(|(_, path)| path).with_context(|| format!("{} holds too few files", path.display()))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_folder_is_whole_and_its_largest_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("blobs")).unwrap();
        for (name, bytes) in [("index.json", 1), ("blobs/a", 2), ("blobs/b", 9)] {
            fs::write(from.join(name), vec![7; bytes]).unwrap();
        }
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("index.json")).unwrap(), [7]);
        let named = |path: &Path, place| file_of(path, place).ok().and_then(|file| Some(file.file_name()?.to_str()?.to_owned()));
        assert_eq!(named(&to.join("blobs"), 0).as_deref(), Some("b"));
        assert_eq!(named(&to.join("blobs"), 1).as_deref(), Some("a"));
        assert_eq!(named(&to.join("blobs"), 2), None);
        assert_eq!(named(&to.join("index.json"), 2).as_deref(), Some("index.json"));
    }
}
