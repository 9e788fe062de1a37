//! A made-up WhatsApp as a process of its own, which outlives every node and keeps the books.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::ledger::{self, Frame};
use crate::program::{Program, Running};
use crate::wait::{seconds, until};

/// How long it may take to listen.
const LISTENS_WITHIN: Duration = seconds(30);

/// What it prints before its address.
const LISTENS_AT: &str = "the simulator listens at ";

/// A made-up WhatsApp.
#[derive(Debug)]
pub struct WhatsApp {
    address: SocketAddr,
    ledger: PathBuf,
    process: Running,
}

impl WhatsApp {
    /// Starts one that behaves by `script`, with its ledger in `folder`.
    ///
    /// # Errors
    /// It ended, or does not say where it listens.
    pub async fn start(folder: &Path, script: &Value) -> Result<Self> {
        let here = Ipv4Addr::LOCALHOST.into();
        Self::start_at(here, Program::UnderTest, folder, script).await
    }

    /// The same at an address of this machine, and where something else is run as the program.
    ///
    /// # Errors
    /// See [`WhatsApp::start`].
    pub async fn start_at(
        host: IpAddr,
        program: Program,
        folder: &Path,
        script: &Value,
    ) -> Result<Self> {
        let (ledger, script_file) = (folder.join("ledger.ndjson"), folder.join("script.json"));
        std::fs::write(&script_file, script.to_string())?;
        let [ledger_path, script_path] =
            [&ledger, &script_file].map(|path| path.to_string_lossy().into_owned());
        let listen = SocketAddr::new(host, 0).to_string();
        let arguments = [
            "simulator",
            "--listen",
            &listen,
            "--ledger",
            &ledger_path,
            "--script",
            &script_path,
        ];
        let command = program.command(&arguments, folder);
        let mut process = Running::start(command, &folder.join("whatsapp.log"))?;
        let address = until("the simulator listens", LISTENS_WITHIN, async || {
            if let Some(status) = process.ended() {
                return Some(Err(status));
            }
            let log = process.log();
            let told = log.lines().find_map(|line| line.strip_prefix(LISTENS_AT))?;
            told.trim().parse().ok().map(Ok)
        });
        match address.await {
            Ok(address) => Ok(Self {
                address,
                ledger,
                process,
            }),
            Err(status) => bail!("the simulator ended with {status}: {}", process.log()),
        }
    }

    /// Where instances connect to it.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its ledger, for who reads along while it grows.
    pub fn ledger(&self) -> &Path {
        &self.ledger
    }

    /// Every frame that it got so far, in the order in which it got them.
    ///
    /// # Panics
    /// The ledger cannot be read.
    pub fn frames(&self) -> Vec<Frame> {
        ledger::read(&self.ledger)
    }

    /// Its process.
    pub const fn process(&self) -> &Running {
        &self.process
    }
}
