//! Campaigns: uploaded row by row, started, paused and cancelled as one.
//!
//! A batch is a parent actor here and one *part* in each of its instances. An upload appends rows
//! straight to the parts, where the instances pull from: nothing is fed or copied on the way. The
//! parent changes the state of the batch in the store first and tells every part after, again and again
//! until all confirmed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use ractor::{Actor, ActorRef};
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, oneshot};
use zajil_model::id::{AccountId, BatchId, Epoch, MessageId, Shard};
use zajil_model::lifecycle::Status;
use zajil_model::time::Mono;
use zajil_storage::query::ListPage;
use zajil_storage::{ListFilter, ListRequest, Store};

use crate::directory::{Page, PageRequest};
use crate::owners::Asked;
use crate::owners::questions::ViewBatch;
use far::FarUpload;
use parent::ParentMsg;
use rate::RateMeter;
use supervisor::{Opened, Supervisor, SupervisorMsg};
use upload::{NearUpload, UploadState};

mod change;
mod create;
mod far;
mod job;
mod keep;
mod parent;
mod part;
pub mod port;
mod rate;
pub mod record;
mod rows;
mod supervisor;
mod tell;
mod upload;
mod words;

pub use far::Upload;
pub use keep::part_state;
pub use port::{InstancePort, PartPhase, PartState};
pub use record::{BatchRecord, BatchText, Duplicates, Progress, RefusedRow};
pub use rows::{NewRow, RowErrors};
pub use upload::{BLOCK_ROWS, UploadProgress};
pub use words::{BatchError, BatchPorts, BatchView, Changed, NewBatch};

/// Uploads at once on a node: each holds a block of rows, and writes as fast as the disk takes it.
const UPLOADS: usize = 16;

/// Refused rows that an answer shows; all of them are kept.
const SHOWN_REFUSALS: usize = 100;

/// The batches of this node; clones are the same ones.
#[derive(Clone)]
pub struct Batches(Arc<Inner>);

struct Inner {
    ports: BatchPorts,
    open: OpenBatches,
    uploads: Arc<Semaphore>,
    parts: part::Parts,
    supervisor: ActorRef<SupervisorMsg>,
}

/// Where the actors of batches are found; the supervisor alone adds and removes them.
type OpenBatches = Arc<RwLock<FxHashMap<BatchId, Arc<OpenBatch>>>>;

/// A batch that has an actor.
struct OpenBatch {
    /// Its shard was served under this epoch when it was read.
    epoch: Epoch,
    actor: ActorRef<ParentMsg>,
    shared: Arc<Shared>,
}

/// What the actor of a batch shares with those who look at it or upload to it.
#[derive(Debug)]
struct Shared {
    /// Written by the actor alone.
    record: RwLock<Arc<BatchRecord>>,
    /// Written by the upload alone.
    progress: Mutex<Progress>,
    rate: Mutex<RateMeter>,
    /// Held by the one upload that runs.
    upload: Arc<tokio::sync::Mutex<UploadState>>,
    /// Held while a block of rows is added: who changes the state waits for it.
    block: tokio::sync::Mutex<()>,
    /// When somebody last asked for it.
    used_at: AtomicU64,
    /// The actor stopped: nobody would tell an upload of a change of state any more.
    closed: AtomicBool,
}

impl Shared {
    fn new(record: Arc<BatchRecord>, progress: Progress, now: Mono) -> Arc<Self> {
        Arc::new(Self {
            record: RwLock::new(record),
            progress: Mutex::new(progress),
            rate: Mutex::default(),
            upload: Arc::default(),
            block: tokio::sync::Mutex::default(),
            used_at: AtomicU64::new(now.as_nanos()),
            closed: AtomicBool::new(false),
        })
    }

    /// Ends uploads; the block that is being added is waited for.
    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.block.lock().await);
    }

    fn used_at(&self) -> Mono {
        Mono::from_nanos(self.used_at.load(Ordering::Relaxed))
    }

    fn record(&self) -> Arc<BatchRecord> {
        Arc::clone(&self.record.read())
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.0.open.read().len();
        f.debug_struct("Batches")
            .field("open", &open)
            .finish_non_exhaustive()
    }
}

