//! The way out of one instance's events: at once when the sink has room, else by a task of its own
//! that waits, so that one slow instance holds up no other.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::metrics::Meters;
use crate::{EventSink, NotPushed, TransportEvent};

/// Events that may wait for one instance; it takes no more frames above. The sink holds
/// [`SINK_BATCHES`](crate::sink::SINK_BATCHES) more batches.
const WAITING_LIMIT: usize = 16_384;

/// The way out of one instance's events.
#[derive(Debug)]
pub(crate) struct Outlet {
    sink: EventSink,
    tasks: TaskTracker,
    meters: Meters,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    events: Vec<TransportEvent>,
    pumping: bool,
}

impl Outlet {
    /// A way out to `sink`.
    pub(crate) fn new(sink: EventSink, tasks: TaskTracker, meters: Meters) -> Self {
        Self {
            sink,
            tasks,
            meters,
            queue: Mutex::default(),
        }
    }

    /// Puts events behind those that wait. They go with the next [`flush`](Self::flush): adding is
    /// done under the locks of the owner, so that the order is right, and flushing outside them.
    pub(crate) fn add(&self, mut events: Vec<TransportEvent>) {
        if events.is_empty() {
            return;
        }
        self.meters.told(&events);
        let mut queue = self.queue.lock();
        if queue.events.is_empty() {
            queue.events = events;
        } else {
            queue.events.append(&mut events);
        }
    }

    /// Hands on what waits.
    pub(crate) fn flush(self: &Arc<Self>) {
        let mut queue = self.queue.lock();
        if queue.pumping || queue.events.is_empty() {
            return;
        }
        match self.sink.try_push(mem::take(&mut queue.events)) {
            Ok(()) | Err(NotPushed::Closed) => {}
            Err(NotPushed::Full(events)) => {
                queue.events = events;
                queue.pumping = true;
                self.tasks.spawn(self.clone().pump());
            }
        }
    }

    /// Whether too much waits.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.lock().events.len() >= WAITING_LIMIT
    }

    /// Waits for the sink until nothing waits here.
    async fn pump(self: Arc<Self>) {
        loop {
            let events = {
                let mut queue = self.queue.lock();
                if queue.events.is_empty() {
                    queue.pumping = false;
                    return;
                }
                mem::take(&mut queue.events)
            };
            // A closed sink takes nothing; what comes for it meanwhile is taken out all the same.
            let _closed = self.sink.push(events).await.is_err();
        }
    }
}
