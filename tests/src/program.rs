//! The program under test as processes: started, killed, asked to stop, and never left behind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};

use crate::network::Host;

/// How much of a log is shown when a scenario fails, in lines.
const SHOWN_OF_LOG: usize = 60;

/// What is run as the program.
#[derive(Clone, Copy, Debug, Default)]
pub enum Program {
    /// Built by cargo beside the scenarios, from the same source.
    #[default]
    UnderTest,
    /// The running executable, which does as the program does when this word comes first: for one
    /// that measures, and has to be sure of what it measures.
    This(&'static str),
}

impl Program {
    /// The program with arguments, in a folder, apart from the settings of whoever runs the tests.
    ///
    /// # Panics
    /// It is not there: the scenario was not started by cargo.
    pub fn command(self, arguments: &[&str], folder: &Path) -> Command {
        let (executable, first) = self.words();
        let mut command = quiet(executable, folder);
        command.args(first).args(arguments);
        command
    }

    /// The same on a machine of a network.
    ///
    /// # Panics
    /// See [`Program::command`].
    pub fn command_on(self, host: &Host, arguments: &[&str], folder: &Path) -> Command {
        let (executable, first) = self.words();
        // It becomes the program, with the process id that it has.
        let mut command = quiet(PathBuf::from("ip"), folder);
        command.args(["netns", "exec", &host.namespace]);
        command.arg(executable).args(first).args(arguments);
        command
    }

    fn words(self) -> (PathBuf, Option<&'static str>) {
        match self {
            Self::UnderTest => (path(), None),
            Self::This(word) => (this(), Some(word)),
        }
    }
}

fn this() -> PathBuf {
    std::env::current_exe().expect("a process knows its program")
}

/// The program: built by cargo beside the scenarios, from the same source.
///
/// # Panics
/// It is not there: the scenario was not started by cargo.
pub fn path() -> PathBuf {
    let test = this();
    let built = test
        .parent()
        .and_then(Path::parent)
        .expect("cargo puts tests into deps/");
    let program = built.join("zajil-under-test");
    assert!(
        program.exists(),
        "{} is missing; run scenarios by cargo",
        program.display()
    );
    program
}

/// The program with arguments, in a folder, apart from the settings of whoever runs the tests.
pub fn command(arguments: &[&str], folder: &Path) -> Command {
    Program::UnderTest.command(arguments, folder)
}

/// An executable in a folder, apart from the settings and the terminal of whoever runs the tests.
pub(crate) fn quiet(executable: PathBuf, folder: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ours = |name: &str| name.starts_with("ZAJIL_");
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
}

/// Runs a command of the program to its end.
///
/// # Errors
/// It cannot be started, or failed; the error holds what it said.
pub async fn run(arguments: &[&str], folder: &Path) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command(arguments, folder).output().await?;
    let told = String::from_utf8_lossy(&stderr);
    ensure!(
        status.success(),
        "zajil {} ended with {status}: {told}",
        arguments.join(" ")
    );
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Makes what three nodes trust each other by; answers the folder, which has one for each of them.
///
/// # Errors
/// See [`run`].
pub async fn make_keys(home: &Path) -> Result<PathBuf> {
    let keys = home.join("keys");
    let dir = keys.to_string_lossy();
    let arguments = [
        "cluster", "init", "--dir", &dir, "--nodes", "3", "--name", "zajil",
    ];
    run(&arguments, home).await?;
    Ok(keys)
}

/// A process that lasts; it ends with this value. What it prints is kept in a file.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Running {
    /// Starts it; its output is added to the file `log`.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("cannot start the program")?;
        let pid = child.id().context("it ended at once")?;
        Ok(Self {
            child,
            pid,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Asks it to stop, as a service manager does.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub async fn ask_to_stop(&self) -> Result<()> {
        self.signal("-TERM").await
    }

    /// Freezes it for a while, as a machine does that is moved or out of memory.
    ///
    /// # Errors
    /// A signal cannot be sent.
    pub async fn freeze(&self, time: Duration) -> Result<()> {
        self.stand_still().await?;
        tokio::time::sleep(time).await;
        self.go_on().await
    }

    /// Freezes it until it is told to go on.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub async fn stand_still(&self) -> Result<()> {
        self.signal("-STOP").await
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub async fn go_on(&self) -> Result<()> {
        self.signal("-CONT").await
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill")
            .args([signal, &self.pid.to_string()])
            .status()
            .await?;
        ensure!(sent.success(), "kill ended with {sent}");
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Everything that it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its resident memory in bytes; `None` when it ended.
    pub fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1_024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_OF_LOG)..];
            println!(
                "--- the end of {}:\n{}\n---",
                self.log.display(),
                shown.join("\n")
            );
        }
    }
}
