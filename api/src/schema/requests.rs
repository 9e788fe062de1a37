//! The bodies that clients send, as OpenAPI shows them. They are read member by member
//! (`validate`), so these types are only written down.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// The id of an instance (an integer, or its digits), or its name.
#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(untagged)]
pub enum InstanceIdOrName {
    /// Its id.
    Id(u64),
    /// Its name, or the digits of its id.
    Name(String),
}

/// A text message.
#[derive(Debug, ToSchema)]
pub struct SendMessage {
    /// The id (an integer, or its digits) or the name of the instance that sends it.
    #[schema(example = "my-instance")]
    pub instance: InstanceIdOrName,
    /// E.164; exactly one of `recipient` and `contact_id`.
    #[schema(example = "+966501234567")]
    pub recipient: Option<String>,
    /// The id of a contact.
    pub contact_id: Option<u64>,
    /// `text`; other kinds have routes of their own.
    #[schema(example = "text")]
    pub message_type: Option<String>,
    /// 1 to 4,096 characters; exactly one of `content` and `template_id`.
    #[schema(example = "Hello from our API!", max_length = 4096)]
    pub content: Option<String>,
    /// The id of a template.
    pub template_id: Option<u64>,
    /// What its variables stand for.
    pub template_variables: Option<BTreeMap<String, String>>,
    /// `high` or `normal`.
    #[schema(example = "normal")]
    pub priority: Option<String>,
    /// Not before this time (RFC 3339), at most 30 days ahead.
    pub send_at: Option<String>,
    /// Seconds from due until it expires, 60 to 604,800.
    #[schema(minimum = 60, maximum = 604_800, example = 86_400)]
    pub ttl: Option<u32>,
    /// `unknown` or `resend`: what to do when the outcome of an attempt cannot be known.
    #[schema(example = "unknown")]
    pub on_ambiguous: Option<String>,
    /// Your own name for it, echoed everywhere.
    #[schema(max_length = 128)]
    pub client_ref: Option<String>,
}

/// Up to 100 text messages.
#[derive(Debug, ToSchema)]
pub struct SendBulk {
    /// The id (an integer, or its digits) or the name of the instance that sends them.
    #[schema(example = "my-instance")]
    pub instance: InstanceIdOrName,
    /// The messages.
    #[schema(min_items = 1, max_items = 100)]
    pub messages: Vec<BulkMessage>,
    /// What all say that bring no content of their own.
    #[schema(max_length = 4096)]
    pub content: Option<String>,
    /// A template that all say that bring no content of their own.
    pub template_id: Option<u64>,
    /// What its variables stand for, unless a message says otherwise.
    pub template_variables: Option<BTreeMap<String, String>>,
    /// `skip` (default): good messages are queued and bad ones refused; `reject`: all or none.
    #[schema(example = "skip")]
    pub on_invalid: Option<String>,
    /// `high` or `normal`, for all.
    pub priority: Option<String>,
    /// Not before this time, unless a message says otherwise.
    pub send_at: Option<String>,
    /// Seconds from due until they expire, unless a message says otherwise.
    #[schema(minimum = 60, maximum = 604_800)]
    pub ttl: Option<u32>,
    /// `unknown` or `resend`, unless a message says otherwise.
    pub on_ambiguous: Option<String>,
}

/// A message of a bulk.
#[derive(Debug, ToSchema)]
pub struct BulkMessage {
    /// E.164; exactly one of `recipient` and `contact_id`.
    #[schema(example = "+966501234567")]
    pub recipient: Option<String>,
    /// The id of a contact.
    pub contact_id: Option<u64>,
    /// What it says, unless it is what all say.
    #[schema(max_length = 4096)]
    pub content: Option<String>,
    /// A template of its own.
    pub template_id: Option<u64>,
    /// What the variables stand for.
    pub template_variables: Option<BTreeMap<String, String>>,
    /// Not before this time.
    pub send_at: Option<String>,
    /// Seconds from due until it expires.
    pub ttl: Option<u32>,
    /// `unknown` or `resend`.
    pub on_ambiguous: Option<String>,
    /// Your own name for it.
    #[schema(max_length = 128)]
    pub client_ref: Option<String>,
}

