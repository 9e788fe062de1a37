//! Damage to a store that is stopped: what was answered is there, or it is said what is not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use zajil_model::id::MessageId;
use zajil_model::message::{Chunk, Payload, Queue};
use zajil_storage::embedded::log::{Failpoints, LogError};
use zajil_storage::{
    EmbeddedConfig, EmbeddedStore, Health, ListFilter, ListRequest, MemoryStore, OpenError,
    StoreError,
};

use crate::compare::same;
use crate::model::Naive;
use crate::world::{Ending, Kind, SMALL, Still, World, instance, long_message, message, runtime};

const MIB: u64 = 1 << 20;

fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        segment_bytes: MIB,
        ..EmbeddedConfig::new(dir, Arc::new(Still), Arc::new(|_| {}))
    }
}

/// A world that flushes nothing: its projection knows nothing until the sender is dropped, and
/// then its store has failed.
fn unflushed() -> (World, Sender<()>) {
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let failpoints = Failpoints::new(move |step| {
        if step == Failpoints::FLUSH && receiver.lock().unwrap().recv().is_err() {
            return Err(io::Error::other("nothing is flushed in this test"));
        }
        Ok(())
    });
    let mut world = World::new(Kind::Memory(SMALL));
    let config = EmbeddedConfig {
        failpoints,
        ..config(world.dir.path())
    };
    world.store = Arc::new(EmbeddedStore::open(config).unwrap());
    (world, sender)
}

/// Ends the store without a flush.
fn end(world: &mut World, held: Sender<()>) {
    drop(held);
    world.store = Arc::new(MemoryStore::new());
}

async fn accept_some(world: &mut World, naive: &mut Naive, count: u64) {
    for n in 0..count {
        let chunk = world.chunk(n % 3, Queue::Normal, (0..5).map(message).collect());
        naive.accept(&chunk);
        world.accept(n % 3, &chunk).await;
    }
}

/// Accepts a message whose text is found in the log as it is.
async fn accept_marked(world: &mut World, text: &str) -> Arc<Chunk> {
    let mut marked = message(1);
    marked.payload = Payload::Text(text.into());
    let chunk = world.chunk(1, Queue::Normal, vec![marked]);
    world.accept(1, &chunk).await;
    chunk
}

fn first_segment(dir: &Path) -> PathBuf {
    dir.join("log").join("000000000001.seg")
}

/// Flips a bit of a text in a file.
fn flip(file: &Path, text: &str) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes());
    bytes[at.unwrap() + 3] ^= 4;
    fs::write(file, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_torn_end_costs_what_was_being_written_and_nothing_that_was_answered() {
    runtime().block_on(async {
        let (mut world, held) = unflushed();
        let mut naive = Naive::default();
        accept_some(&mut world, &mut naive, 20).await;
        let segment = first_segment(world.dir.path());
        let before = fs::read(&segment).unwrap();
        let torn = accept_marked(&mut world, "this one was being written").await;
        end(&mut world, held);
        let after = fs::read(&segment).unwrap();
        let written = (0..after.len()).filter(|at| before[*at] != after[*at]);
        let written: Vec<usize> = written.collect();
        let (first, last) = (written[0], *written.last().unwrap());

        for cut in [first + 1, (first + last) / 2, last] {
            let dir = tempfile::tempdir().unwrap();
            copy(world.dir.path(), dir.path());
            let mut bytes = before.clone();
            bytes[first..cut].copy_from_slice(&after[first..cut]);
            fs::write(first_segment(dir.path()), bytes).unwrap();

            world.store = Arc::new(EmbeddedStore::open(config(dir.path())).unwrap());
            same(&world, &naive).await;
            assert!(world.store.message(torn.first).await.unwrap().is_none());
            let later = accept_marked(&mut world, "this one came afterwards").await;
            world.store = Arc::new(MemoryStore::new());
            world.store = Arc::new(EmbeddedStore::open(config(dir.path())).unwrap());
            let found = world.store.message(later.first).await.unwrap();
            assert!(found.is_some(), "the torn end is cut once");
            world.store = Arc::new(MemoryStore::new());
        }
    });
}

#[test]
fn a_flipped_bit_in_what_is_still_to_be_replayed_refuses_to_open_and_says_where() {
    runtime().block_on(async {
        let (mut world, held) = unflushed();
        let mut naive = Naive::default();
        accept_some(&mut world, &mut naive, 5).await;
        let marked = accept_marked(&mut world, "the text that is spoiled").await;
        naive.accept(&marked);
        accept_some(&mut world, &mut naive, 5).await;
        end(&mut world, held);
        let segment = first_segment(world.dir.path());
        let whole = fs::read(&segment).unwrap();

        flip(&segment, "the text that is spoiled");
        let refused = EmbeddedStore::open(config(world.dir.path())).err().unwrap();

        let OpenError::Log(LogError::Corrupt { file, offset, .. }) = &refused else {
            panic!("{refused}");
        };
        assert_eq!(file, &segment);
        let said = refused.to_string();
        assert!(said.contains(&segment.display().to_string()), "{said}");
        assert!(
            said.contains(&format!("corrupt at byte {offset}")),
            "{said}"
        );
        fs::write(&segment, whole).unwrap();
        world.store = Arc::new(EmbeddedStore::open(config(world.dir.path())).unwrap());
        same(&world, &naive).await;
        world.store = Arc::new(MemoryStore::new());
    });
}

#[test]
fn a_flipped_bit_in_an_older_segment_spoils_its_chunk_and_nothing_else() {
    runtime().block_on(async {
        let mut world = World::new(Kind::Embedded(SMALL));
        let mut naive = Naive::default();
        let spoiled = accept_marked(&mut world, "the text that is spoiled").await;
        for n in 0..60_u64 {
            let messages = (0..10).map(|m| long_message(n * 10 + m)).collect();
            let chunk = world.chunk(2, Queue::Normal, messages);
            naive.accept(&chunk);
            world.accept(2, &chunk).await;
        }
        world.store.close().await.unwrap();
        world.store = Arc::new(MemoryStore::new());

        flip(&first_segment(world.dir.path()), "the text that is spoiled");
        world.reopen(Ending::Dropped).await;

        for _ in 0..2 {
            let Err(StoreError::Corrupt { what, detail }) =
                world.store.message(spoiled.first).await
            else {
                panic!("it was not seen")
            };
            assert_eq!(what, "log");
            assert!(
                detail.contains("000000000001.seg is corrupt at byte"),
                "{detail}"
            );
        }
        assert_eq!(world.store.health(), Health::Ready);
        for (id, known) in &naive.messages {
            let found = world.store.message(*id).await.unwrap().unwrap();
            assert_eq!(found.message(), &known.chunk.messages[known.index]);
        }
        assert_eq!(listed(&world, 2).await.unwrap(), naive.messages.len());
        let refused = listed(&world, 1).await;
        assert!(
            matches!(refused, Err(StoreError::Corrupt { .. })),
            "{refused:?}"
        );
        accept_some(&mut world, &mut naive, 3).await;
    });
}

/// How many messages an instance lists.
async fn listed(world: &World, of: u64) -> Result<usize, StoreError> {
    let filter = ListFilter {
        instances: vec![instance(of)],
        ..ListFilter::default()
    };
    let mut before: Option<MessageId> = None;
    let mut count = 0;
    loop {
        let request = ListRequest {
            filter: filter.clone(),
            before,
            skip: 0,
            limit: 100,
        };
        let page = world.store.list(request).await?;
        count += page.messages.len();
        match page.next {
            Some(next) => before = Some(next),
            None => return Ok(count),
        }
    }
}
