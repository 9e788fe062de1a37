//! What nodes ask each other, with the number of each question.
//!
//! Fields may be added with `#[serde(default)]`; a question that changes its meaning gets a new
//! number. Numbers below 100 are about something with an owner, those from 100 about a node.

use std::time::Duration;

mod accepting;
mod batches;
mod instances;
mod nodes;
mod reading;
mod windows;

pub use accepting::{AcceptReserved, AskPromise, CancelMessage, ReserveIds, SendMessages};
pub use batches::{AddRows, AppendPart, ChangeBatch, PartGrew, SetPart, ViewBatch};
pub use instances::{
    ApplyInstance, ConnectInstance, ObserveInstance, PurgeInstance, RemoveInstance, ShowInstance,
    WaitingFor,
};
pub use nodes::{Handed, OptedOut, TakeShard};
pub use reading::{ReadChanges, ReadList, ReadMessage, ReadRecipients, ReadTotals};
pub use windows::AskWindow;

/// How long a read waits for the owner before it is answered from what is stored.
const READ_WITHIN: Duration = Duration::from_secs(2);
