//! The binary under test, run as a child process with a deadline.

use std::{
    fmt,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

/// Longest a command may take: training on the tiny model and waiting for a window of the chain are the slowest, under 30 s.
pub const COMMAND_WAIT: Duration = Duration::from_secs(120);
/// Password of every wallet that tests make.
pub const PASSWORD: &str = "end to end";
/// What the binary reads from its environment; none of it is inherited.
const VARIABLES: [&str; 7] = [
    "TRIBUTARY_DATA",
    "TRIBUTARY_REGISTRY",
    "TRIBUTARY_RPC",
    "TRIBUTARY_PASSWORD",
    "TRIBUTARY_PASSWORD_FILE",
    "TRIBUTARY_MODEL",
    "TRIBUTARY_WIRE_TAP",
];

/// How `tributary` is run: the program, and the chain it is told of.
#[derive(Debug, Clone)]
pub struct Tributary {
    exe: PathBuf,
    chain: Option<(PathBuf, String)>,
    /// Where every process writes what it sends, before that is encrypted.
    tap: Option<PathBuf>,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line after the global options.
    pub shown: String,
    /// Exit code; nothing if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Its JSON document; null if it printed none.
    pub json: Value,
    /// Standard output as it came.
    pub out: String,
    /// Standard error.
    pub errors: String,
    /// How long it ran.
    pub took: Duration,
}

impl Tributary {
    /// The binary beside the test, as `cargo build` leaves it.
    ///
    /// # Panics
    /// If it is missing, with the command that builds it.
    pub fn find() -> Self {
        let test = std::env::current_exe().expect("the path of this test");
        let folder = test.parent().and_then(Path::parent).expect("a test lies two folders below its target folder");
        let exe = folder.join("tributary");
        assert!(exe.is_file(), "{} is missing: build it with `cargo build -p node --bin tributary`", exe.display());
        Self { exe, chain: None, tap: None }
    }

    /// A copy of the binary in a folder that others may enter, for commands that another user runs.
    ///
    /// # Panics
    /// If it cannot be copied.
    #[must_use]
    pub fn copied(&self, folder: &Path) -> Self {
        let exe = folder.join("tributary");
        std::fs::copy(&self.exe, &exe).expect("the binary is copied");
        Self { exe, ..self.clone() }
    }

    /// The same, told of a chain.
    #[must_use]
    pub fn on(&self, registry: &Path, rpc: &str) -> Self {
        Self { chain: Some((registry.to_owned(), rpc.to_owned())), ..self.clone() }
    }

    /// The same, of which every process writes down what it sends on streams and publishes, before that is encrypted: see `p2p::tap`.
    #[must_use]
    pub fn tapped(&self, folder: &Path) -> Self {
        Self { tap: Some(folder.to_owned()), ..self.clone() }
    }

    /// A command with `--json` in a data folder; it is killed when dropped.
    pub fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = self.plain(folder, arguments);
        command.arg("--json");
        command
    }

    /// A command that prints for people.
    pub fn plain(&self, folder: &Path, arguments: &[&str]) -> Command {
        self.told(Command::new(&self.exe), folder, arguments)
    }

    /// A command with `--json` whose process outlives writes that fail because a file may not grow: it ignores the signal that says so.
    pub fn command_for_full_disks(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(&self.exe);
        let mut command = self.told(shell, folder, arguments);
        command.arg("--json");
        command
    }

    fn told(&self, mut command: Command, folder: &Path, arguments: &[&str]) -> Command {
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.env("TRIBUTARY_PASSWORD", PASSWORD).env("TRIBUTARY_LOG", "warn");
        if let Some(folder) = &self.tap {
            command.env("TRIBUTARY_WIRE_TAP", folder);
        }
        command.arg("--data-dir").arg(folder);
        if let Some((registry, rpc)) = &self.chain {
            command.arg("--registry").arg(registry).arg("--rpc").arg(rpc);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end, whatever that is.
    ///
    /// # Panics
    /// If it takes longer than [`COMMAND_WAIT`].
    pub async fn outcome(&self, folder: &Path, arguments: &[&str]) -> Outcome {
        Self::finish(self.command(folder, arguments), arguments.join(" ")).await
    }

    /// Runs a prepared command to its end.
    ///
    /// # Panics
    /// If it takes longer than [`COMMAND_WAIT`].
    pub async fn finish(mut command: Command, shown: String) -> Outcome {
        let started = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`tributary {shown}` did not start: {error}"));
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let ended =
            timeout(COMMAND_WAIT, async { tokio::try_join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut errors), child.wait()) });
        let ended = ended.await;
        let errors = String::from_utf8_lossy(&errors).into_owned();
        let ended =
            ended.unwrap_or_else(|_| panic!("`tributary {shown}` did not end within {} s; it said: {errors}", COMMAND_WAIT.as_secs()));
        let (_, _, status) = ended.unwrap_or_else(|error| panic!("`tributary {shown}` could not be read: {error}"));
        let out = String::from_utf8_lossy(&out).into_owned();
        Outcome {
            shown,
            code: status.code(),
            signal: status.signal(),
            json: serde_json::from_str(&out).unwrap_or_default(),
            out,
            errors,
            took: started.elapsed(),
        }
    }

    /// Runs a command that must succeed; returns its document.
    ///
    /// # Panics
    /// If it fails or prints no document.
    pub async fn run(&self, folder: &Path, arguments: &[&str]) -> Value {
        self.outcome(folder, arguments).await.success()
    }

    /// Runs a command that must fail; returns its error.
    ///
    /// # Panics
    /// If it succeeds, or fails without a message.
    pub async fn refused(&self, folder: &Path, arguments: &[&str]) -> String {
        self.outcome(folder, arguments).await.refusal()
    }
}

impl Outcome {
    /// Its document, if it succeeded.
    ///
    /// # Panics
    /// If it did not.
    pub fn success(self) -> Value {
        assert!(self.code == Some(0) && !self.json.is_null(), "{self}");
        self.json
    }

    /// Its error, if it failed as a program should: exit code 1, one document that says why, no panic.
    ///
    /// # Panics
    /// If it did not.
    pub fn refusal(self) -> String {
        let error = self.json["error"].as_str().unwrap_or_default().to_owned();
        assert!(self.code == Some(1) && !error.is_empty() && !self.errors.contains("panicked"), "expected a refusal in words, but {self}");
        error
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown, code, signal, out, errors, took, .. } = self;
        let ended = signal.map_or_else(|| format!("code {}", code.unwrap_or_default()), |signal| format!("signal {signal}"));
        write!(
            f,
            "`tributary {shown}` ended with {ended} after {:.1} s\n  printed: {}\n  errors: {}",
            took.as_secs_f64(),
            out.trim_end(),
            errors.trim_end()
        )
    }
}
