//! The supervisor of the instances of one shard: the unit that a cluster hands off.
//!
//! An instance that fails is started again with backoff; one that fails again and again is
//! quarantined by itself and its neighbours go on. Nothing that a child does stops its shard.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use rustc_hash::FxHashMap;
use zajil_model::id::{BatchId, InstanceId, MessageId};
use zajil_model::instance::{CloseReason, Instance, Session};
use zajil_model::message::Queue;
use zajil_model::retry::{Restart, RestartWindow, restart_wait};
use zajil_storage::StoreError;

use crate::context::Context;
use crate::directory::DirectoryError;
use crate::instance::handle::Handle;
use crate::instance::{InstanceActor, InstanceArgs};
use crate::router::Router;

/// Messages whose hand-over an actor died in, and how often: kept over its restarts, so that one
/// message cannot stop an instance for ever.
pub type Suspects = Arc<Mutex<SuspectList>>;

/// See [`Suspects`].
#[derive(Debug, Default)]
pub struct SuspectList {
    /// The message that is being handed over right now.
    pub current: Option<MessageId>,
    /// An actor died before: messages are handed over one at a time, so that the next death can
    /// be blamed on one.
    pub careful: bool,
    /// How often an actor died in the hand-over of a message.
    pub deaths: FxHashMap<MessageId, u8>,
}

impl SuspectList {
    /// The actor died: blames the message that was being handed over, if there was one.
    fn died(&mut self) -> Blame {
        self.careful = true;
        match self.current.take() {
            Some(id) => {
                *self.deaths.entry(id).or_default() += 1;
                Blame::Message
            }
            None => Blame::Nobody,
        }
    }
}

/// Whose fault the death of an actor was.
enum Blame {
    /// A message's; it is put aside after few deaths, so these do not count against the actor.
    Message,
    /// Nobody's that is known.
    Nobody,
}

/// What a shard's supervisor is told.
#[derive(Debug)]
pub enum ShardMsg {
    /// An instance is wanted here.
    Start {
        /// The way in to it.
        handle: Arc<Handle>,
        /// As its account set it up.
        instance: Arc<Instance>,
        /// Parts of batches that have work for it.
        parts: Vec<BatchId>,
    },
    /// The backoff of a failed instance is over.
    Restart(InstanceId),
    /// A person asked for a quarantined instance to be tried again.
    Release(InstanceId),
}

struct Child {
    handle: Arc<Handle>,
    instance: Arc<Instance>,
    parts: Vec<BatchId>,
    restarts: RestartWindow,
    suspects: Suspects,
}

/// The children of a shard.
#[derive(Default)]
pub struct ShardState {
    children: FxHashMap<InstanceId, Child>,
    running: FxHashMap<ActorId, Arc<Handle>>,
}

impl std::fmt::Debug for ShardState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardState")
            .field("children", &self.children.len())
            .finish()
    }
}

/// The batches that have unsettled rows of an instance; none when they cannot be read, and then
/// their own actors tell of them.
pub(crate) async fn parts_of(context: &Context, id: InstanceId) -> Vec<BatchId> {
    let work = context.store.work().await.unwrap_or_else(|error| {
        tracing::error!(instance = %id, %error, "cannot read what work there is");
        Vec::new()
    });
    let of_instance = work.into_iter().filter(|work| work.instance == id);
    let parts = of_instance.filter_map(|work| match work.queue {
        Queue::Part(batch) => Some(batch),
        Queue::High | Queue::Normal => None,
    });
    parts.collect()
}

/// The wait before an actor is started again that could not read what it needs: as after so many
/// failures, a second or two.
const STORE_AWAY: u32 = 5;

/// Whether an actor did not start because the store gave no answer.
fn waits_for_store(error: &SpawnErr) -> bool {
    let SpawnErr::StartupFailed(error) = error else {
        return false;
    };
    let of_directory = error.downcast_ref::<DirectoryError>();
    let of_store = of_directory.and_then(|error| match error {
        DirectoryError::Store(error) => Some(error),
        _ => None,
    });
    let error = of_store.or_else(|| error.downcast_ref());
    matches!(error, Some(StoreError::Io { .. } | StoreError::Overloaded))
}

/// The supervisor of one shard.
#[derive(Debug)]
pub struct ShardActor {
    /// What instances are given.
    pub context: Arc<Context>,
    /// Where handles are found.
    pub router: Router,
}

