//! The parent of a batch, as an actor.
//!
//! One change at a time: decided by the model, stored under a condition, told to every instance; and so
//! is what changes nothing, because another node may have changed the row. What is asked meanwhile waits. Nothing is awaited here; tasks do it and their answers come back as
//! messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use zajil_model::batch::{BatchState, Command, Effect, NotDone};
use zajil_model::time::Mono;
use zajil_storage::{StoreError, Totals, Written};

use super::job::{Job, Reply};
use super::record::BatchRecord;
use super::{BatchError, BatchPorts, Shared, keep, rate, tell};
use crate::directory::rows::decode;
use crate::send::Barrier;

/// Commands that wait for their turn: people press a button a few times, not more.
const WAITING: usize = 32;

/// How often a change is tried again because somebody else changed the row.
const CHANGE_ROUNDS: u32 = 5;

/// How long after a round of telling the ones that did not confirm are told again.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// How long nobody looks at a batch that does nothing by itself before its actor stops.
const IDLE: Duration = Duration::from_secs(120);

/// What the parent of a batch is told.
pub(super) enum ParentMsg {
    /// Somebody asks for a change, after so many commands.
    Command(Command, u64, Reply),
    /// Time has passed.
    Review,
    /// Its messages were counted.
    Counted(Result<Totals, StoreError>),
    /// A change was stored, or not.
    Stored(Box<Change>, Result<Written, StoreError>),
    /// Instances were told; these did not confirm.
    Told(Job, Vec<String>),
}

/// A change on its way to the store.
pub(super) struct Change {
    job: Job,
    record: BatchRecord,
    bytes: Vec<u8>,
    round: u32,
}

/// The parent of one batch.
pub(super) struct Parent {
    pub(super) ports: BatchPorts,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct ParentState {
    /// The bytes of the row, as far as this actor knows.
    stored: Vec<u8>,
    /// A change is on its way, or instances are being told.
    busy: bool,
    /// Messages are being counted.
    counting: bool,
    waiting: VecDeque<(Command, u64, Reply)>,
    /// When those who have not confirmed are told again; `None` when all have.
    tell_again: Option<Mono>,
}

impl Actor for Parent {
    type Msg = ParentMsg;
    type State = ParentState;
    type Arguments = Vec<u8>;

