//! What the API asks of instances and messages, beside accepting.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use zajil_model::id::{AccountId, InstanceId, MessageId, Shard};
use zajil_model::instance::{Instance, Session, TransportKind, TransportSettings, Wanted};
use zajil_model::lifecycle::Status;
use zajil_storage::{MessageRecord, Work};
use zajil_transport::OpenError;

use crate::directory::DirectoryError;
use crate::engine::Engine;
use crate::engine::instances::ask;
use crate::instance::InstanceMsg;
use crate::instance::handle::{Handle, Shown};
use crate::owners::questions::{
    ApplyInstance, CancelMessage, ConnectInstance, ObserveInstance, PurgeInstance, RemoveInstance,
    ShowInstance, WaitingFor,
};
use crate::send::{
    Barrier, CancelError, EngineError, InstanceFigures, InstanceView, WaitReason, Waiting,
};

const NOT_CONFIRMED: EngineError =
    EngineError::Unavailable("the owner of the instance did not answer in time");

impl Engine {
    /// Withdraws a message that is not being sent yet.
    ///
    /// # Errors
    /// [`CancelError`].
    pub async fn cancel(
        &self,
        account: AccountId,
        id: MessageId,
    ) -> Result<MessageRecord, CancelError> {
        let asked = self.at_owner(id.giver(), CancelMessage { account, id });
        asked.await.map_err(EngineError::from)?
    }

    pub(super) async fn cancel_here(
        &self,
        account: AccountId,
        id: MessageId,
    ) -> Result<MessageRecord, CancelError> {
        let found = self.store().message(id).await.map_err(EngineError::from)?;
        let record = found
            .filter(|found| found.chunk.account == account)
            .ok_or(CancelError::NotFound)?;
        if record.state.status.is_settled() || record.state.status == Status::Processing {
            return Err(CancelError::TooLate(record.state.status));
        }
        let instance = self.instance(record.chunk.instance).await?;
        let instance = instance.ok_or(CancelError::NotFound)?;
        let entered = self.0.router.enter(&instance);
        let asked = ask(&entered, |reply| InstanceMsg::Cancel(id, reply)).await;
        match asked.ok_or(NOT_CONFIRMED)?.map_err(EngineError::from)? {
            Status::Cancelled => {}
            other => return Err(CancelError::TooLate(other)),
        }
        if !self.speaks_for(id.giver()) {
            return Err(EngineError::OutcomeUnknown.into());
        }
        let after = self.store().message(id).await.map_err(EngineError::from)?;
        let after = after.ok_or(CancelError::NotFound)?;
        if after.state.status == Status::Cancelled {
            Ok(after)
        } else {
            // The channel's word came first.
            Err(CancelError::TooLate(after.state.status))
        }
    }

    /// What everybody may see of an instance, without asking its actor.
    pub async fn shown(&self, instance: &Arc<Instance>) -> Shown {
        let question = ShowInstance(instance.clone());
        match self.at_owner(instance.id.shard(), question).await {
            Ok(shown) => shown,
            // Nobody has it now: what its people asked for is what it will be.
            Err(_) => self.shown_here(instance),
        }
    }

    pub(super) fn shown_here(&self, instance: &Instance) -> Shown {
        if let Some(handle) = self.0.router.running(instance.id) {
            return handle.shown();
        }
        // One that does not run is opened when it is needed.
        let session = match instance.wanted {
            Wanted::Connected => Session::Open,
            Wanted::Disconnected => Session::Closed {
                reason: zajil_model::instance::CloseReason::Disconnected,
            },
            Wanted::LoggedOut => Session::Closed {
                reason: zajil_model::instance::CloseReason::LoggedOut,
            },
        };
        Shown {
            session,
            since: instance.created_at,
            restricted_until: None,
            phone: instance.phone,
        }
    }

    /// What an instance is doing now, with its depth by lane.
    pub async fn observe(&self, instance: &Arc<Instance>) -> InstanceView {
        let question = ObserveInstance(instance.clone());
        match self.at_owner(instance.id.shard(), question).await {
            Ok(view) => view,
            Err(_) => self.at_rest(instance),
        }
    }

