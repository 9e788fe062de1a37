//! Where transports tell what happened: bounded, so that a flood of receipts waits at its source.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::TransportEvent;

/// Batches of events that may wait for one instance before its transport has to wait.
/// One batch is what a transport read at once; 64 of them are far more than an actor lags behind.
pub const SINK_BATCHES: usize = 64;

/// A batch of events, with the permit that is given back when it was handled.
#[derive(Debug)]
pub struct Delivered {
    /// What happened, in order.
    pub events: Vec<TransportEvent>,
    /// Dropped when the events were handled.
    pub permit: OwnedSemaphorePermit,
}

/// Nobody takes events any more: the instance was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the instance was stopped")]
pub struct SinkClosed;

/// Why a batch was not handed over without waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPushed {
    /// [`SINK_BATCHES`] are unhandled; here is the batch again.
    Full(Vec<TransportEvent>),
    /// The instance was stopped.
    Closed,
}

/// Hands batches of events to the owner of an instance.
#[derive(Clone)]
pub struct EventSink {
    deliver: Arc<dyn Fn(Delivered) + Send + Sync>,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSink")
            .field("free", &self.permits.available_permits())
            .finish()
    }
}

impl EventSink {
    /// A sink that hands each batch to `deliver`, which must neither block nor call the transport.
    pub fn new(deliver: impl Fn(Delivered) + Send + Sync + 'static) -> Self {
        Self {
            deliver: Arc::new(deliver),
            permits: Arc::new(Semaphore::new(SINK_BATCHES)),
        }
    }

    /// Hands a batch over; waits while [`SINK_BATCHES`] are unhandled.
    ///
    /// # Errors
    /// [`SinkClosed`] when the instance was stopped.
    pub async fn push(&self, events: Vec<TransportEvent>) -> Result<(), SinkClosed> {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| SinkClosed)?;
        (self.deliver)(Delivered { events, permit });
        Ok(())
    }

    /// Hands a batch over without waiting.
    ///
    /// # Errors
    /// [`NotPushed::Full`] gives the batch back while [`SINK_BATCHES`] are unhandled;
    /// [`NotPushed::Closed`] when the instance was stopped.
    pub fn try_push(&self, events: Vec<TransportEvent>) -> Result<(), NotPushed> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => {
                (self.deliver)(Delivered { events, permit });
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(NotPushed::Full(events)),
            Err(TryAcquireError::Closed) => Err(NotPushed::Closed),
        }
    }

    /// Tells the transport that nobody listens any more.
    pub fn close(&self) {
        self.permits.close();
    }
}
