//! What the first start on an empty store made, told to whoever started it.

use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use zajil_actors::directory::FirstStart;

use crate::{files, show};

/// Somebody's number in an example; the simulated WhatsApp takes any.
const EXAMPLE_RECIPIENT: &str = "+966501234567";

/// What the first start made. Its `Debug` form shows no secret.
#[derive(Clone, Debug)]
pub struct Welcome {
    made: FirstStart,
    api: SocketAddr,
}

impl Welcome {
    /// What was made, for the API at this address.
    pub fn new(made: FirstStart, api: SocketAddr) -> Self {
        Self {
            made,
            api: files::reachable(api),
        }
    }

    /// The secret of the API key.
    pub fn key(&self) -> &str {
        self.made.key_text.reveal()
    }

    /// The file in a data folder that it is kept in.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("first-run.txt")
    }

    /// A line for a shell that sends a first message.
    pub fn curl(&self) -> String {
        format!(
            "curl -X POST http://{}/integration/v1/messages/send \\\n  \
             -H 'X-API-Key: {}' \\\n  \
             -H 'Content-Type: application/json' \\\n  \
             -d '{{\"instance\": \"{}\", \"recipient\": \"{EXAMPLE_RECIPIENT}\", \
             \"content\": \"Hello from Zajil!\"}}'",
            self.api,
            self.key(),
            self.made.instance.name,
        )
    }

    /// All of it, for people.
    pub fn text(&self) -> String {
        format!(
            "An empty store, so this was made to begin with (shown this once):\n\n\
             \x20 account   {}\n\
             \x20 login     {}\n\
             \x20 password  {}\n\
             \x20 API key   {}\n\
             \x20 instance  {} (a simulated WhatsApp)\n\n\
             Send a first message:\n\n{}\n",
            self.made.account.name,
            self.made.user.email,
            self.made.password,
            self.key(),
            self.made.instance.name,
            self.curl(),
        )
    }

    /// Keeps it in a file that only its owner can read. This comes before the store knows of it:
    /// however the process ends, what the store has made is in the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, data_dir: &Path) -> io::Result<()> {
        files::write_private(&Self::path(data_dir), &self.text())
    }

    /// Forgets what was kept.
    pub fn forget(data_dir: &Path) {
        let path = Self::path(data_dir);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove what a first start kept");
        }
    }

    /// Prints it on a terminal, where somebody reads it, and then forgets what was kept; elsewhere
    /// the output says where it is kept.
    pub fn tell(&self, data_dir: &Path) {
        if io::stdout().is_terminal() {
            show::say(&format!("\n{}", self.text()));
            Self::forget(data_dir);
        } else {
            show::say(&format!(
                "first start: the login, the API key and a first request are in {}",
                Self::path(data_dir).display()
            ));
        }
    }
}
