//! Calls of the script `server`.

use std::fmt::{self, Display};
use std::process::{Output, Stdio};

/// The exit code of the script where something is missing that it needs.
const MISSING: i32 = 3;

/// Why the script did not do as it was told.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The machine lacks what a server needs.
    Missing(String),
    /// It went wrong.
    Failed(String),
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Refusal {}

/// Runs the script to its end; answers what it printed.
pub(crate) async fn script(arguments: &[&str]) -> Result<String, Refusal> {
    let ran = tokio::process::Command::from(command(arguments)).output();
    judge(ran.await)
}

/// The same for a `drop`, which cannot wait otherwise.
pub(crate) fn script_now(arguments: &[&str]) -> Result<String, Refusal> {
    judge(command(arguments).output())
}

fn command(arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/server"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn judge(ran: std::io::Result<Output>) -> Result<String, Refusal> {
    let ran = ran.map_err(|error| Refusal::Failed(format!("tests/cql/server: {error}")))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    Err(match ran.status.code() {
        Some(MISSING) => Refusal::Missing(why),
        _ => Refusal::Failed(why),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "where tests find a server is no setting of a node"
)]
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
