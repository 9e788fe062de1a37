//! The supervisor of all buckets: opens them when a key is used, closes them when it is not.
//!
//! A bucket that fails is opened again by the next request of its key, but not at once when it
//! failed before: the wait doubles. Others are not touched by that.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use zajil_model::id::KeyId;
use zajil_model::time::Mono;

use super::bucket::{BucketActor, BucketMsg, Ports};
use super::{Bucket, Buckets, Unavailable};

/// How long a key is not used before its bucket is closed.
const IDLE: Duration = Duration::from_secs(120);

/// How often idle buckets are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How long a stop waits for buckets to write what they used.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The wait after the first failure of a bucket; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A bucket that did not fail for this long is forgiven.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// What the supervisor is told.
pub(super) enum SupervisorMsg {
    /// A key without a bucket is used.
    Open(KeyId, oneshot::Sender<Result<Arc<Bucket>, Unavailable>>),
    /// A bucket was found stopped.
    Gone(KeyId, ActorId, oneshot::Sender<()>),
    /// Look for idle buckets.
    Look,
    /// Close all and stop.
    Stop(oneshot::Sender<()>),
}

/// The supervisor of all buckets.
pub(super) struct Supervisor {
    ports: Ports,
    buckets: Buckets,
}

#[derive(Default)]
pub(super) struct SupervisorState {
    keys: FxHashMap<ActorId, KeyId>,
    failures: FxHashMap<KeyId, Failures>,
    /// Who waits for the last bucket to stop.
    stopping: Option<oneshot::Sender<()>>,
}

struct Failures {
    count: u32,
    last: Mono,
}

impl Failures {
    fn opens_again(&self) -> Mono {
        self.last + (FIRST_WAIT * 2_u32.saturating_pow(self.count - 1)).min(LONGEST_WAIT)
    }
}

impl Supervisor {
    pub(super) const fn new(ports: Ports, buckets: Buckets) -> Self {
        Self { ports, buckets }
    }

    async fn open(
        &self,
        myself: &ActorRef<SupervisorMsg>,
        key: KeyId,
        state: &mut SupervisorState,
    ) -> Result<Arc<Bucket>, Unavailable> {
        if let Some(bucket) = self.buckets.read().get(&key) {
            return Ok(Arc::clone(bucket));
        }
        let now = self.ports.clock.mono();
        if state.stopping.is_some() {
            return Err(Unavailable::Stopping);
        }
        if state
            .failures
            .get(&key)
            .is_some_and(|failures| now < failures.opens_again())
        {
            return Err(Unavailable::Overloaded);
        }
        let counter = Arc::default();
        let actor = BucketActor {
            key,
            ports: self.ports.clone(),
            counter: Arc::clone(&counter),
        };
        // Its start reads nothing itself, so this does not wait for the store.
        let spawned = Actor::spawn_linked(None, actor, (), myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|_| Unavailable::Stopping)?;
        state.keys.insert(actor.get_id(), key);
        let bucket = Arc::new(Bucket::new(actor, counter, now));
        self.buckets.write().insert(key, Arc::clone(&bucket));
        Ok(bucket)
    }

    fn forget(&self, key: KeyId, actor: ActorId) {
        let mut buckets = self.buckets.write();
        if buckets
            .get(&key)
            .is_some_and(|bucket| bucket.actor.get_id() == actor)
        {
            buckets.remove(&key);
        }
    }

    fn look(&self, state: &mut SupervisorState) {
        let now = self.ports.clock.mono();
        for bucket in self.buckets.read().values() {
            if now.since(bucket.used_at()) >= IDLE {
                // One that is gone is forgotten by its end.
                bucket.actor.send_message(BucketMsg::Passivate).ok();
            }
        }
        state
            .failures
            .retain(|_, failures| now.since(failures.last) < FORGIVEN_AFTER);
    }

    fn stop_all(&self, myself: &ActorRef<SupervisorMsg>, state: &mut SupervisorState) {
        if state.keys.is_empty() {
            myself.stop(None);
            return;
        }
        // Nobody finds them from now on: requests that go on coming would keep them from ending.
        for (_, bucket) in self.buckets.write().drain() {
            // One that is gone is forgotten by its end.
            bucket.actor.send_message(BucketMsg::Passivate).ok();
        }
        // What cannot write in time is dropped: its reservation counts as used then.
        let myself = myself.clone();
        self.ports.tracker.spawn(async move {
            if myself.wait(Some(STOP_WITHIN)).await.is_err() {
                myself.stop(None);
            }
        });
    }

    /// A bucket ended, in order or not.
    fn ended(&self, actor: ActorId, failed: bool, state: &mut SupervisorState) {
        let Some(key) = state.keys.remove(&actor) else {
            return;
        };
        self.forget(key, actor);
        if failed {
            let last = self.ports.clock.mono();
            let failures = state
                .failures
                .entry(key)
                .or_insert(Failures { count: 0, last });
            failures.count += 1;
            failures.last = last;
        }
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
        drop(myself.send_interval(LOOK_EVERY, || SupervisorMsg::Look));
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
            SupervisorMsg::Open(key, reply) => {
                reply.send(self.open(&myself, key, state).await).ok();
            }
            SupervisorMsg::Gone(key, actor, reply) => {
                self.forget(key, actor);
                reply.send(()).ok();
            }
            SupervisorMsg::Look => self.look(state),
            SupervisorMsg::Stop(reply) => {
                state.stopping = Some(reply);
                self.stop_all(&myself, state);
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
        match event {
            SupervisionEvent::ActorTerminated(actor, _, _) => {
                self.ended(actor.get_id(), false, state);
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                tracing::error!(actor = %actor.get_id(), %error, "the bucket of a key failed");
                self.ended(actor.get_id(), true, state);
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        if state.stopping.is_some() && state.keys.is_empty() {
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
