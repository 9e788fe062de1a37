//! The one thread that writes: it takes everything that waits and makes one group of it.
//!
//! Group commit without a timer: while one group is being synced the next one gathers in the
//! queue, so groups grow with the load and a lone record waits for nobody. Producers never wait
//! here: a push is taken or refused at once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::{Failpoints, FileLog, Group, LogError, Lsn, RECORD_OVERHEAD};

/// A group is closed at this many payload bytes (or with a single larger item): large enough
/// that the sync is a small part of its time, small enough that the first one in it does not
/// wait long (4 MiB are about 10 ms on a common SSD).
pub const GROUP_BYTES: usize = 4 << 20;

/// What may wait, in bytes, before accepts are refused: about half a second of a fast disk.
pub const QUEUE_BYTES: usize = 64 << 20;

/// What may wait, in items, before accepts are refused.
pub const QUEUE_ITEMS: usize = 65_536;

/// Outcomes and rows may fill the queue to this many times the bounds of accepts: refusing
/// what is known of sent messages costs more than refusing new ones.
pub const OTHER_SHARE: usize = 2;

/// How a group is treated when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It brings new work: refused when the disk is full, so that the rest can still be written.
    Accept,
    /// It records what happened: written into the reserve when the disk is full.
    Other,
}

/// What is pushed to a [`Committer`].
pub trait Item: Send + 'static {
    /// An upper bound of the payload bytes of all its records.
    fn bytes(&self) -> usize;
    /// An upper bound of the number of its records.
    fn records(&self) -> usize;
    /// Its class.
    fn class(&self) -> Class;
}

/// What is done with items, all on the committer's thread.
pub trait Stage: Send + 'static {
    /// What is committed.
    type Item: Item;

    /// Called for each item in the order of the pushes. It pushes the item's records, may keep
    /// their [`Lsn`]s in the item, and returns it; or it answers the item itself and returns
    /// `None`. Items that push nothing may be returned too: they are handed on behind the
    /// records before them.
    fn prepare(&mut self, item: Self::Item, group: &mut Group<'_>) -> Option<Self::Item>;

    /// The group is durable up to `end`: hands the items on. It may block when the next stage
    /// is behind; the queue then fills and producers are refused.
    fn durable(&mut self, items: Vec<Self::Item>, end: Lsn);

    /// Nothing of the item was written ([`LogError::Full`], [`LogError::TooLarge`]), or nobody
    /// knows whether it was (any other error; the log is then failed for good).
    fn refused(&mut self, item: Self::Item, error: &LogError);
}

/// Why a push was not taken. The item comes back.
#[derive(Debug)]
pub enum PushError<I> {
    /// Too much waits.
    Overloaded(I),
    /// The committer was closed, or the log failed.
    Closed(I),
}

/// What waits.
#[derive(Debug)]
struct Queue<I> {
    items: VecDeque<I>,
    /// Waiting or in the hands of the committer.
    held_items: usize,
    held_bytes: usize,
    asleep: bool,
    closed: bool,
}

/// The queue in front of a [`FileLog`] and the thread that empties it.
pub struct Committer<I> {
    shared: Arc<Shared<I>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared<I> {
    queue: Mutex<Queue<I>>,
    filled: Condvar,
}

impl<I> fmt::Debug for Committer<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

impl<I: Item> Committer<I> {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start<S: Stage<Item = I>>(log: &Arc<FileLog>, stage: S) -> Result<Self, LogError> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                held_items: 0,
                held_bytes: 0,
                asleep: false,
                closed: false,
            }),
            filled: Condvar::new(),
        });
        let worker = Worker {
            log: log.clone(),
            stage,
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("log-commit".into())
            .spawn(move || worker.run())
            .map_err(LogError::io("start the committer of", log.dir()))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues an item behind those pushed before.
    ///
    /// # Errors
    /// Too much waits, or the committer is closed; the item comes back.
    pub fn push(&self, item: I) -> Result<(), PushError<I>> {
        let share = if item.class() == Class::Accept {
            1
        } else {
            OTHER_SHARE
        };
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(PushError::Closed(item));
        }
        if queue.held_items >= share * QUEUE_ITEMS || queue.held_bytes >= share * QUEUE_BYTES {
            return Err(PushError::Overloaded(item));
        }
        queue.held_items += 1;
        queue.held_bytes += size(&item);
        queue.items.push_back(item);
        let wake = std::mem::take(&mut queue.asleep);
        drop(queue);
        if wake {
            self.shared.filled.notify_one();
        }
        Ok(())
    }

    /// Items and bytes that are not durable yet.
    pub fn waiting(&self) -> (usize, usize) {
        let queue = self.shared.queue.lock();
        (queue.held_items, queue.held_bytes)
    }
}

