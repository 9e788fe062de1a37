//! A store under test, and the words in which tests speak to it.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use zajil_model::id::{
    AccountId, BatchId, Epoch, InstanceId, MessageId, RequestId, Shard, ShardClock, Tick,
};
use zajil_model::lifecycle::{Event, Outcome};
use zajil_model::message::{Chunk, Message, OnAmbiguous, Payload, Queue};
use zajil_model::phone::Phone;
use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_storage::{
    Append, Budgets, CqlConfig, CqlStore, Cursor, EmbeddedConfig, EmbeddedStore, Entry,
    MemoryStore, StatusChange, Store, StoreError,
};

/// Monday, 2026-11-23 00:00 UTC.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_795_392_000);

/// How many steps of sweeping a test waits for.
const PATIENCE: usize = 10_000;

/// Small budgets, so that few messages do what a large backlog would.
pub(crate) const SMALL: Budgets = Budgets {
    flush_bytes: 3_000,
    hot_bytes: 8_000,
    body_bytes: 4_000,
    idle_heads: 2,
};

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        START
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(0)
    }
}

/// The kinds of store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Memory(Budgets),
    Embedded(Budgets),
    Cql(Budgets),
}

/// How a store is closed before it is opened again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Closed,
    Dropped,
}

/// A store, with the ids that its shards give.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) kind: Kind,
    pub(crate) dir: TempDir,
    pub(crate) now: Timestamp,
    pub(crate) last: Tick,
}

pub(crate) fn account() -> AccountId {
    AccountId::new(4_711).unwrap()
}

pub(crate) fn instance(number: u64) -> InstanceId {
    InstanceId::new(1_000 + number).unwrap()
}

pub(crate) fn part(number: u64) -> Queue {
    Queue::Part(BatchId::new(90_000 + number).unwrap())
}

pub(crate) fn phone(number: u64) -> Phone {
    Phone::from_digits(&format!("49151{number:07}")).unwrap()
}

pub(crate) fn message(number: u64) -> Message {
    Message {
        recipient: phone(number % 7),
        payload: Payload::Text(format!("hello, number {number}").into()),
        send_at: None,
        ttl_seconds: 86_400 - (number % 11) as u32,
        client_ref: number
            .is_multiple_of(3)
            .then(|| format!("ref-{}", number % 5).into()),
        on_ambiguous: OnAmbiguous::Unknown,
    }
}

/// A message with 4,000 letters that do not get smaller by packing, the same for each number.
pub(crate) fn long_message(number: u64) -> Message {
    let mut noise = number * 2 + 1;
    let text = std::iter::repeat_with(|| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        char::from(b' ' + (noise >> 8) as u8 % 95)
    });
    Message {
        payload: Payload::Text(text.take(4_000).collect::<String>().into()),
        ..message(number)
    }
}

impl World {
    pub(crate) fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(kind, &dir);
        Self {
            store,
            kind,
            dir,
            now: START,
            last: Tick(0),
        }
    }

    /// Time goes by.
    pub(crate) fn later(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    /// Closes or drops a store that keeps something and opens it again.
    pub(crate) async fn reopen(&mut self, ending: Ending) {
        if matches!(self.kind, Kind::Memory(_)) {
            return;
        }
        if matches!(ending, Ending::Closed) {
            self.store.close().await.unwrap();
        }
        self.store = Arc::new(MemoryStore::new());
        self.store = open(self.kind, &self.dir);
    }

    /// A chunk of an instance, with the next ids of its shard.
    pub(crate) fn chunk(&mut self, of: u64, queue: Queue, messages: Vec<Message>) -> Arc<Chunk> {
        self.chunk_of(of, queue, messages, false)
    }

    /// The same, of a bulk request, if it is one.
    pub(crate) fn chunk_of(
        &mut self,
        of: u64,
        queue: Queue,
        messages: Vec<Message>,
        bulk: bool,
    ) -> Arc<Chunk> {
        let shard = instance(of).shard();
        let count = messages.len() as u64 + 1;
        let mut clock = ShardClock::new(self.last, Tick(u64::MAX >> 11));
        let tick = clock.take(count, self.now).unwrap();
        self.last = clock.last();
        let first = MessageId::give(Tick(tick.0 + 1), shard);
        Arc::new(Chunk {
            account: account(),
            instance: instance(of),
            queue,
            first,
            created_at: self.now,
            bulk: bulk.then(|| BatchId::give(tick, shard)),
            request: RequestId(u128::from(tick.0)),
            messages,
        })
    }

    /// The epoch of a shard.
    pub(crate) async fn epoch(&self, shard: Shard) -> Epoch {
        self.store.open_shard(shard, None).await.unwrap().epoch
    }

    /// Appends and waits until it is durable and seen.
    pub(crate) async fn append(&self, of: u64, entries: Vec<Entry>) -> Result<(), StoreError> {
        let shard = instance(of).shard();
        let epoch = self.epoch(shard).await;
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        self.store.append(
            Append {
                shard,
                epoch,
                entries,
            },
            done,
        );
        receiver.recv().unwrap()
    }

    /// Claims the first attempts of messages of an instance.
    pub(crate) async fn claim(&self, of: u64, messages: &[MessageId]) -> Result<(), StoreError> {
        let shard = instance(of).shard();
        let epoch = self.epoch(shard).await;
        claim(&*self.store, shard, epoch, messages, self.now)
    }

    /// Accepts a chunk.
    pub(crate) async fn accept(&self, of: u64, chunk: &Arc<Chunk>) {
        self.append(of, vec![Entry::Accept(Arc::clone(chunk))])
            .await
            .unwrap();
    }

    /// Tells what became known of messages of an instance.
    pub(crate) async fn tell(&self, of: u64, events: Vec<(MessageId, Event)>) {
        let at = self.now;
        let outcomes = events
            .into_iter()
            .map(|(id, event)| Outcome { id, at, event });
        self.append(of, vec![Entry::Outcomes(outcomes.collect())])
            .await
            .unwrap();
    }

    /// Every change of the account, waiting for as many as are expected: mass cancels are told
    /// a stretch at a time.
    pub(crate) async fn changes(&self, expected: usize, page: usize) -> Vec<StatusChange> {
        for _ in 0..PATIENCE {
            let found = self.all_changes(page).await;
            if found.len() >= expected {
                return found;
            }
            // A write comes behind what is on its way.
            self.store.write(Vec::new()).await.unwrap();
        }
        self.all_changes(page).await
    }

    async fn all_changes(&self, page: usize) -> Vec<StatusChange> {
        let mut found = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let part = self.store.changes(account(), cursor, page).await.unwrap();
            if part.changes.is_empty() {
                return found;
            }
            found.extend(part.changes.into_iter().map(|(_, change)| change));
            cursor = part.next;
        }
    }
}

