//! The life of a campaign; [`pick`] says which number writes to whom, [`eta`] when it is done.
//!
//! `draft → running ⇄ paused → finished | cancelled`; *sealed* (no more rows) is a flag beside the
//! state. A transition is stored first and told to every part after; telling is repeated until all
//! confirmed, so asking again for a state that is already there is no error.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

mod share;

pub use share::{MAX_ETA, eta, pick};

/// A batch that is not finished this long after it was made is cancelled: the 30 days that a start
/// may lie ahead and the 7 days of the longest time to live.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(37 * 86_400);

/// How long after the start of its batch a row may be sent, when nobody says: 7 days.
pub const DEFAULT_ROW_TTL_SECONDS: u32 = 7 * 86_400;

/// Numbers that may share a batch: each is told of every transition and has a part of its own.
pub const MAX_INSTANCES: usize = 100;

/// Where a batch is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// It takes rows and sends none.
    #[default]
    Draft,
    /// It sends.
    Running,
    /// It stands still; its rows do not age.
    Paused,
    /// It is sealed and every row is settled.
    Finished,
    /// A person withdrew it, or it never finished.
    Cancelled,
}

impl BatchState {
    /// Each of them, in the order of a life.
    pub const ALL: [Self; 5] = [
        Self::Draft,
        Self::Running,
        Self::Paused,
        Self::Finished,
        Self::Cancelled,
    ];

    /// The word that clients see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.label() == word)
    }

    /// Whether nothing happens any more.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled)
    }
}

impl fmt::Display for BatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What people ask of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Begin to send.
    Start,
    /// Stand still.
    Pause,
    /// Go on.
    Resume,
    /// Withdraw every row that is not settled.
    Cancel,
    /// Take no more rows.
    Seal,
}

impl Command {
    /// What was wanted, as it ends a sentence: "cannot be started".
    pub const fn participle(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Cancel => "cancelled",
            Self::Seal => "sealed",
        }
    }
}

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The batch changed: store it, then tell its parts.
    Changed,
    /// It was so before: tell the parts that have not confirmed.
    Unchanged,
}

/// A command that the state of the batch does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("a {state} batch cannot be {}", .command.participle())]
pub struct WrongState {
    /// The state that it is in.
    pub state: BatchState,
    /// What was asked.
    pub command: Command,
}

/// Why a command was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// The state does not allow it.
    #[error(transparent)]
    WrongState(#[from] WrongState),
    /// The batch changed since it was asked for.
    #[error("the batch changed since that was asked for")]
    Outdated,
}

/// The life of one batch, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Where it is.
    pub state: BatchState,
    /// Whether it takes no more rows. Only a sealed batch finishes.
    #[serde(default)]
    pub sealed: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was first started.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Since when it is paused; `None` while it is not.
    #[serde(default)]
    pub paused_since: Option<Timestamp>,
    /// Microseconds paused before that.
    #[serde(default)]
    paused_micros: u64,
    /// When it finished or was cancelled.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Raised at each change of state: of two that are told of one batch the higher is the newer.
    #[serde(default)]
    pub revision: u64,
    /// How often it was started, paused, resumed or cancelled by somebody, whether that changed it or not:
    /// so a change that was made before the last of them, and is stored late, does not find what it was made from.
    #[serde(default)]
    pub commands: u64,
}

impl Batch {
    /// A batch that is made now.
    pub const fn draft(now: Timestamp) -> Self {
        Self {
            state: BatchState::Draft,
            sealed: false,
            created_at: now,
            started_at: None,
            paused_since: None,
            paused_micros: 0,
            ended_at: None,
            revision: 0,
            commands: 0,
        }
    }

    /// Does what is asked, if the state allows it.
    pub fn command(&mut self, command: Command, now: Timestamp) -> Result<Effect, WrongState> {
        match command {
            Command::Start => self.start(now),
            Command::Pause => self.pause(now),
            Command::Resume => self.resume(now),
            Command::Cancel => self.cancel(now),
            Command::Seal => self.seal(),
        }
    }

    /// Does what was asked of the batch after so many [`commands`](Self::commands), if the state allows it.
    /// If there were others since, it is not started, paused or resumed by that: a copy of a command that
    /// comes late does not undo what was asked after it, and only confirms what is so by now. A cancel and
    /// a seal are for good, and undo nothing.
    pub fn command_after(
        &mut self,
        commands: u64,
        command: Command,
        now: Timestamp,
    ) -> Result<Effect, NotDone> {
        let mut changed = self.clone();
        let effect = changed.command(command, now)?;
        let is_for_good = matches!(command, Command::Cancel | Command::Seal);
        if effect == Effect::Changed && !is_for_good && commands != self.commands {
            return Err(NotDone::Outdated);
        }
        *self = changed;
        if command != Command::Seal {
            self.commands += 1;
        }
        Ok(effect)
    }