impl<I> Committer<I> {
    /// Takes nothing more, writes what waits, and ends the thread.
    pub fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().take();
        // A panic has failed the log already, which is how callers learn of it.
        if let Some(Err(_panic)) = thread.map(JoinHandle::join) {
            tracing::error!("the committer panicked");
        }
    }
}

impl<I> Drop for Committer<I> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<I> Shared<I> {
    fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_one();
    }

    /// Takes everything that waits, waiting for the first; false when there is no more to come.
    fn take(&self, into: &mut VecDeque<I>) -> bool {
        let mut queue = self.queue.lock();
        while queue.items.is_empty() {
            if queue.closed {
                return false;
            }
            queue.asleep = true;
            self.filled.wait(&mut queue);
        }
        queue.asleep = false;
        std::mem::swap(&mut queue.items, into);
        true
    }

    fn release(&self, items: usize, bytes: usize) {
        let mut queue = self.queue.lock();
        queue.held_items -= items;
        queue.held_bytes -= bytes;
    }
}

/// What an item takes of a group at most, in bytes.
fn size<I: Item>(item: &I) -> usize {
    item.bytes() + item.records() * RECORD_OVERHEAD
}

struct Worker<S: Stage> {
    log: Arc<FileLog>,
    stage: S,
    shared: Arc<Shared<S::Item>>,
}

impl<S: Stage> Worker<S> {
    fn run(mut self) {
        let guard = EndOfThread {
            log: self.log.clone(),
            shared: self.shared.clone(),
        };
        let mut taken = VecDeque::new();
        while self.shared.take(&mut taken) {
            while !taken.is_empty() {
                self.group(&mut taken);
            }
        }
        drop(guard);
    }

    /// Commits as much of the front of `taken` as makes one group.
    fn group(&mut self, taken: &mut VecDeque<S::Item>) {
        let (mut count, mut bytes, mut class) = (0, 0, Class::Other);
        let limit = GROUP_BYTES.min(self.log.group_limit());
        for item in taken.iter() {
            if count > 0 && bytes + size(item) > limit {
                break;
            }
            count += 1;
            bytes += size(item);
            if item.class() == Class::Accept {
                class = Class::Accept;
            }
        }
        let items = taken.drain(..count).collect();
        let Self { log, stage, .. } = self;
        match log.group(bytes, class) {
            Ok(group) => write(log, stage, group, items),
            Err(LogError::Full) if class == Class::Accept => write_others(log, stage, items),
            Err(error) => refuse(stage, items, &error),
        }
        self.shared.release(count, bytes);
    }
}

/// The disk is full: refuses the accepts and writes everything else.
fn write_others<S: Stage>(log: &FileLog, stage: &mut S, items: Vec<S::Item>) {
    let (accepts, others): (Vec<_>, Vec<_>) = items
        .into_iter()
        .partition(|item| item.class() == Class::Accept);
    refuse(stage, accepts, &LogError::Full);
    if others.is_empty() {
        return;
    }
    match log.group(others.iter().map(size).sum(), Class::Other) {
        Ok(group) => write(log, stage, group, others),
        Err(error) => refuse(stage, others, &error),
    }
}

/// Fills the group with what the items bring, commits it and hands them on.
fn write<S: Stage>(log: &FileLog, stage: &mut S, mut group: Group<'_>, items: Vec<S::Item>) {
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        kept.extend(stage.prepare(item, &mut group));
    }
    match group.commit() {
        Ok(_) if kept.is_empty() => {}
        Ok(end) => {
            stage.durable(kept, end);
            if let Err(error) = log.config.failpoints.hit(Failpoints::AFTER_ACK) {
                log.fail(&error.to_string());
            }
        }
        Err(error) => refuse(stage, kept, &error),
    }
}

fn refuse<S: Stage>(stage: &mut S, items: Vec<S::Item>, error: &LogError) {
    items
        .into_iter()
        .for_each(|item| stage.refused(item, error));
}

/// However the thread ends, producers learn of it; a panic fails the log, because what was in
/// the thread's hands is lost without an answer.
struct EndOfThread<I> {
    log: Arc<FileLog>,
    shared: Arc<Shared<I>>,
}

impl<I> Drop for EndOfThread<I> {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        if std::thread::panicking() {
            self.log.fail("the committer panicked");
        }
    }
}
