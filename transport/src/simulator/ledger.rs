//! The ledger of a simulator process: every frame that it got, a JSON object a line.
//!
//! A frame is in the ledger, and the ledger with the operating system, before anything is told of
//! it. So whatever the engine believes to be sent, the ledger holds.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use zajil_model::id::InstanceId;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;
use zajil_model::wa_id::WaId;

use super::fate::Frame;

/// One frame that the simulator got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerLine {
    /// The WhatsApp id.
    pub id: WaId,
    /// The instance that sent it.
    pub instance: InstanceId,
    /// Who it was for.
    #[serde(with = "e164")]
    pub recipient: Phone,
    /// When the engine handed it to its transport, by the engine's clock.
    pub handed_over_at: Timestamp,
    /// When the simulator got it, by the simulator's clock.
    pub received_at: Timestamp,
    /// The attempt, from 1.
    pub attempt: u8,
    /// Whether the recipient is shown it by this frame.
    pub shown: bool,
}

/// A phone number as people write it: `+966501234567`.
mod e164 {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use zajil_model::phone::Phone;

    pub(super) fn serialize<S: Serializer>(phone: &Phone, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(phone)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Phone, D::Error> {
        let text = String::deserialize(from)?;
        Phone::parse(&text).map_err(|_| de::Error::custom("recipient is not in E.164"))
    }
}

/// Reads a ledger, oldest line first. A line that is being written at its end is left out.
///
/// # Errors
/// When the file cannot be opened. A line that cannot be read, or is no ledger line, is an error
/// in its place.
pub fn read_ledger(path: &Path) -> io::Result<impl Iterator<Item = io::Result<LedgerLine>>> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut text = String::new();
    Ok(std::iter::from_fn(move || {
        text.clear();
        match reader.read_line(&mut text) {
            Ok(_) if !text.ends_with('\n') => None,
            Ok(_) => Some(serde_json::from_str(&text).map_err(io::Error::from)),
            Err(error) => Some(Err(error)),
        }
    }))
}

/// Writes a ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: File,
    buffer: Vec<u8>,
}

impl Ledger {
    /// Appends to the ledger at `path`, which is made when it is not there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file,
            buffer: Vec::new(),
        })
    }

    /// Writes frames, with whether each is shown, to the operating system: it survives the end of
    /// this process, not that of the machine.
    pub(crate) fn append(
        &mut self,
        instance: InstanceId,
        frames: &[Frame],
        shown: &[bool],
        received_at: Timestamp,
    ) -> io::Result<()> {
        self.buffer.clear();
        for (frame, &shown) in frames.iter().zip(shown) {
            let line = LedgerLine {
                id: frame.wa_id,
                instance,
                recipient: frame.recipient,
                handed_over_at: frame.handed_over_at,
                received_at,
                attempt: frame.attempt,
                shown,
            };
            serde_json::to_writer(&mut self.buffer, &line)?;
            self.buffer.push(b'\n');
        }
        self.file.write_all(&self.buffer)
    }
}