/// Claims the first attempts of messages under an epoch.
pub(crate) fn claim(
    store: &dyn Store,
    shard: Shard,
    epoch: Epoch,
    messages: &[MessageId],
    at: Timestamp,
) -> Result<(), StoreError> {
    let event = Event::Attempt(1);
    let attempts = messages.iter().map(|&id| Outcome { id, at, event });
    let append = Append {
        shard,
        epoch,
        entries: vec![Entry::Outcomes(attempts.collect())],
    };
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    store.claim(append, done);
    receiver.recv().unwrap()
}

/// Runs a test's story on its own thread.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

fn open(kind: Kind, dir: &TempDir) -> Arc<dyn Store> {
    match kind {
        Kind::Memory(budgets) => Arc::new(MemoryStore::with_budgets(budgets)),
        Kind::Embedded(budgets) => Arc::new(open_embedded(dir.path(), budgets)),
        Kind::Cql(budgets) => Arc::new(open_cql(&keyspace(dir), budgets)),
    }
}

/// Where a database for tests answers, if there is one.
pub(crate) fn database() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test has no other settings")]
    std::env::var("ZAJIL_TEST_CQL").ok()
}

/// A keyspace that goes with a directory: as unique as its name.
pub(crate) fn keyspace(dir: &TempDir) -> String {
    let name = dir.path().file_name().unwrap().to_str().unwrap();
    let plain = name.chars().filter(char::is_ascii_alphanumeric);
    format!("t_{}", plain.collect::<String>().to_lowercase())
}

/// Opens a store in a database, with the shards of the tests' instances.
pub(crate) fn open_cql(keyspace: &str, budgets: Budgets) -> CqlStore {
    let contact_points = vec![database().expect("only with a database")];
    let config = CqlConfig::new(contact_points, keyspace.to_owned(), Arc::new(Still));
    open_shared(CqlConfig {
        replication: 1,
        budgets,
        ..config
    })
}

/// The same, with these settings.
pub(crate) fn open_shared(config: CqlConfig) -> CqlStore {
    let store = CqlStore::open(config).unwrap();
    // Perhaps within a runtime, which cannot wait for another one.
    let open = async || {
        for of in 0..4 {
            let shard = instance(of).shard();
            store.open_shard(shard, None).await.unwrap();
        }
    };
    std::thread::scope(|threads| {
        let opening = threads.spawn(|| runtime().block_on(open()));
        opening.join().unwrap();
    });
    store
}

/// Opens an embedded store with small segments.
pub(crate) fn open_embedded(dir: &std::path::Path, budgets: Budgets) -> EmbeddedStore {
    let fatal = Arc::new(|reason: &str| panic!("the store failed: {reason}"));
    let config = EmbeddedConfig::new(dir, Arc::new(Still), fatal);
    EmbeddedStore::open(EmbeddedConfig {
        segment_bytes: 1 << 20,
        budgets,
        ..config
    })
    .unwrap()
}
