//! The bucket of one key, as an actor.
//!
//! Requests count in its [`Counter`] by themselves while there is room in what is reserved; the actor
//! reserves. It waits for nothing: the row is read and written by tasks whose answers come back as messages,
//! and requests that need a reservation are kept until it is durable. Writes are conditional on what
//! was last read or written, so two buckets of one key (one stopping, one starting) never both
//! reserve the same requests.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::TaskTracker;
use zajil_model::id::KeyId;
use zajil_model::quota::{Reservation, Take as Taken, Window};
use zajil_model::time::{Clock, Timestamp};
use zajil_storage::{Condition, RowKey, RowWrite, Store, StoreError, Table, Written};

use super::{Ask, Quota, Take, Unavailable};
use crate::directory::rows::{decode, encode, number};

/// What buckets are given.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tracker: TaskTracker,
}

/// Where requests of a key are counted. It never lets more through than what is durable, so one
/// that outlives its actor for a moment does no harm.
#[derive(Debug, Default)]
pub(super) struct Counter {
    /// The window; the actor takes it out while it does not know what is durable.
    window: Option<Window>,
    /// Whether the actor was told that little is left.
    told: bool,
}

impl Counter {
    /// The answer, and whether the actor is to be told that little is left; `None` when the request
    /// has to wait for the actor.
    pub(super) fn answer(&mut self, ask: Ask, limit: u64, now: Timestamp) -> Option<(Quota, bool)> {
        let window = self.window.as_mut()?;
        let Taken::Answered(quota) = ask_of(window, ask, limit, now) else {
            return None;
        };
        let low = !self.told && window.is_low(now, limit);
        self.told |= low;
        Some((quota, low))
    }
}

fn ask_of(window: &mut Window, ask: Ask, limit: u64, now: Timestamp) -> Taken {
    match ask {
        Ask::Count => window.take(now, limit),
        Ask::Look => Taken::Answered(window.peek(now, limit)),
    }
}

/// What a bucket is told.
pub(super) enum BucketMsg {
    /// A request waits to be counted.
    Take(Take),
    /// Little is left of what is reserved, under this limit.
    Low(u64),
    /// The row was read: its bytes.
    Loaded(Result<Option<Vec<u8>>, StoreError>),
    /// A reservation was written, or not.
    Written(Reservation, Result<Outcome, StoreError>),
    /// Nobody asked for a while: write what was used and stop.
    Passivate,
}

/// What became of a write: the bytes that the row holds now.
pub(super) enum Outcome {
    Applied(Vec<u8>),
    Conflict(Option<Vec<u8>>),
}

/// What the bucket is doing with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Reading,
    Resting,
    Writing,
    /// Writing what was really used, to stop afterwards.
    Parting,
}

pub(super) struct BucketState {
    row: Row,
    /// What the row holds, as far as this bucket knows.
    stored: Option<Vec<u8>>,
    /// Requests that wait for the row; bounded by the gate.
    waiting: VecDeque<Take>,
    /// It was asked to stop while it was busy with its row.
    leaving: bool,
}

/// The bucket of one key.
pub(super) struct BucketActor {
    pub(super) key: KeyId,
    pub(super) ports: Ports,
    pub(super) counter: Arc<Mutex<Counter>>,
}

impl Actor for BucketActor {
    type Msg = BucketMsg;
    type State = BucketState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<BucketMsg>,
        (): (),
    ) -> Result<BucketState, ActorProcessingErr> {
        self.read(myself);
        Ok(BucketState {
            row: Row::Reading,
            stored: None,
            waiting: VecDeque::new(),
            leaving: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<BucketMsg>,
        message: BucketMsg,
        state: &mut BucketState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BucketMsg::Take(take) => self.count(&myself, state, take),
            BucketMsg::Low(limit) => self.reserve_ahead(&myself, state, limit),
            BucketMsg::Loaded(Ok(stored)) => self.recover(&myself, state, stored),
            BucketMsg::Loaded(Err(error)) => {
                // The next request opens a new bucket, which reads again.
                state.refuse(&Unavailable::Store(error));
                myself.stop(None);
            }
            BucketMsg::Written(reservation, written) => {
                self.written(&myself, state, reservation, written);
            }
            BucketMsg::Passivate => state.leaving = true,
        }
        if state.leaving && state.row == Row::Resting && state.waiting.is_empty() {
            state.leaving = false;
            self.part(&myself, state);
        }
        Ok(())
    }
}

impl BucketActor {
    fn row_key(&self) -> RowKey {
        RowKey::new(Table::Buckets, number(self.key.get()), [])
    }

    /// Counts a request, or keeps it until it can be counted.
    fn count(&self, myself: &ActorRef<BucketMsg>, state: &mut BucketState, take: Take) {
        let (now, limit) = (self.ports.clock.now(), take.limit);
        let taken = {
            let mut counter = self.counter.lock();
            let window = counter.window.as_mut();
            window.map(|window| ask_of(window, take.ask, limit, now))
        };
        match taken {
            None => state.waiting.push_back(take),
            Some(Taken::Answered(answer)) => {
                // The client may have left.
                take.reply.send(Ok(answer)).ok();
                self.reserve_ahead(myself, state, limit);
            }
            Some(Taken::MustReserve(reservation)) => {
                state.waiting.push_back(take);
                if state.row == Row::Resting {
                    self.write(myself, state, reservation, Row::Writing);
                }
            }
        }
    }

