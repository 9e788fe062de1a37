//! What becomes of the rows of an upload: a message of one of the instances, or why not.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use zajil_model::batch::pick;
use zajil_model::id::InstanceId;
use zajil_model::message::limits::{check_client_ref, check_text};
use zajil_model::message::{Message, Payload};
use zajil_model::phone::Phone;
use zajil_model::template::{RenderError, Template};

use super::record::{BatchRecord, Duplicates, Progress, RefusedRow};
use crate::directory::SuppressionSet;

/// A row of an upload that could be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewRow {
    /// Who gets it.
    pub recipient: Phone,
    /// What the placeholders stand for.
    pub variables: Vec<(String, String)>,
    /// A text of its own, taken as it is.
    pub content: Option<String>,
    /// The sender's own name for it.
    pub client_ref: Option<String>,
}

/// What is wrong with a row: messages by field.
pub type RowErrors = Vec<(String, Vec<String>)>;

/// Turns rows into messages, under the rules of one batch.
#[derive(Debug)]
pub(super) struct Sorter<'a> {
    pub(super) record: &'a BatchRecord,
    pub(super) template: &'a Template,
    pub(super) senders: &'a [(InstanceId, f64)],
    pub(super) suppressed: &'a SuppressionSet,
}

/// What became of a block of rows.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// How far the upload is once this is durable.
    pub(super) progress: Progress,
    /// New messages by instance, each with the number of its row, in their order.
    pub(super) messages: FxHashMap<InstanceId, Vec<(u64, Message)>>,
    pub(super) refused: Vec<RefusedRow>,
}

impl Sorter<'_> {
    /// Sorts rows that begin at the number `from`; those below `progress.rows_received` were dealt
    /// with before.
    pub(super) fn sort(
        &self,
        progress: Progress,
        from: u64,
        rows: Vec<Result<NewRow, RowErrors>>,
        seen: &mut FxHashSet<Phone>,
    ) -> Sorted {
        let mut sorted = Sorted {
            progress,
            ..Sorted::default()
        };
        for (number, row) in (from..).zip(rows) {
            if number >= progress.rows_received {
                sorted.progress.rows_received = number + 1;
                self.sort_one(number, row, seen, &mut sorted);
            }
        }
        sorted
    }

    fn sort_one(
        &self,
        number: u64,
        row: Result<NewRow, RowErrors>,
        seen: &mut FxHashSet<Phone>,
        sorted: &mut Sorted,
    ) {
        let message = match row {
            Ok(row) if seen.contains(&row.recipient) => {
                sorted.progress.duplicates += 1;
                return;
            }
            Ok(row) if self.suppressed.contains(row.recipient) => {
                sorted.progress.suppressed += 1;
                return;
            }
            Ok(row) => self.message(row),
            Err(errors) => Err(errors),
        };
        let taken = message.and_then(|message| {
            let instance = pick(message.recipient, self.senders)
                .ok_or_else(|| fault("recipient", "No instance of the batch can send."))?;
            Ok((instance, message))
        });
        match taken {
            Ok((instance, message)) => {
                if self.record.duplicates == Duplicates::Skip {
                    seen.insert(message.recipient);
                }
                sorted.progress.taken += 1;
                let of_instance = sorted.messages.entry(instance).or_default();
                of_instance.push((number, message));
            }
            Err(errors) => {
                sorted.progress.refused += 1;
                sorted.refused.push(RefusedRow {
                    row: number,
                    errors,
                });
            }
        }
    }

    fn message(&self, row: NewRow) -> Result<Message, RowErrors> {
        let mut errors = RowErrors::new();
        if let Some(Err(message)) = row.client_ref.as_deref().map(check_client_ref) {
            errors.push(("client_ref".to_owned(), vec![message]));
        }
        let content = match row.content {
            Some(content) => match check_text(&content) {
                Ok(()) => Some(content),
                Err(message) => {
                    errors.push(("content".to_owned(), vec![message]));
                    None
                }
            },
            None => match self.render(&row.variables) {
                Ok(content) => Some(content),
                Err(faults) => {
                    errors.extend(faults);
                    None
                }
            },
        };
        match content {
            Some(content) if errors.is_empty() => Ok(Message {
                recipient: row.recipient,
                payload: Payload::Text(content.into()),
                send_at: None,
                ttl_seconds: self.record.ttl_seconds,
                client_ref: row.client_ref.map(String::into_boxed_str),
                on_ambiguous: self.record.on_ambiguous,
            }),
            _ => Err(errors),
        }
    }

    fn render(&self, variables: &[(String, String)]) -> Result<String, RowErrors> {
        let of_batch = &self.record.text.variables;
        let rendered = self.template.render(|name| {
            let mut all = variables.iter().chain(of_batch);
            all.find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        });
        rendered.map_err(|error| match error {
            RenderError::Missing(names) => names
                .into_iter()
                .map(|name| {
                    let message = format!("The variable {name} has no value.");
                    (format!("variables.{name}"), vec![message])
                })
                .collect(),
            RenderError::Empty | RenderError::TooLong => fault("content", &error.to_string()),
        })
    }
}

fn fault(field: &str, message: &str) -> RowErrors {
    vec![(field.to_owned(), vec![message.to_owned()])]
}
