//! What the made-up WhatsApp saw: its ledger, read along while it grows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use zajil_tests::ledger::Frame;

use super::load::{Recipient, recipient};

/// Everything that was seen so far.
#[derive(Debug)]
pub(crate) struct Seen {
    ledger: File,
    /// The beginning of a line whose end was not written yet.
    rest: Vec<u8>,
    /// When each instance handed something over, in microseconds of the wall clock, in the order of
    /// the ledger.
    hand_overs: BTreeMap<u64, Vec<i64>>,
    shown: BTreeMap<Recipient, u32>,
    /// When each WhatsApp id was first handed over.
    ids: BTreeMap<String, i64>,
    /// Frames whose WhatsApp id was there before.
    pub(crate) again: Vec<Again>,
}

/// A frame whose WhatsApp id was there before. Times are microseconds of the wall clock.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Again {
    instance: u64,
    attempt: u8,
    /// When the id was first handed over.
    first_at: i64,
    /// When this frame was.
    again_at: i64,
}

impl Seen {
    /// Begins at the beginning of a ledger.
    pub(crate) fn of(ledger: &Path) -> Result<Self> {
        Ok(Self {
            ledger: File::open(ledger).context("cannot open the ledger")?,
            rest: Vec::new(),
            hand_overs: BTreeMap::new(),
            shown: BTreeMap::new(),
            ids: BTreeMap::new(),
            again: Vec::new(),
        })
    }

    /// Reads what was written since.
    pub(crate) fn catch_up(&mut self) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.rest);
        self.ledger
            .read_to_end(&mut bytes)
            .context("cannot read the ledger")?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        self.rest = bytes.split_off(whole);
        for line in bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let frame = serde_json::from_slice(line).context("the ledger holds something else")?;
            self.note(frame);
        }
        Ok(())
    }

    fn note(&mut self, frame: Frame) {
        let stamps = self.hand_overs.entry(frame.instance).or_default();
        stamps.push(frame.handed_over_at);
        if let Some(recipient) = recipient(&frame.recipient).filter(|_| frame.shown) {
            *self.shown.entry(recipient).or_default() += 1;
        }
        let (instance, attempt, again_at) = (frame.instance, frame.attempt, frame.handed_over_at);
        match self.ids.entry(frame.id) {
            Entry::Vacant(first) => {
                first.insert(again_at);
            }
            Entry::Occupied(first) => self.again.push(Again {
                instance,
                attempt,
                first_at: *first.get(),
                again_at,
            }),
        }
    }

    /// When an instance handed something over, in order.
    pub(crate) fn hand_overs(&self, instance: u64) -> Vec<i64> {
        let mut stamps = self.hand_overs.get(&instance).cloned().unwrap_or_default();
        stamps.sort_unstable();
        stamps
    }

    /// When an instance first handed something over after `at`.
    pub(crate) fn first_after(&self, instance: u64, at: i64) -> Option<i64> {
        let stamps = self.hand_overs.get(&instance)?;
        stamps.iter().copied().filter(|stamp| *stamp > at).min()
    }

    /// Of those who were promised a message, how many were not shown it.
    pub(crate) fn missing(&self, promised: &BTreeSet<Recipient>) -> usize {
        let missing = promised.iter().filter(|one| !self.shown.contains_key(one));
        missing.count()
    }

    /// How many were shown a message twice, or more often.
    pub(crate) fn shown_twice(&self) -> usize {
        self.shown.values().filter(|times| **times > 1).count()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(id: &str, recipient: u32, at: i64) -> String {
        format!(
            "{{\"id\":\"{id}\",\"instance\":7,\"recipient\":\"+9665{recipient:08}\",\
             \"handed_over_at\":{at},\"received_at\":{at},\"attempt\":1,\"shown\":true}}\n"
        )
    }

    #[test]
    fn a_line_that_is_being_written_is_read_when_it_is_whole() {
        let mut ledger = tempfile::NamedTempFile::new().unwrap();
        let mut seen = Seen::of(ledger.path()).unwrap();
        let (first, second) = (line("a", 1, 10), line("b", 2, 20));
        let (begin, end) = second.split_at(30);

        write!(ledger, "{first}{begin}").unwrap();
        seen.catch_up().unwrap();
        let before = seen.hand_overs(7);
        write!(ledger, "{end}").unwrap();
        seen.catch_up().unwrap();

        assert_eq!((before, seen.hand_overs(7)), (vec![10], vec![10, 20]));
        assert_eq!(seen.first_after(7, 10), Some(20));
    }

    #[test]
    fn who_was_shown_nothing_is_missing_and_who_was_shown_two_is_told() {
        let mut ledger = tempfile::NamedTempFile::new().unwrap();
        let mut seen = Seen::of(ledger.path()).unwrap();

        write!(
            ledger,
            "{}{}{}",
            line("a", 1, 10),
            line("b", 1, 20),
            line("a", 2, 30)
        )
        .unwrap();
        seen.catch_up().unwrap();

        assert_eq!(seen.missing(&[1, 2, 3].into()), 1);
        assert_eq!(seen.shown_twice(), 1);
        let again = Again {
            instance: 7,
            attempt: 1,
            first_at: 10,
            again_at: 30,
        };
        assert_eq!(seen.again, [again]);
    }
}
