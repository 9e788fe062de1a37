//! A disk that fills up: accepts are refused early, everything else goes on, and it passes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zajil_model::lifecycle::{Event, Status};
use zajil_model::message::Queue;
use zajil_storage::embedded::log::Failpoints;
use zajil_storage::embedded::space::{Room, Space};
use zajil_storage::{
    Budgets, EmbeddedConfig, EmbeddedStore, Entry, Health, MemoryStore, RowKey, RowWrite,
    StoreError, Table, Written,
};

use crate::compare::same;
use crate::model::Naive;
use crate::world::{Kind, SMALL, Still, World, long_message, message, runtime};

const MIB: u64 = 1 << 20;

/// What has to be free in these tests.
const MIN_FREE: u64 = 100 * MIB;

/// A file system of which a test says how much is free.
#[derive(Debug)]
struct Told {
    free: AtomicU64,
    looks: AtomicU64,
}

impl Space for Told {
    fn room(&self, _: &Path) -> io::Result<Room> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        Ok(Room {
            free: self.free.load(Ordering::SeqCst),
            size: 1 << 40,
        })
    }
}

impl Told {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            free: AtomicU64::new(1_000 * MIB),
            looks: AtomicU64::new(0),
        })
    }

    /// So much is free from now on, and the store has seen it.
    fn say(&self, free: u64) {
        self.free.store(free, Ordering::SeqCst);
        let before = self.looks.load(Ordering::SeqCst);
        // One look may have begun before.
        eventually("it looks", || {
            self.looks.load(Ordering::SeqCst) > before + 1
        });
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it never came about that {what}");
}