    /// Begins to send: `draft → running`.
    pub fn start(&mut self, now: Timestamp) -> Result<Effect, WrongState> {
        match self.state {
            BatchState::Draft => {
                self.enter(BatchState::Running);
                self.started_at = Some(now);
                Ok(Effect::Changed)
            }
            BatchState::Running => Ok(Effect::Unchanged),
            BatchState::Paused | BatchState::Finished | BatchState::Cancelled => {
                Err(self.refuse(Command::Start))
            }
        }
    }

    /// Stands still: `running → paused`.
    pub fn pause(&mut self, now: Timestamp) -> Result<Effect, WrongState> {
        match self.state {
            BatchState::Running => {
                self.enter(BatchState::Paused);
                self.paused_since = Some(now);
                Ok(Effect::Changed)
            }
            BatchState::Paused => Ok(Effect::Unchanged),
            BatchState::Draft | BatchState::Finished | BatchState::Cancelled => {
                Err(self.refuse(Command::Pause))
            }
        }
    }

    /// Goes on: `paused → running`.
    pub fn resume(&mut self, now: Timestamp) -> Result<Effect, WrongState> {
        match self.state {
            BatchState::Paused => {
                self.end_pause(now);
                self.enter(BatchState::Running);
                Ok(Effect::Changed)
            }
            BatchState::Running => Ok(Effect::Unchanged),
            BatchState::Draft | BatchState::Finished | BatchState::Cancelled => {
                Err(self.refuse(Command::Resume))
            }
        }
    }

    /// Withdraws what is not settled: everything but `finished` becomes `cancelled`.
    pub fn cancel(&mut self, now: Timestamp) -> Result<Effect, WrongState> {
        match self.state {
            BatchState::Draft | BatchState::Running | BatchState::Paused => {
                self.end(BatchState::Cancelled, now);
                Ok(Effect::Changed)
            }
            BatchState::Cancelled => Ok(Effect::Unchanged),
            BatchState::Finished => Err(self.refuse(Command::Cancel)),
        }
    }

    /// Takes no more rows.
    pub fn seal(&mut self) -> Result<Effect, WrongState> {
        if self.state == BatchState::Cancelled {
            return Err(self.refuse(Command::Seal));
        }
        let effect = if self.sealed {
            Effect::Unchanged
        } else {
            Effect::Changed
        };
        self.sealed = true;
        Ok(effect)
    }

    /// What time does to the batch: it finishes when it is sealed, was started and has no unsettled
    /// row, and is cancelled when it did not within [`GIVE_UP_AFTER`].
    pub fn review(&mut self, unsettled: u64, now: Timestamp) -> Effect {
        let sends = matches!(self.state, BatchState::Running | BatchState::Paused);
        if sends && self.sealed && unsettled == 0 {
            self.end(BatchState::Finished, now);
        } else if !self.state.is_ended() && now >= self.gives_up_at() {
            self.end(BatchState::Cancelled, now);
        } else {
            return Effect::Unchanged;
        }
        Effect::Changed
    }

    /// When it is cancelled if it is not finished by then.
    pub fn gives_up_at(&self) -> Timestamp {
        self.created_at + GIVE_UP_AFTER
    }

    /// Whether it takes rows.
    pub const fn takes_rows(&self) -> bool {
        !self.sealed && !self.state.is_ended()
    }

    /// How long it stood still so far.
    pub fn paused_total(&self, now: Timestamp) -> Duration {
        let pause = self
            .paused_since
            .map_or(Duration::ZERO, |since| now.since(since));
        Duration::from_micros(self.paused_micros) + pause
    }

    /// When a row of that time to live expires: counted from the start, time paused left out.
    /// `None` while the batch is not started or stands still, when no row ages.
    pub fn row_expires_at(&self, ttl_seconds: u32) -> Option<Timestamp> {
        let started = self.started_at?;
        if self.paused_since.is_some() {
            return None;
        }
        let alive = Duration::from_secs(u64::from(ttl_seconds));
        Some(started + alive + Duration::from_micros(self.paused_micros))
    }

    fn end(&mut self, state: BatchState, now: Timestamp) {
        self.end_pause(now);
        self.enter(state);
        self.ended_at = Some(now);
    }

    fn enter(&mut self, state: BatchState) {
        self.state = state;
        self.revision += 1;
    }

    fn end_pause(&mut self, now: Timestamp) {
        let total = self.paused_total(now).as_micros();
        self.paused_micros = u64::try_from(total).unwrap_or(u64::MAX);
        self.paused_since = None;
    }

    const fn refuse(&self, command: Command) -> WrongState {
        WrongState {
            state: self.state,
            command,
        }
    }
}
