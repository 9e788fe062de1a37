//! The supervisor of all batches: starts their parents, lets time pass for them, and starts those
//! again that failed while they had something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use zajil_model::batch::BatchState;
use zajil_model::id::{AccountId, BatchId, Epoch};
use zajil_model::time::Timestamp;
use zajil_storage::Store;

use super::parent::{Parent, ParentMsg};
use super::record::{BatchRecord, Progress};
use super::{BatchError, BatchPorts, OpenBatch, OpenBatches, Shared, keep};

/// How often time passes for open batches: how late a start or a finish is noticed at most.
const REVIEW_EVERY: Duration = Duration::from_secs(1);

/// Reviews between two walks over all batches that are not over. A walk opens those that have become
/// due or whose parent failed, so this is also how long a failed parent rests.
const REVIEWS_PER_WALK: u32 = 30;

/// How long a walk waits for others to be asked for: a node that takes a hundred shards walks once.
const GATHER_WALKS: Duration = Duration::from_millis(200);

/// A batch as it was read from the store, while its shard was served under an epoch.
pub(super) struct Opened {
    epoch: Epoch,
    record: BatchRecord,
    stored: Vec<u8>,
    progress: Progress,
}

impl Opened {
    pub(super) async fn load(
        store: &dyn Store,
        epoch: Epoch,
        account: AccountId,
        id: BatchId,
    ) -> Result<Box<Self>, BatchError> {
        let loaded = keep::load_record(store, account, id).await?;
        let (record, stored) = loaded.ok_or(BatchError::NotFound)?;
        let (progress, _) = keep::load_progress(store, id).await?;
        Ok(Box::new(Self {
            epoch,
            record,
            stored,
            progress,
        }))
    }

    /// Whether it does something without being asked: it was started, or is to start by itself,
    /// or was forgotten for too long.
    fn acts_by_itself(&self, now: Timestamp) -> bool {
        let life = &self.record.life;
        life.state != BatchState::Draft
            || self.record.start_at.is_some()
            || life.gives_up_at() <= now
    }
}

/// What the supervisor is told.
pub(super) enum SupervisorMsg {
    /// A batch without an actor is needed.
    Open(
        Box<Opened>,
        oneshot::Sender<Result<Arc<OpenBatch>, BatchError>>,
    ),
    /// A parent was found stopping: answered once it has stopped.
    Gone(ActorId, oneshot::Sender<()>),
    /// Look for batches that have something to do.
    Walk,
    /// Let time pass.
    Review,
    /// Stop all and then itself.
    Stop(oneshot::Sender<()>),
}

/// The supervisor of all batches.
pub(super) struct Supervisor {
    ports: BatchPorts,
    open: OpenBatches,
    /// A walk is about to begin: what comes until then is part of it.
    walk_due: Arc<AtomicBool>,
}

#[derive(Default)]
pub(super) struct SupervisorState {
    batches: FxHashMap<ActorId, BatchId>,
    reviews: u32,
    /// Who waits for a parent to have stopped; bounded by the requests in flight.
    leaving: Vec<(ActorId, oneshot::Sender<()>)>,
    /// Who waits for the last parent to stop.
    stopping: Option<oneshot::Sender<()>>,
}

