//! Appends and writes that share a group, stopped where a test wants to look.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zajil_model::id::Epoch;
use zajil_model::lifecycle::{Event, Outcome};
use zajil_model::message::{Chunk, Queue};
use zajil_model::refusal::{Failure, Reason};
use zajil_storage::embedded::log::Failpoints;
use zajil_storage::{
    Append, Budgets, Condition, Done, EmbeddedConfig, EmbeddedStore, Entry, MemoryStore, RowKey,
    RowWrite, Store, StoreError, Table, Written,
};

use crate::compare::same;
use crate::model::Naive;
use crate::world::{Kind, SMALL, Still, World, instance, message, open_embedded, runtime};

/// Steps of a store that wait for the test, or are counted.
struct Steps {
    /// The next group is told, and written when it is said.
    holds: AtomicBool,
    reached: Sender<()>,
    go_on: Mutex<Receiver<()>>,
    /// Whether flushes fail.
    no_flush: AtomicBool,
    /// Groups that were handed to the projector.
    handed_on: AtomicU64,
}

impl Steps {
    fn hit(&self, step: &str) -> io::Result<()> {
        match step {
            Failpoints::BEFORE_WRITE if self.holds.swap(false, Ordering::SeqCst) => {
                self.reached.send(()).unwrap();
                self.go_on.lock().unwrap().recv().unwrap();
            }
            Failpoints::FLUSH if self.no_flush.load(Ordering::SeqCst) => {
                return Err(io::Error::other("nothing more is flushed in this test"));
            }
            Failpoints::AFTER_ACK => {
                self.handed_on.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A store with its steps, and the test's ends of what they wait for.
struct Stepped {
    store: Arc<EmbeddedStore>,
    steps: Arc<Steps>,
    is_reached: Receiver<()>,
    go_on: Sender<()>,
}

impl Stepped {
    fn open(dir: &Path) -> Self {
        let (reached, is_reached) = channel();
        let (go_on, waits) = channel();
        let steps = Arc::new(Steps {
            holds: AtomicBool::new(false),
            reached,
            go_on: Mutex::new(waits),
            no_flush: AtomicBool::new(false),
            handed_on: AtomicU64::new(0),
        });
        let hits = Arc::clone(&steps);
        let config = EmbeddedConfig {
            segment_bytes: 1 << 20,
            failpoints: Failpoints::new(move |step| hits.hit(step)),
            ..EmbeddedConfig::new(dir, Arc::new(Still), Arc::new(|_| {}))
        };
        Self {
            store: Arc::new(EmbeddedStore::open(config).unwrap()),
            steps,
            is_reached,
            go_on,
        }
    }

    /// Appends something whose group is not written before it is said: what comes meanwhile
    /// gathers in the next group.
    fn hold(&self, append: Append, done: Done) {
        self.steps.holds.store(true, Ordering::SeqCst);
        self.store.append(append, done);
        self.is_reached.recv().unwrap();
    }
}

fn append(epoch: Epoch, entry: Entry) -> Append {
    Append {
        shard: instance(1).shard(),
        epoch,
        entries: vec![entry],
    }
}

/// Sends the answer on.
fn tells(answered: &Sender<Result<(), StoreError>>) -> Done {
    let answered = answered.clone();
    Box::new(move |result| answered.send(result).unwrap())
}

fn row(name: &str, value: u8) -> RowWrite {
    RowWrite::put(RowKey::new(Table::Contacts, "account", name), vec![value])
}

/// A row that makes its group a large one, which is applied by the projector.
fn large_row(name: &str) -> RowWrite {
    RowWrite::put(
        RowKey::new(Table::Contacts, "account", name),
        vec![0; 64 << 10],
    )
}

/// A chunk of two messages, accepted.
async fn accepted(world: &mut World, naive: &mut Naive) -> (Epoch, Arc<Chunk>) {
    let chunk = world.chunk(1, Queue::Normal, vec![message(1), message(2)]);
    naive.accept(&chunk);
    world.accept(1, &chunk).await;
    (world.epoch(instance(1).shard()).await, chunk)
}

#[test]
fn a_replay_leaves_out_what_a_flush_in_the_middle_of_its_group_has() {
    let mut world = World::new(Kind::Memory(SMALL));
    let stepped = Stepped::open(world.dir.path());
    world.store = Arc::clone(&stepped.store) as Arc<dyn Store>;
    let mut naive = Naive::default();
    let (epoch, chunk) = runtime().block_on(accepted(&mut world, &mut naive));
    let at = world.now;
    let mut outcome = |index, event| {
        let id = chunk.id(index);
        let outcome = Outcome { id, at, event };
        naive.outcome(outcome);
        outcome
    };
    let failure = Failure {
        reason: Reason::Temporary,
        code: 503,
    };
    let retry_at = at + Duration::from_secs(5);
    // Applied a second time, this would tell only the last two, in the place of the first two.
    let middle = vec![
        outcome(1, Event::Acked),
        outcome(0, Event::Attempt(1)),
        outcome(0, Event::Refused { failure, retry_at }),
    ];
    let last = vec![outcome(1, Event::Delivered)];

    let (answered, answers) = channel();
    let first = append(epoch, Entry::Rows(vec![row("first", 1)]));
    stepped.hold(first, tells(&answered));
    let backup = world.dir.path().join("backup");
    let (store, steps) = (Arc::clone(&stepped.store), Arc::clone(&stepped.steps));
    let answered_too = answered.clone();
    let flush: Done = Box::new(move |result| {
        // It runs between the two: a backup flushes what is applied.
        let done = std::thread::scope(|threads| {
            let backup = threads.spawn(|| runtime().block_on(store.backup(&backup)));
            backup.join().unwrap()
        });
        steps.no_flush.store(true, Ordering::SeqCst);
        answered_too.send(result.and(done)).unwrap();
    });
    let store = &stepped.store;
    store.append(append(epoch, Entry::Outcomes(middle)), flush);
    store.append(append(epoch, Entry::Outcomes(last)), tells(&answered));
    stepped.go_on.send(()).unwrap();
    for _ in 0..3 {
        assert_eq!(answers.recv().unwrap(), Ok(()));
    }

    world.store = Arc::new(MemoryStore::new());
    drop(stepped);
    runtime().block_on(async {
        world.store = Arc::new(open_embedded(world.dir.path(), Budgets::default()));
        same(&world, &naive).await;
        world.store = Arc::new(MemoryStore::new());
    });
}

#[test]
fn a_condition_sees_what_is_written_before_it_and_not_projected_yet() {
    let mut world = World::new(Kind::Memory(SMALL));
    let stepped = Stepped::open(world.dir.path());
    world.store = Arc::clone(&stepped.store) as Arc<dyn Store>;
    let (epoch, _) = runtime().block_on(accepted(&mut world, &mut Naive::default()));
    let (answered, answers) = channel();
    let first = append(epoch, Entry::Rows(vec![row("first", 1)]));
    stepped.hold(first, tells(&answered));

    // The projector stops before it gets to the claims of the next group.
    let (stopped, is_stopped) = channel();
    let (release, released) = channel::<()>();
    let stops: Done = Box::new(move |_| {
        stopped.send(()).unwrap();
        released.recv().unwrap();
    });
    let second = append(epoch, Entry::Rows(vec![large_row("second")]));
    stepped.store.append(second, stops);
    let claim = |value| vec![row("name", value).when(Condition::Absent)];
    let store = &stepped.store;
    let found = runtime().block_on(async {
        let go_on = async {
            stepped.go_on.send(()).unwrap();
            is_stopped.recv().unwrap();
        };
        let late = async {
            let before = stepped.steps.handed_on.load(Ordering::SeqCst);
            let waits = store.write(claim(3));
            let decided = async {
                while stepped.steps.handed_on.load(Ordering::SeqCst) == before {
                    std::thread::yield_now();
                }
                release.send(()).unwrap();
            };
            tokio::join!(waits, decided).0
        };
        // Polled in this order: both claims wait when the group before them is written.
        let later = async {
            go_on.await;
            late.await
        };
        tokio::join!(store.write(claim(1)), store.write(claim(2)), later)
    });

    let lost = Ok(Written::Conflict {
        key: row("name", 1).key,
        current: Some(vec![1]),
    });
    assert_eq!(found, (Ok(Written::Applied), lost.clone(), lost));
    assert_eq!(answers.recv().unwrap(), Ok(()));
}

#[test]
fn a_small_group_waits_for_the_large_one_before_it() {
    let mut world = World::new(Kind::Memory(SMALL));
    let stepped = Stepped::open(world.dir.path());
    world.store = Arc::clone(&stepped.store) as Arc<dyn Store>;
    let epoch = runtime().block_on(world.epoch(instance(1).shard()));
    let (answered, answers) = channel();
    let (release, released) = channel::<()>();
    // Let go when the test ends too, however it ends.
    let stops: Done = Box::new(move |_| released.recv().unwrap_or_default());
    let handed_on = || stepped.steps.handed_on.load(Ordering::SeqCst);
    let commit = |row, done| {
        let before = handed_on();
        stepped
            .store
            .append(append(epoch, Entry::Rows(vec![row])), done);
        while handed_on() == before {
            std::thread::yield_now();
        }
    };

    commit(large_row("large"), stops);
    commit(row("small", 1), tells(&answered));

    assert!(answers.try_recv().is_err());
    release.send(()).unwrap();
    assert_eq!(answers.recv().unwrap(), Ok(()));
}