impl Actor for ShardActor {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<ShardMsg>,
        (): (),
    ) -> Result<ShardState, ActorProcessingErr> {
        Ok(ShardState::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMsg>,
        msg: ShardMsg,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ShardMsg::Start {
                handle,
                instance,
                parts,
            } => {
                let child = Child {
                    handle,
                    parts,
                    restarts: RestartWindow::default(),
                    suspects: Suspects::default(),
                    instance: instance.clone(),
                };
                state.children.insert(instance.id, child);
                self.spawn(&myself, state, instance.id).await;
            }
            ShardMsg::Restart(instance) => self.restart(&myself, state, instance).await,
            ShardMsg::Release(instance) => {
                if let Some(child) = state.children.get_mut(&instance) {
                    child.restarts.released();
                }
                self.restart(&myself, state, instance).await;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ShardMsg>,
        event: SupervisionEvent,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                if let Some(handle) = state.running.remove(&cell.get_id()) {
                    let instance = handle.instance();
                    tracing::error!(%instance, %error, "an instance actor failed");
                    self.failed(&myself, state, instance);
                }
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                if let Some(handle) = state.running.remove(&cell.get_id()) {
                    self.left(state, &handle);
                }
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl ShardActor {
    async fn spawn(&self, myself: &ActorRef<ShardMsg>, state: &mut ShardState, id: InstanceId) {
        let Some(child) = state.children.get(&id) else {
            return;
        };
        let args = InstanceArgs {
            handle: child.handle.clone(),
            instance: child.instance.clone(),
            parts: child.parts.clone(),
            suspects: child.suspects.clone(),
        };
        let actor = InstanceActor {
            context: self.context.clone(),
        };
        match InstanceActor::spawn_linked(None, actor, args, myself.get_cell()).await {
            Ok((actor, _)) => {
                state.running.insert(actor.get_id(), child.handle.clone());
                // What was accepted while nobody was there to be told is read from the log.
                child.handle.tell(crate::instance::InstanceMsg::Grew);
            }
            Err(error) => {
                tracing::error!(instance = %id, %error, "an instance actor did not start");
                if waits_for_store(&error) {
                    self.start_later(myself, state, id);
                } else {
                    self.failed(myself, state, id);
                }
            }
        }
    }

    /// The child without an actor, to be started again; none when the shard left meanwhile: its next
    /// owner starts what has work.
    fn left_behind<'s>(&self, state: &'s mut ShardState, id: InstanceId) -> Option<&'s mut Child> {
        let handle = state.children.get(&id)?.handle.clone();
        handle.set_actor(None);
        if !self.context.ownership.owns(id.shard()) {
            self.router.forget(&handle);
            state.children.remove(&id);
        }
        state.children.get_mut(&id)
    }

    /// The store does not answer, which is nobody's fault here: it is asked again for as long as it
    /// takes.
    fn start_later(&self, myself: &ActorRef<ShardMsg>, state: &mut ShardState, id: InstanceId) {
        if self.left_behind(state, id).is_some() {
            let wait = restart_wait(STORE_AWAY, self.context.chance());
            self.restart_after(myself, id, wait);
        }
    }

    /// An actor failed: it is started again after a backoff, or quarantined.
    fn failed(&self, myself: &ActorRef<ShardMsg>, state: &mut ShardState, id: InstanceId) {
        let Some(child) = self.left_behind(state, id) else {
            return;
        };
        let now = self.context.clock.now();
        let chance = self.context.chance();
        let blame = child.suspects.lock().died();
        let restart = match blame {
            Blame::Message => Restart::After(restart_wait(1, chance)),
            Blame::Nobody => child.restarts.failed(self.context.clock.mono(), chance),
        };
        match restart {
            Restart::After(wait) => {
                self.context.metrics.restarted();
                self.restart_after(myself, id, wait);
            }
            Restart::Quarantine => {
                self.context.metrics.quarantined();
                child.handle.show(|shown| {
                    shown.session = Session::Closed {
                        reason: CloseReason::Quarantined,
                    };
                    shown.since = now;
                });
                tracing::error!(instance = %id, "quarantined: it failed again and again");
            }
        }
    }

    fn restart_after(&self, myself: &ActorRef<ShardMsg>, id: InstanceId, wait: Duration) {
        let (myself, stop) = (myself.clone(), self.context.stop.clone());
        self.context.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {
                    // A shard that is gone needs no restarts.
                    drop(myself.cast(ShardMsg::Restart(id)));
                }
            }
        });
    }

    /// Starts a failed instance again, as its account set it up by now and with the work that
    /// the store knows of.
    async fn restart(&self, myself: &ActorRef<ShardMsg>, state: &mut ShardState, id: InstanceId) {
        let Some(child) = state.children.get_mut(&id) else {
            return;
        };
        if child.handle.actor().is_some() {
            return;
        }
        if let Ok(Some(instance)) = self.context.directory.instance_by_id(id).await {
            child.instance = instance;
        }
        child.parts = parts_of(&self.context, id).await;
        self.spawn(myself, state, id).await;
    }

    /// An actor left in good order.
    fn left(&self, state: &mut ShardState, handle: &Arc<Handle>) {
        handle.set_actor(None);
        self.router.forget(handle);
        let id = handle.instance();
        // Somebody may have come for the instance meanwhile: then its child is a new one.
        if state
            .children
            .get(&id)
            .is_some_and(|child| Arc::ptr_eq(&child.handle, handle))
        {
            state.children.remove(&id);
        }
    }
}