/// A poll.
#[derive(Debug, ToSchema)]
pub struct SendPoll {
    /// The id (an integer, or its digits) or the name of the instance that sends it.
    #[schema(example = "my-instance")]
    pub instance: InstanceIdOrName,
    /// E.164; exactly one of `recipient` and `contact_id`.
    pub recipient: Option<String>,
    /// The id of a contact.
    pub contact_id: Option<u64>,
    /// The question.
    #[schema(max_length = 255, example = "What's your favorite color?")]
    pub name: String,
    /// 2 to 12 distinct options of 1 to 100 characters.
    #[schema(min_items = 2, max_items = 12)]
    pub values: Vec<String>,
    /// How many may be chosen; 0 is any number.
    #[schema(example = 1)]
    pub selectable_count: Option<u8>,
    /// `high` or `normal`.
    pub priority: Option<String>,
    /// Not before this time (RFC 3339).
    pub send_at: Option<String>,
    /// Seconds from due until it expires.
    pub ttl: Option<u32>,
    /// `unknown` or `resend`.
    pub on_ambiguous: Option<String>,
    /// Your own name for it.
    pub client_ref: Option<String>,
}

/// A menu of rows in sections.
#[derive(Debug, ToSchema)]
pub struct SendList {
    /// The id (an integer, or its digits) or the name of the instance that sends it.
    #[schema(example = "my-instance")]
    pub instance: InstanceIdOrName,
    /// E.164; exactly one of `recipient` and `contact_id`.
    pub recipient: Option<String>,
    /// The id of a contact.
    pub contact_id: Option<u64>,
    /// Shown on top.
    #[schema(max_length = 255)]
    pub title: String,
    /// Shown below it.
    #[schema(max_length = 1024)]
    pub description: String,
    /// Opens the menu.
    #[schema(max_length = 20)]
    pub button_text: String,
    /// Shown at the end.
    #[schema(max_length = 60)]
    pub footer_text: Option<String>,
    /// Groups of rows.
    #[schema(min_items = 1)]
    pub sections: Vec<ListSection>,
    /// `high` or `normal`.
    pub priority: Option<String>,
    /// Not before this time (RFC 3339).
    pub send_at: Option<String>,
    /// Seconds from due until it expires.
    pub ttl: Option<u32>,
    /// `unknown` or `resend`.
    pub on_ambiguous: Option<String>,
    /// Your own name for it.
    pub client_ref: Option<String>,
}

/// A titled group of rows.
#[derive(Debug, ToSchema)]
pub struct ListSection {
    /// Shown above its rows.
    pub title: String,
    /// The rows.
    #[schema(min_items = 1)]
    pub rows: Vec<ListRow>,
}

/// A row that can be chosen.
#[derive(Debug, ToSchema)]
pub struct ListRow {
    /// What is shown.
    pub title: String,
    /// Shown below it.
    pub description: Option<String>,
    /// Comes back with the choice; unique in the list.
    #[schema(rename = "rowId")]
    pub row_id: String,
}

/// A reaction to an earlier message.
#[derive(Debug, ToSchema)]
pub struct SendReaction {
    /// The id (an integer, or its digits) or the name of the instance that sends it.
    #[schema(example = "my-instance")]
    pub instance: InstanceIdOrName,
    /// The message that is reacted to.
    pub message_key: MessageKey,
    /// One emoji; empty removes the reaction.
    #[schema(max_length = 10)]
    pub reaction: String,
    /// `unknown` or `resend`.
    pub on_ambiguous: Option<String>,
    /// Your own name for it.
    pub client_ref: Option<String>,
}

/// How WhatsApp names a message.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct MessageKey {
    /// The chat: `DIGITS@s.whatsapp.net`.
    #[schema(rename = "remoteJid", example = "966501234567@s.whatsapp.net")]
    #[serde(rename = "remoteJid")]
    pub remote_jid: String,
    /// Whether our side sent it.
    #[schema(rename = "fromMe")]
    #[serde(rename = "fromMe")]
    pub from_me: bool,
    /// WhatsApp's id of it.
    pub id: String,
}

/// A contact to be added, or wholly replaced.
#[derive(Debug, ToSchema)]
pub struct NewContact {
    /// E.164, once in the account.
    #[schema(example = "+966501234567")]
    pub phone_number: String,
    /// What they are called.
    pub name: Option<String>,
    /// A free word.
    pub label: Option<String>,
    /// A tag of your own.
    pub group_id: Option<i64>,
}

/// What is to be changed of a contact; `null` empties a member.
#[derive(Debug, ToSchema)]
pub struct ContactChange {
    /// E.164.
    pub phone_number: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// A free word.
    pub label: Option<String>,
    /// A tag of your own.
    pub group_id: Option<i64>,
}

