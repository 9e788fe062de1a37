//! Making a batch.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use zajil_model::batch::{Batch, DEFAULT_ROW_TTL_SECONDS, MAX_INSTANCES};
use zajil_model::id::{AccountId, BatchId};
use zajil_model::message::limits::{MAX_SEND_AHEAD, check_send_at, check_text, check_ttl};
use zajil_model::time::Timestamp;
use zajil_storage::Written;

use super::record::{BatchRecord, Progress, Sender};
use super::{BatchError, BatchView, Batches, NewBatch, Shared, keep};

/// Characters of a name.
const MAX_NAME: usize = 255;

/// Variables that a batch sets for all of its rows.
const MAX_VARIABLES: usize = 100;

fn field(field: &'static str, message: impl Into<String>) -> BatchError {
    BatchError::Field {
        field,
        message: message.into(),
    }
}

fn check(new: &NewBatch, now: Timestamp) -> Result<(), BatchError> {
    if new.name.trim().is_empty() {
        return Err(field("name", "The name field is required."));
    }
    if new.name.chars().take(MAX_NAME + 1).count() > MAX_NAME {
        return Err(field(
            "name",
            "The name field must not be greater than 255 characters.",
        ));
    }
    let mut seen = FxHashSet::default();
    if !new
        .instances
        .iter()
        .all(|instance| seen.insert(instance.id))
    {
        return Err(field(
            "instances",
            "The instances field has a duplicate value.",
        ));
    }
    if !(1..=MAX_INSTANCES).contains(&new.instances.len()) {
        return Err(field(
            "instances",
            "The instances field must have between 1 and 100 items.",
        ));
    }
    check_text(&new.text.content).map_err(|fault| field("content", fault))?;
    if new.text.variables.len() > MAX_VARIABLES {
        let message = "The template variables field must not have more than 100 items.";
        return Err(field("template_variables", message));
    }
    if let Some(ttl) = new.ttl_seconds {
        check_ttl(i64::from(ttl)).map_err(|fault| field("ttl", fault))?;
    }
    if new
        .start_at
        .is_some_and(|at| check_send_at(at, now).is_err())
    {
        let days = MAX_SEND_AHEAD.as_secs() / 86_400;
        let message = format!("The start at field must not be more than {days} days ahead.");
        return Err(field("start_at", message));
    }
    Ok(())
}

impl NewBatch {
    fn into_record(self, id: BatchId, account: AccountId, now: Timestamp) -> BatchRecord {
        let senders = self.instances.iter().map(|instance| Sender {
            instance: instance.id,
            name: instance.name.clone(),
            weight: instance.pace.rate_per_second(),
        });
        BatchRecord {
            id,
            account,
            senders: senders.collect(),
            name: self.name,
            text: self.text,
            ttl_seconds: self.ttl_seconds.unwrap_or(DEFAULT_ROW_TTL_SECONDS),
            start_at: self.start_at,
            deadline: self.deadline,
            duplicates: self.duplicates,
            on_ambiguous: self.on_ambiguous,
            life: Batch::draft(now),
        }
    }
}

impl Batches {
    /// Makes a draft.
    ///
    /// # Errors
    /// `Field` when something about it cannot be.
    pub async fn create(&self, account: AccountId, new: NewBatch) -> Result<BatchView, BatchError> {
        let now = self.0.ports.clock.now();
        check(&new, now)?;
        let record = new.into_record(self.0.ports.ids.give().await?, account, now);
        let id = record.id;
        match self.store().write(keep::new_rows(&record)).await? {
            Written::Applied => {}
            Written::Conflict { .. } => return Err(BatchError::Unavailable("the id is taken")),
        }
        let mono = self.0.ports.clock.mono();
        let draft = Shared::new(Arc::new(record), Progress::default(), mono);
        match self.find(account, id).await {
            Ok(open) => self.look_at(&open.shared).await,
            // Its owner opens it when it has something to do.
            Err(BatchError::Moved) => self.look_at(&draft).await,
            Err(error) => Err(error),
        }
    }
}
