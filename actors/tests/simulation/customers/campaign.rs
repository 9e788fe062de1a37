//! A campaign, as who runs it knows it: what its rows are, what was asked for, and what was answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use zajil_actors::batch::{BatchText, Duplicates, NewBatch, NewRow, Progress};
use zajil_model::batch::BatchState;
use zajil_model::id::{BatchId, InstanceId};
use zajil_model::instance::Instance;
use zajil_model::message::OnAmbiguous;
use zajil_model::phone::Phone;

/// Each so many rows one is of a recipient that was there a few rows before.
const REPEATED: u64 = 7;

/// How many rows before.
const BEFORE: u64 = 3;

/// Each so many rows one has no name to be called by, and is refused.
const NAMELESS: u64 = 11;

/// A campaign and what is known of it; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    /// Its number in this world.
    pub(crate) number: usize,
    pub(crate) id: BatchId,
    pub(crate) instances: Vec<InstanceId>,
    pub(crate) plan: Plan,
    pub(crate) notes: Arc<Mutex<Notes>>,
}

/// What is to be done with a campaign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rows: u64,
    pub(crate) keeps_duplicates: bool,
    /// It is started when so many rows were answered.
    pub(crate) starts_at: u64,
    /// It is cancelled when so many rows were answered; `None` lets it finish.
    pub(crate) cancels_at: Option<u64>,
}

/// What was asked and answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Rows from 0 that somebody asked to be added.
    pub(crate) asked: u64,
    /// Rows from 0 that were answered as dealt with.
    pub(crate) answered: u64,
    /// The row to go on with.
    pub(crate) next: u64,
    /// The epoch of the campaign's shard under which rows were answered last.
    pub(crate) answered_under: u64,
    /// The same, when rows were brought last.
    pub(crate) brought_under: u64,
    /// The last upload was not answered.
    pub(crate) unanswered: bool,
    pub(crate) sealed: bool,
    /// When a start was asked for first.
    pub(crate) started_at: Option<Duration>,
    pub(crate) is_started: bool,
    /// What was asked for last, of pause and resume.
    pub(crate) paused: bool,
    /// Resumptions that are being asked for: a pause that is answered meanwhile proves nothing.
    pub(crate) resuming: u32,
    /// When the last of them ended.
    pub(crate) resumed_at: Duration,
    /// Pauses: when they were answered, and when their end was asked for.
    pub(crate) pauses: Vec<(Duration, Option<Duration>)>,
    /// When a cancel was answered as confirmed.
    pub(crate) cancelled_at: Option<Duration>,
    /// How it ended, once somebody was told.
    pub(crate) ended: Option<BatchState>,
    pub(crate) uploading: Errand,
    pub(crate) steering: Errand,
}

/// Something that was asked for and not answered yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Errand {
    /// Counts what was asked for: of what was overtaken little is written down.
    turn: u64,
    /// When nobody waits for it any more; `None` when it is answered.
    until: Option<Duration>,
}

impl Errand {
    pub(crate) fn is_out(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Begins the next one; answers its number.
    pub(crate) fn begin(&mut self, until: Duration) -> u64 {
        (self.turn, self.until) = (self.turn + 1, Some(until));
        self.turn
    }

    /// It is answered; false when it was overtaken.
    pub(crate) fn end(&mut self, turn: u64) -> bool {
        let last = self.turn == turn;
        if last {
            self.until = None;
        }
        last
    }
}

impl Campaign {
    pub(crate) fn plan(random: &mut SmallRng) -> Plan {
        let rows = random.random_range(15..50);
        let keeps_duplicates = random.random_bool(0.5);
        let mut some_row = |odds| {
            random
                .random_bool(odds)
                .then(|| random.random_range(0..rows))
        };
        Plan {
            rows,
            starts_at: some_row(0.7).unwrap_or(0),
            cancels_at: some_row(0.3),
            keeps_duplicates,
        }
    }

    pub(crate) fn new_batch(plan: &Plan, instances: &[Arc<Instance>]) -> NewBatch {
        NewBatch {
            name: "autumn".to_owned(),
            instances: instances.to_vec(),
            text: BatchText {
                content: "Hello {{name}}".to_owned(),
                template: None,
                variables: Vec::new(),
            },
            ttl_seconds: None,
            start_at: None,
            deadline: None,
            duplicates: if plan.keeps_duplicates {
                Duplicates::Keep
            } else {
                Duplicates::Skip
            },
            on_ambiguous: OnAmbiguous::Unknown,
        }
    }

    pub(crate) fn row(&self, row: u64) -> NewRow {
        let name = ("name".to_owned(), "Sara".to_owned());
        NewRow {
            recipient: self.recipient(row),
            variables: (!is_nameless(row)).then_some(name).into_iter().collect(),
            content: None,
            client_ref: Some(self.client_ref(row)),
        }
    }

    pub(crate) fn client_ref(&self, row: u64) -> String {
        format!("campaign-{}-{row}", self.number)
    }

    fn recipient(&self, row: u64) -> Phone {
        let row = if row % REPEATED == REPEATED - 1 {
            row - BEFORE
        } else {
            row
        };
        let text = format!("+966551{:02}{row:03}", self.number);
        Phone::parse(&text).expect("it is a number that can be")
    }

    /// What becomes of the rows before this one: the rows that are messages, those that are refused,
    /// and the counts of it.
    pub(crate) fn becomes(&self, rows: u64) -> (Vec<u64>, Vec<u64>, Progress) {
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        let (mut seen, mut duplicates) = (BTreeSet::new(), 0);
        for row in 0..rows {
            let recipient = self.recipient(row);
            if seen.contains(&recipient) {
                duplicates += 1;
            } else if is_nameless(row) {
                refused.push(row);
            } else {
                taken.push(row);
                if !self.plan.keeps_duplicates {
                    seen.insert(recipient);
                }
            }
        }
        let progress = Progress {
            rows_received: rows,
            taken: taken.len() as u64,
            duplicates,
            suppressed: 0,
            refused: refused.len() as u64,
        };
        (taken, refused, progress)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.notes.lock().ended.is_some()
    }
}

const fn is_nameless(row: u64) -> bool {
    row % NAMELESS == NAMELESS - 1
}
