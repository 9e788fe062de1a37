//! A store in memory whose reads can be slow, damaged or deadly, and whose appends can be refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use zajil_model::id::{InstanceId, Shard};
use zajil_model::lifecycle::Event;
use zajil_storage::{Append, Done, Entry, MemoryStore, Store};

#[path = "trouble/port.rs"]
mod port;

/// Appends that are not written yet.
#[derive(Default)]
struct Waiting(Vec<(Append, Done)>);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waiting").field(&self.0.len()).finish()
    }
}

/// The store, and what troubles it.
#[derive(Debug, Default)]
pub struct TroubledStore {
    inner: MemoryStore,
    read_ms: AtomicU64,
    /// How long a read waits for its turn, and how many reads began.
    turn_ms: AtomicU64,
    begun: AtomicUsize,
    cancels_to_refuse: AtomicUsize,
    outcomes_to_refuse: AtomicUsize,
    refused: AtomicUsize,
    messages_read: AtomicUsize,
    /// Whether the next append that accepts holds up its thread.
    holds_up: AtomicBool,
    /// Whether what is accepted is void: of an append only its rows stay.
    voids: AtomicBool,
    /// Appends that wait, while none is written.
    waiting: Mutex<Option<Waiting>>,
    damaged: AtomicBool,
    /// A shard whose partition answers nothing.
    hangs: Mutex<Option<Shard>>,
    unanswered: Mutex<Waiting>,
    /// How long a claim takes to be answered, and how many are answered that it is not known.
    claim_ms: AtomicU64,
    claims_to_doubt: AtomicUsize,
    claims: AtomicUsize,
    /// How long it takes to read whose a batch is.
    batches_ms: AtomicU64,
    /// The number of each attempt that was to be written.
    attempts: Mutex<Vec<u8>>,
    /// Whether the next reservation of a day waits, and until when.
    holds_reservation: AtomicBool,
    reservation_goes_on: Notify,
    checkpoints_away: AtomicBool,
    /// An instance of which nobody can read whose it is; 0 is none.
    instance_away: AtomicU64,
    leases_away: AtomicBool,
    /// How long it takes to find out what has work.
    work_ms: AtomicU64,
    /// An instance whose checkpoint kills who reads it; 0 is none.
    deadly: AtomicU64,
}

impl TroubledStore {
    /// From now on appends wait.
    pub fn appends_wait(&self) {
        self.waiting.lock().get_or_insert_default();
    }

    /// Appends are written again, those that waited first.
    pub fn appends_go_on(&self) {
        let waited = self.waiting.lock().take().unwrap_or_default();
        for (append, done) in waited.0 {
            self.append(append, done);
        }
    }

    /// The first append that waits is written; the others go on waiting.
    pub fn one_append_goes_on(&self) {
        let first = {
            let mut waiting = self.waiting.lock();
            let waiting = waiting.as_mut().map(|waiting| &mut waiting.0);
            waiting
                .filter(|all| !all.is_empty())
                .map(|all| all.remove(0))
        };
        let (append, done) = first.expect("an append waits");
        self.inner.append(append, done);
    }

    /// How many appends wait.
    pub fn appends_waiting(&self) -> usize {
        let waiting = self.waiting.lock();
        waiting.as_ref().map_or(0, |waiting| waiting.0.len())
    }