/// A recipient who opts out.
#[derive(Debug, ToSchema)]
pub struct NewSuppression {
    /// E.164.
    #[schema(example = "+966501234567")]
    pub phone_number: String,
    /// Why.
    pub reason: Option<String>,
}

/// A text with variables.
#[derive(Debug, ToSchema)]
pub struct NewTemplate {
    /// Once in the account.
    pub name: String,
    /// `text`.
    pub message_type: Option<String>,
    /// The text, with `{{variables}}`.
    #[schema(example = "Hello {{name}}")]
    pub content: String,
}

/// A campaign.
#[derive(Debug, ToSchema)]
pub struct NewBatch {
    /// What people call it.
    pub name: String,
    /// One instance; or several in `instances`.
    pub instance: Option<InstanceIdOrName>,
    /// Ids or names of 1 to 100 instances.
    #[schema(max_items = 100)]
    pub instances: Option<Vec<InstanceIdOrName>>,
    /// What rows say that bring no content of their own.
    pub content: Option<String>,
    /// A template instead.
    pub template_id: Option<u64>,
    /// What variables stand for, unless a row says otherwise.
    pub template_variables: Option<BTreeMap<String, String>>,
    /// Seconds that a row may take from the start.
    pub ttl: Option<u32>,
    /// When it starts by itself.
    pub start_at: Option<String>,
    /// When it should be done; only warned about.
    pub deadline: Option<String>,
    /// `skip` (default) or `keep`.
    pub duplicates: Option<String>,
}

/// Who signs in.
#[derive(Debug, ToSchema)]
pub struct Credentials {
    /// The email.
    pub email: String,
    /// The password.
    pub password: String,
}

/// An API key to be made.
#[derive(Debug, ToSchema)]
pub struct NewApiKey {
    /// What people call it.
    pub name: String,
    /// What it may do.
    #[schema(example = json!(["send_message", "read_messages"]))]
    pub permissions: Vec<String>,
    /// Requests an hour.
    #[schema(example = 1000)]
    pub rate_limit: Option<u64>,
    /// When it ends by itself.
    pub expires_at: Option<String>,
    /// Addresses and networks from where it may be used.
    pub allowed_ips: Option<Vec<String>>,
    /// Ids or names of the instances for which it may be used.
    pub allowed_instances: Option<Vec<InstanceIdOrName>>,
}

/// How a key is rotated.
#[derive(Debug, ToSchema)]
pub struct Rotation {
    /// Seconds for which the former text stays good.
    #[schema(example = 86_400)]
    pub overlap_s: Option<u32>,
}

/// An instance to be made.
#[derive(Debug, ToSchema)]
pub struct NewInstance {
    /// Once in the account; at least one character is no digit.
    pub instance_name: String,
    /// `simulator`.
    #[schema(example = "simulator")]
    pub transport: Option<String>,
    /// The settings of the transport.
    pub transport_settings: Option<TransportSettings>,
    /// How fast it may send.
    pub pacing: Option<Pacing>,
    /// Whether messages are taken while it is logged out or banned.
    pub queue_while_disconnected: Option<bool>,
}

/// What is to be changed of an instance.
#[derive(Debug, ToSchema)]
pub struct InstanceChange {
    /// Its name.
    pub instance_name: Option<String>,
    /// The settings of its transport.
    pub transport_settings: Option<TransportSettings>,
    /// How fast it may send.
    pub pacing: Option<Pacing>,
    /// Whether messages are taken while it is logged out or banned.
    pub queue_while_disconnected: Option<bool>,
}

/// The settings of the simulator.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct TransportSettings {
    /// Where a simulator process listens (`host:port`); absent is the one inside.
    pub address: Option<String>,
    /// The script that the simulator inside follows, as JSON text.
    pub script: Option<String>,
}

/// How fast an instance may send.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct Pacing {
    /// The rate.
    pub rate: Rate,
    /// How many may go at once after a pause.
    pub burst: Option<u32>,
    /// How much each gap varies, 0 to 0.5 of it.
    pub jitter: f64,
    /// Messages a day at most.
    pub daily_cap: Option<u64>,
    /// The IANA zone in which a day begins.
    #[schema(example = "Asia/Riyadh")]
    pub time_zone: Option<String>,
}

/// Messages in a unit of time.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct Rate {
    /// How many; fractions are allowed.
    pub count: f64,
    /// `second`, `minute` or `hour`.
    #[schema(example = "second")]
    pub per: &'static str,
}