/// Opens every batch that is not over and has something to do by itself.
pub(super) async fn walk(
    ports: &BatchPorts,
    open: &OpenBatches,
    supervisor: &ActorRef<SupervisorMsg>,
) -> Result<(), BatchError> {
    let now = ports.clock.now();
    let mut after = None;
    loop {
        let (active, next) = keep::active(&*ports.store, after).await?;
        for (account, id) in active {
            let Ok(epoch) = ports.serves(id.shard()) else {
                continue;
            };
            if open.read().contains_key(&id) {
                continue;
            }
            match Opened::load(&*ports.store, epoch, account, id).await {
                Ok(opened) if opened.acts_by_itself(now) => {
                    let (reply, _) = oneshot::channel();
                    // A supervisor that is gone opens nothing.
                    supervisor
                        .send_message(SupervisorMsg::Open(opened, reply))
                        .ok();
                }
                Ok(_) | Err(BatchError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

impl Supervisor {
    pub(super) fn new(ports: BatchPorts, open: OpenBatches) -> Self {
        Self {
            ports,
            open,
            walk_due: Arc::default(),
        }
    }

    async fn open(
        &self,
        myself: &ActorRef<SupervisorMsg>,
        state: &mut SupervisorState,
        opened: Box<Opened>,
    ) -> Result<Arc<OpenBatch>, BatchError> {
        const STOPPING: BatchError = BatchError::Unavailable("the node is stopping");
        let (id, epoch) = (opened.record.id, opened.epoch);
        let served = || match self.ports.serves(id.shard())? {
            now if now == epoch => Ok(()),
            _ => Err(BatchError::Moved),
        };
        served()?;
        if let Some(open) = self.open.read().get(&id) {
            return Ok(Arc::clone(open));
        }
        if state.stopping.is_some() {
            return Err(STOPPING);
        }
        let now = self.ports.clock.mono();
        let shared = Shared::new(Arc::new(opened.record), opened.progress, now);
        let parent = Parent {
            ports: self.ports.clone(),
            shared: Arc::clone(&shared),
        };
        // Its start does not wait for the store.
        let spawned = Actor::spawn_linked(None, parent, opened.stored, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|_| STOPPING)?;
        state.batches.insert(actor.get_id(), id);
        let open = Arc::new(OpenBatch {
            epoch,
            actor,
            shared,
        });
        self.open.write().insert(id, Arc::clone(&open));
        // Who closes the shard stops what is open by then, and may have looked before.
        served().inspect_err(|_| open.actor.stop(None))?;
        Ok(open)
    }

    fn forget(&self, id: BatchId, actor: ActorId) {
        let mut open = self.open.write();
        if open
            .get(&id)
            .is_some_and(|open| open.actor.get_id() == actor)
        {
            open.remove(&id);
        }
    }

    fn review(&self, myself: &ActorRef<SupervisorMsg>, state: &mut SupervisorState) {
        if state.stopping.is_some() {
            return;
        }
        for open in self.open.read().values() {
            // One that is gone is forgotten by its end.
            open.actor.send_message(ParentMsg::Review).ok();
        }
        state.reviews += 1;
        if state.reviews < REVIEWS_PER_WALK {
            return;
        }
        state.reviews = 0;
        self.walk(myself);
    }

    fn walk(&self, myself: &ActorRef<SupervisorMsg>) {
        if self.walk_due.swap(true, Ordering::AcqRel) {
            return;
        }
        let due = Arc::clone(&self.walk_due);
        let (ports, open, myself) = (self.ports.clone(), Arc::clone(&self.open), myself.clone());
        self.ports.tracker.spawn(async move {
            tokio::time::sleep(GATHER_WALKS).await;
            due.store(false, Ordering::Release);
            if let Err(error) = walk(&ports, &open, &myself).await {
                tracing::warn!(%error, "cannot look for batches that are due");
            }
        });
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        (): (),
    ) -> Result<SupervisorState, ActorProcessingErr> {
        // Ends by itself when this actor is gone.
        drop(myself.send_interval(REVIEW_EVERY, || SupervisorMsg::Review));
        Ok(SupervisorState::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // Who asked may have left; then nobody reads the answer.
            SupervisorMsg::Open(opened, reply) => {
                let answer = self.open(&myself, state, opened).await;
                reply.send(answer).ok();
            }
            SupervisorMsg::Gone(actor, reply) if state.batches.contains_key(&actor) => {
                state.leaving.push((actor, reply));
            }
            SupervisorMsg::Gone(_, reply) => drop(reply.send(())),
            SupervisorMsg::Walk => self.walk(&myself),
            SupervisorMsg::Review => self.review(&myself, state),
            SupervisorMsg::Stop(reply) => {
                state.stopping = Some(reply);
                if state.batches.is_empty() {
                    myself.stop(None);
                }
                for open in self.open.read().values() {
                    // A change that is on its way is stored all the same, and told after a start.
                    open.actor.stop(None);
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let actor = match event {
            SupervisionEvent::ActorTerminated(actor, _, _) => actor,
            SupervisionEvent::ActorFailed(actor, error) => {
                tracing::error!(actor = %actor.get_id(), %error, "the parent of a batch failed");
                actor
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        if let Some(id) = state.batches.remove(&actor.get_id()) {
            self.forget(id, actor.get_id());
        }
        for (_, reply) in state
            .leaving
            .extract_if(.., |(left, _)| *left == actor.get_id())
        {
            // Who asked may have left.
            reply.send(()).ok();
        }
        if state.stopping.is_some() && state.batches.is_empty() {
            myself.stop(None);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(reply) = state.stopping.take() {
            // Who asked may have left.
            reply.send(()).ok();
        }
        Ok(())
    }
}