impl Batches {
    /// Batches over a store. Those that run, or are to start by themselves, are woken.
    ///
    /// # Errors
    /// `Unavailable` when their supervisor cannot be started, or what the store answers.
    pub async fn start(ports: BatchPorts) -> Result<Self, BatchError> {
        let open = OpenBatches::default();
        let supervisor = Supervisor::new(ports.clone(), Arc::clone(&open));
        let spawned = Actor::spawn(None, supervisor, ()).await;
        let (supervisor, _) =
            spawned.map_err(|_| BatchError::Unavailable("batches cannot be started"))?;
        let uploads = Arc::new(Semaphore::new(UPLOADS));
        let batches = Self(Arc::new(Inner {
            ports,
            open,
            uploads,
            parts: part::Parts::default(),
            supervisor,
        }));
        let inner = &batches.0;
        supervisor::walk(&inner.ports, &inner.open, &inner.supervisor).await?;
        Ok(batches)
    }

    /// Opens what has something to do by itself and is not open yet: a shard was taken.
    pub(crate) fn look_again(&self) {
        // A supervisor that is gone opens nothing.
        drop(self.0.supervisor.send_message(SupervisorMsg::Walk));
    }

    /// Stops the batches of a shard that leaves this node, in good order.
    pub(crate) async fn close_shard(&self, shard: Shard) {
        let leaving: Vec<Arc<OpenBatch>> = {
            let open = self.0.open.read();
            let of_shard = open.iter().filter(|(id, _)| id.shard() == shard);
            of_shard.map(|(_, open)| Arc::clone(open)).collect()
        };
        for open in leaving {
            open.actor.stop(None);
            // An error means that the node is stopping, and so are they.
            drop(self.gone(&open).await);
        }
    }