    pub(super) async fn observe_here(&self, instance: &Instance) -> InstanceView {
        let running = self.0.router.running(instance.id);
        let figures = match running {
            Some(handle) => ask(&handle, InstanceMsg::View).await,
            None => None,
        };
        let mut view = figures.map_or_else(|| self.at_rest(instance), |figures| figures.view);
        match self.store().work().await {
            Ok(work) => {
                for work in work.into_iter().filter(|work| work.instance == instance.id) {
                    view.depth[work.queue.lane() as usize] += work.unsettled;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read the depth of an instance"),
        }
        view
    }

    fn at_rest(&self, instance: &Instance) -> InstanceView {
        let shown = self.shown_here(instance);
        InstanceView {
            session: shown.session,
            since: shown.since,
            restricted_until: shown.restricted_until,
            phone: shown.phone,
            depth: [0; 3],
            in_flight: 0,
            rate: instance.pace.rate_per_second(),
        }
    }

    /// Whether a transport could be opened with these settings, as far as they tell by themselves.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_transport(
        &self,
        kind: TransportKind,
        settings: &TransportSettings,
    ) -> Result<(), OpenError> {
        let factory = self.0.context.transports.get(&kind);
        factory.ok_or(OpenError::Unsupported(kind))?.check(settings)
    }

    /// Puts a changed instance (its row is durable) in force: pace, pause, session.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] while the node is draining.
    pub async fn apply_instance(&self, instance: Arc<Instance>) -> Result<Barrier, EngineError> {
        let shard = instance.id.shard();
        self.at_owner(shard, ApplyInstance(instance)).await?
    }

    pub(super) async fn apply_here(&self, told: Arc<Instance>) -> Result<Barrier, EngineError> {
        let _in_turn = self.directory().changing_instance(told.id).await;
        match self.directory().changed_instance(&told).await {
            Ok(instance) => Ok(self.put_in_force(instance).await),
            Err(error) => {
                tracing::warn!(instance = %told.id, %error, "a change is not in force yet");
                Ok(self.barrier(false, &told.name))
            }
        }
    }

    /// One that does not run reads its row when it starts; so does one whose actor failed.
    async fn put_in_force(&self, instance: Arc<Instance>) -> Barrier {
        let running = self.0.router.running(instance.id);
        let Some(handle) = running.filter(|handle| handle.actor().is_some()) else {
            return self.barrier(self.speaks_for(instance.id.shard()), &instance.name);
        };
        let asked = ask(&handle, |reply| InstanceMsg::Apply(instance.clone(), reply))
            .await
            .is_some();
        self.barrier(
            asked && self.speaks_for(instance.id.shard()),
            &instance.name,
        )
    }

    pub(super) fn speaks_for(&self, shard: Shard) -> bool {
        self.0.context.speaks_for(shard)
    }

    /// Opens the session of an instance again, whatever had ended it.
    ///
    /// # Errors
    /// Its owner cannot be reached.
    pub async fn connect(&self, instance: &Arc<Instance>) -> Result<(), EngineError> {
        let question = ConnectInstance(instance.clone());
        Ok(self.at_owner(instance.id.shard(), question).await?)
    }

    pub(super) fn connect_here(&self, instance: &Arc<Instance>) {
        let entered = self.0.router.enter(instance);
        if !entered.tell(InstanceMsg::Connect) {
            self.0.router.release(instance.id);
        }
    }

    /// Stops an instance that was deleted; its unsettled messages are cancelled.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn remove_instance(&self, instance: &Arc<Instance>) -> Result<Barrier, EngineError> {
        let question = RemoveInstance(instance.clone());
        self.at_owner(instance.id.shard(), question).await?
    }

    pub(super) async fn remove_here(&self, instance: &Instance) -> Result<Barrier, EngineError> {
        let purged = self.purge_here(instance).await?;
        let gone = Instance {
            wanted: Wanted::Disconnected,
            ..instance.clone()
        };
        let applied = self.apply_here(Arc::new(gone)).await?;
        self.directory().forget_instance(instance);
        Ok(if purged.is_confirmed() {
            applied
        } else {
            purged
        })
    }

