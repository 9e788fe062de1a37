//! The documents of the API as OpenAPI shows them, and those that answers are written from.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

pub mod requests;
pub mod sends;

pub use requests::*;
pub use sends::*;

/// A good answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Data<T> {
    /// Always true.
    pub success: bool,
    /// A sentence for people.
    pub message: Option<String>,
    /// What was asked for.
    pub data: T,
    /// What was accepted and has no effect.
    pub warnings: Option<Vec<String>>,
}

/// Something was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    /// Always true.
    pub success: bool,
    /// A sentence for people.
    pub message: Option<String>,
}

/// Something was done that not all have confirmed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unconfirmed {
    /// The instances that have not confirmed yet; empty when all have.
    pub missing: Vec<String>,
}

/// A page of a list, in the form of Laravel's length-aware paginator.
#[derive(Debug, Serialize, ToSchema)]
pub struct Paged<T> {
    /// The number of this page.
    pub current_page: u64,
    /// The entries, newest first.
    pub data: Vec<T>,
    /// The URL of the first page.
    pub first_page_url: String,
    /// The number of the first entry shown.
    pub from: Option<u64>,
    /// The number of the last page.
    pub last_page: u64,
    /// The URL of the last page.
    pub last_page_url: String,
    /// Links to other pages.
    pub links: Vec<PageLink>,
    /// The URL of the next page.
    pub next_page_url: Option<String>,
    /// The URL without its query.
    pub path: String,
    /// Entries of a page.
    pub per_page: u64,
    /// The URL of the page before.
    pub prev_page_url: Option<String>,
    /// The number of the last entry shown.
    pub to: Option<u64>,
    /// How many match.
    pub total: u64,
    /// Whether more match than were counted.
    pub total_capped: Option<bool>,
    /// Goes on from here as `cursor`, at the same cost however far.
    pub next_cursor: Option<String>,
}

/// A link of a page.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageLink {
    /// Where it leads.
    pub url: Option<String>,
    /// What is shown.
    pub label: String,
    /// Whether it is the current page.
    pub active: bool,
}

/// A refusal.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failure {
    /// Always false.
    pub success: bool,
    /// A sentence for people.
    pub message: String,
    /// The stable word of what is wrong.
    #[schema(example = "validation")]
    pub error_code: String,
    /// What is wrong, by field.
    pub errors: Option<BTreeMap<String, Vec<String>>>,
    /// The row that an upload has to go on with.
    pub expected_row: Option<u64>,
}

/// An instance, in short.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct InstanceName {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// A text that was accepted.
#[derive(Debug, ToSchema)]
pub struct Sent {
    /// Its id.
    pub message_id: u64,
    /// `pending`, or `scheduled`.
    pub status: String,
    /// Whom it is for.
    pub recipient: String,
    /// `text`.
    pub message_type: String,
    /// The number that sends it.
    pub instance: InstanceName,
    /// When it was accepted.
    pub queued_at: String,
}

/// A poll as its answer shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PollShown {
    /// The question.
    pub question: String,
    /// The options.
    pub options: Vec<String>,
    /// How many may be chosen.
    pub selectable_count: u8,
}

/// A poll that was accepted.
#[derive(Debug, ToSchema)]
pub struct SentPoll {
    /// Its id.
    pub message_id: u64,
    /// `pending`, or `scheduled`.
    pub status: String,
    /// Whom it is for.
    pub recipient: String,
    /// The poll.
    pub poll: PollShown,
}

/// A message that was accepted.
#[derive(Debug, ToSchema)]
pub struct SentShort {
    /// Its id.
    pub message_id: u64,
    /// `pending`, or `scheduled`.
    pub status: String,
    /// Whom it is for.
    pub recipient: String,
}

/// A reaction that was accepted.
#[derive(Debug, ToSchema)]
pub struct SentReaction {
    /// Its id.
    pub message_id: u64,
    /// `pending`.
    pub status: String,
    /// The emoji.
    pub reaction: String,
}

/// What became of a bulk.
#[derive(Debug, ToSchema)]
pub struct BulkSent {
    /// Messages in the request.
    pub total: u64,
    /// Messages that were queued.
    pub queued_count: u64,
    /// Their ids, in order.
    pub message_ids: Vec<u64>,
    /// The same as `queued_count`.
    pub success_count: u64,
    /// Messages that were refused.
    pub failure_count: u64,
    /// Names the bulk in filters of `/messages`.
    pub batch_id: Option<u64>,
    /// What became of each.
    pub results: Vec<BulkResult>,
}

/// What became of one message of a bulk.
#[derive(Debug, ToSchema)]
pub struct BulkResult {
    /// Its place in the request, from 0.
    pub index: u64,
    /// Whom it is for, as far as that is known.
    pub recipient: Option<String>,
    /// Whether it was queued.
    pub success: bool,
    /// Its id, if it was queued.
    pub message_id: Option<u64>,
    /// `pending`, or `scheduled`, if it was queued.
    pub status: Option<String>,
    /// What is wrong with it, if it was refused.
    pub errors: Option<BTreeMap<String, Vec<String>>>,
}