    /// Takes no more commands and stops every batch in good order.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self
            .0
            .supervisor
            .send_message(SupervisorMsg::Stop(done))
            .is_ok()
        {
            // An error means that it stopped already.
            stopped.await.ok();
        }
    }

    /// How a batch is.
    ///
    /// # Errors
    /// `NotFound` when the account has no such batch.
    pub async fn view(&self, account: AccountId, id: BatchId) -> Result<BatchView, BatchError> {
        let question = ViewBatch { account, id };
        match self.0.ports.owners.ask(id.shard(), question).await? {
            Asked::Here(_) => self.view_here(account, id).await,
            Asked::There(answer) => answer,
        }
    }

    /// The same, on the node that owns the batch.
    pub(crate) async fn view_here(
        &self,
        account: AccountId,
        id: BatchId,
    ) -> Result<BatchView, BatchError> {
        let open = self.find(account, id).await?;
        self.look_at(&open.shared).await
    }

    /// Begins an upload that brings rows from `from_row` (0 is the first) on. One at a time: another
    /// one, and a gap, is `RowGap`.
    ///
    /// # Errors
    /// `TakesNoRows` when the batch is sealed or over, `Unavailable` when too many upload.
    pub async fn upload(
        &self,
        account: AccountId,
        id: BatchId,
        from_row: u64,
    ) -> Result<Upload, BatchError> {
        if self.0.ports.owners.ownership().owns(id.shard()) {
            let upload = self.upload_here(account, id, from_row).await?;
            return Ok(Upload::Here(Box::new(upload)));
        }
        let owners = self.0.ports.owners.clone();
        let upload = FarUpload::begin(owners, account, id, from_row).await?;
        Ok(Upload::There(upload))
    }

    /// The same, on the node that owns the batch.
    pub(crate) async fn upload_here(
        &self,
        account: AccountId,
        id: BatchId,
        from_row: u64,
    ) -> Result<NearUpload, BatchError> {
        let permit = Arc::clone(&self.0.uploads).try_acquire_owned();
        let permit = permit.map_err(|_| BatchError::Unavailable("too many uploads at once"))?;
        let open = self.find(account, id).await?;
        NearUpload::begin(self.clone(), &open, permit, from_row).await
    }

    /// Messages of a batch, newest first, from below `before`.
    ///
    /// # Errors
    /// `NotFound` when the account has no such batch.
    pub async fn messages(
        &self,
        account: AccountId,
        id: BatchId,
        status: Option<Status>,
        before: Option<MessageId>,
        limit: usize,
    ) -> Result<ListPage, BatchError> {
        let record = self.record(account, id).await?;
        let instances = record
            .senders
            .iter()
            .map(|sender| sender.instance)
            .collect();
        let filter = ListFilter {
            instances,
            status,
            batch: Some(id),
            ..ListFilter::default()
        };
        Ok(self
            .store()
            .list(ListRequest {
                filter,
                before,
                skip: 0,
                limit,
            })
            .await?)
    }

    /// What is stored of a batch.
    ///
    /// # Errors
    /// `NotFound` when the account has no such batch.
    pub async fn record(&self, account: AccountId, id: BatchId) -> Result<BatchRecord, BatchError> {
        let stored = keep::load_record(self.store(), account, id).await?;
        stored.map(|(record, _)| record).ok_or(BatchError::NotFound)
    }

    /// Rows that were refused, in order, from after the row `after`.
    ///
    /// # Errors
    /// `NotFound` when the account has no such batch.
    pub async fn refused(
        &self,
        account: AccountId,
        id: BatchId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<RefusedRow>, BatchError> {
        self.record(account, id).await?;
        Ok(keep::refused(self.store(), id, after, limit).await?)
    }

    /// The campaigns of an account, newest first, with an exact total.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn list(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<BatchRecord>, BatchError> {
        Ok(keep::list(self.store(), account, page).await?)
    }

    fn store(&self) -> &dyn Store {
        &*self.0.ports.store
    }

    /// The actor of a batch, started if it has none.
    async fn find(&self, account: AccountId, id: BatchId) -> Result<Arc<OpenBatch>, BatchError> {
        let epoch = self.0.ports.serves(id.shard())?;
        let known = self.0.open.read().get(&id).cloned();
        if let Some(open) = known {
            if open.epoch == epoch {
                if open.shared.record.read().account != account {
                    return Err(BatchError::NotFound);
                }
                let now = self.0.ports.clock.mono();
                open.shared.used_at.store(now.as_nanos(), Ordering::Relaxed);
                return Ok(open);
            }
            // Others owned the batch since it was read.
            open.actor.stop(None);
            self.gone(&open).await?;
        }
        let opened = Opened::load(self.store(), epoch, account, id).await?;
        self.ask(|reply| SupervisorMsg::Open(opened, reply)).await?
    }

    /// Waits until a parent that is stopping has stopped.
    async fn gone(&self, open: &OpenBatch) -> Result<(), BatchError> {
        let actor = open.actor.get_id();
        self.ask(|reply| SupervisorMsg::Gone(actor, reply)).await
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> SupervisorMsg,
    ) -> Result<T, BatchError> {
        const STOPPING: BatchError = BatchError::Unavailable("the node is stopping");
        let (reply, answer) = oneshot::channel();
        self.0
            .supervisor
            .send_message(message(reply))
            .map_err(|_| STOPPING)?;
        answer.await.map_err(|_| STOPPING)
    }

    async fn look_at(&self, shared: &Shared) -> Result<BatchView, BatchError> {
        let record = shared.record();
        let totals = self.store().totals(record.totals_filter()).await?;
        let now = self.0.ports.clock.mono();
        let rate = {
            let mut meter = shared.rate.lock();
            meter.note(now, rate::settled(&totals.all));
            if record.life.state.is_ended() {
                0.0
            } else {
                meter.rate(now)
            }
        };
        let eta = rate::eta(&self.0.ports, &record, &totals).await?;
        let progress = *shared.progress.lock();
        let (counts, by_instance) = (totals.all, totals.by_instance);
        Ok(BatchView {
            record,
            progress,
            counts,
            by_instance,
            rate,
            eta,
        })
    }
}
