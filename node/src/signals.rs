//! The signals that stop a process: SIGTERM and SIGINT.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code when a second signal ended the process at once.
pub const EXIT_AT_ONCE: i32 = 130;

/// The signals that ask this process to stop, from now on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system.
    ///
    /// # Errors
    /// The system refuses.
    pub fn take() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self {
            terminate,
            interrupt,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for `stopping` to end; another signal ends the process at once.
    pub async fn unless_again<T>(&mut self, stopping: impl Future<Output = T>) -> T {
        tokio::select! {
            done = stopping => done,
            () = self.next() => {
                tracing::warn!("a second signal: ending at once");
                std::process::exit(EXIT_AT_ONCE)
            }
        }
    }
}