    async fn pre_start(
        &self,
        _myself: ActorRef<ParentMsg>,
        stored: Vec<u8>,
    ) -> Result<ParentState, ActorProcessingErr> {
        let state = self.shared.record().life.state;
        // The actor before this one may have stored a change and not told it.
        let untold = !matches!(state, BatchState::Draft | BatchState::Finished);
        let now = self.ports.clock.mono();
        Ok(ParentState {
            stored,
            busy: false,
            counting: false,
            waiting: VecDeque::new(),
            tell_again: untold.then_some(now),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ParentMsg>,
        message: ParentMsg,
        state: &mut ParentState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ParentMsg::Command(command, after, reply) if state.busy => {
                if state.waiting.len() < WAITING {
                    state.waiting.push_back((command, after, reply));
                } else {
                    let busy = BatchError::Unavailable("too many commands for one batch");
                    // Who asked may have left.
                    reply.send(Err(busy)).ok();
                }
            }
            ParentMsg::Command(command, after, reply) => {
                self.begin(&myself, state, Job::Asked(command, after, reply), 0);
            }
            ParentMsg::Review => self.review(&myself, state),
            ParentMsg::Counted(totals) => self.counted(&myself, state, totals),
            ParentMsg::Stored(change, written) => self.stored(&myself, state, *change, written),
            ParentMsg::Told(job, missing) => self.told(&myself, state, job, missing),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ParentMsg>,
        _state: &mut ParentState,
    ) -> Result<(), ActorProcessingErr> {
        self.shared.close().await;
        Ok(())
    }
}

impl Parent {
    /// Decides what a job changes, and stores it.
    fn begin(&self, myself: &ActorRef<ParentMsg>, state: &mut ParentState, job: Job, round: u32) {
        let mut record = BatchRecord::clone(&self.shared.record());
        match self.decide(&job, &mut record) {
            Err(refused) => {
                job.answer(Err(refused.into()));
                self.go_on(myself, state);
            }
            // Stored all the same: the row may say something else by now, and it decides.
            Ok(Effect::Unchanged) if job.is_told() && !matches!(job, Job::Reviewed(_)) => {
                self.store(myself, state, job, record, round);
            }
            Ok(Effect::Unchanged) => {
                job.answer(Ok(Barrier::confirmed()));
                self.go_on(myself, state);
            }
            Ok(Effect::Changed) => self.store(myself, state, job, record, round),
        }
    }

    fn decide(&self, job: &Job, record: &mut BatchRecord) -> Result<Effect, NotDone> {
        let now = self.ports.clock.now();
        match job {
            Job::Asked(command, after, _) => record.life.command_after(*after, *command, now),
            Job::Due => Ok(record.life.start(now)?),
            Job::Reviewed(unsettled) => Ok(record.life.review(*unsettled, now)),
            Job::TellAgain => Ok(Effect::Unchanged),
        }
    }

    fn store(
        &self,
        myself: &ActorRef<ParentMsg>,
        state: &mut ParentState,
        job: Job,
        record: BatchRecord,
        round: u32,
    ) {
        state.busy = true;
        let (write, bytes) = keep::change(&record, state.stored.clone());
        let mut writes = vec![write];
        if record.life.state == BatchState::Finished {
            // Nothing of it is unsettled, so nobody has to be told.
            writes.push(keep::over(record.id));
        }
        let change = Box::new(Change {
            job,
            record,
            bytes,
            round,
        });
        let (store, myself) = (Arc::clone(&self.ports.store), myself.clone());
        self.ports.tracker.spawn(async move {
            let written = store.write(writes).await;
            // A parent that is gone answers nobody; who asked finds the next one.
            myself.send_message(ParentMsg::Stored(change, written)).ok();
        });
    }

    fn stored(
        &self,
        myself: &ActorRef<ParentMsg>,
        state: &mut ParentState,
        change: Change,
        written: Result<Written, StoreError>,
    ) {
        let Change {
            job,
            record,
            bytes,
            round,
        } = change;
        match written {
            Ok(Written::Applied) => {
                state.stored = bytes;
                *self.shared.record.write() = Arc::new(record);
                self.tell(myself, state, job);
            }
            Ok(Written::Conflict {
                current: Some(current),
                ..
            }) if round < CHANGE_ROUNDS => {
                state.busy = false;
                match decode("batch", &current) {
                    Ok(record) => {
                        state.stored = current;
                        *self.shared.record.write() = Arc::new(record);
                        self.begin(myself, state, job, round + 1);
                    }
                    Err(error) => self.fail(myself, state, job, error.into()),
                }
            }
            Ok(Written::Conflict {
                current: Some(_), ..
            }) => {
                let error = BatchError::Unavailable("others change the batch again and again");
                self.fail(myself, state, job, error);
            }
            Ok(Written::Conflict { current: None, .. }) => {
                self.fail(myself, state, job, BatchError::NotFound);
            }
            Err(error) => self.fail(myself, state, job, error.into()),
        }
    }

    /// What the row holds is not known: the next who asks finds a new parent, which reads it.
    fn fail(
        &self,
        myself: &ActorRef<ParentMsg>,
        state: &mut ParentState,
        job: Job,
        error: BatchError,
    ) {
        for (_, _, reply) in state.waiting.drain(..) {
            // Who asked may have left.
            reply.send(Err(error.clone())).ok();
        }
        job.answer(Err(error));
        myself.stop(None);
    }

    fn tell(&self, myself: &ActorRef<ParentMsg>, state: &mut ParentState, job: Job) {
        state.busy = true;
        let (ports, shared, myself) =
            (self.ports.clone(), Arc::clone(&self.shared), myself.clone());
        self.ports.tracker.spawn(async move {
            tell::after_block(&shared).await;
            let record = shared.record();
            let finished = record.life.state == BatchState::Finished;
            let missing = if job.is_told() && !finished {
                tell::tell_all(&ports, &record).await
            } else {
                Vec::new()
            };
            if missing.is_empty() && record.life.state == BatchState::Cancelled {
                // Everybody knows; it need not be woken after a start any more.
                if let Err(error) = ports.store.write(vec![keep::over(record.id)]).await {
                    tracing::warn!(batch = %record.id, %error, "cannot close a batch");
                }
            }
            // A parent that is gone answers nobody; who asked finds the next one.
            myself.send_message(ParentMsg::Told(job, missing)).ok();
        });
    }

    fn told(
        &self,
        myself: &ActorRef<ParentMsg>,
        state: &mut ParentState,
        job: Job,
        missing: Vec<String>,
    ) {
        if job.is_told() {
            let again = self.ports.clock.mono() + TELL_AGAIN;
            state.tell_again = (!missing.is_empty()).then_some(again);
        }
        job.answer(Ok(Barrier { missing }));
        self.go_on(myself, state);
    }

    fn go_on(&self, myself: &ActorRef<ParentMsg>, state: &mut ParentState) {
        state.busy = false;
        if let Some((command, after, reply)) = state.waiting.pop_front() {
            self.begin(myself, state, Job::Asked(command, after, reply), 0);
        }
    }

    /// What has to be done because time has passed.
    fn review(&self, myself: &ActorRef<ParentMsg>, state: &mut ParentState) {
        if state.busy || state.counting {
            return;
        }
        let record = self.shared.record();
        let (now, mono) = (self.ports.clock.now(), self.ports.clock.mono());
        let life = &record.life;
        if (!life.takes_rows() || mono.since(self.shared.used_at()) >= IDLE)
            && let Ok(mut upload) = self.shared.upload.try_lock()
        {
            upload.forget();
        }
        if state.tell_again.is_some_and(|again| again <= mono) {
            self.begin(myself, state, Job::TellAgain, 0);
        } else if !life.state.is_ended() && now >= life.gives_up_at() {
            self.begin(myself, state, Job::Reviewed(u64::MAX), 0);
        } else if life.state == BatchState::Draft {
            if record.start_at.is_some_and(|at| at <= now) {
                self.begin(myself, state, Job::Due, 0);
            } else if record.start_at.is_none() && self.is_idle(mono) {
                myself.stop(None);
            }
        } else if !life.state.is_ended() {
            self.count(myself, state, &record);
        } else if state.tell_again.is_none() && self.is_idle(mono) {
            myself.stop(None);
        }
    }

    fn is_idle(&self, now: Mono) -> bool {
        now.since(self.shared.used_at()) >= IDLE && self.shared.upload.try_lock().is_ok()
    }

    fn count(&self, myself: &ActorRef<ParentMsg>, state: &mut ParentState, record: &BatchRecord) {
        state.counting = true;
        let (store, filter) = (Arc::clone(&self.ports.store), record.totals_filter());
        let myself = myself.clone();
        self.ports.tracker.spawn(async move {
            let totals = store.totals(filter).await;
            // A parent that is gone has no use for it.
            myself.send_message(ParentMsg::Counted(totals)).ok();
        });
    }

    fn counted(
        &self,
        myself: &ActorRef<ParentMsg>,
        state: &mut ParentState,
        totals: Result<Totals, StoreError>,
    ) {
        state.counting = false;
        let counts = match totals {
            Ok(totals) => totals.all,
            Err(error) => {
                tracing::warn!(%error, "cannot count the messages of a batch");
                return;
            }
        };
        self.shared
            .rate
            .lock()
            .note(self.ports.clock.mono(), rate::settled(&counts));
        let taken = self.shared.progress.lock().taken;
        let complete = counts.iter().sum::<u64>() >= taken;
        if complete
            && rate::unsettled(&counts) == 0
            && !state.busy
            && self.shared.record().life.sealed
        {
            self.begin(myself, state, Job::Reviewed(0), 0);
        }
    }
}
