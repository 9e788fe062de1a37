//! What is stored of a batch.

use serde::{Deserialize, Serialize};
use zajil_model::batch::Batch;
use zajil_model::id::{AccountId, BatchId, InstanceId, TemplateId};
use zajil_model::message::OnAmbiguous;
use zajil_model::time::Timestamp;

/// What is done with a recipient that comes twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// The later row is passed over and counted.
    #[default]
    Skip,
    /// Both rows are taken.
    Keep,
}

/// What the rows of a batch say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchText {
    /// A text with `{{variables}}`: the batch's own, or that of its template when it was made.
    pub content: String,
    /// The template that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateId>,
    /// Variables that every row has unless it brings its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<(String, String)>,
}

/// A number that sends rows of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sender {
    /// The instance.
    pub instance: InstanceId,
    /// Its name when the batch was made.
    pub name: String,
    /// Its messages a second when the batch was made: its share of the recipients.
    pub weight: f64,
}

/// A batch, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Its id.
    pub id: BatchId,
    /// Whose it is.
    pub account: AccountId,
    /// What people call it.
    pub name: String,
    /// Which numbers send it.
    pub senders: Vec<Sender>,
    /// What rows say that bring no content of their own.
    pub text: BatchText,
    /// Seconds that a row may take from the start.
    pub ttl_seconds: u32,
    /// When it starts by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// When it should be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// What is done with a recipient that comes twice.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// What becomes of its messages whose outcome cannot be known.
    #[serde(default)]
    pub on_ambiguous: OnAmbiguous,
    /// Where it is in its life: state, sealed or not, and the times of that.
    pub life: Batch,
}

/// How far the upload of a batch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Rows that were dealt with, whatever came of them; the number of the next row.
    pub rows_received: u64,
    /// Rows that became messages.
    pub taken: u64,
    /// Rows whose recipient was there already.
    pub duplicates: u64,
    /// Rows whose recipient opted out.
    pub suppressed: u64,
    /// Rows that could not be taken.
    pub refused: u64,
}

/// A row that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Its number, from 0.
    pub row: u64,
    /// What is wrong with it: messages by field.
    pub errors: Vec<(String, Vec<String>)>,
}