    /// Cancels everything of an instance that is not being sent.
    ///
    /// # Errors
    /// [`EngineError::Store`] when the cancel could not be made durable.
    pub async fn purge(&self, instance: &Arc<Instance>) -> Result<Barrier, EngineError> {
        let question = PurgeInstance(instance.clone());
        self.at_owner(instance.id.shard(), question).await?
    }

    pub(super) async fn purge_here(&self, instance: &Instance) -> Result<Barrier, EngineError> {
        let entered = self.0.router.enter(&Arc::new(instance.clone()));
        // The owner takes an id for it, and does not wait for one.
        self.0.context.clocks.ensure(instance.id.shard(), 1).await?;
        match ask(&entered, InstanceMsg::Purge).await {
            Some(result) => {
                result?;
                Ok(self.barrier(self.speaks_for(instance.id.shard()), &instance.name))
            }
            None => Ok(self.barrier(false, &instance.name)),
        }
    }

    /// What an unsettled message waits for; `None` once it is being sent or settled.
    pub async fn waiting_for(&self, record: &MessageRecord) -> Option<Waiting> {
        if record.state.status.is_settled() {
            return None;
        }
        let shard = record.chunk.instance.shard();
        let asked = self.at_owner(shard, WaitingFor(record.clone()));
        asked.await.ok().flatten()
    }

    pub(super) async fn waiting_here(&self, record: &MessageRecord) -> Option<Waiting> {
        let Some(handle) = self.0.router.running(record.chunk.instance) else {
            let reason = if record.state.status == Status::Scheduled {
                WaitReason::Schedule
            } else {
                WaitReason::Paused
            };
            return Some(Waiting {
                reason,
                next_attempt_at: record.state.next_at,
            });
        };
        ask(&handle, |reply| InstanceMsg::Waiting(record.clone(), reply))
            .await
            .flatten()
    }

    /// Figures of running instances, at most `limit`; only of one, or only of those whose session
    /// has this [label](Session::label), if that is asked.
    pub async fn figures(
        &self,
        only: Option<InstanceId>,
        state: Option<&str>,
        limit: usize,
    ) -> Vec<InstanceFigures> {
        let handles: Vec<Arc<Handle>> = match only {
            Some(instance) => self.0.router.running(instance).into_iter().collect(),
            None => self.0.router.all(),
        };
        let wanted = |handle: &Arc<Handle>| {
            state.is_none_or(|state| handle.shown().session.label() == state)
        };
        let handles: Vec<_> = handles.into_iter().filter(wanted).take(limit).collect();
        let asked = handles.iter().map(|handle| ask(handle, InstanceMsg::View));
        let answered = futures_util::future::join_all(asked).await;
        let mut figures: Vec<InstanceFigures> = answered.into_iter().flatten().collect();
        match self.store().work().await {
            Ok(work) => add_depths(&mut figures, &work),
            Err(error) => tracing::warn!(%error, "cannot read the depth of instances"),
        }
        figures
    }

    pub(super) async fn instance(
        &self,
        id: InstanceId,
    ) -> Result<Option<Arc<Instance>>, EngineError> {
        self.directory()
            .instance_by_id(id)
            .await
            .map_err(|error| match error {
                DirectoryError::Store(error) => EngineError::Store(error),
                _ => EngineError::Unavailable("the instance could not be read"),
            })
    }

    fn barrier(&self, confirmed: bool, name: &str) -> Barrier {
        Barrier {
            missing: if confirmed {
                Vec::new()
            } else {
                vec![name.to_owned()]
            },
        }
    }
}

/// Adds what waits to the figures of its instances.
fn add_depths(figures: &mut [InstanceFigures], work: &[Work]) {
    let places: FxHashMap<InstanceId, usize> = figures
        .iter()
        .enumerate()
        .map(|(place, figures)| (figures.instance, place))
        .collect();
    for work in work {
        if let Some(place) = places.get(&work.instance) {
            figures[*place].view.depth[work.queue.lane() as usize] += work.unsettled;
        }
    }
}
