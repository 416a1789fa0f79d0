//! A gateway of somebody's, and OpenAI's own client to ask it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{chain::root, cluster::document, process::Tributary};

/// Longest from its start to its listening: it follows the chain and waits for the first adverts.
const START_WAIT: Duration = Duration::from_secs(60);
/// Longest from asking it to stop to its end.
const STOP_WAIT: Duration = Duration::from_secs(45);

/// A process that serves.
#[derive(Debug)]
pub struct Gateway {
    /// Where, as OpenAI's clients want it.
    pub url: String,
    log: PathBuf,
    child: Child,
}

impl Gateway {
    /// Starts one in a folder that has keys, on any port.
    ///
    /// # Panics
    /// If it does not listen in time.
    pub async fn start(tributary: &Tributary, folder: &Path, options: &[&str]) -> Self {
        let log = folder.join("gateway.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("the log opens");
        let mut command = tributary.command(folder, &[&["gateway", "--listen", "127.0.0.1:0"], options].concat());
        let mut child = command.env("TRIBUTARY_LOG", "debug").stderr(Stdio::from(file)).spawn().expect("the binary starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        let printed = timeout(START_WAIT, document(&mut output)).await;
        let printed = printed.unwrap_or_else(|_| panic!("the gateway is not listening after {} s:\n{}", START_WAIT.as_secs(), text()));
        let printed: Value =
            serde_json::from_str(&printed).unwrap_or_else(|error| panic!("the gateway did not start ({error}): {printed}\n{}", text()));
        let url = printed["base_url"].as_str().unwrap_or_else(|| panic!("no address was printed: {printed}")).to_owned();
        // Kept open, so that it never writes into a closed pipe.
        tokio::spawn(async move { drop(output.read_to_end(&mut Vec::new()).await) });
        Self { url, log, child }
    }

    /// What it has logged so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to stop and waits for its end, which must be in order; its log.
    ///
    /// # Panics
    /// If it takes too long or fails.
    pub async fn stop(mut self) -> String {
        let pid = self.child.id().expect("a process that nobody waited for has a number").to_string();
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().await.expect("kill runs");
        assert!(asked.success(), "the gateway has died:\n{}", self.log_text());
        let ended =
            timeout(STOP_WAIT, self.child.wait()).await.unwrap_or_else(|_| panic!("the gateway did not stop:\n{}", self.log_text()));
        assert!(ended.expect("its status").success(), "the gateway failed:\n{}", self.log_text());
        self.log_text()
    }
}

/// A Python that has OpenAI's client: `TRIBUTARY_OPENAI_PYTHON`, else where `cargo xtask test openai` puts it.
///
/// # Panics
/// If it is missing, with the command that brings it.
pub fn openai_python() -> Command {
    let (venv, plain) = (root().join(".cache/venv-openai/bin/python"), root().join(".cache/py-openai"));
    let mut command = match std::env::var_os("TRIBUTARY_OPENAI_PYTHON") {
        Some(python) => Command::new(python),
        None if venv.is_file() => Command::new(venv),
        None => {
            assert!(
                plain.is_dir(),
                "OpenAI's client is missing: `cargo xtask test openai` brings it, or name a Python that has it by TRIBUTARY_OPENAI_PYTHON"
            );
            let mut command = Command::new("python3");
            command.env("PYTHONPATH", plain);
            command
        }
    };
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).kill_on_drop(true);
    command
}