    /// From now on a read of a queue or the schedule takes so long to come back.
    pub fn reads_take(&self, time: Duration) {
        self.read_ms
            .store(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// From now on a read of a queue, or of recipients, waits so long for its turn: it sees what is there
    /// by then.
    pub fn reads_wait(&self, time: Duration) {
        self.turn_ms
            .store(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// Reads of queues that began.
    pub fn reads_begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// The next so many appends that cancel are refused.
    pub fn refuse_cancels(&self, count: usize) {
        self.cancels_to_refuse.store(count, Ordering::Relaxed);
    }

    /// The next so many appends of outcomes are refused.
    pub fn refuse_outcomes(&self, count: usize) {
        self.outcomes_to_refuse.store(count, Ordering::Relaxed);
    }

    /// The next append that accepts stops its thread for as long as others need to overtake it.
    pub fn hold_up_an_accept(&self) {
        self.holds_up.store(true, Ordering::Relaxed);
    }

    /// From now on what is accepted comes too late to count, or counts again: in a database the rows
    /// that come with it are written all the same.
    pub fn accepts_are_void(&self, void: bool) {
        self.voids.store(void, Ordering::Relaxed);
    }

    /// Whether the append that was to be held up is.
    pub fn holds_up_an_accept(&self) -> bool {
        !self.holds_up.load(Ordering::Relaxed)
    }

    /// From now on an append of claims takes so long to be answered.
    pub fn claims_take(&self, time: Duration) {
        self.claim_ms
            .store(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// Of the next so many appends of claims it is not known whether they count: they do.
    pub fn doubt_claims(&self, count: usize) {
        self.claims_to_doubt.store(count, Ordering::Relaxed);
    }

    /// Appends of claims.
    pub fn claims(&self) -> usize {
        self.claims.load(Ordering::Relaxed)
    }

    /// From now on it takes so long to read whose a batch is.
    pub fn batches_take(&self, time: Duration) {
        self.batches_ms
            .store(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// The number of each attempt that was to be written, whether it was or not.
    pub fn attempts(&self) -> Vec<u8> {
        self.attempts.lock().clone()
    }

    /// From now on queues cannot be read, or can be again.
    pub fn damage_queues(&self, damaged: bool) {
        self.damaged.store(damaged, Ordering::Relaxed);
    }

    /// The next reservation of a daily cap is on its way for long.
    pub fn hold_a_reservation(&self) {
        self.holds_reservation.store(true, Ordering::Relaxed);
    }

    /// Whether one is on its way.
    pub fn holds_a_reservation(&self) -> bool {
        !self.holds_reservation.load(Ordering::Relaxed)
    }

    /// The reservation that was held comes.
    pub fn reservation_comes(&self) {
        self.reservation_goes_on.notify_one();
    }

    /// From now on checkpoints cannot be read, or can be again.
    pub fn take_checkpoints_away(&self, away: bool) {
        self.checkpoints_away.store(away, Ordering::Relaxed);
    }

    /// From now on it cannot be read whose this instance is; or that of none.
    pub fn take_away(&self, instance: Option<InstanceId>) {
        let id = instance.map_or(0, InstanceId::get);
        self.instance_away.store(id, Ordering::Relaxed);
    }

    /// From now on no lease is written, or each is again.
    pub fn take_leases_away(&self, away: bool) {
        self.leases_away.store(away, Ordering::Relaxed);
    }

    /// From now on it takes so long to find out what has work.
    pub fn work_takes(&self, time: Duration) {
        self.work_ms
            .store(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// From now on the actor of this instance panics when it starts; or that of none.
    pub fn kill_actors_of(&self, instance: Option<InstanceId>) {
        let id = instance.map_or(0, InstanceId::get);
        self.deadly.store(id, Ordering::Relaxed);
    }

    /// Appends that were refused.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Messages that reads of queues brought.
    pub fn messages_read(&self) -> usize {
        self.messages_read.load(Ordering::Relaxed)
    }

    /// From now on nothing of this shard is answered, or all is again.
    pub fn hang(&self, shard: Option<Shard>) {
        *self.hangs.lock() = shard;
    }

    async fn answers(&self, shard: Shard) {
        while *self.hangs.lock() == Some(shard) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn slowly<T>(&self, answer: T) -> T {
        let time = self.read_ms.load(Ordering::Relaxed);
        if time > 0 {
            tokio::time::sleep(Duration::from_millis(time)).await;
        }
        answer
    }

    fn note_attempts(&self, append: &Append) {
        for entry in &append.entries {
            if let Entry::Outcomes(outcomes) = entry {
                let attempts = outcomes.iter().filter_map(|outcome| match outcome.event {
                    Event::Attempt(number) => Some(number),
                    _ => None,
                });
                self.attempts.lock().extend(attempts);
            }
        }
    }

    fn refuses(&self, append: &Append) -> bool {
        let cancels = append.entries.iter().any(|entry| match entry {
            Entry::CancelAll { .. } => true,
            Entry::Outcomes(outcomes) => {
                let cancelled = Event::Cancelled;
                outcomes.iter().any(|outcome| outcome.event == cancelled)
            }
            Entry::Accept(_) | Entry::Rows(_) | Entry::Known(_) | Entry::Told { .. } => false,
        });
        let outcomes = append
            .entries
            .iter()
            .any(|entry| matches!(entry, Entry::Outcomes(_)));
        let one_less = |left: &AtomicUsize| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
        };
        (cancels && one_less(&self.cancels_to_refuse))
            || (outcomes && one_less(&self.outcomes_to_refuse))
    }
}

/// A store in memory that can be troubled, twice: to trouble it, and to give it to an engine.
pub fn troubled() -> (Arc<TroubledStore>, Arc<dyn Store>) {
    let store = Arc::new(TroubledStore::default());
    (store.clone(), store)
}