/// A store on a disk that tells `space`, its flushes counted.
fn open(dir: &Path, space: &Arc<Told>, flushes: &Arc<AtomicU64>) -> EmbeddedStore {
    let counted = Arc::clone(flushes);
    let failpoints = Failpoints::new(move |step| {
        if step == Failpoints::FLUSH {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let fatal = Arc::new(|reason: &str| panic!("the store failed: {reason}"));
    let config = EmbeddedConfig {
        segment_bytes: MIB,
        budgets: SMALL,
        min_free: Some(MIN_FREE),
        space: Arc::clone(space) as Arc<dyn Space>,
        failpoints,
        ..EmbeddedConfig::new(dir, Arc::new(Still), fatal)
    };
    EmbeddedStore::open(config).unwrap()
}

/// A world on a told disk.
fn told_world(space: &Arc<Told>, flushes: &Arc<AtomicU64>) -> World {
    let mut world = World::new(Kind::Embedded(SMALL));
    world.store = Arc::new(MemoryStore::new());
    world.store = Arc::new(open(world.dir.path(), space, flushes));
    world
}

async fn try_accept(world: &mut World, naive: &mut Naive, count: u64) -> Result<(), StoreError> {
    let chunk = world.chunk(1, Queue::Normal, (0..count).map(message).collect());
    let accept = Entry::Accept(Arc::clone(&chunk));
    world.append(1, vec![accept]).await?;
    naive.accept(&chunk);
    Ok(())
}

#[test]
fn little_free_space_refuses_accepts_until_a_quarter_more_is_free() {
    runtime().block_on(async {
        let (space, flushes) = (Told::new(), Arc::default());
        let mut world = told_world(&space, &flushes);
        let mut naive = Naive::default();
        try_accept(&mut world, &mut naive, 10).await.unwrap();
        let first = *naive.messages.keys().next().unwrap();

        space.say(MIN_FREE - 1);

        let refused = try_accept(&mut world, &mut naive, 1).await;
        assert_eq!(refused, Err(StoreError::Full));
        let Health::ReadOnly(reason) = world.store.health() else {
            panic!("{:?}", world.store.health());
        };
        assert!(reason.contains("99 MiB are free"), "{reason}");
        assert!(reason.contains("need 100 MiB"), "{reason}");
        let (at, event) = (world.now, Event::Attempt(1));
        naive.outcome(zajil_model::lifecycle::Outcome {
            id: first,
            at,
            event,
        });
        world.tell(1, vec![(first, event)]).await;
        let key = RowKey::new(Table::Contacts, "account", "row");
        let row = RowWrite::put(key, b"kept".to_vec());
        assert_eq!(world.store.write(vec![row]).await, Ok(Written::Applied));

        space.say(MIN_FREE + MIN_FREE / 4 - 1);
        let refused = try_accept(&mut world, &mut naive, 1).await;
        assert_eq!(refused, Err(StoreError::Full), "it stays so for a while");

        space.say(MIN_FREE + MIN_FREE / 4);
        assert_eq!(world.store.health(), Health::Ready);
        try_accept(&mut world, &mut naive, 10).await.unwrap();
        same(&world, &naive).await;
    });
}

#[test]
fn hardly_any_free_space_stops_flushes_and_segments_until_there_is_more() {
    runtime().block_on(async {
        let (space, flushes) = (Told::new(), Arc::<AtomicU64>::default());
        let mut world = told_world(&space, &flushes);
        let mut naive = Naive::default();
        try_accept(&mut world, &mut naive, 50).await.unwrap();
        eventually("it flushes", || flushes.load(Ordering::SeqCst) > 0);

        space.say(MIN_FREE / 2 - 1);
        let before = flushes.load(Ordering::SeqCst);
        let big = |n: u32| {
            let key = RowKey::new(Table::Contacts, "account", n.to_be_bytes());
            RowWrite::put(key, vec![7; 50_000])
        };
        let mut written = 0;
        let refused = loop {
            match world.store.write(vec![big(written)]).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, StoreError::Full);
        assert!(
            written > 20,
            "what was ready takes more than {written} rows"
        );
        assert_eq!(flushes.load(Ordering::SeqCst), before, "nothing is flushed");

        space.say(1_000 * MIB);
        eventually("it is ready again", || {
            world.store.health() == Health::Ready
        });
        eventually("it flushes", || flushes.load(Ordering::SeqCst) > before);
        try_accept(&mut world, &mut naive, 50).await.unwrap();
        same(&world, &naive).await;

        world.store = Arc::new(MemoryStore::new());
        world.store = Arc::new(open(world.dir.path(), &space, &flushes));
        same(&world, &naive).await;
        for n in 0..written {
            let row = world.store.row(&big(n).key).await.unwrap();
            assert!(row.is_some(), "row {n} was answered");
        }
    });
}

#[test]
fn a_store_closes_and_opens_without_room_and_retires_then() {
    runtime().block_on(async {
        let (space, flushes) = (Told::new(), Arc::default());
        let mut world = told_world(&space, &flushes);
        let mut naive = Naive::default();
        try_accept(&mut world, &mut naive, 10).await.unwrap();
        space.say(0);

        world.store.retire(world.now, Duration::ZERO).await.unwrap();
        world.store.close().await.unwrap();
        world.store = Arc::new(MemoryStore::new());
        world.store = Arc::new(open(world.dir.path(), &space, &flushes));

        let refused = try_accept(&mut world, &mut naive, 1).await;
        assert_eq!(refused, Err(StoreError::Full));
        same(&world, &naive).await;
    });
}

/// A file system of its own, in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None` where that is not allowed.
    fn mount(at: &Path, size: u64) -> Option<Self> {
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        let done = mounted.is_ok_and(|output| output.status.success());
        done.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg(&self.0).status();
        assert!(ended.unwrap().success(), "the small disk is given back");
    }
}

/// A file that takes what is free.
struct Filler(File);

impl Filler {
    /// Takes this many bytes; false when not all of them were left.
    fn take(&mut self, bytes: usize) -> bool {
        self.0.write_all(&vec![1; bytes]).is_ok()
    }
}

#[test]
fn a_full_disk_loses_nothing_and_passes_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 192 * MIB) else {
        println!("left out: only root may mount the small disk that this test fills");
        return;
    };
    let data = dir.path().join("data");
    let fatal = Arc::new(|reason: &str| panic!("the store failed: {reason}"));
    let config = EmbeddedConfig {
        segment_bytes: 4 * MIB,
        min_free: Some(32 * MIB),
        budgets: Budgets {
            flush_bytes: 1 << 20,
            ..Budgets::default()
        },
        ..EmbeddedConfig::new(&data, Arc::new(Still), fatal)
    };
    runtime().block_on(async {
        let mut world = World::new(Kind::Memory(SMALL));
        world.store = Arc::new(EmbeddedStore::open(config.clone()).unwrap());
        let mut naive = Naive::default();
        let file = dir.path().join("filler");
        let mut filler = Filler(File::create(&file).unwrap());

        // Somebody takes 1 MiB after the other while messages come.
        while filler.take(MIB as usize) {
            let accepted = accept_long(&mut world, &mut naive).await;
            assert!(matches!(accepted, Ok(()) | Err(StoreError::Full)));
            std::thread::sleep(Duration::from_millis(20));
        }
        while filler.take(512) {}
        assert_eq!(
            accept_long(&mut world, &mut naive).await,
            Err(StoreError::Full)
        );
        assert!(matches!(world.store.health(), Health::ReadOnly(_)));
        // For longer than a flush waits.
        let ids: Vec<_> = naive.messages.keys().copied().take(150).collect();
        for id in &ids {
            tell(&mut world, &mut naive, *id, Event::Attempt(1)).await;
            tell(&mut world, &mut naive, *id, Event::Acked).await;
            std::thread::sleep(Duration::from_millis(10));
        }
        let told = world.store.message(ids[149]).await.unwrap().unwrap();
        assert_eq!(told.state.status, Status::Sent);

        fs::remove_file(&file).unwrap();
        drop(filler);
        eventually("it is ready again", || {
            world.store.health() == Health::Ready
        });
        accept_long(&mut world, &mut naive).await.unwrap();
        same(&world, &naive).await;

        world.store = Arc::new(MemoryStore::new());
        world.store = Arc::new(EmbeddedStore::open(config).unwrap());
        same(&world, &naive).await;
        world.store = Arc::new(MemoryStore::new());
    });
    drop(disk);
}

async fn tell(world: &mut World, naive: &mut Naive, id: zajil_model::id::MessageId, event: Event) {
    let at = world.now;
    naive.outcome(zajil_model::lifecycle::Outcome { id, at, event });
    world.tell(1, vec![(id, event)]).await;
}

/// Accepts ten long messages.
async fn accept_long(world: &mut World, naive: &mut Naive) -> Result<(), StoreError> {
    let from = naive.messages.len() as u64;
    let messages = (from..from + 10).map(long_message).collect();
    let chunk = world.chunk(1, Queue::Normal, messages);
    let accept = Entry::Accept(Arc::clone(&chunk));
    world.append(1, vec![accept]).await?;
    naive.accept(&chunk);
    Ok(())
}
