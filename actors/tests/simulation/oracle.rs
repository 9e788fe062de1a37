//! What must hold while it happens, looked at from outside: whoever hands a frame over is the only
//! one who can. And the story of a run, which a seed tells again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zajil_cluster::Ownership;
use zajil_model::id::{MessageId, Shard};

use crate::clock::SimClock;
use crate::rare::Reached;
use crate::wire::Wire;

/// A process that runs, as far as it can be seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) ownership: Ownership,
    pub(crate) clock: Arc<SimClock>,
}

impl Running {
    /// Whether it would hand over frames of a shard if it ran at that time.
    fn can_send(&self, shard: Shard, now: Duration) -> bool {
        let now = self.clock.mono_at(now);
        let held = self.ownership.epoch(shard);
        held.is_some_and(|epoch| self.ownership.may_send_for(shard, epoch, now))
    }
}

#[derive(Debug, Default)]
struct Inside {
    running: BTreeMap<u32, Running>,
    wrong: Option<String>,
    story: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    wire: Wire,
    pub(crate) reached: Arc<Reached>,
    /// Whether the story is kept in words.
    tells: bool,
    inside: Mutex<Inside>,
}

impl Oracle {
    pub(crate) fn new(wire: Wire, reached: Arc<Reached>, tells: bool) -> Arc<Self> {
        Arc::new(Self {
            wire,
            reached,
            tells,
            inside: Mutex::default(),
        })
    }

    pub(crate) fn begins(&self, process: u32, running: Running) {
        self.inside.lock().running.insert(process, running);
    }

    pub(crate) fn ends(&self, process: u32) {
        self.inside.lock().running.remove(&process);
    }

    /// A frame leaves a process.
    pub(crate) fn hands_over(&self, process: u32, id: MessageId, now: Duration) {
        self.trace(|| format!("{id} is handed over by process {process}"));
        let running = self.inside.lock().running.clone();
        for (other, seen) in running {
            if other != process && seen.can_send(id.giver(), now) {
                self.wrong(&format!(
                    "process {process} hands {id} over, and process {other} can send"
                ));
            }
        }
    }

    /// True time, at most a tick ago, wherever that is asked.
    pub(crate) fn now(&self) -> Duration {
        self.wire.now()
    }

    /// Something happened.
    pub(crate) fn trace(&self, what: impl Fn() -> String) {
        if self.tells {
            let line = format!("{:>12.3?} {}", self.wire.now(), what());
            self.inside.lock().story.push(line);
        }
    }

    /// Something is wrong.
    pub(crate) fn wrong(&self, what: &str) {
        self.trace(|| format!("WRONG: {what}"));
        let now = self.wire.now();
        let mut inside = self.inside.lock();
        inside
            .wrong
            .get_or_insert_with(|| format!("at {now:.3?}: {what}"));
    }

    pub(crate) fn what_is_wrong(&self) -> Option<String> {
        self.inside.lock().wrong.clone()
    }

    pub(crate) fn story(&self) -> Vec<String> {
        self.inside.lock().story.clone()
    }
}
