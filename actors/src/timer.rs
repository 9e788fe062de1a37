//! One heap of deadlines for all instances of a node.
//!
//! An instance asks to be woken at a point in time; a wake-up that is no longer needed does no
//! harm, so nothing is ever taken back. One task sleeps until the earliest deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::time::{Clock, Mono};

/// What is woken: an actor that may be gone by then.
pub trait Wake: Send + Sync {
    /// Its time came.
    fn wake(&self);
}

struct Deadline {
    at: Mono,
    order: u64,
    target: Arc<dyn Wake>,
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Default)]
struct Heap {
    deadlines: BinaryHeap<Reverse<Deadline>>,
    given: u64,
}

/// The heap, shared by all who wait.
#[derive(Clone)]
pub struct Timer {
    heap: Arc<Mutex<Heap>>,
    earlier: Arc<Notify>,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("waiting", &self.heap.lock().deadlines.len())
            .finish()
    }
}

/// The task sleeps at most this long, so that a clock of a test that was moved is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

impl Timer {
    /// Starts the task that wakes.
    pub fn start(clock: Arc<dyn Clock>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let timer = Self {
            heap: Arc::default(),
            earlier: Arc::new(Notify::new()),
        };
        tasks.spawn(timer.clone().run(clock, stop));
        timer
    }

    /// Wakes `target` at `at`, or soon after it.
    pub fn at(&self, at: Mono, target: Arc<dyn Wake>) {
        let mut heap = self.heap.lock();
        let order = heap.given;
        heap.given += 1;
        let first = heap
            .deadlines
            .peek()
            .is_none_or(|Reverse(next)| at < next.at);
        heap.deadlines.push(Reverse(Deadline { at, order, target }));
        drop(heap);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Wake-ups that were asked for and have not come.
    pub fn waiting(&self) -> usize {
        self.heap.lock().deadlines.len()
    }

    /// Wakes all whose time has come; answers when the next one's comes.
    fn fire(&self, now: Mono) -> Option<Mono> {
        let mut due = Vec::new();
        let next = {
            let mut heap = self.heap.lock();
            while heap
                .deadlines
                .peek()
                .is_some_and(|Reverse(next)| next.at <= now)
            {
                due.extend(
                    heap.deadlines
                        .pop()
                        .map(|Reverse(deadline)| deadline.target),
                );
            }
            heap.deadlines.peek().map(|Reverse(next)| next.at)
        };
        for target in due {
            target.wake();
        }
        next
    }

    async fn run(self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        loop {
            let now = clock.mono();
            let sleep = self
                .fire(now)
                .map_or(LONGEST_SLEEP, |at| at.since(now).min(LONGEST_SLEEP));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.earlier.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }
}
