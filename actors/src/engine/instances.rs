//! The instances, as batches and the engine reach them: here, or on the node that owns them.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::timeout;
use zajil_model::id::{AccountId, BatchId, InstanceId};

use crate::batch::{InstancePort, PartPhase, PartState};
use crate::context::Context;
use crate::engine::{Engine, Parts};
use crate::instance::InstanceMsg;
use crate::instance::handle::{Entered, Handle};
use crate::owners::questions::{PartGrew, SetPart};
use crate::owners::{Asked, Owners};
use crate::router::Router;
use crate::send::EngineError;

/// How long an owner may take to confirm; on one node it only waits for its turn and a commit.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// How often an actor that is being started is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How long an instance that the store does not know just now is left alone: what made a store
/// silent lasts for seconds.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Reaches instances, wherever they are.
#[derive(Clone)]
pub(super) struct Instances {
    context: Arc<Context>,
    router: Router,
    owners: Owners,
    engine: Arc<OnceLock<Weak<Parts>>>,
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
    timeout(CONFIRM_WITHIN, asking).await.ok()
}

impl Instances {
    /// Reaches them from anywhere; to be made within the runtime.
    pub(super) fn new(context: Arc<Context>, router: Router, owners: Owners) -> Self {
        Self {
            context,
            router,
            owners,
            engine: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// From now on this engine knows who they are.
    pub(super) fn belong_to(&self, engine: &Arc<Parts>) {
        self.engine.get_or_init(|| Arc::downgrade(engine));
    }

    fn engine(&self) -> Result<Engine, EngineError> {
        const STARTING: EngineError = EngineError::Unavailable("the node is starting or stopping");
        let engine = self.engine.get().and_then(Weak::upgrade);
        engine.map(Engine).ok_or(STARTING)
    }

    /// Goes in to an instance of this node, which is started if it does not run; `None` when it was
    /// deleted.
    async fn enter(&self, instance: InstanceId) -> Result<Option<Entered>, EngineError> {
        let running = self.router.running(instance);
        if let Some(inside) = running.and_then(|handle| handle.enter()) {
            return Ok(Some(inside));
        }
        let known = self.engine()?.instance(instance).await?;
        Ok(known.map(|instance| self.router.enter(&instance)))
    }

    async fn tell_grown(&self, instance: InstanceId, batch: BatchId) -> Result<(), EngineError> {
        let Some(inside) = self.enter(instance).await? else {
            // Nobody else would settle what one that was deleted got since.
            return self.engine()?.settle_orphans(instance).await;
        };
        // Who is inside keeps the actor from leaving before it has read that.
        let told = ask(&inside, |reply| {
            inside.tell(InstanceMsg::PartGrew(batch));
            InstanceMsg::Barrier(reply)
        });
        // One that does not start reads its parts when it does.
        told.await;
        if self.engine()?.instance(instance).await?.is_none() {
            // It was deleted, and its actor has not left yet: that sends nothing any more.
            self.withdraw(&inside).await?;
        }
        Ok(())
    }

    /// Withdraws what an instance got since it was deleted.
    async fn withdraw(&self, inside: &Entered) -> Result<(), EngineError> {
        // A cancel takes an id, and its owner does not wait for one.
        self.context.clocks.ensure(inside.shard(), 1).await?;
        match ask(inside, InstanceMsg::Purge).await {
            Some(result) => Ok(result?),
            None => Err(EngineError::Unavailable("the instance does not answer")),
        }
    }

    /// Tells an instance of this node that one of its parts has new rows; again and again while the
    /// store does not say who it is.
    pub(super) fn part_grew_here(&self, instance: InstanceId, batch: BatchId) {
        let instances = self.clone();
        let telling = async move {
            let stop = instances.context.stop.clone();
            while instances.owners.ownership().owns(instance.shard()) {
                let Err(error) = instances.tell_grown(instance, batch).await else {
                    return;
                };
                tracing::warn!(%instance, %batch, %error, "cannot tell an instance of new rows");
                if timeout(TELL_AGAIN, stop.cancelled()).await.is_ok() {
                    return;
                }
            }
        };
        self.context.tasks.spawn_on(telling, &self.runtime);
    }

    /// Puts the state of a part of an instance of this node in force.
    pub(super) async fn part_state_here(
        &self,
        instance: InstanceId,
        batch: BatchId,
        state: PartState,
    ) -> bool {
        let idle_is_enough = matches!(state.phase, PartPhase::Held | PartPhase::Paused);
        let confirmed = if idle_is_enough && self.router.running(instance).is_none() {
            Ok(true)
        } else {
            self.confirm(instance, batch, state).await
        };
        let confirmed = confirmed.unwrap_or_else(|error| {
            tracing::warn!(%instance, %batch, %error, "cannot put the state of a part in force");
            false
        });
        confirmed && self.context.speaks_for(instance.shard())
    }

    async fn confirm(
        &self,
        instance: InstanceId,
        batch: BatchId,
        state: PartState,
    ) -> Result<bool, EngineError> {
        let Some(inside) = self.enter(instance).await? else {
            // An instance that was deleted has nothing to send any more.
            self.engine()?.settle_orphans(instance).await?;
            return Ok(true);
        };
        // A cancel takes an id, and its owner does not wait for one.
        self.context.clocks.ensure(inside.shard(), 1).await?;
        let told = |reply| InstanceMsg::Part(batch, state, reply);
        Ok(ask(&inside, told).await.unwrap_or(false))
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
