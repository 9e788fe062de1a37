//! The instances, as batches and the engine reach them: here, or on the node that owns them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use zajil_model::id::{AccountId, BatchId, InstanceId};

use crate::batch::{InstancePort, PartPhase, PartState};
use crate::context::Context;
use crate::instance::InstanceMsg;
use crate::instance::handle::Handle;
use crate::owners::questions::{PartGrew, SetPart};
use crate::owners::{Asked, Owners};
use crate::router::Router;

/// How long an owner may take to confirm; on one node it only waits for its turn and a commit.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// How often an actor that is being started is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Reaches instances, wherever they are.
#[derive(Clone)]
pub(super) struct Instances {
    context: Arc<Context>,
    router: Router,
    owners: Owners,
    /// Parts grow on the store's own thread, which has no runtime.
    runtime: tokio::runtime::Handle,
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances")
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

/// Asks the actor of a handle; one that is being started is waited for. `None` when it does not
/// answer in time.
pub(super) async fn ask<T>(
    handle: &Arc<Handle>,
    question: impl Fn(oneshot::Sender<T>) -> InstanceMsg,
) -> Option<T> {
    let asking = async {
        loop {
            let (reply, answer) = oneshot::channel();
            if handle.tell(question(reply))
                && let Ok(answer) = answer.await
            {
                return answer;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(CONFIRM_WITHIN, asking).await.ok()
}

impl Instances {
    /// Reaches them from anywhere; to be made within the runtime.
    pub(super) fn new(context: Arc<Context>, router: Router, owners: Owners) -> Self {
        Self {
            context,
            router,
            owners,
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Starts an instance with a part, if it does not run.
    async fn wake(&self, instance: InstanceId, batch: BatchId) -> Option<Arc<Handle>> {
        match self.context.directory.instance_by_id(instance).await {
            Ok(Some(instance)) => Some(self.router.wake(&instance, vec![batch])),
            Ok(None) => None,
            Err(error) => {
                tracing::error!(%instance, %error, "cannot wake an instance for its batch");
                None
            }
        }
    }
}

impl Instances {
    /// Tells an instance of this node that one of its parts has new rows.
    pub(super) fn part_grew_here(&self, instance: InstanceId, batch: BatchId) {
        if let Some(handle) = self.router.running(instance) {
            // One that is being started reads the part when it runs.
            if handle.tell(InstanceMsg::PartGrew(batch)) {
                return;
            }
        }
        let instances = self.clone();
        let waking = async move {
            if let Some(handle) = instances.wake(instance, batch).await {
                ask(&handle, |reply| {
                    handle.tell(InstanceMsg::PartGrew(batch));
                    InstanceMsg::Barrier(reply)
                })
                .await;
            }
        };
        self.context.tasks.spawn_on(waking, &self.runtime);
    }

    /// Puts the state of a part of an instance of this node in force.
    pub(super) async fn part_state_here(
        &self,
        instance: InstanceId,
        batch: BatchId,
        state: PartState,
    ) -> bool {
        let running = self.router.running(instance);
        let idle_is_enough = matches!(state.phase, PartPhase::Held | PartPhase::Paused);
        let handle = match running {
            Some(handle) => Some(handle),
            None if idle_is_enough => return self.context.speaks_for(instance.shard()),
            None => self.wake(instance, batch).await,
        };
        // An instance that was deleted has nothing to send any more.
        let Some(handle) = handle else { return true };
        // A cancel takes an id, and its owner does not wait for one.
        if let Err(error) = self.context.clocks.ensure(handle.shard(), 1).await {
            tracing::warn!(%batch, %error, "cannot get an id for the cancel of a part");
            return false;
        }
        let told = |reply| InstanceMsg::Part(batch, state, reply);
        let confirmed = ask(&handle, told).await.unwrap_or(false);
        confirmed && self.context.speaks_for(handle.shard())
    }
}

#[async_trait]
impl InstancePort for Instances {
    fn part_grew(&self, instance: InstanceId, batch: BatchId) {
        if self.owners.ownership().owns(instance.shard()) {
            return self.part_grew_here(instance, batch);
        }
        let instances = self.clone();
        let telling = async move {
            let question = PartGrew { instance, batch };
            match instances.owners.ask(instance.shard(), question).await {
                Ok(Asked::Here(_)) => instances.part_grew_here(instance, batch),
                Ok(Asked::There(())) => {}
                // Its next owner reads what it has when it takes the shard.
                Err(error) => tracing::debug!(%instance, %batch, %error, "not told of new rows"),
            }
        };
        self.context.tasks.spawn_on(telling, &self.runtime);
    }

    async fn part_state(
        &self,
        account: AccountId,
        instance: InstanceId,
        batch: BatchId,
        state: PartState,
    ) -> bool {
        let question = SetPart {
            account,
            instance,
            batch,
            state,
        };
        match self.owners.ask(instance.shard(), question).await {
            Ok(Asked::Here(_)) => self.part_state_here(instance, batch, state).await,
            Ok(Asked::There(confirmed)) => confirmed,
            Err(_) => false,
        }
    }
}
