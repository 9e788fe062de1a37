//! The two books of a scenario: what the customer was promised, and what WhatsApp got.

use std::path::Path;

use serde::Deserialize;
use zajil_model::lifecycle::Status;
use zajil_model::message::Lane;

/// A message that was accepted: written down *after* its 2xx was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The id that the answer gave it.
    pub id: u64,
    /// The customer's own name of it; unique in a scenario.
    pub client_ref: String,
    /// Who it is for.
    pub recipient: String,
    /// The instance that is to send it.
    pub instance: u64,
    /// Its lane.
    pub lane: Lane,
    /// The request that it came with, and its place there.
    pub request: (u64, usize),
    /// When the request began and when its answer was read: microseconds of the wall clock.
    pub asked: (i64, i64),
}

/// A message of a request whose answer was lost: it may have been accepted, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indeterminate {
    /// The customer's own name of it.
    pub client_ref: String,
}

/// What the customer knows.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// What was promised.
    pub accepted: Vec<Accepted>,
    /// What may have been.
    pub indeterminate: Vec<Indeterminate>,
    /// The statuses of requests that were refused.
    pub refused: Vec<u16>,
}

/// What the API says of a message in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    /// Its id.
    pub id: u64,
    /// The customer's own name of it.
    pub client_ref: String,
    /// Who it is for.
    pub recipient: String,
    /// Its status.
    pub status: Status,
    /// WhatsApp's id of it, where the API tells it.
    pub wa_id: Option<String>,
}

/// A line of a simulator's ledger: one frame that it got.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Frame {
    /// WhatsApp's id of the message.
    pub id: String,
    /// The instance that sent it.
    pub instance: u64,
    /// Who it was for.
    pub recipient: String,
    /// When the engine handed it over: microseconds of the wall clock.
    pub handed_over_at: i64,
    /// When the simulator got it.
    pub received_at: i64,
    /// The attempt, from 1.
    pub attempt: u8,
    /// Whether the recipient was shown it by this frame.
    pub shown: bool,
}

/// Every frame of a simulator's ledger, in the order in which it got them. A last line that is
/// still being written is left out.
///
/// # Panics
/// The ledger cannot be read, or holds something else than frames.
pub fn read(path: &Path) -> Vec<Frame> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("cannot read {}: {error}", path.display()),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    whole.lines().map(read).collect()
}
