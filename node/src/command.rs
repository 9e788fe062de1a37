//! What each command does, one file a command.

use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::Result;
use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, Command, Settings};
use crate::config::Faults;

pub mod account;
pub mod backup;
pub mod batch;
pub mod check;
pub mod cluster;
pub mod completions;
pub mod export;
pub mod import;
pub mod instance;
pub mod key;
pub mod message;
pub mod restore;
pub mod serve;
pub mod simulator;
pub mod user;

/// Exit code when the settings are wrong: the one that a wrong command line has, too.
pub const EXIT_SETTINGS: u8 = 2;

/// Does what the command line says, and answers the exit code.
pub fn run(cli: Cli) -> ExitCode {
    let settings = cli.settings;
    let done = match cli.command {
        None => serve::run(&settings, &serve::ServeArgs::default()),
        Some(Command::Serve(args)) => serve::run(&settings, &args),
        Some(Command::Simulator(args)) => simulator::run(&settings, args),
        Some(Command::Check(args)) => check::run(&settings, &args),
        Some(Command::Cluster(args)) => cluster::run(&settings, args),
        Some(Command::Completions(args)) => completions::run(&args),
        Some(Command::Restore(args)) => restore::run(&settings, args),
        Some(Command::Export(args)) => export::run(&settings, &args),
        Some(Command::Import(args)) => import::run(&settings, &args),
        Some(Command::Account(args)) => client(account::run(&settings, args)),
        Some(Command::User(args)) => client(user::run(&settings, args)),
        Some(Command::Key(args)) => client(key::run(&settings, args)),
        Some(Command::Instance(args)) => client(instance::run(&settings, args)),
        Some(Command::Message(args)) => client(message::run(&settings, args)),
        Some(Command::Batch(args)) => client(batch::run(&settings, args)),
        Some(Command::Backup(args)) => client(backup::run(&settings, args)),
    };
    done.unwrap_or_else(|error| {
        let closed = |it: &std::io::Error| it.kind() == ErrorKind::BrokenPipe;
        if error.downcast_ref().is_some_and(closed) {
            // Whoever reads the output has seen enough, as in `zajil message list | head -1`.
            return ExitCode::SUCCESS;
        }
        eprintln!("zajil: {error:#}");
        let settings = error.downcast_ref::<Faults>().is_some();
        if settings {
            ExitCode::from(EXIT_SETTINGS)
        } else {
            ExitCode::FAILURE
        }
    })
}

/// Runs a command that talks to a node: one thread is plenty for it.
fn client(work: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)?;
    Ok(ExitCode::SUCCESS)
}

/// Threads that wait for the disk, at most. With the runtime's own limit of 512, a thousand
/// instances that read ahead at once start hundreds of threads, and everything stands still for
/// half a second; a read takes well under a millisecond, so that a few keep up.
const WAITING_THREADS: usize = 8;

/// The runtime of a node or a simulator: a worker for each core, and no huge pages.
///
/// # Errors
/// The system gives no threads.
pub fn workers() -> Result<Runtime> {
    leave_huge_pages();
    Ok(Builder::new_multi_thread()
        .max_blocking_threads(WAITING_THREADS)
        .enable_all()
        .thread_name("zajil-worker")
        .build()?)
}

/// Has the system give this process, and those that it starts, memory in small pages. The allocator
/// asks for huge ones, and whoever touches such a page first waits until two mebibytes are cleared:
/// often the thread that all answers wait for. On a quiet machine the 99th percentile of accepts at
/// half of the highest rate went from 56 to 7 ms.
fn leave_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the system decides about huge pages");
    }
}

/// The id of something, as a command line names it.
fn id(text: &str) -> Result<u64, String> {
    let told = "an id is a whole number, such as 417295023104";
    text.parse().map_err(|_| told.to_owned())
}

/// Opens the connection that a client command uses.
fn connect(settings: &Settings, target: &crate::client::Target) -> Result<crate::client::Client> {
    crate::client::Client::open(&settings.read()?, target)
}
