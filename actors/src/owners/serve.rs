//! Answering what other nodes ask.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;
use zajil_cluster::Place;
use zajil_cluster::link::{Incoming, Reply, Serve};
use zajil_model::id::Shard;
use zajil_model::lease::NodeId;

use super::questions::{
    AcceptReserved, AddRows, AppendPart, ApplyInstance, AskPromise, AskWindow, CancelMessage,
    ChangeBatch, ConnectInstance, ObserveInstance, OptedOut, PartGrew, PurgeInstance, ReadChanges,
    ReadList, ReadMessage, ReadRecipients, ReadTotals, RemoveInstance, ReserveIds, SendMessages,
    SetPart, ShowInstance, TakeShard, ViewBatch, WaitingFor,
};
use super::{ASK_AGAIN, Question, encode};
use crate::engine::Engine;

/// How long a call waits here for a shard that is on its way: about as long as most are.
const ARRIVES_WITHIN: Duration = Duration::from_millis(500);

/// A question that this node can answer.
pub(crate) trait Answered: Question {
    /// Answers it as the owner.
    fn carry_out(self, engine: &Engine) -> impl Future<Output = Self::Answer> + Send;
}

/// Answers other nodes, once the engine that it speaks for is there.
#[derive(Clone, Default)]
pub struct Answers(Arc<OnceLock<Engine>>);

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("ready", &self.0.get().is_some())
            .finish()
    }
}

impl Answers {
    /// From now on this engine answers.
    pub fn speak_for(&self, engine: Engine) {
        self.0.get_or_init(|| engine);
    }
}

/// Takes a shard that another node released to this one.
async fn take(engine: &Engine, body: &Bytes) -> Reply {
    let Some(cluster) = engine.cluster() else {
        return Reply::Overloaded;
    };
    let Ok(TakeShard { shard, hand_over }) = rmp_serde::from_slice(body) else {
        return Reply::Failed("the question cannot be read".to_owned());
    };
    let Some(shard) = Shard::new(shard) else {
        return Reply::Failed("there is no such shard".to_owned());
    };
    let taken = cluster.take(shard, hand_over.into()).await;
    if let Err(error) = &taken {
        tracing::debug!(%shard, %error, "a shard that was released to this node was not taken");
    }
    Reply::Ok(encode(&taken.ok()))
}

#[async_trait]
impl Serve for Answers {
    async fn serve(&self, _from: NodeId, call: Incoming) -> Reply {
        let Some(engine) = self.0.get() else {
            return Reply::Overloaded;
        };
        await_arrival(engine, &call).await;
        if let Some(refusal) = refused(engine, &call) {
            return refusal;
        }
        match call.method {
            SendMessages::METHOD => answer::<SendMessages>(engine, &call.body).await,
            ReserveIds::METHOD => answer::<ReserveIds>(engine, &call.body).await,
            AcceptReserved::METHOD => answer::<AcceptReserved>(engine, &call.body).await,
            AskPromise::METHOD => answer::<AskPromise>(engine, &call.body).await,
            CancelMessage::METHOD => answer::<CancelMessage>(engine, &call.body).await,
            ShowInstance::METHOD => answer::<ShowInstance>(engine, &call.body).await,
            ObserveInstance::METHOD => answer::<ObserveInstance>(engine, &call.body).await,
            ApplyInstance::METHOD => answer::<ApplyInstance>(engine, &call.body).await,
            ConnectInstance::METHOD => answer::<ConnectInstance>(engine, &call.body).await,
            PurgeInstance::METHOD => answer::<PurgeInstance>(engine, &call.body).await,
            RemoveInstance::METHOD => answer::<RemoveInstance>(engine, &call.body).await,
            WaitingFor::METHOD => answer::<WaitingFor>(engine, &call.body).await,
            AskWindow::METHOD => answer::<AskWindow>(engine, &call.body).await,
            ViewBatch::METHOD => answer::<ViewBatch>(engine, &call.body).await,
            ChangeBatch::METHOD => answer::<ChangeBatch>(engine, &call.body).await,
            AddRows::METHOD => answer::<AddRows>(engine, &call.body).await,
            PartGrew::METHOD => answer::<PartGrew>(engine, &call.body).await,
            SetPart::METHOD => answer::<SetPart>(engine, &call.body).await,
            AppendPart::METHOD => answer::<AppendPart>(engine, &call.body).await,
            ReadMessage::METHOD => answer::<ReadMessage>(engine, &call.body).await,
            ReadRecipients::METHOD => answer::<ReadRecipients>(engine, &call.body).await,
            ReadList::METHOD => answer::<ReadList>(engine, &call.body).await,
            ReadTotals::METHOD => answer::<ReadTotals>(engine, &call.body).await,
            ReadChanges::METHOD => answer::<ReadChanges>(engine, &call.body).await,
            OptedOut::METHOD => answer::<OptedOut>(engine, &call.body).await,
            TakeShard::METHOD => take(engine, &call.body).await,
            _ => Reply::Unsupported,
        }
    }
}

/// A call about a shard that is on its way waits a moment for it to arrive, so that its caller need
/// not ask again and again.
async fn await_arrival(engine: &Engine, call: &Incoming) {
    let Some(shard) = call.shard else { return };
    let place = engine.ownership().place(shard);
    if place == Place::Moving {
        let within = ARRIVES_WITHIN.min(call.deadline / 2);
        // One that takes longer is asked for again.
        drop(timeout(within, engine.owners().leaves(shard, place)).await);
    }
}

/// The refusal of a call about a shard that this node does not own.
fn refused(engine: &Engine, call: &Incoming) -> Option<Reply> {
    let shard = call.shard?;
    match engine.ownership().place(shard) {
        Place::Here(epoch) if call.epoch == epoch => None,
        // Who asks again relies on what was remembered since that epoch began; and a caller that
        // knows of a later one knows of an owner after this one.
        Place::Here(epoch) => Some(Reply::NotOwner {
            owner: (call.epoch < epoch).then_some(engine.ownership().me()),
            epoch,
        }),
        Place::There(node, epoch) => Some(Reply::NotOwner {
            owner: Some(node),
            epoch,
        }),
        Place::Moving | Place::Nobody => Some(Reply::Moving {
            retry_after: ASK_AGAIN,
        }),
    }
}

async fn answer<Q: Answered>(engine: &Engine, body: &Bytes) -> Reply {
    match rmp_serde::from_slice::<Q>(body) {
        Ok(question) => Reply::Ok(encode(&question.carry_out(engine).await)),
        Err(error) => Reply::Failed(format!("the question cannot be read: {error}")),
    }
}