    /// Reserves before anybody has to wait for it, if little is left.
    fn reserve_ahead(&self, myself: &ActorRef<BucketMsg>, state: &mut BucketState, limit: u64) {
        let now = self.ports.clock.now();
        let wanted = {
            let mut counter = self.counter.lock();
            counter.told = false;
            let window = counter.window.as_mut();
            window
                .filter(|_| state.row == Row::Resting)
                .and_then(|window| window.needs_reservation(now, limit))
        };
        if let Some(reservation) = wanted {
            self.write(myself, state, reservation, Row::Writing);
        }
    }

    /// Begins again from what the row holds: all that was reserved counts as used.
    fn recover(
        &self,
        myself: &ActorRef<BucketMsg>,
        state: &mut BucketState,
        stored: Option<Vec<u8>>,
    ) {
        let saved = stored
            .as_deref()
            .map(|bytes| decode("bucket", bytes))
            .transpose();
        match saved {
            Ok(saved) => {
                self.counter.lock().window = Some(Window::recovered(saved));
                state.stored = stored;
                state.row = Row::Resting;
                self.count_waiting(myself, state);
            }
            Err(error) => {
                tracing::error!(key = %self.key, %error, "the window of a key is unreadable");
                state.refuse(&Unavailable::Store(error));
                myself.stop(None);
            }
        }
    }

    fn written(
        &self,
        myself: &ActorRef<BucketMsg>,
        state: &mut BucketState,
        reservation: Reservation,
        written: Result<Outcome, StoreError>,
    ) {
        let parting = state.row == Row::Parting;
        match written {
            Ok(Outcome::Applied(stored)) if parting => {
                if state.waiting.is_empty() {
                    myself.stop(None);
                } else {
                    // Requests came while it was writing: it goes on from what it wrote.
                    self.recover(myself, state, Some(stored));
                }
            }
            Ok(Outcome::Applied(stored)) => {
                if let Some(window) = &mut self.counter.lock().window {
                    window.reserved(reservation);
                }
                state.stored = Some(stored);
                state.row = Row::Resting;
                self.count_waiting(myself, state);
            }
            Ok(Outcome::Conflict(current)) => self.recover(myself, state, current),
            Err(error) => {
                tracing::warn!(key = %self.key, %error, "cannot reserve requests of a key");
                state.refuse(&Unavailable::Store(error));
                // What the row holds is not known: a new bucket reads it.
                myself.stop(None);
            }
        }
    }

    fn count_waiting(&self, myself: &ActorRef<BucketMsg>, state: &mut BucketState) {
        for _ in 0..state.waiting.len() {
            if let Some(take) = state.waiting.pop_front() {
                self.count(myself, state, take);
            }
        }
    }

    /// Writes what was really used, so that the rest of the reservation is not lost.
    fn part(&self, myself: &ActorRef<BucketMsg>, state: &mut BucketState) {
        let saved = state
            .stored
            .as_deref()
            .and_then(|bytes| decode("bucket", bytes).ok());
        let now = self.ports.clock.now();
        let saved = saved.filter(|saved: &Reservation| now < saved.reset());
        // Requests wait from here on, so that what was used stays what is written.
        let window = self.counter.lock().window.take();
        let Some((saved, window)) = saved.zip(window) else {
            // No window is open: there is nothing to keep.
            myself.stop(None);
            return;
        };
        let used = u64::MAX - window.peek(now, u64::MAX).remaining;
        let exact = Reservation {
            start: saved.start,
            upto: used.min(saved.upto),
        };
        if exact == saved {
            myself.stop(None);
        } else {
            self.write(myself, state, exact, Row::Parting);
        }
    }

    fn read(&self, myself: ActorRef<BucketMsg>) {
        let (store, row) = (Arc::clone(&self.ports.store), self.row_key());
        self.ports.tracker.spawn(async move {
            let loaded = store.row(&row).await.map(|row| row.map(|row| row.value));
            // A bucket that is gone has nobody waiting.
            myself.send_message(BucketMsg::Loaded(loaded)).ok();
        });
    }

    fn write(
        &self,
        myself: &ActorRef<BucketMsg>,
        state: &mut BucketState,
        reservation: Reservation,
        row: Row,
    ) {
        state.row = row;
        let bytes = encode(&reservation);
        let condition = state
            .stored
            .clone()
            .map_or(Condition::Absent, Condition::Is);
        let write = RowWrite::put(self.row_key(), bytes.clone()).when(condition);
        let (store, myself) = (Arc::clone(&self.ports.store), myself.clone());
        self.ports.tracker.spawn(async move {
            let written = store.write(vec![write]).await.map(|written| match written {
                Written::Applied => Outcome::Applied(bytes),
                Written::Conflict { current, .. } => Outcome::Conflict(current),
            });
            // A bucket that is gone has nobody waiting.
            myself
                .send_message(BucketMsg::Written(reservation, written))
                .ok();
        });
    }
}

impl BucketState {
    /// Tells all who wait that they are not counted.
    fn refuse(&mut self, why: &Unavailable) {
        for take in self.waiting.drain(..) {
            // The client may have left.
            take.reply.send(Err(why.clone())).ok();
        }
    }
}
