//! A transport that acknowledges at once and writes down when each message was handed over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio_util::task::TaskTracker;
use zajil_model::id::InstanceId;
use zajil_model::instance::{TransportKind, TransportSettings};
use zajil_model::time::Clock;
use zajil_transport::sink::NotPushed;
use zajil_transport::{
    Capabilities, EventSink, OpenError, Outbound, SessionEvent, StopMode, Transport,
    TransportEvent, TransportFactory, TransportSpec,
};

use crate::measure;

/// A message was handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOver {
    /// When, in microseconds since the book was opened.
    pub(crate) at: u64,
    /// How long after it was accepted, in microseconds.
    pub(crate) wait: u64,
}

/// The hand-overs of one instance.
pub(crate) type Page = Arc<Mutex<Vec<HandOver>>>;

/// All hand-overs, by instance.
#[derive(Debug)]
pub(crate) struct Book {
    zero: Instant,
    pages: RwLock<HashMap<InstanceId, Page>>,
    count: AtomicU64,
}

impl Book {
    fn new() -> Self {
        Self {
            zero: measure::now(),
            pages: RwLock::default(),
            count: AtomicU64::new(0),
        }
    }

    /// Now, as hand-overs are stamped.
    pub(crate) fn now(&self) -> u64 {
        (measure::now() - self.zero).as_micros() as u64
    }

    /// The hand-overs of an instance, in order.
    pub(crate) fn of(&self, instance: InstanceId) -> Vec<HandOver> {
        self.page(instance).lock().clone()
    }

    /// How many hand-overs there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many instances handed something over.
    pub(crate) fn senders(&self) -> usize {
        self.pages
            .read()
            .values()
            .filter(|page| !page.lock().is_empty())
            .count()
    }

    fn page(&self, instance: InstanceId) -> Page {
        if let Some(page) = self.pages.read().get(&instance) {
            return page.clone();
        }
        self.pages.write().entry(instance).or_default().clone()
    }
}

/// Opens transports that acknowledge at once.
#[derive(Debug)]
pub(crate) struct Courier {
    book: Arc<Book>,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
}

impl Courier {
    pub(crate) fn new(clock: Arc<dyn Clock>, tasks: TaskTracker) -> Self {
        Self {
            book: Arc::new(Book::new()),
            clock,
            tasks,
        }
    }

    /// Where hand-overs are written down.
    pub(crate) fn book(&self) -> Arc<Book> {
        self.book.clone()
    }
}

#[async_trait]
impl TransportFactory for Courier {
    fn kind(&self) -> TransportKind {
        TransportKind::Simulator
    }

    fn capabilities(&self, _: &TransportSettings) -> Capabilities {
        Capabilities {
            idempotent_by_id: Some(true),
            receipts: false,
            pairing: false,
            polls: true,
            lists: true,
            reactions: true,
        }
    }

    fn check(&self, _: &TransportSettings) -> Result<(), OpenError> {
        Ok(())
    }

    async fn open(
        &self,
        spec: TransportSpec,
        events: EventSink,
    ) -> Result<Arc<dyn Transport>, OpenError> {
        let online = TransportEvent::Session(SessionEvent::Online { phone: None });
        // Whoever closed the sink already does not want to know.
        events.push(vec![online]).await.ok();
        Ok(Arc::new(Way {
            page: self.book.page(spec.instance),
            book: self.book.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            events,
        }))
    }
}

#[derive(Debug)]
struct Way {
    page: Page,
    book: Arc<Book>,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    events: EventSink,
}

#[async_trait]
impl Transport for Way {
    fn submit(&self, frames: Vec<Outbound>) -> Vec<Outbound> {
        let (at, now) = (self.book.now(), self.clock.now());
        let stamp = |frame: &Outbound| {
            let created = frame.message.get().chunk().created_at;
            HandOver {
                at,
                wait: now.since(created).as_micros() as u64,
            }
        };
        self.page.lock().extend(frames.iter().map(stamp));
        self.book
            .count
            .fetch_add(frames.len() as u64, Ordering::Relaxed);
        let acked = |frame: &Outbound| TransportEvent::Acked {
            wa_id: frame.wa_id,
            at: now,
        };
        match self.events.try_push(frames.iter().map(acked).collect()) {
            Ok(()) | Err(NotPushed::Closed) => {}
            Err(NotPushed::Full(events)) => {
                let sink = self.events.clone();
                self.tasks.spawn(async move { sink.push(events).await });
            }
        }
        Vec::new()
    }

    async fn stop(&self, _: StopMode) {}
}
