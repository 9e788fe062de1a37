//! What the API asks of instances and messages, beside accepting.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use zajil_model::id::{AccountId, InstanceId, MessageId};
use zajil_model::instance::{Instance, Session, TransportKind, TransportSettings, Wanted};
use zajil_model::lifecycle::Status;
use zajil_model::phone::Phone;
use zajil_storage::{MessageRecord, Work};
use zajil_transport::OpenError;

use crate::directory::{DirectoryError, Suppression};
use crate::engine::Engine;
use crate::engine::instances::{CONFIRM_WITHIN, ask};
use crate::instance::InstanceMsg;
use crate::instance::handle::{Handle, Shown};
use crate::owners::questions::{
    ApplyInstance, CancelMessage, ConnectInstance, ObserveInstance, OptedOut, PurgeInstance,
    RemoveInstance, ShowInstance, WaitingFor,
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

    pub(super) async fn apply_here(&self, instance: Arc<Instance>) -> Result<Barrier, EngineError> {
        self.directory().know_instance(&instance);
        // One that does not run reads its row when it starts; so does one whose actor failed.
        let running = self.0.router.running(instance.id);
        let Some(handle) = running.filter(|handle| handle.actor().is_some()) else {
            return Ok(Barrier::confirmed());
        };
        let asked = ask(&handle, |reply| InstanceMsg::Apply(instance.clone(), reply))
            .await
            .is_some();
        Ok(self.barrier(asked, &instance.name))
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
        match ask(&entered, |reply| InstanceMsg::Purge(None, reply)).await {
            Some(result) => {
                result?;
                Ok(Barrier::confirmed())
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

    /// Opts a recipient out; once confirmed, nothing new is handed over to them.
    ///
    /// # Errors
    /// When the entry could not be made durable.
    pub async fn suppress(
        &self,
        account: AccountId,
        phone: Phone,
        reason: Option<String>,
        source: String,
    ) -> Result<Barrier, EngineError> {
        let created_at = self.clock().now();
        let entry = Suppression {
            phone,
            reason,
            source,
            created_at,
        };
        self.directory()
            .suppress(account, entry)
            .await
            .map_err(|error| match error {
                DirectoryError::Store(error) => EngineError::Store(error),
                _ => EngineError::Unavailable("the opt-out was not taken"),
            })?;
        self.opted_out(account, phone, true).await
    }

    /// Opts a recipient in again; answers whether they were out.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn unsuppress(
        &self,
        account: AccountId,
        phone: Phone,
    ) -> Result<bool, DirectoryError> {
        let were_out = self.directory().unsuppress(account, phone).await?;
        if were_out {
            // Who did not hear of it goes on holding back, until it reads the list again.
            drop(self.opted_out(account, phone, false).await);
        }
        Ok(were_out)
    }

    /// An opt-out is durable, or is taken back: every node that may send hears of it, and confirms
    /// that nothing is outstanding that was cleared before.
    async fn opted_out(
        &self,
        account: AccountId,
        phone: Phone,
        out: bool,
    ) -> Result<Barrier, EngineError> {
        let question = OptedOut {
            account,
            phone,
            out,
        };
        let me = self.ownership().me();
        let nodes = match self.cluster() {
            // Read now: a node that joined just before is asked as well.
            Some(cluster) => cluster.live_nodes().await,
            None => Ok(self.ownership().nodes()),
        };
        let nodes = nodes.map_err(|_| EngineError::Unavailable("the nodes cannot be read"))?;
        let nodes = nodes.into_iter();
        let question = &question;
        let others = nodes.filter(|node| *node != me).map(|node| async move {
            let asked = self.0.owners.ask_node(node, question, CONFIRM_WITHIN);
            asked
                .await
                .unwrap_or_else(|_| vec![format!("node {}", node.0)])
        });
        let others = futures_util::future::join_all(others);
        let (mut missing, told) = tokio::join!(self.opted_out_here(account, phone, out), others);
        missing.extend(told.into_iter().flatten());
        Ok(Barrier { missing })
    }

    /// Puts an opt-out in force on this node; answers which instances did not confirm.
    pub(super) async fn opted_out_here(
        &self,
        account: AccountId,
        phone: Phone,
        out: bool,
    ) -> Vec<String> {
        if let Err(error) = self.directory().heard_of_opt_out(account, phone, out).await {
            tracing::error!(%account, %error, "an opt-out is not in force here");
            return vec![format!("node {}", self.ownership().me().0)];
        }
        let running = self.0.router.all();
        let of_account = running
            .into_iter()
            .filter(|handle| handle.account() == account);
        let asked = of_account.map(|handle| async move {
            // An actor that is not there hands nothing over, and reads the list when it starts.
            let confirmed =
                handle.actor().is_none() || ask(&handle, InstanceMsg::Barrier).await.is_some();
            (handle, confirmed)
        });
        let answers = futures_util::future::join_all(asked).await;
        let mut missing = Vec::new();
        for (handle, _) in answers.into_iter().filter(|(_, confirmed)| !confirmed) {
            let id = handle.instance();
            let known = self.instance(id).await.ok().flatten();
            missing.push(known.map_or_else(|| id.to_string(), |known| known.name.clone()));
        }
        missing
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
