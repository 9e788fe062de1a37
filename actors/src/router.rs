//! The way from an instance to its owner: on one node, to the handle of its actor.
//!
//! The node's supervisor starts a supervisor for a shard when something of it is wanted, and that
//! one starts the instance. Whoever asks for a handle gets it at once and never waits for the
//! actor: what is accepted before the actor runs is read from the log by it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use zajil_model::id::{BatchId, InstanceId, Shard};
use zajil_model::instance::Instance;

use crate::context::Context;
use crate::instance::handle::{Entered, Handle};
use crate::shard::{ShardActor, ShardMsg, parts_of};

/// What the node's supervisor is told.
#[derive(Debug)]
enum NodeMsg {
    /// For the supervisor of a shard, which is started if it does not run.
    For(Shard, ShardMsg),
    /// End the supervisor of a shard with all that it started.
    Close(Shard, oneshot::Sender<()>),
}

struct Inside {
    context: Arc<Context>,
    handles: RwLock<FxHashMap<InstanceId, Arc<Handle>>>,
    node: RwLock<Option<ActorRef<NodeMsg>>>,
}

/// Finds instances on this node.
#[derive(Clone)]
pub struct Router(Arc<Inside>);

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("running", &self.0.handles.read().len())
            .finish()
    }
}

impl Router {
    /// Starts the node's supervisor.
    ///
    /// # Errors
    /// When the actor cannot be spawned.
    pub async fn start(context: Arc<Context>) -> Result<Self, SpawnErr> {
        let router = Self(Arc::new(Inside {
            context,
            handles: RwLock::default(),
            node: RwLock::new(None),
        }));
        let (node, _) = NodeActor::spawn(
            None,
            NodeActor {
                router: router.clone(),
            },
            (),
        )
        .await?;
        *router.0.node.write() = Some(node);
        Ok(router)
    }

    /// Goes in to an instance, which is started if it does not run.
    pub fn enter(&self, instance: &Arc<Instance>) -> Entered {
        loop {
            let known = self.0.handles.read().get(&instance.id).cloned();
            let handle = known.unwrap_or_else(|| self.wake(instance, Vec::new()).0);
            if let Some(entered) = handle.enter() {
                return entered;
            }
            // Its actor is leaving: the next one is another.
            self.forget(&handle);
        }
    }

    /// The handle of an instance, if it runs.
    pub fn running(&self, instance: InstanceId) -> Option<Arc<Handle>> {
        self.0.handles.read().get(&instance).cloned()
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.0.handles.read().len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every running instance.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        self.0.handles.read().values().cloned().collect()
    }

    /// The running instances of a shard.
    pub fn of_shard(&self, shard: Shard) -> Vec<Arc<Handle>> {
        let handles = self.0.handles.read();
        let of_shard = handles.values().filter(|handle| handle.shard() == shard);
        of_shard.cloned().collect()
    }

    /// Ends what runs of a shard, and answers when it has ended.
    pub async fn close_shard(&self, shard: Shard) {
        for handle in self.of_shard(shard) {
            self.forget(&handle);
        }
        let (reply, closed) = oneshot::channel();
        let node = self.0.node.read().clone();
        if node.is_some_and(|node| node.cast(NodeMsg::Close(shard, reply)).is_ok()) {
            // An error means that the node stopped, and the shard with it.
            drop(closed.await);
        }
    }

    /// Starts an instance if it does not run; answers whether it did not, and so knows of these parts.
    pub fn wake(&self, instance: &Arc<Instance>, parts: Vec<BatchId>) -> (Arc<Handle>, bool) {
        let mut handles = self.0.handles.write();
        if let Some(handle) = handles.get(&instance.id) {
            return (handle.clone(), false);
        }
        let handle = Arc::new(Handle::new(
            instance.id,
            instance.account,
            self.0.context.clock.now(),
        ));
        handles.insert(instance.id, handle.clone());
        drop(handles);
        self.tell(
            handle.shard(),
            ShardMsg::Start {
                handle: handle.clone(),
                instance: instance.clone(),
                parts,
            },
        );
        (handle, true)
    }

    /// A person asked for a quarantined instance to be tried again.
    pub fn release(&self, instance: InstanceId) {
        self.tell(instance.shard(), ShardMsg::Release(instance));
    }

