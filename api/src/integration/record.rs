//! Messages as clients see them: in lists, alone, and by their status.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use zajil_actors::send::Waiting;
use zajil_model::id::{AccountId, InstanceId};
use zajil_model::instance::Instance;
use zajil_model::lifecycle::{MessageState, Status};
use zajil_model::message::{List, Payload};
use zajil_model::time::Timestamp;
use zajil_storage::MessageRecord;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::schema::{InstanceName, MessageKey};
use crate::stamp::{Stamp, stamp};
use crate::state::ApiState;

/// Instances read at once when all of an account are.
const INSTANCES_AT_ONCE: usize = 1_000;

/// The instances of a caller: those of the account that their key may be used for.
pub(crate) async fn instances_of(
    api: &ApiState,
    caller: &Caller,
) -> Result<Vec<Arc<Instance>>, ApiError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let some = api
            .engine
            .directory()
            .instances(caller.account, after, INSTANCES_AT_ONCE)
            .await?;
        after = some.last().map(|instance| instance.id);
        let full = some.len() == INSTANCES_AT_ONCE;
        all.extend(
            some.into_iter()
                .filter(|instance| caller.may_use(instance.id)),
        );
        if !full {
            return Ok(all);
        }
    }
}

/// The names of instances.
#[derive(Debug, Default)]
pub(crate) struct Names(FxHashMap<InstanceId, String>);

impl Names {
    /// The names of these.
    pub(crate) fn of(instances: &[Arc<Instance>]) -> Self {
        Self(
            instances
                .iter()
                .map(|one| (one.id, one.name.clone()))
                .collect(),
        )
    }

    /// These names.
    pub(crate) fn from_iter(named: impl Iterator<Item = (InstanceId, String)>) -> Self {
        Self(named.collect())
    }

    /// An instance with its name; one that was deleted has none.
    pub(crate) fn name(&self, id: InstanceId) -> InstanceName {
        InstanceName {
            id: id.get(),
            name: self.0.get(&id).cloned().unwrap_or_default(),
        }
    }
}

/// A message of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedMessage {
    id: u64,
    recipient_number: String,
    /// The text; the question, title or emoji of other kinds.
    content: String,
    message_type: &'static str,
    status: &'static str,
    instance: InstanceName,
    batch_id: Option<u64>,
    client_ref: Option<Box<str>>,
    #[schema(value_type = String)]
    created_at: Stamp,
}

impl ListedMessage {
    /// A message as a list shows it.
    pub(crate) fn new(record: &MessageRecord, names: &Names) -> Self {
        let message = record.message();
        Self {
            id: record.id().get(),
            recipient_number: message.recipient.to_string(),
            content: message.payload.headline().to_owned(),
            message_type: message.payload.kind(),
            status: record.state.status.label(),
            instance: names.name(record.chunk.instance),
            batch_id: record.chunk.batch().map(|batch| batch.get()),
            client_ref: message.client_ref.clone(),
            created_at: Stamp(record.chunk.created_at),
        }
    }
}

/// Why a message failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Trouble {
    /// The stable word of it.
    code: &'static str,
    /// For people.
    message: &'static str,
    /// The channel's own code, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_code: Option<u16>,
}

fn trouble(state: &MessageState) -> Option<Trouble> {
    state.failure.map(|failure| Trouble {
        code: failure.reason.label(),
        message: failure.reason.message(),
        channel_code: (failure.code != 0).then_some(failure.code),
    })
}

/// The status of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageStatus {
    message_id: u64,
    status: &'static str,
    recipient: String,
    #[schema(value_type = Option<String>)]
    sent_at: Option<Stamp>,
    #[schema(value_type = Option<String>)]
    delivered_at: Option<Stamp>,
    #[schema(value_type = Option<String>)]
    read_at: Option<Stamp>,
    #[schema(value_type = Option<String>)]
    failed_at: Option<Stamp>,
    error: Option<Trouble>,
    message_key: MessageKey,
    client_ref: Option<Box<str>>,
}

impl MessageStatus {
    /// How a message is.
    pub(crate) fn new(api: &ApiState, record: &MessageRecord) -> Self {
        let (message, state) = (record.message(), &record.state);
        Self {
            message_id: record.id().get(),
            status: state.status.label(),
            recipient: message.recipient.to_string(),
            sent_at: stamp(state.sent_at),
            delivered_at: stamp(state.delivered_at),
            read_at: stamp(state.read_at),
            failed_at: stamp(state.ended_at.filter(|_| state.status == Status::Failed)),
            error: trouble(state),
            message_key: message_key(api, record),
            client_ref: message.client_ref.clone(),
        }
    }
}

fn message_key(api: &ApiState, record: &MessageRecord) -> MessageKey {
    MessageKey {
        remote_jid: format!("{}@s.whatsapp.net", record.message().recipient.digits()),
        from_me: true,
        id: api.engine.wa_id(record.id()).to_string(),
    }
}

