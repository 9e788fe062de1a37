//! The answer to a bulk: what became of each message, in their order.

use serde::{Serialize, Serializer};
use zajil_actors::send::Reserved;
use zajil_model::message::Message;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::Judged;
use crate::envelope::written;
use crate::integration::draft;
use crate::validate::Faults;

/// What became of one message, until it has its id.
#[derive(Debug)]
pub(super) enum Line {
    Queued {
        recipient: Phone,
        send_at: Option<Timestamp>,
    },
    Refused {
        recipient: Option<String>,
        errors: Faults,
    },
}

/// Parts the messages that are queued from the lines of the answer.
pub(super) fn split(judged: Vec<Judged>) -> (Vec<Message>, Vec<Line>) {
    let mut messages = Vec::with_capacity(judged.len());
    let mut lines = Vec::with_capacity(judged.len());
    for one in judged {
        match one.message {
            Some(message) => {
                let (recipient, send_at) = (message.recipient, message.send_at);
                lines.push(Line::Queued { recipient, send_at });
                messages.push(message);
            }
            None => lines.push(Line::Refused {
                recipient: one
                    .written
                    .or_else(|| one.recipient.map(|phone| phone.to_string())),
                errors: one.report.faults(),
            }),
        }
    }
    (messages, lines)
}

#[derive(Serialize)]
struct BulkAnswer<'b> {
    total: usize,
    queued_count: usize,
    message_ids: Vec<u64>,
    success_count: usize,
    failure_count: usize,
    batch_id: Option<u64>,
    results: Vec<Outcome<'b>>,
}

#[derive(Serialize)]
struct Outcome<'b> {
    index: usize,
    recipient: Recipient<'b>,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'b Faults>,
}

/// Whom a message was for, as far as that is known.
enum Recipient<'b> {
    Phone(Phone),
    Written(Option<&'b str>),
}

impl Serialize for Recipient<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Phone(phone) => serializer.collect_str(phone),
            Self::Written(text) => text.serialize(serializer),
        }
    }
}

/// Writes the answer.
pub(super) fn answer(reserved: &Reserved, lines: &[Line], warnings: Vec<String>) -> Vec<u8> {
    let mut ids = reserved.ids();
    let results = lines.iter().enumerate().map(|(index, line)| match line {
        Line::Refused { recipient, errors } => Outcome {
            index,
            recipient: Recipient::Written(recipient.as_deref()),
            success: false,
            message_id: None,
            status: None,
            errors: Some(errors),
        },
        Line::Queued { recipient, send_at } => Outcome {
            index,
            recipient: Recipient::Phone(*recipient),
            success: true,
            message_id: ids.next().map(|id| id.get()),
            status: Some(draft::first_status(*send_at, reserved.created_at)),
            errors: None,
        },
    });
    let results: Vec<_> = results.collect();
    let message_ids: Vec<u64> = reserved.ids().map(|id| id.get()).collect();
    let queued = message_ids.len();
    let body = BulkAnswer {
        total: lines.len(),
        queued_count: queued,
        message_ids,
        success_count: queued,
        failure_count: lines.len() - queued,
        batch_id: reserved.batch.map(|batch| batch.get()),
        results,
    };
    written(Some("Bulk messages queued for sending"), &body, warnings)
}
