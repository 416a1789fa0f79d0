//! Programs that end with the process that started them, even if that one is killed.
//!
//! Nobody can clean up after his own SIGKILL. So a shell takes the program's place and leaves a watcher behind, which reads a pipe whose other end
//! only the starting process holds. A line says that the program has ended; if the pipe closes without one, the watcher kills the program.
//! The program keeps the shell's process id, has a process group of its own (an interrupt at the terminal reaches the starting process alone, which
//! stops things in order), and reads nothing.

use std::{
    ffi::OsStr,
    io,
    process::{ExitStatus, Output, Stdio},
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

/// `$$` is the shell's process id even in the watcher, and after `exec` the program's.
const SCRIPT: &str = r#"exec 3<&0 </dev/null
{ read -r word <&3 || kill -KILL $$; } >/dev/null 2>&1 &
exec 3<&- "$@""#;

/// Exit codes by which a shell says that a program is not there or cannot be run.
const NOT_RUN: [i32; 2] = [126, 127];

/// A running program that ends with this process, at the latest.
#[derive(Debug)]
pub struct Tied {
    child: Child,
    tie: Option<ChildStdin>,
}

/// A command that runs `program`; add arguments, environment and outputs, then [`Tied::spawn`] it.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(program);
    command
}

impl Tied {
    /// Starts a command made by [`command`]. A program that is missing shows as [`Tied::was_not_run`] of its exit status.
    ///
    /// # Errors
    /// If no shell can be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).process_group(0).kill_on_drop(true).spawn()?;
        let tie = child.stdin.take();
        Ok(Self { child, tie })
    }

    /// Its process id, until it was waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its output, once, if it was piped.
    pub const fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its error output, once, if it was piped.
    pub const fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for its end. May be dropped and called again.
    ///
    /// # Errors
    /// What the system says.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.release().await;
        Ok(status)
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// What the system says.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await?;
        self.release().await;
        Ok(())
    }

    /// Waits for its end and returns what it wrote. When this is dropped, the program is killed.
    ///
    /// # Errors
    /// What the system says.
    pub async fn output(self) -> io::Result<Output> {
        let Self { child, tie } = self;
        let output = child.wait_with_output().await?;
        release(tie).await;
        Ok(output)
    }

    /// Whether a status means that the shell found no such program or could not run it.
    pub fn was_not_run(status: ExitStatus) -> bool {
        status.code().is_some_and(|code| NOT_RUN.contains(&code))
    }

    async fn release(&mut self) {
        release(self.tie.take()).await;
    }
}

/// Tells the watcher that the program has ended, so that it kills nobody who has the same process id later.
async fn release(tie: Option<ChildStdin>) {
    if let Some(mut tie) = tie {
        // A watcher that is gone needs no word.
        drop(tie.write_all(b"\n").await);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;

    #[tokio::test]
    async fn a_program_keeps_the_process_id_its_arguments_and_its_exit_code() {
        let mut started = command("sh");
        started.args(["-c", "echo $$ \"$1\"; exit 7", "sh", "two words"]).stdout(Stdio::piped());
        let tied = Tied::spawn(&mut started).unwrap();
        let id = tied.id().unwrap();
        let output = tied.output().await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{id} two words\n"));
        assert_eq!(output.status.code(), Some(7));
    }

    #[tokio::test]
    async fn a_missing_program_is_told_by_the_status() {
        let mut tied = Tied::spawn(command("/nowhere/at/all").stderr(Stdio::null())).unwrap();
        assert!(Tied::was_not_run(tied.wait().await.unwrap()));
    }

    #[tokio::test]
    async fn a_program_ends_when_the_pipe_closes_without_a_word() {
        let mut tied = Tied::spawn(command("sleep").arg("600")).unwrap();
        // What a SIGKILL of this process would do.
        drop(tied.tie.take());
        let status = tokio::time::timeout(Duration::from_secs(30), tied.wait()).await.expect("it was killed").unwrap();
        assert_eq!(status.code(), None, "ended by a signal: {status}");
    }

    #[tokio::test]
    async fn a_dropped_program_ends_and_closes_its_output() {
        let mut tied = Tied::spawn(command("sh").args(["-c", "echo up; exec sleep 600"]).stdout(Stdio::piped())).unwrap();
        let mut lines = BufReader::new(tied.stdout().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("up"));
        drop(tied);
        // Its output closes when nobody holds it any more.
        let end = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.expect("it was killed").unwrap();
        assert_eq!(end, None);
    }
}