/// A message with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeMessage {
    id: u64,
    recipient_number: String,
    message_type: &'static str,
    status: &'static str,
    instance: InstanceName,
    batch_id: Option<u64>,
    client_ref: Option<Box<str>>,
    priority: &'static str,
    /// What was sent, by the names of its fields in the request.
    payload: Value,
    ttl: u32,
    #[schema(value_type = Option<String>)]
    send_at: Option<Stamp>,
    on_ambiguous: &'static str,
    attempts: u8,
    /// The statuses that it went through, and when.
    history: Vec<Step>,
    error: Option<Trouble>,
    message_key: MessageKey,
    #[schema(value_type = String)]
    created_at: Stamp,
    /// While it is not settled: `pace`, `order`, `offline`, `cap`, `schedule` or `paused`.
    waiting_for: Option<&'static str>,
    #[schema(value_type = Option<String>)]
    next_attempt_at: Option<Stamp>,
}

/// A status that a message had.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Step {
    status: &'static str,
    #[schema(value_type = String)]
    at: Stamp,
}

impl WholeMessage {
    /// All that is known of a message.
    pub(crate) fn new(
        api: &ApiState,
        record: &MessageRecord,
        names: &Names,
        waiting: Option<Waiting>,
    ) -> Self {
        let (message, state) = (record.message(), &record.state);
        let next = waiting
            .and_then(|waiting| waiting.next_attempt_at)
            .or(state.next_at);
        Self {
            id: record.id().get(),
            recipient_number: message.recipient.to_string(),
            message_type: message.payload.kind(),
            status: state.status.label(),
            instance: names.name(record.chunk.instance),
            batch_id: record.chunk.batch().map(|batch| batch.get()),
            client_ref: message.client_ref.clone(),
            priority: record.chunk.queue.lane().label(),
            payload: payload(&message.payload),
            ttl: message.ttl_seconds,
            send_at: stamp(message.send_at),
            on_ambiguous: super::draft::on_ambiguous_word(message.on_ambiguous),
            attempts: state.attempts,
            history: history(record),
            error: trouble(state),
            message_key: message_key(api, record),
            created_at: Stamp(record.chunk.created_at),
            waiting_for: waiting.map(|waiting| waiting.reason.label()),
            next_attempt_at: stamp(next.filter(|_| !state.status.is_settled())),
        }
    }
}

/// What is known of the way of a message, in the order of time.
fn history(record: &MessageRecord) -> Vec<Step> {
    let (state, message) = (&record.state, record.message());
    let created = record.chunk.created_at;
    let begin = super::draft::first_status(message.send_at, created);
    let step = |status: Status, at: Option<Timestamp>| at.map(|at| (status.label(), at));
    let known = [
        Some((begin, created)),
        step(Status::Processing, state.first_attempt_at),
        step(Status::Sent, state.sent_at),
        step(Status::Delivered, state.delivered_at),
        step(Status::Read, state.read_at),
        step(state.status, state.ended_at),
    ];
    let mut steps: Vec<_> = known.into_iter().flatten().collect();
    steps.sort_by_key(|(_, at)| *at);
    steps
        .into_iter()
        .map(|(status, at)| Step {
            status,
            at: Stamp(at),
        })
        .collect()
}

fn payload(payload: &Payload) -> Value {
    match payload {
        Payload::Text(content) => json!({ "content": content }),
        Payload::Poll(poll) => json!({
            "name": poll.question,
            "values": poll.options,
            "selectable_count": poll.selectable_count,
        }),
        Payload::List(list) => list_payload(list),
        Payload::Reaction(reaction) => json!({
            "message_key": {
                "remoteJid": reaction.key.remote_jid,
                "fromMe": reaction.key.from_me,
                "id": reaction.key.id,
            },
            "reaction": reaction.emoji,
        }),
    }
}

fn list_payload(list: &List) -> Value {
    json!({
        "title": list.title,
        "description": list.description,
        "button_text": list.button_text,
        "footer_text": list.footer_text,
        "sections": list.sections,
    })
}

/// A message of an account by its id; another account's answers as an unknown one, and so does
/// one of an instance that the caller's key may not be used for.
pub(crate) async fn find(
    api: &ApiState,
    caller: &Caller,
    id: &str,
) -> Result<MessageRecord, ApiError> {
    let id = id.parse().map_err(|_| ApiError::NotFound)?;
    let record = api
        .engine
        .store()
        .message(id)
        .await?
        .ok_or(ApiError::NotFound)?;
    let is_theirs = of_account(&record, caller.account) && caller.may_use(record.chunk.instance);
    if is_theirs {
        Ok(record)
    } else {
        Err(ApiError::NotFound)
    }
}

fn of_account(record: &MessageRecord, account: AccountId) -> bool {
    record.chunk.account == account
}