    /// Forgets a handle whose actor left.
    pub fn forget(&self, handle: &Arc<Handle>) {
        let mut handles = self.0.handles.write();
        if handles
            .get(&handle.instance())
            .is_some_and(|known| Arc::ptr_eq(known, handle))
        {
            handles.remove(&handle.instance());
        }
    }

    /// Stops the supervision tree.
    pub fn stop(&self) {
        if let Some(node) = self.0.node.write().take() {
            node.stop(Some("drained".into()));
        }
    }

    fn tell(&self, shard: Shard, msg: ShardMsg) {
        if let Some(node) = self.0.node.read().as_ref() {
            // A node that stopped starts nothing any more.
            drop(node.cast(NodeMsg::For(shard, msg)));
        }
    }
}

/// How long what is killed may take to end: it is at its next await.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The wait before an instance is looked for again that could not be read.
const START_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct NodeActor {
    router: Router,
}

#[derive(Debug, Default)]
struct NodeState {
    shards: FxHashMap<Shard, ActorRef<ShardMsg>>,
    running: FxHashMap<ActorId, Shard>,
}

impl Actor for NodeActor {
    type Msg = NodeMsg;
    type State = NodeState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<NodeMsg>,
        (): (),
    ) -> Result<NodeState, ActorProcessingErr> {
        Ok(NodeState::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<NodeMsg>,
        msg: NodeMsg,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        let (shard, msg) = match msg {
            NodeMsg::For(shard, msg) => (shard, msg),
            NodeMsg::Close(shard, reply) => {
                self.close(state, shard, reply);
                return Ok(());
            }
        };
        if !state.shards.contains_key(&shard) {
            let router = self.router.clone();
            let actor = ShardActor {
                context: router.0.context.clone(),
                router,
            };
            let (actor, _) = ShardActor::spawn_linked(None, actor, (), myself.get_cell()).await?;
            state.running.insert(actor.get_id(), shard);
            state.shards.insert(shard, actor);
        }
        if let Some(actor) = state.shards.get(&shard) {
            // It can only have failed just now; its end is on its way and restarts everything.
            drop(actor.cast(msg));
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<NodeMsg>,
        event: SupervisionEvent,
        state: &mut NodeState,
    ) -> Result<(), ActorProcessingErr> {
        let cell = match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                tracing::error!(%error, "a shard supervisor failed");
                cell
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => cell,
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        if let Some(shard) = state.running.remove(&cell.get_id()) {
            state.shards.remove(&shard);
            self.restart_all(&myself, shard);
        }
        Ok(())
    }
}

impl NodeActor {
    /// Ends a shard's supervisor; its children end with it. The answer comes when it is gone.
    fn close(&self, state: &mut NodeState, shard: Shard, reply: oneshot::Sender<()>) {
        let Some(actor) = state.shards.remove(&shard) else {
            // Who asked may have gone.
            reply.send(()).ok();
            return;
        };
        state.running.remove(&actor.get_id());
        self.router.0.context.tasks.spawn(async move {
            if let Err(error) = actor.kill_and_wait(Some(CLOSE_WITHIN)).await {
                tracing::error!(%shard, %error, "what runs of a shard does not end");
            }
            reply.send(()).ok();
        });
    }

    /// A shard's supervisor is gone and its children with it: starts those that were running.
    fn restart_all(&self, myself: &ActorRef<NodeMsg>, shard: Shard) {
        for handle in self
            .router
            .all()
            .into_iter()
            .filter(|handle| handle.shard() == shard)
        {
            // The handle stays: who is inside has accepts under way that its next actor must
            // hear of.
            handle.set_actor(None);
            let (router, myself) = (self.router.clone(), myself.clone());
            let context = router.0.context.clone();
            self.router.0.context.tasks.spawn(async move {
                while !context.stop.is_cancelled() {
                    match context.directory.instance_by_id(handle.instance()).await {
                        Ok(Some(instance)) => {
                            let parts = parts_of(&context, instance.id).await;
                            let start = ShardMsg::Start {
                                handle,
                                instance,
                                parts,
                            };
                            // A node that stopped starts nothing any more.
                            return drop(myself.cast(NodeMsg::For(shard, start)));
                        }
                        Ok(None) => return router.forget(&handle),
                        Err(error) => tracing::error!(%error, "cannot start an instance again"),
                    }
                    tokio::time::sleep(START_AGAIN).await;
                }
            });
        }
    }
}
