//! What the engine answers as the owner, whoever asks.

use zajil_model::id::{InstanceId, MessageId, RequestId, Shard};
use zajil_model::phone::Phone;
use zajil_storage::{ChangePage, ListPage, MessageRecord, StoreError, Totals};

use super::Engine;
use crate::batch::{BatchError, BatchView, Changed, UploadProgress};
use crate::idempotency::Fate;
use crate::instance::handle::Shown;
use crate::key_bucket::{Quota, Unavailable};
use crate::owners::questions::{
    AcceptReserved, AddRows, AppendPart, ApplyInstance, AskPromise, AskWindow, CancelMessage,
    ChangeBatch, ConnectInstance, ObserveInstance, OptedOut, PartGrew, PurgeInstance, ReadChanges,
    ReadList, ReadMessage, ReadRecipients, ReadTotals, RemoveInstance, ReserveIds, SendMessages,
    SetPart, ShowInstance, ViewBatch, WaitingFor,
};
use crate::owners::{Answered, Asked, OwnerError, changes_here};
use crate::send::{
    AcceptError, Barrier, CancelError, EngineError, InstanceView, Reserved, Waiting,
};

impl Engine {
    /// Asks the owner of a shard, which may be this node.
    pub(super) async fn at_owner<Q: Answered>(
        &self,
        shard: Shard,
        question: Q,
    ) -> Result<Q::Answer, OwnerError> {
        match self.0.owners.ask(shard, question).await? {
            Asked::Here(question) => Ok(question.carry_out(self).await),
            Asked::There(answer) => Ok(answer),
        }
    }

    async fn once(
        &self,
        request: RequestId,
        work: impl Future<Output = Result<Reserved, AcceptError>> + Send + 'static,
    ) -> Result<Reserved, AcceptError> {
        let tasks = &self.0.context.tasks;
        self.0.twins.once(tasks, request, work).await
    }

    /// Refuses to speak for an instance that another node owns.
    fn owns_all(&self, instances: &[InstanceId]) -> Result<(), StoreError> {
        let ownership = self.ownership();
        let mut shards = instances.iter().map(|instance| instance.shard());
        let other = shards.find(|shard| !ownership.owns(*shard));
        other.map_or(Ok(()), |shard| Err(StoreError::NotOpen(shard)))
    }
}

impl Answered for SendMessages {
    async fn carry_out(self, engine: &Engine) -> Result<Reserved, AcceptError> {
        let (request, work) = (self.submission.request, engine.clone());
        let send = async move { work.send_here(self.submission, self.bulk).await };
        engine.once(request, send).await
    }
}

impl Answered for ReserveIds {
    async fn carry_out(self, engine: &Engine) -> Result<Reserved, AcceptError> {
        engine.reserve_here(&self).await
    }
}

impl Answered for AcceptReserved {
    async fn carry_out(self, engine: &Engine) -> Result<Reserved, AcceptError> {
        let (request, work) = (self.submission.request, engine.clone());
        let accept = async move { work.accept_here(self.reserved, self.submission).await };
        engine.once(request, accept).await
    }
}

impl Answered for AskPromise {
    async fn carry_out(self, engine: &Engine) -> Result<Fate, StoreError> {
        engine.0.idempotency.fate_here(self).await
    }
}

impl Answered for CancelMessage {
    async fn carry_out(self, engine: &Engine) -> Result<MessageRecord, CancelError> {
        engine.cancel_here(self.account, self.id).await
    }
}

impl Answered for ShowInstance {
    async fn carry_out(self, engine: &Engine) -> Shown {
        engine.shown_here(&self.0)
    }
}

impl Answered for ObserveInstance {
    async fn carry_out(self, engine: &Engine) -> InstanceView {
        engine.observe_here(&self.0).await
    }
}

impl Answered for ApplyInstance {
    async fn carry_out(self, engine: &Engine) -> Result<Barrier, EngineError> {
        engine.apply_here(self.0).await
    }
}

impl Answered for ConnectInstance {
    async fn carry_out(self, engine: &Engine) {
        engine.connect_here(&self.0);
    }
}

impl Answered for PurgeInstance {
    async fn carry_out(self, engine: &Engine) -> Result<Barrier, EngineError> {
        engine.purge_here(&self.0).await
    }
}

impl Answered for RemoveInstance {
    async fn carry_out(self, engine: &Engine) -> Result<Barrier, EngineError> {
        engine.remove_here(&self.0).await
    }
}

impl Answered for WaitingFor {
    async fn carry_out(self, engine: &Engine) -> Option<Waiting> {
        engine.waiting_here(&self.0).await
    }
}

impl Answered for AskWindow {
    async fn carry_out(self, engine: &Engine) -> Result<Quota, Unavailable> {
        engine.0.buckets.answer(&self).await
    }
}

impl Answered for ViewBatch {
    async fn carry_out(self, engine: &Engine) -> Result<BatchView, BatchError> {
        engine.0.batches.view_here(self.account, self.id).await
    }
}

impl Answered for ChangeBatch {
    async fn carry_out(self, engine: &Engine) -> Result<Changed, BatchError> {
        engine.0.batches.change_here(self).await
    }
}

impl Answered for AddRows {
    async fn carry_out(self, engine: &Engine) -> Result<UploadProgress, BatchError> {
        let batches = &engine.0.batches;
        let mut upload = batches
            .upload_here(self.account, self.id, self.from)
            .await?;
        if self.rows.is_empty() {
            return Ok(upload.progress());
        }
        upload.append_rows(self.rows).await
    }
}

impl Answered for PartGrew {
    async fn carry_out(self, engine: &Engine) {
        engine.0.instances.part_grew_here(self.instance, self.batch);
    }
}

impl Answered for SetPart {
    async fn carry_out(self, engine: &Engine) -> bool {
        let instances = &engine.0.instances;
        instances
            .part_state_here(self.instance, self.batch, self.state)
            .await
    }
}

impl Answered for AppendPart {
    async fn carry_out(self, engine: &Engine) -> Result<(), StoreError> {
        engine.0.batches.append_part(self).await
    }
}

impl Answered for ReadMessage {
    async fn carry_out(self, engine: &Engine) -> Result<Option<MessageRecord>, StoreError> {
        engine.0.context.store.message(self.0).await
    }
}

impl Answered for ReadRecipients {
    async fn carry_out(self, engine: &Engine) -> Result<Vec<(MessageId, Phone)>, StoreError> {
        let store = &engine.0.context.store;
        store
            .recipients(self.instance, self.batch, self.after, self.limit)
            .await
    }
}

impl Answered for ReadList {
    async fn carry_out(self, engine: &Engine) -> Result<ListPage, StoreError> {
        engine.owns_all(&self.0.filter.instances)?;
        engine.0.context.store.list(self.0).await
    }
}

impl Answered for ReadTotals {
    async fn carry_out(self, engine: &Engine) -> Result<Totals, StoreError> {
        engine.owns_all(&self.0.instances)?;
        engine.0.context.store.totals(self.0).await
    }
}

impl Answered for ReadChanges {
    async fn carry_out(self, engine: &Engine) -> Result<(ChangePage, Vec<u16>), StoreError> {
        let (store, clock) = (&engine.0.context.store, &engine.0.context.clock);
        changes_here((engine.ownership(), &**clock), store.as_ref(), &self).await
    }
}

impl Answered for OptedOut {
    async fn carry_out(self, engine: &Engine) -> Vec<String> {
        engine.opted_out_here(self.account, self.phone).await
    }
}
