//! The messages that clients send, as OpenAPI shows them. They are read member by member
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
