//! Requests of other nodes that may come twice.
//!
//! An edge whose answer was lost asks the same owner again. The messages are then accepted once,
//! and both are answered the same. A refusal is remembered too: one that
//! was answered stays one when the question comes once more, late.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OnceCell, oneshot};
use tokio_util::task::TaskTracker;
use zajil_model::id::RequestId;

use crate::directory::Cache;
use crate::send::{AcceptError, Reserved};

/// Requests that are remembered. Half of them are at any time: all that come in the 10 s in which an
/// edge asks again, on a node that others ask 13,000 times a second.
const REMEMBERED: usize = 262_144;

type Answer = Result<Reserved, AcceptError>;

/// The requests that came from other nodes lately.
#[derive(Debug)]
pub(super) struct Twins(Arc<Mutex<Cache<RequestId, Arc<OnceCell<Answer>>>>>);

impl Default for Twins {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Cache::new(REMEMBERED))))
    }
}

impl Twins {
    fn cell(&self, request: RequestId) -> Arc<OnceCell<Answer>> {
        let known = self.0.lock();
        known.get(&request).unwrap_or_else(|| {
            let cell = Arc::<OnceCell<Answer>>::default();
            known.put_written(request, Arc::clone(&cell));
            cell
        })
    }

    /// Does the work of a request, unless a twin did it or is doing it. The work goes on when
    /// nobody waits for it any more.
    pub(super) async fn once(
        &self,
        tasks: &TaskTracker,
        request: RequestId,
        work: impl Future<Output = Answer> + Send + 'static,
    ) -> Answer {
        let cell = self.cell(request);
        let (reply, answer) = oneshot::channel();
        let known = Arc::clone(&self.0);
        tasks.spawn(async move {
            let done = cell.get_or_init(|| work).await.clone();
            if matches!(done, Err(AcceptError::Moved | AcceptError::Sealed)) {
                // Said of an epoch, or of ids whose time is over: in another epoch the answer is
                // another, and a question that comes late is refused for the same reason.
                known.lock().forget(&request);
            }
            // Who asked may have gone; a twin of it finds the answer in the cell.
            drop(reply.send(done));
        });
        answer.await.unwrap_or(Err(AcceptError::OutcomeUnknown))
    }
}
